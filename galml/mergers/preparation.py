# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From images of any size to the fixed field that the network was trained on.

Two galaxies that touch have no major axis and no effective radius: what counts is a
square of fixed width on the sky around the middle of the image, as it lies. Of several
bands one is seen.
"""

import math
from dataclasses import dataclass

import torch

from galml.core.model import InputSpec
from galml.imaging import features
from galml.imaging.stamps import (
    Grid,
    as_tensor,
    flux_scale,
    galaxy_centers,
    measure_noise,
    regrid,
    sky_level,
)
from galml.imaging.stretch import asinh_stretch, box_mean
from galml.physics import PIVOT_WAVELENGTHS, band_name
from galml.physics.bands import EUCLID, HUBBLE, ROMAN, WEBB

__all__ = [
    "FILTERS",
    "INPUT",
    "Prepared",
    "choose_band",
    "field_half_widths",
    "filter_of",
    "half_width",
    "prepare",
]

#: Filters that networks are trained for. Of each: half of the side of the field and
#: the side of a pixel, in arcsec, and the redshifts of the mocks.
FILTERS = {
    "F814W": (1.92, 0.03, (0.5, 1.5)),
    "F160W": (2.88, 0.06, (1.5, 3.0)),
    "F200W": (1.92, 0.03, (0.5, 3.0)),
    "r": (25.344, 0.396, (0.01, 0.2)),
}
#: Filters of space telescopes, and the longest wavelength (micron) at which they see as
#: F814W does.
SPACE = EUCLID | HUBBLE | ROMAN | WEBB
OPTICAL = 0.98

#: What a new network is shown. Radii are in halves of the field's side.
INPUT = InputSpec(
    grid=(64, 64),
    channels=("light", "significance", "contrast", "residual", "coverage"),
    half_width=1.0,
    width_unit="field",
    scalars=(
        "log_snr",
        "log_cell",
        "has_scale",
        "has_psf",
        "log_psf",
        "wavelength",
        "asymmetry",
        "coverage",
        *(f"is_{name}" for name in FILTERS),
    ),
    stretch={
        # Brightness in units of that of the brightest cells, and in errors.
        "light_softening": 0.02,
        "light_scale": 3.0,
        "significance_softening": 2.0,
        "significance_scale": 3.0,
        # Contrast to the mean of a neighborhood.
        "contrast_cells": 9,
        "contrast_noise": 2.0,
        "contrast_light": 0.2,
        "contrast_floor": 0.005,
        "contrast_scale": 2.0,
        # Difference from the image after half a turn about its brightest place.
        "residual_softening": 2.0,
        "residual_scale": 3.0,
        "center_cells": 5,
        "center_reach": 0.5,
        "largest": 6.0,
    },
    parameters={
        **{f"half_width_{name}": one[0] for name, one in FILTERS.items()},
        # Cells whose mean is the unit of brightness.
        "brightest_cells": 40,
        "unit_noise": 0.5,
        "least_known": 0.1,
        "sky_radius": 0.9,
        "sky_share": 0.8,
        "noise_lag": 6,
        "noise_clip": 2.5,
        "noise_rounds": 6,
        "noise_clipped_variance": 0.9113,
        "lowest_snr": 0.1,
        "highest_snr": 1e4,
        "narrowest_psf": 0.3,
        "widest_psf": 30.0,
        "asymmetry_radius": 0.6,
        "asymmetry_bias": 1.13,
        "lowest_asymmetry": -0.5,
        "highest_asymmetry": 2.0,
    },
)

#: Images that go through the memory of a processor at a time.
CHUNK = 64


@dataclass
class Prepared:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, channels, 64, 64), float32.
    scalars : `torch.Tensor`
        Shape (n, scalars), float32.
    """

    image: torch.Tensor
    scalars: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return vars(self)


def filter_of(band):
    """Find the filter of the training that stands for a band.

    Parameters
    ----------
    band : str
        Name of a band that `galml.physics` knows.

    Returns
    -------
    str
        One of `FILTERS`: that of ACS in the optical of Hubble, Webb, Euclid and Roman,
        of NIRCam in the infrared of Webb, and of WFC3 in that of the others; r for all
        other telescopes.
    """
    name = band_name(band)
    if name in FILTERS:
        return name
    if name not in SPACE:
        return "r"
    if SPACE[name] < OPTICAL:
        return "F814W"
    return "F200W" if name in WEBB else "F160W"


def choose_band(bands, wavelengths, wanted=None):
    """Choose the band that is seen, and the filter of the training that it stands for.

    Parameters
    ----------
    bands : sequence of str
        Names of the bands of an image.
    wavelengths : sequence of float
        Their wavelengths, in micron.
    wanted : float, optional
        Wavelength of the filter that the user asks for. By default the band is seen
        that is nearest to its own filter of the training.

    Returns
    -------
    index : int
        Place of the band.
    name : str
        One of `FILTERS`.
    """
    names = [filter_of(band) for band in bands]

    def far(index):
        goal = PIVOT_WAVELENGTHS[names[index]] if wanted is None else wanted
        return abs(math.log(wavelengths[index] / goal))

    index = min(range(len(bands)), key=far)
    return index, names[index]


def half_width(name, spec=INPUT):
    """Give half of the side of the field of a filter, in arcsec."""
    return spec.parameters[f"half_width_{name}"]


def field_half_widths(images, name, spec=INPUT):
    """Find half of the side of the field in pixels.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images.
    name : str
        One of `FILTERS`.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `torch.Tensor`
        Shape (n,): half of the shorter side of the image where the side of a pixel is
        not known.
    """
    scale = torch.from_numpy(images.pixel_scale)
    half = half_width(name, spec) / scale
    whole = min(images.values.shape[-2:]) / 2
    return torch.where(torch.isfinite(scale) & (scale > 0), half, whole)


def prepare(images, band, name, spec=INPUT, half=None):
    """Prepare images of one shape.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images; they are not changed.
    band : int
        Place of the band that is seen.
    name : str
        Its filter of the training, one of `FILTERS`.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    half : `torch.Tensor`, optional
        Shape (n,): half of the side of the field in pixels, in place of what
        `field_half_widths` gives.

    Returns
    -------
    `Prepared`
        An image without light gives finite nonsense and a low ``log_snr``: the
        caller decides.
    """
    half = field_half_widths(images, name, spec) if half is None else half
    parts = [
        _prepare(images[start : start + CHUNK], band, name, spec, part)
        for start, part in zip(
            range(0, len(images), CHUNK), half.split(CHUNK), strict=True
        )
    ]
    columns = zip(*parts, strict=True)
    return Prepared(*(torch.cat(column) for column in columns))


def _prepare(images, band, name, spec, half):
    """Give planes and numbers of some images."""
    p, grid = spec.parameters, Grid(spec.grid[0], 1.0)
    data = as_tensor(images.values)[:, band : band + 1]
    # Single precision then holds the galaxy, however bright the sky is.
    level = data.double().nanmean((2, 3)).nan_to_num(0.0, 0.0, 0.0)
    scale = flux_scale([data[:, 0]], level)
    data = ((data - level[..., None, None]) * scale[:, None, None, None]).float()
    stamps = regrid(
        data, galaxy_centers(images), half, grid.size, least_known=p["least_known"]
    )
    far = {"far": p["sky_radius"], "share": p["sky_share"]}
    sky = sky_level(stamps, grid, **far)[..., None, None]
    known = stamps.cover > 0
    stamps.mean = torch.where(known, stamps.mean - sky, 0.0)
    error = _errors(images, band, scale, stamps, grid, p, far)
    value, cover, error = stamps.mean[:, 0], stamps.cover[:, 0], error[:, 0]
    light = box_mean(value, 3).flatten(1).topk(int(p["brightest_cells"]), 1)[0].mean(1)
    unit = torch.maximum(light, p["unit_noise"] * error).clamp_min(features.TINY)
    value = value / unit[:, None, None]
    error = (error / unit).clamp_min(1e-4)
    planes, asymmetry = _planes(value, error, cover, grid, spec)
    cell = 2 * half / grid.size
    psf = torch.from_numpy(images.psf_fwhm)[:, band]
    has_psf, log_psf = features.log_psf(
        psf.float(), cell.float(), low=p["narrowest_psf"], high=p["widest_psf"]
    )
    arcsec = (cell * torch.from_numpy(images.pixel_scale)).float()
    has_scale = torch.isfinite(arcsec)
    own = half_width(name, spec) * 2 / grid.size
    ratio = images.wavelengths[band] / PIVOT_WAVELENGTHS[name]
    snr = (light / (error * unit)).clamp(p["lowest_snr"], p["highest_snr"])
    numbers = {
        "log_snr": snr.log10(),
        "log_cell": (arcsec / own).log10().nan_to_num(0.0),
        "has_scale": has_scale.float(),
        "has_psf": has_psf,
        "log_psf": log_psf,
        "wavelength": torch.full_like(light, math.log10(ratio)),
        "asymmetry": asymmetry.clamp(p["lowest_asymmetry"], p["highest_asymmetry"]),
        "coverage": cover.mean((1, 2)),
    }
    numbers |= {
        f"is_{key}": torch.full_like(light, float(key == name)) for key in FILTERS
    }
    return planes, torch.stack([numbers[key] for key in spec.scalars], 1)


def _errors(images, band, scale, stamps, grid, p, far):
    """Error of a cell: by that of a pixel where it is given, or else measured."""
    error = torch.from_numpy(images.noise)[:, band : band + 1] * scale[:, None]
    measured = measure_noise(
        stamps,
        grid,
        **far,
        lag=int(p["noise_lag"]),
        clip=p["noise_clip"],
        rounds=int(p["noise_rounds"]),
        clipped_variance=p["noise_clipped_variance"],
    )
    error = torch.where(torch.isnan(error), measured, error.float())
    return error * stamps.reduction[:, None]


def _planes(value, error, cover, grid, spec):
    """Make the planes that the network sees, and measure the asymmetry."""
    s, p, noise = spec.stretch, spec.parameters, error[:, None, None]
    smooth = box_mean(value, int(s["contrast_cells"]))
    limit = s["contrast_light"] * smooth.abs() + s["contrast_floor"]
    limit = torch.hypot(s["contrast_noise"] * noise, limit)
    turned = _half_turn(value, cover, grid, s)
    change = value - turned
    planes = {
        "light": asinh_stretch(value, s["light_softening"]) / s["light_scale"],
        "significance": asinh_stretch(value, s["significance_softening"] * noise)
        / s["significance_scale"],
        "contrast": asinh_stretch(value - smooth, limit) / s["contrast_scale"],
        "residual": asinh_stretch(change, s["residual_softening"] * noise)
        / s["residual_scale"],
        "coverage": cover,
    }
    largest = s["largest"]
    image = torch.stack(
        [planes[key].clamp(-largest, largest) for key in spec.channels], 1
    )
    inside = grid.radius < p["asymmetry_radius"]
    total = (change * inside).abs().sum((1, 2))
    total = total - p["asymmetry_bias"] * error * inside.sum()
    return image, total / (value * inside).abs().sum((1, 2)).clamp_min(1e-6)


def _half_turn(value, cover, grid, stretch):
    """Turn images by 180 degrees about their brightest place near the middle."""
    size = grid.size
    smooth = box_mean(value, int(stretch["center_cells"]))
    near = grid.radius <= stretch["center_reach"]
    place = smooth.masked_fill(~near, -torch.inf).flatten(1).argmax(1)
    y, x = place // size, place % size
    cells = torch.arange(size)
    rows, columns = 2 * y[:, None] - cells, 2 * x[:, None] - cells
    inside = ((rows >= 0) & (rows < size))[:, :, None]
    inside = inside & ((columns >= 0) & (columns < size))[:, None, :]
    rows, columns = rows.clamp(0, size - 1), columns.clamp(0, size - 1)
    index = rows[:, :, None] * size + columns[:, None, :]
    turned, known = (
        plane.flatten(1).gather(1, index.flatten(1)).view_as(plane)
        for plane in (value, cover)
    )
    # Where the other side is not known, there is no difference.
    return torch.where(inside & (known > 0) & (cover > 0), turned, value)
