# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good circularities and position angles are, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from galml.core.geometry import angle_difference

__all__ = [
    "angle_error",
    "balanced_accuracy",
    "binned",
    "calibration_curve",
    "coverage",
    "pit",
    "reliability",
    "scatter68",
    "summarise",
]

#: Galaxies of lower circularity are disturbed.
BOUNDARY = 0.5
#: Nearer to the boundary than this, the class of a galaxy is hardly a matter of fact.
MARGIN = 0.05
#: A galaxy of higher circularity has a position angle that is beyond doubt.
ROTATING = 0.7


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
    return _quantile(np.abs(error), 0.68)


def angle_error(predicted, truth):
    """Give the error of position angles the short way round.

    Parameters
    ----------
    predicted, truth : array_like or `~astropy.units.Quantity`
        Angles; degrees unless they have a unit.

    Returns
    -------
    `~numpy.ndarray`
        ``predicted - truth`` in degrees, in [−180, 180).
    """
    return angle_difference(predicted, truth).value


def balanced_accuracy(predicted, truth, boundary=BOUNDARY):
    """Give the mean of the shares of low and of high values that are told as such.

    Parameters
    ----------
    predicted, truth : array_like
        Shape (n,).
    boundary : float
        Values below it are low.

    Returns
    -------
    float
        Between 0 and 1; 0.5 for a guess. NaN where the truth has one class only.
    """
    predicted, truth = _known(predicted, truth)
    low = truth < boundary
    right = (predicted < boundary) == low
    return (_mean(right[low]) + _mean(right[~low])) / 2


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
    truth, lo, hi = _known(truth, lo, hi)
    return _mean((lo <= truth) & (truth <= hi))


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
    (values,) = _known(values)
    depth = np.abs(2 * values - 1)
    return np.array([_mean(depth <= level) for level in levels])


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
    table = binned(_mean, probability, edges, np.asarray(probability, dtype=float))
    table.rename_column("value", "probability")
    share = binned(_mean, probability, edges, np.asarray(outcome, dtype=float))
    table["outcome"] = share["value"]
    return table


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
    >>> from galml.gas_kinematics.metrics import binned, scatter68
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


def summarise(table, truth, *, boundary=BOUNDARY, margin=MARGIN, rotating=ROTATING):
    """Judge a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.circularity` gave.
    truth : mapping of str to array_like or `~astropy.units.Quantity`
        ``circularity`` and, if known, ``position_angle`` and ``inclination``, one value
        for each row of the table; angles in degrees unless they have a unit.
    boundary : float
        Circularity below which a galaxy is disturbed.
    margin : float
        Distance from the boundary within which a galaxy is not clear.
    rotating : float
        Circularity above which position angles are judged.

    Returns
    -------
    dict of str to float
        NaN for what cannot be judged. ``count`` of rows with a result; of the
        circularity ``circularity_scatter`` (68 %), ``circularity_bias`` (median),
        ``balanced_accuracy`` of all and ``balanced_accuracy_clear``,
        ``circularity_coverage`` of the 68 % intervals and
        ``circularity_pit_distance``, the largest distance of the cumulative
        distribution of the `pit` from a uniform one; ``position_angle_scatter`` and
        ``inclination_scatter`` (68 %, degrees) with ``position_angle_coverage`` and
        ``inclination_coverage``.
    """
    kappa, true_kappa = np.asarray(table["circularity"]), _plain(truth["circularity"])
    lo, hi = np.asarray(table["circularity_lo"]), np.asarray(table["circularity_hi"])
    error = kappa - true_kappa
    clear = np.abs(true_kappa - boundary) >= margin
    unknown = dict.fromkeys(
        ("position_angle", "inclination"), np.full(len(kappa), np.nan)
    )
    truth = unknown | {key: truth[key] for key in getattr(truth, "colnames", truth)}
    turn = angle_error(table["position_angle"], truth["position_angle"])
    turn_error = _plain(table["position_angle_err"])
    tilt = _plain(table["inclination"]) - _plain(truth["inclination"])
    tilt_error = _plain(table["inclination_err"])
    return {
        "count": float(np.isfinite(kappa).sum()),
        "circularity_scatter": scatter68(error),
        "circularity_bias": _quantile(error, 0.5),
        "balanced_accuracy": balanced_accuracy(kappa, true_kappa, boundary),
        "balanced_accuracy_clear": balanced_accuracy(
            kappa[clear], true_kappa[clear], boundary
        ),
        "circularity_coverage": coverage(true_kappa, lo, hi),
        "circularity_pit_distance": _distance(pit(true_kappa, lo, kappa, hi)),
        "position_angle_scatter": scatter68(turn[true_kappa > rotating]),
        "position_angle_coverage": coverage(turn, -turn_error, turn_error),
        "inclination_scatter": scatter68(tilt),
        "inclination_coverage": coverage(tilt, -tilt_error, tilt_error),
    }


def _plain(values):
    """Give numbers, or angles in degrees, as plain floats."""
    if isinstance(values, u.Quantity):
        return values.to_value(u.deg)
    return np.asarray(values, dtype=float)


def _known(*arrays):
    """Reduce arrays to where all of them are known."""
    arrays = [np.asarray(array, dtype=float) for array in arrays]
    known = np.logical_and.reduce([~np.isnan(array) for array in arrays])
    return [array[known] for array in arrays]


def _mean(values):
    """Mean of what is known; NaN without any."""
    (values,) = _known(values)
    return float(values.mean()) if values.size else np.nan


def _quantile(values, level):
    """Quantile of what is known; NaN without any."""
    (values,) = _known(values)
    return float(np.quantile(values, level)) if values.size else np.nan


def _distance(values):
    """Largest distance of a sample's distribution from a uniform one over 0-1."""
    (values,) = _known(values)
    if not values.size:
        return np.nan
    values, steps = np.sort(values), np.arange(values.size + 1) / values.size
    return float(np.maximum(steps[1:] - values, values - steps[:-1]).max())
