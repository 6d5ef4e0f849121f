# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the network for morphology is shown, and images as poorer surveys have them."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from galml.core.model import InputSpec
from galml.imaging import aligned
from galml.imaging.stamps import galaxy_centers
from galml.physics import PIVOT_WAVELENGTHS, nearest_band

__all__ = [
    "INPUT",
    "PLANES",
    "SURROUNDED",
    "PreparedPairs",
    "Surrounded",
    "SurroundedPairs",
    "degrade",
    "drawn",
    "known_cells",
    "prepare",
    "prepare_pairs",
    "prepare_surroundings",
]

#: What a new network is shown. Radii and widths are in effective radii.
INPUT = InputSpec(
    grid=(64, 64),
    channels=(
        "shape",
        "significance",
        "contrast",
        "blue",
        "red",
        "blue_shape",
        "red_shape",
        "coverage",
    ),
    half_width=4.0,
    width_unit="r_eff",
    scalars=aligned.SCALARS,
    stretch=aligned.STRETCH,
    parameters=aligned.PARAMETERS | {"wide_cells": 94, "sky_radius": 4.2},
)

#: What a network with latents of the surroundings is shown, too: half of the side of
#: the square around a galaxy.
SURROUNDED = replace(INPUT, parameters=INPUT.parameters | {"surroundings": 8.0})
#: Planes of this square.
AROUND = ("shape", "significance", "coverage")

#: Planes that networks draw: brightness in the reference, blue and red band.
PLANES = ("shape", "blue_shape", "red_shape")
#: How images are made poorer: share of images that are blurred, by a FWHM in effective
#: radii; share that are made noisier, by a factor; errors of radius (natural logarithm)
#: and center (effective radii); share of calls that show the reference band alone.
BLURRED, BLUR = 0.7, (0.1, 0.9)
NOISIER, NOISE = 0.8, (1.0, 8.0)
SIZE_ERROR, CENTER_ERROR = 0.1, 0.05
SINGLE = 0.15
#: FWHM over standard deviation of a normal distribution; and the median of the absolute
#: value over it.
FWHM, MEDIAN = 2 * math.sqrt(2 * math.log(2)), 0.6745


def drawn(image, spec=INPUT):
    """Choose the planes that networks draw.

    Parameters
    ----------
    image : `torch.Tensor`
        Shape (n, channels, y, x).
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 3, y, x).
    """
    return image[:, [spec.channels.index(name) for name in PLANES]]


def known_cells(image, scalars, spec=INPUT):
    """Tell how much is known of the cells of the planes that networks draw.

    Parameters
    ----------
    image, scalars : `torch.Tensor`
        Shape (n, channels, y, x) and (n, scalars).
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 3, y, x): 0 where there is no such band.
    """
    cover = image[:, spec.channels.index("coverage")]
    bands = [scalars[:, spec.scalars.index(f"has_{name}")] for name in ("blue", "red")]
    has = torch.stack([torch.ones_like(bands[0]), *bands], 1)
    return cover[:, None] * has[..., None, None]


@dataclass
class Surrounded(aligned.Prepared):
    """What a network takes that also has latents of the surroundings.

    Attributes
    ----------
    surroundings : `torch.Tensor`
        Shape (n, 3, 64, 64).
    """

    surroundings: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return super().inputs | {"surroundings": self.surroundings}


@dataclass
class PreparedPairs:
    """What a training takes: galaxies as they are, and as a poorer survey has them.

    Attributes
    ----------
    image, other_image : `torch.Tensor`
        Shape (n, channels, 64, 64).
    scalars, other_scalars : `torch.Tensor`
        Shape (n, scalars).
    """

    image: torch.Tensor
    scalars: torch.Tensor
    other_image: torch.Tensor
    other_scalars: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the training knows."""
        return vars(self)


@dataclass
class SurroundedPairs(PreparedPairs):
    """Pairs with their surroundings.

    Attributes
    ----------
    surroundings, other_surroundings : `torch.Tensor`
        Shape (n, 3, 64, 64).
    """

    surroundings: torch.Tensor
    other_surroundings: torch.Tensor


def prepare(images, spec):
    """Prepare images of one shape.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape; they are not changed.
    spec : `~galml.core.InputSpec`
        What the network is shown.

    Returns
    -------
    `~galml.imaging.aligned.Prepared`
        Image and numbers; `Surrounded`, if the network has latents of
        the surroundings.
    """
    prepared = aligned.prepare(images, spec)
    if "surroundings" not in spec.parameters:
        return prepared
    around = prepare_surroundings(images, spec)
    return Surrounded(**vars(prepared), surroundings=around)


def prepare_surroundings(images, spec=SURROUNDED):
    """Prepare what is around galaxies, turned as these are.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape; they are not changed.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 3, 64, 64): brightness, significance and coverage.
    """
    half = spec.parameters["surroundings"]
    return aligned.prepare(
        images, replace(spec, channels=AROUND, half_width=half)
    ).image


def prepare_pairs(images, spec, generator):
    """Prepare images, and what a poorer survey would have of the same galaxies.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape.
    spec : `~galml.core.InputSpec`
        What the network is shown.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `PreparedPairs`
        Both.
    """
    first = prepare(images, spec).inputs
    other = prepare(degrade(images, generator), spec).inputs
    pairs = first | {f"other_{name}": one for name, one in other.items()}
    return (
        SurroundedPairs(**pairs) if "surroundings" in pairs else PreparedPairs(**pairs)
    )


def degrade(images, generator):
    """Show galaxies as a survey would that is blurred and noisy, and errs in sizes.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape; they are not changed.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `~galml.imaging.GalaxyImages`
        Without what was known of noise and PSF; at times in one band.
    """
    if float(torch.rand((), generator=generator)) < SINGLE:
        images = _reference_alone(images)
    n = len(images)
    r_eff = torch.from_numpy(images.r_eff)

    def uniform(low, high):
        draw = torch.rand(n, generator=generator, dtype=torch.float64)
        return low + (high - low) * draw

    def chance(share):
        return torch.rand(n, generator=generator) < share

    data = torch.from_numpy(images.values).float()
    width = torch.exp(uniform(*map(math.log, BLUR))) * r_eff / FWHM
    error = pixel_noise(data)
    data = blurred(data, torch.where(chance(BLURRED), width, 0.0))
    factor = torch.exp(uniform(*map(math.log, NOISE)))
    factor = torch.where(chance(NOISIER), factor, 1.0)
    added = error * (factor**2 - 1).sqrt().float()[:, None]
    noise = torch.randn(data.shape, generator=generator)
    data = data + added[..., None, None] * noise
    step = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    center = galaxy_centers(images) + CENTER_ERROR * r_eff[:, None] * step
    scatter = torch.randn(n, generator=generator, dtype=torch.float64)
    unknown = np.full_like(images.noise, np.nan)
    return replace(
        images,
        values=data.numpy(),
        center=center.numpy(),
        r_eff=(r_eff * torch.exp(SIZE_ERROR * scatter)).numpy(),
        noise=unknown,
        psf_fwhm=unknown.copy(),
        colors=None,
    )


def _reference_alone(images):
    """Keep the band nearest to r."""
    band = nearest_band(images.wavelengths, PIVOT_WAVELENGTHS["r"])
    rows = {
        key: getattr(images, key)[:, band : band + 1]
        for key in ("values", "noise", "psf_fwhm")
    }
    return replace(
        images,
        **rows,
        bands=images.bands[band : band + 1],
        wavelengths=images.wavelengths[band : band + 1],
        colors=None,
    )


def pixel_noise(data):
    """Estimate the error of a pixel from differences of neighbors.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx); NaN where unknown.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bands); 0 where nothing is known.
    """
    step = (data[..., 1:] - data[..., :-1]).abs().flatten(2)
    return (step.nanmedian(2).values / (MEDIAN * math.sqrt(2))).nan_to_num(0.0)


def blurred(data, width):
    """Blur images by normal distributions.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx); NaN where unknown, which stays so.
    width : `torch.Tensor`
        Shape (n,): standard deviations in pixels; 0 leaves an image as it is.

    Returns
    -------
    `torch.Tensor`
        The same shape. At the edges, what is known counts.
    """
    known = torch.isfinite(data)
    rows, columns = (_kernels(size, width) for size in data.shape[-2:])

    def summed(values):
        return rows[:, None] @ values @ columns[:, None].transpose(-1, -2)

    light = summed(torch.where(known, data, 0.0)) / summed(known.float())
    light = torch.where(known, light, torch.nan)
    return torch.where((width > 0)[:, None, None, None], light, data)


def _kernels(size, width):
    """Give normal distributions around each pixel of an axis, shape (n, size, size)."""
    place = torch.arange(size, dtype=torch.float32)
    far = (place[:, None] - place) / width.float().clamp_min(0.05)[:, None, None]
    return torch.softmax(-0.5 * far.square(), -1)
