# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``galml run``: an operation over a catalog larger than memory."""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

from galml.cli.options import FORMATS, OPTIONS, add_many, read_files, value
from galml.cli.output import UsageError, hints

__all__ = ["add_arguments", "run"]

#: Most failures that are told one by one.
TOLD = 10


def pair(text):
    """Read a name and what it is to be, ``NAME=TEXT``."""
    name, equals, rest = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=...")
    return name.strip(), rest.strip()


def setting(text):
    """Read a keyword and its value.

    Parameters
    ----------
    text : str
        What was typed: ``limit=0.2``, ``filter=F160W``, ``components=x,y``.

    Returns
    -------
    name : str
        The keyword.
    value : object
        What follows; a list where there are commas.
    """
    name, rest = pair(text)
    values = [_value(part.strip()) for part in rest.split(",")]
    return name.replace("-", "_"), values[0] if len(values) == 1 else values


def _value(text):
    """Read a value as `galml.cli.options.value` does; whole numbers stay whole."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        return value(text)


#: Options of this command alone, and what is different in those that others have.
OWN = {
    "output": {
        "required": True,
        "metavar": "FOLDER",
        "help": "folder of the results, in partitions; if a run is interrupted, the "
        "same command goes on there",
    },
    "hdu": {
        "help": "extension of the tiles, by name or number, NAME:N for the N-th of "
        "that name (default: all images of the sky)"
    },
    "unit": {"help": "unit of tiles that tell none"},
    "scheduler": {
        "metavar": "ADDRESS",
        "help": "address of a scheduler of dask; local: workers on all processors of "
        "this machine; none: this process (default: as many rows demand)",
    },
    "units": {
        "type": pair,
        "action": "append",
        "metavar": "COLUMN=UNIT",
        "help": "unit of a column whose file tells none; once for each",
    },
    "size": {
        "type": value,
        "metavar": "SIDE",
        "help": "side of the cutouts, such as 30arcsec (default: that of the model)",
    },
    "n_pixels": {"type": "positive", "metavar": "N", "help": "pixels on that side"},
    "partition_size": {
        "type": "positive",
        "metavar": "N",
        "help": "rows in a partition, which is what a killed run loses at most for "
        "each worker",
    },
    "set": {
        "type": setting,
        "action": "append",
        "default": [],
        "metavar": "NAME=VALUE",
        "help": "keyword of the operation, as in Python; once for each",
    },
    "model": {"default": None},
    "device": {"default": None},
    "n_samples": {
        "default": None,
        "help": "posterior samples for each galaxy (default: as in Python)",
    },
    "seed": {"default": None, "help": "seed of random numbers (default: 0)"},
    "quiet": {},
}
#: Options that are keywords of `galml.catalogs.run`, or of operations, as they are.
KEYWORDS = (
    *("hdu", "unit", "scheduler", "size", "n_pixels", "partition_size"),
    *("model", "device", "n_samples", "seed"),
)


def add_arguments(parser):
    """Add what the command takes.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    """
    parser.add_argument(
        "operation", metavar="OPERATION", help="such as spin, as Python calls it"
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=read_files,
        metavar="CATALOG",
        help="table with a row for each galaxy: parquet, FITS, ECSV, a quoted pattern "
        "of such files, or a HATS catalog. With --images: ra, dec, and r_eff",
    )
    # Shells expand a pattern after --images; what is no option there is a tile.
    parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="tiles of a survey: files, quoted patterns, @LIST, each perhaps as "
        "BAND=FILES; or the table that galml.catalogs.index made of them",
    )
    add_many(
        parser,
        {name: OPTIONS.get(name, {}) | change for name, change in OWN.items()},
    )
    parser.usage = (
        "galml run OPERATION CATALOG [CATALOG ...] [--images FILE ...] -o FOLDER "
        "[options]"
    )
    parser.set_defaults(run=run, error=parser.error)


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
    import inspect

    from galml import catalogs
    from galml.core.domain import find_object, operations
    from galml.core.exceptions import GalmlWarning

    given = {name: getattr(args, name) for name in KEYWORDS}
    given["units"] = args.units and dict(args.units)
    keywords = {name: one for name, one in given.items() if one is not None}
    keywords |= dict(args.set)
    operation = args.operation.replace("-", "_")
    if operation in operations():
        function = find_object(operations()[operation].function)
        if "seed" in inspect.signature(function).parameters:
            keywords.setdefault("seed", 0)
    catalog = args.files[0] if len(args.files) == 1 else args.files
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GalmlWarning)
        try:
            summary = catalogs.run(
                operation,
                catalog,
                images=_images(args.images),
                output=args.output,
                progress=not args.quiet,
                **keywords,
            )
        except ImportError as error:
            raise UsageError(error) from error
    seconds = time.perf_counter() - start
    for message in dict.fromkeys(str(one.message) for one in caught):
        print(f"galml: {message}", file=sys.stderr)
    if summary["failed"]:
        _tell(args, catalogs.failures(args.output))
    if not args.quiet:
        print(f"galml: {_told(summary, seconds)}", file=sys.stderr)
    return int(summary["failed"] > 0)


def _images(texts):
    """Give tiles as files, as files by band, or as the table of an index."""
    from galml.core.table_files import read_table

    bands = {}
    for text in texts or ():
        band, equals, files = text.partition("=")
        if not equals or os.path.exists(text):
            band, files = None, text
        bands.setdefault(band, []).extend(read_files(files))
    if None not in bands:
        return bands or None
    if len(bands) > 1:
        raise UsageError("--images: bands are said of all files, or of none")
    files = bands[None]
    tables = [f for f in files if FORMATS.get(Path(f).suffix.lower(), "fits") != "fits"]
    if not tables:
        return files
    if len(files) > 1:
        raise UsageError(
            f"--images: {tables[0]} is no image: catalogs stand before --images"
        )
    return read_table(tables[0], argument="--images")


def _tell(args, failures):
    """Say why the first galaxies without a result have none."""
    for row, reason in failures[:TOLD].iterrows():
        print(f"  row {row}: {reason}", file=sys.stderr)
    if len(failures) > TOLD:
        print(f"  and {len(failures) - TOLD} more", file=sys.stderr)
    for hint in hints(args, failures["reason"][:TOLD].tolist()):
        print(f"galml: hint: {hint}", file=sys.stderr)


def _told(summary, seconds):
    """Say in one line what a run did."""
    parts, computed = summary["partitions"], summary["computed"]
    words = [f"{summary['rows']} rows in {parts} partition{'s' * (parts != 1)}"]
    if computed < parts:
        words.append(f"{parts - computed} of the partitions from before")
    words += [f"{summary['failed']} failed", f"{seconds:.1f} s"]
    if computed == parts:
        words.append(f"{summary['rows'] / max(seconds, 1e-3):.1f} rows/s")
    return ", ".join(words)
