# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pickle
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.utils.exceptions import AstropyUserWarning

from galml import core
from galml.core.exceptions import check_whole

ERRORS = [core.InputError, core.InputTypeError, core.InputUnitError]


@pytest.mark.parametrize("kind", ERRORS)
def test_input_errors_name_argument_got_and_expected(kind):
    error = kind("beam", "3 km", "an angle")
    assert str(error) == "beam: got 3 km, expected an angle"
    assert (error.argument, error.got, error.expected) == ("beam", "3 km", "an angle")


@pytest.mark.parametrize("kind", ERRORS)
def test_input_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("a", "b", "c")))
    assert type(error) is kind
    assert str(error) == "a: got b, expected c"


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (core.InputError, (core.GalmlError, ValueError)),
        (core.InputTypeError, (core.InputError, TypeError)),
        (core.InputUnitError, (core.InputError, u.UnitConversionError)),
        (core.FileError, (core.InputError, OSError)),
        (core.MissingFileError, (core.FileError, FileNotFoundError)),
        (core.ModelError, (core.GalmlError, ValueError)),
        (core.WeightsError, (core.ModelError,)),
        (core.GalmlWarning, (AstropyUserWarning,)),
    ],
)
def test_errors_are_caught_as_their_python_kind(kind, parents):
    assert all(issubclass(kind, parent) for parent in parents)


def test_core_is_light():
    heavy = "torch specutils photutils reproject scipy astropy.table astropy.wcs"
    code = f"""import sys, galml.core
found = [name for name in {heavy.split()} if name in sys.modules]
sys.exit(", ".join(found) or 0)"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None, np.float64(2), 9])
def test_what_is_no_whole_number_of_a_range(value):
    with pytest.raises(core.InputError, match="^n: got .* a whole number from 1"):
        check_whole("n", value, 1, 8)


@pytest.mark.parametrize("value", [1, np.int64(8), 10**20])
def test_whole_numbers(value):
    check_whole("n", value)
    with pytest.raises(core.InputError, match="a whole number of at least 1000"):
        check_whole("n", min(value, 9), 1000)
