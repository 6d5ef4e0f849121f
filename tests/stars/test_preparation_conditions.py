# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.physics import CONDITIONS, SOLAR_METALLICITY
from galml.stars.preparation import read_conditions

EXPECTED = [[9, 4, 1, -1], [np.log10(5e10), 6, 2, -0.1], [np.log10(2e11), 9, 6, 0.1]]


def test_values(galaxies):
    read = read_conditions(galaxies)
    assert_allclose(read.values[:, :4], EXPECTED, rtol=1e-12)
    assert np.isnan(read.values[:, 4]).all()
    assert read.names.tolist() == ["dwarf", "spiral", "giant"]
    assert read.latent is None
    assert read.images is None
    assert read.n_stars is None
    assert not read.errors
    assert not read.flags.any()
    assert len(read) == 3


def test_other_units(galaxies):
    galaxies["stellar_mass"] = galaxies["stellar_mass"].to(u.kg)
    galaxies["median_age"] = galaxies["median_age"].to(u.s)
    fraction = SOLAR_METALLICITY * 10 ** galaxies["metallicity"].value
    for metals in (fraction, fraction * 100 * u.percent, fraction * u.one):
        galaxies["metallicity"] = metals
        assert_allclose(read_conditions(galaxies).values[:, :4], EXPECTED, rtol=1e-12)
    galaxies["stellar_mass"] = np.array(EXPECTED)[:, 0] * u.dex(u.Msun)
    for table in (galaxies, Table(galaxies)):
        assert_allclose(read_conditions(table).values[:, :4], EXPECTED, rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stellar_mass", -1 * u.Msun),
        ("stellar_mass", 0 * u.Msun),
        ("stellar_mass", np.inf * u.Msun),
        ("median_age", np.nan * u.Gyr),
        ("median_age", 0 * u.Gyr),
        ("age_percentile_10", 6.1 * u.Gyr),
        ("age_percentile_10", -0.1 * u.Gyr),
        ("metallicity", np.nan * u.dex),
    ],
)
def test_bad_rows(galaxies, key, value):
    galaxies[key][1] = value
    read = read_conditions(galaxies)
    assert list(read.errors) == [1]
    assert key in str(read.errors[1])
    assert str(value) in str(read.errors[1])
    assert read.flags.tolist() == [0, int(Flag.FAILED), 0]
    assert np.isnan(read.values[1]).all()
    assert_allclose(read.values[[0, 2], :4], np.array(EXPECTED)[[0, 2]], rtol=1e-12)
    with pytest.raises(InputError, match=key):
        read_conditions(galaxies[1:2])


def test_sizes(galaxies):
    galaxies["r_eff"] = [0.002, np.nan, 5e-3] * u.Mpc
    read = read_conditions(galaxies)
    assert_allclose(read.values[:, 4], np.log10([2, np.nan, 5]))
    assert not read.errors
    galaxies["r_eff"][2] = 0 * u.Mpc
    read = read_conditions(galaxies)
    assert list(read.errors) == [2]
    assert "r_eff" in str(read.errors[2])
    galaxies["r_eff"] = [1, 2, 3] * u.arcsec
    with pytest.raises(InputUnitError, match="r_eff"):
        read_conditions(galaxies)


@pytest.mark.parametrize("value", [-0.3, 0.0, 1.5])
def test_metallicity_without_unit_is_a_mass_fraction(galaxies, value):
    galaxies["metallicity"] = [0.01, value, 0.02]
    assert "dex" in str(read_conditions(galaxies).errors[1])


def test_equal_ages(galaxies):
    galaxies["age_percentile_10"] = galaxies["median_age"].to(u.s)
    assert not read_conditions(galaxies).errors


@pytest.mark.parametrize(
    ("key", "column", "error"),
    [
        ("stellar_mass", None, InputError),
        ("metallicity", None, InputError),
        ("stellar_mass", [1e9] * 3, InputUnitError),
        ("median_age", [4, 6, 9] * u.kpc, InputUnitError),
        ("metallicity", [4, 6, 9] * u.kpc, InputUnitError),
        ("n_stars", [1, 2, 3] * u.kpc, InputUnitError),
        ("realization", [1, 2, 3] * u.kpc, InputUnitError),
        ("realization", np.zeros((3, 2), int), InputError),
        ("realization", ["a", "b", "c"], InputTypeError),
        ("latent", [1.0, 2, 3], InputError),
        ("latent", np.ones((3, 2)) * u.kpc, InputUnitError),
        ("latent", [["a"], ["b"], ["c"]], InputError),
    ],
)
def test_bad_columns(galaxies, key, column, error):
    if key in galaxies.colnames:
        del galaxies[key]
    if column is not None:
        galaxies[key] = column
    with pytest.raises(error, match=key):
        read_conditions(galaxies)


def test_only_what_is_needed(galaxies):
    read = read_conditions(galaxies["stellar_mass", "galaxy_id"], ["log_stellar_mass"])
    assert_allclose(read.values[:, 0], np.array(EXPECTED)[:, 0])
    assert np.isnan(read.values[:, 1:]).all()
    assert not read.errors
    assert CONDITIONS[0] == "log_stellar_mass"


def test_names(galaxies):
    galaxies.rename_column("galaxy_id", "id")
    assert read_conditions(galaxies).names[1] == "spiral"
    galaxies["name"] = MaskedColumn(["A", "B", ""], mask=[False, True, False])
    assert read_conditions(galaxies).names.tolist() == ["A", "1", "2"]
    galaxies["galaxy_id"] = [7, 8, 9]
    assert read_conditions(galaxies).names.tolist() == [7, 8, 9]
    galaxies.remove_columns(["id", "name", "galaxy_id"])
    assert read_conditions(galaxies).names.tolist() == [0, 1, 2]


def test_latent_and_numbers(galaxies):
    galaxies["latent"] = [[1.0, 2], [3, np.nan], [5, 6]]
    galaxies["n_stars"] = [1.0, 2.5, 3]
    galaxies["realization"] = np.array([2**63 - 1, 1, 2])
    galaxies["image"] = [None, "a.fits", None]
    read = read_conditions(galaxies)
    assert np.isnan(read.latent[1]).all()
    assert read.latent[2].tolist() == [5, 6]
    assert read.n_stars.tolist() == [1, 0, 3]
    assert read.realization.tolist() == [2**63 - 1, 0, 2]
    assert list(read.errors) == [1]
    assert read.images[1] == "a.fits"


number = st.floats(width=64)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(number, number, number, number), min_size=2, max_size=5))
def test_any_numbers(rows):
    mass, median, young, metals = np.array(rows).T
    table = QTable(
        {
            "stellar_mass": mass * u.Msun,
            "median_age": median * u.Gyr,
            "age_percentile_10": young * u.Gyr,
            "metallicity": metals,
        }
    )
    with np.errstate(over="ignore"):
        read = read_conditions(table)
    failed = read.flags != 0
    assert np.isfinite(read.values[~failed, :4]).all()
    assert np.isnan(read.values[failed]).all()
    assert sorted(read.errors) == np.flatnonzero(failed).tolist()
    possible = (mass > 0) & (median > 0) & (young >= 0) & (metals > 0) & (metals < 1)
    assert possible[~failed].all()


def test_standardized():
    table = QTable({name: [0.0, -3.0, np.nan, np.inf] for name in CONDITIONS})
    read = read_conditions(table, standardized=True)
    assert read.values[:2, :4].tolist() == [[0.0] * 4, [-3.0] * 4]
    assert list(read.errors) == [2, 3]
    table["median_age"] = [1, 2, 3, 4] * u.Gyr
    with pytest.raises(InputUnitError, match="median_age"):
        read_conditions(table, standardized=True)
