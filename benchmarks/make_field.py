# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The example field of the package: nine mock galaxies as SDSS would see them.

Run ``python benchmarks/make_field.py``. The galaxies stand in a square of three by
three, in g, r and i, in nJy; the headers hold their true spins, SPIN1 to SPIN9, from
the lower left along x.
"""

import numpy as np
import torch
from astropy.io import fits
from astropy.wcs import WCS
from common import DATA

from galml.mocks import galaxy_images

FOLDER = DATA / "examples"
BANDS = ("g", "r", "i")
SEED, SIDE, PIXELS = 7, 3, 96


def as_mosaic(images):
    """Put the images of one band side by side."""
    rows = images.reshape(SIDE, SIDE, PIXELS, PIXELS)
    return rows.transpose(0, 2, 1, 3).reshape(SIDE * PIXELS, SIDE * PIXELS)


def header_of(images, band):
    """Describe one band of the field."""
    scale = float(images.pixel_scale[0]) / 3600
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [SIDE * PIXELS / 2 + 0.5] * 2
    wcs.wcs.crval = [180.0, 10.0]
    wcs.wcs.cdelt = [-scale, scale]
    header = wcs.to_header()
    header["BUNIT"] = "nJy"
    header["FILTER"] = band
    header["TELESCOP"] = ("SDSS", "simulated")
    for number, spin in enumerate(images.truth.spin.tolist(), start=1):
        header[f"SPIN{number}"] = (round(spin, 4), "true spin")
    return header


def draw_field(seed, survey, bands):
    """Draw nine galaxies in the noise of the noisiest of them.

    Parameters
    ----------
    seed : int
        Seed of the galaxies.
    survey : str
        Who sees them.
    bands : sequence of str
        In which bands.

    Returns
    -------
    images : `~galml.mocks.LightImages`
        As they were drawn.
    data : `~numpy.ndarray`
        Shape (galaxies, bands, ny, nx), with all the noise.
    """
    _, images = next(
        galaxy_images(
            1,
            batch_size=SIDE**2,
            seed=seed,
            survey=survey,
            bands=bands,
            n_pixels=PIXELS,
            binning=1,
        )
    )
    missing = (images.noise.amax(0) ** 2 - images.noise**2).sqrt()
    generator = torch.Generator().manual_seed(seed)
    more = torch.randn(images.data.shape, generator=generator)
    return images, (images.data + missing[..., None, None] * more).numpy()


def main():
    """Draw the galaxies and write the files."""
    images, data = draw_field(SEED, "SDSS", BANDS)
    for index, band in enumerate(BANDS):
        # Steps of a tenth of the noise lose nothing, and files are small.
        step = float(images.noise[:, index].max()) / 10
        steps = np.round(as_mosaic(data[:, index]) / step)
        steps = np.clip(steps, -32000, 32000).astype(np.int16)
        image = fits.PrimaryHDU(steps, header_of(images, band))
        image.header["BSCALE"] = step
        path = FOLDER / f"field-{band}.fits"
        image.writeto(path, overwrite=True)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
