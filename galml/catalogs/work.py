# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What workers do: rows of a catalog in, files of a result out."""

from threading import get_ident

import astropy.units as u
import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from astropy.table import QTable, vstack
from astropy.wcs import WCS

from galml.catalogs.dataset import Dataset
from galml.catalogs.plan import grid_of, near_others, positions_of, reasons_of
from galml.catalogs.sources import from_pandas, to_table, with_units
from galml.catalogs.tiles import Survey
from galml.core.domain import find_object, operations
from galml.core.exceptions import InputError, ModelError
from galml.core.flags import Flag
from galml.core.results import collected_reasons
from galml.core.threads import shared_threads
from galml.core.weights import load_model
from galml.cutouts.extract import iter_cutouts

__all__ = [
    "assemble",
    "close_tiles",
    "compute_group",
    "compute_pixel",
    "compute_rows",
    "names_of",
]

#: With one thread, bytes do not depend on where they are computed.
ONE_THREAD = shared_threads(None)
#: Columns that name galaxies, of which the first is used.
IDS = "galaxy_id", "name", "id"
#: Stars that are in memory at one time.
STARS = 1_000_000
#: Tiles that threads of this process hold open, and of which run they are.
_surveys = {}


@ONE_THREAD
def compute_rows(job, number, name, catalog):
    """Compute a partition of objects that need no images.

    Parameters
    ----------
    job : dict
        What all partitions share.
    number : int
        Of the partition.
    name : str
        Of its file.
    catalog : `~astropy.table.QTable`
        Its rows.

    Returns
    -------
    rows, failed : int
        Rows of the catalog, and how many of these have no result.
    """
    # Stars may be more than memory holds; one galaxy that has none is one row.
    several = job["operation"] == "sample_stars" and len(catalog) > 1
    draw = _draw_stars if several else _call
    table, reasons = draw(job, catalog)
    _dataset(job).write(number, name, table, len(catalog), reasons)
    return len(catalog), len(reasons)


@ONE_THREAD
def compute_pixel(job, number, name, frames):
    """Compute a partition of a HATS catalog.

    Parameters
    ----------
    job : dict
        What all partitions share.
    number : int
        Of the partition.
    name : str
        Of its file.
    frames : sequence of `dask.delayed.Delayed`
        Gives its rows, with the cells that they are in as index; and those beyond its
        edge, if these are known.

    Returns
    -------
    rows, failed : int
        Rows of the catalog, and how many of these have no result.
    """
    frame, *margin = (one.compute(scheduler="synchronous") for one in frames)
    dataset = _dataset(job)
    if not len(frame):
        dataset.write(number, name, None, 0, {})
        return 0, 0
    cells = frame.index.to_numpy(np.int64)
    catalog = _catalog_of(job, frame)
    galaxies = positions_of(catalog if job["cutting"] else catalog["ra", "dec"])
    rows = np.arange(len(catalog))
    if job["cutting"]:
        beyond = [positions_of(_catalog_of(job, one)) for one in margin if len(one)]
        known = vstack([galaxies, *beyond])
        _, scales, n_pixels = grid_of(known, job["cutting"])
        flags = near_others(known, scales * n_pixels / 2)[: len(catalog)]
        told = reasons_of(catalog, galaxies, scales[: len(catalog)])
        table, reasons = _cut(job, galaxies, flags, told)
        names = names_of(catalog)
        if names is not None:
            table.add_column(names, name="name", index=0)
    elif job["operation"] == "sample_stars":
        key = next((key for key in IDS if key in catalog.colnames), None)
        known = cells if key is None else catalog[key]
        catalog["galaxy_id"] = rows
        # Other partitions may have galaxies with the same conditions.
        if "realization" not in catalog.colnames:
            catalog["realization"] = (
                cells + frame.groupby(level=0).cumcount().to_numpy()
            )
        table, reasons = _call(job, catalog)
        rows = np.asarray(table["galaxy_id"]).astype(int)
        table["galaxy_id"] = known[rows]
    else:
        table, reasons = _call(job, catalog)
    table["ra"], table["dec"] = galaxies["ra"][rows], galaxies["dec"][rows]
    table.add_column(cells[rows], name="_healpix_29", index=0)
    dataset.write(number, name, table, len(catalog), reasons)
    return len(catalog), len(reasons)


@ONE_THREAD
def compute_group(job, number, galaxies, rows, flags, told):
    """Compute galaxies that lie together on the sky, wherever they stand in a catalog.

    Parameters
    ----------
    job : dict
        What all groups share.
    number : int
        Of the group.
    galaxies : `~astropy.table.QTable`
        From `galml.catalogs.plan.positions_of`.
    rows : `~numpy.ndarray` of int
        Where they stand in the catalog.
    flags : `~numpy.ndarray` of int
        Whether other entries of the catalog are near.
    told : dict of int to str
        Why some of them have no cutout, from `galml.catalogs.plan.reasons_of`.

    Returns
    -------
    rows, failed : int
        How many they are, and how many have no result.
    """
    table, reasons = _cut(job, galaxies, flags, told)
    table["_row"] = rows
    table["_reason"] = [reasons.get(row, "") for row in range(len(rows))]
    table = table[np.argsort(rows)]
    _dataset(job).write_group(number, table, job["block"])
    return len(rows), len(reasons)


def assemble(job, start, stop, groups, parts, names):
    """Write partitions in the order of the catalog, out of groups.

    Parameters
    ----------
    job : dict
        What all share.
    start, stop : int
        Rows of the catalog.
    groups : list of int
        Where they were computed.
    parts : dict of int to str
        Numbers and files of the partitions.
    names : list of str or None
        Of the galaxies.

    Returns
    -------
    rows, failed : int
        None of these, as they were counted before.
    """
    dataset, size = _dataset(job), job["size"]
    table = dataset.read_groups(groups, start, stop)
    reasons = table["_reason"].tolist()
    table.remove_columns(["_row", "_reason"])
    if names is not None:
        table.add_column(names, name="name", index=0)
    for number, name in parts.items():
        rows = slice(number * size - start, (number + 1) * size - start)
        told = {row: text for row, text in enumerate(reasons[rows]) if text}
        part = table[rows]
        dataset.write(number, name, part, len(part), told)
    return 0, 0


def names_of(catalog):
    """Give the names of galaxies as the catalog has them; None where it has none."""
    key = next((key for key in IDS[1:] if key in catalog.colnames), None)
    if key is None:
        return None
    return ["" if np.ma.is_masked(one) else str(one).strip() for one in catalog[key]]


def close_tiles(run):
    """Close the tiles that threads of this process hold open for a run that is over."""
    for thread, (own, survey) in list(_surveys.items()):
        if own == run:
            survey.close()
            del _surveys[thread]


def _dataset(job):
    """Give the folder of the run."""
    return Dataset(job["output"], job["configuration"])


def _survey(job):
    """Give the tiles, as this thread has them open."""
    run, survey = _surveys.get(get_ident(), (None, None))
    if run != job["run"]:
        if survey is not None:
            survey.close()
        survey = Survey(QTable.read(job["tiles"]))
        _surveys[get_ident()] = job["run"], survey
    return survey


def _options(job):
    """Give the keywords of the operation, its model among them."""
    if job["sha256"] is None:
        return job["options"]
    model = load_model(job["model"], operation=job["operation"])
    if model.sha256 != job["sha256"]:
        raise ModelError(f"{job['model']}: another model on the worker")
    return {"model": model} | job["options"]


def _draw_stars(job, galaxies):
    """Draw stars table by table, and collect why galaxies have none."""
    from galml.stars import iter_stars

    with collected_reasons() as reasons:
        return iter_stars(galaxies, chunk=STARS, **_options(job)), reasons


def _call(job, data):
    """Ask an operation, and collect why rows have no result."""
    function = find_object(operations()[job["operation"]].function)
    options = _options(job)
    with collected_reasons() as reasons:
        try:
            table = function(data, **options)
        except InputError:
            if len(data) != 1:
                raise
            # One object alone that cannot be used is an error, but a row of two.
            table = function(data[[0, 0]], **options)
            table = table[: len(table) // 2]
            reasons.pop(1, None)
    if len(table) == len(data):
        for row in np.flatnonzero(table["flags"] & int(Flag.FAILED)).tolist():
            reasons.setdefault(row, "no result")
    return table, reasons


def _catalog_of(job, frame):
    """Make a catalog of rows of HATS."""
    ra, dec = job["places"]
    arrow = from_pandas(frame.rename(columns={ra: "ra", dec: "dec"}))
    units = {"ra": "deg", "dec": "deg"} | (job["units"] or {})
    return with_units(to_table(arrow), units)


def _cut(job, galaxies, flags, told):
    """Cut galaxies out of their tiles, tile by tile, and ask the operation."""
    survey, cutting = _survey(job), job["cutting"]
    points, scales, n_pixels = grid_of(galaxies, cutting)
    reach = np.radians(scales / 3600) * n_pixels / np.sqrt(2)
    rows, tiles = survey.find(points, reach)
    opened = {tile: survey.open(tile) for tile in np.unique(tiles).tolist()}
    unreadable, found = {}, {}
    for row, tile in zip(rows.tolist(), tiles.tolist(), strict=True):
        found.setdefault(row, []).append(tile)
        if isinstance(opened[tile], str):
            unreadable[row] = opened[tile]
    unread, reasons = list(unreadable), unreadable | told
    # Without a position, a row has no result, and goes the way of all others.
    asked = galaxies.copy()
    asked["ra"][unread] = np.nan
    first = np.full(len(galaxies), len(survey.table))
    first[rows[::-1]] = tiles[::-1]
    order = np.argsort(first, kind="stable")
    images = {band: [] for band in survey.bands}
    for image in opened.values():
        if not isinstance(image, str):
            images[image.band].append(image)
    images = {
        band: some or [_blank(survey.unit, points)] for band, some in images.items()
    }
    tables, at = [], 0
    with collected_reasons():
        for stack in iter_cutouts(images, asked[order], **cutting):
            part = order[at : at + len(stack)]
            stack.flags |= flags[part]
            if job["operation"] == "extract_cutouts":
                table, some = _stack_table(stack, survey.unit)
            else:
                table, some = _call(job, stack)
            some = {int(part[row]): text for row, text in some.items()}
            broken = {
                tile: f"{survey.table['path'][tile]}: {min(image.problems)}"
                for tile, image in opened.items()
                if getattr(image, "problems", None)
            }
            for row in part[stack.flags & int(Flag.UNREADABLE) > 0].tolist():
                own = broken.keys() & found.get(row, ())
                some[row] = "; ".join(broken[tile] for tile in sorted(own or broken))
                unread.append(row)
            lost = stack.flags & int(Flag.FAILED | Flag.TRUNCATED | Flag.UNREADABLE)
            off = part[lost == Flag.FAILED | Flag.TRUNCATED]
            some |= dict.fromkeys(off.tolist(), "no tile shows it")
            reasons = some | reasons
            tables.append(table)
            at += len(part)
    table = vstack(tables, metadata_conflicts="silent")[np.argsort(order)]
    table["flags"][unread] |= int(Flag.FAILED | Flag.UNREADABLE)
    for index, name in enumerate(("ra", "dec")):
        if name in table.colnames:
            table.remove_column(name)
        table.add_column(galaxies[name], name=name, index=index)
    return table, reasons


def _blank(unit, points):
    """Make an image on which nothing is, for a band none of whose tiles is near."""
    x, y, z = -points[np.isfinite(points).all(axis=1)][:1].sum(axis=0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = np.degrees([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    pixels = np.full((2, 2), np.nan)
    # It has an uncertainty, not to tell of the others that they have none.
    std = StdDevUncertainty(np.ones((2, 2)))
    return NDData(pixels, uncertainty=std, unit=unit, wcs=wcs)


def _stack_table(stack, unit):
    """Make a table of cutouts, with NaN where they are masked."""
    table = QTable(meta=dict(stack.meta) | {"NPIXELS": stack.data.shape[-1]})
    for index, band in enumerate(stack.bands):
        for name, values in {
            band: stack.data,
            f"{band}_err": stack.uncertainty,
        }.items():
            if values is None:
                continue
            values = u.Quantity(values[:, index], stack.unit, copy=True).to(unit)
            if stack.mask is not None:
                values[stack.mask[:, index]] = np.nan
            table[name] = values
    table["pixel_scale"] = stack.pixel_scale
    table["masked_fraction"] = stack.catalog["masked_fraction"]
    table["flags"] = stack.flags
    failed = np.flatnonzero(stack.flags & int(Flag.FAILED))
    return table, {row: "no usable pixel" for row in failed.tolist()}
