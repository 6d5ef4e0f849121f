# Licensed under a 3-clause BSD style license - see LICENSE.rst
import warnings

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import galml
from galml.core import Flag, GalmlWarning
from galml.core.exceptions import InputError
from galml.physics import AGE_OF_UNIVERSE, STAR_AXES
from galml.stars.preparation import read_stars


def sample(galaxies, n=None, **options):
    return galml.sample_stars(galaxies, n, seed=0, device="cpu", **options)


def log_prob(stars, galaxies, **options):
    return galml.star_log_prob(stars, galaxies, device="cpu", **options)


def test_log_prob(galaxies, model):
    stars = sample(galaxies, [10, 2000, 20], model=model)
    result = log_prob(stars, galaxies, model=model)
    assert result.colnames == ["galaxy_id", "log_prob", "flags"]
    assert_array_equal(result["galaxy_id"], stars["galaxy_id"])
    assert result.meta["OPERATN"] == "star_log_prob"
    context = torch.tensor(
        [[9.0, 4, 1, -1], [10.69897, 6, 2, -0.1], [11.30103, 9, 6, 0.1]]
    )
    values = torch.from_numpy(read_stars(stars)[0]).float()
    with torch.no_grad():
        direct = model.network.log_prob(
            values, context.repeat_interleave(torch.tensor([10, 2000, 20]), 0)
        )
    assert_allclose(result["log_prob"], direct.numpy(), atol=2e-4)


def test_log_prob_in_other_units(galaxies, model):
    stars = sample(galaxies, 20, model=model)
    expected = log_prob(stars, galaxies, model=model)["log_prob"]
    for name, unit in {"x": u.pc, "v_y": u.m / u.s, "age": u.Myr}.items():
        stars[name] = stars[name].to(unit)
    stars["metal_mass_fraction"] = stars["metal_mass_fraction"] * 100 * u.percent
    assert_allclose(
        log_prob(stars, galaxies, model=model)["log_prob"], expected, atol=1e-4
    )


def test_log_prob_is_a_density(galaxies, make_model):
    model = make_model(kinds=[["interval", 0.0, AGE_OF_UNIVERSE]], features=1)
    model.config["axes"] = [{"name": "age", "unit": "Gyr"}]
    ages = (np.arange(20_000) + 0.5) / 20_000 * AGE_OF_UNIVERSE
    table = QTable({"age": (ages * u.Gyr).to(u.Myr)})
    density = np.exp(log_prob(table, galaxies[:1], model=model)["log_prob"])
    assert_allclose(density.mean() * AGE_OF_UNIVERSE, 1, rtol=1e-4)
    drawn = sample(galaxies[:1], 20_000, model=model)["age"].to_value(u.Gyr)
    share = np.cumsum(density) / density.sum()
    for percent in (10, 50, 90):
        expected = np.interp(percent / 100, share, ages)
        assert_allclose(np.percentile(drawn, percent), expected, atol=0.15)


def test_log_prob_of_bad_stars(galaxies, model):
    stars = sample(galaxies, 2, model=model)
    expected = log_prob(stars, galaxies, model=model)["log_prob"]
    stars["age"][0] = -1 * u.Gyr
    stars["metal_mass_fraction"][1] = -0.1
    stars["age"][2] = 20 * u.Gyr
    stars["x"][3] = np.nan * u.kpc
    stars["y"] = Masked(stars["y"], mask=np.arange(6) == 4)
    with pytest.warns(GalmlWarning, match="2 of 6 rows .* NaN or masked"):
        result = log_prob(stars, galaxies, model=model)
    assert result["log_prob"][:3].tolist() == [-np.inf] * 3
    assert np.isnan(result["log_prob"][3:5]).all()
    assert_allclose(result["log_prob"][5], expected[5], atol=1e-5)
    unknown = int(Flag.FAILED | Flag.NONFINITE)
    outside = int(Flag.OUT_OF_DOMAIN)
    assert result["flags"].tolist() == [outside] * 3 + [unknown] * 2 + [0]


def test_galaxy_of_a_star(galaxies, model):
    stars = sample(galaxies, 2, model=model)
    every = log_prob(stars, galaxies, model=model)["log_prob"]
    shuffled = [5, 0, 3, 1, 4, 2]
    result = log_prob(stars[shuffled], galaxies[[2, 0, 1]], model=model)
    assert_allclose(result["log_prob"], every[shuffled], atol=1e-5)
    one = log_prob(stars, galaxies[:1], model=model)["log_prob"]
    assert_allclose(one[:2], every[:2], atol=1e-5)
    assert (np.abs(one[2:] - every[2:]) > 1e-3).all()
    with pytest.warns(GalmlWarning, match="2 of 6 rows have no result.*galaxy_id"):
        result = log_prob(stars, galaxies[:2], model=model)
    assert np.isnan(result["log_prob"][4:]).all()
    assert result["flags"].tolist() == [0] * 4 + [int(Flag.FAILED)] * 2
    galaxies["galaxy_id"] = ["a", "a", "b"]
    with pytest.raises(InputError, match="twice"):
        log_prob(stars, galaxies, model=model)
    del stars["galaxy_id"]
    with pytest.raises(InputError, match="no column 'galaxy_id' for 3 galaxies"):
        log_prob(stars, galaxies, model=model)
    assert log_prob(stars, galaxies[:1], model=model).colnames == ["log_prob", "flags"]


def test_numbers_of_rows_are_names(galaxies, model):
    del galaxies["galaxy_id"]
    stars = sample(galaxies, 2, model=model)
    assert stars["galaxy_id"].tolist() == [0, 0, 1, 1, 2, 2]
    assert np.isfinite(log_prob(stars, galaxies, model=model)["log_prob"]).all()


def test_stars_of_a_bad_galaxy(galaxies, model):
    stars = sample(galaxies, 2, model=model)
    galaxies["metallicity"][0] = np.nan * u.dex
    with pytest.warns(GalmlWarning, match="first: .*metallicity"):
        result = log_prob(stars, galaxies, model=model)
    assert np.isnan(result["log_prob"]).tolist() == [True] * 2 + [False] * 4


def test_no_stars(galaxies, model):
    stars = sample(galaxies, 0, model=model)
    assert len(log_prob(stars, galaxies, model=model)) == 0


value = st.floats(width=32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[value] * 10), min_size=1, max_size=4))
def test_any_star_has_a_row(model, rows):
    stars = QTable(np.array(rows, dtype=float), names=list(STAR_AXES))
    for name, unit in STAR_AXES.items():
        stars[name] = stars[name] * unit
    galaxy = {
        "stellar_mass": 1e10 * u.Msun,
        "median_age": 6 * u.Gyr,
        "age_percentile_10": 1 * u.Gyr,
        "metallicity": 0.01,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GalmlWarning)
        result = log_prob(stars, galaxy, model=model)
    known = np.isfinite(rows).all(axis=1)
    assert_array_equal(np.isnan(result["log_prob"]), ~known)
    assert not (result["log_prob"] == np.inf).any()
