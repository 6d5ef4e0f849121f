# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands on a table of galaxies, which give many rows for each of them."""

import sys
import warnings

from galml.cli.options import FORMATS, add_options, keywords_of
from galml.cli.output import (
    check_figures,
    plots_of,
    print_table,
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
    import galml
    from galml.core.domain import find_object
    from galml.core.exceptions import GalmlWarning
    from galml.core.files import read_table

    table_format = table_format_of(args)
    check_figures(args)
    catalog = read_table(args.catalog, argument="FILE")
    function = getattr(galml, args.operation.name)
    keywords = keywords_of(args) | {"model": args.model, "progress": not args.quiet}
    writer = args.operation.command.writer
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GalmlWarning)
        if args.output is None:
            print_table(function(catalog, **keywords), table_format)
        elif writer is None:
            write_table(function(catalog, **keywords), args.output, table_format)
        else:
            find_object(writer)(
                args.output,
                catalog,
                format=table_format,
                overwrite=args.overwrite,
                chunk=args.chunk,
                **keywords,
            )
        if args.figures is not None:
            keywords |= {"progress": False} | dict(args.operation.command.drawn)
            _write_figures(args, function(catalog, **keywords))
    for warning in {str(one.message): one for one in caught}.values():
        print(f"galml: {warning.message}", file=sys.stderr)
    return int(any(issubclass(one.category, GalmlWarning) for one in caught))


def _write_figures(args, table):
    """Draw what was found for each galaxy."""
    ids = table["galaxy_id"]
    for one in dict.fromkeys(ids.tolist()):
        rows = table[ids == one]
        if len(rows) > 1:
            save_figure(args, plots_of(args).plot_galaxy(rows), one)
