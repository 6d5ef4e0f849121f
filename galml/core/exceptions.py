# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Errors and warnings raised by galml."""

from numbers import Integral
from types import MappingProxyType

from astropy.units import UnitConversionError
from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "FileError",
    "GalmlError",
    "GalmlWarning",
    "InputError",
    "InputTypeError",
    "InputUnitError",
    "MissingFileError",
    "ModelError",
    "WeightsError",
    "check_whole",
]


class GalmlError(Exception):
    """Base of every error that galml raises on purpose."""


class InputError(GalmlError, ValueError):
    """An argument has the right type but cannot be used.

    Parameters
    ----------
    argument : str
        Name of the argument.
    got : str
        What was passed.
    expected : str
        What would have been accepted.
    """

    def __init__(self, argument, got, expected):
        super().__init__(argument, got, expected)
        self.argument = argument
        self.got = got
        self.expected = expected

    def __str__(self):
        return f"{self.argument}: got {self.got}, expected {self.expected}"


class InputTypeError(InputError, TypeError):
    """An argument has a type that is not understood."""


class InputUnitError(InputError, UnitConversionError):
    """An argument has no unit, or one that cannot be converted."""


class FileError(InputError, OSError):
    """A file cannot be read or written."""


class MissingFileError(FileError, FileNotFoundError):
    """A file is not there."""


class ModelError(GalmlError, ValueError):
    """A model is unknown, badly configured or made for another operation."""


class WeightsError(ModelError):
    """A file of weights is damaged, or is not the file that was expected."""


class RunError(GalmlError, RuntimeError):
    """A run on several workers came to no end; the same call goes on with it."""


class GalmlWarning(AstropyUserWarning):
    """Every warning that galml issues.

    Attributes
    ----------
    reasons : mapping of int to str
        Of a batch: why there is no result, by the number of the row.
    """

    reasons = MappingProxyType({})


def check_whole(argument, value, least=1, most=None):
    """Raise where an argument is no whole number of a range.

    Parameters
    ----------
    argument : str
        Its name.
    value : object
        What was passed.
    least, most : int, optional
        The range; None is without a limit.

    Raises
    ------
    galml.core.InputError
        If it is another one, or no whole number.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        expected = f"a whole number of at least {least}"
        if most is not None:
            expected = f"a whole number from {least} to {most}"
        raise InputError(argument, repr(value), expected)
