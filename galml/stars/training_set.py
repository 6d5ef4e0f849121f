# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars that flows are trained on, and what is known of their galaxies."""

import warnings
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import GalmlWarning, InputError
from galml.core.fitting import select, split_rows
from galml.core.inputs import as_table
from galml.physics import CONDITIONS, STAR_AXES, generator_for
from galml.stars.galaxies import read_galaxies
from galml.stars.preparation import read_column, read_conditions, read_stars

__all__ = [
    "FEWEST_GALAXIES",
    "TrainingSet",
    "choose_stars",
    "read_training_set",
    "split_stars",
]

#: Fewer galaxies than this are all trained on: validation is by stars.
FEWEST_GALAXIES = 5
FEWEST_STARS = 20


@dataclass
class TrainingSet:
    """Stars and what is known of their galaxies.

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
    extent : `torch.Tensor` or None
        Distance (kpc) that no star of a galaxy is beyond, shape (galaxies,).
    escape : `torch.Tensor` or None
        Escape speed (km/s) where each star is, shape (n,).
    """

    stars: torch.Tensor
    galaxy: torch.Tensor
    axes: dict
    contexts: torch.Tensor | None = None
    latent: int = 0
    images: object = None
    extent: torch.Tensor | None = None
    escape: torch.Tensor | None = None

    @property
    def n_conditions(self):
        """Number of conditions without latents."""
        return 0 if self.contexts is None else self.contexts.shape[1] - self.latent


def read_training_set(stars, conditions, axes, model=None):
    """Read stars and conditions, and bring them together.

    Parameters
    ----------
    stars : `~astropy.table.QTable` or sequence of them
        See `fit`.
    conditions : `~astropy.table.QTable` or None
        See `fit`.
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
    contexts, latent, images, names, extent = None, 0, None, None, None
    if model is not None:
        contexts, latent, names = _known_to(model, conditions)
    elif conditions is not None:
        contexts, latent, names, images = _new(conditions)
    if contexts is not None and "r_max" in as_table(conditions, "conditions").colnames:
        extent = _read_limit(conditions, "r_max", u.kpc, "conditions")
    if hasattr(stars, "colnames") or hasattr(stars, "keys"):
        table = as_table(stars, "stars")
        tables, units = [table], _units(table, axes)
        values, unknown = read_stars(table, units)
        galaxy = _rows_of_galaxies(table, names)
    else:
        tables = list(stars)
        units, values, unknown, galaxy = _read_each(tables, axes, names)
    escape = None
    if all("escape_speed" in table.colnames for table in tables):
        escape = torch.cat(
            [_read_limit(t, "escape_speed", u.km / u.s, "stars") for t in tables]
        )[torch.from_numpy(~unknown)]
    if unknown.any():
        message = f"{unknown.sum()} of {len(unknown)} stars are not known in all axes"
        warnings.warn(f"{message}; they are left out", GalmlWarning, stacklevel=3)
    return TrainingSet(
        stars=torch.from_numpy(values[~unknown]).float(),
        galaxy=torch.from_numpy(galaxy[~unknown]),
        axes=units,
        contexts=None if contexts is None else torch.from_numpy(contexts),
        latent=latent,
        images=images,
        extent=extent,
        escape=escape,
    )


def _known_to(model, conditions):
    """Give contexts, number of latents and names of galaxies as a model sees them."""
    galaxies = read_galaxies(conditions, model, refuse=False)
    if galaxies.context is None:
        return None, 0, None
    if galaxies.scatter.any():
        row = int(np.argmax(galaxies.scatter))
        expected = f"a size of each galaxy, as {model.name} knows them"
        raise InputError(f"conditions['r_eff'][{row}]", "none", expected)
    if galaxies.errors:
        raise galaxies.errors[0]
    return galaxies.context, model.network.latent, galaxies.names


def _new(conditions):
    """Give contexts, number of latents, names and images for a new model."""
    read = read_conditions(conditions)
    contexts, latent = _known_conditions(read), 0
    if read.errors:
        raise read.errors[min(read.errors)]
    if read.latent is not None:
        contexts = np.hstack((contexts, read.latent))
        latent = read.latent.shape[1]
    return contexts, latent, read.names, read.images


def _read_limit(table, name, unit, argument):
    """Read a column of positive numbers."""
    values = read_column(as_table(table, argument), name, unit, argument=argument)
    if not (values > 0).all():
        raise InputError(f"{argument}[{name!r}]", "NaN or less than 0", "positive")
    return torch.from_numpy(values)


def _known_conditions(read):
    """Give the conditions that are known, sizes of all galaxies or none."""
    number = len(CONDITIONS)
    sizes = np.isfinite(read.values[:, number:])
    usable = np.array([row not in read.errors for row in range(len(read))])
    if not sizes[usable].all() and sizes.any():
        got, expected = f"sizes of {sizes.sum()} galaxies", "those of all, or none"
        raise InputError("conditions['r_eff']", got, expected)
    return read.values if sizes.any() else read.values[:, :number]


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
    """Find the units of the axes: the usual ones, or those of the columns."""
    units = {}
    for name in axes:
        unit = None
        if name in table.colnames:
            unit = getattr(table[name], "unit", None)
        units[name] = STAR_AXES.get(name, unit or u.dimensionless_unscaled)
    if not units:
        raise InputError("axes", "none", "at least one")
    return units


def _rows_of_galaxies(table, names):
    """Find the row of the galaxy of each star; ``names`` are those of the rows."""
    if "galaxy_id" not in table.colnames:
        if names is not None and len(names) > 1:
            expected = "a column 'galaxy_id', as there are several galaxies"
            raise InputError("stars", "no column 'galaxy_id'", expected)
        return np.zeros(len(table), dtype=np.int64)
    found, rows = np.unique(
        np.asarray(table["galaxy_id"]).astype(str), return_inverse=True
    )
    if names is None:
        return rows
    places = {str(name): row for row, name in enumerate(names)}
    unknown = [str(name) for name in found if str(name) not in places]
    if unknown:
        expected = "galaxies that are in conditions, too"
        raise InputError("stars['galaxy_id']", unknown[:3], expected)
    return np.array([places[str(name)] for name in found], dtype=np.int64)[rows]


def split_stars(data, validation, seed):
    """Split the stars by galaxy where there are several, else by star.

    Parameters
    ----------
    data : `TrainingSet`
        The stars.
    validation : float
        Share of the galaxies, or of the stars, in the second part.
    seed : int
        Seed of the split.

    Returns
    -------
    by_galaxy : bool
        Whether no galaxy is in both parts.
    training, validation : `torch.Tensor`
        Rows of the stars of each part.

    Raises
    ------
    galml.core.InputError
        If there are too few stars.
    """
    galaxies = data.galaxy.unique()
    by_galaxy = len(galaxies) >= FEWEST_GALAXIES
    if len(data.stars) < FEWEST_STARS:
        got = f"{len(data.stars)} usable stars"
        raise InputError("stars", got, f"at least {FEWEST_STARS}")
    if not by_galaxy:
        return by_galaxy, *split_rows(len(data.stars), seed, validation)
    parts = split_rows(len(galaxies), seed, validation)
    masks = [torch.isin(data.galaxy, galaxies[rows]) for rows in parts]
    return by_galaxy, *(mask.nonzero()[:, 0] for mask in masks)


def choose_stars(stars, most, seed):
    """Leave out stars beyond a number of a galaxy, at random.

    Parameters
    ----------
    stars : dict of str to `torch.Tensor`
        ``galaxy``, the row of the galaxy of each star, and ``stars``.
    most : int or None
        The number; None leaves out nothing.
    seed : int
        Seed of the choice.

    Returns
    -------
    dict of str to `torch.Tensor`
        Those that are left.
    """
    if most is None:
        return stars
    generator = generator_for(seed, "stars of a galaxy")
    order = torch.randperm(len(stars["stars"]), generator=generator)
    galaxy = stars["galaxy"][order].numpy()
    grouped = np.argsort(galaxy, kind="stable")
    _, first, counts = np.unique(galaxy[grouped], return_index=True, return_counts=True)
    number = np.arange(len(galaxy)) - np.repeat(first, counts)
    return select(stars, order[torch.from_numpy(grouped[number < most])])
