# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results of an unfinished run, kept beside its output until it is complete."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

STAMP = "run.sha256"


class Journal:
    """Finished chunks of a run, in a folder beside the output.

    Parameters
    ----------
    output : path or None
        The table that the run writes. None keeps the chunks in memory.
    configuration : object
        All that the results depend on besides the input files, as JSON takes it.
        Chunks of a run with another configuration are never used.
    """

    def __init__(self, output, configuration):
        text = json.dumps(configuration, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.folder = output and output.with_name(f"{output.name}.part")
        self.columns = []
        self.tables = []
        self.done = set()

    def is_other(self):
        """Whether the folder holds chunks of a run with another configuration."""
        if self.folder is None or not self.folder.exists():
            return False
        stamp = self.folder / STAMP
        return not stamp.exists() or stamp.read_text() != self.fingerprint

    def load(self, columns):
        """Take up the chunks of an interrupted run.

        Parameters
        ----------
        columns : list of str
            Columns with the files that a row was made from, which identify it. A row
            whose files have changed since is left out.
        """
        from astropy.table import QTable

        self.columns = columns
        paths = [] if self.folder is None else sorted(self.folder.glob("*.ecsv"))
        for path in paths:
            table = QTable.read(path, format="ascii.ecsv")
            written = path.stat().st_mtime
            keys = [tuple(map(str, row)) for row in table[columns].iterrows()]
            fresh = [not any(_newer(file, written) for file in key) for key in keys]
            self.tables.append(table[fresh])
            self.done.update(itertools.compress(keys, fresh))

    def add(self, table, keys):
        """Add a chunk's results, whose rows are identified by tuples of files."""
        for index, (name, files) in enumerate(
            zip(self.columns, zip(*keys, strict=True), strict=True)
        ):
            table.add_column(list(files), name=name, index=index)
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            (self.folder / STAMP).write_text(self.fingerprint)
            # Never over a chunk that is there: stale rows are left out when read.
            number = len(list(self.folder.glob("*.ecsv")))
            path = self.folder / f"{number:06d}.ecsv"
            temporary = path.with_suffix(".tmp")
            table.write(temporary, format="ascii.ecsv", overwrite=True)
            temporary.replace(path)
        self.tables.append(table)

    def table(self, keys):
        """All results, in the order of the keys."""
        from astropy.table import vstack

        table = vstack(self.tables, join_type="exact", metadata_conflicts="silent")
        rows = {
            tuple(map(str, row)): number
            for number, row in enumerate(table[self.columns].iterrows())
        }
        return table[[rows[key] for key in keys]]

    def remove(self):
        """Remove the folder."""
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)


def _newer(file, time):
    path = Path(file)
    return path.exists() and path.stat().st_mtime > time
