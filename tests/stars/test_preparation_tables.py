# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.inputs import as_table
from galml.physics import STAR_AXES, star_table
from galml.stars.preparation import read_column, read_stars


@pytest.fixture
def values():
    return np.random.default_rng(1).uniform(0.1, 1, (7, len(STAR_AXES)))


def test_round_trip(values):
    table = star_table(values)
    assert table.colnames == list(STAR_AXES)
    assert table["fe_h"].unit == u.dex
    assert not hasattr(table["metal_mass_fraction"], "unit") or (
        table["metal_mass_fraction"].unit is None
    )
    back, unknown = read_stars(table)
    assert_allclose(back, values, rtol=1e-15)
    assert not unknown.any()


def test_units_and_plain_tables(values):
    table = star_table(values)
    table["x"] = table["x"].to(u.pc)
    table["v_x"] = table["v_x"].to(u.m / u.s)
    table["age"] = table["age"].to(u.Myr)
    table["metal_mass_fraction"] = table["metal_mass_fraction"] * 100 * u.percent
    table["fe_h"] = table["fe_h"].value * u.dex(u.one)
    table["o_fe"] = table["o_fe"].value
    for one in (table, Table(table), dict(table.columns)):
        back, _ = read_stars(one)
        assert_allclose(back, values, rtol=1e-12)


def test_order_of_axes(values):
    back, _ = read_stars(star_table(values), {"age": u.Myr, "x": u.kpc})
    assert_allclose(back, values[:, [9, 0]] * [1000, 1], rtol=1e-15)


def test_unknown_stars(values):
    table = star_table(values)
    table["x"][1] = np.nan
    table["y"][2] = np.inf * u.kpc
    table["age"] = Masked(table["age"], mask=np.arange(7) == 3)
    table["fe_h"] = MaskedColumn(table["fe_h"].value, mask=np.arange(7) == 4)
    back, unknown = read_stars(table)
    assert unknown.tolist() == [False, True, True, True, True, False, False]
    assert np.isnan(back[3, 9])
    assert np.isnan(back[4, 7])


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (None, InputError, "no column 'x'"),
        (np.ones(7), InputUnitError, "without a unit"),
        (np.ones(7) * u.s, InputUnitError, "values in s"),
        (np.ones((7, 3)) * u.kpc, InputError, "one number for each row"),
        (["a"] * 7, InputTypeError, "no numbers"),
    ],
)
def test_errors(values, column, error, message):
    table = star_table(values)
    del table["x"]
    if column is not None:
        table["x"] = column
    with pytest.raises(error, match=message):
        read_stars(table)


def test_abundance_is_no_magnitude(values):
    table = star_table(values)
    table["fe_h"] = np.ones(7) * u.kpc
    with pytest.raises(InputUnitError, match="fe_h"):
        read_stars(table)


def test_no_table():
    with pytest.raises(InputTypeError, match="a QTable"):
        as_table(3, "stars")
    with pytest.raises(InputError, match="columns of equal length"):
        as_table({"a": [1, 2], "b": [1, 2, 3]}, "stars")


def test_row_is_a_table_of_one(values):
    row = as_table(star_table(values)[2], "stars")
    assert read_column(row, "age", u.Gyr, argument="stars") == values[2, 9]


def test_input_is_not_changed(values):
    table = star_table(values)
    back, _ = read_stars(table)
    back[:] = 0
    assert_allclose(read_stars(table)[0], values)
