# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How many of the galaxies of a sample are mergers, and how often galaxies merge."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from types import SimpleNamespace

import astropy.units as u
import numpy as np
from scipy.special import logsumexp

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.core.inputs import as_table
from galml.core.results import build_table, warn_batch

__all__ = ["common_share", "fraction"]

#: Prior of Jeffreys for a share.
JEFFREYS = np.array([0.5, 0.5])
#: Cells in which a posterior is evaluated, and how often those that hold it are
#: divided again; what is lower than its peak by more than this factor's logarithm is
#: not part of it.
CELLS, ROUNDS, DEPTH = 64, 3, 25.0
#: Galaxies of which the likelihood is in memory at one time.
CHUNK = 1024
#: Columns of a result.
MEASURED = ("fraction", "fraction_err", "fraction_lo", "fraction_hi")
COUNTED = ("n_galaxies", "n_unknown")
TAKEN = (*MEASURED, "rate", "rate_err", *COUNTED, "flags")
#: Fractions, galaxies of a sample, samples, and shares of what passes have in common,
#: among which that is found with which intervals hold as many truths as they should.
TRIED, COUNT, DRAWS, SHARES = (0.01, 0.05, 0.2), 2000, 60, np.arange(21) / 20
#: Quantiles of the ends of a 68 % interval.
ENDS = (0.16, 0.84)


def fraction(table, prior=None, *, timescale=None, by=None):
    r"""Measure the fraction of mergers in a sample of galaxies.

    Neither the number of galaxies above a threshold nor the mean of the probabilities
    is the fraction of mergers: both count galaxies that were confused, and the
    probabilities hold for samples with as many mergers as others. Where mergers are a
    share :math:`\pi` of those for which they hold, a probability :math:`p` is a ratio
    of likelihoods, of which the sample has a share :math:`f` of mergers with [1]_

    .. math:: P(f) \propto f^{\alpha - 1} (1 - f)^{\beta - 1} \prod_i \left[
        f \, \frac{p_i}{\pi} + (1 - f) \, \frac{1 - p_i}{1 - \pi} \right]

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.merger` gave: the column ``merger_probability``, of numbers between
        0 and 1, and the share :math:`\pi` as ``PREVALEN`` of the metadata. Rows
        without a probability, NaN or masked, are left out.
        ``merger_probability_samples``, if there, are taken as the answers of several
        networks, one for each column; of what they have in common in all galaxies
        counts the share ``COMMON`` of the metadata, by default all: a number, or one
        for each value of the column ``filter``, as text such as ``"F814W 0.1, r 1"``;
        of a sample with several filters, the largest of theirs.
    prior : (float, float), optional
        Numbers :math:`\alpha` and :math:`\beta`, at least 1/2, of the beta distribution
        that the fraction is expected to have. By default both are 1/2, Jeffreys' prior
        [2]_.
    timescale : `~astropy.units.Quantity` or pair of them, optional
        Time for which a merger is recognized as one, or this time and its error; a
        post-merger is one for 0.5 Gyr. It makes a rate out of a fraction [3]_.
    by : str or sequence of str, optional
        Columns that divide the sample, such as ``"filter"`` or ``("filter", "field")``.

    Returns
    -------
    `~astropy.table.QTable`
        One row, or one for each combination of the columns ``by``, sorted by these, and
        with them: ``fraction`` (mean of its distribution) with ``fraction_err``
        (1 sigma), ``fraction_lo`` and ``fraction_hi`` (68 %); with a timescale
        ``rate`` and ``rate_err``, mergers of one galaxy in a Gyr; ``n_galaxies`` with a
        probability, ``n_unknown`` that were left out, and ``flags``: ``nonfinite``
        where some were left out, ``failed`` where all were and the row is NaN.

    Raises
    ------
    galml.core.InputError
        When the table lacks a column or ``PREVALEN``, has probabilities outside of 0
        to 1, or none at all, or when another argument cannot be used. A part of a
        sample without any probability is a row of NaN, and one
        `~galml.core.GalmlWarning` sums up.

    Notes
    -----
    The fraction is that of the population of which the galaxies are a random sample:
    its error includes that of counting. It is one of post-mergers among post-mergers
    and non-mergers, the two classes that ``merger_probability`` is about; a galaxy at
    another stage counts as which of these it looks more like.

    Intervals hold 68 % of true fractions if the probabilities are calibrated: those of
    a classifier that is right in 85 % of both classes do in 65 to 69 % of samples of
    1000 or 3000 galaxies with 1, 5 or 20 % of mergers. Where a sample hardly tells a
    few mergers from none, as 300 galaxies with 1 %, intervals are rather those of the
    prior, and 82 % of them hold the truth.

    Errors of the network in single galaxies are in calibrated probabilities already and
    average out; what the samples have in common in all galaxies does not, and widens
    the distribution. (Where the logits of whole samples of 1000 galaxies are wrong by
    0.2 at random, and the passes tell so, 58 to 62 % of the intervals hold the truth;
    without passes 39 to 47 %.) Each pass of `galml.merger` is one network for all
    galaxies, so that what the passes disagree on is in the error; what all of them get
    wrong is not. Logits that are too high by 0.1, an expected calibration
    error of 0.01, make 1.5 % of a fraction of 1 %, 5.9 % of 5 % and 21.5 % of 20 %; if
    one in a hundred non-mergers looks like a merger, which mocks do not tell,
    2 % are found where 1 % are. Fractions of a few percent are as good as the
    calibration on galaxies like those of the sample. In r the default model hardly
    tells post-mergers apart, and fractions mean nothing, however wide their intervals.

    References
    ----------
    .. [1] Saerens, Latinne & Decaestecker (2002), Neural Computation 14, 21.
    .. [2] Cameron (2011), PASA 28, 128.
    .. [3] Lotz et al. (2011), ApJ 742, 103.

    Examples
    --------
    A classifier that is right in 84 % of both classes, and a sample with 200 mergers
    among 4000 galaxies, of which it takes four times as many for mergers:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from galml.mergers import fraction
    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=4000) + 2 * (np.arange(4000) < 200)
    >>> table = QTable({"merger_probability": 1 / (1 + np.exp(2 - 2 * score))})
    >>> table.meta["PREVALEN"] = 0.5
    >>> found = fraction(table, timescale=(0.5 * u.Gyr, 0.1 * u.Gyr))
    >>> print(f"{found['fraction'][0]:.3f} ± {found['fraction_err'][0]:.3f}")
    0.051 ± 0.006
    >>> bool((table["merger_probability"] > 0.5).mean() > 0.18)
    True
    >>> print(f"{found['rate'][0]:.2f} ± {found['rate_err'][0]:.2f}")
    0.10 1 / Gyr ± 0.02 1 / Gyr
    """
    table = as_table(table, "table")
    prevalence, common = _checked_prevalence(table), _checked_share(table)
    density = JEFFREYS if prior is None else _checked_prior(prior)
    time = None if timescale is None else _checked_timescale(timescale)
    by = _checked_columns(table, by)
    first, number = _groups(table, by)
    groups = table.group_by(number).groups if by else (table,)
    rows = [_measure(part, prevalence, density, common(part)) for part in groups]
    if not by and not rows[0]["n_galaxies"]:
        raise InputError("table", "no galaxy with a probability", "at least one")
    columns = {key: table[key][first] for key in by}
    columns |= {key: np.array([row[key] for row in rows]) for key in MEASURED}
    if time is not None:
        columns["rate"] = columns["fraction"] / time[0]
        columns["rate_err"] = np.hypot(
            columns["fraction_err"] / time[0], columns["rate"] * (time[1] / time[0])
        )
    columns |= {key: np.array([row[key] for row in rows], dtype=int) for key in COUNTED}
    empty, partial = columns["n_galaxies"] == 0, columns["n_unknown"] > 0
    flags = empty * int(Flag.FAILED) | partial * int(Flag.NONFINITE)
    call = {"prior": prior, "timescale": timescale, "by": by or None}
    result = build_table(
        columns,
        operation="fraction",
        model=SimpleNamespace(
            name=table.meta.get("MODEL"), sha256=table.meta.get("MODELSHA")
        ),
        flags=flags,
        device="cpu",
        dtype="float64",
        seed=None,
        call={key: value for key, value in call.items() if value is not None},
    )
    result.meta |= {"PREVALEN": prevalence, "COMMON": table.meta.get("COMMON", 1.0)}
    errors = []
    for row in np.flatnonzero(empty).tolist():
        part = " and ".join(f"{name} {columns[name][row]}" for name in by)
        errors.append(InputError("table", f"no probability for {part}", "at least one"))
    warn_batch(flags, errors)
    return result


def common_share(calibrated, merged, prevalence, *, seed=0):
    """Find how much of what passes have in common makes intervals as wide as they are.

    Passes forget other units at random, which tells that a network may be wrong but not
    by how much: it is found on galaxies whose truth is known. A calibration on few
    galaxies is wrong for all others in the same way, so that each sample is judged
    after another calibration.

    Parameters
    ----------
    calibrated : callable
        Takes a `numpy.random.Generator`, and gives probabilities of all galaxies, shape
        (n, passes), after a calibration on galaxies that are drawn anew.
    merged : `~numpy.ndarray` of bool
        Shape (n,): which galaxies are mergers.
    prevalence : float
        Share of mergers for which the probabilities hold.
    seed : int
        Seed of what is drawn.

    Returns
    -------
    float
        The smallest share, from 0 to 1, with which 68 % of the intervals of fractions
        of 1, 5 and 20 % hold the truth, or else 1.
    """
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(~merged), np.flatnonzero(merged)
    drawn = []
    for _ in range(DRAWS):
        samples = calibrated(rng)
        for true in TRIED:
            number = rng.binomial(COUNT, true)
            rows = [
                rng.choice(place, count)
                for place, count in zip(places, (COUNT - number, number), strict=True)
            ]
            some = samples[np.concatenate(rows)]
            likelihoods = _likelihoods(some.mean(1), prevalence)
            middle, *_ = _moments(*_posterior(*likelihoods, JEFFREYS[None]))
            drawn.append((true, likelihoods, _common_counts(some, prevalence, middle)))

    def inside(share):
        found = 0
        for true, likelihoods, counts in drawn:
            distribution = _posterior(*likelihoods, JEFFREYS + share * counts)
            _, _, low, high = _moments(*distribution)
            found += low <= true <= high
        return found / len(drawn)

    place = bisect_left(SHARES, ENDS[1] - ENDS[0], key=inside)
    return float(SHARES[min(place, len(SHARES) - 1)])


def _measure(table, prevalence, prior, common):
    """Measure the fraction of one sample."""
    probability = _probabilities(table, "merger_probability")
    known = np.isfinite(probability)
    row = dict.fromkeys(MEASURED, np.nan)
    row |= {"n_galaxies": known.sum(), "n_unknown": (~known).sum()}
    if not known.any():
        return row
    likelihoods = _likelihoods(probability[known], prevalence)
    distribution = _posterior(*likelihoods, prior[None])
    if "merger_probability_samples" in table.colnames:
        samples = _probabilities(table, "merger_probability_samples")[known]
        samples = np.where(np.isnan(samples), probability[known, None], samples)
        middle, *_ = _moments(*distribution)
        priors = prior + common * _common_counts(samples, prevalence, middle)
        distribution = _posterior(*likelihoods, priors)
    return row | dict(zip(MEASURED, _moments(*distribution), strict=True))


def _likelihoods(probability, prevalence):
    """Likelihoods of a galaxy as a merger and as another, but for one factor."""
    return probability / prevalence, (1 - probability) / (1 - prevalence)


def _slope(merger, other, fraction):
    """Derive the logarithm of the likelihood of each galaxy by the fraction."""
    return (merger - other) / (fraction * merger + (1 - fraction) * other)


def _common_counts(samples, prevalence, middle):
    """Give for each pass how many more certain mergers and others it stands for.

    So many that the slope of the likelihood, a sum over galaxies, is that of the pass
    in place of the mean pass. Passes that are independent in each galaxy scatter, too:
    this part, which is known from the single galaxies, is taken out.
    """
    if samples.shape[1] < 2:
        return np.zeros((1, 2))
    passes = [_slope(*_likelihoods(one, prevalence), middle) for one in samples.T]
    slopes = np.array([one.sum() for one in passes])
    total, single = slopes.var(ddof=1), np.var(passes, axis=0, ddof=1).sum()
    common = max(0.0, 1 - single / total) if total > 0 else 0.0
    slopes = math.sqrt(common) * (slopes - slopes.mean())
    counts = np.stack([slopes * middle, -slopes * (1 - middle)], axis=1)
    return np.maximum(counts, 0)


def _posterior(merger, other, priors):
    """Give ends of cells of the fraction, and the probability of each.

    It is the mean of posteriors with several beta priors. Cells are equal in the angle
    whose squared sine is the fraction, in which Jeffreys' prior is flat.
    """
    low, high = 0.0, math.pi / 2
    powers = np.asarray(priors) - 0.5
    for _ in range(ROUNDS):
        edges = np.linspace(low, high, CELLS + 1)
        share = np.sin((edges[1:] + edges[:-1]) / 2) ** 2
        log = powers[:, :1] * np.log(share) + powers[:, 1:] * np.log1p(-share)
        for start in range(0, len(merger), CHUNK):
            rows = slice(start, start + CHUNK)
            each = np.outer((merger - other)[rows], share) + other[rows, None]
            log += np.log(each).sum(axis=0)
        log -= logsumexp(log, axis=1, keepdims=True)
        log = logsumexp(log, axis=0) - math.log(len(priors))
        held = np.flatnonzero(log > log.max() - DEPTH)
        low, high = edges[max(held[0] - 1, 0)], edges[min(held[-1] + 2, CELLS)]
    return np.sin(edges) ** 2, np.exp(log)


def _moments(edges, weights):
    """Give mean, error, and ends of the 68 % interval of a distribution."""
    centers = (edges[1:] + edges[:-1]) / 2
    mean = weights @ centers
    error = math.sqrt(weights @ (centers - mean) ** 2)
    low, high = np.interp(ENDS, np.append(0, np.cumsum(weights)), edges)
    return mean, error, low, high


def _probabilities(table, name):
    """Read a column of probabilities, NaN where they are masked."""
    if name not in table.colnames:
        raise InputError("table", f"no column {name}", "what galml.merger gave")
    column = table[name]
    axes = "rows" if name == "merger_probability" else "rows and passes"
    if getattr(column, "unit", None) not in (None, u.dimensionless_unscaled):
        raise InputUnitError("table", f"a {name} in {column.unit}", "plain numbers")
    try:
        values = np.ma.filled(np.ma.asanyarray(column, dtype=float), np.nan)
    except (TypeError, ValueError) as error:
        got = f"a {name} of type {column.dtype}"
        raise InputError("table", got, "numbers") from error
    if values.ndim != (1 if axes == "rows" else 2):
        got = f"a {name} of shape {values.shape}"
        raise InputError("table", got, f"one number for each of its {axes}")
    with np.errstate(invalid="ignore"):
        wrong = values[(values < 0) | (values > 1)]
    if wrong.size:
        raise InputError("table", f"a {name} of {wrong[0]:g}", "values from 0 to 1")
    return values


def _checked_prevalence(table):
    """Read the share of mergers for which probabilities hold."""
    prevalence = table.meta.get("PREVALEN")
    if prevalence is None:
        expected = "the share of mergers for which the probabilities hold"
        raise InputError("table", "no PREVALEN in its metadata", expected)
    try:
        prevalence = float(prevalence)
    except (TypeError, ValueError):
        prevalence = math.nan
    if not 0 < prevalence < 1:
        got = f"a PREVALEN of {table.meta['PREVALEN']!r}"
        raise InputError("table", got, "a share between 0 and 1")
    return prevalence


def _checked_share(table):
    """Read which share of what passes have in common counts in a part of a table."""
    given = table.meta.get("COMMON", 1.0)
    parts = [("", given)]
    if isinstance(given, str):
        parts = [one.strip().rpartition(" ")[::2] for one in given.split(",")]
    try:
        shares = {name: float(share) for name, share in parts}
    except (TypeError, ValueError):
        shares = {"": math.nan}
    if isinstance(given, bool) or not all(0 <= one <= 1 for one in shares.values()):
        expected = "a share from 0 to 1, or one for each filter"
        raise InputError("table", f"a COMMON of {given!r}", expected)
    if "" in shares or "filter" not in table.colnames:
        return lambda part: max(shares.values())

    def largest(part):
        known = np.isfinite(_probabilities(part, "merger_probability"))
        filters = {str(name) for name in part["filter"][known]}
        return max((shares.get(name, 1.0) for name in filters), default=1.0)

    return largest


def _checked_prior(prior):
    """Read the two numbers of a beta distribution."""
    try:
        values = np.array(prior, dtype=float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (2,) or not ((values >= 0.5) & (values < np.inf)).all():
        raise InputError("prior", repr(prior), "two numbers of at least 0.5")
    return values


def _checked_timescale(timescale):
    """Read a time and its error."""
    try:
        time = np.atleast_1d(u.Quantity(timescale).to(u.Gyr))
    except u.UnitConversionError as error:
        raise InputUnitError("timescale", repr(timescale), "a time") from error
    except (TypeError, ValueError) as error:
        raise InputTypeError("timescale", repr(timescale), "a time") from error
    if time.shape == (1,):
        time = np.append(time, 0 * u.Gyr)
    if time.shape != (2,) or not (0 < time[0] < np.inf and 0 <= time[1] < np.inf):
        expected = "a time above 0, or such a time and its error"
        raise InputError("timescale", str(timescale), expected)
    return time


def _checked_columns(table, by):
    """Read names of columns."""
    if not isinstance(by, Iterable | None):
        raise InputTypeError("by", repr(by), "names of columns")
    by = [by] if isinstance(by, str) else list(by or ())
    for name in by:
        if name not in table.colnames or table[name].ndim != 1:
            raise InputError("by", repr(name), f"a column of {table.colnames}")
        if name in TAKEN:
            expected = "a column with another name than those of the result"
            raise InputError("by", repr(name), expected)
    return by


def _groups(table, by):
    """Give the first row of each group, and of each row the number of its group.

    What is NaN or masked is one group.
    """
    numbers = np.zeros((len(table), len(by)), dtype=int)
    for place, name in enumerate(by):
        column = table[name]
        _, found = np.unique(np.asarray(column), return_inverse=True)
        numbers[:, place] = np.where(getattr(column, "mask", False), -1, found)
    _, first, number = np.unique(
        numbers, axis=0, return_index=True, return_inverse=True
    )
    return first, number.ravel()
