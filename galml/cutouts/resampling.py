# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Windows of many images resampled at once.

Every output pixel is a weighted sum of the few input pixels that it touches. The
weights are those of bilinear interpolation, or the exact areas in which the output
pixel, a quadrilateral on the input image, overlaps the squares of the input pixels.
Interpolation is right where output pixels are smaller than those of the input (an
exact overlap would print the squares of the input pixels); where they are as large or
larger, only the overlap sees every input pixel and conserves flux, also of a star on
a single pixel. Both give what `reproject.reproject_interp` and
`reproject.reproject_exact` give, to 1e-5 of the peak.
"""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "Resampled",
    "Weights",
    "correlation",
    "grid_positions",
    "nodes",
    "pixel_areas",
    "resample",
    "weights_exact",
    "weights_interp",
]

#: Nodes along one side at which the mapping between two images is evaluated exactly.
NODES = 5

# Output pixels worked on at once: enough to make the overhead of the calls small, few
# enough for the cache.
_BLOCK = 8192

# Output pixels of which less than this part is covered by usable pixels are masked.
_LEAST_COVERAGE = 0.5

# Slant, relative to the pixels' width, given to edges that run along the rows, and
# run, in pixels, given to edges that run along the columns.
_SLANT, _TRACE = 3e-8, 1e-30

# Areas are divided by the slant of the edges (pixels per pixel): from this one on,
# single precision is good to 1e-6 of a pixel.
_SINGLE_PRECISION = 0.15


@dataclass
class Weights:
    """Input pixels that make some of the output pixels.

    Attributes
    ----------
    pixels : `~numpy.ndarray` of int
        Shape ``(p,)``: which of the flattened output pixels.
    base : `~numpy.ndarray` of int
        Shape ``(p,)``: index of the first input pixel that counts for each of them,
        in the flattened stack of windows.
    values : `~numpy.ndarray`
        Shape ``(rows, columns, p)``: weight of the input pixels from there on.
    total : `~numpy.ndarray`
        Shape ``(p,)``: sum of these weights.
    width : int
        Side of the windows.
    """

    pixels: np.ndarray
    base: np.ndarray
    values: np.ndarray
    total: np.ndarray
    width: int


@dataclass
class Resampled:
    """Output pixels of all images of a stack, flattened.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape ``(p,)``: mean over the usable part of each output pixel, or the flux in
        it; NaN where too little is usable.
    variances : `~numpy.ndarray` or None
        Shape ``(p,)``: variance of the values, from the weights squared. What
        neighboring output pixels have in common, their correlation, is not in it.
    coverage : `~numpy.ndarray` or None
        Shape ``(p,)``: usable part of each output pixel, from 0 to 1; None when
        everything is usable.
    """

    values: np.ndarray
    variances: np.ndarray | None = None
    coverage: np.ndarray | None = None


def nodes():
    """Compute the Chebyshev nodes in [-1, 1] at which mappings are evaluated.

    Returns
    -------
    `~numpy.ndarray`
        Shape ``(NODES,)``.
    """
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
        Whether to interpolate to the ``size + 1`` corners of the pixels, else to their
        centers.

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


def pixel_areas(corners):
    """Compute the areas of the pixels between corners.

    Parameters
    ----------
    corners : `~numpy.ndarray`
        Shape ``(n, 2, ny + 1, nx + 1)``: positions (x, y).

    Returns
    -------
    `~numpy.ndarray`
        Shape ``(n, ny, nx)``.
    """
    x, y = corners[:, 0], corners[:, 1]
    across = x[:, 1:, 1:] - x[:, :-1, :-1], y[:, 1:, 1:] - y[:, :-1, :-1]
    other = x[:, 1:, :-1] - x[:, :-1, 1:], y[:, 1:, :-1] - y[:, :-1, 1:]
    return np.abs(across[0] * other[1] - across[1] * other[0]) / 2.0


def weights_interp(x, y, width, *, window=None, dtype=np.float64):
    """Compute the weights of bilinear interpolation.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Shape ``(n, ny, nx)``: positions of the output pixels' centers in their
        windows, from 0 to less than ``width - 1``.
    width : int
        Side of the windows.
    window : `~numpy.ndarray` of int, optional
        Shape ``(n,)``: window of each image; by default each has its own.
    dtype : `~numpy.dtype`, optional
        Of the weights.

    Yields
    ------
    Weights
        For some of the output pixels.
    """
    x0, y0 = np.floor(x), np.floor(y)
    base = _first_pixels(x0, y0, width, window)
    x, y = ((v - v0).ravel().astype(dtype) for v, v0 in ((x, x0), (y, y0)))
    for start in range(0, len(base), _BLOCK):
        part = slice(start, start + _BLOCK)
        columns = np.stack([1.0 - x[part], x[part]])
        rows = np.stack([1.0 - y[part], y[part]])
        yield Weights(
            np.arange(len(base))[part],
            base[part],
            rows[:, None] * columns,
            np.ones_like(x[part]),
            width,
        )


def weights_exact(x, y, width, *, window=None, dtype=np.float64):
    """Compute the areas in which quadrilaterals overlap the unit squares of pixels.

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
    window : `~numpy.ndarray` of int, optional
        Shape ``(n,)``: window of each image; by default each has its own.
    dtype : `~numpy.dtype`, optional
        Of the weights. They are computed in single precision only where that is good
        enough.

    Yields
    ------
    Weights
        For some of the output pixels that touch as many rows and columns of the input.
    """
    x, y = x + 0.5, y + 0.5
    (x0, columns), (y0, rows) = _spans(x), _spans(y)
    base = _first_pixels(x0, y0, width, window)
    first = np.arange(x.size).reshape(x.shape)[:, :-1, :-1].ravel()
    # Corners in order around the pixel.
    line = x.shape[-1]
    around = (0, 1, line + 1, line)
    single = np.dtype(dtype) == np.float32 and _are_slanted(x, y)
    x0, y0, x, y = (v.ravel() for v in (x0, y0, x, y))
    # Most pixels touch fewer others than those that lie worst: each kind by itself.
    kinds = rows * (columns.max(initial=0) + 1) + columns
    for kind in np.flatnonzero(np.bincount(kinds)):
        alike = np.flatnonzero(kinds == kind)
        shape = int(rows[alike[0]]), int(columns[alike[0]])
        size = min(_BLOCK, len(alike))
        overlaps = _Overlaps(shape, size, np.float32 if single else np.float64)
        for start in range(0, len(alike), _BLOCK):
            pixels = alike[start : start + _BLOCK]
            corner = first.take(pixels)
            picked = overlaps.picked[: len(pixels)]
            for v, v0, out in zip((x, y), (x0, y0), overlaps.corners, strict=True):
                low = v0.take(pixels)
                for step, one in zip(around, out, strict=True):
                    v[step:].take(corner, out=picked, mode="clip")
                    picked -= low
                    one[: len(pixels)] = picked
            values, total = overlaps.compute(len(pixels))
            values, total = (v.astype(dtype, copy=False) for v in (values, total))
            yield Weights(pixels, base.take(pixels), values, total, width)


def _first_pixels(x, y, width, window):
    """Index the pixels with these coordinates in the flattened stack of windows."""
    if window is None:
        window = np.arange(len(x))
    return (x + width * y + width**2 * window[:, None, None]).astype(np.int64).ravel()


def _spans(x):
    """Find the first pixel that quadrilaterals touch along one axis, and how many."""
    low, high = (
        extreme(beside[:, 1:], beside[:, :-1])
        for extreme in (np.minimum, np.maximum)
        for beside in [extreme(x[..., 1:], x[..., :-1])]
    )
    first = np.floor(low, out=low)
    count = np.maximum(np.ceil(high, out=high) - first, 1.0)
    return first, count.astype(np.int64).ravel()


def _are_slanted(x, y):
    """Whether edges between corners never run nearly along the rows.

    Mappings are smooth: some of the edges speak for those beside them.
    """
    some = slice(None, None, max(x.shape[-1] // 8, 1))
    for end in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
        run, rise = (
            v[:, end[0], end[1]][:, some, some] - v[:, :-1, :-1][:, some, some]
            for v in (x, y)
        )
        if not (np.abs(rise) > _SINGLE_PRECISION * np.abs(run)).all():
            return False
    return True


class _Overlaps:
    """Overlaps of quadrilaterals with ``shape`` (rows, columns) of unit squares.

    The large arrays are kept from one block of pixels to the next, as fresh memory
    costs as much as the work. ``corners``, shape (2, 4, size), are to be filled, by way
    of ``picked``, shape (size,).
    """

    def __init__(self, shape, size, dtype):
        rows, columns = shape
        self.picked = np.empty(size)
        self.corners = np.empty((2, 4, size), dtype)
        self.edges = np.empty((4, 4, size), dtype)
        self.height = np.empty((columns + 1, 4, size), dtype)
        self.total = np.empty((rows, columns + 1, size), dtype)
        self.one = np.dtype(dtype).type(1.0)
        self.slant = np.dtype(dtype).type(_SLANT * columns)

    def compute(self, count):
        """Compute the areas, shape (rows, columns, count), and their sum, (count,)."""
        one, total = self.one, self.total[..., :count]
        xs, ys = self.corners[..., :count]
        run, rise, slope, start = self.edges[..., :count]
        height = self.height[..., :count]
        for corners, step in ((xs, run), (ys, rise)):
            np.subtract(corners[1:], corners[:-1], out=step[:-1])
            np.subtract(corners[0], corners[-1], out=step[-1])
        # Edges without run or rise get a trace of it: they need no case apart. All have
        # a rise in single precision.
        run += one * _TRACE
        if rise.dtype != np.float32:
            np.copyto(rise, self.slant, where=np.abs(rise) < self.slant)
        # Where the edges meet the columns' borders, from 0 to 1, and their height.
        np.reciprocal(run, out=slope)
        np.multiply(xs, slope, out=start)
        np.negative(start, out=height[0])
        for line in range(1, len(height)):
            np.add(height[line - 1], slope, out=height[line])
        np.clip(height, 0.0 * one, one, out=height)
        height *= rise
        height += ys
        # Integral of the height above each row's bottom.
        factor = np.abs(run, out=run)
        factor *= 0.5 * one
        factor /= rise
        for row in range(len(total)):
            if row:
                height -= one
                np.clip(height, 0.0 * one, np.inf * one, out=height)
            np.einsum("lep,lep,ep->lp", height, height, factor, out=total[row])
        area = np.abs(total[0, -1] - total[0, 0])
        areas = total[:, 1:] - total[:, :-1]
        areas[:-1] -= areas[1:].copy()
        return np.abs(areas, out=areas), area


def resample(
    stacks, weights, count, *, per_pixel=False, areas=None, least=_LEAST_COVERAGE
):
    """Resample windows of images of one or several bands.

    Parameters
    ----------
    stacks : sequence of tuple
        ``(values, variances, good)`` of each band, of shape ``(n, width, width)`` and
        one dtype. ``values`` and ``variances`` are 0 where not good; ``good`` is 1 for
        usable pixels, else 0. ``variances`` may be None, ``good`` when all are usable.
    weights : iterable of Weights
        Of the output pixels, in the same dtype.
    count : int
        Number of output pixels.
    per_pixel : bool, optional
        Whether values are flux in a pixel, to be multiplied by the number of input
        pixels in an output pixel; else they are averaged.
    areas : `~numpy.ndarray`, optional
        Shape ``(count,)``: area of each output pixel in input pixels, for
        ``per_pixel``; by default the sum of its weights.
    least : float, optional
        Usable part of an output pixel below which it is NaN.

    Returns
    -------
    list of Resampled
        One for each band.
    """
    results = [
        Resampled(*(None if v is None else np.empty(count, v.dtype) for v in stack))
        for stack in stacks
    ]
    flat = [[None if v is None else v.reshape(-1) for v in stack] for stack in stacks]
    for part in weights:
        for (values, variances, good), result in zip(flat, results, strict=True):
            usable = part.total
            if good is not None:
                usable = _weighted_sum(good, part)
                coverage = usable / part.total
                result.coverage[part.pixels] = coverage
                usable = np.where(coverage >= least, usable, np.nan)
            factor = np.reciprocal(usable)
            if per_pixel:
                factor *= part.total if areas is None else areas.take(part.pixels)
            result.values[part.pixels] = _weighted_sum(values, part) * factor
            if variances is not None:
                squares = _weighted_sum(variances, part, squared=True)
                result.variances[part.pixels] = squares * factor**2
    return results


def _weighted_sum(stack, weights, squared=False):
    """Sum the pixels of a flattened stack, times their weights or these squared."""
    total = np.zeros_like(weights.total)
    picked = np.empty_like(total)
    for row, taps in enumerate(weights.values):
        for column, tap in enumerate(taps):
            # Starting later in the stack is cheaper than adding to all indices.
            start = row * weights.width + column
            stack[start:].take(weights.base, out=picked, mode="clip")
            picked *= tap
            if squared:
                picked *= tap
            total += picked
    return total


def correlation(weights, kernels, count):
    """Compute by how much a convolution before has correlated what is resampled.

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
    `~numpy.ndarray`
        Shape (n,): mean factor on variances that were propagated as if the pixels
        were independent, for white noise before the convolution; from 1 up.
    """
    shapes = np.array([part.values.shape for part in weights])
    taps = np.zeros((shapes[:, 2].sum(), *shapes[:, :2].max(axis=0)), np.float32)
    for part, (rows, columns, _) in zip(weights, shapes, strict=True):
        taps[part.pixels, :rows, :columns] = part.values.transpose(2, 0, 1)
    kernels = np.asarray(kernels, np.float32)
    # The sum of the squares of a convolution is a product of autocorrelations.
    lags = [n - 1 for n in taps.shape[1:]]
    own = _autocorrelation(taps.reshape(count, -1, *taps.shape[1:]), lags)
    other = _autocorrelation(kernels[:, None], lags)
    together = (own * other).sum(axis=(-2, -1))
    return (together / own[..., 0, 0] / other[..., 0, 0]).mean(axis=1)


def _autocorrelation(images, lags):
    """Correlate images with themselves, at lags 0, 1 ... and the negative ones."""
    from scipy.fft import irfft2, rfft2

    shape = [n + lag for n, lag in zip(images.shape[-2:], lags, strict=True)]
    transform = rfft2(images, s=shape)
    result = irfft2(transform * transform.conj(), s=shape)
    y, x = ([*range(lag + 1), *range(-lag, 0)] for lag in lags)
    return result[..., y, :][..., x]
