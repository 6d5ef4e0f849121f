# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Color images as SDSS makes them: recognized, read, and turned back to fluxes."""

import os
from pathlib import Path

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.files import check_size, local_file, readable
from galml.cutouts.colors import SDSS_NONLINEARITY, SDSS_SCALES

__all__ = [
    "NANOMAGGY",
    "RGB_BANDS",
    "is_color_file",
    "is_rgb",
    "linear_images",
    "read_color_file",
]

#: Bands of red, green and blue.
RGB_BANDS = ("i", "r", "g")
#: In nJy.
NANOMAGGY = float((22.5 * u.ABmag).to_value(u.nJy))


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
    light = colors * (total / np.maximum(bright, 1e-6))
    scales = NANOMAGGY / np.array(SDSS_SCALES, dtype=colors.dtype)
    return light * scales.astype(colors.dtype)[:, None, None]


def is_rgb(images, ndim=3):
    """Recognize color images: bytes, with three of them along the last axis.

    Parameters
    ----------
    images : object
        Anything.
    ndim : int
        Number of axes: 3 for one image, 4 for several.

    Returns
    -------
    bool
        Whether these are such images.
    """
    return (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == ndim
        and images.shape[-1] == 3
    )


def is_color_file(path):
    """Recognize the file of a color image by its suffix.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    bool
        Whether it is called JPEG or PNG.
    """
    return Path(os.fspath(path)).suffix.lower() in (".jpg", ".jpeg", ".png")


def read_color_file(path, *, argument="cutouts"):
    """Read a JPEG or PNG file; needs Pillow.

    Parameters
    ----------
    path : str or path
        The file.
    argument : str
        Name used in errors.

    Returns
    -------
    `~numpy.ndarray`
        Bytes of shape (ny, nx, 3), with y upward.

    Raises
    ------
    galml.core.InputError
        When it is no such image, damaged, or too large.
    OSError
        When the file is not there.
    """
    from PIL import Image

    with readable(argument, str(path), "a JPEG or PNG image"):
        with Image.open(local_file(path, argument)) as image:
            check_size((image.height, image.width), argument)
            if image.mode.startswith(("I", "F")):
                got = f"{path}, with {image.mode} pixels"
                raise InputError(argument, got, "a picture of 8 bits a color")
            return np.asarray(image.convert("RGB"))[::-1].copy()
