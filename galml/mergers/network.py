# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network for mergers: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import MonteCarloDropout, RandomNetwork, trunk

__all__ = ["Branch", "MergerNet"]

#: Units of the random layers.
UNITS = 128
#: Channels of the convolutions at 32, 16, 8 and 4 pixels, for images of telescopes in
#: space and on the ground.
WIDTHS = ((24, 48, 96, 144), (20, 40, 72, 104))


class MergerNet(RandomNetwork):
    """Stage of a merger, time since it and contamination from a prepared image.

    Images of space telescopes and of those on the ground go through networks of their
    own, which differ in their widths alone.

    Parameters
    ----------
    channels, scalars : int
        Planes of the image, and numbers about it, of which the last one tells whether
        the telescope is on the ground.
    widths : sequence of sequence of int
        For each network, of which there are one for all images or two, channels of the
        convolutions at 32, 16, 8 and 4 pixels.
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
        widths=WIDTHS,
        stages=5,
        times=15,
        shares=40,
        dropout=0.3,
    ):
        super().__init__()
        options = (stages, times, shares, dropout)
        self.branches = nn.ModuleList(
            Branch(channels, scalars, one, *options) for one in widths
        )

    @property
    def dropouts(self):
        """Layers that forget, of which both networks have as many."""
        return self.branches[0].dropouts

    def features(self, inputs):
        """Map ``image`` (n, channels, 64, 64) and ``scalars`` to features (n, k).

        The last feature tells which network the others are of.
        """
        ground = inputs["scalars"][:, -1:]
        return self._by_branch(
            ground[:, 0],
            lambda branch, rows: torch.cat(
                [
                    branch.features({key: one[rows] for key, one in inputs.items()}),
                    ground[rows],
                ],
                1,
            ),
        )

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
        return self._by_branch(
            features[:, -1],
            lambda branch, rows: branch.probabilities(
                features[rows, :-1], None if noise is None else noise[rows]
            ),
        )

    def _by_branch(self, ground, evaluate):
        """Let each network evaluate its rows, and put these in order again."""
        which = (ground > 0.5).long().clamp(max=len(self.branches) - 1)
        used = [i for i in range(len(self.branches)) if bool((which == i).any())]
        rows = [(which == i).nonzero()[:, 0] for i in used]
        parts = [
            evaluate(self.branches[i], some) for i, some in zip(used, rows, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        place = torch.cat(rows).argsort()
        if isinstance(parts[0], dict):
            return {key: torch.cat([p[key] for p in parts])[place] for key in parts[0]}
        return torch.cat(parts)[place]


class Branch(RandomNetwork):
    """A network of some filters; arguments are those of one network of `MergerNet`."""

    def __init__(self, channels, scalars, widths, stages, times, shares, dropout):
        super().__init__()
        last = widths[-1]
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        self.trunk = nn.Sequential(
            *trunk(channels, widths),
        )
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()
        )
        self.first = nn.Linear(3 * last + 32, UNITS)
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
        # What is in the middle is the galaxy; what is beside it may be another one.
        middle = image[:, :, 1:-1, 1:-1].mean((2, 3))
        pooled = [image.mean((2, 3)), image.amax((2, 3)), middle]
        return self.first(torch.cat([*pooled, self.numbers(numbers)], 1))

    def probabilities(self, features, noise=None):
        """Map features to logits, see `MergerNet.probabilities`."""
        units = torch.relu(features)
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
