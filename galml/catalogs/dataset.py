# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results in partitions: a folder of parquet files that appear whole or not at all."""

import hashlib
import json
import os
from pathlib import Path
from uuid import uuid4

from astropy.table import QTable, vstack

from galml.core.exceptions import FileError, InputError

__all__ = ["Dataset", "failures", "read"]

#: What tells of which run a folder is; other readers skip names that begin so.
STAMP = "_run.json"
#: Why rows have no result, beside the partition of the same name.
REASONS = "_failures"


class Dataset:
    """The folder of a run.

    Parameters
    ----------
    path : str or path-like
        The folder.
    """

    def __init__(self, path):
        self.path = Path(path)

    def part(self, number):
        """Path of a partition."""
        return self.path / f"part-{number:07d}.parquet"

    def open(self, configuration, defaults):
        """Make the folder, or take up that of an interrupted run.

        Parameters
        ----------
        configuration : object
            All that the results depend on, as JSON takes it.
        defaults : dict
            What a first run decides for those that go on with it.

        Returns
        -------
        dict
            What the first run decided.

        Raises
        ------
        galml.core.FileError
            If the folder is that of another run, or of none.
        """
        text = json.dumps(configuration, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        stamp = self.stamp()
        if stamp is None:
            if self.path.exists() and any(self.path.iterdir()):
                raise FileError(
                    "output", f"{self.path}, which holds something else", "a new folder"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            stamp = defaults | {"configuration": digest}
            self._write(self.path / STAMP, json.dumps(stamp).encode())
        elif stamp["configuration"] != digest:
            raise FileError(
                "output",
                f"{self.path}, a run with other options or inputs",
                "the same call again, or a new folder",
            )
        (self.path / REASONS).mkdir(exist_ok=True)
        return stamp

    def stamp(self):
        """Read what run the folder is of; None where it is of none."""
        try:
            return json.loads((self.path / STAMP).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def done(self):
        """Give the names of all partitions that are there."""
        return {name for name in os.listdir(self.path) if name.startswith("part-")}

    def clean(self):
        """Remove what runs had not finished when they were killed."""
        for path in [*self.path.glob("_tmp-*"), *self.path.glob(f"{REASONS}/_tmp-*")]:
            path.unlink(missing_ok=True)

    def write(self, number, table, reasons):
        """Write a partition, and before it why its rows have no result."""
        path = self.part(number)
        if reasons:
            text = json.dumps(reasons, sort_keys=True).encode()
            self._write(self.path / REASONS / f"{path.stem}.json", text)
        temporary = self.path / f"_tmp-{uuid4().hex}"
        try:
            table.write(temporary, format="parquet")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def _write(path, content):
        temporary = path.with_name(f"_tmp-{uuid4().hex}")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


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
    dataset = Dataset(output)
    stamp = dataset.stamp()
    paths = sorted(dataset.path.glob("part-*.parquet"))
    if stamp is None or len(paths) != stamp["partitions"]:
        raise InputError(
            "output", f"{output}, where no run has come to its end", "a finished run"
        )
    tables = [QTable.read(path, format="parquet") for path in paths]
    table = vstack(tables, metadata_conflicts="silent")
    table.meta["DATE"] = stamp["date"]
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
        Columns ``row``, the number in the catalog from 0, and ``reason``.
    """
    rows = []
    for path in sorted((Path(output) / REASONS).glob("part-*.json")):
        found = json.loads(path.read_text())
        rows += sorted((int(row), reason) for row, reason in found.items())
    return QTable(rows=rows or None, names=["row", "reason"], dtype=[int, str])
