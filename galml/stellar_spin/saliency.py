# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which parts of an image the predicted spin depends on."""

import torch

from galml.core.distributions import bin_centers
from galml.core.networks import View
from galml.stellar_spin.operation import system_of

__all__ = ["saliency"]


def saliency(image, model):
    """Measure how much each cell of an image weighs in the spin.

    Parameters
    ----------
    image : `~galml.stellar_spin.images.GalaxyImage`
        The galaxy.
    model : `~galml.core.model.GalaxyModel`
        Whose network, on the CPU.

    Returns
    -------
    seen, strength : `~numpy.ndarray`
        What the network sees, the first channel or the mean of the colors, and the
        sum over the channels of the absolute derivative of the spin times the
        channel, as a mean over the views.
    """
    system = system_of(model)
    inputs = system.inputs(system.prepare_images([image]))
    shown = inputs["image"].clone().requires_grad_()
    total = 0.0
    for view in system.VIEWS or (View(),):
        logits = model.network(view.apply(inputs | {"image": shown}))["spin"]
        if logits.ndim == 2:
            logits = torch.softmax(logits, 1) @ bin_centers(logits, 1.0)
        total = total + logits.sum() / max(len(system.VIEWS), 1)
    (slope,) = torch.autograd.grad(total, shown)
    strength = (slope * shown).abs().sum(1)[0].detach()
    seen = shown[0].detach()
    seen = seen.mean(0) if len(seen) == 3 else seen[0]
    return seen.numpy(), strength.numpy()
