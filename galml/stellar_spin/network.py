# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network for stellar spin: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import Residual, down

__all__ = ["SpinNet"]

#: Joint features of a member, and directions in which those of all are compared.
FEATURES, DIRECTIONS = 96, 64


class SpinNet(nn.Module):
    """Distributions of spin and ellipticity from a prepared image.

    Behind its first layers is an ensemble of small networks, which differ by their
    initial weights: where training has shown nothing alike, they disagree
    (Lakshminarayanan et al. 2017, arXiv:1612.01474). How far their features are from
    those of the training is the Mahalanobis distance (Lee et al. 2018,
    arXiv:1807.03888).

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
    types : int
        Kinds of galaxies, of each of which there is a distribution.
    members : int
        Networks of the ensemble.
    dropout : float
        Share of the joint features that training forgets.
    """

    #: Uniform numbers of one random pass.
    n_noise = 1

    def __init__(
        self,
        channels=6,
        scalars=23,
        widths=(16, 32, 56, 80),
        bins=40,
        types=1,
        members=3,
        dropout=0.1,
    ):
        super().__init__()
        self.shape = types, bins
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        first, *others = widths
        self.stem = nn.Sequential(
            nn.Conv2d(channels, first, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            Residual(first),
        )
        self.members = nn.ModuleList(
            _Member(first, others, scalars, types * bins, dropout)
            for _ in range(members)
        )
        # Where the features of the training are, and how they scatter.
        count = members * FEATURES
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("axes", torch.zeros(count, DIRECTIONS))

    def forward(self, inputs):
        """Evaluate the network.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` (n, channels, 48, 48) and ``scalars`` (n, scalars).

        Returns
        -------
        dict of str to `torch.Tensor`
            ``spin`` (n, members, types, bins) as logits of the joint distribution of
            type and spin, ``ellipticity`` (n, members, 2), see
            `~galml.stellar_spin.posterior.ellipticity_of`, ``features``
            (n, features) of all members, and their ``distance`` (n,) from those of the
            training, 0 where `learn_distance` was not called.
        """
        numbers = (inputs["scalars"] - self.mean) / self.spread
        image = self.stem(inputs["image"])
        parts = [member(image, numbers) for member in self.members]
        columns = zip(*parts, strict=True)
        spin, ellipticity, features = (torch.stack(part, 1) for part in columns)
        features = features.flatten(1).float()
        place = (features - self.center) @ self.axes
        return {
            "spin": spin.unflatten(-1, self.shape),
            "ellipticity": ellipticity,
            "features": features,
            "distance": torch.linalg.vector_norm(place, dim=1),
        }

    def learn_distance(self, features):
        """Learn how features of the training scatter, shape (n, features)."""
        self.center.copy_(features.mean(0))
        _, spread, axes = torch.linalg.svd(features - self.center, full_matrices=False)
        known = spread[:DIRECTIONS] > 1e-3 * spread[0]
        scale = (len(features) ** 0.5 / spread[:DIRECTIONS])[known]
        self.axes.zero_()[:, : len(scale)] = axes[:DIRECTIONS][known].T * scale

    def sample(self, outputs, noise):
        """Hand on the noise: quantiles of calibrated distributions make the samples."""
        return {"noise": noise[..., 0]}


class _Member(nn.Module):
    """One network of the ensemble."""

    def __init__(self, channels, widths, scalars, logits, dropout):
        super().__init__()
        b, c, d = widths
        self.trunk = nn.Sequential(
            down(channels, b),
            Residual(b),
            down(b, c),
            Residual(c),
            down(c, d),
            nn.Flatten(),
            nn.Linear(9 * d, FEATURES),
            nn.ReLU(),
        )
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()
        )
        self.joint = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(FEATURES + 48, FEATURES), nn.ReLU()
        )
        self.spin = nn.Linear(FEATURES, logits)
        self.ellipticity = nn.Linear(FEATURES, 2)

    def forward(self, image, numbers):
        """Give logits, ellipticity and joint features."""
        seen = torch.cat([self.trunk(image), self.numbers(numbers)], 1)
        joint = self.joint(seen)
        return self.spin(joint), self.ellipticity(joint), joint
