# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands on a table of galaxies and their images, which write a page."""

import os
import sys
from pathlib import Path

from galml.cli.options import add_options, keywords_of
from galml.cli.output import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser, operation):
    """Add what such a command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry. The function takes a table, cutouts of all of its rows,
        and the file to write.
    """
    parser.add_argument("catalog", metavar="FILE", help=operation.command.files)
    add_options(
        parser,
        operation,
        ("output", "overwrite", "hdu", "unit", "quiet"),
        output={
            "required": True,
            "metavar": "PAGE",
            "help": "page to write, such as galaxies.html",
        },
        overwrite={"help": "replace an existing page"},
        quiet={"help": "do not tell how large the page is"},
    )
    parser.usage = f"galml {operation.command.name} FILE -o PAGE [options]"
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
    from galml.core.table_files import read_table

    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists: pass --overwrite to replace it")
    catalog = read_table(args.catalog, argument="FILE")
    if args.cutouts is None and "file" not in catalog.colnames:
        raise UsageError(f"{args.catalog} has no column file: pass --cutouts")
    for file in args.cutouts or ():
        if not os.path.exists(file):
            raise UsageError(f"--cutouts: there is no file {file}")
    page = find_object(args.operation.function)(
        catalog,
        catalog if args.cutouts is None else args.cutouts,
        args.output,
        overwrite=args.overwrite,
        **keywords_of(args),
    )
    if not args.quiet:
        size = Path(page).stat().st_size / 1e6
        print(f"galml: {page}, {size:.1f} MB", file=sys.stderr)
    return 0
