# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars in physical units, and as the numbers of order one that a flow works with."""

import math

import torch
from torch import nn

from galml.core.exceptions import InputError
from galml.stars.population import limit_places, surface

__all__ = ["KINDS", "StarScaling"]

#: What is known of an axis: any number; any number, with far outliers; above zero.
#: An interval, ``["interval", low, high]``, is known by its ends.
KINDS = ("linear", "asinh", "positive")

#: Stars that the scaling looks at, and the share of outliers on each side.
FIT_STARS, OUTLIERS = 200_000, 0.005
#: Penalty on slopes with the conditions, in units of their variance.
RIDGE = 0.01
#: Largest size of a number before `exp` and the like: the results fit into float32.
LARGEST = 60.0
#: Reach of the normal coordinates of radius and azimuth.
NORMAL = 8.0
#: Stars come no nearer to the limits of place and speed than by this share: rounding
#: to float32 cannot reach them.
NEAREST_LIMIT = 1e-6


class StarScaling(nn.Module):
    """
    Change of variables between physical and standardized stars.

    Bounded axes are mapped to all real numbers by a logarithm or a logit, so that
    every standardized star is a possible one. Center and scale may follow the
    conditions of the galaxy by power laws, as size and velocity follow mass.

    Parameters
    ----------
    kinds : sequence
        For each axis one of `KINDS` or ``["interval", low, high]``.
    context : int, optional
        Number of conditions that center and scale follow.
    cylinder : sequence of int, optional
        Places of x, y, v_x and v_y: the flow then sees radius, azimuth, and the
        velocities along and across the radius. The standardized radius is normal for
        a density of stars that is normal in the plane, the azimuth where all
        directions are alike.
    whiten : bool, optional
        Whether linear correlations between the standardized axes are taken out.
    limits : dict, optional
        How far from the center and how fast stars are at most, by the conditions and
        the distance, see ``galml.stars.population.find_limits``. The balls of possible
        positions and velocities are mapped to all of space.

    Raises
    ------
    galml.core.InputError
        If a kind is unknown, or an interval has no width.
    """

    def __init__(self, kinds, context=0, cylinder=None, whiten=False, limits=None):
        super().__init__()
        number = len(kinds)
        self.cylinder = None if cylinder is None else list(cylinder)
        self.whiten = whiten
        slots = [_name(kind) for kind in kinds]
        if cylinder is not None:
            slots[cylinder[0]], slots[cylinder[1]] = "radius", "azimuth"
        self.slots = slots
        # Not saved with the weights, which may be rounded: bounds must hold.
        low, high = _bounds(kinds)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.limits = limits
        for name in ("log_radius", "log_speed") if limits else ():
            values = torch.tensor(limits[name], dtype=torch.float64)
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("center", torch.zeros(number, 1 + context))
        self.register_buffer("log_scale", torch.zeros(number, 1 + context))
        self.register_buffer("mean", torch.zeros(number))
        self.register_buffer("matrix", torch.eye(number))

    def extra_repr(self):
        """Describe the axes, as `repr` shows them."""
        return f"{self.slots}, whiten={self.whiten}"

    def inside(self, values, context=None):
        """
        Find the stars within the bounds.

        Parameters
        ----------
        values : `torch.Tensor`
            Physical stars, shape (n, d).
        context : `torch.Tensor`, optional
            Standardized conditions, shape (n, c) or (1, c), where there are limits.

        Returns
        -------
        `torch.Tensor`
            bool, shape (n,); a star with NaN is not outside.
        """
        values = self._double(values)
        outside = ((values <= self.low) | (values >= self.high)).any(-1)
        if self.limits is not None:
            columns = values.unbind(-1)
            radius, extent = self._size(columns, "position"), self._extent(context)
            speed = self._size(columns, "velocity")
            outside |= (radius >= extent) | (
                speed >= self._fastest(radius / extent, context)
            )
        return ~outside

    def forward(self, values, context=None):
        """
        Standardize stars.

        Parameters
        ----------
        values : `torch.Tensor`
            Physical stars, shape (n, d), within the bounds.
        context : `torch.Tensor`, optional
            Standardized conditions, shape (n, c) or (1, c).

        Returns
        -------
        standard : `torch.Tensor`
            Shape (n, d).
        log_det : `torch.Tensor`
            Logarithm of the volume of standardized units per physical unit, shape (n,).
        """
        flat, log_det = self._flatten(values, context)
        center, log_scale = self._lines(context)
        flat = (flat - center) * torch.exp(-log_scale)
        log_det = log_det - log_scale.sum(-1)
        flat, compression = self._compress(flat)
        matrix = self._double(self.matrix)
        standard = (flat - self._double(self.mean)) @ matrix.T
        log_det = log_det + compression + matrix.diagonal().log().sum()
        return standard.to(self.mean.dtype), log_det.to(self.mean.dtype)

    def inverse(self, standard, context=None):
        """
        Give the physical stars of standardized ones.

        Parameters
        ----------
        standard : `torch.Tensor`
            Shape (n, d).
        context : `torch.Tensor`, optional
            Standardized conditions, shape (n, c) or (1, c).

        Returns
        -------
        `torch.Tensor`
            Shape (n, d): finite, and strictly inside the bounds, where ``standard``
            is finite.
        """
        flat = torch.linalg.solve_triangular(
            self._double(self.matrix), self._double(standard).T, upper=False
        ).T
        center, log_scale = self._lines(context)
        flat = self._expand(flat + self._double(self.mean))
        values = self._unflatten(flat * torch.exp(log_scale) + center, context)
        return self._strictly_inside(values, self.mean.dtype)

    @torch.no_grad()
    def fit(self, values, context=None):
        """
        Learn center, scale and correlations from stars.

        Parameters
        ----------
        values : `torch.Tensor`
            Physical stars, shape (n, d), within the bounds.
        context : `torch.Tensor`, optional
            Standardized conditions of the galaxy of each star, shape (n, c); they take
            part only where the scaling was made for them.

        Returns
        -------
        StarScaling
            Itself.
        """
        step = max(1, len(values) // FIT_STARS)
        values = values[::step]
        context = None if context is None else context[::step]
        design = torch.ones(len(values), self.center.shape[1], dtype=torch.float64)
        if self.center.shape[1] > 1:
            design[:, 1:] = context
        flat = self._flatten(values, context)[0]
        center = _line(design, _clipped(flat))
        # The radius has no center but zero, the azimuth neither center nor scale.
        center[self._at("radius", "azimuth")] = 0.0
        size = (flat - design @ center.T).abs()
        least = _least(size)
        log_scale = _line(design, _clipped(size.clamp_min(least).log()))
        log_scale[self._at("azimuth")] = 0.0
        self.center.copy_(center)
        self.log_scale.copy_(log_scale)
        flat = (flat - design @ self._double(self.center).T) * torch.exp(
            -design @ self._double(self.log_scale).T
        )
        flat = _clipped(self._compress(flat)[0])
        self._standardize(flat)
        return self

    def _standardize(self, flat):
        """Set mean and matrix so that the numbers have spread one."""
        spread = flat.std(0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        mean, factor = flat.mean(0), torch.eye(len(spread), dtype=torch.float64)
        free = torch.tensor([slot != "azimuth" for slot in self.slots])
        if self.whiten:
            unit = ((flat - mean) / spread)[:, free]
            covariance = unit.T @ unit / len(unit)
            # Keeps the matrix regular where one axis follows from the others.
            covariance += 1e-6 * torch.eye(len(covariance), dtype=torch.float64)
            part = torch.linalg.cholesky(covariance)
            factor[free.nonzero(), free.nonzero().T] = part
        matrix = torch.linalg.inv(factor) / spread
        matrix[~free] = torch.eye(len(spread), dtype=torch.float64)[~free]
        mean[~free] = 0.0
        self.mean.copy_(mean)
        self.matrix.copy_(matrix.tril())

    def _at(self, *names):
        """Places of the axes of these kinds."""
        return [i for i, slot in enumerate(self.slots) if slot in names]

    def _double(self, tensor):
        """Convert to float64, where the device has it."""
        wide = torch.float32 if tensor.device.type == "mps" else torch.float64
        return tensor.to(wide)

    def _lines(self, context):
        """Center and logarithm of the scale for conditions."""
        center, log_scale = self._double(self.center), self._double(self.log_scale)
        if center.shape[1] == 1:
            return center.T, log_scale.T
        context = self._double(context)
        return tuple(t[:, 0] + context @ t[:, 1:].T for t in (center, log_scale))

    def _extent(self, context):
        """Largest distance from the center for conditions."""
        return surface(self._double(self.log_radius), context).exp()

    def _fastest(self, share, context):
        """Largest speed at shares of the extent."""
        # One row for each of the radii; one column for each star, or one for all.
        limits = surface(self._double(self.log_speed), context).expand(-1, len(share))
        place, part = limit_places(share)
        low, high = (limits.gather(0, p[None])[0] for p in (place, place + 1))
        return torch.lerp(low, high, part).exp()

    def _size(self, columns, name):
        """Length of the vectors of position or velocity."""
        return torch.linalg.vector_norm(
            torch.stack([columns[i] for i in self.limits[name]]), dim=0
        )

    def _stretch(self, columns, name, limit):
        """Map a ball to all of space; and the logarithm of the volume ratio."""
        share = (self._size(columns, name) / limit).square()
        rest = torch.log1p(-share.clamp(max=1 - NEAREST_LIMIT))
        for i in self.limits[name]:
            columns[i] = columns[i] * torch.exp(-0.5 * rest)
        return -2.5 * rest

    def _shrink(self, columns, name, limit):
        """Undo `_stretch`."""
        share = (self._size(columns, name) / limit).square()
        factor = torch.minimum((1 + share).rsqrt(), (1 - NEAREST_LIMIT) * share.rsqrt())
        for i in self.limits[name]:
            columns[i] = columns[i] * factor

    def _flatten(self, values, context):
        """Leave Cartesian axes and bounds; and the logarithm of the volume ratio."""
        values = self._double(values)
        columns = list(values.unbind(-1))
        log_det = torch.zeros_like(columns[0])
        if self.limits is not None:
            extent = self._extent(context)
            share = self._size(columns, "position") / extent
            log_det = log_det + self._stretch(columns, "position", extent)
            fastest = self._fastest(share, context)
            log_det = log_det + self._stretch(columns, "velocity", fastest)
        if self.cylinder is not None:
            x, y, v_x, v_y = (columns[i] for i in self.cylinder)
            radius = torch.hypot(x, y).clamp_min(1e-30)
            log_det = log_det - radius.log()
            across = (x * v_y - y * v_x) / radius
            along = (x * v_x + y * v_y) / radius
            for i, c in zip(
                self.cylinder, (radius, torch.atan2(y, x), along, across), strict=True
            ):
                columns[i] = c
        for i in self._at("positive"):
            columns[i] = columns[i].log()
            log_det = log_det - columns[i]
        for i in self._at("interval"):
            low, high = self.low[i], self.high[i]
            below, above = (columns[i] - low).log(), (high - columns[i]).log()
            columns[i] = below - above
            log_det = log_det + (high - low).log() - below - above
        return torch.stack(columns, -1), log_det

    def _unflatten(self, flat, context):
        """Undo `_flatten`."""
        columns = list(flat.unbind(-1))
        for i in self._at("positive"):
            columns[i] = columns[i].clamp(-LARGEST, LARGEST).exp()
        for i in self._at("interval"):
            low, high = self.low[i], self.high[i]
            logit = columns[i].clamp(-LARGEST, LARGEST)
            columns[i] = low + (high - low) * torch.sigmoid(logit)
        if self.cylinder is not None:
            radius, azimuth, along, across = (columns[i] for i in self.cylinder)
            cos, sin = azimuth.cos(), azimuth.sin()
            cartesian = (
                radius * cos,
                radius * sin,
                along * cos - across * sin,
                along * sin + across * cos,
            )
            for i, column in zip(self.cylinder, cartesian, strict=True):
                columns[i] = column
        if self.limits is not None:
            extent = self._extent(context)
            self._shrink(columns, "position", extent)
            share = self._size(columns, "position") / extent
            self._shrink(columns, "velocity", self._fastest(share, context))
        return torch.stack(columns, -1)

    def _compress(self, flat):
        """Draw in far outliers; and the logarithm of the volume ratio."""
        columns = list(flat.unbind(-1))
        log_det = torch.zeros_like(columns[0])
        for i in self._at("asinh", "radius"):
            log_det = log_det - 0.5 * torch.log1p(columns[i].square())
            columns[i] = columns[i].asinh()
        for i in self._at("radius"):
            columns[i], stretch = _normal_radius(columns[i])
            log_det = log_det + stretch
        for i in self._at("azimuth"):
            share = columns[i] / (2 * math.pi) + 0.5
            columns[i] = _ndtri(share)
            log_det = log_det - math.log(2 * math.pi) - _log_normal(columns[i])
        return torch.stack(columns, -1), log_det

    def _expand(self, flat):
        """Undo `_compress`."""
        columns = list(flat.unbind(-1))
        for i in self._at("radius"):
            normal = columns[i].clamp(-NORMAL, LARGEST)
            columns[i] = (-2 * torch.special.log_ndtr(-normal)).sqrt()
        for i in self._at("azimuth"):
            columns[i] = 2 * math.pi * (torch.special.ndtr(columns[i]) - 0.5)
        for i in self._at("asinh", "radius"):
            columns[i] = columns[i].clamp(-LARGEST, LARGEST).sinh()
        return torch.stack(columns, -1)

    def _strictly_inside(self, values, dtype):
        """Round to a precision without reaching the bounds."""
        values = values.to(dtype)
        limit = torch.finfo(dtype).max
        inner = []
        for bound, towards in ((self.low, limit), (self.high, -limit)):
            # The first number inside, whichever way the bound itself is rounded.
            near = bound.to(dtype)
            inside = near > bound if towards > 0 else near < bound
            step = torch.nextafter(near, torch.full_like(near, towards))
            inner.append(torch.where(inside, near, step))
        return torch.maximum(torch.minimum(values, inner[1]), inner[0])


def _name(kind):
    """Name of a kind, which must be known."""
    if kind in KINDS:
        return kind
    if len(kind) == 3 and kind[0] == "interval" and kind[1] < kind[2]:
        return "interval"
    raise InputError("kinds", repr(kind), f"{KINDS} or ['interval', low, high]")


def _bounds(kinds):
    """Lower and upper bound of each axis."""
    pairs = {"linear": (-math.inf, math.inf), "asinh": (-math.inf, math.inf)}
    pairs["positive"] = (0.0, math.inf)
    rows = [pairs[k] if isinstance(k, str) else k[1:] for k in kinds]
    return torch.tensor(rows, dtype=torch.float64).unbind(-1)


def _clipped(values):
    """Move the outliers of each column to its quantiles."""
    ends = torch.tensor([OUTLIERS, 1 - OUTLIERS], dtype=values.dtype)
    low, high = torch.quantile(values, ends, dim=0)
    return values.clamp(low, high)


def _least(size):
    """Smallest distance from the center that counts, for each column."""
    typical = size.mean(0)
    return 1e-3 * torch.where(typical > 0, typical, torch.ones_like(typical))


def _line(design, values):
    """Least squares for each column, without steep slopes along alike conditions."""
    moments = design.T @ design / len(design)
    penalty = RIDGE * torch.eye(len(moments), dtype=moments.dtype)
    penalty[0, 0] = 0.0
    return torch.linalg.solve(moments + penalty, design.T @ values / len(design)).T


def _ndtri(share):
    """Quantile of the normal distribution, at most 8 from zero."""
    return torch.special.ndtri(share).clamp(-NORMAL, NORMAL)


def _log_normal(x):
    """Logarithm of the normal density."""
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def _normal_radius(radius):
    """Map the distance of normal points of the plane to a normal number."""
    # Logarithm of the share of points that lie farther out.
    outside = (-0.5 * radius.square()).clamp_min(-600.0)
    # Each tail from its own side: one minus a small share would lose it.
    lower = torch.special.ndtri(-torch.expm1(outside.clamp_min(-2.0)))
    upper = -torch.special.ndtri(outside.clamp_max(-0.5).exp())
    normal = torch.where(outside < -1.0, upper, lower)
    return normal, radius.log() + outside - _log_normal(normal)
