# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Large images, of which only small windows are read."""

import copy
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from astropy.wcs.wcsapi import (
    BaseHighLevelWCS,
    BaseLowLevelWCS,
    HighLevelWCSWrapper,
)
from astropy.wcs.wcsapi.wrappers import BaseWCSWrapper

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import (
    IMAGE_HDUS,
    find_hdu,
    find_partners,
    header_unit,
    header_wcs,
    is_packed,
    open_fits,
    parse_unit,
    readable,
)
from galml.core.geometry import arrange, celestial, usable_wcs
from galml.core.inputs import as_nddata
from galml.cutouts import allsky

__all__ = ["Band", "OpenFiles", "Tile", "is_per_pixel", "open_image", "open_images"]

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

# Bit DO_NOT_USE of the DQ extension of JWST.
_JWST_BAD = 1
# Points along each side at which the outline of an image is followed on the sky, and
# what is added to the circle around it (rad).
_OUTLINE, _SLACK = 9, 1e-4
# Steps at most of the inversion of a WCS, and its precision (pixels).
_NEWTON_STEPS, _CONVERGED = 20, 1e-7
_WCS_TYPES = (WCS, BaseLowLevelWCS, BaseHighLevelWCS, fits.Header)


class OpenFiles:
    """FITS files kept open between reads, a few at a time.

    A context manager; at its end all files are closed.

    Parameters
    ----------
    limit : int, optional
        Files open at once: beyond it, the one unused for longest is closed.
    """

    def __init__(self, limit=16):
        self.limit = limit
        self._open = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        while self._open:
            self._open.popitem()[1].close()

    def open(self, path):
        """Open a file, or take the one that is open.

        Parameters
        ----------
        path : str
            Of a FITS file.

        Returns
        -------
        `~astropy.io.fits.HDUList`
            Valid until the next call.
        """
        hdus = self._open.pop(path, None)
        if hdus is None:
            if len(self._open) >= self.limit:
                self._open.pop(next(iter(self._open))).close()
            # Reading rows when they are wanted leaves no mapped pages behind.
            hdus = open_fits(path, "images", memmap=False)
        self._open[path] = hdus
        return hdus


@dataclass
class Tile:
    """One image of a band, read window by window.

    Attributes
    ----------
    band : str
        Name of the band.
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
    mask_bits : int or None
        Bits of the mask that make a pixel unusable; None when any value does.
    source : object
        The image as it was given.
    factor : float
        Turns values into the unit wanted.
    std_factor : float
        Turns standard deviations into the unit wanted.
    problems : set of str
        Why windows could not be read; shared by copies.
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
    mask_bits: int | None = None
    source: object = None
    factor: float = 1.0
    std_factor: float = 1.0
    problems: set = field(default_factory=set)

    def convert_to(self, unit):
        """Have all windows read in another unit.

        Parameters
        ----------
        unit : `~astropy.units.UnitBase`
            Unit of the first image.

        Raises
        ------
        galml.core.InputUnitError
            When the units cannot be converted into each other.
        """
        self.factor = allsky.unit_factor(self.unit, unit, self.band)
        self.std_factor *= self.factor

    @cached_property
    def circle(self):
        """Center (unit vector) and radius (rad) of a circle around the image."""
        ny, nx = self.shape
        x, y = (np.linspace(-0.5, n - 0.5, _OUTLINE) for n in (nx, ny))
        low, high = np.full((2, _OUTLINE), -0.5)
        x = np.concatenate([[(nx - 1) / 2], x, x, low, high + nx])
        y = np.concatenate([[(ny - 1) / 2], low, high + ny, y, y])
        with np.errstate(invalid="ignore"):
            sky = self.wcs.pixel_to_world(x, y).icrs
        points = sky.cartesian.xyz.value
        radius = np.arccos(np.clip(points[:, 0] @ points, -1.0, 1.0)).max()
        # Of maps that reach around the sky, the outline says nothing.
        if not radius < 1.0:
            radius = np.pi
        return points[:, 0], radius + _SLACK

    def near(self, points, reach):
        """Find positions from which the image may be within reach.

        Parameters
        ----------
        points : `~numpy.ndarray`
            Shape (n, 3): unit vectors of ICRS positions.
        reach : `~numpy.ndarray`
            Shape (n,), in rad.

        Returns
        -------
        `~numpy.ndarray` of int
            Which of them.
        """
        center, radius = self.circle
        if radius > np.pi:
            return np.arange(len(points))
        distance = np.arccos(np.clip(points @ center, -1.0, 1.0))
        return np.flatnonzero(distance < radius + reach)

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
            mask = _cut(self.mask, rows, columns)
            if self.mask_bits is not None:
                mask = mask & mask.dtype.type(self.mask_bits)
            clear = ~mask.astype(bool)
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
        if 0 < abs(peak * self.factor) < np.finfo(values.dtype).tiny:
            # In this precision nothing would be left of it.
            good[inside] = False
        with np.errstate(over="ignore"):
            values[inside] = pixels if self.factor == 1.0 else pixels * self.factor
        return nonfinite, float(peak)


@dataclass
class Band:
    """All images of one band.

    Attributes
    ----------
    name : str
        Name of the band.
    tiles : list of Tile, or of one `~galml.cutouts.allsky.HealpixMap`
        At least one.
    """

    name: str
    tiles: list = field(default_factory=list)

    @property
    def has_uncertainty(self):
        """Whether any of the images has an uncertainty."""
        return any(tile.uncertainty is not None for tile in self.tiles)

    @property
    def is_healpix(self):
        """Whether this is a HEALPix map."""
        return isinstance(self.tiles[0], allsky.HealpixMap)


def open_images(images, files, *, psf=None, unit=None, hdu=None):
    """Open the images of one band or of several.

    Parameters
    ----------
    images : object, mapping of str to object, or sequence of objects
        As for `galml.cutouts.extract_cutouts`.
    files : OpenFiles
        What closes the files in the end.
    psf : object or mapping, optional
        PSF of all images, or of each band, where a list has one for each image; by
        default that of the NDData.
    unit : `~astropy.units.UnitBase` or str, optional
        Of images that have none.
    hdu : int or str, optional
        Extension of FITS files.

    Returns
    -------
    list of Band
        All in the unit of the first image.

    Raises
    ------
    galml.core.InputError
        For no images, images of which some only name a band, or an image without a
        celestial WCS.
    galml.core.InputTypeError
        For an image of another kind.
    galml.core.InputUnitError
        For units that are missing or differ in kind.
    """
    unit = None if unit is None else parse_unit(unit, "unit")
    bands = {}
    if isinstance(images, Mapping):
        for name, image in images.items():
            name = str(name).strip()
            if name in bands:
                raise InputError("images", f"the band {name!r} twice", "each once")
            members = image if _is_list(image) else [image]
            bands[name] = [_open(one, files, unit, hdu, name) for one in members]
    else:
        opened = [
            _open(one, files, unit, hdu, None)
            for one in (images if _is_list(images) else [images])
        ]
        names = [_band_name(image) for image in opened]
        if None in names and len(set(names)) > 1:
            missing = names.count(None)
            raise InputError(
                "images",
                f"{missing} of {len(names)} without BAND or FILTER",
                "a band for all, or a dict of bands",
            )
        for name, image in zip(names, opened, strict=True):
            bands.setdefault(name or "image", []).append(image)
    if not bands or not all(bands.values()):
        raise InputError("images", f"no image of {list(bands)}", "at least one")
    bands = [Band(name, tiles) for name, tiles in bands.items()]
    _check_maps(bands)
    _assign_psfs(bands, psf)
    for band in bands:
        for tile in band.tiles:
            tile.band = band.name
            tile.convert_to(bands[0].tiles[0].unit)
    return bands


def open_image(image, files, *, unit=None, hdu=None, argument="images"):
    """Open an image as an object like NDData without reading its pixels.

    Parameters
    ----------
    image : object
        One image as `galml.cutouts.extract_cutouts` takes it, or anything else that is
        in memory.
    files : OpenFiles
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
        if allsky.is_hips(image):
            return allsky.open_hips(image, unit, argument)
        path = str(image)
        with readable(argument, path):
            return _Lazy(files.open(path), unit, hdu, argument, files, path)
    if isinstance(image, (fits.HDUList, *IMAGE_HDUS)):
        with readable(argument, "an HDU"):
            return _Lazy(image, unit, hdu, argument)
    if _is_pair(image):
        with readable(argument, "a header"):
            return _from_pair(image, unit, argument)
    return as_nddata(image, argument, unit, hdu, (2,))


def check_sky(wcs, shape, argument):
    """Raise where a WCS does not lead from an image to the sky.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or other APE 14 WCS
        Celestial and two-dimensional.
    shape : tuple of int
        Of the image.
    argument : str
        Name used in errors.

    Raises
    ------
    galml.core.InputError
        Where it names no frame that is known.
    """
    with usable_wcs(argument):
        wcs.pixel_to_world(*((side - 1) / 2 for side in shape[:-3:-1])).icrs  # noqa: B018


def is_per_pixel(unit):
    """Whether values are flux in a pixel, rather than surface brightness.

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


def _is_list(images):
    """Whether these are several images."""
    if isinstance(images, fits.HDUList) or not isinstance(images, list | tuple):
        return False
    return not (_is_pair(images) or allsky.is_healpix_tuple(images))


def _is_pair(image):
    """Whether this is an array with its WCS or header, as reproject takes them."""
    return (
        isinstance(image, tuple)
        and len(image) == 2
        and np.ndim(image[0]) >= 2
        and isinstance(image[1], _WCS_TYPES)
    )


def _from_pair(image, unit, argument):
    """Make NDData of an array and its WCS or header."""
    array, wcs = image
    meta = {}
    if isinstance(wcs, fits.Header):
        meta, wcs = dict(wcs), header_wcs(wcs, None)
        unit = header_unit(meta, unit, argument)
    if isinstance(array, u.Quantity):
        array, unit = array.value, array.unit
    return NDData(array, unit=unit, wcs=wcs, meta=meta)


def _open(image, files, unit, hdu, name):
    """Open one image of a band."""
    if isinstance(image, Tile):
        # Its unit is to be changed, but not for others who hold it.
        return copy.copy(image)
    argument = "images" if name is None else f"images[{name!r}]"
    healpix = allsky.open_healpix(image, files, unit, hdu, argument)
    if healpix is not None:
        return healpix
    tile = _tile(open_image(image, files, unit=unit, hdu=hdu), unit, argument)
    tile.source = image
    return tile


def _band_name(image):
    """Read the band of an image from its header; None where it does not say."""
    found = next((image.meta[k] for k in ("BAND", "FILTER") if image.meta.get(k)), None)
    return None if found is None else str(found).strip()


def _check_maps(bands):
    """Check that maps of the sphere are alone in their bands."""
    for band in bands:
        maps = [isinstance(tile, allsky.HealpixMap) for tile in band.tiles]
        if any(maps) and len(maps) > 1:
            raise InputError(
                "images", f"a HEALPix map among images of {band.name!r}", "it alone"
            )


def _assign_psfs(bands, psf):
    """Assign the PSFs given for each image, each band, or all."""
    names = [band.name for band in bands]
    psfs = psf if isinstance(psf, Mapping) else dict.fromkeys(names, psf)
    psfs = {str(name).strip(): value for name, value in psfs.items()}
    if unknown := [name for name in psfs if name not in names]:
        raise InputError("psf", f"bands {unknown}", f"bands out of {names}")
    for band in bands:
        own = psfs.get(band.name)
        if not isinstance(own, list):
            own = [own] * len(band.tiles)
        if len(own) != len(band.tiles):
            raise InputError(
                "psf",
                f"{len(own)} for {len(band.tiles)} images of {band.name!r}",
                "one for each",
            )
        for tile, one in zip(band.tiles, own, strict=True):
            tile.psf = tile.psf if one is None else one


class _FilePixels:
    """Pixels of one HDU of a file, which is opened when they are wanted."""

    def __init__(self, files, path, index, shape):
        self.shape = shape
        self._files, self._path, self._index = files, path, index

    def __getitem__(self, key):
        with readable("images", self._path):
            hdu = self._files.open(self._path)[self._index]
            # What is compressed as a whole is read but from its beginning: once.
            return _window(hdu.data if is_packed(hdu) else _pixels(hdu), key)


class _Lazy:
    """An HDU with its partners in the shape of NDData, pixels still on disk."""

    psf = None

    def __init__(self, source, unit, hdu, argument, files=None, path=None):
        self._files, self._path = files, path
        hdus = source if isinstance(source, fits.HDUList) else [source]
        image = source
        if isinstance(source, fits.HDUList):
            image = find_hdu(source, hdu, None, (2,), argument)
        if not image.shape:
            raise InputError(argument, "an HDU without data", "an image")
        header = image.header
        self.data, self.shape = self._pixels(image, hdus), image.shape
        self.unit = header_unit(header, unit, argument)
        self.meta = {**hdus[0].header, **header}
        lookup = source if isinstance(source, fits.HDUList) else None
        self.wcs = header_wcs(header, lookup)
        self.uncertainty, self.mask, self.mask_bits = None, None, None
        self.needs = None
        if lookup is not None:
            self._add_partners(lookup, image, argument)
            if image.name == "SCI" and "ASDF" in lookup:
                self._add_jwst(lookup, image)

    def _pixels(self, image, hdus):
        """Take the pixels of an HDU without reading them."""
        if self._path is None:
            return _pixels(image)
        index = next(i for i, one in enumerate(hdus) if one is image)
        return _FilePixels(self._files, self._path, index, image.shape)

    def _add_partners(self, hdus, image, argument):
        """Find the uncertainty and the mask of an image, numbers still on disk."""
        errors, quality, uncertainty = find_partners(hdus, image, self.unit, argument)
        self.mask = None if quality is None else self._pixels(quality, hdus)
        self.uncertainty = uncertainty
        if errors is not None:
            self.uncertainty.array = self._pixels(errors, hdus)

    def _add_jwst(self, hdus, image):
        """Take quality and the generalized WCS of a JWST product."""
        if self.mask is None and "DQ" in hdus and hdus["DQ"].shape == image.shape:
            self.mask, self.mask_bits = self._pixels(hdus["DQ"], hdus), _JWST_BAD
        try:
            self.wcs = _read_asdf_wcs(hdus["ASDF"])
        except ImportError:
            # The WCS of the header approximates it, where there is one.
            self.needs = "galml[jwst]"


def _read_asdf_wcs(hdu):
    """Read the generalized WCS out of the ASDF extension of a FITS file."""
    import asdf
    import gwcs  # noqa: F401

    tree = io.BytesIO(hdu.data["ASDF_METADATA"].tobytes())
    # Schemas of the mission that are not installed are not needed.
    options = {"ignore_missing_extensions": True, "ignore_unrecognized_tag": True}
    options |= {"lazy_load": False, "memmap": False}
    with asdf.open(tree, **options) as metadata:
        return metadata["meta"]["wcs"]


def _pixels(image):
    """Take the pixels of an HDU without reading them."""
    return image.data if "data" in vars(image) else image.section


def _window(pixels, key):
    """Take a window; the last element of the key is that of the columns."""
    if isinstance(pixels, fits.Section):
        # Whole rows are one read. Parts of rows are a read for each, and all that
        # astropy does around it, which takes longer than the pixels left out.
        return pixels[key[:-1]][..., key[-1]]
    return pixels[key]


def _cut(pixels, rows, columns):
    """Cut a window out of an array with leading axes of length 1."""
    leading = (0,) * (len(pixels.shape) - 2)
    return np.asarray(_window(pixels, leading + (rows, columns)))


def _tile(data, unit, argument):
    """Check one image and take its parts."""
    meta = data.meta or {}
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
        expected = "a celestial WCS"
        if needs := getattr(data, "needs", None):
            expected = f"{needs} to be installed, for that of its ASDF extension"
        raise InputError(argument, "an image without celestial WCS", expected)
    check_sky(wcs, shape, argument)
    tile = Tile(
        band="image",
        shape=shape[-2:],
        unit=unit if data.unit is None else data.unit,
        wcs=_invertible(wcs, shape[-2:]),
        meta=meta,
        psf=getattr(data, "psf", None),
        pixels=data.data,
        uncertainty=None,
        kind=None,
        mask=_same_shape(data.mask, shape, argument, "a mask"),
        mask_bits=getattr(data, "mask_bits", None),
    )
    if data.uncertainty is not None:
        _add_uncertainty(tile, data.uncertainty, shape, argument)
    return tile


def _invertible(wcs, shape):
    """Give a generalized WCS exact pixels for all positions."""
    low = getattr(wcs, "low_level_wcs", wcs)
    if not hasattr(low, "pipeline"):
        return wcs
    if low.bounding_box is not None:
        # Cutouts that reach beyond the edge need to know where their pixels lie.
        low = copy.deepcopy(low)
        low.bounding_box = None
    return HighLevelWCSWrapper(_InvertedWCS(low, shape))


class _InvertedWCS(BaseWCSWrapper):
    """A celestial WCS whose inverse is as exact as itself.

    Generalized WCS may have none, an approximate polynomial, or one found by an
    iteration that is good to some thousandths of a pixel.
    """

    def __init__(self, wcs, shape):
        super().__init__(wcs)
        self._center = [(n - 1) / 2 for n in shape[::-1]]
        types = wcs.world_axis_physical_types
        self._lon = 0 if types[0].endswith((".ra", ".lon")) else 1
        self._units = [u.Unit(unit) for unit in wcs.world_axis_units]

    def pixel_to_world_values(self, *pixels):
        return self._wcs.pixel_to_world_values(*pixels)

    def world_to_pixel_values(self, *world):
        wanted = self._vectors(world)
        try:
            # Asked for what is not there, it iterates for a long time.
            self._wcs.backward_transform  # noqa: B018
            x, y = self._wcs.world_to_pixel_values(*world)
        except NotImplementedError:
            x, y = (np.full(wanted.shape[1:], at) for at in self._center)
        steps = np.array([[0, 0.5, -0.5, 0, 0], [0, 0, 0, 0.5, -0.5]])
        steps = steps.reshape(2, 5, *[1] * (wanted.ndim - 1))
        for _ in range(_NEWTON_STEPS):
            at = x + steps[0], y + steps[1]
            points = self._vectors(self._wcs.pixel_to_world_values(*at))
            along_x, along_y = points[:, 1] - points[:, 2], points[:, 3] - points[:, 4]
            off = wanted - points[:, 0]
            xx, yy, xy, rx, ry = (
                (one * other).sum(axis=0)
                for one, other in (
                    (along_x, along_x),
                    (along_y, along_y),
                    (along_x, along_y),
                    (along_x, off),
                    (along_y, off),
                )
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = 1.0 / (xx * yy - xy**2)
                dx, dy = (rx * yy - ry * xy) * scale, (ry * xx - rx * xy) * scale
                x, y = x + dx, y + dy
                if not (np.hypot(dx, dy) > _CONVERGED).any():
                    break
        return x, y

    def _vectors(self, world):
        """Turn positions into unit vectors, shape (3, ...)."""
        lon, lat = (
            np.radians(self._units[k].to(u.deg, world[k]))
            for k in (self._lon, 1 - self._lon)
        )
        cos = np.cos(lat)
        return np.stack([cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)])


def _add_uncertainty(tile, uncertainty, shape, argument):
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
        tile.std_factor = std.unit.to(tile.unit)
    tile.kind = kind
    tile.uncertainty = _same_shape(uncertainty.array, shape, argument, "an uncertainty")


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
