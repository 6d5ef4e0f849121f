# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands on a table of galaxies, which give one row for each of them or many."""

import sys
import time
import warnings
from inspect import signature

from galml.cli.journal import open_journal
from galml.cli.options import FORMATS, add_options, keywords_of
from galml.cli.output import (
    check_figures,
    plots_of,
    print_table,
    replace_output,
    report,
    save_figure,
    table_format_of,
    write_table,
)

__all__ = ["add_arguments", "run"]

NAMES = (
    "output",
    "format",
    "overwrite",
    "figures",
    "model",
    "device",
    "seed",
    "chunk",
    "quiet",
)


def add_arguments(parser, operation):
    """Add what such a command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry.
    """
    parser.add_argument("catalog", metavar="FILE", help=operation.command.files)
    add_options(
        parser,
        operation,
        NAMES,
        formats={key: name for key, name in FORMATS.items() if name != "votable"},
        chunk={
            "default": 1_000_000,
            "help": "rows in memory at one time, for parquet (default: %(default)s)",
        },
    )
    parser.usage = f"galml {operation.command.name} FILE [options]"
    parser.set_defaults(run=run)


def run(args):
    """Carry out the command.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.

    Returns
    -------
    int
        Exit code.
    """
    from galml.core.domain import find_object
    from galml.core.exceptions import GalmlWarning
    from galml.core.table_files import read_table

    table_format = table_format_of(args, [args.catalog])
    check_figures(args)
    catalog = read_table(args.catalog, argument="FILE")
    function = find_object(args.operation.function)
    keywords = keywords_of(args)
    if "progress" in signature(function).parameters:
        keywords["progress"] = not args.quiet
    if hasattr(args, "model"):
        keywords["model"] = args.model
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GalmlWarning)
        if args.output is None:
            table = function(catalog, **keywords)
            number = len(table)
            print_table(table, table_format)
        else:
            with open_journal(args, [args.operation.name]) as journal:
                number = _write(args, catalog, keywords, table_format, journal)
                journal.remove()
        seconds = time.perf_counter() - start
        if args.figures is not None:
            keywords |= {"progress": False} | dict(args.operation.command.drawn)
            _write_figures(args, function(catalog, **keywords))
    reasons = {}
    for message in {str(one.message): one.message for one in caught}.values():
        reasons |= getattr(message, "reasons", {})
        if not getattr(message, "reasons", {}):
            print(f"galml: {message}", file=sys.stderr)
    command = args.operation.command
    if command.rows != "galaxy":
        names = [f"{command.rows} {row}" for row in range(1, number + 1)]
    elif command.named is not None:
        names = keywords[command.named]
    else:
        names = _names(catalog)
    told = [(names[row], reason) for row, reason in reasons.items()]
    return report(args, told, (number, number), seconds, galaxies=len(names))


def _write(args, catalog, keywords, table_format, journal):
    """Write the table piece by piece, where that can be done; count its rows."""
    from galml.core.domain import find_object

    temporary = journal.folder / "000000.tmp"
    writer = args.operation.command.writer
    if writer is None:
        table = find_object(args.operation.function)(catalog, **keywords)
        write_table(args, table, table_format, temporary)
        return len(table)
    number = find_object(writer)(
        temporary,
        catalog,
        format=table_format,
        overwrite=True,
        chunk=args.chunk,
        **keywords,
    )
    replace_output(args, temporary)
    return number


def _names(catalog):
    """Name the galaxies of a catalog, by their numbers where it does not."""
    for name in ("galaxy_id", "name", "id"):
        if name in catalog.colnames:
            return [str(one) for one in catalog[name]]
    return [f"galaxy {number}" for number in range(1, len(catalog) + 1)]


def _write_figures(args, table):
    """Draw what was found for each galaxy."""
    ids = table["galaxy_id"]
    for one in dict.fromkeys(ids.tolist()):
        rows = table[ids == one]
        if len(rows) > 1:
            save_figure(args, plots_of(args).plot_galaxy(rows), one)
