# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images in memory, as files that workers read like any others."""

import hashlib

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

from galml.core.exceptions import InputError

__all__ = ["PSF", "content_of", "to_hdus"]

#: Extension with the image of a PSF.
PSF = "PSFIMAGE"
#: How uncertainties grow with a factor of the standard deviation.
POWERS = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}


def to_hdus(tile):
    """Make HDUs of an image, from which it is read as it was.

    Parameters
    ----------
    tile : `~galml.cutouts.images.Tile`
        An image in memory, in its own unit.

    Returns
    -------
    `~astropy.io.fits.HDUList`
        With its pixels, unit and WCS, and its uncertainty, mask and PSF if it has any.

    Raises
    ------
    galml.core.InputError
        When its WCS or its PSF are of another kind than FITS files hold.
    """
    wcs, psf = tile.wcs, tile.psf
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    if not isinstance(wcs, WCS) or any(getattr(wcs, name) for name in tables):
        expected = "a WCS that a FITS header holds, or a file"
        raise InputError("images", f"an image with a {type(wcs).__name__}", expected)
    if psf is not None and np.ndim(psf) != 2:
        raise InputError("images", f"a psf of type {type(psf).__name__}", "its pixels")
    header = wcs.to_header(relax=True)
    header["BUNIT"] = tile.unit.to_string()
    if "SATURATE" in tile.meta:
        header["SATURATE"] = tile.meta["SATURATE"]
    hdus = fits.HDUList([fits.PrimaryHDU(_plain(tile.pixels, tile.shape), header)])
    if tile.uncertainty is not None:
        numbers = _plain(tile.uncertainty, tile.shape)
        if tile.std_factor != 1:
            numbers = numbers * tile.std_factor ** POWERS[tile.kind]
        cards = fits.Header({"UTYPE": tile.kind.__name__})
        hdus.append(fits.ImageHDU(numbers, cards, name="UNCERT"))
    if tile.mask is not None:
        mask = np.asarray(tile.mask, bool).reshape(tile.shape)
        hdus.append(fits.ImageHDU(mask.astype(np.uint8), name="MASK"))
    if psf is not None:
        hdus.append(fits.ImageHDU(np.asarray(psf, float), name=PSF))
    return hdus


def content_of(hdus):
    """Give the SHA-256 of headers and pixels."""
    found = hashlib.sha256()
    for hdu in hdus:
        found.update(f"{hdu.header!r} {hdu.data.dtype}".encode())
        found.update(np.ascontiguousarray(hdu.data))
    return found.hexdigest()


def _plain(pixels, shape):
    """Give pixels in two dimensions, of a type that FITS files hold."""
    pixels = np.asarray(pixels).reshape(shape)
    kept = pixels.dtype.kind in "iu" or pixels.dtype.itemsize in (4, 8)
    return pixels if kept else pixels.astype(float)
