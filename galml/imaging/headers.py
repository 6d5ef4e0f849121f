# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What headers of images tell: bands, units, the deep field, numbers."""

import functools
import math
import re
from collections.abc import Iterable
from numbers import Integral

import astropy.units as u
import numpy as np
from astropy.units.function import FunctionUnitBase

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.imaging.rgb import RGB_BANDS
from galml.physics import band_name, field_name, pivot_wavelengths

__all__ = [
    "FLUX",
    "angles_of",
    "band_names",
    "checked_bands",
    "field_of",
    "flags_of",
    "flux_factors",
    "number_of",
    "split_bands",
    "unit_of",
    "wavelengths_of",
]

#: Unit in which fluxes of calibrated bands are counted.
FLUX = u.nJy
#: What units of counts, and rates of them, are made of.
UNCALIBRATED = {u.adu, u.DN, u.ct, u.electron, u.ph, u.s, u.pix, u.rad}
#: Keys of the metadata that name the bands; those together are of filters that light
#: passes one after the other, of which one makes the band.
BAND_KEYS = (
    ("BANDS",),
    ("BAND",),
    ("FILTER", "PUPIL"),
    ("FILTER1", "FILTER2"),
    ("FILTNAM1", "FILTNAM2"),
)
#: Keys of the metadata that tell the field, and the AB magnitude of one count.
FIELD_KEYS = ("FIELD", "TARGNAME")
ZERO_POINT_KEYS = ("ABMAGZP", "MAGZERO", "ZEROPOINT", "PHOTZP")
#: What may be counted; without a unit, it is a rate.
COUNTS = (u.electron, u.ct, u.adu, u.DN, u.ph)
RATES = (u.dimensionless_unscaled, *(one / u.s for one in COUNTS))


def split_bands(bands):
    """Give names of bands as a tuple.

    Parameters
    ----------
    bands : str or iterable of str
        A string has commas, or letters that are bands, as "grz" or "g r z".

    Returns
    -------
    tuple of str
    """
    if isinstance(bands, str):
        bands = _split(bands)
    if not isinstance(bands, Iterable) or getattr(bands, "ndim", 1) != 1:
        raise InputTypeError("bands", repr(bands), "names of bands")
    return tuple(str(band).strip() for band in bands)


def _split(text):
    """Split a text into names of bands."""
    if band_name(text) is None and all(map(band_name, text)):
        return list(text)
    # Other names with spaces and semicolons are of filters behind each other.
    letters = re.split(r"[;\s]+", text.strip())
    if len(letters) > 1 and all(len(one) == 1 and band_name(one) for one in letters):
        return letters
    return text.split(",")


def checked_bands(bands, count):
    """Give the names of so many bands.

    Parameters
    ----------
    bands : tuple of str or None
        Names.
    count : int
        Number of images.

    Returns
    -------
    tuple of str or None
        None for a single band without a name.

    Raises
    ------
    galml.core.InputError
        For another number of names.
    """
    if bands is None and count == 1:
        return None
    if bands is None:
        expected = "bands, or BANDS in the metadata"
        raise InputError("bands", f"no names of {count} bands", expected)
    if len(bands) != count:
        raise InputError("bands", list(bands), f"{count} names, one for each image")
    return bands


def band_names(meta, bands, count, colored):
    """Give names of the bands: given, of a color image, or in the metadata.

    Parameters
    ----------
    meta : mapping
        Header.
    bands : tuple of str or None
        What was given.
    count : int
        Number of images.
    colored : bool
        Whether they are the colors of one.

    Returns
    -------
    tuple of str or None
        None for a single band of which nobody tells.

    Raises
    ------
    galml.core.InputError
        If nobody tells of several, or another number.
    """
    if bands is None and colored:
        bands = RGB_BANDS
    if bands is None:
        bands = _header_bands(meta, count)
    return checked_bands(bands, count)


def _header_bands(meta, count):
    """Give the names of the bands in the metadata, None where there are none."""
    numbered = [str(meta.get(f"BAND{i}", "")).strip() for i in range(10)]
    numbered = tuple(name for name in numbered if band_name(name) is not None)
    if len(numbered) == count > 1:
        return _of_instrument(meta, numbered)
    for keys in BAND_KEYS:
        values = [str(meta[key]).strip() for key in keys if meta.get(key) is not None]
        values = [value for value in values if value]
        aperture = str(meta.get("APERTURE", ""))
        if values and band_name(aperture) is not None:
            # STIS has filters there.
            values.append(aperture)
        if values:
            # Behind a wide filter there may be a narrower one, or none.
            found = [value for value in values if band_name(value) is not None]
            name = found[-1] if found else values[0]
            # One image is not in several bands, but behind several filters.
            single = count == 1 and "," not in name
            return _of_instrument(meta, (name,) if single else split_bands(name))
    return _of_instrument(meta, numbered) if len(numbered) == count else None


def _of_instrument(meta, bands):
    """Name bands with their instrument where it has them by the name of others."""
    parts = (str(meta.get(key) or "").strip() for key in ("INSTRUME", "DETECTOR"))
    camera = " ".join(filter(None, parts))
    full = tuple(f"{camera} {band}" for band in bands)
    return tuple(
        longer if band_name(longer) not in (band_name(band), None) else band
        for band, longer in zip(bands, full, strict=True)
    )


def field_of(meta):
    """Give the deep field that a header tells, None where there is none."""
    names = (field_name(meta.get(key)) for key in FIELD_KEYS)
    return next((name for name in names if name is not None), None)


def flags_of(meta):
    """Give the bits that the metadata of a cutout tell, 0 for what others call so."""
    flags = meta.get("FLAGS")
    whole = isinstance(flags, Integral) and not isinstance(flags, bool)
    return int(flags) if whole and 0 <= flags < 2 * max(Flag) else 0


def unit_of(meta, unit, n_bands):
    """Give the flux that one count stands for, as a unit; else the unit as it is.

    Headers tell it by the sensitivity to rates in one band (in erg/s/cm2/Angstrom at
    a wavelength in Angstrom, or in Jy), or by the AB magnitude of one count.

    Parameters
    ----------
    meta : mapping
        Header.
    unit : `~astropy.units.Unit`
        Unit of the data.
    n_bands : int
        Number of bands that have this header.

    Returns
    -------
    `~astropy.units.Unit`
    """
    if unit not in (*RATES, *COUNTS):
        return unit
    keys = "PHOTFNU", "PHOTFLAM", "PHOTPLAM"
    sensitivity, per_wavelength, pivot = (number_of(meta, key) or 0.0 for key in keys)
    flux = None
    if n_bands == 1 and unit in RATES:
        if sensitivity > 0:
            flux = sensitivity * u.Jy
        elif per_wavelength > 0 and pivot > 0:
            flux = per_wavelength * u.Unit("erg / (s cm2 Angstrom)")
            flux = flux.to(FLUX, u.spectral_density(pivot * u.Angstrom))
    if flux is None:
        zero_points = (number_of(meta, key) for key in ZERO_POINT_KEYS)
        zero_point = next((one for one in zero_points if one is not None), None)
        if zero_point is not None:
            with np.errstate(over="ignore"):
                flux = (zero_point * u.ABmag).to(FLUX)
    # What is no number, or nothing, is no flux.
    known = flux is not None and 0 < flux.value < math.inf
    return u.Unit(flux) if known else unit


def number_of(meta, key):
    """Give a number of a header, None where there is none."""
    try:
        value = float(meta.get(key))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


@functools.lru_cache
def wavelengths_of(bands):
    """Find the wavelengths of bands.

    Parameters
    ----------
    bands : tuple of str
        Their names.

    Returns
    -------
    tuple of float
        In micron.

    Raises
    ------
    galml.core.InputError
        If one is unknown, or twice there.
    """
    try:
        return pivot_wavelengths(bands)
    except ValueError as error:
        raise InputError("bands", str(error), "names of bands, each once") from error


@functools.lru_cache
def flux_factors(unit, wavelengths):
    """Convert each band to nJy per pixel.

    Parameters
    ----------
    unit : `~astropy.units.Unit`
        Unit of the data.
    wavelengths : tuple of float
        In micron.

    Returns
    -------
    factors : tuple of float
        One for each band.
    power : int
        The power of the pixel scale (arcsec) that they lack.
    calibrated : bool
        Whether the unit is one of fluxes at all.

    Raises
    ------
    galml.core.InputUnitError
        If it is neither one of fluxes nor of counts.
    """
    if isinstance(unit, FunctionUnitBase):
        raise InputUnitError("cutouts", f"values in {unit}", "fluxes, or counts")
    for target, power in ((FLUX, 0), (FLUX / u.arcsec**2, 2), (FLUX / u.pix, 0)):
        try:
            factors = [unit.to(target, 1.0, _same_flux(one)) for one in wavelengths]
        except u.UnitConversionError:
            continue
        return tuple(factors), power, True
    if not set(unit.decompose().bases) <= UNCALIBRATED:
        raise InputUnitError("cutouts", f"values in {unit}", "fluxes, or counts")
    return (1.0,) * len(wavelengths), 0, False


def _same_flux(wavelength):
    """Fluxes per wavelength and maggies as fluxes per frequency."""
    return u.spectral_density(wavelength * u.micron) + u.zero_point_flux(1 * u.AB)


def angles_of(meta, key):
    """Give the angles (arcsec) of a header: a number, or several with commas.

    Parameters
    ----------
    meta : mapping
        Header.
    key : str
        Which ones.

    Returns
    -------
    list of float, or None
        None where there are none.

    Raises
    ------
    galml.core.InputError
        If they are no numbers.
    """
    if meta.get(key) in (None, ""):
        return None
    try:
        return [float(part) for part in str(meta[key]).split(",")]
    except ValueError as error:
        raise InputError(key, repr(meta[key]), "numbers, in arcsec") from error
