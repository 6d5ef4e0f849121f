# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars and galaxies as a training takes them."""

import warnings
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import GalmlWarning, InputError
from galml.stars.columns import AXES, as_table, read_stars
from galml.stars.conditions import read_conditions
from galml.stars.galaxies import galaxies_of

__all__ = ["TrainingSet", "read_training_set"]


@dataclass
class TrainingSet:
    """
    Stars and what is known of their galaxies.

    Attributes
    ----------
    stars : `torch.Tensor`
        Physical stars, shape (n, d), float32.
    galaxy : `torch.Tensor`
        Row of the galaxy of each star, shape (n,), int64.
    axes : dict of str to `~astropy.units.UnitBase`
        Names and units of the axes.
    contexts : `torch.Tensor` or None
        Conditions of each galaxy and then its latents, shape (galaxies, c + k), NaN
        where these are not known. None for a model without conditions.
    latent : int
        Number of latents, k.
    images : sequence or None
        One image for each galaxy.
    """

    stars: torch.Tensor
    galaxy: torch.Tensor
    axes: dict
    contexts: torch.Tensor | None = None
    latent: int = 0
    images: object = None

    @property
    def n_conditions(self):
        """Number of conditions without latents."""
        return 0 if self.contexts is None else self.contexts.shape[1] - self.latent


def read_training_set(stars, conditions, axes, model=None):
    """
    Read stars and conditions, and bring them together.

    Parameters
    ----------
    stars : `~astropy.table.QTable` or sequence of them
        See `galml.stars.fit`.
    conditions : `~astropy.table.QTable` or None
        See `galml.stars.fit`.
    axes : sequence of str
        Names of the axes.
    model : `~galml.core.model.GalaxyModel`, optional
        Read the conditions as this model does, and encode images.

    Returns
    -------
    `TrainingSet`
        Without the stars of which something is not known; a warning counts them.

    Raises
    ------
    galml.core.InputError
        If columns are missing or cannot be used, or stars and conditions do not belong
        together.
    """
    contexts, latent, images, names = None, 0, None, None
    if model is not None:
        galaxies = galaxies_of(conditions, model)
        contexts, latent, names = galaxies.context, model.network.latent, galaxies.names
        errors = galaxies.errors
    elif conditions is not None:
        read = read_conditions(conditions)
        contexts, names, images = torch.from_numpy(read.values), read.names, read.images
        if read.latent is not None:
            contexts = torch.cat((contexts, torch.from_numpy(read.latent)), 1)
            latent = read.latent.shape[1]
        errors = [read.errors[row] for row in sorted(read.errors)]
    if contexts is not None and errors:
        raise errors[0]
    given = None if contexts is None else names
    if hasattr(stars, "colnames") or hasattr(stars, "keys"):
        table = as_table(stars, "stars")
        units = _units(table, axes)
        values, unknown = read_stars(table, units)
        galaxy = _rows(table, given)
    else:
        units, values, unknown, galaxy = _read_each(list(stars), axes, given)
    if unknown.any():
        message = f"{unknown.sum()} of {len(unknown)} stars are not known in all axes"
        warnings.warn(f"{message}; they are left out", GalmlWarning, stacklevel=3)
    return TrainingSet(
        stars=torch.from_numpy(values[~unknown]).float(),
        galaxy=torch.from_numpy(galaxy[~unknown]),
        axes=units,
        contexts=contexts,
        latent=latent,
        images=images,
    )


def _read_each(tables, axes, names):
    """Read one table for each galaxy."""
    if not tables or (names is not None and len(tables) != len(names)):
        expected = "some" if names is None else f"{len(names)}, one for each galaxy"
        raise InputError("stars", f"{len(tables)} tables", expected)
    tables = [as_table(t, f"stars[{i}]") for i, t in enumerate(tables)]
    units = _units(tables[0], axes)
    parts = [read_stars(t, units, argument=f"stars[{i}]") for i, t in enumerate(tables)]
    values, unknown = (np.concatenate(part) for part in zip(*parts, strict=True))
    galaxy = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    return units, values, unknown, galaxy


def _units(table, axes):
    """Units of the axes: the usual ones, or those of the columns."""
    units = {}
    for name in axes:
        unit = None
        if name in table.colnames:
            unit = getattr(table[name], "unit", None)
        units[name] = AXES.get(name, unit or u.dimensionless_unscaled)
    if not units:
        raise InputError("axes", "none", "at least one")
    return units


def _rows(table, names):
    """Row of the galaxy of each star; ``names`` are those of the rows, if any."""
    if "galaxy_id" not in table.colnames:
        if names is not None and len(names) > 1:
            expected = "a column 'galaxy_id', as there are several galaxies"
            raise InputError("stars", "no column 'galaxy_id'", expected)
        return np.zeros(len(table), dtype=np.int64)
    found, rows = np.unique(
        np.asarray(table["galaxy_id"]).astype(str), return_inverse=1
    )
    if names is None:
        return rows
    places = {str(name): row for row, name in enumerate(names)}
    strange = [str(name) for name in found if str(name) not in places]
    if strange:
        expected = "galaxies that are in conditions, too"
        raise InputError("stars['galaxy_id']", strange[:3], expected)
    return np.array([places[str(name)] for name in found], dtype=np.int64)[rows]
