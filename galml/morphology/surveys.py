# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The same galaxies in two surveys."""

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.inference import progress_updates
from galml.core.results import warn_batch
from galml.cutouts.targets import read_catalog
from galml.morphology.tables import (
    Metric,
    check_models,
    read_latents,
    result_table,
)

__all__ = ["match_surveys", "pair_distances"]

#: Galaxies of both surveys whose distances are in memory at one time.
BLOCK = (512, 16_384)


def match_surveys(a, b, max_separation, *, progress=False):
    """Find the galaxies of two surveys that are the same, by their positions.

    Parameters
    ----------
    a, b : `~astropy.table.QTable`
        What `galml.latents` gave for each survey with one model, or with one that
        `galml.adapt` made of it, and positions beside: a column of
        `~astropy.coordinates.SkyCoord`, or ``ra`` and ``dec`` (degrees unless they have
        a unit).
    max_separation : `~astropy.units.Quantity`
        Largest angle between both positions.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        What `pair_distances` gives, with ``separation`` (arcsec): one row for each pair
        of which both are the nearest of the other on the sky.

    Raises
    ------
    galml.core.InputError
        When a table has no latents or no positions, or latents of the tables differ in
        number or are of different models.
    galml.core.InputUnitError
        When ``max_separation`` is not an angle.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from galml.morphology import match_surveys
    >>> latent = np.random.default_rng(0).normal(size=(50, 8))
    >>> a = QTable({"latent": latent, "ra": np.arange(50.0), "dec": np.zeros(50)})
    >>> b = a[::-1]
    >>> pairs = match_surveys(a, b, 1 * u.arcsec)
    >>> len(pairs), bool((pairs["index_a"] + pairs["index_b"] == 49).all())
    (50, True)
    """
    limit = _angle(max_separation)
    first, second = read_latents(a, "a"), read_latents(b, "b")
    skies, rows = [], []
    for known, argument in ((first, "a"), (second, "b")):
        try:
            _, sky, _ = read_catalog(known.table, None)
        except InputError as error:
            raise type(error)(argument, error.got, error.expected) from error
        where = np.flatnonzero(np.isfinite(sky.ra) & np.isfinite(sky.dec))
        skies.append(sky[where])
        rows.append(where)
    if min(map(len, skies)):
        there, separation, _ = skies[0].match_to_catalog_sky(skies[1])
        back, _, _ = skies[1].match_to_catalog_sky(skies[0])
        same = back[there] == np.arange(len(there))
        same &= separation <= limit
        pairs = rows[0][same], rows[1][there[same]]
        separation = separation[same].to(u.arcsec)
    else:
        pairs, separation = (np.zeros(0, int),) * 2, np.zeros(0) * u.arcsec
    return _paired(
        first,
        second,
        pairs,
        "match_surveys",
        {"separation": u.Quantity(separation)},
        {"max_separation": max_separation},
        progress,
    )


def pair_distances(a, b, *, progress=False):
    """Measure how much alike the same galaxies look in two surveys.

    Parameters
    ----------
    a, b : `~astropy.table.QTable`
        What `galml.latents` gave for each survey, with one model, or with one that
        `galml.adapt` made of it. Galaxies with the same ``name`` are pairs, where both
        tables have names; else those in the same rows.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each pair, from the most alike to the least: ``index_a`` and
        ``index_b``, the rows; ``name_a`` and ``name_b`` (if there); ``distance`` of the
        latents; ``partner_rank``, the place of the partner among all galaxies of ``b``
        by distance from the one of ``a``, 1 where none looks more like it; and
        ``flags``. Pairs without latents come last, NaN with the flag ``failed`` and a
        rank of 0, and one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        When a table has no latents, their numbers or models differ, the tables have no
        names and different lengths, or names are not unique.

    Notes
    -----
    Latents are divided by their scatter among the galaxies of both surveys, as in
    `galml.similar`. What all galaxies of a survey have in common is part of the
    distance: that is what `galml.adapt` is to take away.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from galml.morphology import pair_distances
    >>> latent = np.random.default_rng(0).normal(size=(100, 8))
    >>> noisy = latent + 0.01
    >>> noisy[3] += 1.0
    >>> pairs = pair_distances(QTable({"latent": latent}), QTable({"latent": noisy}))
    >>> int(pairs["index_a"][-1]), int(pairs["partner_rank"][0])
    (3, 1)
    """
    first, second = read_latents(a, "a"), read_latents(b, "b")
    counts = [len(known.values) for known in (first, second)]
    if first.names is None or second.names is None:
        if counts[0] != counts[1]:
            got = f"{counts[1]} rows, and not names in both tables"
            raise InputError("b", got, f"names, or {counts[0]} rows as in a")
        pairs = (np.arange(counts[0]),) * 2
    else:
        for known, argument in ((first, "a"), (second, "b")):
            given = known.names[known.names != ""]
            if len(np.unique(given)) < len(given):
                raise InputError(argument, "a name of several rows", "unique names")
        same, *pairs = np.intersect1d(first.names, second.names, return_indices=True)
        pairs = [rows[same != ""] for rows in pairs]
    return _paired(first, second, pairs, "pair_distances", {}, {}, progress)


def _paired(first, second, pairs, operation, columns, call, progress):
    """Build the table of pairs, given their rows."""
    check_models(first.table.meta, second.table.meta, "b")
    if first.values.shape[1] != second.values.shape[1]:
        expected = f"{first.values.shape[1]} as in a"
        raise InputError("b", f"{second.values.shape[1]} latents", expected)
    metric = Metric.of(first, second).of_shapes(first)
    usable = first.usable[pairs[0]] & second.usable[pairs[1]]
    ours = metric(first.values[pairs[0][usable]]).astype(float)
    theirs = metric(second.values[pairs[1][usable]]).astype(float)
    distance = np.full(len(usable), np.nan)
    distance[usable] = np.linalg.norm(ours - theirs, axis=1)
    rank = np.zeros(len(usable), dtype=np.int64)
    others = metric(second.values[second.usable]).astype(float)
    own = (np.cumsum(second.usable) - 1)[pairs[1][usable]]
    rank[usable] = 1 + _closer(ours, others, own, progress)
    found = {"index_a": pairs[0], "index_b": pairs[1]}
    for key, known in (("a", first), ("b", second)):
        if known.names is not None:
            found[f"name_{key}"] = known.names[found[f"index_{key}"]]
    found |= {**columns, "distance": distance, "partner_rank": rank}
    order = np.argsort(distance, kind="stable")
    flags = np.where(usable, 0, int(Flag.FAILED | Flag.NONFINITE))[order]
    result = result_table(
        first,
        operation,
        {key: column[order] for key, column in found.items()},
        flags,
        call=call,
        names=None,
    )
    warn_batch(flags, InputError("a", "no latents", "finite numbers"), stacklevel=4)
    return result


def _closer(points, others, own, progress):
    """Count the points that are closer than one's own, in double precision."""
    cloud, squares = torch.from_numpy(others), torch.from_numpy(others).square().sum(1)
    count = np.zeros(len(points), dtype=np.int64)
    with progress_updates(progress, len(points), name="pairs") as update:
        for start in range(0, len(points), BLOCK[0]):
            part = slice(start, start + BLOCK[0])
            queries, mine = torch.from_numpy(points[part]), own[part]
            # Squared distances, but for what a query has in common with all points.
            limit = squares[mine] - 2 * (queries * cloud[mine]).sum(dim=1)
            limit -= 1e-9 * (1 + limit.abs())
            for low in range(0, len(cloud), BLOCK[1]):
                block = slice(low, low + BLOCK[1])
                score = torch.addmm(squares[block], queries, cloud[block].T, alpha=-2)
                count[part] += (score < limit[:, None]).sum(dim=1).numpy()
            update(len(queries))
    return count


def _angle(value):
    """Check the largest separation."""
    if not isinstance(value, u.Quantity):
        raise InputTypeError("max_separation", repr(value), "a Quantity")
    if not value.unit.is_equivalent(u.arcsec):
        raise InputUnitError("max_separation", f"the unit {value.unit}", "an angle")
    if not (value.isscalar and np.isfinite(value) and value > 0):
        raise InputError("max_separation", f"{value}", "one angle above zero")
    return value
