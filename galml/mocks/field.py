# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Other galaxies and foreground stars in the field of an image."""

import math

import torch

from galml.mocks.light import AB_ZERO, WAVELENGTHS

__all__ = ["draw_field", "field_spectrum", "frequencies"]

#: Sources brighter than r = 20 in a square degree, and growth of the logarithm of
#: their number with magnitude: galaxies (Yasuda et al. 2001, AJ 122, 1104; deeper,
#: Capak et al. 2007, ApJS 172, 99) and stars at high galactic latitude (Bahcall &
#: Soneira 1980, ApJS 44, 73).
GALAXIES, GALAXY_SLOPE = 1000.0, 0.45
STARS, STAR_SLOPE = 2000.0, 0.15
BRIGHTEST = 15.0
#: Most sources in an image; the faintest are left out where there would be more.
MOST = 8


def draw_field(n, width, bands, depth, generator):
    """Draw what else lies in the field.

    Parameters
    ----------
    n : int
        Number of images.
    width : `torch.Tensor`
        Shape (n,): side of the images, in arcsec.
    bands : sequence of str
        Bands out of `~galml.mocks.light.BANDS`.
    depth : `torch.Tensor`
        Shape (bands,): magnitude of the faintest sources that matter.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``flux`` in nJy, of shape (n, sources, bands), zero where there is no source;
        and of shape (n, sources): ``x``, ``y`` from the middle and half-light radius
        ``r_eff`` (0 for stars), in arcsec, ``axis_ratio``, ``angle`` in radians.
    """

    def draw(*last):
        return torch.rand(n, MOST, *last, generator=generator)

    area = width**2 / 3600**2
    # As many as there are to the magnitude that MOST sources reach, or the depth.
    faint = depth.amax().expand(n)
    crowded = 20 + ((MOST / 2) / (GALAXIES * area)).log10() / GALAXY_SLOPE
    faint = faint.minimum(crowded).clamp_min(BRIGHTEST)
    galaxies = area * GALAXIES * 10 ** (GALAXY_SLOPE * (faint - 20))
    stars = area * STARS * 10 ** (STAR_SLOPE * (faint - 20))
    mean = galaxies + stars
    number = torch.poisson(mean, generator=generator)
    exists = torch.arange(MOST) < number[:, None]
    is_star = draw() < (stars / mean)[:, None]
    slope = torch.where(is_star, STAR_SLOPE, GALAXY_SLOPE)
    magnitude = (faint[:, None] + draw().log10() / slope).clamp_min(BRIGHTEST)
    # Colors follow one slope of magnitude with the logarithm of wavelength.
    color = -2.2 + 0.9 * torch.randn(n, MOST, 1, generator=generator)
    ratio = torch.tensor([WAVELENGTHS[band] / WAVELENGTHS["r"] for band in bands])
    magnitude = magnitude[..., None] + color * ratio.log()
    radius = 1.2 * 10 ** (-0.12 * (magnitude[..., 0] - 21)) * torch.exp(draw() - 0.5)
    return {
        "flux": AB_ZERO * 10 ** (-0.4 * magnitude) * exists[..., None],
        "x": (draw() - 0.5) * width[:, None],
        "y": (draw() - 0.5) * width[:, None],
        "r_eff": torch.where(is_star, 0.0, radius),
        "axis_ratio": 0.25 + 0.75 * draw(),
        "angle": math.pi * draw(),
    }


def field_spectrum(field, pixel_scale, size):
    r"""Fourier transform of the sources of a field, before the telescope.

    Galaxies have nearly exponential profiles, which are simple in Fourier space
    (Spergel 2010, ApJS 191, 58): :math:`(1 + (2 \pi k r_0)^2)^{-3/2}`.

    Parameters
    ----------
    field : dict of str to `torch.Tensor`
        See `draw_field`.
    pixel_scale : `torch.Tensor`
        Shape (n,), in arcsec.
    size : int
        Pixels along a side of the image, which the field's middle is in the middle of.

    Returns
    -------
    `torch.Tensor`
        Complex, of shape (n, bands, size, size // 2 + 1).
    """
    ky, kx = frequencies(size)
    x, y, radius = (field[key] / pixel_scale[:, None] for key in ("x", "y", "r_eff"))
    middle = (size - 1) / 2
    phase_x = torch.exp(-2j * math.pi * (x + middle)[..., None] * kx[0])
    phase_y = torch.exp(-2j * math.pi * (y + middle)[..., None] * ky[:, 0])
    # Half the light of an exponential disk is inside 1.678 scale lengths.
    scale = 2 * math.pi * radius / 1.678
    cosine, sine = field["angle"].cos(), field["angle"].sin()

    def along(weight_x, weight_y):
        return weight_x[..., None, None] * kx + weight_y[..., None, None] * ky

    major = along(scale * cosine, scale * sine)
    short = scale * field["axis_ratio"]
    minor = along(-short * sine, short * cosine)
    profile = (1 + major**2 + minor**2).pow(-1.5)
    sources = profile * phase_y[..., :, None] * phase_x[..., None, :]
    return torch.einsum("nmb,nmyx->nbyx", field["flux"].to(sources.dtype), sources)


def frequencies(size):
    """Frequencies of a real Fourier transform, in cycles per pixel.

    Parameters
    ----------
    size : int
        Pixels along a side.

    Returns
    -------
    ky, kx : `torch.Tensor`
        Shape (size, 1) and (1, size // 2 + 1).
    """
    return torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
