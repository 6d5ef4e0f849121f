# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of one measured galaxy, and of a table of results.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import numpy as np

from galml.core.exceptions import InputError
from galml.core.plots import marker_size, new_figure, new_mosaic
from galml.physics import FAST_ROTATOR
from galml.stellar_kinematics.operation import select_spaxels
from galml.stellar_kinematics.spaxels import read_spaxels

__all__ = ["plot_galaxy", "plot_table"]

#: Cells on a side of the images that are drawn.
CELLS = 300
#: Spaxels that are nearer to a cell than this, in their own sides, show there.
NEAREST = 0.71
#: Magnitudes between the brightest light and the faintest that is told apart.
DEPTH = 6.0
#: Share of the spaxels whose velocities and dispersions the colors tell apart.
SHARE = 98
FAST_LABEL = r"fast rotators: above $0.31\,\sqrt{\epsilon}$"


def plot_galaxy(
    flux,
    row,
    *,
    velocity=None,
    dispersion=None,
    r_eff=None,
    center=None,
    ellipticity=0.0,
    position_angle=None,
    radius="circular",
    systemic=None,
    psf_fwhm=None,
    sersic_index=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw one galaxy and what was measured.

    The light, the velocities from the systemic one and the dispersions, each with the
    ellipse; and λ_R of the spaxels inside smaller ellipses of that shape, with the
    value of the result and the limit of slow rotators.

    Parameters
    ----------
    flux : object
        What was given to `galml.lambda_r`, of one galaxy.
    row : `~astropy.table.Row` or mapping
        The galaxy's row of the result.
    velocity, dispersion, r_eff, center, ellipticity, position_angle, radius
        As they were given to `galml.lambda_r`.
    systemic, psf_fwhm, sersic_index, unit, hdu
        As they were given to `galml.lambda_r`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``flux``, ``velocity``, ``dispersion`` and ``profile``.

    Raises
    ------
    galml.core.InputError
        As `galml.lambda_r` does for a galaxy that cannot be used, and for a batch.
    """
    source = read_spaxels(flux, velocity, dispersion, unit=unit, hdu=hdu)
    if not source.is_single:
        raise InputError("flux", "a batch of galaxies", "one galaxy")
    spaxels = next(source.members)
    ellipse = select_spaxels(
        spaxels,
        radius,
        r_eff=r_eff,
        center=center,
        ellipticity=ellipticity,
        position_angle=position_angle,
        systemic=systemic,
        psf_fwhm=psf_fwhm,
        sersic_index=sersic_index,
    ).ellipse
    speed = spaxels.velocity - row["systemic_velocity"].to_value("km/s")
    figure = new_figure(figure, (9.5, 7.6))
    figure.set_layout_engine("compressed")
    axes = new_mosaic(figure, [["flux", "velocity"], ["dispersion", "profile"]])
    magnitudes = -2.5 * np.log10(spaxels.flux / spaxels.flux.max())
    limit = np.percentile(abs(speed), SHARE)
    low, high = np.percentile(spaxels.dispersion, [100 - SHARE, SHARE])
    drawn = {
        "flux": (magnitudes, "magnitudes below the maximum", "gray", (0, DEPTH)),
        "velocity": (speed, "velocity [km/s]", "coolwarm", (-limit, limit)),
        "dispersion": (spaxels.dispersion, "dispersion [km/s]", "inferno", (low, high)),
    }
    nearest, extent = _nearest_spaxels(spaxels, ellipse)
    for name, (values, label, colors, limits) in drawn.items():
        image = axes[name].imshow(
            np.where(nearest >= 0, values[nearest], np.nan),
            origin="lower",
            extent=extent,
            cmap=colors,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
        )
        figure.colorbar(image, ax=axes[name], label=label)
        _draw_ellipse(axes[name], spaxels, ellipse)
    _draw_profile(axes["profile"], spaxels, ellipse, speed, radius, row)
    return figure


def _nearest_spaxels(spaxels, ellipse):
    """Find the spaxel that shows in each cell of an image, -1 for none; its edges."""
    from scipy.spatial import cKDTree

    places = [spaxels.x - ellipse.center[0], spaxels.y - ellipse.center[1]]
    side = np.sqrt(spaxels.area)
    edges = [(v.min() - side / 2, v.max() + side / 2) for v in places]
    cells = [
        low + (np.arange(CELLS) + 0.5) * (high - low) / CELLS for low, high in edges
    ]
    grid = np.stack(np.meshgrid(*cells), axis=-1)
    distance, nearest = cKDTree(np.stack(places, axis=1)).query(grid)
    return np.where(distance < NEAREST * side, nearest, -1), (*edges[0], *edges[1])


def _draw_ellipse(panel, spaxels, ellipse):
    """Draw the aperture onto a map, and name the axes."""
    from matplotlib.patches import Ellipse as Patch

    if ellipse.size < np.inf:
        # Angles run from +y, those of matplotlib's width from +x.
        outline = Patch(
            (0, 0),
            2 * ellipse.size,
            2 * ellipse.ratio * ellipse.size,
            angle=np.degrees(ellipse.angle) + 90,
            fill=False,
            color="tab:green",
            linewidth=1.8,
        )
        panel.add_patch(outline)
        panel.autoscale()
    panel.set(xlabel=f"x [{spaxels.unit}]", ylabel=f"y [{spaxels.unit}]")


def _draw_profile(panel, spaxels, ellipse, speed, radius, row):
    """Draw λ_R inside ellipses of growing size."""
    semi_major = ellipse.semi_major_axis(spaxels.x, spaxels.y)
    distance = semi_major
    if radius == "circular":
        distance = np.hypot(
            spaxels.x - ellipse.center[0], spaxels.y - ellipse.center[1]
        )
    order = semi_major.argsort()
    weight = (spaxels.flux * distance)[order]
    ordered = np.cumsum(weight * abs(speed)[order])
    total = np.cumsum(weight * np.hypot(speed, spaxels.dispersion)[order])
    with np.errstate(invalid="ignore"):
        panel.plot(semi_major[order], ordered / total, color="tab:blue")
    error = np.nan_to_num(row["lambda_r_err"])
    place = min(ellipse.size, semi_major.max())
    panel.errorbar(place, row["lambda_r"], error, fmt="o", color="black", zorder=3)
    label = rf"$\lambda_R$ = {row['lambda_r']:.3f}"
    label += f" ± {error:.3f}" if error > 0 else ""
    limit = FAST_ROTATOR * np.sqrt(row["ellipticity"])
    panel.axhline(limit, color="0.4", linestyle="--")
    panel.text(
        0.97,
        limit,
        r"$0.31\,\sqrt{\epsilon}$",
        color="0.4",
        transform=panel.get_yaxis_transform(),
        ha="right",
        va="bottom",
    )
    panel.text(0.03, 0.95, label, transform=panel.transAxes, va="top")
    panel.set_box_aspect(1)
    panel.set(
        xlim=(0, None),
        ylim=(0, 1),
        xlabel=f"semi-major axis [{spaxels.unit}]",
        ylabel=r"$\lambda_R$ inside",
    )


def plot_table(table, *, figure=None):
    """Draw the spins of a table against the ellipticities.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The result of `galml.lambda_r`; where it has the spin corrected for seeing,
        that is drawn.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``spin``.
    """
    figure = new_figure(figure, (5.5, 5.0))
    panel = figure.add_subplot(label="spin")
    corrected = "lambda_r_corrected" in table.colnames
    name = "lambda_r_corrected" if corrected else "lambda_r"
    spin = np.asarray(table[name])
    good = np.isfinite(spin)
    panel.errorbar(
        np.asarray(table["ellipticity"])[good],
        spin[good],
        np.nan_to_num(np.asarray(table[f"{name}_err"])[good]),
        fmt="none",
        ecolor="0.7",
        zorder=1,
    )
    panel.scatter(
        np.asarray(table["ellipticity"])[good],
        spin[good],
        s=marker_size(good.sum()),
        color="tab:blue",
        zorder=2,
    )
    curve = np.linspace(0, 1, 200)
    panel.plot(curve, FAST_ROTATOR * np.sqrt(curve), "--", color="0.4", zorder=1)
    panel.text(0.97, 0.03, FAST_LABEL, transform=panel.transAxes, ha="right")
    label = r"$\lambda_R$" + (" corrected for seeing" if corrected else "")
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="ellipticity", ylabel=label)
    panel.set_title(f"{good.sum()} of {len(table)} galaxies", fontsize="medium")
    return figure
