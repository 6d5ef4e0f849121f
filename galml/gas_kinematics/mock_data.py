# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mock velocity maps as data sets to train on and to be judged by."""

import math

import torch

from galml.gas_kinematics.harmonic import fit_harmonics
from galml.gas_kinematics.preparation import INPUT, prepare
from galml.gas_kinematics.velocities import VelocityMaps
from galml.mocks import gas_maps
from galml.mocks.gas_recipe import PLAIN_SHARE
from galml.physics import generator_for

__all__ = [
    "BEAM_SCALARS",
    "DISPERSION_SCALARS",
    "UNCERTAINTY_SCALARS",
    "augment",
    "kinematic_angle",
    "mock_data_set",
    "withhold",
    "wrap_radians",
]

#: Scalars that are zero where their source is unknown.
DISPERSION_SCALARS = ("has_dispersion", "log_dispersion", "dispersion_gradient")
BEAM_SCALARS = ("has_beam", "log_beams_across")
UNCERTAINTY_SCALARS = ("has_uncertainty", "log_noise")


def mock_data_set(
    n_batches,
    *,
    seed,
    noisy=None,
    tracer=None,
    plain=PLAIN_SHARE,
    first=0,
    spec=INPUT,
):
    """Prepare mocks as the network is shown them, beside their truth.

    Half of the maps come with a center that is right to a quarter of the beam; of the
    others it is the centroid of the mask.

    Parameters
    ----------
    n_batches, seed, noisy, tracer, plain, first
        As in `galml.mocks.gas_maps`.
    spec : `~galml.core.model.InputSpec`
        What the network is shown.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, channels, ny, nx) in float16, ``scalars`` (n, scalars), and of
        shape (n,): ``angle`` (degrees, the classical estimate), ``residual_angle``
        (radians, the axis of the spin from the classical angle),
        ``residual_kinematic`` (the same of the `kinematic_angle`), ``kappa``,
        ``kappa_co``,
        ``inclination`` (degrees), ``sigma_over_v``, ``snr``, ``beams_across``,
        ``stars``.
    """
    columns = {}
    options = {"noisy": noisy, "tracer": tracer, "plain": plain, "first": first}
    batches = gas_maps(n_batches, seed=seed, **options)
    for index, (_, maps) in enumerate(batches, start=first):
        generator = generator_for(seed, "centers of gas maps", index)
        offset = torch.randn(len(maps), 2, generator=generator)
        center = maps.center + 0.25 * maps.beam[:, None] * offset
        known = torch.rand(len(maps), 1, generator=generator) < 0.5
        observed = VelocityMaps(
            values=maps.velocity.numpy(),
            dispersion=maps.dispersion.numpy(),
            std=maps.uncertainty.numpy(),
            center=torch.where(known, center, torch.nan).double().numpy(),
            beam=maps.beam.double().numpy(),
            stars=maps.stars.numpy(),
        )
        prepared = prepare([observed], spec)
        residual, kinematic = (
            wrap_radians(torch.deg2rad(angle - prepared.angle).float())
            for angle in (maps.truth.position_angle, kinematic_angle(maps.ideal))
        )
        row = {
            "image": prepared.image.half(),
            "scalars": prepared.scalars,
            "angle": prepared.angle.float(),
            "residual_angle": residual,
            "residual_kinematic": kinematic,
            "kappa": maps.truth.kappa,
            "kappa_co": maps.truth.kappa_co,
            "inclination": maps.truth.inclination,
            "snr": maps.snr,
            "sigma_over_v": maps.truth.sigma_over_v,
            "beams_across": maps.beams_across,
            "stars": maps.stars,
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: torch.cat(parts) for key, parts in columns.items()}


def kinematic_angle(ideal):
    """Fit position angles to velocities that are seen without noise, beam or gaps.

    Parameters
    ----------
    ideal : `torch.Tensor`
        Shape (n, size, size), as `~galml.mocks.GasMaps` has them.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), degrees: receding side, counter-clockwise from +y.
    """
    weight = torch.isfinite(ideal).double()
    return torch.rad2deg(fit_harmonics(ideal.double().nan_to_num(0.0), weight).angle)


def augment(batch, generator, spec=INPUT):
    """Mirror maps, reverse their rotation, and withhold what a user may not know.

    Seen from behind, receding sides approach: flipping y together with the sign of the
    velocities leaves the receding side up, and reverses the residual angle.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        As `mock_data_set` gives it; it is not changed.
    generator : `torch.Generator`
        Of the random numbers.
    spec : `~galml.core.model.InputSpec`
        What the network is shown.

    Returns
    -------
    dict of str to `torch.Tensor`
        The batch with other ``image``, ``scalars`` and ``residual_angle``.
    """
    device = batch["image"].device
    count = len(batch["image"])

    def chance(probability):
        draw = torch.rand(count, generator=generator, device=device)
        return draw < probability

    image, angle = batch["image"].clone(), batch["residual_angle"]
    mirrored, behind = chance(0.5), chance(0.5)
    image[mirrored] = image[mirrored].flip(-1)
    image[behind] = image[behind].flip(-2)
    velocity = spec.channels.index("velocity")
    image[behind, velocity] = -image[behind, velocity]
    angle = torch.where(mirrored ^ behind, -angle, angle)
    changed = batch | {"image": image, "residual_angle": angle}
    for share, names in (
        (0.5, DISPERSION_SCALARS),
        (0.3, BEAM_SCALARS),
        (0.4, UNCERTAINTY_SCALARS),
    ):
        changed = withhold(changed, names, spec, chance(share))
    return changed


def withhold(data, names, spec=INPUT, rows=slice(None)):
    """Take numbers, and with them the dispersion map, away from prepared maps.

    Parameters
    ----------
    data : dict of str to `torch.Tensor`
        ``image`` and ``scalars``, among others; they are not changed.
    names : sequence of str
        Scalars that are not known.
    spec : `~galml.core.model.InputSpec`
        What the network is shown.
    rows : slice or `torch.Tensor`
        Of which maps; of all by default.

    Returns
    -------
    dict of str to `torch.Tensor`
        With zeros in their place.
    """
    image, scalars = data["image"], data["scalars"].clone()
    for name in names:
        scalars[rows, spec.scalars.index(name)] = 0
    if set(DISPERSION_SCALARS) <= set(names):
        image = image.clone()
        image[rows, spec.channels.index("dispersion")] = 0
    return data | {"image": image, "scalars": scalars}


def wrap_radians(angle):
    """Bring angles to -pi to pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
