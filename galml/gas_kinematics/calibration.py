# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Honest widths: calibration on maps that training has not seen."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

from galml.core.distributions import domain as core_domain
from galml.core.distributions import widening
from galml.core.inference import infer
from galml.gas_kinematics.kinematic import VIEWS, evidence, posterior

__all__ = ["calibrate", "domain", "evaluate"]

NEUTRAL = {
    "kappa": [],
    "angle": [],
    "quality": [0.0] * 6,
}
#: What the quality is the probability of: these errors at most (degrees, kappa).
QUALITY_ANGLE = 10.0
QUALITY_KAPPA = 0.15


def evaluate(network, data, *, device="auto", progress=False):
    """Run the network over a data set as the operation does.

    Parameters
    ----------
    network : `~galml.gas_kinematics.network.KinematicNet`
        The network.
    data : dict of str to `torch.Tensor`
        ``image`` and ``scalars``; the rest is not looked at.
    device, progress
        As in `~galml.core.inference.infer`.

    Returns
    -------
    dict of str to `torch.Tensor`
        The outputs, and the ``scalars``.
    """
    count, step = len(data["image"]), 1024
    batches = (
        {key: data[key][i : i + step] for key in ("image", "scalars")}
        for i in range(0, count, step)
    )
    parts = list(
        infer(
            network, batches, views=VIEWS, device=device, progress=progress, total=count
        )
    )
    outputs = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return outputs | {"scalars": data["scalars"].float()}


def domain(scalars):
    """Range of the numbers about the maps that a model was trained on."""
    return core_domain(scalars) | {"radius": 4.0}


def calibrate(outputs, data):
    """Fit the calibration of a network.

    Widths are scaled so that 68.3 % intervals hold as many of the truths, in bins of
    the predicted width, of the predicted inclination and of the variance that rotation
    explains. The quality is a logistic regression on five numbers only: a
    network's opinion of itself does not carry over to maps unlike the mocks.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave, see `evaluate`.
    data : dict of str to `torch.Tensor`
        Truth: ``kappa``, ``left`` (radians) and ``inclination``, shape (n,).

    Returns
    -------
    dict
        As `~galml.gas_kinematics.kinematic.posterior` takes it.
    """
    kappa = data["kappa"].numpy()
    left = torch.rad2deg(data["left"]).numpy()
    result = dict(NEUTRAL)
    known = np.isfinite(kappa)
    if known.any():
        result["kappa"] = _kappa_factors(_rows(outputs, known), kappa[known])
    known = np.isfinite(left)
    if known.any():
        result["angle"] = _angle_factors(_rows(outputs, known), left[known])
    known &= np.isfinite(kappa)
    if known.any():
        outputs, kappa, left = _rows(outputs, known), kappa[known], left[known]
        final = posterior(outputs, result)
        near = np.abs(final["kappa_quantiles"][:, 1].numpy() - kappa) < QUALITY_KAPPA
        error = np.abs(_wrap(left - final["turn"].numpy()))
        seen = evidence(final["kappa_quantiles"][:, 1], outputs["scalars"]).numpy()
        result["quality"] = _logistic(seen, near & (error < QUALITY_ANGLE))
    return result


def _rows(outputs, rows):
    """Choose the outputs of some objects by a boolean array."""
    return {key: value[torch.from_numpy(rows)] for key, value in outputs.items()}


def _kappa_factors(outputs, kappa):
    """Widening of the distributions of kappa."""

    def held(factor):
        widen = {"kappa": torch.from_numpy(factor).float()}
        found = posterior(outputs, NEUTRAL, widen)
        low, _, high = found["kappa_quantiles"].numpy().T
        return (kappa >= low) & (kappa <= high)

    return widening(posterior(outputs, NEUTRAL)["kappa_grounds"].numpy(), held)


def _angle_factors(outputs, left):
    """Widening of the distributions of the angle."""
    found = posterior(outputs, NEUTRAL)
    error = np.abs(_wrap(left - found["turn"].numpy()))

    def held(factor):
        widen = {"angle": torch.from_numpy(factor).float()}
        return error <= posterior(outputs, NEUTRAL, widen)["turn_error"].numpy()

    return widening(found["angle_grounds"].numpy(), held)


def _wrap(degrees):
    return (degrees + 180) % 360 - 180


def _logistic(numbers, outcome):
    """Offset and slopes of a logistic regression on numbers (n, k).

    A normal prior of width 10 around zero counts where there are few objects.
    """
    design = np.column_stack([np.ones(len(numbers)), numbers])

    def loss(slopes):
        probability = expit(design @ slopes).clip(1e-7, 1 - 1e-7)
        likelihood = np.where(outcome, probability, 1 - probability)
        return (np.sum(slopes**2) / 200 - np.log(likelihood).sum()) / len(design)

    return minimize(loss, np.zeros(design.shape[1])).x.tolist()
