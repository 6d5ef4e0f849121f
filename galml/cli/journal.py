# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results of an unfinished run, kept beside its output until it is complete."""

import hashlib
import json
import re
import time
from contextlib import contextmanager, nullcontext

from galml.core.runs import locked

__all__ = [
    "Journal",
    "open_journal",
    "resume",
]

#: File that marks a folder as that of a run, and tells of which one.
STAMP = "run.sha256"
#: Columns of the chunks beside the results: what a row was made from, and why it has
#: no result.
KEY, REASON = "galml_key", "galml_reason"


class Journal:
    """Finished chunks of a run, in a folder beside the output.

    Parameters
    ----------
    output : path or None
        The table that the run writes. None keeps the chunks in memory.
    configuration : object
        All that every row depends on, as JSON takes it. Chunks of a run with another
        configuration are never used.

    Attributes
    ----------
    done : set of str
        Keys of the rows that are there.
    warnings : list of str
        What was said while the others were computed.
    seconds : float
        How long it took to compute them.
    """

    def __init__(self, output, configuration):
        text = json.dumps(configuration, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.folder = output and output.with_name(f"{output.name}.part")
        self.tables = []
        self.done = set()
        self.warnings = []
        self.seconds = 0.0

    def open(self, *, overwrite=False):
        """Make the folder, or take up that of an interrupted run.

        Parameters
        ----------
        overwrite : bool, optional
            Whether the chunks of a run with another configuration may be removed.

        Raises
        ------
        `~galml.cli.output.UsageError`
            If the folder is that of another run, or of none: that one is never touched.
        """
        from galml.cli.output import UsageError

        if self.folder is None:
            return
        stamp = self._stamp()
        if stamp is None and any(map(_is_foreign, self._content())):
            raise UsageError(
                f"{self.folder} is needed while the table is not complete, but holds "
                "what is not of a run: move it away"
            )
        if stamp is not None and stamp != self.fingerprint:
            if self._chunks() and not overwrite:
                raise UsageError(
                    f"{self.folder} holds an interrupted run with other options: pass "
                    "--overwrite to start again"
                )
            self.remove()
            stamp = None
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.glob("*.tmp*"):
            # What a run had not finished when it was killed.
            path.unlink()
        if stamp is None:
            # Killed before the stamp is whole, a run leaves an empty folder.
            temporary = self.folder / f"{STAMP}.tmp"
            temporary.write_text(self.fingerprint)
            temporary.replace(self.folder / STAMP)

    def _stamp(self):
        """Read which run the folder is of; None where it does not say."""
        try:
            text = (self.folder / STAMP).read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return text if re.fullmatch("[0-9a-f]{64}", text) else None

    def _chunks(self):
        return sorted(self.folder.glob("*.ecsv"))

    def _content(self):
        return sorted(self.folder.iterdir()) if self.folder.exists() else []

    def load(self, keys):
        """Take up the rows of an interrupted run that are still wanted.

        Parameters
        ----------
        keys : iterable of str
            What identifies the rows.
        """
        import numpy as np
        from astropy.table import QTable

        wanted = set(keys)
        paths = [] if self.folder is None else self._chunks()
        for path in paths:
            try:
                table = QTable.read(path, format="ascii.ecsv")
                for name in table.colnames:
                    # An empty text is read as one that is missing.
                    if table[name].dtype.kind == "U" and table[name].ndim == 1:
                        table[name] = np.ma.filled(table[name], "")
                found = table[KEY].tolist()
            except Exception:
                # A chunk that a crash of the machine has damaged is computed again.
                continue
            self.tables.append(table[[key in wanted for key in found]])
            self.done.update(wanted.intersection(found))

    def add(self, table, keys, reasons):
        """Save a chunk's results.

        Parameters
        ----------
        table : `~astropy.table.QTable`
            The results; two columns are added.
        keys : list of str
            What identifies the rows.
        reasons : list of str
            Why a row has no result; empty where it has one.
        """
        table[KEY], table[REASON] = keys, reasons
        if self.folder is not None:
            # Never over a chunk that is there: rows that are not wanted are skipped.
            number = len(self._chunks())
            path = self.folder / f"{number:06d}.ecsv"
            temporary = path.with_suffix(".tmp")
            table.write(temporary, format="ascii.ecsv", overwrite=True)
            temporary.replace(path)
        self.tables.append(table)

    def table(self, keys):
        """Give all results in the order of the keys, and their reasons."""
        from astropy.table import vstack

        tables = _with_places(self.tables)
        table = vstack(tables, join_type="exact", metadata_conflicts="silent")
        rows = {key: number for number, key in enumerate(table[KEY].tolist())}
        table = table[[rows[key] for key in keys]]
        reasons = [str(reason) for reason in table[REASON]]
        table.remove_columns([KEY, REASON])
        return table, reasons

    def remove_empty(self):
        """Remove the folder if no chunk was finished, as after a wrong option."""
        if self.folder is not None and not self._chunks():
            self.remove()

    def remove(self):
        """Remove what runs have written, and the folder if nothing else is in it."""
        if self.folder is None:
            return
        own = [path for path in self._content() if not _is_foreign(path)]
        # The stamp goes last: what is left until then is known for what it is.
        for path in sorted(own, key=lambda path: path.name == STAMP):
            path.unlink()
        if self.folder.exists() and not self._content():
            self.folder.rmdir()


def _with_places(tables):
    """Give all tables places on the sky where one has them: they depend on the data."""
    import astropy.units as u
    import numpy as np

    if not any("ra" in table.colnames for table in tables):
        return tables
    tables = [table.copy(copy_data=False) for table in tables]
    for table in tables:
        for index, key in enumerate(("ra", "dec")):
            if key not in table.colnames:
                unknown = np.full(len(table), np.nan) * u.deg
                table.add_column(unknown, name=key, index=1 + index)
    return tables


def _is_foreign(path):
    """Tell what runs do not write."""
    own = rf"{STAMP}(\.tmp)?|\d{{6}}\.ecsv|\.?\d{{6}}\.tmp.*"
    return not re.fullmatch(own, path.name)


@contextmanager
def open_journal(args, configuration):
    """Open the journal of a run, which no other run may write at the same time.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    configuration : list
        As for `Journal`.

    Yields
    ------
    `Journal`
        With the results of an interrupted run, if there was one.

    Raises
    ------
    `~galml.cli.output.UsageError`
        If there is another run, now or interrupted.
    """
    import galml

    journal = Journal(args.output, [galml.__version__, *configuration])
    with nullcontext() if args.output is None else locked(args.output):
        journal.open(overwrite=args.overwrite)
        try:
            yield journal
        finally:
            journal.remove_empty()


def resume(args, journal, keys, compute):
    """Compute what a journal does not have, and save it chunk by chunk.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    journal : `Journal`
        Where the results are kept.
    keys : list
        What each row was made from, beside the configuration, as JSON takes it.
    compute : callable
        Takes chunks, lists of indices into the keys, and gives a table for each, when
        its turn comes.

    Returns
    -------
    table : `~astropy.table.QTable`
        All results in the order of the keys.
    reasons : list of str
        Why a row has no result; empty where it has one.
    computed : int
        How many rows were computed, and not taken up.
    """
    import warnings

    from tqdm import tqdm

    from galml.cli.output import failed
    from galml.core.exceptions import GalmlWarning

    keys = [json.dumps(key, sort_keys=True, default=str) for key in keys]
    journal.load(keys)
    pending = [index for index, key in enumerate(keys) if key not in journal.done]
    starts = range(0, len(pending), args.chunk)
    chunks = [pending[start : start + args.chunk] for start in starts]
    start = time.perf_counter()
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
        told = 0
        for chunk, table in zip(chunks, compute(chunks), strict=True):
            known = {}
            for one in caught[told:]:
                known |= getattr(one.message, "reasons", {})
            told = len(caught)
            reasons = [
                known.get(number, "no result") if failed(row) else ""
                for number, row in enumerate(table)
            ]
            journal.add(table, [keys[index] for index in chunk], reasons)
            progress.update(len(chunk))
    journal.seconds = time.perf_counter() - start
    # What tells why rows have no result is told row by row.
    said = [one.message for one in caught if not getattr(one.message, "reasons", {})]
    journal.warnings = list(dict.fromkeys(map(str, said)))
    return *journal.table(keys), len(pending)
