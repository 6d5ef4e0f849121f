# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From images of any size and any bands to what the network was trained on.

An image is averaged over area onto a grid in units of the effective radius, cleared of
its sky, and turned so that the major axis of its light lies along x. Of its bands the
one nearest to r shows the shape; one bluer and one redder band, where there are any,
add maps of color. The network sees these, and numbers about the image.
"""

import math
from dataclasses import dataclass

import torch

from galml.core.networks import overlap
from galml.stellar_spin import features
from galml.stellar_spin.features import unit_grid

__all__ = [
    "CHANNELS",
    "SCALARS",
    "Prepared",
    "Stamps",
    "choose_bands",
    "middle",
    "prepare",
    "regrid",
]

#: Cells of the image that the network sees, and half of its side in effective radii.
SIZE = 48
HALF = 2 * math.sqrt(2)
#: The same of the grid before it is turned: it holds the image at any angle.
WIDE_SIZE = 72
WIDE_HALF = WIDE_SIZE / SIZE * HALF

#: Wavelength (micron) of the band that shows the shape.
REFERENCE = 0.617
#: Wavelengths (micron) of the colors that help most, where there is a choice.
BLUE, RED = 0.470, 0.770
#: Bands nearer to the reference than this, in relative wavelength, show no color.
NEAREST = 0.07

#: Planes of the image that the network sees.
CHANNELS = ("shape", "significance", "contrast", "blue", "red", "coverage")

#: Numbers that the network sees.
SCALARS = (
    "log_snr",
    "log_pixels",
    "has_psf",
    "log_psf",
    "wavelength",
    "calibrated",
    "has_blue",
    "blue_wavelength",
    "blue_log_snr",
    "blue_color",
    "blue_gradient",
    "has_red",
    "red_wavelength",
    "red_log_snr",
    "red_color",
    "red_gradient",
    "concentration",
    "growth",
    "axis_ratio_inner",
    "axis_ratio",
    "twist",
    "asymmetry",
    "coverage",
)


@dataclass
class Stamps:
    """Images of n galaxies, of one shape and in the same bands.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx): flux per pixel; NaN where it is unknown.
    wavelength : sequence of float
        Of each band, in micron.
    r_eff : `torch.Tensor`
        Shape (n,): effective radius along the major axis, in pixels.
    noise : `torch.Tensor`, optional
        Shape (n, bands): 1 sigma error of a pixel. What is NaN is measured.
    psf_fwhm : `torch.Tensor`, optional
        Shape (n, bands), in pixels; NaN where it is unknown.
    center : `torch.Tensor`, optional
        Shape (n, 2): x and y of the galaxy in pixels; the middle by default.
    calibrated : bool
        Whether the bands share one flux scale in units of spectral flux density per
        frequency, so that ratios of their fluxes are AB colors.
    """

    data: torch.Tensor
    wavelength: tuple
    r_eff: torch.Tensor
    noise: torch.Tensor = None
    psf_fwhm: torch.Tensor = None
    center: torch.Tensor = None
    calibrated: bool = True


@dataclass
class Prepared:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, len(CHANNELS), 48, 48), float32.
    scalars : `torch.Tensor`
        Shape (n, len(SCALARS)), float32.
    """

    image: torch.Tensor
    scalars: torch.Tensor


def choose_bands(wavelength):
    """Choose the bands that show shape, blue and red color.

    Parameters
    ----------
    wavelength : sequence of float
        Of each band, in micron.

    Returns
    -------
    tuple of int or None
        Indices; None for a color that cannot be had.
    """

    def nearest(goal, places):
        return min(places, key=lambda i: abs(math.log(wavelength[i] / goal)))

    places = range(len(wavelength))
    middle = nearest(REFERENCE, places)
    blue = [i for i in places if wavelength[i] < (1 - NEAREST) * wavelength[middle]]
    red = [i for i in places if wavelength[i] > (1 + NEAREST) * wavelength[middle]]
    return (
        middle,
        nearest(BLUE, blue) if blue else None,
        nearest(RED, red) if red else None,
    )


def prepare(stamps):
    """Prepare images of one shape.

    Parameters
    ----------
    stamps : `Stamps`
        The images; they are not changed.

    Returns
    -------
    `Prepared`
        An image without light gives finite nonsense and a low ``log_snr``: the
        caller decides.
    """
    chosen = choose_bands(stamps.wavelength)
    places = [i for i in chosen if i is not None]
    data = stamps.data[:, places]
    # Single precision then holds the galaxy, however bright the sky is.
    data = (data - data.nanmean((2, 3), keepdim=True)).float()
    r_eff = stamps.r_eff.float()
    center = middle(data, stamps.center)
    mean, cover, reduction = regrid(data, center, WIDE_HALF * r_eff, WIDE_SIZE)
    x, y = unit_grid(WIDE_SIZE, WIDE_HALF)
    radius = torch.hypot(x, y)
    mean = _without_sky(mean, cover, radius)
    noise = None if stamps.noise is None else stamps.noise[:, places]
    std = features.measure_noise(mean, cover, radius, noise, reduction)
    cell = std * reduction[:, None]
    bright = features.measure_light(mean, cover, radius)
    unit = torch.maximum(bright[:, :, 1], 0.3 * cell).clamp_min(1e-30)
    angle, numbers = features.measure_shape(mean[:, 0] * cover[:, 0], x, y)
    # Floats have no unit: brightness is counted in that inside the effective radius.
    mean = mean / unit[..., None, None]
    numbers |= features.measure_brightness(bright, std, r_eff)
    planes = _turned(torch.cat([mean * cover, cover], 1), angle)
    image, asymmetry = _channels(planes, cell / unit, chosen)
    numbers["asymmetry"] = asymmetry
    numbers["coverage"] = planes[:, len(places)].mean((1, 2))
    numbers |= features.measure_colors(bright, unit, std, r_eff, stamps, chosen)
    numbers |= features.measure_psf(stamps, chosen[0], r_eff)
    numbers["log_pixels"] = r_eff.clamp_min(0.1).log10()
    numbers["wavelength"] = torch.full_like(
        r_eff, math.log10(stamps.wavelength[chosen[0]] / REFERENCE)
    )
    numbers["calibrated"] = torch.full_like(r_eff, float(stamps.calibrated))
    scalars = torch.stack([numbers[name] for name in SCALARS], 1)
    return Prepared(image=image, scalars=scalars)


def middle(data, center=None):
    """Center given, or the middle of the image."""
    ny, nx = data.shape[-2:]
    half = torch.tensor([(nx - 1) / 2, (ny - 1) / 2], dtype=torch.float64)
    if center is None:
        return half.expand(len(data), 2)
    return torch.where(torch.isfinite(center), center.double(), half)


def regrid(data, center, half, size):
    """Average the known pixels in each cell of a square around the galaxy.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx); NaN where it is unknown.
    center : `torch.Tensor`
        Shape (n, 2), x and y in pixels.
    half : `torch.Tensor`
        Shape (n,): half of the side of the square, in pixels.
    size : int
        Cells a side.

    Returns
    -------
    mean, share : `torch.Tensor`
        Shape (n, bands, size, size): the means, 0 where less than a tenth of a cell is
        known, and how much of each cell is known.
    reduction : `torch.Tensor`
        Shape (n,): error of a cell over that of a pixel, if those are independent.
    """
    ny, nx = data.shape[-2:]
    # Edges of cells need more digits than brightness.
    center, half = center.double(), half.double()
    step = 2 * half / size
    rows = overlap(ny, center[:, 1] - half, step, size).float()[:, None]
    columns = overlap(nx, center[:, 0] - half, step, size).float()[:, None]
    reduction = (_shrinkage(rows) * _shrinkage(columns)).sqrt()
    columns = columns.transpose(2, 3)
    known = torch.isfinite(data)
    if known.all():
        area = (rows.sum(3, True) * columns.sum(2, True)).expand(
            -1, data.shape[1], -1, -1
        )
    else:
        area = rows @ known.float() @ columns
        data = torch.where(known, data, 0.0)
    total = rows @ data @ columns
    share = (area / (step**2)[:, None, None, None].float()).clamp(0, 1)
    share = torch.where(share > 0.1, share, 0.0)
    mean = torch.where(share > 0, total / area.clamp_min(1e-12), 0.0)
    return mean, share, reduction


def _shrinkage(weights):
    """Variance of weighted means over that of the values, shape (n,)."""
    total = weights.sum(3)
    inside = total > 0
    ratio = (weights**2).sum(3) / total.clamp_min(1e-12) ** 2
    return (ratio * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def _without_sky(mean, cover, radius):
    """Subtract what is left of the sky: the median far from the galaxy."""
    outer = features.outside(cover, radius)
    sky = torch.where(outer, mean, torch.nan).flatten(2).nanmedian(2).values
    sky = sky.nan_to_num(0.0)[..., None, None]
    return torch.where(cover > 0, mean - sky, 0.0)


def _turned(planes, angle):
    """Turn planes so that the major axis lies along x, and keep the inner part."""
    x, y = unit_grid(SIZE, HALF / WIDE_HALF)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    places = torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
    return torch.nn.functional.grid_sample(
        planes, places, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def _channels(planes, cell, chosen):
    """Make the channels, and measure the asymmetry under half a turn."""
    count = planes.shape[1] // 2
    cover = planes[:, count:]
    value = torch.where(
        cover > 0.1, planes[:, :count] / cover.clamp_min(1e-6), torch.nan
    ).nan_to_num(0.0)
    noise = cell[..., None, None].clamp_min(1e-3)
    shape, error = value[:, 0], noise[:, 0]
    smooth = _blurred(shape, 9)
    contrast = (shape - smooth) / torch.hypot(2 * error, 0.2 * smooth.abs() + 0.02)
    images = [
        torch.asinh(shape / 0.05) / 3,
        torch.asinh(shape / (2 * error)) / 3,
        torch.asinh(contrast) / 2,
    ]
    middle = _blurred(shape, 3)
    place = 1
    for index in chosen[1:]:
        if index is None:
            images.append(torch.zeros_like(shape))
            continue
        other = _blurred(value[:, place], 3)
        snr = torch.minimum(other / noise[:, place], middle / error)
        # Magnitudes that are linear where there is no signal.
        soft = 2 * torch.maximum(error, noise[:, place])
        color = 1.0857 * (torch.asinh(middle / soft) - torch.asinh(other / soft))
        trust = 1 / (1 + (3 / snr.clamp_min(1e-3)) ** 2)
        images.append((color * trust).clamp(-1.5, 1.5))
        place += 1
    turned = shape.flip(-1, -2)
    x, y = unit_grid(SIZE, HALF)
    inside = (torch.hypot(x, y) < 1.5).float()
    change = ((shape - turned).abs() * inside).sum((1, 2))
    change = change - 1.13 * error[:, 0, 0] * inside.sum()
    asymmetry = change / (shape.abs() * inside).sum((1, 2)).clamp_min(1e-6)
    image = torch.stack(images, 1).clamp(-6, 6) * (cover[:, :1] > 0.1)
    return torch.cat([image, cover[:, :1]], 1), asymmetry.clamp(-0.5, 2)


def _blurred(value, width):
    """Mean over squares of ``width`` cells."""
    return torch.nn.functional.avg_pool2d(
        value[:, None], width, 1, width // 2, count_include_pad=False
    )[:, 0]
