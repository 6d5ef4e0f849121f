# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Catalogs that are read piece by piece, in order, with units."""

import glob
import hashlib
import io
import os
import sys
from collections.abc import Mapping

import astropy.units as u
import numpy as np
from astropy.nddata import NDData
from astropy.table import QTable, vstack

from galml.catalogs.tiles import expand
from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import local_file, parse_unit, readable
from galml.core.inputs import as_table
from galml.core.runs import identity
from galml.core.table_files import read_table
from galml.imaging.reading import holds_images

__all__ = [
    "FileSource",
    "FrameSource",
    "TableSource",
    "digest",
    "open_source",
    "to_table",
]


def open_source(catalog, units=None):
    """Tell what a catalog is.

    Parameters
    ----------
    catalog : object
        As for `galml.catalogs.run`, but for HATS catalogs.
    units : mapping of str to unit, optional
        Of columns whose catalog tells none.

    Returns
    -------
    TableSource, FileSource or FrameSource
        With ``length`` (rows), ``names`` (of columns), ``identity`` (what tells it from
        others, as JSON takes it), and ``batches(size, names=None)``, which yields
        tables of so many rows, in order, with all columns or some.

    Raises
    ------
    galml.core.InputError
        For files that cannot be read, and units of columns that are not there.
    """
    if _is_dask(catalog):
        return FrameSource(catalog, units)
    if not isinstance(catalog, str | os.PathLike | list | tuple):
        table = QTable(as_table(catalog, "catalog"), copy=False)
        return TableSource(table, digest(table), units)
    paths = [file for path in expand(catalog, "catalog") for file in _files(path)]
    if not paths:
        raise InputError("catalog", "no file", "one at least")
    for path in filter(os.path.exists, paths):
        local_file(path, "catalog")
    if all(path.endswith((".parquet", ".parq")) for path in paths):
        return FileSource(paths, units)
    tables = [read_table(path, argument="catalog") for path in paths]
    table = vstack(tables, metadata_conflicts="silent")
    return TableSource(table, [identity(path) for path in paths], units)


class TableSource:
    """A table in memory.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The table, whose units are completed.
    made_from : object
        What tells it from others.
    units : mapping or None
        As for `open_source`.
    """

    def __init__(self, table, made_from, units):
        check_units(units, table.colnames)
        self._table = with_units(table, units)
        self.length, self.names = len(table), table.colnames
        self.identity = made_from
        self.images = [name for name in table.colnames if holds_images(table, name)]

    def batches(self, size, names=None):
        """Yield rows."""
        table = self._table if names is None else self._table[names]
        for start in range(0, self.length, size):
            yield table[start : start + size]


class FileSource:
    """Parquet files, of which no more than a piece of a row group is in memory.

    Parameters
    ----------
    paths : list of str
        The files.
    units : mapping or None
        As for `open_source`.
    """

    def __init__(self, paths, units):
        import pyarrow.parquet as pq

        self._paths, self._units = paths, units
        self.length, self.identity = 0, [identity(path) for path in paths]
        for path in paths:
            with readable("catalog", path, "a table"):
                metadata = pq.read_metadata(path)
            self.length += metadata.num_rows
        schema = pq.read_schema(paths[0])
        first = to_table(schema.empty_table())
        self.names = first.colnames
        check_units(units, self.names)
        for path in paths[1:]:
            other = pq.read_schema(path)
            if not other.equals(schema, check_metadata=True):
                _check_alike(first, to_table(other.empty_table()), path)

    def batches(self, size, names=None):
        """Yield rows."""
        for arrow in _resized(self._pieces(size, names), size):
            yield with_units(to_table(arrow, names), self._units)

    def _pieces(self, size, names):
        """Read batches of files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        # By default, what is to be read is in memory long before.
        options = {"pre_buffer": False, "buffer_size": 65_536}
        for path in self._paths:
            with pq.ParquetFile(path, **options) as file:
                for batch in file.iter_batches(size, columns=names):
                    yield pa.Table.from_batches([batch])


class FrameSource:
    """A dask dataframe, of which one partition is in memory.

    Parameters
    ----------
    frame : `dask.dataframe.DataFrame`
        The dataframe.
    units : mapping or None
        As for `open_source`.
    """

    def __init__(self, frame, units):
        from dask.base import tokenize

        self._frame, self._units = frame, units
        self.names, self.identity = list(frame.columns), tokenize(frame)
        self.length = len(frame)
        check_units(units, self.names)

    def batches(self, size, names=None):
        """Yield rows."""
        for arrow in _resized(self._pieces(names), size):
            yield with_units(to_table(arrow, names), self._units)

    def _pieces(self, names):
        """Compute partitions."""
        frame = self._frame if names is None else self._frame[names]
        for number in range(frame.npartitions):
            yield from_pandas(frame.partitions[number].compute())


def from_pandas(frame):
    """Make an arrow table of a dataframe, without its index."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


def to_table(arrow, names=None):
    """Make a table of an arrow table, as astropy reads it from a file.

    Parameters
    ----------
    arrow : `pyarrow.Table`
        With the metadata that astropy wrote, or without.
    names : list of str, optional
        The columns that it has of those that the metadata tell of.

    Returns
    -------
    `~astropy.table.QTable`
        Missing numbers are NaN, missing texts empty; what is nested is left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    metadata = dict(arrow.schema.metadata or {})
    columns = {}
    for name in arrow.column_names:
        column = arrow[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type) and not pa.types.is_fixed_size_list(
            column.type
        ):
            continue
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = column.fill_null("")
            # Texts as long as those of other pieces would be cut off.
            longest = pc.max(pc.utf8_length(column)).as_py() or 1
            metadata[f"table::len::{name}".encode()] = str(longest)
        elif column.null_count and pa.types.is_integer(column.type):
            column = column.cast(pa.float64())
        if column.null_count and pa.types.is_floating(column.type):
            column = column.fill_null(np.nan)
        columns[name] = column
    file = io.BytesIO()
    pq.write_table(pa.table(columns, metadata=metadata), file, compression="none")
    file.seek(0)
    table = QTable.read(file, format="parquet", include_names=names)
    return with_units(table, votable_units(metadata))


def votable_units(metadata):
    """Read the units that the metadata of a parquet file tell as a VOTable."""
    from astropy.io import votable

    content = metadata.get(b"IVOA.VOTable-Parquet.content")
    if content is None:
        return None
    fields = votable.parse(io.BytesIO(content)).get_first_table().fields
    return {field.name: field.unit for field in fields if field.unit is not None}


def check_units(units, names):
    """Raise where columns are not there, or their units are none."""
    if not isinstance(units, Mapping | None):
        kind = type(units).__name__
        expected = "a mapping of columns to units"
        raise InputTypeError("units", f"an object of type {kind}", expected)
    for name, unit in (units or {}).items():
        if name not in names:
            raise InputError("units", f"the column {name!r}", f"one of {names}")
        parse_unit(unit, f"units[{name!r}]")


def with_units(table, units):
    """Give units to columns that have none."""
    for name, unit in (units or {}).items():
        if name not in table.colnames or getattr(table[name], "unit", None) is not None:
            continue
        column = table[name]
        values = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
        table[name] = u.Quantity(values, parse_unit(unit, f"units[{name!r}]"))
    return table


def digest(table):
    """Tell a table from others by its values.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The table, which may hold images.

    Returns
    -------
    str
        A SHA-256.
    """
    found = hashlib.sha256()
    for name in table.colnames:
        column = table[name]
        found.update(f"{name} {getattr(column, 'unit', None)}".encode())
        mask = getattr(column, "mask", None)
        for part in (getattr(column, "unmasked", column), mask):
            if part is not None:
                _add(found, getattr(part, "value", part))
    return found.hexdigest()


def _add(found, value):
    """Add a value to a digest: an array, an image, or anything else by its words."""
    if isinstance(value, NDData):
        parts = value.data, value.mask, getattr(value.uncertainty, "array", None)
        kinds = value.unit, type(value.uncertainty), dict(value.meta)
        found.update(f"{kinds} {value.wcs!r}".encode())
        for part in parts:
            _add(found, part)
        return
    numbers = np.asarray(value)
    found.update(f"{numbers.dtype} {numbers.shape}".encode())
    if not numbers.dtype.hasobject:
        found.update(numbers.tobytes())
    elif numbers.ndim:
        for one in numbers.ravel():
            _add(found, one)
    else:
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
            found.update(repr(value).encode())


def _files(path):
    """Give the files of a folder, as dask and a run write it; else the file."""
    if not os.path.isdir(path):
        return [path]
    found = sorted(glob.glob(os.path.join(glob.escape(path), "*.parquet")))
    if not found:
        raise InputError("catalog", f"{path}, a folder without parquet files", "files")
    return found


def _check_alike(first, other, path):
    """Raise where a file has other columns than the first, or in other units."""
    if set(first.colnames) != set(other.colnames):
        differing = sorted(set(first.colnames) ^ set(other.colnames))
        got = f"{path}, which differs in {', '.join(differing)}"
        raise InputError("catalog", got, "files with the same columns")
    for name in first.colnames:
        units = [getattr(table[name], "unit", None) for table in (first, other)]
        if units[0] != units[1]:
            got = f"{path}, with {name} in {units[1]}"
            raise InputUnitError(
                "catalog", got, f"{units[0]}, as the first file has it"
            )


def _is_dask(catalog):
    """Recognize a dask dataframe without importing dask."""
    return hasattr(catalog, "npartitions") and hasattr(catalog, "to_delayed")


def _resized(pieces, size):
    """Cut arrow tables into others of so many rows, but for the last."""
    import pyarrow as pa

    waiting = None
    for piece in pieces:
        if waiting is not None:
            pair = [waiting, piece]
            piece = pa.concat_tables(pair, promote_options="permissive")
        while len(piece) >= size:
            yield piece[:size]
            piece = piece[size:]
        waiting = piece
    if waiting is not None and len(waiting):
        yield waiting
