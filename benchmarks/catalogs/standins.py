# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A survey that stands in for one of the sky: tiles in three bands, and a catalog."""

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

from galml.mocks import galaxy_images

BANDS, SEED = ("g", "r", "i"), 1410
#: Galaxies along the side of a tile, and pixels along that of a galaxy.
SIDE, PIXELS, BATCH = 16, 64, 64


def mocks():
    """Draw the galaxies of a tile.

    Returns
    -------
    images : `~numpy.ndarray`
        nJy, shape (bands, SIDE * PIXELS, SIDE * PIXELS).
    r_eff : `~numpy.ndarray`
        Effective radii (arcsec), shape (SIDE**2,), row by row.
    scale : float
        Side of a pixel (arcsec).
    """
    data, r_eff = [], []
    for _, images in galaxy_images(
        SIDE**2 // BATCH,
        batch_size=BATCH,
        seed=SEED,
        survey="SDSS",
        bands=BANDS,
        n_pixels=PIXELS,
        binning=1,
    ):
        data.append(images.data.numpy())
        r_eff.append(images.truth.r_eff.numpy())
        scale = float(images.pixel_scale[0])
    data = np.concatenate(data).reshape(SIDE, SIDE, len(BANDS), PIXELS, PIXELS)
    width = SIDE * PIXELS
    mosaic = data.transpose(2, 0, 3, 1, 4).reshape(len(BANDS), width, width)
    return mosaic.astype("f4"), np.concatenate(r_eff), scale


def write_survey(folder, tiles):
    """Write tiles beside each other along the equator, and list their galaxies.

    All tiles show the same mock galaxies, each at a place of its own.

    Parameters
    ----------
    folder : `~pathlib.Path`
        Where the files go, BAND-NUMBER.fits.
    tiles : int
        Number of tiles in each band.

    Returns
    -------
    `~astropy.table.QTable`
        ``id``, ``ra``, ``dec`` and ``r_eff`` of ``tiles * SIDE**2`` galaxies, tile by
        tile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mosaic, r_eff, scale = mocks()
    middles = (np.arange(SIDE) + 0.5) * PIXELS - 0.5
    y, x = (a.ravel() for a in np.meshgrid(middles, middles, indexing="ij"))
    rows = []
    for number in range(tiles):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crpix = [SIDE * PIXELS / 2 + 0.5] * 2
        wcs.wcs.crval = [number * SIDE * PIXELS * scale / 3600, 0.0]
        wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
        header = wcs.to_header()
        header["BUNIT"] = "nJy"
        for band, image in zip(BANDS, mosaic, strict=True):
            header["BAND"] = band
            fits.writeto(folder / f"{band}-{number:04d}.fits", image, header)
        sky = wcs.pixel_to_world(x, y)
        rows.append(np.stack([sky.ra.deg, sky.dec.deg]))
    ra, dec = np.concatenate(rows, axis=1)
    return QTable(
        {
            "id": np.arange(len(ra)),
            "ra": ra * u.deg,
            "dec": dec * u.deg,
            "r_eff": np.tile(r_eff, tiles) * u.arcsec,
        }
    )
