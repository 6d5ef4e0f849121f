# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sizes, domain and limits of a population of galaxies."""

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable, vstack
from numpy.testing import assert_allclose
from scipy.stats import kstest

import galml
from galml.core import Flag, GalmlWarning
from galml.core.exceptions import InputError
from galml.physics import OPTIONAL_CONDITIONS
from galml.stars import fit
from galml.stars.population import (
    distance,
    find_domain,
    find_limits,
    find_sizes,
    fit_surface,
    sizes,
    surface,
)
from galml.stars.scaling import StarScaling

GALAXIES, STARS = 60, 80
AXES = ("x", "y", "z", "v_x", "v_y", "v_z")
QUICK = {
    "axes": AXES,
    "epochs": 3,
    "batch_size": 256,
    "device": "cpu",
    "options": {"layers": 2, "width": 16, "embedding": 8},
}


def draw(count, seed=0):
    """Standardized conditions of which the second goes with the first."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1.7, 1.7, count)
    return np.stack([first, 0.9 * first + 0.1 * rng.normal(size=count)], 1)


def test_surface():
    standard = torch.from_numpy(draw(400))
    first, second = standard.T
    values = 1 + first - 0.5 * second + 0.2 * first * second + 0.1 * first**4
    found = fit_surface(standard, values)
    assert_allclose(surface(found, standard), values, atol=0.06)
    for count, terms in ((400, 8), (20, 3), (7, 1)):
        assert len(fit_surface(standard[:count], values[:count])) == terms
    assert len(fit_surface(standard, values, plane=True)) == 3


def test_sizes():
    conditions = draw(2000)
    rng = np.random.default_rng(1)
    scatter = 0.2 * np.exp(0.3 * conditions[:, 0])
    size = conditions[:, 0] ** 2 + scatter * rng.normal(size=2000)
    center, found = sizes(find_sizes(conditions, size), conditions)
    assert_allclose(found, scatter, rtol=0.15)
    deviates = (size - center) / found
    assert kstest(deviates, "norm").pvalue > 0.01
    assert deviates.std() == pytest.approx(1, abs=0.05)


def test_domain():
    domain = find_domain(draw(1000))
    assert find_domain(draw(19)) is None
    inside = distance(domain, draw(1000, seed=1)) > domain["near"]
    assert inside.mean() < 0.01
    # Each is possible, but not both together.
    apart = distance(domain, np.array([[1.2, -1.2], [1.2, 1.08]]))
    assert apart[0] > domain["far"] > domain["near"] > apart[1]


def ball(count, seed=0):
    """Stars of two conditions inside of their limits, which grow with the first."""
    rng = np.random.default_rng(seed)
    standard = torch.from_numpy(draw(40))
    galaxy = torch.from_numpy(rng.integers(0, 40, count))
    extent = torch.exp(standard[:, 0])
    direction = torch.from_numpy(rng.normal(size=(2, count, 3)))
    direction = direction / direction.norm(dim=-1, keepdim=True)
    radius = extent[galaxy] * torch.from_numpy(rng.uniform(size=count))
    escape = 100 * extent[galaxy] / (1 + radius / extent[galaxy])
    speed = escape * torch.from_numpy(rng.uniform(size=count) ** 0.2)
    stars = torch.cat(
        [radius[:, None] * direction[0], speed[:, None] * direction[1]], 1
    )
    return stars, galaxy, standard, extent, escape


@pytest.mark.parametrize("is_told", [True, False])
def test_limits(is_told):
    stars, galaxy, standard, extent, escape = ball(20_000)
    told = {"extent": extent, "escape": escape} if is_told else {}
    places = [0, 1, 2], [3, 4, 5]
    limits = find_limits(stars, galaxy, standard, places, **told)
    scaling = StarScaling(["asinh"] * 6, 2, None, True, limits).double()
    context = standard[galaxy]
    assert scaling.inside(stars, context).all()
    scaling.fit(stars, context)
    far, fast = stars.clone(), stars.clone()
    ratio = 1.25 if is_told else 3.0
    far[:, :3] *= (ratio * extent[galaxy] / stars[:, :3].norm(dim=1))[:, None]
    fast[:, 3:] *= (ratio * escape / stars[:, 3:].norm(dim=1))[:, None]
    for beyond in (far, fast):
        assert not scaling.inside(beyond, context).any()
    standard_stars, log_det = scaling(stars, context)
    assert_allclose(scaling.inverse(standard_stars, context), stars, rtol=1e-6)
    for row in range(5):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, row=row: scaling(x[None], context[row][None])[0][0], stars[row]
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert_allclose(log_det[row], expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_beyond_the_limits(dtype):
    stars, galaxy, standard, extent, escape = ball(5000)
    limits = find_limits(stars, galaxy, standard, ([0, 1, 2], [3, 4, 5]))
    scaling = StarScaling(["asinh"] * 6, 2, None, True, limits)
    scaling = scaling.fit(stars, standard[galaxy]).to(dtype)
    for size in (1.0, 10.0, 1e6):
        generator = torch.manual_seed(0)
        noise = size * torch.randn(5000, 6, generator=generator, dtype=dtype)
        values = scaling.inverse(noise, standard[galaxy].to(dtype))
        assert values.dtype == dtype and values.isfinite().all()
        assert scaling.inside(values, standard[galaxy].to(dtype)).all()


@pytest.fixture(scope="module")
def conditions():
    rng = np.random.default_rng(0)
    mass = rng.uniform(8, 11, GALAXIES)
    return QTable(
        {
            "galaxy_id": np.arange(GALAXIES),
            "stellar_mass": 10**mass * u.Msun,
            "median_age": rng.uniform(3, 9, GALAXIES) * u.Gyr,
            "age_percentile_10": rng.uniform(1, 2, GALAXIES) * u.Gyr,
            "metallicity": 0.4 * (mass - 11) + 0.1 * rng.normal(size=GALAXIES) << u.dex,
            "r_eff": 10 ** (0.3 * (mass - 10) + 0.2 * rng.normal(size=GALAXIES))
            << u.kpc,
        }
    )


@pytest.fixture(scope="module")
def stars(conditions):
    """Spheres that turn, as large as the conditions say."""
    rng = np.random.default_rng(1)
    tables = []
    for row in conditions:
        size, speed = row["r_eff"].value, 50 * row["r_eff"].value ** 0.5
        place = size * rng.normal(size=(3, STARS))
        motion = speed * rng.normal(size=(3, STARS))
        table = QTable(dict(zip(AXES, np.concatenate([place, motion]), strict=True)))
        for i, name in enumerate(AXES):
            table[name].unit = u.kpc if i < 3 else u.km / u.s
        table["galaxy_id"] = row["galaxy_id"]
        tables.append(table)
    return vstack(tables)


@pytest.fixture(scope="module")
def model(stars, conditions):
    return fit(stars, conditions, name="sized", **QUICK)


def half_mass(table):
    return np.median(np.hypot(table["x"].value, table["y"].value))


def test_fit(model):
    names = [one["name"] for one in model.config["conditions"]]
    assert names[4:] == list(OPTIONAL_CONDITIONS)
    assert set(model.options["limits"]) > {"log_radius", "log_speed"}
    assert model.input_spec.scalars == tuple(names)


def test_sizes_that_are_given_count(model, conditions):
    rows = vstack([conditions[:1], conditions[:1]])
    rows["r_eff"] = [0.5, 2.0] * u.kpc
    rows["galaxy_id"] = ["small", "large"]
    drawn = galml.sample_stars(rows, 4000, model=model, seed=0)
    small, large = (half_mass(part) for part in drawn.group_by("galaxy_id").groups)
    small, large = sorted([small, large])
    assert 2 < large / small < 8


def test_one_draw_is_one_galaxy(model, conditions):
    row = conditions[:1].copy()
    row.remove_column("r_eff")
    found = [
        half_mass(galml.sample_stars(row, 1000, model=model, seed=seed))
        for seed in range(40)
    ]
    # The sizes of such galaxies, and a part of the noise of the median.
    assert 0.12 < np.log10(found).std() < 0.32
    first, second = (
        galml.sample_stars(row, n, model=model, seed=3)["x"][:500] for n in (500, 1000)
    )
    assert_allclose(first.value, second.value, rtol=1e-5)
    many = galml.sample_stars(vstack([row] * 40), 1000, model=model, seed=0)
    many["galaxy_id"] = np.repeat(np.arange(40), 1000)
    found = [half_mass(part) for part in many.group_by("galaxy_id").groups]
    assert 0.12 < np.log10(found).std() < 0.32


def test_density_without_a_size_is_the_mean(model, conditions, stars):
    row = conditions[:1].copy()
    table = stars[:50]
    row.remove_column("r_eff")
    found = galml.star_log_prob(table, row, model=model)["log_prob"]
    center, scatter = sizes(
        model.config["sizes"],
        np.array(
            [
                [np.log10(row["stellar_mass"][0].value)]
                + [row[name][0].value for name in row.colnames[2:]]
            ]
        ),
    )
    shares = (np.arange(200) + 0.5) / 200
    normal = torch.special.ndtri(torch.from_numpy(shares)).numpy()
    each = []
    for value in normal:
        row["r_eff"] = 10 ** (center + value * scatter) * u.kpc
        each.append(galml.star_log_prob(table, row, model=model)["log_prob"])
    expected = np.logaddexp.reduce(each, axis=0) - np.log(200)
    assert_allclose(found, expected, atol=0.05)


def test_none_is_beyond_the_limits(model, conditions, stars):
    drawn = galml.sample_stars(conditions, 2000, model=model, seed=0)

    def lengths(table, names):
        return np.linalg.norm([table[name].value for name in names], axis=0)

    for names in (AXES[:3], AXES[3:]):
        most = lengths(stars, names).max()
        assert lengths(drawn, names).max() < 2 * most
    found = galml.star_log_prob(drawn, conditions, model=model)
    assert np.isfinite(found["log_prob"]).all()
    for name in ("x", "v_z"):
        moved = drawn.copy()
        moved[name] = 1e5 * moved[name].unit
        found = galml.star_log_prob(moved, conditions, model=model)
        assert np.isneginf(found["log_prob"]).all()
        assert (found["flags"] & int(Flag.OUT_OF_DOMAIN)).all()


def test_conditions_are_judged_together(model, conditions):
    row = conditions[np.argmin(conditions["stellar_mass"])]
    odd = vstack([QTable(row), QTable(row)])
    odd["metallicity"][0] = conditions["metallicity"].max()
    with pytest.raises(InputError, match="metallicity"):
        galml.sample_stars(odd[:1], 10, model=model)
    with pytest.warns(GalmlWarning, match="1 of 2"):
        drawn = galml.sample_stars(odd, 10, model=model)
    assert drawn["flags"][0] == int(Flag.FAILED | Flag.OUT_OF_DOMAIN)
    assert np.isnan(drawn["x"][0])
    assert not drawn["flags"][1:].any()
    # Nearer it is a warning alone.
    odd["metallicity"][0] = odd["metallicity"][1] + 0.45 * u.dex
    drawn = galml.sample_stars(odd[:1], 10, model=model)
    assert (drawn["flags"] == int(Flag.OUT_OF_DOMAIN)).all()
    # So is a size that no such galaxy has.
    odd["r_eff"][1] *= 1000
    with pytest.raises(InputError, match="r_eff"):
        galml.star_log_prob(drawn, odd[1:], model=model)


def test_fine_tuning_widens_the_domain(model, conditions, stars):
    other = conditions.copy()
    other["metallicity"] = -other["metallicity"]
    with pytest.warns(GalmlWarning):
        galml.sample_stars(other, 1, model=model)
    with pytest.warns(GalmlWarning, match="out of bounds"):
        tuned = fit(stars, other, model=model, epochs=1, batch_size=256, device="cpu")
    drawn = galml.sample_stars(vstack([conditions, other]), 1, model=tuned)
    assert not drawn["flags"].any()
    del other["r_eff"]
    with pytest.raises(InputError, match="r_eff"):
        fit(stars, other, model=model, epochs=1)


def test_limits_that_are_told(conditions, stars):
    told, table = conditions.copy(), stars.copy()
    told["r_max"] = 10 * told["r_eff"]
    table["escape_speed"] = 1000 * u.km / u.s
    model = fit(table, told, **QUICK)
    drawn = galml.sample_stars(conditions, 500, model=model, seed=0)
    assert not drawn["flags"].any()
    table["v_x"], table["x"] = 990 * u.km / u.s, 0 * u.kpc
    for name in ("y", "z", "v_y", "v_z"):
        table[name] *= 0.01
    found = galml.star_log_prob(table, conditions, model=model)["log_prob"]
    assert np.isfinite(found).all()
    table["v_x"] = 1100 * u.km / u.s
    found = galml.star_log_prob(table, conditions, model=model)["log_prob"]
    assert np.isneginf(found).all()
    table["escape_speed"][0] = np.nan * u.km / u.s
    with pytest.raises(InputError, match="escape_speed"):
        fit(table, told, **QUICK)
    with pytest.raises(InputError, match="limited"):
        fit(stars, **QUICK, limited=True)
