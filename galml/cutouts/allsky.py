# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Maps of the whole sphere: HEALPix arrays and HiPS folders, through reproject."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import (
    ICRS,
    BarycentricMeanEcliptic,
    BaseCoordinateFrame,
    Galactic,
    frame_transform_graph,
)
from astropy.io import fits

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.files import IMAGE_HDUS, parse_unit, readable

__all__ = [
    "HealpixMap",
    "is_healpix_tuple",
    "is_hips",
    "open_healpix",
    "open_hips",
    "unit_factor",
]

# Letters and names in COORDSYS.
_FRAMES = {
    "c": ICRS,
    "q": ICRS,
    "celestial": ICRS,
    "equatorial": ICRS,
    "g": Galactic,
    "e": BarycentricMeanEcliptic,
    "ecliptic": BarycentricMeanEcliptic,
}
# Frames of HiPS.
_HIPS_FRAMES = ("equatorial", "galactic")
# Value of pixels without data, and what is certainly one.
_UNSEEN = -1.6e30
# Points of interpolation on a side of each output pixel, per side of the map's pixel,
# and at most.
_POINTS, _MOST_POINTS = 2, 16
# Tiles of a HiPS kept in memory.
_TILES = 64


@dataclass
class HealpixMap:
    """A map of the sphere in HEALPix pixels.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape ``(12 nside²,)`` in float64; NaN where there are no data.
    frame : `~astropy.coordinates.BaseCoordinateFrame`
        Frame in which the pixels are laid out.
    nested : bool
        Order of the pixels: nested, or in rings.
    unit : `~astropy.units.UnitBase`
        Of the values.
    meta : mapping
        Header.
    band : str
        Name of the band.
    psf : object
        PSF, or None.
    factor : float
        Turns values into the unit wanted.
    """

    values: np.ndarray
    frame: BaseCoordinateFrame
    nested: bool
    unit: u.UnitBase
    meta: Mapping
    band: str = "image"
    psf: object = None
    factor: float = 1.0
    uncertainty: None = None

    @property
    def pixel_scale(self):
        """`~astropy.units.Quantity`: side of a square as large as a pixel."""
        return (math.sqrt(4.0 * math.pi / len(self.values)) * u.rad).to(u.arcsec)

    def convert_to(self, unit):
        """Have all cutouts in another unit, see `galml.cutouts.images.Tile`."""
        self.factor = unit_factor(self.unit, unit, self.band)

    def near(self, points, reach):
        """Find positions within reach: all of them."""
        return np.arange(len(points))

    def resample(self, wcs, n_pixels, *, interpolate):
        """Resample the map onto the pixels of a cutout.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
            Of the cutout.
        n_pixels : int
            Its side.
        interpolate : bool
            Whether to interpolate at the centers of the pixels only; else the mean
            over each pixel is taken, where it is larger than those of the map.

        Returns
        -------
        values, coverage : `~numpy.ndarray`
            Shape ``(n_pixels, n_pixels)``: mean over the part of each pixel that has
            data, and how large that part is.
        """
        from reproject.healpix import reproject_from_healpix

        ratio = wcs.proj_plane_pixel_scales()[0] / self.pixel_scale
        points = 1
        if not interpolate and ratio > 0.5:
            points = min(math.ceil(_POINTS * ratio.to_value("")), _MOST_POINTS)
        fine = wcs.deepcopy()
        fine.wcs.cdelt = wcs.wcs.cdelt / points
        fine.wcs.crpix = [(n_pixels * points + 1) / 2] * 2
        values, _ = reproject_from_healpix(
            (self.values, self.frame),
            fine,
            shape_out=(n_pixels * points, n_pixels * points),
            nested=self.nested,
        )
        values = values.reshape(n_pixels, points, n_pixels, points)
        known = np.isfinite(values)
        coverage = known.mean(axis=(1, 3))
        with np.errstate(invalid="ignore"):
            mean = np.where(known, values, 0.0).mean(axis=(1, 3)) / coverage
        return mean * self.factor, coverage


def unit_factor(unit, wanted, band):
    """Compute what turns values of one unit into another.

    Parameters
    ----------
    unit, wanted : `~astropy.units.UnitBase`
        Units of the image and of the first image.
    band : str
        Name of the band, for the error.

    Returns
    -------
    float

    Raises
    ------
    galml.core.InputUnitError
        When the units cannot be converted into each other.
    """
    if not unit.is_equivalent(wanted):
        raise InputUnitError(
            "images", f"{unit} in band {band!r}", f"{wanted}, as the first"
        )
    return unit.to(wanted)


def is_healpix_tuple(image):
    """Whether this is a HEALPix array with its frame.

    Parameters
    ----------
    image : object
        ``(array, frame)``, ``(array, frame, nested)`` or ``(array, HEALPix)``.

    Returns
    -------
    bool
    """
    if not isinstance(image, tuple) or len(image) not in (2, 3):
        return False
    if np.ndim(image[0]) != 1 or not hasattr(image[0], "dtype"):
        return False
    frame = image[1]
    return isinstance(frame, str | BaseCoordinateFrame) or hasattr(frame, "nside")


def open_healpix(image, files, unit, hdu, argument):
    """Open a HEALPix map.

    Parameters
    ----------
    image : object
        A tuple as for `is_healpix_tuple`, a table HDU with the cards ``ORDERING`` and
        ``COORDSYS``, or an `~astropy.io.fits.HDUList` or path to a FITS file of which
        such a table is the first HDU with data.
    files : `galml.cutouts.images.OpenFiles`
        What opens files.
    unit : `~astropy.units.UnitBase` or None
        Of maps that have none.
    hdu : int, str, tuple or None
        Extension, or ``(extension, column)``.
    argument : str
        Name used in errors.

    Returns
    -------
    HealpixMap or None
        None where it is something else.

    Raises
    ------
    galml.core.InputError
        For arrays of another length, and maps without order or frame.
    galml.core.InputUnitError
        For maps without unit.
    """
    if is_healpix_tuple(image):
        values, frame, nested, own = _unpack(image, argument)
        return _healpix(values, frame, nested, own or unit, {}, argument)
    if isinstance(image, str | os.PathLike) and not Path(image).is_dir():
        with readable(argument, str(image)):
            image = files.open(str(image))
    extension, column = hdu if isinstance(hdu, tuple) else (hdu, None)
    if isinstance(image, fits.HDUList):
        image = _map_hdu(image, extension)
    if not isinstance(image, fits.BinTableHDU) or isinstance(image, fits.CompImageHDU):
        return None
    with readable(argument, f"HDU {image.name!r}", "a HEALPix map"):
        values, own = _read_table(image, column, argument)
    header = image.header
    nested = {"NESTED": True, "NEST": True, "RING": False}.get(
        str(header.get("ORDERING", "")).strip().upper()
    )
    frame = str(header.get("COORDSYS", "")).strip()
    return _healpix(values, frame, nested, own or unit, dict(header), argument)


def _unpack(image, argument):
    """Take values, frame, order and unit from a tuple."""
    values, frame = image[:2]
    nested = image[2] if len(image) == 3 else None
    if hasattr(frame, "nside"):
        if len(values) != frame.npix:
            expected = f"{frame.npix} for nside {frame.nside}"
            raise InputError(argument, f"{len(values)} values", expected)
        frame, nested = frame.frame, frame.order == "nested"
    own = values.unit if isinstance(values, u.Quantity) else None
    values = values.value if isinstance(values, u.Quantity) else values
    if values.dtype.kind not in "iuf":
        raise InputTypeError(argument, f"values of {values.dtype}", "numbers")
    return np.ma.filled(np.ma.asarray(values, float), np.nan), frame, nested, own


def _map_hdu(hdus, extension):
    """Find the table of a map; None where an image comes first."""
    if extension is not None:
        try:
            return hdus[extension]
        except (KeyError, IndexError):
            return None
    for one in hdus:
        if isinstance(one, fits.BinTableHDU) and not isinstance(one, fits.CompImageHDU):
            header = one.header
            if header.get("PIXTYPE") == "HEALPIX" or {"NSIDE", "ORDERING"} <= {*header}:
                return one
        elif isinstance(one, IMAGE_HDUS) and one.shape:
            return None
    return None


def _read_table(table, column, argument):
    """Read the values of a map, and their unit; maps of a part are filled up."""
    names = [name for name in table.columns.names if name.upper() != "PIXEL"]
    if isinstance(column, int) and 0 <= column < len(names):
        column = names[column]
    if column is None:
        column = names[0]
    if column not in names:
        raise InputError("hdu", f"column {column!r}", f"one of {', '.join(names)}")
    values = np.asarray(table.data[column], float).ravel()
    if "PIXEL" in (name.upper() for name in table.columns.names):
        nside = int(table.header["NSIDE"])
        whole = np.full(12 * nside**2, np.nan)
        whole[np.asarray(table.data["PIXEL"]).ravel()] = values
        values = whole
    unit = table.columns[column].unit
    return values, parse_unit(unit, argument) if unit else None


def _healpix(values, frame, nested, unit, meta, argument):
    """Check a map and put it together."""
    nside = math.isqrt(len(values) // 12)
    if nside == 0 or nside & (nside - 1) or 12 * nside**2 != len(values):
        expected = "12 nside², with a power of two for nside"
        raise InputError(argument, f"{len(values)} HEALPix values", expected)
    if nested is None:
        expected = "ORDERING, (array, frame, nested) or (array, HEALPix)"
        raise InputError(argument, "a HEALPix map without order of pixels", expected)
    if isinstance(frame, str):
        known = _FRAMES.get(frame.lower()) or frame_transform_graph.lookup_name(
            frame.lower()
        )
        frame = known() if known else None
    if frame is None:
        raise InputError(argument, "a HEALPix map without frame", "COORDSYS, or one")
    if unit is None:
        raise InputUnitError(argument, "data without a unit", "a unit, or unit=")
    values = np.where(values > _UNSEEN, values, np.nan)
    return HealpixMap(values, frame, bool(nested), unit, meta)


def is_hips(path):
    """Whether this is a folder with the ``properties`` of a HiPS.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    bool
    """
    return (Path(path) / "properties").is_file()


def open_hips(path, unit, argument):
    """Open the deepest level of a HiPS in a folder as one image.

    Parameters
    ----------
    path : str or path
        The folder, as `reproject.hips.reproject_to_hips` or Hipsgen make it.
    unit : `~astropy.units.UnitBase` or None
        Of the pixels; by default ``BUNIT`` of the tiles.
    argument : str
        Name used in errors.

    Returns
    -------
    object
        With the attributes of `~astropy.nddata.NDData`: an image of the whole sphere
        in the HPX projection, of which no more tiles are read than its windows touch.

    Raises
    ------
    galml.core.InputError
        For cubes, tiles that are no FITS files, and frames other than the equatorial
        and the galactic one.
    """
    properties = _read_properties(path)
    for key, allowed in (
        ("dataproduct_type", ("image",)),
        ("hips_frame", _HIPS_FRAMES),
        ("hips_tile_format", ("fits",)),
    ):
        found = properties.get(key, "").split()
        if not set(found) & set(allowed):
            raise InputError(
                argument,
                f"a HiPS with {key} {' '.join(found) or 'missing'}",
                " or ".join(allowed),
            )
    with readable(argument, str(path), "a HiPS"):
        return _Hips(Path(path), properties, unit)


def _read_properties(path):
    """Read the properties of a HiPS."""
    properties = {}
    for line in (Path(path) / "properties").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            properties[key.strip()] = value.strip()
    return properties


class _Hips:
    """A HiPS in the shape of NDData, tiles still on disk."""

    psf = uncertainty = mask = None

    def __init__(self, path, properties, unit):
        from reproject.hips import hips_as_dask_array

        self.meta = properties
        whole, self.wcs = hips_as_dask_array(path)
        self.data = _HipsPixels(path, properties, whole.shape, self.wcs)
        if unit is None:
            level = properties["hips_order"]
            tile = next(path.glob(f"Norder{level}/Dir*/Npix*.fits"), None)
            text = "" if tile is None else fits.getheader(tile).get("BUNIT", "")
            unit = parse_unit(text, "images") if text else None
        self.unit = unit


class _HipsPixels:
    """The tiles of a HiPS as one large array, NaN where there is none.

    The dask array of reproject would work out all its millions of tiles for each
    window.
    """

    def __init__(self, path, properties, shape, wcs):
        from astropy_healpix import HEALPix

        self.shape = shape
        self._wcs, self._side = wcs, int(properties["hips_tile_width"])
        level = int(properties["hips_order"])
        frame = {"equatorial": ICRS, "galactic": Galactic}[properties["hips_frame"]]
        self._grid = HEALPix(2**level, order="nested", frame=frame())
        self._folder = path / f"Norder{level}"
        self._tile = lru_cache(_TILES)(self._read_tile)

    def __getitem__(self, key):
        rows, columns = key
        window = np.full((rows.stop - rows.start, columns.stop - columns.start), np.nan)
        side = self._side
        for y in range(rows.start // side, (rows.stop - 1) // side + 1):
            for x in range(columns.start // side, (columns.stop - 1) // side + 1):
                tile = self._tile(y, x)
                if tile is None:
                    continue
                (inner_y, outer_y), (inner_x, outer_x) = (
                    _overlap(part, block * side, side)
                    for part, block in ((rows, y), (columns, x))
                )
                window[outer_y, outer_x] = tile[inner_y, inner_x]
        return window

    def _read_tile(self, y, x):
        """Read the tile at this place of the grid of tiles; None where there is none.

        The center of a tile may lie on the edge of the projection.
        """
        at = np.array([0.25, 0.75]) * self._side - 0.5
        sky = self._wcs.pixel_to_world(x * self._side + at, y * self._side + at)
        known = np.isfinite(sky.spherical.lon) & np.isfinite(sky.spherical.lat)
        if not known.any():
            return None
        index = int(self._grid.skycoord_to_healpix(sky[known]).max())
        path = self._folder / f"Dir{index // 10000 * 10000}" / f"Npix{index}.fits"
        return fits.getdata(path) if path.is_file() else None


def _overlap(part, start, side):
    """Compute where a slice and a tile meet, counted in the tile and in the slice."""
    first, last = max(part.start, start), min(part.stop, start + side)
    inner = slice(first - start, last - start)
    return inner, slice(first - part.start, last - part.start)
