# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies for figures: read, and turned to colors."""

from collections.abc import Iterator

import numpy as np

from galml.core.exceptions import InputError, InputTypeError
from galml.core.inputs import Failure
from galml.cutouts import lupton_rgb
from galml.imaging.features import choose_bands
from galml.imaging.reading import find_problems, read_images

__all__ = [
    "check_image",
    "color_images",
    "colors_of",
    "read_single",
    "shown_bands",
    "sky_level",
]

#: Wavelengths (micron) of what is shown green, blue and red, where there is a choice,
#: and the relative difference in wavelength below which there is no color.
SHOWN = {"reference": 0.617, "blue": 0.470, "red": 0.770, "nearest": 0.07}
#: Percentile of an image that is its sky, and that of its faint pixels.
SKY, FAINT = 30, 5


def read_single(cutout, **options):
    """Read one image.

    Parameters
    ----------
    cutout : object
        As in `galml.spin`.
    **options
        As in `galml.imaging.read_images`.

    Returns
    -------
    `GalaxyImages`
        With one row.

    Raises
    ------
    galml.core.InputError
        For a batch, and as `galml.imaging.read_images` does.
    """
    source = read_images(cutout, **options)
    if not source.is_single:
        raise InputError("cutout", "a batch of images", "one image")
    (image,) = source.members
    return image


def check_image(image, *args, **options):
    """Raise what `galml.imaging.find_problems` finds wrong with one image."""
    (error,) = find_problems(image, *args, **options)
    if error is not None:
        raise error


def shown_bands(wavelengths):
    """Choose up to three bands that are shown in colors.

    Parameters
    ----------
    wavelengths : sequence of float
        Of each band, in micron.

    Returns
    -------
    list of int
        Indices, in order of wavelength.
    """
    places = set(choose_bands(wavelengths, **SHOWN)) - {None}
    return sorted(places, key=wavelengths.__getitem__)


def colors_of(images):
    """Turn images to colors, or to gray where they have one band.

    Parameters
    ----------
    images : `GalaxyImages`
        Images of one shape.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, ny, nx, 3), from 0 to 1.
    """
    if images.colors is not None:
        return np.moveaxis(images.colors, 1, -1)
    values = images.values[:, shown_bands(images.wavelengths)].astype(float)
    # Noise of the sky has colors that would outshine faint galaxies: black is as far
    # above the level of the sky as its faint pixels are below.
    sky = sky_level(values)
    return lupton_rgb(values - 2 * sky + sky_level(values, FAINT))


def sky_level(values, level=SKY):
    """Give the brightness of the sky in each band.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (..., ny, nx); NaN where unknown.
    level : float, optional
        Percentile of the pixels.

    Returns
    -------
    `~numpy.ndarray`
        Shape (..., 1, 1).
    """
    # What knows NaN is slow.
    complete = np.isfinite(values).all()
    percentile = np.percentile if complete else np.nanpercentile
    return percentile(values, level, axis=(-2, -1), keepdims=True)


def color_images(
    cutouts, rows, count, *, argument="cutouts", bands=None, unit=None, hdu=None
):
    """Turn some images of a batch to colors, each when its turn comes.

    Parameters
    ----------
    cutouts : object
        A batch, as in `galml.spin`, out of which rows can be taken.
    rows : sequence of int
        Which ones, in this order.
    count : int or None
        How many there have to be in all, if that is known.
    argument : str
        Name of ``cutouts`` in errors.
    bands, unit, hdu
        As in `galml.spin`.

    Returns
    -------
    iterator of `~numpy.ndarray` or None
        Shape (ny, nx, 3), from 0 to 1; None for an image that cannot be read.

    Raises
    ------
    galml.core.InputError
        For one image, an iterator, another number of images, and rows that are not
        there.
    """
    options = {"bands": bands, "unit": unit, "hdu": hdu, "sizes": False}
    if isinstance(cutouts, Iterator):
        raise InputTypeError(argument, "an iterator", "a sequence of images")
    source = read_images(cutouts, **options)
    rows = [int(row) for row in rows]
    if source.is_single:
        raise InputError(argument, "one image", "a batch of images")
    if source.length != (source.length if count is None else count):
        expected = f"{count}, one for each row"
        raise InputError(argument, f"{source.length} images", expected)
    if rows and not 0 <= min(rows) <= max(rows) < source.length:
        got = f"{source.length} images, and rows {min(rows)} to {max(rows)}"
        raise InputError(argument, got, "images of all rows")
    several = isinstance(cutouts, list | tuple)
    chosen = [cutouts[row] for row in rows] if several else cutouts[rows]
    return _each(read_images(chosen, **options).members) if rows else iter(())


def _each(members):
    """Give the colors of each image that was read."""
    for member in members:
        if isinstance(member, Failure):
            yield None
            continue
        known = np.isfinite(member.values).any((2, 3)).all(1)
        colors = iter(colors_of(member[known]) if known.any() else ())
        yield from (next(colors) if one else None for one in known)
