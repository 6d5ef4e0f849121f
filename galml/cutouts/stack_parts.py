# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The parts of a stack of cutouts: checked, sliced and put together."""

import astropy.units as u
import numpy as np
from astropy.nddata import NDUncertainty, StdDevUncertainty
from astropy.table import QTable, Table, TableMergeError, vstack
from astropy.wcs import WCS

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = [
    "add_band_axis",
    "check_angles",
    "check_array",
    "check_bands",
    "check_catalog",
    "check_images",
    "check_index",
    "check_psf",
    "check_std",
    "check_wcs",
    "join",
]


def check_images(data):
    """Give images as a Quantity of native floats with four axes."""
    if not isinstance(data, u.Quantity):
        got = f"an object of type {type(data).__name__}"
        raise InputTypeError("data", got, "a Quantity")
    if data.ndim != 4 or 0 in data.shape[1:]:
        expected = "(galaxies, bands, ny, nx)"
        raise InputError("data", f"an array of shape {data.shape}", expected)
    return data.astype(_float_type("data", data.dtype), copy=False)


def check_bands(bands, n_bands):
    """Give the names of the bands as a tuple."""
    if isinstance(bands, str) or not all(isinstance(band, str) for band in bands):
        raise InputTypeError("bands", repr(bands), "a sequence of names")
    bands = tuple(str(band) for band in bands)
    if len(bands) != n_bands:
        raise InputError("bands", f"{len(bands)} names", f"{n_bands}, as in the data")
    if len(set(bands)) < len(bands):
        raise InputError("bands", f"{bands}", "names that differ")
    if any("," in band or not band.strip() or not band.isascii() for band in bands):
        raise InputError("bands", f"{bands}", "ASCII names without commas")
    return bands


def check_wcs(wcs, n):
    """Give a list with one celestial WCS, or None, for each image."""
    wcs = [None] * n if wcs is None else list(wcs)
    if len(wcs) != n:
        raise InputError("wcs", f"{len(wcs)} of them", f"{n}, one for each image")
    for item in wcs:
        if item is not None and not isinstance(item, WCS):
            raise InputTypeError("wcs", f"a {type(item).__name__}", "WCS or None")
        if item is not None and (item.naxis != 2 or not item.has_celestial):
            raise InputError("wcs", f"axes {list(item.wcs.ctype)}", "two on the sky")
    return wcs


def check_angles(argument, angles, shape):
    """Give angles in arcsec, spread out to a shape."""
    try:
        arcsec = u.Quantity(angles, dtype=float).to(u.arcsec)
    except (u.UnitConversionError, TypeError) as error:
        raise InputUnitError(argument, f"{angles!r}", "an angle") from error
    try:
        arcsec = np.broadcast_to(arcsec, shape, subok=True).copy()
    except ValueError as error:
        raise InputError(argument, f"shape {arcsec.shape}", f"{shape}") from error
    if (arcsec <= 0).any() or np.isinf(arcsec).any():
        raise InputError(argument, "values that are no sizes", "angles above zero")
    return arcsec


def check_std(uncertainty, data):
    """Give the standard deviation in the unit of the data."""
    if uncertainty is None:
        return None
    unit = data.unit
    if isinstance(uncertainty, NDUncertainty):
        std = uncertainty.represent_as(StdDevUncertainty)
        uncertainty = std.array * (unit if std.unit is None else std.unit)
    if isinstance(uncertainty, u.Quantity):
        if not uncertainty.unit.is_equivalent(unit):
            raise InputUnitError("uncertainty", f"{uncertainty.unit}", f"{unit}")
        uncertainty = uncertainty.to_value(unit)
    kind = _float_type("uncertainty", np.asarray(uncertainty).dtype)
    return check_array("uncertainty", uncertainty, data.shape, kind)


def check_array(argument, values, shape, kind):
    """Give an array of one kind and shape; None stays None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(argument, f"shape {array.shape}", f"{shape}")
    allowed = {"b": "b", "i": "iu", "f": "iuf"}[np.dtype(kind).kind]
    if array.dtype.kind not in allowed and array.size:
        raise InputTypeError(argument, f"values of {array.dtype}", f"{np.dtype(kind)}")
    return array.astype(kind, copy=False)


def check_psf(psf, shape):
    """Give PSF images, one for each image and band."""
    if psf is None:
        return None
    psf = np.asarray(psf)
    if psf.ndim != 4 or psf.shape[:2] != shape or 0 in psf.shape[2:]:
        got, expected = f"shape {psf.shape}", f"({shape[0]}, {shape[1]}, k, k)"
        raise InputError("psf", got, expected)
    return psf.astype(_float_type("psf", psf.dtype), copy=False)


def check_catalog(catalog, n):
    """Give a catalog of n rows as a QTable."""
    if catalog is None:
        return None
    if not isinstance(catalog, Table):
        got = f"an object of type {type(catalog).__name__}"
        raise InputTypeError("catalog", got, "a Table")
    if len(catalog) != n:
        raise InputError("catalog", f"{len(catalog)} rows", f"{n}, one for each image")
    return QTable(catalog, copy=False)


def check_index(item, n):
    """Give indices or booleans that select images as an array."""
    index = np.asarray(item)
    if index.size == 0 and index.ndim == 1:
        return index.astype(int)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise InputTypeError("index", f"{item!r}", "an integer, slice or 1-D array")
    if index.dtype.kind == "b" and len(index) != n:
        raise InputError("index", f"{len(index)} booleans", f"{n}, one for each image")
    return index


def add_band_axis(wcs, shape):
    """Add an axis that counts the bands from 1; the array has this shape.

    Distortions are defined in two dimensions only; such a WCS stays as it is.
    """
    if wcs is None or wcs.has_distortion:
        return wcs
    cube = wcs.sub([1, 2, 0])
    cube.wcs.crpix[2] = cube.wcs.crval[2] = 1
    cube.wcs.cname = [*wcs.wcs.cname, "band"]
    cube.array_shape = shape
    return cube


def join(stacks, key):
    """Put one part of several stacks together; None where none of them has it."""
    parts = [getattr(stack, key) for stack in stacks]
    if all(part is None for part in parts):
        return None
    if key == "mask":
        pairs = zip(parts, stacks, strict=True)
        parts = [
            np.zeros(stack.data.shape, bool) if part is None else part
            for part, stack in pairs
        ]
    elif any(part is None for part in parts):
        raise InputError("stacks", f"{key} in some of them", "in all or in none")
    if key == "catalog":
        try:
            return vstack(parts, join_type="exact", metadata_conflicts="silent")
        except TableMergeError as error:
            raise InputError("stacks", f"catalogs: {error}", "same columns") from error
    if key == "uncertainty":
        unit = stacks[0].unit
        parts = [
            part * part.dtype.type(stack.unit.to(unit))
            for part, stack in zip(parts, stacks, strict=True)
        ]
    if len({part.shape[1:] for part in parts}) > 1:
        raise InputError("stacks", f"{key} of several sizes", "one size")
    return np.concatenate(parts)


def _float_type(argument, dtype):
    """Choose float32 where the values are that, and float64 otherwise."""
    if dtype.kind not in "iuf":
        raise InputTypeError(argument, f"values of {dtype}", "integers or floats")
    return np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64
