# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The classical estimator: rings that share one position angle.

On each ring of a velocity field that is symmetric about its kinematic major axis, the
velocities are a sum of odd cosines of the angle from that axis (Schoenmakers, Franx &
de Zeeuw 1997, MNRAS 292, 349; Krajnovic et al. 2006, MNRAS 366, 787). Rings are
written as linear functions of radius, so that one linear least-squares solution gives
every ring at once, and the position angle that all of them share is where a profile
likelihood, known in closed form from that solution, is highest.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

__all__ = [
    "HarmonicFit",
    "RingModel",
    "fit_harmonics",
    "masked_median",
    "unit_grid",
]

#: Maps that are fitted at once: more of them leave the processor's cache.
ROWS = 128


@dataclass(frozen=True)
class RingModel:
    """Numbers of the ring fit.

    Parameters
    ----------
    n_rings : int
        Rings of equal width between center and radius 1.
    n_angles : int
        Angles between 0 and 180 degrees from which the best one is sought.
    n_iterations : int
        Rounds of weighting outliers down.
    ridge : float
        Pull of the amplitudes towards zero.
    robustness : float
        Residual, in standard deviations, at which a weight is halved.
    """

    n_rings: int = 4
    n_angles: int = 36
    n_iterations: int = 5
    ridge: float = 1e-3
    robustness: float = 8.0


@dataclass
class HarmonicFit:
    """Result for n maps; every tensor has the leading axis n.

    Attributes
    ----------
    angle : `torch.Tensor`
        Shape (n,): receding side in radians, counter-clockwise from +y.
    systemic : `torch.Tensor`
        Shape (n,): velocity of the center.
    scale : `torch.Tensor`
        Shape (n,): robust root mean square velocity about the systemic one.
    unexplained, unexplained_free : `torch.Tensor`
        Shape (n,): fraction of the variance left by rings with a shared angle, and by
        rings with an angle each.
    sharpness : `torch.Tensor`
        Shape (n,): curvature of the profile likelihood at its maximum, per radian
        squared, in units of the variance left.
    rings : `torch.Tensor`
        Shape (n, n_rings + 1): amplitudes on the rings, and of the third harmonic, in
        units of ``scale``.
    weight : `torch.Tensor`
        Shape (n, pixels): final weights; outliers have little.
    """

    angle: torch.Tensor
    systemic: torch.Tensor
    scale: torch.Tensor
    unexplained: torch.Tensor
    unexplained_free: torch.Tensor
    sharpness: torch.Tensor
    rings: torch.Tensor
    weight: torch.Tensor


@lru_cache
def unit_grid(size):
    """Coordinates x, y of the pixels of a square image of half-width 1."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


@lru_cache
def _design(size, n_rings):
    """Design matrix (pixels, terms), and the products of its columns.

    Returns
    -------
    design : `torch.Tensor`
        Shape (pixels, terms): a constant, cosines on the rings and of the third
        harmonic, and the sines of these.
    products : `torch.Tensor`
        Shape (pixels, pairs): of every pair of columns once.
    pairs : `torch.Tensor`
        Shape (terms, terms): which pair belongs to two columns.
    """
    x, y = (axis.reshape(-1) for axis in unit_grid(size))
    radius = torch.hypot(x, y)
    cosine, sine = y / radius, -x / radius
    nodes = torch.arange(1, n_rings + 1) / n_rings
    hats = (1 - n_rings * (radius[:, None] - nodes).abs()).clamp_min(0)
    hats[radius > 1] = 0
    hats[radius > 1, -1] = 1
    third = radius.clamp(max=1)[:, None]
    terms = [
        torch.ones_like(third),
        hats * cosine[:, None],
        third * (4 * cosine**3 - 3 * cosine)[:, None],
        hats * sine[:, None],
        third * (3 * sine - 4 * sine**3)[:, None],
    ]
    design = torch.cat(terms, 1)
    first, second = torch.triu_indices(design.shape[1], design.shape[1])
    pairs = torch.empty(design.shape[1], design.shape[1], dtype=torch.long)
    pairs[first, second] = pairs[second, first] = torch.arange(len(first))
    return design, design[:, first] * design[:, second], pairs


#: Pairs of the functions 1, cos, sin, cos 3, sin 3 of an angle, by their places.
_FUNCTIONS = [(i, j) for i in range(5) for j in range(i, 5)]


@lru_cache
def _projection(n_rings):
    """Express normal equations along one shared angle by functions of that angle.

    Returns
    -------
    matrix : `torch.Tensor`
        Shape (entries, functions, pairs): an entry of the upper triangle of the
        projected matrix is a sum over products of `_angle_functions` and over the
        pairs of terms.
    vector : `torch.Tensor`
        Shape (amplitudes, 5, terms): the same for the right side.
    """
    count = n_rings + 1
    _, _, pairs = _design(2, n_rings)
    amplitudes = [[(0, 0)]]
    for term in range(count):
        low = 3 if term == n_rings else 1
        amplitudes.append([(low, 1 + term), (low + 1, 1 + count + term)])
    vector = torch.zeros(count + 1, 5, len(pairs), dtype=torch.float64)
    for row, parts in enumerate(amplitudes):
        for function, term in parts:
            vector[row, function, term] = 1
    entries = [(i, j) for i in range(count + 1) for j in range(i, count + 1)]
    matrix = torch.zeros(
        len(entries), len(_FUNCTIONS), int(pairs.max()) + 1, dtype=torch.float64
    )
    for row, (i, j) in enumerate(entries):
        for first, one in amplitudes[i]:
            for second, other in amplitudes[j]:
                place = _FUNCTIONS.index((min(first, second), max(first, second)))
                matrix[row, place, pairs[one, other]] += 1
    return matrix, vector


def _angle_functions(angle):
    """Give 1, cos, sin, cos 3 and sin 3 of angles (..., t), shape (..., 5, t)."""
    cosine, sine = angle.cos(), angle.sin()
    third, fourth = (3 * angle).cos(), (3 * angle).sin()
    return torch.stack([torch.ones_like(angle), cosine, sine, third, fourth], -2)


class _Profile:
    """Variance that rings of one shared angle explain, as a function of the angle."""

    def __init__(self, gram, moment, model):
        self.size = model.n_rings + 2
        self.ridge = model.ridge
        matrix, vector = _projection(model.n_rings)
        n = len(gram)
        shape = matrix.shape[:2]
        self.matrix = (gram @ matrix.flatten(0, 1).T).view(n, *shape)
        self.vector = (moment @ vector.flatten(0, 1).T).view(n, self.size, 5)

    def _equations(self, angle):
        """Give entries (n, e, t) of the upper triangle and right sides (n, a, t)."""
        functions = _angle_functions(angle)
        first, second = np.transpose(_FUNCTIONS)
        products = functions[..., first, :] * functions[..., second, :]
        return self.matrix @ products, self.vector @ functions

    def explained(self, angle):
        """Give the variance explained at angles (n, t) or (t,), shape (n, t)."""
        entries, right = self._equations(angle)
        shape = entries.shape[0], entries.shape[2]
        # Elimination entry by entry, for all maps and angles at once.
        entries = list(entries.transpose(0, 1).flatten(1).unbind())
        right = list(right.transpose(0, 1).flatten(1).unbind())
        rows = []
        for i in range(self.size):
            rows.append(entries[: self.size - i])
            entries = entries[self.size - i :]
        total = 0.0
        for k, row in enumerate(rows):
            inverse = (row[0] + self.ridge).reciprocal()
            scaled = right[k] * inverse
            total = total + scaled * right[k]
            for i in range(1, len(row)):
                factor = row[i] * inverse
                right[k + i].addcmul_(row[i], scaled, value=-1)
                for j in range(i, len(row)):
                    rows[k + i][j - i].addcmul_(factor, row[j], value=-1)
        return total.view(shape)

    def amplitudes(self, angle):
        """Give the amplitudes (n, a) at angles (n,)."""
        entries, right = self._equations(angle[:, None])
        first, second = torch.triu_indices(self.size, self.size)
        matrix = torch.empty(len(angle), self.size, self.size, dtype=right.dtype)
        matrix[:, first, second] = matrix[:, second, first] = entries[..., 0]
        matrix += self.ridge * torch.eye(self.size, dtype=right.dtype)
        return torch.linalg.solve(matrix, right[..., 0])


def _maximize(profile, n_angles):
    """Find the shared angle of highest likelihood, and its curvature."""
    step = math.pi / n_angles
    start = torch.arange(n_angles, dtype=torch.float64) * step
    angle = start[profile.explained(start).argmax(1)]
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    for _ in range(4):
        explained = profile.explained(angle[:, None] + step * offsets)
        low, center, high = explained.unbind(1)
        bend = (2 * center - low - high).clamp_min(1e-30)
        angle = angle + (0.5 * step) * ((high - low) / bend).clamp(-2, 2)
        curvature = bend / step**2
        step = step / 4
    return angle, curvature


def masked_median(values, mask):
    """Find the median of each row over a mask, the lower one of the middle two.

    Parameters
    ----------
    values : `torch.Tensor`
        Shape (n, ...); it is not changed.
    mask : `torch.Tensor`
        Of the same shape: what counts.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), of the type of the values; NaN where a mask is empty.
    """
    mask = mask.flatten(1).numpy()
    known = values.flatten(1).numpy()[mask]
    medians = np.full(len(mask), np.nan, known.dtype)
    # Rows have different lengths: padding them costs more than taking one at a time.
    start = 0
    for row, count in enumerate(mask.sum(1).tolist()):
        if count:
            part, place = known[start : start + count], (count - 1) // 2
            part.partition(place)
            medians[row] = part[place]
            start += count
    return torch.from_numpy(medians)


class _FixedMedian:
    """Median of each row over a mask that stays the same; zero where it is empty.

    The rank is found in single precision for all rows at once, and the value there is
    then taken in double precision.
    """

    def __init__(self, mask):
        count = mask.sum(1)
        rank = (count - 1).clamp_min(0) // 2
        self.mask, self.empty = mask, count == 0
        self.place = int(rank.max())
        # As many low values in each row as give all of them one rank.
        low = (~mask).cumsum(1) <= (self.place - rank)[:, None]
        self.fill = torch.where(low, -math.inf, math.inf)
        self.memory = torch.empty_like(self.fill)

    def of(self, values):
        """Give the medians of values (n, pixels)."""
        single = values.float()
        torch.where(self.mask, single, self.fill, out=self.memory)
        sorted_ = self.memory.numpy()
        sorted_.partition(self.place, axis=1)
        place = (single.numpy() == sorted_[:, self.place, None]).argmax(1)
        median = values.gather(1, torch.from_numpy(place)[:, None])[:, 0]
        return median.masked_fill_(self.empty, 0.0)


def fit_harmonics(velocity, weight, model=None):
    """Fit rings with a shared position angle, robustly.

    Parameters
    ----------
    velocity : `torch.Tensor`
        Shape (n, size, size), float64; finite everywhere.
    weight : `torch.Tensor`
        Shape (n, size, size), float64: zero where nothing was measured.
    model : `RingModel`, optional
        Numbers of the fit.

    Returns
    -------
    `HarmonicFit`
        All of it equivariant under flips and turns of the image.
    """
    model = RingModel() if model is None else model
    size = velocity.shape[-1]
    parts = [
        _free_rings(v.flatten(1), w.flatten(1), size, model)
        for v, w in zip(velocity.split(ROWS), weight.split(ROWS), strict=True)
    ]
    velocity, used, gram, moment, free, unit = map(torch.cat, zip(*parts, strict=True))
    profile = _Profile(gram, moment, model)
    angle, curvature = _maximize(profile, model.n_angles)
    explained = profile.explained(angle[:, None])[:, 0]
    amplitude = profile.amplitudes(angle)
    # Both ends of the axis fit alike: the receding one has the positive amplitudes.
    design, count = _design(size, model.n_rings)[0], model.n_rings + 1
    rings = slice(1, 1 + model.n_rings)
    hats = design[:, rings] ** 2 + design[:, 1 + count : -1] ** 2
    share = weight.flatten(1) @ hats
    reverse = (amplitude[:, rings] * share).sum(1) < 0
    angle = torch.where(reverse, angle + math.pi, angle) % (2 * math.pi)
    sign = torch.where(reverse, -1.0, 1.0).to(amplitude.dtype)

    total = used.sum(1).clamp_min(1e-30)
    systemic = amplitude[:, 0]
    mean_square = (used * velocity.square()).sum(1) / total
    variance = (used * (velocity - systemic[:, None]).square_()).sum(1) / total
    # Sum of squares of a ridge solution: its penalty is no residual.
    free_explained = (free * moment).sum(1) + model.ridge * (free**2).sum(1)
    shared_explained = explained + model.ridge * (amplitude**2).sum(1)
    tiny = 1e-6 * variance + 1e-30
    residual = (mean_square - shared_explained).maximum(tiny)
    residual_free = (mean_square - free_explained).maximum(tiny)
    scale = variance.sqrt().clamp_min(1e-6)
    return HarmonicFit(
        angle=angle,
        systemic=systemic * unit,
        scale=scale * unit,
        unexplained=(residual / variance.clamp_min(1e-30)).clamp(1e-6, 1),
        unexplained_free=(residual_free / variance.clamp_min(1e-30)).clamp(1e-6, 1),
        sharpness=curvature / residual,
        rings=amplitude[:, 1:] * (sign / scale)[:, None],
        weight=used,
    )


def _free_rings(velocity, weight, size, model):
    """Fit rings with an angle each to maps of shape (n, pixels).

    Returns
    -------
    velocity : `torch.Tensor`
        Shape (n, pixels), in units of ``unit``.
    used : `torch.Tensor`
        Shape (n, pixels): weights of the last round.
    gram, moment, free : `torch.Tensor`
        Shapes (n, pairs), (n, terms) and (n, terms): normal equations, their right
        side, and their solution.
    unit : `torch.Tensor`
        Shape (n,).
    """
    design, products, pairs = _design(size, model.n_rings)
    eye = model.ridge * torch.eye(design.shape[1], dtype=velocity.dtype)
    unit = _deviation(velocity, weight)
    velocity = velocity / unit[:, None]
    median = _FixedMedian(weight > 0)
    used, residual = weight.clone(), torch.empty_like(velocity)
    for _ in range(model.n_iterations):
        total = used.sum(1, keepdim=True).clamp_min(1e-30)
        gram = used @ products / total
        moment = torch.mul(used, velocity, out=residual) @ design / total
        free = torch.linalg.solve_ex(gram[:, pairs] + eye, moment).result
        torch.addmm(velocity, free, design.T, alpha=-1, out=residual)
        spread = (1.4826 * median.of(residual.square_()).sqrt_()).clamp_min_(1e-3)
        residual *= (model.robustness * spread).pow_(-2)[:, None]
        torch.div(weight, residual.add_(1), out=used)
    return velocity, used, gram, moment, free, unit


def _deviation(velocity, weight):
    """Root mean square of each map, never zero, to make the fit free of units."""
    square = (weight * velocity**2).sum(1) / weight.sum(1).clamp_min(1e-30)
    return square.sqrt().clamp_min(1e-6)
