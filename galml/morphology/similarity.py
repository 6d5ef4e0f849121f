# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distances between latents, and the operation `similar`."""

from numbers import Integral

import numpy as np
import torch
from astropy.table import MaskedColumn, Row

from galml.core.exceptions import InputError, InputTypeError, check_whole
from galml.core.inference import progress_updates
from galml.core.inputs import is_table
from galml.core.results import warn_batch
from galml.morphology.tables import (
    Latents,
    Metric,
    check_models,
    read_latents,
    result_table,
)

__all__ = ["nearest", "similar"]

#: Rows of a table beyond which a search is approximate where nothing else is said.
LARGEST_EXACT = 1_000_000
#: Queries and rows whose distances are in memory at one time, and further candidates
#: whose order single precision may have confused.
QUERIES, ROWS, SPARE = 512, 32_768, 8
#: Neighbors of a point in the graph of an approximate search, and points that are
#: looked at when one is added and when one is searched.
CONNECTIVITY, EXPANSION = 32, 256


def similar(table, query, k=10, *, approximate=None, progress=False):
    r"""Find the galaxies that look the most like others.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.latents` gave, or any table with a column ``latent`` of shape
        (n, k), among which to search. Rows whose latents are NaN or masked are left
        out.
    query : int, str, array, table, or sequence of int or str
        What to search for: numbers or names of rows of the table, which are not
        neighbors of themselves; latents, shape (k,) or (m, k); or a table of latents
        of the same model, or of one that was adapted. The table itself searches for all
        of its rows.
    k : int, optional
        Number of neighbors of each query.
    approximate : bool, optional
        Whether a graph is searched, which misses a few neighbors; by default it is for
        tables of more than a million galaxies. It needs usearch.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        For each query in order ``k`` rows, by distance: ``query``, its number (of the
        row in the table, else among the queries); ``neighbor``, the number of a row of
        the table; ``distance``; ``query_name`` and ``neighbor_name``, where there are
        names; and ``flags``. Rows of a query without latents are masked and NaN, with
        the flags ``failed`` and ``nonfinite``, and one `~galml.core.GalmlWarning` sums
        up.

    Raises
    ------
    galml.core.InputError
        When the table has no latents, the query is no row of it, has another number
        of latents or is of another model, or there are fewer than ``k`` other galaxies.
    ImportError
        When the search is approximate, without usearch.

    Notes
    -----
    The distance is that of latents divided by their scatter among the galaxies of the
    table (from the median absolute deviation). Where the table has ``latent_err``, the
    median of these errors is part of the scatter, so that latents which say little
    count little; those of the surroundings, the last ``NAROUND`` of the metadata, count
    together as six do. Unrelated galaxies are about :math:`\sqrt{2k}` apart.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> import galml
    >>> latent = np.random.default_rng(0).normal(size=(500, 8))
    >>> latent[7] = latent[400] + 0.01
    >>> found = galml.similar(QTable({"latent": latent}), 7, 3)
    >>> int(found["neighbor"][0]), bool(found["distance"][0] < 0.1)
    (400, True)
    """
    known = read_latents(table, "table")
    asked, place = _read_query(query, known)
    check_whole("k", k, 1)
    others = known.usable.sum() - (place >= 0).any()
    if k > others:
        raise InputError("k", str(k), f"at most {others}, the other galaxies")
    rows = np.flatnonzero(known.usable)
    wanted = np.flatnonzero(asked.usable)
    metric = Metric.of(known).of_shapes(known)
    points, queries = metric(known.values[rows]), metric(asked.values[wanted])
    # Numbers among usable rows.
    own = np.where(place[wanted] < 0, -1, np.cumsum(known.usable)[place[wanted]] - 1)
    if approximate is None:
        approximate = len(rows) > LARGEST_EXACT
    search = _nearest_in_graph if approximate else nearest
    found, distance = search(queries, points, k, skip=own, progress=progress)

    neighbor = np.zeros((len(place), k), dtype=np.int64)
    distances = np.full((len(place), k), np.nan)
    neighbor[wanted], distances[wanted] = rows[found], distance
    number = np.where(place < 0, np.arange(len(place)), place)
    columns = {
        "query": np.repeat(number, k),
        "neighbor": neighbor.ravel(),
        "distance": distances.ravel(),
    }
    if asked.names is not None:
        columns["query_name"] = np.repeat(asked.names, k)
    if known.names is not None:
        columns["neighbor_name"] = known.names[columns["neighbor"]]
    if len(wanted) < len(place):
        missing = np.repeat(~asked.usable, k)
        for key in {"neighbor", "neighbor_name"} & set(columns):
            columns[key] = MaskedColumn(columns[key], mask=missing)
    call = {"k": k, "approximate": bool(approximate)}
    result = result_table(
        known, "similar", columns, np.repeat(asked.flags, k), call=call, names=None
    )
    warn_batch(asked.flags, InputError("query", "no latents", "finite numbers"))
    return result


def nearest(queries, points, k, *, skip=None, progress=False, name="similar"):
    """Find the nearest of many points, exactly, block by block.

    Parameters
    ----------
    queries, points : `~numpy.ndarray`
        Standardized latents, shapes (m, d) and (n, d), single precision.
    k : int
        Number of neighbors.
    skip : `~numpy.ndarray`, optional
        Shape (m,): for each query a point that is no neighbor of it, -1 for none.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.
    name : str, optional
        What the bar is called.

    Returns
    -------
    number, distance : `~numpy.ndarray`
        Shape (m, k), by distance.
    """
    found = np.empty((len(queries), k), dtype=np.int64)
    distance = np.empty((len(queries), k))
    skip = np.full(len(queries), -1) if skip is None else skip
    cloud = torch.from_numpy(np.ascontiguousarray(points))
    squares = cloud.square().sum(dim=1)
    with progress_updates(progress, len(queries), name=name) as update:
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            places = _candidates(queries[part], cloud, squares, k, skip[part])
            found[part], distance[part] = _closest(queries[part], points, places, k)
            update(len(places))
    return found, distance


def _candidates(queries, cloud, squares, k, skip):
    """Find points of which the nearest are among the first, but for rounding."""
    queries = torch.from_numpy(np.ascontiguousarray(queries))
    values = places = None
    for low in range(0, len(cloud), ROWS):
        block = cloud[low : low + ROWS]
        # Squared distances, but for what a query has in common with all points.
        score = torch.addmm(squares[low : low + ROWS], queries, block.T, alpha=-2)
        own = np.flatnonzero((skip >= low) & (skip < low + len(block)))
        score[own, skip[own] - low] = torch.inf
        new, which = score.topk(min(k + SPARE, len(block)), largest=False)
        if values is None:
            values, places = new, which
            continue
        values = torch.cat([values, new], dim=1)
        places = torch.cat([places, which + low], dim=1)
        values, which = values.topk(min(k + SPARE, values.shape[1]), largest=False)
        places = places.gather(1, which)
    return np.where(np.isinf(values.numpy()), -1, places.numpy())


def _closest(queries, points, places, k):
    """Order candidates (-1 for none) by their distances in double precision."""
    offsets = points[places].astype(float) - queries[:, None]
    distance = np.sqrt(np.square(offsets).sum(axis=2))
    distance[places < 0] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return (
        np.take_along_axis(places, order, axis=1),
        np.take_along_axis(distance, order, axis=1),
    )


def _nearest_in_graph(queries, points, k, *, skip, progress):
    """Do what `nearest` does by a graph of neighbors, which misses a few."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ImportError(
            "an approximate search needs usearch: pip install 'galml[all]'; "
            "approximate=False searches exactly"
        ) from error
    index = Index(
        ndim=points.shape[1],
        metric="l2sq",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION,
        expansion_search=EXPANSION,
    )
    count = min(k + 1 + SPARE, len(points))
    places = np.empty((len(queries), count), dtype=np.int64)
    total = len(points) + len(queries)
    with progress_updates(progress, total, name="similar") as update:
        for start in range(0, len(points), ROWS):
            block = points[start : start + ROWS]
            index.add(np.arange(start, start + len(block)), block)
            update(len(block))
        for start in range(0, len(queries), ROWS):
            block = queries[start : start + ROWS]
            places[start : start + ROWS] = index.search(block, count).keys
            update(len(block))
    places[places == skip[:, None]] = -1
    return _closest(queries, points, places, k)


def _read_query(query, known):
    """Read what is searched for, and which rows of the table that is (-1: none)."""
    if isinstance(query, Row) and query.table is known.table:
        query = query.index
    if query is known.table:
        return known, np.arange(len(known.values))
    if is_table(query):
        asked = read_latents(query, "query")
        check_models(known.table.meta, asked.table.meta, "query")
        place = np.full(len(asked.values), -1)
    else:
        values = np.asarray(getattr(query, "value", query))
        if values.dtype.kind == "O":
            # Text of pandas.
            values = np.asarray(values.tolist())
        if values.dtype.kind in "iuUS" and values.ndim <= 1 and values.size:
            place = np.array([_row_of(one, known) for one in np.atleast_1d(values)])
            names = None if known.names is None else known.names[place]
            asked = Latents(
                known.table, known.values[place], known.usable[place], names, None
            )
        elif values.dtype.kind == "f" and values.ndim in (1, 2) and values.size:
            asked = read_latents({"latent": np.atleast_2d(values)}, "query", least=0)
            place = np.full(len(asked.values), -1)
        else:
            got = f"{values.ndim}-D values of type {values.dtype}"
            expected = "numbers or names of rows, latents, or a table of latents"
            raise InputTypeError("query", got, expected)
    if asked.values.shape[1] != known.values.shape[1]:
        expected = f"{known.values.shape[1]} as in the table"
        raise InputError("query", f"{asked.values.shape[1]} latents", expected)
    if not asked.usable.any():
        raise InputError("query", "no latents", "finite numbers")
    return asked, place


def _row_of(one, known):
    """Find one row of a table, by its number or its name."""
    if isinstance(one, Integral):
        count = len(known.values)
        if not -count <= one < count:
            raise InputError("query", f"row {one}", f"one of {count} rows")
        return one % count
    one = one.decode() if isinstance(one, bytes) else str(one)
    rows = [] if known.names is None else np.flatnonzero(known.names == one)
    if len(rows) != 1:
        raise InputError("query", f"{len(rows)} rows with the name {one}", "one")
    return rows[0]
