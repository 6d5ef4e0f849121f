# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as a model knows them: its axes, its conditions, and its domain."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.stars.columns import as_table
from galml.stars.conditions import CONDITIONS, Conditions, read_conditions

__all__ = ["Galaxies", "axes_of", "galaxies_of"]


@dataclass
class Galaxies:
    """Galaxies, ready for a flow.

    Attributes
    ----------
    names : `~numpy.ndarray`
        Shape (n,).
    values : `~numpy.ndarray`
        Conditions without latents, shape (n, c).
    context : `torch.Tensor` or None
        All that the flow takes, shape (n, c + latents); rows in ``failed`` hold those
        of nobody.
    mass : `~numpy.ndarray` or None
        Stellar masses in solar masses, shape (n,), where they are given.
    n_stars : `~numpy.ndarray` or None
        Stars that are wanted of each, where the table says so.
    flags : `~numpy.ndarray`
        Bits of `galml.core.Flag`.
    errors : list of `~galml.core.InputError`
        What is wrong with galaxies that cannot be used, in order.
    """

    names: np.ndarray
    values: np.ndarray
    context: torch.Tensor | None
    mass: np.ndarray | None
    n_stars: np.ndarray | None
    flags: np.ndarray
    errors: list

    def __len__(self):
        return len(self.names)

    @property
    def failed(self):
        """Which galaxies cannot be used."""
        return self.flags & int(Flag.FAILED) != 0


def axes_of(model):
    """Give the axes of a model with their units, as `read_stars` takes them."""
    return {axis["name"]: u.Unit(axis["unit"]) for axis in model.config["axes"]}


def galaxies_of(conditions, model, *, device="cpu"):
    """Read the galaxies for a model.

    Parameters
    ----------
    conditions : `~astropy.table.QTable` or None
        One row for each galaxy, see `~galml.stars.conditions.read_conditions`; plain
        numbers where the model is in standardized units. None for a model without
        conditions.
    model : `~galml.core.model.GalaxyModel`
        The model.
    device : str or `torch.device`
        Where images are encoded.

    Returns
    -------
    `Galaxies`
        Those beyond the training range are flagged ``OUT_OF_DOMAIN``, all of them
        ``STANDARDIZED`` where the model is in standardized units.

    Raises
    ------
    galml.core.InputError
        If a column is missing or cannot be used, or the one galaxy cannot.
    """
    ranges = model.config.get("conditions") or []
    needed = [one["name"] for one in ranges]
    if conditions is None:
        if needed:
            raise InputError("conditions", None, f"a table with {needed}")
        conditions = {"galaxy_id": [0]}
    table = as_table(conditions, "conditions")
    if not len(table):
        raise InputError("conditions", "no rows", "one row for each galaxy")
    standardized = model.config.get("standardized", False)
    read = read_conditions(table, needed, standardized=standardized)
    values = read.values[:, [CONDITIONS.index(name) for name in needed]]
    low, high = (np.array([one[end] for one in ranges]) for end in ("lo", "hi"))
    outside = ((values < low) | (values > high)).any(1)
    flags = read.flags.copy()
    flags[outside] |= int(Flag.OUT_OF_DOMAIN)
    if standardized:
        flags |= int(Flag.STANDARDIZED)
    context = np.nan_to_num(values) if needed else None
    if model.network.latent:
        latent = _latent(read, flags, model, device)
        context = np.hstack([context, latent])
    mass = None
    if "stellar_mass" in table.colnames and not standardized:
        mass = 10 ** read.values[:, CONDITIONS.index("log_stellar_mass")]
    return Galaxies(
        names=read.names,
        values=values,
        context=None if context is None else torch.from_numpy(context),
        mass=mass,
        n_stars=read.n_stars,
        flags=flags,
        errors=[read.errors[row] for row in sorted(read.errors)],
    )


def _latent(read: Conditions, flags, model, device):
    """Give the latents of each galaxy: its own, those of its image, or NaN."""
    size = model.network.latent
    latent = np.full((len(read), size), np.nan)
    if read.latent is not None:
        if read.latent.shape[1] != size:
            got = f"{read.latent.shape[1]} latents"
            raise InputError("conditions['latent']", got, f"{size} of them")
        latent = read.latent.copy()
    encoder = getattr(model.network, "encoder", None)
    if read.images is None or encoder is None:
        return latent
    from galml.stars.images import encode_images

    rows = np.flatnonzero(np.isnan(latent).any(1))
    found, errors = encode_images(
        [read.images[row] for row in rows], encoder, device=device
    )
    latent[rows] = found
    for place, error in errors.items():
        row = int(rows[place])
        if len(read) == 1:
            raise error
        read.errors.setdefault(row, error)
        flags[row] |= int(Flag.FAILED)
    return latent
