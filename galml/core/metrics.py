# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good predictions and their errors are, measured against a truth.

Plain arrays in, plain numbers out. What is NaN has no result and does not count.
"""

import numpy as np
from astropy.table import QTable

from galml.core.exceptions import InputError, InputTypeError, check_whole

__all__ = [
    "area_under_curve",
    "binned",
    "c2st",
    "calibration_curve",
    "checked",
    "conformal_quantile",
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
    if np.ndim(bins) == 0:
        check_whole("bins", bins)
        bins = np.linspace(0, 1, bins + 1)
    edges = bins
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


def c2st(first, second, *, classifier="boosting", seed=0):
    """Measure how often a classifier tells two samples apart.

    A classifier two-sample test (Lopez-Paz & Oquab 2017, ICLR): accuracy over five
    folds of rows that the classifier has not seen, as many of either sample.

    Parameters
    ----------
    first, second : array_like
        Shapes (n, k) and (m, k), such as latents of two sets of galaxies; at least 5
        rows each. Rows of which something is not finite do not count. Of the larger
        sample so many rows are drawn as the other has.
    classifier : {"boosting", "neural"} or estimator
        "boosting": scikit-learn's ``HistGradientBoostingClassifier`` as it comes;
        "neural": its ``MLPClassifier`` with two layers of ten units for each column,
        and early stopping; or any classifier of scikit-learn.
    seed : int
        Of the draw, the folds and the classifier.

    Returns
    -------
    float
        0.5 where it can only guess, 1 where it always knows.

    Raises
    ------
    galml.core.InputError
        For another classifier, samples of other shapes, or with too few rows.
    ImportError
        Without scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from galml.core.metrics import c2st
    >>> first, second = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> c2st(first, second) < 0.6 and c2st(first, second + 5) > 0.99
    True
    """
    try:
        from sklearn.model_selection import StratifiedKFold, cross_val_score
    except ImportError as error:
        message = "c2st needs scikit-learn: pip install 'galml[all]'"
        raise ImportError(message) from error

    samples = [np.asarray(sample, dtype=float) for sample in (first, second)]
    for name, sample in zip(("first", "second"), samples, strict=True):
        if sample.ndim != 2 or sample.shape[1] != samples[0].shape[-1]:
            got, expected = f"shape {sample.shape}", f"(n, {samples[0].shape[-1]})"
            raise InputError(name, got, expected)
    samples = [sample[np.isfinite(sample).all(1)] for sample in samples]
    random, count = np.random.default_rng(seed), min(map(len, samples))
    if count < 5:
        raise InputError("first, second", f"{count} rows of one", "at least 5 of each")
    scores = cross_val_score(
        _classifier(classifier, samples[0].shape[1], seed),
        np.concatenate([random.permutation(sample)[:count] for sample in samples]),
        np.repeat((0, 1), count),
        cv=StratifiedKFold(5, shuffle=True, random_state=seed),
        scoring="accuracy",
        error_score="raise",
    )
    return float(scores.mean())


def _classifier(classifier, features, seed):
    """Make a classifier by its name."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neural_network import MLPClassifier

    if hasattr(classifier, "fit"):
        return classifier
    if classifier == "boosting":
        return HistGradientBoostingClassifier(random_state=seed)
    if classifier == "neural":
        return MLPClassifier(
            (10 * features, 10 * features),
            batch_size=500,
            early_stopping=True,
            random_state=seed,
        )
    expected = "'boosting', 'neural' or a classifier"
    raise InputError("classifier", repr(classifier), expected)


def conformal_quantile(values, share):
    """Find the limit that at most a share of new values will exceed.

    It holds for values that are drawn as the known ones, whatever their distribution
    is (conformal prediction: Vovk et al. 2005).

    Parameters
    ----------
    values : array_like
        Shape (n,).
    share : float
        Between 0 and 1.

    Returns
    -------
    float
        One of the values; the largest, where there are too few for that share. NaN
        without any.
    """
    (values,) = known(values)
    if not values.size:
        return np.nan
    level = np.ceil((values.size + 1) * (1 - share)) / values.size
    return float(np.quantile(values, min(level, 1.0), method="higher"))


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


def checked(**arrays):
    """Read arrays of users as numbers, one for each object.

    Parameters
    ----------
    **arrays : array_like
        Shape (n,), by the names of the arguments.

    Returns
    -------
    list of `~numpy.ndarray`
        NaN where masked.

    Raises
    ------
    galml.core.InputError
        If one holds other things than numbers, or their lengths differ.
    """
    result = []
    for argument, values in arrays.items():
        try:
            values = np.ma.asanyarray(values, dtype=float).filled(np.nan)
        except (TypeError, ValueError) as error:
            raise InputTypeError(argument, type(values).__name__, "numbers") from error
        if values.ndim != 1:
            expected = "one number for each object"
            raise InputError(argument, f"shape {values.shape}", expected)
        if result and len(values) != len(result[0]):
            expected = f"{len(result[0])}, as many as of {next(iter(arrays))}"
            raise InputError(argument, f"{len(values)} numbers", expected)
        result.append(values)
    return result


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
