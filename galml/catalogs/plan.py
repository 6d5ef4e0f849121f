# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""In which order galaxies are cut out, so that each tile is opened once."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from galml.core.exceptions import InputError, InputUnitError
from galml.cutouts.extract import flag_neighbors
from galml.cutouts.targets import SKY_NAMES, plan_sizes, read_catalog
from galml.physics import CONDITIONS, OPTIONAL_CONDITIONS

__all__ = [
    "Plan",
    "count_equal",
    "grid_of",
    "near_others",
    "plan_order",
    "positions_of",
    "reasons_of",
]

#: Columns that tell where galaxies are and how large, in lower case.
PLACES = ("ra", "dec", "raj2000", "dej2000", "r_eff")
#: Rows whose positions are read, and whose neighbors are found, at one time.
STRIP = 65_536


@dataclass
class Plan:
    """Galaxies of a catalog, and the order in which they are cut out.

    Attributes
    ----------
    galaxies : `~astropy.table.QTable`
        Row by row of the catalog, what `positions_of` gives.
    flags : `~numpy.ndarray` of int
        Whether another entry of the catalog is near.
    order : `~numpy.ndarray` of int
        Rows, tile after tile.
    reasons : dict of int to str
        Why rows have no cutout, where the catalog is to blame.
    """

    galaxies: QTable
    flags: np.ndarray
    order: np.ndarray
    reasons: dict


def plan_order(source, survey, cutting):
    """Read where galaxies are, and order them by their tiles.

    Parameters
    ----------
    source : object
        From `galml.catalogs.sources.open_source`.
    survey : `galml.catalogs.tiles.Survey`
        The tiles.
    cutting : dict
        Keywords of the cutouts.

    Returns
    -------
    Plan
        In memory as 36 bytes for each galaxy.
    """
    names = [name for name in source.names if name.lower() in PLACES]
    if not {"ra", "raj2000"} & {name.lower() for name in names}:
        names = None
    parts, firsts, reaches, reasons = [], [], [], {}
    for batch in source.batches(STRIP, names):
        galaxies = positions_of(batch)
        points, scales, n_pixels = grid_of(galaxies, cutting)
        reach = np.radians(scales / 3600) * n_pixels / np.sqrt(2)
        rows, tiles = survey.find(points, reach)
        first = np.full(len(batch), len(survey.table), np.int32)
        first[rows[::-1]] = tiles[::-1]
        start = sum(map(len, parts))
        told = reasons_of(batch, galaxies, scales)
        reasons |= {start + row: reason for row, reason in told.items()}
        parts.append(galaxies)
        firsts.append(first)
        reaches.append((scales * n_pixels / 2).astype(np.float32))
    galaxies = QTable(
        {
            name: np.concatenate([part[name] for part in parts])
            for name in parts[0].colnames
        }
    )
    order = np.argsort(np.concatenate(firsts), kind="stable")
    flags = near_others(galaxies, np.concatenate(reaches))
    return Plan(galaxies, flags, order, reasons)


def count_equal(source, model):
    """Count the galaxies with the same conditions that come before each one.

    Parameters
    ----------
    source : object
        From `galml.catalogs.sources.open_source`.
    model : `~galml.core.model.GalaxyModel`
        Draws their stars.

    Returns
    -------
    `~numpy.ndarray` of int
        Shape (n,).
    """
    from galml.stars.galaxies import condition_values
    from galml.stars.pieces import rounded

    known = {name.removeprefix("log_") for name in CONDITIONS + OPTIONAL_CONDITIONS}
    names = [name for name in source.names if name.removeprefix("log_") in known]
    if not names:
        return np.arange(source.length)
    # Eight bytes for each galaxy, however many columns there are.
    digests = [np.empty(0, np.int64)]
    for batch in source.batches(STRIP, names):
        rows = rounded(condition_values(batch, model))
        digests.append(np.array([hash(row.tobytes()) for row in rows], np.int64))
    return _occurrences(np.concatenate(digests))


def _occurrences(values):
    """Count for each value those before it that are equal."""
    order = np.argsort(values, kind="stable")
    places = np.arange(len(order))
    first = np.diff(values[order], prepend=0) != 0
    first[:1] = True
    before = np.empty(len(order), np.int64)
    before[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return before


def positions_of(catalog):
    """Read positions, sizes and names.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As `galml.extract_cutouts` takes it.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``ra`` and ``dec`` (NaN where there is none), and ``r_eff`` where the
        catalog has it.

    Raises
    ------
    galml.core.InputUnitError
        For ``r_eff`` without a unit, or in pixels, which each tile has its own of.
    """
    if "r_eff" in catalog.colnames:
        unit = getattr(catalog["r_eff"], "unit", None)
        if unit is None or unit.is_equivalent(u.pix):
            got = "no unit" if unit is None else f"the unit {unit}"
            expected = "an angle, or units={'r_eff': 'arcsec'}"
            raise InputUnitError("catalog['r_eff']", got, expected)
    _, sky, r_eff = read_catalog(catalog, None)
    galaxies = QTable({"ra": sky.ra.deg * u.deg, "dec": sky.dec.deg * u.deg})
    if r_eff is not None:
        galaxies["r_eff"] = r_eff * u.arcsec
    return galaxies


def reasons_of(catalog, galaxies, scales):
    """Tell which value of the catalog is why a galaxy has no cutout.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As `galml.extract_cutouts` takes it.
    galaxies : `~astropy.table.QTable`
        What `positions_of` gives of it.
    scales : `~numpy.ndarray`
        Shape (n,): arcsec per pixel, from `grid_of`.

    Returns
    -------
    dict of int to str
        By row, of those that have no position, or a size that is needed.
    """
    known = {name.lower(): name for name in catalog.colnames}
    sky = [name for name in catalog.colnames if isinstance(catalog[name], SkyCoord)]
    pairs = [pair for pair in SKY_NAMES if set(pair) <= set(known)]
    names = sky[:1] or [known[one] for one in pairs[0]]
    lost, reasons = np.isnan(galaxies["ra"].value), {}
    for row in np.flatnonzero(lost | ~np.isfinite(scales)).tolist():
        name, expected = "r_eff", "an angle above zero"
        if lost[row]:
            # Numbers that are all finite are those of no declination.
            bad = [one for one in names if not _is_finite(catalog[one][row])]
            name, expected = (bad or names)[-1], "a position on the sky"
        value = catalog[name][row]
        masked = np.any(getattr(value, "mask", False))
        got = "a masked value" if masked else " ".join(str(value).split())
        reasons[row] = str(InputError(f"catalog[{name!r}]", got, expected))
    return reasons


def _is_finite(value):
    """Whether an element of a column is a number that is not masked."""
    if isinstance(value, SkyCoord):
        return False
    number = getattr(value, "unmasked", value)
    number = getattr(number, "value", number)
    return not np.any(getattr(value, "mask", False)) and bool(np.isfinite(number))


def grid_of(galaxies, cutting):
    """Work out where the pixels of cutouts lie.

    Parameters
    ----------
    galaxies : `~astropy.table.QTable`
        From `positions_of`.
    cutting : dict
        Keywords of the cutouts.

    Returns
    -------
    points : `~numpy.ndarray`
        Shape (n, 3): unit vectors of the positions.
    scales : `~numpy.ndarray`
        Shape (n,): arcsec per pixel.
    n_pixels : int
        Pixels on a side.
    """
    r_eff = galaxies["r_eff"].value if "r_eff" in galaxies.colnames else None
    size, n_pixels, scale = (cutting[k] for k in ("size", "n_pixels", "pixel_scale"))
    # With a number of pixels, images have no say in their scale.
    native = u.arcsec * 1 if scale is None else scale
    n_pixels, scales = plan_sizes(size, n_pixels, scale, native, r_eff, len(galaxies))
    sky = SkyCoord(galaxies["ra"], galaxies["dec"])
    return sky.cartesian.xyz.value.T, scales, n_pixels


def near_others(galaxies, reach):
    """Flag galaxies with another one near, strip by strip of the sky.

    Parameters
    ----------
    galaxies : `~astropy.table.QTable`
        From `positions_of`.
    reach : `~numpy.ndarray`
        Shape (n,): half of the side of their cutouts in arcsec.

    Returns
    -------
    `~numpy.ndarray` of int
        Shape (n,): flags.
    """
    dec = galaxies["dec"].value
    order = np.argsort(dec, kind="stable")
    sorted_dec = dec[order]
    known = np.isfinite(sorted_dec).sum()
    flags = np.zeros(len(galaxies), np.int32)
    margin = np.nan_to_num(reach).max(initial=0.0) / 3600
    for start in range(0, known, STRIP):
        stop = min(start + STRIP, known)
        edges = sorted_dec[start] - margin, sorted_dec[stop - 1] + margin
        low, high = np.searchsorted(sorted_dec[:known], edges)
        high = max(high, stop)
        rows = order[low:high]
        sky = SkyCoord(galaxies["ra"][rows], galaxies["dec"][rows])
        found = flag_neighbors(sky, reach[rows])
        flags[order[start:stop]] = found[start - low : stop - low]
    return flags
