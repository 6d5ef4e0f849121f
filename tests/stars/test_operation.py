# Licensed under a 3-clause BSD style license - see LICENSE.rst
import tracemalloc
import warnings

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable, vstack
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
from galml.physics import AGE_OF_UNIVERSE, STAR_AXES
from galml.stars import iter_stars
from galml.stars.preparation import read_stars

COLUMNS = ["galaxy_id", *STAR_AXES, "mass", "flags"]


def sample(galaxies, n=None, seed=0, **options):
    return galml.sample_stars(galaxies, n, seed=seed, device="cpu", **options)


def log_prob(stars, galaxies, **options):
    return galml.star_log_prob(stars, galaxies, device="cpu", **options)


def numbers(table):
    return read_stars(table)[0]


def assert_same_stars(first, second):
    scale = numbers(second).std(axis=0)
    assert_allclose(
        numbers(first) / scale, numbers(second) / scale, rtol=1e-5, atol=1e-5
    )


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
        (True, InputError),
        ([True, 2, 3], InputError),
        (np.ma.array([True] * 3), InputError),
        (3j, InputError),
        (b"3", InputError),
        (["3", "4", "5"], InputError),
        (2.5, InputError),
        (np.nan, InputError),
        ([1, 2], InputError),
        ("nothing", InputError),
        (1 * u.kpc, InputUnitError),
        (-1 * u.Msun, InputError),
        ([1, 2] * u.Msun, InputError),
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
    other = numbers(sample(galaxies, 50, model=model, seed=2))
    apart = np.abs(other - numbers(first)) / numbers(first).std(axis=0)
    assert 0.5 < np.median(apart) < 1


def test_realizations_of_equal_galaxies(galaxies, model):
    twins = galaxies[[1, 1, 1]]
    plain = numbers(sample(twins, 4, model=model, seed=1))
    twins["realization"] = [2, 0, 2]
    chosen = numbers(sample(twins, 4, model=model, seed=1))
    assert_array_equal(chosen, plain[[8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]])


def test_fresh_seed_is_noted(galaxies, model):
    fresh, other = (sample(galaxies, 50, model=model, seed=None) for _ in range(2))
    assert fresh.meta["SEED"] != other.meta["SEED"]
    again = sample(galaxies, 50, model=model, seed=fresh.meta["SEED"])
    assert_array_equal(numbers(again), numbers(fresh))
    tables = list(iter_stars(galaxies, 50, model=model, device="cpu", chunk=40))
    (seed,) = {table.meta["SEED"] for table in tables}
    joined = vstack(tables, metadata_conflicts="silent")
    again = sample(galaxies, 50, model=model, seed=seed)
    assert_array_equal(numbers(joined), numbers(again))


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


@pytest.mark.parametrize("threads", [1, 3])
def test_number_of_threads_does_not_matter(galaxies, model, threads):
    """Whether stars fill blocks, are few, or are left over."""
    options = {"n": [9000, 3000, 5], "model": model, "device": "cpu", "seed": 2}
    expected = galml.sample_stars(galaxies, **options)
    density = log_prob(expected, galaxies, model=model)["log_prob"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        stars = galml.sample_stars(galaxies, **options)
        again = log_prob(stars, galaxies, model=model)["log_prob"]
    finally:
        torch.set_num_threads(before)
    assert all((stars[name] == expected[name]).all() for name in stars.colnames)
    assert (again == density).all()


def test_equal_galaxies_have_different_stars(galaxies, model):
    twins = sample(galaxies[[1, 1]], 10, model=model)
    first, second = numbers(twins)[:10], numbers(twins)[10:]
    assert (np.abs(first - second).mean(0) > 0.3 * numbers(twins).std(0)).all()
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
    for wrong in (["w"], 5):
        with pytest.raises(InputError, match="components"):
            sample(galaxies, 10, model=model, components=wrong)


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
    with pytest.raises(InputError, match="seed"):
        sample(galaxies, 10, model=model, seed=0.5)
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
    options = {"model": model, "device": "cpu", "seed": 0}
    tables = list(iter_stars(galaxies, n, chunk=chunk * 10, **options))
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


def test_latents(galaxies, make_model):
    model = make_model(latent=2)
    without = sample(galaxies, 10, model=model)
    galaxies["latent"] = [[1.0, 2], [np.nan, np.nan], [-1, 0.5]]
    stars = sample(galaxies, 10, model=model)
    assert_array_equal(numbers(stars)[10:20], numbers(without)[10:20])
    change = np.abs(numbers(stars) - numbers(without))[:10]
    assert (change.mean(0) > 1e-3 * numbers(without)[:10].std(0)).all()
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
    assert stars.colnames == ["galaxy_id", *STAR_AXES, "flags"]
    assert all(getattr(stars[name], "unit", None) is None for name in STAR_AXES)
    assert (stars["flags"] & int(Flag.STANDARDIZED) != 0).all()
    result = log_prob(stars[:10], galaxies[:2], model=model)
    assert np.isfinite(result["log_prob"]).all()


def test_model_without_conditions(make_model):
    model = make_model(context=0)
    model.config["conditions"] = []
    stars = sample(None, 10, model=model)
    assert stars.colnames == ["galaxy_id", *STAR_AXES, "flags"]
    result = galml.star_log_prob(stars, model=model, device="cpu")
    assert np.isfinite(result["log_prob"]).all()


def test_saved_model(galaxies, model, tmp_path):
    model.save(tmp_path / "stars.safetensors")
    loaded = GalaxyModel.load(tmp_path / "stars.safetensors", operation="stars")
    assert_array_equal(
        numbers(sample(galaxies, 10, model=loaded)),
        numbers(sample(galaxies, 10, model=model)),
    )


def test_default_model():
    galaxies = QTable(
        {
            "stellar_mass": [1e9, 8e9, 5e10] * u.Msun,
            "median_age": [5.0, 5.5, 6.5] * u.Gyr,
            "age_percentile_10": [1.0, 1.2, 1.5] * u.Gyr,
            "metallicity": [-0.8, -0.4, -0.1] * u.dex,
            "r_eff": [1.5, 2.5, 4.0] * u.kpc,
        }
    )
    stars = sample(galaxies, 5000, model="default")
    assert stars.colnames == COLUMNS
    assert np.isfinite(numbers(stars)).all()
    assert not stars["flags"].any()
    # Galaxies are as large as they should be, and turn counter-clockwise.
    spin = stars["x"] * stars["v_y"] - stars["y"] * stars["v_x"]
    by_galaxy = spin.reshape(3, 5000).mean(axis=1)
    assert (by_galaxy > 0).all()
    radius = np.hypot(stars["x"], stars["y"]).reshape(3, 5000)
    assert_allclose(np.median(radius, axis=1) / galaxies["r_eff"], 1, atol=0.1)
    medians = np.median(stars["age"].reshape(3, 5000), axis=1)
    assert_allclose(medians / galaxies["median_age"], 1, atol=0.25)
    assert np.isfinite(log_prob(stars, galaxies, model="default")["log_prob"]).all()
