# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network for mergers: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import MonteCarloDropout, RandomNetwork, Residual, down

__all__ = ["MergerNet"]

#: Units of the random layers.
UNITS = 128


class MergerNet(RandomNetwork):
    """Stage of a merger, time since it and contamination from a prepared image.

    Parameters
    ----------
    channels, scalars : int
        Planes of the image, and numbers about it.
    widths : sequence of int
        Channels of the convolutions at 32, 16, 8 and 4 pixels.
    stages : int
        Number of stages.
    times, shares : int
        Bins of the time since coalescence, and of the contamination.
    dropout : float
        Share of the units of the last layers that a pass forgets.
    """

    def __init__(
        self,
        channels=5,
        scalars=12,
        widths=(20, 40, 72, 104),
        stages=5,
        times=15,
        shares=40,
        dropout=0.3,
    ):
        super().__init__()
        a, b, c, d = widths
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, a, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            Residual(a),
            down(a, b),
            Residual(b),
            down(b, c),
            Residual(c),
            down(c, d),
            Residual(d),
        )
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()
        )
        self.first = nn.Linear(2 * d + 32, UNITS)
        self.second = nn.Linear(UNITS, UNITS)
        self.dropouts = nn.ModuleList(
            MonteCarloDropout(UNITS, dropout) for _ in range(2)
        )
        self.stage = nn.Linear(UNITS, stages)
        self.time = nn.Linear(UNITS, times)
        self.contamination = nn.Linear(UNITS, shares)

    def features(self, inputs):
        """Map ``image`` (n, channels, 64, 64) and ``scalars`` to features (n, k)."""
        numbers = (inputs["scalars"] - self.mean) / self.spread
        image = self.trunk(inputs["image"])
        pooled = [image.mean((2, 3)), image.amax((2, 3)), self.numbers(numbers)]
        return torch.cat(pooled, 1)

    def probabilities(self, features, noise=None):
        """Map features to logits.

        Parameters
        ----------
        features : `torch.Tensor`
            Shape (n, k).
        noise : `torch.Tensor`, optional
            Shape (n, passes, n_noise), uniform between 0 and 1.

        Returns
        -------
        dict of str to `torch.Tensor`
            ``stage``, ``time`` and ``contamination``, of shape (n, stages), (n, times)
            and (n, shares), or (n, passes, ...) with noise.
        """
        units = torch.relu(self.first(features))
        if noise is not None:
            units = units[:, None]
        first, second = self.split_noise(noise)
        units = self.dropouts[0](units, first)
        units = self.dropouts[1](torch.relu(self.second(units)), second)
        return {
            "stage": self.stage(units),
            "time": self.time(units),
            "contamination": self.contamination(units),
        }
