# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published checkpoint (MERLIN), read without running code from it."""

import io
import os
import pickle
import types
import warnings
from collections import OrderedDict

import torch

from galml.core.exceptions import WeightsError
from galml.core.model import GalaxyModel
from galml.gas_kinematics.autoencoder import MerlinAutoencoder
from galml.gas_kinematics.published import (
    ANGLE_OFFSET,
    BOUNDARY,
    PCA_COMPONENTS,
    PCA_MEAN,
)

__all__ = ["import_weights"]


def import_weights(path):
    """
    Read the published checkpoint.

    The file is a pickle. It is read without running any code from it: only the
    few names that such a file needs are known, and most of them stand for inert
    classes from which the tensors are taken.

    Parameters
    ----------
    path : str or path-like
        The published file ``CAE_Epoch_300.pt``.

    Returns
    -------
    galml.core.model.GalaxyModel
        Model of the operation ``circularity``, architecture ``merlin``.

    Raises
    ------
    galml.core.WeightsError
        When the file cannot be read, asks for any other name, or does not hold
        this network.
    OSError
        When there is no file to open.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read()
    with torch.random.fork_rng(devices=()):  # initial weights are random
        network = MerlinAutoencoder()
    try:
        network.load_state_dict(_parameters(_unpickle(content)))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    # Damaged bytes can raise anything inside the unpickler.
    except Exception as error:
        raise WeightsError(
            f"{path}: not the published autoencoder, or damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise WeightsError(f"{path}: holds weights that are not finite")
    return GalaxyModel(
        network,
        operation="circularity",
        architecture="merlin",
        options={},
        config={
            "preparation": "merlin",
            "pca_mean": list(PCA_MEAN),
            "pca_components": [list(row) for row in PCA_COMPONENTS],
            "boundary": BOUNDARY,
            "angle_offset": ANGLE_OFFSET,
        },
        card={
            "title": "MERLIN, the published autoencoder of velocity maps",
            "paper": "Dawson et al. 2020, MNRAS 491, 2506",
            "date": "2020-01",
            "training": "velocity maps of simulated EAGLE galaxies, 300 epochs",
            "license": "MIT",
            "source": "https://github.com/SpaceMeerkat/CAE",
        },
        name="merlin",
    )


class _Inert:
    """Stand-in for a class or function that a checkpoint names."""

    dump_patches = False

    def __init__(self, *arguments):
        pass


_LAYERS = {
    "conv": ("Conv2d", "ConvTranspose2d"),
    "linear": ("Linear",),
    "pooling": ("MaxPool2d", "MaxUnpool2d"),
    "activation": ("ReLU",),
}
_INERT_NAMES = (
    ("Networks", "Autoencoder"),
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"),
    *(
        (f"torch.nn.modules.{module}", name)
        for module, names in _LAYERS.items()
        for name in names
    ),
)


def _known_names():
    """Everything that a file may name, made anew: a pickle can alter classes."""

    def rebuild_tensor(storage, offset, size, stride, *unused):
        return torch._utils._rebuild_tensor(storage, offset, size, stride)

    def rebuild_parameter(tensor, *unused):
        return tensor

    known = {
        ("collections", "OrderedDict"): OrderedDict,
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    }
    for module, name in _INERT_NAMES:
        known[module, name] = type(name, (_Inert,), {"__module__": module})
    return known


def _unpickle(content):
    """Read a torch file of the format before zip archives; refuse unknown names."""
    if content.startswith(b"PK"):
        raise WeightsError("a zip archive, which the published file is not")
    known = _known_names()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            try:
                return known[module, name]
            except KeyError:
                raise WeightsError(
                    f"asks for {module}.{name}, which the published file does not"
                ) from None

    restricted = types.SimpleNamespace(
        __name__="galml_restricted_pickle",
        Unpickler=Unpickler,
        load=lambda file, **options: Unpickler(file, **options).load(),
    )
    with warnings.catch_warnings():
        # torch compares the source text in the file with that of the stand-ins.
        warnings.simplefilter("ignore")
        # A buffer rather than a file: torch tries no tar archive on it.
        return torch.load(
            io.BytesIO(content),
            map_location="cpu",
            weights_only=False,
            mmap=False,
            pickle_module=restricted,
        )


def _parameters(module):
    """Tensors of an inert module by the names of a state dict."""
    return {
        f"{layer}.{name}": tensor
        for layer, member in module._modules.items()
        for name, tensor in vars(member).get("_parameters", {}).items()
    }
