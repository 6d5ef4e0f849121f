# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From what was observed to maps in km/s with center and beam in pixels."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.geometry import beam_of, celestial, pixel_scale
from galml.gas_kinematics.moment_maps import measure

__all__ = ["VelocityMap", "to_velocity"]

KMS = u.km / u.s
SMALLEST, LARGEST = 4, 20_000


@dataclass
class VelocityMap:
    """One map, ready to be prepared.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape (ny, nx), km/s; NaN where nothing was measured.
    dispersion, std : `~numpy.ndarray` or None
        Shape (ny, nx), km/s.
    center : tuple of float
        Pixel (x, y), NaN where it is to be found.
    beam : float
        FWHM in pixels, NaN where unknown.
    wcs : `~astropy.wcs.WCS` or None
        Celestial.
    flags : int
        Bits of `galml.core.Flag`.
    name : str or None
        Name of the galaxy.
    """

    values: np.ndarray
    dispersion: np.ndarray | None
    std: np.ndarray | None
    center: tuple
    beam: float
    wcs: object
    flags: int
    name: str | None


def to_velocity(observation, *, dispersion=None, center=None, redshift=None, beam=None):
    """Convert an observation to km/s in the galaxy's frame.

    Parameters
    ----------
    observation : `~galml.core.inputs.Observation`
        Velocity map, or cube, whose moments are then taken.
    dispersion : `~galml.core.inputs.Observation`, optional
        Map of the velocity dispersion on the same pixels.
    center : pair of float, `~astropy.units.Quantity` or `~astropy.coordinates.SkyCoord`
        Pixel (x, y) counted from 0, or sky position.
    redshift : float, optional
        Velocities are divided by 1 + redshift.
    beam : `~astropy.units.Quantity` or beam, optional
        FWHM in an angle or in pixels; else that of the header.

    Returns
    -------
    `VelocityMap`

    Raises
    ------
    galml.core.InputError
        If a value is out of range, shapes differ or units cannot be converted.
    """
    flags = observation.flags
    if observation.values.ndim == 3:
        values, std, sigma = _from_cube(observation)
        wcs = celestial(observation.wcs)
        if np.isfinite(std).any():
            flags &= ~int(Flag.NO_UNCERTAINTY)
    else:
        values, std = _in_kms(observation, "data")
        wcs, sigma = observation.wcs, None
    _check_shape(values.shape)
    if dispersion is not None:
        if dispersion.values.shape != values.shape:
            raise InputError(
                "dispersion",
                f"shape {dispersion.values.shape}",
                f"the shape of the velocity map, {values.shape}",
            )
        sigma = _in_kms(dispersion, "dispersion", linear=True)[0]
    stretch = 1.0 + _redshift(redshift)
    place = _center(center, wcs, values.shape)
    return VelocityMap(
        values=values / stretch,
        dispersion=None if sigma is None else sigma / stretch,
        std=None if std is None else std / stretch,
        center=place,
        beam=_beam(beam, observation, wcs, values.shape),
        wcs=wcs,
        flags=flags,
        name=observation.name,
    )


def _from_cube(observation):
    """Velocity, its error and dispersion from the moments of a cube."""
    maps = measure(observation)
    planes = []
    for image in (maps.velocity, maps.dispersion):
        planes.append(np.where(image.mask, np.nan, image.data))
    velocity, sigma = planes
    return velocity, np.asarray(maps.velocity.uncertainty.array), sigma


def _in_kms(observation, argument, linear=False):
    """Values and errors of a map in km/s."""
    unit = observation.unit
    equivalencies = [] if linear else _equivalencies(observation)

    def convert(values):
        return u.Quantity(values, unit, copy=False).to_value(KMS, equivalencies)

    try:
        values = convert(observation.values)
    except u.UnitConversionError as error:
        raise InputUnitError(
            argument, f"a map in {unit.to_string() or 'no unit'}", "a velocity"
        ) from error
    if observation.std is None:
        return values, None
    # To first order, also where the conversion is not linear.
    step = convert(observation.values + observation.std) - values
    return values, np.abs(step)


def _equivalencies(observation):
    """Ways from the unit of a map to a velocity."""
    unit, meta = observation.unit, observation.meta
    if unit.is_equivalent(u.dimensionless_unscaled):
        return u.doppler_redshift()
    if unit.is_equivalent(u.Hz) and meta.get("RESTFRQ", meta.get("RESTFREQ")):
        rest = float(meta.get("RESTFRQ", meta.get("RESTFREQ"))) * u.Hz
        return u.doppler_radio(rest)
    if unit.is_equivalent(u.m) and meta.get("RESTWAV"):
        return u.doppler_optical(float(meta["RESTWAV"]) * u.m)
    return []


def _check_shape(shape):
    if min(shape) < SMALLEST or max(shape) > LARGEST:
        raise InputError(
            "data",
            f"a map of shape {shape}",
            f"between {SMALLEST} and {LARGEST} pixels a side",
        )


def _redshift(redshift):
    """Redshift as a number, zero when there is none."""
    if redshift is None:
        return 0.0
    try:
        value = float(u.Quantity(redshift).to_value(u.dimensionless_unscaled))
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise InputTypeError("redshift", repr(redshift), "a number") from error
    if not -1 < value < 100:
        raise InputError("redshift", value, "a number above -1")
    return value


def _center(center, wcs, shape):
    """Pixel (x, y) of the center, NaN where it is to be found."""
    if center is None:
        return (np.nan, np.nan)
    if isinstance(center, SkyCoord):
        if wcs is None:
            raise InputError("center", "a SkyCoord", "a map with a celestial WCS")
        x, y = (float(value) for value in wcs.world_to_pixel(center))
    else:
        try:
            x, y = u.Quantity(center, u.pix, dtype=float).to_value(u.pix).reshape(2)
        except (TypeError, ValueError, u.UnitConversionError) as error:
            raise InputTypeError(
                "center", repr(center), "a pair of pixels (x, y) or a SkyCoord"
            ) from error
    inside = -0.5 <= x <= shape[1] - 0.5 and -0.5 <= y <= shape[0] - 0.5
    if not inside:
        raise InputError(
            "center", f"({x:g}, {y:g})", f"a pixel (x, y) of a map of shape {shape}"
        )
    return (float(x), float(y))


def _beam(beam, observation, wcs, shape):
    """FWHM of the beam in pixels, NaN where unknown."""
    if isinstance(beam, u.Quantity) and beam.unit.is_equivalent(u.pix):
        width = beam.to_value(u.pix)
        if not (np.isscalar(width) or width.ndim == 0) or not 0 < width < np.inf:
            raise InputError("beam", beam, "one width above zero")
        return float(width)
    found = beam_of(beam if beam is not None else observation)
    if found is None:
        return np.nan
    scale = pixel_scale(wcs, ((shape[1] - 1) / 2, (shape[0] - 1) / 2))
    if scale is None:
        if beam is None:
            return np.nan
        raise InputError(
            "beam", beam, "a width in pixels: the map has no celestial WCS"
        )
    width = np.sqrt(found[0] * found[1]) / scale
    return float(width.to_value(u.pix))
