# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of one galaxy, of many, of a table of results, and of what a model sees.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import math

import numpy as np

from galml.core.plots import (
    count_numbers,
    count_title,
    draw_beam,
    draw_scale,
    flags_text,
    has_column,
    marker_size,
    name_of_row,
    new_figure,
    new_grid,
    new_mosaic,
    plot_history,
)
from galml.imaging.plots import check_image, colors_of, read_single
from galml.physics import FAST_ROTATOR

__all__ = [
    "plot_galaxy",
    "plot_gallery",
    "plot_history",
    "plot_saliency",
    "plot_table",
    "saliency",
]

LIMITS = {"xlim": (0, 1), "ylim": (0, 1)}
#: Fewest galaxies of which a mean is drawn.
FEWEST = 5


def plot_galaxy(
    cutout,
    row,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw one galaxy and what was found.

    On the left the image, with a circle of one effective radius, a bar for its scale
    and the FWHM of its PSF, where these are known; in the middle the image as the
    default network sees it, with the major axis along x; on the right the
    spin with its 68 % interval, and the limit of slow rotators of its ellipticity.

    Parameters
    ----------
    cutout : object
        What was given to `galml.spin`.
    row : `~astropy.table.Row` or mapping
        The galaxy's row of the result. Where the operation failed, the image is drawn
        without a spin.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As they were given to `galml.spin`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``image``, ``prepared`` and ``spin``.

    Raises
    ------
    galml.core.InputError
        As `galml.spin` does for an image that cannot be used, and for a batch.
    """
    from galml.stellar_spin.preparation import INPUT, prepare

    image = read_single(
        cutout,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
    )
    check_image(image)
    figure = new_figure(figure, (10.5, 4.4))
    axes = new_mosaic(
        figure, [["image", "prepared", "spin"]], width_ratios=(1, 1, 0.42)
    )
    _draw_image(axes["image"], image)
    _draw_radius(axes["image"], image)
    shape = prepare(image).image[0, 0].numpy()
    side = INPUT.half_width * np.array([-1, 1, -1, 1])
    axes["prepared"].imshow(shape, origin="lower", cmap="gray", extent=side)
    axes["prepared"].set(xlabel="major axis / $R_e$", ylabel="minor axis / $R_e$")
    axes["prepared"].set_title("as the network sees it", fontsize=10)
    _draw_spin(axes["spin"], row)
    axes["image"].set_title(name_of_row(row, image.names[0]) or "galaxy", fontsize=10)
    figure.supxlabel(_describe(row), fontsize=9)
    return figure


def plot_gallery(
    cutouts,
    table,
    truth=None,
    *,
    columns=6,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw galaxies with their predicted, and true, spins.

    Parameters
    ----------
    cutouts : object
        Galaxies as they were given to `galml.spin`.
    table : `~astropy.table.QTable`
        What it gave.
    truth : array_like, optional
        True spin of each.
    columns : int
        Images in a row.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As they were given to `galml.spin`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes for each galaxy, in order.
    """
    from galml.core.inputs import Failure
    from galml.imaging import read_images

    source = read_images(
        cutouts,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
        # What is drawn needs no radii.
        sizes=False,
    )
    images = []
    for member in source.members:
        failed = isinstance(member, Failure)
        rows = [member] if failed else [member[[i]] for i in range(len(member))]
        images += rows
    figure, panels = new_grid(figure, len(images), columns, (1.7, 2.0))
    for index, (panel, image) in enumerate(zip(panels, images, strict=False)):
        if not isinstance(image, Failure):
            _draw_image(panel, image)
        spin, error = (table[key][index] for key in ("spin", "spin_err"))
        text = f"{spin:.2f} ± {error:.2f}"
        if truth is not None:
            text += f"\ntrue {truth[index]:.2f}"
        panel.set_title(text, fontsize=9)
    return figure


def plot_table(table, truth=None, *, figure=None):
    """Draw a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.spin` gave.
    truth : mapping of str to array_like, optional
        ``spin`` of each row.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``histogram`` and ``plane``, and with a truth
        ``regression`` and ``calibration``.
    """
    rows = [["histogram", "plane"]]
    if truth is not None:
        rows.append(["regression", "calibration"])
    figure = new_figure(figure, (9.4, 4.2 * len(rows)))
    axes = new_mosaic(figure, rows)
    spin = np.asarray(table["spin"])
    known = spin[np.isfinite(spin)]
    count_numbers(axes["histogram"], known, np.linspace(0, 1, 26), color="0.6")
    axes["histogram"].set(xlabel="spin $λ_R$", ylabel="galaxies", xlim=(0, 1))
    axes["histogram"].set_title(count_title(np.isfinite(spin)), fontsize=10)
    _draw_plane(figure, axes["plane"], table)
    if truth is not None:
        _draw_regression(axes["regression"], spin, np.asarray(truth["spin"]))
        _draw_calibration(axes["calibration"], table, truth)
    return figure


def plot_saliency(
    cutout,
    *,
    model="default",
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw which parts of an image the spin depends on.

    The map is the sum over the channels of the absolute derivative of the spin by what
    the network sees, times that; a mean over the views.

    Parameters
    ----------
    cutout : object
        One galaxy, as `galml.spin` takes it.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Whose network.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.spin`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``image``, ``prepared`` and ``saliency``.
    """
    from galml.core.weights import load_model

    image = read_single(
        cutout,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
    )
    check_image(image)
    seen, strength = saliency(image, load_model(model, "spin"))
    figure = new_figure(figure, (10.5, 3.9))
    axes = new_mosaic(figure, [["image", "prepared", "saliency"]])
    _draw_image(axes["image"], image)
    axes["image"].set_title(image.names[0] or "galaxy", fontsize=10)
    axes["prepared"].imshow(seen, origin="lower", cmap="gray")
    axes["prepared"].set_title("as the network sees it", fontsize=10)
    drawn = axes["saliency"].imshow(strength, origin="lower", cmap="magma", vmin=0)
    levels = seen.max() * np.array([0.25, 0.5, 0.75])
    if seen.max() > seen.min():
        axes["saliency"].contour(
            seen, np.unique(levels), colors="white", linewidths=0.5, alpha=0.6
        )
    axes["saliency"].set_title("weight in the spin", fontsize=10)
    figure.colorbar(drawn, ax=axes["saliency"], shrink=0.8)
    for key in ("prepared", "saliency"):
        axes[key].set(xticks=[], yticks=[])
    return figure


def saliency(image, model):
    """Measure how much each cell of an image weighs in the spin.

    Parameters
    ----------
    image : `~galml.imaging.GalaxyImages`
        One galaxy.
    model : `~galml.core.model.GalaxyModel`
        Whose network, on the CPU.

    Returns
    -------
    seen, strength : `~numpy.ndarray`
        What the network sees, the first channel or the mean of the colors, and the
        sum over the channels of the absolute derivative of the spin times the
        channel, as a mean over the views.
    """
    import torch

    from galml.core.distributions import bin_centers
    from galml.core.domain import find_domain
    from galml.core.networks import View
    from galml.stellar_spin.posterior import density

    domain = find_domain(model)
    inputs = domain.prepare([image]).inputs
    shown = inputs["image"].clone().requires_grad_()
    views, total = domain.views or (View(),), 0.0
    for view in views:
        outputs = model.network(view.apply(inputs | {"image": shown}))
        spin = outputs["spin"]
        if spin.ndim > 1:
            spin = density(outputs) @ bin_centers(spin, 1.0)
        total = total + spin.sum() / len(views)
    (slope,) = torch.autograd.grad(total, shown)
    strength = (slope * shown).abs().sum(1)[0].detach()
    seen = shown[0].detach()
    seen = seen.mean(0) if len(seen) == 3 else seen[0]
    return seen.numpy(), strength.numpy()


def _draw_image(panel, image):
    """Draw the image in colors, or in gray where it has one band."""
    panel.imshow(colors_of(image)[0], origin="lower", interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    draw_scale(panel, float(image.pixel_scale[0]))


def _draw_radius(panel, image):
    """Circle of one effective radius around the galaxy, and the PSF."""
    from matplotlib.patches import Circle

    from galml.imaging.stamps import galaxy_centers

    center = tuple(galaxy_centers(image)[0].tolist())
    style = {"fill": False, "ec": "white", "lw": 1, "ls": "--", "gid": "r_eff"}
    panel.add_patch(Circle(center, float(image.r_eff[0]), **style))
    draw_beam(panel, image.psf_fwhm[0].max(), "right", fc="none", ec="white")


def _draw_spin(panel, row):
    """Spin and its interval from 0 to 1."""
    panel.set(xlim=(-1, 1), ylim=(0, 1), xticks=[], ylabel="spin $λ_R$")
    spin = row["spin"]
    if not np.isfinite(spin):
        return
    lo, hi = row["spin_lo"], row["spin_hi"]
    panel.bar(0, hi - lo, 0.5, bottom=lo, color="tab:blue", alpha=0.35)
    panel.plot((-0.25, 0.25), (spin, spin), color="tab:blue", lw=2.5)
    if has_column(row, "ellipticity"):
        limit = FAST_ROTATOR * math.sqrt(max(row["ellipticity"], 0))
        panel.axhline(limit, color="0.4", lw=0.8, ls="--")
        panel.text(0.95, limit, "slow", ha="right", va="top", color="0.4", fontsize=8)


def _describe(row):
    """Say in two lines what was found and what the flags tell."""
    flags = flags_text(row)
    if not np.isfinite(row["spin"]):
        return f"no spin\n{flags}"
    text = f"$λ_R$ = {row['spin']:.2f} ± {row['spin_err']:.2f}"
    if has_column(row, "ellipticity"):
        odds = row["fast_rotator_probability"]
        text += f",  ε = {row['ellipticity']:.2f} ± {row['ellipticity_err']:.2f}"
        text += f",  P(fast rotator) = {odds:.2f}"
    return f"{text}\n{flags}"


def _draw_plane(figure, panel, table):
    """Spin against ellipticity, with the limit of slow rotators."""
    shape = np.linspace(0, 1, 200)
    panel.plot(shape, FAST_ROTATOR * np.sqrt(shape), color="0.2", lw=0.8)
    panel.set(xlabel="ellipticity ε", ylabel="spin $λ_R$", **LIMITS)
    if not has_column(table, "ellipticity"):
        return
    drawn = panel.scatter(
        np.asarray(table["ellipticity"]),
        np.asarray(table["spin"]),
        marker_size(len(table)),
        np.asarray(table["fast_rotator_probability"]),
        cmap="cividis",
        vmin=0,
        vmax=1,
    )
    figure.colorbar(drawn, ax=panel, label="P(fast rotator)")


def _draw_regression(panel, spin, truth):
    """Predicted against true spin, with means and scatter in bins."""
    from galml.stellar_spin.metrics import agreement

    known = np.isfinite(spin) & np.isfinite(truth)
    spin, truth = spin[known], truth[known]
    panel.scatter(truth, spin, marker_size(len(spin)), color="0.75", lw=0)
    edges = np.linspace(0, 1, 11)
    places = np.clip(np.digitize(truth, edges) - 1, 0, 9)
    bins = [spin[places == i] for i in range(10)]
    full = [i for i, values in enumerate(bins) if len(values) >= FEWEST]
    panel.errorbar(
        (edges[full] + edges[np.array(full, dtype=int) + 1]) / 2,
        [bins[i].mean() for i in full],
        [bins[i].std() for i in full],
        fmt="o-",
        color="tab:blue",
        label="mean and scatter",
    )
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    panel.set(xlabel="true $λ_R$", ylabel="predicted $λ_R$", aspect="equal", **LIMITS)
    found = agreement(spin, truth)
    panel.set_title(
        f"Pearson {found['pearson']:.3f}, Spearman {found['spearman']:.3f}, "
        f"MSE {found['mean_square']:.4f}",
        fontsize=10,
    )
    panel.legend(frameon=False, loc="upper left", fontsize=8)


def _draw_calibration(panel, table, truth):
    """Share of truths inside central intervals, against their nominal level."""
    from galml.core.metrics import calibration_curve, pit

    low, high = (np.asarray(table[f"spin_{end}"]) for end in ("lo", "hi"))
    values = pit(truth["spin"], low, (low + high) / 2, high)
    levels = np.linspace(0, 1, 51)
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    panel.plot(levels, calibration_curve(values, levels), color="tab:blue")
    panel.axvline(0.68, color="0.2", lw=0.8, ls=":")
    panel.set(xlabel="nominal probability of the interval", ylabel="share of truths")
    panel.set(aspect="equal", **LIMITS)
