# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Large images, of which only small windows are read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import (
    IMAGE_HDUS,
    UNCERTAINTIES,
    find_hdu,
    header_unit,
    header_wcs,
    parse_unit,
    readable,
)
from galml.core.geometry import arrange, celestial
from galml.core.inputs import as_nddata

__all__ = ["BandImage", "is_per_pixel", "open_image", "open_images"]

# Variance from the numbers of each kind of uncertainty.
_VARIANCE = {
    StdDevUncertainty: np.square,
    VarianceUncertainty: np.asarray,
    InverseVariance: np.reciprocal,
}

# Irreducible units of what is counted, or measured, in each pixel.
_COUNTED = {"adu", "ct", "electron", "ph", "mgy"}
_FLUXES = {
    "spectral flux density",
    "spectral flux density wav",
    "photon flux density",
    "photon flux density wav",
    "photon flux",
    "energy flux",
}


@dataclass
class BandImage:
    """One image, read window by window.

    Attributes
    ----------
    band : str
        Its name.
    shape : tuple of int
        Rows and columns.
    unit : `~astropy.units.UnitBase`
        Of the values.
    wcs : `~astropy.wcs.WCS` or other APE 14 WCS
        Celestial and two-dimensional.
    meta : mapping
        Metadata or header.
    psf : object
        What `galml.cutouts.psf.to_psf_image` takes, or None.
    pixels, uncertainty, mask : array_like or None
        What windows are cut from; they may have leading axes of length 1.
    kind : type or None
        Kind of the uncertainty.
    factor : float
        Turns values into the unit wanted.
    std_factor : float
        Turns standard deviations into the unit wanted.
    """

    band: str
    shape: tuple
    unit: u.UnitBase
    wcs: object
    meta: Mapping
    psf: object
    pixels: object
    uncertainty: object
    kind: type | None
    mask: object
    factor: float = 1.0
    std_factor: float = 1.0

    def convert_to(self, unit):
        """Have all windows read in another unit."""
        if not self.unit.is_equivalent(unit):
            raise InputUnitError(
                "images", f"{self.unit} in band {self.band!r}", f"{unit}, as the first"
            )
        self.factor = self.unit.to(unit)
        self.std_factor *= self.factor

    def read(self, x, y, values, variance, good):
        """Read a window into arrays that hold zeros.

        Parameters
        ----------
        x, y : int
            First pixel of the window, which may reach beyond the image.
        values, variance, good : `~numpy.ndarray`
            Shape ``(height, width)``, filled where pixels are usable; ``variance``
            may be None.

        Returns
        -------
        nonfinite : bool
            Whether pixels are NaN or infinite that are not masked.
        peak : float
            Largest usable value in the image's own unit.
        """
        height, width = values.shape
        rows = slice(max(y, 0), min(y + height, self.shape[0]))
        columns = slice(max(x, 0), min(x + width, self.shape[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return False, -np.inf
        inside = (
            slice(rows.start - y, rows.stop - y),
            slice(columns.start - x, columns.stop - x),
        )
        pixels = _cut(self.pixels, rows, columns)
        usable = np.isfinite(pixels)
        nonfinite = not usable.all()
        if self.mask is not None:
            clear = ~_cut(self.mask, rows, columns).astype(bool)
            nonfinite = bool((~usable & clear).any())
            usable &= clear
        if variance is not None and self.uncertainty is not None:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                numbers = _cut(self.uncertainty, rows, columns).astype(float)
                var = _VARIANCE[self.kind](numbers) * self.std_factor**2
                usable = usable & np.isfinite(var) & (numbers >= 0)
            variance[inside] = np.where(usable, var, 0.0)
        good[inside] = usable
        if usable.all():
            peak = pixels.max()
        else:
            peak = pixels[usable].max() if usable.any() else -np.inf
            pixels = np.where(usable, pixels, 0.0)
        values[inside] = pixels if self.factor == 1.0 else pixels * self.factor
        return nonfinite, float(peak)


def open_images(images, stack, *, psf=None, unit=None, hdu=None):
    """Open one image, or one per band.

    Parameters
    ----------
    images : object, mapping of str to object, or sequence of objects
        `~astropy.nddata.CCDData` or other `~astropy.nddata.NDData`, image HDU,
        `~astropy.io.fits.HDUList` or path to a FITS file. The images of a sequence
        are named by their ``BAND`` or ``FILTER``.
    stack : `contextlib.ExitStack`
        What closes the files in the end.
    psf : object or mapping, optional
        PSF of all images, or of each band; by default that of the NDData.
    unit : `~astropy.units.UnitBase` or str, optional
        Of images that have none.
    hdu : int or str, optional
        Extension of FITS files.

    Returns
    -------
    list of BandImage
        All in the unit of the first.

    Raises
    ------
    galml.core.InputError
        For no bands, two of one name, or an image without a celestial WCS.
    galml.core.InputTypeError
        For an image of another kind.
    galml.core.InputUnitError
        For units that are missing or differ in kind.
    """
    unit = None if unit is None else parse_unit(unit, "unit")
    named = isinstance(images, Mapping)
    single = not named and not isinstance(images, list | tuple)
    if single or isinstance(images, fits.HDUList):
        images = [images]
    entries = images.items() if named else [(None, image) for image in images]
    opened = []
    for band, image in entries:
        data = open_image(image, stack, unit=unit, hdu=hdu)
        opened.append(_band_image(band, data, unit))
    bands = [image.band for image in opened]
    if not bands or len(set(bands)) < len(bands):
        raise InputError("images", f"the bands {bands}", "bands that are all different")
    psfs = psf if isinstance(psf, Mapping) else dict.fromkeys(bands, psf)
    if unknown := [band for band in psfs if str(band).strip() not in bands]:
        raise InputError("psf", f"bands {unknown}", f"bands out of {bands}")
    psfs = {str(band).strip(): value for band, value in psfs.items()}
    for image in opened:
        image.psf = image.psf if psfs.get(image.band) is None else psfs[image.band]
        image.convert_to(opened[0].unit)
    return opened


def open_image(image, stack, *, unit=None, hdu=None, argument="images"):
    """Bring an image into the shape of NDData without reading its pixels.

    Parameters
    ----------
    image : object
        What `open_images` takes, or anything else that is in memory.
    stack : `contextlib.ExitStack`
        What closes the file in the end.
    unit : `~astropy.units.UnitBase`, optional
        Of an image that has none.
    hdu : int or str, optional
        Extension of a FITS file.
    argument : str
        Name used in errors.

    Returns
    -------
    object
        With the attributes of `~astropy.nddata.NDData`. Arrays of a file have a shape
        and can be indexed with slices, which reads no more than these.
    """
    if isinstance(image, str | os.PathLike):
        with readable(argument, str(image)):
            # Reading rows when they are wanted leaves no mapped pages behind.
            image = stack.enter_context(fits.open(image, memmap=False))
    if isinstance(image, (fits.HDUList, *IMAGE_HDUS)):
        return _Lazy(image, unit, hdu, argument)
    return as_nddata(image, argument, unit, hdu, (2,))


def is_per_pixel(unit):
    """Tell whether values are flux in a pixel, rather than surface brightness.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        Of the image.

    Returns
    -------
    bool or None
        True for counts, electrons, photons, maggies and flux densities, also per
        second or per pixel; False per solid angle or per beam, and for temperatures
        and velocities; None where the unit does not say.
    """
    parts = unit.decompose()
    powers = {
        base.to_string(): p for base, p in zip(parts.bases, parts.powers, strict=True)
    }
    if powers.get("rad", 0) == -2 or powers.get("beam", 0) == -1:
        return False
    if set(powers) == {"K"} or unit.is_equivalent(u.km / u.s):
        return False
    flux = unit * u.pix if powers.get("pix", 0) == -1 else unit
    counted = any(powers.get(name, 0) == 1 for name in _COUNTED)
    if counted or flux is not unit or _FLUXES & set(flux.physical_type):
        return True
    return None


class _Lazy:
    """An HDU with its partners in the shape of NDData, pixels still on disk."""

    psf = None

    def __init__(self, source, unit, hdu, argument):
        hdus = source if isinstance(source, fits.HDUList) else [source]
        image = source
        if isinstance(source, fits.HDUList):
            image = find_hdu(source, hdu, None, (2,), argument)
        if not image.shape:
            raise InputError(argument, "an HDU without data", "an image")
        header = image.header
        self.data, self.shape = _pixels(image), image.shape
        self.unit = header_unit(header, unit, argument)
        self.meta = {**hdus[0].header, **header}
        lookup = source if isinstance(source, fits.HDUList) else None
        self.wcs = header_wcs(header, lookup)
        self.uncertainty, self.mask = None, None
        if lookup is not None:
            self._add_partners(lookup, image, argument)

    def _add_partners(self, hdus, image, argument):
        """Find the uncertainty and the mask that the header names."""
        ccd = image is hdus[0]
        header = image.header
        names = [
            header.get("ERRDATA", "UNCERT" if ccd else None),
            header.get("QUALDATA", "MASK" if ccd else None),
        ]
        errors, quality = (
            hdus[n] if n is not None and n in hdus else None for n in names
        )
        self.mask = None if quality is None else _pixels(quality)
        if errors is None:
            return
        kind = errors.header.get("HDUCLAS3", errors.header.get("UTYPE"))
        if kind not in UNCERTAINTIES:
            raise InputTypeError(
                argument,
                f"an uncertainty {errors.name!r} of kind {kind!r}",
                f"HDUCLAS3 or UTYPE to be one of {', '.join(UNCERTAINTIES)}",
            )
        own = header_unit(errors.header, u.dimensionless_unscaled, argument)
        kind = UNCERTAINTIES[kind]
        std = kind([1.0], unit=own).represent_as(StdDevUncertainty)
        if self.unit is None or not std.unit.is_equivalent(self.unit):
            own = None
        self.uncertainty = kind([1.0], unit=own)
        self.uncertainty.array = _pixels(errors)


def _pixels(image):
    """Give the pixels of an HDU without reading them."""
    return image.data if "data" in vars(image) else image.section


def _cut(pixels, rows, columns):
    """Cut a window out of an array with leading axes of length 1."""
    leading = (0,) * (len(pixels.shape) - 2)
    return np.asarray(pixels[leading + (rows, columns)])


def _band_image(band, data, unit):
    """Check one image and take its parts."""
    meta = data.meta or {}
    if band is None:
        band = next((meta[k] for k in ("BAND", "FILTER") if meta.get(k)), "image")
    band = str(band).strip()
    argument = f"images[{band!r}]"
    if data.unit is None and unit is None:
        raise InputUnitError(argument, "data without a unit", "a unit, or unit=")
    shape = tuple(data.data.shape)
    if isinstance(data.data, np.ndarray) and data.data.dtype.kind not in "iuf":
        raise InputTypeError(
            argument, f"values of type {data.data.dtype}", "integers or floats"
        )
    if len(shape) < 2 or set(shape[:-2]) - {1} or 0 in shape:
        raise InputError(argument, f"an array of shape {shape}", "a 2-D image")
    axes, wcs = arrange(data.wcs, shape, 2, argument)
    wcs = celestial(wcs) if len(axes) == 2 else None
    if wcs is None:
        raise InputError(argument, "an image without celestial WCS", "a celestial WCS")
    image = BandImage(
        band=band,
        shape=shape[-2:],
        unit=unit if data.unit is None else data.unit,
        wcs=wcs,
        meta=meta,
        psf=getattr(data, "psf", None),
        pixels=data.data,
        uncertainty=None,
        kind=None,
        mask=_same_shape(data.mask, shape, argument, "a mask"),
    )
    if data.uncertainty is not None:
        _add_uncertainty(image, data.uncertainty, shape, argument)
    return image


def _add_uncertainty(image, uncertainty, shape, argument):
    """Take an uncertainty of a kind that is understood."""
    kind = next((k for k in _VARIANCE if isinstance(uncertainty, k)), None)
    if kind is None:
        raise InputTypeError(
            argument,
            f"an uncertainty of type {type(uncertainty).__name__}",
            "StdDevUncertainty, VarianceUncertainty or InverseVariance",
        )
    std = kind([1.0], unit=uncertainty.unit).represent_as(StdDevUncertainty)
    if std.unit is not None:
        image.std_factor = std.unit.to(image.unit)
    image.kind = kind
    image.uncertainty = _same_shape(
        uncertainty.array, shape, argument, "an uncertainty"
    )


def _same_shape(array, shape, argument, what):
    """Check that an array, or one number for all, has the shape of the image."""
    if array is None:
        return None
    found = tuple(getattr(array, "shape", np.shape(array)))
    if found == ():
        return np.broadcast_to(np.asarray(array), shape)
    if found != shape:
        raise InputError(argument, f"{what} of shape {found}", f"the shape {shape}")
    return array if hasattr(array, "shape") else np.asarray(array)
