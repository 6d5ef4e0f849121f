# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as tables of stars: place, motion, age and metals of each."""

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable

from galml.core.exceptions import InputError
from galml.mocks.chemistry import (
    BULGE,
    COMPONENTS,
    HALO,
    THICK,
    abundances,
    stellar_age,
)
from galml.mocks.chemodynamic_recipe import (
    STAR_TABLE_POPULATION,
    draw_star_galaxies,
    galaxy_generator,
)
from galml.mocks.chemokinematics import bulge_stars, disk_stars, gravity, halo_stars
from galml.stars.columns import SOLAR_METALLICITY, star_table
from galml.stars.preparation import weighted_percentile

__all__ = ["COMPONENTS", "STAR_TABLE_POPULATION", "star_galaxies", "star_tensors"]

#: Stars that go through the memory of a processor at a time.
CHUNK = 400_000


def star_tensors(n_galaxies=200, n_stars=20_000, *, seed=0, first=0):
    """Draw galaxies with their stars as tensors, for training.

    Parameters
    ----------
    n_galaxies : int
        Number of galaxies.
    n_stars : int
        Stars of each galaxy, all of one mass.
    seed : int
        Galaxy ``i`` depends on ``seed``, ``i`` and ``n_stars`` alone.
    first : int
        Number of the first galaxy.

    Returns
    -------
    dict
        - ``stars``: float32 `torch.Tensor` of shape (galaxies, stars, 10), in the
          order and the units of ``galml.stars.columns.AXES``, in random order;
        - ``component``: int8, shape (galaxies, stars), index into ``COMPONENTS``;
        - ``conditions``: float64, shape (galaxies, 4), in the order of
          ``galml.stars.conditions.CONDITIONS``, measured on these stars;
        - ``truth``: what they were made from, see
          `~galml.mocks.draw_star_galaxies`.

    Raises
    ------
    galml.core.InputError
        If a number is not positive.
    """
    for name, value in (("n_galaxies", n_galaxies), ("n_stars", n_stars)):
        if value < 1:
            raise InputError(name, value, "a positive integer")
    p = draw_star_galaxies(first, n_galaxies, seed)
    step = max(1, CHUNK // n_stars)
    parts = [
        _build(
            {key: value[i : i + step] for key, value in p.items()},
            range(first + i, first + min(i + step, n_galaxies)),
            n_stars,
            seed,
        )
        for i in range(0, n_galaxies, step)
    ]
    stars, component = (torch.cat(column) for column in zip(*parts, strict=True))
    return {
        "stars": stars,
        "component": component,
        "conditions": _measure(p["log_mass"], stars),
        "truth": p,
    }


def star_galaxies(n_galaxies=200, n_stars=20_000, *, seed=0, first=0):
    """Stream galaxies with their stars as tables.

    Parameters
    ----------
    n_galaxies, n_stars, seed, first : int
        See `star_tensors`.

    Yields
    ------
    stars : `~astropy.table.QTable`
        One row for each star, as `galml.stars.prepare` leaves them: x, y, z (kpc), v_x,
        v_y, v_z (km/s), metal_mass_fraction, fe_h, o_fe (dex), age (Gyr), mass, and
        component, index into ``COMPONENTS``. The spin is along +z.
    conditions : `~astropy.table.QTable`
        One row: ``galaxy_id``, stellar_mass, median_age, age_percentile_10,
        metallicity, and what the galaxy was made from.
    """
    for index in range(first, first + n_galaxies):
        made = star_tensors(1, n_stars, seed=seed, first=index)
        stars = star_table(made["stars"][0].numpy().astype(float))
        mass, median, young, metals = made["conditions"][0].tolist()
        stars["mass"] = np.full(n_stars, 10**mass / n_stars) * u.Msun
        stars["component"] = made["component"][0].numpy()
        conditions = QTable({"galaxy_id": [index]})
        conditions["stellar_mass"] = [10**mass] * u.Msun
        conditions["median_age"] = [median] * u.Gyr
        conditions["age_percentile_10"] = [young] * u.Gyr
        conditions["metallicity"] = [metals] * u.dex
        for name, value in made["truth"].items():
            conditions[name] = value.numpy().astype(float)
        yield stars, conditions


def _build(p, numbers, n_stars, seed):
    """Stars of galaxies, (n, stars, 10), and their components, (n, stars)."""
    sources = [galaxy_generator(i, seed, use=1) for i in numbers]
    even = torch.stack([torch.rand(5, n_stars, generator=g) for g in sources], 1)
    noise = torch.stack([torch.randn(6, n_stars, generator=g) for g in sources], 1)
    even = even.clamp(1e-6, 1 - 1e-6)
    edges = p["fraction"].cumsum(1)[:, None, :3]
    component = (even[0, ..., None] > edges).sum(-1)
    age = stellar_age(
        even[1],
        p["component_age"].gather(1, component),
        p["age_shape"].gather(1, component),
    )
    field = gravity(p)
    row = torch.arange(len(component))[:, None].expand_as(component)
    parts = torch.empty(6, *component.shape)
    flat, bulge, halo = component <= THICK, component == BULGE, component == HALO
    parts[:, flat] = disk_stars(
        p, row[flat], component[flat], age[flat], even[2:, flat], noise[:3, flat], field
    )
    for chosen, stars in ((bulge, bulge_stars), (halo, halo_stars)):
        parts[:, chosen] = stars(
            p, row[chosen], even[2:, chosen], noise[:3, chosen], field
        )
    own = {
        key: p[key][:, None] for key in ("log_mass", "evolved", "iron", "iron_gradient")
    }
    radius = parts[0] / p["disk_length"][:, None]
    metals, fe_h, o_fe = abundances(own, component, age, radius, noise[3:])
    radius, azimuth, z, v_r, v_phi, v_z = parts
    cosine, sine = azimuth.cos(), azimuth.sin()
    columns = [radius * cosine, radius * sine, z]
    columns += [v_r * cosine - v_phi * sine, v_r * sine + v_phi * cosine, v_z]
    stars = torch.stack([*columns, metals, fe_h, o_fe, age], -1)
    return stars, component.to(torch.int8)


def _measure(log_mass, stars):
    """Conditions of galaxies of stars of equal mass, (n, 4)."""
    age, metals = (stars[..., i].double().numpy() for i in (9, 6))
    weights = np.ones(age.shape[1])
    median, young = (
        [weighted_percentile(one, percent, weights) for one in age]
        for percent in (50, 10)
    )
    metals = np.log10(metals.mean(1) / SOLAR_METALLICITY)
    columns = [log_mass.double().numpy(), median, young, metals]
    return torch.from_numpy(np.stack(columns, 1))
