# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results in partitions: a folder of parquet files that appear whole or not at all."""

import hashlib
import json
import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
from astropy.table import QTable

from galml.catalogs.sources import to_table
from galml.core.exceptions import (
    FileError,
    GalmlError,
    InputError,
    InputTypeError,
    RunError,
)
from galml.core.runs import locked
from galml.core.table_files import write_parquet

__all__ = ["Dataset", "failures", "partition_name", "read"]

#: What tells of which run a folder is; readers skip names that begin so.
STAMP = "_run.json"
#: One file for each partition that is there: how many rows, and why some failed.
DONE = "_done"
#: Results in the order in which they are computed, until the partitions are there.
GROUPS = "_groups"
#: Number of a row in the reason why it has no result.
ROW = re.compile(r"^(\w+(?:\['\w+'\])?)\[\d+\](?=: got )")
#: Images that were in memory.
IMAGES = "_images"


class Dataset:
    """The folder of a run.

    Parameters
    ----------
    path : str or path-like
        The folder.
    configuration : str, optional
        Of the run that writes, as its stamp tells it.

    Raises
    ------
    galml.core.InputTypeError
        When it is no path.
    """

    def __init__(self, path, configuration=None):
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise InputTypeError("output", repr(path), "the path of a folder")
        if "://" in os.fspath(path):
            raise InputError("output", f"the address {path}", "a folder on disk")
        self.path = Path(os.path.abspath(path))
        self._configuration = configuration

    @contextmanager
    def open(self, configuration, defaults):
        """Make the folder, or take up that of an interrupted run, and lock it.

        Parameters
        ----------
        configuration : object
            All that the results depend on, as JSON takes it.
        defaults : dict
            What a first run decides for those that go on with it.

        Yields
        ------
        dict
            What the first run decided.

        Raises
        ------
        galml.core.FileError
            If the folder is that of another run that has computed anything, or of none,
            or cannot be written.
        """
        with ExitStack() as held:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path))
                stamp = self._take(configuration, defaults)
            except GalmlError:
                raise
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                got = f"{self.path} ({reason})"
                raise FileError("output", got, "a folder to write to") from error
            yield stamp

    def _take(self, configuration, defaults):
        """Give what the first run with this configuration decided."""
        text = json.dumps(configuration, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        stamp = self.stamp()
        if stamp is None:
            if self.path.exists() and any(self.path.iterdir()):
                raise FileError(
                    "output", f"{self.path}, which holds something else", "a new folder"
                )
            self.path.mkdir(exist_ok=True)
        elif stamp["configuration"] != digest and self._has_results():
            raise FileError(
                "output",
                f"{self.path}, a run with other options or inputs",
                "the same call again, or a new folder",
            )
        # What others that were killed had not finished.
        for path in self.path.glob("_tmp-*"):
            path.unlink(missing_ok=True)
        if stamp is None or stamp["configuration"] != digest:
            stamp = defaults | {"configuration": digest}
            self.write_json(STAMP, stamp)
        return stamp

    def _has_results(self):
        """Tell whether anything was computed that can be lost."""
        return any(any((self.path / name).glob("*")) for name in (DONE, GROUPS))

    def stamp(self):
        """Read what run the folder is of; None where it is of none."""
        try:
            stamp = json.loads((self.path / STAMP).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return stamp if isinstance(stamp, dict) and "configuration" in stamp else None

    def done(self):
        """Give what is known of each partition that is there, by its number."""
        stamp, found = self.stamp(), {}
        for path in sorted((self.path / DONE).glob("[0-9]*.json")):
            try:
                part = json.loads(path.read_text())
                file = self.path / partition_name(stamp, int(path.stem))
                size = file.stat().st_size if file.exists() else None
                # What was lost, or cut short, is computed again.
                if part["bytes"] == size:
                    found[int(path.stem)] = part
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def write(self, number, name, table, rows, reasons):
        """Write a partition, and then that it is there.

        Parameters
        ----------
        number : int
            Of the partition.
        name : str
            Of its file.
        table : `~astropy.table.QTable`, iterator of these, or None
            The result, or its parts one after the other; None where there is no row.
        rows : int
            How many rows of the catalog it is of.
        reasons : dict of int to str
            Why rows of the partition have no result.
        """
        if isinstance(table, QTable):
            # Bytes of a result must not depend on when it was computed.
            table.meta.pop("DATE", None)
            with self.replacing(self.path / name) as temporary:
                table.write(temporary, format="parquet")
        elif table is not None:
            with self.replacing(self.path / name) as temporary:
                write_parquet(temporary, map(_undated, table))
        # Rows have other numbers in the catalog than in the partition.
        told = {str(row): ROW.sub(r"\1", reasons[row]) for row in reasons}
        size = None if table is None else (self.path / name).stat().st_size
        found = {"rows": rows, "failed": told, "bytes": size}
        self.write_json(f"{DONE}/{number:07d}.json", found)

    def write_json(self, name, content):
        """Write a small file."""
        with self.replacing(self.path / name) as temporary:
            temporary.write_text(json.dumps(content, sort_keys=True))

    @contextmanager
    def replacing(self, path):
        """Write a file under another name until it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f"_tmp-{uuid4().hex}"
        try:
            yield temporary
            own = self._configuration
            # Workers may outlive a run that has failed, and whose folder others took.
            if own is not None and (self.stamp() or {}).get("configuration") != own:
                raise RunError(f"{self.path} is that of another run now")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def group(self, number):
        """Path of what was computed together."""
        return self.path / GROUPS / f"{number:07d}.parquet"

    def write_group(self, number, table, size):
        """Write what was computed together, to be taken apart again.

        Parameters
        ----------
        number : int
            Of the group.
        table : `~astropy.table.QTable`
            With a column ``_row``, in order of it.
        size : int
            Rows of the catalog that are put together at one time.
        """
        import pyarrow.parquet as pq

        table.meta.pop("DATE", None)
        with self.replacing(self.group(number)) as temporary:
            table.write(temporary, format="parquet")
            arrow = pq.read_table(temporary)
            edges = np.flatnonzero(np.diff(table["_row"] // size)) + 1
            edges = [0, *edges.tolist(), len(table)]
            with pq.ParquetWriter(temporary, arrow.schema) as writer:
                for start, stop in zip(edges, edges[1:], strict=False):
                    writer.write_table(arrow[start:stop])

    def read_groups(self, numbers, start, stop):
        """Read some rows of the catalog, in order, out of groups."""
        import pyarrow.dataset as ds

        files = [str(self.group(number)) for number in numbers]
        row = ds.field("_row")
        arrow = ds.dataset(files).to_table(filter=(row >= start) & (row < stop))
        return to_table(arrow.sort_by("_row"))

    def forget_groups(self):
        """Remove what is in the partitions now, and what they were made from."""
        for name in (GROUPS, IMAGES):
            shutil.rmtree(self.path / name, ignore_errors=True)


def _undated(table):
    """Take the date from a table."""
    table.meta.pop("DATE", None)
    return table


def partition_name(stamp, number):
    """Give the file of a partition.

    Parameters
    ----------
    stamp : dict
        What the first run decided.
    number : int
        Of the partition.

    Returns
    -------
    str
        Relative to the folder; that of a HATS catalog where the input was one.
    """
    if stamp["pixels"] is None:
        return f"part-{number:07d}.parquet"
    order, pixel = stamp["pixels"][number]
    folder = f"dataset/Norder={order}/Dir={pixel // 10_000 * 10_000}"
    return f"{folder}/Npix={pixel}.parquet"


def read(output):
    """Read the result of `galml.catalogs.run`.

    Parameters
    ----------
    output : str or path-like
        The folder.

    Returns
    -------
    `~astropy.table.QTable`
        With units and provenance, in the order of the catalog.

    Raises
    ------
    galml.core.InputError
        If there is no result, or it is not complete.
    """
    import pyarrow.dataset as ds

    dataset = Dataset(output)
    stamp = dataset.stamp()
    done = {} if stamp is None else dataset.done()
    if stamp is None or len(done) != stamp["partitions"]:
        raise InputError(
            "output", f"{output}, where no run has come to its end", "a finished run"
        )
    numbers = range(stamp["partitions"])
    files = [dataset.path / partition_name(stamp, number) for number in numbers]
    files = [str(path) for path in files if path.exists()]
    table = to_table(ds.dataset(files).to_table())
    table.meta["DATE"] = stamp["date"]
    # Parquet files have no more than one axis below the rows.
    side = table.meta.get("NPIXELS", 0)
    for name in table.colnames:
        if table[name].shape[1:] == (side**2,):
            table[name] = table[name].reshape(-1, side, side)
    return table


def failures(output):
    """Tell which rows of a run have no result, and why.

    Parameters
    ----------
    output : str or path-like
        The folder of `galml.catalogs.run`.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``row``, the number in the catalog from 0, and ``reason``. While a run
        is not complete, rows are counted in the partitions that are there.

    Raises
    ------
    galml.core.InputError
        If there is no run.
    """
    dataset = Dataset(output)
    if dataset.stamp() is None:
        raise InputError("output", f"{output}, where no run was", "the folder of a run")
    rows, start = [], 0
    for found in dataset.done().values():
        failed = sorted((int(row), text) for row, text in found["failed"].items())
        rows += [(start + row, text) for row, text in failed]
        start += found["rows"]
    return QTable(rows=rows or None, names=["row", "reason"], dtype=[int, str])
