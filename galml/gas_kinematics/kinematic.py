# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default system: maps to the network's inputs, its outputs to columns."""

import astropy.units as u
import numpy as np
import torch

from galml.core.distributions import bin_centers
from galml.core.exceptions import InputError, ModelError
from galml.core.flags import Flag, outside_domain, with_flags
from galml.core.geometry import sky_angle, wrap_angle
from galml.core.networks import View
from galml.core.running import grouped
from galml.gas_kinematics.posterior import angle_quantile, kappa_quantile, posterior
from galml.gas_kinematics.preparation import prepare
from galml.gas_kinematics.velocities import read_maps

__all__ = ["VIEWS", "KinematicDomain", "MapDomain", "map_problems"]

FEW_PIXELS = 24
#: Half the width of the 68 % interval beyond which a circularity tells little but what
#: all mock galaxies have in common: 0.95 of theirs (benchmarks/population_widths.py).
PRIOR_WIDTH = 0.95 * 0.27
#: An inclination that is not known better than this is not given.
INCLINATION_LIMIT = 15.0
#: Share of the border of an array with a measurement beyond which a map is truncated.
EDGE_SHARE = 0.05
COLUMNS = (
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


class MapDomain:
    """Velocity maps: a `~galml.core.domain.Domain` without its answers.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Its card says what the network is shown.

    Attributes
    ----------
    described : sequence of str
        What of the input the card has to describe.

    Raises
    ------
    galml.core.ModelError
        If the card does not say that.
    """

    operation, views, concurrent = "circularity", (), True
    described = ("grid", "parameters")

    def __init__(self, model):
        self.model, self.spec = model, model.input_spec
        if not all(getattr(self.spec, name) for name in self.described):
            raise ModelError(
                f"model {model.name!r}: card['input'] does not say what the network is "
                "shown"
            )

    def read(self, data, **options):
        """Read velocity maps and cubes, see `~.velocities.read_maps`."""
        return read_maps(data, **options)

    def problem(self, member):
        """Give for each map the error why it cannot be used, or None."""
        return map_problems(member, int(self.spec.parameters["fewest_pixels"]))

    def flags(self, answer, prepared, members):
        """Give what reading found."""
        return np.concatenate([member.flags for member in members])


class KinematicDomain(MapDomain):
    """Velocity maps, for a model of the default architecture.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Its card says what the network is shown.
    """

    views = VIEWS
    optional = ("inclination",)

    def prepare(self, members):
        """Prepare maps of any shapes, as `~.preparation.PreparedMaps`."""
        return grouped(
            members,
            lambda member: member.values.shape[1:],
            lambda parts: prepare(parts, self.spec),
        )

    def columns(self, n_samples):
        """Give trailing shape and unit of each column of the result."""
        result = {name: ((), u.deg if name in ANGLES else None) for name in COLUMNS}
        result["latent"] = ((self.model.network.latent.out_features,), None)
        if n_samples:
            result["circularity_samples"] = ((n_samples,), None)
            result["position_angle_samples"] = ((n_samples,), u.deg)
        return result

    def answer(self, outputs, prepared, members):
        """Give the columns, from what the network gave for the maps."""
        result = posterior(
            outputs | {"scalars": prepared.scalars},
            self.model.config["calibration"],
            self.spec,
        )
        angle = (prepared.angle + result["turn"]).numpy()
        position_angle = _on_the_sky(angle, prepared.center.numpy(), members)
        low, median, high = result["kappa_quantiles"].numpy().astype(float).T
        tilt = result["inclination_quantiles"].numpy().astype(float)
        tilt_error = (tilt[:, 2] - tilt[:, 0]) / 2
        unknown = tilt_error > INCLINATION_LIMIT
        columns = {
            "circularity": median,
            "circularity_err": (high - low) / 2,
            "circularity_lo": low,
            "circularity_hi": high,
            "disturbed_probability": _below_half(result["kappa"]),
            "position_angle": position_angle * u.deg,
            "position_angle_err": result["turn_error"].numpy().astype(float) * u.deg,
            "inclination": np.where(unknown, np.nan, tilt[:, 1]) * u.deg,
            "inclination_err": np.where(unknown, np.nan, tilt_error) * u.deg,
            "map_quality": result["quality"].numpy().astype(float),
            "latent": outputs["latent"].numpy().astype(float),
        }
        if "noise" in outputs:
            columns |= _samples(result, outputs["noise"], position_angle)
        return columns

    def centers(self, prepared, members):
        """Give the pixel (x, y) of each galaxy."""
        return prepared.center.numpy()

    def flags(self, answer, prepared, members):
        """Give the bits of `galml.core.Flag` of each map."""
        domain = self.model.config["domain"]
        scalars = prepared.scalars.numpy()

        def scalar(name):
            return scalars[:, self.spec.scalars.index(name)]

        known = scalar("has_uncertainty") > 0
        noise = np.where(known, scalar("log_noise"), scalar("log_difference"))
        center = np.concatenate([member.center for member in members])
        beam = np.concatenate([member.beam for member in members])
        blurred = beam > 2 * prepared.radius.numpy()
        states = {
            Flag.OUTLIERS: prepared.n_outliers.numpy() > 0,
            Flag.TRUNCATED: prepared.at_edge.numpy() > EDGE_SHARE,
            Flag.RESAMPLED: prepared.radius.numpy() < domain["radius"],
            Flag.LOW_SNR: noise > 0,
            Flag.FEW_PIXELS: prepared.n_pixels.numpy() < FEW_PIXELS,
            Flag.OUT_OF_DOMAIN: outside_domain(scalars, domain) | blurred,
            Flag.PA_UNDETERMINED: answer["position_angle_err"] > 45 * u.deg,
            Flag.CENTER_ASSUMED: np.isnan(center[:, 0]),
            Flag.PRIOR_DOMINATED: answer["circularity_err"] > PRIOR_WIDTH,
        }
        return with_flags(super().flags(answer, prepared, members), states)


def map_problems(member, fewest_pixels):
    """Tell why maps cannot be used.

    Parameters
    ----------
    member : `~galml.gas_kinematics.velocities.VelocityMaps`
        The maps.
    fewest_pixels : int
        Fewest pixels that must have been measured.

    Returns
    -------
    list of Exception or None
        One for each map; None for a map that can be used.
    """
    errors = list(member.errors)
    values = member.values.reshape(len(member), -1)
    count = np.isfinite(values).sum(axis=1)
    # What is not a number never compares, so these are of what was measured.
    lowest, highest = (
        function(values, axis=1, initial=start)
        for function, start in ((np.fmin.reduce, np.inf), (np.fmax.reduce, -np.inf))
    )
    for row in np.flatnonzero((count < fewest_pixels) | (lowest >= highest)):
        if errors[row] is not None:
            continue
        if count[row] < fewest_pixels:
            got = f"a map with {count[row]} measured pixels"
            errors[row] = InputError("data", got, f"at least {fewest_pixels}")
        else:
            got = f"a map of {lowest[row]:g} km / s everywhere"
            errors[row] = InputError("data", got, "velocities that differ")
    return errors


def _on_the_sky(angle, centers, members):
    """Position angles in degrees: on the sky where there is a WCS."""
    position_angle = wrap_angle(angle).to_value(u.deg)
    row = 0
    for member in members:
        for place in range(len(member)):
            wcs = member.wcs_of(place)
            if wcs is not None:
                turned = sky_angle(angle[row], wcs, tuple(centers[row]))
                position_angle[row] = turned.to_value(u.deg)
            row += 1
    return position_angle


def _below_half(probability):
    """Probability that kappa is below one half, which is half way on its scale."""
    below = (bin_centers(probability, 1.0) < 0.5).to(probability.dtype)
    return (probability @ below).numpy().astype(float)


def _samples(result, noise, position_angle):
    """Draw circularities and position angles from their distributions."""
    kappa = kappa_quantile(result["kappa"], noise[..., 0].contiguous())
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
