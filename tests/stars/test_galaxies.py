# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.stars.galaxies import read_galaxies
from galml.stars.population import find_domain, find_sizes

OUT, FAILED = int(Flag.OUT_OF_DOMAIN), int(Flag.FAILED)


@pytest.fixture
def known(make_model):
    """A model that knows 40 galaxies, and how their sizes scatter."""
    model = make_model()
    rng = np.random.default_rng(0)
    mass = rng.uniform(8, 11.5, 40)
    rows = np.stack([mass, mass - 3, mass / 4, mass / 5 - 2, mass / 4 - 2], 1)
    rows[:, 1:] += 0.1 * rng.normal(size=(40, 4))
    names = [*(one["name"] for one in model.config["conditions"]), "log_r_eff"]
    model.config["conditions"] = [
        {"name": name, "lo": low, "hi": high}
        for name, low, high in zip(names, rows.min(0), rows.max(0), strict=True)
    ]
    model.config["domain"] = find_domain(rows)
    model.config["sizes"] = find_sizes(rows[:, :4], rows[:, 4])
    return model, rows


def as_conditions(rows):
    return {
        "stellar_mass": 10 ** rows[:, 0] * u.Msun,
        "median_age": rows[:, 1] * u.Gyr,
        "age_percentile_10": rows[:, 2] * u.Gyr,
        "metallicity": rows[:, 3] * u.dex,
        "r_eff": 10 ** rows[:, 4] * u.kpc,
    }


def test_context(model, galaxies):
    found = read_galaxies(galaxies, model)
    assert found.names.tolist() == ["dwarf", "spiral", "giant"]
    expected = np.log10(galaxies["stellar_mass"].value)
    assert_allclose(found.context[:, 0], expected)
    assert_allclose(found.context, found.values)
    assert_allclose(found.mass, galaxies["stellar_mass"].value)
    assert not found.scatter.any() and not found.failed.any()
    assert found.with_sizes(2.0) is found.context


def test_outside_of_a_range(model, galaxies):
    galaxies["median_age"][1] = 13 * u.Gyr
    galaxies["metallicity"][2] = 0.6 * u.dex
    assert read_galaxies(galaxies, model).flags.tolist() == [0, OUT, OUT]


def test_bad_galaxies(model, galaxies):
    galaxies["stellar_mass"][1] = -1 * u.Msun
    found = read_galaxies(galaxies, model)
    assert found.failed.tolist() == [False, True, False]
    assert len(found.errors) == 1 and "stellar_mass" in str(found.errors[0])
    assert np.isfinite(found.context).all()
    with pytest.raises(InputError, match="stellar_mass"):
        read_galaxies(galaxies[1:2], model)
    with pytest.raises(InputError, match="expected a table with"):
        read_galaxies(None, model)
    with pytest.raises(InputError, match="no rows"):
        read_galaxies(galaxies[:0], model)


def test_sizes_that_are_not_given(known):
    model, rows = known
    table = as_conditions(rows)
    table["r_eff"][::2] = np.nan
    found = read_galaxies(table, model)
    assert_allclose(found.context[1::2, 4], rows[1::2, 4])
    assert np.isnan(found.values[::2, 4]).all()
    assert (found.scatter[::2] > 0.05).all() and not found.scatter[1::2].any()
    assert abs(found.context[::2, 4] - rows[::2, 4]).max() < 0.5
    larger = found.with_sizes(1.5)[:, 4] - found.context[:, 4]
    assert_allclose(larger, 1.5 * found.scatter)


def test_conditions_that_do_not_go_together(known):
    """Each is as in some galaxy, all together as in none."""
    model, rows = known
    mixed = rows[:3].copy()
    mixed[0, 0], mixed[0, 1:] = rows[:, 0].max(), rows[rows[:, 0].argmin(), 1:]
    found = read_galaxies(as_conditions(mixed), model)
    assert found.flags.tolist() == [OUT | FAILED, 0, 0]
    assert "conditions[0]: got log_stellar_mass" in str(found.errors[0])
    kept = read_galaxies(as_conditions(mixed), model, refuse=False)
    assert kept.flags.tolist() == [OUT, 0, 0] and not kept.errors
    with pytest.raises(InputError, match="go together"):
        read_galaxies(as_conditions(mixed[:1]), model)


def test_latents(make_model, galaxies):
    model = make_model(latent=2)
    assert np.isnan(read_galaxies(galaxies, model).context[:, 4:]).all()
    galaxies["latent"] = [[1.0, 2.0], [np.nan, 4.0], [5.0, 6.0]]
    found = read_galaxies(galaxies, model).context[:, 4:]
    assert_allclose(found, [[1, 2], [np.nan, np.nan], [5, 6]])
    galaxies["latent"] = np.zeros((3, 3))
    with pytest.raises(InputError, match="3 latents"):
        read_galaxies(galaxies, model)
