# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results of an unfinished run, kept beside its output until it is complete."""

import hashlib
import itertools
import json
import shutil
import warnings
from pathlib import Path

__all__ = ["RESUMED", "Journal", "open_journal", "resume"]

STAMP = "run.sha256"
#: What the help says.
RESUMED = (
    "If a run with an output is interrupted, the same command goes on where it stopped."
)


class Journal:
    """Finished chunks of a run, in a folder beside the output.

    Parameters
    ----------
    output : path or None
        The table that the run writes. None keeps the chunks in memory.
    configuration : object
        All that the results depend on besides the input files, as JSON takes it.
        Chunks of a run with another configuration are never used.

    Attributes
    ----------
    done : set of tuple of str
        What identifies the rows that are there.
    warnings : list of str
        What was said while the others were computed.
    """

    def __init__(self, output, configuration):
        text = json.dumps(configuration, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.folder = output and output.with_name(f"{output.name}.part")
        self.columns = []
        self.tables = []
        self.done = set()
        self.warnings = []

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


def open_journal(args, configuration):
    """Open the journal of a run, where it is not that of another one.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    configuration : list
        As for `Journal`.

    Returns
    -------
    `Journal`
        With the results of an interrupted run, if there was one.
    """
    import galml
    from galml.cli.output import UsageError

    journal = Journal(args.output, [galml.__version__, *configuration])
    if journal.is_other():
        if not args.overwrite:
            raise UsageError(
                f"{journal.folder} holds an interrupted run with other options: "
                "remove it, or pass --overwrite to start again"
            )
        journal.remove()
    return journal


def resume(args, journal, columns, keys, compute):
    """Compute what a journal does not have, and save it chunk by chunk.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    journal : `Journal`
        Where the results are kept.
    columns : list of str
        What a key consists of.
    keys : list of tuple of str
        What identifies each row.
    compute : callable
        Takes chunks, lists of indices into the keys, and gives a table for each, when
        its turn comes.

    Returns
    -------
    `~astropy.table.QTable`
        All results in the order of the keys.
    """
    from tqdm import tqdm

    from galml.core.exceptions import GalmlWarning

    journal.load(columns)
    pending = [index for index, key in enumerate(keys) if key not in journal.done]
    starts = range(0, len(pending), args.chunk)
    chunks = [pending[start : start + args.chunk] for start in starts]
    with (
        tqdm(
            total=len(keys),
            initial=len(keys) - len(pending),
            desc=args.operation.command.name,
            unit="galaxy",
            disable=args.quiet,
        ) as progress,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", GalmlWarning)
        for chunk, table in zip(chunks, compute(chunks), strict=True):
            journal.add(table, [keys[index] for index in chunk])
            progress.update(len(chunk))
    # Each chunk may say the same of its failures: the first one is enough.
    own = [one for one in caught if issubclass(one.category, GalmlWarning)]
    said = own[:1] + [one for one in caught if one not in own]
    journal.warnings = list(dict.fromkeys(str(one.message) for one in said))
    return journal.table(keys)
