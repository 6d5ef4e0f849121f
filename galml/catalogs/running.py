# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Operations on catalogs, partition by partition."""

import hashlib
import inspect
import os
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice

import numpy as np
from astropy.table import QTable
from tqdm import tqdm

import galml
from galml.catalogs.dataset import Dataset
from galml.catalogs.tiles import expand, index
from galml.catalogs.work import compute
from galml.core.domain import find_object, operations
from galml.core.exceptions import GalmlWarning, InputError
from galml.core.files import read_table
from galml.core.inputs import as_table
from galml.core.runs import identity, locked
from galml.cutouts.targets import R_EFF
from galml.physics import fresh_seed

__all__ = ["run"]

#: Rows from which on the processors of this machine share the work.
SMALL = 20_000
#: Partitions that wait on each worker: what is in memory at one time.
WAITING = 2


def run(
    operation,
    catalog,
    *,
    images=None,
    output,
    scheduler=None,
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
        Name of an operation, such as "spin".
    catalog : `~astropy.table.Table`, str, path-like or sequence of these
        A row for each galaxy; or files, or patterns, of such tables: parquet, FITS or
        ECSV. With images, it has ``ra`` and ``dec`` (degrees unless they have a unit),
        and ``r_eff`` (an angle); without, it is what the operation takes.
    images : str, sequence, mapping, or `~astropy.table.QTable`, optional
        Tiles of a survey: files or patterns, by band or with their bands in the
        headers, or what `galml.catalogs.index` made of them. No more is read of them
        than the galaxies need; each partition opens a tile once, so that catalogs are
        best in an order in which neighbors on the sky stand together.
    output : str or path-like
        The folder.
    scheduler : str, `distributed.Client` or None, optional
        Where: address of a scheduler or a client, used as it is; "none" is this
        process, "local" all processors of this machine, each with a worker that
        computes with one thread. By default "local" where there are many rows. Workers
        see the files, and the folder, under the same names.
    size, n_pixels : optional
        With images, side of the cutouts and pixels on it as in
        `galml.extract_cutouts`; by default those that the model was made for.
    partition_size : int, optional
        Rows in a partition.
    progress : bool, optional
        Whether to show a progress bar.
    **options
        Keywords of the operation, the same for all galaxies.

    Returns
    -------
    dict
        ``rows`` and ``partitions`` of the whole; ``computed``, the partitions that were
        not there before; and ``failed``, their rows that have no result.

    Raises
    ------
    galml.core.InputError
        For an unknown operation or option, or inputs that cannot be used.
    galml.core.FileError
        If the folder is that of a run with other options or inputs, or if another run
        is writing it.
    ImportError
        If the processors are to share the work and dask is not installed.

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
    if operation not in operations():
        known = ", ".join(operations())
        raise InputError("operation", repr(operation), f"one of {known}")
    if not isinstance(partition_size, int) or partition_size < 1:
        raise InputError("partition_size", repr(partition_size), "a number above zero")
    accepted = inspect.signature(find_object(operations()[operation].function))
    for name in options:
        if name not in accepted.parameters:
            known = ", ".join(accepted.parameters)
            raise InputError(name, f"an option unknown to {operation}", known)
    table, made_from = _read(catalog)
    tiles = None
    if images is not None:
        tiles = images if isinstance(images, QTable) else index(images)
    model = _model(operation, options, accepted.parameters)
    cutting = None if tiles is None else _cutting(model, tiles, size, n_pixels)
    used = [] if tiles is None else [identity(path) for path in tiles["path"]]
    configuration = [
        galml.__version__,
        operation,
        made_from,
        used,
        getattr(model, "sha256", None),
        {key: repr(value) for key, value in options.items() if key != "model"},
        repr(cutting),
        partition_size,
    ]
    if operation == "sample_stars" and not {"galaxy_id", "name", "id"} & set(
        table.colnames
    ):
        table["galaxy_id"] = np.arange(len(table))
    starts = range(0, len(table), partition_size)
    defaults = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "partitions": len(starts),
        "seed": fresh_seed(),
    }
    dataset = Dataset(output)
    dataset.path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with locked(dataset.path.absolute()):
        stamp = dataset.open(configuration, defaults)
        dataset.clean()
        if "seed" in accepted.parameters and options.get("seed") is None:
            options["seed"] = stamp["seed"]
        job = {
            "operation": operation,
            "output": os.path.abspath(output),
            "options": options,
            "tiles": tiles,
            "cutting": cutting,
        }
        done = dataset.done()
        wanted = [
            (number, start)
            for number, start in enumerate(starts)
            if dataset.part(number).name not in done
        ]
        parts = (
            (number, start, table[start : start + partition_size])
            for number, start in wanted
        )
        if scheduler is None:
            many = len(wanted) * partition_size > SMALL
            scheduler = "local" if many else "none"
        failed, bar = 0, tqdm(total=len(table), disable=not progress, unit="galaxy")
        with bar:
            bar.update(
                len(table) - sum(len(table[s : s + partition_size]) for _, s in wanted)
            )
            for rows, lost in _results(job, parts, scheduler):
                failed += lost
                bar.update(rows)
                bar.set_postfix(failed=failed)
    if failed:
        warnings.warn(
            f"{failed} rows have no result: see galml.catalogs.failures({output!r})",
            GalmlWarning,
            stacklevel=2,
        )
    return {
        "rows": len(table),
        "partitions": len(starts),
        "computed": len(wanted),
        "failed": failed,
    }


def _read(catalog):
    """Read the catalog, and tell what it was."""
    if isinstance(catalog, str | os.PathLike | list | tuple):
        from astropy.table import vstack

        paths = expand(catalog)
        tables = [read_table(path, argument="catalog") for path in paths]
        table = vstack(tables, metadata_conflicts="silent")
        return table, [identity(path) for path in paths]
    table = QTable(as_table(catalog, "catalog"), copy=True)
    digest = hashlib.sha256()
    for name in table.colnames:
        column = table[name]
        values = np.asarray(getattr(column, "value", column))
        text = values.dtype.hasobject
        digest.update(f"{name} {getattr(column, 'unit', None)} {values.dtype}".encode())
        digest.update(repr(values.tolist()).encode() if text else values.tobytes())
    return table, digest.hexdigest()


def _model(operation, options, parameters):
    """Load the model once, so that a wrong one is found before there are workers."""
    if "model" not in parameters:
        return None
    return galml.load_model(options.get("model", "default"), operation=operation)


def _cutting(model, tiles, size, n_pixels):
    """Give the grid of the cutouts; by default that of what a network is shown."""
    spec = getattr(model, "input_spec", None)
    if size is None:
        if spec is None or spec.width_unit != "r_eff":
            raise InputError("size", "None", "a side, for images without a fixed one")
        cells = max(spec.grid)
        # Wider than the grid where an image is turned before it is shown.
        n_pixels = int(spec.parameters.get("wide_cells", cells))
        size = 2 * spec.half_width * n_pixels / cells * R_EFF
    hdu = str(tiles["hdu"][0])
    return {
        "size": size,
        "n_pixels": n_pixels,
        # Whichever tile comes first where a galaxy is.
        "pixel_scale": tiles["pixel_scale"][0] if n_pixels is None else None,
        "hdu": int(hdu) if hdu.isdecimal() else hdu or None,
    }


def _results(job, parts, scheduler):
    """Compute partitions, a few at a time, and give rows and failures of each."""
    if isinstance(scheduler, str) and scheduler == "none":
        for part in parts:
            yield compute(job, *part, False)
        return
    try:
        from distributed import as_completed
    except ImportError as error:
        message = "several workers need dask: pip install 'galml[distributed]'"
        raise ImportError(message) from error
    with _client(scheduler) as client:
        shared = client.scatter(job, broadcast=True, hash=False)
        workers = max(1, sum(client.nthreads().values()))

        def submit(part):
            return client.submit(compute, shared, *part, True, pure=False)

        parts = iter(parts)
        first = [submit(part) for part in islice(parts, WAITING * workers)]
        waiting = as_completed(first)
        for future in waiting:
            yield future.result()
            future.release()
            for part in parts:
                waiting.add(submit(part))
                break


@contextmanager
def _client(scheduler):
    """Connect to a scheduler, or start one here that ends itself."""
    from distributed import Client, LocalCluster

    if isinstance(scheduler, Client):
        yield scheduler
    elif scheduler == "local":
        workers = os.cpu_count() or 1
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
    else:
        with Client(scheduler) as client:
            yield client
