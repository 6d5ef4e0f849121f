# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default flow: spline couplings that know the galaxy, fast in both directions."""

import torch
from torch import nn

from galml.stars.flow import Flow
from galml.stars.splines import Spline, n_parameters

__all__ = ["StarFlow"]

#: Splines act within this distance from zero.
BOUND = 5.0


class StarFlow(Flow):
    """
    Coupling flow whose dependence on the galaxy is computed once per galaxy.

    A small network turns the conditions into an embedding. It shifts and stretches
    the standardized stars, and enters each coupling as a bias. Each of the couplings
    mixes the axes by a learned matrix, and then bends half of them by splines that
    depend on the other half.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten
        See `~galml.stars.flow.Flow`.
    layers : int, optional
        Number of couplings.
    width : int, optional
        Width of the two hidden layers of each.
    bins : int, optional
        Number of bins of the splines.
    embedding : int, optional
        Size of the embedding of a galaxy.
    """

    def build(self, features, context, layers=5, width=64, bins=6, embedding=32):
        """Make embedding and couplings."""
        self.embed = nn.Sequential(
            # Without conditions there is a constant one.
            nn.Linear(max(context, 1), embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
            nn.SiLU(),
        )
        self.affine = _zeros(nn.Linear(embedding, 2 * features))
        self.couplings = nn.ModuleList(
            _Coupling(features, width, bins, embedding) for _ in range(layers)
        )

    def condition(self, context):
        """Shift and stretch of the galaxy, and its bias in each coupling."""
        if context is None:
            context = torch.ones_like(self.affine.bias[:1])[None]
        embedded = self.embed(context)
        shift, log_stretch = self.affine(embedded).T.chunk(2)
        biases = [layer.bias(embedded).T for layer in self.couplings]
        return shift, 3 * torch.tanh(log_stretch / 3), biases

    def transform(self, standard, condition):
        """Map standardized stars (n, d) to normal numbers and log|det J|, (n,)."""
        shift, log_stretch, biases = condition
        x = (standard.T - shift) * torch.exp(-log_stretch)
        log_det = -log_stretch.sum(0)
        for layer, bias in zip(self.couplings, biases, strict=True):
            x, part = layer(x, bias)
            log_det = log_det + part
        return x.T, log_det

    def invert(self, normal, condition):
        """Undo `transform`."""
        shift, log_stretch, biases = condition
        x = normal.T
        for layer, bias in zip(self.couplings[::-1], biases[::-1], strict=True):
            x = layer.inverse(x, bias)
        return (x * torch.exp(log_stretch) + shift).T


class _Coupling(nn.Module):
    """Mix the axes, then bend half of them depending on the others."""

    def __init__(self, features, width, bins, embedding):
        super().__init__()
        self.kept, self.bent = features // 2, features - features // 2
        self.mixing = nn.Parameter(nn.init.orthogonal_(torch.empty(features, features)))
        # The galaxy's part of the first layer, biases included.
        self.bias = nn.Linear(embedding, width)
        bound = max(self.kept, 1) ** -0.5
        self.first = nn.Parameter(torch.empty(width, self.kept).uniform_(-bound, bound))
        self.second = nn.Linear(width, width)
        self.last = _zeros(nn.Linear(width, self.bent * n_parameters(bins)))

    def forward(self, x, bias):
        """Map x, shape (features, n), and give log|det J|, (n,)."""
        kept, bent = (self.mixing @ x).split((self.kept, self.bent))
        bent, log_slope = self._spline(kept, bias).forward(bent)
        log_det = log_slope.sum(0) + torch.linalg.slogdet(self.mixing).logabsdet
        return torch.cat((kept, bent)), log_det

    def inverse(self, x, bias):
        """Undo `forward`, without the determinant."""
        kept, bent = x.split((self.kept, self.bent))
        bent = self._spline(kept, bias).inverse(bent)
        return torch.linalg.inv(self.mixing) @ torch.cat((kept, bent))

    def _spline(self, kept, bias):
        """Splines of the bent axes; everything has the stars along its last axis."""
        hidden = torch.addmm(bias, self.first, kept).relu()
        for layer in (self.second, self.last):
            last = layer is self.last
            hidden = torch.addmm(layer.bias[:, None], layer.weight, hidden)
            hidden = hidden if last else hidden.relu()
        return Spline(hidden.unflatten(0, (-1, self.bent)), BOUND)


def _zeros(layer):
    """Let a layer begin with zeros, so that the flow begins as a rotation."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
