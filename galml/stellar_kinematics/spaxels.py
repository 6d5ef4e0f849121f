# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Maps or tables of stellar kinematics, read as lists of spaxels."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import tee, zip_longest
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import IMAGE_HDUS, open_fits
from galml.core.flags import Flag
from galml.core.geometry import pixel_angle, pixel_scale
from galml.core.inputs import (
    Failure,
    Source,
    convert_each,
    is_record,
    name_of,
    read,
    stream,
)
from galml.core.table_files import read_table

__all__ = ["KMS", "Spaxels", "read_spaxels"]

KMS = u.km / u.s
MAPS = ("flux", "velocity", "dispersion")
#: Most pixels of a map that are measured one by one, and pixels of a strip.
MOST_SPAXELS, STRIP = 1_000_000, 1_000_000
TABLE_OR_MAPS = "a table of spaxels, or maps of velocity and dispersion beside it"


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

    def number(self, value, argument, unit=u.dimensionless_unscaled):
        """Give one number in a unit, which it has where it has none itself."""
        quantity = _quantity(value, argument, unit)
        try:
            return float(quantity.to_value(unit))
        except u.UnitConversionError as error:
            wanted = str(unit) or "a number without a unit"
            raise InputUnitError(argument, str(value), wanted) from error

    def length(self, value, argument):
        """Give a length, an angle or in pixels, in the unit of position."""
        length = _with_unit(value, argument, "an angle or pixels")
        equivalencies = []
        if self.wcs is not None:
            center = tuple((side - 1) / 2 for side in self.shape[::-1])
            equivalencies = u.pixel_scale(pixel_scale(self.wcs, center))
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
                x, y = (
                    self.length(_quantity(value, "center", self.unit), "center")
                    for value in center
                )
            except (TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputTypeError("center", repr(center), "a pair (x, y)") from error
        if not np.isfinite([x, y]).all():
            raise InputError("center", f"({x}, {y})", "finite numbers")
        return x, y

    def image_angle(self, position_angle, center):
        """Give a position angle in radians counter-clockwise from +y."""
        position_angle = _with_unit(position_angle, "position_angle", "an angle")
        angle = self.number(position_angle, "position_angle", u.deg)
        if not np.isfinite(angle):
            raise InputError("position_angle", str(position_angle), "a finite angle")
        return float(pixel_angle(angle * u.deg, self.wcs, center).to_value(u.rad))


class Maps(NamedTuple):
    """What was read of the three maps of one galaxy; None where there is no map."""

    flux: object
    velocity: object
    dispersion: object

    @property
    def name(self):
        """Name of the first map that has one, that of the velocities before all."""
        maps = (self.velocity, self.flux, self.dispersion)
        return next(filter(None, (getattr(one, "name", None) for one in maps)), None)


class TableOfSpaxels(NamedTuple):
    """A table of spaxels, its file, or maps of one galaxy that stand together."""

    table: object

    @property
    def name(self):
        """Name in the metadata, or of the file."""
        return name_of(self.table, getattr(self.table, "meta", None))


def read_spaxels(flux, velocity, dispersion, *, unit=None, hdu=None):
    """Read maps or tables of stellar kinematics, one galaxy at a time.

    Parameters
    ----------
    flux, velocity, dispersion, unit, hdu
        As in `~galml.stellar_kinematics.lambda_r`.

    Returns
    -------
    `~galml.core.inputs.Source`
        Of `Spaxels`.
    """
    if velocity is None and dispersion is None:
        if not isinstance(hdu, dict):
            return _read_tables(flux, unit, hdu)
        if missing := sorted(set(MAPS) - set(hdu)):
            raise InputError("hdu", f"no extension for {missing}", f"all of {MAPS}")
        several = isinstance(flux, Iterator)
        flux, velocity, dispersion = tee(flux, 3) if several else [flux] * 3
    hdus = hdu if isinstance(hdu, dict) else dict.fromkeys(MAPS, hdu)
    if unknown := sorted(set(hdus) - set(MAPS)):
        raise InputError("hdu", f"extensions for {unknown}", f"some of {MAPS}")
    units = {"flux": u.dimensionless_unscaled, "velocity": unit, "dispersion": unit}
    data = {"flux": flux, "velocity": velocity, "dispersion": dispersion}
    sources = [
        stream(data[name], argument=name, unit=units[name], hdu=hdus.get(name))
        for name in MAPS
    ]
    is_single = sources[0].is_single
    lengths = {source.length for source in sources} - {None}
    if any(one.is_single != is_single for one in sources) or len(lengths) > 1:
        got = ["one map" if s.is_single else f"{s.length} maps" for s in sources]
        raise InputError("velocity", ", ".join(got), f"as many maps of each of {MAPS}")
    members = (Maps(*maps) for maps in zip_longest(*(s.members for s in sources)))
    galaxies = convert_each(
        members, lambda index, maps: _from_maps(maps), is_single=is_single
    )
    return Source(is_single, next(iter(lengths), None), galaxies)


def _read_tables(tables, unit, hdu):
    """Read one table of spaxels or moments, or one for each galaxy."""
    is_single = isinstance(tables, Table | str | os.PathLike) or _are_moments(tables)
    several = isinstance(tables, Iterable) and not isinstance(tables, bytes)
    if isinstance(tables, np.ndarray):
        several = tables.dtype.kind in "OSU" and tables.ndim > 0
    if not is_single and (is_record(tables) or not several):
        raise InputTypeError("flux", f"a {type(tables).__name__}", TABLE_OR_MAPS)
    tables = [tables] if is_single else tables
    galaxies = convert_each(
        map(TableOfSpaxels, tables),
        lambda index, member: _from_one(member.table, unit, hdu),
        is_single=is_single,
    )
    return Source(
        is_single, len(tables) if hasattr(tables, "__len__") else None, galaxies
    )


def _are_moments(maps):
    """Recognize `galml.gas_kinematics.Moments`, which also are a sequence of maps."""
    return all(hasattr(maps, name) for name in ("moment0", "velocity", "dispersion"))


def _from_one(one, unit, hdu):
    """Make a list of spaxels from all that there is of a galaxy."""
    if not _are_moments(one):
        return _from_table(one, unit, hdu)
    maps = Maps(one.moment0, one.velocity, one.dispersion)
    units = (u.dimensionless_unscaled, unit, unit)
    found = zip(maps, MAPS, units, strict=True)
    return _from_maps(Maps(*(read(m, argument=a, unit=own) for m, a, own in found)))


def _quantity(value, argument, unit):
    """Give one value with a unit, that of the argument where it has none."""
    try:
        quantity = u.Quantity(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputTypeError(argument, repr(value), "a number or Quantity") from error
    if not quantity.isscalar:
        raise InputTypeError(argument, repr(value), "one number or Quantity")
    plain = quantity.unit == u.dimensionless_unscaled
    return quantity.value * unit if plain else quantity


def _with_unit(value, argument, expected):
    """Give one value whose unit nobody has to guess."""
    quantity = _quantity(value, argument, u.dimensionless_unscaled)
    if quantity.unit == u.dimensionless_unscaled:
        raise InputUnitError(argument, f"{value}, without a unit", expected)
    return quantity


def _from_maps(maps):
    """Put the pixels of three maps into one list."""
    for member, argument in zip(maps, MAPS, strict=True):
        if isinstance(member, Failure):
            raise member.error
        if member is None:
            raise InputError(argument, "too few maps", "as many as of the others")
    flux, velocity, dispersion = maps
    shapes = [member.values.shape for member in maps]
    if len(set(shapes)) > 1:
        raise InputError("dispersion", f"maps of shapes {shapes}", "one shape")
    ny, nx = shapes[0]
    wcs = next((m.wcs for m in (velocity, flux, dispersion) if m.wcs is not None), None)
    # Of large maps, squares of so many pixels a side are put together, strip by strip.
    side = math.ceil(math.sqrt(ny * nx / MOST_SPAXELS))
    height = ny if side == 1 else side * max(STRIP // (side * nx), 1)
    parts = []
    for start in range(0, ny, height):
        rows = slice(start, start + height)
        y, x = np.indices((len(range(ny)[rows]), nx), dtype=float)
        part = _spaxels(
            x,
            y + start,
            [_strip(member, rows) for member in maps],
            area=1.0,
            unit=u.pix,
            wcs=wcs,
            shape=shapes[0],
            name=velocity.name or flux.name,
        )
        parts.append(part if side == 1 else _put_together(part, side))
    return parts[0] if len(parts) == 1 else _joined(parts)


def _strip(member, rows):
    """Take some rows of what was read of a map."""
    std = None if member.std is None else member.std[rows]
    return replace(member, values=member.values[rows], std=std, mask=member.mask[rows])


def _put_together(spaxels, side):
    """Put spaxels together in squares: light, and its mean and spread of velocity."""
    x, y = (axis.astype(int) // side for axis in (spaxels.x, spaxels.y))
    place = (y - y.min(initial=0)) * (x.max(initial=0) + 1) + x
    count = np.bincount(place)
    filled = count > 0

    def total(values):
        return np.bincount(place, values, minlength=len(count))[filled]

    count, flux = count[filled], total(spaxels.flux)
    velocity = total(spaxels.flux * spaxels.velocity) / flux
    # Velocities that differ inside a square widen its lines.
    square = total(spaxels.flux * (spaxels.velocity**2 + spaxels.dispersion**2)) / flux
    dispersion = np.sqrt(np.maximum(square - velocity**2, 0.0))
    errors = {"flux_std": None, "velocity_std": None, "dispersion_std": None}
    if spaxels.flux_std is not None:
        errors["flux_std"] = np.sqrt(total(spaxels.flux_std**2))
    for name in ("velocity_std", "dispersion_std"):
        std = getattr(spaxels, name)
        if std is not None:
            errors[name] = np.sqrt(total((spaxels.flux * std) ** 2)) / flux
    return replace(
        spaxels,
        x=total(spaxels.x) / count,
        y=total(spaxels.y) / count,
        flux=flux,
        velocity=velocity,
        dispersion=dispersion,
        area=spaxels.area * count.mean() if len(count) else spaxels.area,
        **errors,
    )


def _joined(parts):
    """Join the spaxels of strips of a map; an area stands for those of its strip."""
    numbers = [len(part.flux) for part in parts]
    area = np.average([part.area for part in parts], weights=np.maximum(numbers, 1e-9))
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace(parts[0], area=float(area), **arrays)


def _from_table(table, unit, hdu):
    """Put the rows of a table into a list of spaxels."""
    name = name_of(table, getattr(table, "meta", None))
    if isinstance(table, str | os.PathLike):
        table = _read_file(table, hdu)
        name = name_of(None, table.meta) or name
    if not isinstance(table, Table):
        raise InputTypeError(
            "flux", f"an object of type {type(table).__name__}", TABLE_OR_MAPS
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
        name=name,
    )


def _read_file(path, hdu):
    """Read the table of a file; of one that only has maps, tell which."""
    try:
        return read_table(path, argument="flux", hdu=hdu, expected=TABLE_OR_MAPS)
    except InputError as error:
        images = []
        with suppress(InputError, OSError), open_fits(path, "flux") as hdus:
            for number, one in enumerate(hdus):
                if isinstance(one, IMAGE_HDUS) and len(one.shape) > 1:
                    images.append(f"{number} {one.name}".strip())
        if len(images) < 2:
            raise
        expected = f"an extension for each of {MAPS}, out of: {', '.join(images)}"
        raise InputError("hdu", f"{hdu!r} for maps in {path}", expected) from error


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


def _is_logarithmic(unit):
    """Recognize magnitudes and the like, also per area."""
    if isinstance(unit, u.function.FunctionUnitBase):
        return True
    return u.dex in unit.decompose().bases


def _spaxels(x, y, members, *, name, **rest):
    """Keep the spaxels with a position and all three measurements."""
    flux, *motions = members
    if _is_logarithmic(flux.unit):
        raise InputUnitError("flux", f"values in {flux.unit}", "a linear unit")
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
    # Below zero, a dispersion is a code for "not measured".
    usable = (np.nan_to_num(flux.values) > 0) & (spaxels.dispersion >= 0)
    for array in (x, y, *values[1:]):
        usable &= np.isfinite(array)
    for std in errors:
        usable &= True if std is None else (std >= 0) & (std < np.inf)
    return spaxels.select(usable)
