# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What training on a user's own objects takes, whatever they are."""

import copy
import warnings

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import GalmlWarning, InputError, InputUnitError
from galml.core.model import GalaxyModel

__all__ = [
    "check_shares",
    "network_of",
    "numbers",
    "select",
    "split_rows",
    "trained_model",
    "truth_columns",
    "usable_members",
]

FEWEST = 20


def usable_members(members, problem, *, is_single, kind):
    """Find the objects that can be trained on.

    Parameters
    ----------
    members : list
        What was read.
    problem : callable
        ``problem(member)`` is the error of one that cannot be used, or None.
    is_single : bool
        Whether the input was one object, not a batch.
    kind : str
        What the objects are, for messages.

    Returns
    -------
    list of int
        Their places; a `~galml.core.GalmlWarning` tells how many are left out.

    Raises
    ------
    galml.core.InputError
        If there are fewer than 20.
    """
    usable = [i for i, item in enumerate(members) if problem(item) is None]
    if is_single or len(usable) < FEWEST:
        raise InputError("data", f"{len(usable)} usable {kind}", f"at least {FEWEST}")
    if len(usable) < len(members):
        left = len(members) - len(usable)
        message = f"{left} of {len(members)} {kind} are left out"
        warnings.warn(message, GalmlWarning, stacklevel=3)
    return usable


def check_shares(**shares):
    """Raise where a share of the objects is not between 0 and 0.5."""
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
        Indices of what is left for training, then of each further part.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    sizes = [max(1, round(share * count)) for share in shares]
    *parts, rest = order.split([*sizes, count - sum(sizes)])
    return [rest, *parts]


def select(columns, rows):
    """Choose rows of a dict of tensors."""
    return {key: value[rows] for key, value in columns.items()}


def numbers(values, argument, unit=None):
    """Plain numbers of a column in a unit, NaN where it is masked."""
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


def truth_columns(truth, count, usable, kinds):
    """Check the columns of a truth and take the rows of the usable objects.

    Parameters
    ----------
    truth : `~astropy.table.QTable` or mapping
        What the user gave.
    count : int
        Number of objects.
    usable : list of int
        Those that can be used.
    kinds : dict of str to tuple
        For each column its unit (None for a plain number) and largest value (None for
        any). The first column must be there and known for some objects; the others are
        NaN where they are missing.

    Returns
    -------
    dict of str to `~numpy.ndarray`
        Plain numbers.
    """
    result, (needed, *_) = {}, kinds
    for key, (unit, upper) in kinds.items():
        if key not in getattr(truth, "colnames", truth):
            if key == needed:
                raise InputError("truth", f"no {needed}", f"a column {needed}")
            result[key] = np.full(len(usable), np.nan)
            continue
        argument = f"truth[{key!r}]"
        values = numbers(truth[key], argument, unit)
        if values.shape != (count,):
            raise InputError(argument, f"shape {values.shape}", f"({count},)")
        result[key] = values = values[usable]
        if upper is not None and np.any((values < 0) | (values > upper)):
            raise InputError(
                argument, f"a value beyond 0 to {upper:g}", f"0 to {upper:g}"
            )
    if not np.isfinite(result[needed]).any():
        raise InputError(f"truth[{needed!r}]", "no number", "some known values")
    return result


def network_of(kind, settings, seed, model=None):
    """Make a network, with the weights of a model if there is one.

    Parameters
    ----------
    kind : type
        Class of the network.
    settings : dict
        Its arguments.
    seed : int
        Seed of the initial weights; the global random state is left as it was.
    model : `~galml.core.model.GalaxyModel`, optional
        Whose weights are copied.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = kind(**settings)
    if model is not None:
        network.load_state_dict(copy.deepcopy(model.network.state_dict()))
    return network


def trained_model(training, *, card, figures, **description):
    """Put a trained network into a model that knows its history.

    Parameters
    ----------
    training : `~galml.core.training.Training`
        Whose network is taken.
    card : dict or None
        More to say about the model.
    figures : dict
        What was measured on objects that training has not seen.
    **description
        Of `~galml.core.model.GalaxyModel`, beside network and card.
    """
    told = {"best_epoch": training.best_epoch, "figures": figures, **(card or {})}
    model = GalaxyModel(training.network, card=told, **description)
    model.history = training.history
    return model
