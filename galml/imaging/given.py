# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What users say of galaxies beside their images."""

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.imaging.headers import split_bands, wavelengths_of

__all__ = ["Given"]


class Given:
    """What the user says of the galaxies beside the images.

    Parameters
    ----------
    r_eff, bands, pixel_scale, psf_fwhm
        As in `galml.spin`.

    Attributes
    ----------
    reference : float or None
        Wavelength of the band on which radii are measured that are missing.
    flag_units : bool
        Whether images without a unit are flagged.
    flag_bands : bool
        Whether images without a band are flagged.
    """

    reference, flag_units, flag_bands = None, False, False

    def __init__(self, r_eff, bands, pixel_scale, psf_fwhm):
        self.bands = None if bands is None else split_bands(bands)
        if self.bands is not None:
            wavelengths_of(self.bands)
        self.r_eff = self.scale = self.width = None
        if r_eff is not None:
            self.r_eff = _Lengths("r_eff", r_eff)
        if pixel_scale is not None:
            self.scale = _Lengths("pixel_scale", pixel_scale, per_pixel=True)
        if psf_fwhm is not None:
            # One width for each band, or for each galaxy and band.
            self.width = _Lengths("psf_fwhm", psf_fwhm, axes=2)

    def check(self, is_single, length):
        """Raise where there are values for another number of galaxies."""
        for lengths in (self.r_eff, self.scale, self.width):
            if lengths is not None:
                lengths.check(is_single, length)

    def scales(self, rows, own):
        """Give the side of a pixel in arcsec, shape (n,), NaN where it is unknown."""
        if self.scale is None:
            return own
        values, _, missing = self.scale.rows(rows)
        return np.where(missing, own, values)

    def radii(self, rows, own, scale):
        """Give effective radii in pixels, NaN where unknown, and what is wrong.

        ``own`` are those that the data know, in arcsec.
        """
        values, pixels, missing = own, np.zeros(own.shape, bool), np.isnan(own)
        if self.r_eff is not None:
            given, in_pixels, gone = self.r_eff.rows(rows)
            values = np.where(gone, values, given)
            pixels, missing = ~gone & in_pixels, gone & missing
        n = len(scale)
        values, pixels, missing = (
            np.broadcast_to(array, n) for array in (values, pixels, missing)
        )
        lost = ~pixels & ~missing & np.isnan(scale)
        errors = None
        if lost.any():
            expected = "pixel_scale=, a WCS, or pixels"
            error = InputError("r_eff", "an angle", expected)
            errors = [error if bad else None for bad in lost]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(pixels, values, values / scale), missing, errors

    def widths(self, rows, own, scale, n_bands):
        """Give the FWHM of the PSF in pixels, (n, bands), NaN where it is unknown."""
        result = np.full((len(scale), n_bands), np.nan)
        values, pixels = own, False
        if self.width is not None:
            values, pixels, missing = self.width.rows(rows)
            values = np.where(missing, np.nan, values)
            self.width.check_sign(values, pixels)
        if values is None:
            return result
        if values.ndim == 1:
            values, pixels = values[:, None], pixels[:, None]
        if values.shape[1] not in (1, n_bands):
            expected = f"one, or one for each of {n_bands} bands"
            raise InputError("psf_fwhm", f"{values.shape[1]} values", expected)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[:] = np.where(pixels, values, values / scale[:, None])
        return result


class _Lengths:
    """Lengths on the sky that a user gave, for all galaxies or for each.

    Attributes
    ----------
    values : `~numpy.ndarray`
        In pixels or arcsec; NaN where there is none.
    pixels, missing : `~numpy.ndarray`
        Whether each is in pixels, and whether there is none.
    each : bool
        Whether the first axis counts galaxies.
    """

    def __init__(self, argument, value, *, axes=1, per_pixel=False):
        self.argument, self.per_pixel = argument, per_pixel
        self.expected = "an angle" if per_pixel else "an angle or pixels"
        try:
            self.values, self.pixels = self._numbers(value)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            got = f"an object of type {type(value).__name__}"
            raise InputTypeError(argument, got, self.expected) from error
        self.missing = np.broadcast_to(_mask_of(value, self.values), self.values.shape)
        if self.values.ndim > axes:
            got = f"shape {self.values.shape}"
            raise InputError(argument, got, f"{self.expected}, one for each galaxy")
        self.each = self.values.ndim == axes
        if per_pixel and not self.each:
            self.check_sign(self.values, self.pixels)

    def _numbers(self, value):
        """Give numbers, and whether they are in pixels."""
        if isinstance(value, list | tuple):
            # Members of a list may be without a value, or of several units.
            parts = [
                self._numbers(np.nan * u.arcsec if v is None else v) for v in value
            ]
            return tuple(np.stack(column) for column in zip(*parts, strict=True))
        if isinstance(value, str | bytes):
            raise TypeError("text is not read")
        quantity = u.Quantity(getattr(value, "unmasked", value), dtype=float)
        unit = quantity.unit
        if self.per_pixel and unit.is_equivalent(u.arcsec / u.pix):
            quantity, unit = quantity * u.pix, unit * u.pix
        if unit.is_equivalent(u.pix) and not self.per_pixel:
            numbers = quantity.to_value(u.pix)
        elif unit.is_equivalent(u.arcsec):
            numbers = quantity.to_value(u.arcsec)
        else:
            got = f"a value in {str(unit) or 'no unit'}"
            raise InputUnitError(self.argument, got, self.expected)
        in_pixels = np.full(np.shape(numbers), unit.is_equivalent(u.pix))
        return np.asarray(numbers), in_pixels

    def check_sign(self, values, pixels):
        """Raise for lengths that are none."""
        wrong = values <= 0
        if wrong.any():
            unit = "pix" if pixels[wrong].flat[0] else "arcsec"
            got = f"{values[wrong].flat[0]:g} {unit}"
            raise InputError(self.argument, got, f"{self.expected} above zero")

    def check(self, is_single, length):
        """Raise where there are values for another number of galaxies."""
        count = len(self.values) if self.each else None
        if self.each and (is_single or count != (length or count)):
            expected = "one value" if is_single else f"one value, or {length}"
            raise InputError(self.argument, f"{count} values", expected)

    def rows(self, rows):
        """Give numbers, and which are in pixels, and missing, of galaxies."""
        if not self.each:
            return self.values[None], self.pixels[None], self.missing[None]
        if rows.stop > len(self.values):
            got = f"{len(self.values)} values"
            raise InputError(self.argument, got, "one for each object")
        return self.values[rows], self.pixels[rows], self.missing[rows]


def _mask_of(value, numbers):
    """Find where there is no value: masked, or None in a list."""
    if isinstance(value, list | tuple):
        gone = np.array([one is None for one in value], dtype=bool)
        return gone.reshape(-1, *[1] * (numbers.ndim - 1)) if gone.size else False
    mask = getattr(value, "mask", None)
    return False if mask is None else np.asarray(mask, dtype=bool)
