# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a flow on one's own stars."""

import dataclasses
import os
import warnings

import numpy as np
import torch

from galml.core.exceptions import GalmlWarning, InputError, ModelError
from galml.core.fitting import (
    check_shares,
    network_of,
    select,
    split_rows,
    trained_model,
)
from galml.core.model import find_network
from galml.core.training import train
from galml.core.weights import load_model
from galml.stars.columns import AGE_OF_UNIVERSE, AXES
from galml.stars.conditions import CONDITIONS
from galml.stars.encoder import ENCODERS, reconstruction_loss
from galml.stars.training import Augmentation, StarLoss
from galml.stars.training_set import read_training_set

__all__ = ["fit", "fit_flow", "train_encoder"]

#: Architectures that see stars whitened, and the plane in radius and azimuth.
OURS = ("coupling", "mixture")
#: Kinds of axes that have bounds.
BOUNDED = {
    "metal_mass_fraction": ["interval", 0.0, 1.0],
    "age": ["interval", 0.0, AGE_OF_UNIVERSE],
}
#: Axes with far outliers.
OUTLYING = ("x", "y", "z", "v_x", "v_y", "v_z")
PLANE = ("x", "y", "v_x", "v_y")
NORMAL_TO_PLANE = ("z", "v_z")

#: Fewer galaxies than this are all trained on: validation is by stars.
FEWEST_GALAXIES = 5
FEWEST_STARS = 20


def fit(
    stars,
    conditions=None,
    *,
    axes=None,
    network="coupling",
    model=None,
    options=None,
    encoder=None,
    axisymmetric=None,
    smoothing=0.05,
    stars_per_galaxy=None,
    validation=0.1,
    name=None,
    seed=0,
    card=None,
    **training,
):
    """
    Train a model for `galml.sample_stars` and `galml.star_log_prob`.

    Parameters
    ----------
    stars : `~astropy.table.QTable` or sequence of them
        One row for each star, with the columns of ``axes`` and, for several galaxies,
        ``galaxy_id``; or one table for each galaxy. Stars of which something is
        unknown, or which are out of bounds, are left out.
    conditions : `~astropy.table.QTable`, optional
        One row for each galaxy, see `galml.sample_stars`, and ``galaxy_id`` where the
        stars are in one table. None for a model without conditions.
    axes : sequence of str, optional
        Columns to model; by default the ten of `galml.stars.columns.AXES`. Any other
        column of numbers may be among them.
    network : str, optional
        Architecture of a new model: "coupling", the default; "mixture", the same from
        a mixture of Gaussians, for few stars; or a published one, "galacticflow",
        "maf", "nice", "nsf" or "sospf".
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights, axes and scales of this model instead. It is not
        changed.
    options : dict, optional
        Of the new network, see its class in `galml.stars.network`.
    encoder : {"small", "galacticforge"}, optional
        Train an autoencoder on the column ``image`` of ``conditions`` first. Its
        latents become conditions that galaxies may lack; so does a column ``latent``,
        without an encoder.
    axisymmetric : bool, optional
        Whether galaxies look the same from all directions of the plane, and from above
        and below. Our networks then have no preferred direction, published ones see
        the stars turned by random angles. By default so for ours, where there are
        conditions.
    smoothing : float, optional
        Spread of the noise that is added to the conditions in training, in units of
        theirs. It lets few galaxies speak for those between them.
    stars_per_galaxy : int, optional
        Train on no more than this number of stars of each galaxy, taken at random.
    validation : float, optional
        Share of the galaxies that choose the best epoch, without being trained on;
        share of the stars where there are fewer than 5 galaxies.
    name : str, optional
        Name of the model.
    seed : int, optional
        Seed of the split, of the initial weights and of the training.
    card : dict, optional
        More to say about the model.
    **training
        Of `~galml.core.training.train`: ``epochs`` (default 20), ``batch_size``
        (1024), ``learning_rate`` (0.001), ``device``, ``checkpoint``, ``progress``...

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the mean log-likelihood of a validation star; ``history``,
        an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If columns are missing or cannot be used, stars and conditions do not belong
        together, or there are too few stars.
    galml.core.ModelError
        If the network is unknown or its options are.
    """
    check_shares(validation=validation)
    if not smoothing >= 0:
        raise InputError("smoothing", repr(smoothing), "a number of at least 0")
    start = None if model is None else load_model(model, "stars")
    if start is not None:
        network, axes = start.architecture, [a["name"] for a in start.config["axes"]]
        if start.config.get("standardized"):
            raise ModelError(f"{start.name}: in standardized units, cannot be trained")
    find_network("stars", network)
    if encoder not in (None, *ENCODERS):
        raise InputError("encoder", repr(encoder), f"None or one of {[*ENCODERS]}")
    axes = tuple(AXES) if axes is None else axes
    data = read_training_set(stars, conditions, axes, start)
    return fit_flow(
        data,
        model=start,
        network=network,
        options=options,
        encoder=encoder,
        axisymmetric=axisymmetric,
        smoothing=smoothing,
        stars_per_galaxy=stars_per_galaxy,
        validation=validation,
        name=name,
        seed=seed,
        card=card,
        **training,
    )


def fit_flow(
    data,
    *,
    model=None,
    network="coupling",
    options=None,
    encoder=None,
    axisymmetric=None,
    smoothing=0.05,
    stars_per_galaxy=None,
    validation=0.1,
    name=None,
    seed=0,
    card=None,
    **training,
):
    """
    Train a flow on stars that are read already.

    Parameters
    ----------
    data : `~galml.stars.training_set.TrainingSet`
        Stars, galaxies and conditions.
    model : `~galml.core.model.GalaxyModel`, optional
        Start from its weights and scales.
    network, options, axisymmetric, smoothing, stars_per_galaxy, validation, name, seed
        See `fit`.
    encoder : str, optional
        See `fit`; the data set has images then.
    card : dict, optional
        More to say about the model.
    **training
        Of `~galml.core.training.train`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.
    """
    training = {"epochs": 20, "batch_size": 1024, **training}
    by_galaxy, train_rows, validation_rows = _split(data, validation, seed)
    if encoder is not None and model is None:
        trained = train_encoder(data, encoder, validation, seed=seed, **training)
        data = _with_latents(data, trained)
    if axisymmetric is None:
        axisymmetric = network in OURS and data.contexts is not None
    if model is not None:
        network, settings = model.architecture, model.options
    else:
        settings = _settings(data, network, axisymmetric, encoder) | (options or {})
    flow = _new(find_network("stars", network), settings, seed, model)
    if model is None and encoder is not None:
        flow.encoder.load_state_dict(trained.state_dict())
    stars = {"stars": data.stars, "galaxy": data.galaxy}
    parts = [
        _within(flow, select(stars, rows), stars_per_galaxy, seed)
        for rows in (train_rows, validation_rows)
    ]
    if model is None:
        seen = parts[0]
        flow.fit_scaling(seen["stars"], data.contexts, seen["galaxy"])
    contexts = None if data.contexts is None else data.contexts.float()
    augment = _augmentation(flow, data, axisymmetric, smoothing)
    result = train(
        flow, StarLoss(contexts), *parts, seed=seed, augment=augment, **training
    )
    flow.eval()
    loss = result.history["validation_loss"][result.best_epoch]
    told = {
        "training_stars": len(parts[0]["stars"]),
        "training_galaxies": len(parts[0]["galaxy"].unique()),
        "validation": "galaxies" if by_galaxy else "stars",
    }
    return trained_model(
        result,
        operation="stars",
        architecture=network,
        options=settings,
        config=_config(data, settings["kinds"]) if model is None else model.config,
        card=told | (card or {}),
        figures={"log_prob": -float(loss)},
        name=name,
    )


def train_encoder(data, encoder, validation, *, seed=0, epochs, **training):
    """
    Train an autoencoder on the images of galaxies.

    Parameters
    ----------
    data : `~galml.stars.training_set.TrainingSet`
        With images.
    encoder : str
        One of `~galml.stars.encoder.ENCODERS`.
    validation : float
        Share of the images that choose the best epoch.
    seed : int, optional
        Seed of weights and training.
    epochs : int
        Epochs of the flow; the encoder's are 10 times as many, of fewer images.
    **training
        Of the training of the flow, from which device, checkpoint (with the suffix
        ".encoder") and progress are taken.

    Returns
    -------
    `torch.nn.Module`
        The autoencoder.

    Raises
    ------
    galml.core.InputError
        If there are fewer than 5 images.
    """
    from galml.stars.images import prepare_images

    if data.images is None:
        raise InputError("conditions", "no column 'image'", "images for the encoder")
    if data.latent:
        raise InputError("conditions", "images and latents", "one of them")
    network = network_of(ENCODERS[encoder], {}, seed)
    images, errors = prepare_images(data.images, network.pixels)
    images = images[~images.isnan().flatten(1).any(1)]
    if len(images) < FEWEST_GALAXIES:
        got = f"{len(images)} usable images {[*errors.values()][:1]}"
        raise InputError("conditions['image']", got, f"at least {FEWEST_GALAXIES}")
    parts = (
        select({"image": images}, rows)
        for rows in split_rows(len(images), seed, validation)
    )
    kept = {k: v for k, v in training.items() if k in ("device", "progress")}
    if training.get("checkpoint") is not None:
        kept["checkpoint"] = f"{os.fspath(training['checkpoint'])}.encoder"
    epochs, batch_size = 10 * epochs, 16
    train(
        network,
        reconstruction_loss,
        *parts,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        **kept,
    )
    return network.eval()


def _with_latents(data, encoder):
    """Give the data set the latents of its images."""
    from galml.stars.images import encode_images

    latent = torch.from_numpy(encode_images(data.images, encoder)[0])
    contexts = torch.cat((data.contexts, latent), 1)
    return dataclasses.replace(data, contexts=contexts, latent=latent.shape[1])


def _new(kind, settings, seed, model):
    """Make the flow; wrong options are an error of the model's."""
    try:
        return network_of(kind, settings, seed, model)
    except TypeError as error:
        raise ModelError(f"options: {error}") from error


def _settings(data, network, axisymmetric, encoder):
    """Arguments of a new flow."""
    ours, names = network in OURS, list(data.axes)
    outlying = OUTLYING if ours else ()
    settings = {
        "features": len(names),
        "context": data.n_conditions,
        "kinds": [
            BOUNDED.get(n, "asinh" if n in outlying else "linear") for n in names
        ],
        "latent": data.latent,
        "encoder": encoder,
        "whiten": ours,
    }
    if ours and axisymmetric and set(PLANE) <= set(names):
        settings["cylinder"] = [names.index(n) for n in PLANE]
    return settings


def _config(data, kinds):
    """Tell what a model needs beside its network: axes, ranges of the conditions."""
    low, high = ([], []) if data.contexts is None else data.contexts.aminmax(dim=0)
    return {
        "axes": [
            {"name": name, "unit": unit.to_string(), "kind": kind}
            for (name, unit), kind in zip(data.axes.items(), kinds, strict=True)
        ],
        "conditions": [
            {"name": name, "lo": float(lo), "hi": float(hi)}
            for name, lo, hi in zip(
                CONDITIONS[: data.n_conditions], low, high, strict=False
            )
        ],
    }


def _split(data, validation, seed):
    """Split the stars by galaxy where there are several, else by star."""
    galaxies = data.galaxy.unique()
    by_galaxy = len(galaxies) >= FEWEST_GALAXIES
    if len(data.stars) < FEWEST_STARS:
        got = f"{len(data.stars)} usable stars"
        raise InputError("stars", got, f"at least {FEWEST_STARS}")
    if not by_galaxy:
        return by_galaxy, *split_rows(len(data.stars), seed, validation)
    parts = split_rows(len(galaxies), seed, validation)
    kept, left = (galaxies[rows] for rows in parts)
    return by_galaxy, *(torch.isin(data.galaxy, part) for part in (kept, left))


def _within(flow, stars, most, seed):
    """Leave out stars beyond the bounds, and those beyond a number of a galaxy."""
    inside = flow.scaling.inside(stars["stars"])
    if not inside.all():
        message = f"{(~inside).sum()} of {len(inside)} stars are out of bounds"
        warnings.warn(f"{message}; they are left out", GalmlWarning, stacklevel=4)
        stars = select(stars, inside)
    if most is None:
        return stars
    (order,) = split_rows(len(stars["stars"]), seed)
    galaxy = stars["galaxy"][order].numpy()
    grouped = np.argsort(galaxy, kind="stable")
    _, first, counts = np.unique(galaxy[grouped], return_index=True, return_counts=True)
    number = np.arange(len(galaxy)) - np.repeat(first, counts)
    return select(stars, order[torch.from_numpy(grouped[number < most])])


def _augmentation(flow, data, axisymmetric, smoothing):
    """Make what training changes at random about the stars, if anything."""
    names, turned, mirrored, jitter = list(data.axes), (), (), None
    if axisymmetric and set(PLANE) <= set(names) and flow.scaling.cylinder is None:
        turned = [names.index(n) for n in PLANE]
    if axisymmetric and set(NORMAL_TO_PLANE) <= set(names):
        mirrored = [names.index(n) for n in NORMAL_TO_PLANE]
    if data.contexts is not None and (smoothing or data.latent):
        jitter = smoothing * flow.context_scale.clone()
    return Augmentation(turned, mirrored, jitter, data.latent) or None
