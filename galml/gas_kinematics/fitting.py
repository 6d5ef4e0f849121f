# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a model on one's own maps."""

from functools import partial

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.fitting import (
    check_shares,
    network_of,
    select,
    split_rows,
    trained_model,
    truth_columns,
    usable_members,
)
from galml.core.geometry import pixel_angle
from galml.core.training import train
from galml.core.weights import load_model
from galml.gas_kinematics import published
from galml.gas_kinematics.autoencoder import MerlinAutoencoder
from galml.gas_kinematics.calibration import calibrate, domain, evaluate
from galml.gas_kinematics.kinematic import posterior, prepare_maps
from galml.gas_kinematics.network import KinematicNet
from galml.gas_kinematics.operation import SYSTEMS, problem_of, read_maps
from galml.gas_kinematics.training import (
    augment,
    autoencoder_loss,
    kinematic_loss,
    standardize,
)

__all__ = ["fit", "fit_autoencoder", "fit_kinematic"]

#: Columns of a truth: unit and largest value.
TRUTH = {
    "circularity": (None, 1.0),
    "position_angle": (u.deg, None),
    "inclination": (u.deg, 90.0),
}


def fit(
    data,
    truth=None,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    unit=None,
    hdu=None,
    model=None,
    network="kinematic",
    validation=0.15,
    calibration=0.15,
    name=None,
    seed=0,
    **options,
):
    """Train a model for `galml.circularity` on your own velocity maps.

    Parameters
    ----------
    data : object
        Velocity maps, as `galml.circularity` takes them; at least 20.
    truth : `~astropy.table.QTable` or mapping, optional
        One row per map: ``circularity`` (0 to 1), and if known ``position_angle``
        (an angle, to the receding side, in the convention of the results) and
        ``inclination`` (an angle, 0 to 90 degrees). NaN is unknown. The published
        autoencoder learns without.
    dispersion, center, redshift, beam, unit, hdu
        As in `galml.circularity`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"kinematic", "merlin"}
        Architecture of a new model: the default one, or the published autoencoder
        of Dawson et al. (2020), MNRAS 491, 2506.
    validation, calibration : float
        Shares of the maps that choose the best epoch, and that make the errors
        honest; training sees neither. The autoencoder needs no calibration.
    name : str, optional
        Name of the model.
    seed : int
        Seed of the split and of the training.
    **options
        Of `~galml.core.training.train`: ``epochs``, ``batch_size``,
        ``learning_rate``, ``patience``, ``device``, ``checkpoint``, ``progress``...

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the training and the figures measured on the calibration
        maps; ``history``, an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If there are too few usable maps, or truths that do not fit them.
    """
    start = None if model is None else load_model(model, "circularity")
    architecture = network if start is None else start.architecture
    if architecture not in ("kinematic", "merlin"):
        raise InputError("network", repr(architecture), "'kinematic' or 'merlin'")
    check_shares(validation=validation, calibration=calibration)
    single, _, members = read_maps(
        data,
        dispersion=dispersion,
        center=center,
        redshift=redshift,
        beam=beam,
        unit=unit,
        hdu=hdu,
    )
    members = list(members)
    problem = partial(problem_of, min_pixels=SYSTEMS[architecture].MIN_PIXELS)
    usable = usable_members(members, problem, is_single=single, kind="maps")
    maps = [members[i] for i in usable]
    common = {"model": start, "name": name, "seed": seed, **options}
    if architecture == "merlin":
        columns = published.prepare(maps)
        if truth is not None:
            known = truth_columns(truth, len(members), usable, TRUTH)
            columns |= _latent_truth(maps, known)
        parts = split_rows(len(maps), seed, validation)
        return fit_autoencoder(*(select(columns, rows) for rows in parts), **common)
    if truth is None:
        raise InputError("truth", "None", "a table with a column circularity")
    known = truth_columns(truth, len(members), usable, TRUTH)
    columns = _data_set(maps, known)
    parts = split_rows(len(maps), seed, validation, calibration)
    return fit_kinematic(*(select(columns, rows) for rows in parts), **common)


def _image_angles(position_angle, maps, centers):
    """Position angles on the sky as image angles in degrees."""
    rows = zip(position_angle, maps, centers, strict=True)
    angles = [pixel_angle(pa, m.wcs, tuple(c)).to_value(u.deg) for pa, m, c in rows]
    return np.array(angles)


def _latent_truth(maps, truth):
    """Truths as `fit_autoencoder` takes them."""
    middles = [published.middle(item.values.shape) for item in maps]
    angle = _image_angles(truth["position_angle"], maps, middles)
    return {
        "kappa": torch.from_numpy(truth["circularity"]),
        "angle": torch.from_numpy(angle),
    }


def _data_set(maps, truth):
    """Give prepared maps beside their truth, as `fit_kinematic` takes them."""
    prepared = prepare_maps(maps)
    centers = prepared.center.numpy()
    angle = _image_angles(truth["position_angle"], maps, centers)
    left = np.radians(angle - prepared.angle.numpy())
    columns = {
        "kappa": truth["circularity"],
        "left": np.arctan2(np.sin(left), np.cos(left)),
        "inclination": truth["inclination"],
    }
    columns = {k: torch.from_numpy(v).float() for k, v in columns.items()}
    return columns | {"image": prepared.image, "scalars": prepared.scalars}


def fit_kinematic(
    data,
    validation,
    calibration,
    *,
    model=None,
    name=None,
    seed=0,
    card=None,
    **options,
):
    """Train the default network on prepared maps.

    Parameters
    ----------
    data, validation, calibration : dict of str to `torch.Tensor`
        As `~galml.gas_kinematics.training.mock_data_set` returns them.
    model : `~galml.core.model.GalaxyModel`, optional
        Start from a copy of its weights.
    name : str, optional
        Name of the model.
    seed : int
        Seed of the initial weights and of the training.
    card : dict, optional
        More to say about the model.
    **options
        Of `~galml.core.training.train`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.
    """
    settings = {} if model is None else model.options
    network = network_of(KinematicNet, settings, seed, model)
    if model is None:
        standardize(network, data["scalars"].float())
    options = {"epochs": 20, "weight_decay": 1e-2, **options}
    training = train(
        network, kinematic_loss, data, validation, augment=augment, seed=seed, **options
    )
    network.eval()
    outputs = evaluate(network, calibration, device=options.get("device", "auto"))
    factors = calibrate(outputs, calibration)
    config = {
        "preparation": "kinematic",
        "calibration": factors,
        "domain": domain(data["scalars"]),
    }
    figures = _figures(posterior(outputs, factors), calibration)
    return trained_model(
        training,
        operation="circularity",
        architecture="kinematic",
        options=settings,
        config=config,
        card={"training_maps": len(data["image"]), **(card or {})},
        figures=figures,
        name=name,
    )


def _figures(result, data):
    """Figures measured on the calibration maps, for the card."""
    error = (result["kappa_quantiles"][:, 1] - data["kappa"]).abs()
    turn = torch.rad2deg(data["left"]) - result["turn"]
    turn = ((turn + 180) % 360 - 180).abs()
    values = {"circularity_68": error, "position_angle_68_deg": turn}
    return {
        key: float(np.nanquantile(value.numpy(), 0.68))
        for key, value in values.items()
        if torch.isfinite(value).any()
    }


def fit_autoencoder(data, validation, *, model=None, name=None, seed=0, **options):
    """Train the published autoencoder on prepared maps.

    It learns to reconstruct the maps. Where truths come along, they set the boundary
    between its classes and the direction where its latent angle is zero.

    Parameters
    ----------
    data, validation : dict of str to `torch.Tensor`
        ``image``, as `galml.gas_kinematics.published.prepare` returns it; in ``data``
        also ``kappa`` and ``angle`` (degrees, counter-clockwise from +y) if known.
    model, name, seed, **options
        As in `fit_kinematic`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Without truths it gives latents but no classes.
    """
    network = network_of(MerlinAutoencoder, {}, seed, model)
    options = {"epochs": 300, **options}
    images = {"image": data["image"]}
    training = train(
        network, autoencoder_loss, images, validation, seed=seed, **options
    )
    network.eval()
    with torch.no_grad():
        parts = data["image"].float().split(1024)
        latents = torch.cat([network.encode(part) for part in parts]).double()
    config = {"preparation": "merlin"} | published.latent_plane(
        latents.numpy(), data.get("kappa"), data.get("angle")
    )
    return trained_model(
        training,
        operation="circularity",
        architecture="merlin",
        options={},
        config=config,
        card={"training_maps": len(data["image"])},
        figures={},
        name=name,
    )
