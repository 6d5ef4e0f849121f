# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest

from galml.physics import (
    AGE_OF_UNIVERSE,
    STAR_AXES,
    star_table,
    weighted_percentile,
)


def test_star_table():
    values = np.arange(20.0).reshape(2, 10)
    table = star_table(values)
    assert table.colnames == list(STAR_AXES)
    assert table["v_x"].unit == u.km / u.s and table["fe_h"].unit == u.dex
    assert table["metal_mass_fraction"].tolist() == [6, 16]
    assert table["age"].to_value(u.Gyr).tolist() == [9, 19]


def test_age_of_the_universe():
    assert AGE_OF_UNIVERSE == pytest.approx(13.79, abs=0.01)


def test_weighted_percentile():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 8.0])
    assert weighted_percentile(values, 5, weights) == 1
    assert weighted_percentile(values, 50, weights) == 2
    assert weighted_percentile(values, 95, weights) == 3
