# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Operations on catalogs, partition by partition."""

import hashlib
import inspect
import os
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
from astropy.nddata import NDData
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from tqdm import tqdm

import galml
from galml.catalogs.clusters import workers
from galml.catalogs.dataset import IMAGES, Dataset, partition_name
from galml.catalogs.hats import PROPERTIES, HatsSource, finish_hats, is_hats
from galml.catalogs.held import content_of
from galml.catalogs.plan import STRIP
from galml.catalogs.sources import digest, open_source
from galml.catalogs.stages import pixel_stages, row_stages, tile_stages
from galml.catalogs.tiles import as_index
from galml.catalogs.work import close_tiles
from galml.core.domain import find_domain, find_object, operations
from galml.core.exceptions import GalmlWarning, InputError, check_whole
from galml.core.runs import identity
from galml.core.threads import ignoring
from galml.cutouts.targets import R_EFF
from galml.imaging.reading import FILE_COLUMNS
from galml.physics import stable_seed

__all__ = ["run"]

#: Rows from which on the processors of this machine share the work.
SMALL = 20_000
#: Operations on images, which are those of tiles or of the catalog itself.
OF_IMAGES = ("spin", "merger", "contamination", "latents")
#: Operations that look at all galaxies of a table together, or give no table.
OF_TABLES = (
    "reconstruct",
    "outliers",
    "similar",
    "classify",
    "project",
    "explore",
    "fraction",
)


def run(
    operation,
    catalog,
    *,
    images=None,
    hdu=None,
    unit=None,
    output,
    scheduler=None,
    units=None,
    size=None,
    n_pixels=None,
    partition_size=4096,
    progress=False,
    **options,
):
    """Carry out an operation for each row of a catalog, into a folder of parquet files.

    Each partition appears whole or not at all. If a run is interrupted, the same call
    goes on where it stopped, and gives the same files as a run that was not.

    Parameters
    ----------
    operation : str
        Name of an operation, such as "spin". Of "extract_cutouts", the columns are the
        bands, with NaN where pixels are masked, and their errors.
    catalog : object
        A row for each galaxy. With images, it has ``ra`` and ``dec`` (degrees unless
        they have a unit), and ``r_eff`` (an angle); without, it is what the operation
        takes. It is one of:

        - a `~astropy.table.Table`;
        - files, or patterns of their names: parquet, which is read piece by piece, FITS
          or ECSV, which is read at once;
        - a dask dataframe, of which one partition is read at a time;
        - a HATS catalog: its folder, or a `lsdb.catalog.Catalog`. Then the result is
          one, too, with the same partitions, each of which is computed by itself:
          neighbors in another one are flagged as far as the catalog's margin reaches.
    images : object, sequence, mapping of str to these, or table, optional
        Tiles of a survey: files or patterns, `~astropy.nddata.CCDData` or other
        `~astropy.nddata.NDData` with a WCS, by band or with their bands in the headers;
        or what `galml.catalogs.index` made of files. No more is read of them than the
        galaxies need, tile after tile, whatever the order of the catalog: each worker
        opens a tile once. Galaxies on seams are made of all tiles they are on. Those
        in memory are files of the folder until the run is done.
    hdu : int, str or tuple, optional
        Extension of the tiles, as for `galml.catalogs.index`; without images, a keyword
        of the operation.
    unit : `~astropy.units.UnitBase` or str, optional
        Of tiles that have none; without images, a keyword of the operation.
    output : str or path-like
        The folder.
    scheduler : str, `distributed.Client` or None, optional
        Where: address of a scheduler or a client, used as it is; "none" is this
        process, "local" a `distributed.LocalCluster` of all processors of this machine,
        which ends with the run. By default "local" for more than 20 000 rows: a script
        has to call that below ``if __name__ == "__main__":``. Each task has one thread.
        Workers see the files, and the folder, under the same names; where some have
        the resource ``GPU``, those are asked.
    units : mapping of str to unit, optional
        Units of columns of which the catalog does not tell any. Parquet files tell them
        as astropy writes them, or as a VOTable.
    size, n_pixels : optional
        With images, side of the cutouts and pixels on it as in
        `galml.extract_cutouts`; by default those that the model was made for.
    partition_size : int, optional
        Rows in a partition, which are in memory at one time; but for HATS catalogs.
    progress : bool, optional
        Whether to show how many galaxies are done and without result, how fast, and
        for how long still.
    **options
        Keywords of the operation, the same for all galaxies. Without ``seed``, the same
        call has the same one.

    Returns
    -------
    dict
        ``rows`` and ``partitions`` of the whole; ``computed``, the partitions that were
        not there before; and ``failed``, the rows of the whole that have no result.

    Raises
    ------
    galml.core.InputError
        For an unknown operation or option, or inputs that cannot be used.
    galml.core.FileError
        If the folder is that of a run with other options or inputs, or if another run
        is writing it.
    galml.core.RunError
        If the scheduler is lost, or partitions that kill each worker they come to. What
        is done stays, and the same call goes on, as after a full disk, an `OSError`.
    ImportError
        If the processors are to share the work and dask is not installed, or for HATS
        catalogs without LSDB.

    Warns
    -----
    galml.core.GalmlWarning
        Once, when rows have no result; `galml.catalogs.failures` tells why.

    See Also
    --------
    galml.catalogs.read : Read the results.

    Examples
    --------
    >>> import tempfile
    >>> import astropy.units as u
    >>> from astropy.table import QTable
    >>> from galml import catalogs
    >>> galaxies = QTable(
    ...     {
    ...         "stellar_mass": [1e10, 3e10] * u.Msun,
    ...         "median_age": [5, 6] * u.Gyr,
    ...         "age_percentile_10": [1, 2] * u.Gyr,
    ...         "metallicity": [0.01, 0.02],
    ...     }
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = folder + "/stars"
    ...     summary = catalogs.run(
    ...         "sample_stars", galaxies, output=output, n=100, seed=1
    ...     )
    ...     stars = catalogs.read(output)
    >>> summary["rows"], summary["failed"], len(stars)
    (2, 0, 200)
    """
    dataset = Dataset(output)
    if images is None:
        given = {"hdu": hdu, "unit": unit}
        options |= {name: value for name, value in given.items() if value is not None}
    accepted = _check(operation, options, partition_size)
    partition_size = int(partition_size)
    _check_size(operation, images, size, n_pixels)
    if is_hats(catalog):
        source = HatsSource(catalog, units, images is not None)
    else:
        source = open_source(catalog, units)
    _check_rows(options, source.length)
    if images is None and operation in OF_IMAGES and not _has_images(source):
        expected = "tiles, or a catalog with a column of images or of their files"
        raise InputError("images", "None", f"{expected}, for {operation}")
    tiles, cutting, held = None, None, {}
    model = _model(operation, options, accepted)
    if images is not None:
        # What is wrong with tiles is told of the galaxies on them.
        with ignoring(AstropyUserWarning):
            tiles, held = as_index(images, hdu, unit, str(dataset.path / IMAGES))
        cutting = _cutting(model, tiles, size, n_pixels, options.get("filter"))
        if operation == "extract_cutouts":
            cutting |= options
    made_from = _files_of(source) if tiles is None else []
    if tiles is not None:
        names = "band", "hdu", "unit"
        told = (np.ma.filled(tiles[name], "").tolist() for name in names)
        made_from = [*told, *(_told(path, held) for path in tiles["path"])]
    configuration = [
        galml.__version__,
        operation,
        source.identity,
        made_from,
        getattr(model, "sha256", None),
        {name: _fingerprint(options[name]) for name in options if name != "model"},
        _fingerprint(cutting),
        partition_size,
        {name: str(unit) for name, unit in (units or {}).items()},
    ]
    pixels = getattr(source, "pixels", None)
    defaults = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "partitions": len(pixels or range(0, source.length, partition_size)),
        "pixels": pixels,
    }
    with dataset.open(configuration, defaults) as stamp:
        if "seed" in accepted and options.get("seed") is None:
            options["seed"] = stable_seed(stamp["configuration"]) % 2**31
        job = _job(dataset, operation, options, model, tiles, cutting)
        job["configuration"] = stamp["configuration"]
        before = dataset.done()
        missing = {
            number: partition_name(stamp, number)
            for number in range(stamp["partitions"])
            if number not in before
        }
        if scheduler is None:
            few = source.length is not None and source.length <= SMALL
            scheduler = "none" if few or not missing else "local"
        there = sum(part["rows"] for part in before.values())
        if pixels is not None:
            stages = pixel_stages(job, source, missing, there)
        elif tiles is None:
            stages = row_stages(job, source, missing, there, partition_size)
        else:
            stages = tile_stages(job, source, missing, partition_size)
        if missing:
            for path, hdus in held.items():
                with dataset.replacing(Path(path)) as temporary:
                    hdus.writeto(temporary)
            failed = sum(len(part["failed"]) for part in before.values())
            carried = workers(scheduler, partial(close_tiles, job["run"]))
            _compute(stages, carried, source.length, failed, progress)
        dataset.forget_groups()
        described = (dataset.path / PROPERTIES[0]).exists()
        if pixels is not None and (missing or not described):
            finish_hats(source.catalog, dataset.path, pixels)
        done = dataset.done().values()
    summary = {
        "rows": sum(part["rows"] for part in done),
        "partitions": len(done),
        "computed": len(missing),
        "failed": sum(len(part["failed"]) for part in done),
    }
    if summary["failed"]:
        warnings.warn(
            f"{summary['failed']} of {summary['rows']} rows have no result: see "
            f"galml.catalogs.failures({os.fspath(output)!r})",
            GalmlWarning,
            stacklevel=2,
        )
    return summary


def _check(operation, options, partition_size):
    """Check arguments, and give those of the operation."""
    known = [name for name in operations() if name not in OF_TABLES]
    if operation not in known:
        raise InputError("operation", repr(operation), f"one of {', '.join(known)}")
    check_whole("partition_size", partition_size)
    function = find_object(operations()[operation].function)
    _, *accepted = inspect.signature(function).parameters
    for name in options:
        if name not in accepted:
            known = ", ".join(accepted)
            raise InputError(name, f"an option unknown to {operation}", known)
    return accepted


def _check_rows(options, length):
    """Raise where there is a value for each galaxy: rows have another order here."""
    for name, value in options.items():
        whole = isinstance(value, str | Mapping | Table | NDData)
        if whole or not np.shape(value) or len(value) != length or length == 1:
            continue
        # Names are those of bands or of columns, and widths of one axis those of bands.
        named = all(isinstance(one, str) for one in value)
        if not named and (name != "psf_fwhm" or np.ndim(value[0])):
            expected = "one value for all, or a column of the catalog"
            raise InputError(name, f"{length} values, one for each galaxy", expected)


def _check_size(operation, images, size, n_pixels):
    """Check what only belongs to images."""
    if images is None and operation == "extract_cutouts":
        raise InputError("images", "None", f"images, for {operation}")
    if size is None and n_pixels is not None:
        raise InputError("n_pixels", f"{n_pixels} without a size", "a size")
    if images is None and size is not None:
        raise InputError("size", f"{size} without images", "images")


def _has_images(source):
    """Tell whether a catalog may have images of its own."""
    named = {name.lower() for name in source.names} & {*FILE_COLUMNS}
    return bool(named or getattr(source, "images", ()))


def _files_of(source):
    """Tell the files that a catalog names from others, and from what they were."""
    names = [name for name in source.names if name.lower() in FILE_COLUMNS]
    if not names or not hasattr(source, "batches"):
        return []
    found = hashlib.sha256()
    for batch in source.batches(STRIP, names):
        for name in names:
            column = np.ma.filled(np.ma.asarray(batch[name]).astype(str), "")
            for path in column.tolist():
                found.update(repr(identity(os.path.expanduser(path))).encode())
    return [found.hexdigest()]


def _told(path, held):
    """Tell a tile from others: a file, or an image in memory."""
    return content_of(held[path]) if path in held else identity(path)


def _fingerprint(value):
    """Tell a value from others; arrays and tables by all of their elements."""
    if isinstance(value, Table):
        return digest(QTable(value, copy=False))
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return hashlib.sha256(repr(value).encode()).hexdigest()


def _model(operation, options, accepted):
    """Load the model once, so that a wrong one is found before there are workers."""
    if "model" not in accepted:
        return None
    return galml.load_model(options.get("model", "default"), operation=operation)


def _cutting(model, tiles, size, n_pixels, filter):
    """Give the grid of the cutouts; by default that of what a network is shown."""
    spec = getattr(model, "input_spec", None)
    if size is None:
        if spec is not None and spec.width_unit == "r_eff":
            cells = max(spec.grid)
            # Wider than the grid where an image is turned before it is shown.
            n_pixels = int(spec.parameters.get("wide_cells", cells))
            size = 2 * spec.half_width * n_pixels / cells * R_EFF
        elif spec is not None and spec.width_unit == "field":
            asked = {} if filter is None else {"filter": filter}
            bands = dict.fromkeys(tiles["band"].tolist())
            size = find_domain(model, **asked).fixed_width(tuple(bands))
        else:
            raise InputError("size", "None", "a side, for images without a fixed one")
    # Whichever tile comes first where a galaxy is.
    scale = tiles["pixel_scale"][0] if n_pixels is None else None
    return {"size": size, "n_pixels": n_pixels, "pixel_scale": scale}


def _job(dataset, operation, options, model, tiles, cutting):
    """Gather what workers have to know, and leave in the folder what is large."""
    options = dict(options)
    job = {
        "output": str(dataset.path),
        "run": uuid4().hex,
        "model": options.pop("model", "default"),
        "operation": operation,
        "sha256": getattr(model, "sha256", None),
        "options": options,
        "cutting": cutting,
        "tiles": str(dataset.path / "_tiles.fits"),
    }
    if tiles is not None:
        with dataset.replacing(dataset.path / "_tiles.fits") as temporary:
            tiles.write(temporary, format="fits")
    if not isinstance(job["model"], str) or os.path.isfile(job["model"]):
        # Workers need not be where the path leads.
        with dataset.replacing(dataset.path / "_model.safetensors") as temporary:
            model.save(temporary)
        job["model"] = str(dataset.path / "_model.safetensors")
    return job


def _compute(stages, carried, total, failed, progress):
    """Carry out all stages, and show how far they are."""
    with (
        carried as carry_out,
        tqdm(total=total, disable=not progress, unit="galaxy") as bar,
    ):
        for there, tasks in stages:
            if progress:
                # What was there before has no part in the rate.
                bar.initial += there
                bar.update(there)
            for rows, lost in carry_out(tasks):
                failed += lost
                bar.set_postfix(failed=failed, refresh=False)
                bar.update(rows)
