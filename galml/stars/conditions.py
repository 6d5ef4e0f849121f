# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is known of a galaxy, on which its stars depend."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.stars.columns import (
    SOLAR_METALLICITY,
    as_table,
    read_column,
)

__all__ = ["CONDITIONS", "Conditions", "read_conditions"]

#: The conditions in order: log10 of solar masses, Gyr, Gyr, [M/H].
CONDITIONS = (
    "log_stellar_mass",
    "median_age",
    "age_percentile_10",
    "metallicity",
)

#: Rule for numbers of which any finite one will do.
ANY = (True, "a finite number")

_NAMES = ("galaxy_id", "name", "id")


@dataclass
class Conditions:
    """Galaxies, as the flows see them.

    Attributes
    ----------
    values : `~numpy.ndarray`
        float64, shape (n, 4), in the order of `CONDITIONS`; NaN in rows of ``errors``.
    names : `~numpy.ndarray`
        Shape (n,): text or integers of the column ``galaxy_id``, ``name`` or ``id``,
        else the numbers of the rows.
    latent : `~numpy.ndarray` or None
        float64, shape (n, k): what an encoder saw; rows of NaN where it is not known.
    images : sequence or None
        One image for each galaxy, as they came.
    n_stars : `~numpy.ndarray` or None
        int64, shape (n,): how many stars are wanted.
    errors : dict of int to `~galml.core.InputError`
        What is wrong with the rows that cannot be used.
    flags : `~numpy.ndarray`
        int32, shape (n,): bits of `galml.core.Flag`, ``FAILED`` in rows of ``errors``.
    """

    values: np.ndarray
    names: np.ndarray
    latent: np.ndarray | None
    images: object
    n_stars: np.ndarray | None
    errors: dict
    flags: np.ndarray

    def __len__(self):
        return len(self.values)


def read_conditions(
    table, needed=CONDITIONS, *, standardized=False, argument="conditions"
):
    """Read the properties of galaxies.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        One row for each galaxy: ``stellar_mass`` (a unit of mass), ``median_age`` and
        ``age_percentile_10`` (units of time), ``metallicity`` (a mass fraction without
        unit, or [M/H] in dex, relative to a solar mass fraction of 0.0134); and where
        they are there ``latent`` (k numbers), ``image``, ``n_stars``, and
        ``galaxy_id``, ``name`` or ``id``.
    needed : sequence of str
        Those of `CONDITIONS` that must be there; the others are NaN where they are not.
    standardized : bool
        Whether the columns are called as in `CONDITIONS` and hold plain numbers, of
        which any finite one will do.
    argument : str
        Name used in errors.

    Returns
    -------
    `Conditions`
        One row for each galaxy. Mass and metallicity must be positive, the median age
        too, the 10th percentile between 0 and it; rows where they are not are noted.

    Raises
    ------
    galml.core.InputError
        If a column is missing, has the wrong shape, or the one galaxy cannot be used.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    """
    table = as_table(table, argument)
    reader = _standard_columns if standardized else _columns
    columns = reader(table, needed, argument)
    n_stars = None
    if "n_stars" in table.colnames:
        n_stars = read_column(
            table, "n_stars", u.dimensionless_unscaled, argument=argument
        )
    rules = dict.fromkeys(needed, ANY) if standardized else _rules(columns)
    rules = {name: rules[name] for name in needed}
    errors = _errors(table, columns, rules, n_stars, argument)
    if len(table) == 1 and errors:
        raise errors[0]
    failed = np.isin(np.arange(len(table)), list(errors))
    values = np.array([columns[name] for name in CONDITIONS]).T.reshape(-1, 4)
    values[failed] = np.nan
    if n_stars is not None:
        n_stars = np.where(failed, 0, n_stars).astype(np.int64)
    return Conditions(
        values=values,
        names=_names(table),
        latent=_latent(table, argument),
        images=table["image"] if "image" in table.colnames else None,
        n_stars=n_stars,
        errors=errors,
        flags=np.where(failed, int(Flag.FAILED), 0).astype(np.int32),
    )


def _columns(table, needed, argument):
    """Read each condition in its unit; NaN where it is missing and not needed."""
    readers = {
        "log_stellar_mass": lambda: _log(read("stellar_mass", u.Msun)),
        "median_age": lambda: read("median_age", u.Gyr),
        "age_percentile_10": lambda: read("age_percentile_10", u.Gyr),
        "metallicity": lambda: _metallicity(table, argument),
    }

    def read(name, unit):
        return read_column(table, name, unit, argument=argument)

    columns = {}
    for name, reader in readers.items():
        if name in needed or name.removeprefix("log_") in table.colnames:
            columns[name] = reader()
        else:
            columns[name] = np.full(len(table), np.nan)
    return columns


def _log(values):
    """Take log10; NaN where there is none."""
    return np.log10(np.where(values > 0, values, np.nan))


def _metallicity(table, argument):
    """Read [M/H], from a mass fraction where the column is not in dex."""
    unit = getattr(table["metallicity"], "unit", None) if _has(table) else None
    try:
        is_dex = unit is not None and u.Unit(unit).is_equivalent(u.dex)
        kind = u.dex if is_dex else u.dimensionless_unscaled
        values = read_column(table, "metallicity", kind, argument=argument)
    except InputUnitError as error:
        expected = "a mass fraction, or dex"
        raise InputUnitError(error.argument, error.got, expected) from error
    if is_dex:
        return values
    return _log(np.where(values < 1, values, np.nan) / SOLAR_METALLICITY)


def _has(table):
    return "metallicity" in table.colnames


def _standard_columns(table, needed, argument):
    """Read plain numbers; NaN where they are not needed."""
    return {
        name: read_column(table, name, u.dimensionless_unscaled, argument=argument)
        if name in needed
        else np.full(len(table), np.nan)
        for name in CONDITIONS
    }


def _rules(columns):
    """Tell which values are possible, and how to say so."""
    median, young = columns["median_age"], columns["age_percentile_10"]
    return {
        "log_stellar_mass": (True, "a positive, finite mass"),
        "median_age": (median > 0, "a positive, finite age"),
        # A share in 1e6 more is what rounding makes of equal ages.
        "age_percentile_10": (
            (young >= 0) & ~(young > median * (1 + 1e-6)),
            "an age between 0 and the median",
        ),
        "metallicity": (True, "a mass fraction between 0 and 1, or [M/H] in dex"),
    }


def _errors(table, columns, rules, n_stars, argument):
    """Tell for each galaxy that cannot be used what is wrong with it."""
    errors = {}

    def note(key, good, expected):
        for row in np.flatnonzero(~good).tolist():
            place, got = f"{argument}[{key!r}][{row}]", str(table[key][row])
            errors.setdefault(row, InputError(place, got, expected))

    for name, (possible, expected) in rules.items():
        key = name if name in table.colnames else name.removeprefix("log_")
        note(key, np.isfinite(columns[name]) & possible, expected)
    if n_stars is not None:
        whole = (n_stars >= 0) & (n_stars % 1 == 0)
        note("n_stars", whole, "a whole number")
    return errors


def _names(table):
    """Name the galaxies, by number where they have no name."""
    key = next((key for key in _NAMES if key in table.colnames), None)
    if key is None:
        return np.arange(len(table))
    column = table[key]
    mask = np.broadcast_to(getattr(column, "mask", False), len(table))
    names = np.asarray(column)
    if names.dtype.kind in "iu" and not mask.any():
        return names
    names = names.astype(str)
    return np.array(
        [
            str(row) if hidden or not name else name
            for row, (name, hidden) in enumerate(zip(names, mask, strict=True))
        ],
        dtype=str,
    )


def _latent(table, argument):
    """Read the latents; a row that is not all known becomes NaN."""
    if "latent" not in table.colnames:
        return None
    column, place = table["latent"], f"{argument}['latent']"
    try:
        values = column.astype(float)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputTypeError(place, "no numbers", "rows of numbers") from error
    if hasattr(values, "filled"):
        values = values.filled(np.nan)
    if getattr(values, "unit", None) not in (None, u.dimensionless_unscaled):
        raise InputUnitError(place, f"values in {values.unit}", "plain numbers")
    values = np.array(getattr(values, "value", values), dtype=float)
    if values.ndim != 2:
        raise InputError(place, f"shape {values.shape}", f"({len(table)}, k)")
    values[~np.isfinite(values).all(axis=1)] = np.nan
    return values
