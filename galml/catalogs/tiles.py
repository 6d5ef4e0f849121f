# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which tiles of a survey a galaxy is on."""

import errno
import glob
import os
import warnings
from collections.abc import Mapping

import astropy.units as u
import numpy as np
from astropy.table import QTable
from astropy_healpix import HEALPix

from galml.core.exceptions import GalmlError, GalmlWarning, InputError
from galml.core.results import reason_of
from galml.cutouts.images import OpenFiles, open_images
from galml.cutouts.targets import native_scale

__all__ = ["Survey", "expand", "index"]

#: Levels of the cells of the sphere by which tiles are looked up: those about as wide
#: as the tiles, 55 to 7 arcmin.
LEVELS = 6, 9
#: Tiles whose headers are kept, and files of them that are kept open.
MOST_TILES, MOST_OPEN = 128, 32
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
    hdu : int or str, optional
        Extension of the files; by default the first image.
    unit : `~astropy.units.UnitBase` or str, optional
        Of images that have none.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each file that can be read, band by band: ``path``, ``hdu`` (name of
        the extension asked for, empty for the first image), ``band``, ``unit``,
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
    rows, problems, asked, found_in = [], [], _paths(files), set()
    with OpenFiles() as opened:
        for band, path in asked:
            try:
                images = path if band is None else {band: path}
                (found,) = open_images(images, opened, unit=unit, hdu=hdu)
                (tile,) = found.tiles
                corners = _corners(tile)
            except (GalmlError, OSError) as error:
                problems.append(f"{path}: {reason_of(error)}")
                continue
            scale = native_scale(tile)
            own = tile.unit.to_string(), scale.to_value(u.arcsec), corners
            rows.append((path, found.name, *own))
            found_in.add(band)
    if not rows:
        told = problems[0] if problems else "no file"
        raise InputError("files", told, "FITS images that can be read")
    missing = ", ".join(
        dict.fromkeys(band for band, _ in asked if band not in found_in)
    )
    if missing:
        told = f"no image in {missing} that can be read ({problems[0]})"
        raise InputError("files", told, "images in each band")
    if problems:
        warnings.warn(
            f"{len(problems)} of {len(rows) + len(problems)} images cannot be read "
            f"(first: {problems[0]})",
            GalmlWarning,
            stacklevel=2,
        )
    bands = list(dict.fromkeys(row[1] for row in rows))
    rows.sort(key=lambda row: bands.index(row[1]))
    paths, names, units, scales, corners = zip(*rows, strict=True)
    corners = np.array(corners)
    level, cells = _cells(corners)
    table = QTable(
        {
            "path": paths,
            "hdu": ["" if hdu is None else str(hdu)] * len(rows),
            "band": names,
            "unit": units,
            "pixel_scale": scales * u.arcsec,
            "footprint": corners * u.deg,
            "cells": [" ".join(map(str, one)) for one in cells],
        }
    )
    table.meta["CELLLEVL"] = level
    return table


def expand(files):
    """Give the files that a pattern, or some of them, stand for.

    Parameters
    ----------
    files : str, path-like or sequence of these
        Files or patterns.

    Returns
    -------
    list of str
        Absolute paths; those of a pattern in order of their names.

    Raises
    ------
    galml.core.InputError
        For a pattern without files.
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    found = []
    for file in map(os.fspath, files):
        # A file may be named like a pattern.
        some = sorted(glob.glob(file)) if not os.path.exists(file) else [file]
        if glob.has_magic(file) and not some:
            raise InputError("files", f"{file!r}, which no file matches", "files")
        found += some or [file]
    return [os.path.abspath(file) for file in found]


class Survey:
    """Tiles that are looked up by place, and stay open from galaxy to galaxy.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From `index`.
    """

    def __init__(self, table):
        self.table = table
        self.bands = list(dict.fromkeys(table["band"].tolist()))
        self.unit = u.Unit(str(table["unit"][0]))
        # Parquet files have no more than one axis below the rows.
        footprint = table["footprint"].to_value(u.deg).reshape(-1, 4, 2)
        self._edges, self._middles = _sides(footprint)
        cells = [np.array(text.split(), int) for text in table["cells"].tolist()]
        tiles = np.repeat(np.arange(len(table)), [len(some) for some in cells])
        cells = np.concatenate(cells)
        order = np.argsort(cells, kind="stable")
        self._cells, self._tiles = cells[order], tiles[order]
        # FITS files take empty texts for missing ones.
        hdu = str(np.ma.filled(table["hdu"], "")[0])
        self.hdu = int(hdu) if hdu.isdecimal() else hdu or None
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
            options = {"unit": u.Unit(str(row["unit"])), "hdu": self.hdu}
            try:
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


def _paths(files):
    """Give band (or None) and path of each file."""
    if isinstance(files, Mapping):
        pairs = [(str(b).strip(), path) for b, f in files.items() for path in expand(f)]
    else:
        pairs = [(None, path) for path in expand(files)]
    return pairs


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
