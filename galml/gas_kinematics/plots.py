# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of one galaxy, of a table of results and of a training.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.geometry import angle_difference, pixel_angle
from galml.core.plots import (
    count_numbers,
    count_title,
    draw_beam,
    flags_text,
    marker_size,
    name_of_row,
    new_figure,
    new_mosaic,
    plot_history,
    principal_plane,
)

__all__ = ["VELOCITY_COLORS", "plot_galaxy", "plot_history", "plot_table"]

#: Color map of velocities: blue comes, red goes. Lightness in CIELAB is the same at
#: equal speeds of either sign, to one unit, and falls with speed on both sides;
#: colors differ by equal amounts for equal steps (Moreland 2009, ISVC, 92). The
#: systemic velocity is gray, so that it differs from white, where nothing is known.
VELOCITY_COLORS = "coolwarm"

ACCENT = "black"
BOUNDARY = 0.5
#: Colors saturate at this many velocity scales, which outliers do not move.
LIMIT = 2.0


def plot_galaxy(
    velocity_map,
    row,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    line=None,
    width=None,
    continuum=None,
    rest_value=None,
    convention=None,
    unit=None,
    hdu=None,
    dispersion_hdu=None,
    figure=None,
):
    """Draw one galaxy and what was found.

    On the left the map, with the receding side of the line of nodes and its error
    wedge; in the middle the map as the network sees it, turned so that the receding
    side of a classical fit points up, in units of its velocity scale; on the right
    the circularity with its 68 % interval.

    Parameters
    ----------
    velocity_map : object
        What was given to `galml.circularity`; a cube is reduced to its moments.
    row : `~astropy.table.Row` or mapping
        The galaxy's row of the result. Where the operation failed, the map is drawn
        alone.
    dispersion, center, redshift, beam, line, width, continuum, rest_value, \
convention, unit, hdu, dispersion_hdu
        As they were given to `galml.circularity`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``map``, ``prepared`` and ``circularity``.

    Raises
    ------
    galml.core.InputError
        As `galml.circularity` does for a map that cannot be used, and for a batch.
    """
    from galml.gas_kinematics.preparation import prepare
    from galml.gas_kinematics.velocities import read_maps

    is_single, _, maps = read_maps(
        velocity_map,
        dispersion=dispersion,
        center=center,
        redshift=redshift,
        beam=beam,
        line=line,
        width=width,
        continuum=continuum,
        rest_value=rest_value,
        convention=convention,
        unit=unit,
        hdu=hdu,
        dispersion_hdu=dispersion_hdu,
    )
    if not is_single:
        raise InputError("velocity_map", "a batch of maps", "one map")
    item = next(maps)
    prepared = prepare([item])
    figure = new_figure(figure, (11.5, 4.6))
    axes = new_mosaic(
        figure, [["map", "prepared", "circularity"]], width_ratios=(1.0, 1.0, 0.42)
    )
    _draw_map(figure, axes["map"], item, prepared)
    _draw_prepared(figure, axes["prepared"], prepared)
    if np.isfinite(row["position_angle"]):
        _draw_angle(axes["map"], item, prepared, row)
    _draw_circularity(axes["circularity"], row)
    title = name_of_row(row, item.names[0]) or "velocity map"
    axes["map"].set_title(title, fontsize=10)
    figure.supxlabel(_describe(row), fontsize=9)
    return figure


def plot_table(table, truth=None, *, figure=None):
    """Draw a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.circularity` gave.
    truth : mapping of str to array_like or `~astropy.units.Quantity`, optional
        ``circularity`` and, where known, ``position_angle`` of each row, in degrees
        unless it has a unit.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``latent``, ``histogram`` and ``quality``, and with a
        truth ``truth``, ``calibration`` and ``reliability``.
    """
    rows = [["latent", "histogram", "quality"]]
    if truth is not None:
        rows.append(["truth", "calibration", "reliability"])
    figure = new_figure(figure, (12.6, 4.0 * len(rows)))
    axes = new_mosaic(figure, rows)
    _draw_latent(figure, axes["latent"], table)
    _draw_histogram(axes["histogram"], table)
    _draw_quality(figure, axes["quality"], table)
    if truth is not None:
        _draw_truth(figure, axes["truth"], table, truth)
        _draw_calibration(axes["calibration"], table, truth)
        _draw_reliability(axes["reliability"], table, truth)
    return figure


def _draw_map(figure, panel, item, prepared):
    """Observed velocities around the systemic one, in the colors of the turned map."""
    velocity = item.values[0] - float(prepared.systemic[0])
    seen = np.isfinite(velocity)
    limit = LIMIT * float(prepared.scale[0])
    image = panel.imshow(
        velocity,
        origin="lower",
        cmap=VELOCITY_COLORS,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=panel, location="left", shrink=0.75, extend="both")
    bar.set_label("velocity − systemic (km/s)")
    # Empty margins tell nothing; a square shows both panels at one size.
    used = np.argwhere(seen | ~seen.any())
    low, high = used.min(axis=0), used.max(axis=0)
    (y, x), half = (low + high) / 2, 0.54 * (high - low).max() + 1
    panel.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")
    panel.set(xlabel="x (pixel)", ylabel="y (pixel)")
    draw_beam(panel, item.beam[0])


def _draw_angle(panel, item, prepared, row):
    """Line from the center to the receding side, and a wedge of one sigma."""
    from matplotlib.patches import Wedge

    center = tuple(prepared.center[0].tolist())
    radius = float(prepared.radius[0])
    angle = pixel_angle(row["position_angle"], item.wcs_of(0), center).value
    theta = np.radians(angle)
    end = (center[0] - radius * np.sin(theta), center[1] + radius * np.cos(theta))
    panel.plot(*zip(center, end, strict=True), color=ACCENT, lw=1.5, gid="angle")
    panel.plot(*center, "+", color=ACCENT, ms=9, gid="center")
    error = _degrees(row["position_angle_err"])
    if np.isfinite(error):
        # Wedges count from +x.
        low, high = angle + 90 - error, angle + 90 + error
        wedge = Wedge(center, radius, low, high, fc=ACCENT, alpha=0.22, gid="wedge")
        panel.add_patch(wedge)


def _draw_prepared(figure, panel, prepared):
    """Draw the turned map of the network, in units of its scale."""
    velocity, cover = prepared.image[0, :2].numpy()
    image = panel.imshow(
        np.where(cover > 0.15, velocity, np.nan),
        origin="lower",
        cmap=VELOCITY_COLORS,
        vmin=-LIMIT,
        vmax=LIMIT,
        interpolation="nearest",
        extent=(-1, 1, -1, 1),
    )
    scale = float(prepared.scale[0])
    bar = figure.colorbar(image, ax=panel, location="right", shrink=0.75, extend="both")
    bar.set_label(f"velocity / {scale:.3g} km/s")
    arrow = {"arrowstyle": "->", "color": "0.3", "lw": 0.8}
    panel.annotate("", (0, 1), (0, 0), arrowprops=arrow)
    ticks = (-1, 0, 1)
    panel.set(xlabel="x / radius", ylabel="y / radius", xticks=ticks, yticks=ticks)
    turn = float(prepared.angle[0]) % 360
    panel.set_title(f"as the network sees it, turned by {turn:.0f}°", fontsize=10)


def _draw_circularity(panel, row):
    """Circularity and its interval from 0 to 1."""
    kappa = row["circularity"]
    panel.axhline(BOUNDARY, color="0.4", lw=0.8, ls="--")
    panel.set(xlim=(-1, 1), ylim=(0, 1), xticks=[], ylabel="circularity κ")
    panel.text(0, 0.97, "ordered", ha="center", va="top", color="0.4")
    panel.text(0, 0.03, "disturbed", ha="center", va="bottom", color="0.4")
    if np.isfinite(kappa):
        lo, hi = row["circularity_lo"], row["circularity_hi"]
        panel.bar(0, hi - lo, 0.5, bottom=lo, color="tab:blue", alpha=0.35)
        panel.plot((-0.25, 0.25), (kappa, kappa), color="tab:blue", lw=2.5)


def _describe(row):
    """Say in two lines what was found and what the flags tell."""
    angle, tilt = (_angle(row, key) for key in ("position_angle", "inclination"))
    flags = flags_text(row)
    if not np.isfinite(row["circularity"]):
        return f"no circularity,  PA = {angle}\n{flags}"
    kappa, error = row["circularity"], row["circularity_err"]
    odds, quality = row["disturbed_probability"], row["map_quality"]
    return (
        f"κ = {kappa:.2f} ± {error:.2f},  P(disturbed) = {odds:.2f},  PA = {angle},"
        f"  i = {tilt},  map quality {quality:.2f}\n{flags}"
    )


def _angle(row, key):
    """Write an angle with its error, where there is one."""
    angle, error = _degrees(row[key]), _degrees(row[f"{key}_err"])
    if not np.isfinite(angle):
        return "unknown"
    if not np.isfinite(error):
        return f"{angle:.0f}°"
    digits = 1 if error < 1 else 0
    return f"{angle:.{digits}f}° ± {error:.{digits}f}°"


def _degrees(angle):
    return u.Quantity(angle, u.deg).value


def _draw_latent(figure, panel, table):
    """First two principal components of the latent space."""
    latent, kappa = np.asarray(table["latent"]), np.asarray(table["circularity"])
    known = np.isfinite(latent).all(axis=1)
    latent, kappa = latent[known], kappa[known]
    panel.set(xlabel="first component", ylabel="second component")
    panel.set_title("latent plane", fontsize=10)
    if len(latent) < 2:
        return
    x, y = principal_plane(latent).T
    # Gray remains where there is no circularity.
    panel.scatter(x, y, marker_size(len(x)), color="0.8")
    image = panel.scatter(
        x, y, marker_size(len(x)), kappa, cmap="viridis", vmin=0, vmax=1
    )
    figure.colorbar(image, ax=panel, label="circularity κ")


def _draw_histogram(panel, table):
    kappa = np.asarray(table["circularity"])
    known = kappa[np.isfinite(kappa)]
    count_numbers(panel, known, np.linspace(0, 1, 26), color="0.6")
    panel.axvline(BOUNDARY, color="0.2", lw=0.8, ls="--")
    panel.set(xlabel="circularity κ", ylabel="galaxies", xlim=(0, 1))
    panel.set_title(count_title(np.isfinite(kappa)), fontsize=10)


def _draw_quality(figure, panel, table):
    """Error of the position angle against that of the circularity."""
    image = panel.scatter(
        np.asarray(table["circularity_err"]),
        _degrees(table["position_angle_err"]),
        marker_size(len(table)),
        np.asarray(table["map_quality"]),
        cmap="cividis",
        vmin=0,
        vmax=1,
    )
    figure.colorbar(image, ax=panel, label="map quality")
    panel.set(xlabel="error of κ", ylabel="error of the position angle (°)")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    # Of less than a decade, the minor ticks have numbers, too.
    low, high = panel.get_ylim()
    panel.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")


def _draw_truth(figure, panel, table, truth):
    """Circularity against its truth: error bars for few, density for many."""
    from galml.gas_kinematics.metrics import balanced_accuracy, scatter68

    kappa, true = np.asarray(table["circularity"]), np.asarray(truth["circularity"])
    if len(table) <= 300:
        lo, hi = (np.asarray(table[f"circularity_{end}"]) for end in ("lo", "hi"))
        # The interval of a skewed distribution may leave its median by rounding.
        error = np.clip([kappa - lo, hi - kappa], 0, None)
        panel.errorbar(true, kappa, error, fmt="o", ms=3, lw=0.7, color="tab:blue")
    else:
        known = np.isfinite(kappa)
        style = {"bins": "log", "mincnt": 1, "cmap": "Blues", "extent": (0, 1, 0, 1)}
        image = panel.hexbin(true[known], kappa[known], gridsize=40, **style)
        figure.colorbar(image, ax=panel, label="galaxies", shrink=0.8)
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    for line in (panel.axhline, panel.axvline):
        line(BOUNDARY, color="0.2", lw=0.8, ls="--")
    panel.set(xlabel="true κ", ylabel="κ", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    panel.set_title(
        f"68 % within {scatter68(kappa - true):.3f}, balanced accuracy "
        f"{balanced_accuracy(kappa, true):.3f}",
        fontsize=10,
    )


def _draw_calibration(panel, table, truth):
    """Share of truths inside central intervals, against their nominal level."""
    from galml.gas_kinematics.metrics import calibration_curve, pit

    columns = (table[f"circularity{end}"] for end in ("_lo", "", "_hi"))
    values = {"κ": pit(truth["circularity"], *map(np.asarray, columns))}
    keys = truth.colnames if hasattr(truth, "colnames") else truth
    if "position_angle" in keys:
        turn = angle_difference(truth["position_angle"], table["position_angle"]).value
        error = _degrees(table["position_angle_err"])
        values["position angle"] = pit(turn, -error, 0 * error, error)
    levels = np.linspace(0, 1, 51)
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    for (label, value), color in zip(
        values.items(), ("tab:blue", "tab:orange"), strict=False
    ):
        panel.plot(levels, calibration_curve(value, levels), color=color, label=label)
    panel.axvline(0.68, color="0.2", lw=0.8, ls=":")
    panel.set(xlabel="nominal probability of the interval", ylabel="share of truths")
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    panel.legend(frameon=False)


def _draw_reliability(panel, table, truth):
    """Share of disturbed galaxies against the probability that they are."""
    from galml.gas_kinematics.metrics import reliability

    disturbed = np.asarray(truth["circularity"]) < BOUNDARY
    bins = reliability(np.asarray(table["disturbed_probability"]), disturbed)
    count = np.maximum(bins["count"], 1)
    error = np.sqrt(bins["outcome"] * (1 - bins["outcome"]) / count)
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    panel.errorbar(bins["probability"], bins["outcome"], error, fmt="o", ms=4)
    panel.set(xlabel="P(disturbed)", ylabel="share of disturbed galaxies")
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
