# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of many galaxies, of one shape and in the same bands."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, NDUncertainty, StdDevUncertainty
from astropy.table import QTable, Table, TableMergeError, vstack
from astropy.wcs import WCS

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = ["CutoutStack"]

# Columns of the catalog that name its rows.
_NAMES = ("name", "id")
# What a catalog may know about a galaxy: key of the image, column and unit.
_MEASURES = (
    ("R_EFF", "r_eff", u.arcsec),
    ("ELLIP", "ellipticity", u.one),
    ("PA", "position_angle", u.deg),
)
# Parts with axes of galaxies and bands, that need not be there.
_PER_BAND = ("uncertainty", "mask", "psf", "psf_fwhm")


class CutoutStack:
    """Images of n galaxies in the same bands, with WCS, errors, PSF and catalog.

    ``stack[i]`` is one galaxy as a `~astropy.nddata.CCDData`; a slice, an array of
    indices or of booleans gives a smaller stack. Slices share memory with the stack,
    as those of an array do. Iteration yields one CCDData after the other.

    Parameters
    ----------
    data : `~astropy.units.Quantity`
        Shape (n, n_bands, ny, nx): flux per pixel, or surface brightness. Integers
        become float64.
    bands : sequence of str
        Names of the bands, all different, without commas.
    wcs : sequence of `~astropy.wcs.WCS` or None, optional
        Celestial WCS of each image, two-dimensional; None where there is none.
    pixel_scale : `~astropy.units.Quantity`
        Side of a pixel as an angle: one for all, or shape (n,); NaN where it is
        unknown.
    uncertainty : array_like, `~astropy.units.Quantity` or NDUncertainty, optional
        Standard deviation in the shape of ``data``; in its unit unless it has one.
        Other kinds of uncertainty are converted.
    mask : array_like of bool, optional
        In the shape of ``data``; True where there is no usable value.
    psf : array_like, optional
        Shape (n, n_bands, k, k): images of the PSF at the pixel scale.
    psf_fwhm : `~astropy.units.Quantity`, optional
        Full width at half maximum as an angle, of a shape that broadcasts to
        (n, n_bands); NaN where it is unknown.
    catalog : `~astropy.table.Table`, optional
        One row for each galaxy. Columns ``name`` or ``id``, ``r_eff`` (semi-major, an
        angle), ``ellipticity`` and ``position_angle`` find their way into the
        metadata of each image.
    flags : array_like of int, optional
        Shape (n,): bits of `galml.core.Flag`; 0 by default.
    meta : mapping, optional
        Metadata of the whole: numbers, strings, booleans and None under string keys.

    Attributes
    ----------
    data : `~astropy.units.Quantity`
        Float32 or float64 in native byte order.
    bands : tuple of str
    wcs : list of `~astropy.wcs.WCS` or None
    pixel_scale : `~astropy.units.Quantity`
        Shape (n,), in arcsec.
    uncertainty : `~numpy.ndarray` or None
        Standard deviation in the unit of ``data``.
    mask : `~numpy.ndarray` of bool or None
    psf : `~numpy.ndarray` or None
    psf_fwhm : `~astropy.units.Quantity` or None
        Shape (n, n_bands), in arcsec.
    catalog : `~astropy.table.QTable` or None
    flags : `~numpy.ndarray` of int32
    meta : dict

    Raises
    ------
    galml.core.InputError
        When shapes do not fit to each other, or bands are not all different.
    galml.core.InputTypeError
        For objects of a kind that is not understood.
    galml.core.InputUnitError
        For units that are missing or wrong.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from galml.cutouts import CutoutStack
    >>> images = np.ones((5, 3, 32, 32)) * u.nJy
    >>> stack = CutoutStack(images, bands=("g", "r", "i"), pixel_scale=0.4 * u.arcsec)
    >>> stack
    <CutoutStack: 5 x (g, r, i) x 32 x 32, nJy, 0.4 arcsec>
    >>> stack[1:3].band("r").data.shape
    (2, 1, 32, 32)
    >>> stack[0].meta["BANDS"]
    'g,r,i'
    """

    def __init__(
        self,
        data,
        *,
        bands,
        wcs=None,
        pixel_scale,
        uncertainty=None,
        mask=None,
        psf=None,
        psf_fwhm=None,
        catalog=None,
        flags=None,
        meta=None,
    ):
        self.data = _check_images(data)
        n, n_bands = shape = self.data.shape[:2]
        self.bands = _check_bands(bands, n_bands)
        self.wcs = _check_wcs(wcs, n)
        self.pixel_scale = _check_angles("pixel_scale", pixel_scale, (n,))
        self.uncertainty = _check_std(uncertainty, self.data)
        self.mask = _check_array("mask", mask, self.data.shape, bool)
        self.psf = _check_psf(psf, shape)
        self.psf_fwhm = None
        if psf_fwhm is not None:
            self.psf_fwhm = _check_angles("psf_fwhm", psf_fwhm, shape)
        self.catalog = _check_catalog(catalog, n)
        flags = np.zeros(n, np.int32) if flags is None else flags
        self.flags = _check_array("flags", flags, (n,), np.int32)
        self.meta = dict(meta or {})

    @property
    def unit(self):
        """`~astropy.units.UnitBase`: unit of the data."""
        return self.data.unit

    @property
    def names(self):
        """`list` of `str` or `None`: names of the galaxies after the catalog."""
        return [self._name(i) for i in range(len(self))]

    def __len__(self):
        return len(self.data)

    def __repr__(self):
        bands, (ny, nx) = ", ".join(self.bands), self.data.shape[2:]
        known = self.pixel_scale.value[np.isfinite(self.pixel_scale.value)]
        scales = (
            [f"{scale:g}" for scale in np.unique(known)[[0, -1]]] if len(known) else "?"
        )
        scale = " to ".join(dict.fromkeys(scales))
        return (
            f"<CutoutStack: {len(self)} x ({bands}) x {ny} x {nx}, "
            f"{str(self.unit) or 'dimensionless'}, {scale} arcsec>"
        )

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, item):
        if isinstance(item, int | np.integer) and not isinstance(item, bool):
            if not -len(self) <= item < len(self):
                raise IndexError(f"galaxy {item} of a stack of {len(self)}")
            return self._ccd(int(item) % len(self))
        if not isinstance(item, slice):
            item = _check_index(item, len(self))
        keys = ("data", "pixel_scale", "flags", "catalog", *_PER_BAND)
        places = np.arange(len(self))[item]
        return self._replace(item, keys, wcs=[self.wcs[i] for i in places])

    def band(self, *names):
        """Select bands.

        Parameters
        ----------
        *names : str
            In the order wanted.

        Returns
        -------
        `CutoutStack`
            With these bands only.

        Raises
        ------
        galml.core.InputError
            For a band that is not there, or one that is named twice.
        """
        places = list(self.band_indices(names))
        every = slice(None)
        return self._replace((every, places), ("data", *_PER_BAND), bands=names)

    def band_indices(self, names):
        """Find bands along the second axis of the data.

        Parameters
        ----------
        names : sequence of str
            Names of bands.

        Returns
        -------
        tuple of int
            Their places.

        Raises
        ------
        galml.core.InputError
            For a band that is not there.
        """
        missing = [name for name in names if name not in self.bands]
        if missing or not names:
            expected = f"bands out of {', '.join(self.bands)}"
            raise InputError("bands", f"{missing}" if missing else "none", expected)
        return tuple(self.bands.index(name) for name in names)

    @classmethod
    def concatenate(cls, stacks):
        """Concatenate stacks of the same bands and shape.

        Parameters
        ----------
        stacks : iterable of `CutoutStack`
            At least one. Units are converted to that of the first, whose metadata are
            kept. Uncertainty, PSF and catalog are there in all or in none; without
            a mask, nothing is masked.

        Returns
        -------
        `CutoutStack`
            A copy of all.

        Raises
        ------
        galml.core.InputError
            For stacks that do not fit to each other.
        galml.core.InputUnitError
            For units that cannot be converted into each other.
        """
        stacks = list(stacks)
        if not stacks or not all(isinstance(stack, cls) for stack in stacks):
            kinds = sorted({type(stack).__name__ for stack in stacks})
            raise InputTypeError("stacks", f"{kinds}", "one CutoutStack or more")
        first = stacks[0]
        for stack in stacks[1:]:
            if stack.bands != first.bands:
                raise InputError("stacks", f"bands {stack.bands}", f"{first.bands}")
            if stack.data.shape[2:] != first.data.shape[2:]:
                got, expected = stack.data.shape[2:], first.data.shape[2:]
                raise InputError("stacks", f"images of {got}", f"{expected} pixels")
            if not stack.unit.is_equivalent(first.unit):
                raise InputUnitError("stacks", f"{stack.unit}", f"{first.unit}")
        data = [stack.data.to(first.unit, copy=False) for stack in stacks]
        keys = ("pixel_scale", "flags", "catalog", *_PER_BAND)
        return cls(
            np.concatenate(data),
            bands=first.bands,
            wcs=[wcs for stack in stacks for wcs in stack.wcs],
            meta=first.meta,
            **{key: _join(stacks, key) for key in keys},
        )

    def write(self, path, *, overwrite=False):
        """Write all into one FITS file.

        Parameters
        ----------
        path : str, path or file object
            Where to.
        overwrite : bool
            Whether a file that is there already may be replaced.

        Raises
        ------
        galml.core.FileError
            When the file is there and ``overwrite`` is false, or cannot be written.
        galml.core.InputError
            For metadata or a WCS that cannot be written.

        Notes
        -----
        Everything comes back from `read` bit by bit; coefficients of a WCS other than
        reference point, scale and rotation to 14 digits.
        """
        from galml.cutouts.stack_files import write_stack

        write_stack(self, path, overwrite=overwrite)

    @classmethod
    def read(cls, path):
        """Read what `write` has written.

        Parameters
        ----------
        path : str, path or file object
            The FITS file.

        Returns
        -------
        `CutoutStack`
            All of it, in memory.

        Raises
        ------
        galml.core.FileError
            When the file is not there or is no FITS file.
        galml.core.InputError
            When the file is damaged, or holds something else.
        """
        from galml.cutouts.stack_files import read_stack

        return read_stack(cls, path)

    def plot(
        self,
        *,
        bands=None,
        columns=None,
        figure=None,
        scales=(0.63, 0.73, 1.0),
        minimum=0.0,
        stretch=None,
        Q=8,
        fill=0.0,
    ):
        """Draw all galaxies in color.

        Parameters
        ----------
        bands : sequence of str, optional
            Three for red, green and blue, or one in gray; by default the last, the
            middle and the first.
        columns : int, optional
            Galaxies in a row; by default about as many as there are rows.
        figure : `~matplotlib.figure.Figure`, optional
            An empty figure to draw into; a new one by default.
        scales : sequence of float, optional
            Factors for red, green and blue, as for `galml.cutouts.lupton_rgb`; by
            default a balance that shows galaxies of all types in their colors.
        minimum, stretch, Q, fill
            As for `galml.cutouts.lupton_rgb`.

        Returns
        -------
        `~matplotlib.figure.Figure`
            One panel for each galaxy, with its name, a scale bar and, where north is
            not up, the directions of north and east.

        Raises
        ------
        galml.core.InputError
            For a band that is not there, and for an empty stack.
        """
        from galml.cutouts.plots import plot_stack

        return plot_stack(
            self,
            bands=bands,
            columns=columns,
            figure=figure,
            scales=scales,
            minimum=minimum,
            stretch=stretch,
            Q=Q,
            fill=fill,
        )

    def _replace(self, item, keys, **other):
        """Make a stack of the items of these attributes, and of others as given."""
        new = vars(self) | other
        for key in keys:
            if new[key] is not None:
                new[key] = new[key][item]
        return type(self)(**new)

    def _ccd(self, i):
        """Make the image cube of one galaxy, with its bands."""
        meta = self.meta | {"OBJECT": self._name(i)} | self._measures(i)
        if self.psf_fwhm is not None:
            widths = self.psf_fwhm[i].value.tolist()
            meta["PSFFWHM"] = ",".join(str(width) for width in widths)
        meta |= {"BANDS": ",".join(self.bands), "FLAGS": int(self.flags[i])}
        if np.isfinite(self.pixel_scale[i]):
            meta["PIXSCALE"] = float(self.pixel_scale[i].value)
        std = self.uncertainty
        return CCDData(
            self.data[i],
            wcs=_add_band_axis(self.wcs[i], self.data.shape[1:]),
            uncertainty=None if std is None else StdDevUncertainty(std[i]),
            mask=None if self.mask is None else self.mask[i],
            meta={key: value for key, value in meta.items() if value is not None},
        )

    def _name(self, i):
        """Look up the name of one galaxy; None where it has none."""
        for key in _NAMES:
            if self.catalog is not None and key in self.catalog.colnames:
                name = self.catalog[key][i]
                return None if np.ma.is_masked(name) else str(name).strip() or None
        return None

    def _measures(self, i):
        """Look up size and shape of one galaxy, as far as the catalog has them."""
        found = {}
        for key, name, unit in _MEASURES:
            if self.catalog is None or name not in self.catalog.colnames:
                continue
            value = self.catalog[name][i]
            if np.any(getattr(value, "mask", False)):
                continue
            value = u.Quantity(value)
            if value.unit.is_equivalent(unit) and np.isfinite(value):
                found[key] = float(value.to_value(unit))
        return found


def _check_images(data):
    """Check images; return a Quantity of native floats with four axes."""
    if not isinstance(data, u.Quantity):
        got = f"an object of type {type(data).__name__}"
        raise InputTypeError("data", got, "a Quantity")
    if data.ndim != 4 or 0 in data.shape[1:]:
        expected = "(galaxies, bands, ny, nx)"
        raise InputError("data", f"an array of shape {data.shape}", expected)
    return data.astype(_float_type("data", data.dtype), copy=False)


def _check_bands(bands, n_bands):
    """Check the names of the bands; return a tuple."""
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


def _check_wcs(wcs, n):
    """Check that there is one celestial WCS, or None, for each image."""
    wcs = [None] * n if wcs is None else list(wcs)
    if len(wcs) != n:
        raise InputError("wcs", f"{len(wcs)} of them", f"{n}, one for each image")
    for item in wcs:
        if item is not None and not isinstance(item, WCS):
            raise InputTypeError("wcs", f"a {type(item).__name__}", "WCS or None")
        if item is not None and (item.naxis != 2 or not item.has_celestial):
            raise InputError("wcs", f"axes {list(item.wcs.ctype)}", "two on the sky")
    return wcs


def _check_angles(argument, angles, shape):
    """Check angles; return them in arcsec, broadcast to a shape."""
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


def _check_std(uncertainty, data):
    """Convert an uncertainty to standard deviations in the unit of the data."""
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
    return _check_array("uncertainty", uncertainty, data.shape, kind)


def _check_array(argument, values, shape, kind):
    """Check kind and shape of an array; None stays None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(argument, f"shape {array.shape}", f"{shape}")
    allowed = {"b": "b", "i": "iu", "f": "iuf"}[np.dtype(kind).kind]
    if array.dtype.kind not in allowed and array.size:
        raise InputTypeError(argument, f"values of {array.dtype}", f"{np.dtype(kind)}")
    return array.astype(kind, copy=False)


def _check_psf(psf, shape):
    """Check that there is one PSF image for each image and band."""
    if psf is None:
        return None
    psf = np.asarray(psf)
    if psf.ndim != 4 or psf.shape[:2] != shape or 0 in psf.shape[2:]:
        got, expected = f"shape {psf.shape}", f"({shape[0]}, {shape[1]}, k, k)"
        raise InputError("psf", got, expected)
    return psf.astype(_float_type("psf", psf.dtype), copy=False)


def _check_catalog(catalog, n):
    """Check that a catalog has n rows; return a QTable."""
    if catalog is None:
        return None
    if not isinstance(catalog, Table):
        got = f"an object of type {type(catalog).__name__}"
        raise InputTypeError("catalog", got, "a Table")
    if len(catalog) != n:
        raise InputError("catalog", f"{len(catalog)} rows", f"{n}, one for each image")
    return QTable(catalog, copy=False)


def _check_index(item, n):
    """Check indices or booleans that select images; return an array."""
    index = np.asarray(item)
    if index.size == 0 and index.ndim == 1:
        return index.astype(int)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise InputTypeError("index", f"{item!r}", "an integer, slice or 1-D array")
    if index.dtype.kind == "b" and len(index) != n:
        raise InputError("index", f"{len(index)} booleans", f"{n}, one for each image")
    return index


def _add_band_axis(wcs, shape):
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


def _join(stacks, key):
    """Concatenate one attribute of several stacks; None where none has it."""
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
