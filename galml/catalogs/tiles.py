# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which tiles of a survey a galaxy is on."""

import errno
import glob
import os
import warnings
from collections.abc import Iterable, Mapping

import astropy.units as u
import numpy as np
from astropy.nddata import NDData
from astropy.table import QTable, Table
from astropy_healpix import HEALPix

from galml.catalogs.held import PSF, to_hdus
from galml.core.exceptions import (
    GalmlError,
    GalmlWarning,
    InputError,
    InputTypeError,
)
from galml.core.files import (
    IMAGE_HDUS,
    find_hdu,
    header_wcs,
    local_file,
    parse_unit,
    readable,
)
from galml.core.results import reason_of
from galml.core.table_files import read_table
from galml.cutouts.allsky import unit_factor
from galml.cutouts.images import OpenFiles, open_images
from galml.cutouts.targets import native_scale

__all__ = ["Survey", "as_index", "expand", "index"]

#: Columns of an index.
COLUMNS = ("path", "hdu", "band", "unit", "pixel_scale", "footprint", "cells")
#: Levels of the cells of the sphere by which tiles are looked up: those about as wide
#: as the tiles, 55 to 7 arcmin.
LEVELS = 6, 9
#: Tiles whose headers are kept, and files of them that are kept open.
MOST_TILES, MOST_OPEN = 128, 32
#: How names of extensions begin that are no images of the sky.
PARTNERS = (
    *("AREA", "CON", "CTX", "DQ", "ERR", "FLAG", "FLG", "IVAR", "MASK", "PSF", "RMS"),
    *("SAMP", "STAT", "TIME", "UNC", "VAR", "WEIGHT", "WHT"),
)
#: How files end that are tables of tiles.
TABLES = (".ecsv", ".parquet", ".vot", ".xml")
#: Errors that are not those of a file.
EXHAUSTED = errno.EMFILE, errno.ENFILE, errno.ENOMEM
#: Slack of the footprints, whose sides need not be great circles (rad).
SLACK = 5e-5


def index(files, *, hdu=None, unit=None):
    """Tell where images lie on the sky, from their headers alone.

    Parameters
    ----------
    files : str, path-like, sequence or mapping of str to these
        FITS files, or patterns such as ``"tiles/*-r.fits"``; by band in a mapping, else
        ``BAND`` or ``FILTER`` of the headers tell it.
    hdu : int, str or tuple, optional
        Extension of the files, such as ``("SCI", 2)``; by default all images of the
        sky that do not lie where another one of the file does.
    unit : `~astropy.units.UnitBase` or str, optional
        Of images that have none.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each image that can be read, band by band: ``path``, ``hdu``
        (number of the extension, empty for the only image), ``band``, ``unit``,
        ``pixel_scale``, ``footprint`` (ra and dec of the four corners, shape (4, 2), in
        degrees) and ``cells``, the nested HEALPix cells that the image may touch as a
        text of numbers; ``meta["CELLLEVL"]`` is their level. It can be written to a
        file, and given as the ``images`` of `galml.catalogs.run`.

    Raises
    ------
    galml.core.InputError
        When there is no file, or none that can be read, or none of a band by its name.

    Warns
    -----
    galml.core.GalmlWarning
        Once, when files cannot be read; they are left out.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from galml.catalogs import index
    >>> cards = {"BUNIT": "nJy", "BAND": "r"}
    >>> cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    >>> cards |= {"CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 50.5, "CRPIX2": 50.5}
    >>> cards |= {"CDELT1": -1e-4, "CDELT2": 1e-4}
    >>> hdu = fits.PrimaryHDU(np.zeros((100, 100)), fits.Header(cards))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hdu.writeto(f"{folder}/tile-r.fits")
    ...     tiles = index(f"{folder}/tile-*.fits")
    >>> str(tiles["band"][0]), round(float(tiles["pixel_scale"][0].value), 2)
    ('r', 0.36)
    """
    return as_index(files, hdu, unit)[0]


def as_index(images, hdu, unit, folder=None):
    """Give the index of whatever holds the tiles of a survey.

    Parameters
    ----------
    images : object
        As for `galml.catalogs.run`.
    hdu, unit
        As for `index`.
    folder : str, optional
        Where images that are in memory are to be files; by default only files are
        taken.

    Returns
    -------
    table : `~astropy.table.QTable`
        As that of `index`.
    held : dict of str to `~astropy.io.fits.HDUList`
        Images that are in memory, by the paths that they have in the table.

    Raises
    ------
    galml.core.InputError
        As `index`, and for tables that are none.
    """
    if folder is not None and isinstance(images, str | os.PathLike):
        if os.fspath(images).lower().endswith(TABLES):
            images = read_table(images, argument="images")
    if folder is None or not isinstance(images, Table):
        return _make_index(images, hdu, unit, folder)
    table = QTable(images)
    lacking = [name for name in COLUMNS if name not in table.colnames]
    lacking += [name for name in ("CELLLEVL",) if name not in table.meta]
    if lacking or not len(table):
        got = f"a table without {', '.join(lacking) or 'rows'}"
        raise InputError("images", got, "that of galml.catalogs.index")
    for name, value in {"hdu": hdu, "unit": unit}.items():
        if value is not None:
            expected = f"{name}= of galml.catalogs.index, which made it"
            raise InputError(name, f"{value} with a table of tiles", expected)
    return table, {}


def _make_index(images, hdu, unit, folder):
    """Make the index of files, and of images in memory that are to be files."""
    argument = "files" if folder is None else "images"
    unit = None if unit is None else parse_unit(unit, "unit")
    members = _members(images, argument, folder is not None)
    rows, problems, found_in, held = [], [], set(), {}
    with OpenFiles() as opened:
        for number, (band, source) in enumerate(members):
            name = path = source
            if isinstance(source, NDData):
                name = f"{argument}[{number}]"
                path = os.path.join(folder, f"{number:07d}.fits")
            own = []
            for extension in _extensions(source, opened, hdu):
                try:
                    one = source if band is None else {band: source}
                    (found,) = open_images(one, opened, unit=unit, hdu=extension)
                    (tile,) = found.tiles
                    corners = _corners(tile)
                    if path is not source:
                        held[path] = to_hdus(tile)
                except (GalmlError, OSError) as error:
                    problems.append(f"{name}: {reason_of(error)}")
                    continue
                scale = native_scale(tile).to_value(u.arcsec)
                text = "" if extension is None else str(extension)
                row = path, text, found.name, tile.unit.to_string(), scale, corners
                if not any(_lies_on(row, other) for other in own):
                    own.append(row)
            rows += own
            if own:
                found_in.add(band)
    if not rows:
        told = problems[0] if problems else "no file"
        raise InputError(argument, told, "FITS images that can be read")
    missing = ", ".join(
        dict.fromkeys(band for band, _ in members if band not in found_in)
    )
    if missing:
        told = f"no image in {missing} that can be read ({problems[0]})"
        raise InputError(argument, told, "images in each band")
    if problems:
        warnings.warn(
            f"{len(problems)} of {len(rows) + len(problems)} images cannot be read "
            f"(first: {problems[0]})",
            GalmlWarning,
            stacklevel=4,
        )
    bands = list(dict.fromkeys(row[2] for row in rows))
    rows.sort(key=lambda row: bands.index(row[2]))
    paths, numbers, names, units, scales, corners = zip(*rows, strict=True)
    corners = np.array(corners)
    level, cells = _cells(corners)
    table = QTable(
        {
            "path": paths,
            "hdu": numbers,
            "band": names,
            "unit": units,
            "pixel_scale": scales * u.arcsec,
            "footprint": corners * u.deg,
            "cells": [" ".join(map(str, one)) for one in cells],
        }
    )
    table.meta["CELLLEVL"] = level
    if any(PSF in hdus for hdus in held.values()):
        table["psf"] = [path in held and PSF in held[path] for path in paths]
    return table, held


def expand(files, argument):
    """Give the files that a pattern, or some of them, stand for.

    Parameters
    ----------
    files : str, path-like or sequence of these
        Files or patterns.
    argument : str
        Name used in errors.

    Returns
    -------
    list of str
        Absolute paths; those of a pattern in order of their names.

    Raises
    ------
    galml.core.InputTypeError
        For what names no file.
    galml.core.InputError
        For a pattern without files, and for addresses unless they are allowed.
    """
    found = []
    for file in _listed(files, argument):
        if not isinstance(file, str | os.PathLike):
            expected = "files, or patterns of their names"
            kind = type(file).__name__
            raise InputTypeError(argument, f"an object of type {kind}", expected)
        file = os.fsdecode(file)
        if "://" in file:
            with readable(argument, file, "a file"):
                file = local_file(file, argument)
        # A file may be named like a pattern.
        some = sorted(glob.glob(file)) if not os.path.exists(file) else [file]
        if glob.has_magic(file) and not some:
            raise InputError(argument, f"{file!r}, which no file matches", "files")
        found += some or [file]
    return [os.path.abspath(file) for file in found]


class Survey:
    """Tiles that are looked up by place, and stay open from galaxy to galaxy.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From `index`.

    Raises
    ------
    galml.core.InputUnitError
        When units cannot be converted into each other.
    """

    def __init__(self, table):
        self.table = table
        self.bands = list(dict.fromkeys(table["band"].tolist()))
        self.unit = u.Unit(str(table["unit"][0]))
        pairs = zip(table["band"].tolist(), table["unit"].tolist(), strict=True)
        for band, unit in dict.fromkeys(pairs):
            unit_factor(u.Unit(unit), self.unit, band)
        # Parquet files have no more than one axis below the rows.
        footprint = table["footprint"].to_value(u.deg).reshape(-1, 4, 2)
        self._edges, self._middles = _sides(footprint)
        cells = [np.array(text.split(), int) for text in table["cells"].tolist()]
        tiles = np.repeat(np.arange(len(table)), [len(some) for some in cells])
        cells = np.concatenate(cells)
        order = np.argsort(cells, kind="stable")
        self._cells, self._tiles = cells[order], tiles[order]
        # FITS files take empty texts for missing ones.
        texts = map(str, np.ma.filled(table["hdu"], "").tolist())
        self._hdus = [int(t) if t.isdecimal() else t or None for t in texts]
        self._files, self._open = OpenFiles(MOST_OPEN), {}

    def find(self, points, reach):
        """Find the tiles that cutouts touch.

        Parameters
        ----------
        points : `~numpy.ndarray`
            Shape (n, 3): unit vectors of ICRS positions; NaN where there is none.
        reach : `~numpy.ndarray`
            Shape (n,): how far cutouts reach from there (rad); NaN is nothing.

        Returns
        -------
        rows, tiles : `~numpy.ndarray` of int
            Pairs of a cutout and a row of the table, in order of both.
        """
        pixels = HEALPix(2 ** self.table.meta["CELLLEVL"], order="nested")
        usable = np.flatnonzero(np.isfinite(points).all(axis=1))
        x, y, z = points[usable].T
        own = pixels.lonlat_to_healpix(np.arctan2(y, x) * u.rad, np.arcsin(z) * u.rad)
        starts = np.searchsorted(self._cells, own)
        counts = np.searchsorted(self._cells, own, side="right") - starts
        rows = np.repeat(usable, counts)
        first = np.repeat(starts - np.cumsum(counts) + counts, counts)
        tiles = self._tiles[first + np.arange(len(rows))]
        near = np.einsum("pk,pk->p", points[rows], self._middles[tiles]) > 0
        rows, tiles = rows[near], tiles[near]
        sides = np.einsum("pek,pk->pe", self._edges[tiles], points[rows])
        inside = sides.min(axis=1) > -(np.nan_to_num(reach)[rows] + SLACK)
        rows, tiles = rows[inside], tiles[inside]
        order = np.lexsort([tiles, rows])
        return rows[order], tiles[order]

    def open(self, number):
        """Open a tile, or take the one that is open.

        Parameters
        ----------
        number : int
            Row of the table.

        Returns
        -------
        `~galml.cutouts.images.Tile` or str
            In place of one that cannot be read, why not.
        """
        found = self._open.pop(number, None)
        if found is None:
            if len(self._open) >= MOST_TILES:
                self._open.pop(next(iter(self._open)))
            row = self.table[number]
            images = {str(row["band"]): str(row["path"])}
            options = {"unit": u.Unit(str(row["unit"])), "hdu": self._hdus[number]}
            try:
                if "psf" in self.table.colnames and row["psf"]:
                    options["psf"] = self._files.open(str(row["path"]))[PSF].data
                found = open_images(images, self._files, **options)[0].tiles[0]
            except (GalmlError, OSError) as error:
                if getattr(error.__cause__ or error, "errno", None) in EXHAUSTED:
                    raise
                found = f"{row['path']}: {reason_of(error)}"
        self._open[number] = found
        return found

    def close(self):
        """Close all files."""
        self._files.__exit__()
        self._open.clear()


def _members(images, argument, in_memory):
    """Give band (or None) and file or image of each tile."""
    bands = images if isinstance(images, Mapping) else {None: images}
    found = []
    for band, some in bands.items():
        band = None if band is None else str(band).strip()
        for one in _listed(some, argument):
            held = in_memory and isinstance(one, NDData)
            found += [(band, e) for e in ([one] if held else expand(one, argument))]
    return found


def _listed(files, argument):
    """Give several of what may be one."""
    if isinstance(files, str | os.PathLike | NDData):
        return [files]
    if isinstance(files, bytes) or not isinstance(files, Iterable):
        kind = type(files).__name__
        raise InputTypeError(argument, f"an object of type {kind}", "files")
    return files


def _extensions(source, files, hdu):
    """Give the numbers of the images of the sky in a file; None is the only one."""
    if not isinstance(source, str) or os.path.isdir(source):
        return [None]
    try:
        with readable("images", source):
            hdus = files.open(source)
            first = find_hdu(hdus, hdu, None, (2,), "images")
            (number,) = (i for i, one in enumerate(hdus) if one is first)
            if hdu is not None:
                return [number]
            rest = range(number + 1, len(hdus))
            others = [i for i in rest if _is_sky(hdus, i, first)]
    except (GalmlError, OSError):
        # What is wrong is told when the image is opened.
        return [hdu]
    return [number, *others] if others else [None]


def _is_sky(hdus, number, first):
    """Whether an extension is an image of the sky, as the first image of the file."""
    image = hdus[number]
    if not isinstance(image, IMAGE_HDUS) or len(image.shape) < 2:
        return False
    if sum(side > 1 for side in image.shape) > 2:
        return False
    if first.name == "SCI":
        return image.name == "SCI"
    if image.name.startswith(PARTNERS):
        return False
    try:
        return header_wcs(image.header, hdus).has_celestial
    except Exception:
        # What is wrong is told when the image is opened.
        return True


def _lies_on(row, other):
    """Whether an image has the band and the place of another one of its file."""
    (*_, band, _, scale, corners), (*_, known, _, _, others) = row, other
    near = np.abs(corners - others) < 0.01 * scale / 3600
    return band == known and bool(near.all())


def _corners(tile):
    """Right ascension and declination of the corners of an image, in degrees."""
    ny, nx = tile.shape
    x, y = np.array([-0.5, nx - 0.5]), np.array([-0.5, ny - 0.5])
    sky = tile.wcs.pixel_to_world(x[[0, 1, 1, 0]], y[[0, 0, 1, 1]]).icrs
    corners = np.stack([sky.ra.deg, sky.dec.deg], axis=-1)
    if not np.isfinite(corners).all() or tile.circle[1] > 1.0:
        raise InputError(
            "files", "an image that reaches around the sky", "a tile of a survey"
        )
    return corners


def _vectors(degrees):
    """Give unit vectors of positions, whose last axis is ra and dec."""
    lon, lat = np.moveaxis(np.radians(degrees), -1, 0)
    return np.stack(
        [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1
    )


def _sides(corners):
    """Give normals of the great circles along sides, inwards, and the middles."""
    vectors = _vectors(corners)
    middles = vectors.sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    edges = np.cross(vectors, np.roll(vectors, -1, axis=1))
    edges /= np.linalg.norm(edges, axis=2, keepdims=True)
    return edges * np.sign(np.einsum("tek,tk->te", edges, middles))[..., None], middles


def _cells(corners):
    """Give a level, and the cells that each image may touch and those around them."""
    vectors = _vectors(corners)
    _, middles = _sides(corners)
    cosines = np.einsum("tek,tk->te", vectors, middles).min(axis=1)
    radii = np.arccos(np.clip(cosines, -1, 1)) * u.rad
    widest = HEALPix(1).pixel_resolution
    level = np.log2((widest / np.median(radii)).to_value(u.one))
    level = int(np.clip(level, *LEVELS))
    pixels = HEALPix(2**level, order="nested")
    lon, lat = np.arctan2(middles[:, 1], middles[:, 0]), np.arcsin(middles[:, 2])
    # As far again as the side of a cell, for cutouts that reach into the image.
    radii = radii + 2 * pixels.pixel_resolution
    return level, [
        sorted(pixels.cone_search_lonlat(x * u.rad, y * u.rad, radius))
        for x, y, radius in zip(lon, lat, radii, strict=True)
    ]
