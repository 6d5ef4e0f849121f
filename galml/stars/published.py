# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published flows, made of the parts of zuko, and their published weights."""

import io
from functools import partial

import torch
import zuko
from torch import nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.lazy import LazyComposedTransform, UnconditionalTransform
from zuko.transforms import MonotonicRQSTransform, RotationTransform

from galml.core.model import GalaxyModel, InputSpec, published_network
from galml.physics import CONDITIONS, STAR_AXES
from galml.stars.network import Flow

__all__ = [
    "MAF",
    "NICE",
    "NSF",
    "SOSPF",
    "GalacticFlow",
    "import_maf",
    "import_nice",
]

#: Latents of the image of a galaxy that the published flows take.
LATENTS = 16
#: Where zuko keeps mean and spread of the normal numbers: then, and now.
RENAMED = {"base._0": "base.loc", "base._1": "base.scale"}
#: Standardized conditions beyond this are beyond any of 80 galaxies.
CONDITION_LIMIT = 3.0


class _ZukoFlow(Flow):
    """A flow of zuko behind the interface of `~galml.stars.network.Flow`."""

    def __repr__(self):
        # zuko's layers draw random numbers to describe themselves.
        with torch.random.fork_rng(devices=()):
            return super().__repr__()

    def condition(self, context):
        """Make the transformation for these conditions."""
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
    features, context, kinds, latent, encoder, cylinder, whiten, limits
        See `~galml.stars.network.Flow`.
    transforms : int, optional
        Number of layers.
    hidden : sequence of int, optional
        Widths of the hidden layers of each.
    """

    def build(self, features, context, transforms=10, hidden=(128, 128)):
        """Make the layers."""
        self.flow = zuko.flows.MAF(
            features, context, transforms=transforms, hidden_features=tuple(hidden)
        )


class NICE(_ZukoFlow):
    """
    Affine coupling flow (Dinh et al. 2017, arXiv:1605.08803), NICE in zuko.

    Parameters as in `MAF`.
    """

    def build(self, features, context, transforms=10, hidden=(128, 128)):
        """Make the layers."""
        self.flow = zuko.flows.NICE(
            features, context, transforms=transforms, hidden_features=tuple(hidden)
        )


class SOSPF(_ZukoFlow):
    """
    Sum-of-squares polynomial flow (Jaini et al. 2019, arXiv:1905.02325).

    Its inverse is found by bisection, to some 1e-4: sampling is slow.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten, limits, transforms,
    hidden
        See `MAF`.
    degree, polynomials : int, optional
        Degree of the polynomials, and number of those whose squares are added.
    """

    def build(
        self,
        features,
        context,
        transforms=10,
        hidden=(128, 128),
        degree=4,
        polynomials=3,
    ):
        """Make the layers."""
        self.flow = zuko.flows.SOSPF(
            features,
            context,
            degree=degree,
            polynomials=polynomials,
            transforms=transforms,
            hidden_features=tuple(hidden),
        )


class NSF(_ZukoFlow):
    """
    Neural spline flow (Durkan et al. 2019, arXiv:1906.04032) with few passes.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten, limits, transforms,
    hidden
        See `MAF`.
    bins : int, optional
        Number of bins of the splines.
    passes : int, optional
        Number of sequential steps that sampling takes in each layer: 2 for couplings,
        ``features`` for an autoregressive flow.
    """

    def build(
        self, features, context, transforms=5, hidden=(128, 128), bins=8, passes=2
    ):
        """Make the layers."""
        self.flow = zuko.flows.NSF(
            features,
            context,
            bins=bins,
            transforms=transforms,
            hidden_features=tuple(hidden),
            passes=passes,
        )


class GalacticFlow(_ZukoFlow):
    """
    Spline coupling flow of GalacticFlow (Wolf & Buck 2023, arXiv:2312.06017).

    Each layer mixes the axes by a learned rotation and then bends both halves, one
    after the other, by splines that depend on the other half and the conditions.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten, limits
        See `~galml.stars.network.Flow`.
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
        """Make the transformation for these conditions."""
        return self.flow["transform"](context)


def import_maf(path):
    """
    Read the published masked autoregressive flow.

    The scaling of its stars and conditions was never published: stars and densities
    are in standardized units.

    Parameters
    ----------
    path : str or path-like
        The published file ``maf_checkpoint.pth``.

    Returns
    -------
    galml.core.model.GalaxyModel
        Model of the operation ``stars``, architecture ``maf``.

    Raises
    ------
    galml.core.WeightsError
        If the file cannot be read as tensors alone, or holds another network.
    OSError
        If there is no file to open.
    """
    return _import(path, MAF)


def import_nice(path):
    """
    Read the published affine coupling flow (NICE).

    Parameters
    ----------
    path : str or path-like
        The published file ``nice_checkpoint.pth``.

    Returns
    -------
    galml.core.model.GalaxyModel
        Model of the operation ``stars``, architecture ``nice``; see `import_maf`.

    Raises
    ------
    galml.core.WeightsError, OSError
        As in `import_maf`.
    """
    return _import(path, NICE)


def _load(network, content):
    """Put the tensors of a checkpoint into a flow; give what it tells of training."""
    checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    tensors = checkpoint["model_state_dict"]
    network.flow.load_state_dict({RENAMED.get(k, k): v for k, v in tensors.items()})
    epochs, loss = checkpoint["epoch"] + 1, checkpoint["train_loss"]
    return {"epochs": epochs, "training_loss": loss}


def _import(path, kind):
    """Read a checkpoint into a flow of this class."""
    architecture = kind.__name__.lower()
    options = {
        "features": len(STAR_AXES),
        "context": len(CONDITIONS),
        "latent": LATENTS,
        "flag": False,
    }
    network, trained = published_network(
        path, lambda: kind(**options), _load, f"{architecture} flow"
    )
    return GalaxyModel(
        network,
        operation="stars",
        architecture=architecture,
        options=options,
        config={
            "standardized": True,
            "axes": [{"name": n, "unit": "", "kind": "linear"} for n in STAR_AXES],
            "conditions": [
                {"name": n, "lo": -CONDITION_LIMIT, "hi": CONDITION_LIMIT}
                for n in CONDITIONS
            ],
        },
        card={
            "title": f"GalacticForge, the published {architecture.upper()} flow",
            "paper": "GalacticForge (2024), after Wolf & Buck 2023, arXiv:2312.06017",
            "date": "2024",
            "training": "stars of about 80 NIHAO zoom simulations",
            "figures": trained,
            "limits": (
                "the scaling was never published: stars, conditions and densities are "
                "in standardized units"
            ),
        },
        input_spec=InputSpec(scalars=CONDITIONS),
        name=f"galacticforge-{architecture}",
    )
