# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Axes, angles and scales between an image or cube and the sky.

The image angle θ is counted in degrees counter-clockwise from +y, so that +y is 0°
and −x is 90°. The position angle counts from north (the latitude axis of the WCS's
own frame, galactic or ecliptic ones included) through east. The two are the same where
north is up and east is left, and where there is no celestial WCS.

Axes are counted as NumPy does; every WCS of the astropy shared interface (APE 14)
is understood. Nothing given is changed.
"""

from contextlib import contextmanager, suppress
from numbers import Real

import astropy.units as u
import numpy as np
from astropy.constants import c
from astropy.coordinates import ConvertError, SkyCoord, SpectralQuantity
from astropy.wcs import WCS, NonseparableSubimageCoordinateSystemError
from astropy.wcs.utils import wcs_to_celestial_frame
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = [
    "ANY_REST",
    "angle_difference",
    "arrange",
    "beam_of",
    "celestial",
    "choose_channels",
    "in_vacuum",
    "pixel_angle",
    "pixel_scale",
    "roles",
    "sky_angle",
    "sky_positions",
    "spectral_axis",
    "usable_wcs",
    "wrap_angle",
]

#: Rest frequency in Hz of an axis of velocities that needs one, and whose header tells
#: none: whatever it is, the velocities are the same.
ANY_REST = 1.0
# Doppler conventions of the FITS velocity axes.
_CONVENTIONS = {
    "VRAD": "radio",
    "VOPT": "optical",
    "FELO": "optical",
    "VELO": "relativistic",
}


def _role(physical_type):
    """Name the role of one world axis from its physical type."""
    kind = (physical_type or "").removeprefix("custom:")
    if kind.startswith("pos.") and kind.endswith((".ra", ".dec", ".lon", ".lat")):
        return "sky"
    if kind.startswith(("em.", "spect.", "src.redshift")):
        return "spectral"
    return ""


# Units of spectral axes.
_SPECTRAL_UNITS = (u.m, u.Hz, u.J, u.m / u.s)


def _kinds(low):
    """Name the role of each world axis.

    Beside two sky axes an axis that tells nothing but a spectral unit is spectral.
    """
    kinds = [_role(kind) for kind in low.world_axis_physical_types]
    if kinds.count("sky") == 2 and "spectral" not in kinds and "" in kinds:
        for world, unit in enumerate(_units(low)):
            if not kinds[world] and any(map(unit.is_equivalent, _SPECTRAL_UNITS)):
                kinds[world] = "spectral"
    return kinds


def _units(low):
    """Give the unit of each world axis.

    That of a FITS WCS is taken as it is: astropy would write it in a standard that
    discourages the Angstrom, and remark upon it.
    """
    if isinstance(low, SlicedLowLevelWCS):
        units = _units(low._wcs)
        return [units[world] for world in low._world_keep]
    names = low.wcs.cunit if isinstance(low, WCS) else low.world_axis_units
    return [u.Unit(name or "", parse_strict="silent") for name in names]


def _low_level(wcs):
    """Give the interface that works on plain numbers."""
    return wcs if isinstance(wcs, WCS) else getattr(wcs, "low_level_wcs", wcs)


def roles(wcs):
    """Tell what each array axis is.

    Parameters
    ----------
    wcs : `~astropy.wcs.wcsapi.BaseLowLevelWCS`, `~astropy.wcs.WCS` or None
        The WCS of the array.

    Returns
    -------
    list of str
        "sky", "spectral" or "" for each axis of the array.
    """
    if wcs is None:
        return []
    low = _low_level(wcs)
    found = [""] * low.pixel_n_dim
    matrix = low.axis_correlation_matrix
    for world, kind in enumerate(_kinds(low)):
        for pixel in np.flatnonzero(matrix[world]):
            found[-1 - pixel] = kind or found[-1 - pixel]
    return found


def _select(wcs, axes, argument):
    """Keep only these array axes of a WCS, in this order; None if impossible."""
    low = _low_level(wcs)
    ndim = low.pixel_n_dim
    axes = list(axes)
    if axes == list(range(ndim)):
        return wcs
    if isinstance(wcs, WCS):
        with usable_wcs(argument):
            return wcs.sub([ndim - axis for axis in reversed(axes)])
    if axes != sorted(axes):
        return None
    slices = [slice(None) if axis in axes else 0 for axis in range(ndim)]
    return HighLevelWCSWrapper(SlicedLowLevelWCS(low, slices))


def celestial(wcs):
    """Give the two-dimensional celestial part of a WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        WCS of an image or a cube.

    Returns
    -------
    `~astropy.wcs.WCS`, other APE 14 WCS or None
        Pixel order is that of the image; None where there is none.

    Raises
    ------
    galml.core.InputError
        When the celestial axes cannot be separated from the others.
    """
    sky = [axis for axis, role in enumerate(roles(wcs)) if role == "sky"]
    return _select(wcs, sky, "wcs") if len(sky) == 2 else None


@contextmanager
def usable_wcs(argument):
    """Turn whatever a WCS raises that makes no sense into an InputError."""
    try:
        yield
    except NonseparableSubimageCoordinateSystemError as error:
        got, expected = "a WCS whose axes are mixed", "separable axes"
        raise InputError(argument, got, expected) from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        got = f"a WCS that cannot be used ({reason})"
        raise InputError(argument, got, "a WCS that leads to the sky") from error


def arrange(wcs, shape, ndim, argument):
    """Decide which axes of an array stay, and in which order.

    Axes of length 1 that are not sky go while more axes are left than needed; the
    spectral axis of a cube comes first.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        The WCS of the array; it may have more axes than the array (further FITS
        axes), or only the last two of a cube.
    shape : tuple of int
        Shape of the array.
    ndim : int
        Smallest number of dimensions to keep.
    argument : str
        Name used in errors.

    Returns
    -------
    axes : tuple of int
        The array axes to keep, in order.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        The WCS of what is left.
    """
    with usable_wcs(argument):
        roles(wcs)
    size = len(shape)
    given = 0 if wcs is None else _low_level(wcs).pixel_n_dim
    if given > size:
        wcs = _select(wcs, range(given - size, given), argument)
        given = size
    leading = size - given
    kinds = [""] * leading + roles(wcs)
    if "sky" not in kinds:
        kinds[-2:] = [kind or "image" for kind in kinds[-2:]]
    axes = list(range(size))
    for axis in range(size):
        if shape[axis] == 1 and len(axes) > ndim and kinds[axis] in ("", "spectral"):
            axes.remove(axis)
    if len(axes) == 3:
        axes.sort(key=lambda axis: kinds[axis] != "spectral")
    if wcs is not None:
        wcs = _select(wcs, [a - leading for a in axes if a >= leading], argument)
    if isinstance(wcs, WCS):
        # Of the axes that are left out, the numbers may be any.
        with usable_wcs(argument):
            wcs.wcs.set()
    return tuple(axes), wcs


def choose_channels(wcs, shape, ndim, choose, argument, axis=None):
    """Choose channels of a cube before it is read.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        The WCS of the array.
    shape : tuple of int
        Shape of the array.
    ndim : int
        As in `arrange`.
    choose : callable
        ``choose(axis)`` takes the spectral axis, or None where there is none, and gives
        the slice of channels.
    argument : str
        Name used in errors.
    axis : `~astropy.units.Quantity`, optional
        The spectral axis, where it is known without the WCS.

    Returns
    -------
    key : tuple of slice
        Index of the array: all of it where it is no cube.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        The WCS of what is chosen.
    axis : `~astropy.units.Quantity` or None
        The chosen part of ``axis``.
    """
    axes, arranged = arrange(wcs, shape, ndim, argument)
    if len(axes) != 3:
        return (slice(None),) * len(shape), wcs, axis
    if axis is None:
        chosen = choose(spectral_axis(arranged, shape[axes[0]]))
    else:
        chosen = choose(in_vacuum(axis, wcs))
    key = [slice(None)] * len(shape)
    key[axes[0]] = chosen
    if wcs is not None:
        given = _low_level(wcs).pixel_n_dim
        if given > len(shape):
            wcs = _select(wcs, range(given - len(shape), given), argument)
        slices = key[-_low_level(wcs).pixel_n_dim :]
        if isinstance(wcs, WCS):
            wcs = wcs[tuple(slices)]
        else:
            wcs = HighLevelWCSWrapper(SlicedLowLevelWCS(_low_level(wcs), slices))
    return tuple(key), wcs, None if axis is None else axis[chosen]


def spectral_axis(wcs, size):
    """Give the spectral axis of a cube whose first array axis it is.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        WCS of the cube.
    size : int
        Number of channels.

    Returns
    -------
    `~astropy.coordinates.SpectralQuantity` or None
        One value per channel, with rest value and Doppler convention where the WCS
        has them; wavelengths in air are brought to vacuum. None when the first axis is
        not spectral.
    """
    kinds = roles(wcs)
    if len(kinds) != 3 or kinds[0] != "spectral":
        return None
    low = _low_level(wcs)
    world = _kinds(low).index("spectral")
    values = low.pixel_to_world_values(0, 0, np.arange(size))[world]
    unit = _units(low)[world]
    rest = convention = None
    if isinstance(wcs, WCS):
        if wcs.wcs.restfrq == ANY_REST:
            rest = None
        elif wcs.wcs.restfrq > 0:
            rest = wcs.wcs.restfrq * u.Hz
        elif wcs.wcs.restwav > 0:
            rest = wcs.wcs.restwav * u.m
        kind, _, _ = wcs.wcs.ctype[world].strip().partition("-")
        convention = _CONVENTIONS.get(kind)
    if unit == u.dimensionless_unscaled:
        # A redshift axis is the optical velocity in units of c.
        values, unit, convention = values * c.si.value, c.si.unit, "optical"
    axis = SpectralQuantity(
        values, unit, doppler_rest=rest, doppler_convention=convention
    )
    return in_vacuum(axis, wcs)


def in_vacuum(axis, wcs):
    """Bring wavelengths to vacuum, where a WCS says that they are in air.

    Parameters
    ----------
    axis : `~astropy.units.Quantity`
        Spectral axis.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        WCS of the cube.

    Returns
    -------
    `~astropy.units.Quantity`
        With the refraction of standard air (Morton 2000, ApJS 130, 403), in which
        optical wavelengths are given. Eq. 65 of Greisen et al. (2006) is for 0 degrees
        Celsius, 5 km/s away.
    """
    kinds = [] if wcs is None else _low_level(wcs).world_axis_physical_types
    if not any("obs.atmos" in (kind or "") for kind in kinds):
        return axis
    from specutils.utils.wcs_utils import air_to_vac

    vacuum = air_to_vac(u.Quantity(axis), method="Morton2000")
    return SpectralQuantity(vacuum, doppler_rest=getattr(axis, "doppler_rest", None))


def wrap_angle(angle):
    """Bring angles into [0°, 360°).

    Parameters
    ----------
    angle : float, array_like or `~astropy.units.Quantity`
        Angles; degrees unless they have a unit.

    Returns
    -------
    `~astropy.units.Quantity`
        In degrees.
    """
    turned = np.mod(_degrees(angle), 360.0)
    # The remainder of a tiny negative number rounds to 360 itself.
    return np.where(turned >= 360.0, 0.0, turned) * u.deg


def angle_difference(first, second):
    """Give ``first - second`` the short way round, in [−180°, 180°).

    Parameters
    ----------
    first, second : float, array_like or `~astropy.units.Quantity`
        Angles that broadcast together; degrees unless they have a unit.

    Returns
    -------
    `~astropy.units.Quantity`
        In degrees.
    """
    difference = _degrees(first) - _degrees(second)
    return wrap_angle(difference + 180.0) - 180.0 * u.deg


def sky_angle(theta, wcs, position):
    """Turn image angles into position angles.

    Parameters
    ----------
    theta : float, array_like or `~astropy.units.Quantity`
        Image angles, counter-clockwise from +y; degrees unless they have a unit.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        Any rotation, parity and distortion; of a cube, the celestial part counts.
    position : tuple of float
        Pixel ``(x, y)``, counted from 0, where the angle is to be known.

    Returns
    -------
    `~astropy.units.Quantity`
        Position angles east of north, in [0°, 360°); ``theta`` itself where ``wcs``
        has no celestial part.
    """
    matrix = _local_matrix(wcs, position)
    if matrix is None:
        return wrap_angle(theta)
    angle = np.radians(_degrees(theta))
    east, north = np.tensordot(matrix, [-np.sin(angle), np.cos(angle)], axes=1)
    return wrap_angle(np.degrees(np.arctan2(east, north)))


def pixel_angle(position_angle, wcs, position):
    """Turn position angles into image angles; the inverse of `sky_angle`.

    Parameters
    ----------
    position_angle : float, array_like or `~astropy.units.Quantity`
        Angles east of north; degrees unless they have a unit.
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        As for `sky_angle`.
    position : tuple of float
        Pixel ``(x, y)``, counted from 0, where the angle is to be known.

    Returns
    -------
    `~astropy.units.Quantity`
        Image angles counter-clockwise from +y, in [0°, 360°).
    """
    matrix = _local_matrix(wcs, position)
    if matrix is None:
        return wrap_angle(position_angle)
    angle = np.radians(_degrees(position_angle))
    x, y = np.tensordot(np.linalg.inv(matrix), [np.sin(angle), np.cos(angle)], axes=1)
    return wrap_angle(np.degrees(np.arctan2(-x, y)))


def pixel_scale(wcs, position=(0.0, 0.0)):
    """Give the side of a square as large as a pixel.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`, other APE 14 WCS or None
        Of a cube, the celestial part counts.
    position : tuple of float
        Pixel ``(x, y)``, counted from 0, whose scale is wanted.

    Returns
    -------
    `~astropy.units.Quantity` or None
        In arcsec / pix; None where ``wcs`` has no celestial part.
    """
    matrix = _local_matrix(wcs, position)
    if matrix is None:
        return None
    side = np.sqrt(abs(np.linalg.det(matrix)))
    return (side * u.rad / u.pix).to(u.arcsec / u.pix)


def beam_of(source, *, argument="beam"):
    """Find the beam or PSF of an observation.

    Parameters
    ----------
    source : object
        An `~galml.core.inputs.Observation` or other object with ``meta`` (``BMAJ``,
        ``BMIN``, ``BPA`` in degrees, or GIPSY's ``BMMAJ``, ``BMMIN``, ``BMPA`` with
        widths in arcsec); a beam with ``major``, ``minor`` and ``pa`` as radio_beam has
        it; a Quantity, the full width at half maximum; or None. Where ``BMAJ`` in
        degrees would be wider than the whole image, and in arcsec would not, it is in
        arcsec.
    argument : str
        Name used in errors.

    Returns
    -------
    tuple of `~astropy.units.Quantity` or None
        Major and minor full width at half maximum in arcsec and the position angle
        of the major axis in degrees; None when there is no beam.

    Raises
    ------
    galml.core.InputUnitError
        When a width is no angle above zero.
    galml.core.InputTypeError
        For other objects.
    """
    if source is None:
        return None
    if isinstance(source, u.Quantity):
        major, minor, angle = source, source, 0.0
    elif hasattr(source, "major"):
        major, minor, angle = source.major, source.minor, getattr(source, "pa", 0.0)
    elif hasattr(source, "meta"):
        found = _header_beam(source)
        if found is None:
            return None
        major, minor, angle = found
    else:
        raise InputTypeError(
            argument,
            f"an object of type {type(source).__name__}",
            "a Quantity or an object with major, minor and pa",
        )
    return _width(major, argument), _width(minor, argument), _degrees(angle) * u.deg


def _header_beam(source):
    """Read widths and angle of the beam from metadata; None where there is none."""
    for cards in (("BMAJ", "BMIN", "BPA"), ("BMMAJ", "BMMIN", "BMPA")):
        if not source.meta.get(cards[0]):
            continue
        major, minor, angle = (_number(source.meta, card) for card in cards)
        in_arcsec = cards[0] == "BMMAJ" or _is_in_arcsec(major, source)
        unit = u.arcsec if in_arcsec else u.deg
        return major * unit, (minor or major) * unit, angle or 0.0
    return None


def _number(meta, card):
    """Read a number of a header; None where there is none."""
    try:
        return None if meta.get(card) is None else float(meta[card])
    except (TypeError, ValueError) as error:
        raise InputError(card, repr(meta[card]), "a number") from error


def _is_in_arcsec(width, source):
    """Tell whether a width is wider than the image in degrees, but not in arcsec."""
    values = getattr(source, "values", None)
    scale = pixel_scale(getattr(source, "wcs", None)) if values is not None else None
    if scale is None or not isinstance(width, Real):
        return False
    pixel = scale.to_value(u.arcsec / u.pix)
    field = pixel * max(values.shape[-2:])
    return 3600 * width > field and 0.5 * pixel <= width <= field


def _width(width, argument):
    """Check one width of a beam."""
    try:
        arcsec = width.to(u.arcsec)
    except u.UnitConversionError as error:
        raise InputUnitError(
            argument, f"a width in {width.unit}", "an angle"
        ) from error
    if not (arcsec.isscalar and np.isfinite(arcsec) and arcsec > 0):
        raise InputUnitError(argument, f"a width of {width}", "one angle above zero")
    return arcsec


def _degrees(angle):
    """Give angles as plain numbers in degrees."""
    if isinstance(angle, u.Quantity):
        return angle.to_value(u.deg)
    return np.asarray(angle, dtype=float)


def _local_matrix(wcs, position):
    """Give the matrix from pixel offsets (x, y) to sky offsets (east, north) in rad.

    Differences across half a pixel either side, on the tangent plane of the position:
    nothing is singular at the poles or where longitude wraps.
    """
    wcs = celestial(wcs)
    if wcs is None:
        return None
    low = getattr(wcs, "low_level_wcs", wcs)
    x, y = position
    xs = x + np.array([0.0, 0.5, -0.5, 0.0, 0.0])
    ys = y + np.array([0.0, 0.0, 0.0, 0.5, -0.5])
    world = low.pixel_to_world_values(xs, ys)
    kinds = [kind.rpartition(".")[2] for kind in low.world_axis_physical_types]
    first = 0 if kinds[0] in ("lon", "ra") else 1
    units = _units(low)
    lon, lat = (np.radians(units[i].to(u.deg, world[i])) for i in (first, 1 - first))
    # A WCS that leads far beyond the sky has no directions: they are NaN.
    with np.errstate(all="ignore"):
        turn, cos, sin = lon - lon[0], np.cos(lat), np.sin(lat)
        depth = sin[0] * sin + cos[0] * cos * np.cos(turn)
        east = cos * np.sin(turn) / depth
        # cos(lat0) sin(lat) - sin(lat0) cos(lat) cos(turn), without its cancellation.
        north = np.sin(lat - lat[0]) + 2.0 * sin[0] * cos * np.sin(turn / 2.0) ** 2
        plane = np.stack([east, north / depth])
    return np.stack([plane[:, 1] - plane[:, 2], plane[:, 3] - plane[:, 4]], axis=1)


def sky_positions(all_wcs, pixels):
    """Give places on the sky of pixels of many images.

    Parameters
    ----------
    all_wcs : sequence of `~astropy.wcs.WCS`, other APE 14 WCS or None
        Celestial WCS of each image.
    pixels : array_like
        Shape (n, 2): pixel (x, y) of each image, counted from 0.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, 2): right ascension and declination (ICRS) in degrees; NaN where
        there is no WCS, or where it does not reach.
    """
    places = np.full((len(all_wcs), 2), np.nan)
    frames = {}
    for row, (wcs, pixel) in enumerate(zip(all_wcs, pixels, strict=True)):
        if not isinstance(wcs, WCS):
            if wcs is not None:
                with suppress(ConvertError, ValueError):
                    sky = HighLevelWCSWrapper(wcs).pixel_to_world(*pixel).icrs
                    places[row] = sky.ra.deg, sky.dec.deg
            continue
        try:
            world = wcs.all_pix2world([pixel], 0)[0]
        except (ValueError, MemoryError):  # what wcslib raises
            continue
        places[row] = world[[wcs.wcs.lng, wcs.wcs.lat]]
        key = (wcs.wcs.ctype[wcs.wcs.lng], wcs.wcs.radesys, wcs.wcs.equinox)
        frames.setdefault(tuple(map(str, key)), []).append(row)
    # Frames are few, and turning one place takes as long as turning many.
    for rows in frames.values():
        lon, lat = places[rows].T
        try:
            frame = wcs_to_celestial_frame(all_wcs[rows[0]])
            sky = SkyCoord(lon, lat, unit=u.deg, frame=frame).icrs
        except (ConvertError, TypeError, ValueError):  # of a planet, or no latitude
            places[rows] = np.nan
        else:
            places[rows] = np.stack([sky.ra.deg, sky.dec.deg], 1)
    return places
