# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one kind of model: a network, what it expects, and where it comes from."""

import datetime
import functools
import hashlib
import importlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import galml
from galml.core.exceptions import InputError, ModelError, WeightsError

__all__ = ["OPERATIONS", "GalaxyModel", "find_network"]

#: The package of each operation; its module ``network`` has ``ARCHITECTURES``.
OPERATIONS = {
    "circularity": "galml.gas_kinematics",
    "spin": "galml.stellar_spin",
    "stars": "galml.stars",
}

FORMAT = 1
METADATA_KEY = "galml"
#: What a model is hashed by, beside its tensors.
DESCRIPTION = ("operation", "architecture", "options", "config", "card")


def find_network(operation, architecture):
    """
    Find the class of a network.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`.
    architecture : str
        One of the ``ARCHITECTURES`` of the operation's package.

    Returns
    -------
    type
        A subclass of `torch.nn.Module`.

    Raises
    ------
    galml.core.exceptions.ModelError
        If the operation or the architecture is unknown.
    """
    if operation not in OPERATIONS:
        known = sorted(OPERATIONS)
        raise ModelError(f"unknown operation {operation!r}; known are {known}")
    networks = importlib.import_module(f"{OPERATIONS[operation]}.network").ARCHITECTURES
    if architecture not in networks:
        raise ModelError(
            f"unknown architecture {architecture!r} for {operation!r}; known are "
            f"{sorted(networks)}"
        )
    return networks[architecture]


class GalaxyModel:
    """
    A network together with all that is needed to use it and to trust it.

    Parameters
    ----------
    network : `torch.nn.Module`
        Taken over and put in evaluation mode. Models may be shared: copy the network
        before you train it further.
    operation : str
        What the model is for, one of `OPERATIONS`.
    architecture : str
        The name of the network's class, see `find_network`.
    options : dict
        The keyword arguments that the network was made with.
    config : dict
        What the operation needs besides: description of the input, output columns
        with their units, calibration.
    card : dict
        Training data, license, measured figures. The date and the version of galml
        are added where they are missing.
    name : str, optional
        A name for people.

    Raises
    ------
    galml.core.exceptions.ModelError
        If operation or architecture is unknown, the network is of another class, or
        ``options``, ``config`` or ``card`` cannot be written as JSON.
    """

    def __init__(
        self, network, *, operation, architecture, options, config, card, name=None
    ):
        kind = find_network(operation, architecture)
        if not isinstance(network, kind):
            raise ModelError(
                f"architecture {architecture!r} is a {kind.__name__}, but the network "
                f"is a {type(network).__name__}"
            )
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.operation = operation
        self.architecture = architecture
        self.options = _as_json(options, "options")
        self.config = _as_json(config, "config")
        self.card = {"date": today, "galml": galml.__version__} | _as_json(card, "card")
        self.name = name

    def __repr__(self):
        number = sum(p.numel() for p in self.network.parameters())
        return (
            f"<GalaxyModel {self.name!r}: {self.operation} by {self.architecture}, "
            f"{number} parameters, sha256 {self.sha256[:12]}>"
        )

    @functools.cached_property
    def sha256(self):
        """
        SHA-256 of the tensors, options, configuration and card, as a hex `str`.

        It is the same before saving and after loading, except where weights are
        rounded to float16 by saving. It is computed once.
        """
        return _sha256(self._description(), self.network.state_dict())

    def save(self, path, *, dtype=None):
        """
        Write the model to one safetensors file, replacing what is there.

        Parameters
        ----------
        path : str or path-like
            Where to write.
        dtype : {None, "float16"}, optional
            "float16" rounds the weights, which halves the file. They are float32
            again after loading.

        Raises
        ------
        galml.core.exceptions.ModelError
            If a weight is not finite, or not in float16.
        """
        if dtype not in (None, "float16"):
            raise InputError("dtype", repr(dtype), "None or 'float16'")
        tensors = {}
        for key, tensor in self.network.state_dict().items():
            if dtype and tensor.is_floating_point():
                tensor = tensor.half()
            if not tensor.isfinite().all():
                raise ModelError(f"{key}: not finite in {tensor.dtype}")
            tensors[key] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        content = {
            "format": FORMAT,
            "name": self.name,
            **self._description(),
            "sha256": _sha256(self._description(), tensors),
        }
        part = f"{os.fspath(path)}.part"
        save_file(tensors, part, metadata={METADATA_KEY: json.dumps(content)})
        os.replace(part, path)

    @classmethod
    def load(cls, path, *, operation=None):
        """
        Read a model, and verify that it is what was saved.

        Parameters
        ----------
        path : str or path-like
            A file written by `save`.
        operation : str, optional
            The operation that the model must be for.

        Returns
        -------
        GalaxyModel
            On the CPU, in float32. Named after the file where it has no name.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        galml.core.exceptions.WeightsError
            If the file is damaged, was changed after saving, or is none of galml's.
        galml.core.exceptions.ModelError
            If it is for another operation, or needs a newer galml.
        """
        name, description, tensors = _read(path)
        found = description["operation"]
        if operation not in (None, found):
            raise ModelError(f"{path}: a model for {found!r}, not for {operation!r}")
        try:
            kind = find_network(found, description["architecture"])
            with torch.random.fork_rng(devices=()):  # initial weights are random
                network = kind(**description["options"])
            network.load_state_dict(tensors)
        except (ModelError, RuntimeError, TypeError) as error:
            raise ModelError(f"{path}: {error}") from error
        return cls(network, **description, name=name or Path(path).stem)

    def _description(self):
        return {key: getattr(self, key) for key in DESCRIPTION}


def _as_json(value, argument):
    """Return a value as it is after saving and loading."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{argument}: cannot be written as JSON ({error})") from error


def _sha256(description, tensors):
    """Hash a description and tensors, floating point numbers as float32."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(path):
    """Read and verify a file: name, description and tensors."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path}: truncated, or no safetensors file") from error
    if METADATA_KEY not in metadata:
        raise WeightsError(f"{path}: a safetensors file, but not a model of galml")
    try:
        content = json.loads(metadata[METADATA_KEY])
        version, name, expected = (content[k] for k in ("format", "name", "sha256"))
        if version > FORMAT:
            raise ModelError(
                f"{path}: has format {version}, this galml knows up to {FORMAT}; "
                "update galml"
            )
        description = {key: content[key] for key in DESCRIPTION}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: the description is damaged") from error
    if _sha256(description, tensors) != expected:
        raise WeightsError(f"{path}: damaged, or changed after it was saved")
    return name, description, tensors
