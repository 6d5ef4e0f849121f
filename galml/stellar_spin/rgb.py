# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Color images as SDSS makes them, back to fluxes."""

import os
from pathlib import Path

import astropy.units as u
import numpy as np

from galml.cutouts.colors import SDSS_NONLINEARITY, SDSS_SCALES

__all__ = ["RGB_BANDS", "is_picture", "is_rgb", "linear_images", "read_picture"]

#: Bands of red, green and blue.
RGB_BANDS = ("i", "r", "g")


def linear_images(colors):
    """Undo `galml.cutouts.sdss_rgb` as far as it can be undone.

    Parameters
    ----------
    colors : `~numpy.ndarray`
        Shape (..., 3, ny, nx): red, green and blue between 0 and 1.

    Returns
    -------
    `~numpy.ndarray`
        The same shape: fluxes in the area of an SDSS pixel, in nJy. Where the image is
        saturated they are too low, and negative ones have become 0.
    """
    bright = colors.sum(-3, keepdims=True)
    total = np.sinh(SDSS_NONLINEARITY * bright) / SDSS_NONLINEARITY
    light = colors * total / np.maximum(bright, 1e-6)
    nanomaggy = (22.5 * u.ABmag).to_value(u.nJy)
    return light * nanomaggy / np.array(SDSS_SCALES)[:, None, None]


def is_rgb(image):
    """Recognize a color image: bytes, of shape (ny, nx, 3)."""
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
    )


def is_picture(path):
    """Recognize the file of a color image by its suffix."""
    return Path(os.fspath(path)).suffix.lower() in (".jpg", ".jpeg", ".png")


def read_picture(path):
    """Read the file of a color image, with y upwards; needs Pillow."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))[::-1].copy()
