# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.table import Column, MaskedColumn

from galml.core import DESCRIPTIONS, Flag, InputError, InputTypeError, decode_flags
from galml.core.flags import outside_domain, with_flags


def test_bits_are_distinct_powers_of_two_that_fit_int32():
    values = [flag.value for flag in Flag]
    assert values == [2**i for i in range(len(values))]
    assert sum(values) <= np.iinfo(np.int32).max


def test_values_are_those_published():
    assert (Flag.FAILED, Flag.NO_WCS, Flag.UNREADABLE) == (1, 512, 4096)


def test_every_flag_is_described():
    assert list(DESCRIPTIONS) == list(Flag)
    assert all(text.endswith(".") for text in DESCRIPTIONS.values())


@pytest.mark.parametrize("kind", [int, np.int32, np.uint16, np.array, Flag])
def test_one_value(kind):
    assert decode_flags(kind(514)) == ("nonfinite", "no_wcs")


@pytest.mark.parametrize("kind", [list, np.array, Column])
def test_columns(kind):
    assert decode_flags(kind([0, 1, 3])) == [(), ("failed",), ("failed", "nonfinite")]


def test_names_as_text():
    assert decode_flags(514, separator=" ") == "nonfinite no_wcs"
    assert decode_flags([0, 1, 3], separator=", ") == [
        "",
        "failed",
        "failed, nonfinite",
    ]


def test_masked_entries_have_no_bits():
    assert decode_flags(MaskedColumn([1, 1], mask=[True, False])) == [(), ("failed",)]


def test_nothing():
    assert decode_flags([]) == []


@pytest.mark.parametrize("flags", [0.5, [1.0], "failed", [[1, 2]], None, True])
def test_what_is_no_flag_raises(flags):
    with pytest.raises(InputTypeError, match="flags: got"):
        decode_flags(flags)


def test_negative_flags_raise():
    with pytest.raises(InputError, match="flags: got -2, expected integers of"):
        decode_flags([1, -2])


def test_bits_are_added_to_new_flags():
    before = np.array([0, 1, 32])
    states = {
        Flag.LOW_SNR: [True, False, True],
        Flag.TRUNCATED: np.array([0, 1, 1]) > 0,
    }
    assert with_flags(before, states).tolist() == [32, 9, 40]
    assert before.tolist() == [0, 1, 32]


def test_zero_is_unknown_and_never_outside_the_domain():
    domain = {"low": [1.0, -1.0], "high": [2.0, 1.0]}
    scalars = np.array([[1.5, 0.5], [0.0, 0.5], [0.5, 0.5], [1.5, 1.1], [2.0, -1.0]])
    outside = outside_domain(scalars, domain)
    assert outside.tolist() == [False, False, True, True, False]
