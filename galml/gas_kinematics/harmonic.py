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

import torch

__all__ = ["HarmonicFit", "fit_harmonics", "unit_grid"]

N_RINGS = 4
N_ANGLES = 36
N_ITERATIONS = 5
RIDGE = 1e-3
ROBUSTNESS = 8.0


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
        Shape (n, N_RINGS + 1): amplitudes on the rings, and of the third harmonic, in
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
def _design(size):
    """Design matrix (pixels, terms) and the products of its columns."""
    x, y = (axis.reshape(-1) for axis in unit_grid(size))
    radius = torch.hypot(x, y)
    cosine, sine = y / radius, -x / radius
    nodes = torch.arange(1, N_RINGS + 1) / N_RINGS
    hats = (1 - N_RINGS * (radius[:, None] - nodes).abs()).clamp_min(0)
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
    return design, (design[:, :, None] * design[:, None, :]).flatten(1)


def _shared(angle):
    """Map amplitudes along one angle (..., 2 + N_RINGS) to all terms."""
    count = N_RINGS + 1
    factor = torch.ones(count, dtype=angle.dtype)
    factor[-1] = 3
    turned = angle[..., None] * factor
    matrix = torch.zeros(*angle.shape, 1 + 2 * count, 1 + count, dtype=angle.dtype)
    index = torch.arange(count)
    matrix[..., 0, 0] = 1
    matrix[..., 1 + index, 1 + index] = turned.cos()
    matrix[..., 1 + count + index, 1 + index] = turned.sin()
    return matrix


def _profile(gram, moment, angle):
    """Variance explained at each angle (n, t), and the amplitudes (n, t, terms)."""
    shared = _shared(angle)
    projected = shared.transpose(-1, -2) @ gram[:, None] @ shared
    target = (shared.transpose(-1, -2) @ moment[:, None, :, None]).squeeze(-1)
    eye = torch.eye(target.shape[-1], dtype=gram.dtype)
    amplitude = torch.linalg.solve(projected + RIDGE * eye, target)
    return (amplitude * target).sum(-1), amplitude


def _maximize(gram, moment):
    """Find the shared angle of highest likelihood, and its curvature."""
    start = torch.arange(N_ANGLES, dtype=gram.dtype) * math.pi / N_ANGLES
    explained, _ = _profile(gram, moment, start.expand(len(gram), -1))
    angle, step = start[explained.argmax(1)], math.pi / N_ANGLES
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=gram.dtype)
    for _ in range(4):
        explained, _ = _profile(gram, moment, angle[:, None] + step * offsets)
        low, middle, high = explained.unbind(1)
        bend = (2 * middle - low - high).clamp_min(1e-30)
        angle = angle + (0.5 * step) * ((high - low) / bend).clamp(-2, 2)
        curvature = bend / step**2
        step = step / 4
    return angle, curvature


def fit_harmonics(velocity, weight):
    """Fit rings with a shared position angle, robustly.

    Parameters
    ----------
    velocity : `torch.Tensor`
        Shape (n, size, size), float64; finite everywhere.
    weight : `torch.Tensor`
        Shape (n, size, size), float64: zero where nothing was measured.

    Returns
    -------
    `HarmonicFit`
        All of it equivariant under flips and turns of the image.
    """
    design, products = _design(velocity.shape[-1])
    velocity, first = velocity.flatten(1), weight.flatten(1)
    used = first
    terms = design.shape[1]
    eye = RIDGE * torch.eye(terms, dtype=velocity.dtype)
    unit = _deviation(velocity, first)
    velocity = velocity / unit[:, None]
    seen = first > 0
    for _ in range(N_ITERATIONS):
        total = used.sum(1).clamp_min(1e-30)
        gram = (used @ products).unflatten(1, (terms, terms)) / total[:, None, None]
        moment = (used * velocity) @ design / total[:, None]
        free = torch.linalg.solve(gram + eye, moment)
        residual = velocity - free @ design.T
        spread = torch.where(seen, residual.abs(), torch.nan).nanmedian(1).values
        spread = 1.4826 * spread.nan_to_num(0.0).clamp_min(1e-3)
        used = first / (1 + (residual / (ROBUSTNESS * spread[:, None])) ** 2)
    angle, curvature = _maximize(gram, moment)
    explained, amplitude = _profile(gram, moment, angle[:, None])
    amplitude = amplitude[:, 0]
    # Both ends of the axis fit alike: the receding one has the positive amplitudes.
    count = N_RINGS + 1
    hats = design[:, 1 : 1 + N_RINGS] ** 2 + design[:, 1 + count : -1] ** 2
    share = first @ hats
    reverse = (amplitude[:, 1 : 1 + N_RINGS] * share).sum(1) < 0
    angle = torch.where(reverse, angle + math.pi, angle) % (2 * math.pi)
    sign = torch.where(reverse, -1.0, 1.0).to(amplitude.dtype)

    total = used.sum(1).clamp_min(1e-30)
    systemic = amplitude[:, 0]
    variance = (used * (velocity - systemic[:, None]) ** 2).sum(1) / total
    mean_square = (used * velocity**2).sum(1) / total
    # Sum of squares of a ridge solution: its penalty is no residual.
    free_explained = (free * moment).sum(1) + RIDGE * (free**2).sum(1)
    shared_explained = explained[:, 0] + RIDGE * (amplitude**2).sum(1)
    tiny = 1e-6 * variance + 1e-30
    left = (mean_square - shared_explained).maximum(tiny)
    left_free = (mean_square - free_explained).maximum(tiny)
    scale = variance.sqrt().clamp_min(1e-6)
    return HarmonicFit(
        angle=angle,
        systemic=systemic * unit,
        scale=scale * unit,
        unexplained=(left / variance.clamp_min(1e-30)).clamp(1e-6, 1),
        unexplained_free=(left_free / variance.clamp_min(1e-30)).clamp(1e-6, 1),
        sharpness=curvature / left,
        rings=amplitude[:, 1:] * (sign / scale)[:, None],
        weight=used,
    )


def _deviation(velocity, weight):
    """Root mean square of each map, never zero, to make the fit free of units."""
    square = (weight * velocity**2).sum(1) / weight.sum(1).clamp_min(1e-30)
    return square.sqrt().clamp_min(1e-6)
