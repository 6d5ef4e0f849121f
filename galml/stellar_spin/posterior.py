# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions that the network's outputs stand for."""

import torch

from galml.core.distributions import (
    LEVELS,
    bin_centers,
    histogram_quantile,
    interpolate,
)

__all__ = ["FAST_ROTATOR", "NEUTRAL", "ellipticity_of", "fast_rotators", "posterior"]

#: Fast rotators have a spin above this, times the root of their ellipticity
#: (Emsellem et al. 2011, MNRAS 414, 888).
FAST_ROTATOR = 0.31
NEUTRAL = {"spin": [], "ellipticity": []}
#: Points and weights of Gauss-Hermite quadrature over a normal distribution.
NODES = (-1.7320508, 0.0, 1.7320508)
WEIGHTS = (1 / 6, 2 / 3, 1 / 6)


def ellipticity_of(outputs):
    """Mean and spread of the ellipticity, shape (n,) each."""
    mean, width = outputs["ellipticity"].unbind(1)
    return torch.sigmoid(mean), 0.005 + 0.3 * torch.sigmoid(width)


def posterior(outputs, calibration, widen=None):
    """Turn the network's outputs into calibrated distributions.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        See `~galml.stellar_spin.network.SpinNet`.
    calibration : dict
        For "spin" and "ellipticity": the factors by which to widen distributions,
        against their own width.
    widen : dict of str to `torch.Tensor`, optional
        Factors of shape (n,) to use for "spin" or "ellipticity" instead.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``spin`` (n, bins) as probabilities; ``spin_mean`` and, as half the 68.3 %
        interval, ``spin_error``, shape (n,); ``spin_quantiles`` (n, 3);
        ``ellipticity`` and ``ellipticity_error``, shape (n,).
    """
    levels = torch.tensor(LEVELS)

    def factor(name, width):
        if widen is not None and name in widen:
            return widen[name]
        return interpolate(calibration[name], width[:, None])

    logits = torch.log_softmax(outputs["spin"], 1)
    raw = histogram_quantile(logits.exp(), levels, 1.0)
    # A power of a distribution has its width over the square root of that power.
    power = factor("spin", (raw[:, 2] - raw[:, 0]) / 2)[:, None] ** -2
    probability = torch.softmax(logits * power, 1)
    quantiles = histogram_quantile(probability, levels, 1.0)
    ellipticity, width = ellipticity_of(outputs)
    return {
        "spin": probability,
        "spin_mean": probability @ bin_centers(probability, 1.0),
        "spin_quantiles": quantiles,
        "spin_error": (quantiles[:, 2] - quantiles[:, 0]) / 2,
        "ellipticity": ellipticity,
        "ellipticity_error": width * factor("ellipticity", width),
    }


def fast_rotators(result):
    """Give the probability that the spin is above 0.31 times the root of ellipticity.

    Errors of the two are taken as independent.

    Parameters
    ----------
    result : dict of str to `torch.Tensor`
        What `posterior` gave.

    Returns
    -------
    `torch.Tensor`
        Shape (n,).
    """
    probability = result["spin"]
    bins = probability.shape[1]
    edges = torch.arange(bins) / bins
    total = torch.zeros(len(probability))
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        shifted = result["ellipticity"] + node * result["ellipticity_error"]
        limit = FAST_ROTATOR * shifted.clamp(0, 1).sqrt()
        # Share of each bin above the limit.
        above = ((edges + 1 / bins - limit[:, None]) * bins).clamp(0, 1)
        total += weight * (probability * above).sum(1)
    return total
