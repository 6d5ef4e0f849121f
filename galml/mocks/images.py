# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as calibrated images of a survey, with what else lies in the field."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.mocks.galaxy import Batch
from galml.mocks.surveys import IMAGING_SURVEYS
from galml.physics.bands import AB_ZERO, PIVOT_WAVELENGTHS, SOLAR_MAGNITUDES

__all__ = [
    "LightImages",
    "distance",
    "draw_field",
    "field_spectrum",
    "observe_light",
    "particle_spacing",
    "redshift_of",
    "sky_noise",
]

#: Particles are as wide as this times the distance between them (standard deviation),
#: to the nearest of these levels, in pixels.
SOFTENING = 0.8
LEVELS = (0.0, 1.0, 2.0, 4.0, 8.0)
#: The sky is subtracted to this times the noise of a pixel.
SKY_ERROR = 0.03
#: Scatter of depth between images of a survey, in mag.
DEPTH_SCATTER = 0.04
#: Galaxies that go through the memory of a processor at a time.
CHUNK = 8
#: Neighbors by which the density around a particle is measured where it is not known.
NEIGHBORS = 8
#: Sources brighter than r = 20 in a square degree, and growth of the logarithm of
#: their number with magnitude: galaxies (Yasuda et al. 2001, AJ 122, 1104; deeper,
#: Capak et al. 2007, ApJS 172, 99) and stars at high galactic latitude (Bahcall &
#: Soneira 1980, ApJS 44, 73).
GALAXIES, GALAXY_SLOPE = 1000.0, 0.45
STARS, STAR_SLOPE = 2500.0, 0.15
#: So many times more galaxies stand beside others than elsewhere.
CLUSTERED = 3.5
BRIGHTEST = 15.0
#: Most sources in an image; the faintest are left out where there would be more.
MOST = 8


@dataclass
class LightImages(Batch):
    """Mock images of n galaxies with one number of pixels.

    Attributes
    ----------
    data : `torch.Tensor`
        Shape (n, band, ny, nx): flux per pixel in nJy, sky subtracted.
    noise : `torch.Tensor`
        Shape (n, band): standard deviation of the sky in a pixel, in nJy; 0 for images
        without noise.
    psf_fwhm : `torch.Tensor`
        Shape (n, band), in pixels; that of the survey, before pixels are binned.
    center : `torch.Tensor`
        Shape (n, 2): the galaxy's x and y in pixels.
    pixel_scale : `torch.Tensor`
        Shape (n,), in arcsec.
    redshift : `torch.Tensor`
        Shape (n,).
    survey : `torch.Tensor`
        Shape (n,): index into `~galml.mocks.surveys.IMAGING_SURVEYS`.
    bands : tuple of str
        Bands of the second axis of the data.
    truth : `~galml.mocks.ImageTruth`, optional
        Known of the galaxies, in images of `~galml.mocks.galaxy_images`.
    """

    data: torch.Tensor
    noise: torch.Tensor
    psf_fwhm: torch.Tensor
    center: torch.Tensor
    pixel_scale: torch.Tensor
    redshift: torch.Tensor
    survey: torch.Tensor
    bands: tuple
    truth: object = None


def observe_light(
    galaxy,
    light,
    survey,
    redshift,
    n_pixels,
    generator,
    *,
    bands,
    binning=1,
    noisy=True,
):
    """Take images of the stars of galaxies.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen, with s particles of stars.
    light : `torch.Tensor`
        Shape (n, s, bands): light of each particle of stars as it is seen at the
        redshift, see `~galml.mocks.starlight`.
    survey : `~galml.mocks.surveys.ImagingSurvey`
        Who takes the images.
    redshift : `torch.Tensor`
        Shape (n,): sets the distance (Planck 2018 cosmology).
    n_pixels : int
        Pixels along a side; even.
    generator : `torch.Generator`
        Source of all randomness.
    bands : sequence of str
        Bands of the light, out of those of the survey.
    binning : int
        Pixels of the survey along a side of a pixel of the image; they are summed.
    noisy : bool
        Whether to add other galaxies, stars, noise and an error of the sky level.

    Returns
    -------
    `LightImages`
        The images.

    Raises
    ------
    galml.core.InputError
        If the survey has no such band, or there are no stars.

    Notes
    -----
    Surface brightness fades with redshift as it must; colors are those of the light.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import IMAGING_SURVEYS, build_stars, draw_stars
    >>> from galml.mocks import observe_light, starlight
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> redshift = torch.tensor([0.03, 0.03])
    >>> light = starlight(galaxy, ("g", "r"), redshift)
    >>> images = observe_light(
    ...     galaxy, light, IMAGING_SURVEYS[0], redshift, 64, generator, bands=("g", "r")
    ... )
    >>> images.data.shape
    torch.Size([2, 2, 64, 64])
    """
    stars = galaxy.stars
    missing = set(bands) - set(survey.bands)
    if missing:
        raise InputError("bands", tuple(bands), f"bands of {survey.name}")
    n = len(redshift)
    scale = torch.full((n,), survey.pixel_scale * binning)
    chosen = [survey.bands.index(band) for band in bands]
    seeing, depth, sky = (
        torch.tensor(getattr(survey, key))[chosen] for key in ("seeing", "depth", "sky")
    )
    # A bad night is bad in all bands.
    draw = torch.randn(n, 1, generator=generator) + 0.3 * torch.randn(
        n, len(bands), generator=generator
    )
    fwhm = seeing * torch.exp(survey.spread * draw) / scale[:, None]
    shift = torch.rand(n, 2, generator=generator) - 0.5
    modulus, kpc = distance(redshift)
    solar = torch.tensor([SOLAR_MAGNITUDES[band] for band in bands])
    unit = AB_ZERO * 10 ** (-0.4 * (solar + modulus[:, None]))
    field = None
    if noisy:
        field = draw_field(n, n_pixels * scale, bands, depth, generator)
    # Light beyond the edge reaches into the image by the point spread function.
    size = n_pixels + n_pixels // 4
    box = _pixel_response(size) if binning > 1 else 1.0
    spacing = (
        particle_spacing(stars.position) if stars.spacing is None else stars.spacing
    )
    parts = []
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        pixel = (scale * kpc)[rows]
        place = stars.position[rows, :, :2] / pixel[:, None, None]
        place = place + shift[rows, None] + (size - 1) / 2
        width = SOFTENING * spacing[rows] / pixel[:, None]
        spectrum = _spectrum(place, light[rows] * unit[rows, None], width, size)
        if field is not None:
            few = {key: value[rows] for key, value in field.items()}
            spectrum += field_spectrum(few, scale[rows], size)
        spectrum *= _transfer(fwhm[rows], survey.moffat, size) * box
        parts.append(torch.fft.irfft2(spectrum, s=(size, size)))
    edge = (size - n_pixels) // 2
    inner = slice(edge, edge + n_pixels)
    data = torch.cat([part[..., inner, inner] for part in parts])
    noise = torch.zeros(n, len(bands))
    if noisy:
        depth = depth + DEPTH_SCATTER * torch.randn(n, len(bands), generator=generator)
        noise = scale[:, None] * sky_noise(seeing, depth, survey.moffat)
        level = AB_ZERO * 10 ** (-0.4 * sky) * scale[:, None] ** 2
        data = _add_noise(data, noise, level, generator)
    return LightImages(
        data=data,
        noise=noise,
        psf_fwhm=fwhm,
        center=(n_pixels - 1) / 2 + shift,
        pixel_scale=scale,
        redshift=redshift,
        survey=torch.full((n,), IMAGING_SURVEYS.index(survey)),
        bands=tuple(bands),
    )


def particle_spacing(position):
    """Measure the mean distance between particles by that of the nearest.

    Parameters
    ----------
    position : `torch.Tensor`
        Shape (n, p, 3); at least 9 particles.

    Returns
    -------
    `torch.Tensor`
        Shape (n, p), in the unit of position.
    """
    from scipy.spatial import cKDTree

    spacing = []
    for place in position.double().numpy():
        reach = cKDTree(place).query(place, k=[NEIGHBORS + 1])[0][:, 0]
        spacing.append(reach * (4 * math.pi / 3 / NEIGHBORS) ** (1 / 3))
    return torch.from_numpy(np.array(spacing)).float()


def sky_noise(fwhm, depth, moffat):
    """Find the noise of the sky that lets a survey reach its depth.

    Parameters
    ----------
    fwhm : `torch.Tensor`
        Of the point spread function, in arcsec.
    depth : `torch.Tensor`
        AB magnitude of a point source detected at 5 sigma by its best aperture.
    moffat : float
        Exponent of the point spread function.

    Returns
    -------
    `torch.Tensor`
        Standard deviation in nJy, over one square arcsec.
    """
    core2 = (fwhm / 2) ** 2 / (2 ** (1 / moffat) - 1)
    area = math.pi * core2 * (2 * moffat - 1) / (moffat - 1) ** 2
    return AB_ZERO * 10 ** (-0.4 * depth) / 5 / area.sqrt()


def _spectrum(place, flux, width, size):
    """Transform particles of given places, fluxes and widths in pixels."""
    n, n_bands = len(place), flux.shape[-1]
    edges = [math.sqrt(a * b) for a, b in zip(LEVELS[1:-1], LEVELS[2:], strict=True)]
    level = torch.bucketize(width, torch.tensor([0.5, *edges]))
    corner = place.floor()
    part = place - corner
    inside = ((corner >= 0) & (corner < size - 1)).all(-1)
    x, y = corner.long().unbind(-1)
    first = torch.where(inside, (level * size + y) * size + x, 0)
    flux = (flux * inside[..., None]).permute(2, 0, 1)
    image = torch.zeros(n_bands, n, len(LEVELS) * size**2)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = torch.where(torch.tensor(step) > 0, part, 1 - part).prod(-1)
        index = first + step[1] * size + step[0]
        for band in range(n_bands):
            image[band].scatter_add_(1, index, flux[band] * share)
    image = image.reshape(n_bands, n, len(LEVELS), size, size)
    ky, kx = frequencies(size)
    square = ky**2 + kx**2
    smooth = torch.stack([torch.exp(-2 * (math.pi * s) ** 2 * square) for s in LEVELS])
    # Particles were shared among four pixels: undo the width of that.
    smooth = smooth / _pixel_response(size) ** 2
    total = (torch.fft.rfft2(image) * smooth).sum(2)
    return total.transpose(0, 1)


def _pixel_response(size):
    """Evaluate the Fourier transform of a pixel, of shape (ky, kx)."""
    ky, kx = frequencies(size)
    return torch.sinc(ky) * torch.sinc(kx)


def _transfer(fwhm, moffat, size):
    """Evaluate the Fourier transform of Moffat profiles, shape (n, band, ky, kx)."""
    step, table = _moffat_table(moffat)
    ky, kx = frequencies(size)
    place = torch.hypot(ky, kx) * fwhm[..., None, None] / step
    place = place.clamp(max=len(table) - 1.001)
    index = place.long()
    low = table[index]
    return low + (place - index) * (table[index + 1] - low)


@cache
def _moffat_table(moffat, size=4096, largest=8.0):
    """Tabulate the transform of a Moffat profile by frequency in units of 1 / FWHM."""
    from scipy.special import gamma, kv

    core = 0.5 / math.sqrt(2 ** (1 / moffat) - 1)
    frequency = np.linspace(0, largest, size)
    x = 2 * math.pi * core * np.maximum(frequency, 1e-9)
    table = 2 / gamma(moffat - 1) * (x / 2) ** (moffat - 1) * kv(moffat - 1, x)
    return frequency[1], torch.from_numpy(table).float()


def _add_noise(data, noise, level, generator):
    """Add photon noise of sky and sources, and an error of the subtracted sky."""
    sigma, level = noise[..., None, None], level[..., None, None]
    error = SKY_ERROR * torch.randn(sigma.shape, generator=generator)
    variance = 1 + data.clamp_min(0) / level
    grain = torch.randn(data.shape, generator=generator)
    return data + sigma * (error + variance.sqrt() * grain)


def distance(redshift):
    """Find the distance modulus and the kpc in an arcsec (Planck 2018 cosmology).

    Parameters
    ----------
    redshift : `torch.Tensor`
        From 0.0001 to 1.5.

    Returns
    -------
    modulus, kpc : `torch.Tensor`
        Of the shape of redshift.
    """
    grid, modulus, kpc = _distance_table()
    z = redshift.clamp(grid[0], grid[-1]).numpy()
    return tuple(
        torch.as_tensor(np.interp(np.log(z), np.log(grid), column)).float()
        for column in (modulus, kpc)
    )


def redshift_of(kpc):
    """Find the redshift at which an arcsec is so many kpc; the inverse of `distance`.

    Parameters
    ----------
    kpc : `torch.Tensor`
        In an arcsec; beyond the largest, that of redshift 1.5 counts.

    Returns
    -------
    `torch.Tensor`
        Redshift.
    """
    grid, _, table = _distance_table()
    logarithm = np.interp(np.log(kpc.numpy()), np.log(table), np.log(grid))
    return torch.as_tensor(np.exp(logarithm)).float()


@cache
def _distance_table():
    from astropy.cosmology import Planck18

    grid = np.geomspace(1e-4, 1.5, 400)
    modulus = Planck18.distmod(grid).value
    kpc = Planck18.kpc_proper_per_arcmin(grid).value / 60
    return grid, modulus, kpc


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
    crowded = 20 + ((MOST / 2) / (CLUSTERED * GALAXIES * area)).log10() / GALAXY_SLOPE
    faint = faint.minimum(crowded).clamp_min(BRIGHTEST)
    galaxies = area * CLUSTERED * GALAXIES * 10 ** (GALAXY_SLOPE * (faint - 20))
    stars = area * STARS * 10 ** (STAR_SLOPE * (faint - 20))
    mean = galaxies + stars
    number = torch.poisson(mean, generator=generator)
    exists = torch.arange(MOST) < number[:, None]
    is_star = draw() < (stars / mean)[:, None]
    slope = torch.where(is_star, STAR_SLOPE, GALAXY_SLOPE)
    magnitude = (faint[:, None] + draw().log10() / slope).clamp_min(BRIGHTEST)
    # Colors follow one slope of magnitude with the logarithm of wavelength.
    color = -2.2 + 0.9 * torch.randn(n, MOST, 1, generator=generator)
    ratio = torch.tensor(
        [PIVOT_WAVELENGTHS[band] / PIVOT_WAVELENGTHS["r"] for band in bands]
    )
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
    r"""Transform the sources of a field, as they are before the telescope.

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
    center = (size - 1) / 2
    phase_x = torch.exp(-2j * math.pi * (x + center)[..., None] * kx[0])
    phase_y = torch.exp(-2j * math.pi * (y + center)[..., None] * ky[:, 0])
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
    """Lay out the frequencies of a real Fourier transform, in cycles per pixel.

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
