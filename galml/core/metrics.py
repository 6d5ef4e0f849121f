# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good predictions and their errors are, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

import numpy as np
from astropy.table import QTable

__all__ = [
    "area_under_curve",
    "binned",
    "calibration_curve",
    "coverage",
    "known",
    "mean",
    "pit",
    "pit_distance",
    "quantile",
    "reliability",
    "scatter68",
]


def scatter68(error):
    """Give the absolute error that 68 % of the objects do not exceed.

    Parameters
    ----------
    error : array_like
        Shape (n,).

    Returns
    -------
    float
        NaN where there is no error to judge.
    """
    return quantile(np.abs(error), 0.68)


def coverage(truth, lo, hi):
    """Give the share of truths that lie inside their intervals.

    Parameters
    ----------
    truth, lo, hi : array_like
        Shape (n,).

    Returns
    -------
    float
        Between 0 and 1.
    """
    truth, lo, hi = known(truth, lo, hi)
    return mean((lo <= truth) & (truth <= hi))


def pit(truth, lo, middle, hi):
    """Give the probability integral transform of truths under split normals.

    Parameters
    ----------
    truth : array_like
        Shape (n,).
    lo, middle, hi : array_like
        Shape (n,): the 16 %, 50 % and 84 % quantiles of what was predicted; a normal
        distribution goes through the first two and another through the last two.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n,), in [0, 1]: uniform where the predictions are calibrated.
    """
    from scipy.special import ndtr

    truth, lo, middle, hi = (
        np.asarray(x, dtype=float) for x in (truth, lo, middle, hi)
    )
    offset = truth - middle
    width = np.where(offset < 0, middle - lo, hi - middle)
    # A width of zero leaves a step, right in its middle.
    with np.errstate(divide="ignore", invalid="ignore"):
        return ndtr(np.where(offset == 0, 0.0, offset / width))


def calibration_curve(values, levels):
    """Give the share of truths that central intervals hold.

    Parameters
    ----------
    values : array_like
        What `pit` gave.
    levels : array_like
        Nominal probabilities of the intervals, between 0 and 1.

    Returns
    -------
    `~numpy.ndarray`
        One share for each level; the levels themselves where all is calibrated.
    """
    (values,) = known(values)
    depth = np.abs(2 * values - 1)
    return np.array([mean(depth <= level) for level in levels])


def reliability(probability, outcome, bins=10):
    """Compare probabilities with how often what they are about is true.

    Parameters
    ----------
    probability : array_like
        Shape (n,), between 0 and 1.
    outcome : array_like
        Shape (n,), true or false.
    bins : int or array_like
        Number of equal bins between 0 and 1, or their edges.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count``, the mean ``probability`` and the
        share ``outcome`` of what was true.
    """
    edges = np.linspace(0, 1, bins + 1) if np.ndim(bins) == 0 else bins
    table = binned(mean, probability, edges, np.asarray(probability, dtype=float))
    table.rename_column("value", "probability")
    share = binned(mean, probability, edges, np.asarray(outcome, dtype=float))
    table["outcome"] = share["value"]
    return table


def area_under_curve(score, outcome):
    """Give the probability that a true object has a higher score than a false one.

    Parameters
    ----------
    score : array_like
        Shape (n,).
    outcome : array_like of bool
        Shape (n,).

    Returns
    -------
    float
        Area under the receiver operating characteristic: 0.5 for a guess. NaN where
        all are true or all are false.
    """
    from scipy.stats import rankdata

    score, outcome = known(score, outcome)
    outcome = outcome.astype(bool)
    true, false = outcome.sum(), (~outcome).sum()
    if not (true and false):
        return np.nan
    ranks = rankdata(score)[outcome].sum() - true * (true + 1) / 2
    return float(ranks / (true * false))


def binned(metric, values, edges, *arrays):
    """Evaluate a metric in bins of a property.

    Parameters
    ----------
    metric : callable
        Takes the ``arrays``, reduced to the objects of one bin, and gives a number.
    values : array_like
        Shape (n,): the property, such as signal to noise or inclination.
    edges : array_like
        Shape (bins + 1,), ascending. A bin holds its lower edge; the last one holds
        its upper edge, too.
    *arrays : array_like
        Shape (n, ...): the arguments of ``metric``.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count`` and ``value``; NaN where a bin is
        empty.

    Examples
    --------
    >>> import numpy as np
    >>> from galml.core.metrics import binned, scatter68
    >>> table = binned(scatter68, [1, 2, 20], [0, 10, 50], [0.3, -0.3, 0.1])
    >>> table["value"].tolist()
    [0.3, 0.1]
    """
    values, edges = np.asarray(values), np.asarray(edges, dtype=float)
    arrays = [np.asarray(array) for array in arrays]
    rows = []
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        last = index == len(edges) - 2
        inside = (values >= low) & ((values <= high) if last else (values < high))
        count = int(inside.sum())
        value = metric(*(a[inside] for a in arrays)) if count else np.nan
        rows.append((low, high, count, float(value)))
    return QTable(rows=rows, names=("low", "high", "count", "value"))


def known(*arrays):
    """Reduce arrays to where all of them are known."""
    arrays = [np.asarray(array, dtype=float) for array in arrays]
    inside = np.logical_and.reduce([~np.isnan(array) for array in arrays])
    return [array[inside] for array in arrays]


def mean(values):
    """Mean of what is known; NaN without any."""
    (values,) = known(values)
    return float(values.mean()) if values.size else np.nan


def quantile(values, level):
    """Quantile of what is known; NaN without any."""
    (values,) = known(values)
    return float(np.quantile(values, level)) if values.size else np.nan


def pit_distance(values):
    """Largest distance of a sample's distribution from a uniform one over 0-1."""
    (values,) = known(values)
    if not values.size:
        return np.nan
    values, steps = np.sort(values), np.arange(values.size + 1) / values.size
    return float(np.maximum(steps[1:] - values, values - steps[:-1]).max())
