# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Maps or tables of stellar kinematics, read as lists of spaxels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from galml.core.exceptions import (
    GalmlError,
    InputError,
    InputTypeError,
    InputUnitError,
)
from galml.core.flags import Flag
from galml.core.geometry import pixel_angle, pixel_scale
from galml.core.inputs import Failure, name_of, read, stream

__all__ = ["Spaxels", "read_spaxels"]

KMS = u.km / u.s
MAPS = ("flux", "velocity", "dispersion")


@dataclass
class Spaxels:
    """Spaxels of one galaxy; those without all three measurements are left out.

    Attributes
    ----------
    x, y : `~numpy.ndarray`
        Position: pixels of a map, or arcsec or plain numbers as the table has them.
    flux, velocity, dispersion : `~numpy.ndarray`
        Above zero; in km/s; in km/s.
    flux_std, velocity_std, dispersion_std : `~numpy.ndarray` or None
        Their errors.
    area : float
        Area of a spaxel, in squares of the unit of position.
    unit : `~astropy.units.UnitBase`
        Unit of position: pixel or arcsec.
    wcs : `~astropy.wcs.WCS` or None
        Celestial, of a map.
    shape : tuple of int or None
        Of a map.
    flags : int
        Bits of `galml.core.Flag`.
    name : str or None
        Name of the galaxy.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    velocity: np.ndarray
    dispersion: np.ndarray
    flux_std: np.ndarray | None
    velocity_std: np.ndarray | None
    dispersion_std: np.ndarray | None
    area: float
    unit: u.UnitBase
    wcs: object
    shape: tuple | None
    flags: int
    name: str | None

    def select(self, keep):
        """Give the spaxels where ``keep`` is True."""
        arrays = {
            name: value[keep]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def length(self, value, argument):
        """Give a length, an angle or in pixels, in the unit of position."""
        try:
            length = u.Quantity(value)
        except (TypeError, ValueError) as error:
            raise InputTypeError(argument, repr(value), "a length") from error
        if not length.isscalar:
            raise InputTypeError(argument, repr(value), "one length")
        if length.unit == u.dimensionless_unscaled:
            length = length.value * self.unit
        equivalencies = []
        if self.wcs is not None:
            middle = tuple((side - 1) / 2 for side in self.shape[::-1])
            equivalencies = u.pixel_scale(pixel_scale(self.wcs, middle))
        try:
            return float(length.to_value(self.unit, equivalencies))
        except u.UnitConversionError as error:
            raise InputUnitError(
                argument, str(value), f"a length in {self.unit}, or a celestial WCS"
            ) from error

    def position(self, center):
        """Give a center, pixel or sky position, as (x, y)."""
        if isinstance(center, SkyCoord):
            if self.wcs is None:
                raise InputError("center", "a SkyCoord", "a map with a celestial WCS")
            x, y = (float(value) for value in self.wcs.world_to_pixel(center))
        else:
            try:
                x, y = (self.length(value, "center") for value in center)
            except TypeError as error:
                raise InputTypeError("center", repr(center), "a pair (x, y)") from error
        if not np.isfinite([x, y]).all():
            raise InputError("center", f"({x}, {y})", "finite numbers")
        return x, y

    def image_angle(self, position_angle, center):
        """Give a position angle in radians counter-clockwise from +y."""
        try:
            angle = u.Quantity(position_angle, dtype=float)
            if angle.unit == u.dimensionless_unscaled:
                angle = angle.value * u.deg
            angle = angle.to(u.deg)
        except (TypeError, ValueError) as error:
            raise InputTypeError(
                "position_angle", repr(position_angle), "an angle"
            ) from error
        if angle.ndim or not np.isfinite(angle):
            raise InputError("position_angle", str(position_angle), "one finite angle")
        return float(pixel_angle(angle, self.wcs, center).to_value(u.rad))


def read_spaxels(flux, velocity, dispersion, *, unit=None, hdu=None):
    """Read maps or tables of stellar kinematics, one galaxy at a time.

    Parameters
    ----------
    flux, velocity, dispersion, unit, hdu
        As in `~galml.stellar_spin.lambda_r`.

    Returns
    -------
    is_single : bool
        Whether there is one galaxy. It has been read.
    length : int or None
        Number of galaxies, where known.
    galaxies : iterator
        Of `Spaxels`, and of `~galml.core.inputs.Failure` where a member of a batch
        cannot be used.
    """
    if velocity is None and dispersion is None:
        return _read_tables(flux, unit)
    hdus = dict(hdu) if isinstance(hdu, dict) else dict.fromkeys(MAPS, hdu)
    if unknown := sorted(set(hdus) - set(MAPS)):
        raise InputError("hdu", f"extensions for {unknown}", f"some of {MAPS}")
    units = {"flux": u.dimensionless_unscaled, "velocity": unit, "dispersion": unit}
    sources = {"flux": flux, "velocity": velocity, "dispersion": dispersion}
    streams = [
        stream(source, argument=name, unit=units[name], hdu=hdus.get(name))
        for name, source in sources.items()
    ]
    is_single = streams[0][0]
    counts = {count for _, count, _ in streams if count is not None}
    if any(alone != is_single for alone, _, _ in streams) or len(counts) > 1:
        got = ["one map" if alone else f"{count} maps" for alone, count, _ in streams]
        raise InputError("velocity", ", ".join(got), f"as many maps of each of {MAPS}")
    members = zip_longest(*(maps for _, _, maps in streams))
    galaxies = _convert(members, _from_maps, is_single)
    return is_single, next(iter(counts), None), galaxies


def _read_tables(tables, unit):
    """Read one table of spaxels, or one for each galaxy."""

    def convert(table):
        return _from_table(table, unit)

    if isinstance(tables, Table):
        return True, 1, _convert([tables], convert, True)
    if isinstance(tables, np.ndarray | str) or not isinstance(tables, Iterable):
        raise InputTypeError(
            "velocity",
            "None",
            "maps of velocity and dispersion, unless flux is a table of spaxels",
        )
    length = len(tables) if hasattr(tables, "__len__") else None
    return False, length, _convert(tables, convert, False)


def _convert(members, convert, is_single):
    """Convert each member; in a batch an error becomes a `Failure`."""
    for member in members:
        try:
            yield convert(member)
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as error:
            if is_single:
                raise
            parts = member if isinstance(member, tuple) else (member,)
            names = [
                getattr(part, "name", None) or name_of(None, getattr(part, "meta", {}))
                for part in parts
            ]
            yield Failure(error, next(filter(None, names), None))


def _from_maps(members):
    """Put the pixels of three maps into one list."""
    for member, argument in zip(members, MAPS, strict=True):
        if isinstance(member, Failure):
            raise member.error
        if member is None:
            raise InputError(argument, "too few maps", "as many as of the others")
    flux, velocity, dispersion = members
    shapes = [member.values.shape for member in members]
    if len(set(shapes)) > 1:
        raise InputError("dispersion", f"maps of shapes {shapes}", "one shape")
    y, x = np.indices(shapes[0], dtype=float)
    wcs = next((m.wcs for m in (velocity, flux, dispersion) if m.wcs is not None), None)
    return _spaxels(
        x,
        y,
        members,
        area=1.0,
        unit=u.pix,
        wcs=wcs,
        shape=shapes[0],
        name=velocity.name or flux.name,
    )


def _from_table(table, unit):
    """Put the rows of a table into a list of spaxels."""
    if not isinstance(table, Table):
        raise InputTypeError(
            "flux", f"an object of type {type(table).__name__}", "a table of spaxels"
        )
    wanted = ("x", "y", *MAPS)
    if missing := [name for name in wanted if name not in table.colnames]:
        raise InputError(
            "flux", f"a table without the columns {missing}", f"the columns {wanted}"
        )
    table = QTable(table, copy=False)
    x, y = (_column(table, name, u.pix) for name in ("x", "y"))
    members = [
        _column(table, "flux", u.dimensionless_unscaled),
        _column(table, "velocity", unit),
        _column(table, "dispersion", unit),
    ]
    plain = (u.pix, u.dimensionless_unscaled)
    position = u.pix if x.unit in plain else u.arcsec
    x, y = (
        axis.values
        if position == u.pix and axis.unit in plain
        else _converted(axis.values, axis.unit, position, key)
        for key, axis in (("x", x), ("y", y))
    )
    return _spaxels(
        x,
        y,
        members,
        area=_area(x, y),
        unit=position,
        wcs=None,
        shape=None,
        name=name_of(None, table.meta),
    )


def _column(table, name, unit):
    """Read a column, with its errors from the column ``NAME_err``."""
    column = read(table[name], argument=name, unit=unit, ndim=(1,))
    if f"{name}_err" in table.colnames:
        error = read(table[f"{name}_err"], argument=name, unit=column.unit, ndim=(1,))
        column.std = _converted(error.values, error.unit, column.unit, f"{name}_err")
        column.flags &= ~int(Flag.NO_UNCERTAINTY)
    return column


def _converted(values, unit, wanted, argument):
    """Convert numbers to another unit."""
    try:
        return unit.to(wanted, values)
    except u.UnitConversionError as error:
        raise InputUnitError(argument, f"values in {unit}", str(wanted)) from error


def _area(x, y):
    """Area of a spaxel: of the square with the median distance to a neighbor."""
    from scipy.spatial import cKDTree

    places = np.stack([x, y], axis=1)
    places = np.unique(places[np.isfinite(places).all(axis=1)], axis=0)
    if len(places) < 2:
        return np.nan
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1])) ** 2


def _spaxels(x, y, members, *, name, **rest):
    """Keep the spaxels with a position and all three measurements."""
    flux, *motions = members
    values, errors = [flux.values], [flux.std]
    for member, argument in zip(motions, MAPS[1:], strict=True):
        values.append(_converted(member.values, member.unit, KMS, argument))
        std = member.std
        if std is not None:
            std = _converted(std, member.unit, KMS, argument)
        errors.append(std)
    arrays = dict(zip(MAPS, values, strict=True))
    arrays |= {f"{key}_std": std for key, std in zip(MAPS, errors, strict=True)}
    flags = int(np.bitwise_or.reduce([m.flags for m in members]))
    flags &= ~int(Flag.NO_UNCERTAINTY | Flag.NO_WCS)
    if any(std is None for std in errors[1:]):
        flags |= Flag.NO_UNCERTAINTY
    if rest["wcs"] is None:
        flags |= Flag.NO_WCS
    arrays = {k: None if a is None else a.astype(float) for k, a in arrays.items()}
    spaxels = Spaxels(x=x, y=y, **arrays, flags=int(flags), name=name, **rest)
    usable = np.nan_to_num(flux.values) > 0
    for array in (x, y, *values[1:]):
        usable &= np.isfinite(array)
    for std in errors:
        usable &= True if std is None else (std >= 0) & (std < np.inf)
    return spaxels.select(usable)
