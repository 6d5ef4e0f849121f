# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which axis of an image or cube is sky, spectrum or nothing, after its WCS.

Axes are counted as NumPy does; every WCS of the astropy shared interface (APE 14)
is understood. Nothing given is changed.
"""

import astropy.units as u
import numpy as np
from astropy.constants import c
from astropy.coordinates import SpectralQuantity
from astropy.wcs import WCS, NonseparableSubimageCoordinateSystemError
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS

from galml.core.exceptions import InputError

__all__ = ["arrange", "celestial", "roles", "spectral_axis"]

# Doppler conventions of the FITS velocity axes.
_CONVENTIONS = {"VRAD": "radio", "VOPT": "optical", "VELO": "relativistic"}


def _role(physical_type):
    """Name the role of one world axis from its physical type."""
    kind = (physical_type or "").removeprefix("custom:")
    if kind.startswith("pos.") and kind.endswith((".ra", ".dec", ".lon", ".lat")):
        return "sky"
    if kind.startswith(("em.", "spect.", "src.redshift")):
        return "spectral"
    return ""


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
    for world, kind in enumerate(low.world_axis_physical_types):
        for pixel in np.flatnonzero(matrix[world]):
            found[-1 - pixel] = _role(kind) or found[-1 - pixel]
    return found


def _select(wcs, axes, argument):
    """Keep only these array axes of a WCS, in this order; None if impossible."""
    low = _low_level(wcs)
    ndim = low.pixel_n_dim
    axes = list(axes)
    if axes == list(range(ndim)):
        return wcs
    if isinstance(wcs, WCS):
        try:
            return wcs.sub([ndim - axis for axis in reversed(axes)])
        except NonseparableSubimageCoordinateSystemError as error:
            raise InputError(
                argument, "a WCS whose axes are mixed", "separable axes"
            ) from error
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
    return tuple(axes), wcs


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
        has them; None when the first axis is not spectral.
    """
    kinds = roles(wcs)
    if len(kinds) != 3 or kinds[0] != "spectral":
        return None
    low = _low_level(wcs)
    world = [_role(kind) for kind in low.world_axis_physical_types].index("spectral")
    values = low.pixel_to_world_values(0, 0, np.arange(size))[world]
    unit = u.Unit(low.world_axis_units[world])
    rest = convention = None
    if isinstance(wcs, WCS):
        if wcs.wcs.restfrq > 0:
            rest = wcs.wcs.restfrq * u.Hz
        elif wcs.wcs.restwav > 0:
            rest = wcs.wcs.restwav * u.m
        convention = _CONVENTIONS.get(wcs.wcs.ctype[world][:4])
    if unit == u.dimensionless_unscaled:
        # A redshift axis is the optical velocity in units of c.
        values, unit, convention = values * c.si.value, c.si.unit, "optical"
    return SpectralQuantity(
        values, unit, doppler_rest=rest, doppler_convention=convention
    )
