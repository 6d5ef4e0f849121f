# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From what was observed to maps in km/s with center and beam in pixels."""

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.geometry import beam_of, celestial, pixel_scale
from galml.core.inputs import Failure, RowOptions, Source, read, stream
from galml.gas_kinematics.lines import (
    SpectralLine,
    doppler,
    read_redshift,
    without_line,
)
from galml.gas_kinematics.moment_maps import Moments, measure

__all__ = ["VelocityMaps", "read_maps"]

KMS = u.km / u.s
#: Largest redshift that a map without a unit may hold.
FARTHEST = 20.0
SMALLEST, LARGEST = 4, 20_000
#: What may have been observed.
TRACERS = ("gas", "stars")
#: Key of the metadata under which a velocity map of moments keeps its dispersion.
DISPERSION = "DISPERSION_MAP"


@dataclass
class VelocityMaps:
    """Velocity maps of one shape, ready to be prepared.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape (n, ny, nx), km/s, y up; NaN where nothing was measured.
    dispersion, std : `~numpy.ndarray` or None
        Shape (n, ny, nx), km/s: velocity dispersion, and 1 sigma error of the velocity;
        NaN or None where they are unknown.
    center : `~numpy.ndarray`
        Shape (n, 2): pixel (x, y), NaN where it is to be found.
    beam : `~numpy.ndarray`
        Shape (n,): FWHM in pixels, NaN where unknown.
    stars : `~numpy.ndarray`
        Boolean, shape (n,): whether stars were observed, not gas.
    wcs : list or None
        Celestial WCS of each map, or None; None where no map has one.
    flags : `~numpy.ndarray`
        Shape (n,): bits of `galml.core.Flag`.
    names : list
        Name of each galaxy, or None.
    errors : list
        Why a map cannot be used, or None.
    """

    values: np.ndarray
    dispersion: np.ndarray = None
    std: np.ndarray = None
    center: np.ndarray = None
    beam: np.ndarray = None
    stars: np.ndarray = None
    wcs: list = None
    flags: np.ndarray = None
    names: list = None
    errors: list = None

    def __post_init__(self):
        n = len(self.values)
        if self.center is None:
            self.center = np.full((n, 2), np.nan)
        if self.beam is None:
            self.beam = np.full(n, np.nan)
        if self.stars is None:
            self.stars = np.zeros(n, dtype=bool)
        if self.flags is None:
            self.flags = np.zeros(n, dtype=int)
        if self.names is None:
            self.names = [None] * n
        if self.errors is None:
            self.errors = [None] * n

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        rows = list(range(len(self)))[rows] if isinstance(rows, slice) else list(rows)

        def part(values):
            if values is None:
                return None
            if isinstance(values, list):
                return [values[row] for row in rows]
            return values[rows]

        return VelocityMaps(**{key: part(value) for key, value in vars(self).items()})

    @classmethod
    def joined(cls, parts):
        """Join maps of one shape; what only some of them have is NaN for the others.

        Parameters
        ----------
        parts : sequence of `VelocityMaps`
            The maps.

        Returns
        -------
        `VelocityMaps`
            Rows in order.
        """
        if len(parts) == 1:
            return parts[0]
        shape = parts[0].values.shape[1:]

        def images(name):
            planes = [getattr(part, name) for part in parts]
            if all(plane is None for plane in planes):
                return None
            lengths = [(len(part), *shape) for part in parts]
            return np.concatenate(
                [
                    np.broadcast_to(np.nan, length) if plane is None else plane
                    for plane, length in zip(planes, lengths, strict=True)
                ]
            )

        return cls(
            values=images("values"),
            dispersion=images("dispersion"),
            std=images("std"),
            center=np.concatenate([part.center for part in parts]),
            beam=np.concatenate([part.beam for part in parts]),
            stars=np.concatenate([part.stars for part in parts]),
            wcs=[part.wcs_of(row) for part in parts for row in range(len(part))],
            flags=np.concatenate([part.flags for part in parts]),
            names=[name for part in parts for name in part.names],
            errors=[error for part in parts for error in part.errors],
        )

    def wcs_of(self, row):
        """Give the WCS of one map, or None."""
        return None if self.wcs is None else self.wcs[row]


def read_maps(
    data,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    tracer="gas",
    line=None,
    width=None,
    continuum=None,
    rest_value=None,
    convention=None,
    unit=None,
    hdu=None,
    dispersion_hdu=None,
):
    """Read data as velocity maps in km/s.

    Parameters
    ----------
    data, dispersion, center, redshift, beam, tracer, line, width, continuum, \
rest_value, convention, unit, hdu, dispersion_hdu
        As in `galml.circularity`.

    Returns
    -------
    `~galml.core.inputs.Source`
        Its members are `VelocityMaps`, plain arrays that follow each other in one, and
        `~galml.core.inputs.Failure` where a member of a batch cannot be used.

    Raises
    ------
    galml.core.InputError
        When the one map cannot be used, or options do not fit the number of maps.
    """
    if tracer not in TRACERS:
        raise InputError("tracer", repr(tracer), " or ".join(map(repr, TRACERS)))
    if rest_value is not None or convention is not None:
        # Raises where they are none, for all maps.
        doppler(1 * u.Hz if rest_value is None else rest_value, convention or "radio")
    reader = _Reader(width, continuum, rest_value, convention)
    given = {"center": center, "redshift": redshift, "beam": beam, "line": line}
    if line is None:
        without_line(width=width, continuum=continuum)
    options = None

    def choose(row, axis):
        # The only map is read before it is known that there is only one.
        values = given if options is None else options.row(row)
        with _cube_is_data():
            return reader.line_of(values).channels(axis)

    def read_arrays(items, names, unit):
        maps = _read_arrays(items, names, unit, "data", reader.to_kms)
        if line is not None:
            maps.errors = [error or _no_line(line) for error in maps.errors]
        return maps

    source = stream(
        _adapted(data),
        unit=unit,
        hdu=hdu,
        ndim=(2, 3),
        adapt=_adapted,
        arrays=read_arrays,
        channels=None if line is None else choose,
    )
    is_single, length, members = source
    second = None
    if dispersion is not None:
        second = _Dispersions(
            stream(
                dispersion,
                argument="dispersion",
                unit=unit,
                hdu=hdu if dispersion_hdu is None else dispersion_hdu,
                arrays=_dispersion_arrays,
            )
        )
        second.check(is_single, length)
    options = RowOptions(given, is_single=is_single, length=length)
    stars = tracer == "stars"
    maps = _convert(members, second, options, reader, is_single, stars)
    return Source(is_single, length, maps)


def _adapted(one):
    """Give the moments of a cube the form in which they are read."""
    if not isinstance(one, Moments):
        return one
    velocity = one.velocity
    return NDData(
        velocity.data,
        unit=velocity.unit,
        mask=velocity.mask,
        uncertainty=velocity.uncertainty,
        wcs=velocity.wcs,
        meta=dict(velocity.meta) | {DISPERSION: one.dispersion},
    )


@contextmanager
def _cube_is_data():
    """Call by its name in `galml.circularity` what is wrong with a cube."""
    try:
        yield
    except InputError as error:
        if error.argument != "cube":
            raise
        raise type(error)("data", error.got, error.expected) from error


def _convert(members, second, options, reader, is_single, stars):
    """Convert each member; in a batch an error becomes a `Failure`."""
    row = 0
    for member in members:
        is_block = isinstance(member, VelocityMaps)
        count = len(member) if is_block else 1
        extra = None if second is None else second.take(count)
        if not is_block and not isinstance(member, Failure):
            try:
                member = reader.convert(member, options.row(row))
            except Exception as error:
                if is_single:
                    raise
                member = Failure(error, member.name, member.flags)
        if isinstance(member, VelocityMaps):
            member.stars[:] = stars
            if extra is not None:
                second.attach(member, extra)
            _apply(member, options, row)
            if is_single and member.errors[0] is not None:
                raise member.errors[0]
        row += count
        yield member
    if not is_single:
        options.finish(row)
        if second is not None:
            second.finish(row)


@dataclass
class _Reader:
    """Bring maps and cubes to km/s; attributes are options of `galml.circularity`."""

    width: u.Quantity | None
    continuum: u.Quantity | None
    rest_value: u.Quantity | None
    convention: str | None

    def line_of(self, given):
        """Give the `SpectralLine` of one row, or None."""
        if given["line"] is None:
            return None
        return SpectralLine(
            given["line"],
            given["redshift"],
            self.width,
            self.continuum,
            self.rest_value,
        )

    def convert(self, observation, given):
        """Convert an `~galml.core.inputs.Observation` to a batch of one map."""
        flags, name = observation.flags, observation.name
        if observation.values.ndim == 3:
            values, std, sigma = self._moments(observation, given)
            wcs = celestial(observation.wcs)
            if np.isfinite(std).any():
                flags &= ~int(Flag.NO_UNCERTAINTY)
        else:
            if given["line"] is not None:
                raise _no_line(given["line"])
            convert = partial(self.to_kms, unit=observation.unit, meta=observation.meta)
            values, std = convert(observation.values), None
            sigma = _own_dispersion(observation)
            if observation.std is not None:
                # To first order, also where the conversion is not linear.
                std = np.abs(convert(observation.values + observation.std) - values)
            wcs = observation.wcs
        _check_shape(values.shape)
        maps = VelocityMaps(
            values=values[np.newaxis],
            dispersion=None if sigma is None else sigma[np.newaxis],
            std=None if std is None else std[np.newaxis],
            wcs=None if wcs is None else [wcs],
            flags=np.array([flags]),
            names=[name],
        )
        maps.beam[0] = _beam(given["beam"], observation, wcs, values.shape)
        return maps

    def _moments(self, observation, given):
        """Velocity, its error and dispersion from the moments of a cube."""
        convention = self.convention
        if given["line"] is None and given["redshift"] is not None:
            # Only optical velocities are those of the galaxy times 1 + z.
            axis = observation.spectral_axis
            own = getattr(axis, "doppler_convention", None)
            speeds = axis is not None and axis.unit.is_equivalent(KMS)
            convention = convention or (None if speeds and not own else "optical")
        with _cube_is_data():
            maps = measure(
                observation,
                line=self.line_of(given),
                rest_value=self.rest_value,
                convention=convention,
            )
        velocity, sigma = (
            np.where(image.mask, np.nan, image.data)
            for image in (maps.velocity, maps.dispersion)
        )
        return velocity, np.asarray(maps.velocity.uncertainty.array), sigma

    def to_kms(self, values, unit, meta=()):
        """Convert values of a map to km/s."""
        equivalencies = self._equivalencies(unit, dict(meta))
        if unit.is_equivalent(u.dimensionless_unscaled):
            known = np.abs(values[np.isfinite(values)])
            if unit != u.dimensionless_unscaled or (known > FARTHEST).any():
                got = f"a map in {unit.to_string() or 'no unit'}"
                raise InputUnitError(
                    "data", got, f"a velocity, or redshifts to {FARTHEST}"
                )
        return _in_kms(values, unit, "data", equivalencies)

    def _equivalencies(self, unit, meta):
        """Ways from the unit of a map to a velocity."""
        if unit.is_equivalent(u.dimensionless_unscaled):
            return u.doppler_redshift()
        rest, convention = self.rest_value, self.convention
        if unit.is_equivalent(u.Hz):
            rest = (
                _rest_of(meta, ("RESTFRQ", "RESTFREQ"), u.Hz) if rest is None else rest
            )
            convention = convention or "radio"
        elif unit.is_equivalent(u.m):
            rest = _rest_of(meta, ("RESTWAV",), u.m) if rest is None else rest
            convention = convention or "optical"
        else:
            return []
        return [] if rest is None else doppler(rest, convention)


def _rest_of(meta, names, unit):
    """Give the rest frequency or wavelength of a header, or None."""
    name = next((name for name in names if meta.get(name)), None)
    if name is None:
        return None
    try:
        return float(meta[name]) * unit
    except (TypeError, ValueError) as error:
        expected = f"a number in {name}, or rest_value="
        raise InputError("data", repr(meta[name]), expected) from error


def _own_dispersion(observation):
    """Give the dispersions in km/s that come with a velocity map, or None."""
    found = observation.meta.get(DISPERSION)
    if found is None:
        return None
    found = read(found, argument="dispersion")
    _check_dispersion(found.values.shape, observation.values.shape)
    return _dispersion_in_kms(found.values, found.unit)


def _check_dispersion(shape, expected):
    """Raise where a map of dispersions has another shape than that of velocities."""
    if shape != expected:
        expected = f"the shape of the velocity map, {expected}"
        raise InputError("dispersion", f"shape {shape}", expected)


def _no_line(line):
    """Make the error of a line that is asked for in a velocity map."""
    return InputError("line", line, "None for a velocity map: only cubes have lines")


def _read_arrays(items, names, unit, argument, convert):
    """Read plain arrays of one shape; what is wrong with all stands in the errors."""
    own, dtype = getattr(items[0], "unit", None) or unit, items[0].dtype
    dtype = np.float32 if np.result_type(dtype, np.float32).itemsize == 4 else float
    values = np.empty((len(items), *items[0].shape), dtype)
    for row, item in enumerate(items):
        values[row] = getattr(item, "value", item)
    error = None
    try:
        if own is None:
            raise InputUnitError(argument, "data without a unit", "a unit, or unit=")
        if argument == "data":
            _check_shape(values.shape[1:])
        values = convert(values, own)
    except InputError as problem:
        error = problem
    flags = np.full(len(items), int(Flag.NO_UNCERTAINTY | Flag.NO_WCS))
    unknown = ~np.isfinite(values)
    flags[unknown.any(axis=(1, 2))] |= int(Flag.NONFINITE)
    values[unknown] = np.nan
    return VelocityMaps(
        values, flags=flags, names=list(names), errors=[error] * len(items)
    )


def _dispersion_arrays(items, names, unit):
    """Read plain arrays of dispersions of one shape."""
    return _read_arrays(items, names, unit, "dispersion", _dispersion_in_kms)


def _dispersion_in_kms(values, unit):
    """Convert dispersions, which no Doppler formula converts, to km/s."""
    return _in_kms(values, unit, "dispersion", [])


def _in_kms(values, unit, argument, equivalencies):
    """Convert values to km/s."""
    try:
        return u.Quantity(values, unit, copy=False).to_value(KMS, equivalencies)
    except u.UnitConversionError as error:
        raise InputUnitError(
            argument, f"a map in {unit.to_string() or 'no unit'}", "a velocity"
        ) from error


class _Dispersions:
    """Maps of the dispersion, in the order of the velocity maps."""

    def __init__(self, source):
        self.is_single, self.length, self.members = source
        self.waiting = deque()
        self.row = 0

    def check(self, is_single, length):
        """Raise where there cannot be one for each velocity map."""
        if self.is_single == is_single and (
            None in (self.length, length) or self.length == length
        ):
            return
        raise InputError(
            "dispersion",
            "one map" if self.is_single else f"{self.length} maps",
            "one map" if is_single else f"{length} maps, as many as data",
        )

    def finish(self, count):
        """Raise where there are more than the velocity maps."""
        if self.waiting or next(self.members, None) is not None:
            expected = f"{count} maps, as many as data"
            raise InputError("dispersion", f"more than {count} maps", expected)

    def take(self, count):
        """Give the next ones: an array for all, or for each its array or error."""
        found = []
        while len(found) < count:
            if not self.waiting:
                member = next(self.members, None)
                if member is None:
                    expected = "as many as data"
                    missing = InputError("dispersion", f"{self.row} maps", expected)
                    found += [missing] * (count - len(found))
                    return found
                whole = isinstance(member, VelocityMaps)
                if whole and not found and len(member) == count:
                    self.row += count
                    return [member.errors[0]] * count if any(member.errors) else member
                self.waiting.extend(_rows_of(member))
            found.append(self.waiting.popleft())
            self.row += 1
        return found

    def attach(self, maps, found):
        """Put dispersions, or why there is none, into velocity maps."""
        shape = maps.values.shape
        if isinstance(found, VelocityMaps) and found.values.shape == shape:
            maps.dispersion = found.values
            return
        if isinstance(found, VelocityMaps):
            found = list(found.values)
        maps.dispersion = np.full(shape, np.nan)
        for row, values in enumerate(found):
            try:
                if not isinstance(values, Exception):
                    _check_dispersion(values.shape, shape[1:])
            except InputError as error:
                values = error
            if isinstance(values, Exception):
                maps.errors[row] = maps.errors[row] or values
            else:
                maps.dispersion[row] = values


def _rows_of(member):
    """Give for each row of a member its dispersions in km/s, or an error."""
    if isinstance(member, Failure):
        return [member.error]
    if isinstance(member, VelocityMaps):
        rows = zip(member.values, member.errors, strict=True)
        return [values if error is None else error for values, error in rows]
    try:
        return [_dispersion_in_kms(member.values, member.unit)]
    except InputError as error:
        return [error]


def _apply(maps, options, first):
    """Put center, beam and redshift of each row into the maps."""
    names = [name for name, value in options.options.items() if value is not None]
    previous, stretch = None, 1.0
    for row in range(len(maps)) if names else ():
        try:
            given = options.row(first + row)
            if previous is not None and all(given[n] is previous[n] for n in names):
                maps.center[row] = maps.center[row - 1]
                maps.beam[row] = maps.beam[row - 1]
            else:
                stretch = _place(maps, row, given)
                # Without a WCS, what holds for one map of a block holds for the next.
                previous = given if maps.wcs is None else None
        except Exception as error:
            maps.errors[row] = maps.errors[row] or error
            previous = None
            continue
        for images in (maps.values, maps.dispersion, maps.std):
            if images is not None and stretch != 1.0:
                images[row] /= stretch


def _place(maps, row, given):
    """Set center and beam of one map; tell by what to divide its velocities."""
    wcs, shape = maps.wcs_of(row), maps.values.shape[1:]
    maps.center[row] = _center(given["center"], wcs, shape)
    if given["beam"] is not None:
        maps.beam[row] = _beam(given["beam"], None, wcs, shape)
    # Velocities about a redshifted line are in the galaxy's frame already.
    redshift = read_redshift(given["redshift"])
    return 1.0 if given["line"] is not None else 1.0 + redshift


def _check_shape(shape):
    if min(shape) < SMALLEST or max(shape) > LARGEST:
        raise InputError(
            "data",
            f"a map of shape {shape}",
            f"between {SMALLEST} and {LARGEST} pixels a side",
        )


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
