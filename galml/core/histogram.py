# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions over a bounded range, as histograms that a network gives."""

import torch

__all__ = [
    "bin_centers",
    "histogram_log_density",
    "histogram_quantile",
    "ranked_score",
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
