# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is known of a star: ten axes with their units, read from and put into tables."""

import astropy.units as u
import numpy as np
from astropy.cosmology import Planck18
from astropy.table import QTable, Table

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = [
    "AGE_OF_UNIVERSE",
    "AXES",
    "SOLAR_METALLICITY",
    "as_table",
    "check_components",
    "read_column",
    "read_stars",
    "star_table",
]

#: The axes of a star in order, with their units: position and velocity relative to the
#: galaxy, z along its angular momentum; mass fraction of metals; abundances relative
#: to the Sun; age.
AXES = {
    "x": u.kpc,
    "y": u.kpc,
    "z": u.kpc,
    "v_x": u.km / u.s,
    "v_y": u.km / u.s,
    "v_z": u.km / u.s,
    "metal_mass_fraction": u.dimensionless_unscaled,
    "fe_h": u.dex,
    "o_fe": u.dex,
    "age": u.Gyr,
}
#: Mass fraction of metals in the solar photosphere (Asplund+ 2009, ARA&A 47, 481).
SOLAR_METALLICITY = 0.0134
#: In Gyr, Planck Collaboration (2020), A&A 641, A6.
AGE_OF_UNIVERSE = float(Planck18.age(0).to_value(u.Gyr))


def as_table(table, argument):
    """Read anything that has named columns as a table, without copying them.

    Parameters
    ----------
    table : `~astropy.table.Table`, `~astropy.table.Row` or mapping
        Columns, or one row of them.
    argument : str
        Name used in errors.

    Returns
    -------
    `~astropy.table.QTable`

    Raises
    ------
    galml.core.InputTypeError
        For anything else.
    galml.core.InputError
        For columns of unequal lengths.
    """
    if isinstance(table, QTable):
        return table
    try:
        if isinstance(table, Table):
            return QTable(table, copy=False)
        if hasattr(table, "colnames"):
            return QTable(table)
        if hasattr(table, "keys"):
            return QTable(
                {k: np.atleast_1d(v) for k, v in dict(table).items()}, copy=False
            )
    except (TypeError, ValueError) as error:
        raise InputError(argument, f"columns ({error})", "columns alike") from error
    raise InputTypeError(argument, type(table).__name__, "a QTable")


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


def read_stars(table, axes=AXES, *, argument="stars"):
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


def star_table(values, axes=AXES, *, components=None):
    """Put stars into a table.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, axes).
    axes : dict of str to `~astropy.units.UnitBase`
        Names and units of the axes.
    components : sequence of str, optional
        Those wanted, in this order; all by default.

    Returns
    -------
    `~astropy.table.QTable`
        Columns with units; plain numbers where they are dimensionless.

    Raises
    ------
    galml.core.InputError
        For components that are not among the axes.
    """
    table = QTable()
    for name in check_components(components, axes):
        column, unit = values[:, list(axes).index(name)], axes[name]
        table[name] = column if unit == u.dimensionless_unscaled else column << unit
    return table


def check_components(components, axes):
    """Give the names of the axes that are wanted, all by default."""
    if components is None:
        return tuple(axes)
    names = (components,) if isinstance(components, str) else tuple(components)
    unknown = [name for name in names if name not in axes]
    if unknown or not names or len(set(names)) < len(names):
        raise InputError("components", list(names), f"each once, out of {list(axes)}")
    return names
