# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Density profiles of stars: closed forms, and tables to draw radii from them."""

import math

import torch

__all__ = [
    "SPHEROID_EDGE",
    "disk_mass",
    "disk_surface",
    "half_mass_radius",
    "interpolate",
    "radius_table",
    "sersic_b",
    "sersic_projected_mass",
    "spheroid_density",
    "spheroid_mass",
    "spheroid_slope",
    "table_place",
]

#: Largest radius of a particle: in effective radii of a spheroid, scale lengths of a
#: disk.
SPHEROID_EDGE = 30.0
DISK_EDGE = 10.0
N_TABLE = 128


def sersic_b(index):
    """Evaluate b of the Sérsic profile (Ciotti & Bertin 1999, A&A 352, 447)."""
    return 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)


def _cusp(index):
    """Evaluate the slope p of the deprojection (Lima Neto+ 1999, MNRAS 309, 481)."""
    return 1 - 0.6097 / index + 0.05463 / index**2


def sersic_projected_mass(radius, index):
    """Find the share of a Sérsic profile's light inside radii in effective radii."""
    return torch.special.gammainc(2 * index, sersic_b(index) * radius ** (1 / index))


def spheroid_mass(radius, index):
    """Find the share of a spheroid's mass inside radii in effective radii.

    The density of Prugniel & Simien (1997), A&A 321, 111, whose projection is a
    Sérsic profile for indices from 0.6 to 10.
    """
    order = index * (3 - _cusp(index))
    return torch.special.gammainc(order, sersic_b(index) * radius ** (1 / index))


def spheroid_density(radius, index):
    """Evaluate the density of a sphere of mass 1 and effective radius 1.

    See `spheroid_mass`.
    """
    b, order = sersic_b(index), index * (3 - _cusp(index))
    logarithm = (
        order * b.log()
        - _cusp(index) * radius.log()
        - b * radius ** (1 / index)
        - torch.special.gammaln(order)
    )
    return torch.exp(logarithm.clamp_min(-600)) / (4 * math.pi * index)


def spheroid_slope(radius, index):
    """Evaluate the logarithmic slope of `spheroid_density`."""
    return -_cusp(index) - sersic_b(index) / index * radius ** (1 / index)


def disk_mass(radius, edge=None, steepness=1.0):
    """Find the share of an exponential disk's mass inside radii in scale lengths.

    Beyond a break at ``edge`` the scale length is shorter by ``steepness`` (type II of
    Pohlen & Trujillo 2006, A&A 454, 759); without one, the disk is exponential.
    """
    if edge is None:
        return 1 - (1 + radius) * torch.exp(-radius)
    near, k = radius.minimum(edge), steepness
    far = (edge / k + 1 / k**2) - (radius / k + 1 / k**2) * torch.exp(
        -k * (radius - edge).clamp_min(0)
    )
    outer = torch.exp(-edge) * torch.where(radius > edge, far, 0.0)
    total = 1 - (1 + edge) * torch.exp(-edge) + torch.exp(-edge) * (edge + 1 / k) / k
    return (1 - (1 + near) * torch.exp(-near) + outer) / total


def disk_surface(radius, edge, steepness):
    """Evaluate the surface density of the disk of `disk_mass`, of mass 1."""
    k = steepness
    total = 1 - (1 + edge) * torch.exp(-edge) + torch.exp(-edge) * (edge + 1 / k) / k
    fall = radius + (k - 1) * (radius - edge).clamp_min(0)
    return torch.exp(-fall) / (2 * math.pi * total)


def half_mass_radius(
    spheroid_fraction, spheroid_radius, index, disk_length, edge=None, steepness=None
):
    """Find the radius that holds half the mass of spheroid and disk seen face-on.

    Parameters
    ----------
    spheroid_fraction, spheroid_radius, index, disk_length : `torch.Tensor`
        Shape (n,): share of the spheroid in the mass, its effective radius and Sérsic
        index, and the scale length of the disk that has the rest.
    edge, steepness : `torch.Tensor`, optional
        Shape (n,): of the disk's break, see `disk_mass`.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), in the unit of the radii.
    """
    share = spheroid_fraction[:, None]
    longest = torch.maximum(spheroid_radius, disk_length)[:, None]
    radius = torch.logspace(-2, 1, 512) * longest
    mass = share * sersic_projected_mass(
        radius / spheroid_radius[:, None], index[:, None]
    ) + (1 - share) * disk_mass(
        radius / disk_length[:, None],
        None if edge is None else edge[:, None],
        None if edge is None else steepness[:, None],
    )
    place = (mass < 0.5).sum(1, keepdim=True)
    return radius.gather(1, place)[:, 0]


def table_place(share):
    """Find where in a `radius_table` the radius is that holds a share of the mass."""
    return torch.asin(share.clamp(0, 1).sqrt()) * (2 / math.pi) * (N_TABLE - 1)


def radius_table(index=None, *, edge=None, steepness=None):
    """Tabulate the logarithm of the radius that holds a share of the mass.

    Nodes are where `table_place` finds them.

    Parameters
    ----------
    index : `torch.Tensor`, optional
        Shape (n,): Sérsic indices of spheroids. An exponential disk by default.
    edge, steepness : `torch.Tensor`, optional
        Shape (n,): of the breaks of disks, see `disk_mass`.

    Returns
    -------
    `torch.Tensor`
        Shape (n or 1, m, 1), radii in effective radii or scale lengths.
    """
    share = torch.sin(torch.linspace(0, math.pi / 2, N_TABLE)) ** 2
    # An empty center has no logarithm: the innermost cell starts at a share above 0.
    share[0] = 0.1 * share[1]
    if index is None:
        radius = torch.logspace(-4, math.log10(DISK_EDGE), 512)
        if edge is None:
            mass = disk_mass(radius)[None]
        else:
            mass = disk_mass(radius, edge[:, None], steepness[:, None])
    else:
        radius = torch.logspace(-4, math.log10(SPHEROID_EDGE), 512)
        mass = spheroid_mass(radius, index[:, None])
    mass = mass / mass[:, -1:]
    share = share.expand(len(mass), -1).contiguous()
    place = torch.searchsorted(mass, share).clamp(1, len(radius) - 1)
    low, high = mass.gather(1, place - 1), mass.gather(1, place)
    fraction = ((share - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    logarithm = radius.log()
    return torch.lerp(logarithm[place - 1], logarithm[place], fraction)[..., None]


def interpolate(table, row, place):
    """Interpolate linearly in one row each of a table.

    Parameters
    ----------
    table : `torch.Tensor`
        Shape (n, m, c).
    row : `torch.Tensor`
        Shape (N,), integer.
    place : `torch.Tensor`
        Shape (N,): index of the node, whole or between two; limited to the table.

    Returns
    -------
    `torch.Tensor`
        Shape (N, c).
    """
    size = table.shape[1]
    place = place.clamp(0, size - 1)
    low = place.long().clamp(max=size - 2)
    flat, at = table.flatten(0, 1), row * size + low
    return torch.lerp(flat[at], flat[at + 1], (place - low)[:, None])
