# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import Residual, down

__all__ = ["KinematicNet"]


class KinematicNet(nn.Module):
    """Distributions of circularity, position angle and inclination from a turned map.

    The map is turned beforehand so that the classical estimate of its position angle
    points up; the network gives the distribution of the residual angle. Mirrored maps
    have the same answers with that angle reversed, so ``angle_odd`` changes sign.

    Parameters
    ----------
    channels, scalars : int
        Planes of the image, and numbers about the map.
    widths : sequence of int
        Channels of the convolutions at 32, 16, 8 and 4 pixels.
    latent : int
        Size of the latent space.
    kappa_bins, inclination_bins : int
        Bins of the distributions over the arcsine scale of circularities and over 0-90
        degrees.
    """

    #: Uniform numbers of one random pass: circularity, and size and sign of the turn.
    n_noise = 3

    def __init__(
        self,
        channels=5,
        scalars=23,
        widths=(16, 32, 64, 96),
        latent=16,
        kappa_bins=48,
        inclination_bins=18,
    ):
        super().__init__()
        a, b, c, d = widths
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, a, 3, padding=1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            down(a, b),
            Residual(b),
            down(b, c),
            Residual(c),
            down(c, d),
            nn.Flatten(),
            nn.Linear(16 * d, 192),
            nn.ReLU(),
        )
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.joint = nn.Sequential(nn.Linear(192 + 64, 160), nn.ReLU())
        self.latent = nn.Linear(160, latent)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(latent, 64), nn.ReLU())
        self.kappa = nn.Linear(64, kappa_bins)
        self.inclination = nn.Linear(64, inclination_bins)
        self.angle_even = nn.Linear(160, 6)
        self.angle_odd = nn.Linear(160, 1)

    def forward(self, inputs):
        """Evaluate the network.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` (n, channels, 32, 32) and ``scalars`` (n, scalars).

        Returns
        -------
        dict of str to `torch.Tensor`
            ``latent`` (n, latent), ``kappa`` (n, kappa_bins) and ``inclination``
            (n, inclination_bins) as logits,
            ``angle_even`` (n, 6), ``angle_odd`` (n, 1).
        """
        numbers = (inputs["scalars"] - self.mean) / self.spread
        seen = self.trunk(inputs["image"])
        joint = self.joint(torch.cat([seen, self.numbers(numbers)], 1))
        latent = self.latent(joint)
        head = self.head(latent)
        return {
            "latent": latent,
            "kappa": self.kappa(head),
            "inclination": self.inclination(head),
            "angle_even": self.angle_even(joint),
            "angle_odd": self.angle_odd(joint),
        }

    def sample(self, outputs, noise):
        """Hand on the noise: quantiles of calibrated distributions make the samples."""
        return {"noise": noise}
