# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies in the form that a model takes."""

from dataclasses import dataclass

import numpy as np

from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.core.inputs import as_table
from galml.physics import CONDITIONS
from galml.stars.population import distance, sizes
from galml.stars.preparation import ALL_CONDITIONS, read_conditions

__all__ = ["Galaxies", "condition_values", "read_galaxies"]


@dataclass
class Galaxies:
    """Galaxies, ready for a flow.

    Attributes
    ----------
    names : `~numpy.ndarray`
        Shape (n,).
    values : `~numpy.ndarray`
        Conditions without latents, shape (n, c).
    context : `~numpy.ndarray` or None
        All that the flow takes, shape (n, c + latents), with the mean size where none
        is given; rows in ``failed`` hold stand-ins. None for a model without
        conditions.
    scatter : `~numpy.ndarray`
        Standard deviation of log10 of the size that the galaxies have at these
        conditions, shape (n,); 0 where it is given.
    mass : `~numpy.ndarray` or None
        Stellar masses in solar masses, shape (n,), where they are given.
    n_stars : `~numpy.ndarray` or None
        Stars that are wanted of each, where the table says so.
    realization : `~numpy.ndarray` or None
        Which of the galaxies with equal conditions each one is, where the table says
        so.
    flags : `~numpy.ndarray`
        Bits of `galml.core.Flag`.
    errors : list of `~galml.core.InputError`
        What is wrong with galaxies that cannot be used, in order.
    """

    names: np.ndarray
    values: np.ndarray
    context: np.ndarray | None
    scatter: np.ndarray
    mass: np.ndarray | None
    n_stars: np.ndarray | None
    realization: np.ndarray | None
    flags: np.ndarray
    errors: list

    def __len__(self):
        return len(self.names)

    @property
    def failed(self):
        """Which galaxies cannot be used."""
        return self.flags & int(Flag.FAILED) != 0

    def with_sizes(self, deviates):
        """Give the context with sizes so many standard deviations from their means."""
        if not self.scatter.any():
            return self.context
        context = self.context.copy()
        context[:, len(CONDITIONS)] += deviates * self.scatter
        return context


def read_galaxies(conditions, model, *, device="cpu", refuse=True):
    """Read the galaxies for a model.

    Parameters
    ----------
    conditions : `~astropy.table.QTable` or None
        One row for each galaxy, see `~galml.stars.preparation.read_conditions`; plain
        numbers where the model is in standardized units. None for a model without
        conditions.
    model : `~galml.core.model.GalaxyModel`
        The model.
    device : str or `torch.device`
        Where images are encoded.
    refuse : bool, optional
        Whether galaxies far outside of the domain cannot be used.

    Returns
    -------
    `Galaxies`
        Those outside of what training has seen are flagged ``OUT_OF_DOMAIN``: each
        condition by its range, all together by their distance from the nearest
        training galaxy. All are flagged ``STANDARDIZED`` where the model is in
        standardized units.

    Raises
    ------
    galml.core.InputError
        If a column is missing or cannot be used, or the one galaxy cannot.
    """
    names, needed = _conditions_of(model)
    if conditions is None:
        if needed:
            raise InputError("conditions", None, f"a table with {needed}")
        conditions = {"galaxy_id": [0]}
    table = as_table(conditions, "conditions")
    if not len(table):
        raise InputError("conditions", "no rows", "one row for each galaxy")
    standardized = model.config.get("standardized", False)
    read = read_conditions(table, needed, standardized=standardized)
    values = read.values[:, [ALL_CONDITIONS.index(name) for name in names]]
    flags = read.flags.copy()
    filled, scatter = _fill_sizes(values, model.config.get("sizes"))
    _judge(filled, read, flags, model.config, refuse=refuse)
    if standardized:
        flags |= int(Flag.STANDARDIZED)
    context = np.nan_to_num(filled) if needed else None
    if model.network.latent:
        latent = _find_latents(read, flags, model, device)
        context = np.hstack([context, latent])
    mass = None
    if "stellar_mass" in table.colnames and not standardized:
        mass = 10 ** read.values[:, CONDITIONS.index("log_stellar_mass")]
    return Galaxies(
        names=read.names,
        values=values,
        context=context,
        scatter=scatter,
        mass=mass,
        n_stars=read.n_stars,
        realization=read.realization,
        flags=flags,
        errors=[read.errors[row] for row in sorted(read.errors)],
    )


def condition_values(table, model):
    """Read the conditions of galaxies alone, such as one model takes them.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        As for `read_galaxies`.
    model : `~galml.core.model.GalaxyModel`
        The model.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, c); NaN for galaxies that cannot be used.

    Raises
    ------
    galml.core.InputError
        If a column is missing or cannot be used.
    """
    names, needed = _conditions_of(model)
    # One galaxy alone that cannot be used would be an error.
    pair = table if len(table) != 1 else table[[0, 0]]
    standardized = model.config.get("standardized", False)
    read = read_conditions(pair, needed, standardized=standardized)
    return read.values[: len(table), [ALL_CONDITIONS.index(name) for name in names]]


def _conditions_of(model):
    """Name the conditions of a model, and those of them that must be known."""
    names = [one["name"] for one in model.config.get("conditions") or []]
    return names, [name for name in names if name in CONDITIONS]


def _fill_sizes(values, found):
    """Put the mean size where none is given; and tell how sizes scatter there."""
    scatter = np.zeros(len(values))
    if found is None:
        return values, scatter
    place = len(CONDITIONS)
    rows = np.isnan(values[:, place]) & np.isfinite(values[:, :place]).all(1)
    filled = values.copy()
    filled[rows, place], scatter[rows] = sizes(found, values[rows, :place])
    return filled, scatter


def _judge(values, read, flags, config, *, refuse):
    """Flag galaxies outside of the domain, and note those that are too far from it."""
    ranges, domain = config.get("conditions") or [], config.get("domain")
    low, high = (np.array([one[end] for one in ranges]) for end in ("lo", "hi"))
    outside = ((values < low) | (values > high)).any(1)
    if domain is not None:
        known = np.isfinite(values).all(1)
        far = np.zeros(len(values))
        far[known] = distance(domain, values[known])
        outside |= far > domain["near"]
        for row in np.flatnonzero(far > domain["far"]) if refuse else ():
            got = ", ".join(
                f"{one['name']} {value:.3g}"
                for one, value in zip(ranges, values[row], strict=True)
            )
            expected = "conditions that go together in galaxies of the training"
            error = InputError(f"conditions[{row}]", got, expected)
            if len(values) == 1:
                raise error
            read.errors.setdefault(int(row), error)
            flags[row] |= int(Flag.FAILED)
    flags[outside] |= int(Flag.OUT_OF_DOMAIN)


def _find_latents(read, flags, model, device):
    """Find the latents of each galaxy: its own, those of its image, or NaN."""
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
    # Who gives no images need not wait for what reads them.
    from galml.stars.images import encode_images

    rows = np.flatnonzero(np.isnan(latent).any(1))
    found, errors = encode_images(
        [read.images[row] for row in rows],
        encoder,
        device=device,
        input_spec=model.input_spec,
    )
    latent[rows] = found
    for place, error in errors.items():
        row = int(rows[place])
        if len(read) == 1:
            raise error
        read.errors.setdefault(row, error)
        flags[row] |= int(Flag.FAILED)
    return latent
