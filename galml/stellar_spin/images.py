# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Anything that holds the image of a galaxy in one or more bands, as numbers."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.nddata import NDData
from astropy.table import Table

from galml.core.exceptions import GalmlError, InputError, InputUnitError
from galml.core.flags import Flag
from galml.core.geometry import pixel_scale as scale_of
from galml.core.inputs import Failure, RowOptions, stream
from galml.stellar_spin.bands import wavelengths
from galml.stellar_spin.preparation import choose_bands
from galml.stellar_spin.rgb import (
    RGB_BANDS,
    is_picture,
    is_rgb,
    linear_images,
    read_picture,
)

__all__ = ["GalaxyImage", "measured_size", "problem_of", "read_images"]

#: Unit in which fluxes of calibrated bands are counted.
FLUX = u.nJy
#: What units of counts, and rates of them, are made of.
UNCALIBRATED = {u.adu, u.DN, u.ct, u.electron, u.ph, u.s, u.pix, u.rad}
#: Fewest known pixels, and smallest effective radius in pixels.
MIN_PIXELS = 64
SMALLEST = 0.7
#: Keys of the metadata that name the bands.
BAND_KEYS = ("BANDS", "BAND", "FILTER")
#: Key by which a color image is known after it has been read.
COLORS = "RGB_IMAGE"


@dataclass
class GalaxyImage:
    """One galaxy, ready to be prepared.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape (bands, ny, nx), float32: flux per pixel; NaN where it is unknown.
    wavelength : tuple of float
        Of each band, in micron.
    r_eff : float
        Effective radius along the major axis, in pixels.
    noise, psf_fwhm : `~numpy.ndarray`
        Shape (bands,): error of a pixel, and FWHM in pixels; NaN where unknown.
    center : `~numpy.ndarray`
        Shape (2,): x and y in pixels; NaN for the middle of the image.
    calibrated : bool
        Whether fluxes are in `FLUX`, up to a factor.
    pixel_scale : float
        Side of a pixel in arcsec; NaN where it is unknown.
    colors : `~numpy.ndarray` or None
        The color image itself, shape (3, ny, nx) between 0 and 1, if it was one.
    flags : int
        Bits of `galml.core.Flag`.
    name : str or None
        Name of the galaxy.
    """

    values: np.ndarray
    wavelength: tuple
    r_eff: float
    noise: np.ndarray
    psf_fwhm: np.ndarray
    center: np.ndarray
    calibrated: bool
    pixel_scale: float = np.nan
    colors: np.ndarray | None = None
    flags: int = 0
    name: str | None = None


def read_images(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
):
    """Read images of galaxies, one at a time.

    Parameters
    ----------
    cutouts, r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.spin`.

    Returns
    -------
    is_single : bool
        Whether there is one galaxy. It has been read.
    length : int or None
        Number of galaxies, where known.
    images : iterator
        Of `GalaxyImage`, and of `~galml.core.inputs.Failure` where a member of a batch
        cannot be used.
    """
    if isinstance(cutouts, Table) and r_eff is None and "r_eff" in cutouts.colnames:
        r_eff = cutouts["r_eff"]
    is_single, length, members = stream(
        _adapted(cutouts),
        argument="cutouts",
        unit=u.dimensionless_unscaled if unit is None else unit,
        hdu=hdu,
        ndim=(2, 3),
    )
    psf_fwhm = None if psf_fwhm is None else u.Quantity(psf_fwhm)
    each = {"r_eff": r_eff, "pixel_scale": pixel_scale}
    shared = {"bands": bands}
    # One width for each band, or for each galaxy and band.
    (each if np.ndim(psf_fwhm) == 2 else shared)["psf_fwhm"] = psf_fwhm
    options = RowOptions(each, is_single=is_single, length=length)
    return is_single, length, _convert(members, options, shared, is_single)


def _adapted(cutouts):
    """Give arrays and color images the form in which `stream` reads them."""
    if isinstance(cutouts, list | tuple):
        return [_adapted_one(one) for one in cutouts]
    if isinstance(cutouts, np.ndarray) and cutouts.ndim == 4:
        return [_adapted_one(one) for one in cutouts]
    if isinstance(cutouts, Iterator):
        return map(_adapted_one, cutouts)
    return _adapted_one(cutouts)


def _adapted_one(one):
    if isinstance(one, str | os.PathLike) and is_picture(one):
        one = read_picture(one)
    if is_rgb(one):
        return NDData(np.moveaxis(one, 2, 0), meta={COLORS: True})
    if isinstance(one, np.ndarray) and one.ndim == 3 and one.dtype.kind != "O":
        return NDData(one)
    return one


def _convert(members, options, shared, is_single):
    """Convert each member; in a batch an error becomes a `Failure`."""
    for index, member in enumerate(members):
        if isinstance(member, Failure):
            yield member
            continue
        try:
            yield _image(member, **shared | options.row(index))
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as error:
            if is_single:
                raise
            yield Failure(error, member.name)


def _image(member, *, r_eff, bands, pixel_scale, psf_fwhm):
    """Bring one observation into the form that is prepared."""
    values = member.values if member.values.ndim == 3 else member.values[None]
    std, flags, colors = member.std, member.flags, None
    names = _band_names(member.meta, bands, len(values))
    wavelength = wavelengths(names)
    scale = _scale(member, pixel_scale)
    if member.meta.get(COLORS):
        colors = np.clip(values / 255.0, 0, 1).astype(np.float32)
        values, calibrated = linear_images(colors), True
    else:
        factors, calibrated = _factors(member.unit, wavelength, scale)
        if not calibrated:
            # Single precision holds any unit then; a power of two keeps all digits.
            top = np.nanmax(np.abs(values), initial=0.0)
            factors /= 2.0 ** np.round(np.log2(top)) if top > 0 else 1.0
        values = values * factors[:, None, None]
    if std is None:
        noise = np.full(len(values), np.nan)
    else:
        std = std.reshape(len(values), -1)
        known = np.isfinite(std)
        total = np.where(known, std, 0.0).sum(1)
        noise = total / np.maximum(known.sum(1), 1) * factors
        noise = np.where(known.any(1), noise, np.nan)
    width = _widths(member.meta, psf_fwhm, scale, len(values))
    center = np.full(2, np.nan)
    if r_eff is None:
        r_eff = _meta_angles(member.meta, "R_EFF")
        r_eff = None if r_eff is None else r_eff[0]
    if r_eff is None:
        place = choose_bands(wavelength)[0]
        radius, center = measured_size(values[place], width[place])
        flags |= Flag.SIZE_MEASURED
    else:
        radius = float(_in_pixels("r_eff", r_eff, scale))
    return GalaxyImage(
        values=values.astype(np.float32),
        wavelength=wavelength,
        r_eff=radius,
        noise=noise.astype(float),
        psf_fwhm=width,
        center=center,
        calibrated=calibrated,
        pixel_scale=np.nan if scale is None else scale.to_value(u.arcsec),
        colors=colors,
        # Nothing here is counted from north.
        flags=int(flags | int(member.meta.get("FLAGS", 0))) & ~int(Flag.NO_WCS),
        name=member.name,
    )


def _band_names(meta, bands, count):
    """Names of the bands: given, in the metadata, or r where there is one only."""
    if bands is None and meta.get(COLORS):
        bands = RGB_BANDS
    if bands is None:
        bands = next((meta[key] for key in BAND_KEYS if meta.get(key)), None)
    if bands is None and count == 1:
        bands = ("r",)
    if bands is None:
        raise InputError("bands", f"no names of {count} bands", "bands=...")
    if isinstance(bands, str):
        bands = [part.strip() for part in bands.split(",")]
    if len(bands) != count:
        raise InputError("bands", list(bands), f"{count} names, one for each image")
    return tuple(str(band) for band in bands)


def _factors(unit, wavelength, scale):
    """Convert each band to `FLUX` per pixel; and whether that works."""
    area = 1.0 if scale is None else scale.to_value(u.arcsec) ** 2
    for target, share in ((FLUX, 1.0), (FLUX / u.arcsec**2, area), (FLUX / u.pix, 1.0)):
        try:
            factors = [unit.to(target, share, _same_flux(one)) for one in wavelength]
        except u.UnitConversionError:
            continue
        return np.array(factors), True
    if not set(unit.decompose().bases) <= UNCALIBRATED:
        raise InputUnitError("cutouts", f"values in {unit}", "fluxes, or counts")
    return np.ones(len(wavelength)), False


def _same_flux(wavelength):
    """Fluxes per wavelength and maggies as fluxes per frequency."""
    return u.spectral_density(wavelength * u.micron) + u.zero_point_flux(1 * u.AB)


def _scale(member, pixel_scale):
    """Side of a pixel, as a Quantity in an angle; None where it is unknown."""
    if pixel_scale is None:
        known = _meta_angles(member.meta, "PIXSCALE")
        pixel_scale = scale_of(member.wcs) if known is None else known[0]
    if pixel_scale is None:
        return None
    value = u.Quantity(pixel_scale)
    if value.unit.is_equivalent(u.arcsec / u.pix):
        value = value * u.pix
    if not value.unit.is_equivalent(u.arcsec):
        raise InputUnitError("pixel_scale", f"a value in {value.unit}", "an angle")
    return value


def _meta_angles(meta, key):
    """Angles in arcsec that the metadata have as a number, or several with commas."""
    if meta.get(key) in (None, ""):
        return None
    try:
        values = [float(part) for part in str(meta[key]).split(",")]
    except ValueError as error:
        raise InputError(key, repr(meta[key]), "numbers, in arcsec") from error
    return values * u.arcsec


def _in_pixels(argument, value, scale):
    """Lengths in pixels, from pixels or from an angle and the pixel scale."""
    value = u.Quantity(value)
    if value.unit.is_equivalent(u.pix):
        return value.to_value(u.pix)
    if not value.unit.is_equivalent(u.arcsec):
        got = f"a value in {value.unit or 'no unit'}"
        raise InputUnitError(argument, got, "an angle or pixels")
    if scale is None:
        raise InputError(argument, "an angle", "pixel_scale=, a WCS, or pixels")
    return (value / scale).to_value(u.dimensionless_unscaled)


def _widths(meta, psf_fwhm, scale, count):
    """FWHM of the PSF of each band in pixels, NaN where it is unknown."""
    if psf_fwhm is None:
        psf_fwhm = _meta_angles(meta, "PSFFWHM")
    width = np.full(count, np.nan)
    if psf_fwhm is None:
        return width
    if scale is not None or psf_fwhm.unit.is_equivalent(u.pix):
        given = _in_pixels("psf_fwhm", psf_fwhm, scale)
        if given.size not in (1, count):
            expected = f"one, or one for each of {count} bands"
            raise InputError("psf_fwhm", f"{given.size} values", expected)
        width[:] = given
    return width


def measured_size(values, psf_fwhm):
    """Measure effective radius and center of the galaxy in the middle of an image.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (ny, nx); NaN where it is unknown.
    psf_fwhm : float
        FWHM of the PSF in pixels; NaN where it is unknown.

    Returns
    -------
    r_eff : float
        Along the major axis, in pixels; NaN where there is nothing to measure.
    center : `~numpy.ndarray`
        Shape (2,): x and y in pixels.
    """
    from galml.cutouts import measure

    border = np.ones(values.shape, dtype=bool)
    inner = tuple(slice(n // 10 + 1, n - n // 10 - 1) for n in values.shape)
    border[inner] = False
    border &= np.isfinite(values)
    sky = np.median(values[border]) if border.any() else 0.0
    known = psf_fwhm if np.isfinite(psf_fwhm) else None
    found = measure(values - sky, psf_fwhm=known)
    return float(found["r_eff"]), np.array([found["x"], found["y"]], dtype=float)


def problem_of(member):
    """Tell why a member of a batch cannot be used.

    Parameters
    ----------
    member : `GalaxyImage` or `~galml.core.inputs.Failure`
        As `read_images` gives it.

    Returns
    -------
    Exception or None
        None for an image that can be used.
    """
    if isinstance(member, Failure):
        return member.error
    band = member.values[choose_bands(member.wavelength)[0]]
    known = band[np.isfinite(band)]
    if known.size < MIN_PIXELS:
        got = f"an image with {known.size} known pixels"
        return InputError("cutouts", got, f"at least {MIN_PIXELS}")
    if known.max() == known.min():
        return InputError("cutouts", f"{known[0]:g} everywhere", "an image of a galaxy")
    if not SMALLEST <= member.r_eff < np.inf:
        got = f"{member.r_eff:g} pixels"
        return InputError("r_eff", got, f"at least {SMALLEST} pixels")
    return None
