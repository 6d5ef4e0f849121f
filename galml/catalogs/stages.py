# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is to be done for a run: stages, each of tasks that do not need each other.

A stage is a pair: how many rows are there already, and the tasks. A task is a function
of `galml.catalogs.work` and its arguments.
"""

from itertools import islice, repeat

import numpy as np
from astropy.table import QTable

from galml.catalogs.dataset import Dataset
from galml.catalogs.plan import count_equal, plan_order
from galml.catalogs.tiles import Survey
from galml.catalogs.work import (
    IDS,
    assemble,
    compute_group,
    compute_pixel,
    compute_rows,
    names_of,
)
from galml.core.weights import load_model

__all__ = ["pixel_stages", "row_stages", "tile_stages"]

#: Partitions that are put together at one time.
BLOCK = 64


def pixel_stages(job, source, missing, there):
    """Compute the partitions of a HATS catalog.

    Parameters
    ----------
    job : dict
        What all tasks share.
    source : `galml.catalogs.hats.HatsSource`
        The catalog.
    missing : dict of int to str
        Numbers and files of the partitions that are wanted.
    there : int
        Rows of the others.

    Yields
    ------
    tuple
        The stages.
    """
    job = job | {"places": source.names, "units": source.units}
    tasks = (
        (compute_pixel, job, number, name, source.frames(number))
        for number, name in missing.items()
    )
    yield there, tasks


def row_stages(job, source, missing, there, size):
    """Compute partitions of consecutive rows.

    Parameters
    ----------
    job : dict
        What all tasks share.
    source : object
        From `galml.catalogs.sources.open_source`.
    missing : dict of int to str
        Numbers and files of the partitions that are wanted.
    there : int
        Rows of the others.
    size : int
        Rows in a partition.

    Yields
    ------
    tuple
        The stages.
    """
    stars = job["operation"] == "sample_stars"
    numbered = stars and not set(IDS) & set(source.names)
    counted = stars and "realization" not in source.names

    def tasks():
        equal = None
        if counted:
            model = load_model(job["model"], operation=job["operation"])
            equal = count_equal(source, model)
        for number, batch in enumerate(islice(source.batches(size), max(missing) + 1)):
            if numbered:
                batch["galaxy_id"] = number * size + np.arange(len(batch))
            if counted:
                batch["realization"] = equal[number * size :][: len(batch)]
            if number in missing:
                yield compute_rows, job, number, missing[number], batch

    yield there, tasks()


def tile_stages(job, source, missing, size):
    """Compute galaxies tile by tile, and then put them into the order of the catalog.

    Parameters
    ----------
    job : dict
        What all tasks share.
    source : object
        From `galml.catalogs.sources.open_source`.
    missing : dict of int to str
        Numbers and files of the partitions that are wanted.
    size : int
        Rows in a partition.

    Yields
    ------
    tuple
        The stages.
    """
    total, block = source.length, BLOCK * size
    starts = range(0, total, size)
    job = job | {"size": size, "block": block}
    dataset = Dataset(job["output"])
    done = [dataset.group(number).exists() for number in range(len(starts))]
    plan = plan_order(source, Survey(QTable.read(job["tiles"])), job["cutting"])
    computed_in = np.empty(total, np.int32)
    computed_in[plan.order] = np.arange(total) // size

    def groups():
        for number, start in enumerate(starts):
            rows = plan.order[start : start + size]
            if not done[number]:
                galaxies, flags = plan.galaxies[rows], plan.flags[rows]
                told = {
                    place: plan.reasons[row]
                    for place, row in enumerate(rows.tolist())
                    if row in plan.reasons
                }
                yield compute_group, job, number, galaxies, rows, flags, told

    def blocks():
        ids = [name for name in IDS[1:] if name in source.names][:1]
        batches = source.batches(block, ids) if ids else repeat(None)
        for start, batch in zip(range(0, total, block), batches, strict=False):
            stop = min(start + block, total)
            numbers = range(start // size, -(-stop // size))
            parts = {number: missing[number] for number in numbers if number in missing}
            if parts:
                names = None if batch is None else names_of(batch)
                needed = np.unique(computed_in[start:stop]).tolist()
                yield assemble, job, start, stop, needed, parts, names

    there = sum(
        min(size, total - start)
        for start, is_done in zip(starts, done, strict=True)
        if is_done
    )
    yield there, groups()
    yield 0, blocks()
