# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a domain is, and the table of operations that the package offers.

An operation on objects of some kind goes through a domain: it reads them, tells which
cannot be used, prepares the others for a network, and turns what the network gives
into columns and flags. ``galml.registry`` fills the table; nothing here imports a
domain before it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Protocol

__all__ = [
    "Architecture",
    "Command",
    "Domain",
    "Operation",
    "find_architecture",
    "find_domain",
    "find_object",
    "find_operation",
    "operations",
    "register",
]


class Domain(Protocol):
    """What the engine asks of a kind of object, for one model.

    Members are batches: they have a length, the attributes ``names`` (a list with a
    name or None for each row) and ``values`` (an array), and are indexed by lists of
    rows. Where they know places on the sky, ``wcs_of(row)`` gives a celestial WCS or
    None, and ``center``, shape (rows, 2), the pixels (x, y) of the galaxies, NaN for
    the middle of the image. A domain that finds better ones has a method ``centers``,
    which takes what was prepared, and the members.

    Attributes
    ----------
    model : `~galml.core.model.GalaxyModel` or None
        Whose network answers; None where an operation needs no network.
    operation : str
        Name of the operation.
    views : tuple of `~galml.core.networks.View`
        What the network's answers are averaged over.
    concurrent : bool, optional
        Whether ``prepare`` may be called in several threads at once; then a processor
        works on several chunks at the same time. False where it is missing.
    optional : sequence of str, optional
        Columns that may be NaN where there is a result; none where it is missing.
    """

    model: object
    operation: str
    views: tuple

    def read(self, data, **options):
        """Read objects: give a `~galml.core.inputs.Source` of members."""

    def problem(self, member):
        """Give for each row of a member the error why it cannot be used, or None."""

    def prepare(self, members):
        """Prepare members: give an object whose ``inputs`` the network takes."""

    def columns(self, n_samples):
        """Give trailing shape and unit of each column of the result.

        In place of a unit stand None for plain numbers, ``str`` and ``bool``; texts are
        empty and truths are false where there is no result.
        """

    def answer(self, outputs, prepared, members):
        """Give the columns, from what the network gave for the members' rows."""

    def flags(self, answer, prepared, members):
        """Give the bits of `galml.core.Flag` of each row, as an integer array.

        The columns that ``answer`` gave are handed on: a domain keeps nothing of the
        members, so that threads can share it.
        """


@dataclass(frozen=True)
class Architecture:
    """A network, and the domain that prepares objects for it and reads its answers.

    Parameters
    ----------
    network : str
        Where the class of the network is, as "module:class".
    domain : str, optional
        Where the class of the `Domain` is; it is made from a model.
    recipe : str, optional
        Where the class of the `~galml.core.fitting.Recipe` is; it is made from an
        `~galml.core.model.InputSpec`.
    """

    network: str
    domain: str | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Command:
    """What the command line has to know of an operation.

    Parameters
    ----------
    name : str
        Name of the command.
    summary : str
        One line for the help.
    kind : {"objects", "field", "catalog", "page"}
        Whether its files hold one object each, are images of one field in several
        bands out of which galaxies are cut, are tables with a row for each galaxy, or
        such tables and images of which a page is made.
    files : str
        What the input files are, for the help.
    options : mapping of str to mapping
        Further options, or changes of shared ones, with what `argparse` needs; each is
        a keyword of the function. Readers are named as in ``galml.cli.options``.
    paired : mapping of str to mapping
        The same for options that name one file for each input file.
    examples : str
        Pattern of the example files that the demonstration uses.
    writer : str, optional
        Where the function is that writes a table piece by piece, as "module:function";
        for "catalog". By default it is written whole.
    drawn : mapping
        Keywords of the function that differ for what is drawn; for "catalog".
    named : str, optional
        Option with the names of the galaxies that are asked for; by default these are
        all of the table; for "catalog".
    rows : str
        What a row of the result is about; for "catalog".
    lacks : tuple of str
        Shared options that it does not have.
    """

    name: str
    summary: str
    kind: str
    files: str
    options: Mapping = field(default_factory=dict)
    paired: Mapping = field(default_factory=dict)
    examples: str = ""
    writer: str | None = None
    drawn: Mapping = field(default_factory=dict)
    named: str | None = None
    rows: str = "galaxy"
    lacks: tuple = ()


@dataclass(frozen=True)
class Operation:
    """One row of the table of operations.

    Parameters
    ----------
    name : str
        Name of the public function.
    function : str
        Where it is, as "module:function".
    models : str, optional
        What its models are for; that is the operation's own name by default. Several
        operations may share their models.
    architectures : mapping of str to `Architecture`
        Networks by name.
    importers : mapping of str to str
        Functions that read published weights, by the name of the system.
    plots : str, optional
        Module with ``plot_galaxy`` and ``plot_table``.
    command : `Command`, optional
        Its command.
    public : bool
        Whether ``galml`` itself has the function, and not only a part of it.
    """

    name: str
    function: str
    models: str | None = None
    architectures: Mapping = field(default_factory=dict)
    importers: Mapping = field(default_factory=dict)
    plots: str | None = None
    command: Command | None = None
    public: bool = True


_operations = {}


def register(*rows):
    """Add operations to the table.

    Parameters
    ----------
    *rows : `Operation`
        A row replaces one of the same name.
    """
    for row in rows:
        _operations[row.name] = row


def operations():
    """Give the table of operations.

    Returns
    -------
    mapping of str to `Operation`
        By name; it cannot be changed.
    """
    return MappingProxyType(_operations)


def find_object(place):
    """Import what a row of the table names.

    Parameters
    ----------
    place : str
        "module" or "module:name".

    Returns
    -------
    object
        The module, or what is called ``name`` in it.
    """
    module, _, name = place.partition(":")
    found = import_module(module)
    return getattr(found, name) if name else found


def find_operation(name):
    """Find the operations that models of this name are for.

    Parameters
    ----------
    name : str
        Name of an operation, or of what its models are for.

    Returns
    -------
    str
        What the models are for.

    Raises
    ------
    galml.core.ModelError
        If there are no models of that name.
    """
    known = {}
    for row in _operations.values():
        if row.architectures or row.models:
            models = row.models or row.name
            known |= {row.name: models, models: models}
    if name not in known:
        from galml.core.exceptions import ModelError

        raise ModelError(f"unknown operation {name!r}; known are {sorted(known)}")
    return known[name]


def find_architecture(operation, architecture):
    """Find a network by its name.

    Parameters
    ----------
    operation : str
        Name of an operation, or of what its models are for.
    architecture : str
        Name of a network.

    Returns
    -------
    `Architecture`
        Where network and domain are.

    Raises
    ------
    galml.core.ModelError
        If the operation or the network is unknown.
    """
    models = find_operation(operation)
    known = {}
    for row in _operations.values():
        if models == (row.models or row.name):
            known |= row.architectures
    if architecture not in known:
        from galml.core.exceptions import ModelError

        raise ModelError(
            f"unknown architecture {architecture!r} for {operation!r}; known are "
            f"{sorted(known)}"
        )
    return known[architecture]


def find_domain(model, **options):
    """Make the domain of a model.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        The model.
    **options
        What a call asks of the answers, if the class of the domain takes it.

    Returns
    -------
    `Domain`
        What prepares objects for the model's network and reads its answers.
    """
    place = find_architecture(model.operation, model.architecture).domain
    return find_object(place)(model, **options)
