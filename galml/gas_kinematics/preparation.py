# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From velocity maps of any size to what the network was trained on.

A map is cleared of absurd outliers, averaged over area onto a small grid around its
center, fitted with rings, and turned so that the receding side of the fit points up.
The network sees the turned map, told apart from its mask, and numbers about it.
"""

from dataclasses import dataclass

import torch

from galml.core.networks import overlap
from galml.gas_kinematics.harmonic import fit_harmonics, unit_grid

__all__ = ["CHANNELS", "SCALARS", "Prepared", "VelocityMaps", "prepare"]

SIZE = 32
LARGEST = 96
OUTLIER = 8.0
EDGE_TOLERANCE = 0.01

#: Planes of the image that the network sees.
CHANNELS = ("velocity", "coverage", "scatter", "edges", "dispersion")

#: Numbers that the network sees.
SCALARS = (
    "log_scale",
    "log_pixels",
    "log_independent",
    "has_beam",
    "log_beams_across",
    "has_uncertainty",
    "log_noise",
    "log_difference",
    "log_unexplained",
    "log_unexplained_free",
    "log_sharpness",
    "ring_1",
    "ring_2",
    "ring_3",
    "ring_4",
    "third_harmonic",
    "axis_ratio",
    "axis_alignment",
    "downweighted",
    "has_dispersion",
    "log_dispersion",
    "dispersion_gradient",
)


@dataclass
class VelocityMaps:
    """n maps of the same shape.

    Parameters
    ----------
    velocity : `torch.Tensor`
        Shape (n, ny, nx) in km/s, y up; NaN where nothing was measured.
    dispersion, uncertainty : `torch.Tensor`, optional
        Like ``velocity``: velocity dispersion, and 1 sigma error of the velocity; NaN
        or None where they are unknown.
    center : `torch.Tensor`, optional
        Shape (n, 2), x and y in pixels; NaN or None means the centroid of the mask.
    beam : `torch.Tensor`, optional
        Shape (n,), FWHM in pixels, NaN or None where unknown.
    """

    velocity: torch.Tensor
    dispersion: torch.Tensor = None
    uncertainty: torch.Tensor = None
    center: torch.Tensor = None
    beam: torch.Tensor = None


@dataclass
class Prepared:
    """What the network takes, and what leads back to the sky.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, len(CHANNELS), 32, 32), float32.
    scalars : `torch.Tensor`
        Shape (n, len(SCALARS)), float32.
    angle : `torch.Tensor`
        Shape (n,), degrees: how far the maps were turned; the classical position
        angle, counter-clockwise from +y.
    systemic, scale : `torch.Tensor`
        Shape (n,), km/s.
    center, radius : `torch.Tensor`
        Shapes (n, 2) and (n,): what the image covers, in pixels.
    n_pixels, n_outliers : `torch.Tensor`
        Shape (n,): pixels used, and pixels put aside as absurd.
    """

    image: torch.Tensor
    scalars: torch.Tensor
    angle: torch.Tensor
    systemic: torch.Tensor
    scale: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor
    n_pixels: torch.Tensor
    n_outliers: torch.Tensor


def prepare(maps):
    """Prepare maps of one shape.

    Parameters
    ----------
    maps : `VelocityMaps`
        The maps; they are not changed.

    Returns
    -------
    `Prepared`
        A map with fewer than three usable pixels gives finite nonsense and a small
        ``n_pixels``: the caller decides.
    """
    velocity = maps.velocity.double()
    seen = torch.isfinite(velocity)
    velocity, good, middle = _reject_outliers(velocity, seen)
    n_outliers = seen.sum((1, 2)) - good.sum((1, 2))
    center = _center(good, maps.center)
    radius = _radius(good, center)
    planes = _planes(velocity, good, maps)
    native = radius
    if max(velocity.shape[1:]) > LARGEST:
        planes, center, radius = _shrink(planes, center, radius)
    seen = planes[:, 0] > 0.25
    neighbors = list(_neighbors(planes, seen))
    edges = _edges(planes, neighbors)
    features = _statistics(planes, seen, neighbors, edges)
    grid = _regrid(_derived(planes, edges), center, radius, SIZE)
    cell = (2 * radius / SIZE) ** 2
    coverage = (grid[:, 0] / cell[:, None, None]).clamp(0, 1)
    coverage = torch.where(coverage > 0.15, coverage, 0.0)
    mean = grid[:, 1:] / grid[:, :1].clamp_min(1e-9)
    mean = torch.where(coverage[:, None] > 0, mean, 0.0)
    fit = fit_harmonics(mean[:, 0], coverage)
    image = _turned(mean, coverage, fit, maps.dispersion is not None)
    features |= _fit_features(fit, mean, coverage)
    across = (
        2 * native / maps.beam
        if maps.beam is not None
        else torch.full_like(radius, torch.nan)
    )
    features["has_beam"] = torch.isfinite(across).double()
    features["log_beams_across"] = across.clamp(1, 100).log10().nan_to_num(0.0)
    for name in ("log_noise", "log_difference", "log_dispersion"):
        value = features[name] - fit.scale.log10()
        features[name] = value.clamp(-3, 2).nan_to_num(0.0)
    scalars = torch.stack([features[name] for name in SCALARS], 1)
    return Prepared(
        # Rounded as training sets are stored: a map's bytes do not hang on its batch.
        image=image.half().float(),
        scalars=scalars.float(),
        angle=torch.rad2deg(fit.angle),
        systemic=fit.systemic + middle,
        scale=fit.scale,
        center=_center(good, maps.center),
        radius=native,
        n_pixels=good.sum((1, 2)),
        n_outliers=n_outliers,
    )


def _reject_outliers(velocity, seen):
    """Subtract the median and put absurd velocities aside."""
    median = torch.where(seen, velocity, torch.nan).flatten(1).nanmedian(1).values
    median = median.nan_to_num(0.0)[:, None, None]
    offset = torch.where(seen, velocity - median, 0.0)
    spread = torch.where(seen, offset.abs(), torch.nan).flatten(1).nanmedian(1).values
    limit = OUTLIER * 1.4826 * spread.nan_to_num(0.0)[:, None, None]
    good = seen & (offset.abs() <= torch.where(limit > 0, limit, torch.inf))
    return torch.where(good, offset, 0.0), good, median[:, 0, 0]


def _center(good, center):
    """Center given, or the centroid of the mask."""
    ny, nx = good.shape[1:]
    total = good.sum((1, 2)).clamp_min(1).double()
    x = (good.sum(1) * torch.arange(nx)).sum(1) / total
    y = (good.sum(2) * torch.arange(ny)).sum(1) / total
    centroid = torch.stack([x, y], 1)
    if center is None:
        return centroid
    return torch.where(torch.isfinite(center), center.double(), centroid)


def _radius(good, center):
    """Distance from the center that only two per cent of the pixels exceed."""
    ny, nx = good.shape[1:]
    y = torch.arange(ny) - center[:, 1:]
    x = torch.arange(nx) - center[:, :1]
    distance = torch.hypot(y[:, :, None], x[:, None, :])
    count = good.sum((1, 2))
    index = (0.02 * count).long()
    distance = torch.where(good, distance, -1.0).flatten(1)
    ordered = distance.topk(int(index.max()) + 1).values
    return ordered.gather(1, index[:, None])[:, 0].clamp_min(0.5) + 0.5


def _planes(velocity, good, maps):
    """Weight, velocity, its square, dispersion, variance and weights of the last two.

    All but the first are multiplied by their weight, so that averages are ratios of
    sums over area.
    """
    planes = [good.double(), velocity, velocity**2]
    for extra in (maps.dispersion, maps.uncertainty):
        value = torch.zeros_like(velocity) if extra is None else extra.double()
        known = good & torch.isfinite(value) & (value >= 0) & (extra is not None)
        planes += [known.double(), torch.where(known, value, 0.0)]
    return torch.stack(planes, 1)


def _regrid(planes, center, radius, cells):
    """Sum planes over the area of square cells around the center."""
    ny, nx = planes.shape[-2:]
    step = 2 * radius / cells
    rows = overlap(ny, center[:, 1] - radius, step, cells)
    columns = overlap(nx, center[:, 0] - radius, step, cells)
    return rows[:, None] @ planes @ columns.transpose(1, 2)[:, None]


def _shrink(planes, center, radius):
    """Average large maps onto the largest grid that the network was trained with."""
    cell = (2 * radius / LARGEST).clamp_min(1.0)
    reach = cell * LARGEST / 2
    planes = _regrid(planes, center, reach, LARGEST) / (cell**2)[:, None, None, None]
    middle = torch.full_like(center, (LARGEST - 1) / 2)
    return planes, middle, radius / cell


def _derived(planes, edges):
    """Planes to average: weight, velocity, its square, edges, dispersion."""
    weight = planes[:, :1]
    dispersion = planes[:, 4:5] / planes[:, 3:4].clamp_min(1e-9) * weight
    return torch.cat([planes[:, :3], edges[:, None] * weight, dispersion], 1)


def _neighbors(planes, good):
    """Differences of velocity between neighbors, where both are known and differ.

    For each axis: where the first and the second neighbors are, whether both are
    known, whether they differ by more than what makes them one measurement (a bin or a
    plateau), and the differences.
    """
    velocity = planes[:, 1] / planes[:, 0].clamp_min(1e-9)
    typical = torch.where(good, velocity.abs(), torch.nan).flatten(1)
    typical = typical.nanmedian(1).values.nan_to_num(0.0)[:, None, None]
    tolerance = EDGE_TOLERANCE * 3 * typical
    for axis in (1, 2):
        before = (slice(None),) * axis
        first, second = before + (slice(0, -1),), before + (slice(1, None),)
        both = good[first] & good[second]
        difference = (velocity[second] - velocity[first]).abs()
        yield first, second, both, both & (difference > tolerance), difference


def _edges(planes, neighbors):
    """Share of a pixel's neighbors that differ from it: 1 where none were binned."""
    differ = torch.zeros_like(planes[:, 0])
    known = torch.zeros_like(differ)
    for first, second, both, step, _ in neighbors:
        for end in (first, second):
            known[end] += both
            differ[end] += step
    return torch.where(known > 0, differ / known.clamp_min(1), 1.0)


def _statistics(planes, good, neighbors, edges):
    """Numbers about a map on its own pixels."""
    steps = [
        torch.where(step, difference, torch.nan).flatten(1)
        for *_, step, difference in neighbors
    ]
    difference = torch.cat(steps, 1).nanmedian(1).values
    independent = torch.where(good, edges**2, 0.0).sum((1, 2))
    noise = planes[:, 6] / planes[:, 5].clamp_min(1e-9)
    noise = torch.where(planes[:, 5] > 0.1, noise, torch.nan).flatten(1)
    noise = noise.nanmedian(1).values
    return {
        "log_pixels": good.sum((1, 2)).clamp_min(1).log10().double(),
        "log_independent": independent.clamp_min(1).log10(),
        "has_uncertainty": torch.isfinite(noise).double(),
        "log_noise": noise.clamp_min(1e-3).log10(),
        "log_difference": difference.clamp_min(1e-3).log10(),
    }


def _fit_features(fit, mean, coverage):
    """Numbers about the ring fit, the shape of the mask and the dispersion map."""
    total = coverage.sum((1, 2)).clamp_min(1e-9)

    def average(value):
        return (value * coverage).sum((1, 2)) / total

    x, y = unit_grid(coverage.shape[-1])
    x0, y0 = average(x), average(y)
    xx, yy, xy = (
        average(x * x) - x0**2,
        average(y * y) - y0**2,
        average(x * y) - x0 * y0,
    )
    major = (xx + yy) / 2 + torch.hypot((xx - yy) / 2, xy)
    minor = ((xx + yy) / 2 - torch.hypot((xx - yy) / 2, xy)).clamp_min(0)
    long_axis = 0.5 * torch.atan2(-2 * xy, yy - xx)
    known = (mean[:, 3] > 0) & (coverage > 0)
    sigma = torch.where(known, mean[:, 3], torch.nan).flatten(1).nanmedian(1).values
    inner = known & (torch.hypot(x, y) < 0.5)
    core = torch.where(inner, mean[:, 3], torch.nan).flatten(1).nanmedian(1).values
    weight = coverage.flatten(1)
    kept = fit.weight.sum(1) / weight.sum(1).clamp_min(1e-9)
    ratio = (core / sigma).clamp(0.05, 20).log10()
    features = {
        "log_scale": fit.scale.clamp_min(1e-2).log10(),
        "log_unexplained": fit.unexplained.log10(),
        "log_unexplained_free": fit.unexplained_free.log10(),
        "log_sharpness": fit.sharpness.clamp(1e-2, 1e6).log10(),
        "axis_ratio": (minor / major.clamp_min(1e-9)).sqrt(),
        "axis_alignment": torch.cos(2 * (long_axis - fit.angle))
        * (major - minor)
        / (major + minor).clamp_min(1e-9),
        "downweighted": (1 - kept).clamp(0, 1),
        "has_dispersion": torch.isfinite(sigma).double(),
        "log_dispersion": sigma.clamp_min(1e-3).log10(),
        "dispersion_gradient": ratio.nan_to_num(0.0),
    }
    names = ("ring_1", "ring_2", "ring_3", "ring_4", "third_harmonic")
    rings = fit.rings.clamp(-4, 4)
    return features | {name: rings[:, i] for i, name in enumerate(names)}


def _turned(mean, coverage, fit, has_dispersion):
    """Turn the averaged map so that the receding side of the fit points up."""
    x, y = unit_grid(SIZE)
    cosine, sine = fit.angle.cos()[:, None, None], fit.angle.sin()[:, None, None]
    places = torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
    planes = torch.cat([coverage[:, None], mean * coverage[:, None]], 1)
    planes = torch.nn.functional.grid_sample(
        planes, places, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    cover = planes[:, :1]
    value = planes[:, 1:] / cover.clamp_min(1e-9)
    shift, unit = fit.systemic[:, None, None], fit.scale[:, None, None]
    scatter = (value[:, 1] - value[:, 0] ** 2).clamp_min(0).sqrt() / unit
    velocity = (value[:, 0] - shift) / unit
    dispersion = (value[:, 3] / unit).clamp(0, 6) / 2
    image = torch.stack(
        [
            velocity.clamp(-4, 4),
            cover[:, 0],
            scatter.clamp(0, 3),
            value[:, 2],
            dispersion,
        ],
        1,
    )
    shown = cover > 0.15
    image = torch.where(shown, image, 0.0)
    image[:, 1:2] = cover
    if not has_dispersion:
        image[:, 4] = 0.0
    return image
