# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A page on which the plane of latents is looked at, and galaxies are chosen.

Needs bokeh, which is imported on first use.
"""

import base64
import html
import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from galml.core.exceptions import (
    FileError,
    InputError,
    InputTypeError,
    check_whole,
)
from galml.core.files import write_at_once
from galml.core.plots import has_column
from galml.imaging.plots import color_images
from galml.morphology.plots import (
    UNLABELED,
    class_groups,
    color_values,
    is_class,
    plane_of,
)

__all__ = ["explore"]

#: Largest number of pixels on a side of an image that is shown.
LARGEST = 512
#: Colors of an image, and the shares of numbers between which colors differ.
COLORS, SHOWN = 128, (0.005, 0.995)
#: What colors are called that are no column of the table.
GIVEN = "color given"
#: What a page looks like: sides of the plane and of the table in pixels.
PLANE, LIST = 640, (560, 420)

TOOLTIP = """
<div style="max-width: {side}px">
<img src="@image" width="{side}" alt="" style="image-rendering: pixelated">
{lines}
</div>
"""
#: Where a column colors points: its colors, and its legend.
RECOLOR = """
const place = select.options.indexOf(select.value);
renderer.glyph.fill_color = {field: `color_${place}`};
legend.text = legends[place];
"""
#: Rows that are selected, into the table beside the plane.
CHOOSE = """
const rows = [...source.selected.indices].sort((a, b) => a - b);
const data = {};
for (const name of Object.keys(chosen.data)) {
    data[name] = rows.map(row => source.data[name][row]);
}
chosen.data = data;
count.text = `${rows.length} of ${source.get_length()} galaxies selected`;
button.disabled = rows.length == 0;
"""
#: These rows as comma-separated values; nothing leaves the computer.
EXPORT = """
const quote = one => {
    const text = one === null || Number.isNaN(one) ? "" : String(one);
    return /[",\\r\\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const rows = [...Array(chosen.get_length()).keys()];
const lines = [titles, ...rows.map(row => names.map(name => chosen.data[name][row]))];
const text = lines.map(line => line.map(quote).join(",")).join("\\r\\n") + "\\r\\n";
const link = document.createElement("a");
link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
link.download = "galaxies.csv";
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), 1000);
"""


def explore(
    table,
    cutouts,
    path,
    *,
    columns=(),
    color=None,
    side=64,
    title="Latents of galaxies",
    bands=None,
    unit=None,
    hdu=None,
    overwrite=False,
):
    """Write a page on which the plane of latents is looked at.

    Points are galaxies; the image and the columns of the one under the pointer are
    shown. A box or a lasso selects galaxies, which are listed, and saved as
    comma-separated values by a button. Points are colored by any of the columns. The
    page is one file that needs no network.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Galaxies with ``projection`` (n, 2), as `galml.project` gives it, or else with
        ``latent`` (n, k), of which the first two principal components are shown.
    cutouts : object
        Cutouts of all rows, as `galml.latents` takes them.
    path : str or path-like
        The page, such as ``"latents.html"``.
    columns : sequence of str, optional
        Columns of one number or text for each galaxy, which are shown, listed and saved
        beside the name and the number of the row.
    color : str or array_like, optional
        What colors the points at first, a column of the table or one value for each
        galaxy, which is shown and listed, too; by default the first of the columns.
    side : int, optional
        Side of the images in pixels, at most 512; larger images are made smaller. The
        page holds them all, of 64 pixels in some 5 kB each.
    title : str, optional
        Title of the page.
    bands, unit, hdu
        As they were given to `galml.latents`.
    overwrite : bool, optional
        Whether a file that is there is replaced.

    Returns
    -------
    `~pathlib.Path`
        Where the page is.

    Raises
    ------
    galml.core.InputError
        For a table without latents, or with fewer than two galaxies that have them;
        for columns that are not there, or hold more than one value; for colors or
        cutouts of another number.
    galml.core.FileError
        For a file that is there already, or cannot be written.
    ImportError
        Without bokeh.

    Examples
    --------
    .. doctest-requires:: bokeh

        >>> import tempfile
        >>> import numpy as np
        >>> import galml
        >>> y, x = np.indices((64, 64)) - 31.5
        >>> disks = [np.exp(-np.hypot(x, y / q) / 4) for q in (0.3, 0.6, 0.9)]
        >>> table = galml.latents(disks)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = folder + "/galaxies.html"
        ...     page = galml.morphology.explore(table, disks, path, columns="ssim")
        ...     page.name
        'galaxies.html'
    """
    try:
        from bokeh.embed import file_html
        from bokeh.resources import INLINE
    except ImportError as error:
        raise ImportError(
            "an explorer needs bokeh: pip install 'galml[all]'"
        ) from error

    if not isinstance(path, str | os.PathLike):
        raise InputTypeError("path", repr(path), "the path of a file")
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileError("path", f"{path}, which is there already", "overwrite=True")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise FileError("path", f"{path}, where no file can be", "a place for a file")
    if not isinstance(table, Table):
        got = f"an object of type {type(table).__name__}"
        raise InputTypeError("table", got, "a table with latents")
    check_whole("side", side)
    if side > LARGEST:
        raise InputError("side", f"{side}", f"1 to {LARGEST} pixels")
    if not isinstance(title, str):
        raise InputTypeError("title", repr(title), "text")
    columns = [columns] if isinstance(columns, str) else columns
    if not isinstance(columns, Iterable):
        raise InputTypeError("columns", repr(columns), "names of columns")
    columns = list(columns)
    values, _ = color_values(table, color, len(table))
    if values is not None and not isinstance(color, str):
        table = table.copy(copy_data=False)
        table[GIVEN], color = values, GIVEN
    if color is not None and color not in columns:
        columns.append(color)
    plane, axes = plane_of(table, "table")
    rows = np.flatnonzero(np.isfinite(plane).all(axis=1))
    if len(rows) < 2:
        raise InputError("table", f"{len(rows)} galaxies with latents", "2 or more")
    shown = {name: _read_column(table, name, rows) for name in columns}
    shown_as = [_title(table, name) for name in columns]
    data = {"x": plane[rows, 0], "y": plane[rows, 1], "row": rows}
    titles = {"row": "row"}
    if has_column(table, "name"):
        titles["name"] = "name"
        data["name"] = [str(one) for one in table["name"][rows]]
    for place, name in enumerate(columns):
        titles[f"column_{place}"] = shown_as[place]
        data[f"column_{place}"] = _cells(shown[name])
    options = {"bands": bands, "unit": unit, "hdu": hdu}
    data["image"] = _images(cutouts, rows, len(table), side, options)
    legends = ["no colors"]
    data["color_0"] = ["#0072B2"] * len(rows)
    for place, name in enumerate(columns, start=1):
        data[f"color_{place}"], legend = _colors(shown[name], shown_as[place - 1])
        legends.append(legend)
    first = 0 if not columns else 1 + (columns.index(color) if color else 0)
    layout = _layout(data, titles, axes, ["no colors", *columns], legends, first, side)
    note = f"{len(rows)} galaxies"
    if len(rows) < len(table):
        note += f", {len(table) - len(rows)} without latents left out"
    layout.children.insert(0, _text(f"<b>{html.escape(title)}</b>: {note}"))
    write_at_once(path, file_html(layout, INLINE, title).encode())
    return path


def _layout(data, titles, axes, choices, legends, first, side):
    """Arrange the plane, what colors it, and the list of galaxies that are selected."""
    from bokeh.layouts import column, row
    from bokeh.models import (
        Button,
        ColumnDataSource,
        CustomJS,
        DataTable,
        HoverTool,
        ScientificFormatter,
        Select,
        TableColumn,
    )
    from bokeh.plotting import figure

    source = ColumnDataSource(data)
    chosen = ColumnDataSource({name: [] for name in (*titles, "x", "y")})
    plane = figure(
        width=PLANE,
        height=PLANE,
        x_axis_label=axes[0],
        y_axis_label=axes[1],
        tools="pan,wheel_zoom,box_select,lasso_select,tap,reset,save",
        active_drag="lasso_select",
        active_scroll="wheel_zoom",
    )
    plane.toolbar.logo = None
    points = plane.scatter(
        "x",
        "y",
        source=source,
        size=float(np.clip(160 / np.sqrt(len(data["x"])), 3, 9)),
        fill_color=f"color_{first}",
        line_color=None,
        fill_alpha=0.85,
        nonselection_fill_alpha=0.15,
    )
    lines = "".join(
        f"<div>{html.escape(title)}: @{name}</div>" for name, title in titles.items()
    )
    hover = HoverTool(
        renderers=[points], tooltips=TOOLTIP.format(side=max(side, 128), lines=lines)
    )
    hover.point_policy, hover.limit = "snap_to_data", 3
    plane.add_tools(hover)
    select = Select(title="color", value=choices[first], options=choices, width=200)
    legend = _text(legends[first])
    recolor = {"select": select, "renderer": points, "legend": legend}
    select.js_on_change(
        "value", CustomJS(args=recolor | {"legends": legends}, code=RECOLOR)
    )
    number = ScientificFormatter(precision=4, nan_format="")
    listed = DataTable(
        source=chosen,
        columns=[
            TableColumn(field=name, title=title, formatter=number)
            if isinstance(data[name][0], float)
            else TableColumn(field=name, title=title)
            for name, title in titles.items()
        ],
        width=LIST[0],
        height=LIST[1],
        index_position=None,
    )
    count = _text(f"0 of {len(data['x'])} galaxies selected")
    button = Button(
        label="Save as CSV", button_type="primary", disabled=True, width=140
    )
    choose = {"source": source, "chosen": chosen, "count": count, "button": button}
    source.selected.js_on_change("indices", CustomJS(args=choose, code=CHOOSE))
    names = {"names": [*titles, "x", "y"], "titles": [*titles.values(), *axes]}
    button.js_on_click(CustomJS(args={"chosen": chosen} | names, code=EXPORT))
    return column(row(plane, column(select, legend, count, listed, button)))


def _text(text):
    from bokeh.models import Div

    return Div(text=text, width=LIST[0], disable_math=True)


def _read_column(table, name, rows):
    """Read a column of one value for each galaxy, with None where there is none."""
    if not has_column(table, name):
        raise InputError("columns", f"{name!r}", f"some of {table.colnames}")
    column = table[name]
    values = getattr(column, "value", column)
    if np.ndim(values) != 1:
        got = f"{name} of shape {np.shape(values)}"
        raise InputError("columns", got, "one value for each row")
    return values[rows]


def _title(table, name):
    """Name of a column, with its unit."""
    unit = getattr(table[name], "unit", None)
    return name if unit in (None, "") else f"{name} ({unit})"


def _cells(values):
    """Give values as they are saved: numbers with all their digits, or text."""
    number = values.dtype.kind in "iuf"
    nothing = np.nan if number else ""
    # By way of text, single precision gets no digits that it does not have.
    convert = (lambda one: float(str(one))) if values.dtype.kind == "f" else int
    convert = convert if number else _word
    gone = np.ma.getmaskarray(values)
    return [nothing if m else convert(v) for v, m in zip(values, gone, strict=True)]


def _word(one):
    """Give text, empty for nothing."""
    return "" if one is None else one.decode() if isinstance(one, bytes) else str(one)


def _colors(values, name):
    """Give a color for each value, and the legend."""
    from bokeh.palettes import Viridis256

    head = f"<b>{html.escape(name)}</b>"
    colors = np.full(len(values), UNLABELED)
    if is_class(values):
        for title, color, rows in class_groups(values):
            colors[rows] = color
            mark = f'<span style="color: {color}">\u25cf</span>'
            head += f" {mark} {html.escape(title)} ({rows.sum()})"
        return colors.tolist(), head
    numbers = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    known = np.isfinite(numbers)
    if not known.any():
        return colors.tolist(), head
    low, high = np.quantile(numbers[known], SHOWN)
    share = (numbers[known] - low) / ((high - low) or 1.0)
    colors[known] = np.array(Viridis256)[(255 * share.clip(0, 1)).astype(int)]
    bar = f"linear-gradient(to right, {', '.join(Viridis256[::15])})"
    bar = f"display: inline-block; width: 200px; height: 12px; background: {bar}"
    return colors.tolist(), f'{head} {low:.3g} <span style="{bar}"></span> {high:.3g}'


def _images(cutouts, rows, count, side, options):
    """Give images as the text that a page holds them as."""
    pictures = color_images(cutouts, rows, count, **options)
    return [_encoded(one, side) for one in pictures]


def _encoded(picture, side):
    """Make a small PNG image of few colors."""
    from PIL import Image

    if picture is None:
        picture = np.full((1, 1, 3), 0.5)
    # Rows of such files run downward.
    image = Image.fromarray(np.round(255 * picture[::-1]).astype(np.uint8))
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.quantize(COLORS, Image.Quantize.FASTOCTREE).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
