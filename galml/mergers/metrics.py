# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good a classifier of mergers is, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

from numbers import Real

import astropy.units as u
import numpy as np
from astropy.table import QTable

from galml.core.exceptions import InputError, check_whole
from galml.core.fitting import column_numbers
from galml.core.inputs import as_table, check_columns
from galml.core.metrics import (
    area_under_curve,
    checked,
    coverage,
    known,
    mean,
    reliability,
    scatter68,
)
from galml.mergers.posterior import fit_temperature

__all__ = [
    "confusion_matrix",
    "expected_calibration_error",
    "fit_temperature",
    "purity_completeness",
    "recall_at",
    "roc_curve",
    "summarize",
    "upsilon",
]

#: Share of false positives at which recalls are compared.
FALSE_POSITIVES = 0.05


def confusion_matrix(truth, predicted, n_classes):
    """Count how many objects of each class were taken for each class.

    Parameters
    ----------
    truth, predicted : array_like
        Shape (n,): numbers of classes, from 0 to ``n_classes - 1``.
    n_classes : int
        Number of classes.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n_classes, n_classes), integers: rows are true classes, columns
        predicted ones.

    Raises
    ------
    galml.core.InputError
        For numbers that are none of a class.

    Examples
    --------
    >>> from galml.mergers.metrics import confusion_matrix
    >>> confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], 2).tolist()
    [[1, 1], [0, 2]]
    """
    check_whole("n_classes", n_classes)
    truth, predicted = known(*checked(truth=truth, predicted=predicted))
    for argument, values in (("truth", truth), ("predicted", predicted)):
        wrong = values[~np.isin(values, np.arange(n_classes))]
        if wrong.size:
            expected = f"whole numbers from 0 to {n_classes - 1}"
            raise InputError(argument, f"{wrong[0]:g}", expected)
    places = (truth * n_classes + predicted).astype(int)
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes)


def upsilon(truth, predicted):
    r"""Give the accuracy of the class that is recognized worst.

    :math:`\Upsilon` is the smallest element on the diagonal of the confusion matrix
    with normalized rows [1]_.

    Parameters
    ----------
    truth, predicted : array_like
        Shape (n,): numbers of classes, from 0 on.

    Returns
    -------
    float
        Between 0 and 1; NaN without objects. Classes without a true member do not
        count.

    Raises
    ------
    galml.core.InputError
        For numbers that are none of a class.

    References
    ----------
    .. [1] Ferreira et al. (2022), ApJ 931, 34.

    Examples
    --------
    >>> from galml.mergers.metrics import upsilon
    >>> upsilon([0, 0, 1, 1], [0, 1, 1, 1])
    0.5
    """
    truth, predicted = known(*checked(truth=truth, predicted=predicted))
    if not truth.size:
        return np.nan
    n_classes = int(max(truth.max(), predicted.max())) + 1
    counts = confusion_matrix(truth, predicted, n_classes)
    members = counts.sum(axis=1)
    right = counts.diagonal()[members > 0] / members[members > 0]
    return float(right.min())


def roc_curve(score, outcome):
    """Give the receiver operating characteristic.

    Parameters
    ----------
    score : array_like
        Shape (n,).
    outcome : array_like of bool
        Shape (n,).

    Returns
    -------
    `~astropy.table.QTable`
        ``threshold``, falling from infinity to the lowest score, with the shares of
        false and of true objects whose score is not below it: the
        ``false_positive_rate`` and the ``recall``, NaN where there are no such objects.
    """
    score, outcome = known(*checked(score=score, outcome=outcome))
    order = np.argsort(-score)
    score, outcome = score[order], outcome[order].astype(bool)
    # Objects of one score pass the threshold together.
    last = np.append(np.diff(score) != 0, True)[: score.size]
    with np.errstate(invalid="ignore"):
        recall, false = (
            np.append(0, np.cumsum(kind)[last]) / np.float64(kind.sum())
            for kind in (outcome, ~outcome)
        )
    return QTable(
        {
            "threshold": np.append(np.inf, score[last]),
            "false_positive_rate": false,
            "recall": recall,
        }
    )


def purity_completeness(score, outcome, prevalence=None):
    r"""Give purity and completeness of samples above a threshold.

    Where a share :math:`\pi` of the objects is true, the purity of a sample that holds
    shares :math:`c` of the true and :math:`q` of the false ones is
    :math:`\pi c / (\pi c + (1 - \pi) q)`.

    Parameters
    ----------
    score : array_like
        Shape (n,).
    outcome : array_like of bool
        Shape (n,).
    prevalence : float, optional
        Share of true objects on the sky, between 0 and 1. By default that among the
        objects given: mocks with as many mergers as others tell nothing of the purity
        of a sample on the sky, where mergers are rare.

    Returns
    -------
    `~astropy.table.QTable`
        Falling ``threshold``, ``purity`` and ``completeness``; NaN where all are true
        or all are false.

    Raises
    ------
    galml.core.InputError
        For a prevalence that is no share.

    Examples
    --------
    What is two thirds true where half of all objects are is not where a tenth is:

    >>> from galml.mergers.metrics import purity_completeness
    >>> score, merger = [0.9, 0.8, 0.7, 0.1], [True, False, True, False]
    >>> round(float(purity_completeness(score, merger)["purity"][2]), 3)
    0.667
    >>> round(float(purity_completeness(score, merger, 0.1)["purity"][2]), 3)
    0.182
    """
    score, outcome = known(*checked(score=score, outcome=outcome))
    if prevalence is None:
        prevalence = mean(outcome)
    elif not isinstance(prevalence, Real) or not 0 <= prevalence <= 1:
        raise InputError("prevalence", repr(prevalence), "a share between 0 and 1")
    curve = roc_curve(score, outcome)[1:]
    true = prevalence * curve["recall"]
    false = (1 - prevalence) * curve["false_positive_rate"]
    with np.errstate(invalid="ignore"):
        purity = true / (true + false)
    return QTable(
        {
            "threshold": curve["threshold"],
            "purity": purity,
            "completeness": curve["recall"],
        }
    )


def recall_at(score, outcome, false_positive_rate=FALSE_POSITIVES):
    """Give the share of true objects above the threshold that few false ones reach.

    Parameters
    ----------
    score : array_like
        Shape (n,).
    outcome : array_like of bool
        Shape (n,).
    false_positive_rate : float
        Largest share of false objects at or above the threshold.

    Returns
    -------
    float
        Between 0 and 1; NaN where all are true or all are false.

    Examples
    --------
    >>> from galml.mergers.metrics import recall_at
    >>> recall_at([0.9, 0.8, 0.7, 0.1], [True, False, True, False], 0.0)
    0.5
    """
    curve = roc_curve(score, outcome)
    allowed = curve["false_positive_rate"] <= false_positive_rate
    return float(curve["recall"][allowed].max()) if allowed.any() else np.nan


def expected_calibration_error(probability, outcome, bins=10):
    """Give how far probabilities are from shares, as a mean over the objects.

    Parameters
    ----------
    probability : array_like
        Shape (n,), between 0 and 1.
    outcome : array_like of bool
        Shape (n,).
    bins : int or array_like
        Number of equal bins between 0 and 1, or their edges.

    Returns
    -------
    float
        Mean of the absolute differences between mean probability and share of true
        objects in each bin, weighted by their numbers of objects [1]_; NaN without
        objects.

    References
    ----------
    .. [1] Naeini, Cooper & Hauskrecht (2015), Proc. 29th AAAI Conf., 2901.
    """
    given = checked(probability=probability, outcome=outcome)
    table = reliability(*known(*given), bins)
    table = table[table["count"] > 0]
    if not len(table):
        return np.nan
    distance = np.abs(table["probability"] - table["outcome"])
    return float(np.average(distance, weights=table["count"]))


def summarize(table, truth):
    """Judge a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.merger` gave.
    truth : mapping of str to array_like
        For each row of the table ``merger``: 1 for a post-merger, 0 for a non-merger,
        NaN for another stage. Where known ``stage``, the number of the stage, and
        ``time_since_merger``, in Gyr unless it has a unit.

    Returns
    -------
    dict of str to float
        NaN for what cannot be judged. Of the post-mergers and non-mergers: ``count``
        of those with a result, ``accuracy`` and ``upsilon`` of the classes, ``area``
        under the receiver operating characteristic, ``recall`` at 5 % false positives,
        and ``calibration_error`` of the probabilities. Of all: ``stage_accuracy`` and
        ``stage_upsilon``; ``time_scatter`` (68 %, in Gyr) and ``time_coverage`` of the
        1 sigma intervals.

    Raises
    ------
    galml.core.InputError
        For a table or a truth that lacks a column, and a truth of other rows than those
        of the table.
    """
    table, truth = as_table(table, "table"), as_table(truth, "truth")
    check_columns(table, ("merger_probability", "merger_class"), "that of galml.merger")
    check_columns(truth, ("merger",), "1 or 0 for each row", "truth")
    probability, merger = checked(
        **{
            "table['merger_probability']": table["merger_probability"],
            "truth['merger']": truth["merger"],
        }
    )
    predicted = np.asarray(table["merger_class"]) == "post-merger"
    predicted = np.where(np.isnan(probability), np.nan, predicted)
    unknown = np.full(len(merger), np.nan)
    (stage,) = checked(**{"truth['stage']": _column(truth, "stage", unknown)})
    shares = np.asarray(_column(table, "stage_probability", unknown[:, None]))
    found = np.where(np.isnan(shares).any(axis=1), np.nan, shares.argmax(axis=1))
    right = np.where(np.isnan(found) | np.isnan(stage), np.nan, found == stage)
    age = _column(truth, "time_since_merger", unknown)
    age = column_numbers(age, "truth['time_since_merger']", u.Gyr)
    time = _gyr(_column(table, "time_since_merger", unknown))
    error = _gyr(_column(table, "time_since_merger_err", unknown))
    judged, true = known(predicted, merger)
    return {
        "count": float(judged.size),
        "accuracy": mean(judged == true),
        "upsilon": upsilon(merger, predicted),
        "area": area_under_curve(probability, merger),
        "recall": recall_at(probability, merger),
        "calibration_error": expected_calibration_error(probability, merger),
        "stage_accuracy": mean(right),
        "stage_upsilon": upsilon(stage, found),
        "time_scatter": scatter68(time - age),
        "time_coverage": coverage(age, time - error, time + error),
    }


def _column(columns, key, default):
    """Give a column of a table or mapping, or a default where there is none."""
    return columns[key] if key in columns.colnames else default


def _gyr(time):
    """Plain numbers of a time."""
    return u.Quantity(time, u.Gyr).value
