# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How alike two samples of stars are, and what is measured on the stars of one galaxy.

Samples are tables of stars, or arrays of shape (n, axes). Distances are measured in
standard deviations of the truth, around its mean; stars of which something is unknown
do not count.
"""

import astropy.units as u
import numpy as np

from galml.core import metrics as shared
from galml.core.exceptions import InputError
from galml.core.inputs import as_table
from galml.core.metrics import binned
from galml.physics import SOLAR_METALLICITY, STAR_AXES, star_table
from galml.stars.preparation import read_stars

__all__ = [
    "age_metallicity",
    "ages_and_metallicities",
    "c2st",
    "cylindrical",
    "dispersion_curve",
    "known_stars",
    "mmd",
    "quantile_error",
    "quantiles",
    "rotation_curve",
    "shared_axes",
    "sliced_wasserstein",
    "standardized",
    "summarize",
]

#: Distances of pairs of stars that are in memory at one time.
PAIRS = 4_000_000
#: Stars of which the median distance is taken.
BANDWIDTH_STARS = 2000
#: Levels of the quantiles that are compared.
LEVELS = (0.05, 0.16, 0.5, 0.84, 0.95)
#: Bins of radius of a curve, and the share of the stars that they hold.
N_RADII, SHOWN_RADII = 12, 0.95


def standardized(sample, truth, axes=None):
    """Put two samples on the scale of the second.

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        Stars as a table, or plain numbers of shape (n, axes).
    axes : sequence of str, optional
        Columns of the tables; by default those of `galml.physics.STAR_AXES` that both
        tables have. Others are taken in the unit that they have in the truth.

    Returns
    -------
    sample, truth : `~numpy.ndarray`
        float64, shapes (n, axes) and (m, axes), without unknown stars: minus the mean
        of the truth, over its standard deviation.

    Raises
    ------
    galml.core.InputError
        For samples without at least two known stars, of different axes, or with an axis
        along which the truth does not vary.
    """
    if not (hasattr(sample, "colnames") and hasattr(truth, "colnames")):
        first, second = _plain(sample, "sample"), _plain(truth, "truth")
    else:
        units = shared_axes(as_table(sample, "sample"), as_table(truth, "truth"), axes)
        first = known_stars(*read_stars(sample, units, argument="sample"), "sample")
        second = known_stars(*read_stars(truth, units, argument="truth"), "truth")
    if first.shape[1] != second.shape[1]:
        raise InputError("sample", f"{first.shape[1]} axes", f"{second.shape[1]} axes")
    center, scale = second.mean(axis=0), second.std(axis=0)
    if not (scale > 0).all():
        fixed = np.flatnonzero(scale == 0).tolist()
        raise InputError(
            "truth", f"equal values along axes {fixed}", "values that vary"
        )
    return (first - center) / scale, (second - center) / scale


def mmd(sample, truth, *, kernel="linear", bandwidth=None, axes=None):
    """Measure the squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, 723).

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        As in `standardized`.
    kernel : {"linear", "gaussian"}
        "linear" is the squared distance of the means. "gaussian" sees all differences;
        its time goes with the number of pairs, its memory does not.
    bandwidth : float, optional
        Standard deviation of the Gaussian kernel, in those of the truth; by default the
        median distance of two true stars.
    axes : sequence of str, optional
        As in `standardized`.

    Returns
    -------
    float
        0 for equal distributions. The estimate with the Gaussian kernel is unbiased,
        hence sometimes just below 0.

    Raises
    ------
    galml.core.InputError
        For another kernel, a bandwidth that is not positive, or as in `standardized`.
    """
    if kernel not in ("linear", "gaussian"):
        raise InputError("kernel", repr(kernel), "'linear' or 'gaussian'")
    first, second = standardized(sample, truth, axes)
    if kernel == "linear":
        return float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    width = _median_distance(second) if bandwidth is None else bandwidth
    if not width > 0:
        raise InputError("bandwidth", width, "a positive number")
    n, m = len(first), len(second)
    # A star is at distance 0 from itself: such pairs say nothing.
    within = (_kernel_sum(first, first, width) - n) / (n * (n - 1))
    within += (_kernel_sum(second, second, width) - m) / (m * (m - 1))
    return float(within - 2 * _kernel_sum(first, second, width) / (n * m))


def sliced_wasserstein(sample, truth, *, directions=100, seed=0, axes=None):
    """Measure the sliced 2-Wasserstein distance (Bonneel et al. 2015, JMIV 51, 22).

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        As in `standardized`.
    directions : int
        At least so many directions; they come as random orthonormal bases, so that none
        of the axes is forgotten.
    seed : int
        Of the directions.
    axes : sequence of str, optional
        As in `standardized`.

    Returns
    -------
    float
        Root mean square over the directions, in standard deviations of the truth.

    Raises
    ------
    galml.core.InputError
        As in `standardized`.
    """
    first, second = standardized(sample, truth, axes)
    random, features = np.random.default_rng(seed), first.shape[1]
    levels = (np.arange(max(len(first), len(second))) + 0.5) / max(
        len(first), len(second)
    )
    places = [(levels * len(values)).astype(int) for values in (first, second)]
    squares = []
    for _ in range(-(-directions // features)):
        basis, _ = np.linalg.qr(random.normal(size=(features, features)))
        one, two = (np.sort(values @ basis, axis=0) for values in (first, second))
        squares.append(((one[places[0]] - two[places[1]]) ** 2).mean())
    return float(np.sqrt(np.mean(squares)))


def c2st(sample, truth, *, classifier="boosting", seed=0, axes=None):
    """Measure how often a classifier tells sampled from true stars.

    A classifier two-sample test (Lopez-Paz & Oquab 2017, ICLR): accuracy over five
    folds of stars that the classifier has not seen, as many of either kind.

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        As in `standardized`. Of the larger one so many stars are drawn as the other
        has.
    classifier : {"boosting", "neural"} or estimator
        "boosting": scikit-learn's ``HistGradientBoostingClassifier`` as it comes;
        "neural": its ``MLPClassifier`` with two layers of ten units for each axis, and
        early stopping; or any classifier of scikit-learn.
    seed : int
        Of the draw, the folds and the classifier.
    axes : sequence of str, optional
        As in `standardized`.

    Returns
    -------
    float
        0.5 where it can only guess, 1 where it always knows.

    Raises
    ------
    galml.core.InputError
        For another classifier, fewer than five stars, or as in `standardized`.
    ImportError
        Without scikit-learn.
    """
    first, second = standardized(sample, truth, axes)
    count = min(len(first), len(second))
    if count < 5:
        raise InputError("sample", f"{count} stars", "at least 5")
    return shared.c2st(first, second, classifier=classifier, seed=seed)


def quantile_error(sample, truth, levels=LEVELS, *, axes=None):
    """Measure the root mean square difference of the quantiles, over axes and levels.

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        As in `standardized`.
    levels : sequence of float
        Between 0 and 1.
    axes : sequence of str, optional
        As in `standardized`.

    Returns
    -------
    float
        In standard deviations of the truth.
    """
    first, second = standardized(sample, truth, axes)
    ends = [np.quantile(values, levels, axis=0) for values in (first, second)]
    return float(np.sqrt(np.mean((ends[0] - ends[1]) ** 2)))


def summarize(sample, truth, *, seed=0, axes=None):
    """Compare two samples by every measure.

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable` or array_like
        As in `standardized`.
    seed : int
        Of what is random in the measures.
    axes : sequence of str, optional
        As in `standardized`.

    Returns
    -------
    dict of str to float
        ``mmd_linear``, ``mmd_gaussian``, ``sliced_wasserstein``, ``quantile_error``
        and ``c2st``.
    """
    first, second = standardized(sample, truth, axes)
    return {
        "mmd_linear": mmd(first, second),
        "mmd_gaussian": mmd(first, second, kernel="gaussian"),
        "sliced_wasserstein": sliced_wasserstein(first, second, seed=seed),
        "quantile_error": quantile_error(first, second),
        "c2st": c2st(first, second, seed=seed),
    }


def quantiles(stars, levels=LEVELS, *, axes=None):
    """Measure quantiles along each axis.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars.
    levels : sequence of float
        Between 0 and 1.
    axes : sequence of str, optional
        Columns; by default all of `galml.physics.STAR_AXES` that are there.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each level: ``level`` and the axes with their units.
    """
    stars = as_table(stars, "stars")
    units = shared_axes(stars, stars, axes)
    values = known_stars(*read_stars(stars, units), "stars")
    table = star_table(np.quantile(values, levels, axis=0), units)
    table.add_column(np.asarray(levels, dtype=float), name="level", index=0)
    return table


def cylindrical(stars):
    """Compute radii around the z axis, and velocities along R, phi and z.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.

    Returns
    -------
    dict of str to `~numpy.ndarray`
        ``radius`` and ``z`` in kpc, ``r``, ``phi`` and ``z_velocity`` in km/s; shape
        (n,), without unknown stars.
    """
    axes = {name: STAR_AXES[name] for name in ("x", "y", "z", "v_x", "v_y", "v_z")}
    x, y, z, v_x, v_y, v_z = known_stars(*read_stars(stars, axes), "stars").T
    radius = np.hypot(x, y)
    inverse = 1 / np.maximum(radius, np.finfo(float).tiny)
    return {
        "radius": radius,
        "z": z,
        "r": (x * v_x + y * v_y) * inverse,
        "phi": (x * v_y - y * v_x) * inverse,
        "z_velocity": v_z,
    }


def rotation_curve(stars, edges=None):
    """Measure the mean velocity around the z axis against the radius.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.
    edges : `~astropy.units.Quantity`, optional
        Edges of the bins of cylindrical radius; by default 12 equal ones that hold
        95 % of the stars.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count`` and ``value``; NaN where it is empty.
        Positive along the angular momentum of a galaxy whose disk turns from x to y.
    """
    return _curve(np.mean, cylindrical(stars), "phi", edges)


def dispersion_curve(stars, edges=None, *, along="z"):
    """Measure the velocity dispersion against the radius.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with positions and velocities.
    edges : `~astropy.units.Quantity`, optional
        As in `rotation_curve`.
    along : {"r", "phi", "z"}
        Cylindrical component.

    Returns
    -------
    `~astropy.table.QTable`
        As in `rotation_curve`.

    Raises
    ------
    galml.core.InputError
        For another component.
    """
    keys = {"r": "r", "phi": "phi", "z": "z_velocity"}
    if along not in keys:
        raise InputError("along", repr(along), f"one of {list(keys)}")
    return _curve(np.std, cylindrical(stars), keys[along], edges)


def age_metallicity(stars, edges=None):
    """Measure the metallicity against the age.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        Stars with ``age`` and ``fe_h``; without that, [M/H] of ``metal_mass_fraction``.
    edges : `~astropy.units.Quantity`, optional
        Edges of the bins of age; by default those between 1 Gyr steps from 0 to 14 Gyr.

    Returns
    -------
    `~astropy.table.QTable`
        For each bin ``low``, ``high``, ``count``, the median ``value`` and the
        quantiles ``value_lo`` and ``value_hi`` (16 and 84 %) in dex; NaN where it is
        empty.
    """
    age, metallicity = ages_and_metallicities(stars)
    edges = np.arange(15.0) if edges is None else edges.to_value(u.Gyr)
    found = [
        binned(lambda v, share=share: np.quantile(v, share), age, edges, metallicity)
        for share in (0.5, 0.16, 0.84)
    ]
    table = found[0]
    for name in ("low", "high"):
        table[name] = table[name] * u.Gyr
    ends = ("value", "value_lo", "value_hi")
    for name, part in zip(ends, [t["value"] for t in found], strict=True):
        table[name] = np.asarray(part) * u.dex
    return table


def _curve(metric, found, key, edges):
    """Evaluate a metric of a velocity in bins of radius."""
    if edges is None:
        edges = np.linspace(0, np.quantile(found["radius"], SHOWN_RADII), N_RADII + 1)
    else:
        edges = edges.to_value(u.kpc)
    table = binned(metric, found["radius"], edges, found[key])
    for name in ("low", "high"):
        table[name] = table[name] * u.kpc
    table["value"] = table["value"] * (u.km / u.s)
    return table


def ages_and_metallicities(stars):
    """Read ages and metallicities of the stars of which both are known."""
    stars = as_table(stars, "stars")
    name = "fe_h" if "fe_h" in stars.colnames else "metal_mass_fraction"
    axes = {key: STAR_AXES[key] for key in ("age", name)}
    age, metallicity = known_stars(*read_stars(stars, axes), "stars").T
    if name == "metal_mass_fraction":
        age, metallicity = age[metallicity > 0], metallicity[metallicity > 0]
        metallicity = np.log10(metallicity / SOLAR_METALLICITY)
    return age, metallicity


def shared_axes(sample, truth, axes):
    """Name the axes that two tables share, with their units."""
    if axes is None:
        both = set(sample.colnames) & set(truth.colnames)
        units = {name: unit for name, unit in STAR_AXES.items() if name in both}
        if not units:
            raise InputError("sample", "no axis of stars", f"some of {list(STAR_AXES)}")
        return units
    missing = [name for name in axes if name not in truth.colnames]
    if missing:
        raise InputError("truth", f"no column {missing[0]!r}", "the columns of axes")
    own = {
        name: getattr(truth[name], "unit", None) or u.dimensionless_unscaled
        for name in axes
    }
    return {name: STAR_AXES.get(name, own[name]) for name in axes}


def _plain(values, argument):
    """Take plain numbers."""
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(argument, f"no numbers ({error})", "stars") from error
    if values.ndim != 2:
        raise InputError(argument, f"shape {values.shape}", "(stars, axes)")
    return known_stars(values, ~np.isfinite(values).all(axis=1), argument)


def known_stars(values, unknown, argument):
    """Leave out stars of which something is unknown."""
    values = values[~unknown]
    if len(values) < 2:
        raise InputError(argument, f"{len(values)} known stars", "at least 2")
    return values


def _median_distance(values):
    """Median distance of two stars, of some evenly spread ones."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(values[:: -(-len(values) // BANDWIDTH_STARS)])))


def _kernel_sum(first, second, width):
    """Sum the Gaussian kernel over all pairs, a block at a time."""
    first, second = first / width, second / width
    total, rows = 0.0, max(PAIRS // len(second), 1)
    norms = (second**2).sum(axis=1)
    for start in range(0, len(first), rows):
        part = first[start : start + rows]
        squares = part @ (-2 * second.T)
        squares += norms
        squares += (part**2).sum(axis=1)[:, None]
        np.maximum(squares, 0, out=squares)
        squares *= -0.5
        total += np.exp(squares, out=squares).sum()
    return total
