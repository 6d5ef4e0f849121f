# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one kind of model: a network, what it expects, and where it comes from."""

import datetime
import functools
import hashlib
import json
import os
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.overrides import TorchFunctionMode

import galml
from galml.core.domain import find_architecture, find_object, find_operation
from galml.core.exceptions import (
    FileError,
    InputError,
    InputTypeError,
    MissingFileError,
    ModelError,
    WeightsError,
)
from galml.core.files import readable, write_at_once

__all__ = ["GalaxyModel", "InputSpec", "OwnRandomNumbers", "published_network"]

#: In the first one, the name was not part of the hash.
FORMAT = 2
METADATA_KEY = "galml"
#: Characters of what torch tells of weights that do not fit.
LONGEST_MESSAGE = 300
#: What a model is hashed by, beside its tensors and its name.
DESCRIPTION = ("operation", "architecture", "options", "config", "card")


class OwnRandomNumbers(TorchFunctionMode):
    """Let networks that are made in this thread draw their first weights elsewhere.

    A context manager. What is drawn is overwritten with trained weights; torch's
    generator, which all threads share, stays as it is.
    """

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        drawing = function in _DRAWING or "generator" in kwargs
        if drawing and kwargs.get("generator") is None:
            kwargs = kwargs | {"generator": self.generator}
        return function(*args, **kwargs)


#: Functions that draw random numbers, beside those that pass a generator on.
_DRAWING = {
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.normal,
    torch.bernoulli,
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    torch.Tensor.random_,
    torch.Tensor.exponential_,
    torch.Tensor.bernoulli_,
}


@dataclass(frozen=True)
class InputSpec:
    """
    What a network is shown: how objects are brought into the form that it takes.

    It stands in the card of a model, and preparation reads it from there, so that
    what a network sees is what it was trained on.

    Parameters
    ----------
    grid : tuple of int, optional
        Cells (ny, nx) of the image.
    channels : tuple of str, optional
        Planes of the image, in order.
    bands : tuple of str, optional
        Bands of the channels, where they are fixed.
    half_width : float, optional
        Half of the side of the image, in units of ``width_unit``.
    width_unit : str, optional
        "r_eff" for effective radii, "map" for the radius of what was measured, "pix",
        or an angle or a length that `astropy.units.Unit` understands.
    scalars : tuple of str, optional
        Numbers about the object that the network is given, in order.
    stretch : dict of str to float, optional
        Numbers of the scale of brightness or of velocity.
    parameters : dict of str to float, optional
        All other numbers that the preparation works with.
    """

    grid: tuple = ()
    channels: tuple = ()
    bands: tuple = ()
    half_width: float | None = None
    width_unit: str = ""
    scalars: tuple = ()
    stretch: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values):
        """Make it from what `dataclasses.asdict` gave, after a way through JSON."""
        return cls(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
        )


class GalaxyModel:
    """
    A network together with all that is needed to use it and to trust it.

    Parameters
    ----------
    network : `torch.nn.Module`
        Taken over and put in evaluation mode. Models may be shared: copy the network
        before you train it further.
    operation : str
        What the model is for: an operation of `galml.core.domain.operations`.
    architecture : str
        The name of the network's class there.
    options : dict
        The keyword arguments that the network was made with.
    config : dict
        What the operation needs besides: columns with their units, calibration, domain
        of validity.
    card : dict
        Training data, license, measured figures. The date and the version of galml
        are added where they are missing, and what the network is shown as "input".
    input_spec : `InputSpec`, optional
        What the network is shown, where the card does not say so already.
    name : str, optional
        A name for people.

    Raises
    ------
    galml.core.exceptions.ModelError
        If operation or architecture is unknown, the network is of another class, or
        ``options``, ``config`` or ``card`` cannot be written as JSON.
    """

    def __init__(
        self,
        network,
        *,
        operation,
        architecture,
        options,
        config,
        card,
        input_spec=None,
        name=None,
    ):
        kind = find_object(find_architecture(operation, architecture).network)
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
        card = {"date": today, "galml": galml.__version__} | _as_json(card, "card")
        if input_spec is not None:
            card["input"] = _as_json(asdict(input_spec), "input_spec")
        self.card = card
        self.name = name

    def __repr__(self):
        number = sum(p.numel() for p in self.network.parameters())
        return (
            f"<GalaxyModel {self.name!r}: {self.operation} by {self.architecture}, "
            f"{number} parameters, sha256 {self.sha256[:12]}>"
        )

    @functools.cached_property
    def input_spec(self):
        """What the network is shown, as an `InputSpec`."""
        try:
            return InputSpec.from_dict(self.card.get("input", {}))
        except (TypeError, AttributeError) as error:
            raise ModelError(f"card['input']: not understood ({error})") from error

    @functools.cached_property
    def sha256(self):
        """
        SHA-256 of tensors, name, options, configuration and card, as a hex `str`.

        It is the same before saving and after loading, except where weights are
        rounded to float16 by saving. It is computed once.
        """
        return _sha256(self._hashed(), self.network.state_dict())

    def save(self, path, *, dtype=None, overwrite=False):
        """
        Write the model to one safetensors file.

        Parameters
        ----------
        path : str or path-like
            Where to write.
        dtype : {None, "float16"}, optional
            "float16" rounds the weights, which halves the file. They are float32
            again after loading.
        overwrite : bool, optional
            Replace a file that is there.

        Raises
        ------
        galml.core.FileError
            If the file exists and ``overwrite`` is False, or cannot be written.
        galml.core.exceptions.ModelError
            If a weight is not finite, or not in float16.
        """
        if dtype not in (None, "float16"):
            raise InputError("dtype", repr(dtype), "None or 'float16'")
        if not isinstance(path, str | os.PathLike):
            raise InputTypeError("path", repr(path), "the path of a file")
        if os.path.lexists(path) and not overwrite:
            raise FileError("path", f"{path}, which exists", "overwrite=True")
        tensors = {}
        for key, tensor in self.network.state_dict().items():
            if dtype and tensor.is_floating_point():
                tensor = tensor.half()
            if not tensor.isfinite().all():
                raise ModelError(f"{key}: not finite in {tensor.dtype}")
            tensors[key] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        content = {
            "format": FORMAT,
            **self._hashed(),
            "sha256": _sha256(self._hashed(), tensors),
        }
        write_at_once(path, save(tensors, {METADATA_KEY: json.dumps(content)}))

    @classmethod
    def load(cls, path, *, operation=None, network=None):
        """
        Read a model, and verify that it is what was saved.

        Parameters
        ----------
        path : str or path-like
            A file written by `save`.
        operation : str, optional
            The operation that the model must be for.
        network : `torch.nn.Module`, optional
            Takes up the weights, where the network cannot be made from the file alone.

        Returns
        -------
        GalaxyModel
            On the CPU, in float32. Named after the file where it has no name.

        Raises
        ------
        galml.core.MissingFileError
            If there is no such file.
        galml.core.exceptions.WeightsError
            If the file is damaged, was changed after saving, or is none of galml's.
        galml.core.exceptions.ModelError
            If it is for another operation, needs a newer galml, or has weights of
            another network.
        """
        name, description, tensors, sha256 = _read(path)
        found = description["operation"]
        if operation is not None and find_operation(operation) != found:
            raise ModelError(f"{path}: a model for {found!r}, not for {operation!r}")
        try:
            place = find_architecture(found, description["architecture"])
            kind = find_object(place.network)
            if network is None:
                with OwnRandomNumbers():
                    network = kind(**description["options"])
                if torch.get_default_dtype() is not torch.float32:
                    network = network.float()
            network.load_state_dict(tensors)
        except (ModelError, RuntimeError, TypeError) as error:
            # Torch names every tensor that does not fit.
            message = textwrap.shorten(str(error), LONGEST_MESSAGE)
            raise ModelError(f"{path}: {message}") from error
        model = cls(network, **description, name=name or Path(path).stem)
        model.sha256 = sha256
        return model

    def _hashed(self):
        return {key: getattr(self, key) for key in ("name", *DESCRIPTION)}


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
    """Read and verify a file: name, description, tensors and hash."""
    if not os.path.isfile(path):
        raise MissingFileError("path", str(path), "a file that is there")
    with readable("path", str(path), "a model of galml"):
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                keys = file.keys()
                tensors = {key: file.get_tensor(key) for key in keys}
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
    hashed = description if version < 2 else {"name": name, **description}
    if _sha256(hashed, tensors) != expected:
        raise WeightsError(f"{path}: damaged, or changed after it was saved")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise WeightsError(f"{path}: holds weights that are not finite")
    return name, description, tensors, expected


def published_network(path, make, load, name):
    """Make a network with the weights of a published file.

    Parameters
    ----------
    path : str or path-like
        The file.
    make : callable
        Gives the network.
    load : callable
        ``load(network, content)`` puts the weights into it, from the bytes of the file;
        it raises what it likes where these are none.
    name : str
        What the network is called, for errors.

    Returns
    -------
    network : `torch.nn.Module`
        With finite weights.
    told : object
        What ``load`` gave.

    Raises
    ------
    galml.core.WeightsError
        If the file does not hold these weights.
    OSError
        If there is no file to open.
    """
    path = os.fspath(path)
    with readable("path", path, f"the published {name}"):
        content = Path(path).read_bytes()
    with OwnRandomNumbers():  # initial weights are random
        network = make()
    try:
        told = load(network, content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    # Damaged bytes can raise anything inside the unpickler.
    except Exception as error:
        raise WeightsError(
            f"{path}: not the published {name}, or damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise WeightsError(f"{path}: holds weights that are not finite")
    return network, told
