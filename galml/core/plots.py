# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What figures of several domains share.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import numpy as np

from galml.core.flags import decode_flags

__all__ = [
    "count_numbers",
    "count_title",
    "draw_beam",
    "draw_scale",
    "flags_text",
    "has_column",
    "marker_size",
    "name_of_row",
    "new_figure",
    "new_grid",
    "new_mosaic",
    "plot_history",
    "principal_plane",
]

# Lengths of scale bars in arcsec, which are round in arcsec, or in arcmin.
_LENGTHS = [
    unit * 10.0**power * digit
    for unit, powers in ((1, range(-3, 2)), (60, range(4)))
    for power in powers
    for digit in (1, 2, 5)
]


def new_figure(figure, size):
    """Give the figure to draw into, with room for its labels."""
    from matplotlib.figure import Figure

    figure = Figure() if figure is None else figure
    figure.set_size_inches(size)
    figure.set_layout_engine("constrained")
    return figure


def new_mosaic(figure, rows, **options):
    """Give axes by their labels, arranged as `Figure.subplot_mosaic` does."""
    axes = figure.subplot_mosaic(rows, **options)
    for label, panel in axes.items():
        panel.set_label(label)
    return axes


def new_grid(figure, count, columns, size):
    """Give a figure of many small panels, of this size in inch, and these without axes.

    The last row is filled up with empty panels.
    """
    rows = -(-count // columns)
    figure = new_figure(figure, (size[0] * columns, size[1] * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    return figure, panels


def has_column(row, key):
    """Whether a table, a row of one or a mapping has a column."""
    return key in (row.colnames if hasattr(row, "colnames") else row)


def name_of_row(row, default):
    """Name of a galaxy: of its row, else of its data."""
    return str(row["name"]) if has_column(row, "name") else default


def flags_text(row):
    """Names of the flags of a row."""
    return f"flags: {', '.join(decode_flags(int(row['flags']))) or 'none'}"


def count_title(known):
    """Say how many galaxies there are, and how many have no result."""
    failed = int((~known).sum())
    note = f", {failed} without a result" if failed else ""
    return f"{len(known)} galaxies{note}"


def count_numbers(panel, values, bins, **style):
    """Draw a histogram, with whole numbers at its axis."""
    panel.hist(values, bins, **style)
    panel.yaxis.get_major_locator().set_params(integer=True)


def draw_scale(panel, pixel_scale, color="white"):
    """Draw a bar of a rounded length, about a quarter of an image.

    Nothing is drawn where the side of a pixel, in arcsec, is not known.
    """
    if not np.isfinite(pixel_scale):
        return
    width = abs(np.subtract(*panel.get_xlim())) * pixel_scale
    length = _LENGTHS[np.argmin(np.abs(np.log(np.divide(_LENGTHS, width / 4))))]
    label = f"{length / 60:g}′" if length >= 60 else f"{length:g}″"
    end = 0.05 + length / width
    style = {"transform": panel.transAxes, "color": color}
    panel.plot((0.05, end), (0.06, 0.06), lw=1.5, gid="scale", **style)
    panel.text((0.05 + end) / 2, 0.08, label, ha="center", fontsize=7, **style)


def draw_beam(panel, fwhm, corner="left", **style):
    """Draw the FWHM of a beam or PSF as a circle in a lower corner.

    It is in units of the axes; nothing is drawn where it is not known.
    """
    from matplotlib.patches import Circle

    if not np.isfinite(fwhm):
        return
    side, inwards = panel.get_xlim()[0], 1
    if corner == "right":
        side, inwards = panel.get_xlim()[1], -1
    # As far from the edges as beams of a few pixels need it.
    space = max(0.7 * fwhm, 0.04 * abs(np.subtract(*panel.get_xlim())))
    place = side + inwards * space, panel.get_ylim()[0] + space
    style = {"fc": "0.75", "ec": "0.3"} | style
    panel.add_patch(Circle(place, fwhm / 2, gid="beam", **style))


def principal_plane(latent, reference=None):
    """Project latents on the first two principal components, shape (n, 2).

    The components are those of the latents, or of a reference.
    """
    reference = latent if reference is None else reference
    mean = reference.mean(axis=0)
    _, _, axes = np.linalg.svd(reference - mean, full_matrices=False)
    return (latent - mean) @ axes[:2].T


def marker_size(count):
    """Area of the markers, smaller where there are many."""
    return float(np.clip(2000 / max(count, 1), 3, 30))


def plot_history(history, *, figure=None):
    """Draw the losses of a training.

    Parameters
    ----------
    history : `~astropy.table.QTable`
        ``epoch``, ``train_loss`` and ``validation_loss``, as
        `galml.core.training.train` gives them.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``loss``.
    """
    figure = new_figure(figure, (6.0, 4.0))
    panel = figure.add_subplot(label="loss")
    epoch, loss = np.asarray(history["epoch"]), np.asarray(history["validation_loss"])
    panel.plot(epoch, history["train_loss"], color="0.6", label="training")
    panel.plot(epoch, loss, color="tab:blue", label="validation")
    best = int(np.argmin(loss))
    label = f"best: epoch {epoch[best]}, {loss[best]:.4g}"
    panel.plot(epoch[best], loss[best], "o", color="tab:blue", label=label)
    panel.set(xlabel="epoch", ylabel="loss")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.legend(frameon=False)
    return figure
