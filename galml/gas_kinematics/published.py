# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published system (MERLIN): network, preparation, latent plane, weights.

Dawson et al. 2020, MNRAS 491, 2506.
"""

import io
import pickle
import types
import warnings
from collections import OrderedDict
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch
from torch import nn

from galml.core.exceptions import InputError, WeightsError
from galml.core.geometry import sky_angle
from galml.core.model import GalaxyModel, InputSpec, published_network
from galml.core.threads import changing_filters
from galml.gas_kinematics.kinematic import MapDomain

__all__ = [
    "ANGLE_OFFSET",
    "BOUNDARY",
    "INPUT",
    "PCA_COMPONENTS",
    "PCA_MEAN",
    "MerlinAutoencoder",
    "MerlinDomain",
    "PreparedImages",
    "classify",
    "image_center",
    "import_weights",
    "latent_angle",
    "latent_plane",
    "prepare",
    "rho",
    "rotate_latents",
]

#: What a new network is shown; a trained one has its own in its card.
INPUT = InputSpec(
    grid=(64, 64),
    channels=("velocity",),
    stretch={
        # Percentiles that the velocities are scaled between, and the least and largest
        # scaled velocity: others become 0.
        "low_percentile": 2.0,
        "high_percentile": 98.0,
        "limit": 1.0,
    },
    parameters={"fewest_pixels": 1},
)

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
#: latent angle is zero; measured on model disks. The latent angle runs clockwise.
ANGLE_OFFSET = 126.0


@dataclass
class PreparedImages:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, 1, 64, 64), float32.
    """

    image: torch.Tensor

    @property
    def inputs(self):
        """What the network takes."""
        return {"image": self.image}


def prepare(maps, spec=INPUT):
    """
    Scale velocity maps as the published system does.

    Nearest-neighbor resize to 64x64 pixels, subtract the 2nd percentile, divide
    by the 98th percentile of the result, times two, minus one; then pixels
    without a value, and those outside [-1, 1], become 0.

    Parameters
    ----------
    maps : iterable of `~numpy.ndarray`
        Velocity maps, shape (y, x) each, any unit, NaN where there is no value.
    spec : `~galml.core.model.InputSpec`
        What the network is shown.

    Returns
    -------
    `PreparedImages`
        A map without a value or without any spread is zero everywhere.
    """
    scaled = [_scale(_resize(values, spec.grid), spec.stretch) for values in maps]
    return PreparedImages(torch.from_numpy(np.stack(scaled)[:, None]))


def _resize(values, grid):
    """Take the nearest pixels."""
    rows, columns = (
        np.arange(cells) * n // cells
        for cells, n in zip(grid, values.shape, strict=True)
    )
    return values[rows[:, np.newaxis], columns]


def _scale(values, stretch):
    """Scale one map; clipping is sharp, so the order of operations matters."""
    scaled = np.zeros(values.shape, np.float32)
    inside = ~np.isnan(values)
    pixels = values[inside]
    if pixels.size:
        pixels = pixels - np.percentile(pixels, stretch["low_percentile"])
        top = np.percentile(pixels, stretch["high_percentile"])
        if top > 0:
            pixels = pixels / top * 2 - 1
            pixels[np.abs(pixels) > stretch["limit"]] = 0
            scaled[inside] = pixels
    return scaled


def rotate_latents(latents, mean=PCA_MEAN, components=PCA_COMPONENTS):
    """
    Rotate latents onto the principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    mean, components : array_like, optional
        Center, shape (3,), and axes in rows, shape (3, 3). The published ones by
        default; another training of the network has others.

    Returns
    -------
    numpy.ndarray
        Rotated latents z, shape (n, 3), float64.
    """
    centered = np.asarray(latents, dtype=float) - np.asarray(mean)
    return centered @ np.asarray(components).T


def rho(latents, mean=PCA_MEAN, components=PCA_COMPONENTS):
    """
    Measure the radius in the plane of the first two principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    mean, components : array_like, optional
        As in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Radius, shape (n,); the larger, the more ordered the rotation.
    """
    rotated = rotate_latents(latents, mean, components)
    return np.hypot(rotated[..., 0], rotated[..., 1])


def classify(latents, boundary=BOUNDARY, mean=PCA_MEAN, components=PCA_COMPONENTS):
    """
    Classify galaxies: 1 rotating, 0 disturbed.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    boundary : float, optional
        Latent radius from which a galaxy counts as rotating.
    mean, components : array_like, optional
        As in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Classes, shape (n,), integer.
    """
    return (rho(latents, mean, components) >= boundary).astype(int)


def latent_angle(
    latents, offset=ANGLE_OFFSET, mean=PCA_MEAN, components=PCA_COMPONENTS
):
    """
    Find the direction of the receding side by the angle in the latent plane.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    offset : float, optional
        Direction, in degrees, where the latent angle is zero.
    mean, components : array_like, optional
        As in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Angle in degrees, counter-clockwise from +y, 0 <= angle < 360, shape (n,).
        It has a meaning for rotating galaxies only.
    """
    rotated = rotate_latents(latents, mean, components)
    angle = np.degrees(np.arctan2(rotated[..., 1], rotated[..., 0]))
    return np.mod(offset - angle, 360.0)


def latent_plane(latents, kappa=None, angle=None):
    """
    Fit the principal plane of the latents of a training, oriented as published.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    kappa : array_like, optional
        True circularities, shape (n,), NaN where unknown. They set the boundary with
        the best balanced accuracy for a circularity above 0.5.
    angle : array_like, optional
        True directions of the receding side in degrees counter-clockwise from +y,
        shape (n,), NaN where unknown. Where ``kappa`` is known too, only galaxies
        above 0.7 count. They set handedness and zero of the latent angle.

    Returns
    -------
    dict
        Lists and numbers ``pca_mean``, ``pca_components``, ``boundary`` and
        ``angle_offset``; the last two are None where the truths do not tell.
    """
    latents = np.asarray(latents, dtype=float)
    mean = latents.mean(axis=0)
    axes = np.linalg.svd(np.cov(latents, rowvar=False))[2]
    # The sign of a principal axis is arbitrary: the largest loading is positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1))
    boundary = offset = None
    if angle is not None:
        axes, offset = _orient(latents, mean, axes, kappa, np.asarray(angle, float))
    if kappa is not None:
        radius = rho(latents, mean, axes)
        boundary = _best_boundary(radius, np.asarray(kappa, float))
    return {
        "pca_mean": mean.tolist(),
        "pca_components": axes.tolist(),
        "boundary": boundary,
        "angle_offset": offset,
    }


def _orient(latents, mean, axes, kappa, angle):
    """Choose the axes whose latent angle runs clockwise, and its zero in degrees."""
    known = np.isfinite(angle)
    if kappa is not None:
        known &= np.asarray(kappa, float) > 0.7
    if not known.any():
        return axes, None
    turned = np.diag([1.0, -1.0, 1.0]) @ axes
    found = []
    for choice in (axes, turned):
        z = rotate_latents(latents[known], mean, choice)
        sums = np.radians(angle[known]) + np.arctan2(z[:, 1], z[:, 0])
        found.append(np.exp(1j * sums).mean())
    best = int(abs(found[1]) > abs(found[0]))
    offset = np.degrees(np.angle(found[best])) % 360
    return (axes, turned)[best], float(offset)


def _best_boundary(radius, kappa):
    """Latent radius that best separates circularities above and below one half."""
    known = np.isfinite(kappa)
    order = np.argsort(radius[known])
    radius, ordered = radius[known][order], kappa[known][order] > 0.5
    n_above, n_below = ordered.sum(), (~ordered).sum()
    if not (n_above and n_below):
        return None
    below = np.cumsum(~ordered)[:-1] / n_below
    above = 1 - np.cumsum(ordered)[:-1] / n_above
    index = int(np.argmax(below + above))
    return float((radius[index] + radius[index + 1]) / 2)


class MerlinDomain(MapDomain):
    """Velocity maps, for a model of the published architecture.

    It gives latents and, where the model knows the latent plane, a class and a position
    angle, but no circularity; and averages over no symmetries.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Its card says what the network is shown.
    """

    described = ("grid", "stretch")
    # The published system tells none of these without a calibration of its own.
    optional = ("circularity", "position_angle", "rotating")

    def prepare(self, members):
        """Prepare maps of any shapes, as `PreparedImages`."""
        return prepare((one for maps in members for one in maps.values), self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit of each column of the result."""
        if n_samples:
            expected = "0: this model has no distributions"
            raise InputError("n_samples", n_samples, expected)
        angle = ((), u.deg)
        return {
            "circularity": ((), None),
            "circularity_err": ((), None),
            "position_angle": angle,
            "position_angle_err": angle,
            "latent": ((self.model.network.n_latent,), None),
            "rotating": ((), None),
        }

    def answer(self, outputs, prepared, members):
        """Give the columns, from what the network gave for the maps."""
        config = self.model.config
        latents = outputs["latent"].numpy().astype(float)
        pca = {"mean": config["pca_mean"], "components": config["pca_components"]}
        columns = {"latent": latents}
        if config["boundary"] is not None:
            rotating = classify(latents, config["boundary"], **pca)
            columns["rotating"] = rotating.astype(float)
        if config["angle_offset"] is not None:
            angle = latent_angle(latents, config["angle_offset"], **pca)
            places = [(maps, row) for maps in members for row in range(len(maps))]
            columns["position_angle"] = u.Quantity(
                [
                    sky_angle(turn, maps.wcs_of(row), image_center(maps.values[row]))
                    for turn, (maps, row) in zip(angle, places, strict=True)
                ]
            )
        return columns


def image_center(image):
    """Give the pixel (x, y) in the middle of an image, where angles are measured."""
    return (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2


class MerlinAutoencoder(nn.Module):
    """
    Convolutional autoencoder of scaled velocity maps (MERLIN).

    The encoder has four 3x3 convolutions, a max-pooling after every second one,
    and a linear layer to three latents. The decoder mirrors it, and unpools with
    the positions of the maxima that the encoder found. Members have the names of
    the published checkpoint.

    References
    ----------
    Dawson et al. 2020, MNRAS 491, 2506.
    """

    #: Pixels on a side of the maps that the network takes.
    pixels = 64
    #: Size of the latent space.
    n_latent = 3

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 16, 3, padding=1)
        self.lc1 = nn.Linear(16 * 16 * 16, self.n_latent)
        self.lc2 = nn.Linear(self.n_latent, 16 * 16 * 16)
        self.trans1 = nn.ConvTranspose2d(16, 16, 3, padding=1)
        self.trans2 = nn.ConvTranspose2d(16, 8, 3, padding=1)
        self.trans3 = nn.ConvTranspose2d(8, 8, 3, padding=1)
        self.trans4 = nn.ConvTranspose2d(8, 1, 3, padding=1)
        self.mp = nn.MaxPool2d(2, return_indices=True)
        self.up = nn.MaxUnpool2d(2)
        self.relu = nn.ReLU()

    def encode(self, maps):
        """
        Encode maps to latents.

        Parameters
        ----------
        maps : torch.Tensor
            Scaled maps, shape (n, 1, 64, 64), values from -1 to 1.

        Returns
        -------
        torch.Tensor
            Latents, shape (n, 3).
        """
        return self._encode(maps)[0]

    def forward(self, inputs, *, reconstruct=None):
        """
        Encode the maps and, where asked, decode them again.

        Parameters
        ----------
        inputs : dict of torch.Tensor
            ``image``: scaled maps, shape (n, 1, 64, 64).
        reconstruct : bool, optional
            Whether to run the decoder. By default only while training.

        Returns
        -------
        dict of torch.Tensor
            ``latent``, shape (n, 3), and when decoded ``reconstruction``, shape
            (n, 1, 64, 64).
        """
        latent, inner, outer = self._encode(inputs["image"])
        outputs = {"latent": latent}
        if self.training if reconstruct is None else reconstruct:
            outputs["reconstruction"] = self._decode(latent, inner, outer)
        return outputs

    def _encode(self, maps):
        x = self.relu(self.conv2(self.relu(self.conv1(maps))))
        x, outer = self.mp(x)
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        x, inner = self.mp(x)
        return self.lc1(x.flatten(1)), inner, outer

    def _decode(self, latent, inner, outer):
        x = self.lc2(latent).unflatten(1, (16, 16, 16))
        x = self.relu(self.up(x, inner))
        x = self.trans2(self.relu(self.trans1(x)))
        x = self.relu(self.up(x, outer))
        return self.trans4(self.relu(self.trans3(x)))


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
    network, _ = published_network(path, MerlinAutoencoder, _load, "autoencoder")
    return GalaxyModel(
        network,
        operation="circularity",
        architecture="merlin",
        options={},
        config={
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
        input_spec=INPUT,
        name="merlin",
    )


def _load(network, content):
    """Put the tensors of a checkpoint into the network."""
    network.load_state_dict(_parameters(_unpickle(content)))


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
    with changing_filters, warnings.catch_warnings():
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
