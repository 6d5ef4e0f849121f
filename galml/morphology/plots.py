# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of latents, and galleries of the galaxies that they describe.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use. Galaxies without latents are left out of
planes, and counted in a title.
"""

import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.plots import (
    count_title,
    flags_text,
    has_column,
    marker_size,
    name_of_row,
    new_figure,
    new_grid,
    new_mosaic,
    plot_history,
    principal_plane,
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
#: Size in inch of the panel of one galaxy, with its title.
PANEL = (1.55, 1.95)
#: Points of planes, as multiples of the size of markers.
POINT = 3.0
#: Residuals, in errors of a pixel, up to which colors are linear, and of the deepest.
LINEAR, DEEPEST = 2.0, 30.0
#: Shares of the pixels of decoded images that are black, and not white.
BLACK, WHITE = 0.02, 0.998


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
    _check_count("points", int(known.sum()), 2)
    values, label = _color_values(points, color, len(plane))
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
        _check_count("columns", columns, 1)
        rows, cells = _nearest_of_cells(plane, known, limits, columns)
        options = {"bands": bands, "unit": unit, "hdu": hdu}
        pictures = _pictures(images, rows, len(plane), "images", options)
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
    latent, known = _latents(table, "table")
    components = [int(one) for one in components]
    if len(components) < 2 or not set(components) <= set(range(latent.shape[1])):
        expected = f"two or more out of 0 to {latent.shape[1] - 1}"
        raise InputError("components", f"{tuple(components)}", expected)
    _check_count("table", int(known.sum()), 2)
    values, _ = _color_values(table, labels, len(latent), "labels")
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


def plot_traversal(
    model,
    table,
    *,
    components=None,
    row=None,
    steps=7,
    width=2.0,
    planes=(2, 0, 1),
    figure=None,
):
    """Draw what single latents say: images that a model decodes along each of them.

    Parameters
    ----------
    model : `~galml.core.GalaxyModel` or callable
        A model whose network decodes, or ``decode(latent, pose)``, which takes tensors
        of shape (n, k) and (n, m), or None where the table has no pose, and gives
        brightness of shape (n, planes, ny, nx).
    table : `~astropy.table.QTable`
        What `galml.latents` gave with this model.
    components : sequence of int, optional
        Which latents; by default the eight that differ most among the galaxies.
    row : int, optional
        Galaxy to start from; by default the median of all, without a pose.
    steps : int, optional
        Images of each latent, two or more.
    width : float, optional
        Standard deviations of the latent to both sides, above 0.
    planes : sequence of int, optional
        Which planes are red, green and blue. By default as those of the network
        "morphology" are; for "xu2023", (2, 1, 0).
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With a row of axes for each latent.

    Raises
    ------
    galml.core.InputError
        For a table without latents, a model that cannot decode, and numbers out of
        range.
    """
    import torch

    latent, known = _latents(table, "table")
    _check_count("table", int(known.sum()), 2)
    _check_count("steps", steps, 2)
    if not width > 0:
        raise InputError("width", f"{width}", "a number above 0")
    spread = latent[known].std(axis=0)
    if components is None:
        components = np.argsort(-spread, kind="stable")[:8]
    elif not set(components) <= set(range(latent.shape[1])) or not len(components):
        expected = f"one or more out of 0 to {latent.shape[1] - 1}"
        raise InputError("components", f"{tuple(components)}", expected)
    start, pose = _start(table, latent, known, row)
    offsets = np.linspace(-width, width, steps)
    moved = np.tile(start, (len(components), steps, 1))
    for place, component in enumerate(components):
        moved[place, :, component] = start[component] + offsets * spread[component]
    decode, device = _decoder(model)
    moved = torch.tensor(moved.reshape(-1, len(start)), dtype=torch.float32)
    if pose is not None:
        pose = torch.tensor(pose, dtype=torch.float32, device=device)
        pose = pose.expand(len(moved), -1)
    with torch.no_grad():
        drawn = decode(moved.to(device), pose).float().numpy(force=True)
    pictures = _decoded_colors(drawn, planes)
    figure, panels = new_grid(figure, len(pictures), steps, (1.05, 1.08))
    for panel, picture in zip(panels, pictures, strict=True):
        panel.imshow(picture, origin="lower", interpolation="nearest")
    for place, component in enumerate(components):
        _name_left(panels[place * steps], f"latent {component}")
    for panel, offset in zip(panels[:steps], offsets, strict=True):
        text = f"{offset:+.2g} σ".replace("-", "−") if abs(offset) > 1e-9 else "0"
        panel.set_title(text, fontsize=9)
    return figure


def plot_reconstructions(
    originals,
    reconstructions,
    table=None,
    *,
    n=6,
    bands=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw originals, their reconstructions, and what is left.

    Both are drawn in colors with one stretch for each galaxy, that of the original.
    Residuals, as the mean of the bands that are drawn, are in errors of a pixel.

    Parameters
    ----------
    originals : object
        What was given to `galml.reconstruct`: a sequence or an array of images.
    reconstructions : object
        What it gave, in the same order.
    table : `~astropy.table.QTable`, optional
        Results of `galml.latents`, of which ``ssim`` and ``name`` are written.
    n : int, optional
        Number of galaxies, the first ones that have a reconstruction.
    bands, unit, hdu
        As they were given to `galml.reconstruct`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With a column of axes for each galaxy, and those of the color bar labeled
        ``residual``.

    Raises
    ------
    galml.core.InputError
        For different numbers of images, and images of different shapes or units.
    """
    from matplotlib.colors import AsinhNorm

    originals, reconstructions = _sequence(originals), _sequence(reconstructions)
    if len(originals) != len(reconstructions):
        got, expected = f"{len(reconstructions)} images", f"{len(originals)}"
        raise InputError("reconstructions", got, f"{expected}, one for each original")
    _check_count("n", n, 1)
    places = [i for i, one in enumerate(reconstructions) if one is not None][:n]
    n = len(places)
    _check_count("reconstructions", n, 1)
    figure, panels = new_grid(figure, 3 * n, n, (1.65, 1.75))
    panels = np.array(panels).reshape(3, n)
    norm = AsinhNorm(LINEAR, -DEEPEST, DEEPEST)
    for column, place in enumerate(places):
        first, second, residual, name = _compared(
            originals[place], reconstructions[place], bands, unit, hdu
        )
        style = {"origin": "lower", "interpolation": "nearest"}
        panels[0, column].imshow(first, **style)
        panels[1, column].imshow(second, **style)
        left = panels[2, column].imshow(residual, cmap="coolwarm", norm=norm, **style)
        lines = [name]
        if table is not None:
            lines[0] = name_of_row(table[place], name)
            if has_column(table, "ssim"):
                lines.append(f"SSIM {table['ssim'][place]:.3f}")
        panels[0, column].set_title("\n".join(filter(None, lines)), fontsize=8)
    for row, text in enumerate(("original", "reconstruction", "residual")):
        _name_left(panels[row, 0], text)
    bar = figure.colorbar(left, ax=list(panels[2]), ticks=(-30, -5, 0, 5, 30))
    bar.ax.set_yticklabels(("−30", "−5", "0", "5", "30"))
    bar.set_label("residual / σ")
    bar.ax.set_label("residual")
    return figure


def plot_outliers(
    table,
    cutouts,
    n=12,
    *,
    columns=6,
    bands=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw the galaxies that are the least like all others.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.outliers` gave.
    cutouts : object
        Cutouts of all rows, as `galml.latents` takes them.
    n : int, optional
        Number of galaxies.
    columns : int, optional
        Images in a row.
    bands, unit, hdu
        As they were given to `galml.latents`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes for each galaxy, in order of rank.

    Raises
    ------
    galml.core.InputError
        For a table without scores, cutouts of another number, and numbers below 1.
    """
    _check_columns(table, ("outlier_score", "false_alarm_rate", "rank"), "outliers")
    _check_count("n", n, 1)
    _check_count("columns", columns, 1)
    score = np.asarray(table["outlier_score"], dtype=float)
    known = np.flatnonzero(np.isfinite(score))
    _check_count("table", len(known), 1)
    rank = np.asarray(table["rank"], dtype=float)[known]
    rows = known[np.argsort(rank, kind="stable")][:n]
    titles = []
    for row in rows:
        chance = float(table["false_alarm_rate"][row])
        name = name_of_row(table[row], "")
        head = f"{int(table['rank'][row])}" + (f": {_short(name)}" if name else "")
        titles.append(f"{head}\nscore {score[row]:.3g}, FAR {chance:.2g}")
    options = {"bands": bands, "unit": unit, "hdu": hdu}
    pictures = _pictures(cutouts, rows, len(table), "cutouts", options)
    return _gallery(figure, pictures, titles, min(columns, len(rows)))


def plot_similar(
    table,
    cutouts,
    query_cutouts=None,
    *,
    n=4,
    bands=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw galaxies, each with those most similar to it.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.similar` gave.
    cutouts : object
        Cutouts of the galaxies among which it searched, as `galml.latents` takes them.
    query_cutouts : object, optional
        Those of the queries; by default they are some of the others.
    n : int, optional
        Number of queries, the first ones.
    bands, unit, hdu
        As they were given to `galml.latents`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With a row of axes for each query: itself, and its neighbors by distance.

    Raises
    ------
    galml.core.InputError
        For a table without neighbors, and rows for which there are no cutouts.
    """
    _check_columns(table, ("query", "neighbor", "distance"), "similar")
    _check_count("n", n, 1)
    table = table[np.isfinite(np.asarray(table["distance"], dtype=float))]
    _check_count("table", len(table), 1)
    query = np.asarray(table["query"])
    queries = list(dict.fromkeys(query.tolist()))[:n]
    found = [np.flatnonzero(query == one) for one in queries]
    width = 1 + max(map(len, found))
    options = {"bands": bands, "unit": unit, "hdu": hdu}
    other = cutouts if query_cutouts is None else query_cutouts
    key = "cutouts" if query_cutouts is None else "query_cutouts"
    asked = iter(_pictures(other, queries, None, key, options))
    neighbors = np.asarray(table["neighbor"])[np.concatenate(found)]
    near = iter(_pictures(cutouts, neighbors, None, "cutouts", options))
    figure, panels = new_grid(figure, len(queries) * width, width, PANEL)
    for place, rows in enumerate(found):
        line = panels[place * width : (place + 1) * width]
        first = table[rows[0]]
        name = str(first["query_name"]) if has_column(first, "query_name") else ""
        _draw_picture(line[0], next(asked), f"{_short(name)}\nquery".strip())
        _frame(line[0], CLASS_COLORS[3])
        for panel, row in zip(line[1:], rows, strict=False):
            one = table[row]
            name = str(one["neighbor_name"]) if has_column(one, "neighbor_name") else ""
            title = f"{_short(name)}\n{one['distance']:.3g}".strip()
            _draw_picture(panel, next(near), title)
    return figure


def plot_pairs(
    pairs,
    cutouts_a,
    cutouts_b,
    n=6,
    *,
    surveys=("a", "b"),
    bands=None,
    unit=None,
    hdu=None,
    figure=None,
):
    """Draw the same galaxies in two surveys: where they look alike, and where not.

    Parameters
    ----------
    pairs : `~astropy.table.QTable`
        What `galml.morphology.pair_distances` gave.
    cutouts_a, cutouts_b : object
        Cutouts of all galaxies of both surveys, as `galml.latents` takes them.
    n : int, optional
        Number of pairs of each kind: those of the nearest latents ("like"), and of
        the farthest ("dislike").
    surveys : (str, str), optional
        What the surveys are called.
    bands : pair of sequence of str, optional
        Bands of each survey, where the cutouts do not tell.
    unit, hdu
        As they were given to `galml.latents`.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With four rows of axes: like in both surveys, and dislike in both.

    Raises
    ------
    galml.core.InputError
        For a table without pairs, and rows for which there are no cutouts.
    """
    _check_columns(pairs, ("index_a", "index_b", "distance"), "pair_distances", "pairs")
    _check_count("n", n, 1)
    distance = np.asarray(pairs["distance"], dtype=float)
    order = np.argsort(distance, kind="stable")[: int(np.isfinite(distance).sum())]
    _check_count("pairs", len(order), 1)
    n = min(n, len(order))
    rows = np.concatenate([order[:n], order[::-1][:n]])
    figure, panels = new_grid(figure, 4 * n, n, (1.55, 1.68))
    panels = np.array(panels).reshape(2, 2, n)
    both = (cutouts_a, cutouts_b)
    for side, (cutouts, key) in enumerate(zip(both, "ab", strict=True)):
        own = {"bands": None if bands is None else bands[side]}
        own |= {"unit": unit, "hdu": hdu}
        places = np.asarray(pairs[f"index_{key}"])[rows]
        pictures = _pictures(cutouts, places, None, f"cutouts_{key}", own)
        shown = panels[:, side].ravel()
        for panel, picture, row in zip(shown, pictures, rows, strict=True):
            title = f"distance {distance[row]:.3g}" if side == 0 else ""
            _draw_picture(panel, picture, title)
        for kind, name in enumerate(("like", "dislike")):
            _name_left(panels[kind, side, 0], f"{name}: {surveys[side]}")
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
        For tables without latents, or latents of different numbers.
    """
    given = {"source": source, "target": target, "adapted": adapted}
    read = {key: _latents(one, key) for key, one in given.items()}
    for key, (values, known) in read.items():
        width = read["source"][0].shape[1]
        if values.shape[1] != width:
            raise InputError(key, f"{values.shape[1]} latents", f"{width}")
        _check_count(key, int(known.sum()), 2)
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
        As `galml.latents` does for an image that cannot be used, and for a batch.
    """
    from galml.imaging.plots import check_image, colors_of, read_single

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
    right = ["latents", "pose"] if has_column(row, "pose") else ["latents"]
    figure = new_figure(figure, (8.8, 4.2))
    axes = new_mosaic(figure, [["image", key] for key in right], width_ratios=(1, 1.25))
    _draw_picture(axes["image"], colors_of(image)[0], "")
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
        values, label = _color_values(table, labels, len(latent), "labels")
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
        axes["ssim"].hist(found, 25, color="0.6")
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
    if _is_table(points) and has_column(points, "projection"):
        plane = _matrix(points["projection"], argument)
    else:
        plane, _ = _latents(points, argument)
        if _is_table(points) or plane.shape[1] > 2:
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
    if one is None or np.ma.is_masked(one) or one != one:
        return ""
    if isinstance(one, bytes):
        return one.decode()
    return f"{one:g}" if isinstance(one, float | np.floating) else str(one)


def _is_table(table):
    return hasattr(table, "colnames") or hasattr(table, "keys")


def _matrix(values, argument):
    """Check numbers of shape (n, 2 or more)."""
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        got = f"an object of type {type(values).__name__}"
        raise InputTypeError(
            argument, got, "a table, or an array of numbers"
        ) from error
    if values.ndim != 2 or values.shape[1] < 2:
        got = f"latents of shape {values.shape}"
        raise InputError(argument, got, "shape (n, k), k of 2 or more")
    return values


def _latents(table, argument):
    """Read latents, shape (n, k), and find where they are known."""
    if _is_table(table):
        _check_columns(table, ("latent",), "latents", argument)
        table = table["latent"]
    latent = _matrix(table, argument)
    return latent, np.isfinite(latent).all(axis=1)


def _check_columns(table, keys, operation, argument="table"):
    """Raise where a table is not what an operation gives."""
    if not _is_table(table):
        got = f"an object of type {type(table).__name__}"
        raise InputTypeError(argument, got, f"the table of {operation}")
    for key in keys:
        if not has_column(table, key):
            raise InputError(argument, f"no column {key}", f"the table of {operation}")


def _check_count(argument, count, least):
    """Raise where there are too few."""
    if count < least:
        raise InputError(argument, f"{count}", f"{least} or more")


def _color_values(table, color, count, argument="color"):
    """Read what gives colors, None where nothing does, and its name."""
    if color is None:
        return None, None
    label = ""
    if isinstance(color, str):
        if not _is_table(table) or not has_column(table, color):
            raise InputError(argument, f"{color!r}", "a column of the table")
        label, color = color, table[color]
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


def _pictures(cutouts, rows, count, argument, options):
    """Give colors of rows of cutouts, one by one."""
    from galml.imaging.plots import color_images

    return color_images(cutouts, rows, count, argument=argument, **options)


def _gallery(figure, pictures, titles, columns):
    """Draw images with their titles."""
    figure, panels = new_grid(figure, len(titles), columns, PANEL)
    for panel, picture, title in zip(panels, pictures, titles, strict=False):
        _draw_picture(panel, picture, title)
    return figure


def _draw_picture(panel, picture, title):
    """Draw colors without axes."""
    panel.set_axis_off()
    if picture is None:
        panel.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=8)
    else:
        panel.imshow(picture, origin="lower", interpolation="nearest")
    panel.set_title(title, fontsize=8)


def _frame(panel, color):
    """Draw a frame around an image."""
    from matplotlib.patches import Rectangle

    style = {"fill": False, "ec": color, "lw": 3, "transform": panel.transAxes}
    panel.add_patch(Rectangle((0, 0), 1, 1, gid="frame", clip_on=False, **style))


def _name_left(panel, text):
    """Write what a row of images is."""
    style = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 9}
    panel.text(-0.05, 0.5, text, transform=panel.transAxes, **style)


def _short(name, length=20):
    """Cut names that are longer than an image is wide."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


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


def _start(table, latent, known, row):
    """Give latents and pose to start from."""
    has_pose = _is_table(table) and has_column(table, "pose")
    if row is None:
        start = np.median(latent[known], axis=0)
        pose = np.zeros(np.shape(table["pose"])[1]) if has_pose else None
        return start, pose
    if not (0 <= row < len(latent) and known[row]):
        raise InputError("row", f"{row}", "a row that has latents")
    return latent[row], np.asarray(table["pose"][row]) if has_pose else None


def _decoder(model):
    """Find what decodes latents, and where."""
    network = getattr(model, "network", None)
    if hasattr(network, "decode"):
        return network.decode, next(network.parameters()).device
    if network is None and callable(model):
        return model, "cpu"
    got = f"an object of type {type(model).__name__}"
    raise InputTypeError("model", got, "a model that decodes, or a callable")


def _decoded_colors(drawn, planes):
    """Give colors of decoded images, all on one scale."""
    if drawn.shape[1] < 3:
        planes = (0, 0, 0)
    elif not set(planes) <= set(range(drawn.shape[1])) or len(planes) != 3:
        expected = f"three out of 0 to {drawn.shape[1] - 1}"
        raise InputError("planes", f"{tuple(planes)}", expected)
    low, high = np.quantile(drawn, (BLACK, WHITE))
    scaled = (drawn[:, list(planes)] - low) / max(high - low, 1e-12)
    return np.moveaxis(np.clip(scaled, 0, 1), 1, -1)


def _sequence(images):
    """Give images one by one."""
    from astropy.nddata import NDData

    if isinstance(images, NDData | str) or getattr(images, "ndim", 4) < 4:
        return [images]
    return images


def _compared(original, reconstruction, bands, unit, hdu):
    """Colors of both on one scale, the residual in errors of a pixel, and the name."""
    import astropy.units as u
    import torch

    from galml.cutouts import lupton_rgb
    from galml.imaging.plots import read_single, shown_bands, sky_level
    from galml.morphology.preparation import pixel_noise

    image = read_single(original, bands=bands, unit=unit, hdu=hdu, sizes=False)
    first, own = _fluxes(original, unit or u.dimensionless_unscaled, hdu, "originals")
    second, other = _fluxes(reconstruction, own, None, "reconstructions")
    if first.shape != second.shape:
        got, expected = f"shape {second.shape}", f"that of the original, {first.shape}"
        raise InputError("reconstructions", got, expected)
    try:
        second = second * other.to(own)
    except u.UnitConversionError as error:
        raise InputUnitError("reconstructions", f"{other}", f"{own}") from error
    shown = shown_bands(image.wavelengths)
    first, second = first[shown], second[shown]
    # As one image, both have one stretch.
    colors = lupton_rgb(np.concatenate([first, second], axis=1) - sky_level(first))
    light = first.mean(axis=0)
    noise = float(pixel_noise(torch.from_numpy(light[None, None])))
    noise = max(noise, 1e-4 * np.nanmax(np.abs(light)))
    residual = (light - second.mean(axis=0)) / (noise or 1.0)
    height = first.shape[1]
    return colors[:height], colors[height:], residual, image.names[0]


def _fluxes(one, unit, hdu, argument):
    """Read an image of shape (bands, ny, nx), and its unit."""
    import astropy.units as u

    from galml.core.inputs import read
    from galml.imaging.rgb import is_rgb, linear_images

    if is_rgb(one):
        return linear_images(np.moveaxis(one, 2, 0) / 255), u.nJy
    found = read(one, argument=argument, unit=unit, hdu=hdu, ndim=(2, 3))
    return np.atleast_3d(found.values.T).T, found.unit


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
