# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is known of a star and of its galaxy: names, units and the solar values."""

import astropy.units as u
import numpy as np
from astropy.cosmology import Planck18
from astropy.table import QTable

__all__ = [
    "AGE_OF_UNIVERSE",
    "CONDITIONS",
    "OPTIONAL_CONDITIONS",
    "SOLAR_METALLICITY",
    "STAR_AXES",
    "star_table",
    "weighted_percentile",
]

#: The axes of a star in order, with their units: position and velocity relative to the
#: galaxy, z along its angular momentum; mass fraction of metals; abundances relative
#: to the Sun; age.
STAR_AXES = {
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
#: What is known of a galaxy, in order: log10 of solar masses, Gyr, Gyr, [M/H].
CONDITIONS = (
    "log_stellar_mass",
    "median_age",
    "age_percentile_10",
    "metallicity",
)
#: What may be known besides, in order: log10 of kpc, of the circle about the spin axis
#: that holds half of the stars (column ``r_eff`` of a table).
OPTIONAL_CONDITIONS = ("log_r_eff",)
#: Mass fraction of metals in the solar photosphere (Asplund+ 2009, ARA&A 47, 481).
SOLAR_METALLICITY = 0.0134
#: In Gyr, Planck Collaboration (2020), A&A 641, A6.
AGE_OF_UNIVERSE = float(Planck18.age(0).to_value(u.Gyr))


def star_table(values, axes=STAR_AXES):
    """Put stars into a table.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, axes).
    axes : dict of str to `~astropy.units.UnitBase`
        Names and units of the axes.

    Returns
    -------
    `~astropy.table.QTable`
        Columns with units; plain numbers where they are dimensionless.
    """
    table = QTable()
    for place, (name, unit) in enumerate(axes.items()):
        column = values[:, place]
        table[name] = column if unit == u.dimensionless_unscaled else column << unit
    return table


def weighted_percentile(values, percent, weights):
    """Find the value below which a share of the weight lies.

    Parameters
    ----------
    values, weights : `~numpy.ndarray`
        Shape (n,); weights are not negative.
    percent : float
        Share of the weight, from 0 to 100.

    Returns
    -------
    float
        One of the values.
    """
    return float(np.percentile(values, percent, weights=weights, method="inverted_cdf"))
