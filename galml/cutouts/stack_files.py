# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stacks of cutouts as FITS files.

Images are extensions ``DATA``, ``STD``, ``MASK`` and ``PSF``; the table ``CUTOUTS`` has
flags, scales and the WCS of each image, ``CATALOG`` is the catalog, and ``META`` has
the metadata as rows of JSON.
"""

import io
import json

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS

import galml
from galml.core.exceptions import InputError
from galml.core.files import open_fits, readable, writable
from galml.core.threads import changing_filters

__all__ = ["read_stack", "write_stack"]

# Parts of a WCS whose text has fewer digits than a double. Those of the matrix
# include the scale, so that CDELT is 1.
_NUMBERS = ("crpix", "crval", "matrix")


def write_stack(stack, path, *, overwrite=False):
    """Write a stack, see `CutoutStack.write`."""
    header = fits.Header()
    header["GALMLVER"] = galml.__version__
    header["BANDS"] = (",".join(stack.bands), "of axis 3 of the images")
    hdus = [
        fits.PrimaryHDU(header=header),
        fits.ImageHDU(stack.data.value, name="DATA"),
    ]
    # The plain format knows every unit, that of FITS does not.
    hdus[1].header["BUNIT"] = stack.unit.to_string()
    hdus.append(_table_hdu(_cutouts(stack), "CUTOUTS"))
    images = {"STD": stack.uncertainty, "MASK": stack.mask, "PSF": stack.psf}
    for name, image in images.items():
        if image is not None:
            image = image.astype(np.uint8) if name == "MASK" else image
            hdus.append(fits.ImageHDU(image, name=name))
    if stack.meta:
        hdus.append(_table_hdu(_meta_table(stack.meta), "META"))
    if stack.catalog is not None:
        hdus.append(_table_hdu(stack.catalog, "CATALOG"))
    with writable(path):
        fits.HDUList(hdus).writeto(path, overwrite=overwrite)


def read_stack(kind, path):
    """Read a stack of a class, see `CutoutStack.read`."""
    with readable("path", str(path), "a CutoutStack"), _opened(path) as hdus:
        if not {"DATA", "CUTOUTS"} <= {hdu.name for hdu in hdus}:
            raise InputError("path", "another kind of FITS file", "a CutoutStack")
        header, cutouts = hdus[0].header, _table(hdus, "CUTOUTS")
        data = u.Quantity(_image(hdus, "DATA"), hdus["DATA"].header["BUNIT"])
        mask = _image(hdus, "MASK")
        return kind(
            data,
            bands=header["BANDS"].split(","),
            wcs=_read_wcs(cutouts, data.shape[2:]),
            pixel_scale=cutouts["pixel_scale"],
            uncertainty=_image(hdus, "STD"),
            mask=None if mask is None else mask.astype(bool),
            psf=_image(hdus, "PSF"),
            psf_fwhm=cutouts["psf_fwhm"] if "psf_fwhm" in cutouts.colnames else None,
            catalog=_table(hdus, "CATALOG") if "CATALOG" in hdus else None,
            flags=cutouts["flags"],
            meta=_read_meta(hdus),
        )


def _opened(path):
    """Open a FITS file, by its path or as a file object."""
    if hasattr(path, "read"):
        return fits.open(path, memmap=False)
    return open_fits(path, "path", memmap=False)


def _meta_table(meta):
    """Write metadata as pairs of ASCII text, which keeps every letter and digit."""
    try:
        pairs = [(json.dumps(key), json.dumps(value)) for key, value in meta.items()]
    except (TypeError, ValueError) as error:
        raise InputError("meta", f"{error}", "numbers, strings and lists") from error
    keys, values = zip(*pairs, strict=True)
    return QTable({"key": np.array(keys), "value": np.array(values)})


def _read_meta(hdus):
    """Read metadata."""
    if "META" not in hdus:
        return {}
    pairs = _table(hdus, "META").iterrows()
    return {json.loads(key): json.loads(value) for key, value in pairs}


def _cutouts(stack):
    """Collect what there is once for each galaxy."""
    table = QTable({"flags": stack.flags, "pixel_scale": stack.pixel_scale})
    if stack.psf_fwhm is not None:
        table["psf_fwhm"] = stack.psf_fwhm
    rows = [_wcs_row(wcs) for wcs in stack.wcs]
    table["wcs"] = np.array([row["header"] for row in rows], dtype=str)
    for key, shape in zip(_NUMBERS, ((2,), (2,), (2, 2)), strict=True):
        table[f"wcs_{key}"] = np.reshape(
            [row[key] for row in rows], (len(rows), *shape)
        )
    return table


def _wcs_row(wcs):
    """Write a WCS as text, with those of its numbers apart that need more digits."""
    if wcs is None:
        return {"header": "", "crpix": [np.nan] * 2, "crval": [np.nan] * 2} | {
            "matrix": np.full((2, 2), np.nan)
        }
    if wcs.cpdis1 or wcs.cpdis2 or wcs.det2im1 or wcs.det2im2:
        raise InputError("wcs", "a distortion by look-up tables", "SIP or none")
    return {
        "header": wcs.to_header(relax=True).tostring(endcard=False, padding=False),
        "crpix": wcs.wcs.crpix,
        "crval": wcs.wcs.crval,
        "matrix": wcs.pixel_scale_matrix,
    }


def _read_wcs(cutouts, shape):
    """Make each WCS again."""
    found = []
    for row in cutouts:
        if not row["wcs"]:
            found.append(None)
            continue
        wcs = WCS(fits.Header.fromstring(str(row["wcs"])))
        wcs.wcs.crpix, wcs.wcs.crval = row["wcs_crpix"], row["wcs_crval"]
        wcs.wcs.pc, wcs.wcs.cdelt = row["wcs_matrix"], (1.0, 1.0)
        wcs.wcs.set()
        wcs.array_shape = shape
        found.append(wcs)
    return found


def _image(hdus, name):
    """Read an image in native byte order; None where there is none."""
    if name not in hdus:
        return None
    data = hdus[name].data
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _table_hdu(table, name):
    """Write a table of any columns that astropy can write."""
    table = table.copy(copy_data=False)
    for column in table.itercols():
        if isinstance(column, MaskedColumn | Masked):
            # Masked values survive beside their mask, and NaN stays what it is.
            column.info.serialize_method["fits"] = "data_mask"
    buffer = io.BytesIO()
    with changing_filters:
        table.write(buffer, format="fits")
        buffer.seek(0)
        with fits.open(buffer, memmap=False) as hdus:
            hdu = hdus[1].copy()
    hdu.name = name
    return hdu


def _table(hdus, name):
    """Read a table; NaN are no masked values."""
    table = QTable.read(hdus[name], mask_invalid=False, character_as_bytes=False)
    table.meta.pop("EXTNAME", None)
    return table
