# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all commands do with their results: tables, names, reports."""

import sys
from importlib import import_module
from importlib.util import find_spec

__all__ = [
    "UsageError",
    "add_names",
    "check_figures",
    "failed",
    "finish",
    "plots_of",
    "print_table",
    "save_figure",
    "show",
    "table_format_of",
]


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
    table_format = args.format or args.formats.get(output.suffix.lower())
    if table_format is None:
        raise UsageError(
            f"{output}: the suffix is none of {' '.join(args.formats)}: pass --format"
        )
    if table_format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet needs pyarrow: pip install 'galml[all]'")
    return table_format


def add_names(table, files):
    """Name each galaxy: as its data say, or after its file."""
    from galml.core.files import file_stem

    names = table["name"] if "name" in table.colnames else [""] * len(files)
    names = [str(name) or file_stem(f) for name, f in zip(names, files, strict=True)]
    if "name" in table.colnames:
        table["name"] = names
    else:
        table.add_column(names, name="name", index=0)


def failed(row):
    """Tell whether a galaxy has no result."""
    from galml.core.flags import Flag

    return bool(int(row["flags"]) & (Flag.FAILED | Flag.UNREADABLE))


def write_table(table, output, table_format):
    """Write the table whole or not at all."""
    temporary = output.with_name(f".{output.name}.tmp")
    table.write(temporary, format=table_format, overwrite=True)
    temporary.replace(output)


def print_table(table, table_format):
    """Write a table to the standard output."""
    if table_format is None:
        show(table)
    else:
        table.write(sys.stdout, format=table_format)


def show(table):
    """Print what a person can read of a table: few digits, flags by name."""
    from galml.core.flags import decode_flags

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


def plots_of(args):
    """Import the module that draws what an operation found."""
    return import_module(args.operation.plots)


def save_figure(args, figure, name):
    """Write a figure, under a name in which nothing means a folder."""
    args.figures.mkdir(parents=True, exist_ok=True)
    name = str(name).replace("/", "_").replace(" ", "_")
    figure.savefig(args.figures / f"{name}.png")


def finish(args, table, table_format, journal):
    """Give out the table, forget the journal, and return the exit code."""
    if args.output is None:
        print_table(table, table_format)
    else:
        write_table(table, args.output, table_format)
        journal.remove()
    for message in journal.warnings:
        print(f"galml: {message}", file=sys.stderr)
    return report(table)
