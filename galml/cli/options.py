# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of the commands, each in one place."""

import argparse
import glob
import os
from pathlib import Path

__all__ = [
    "FORMATS",
    "OPTIONS",
    "add_files",
    "add_many",
    "add_options",
    "keywords_of",
    "read_files",
    "value",
]

#: Formats of tables by suffix, as `astropy.table.Table.write` calls them.
FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}


def extension(text):
    """Read the name or number of an extension."""
    return int(text) if text.isdecimal() else text


def hdu(text):
    """Read an extension, a plane of one, or an extension for each map.

    Parameters
    ----------
    text : str
        ``2``, ``VELOCITY``, ``EMLINE_GVEL:23`` or ``flux=FLUX,velocity=2``.

    Returns
    -------
    int, str, tuple or dict
        As the argument ``hdu`` of the operations.
    """
    if "=" in text:
        pairs = (part.partition("=") for part in text.split(","))
        return {name.strip(): hdu(value.strip()) for name, _, value in pairs}
    name, colon, plane = text.rpartition(":")
    if colon and plane.isdecimal():
        return extension(name), int(plane)
    return extension(text)


def whole(text):
    """Read a whole number, which may be written as 1e3."""
    number = float(text)
    if not number.is_integer():
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(number)


def positive(text):
    """Read a whole number above zero."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def samples(text):
    """Read a number of samples of a galaxy, which must fit into memory."""
    # With torch, which takes long to load.
    from galml.core.inference import MOST_SAMPLES

    number = whole(text)
    if not 0 <= number <= MOST_SAMPLES:
        raise argparse.ArgumentTypeError(
            f"got {text}, expected a whole number from 0 to {MOST_SAMPLES}"
        )
    return number


def center(text):
    """Read a place: pixels such as ``31.5,30``, or one on the sky.

    Parameters
    ----------
    text : str
        What was typed; on the sky ``150.1deg,2.2deg`` or ``10h00m24s +02d12m00s``.

    Returns
    -------
    tuple of float or `~astropy.coordinates.SkyCoord`
        As the argument ``center`` of the operations.
    """
    first, comma, second = text.partition(",")
    if comma:
        try:
            return float(first), float(second)
        except ValueError:
            pass
    from astropy.coordinates import SkyCoord

    try:
        return SkyCoord(*((first, second) if comma else (text,)))
    except Exception as error:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected pixels such as 31.5,30, or a place on the sky "
            "such as 150.1deg,2.2deg"
        ) from error


def value(text):
    """Read a number, a quantity such as ``5arcsec``, "none", or else a name.

    Parameters
    ----------
    text : str
        What was typed.

    Returns
    -------
    float, `~astropy.units.Quantity`, None or str
        What it means.
    """
    import astropy.units as u

    if text.lower() == "none":
        return None
    try:
        quantity = u.Quantity(text)
    except (TypeError, ValueError):
        return text
    plain = quantity.unit == u.dimensionless_unscaled
    return float(quantity.value) if plain else quantity


def width(text):
    """Read the width of a PSF.

    Parameters
    ----------
    text : str
        What was typed, with its unit.

    Returns
    -------
    list of `~astropy.units.Quantity`
        One width for all bands.
    """
    found = value(text)
    if not hasattr(found, "unit"):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a width with its unit, such as 1.3arcsec or 3pix"
        )
    return [found]


def lines(text):
    """Give the lines of the file that ``@FILE`` names; None where it names none."""
    if not text.startswith("@"):
        return None
    from galml.core.exceptions import GalmlError
    from galml.core.files import local_file

    try:
        # Names of files may hold bytes that are no text.
        content = os.fsdecode(Path(local_file(text[1:], "@LIST")).read_bytes())
    except (OSError, GalmlError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return [line.strip() for line in content.splitlines() if line.strip()]


def read_files(text):
    """Read names of files: one, a pattern of many, or ``@LIST`` with one a line.

    Parameters
    ----------
    text : str
        What was typed.

    Returns
    -------
    list of str
        The names.
    """
    listed = lines(text)
    if listed is not None:
        return listed
    if glob.has_magic(text) and not os.path.exists(text):
        return sorted(glob.glob(text)) or [text]
    return [text]


def table(text):
    """Read a table of any format that astropy knows."""
    from galml.core.exceptions import GalmlError
    from galml.core.table_files import read_table

    try:
        return read_table(text, argument="FILE")
    except (GalmlError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def several(reader, separator):
    """Make a reader of many values out of one of a single value."""

    def read(text):
        listed = lines(text)
        if listed is None:
            listed = text.split(separator)
        return [reader(part.strip()) for part in listed]

    read.__name__ = reader.__name__
    return read


#: Readers that options may name as their "type".
TYPES = {
    "center": center,
    "extension": extension,
    "hdu": hdu,
    "positive": positive,
    "samples": samples,
    "table": table,
    "value": value,
    "whole": whole,
    "width": width,
}
#: What stands between values of an option that has many.
SEPARATORS = {center: ";"}

#: What commands share; a kind of command chooses by name, and may change single parts.
OPTIONS = {
    "output": {
        "short": "-o",
        "type": Path,
        "metavar": "TABLE",
        "help": "table to write, its format by its suffix ({suffixes}). Without it the "
        "table goes to the standard output",
    },
    "format": {"choices": FORMATS.values(), "help": "format of the table"},
    "overwrite": {"action": "store_true", "help": "replace an existing table"},
    "figures": {"type": Path, "metavar": "FOLDER", "help": "write figures there"},
    "model": {"default": "default", "help": "name or file of the model"},
    "device": {"default": "auto", "help": "auto, cpu, cuda or mps (default: auto)"},
    "hdu": {
        "type": "hdu",
        "metavar": "HDU",
        "help": "extension to read, by name or number; NAME:N for plane N of it",
    },
    "unit": {"help": "unit of the values where the files do not say"},
    "n_samples": {
        "type": "samples",
        "default": 0,
        "metavar": "N",
        "help": "posterior samples for each galaxy (default: %(default)s)",
    },
    "seed": {
        "type": "whole",
        "default": 0,
        "help": "seed of random numbers (default: %(default)s)",
    },
    "chunk": {
        "type": "positive",
        "default": 256,
        "metavar": "N",
        "help": "galaxies between two saves (default: %(default)s)",
    },
    "quiet": {"action": "store_true", "help": "show no progress"},
}
#: Those that are keywords of operations.
KEYWORDS = ("device", "hdu", "n_samples", "seed", "unit")
#: Those of networks.
NETWORK = {"model", "device"}


def add_options(parser, operation, names=tuple(OPTIONS), *, formats=FORMATS, **changes):
    """Add shared options and those of an operation to a command.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry.
    names : sequence of str, optional
        Shared options that this kind of command has; all by default. Those of models
        are left out where the operation has none, as are figures.
    formats : dict of str to str
        Formats of its table by suffix.
    **changes : dict
        Parts of shared options that are different for this kind, by their names.
    """
    absent = set() if operation.plots else {"figures"}
    absent |= set() if operation.models or operation.architectures else NETWORK
    command = operation.command
    absent |= set(command.lacks)
    shared = {
        name: OPTIONS[name] | changes.get(name, {})
        for name in names
        if name not in absent
    }
    own = {
        name: shared.pop(name, {"default": argparse.SUPPRESS}) | dict(option)
        for name, option in command.options.items()
    }
    paired = {
        name: {"metavar": "FILE", "type": read_files, "action": "extend"} | dict(option)
        for name, option in command.paired.items()
    }
    add_many(parser, own | paired | shared, formats=formats)
    parser.set_defaults(formats=formats, figures=None)


def add_many(parser, options, *, formats=FORMATS):
    """Add options to a command.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    options : dict of str to dict
        By name, what argparse knows of each; its "type" may be a name of `TYPES`.
    formats : dict of str to str
        Formats of its table by suffix.
    """
    helps = {}
    for name, option in options.items():
        flags = ["-" * min(len(name), 2) + name.replace("_", "-")]
        if "short" in option:
            flags.insert(0, option["short"])
        option = {key: part for key, part in option.items() if key != "short"}
        option["help"] = option["help"].replace("{suffixes}", " ".join(formats))
        if name == "format":
            option["choices"] = sorted(set(formats.values()))
        added = parser.add_argument(*flags, **_readable(option))
        words = added.help % {"default": added.default}
        helps[name] = f"{flags[-1]} {added.metavar or name.upper()}: {words}"
    parser.set_defaults(helps=helps)


def add_files(parser, operation):
    """Add the files of a command, and say how they are named.

    Parameters
    ----------
    parser : `~argparse.ArgumentParser`
        Of the command.
    operation : `~galml.core.domain.Operation`
        Its row of the registry.
    """
    parser.add_argument(
        "files",
        nargs="+",
        type=read_files,
        metavar="FILE",
        help=f"{operation.command.files}; or @LIST, a file with their names",
    )
    parser.usage = f"galml {operation.command.name} FILE [FILE ...] [options]"
    parser.epilog = (
        "Options with values or files for each FILE take them separated by commas, as "
        "a quoted pattern of files, by repetition, or as @LIST, one on each line. If a "
        "run with an output is interrupted, the same command goes on where it stopped."
    )


def _readable(option):
    """Make an option readable for argparse.

    Options with many values take one argument at a time, lest they take for values
    the files that follow.
    """
    option = dict(option)
    reader = TYPES.get(option.get("type"), option.get("type", str))
    if option.pop("nargs", None) == "+":
        option["action"] = "extend"
        reader = several(reader, SEPARATORS.get(reader, ","))
    if option.get("action") != "store_true":
        option["type"] = reader
    return option


def keywords_of(args):
    """Collect what is passed to the operation.

    Parameters
    ----------
    args : `~argparse.Namespace`
        What was typed.

    Returns
    -------
    dict
        Shared options that the command has and that are not None, and options of the
        operation that were given.
    """
    shared = {name: getattr(args, name, None) for name in KEYWORDS}
    keywords = {name: value for name, value in shared.items() if value is not None}
    own = args.operation.command.options
    return keywords | {name: getattr(args, name) for name in own if hasattr(args, name)}
