# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables of stars, and of the conditions of galaxies, as models take them."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.inputs import as_table
from galml.physics import (
    CONDITIONS,
    OPTIONAL_CONDITIONS,
    SOLAR_METALLICITY,
    STAR_AXES,
)

__all__ = [
    "Conditions",
    "model_axes",
    "read_column",
    "read_conditions",
    "read_stars",
]

#: Columns that may name the galaxies; the first one that is there does.
NAMES = ("galaxy_id", "name", "id")
ALL_CONDITIONS = CONDITIONS + OPTIONAL_CONDITIONS
#: Rule for numbers of which any finite one will do.
ANY = (True, "a finite number")


def read_column(table, name, unit, *, argument):
    """Read a column of numbers.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Where it is.
    name : str
        Its name.
    unit : `~astropy.units.UnitBase`
        Unit wanted. A column without unit is understood where that is dimensionless
        or dex.
    argument : str
        Name of the table in errors.

    Returns
    -------
    `~numpy.ndarray`
        float64, shape (n,); NaN where it is masked.

    Raises
    ------
    galml.core.InputError
        If there is no such column, or it is not one number for each row.
    galml.core.InputUnitError
        If its unit cannot be converted, or it has none where it needs one.
    """
    if name not in table.colnames:
        raise InputError(argument, f"no column {name!r}", f"columns with {name!r}")
    column, argument = table[name], f"{argument}[{name!r}]"
    try:
        values = column.astype(float)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputTypeError(argument, "no numbers", "numbers") from error
    if values.shape != (len(table),):
        raise InputError(argument, f"shape {values.shape}", "one number for each row")
    if hasattr(values, "filled"):
        values = values.filled(np.nan)
    has_unit = getattr(values, "unit", None) is not None
    if not has_unit and unit not in (u.dimensionless_unscaled, u.dex):
        raise InputUnitError(argument, "values without a unit", f"a unit like {unit}")
    if not has_unit or (unit == u.dex and values.unit == u.dimensionless_unscaled):
        return np.array(getattr(values, "value", values), dtype=float)
    try:
        return np.array(u.Quantity(values, unit, subok=True).to_value(unit))
    except (u.UnitConversionError, u.UnitTypeError) as error:
        raise InputUnitError(
            argument, f"values in {values.unit}", f"a unit like {unit}"
        ) from error


def read_stars(table, axes=STAR_AXES, *, argument="stars"):
    """Read stars, and find those of which something is unknown.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        One row for each star.
    axes : dict of str to `~astropy.units.UnitBase`
        Columns wanted, with their units.
    argument : str
        Name used in errors.

    Returns
    -------
    values : `~numpy.ndarray`
        float64, shape (n, axes), in these units.
    unknown : `~numpy.ndarray`
        bool, shape (n,): whether any value of a star is masked or not finite.

    Raises
    ------
    galml.core.InputError
        If a column is missing or not one number for each row.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    """
    table = as_table(table, argument)
    values = np.empty((len(table), len(axes)))
    for place, (name, unit) in enumerate(axes.items()):
        values[:, place] = read_column(table, name, unit, argument=argument)
    return values, ~np.isfinite(values).all(axis=1)


@dataclass
class Conditions:
    """Galaxies, as the flows see them.

    Attributes
    ----------
    values : `~numpy.ndarray`
        float64, shape (n, 5), in the order of `~galml.physics.CONDITIONS` and
        `~galml.physics.OPTIONAL_CONDITIONS`; NaN where these are not known, and in
        rows of ``errors``.
    names : `~numpy.ndarray`
        Shape (n,): text or integers of the column ``galaxy_id``, ``name`` or ``id``,
        else the numbers of the rows.
    latent : `~numpy.ndarray` or None
        float64, shape (n, k): what an encoder saw; rows of NaN where it is not known.
    images : sequence or None
        One image for each galaxy, as they came.
    n_stars : `~numpy.ndarray` or None
        int64, shape (n,): how many stars are wanted.
    realization : `~numpy.ndarray` or None
        int64, shape (n,): which of the galaxies with equal conditions each one is.
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
    realization: np.ndarray | None
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
        they are there ``r_eff`` (a length), ``latent`` (k numbers), ``image``,
        ``n_stars``, ``realization``, and ``galaxy_id``, ``name`` or ``id``.
    needed : sequence of str
        Those of `~galml.physics.CONDITIONS` that must be there; the others are NaN
        where they are not.
    standardized : bool
        Whether the columns are called as in `CONDITIONS` and hold plain numbers, of
        which any finite one will do.
    argument : str
        Name used in errors.

    Returns
    -------
    `Conditions`
        One row for each galaxy. Mass and metallicity must be positive, the median age
        too, the 10th percentile between 0 and it, the size positive or not known; rows
        where they are not are noted.

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
    counts = {
        name: _read_counts(table, name, argument)
        for name in ("n_stars", "realization")
        if name in table.colnames
    }
    rules = dict.fromkeys(needed, ANY) if standardized else _rules(columns)
    rules = {name: rules[name] for name in needed}
    errors = _errors(table, columns, rules, counts, argument)
    if len(table) == 1 and errors:
        raise errors[0]
    failed = np.isin(np.arange(len(table)), list(errors))
    values = np.stack([columns[name] for name in ALL_CONDITIONS], 1)
    values[failed] = np.nan
    for name, values_of in counts.items():
        counts[name] = np.where(failed, 0, values_of).astype(np.int64)
    return Conditions(
        values=values,
        names=_names(table),
        latent=_read_latents(table, argument),
        images=table["image"] if "image" in table.colnames else None,
        n_stars=counts.get("n_stars"),
        realization=counts.get("realization"),
        errors=errors,
        flags=np.where(failed, int(Flag.FAILED), 0).astype(np.int32),
    )


def _read_counts(table, name, argument):
    """Read whole numbers as they are: floats do not hold those above 2^53."""
    column = table[name]
    plain = getattr(column, "mask", None) is None and column.ndim == 1
    if plain and np.asarray(column).dtype.kind in "iu":
        return np.asarray(column)
    return read_column(table, name, u.dimensionless_unscaled, argument=argument)


def _columns(table, needed, argument):
    """Read each condition in its unit; NaN where it is missing and not needed."""
    readers = {
        "log_stellar_mass": lambda: _log(read("stellar_mass", u.Msun)),
        "median_age": lambda: read("median_age", u.Gyr),
        "age_percentile_10": lambda: read("age_percentile_10", u.Gyr),
        "metallicity": lambda: _metallicity(table, argument),
        "log_r_eff": lambda: _log_size(read("r_eff", u.kpc)),
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


def _log_size(values):
    """Take log10; NaN where there is no size, and infinite where it is impossible."""
    return np.where(values <= 0, -np.inf, _log(values))


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
        for name in ALL_CONDITIONS
    }


def _rules(columns):
    """Find which values are possible, with words for what is expected."""
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


def _errors(table, columns, rules, counts, argument):
    """Collect what is wrong with the galaxies that cannot be used."""
    errors = {}

    def note(key, good, expected):
        for row in np.flatnonzero(~good).tolist():
            place, got = f"{argument}[{key!r}][{row}]", str(table[key][row])
            errors.setdefault(row, InputError(place, got, expected))

    for name, (possible, expected) in rules.items():
        key = name if name in table.colnames else name.removeprefix("log_")
        note(key, np.isfinite(columns[name]) & possible, expected)
    if "r_eff" in table.colnames:
        known = ~np.isinf(columns["log_r_eff"])
        note("r_eff", known, "a positive length, or none")
    for name, values in counts.items():
        whole = (values >= 0) & (values % 1 == 0) & (values < 2**63)
        note(name, whole, "a whole number")
    return errors


def _names(table):
    """Name the galaxies, by number where they have no name."""
    key = next((key for key in NAMES if key in table.colnames), None)
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


def _read_latents(table, argument):
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


def model_axes(model):
    """Name the axes of a model with their units, as `read_stars` takes them."""
    return {axis["name"]: u.Unit(axis["unit"]) for axis in model.config["axes"]}
