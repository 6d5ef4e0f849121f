# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published system (MERLIN): preparation, latent plane, checkpoint."""

import io
import os
import pickle
import types
import warnings
from collections import OrderedDict

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError, WeightsError
from galml.core.geometry import sky_angle
from galml.core.model import GalaxyModel
from galml.gas_kinematics.autoencoder import MerlinAutoencoder

__all__ = [
    "BOUNDARY",
    "PCA_COMPONENTS",
    "PCA_MEAN",
    "classify",
    "import_weights",
    "latent_angle",
    "prepare",
    "rho",
    "rotate_latents",
]

#: Mean of the latents of the published training set.
PCA_MEAN = (7.8016948, -7.79687586, 8.7583487)
#: Principal axes of those latents, one in each row.
PCA_COMPONENTS = (
    (-0.56319363, 0.29105396, 0.77336959),
    (0.63042612, 0.75639723, 0.17443091),
    (0.53420581, -0.58579077, 0.60948612),
)
#: Latent radius from which a galaxy counts as rotating.
BOUNDARY = 2.960960960960961
#: Angle (degrees) of the receding side, counter-clockwise from +y, where the
#: latent angle is zero; measured on model discs. The latent angle runs clockwise.
ANGLE_OFFSET = 126.0

_PIXELS = MerlinAutoencoder.pixels
_LATENTS = MerlinAutoencoder.n_latent


def prepare(observations):
    """
    Scale velocity maps as the published system does.

    Nearest-neighbour resize to 64x64 pixels, subtract the 2nd percentile, divide
    by the 98th percentile of the result, times two, minus one; then pixels
    without a value, and those outside [-1, 1], become 0.

    Parameters
    ----------
    observations : sequence of Observation
        Velocity maps, shape (y, x) each, any unit, NaN where there is no value.

    Returns
    -------
    dict of torch.Tensor
        ``image``, shape (n, 1, 64, 64), float32. A map without a value or
        without any spread is zero everywhere.
    """
    maps = np.zeros((len(observations), 1, _PIXELS, _PIXELS), np.float32)
    for image, observation in zip(maps, observations, strict=True):
        image[0] = _scale(_resize(observation.values))
    return {"image": torch.from_numpy(maps)}


def _resize(values):
    rows, columns = (np.arange(_PIXELS) * n // _PIXELS for n in values.shape)
    return values[rows[:, np.newaxis], columns]


def _scale(values):
    """Scale one map; clipping is sharp, so the order of operations matters."""
    scaled = np.zeros_like(values)
    inside = ~np.isnan(values)
    pixels = values[inside]
    if pixels.size:
        pixels = pixels - np.percentile(pixels, 2)
        top = np.percentile(pixels, 98)
        if top > 0:
            pixels = pixels / top * 2 - 1
            pixels[np.abs(pixels) > 1] = 0
            scaled[inside] = pixels
    return scaled


def rotate_latents(latents, mean=PCA_MEAN, components=PCA_COMPONENTS):
    """
    Latents along the principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    mean, components : array_like, optional
        Centre, shape (3,), and axes in rows, shape (3, 3). The published ones by
        default; another training of the network has others.

    Returns
    -------
    numpy.ndarray
        Rotated latents z, shape (n, 3), float64.
    """
    centred = np.asarray(latents, dtype=float) - np.asarray(mean)
    return centred @ np.asarray(components).T


def rho(latents, **pca):
    """
    Radius in the plane of the first two principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Radius, shape (n,); the larger, the more ordered the rotation.
    """
    rotated = rotate_latents(latents, **pca)
    return np.hypot(rotated[..., 0], rotated[..., 1])


def classify(latents, boundary=BOUNDARY, **pca):
    """
    Class of each galaxy: 1 rotating, 0 disturbed.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    boundary : float, optional
        Latent radius from which a galaxy counts as rotating.
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Classes, shape (n,), integer.
    """
    return (rho(latents, **pca) >= boundary).astype(int)


def latent_angle(latents, offset=ANGLE_OFFSET, **pca):
    """
    Direction of the receding side from the angle in the latent plane.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    offset : float, optional
        Direction, in degrees, where the latent angle is zero.
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Angle in degrees, counter-clockwise from +y, 0 <= angle < 360, shape (n,).
        It has a meaning for rotating galaxies only.
    """
    rotated = rotate_latents(latents, **pca)
    angle = np.degrees(np.arctan2(rotated[..., 1], rotated[..., 0]))
    return np.mod(offset - angle, 360.0)


#: The published system averages over no symmetries.
VIEWS = ()
MIN_PIXELS = 1


def prepare_maps(maps):
    """Prepare maps as `prepare` does; see there."""
    return prepare(maps)


def inputs(prepared):
    """What the network takes of prepared maps."""
    return prepared


def layout(model, n_samples):
    """Trailing shape and unit of each column of the operation's result."""
    if n_samples:
        raise InputError("n_samples", n_samples, "0: this model has no distributions")
    angle = ((), u.deg)
    return {
        "circularity": ((), None),
        "circularity_err": ((), None),
        "position_angle": angle,
        "position_angle_err": angle,
        "latent": ((_LATENTS,), None),
        "rotating": ((), None),
    }


def columns(outputs, prepared, maps, config):
    """
    Answer for each map.

    Parameters
    ----------
    outputs : dict of torch.Tensor
        What the network gave.
    prepared : dict of torch.Tensor
        What it was given.
    maps : sequence of galml.gas_kinematics.velocities.VelocityMap
        Where that came from.
    config : dict
        The configuration of the model.

    Returns
    -------
    columns : dict of numpy.ndarray or astropy.units.Quantity
        Latents, class and position angle; the system gives no circularity.
    flags : numpy.ndarray
        Bits of `galml.core.Flag`.
    """
    latents = outputs["latent"].numpy().astype(float)
    pca = {"mean": config["pca_mean"], "components": config["pca_components"]}
    angle = latent_angle(latents, offset=config["angle_offset"], **pca)
    middle = [tuple((n - 1) / 2 for n in item.values.shape[::-1]) for item in maps]
    values = {
        "latent": latents,
        "rotating": classify(latents, config["boundary"], **pca).astype(float),
        "position_angle": u.Quantity(
            [
                sky_angle(*row)
                for row in zip(angle, (m.wcs for m in maps), middle, strict=True)
            ]
        ),
    }
    return values, np.array([item.flags for item in maps], dtype=int)


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
            "licence": "MIT",
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
