# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Point spread functions of Hubble and Webb, from their mirrors to drizzled pixels.

Light passes a pupil with a wavefront that is not quite flat, spreads in the detector,
and is summed by its pixels and by the drops and pixels of a drizzled image (Fruchter &
Hook 2002, PASP 114, 144). The transfer function of a pupil is its autocorrelation
(Goodman 2005, Introduction to Fourier Optics). No calibration files are needed.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from galml.mocks.images import frequencies
from galml.physics.seeds import generator_for

__all__ = [
    "DEEP_FILTERS",
    "DeepFilter",
    "draw_transfer",
    "noise_response",
    "optical_transfer",
    "profile_fwhm",
    "pupil",
    "space_transfer",
    "wavefront_modes",
]

#: Samples of a pupil along its diameter.
SAMPLES = 128
#: Wavelengths of a band, and wavefronts of a telescope that images choose from.
WAVELENGTHS, WAVEFRONTS = 5, 16
ARCSEC = math.pi / 180 / 3600
#: Diameter in m; mean and scatter in nm (rms over the pupil) of the first modes of
#: `wavefront_modes`: defocus, astigmatism (two), coma (two), spherical. Those of Hubble
#: are fitted to point spread functions of ACS; Webb's add up to 75 nm (Rigby et al.
#: 2023, PASP 135, 048001).
TELESCOPES = {
    "HST": (2.4, (0.0, 0.0, -30.0, 0.0, -8.0, 18.0), (10.0, 8.0, 10.0, 5.0, 6.0, 3.0)),
    "JWST": (6.5, (0.0,) * 6, (30.0,) * 6),
}


@dataclass(frozen=True)
class DeepFilter:
    """A band of a camera in space, and how its mosaics are made.

    Parameters
    ----------
    name : str
        Name of the band.
    telescope : str
        "HST" or "JWST".
    edges : tuple of float
        Wavelengths of half the transmission, in micron.
    pixel_scale : float
        Side of a pixel of the mosaic, in arcsec.
    native : float
        Side of a pixel of the detector, in arcsec.
    pixfrac : float
        Side of the drops that are drizzled, in pixels of the detector.
    blur : float
        Standard deviation, in arcsec, of the spread by jitter and in the detector.
    aperture : float
        Radius, in arcsec, of the apertures in which depths are given.
    sky : float
        Brightness of the sky, in AB mag per square arcsec.
    """

    name: str
    telescope: str
    edges: tuple
    pixel_scale: float
    native: float
    pixfrac: float
    blur: float
    aperture: float
    sky: float


#: ACS and WFC3 as in CANDELS (Koekemoer et al. 2011, ApJS 197, 36), NIRCam as in CEERS
#: (Bagley et al. 2023, ApJL 946, L12). Drops and blur of ACS are fitted to the noise of
#: AEGIS and to point spread functions of COSMOS. Pixels of WFC3 and NIRCam share charge
#: with their neighbors.
DEEP_FILTERS = {
    one.name: one
    for one in (
        DeepFilter("F814W", "HST", (0.70, 0.93), 0.03, 0.05, 0.93, 0.029, 0.09, 22.3),
        DeepFilter("F125W", "HST", (1.10, 1.40), 0.06, 0.128, 0.8, 0.022, 0.17, 22.4),
        DeepFilter("F160W", "HST", (1.40, 1.69), 0.06, 0.128, 0.8, 0.022, 0.17, 22.4),
        DeepFilter("F200W", "JWST", (1.755, 2.227), 0.03, 0.031, 1.0, 0.008, 0.1, 22.5),
    )
}


@cache
def pupil(telescope, samples=SAMPLES):
    """Draw the light that a telescope lets through.

    Parameters
    ----------
    telescope : {"HST", "JWST"}
        Hubble: a ring around the secondary mirror, of a third of the diameter, and
        its four vanes. Webb: 18 hexagons of 1.32 m across and three struts.
    samples : int
        Samples along the diameter.

    Returns
    -------
    `torch.Tensor`
        Shape (samples, samples): 0 to 1, x to the right and y up.
    """
    # Edges are soft as samples of 5 x 5 finer ones.
    fine = 5 * samples
    grid = (torch.arange(fine) + 0.5) / fine * 2 - 1
    y, x = grid[:, None], grid[None, :]
    if telescope == "HST":
        radius = torch.hypot(x, y)
        open_ = (radius < 1) & (radius > 0.33)
        # Vanes stand at 45 degrees to the axes of ACS and WFC3.
        for across in (x - y, x + y):
            open_ &= across.abs() / math.sqrt(2) > 0.011
    else:
        x, y = 3.25 * x, 3.25 * y
        open_ = torch.zeros(fine, fine, dtype=torch.bool)
        step = 1.32 + 0.007
        for q in range(-2, 3):
            for r in range(-2, 3):
                if abs(q + r) > 2 or q == r == 0:
                    continue
                u, v = x - step * (q + r / 2), y - step * r * math.sqrt(0.75)
                sides = [
                    (u * math.cos(a) + v * math.sin(a)).abs() < 0.66
                    for a in (0, math.pi / 3, 2 * math.pi / 3)
                ]
                open_ |= sides[0] & sides[1] & sides[2]
        for angle in (90, 240, 300):
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            open_ &= ~(((x * s - y * c).abs() < 0.06) & (x * c + y * s > 0))
    return F.avg_pool2d(open_.float()[None, None], 5)[0, 0]


@cache
def wavefront_modes(samples=SAMPLES):
    """Evaluate defocus, astigmatism, coma and spherical aberration (Noll 1976).

    Parameters
    ----------
    samples : int
        Samples along the diameter.

    Returns
    -------
    `torch.Tensor`
        Shape (6, samples, samples): Zernike polynomials of unit rms over the circle.
    """
    grid = (torch.arange(samples) + 0.5) / samples * 2 - 1
    y, x = grid[:, None], grid[None, :]
    square = x**2 + y**2
    modes = (
        math.sqrt(3) * (2 * square - 1),
        2 * math.sqrt(6) * x * y,
        math.sqrt(6) * (x**2 - y**2),
        math.sqrt(8) * (3 * square - 2) * y,
        math.sqrt(8) * (3 * square - 2) * x,
        math.sqrt(5) * (6 * square**2 - 6 * square + 1),
    )
    return torch.stack([mode.expand(samples, samples) for mode in modes])


def optical_transfer(band, wavefront):
    """Find how a telescope passes on detail, over all wavelengths of a band.

    Parameters
    ----------
    band : `DeepFilter`
        The band.
    wavefront : `torch.Tensor`
        Shape (n, 6), in nm: of the `wavefront_modes`.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 2, k, k): real and imaginary part by frequency; the middle has
        frequency 0, the edges that of the diameter over the shortest wavelength.
    """
    light = pupil(band.telescope)
    shortest, longest = band.edges
    pivot = math.sqrt(shortest * longest)
    path = torch.einsum("nm,myx->nyx", wavefront, wavefront_modes())
    field = light * torch.exp(2j * math.pi * path / (1e3 * pivot))
    size = 2 * SAMPLES
    power = torch.fft.fft2(field, s=(size, size)).abs().square()
    single = torch.fft.fftshift(torch.fft.ifft2(power), dim=(-2, -1))
    # The frequency of minus the diameter, which is that of plus the diameter.
    single = F.pad(torch.view_as_real(single).permute(0, 3, 1, 2), (0, 1, 0, 1))
    total = 0
    for wavelength in torch.linspace(shortest, longest, WAVELENGTHS):
        stretch = torch.eye(2, 3) * (wavelength / shortest)
        grid = F.affine_grid(
            stretch.expand(len(single), 2, 3), single.shape, align_corners=True
        )
        total = total + _sample(single, grid)
    # Light that edges throw further than the samples resolve is lost.
    kept = light.square().sum() / light.sum()
    return total / total[:, :1, SAMPLES, SAMPLES, None, None] * kept


def _sample(image, grid):
    return F.grid_sample(image, grid, mode="bicubic", align_corners=True)


@cache
def _bank(name):
    """Transfer functions of the wavefronts that images choose from."""
    band = DEEP_FILTERS[name]
    _, mean, scatter = TELESCOPES[band.telescope]
    generator = generator_for(0, "wavefronts")
    draw = torch.randn(WAVEFRONTS, len(mean), generator=generator)
    return optical_transfer(band, torch.tensor(mean) + draw * torch.tensor(scatter))


def space_transfer(band, size, angle, transfer):
    """Evaluate the Fourier transform of point spread functions, pixels included.

    Parameters
    ----------
    band : `DeepFilter`
        The band.
    size : int
        Pixels along a side of the images.
    angle : `torch.Tensor`
        Shape (n,): by which the telescope is turned counter-clockwise, in radians.
    transfer : `torch.Tensor`
        Shape (n, 2, k, k): that of the `optical_transfer`.

    Returns
    -------
    `torch.Tensor`
        Complex, of shape (n, size, size // 2 + 1), for images of flux per pixel.
    """
    ky, kx = frequencies(size)
    diameter = TELESCOPES[band.telescope][0]
    # Frequencies in units of the largest in the table.
    largest = diameter / (1e-6 * band.edges[0]) * ARCSEC * band.pixel_scale
    c, s = angle.cos()[:, None, None] / largest, angle.sin()[:, None, None] / largest
    grid = torch.stack([c * kx + s * ky, c * ky - s * kx], -1)
    parts = _sample(transfer, grid).permute(0, 2, 3, 1).contiguous()
    width = 2 * (math.pi * band.blur / band.pixel_scale) ** 2
    native = band.native / band.pixel_scale
    detector = torch.exp(-width * (kx**2 + ky**2)) * _box(native, size)
    drop = _box(band.pixfrac * native, size) * _box(1.0, size)
    return torch.view_as_complex(parts) * detector * drop


def draw_transfer(bands, size, angle, generator):
    """Draw point spread functions, with one wavefront of a telescope in all bands.

    Parameters
    ----------
    bands : sequence of `DeepFilter`
        Bands of one telescope.
    size : int
        Pixels along a side of the images.
    angle : `torch.Tensor`
        Shape (n,): by which the telescope is turned counter-clockwise, in radians.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `torch.Tensor`
        Complex, of shape (n, bands, size, size // 2 + 1): that of `space_transfer`.
    """
    chosen = torch.randint(WAVEFRONTS, (len(angle),), generator=generator)
    parts = [space_transfer(b, size, angle, _bank(b.name)[chosen]) for b in bands]
    return torch.stack(parts, 1)


def profile_fwhm(transfer):
    """Measure the FWHM of point spread functions, averaged over directions.

    Parameters
    ----------
    transfer : `torch.Tensor`
        Complex, of shape (..., size, size // 2 + 1): that of `space_transfer`.

    Returns
    -------
    `torch.Tensor`
        Shape (...), in pixels, up to 10.
    """
    radius, waves = _waves(transfer.shape[-2])
    profile = torch.einsum("...yx,yxr->...r", transfer.real, waves)
    ratio = profile / profile[..., :1]
    last = (ratio > 0.5).to(torch.uint8).cumprod(-1).sum(-1, keepdim=True) - 1
    last = last.clamp(max=len(radius) - 2)
    above, below = (ratio.gather(-1, i)[..., 0] for i in (last, last + 1))
    part = ((above - 0.5) / (above - below)).clamp(max=1)
    return 2 * radius[1] * (last[..., 0] + part)


@cache
def _waves(size):
    """Evaluate what each frequency adds at some radii, on average over directions."""
    ky, kx = frequencies(size)
    radius = torch.linspace(0, 5, 101)
    frequency = torch.hypot(ky, kx)[..., None]
    waves = torch.special.bessel_j0(2 * math.pi * frequency * radius)
    # Frequencies of both signs along x, of which the transform holds one.
    waves[:, 1 : (size + 1) // 2] *= 2
    return radius, waves


def noise_response(band, size):
    """Evaluate how drizzling dampens noise that was white in the detector.

    The noise of one pixel is below that of large areas by the factor of Casertano et
    al. (2000, AJ 120, 2747), :math:`r / (1 - 1 / (3 r))` for drops of r > 1 pixels.

    Parameters
    ----------
    band : `DeepFilter`
        The band.
    size : int
        Pixels along a side of the image.

    Returns
    -------
    `torch.Tensor`
        Shape (size, size // 2 + 1): square root of the power, 1 at frequency 0, with
        the frequencies that fold back as an image is sampled in pixels.
    """
    drop = band.pixfrac * band.native / band.pixel_scale
    folds = torch.arange(-3, 4)
    parts = [
        (torch.sinc(drop * (k + folds)) * torch.sinc(k + folds)).square().sum(-1)
        for k in (axis.flatten()[:, None] for axis in frequencies(size))
    ]
    return (parts[0][:, None] * parts[1]).sqrt()


def _box(width, size):
    """Evaluate the Fourier transform of a square of a width in pixels."""
    ky, kx = frequencies(size)
    return torch.sinc(width * ky) * torch.sinc(width * kx)
