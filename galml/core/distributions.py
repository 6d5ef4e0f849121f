# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions that networks give, and how wide they must be to be right."""

import numpy as np
import torch

__all__ = [
    "LEVELS",
    "ONE_SIGMA",
    "bin_centers",
    "histogram_log_density",
    "histogram_quantile",
    "interpolate",
    "ranked_score",
    "widening",
]


def bin_centers(logits, upper):
    """Centers of equal bins between 0 and ``upper``, one for each logit."""
    count = logits.shape[-1]
    steps = torch.arange(count, dtype=logits.dtype, device=logits.device)
    return (steps + 0.5) * upper / count


def histogram_quantile(probability, levels, upper):
    """Quantiles of a histogram, linear inside its bins.

    Parameters
    ----------
    probability : `torch.Tensor`
        Shape (n, bins), rows of sum 1.
    levels : `torch.Tensor`
        Shape (n, k) or (k,), cumulative probabilities.
    upper : float
        Upper end of the last bin; the first one starts at 0.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k).
    """
    cumulative = probability.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    levels = levels.expand(len(probability), -1).contiguous()
    place = torch.searchsorted(cumulative, levels).clamp(max=probability.shape[1] - 1)
    high = cumulative.gather(1, place)
    share = (cumulative[:, -1:] * probability / probability.sum(1, True)).gather(
        1, place
    )
    fraction = 1 - ((high - levels) / share.clamp_min(1e-12)).clamp(0, 1)
    return (place + fraction) * upper / probability.shape[1]


def histogram_log_density(logits, truth, upper, width):
    """Cross-entropy target: log-probability of ``truth`` blurred over the bins."""
    centers = bin_centers(logits, upper)
    target = torch.softmax(-0.5 * ((centers - truth[:, None]) / width) ** 2, 1)
    return (target * torch.log_softmax(logits, 1)).sum(1)


def ranked_score(logits, truth):
    """Continuous ranked probability score of histograms over 0-1, per bin."""
    cumulative = torch.softmax(logits, 1).cumsum(1)
    edges = bin_centers(logits, 1.0) + 0.5 / logits.shape[1]
    step = (edges > truth[:, None]).float()
    return ((cumulative - step) ** 2).mean(1)


ONE_SIGMA = 0.6826894921370859
#: Lower end, middle and upper end of a 68.3 % interval.
LEVELS = (0.5 - ONE_SIGMA / 2, 0.5, 0.5 + ONE_SIGMA / 2)

SMALLEST_BIN = 400
#: Fewest members of a group that is judged, and least share of it that is held.
FEWEST, LEAST = 60, 0.55
MOST_BINS = 16
#: Smallest and largest factor in one number, steps of the search, and its rounds.
LIMITS = (0.5, 2.0)
STEPS = 9
ROUNDS = 2


def widening(predictors, covers, groups=None):
    """Find factors with which intervals hold as many truths as they should.

    The factor of an object is a product of one for each of its predictors, each in
    bins of that predictor; they are found in turn.

    Parameters
    ----------
    predictors : `~numpy.ndarray`
        Shape (n, k): numbers that are known with a prediction, such as its width.
    covers : callable
        ``covers(factor)`` tells which of the n intervals, widened by the factors (n,),
        hold their truths.
    groups : `~numpy.ndarray`, optional
        Of integers from 0, shape (n,): what no prediction knows, such as whether the
        truth is low or high. Then no group of a bin may be held much less often than
        all should be, though the others are held more often.

    Returns
    -------
    list of dict
        For each predictor its ``place`` and ``factor``, as `interpolate` takes them.
    """
    n, numbers = predictors.shape
    count = int(np.clip(n // SMALLEST_BIN, 1, MOST_BINS))
    order = np.argsort(predictors, axis=0, kind="stable")
    bins = np.empty((numbers, n), dtype=int)
    for number in range(numbers):
        bins[number, order[:, number]] = np.arange(n) * count // n
    groups = np.zeros(n, dtype=int) if groups is None else groups
    factors = np.ones((numbers, count))
    for number in list(range(numbers)) * min(ROUNDS, numbers):
        factors[number] = 1.0
        others = np.prod([f[rows] for f, rows in zip(factors, bins, strict=True)], 0)
        factors[number] = _balanced(bins[number], groups, count, others, covers)
    return [
        {
            "place": [float(np.median(g[rows == i])) for i in range(count)],
            "factor": f.tolist(),
        }
        for g, rows, f in zip(predictors.T, bins, factors, strict=True)
    ]


def _balanced(rows, groups, count, others, covers):
    """Find for each bin the factor with which it holds its share, by bisection."""
    low, high = np.full((2, count), np.log(LIMITS)[:, None])
    number = groups.max(initial=0) + 1

    def in_groups(weights=None):
        cells = rows * number + groups
        sums = np.bincount(cells, weights, minlength=count * number)
        return sums.reshape(count, number)

    size = in_groups()
    judged = size >= FEWEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        inside = in_groups(covers(others * np.exp(middle)[rows]))
        short = inside.sum(1) < ONE_SIGMA * size.sum(1)
        short |= (judged & (inside < LEAST * size)).any(1)
        # The wider the intervals, the more they hold.
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.exp((low + high) / 2)


def interpolate(tables, predictors):
    """Factors by which to widen the distributions of objects.

    Parameters
    ----------
    tables : list of dict
        As `widening` gives them; without any, all factors are 1.
    predictors : `torch.Tensor`
        Shape (n, k).

    Returns
    -------
    `torch.Tensor`
        Shape (n,).
    """
    if not tables:
        return torch.ones(len(predictors))
    columns = zip(tables, predictors.T.numpy(), strict=True)
    parts = [np.interp(g, table["place"], table["factor"]) for table, g in columns]
    return torch.from_numpy(np.prod(parts, axis=0)).to(torch.float32)
