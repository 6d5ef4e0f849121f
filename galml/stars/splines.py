# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Monotonic splines, laid out so that many stars are fast on a CPU."""

import math

import torch
from torch.nn.functional import pad

__all__ = ["Spline", "n_parameters"]

#: Smallest slope at a knot; bins are no narrower than its square root allows.
SLOPE = 1e-3


def n_parameters(bins):
    """Numbers that describe one spline with so many bins."""
    return 3 * bins - 1


class Spline:
    """
    Monotonic rational-quadratic splines (Durkan et al. 2019, arXiv:1906.04032).

    The same functions as ``zuko.transforms.MonotonicRQSTransform``, but with stars
    along the last axis: softmax and sums then run over the first one, which processors
    do for many stars at once.

    Parameters
    ----------
    parameters : `torch.Tensor`
        Shape (3 * bins - 1, features, n): unconstrained widths, heights and slopes.
    bound : float
        The spline is the identity beyond this distance from zero.
    """

    def __init__(self, parameters, bound):
        bins = (len(parameters) + 1) // 3
        widths, heights, slopes = parameters.split((bins, bins, bins - 1))
        self.bound = bound
        self.widths = _shares(widths) * (2 * bound)
        self.heights = _shares(heights) * (2 * bound)
        limited = slopes / (1 + (slopes / math.log(SLOPE)).abs())
        # The slope is one at both ends.
        self.log_slopes = pad(limited, (0, 0, 0, 0, 1, 1))

    def forward(self, x):
        """Map x, shape (features, n), and give the logarithm of the slope there."""
        x0, y0, width, height, d0, d1 = self._bin(x, self.widths)
        slope = height / width
        bend = d0 + d1 - 2 * slope
        z = (x + self.bound - x0) / width
        rest = z * (1 - z)
        below = slope + bend * rest
        y = y0 - self.bound + height * (slope * z.square() + d0 * rest) / below
        above = 2 * slope * rest + d0 * (1 - z).square() + d1 * z.square()
        log_slope = (above * (slope / below).square()).log()
        within = x.abs() < self.bound
        return torch.where(within, y, x), torch.where(within, log_slope, 0.0)

    def inverse(self, y):
        """Undo `forward`, for y of shape (features, n)."""
        x0, y0, width, height, d0, d1 = self._bin(y, self.heights)
        slope = height / width
        step = y + self.bound - y0
        bend = step * (d0 + d1 - 2 * slope)
        a = height * (slope - d0) + bend
        b = height * d0 - bend
        c = -slope * step
        root = (b.square() - 4 * a * c).clamp_min(0.0).sqrt()
        x = x0 - self.bound + width * (2 * c / (-b - root))
        return torch.where(y.abs() < self.bound, x, y)

    def _bin(self, values, sizes):
        """Corner, size, and slopes at the ends of the bin that each value is in."""
        left, low = (_starts(t) for t in (self.widths, self.heights))
        knots = left if sizes is self.widths else low
        inside = values.clamp(-self.bound, self.bound) + self.bound
        number = (knots[1:] <= inside).sum(0, keepdim=True)
        x0, y0, width, height, d0 = (
            t.gather(0, number)[0]
            for t in (left, low, self.widths, self.heights, self.log_slopes)
        )
        d1 = self.log_slopes.gather(0, number + 1)[0]
        return x0, y0, width, height, d0.exp(), d1.exp()


def _shares(free):
    """Positive shares that sum to one, none of them tiny."""
    return torch.softmax(free / (1 + (2 * free / math.log(SLOPE)).abs()), 0)


def _starts(sizes):
    """Where each bin starts."""
    return pad(sizes.cumsum(0)[:-1], (0, 0, 0, 0, 1, 0))
