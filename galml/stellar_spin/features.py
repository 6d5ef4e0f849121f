# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers about the image of a galaxy: noise, light, shape, colors and PSF."""

import math

import torch

__all__ = [
    "measure_brightness",
    "measure_colors",
    "measure_light",
    "measure_noise",
    "measure_psf",
    "measure_shape",
    "outside",
    "unit_grid",
]

#: Radius, in effective radii, beyond which there is sky.
FAR = 3.3
#: Cells between those that are compared for the noise.
LAG = 6
#: Differences beyond so many standard deviations do not count, how often that is
#: repeated, and the variance that then is left of normal numbers.
CLIP, CLIPPINGS, CLIPPED = 2.5, 6, 0.9113


def unit_grid(size, half):
    """Coordinates x and y of the cells of a square, shapes (1, size), (size, 1)."""
    step = ((torch.arange(size) + 0.5) / size * 2 - 1) * half
    return step[None, :], step[:, None]


def measure_noise(mean, cover, radius, noise, reduction):
    """Error of a pixel: the one given, or else from the scatter far from the galaxy.

    The scatter is that of the differences between cells at some distance. Where the
    errors of neighboring pixels are not independent, the result is that of pixels
    which would make cells as noisy.

    Parameters
    ----------
    mean, cover : `torch.Tensor`
        Shape (n, bands, y, x): brightness of each cell, and how much of it is known.
    radius : `torch.Tensor`
        Shape (y, x), in effective radii.
    noise : `torch.Tensor` or None
        Shape (n, bands): error of a pixel, NaN where it is unknown.
    reduction : `torch.Tensor`
        Shape (n,): error of a cell over that of a pixel.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bands).
    """
    if noise is None:
        noise = torch.full(mean.shape[:2], torch.nan)
    result = noise.float()
    missing = torch.isnan(result).any(1)
    if missing.any():
        mean, cover, own = mean[missing], cover[missing], result[missing]
        found = _scatter(mean, outside(cover, radius)) / reduction[missing, None]
        result = result.clone()
        result[missing] = torch.where(torch.isnan(own), found, own)
    return result


def outside(cover, radius):
    """Cells far from the galaxy, or as far as there are any: boolean, as ``cover``."""
    reach = torch.where(cover > 0, radius, 0.0).amax((-2, -1), keepdim=True)
    return (cover > 0) & (radius > (0.85 * reach).clamp(max=FAR))


def _scatter(mean, outer):
    """Measure the noise of cells by their differences, without what stands out."""
    steps = []
    for axis in (2, 3):
        size = mean.shape[axis] - LAG
        value = mean.narrow(axis, 0, size) - mean.narrow(axis, LAG, size)
        both = outer.narrow(axis, 0, size) & outer.narrow(axis, LAG, size)
        steps.append(torch.where(both, value, torch.nan).flatten(2))
    square = torch.cat(steps, 2) ** 2
    variance = square.nanmean(2)
    for _ in range(CLIPPINGS):
        kept = torch.where(square <= CLIP**2 * variance[..., None], square, torch.nan)
        variance = kept.nanmean(2) / CLIPPED
    return (variance / 2).sqrt().nan_to_num(0.0)


def measure_light(mean, cover, radius):
    """Mean brightness inside 0.4, 1 and 2 effective radii: (n, bands, 3)."""
    parts = []
    for limit in (0.4, 1.0, 2.0):
        weight = cover * (radius <= limit)
        total = weight.sum((2, 3)).clamp_min(1e-6)
        parts.append((mean * weight).sum((2, 3)) / total)
    return torch.stack(parts, 2)


def measure_shape(light, x, y):
    """Direction of the major axis (radians from x to y), and numbers about shape."""
    light = light.double()

    def moments(width):
        weight = light * torch.exp(-0.5 * (x**2 + y**2).double() / width**2)
        total = weight.sum((1, 2))
        q = [
            (weight * p).sum((1, 2)) for p in (x * x - y * y, 2 * x * y, x * x + y * y)
        ]
        size = torch.where((q[2] > 0) & (total > 0), q[2], torch.inf)
        even, odd = q[0] / size, q[1] / size
        length = torch.hypot(even, odd).clamp_min(1e-12)
        shrink = length.clamp(max=0.98) / length
        return even * shrink, odd * shrink

    inner, outer = moments(0.5), moments(1.5)
    length = torch.hypot(*outer)
    # A direction that rounding errors make would not turn with the image.
    round_ = length < 1e-5
    angle = torch.where(round_, 0.0, 0.5 * torch.atan2(outer[1], outer[0]))
    along = (inner[0] * outer[0] + inner[1] * outer[1]) / length.clamp_min(1e-5)

    def ratio(e):
        return ((1 - e) / (1 + e)).sqrt().float()

    return angle.float(), {
        "axis_ratio_inner": ratio(torch.hypot(*inner)),
        "axis_ratio": ratio(length),
        "twist": along.float(),
    }


def measure_brightness(light, std, r_eff):
    """Numbers about how bright and how concentrated the reference band is."""
    inner, middle, outer = light[:, 0].unbind(1)
    floor = torch.maximum(0.1 * middle.abs(), 1e-3 * std[:, 0]).clamp_min(1e-30)
    middle = torch.maximum(middle, floor)
    return {
        "log_snr": _log_snr(light[:, 0, 1], std[:, 0], r_eff),
        "concentration": (torch.maximum(inner, floor) / middle).log10().clamp(-1, 2),
        "growth": (torch.maximum(outer, floor) / middle).log10().clamp(-1, 1),
    }


def _log_snr(brightness, std, r_eff):
    """Signal to noise of the light inside one effective radius, as a logarithm."""
    snr = brightness * math.sqrt(math.pi) * r_eff / std.clamp_min(1e-30)
    return snr.clamp(0.1, 1e4).log10()


def measure_colors(light, unit, std, r_eff, stamps, chosen):
    """Numbers about the colors, zero where they cannot be had."""
    zero = torch.zeros_like(r_eff)
    result, place = {}, 1
    for name, index in zip(("blue", "red"), chosen[1:], strict=True):
        keys = ("wavelength", "log_snr", "color", "gradient")
        result |= {f"{name}_{key}": zero for key in keys}
        result[f"has_{name}"] = zero + float(index is not None)
        if index is None:
            continue
        ratio = stamps.wavelength[index] / stamps.wavelength[chosen[0]]
        result[f"{name}_wavelength"] = zero + math.log10(ratio)
        result[f"{name}_log_snr"] = _log_snr(light[:, place, 1], std[:, place], r_eff)
        color = _ratio(unit[:, 0], unit[:, place])
        if stamps.calibrated:
            result[f"{name}_color"] = color
        outer, middle = light[:, 0, 2], light[:, place, 2]
        # Brightness between one and two effective radii, from that inside each.
        outer, middle = 4 * outer - light[:, 0, 1], 4 * middle - light[:, place, 1]
        change = _ratio(outer, middle, 0.05 * unit[:, 0], 0.05 * unit[:, place])
        result[f"{name}_gradient"] = (change - color).clamp(-1, 1)
        place += 1
    return result


def _ratio(first, second, low=1e-30, high=1e-30):
    """Color, as a magnitude, of two brightnesses with their lower limits."""
    first = torch.maximum(first, torch.as_tensor(low))
    second = torch.maximum(second, torch.as_tensor(high))
    return (2.5 * (first / second).log10()).clamp(-4, 4)


def measure_psf(stamps, index, r_eff):
    """Numbers about the PSF, zero where it is unknown."""
    if stamps.psf_fwhm is None:
        width = torch.full_like(r_eff, torch.nan)
    else:
        width = stamps.psf_fwhm[:, index].float() / r_eff
    return {
        "has_psf": torch.isfinite(width).float(),
        "log_psf": width.clamp(0.01, 10).log10().nan_to_num(0.0),
    }
