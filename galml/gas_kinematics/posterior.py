# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From the network's outputs to calibrated distributions."""

import math
from functools import lru_cache

import torch

from galml.core.distributions import (
    LEVELS,
    ONE_SIGMA,
    histogram_quantile,
    interpolate,
)

__all__ = [
    "angle_components",
    "angle_log_density",
    "angle_quantile",
    "arcsine_scale",
    "kappa_quantile",
    "posterior",
    "quality_predictors",
    "widen_histogram",
]

#: How many errors a turn away from the classical angle must have to be believed.
SIGNIFICANCE = 2.0
#: Intervals of the integration over the size of an angle, dense near zero.
STEPS = 512


def arcsine_scale(kappa):
    """Bring circularities to the scale of their histograms.

    Near 0 and 1 it is as fine as shares can be told there: 1 - kappa of cold disks is
    twice the square of their dispersion over rotation.

    Parameters
    ----------
    kappa : `torch.Tensor`
        Any shape, 0 to 1.

    Returns
    -------
    `torch.Tensor`
        From 0 to 1, and 0.5 where ``kappa`` is.
    """
    return 2 / math.pi * torch.asin(kappa.clamp(0, 1).sqrt())


def kappa_quantile(probability, levels):
    """Quantiles of circularities, from histograms on the `arcsine_scale`.

    Parameters
    ----------
    probability : `torch.Tensor`
        Shape (n, bins), rows of sum 1.
    levels : `torch.Tensor`
        Shape (n, k) or (k,), cumulative probabilities.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k).
    """
    return torch.sin(math.pi / 2 * histogram_quantile(probability, levels, 1.0)) ** 2


def widen_histogram(probability, factor):
    """Widen distributions as if they were normal ones of some other scale.

    Quantiles that are z standard deviations of a normal distribution from the median
    become those that were ``factor * z`` from it: what lies at an end of the scale
    stays within reach, which is lost where bins are made more alike.

    Parameters
    ----------
    probability : `torch.Tensor`
        Shape (n, bins), rows of sum 1.
    factor : `torch.Tensor`
        Shape (n,), positive.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bins).
    """
    cumulative = probability.cumsum(1)
    cumulative = (cumulative / cumulative[:, -1:]).clamp(0, 1)
    score = torch.special.ndtri(cumulative) / factor[:, None]
    return torch.special.ndtr(score).diff(dim=1, prepend=torch.zeros(len(score), 1))


def angle_components(outputs):
    """Describe the residual angle by von Mises distributions of one mean.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        ``angle_even`` and ``angle_odd`` of
        `~galml.gas_kinematics.network.KinematicNet`.

    Returns
    -------
    mean : `torch.Tensor`
        Shape (n,), radians.
    concentration : `torch.Tensor`
        Shape (n, 3): narrow, broad, and zero for the uniform background.
    log_weight : `torch.Tensor`
        Shape (n, 3).
    """
    even = outputs["angle_even"]
    mean = torch.atan2(outputs["angle_odd"][:, 0], even[:, 0] + 3.0)
    broad = torch.exp(even[:, 1].clamp(-3, 8) + 1.5)
    narrow = broad + torch.exp(even[:, 2].clamp(-3, 8) + 3.0)
    concentration = torch.stack([narrow, broad, torch.zeros_like(broad)], 1)
    return mean, concentration, torch.log_softmax(even[:, 3:6], 1)


def angle_log_density(outputs, angle):
    """Give the log-density of residual angles.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        As for `angle_components`.
    angle : `torch.Tensor`
        Shape (n,), radians.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), per radian.
    """
    mean, concentration, log_weight = angle_components(outputs)
    shape = torch.cos(angle - mean)[:, None] - 1
    normal = torch.log(2 * math.pi * torch.special.i0e(concentration))
    return torch.logsumexp(log_weight + concentration * shape - normal, 1)


@lru_cache
def _sizes():
    """Edges of the intervals of sizes, their widths, and cos - 1 of their centers."""
    edges = math.pi * torch.linspace(0, 1, STEPS + 1) ** 3
    return edges, edges.diff(), ((edges[1:] + edges[:-1]) / 2).cos() - 1


def angle_quantile(concentration, log_weight, levels):
    """Find the half-width of the symmetric interval that holds a share of all.

    Parameters
    ----------
    concentration, log_weight : `torch.Tensor`
        Shape (n, 3), as `angle_components` returns them.
    levels : `torch.Tensor`
        Shape (n, k): shares between 0 and 1.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k), radians between 0 and pi.
    """
    edges, widths, shape = _sizes()
    normal = torch.log(2 * math.pi * torch.special.i0e(concentration)) - log_weight
    # Where the concentration is zero, the density is the same everywhere.
    uniform = (concentration == 0).all(0)
    density = torch.exp(-normal[:, uniform]).sum(1, keepdim=True)
    for place in torch.nonzero(~uniform)[:, 0].tolist():
        power = torch.addcmul(
            -normal[:, place, None], concentration[:, place, None], shape
        )
        density = density + power.exp_()
    cumulative = torch.zeros(len(density), STEPS + 1)
    torch.cumsum((2 * density).mul_(widths), 1, out=cumulative[:, 1:])
    levels = levels * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, levels.contiguous()).clamp_(1, STEPS)
    low, high = cumulative.gather(1, place - 1), cumulative.gather(1, place)
    fraction = ((levels - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return edges[place - 1] + fraction * widths[place - 1]


def posterior(outputs, calibration, spec, widen=None):
    """Turn the network's outputs into calibrated distributions.

    The turn away from the classical angle is made as far as it is significant: it
    shrinks by the factor 1 - (SIGNIFICANCE * error / turn)**2, or to nothing.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        See `~galml.gas_kinematics.network.KinematicNet`; and ``scalars``, which the
        network was given.
    calibration : dict
        For "kappa" and "angle": the factors by which to widen distributions, against
        their predictors: their own width, the median circularity or the noise and the
        beams across of the map, the inclination, and the variance that rotation
        explains. For "quality": offset and slopes of a logistic regression on the
        `quality_predictors`.
    spec : `~galml.core.model.InputSpec`
        What the network was shown: it names the scalars.
    widen : dict of str to `torch.Tensor`, optional
        Factors of shape (n,) to use for "kappa" or "angle" instead.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``kappa`` (n, bins), on the `arcsine_scale`, and ``inclination`` (n, bins) as
        probabilities,
        ``kappa_quantiles``, ``inclination_quantiles`` (n, 3), ``turn`` (n,) and
        ``turn_error`` (n,) in degrees, ``turn_concentration`` and
        ``turn_log_weight`` (n, 3), ``quality`` (n,); and the ``kappa_predictors``
        (n, 4) and ``angle_predictors`` (n, 5) that the factors are chosen by.
    """
    levels = torch.tensor(LEVELS)
    result = {}
    result["inclination"] = torch.softmax(outputs["inclination"], 1)
    tilt = histogram_quantile(result["inclination"], levels, 90.0)
    result["inclination_quantiles"] = tilt
    ratio = _explained_ratio(outputs["scalars"], spec).log()
    noise, across = (
        outputs["scalars"][:, spec.scalars.index(name)]
        for name in ("log_noise", "log_beams_across")
    )

    def factor(name, *predictors):
        predictors = torch.stack([*predictors, tilt[:, 1], ratio], 1)
        result[f"{name}_predictors"] = predictors
        if widen is not None and name in widen:
            return widen[name]
        return interpolate(calibration[name], predictors)

    kappa = torch.softmax(outputs["kappa"], 1)
    low, middle, high = histogram_quantile(kappa, levels, 1.0).T
    result["kappa"] = widen_histogram(kappa, factor("kappa", high - low, middle))
    result["kappa_quantiles"] = kappa_quantile(result["kappa"], levels)
    turn, concentration, log_weight = angle_components(outputs)
    level = torch.full((len(turn), 1), ONE_SIGMA)
    width = torch.rad2deg(angle_quantile(concentration, log_weight, level)[:, 0])
    turn = torch.rad2deg(turn)
    doubt = SIGNIFICANCE * width / turn.abs().clamp_min(1e-6)
    result["turn"] = turn * (1 - doubt**2).clamp_min(0)
    widening = factor("angle", width, noise, across)
    concentration = concentration * widening[:, None] ** -2
    width = angle_quantile(concentration, log_weight, level)[:, 0]
    result["turn_error"] = torch.rad2deg(width)
    result["turn_concentration"] = concentration
    result["turn_log_weight"] = log_weight
    offset, *slopes = torch.tensor(calibration["quality"], dtype=torch.float32)
    median = result["kappa_quantiles"][:, 1]
    predictors = quality_predictors(median, outputs["scalars"], spec)
    result["quality"] = torch.sigmoid(offset + predictors @ torch.stack(slopes))
    return result


def quality_predictors(kappa, scalars, spec):
    """Give what the quality of a map is judged by.

    The F statistic of rings with a shared angle against no rotation, as the logarithms
    of its two factors: variance explained over variance unexplained, and the
    measurements that are independent beyond the parameters of the fit. Then the
    amplitude of the ring that rotates least, which is low where few places make the
    map's amplitude or rings disagree; the circularity; and whether a dispersion map
    helped to find it.

    Parameters
    ----------
    kappa : `torch.Tensor`
        Shape (n,): median circularity.
    scalars : `torch.Tensor`
        Shape (n, scalars).
    spec : `~galml.core.model.InputSpec`
        It names the scalars.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 5).
    """
    n_rings = int(spec.parameters["n_rings"])
    independent = 10 ** scalars[:, spec.scalars.index("log_independent")]
    # Of the fit: systemic velocity, rings and third harmonic.
    freedom = independent - (n_rings + 2)
    ratio = _explained_ratio(scalars, spec)
    rings = [spec.scalars.index(f"ring_{i}") for i in range(1, n_rings + 1)]
    slowest = scalars[:, rings].amin(1)
    has_dispersion = scalars[:, spec.scalars.index("has_dispersion")]
    numbers = [ratio.log(), freedom.clamp_min(1).log(), slowest, kappa, has_dispersion]
    return torch.stack(numbers, 1)


def _explained_ratio(scalars, spec):
    """Variance of a map that rotation explains, over what it leaves."""
    unexplained = 10 ** scalars[:, spec.scalars.index("log_unexplained")]
    return ((1 - unexplained) / unexplained).clamp_min(1e-3)
