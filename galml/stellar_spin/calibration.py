# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Honest widths: calibration on images that training has not seen."""

import numpy as np
import torch

from galml.core.distributions import widening
from galml.core.inference import infer
from galml.stellar_spin.posterior import NEUTRAL, posterior

__all__ = ["calibrate", "evaluate", "interval"]


def evaluate(network, data, views=(), *, device="auto", progress=False):
    """Run a network over a data set as the operation does.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    data : dict of str to `torch.Tensor`
        ``image`` and, where the network takes them, ``scalars``.
    views, device, progress
        As in `~galml.core.inference.infer`.

    Returns
    -------
    dict of str to `torch.Tensor`
        The outputs.
    """
    keys = [key for key in ("image", "scalars") if key in data]
    count, step = len(data["image"]), 1024
    batches = (
        {key: data[key][i : i + step] for key in keys} for i in range(0, count, step)
    )
    parts = list(
        infer(
            network, batches, views=views, device=device, progress=progress, total=count
        )
    )
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def calibrate(outputs, data):
    """Fit the calibration of a network.

    Widths are scaled so that 68.3 % intervals hold as many of the truths, in bins of
    the predicted width.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave, see `evaluate`.
    data : dict of str to `torch.Tensor`
        Truth: ``spin`` and ``ellipticity``, shape (n,), NaN where unknown.

    Returns
    -------
    dict
        As `~galml.stellar_spin.posterior.posterior` takes it.
    """
    result = dict(NEUTRAL)
    for name in result:
        truth = data[name].numpy()
        known = np.isfinite(truth)
        if known.any():
            result[name] = _factors(name, _rows(outputs, known), truth[known])
    return result


def _factors(name, outputs, truth):
    """Widening of the distributions of one quantity, against their width."""

    def held(factor):
        widen = {name: torch.from_numpy(factor).float()}
        low, high = interval(name, posterior(outputs, NEUTRAL, widen))
        return (truth >= low) & (truth <= high)

    width = posterior(outputs, NEUTRAL)[f"{name}_error"].numpy()
    return widening(width[:, None], held)


def interval(name, result):
    """Give the ends of the 68.3 % interval of "spin" or "ellipticity", shape (n,)."""
    if name == "spin":
        low, _, high = result["spin_quantiles"].numpy().T
        return low, high
    middle, error = (result[f"{name}{end}"].numpy() for end in ("", "_error"))
    return middle - error, middle + error


def _rows(outputs, rows):
    """Choose the outputs of some objects by a boolean array."""
    return {key: value[torch.from_numpy(rows)] for key, value in outputs.items()}
