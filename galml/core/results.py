# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one way out: tables with units, flags and provenance."""

import os
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table

from galml.core.columns import describe
from galml.core.exceptions import GalmlError, GalmlWarning, InputTypeError
from galml.core.flags import Flag

__all__ = [
    "build_table",
    "collected_reasons",
    "failure_flags",
    "reason_of",
    "text_of",
    "to_votable",
    "warn_batch",
]

#: Where reasons go, in place of a warning.
_collector = ContextVar("collector", default=None)
#: What stands in columns of numbers and of text where there is no answer.
UNKNOWN = {"f": np.nan, "U": ""}


def build_table(
    columns,
    *,
    operation,
    model=None,
    names=None,
    flags,
    device,
    dtype,
    seed,
    call,
    optional=(),
    places=None,
):
    """Put the results of an operation into a table.

    What is not a number has the flag ``FAILED``, and a row with this flag has none.

    Parameters
    ----------
    columns : dict of str to `~astropy.units.Quantity` or `~numpy.ndarray`
        Columns in order, each with one entry (number or row of numbers) per object.
    operation : str
        Name of the operation.
    model : `~galml.core.model.GalaxyModel`, optional
        What made the results; its ``name`` and ``sha256`` are noted.
    names : sequence of str or None, optional
        Names of the objects; the column is there when any is known.
    flags : sequence of int
        Bits of `galml.core.Flag`.
    device, dtype : str
        Where and in which precision the network ran.
    seed : int or None
        Seed of the random passes.
    call : dict
        Arguments of the call, noted as ``ARG_1 = "keyword=value"`` and so on.
    optional : sequence of str, optional
        Columns that may be NaN where there is a result, beside the errors, ``_err``.
    places : `~numpy.ndarray`, optional
        Shape (n, 2): right ascension and declination in degrees, NaN where unknown;
        the columns are there when any is known.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``name``, ``ra`` and ``dec`` (if any), those given, and ``flags``, with
        descriptions and a format for printing. The metadata are plain
        numbers and ASCII text under short keys, as FITS headers can hold them:
        ``GALMLVER``, ``OPERATN``, ``MODEL``, ``MODELSHA``, ``DEVICE``, ``DTYPE``,
        ``SEED``, ``DATE``, ``ARG_1``... What is None has no key.
    """
    import galml

    table = QTable()
    if names is not None and any(names):
        names = [text_of(str(name or "")) for name in names]
        table["name"] = np.array(names, dtype=str)
    if places is not None and np.isfinite(places).any():
        table["ra"], table["dec"] = places.T * u.deg
    flags = np.array(flags, dtype=np.int32)
    lost = _without_number(columns, optional) & (flags & int(Flag.FAILED) == 0)
    flags[lost] |= int(Flag.FAILED)
    for key, column in columns.items():
        kind = getattr(column, "dtype", np.dtype(object)).kind
        if lost.any() and kind in UNKNOWN:
            column = column.copy()
            column[lost] = UNKNOWN[kind]
        table[key] = column
    table["flags"] = flags
    describe(table, operation)
    meta = {
        "GALMLVER": galml.__version__,
        "OPERATN": operation,
        "MODEL": getattr(model, "name", None),
        "MODELSHA": getattr(model, "sha256", None),
        "DEVICE": device,
        "DTYPE": dtype,
        "SEED": None if seed is None else int(seed),
        "DATE": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
    }
    for number, (key, value) in enumerate(call.items(), start=1):
        meta[f"ARG_{number}"] = f"{key}={_short(value)}"
    table.meta.update(
        (key, value if isinstance(value, int) else _plain(value))
        for key, value in meta.items()
        if value is not None
    )
    return table


def _without_number(columns, optional):
    """Find rows where something is NaN that a result has to have."""
    lost = np.array(False)
    for key, column in columns.items():
        values = np.asarray(getattr(column, "value", column))
        if values.dtype.kind == "f" and not (key.endswith("_err") or key in optional):
            lost = lost | np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    return lost


def _short(value, limit=8):
    """Give how many values there are in place of many of them."""
    sized = isinstance(value, list | tuple | dict)
    sized = sized or isinstance(value, np.ndarray) and value.ndim
    return f"{len(value)} values" if sized and len(value) > limit else value


def _plain(value, limit=66):
    """Write a value as one line of ASCII that fits a FITS card."""
    text = " ".join(str(value).split()).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def to_votable(table):
    """Make a VOTable that keeps where results come from.

    Written by `astropy.table.Table.write`, a VOTable loses the metadata.

    Parameters
    ----------
    table : `~astropy.table.Table`
        A result.

    Returns
    -------
    `~astropy.io.votable.tree.VOTableFile`
        With an ``INFO`` element for each entry of the metadata; its ``to_xml`` writes
        it to a file. Places on the sky become two columns, such as ``sky.ra``.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from galml.core import to_votable
    >>> table = QTable({"spin": [0.5]}, meta={"OPERATN": "spin", "SEED": 3})
    >>> votable = to_votable(table)
    >>> [(info.name, info.value) for info in votable.resources[0].infos]
    [('OPERATN', 'spin'), ('SEED', '3')]
    """
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info
    from astropy.table.serialize import represent_mixins_as_columns

    if not isinstance(table, Table):
        kind = type(table).__name__
        raise InputTypeError("table", f"an object of type {kind}", "a table")
    plain = represent_mixins_as_columns(table, exclude_classes=(u.Quantity,))
    votable = from_table(plain)
    votable.resources[0].infos.extend(
        Info(name=key, value=_plain(value)) for key, value in table.meta.items()
    )
    return votable


def failure_flags(error):
    """Give the flags of a row, from why it has no result (None: it has one)."""
    if error is None:
        return 0
    # A damaged file is an `InputError` whose cause is what reading it raised.
    unread = not isinstance(error, GalmlError) or isinstance(
        error.__cause__, OSError | EOFError
    )
    return int(Flag.FAILED | Flag.UNREADABLE if unread else Flag.FAILED)


def warn_batch(flags, errors, *, stacklevel=3):
    """Say once how many rows of a batch have no result, and why.

    Parameters
    ----------
    flags : sequence of int
        Bits of `galml.core.Flag`, one entry per row.
    errors : Exception, or sequence of Exception or None
        What went wrong with all rows without a result; or in their order, for each of
        them, or for the first. The message tells the first,
        `~galml.core.GalmlWarning.reasons` of the warning tells all.
    stacklevel : int
        As for `warnings.warn`; the default blames the caller of the operation.
    """
    flags = np.asarray(flags, dtype=int)
    unreadable = flags & int(Flag.UNREADABLE) != 0
    failed = (flags & int(Flag.FAILED) != 0) & ~unreadable
    counts = {"unreadable": unreadable.sum(), "failed": failed.sum()}
    reasons = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    if reasons:
        rows = np.flatnonzero(unreadable | failed).tolist()
        if isinstance(errors, Exception):
            errors = [errors] * len(rows)
        told = [reason_of(error) for error in errors if error is not None]
        first = f" (first: {told[0]})" if told else ""
        message = f"{sum(counts.values())} of {len(flags)} rows have no result: "
        warning = GalmlWarning(message + reasons + first)
        if len(errors) == len(rows):
            pairs = zip(rows, errors, strict=True)
            warning.reasons = {row: reason_of(e) for row, e in pairs if e is not None}
        collector = _collector.get()
        if collector is None:
            warnings.warn(warning, stacklevel=stacklevel)
        else:
            collector.update(warning.reasons)


@contextmanager
def collected_reasons():
    """Collect why rows have no result, in place of warnings, for one thread.

    Yields
    ------
    dict of int to str
        By number of the row, as `warn_batch` tells them.
    """
    reasons = {}
    token = _collector.set(reasons)
    try:
        yield reasons
    finally:
        _collector.reset(token)


def reason_of(error):
    """Say in one line why there is no result; some errors have no message."""
    return text_of(" ".join(str(error).split()) or type(error).__name__)


def text_of(name):
    r"""Write a name in characters that files of tables can hold.

    Parameters
    ----------
    name : str or path-like
        Of an object or a file; bytes of it that are not UTF-8, and what cannot be
        printed, such as the end of a line, become escapes.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> import os
    >>> from galml.core.results import text_of
    >>> print(text_of(os.fsdecode(b"ngc\xe9.fits")))
    ngc\xe9.fits
    """
    text = os.fsdecode(name)
    if text.isprintable():
        return text
    escaped = (one if one.isprintable() else ascii(one)[1:-1] for one in text)
    # A byte that could not be decoded stands as a surrogate.
    return "".join(escaped).replace(r"\udc", r"\x")
