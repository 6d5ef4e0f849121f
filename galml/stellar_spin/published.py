# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published system of Duckworth et al. (2020): preparation and columns."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.running import in_groups
from galml.cutouts.colors import SDSS_PIXEL, sdss_rgb
from galml.stellar_spin.preparation import choose_bands, middle, regrid

__all__ = [
    "VIEWS",
    "Pictures",
    "colored",
    "columns",
    "inputs",
    "layout",
    "order",
    "prepare",
    "prepare_images",
]

#: The published system averages over no symmetries.
VIEWS = ()
#: Pixels of the image, and half of its side in effective radii.
SIZE = 80
HALF = 4.24
#: Brightness inside the effective radius, in nJy in the area of an SDSS pixel, that
#: images get whose brightness is unknown.
TYPICAL = 360.0


@dataclass
class Pictures:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, 3, 80, 80), between 0 and 1.
    """

    image: torch.Tensor


def prepare(colors, r_eff, center=None):
    """Cut color images to 8.48 effective radii and 80 pixels.

    Parameters
    ----------
    colors : `torch.Tensor`
        Shape (n, 3, ny, nx), between 0 and 1.
    r_eff : `torch.Tensor`
        Shape (n,), in pixels.
    center : `torch.Tensor`, optional
        Shape (n, 2): x and y in pixels.

    Returns
    -------
    `Pictures`
        Black where the images have ended.
    """
    place = middle(colors, center)
    mean, share, _ = regrid(colors.float(), place, HALF * r_eff, SIZE)
    return Pictures(mean * share)


def prepare_images(images):
    """Prepare images of any shapes and bands.

    Parameters
    ----------
    images : sequence of `~galml.stellar_spin.images.GalaxyImage`
        The images.

    Returns
    -------
    `Pictures`
        Rows in the order of ``images``.
    """
    return in_groups(images, lambda one: one.values.shape[1:], _prepare_group)


def _prepare_group(group):
    colors = np.stack([_colors(one) for one in group])
    r_eff = torch.tensor([one.r_eff for one in group], dtype=torch.float64)
    center = torch.from_numpy(np.stack([one.center for one in group]))
    return prepare(torch.from_numpy(colors), r_eff, center)


def order(wavelength):
    """Give the places of the bands shown as red, green and blue.

    What has no redder or no bluer band is shown in the middle one.
    """
    green, blue, red = choose_bands(wavelength)
    return tuple(green if place is None else place for place in (red, green, blue))


def colored(values, places, pixel_scale):
    """Make color images, with a last axis moved to where bands are.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (..., bands, ny, nx), in nJy per pixel.
    places : tuple of int
        What `order` gave.
    pixel_scale : float or `~numpy.ndarray`
        In arcsec; the shape of the leading axes.

    Returns
    -------
    `~numpy.ndarray`
        Shape (..., 3, ny, nx), between 0 and 1.
    """
    side = np.asarray(pixel_scale) * u.arcsec
    colors = sdss_rgb(values * u.nJy, bands=places, pixel_scale=side)
    return np.moveaxis(colors, -1, -3)


def _colors(image):
    """Give the colors of the image itself, or of its bands."""
    if image.colors is not None:
        return image.colors
    values, places = image.values.astype(float), order(image.wavelength)
    if image.calibrated and np.isfinite(image.pixel_scale):
        return colored(values, places, image.pixel_scale)
    y, x = np.indices(values.shape[1:])
    x0, y0 = middle(values[None], torch.from_numpy(image.center)[None])[0].numpy()
    green = values[places[1]]
    inside = (np.hypot(x - x0, y - y0) <= max(image.r_eff, 1.0)) & np.isfinite(green)
    bright = green[inside].mean() if inside.any() else 1.0
    values *= TYPICAL / max(bright, 1e-30)
    return colored(values, places, SDSS_PIXEL.to_value(u.arcsec))


def inputs(prepared):
    """Give what the network takes of prepared images."""
    return {"image": prepared.image}


def layout(model, n_samples):
    """Trailing shape and unit of each column of the operation's result."""
    if n_samples:
        raise InputError("n_samples", n_samples, "0: this model has no distributions")
    names = ("spin", "spin_err", "spin_lo", "spin_hi")
    return {name: ((), None) for name in names}


def columns(outputs, prepared, images, config):
    """Answer for each image.

    Parameters
    ----------
    outputs : dict of torch.Tensor
        What the network gave.
    prepared : Pictures
        What it was given.
    images : sequence of galml.stellar_spin.images.GalaxyImage
        Where that came from.
    config : dict
        The configuration of the model.

    Returns
    -------
    columns : dict of numpy.ndarray
        The spin, with the one error that the model has for all.
    flags : numpy.ndarray
        Bits of `galml.core.Flag`.
    """
    spin = outputs["spin"].numpy().astype(float)
    error = config["error"]
    values = {
        "spin": spin,
        "spin_err": np.full(len(spin), error),
        "spin_lo": spin - error,
        "spin_hi": spin + error,
    }
    return values, np.array([one.flags for one in images], dtype=int)
