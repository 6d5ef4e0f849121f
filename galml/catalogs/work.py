# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One partition, from its rows of the catalog to its file."""

import warnings
from contextlib import nullcontext

import astropy.units as u
import numpy as np
from astropy.table import vstack

from galml.catalogs.dataset import Dataset
from galml.catalogs.tiles import find_tiles
from galml.core.domain import find_object, operations
from galml.core.exceptions import FileError, GalmlError, GalmlWarning
from galml.core.flags import Flag
from galml.core.results import reason_of
from galml.core.running import shared_threads
from galml.cutouts.extract import iter_cutouts
from galml.cutouts.images import OpenFiles, open_image
from galml.cutouts.targets import plan_sizes, read_catalog

__all__ = ["compute"]


def compute(job, number, start, catalog, one_thread):
    """Compute a partition and write it.

    Parameters
    ----------
    job : dict
        What all partitions share.
    number, start : int
        Number of the partition, and of its first row.
    catalog : `~astropy.table.QTable`
        Its rows.
    one_thread : bool
        Whether torch has one thread, as where several workers share the processors.

    Returns
    -------
    rows, failed : int
        Rows of the catalog, and how many of these have no result.
    """
    with shared_threads(None) if one_thread else nullcontext():
        function = find_object(operations()[job["operation"]].function)
        answer = _ask if job["tiles"] is None else _cut_and_ask
        table, reasons = answer(job, function, catalog)
    # Bytes of a result must not depend on when it was computed.
    table.meta.pop("DATE", None)
    reasons = {start + row: reason for row, reason in reasons.items()}
    Dataset(job["output"]).write(number, table, reasons)
    return len(catalog), len(reasons)


def _call(function, data, options):
    """Ask an operation, and take what it says of rows without a result."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GalmlWarning)
        table = function(data, **options)
    reasons = {}
    for one in caught:
        reasons |= getattr(one.message, "reasons", {})
    return table, reasons


def _ask(job, function, catalog):
    """Give an operation the rows as they are."""
    return _call(function, catalog, job["options"])


def _cut_and_ask(job, function, catalog):
    """Cut galaxies out of their tiles, tile by tile, and ask the operation."""
    tiles, keys = job["tiles"], job["cutting"]
    clean, sky, r_eff = read_catalog(catalog, None)
    n_pixels, scales = plan_sizes(
        keys["size"],
        keys["n_pixels"],
        keys["pixel_scale"],
        tiles["pixel_scale"][0],
        r_eff,
        len(clean),
    )
    points = sky.cartesian.xyz.value.T
    reach = np.radians(scales / 3600) * n_pixels / np.sqrt(2)
    rows, found = find_tiles(tiles, points, reach)
    lost = _unreadable(tiles, np.unique(found), keys["hdu"])
    failed = {
        row: lost[tile]
        for row, tile in zip(rows.tolist(), found.tolist(), strict=True)
        if tile in lost
    }
    images = _images(tiles, np.setdiff1d(found, list(lost)), lost, keys["hdu"])
    # Without a position, a row has no result, and goes the way of all others.
    ra, dec = sky.ra.deg.copy(), sky.dec.deg.copy()
    ra[list(failed)] = np.nan
    first = np.full(len(clean), len(tiles))
    first[rows[::-1]] = found[::-1]
    order = np.argsort(first, kind="stable")
    asked = clean[[n for n in clean.colnames if n in ("name", "id", "r_eff")]]
    asked["ra"], asked["dec"] = ra * u.deg, dec * u.deg
    tables, reasons, at = [], {}, 0
    with warnings.catch_warnings():
        # What the images do not show is told by the operation, row by row.
        warnings.filterwarnings("ignore", category=GalmlWarning)
        for stack in iter_cutouts(images, asked[order], **keys):
            table, some = _call(function, stack, job["options"])
            for name in ("dec", "ra"):
                if name not in table.colnames:
                    unknown = np.full(len(table), np.nan) * u.deg
                    table.add_column(unknown, name=name, index="name" in table.colnames)
            tables.append(table)
            reasons |= {int(order[at + row]): text for row, text in some.items()}
            at += len(stack)
    table = vstack(tables, metadata_conflicts="silent")[np.argsort(order)]
    if failed:
        table["flags"][list(failed)] |= int(Flag.FAILED | Flag.UNREADABLE)
    return table, reasons | failed


def _unreadable(tiles, wanted, hdu):
    """Tell which tiles cannot be opened, and why."""
    lost = {}
    with OpenFiles() as files:
        for tile in wanted.tolist():
            try:
                open_image(str(tiles["path"][tile]), files, hdu=hdu)
            except (GalmlError, OSError) as error:
                lost[tile] = reason_of(error)
    return lost


def _images(tiles, wanted, lost, hdu):
    """Give tiles by band; one that can be read where none of a band is wanted."""
    images = {}
    for band in dict.fromkeys(tiles["band"].tolist()):
        own = np.flatnonzero(tiles["band"] == band)
        some = np.intersect1d(own, wanted).tolist()
        for tile in [] if some else own.tolist():
            if tile not in lost and not _unreadable(tiles, np.array([tile]), hdu):
                some = [tile]
                break
        if not some:
            raise FileError("images", f"no tile of {band} can be read", "one at least")
        images[band] = [str(tiles["path"][tile]) for tile in some]
    return images
