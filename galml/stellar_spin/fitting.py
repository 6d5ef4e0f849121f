# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a model on one's own images and measured spins."""

import numpy as np
import torch

from galml.core.distributions import domain
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
from galml.core.metrics import coverage
from galml.core.networks import standardize
from galml.core.training import train
from galml.core.weights import load_model
from galml.stellar_spin import published
from galml.stellar_spin.calibration import calibrate, evaluate, interval
from galml.stellar_spin.images import problem_of, read_images
from galml.stellar_spin.light import VIEWS, prepare_images
from galml.stellar_spin.metrics import agreement
from galml.stellar_spin.network import Duckworth2020, SpinNet
from galml.stellar_spin.posterior import posterior
from galml.stellar_spin.training import (
    augment,
    augment_published,
    published_loss,
    spin_loss,
)

__all__ = ["fit", "fit_published", "fit_spin"]

#: Columns of a truth: unit and largest value.
TRUTH = {"spin": (None, 1.0), "ellipticity": (None, 1.0)}


def fit(
    cutouts,
    truth,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    model=None,
    network="spin",
    validation=0.15,
    calibration=0.15,
    name=None,
    seed=0,
    **options,
):
    """Train a model for `galml.spin` on your own images.

    Parameters
    ----------
    cutouts : object
        Images, as `galml.spin` takes them; at least 20 galaxies.
    truth : `~astropy.table.QTable` or mapping
        One row per galaxy: ``spin`` (0 to 1, such as the measured lambda_R) and, if
        known, ``ellipticity`` (0 to 1). NaN is unknown.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.spin`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"spin", "duckworth2020"}
        Architecture of a new model: the default one, or the published one of
        Duckworth et al. (2020), with its own training.
    validation, calibration : float
        Shares of the galaxies that choose the best epoch, and that make the errors
        honest; training sees neither.
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
        galaxies; ``history``, an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If there are too few usable galaxies, or truths that do not fit them.
    """
    start = None if model is None else load_model(model, "spin")
    architecture = network if start is None else start.architecture
    if architecture not in ("spin", "duckworth2020"):
        raise InputError("network", repr(architecture), "'spin' or 'duckworth2020'")
    check_shares(validation=validation, calibration=calibration)
    single, _, members = read_images(
        cutouts,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
    )
    # Prepared one by one: the images themselves may not fit into memory.
    prepare, train_on = {
        "spin": (prepare_images, fit_spin),
        "duckworth2020": (published.prepare_images, fit_published),
    }[architecture]
    rows, parts = [], []
    for member in members:
        error = problem_of(member)
        rows.append(error)
        if error is None:
            parts.append(vars(prepare([member])))
    usable = usable_members(rows, lambda e: e, is_single=single, kind="galaxies")
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    known = truth_columns(truth, len(rows), usable, TRUTH)
    columns |= {key: torch.from_numpy(v).float() for key, v in known.items()}
    splits = split_rows(len(usable), seed, validation, calibration)
    data_sets = (select(columns, part) for part in splits)
    return train_on(*data_sets, model=start, name=name, seed=seed, **options)


def fit_spin(
    data,
    validation,
    calibration,
    *,
    model=None,
    name=None,
    seed=0,
    card=None,
    settings=None,
    **options,
):
    """Train the default network on prepared images.

    Parameters
    ----------
    data, validation, calibration : dict of str to `torch.Tensor`
        As `~galml.stellar_spin.training.mock_data_set` returns them.
    model : `~galml.core.model.GalaxyModel`, optional
        Start from a copy of its weights.
    name : str, optional
        Name of the model.
    seed : int
        Seed of the initial weights and of the training.
    card : dict, optional
        More to say about the model.
    settings : dict, optional
        Of a new `~galml.stellar_spin.network.SpinNet`.
    **options
        Of `~galml.core.training.train`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.
    """
    settings = (settings or {}) if model is None else model.options
    network = network_of(SpinNet, settings, seed, model)
    if model is None:
        standardize(network, data["scalars"].float())
    options = {"epochs": 20, "weight_decay": 1e-2, "augment": augment, **options}
    training = train(
        network, spin_loss, _inputs(data), _inputs(validation), seed=seed, **options
    )
    network.eval()
    device = options.get("device", "auto")
    outputs = evaluate(network, calibration, VIEWS, device=device)
    factors = calibrate(outputs, calibration)
    result = posterior(outputs, factors)
    truth = calibration["spin"].numpy()
    figures = agreement(result["spin_mean"].numpy(), truth)
    figures["coverage"] = coverage(truth, *interval("spin", result))
    return trained_model(
        training,
        operation="spin",
        architecture="spin",
        options=settings,
        config={
            "preparation": "spin",
            "calibration": factors,
            "domain": domain(data["scalars"].float()),
        },
        card={"training_images": len(data["image"]), **(card or {})},
        figures=_finite(figures),
        name=name,
    )


def fit_published(
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
    """Train the published network on prepared images, as it was trained.

    Adam with learning rate 0.001, lowered on plateaus, in batches of 32 for 35 epochs,
    on images turned, zoomed, mirrored and shifted at random; mean squared error.

    Parameters
    ----------
    data, validation, calibration : dict of str to `torch.Tensor`
        ``image`` (n, 3, 80, 80) and ``spin`` (n,). The last set sets the one error
        that the network's results have.
    model, name, seed, card, **options
        As in `fit_spin`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.
    """
    network = network_of(Duckworth2020, {}, seed, model)
    recipe = {
        "epochs": 35,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "schedule": "plateau",
        "augment": augment_published,
    }
    parts = (_known(part) for part in (data, validation))
    training = train(network, published_loss, *parts, seed=seed, **recipe | options)
    network.eval()
    calibration = _known(calibration)
    outputs = evaluate(network, calibration, device=options.get("device", "auto"))
    guess, truth = outputs["spin"].numpy(), calibration["spin"].numpy()
    return trained_model(
        training,
        operation="spin",
        architecture="duckworth2020",
        options={},
        config={
            "preparation": "duckworth2020",
            "error": float(np.quantile(np.abs(guess - truth), 0.683)),
        },
        card={"training_images": len(data["image"]), **(card or {})},
        figures=_finite(agreement(guess, truth)),
        name=name,
    )


def _inputs(data):
    """Reduce a data set to what training takes."""
    return {key: data[key] for key in ("image", "scalars", "spin", "ellipticity")}


def _known(data):
    """Reduce a data set to images with a known spin."""
    rows = torch.isfinite(data["spin"])
    return {key: data[key][rows] for key in ("image", "spin")}


def _finite(figures):
    """Leave out figures that could not be measured."""
    return {key: value for key, value in figures.items() if np.isfinite(value)}
