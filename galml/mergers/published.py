# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published network of Ferreira et al. (2022): post-mergers in deep fields."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from galml.core.model import InputSpec
from galml.core.networks import MonteCarloDropout, RandomNetwork
from galml.imaging.stamps import (
    Grid,
    as_tensor,
    galaxy_centers,
    measure_noise,
    regrid,
    sky_level,
)
from galml.imaging.stretch import asinh_stretch

__all__ = [
    "INPUT",
    "Ferreira2022",
    "FieldImages",
    "augment_published",
    "prepare",
    "published_loss",
]

#: What a new network is shown. Radii are in halves of the field's side.
INPUT = InputSpec(
    grid=(128, 128),
    channels=("image",),
    half_width=1.0,
    width_unit="field",
    stretch={
        # Brightness at which linear turns into logarithmic: in errors of a cell, and
        # in units of the brightest cell, where images have no noise.
        "softening": 2.0,
        "floor": 1e-3,
    },
    parameters={
        "sky_radius": 0.9,
        "sky_share": 0.8,
        "noise_lag": 12,
        "noise_clip": 2.5,
        "noise_rounds": 6,
        "noise_clipped_variance": 0.9113,
    },
)
#: Units of the random layers, and the share of them that a pass forgets.
UNITS, SHARE = 128, 0.5
#: Weight of the squares of weights and biases of the convolutions.
PENALTY = 0.1
#: Largest angle, in turns, by which images are turned in training.
TURN = 0.1
#: Images that are prepared at a time.
CHUNK = 64


class Ferreira2022(RandomNetwork):
    """The network of Ferreira et al. (2022): whether a galaxy has merged.

    It has 1 864 290 parameters, and a pass takes 2.4 billion multiplications, all but
    33 024 of them in the convolutions.
    """

    def __init__(self):
        super().__init__()
        layers, inputs = [], 1
        for width, size, pool in ((32, 11, True), (64, 9, True), (128, 7, False)):
            for _ in range(2):
                layers += [nn.Conv2d(inputs, width, size), nn.ReLU()]
                layers += [nn.BatchNorm2d(width)]
                inputs = width
            layers += [nn.MaxPool2d(2)] if pool else []
        self.layers = nn.Sequential(*layers)
        self.dense = nn.ModuleList([nn.Linear(inputs, UNITS), nn.Linear(UNITS, UNITS)])
        self.dropouts = nn.ModuleList(MonteCarloDropout(UNITS, SHARE) for _ in range(2))
        self.last = nn.Linear(UNITS, 2)

    def features(self, inputs):
        """Map ``image``, shape (n, 1, 128, 128), to features (n, 128)."""
        return self.layers(inputs["image"]).mean((2, 3))

    def probabilities(self, features, noise=None):
        """Map features to logits.

        Parameters
        ----------
        features : `torch.Tensor`
            Shape (n, 128).
        noise : `torch.Tensor`, optional
            Shape (n, passes, 256), uniform between 0 and 1.

        Returns
        -------
        dict of str to `torch.Tensor`
            ``logits`` of non-mergers and post-mergers, of which the published outputs
            are the sigmoids: shape (n, 2), or (n, passes, 2) with noise.
        """
        units = features if noise is None else features[:, None]
        parts = self.split_noise(noise)
        for dense, dropout, part in zip(self.dense, self.dropouts, parts, strict=True):
            units = torch.relu(dropout(dense(units), part))
        return {"logits": self.last(units)}


@dataclass
class FieldImages:
    """What the network takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, 1, 128, 128), float32, of which the brightest cell is 1.
    """

    image: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return vars(self)


def prepare(images, band, half, spec=INPUT):
    """Cut a field to 128 pixels, and stretch it.

    How brightness was scaled has not been published. Here the sky is subtracted,
    brightness goes through `~galml.imaging.stretch.asinh_stretch` that is linear up to
    twice the noise, and is divided by that of the brightest cell.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape.
    band : int
        Place of the band that is seen.
    half : `torch.Tensor`
        Shape (n,): half of the side of the field, in pixels of the images.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    `FieldImages`
        Zero where the images have ended.
    """
    parts = [
        _prepare(images[start : start + CHUNK], band, part, spec)
        for start, part in zip(
            range(0, len(images), CHUNK), half.split(CHUNK), strict=True
        )
    ]
    return FieldImages(torch.cat(parts))


def _prepare(images, band, half, spec):
    """Cut and stretch some images, shape (n, 1, 128, 128)."""
    p, s, grid = spec.parameters, spec.stretch, Grid(spec.grid[0], 1.0)
    data = as_tensor(images.values[:, band : band + 1]).double()
    # Single precision then holds the galaxy, however bright it and the sky are.
    data = data - data.nanmean((2, 3), keepdim=True)
    top = data.abs().nan_to_num(0.0).amax((2, 3), keepdim=True)
    data = data / torch.where(top > 0, top, 1.0)
    stamps = regrid(data, galaxy_centers(images), half, grid.size)
    far = {"far": p["sky_radius"], "share": p["sky_share"]}
    sky = sky_level(stamps, grid, **far)[..., None, None]
    stamps.mean = torch.where(stamps.cover > 0, stamps.mean - sky, 0.0)
    error = measure_noise(
        stamps,
        grid,
        **far,
        lag=int(p["noise_lag"]),
        clip=p["noise_clip"],
        rounds=int(p["noise_rounds"]),
        clipped_variance=p["noise_clipped_variance"],
    )
    error = (error * stamps.reduction[:, None])[..., None, None]
    top = stamps.mean.amax((2, 3), keepdim=True).clamp_min(1e-12)
    softening = torch.maximum(s["softening"] * error, s["floor"] * top)
    return asinh_stretch(stamps.mean, softening) / asinh_stretch(top, softening)


def published_loss(network, batch, penalty=PENALTY):
    """Give the loss of the published training.

    Parameters
    ----------
    network : `Ferreira2022`
        The network.
    batch : dict of str to `torch.Tensor`
        What it takes, and ``merger``: 1 for post-mergers and 0 for non-mergers.
    penalty : float
        Weight of the sum of the squares of weights and biases of the convolutions.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss``, and its part ``cross_entropy``: the binary one, mean of both outputs.
    """
    logits, merger = network(batch)["logits"], batch["merger"]
    truth = torch.stack([1 - merger, merger], -1).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth)
    convolutions = [one for one in network.layers if isinstance(one, nn.Conv2d)]
    squares = [w.square().sum() for one in convolutions for w in one.parameters()]
    return {"loss": entropy + penalty * sum(squares), "cross_entropy": entropy}


def augment_published(batch, generator):
    """Turn images by up to a tenth of a turn, as the published training did.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image``; the rest stays as it is.
    generator : `torch.Generator`
        On the device of the batch.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch; what comes in at the corners is the image, mirrored.
    """
    image = batch["image"]
    draw = torch.rand(len(image), generator=generator, device=image.device)
    angle = 2 * math.pi * TURN * (2 * draw - 1)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [
        torch.stack([cosine, -sine, zero], 1),
        torch.stack([sine, cosine, zero], 1),
    ]
    places = F.affine_grid(torch.stack(rows, 1), image.shape, align_corners=False)
    turned = F.grid_sample(
        image, places, padding_mode="reflection", align_corners=False
    )
    return batch | {"image": turned}
