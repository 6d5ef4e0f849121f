# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml stars``: many stars for each row of a table of galaxies."""

import sys
import warnings
from pathlib import Path

from galml._output import (
    UsageError,
    check_figures,
    positive,
    print_table,
    show,
    table_format_of,
)

__all__ = ["add_stars", "demo_stars"]

#: Stars of a galaxy that its figure shows.
SHOWN = 20_000
SUMMARY = "stars of galaxies, drawn from what is known of the galaxies"


def add_stars(commands):
    """Add the command to the parser."""
    parser = commands.add_parser("stars", help=SUMMARY, description=SUMMARY)
    add = parser.add_argument
    add(
        "conditions",
        type=Path,
        metavar="FILE",
        help="table with a row for each galaxy: stellar_mass, median_age, "
        "age_percentile_10, metallicity, with their units",
    )
    add(
        "-n",
        type=_number,
        metavar="N",
        help="stars of each galaxy; or a column with them; or the mass of a star, such "
        "as '1e5 solMass' (default: the column n_stars, else 10000)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        help="table to write, its format by its suffix (.parquet, for any number of "
        "stars, .fits or .ecsv). Without it the table goes to the standard output",
    )
    add(
        "--format",
        choices=("ascii.ecsv", "fits", "parquet"),
        help="format of the table",
    )
    add("--figures", type=Path, metavar="FOLDER", help="draw each galaxy there")
    add("--overwrite", action="store_true", help="replace an existing table")
    add("--model", default="default", help="name or file of the model")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add("--seed", type=int, default=0, help="seed of the stars (default: 0)")
    add("--components", nargs="+", metavar="AXIS", help="axes wanted (default: all)")
    add(
        "--chunk",
        type=positive,
        default=1_000_000,
        metavar="N",
        help="stars in memory at one time, for parquet (default: 1000000)",
    )
    add("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=_run)


def _number(text):
    """Read a number, a mass, or the name of a column."""
    import astropy.units as u

    try:
        value = u.Quantity(text)
    except (TypeError, ValueError):
        return text
    return value.value if value.unit == u.dimensionless_unscaled else value


def _run(args):
    import galml
    from galml.core.exceptions import GalmlWarning
    from galml.stars import write_stars

    table_format = table_format_of(args)
    if table_format == "votable":
        raise UsageError("stars go to parquet, FITS or ECSV")
    check_figures(args)
    conditions = _read(args.conditions)
    options = {
        "seed": args.seed,
        "model": args.model,
        "device": args.device,
        "components": args.components,
        "progress": not args.quiet,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GalmlWarning)
        if args.output is None:
            table = galml.sample_stars(conditions, args.n, **options)
            print_table(table, table_format)
        else:
            write_stars(
                args.output,
                conditions,
                args.n,
                format=table_format,
                overwrite=args.overwrite,
                chunk=args.chunk,
                **options,
            )
        if args.figures is not None:
            _write_figures(args, conditions, options)
    for warning in {str(one.message): one for one in caught}.values():
        print(f"galml: {warning.message}", file=sys.stderr)
    return int(any(issubclass(one.category, GalmlWarning) for one in caught))


def _write_figures(args, conditions, options):
    """Draw stars of each galaxy, the first ones of its table."""
    import galml
    from galml.stars.plots import plot_galaxy

    args.figures.mkdir(parents=True, exist_ok=True)
    options = options | {"components": None}
    table = galml.sample_stars(conditions, SHOWN, **options)
    ids = table["galaxy_id"]
    for one in dict.fromkeys(ids.tolist()):
        stars = table[ids == one]
        if len(stars) > 1:
            plot_galaxy(stars).savefig(args.figures / f"{one}.png")


def demo_stars(main, examples, folder):
    """Run the command on the example galaxies and show the first stars of each.

    Parameters
    ----------
    main : callable
        The command line.
    examples, folder : `~pathlib.Path`
        Folder of the examples, and the one for table and figures.

    Returns
    -------
    int
        Exit code.
    """
    import numpy as np
    from astropy.table import QTable

    output, figures = folder / "stars.fits", folder / "stars"
    command = ["stars", str(examples / "galaxies.ecsv"), "-o", str(output)]
    status = main([*command, "--overwrite", "--figures", str(figures)])
    if output.exists():
        table = QTable.read(output)
        _, first = np.unique(table["galaxy_id"], return_index=True)
        show(table[np.sort([first, first + 1], axis=None)])
    print(f"Table: {output}\nFigures: {figures}")
    return status


def _read(path):
    """Read the table of galaxies."""
    from astropy.io.registry import IORegistryError
    from astropy.table import QTable

    try:
        return QTable.read(path)
    except (IORegistryError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: no table that can be read ({reason})") from error
