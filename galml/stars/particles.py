# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From the star particles of a simulated galaxy to tables of stars and conditions."""

import astropy.cosmology.units as cu
import astropy.units as u
import numpy as np
from astropy.cosmology import Planck18
from astropy.table import QTable
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from galml.core.exceptions import InputError, InputUnitError
from galml.core.inputs import as_table
from galml.physics import (
    AGE_OF_UNIVERSE,
    SOLAR_METALLICITY,
    STAR_AXES,
    star_table,
    weighted_percentile,
)
from galml.stars.preparation import read_column

__all__ = ["prepare", "shrinking_sphere"]

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
