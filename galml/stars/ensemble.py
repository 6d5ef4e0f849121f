# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Several flows as one: the mean of their densities."""

import math

import torch
from torch import nn

from galml.core.exceptions import InputError, ModelError
from galml.core.model import GalaxyModel, find_network
from galml.stars.flow import Flow
from galml.stars.mixture import divide

__all__ = ["Ensemble", "combine"]


class Ensemble(Flow):
    """
    Mean of the densities of several flows; each star comes from one of them.

    What few stars leave open differs from flow to flow, and is averaged out.

    Parameters
    ----------
    features, context, kinds, latent
        See `~galml.stars.flow.Flow`.
    members : sequence of dict
        ``architecture`` and ``options`` of each.
    """

    def build(self, features, context, members=()):
        """Make the members."""
        self.members = nn.ModuleList(
            find_network("stars", m["architecture"])(**m["options"]) for m in members
        )

    def log_prob(self, values, context=None):
        """Natural logarithm of the density of stars; see the base class."""
        each = torch.stack([m.log_prob(values, context) for m in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def sample(self, noise, context=None):
        """Turn noise into stars, each by one member; see the base class."""
        weights = noise.new_ones(len(self.members))
        place, noise = divide(noise, weights / len(weights))
        stars = torch.empty_like(noise)
        for index, member in enumerate(self.members):
            rows = place == index
            alike = context is None or len(context) == 1
            own = context if alike else context[rows]
            stars[rows] = member.sample(noise[rows], own)
        return stars


def combine(models, *, name=None, card=None):
    """
    Make one model of several: the mean of their densities.

    Parameters
    ----------
    models : sequence of `~galml.core.model.GalaxyModel`
        Of `galml.stars.fit` with the same axes and conditions, and different seeds.
    name : str, optional
        Name of the model.
    card : dict, optional
        More to say about the model.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Of the architecture "ensemble".

    Raises
    ------
    galml.core.InputError
        Without models.
    galml.core.ModelError
        If the models differ in axes or conditions.
    """
    models = list(models)
    if not models:
        raise InputError("models", "none", "at least one")
    first = models[0]
    for model in models[1:]:
        if model.config["axes"] != first.config["axes"] or _conditions(
            model
        ) != _conditions(first):
            raise ModelError(
                f"{model.name}: other axes or conditions than {first.name}"
            )
    common = ("features", "context", "kinds", "latent")
    options = {key: first.options[key] for key in common}
    options["members"] = [
        {"architecture": m.architecture, "options": m.options} for m in models
    ]
    network = Ensemble(**options)
    for member, model in zip(network.members, models, strict=True):
        member.load_state_dict(model.network.state_dict())
    told = {**first.card, "members": len(models)}
    return GalaxyModel(
        network.eval(),
        operation="stars",
        architecture="ensemble",
        options=options,
        config=first.config,
        card=told | (card or {}),
        name=name,
    )


def _conditions(model):
    """Names of the conditions of a model, and its number of latents."""
    names = [c["name"] for c in model.config["conditions"]]
    return names, model.options.get("latent", 0)
