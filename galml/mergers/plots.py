# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of one galaxy, of a table of results, and of how good a classifier is.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.inputs import check_columns
from galml.core.metrics import area_under_curve, checked, known, reliability
from galml.core.plots import (
    count_numbers,
    count_title,
    flags_text,
    has_column,
    marker_size,
    name_of_row,
    new_figure,
    new_mosaic,
)
from galml.imaging.plots import check_image, read_single
from galml.mergers.metrics import (
    expected_calibration_error,
    purity_completeness,
    recall_at,
    roc_curve,
)

__all__ = [
    "plot_calibration",
    "plot_confusion",
    "plot_galaxy",
    "plot_purity_completeness",
    "plot_roc",
    "plot_table",
]

LIMITS = {"xlim": (0, 1), "ylim": (0, 1)}
#: Columns that figures need, and whose they are.
DRAWN, GIVEN = ("filter", "merger_probability"), "what galml.merger gave"
#: Classes of which the probability is, and the color of the first one in figures.
CLASSES, COLOR = ("non-merger", "post-merger"), "tab:red"
#: Colors of the filters of the training.
FILTER_COLORS = {
    "r": "tab:orange",
    "F814W": "tab:green",
    "F160W": "tab:red",
    "F200W": "tab:purple",
}
#: How much higher than its bars a histogram is that has a legend.
HEADROOM = 1.12
#: Of an image, what is shown as linear and what as white, in errors of a pixel, and the
#: share of pixels that are not brighter than black.
LINEAR, WHITE, BLACK = 3.0, -2.0, 0.998


def plot_galaxy(
    cutout,
    row,
    *,
    field=None,
    filter=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw one galaxy and what was found.

    On the left the image, with a logarithmic stretch for faint tails, and the square
    that the network sees; on the right the probabilities of the stages, and how the
    random passes of the network scatter.

    Parameters
    ----------
    cutout : object
        What was given to `galml.merger`.
    row : `~astropy.table.Row` or mapping
        The galaxy's row of the result. Where the operation failed, the image is drawn
        alone.
    field, filter, bands, pixel_scale, psf_fwhm, unit, hdu
        As they were given to `galml.merger`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``image``, ``stages`` and ``passes``.

    Raises
    ------
    galml.core.InputError
        As `galml.merger` does for an image that cannot be used, and for a batch; and
        for what is no row of its results.
    """
    check_columns(row, (*DRAWN, "field", "merger_class", "flags"), GIVEN, "row")
    if np.ndim(row["merger_probability"]):
        raise InputError("row", f"{len(row['merger_probability'])} rows", "one row")
    image, band = _single(
        cutout,
        filter,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
    )
    figure = new_figure(figure, (8.8, 4.6))
    axes = new_mosaic(
        figure, [["image", "stages"], ["image", "passes"]], width_ratios=(1.15, 1)
    )
    _draw_image(axes["image"], image, band)
    _draw_field(axes["image"], image, row)
    _draw_stages(axes["stages"], row)
    _draw_passes(axes["passes"], row)
    name = name_of_row(row, image.names[0])
    title = [name or "galaxy", *(str(row[key]) for key in ("filter", "field"))]
    axes["image"].set_title(", ".join(part for part in title if part))
    figure.supxlabel(_describe(row), fontsize=9)
    return figure


def plot_table(table, truth=None, *, figure=None):
    """Draw a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.merger` gave.
    truth : mapping of str to array_like, optional
        ``merger`` of each row: 1 for a post-merger, 0 for a non-merger, NaN for another
        stage.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``histogram`` and ``entropy``, and with a truth ``roc``
        and ``calibration``.

    Raises
    ------
    galml.core.InputError
        For a table or a truth that lacks a column, and a truth of other rows.
    """
    check_columns(table, DRAWN, GIVEN)
    if truth is not None:
        check_columns(truth, ("merger",), "1 or 0 for each row", "truth")
    rows = [["histogram", "entropy"]]
    if truth is not None:
        rows.append(["roc", "calibration"])
    figure = new_figure(figure, (9.4, 4.2 * len(rows)))
    axes = new_mosaic(figure, rows)
    _draw_histogram(axes["histogram"], table)
    _draw_entropy(figure, axes["entropy"], table)
    if truth is not None:
        merger = truth["merger"]
        _draw_roc(axes["roc"], {"": (table["merger_probability"], merger)})
        _draw_calibration(axes["calibration"], table["merger_probability"], merger, 10)
    return figure


def plot_confusion(matrix, classes=CLASSES, *, figure=None):
    """Draw a confusion matrix, with the share of each true class in its row.

    Parameters
    ----------
    matrix : array_like
        Shape (k, k): counts, as `galml.mergers.metrics.confusion_matrix` gives them.
    classes : sequence of str, optional
        Names of the classes, such as `galml.mergers.STAGES`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``confusion``.

    Raises
    ------
    galml.core.InputError
        For a matrix that has not a row and a column for each class.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(classes), len(classes)):
        expected = f"a row and a column for each of {len(classes)} classes"
        raise InputError("matrix", f"shape {matrix.shape}", expected)
    members = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, members, out=np.zeros(matrix.shape), where=members > 0)
    figure = new_figure(figure, (2.6 + 0.9 * len(classes), 2.2 + 0.75 * len(classes)))
    panel = figure.add_subplot(label="confusion")
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (true, found), count in np.ndenumerate(matrix):
        text = f"{share[true, found]:.1%}\n{count}"
        color = "white" if share[true, found] > 0.5 else "black"
        panel.text(found, true, text, ha="center", va="center", color=color, fontsize=9)
    places = range(len(classes))
    slanted = {"rotation": 30, "ha": "right"} if len(classes) > 2 else {}
    panel.set_xticks(places, classes, **slanted)
    panel.set_yticks(places, classes)
    panel.set(xlabel="predicted", ylabel="true")
    if (members > 0).all():
        panel.set_title(rf"$\Upsilon$ = {share.diagonal().min():.3f}", fontsize=10)
    return figure


def plot_roc(score, outcome, *, figure=None):
    """Draw the receiver operating characteristic.

    Parameters
    ----------
    score : array_like or mapping of str to array_like
        Shape (n,): the probability of a merger or anything that grows with it; several
        by their names, such as those of models or of measures of shape.
    outcome : array_like of bool
        Shape (n,): what is a merger.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``roc``.
    """
    figure = new_figure(figure, (4.8, 4.8))
    scores = score if hasattr(score, "items") else {"": score}
    curves = {name: (one, outcome) for name, one in scores.items()}
    _draw_roc(figure.add_subplot(label="roc"), curves)
    return figure


def plot_purity_completeness(score, outcome, prevalences=(0.5, 0.1), *, figure=None):
    """Draw the purity of samples above a threshold against their completeness.

    Parameters
    ----------
    score : array_like
        Shape (n,): the probability of a merger or anything that grows with it.
    outcome : array_like of bool
        Shape (n,): what is a merger.
    prevalences : sequence of float, optional
        Shares of mergers on the sky, one for each curve.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``purity``.
    """
    figure = new_figure(figure, (4.8, 4.8))
    panel = figure.add_subplot(label="purity")
    for prevalence in prevalences:
        curve = purity_completeness(score, outcome, prevalence)
        label = f"{prevalence:.0%} mergers"
        (line,) = panel.plot(curve["completeness"], curve["purity"], label=label)
        panel.axhline(prevalence, color=line.get_color(), lw=0.8, ls=":")
    panel.set(xlabel="completeness", ylabel="purity", aspect="equal", **LIMITS)
    panel.legend(frameon=False, loc="lower left")
    return figure


def plot_calibration(probability, outcome, bins=10, *, figure=None):
    """Draw how often what has a probability is true.

    Parameters
    ----------
    probability : array_like
        Shape (n,), between 0 and 1.
    outcome : array_like of bool
        Shape (n,): what is a merger.
    bins : int or array_like
        Number of equal bins between 0 and 1, or their edges.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``calibration``.
    """
    figure = new_figure(figure, (4.8, 4.8))
    panel = figure.add_subplot(label="calibration")
    _draw_calibration(panel, probability, outcome, bins)
    return figure


def _single(cutout, filter, **options):
    """Read one image that can be used, and find the band that is seen."""
    from galml.mergers.operation import filter_wavelength
    from galml.mergers.preparation import choose_band

    image = read_single(cutout, sizes=False, **options)
    wanted = filter_wavelength(filter)
    band, _ = choose_band(image.bands, image.wavelengths, wanted)
    check_image(image, image.wavelengths[band], sizes=False)
    return image, band


def _draw_image(panel, image, band):
    """Draw the image in colors, or in inverted gray, in arcsec where that is known."""
    height, width = image.values.shape[-2:]
    scale = image.pixel_scale[0]
    known = np.isfinite(scale)
    half = np.array([-width, width, -height, height]) / 2 * (scale if known else 1)
    if image.colors is not None:
        shown, style = np.moveaxis(image.colors[0], 0, -1), {}
    else:
        shown = _stretched(image.values[0, band].astype(float))
        limits = np.nanquantile(shown, BLACK)
        style = {"cmap": "gray_r", "vmin": np.arcsinh(WHITE / LINEAR), "vmax": limits}
    style |= {"origin": "lower", "interpolation": "nearest", "extent": half}
    panel.imshow(shown, **style)
    unit = "arcsec" if known else "pixels"
    panel.set(xlabel=f"x / {unit}", ylabel=f"y / {unit}")


def _stretched(values):
    """Give the brightness above the sky, in errors and on a scale of asinh."""
    from astropy.stats import sigma_clipped_stats

    finite = np.isfinite(values)
    _, sky, noise = sigma_clipped_stats(values[finite], sigma=2.5)
    brightest = np.abs(values[finite] - sky).max()
    return np.arcsinh((values - sky) / (LINEAR * max(noise, 1e-4 * brightest)))


def _draw_field(panel, image, row):
    """Square that the network sees."""
    from matplotlib.patches import Rectangle

    from galml.mergers.preparation import FILTERS, field_half_widths

    if str(row["filter"]) not in FILTERS:
        return
    half = field_half_widths(image, str(row["filter"]))[0].item()
    scale = image.pixel_scale[0]
    half *= scale if np.isfinite(scale) else 1
    style = {"fill": False, "ec": "tab:blue", "lw": 1, "ls": "--", "gid": "field"}
    panel.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, **style))


def _draw_stages(panel, row):
    """Probability of each stage."""
    from galml.mergers.posterior import STAGES

    if not has_column(row, "stage_probability"):
        panel.set_axis_off()
        return
    share = np.asarray(row["stage_probability"], dtype=float)
    places = np.arange(len(STAGES))
    colors = [COLOR if stage == "post-merger" else "0.6" for stage in STAGES]
    panel.barh(places, np.nan_to_num(share), color=colors)
    panel.set_yticks(places, STAGES)
    panel.set(xlim=(0, 1), xlabel="probability of the stage")
    panel.invert_yaxis()


def _draw_passes(panel, row):
    """Histogram of the passes of the network, and their mean."""
    panel.set(xlim=(0, 1), xlabel="P(post-merger) of two classes", ylabel="passes")
    panel.axvline(0.5, color="0.4", lw=0.8, ls="--")
    if has_column(row, "merger_probability_samples"):
        samples = np.asarray(row["merger_probability_samples"], dtype=float)
        known = samples[np.isfinite(samples)]
        count_numbers(panel, known, np.linspace(0, 1, 26), color="0.7")
    if np.isfinite(row["merger_probability"]):
        panel.axvline(row["merger_probability"], color=COLOR, lw=2)


def _describe(row):
    """Say in two lines what was found and what the flags tell."""
    flags = flags_text(row)
    if not np.isfinite(row["merger_probability"]):
        return f"no probability\n{flags}"
    text = f"{row['merger_class']}: P = {row['merger_probability']:.2f}"
    if np.isfinite(row["merger_probability_err"]):
        text += f" ± {row['merger_probability_err']:.2f}"
    if has_column(row, "entropy_data"):
        text += f",  entropy {row['entropy_data']:.2f} bit of the data"
        text += f" + {row['entropy_model']:.2f} bit of the model"
        time, error = (_gyr(row[f"time_since_merger{e}"]) for e in ("", "_err"))
        if np.isfinite(time):
            text += f",  {time:.2f} ± {error:.2f} Gyr since the merger"
    return f"{text}\n{flags}"


def _gyr(time):
    return u.Quantity(time, u.Gyr).value


def _draw_histogram(panel, table):
    """Numbers of galaxies by probability, one line for each filter."""
    probability = np.asarray(table["merger_probability"], dtype=float)
    known = np.isfinite(probability)
    filters = np.asarray(table["filter"]).astype(str)
    names = [name for name in FILTER_COLORS if (known & (filters == name)).any()]
    if names:
        count_numbers(
            panel,
            [probability[known & (filters == name)] for name in names],
            np.linspace(0, 1, 21),
            stacked=True,
            color=[FILTER_COLORS[name] for name in names],
            label=names,
        )
        # Above the bars, wherever these are high.
        panel.set_ylim(top=HEADROOM * panel.get_ylim()[1])
        style = {"ncols": len(names), "fontsize": 8, "columnspacing": 1.0}
        panel.legend(frameon=False, loc="upper center", handlelength=1.2, **style)
    panel.set_title(count_title(known), fontsize=10)
    panel.axvline(0.5, color="0.4", lw=0.8, ls="--")
    panel.set(xlabel="P(post-merger) of two classes", ylabel="galaxies", xlim=(0, 1))


def _draw_entropy(figure, panel, table):
    """Draw what images leave open, and what the model does, against probability."""
    panel.set(xlabel="P(post-merger) of two classes", xlim=(0, 1))
    panel.set_ylabel("entropy of the data / bit")
    if not has_column(table, "entropy_data"):
        return
    drawn = panel.scatter(
        np.asarray(table["merger_probability"]),
        np.asarray(table["entropy_data"]),
        marker_size(len(table)),
        np.asarray(table["entropy_model"]),
        cmap="viridis",
        vmin=0,
    )
    panel.set_ylim(bottom=0)
    figure.colorbar(drawn, ax=panel, label="entropy of the model / bit")


def _draw_roc(panel, curves):
    """Recall against false positives, of scores and outcomes by their names."""
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    for name, (score, outcome) in curves.items():
        curve = roc_curve(score, outcome)
        label = f"area {area_under_curve(score, outcome):.3f}"
        label += f", recall {recall_at(score, outcome):.2f} at 5 %"
        label = f"{name}: {label}" if name else label
        panel.plot(curve["false_positive_rate"], curve["recall"], label=label)
    panel.axvline(0.05, color="0.2", lw=0.8, ls=":")
    panel.set(xlabel="false positives", ylabel="recall", aspect="equal", **LIMITS)
    panel.legend(frameon=False, loc="lower right", fontsize=8)


def _draw_calibration(panel, probability, outcome, bins):
    """Share of what is true against the probability, with errors of counting."""
    given = checked(probability=probability, outcome=outcome)
    table = reliability(*known(*given), bins)
    count = np.maximum(table["count"], 1)
    error = np.sqrt(table["outcome"] * (1 - table["outcome"]) / count)
    panel.plot((0, 1), (0, 1), color="0.2", lw=0.8)
    panel.errorbar(table["probability"], table["outcome"], error, fmt="o", ms=4)
    panel.set(xlabel="P(post-merger) of two classes", ylabel="share of mergers")
    panel.set(aspect="equal", **LIMITS)
    ece = expected_calibration_error(probability, outcome, bins)
    panel.set_title(f"expected calibration error {ece:.3f}", fontsize=10)
