# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all commands do with their results: tables, names, reports."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import galml
from galml._journal import Journal
from galml.core.flags import decode_flags

__all__ = [
    "FORMATS",
    "UsageError",
    "add_names",
    "check_figures",
    "failed",
    "finish",
    "open_journal",
    "positive",
    "print_table",
    "show",
    "stem",
    "table_format_of",
]

FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}


class UsageError(Exception):
    """A command line that cannot be carried out."""


def table_format_of(args):
    """Format of the table; None to show it on a terminal."""
    output = args.output
    if output is None:
        if args.format not in (None, "ascii.ecsv", "votable"):
            raise UsageError(f"{args.format} needs a file: pass --output")
        return args.format or (None if sys.stdout.isatty() else "ascii.ecsv")
    if output.exists() and not args.overwrite:
        raise UsageError(f"{output} exists: pass --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output.parent} is not a folder")
    table_format = args.format or FORMATS.get(output.suffix.lower())
    if table_format is None:
        raise UsageError(
            f"{output}: the suffix is none of {' '.join(FORMATS)}: pass --format"
        )
    if table_format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet needs pyarrow: pip install 'galml[all]'")
    return table_format


def positive(text):
    """Read a whole number above zero, for `argparse`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def add_names(table, files):
    """Name each galaxy: as its data say, or after its file."""
    names = table["name"] if "name" in table.colnames else [""] * len(files)
    names = [str(name) or stem(file) for name, file in zip(names, files, strict=True)]
    if "name" in table.colnames:
        table["name"] = names
    else:
        table.add_column(names, name="name", index=0)


def stem(file):
    name = Path(file).name
    return name.removesuffix(".gz").rpartition(".")[0] or name


def failed(row):
    from galml.core.flags import Flag

    return bool(int(row["flags"]) & (Flag.FAILED | Flag.UNREADABLE))


def write_table(table, output, table_format):
    """Write the table whole or not at all."""
    temporary = output.with_name(f".{output.name}.tmp")
    table.write(temporary, format=table_format, overwrite=True)
    temporary.replace(output)


def print_table(table, table_format):
    if table_format is None:
        show(table)
    else:
        table.write(sys.stdout, format=table_format)


def show(table):
    """Print what a person can read of a table: few digits, flags by name."""
    shown = table[[name for name in table.colnames if table[name].ndim == 1]]
    for name in shown.colnames:
        if name == "flags":
            shown[name] = [" ".join(names) for names in decode_flags(table[name])]
            shown[name].info.format = "<"
        elif shown[name].dtype.kind == "f":
            angle = getattr(shown[name], "unit", None) is not None
            digits = 5 if name in ("ra", "dec") else 1 if angle else 3
            shown[name].info.format = f".{digits}f"
    shown.pprint(max_lines=-1, max_width=-1)


def report(table):
    """Say on the standard error what failed; return the exit code."""
    names = table["file"] if "file" in table.colnames else table["name"]
    bad = [name for name, row in zip(names, table, strict=True) if failed(row)]
    if not bad:
        return 0
    print(f"galml: {len(bad)} of {len(table)} failed:", file=sys.stderr)
    for name in bad:
        print(f"  {name}", file=sys.stderr)
    return 1


def check_figures(args):
    """Raise where figures are asked for and cannot be drawn."""
    if args.figures is not None and find_spec("matplotlib") is None:
        raise UsageError("--figures needs matplotlib: pip install 'galml[all]'")


def open_journal(args, configuration):
    """Open the journal of a run, where it is not that of another one."""
    journal = Journal(args.output, [galml.__version__, *configuration])
    if journal.is_other():
        if not args.overwrite:
            raise UsageError(
                f"{journal.folder} holds an interrupted run with other options: "
                "remove it, or pass --overwrite to start again"
            )
        journal.remove()
    return journal


def finish(args, table, table_format, journal):
    """Give out the table, forget the journal, and return the exit code."""
    if args.output is None:
        print_table(table, table_format)
    else:
        write_table(table, args.output, table_format)
        journal.remove()
    return report(table)
