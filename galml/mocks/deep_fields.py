# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as the deep fields of Hubble and Webb show them."""

import math

import torch
from astropy.cosmology import Planck18

from galml.core.exceptions import InputError
from galml.mocks.crowded import CrowdedImages
from galml.mocks.images import (
    CHUNK,
    DEPTH_SCATTER,
    SKY_ERROR,
    SOFTENING,
    _spectrum,
    field_spectrum,
    particle_spacing,
)
from galml.mocks.space_psf import (
    DEEP_FILTERS,
    draw_transfer,
    noise_response,
    profile_fwhm,
)
from galml.physics.bands import AB_ZERO, PIVOT_WAVELENGTHS

__all__ = [
    "DEEP_DEPTHS",
    "DEEP_FIELDS",
    "deep_noise",
    "draw_deep_field",
    "observe_deep",
]

#: Fields, and the AB magnitudes of 5 sigma in the aperture of each band; light outside
#: of the aperture does not count. COSMOS, EGS and UDS: CANDELS/Wide, GOODS:
#: CANDELS/Deep (Grogin et al. 2011, ApJS 197, 35), as measured by Galametz et al.
#: (2013, ApJS 206, 10), Stefanon et al. (2017, ApJS 229, 32) and Guo et al. (2013,
#: ApJS 207, 24). COSMOS is taken to be as deep as the UDS, GOODS-N as GOODS-S, which
#: were exposed alike. F200W: CEERS (Bagley et al. 2023, ApJL 946, L12).
DEEP_DEPTHS = {
    "COSMOS": {"F814W": 28.5, "F125W": 27.4, "F160W": 27.5},
    "EGS": {"F814W": 28.2, "F125W": 27.6, "F160W": 27.6, "F200W": 29.5},
    "GOODS-N": {"F814W": 28.8, "F125W": 28.3, "F160W": 28.2},
    "GOODS-S": {"F814W": 28.8, "F125W": 28.3, "F160W": 28.2},
    "UDS": {"F814W": 28.5, "F125W": 27.4, "F160W": 27.5},
}
DEEP_FIELDS = tuple(DEEP_DEPTHS)
#: Galaxies brighter than F160W = 26.8 in a square arcmin, as many as catalogs of
#: CANDELS have in the UDS (Galametz et al. 2013), and growth of the logarithm of their
#: number with magnitude, up to there (Yan et al. 1998, ApJ 503, L19) and beyond
#: (Windhorst et al. 2011, ApJS 193, 27).
GALAXIES, COUNTED_TO, SLOPE, FAINT_SLOPE = 180.0, 26.8, 0.31, 0.2
#: Share of stars among the sources.
STARS = 0.04
#: Brightest and most sources in an image; the faintest are left out where there would
#: be more.
BRIGHTEST, MOST = 19.0, 32
#: Magnitude that changes with the natural logarithm of wavelength, and its scatter.
COLOR, COLOR_SCATTER = -1.3, 0.8
#: Half-light radii in arcsec at F160W = 24, with the slope and scatter of their decimal
#: logarithm (van der Wel et al. 2012, ApJS 203, 24).
RADIUS, RADIUS_SLOPE, RADIUS_SCATTER = 0.28, -0.1, 0.2


def observe_deep(
    galaxy,
    light,
    field,
    redshift,
    n_pixels,
    generator,
    *,
    bands,
    noisy=True,
    foreign=None,
):
    """Take images of galaxies in a deep field.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen, with s particles of stars.
    light : `torch.Tensor`
        Shape (n, s, bands): light of each particle of stars, see
        `~galml.mocks.deep_starlight`.
    field : {"COSMOS", "EGS", "GOODS-N", "GOODS-S", "UDS"}
        Where: sets the depth.
    redshift : `torch.Tensor`
        Shape (n,): sets the distance (Planck 2018 cosmology).
    n_pixels : int
        Pixels along a side; even.
    generator : `torch.Generator`
        Source of all randomness.
    bands : sequence of str
        Bands of the light, of one pixel scale: F814W of ACS or F200W of NIRCam at
        0.03 arcsec, F125W and F160W of WFC3 at 0.06 arcsec.
    noisy : bool
        Whether to add other galaxies, stars, noise and an error of the sky level.
    foreign : `torch.Tensor`, optional
        Boolean, shape (n, s): particles of stars that are not the galaxy's.

    Returns
    -------
    `~galml.mocks.CrowdedImages`
        The images. ``survey`` is the index into `DEEP_FIELDS`; ``noise`` is the
        standard deviation in a pixel, and noise of neighboring pixels is correlated.

    Raises
    ------
    galml.core.InputError
        If there is no such field, it was not seen in a band, pixel scales of the bands
        differ, or there are no stars.

    Notes
    -----
    Surface brightness fades with redshift as it must. Point spread functions are drawn
    and turned for every galaxy, see `galml.mocks.space_psf`.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, deep_starlight, draw_stars, observe_deep
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> redshift = torch.tensor([1.5, 2.0])
    >>> light = deep_starlight(galaxy, ("F160W",), redshift)
    >>> images = observe_deep(
    ...     galaxy, light, "UDS", redshift, 64, generator, bands=("F160W",)
    ... )
    >>> images.data.shape
    torch.Size([2, 1, 64, 64])
    """
    if field not in DEEP_DEPTHS:
        raise InputError("field", repr(field), f"one of {', '.join(DEEP_FIELDS)}")
    depths = DEEP_DEPTHS[field]
    if not bands or set(bands) - set(depths):
        expected = f"bands of {field}: {', '.join(depths)}"
        raise InputError("bands", tuple(bands), expected)
    filters = [DEEP_FILTERS[band] for band in bands]
    if len({one.pixel_scale for one in filters}) > 1:
        raise InputError("bands", tuple(bands), "bands of one pixel scale")
    stars = galaxy.stars
    n, scale = len(redshift), filters[0].pixel_scale
    depth = torch.tensor([depths[band] for band in bands])
    shift = torch.rand(n, 2, generator=generator) - 0.5
    z = redshift.double().numpy()
    dimming = torch.from_numpy(10 ** (-0.4 * Planck18.distmod(z).value)).float()
    kpc = torch.from_numpy(Planck18.kpc_proper_per_arcmin(z).value / 60).float()
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    others = draw_deep_field(n, n_pixels * scale, bands, depth, generator)
    # Light beyond the edge reaches into the image by the point spread function.
    size = n_pixels + n_pixels // 4
    spacing = stars.spacing
    if spacing is None:
        spacing = particle_spacing(stars.position)
    parts, fwhm = [], []
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        pixel = scale * kpc[rows]
        place = stars.position[rows, :, :2] / pixel[:, None, None]
        place = place + shift[rows, None] + (size - 1) / 2
        width = SOFTENING * spacing[rows] / pixel[:, None]
        flux = light[rows] * dimming[rows, None, None]
        own, other = flux, torch.zeros((), dtype=torch.complex64)
        if foreign is not None:
            own, beside = (flux * m[rows, :, None] for m in (~foreign, foreign))
            other = _spectrum(place, beside, width, size)
        spectrum = _spectrum(place, own, width, size)
        other = other.expand_as(spectrum).clone()
        if noisy:
            few = {key: value[rows] for key, value in others.items()}
            scales = torch.full_like(pixel, scale)
            other += field_spectrum(few, scales, size)
        transfer = draw_transfer(filters, size, angle[rows], generator)
        fwhm.append(profile_fwhm(transfer))
        seen = torch.stack([spectrum, other]) * transfer
        parts.append(torch.fft.irfft2(seen, s=(size, size)))
    alone, others = torch.cat(parts, 1)
    data = alone + others
    noise = torch.zeros(n, len(bands))
    if noisy:
        depth = depth + DEPTH_SCATTER * torch.randn(n, len(bands), generator=generator)
        data, noise = _add_noise(data, depth, filters, generator)
    edge = (size - n_pixels) // 2
    inner = slice(edge, edge + n_pixels)
    return CrowdedImages(
        data=data[..., inner, inner],
        galaxy=alone[..., inner, inner],
        others=others[..., inner, inner],
        noise=noise,
        psf_fwhm=torch.cat(fwhm),
        center=(n_pixels - 1) / 2 + shift,
        pixel_scale=torch.full((n,), scale),
        redshift=redshift,
        survey=torch.full((n,), DEEP_FIELDS.index(field)),
        bands=tuple(bands),
    )


def deep_noise(band, depth):
    """Find the noise of the sky over large areas that lets a band reach its depth.

    Parameters
    ----------
    band : `~galml.mocks.space_psf.DeepFilter`
        The band.
    depth : `torch.Tensor`
        AB magnitude of 5 sigma in its aperture.

    Returns
    -------
    `torch.Tensor`
        Standard deviation in nJy, over one square arcsec.
    """
    return AB_ZERO * 10 ** (-0.4 * depth) / 5 / (math.sqrt(math.pi) * band.aperture)


def _add_noise(data, depth, filters, generator):
    """Add noise as drizzled images have it, and an error of the subtracted sky."""
    size = data.shape[-1]
    noisy, sigma = [], []
    for i, band in enumerate(filters):
        image = data[:, i]
        # Noise of the detector's pixels, in units of those of the image.
        white = band.pixel_scale * deep_noise(band, depth[:, i])
        level = AB_ZERO * 10 ** (-0.4 * band.sky) * band.pixel_scale**2
        grain = torch.randn(image.shape, generator=generator)
        grain = grain * (1 + image.clamp_min(0) / level).sqrt()
        response = noise_response(band, size)
        grain = torch.fft.irfft2(torch.fft.rfft2(grain) * response, s=(size, size))
        # The share of white noise that is left in a pixel: the mean of the power.
        share = torch.fft.irfft2(response**2, s=(size, size))[0, 0].sqrt()
        error = SKY_ERROR * torch.randn(len(image), generator=generator)
        image = image + white[:, None, None] * (grain + error[:, None, None])
        noisy.append(image)
        sigma.append(white * share)
    return torch.stack(noisy, 1), torch.stack(sigma, 1)


def _excess(magnitude):
    """Logarithm of how many galaxies are brighter, over those brighter than 26.8."""
    step = magnitude - COUNTED_TO
    return step * (SLOPE if step < 0 else FAINT_SLOPE)


def draw_deep_field(n, width, bands, depth, generator):
    """Draw what else lies in a deep field.

    Parameters
    ----------
    n : int
        Number of images.
    width : float
        Side of the images, in arcsec.
    bands : sequence of str
        Bands that `galml.physics` knows.
    depth : `torch.Tensor`
        Shape (bands,): magnitude of the faintest sources that matter.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    dict of str to `torch.Tensor`
        As that of `~galml.mocks.images.draw_field`.
    """

    def draw(*last):
        return torch.rand(n, MOST, *last, generator=generator)

    area = (width / 60) ** 2 * GALAXIES * (1 + STARS)
    excess = min(_excess(depth.amax().item()), math.log10(MOST / 2 / area))
    mean = torch.full((n,), area * 10**excess)
    number = torch.poisson(mean, generator=generator)
    exists = torch.arange(MOST) < number[:, None]
    is_star = draw() < STARS / (1 + STARS)
    # The logarithm of how many are brighter, over those that are counted.
    brighter = excess + draw().log10()
    magnitude = COUNTED_TO + brighter / torch.where(brighter < 0, SLOPE, FAINT_SLOPE)
    magnitude = magnitude.clamp_min(BRIGHTEST)
    scatter = torch.randn(2, n, MOST, 1, generator=generator)
    ratio = torch.tensor([PIVOT_WAVELENGTHS[band] for band in bands])
    ratio = (ratio / PIVOT_WAVELENGTHS["F160W"]).log()
    radius = RADIUS * 10 ** (
        RADIUS_SLOPE * (magnitude - 24) + RADIUS_SCATTER * scatter[1, ..., 0]
    )
    slope = COLOR + COLOR_SCATTER * scatter[0]
    magnitude = magnitude[..., None] + slope * ratio
    return {
        "flux": AB_ZERO * 10 ** (-0.4 * magnitude) * exists[..., None],
        "x": (draw() - 0.5) * width,
        "y": (draw() - 0.5) * width,
        "r_eff": torch.where(is_star, 0.0, radius),
        "axis_ratio": 0.25 + 0.75 * draw(),
        "angle": math.pi * draw(),
    }
