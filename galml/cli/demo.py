# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml demo``: each operation on the example data of the package."""

import re
from importlib import resources
from pathlib import Path

from galml.registry import OPERATIONS

__all__ = ["run"]

EXAMPLES = Path(str(resources.files("galml"))) / "data" / "examples"
#: Cards of the truth: of gas maps, of mergers, and of the galaxies of a field.
TRUTH = re.compile(r"KAPPA|PA|INCL|STAGE|TSINCE|CONTAM|SPIN\d+")
#: Format of the table of each kind of command, by its suffix.
SUFFIXES = {"objects": ".ecsv", "field": ".ecsv", "catalog": ".fits"}


def run(main, folder):
    """Carry out every command that has example data, and show what it gave.

    Parameters
    ----------
    main : callable
        The command line.
    folder : str or path-like
        Where tables and figures go.

    Returns
    -------
    int
        Exit code, the worst of all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    for operation in OPERATIONS:
        command = operation.command
        if command is None or not command.examples:
            continue
        files = sorted(str(path) for path in EXAMPLES.glob(command.examples))
        if not files:
            continue
        output = folder / f"{command.name}{SUFFIXES[command.kind]}"
        figures = folder / command.name
        arguments = [command.name, *files, "-o", str(output), "--overwrite"]
        if operation.plots:
            arguments += ["--figures", str(figures)]
        status = max(status, main(arguments))
        table = _show(output, command.kind) if output.exists() else None
        _show_truth(files, table)
        print(f"Table: {output}")
        if operation.plots:
            print(f"Figures: {figures}")
    return status


def _show_truth(files, table):
    """Print what the headers of mock galaxies tell of their truth."""
    from astropy.io import fits

    told = set()
    for path in files:
        if not path.endswith(".fits"):
            continue
        try:
            cards = fits.getheader(path)
        except OSError:
            continue
        found = {key: cards[key] for key in cards if TRUTH.fullmatch(key)}
        by_row = "SPIN1" in found and table is not None
        if by_row:
            found = {key: found[key] for key in _places(cards, table, len(found))}
        values = ", ".join(f"{key} {value}" for key, value in found.items())
        # Bands of one field have the same galaxies.
        if values and values not in told:
            told.add(values)
            order = ", row by row" if by_row else ""
            print(f"Truth of {Path(path).name}{order}: {values}")


def _places(cards, table, count):
    """Give the cards of galaxies on a square grid, in the order of the rows."""
    import math

    from astropy.wcs import WCS

    side = math.isqrt(count)
    sky = (table[name].to_value("deg") for name in ("ra", "dec"))
    place = WCS(cards).wcs_world2pix(*sky, 0)
    sizes = cards["NAXIS1"], cards["NAXIS2"]
    x, y = ((v * side / n).astype(int) for v, n in zip(place, sizes, strict=True))
    return [f"SPIN{number}" for number in side * y + x + 1]


def _show(output, kind):
    """Print a table and give it; of many rows for each galaxy the first two."""
    import numpy as np
    from astropy.table import QTable

    from galml.cli.output import show

    table = QTable.read(output)
    if kind == "catalog":
        _, first = np.unique(table["galaxy_id"], return_index=True)
        table = table[np.sort([first, first + 1], axis=None)]
    elif "file" in table.colnames:
        table.remove_column("file")
    show(table)
    return table
