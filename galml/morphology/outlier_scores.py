# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `outliers`: galaxies that look like few others."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch

from galml.core.exceptions import InputError, InputTypeError, check_whole
from galml.core.flags import Flag
from galml.core.results import warn_batch
from galml.morphology.classification import read_labels
from galml.morphology.similarity import nearest
from galml.morphology.tables import (
    Metric,
    check_models,
    is_nothing,
    of_pandas,
    read_latents,
    result_table,
)
from galml.physics import fresh_seed, generator_for

__all__ = ["outliers"]

#: Nearest ordinary galaxies whose mean distance is the score, and the largest number
#: of ordinary galaxies among which they are searched.
NEIGHBORS, LARGEST = 10, 20_000
#: What has a score of its own.
PARTS = ("galaxies", "surroundings")
#: Scatters from the mean beyond which a galaxy does not count for the center of its
#: class (Xu et al. 2023).
CUT = 8.0
#: Lengths over which ratings of galaxies resemble each other, in typical distances of
#: two galaxies; variance of ratings that is no such resemblance, relative to that which
#: is; and what an outlier of one sigma is expected to have in ratings of 0 to 1.
LENGTHS, NOISE, EXPECTED = (0.5, 0.7, 1.0, 1.4, 2.0), 1.0, 0.1
#: Galaxies whose resemblance with the rated ones is in memory at one time.
CHUNK = 8192


def outliers(
    table,
    *,
    ratings=None,
    by=None,
    reference=None,
    seed=None,
    progress=False,
):
    r"""Find the galaxies that look like few others.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.latents` gave, or any table with a column ``latent`` of shape
        (n, k). Where it has ``reconstruction_error`` and ``ssim``, the logarithms of
        the error and of 1 - SSIM are further coordinates: a galaxy that the latents
        cannot describe is far from others too.
    ratings : str, array or mapping, optional
        How interesting you find some of the galaxies, from 0 to 1, or to 5 where any is
        above 1: the column that has it, or one for each row, NaN or masked where there
        is none, or by ``name``.
    by : str or array, optional
        Class of each galaxy, or the column that has it, for scores within classes as
        published [1]_.
    reference : `~astropy.table.QTable`, optional
        Latents of ordinary galaxies to compare with, which are not among the others. By
        default the galaxies of the table are compared with each other.
    seed : int, optional
        Seed of the draw of 20 000 ordinary galaxies out of more; None draws a fresh
        one, which is noted in the metadata as ``SEED``.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``name`` (if there); ``outlier_score``, how many
        times farther from others than the median galaxy; ``false_alarm_rate``, the
        share of ordinary galaxies with a score as high; with ``ratings`` also
        ``interest``, the rating that is expected, around 0 to 1; ``rank``, 1 for the
        galaxy with the highest interest, else score; and ``flags``. Galaxies without
        latents, or without a class, are NaN with the flag ``failed``; they have the
        last ranks, and one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        When the table has no latents, there are not more than 10 ordinary galaxies,
        those of the reference are of another model, or another argument cannot be used.

    Notes
    -----
    The score is the mean distance from the 10 nearest ordinary galaxies, in units of
    the scatter of each coordinate as in `galml.similar`, over the median of ordinary
    galaxies: an estimate of how low the density is. Latents of the surroundings, which
    are the last ``NAROUND`` of the metadata, have a score of their own, and the root of
    the mean of both squares counts. No galaxy is a neighbor of itself,
    so that the density has not seen the galaxy that it judges: scores of ordinary
    galaxies that are in the table or not have the same distribution, and the false
    alarm rate of one of them is uniform between 0 and 1. Without a reference those who
    are no ordinary galaxies are among the others, and rates are upper limits.

    With classes the score is the Euclidean distance from the mean latents of the class,
    over its median in the class; galaxies with a latent beyond 8 standard deviations do
    not count for either. For the rate each galaxy is left out of its own center.

    Ratings are those of a Gaussian process: galaxies with similar latents have similar
    ratings, over a length that is the most likely for those that were given; far from
    all rated galaxies the score counts. Rate the first by rank, and ask again.

    References
    ----------
    .. [1] Xu et al. (2023), MNRAS 526, 6391.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> import galml
    >>> latent = np.random.default_rng(0).normal(size=(500, 8))
    >>> latent[42] += 4
    >>> table = galml.outliers(QTable({"latent": latent}))
    >>> int(table["rank"][42])
    1
    >>> bool(table["false_alarm_rate"][42] == 1 / 500)
    True
    """
    known = read_latents(table, "table")
    if seed is not None:
        check_whole("seed", seed, 0)
    if by is not None and reference is not None:
        raise InputError("reference", "one beside classes", "either of both")
    count = len(known.values)
    score, rate = np.full(count, np.nan), np.full(count, np.nan)
    drawn = None
    if by is None:
        ordinary = None if reference is None else read_latents(reference, "reference")
        joint, others, metric = _joint(known, ordinary)
        size = len(joint if others is None else others)
        if size <= NEIGHBORS:
            name = "table" if reference is None else "reference"
            expected = f"more than {NEIGHBORS}"
            raise InputError(name, f"{size} galaxies with latents", expected)
        if size > LARGEST:
            drawn = fresh_seed() if seed is None else seed
        points = metric(joint)
        score[known.usable], rate[known.usable] = _density(
            points,
            None if others is None else metric(others),
            _parts(known, points.shape[1]),
            drawn,
            progress,
        )
    else:
        joint, _, metric = _joint(known, None)
        labels, labeled = read_labels(by, known, "by")
        for one in np.unique(labels[labeled]):
            rows = np.flatnonzero((labels == one) & labeled & known.usable)
            if len(rows) > 2:
                score[rows], rate[rows] = _in_class(known.values[rows])
    columns = {"outlier_score": score, "false_alarm_rate": rate}
    order = score
    if ratings is not None:
        order = columns["interest"] = np.full(count, np.nan)
        rows = np.flatnonzero(np.isfinite(score))
        given = _read_ratings(ratings, known)[rows]
        points = metric(joint[np.cumsum(known.usable)[rows] - 1])
        order[rows] = _interest(points, score[rows], given)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(-order, kind="stable")] = np.arange(1, count + 1)
    columns["rank"] = rank
    flags = known.flags | np.where(np.isfinite(score), 0, int(Flag.FAILED))
    call = {
        "ratings": ratings if _is_name(ratings) else len(ratings),
        "by": by if _is_name(by) else len(by),
        "reference": None if reference is None else len(others),
    }
    result = result_table(
        known, "outliers", columns, flags, call=call, names=known.names, seed=drawn
    )
    reason = "latents" if by is None else "latents or no class of 3 or more"
    warn_batch(flags, InputError("table", f"no {reason}", "finite numbers"))
    return result


def _joint(known, ordinary):
    """Put errors beside the latents of usable rows, and find the metric."""
    both = [known] if ordinary is None else [known, ordinary]
    check_models(known.table.meta, both[-1].table.meta, "reference")
    if len({one.values.shape[1] for one in both}) > 1:
        expected = f"{known.values.shape[1]} as in the table"
        got = f"{ordinary.values.shape[1]} latents"
        raise InputError("reference", got, expected)
    extended = [[one.values] for one in both]
    for key, measure in {
        "reconstruction_error": np.asarray,
        "ssim": lambda ssim: 1 - ssim,
    }.items():
        values = [_logarithm(one, key, measure) for one in both]
        if all(one is not None for one in values):
            for columns, one in zip(extended, values, strict=True):
                columns.append(one[:, None])
    extended = [np.concatenate(columns, axis=1) for columns in extended]
    further = extended[0].shape[1] - known.values.shape[1]
    full = [
        replace(
            one,
            values=values,
            errors=None if one.errors is None else np.pad(one.errors, (0, further)),
        )
        for one, values in zip(both, extended, strict=True)
    ]
    points = [one.values[one.usable] for one in full]
    return points[0], points[1] if ordinary is not None else None, Metric.of(full[-1])


def _logarithm(known, key, measure):
    """Logarithm of an error, typical where it is unknown; None where all are."""
    if key not in known.table.colnames:
        return None
    column = known.table[key]
    mask = np.asarray(getattr(column, "mask", False))
    values = getattr(column, "unmasked", column)
    values = measure(np.asarray(getattr(values, "value", values), dtype=float))
    values = np.where(mask | ~known.usable, np.nan, values)
    positive = values > 0
    if values.ndim != 1 or not positive.any():
        return None
    smallest = values[positive].min()
    values = np.log(np.where(values <= 0, smallest, values))
    typical = np.median(values[np.isfinite(values)])
    return np.where(np.isfinite(values), values, typical)


def _parts(known, width):
    """Give the columns of the coordinates that have a score of their own."""
    latents, around = known.values.shape[1], known.table.meta.get("NAROUND", 0)
    if not isinstance(around, Integral) or not 0 < around < latents:
        return [np.arange(width)]
    last = np.arange(latents - around, latents)
    return [np.setdiff1d(np.arange(width), last), last]


def _density(points, others, parts, seed, progress):
    """Score galaxies by the distance of ordinary ones, shape (n,), and give rates."""
    own = others is None
    ordinary = points if own else others
    rows = np.arange(len(ordinary))
    if len(rows) > LARGEST:
        generator = generator_for(seed, "ordinary galaxies")
        drawn = torch.randperm(len(rows), generator=generator)[:LARGEST]
        rows = np.sort(drawn.numpy())
    cloud = ordinary[rows]
    # Those who are in the cloud themselves are no neighbors of themselves.
    inside = np.full(len(ordinary), -1)
    inside[rows] = np.arange(len(rows))
    asked = points if own else np.concatenate([points, cloud])
    skip = inside if own else np.r_[np.full(len(points), -1), np.arange(len(rows))]
    square = np.zeros(len(asked))
    for part, name in zip(parts, PARTS, strict=False):
        options = {"skip": skip, "progress": progress, "name": f"outliers: {name}"}
        _, distance = nearest(asked[:, part], cloud[:, part], NEIGHBORS, **options)
        mean = distance.mean(axis=1)
        # Of galaxies that are all the same.
        typical = np.median(mean if own else mean[len(points) :]) or 1.0
        square += (mean / typical) ** 2 / len(parts)
    found = np.sqrt(square)
    score, held_out = (found, found) if own else np.split(found, [len(points)])
    typical = np.median(held_out) or 1.0
    return score / typical, _rates(score, held_out, own)


def _rates(score, held_out, own):
    """Share of ordinary galaxies with a score as high, counting the galaxy itself."""
    held_out = np.sort(held_out)
    higher = len(held_out) - np.searchsorted(held_out, score, side="left")
    return higher / len(held_out) if own else (higher + 1) / (len(held_out) + 1)


def _in_class(values):
    """Score the galaxies of one class by the distance from its center."""
    values = values.astype(float)
    spread = values.std(axis=0)
    kept = (np.abs(values - values.mean(axis=0)) <= CUT * spread).all(axis=1)
    distance = np.linalg.norm(values - values[kept].mean(axis=0), axis=1)
    # Distances from the mean of all others in the class.
    number = kept.sum()
    alone = np.where(kept, distance * number / max(number - 1, 1), distance)
    typical = np.median(distance[kept]) or 1.0
    return distance / typical, _rates(alone, alone, True)


def _is_name(column):
    """Whether a column is named, or there is none, and it is not given itself."""
    return column is None or isinstance(column, str)


def _read_ratings(ratings, known):
    """Read ratings as numbers from 0 to 1, NaN where there is none."""
    count = len(known.values)
    if isinstance(ratings, str):
        if ratings not in known.table.colnames:
            raise InputError("ratings", repr(ratings), "a column of the table")
        ratings = known.table[ratings]
    if isinstance(ratings, Mapping):
        values = np.full(count, np.nan)
        numbers = _numbers([*ratings.values()])
        for name, rating in zip(ratings, numbers, strict=True):
            rows = () if known.names is None else np.flatnonzero(known.names == name)
            if not len(rows):
                raise InputError("ratings", repr(name), "names of the table")
            values[rows] = rating
    else:
        values = _numbers(ratings)
        if values.shape != (count,):
            raise InputError("ratings", f"shape {values.shape}", f"({count},)")
    given = values[~np.isnan(values)]
    if not len(given) or given.min() < 0 or given.max() > 5:
        got = f"{given.min():g} to {given.max():g}" if len(given) else "none"
        raise InputError("ratings", got, "some from 0 to 1, or from 0 to 5")
    return values / 5 if given.max() > 1 else values


def _numbers(ratings):
    """Read numbers, NaN where there is none."""
    try:
        values = np.ma.asarray(of_pandas(ratings))
        if values.dtype.kind == "O":
            values = [np.nan if is_nothing(one) else float(one) for one in values]
        return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    except (TypeError, ValueError) as error:
        got = " ".join(repr(ratings).split())[:40]
        raise InputTypeError("ratings", got, "numbers") from error


def _interest(points, score, ratings):
    """Expect ratings of all galaxies, shape (n,), from those of some."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    expected = EXPECTED * ndtri(rankdata(score) / (len(score) + 1))
    rated = np.flatnonzero(np.isfinite(ratings))
    if not len(rated):
        raise InputError("ratings", "none of a galaxy with a score", "some")
    known = points[rated].astype(float)
    offsets = ratings[rated] - expected[rated]
    # Twice the mean variance is the mean squared distance of two galaxies.
    typical = 2 * np.square(points - np.median(points, axis=0)).sum(axis=1)
    typical = float(np.median(typical)) or 1.0
    squares = _squares(known, known)
    best, chosen = -np.inf, None
    for length in LENGTHS:
        width = 2 * length**2 * typical
        covariance = np.exp(-squares / width) + NOISE * np.eye(len(rated))
        weight = np.linalg.solve(covariance, offsets)
        variance = max(float(offsets @ weight) / len(rated), 1e-12)
        likelihood = len(rated) * np.log(variance) + np.linalg.slogdet(covariance)[1]
        if -likelihood > best:
            best, chosen = -likelihood, (width, weight)
    width, weight = chosen
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        squares = _squares(points[part].astype(float), known)
        expected[part] += np.exp(-squares / width) @ weight
    return expected


def _squares(first, second):
    """Squared distances of all points, shape (n, m)."""
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    return np.maximum(squares - 2 * first @ second.T, 0)
