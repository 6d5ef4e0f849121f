# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is measured on the stars of one galaxy: quantiles, curves, metallicities."""

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.metrics import binned
from galml.stars.columns import (
    AXES,
    SOLAR_METALLICITY,
    as_table,
    read_stars,
    star_table,
)
from galml.stars.metrics import LEVELS, known_stars, shared_axes

__all__ = [
    "age_metallicity",
    "ages_and_metallicities",
    "cylindrical",
    "dispersion_curve",
    "quantiles",
    "rotation_curve",
]

RADII = 12


def quantiles(stars, levels=LEVELS, *, axes=None):
    """Give quantiles along each axis.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars.
    levels : sequence of float
        Between 0 and 1.
    axes : sequence of str, optional
        Columns; by default all of `galml.stars.columns.AXES` that are there.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each level: ``level`` and the axes with their units.
    """
    stars = as_table(stars, "stars")
    units = shared_axes(stars, stars, axes)
    values = known_stars(*read_stars(stars, units), "stars")
    table = star_table(np.quantile(values, levels, axis=0), units)
    table.add_column(np.asarray(levels, dtype=float), name="level", index=0)
    return table


def cylindrical(stars):
    """Give radii around the z axis, and velocities along R, phi and z.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.

    Returns
    -------
    dict of str to `~numpy.ndarray`
        ``radius`` and ``z`` in kpc, ``r``, ``phi`` and ``z_velocity`` in km/s; shape
        (n,), without unknown stars.
    """
    axes = {name: AXES[name] for name in ("x", "y", "z", "v_x", "v_y", "v_z")}
    x, y, z, v_x, v_y, v_z = known_stars(*read_stars(stars, axes), "stars").T
    radius = np.hypot(x, y)
    inverse = 1 / np.maximum(radius, np.finfo(float).tiny)
    return {
        "radius": radius,
        "z": z,
        "r": (x * v_x + y * v_y) * inverse,
        "phi": (x * v_y - y * v_x) * inverse,
        "z_velocity": v_z,
    }


def rotation_curve(stars, edges=None):
    """Give the mean velocity around the z axis against the radius.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.
    edges : `~astropy.units.Quantity`, optional
        Edges of the bins of cylindrical radius; by default 12 equal ones that hold
        95 % of the stars.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count`` and ``value``; NaN where it is empty.
        Positive along the angular momentum of a galaxy whose disk turns from x to y.
    """
    return _curve(np.mean, cylindrical(stars), "phi", edges)


def dispersion_curve(stars, edges=None, *, along="z"):
    """Give the velocity dispersion against the radius.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.
    edges : `~astropy.units.Quantity`, optional
        As in `rotation_curve`.
    along : {"r", "phi", "z"}
        Cylindrical component.

    Returns
    -------
    `~astropy.table.QTable`
        As in `rotation_curve`.

    Raises
    ------
    galml.core.InputError
        For another component.
    """
    keys = {"r": "r", "phi": "phi", "z": "z_velocity"}
    if along not in keys:
        raise InputError("along", repr(along), f"one of {list(keys)}")
    return _curve(np.std, cylindrical(stars), keys[along], edges)


def age_metallicity(stars, edges=None):
    """Give the metallicity against the age.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with ``age`` and ``fe_h``; without that, [M/H] of ``metal_mass_fraction``.
    edges : `~astropy.units.Quantity`, optional
        Edges of the bins of age; by default those between 1 Gyr steps from 0 to 14 Gyr.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count``, the median ``value`` and the
        quantiles ``value_lo`` and ``value_hi`` (16 and 84 %) in dex; NaN where it is
        empty.
    """
    age, metallicity = ages_and_metallicities(stars)
    edges = np.arange(15.0) if edges is None else edges.to_value(u.Gyr)
    found = [
        binned(lambda v, share=share: np.quantile(v, share), age, edges, metallicity)
        for share in (0.5, 0.16, 0.84)
    ]
    table = found[0]
    for name in ("low", "high"):
        table[name] = table[name] * u.Gyr
    ends = ("value", "value_lo", "value_hi")
    for name, part in zip(ends, [t["value"] for t in found], strict=True):
        table[name] = np.asarray(part) * u.dex
    return table


def _curve(metric, found, key, edges):
    """Evaluate a metric of a velocity in bins of radius."""
    if edges is None:
        edges = np.linspace(0, np.quantile(found["radius"], 0.95), RADII + 1)
    else:
        edges = edges.to_value(u.kpc)
    table = binned(metric, found["radius"], edges, found[key])
    for name in ("low", "high"):
        table[name] = table[name] * u.kpc
    table["value"] = table["value"] * (u.km / u.s)
    return table


def ages_and_metallicities(stars):
    """Give ages and metallicities of the stars of which both are known."""
    stars = as_table(stars, "stars")
    name = "fe_h" if "fe_h" in stars.colnames else "metal_mass_fraction"
    axes = {key: AXES[key] for key in ("age", name)}
    age, metallicity = known_stars(*read_stars(stars, axes), "stars").T
    if name == "metal_mass_fraction":
        age, metallicity = age[metallicity > 0], metallicity[metallicity > 0]
        metallicity = np.log10(metallicity / SOLAR_METALLICITY)
    return age, metallicity
