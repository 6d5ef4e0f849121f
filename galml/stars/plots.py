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
#: Lines of the curves, and of each component its color and name.
STYLES = {"sampled": "-", "true": "--"}
COMPONENTS = {
    "r": ("tab:red", r"$\sigma_R$"),
    "phi": ("tab:blue", r"$\sigma_\phi$"),
    "z": ("tab:green", r"$\sigma_z$"),
}
#: Fewest and most pixels along a side of a map, decades that it shows, and stars that a
#: pixel needs for a mean.
BINS, DECADES, LEAST = (24, 80), 4, 0.5
#: Share of the stars that a map shows.
SHOWN = 0.98


def plot_maps(sample, truth=None, *, extent=None, figure=None):
    """Draw a galaxy face-on and edge-on.

    Surface density of the stars along z and along y, on a logarithmic scale, and their
    mean velocity along y where the galaxy is seen edge-on; smoothed by a pixel, which
    are larger where there are fewer stars. Where there are none, maps are blank.

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
    figure = new_figure(figure, (11.0, 0.6 + 3.0 * len(tables)))
    axes = new_mosaic(figure, [_map_labels(name) for name in tables])
    _draw_maps(figure, axes, tables, extent)
    _add_name(figure, sample)
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
    figure = new_figure(figure, (9.0, 4.0))
    axes = new_mosaic(figure, [["rotation", "dispersion"]])
    _draw_curves(axes, _named(sample, truth), edges)
    _add_name(figure, sample)
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
    _draw_planes(figure, new_mosaic(figure, labels), tables)
    _add_name(figure, sample)
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
    rows = [_map_labels(name) + _plane_labels(name, tables) for name in tables]
    figure = new_figure(figure, (3.3 * len(rows[0]), 3.4 + 3.0 * len(tables)))
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.0 * len(tables), 3.0))
    axes = new_mosaic(upper, rows)
    _draw_maps(upper, axes, tables, extent)
    _draw_planes(upper, axes, tables)
    _draw_curves(new_mosaic(lower, [["rotation", "dispersion"]]), tables, None)
    _add_name(figure, sample)
    return figure


def _named(sample, truth):
    """Tables by what they are."""
    return {"sampled": sample} | ({} if truth is None else {"true": truth})


def _map_labels(name):
    return [f"{view} {name}" for view in ("face-on", "edge-on", "velocity")]


def _plane_labels(name, tables):
    both = all({"o_fe", "fe_h"} <= set(table.colnames) for table in tables.values())
    return [f"{plane} {name}" for plane in ("ages", "abundances")[: 1 + both]]


def _add_name(figure, sample):
    """Name the galaxy, where all stars are of one."""
    names = set(sample["galaxy_id"]) if "galaxy_id" in sample.colnames else ()
    if len(names) == 1:
        figure.suptitle(str(*names))


def _draw_maps(figure, axes, tables, extent):
    """Draw all maps on common scales."""
    places = {name: STAR_AXES[name] for name in ("x", "y", "z", "v_y")}
    stars = {
        name: known_stars(*read_stars(table, places), name).T
        for name, table in tables.items()
    }
    reference = list(stars.values())[-1]
    if extent is None:
        side = np.quantile(np.abs(reference[:3]).max(axis=0), SHOWN)
    else:
        side = extent.to_value(u.kpc)
    least = min(values.shape[1] for values in stars.values())
    bins = int(np.clip(np.sqrt(least) / 2.5, *BINS))
    edges = np.linspace(-side, side, bins + 1)
    speed = np.quantile(np.abs(reference[3]), 0.95)
    options = {"extent": (-side, side, -side, side), "origin": "lower"}
    tops = []
    for name in reversed(stars):
        x, y, z, v_y = stars[name]
        for view, second in (("face-on", y), ("edge-on", z)):
            counts, _ = _smooth(x, second, edges)
            density = counts / len(x) / (edges[1] - edges[0]) ** 2
            tops.append(density.max())
            densities = axes[f"{view} {name}"].imshow(
                np.log10(np.where(density > 0, density, np.nan)).T,
                cmap="magma",
                vmin=np.log10(tops[0]) - DECADES,
                vmax=np.log10(tops[0]),
                **options,
            )
            axes[f"{view} {name}"].set_facecolor("black")
        counts, total = _smooth(x, z, edges, v_y)
        velocities = axes[f"velocity {name}"].imshow(
            np.where(counts > LEAST, total / np.maximum(counts, LEAST), np.nan).T,
            cmap="coolwarm",
            vmin=-speed,
            vmax=speed,
            **options,
        )
        axes[f"velocity {name}"].set_facecolor("0.9")
        for label, vertical in zip(_map_labels(name), ("y", "z", "z"), strict=True):
            axes[label].set(xlabel=LABELS["x"], ylabel=LABELS[vertical], title=label)
    # One bar for all maps of a kind, which share their scale.
    for drawn, view, title in (
        (densities, "edge-on", "log share of stars (kpc$^{-2}$)"),
        (velocities, "velocity", "mean $v_y$ (km/s)"),
    ):
        panels = [axes[f"{view} {name}"] for name in tables]
        figure.colorbar(drawn, ax=panels, label=title, aspect=20 * len(panels))


def _smooth(first, second, edges, weights=None):
    """Stars in each pixel, and the sum of their weights, smoothed by a pixel."""
    from scipy.ndimage import gaussian_filter

    found = []
    for one in (None, weights):
        counts = np.histogram2d(first, second, bins=(edges, edges), weights=one)[0]
        found.append(gaussian_filter(counts, 1.0, mode="constant", truncate=3.0))
    return found


def _draw_curves(axes, tables, edges):
    """Draw mean and dispersion of velocities against the radius."""
    if edges is None:
        radius = cylindrical(list(tables.values())[-1])["radius"]
        edges = np.linspace(0, np.quantile(radius, 0.95), 13) * u.kpc
    centers = (edges[:-1] + edges[1:]).to_value(u.kpc) / 2
    for name, table in tables.items():
        line = STYLES[name]
        curve = rotation_curve(table, edges)["value"].to_value(u.km / u.s)
        axes["rotation"].plot(centers, curve, line, color=COLORS[name], label=name)
        for along, (color, label) in COMPONENTS.items():
            curve = dispersion_curve(table, edges, along=along)
            values = curve["value"].to_value(u.km / u.s)
            label = f"{label} {name}"
            axes["dispersion"].plot(centers, values, line, color=color, label=label)
    axes["rotation"].set(xlabel="R (kpc)", ylabel=r"mean $v_\phi$ (km/s)")
    axes["dispersion"].set(xlabel="R (kpc)", ylabel="velocity dispersion (km/s)")
    for label, columns in (("rotation", 1), ("dispersion", len(tables))):
        bottom, top = axes[label].dataLim.intervaly
        axes[label].set_ylim(min(0.0, 1.1 * bottom), max(0.0, 1.1 * top))
        axes[label].margins(x=0.02)
        axes[label].legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            ncols=1 if columns == 1 else columns,
            frameon=False,
            fontsize="small",
        )


def _draw_planes(figure, axes, tables):
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
        drawn = _draw_plane(panel, *ages_and_metallicities(table), (ages, irons))
        _draw_medians(panel, age_metallicity(table))
        panel.set(xlabel=LABELS["age"], ylabel=label, ylim=iron)
        panel.set_title(panel.get_label())
        panel = axes.get(f"abundances {name}")
        if panel is not None:
            known = {key: STAR_AXES[key] for key in ("fe_h", "o_fe")}
            own = read_column(reference, "o_fe", u.dex, argument="truth")
            oxygens = np.linspace(*np.nanquantile(own, (0.002, 0.998)), 60)
            values = known_stars(*read_stars(table, known), name).T
            drawn = _draw_plane(panel, *values, (irons, oxygens))
            panel.set(xlabel=label, ylabel=LABELS["o_fe"])
            panel.set_title(panel.get_label())
    last = [axes[_plane_labels(name, tables)[-1]] for name in tables]
    title = "log stars over most in a cell"
    figure.colorbar(drawn, ax=last, label=title, aspect=20 * len(last))


def _draw_plane(panel, first, second, edges):
    """Stars in a plane over the most in a cell of it, on a logarithmic scale."""
    counts = np.histogram2d(first, second, bins=edges)[0]
    share = np.log10(np.where(counts > 0, counts / max(counts.max(), 1), np.nan))
    return panel.pcolormesh(
        *edges, share.T, cmap="Grays", vmin=-3, vmax=0, rasterized=True
    )


def _draw_medians(panel, found):
    """Medians and 68 % of the stars in bins of age."""
    age = (found["low"] + found["high"]).to_value(u.Gyr) / 2
    value, low, high = (
        found[key].to_value(u.dex) for key in ("value", "value_lo", "value_hi")
    )
    panel.fill_between(age, low, high, color="tab:orange", alpha=0.25, lw=0)
    panel.plot(age, value, "o-", color="tab:orange", ms=3)
