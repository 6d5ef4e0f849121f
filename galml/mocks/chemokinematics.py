# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Places and motions of the stars of disks, bulge and halo.

Disks are as hot as their height demands (isothermal sheets in the field of bulge and
halo), rotate slower than the circular speed by asymmetric drift, and warm up with age.
The bulge obeys the axisymmetric Jeans equations, the halo those of a sphere.
"""

import math

import torch

from galml.mocks import star_dynamics as dynamics
from galml.mocks.chemistry import THICK
from galml.mocks.chemodynamic_recipe import THICK_LENGTH
from galml.mocks.star_profiles import (
    interpolate,
    radius_table,
    spheroid_mass,
    table_place,
)

__all__ = ["bulge_stars", "disk_stars", "gravity", "halo_stars", "heating"]

#: Dispersions grow as a power of age + 0.1 Gyr, radial and vertical ones, and are given
#: at 10 Gyr (Sharma et al. 2021, MNRAS 506, 1761).
RADIAL_POWER, VERTICAL_POWER = 0.251, 0.441
#: 1 - (tangential over radial dispersion)^2 of the stellar halo, and how far it
#: reaches in its scale radii.
HALO_ANISOTROPY, HALO_EDGE = 0.4, 20.0


def gravity(p):
    """Squared circular speed in the plane, of stars and dark halo.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, see `~galml.mocks.draw_star_galaxies`.

    Returns
    -------
    radius, total, smooth : `torch.Tensor`
        Shape (n, m): radii in kpc; squared speeds in (km/s)^2 of everything, and of
        all but the disks.
    """
    radius = dynamics.radius_grid(p["size"])
    thin, thick, bulge, halo = (10 ** p["log_mass"] * p["fraction"].T)[..., None]
    length, scale = p["disk_length"][:, None], p["halo_scale"][:, None]
    disk = dynamics.disk_speed2(radius, thin, length)
    disk = disk + dynamics.disk_speed2(radius, thick, THICK_LENGTH * length)
    mass = bulge * spheroid_mass(
        radius / p["spheroid_radius"][:, None], p["sersic_index"][:, None]
    )
    mass = mass + halo * (radius / (radius + scale)) ** 2
    share = dynamics.nfw_mass(radius / p["dark_radius"][:, None])
    whole = dynamics.nfw_mass(p["concentration"])[:, None]
    mass = mass + 10 ** p["dark_mass"][:, None] * share / whole
    smooth = dynamics.GRAVITY * mass / radius
    return radius, smooth + disk, smooth


def heating(age, power):
    """Dispersion of thin disk stars of an age over that at 10 Gyr."""
    return ((age + 0.1) / 10.1) ** power


def disk_stars(p, row, component, age, u, noise, field):
    """Stars of thin and thick disks.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies.
    row, component : `torch.Tensor`
        Shape (N,), integer: galaxy and component of each star.
    age : `torch.Tensor`
        Shape (N,), in Gyr.
    u, noise : `torch.Tensor`
        Shape (3, N): even numbers between 0 and 1, and standard normal ones.
    field : tuple of `torch.Tensor`
        What `gravity` gives.

    Returns
    -------
    `torch.Tensor`
        Shape (6, N): R, azimuth and z, and the velocities along them.
    """
    thick = (component == THICK).long()
    # Young stars reach further (Frankel et al. 2019, ApJ 884, 99).
    late = (p["component_age"][row, 0] - age) / 8
    stretch = (1 + p["inside_out"][row] * late).clamp_min(0.4)
    length = p["disk_length"][row]
    length = length * torch.where(thick > 0, THICK_LENGTH, stretch)
    radius = interpolate(radius_table(), torch.zeros_like(row), table_place(u[0]))
    radius = radius[:, 0].exp() * length

    table = _disk_table(p, field)
    place = dynamics.grid_place(radius, p["size"][row])
    motions = interpolate(table, 2 * row + thick, place)
    rotation, spread, total = motions[:, 0], motions[:, 1:4], motions[:, 4]
    cold = thick == 0
    radial = torch.where(cold, heating(age, RADIAL_POWER), 1)
    vertical = torch.where(cold, heating(age, VERTICAL_POWER), 1)
    # Asymmetric drift goes with the square of the dispersion.
    drift = total * (total / rotation**2 - 1) * radial**2
    rotation = total * (total + drift).rsqrt()
    height = p["disk_height"][row] * p["disk_length"][row]
    height = height * torch.where(cold, vertical**2, p["thick_height"][row])
    z = 0.5 * height * torch.logit(u[2])
    return torch.stack(
        [
            radius,
            2 * math.pi * u[1],
            z,
            radial * spread[:, 0] * noise[0],
            rotation + radial * spread[:, 1] * noise[1],
            vertical * spread[:, 2] * noise[2],
        ]
    )


def _disk_table(p, field):
    """Rotation, dispersions at 10 Gyr, and squared circular speed, (2 n, m, 5)."""
    radius, total, smooth = field
    mass = 10 ** p["log_mass"][:, None] * p["fraction"]
    length = p["disk_length"][:, None]
    lengths = length, THICK_LENGTH * length
    surface = sum(
        mass[:, i : i + 1] * torch.exp(-radius / own) / (2 * math.pi * own**2)
        for i, own in enumerate(lengths)
    )
    height = p["disk_height"][:, None] * length
    heights = height, p["thick_height"][:, None] * height
    parts = [
        dynamics.disk_motions(
            radius, total, smooth, surface, own, high, p["dispersion_ratio"][:, None]
        )
        for own, high in zip(lengths, heights, strict=True)
    ]
    parts = [torch.cat([part, total[..., None]], -1) for part in parts]
    return torch.stack(parts, 1).flatten(0, 1)


def bulge_stars(p, row, u, noise, field):
    """Stars of bulges; see `disk_stars`."""
    index = p["sersic_index"]
    radius = interpolate(radius_table(index), row, table_place(u[0]))[:, 0].exp()
    cosine = 1 - 2 * u[2]
    plane = radius * (1 - cosine**2).sqrt()
    height = radius * cosine * p["flattening"][row]
    motions = dynamics.plane_values(
        dynamics.spheroid_motions(p, field[1]), row, plane, height
    )
    rotation, spread = motions[:, 0], motions[:, 1:] * noise.T
    scale = p["spheroid_radius"][row]
    return torch.stack(
        [
            plane * scale,
            2 * math.pi * u[1],
            height * scale,
            spread[:, 0],
            rotation + spread[:, 1],
            spread[:, 2],
        ]
    )


def halo_stars(p, row, u, noise, field):
    """Stars of halos of Hernquist (1990, ApJ 356, 359); see `disk_stars`."""
    scale = p["halo_scale"]
    reach = (u[0] * (HALO_EDGE / (1 + HALO_EDGE)) ** 2).sqrt()
    radius = reach / (1 - reach) * scale[row]
    grid, total, _ = field
    density = 1 / (grid * (grid + scale[:, None]) ** 3)
    table = dynamics.radial_dispersion2(total, density, grid, HALO_ANISOTROPY)
    place = dynamics.grid_place(radius, p["size"][row])
    sigma = interpolate(table[..., None], row, place)[:, 0].sqrt()
    across = math.sqrt(1 - HALO_ANISOTROPY) * sigma
    cosine = 1 - 2 * u[2]
    sine = (1 - cosine**2).sqrt()
    outward, polar = sigma * noise[0], across * noise[2]
    return torch.stack(
        [
            radius * sine,
            2 * math.pi * u[1],
            radius * cosine,
            outward * sine + polar * cosine,
            across * noise[1],
            outward * cosine - polar * sine,
        ]
    )
