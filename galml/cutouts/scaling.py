# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From pixel values to fluxes, gray values and magnitudes, for many images at once.

All functions take a `~galml.cutouts.CutoutStack`, a `~astropy.nddata.CCDData` as a
stack gives it, or an array or `~astropy.units.Quantity` of shape
(..., bands, ny, nx). Masked pixels count as unknown, as NaN do.
"""

from collections.abc import Mapping

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.cutouts.stack import CutoutStack

__all__ = [
    "asinh_magnitudes",
    "asinh_stretch",
    "level_in",
    "linear_stretch",
    "read_images",
    "to_flux",
]


def to_flux(data, *, zero_point=None):
    """Convert images to AB fluxes.

    Parameters
    ----------
    data : object
        A `~galml.cutouts.CutoutStack`, a `~astropy.nddata.CCDData` as a stack gives
        it, or an array or Quantity of shape (..., bands, ny, nx).
    zero_point : float, sequence of float or mapping of str to float, optional
        AB magnitude of a source of 1 in the unit of the image (per pixel): one for
        all bands, one for each, or by name of the band. For images in counts or other
        units that are no flux densities, and only for them.

    Returns
    -------
    `~astropy.units.Quantity`
        In nJy; images of surface brightness in nJy / arcsec2. NaN where masked.

    Raises
    ------
    galml.core.InputUnitError
        When a zero point is missing, or given for an image that needs none.
    galml.core.InputError
        When the zero points do not fit to the bands.
    galml.core.InputTypeError
        For objects of a kind that is not understood.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from galml.cutouts import to_flux
    >>> counts = np.full((1, 2, 2), 10.0) * u.adu
    >>> to_flux(counts, zero_point=27.5)[0, 0]
    <Quantity [363.07805477, 363.07805477] nJy>
    """
    values, unit, bands = read_images(data)
    for goal in (u.nJy, u.nJy / u.arcsec**2):
        try:
            factor = unit.to(goal, equivalencies=u.zero_point_flux(1 * u.AB))
        except u.UnitConversionError:
            continue
        if zero_point is not None:
            raise InputUnitError("zero_point", f"one for {unit}", "none, or counts")
        return values * values.dtype.type(factor) * goal
    if zero_point is None:
        got = "data without unit" if unit == u.one else f"{unit}"
        raise InputUnitError("data", got, "a flux density, or zero_point=")
    zero_point = _for_bands("zero_point", zero_point, values.shape[-3], bands)
    factor = (zero_point * u.ABmag).to_value(u.nJy)
    return values * factor.astype(values.dtype)[:, None, None] * u.nJy


def linear_stretch(data, *, minimum=0.0, maximum, zero_point=None):
    """Map fluxes to the range from 0 to 1.

    Parameters
    ----------
    data : object
        As for `to_flux`.
    minimum, maximum : float or `~astropy.units.Quantity`
        Fluxes that become 0 and 1; in nJy (or nJy / arcsec2, see `to_flux`) unless
        they have a unit.
    zero_point : float, sequence or mapping, optional
        As for `to_flux`.

    Returns
    -------
    `~numpy.ndarray`
        In the shape of the data; NaN where masked.

    Raises
    ------
    galml.core.InputError
        When ``maximum`` is not above ``minimum``; else as `to_flux` does.
    """
    # It imports matplotlib where there is one.
    from astropy.visualization import ManualInterval

    fluxes = to_flux(data, zero_point=zero_point)
    low = level_in("minimum", minimum, fluxes.unit)
    high = level_in("maximum", maximum, fluxes.unit)
    if not high > low:
        raise InputError("maximum", f"{maximum}", f"more than {minimum}")
    return ManualInterval(low, high)(fluxes.value)


def asinh_stretch(data, *, softening, minimum=0.0, maximum, zero_point=None):
    """Map fluxes to the range from 0 to 1: linear if faint, logarithmic if bright.

    With x = (flux - minimum) / softening it is asinh(x), divided by its value at the
    maximum (Lupton, Gunn & Szalay 1999, AJ 118, 1406).

    Parameters
    ----------
    data : object
        As for `to_flux`.
    softening : float or `~astropy.units.Quantity`
        Flux where linear turns into logarithmic, above 0; best about the noise.
    minimum, maximum : float or `~astropy.units.Quantity`
        As for `linear_stretch`.
    zero_point : float, sequence or mapping, optional
        As for `to_flux`.

    Returns
    -------
    `~numpy.ndarray`
        In the shape of the data; NaN where masked.

    Raises
    ------
    galml.core.InputError
        When ``softening`` is not above 0; else as `linear_stretch` does.
    """
    from astropy.visualization import AsinhStretch

    levels = {"minimum": minimum, "maximum": maximum}
    linear = linear_stretch(data, **levels, zero_point=zero_point)
    unit = to_flux(data, zero_point=zero_point).unit
    low, high = (level_in(name, level, unit) for name, level in levels.items())
    soft = level_in("softening", softening, unit)
    if not soft > 0:
        raise InputError("softening", f"{softening}", "a flux above 0")
    return AsinhStretch(soft / (high - low))(linear)


def asinh_magnitudes(data, *, softening, zero_point=None):
    """Convert images to asinh magnitudes, which noise does not make NaN.

    They are AB magnitudes where the flux is well above the softening, and linear in
    the flux about 0 (Lupton, Gunn & Szalay 1999, AJ 118, 1406).

    Parameters
    ----------
    data : object
        As for `to_flux`.
    softening : float or `~astropy.units.Quantity`
        The parameter b of the paper as a flux; in nJy (or nJy / arcsec2, see
        `to_flux`) unless it has a unit.
    zero_point : float, sequence or mapping, optional
        As for `to_flux`.

    Returns
    -------
    `~astropy.units.Quantity`
        In mag, for surface brightnesses per square arcsec; NaN where masked.

    Raises
    ------
    galml.core.InputError
        When ``softening`` is not above 0; else as `to_flux` does.
    """
    fluxes = to_flux(data, zero_point=zero_point)
    soft = level_in("softening", softening, fluxes.unit)
    if not soft > 0:
        raise InputError("softening", f"{softening}", "a flux above 0")
    zero = u.AB.to(u.nJy)
    decades = np.arcsinh(fluxes.value / (2 * soft)) + np.log(soft / zero)
    return -2.5 / np.log(10) * decades * u.mag


def read_images(data):
    """Read values, NaN where masked, with unit and names of the bands."""
    bands, mask, unit = None, None, u.one
    if isinstance(data, CutoutStack):
        values, mask, unit, bands = data.data.value, data.mask, data.unit, data.bands
    elif isinstance(data, NDData):
        values, mask, unit = np.asarray(data.data), data.mask, data.unit or u.one
        if "BANDS" in data.meta:
            bands = tuple(data.meta["BANDS"].split(","))
    elif isinstance(data, u.Quantity):
        values, unit = data.value, data.unit
    elif isinstance(data, np.ndarray):
        values, mask = np.asarray(data), np.ma.getmask(data)
    else:
        got = f"an object of type {type(data).__name__}"
        expected = "a CutoutStack, CCDData, Quantity or array"
        raise InputTypeError("data", got, expected)
    if values.ndim < 3 or values.dtype.kind not in "iuf":
        got = f"{values.dtype} of shape {values.shape}"
        raise InputError("data", got, "numbers of shape (..., bands, ny, nx)")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(float)
    if mask is not None and np.any(mask):
        values = np.where(mask, values.dtype.type(np.nan), values)
    return values, unit, bands


def level_in(argument, level, unit):
    """Convert a level to a plain number in the unit of the image."""
    if isinstance(level, u.Quantity):
        if not level.unit.is_equivalent(unit):
            raise InputUnitError(argument, f"{level.unit}", f"{unit}")
        return level.to_value(unit)
    return np.asarray(level, dtype=float)[()]


def _for_bands(argument, values, n_bands, bands):
    """Spread numbers out to one for each band."""
    if isinstance(values, Mapping):
        missing = [band for band in bands or ("?",) if band not in values]
        if missing:
            raise InputError(argument, f"none for {', '.join(missing)}", "all bands")
        values = [values[band] for band in bands]
    numbers = np.asarray(values, dtype=float)
    if numbers.shape not in ((), (n_bands,)) or not np.isfinite(numbers).all():
        expected = f"one finite number, or {n_bands}"
        raise InputError(argument, f"{values}", expected)
    return np.broadcast_to(numbers, (n_bands,))
