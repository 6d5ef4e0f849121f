# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default system: maps to the network's inputs, its outputs to columns."""

import math

import astropy.units as u
import numpy as np
import torch

from galml.core.distributions import LEVELS, ONE_SIGMA, interpolate
from galml.core.flags import Flag
from galml.core.geometry import sky_angle, wrap_angle
from galml.core.networks import View
from galml.core.running import in_groups
from galml.gas_kinematics.harmonic import N_RINGS
from galml.gas_kinematics.posterior import (
    angle_components,
    angle_quantile,
    bin_centers,
    histogram_quantile,
)
from galml.gas_kinematics.preparation import SCALARS, VelocityMaps, prepare

__all__ = [
    "VIEWS",
    "columns",
    "evidence",
    "inputs",
    "layout",
    "posterior",
    "prepare_maps",
]

FEW_PIXELS = 24
MIN_PIXELS = 6
#: An inclination that is not known better than this is not given.
INCLINATION_LIMIT = 15.0
EDGE_SHARE = 0.05
#: How many errors a turn away from the classical angle must have to be believed.
SIGNIFICANCE = 2.0
#: Of the ring fit: systemic velocity, rings and third harmonic.
N_PARAMETERS = N_RINGS + 2
NAMES = (
    "circularity",
    "circularity_err",
    "circularity_lo",
    "circularity_hi",
    "disturbed_probability",
    "position_angle",
    "position_angle_err",
    "inclination",
    "inclination_err",
    "map_quality",
    "latent",
)
ANGLES = {"position_angle", "position_angle_err", "inclination", "inclination_err"}


def _mirror(inputs):
    return inputs | {"image": inputs["image"].flip(-1)}


def _mirror_back(outputs):
    return outputs | {"angle_odd": -outputs["angle_odd"]}


def _behind(inputs):
    image = inputs["image"].flip(-2)
    return inputs | {"image": torch.cat([-image[:, :1], image[:, 1:]], 1)}


#: The turned map and its mirror image, from the front and from behind, where receding
#: sides approach: with the turn, the symmetries of a square and that of the motion.
VIEWS = (
    View(),
    View(_mirror, _mirror_back),
    View(_behind, _mirror_back),
    View(lambda inputs: _mirror(_behind(inputs))),
)


def prepare_maps(maps):
    """Prepare maps of any shapes.

    Parameters
    ----------
    maps : sequence of `~galml.gas_kinematics.velocities.VelocityMap`
        The maps.

    Returns
    -------
    `~galml.gas_kinematics.preparation.Prepared`
        Rows in the order of ``maps``.
    """
    return in_groups(
        maps, lambda item: item.values.shape, lambda group: prepare(_stack(group))
    )


def _stack(maps):
    """Stack maps of one shape, unknown planes as NaN."""

    def plane(name):
        images = [getattr(item, name) for item in maps]
        if all(image is None for image in images):
            return None
        blank = np.full(maps[0].values.shape, np.nan)
        return torch.from_numpy(
            np.stack([blank if image is None else image for image in images]).astype(
                float
            )
        )

    return VelocityMaps(
        velocity=plane("values"),
        dispersion=plane("dispersion"),
        uncertainty=plane("std"),
        center=torch.tensor([item.center for item in maps], dtype=torch.float64),
        beam=torch.tensor([item.beam for item in maps], dtype=torch.float64),
    )


def posterior(outputs, calibration, widen=None):
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
        what they rest on: their own width, the inclination, and the variance that
        rotation explains; for "quality": offset and slopes of a logistic regression
        on the `evidence`.
    widen : dict of str to `torch.Tensor`, optional
        Factors of shape (n,) to use for "kappa" or "angle" instead.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``kappa`` (n, bins) and ``inclination`` (n, bins) as probabilities,
        ``kappa_quantiles``, ``inclination_quantiles`` (n, 3), ``turn`` (n,) and
        ``turn_error`` (n,) in degrees, ``turn_concentration`` and
        ``turn_log_weight`` (n, 3), ``quality`` (n,); and the ``kappa_grounds`` and
        ``angle_grounds`` (n, 3) that the factors are chosen by.
    """
    levels = torch.tensor(LEVELS)
    result = {}
    result["inclination"] = torch.softmax(outputs["inclination"], 1)
    tilt = histogram_quantile(result["inclination"], levels, 90.0)
    result["inclination_quantiles"] = tilt
    ratio = _explained(outputs["scalars"]).log()

    def factor(name, width):
        grounds = torch.stack([width, tilt[:, 1], ratio], 1)
        result[f"{name}_grounds"] = grounds
        if widen is not None and name in widen:
            return widen[name]
        return interpolate(calibration[name], grounds)

    logits = torch.log_softmax(outputs["kappa"], 1)
    raw = histogram_quantile(logits.exp(), levels, 1.0)
    # A power of a distribution has its width over the square root of that power.
    power = factor("kappa", (raw[:, 2] - raw[:, 0]) / 2)[:, None] ** -2
    result["kappa"] = torch.softmax(logits * power, 1)
    result["kappa_quantiles"] = histogram_quantile(result["kappa"], levels, 1.0)
    turn, concentration, log_weight = angle_components(outputs)
    level = torch.full((len(turn), 1), ONE_SIGMA)
    width = torch.rad2deg(angle_quantile(concentration, log_weight, level)[:, 0])
    turn = torch.rad2deg(turn)
    noise = SIGNIFICANCE * width / turn.abs().clamp_min(1e-6)
    result["turn"] = turn * (1 - noise**2).clamp_min(0)
    concentration = concentration * factor("angle", width)[:, None] ** -2
    width = angle_quantile(concentration, log_weight, level)[:, 0]
    result["turn_error"] = torch.rad2deg(width)
    result["turn_concentration"] = concentration
    result["turn_log_weight"] = log_weight
    slopes = torch.tensor(calibration["quality"], dtype=torch.float32)
    logit = (
        slopes[0]
        + evidence(result["kappa_quantiles"][:, 1], outputs["scalars"]) @ slopes[1:]
    )
    result["quality"] = torch.sigmoid(logit)
    return result


def evidence(kappa, scalars):
    """Tell how much a map says: what its quality is judged by, shape (n, 5).

    The F statistic of rings with a shared angle against no rotation, as the logarithms
    of its two factors: variance explained over variance left, and the measurements
    that are independent beyond the parameters of the fit. Then the amplitude of the
    ring that rotates least, which is low where few places make the map's amplitude or
    rings disagree; the circularity; and whether a dispersion map helped to find it.
    """
    freedom = 10 ** scalars[:, SCALARS.index("log_independent")] - N_PARAMETERS
    ratio = _explained(scalars)
    first = SCALARS.index("ring_1")
    slowest = scalars[:, first : first + N_RINGS].amin(1)
    helped = scalars[:, SCALARS.index("has_dispersion")]
    numbers = [ratio.log(), freedom.clamp_min(1).log(), slowest, kappa, helped]
    return torch.stack(numbers, 1)


def _explained(scalars):
    """Variance of a map that rotation explains, over what it leaves."""
    left = 10 ** scalars[:, SCALARS.index("log_unexplained")]
    return ((1 - left) / left).clamp_min(1e-3)


def inputs(prepared):
    """Give what the network takes of prepared maps."""
    return {"image": prepared.image, "scalars": prepared.scalars}


def layout(model, n_samples):
    """Trailing shape and unit of each column."""
    result = {name: ((), u.deg if name in ANGLES else None) for name in NAMES}
    result["latent"] = ((model.network.latent.out_features,), None)
    if n_samples:
        result["circularity_samples"] = ((n_samples,), None)
        result["position_angle_samples"] = ((n_samples,), u.deg)
    return result


def columns(outputs, prepared, maps, config):
    """Answer for each map.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave.
    prepared : `~galml.gas_kinematics.preparation.Prepared`
        What it was given.
    maps : sequence of `~galml.gas_kinematics.velocities.VelocityMap`
        Where that came from.
    config : dict
        The configuration of the model.

    Returns
    -------
    columns : dict of str to `~numpy.ndarray` or `~astropy.units.Quantity`
        The columns of the result.
    flags : `~numpy.ndarray`
        Bits of `galml.core.Flag`.
    """
    outputs = outputs | {"scalars": prepared.scalars}
    result = posterior(outputs, config["calibration"])
    angle = (prepared.angle + result["turn"]).numpy()
    position_angle = wrap_angle(angle).to_value(u.deg)
    for row, center in enumerate(prepared.center.numpy()):
        if maps[row].wcs is not None:
            turned = sky_angle(angle[row], maps[row].wcs, tuple(center))
            position_angle[row] = turned.to_value(u.deg)
    low, middle, high = result["kappa_quantiles"].numpy().astype(float).T
    tilt = result["inclination_quantiles"].numpy().astype(float)
    tilt_error = (tilt[:, 2] - tilt[:, 0]) / 2
    unknown = tilt_error > INCLINATION_LIMIT
    error = result["turn_error"].numpy().astype(float)
    values = {
        "circularity": middle,
        "circularity_err": (high - low) / 2,
        "circularity_lo": low,
        "circularity_hi": high,
        "disturbed_probability": _below_half(result["kappa"]),
        "position_angle": position_angle * u.deg,
        "position_angle_err": error * u.deg,
        "inclination": np.where(unknown, np.nan, tilt[:, 1]) * u.deg,
        "inclination_err": np.where(unknown, np.nan, tilt_error) * u.deg,
        "map_quality": result["quality"].numpy().astype(float),
        "latent": outputs["latent"].numpy().astype(float),
    }
    if "noise" in outputs:
        values |= _samples(result, outputs["noise"], position_angle, maps)
    return values, _flags(prepared, maps, error, config)


def _below_half(probability):
    """Probability that kappa is below one half."""
    below = (bin_centers(probability, 1.0) < 0.5).to(probability.dtype)
    return (probability @ below).numpy().astype(float)


def _samples(result, noise, position_angle, maps):
    """Draw circularities and position angles from their distributions."""
    kappa = histogram_quantile(result["kappa"], noise[..., 0].contiguous(), 1.0)
    size = angle_quantile(
        result["turn_concentration"],
        result["turn_log_weight"],
        noise[..., 1].contiguous(),
    )
    turn = torch.rad2deg(torch.where(noise[..., 2] < 0.5, -size, size)).numpy()
    angle = (position_angle[:, None] + turn) % 360
    return {
        "circularity_samples": kappa.numpy().astype(float),
        "position_angle_samples": angle.astype(float) * u.deg,
    }


def _flags(prepared, maps, angle_error, config):
    """Tell what happened to each map."""
    scalars = prepared.scalars.numpy()

    def scalar(name):
        return scalars[:, SCALARS.index(name)]

    low, high = np.array(config["domain"]["low"]), np.array(config["domain"]["high"])
    known = scalar("has_uncertainty") > 0
    noise = np.where(known, scalar("log_noise"), scalar("log_difference"))
    few = prepared.n_pixels.numpy()
    states = {
        Flag.OUTLIERS: prepared.n_outliers.numpy() > 0,
        Flag.TRUNCATED: [_at_edge(item.values) > EDGE_SHARE for item in maps],
        Flag.RESAMPLED: prepared.radius.numpy() < config["domain"]["radius"],
        Flag.LOW_SNR: noise > 0,
        Flag.FEW_PIXELS: few < FEW_PIXELS,
        # Zero also stands for what is not known, which training has seen.
        Flag.OUT_OF_DOMAIN: (((scalars < low) | (scalars > high)) & (scalars != 0)).any(
            1
        ),
        Flag.PA_UNDETERMINED: angle_error > 45,
        Flag.CENTER_ASSUMED: [math.isnan(item.center[0]) for item in maps],
    }
    flags = np.array([item.flags for item in maps], dtype=int)
    for bit, state in states.items():
        flags |= np.where(state, int(bit), 0)
    return flags


def _at_edge(values):
    """Share of the image's border where something was measured."""
    seen = np.isfinite(values)
    border = np.concatenate([seen[0], seen[-1], seen[1:-1, 0], seen[1:-1, -1]])
    return border.mean()
