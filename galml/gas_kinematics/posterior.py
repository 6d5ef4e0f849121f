# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions that the network's outputs stand for."""

import math

import torch

from galml.core.distributions import (
    bin_centers,
    histogram_log_density,
    histogram_quantile,
)

__all__ = [
    "angle_components",
    "angle_log_density",
    "angle_quantile",
    "bin_centers",
    "histogram_log_density",
    "histogram_quantile",
]


def angle_components(outputs):
    """Describe the angle that is left as von Mises distributions of one mean.

    Returns
    -------
    mean : `torch.Tensor`
        Shape (n,), radians.
    concentration : `torch.Tensor`
        Shape (n, 3): narrow, broad, and zero for the uniform background.
    log_weight : `torch.Tensor`
        Shape (n, 3).
    """
    even = outputs["angle_even"]
    mean = torch.atan2(outputs["angle_odd"][:, 0], even[:, 0] + 3.0)
    broad = torch.exp(even[:, 1].clamp(-3, 8) + 1.5)
    narrow = broad + torch.exp(even[:, 2].clamp(-3, 8) + 3.0)
    concentration = torch.stack([narrow, broad, torch.zeros_like(broad)], 1)
    return mean, concentration, torch.log_softmax(even[:, 3:6], 1)


def angle_log_density(outputs, angle):
    """Log-density of an angle left over, in radians, shape (n,)."""
    mean, concentration, log_weight = angle_components(outputs)
    shape = torch.cos(angle - mean)[:, None] - 1
    normal = torch.log(2 * math.pi * torch.special.i0e(concentration))
    return torch.logsumexp(log_weight + concentration * shape - normal, 1)


def angle_quantile(concentration, log_weight, levels, steps=512):
    """Half-width of the symmetric interval that holds a share of the distribution.

    Parameters
    ----------
    concentration, log_weight : `torch.Tensor`
        Shape (n, 3), as `angle_components` returns them.
    levels : `torch.Tensor`
        Shape (n, k): shares between 0 and 1.
    steps : int
        Points of the numerical integration, dense near zero.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k), radians between 0 and pi.
    """
    edges = math.pi * torch.linspace(0, 1, steps + 1) ** 3
    middle = (edges[1:] + edges[:-1]) / 2
    shape = (middle.cos() - 1)[None, None] * concentration[..., None]
    normal = torch.log(2 * math.pi * torch.special.i0e(concentration)) - log_weight
    density = torch.exp(shape - normal[..., None]).sum(1)
    cumulative = torch.cumsum(2 * density * edges.diff(), 1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], 1)
    cumulative = cumulative / cumulative[:, -1:]
    place = torch.searchsorted(cumulative, levels.contiguous()).clamp(1, steps)
    low, high = cumulative.gather(1, place - 1), cumulative.gather(1, place)
    fraction = ((levels - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return edges[place - 1] + fraction * (edges[place] - edges[place - 1])
