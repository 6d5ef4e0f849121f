# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files of tables, whose sizes are judged before they are read."""

import errno
import mmap
import os
import re
import struct
from importlib.util import find_spec

from astropy.table import QTable

from galml.core.exceptions import InputError
from galml.core.files import (
    MOST_BYTES,
    MOST_PIXELS,
    PACKED,
    local_file,
    open_fits,
    readable,
)

__all__ = ["read_table", "write_parquet"]

# Bytes that are unpacked at a time.
_PIECE = 2**20
_FITS_SUFFIX = r"\.(fits?|fts)(\.(gz|bz2|xz|fz|z))?$"
# How a block of ASDF begins, and what follows: size of its header, flags, compression,
# and sizes allocated, used, and unpacked.
_BLOCK, _BLOCK_HEADER = b"\xd3BLK", ">HI4sQQQ"


def read_table(path, *, argument, hdu=None, expected="a table"):
    """Read a table of any format that astropy knows.

    Parameters
    ----------
    path : str or path-like
        The file.
    argument : str
        Name used in errors.
    hdu : int or str, optional
        Extension of a FITS file.
    expected : str, optional
        What the table is, for errors.

    Returns
    -------
    `~astropy.table.QTable`
        The table.

    Raises
    ------
    galml.core.InputError
        When there is no table that can be read.
    OSError
        When a file is not there or may not be read.
    """
    with readable(argument, str(path), expected):
        path = os.path.expanduser(local_file(path, argument))
        if re.search(_FITS_SUFFIX, path, flags=re.I):
            open_fits(path, argument).close()
        elif os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        else:
            _check_table_size(path, argument)
        return QTable.read(path, **({} if hdu is None else {"hdu": hdu}))


def _check_table_size(path, argument):
    """Raise where a packed table is too large, before it is in memory."""
    with open(path, "rb") as file:
        start = file.read(6)
    values = packed = 0
    if start.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        found = pq.read_metadata(path)
        values = found.num_rows * found.num_columns
    elif start.startswith(b"\x89HDF") and find_spec("h5py"):
        values = _values_in_hdf5(path)
    elif start.startswith(b"#ASDF"):
        packed = _bytes_in_asdf(path)
    for magic, unpack in PACKED.items():
        if start.startswith(magic):
            packed = _bytes_unpacked(path, unpack)
    if values > MOST_PIXELS:
        expected = f"at most {MOST_PIXELS}, or galml.catalogs, which reads in pieces"
        raise InputError(argument, f"{values} values in {path}", expected)
    if packed > MOST_BYTES:
        got = f"more than {MOST_BYTES} bytes in {path}"
        raise InputError(argument, got, "a smaller table")


def _bytes_unpacked(path, unpack):
    """Count what a file unpacks to, as far as that is not too much."""
    number = 0
    with unpack(path) as file:
        while number <= MOST_BYTES and (piece := file.read(_PIECE)):
            number += len(piece)
    return number


def _bytes_in_asdf(path):
    """Add up what the blocks of a file unpack to, as their headers tell."""
    number = 0
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        place = content.find(_BLOCK)
        while place >= 0 and content[place : place + 4] == _BLOCK:
            found = struct.unpack_from(_BLOCK_HEADER, content, place + 4)
            header, _, _, allocated, _, unpacked = found
            number += unpacked
            place += 6 + header + allocated
    return number


def _values_in_hdf5(path):
    """Count the values of all data sets of a file, without reading them."""
    import h5py

    sizes = []

    def measure(_, one):
        if isinstance(one, h5py.Dataset):
            sizes.append((one.size or 0) * max(1, len(one.dtype)))

    with h5py.File(path) as file:
        file.visititems(measure)
    return sum(sizes)


def write_parquet(path, tables):
    """Write tables one after the other into one file.

    Parameters
    ----------
    path : str or path-like
        The file.
    tables : iterable of `~astropy.table.QTable`
        Of the same columns, one number or text for each row.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ImportError
        Without pyarrow.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        message = "parquet needs pyarrow: pip install 'galml[all]'"
        raise ImportError(message) from error

    number, writer = 0, None
    try:
        for table in tables:
            if writer is None:
                # astropy writes types, units and metadata as it will read them.
                table[:0].write(path, format="parquet", overwrite=True)
                schema = parquet.read_schema(path)
                writer = parquet.ParquetWriter(path, schema)
            columns = [pyarrow.array(_plain(table, name)) for name in schema.names]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            number += len(table)
    finally:
        if writer is not None:
            writer.close()
    return number


def _plain(table, name):
    """Strip a column of its unit."""
    return getattr(table[name], "value", table[name].data)
