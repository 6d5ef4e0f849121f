# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one way to a trained model, for the objects of any domain."""

import copy
import warnings
from collections.abc import Mapping
from typing import Protocol

import astropy.units as u
import numpy as np
import torch

from galml.core.domain import find_architecture, find_domain, find_object
from galml.core.exceptions import (
    GalmlWarning,
    InputError,
    InputTypeError,
    InputUnitError,
    ModelError,
)
from galml.core.inference import infer
from galml.core.model import GalaxyModel
from galml.core.running import chunks
from galml.core.training import train
from galml.core.weights import load_model
from galml.physics import fresh_seed

__all__ = [
    "Recipe",
    "answered",
    "check_number",
    "check_shares",
    "column_numbers",
    "data_set",
    "evaluate",
    "fit",
    "fit_prepared",
    "new_network",
    "read_truth",
    "recipe_of",
    "select",
    "split_rows",
    "trained_model",
    "truth_names",
    "untrained_model",
    "valid_range",
]

#: What networks take when they answer.
ANSWERED = ("image", "scalars", "surroundings")
#: Fewest objects that can be trained on.
FEWEST = 20
#: Quantiles of the numbers that training has seen, and the share of their range beyond
#: these, between which a number is inside of the domain of validity.
RANGE = (0.0005, 0.9995)
MARGIN = 0.05


class Recipe(Protocol):
    """How networks of one architecture are trained.

    Attributes
    ----------
    operation, architecture : str
        As in `~galml.core.model.GalaxyModel`.
    input_spec : `~galml.core.model.InputSpec`
        What a new network is shown.
    kind : str
        What the objects are called, in the plural.
    truth : dict of str to tuple
        For each column of the truth its unit (None for a plain number) and largest
        value (None for any); the first column is needed.
    needs_truth, needs_calibration : bool
        Whether there is no training without truths, and whether a part of the objects
        is set aside for the calibration.
    training : dict
        Keywords of `~galml.core.training.train`, where the user gives none.
    asked : dict, optional
        What the domain is made for beside the model.
    """

    def start(self, network, data):
        """Set what a new network must know of the data before the training."""

    def targets(self, truth, prepared, members):
        """Give the tensors that stand for the truth of prepared members."""

    def columns(self, data):
        """Reduce a data set to what the training takes."""

    def loss(self, network, batch):
        """Give the loss of a batch."""

    def calibrate(self, model, data, calibration, *, device):
        """Give configuration, and figures measured on the calibration set."""


def fit(
    recipe,
    data,
    truth,
    options,
    *,
    model=None,
    settings=None,
    validation=0.15,
    calibration=0.15,
    name=None,
    seed=0,
    **training,
):
    """Train or fine-tune a model on a user's objects.

    Parameters
    ----------
    recipe : `Recipe`
        How.
    data : object
        What the operation takes; at least 20 objects.
    truth : `~astropy.table.QTable`, mapping or None
        One row per object.
    options : dict
        Keywords with which the domain reads the data.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Whose weights to start from. It is not changed.
    settings : dict, optional
        Arguments of a new network.
    validation, calibration : float
        Shares of the objects that choose the best epoch, and that make the errors
        right; training sees neither.
    name : str, optional
        Name of the model.
    seed : int or None
        Seed of the split, the initial weights and the training; None draws a fresh one.
        It stands in the card.
    **training
        Keywords of `~galml.core.training.train`; those that are None are the recipe's.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.

    Raises
    ------
    galml.core.InputError
        If there are too few usable objects, or truths that do not fit them.
    """
    seed = fresh_seed() if seed is None else seed
    shares = {"validation": validation}
    if recipe.needs_calibration:
        shares["calibration"] = calibration
    check_shares(**shares)
    if model is None:
        start = untrained_model(recipe, settings, seed)
    else:
        start = load_model(model, recipe.operation)
    if truth is None and recipe.needs_truth:
        needed = next(iter(recipe.truth))
        raise InputError("truth", "None", f"a table with a column {needed}")
    domain = find_domain(start, **getattr(recipe, "asked", {}))
    source = domain.read(data, **options)
    columns, _ = data_set(domain, source, kind=recipe.kind, recipe=recipe, truth=truth)
    count = len(next(iter(columns.values())))
    parts = [
        select(columns, rows) for rows in split_rows(count, seed, *shares.values())
    ]
    return fit_prepared(
        recipe,
        *parts,
        model=None if model is None else start,
        settings=settings,
        name=name,
        seed=seed,
        **training,
    )


def fit_prepared(
    recipe,
    data,
    validation,
    calibration=None,
    *,
    model=None,
    settings=None,
    name=None,
    seed=0,
    card=None,
    **training,
):
    """Train a network on objects that are prepared.

    Parameters
    ----------
    recipe : `Recipe`
        How.
    data, validation, calibration : dict of str to `torch.Tensor`
        Prepared objects beside their truth, as the domain's mocks give them.
    model : `~galml.core.model.GalaxyModel`, optional
        Start from a copy of its weights, and show what it was shown.
    settings : dict, optional
        Arguments of a new network.
    name : str, optional
        Name of the model.
    seed : int
        Seed of the initial weights and of the training.
    card : dict, optional
        More to say about the model.
    **training
        Keywords of `~galml.core.training.train`; those that are None are the recipe's.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the training and the figures; ``history``, an attribute, is
        the table of epochs.
    """
    if model is None:
        start = untrained_model(recipe, settings, seed)
        recipe.start(start.network, data)
    else:
        start = model
    network = copy.deepcopy(start.network)
    given = {key: value for key, value in training.items() if value is not None}
    keywords = {**recipe.training, **given}
    result = train(
        network,
        recipe.loss,
        recipe.columns(data),
        recipe.columns(validation),
        seed=seed,
        **keywords,
    )
    network.eval()
    described = {
        "operation": recipe.operation,
        "architecture": recipe.architecture,
        "options": start.options,
        "input_spec": start.input_spec,
    }
    bare = GalaxyModel(network, config={}, card={}, **described)
    config, figures = recipe.calibrate(
        bare, data, calibration, device=keywords.get("device", "auto")
    )
    count = len(next(iter(data.values())))
    card = {f"training_{recipe.kind}": count, "seed": seed, **(card or {})}
    return trained_model(
        result, card=card, figures=figures, config=config, name=name, **described
    )


def evaluate(
    network, data, views=(), *, device="auto", n_samples=0, seed=0, progress=False
):
    """Run a network over a data set as operations do.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    data : dict of str to `torch.Tensor`
        What the network takes; of it counts what is in `ANSWERED`.
    views, device, n_samples, seed, progress
        As in `~galml.core.inference.infer`.

    Returns
    -------
    dict of str to `torch.Tensor`
        The outputs.
    """
    data, count, step = answered(data), len(data["image"]), 1024
    batches = (
        {key: data[key][i : i + step] for key in data} for i in range(0, count, step)
    )
    parts = list(
        infer(
            network,
            batches,
            views=views,
            device=device,
            n_samples=n_samples,
            seed=seed,
            progress=progress,
            total=count,
        )
    )
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def answered(data):
    """Reduce a data set to what a network takes when it answers.

    Parameters
    ----------
    data : dict of str to `torch.Tensor`
        What networks take, see `ANSWERED`, and what only trainings take.

    Returns
    -------
    dict of str to `torch.Tensor`
        What networks take.
    """
    return {key: data[key] for key in ANSWERED if key in data}


def untrained_model(recipe, settings=None, seed=0):
    """Make a model with initial weights.

    Parameters
    ----------
    recipe : `Recipe`
        Of which architecture.
    settings : dict, optional
        Arguments of the network.
    seed : int
        Seed of the weights; the global random state is left as it was.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Without configuration.
    """
    place = find_architecture(recipe.operation, recipe.architecture).network
    return GalaxyModel(
        new_network(find_object(place), settings, seed),
        operation=recipe.operation,
        architecture=recipe.architecture,
        options=settings or {},
        config={},
        card={},
        input_spec=recipe.input_spec,
    )


def new_network(kind, settings=None, seed=0):
    """Make a network with initial weights.

    Parameters
    ----------
    kind : type
        Class of the network.
    settings : dict, optional
        Its arguments.
    seed : int
        Seed of the weights; the global random state is left as it was.

    Returns
    -------
    `torch.nn.Module`
        A new ``kind``.

    Raises
    ------
    galml.core.ModelError
        If there is no such argument.
    """
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        try:
            return kind(**(settings or {}))
        except TypeError as error:
            raise ModelError(f"options of the network: {error}") from error


def trained_model(training, *, card, figures, **description):
    """Put a trained network into a model that knows its history.

    Parameters
    ----------
    training : `~galml.core.training.Training`
        Whose network is taken.
    card : dict or None
        More to say about the model.
    figures : dict
        What was measured on objects that training has not seen; what is not finite is
        left out.
    **description
        Of `~galml.core.model.GalaxyModel`, beside network and card.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With the table of epochs as the attribute ``history``.
    """
    figures = {key: value for key, value in figures.items() if np.isfinite(value)}
    about = {"best_epoch": training.best_epoch, "figures": figures, **(card or {})}
    model = GalaxyModel(training.network, card=about, **description)
    model.history = training.history
    return model


def valid_range(scalars):
    """Find the range of the numbers about objects that a model was trained on.

    Parameters
    ----------
    scalars : `torch.Tensor`
        Shape (n, k).

    Returns
    -------
    dict of str to list of float
        ``low`` and ``high``, of k numbers.
    """
    low, high = np.quantile(scalars.float().numpy(), RANGE, axis=0)
    margin = MARGIN * (high - low) + 1e-3
    return {"low": (low - margin).tolist(), "high": (high + margin).tolist()}


def data_set(domain, source, *, kind, recipe=None, truth=None, argument="data"):
    """Prepare the usable objects chunk by chunk, beside their truth.

    Parameters
    ----------
    domain : `~galml.core.domain.Domain`
        What prepares them.
    source : `~galml.core.inputs.Source`
        What it read.
    kind : str
        What the objects are called, in the plural.
    recipe : `Recipe`, optional
        Whose ``truth`` and ``targets`` are asked, where there is a truth.
    truth : `~astropy.table.QTable` or mapping, optional
        One row per object.
    argument : str
        Name of the objects in errors.

    Returns
    -------
    columns : dict of str to `torch.Tensor`
        What the network takes, and the truth.
    usable : `~numpy.ndarray` of bool
        Which of all objects these are.

    Raises
    ------
    galml.core.InputError
        If there are too few usable objects, or truths that do not fit them.
    """
    known = None if truth is None else read_truth(truth, recipe.truth)
    rows, parts = [], []
    for places, members, prepared in chunks(domain, source, rows):
        columns = dict(prepared.inputs)
        if known is not None:
            columns |= recipe.targets(_rows_of(known, places), prepared, members)
        parts.append(columns)
    good = np.array([row.error is None for row in rows], dtype=bool)
    check_number(argument, good.sum(), kind)
    if not good.all():
        left_out = int((~good).sum())
        message = f"{left_out} of {len(rows)} {kind} are left out"
        # Blame the caller of the public function, which called the one that asks.
        warnings.warn(message, GalmlWarning, stacklevel=4)
    if known is not None:
        for key, values in known.items():
            if len(values) != len(rows):
                got, expected = f"shape {values.shape}", f"({len(rows)},)"
                raise InputError(f"truth[{key!r}]", got, expected)
        needed = next(iter(recipe.truth))
        if not np.isfinite(known[needed][good]).any():
            raise InputError(f"truth[{needed!r}]", "no number", "some known values")
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return columns, good


def _rows_of(known, places):
    """Take rows of the truth, NaN beyond its end."""
    rows = np.asarray(places)
    result = {}
    for key, values in known.items():
        inside = rows < len(values)
        result[key] = np.full(len(rows), np.nan)
        result[key][inside] = values[rows[inside]]
    return result


def recipe_of(recipes, network, model):
    """Choose how to train a network of an architecture, or that of a model.

    Parameters
    ----------
    recipes : dict of str to type
        Recipes by the names of the architectures, that of new networks first.
    network : str or None
        Which one the user wants.
    model : `~galml.core.model.GalaxyModel` or None
        Whose weights to start from.

    Returns
    -------
    type
        The recipe.

    Raises
    ------
    galml.core.InputError
        If there is none, or the model has another architecture.
    """
    own = None if model is None else model.architecture
    if network is None:
        network = own or next(iter(recipes))
    if network not in list(recipes):
        raise InputError("network", repr(network), f"one of {sorted(recipes)}")
    if own not in (None, network):
        raise InputError("network", repr(network), f"{own!r}, as the model has it")
    return recipes[network]


def check_number(argument, count, kind):
    """Raise where there are too few objects to train on.

    Parameters
    ----------
    argument : str
        Name of the objects.
    count : int
        How many can be used.
    kind : str
        What they are called, in the plural.

    Raises
    ------
    galml.core.InputError
        If these are fewer than 20.
    """
    if count < FEWEST:
        raise InputError(argument, f"{count} usable {kind}", f"at least {FEWEST}")


def check_shares(**shares):
    """Raise where a share of the objects is not between 0 and 0.5.

    Parameters
    ----------
    **shares : float
        Shares by the names of the arguments.

    Raises
    ------
    galml.core.InputError
        For the first share that is none.
    """
    for key, value in shares.items():
        if not 0 < value < 0.5:
            raise InputError(key, value, "a share between 0 and 0.5")


def split_rows(count, seed, *shares):
    """Split rows at random.

    Parameters
    ----------
    count : int
        Number of rows.
    seed : int
        Seed of the split.
    *shares : float
        Share of the rows of each further part, which has at least one.

    Returns
    -------
    list of `torch.Tensor`
        Indices of the rows for training, then of each further part.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    sizes = [max(1, round(share * count)) for share in shares]
    *parts, rest = order.split([*sizes, count - sum(sizes)])
    return [rest, *parts]


def select(columns, rows):
    """Choose rows of a dict of tensors.

    Parameters
    ----------
    columns : dict of str to `torch.Tensor`
        Tensors with objects along their first axis.
    rows : `torch.Tensor`
        Indices, or booleans.

    Returns
    -------
    dict of str to `torch.Tensor`
        The rows of each.
    """
    return {key: value[rows] for key, value in columns.items()}


def column_numbers(values, argument, unit=None):
    """Read a column as plain numbers.

    Parameters
    ----------
    values : array_like
        Numbers, with or without a unit, or masked.
    argument : str
        Name used in errors.
    unit : `~astropy.units.UnitBase`, optional
        Unit that is wanted; numbers without one have it.

    Returns
    -------
    `~numpy.ndarray`
        float64; NaN where masked.

    Raises
    ------
    galml.core.InputError
        If these are no numbers, or their unit cannot be converted.
    """
    if hasattr(values, "filled"):
        values = values.astype(float).filled(np.nan)
    try:
        if unit is not None:
            values = u.Quantity(values, unit).to_value(unit)
        return np.asarray(values, dtype=float)
    except u.UnitConversionError as error:
        raise InputUnitError(argument, f"values in {values.unit}", unit) from error
    except (TypeError, ValueError) as error:
        raise InputError(argument, repr(values), "numbers") from error


def truth_names(truth):
    """Give the names of the columns of a truth.

    Parameters
    ----------
    truth : `~astropy.table.QTable` or mapping
        What the user gave.

    Returns
    -------
    list of str

    Raises
    ------
    galml.core.InputTypeError
        If it has no columns.
    """
    if isinstance(truth, Mapping):
        return list(truth)
    if not hasattr(truth, "colnames"):
        raise InputTypeError("truth", type(truth).__name__, "a table or mapping")
    return truth.colnames


def read_truth(truth, kinds):
    """Read the columns of a truth.

    Parameters
    ----------
    truth : `~astropy.table.QTable` or mapping
        What the user gave.
    kinds : dict of str to tuple
        For each column its unit (None for a plain number) and largest value (None for
        any). The first column must be there; the others are NaN where they are
        missing.

    Returns
    -------
    dict of str to `~numpy.ndarray`
        Plain numbers, shape (n,).

    Raises
    ------
    galml.core.InputError
        If a column is missing, has a wrong unit or shape, or values out of range.
    """
    result, (needed, *_) = {}, kinds
    names = truth_names(truth)
    if needed not in names:
        raise InputError("truth", f"no {needed}", f"a column {needed}")
    for key, (unit, upper) in kinds.items():
        argument = f"truth[{key!r}]"
        if key not in names:
            result[key] = np.full(len(result[needed]), np.nan)
            continue
        values = column_numbers(truth[key], argument, unit)
        if values.ndim != 1:
            raise InputError(argument, f"shape {values.shape}", "one number per row")
        if upper is not None and np.any((values < 0) | (values > upper)):
            raise InputError(
                argument, f"a value beyond 0 to {upper:g}", f"0 to {upper:g}"
            )
        result[key] = values
    return result
