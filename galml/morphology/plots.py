# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of latents: of one galaxy, of a table, in planes and against each other.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use. Galaxies without latents are left out of
planes, and counted in a title.
"""

import numpy as np

from galml.core.exceptions import InputError, InputTypeError, check_whole
from galml.core.inputs import check_columns, is_table
from galml.core.plots import (
    count_numbers,
    count_title,
    flags_text,
    has_column,
    marker_size,
    name_of_row,
    new_figure,
    new_mosaic,
    plot_history,
    principal_plane,
)
from galml.imaging.plots import check_image, color_images, colors_of, read_single
from galml.morphology.galleries import (
    draw_picture,
    plot_outliers,
    plot_pairs,
    plot_reconstructions,
    plot_similar,
    plot_traversal,
)
from galml.morphology.tables import (
    check_models,
    is_nothing,
    of_pandas,
    read_latents,
    read_matrix,
)

__all__ = [
    "plot_adaptation",
    "plot_corner",
    "plot_galaxy",
    "plot_history",
    "plot_latents",
    "plot_outliers",
    "plot_pairs",
    "plot_reconstructions",
    "plot_similar",
    "plot_table",
    "plot_traversal",
]

#: Colors of classes that all eyes tell apart (Okabe & Ito 2008), of further classes
#: together, and of galaxies without a class.
CLASS_COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
)
OTHER, UNLABELED = "#777777", "#C4C4C4"
#: Numbers of at most so many values are classes.
FEW = 7
#: Share of the galaxies that axes hold, of samples with at least so many.
SHOWN, MANY = 0.99, 200
#: Fewest galaxies around which a contour is drawn, and the share that it encloses.
FEWEST, ENCLOSED = 50, 0.68
#: Points of planes, as multiples of the size of markers.
POINT = 3.0


def plot_latents(
    points,
    images=None,
    *,
    color=None,
    columns=14,
    bands=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw the plane of latents: as points, or as the galaxies that lie there.

    Parameters
    ----------
    points : `~astropy.table.QTable` or array_like
        A table with ``projection`` (n, 2) as `galml.project` gives it, or else with
        ``latent`` (n, k), of which the first two principal components are drawn; or
        one of these as an array.
    images : object, optional
        Cutouts of all rows, as `galml.latents` takes them. In each cell of a grid that
        galaxies lie in, the one next to the center is drawn.
    color : str or array_like, optional
        Column of the table, or shape (n,): numbers, or names of classes. Colors points,
        or frames of the images.
    columns : int, optional
        Cells along each axis.
    bands, unit, hdu
        As they were given to `galml.latents`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``plane``.

    Raises
    ------
    galml.core.InputError
        For a table without latents, or with fewer than two galaxies that have them; for
        colors or images of another number; for less than one column.

    Examples
    --------
    >>> import numpy as np
    >>> from galml.morphology.plots import plot_latents
    >>> latent = np.random.default_rng(0).normal(size=(300, 32))
    >>> figure = plot_latents(latent, color=latent[:, 0])
    """
    plane, names = plane_of(points)
    known = np.isfinite(plane).all(axis=1)
    if known.sum() < 2:
        raise InputError("points", f"{known.sum()} rows to be drawn", "at least 2")
    values, label = color_values(points, color, len(plane))
    figure = new_figure(figure, (7.4 if color is not None else 6.4, 6.4))
    panel = figure.add_subplot(label="plane")
    limits = [_limits(plane[known, axis]) for axis in (0, 1)]
    colors = None
    if values is not None:
        colors = _draw_key(figure, panel, values, known, label)
    if images is None:
        colors = "tab:blue" if colors is None else colors[known]
        size = POINT * marker_size(int(known.sum()))
        panel.scatter(*plane[known].T, size, colors, lw=0, rasterized=True)
    else:
        check_whole("columns", columns, 1)
        rows, cells = _nearest_of_cells(plane, known, limits, columns)
        options = {"bands": bands, "unit": unit, "hdu": hdu, "argument": "images"}
        pictures = color_images(images, rows, len(plane), **options)
        frames = None if colors is None else colors[rows]
        _draw_cells(panel, pictures, cells, frames, limits, columns)
    panel.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
    panel.set_box_aspect(1)
    panel.set_title(count_title(known), fontsize=10)
    return figure


def plot_corner(table, labels=None, *, components=(0, 1, 2, 3), figure=None):
    """Draw latents against each other, by class.

    Below the diagonal is each pair of latents, with a contour around 68 % of a class
    that has 50 members or more; on the diagonal the distribution of each latent, with
    the same area for all classes.

    Parameters
    ----------
    table : `~astropy.table.QTable` or array_like
        Table with ``latent`` (n, k), or these as an array.
    labels : str or array_like, optional
        Column of the table, or shape (n,): names of classes; empty, masked or None
        where there is none.
    components : sequence of int, optional
        Which latents, two or more.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With axes labeled by the numbers of the latents, such as ``1 0`` for latent 1
        against latent 0.

    Raises
    ------
    galml.core.InputError
        For a table without latents, or with fewer than two galaxies that have them;
        for labels of another number and components that are not there.
    """
    latent, known = _latents(table, "table", least=2)
    components = [int(one) for one in components]
    if len(components) < 2 or not set(components) <= set(range(latent.shape[1])):
        expected = f"two or more out of 0 to {latent.shape[1] - 1}"
        raise InputError("components", f"{tuple(components)}", expected)
    values, _ = color_values(table, labels, len(latent), "labels")
    groups = {"": ("tab:blue", known)}
    if values is not None:
        groups = {name: (c, rows & known) for name, c, rows in class_groups(values)}
    k = len(components)
    figure = new_figure(figure, (1.1 + 1.9 * k, 0.8 + 1.9 * k))
    limits = [_limits(latent[known, one]) for one in components]
    panels = figure.subplots(k, k, squeeze=False)
    for row, column in np.ndindex(k, k):
        panel = panels[row, column]
        if column > row:
            panel.remove()
            continue
        panel.set_label(f"{components[row]} {components[column]}")
        for color, members in groups.values():
            x, y = latent[members][:, [components[column], components[row]]].T
            if row == column:
                _draw_distribution(panel, x, limits[row], color)
            else:
                size = marker_size(int(known.sum()))
                panel.scatter(x, y, size, color, lw=0, alpha=0.5, rasterized=True)
        if row != column:
            for color, members in groups.values():
                x, y = latent[members][:, [components[column], components[row]]].T
                _draw_contour(panel, x, y, (limits[column], limits[row]), color)
            panel.set_ylim(limits[row])
        panel.set(xlim=limits[column], box_aspect=1)
        _name_outer(panel, row, column, components)
    _draw_legend(figure, groups, count_title(known))
    return figure


def plot_adaptation(
    source,
    target,
    adapted,
    *,
    surveys=("source", "target"),
    paired=False,
    figure=None,
):
    """Draw latents of two surveys before and after a model was adapted to one.

    The plane is that of the principal components of both surveys before.

    Parameters
    ----------
    source, target : `~astropy.table.QTable` or array_like
        Latents of the survey that the model was made for, and of the other one, by the
        model as it was: tables with ``latent``, or these as an array.
    adapted : `~astropy.table.QTable` or array_like
        Latents of the target by the adapted model.
    surveys : (str, str), optional
        What they are called.
    paired : bool, optional
        Whether rows of the source and of the target are the same galaxies, in order;
        then the median distance of their latents is written.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``before`` and ``after``.

    Raises
    ------
    galml.core.InputError
        For tables without latents, or latents of different numbers or models.
    """
    given = {"source": source, "target": target, "adapted": adapted}
    read = {key: _latents(one, key, least=2) for key, one in given.items()}
    for key, (values, _) in read.items():
        metas = [getattr(one, "meta", {}) for one in (source, given[key])]
        check_models(*metas, key)
        width = read["source"][0].shape[1]
        if values.shape[1] != width:
            raise InputError(key, f"{values.shape[1]} latents", f"{width}")
        if paired and len(values) != len(read["source"][0]):
            got, expected = f"{len(values)} galaxies", f"{len(read['source'][0])}"
            raise InputError(key, got, f"{expected}, those of the source")
    latent = {key: values[known] for key, (values, known) in read.items()}
    reference = np.concatenate([latent["source"], latent["target"]])
    plane = {key: principal_plane(one, reference) for key, one in latent.items()}
    limits = [_limits(np.concatenate(list(plane.values()))[:, axis]) for axis in (0, 1)]
    figure = new_figure(figure, (9.6, 4.9))
    axes = new_mosaic(figure, [["before", "after"]])
    colors = {"source": CLASS_COLORS[0], "target": CLASS_COLORS[1]}
    for label, second in (("before", "target"), ("after", "adapted")):
        panel = axes[label]
        shown = {"source": plane["source"], "target": plane[second]}
        for key, points in shown.items():
            size = marker_size(len(points))
            style = {"lw": 0, "alpha": 0.5, "rasterized": True}
            panel.scatter(*points.T, size, colors[key], **style)
        for key, points in shown.items():
            _draw_contour(panel, *points.T, limits, colors[key])
        title = f"{label} adaptation"
        if paired:
            step = read[second][0] - read["source"][0]
            middle = np.nanmedian(np.linalg.norm(step, axis=1))
            title += f": median distance {middle:.3g}"
        panel.set_title(title, fontsize=10)
        panel.set(xlim=limits[0], ylim=limits[1], box_aspect=1)
        panel.set(xlabel="principal component 1", ylabel="principal component 2")
    groups = {
        f"{name} ({len(plane[key])})": (colors[key], None)
        for name, key in zip(surveys, ("source", "target"), strict=True)
    }
    _draw_legend(figure, groups, None)
    return figure


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
    """Draw one galaxy and its latents.

    Parameters
    ----------
    cutout : object
        What was given to `galml.latents`.
    row : `~astropy.table.Row` or mapping
        The galaxy's row of the result. Where the operation failed, the image is drawn
        alone.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As they were given to `galml.latents`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``image`` and ``latents``, and where there are such
        ``pose``.

    Raises
    ------
    galml.core.InputError
        As `galml.latents` does for an image that cannot be used, and for a batch; for
        a row without latents, and for many rows.
    """
    image = read_single(
        cutout,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
        sizes=False,
    )
    check_image(image, sizes=False)
    check_columns(row, ("latent", "flags"), "one of latents", "row")
    if np.ndim(row["latent"]) != 1:
        got = f"latents of shape {np.shape(row['latent'])}"
        raise InputError("row", got, "one row of the table")
    right = ["latents", "pose"] if has_column(row, "pose") else ["latents"]
    figure = new_figure(figure, (8.8, 4.2))
    axes = new_mosaic(figure, [["image", key] for key in right], width_ratios=(1, 1.25))
    draw_picture(axes["image"], colors_of(image)[0], "")
    axes["image"].set_title(name_of_row(row, image.names[0]) or "galaxy")
    error = row["latent_err"] if has_column(row, "latent_err") else None
    _draw_values(axes["latents"], row["latent"], error, "latent")
    if "pose" in axes:
        _draw_values(axes["pose"], row["pose"], None, "pose")
    figure.supxlabel(_describe(row), fontsize=9)
    return figure


def plot_table(table, labels=None, *, figure=None):
    """Draw a table of results.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.latents` gave.
    labels : str or array_like, optional
        Column of the table, or shape (n,): names of classes, or numbers, which color
        the plane; by default the SSIM where the table has it.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With the axes labeled ``plane``, the principal components; ``spread``, the
        scatter of each latent among the galaxies and its error; and where the table
        has an SSIM ``ssim``, its histogram.
    """
    latent, known = _latents(table, "table")
    keys = ["plane", "spread"] + ["ssim"] * has_column(table, "ssim")
    figure = new_figure(figure, (4.6 * len(keys), 4.2))
    axes = new_mosaic(figure, [keys])
    if labels is None and "ssim" in axes:
        values, label = np.asarray(table["ssim"], dtype=float), "SSIM"
    else:
        values, label = color_values(table, labels, len(latent), "labels")
    panel = axes["plane"]
    panel.set(xlabel="principal component 1", ylabel="principal component 2")
    panel.set_title(count_title(known), fontsize=10)
    if known.sum() > 1:
        plane, _ = plane_of(latent)
        colors = np.full(len(latent), "tab:blue")
        if values is not None:
            colors = _draw_key(figure, panel, values, known, label)
        size = POINT * marker_size(int(known.sum()))
        panel.scatter(*plane[known].T, size, colors[known], lw=0, rasterized=True)
        _draw_spread(axes["spread"], table, latent, known)
    axes["spread"].set(xlabel="latents by scatter", ylabel="scatter among galaxies")
    if "ssim" in axes:
        ssim = np.asarray(table["ssim"], dtype=float)
        found = ssim[np.isfinite(ssim)]
        count_numbers(axes["ssim"], found, 25, color="0.6")
        axes["ssim"].set(xlabel="SSIM of the reconstruction", ylabel="galaxies")
        if len(found):
            axes["ssim"].set_title(f"median {np.median(found):.3f}", fontsize=10)
    return figure


def plane_of(points, argument="points"):
    """Find the plane in which galaxies are drawn.

    Parameters
    ----------
    points : table or array_like
        As `plot_latents` takes them.
    argument : str
        Name used in errors.

    Returns
    -------
    plane : `~numpy.ndarray`
        Shape (n, 2); NaN where nothing is known.
    names : (str, str)
        What the axes are.
    """
    names = ("projection 1", "projection 2")
    if is_table(points) and has_column(points, "projection"):
        plane = read_matrix(points["projection"], argument)
    else:
        plane, _ = _latents(points, argument)
        if is_table(points) or plane.shape[1] > 2:
            names = ("principal component 1", "principal component 2")
    plane = np.where(np.isfinite(plane).all(axis=1)[:, None], plane, np.nan)
    if plane.shape[1] > 2 or names[0].startswith("principal"):
        known = np.isfinite(plane).all(axis=1)
        projected = np.full((len(plane), 2), np.nan)
        if known.any():
            projected[known] = principal_plane(plane[known])
        plane = projected
    return plane, names


def class_groups(values):
    """Sort rows by class.

    Parameters
    ----------
    values : sequence
        Names or numbers of classes; empty, masked, NaN or None where there is none.

    Returns
    -------
    list of (str, str, `~numpy.ndarray` of bool)
        Name, color, and which rows, without a class first; beyond seven classes, the
        rarest are one group. Groups without members are not there.
    """
    names = np.array([_class_name(one) for one in values], dtype=object)
    labeled = names != ""
    classes, counts = np.unique(names[labeled].astype(str), return_counts=True)
    common = np.sort(np.argsort(-counts, kind="stable")[: len(CLASS_COLORS)])
    groups = [("unlabeled", UNLABELED, ~labeled)]
    rest = labeled & ~np.isin(names.astype(str), classes[common])
    groups.append(("other", OTHER, rest))
    for name, color in zip(classes[common], CLASS_COLORS, strict=False):
        groups.append((str(name), color, names == name))
    return [group for group in groups if group[2].any()]


def is_class(values):
    """Whether a column tells classes, and not a number that has a scale."""
    kind = np.asarray(values).dtype.kind
    return kind in "OSUb" or (kind in "iu" and len(np.unique(values)) <= FEW)


def _class_name(one):
    """Name of a class, empty where there is none."""
    if is_nothing(one):
        return ""
    if isinstance(one, bytes):
        return one.decode()
    return f"{one:g}" if isinstance(one, float | np.floating) else str(one)


def _latents(table, argument, least=0):
    """Read two latents or more, shape (n, k), and find where they are known."""
    given = table if is_table(table) else {"latent": table}
    try:
        read = read_latents(given, argument, least=least)
    except InputTypeError as error:
        expected = "a table, or latents of shape (n, k)"
        raise InputTypeError(argument, error.got, expected) from error
    if read.values.shape[1] < 2:
        got = f"latents of shape {read.values.shape}"
        raise InputError(argument, got, "shape (n, k), k of 2 or more")
    return read.values, read.usable


def color_values(table, color, count, argument="color"):
    """Read what gives colors.

    Parameters
    ----------
    table : object
        Where a column may be.
    color : str or array_like or None
        The column, or a value for each row.
    count : int
        Number of rows.
    argument : str
        Name used in errors.

    Returns
    -------
    values : `~numpy.ndarray` or None
        Shape (n,); None where nothing gives colors.
    label : str or None
        What they are.
    """
    if color is None:
        return None, None
    label = ""
    if isinstance(color, str):
        if not is_table(table) or not has_column(table, color):
            raise InputError(argument, f"{color!r}", "a column of the table")
        label, color = color, table[color]
    color = of_pandas(color)
    unit = getattr(color, "unit", None)
    label += f" ({unit})" if label and unit not in (None, "") else ""
    values = getattr(color, "value", color)
    masked = np.ma.isMaskedArray(values)
    values = values if masked else np.asarray(values)
    if values.shape != (count,):
        raise InputError(argument, f"shape {values.shape}", f"({count},)")
    return values, label


def _limits(values):
    """Give limits of an axis, with margins."""
    tail = (1 - SHOWN) / 2 if len(values) >= MANY else 0.0
    low, high = np.quantile(values, (tail, 1 - tail))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_key(figure, panel, values, known, label):
    """Draw a legend or a color bar; give the color of each row."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgba

    colors = np.tile(to_rgba(UNLABELED), (len(values), 1))
    if is_class(values):
        for name, color, rows in class_groups(values):
            colors[rows] = to_rgba(color)
            panel.scatter([], [], 30, color=color, label=name)
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        panel.legend(title=label or None, frameon=False, fontsize=9, **place)
        return colors
    numbers = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    found = np.isfinite(numbers)
    used = numbers[found & known]
    norm = Normalize(*(np.quantile(used, (0.005, 0.995)) if len(used) else (0, 1)))
    colors[found] = colormaps["viridis"](norm(numbers[found]))
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=panel, label=label, shrink=0.8)
    return colors


def _nearest_of_cells(plane, known, limits, columns):
    """Find the row next to the center of each cell that has one, and these cells."""
    low, high = np.transpose(limits)
    place = (plane - low) / (high - low) * columns
    inside = known & (place > 0).all(axis=1) & (place < columns).all(axis=1)
    rows = np.flatnonzero(inside)
    cells = place[rows].astype(int)
    distance = np.abs(place[rows] - cells - 0.5).max(axis=1)
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(cells[order], axis=0, return_index=True)
    chosen = order[first]
    return rows[chosen], cells[chosen]


def _draw_cells(panel, pictures, cells, frames, limits, columns):
    """Draw an image into each cell."""
    from matplotlib.patches import Rectangle

    low, high = np.transpose(limits)
    step = (high - low) / columns
    for index, (picture, cell) in enumerate(zip(pictures, cells, strict=True)):
        if picture is None:
            continue
        (left, bottom), (right, top) = low + cell * step, low + (cell + 1) * step
        extent = (left, right, bottom, top)
        style = {"origin": "lower", "aspect": "auto", "interpolation": "antialiased"}
        panel.imshow(_square(picture), extent=extent, **style)
        if frames is not None:
            inner, corner = (
                0.94 * step,
                (left + 0.03 * step[0], bottom + 0.03 * step[1]),
            )
            style = {"fill": False, "ec": frames[index], "lw": 1.4}
            panel.add_patch(Rectangle(corner, *inner, **style))


def _square(picture):
    """Cut the middle out of an image, as high as it is wide."""
    side = min(picture.shape[:2])
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _draw_distribution(panel, values, limits, color):
    """Draw a histogram of area one."""
    if len(values):
        style = {"histtype": "step", "density": True, "color": color, "lw": 1.2}
        panel.hist(np.clip(values, *limits), np.linspace(*limits, 31), **style)
    panel.set_yticks([])


def _draw_contour(panel, x, y, limits, color):
    """Draw a line around the densest part that holds most of the points."""
    from scipy.ndimage import gaussian_filter

    if len(x) < FEWEST:
        return
    counts, *edges = np.histogram2d(x, y, 50, limits)
    density = gaussian_filter(counts, 2.0)
    order = np.sort(density, axis=None)[::-1]
    share = np.cumsum(order) / max(order.sum(), 1e-12)
    level = order[np.searchsorted(share, ENCLOSED)]
    centers = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    if 0 < level < order[0]:
        panel.contour(*centers, density.T, [level], colors=[color], linewidths=1.4)


def _name_outer(panel, row, column, components):
    """Name axes at the left and at the bottom alone."""
    panel.tick_params(labelsize=8)
    if row == len(components) - 1:
        panel.set_xlabel(f"latent {components[column]}")
    else:
        panel.set_xticklabels([])
    if column == 0 and row > 0:
        panel.set_ylabel(f"latent {components[row]}")
    elif row != column:
        panel.set_yticklabels([])


def _draw_legend(figure, groups, title):
    """Draw a legend of colors beside the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker="o", lw=1.4, label=name)
        for name, (color, _) in groups.items()
        if name
    ]
    if handles and title:
        figure.legend(handles=handles, title=title, loc="upper right", frameon=False)
    elif handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=2, frameon=False
        )
    else:
        figure.text(0.98, 0.98, title, ha="right", va="top")


def _draw_values(panel, values, error, label):
    """Draw numbers by their index, with errors."""
    values = np.asarray(values, dtype=float)
    panel.axhline(0, color="0.6", lw=0.8)
    places = np.arange(len(values))
    if np.isfinite(values).all():
        panel.vlines(places, 0, values, color="tab:blue", lw=2.5)
        if error is not None and np.isfinite(error).all():
            style = {"fmt": "none", "ecolor": "0.2", "elinewidth": 0.8, "capsize": 1.5}
            panel.errorbar(places, values, np.asarray(error), **style)
    panel.set(xlabel=label, ylabel="value", xlim=(-0.7, len(values) - 0.3))
    panel.xaxis.get_major_locator().set_params(integer=True)


def _describe(row):
    """Say in two lines what was found and what the flags tell."""
    if not np.isfinite(row["latent"]).all():
        return f"no latents\n{flags_text(row)}"
    parts = [f"{len(row['latent'])} latents"]
    if has_column(row, "reconstruction_error"):
        parts.append(f"reconstruction error {row['reconstruction_error']:.3g}")
    if has_column(row, "ssim"):
        parts.append(f"SSIM {row['ssim']:.3f}")
    return f"{',  '.join(parts)}\n{flags_text(row)}"


def _draw_spread(panel, table, latent, known):
    """Scatter of each latent, the largest first, and its error."""
    spread = latent[known].std(axis=0)
    order = np.argsort(-spread, kind="stable")
    places = np.arange(len(spread))
    panel.bar(places, spread[order], color="0.7", label="scatter")
    if has_column(table, "latent_err"):
        error = np.asarray(table["latent_err"], dtype=float)[known]
        if np.isfinite(error).any():
            middle = np.sqrt(np.nanmean(error**2, axis=0))[order]
            panel.plot(places, middle, ".", color="tab:red", label="error (rms)")
            panel.legend(frameon=False)
    panel.set_xlim(-0.8, len(spread) - 0.2)
