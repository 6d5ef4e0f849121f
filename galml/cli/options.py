# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of the commands, each in one place."""

import argparse
from pathlib import Path

__all__ = [
    "FORMATS",
    "OPTIONS",
    "add_options",
    "keywords_of",
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


def positive(text):
    """Read a whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


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


#: Readers that options may name as their "type".
TYPES = {"extension": extension, "hdu": hdu, "positive": positive, "value": value}

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
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "posterior samples for each galaxy (default: %(default)s)",
    },
    "seed": {
        "type": int,
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
    for name, reader in TYPES.items():
        parser.register("type", name, reader)
    absent = set() if operation.plots else {"figures"}
    absent |= set() if operation.models or operation.architectures else NETWORK
    command = operation.command
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
        name: {"nargs": "+", "metavar": "FILE"} | dict(option)
        for name, option in command.paired.items()
    }
    table = own | paired | shared
    for name, option in table.items():
        flags = ["-" * min(len(name), 2) + name.replace("_", "-")]
        if "short" in option:
            flags.insert(0, option["short"])
        option = {key: part for key, part in option.items() if key != "short"}
        option["help"] = option["help"].replace("{suffixes}", " ".join(formats))
        if name == "format":
            option["choices"] = sorted(set(formats.values()))
        parser.add_argument(*flags, **option)
    parser.set_defaults(formats=formats, figures=None)
    # Files before options: some of these take as many values as there are.
    parser.usage = f"galml {operation.command.name} FILE [FILE ...] [options]"


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
