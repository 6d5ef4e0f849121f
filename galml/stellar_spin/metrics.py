# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good predicted spins are, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

import numpy as np

from galml.core.metrics import coverage, known, pit, scatter68

__all__ = [
    "agreement",
    "mean_square",
    "pearson",
    "spearman",
    "summarize",
]


def pearson(predicted, truth):
    """Give Pearson's coefficient of correlation.

    Parameters
    ----------
    predicted, truth : array_like
        Shape (n,).

    Returns
    -------
    float
        Between -1 and 1; NaN where one of them does not vary.
    """
    predicted, truth = known(predicted, truth)
    if predicted.size < 2 or np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return np.nan
    return float(np.corrcoef(predicted, truth)[0, 1])


def spearman(predicted, truth):
    """Give Spearman's coefficient of rank correlation.

    Parameters
    ----------
    predicted, truth : array_like
        Shape (n,).

    Returns
    -------
    float
        Between -1 and 1; NaN where one of them does not vary.
    """
    from scipy.stats import rankdata

    predicted, truth = known(predicted, truth)
    return pearson(rankdata(predicted), rankdata(truth))


def mean_square(predicted, truth):
    """Give the mean squared error.

    Parameters
    ----------
    predicted, truth : array_like
        Shape (n,).

    Returns
    -------
    float
        NaN without objects.
    """
    predicted, truth = known(predicted, truth)
    return float(np.mean((predicted - truth) ** 2)) if predicted.size else np.nan


def agreement(predicted, truth):
    """Give the figures that Duckworth et al. (2020) gave.

    Parameters
    ----------
    predicted, truth : array_like
        Shape (n,).

    Returns
    -------
    dict of str to float
        ``pearson``, ``spearman`` and ``mean_square``.
    """
    return {
        "pearson": pearson(predicted, truth),
        "spearman": spearman(predicted, truth),
        "mean_square": mean_square(predicted, truth),
    }


def summarize(table, truth):
    """Judge a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.spin` gave.
    truth : mapping of str to array_like
        ``spin`` and, if known, ``ellipticity``, one value for each row of the table.

    Returns
    -------
    dict of str to float
        NaN for what cannot be judged. ``count`` of rows with a result; ``pearson``,
        ``spearman``, ``mean_square``, ``scatter`` (68 %), ``bias`` (mean),
        ``coverage`` of the 68 % intervals, and the mean of the probability integral
        transform, 0.5 where there is no bias, all of the spin;
        ``ellipticity_scatter`` and ``ellipticity_coverage``.
    """
    spin, low, high = (np.asarray(table[f"spin{end}"]) for end in ("", "_lo", "_hi"))
    true = np.asarray(truth["spin"], dtype=float)
    keys = truth.colnames if hasattr(truth, "colnames") else truth
    shape = (
        truth["ellipticity"] if "ellipticity" in keys else np.full(len(true), np.nan)
    )
    ellipticity = np.asarray(table["ellipticity"])
    error = np.asarray(table["ellipticity_err"])
    values, _ = known(pit(true, low, (low + high) / 2, high), true)
    difference, _ = known(spin - true, true)
    return {
        "count": float(np.isfinite(spin).sum()),
        **agreement(spin, true),
        "scatter": scatter68(spin - true),
        "bias": float(difference.mean()) if difference.size else np.nan,
        "coverage": coverage(true, low, high),
        "pit": float(values.mean()) if values.size else np.nan,
        "ellipticity_scatter": scatter68(ellipticity - shape),
        "ellipticity_coverage": coverage(
            shape, ellipticity - error, ellipticity + error
        ),
    }
