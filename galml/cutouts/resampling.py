# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Many images resampled at once, on tensors.

Every output pixel is a weighted sum of the few input pixels that it touches. The
weights are those of bilinear interpolation, or the exact areas in which the output
pixel, a quadrilateral on the input image, overlaps the squares of the input pixels.
Interpolation is right where output pixels are smaller than those of the input (an
exact overlap would print the squares of the input pixels); where they are as large or
larger, only the overlap sees every input pixel and conserves flux, also of a star on
a single pixel.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

__all__ = [
    "Weights",
    "correlation",
    "grid_positions",
    "nodes",
    "resample",
    "weights_bilinear",
    "weights_exact",
]

#: Nodes along one side at which the mapping between two images is evaluated exactly.
NODES = 5

# Numbers held at once while overlaps are computed, so that they stay in the cache.
_WORKING_SET = 50_000

# Output pixels of which less than this part is covered by usable pixels are masked.
_LEAST_COVERAGE = 0.5

# Slant, relative to the pixels' width, given to edges that run along the rows, and
# run, in pixels, given to edges that run along the columns.
_SLANT, _TRACE = 3e-8, 1e-30


@dataclass
class Weights:
    """Input pixels that make some of the output pixels.

    Attributes
    ----------
    pixels : `torch.Tensor` of int
        Shape ``(p,)``: which of the flattened output pixels.
    base : `torch.Tensor` of int
        Shape ``(p,)``: index of the first input pixel that counts for each of them,
        in the flattened stack of windows.
    values : `torch.Tensor`
        Shape ``(rows, columns, p)``: weight of the input pixels from there on.
    total : `torch.Tensor`
        Shape ``(p,)``: sum of these weights.
    width : int
        Side of the windows.
    """

    pixels: torch.Tensor
    base: torch.Tensor
    values: torch.Tensor
    total: torch.Tensor
    width: int


def nodes():
    """Give the Chebyshev nodes in [-1, 1] at which mappings are evaluated."""
    return -np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)


def grid_positions(values, size, *, corners):
    """Interpolate mappings, known at the nodes, to all pixels of square images.

    A polynomial of fourth degree in both directions follows any projection and the
    usual distortions to better than a thousandth of a pixel.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape ``(..., NODES, NODES)``: values at the nodes, which span the image from
        edge to edge; the last axis is x.
    size : int
        Pixels on a side.
    corners : bool
        Whether to give the ``size + 1`` corners of the pixels, else their centers.

    Returns
    -------
    `~numpy.ndarray`
        Shape ``(..., m, m)`` with ``m`` of ``size + 1`` or ``size``.
    """
    if corners:
        points = np.linspace(-1.0, 1.0, size + 1)
    else:
        points = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    at = nodes()
    others = ~np.eye(NODES, dtype=bool)
    basis = np.stack(
        [
            np.prod((points[:, None] - at[o]) / (at[k] - at[o]), axis=1)
            for k, o in enumerate(others)
        ],
        axis=1,
    )
    return basis @ values @ basis.T


def _first_pixels(x, y, width):
    """Index the pixels with these coordinates in the flattened stack of windows."""
    window = torch.arange(len(x), dtype=x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
    return torch.add(x, y, alpha=width).add_(window, alpha=width**2).long().flatten()


def weights_bilinear(x, y, width, *, dtype=torch.float64):
    """Weights of bilinear interpolation.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Shape ``(n, ny, nx)``: positions of the output pixels' centers in their
        windows, from 0 to less than ``width - 1``.
    width : int
        Side of the windows.
    dtype : `torch.dtype`, optional
        Of the weights.

    Yields
    ------
    Weights
        For all output pixels.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    x0, y0 = x.floor(), y.floor()
    base = _first_pixels(x0, y0, width)
    right, up = ((v - v0).flatten().to(dtype) for v, v0 in ((x, x0), (y, y0)))
    columns = torch.stack([1.0 - right, right])
    rows = torch.stack([1.0 - up, up])
    values = rows[:, None] * columns
    yield Weights(torch.arange(len(base)), base, values, torch.ones_like(up), width)


def weights_exact(x, y, width, *, dtype=torch.float64):
    """Areas in which quadrilaterals overlap the unit squares of pixels.

    Green's theorem: the area of a polygon above a line and between two columns is the
    sum, over the edges of the polygon, of the integral along x of the edge's height
    above the line, which is known in closed form. Differences of these integrals from
    one row, and one column, to the next are the areas within the pixels.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Shape ``(n, ny + 1, nx + 1)``: positions of the output pixels' corners in their
        windows, where pixel 0 reaches from -0.5 to 0.5. All lie inside the window.
    width : int
        Side of the windows.
    dtype : `torch.dtype`, optional
        Of the weights, which are computed in the precision of the positions.

    Yields
    ------
    Weights
        For the output pixels that touch as many rows and columns of the input.
    """
    x, y = torch.as_tensor(x) + 0.5, torch.as_tensor(y) + 0.5
    (x0, columns), (y0, rows) = _spans(x), _spans(y)
    base = _first_pixels(x0, y0, width)
    first = torch.arange(x.numel()).reshape(x.shape)[:, :-1, :-1].flatten()
    # Corners in order around the pixel, back to the first.
    line = x.shape[-1]
    around = torch.tensor([0, 1, line + 1, line, 0])[:, None]
    x0, y0, x, y = (v.flatten() for v in (x0, y0, x, y))
    # Most pixels touch fewer others than those that lie worst: each kind by itself.
    spans = (range(int(v.min()), int(v.max()) + 1) for v in (rows, columns))
    for shape in itertools.product(*spans):
        alike = np.flatnonzero((rows == shape[0]) & (columns == shape[1]))
        if not len(alike):
            continue
        alike = torch.from_numpy(alike)
        values = torch.empty(*shape, len(alike), dtype=dtype)
        total = torch.empty(len(alike), dtype=dtype)
        size = max(_WORKING_SET // (shape[0] * (shape[1] + 1)), 1)
        for start in range(0, len(alike), size):
            part = slice(start, start + size)
            pixels = alike[part]
            corners = first.index_select(0, pixels) + around
            xs, ys = (
                v.index_select(0, corners.view(-1)).view(corners.shape)
                - v0.index_select(0, pixels)
                for v, v0 in ((x, x0), (y, y0))
            )
            values[..., part], total[part] = _overlaps(xs, ys, *shape)
        yield Weights(alike, base.index_select(0, alike), values, total, width)


def _spans(x):
    """Give the first pixel that quadrilaterals touch along one axis, and how many."""
    low, high = (
        extreme(beside[:, 1:], beside[:, :-1])
        for extreme in (torch.minimum, torch.maximum)
        for beside in [extreme(x[..., 1:], x[..., :-1])]
    )
    first = low.floor_()
    return first, high.ceil_().sub_(first).clamp_(min=1.0).flatten().numpy()


def _overlaps(xs, ys, rows, columns):
    """Overlap closed quadrilaterals, corners (5, p), with (rows, columns) unit squares.

    Gives the areas, shape (rows, columns, p), and their sum.
    """
    # Edges without run or rise get a trace of it: they need no case apart.
    run = (xs[1:] - xs[:-1]).add_(_TRACE)
    rise = ys[1:] - ys[:-1]
    slant = _SLANT * columns
    rise = torch.where(rise.abs() < slant, slant, rise)
    # Where the edges meet the columns' borders, from 0 to 1, and their height there.
    slope = run.reciprocal()
    lines = torch.arange(columns + 1, dtype=xs.dtype)[:, None]
    height = torch.addcmul((xs[:-1] * -slope)[:, None], slope[:, None], lines)
    height = torch.addcmul(ys[:-1, None], height.clamp_(0.0, 1.0), rise[:, None])
    # Integral of the height above each row's bottom.
    factor = run.abs_().div_(rise).mul_(0.5)[:, None]
    total = xs.new_empty(rows, columns + 1, xs.shape[1])
    above = torch.empty_like(height)
    for row in range(rows):
        torch.sub(height, row, out=above).relu_().square_().mul_(factor)
        torch.sum(above, 0, out=total[row])
    area = (total[0, -1] - total[0, 0]).abs_()
    areas = total[:, 1:] - total[:, :-1]
    for row in range(rows - 1):
        areas[row] -= areas[row + 1]
    return areas.abs_(), area


def resample(values, variances, good, weights, *, per_pixel, areas=None):
    """Resample windows of images.

    Parameters
    ----------
    values : `torch.Tensor`
        Shape ``(n, width, width)``; 0 where not good.
    variances : `torch.Tensor` or None
        The same shape; 0 where not good.
    good : `torch.Tensor` or None
        The same shape and type: 1 for usable pixels, else 0; None when all are.
    weights : sequence of Weights
        Of the output pixels, in the type of the values.
    per_pixel : bool
        Whether values are flux in a pixel, to be multiplied by the number of input
        pixels in an output pixel; else they are averaged.
    areas : `torch.Tensor`, optional
        Shape ``(p,)``: area of each output pixel in input pixels, for ``per_pixel``;
        by default the sum of its weights.

    Returns
    -------
    values : `torch.Tensor`
        Shape ``(p,)``: mean over the usable part of each output pixel; NaN where that
        part is less than one half.
    variances : `torch.Tensor` or None
        Variance of the values with weights squared; what neighboring output pixels
        have in common, their correlation, is not in it.
    """
    stacks = [None if v is None else v.view(-1) for v in (values, variances, good)]
    mean = torch.empty(sum(len(part.pixels) for part in weights), dtype=values.dtype)
    variance = None if variances is None else torch.empty_like(mean)
    for part in weights:
        total, squares, usable = _combine(*stacks, part)
        factor = 1.0 / usable
        if per_pixel:
            area = part.total if areas is None else areas[part.pixels].to(factor)
            factor *= area
        mean.scatter_(0, part.pixels, total.mul_(factor))
        if variance is not None:
            variance.scatter_(0, part.pixels, squares.mul_(factor.square_()))
    return mean, variance


def correlation(weights, kernels, count):
    """Tell by how much a convolution before has correlated what is resampled.

    Parameters
    ----------
    weights : sequence of Weights
        Of equally many output pixels in each of n images.
    kernels : array_like
        Shape (n or 1, k, k): what the images were convolved with.
    count : int
        Number of images, n.

    Returns
    -------
    `torch.Tensor`
        Shape (n,): mean factor on variances that were propagated as if the pixels
        were independent, for white noise before the convolution; from 1 up.
    """
    shapes = torch.tensor([part.values.shape for part in weights])
    taps = torch.zeros(int(shapes[:, 2].sum()), *shapes[:, :2].amax(0).tolist())
    for part, (rows, columns, _) in zip(weights, shapes, strict=True):
        taps[part.pixels, :rows, :columns] = part.values.permute(2, 0, 1).to(taps)
    kernels = torch.as_tensor(kernels).to(taps)
    side = kernels.shape[-1]
    taps = taps.reshape(len(kernels), -1, *taps.shape[1:]).transpose(0, 1)
    both = torch.nn.functional.conv2d(
        taps, kernels[:, None], padding=side - 1, groups=len(kernels)
    )
    together = both.square().sum((-2, -1))
    apart = taps.square().sum((-2, -1)) * kernels.square().sum((-2, -1))
    return (together / apart).T.reshape(count, -1).mean(1)


def _combine(values, variances, good, weights):
    """Sum the weighted values, variances and weights of one part of the pixels."""
    total = torch.zeros_like(weights.total)
    variance = None if variances is None else torch.zeros_like(total)
    usable = weights.total if good is None else torch.zeros_like(total)
    picked = torch.empty_like(total)

    def pick(stack):
        # Starting later in the stack is cheaper than adding to all indices.
        return torch.index_select(stack[start:], 0, weights.base, out=picked)

    for row, taps in enumerate(weights.values):
        for column, tap in enumerate(taps):
            start = row * weights.width + column
            total.addcmul_(pick(values), tap)
            if good is not None:
                usable.addcmul_(pick(good), tap)
            if variances is not None:
                variance.addcmul_(pick(variances).mul_(tap), tap)
    if good is not None:
        covered = usable >= _LEAST_COVERAGE * weights.total
        usable = torch.where(covered, usable, torch.nan)
    return total, variance, usable
