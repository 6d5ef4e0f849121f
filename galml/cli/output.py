# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all commands do with their results: tables, names, reports."""

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec

__all__ = [
    "UsageError",
    "add_names",
    "check_figures",
    "failed",
    "finish",
    "hints",
    "plots_of",
    "print_table",
    "replace_output",
    "report",
    "save_figure",
    "show",
    "table_format_of",
    "write_table",
]


class UsageError(Exception):
    """A command line that cannot be carried out."""


def table_format_of(args, inputs=()):
    """Find the format of the table, and whether it can be written.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed. A link to a table stands for the table.
    inputs : iterable of str
        Files that are read, which no table replaces.

    Returns
    -------
    str or None
        None to show the table on a terminal.
    """
    if args.output is None:
        if args.format not in (None, "ascii.ecsv", "votable"):
            raise UsageError(f"{args.format} needs a file: pass --output")
        return args.format or (None if sys.stdout.isatty() else "ascii.ecsv")
    output = args.output
    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is not a file")
    if output.exists() and any(_is_same(output, file) for file in inputs):
        raise UsageError(f"{output} is one of the files to read")
    _check_absent(args)
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output.parent} is not a folder")
    table_format = args.format or args.formats.get(output.suffix.lower())
    if table_format is None:
        raise UsageError(
            f"{output}: the suffix is none of {' '.join(args.formats)}: pass --format"
        )
    if table_format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet needs pyarrow: pip install 'galml[all]'")
    if output.is_symlink():
        args.output = output.resolve()
    return table_format


def _is_same(output, file):
    """Tell whether two names are of one file."""
    return os.path.exists(file) and os.path.samefile(output, file)


def _check_absent(args):
    """Raise where a table is there that must not be replaced."""
    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists: pass --overwrite to replace it")


def add_names(table, files):
    """Name each galaxy: as its data say, or after its file."""
    from galml.core.files import file_stem
    from galml.core.results import text_of

    names = table["name"] if "name" in table.colnames else [""] * len(files)
    pairs = zip(names, files, strict=True)
    names = [text_of(str(name) or file_stem(file)) for name, file in pairs]
    if "name" in table.colnames:
        table["name"] = names
    else:
        table.add_column(names, name="name", index=0)


def failed(row):
    """Tell whether a galaxy has no result."""
    from galml.core.flags import Flag

    return bool(int(row["flags"]) & (Flag.FAILED | Flag.UNREADABLE))


def write_table(args, table, table_format, temporary):
    """Write the table whole or not at all.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    table : `~astropy.table.QTable`
        The table.
    table_format : str
        As `astropy.table.Table.write` calls it.
    temporary : path
        Where it is written first, on the same disk as the output.
    """
    import numpy as np

    if table_format == "fits":
        # FITS tables hold ASCII.
        table = table.copy(copy_data=False)
        for name in table.colnames:
            if table[name].dtype.kind == "U":
                table[name] = np.char.encode(table[name], "ascii", "backslashreplace")
    _write(table, temporary, table_format, overwrite=True)
    replace_output(args, temporary)


def replace_output(args, temporary):
    """Give a table that is whole its name."""
    _check_absent(args)
    os.replace(temporary, args.output)


def print_table(table, table_format):
    """Write a table to the standard output; for a terminal what fits it."""
    if table_format is None:
        show(table, short=True)
    else:
        _write(table, sys.stdout, table_format)


def _write(table, target, table_format, **options):
    """Write a table with its metadata; VOTables lose them otherwise."""
    if table_format == "votable":
        from galml.core import to_votable

        to_votable(table).to_xml(getattr(target, "buffer", str(target)))
    else:
        table.write(target, format=table_format, **options)


def show(table, *, short=False):
    """Print what a person can read of a table.

    Errors stand beside their values, with few digits, and flags by their names; there
    are no bounds, no columns of many numbers, and no files where galaxies have names.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The table.
    short : bool, optional
        Whether to print no more than fits the terminal.
    """
    import shutil

    from astropy.table import Table

    from galml.core.flags import decode_flags

    shown, plain = Table(), []
    names = [name for name in table.colnames if table[name].ndim == 1]
    left_out = {f"{name}{end}" for name in names for end in ("_err", "_lo", "_hi")}
    if "name" in names:
        left_out |= {name for name in names if name.split("_")[-1] == "file"}
    for name in names:
        column, error = table[name], f"{name}_err"
        if name in left_out:
            continue
        if name == "flags":
            shown[name] = [" ".join(bits) for bits in decode_flags(column)]
            shown[name].info.format = "<"
        elif column.dtype.kind == "f":
            unit = getattr(column, "unit", None)
            angle = str(unit) == "deg"
            digits = 5 if name in ("ra", "dec") else 1 if angle else 3
            errors = table[error] if error in names else None
            if errors is None and name not in ("ra", "dec"):
                plain.append(name)
            shown[name] = [
                _number(column[row], None if errors is None else errors[row], digits)
                for row in range(len(table))
            ]
            shown[name].unit = unit
        else:
            shown[name] = column
    if short:
        _fit(shown, plain, shutil.get_terminal_size().columns)
    shown.pprint(max_lines=None if short else -1, max_width=None if short else -1)


def _fit(shown, plain, columns):
    """Leave out columns until a table fits the terminal.

    The first ones are places, then the last numbers without an error, then all others
    from the last one on; name, flags and one answer stay, flags cut short if need be.
    """

    def excess():
        return len(shown.pformat(max_width=-1)[0]) - columns

    places = [name for name in ("ra", "dec") if name in shown.colnames]
    names = [n for n in shown.colnames if n not in ("name", "flags", *places)]
    names.sort(key=plain.__contains__)
    for dropped in (places, *([name] for name in names[:0:-1])):
        if excess() > 0:
            shown.remove_columns(dropped)
    if "flags" in shown.colnames and excess() > 0:
        width = max(map(len, shown["flags"])) - excess()
        if width >= len("flags"):
            cut = [f"{one[: width - 1]}…" for one in shown["flags"]]
            pairs = zip(shown["flags"], cut, strict=True)
            shown["flags"] = [one if len(one) <= width else new for one, new in pairs]
            shown["flags"].info.format = "<"


def _number(value, error, digits):
    """Write a number and its error."""
    value = getattr(value, "value", value)
    text = f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.4g}"
    if error is None or value != value:
        return text
    return f"{text} ± {getattr(error, 'value', error):.{digits}f}"


def report(args, reasons, rows, seconds, *, galaxies=None):
    """Say on the standard error what failed, and how long it took.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    reasons : list of tuple of str
        What a galaxy without a result is called, and why it has none.
    rows : tuple of int
        How many rows there are, and how many were computed in this run.
    seconds : float
        How long these took.
    galaxies : int, optional
        How many galaxies the rows are of; one each by default.

    Returns
    -------
    int
        The exit code.
    """
    number, computed = rows
    if reasons:
        total = number if galaxies is None else galaxies
        print(f"galml: {len(reasons)} of {total} failed:", file=sys.stderr)
        for name, reason in reasons:
            print(f"  {name}: {reason}", file=sys.stderr)
        for hint in hints(args, [reason for _, reason in reasons]):
            print(f"galml: hint: {hint}", file=sys.stderr)
    if not args.quiet:
        words = ["1 row" if number == 1 else f"{number} rows"]
        if computed < number:
            words.append(f"{number - computed} of them from before")
        words += [f"{len(reasons)} failed", f"{seconds:.1f} s"]
        if computed:
            words.append(f"{computed / max(seconds, 1e-9):.3g} rows/s")
        print(f"galml: {', '.join(words)}", file=sys.stderr)
    return int(bool(reasons))


def hints(args, reasons):
    """Name the options that could help, with what they are for.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    reasons : iterable of str
        Messages of errors, which name keywords as Python has them.

    Returns
    -------
    list of str
        One line for each option.
    """
    helps = getattr(args, "helps", {})
    named = []
    for reason in reasons:
        named += re.findall(r"^(\w+): got|\b(\w+)=", reason)
    wanted = dict.fromkeys(name for pair in named for name in pair if name in helps)
    return [helps[name] for name in wanted]


def check_figures(args):
    """Raise where figures are asked for and cannot be drawn."""
    if args.figures is not None and find_spec("matplotlib") is None:
        raise UsageError("--figures needs matplotlib: pip install 'galml[all]'")


def plots_of(args):
    """Import the module that draws what an operation found."""
    return import_module(args.operation.plots)


def save_figure(args, figure, name):
    """Write a figure, under a name in which nothing means a folder."""
    args.figures.mkdir(parents=True, exist_ok=True)
    name = str(name).replace("/", "_").replace(" ", "_")
    figure.savefig(args.figures / f"{name}.png")


def finish(args, table, table_format, journal, reasons, computed):
    """Give out the table, forget the journal, and return the exit code.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.
    table : `~astropy.table.QTable`
        All results.
    table_format : str or None
        As `table_format_of` gives it.
    journal : `~galml.cli.journal.Journal`
        What the results are in until then.
    reasons : list of str
        Why a row has no result; empty where it has one.
    computed : int
        How many rows were computed in this run.

    Returns
    -------
    int
        Exit code.
    """
    if args.output is None:
        print_table(table, table_format)
    else:
        number = len(list(journal.folder.glob("*.ecsv")))
        write_table(args, table, table_format, journal.folder / f"{number:06d}.tmp")
        journal.remove()
    for message in journal.warnings:
        print(f"galml: {message}", file=sys.stderr)
    names = table["file"] if "file" in table.colnames else table["name"]
    bad = [(n, r) for n, r in zip(names, reasons, strict=True) if r]
    return report(args, bad, (len(table), computed), journal.seconds)
