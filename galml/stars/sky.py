# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stars of a galaxy as an observer sees them."""

import astropy.units as u
import numpy as np
from astropy.coordinates import (
    ICRS,
    CartesianDifferential,
    CartesianRepresentation,
    Galactocentric,
    SkyCoord,
)

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.physics import STAR_AXES
from galml.stars.preparation import read_stars

__all__ = ["to_galactocentric", "to_skycoord"]

PHASE_SPACE = {name: STAR_AXES[name] for name in ("x", "y", "z", "v_x", "v_y", "v_z")}


def to_skycoord(
    stars, center, *, distance=None, inclination=0 * u.deg, position_angle=0 * u.deg
):
    """Put the stars of a galaxy on the sky, as seen from outside.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        With x, y, z and v_x, v_y, v_z, of any length and velocity units; the spin of
        the galaxy along +z.
    center : `~astropy.coordinates.SkyCoord`
        Where the galaxy is. Its distance and velocities count where it has them: proper
        motions and radial velocity are added to those of the stars.
    distance : `~astropy.units.Quantity`, optional
        Distance, where ``center`` has none.
    inclination : `~astropy.units.Quantity`, optional
        Angle between the spin and the direction to the observer: a galaxy at 0 is seen
        face-on and turns counter-clockwise on the sky, one at 180 degrees clockwise.
    position_angle : `~astropy.units.Quantity`, optional
        From north over east to the receding side of the major axis, which is +x.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        ICRS with distances, proper motions and radial velocities. Masked and NaN stars
        are NaN.

    Raises
    ------
    galml.core.InputError
        If the distance is missing or not positive, or a column is missing.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    """
    center = _center(center, distance)
    phi = _value("position_angle", position_angle, u.rad)
    tilt = _value("inclination", inclination, u.rad)
    north, east, away = _directions(center)
    major = np.cos(phi) * north + np.sin(phi) * east
    minor = np.cos(phi) * east - np.sin(phi) * north
    axes = np.array(
        [
            major,
            np.cos(tilt) * minor + np.sin(tilt) * away,
            np.sin(tilt) * minor - np.cos(tilt) * away,
        ]
    )
    position, velocity = _vectors(stars)
    origin = center.cartesian.xyz.to(u.kpc)
    motion = np.zeros(3) * u.km / u.s
    if center.data.differentials:
        motion = center.velocity.d_xyz.to(u.km / u.s)
    position = (position @ axes) * u.kpc + origin
    velocity = (velocity @ axes) * u.km / u.s + motion
    return SkyCoord(ICRS(_representation(position, velocity)))


def to_galactocentric(stars, frame=None):
    """Put the stars in the position of those of the Milky Way.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        As for `to_skycoord`.
    frame : `~astropy.coordinates.Galactocentric`, optional
        Where the Sun is, and how it moves; that of astropy by default.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        In that frame, where the galaxy turns as the Milky Way does: its spin points to
        the south Galactic pole, so that y and z change their signs.
        ``transform_to("icrs")`` or ``.galactic`` is what the Sun sees.

    Raises
    ------
    galml.core.InputError
        If a column is missing.
    galml.core.InputTypeError
        If the frame is another one.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    """
    frame = Galactocentric() if frame is None else frame
    if not isinstance(frame, Galactocentric):
        raise InputTypeError("frame", type(frame).__name__, "a Galactocentric frame")
    turn = np.array([1.0, -1.0, -1.0])
    position, velocity = _vectors(stars)
    data = _representation(position * turn * u.kpc, velocity * turn * u.km / u.s)
    return SkyCoord(frame.realize_frame(data))


def _center(center, distance):
    """Read the position of a galaxy with its distance, in ICRS."""
    if not isinstance(center, SkyCoord) or not center.isscalar:
        raise InputTypeError("center", type(center).__name__, "one SkyCoord")
    center = center.icrs
    if distance is not None:
        distance = _value("distance", distance, u.kpc) * u.kpc
    has_distance = center.distance.unit.is_equivalent(u.kpc)
    if distance is not None:
        if has_distance:
            raise InputError("distance", distance, "none: the center has one")
        moving = {}
        if center.data.differentials:
            moving = {
                "pm_ra_cosdec": center.pm_ra_cosdec,
                "pm_dec": center.pm_dec,
                "radial_velocity": center.radial_velocity,
            }
        center = SkyCoord(ra=center.ra, dec=center.dec, distance=distance, **moving)
    elif not has_distance:
        raise InputError("distance", None, "a length, as the center has none")
    if not 0 < center.distance.value < np.inf:
        raise InputError("distance", center.distance, "a positive length")
    return center


def _value(name, quantity, unit):
    """Convert one number to a unit."""
    try:
        return float(u.Quantity(quantity).to_value(unit))
    except u.UnitConversionError as error:
        raise InputUnitError(name, str(quantity), f"a unit like {unit}") from error
    except TypeError as error:
        raise InputTypeError(name, repr(quantity), "one Quantity") from error


def _directions(center):
    """Compute unit vectors to north, to east and away from the observer, in ICRS."""
    vectors = center.spherical.unit_vectors()
    return [vectors[key].xyz.value for key in ("lat", "lon", "distance")]


def _vectors(stars):
    """Places (kpc) and velocities (km/s), shape (n, 3)."""
    values, unknown = read_stars(stars, PHASE_SPACE)
    values[unknown] = np.nan
    return values[:, :3], values[:, 3:]


def _representation(position, velocity):
    return CartesianRepresentation(
        position.T, differentials=CartesianDifferential(velocity.T)
    )
