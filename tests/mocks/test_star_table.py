# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import astropy.units as u
import numpy as np
import pytest
import torch

from galml.core import InputError
from galml.mocks import (
    COMPONENTS,
    build_stars,
    draw_stars,
    observe_stars,
    random_orientation,
    star_particles,
)
from galml.mocks.chemistry import abundances_by_age, metal_mass_fraction
from galml.mocks.star_table import measure_conditions
from galml.physics import STAR_AXES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def galaxy():
    p = draw_stars(4, generator(1), torch.tensor([1, 2, 3, 4]))
    for name in ("clump_fraction", "lopsidedness"):
        p[name] = torch.zeros(4)
    built = build_stars(p, 16_000, generator(2))
    return built.rotated(random_orientation(4, generator(3)))


@pytest.fixture(scope="module")
def tables(galaxy):
    return observe_stars(galaxy, 40_000, generator(4))


def test_tables_hold_stars_of_one_mass(galaxy, tables):
    assert tables.stars.shape == (4, 40_000, len(STAR_AXES))
    assert torch.isfinite(tables.stars).all()
    table = tables.table(2)
    assert table.colnames == [*STAR_AXES, "mass", "component"]
    assert table["v_z"].unit == u.km / u.s
    total = table["mass"].sum().to_value(u.Msun)
    assert total == pytest.approx(galaxy.stellar_mass[2].item(), rel=1e-5)
    few = tables[1:3]
    assert len(few) == 2
    np.testing.assert_array_equal(few.table(1)["age"], table["age"])


def test_stars_are_as_many_in_each_part_as_its_mass_demands(galaxy, tables):
    for part in range(len(COMPONENTS) - 1):
        stars = galaxy.stars
        weight = (stars.mass * (stars.component == part)).sum(1) / stars.stellar_mass
        share = (tables.component == part).float().mean(1)
        torch.testing.assert_close(share, weight, rtol=0, atol=0.01)


def test_no_two_stars_are_at_one_place(tables):
    for stars in tables.stars:
        assert len(torch.unique(stars[:, :3], dim=0)) > 0.999 * len(stars)


def test_stars_stay_on_the_orbits_of_their_particles(galaxy, tables):
    own = galaxy.stars.rotated(galaxy.frame.mT)
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    for row in range(4):
        weight = own.mass[row].double().numpy()
        for measure in (
            lambda place: torch.hypot(place[..., 0], place[..., 1]),
            lambda place: place[..., 2].abs(),
        ):
            stars = measure(tables.stars[row]).quantile(quantiles).numpy()
            particles = np.quantile(
                measure(own.position[row]).double().numpy(),
                quantiles.numpy(),
                weights=weight,
                method="inverted_cdf",
            )
            np.testing.assert_allclose(stars, particles, rtol=0.04)


def test_tables_do_not_depend_on_the_side_from_which_a_galaxy_is_seen(galaxy):
    turned = galaxy.rotated(random_orientation(4, generator(9)))
    first, second = (observe_stars(g, 50, generator(5)) for g in (galaxy, turned))
    torch.testing.assert_close(first.stars, second.stars, rtol=1e-3, atol=0.05)


def test_the_same_generator_gives_the_same_stars(galaxy):
    first, again, other = (
        observe_stars(galaxy, 200, generator(seed)).stars for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(-1).any()


def test_a_galaxy_is_not_changed(galaxy):
    tensors = {k: v for k, v in vars(galaxy).items() if torch.is_tensor(v)}
    before = {name: value.clone() for name, value in tensors.items()}
    observe_stars(galaxy, 100, generator())
    assert len(before) > 3
    for name, value in tensors.items():
        assert torch.equal(value, before[name]), name


def test_iron_is_what_oxygen_leaves_of_the_metals():
    metals = torch.logspace(-4, -1.3, 50)
    age = torch.linspace(0.1, 13, 50)
    fe_h, o_fe = abundances_by_age(metals, age, torch.randn(50, generator=generator()))
    torch.testing.assert_close(metal_mass_fraction(fe_h, o_fe), metals)
    zero = torch.zeros(2)
    _, ends = abundances_by_age(zero + 0.0134, torch.tensor([1.0, 13.0]), zero)
    assert -0.1 < ends[0] < 0.02
    assert 0.3 < ends[1] < 0.45


def test_tables_become_galaxies_again(galaxy, tables):
    again = star_particles(tables.stars, tables.mass)
    assert again.n_stars == 40_000
    torch.testing.assert_close(again.stellar_mass, galaxy.stellar_mass)
    torch.testing.assert_close(observe_stars(again).stars, tables.stars)
    with pytest.raises(InputError, match="stars"):
        star_particles(tables.stars[..., :6], tables.mass)


def test_conditions_of_drawn_stars(galaxy, tables):
    mass, median, young, metals, size = measure_conditions(tables).T
    expected = galaxy.stellar_mass.log10().double()
    torch.testing.assert_close(mass, expected, rtol=0, atol=1e-5)
    stars = galaxy.stars
    for row in range(4):
        weight = stars.mass[row].double().numpy()
        age = stars.age[row].double().numpy()
        for found, percent, tolerance in ((median, 50, 0.15), (young, 10, 0.3)):
            value = np.percentile(age, percent, weights=weight, method="inverted_cdf")
            assert found[row].item() == pytest.approx(value, abs=tolerance)
        mean = np.average(stars.metallicity[row].double().numpy(), weights=weight)
        assert metals[row].item() == pytest.approx(math.log10(mean / 0.0134), abs=0.01)
        place = galaxy.rotated(galaxy.frame.mT).stars.position[row].double().numpy()
        half = np.percentile(
            np.hypot(place[:, 0], place[:, 1]),
            50,
            weights=weight,
            method="inverted_cdf",
        )
        assert size[row].item() == pytest.approx(math.log10(half), abs=0.02)


@pytest.mark.parametrize("n_stars", [0, -3])
def test_numbers_of_stars_must_be_positive(galaxy, n_stars):
    with pytest.raises(InputError, match="n_stars"):
        observe_stars(galaxy, n_stars)
