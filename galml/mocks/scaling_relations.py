# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Relations between the mass of a galaxy and the rest of it, as published.

All take log10 of the stellar mass in solar masses as a `torch.Tensor`, unless they say
so, and give a tensor of the same shape.
"""

import math

import numpy as np
import torch

from galml.mocks.dynamics import GRAVITY

__all__ = [
    "HUBBLE",
    "concentration",
    "gas_mass",
    "half_light_radius",
    "halo_mass",
    "iron_of_dwarfs",
    "kinematic_width",
    "light_weighted_age",
    "mass_metallicity",
    "metallicity",
    "size_scatter",
    "thick_to_thin",
    "tully_fisher",
    "virial_radius",
]

#: Hubble constant, in km/s/kpc (Planck Collaboration 2020).
HUBBLE = 0.0677
#: Gallazzi et al. (2005), table 2: log10 of mass, median [M/H], log10 of age in yr.
GALLAZZI = torch.tensor(
    [
        [8.91, -0.60, 9.06],
        [9.11, -0.61, 9.09],
        [9.31, -0.65, 9.11],
        [9.51, -0.61, 9.17],
        [9.72, -0.52, 9.23],
        [9.91, -0.41, 9.33],
        [10.11, -0.23, 9.46],
        [10.31, -0.11, 9.60],
        [10.51, -0.01, 9.70],
        [10.72, 0.04, 9.75],
        [10.91, 0.07, 9.80],
        [11.11, 0.10, 9.82],
    ]
)


def _interpolate(value, grid, table):
    """Interpolate in a table, constant beyond its ends."""
    found = np.interp(value.numpy(), np.asarray(grid), np.asarray(table))
    return torch.from_numpy(np.asarray(found)).to(value.dtype)


def half_light_radius(mass, early=False):
    """Find log10 of the half-light radius in kpc.

    Shen et al. (2003), MNRAS 343, 978, equations 17 and 18.
    """
    if early:
        return math.log10(2.88e-6) + 0.56 * mass
    return -1 + 0.14 * mass + 0.25 * torch.log10(1 + 10**mass / 3.98e10)


def size_scatter(mass):
    """Find the scatter of `half_light_radius` in dex, the same for both types.

    Shen et al. (2003), equation 19: 0.20 in dwarfs, 0.15 in giants.
    """
    return (0.34 + 0.13 / (1 + (10**mass / 3.98e10) ** 2)) / math.log(10)


def tully_fisher(mass):
    """Find log10 of the circular speed in km/s at 80 % of the light, above 1e9.

    Reyes et al. (2011), MNRAS 417, 2347; the scatter is 0.05 dex.
    """
    return 2.142 + 0.278 * (mass - 10.102)


def kinematic_width(mass):
    """Find log10 of (V^2 / 2 + sigma^2)^(1/2) in km/s.

    Kassin et al. (2007), ApJ 660, L35; the scatter is 0.16 dex.
    """
    return 1.89 + 0.34 * (mass - 10)


def halo_mass(mass):
    """Find log10 of the halo's mass inside 200 critical densities.

    The relation of Moster, Naab & White (2013), MNRAS 428, 3121, at redshift 0,
    inverted.
    """
    halo = np.linspace(9, 16, 1401)
    ratio = 10 ** (halo - 11.59)
    stars = halo + np.log10(2 * 0.0351 / (ratio**-1.376 + ratio**0.608))
    return _interpolate(mass, stars, halo)


def concentration(halo):
    """Find log10 of the halo's concentration by log10 of its mass.

    Dutton & Maccio (2014), MNRAS 441, 3359; the scatter is 0.11 dex.
    """
    return 0.905 - 0.101 * (halo - 12 + math.log10(HUBBLE * 10))


def virial_radius(halo):
    """Find the radius in kpc of 200 critical densities by log10 of the halo's mass."""
    return (GRAVITY * 10**halo / (100 * HUBBLE**2)) ** (1 / 3)


def iron_of_dwarfs(mass):
    """Find the mean [Fe/H] of dwarfs, from 3e3 to 1e9 solar masses.

    Kirby et al. (2013), ApJ 779, 102; the scatter is 0.17 dex.
    """
    return -1.69 + 0.30 * (mass - 6)


def metallicity(mass):
    """Find the median [M/H] of the stars, above 1e9.

    Gallazzi et al. (2005), MNRAS 362, 41.
    """
    return _interpolate(mass, GALLAZZI[:, 0], GALLAZZI[:, 1])


def light_weighted_age(mass):
    """Find log10 of the age in Gyr weighted by light in r (Gallazzi et al. 2005)."""
    return _interpolate(mass, GALLAZZI[:, 0], GALLAZZI[:, 2]) - 9


def mass_metallicity(mass):
    """Find the mean [M/H], smooth from `iron_of_dwarfs` to `metallicity` of giants."""
    share = torch.sigmoid((mass - 9.3) / 0.2)
    # A smooth form of Gallazzi's table.
    giants = -0.64 + 0.75 * torch.sigmoid((mass - 10.05) / 0.22)
    return (1 - share) * iron_of_dwarfs(mass) + share * giants


def thick_to_thin(mass):
    """Find the stellar mass of the thick over the thin disk.

    In inverse proportion to the speed of `tully_fisher`: as much in dwarfs, a quarter
    in giants (Yoachim & Dalcanton 2006, AJ 131, 226; Comeron, Salo & Knapen 2018, A&A
    610, A5).
    """
    return 0.53 * 10 ** (2 - tully_fisher(mass))


def gas_mass(mass):
    """Find log10 of the mass of cold gas of galaxies that form stars.

    H I by luminosity at 3.6 micron (Lelli, McGaugh & Schombert 2016, AJ 152, 157), with
    their mass-to-light ratio of 0.5 and a third more for helium; the scatter is 0.35
    dex.
    """
    luminosity = mass - math.log10(0.5)
    return 3.90 + 0.54 * luminosity + math.log10(4 / 3)
