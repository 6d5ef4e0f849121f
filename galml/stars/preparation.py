# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables of stars and of galaxies.

`read_stars` and `read_conditions` read them, and `prepare` turns the star particles of
a simulated galaxy into such tables.
"""

from dataclasses import dataclass

import astropy.cosmology.units as cu
import astropy.units as u
import numpy as np
from astropy.cosmology import Planck18
from astropy.table import QTable
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.inputs import as_table
from galml.physics import (
    AGE_OF_UNIVERSE,
    CONDITIONS,
    OPTIONAL_CONDITIONS,
    SOLAR_METALLICITY,
    STAR_AXES,
    star_table,
    weighted_percentile,
)

__all__ = [
    "Conditions",
    "model_axes",
    "prepare",
    "read_column",
    "read_conditions",
    "read_stars",
    "shrinking_sphere",
]

#: Columns that may name the galaxies; the first one that is there does.
NAMES = ("galaxy_id", "name", "id")
ALL_CONDITIONS = CONDITIONS + OPTIONAL_CONDITIONS
#: Rule for numbers of which any finite one will do.
ANY = (True, "a finite number")

#: Columns of positions and velocities, and of what becomes an age.
POSITIONS = ("x", "y", "z")
VELOCITIES = ("v_x", "v_y", "v_z")
FORMATION = "formation_scale_factor"
ALIGNMENTS = ("inner", "young", "all", None)
#: The sphere shrinks by this factor, as long as it holds this many stars.
SHRINKAGE, FEWEST_IN_SPHERE = 0.9, 100
#: Radius within which stars tell how the galaxy turns, in half-mass radii.
INNER_RADII = 2.0
#: Scale factors at which the age of the universe is computed, not interpolated.
N_SCALE_FACTORS = 300


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
        they are there ``r_eff`` (a length), ``latent`` (k numbers), ``image``,
        ``n_stars``, and ``galaxy_id``, ``name`` or ``id``.
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
    values = np.stack([columns[name] for name in ALL_CONDITIONS], 1)
    values[failed] = np.nan
    if n_stars is not None:
        n_stars = np.where(failed, 0, n_stars).astype(np.int64)
    return Conditions(
        values=values,
        names=_names(table),
        latent=_read_latents(table, argument),
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


def _errors(table, columns, rules, n_stars, argument):
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
    if n_stars is not None:
        whole = (n_stars >= 0) & (n_stars % 1 == 0)
        note("n_stars", whole, "a whole number")
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


def prepare(
    stars,
    *,
    scale_factor=None,
    redshift=None,
    h=None,
    cosmology=Planck18,
    align="inner",
    position_percentile=98.0,
    metallicity_percentile=98.0,
    fe_h_min=-8.0,
    o_fe_min=-1.0,
    fewest=500,
    galaxy_id=0,
):
    """Center, turn and clean the stars of a galaxy, and measure its conditions.

    The center is that of a shrinking sphere [1]_, at rest is the mean velocity of the
    stars in the half-mass radius, and +z is the angular momentum. Then stars that are
    unphysical or far out are left out, as in [2]_.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        One row for each particle: ``x``, ``y``, ``z`` (a length), ``v_x``, ``v_y``,
        ``v_z`` (a velocity), ``mass``; and where they are known ``age`` (a time) or
        ``formation_scale_factor``, ``metal_mass_fraction``, ``fe_h``, ``o_fe`` (dex).
        Axes that are not there are left out of the result. Particles with masked or
        NaN values, and wind (formation scale factor not above zero), are dropped.
    scale_factor : float, optional
        Of the snapshot, where lengths are comoving and velocities are to be multiplied
        by its root, as in Gadget and Arepo files.
    redshift : float, optional
        Of the snapshot, where lengths and velocities are physical; 0 by default.
    h : float, optional
        Lengths and masses are divided by it. Units with
        `astropy.cosmology.units.littleh` are understood without, by ``cosmology``.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns formation scale factors into ages.
    align : {"inner", "young", "all", None}, optional
        Whose angular momentum becomes +z: that of the stars within two half-mass
        radii, of the younger half of these, or of all; None turns nothing.
    position_percentile, metallicity_percentile : float or None, optional
        Stars beyond this percentile of the radius, and then of the metal mass fraction,
        are left out; 95 to 98 in [2]_.
    fe_h_min, o_fe_min : float, optional
        Abundances below are left out, in dex; [M/H] where [Fe/H] is not known.
    fewest : int, optional
        Fewest stars that must be left.
    galaxy_id : int or str, optional
        What the galaxy is called.

    Returns
    -------
    stars : `~astropy.table.QTable`
        ``galaxy_id``, the known ones of `galml.physics.STAR_AXES`, and ``mass``
        (solar masses), one row for each star that is left: 0 < age < age of the
        universe, and 0 < Z.
    conditions : `~astropy.table.QTable`
        One row, of all stars before the cuts: ``galaxy_id``; ``stellar_mass``, their
        mass; ``r_eff``, the half-mass radius about the axis; and, where they are known,
        ``median_age`` and ``age_percentile_10``, weighted by mass, and ``metallicity``,
        [M/H] of the mean mass fraction; then ``n_stars``, the number of those that are
        left.

    Raises
    ------
    galml.core.InputError
        If a column is missing, an option is out of its range, or too few stars are
        left.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.

    Notes
    -----
    Tables of other packages, with their particles in physical units::

        # pynbody: after snapshot.physical_units(), with stars = snapshot.stars
        QTable({
            "x": stars["x"].in_units("kpc").view(np.ndarray) * u.kpc,
            "v_x": stars["vx"].in_units("km s**-1").view(np.ndarray) * u.km / u.s,
            "mass": stars["mass"].in_units("Msol").view(np.ndarray) * u.Msun,
            "age": stars["age"].in_units("Gyr").view(np.ndarray) * u.Gyr,
            "metal_mass_fraction": stars["metals"].view(np.ndarray), ...
        })
        # yt: with stars = dataset.all_data()
        QTable({
            "x": stars["PartType4", "particle_position_x"].to_astropy(),
            "v_x": stars["PartType4", "particle_velocity_x"].to_astropy(),
            "mass": stars["PartType4", "particle_mass"].to_astropy(), ...
        })

    References
    ----------
    .. [1] Power et al. (2003), MNRAS 338, 14.
    .. [2] Wolf & Buck (2023), arXiv:2312.06017; GalacticForge (2024).

    Examples
    --------
    >>> import numpy as np
    >>> import astropy.units as u
    >>> from astropy.table import QTable
    >>> from galml.stars import prepare
    >>> rng = np.random.default_rng(1)
    >>> phi, radius = rng.uniform(0, 2 * np.pi, 1000), rng.exponential(3, 1000)
    >>> particles = QTable({
    ...     "x": radius * np.cos(phi) * u.kpc, "y": radius * np.sin(phi) * u.kpc,
    ...     "z": np.zeros(1000) * u.kpc, "v_x": 200 * np.sin(phi) * u.km / u.s,
    ...     "v_y": -200 * np.cos(phi) * u.km / u.s, "v_z": np.zeros(1000) * u.km / u.s,
    ...     "mass": np.full(1000, 1e6) * u.Msun,
    ... })
    >>> stars, conditions = prepare(particles)
    >>> bool(np.mean(stars["x"] * stars["v_y"] - stars["y"] * stars["v_x"]) > 0)
    True
    >>> conditions.colnames
    ['galaxy_id', 'stellar_mass', 'r_eff', 'n_stars']
    """
    percentiles = {
        "position_percentile": position_percentile,
        "metallicity_percentile": metallicity_percentile,
    }
    _check_options(scale_factor, redshift, h, align, percentiles)
    table = as_table(stars, "stars")
    values = _read_particles(table, scale_factor, redshift, h, cosmology)
    values = {name: column[_known(values)] for name, column in values.items()}
    mass = values["mass"]
    if not len(mass):
        raise InputError("stars", "no usable star", f"at least {fewest}")
    position = np.stack([values[name] for name in POSITIONS], 1)
    velocity = np.stack([values[name] for name in VELOCITIES], 1)
    position, velocity = _at_rest(position, velocity, mass)
    turn = _alignment(position, velocity, mass, values.get("age"), align)
    values |= dict(zip(POSITIONS, turn @ position.T, strict=True))
    values |= dict(zip(VELOCITIES, turn @ velocity.T, strict=True))
    good = _find_good(values, *percentiles.values(), fe_h_min, o_fe_min)
    number = int(good.sum())
    if number < fewest:
        raise InputError("stars", f"{number} stars after the cuts", f"{fewest}")
    axes = {name: unit for name, unit in STAR_AXES.items() if name in values}
    result = QTable({"galaxy_id": np.full(number, galaxy_id)})
    for name, column in star_table(
        np.stack([values[name][good] for name in axes], 1), axes
    ).items():
        result[name] = column
    result["mass"] = mass[good] * u.Msun
    return result, _measure_conditions(values, galaxy_id, number)


def shrinking_sphere(position, mass):
    """Find the densest place of a galaxy.

    Parameters
    ----------
    position : `~numpy.ndarray`
        Shape (n, 3).
    mass : `~numpy.ndarray`
        Shape (n,).

    Returns
    -------
    `~numpy.ndarray`
        Shape (3,): mean of the last sphere of at least 100 stars, each a tenth smaller
        than the one before and around its mean.
    """
    center = np.median(position, axis=0)
    radius = np.linalg.norm(position - center, axis=1).max()
    while len(mass) >= FEWEST_IN_SPHERE and radius > 0:
        center = np.average(position, axis=0, weights=mass)
        radius *= SHRINKAGE
        inside = np.linalg.norm(position - center, axis=1) < radius
        if inside.all() or not inside.any():
            radius *= SHRINKAGE
        position, mass = position[inside], mass[inside]
    return center


def _check_options(scale_factor, redshift, h, align, percentiles):
    """Raise for options that make no sense."""
    if scale_factor is not None and redshift is not None:
        raise InputError("redshift", redshift, "none beside scale_factor")
    positive = {"scale_factor": scale_factor, "h": h}
    positive["redshift"] = None if redshift is None else 1 + redshift
    for name, value in positive.items():
        if value is not None and not 0 < value < np.inf:
            raise InputError(name, value, "a positive number")
    if align not in ALIGNMENTS:
        raise InputError("align", repr(align), f"one of {ALIGNMENTS}")
    for name, value in percentiles.items():
        if value is not None and not 0 < value <= 100:
            raise InputError(name, value, "above 0, at most 100")


def _read_particles(table, scale_factor, redshift, h, cosmology):
    """Read all columns that are known, in the units of `STAR_AXES` and solar masses."""
    scale = 1.0 if scale_factor is None else scale_factor
    units = {name: STAR_AXES[name] for name in POSITIONS + VELOCITIES}
    units["mass"] = u.Msun
    factors = dict.fromkeys(POSITIONS, scale / (h or 1))
    factors |= dict.fromkeys(VELOCITIES, scale**0.5) | {"mass": 1 / (h or 1)}
    plain = QTable(table, copy=False)
    for name in units:
        if name in plain.colnames:
            plain[name] = _without_h(plain[name], units[name], h, cosmology, name)
    values = {
        name: read_column(plain, name, unit, argument="stars") * factors[name]
        for name, unit in units.items()
    }
    for name, unit in STAR_AXES.items():
        if name not in values and name in table.colnames:
            values[name] = read_column(table, name, unit, argument="stars")
    if FORMATION in table.colnames:
        formed = read_column(
            table, FORMATION, u.dimensionless_unscaled, argument="stars"
        )
        now = scale if redshift is None else 1 / (1 + redshift)
        values["age"] = _ages(formed, now, cosmology)
    return values


def _without_h(column, unit, h, cosmology, name):
    """Convert units with powers of h to those without."""
    own = getattr(column, "unit", None)
    if own is None or cu.littleh not in own.bases:
        return column
    if h is not None:
        raise InputError("h", h, f"none, as the unit {own} has h itself")
    try:
        return column.to(unit, cu.with_H0(cosmology.H0))
    except u.UnitConversionError as error:
        argument, got = f"stars[{name!r}]", f"values in {own}"
        raise InputUnitError(argument, got, f"a unit like {unit}") from error


def _ages(formed, now, cosmology):
    """Turn formation scale factors into ages (Gyr); NaN where there is none."""
    born = formed > 0
    ages = np.full(len(formed), np.nan)
    if not born.any():
        return ages
    ends = min(formed[born].min(), now), max(formed[born].max(), now)
    grid = np.geomspace(ends[0] * 0.999, ends[1] * 1.001, N_SCALE_FACTORS)
    times = cosmology.age(1 / grid - 1).to_value(u.Gyr)
    time = CubicSpline(np.log(grid), times)
    ages[born] = time(np.log(now)) - time(np.log(formed[born]))
    return ages


def _known(values):
    """Find the stars of which all is known."""
    known = np.all([np.isfinite(column) for column in values.values()], axis=0)
    return known & (values["mass"] > 0)


def _at_rest(position, velocity, mass):
    """Shift positions and velocities to those relative to the galaxy."""
    position = position - shrinking_sphere(position, mass)
    radius = np.linalg.norm(position, axis=1)
    inside = radius <= weighted_percentile(radius, 50, mass)
    mean = np.average(velocity[inside], axis=0, weights=mass[inside])
    return position, velocity - mean


def _alignment(position, velocity, mass, age, align):
    """Find the rotation, shape (3, 3), that turns the angular momentum to +z."""
    if align is None:
        return np.eye(3)
    chosen = np.ones(len(mass), dtype=bool)
    if align != "all":
        radius = np.linalg.norm(position, axis=1)
        chosen = radius <= INNER_RADII * weighted_percentile(radius, 50, mass)
    if align == "young":
        if age is None:
            raise InputError("align", "'young' without ages", "'inner' or 'all'")
        chosen &= age <= weighted_percentile(age[chosen], 50, mass[chosen])
    spin = mass[chosen] @ np.cross(position[chosen], velocity[chosen])
    if not np.linalg.norm(spin) > 0:
        raise InputError("stars", "no angular momentum", "some, or align=None")
    turn, _ = Rotation.align_vectors([[0, 0, 1]], [spin / np.linalg.norm(spin)])
    return turn.as_matrix()


def _find_good(values, position_percentile, metallicity_percentile, fe_h_min, o_fe_min):
    """Find the stars that are physical and not far out."""
    good = np.ones(len(values["mass"]), dtype=bool)
    poorest = 0.0 if "fe_h" in values else SOLAR_METALLICITY * 10**fe_h_min
    limits = {
        "metal_mass_fraction": (poorest, 1),
        "age": (0, AGE_OF_UNIVERSE),
        "fe_h": (fe_h_min, np.inf),
        "o_fe": (o_fe_min, np.inf),
    }
    for name, (low, high) in limits.items():
        if name in values:
            good &= (values[name] > low) & (values[name] < high)
    radius = np.linalg.norm([values[name] for name in POSITIONS], axis=0)
    cuts = [(radius, position_percentile)]
    if "metal_mass_fraction" in values:
        cuts.append((values["metal_mass_fraction"], metallicity_percentile))
    for column, percentile in cuts:
        if percentile is not None and good.any():
            good &= column <= np.percentile(column[good], percentile)
    return good


def _measure_conditions(values, galaxy_id, number):
    """Measure the conditions of a galaxy."""
    mass, age = values["mass"], values.get("age")
    metals = values.get("metal_mass_fraction")
    row = QTable({"galaxy_id": [galaxy_id]})
    row["stellar_mass"] = [mass.sum()] * u.Msun
    radius = np.hypot(values["x"], values["y"])
    row["r_eff"] = [weighted_percentile(radius, 50, mass)] * u.kpc
    if age is not None:
        # What rounding makes of stars that were born just now.
        age = np.maximum(age, 0)
        row["median_age"] = [weighted_percentile(age, 50, mass)] * u.Gyr
        row["age_percentile_10"] = [weighted_percentile(age, 10, mass)] * u.Gyr
    if metals is not None:
        mean = np.average(np.maximum(metals, 0), weights=mass)
        row["metallicity"] = [np.log10(mean / SOLAR_METALLICITY)] * u.dex
    row["n_stars"] = [number]
    return row
