# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distributions that the network's outputs stand for, and their calibration."""

import math

import numpy as np
import torch

from galml.core.distributions import (
    LEVELS,
    histogram_quantile,
    interpolate,
    widening,
)
from galml.core.exceptions import InputError

__all__ = [
    "LATEST",
    "LATEST_POSITIVE",
    "MAJOR",
    "POWER",
    "PREVALENCE",
    "STAGES",
    "UPPER",
    "calibrate",
    "entropies",
    "fit_temperature",
    "histogram_quantiles",
    "merger_samples",
    "stage_probability",
    "temperatures",
]

#: What a galaxy can be. A post-merger has coalesced at most 0.5 Gyr ago, from galaxies
#: of a mass ratio of at least 1:4; a remnant longer ago, or of a smaller ratio.
STAGES = (
    "non-merger",
    "first passage",
    "between passages",
    "post-merger",
    "remnant",
)
NON_MERGER, POST_MERGER, REMNANT = 0, 3, 4
LATEST_POSITIVE, MAJOR = 0.5, 0.25
#: Times since coalescence are told up to this, in Gyr.
LATEST = 1.5
#: Share of post-mergers, among these and galaxies that do not merge, for which
#: probabilities are calibrated.
PREVALENCE = 0.5
#: Limits of temperatures; and fewest objects of a filter, or of one field in it, that
#: have a calibration of their own. With fewer, its own noise is worse than that of all.
COLDEST, HOTTEST, FEWEST, FEWEST_OF_FIELD = 0.2, 5.0, 200, 2000
#: Upper ends of histograms, and the power of their numbers that is told: many
#: contaminations are near zero, where bins must be fine.
UPPER = {"time": LATEST, "contamination": 1.0}
POWER = {"time": 1.0, "contamination": 2.0}


def stage_probability(logits, temperature):
    """Give the calibrated probability of each stage.

    Parameters
    ----------
    logits : `torch.Tensor`
        Shape (n, stages), or (n, passes, stages).
    temperature : `torch.Tensor`
        Shape (n,).

    Returns
    -------
    `torch.Tensor`
        Shape of the logits, rows of sum 1.
    """
    return torch.softmax(logits / _like(temperature, logits), -1)


def merger_samples(logits, temperature, offset):
    """Give the probability of a post-merger against a galaxy that does not merge.

    Parameters
    ----------
    logits : `torch.Tensor`
        Shape (n, stages), or (n, passes, stages); or with two stages, of which the
        second one is the post-merger.
    temperature, offset : `torch.Tensor`
        Shape (n,): by which the logit is divided, and what is then added.

    Returns
    -------
    `torch.Tensor`
        Shape (n,) or (n, passes).
    """
    positive = POST_MERGER if logits.shape[-1] > 2 else 1
    ratio = logits[..., positive] - logits[..., NON_MERGER]
    return torch.sigmoid(ratio / _like(temperature, ratio) + _like(offset, ratio))


def _like(values, other):
    """Give numbers of objects the axes of something with objects along the first."""
    return values.reshape(-1, *[1] * (other.dim() - 1))


def entropies(probability):
    """Split the entropy of passes into what the data and what the model do not tell.

    Parameters
    ----------
    probability : `torch.Tensor`
        Shape (n, passes, k), of k classes.

    Returns
    -------
    data, model : `torch.Tensor`
        Shape (n,), in bits: the mean entropy of the passes, and by how much that of
        their mean is larger (Depeweg et al. 2018, arXiv:1710.07283).
    """
    each = _entropy(probability).mean(1)
    return each, (_entropy(probability.mean(1)) - each).clamp_min(0)


def _entropy(probability):
    return -torch.xlogy(probability, probability).sum(-1) / math.log(2)


def histogram_quantiles(name, logits, tables, widen=None):
    """Give the median and the 68 % interval of a time or of a contamination.

    The distributions are lopsided and may have two peaks, as where a companion either
    belongs to the merger or lies behind it: the mean can be where nothing is likely.

    Parameters
    ----------
    name : {"time", "contamination"}
        Of what.
    logits : `torch.Tensor`
        Shape (n, bins), or (n, passes, bins).
    tables : list of dict
        Factors by which to widen distributions, see
        `~galml.core.distributions.interpolate`.
    widen : `torch.Tensor`, optional
        Factors of shape (n,) to use instead.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 3): lower end, median and upper end.
    """
    upper, power, levels = UPPER[name], POWER[name], torch.tensor(LEVELS)
    raw = torch.softmax(logits, -1)
    raw = (raw.mean(1) if raw.dim() == 3 else raw) + 1e-7
    raw = raw / raw.sum(1, keepdim=True)
    if widen is None:
        low, _, high = histogram_quantile(raw, levels, upper).T
        widen = interpolate(tables, ((high - low) / 2)[:, None])
    # A power of a distribution has its width over the square root of that power.
    probability = torch.softmax(raw.log() * widen[:, None] ** -2, 1)
    return histogram_quantile(probability, levels, upper) ** power


def fit_temperature(logits, outcome):
    """Find the temperature with which the classes that came true are most likely.

    Parameters
    ----------
    logits : array_like
        Shape (n, k), of k classes, or of several passes (n, passes, k).
    outcome : array_like
        Shape (n,): the classes that came true, from 0 on.

    Returns
    -------
    float
        By which to divide the logits, from 0.2 to 5 (Guo et al. 2017,
        arXiv:1706.04599).

    Raises
    ------
    galml.core.InputError
        If these are none of some objects and classes.

    Examples
    --------
    Logits that are twice as large as the odds of what came true have them:

    >>> import numpy as np
    >>> from galml.mergers.metrics import fit_temperature
    >>> outcome = np.arange(100) % 4 == 0
    >>> logits = np.full((100, 2), np.log([0.75, 0.25]))
    >>> print(f"{fit_temperature(2 * logits, outcome):.2f}")
    2.00
    """
    from scipy.optimize import minimize_scalar

    logits, outcome = torch.as_tensor(logits), torch.as_tensor(outcome).double()
    if logits.dim() == 2:
        logits = logits[:, None]
    if logits.dim() != 3 or outcome.shape != logits.shape[:1] or not len(outcome):
        expected = "shape (n, k) or (n, passes, k), and n outcomes"
        got = f"shapes {tuple(logits.shape)} and {tuple(outcome.shape)}"
        raise InputError("logits, outcome", got, expected)
    if not bool(torch.isin(outcome, torch.arange(logits.shape[-1])).all()):
        raise InputError("outcome", "other numbers", f"0 to {logits.shape[-1] - 1}")
    rows = torch.arange(len(logits))

    def cost(logarithm):
        chance = torch.softmax(logits / math.exp(logarithm), -1).mean(1)
        return float(-chance[rows, outcome.long()].clamp_min(1e-9).log().mean())

    limits = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(cost, bounds=limits, method="bounded").x)


def calibrate(outputs, data):
    """Fit the calibration of a network on images that training has not seen.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave: ``stage`` (n, passes, stages), and ``time`` and
        ``contamination``, of shape (n, passes, bins), where there are any.
    data : dict of str to `torch.Tensor`
        Truth: ``stage``, and ``time`` and ``contamination`` where they are known, of
        shape (n,), NaN where unknown; and ``group``, a number for each filter and
        field.

    Returns
    -------
    dict
        ``temperature``: of "all", and of each "filter 0" and group "1" that is large
        enough, the temperatures of ``stage`` and ``merger``, and ``offset`` of the
        latter; ``time`` and ``contamination``, where any truth is known: tables of
        `~galml.core.distributions.widening`.
    """
    stage, group = data["stage"], data["group"]
    known = torch.isfinite(stage)
    parts = {"all": known}
    for number in (group // 10).unique().int().tolist():
        parts[f"filter {number}"] = known & (group // 10 == number)
    for number in group.unique().int().tolist():
        rows = known & (group == number)
        if rows.sum() >= FEWEST_OF_FIELD:
            parts[str(number)] = rows
    result = {
        "temperature": {
            key: temperatures(outputs["stage"][rows], stage[rows])
            for key, rows in parts.items()
            if key == "all" or rows.sum() >= FEWEST
        }
    }
    for name in UPPER:
        if name not in outputs:
            continue
        truth = data.get(name, torch.full_like(stage, torch.nan))
        rows = torch.isfinite(truth)
        if name == "time":
            rows &= stage >= POST_MERGER
        if rows.sum() >= FEWEST:
            result[name] = _factors(name, outputs[name][rows], truth[rows].numpy())
        elif rows.any():
            result[name] = []
    return result


def temperatures(logits, stage):
    """Fit the temperatures of stages, and of the two classes in equal numbers.

    Parameters
    ----------
    logits : `torch.Tensor`
        Shape (n, passes, stages), or (n, passes, 2) of the two classes.
    stage : `torch.Tensor`
        Shape (n,): index into `STAGES`.

    Returns
    -------
    dict of str to float
        The temperatures of ``stage`` and ``merger``, and ``offset`` of the latter.
    """
    result = {"stage": 1.0, "merger": 1.0, "offset": 0.0}
    if len(stage) and logits.shape[-1] > 2:
        result["stage"] = fit_temperature(logits, stage)
    positive = stage == POST_MERGER
    two = positive | (stage == NON_MERGER)
    number, others = int(positive.sum()), int((two & ~positive).sum())
    if number and others:
        place = POST_MERGER if logits.shape[-1] > 2 else 1
        ratio = (logits[..., place] - logits[..., NON_MERGER])[two]
        weights = torch.where(positive[two], 0.5 / number, 0.5 / others)
        # The network has learned the odds of the two in its training.
        result["merger"], result["offset"] = _scale_and_shift(
            ratio, positive[two], weights
        )
    return result


def _scale_and_shift(ratio, positive, weights):
    """Fit temperature and offset of log-odds, for both classes in equal numbers."""
    from scipy.optimize import minimize

    def cost(values):
        scaled = ratio * math.exp(-values[0]) + values[1]
        chance = torch.sigmoid(scaled).mean(1)
        likelihood = torch.where(positive, chance, 1 - chance).clamp_min(1e-9)
        return float(-(weights * likelihood.log()).sum())

    limits = [(math.log(COLDEST), math.log(HOTTEST)), (-5.0, 5.0)]
    found = minimize(cost, [0.0, 0.0], method="Nelder-Mead", bounds=limits).x
    return math.exp(found[0]), float(found[1])


def _factors(name, logits, truth):
    """Widening of the distributions of one quantity, against their width."""

    def summary(factor):
        widen = torch.from_numpy(factor).float()
        return histogram_quantiles(name, logits, [], widen).numpy()

    def covers(factor):
        low, _, high = summary(factor).T
        return (truth >= low) & (truth <= high)

    low, _, high = summary(np.ones(len(truth))).T
    return widening(((high - low) / 2)[:, None], covers)
