# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of an operation: one value for all objects, or one for each."""

from numbers import Real

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from galml.core.exceptions import InputError

__all__ = ["RowOptions"]


class RowOptions:
    """Values of options, object by object.

    Parameters
    ----------
    options : dict
        Value of each option: one for all objects, or an array, Quantity, SkyCoord,
        list or tuple with one for each.
    is_single : bool
        Whether there is one object, not a batch; then each option has one value.
    length : int or None
        Number of objects of a batch, where it is known.
    vectors : tuple of str
        Options where a sequence of numbers is one value.

    Raises
    ------
    galml.core.InputError
        Where there are values for another number of objects.
    """

    def __init__(self, options, *, is_single, length, vectors=("center",)):
        self.options, self.is_single, self.vectors = options, is_single, vectors
        for name, value in options.items():
            if not self._is_per_row(name, value):
                continue
            if is_single or len(value) != (length or len(value)):
                expected = "one value" if is_single else f"one value, or {length}"
                raise InputError(name, f"{len(value)} values", expected)

    def row(self, index):
        """Give the values for one object, as a dict."""
        return {name: self._of(name, v, index) for name, v in self.options.items()}

    def _of(self, name, value, index):
        if self.is_single or not self._is_per_row(name, value):
            return value
        if index >= len(value):
            raise InputError(name, f"{len(value)} values", "one for each object")
        return value[index]

    def _is_per_row(self, name, value):
        """Tell one value for each object from one for all."""
        if isinstance(value, SkyCoord | np.ndarray) and value.ndim == 0:
            return False
        if not isinstance(value, SkyCoord | np.ndarray | list | tuple):
            return False
        return name not in self.vectors or not all(_is_number(one) for one in value)


def _is_number(value):
    return isinstance(value, Real) or isinstance(value, u.Quantity) and value.isscalar
