# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions that the network's outputs stand for, and how wide these must be."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch

from galml.core.distributions import (
    LEVELS,
    bin_centers,
    histogram_quantile,
    interpolate,
    widening,
)
from galml.core.exceptions import InputError, InputTypeError
from galml.physics import FAST_ROTATOR

__all__ = [
    "UNCALIBRATED",
    "calibrate",
    "density",
    "ellipticity_of",
    "fast_rotators",
    "interval",
    "posterior",
    "type_weights",
]

#: Calibration that leaves distributions as they are.
UNCALIBRATED = {"spin": [], "ellipticity": []}
#: Least probability of a bin.
SMALLEST = 1e-7
#: Points and weights of Gauss-Hermite quadrature over a normal distribution.
NODES = (-1.7320508, 0.0, 1.7320508)
WEIGHTS = (1 / 6, 2 / 3, 1 / 6)


def ellipticity_of(outputs):
    """Read mean and spread of the ellipticity off the network's outputs.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        ``ellipticity``, shape (n, members, 2).

    Returns
    -------
    mean, spread : `torch.Tensor`
        Shape (n, members): between 0 and 1, and 0.005 and 0.305.
    """
    mean, width = outputs["ellipticity"].unbind(-1)
    return torch.sigmoid(mean), 0.005 + 0.3 * torch.sigmoid(width)


def density(outputs, weights=None):
    """Average the distributions of the spin over members and types.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        ``spin``, shape (n, members, types, bins).
    weights : `torch.Tensor`, optional
        Shape (types,): how much more frequent each type is than in the training.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bins), rows of sum 1.
    """
    logits = outputs["spin"]
    joint = torch.softmax(logits.flatten(2), 2).mean(1).unflatten(1, logits.shape[2:])
    if weights is not None:
        joint = joint * weights[:, None]
    total = joint.sum(1) + SMALLEST
    return total / total.sum(1, keepdim=True)


def posterior(outputs, calibration, *, weights=None, widen=None):
    """Turn the network's outputs into calibrated distributions.

    Those of the members are averaged: where they disagree the mean is wide.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        See `~galml.stellar_spin.network.SpinNet`.
    calibration : dict
        For "spin" and "ellipticity": the factors by which to widen distributions,
        against their own width and the distance from the training.
    weights : `torch.Tensor`, optional
        Shape (types,): how much more frequent each type is than in the training.
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
        predictors = torch.stack([width, outputs["distance"]], 1)
        return interpolate(calibration[name], predictors)

    raw = density(outputs, weights)
    low, _, high = histogram_quantile(raw, levels, 1.0).T
    # A power of a distribution has its width over the square root of that power.
    power = factor("spin", (high - low) / 2)[:, None] ** -2
    probability = torch.softmax(raw.log() * power, 1)
    quantiles = histogram_quantile(probability, levels, 1.0)
    means, widths = ellipticity_of(outputs)
    ellipticity = means.mean(1)
    width = (widths.square() + (means - ellipticity[:, None]).square()).mean(1).sqrt()
    return {
        "spin": probability,
        "spin_mean": probability @ bin_centers(probability, 1.0),
        "spin_quantiles": quantiles,
        "spin_error": (quantiles[:, 2] - quantiles[:, 0]) / 2,
        "ellipticity": ellipticity,
        "ellipticity_error": width * factor("ellipticity", width),
    }


def type_weights(prior, types):
    """Find how much more frequent types are in a sample than in the training.

    Parameters
    ----------
    prior : mapping of str to float
        Shares of the sample. A key stands for all types in whose names it is a word;
        they keep their ratios. Shares need not sum up to 1.
    types : dict of str to float
        Shares of the types in the training.

    Returns
    -------
    `torch.Tensor`
        Shape (types,), as `posterior` takes it.

    Raises
    ------
    galml.core.InputTypeError
        If it is no mapping, or a share is no number.
    galml.core.InputError
        If a key names no type, a type has no share or two, or shares are negative or
        all zero.
    """
    names = ", ".join(types)
    weights = {}
    if not isinstance(prior, Mapping):
        expected = "a mapping of types to their shares"
        raise InputTypeError("prior", type(prior).__name__, expected)
    for key, share in prior.items():
        members = [name for name in types if key == name or key in name.split()]
        if not members:
            raise InputError("prior", repr(key), f"words out of {names}")
        if not isinstance(share, Real):
            raise InputTypeError("prior", f"{key!r}: {share!r}", "shares of at least 0")
        if not (np.isfinite(share) and share >= 0):
            raise InputError("prior", f"{key!r}: {share}", "shares of at least 0")
        total = sum(types[name] for name in members)
        for name in members:
            if name in weights:
                raise InputError("prior", f"two shares of {name!r}", "one of each")
            weights[name] = share / total if total else 0.0
    missing = [name for name in types if name not in weights]
    if missing:
        raise InputError("prior", f"no share of {missing}", f"all of {names}")
    if not any(weights.values()):
        raise InputError("prior", "shares of 0", "at least one above 0")
    return torch.tensor([weights[name] for name in types], dtype=torch.float32)


def fast_rotators(result):
    """Give the probability that the spin is above 0.31 times the root of ellipticity.

    Errors of the two are taken as independent. The criterion is that of Emsellem et
    al. (2011, MNRAS 414, 888).

    Parameters
    ----------
    result : dict of str to `torch.Tensor`
        What `posterior` gave.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), between 0 and 1.
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


def calibrate(outputs, data):
    """Fit the calibration of a network on images that training has not seen.

    Widths are scaled so that 68.3 % intervals cover as many of the truths, in bins of
    the predicted width and of the distance from the training.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave.
    data : dict of str to `torch.Tensor`
        Truth: ``spin`` and ``ellipticity``, shape (n,), NaN where unknown.

    Returns
    -------
    dict
        As `posterior` takes it.
    """
    result = dict(UNCALIBRATED)
    for name in result:
        truth = data[name].numpy()
        known = np.isfinite(truth)
        if known.any():
            rows = torch.from_numpy(known)
            chosen = {key: value[rows] for key, value in outputs.items()}
            result[name] = _factors(name, chosen, truth[known])
    return result


def _factors(name, outputs, truth):
    """Widening of the distributions of one quantity, against their width."""

    def covers(factor):
        widen = {name: torch.from_numpy(factor).float()}
        low, high = interval(name, posterior(outputs, UNCALIBRATED, widen=widen))
        return (truth >= low) & (truth <= high)

    width = posterior(outputs, UNCALIBRATED)[f"{name}_error"]
    predictors = torch.stack([width, outputs["distance"]], 1)
    return widening(predictors.numpy(), covers)


def interval(name, result):
    """Give the ends of 68.3 % intervals.

    Parameters
    ----------
    name : {"spin", "ellipticity"}
        Of what.
    result : dict of str to `torch.Tensor`
        What `posterior` gave.

    Returns
    -------
    low, high : `~numpy.ndarray`
        Shape (n,).
    """
    if name == "spin":
        low, _, high = result["spin_quantiles"].numpy().T
        return low, high
    mean, error = (result[f"{name}{end}"].numpy() for end in ("", "_error"))
    return mean - error, mean + error
