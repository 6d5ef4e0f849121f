# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published flows, made of the parts of zuko."""

from functools import partial

import torch
import zuko
from torch import nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.lazy import LazyComposedTransform, UnconditionalTransform
from zuko.transforms import MonotonicRQSTransform, RotationTransform

from galml.stars.flow import Flow

__all__ = ["MAF", "NICE", "NSF", "SOSPF", "GalacticFlow"]


class _ZukoFlow(Flow):
    """A flow of zuko behind the interface of `~galml.stars.flow.Flow`."""

    def __repr__(self):
        # zuko's layers draw random numbers to describe themselves.
        with torch.random.fork_rng(devices=()):
            return super().__repr__()

    def condition(self, context):
        """Give the transformation for these conditions."""
        return self.flow.transform(context)

    def transform(self, standard, condition):
        """Map standardized stars (n, d) to normal numbers and log|det J|, (n,)."""
        return condition.call_and_ladj(standard)

    def invert(self, normal, condition):
        """Undo `transform`."""
        return condition.inv(normal)


class MAF(_ZukoFlow):
    """
    Masked autoregressive flow (Papamakarios et al. 2017, arXiv:1705.07057).

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten
        See `~galml.stars.flow.Flow`.
    transforms : int, optional
        Number of layers.
    hidden : sequence of int, optional
        Widths of the hidden layers of each.
    **options
        Of the flow in zuko.
    """

    kind = zuko.flows.MAF

    def build(self, features, context, transforms=10, hidden=(128, 128), **options):
        """Make the layers."""
        self.flow = self.kind(
            features,
            context,
            transforms=transforms,
            hidden_features=tuple(hidden),
            **options,
        )


class NICE(MAF):
    """
    Affine coupling flow (Dinh et al. 2017, arXiv:1605.08803), NICE in zuko.

    Parameters as in `MAF`.
    """

    kind = zuko.flows.NICE


class SOSPF(MAF):
    """
    Sum-of-squares polynomial flow (Jaini et al. 2019, arXiv:1905.02325).

    Parameters as in `MAF`. Its inverse is found by bisection, to some 1e-4: sampling
    is slow.
    """

    kind = zuko.flows.SOSPF


class NSF(MAF):
    """
    Neural spline flow (Durkan et al. 2019, arXiv:1906.04032) with few passes.

    Parameters as in `MAF`, of which ``passes`` is the number of sequential steps that
    sampling takes in each layer: 2 for couplings, ``features`` for an autoregressive
    flow.
    """

    kind = zuko.flows.NSF

    def build(self, features, context, transforms=5, passes=2, **options):
        """Make the layers."""
        super().build(
            features, context, transforms=transforms, passes=passes, **options
        )


class GalacticFlow(_ZukoFlow):
    """
    Spline coupling flow of GalacticFlow (Wolf & Buck 2023, arXiv:2312.05960).

    Each layer mixes the axes by a learned rotation and then bends both halves, one
    after the other, by splines that depend on the other half and the conditions.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten
        See `~galml.stars.flow.Flow`.
    layers : int, optional
        Number of layers.
    bins : int, optional
        Number of bins of the splines.
    bound : float, optional
        The splines are the identity beyond this distance from zero.
    hidden : sequence of int, optional
        Widths of the hidden layers of each network.
    """

    def build(
        self,
        features,
        context,
        layers=14,
        bins=10,
        bound=3.0,
        hidden=(128, 128, 128, 128),
    ):
        """Make the layers."""
        half = torch.arange(features) < (features + 1) // 2
        coupling = partial(
            GeneralCouplingTransform,
            features,
            context,
            univariate=partial(MonotonicRQSTransform, bound=bound),
            shapes=[(bins,), (bins,), (bins - 1,)],
            hidden_features=tuple(hidden),
            activation=partial(nn.LeakyReLU, 0.2),
        )
        parts = []
        for _ in range(layers):
            turn = torch.randn(features, features)
            parts.append(UnconditionalTransform(RotationTransform, turn))
            # One axis alone has no halves.
            masks = (half, ~half) if features > 1 else (half,)
            # Copies: tensors that share memory cannot be saved.
            parts += [coupling(mask=mask.clone()) for mask in masks]
        self.flow = nn.ModuleDict({"transform": LazyComposedTransform(*parts)})

    def condition(self, context):
        """Give the transformation for these conditions."""
        return self.flow["transform"](context)
