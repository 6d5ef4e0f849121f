# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import pytest
from astropy.coordinates import SkyCoord

from galml.core.exceptions import InputError
from galml.core.inputs import RowOptions

SKY = SkyCoord([1, 2, 3] * u.deg, [0, 0, 0] * u.deg)


def rows(options, *, is_single=False, length=3, **more):
    return RowOptions(options, is_single=is_single, length=length, **more)


def test_one_value_or_one_for_each():
    options = rows({"a": 5, "b": [1, 2, 3] * u.pix, "c": SKY, "d": None})
    found = options.row(1)
    assert found["a"] == 5 and found["b"] == 2 * u.pix and found["d"] is None
    assert found["c"].ra == 2 * u.deg
    assert rows({"c": SKY[0]}).row(2)["c"].ra == 1 * u.deg


def test_a_pair_of_numbers_is_one_center():
    assert rows({"center": (4, 5)}).row(2)["center"] == (4, 5)
    assert rows({"center": [(4, 5), (6, 7), (8, 9)]}).row(2)["center"] == (8, 9)
    assert rows({"other": (4, 5, 6)}).row(2)["other"] == 6
    shape = rows({"other": (4, 5)}, vectors=("other",))
    assert shape.row(0)["other"] == (4, 5)


@pytest.mark.parametrize("length, is_single", [(3, False), (1, True)])
def test_numbers_of_values_must_fit(length, is_single):
    with pytest.raises(InputError, match="^a: got 2 values"):
        rows({"a": [1, 2]}, length=length, is_single=is_single)


def test_unknown_length_is_checked_late():
    options = rows({"a": [1, 2]}, length=None)
    assert options.row(1) == {"a": 2}
    with pytest.raises(InputError, match="^a: got 2 values, expected one for each"):
        options.row(2)
