# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations `sample_stars` and `star_log_prob`."""

import numpy as np

from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.core.inference import resolve_device
from galml.core.results import build_table, warn_batch
from galml.core.weights import load_model
from galml.stars import sampling
from galml.stars.blocks import check_size, evaluate, star_pieces
from galml.stars.columns import as_table, read_stars
from galml.stars.galaxies import axes_of, galaxies_of

__all__ = ["iter_stars", "sample_stars", "star_log_prob"]

#: Stars of a table of a stream.
CHUNK = 1_000_000


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
    be, so that all stars have 0 < age < age of the universe and 0 < Z.

    Parameters
    ----------
    conditions : `~astropy.table.QTable`
        One row for each galaxy: ``stellar_mass`` (a unit of mass), ``median_age`` and
        ``age_percentile_10`` (units of time), ``metallicity`` (a mass fraction without
        unit, or [M/H] in dex, relative to a solar mass fraction of 0.0134). Optional
        are ``galaxy_id`` (or ``name``, ``id``), ``n_stars``, and, for models that know
        them, ``latent`` or ``image`` (what `galml.spin` takes, in three bands); where
        both are there the latent counts, rows of NaN are galaxies without. None for a
        model without conditions.
    n : number, array, str or `~astropy.units.Quantity`, optional
        Number of stars: one for all galaxies, one for each, or the name of a column;
        or the mass of a star, of which each galaxy gets as many as it holds, at least
        one. By default the column ``n_stars``, else 10 000.
    seed : int, optional
        Seed; None is the same as 0. The stars depend on it and on the conditions of
        their galaxy alone, not on other galaxies or their order, on ``n`` or on
        ``batch_size``, up to rounding in single precision. Galaxies with equal
        conditions get different stars, in the order of their rows.
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
        ``OUT_OF_DOMAIN`` where the conditions are beyond those of the training,
        ``STANDARDIZED`` where the model has no units, as the published ones. A galaxy
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
    .. [1] Wolf & Buck (2023), arXiv:2312.05960 (GalacticFlow); GalacticForge (2024).
    """
    draw = sampling.plan(conditions, n, seed, model, components, device, batch_size)
    # One axis after the other, as the columns will be.
    values = np.empty((len(draw.axes), draw.total)).T
    galaxy = np.empty(draw.total, dtype=np.int64)
    stop = 0
    for rows, stars in sampling.stream(draw, progress):
        start, stop = stop, stop + len(rows)
        galaxy[start:stop], values[start:stop] = rows, stars
    table = sampling.build(draw, galaxy, values)
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
        One after the other they are what `galml.sample_stars` gives.

    Raises
    ------
    galml.core.InputError, galml.core.InputUnitError, galml.core.ModelError
        As `galml.sample_stars` does, before the first table.
    """
    if not isinstance(chunk, int | np.integer) or chunk < 1:
        raise InputError("chunk", repr(chunk), "a positive whole number")
    draw = sampling.plan(conditions, n, seed, model, components, device, batch_size)
    warn_batch(draw.galaxies.flags, draw.galaxies.errors)
    return sampling.tables(draw, int(chunk), progress)


def star_log_prob(
    stars,
    conditions=None,
    *,
    model="default",
    device="auto",
    batch_size=None,
    progress=False,
):
    """Evaluate how likely stars are in their galaxies.

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
        unit metal mass fraction, whatever the units of ``stars``; ``flags``, see
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
    """
    model, size = load_model(model, "stars"), check_size(batch_size)
    device = resolve_device(device)
    galaxies = galaxies_of(conditions, model, device=device)
    table = as_table(stars, "stars")
    values, unknown = read_stars(table, axes_of(model))
    galaxy = _matched(table, galaxies)
    lost = (galaxy < 0) | galaxies.failed[galaxy]
    flags = np.where(lost, 0, galaxies.flags[galaxy])
    flags[lost] |= int(Flag.FAILED)
    flags[unknown] |= int(Flag.FAILED | Flag.NONFINITE)
    order = np.argsort(galaxy, kind="stable")
    order = order[~(lost | unknown)[order]]
    log_prob = np.full(len(table), np.nan)
    parts = evaluate(
        model.network,
        star_pieces(values[order], galaxy[order], size=size),
        "stars",
        galaxies.context,
        device=device,
        size=size,
        progress=progress,
        total=len(order),
    )
    results = [result for _, result in parts]
    log_prob[order] = np.concatenate(results) if results else []
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
    warn_batch(flags, _star_errors(lost, unknown, galaxies))
    return result


def _star_errors(lost, unknown, galaxies):
    """Tell what is wrong with the stars that have no result."""
    if lost.any():
        got = "stars without a galaxy"
        expected = "the galaxy_id of a usable row of conditions"
        return [*galaxies.errors, InputError("stars['galaxy_id']", got, expected)]
    if unknown.any():
        return [InputError("stars", "NaN or masked values", "finite numbers")]
    return []


def _matched(table, galaxies):
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
