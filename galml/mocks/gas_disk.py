# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The cold gas of galaxies of stars: a thin disk in the gravity of the whole.

Its surface density is exponential, longer than that of the stars (Bigiel & Blitz 2012,
ApJ 756, 183: 0.61 of the optical radius, which is 3.1 scale lengths of a disk of
Freeman's surface brightness), and its dispersion that of H I and CO (11.7 and 7.3 km/s,
Mogotsi et al. 2016, AJ 151, 15). Its height and its rotation follow from these: the
pressure of the dispersion holds it up, and carries a small part of it (asymmetric
drift). Gas has no weight.
"""

import math

import torch

from galml.mocks import dynamics
from galml.mocks.profiles import disk_mass, interpolate, radius_table, table_place

__all__ = ["GAS_EDGE", "GAS_LENGTH", "GAS_PARAMETERS", "build_gas_disk"]

#: Names of the parameters of a gas disk.
GAS_PARAMETERS = ("gas_mass", "gas_length", "gas_dispersion")
#: Typical scale length of the gas in those of the disk of stars, its scatter in the
#: natural logarithm, and where it ends, in scale lengths of its own.
GAS_LENGTH, LENGTH_SCATTER, GAS_EDGE = 1.9, 0.2, 4.0
#: Typical dispersion in km/s, and its scatter in the natural logarithm.
GAS_DISPERSION, DISPERSION_SCATTER = 10.0, 0.2
# Increments of the two-dimensional sequence of lowest discrepancy.
GOLDEN = (0.7548776662466927, 0.5698402909980532)


def gas_parameters(log_mass, disk_length, noise):
    """Find mass, length and dispersion of gas disks.

    Parameters
    ----------
    log_mass : `torch.Tensor`
        Shape (n,): log10 of the gas in solar masses.
    disk_length : `torch.Tensor`
        Shape (n,): scale length of the disk of stars, in kpc.
    noise : `torch.Tensor`
        Shape (2, n): standard normal numbers.

    Returns
    -------
    dict of str to `torch.Tensor`
        Of shape (n,): ``gas_mass`` (solar masses), ``gas_length`` (kpc),
        ``gas_dispersion`` (km/s).
    """
    length, dispersion = noise.clamp(-2.5, 2.5)
    return {
        "gas_mass": 10**log_mass,
        "gas_length": disk_length * GAS_LENGTH * torch.exp(LENGTH_SCATTER * length),
        "gas_dispersion": GAS_DISPERSION * torch.exp(DISPERSION_SCATTER * dispersion),
    }


def build_gas_disk(p, gravity, surface, n_gas, shift, wind=None):
    """Turn the parameters of gas disks into particles, face-on, spinning about +z.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Of shape (n,): ``size`` in kpc, and the names of `GAS_PARAMETERS`.
    gravity : tuple of `torch.Tensor`
        Squared circular speeds of everything and of all but the disks, of shape (n, m)
        on `~galml.mocks.dynamics.radius_grid` of the size.
    surface : `torch.Tensor`
        Shape (n, m): surface density of the disks of stars, in solar masses per kpc^2.
    n_gas : int
        Number of particles of each galaxy.
    shift : `torch.Tensor`
        Shape (n, 2): random numbers between 0 and 1, where the sequences of azimuths
        and heights start.
    wind : callable, optional
        Takes radii (kpc) and azimuths of shape (n, n_gas), and gives azimuths that are
        drawn to spiral arms.

    Returns
    -------
    position, velocity, mass, dispersion, spacing : `torch.Tensor`
        As the parameters of `~galml.mocks.Galaxy`, with isotropic dispersions of shape
        (n, n_gas).
    """
    n, count = len(shift), n_gas
    length, sigma = p["gas_length"][:, None], p["gas_dispersion"][:, None]
    grid = dynamics.radius_grid(p["size"])
    table = dynamics.gas_motions(grid, *gravity, surface, length, sigma)
    steps = torch.arange(count).double() * torch.tensor(GOLDEN).double()[:, None]
    azimuth, level = ((steps % 1).float() + shift[..., None]).remainder(1).unbind(1)
    row = torch.arange(n)[:, None].expand(n, count)
    inside = (torch.arange(count) + 0.5) / count * disk_mass(torch.tensor(GAS_EDGE))
    radius = interpolate(
        radius_table(), torch.zeros(count, dtype=torch.long), table_place(inside)
    )
    radius = radius[:, 0].exp() * length
    azimuth = 2 * math.pi * azimuth
    if wind is not None:
        azimuth = wind(radius, azimuth)
    place = dynamics.grid_place(radius, p["size"][:, None])
    motions = interpolate(table, row.flatten(), place.flatten()).unflatten(
        0, (n, count)
    )
    rotation, height = motions.unbind(-1)
    level = level.clamp(1e-6, 1 - 1e-6)
    z = 0.5 * height * torch.logit(level)
    cosine, sine = azimuth.cos(), azimuth.sin()
    surface = torch.exp(-radius / length) / (2 * math.pi * length**2)
    density = count * surface / (2 * height) / torch.cosh(z / height) ** 2
    return (
        torch.stack([radius * cosine, radius * sine, z], -1),
        torch.stack([-rotation * sine, rotation * cosine, torch.zeros_like(z)], -1),
        (p["gas_mass"] / count)[:, None].expand(n, count),
        sigma.expand(n, count),
        density.clamp_min(1e-9).pow(-1 / 3),
    )
