# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Data sets, losses and `fit` of the gas kinematics domain."""

import math

import torch

from galml.core.distributions import (
    histogram_log_density,
    histogram_quantile,
    ranked_score,
)
from galml.core.networks import standardize
from galml.gas_kinematics.posterior import angle_log_density
from galml.gas_kinematics.preparation import CHANNELS, SCALARS, VelocityMaps, prepare
from galml.mocks import gas_maps

__all__ = [
    "augment",
    "autoencoder_loss",
    "kinematic_loss",
    "mock_data_set",
    "standardize",
]

# Names of the numbers that are unknown where their source is.
DISPERSION = ("has_dispersion", "log_dispersion", "dispersion_gradient")
BEAM = ("has_beam", "log_beams_across")
UNCERTAINTY = ("has_uncertainty", "log_noise")


def mock_data_set(n_batches, *, seed, noisy=None, first=0):
    """Prepare mocks as the network sees them, beside their truth.

    Half of the maps come with a center that is right to a quarter of the beam; of the
    others it is the centroid of the mask.

    Parameters
    ----------
    n_batches, seed, noisy, first
        As in `galml.mocks.gas_maps`.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, channels, 32, 32) in float16, ``scalars`` (n, scalars), and of
        shape (n,): ``angle`` (degrees, the classical estimate), ``left`` (radians, what
        is left of the true angle), ``kappa``, ``kappa_co``, ``inclination`` (degrees),
        ``snr``, ``beams_across``.
    """
    columns = {}
    batches = gas_maps(n_batches, seed=seed, noisy=noisy, first=first)
    for index, (_, maps) in enumerate(batches, start=first):
        generator = torch.Generator().manual_seed(seed * 7919 + index)
        wobble = torch.randn(len(maps), 2, generator=generator)
        center = maps.center + 0.25 * maps.beam[:, None] * wobble
        known = torch.rand(len(maps), 1, generator=generator) < 0.5
        prepared = prepare(
            VelocityMaps(
                maps.velocity,
                maps.dispersion,
                maps.uncertainty,
                torch.where(known, center, torch.nan),
                maps.beam,
            )
        )
        left = torch.deg2rad(maps.truth.position_angle - prepared.angle)
        row = {
            "image": prepared.image.half(),
            "scalars": prepared.scalars,
            "angle": prepared.angle.float(),
            "left": _wrap(left.float()),
            "kappa": maps.truth.kappa,
            "kappa_co": maps.truth.kappa_co,
            "inclination": maps.truth.inclination,
            "snr": maps.snr,
            "beams_across": maps.beams_across,
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: torch.cat(parts) for key, parts in columns.items()}


def augment(batch, generator):
    """Mirror maps, reverse their rotation, and forget what a user may not know.

    Seen from behind, receding sides approach: flipping y together with the sign of the
    velocities leaves the receding side up, and reverses the angle that is left.
    """
    device = batch["image"].device
    count = len(batch["image"])

    def chance(probability):
        draw = torch.rand(count, generator=generator, device=device)
        return draw < probability

    image, scalars, left = (batch[k].clone() for k in ("image", "scalars", "left"))
    mirrored, behind = chance(0.5), chance(0.5)
    image[mirrored] = image[mirrored].flip(-1)
    image[behind] = image[behind].flip(-2)
    image[behind, 0] = -image[behind, 0]
    left = torch.where(mirrored ^ behind, -left, left)
    cold = chance(0.5)
    image[cold, CHANNELS.index("dispersion")] = 0
    for rows, names in (
        (cold, DISPERSION),
        (chance(0.3), BEAM),
        (chance(0.4), UNCERTAINTY),
    ):
        for name in names:
            scalars[rows, SCALARS.index(name)] = 0
    return batch | {"image": image, "scalars": scalars, "left": left}


def kinematic_loss(network, batch):
    """Negative log-likelihood of circularity, angle and inclination.

    Truths that are NaN do not count.
    """
    outputs = network(batch)
    known = {
        key: torch.isfinite(batch[key]) for key in ("kappa", "left", "inclination")
    }
    truth = {key: batch[key].nan_to_num(0.0) for key in known}
    kappa = histogram_log_density(outputs["kappa"], truth["kappa"], 1.0, 0.02)
    ranked = ranked_score(outputs["kappa"], truth["kappa"])
    tilt = histogram_log_density(
        outputs["inclination"], truth["inclination"], 90.0, 3.0
    )
    angle = angle_log_density(outputs, truth["left"])
    with torch.no_grad():
        probability = torch.softmax(outputs["kappa"], 1)
        half = torch.tensor([0.5], device=probability.device)
        error = histogram_quantile(probability, half, 1.0)[:, 0] - truth["kappa"]
    terms = {
        "kappa": -_mean(kappa, known["kappa"]),
        "sharpness": _mean(ranked, known["kappa"]),
        "angle": -_mean(angle, known["left"]),
        "inclination": -_mean(tilt, known["inclination"]),
    }
    weights = {"sharpness": 20.0, "angle": 0.7, "inclination": 0.3}
    loss = sum(weights.get(key, 1.0) * term for key, term in terms.items())
    return {"loss": loss, **terms, "kappa_error": _mean(error.abs(), known["kappa"])}


def _mean(values, known):
    """Mean over the objects whose truth is known, zero where there is none."""
    return (values * known).sum() / known.sum().clamp_min(1)


def _wrap(angle):
    """Bring radians to -pi to pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def autoencoder_loss(network, batch):
    """Mean squared error of the reconstruction."""
    outputs = network(batch, reconstruct=True)
    return {
        "loss": torch.nn.functional.mse_loss(outputs["reconstruction"], batch["image"])
    }
