# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good circularities and position angles are, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

import astropy.units as u
import numpy as np

from galml.core.geometry import angle_difference
from galml.core.metrics import (
    binned,
    calibration_curve,
    coverage,
    known,
    mean,
    pit,
    pit_distance,
    quantile,
    reliability,
    scatter68,
)

__all__ = [
    "angle_error",
    "balanced_accuracy",
    "binned",
    "calibration_curve",
    "coverage",
    "pit",
    "reliability",
    "scatter68",
    "summarize",
]

#: Galaxies of lower circularity are disturbed.
BOUNDARY = 0.5
#: Nearer to the boundary than this, the class of a galaxy is hardly a matter of fact.
MARGIN = 0.05
#: A galaxy of higher circularity has a position angle that is beyond doubt.
ROTATING = 0.7


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
    """Measure the mean of the shares of low and of high values that are recognized.

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
    predicted, truth = known(predicted, truth)
    low = truth < boundary
    right = (predicted < boundary) == low
    return (mean(right[low]) + mean(right[~low])) / 2


def summarize(table, truth, *, boundary=BOUNDARY, margin=MARGIN, rotating=ROTATING):
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
        "circularity_bias": quantile(error, 0.5),
        "balanced_accuracy": balanced_accuracy(kappa, true_kappa, boundary),
        "balanced_accuracy_clear": balanced_accuracy(
            kappa[clear], true_kappa[clear], boundary
        ),
        "circularity_coverage": coverage(true_kappa, lo, hi),
        "circularity_pit_distance": pit_distance(pit(true_kappa, lo, kappa, hi)),
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
