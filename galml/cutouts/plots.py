# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of stacks of cutouts.

Drawn into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.geometry import angle_difference, pixel_angle
from galml.core.plots import draw_scale
from galml.cutouts.colors import lupton_rgb

__all__ = ["plot_stack"]

# Directions are drawn where north is further (deg) from up than this.
_TOLERANCE = 1.0


def plot_stack(stack, *, bands, columns, figure, scales, minimum, stretch, Q, fill):
    """Draw all galaxies in color, see `galml.cutouts.CutoutStack.plot`."""
    if len(stack) == 0:
        raise InputError("stack", "an empty stack", "one galaxy or more")
    from matplotlib.figure import Figure

    colors = lupton_rgb(
        stack,
        bands=bands,
        scales=scales,
        minimum=minimum,
        stretch=stretch,
        Q=Q,
        fill=fill,
    )
    columns = columns or int(np.ceil(np.sqrt(len(stack))))
    rows = -(-len(stack) // columns)
    figure = Figure() if figure is None else figure
    ny, nx = colors.shape[1:3]
    figure.set_size_inches(1.9 * columns, (1.9 * ny / nx + 0.18) * rows + 0.2)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, hspace=0.02)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    turned = [not _is_north_up(wcs, (nx, ny)) for wcs in stack.wcs]
    for i, panel in enumerate(panels):
        if i >= len(stack):
            panel.set_axis_off()
            continue
        panel.imshow(colors[i], origin="lower", interpolation="nearest")
        panel.set(xticks=[], yticks=[], label=f"galaxy {i}")
        panel.set_title(stack.names[i] or f"{i}", fontsize=8, pad=2)
        draw_scale(panel, stack.pixel_scale[i].to_value(u.arcsec))
        if turned[i] and stack.wcs[i] is not None:
            _draw_compass(panel, stack.wcs[i], (nx, ny))
    if not any(turned):
        figure.supxlabel("north is up, east is left", fontsize=8)
    return figure


def _angles(wcs, size):
    """Compute the image angles of north and east in the center of an image, in deg."""
    center = ((size[0] - 1) / 2, (size[1] - 1) / 2)
    return [pixel_angle(angle, wcs, center).value for angle in (0.0, 90.0)]


def _is_north_up(wcs, size):
    """Whether north is up and east is left."""
    if wcs is None:
        return False
    turns = angle_difference(_angles(wcs, size), [0.0, 90.0]).value
    return bool(np.abs(turns).max() < _TOLERANCE)


def _draw_compass(panel, wcs, size):
    """Draw arrows to north and east in the upper right corner."""
    length = 0.12 * min(size)
    origin = np.array([0.8 * size[0], 0.8 * size[1]])
    for name, angle in zip("NE", np.radians(_angles(wcs, size)), strict=True):
        toward = np.array([-np.sin(angle), np.cos(angle)])
        arrow = {"arrowstyle": "->", "color": "white", "lw": 0.8}
        panel.annotate("", origin + length * toward, origin, arrowprops=arrow)
        panel.text(
            *(origin + 1.25 * length * toward),
            name,
            color="white",
            fontsize=6,
            ha="center",
            va="center",
            gid="compass",
        )
