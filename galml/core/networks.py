# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parts that networks of several domains are built from, and the views they see."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import nn

__all__ = [
    "MonteCarloDropout",
    "RandomNetwork",
    "Residual",
    "View",
    "dihedral_views",
    "down",
    "overlap",
    "standardize",
    "trunk",
]


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x):
        """Map (n, width, y, x) to the same shape."""
        y = torch.relu(self.norm1(self.first(x)))
        return torch.relu(x + self.norm2(self.second(y)))


class RandomNetwork(nn.Module, ABC):
    """A network whose last layers are random when it answers, too.

    Its answers scatter from pass to pass, which tells how little it knows (Monte Carlo
    dropout: Gal & Ghahramani 2016, arXiv:1506.02142). Subclasses have `features` and
    `probabilities`; the layers between them that forget are `MonteCarloDropout`, as
    the list ``dropouts``.
    """

    @property
    def n_noise(self):
        """Uniform numbers of one pass: one for each unit that may be forgotten."""
        return sum(layer.width for layer in self.dropouts)

    @abstractmethod
    def features(self, inputs):
        """Map inputs, a dict of tensors, to features (n, k) that are not random."""

    @abstractmethod
    def probabilities(self, features, noise=None):
        """Map features to probabilities.

        Parameters
        ----------
        features : `torch.Tensor`
            Shape (n, k).
        noise : `torch.Tensor`, optional
            Shape (n, passes, n_noise), uniform between 0 and 1. Without it nothing is
            forgotten in evaluation mode, and something at random in training.

        Returns
        -------
        dict of str to `torch.Tensor`
            Shapes (n, ...), or (n, passes, ...) with noise.
        """

    def forward(self, inputs):
        """Map inputs to probabilities, in one pass."""
        return self.probabilities(self.features(inputs))

    def split_noise(self, noise):
        """Give each of the dropouts its part of the noise, or None."""
        if noise is None:
            return [None] * len(self.dropouts)
        return noise.split([layer.width for layer in self.dropouts], -1)


class MonteCarloDropout(nn.Module):
    """Forget units, by random numbers that come from outside.

    Parameters
    ----------
    width : int
        Number of units.
    share : float
        Share of the units that is forgotten, at least 0 and below 1.
    """

    def __init__(self, width, share=0.5):
        super().__init__()
        self.width, self.share = width, share

    def forward(self, units, noise=None):
        """Map units (n, ..., width), and noise of that shape, to units."""
        if noise is None:
            return nn.functional.dropout(units, self.share, self.training)
        return units * (noise >= self.share) / (1 - self.share)


def down(inputs, outputs):
    """Halve the image and change its number of channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def trunk(channels, widths):
    """Make the layers that turn an image into features.

    Parameters
    ----------
    channels : int
        Planes of the image.
    widths : sequence of int
        Channels at half of the image's side, at a quarter, and so on.

    Returns
    -------
    list of `torch.nn.Module`
        From shape (n, channels, y, x) to (n, widths[-1], y / 2**k, x / 2**k), with k
        widths.
    """
    layers = [
        nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        Residual(widths[0]),
    ]
    for before, width in pairwise(widths):
        layers += [down(before, width), Residual(width)]
    return layers


def standardize(network, scalars):
    """Give a network the mean and spread of the numbers that it will see."""
    network.mean.copy_(scalars.mean(0))
    network.spread.copy_(scalars.std(0).clamp_min(0.05))


def overlap(size, start, step, cells):
    """Length of each pixel inside each cell, along one axis.

    Parameters
    ----------
    size : int
        Number of pixels; pixel i reaches from i - 0.5 to i + 0.5.
    start, step : `torch.Tensor`
        Shape (n,): where the first cell begins, and how long cells are, in pixels.
    cells : int
        Number of cells.

    Returns
    -------
    `torch.Tensor`
        Shape (n, cells, size).
    """
    low = start[:, None] + step[:, None] * torch.arange(cells)
    pixel = torch.arange(size) - 0.5
    upper = torch.minimum((low + step[:, None])[..., None], pixel + 1)
    return (upper - torch.maximum(low[..., None], pixel)).clamp_min(0)


def _unchanged(tensors):
    return tensors


@dataclass(frozen=True)
class View:
    """
    A transformation of the inputs of a network, and its inverse on the outputs.

    Parameters
    ----------
    apply : callable, optional
        Takes the inputs, a dict of tensors, and returns the transformed ones. It must
        not change what it is given.
    restore : callable, optional
        Takes the outputs for transformed inputs, a dict of tensors, and returns those
        for the inputs as they were.
    """

    apply: Callable = _unchanged
    restore: Callable = _unchanged


def dihedral_views(*, images=(), vectors=(), odd=()):
    """
    Make the eight views of a square: quarter turns, and their mirror images.

    Parameters
    ----------
    images : sequence of str
        Inputs to transform, of shape (..., y, x), with y upward along axis -2 and x
        to the right along axis -1. Other inputs are passed on.
    vectors : sequence of str
        Outputs of shape (..., 2): cosine and sine, or any multiple of them, of an
        angle that counts counter-clockwise from +y and turns with the image.
    odd : sequence of str
        Outputs that change sign in a mirror, such as a sense of rotation. Other
        outputs are the same in all views.

    Returns
    -------
    tuple of View
        The first one is the identity.
    """
    options = [(turns, mirror) for mirror in (False, True) for turns in range(4)]
    return tuple(
        View(
            partial(_transform, images=tuple(images), turns=turns, mirror=mirror),
            partial(
                _restore,
                vectors=tuple(vectors),
                odd=tuple(odd),
                turns=turns,
                mirror=mirror,
            ),
        )
        for turns, mirror in options
    )


def _transform(inputs, *, images, turns, mirror):
    """Turn counter-clockwise by quarters, then swap left and right."""
    inputs = dict(inputs)
    for key in images:
        # From x to y is counter-clockwise, because y points upward.
        image = torch.rot90(inputs[key], turns, (-1, -2))
        inputs[key] = image.flip(-1) if mirror else image
    return inputs


def _restore(outputs, *, vectors, odd, turns, mirror):
    """Mirror angles back, then turn them clockwise by quarters."""
    outputs = dict(outputs)
    for key in vectors:
        cosine, sine = outputs[key].unbind(-1)
        sine = -sine if mirror else sine
        for _ in range(turns):
            cosine, sine = sine, -cosine
        outputs[key] = torch.stack([cosine, sine], dim=-1)
    if mirror:
        for key in odd:
            outputs[key] = -outputs[key]
    return outputs
