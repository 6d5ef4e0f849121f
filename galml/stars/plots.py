# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of sampled stars, beside true ones, and of a training.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import astropy.units as u
import numpy as np

from galml.core.plots import new_figure, new_mosaic, plot_history
from galml.physics import AGE_OF_UNIVERSE, STAR_AXES
from galml.stars.metrics import (
    age_metallicity,
    ages_and_metallicities,
    cylindrical,
    dispersion_curve,
    known_stars,
    quantiles,
    rotation_curve,
)
from galml.stars.preparation import read_column, read_stars

__all__ = [
    "plot_age_metallicity",
    "plot_galaxy",
    "plot_curves",
    "plot_history",
    "plot_maps",
    "plot_quantiles",
]

#: Colors of the sampled and of the true stars.
COLORS = {"sampled": "tab:blue", "true": "black"}
LABELS = {
    "x": "x (kpc)",
    "y": "y (kpc)",
    "z": "z (kpc)",
    "v_x": "$v_x$ (km/s)",
    "v_y": "$v_y$ (km/s)",
    "v_z": "$v_z$ (km/s)",
    "metal_mass_fraction": "metal mass fraction",
    "fe_h": "[Fe/H] (dex)",
    "o_fe": "[O/Fe] (dex)",
    "age": "age (Gyr)",
}
BINS = 80
#: Share of the stars that a map shows.
SHOWN = 0.98


def plot_maps(sample, truth=None, *, extent=None, figure=None):
    """Draw a galaxy face-on and edge-on.

    Surface density of the stars along z and along y, on a logarithmic scale, and their
    mean velocity along y where the galaxy is seen edge-on.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        Stars, as `galml.sample_stars` gives them.
    truth : `~astropy.table.QTable`, optional
        True stars, drawn below on the same scales. Densities are shares of the stars,
        so that the numbers of stars may differ.
    extent : `~astropy.units.Quantity`, optional
        Half the width of the maps; by default 98 % of the (true) stars are within.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``face-on sampled``, ``edge-on sampled`` and ``velocity
        sampled``, and with a truth the same of ``true``.
    """
    tables = _named(sample, truth)
    figure = new_figure(figure, (10.5, 3.4 * len(tables)))
    axes = new_mosaic(figure, [_map_labels(name) for name in tables])
    _draw_maps(figure, axes, tables, extent)
    return figure


def plot_quantiles(sample, truth, *, axes=None, figure=None):
    """Draw quantiles of the sampled stars against those of the true ones.

    Parameters
    ----------
    sample, truth : `~astropy.table.QTable`
        Stars.
    axes : sequence of str, optional
        Columns; by default those of `galml.physics.STAR_AXES` that both tables have.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes for each column, labeled by it: 99 quantiles, a straight
        line where the distributions are equal.
    """
    if axes is None:
        axes = [n for n in STAR_AXES if n in sample.colnames and n in truth.colnames]
    columns = min(5, len(axes))
    rows = -(-len(axes) // columns)
    figure = new_figure(figure, (2.5 * columns, 2.5 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    levels = np.linspace(0.01, 0.99, 99)
    found = [quantiles(table, levels, axes=axes) for table in (truth, sample)]
    for name, panel in zip(axes, panels, strict=False):
        panel.set_label(name)
        true = u.Quantity(found[0][name])
        drawn = u.Quantity(found[1][name]).to_value(true.unit)
        true = true.value
        panel.plot(true, true, color="0.6", lw=0.8)
        panel.plot(true, drawn, ".", color=COLORS["sampled"], ms=3)
        panel.set_title(LABELS.get(name, name), fontsize=10)
    for panel in list(panels)[len(axes) :]:
        panel.set_axis_off()
    figure.supxlabel("quantiles of the true stars", fontsize=10)
    figure.supylabel("quantiles of the sampled stars", fontsize=10)
    return figure


def plot_curves(sample, truth=None, *, edges=None, figure=None):
    """Draw the rotation and the velocity dispersions against the radius.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        Stars, as `galml.sample_stars` gives them.
    truth : `~astropy.table.QTable`, optional
        True stars.
    edges : `~astropy.units.Quantity`, optional
        Edges of the bins of cylindrical radius; by default 12 equal ones that hold
        95 % of the (true) stars.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``rotation`` and ``dispersion``.
    """
    figure = new_figure(figure, (9.0, 3.8))
    axes = new_mosaic(figure, [["rotation", "dispersion"]])
    _draw_curves(axes, _named(sample, truth), edges)
    return figure


def plot_age_metallicity(sample, truth=None, *, figure=None):
    """Draw the plane of age and metallicity, and that of the abundances.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        Stars with ``age``, ``fe_h`` or ``metal_mass_fraction``, and perhaps ``o_fe``.
    truth : `~astropy.table.QTable`, optional
        True stars, drawn below on the same scales.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``ages sampled``, with the medians and 68 % of the
        stars in bins of age, and ``abundances sampled`` where all tables have
        ``o_fe``; with a truth the same of ``true``.
    """
    tables = _named(sample, truth)
    labels = [_plane_labels(name, tables) for name in tables]
    figure = new_figure(figure, (4.6 * len(labels[0]), 3.6 * len(tables)))
    _draw_planes(new_mosaic(figure, labels), tables)
    return figure


def plot_galaxy(sample, truth=None, *, extent=None, figure=None):
    """Draw the stars of a galaxy: maps, curves, ages and abundances.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        Stars, as `galml.sample_stars` gives them.
    truth : `~astropy.table.QTable`, optional
        True stars, drawn beside them on the same scales.
    extent : `~astropy.units.Quantity`, optional
        As in `plot_maps`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes of `plot_maps`, `plot_curves` and `plot_age_metallicity`.
    """
    tables = _named(sample, truth)
    figure = new_figure(figure, (14.0, 3.2 + 3.2 * len(tables)))
    upper, lower = figure.subfigures(2, 1, height_ratios=(len(tables), 1.15))
    maps = new_mosaic(upper, [_map_labels(name) for name in tables])
    planes = [label for name in tables for label in _plane_labels(name, tables)]
    rest = new_mosaic(lower, [["rotation", "dispersion", *planes]])
    _draw_maps(upper, maps, tables, extent)
    _draw_curves(rest, tables, None)
    _draw_planes(rest, tables)
    return figure


def _named(sample, truth):
    """Tables by what they are."""
    return {"sampled": sample} | ({} if truth is None else {"true": truth})


def _map_labels(name):
    return [f"{view} {name}" for view in ("face-on", "edge-on", "velocity")]


def _plane_labels(name, tables):
    both = all({"o_fe", "fe_h"} <= set(table.colnames) for table in tables.values())
    return [f"{plane} {name}" for plane in ("ages", "abundances")[: 1 + both]]


def _draw_maps(figure, axes, tables, extent):
    """Draw all maps on common scales."""
    places = {name: STAR_AXES[name] for name in ("x", "y", "z", "v_y")}
    stars = {
        name: known_stars(*read_stars(table, places), name).T
        for name, table in tables.items()
    }
    if extent is None:
        side = np.quantile(np.abs(list(stars.values())[-1][:3]).max(axis=0), SHOWN)
    else:
        side = extent.to_value(u.kpc)
    edges = np.linspace(-side, side, BINS + 1)
    speed = np.quantile(np.abs(list(stars.values())[-1][3]), 0.95)
    top = None
    for name in reversed(stars):
        x, y, z, v_y = stars[name]
        views = {f"face-on {name}": (x, y), f"edge-on {name}": (x, z)}
        for label, (first, second) in views.items():
            density = _density(first, second, edges) / (edges[1] - edges[0]) ** 2
            top = density.max() if top is None else top
            drawn = axes[label].imshow(
                np.log10(np.where(density > 0, density, np.nan)).T,
                cmap="magma",
                vmin=np.log10(top) - 4,
                vmax=np.log10(top),
                extent=(-side, side, -side, side),
                origin="lower",
            )
            axes[label].set_facecolor("black")
        figure.colorbar(
            drawn, ax=axes[f"edge-on {name}"], label="log share of stars (kpc$^{-2}$)"
        )
        counts = np.histogram2d(x, z, bins=(edges, edges))[0]
        total = np.histogram2d(x, z, bins=(edges, edges), weights=v_y)[0]
        drawn = axes[f"velocity {name}"].imshow(
            np.divide(
                total, counts, out=np.full_like(total, np.nan), where=counts > 0
            ).T,
            cmap="coolwarm",
            vmin=-speed,
            vmax=speed,
            extent=(-side, side, -side, side),
            origin="lower",
        )
        figure.colorbar(drawn, ax=axes[f"velocity {name}"], label="mean $v_y$ (km/s)")
        for label, vertical in zip(_map_labels(name), ("y", "z", "z"), strict=True):
            axes[label].set(xlabel=LABELS["x"], ylabel=LABELS[vertical], title=label)


def _density(first, second, edges):
    """Share of the stars in each pixel."""
    return np.histogram2d(first, second, bins=(edges, edges))[0] / len(first)


def _draw_curves(axes, tables, edges):
    """Draw mean and dispersion of velocities against the radius."""
    if edges is None:
        radius = cylindrical(list(tables.values())[-1])["radius"]
        edges = np.linspace(0, np.quantile(radius, 0.95), 13) * u.kpc
    centers = (edges[:-1] + edges[1:]).to_value(u.kpc) / 2
    for name, table in tables.items():
        style = {"color": COLORS[name], "ls": "-" if name == "sampled" else "--"}
        curve = rotation_curve(table, edges)["value"].to_value(u.km / u.s)
        axes["rotation"].plot(centers, curve, label=name, **style)
        for along, width in (("r", 1.0), ("phi", 1.7), ("z", 2.4)):
            curve = dispersion_curve(table, edges, along=along)
            label = rf"$\sigma_{{{'R' if along == 'r' else along}}}$ {name}"
            label = label.replace("phi", r"\phi")
            values = curve["value"].to_value(u.km / u.s)
            axes["dispersion"].plot(centers, values, label=label, lw=width, **style)
    axes["rotation"].set(xlabel="R (kpc)", ylabel=r"mean $v_\phi$ (km/s)")
    axes["dispersion"].set(xlabel="R (kpc)", ylabel="velocity dispersion (km/s)")
    # From zero, with room for the legend.
    for label, columns, room in (
        ("rotation", 1, 1.2),
        ("dispersion", len(tables), 1.4),
    ):
        bottom, top = axes[label].dataLim.intervaly
        axes[label].set_ylim(min(0.0, 1.1 * bottom), max(0.0, room * top))
        axes[label].legend(
            loc="upper center", ncols=columns, frameon=False, fontsize="xx-small"
        )


def _draw_planes(axes, tables):
    """Draw ages and abundances on common scales."""
    reference = list(tables.values())[-1]
    _, metallicity = ages_and_metallicities(reference)
    iron = np.quantile(metallicity, (0.005, 0.995)) + (-0.2, 0.2)
    ages = np.linspace(0, AGE_OF_UNIVERSE, 60)
    irons = np.linspace(*iron, 60)
    has_iron = "fe_h" in reference.colnames
    label = LABELS["fe_h"] if has_iron else "[M/H] (dex)"
    for name, table in tables.items():
        panel = axes[f"ages {name}"]
        _draw_plane(panel, *ages_and_metallicities(table), (ages, irons))
        _draw_medians(panel, age_metallicity(table))
        panel.set(xlabel=LABELS["age"], ylabel=label, ylim=iron)
        panel.set_title(panel.get_label(), fontsize="medium")
        panel = axes.get(f"abundances {name}")
        if panel is not None:
            known = {key: STAR_AXES[key] for key in ("fe_h", "o_fe")}
            own = read_column(reference, "o_fe", u.dex, argument="truth")
            oxygens = np.linspace(*np.nanquantile(own, (0.002, 0.998)), 60)
            values = known_stars(*read_stars(table, known), name).T
            _draw_plane(panel, *values, (irons, oxygens))
            panel.set(xlabel=label, ylabel=LABELS["o_fe"])
            panel.set_title(panel.get_label(), fontsize="medium")


def _draw_plane(panel, first, second, edges):
    """Share of the stars in a plane, on a logarithmic scale."""
    counts = np.histogram2d(first, second, bins=edges)[0]
    density = np.log10(np.where(counts > 0, counts, np.nan))
    panel.pcolormesh(*edges, density.T, cmap="Grays", vmin=-0.5, rasterized=True)


def _draw_medians(panel, found):
    """Medians and 68 % of the stars in bins of age."""
    age = (found["low"] + found["high"]).to_value(u.Gyr) / 2
    value, low, high = (
        found[key].to_value(u.dex) for key in ("value", "value_lo", "value_hi")
    )
    panel.fill_between(age, low, high, color="tab:orange", alpha=0.25, lw=0)
    panel.plot(age, value, "o-", color="tab:orange", ms=3)
