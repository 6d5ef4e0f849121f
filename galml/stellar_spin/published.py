# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published system of Duckworth et al. (2020): spin from color images."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch
from torch import nn

from galml.core.model import InputSpec
from galml.cutouts.colors import SDSS_NONLINEARITY, SDSS_PIXEL, SDSS_SCALES, sdss_rgb
from galml.imaging import regrid
from galml.imaging.stamps import as_tensor, galaxy_centers
from galml.stellar_spin.operation import SpinDomain
from galml.stellar_spin.preparation import bands_shown

__all__ = [
    "INPUT",
    "ColorImages",
    "Duckworth2020",
    "DuckworthDomain",
    "color_images",
    "prepare",
]

#: What a new network is shown.
INPUT = InputSpec(
    grid=(80, 80),
    channels=("red", "green", "blue"),
    half_width=4.24,
    width_unit="r_eff",
    stretch={
        "red": SDSS_SCALES[0],
        "green": SDSS_SCALES[1],
        "blue": SDSS_SCALES[2],
        "nonlinearity": SDSS_NONLINEARITY,
        # Brightness inside the effective radius, in nJy in the area of an SDSS pixel,
        # that images get whose brightness is unknown.
        "typical": 360.0,
    },
    parameters={
        # In micron; and how near, in relative wavelength, bands show no color.
        "reference_wavelength": 0.617,
        "blue_wavelength": 0.470,
        "red_wavelength": 0.770,
        "nearest_band": 0.07,
    },
)
#: Images that are prepared at a time.
CHUNK = 64


class Duckworth2020(nn.Module):
    """The network of Duckworth et al. (2020): spin from a color image.

    It has 5 994 145 parameters, no uncertainty and no symmetry.
    """

    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for outputs, size, dropout, pool in (
            (64, 6, 0.5, False),
            (96, 5, 0.25, True),
            (128, 2, 0.25, True),
            (192, 2, 0.25, False),
            (192, 2, 0.25, False),
        ):
            layers += [nn.Conv2d(inputs, outputs, size), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
            layers += [nn.Dropout(dropout)]
            inputs = outputs
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(15 * 15 * 192, 128),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(128, 64),
            nn.Linear(64, 1),
        )

    def forward(self, inputs):
        """Map ``image``, shape (n, 3, 80, 80) between 0 and 1, to ``spin``, (n,)."""
        return {"spin": self.layers(inputs["image"])[:, 0]}


@dataclass
class ColorImages:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, 3, 80, 80), between 0 and 1.
    """

    image: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return vars(self)


def prepare(images, spec=INPUT):
    """Cut color images to 8.48 effective radii and 80 pixels.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `ColorImages`
        Black where the images have ended.
    """
    parts = []
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK]
        colors = as_tensor(color_images(some, spec)).float()
        half = spec.half_width * torch.from_numpy(some.r_eff)
        stamps = regrid(colors, galaxy_centers(some), half, spec.grid[0])
        parts.append(stamps.mean * stamps.cover)
    return ColorImages(torch.cat(parts))


def color_images(images, spec=INPUT):
    """Give the colors of images: their own, or those of their bands as SDSS has them.

    What has no redder or no bluer band is shown in the band that is nearest to r.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, 3, ny, nx), between 0 and 1.
    """
    if images.colors is not None:
        return images.colors
    green, blue, red = bands_shown(images.wavelengths, spec)
    places = [green if place is None else place for place in (red, green, blue)]
    values = images.values[:, places].astype(float)
    side = images.pixel_scale.copy()
    rows = ~np.isfinite(side) if images.calibrated else np.ones(len(side), dtype=bool)
    if rows.any():
        bright = _brightness(values[rows, 1], images[rows])
        factor = spec.stretch["typical"] / np.maximum(bright, 1e-30)
        values[rows] *= factor[:, None, None, None]
        side[rows] = SDSS_PIXEL.to_value(u.arcsec)
    colors = sdss_rgb(
        values * u.nJy,
        bands=(0, 1, 2),
        pixel_scale=side * u.arcsec,
        scales=[spec.stretch[name] for name in spec.channels],
        nonlinearity=spec.stretch["nonlinearity"],
    )
    return np.moveaxis(colors, -1, -3)


def _brightness(values, images):
    """Mean of the known pixels inside the effective radius, 1 where there are none."""
    y, x = np.indices(values.shape[1:])
    center = galaxy_centers(images).numpy()[:, :, None, None]
    radius = np.hypot(x - center[:, 0], y - center[:, 1])
    inside = radius <= np.maximum(images.r_eff, 1.0)[:, None, None]
    inside &= np.isfinite(values)
    count = inside.sum((1, 2))
    total = np.where(inside, values, 0.0).sum((1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


class DuckworthDomain(SpinDomain):
    """Images of galaxies, as the published network sees them.

    It averages over no symmetries, and its error is the same for all galaxies.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    """

    views = ()

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        return prepare(images, self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit of each column."""
        names = ("spin", "spin_err", "spin_lo", "spin_hi")
        return {name: ((), None) for name in names}

    def answer(self, outputs, prepared, members):
        """Give the spin, with the one error that the model has for all."""
        spin = outputs["spin"].numpy().astype(float)
        error = self.model.config["error"]
        return {
            "spin": spin,
            "spin_err": np.full(len(spin), error),
            "spin_lo": spin - error,
            "spin_hi": spin + error,
        }

    def states(self, answer, prepared):
        """Tell nothing beside what reading found."""
        return {}
