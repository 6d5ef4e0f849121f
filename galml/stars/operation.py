# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations `sample_stars` and `star_log_prob`."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import (
    InputError,
    InputTypeError,
    InputUnitError,
    check_whole,
)
from galml.core.flags import Flag
from galml.core.inference import (
    check_seed,
    progress_updates,
    resolve_device,
)
from galml.core.inputs import as_table
from galml.core.model import GalaxyModel
from galml.core.results import build_table, warn_batch
from galml.core.weights import load_model
from galml.physics import fresh_seed, generator_for, star_table
from galml.stars.galaxies import Galaxies, read_galaxies
from galml.stars.pieces import BLOCK, evaluate, galaxy_keys, noise_pieces, star_pieces
from galml.stars.preparation import model_axes, read_stars

__all__ = ["iter_stars", "sample_stars", "star_log_prob"]

#: Stars of a table of a stream.
CHUNK = 1_000_000
#: Stars of a galaxy where nothing else is said.
N_STARS = 10_000
#: Most stars of one table: 80 GB.
MOST_STARS = 1_000_000_000
#: Sizes over which the density is averaged where the size is not known.
N_SIZES = 7


def sample_stars(
    conditions=None,
    n=None,
    *,
    seed=None,
    model="default",
    components=None,
    device="auto",
    batch_size=None,
    progress=False,
):
    r"""Draw the stars of galaxies from what is known of the galaxies.

    The model is the density p(x, y, z, v_x, v_y, v_z, Z, [Fe/H], [O/Fe], age | galaxy)
    as a normalizing flow [1]_. Its transformations end at the bounds of what a star can
    be: all stars have 0 < age < age of the universe and 0 < Z, and none is farther out
    or faster, at its distance from the center, than stars of such galaxies are.

    Parameters
    ----------
    conditions : `~astropy.table.QTable`
        One row for each galaxy: ``stellar_mass`` (a unit of mass), ``median_age`` and
        ``age_percentile_10`` (units of time), ``metallicity`` (a mass fraction without
        unit, or [M/H] in dex, relative to a solar mass fraction of 0.0134). Optional
        are ``galaxy_id`` (or ``name``, ``id``), ``n_stars``, ``realization`` (a whole
        number, by which galaxies with equal conditions differ), and, for models that
        know them, ``r_eff`` (half-mass radius about the spin axis, a length) and
        ``latent`` or ``image`` (what `galml.spin` takes, in three bands); where both
        are there the latent counts, rows of NaN are galaxies without. A galaxy without
        ``r_eff`` gets one of the sizes that such galaxies have, the same for all of its
        stars. None for a model without conditions.
    n : number, array, str or `~astropy.units.Quantity`, optional
        Number of stars: one for all galaxies, one for each, or the name of a column;
        or the mass of a star, of which each galaxy gets as many as it holds, at least
        one. By default the column ``n_stars``, else 10 000.
    seed : int, optional
        Seed; None draws a fresh one, which is noted in the metadata as ``SEED``. The
        stars depend on it and on the conditions of their galaxy alone, not on other
        galaxies or their order, on ``n`` or on ``batch_size``, up to rounding in single
        precision. Galaxies with equal conditions get different stars, by their
        ``realization``, or in the order of their rows.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    components : sequence of str, optional
        Axes wanted, all by default.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    batch_size : int, optional
        Stars that the network sees at once.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each star, galaxy by galaxy: ``galaxy_id`` (of the table, else the
        number of the row); ``x``, ``y``, ``z`` (kpc), ``v_x``, ``v_y``, ``v_z`` (km/s),
        relative to the galaxy with its spin along +z; ``metal_mass_fraction``,
        ``fe_h``, ``o_fe`` (dex), ``age`` (Gyr); ``mass``, the galaxy's stellar mass
        over its number of stars; ``flags``, see `~galml.core.decode_flags`:
        ``OUT_OF_DOMAIN`` where the conditions, each or together, are beyond those of
        the training, ``STANDARDIZED`` where the model has no units, as the published
        ones. Galaxies that lie far beyond cannot be used. A galaxy
        of several that cannot be used is one row of NaN with the flag ``FAILED``, and
        one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        If a column is missing, ``n`` or ``components`` make no sense, or the only
        galaxy cannot be used.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    galml.core.ModelError
        If there is no such model.

    See Also
    --------
    galml.stars.iter_stars : The same for more stars than memory holds.
    galml.stars.write_stars : The same into a file.
    galml.stars.to_skycoord : The stars as seen by an observer.

    References
    ----------
    .. [1] Wolf & Buck (2023), arXiv:2312.06017 (GalacticFlow); GalacticForge (2024).

    Examples
    --------
    >>> import astropy.units as u
    >>> from astropy.table import QTable
    >>> import galml
    >>> galaxies = QTable({
    ...     "name": ["dwarf", "spiral"],
    ...     "stellar_mass": [2e8, 5e10] * u.Msun,
    ...     "median_age": [4.0, 6.5] * u.Gyr,
    ...     "age_percentile_10": [0.7, 1.4] * u.Gyr,
    ...     "metallicity": [-0.9, 0.0] * u.dex,
    ... })
    >>> stars = galml.sample_stars(galaxies, 1000, seed=1)
    >>> len(stars), stars["v_x"].unit, stars.meta["SEED"]
    (2000, Unit("km / s"), 1)
    >>> young = stars[stars["age"] < 1 * u.Gyr]
    >>> bool(abs(young["z"]).mean() < abs(stars["z"]).mean())
    True
    """
    draw = _plan(conditions, n, seed, model, components, device, batch_size)
    if draw.total > MOST_STARS:
        expected = f"at most {MOST_STARS} at once; galml.stars.iter_stars gives more"
        raise InputError("n", f"{draw.total} stars", expected)
    # One axis after the other, as the columns will be.
    values = np.empty((len(draw.axes), draw.total)).T
    galaxy = np.empty(draw.total, dtype=np.int64)
    stop = 0
    for rows, stars in _stream(draw, progress):
        start, stop = stop, stop + len(rows)
        galaxy[start:stop], values[start:stop] = rows, stars
    table = _build(draw, galaxy, values)
    warn_batch(draw.galaxies.flags, draw.galaxies.errors)
    return table


def iter_stars(
    conditions=None,
    n=None,
    *,
    chunk=CHUNK,
    seed=None,
    model="default",
    components=None,
    device="auto",
    batch_size=None,
    progress=False,
):
    """Draw the stars of galaxies table by table, in memory that does not grow.

    Parameters
    ----------
    conditions, n, seed, model, components, device, batch_size, progress
        As for `galml.sample_stars`.
    chunk : int, optional
        Stars of a table; the last may have fewer.

    Returns
    -------
    iterator of `~astropy.table.QTable`
        One after the other they are what `galml.sample_stars` gives; all have the same
        ``SEED``.

    Raises
    ------
    galml.core.InputError, galml.core.InputUnitError, galml.core.ModelError
        As `galml.sample_stars` does, before the first table.

    Examples
    --------
    >>> import astropy.units as u
    >>> from galml.stars import iter_stars
    >>> galaxy = {
    ...     "stellar_mass": 5e10 * u.Msun, "median_age": 6.5 * u.Gyr,
    ...     "age_percentile_10": 1.4 * u.Gyr, "metallicity": 0.0 * u.dex,
    ... }
    >>> [len(table) for table in iter_stars(galaxy, 2500, chunk=1000, seed=1)]
    [1000, 1000, 500]
    """
    check_whole("chunk", chunk)
    draw = _plan(conditions, n, seed, model, components, device, batch_size)
    warn_batch(draw.galaxies.flags, draw.galaxies.errors)
    return _tables(draw, int(chunk), progress)


def star_log_prob(
    stars,
    conditions=None,
    *,
    model="default",
    device="auto",
    batch_size=None,
    progress=False,
):
    """Evaluate the density of stars in their galaxies.

    Parameters
    ----------
    stars : `~astropy.table.QTable`
        One row for each star, with the columns of `galml.sample_stars` in any units.
    conditions : `~astropy.table.QTable`, optional
        The galaxies, as for `galml.sample_stars`. One row is for all stars; of several
        each star finds its own by ``galaxy_id``.
    model, device, batch_size, progress
        As for `galml.sample_stars`.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each star, in order: ``galaxy_id``, where the stars have it;
        ``log_prob``, natural logarithm of the density per kpc3 (km/s)3 dex2 Gyr and
        unit metal mass fraction, whatever the units of ``stars``, of a galaxy without
        ``r_eff`` the mean density of the sizes that such galaxies have; ``flags``, see
        `~galml.core.decode_flags`. Beyond the bounds, such as at negative ages, it is
        minus infinity with the flag ``OUT_OF_DOMAIN``; stars with NaN or masked values
        are NaN with ``FAILED`` and ``NONFINITE``, those without a usable galaxy NaN
        with ``FAILED``; one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        If a column is missing, or the only galaxy cannot be used.
    galml.core.InputUnitError
        If a unit is missing or cannot be converted.
    galml.core.ModelError
        If there is no such model.

    Examples
    --------
    Stars of one galaxy are unlikely in another:

    >>> import astropy.units as u
    >>> import galml
    >>> spiral = {
    ...     "stellar_mass": 5e10 * u.Msun, "median_age": 6.5 * u.Gyr,
    ...     "age_percentile_10": 1.4 * u.Gyr, "metallicity": 0.0 * u.dex,
    ... }
    >>> dwarf = spiral | {"stellar_mass": 2e8 * u.Msun, "metallicity": -0.9 * u.dex}
    >>> stars = galml.sample_stars(spiral, 1000, seed=1)
    >>> own = galml.star_log_prob(stars, spiral)
    >>> other = galml.star_log_prob(stars, dwarf)
    >>> bool(own["log_prob"].mean() > other["log_prob"].mean() + 1)
    True
    """
    model, size = load_model(model, "stars"), _check_size(batch_size)
    device = resolve_device(device)
    galaxies = read_galaxies(conditions, model, device=device)
    table = as_table(stars, "stars")
    values, unknown = read_stars(table, model_axes(model))
    galaxy = _find_galaxies(table, galaxies)
    missing = (galaxy < 0) | galaxies.failed[galaxy]
    flags = np.where(missing, 0, galaxies.flags[galaxy])
    flags[missing] |= int(Flag.FAILED)
    flags[unknown] |= int(Flag.FAILED | Flag.NONFINITE)
    order = np.argsort(galaxy, kind="stable")
    order = order[~(missing | unknown)[order]]
    log_prob = np.full(len(table), np.nan)
    nodes, weights = _sizes(galaxies)
    contexts = [galaxies.with_sizes(node) for node in nodes]
    results = []
    with progress_updates(progress, len(nodes) * len(order), unit="star") as update:
        for context in contexts:
            parts = evaluate(
                model.network,
                star_pieces(values[order], galaxy[order], size=size),
                "stars",
                context,
                device=device,
                size=size,
                update=update,
            )
            results.append(np.concatenate([[], *(result for _, result in parts)]))
    # Numbers of absurd stars overflow on their way: their density is 0.
    each = np.stack(results) + weights[:, None]
    log_prob[order] = np.logaddexp.reduce(np.where(np.isnan(each), -np.inf, each))
    flags[log_prob == -np.inf] |= int(Flag.OUT_OF_DOMAIN)
    columns = {"log_prob": log_prob}
    if "galaxy_id" in table.colnames:
        columns = {"galaxy_id": table["galaxy_id"]} | columns
    result = build_table(
        columns,
        operation="star_log_prob",
        model=model,
        flags=flags,
        device=str(device),
        dtype="float32",
        seed=None,
        call={},
    )
    warn_batch(flags, _star_errors(missing, unknown, galaxies))
    return result


@dataclass
class _Draw:
    """What is to be drawn, checked."""

    model: GalaxyModel
    axes: dict
    galaxies: Galaxies
    context: np.ndarray | None
    keys: list
    counts: np.ndarray
    components: tuple
    seed: int
    device: object
    size: int
    call: dict

    @property
    def total(self):
        """Number of rows of all tables."""
        return int(self.counts.sum())


def _plan(conditions, n, seed, model, components, device, batch_size):
    """Read and check all that is needed before the first star."""
    model = load_model(model, "stars")
    axes, size = model_axes(model), _check_size(batch_size)
    components = _find_components(components, axes)
    check_seed(seed)
    if seed is None:
        seed = fresh_seed()
    device = resolve_device(device)
    galaxies = read_galaxies(conditions, model, device=device)
    counts = _count_stars(n, galaxies, conditions)
    # A galaxy without stars keeps a row, to tell so.
    counts = np.where(galaxies.failed, 1, counts)
    call = {"n": n, "components": None if set(components) == set(axes) else components}
    call = {key: value for key, value in call.items() if value is not None}
    keys = galaxy_keys(galaxies.values, galaxies.realization)
    # One size for each galaxy.
    sizes = [
        torch.randn(1, generator=generator_for(seed, "size of a galaxy", key)).item()
        for key in keys
    ]
    context = galaxies.with_sizes(np.array(sizes))
    return _Draw(
        model,
        axes,
        galaxies,
        context,
        keys,
        counts,
        components,
        seed,
        device,
        size,
        call,
    )


def _count_stars(n, galaxies, conditions):
    """Read the number of stars of each galaxy."""
    if isinstance(n, str):
        table = as_table(conditions, "conditions")
        if n not in table.colnames:
            raise InputError("n", repr(n), "the name of a column of conditions")
        n = table[n]
    if n is None:
        if galaxies.n_stars is not None:
            return galaxies.n_stars
        n = N_STARS
    unit = getattr(n, "unit", None)
    if unit not in (None, u.dimensionless_unscaled):
        return _count_stars_of_mass(u.Quantity(n), galaxies)
    try:
        counts = np.ma.asanyarray(getattr(n, "value", n))
        flagged = isinstance(n, list | tuple) and any(isinstance(k, bool) for k in n)
        if counts.dtype.kind not in "iuf" or flagged:
            raise TypeError("no numbers")
        counts = counts.astype(float).filled(np.nan)
        counts = np.broadcast_to(counts, len(galaxies))
    except (TypeError, ValueError) as error:
        expected = f"a number, or one for each of {len(galaxies)} galaxies"
        raise InputError("n", repr(n), expected) from error
    wrong = ~((counts >= 0) & (counts % 1 == 0) & (counts < 2**53)) & ~galaxies.failed
    if wrong.any():
        raise InputError("n", counts[wrong][0], "whole numbers of stars")
    return np.where(galaxies.failed, 0, counts).astype(np.int64)


def _count_stars_of_mass(mass, galaxies):
    """Count the stars of a mass that each galaxy holds."""
    if not mass.unit.is_equivalent(u.Msun):
        raise InputUnitError("n", f"a value in {mass.unit}", "a number, or a mass")
    if galaxies.mass is None:
        raise InputError("n", "a mass", "a number: stellar masses are not known")
    if not np.all((mass > 0) & np.isfinite(mass)):
        raise InputError("n", str(mass), "a positive mass")
    try:
        mass = np.broadcast_to(mass.to_value(u.Msun), len(galaxies))
    except ValueError as error:
        expected = f"a mass, or one for each of {len(galaxies)} galaxies"
        raise InputError("n", f"shape {mass.shape}", expected) from error
    ratio = np.nan_to_num(galaxies.mass) / mass
    if (ratio > 2**53).any():
        got = f"{mass.min():g} solar masses, of which a galaxy holds {ratio.max():.3g}"
        raise InputError("n", got, "at most 2^53 stars")
    return np.maximum(1, np.round(ratio)).astype(np.int64)


def _stream(draw, progress):
    """Yield rows of galaxies and values of stars; NaN for galaxies without."""
    features = len(draw.axes)
    pieces = noise_pieces(
        draw.keys,
        draw.counts,
        seed=draw.seed,
        features=features,
        size=draw.size,
    )
    failed = draw.galaxies.failed
    with progress_updates(progress, draw.total, unit="star") as update:
        for galaxy, stars in evaluate(
            draw.model.network,
            pieces,
            "noise",
            draw.context,
            device=draw.device,
            size=draw.size,
            update=update,
        ):
            # They went through the network with stand-ins for their conditions.
            stars[failed[galaxy]] = np.nan
            yield galaxy, stars


def _tables(draw, chunk, progress):
    """Yield tables with ``chunk`` stars each, the last what is left; at least one."""
    waiting, number = [], 0
    for part in _stream(draw, progress):
        waiting.append(part)
        number += len(part[0])
        if number < chunk:
            continue
        galaxy, values = map(np.concatenate, zip(*waiting, strict=True))
        whole = number - number % chunk
        for start in range(0, whole, chunk):
            piece = slice(start, start + chunk)
            yield _build(draw, galaxy[piece], values[piece])
        waiting, number = [(galaxy[whole:], values[whole:])], number - whole
    if not draw.total:
        yield _build(draw, np.empty(0, dtype=int), np.empty((0, len(draw.axes))))
    elif number:
        yield _build(draw, *map(np.concatenate, zip(*waiting, strict=True)))


def _build(draw, galaxy, values):
    """Put stars into a table, with what is known of their galaxies."""
    galaxies = draw.galaxies
    columns = {"galaxy_id": galaxies.names[galaxy]}
    stars = star_table(values.astype(float, copy=False), draw.axes)
    columns |= {name: stars[name] for name in draw.components}
    if galaxies.mass is not None:
        mass = galaxies.mass / np.maximum(draw.counts, 1)
        columns["mass"] = mass[galaxy] * u.Msun
    return build_table(
        columns,
        operation="sample_stars",
        model=draw.model,
        flags=galaxies.flags[galaxy],
        device=str(draw.device),
        dtype="float32",
        seed=draw.seed,
        call=draw.call,
    )


def _sizes(galaxies):
    """Choose sizes to average over, and give the logarithms of their weights."""
    if not galaxies.scatter.any():
        return np.zeros(1), np.zeros(1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_SIZES)
    return nodes, np.log(weights / weights.sum())


def _check_size(batch_size):
    """Check how many stars the network sees at once."""
    if batch_size is None:
        return BLOCK
    check_whole("batch_size", batch_size)
    return int(batch_size)


def _find_components(components, axes):
    """Name the axes that are wanted, all by default."""
    if components is None:
        return tuple(axes)
    try:
        names = (components,) if isinstance(components, str) else tuple(components)
    except TypeError as error:
        expected = f"names out of {list(axes)}"
        raise InputTypeError("components", repr(components), expected) from error
    unknown = [name for name in names if name not in axes]
    if unknown or not names or len(set(names)) < len(names):
        raise InputError("components", list(names), f"each once, out of {list(axes)}")
    return names


def _star_errors(missing, unknown, galaxies):
    """Say what is wrong with the stars that have no result."""
    if missing.any():
        got = "stars without a galaxy"
        expected = "the galaxy_id of a usable row of conditions"
        return [*galaxies.errors, InputError("stars['galaxy_id']", got, expected)]
    if unknown.any():
        return [InputError("stars", "NaN or masked values", "finite numbers")]
    return []


def _find_galaxies(table, galaxies):
    """Find the galaxy of each star; -1 where it has none."""
    if len(galaxies) == 1:
        return np.zeros(len(table), dtype=np.int64)
    if "galaxy_id" not in table.colnames:
        got = f"no column 'galaxy_id' for {len(galaxies)} galaxies"
        raise InputError("stars", got, "one, or a single row of conditions")
    names = [str(name) for name in galaxies.names.tolist()]
    if len(set(names)) < len(names):
        raise InputError("conditions", "a galaxy_id twice", "each once")
    places = {name: row for row, name in enumerate(names)}
    own = np.asarray(table["galaxy_id"]).astype(str)
    known, inverse = np.unique(own, return_inverse=True)
    rows = [places.get(name, -1) for name in known.tolist()]
    return np.array(rows, dtype=np.int64)[inverse]
