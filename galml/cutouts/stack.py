# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of many galaxies, of one shape and in the same bands."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.cutouts import stack_parts as parts

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
    """Images of n galaxies in the same bands, with all that is known about them.

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
        self.data = parts.check_images(data)
        n, n_bands = shape = self.data.shape[:2]
        self.bands = parts.check_bands(bands, n_bands)
        self.wcs = parts.check_wcs(wcs, n)
        self.pixel_scale = parts.check_angles("pixel_scale", pixel_scale, (n,))
        self.uncertainty = parts.check_std(uncertainty, self.data)
        self.mask = parts.check_array("mask", mask, self.data.shape, bool)
        self.psf = parts.check_psf(psf, shape)
        self.psf_fwhm = None
        if psf_fwhm is not None:
            self.psf_fwhm = parts.check_angles("psf_fwhm", psf_fwhm, shape)
        self.catalog = parts.check_catalog(catalog, n)
        flags = np.zeros(n, np.int32) if flags is None else flags
        self.flags = parts.check_array("flags", flags, (n,), np.int32)
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
            item = parts.check_index(item, len(self))
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
        """Put stacks of the same bands and shape one after the other.

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
            **{key: parts.join(stacks, key) for key in keys},
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
        OSError
            When the file is there and ``overwrite`` is false.
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
        OSError
            When the file is not there or is no FITS file.
        galml.core.InputError
            When the file holds something else.
        """
        from galml.cutouts.stack_files import read_stack

        return read_stack(path)

    def plot(self, *, bands=None, columns=None, figure=None, **options):
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
        **options
            For `galml.cutouts.lupton_rgb`.

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

        return plot_stack(self, bands=bands, columns=columns, figure=figure, **options)

    def _replace(self, item, keys, **other):
        """Make a stack of some items of these parts, and of other parts as given."""
        new = vars(self) | other
        for key in keys:
            if new[key] is not None:
                new[key] = new[key][item]
        return type(self)(**new)

    def _ccd(self, i):
        """Give one galaxy with its bands as one image cube."""
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
            wcs=parts.add_band_axis(self.wcs[i], self.data.shape[1:]),
            uncertainty=None if std is None else StdDevUncertainty(std[i]),
            mask=None if self.mask is None else self.mask[i],
            meta={key: value for key, value in meta.items() if value is not None},
        )

    def _name(self, i):
        """Give the name of one galaxy, None where it has none."""
        for key in _NAMES:
            if self.catalog is not None and key in self.catalog.colnames:
                name = self.catalog[key][i]
                return None if np.ma.is_masked(name) else str(name).strip() or None
        return None

    def _measures(self, i):
        """Give size and shape of one galaxy, as far as the catalog knows them."""
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
