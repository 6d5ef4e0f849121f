# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies through an integral-field spectrograph, and the spin that it measures."""

from dataclasses import dataclass, replace

import torch

from galml.mocks.galaxy import Batch
from galml.mocks.gas_map import project
from galml.physics.kinematics import lambda_sums

__all__ = [
    "MANGA_BEAM",
    "Shape",
    "SpinTruth",
    "aperture_maps",
    "half_light_ellipse",
    "manga_beam",
    "measure_spin",
    "observe_ifu",
    "spin_truth",
]

#: FWHM of MaNGA's reconstructed beam, in arcsec (Law et al. 2016, AJ 152, 83).
MANGA_BEAM = 2.5
#: Pixels in a half-light radius of the maps that the truth is measured on.
PIXELS = 12
#: The maps reach to this many half-light radii without a beam, and with one.
REACH, REACH_BEAM = 1.1, 2.0
# Radii of the histogram of light, in units of a rough size: logarithmic.
N_RADII, LOWEST, HIGHEST = 256, -3.5, 3.5


@dataclass
class Shape(Batch):
    """Half-light ellipses of n galaxies; every tensor has shape (n,).

    Attributes
    ----------
    r_eff : `torch.Tensor`
        Semi-major axis in kpc.
    ellipticity : `torch.Tensor`
        From the moments of the light inside the ellipse.
    position_angle : `torch.Tensor`
        Of the major axis in degrees, counter-clockwise from +y, 0 to 180.
    """

    r_eff: torch.Tensor
    ellipticity: torch.Tensor
    position_angle: torch.Tensor

    def radius(self, x, y):
        """Find the semi-major axis of the ellipse through (x, y), of shape (n, ...)."""
        angle, ratio = self._oriented(x)
        major = -x * angle.sin() + y * angle.cos()
        minor = x * angle.cos() + y * angle.sin()
        return torch.hypot(major, minor / ratio)

    def _oriented(self, like):
        shape = (-1,) + (1,) * (like.dim() - 1)
        angle = torch.deg2rad(self.position_angle).reshape(shape)
        return angle, (1 - self.ellipticity).reshape(shape)


@dataclass
class SpinTruth(Shape):
    """Truth about the spin of n galaxies seen from one side.

    Attributes
    ----------
    spin : `torch.Tensor`
        Shape (n,): light-weighted lambda_R inside the half-light ellipse, where R is
        the semi-major axis of the ellipse through a pixel; as seen without a beam.
    spin_beam : `torch.Tensor`
        Shape (n,): the same through the beam, inside the same ellipse.
    """

    spin: torch.Tensor
    spin_beam: torch.Tensor


def observe_ifu(galaxy, light, half_width_kpc, n_pixels, beam=None):
    """Map light, velocity and dispersion of the stars of galaxies.

    In a galaxy of gas alone, it is the gas that is mapped.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    light : `torch.Tensor`
        Shape (n, s): light of each particle of stars, in any unit.
    half_width_kpc : `torch.Tensor`
        Shape (n,): half the side of the square maps.
    n_pixels : int
        Pixels along a side.
    beam : `torch.Tensor`, optional
        Shape (n,): FWHM of a Gaussian beam in kpc. None by default.

    Returns
    -------
    flux, velocity, dispersion : `torch.Tensor`
        Shape (n, n_pixels, n_pixels): light per pixel, and light-weighted mean and
        dispersion of the line-of-sight velocity in km/s; NaN without light.
    """
    if beam is None:
        beam = torch.zeros_like(half_width_kpc)
    pixels = beam * n_pixels / (2 * half_width_kpc)
    return project(_shining(galaxy), light, n_pixels, half_width_kpc, pixels)


def _shining(galaxy):
    """Choose the particles that an IFU sees: stars, or gas where there are none."""
    return galaxy.stars if galaxy.n_stars else galaxy


def half_light_ellipse(galaxy, light, iterations=8):
    """Find the ellipses that hold half the light.

    The shape is that of the second moments of the light inside the ellipse, in
    iteration, about the galaxy's center.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    light : `torch.Tensor`
        Shape (n, s): light of each particle of stars.
    iterations : int
        Number of iterations.

    Returns
    -------
    `Shape`
        The ellipses.

    Notes
    -----
    A step takes an ellipse only about half of the way to its final shape, so that
    every step is doubled. Ellipticities are then within 0.001 (median; 95 %: 0.005) of
    those of any number of iterations.
    """
    x, y, _ = _shining(galaxy).position.unbind(-1)
    zero = torch.zeros(len(light))
    shape = Shape(zero + 1, zero, zero)
    # Length (1 - q) / (1 + q) of the axis ratio q, at twice the angle from +y.
    flattening = torch.zeros(len(light), 2)
    for i in range(iterations):
        radius = shape.radius(x, y)
        r_eff = _half_radius(radius, light)
        weight = light * (radius <= r_eff[:, None])
        xx, yy, xy = ((weight * v).sum(1) for v in (x * x, y * y, x * y))
        across = torch.stack([yy - xx, -2 * xy], 1)
        difference = torch.linalg.vector_norm(across, dim=1)
        ratio2 = (xx + yy - difference) / (xx + yy + difference)
        ratio = ratio2.clamp(1e-4, 1).sqrt()
        length = (1 - ratio) / (1 + ratio) / difference.clamp_min(1e-30)
        step = length[:, None] * across - flattening
        flattening = flattening + (2 * step if i < iterations - 1 else step)
        length = torch.linalg.vector_norm(flattening, dim=1).clamp(max=0.98)
        flattening = torch.nn.functional.normalize(flattening, dim=1) * length[:, None]
        angle = 0.5 * torch.rad2deg(torch.atan2(*flattening.flip(1).unbind(1)))
        shape = Shape(r_eff, 1 - (1 - length) / (1 + length), angle % 180)
    shape.r_eff = _half_radius(shape.radius(x, y), light)
    return shape


def _half_radius(radius, light):
    """Find the radius that holds half the light, from a histogram in its logarithm."""
    logarithm = radius.clamp_min(1e-6).log10()
    place = ((logarithm - LOWEST) / (HIGHEST - LOWEST) * N_RADII).clamp(0, N_RADII - 1)
    bins = torch.zeros(len(light), N_RADII).scatter_add_(1, place.long(), light)
    total = bins.cumsum(1)
    half = total[:, -1:] / 2
    at = (total < half).sum(1, keepdim=True)
    content = bins.gather(1, at)
    part = 1 - (total.gather(1, at) - half) / content.clamp_min(1e-30)
    return 10 ** (LOWEST + (at + part)[:, 0] * (HIGHEST - LOWEST) / N_RADII)


def aperture_maps(galaxy, light, shape, beam=None):
    """Map galaxies on fine pixels, to a bit more than their half-light ellipse.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    light : `torch.Tensor`
        Shape (n, s): light of each particle of stars.
    shape : `Shape`
        Half-light ellipses.
    beam : `torch.Tensor`, optional
        Shape (n,): FWHM of the beam in half-light radii.

    Returns
    -------
    flux, velocity, dispersion : `torch.Tensor`
        Shape (n, ny, nx), see `observe_ifu`.
    x, y : `torch.Tensor`
        Shape (n, ny, nx): place of the pixels in kpc.
    """
    reach = REACH if beam is None else REACH_BEAM
    # An odd number: the middle row crosses even the thinnest ellipse.
    n_pixels = 2 * round(reach * PIXELS) + 1
    extent = reach * shape.r_eff
    width = None if beam is None else beam * shape.r_eff
    maps = observe_ifu(galaxy, light, extent, n_pixels, width)
    grid = (torch.arange(n_pixels) + 0.5) * (2 / n_pixels) - 1
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    extent = extent[:, None, None]
    return *maps, x * extent, y * extent


def measure_spin(galaxy, light, shape, beam=None):
    """Measure lambda_R inside given ellipses.

    R is the semi-major axis of the ellipse through a pixel (van de Sande et al. 2017,
    ApJ 835, 104).

    Parameters
    ----------
    galaxy, light, shape, beam
        As for `aperture_maps`.

    Returns
    -------
    `torch.Tensor`
        Shape (n,).
    """
    flux, velocity, dispersion, x, y = aperture_maps(galaxy, light, shape, beam)
    radius = shape.radius(x, y)
    inside = (radius <= shape.r_eff[:, None, None]) & torch.isfinite(velocity)
    return lambda_sums(flux, velocity, dispersion, radius, inside, (1, 2))[0]


def manga_beam(n, generator):
    """Draw MaNGA's beam, FWHM in half-light radii, as its galaxies have it.

    Half-light radii are around 5 arcsec, within a factor of 1.6, of the 2 to 12 arcsec
    that the bundles are made for (Wake et al. 2017, AJ 154, 86).

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `torch.Tensor`
        Shape (n,).
    """
    r_eff = 5 * 10 ** (0.2 * torch.randn(n, generator=generator))
    return MANGA_BEAM / r_eff.clamp(2, 12)


def spin_truth(galaxy, light, beam):
    """Measure the spin of galaxies, with and without a beam.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    light : `torch.Tensor`
        Shape (n, s): light of each particle of stars.
    beam : `torch.Tensor`
        Shape (n,): FWHM of the beam in half-light radii, as `manga_beam` draws it.

    Returns
    -------
    `SpinTruth`
        Spin, and the half-light ellipse that it is measured in.
    """
    seen = _shining(galaxy)
    # Both maps see the same dispersions: those along the line of sight.
    seen = replace(seen, dispersion=seen.line_of_sight_dispersion())
    shape = half_light_ellipse(seen, light)
    return SpinTruth(
        spin=measure_spin(seen, light, shape),
        spin_beam=measure_spin(seen, light, shape, beam),
        **vars(shape),
    )
