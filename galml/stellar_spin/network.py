# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network for stellar spin: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import Residual, down

__all__ = ["SpinNet"]


class SpinNet(nn.Module):
    """Distributions of spin and ellipticity from a prepared image.

    The image is turned beforehand so that the major axis lies along x; averaged over
    the four mirror images that leave it there, the answers are invariant.

    Parameters
    ----------
    channels, scalars : int
        Planes of the image, and numbers about it.
    widths : sequence of int
        Channels of the convolutions at 24, 12, 6 and 3 pixels.
    bins : int
        Bins of the distribution of the spin over 0-1.
    dropout : float
        Share of the joint features that training forgets.
    """

    #: Uniform numbers of one random pass.
    n_noise = 1

    def __init__(
        self, channels=6, scalars=23, widths=(24, 48, 80, 112), bins=40, dropout=0.1
    ):
        super().__init__()
        a, b, c, d = widths
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
            nn.Flatten(),
            nn.Linear(9 * d, 160),
            nn.ReLU(),
        )
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.joint = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(160 + 64, 128), nn.ReLU()
        )
        self.spin = nn.Linear(128, bins)
        self.ellipticity = nn.Linear(128, 2)

    def forward(self, inputs):
        """Evaluate the network.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` (n, channels, 48, 48) and ``scalars`` (n, scalars).

        Returns
        -------
        dict of str to `torch.Tensor`
            ``spin`` (n, bins) as logits, and ``ellipticity`` (n, 2), see
            `~galml.stellar_spin.posterior.ellipticity_of`.
        """
        numbers = (inputs["scalars"] - self.mean) / self.spread
        seen = self.trunk(inputs["image"])
        joint = self.joint(torch.cat([seen, self.numbers(numbers)], 1))
        return {"spin": self.spin(joint), "ellipticity": self.ellipticity(joint)}

    def sample(self, outputs, noise):
        """Hand on the noise: quantiles of calibrated distributions make the samples."""
        return {"noise": noise[..., 0]}
