# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one way in: one object or many, read when their turn comes."""

import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D, NDData
from astropy.table import Column, Table

from galml.core.exceptions import GalmlError, InputError, InputTypeError
from galml.core.files import IMAGE_HDUS, parse_unit
from galml.core.observation import EXPECTED, Observation, is_tensor, name_of, read

__all__ = ["Failure", "Observation", "read", "stream"]

# Columns of a table that hold file names, and those that name its rows.
_FILE_COLUMNS = ("file", "filename", "path")
_NAME_COLUMNS = ("name", "id")


@dataclass
class Failure:
    """A member of a batch that could not be read.

    Attributes
    ----------
    error : Exception
        Why.
    name : str or None
        Name of the member, where it could be told.
    """

    error: Exception
    name: str | None = None


def stream(data, *, argument="data", unit=None, hdu=None, ndim=(2,)):
    """Read one object, or each of many when its turn comes.

    Parameters
    ----------
    data : object
        Anything that `read` takes is one object. A sequence or iterator of such is a
        batch; so are an array or Quantity with one dimension more than needed, a
        table with one column of images or file names (named ``file``, ``filename`` or
        ``path``; a column ``name`` or ``id`` names the rows), and a ccdproc
        ``ImageFileCollection``.
    argument, unit, hdu, ndim
        As for `read`.

    Returns
    -------
    is_single : bool
        Whether ``data`` was one object. It has been read, and its errors raised.
    length : int or None
        Number of members; None when only reading can tell.
    members : iterator of `Observation` or `Failure`
        In order. A member of a batch that cannot be read is a `Failure`.

    Raises
    ------
    galml.core.InputError
        As `read` does for a single object, or when a table has no column of images or
        more than one.
    """
    options = {"argument": argument, "unit": unit, "hdu": hdu, "ndim": ndim}
    if unit is not None:
        options["unit"] = parse_unit(unit, "unit")
    if is_tensor(data):
        data = data.numpy(force=True)
    if isinstance(data, Table):
        length, items, names, own = _table_members(data, argument, ndim)
    elif hasattr(data, "ccds") and hasattr(data, "files_filtered"):
        items = data.files_filtered(include_path=True)
        length, names, own = len(items), repeat(None), {}
        if hdu is None and data.ext:
            own = {"hdu": data.ext}
    elif _is_single(data, ndim):
        return True, 1, iter((read(data, **options),))
    elif isinstance(data, Iterable) and not isinstance(data, Mapping):
        length = len(data) if isinstance(data, Sized) else None
        items, names = data, repeat(None)
        own = _column_unit(data)
    else:
        raise InputTypeError(
            argument, f"an object of type {type(data).__name__}", EXPECTED
        )
    return False, length, _read_each(items, names, options | own)


def _read_each(items, names, options):
    """Read the members of a batch, one at a time."""
    for item, name in zip(items, names, strict=False):
        try:
            member = read(item, **options)
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as error:
            member = Failure(error, name_of(item, getattr(item, "meta", None)))
        if name is not None:
            member.name = name
        yield member


def _is_single(data, ndim):
    """Tell one image or cube from a batch of them."""
    kinds = (str, os.PathLike, NDData, Cutout2D, fits.HDUList, *IMAGE_HDUS)
    if isinstance(data, kinds):
        return True
    if isinstance(data, np.ndarray):
        return data.dtype.kind not in "OSU" and data.ndim != min(ndim) + 1
    return False


def _column_unit(data):
    """Give the unit of a plain table column, as an option of `read`."""
    unit = data.unit if isinstance(data, Column) else None
    return {} if unit is None else {"unit": unit}


def _table_members(table, argument, ndim):
    """Find the images of a table, or their files, and the names of its rows."""
    images, names = [], repeat(None)
    for key in table.colnames:
        column = table[key]
        kind = getattr(getattr(column, "dtype", None), "kind", "")
        if key.lower() in _NAME_COLUMNS:
            names = [None if np.ma.is_masked(row) else str(row) for row in column]
        elif (
            kind == "O"
            or (kind in ("S", "U") and key.lower() in _FILE_COLUMNS)
            or (kind in ("i", "u", "f") and column.ndim == min(ndim) + 1)
        ):
            images.append(key)
    if len(images) != 1:
        raise InputError(
            argument,
            f"a table with {len(images)} columns of images or files {images}",
            "exactly one",
        )
    column = table[images[0]]
    return len(table), column, names, _column_unit(column)
