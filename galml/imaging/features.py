# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers about the images of galaxies: light, shape, colors and PSF.

Tensors in, tensors out; their shape is (n,) where nothing else is said.
"""

import functools
import math

import torch

__all__ = [
    "asymmetry",
    "choose_bands",
    "color",
    "concentration",
    "light_inside",
    "log_psf",
    "log_snr",
    "shape_moments",
]

#: Smallest brightness, of any unit, that is divided by.
TINY = 1e-30


def choose_bands(wavelengths, *, reference, blue, red, nearest):
    """Choose the bands that show shape, blue and red color.

    Parameters
    ----------
    wavelengths : sequence of float
        Of each band, in micron.
    reference : float
        Wavelength of the band that shows the shape.
    blue, red : float
        Wavelengths of the colors that help most, where there is a choice.
    nearest : float
        Bands nearer to the one that shows the shape than this, in relative wavelength,
        show no color.

    Returns
    -------
    tuple of int or None
        Indices; None for a color that cannot be had.
    """

    def closest(goal, places):
        return min(places, key=lambda i: abs(math.log(wavelengths[i] / goal)))

    places = range(len(wavelengths))
    shape = closest(reference, places)
    low, high = ((1 + sign * nearest) * wavelengths[shape] for sign in (-1, 1))
    bluer = [i for i in places if wavelengths[i] < low]
    redder = [i for i in places if wavelengths[i] > high]
    return (
        shape,
        closest(blue, bluer) if bluer else None,
        closest(red, redder) if redder else None,
    )


@functools.lru_cache(maxsize=16)
def _disks(grid, radii):
    """Cells inside the largest radius, and weights with which they are averaged."""
    inner = (grid.radius <= max(radii)).flatten().nonzero()[:, 0]
    distance = grid.radius.flatten()[inner]
    inside = torch.stack([(distance <= radius).double() for radius in radii], 1)
    return inner, inside


def light_inside(stamps, grid, radii):
    """Measure mean brightness inside circles.

    Parameters
    ----------
    stamps : `~galml.imaging.Stamps`
        The images.
    grid : `~galml.imaging.Grid`
        Their cells.
    radii : tuple of float
        In the unit of the grid.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bands, radii): flux per pixel; 0 where nothing is known.
    """
    inner, inside = _disks(grid, radii)
    mean = stamps.mean.flatten(2).index_select(2, inner).double()
    cover = stamps.cover.flatten(2).index_select(2, inner).double()
    # Gradients of color are differences of these: all digits count.
    light = (mean * cover) @ inside / (cover @ inside).clamp_min(1e-6)
    return light.float()


@functools.lru_cache(maxsize=16)
def _moment_weights(grid, widths):
    """Gaussian weights times 1 and the three second moments: (cells, 4 widths)."""
    x, y = grid.x.double(), grid.y.double()
    powers = (torch.ones_like(x * y), x * x - y * y, 2 * x * y, x * x + y * y)
    weights = [torch.exp(-0.5 * (x**2 + y**2) / width**2) for width in widths]
    return torch.stack([(w * p).flatten() for w in weights for p in powers], 1)


def shape_moments(light, grid, widths, *, flattest=0.98, roundest=1e-5):
    """Measure shapes by second moments under Gaussian weights.

    Parameters
    ----------
    light : `torch.Tensor`
        Shape (n, y, x): brightness times how much of each cell is known.
    grid : `~galml.imaging.Grid`
        The cells.
    widths : tuple of float
        Standard deviations of the weights, in the unit of the grid, from the smallest
        to the largest.
    flattest : float
        Largest length of a shape, that of a line being 1.
    roundest : float
        Length of a shape below which its direction is one of rounding errors.

    Returns
    -------
    angle : `torch.Tensor`
        Direction of the major axis under the widest weight, in radians from x to y;
        0 where the galaxy is round.
    axis_ratio : `torch.Tensor`
        Shape (n, widths): minor over major axis under each weight.
    twist : `torch.Tensor`
        Component of the innermost shape along the direction of the outermost one.
    """
    # In single precision, rounding errors of the sum would turn round galaxies.
    sums = light.flatten(1).double() @ _moment_weights(grid, widths)
    sums = sums.unflatten(1, (len(widths), 4))
    size = torch.where((sums[..., 3] > 0) & (sums[..., 0] > 0), sums[..., 3], torch.inf)
    even, odd = sums[..., 1] / size, sums[..., 2] / size
    length = torch.hypot(even, odd).clamp_min(1e-12)
    shrink = length.clamp(max=flattest) / length
    even, odd = even * shrink, odd * shrink
    length = torch.hypot(even, odd)
    direction = 0.5 * torch.atan2(odd[:, -1], even[:, -1])
    # A direction that rounding errors make would not turn with the image.
    angle = torch.where(length[:, -1] < roundest, 0.0, direction)
    along = even[:, 0] * even[:, -1] + odd[:, 0] * odd[:, -1]
    twist = along / length[:, -1].clamp_min(roundest)
    ratio = ((1 - length) / (1 + length)).sqrt()
    return angle.float(), ratio.float(), twist.float()


def log_snr(brightness, noise, r_eff, *, low, high):
    """Measure the signal to noise of the light inside one effective radius.

    Parameters
    ----------
    brightness : `torch.Tensor`
        Mean flux per pixel inside the radius.
    noise : `torch.Tensor`
        Error of a pixel.
    r_eff : `torch.Tensor`
        Effective radius in pixels.
    low, high : float
        Least and largest signal to noise that count.

    Returns
    -------
    `torch.Tensor`
        Its logarithm to base 10.
    """
    snr = brightness * math.sqrt(math.pi) * r_eff / noise.clamp_min(TINY)
    return snr.clamp(low, high).log10()


def concentration(part, whole, floor):
    """Measure how much brighter one part of a galaxy is than another.

    Parameters
    ----------
    part, whole : `torch.Tensor`
        Brightness of both.
    floor : `torch.Tensor`
        Least brightness, above 0.

    Returns
    -------
    `torch.Tensor`
        Logarithm to base 10 of their ratio.
    """
    return (torch.maximum(part, floor) / torch.maximum(whole, floor)).log10()


def color(first, second, floor=TINY, other_floor=TINY, *, largest):
    """Measure a color.

    Parameters
    ----------
    first, second : `torch.Tensor`
        Brightness in two bands.
    floor, other_floor : float or `torch.Tensor`
        Least brightness in each band, above 0.
    largest : float
        Largest color that counts.

    Returns
    -------
    `torch.Tensor`
        Magnitude in the second band minus that in the first.
    """
    first = torch.maximum(first, torch.as_tensor(floor))
    second = torch.maximum(second, torch.as_tensor(other_floor))
    return (2.5 * (first / second).log10()).clamp(-largest, largest)


def log_psf(psf_fwhm, r_eff, *, low, high):
    """Measure how wide the PSF is.

    Parameters
    ----------
    psf_fwhm, r_eff : `torch.Tensor`
        FWHM, NaN where it is unknown, and effective radius in pixels.
    low, high : float
        Least and largest ratio of both that count.

    Returns
    -------
    known, width : `torch.Tensor`
        1 where the PSF is known; and the logarithm to base 10 of the ratio, 0 where it
        is not known.
    """
    width = psf_fwhm / r_eff
    known = torch.isfinite(width).float()
    return known, width.clamp(low, high).log10().nan_to_num(0.0)


@functools.lru_cache(maxsize=16)
def _disk(grid, radius):
    """Cells inside a radius, as indices of flattened cells."""
    return (grid.radius < radius).flatten().nonzero()[:, 0]


def asymmetry(image, error, grid, *, radius, bias):
    """Measure how much an image differs from itself under half a turn.

    Parameters
    ----------
    image : `torch.Tensor`
        Shape (n, y, x): brightness of the cells.
    error : `torch.Tensor`
        Error of a cell.
    grid : `~galml.imaging.Grid`
        The cells.
    radius : float
        What is inside this radius counts.
    bias : float
        Mean difference in units of the error that noise alone makes; that is
        subtracted.

    Returns
    -------
    `torch.Tensor`
        Relative to the light (Conselice et al. 2000, ApJ 529, 886).
    """
    inside = _disk(grid, radius)
    light = image.flatten(1).index_select(1, inside)
    # Half a turn reverses the order of the cells.
    change = (light - light.flip(1)).abs().sum(1) - bias * error * len(inside)
    return change / light.abs().sum(1).clamp_min(1e-6)
