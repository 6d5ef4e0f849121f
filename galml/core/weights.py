# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Models by name: which there are, and where their weights come from."""

import difflib
import functools
import json
import os
import threading
from importlib import resources

import astropy.units as u
import numpy as np
from astropy.table import QTable
from astropy.utils.data import clear_download_cache, download_file

from galml.core.domain import find_object, find_operation, operations
from galml.core.exceptions import InputTypeError, ModelError, WeightsError
from galml.core.inference import survive_forks
from galml.core.model import GalaxyModel

__all__ = ["import_weights", "list_models", "load_model"]

DATA = resources.files("galml") / "data"

_lock = threading.Lock()


def list_models(operation=None):
    """
    List the models that have a name.

    Parameters
    ----------
    operation : str, optional
        List those for one operation only.

    Returns
    -------
    `~astropy.table.QTable`
        ``operation``, ``name``, ``default`` (the one used where none is named),
        ``size`` of the file, ``license``, ``domain`` (what it was trained on),
        ``sha256`` (see `galml.core.model.GalaxyModel.sha256`) and ``shipped`` (needs
        no network).

    Raises
    ------
    galml.core.exceptions.ModelError
        If the operation is unknown.
    """
    entries = _entries(operation)
    kinds = {
        "operation": str,
        "name": str,
        "default": bool,
        "size": float,
        "license": str,
        "domain": str,
        "sha256": str,
    }
    table = QTable(
        {
            key: np.array([entry[key] for entry in entries], dtype=kind)
            for key, kind in kinds.items()
        }
    )
    table["size"] = table["size"] * u.byte
    table["shipped"] = np.array(["file" in entry for entry in entries], dtype=bool)
    return table


def load_model(model, operation=None):
    """
    Get a model by name, from a file, or as it is.

    A model that is loaded twice in a process is the same object, to be shared and not
    to be changed: copy its network before you train it further.

    Parameters
    ----------
    model : str, path-like or galml.core.model.GalaxyModel
        A name of `list_models`, "default", or a file of
        `galml.core.model.GalaxyModel.save`. A name goes before a file of that name.
    operation : str, optional
        The operation that the model must be for. "default" needs it.

    Returns
    -------
    galml.core.model.GalaxyModel

    Raises
    ------
    galml.core.exceptions.ModelError
        If the name is unknown, or the model is for another operation.
    galml.core.exceptions.WeightsError
        If the file is damaged, cannot be fetched, or is not the expected one.
    galml.core.exceptions.InputTypeError
        If ``model`` is of another type.
    """
    survive_forks()
    if isinstance(model, GalaxyModel):
        found = model
    elif isinstance(model, str) and (entry := _find(model, operation)):
        with _lock:
            found = _load_named(json.dumps(entry))
    elif isinstance(model, (str, os.PathLike)) and os.path.isfile(model):
        state = os.stat(model)
        with _lock:
            found = _load_file(os.path.abspath(model), state.st_mtime_ns, state.st_size)
    elif isinstance(model, (str, os.PathLike)):
        raise _unknown(str(model), operation)
    else:
        expected = "a name, a path or a GalaxyModel"
        raise InputTypeError("model", type(model).__name__, expected)
    if operation is not None and find_operation(operation) != found.operation:
        raise ModelError(
            f"{found.name or 'the model'}: one for {found.operation!r}, "
            f"not for {operation!r}"
        )
    return found


def import_weights(path, system):
    """
    Read the published weights of another system.

    Parameters
    ----------
    path : str or path-like
        The file as it was published.
    system : {"galacticforge-maf", "galacticforge-nice", "merlin"}
        Whose file it is: one of those that the operations' rows in ``galml.registry``
        name.

    Returns
    -------
    galml.core.model.GalaxyModel
        With the preparation of that system.

    Raises
    ------
    galml.core.exceptions.ModelError
        If the system is unknown.
    galml.core.exceptions.WeightsError
        If the file is not what was published for it.
    """
    importers = {
        name: place
        for operation in operations().values()
        for name, place in operation.importers.items()
    }
    if system not in importers:
        raise ModelError(f"unknown system {system!r}; known are {sorted(importers)}")
    return find_object(importers[system])(path)


def _entries(operation=None):
    """Read the registry, for all operations or for one."""
    operation = None if operation is None else find_operation(operation)
    entries = json.loads((DATA / "models.json").read_text(encoding="utf-8"))
    return [e for e in entries if operation in (None, e["operation"])]


def _find(name, operation):
    """Return the entry of a name, those of the operation first, or None."""
    if name == "default":
        if operation is None:
            raise ModelError("model 'default' needs the name of an operation")
        return next((e for e in _entries(operation) if e["default"]), None)
    entries = [*_entries(operation), *_entries()]
    return next((e for e in entries if e["name"] == name), None)


def _unknown(name, operation):
    """Make the error for a name that is neither known nor a file."""
    known = sorted({entry["name"] for entry in _entries(operation)})
    close = difflib.get_close_matches(name, known)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    where = f" for {operation!r}" if operation else ""
    return ModelError(
        f"model {name!r}: no file, and not among the names{where}: {known}{hint}"
    )


@functools.lru_cache(maxsize=16)
def _load_file(path, mtime, size):
    """Load a file; its time and size are part of the key, so that changes are seen."""
    return GalaxyModel.load(path)


@functools.lru_cache(maxsize=16)
def _load_named(entry):
    """Load a model of the registry, whose entry comes as JSON to be a key."""
    entry = json.loads(entry)
    if "file" in entry:
        with resources.as_file(DATA / entry["file"]) as path:
            return _load_verified(path, entry)
    errors = []
    for url in entry["urls"]:
        try:
            path = download_file(url, cache=True, show_progress=False, pkgname="galml")
        except OSError as error:
            errors.append(f"{url}: {error}")
            continue
        try:
            return _load_verified(path, entry)
        except WeightsError as error:
            clear_download_cache(url, pkgname="galml")
            errors.append(f"{url}: {error}")
    raise WeightsError(f"{entry['name']}: no source has the file. {'; '.join(errors)}")


def _load_verified(path, entry):
    """Load a file that must hold the model of an entry."""
    model = GalaxyModel.load(path)
    if model.sha256 != entry["sha256"]:
        raise WeightsError(
            f"{path}: sha256 is {model.sha256}, expected {entry['sha256']}"
        )
    model.name = entry["name"]
    return model
