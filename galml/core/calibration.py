# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Honest widths: how far distributions must be widened to hold what they claim."""

from bisect import bisect_left
from functools import partial

import numpy as np
import torch

__all__ = ["LEVELS", "ONE_SIGMA", "domain", "interpolate", "widening"]

ONE_SIGMA = 0.6826894921370859
#: Lower end, middle and upper end of a 68.3 % interval.
LEVELS = (0.5 - ONE_SIGMA / 2, 0.5, 0.5 + ONE_SIGMA / 2)

SMALLEST_BIN = 400
MOST_BINS = 16
MARGIN = 0.05
FACTORS = np.geomspace(0.6, 1.8, 89)


def widening(width, share):
    """Find factors, in bins of width, with which intervals hold what they should.

    Parameters
    ----------
    width : `~numpy.ndarray`
        Shape (n,): predicted widths.
    share : callable
        ``share(rows, factor)`` is the share of truths that the intervals of these
        objects (a boolean array) hold when they are widened by the factor.

    Returns
    -------
    dict of str to list of float
        ``width`` and ``factor``, as `interpolate` takes them.
    """
    count = int(np.clip(len(width) // SMALLEST_BIN, 1, MOST_BINS))
    result = {"width": [], "factor": []}
    for places in np.array_split(np.argsort(width, kind="stable"), count):
        rows = np.zeros(len(width), dtype=bool)
        rows[places] = True
        # The wider the intervals, the more they hold.
        best = bisect_left(FACTORS[:-1], ONE_SIGMA, key=partial(share, rows))
        result["width"].append(float(np.median(width[rows])))
        result["factor"].append(float(FACTORS[best]))
    return result


def interpolate(calibration, width):
    """Factor by which to widen distributions of a predicted width."""
    factor = np.interp(width, calibration["width"], calibration["factor"])
    return torch.from_numpy(factor).to(torch.float32)


def domain(scalars):
    """Range of the numbers about the objects that a model was trained on."""
    low, high = np.quantile(scalars.numpy(), [0.0005, 0.9995], axis=0)
    margin = MARGIN * (high - low) + 1e-3
    return {"low": (low - margin).tolist(), "high": (high + margin).tolist()}
