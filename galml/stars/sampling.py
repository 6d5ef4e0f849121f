# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is to be drawn of each galaxy, and the tables that it ends in."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputUnitError
from galml.core.inference import resolve_device
from galml.core.model import GalaxyModel
from galml.core.results import build_table
from galml.core.weights import load_model
from galml.stars.blocks import check_size, evaluate, galaxy_keys, noise_pieces
from galml.stars.columns import as_table, check_components, star_table
from galml.stars.galaxies import Galaxies, axes_of, galaxies_of

__all__ = ["Draw", "build", "plan", "stream", "tables"]

#: Stars of a galaxy where nothing else is said.
N_STARS = 10_000


@dataclass
class Draw:
    """What is to be drawn."""

    model: GalaxyModel
    axes: dict
    galaxies: Galaxies
    counts: np.ndarray
    components: tuple
    seed: int | None
    device: object
    size: int
    call: dict

    @property
    def total(self):
        """Number of rows of all tables."""
        return int(self.counts.sum())


def plan(conditions, n, seed, model, components, device, batch_size):
    """Read and check all that is needed before the first star."""
    model = load_model(model, "stars")
    axes, size = axes_of(model), check_size(batch_size)
    components = check_components(components, axes)
    device = resolve_device(device)
    galaxies = galaxies_of(conditions, model, device=device)
    counts = _counts(n, galaxies, conditions)
    # A galaxy without stars keeps a row, to tell so.
    counts = np.where(galaxies.failed, 1, counts)
    call = {"n": n, "components": None if set(components) == set(axes) else components}
    call = {key: value for key, value in call.items() if value is not None}
    return Draw(model, axes, galaxies, counts, components, seed, device, size, call)


def _counts(n, galaxies, conditions):
    """Give the number of stars of each galaxy."""
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
        return _counts_of_mass(u.Quantity(n), galaxies)
    try:
        if hasattr(n, "filled"):
            n = n.astype(float).filled(np.nan)
        counts = np.array(getattr(n, "value", n), dtype=float)
        counts = np.broadcast_to(counts, len(galaxies))
    except (TypeError, ValueError) as error:
        expected = f"a number, or one for each of {len(galaxies)} galaxies"
        raise InputError("n", repr(n), expected) from error
    wrong = ~((counts >= 0) & (counts % 1 == 0) & (counts < 2**53)) & ~galaxies.failed
    if wrong.any():
        raise InputError("n", counts[wrong][0], "whole numbers of stars")
    return np.where(galaxies.failed, 0, counts).astype(np.int64)


def _counts_of_mass(mass, galaxies):
    """Give the number of stars of a mass that each galaxy holds."""
    if not mass.unit.is_equivalent(u.Msun):
        raise InputUnitError("n", f"a value in {mass.unit}", "a number, or a mass")
    if galaxies.mass is None:
        raise InputError("n", "a mass", "a number: stellar masses are not known")
    if not np.all((mass > 0) & np.isfinite(mass)):
        raise InputError("n", str(mass), "a positive mass")
    ratio = np.nan_to_num(galaxies.mass) / mass.to_value(u.Msun)
    return np.maximum(1, np.round(ratio)).astype(np.int64)


def stream(draw, progress):
    """Yield rows of galaxies and values of stars; NaN for galaxies without."""
    features = len(draw.axes)
    pieces = noise_pieces(
        galaxy_keys(draw.galaxies.values),
        draw.counts,
        seed=draw.seed,
        features=features,
        size=draw.size,
    )
    failed = draw.galaxies.failed
    for galaxy, stars in evaluate(
        draw.model.network,
        pieces,
        "noise",
        draw.galaxies.context,
        device=draw.device,
        size=draw.size,
        progress=progress,
        total=draw.total,
    ):
        # They went through the network with conditions of nobody.
        stars[failed[galaxy]] = np.nan
        yield galaxy, stars


def tables(draw, chunk, progress):
    """Yield tables with ``chunk`` stars each, the last what is left; at least one."""
    waiting, number = [], 0
    for part in stream(draw, progress):
        waiting.append(part)
        number += len(part[0])
        if number < chunk:
            continue
        galaxy, values = map(np.concatenate, zip(*waiting, strict=True))
        whole = number - number % chunk
        for start in range(0, whole, chunk):
            piece = slice(start, start + chunk)
            yield build(draw, galaxy[piece], values[piece])
        waiting, number = [(galaxy[whole:], values[whole:])], number - whole
    if not draw.total:
        yield build(draw, np.empty(0, dtype=int), np.empty((0, len(draw.axes))))
    elif number:
        yield build(draw, *map(np.concatenate, zip(*waiting, strict=True)))


def build(draw, galaxy, values):
    """Put stars into a table, with what is known of their galaxies."""
    galaxies = draw.galaxies
    columns = {"galaxy_id": galaxies.names[galaxy]}
    columns |= star_table(
        values.astype(float, copy=False), draw.axes, components=draw.components
    ).columns
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
        seed=draw.seed or 0,
        call=draw.call,
    )
