# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""FITS files and HDUs read as `~astropy.nddata.NDData`, with their partners."""

import bz2
import gzip
import lzma
import math
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.config import ConfigItem, ConfigNamespace
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.utils.data import download_file
from astropy.wcs import WCS

from galml.core.exceptions import (
    FileError,
    GalmlError,
    InputError,
    InputTypeError,
    InputUnitError,
    MissingFileError,
)
from galml.core.geometry import ANY_REST, choose_channels

__all__ = [
    "IMAGE_HDUS",
    "PACKED",
    "UNCERTAINTIES",
    "check_size",
    "file_stem",
    "conf",
    "find_hdu",
    "find_partners",
    "header_unit",
    "header_wcs",
    "is_packed",
    "local_file",
    "open_fits",
    "parse_unit",
    "read_fits",
    "read_hdu",
    "readable",
    "writable",
    "write_at_once",
]

#: Most pixels that are read at once: 20 000 a side.
MOST_PIXELS = 400_000_000
#: Most bytes of an HDU that is unpacked: those of as many pixels.
MOST_BYTES = 8 * MOST_PIXELS

#: How files begin that are compressed as a whole, and what unpacks them.
PACKED = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}

IMAGE_HDUS = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)

# HDUCLAS3 of the ESO data product standard (used by MaNGA), UTYPE of CCDData files.
UNCERTAINTIES = {
    "RMSE": StdDevUncertainty,
    "MSE": VarianceUncertainty,
    "INVMSE": InverseVariance,
    "StdDevUncertainty": StdDevUncertainty,
    "VarianceUncertainty": VarianceUncertainty,
    "InverseVariance": InverseVariance,
}

# Extensions that belong to an image although its header does not say so: names of the
# image, of its uncertainty and of its mask (MUSE, and the Space Telescopes).
_SIBLINGS = {"DATA": ("STAT", "MSE", "DQ"), "SCI": ("ERR", "RMSE", None)}

# Spellings found in headers for which there is one reading only, whatever their case.
_SPELLINGS = {
    name.lower(): name
    for name in (
        *("km", "m", "cm", "nm", "s", "Hz", "GHz", "Jy", "uJy", "nJy", "K", "beam"),
        *("adu", "DN", "count", "deg", "electron", "photon", "pix", "sr", "erg"),
        *("arcsec", "mag", "nmgy", "mgy"),
    )
} | {
    "ang": "Angstrom",
    "angstrom": "Angstrom",
    "angstroms": "Angstrom",
    "counts": "count",
    "cps": "count/s",
    "cts": "count",
    "degree": "deg",
    "degrees": "deg",
    "dns": "DN",
    "electrons": "electron",
    "kelvin": "K",
    "kms": "km s",
    "maggies": "maggy",
    "maggy": "maggy",
    "mhz": "MHz",
    "microjy": "uJy",
    "micron": "micron",
    "microns": "micron",
    "mujy": "uJy",
    "nanomaggies": "nanomaggy",
    "nanomaggy": "nanomaggy",
    "nmgys": "nmgy",
    "photons": "photon",
    "pixel": "pix",
    "pixels": "pix",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "spaxel": "pix",
    "steradian": "sr",
}
# An electron as headers write it, with its charge.
_ELECTRON = re.compile(r"(?<![A-Za-z0-9.])[eE](\^?-(?!\d)|(?=\s*/))(?![A-Za-z])")

_DATES = ("DATE", "DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "TIME-OBS")

# Velocity axes of AIPS, which tell their frame, and by VELREF their convention.
_AIPS_VELOCITY = re.compile(r"VELO-(LSR|HEL|OBS|GEO|GAL|LSD|LSK|CMB|SOU)\s*")
# Axes that are velocities, in m/s where the header tells no unit.
_VELOCITY = re.compile(r"V(EL|ELO|ELOCITY|RAD|OPT|HEL|LSR)", flags=re.I)
# Optical velocities of channels that are even in frequency or wavelength.
_UNEVEN_VELOCITY = re.compile(r"FELO(-\w+)?|VOPT-F2W|VRAD-W2F|VELO-[FW]2V")


def parse_unit(text, argument):
    """Read a unit, also as headers misspell it ("KM/S", "km/sec").

    The letter A beside an erg is an Angstrom, not an ampere, and S a second, not a
    siemens; e- is an electron, and MJY for each steradian are megajanskys.

    Parameters
    ----------
    text : str or `~astropy.units.UnitBase`
        What to read.
    argument : str
        Name used in errors.

    Returns
    -------
    `~astropy.units.UnitBase`
        The unit.

    Raises
    ------
    galml.core.InputUnitError
        When it is no unit.
    """
    if not isinstance(text, str):
        try:
            return u.Unit(text)
        except (TypeError, ValueError) as error:
            raise InputUnitError(argument, repr(text), "a unit") from error
    # Radio telescopes tell which temperature the kelvins are of.
    text = re.sub(r"^(\s*m?K)\s*\(T\w*\*?\)\s*$", r"\1", text, flags=re.I)
    text = re.sub(r"\bS\b", "s", text)
    if re.search(r"\b(sr|steradian)", text, flags=re.I):
        text = re.sub(r"\bM[Jj][Yy]\b", "MJy", text)
    usual = re.sub(
        "[A-Za-z]+",
        lambda word: _SPELLINGS.get(word[0].lower(), word[0]),
        _ELECTRON.sub("electron", text),
    )
    if re.search(r"erg", text, flags=re.I):
        text, usual = (re.sub(r"\bA\b", "Angstrom", t) for t in (text, usual))
    for spelling in (text, usual):
        unit = _read_unit(spelling)
        if unit is not None:
            return unit
    raise InputUnitError(
        argument, f"the unit {text!r}, which cannot be understood", "a unit, or unit="
    )


def _read_unit(text):
    """Read a unit; None where it is none.

    More than one slash is discouraged, and astropy remarks upon it, but common and
    clear: what stands between slashes is read by itself.
    """
    above, *below = re.split(r"/(?![^(]*\))", text)
    parts = [text] if len(below) < 2 else [above, *below]
    found = [u.Unit(part, parse_strict="silent") for part in parts]
    if any(isinstance(unit, u.UnrecognizedUnit) for unit in found):
        return None
    return found[0] / math.prod(found[1:], start=u.dimensionless_unscaled)


def file_stem(path):
    """Name a file without folder, compression and suffix of an image or table."""
    suffix = r"(\.(fits?|fts|ecsv|vot|csv|parquet|jpe?g|png))?(\.(gz|bz2|xz|fz|z))?$"
    return re.sub(suffix, "", Path(path).name, flags=re.I)


class Conf(ConfigNamespace):
    """What is configured, in ``galml.cfg`` or by ``conf.set_temp``."""

    remote_files = ConfigItem(
        False,
        "Whether http and https addresses of files are downloaded, to the cache of "
        "astropy, and read.",
    )


conf = Conf()


def local_file(path, argument):
    """Give the path of a file on disk, or raise where it is none.

    To read pipes and devices would never end, and addresses in a catalog are not to be
    asked for behind the user's back.

    Parameters
    ----------
    path : str or path-like
        The file; an address where ``conf.remote_files`` allows it.
    argument : str
        Name used in errors.

    Returns
    -------
    str or path-like
        The path, or that of what was downloaded.

    Raises
    ------
    galml.core.InputError
        For an address, a pipe, a socket or a device.
    OSError
        When the file is not there.
    """
    if "://" in str(path):
        if not (conf.remote_files and str(path).startswith(("http://", "https://"))):
            expected = "a file on disk, or galml.core.files.conf.remote_files = True"
            raise InputError(argument, f"the address {path}", expected)
        return download_file(str(path), cache=True, show_progress=False)
    try:
        mode = os.stat(os.path.expanduser(path)).st_mode
    except ValueError as error:  # a null character
        raise InputError(argument, repr(path), "the name of a file") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(argument, f"{path}, a pipe or device", "a file on disk")
    return path


def open_fits(path, argument, **options):
    """Open a FITS file on disk.

    What a compressed file says of its sizes is judged before it is unpacked.

    Parameters
    ----------
    path : str or path-like
        The file.
    argument : str
        Name used in errors.
    **options
        Keywords of `astropy.io.fits.open`.

    Returns
    -------
    `~astropy.io.fits.HDUList`
        A context manager.

    Raises
    ------
    galml.core.InputError
        Where it is too large.
    OSError
        When the file is not there.
    """
    path = os.path.expanduser(local_file(path, argument))
    file = path
    with open(path, "rb") as content:
        start = content.read(max(map(len, PACKED)))
    for magic, kind in PACKED.items():
        if start.startswith(magic):
            file = type(kind.__name__, (_Judged, kind), {})(path)
    try:
        hdus = fits.open(file, **options)
        if file is not path:
            # To count them is to read the headers of all.
            len(hdus)
    except BaseException as error:
        if file is not path:
            file.close()
        if isinstance(error, _TooLarge):
            got = f"{error} bytes in an HDU of the compressed file {path}"
            raise InputError(argument, got, f"at most {MOST_BYTES}") from None
        raise
    return hdus


class _TooLarge(Exception):
    """Data of a compressed file are too large; not an error that astropy warns of."""


class _Judged:
    """A compressed file of which no more is skipped than what may be unpacked."""

    _reached = 0

    def seek(self, offset, whence=os.SEEK_SET):
        if whence == os.SEEK_SET:
            self._reached = max(self._reached, self.tell())
            if offset - self._reached > MOST_BYTES:
                raise _TooLarge(offset - self._reached)
        return super().seek(offset, whence)


def is_packed(hdu):
    """Tell HDUs of files that are compressed as a whole.

    Parameters
    ----------
    hdu : HDU
        Of a file, or made in memory.

    Returns
    -------
    bool
        Whether all that stands before it has to be unpacked to read it.
    """
    place = hdu.fileinfo()
    return bool(place) and place["file"].compression is not None


def check_size(shape, argument):
    """Raise where an image is too large to be read at once, whatever its file says.

    Parameters
    ----------
    shape : tuple of int
        Its pixels along each axis.
    argument : str
        Name used in errors.

    Raises
    ------
    galml.core.InputError
        Beyond 4e8 pixels.
    """
    if math.prod(shape) > MOST_PIXELS:
        got = " x ".join(str(side) for side in shape)
        raise InputError(argument, f"{got} pixels", f"at most {MOST_PIXELS}")


@contextmanager
def readable(argument, what, expected="a FITS image"):
    """Turn whatever damaged files make their readers raise into an InputError.

    What the system raises becomes a FileError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(argument, what, "a file that is there") from error
    except (GalmlError, MemoryError, ImportError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        # No call has the arguments that readers advise.
        reason = reason.partition(" If this is really")[0]
        got = f"{what}, which cannot be read ({reason or type(error).__name__})"
        kind = FileError if isinstance(error, OSError) else InputError
        raise kind(argument, got, expected) from error


@contextmanager
def writable(path):
    """Turn what systems raise, where a file cannot be written, into a FileError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        got = f"{path}, which cannot be written ({reason})"
        raise FileError("path", got, "a place for a file") from error


def write_at_once(path, content):
    """Write a file, or replace it, in one step: it is there whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file.
    content : bytes
        What is written.

    Raises
    ------
    galml.core.FileError
        Where it cannot be written.
    """
    part = Path(f"{os.fspath(path)}.part")
    with writable(path):
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def read_fits(path, **options):
    """Read one image of a FITS file; options as for `read_hdu`."""
    with readable(options["argument"], str(path)):
        with open_fits(path, options["argument"]) as hdus:
            return read_hdu(hdus, **options)


def read_hdu(source, *, argument, unit, hdu, ndim, channels=None):
    """Read one image of an HDUList, or one HDU.

    Parameters
    ----------
    source : `~astropy.io.fits.HDUList` or image HDU
        What to read; data of files is read without being kept in the HDU.
    argument : str
        Name used in errors.
    unit : `~astropy.units.UnitBase` or None
        Unit where the header has none that can be understood.
    hdu : int, str, tuple or None
        Extension; ``(extension, channel)`` takes one plane of a three-dimensional
        extension, by number or by the name that a header card ``C01``, ``C02``...
        gives it. None: the first image with an accepted number of dimensions.
    ndim : tuple of int
        Accepted numbers of dimensions.
    channels : callable, optional
        As in `~galml.core.geometry.choose_channels`; other channels of a cube are not
        read.

    Returns
    -------
    `~astropy.nddata.NDData`
        Its ``meta`` joins the primary header and that of the extension.

    Raises
    ------
    galml.core.InputError
        When there is no such extension or image.
    """
    hdus = source if isinstance(source, fits.HDUList) else None
    name, channel = hdu if isinstance(hdu, tuple) else (hdu, None)
    image = source if hdus is None else find_hdu(hdus, name, channel, ndim, argument)
    header = image.header
    with readable(argument, f"HDU {image.name!r}"):
        if not image.shape:
            raise InputError(argument, "an HDU without data", "an image")
        wcs, part = header_wcs(header, hdus), ...
        if channel is not None:
            part = _channel(header, channel, image.shape)
        elif channels is not None:
            found = choose_channels(wcs, image.shape, min(ndim), channels, argument)
            part, wcs, _ = found
        values = _pixels(image, part)
        unit = header_unit(header, unit, argument)
        if hdus is None:
            primary, uncertainty, mask = {}, None, None
        else:
            primary = hdus[0].header
            errors, quality, uncertainty = find_partners(hdus, image, unit, argument)
            if errors is not None:
                uncertainty.array = _pixels(errors, _part_of(errors, image, part))
            mask = None
            if quality is not None:
                mask = _pixels(quality, _part_of(quality, image, part)) != 0
        meta = {
            key: value
            for cards in (primary, header)
            for key, value in cards.items()
            if key not in ("", "COMMENT", "HISTORY")
        }
    return NDData(
        values, unit=unit, uncertainty=uncertainty, mask=mask, wcs=wcs, meta=meta
    )


def find_hdu(hdus, name, channel, ndim, argument):
    """Pick the HDU asked for, or the first that fits."""
    if name is not None:
        try:
            image = hdus[name]
        except (KeyError, IndexError) as error:
            known = ", ".join(
                f"{i} {entry.name}".strip() for i, entry in enumerate(hdus)
            )
            raise InputError("hdu", repr(name), f"one of: {known}") from error
        if isinstance(image, IMAGE_HDUS):
            return _checked(image, argument)
        raise InputError("hdu", f"{name!r}, a table", "an image")
    extra = 0 if channel is None else 1
    for image in hdus:
        if isinstance(image, IMAGE_HDUS):
            most = len(image.shape)
            least = sum(length > 1 for length in image.shape)
            if any(least <= n + extra <= most for n in ndim):
                return _checked(image, argument)
    wanted = " or ".join(f"{n}-D" for n in ndim)
    raise InputError(argument, "a FITS file without such an image", f"a {wanted} image")


def _checked(image, argument):
    """Give an image of which no tile is too large to be unpacked."""
    if isinstance(image, fits.CompImageHDU):
        check_size(image.tile_shape, argument)
    return image


def _pixels(image, part):
    """Read pixels; those of a file without caching or rescaling its HDU."""
    if "data" in vars(image):
        return image.data[part]
    # The header is enough to know how many there are.
    check_size(np.broadcast_to(0, image.shape)[part].shape, "data")
    return image.section[part]


def _channel(header, channel, shape):
    """Find the plane of a three-dimensional extension by number or name."""
    names = {
        header[key]: int(key[1:]) - 1 for key in header if re.fullmatch(r"C\d+", key)
    }
    index = names.get(channel, channel)
    if len(shape) == 3 and isinstance(index, int) and 0 <= index < shape[0]:
        return index
    planes = shape[0] if len(shape) == 3 else 0
    known = f" or one of {', '.join(names)}" if names else ""
    raise InputError("hdu", f"channel {channel!r}", f"a channel below {planes}{known}")


def header_unit(header, default, argument):
    """Read BUNIT; the default where it is missing or cannot be understood."""
    text = str(header.get("BUNIT", "")).strip()
    if not text:
        return default
    try:
        return parse_unit(text, argument)
    except InputUnitError:
        if default is None:
            raise
        return default


def find_partners(hdus, image, unit, argument):
    """Find the uncertainty and the mask that belong to an image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.
    image : image HDU
        One of its images.
    unit : `~astropy.units.UnitBase` or None
        Of that image.
    argument : str
        Name used in errors.

    Returns
    -------
    errors, quality : image HDU or None
        Where they are.
    uncertainty : `~astropy.nddata.NDUncertainty` or None
        Of the kind and with the unit of the errors, and without their numbers.

    Raises
    ------
    galml.core.InputTypeError
        When there are errors of which nobody knows what they are.
    """
    header = image.header
    error_name, kind, mask_name = _SIBLINGS.get(image.name, (None, None, None))
    if image is hdus[0] and error_name is None:
        # CCDData files name their extensions so, and their primary image does not say.
        error_name, mask_name = "UNCERT", "MASK"
    # Siblings of one of several images have its version.
    names = (
        header.get("ERRDATA", (error_name, image.ver)),
        header.get("QUALDATA", (mask_name, image.ver)),
    )
    errors, quality = (hdus[name] if name in hdus else None for name in names)
    if image.name in _SIBLINGS:
        # Their headers do not say that they belong to it: their shapes must.
        if "ERRDATA" not in header and getattr(errors, "shape", 0) != image.shape:
            errors = None
        if "QUALDATA" not in header and getattr(quality, "shape", 0) != image.shape:
            quality = None
    if errors is None:
        return None, quality, None
    kind = errors.header.get("HDUCLAS3", errors.header.get("UTYPE", kind))
    if kind not in UNCERTAINTIES:
        raise InputTypeError(
            argument,
            f"an uncertainty {errors.name!r} of kind {kind!r}",
            f"HDUCLAS3 or UTYPE to be one of {', '.join(UNCERTAINTIES)}",
        )
    kind = UNCERTAINTIES[kind]
    # A partner that only inherited the header of its image has the image's unit:
    # what it should be follows from its kind.
    own = header_unit(errors.header, u.dimensionless_unscaled, argument)
    std = kind([1.0], unit=own).represent_as(StdDevUncertainty)
    if unit is None or not std.unit.is_equivalent(unit):
        own = None
    return errors, quality, kind([1.0], unit=own)


def _part_of(partner, image, part):
    """Part of a partner: one that is the same for all planes has no planes."""
    return part if len(partner.shape) == len(image.shape) else ...


def header_wcs(header, hdus):
    """Read the WCS of a header, without the remarks of its repair.

    Units in other spellings are understood. An AIPS velocity axis without ``VELREF``
    tells no convention; velocities that are not evenly spaced need no rest value, which
    cancels from them; and a linear axis with ``DC-FLAG`` 1 holds logarithms of the
    wavelength; `~astropy.wcs.WCS` would take the one for optical velocities and the
    other for wavelengths.
    """
    return _QuietWCS(_repaired(header), fobj=hdus)


class _QuietWCS(WCS):
    """A WCS that is repaired without a word.

    Filters of warnings belong to the process, not to the thread that changes them.
    """

    def fix(self, translate_units="", naxis=None):
        self._fix_scamp()
        self.wcs.fix(translate_units, naxis)


def _repaired(header):
    """Copy a header with cards that astropy can read; itself where it can already."""
    changes = {}
    # wcslib remarks upon the former name of a card, and upon dates that are numbers.
    odd = [key for key in _DATES if not isinstance(header.get(key, ""), str)]
    if "RADECSYS" in header:
        changes["RADESYS"] = header.get("RADESYS", header["RADECSYS"])
        odd.append("RADECSYS")
    for axis in range(1, 10):
        if not any(f"{card}{axis}" in header for card in ("CTYPE", "CUNIT", "CRVAL")):
            continue
        kind = str(header.get(f"CTYPE{axis}", "")).strip()
        unit = str(header.get(f"CUNIT{axis}", "")).strip()
        for card in (f"CRVAL{axis}", f"CRPIX{axis}", f"CDELT{axis}"):
            if isinstance(header.get(card), str):
                changes[card] = _number(header[card], card)
        parsed = u.Unit(unit, format="fits", parse_strict="silent")
        if unit == "A":
            # No axis is in amperes.
            changes[f"CUNIT{axis}"] = "Angstrom"
        elif isinstance(parsed, u.UnrecognizedUnit):
            try:
                changes[f"CUNIT{axis}"] = parse_unit(unit, "data").to_string("fits")
            except (InputUnitError, ValueError):
                continue
        if _AIPS_VELOCITY.fullmatch(kind) and not header.get("VELREF"):
            changes[f"CTYPE{axis}"] = "VELOCITY"
            if not unit:
                changes[f"CUNIT{axis}"] = "m/s"
        elif _VELOCITY.fullmatch(kind) and not unit:
            changes[f"CUNIT{axis}"] = "m/s"
        elif _UNEVEN_VELOCITY.fullmatch(kind) and not any(
            header.get(card) for card in ("RESTFRQ", "RESTFREQ", "RESTWAV")
        ):
            changes["RESTFRQ"] = ANY_REST
        elif kind in ("", "LINEAR") and header.get("DC-FLAG") == 1:
            changes |= _logarithmic(header, axis)
            if not unit:
                changes[f"CUNIT{axis}"] = "Angstrom"
    if not changes and not odd:
        return header
    header = header.copy()
    header.update(changes)
    for key in odd:
        header.remove(key)
    return header


def _number(text, card):
    """Read a number that stands in quotes."""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{card} = {text!r} is no number") from error


def _logarithmic(header, axis):
    """Cards of an axis whose values are decimal logarithms of the wavelength."""
    start = 10.0 ** float(header.get(f"CRVAL{axis}", 0.0))
    cards = {f"CTYPE{axis}": "WAVE-LOG", f"CRVAL{axis}": start}
    matrix = f"CD{axis}_{axis}"
    step = matrix if matrix in header else f"CDELT{axis}"
    size = float(header.get(step, 1.0))
    return cards | {step: size * start * math.log(10.0)}
