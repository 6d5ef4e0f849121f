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
_WORKING_SET = 100_000

# Output pixels of which less than this part is covered by usable pixels are masked.
_LEAST_COVERAGE = 0.5

# Slant, in pixels, given to edges that run along the rows: they need no case apart.
_SLANT = 1e-7


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
    width : int
        Side of the windows.
    """

    pixels: torch.Tensor
    base: torch.Tensor
    values: torch.Tensor
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
        Whether to give the ``size + 1`` corners of the pixels, else their centres.

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
    window = torch.arange(len(x)).reshape((-1,) + (1,) * (x.ndim - 1))
    return ((window * width + y.long()) * width + x.long()).flatten()


def weights_bilinear(x, y, width):
    """Weights of bilinear interpolation.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Shape ``(n, ny, nx)``: positions of the output pixels' centres in their
        windows, from 0 to less than ``width - 1``.
    width : int
        Side of the windows.

    Yields
    ------
    Weights
        For all output pixels, in parts.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    x0, y0 = x.floor(), y.floor()
    base = _first_pixels(x0, y0, width)
    right, up = (x - x0).flatten(), (y - y0).flatten()
    columns = torch.stack([1.0 - right, right])
    rows = torch.stack([1.0 - up, up])
    yield Weights(torch.arange(len(base)), base, rows[:, None] * columns, width)


def weights_exact(x, y, width):
    """Areas in which quadrilaterals overlap the unit squares of pixels.

    Green's theorem: the area of a polygon within one pixel is the sum, over the edges
    of the polygon, of the integral along x of the height within the pixel's row that
    lies below the edge. In the pixel's column the edge is a line, so that the integral
    is one of a clipped line and known in closed form.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Shape ``(n, ny + 1, nx + 1)``: positions of the output pixels' corners in their
        windows, where pixel 0 reaches from -0.5 to 0.5. All lie inside the window.
    width : int
        Side of the windows.

    Yields
    ------
    Weights
        For all output pixels, in parts.
    """
    x, y = torch.as_tensor(x) + 0.5, torch.as_tensor(y) + 0.5
    # Corners in order around the pixel.
    slices = [(slice(0, -1),) * 2, (slice(0, -1), slice(1, None))]
    slices += [(slice(1, None),) * 2, (slice(1, None), slice(0, -1))]
    xs = torch.stack([x[:, i, j] for i, j in slices])
    ys = torch.stack([y[:, i, j] for i, j in slices])
    x0, y0 = xs.amin(0).floor(), ys.amin(0).floor()
    base = _first_pixels(x0, y0, width)
    xs, ys = (xs - x0).flatten(1), (ys - y0).flatten(1)
    # Most pixels touch fewer others than those that lie worst: each kind by itself.
    rows, columns = (v.amax(0).ceil().clamp(min=1) for v in (ys, xs))
    spans = (range(int(v.min()), int(v.max()) + 1) for v in (rows, columns))
    for shape in itertools.product(*spans):
        alike = torch.nonzero((rows == shape[0]) & (columns == shape[1]))[:, 0]
        for pixels in alike.split(max(_WORKING_SET // (shape[0] * shape[1]), 1)):
            values = _overlaps(*(v.index_select(1, pixels) for v in (xs, ys)), *shape)
            yield Weights(pixels, base[pixels], values, width)


def _overlaps(xs, ys, rows, columns):
    """Overlap quadrilaterals, corners (4, p), with (rows, columns) unit squares."""
    lines = torch.arange(columns + 1, dtype=xs.dtype)[:, None]
    bottoms = torch.arange(rows, dtype=xs.dtype)[:, None, None]
    total = torch.zeros(rows, columns + 1, xs.shape[1], dtype=xs.dtype)
    run, rise = xs.roll(-1, 0) - xs, ys.roll(-1, 0) - ys
    rise = torch.where(rise.abs() < _SLANT, _SLANT, rise)
    slope = rise / torch.where(run == 0.0, 1.0, run)
    factor = run.abs() / rise
    left, right = torch.minimum(xs, xs + run), torch.maximum(xs, xs + run)
    for k in range(4):
        # Height of the edge where it meets the columns' borders, or ends.
        along = lines.clamp(left[k], right[k]).sub_(xs[k])
        above = torch.addcmul(ys[k], along, slope[k]) - bottoms
        # Integral of the height within the row, from the row's bottom up.
        inside = above.clamp(0.0, 1.0)
        integral = above.sub_(inside, alpha=0.5).mul_(inside)
        total.addcmul_(integral, factor[k])
    return (total[:, 1:] - total[:, :-1]).abs_()


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
        Of the output pixels.
    per_pixel : bool
        Whether values are flux in a pixel, to be multiplied by the number of input
        pixels in an output pixel; else they are averaged.
    areas : `torch.Tensor`, optional
        Shape ``(p,)``: area of each output pixel in input pixels, for ``per_pixel``.

    Returns
    -------
    values : `torch.Tensor`
        Shape ``(p,)``: mean over the usable part of each output pixel; NaN where that
        part is less than one half.
    variances : `torch.Tensor` or None
        Variance of the values with weights squared; what neighbouring output pixels
        have in common, their correlation, is not in it.
    """
    stacks = [_flat(stack, weights) for stack in (values, variances, good)]
    parts = [_combine(*stacks, part) for part in weights]
    total, variance, weight = (
        None if column[0] is None else _join(column, weights)
        for column in zip(*parts, strict=True)
    )
    mean = total / weight
    if per_pixel:
        mean = mean * areas
    if variance is None:
        return mean, None
    factor = areas / weight if per_pixel else 1.0 / weight
    return mean, variance * factor**2


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


def _flat(stack, weights):
    """Flatten windows; pixels of weight zero may lie beyond the end of the last."""
    if stack is None:
        return None
    beyond = max(len(part.values) for part in weights) * weights[0].width
    beyond += max(part.values.shape[1] for part in weights)
    return torch.nn.functional.pad(stack.reshape(-1), (0, beyond))


def _join(columns, weights):
    """Put what was made in parts into the order of the output pixels."""
    joined = torch.cat(columns)
    result = torch.empty_like(joined)
    result[torch.cat([part.pixels for part in weights])] = joined
    return result


def _combine(values, variances, good, weights):
    """Sum the weighted values, variances and weights of one part of the pixels."""
    dtype = values.dtype
    taps = weights.values.to(dtype)
    total = torch.zeros_like(taps[0, 0])
    usable = None if good is None else torch.zeros_like(total)
    variance = None if variances is None else torch.zeros_like(total)
    for row in range(taps.shape[0]):
        for column in range(taps.shape[1]):
            tap = taps[row, column]
            # Starting later in the stack is cheaper than adding to all indices.
            start = row * weights.width + column
            total.addcmul_(values[start:].take(weights.base), tap)
            if good is not None:
                usable.addcmul_(good[start:].take(weights.base), tap)
            if variances is not None:
                picked = variances[start:].take(weights.base)
                variance.addcmul_(picked, tap * tap)
    weight = taps.sum((0, 1))
    if usable is not None:
        covered = usable >= _LEAST_COVERAGE * weight
        weight = torch.where(covered, usable, torch.full_like(weight, torch.nan))
    return total, variance, weight
