# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one way in: any object that holds an image or cube, or many of them.

Nothing that is passed in is ever changed, and no array that comes out shares memory
with it. Members of a batch are read when their turn comes.
"""

import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from numbers import Real
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord, SpectralQuantity
from astropy.io import fits
from astropy.nddata import Cutout2D, NDData, StdDevUncertainty
from astropy.table import Column, MaskedColumn, QTable, Row, Table

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import IMAGE_HDUS, file_stem, parse_unit, read_fits, read_hdu
from galml.core.flags import Flag
from galml.core.geometry import (
    arrange,
    celestial,
    choose_channels,
    in_vacuum,
    spectral_axis,
)

__all__ = [
    "BLOCK",
    "BLOCK_PIXELS",
    "EXPECTED",
    "Failure",
    "Observation",
    "RowOptions",
    "Source",
    "as_nddata",
    "as_table",
    "check_columns",
    "convert_each",
    "is_record",
    "is_table",
    "is_tensor",
    "name_of",
    "read",
    "stream",
]

#: Most arrays, and pixels of all of them, that are read together.
BLOCK = 256
BLOCK_PIXELS = 4_000_000
#: What `read` takes, for error messages.
EXPECTED = (
    "CCDData, NDData, Cutout2D, Quantity, array, image HDU, HDUList, path to a FITS "
    "file or Spectrum"
)


@dataclass
class Observation:
    """One image or cube, ready to be prepared.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape ``(ny, nx)``, or ``(channels, ny, nx)`` for a cube; float32 or float64 in
        native byte order. Masked and non-finite pixels are NaN.
    unit : `~astropy.units.UnitBase`
        Unit of ``values``.
    std : `~numpy.ndarray` or None
        Standard deviation in the same unit; NaN where masked.
    mask : `~numpy.ndarray` of bool
        True where there is no usable value.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        Celestial WCS of an image; the whole WCS of a cube (its celestial part is
        `galml.core.geometry.celestial`).
    meta : dict
        Copy of the metadata or header.
    name : str or None
        ``OBJECT`` or ``NAME`` of the metadata, or the file name without suffix.
    flags : int
        Bits of `galml.core.Flag`: ``NONFINITE``, ``NO_UNCERTAINTY``, ``NO_WCS``.
    spectral_axis : `~astropy.coordinates.SpectralQuantity` or None
        One value per channel of a cube, with rest value and Doppler convention where
        they are known; wavelengths are in vacuum where the WCS tells.
    """

    values: np.ndarray
    unit: u.UnitBase
    std: np.ndarray | None
    mask: np.ndarray
    wcs: object = None
    meta: dict = field(default_factory=dict)
    name: str | None = None
    flags: int = 0
    spectral_axis: u.Quantity | None = None


def read(obj, *, argument="data", unit=None, hdu=None, ndim=(2,), channels=None):
    """Read one image or cube.

    Parameters
    ----------
    obj : object
        `~astropy.nddata.NDData` and `~astropy.nddata.CCDData`,
        `~astropy.nddata.Cutout2D`, `~astropy.units.Quantity` and its masked form,
        array, masked array, torch tensor, image HDU, `~astropy.io.fits.HDUList`, path
        to a FITS file, or specutils ``Spectrum`` holding a cube. Axes of length 1 in
        excess are dropped; the spectral axis of a cube is moved first.
    argument : str
        Name used in errors.
    unit : `~astropy.units.UnitBase` or str, optional
        Unit of data that have none, or none that can be understood. The unit that
        data have of themselves always counts.
    hdu : int, str or tuple, optional
        Extension of FITS files and HDULists; ``(extension, channel)`` takes one plane
        of a three-dimensional extension. The partners that the header names by
        ``ERRDATA`` and ``QUALDATA`` are used. Default: the first image that fits.
    ndim : tuple of int
        Accepted numbers of dimensions.
    channels : callable, optional
        ``channels(axis)`` takes the spectral axis of a cube and gives the slice of
        channels to read.

    Returns
    -------
    Observation
        What was read, copied.

    Raises
    ------
    galml.core.InputTypeError
        For objects, pixels or uncertainties of a kind that is not understood.
    galml.core.InputUnitError
        When there is no unit.
    galml.core.InputError
        For shapes that do not fit, files that are damaged, extensions that are not
        there.
    OSError
        When a file is not there or may not be read.
    """
    unit = None if unit is None else parse_unit(unit, "unit")
    data = as_nddata(obj, argument, unit, hdu, ndim, channels)
    pixels = _checked(data.data, argument)
    if data.unit is None and unit is None:
        raise InputUnitError(argument, "data without a unit", "a unit, or unit=")
    axes, wcs = arrange(data.wcs, pixels.shape, min(ndim), argument)
    if len(axes) not in ndim:
        wanted = " or ".join(f"{n}-D" for n in ndim)
        raise InputError(
            argument, f"an array of shape {pixels.shape}", f"{wanted} data"
        )

    mask = _arranged(_full_mask(data.mask, pixels.shape, argument), axes)
    values = _arranged(pixels, axes)
    observation = Observation(
        values=values.astype(_precision(values.dtype)),
        unit=unit if data.unit is None else data.unit,
        std=None,
        mask=mask.copy(),
        wcs=wcs if len(axes) == 3 else celestial(wcs),
        meta=_flat_meta(data.meta),
        name=name_of(obj, data.meta),
        spectral_axis=_spectral_axis(data, wcs, len(axes), values.shape[0]),
    )
    _drop_unusable(observation)
    if data.uncertainty is None:
        observation.flags |= Flag.NO_UNCERTAINTY
    else:
        _add_std(observation, data.uncertainty, pixels.shape, axes, argument)
    if celestial(observation.wcs) is None:
        observation.flags |= Flag.NO_WCS
    observation.flags = int(observation.flags)
    return observation


def as_table(table, argument):
    """Read anything that has named columns as a table, without copying them.

    Parameters
    ----------
    table : `~astropy.table.Table`, `~astropy.table.Row` or mapping
        Columns, or one row of them.
    argument : str
        Name used in errors.

    Returns
    -------
    `~astropy.table.QTable`

    Raises
    ------
    galml.core.InputTypeError
        For anything else.
    galml.core.InputError
        For columns of unequal lengths.
    """
    if isinstance(table, QTable):
        return table
    try:
        if isinstance(table, Table):
            return QTable(table, copy=False)
        if hasattr(table, "colnames"):
            return QTable(table)
        if hasattr(table, "keys"):
            return QTable(
                {k: np.atleast_1d(v) for k, v in dict(table).items()}, copy=False
            )
    except (TypeError, ValueError) as error:
        raise InputError(
            argument, f"columns ({error})", "columns of equal length"
        ) from error
    raise InputTypeError(argument, type(table).__name__, "a QTable")


def is_table(one):
    """Whether something has columns, and is not an array."""
    # A series of pandas has keys, too.
    keyed = hasattr(one, "keys") and getattr(one, "ndim", 2) == 2
    return hasattr(one, "colnames") or keyed


def check_columns(table, names, expected, argument="table"):
    """Raise where something is no table, row, data frame or mapping, or lacks columns.

    Parameters
    ----------
    table : object
        What was passed.
    names : sequence of str
        Columns that it must have.
    expected : str
        What has them.
    argument : str
        Name used in errors.

    Raises
    ------
    galml.core.InputTypeError
        For what has no columns.
    galml.core.InputError
        For the first one that is missing.
    """
    if not is_table(table):
        raise InputTypeError(argument, type(table).__name__, expected)
    known = getattr(table, "colnames", table)
    for name in names:
        if name not in known:
            raise InputError(argument, f"no column {name}", expected)


def is_tensor(data):
    """Recognize a torch tensor without importing torch."""
    return type(data).__module__.partition(".")[0] == "torch"


def as_nddata(obj, argument, unit, hdu, ndim, channels=None):
    """Bring every kind of input into the shape of NDData, without copying."""
    options = {"argument": argument, "unit": unit, "hdu": hdu, "ndim": ndim}
    if isinstance(obj, NDData):
        if channels is None:
            return obj
        return _with_channels(obj, channels, argument, ndim)
    if isinstance(obj, str | os.PathLike):
        return read_fits(obj, channels=channels, **options)
    if isinstance(obj, (fits.HDUList, *IMAGE_HDUS)):
        return read_hdu(obj, channels=channels, **options)
    if isinstance(obj, Cutout2D):
        return NDData(obj.data, wcs=obj.wcs)
    if isinstance(obj, MaskedColumn | Column):
        return NDData(obj.data, unit=obj.unit)
    if is_tensor(obj):
        return NDData(obj.numpy(force=True))
    if isinstance(obj, np.ndarray):
        # NDData would reject some kinds without saying what it got.
        _checked(obj, argument)
        return NDData(obj)
    raise InputTypeError(argument, f"an object of type {type(obj).__name__}", EXPECTED)


@dataclass
class _Channels:
    """Chosen channels of a cube, seen as NDData."""

    data: np.ndarray
    unit: u.UnitBase | None
    uncertainty: object
    mask: np.ndarray | None
    wcs: object
    meta: dict
    spectral_axis: u.Quantity | None


def _with_channels(data, channels, argument, ndim):
    """Choose channels of a cube, without copying."""
    pixels = np.asarray(data.data)
    axis = getattr(data, "spectral_axis", None)
    key, wcs, axis = choose_channels(
        data.wcs, pixels.shape, min(ndim), channels, argument, axis
    )

    def part(values):
        return values[key] if np.shape(values) == pixels.shape else values

    uncertainty = data.uncertainty
    if uncertainty is not None:
        unit, array = uncertainty.unit, part(uncertainty.array)
        uncertainty = type(uncertainty)(array, unit=unit, copy=False)
    values, mask = pixels[key], part(data.mask)
    return _Channels(values, data.unit, uncertainty, mask, wcs, data.meta, axis)


def _checked(data, argument):
    """Accept arrays of real numbers that are not empty."""
    pixels = np.asarray(data)
    if pixels.dtype.kind not in "iuf":
        raise InputTypeError(
            argument, f"values of type {pixels.dtype}", "integers or floats"
        )
    if pixels.size == 0:
        raise InputError(
            argument, f"an array of shape {pixels.shape}", "at least one pixel"
        )
    return pixels


def _precision(dtype):
    """Choose float32 where it holds the values exactly, float64 otherwise."""
    return np.float32 if np.result_type(dtype, np.float32).itemsize == 4 else np.float64


def _arranged(array, axes):
    """Drop axes of length 1 and order the others."""
    dropped = tuple(axis for axis in range(array.ndim) if axis not in axes)
    return array.transpose(dropped + axes)[(0,) * len(dropped)]


def _full_mask(mask, shape, argument):
    """Give a mask as booleans in the shape of the data."""
    try:
        flat = np.asarray(False if mask is None else mask).astype(bool)
        return np.broadcast_to(flat, shape)
    except (TypeError, ValueError) as error:
        raise InputError(
            argument, f"a mask of shape {np.shape(mask)}", f"the shape {shape}"
        ) from error


def _drop_unusable(observation):
    """Mask what is not finite and make NaN what is masked."""
    nonfinite = ~np.isfinite(observation.values)
    if (nonfinite & ~observation.mask).any():
        observation.flags |= Flag.NONFINITE
    observation.mask |= nonfinite
    observation.values[observation.mask] = np.nan


def _add_std(observation, uncertainty, shape, axes, argument):
    """Convert the uncertainty; mask pixels where it is negative or not finite."""
    try:
        std = uncertainty
        if not isinstance(std, StdDevUncertainty):
            with np.errstate(divide="ignore", invalid="ignore"):
                std = uncertainty.represent_as(StdDevUncertainty)
    except (AttributeError, TypeError) as error:
        raise InputTypeError(
            argument,
            f"an uncertainty of type {type(uncertainty).__name__}",
            "StdDevUncertainty, VarianceUncertainty or InverseVariance",
        ) from error
    scale = 1.0 if std.unit is None else std.unit.to(observation.unit)
    array = np.asarray(std.array)
    if array.shape not in ((), shape):
        raise InputError(
            argument, f"an uncertainty of shape {array.shape}", f"the shape {shape}"
        )
    array = _arranged(np.broadcast_to(array, shape), axes) * scale
    observation.std = array.astype(observation.values.dtype)
    with np.errstate(invalid="ignore"):
        observation.mask |= ~(np.isfinite(observation.std) & (observation.std >= 0))
    observation.values[observation.mask] = np.nan
    observation.std[observation.mask] = np.nan


def _spectral_axis(data, wcs, ndim, size):
    """Take the spectral axis of a specutils cube, or that of the WCS."""
    if ndim != 3:
        return None
    axis = getattr(data, "spectral_axis", None)
    if axis is None:
        return spectral_axis(wcs, size)
    axis = SpectralQuantity(
        axis.value,
        axis.unit,
        doppler_rest=axis.doppler_rest,
        doppler_convention=axis.doppler_convention,
    )
    return in_vacuum(axis, wcs)


def _flat_meta(meta):
    """Copy metadata; a header inside it (specutils) comes up."""
    meta = dict(meta or {})
    header = meta.get("header")
    return {**header, **meta} if hasattr(header, "keys") else meta


def name_of(obj, meta):
    """Name an object by its metadata, else by its file."""
    flat = _flat_meta(meta)
    for key in ("OBJECT", "NAME", "object", "name"):
        if flat.get(key) is not None and str(flat[key]).strip():
            return str(flat[key]).strip()
    path = obj.filename() if isinstance(obj, fits.HDUList) else obj
    return file_stem(path) if isinstance(path, str | os.PathLike) else None


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
    flags : int
        Bits of `galml.core.Flag` that reading had set.
    """

    error: Exception
    name: str | None = None
    flags: int = 0


class Source(NamedTuple):
    """What a user gave, as a stream.

    Attributes
    ----------
    is_single : bool
        Whether it was one object. It has been read, and its errors raised.
    length : int or None
        Number of objects; None when only reading can tell.
    members : iterator
        What was read of them, in order; `Failure` for a member of a batch that cannot
        be read.
    """

    is_single: bool
    length: int | None
    members: Iterable


def stream(
    data,
    *,
    argument="data",
    unit=None,
    hdu=None,
    ndim=(2,),
    adapt=None,
    arrays=None,
    channels=None,
):
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
    adapt : callable, optional
        Makes of each object one that `read` takes, such as an image of a file of
        another kind. Where it raises, a member of a batch cannot be read.
    arrays : callable, optional
        ``arrays(items, names, unit)`` reads plain arrays, or Quantities, that follow
        each other in a batch and have one shape, type and unit, at most 256 of them;
        ``unit`` is that of arrays without. What it gives is a member.
    channels : callable, optional
        ``channels(index, axis)`` chooses channels of the cube in row ``index``, as
        `read` takes it.

    Returns
    -------
    `Source`
        Its members are `Observation` or `Failure`.

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
    if isinstance(data, Row):
        data = data.table[data.index : data.index + 1]
    if isinstance(data, Table):
        length, items, names, own = _table_members(data, argument, ndim)
    elif hasattr(data, "ccds") and hasattr(data, "files_filtered"):
        items = data.files_filtered(include_path=True)
        length, names, own = len(items), repeat(None), {}
        if hdu is None and data.ext:
            own = {"hdu": data.ext}
    elif _is_single(data, ndim):
        one = data if adapt is None else adapt(data)
        if channels is not None:
            options["channels"] = partial(channels, 0)
        return Source(True, 1, iter((read(one, **options),)))
    elif isinstance(data, Iterable) and not is_record(data):
        try:
            length = len(data) if isinstance(data, Sized) else None
        except TypeError as error:  # scalars of classes that also hold arrays
            got = f"an object of type {type(data).__name__}"
            raise InputTypeError(argument, got, EXPECTED) from error
        items, names = data, repeat(None)
        own = _column_unit(data)
    else:
        raise InputTypeError(
            argument, f"an object of type {type(data).__name__}", EXPECTED
        )
    options |= own
    if arrays is None:
        members = _read_each(enumerate(items), names, adapt, channels, options)
    else:
        members = _read_blocks(items, names, adapt, arrays, channels, options)
    return Source(False, length, members)


def _read_each(items, names, adapt, channels, options):
    """Read the members of a batch, one at a time; items come with their rows."""
    for (row, item), name in zip(items, names, strict=False):
        if channels is not None:
            options = options | {"channels": partial(channels, row)}
        try:
            item = os.fsdecode(item) if isinstance(item, bytes) else item
            one = item if adapt is None else adapt(item)
            member = read(one, **options)
        except Exception as error:
            # One member that cannot be read, for whatever reason, ends no batch.
            member = Failure(error, _name_of_any(item))
        if name is not None:
            member.name = name
        yield member


def _name_of_any(item):
    """Name an object that could not be read, where that is possible."""
    try:
        return name_of(item, getattr(item, "meta", None))
    except Exception:
        return None


def _read_block(items, names, arrays, unit):
    """Read arrays together; one by one where that raises anything."""
    try:
        yield arrays(items, names, unit)
    except Exception as error:
        if len(items) == 1:
            yield Failure(error, names[0])
            return
        for item, name in zip(items, names, strict=True):
            yield from _read_block([item], [name], arrays, unit)


def _read_blocks(items, names, adapt, arrays, channels, options):
    """Read plain arrays that are alike together, and other members one at a time."""
    block, known, kind = [], [], None
    for row, (item, name) in enumerate(zip(items, names, strict=False)):
        found = _plain_kind(item, min(options["ndim"]))
        size = (len(block) + 1) * getattr(item, "size", 0)
        if block and (found != kind or len(block) == BLOCK or size > BLOCK_PIXELS):
            yield from _read_block(block, known, arrays, options["unit"])
            block, known = [], []
        kind = found
        if found is None:
            yield from _read_each([(row, item)], [name], adapt, channels, options)
        else:
            block.append(item)
            known.append(name)
    if block:
        yield from _read_block(block, known, arrays, options["unit"])


def _plain_kind(item, ndim):
    """Tell plain arrays that can be stacked by their shape, type and unit."""
    if type(item) not in (np.ndarray, np.memmap, u.Quantity):
        return None
    if item.ndim != ndim or item.dtype.kind not in "iuf" or not item.size:
        return None
    return item.shape, item.dtype, getattr(item, "unit", None)


def convert_each(members, convert, *, is_single):
    """Convert what was read, one member at a time.

    Parameters
    ----------
    members : iterable of `Observation` or `Failure`
        What `stream` gave.
    convert : callable
        ``convert(index, member)`` gives what the domain works with.
    is_single : bool
        Whether there is one object, whose error is raised.

    Yields
    ------
    object or `Failure`
        In order. A member of a batch that cannot be converted is a `Failure`.
    """
    for index, member in enumerate(members):
        if not isinstance(member, Failure):
            try:
                member = convert(index, member)
            except Exception as error:
                if is_single:
                    raise
                member = Failure(error, member.name, getattr(member, "flags", 0))
        yield member


def _is_single(data, ndim):
    """Tell one image or cube from a batch of them."""
    kinds = (str, bytes, os.PathLike, NDData, Cutout2D, fits.HDUList, *IMAGE_HDUS)
    if isinstance(data, kinds):
        return True
    if isinstance(data, np.ndarray):
        return data.dtype.kind not in "OSU" and data.ndim != min(ndim) + 1
    return False


def is_record(data):
    """Tell what holds several things beside each other, under their names.

    Parameters
    ----------
    data : object
        Anything.

    Returns
    -------
    bool
        Whether it is a mapping, a named tuple or a data frame.
    """
    return isinstance(data, Mapping) or any(
        hasattr(data, name) for name in ("_fields", "iterrows")
    )


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

    def finish(self, count):
        """Raise where there are values for another number of objects than came."""
        for name, value in self.options.items():
            if self._is_per_row(name, value) and len(value) != count:
                expected = f"one value, or {count}"
                raise InputError(name, f"{len(value)} values", expected)

    def _of(self, name, value, index):
        if not self.is_single and self._is_per_row(name, value):
            if index >= len(value):
                raise InputError(name, f"{len(value)} values", "one for each object")
            value = value[index]
        # What is masked has not been given.
        return None if np.any(getattr(value, "mask", False)) else value

    def _is_per_row(self, name, value):
        """Tell one value for each object from one for all."""
        if isinstance(value, SkyCoord | np.ndarray) and value.ndim == 0:
            return False
        if not isinstance(value, SkyCoord | np.ndarray | list | tuple):
            return False
        return name not in self.vectors or not all(_is_number(one) for one in value)


def _is_number(value):
    return isinstance(value, Real) or isinstance(value, u.Quantity) and value.isscalar
