# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galleries: the images of galaxies beside each other, and those that models decode.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import os

import numpy as np

from galml.core.exceptions import (
    InputError,
    InputTypeError,
    InputUnitError,
    check_whole,
)
from galml.core.inputs import check_columns
from galml.core.model import GalaxyModel
from galml.core.plots import has_column, name_of_row, new_grid
from galml.imaging.plots import color_images, read_single, shown_bands, sky_level
from galml.morphology.preparation import pixel_noise
from galml.morphology.tables import (
    check_models,
    model_meta,
    read_latents,
)

__all__ = [
    "draw_picture",
    "plot_outliers",
    "plot_pairs",
    "plot_reconstructions",
    "plot_similar",
    "plot_traversal",
]

#: Size in inch of the panel of one galaxy, with its title, and the color of a frame.
PANEL, FRAME = (1.55, 1.95), "#D55E00"
#: Residuals, in errors of a pixel, up to which colors are linear, and of the deepest.
LINEAR, DEEPEST = 2.0, 30.0
#: Shares of the pixels of decoded images that are black, and not white.
BLACK, WHITE = 0.02, 0.998


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
        For a table without latents, or of another model, a model that cannot decode,
        and numbers out of range.
    """
    import torch

    read = read_latents(table, "table", least=2)
    latent, known = read.values, read.usable
    if isinstance(model, GalaxyModel):
        check_models(model_meta(model), read.table.meta, "table")
    check_whole("steps", steps, 2)
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
    check_whole("n", n, 1)
    places = [i for i, one in enumerate(reconstructions) if one is not None][:n]
    n = len(places)
    _check_some("reconstructions", n)
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
    check_columns(
        table, ("outlier_score", "false_alarm_rate", "rank"), "that of outliers"
    )
    check_whole("n", n, 1)
    check_whole("columns", columns, 1)
    score = np.asarray(table["outlier_score"], dtype=float)
    known = np.flatnonzero(np.isfinite(score))
    _check_some("table", len(known))
    rank = np.asarray(table["rank"], dtype=float)[known]
    rows = known[np.argsort(rank, kind="stable")][:n]
    titles = []
    for row in rows:
        chance = float(table["false_alarm_rate"][row])
        name = _short(name_of_row(table[row], ""))
        place = f"{int(table['rank'][row])}: score {score[row]:.3g}, FAR {chance:.2g}"
        titles.append(f"{name}\n{place}".strip())
    options = {"bands": bands, "unit": unit, "hdu": hdu}
    pictures = color_images(cutouts, rows, len(table), **options)
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
    check_columns(table, ("query", "neighbor", "distance"), "that of similar")
    check_whole("n", n, 1)
    table = table[np.isfinite(np.asarray(table["distance"], dtype=float))]
    _check_some("table", len(table))
    query = np.asarray(table["query"])
    queries = list(dict.fromkeys(query.tolist()))[:n]
    found = [np.flatnonzero(query == one) for one in queries]
    width = 1 + max(map(len, found))
    options = {"bands": bands, "unit": unit, "hdu": hdu}
    other = cutouts if query_cutouts is None else query_cutouts
    key = "cutouts" if query_cutouts is None else "query_cutouts"
    asked = iter(color_images(other, queries, None, argument=key, **options))
    neighbors = np.asarray(table["neighbor"])[np.concatenate(found)]
    near = iter(color_images(cutouts, neighbors, None, **options))
    figure, panels = new_grid(figure, len(queries) * width, width, PANEL)
    for place, rows in enumerate(found):
        line = panels[place * width : (place + 1) * width]
        first = table[rows[0]]
        name = str(first["query_name"]) if has_column(first, "query_name") else ""
        draw_picture(line[0], next(asked), f"{_short(name)}\nquery".strip())
        _frame(line[0], FRAME)
        for panel, row in zip(line[1:], rows, strict=False):
            one = table[row]
            name = str(one["neighbor_name"]) if has_column(one, "neighbor_name") else ""
            title = f"{_short(name)}\n{one['distance']:.3g}".strip()
            draw_picture(panel, next(near), title)
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
    check_columns(
        pairs, ("index_a", "index_b", "distance"), "those of pair_distances", "pairs"
    )
    check_whole("n", n, 1)
    distance = np.asarray(pairs["distance"], dtype=float)
    order = np.argsort(distance, kind="stable")[: int(np.isfinite(distance).sum())]
    _check_some("pairs", len(order))
    n = min(n, len(order))
    rows = np.concatenate([order[:n], order[::-1][:n]])
    figure, panels = new_grid(figure, 4 * n, n, (1.55, 1.68))
    panels = np.array(panels).reshape(2, 2, n)
    both = (cutouts_a, cutouts_b)
    for side, (cutouts, key) in enumerate(zip(both, "ab", strict=True)):
        own = {"bands": None if bands is None else bands[side]}
        own |= {"unit": unit, "hdu": hdu}
        places = np.asarray(pairs[f"index_{key}"])[rows]
        own["argument"] = f"cutouts_{key}"
        pictures = color_images(cutouts, places, None, **own)
        shown = panels[:, side].ravel()
        for panel, picture, row in zip(shown, pictures, rows, strict=True):
            title = f"distance {distance[row]:.3g}" if side == 0 else ""
            draw_picture(panel, picture, title)
        for kind, name in enumerate(("like", "dislike")):
            _name_left(panels[kind, side, 0], f"{name}: {surveys[side]}")
    return figure


def _check_some(argument, count):
    """Raise where there is nothing to draw."""
    if not count:
        raise InputError(argument, "no galaxies that can be drawn", "one or more")


def _start(table, latent, known, row):
    """Give latents and pose to start from."""
    has_pose = has_column(table, "pose")
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

    single = isinstance(images, NDData | str | os.PathLike)
    if single or getattr(images, "ndim", 4) < 4:
        return [images]
    return images


def _compared(original, reconstruction, bands, unit, hdu):
    """Colors of both on one scale, the residual in errors of a pixel, and the name."""
    import astropy.units as u
    import torch

    from galml.cutouts import lupton_rgb

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
    from galml.imaging.rgb import (
        is_color_file,
        is_rgb,
        linear_images,
        read_color_file,
    )

    if isinstance(one, str | os.PathLike) and is_color_file(one):
        one = read_color_file(one, argument=argument)
    if is_rgb(one):
        return linear_images(np.moveaxis(one, 2, 0) / 255), u.nJy
    found = read(one, argument=argument, unit=unit, hdu=hdu, ndim=(2, 3))
    return np.atleast_3d(found.values.T).T, found.unit


def _gallery(figure, pictures, titles, columns):
    """Draw images with their titles."""
    figure, panels = new_grid(figure, len(titles), columns, PANEL)
    for panel, picture, title in zip(panels, pictures, titles, strict=False):
        draw_picture(panel, picture, title)
    return figure


def draw_picture(panel, picture, title):
    """Draw an image without axes.

    Parameters
    ----------
    panel : `~matplotlib.axes.Axes`
        Where.
    picture : `~numpy.ndarray` or None
        Colors, shape (ny, nx, 3) from 0 to 1; None where there is no image.
    title : str
        What stands above it.
    """
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
