# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies that look as if they merged, and do not: clumpy disks and projections."""

import math

import torch

from galml.core.exceptions import InputError
from galml.mocks.galaxy import random_orientation
from galml.mocks.scaling_relations import HUBBLE
from galml.mocks.star_recipe import build_stars, draw_stars

__all__ = ["LENGTHS", "build_projections", "draw_clumpy"]

#: Lengths among the parameters of a galaxy.
LENGTHS = (
    "size",
    "spheroid_radius",
    "disk_length",
    "counter_length",
    "dust_length",
    "dust_height",
    "gas_length",
)


def draw_clumpy(n, generator):
    """Draw clumpy disks that form stars, as there are at redshifts of 0.5 to 3.

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    dict of str to `torch.Tensor`
        Parameters for `~galml.mocks.build_stars`, each of shape (n,), see
        `~galml.mocks.draw_stars`.

    Notes
    -----
    Late spirals, but smaller, as galaxies were at redshift 1 to 2 (van der Wel et al.
    2014, ApJ 788, 28); with as much gas as a third to more of their mass, and warm
    (Tacconi et al. 2013, ApJ 768, 74; Förster Schreiber et al. 2009, ApJ 706, 1364);
    thick (Elmegreen & Elmegreen 2006, ApJ 650, 644); young; and with a few large clumps
    that have much of the young light (Elmegreen et al. 2005, ApJ 631, 85; Guo et al.
    2015, ApJ 800, 39). Many are lopsided. They are no mergers.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, draw_clumpy
    >>> generator = torch.Generator().manual_seed(1)
    >>> build_stars(draw_clumpy(2, generator), 2000, generator).stars.mass.shape
    torch.Size([2, 2000])
    """

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    p = draw_stars(n, generator, torch.full((n,), 4))
    smaller = uniform(0.45, 0.8)
    for name in LENGTHS:
        p[name] = p[name] * smaller
    share = uniform(0.3, 0.6)
    zero = torch.zeros(n)
    some = uniform(0, 1)
    return p | {
        "gas_mass": share / (1 - share) * p["stellar_mass"],
        "gas_length": p["disk_length"] * uniform(1.0, 1.6),
        "gas_dispersion": uniform(25, 70),
        "dark_fraction": uniform(0.05, 0.3),
        "disk_height": uniform(0.25, 0.5),
        "thick_fraction": zero,
        "bar_fraction": zero,
        "ring_fraction": zero,
        "arm_strength": torch.where(some < 0.5, zero, p["arm_strength"]),
        "lopsidedness": torch.where(some < 0.4, zero, uniform(0.1, 0.8)),
        "young_fraction": uniform(0.1, 0.35),
        "clump_fraction": uniform(0.3, 0.8),
        "clump_number": uniform(3, 12),
        "clump_size": uniform(0.08, 0.25),
        "disk_age": uniform(0.6, 2.5),
        "spheroid_age": uniform(1, 3.5),
        "metallicity": 0.6 * p["metallicity"],
        "dust_height": uniform(0.15, 0.3) * p["disk_length"],
    }


def build_projections(p, n_particles, generator):
    """Put unrelated galaxies in front of each other, which only look as if they met.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of 2 n galaxies, see `~galml.mocks.draw_stars`; the second half is
        put beside the first.
    n_particles : int
        Number of particles of stars of a pair; there are a quarter as many of gas.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `~galml.mocks.Galaxy`
        n galaxies, each with another one 0.5 to 2.5 half-mass radii of both aside and
        1 to 3 Mpc before or behind it, as they are seen along z. Both are turned at
        random.

    Raises
    ------
    galml.core.InputError
        If the number of galaxies is odd.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_projections, draw_stars
    >>> generator = torch.Generator().manual_seed(1)
    >>> build_projections(draw_stars(4, generator), 2000, generator).stars.mass.shape
    torch.Size([2, 2000])
    """
    total = len(p["size"])
    if total % 2:
        raise InputError("p", f"parameters of {total} galaxies", "an even number")
    n = total // 2
    galaxy = build_stars(p, n_particles // 2, generator)
    galaxy = galaxy.rotated(random_orientation(total, generator)).sampled(generator)
    draw = torch.rand(4, n, generator=generator)
    aside = (0.5 + 2 * draw[0]) * (p["size"][:n] + p["size"][n:])
    angle = 2 * math.pi * draw[1]
    side = torch.where(draw[2] < 0.5, -1.0, 1.0)
    depth = side * (1000 + 2000 * draw[3])
    step = torch.stack([aside * angle.cos(), aside * angle.sin(), depth], -1)
    # Along with the expansion of the universe.
    drift = torch.zeros_like(step)
    drift[:, 2] = HUBBLE * depth
    return galaxy[:n].joined(galaxy[n:].moved(step, drift))
