# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as tables of single stars: place, motion, metals and age of each."""

import math
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.mocks.chemistry import abundances_by_age
from galml.mocks.galaxy import Batch, Galaxy
from galml.physics.stars import SOLAR_METALLICITY, STAR_AXES, weighted_percentile
from galml.physics.stars import star_table as as_table

__all__ = ["StarTables", "measure_conditions", "observe_stars", "star_particles"]

#: Stars are spread around their particle by this times the distance between particles
#: (standard deviation): along the orbit, and to this share of the radius at most.
SPREAD, FARTHEST = 0.25, 0.1


@dataclass
class StarTables(Batch):
    """Stars of n galaxies, as many of each.

    Attributes
    ----------
    stars : `torch.Tensor`
        Shape (n, stars, 10): in the order and the units of
        `~galml.physics.STAR_AXES`, in the galaxy's own axes: the spin is along +z.
    component : `torch.Tensor` or None
        Shape (n, stars), integer: index into ``galml.mocks.COMPONENTS``.
    mass : `torch.Tensor`
        Shape (n,), in solar masses: what one star of the table stands for.
    """

    stars: torch.Tensor
    component: torch.Tensor
    mass: torch.Tensor

    def table(self, index):
        """Put the stars of one galaxy into a table.

        Parameters
        ----------
        index : int
            Which galaxy.

        Returns
        -------
        `~astropy.table.QTable`
            One row for each star, with the axes, ``mass`` and ``component``.
        """
        stars = as_table(self.stars[index].numpy().astype(float))
        stars["mass"] = np.full(len(stars), float(self.mass[index])) * u.Msun
        if self.component is not None:
            stars["component"] = self.component[index].numpy()
        return stars


def observe_stars(galaxy, n_stars=None, generator=None):
    """List the stars of galaxies, one by one.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, from whatever side they are seen.
    n_stars : int, optional
        Stars of each galaxy, all of one mass. By default every particle is one star,
        as in `~galml.mocks.build_star_galaxies`. Otherwise stars are drawn from the
        particles, in proportion to their mass: each has the velocity of its particle
        and a random one by the dispersions there, and lies on the particle's orbit,
        about as far from it as the next one.
    generator : `torch.Generator`, optional
        Source of randomness of stars that are drawn.

    Returns
    -------
    `StarTables`
        The stars. Where a recipe does not tell [Fe/H] and [O/Fe], they follow from age
        and metals, see `~galml.mocks.chemistry.abundances_by_age`.

    Raises
    ------
    galml.core.InputError
        If there are no stars, or none are asked for.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, draw_stars, observe_stars
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> seen = observe_stars(galaxy, 1000, generator)
    >>> seen.stars.shape
    torch.Size([2, 1000, 10])
    >>> seen.table(0).colnames[:6]
    ['x', 'y', 'z', 'v_x', 'v_y', 'v_z']
    """
    if n_stars is not None and n_stars < 1:
        raise InputError("n_stars", n_stars, "a positive integer")
    galaxy = _face_on(galaxy.stars)
    mass = galaxy.stellar_mass / (n_stars or galaxy.n_stars)
    if n_stars is not None:
        galaxy = _draw(galaxy, n_stars, generator)
    fe_h, o_fe = galaxy.fe_h, galaxy.o_fe
    if fe_h is None or o_fe is None:
        noise = torch.randn(galaxy.age.shape, generator=generator)
        fe_h, o_fe = abundances_by_age(galaxy.metallicity, galaxy.age, noise)
    chemistry = torch.stack([galaxy.metallicity, fe_h, o_fe, galaxy.age], -1)
    stars = torch.cat([galaxy.position, galaxy.velocity, chemistry], -1)
    return StarTables(stars=stars, component=galaxy.component, mass=mass)


def _face_on(galaxy):
    """Turn galaxies back to their own axes."""
    identity = torch.eye(3, dtype=galaxy.frame.dtype)
    if torch.equal(galaxy.frame, identity.expand_as(galaxy.frame)):
        return galaxy
    return galaxy.rotated(galaxy.frame.transpose(-1, -2))


def _draw(galaxy, n_stars, generator):
    """Draw stars of equal mass from particles, spread along their orbits."""
    chosen = torch.multinomial(
        galaxy.mass, n_stars, replacement=True, generator=generator
    )
    picked = {}
    for name in ("age", "metallicity", "fe_h", "o_fe", "spacing", "component"):
        value = getattr(galaxy, name)
        picked[name] = None if value is None else value.gather(1, chosen)
    vectors = {
        name: getattr(galaxy, name).gather(1, chosen[..., None].expand(-1, -1, 3))
        for name in ("position", "velocity")
    }
    if galaxy.dispersion.dim() == 2:
        dispersion = galaxy.dispersion.gather(1, chosen)
    else:
        rows = chosen[..., None].expand(-1, -1, 3)
        dispersion = galaxy.dispersion.gather(1, rows)
    mass = torch.ones(chosen.shape)
    drawn = Galaxy(**vectors, mass=mass, dispersion=dispersion, **picked)
    drawn = drawn.sampled(generator)
    if drawn.spacing is None:
        return drawn
    # Turned about the axis and moved in or out, with what is seen from there the same:
    # heights, dispersions and the shape of each part stay.
    noise = torch.randn(2, *chosen.shape, generator=generator)
    x, y, _ = drawn.position.unbind(-1)
    far = torch.linalg.vector_norm(drawn.position, dim=-1).clamp_min(1e-9)
    width = SPREAD * drawn.spacing
    angle = noise[0] * (width / torch.hypot(x, y).clamp_min(1e-9)).clamp(max=math.pi)
    scale = torch.exp(noise[1] * (width / far).clamp(max=FARTHEST))
    drawn.position = _turn(drawn.position, angle) * scale[..., None]
    drawn.velocity = _turn(drawn.velocity, angle)
    return drawn


def _turn(vectors, angle):
    """Turn vectors about z by an angle each."""
    x, y, z = vectors.unbind(-1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine, z], -1)


def star_particles(stars, mass):
    """Make galaxies of tables of stars, so that they can be looked at.

    Parameters
    ----------
    stars : `torch.Tensor`
        Shape (n, stars, 10): in the order and the units of `~galml.physics.STAR_AXES`;
        for images, at least 9 stars.
    mass : `torch.Tensor`
        Shape (n,): of a star now, in solar masses.

    Returns
    -------
    `~galml.mocks.Galaxy`
        Without gas and dust; and without dispersion, as each particle is one star.

    Raises
    ------
    galml.core.InputError
        If a star has not as many axes.
    """
    if stars.dim() != 3 or stars.shape[-1] != len(STAR_AXES):
        shape = f"an array of shape {tuple(stars.shape)}"
        raise InputError("stars", shape, f"(n, stars, {len(STAR_AXES)})")
    metals, fe_h, o_fe, age = stars[..., 6:].unbind(-1)
    mass = mass[:, None].expand_as(age)
    return Galaxy(
        position=stars[..., :3],
        velocity=stars[..., 3:6],
        mass=mass,
        dispersion=torch.zeros_like(age),
        age=age,
        metallicity=metals,
        fe_h=fe_h,
        o_fe=o_fe,
    )


def measure_conditions(tables):
    """Measure on their stars what is known of galaxies.

    Parameters
    ----------
    tables : `StarTables`
        n galaxies of stars of equal mass.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 5), float64, in the order of `~galml.physics.CONDITIONS` and
        `~galml.physics.OPTIONAL_CONDITIONS`: log10 of the stellar mass, median and
        tenth percentile of the age in Gyr, [M/H], and log10 of the half-mass radius
        seen along the spin, in kpc.
    """
    age, metals = (tables.stars[..., i].double().numpy() for i in (9, 6))
    weights = np.ones(age.shape[1])
    median, young = (
        [weighted_percentile(one, percent, weights) for one in age]
        for percent in (50, 10)
    )
    metals = np.log10(metals.mean(1) / SOLAR_METALLICITY)
    mass = np.log10(tables.mass.double().numpy() * age.shape[1])
    radius = torch.hypot(*tables.stars[..., :2].double().unbind(-1))
    size = radius.median(1).values.log10().numpy()
    return torch.from_numpy(np.stack([mass, median, young, metals, size], 1))
