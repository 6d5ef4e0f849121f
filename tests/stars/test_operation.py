# Licensed under a 3-clause BSD style license - see LICENSE.rst
import tracemalloc
import warnings

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable, vstack
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import galml
from galml.core import Flag, GalmlWarning
from galml.core.exceptions import (
    InputError,
    InputTypeError,
    InputUnitError,
    ModelError,
)
from galml.core.model import GalaxyModel
from galml.core.weights import list_models
from galml.stars import iter_stars
from galml.stars.columns import AGE_OF_UNIVERSE, AXES, read_stars

COLUMNS = ["galaxy_id", *AXES, "mass", "flags"]


def sample(galaxies, n=None, **options):
    return galml.sample_stars(galaxies, n, device="cpu", **options)


def log_prob(stars, galaxies, **options):
    return galml.star_log_prob(stars, galaxies, device="cpu", **options)


def numbers(table):
    return read_stars(table)[0]


def assert_same_stars(first, second):
    scale = numbers(second).std(axis=0)
    assert_allclose(
        numbers(first) / scale, numbers(second) / scale, rtol=1e-5, atol=1e-5
    )


@pytest.fixture(scope="module")
def default():
    if not any(list_models("stars")["default"]):
        pytest.skip("there are no default weights")
    return "default"


def test_table(galaxies, model):
    stars = sample(galaxies, 100, model=model, seed=3)
    assert stars.colnames == COLUMNS
    assert len(stars) == 300
    assert_array_equal(stars["galaxy_id"], np.repeat(galaxies["galaxy_id"], 100))
    assert {name: stars[name].unit for name in ("x", "v_z", "fe_h", "age", "mass")} == {
        "x": u.kpc,
        "v_z": u.km / u.s,
        "fe_h": u.dex,
        "age": u.Gyr,
        "mass": u.Msun,
    }
    assert_allclose(stars["mass"].value, np.repeat([1e7, 5e8, 2e9], 100))
    assert not stars["flags"].any()
    assert stars.meta["OPERATN"] == "sample_stars"
    assert stars.meta["MODEL"] == "stand-in"
    assert stars.meta["MODELSHA"] == model.sha256
    assert stars.meta["SEED"] == 3
    assert stars.meta["ARG_1"] == "n=100"


def test_physical(galaxies, model):
    stars = sample(galaxies, 34_000, model=model)
    values = numbers(stars)
    assert len(values) == 102_000
    assert np.isfinite(values).all()
    assert (stars["age"] > 0 * u.Gyr).all()
    assert (stars["age"].value < AGE_OF_UNIVERSE).all()
    assert (stars["metal_mass_fraction"] > 0).all()


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (5, [5, 5, 5]),
        (5e0, [5, 5, 5]),
        ([1, 0, 3], [1, 0, 3]),
        (np.array([1, 2, 3]), [1, 2, 3]),
        ("wanted", [4, 5, 6]),
        (5e9 * u.Msun, [1, 10, 40]),
        ((5e9 * u.Msun).to(u.kg), [1, 10, 40]),
        ([1e9, 1e10, 1e11] * u.Msun, [1, 5, 2]),
        (7 * u.one, [7, 7, 7]),
        (None, [7, 8, 9]),
    ],
)
def test_numbers_of_stars(galaxies, model, n, expected):
    galaxies["wanted"] = [4, 5, 6]
    if n is None:
        galaxies["n_stars"] = [7, 8, 9]
    stars = sample(galaxies, n, model=model)
    counts = [(stars["galaxy_id"] == name).sum() for name in galaxies["galaxy_id"]]
    assert counts == expected
    for name, mass in zip(galaxies["galaxy_id"], galaxies["stellar_mass"], strict=True):
        if (own := stars["galaxy_id"] == name).any():
            assert_allclose(stars["mass"][own].sum() / mass, 1)


def test_default_number_of_stars(galaxies, model):
    assert len(sample(galaxies[:1], model=model)) == 10_000
    assert sample(galaxies, 0, model=model).colnames == COLUMNS


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (-1, InputError),
        (2.5, InputError),
        (np.nan, InputError),
        ([1, 2], InputError),
        ("nothing", InputError),
        (1 * u.kpc, InputUnitError),
        (-1 * u.Msun, InputError),
        (object(), InputError),
    ],
)
def test_wrong_numbers_of_stars(galaxies, model, n, error):
    with pytest.raises(error, match="n: got"):
        sample(galaxies, n, model=model)


def test_seed(galaxies, model):
    first = sample(galaxies, 50, model=model, seed=1)
    assert_array_equal(
        numbers(sample(galaxies, 50, model=model, seed=1)), numbers(first)
    )
    assert np.all(numbers(sample(galaxies, 50, model=model, seed=2)) != numbers(first))
    assert_array_equal(
        numbers(sample(galaxies, 50, model=model)),
        numbers(sample(galaxies, 50, model=model, seed=0)),
    )


def test_stars_depend_on_their_galaxy_alone(galaxies, model):
    stars = sample(galaxies, [40, 3000, 1500], model=model, seed=1)
    turned = sample(galaxies[::-1], [1500, 3000, 40], model=model, seed=1)
    alone = sample(galaxies[1:2], 3000, model=model, seed=1, batch_size=1001)
    fewer = sample(galaxies, 30, model=model, seed=1, batch_size=7)
    spiral = stars[stars["galaxy_id"] == "spiral"]
    assert_same_stars(alone, spiral)
    assert_same_stars(turned[turned["galaxy_id"] == "spiral"], spiral)
    for name in galaxies["galaxy_id"]:
        assert_same_stars(
            fewer[fewer["galaxy_id"] == name], stars[stars["galaxy_id"] == name][:30]
        )
    galaxies["stellar_mass"] = galaxies["stellar_mass"].to(u.g)
    assert_same_stars(sample(galaxies, 30, model=model, seed=1), fewer)


def test_equal_galaxies_have_different_stars(galaxies, model):
    twins = sample(galaxies[[1, 1]], 10, model=model)
    assert (numbers(twins)[:10] != numbers(twins)[10:]).all()
    assert_same_stars(sample(galaxies[[1]], 10, model=model), twins[:10])


def test_conditions_matter(galaxies, model):
    # The noise is that of the conditions: many stars tell.
    stars = sample(galaxies, 5000, model=model)
    medians = np.median(numbers(stars).reshape(3, 5000, -1), axis=1)
    assert (np.ptp(medians, axis=0) > 0).all()


def test_components(galaxies, model):
    stars = sample(galaxies, 10, model=model, components=["age", "x"])
    assert stars.colnames == ["galaxy_id", "age", "x", "mass", "flags"]
    every = sample(galaxies, 10, model=model)
    assert_array_equal(stars["age"], every["age"])
    with pytest.raises(InputError, match="components"):
        sample(galaxies, 10, model=model, components=["w"])


def test_bad_galaxy_of_several(galaxies, model):
    galaxies["stellar_mass"][1] = -1 * u.Msun
    with pytest.warns(GalmlWarning, match="1 of 3 rows have no result") as caught:
        stars = sample(galaxies, 10, model=model)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert stars["galaxy_id"].tolist() == ["dwarf"] * 10 + ["spiral"] + ["giant"] * 10
    assert stars["flags"].tolist() == [0] * 10 + [int(Flag.FAILED)] + [0] * 10
    assert np.isnan(numbers(stars)[10]).all()
    assert np.isnan(stars["mass"][10])
    good = sample(galaxies[[0, 2]], 10, model=model)
    assert_same_stars(stars[[*range(10), *range(11, 21)]], good)


def test_bad_galaxy_alone(galaxies, model):
    galaxies["median_age"][0] = np.nan * u.Gyr
    with pytest.raises(InputError, match="median_age"):
        sample(galaxies[:1], 10, model=model)


def test_errors(galaxies, model):
    with pytest.raises(InputError, match="no column 'median_age'"):
        sample(galaxies["stellar_mass", "metallicity"], 10, model=model)
    with pytest.raises(InputError, match="no rows"):
        sample(galaxies[:0], 10, model=model)
    with pytest.raises(InputTypeError, match="conditions"):
        sample(3, 10, model=model)
    with pytest.raises(InputError, match="conditions"):
        sample(None, 10, model=model)
    with pytest.raises(ModelError, match="no file"):
        sample(galaxies, 10, model="unknown")
    with pytest.raises(InputError, match="batch_size"):
        sample(galaxies, 10, model=model, batch_size=0)
    with pytest.raises(InputError, match="chunk"):
        iter_stars(galaxies, 10, model=model, chunk=0)
    galaxies["median_age"] = [1, 2, 3] * u.kpc
    with pytest.raises(InputUnitError, match="median_age"):
        sample(galaxies, 10, model=model)


def test_out_of_domain(galaxies, model):
    galaxies["stellar_mass"][0] = 1e6 * u.Msun
    stars = sample(galaxies, 10, model=model)
    assert stars["flags"].tolist() == [int(Flag.OUT_OF_DOMAIN)] * 10 + [0] * 20
    assert np.isfinite(numbers(stars)).all()
    flags = log_prob(stars, galaxies, model=model)["flags"]
    assert flags.tolist() == stars["flags"].tolist()


@pytest.mark.parametrize("chunk", [7, 1000, 10**6])
def test_stream(galaxies, model, chunk):
    n = [40, 2000, 17_000]
    tables = list(iter_stars(galaxies, n, model=model, device="cpu", chunk=chunk * 10))
    assert [len(table) for table in tables[:-1]] == [chunk * 10] * (len(tables) - 1)
    assert tables[0].colnames == COLUMNS
    assert tables[-1].meta["OPERATN"] == "sample_stars"
    if chunk == 7:
        tables = tables[:20]
    joined = vstack(tables, metadata_conflicts="silent")
    every = sample(galaxies, n, model=model)[: len(joined)]
    assert_array_equal(numbers(joined), numbers(every))
    assert_array_equal(joined["galaxy_id"], every["galaxy_id"])


def test_stream_checks_at_once(galaxies, model):
    with pytest.raises(InputError, match="components"):
        iter_stars(galaxies, model=model, components="w")
    galaxies["median_age"][0] = np.nan * u.Gyr
    with pytest.warns(GalmlWarning, match="1 of 3"):
        tables = iter_stars(galaxies, 1, model=model, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(next(tables)) == 3


def test_memory_is_flat(galaxies, model):
    def peak(n):
        tracemalloc.start()
        for _ in iter_stars(galaxies[:1], n, model=model, device="cpu", chunk=20_000):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20_000)
    assert peak(200_000) < 1.3 * peak(50_000)


def test_progress(galaxies, model, capsys):
    calls = []
    sample(galaxies, 2000, model=model, progress=lambda *args: calls.append(args))
    assert calls[-1] == (6000, 6000)
    assert capsys.readouterr().err == ""
    sample(galaxies, 2000, model=model, progress=True)
    assert "6000/6000" in capsys.readouterr().err


def test_input_and_generators_are_not_changed(galaxies, model):
    before, state = galaxies.copy(), torch.get_rng_state()
    sample(galaxies, 10, model=model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all((galaxies[name] == before[name]).all() for name in before.colnames)


def test_log_prob(galaxies, model):
    stars = sample(galaxies, [10, 2000, 20], model=model)
    result = log_prob(stars, galaxies, model=model)
    assert result.colnames == ["galaxy_id", "log_prob", "flags"]
    assert_array_equal(result["galaxy_id"], stars["galaxy_id"])
    assert result.meta["OPERATN"] == "star_log_prob"
    context = torch.tensor(
        [[9.0, 4, 1, -1], [10.69897, 6, 2, -0.1], [11.30103, 9, 6, 0.1]]
    )
    values = torch.from_numpy(numbers(stars)).float()
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
    assert (one[2:] != every[2:]).all()
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
    stars = QTable(np.array(rows, dtype=float), names=list(AXES))
    for name, unit in AXES.items():
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


def test_latents(galaxies, make_model):
    model = make_model(latent=2)
    without = sample(galaxies, 10, model=model)
    galaxies["latent"] = [[1.0, 2], [np.nan, np.nan], [-1, 0.5]]
    stars = sample(galaxies, 10, model=model)
    assert_array_equal(numbers(stars)[10:20], numbers(without)[10:20])
    assert (numbers(stars)[:10] != numbers(without)[:10]).all(1).all()
    galaxies["latent"] = np.ones((3, 3))
    with pytest.raises(InputError, match="2 of them"):
        sample(galaxies, 10, model=model)


def test_standardized_units(make_model):
    model = make_model()
    for axis in model.config["axes"]:
        axis["unit"] = ""
    for one in model.config["conditions"]:
        one["lo"], one["hi"] = -3, 3
    model.config["standardized"] = True
    names = [one["name"] for one in model.config["conditions"]]
    galaxies = QTable({name: [0.0, 0.5, np.nan] for name in names})
    with pytest.warns(GalmlWarning, match="1 of 3"):
        stars = sample(galaxies, 5, model=model)
    assert stars.colnames == ["galaxy_id", *AXES, "flags"]
    assert all(getattr(stars[name], "unit", None) is None for name in AXES)
    assert (stars["flags"] & int(Flag.STANDARDIZED) != 0).all()
    result = log_prob(stars[:10], galaxies[:2], model=model)
    assert np.isfinite(result["log_prob"]).all()


def test_model_without_conditions(make_model):
    model = make_model(context=0)
    model.config["conditions"] = []
    stars = sample(None, 10, model=model)
    assert stars.colnames == ["galaxy_id", *AXES, "flags"]
    result = galml.star_log_prob(stars, model=model, device="cpu")
    assert np.isfinite(result["log_prob"]).all()


def test_saved_model(galaxies, model, tmp_path):
    model.save(tmp_path / "stars.safetensors")
    loaded = GalaxyModel.load(tmp_path / "stars.safetensors", operation="stars")
    assert_array_equal(
        numbers(sample(galaxies, 10, model=loaded)),
        numbers(sample(galaxies, 10, model=model)),
    )


def test_default_model(default):
    galaxies = QTable(
        {
            "stellar_mass": [1e9, 8e9, 5e10] * u.Msun,
            "median_age": [5.0, 5.5, 6.5] * u.Gyr,
            "age_percentile_10": [1.0, 1.2, 1.5] * u.Gyr,
            "metallicity": [-0.8, -0.4, -0.1] * u.dex,
        }
    )
    stars = sample(galaxies, 5000, model=default)
    assert stars.colnames == COLUMNS
    assert np.isfinite(numbers(stars)).all()
    assert not stars["flags"].any()
    # Larger galaxies are larger, and turn counter-clockwise.
    spin = stars["x"] * stars["v_y"] - stars["y"] * stars["v_x"]
    by_galaxy = spin.reshape(3, 5000).mean(axis=1)
    assert (by_galaxy > 0).all()
    radius = np.hypot(stars["x"], stars["y"]).reshape(3, 5000)
    assert np.median(radius[0]) < np.median(radius[2])
    medians = np.median(stars["age"].reshape(3, 5000), axis=1)
    assert_allclose(medians / galaxies["median_age"], 1, atol=0.25)
    assert np.isfinite(log_prob(stars, galaxies, model=default)["log_prob"]).all()
