# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From velocity maps of any size to what the network was trained on.

A map is cleared of absurd outliers, averaged over area onto a small grid around its
center, fitted with rings, and turned so that the receding side of the fit points up.
The network sees the turned map beside its mask, and numbers about it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from galml.core.model import InputSpec
from galml.core.networks import overlap
from galml.core.running import in_threads, shared_threads
from galml.gas_kinematics.harmonic import (
    RingModel,
    fit_harmonics,
    masked_median,
    unit_grid,
)
from galml.gas_kinematics.velocities import VelocityMaps

__all__ = ["INPUT", "PreparedMaps", "prepare"]

#: What a new network is shown; a trained one has its own in its card.
INPUT = InputSpec(
    grid=(32, 32),
    channels=("velocity", "coverage", "scatter", "edges", "dispersion"),
    half_width=1.0,
    width_unit="map",
    scalars=(
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
        "is_stars",
    ),
    stretch={
        # Limits in units of the velocity scale; the dispersion's own unit in it.
        "velocity_limit": 4.0,
        "scatter_limit": 3.0,
        "dispersion_limit": 6.0,
        "dispersion_unit": 2.0,
    },
    parameters={
        # Fewest pixels of a map that is measured at all.
        "fewest_pixels": 6,
        # Largest distance from the median, in standard deviations of a normal law.
        "outlier_limit": 8.0,
        # The same from the median of the neighbors, of pixels of the core, and least
        # deviation there as a share of the median speed.
        "core_limit": 10.0,
        "core_scatter": 0.1,
        # Share of the pixels that may lie beyond the radius; least radius; its margin.
        "radius_share": 0.02,
        "smallest_radius": 0.5,
        "radius_margin": 0.5,
        # Larger maps are averaged onto so many pixels first.
        "largest_grid": 96,
        # Least covered share of a pixel, and of a cell, that counts.
        "pixel_coverage": 0.25,
        "cell_coverage": 0.15,
        # Neighbors differ by more than this share of the median speed, or are one.
        "edge_tolerance": 0.03,
        # Radius of the core, in half-widths of the image.
        "core_radius": 0.5,
        # Limits of numbers about the map.
        "least_velocity": 1e-3,
        "least_scale": 1e-2,
        "lowest_log_ratio": -3.0,
        "highest_log_ratio": 2.0,
        "most_beams": 100.0,
        "ring_limit": 4.0,
        "least_sharpness": 1e-2,
        "most_sharpness": 1e6,
        "gradient_limit": 20.0,
        # The ring fit.
        "n_rings": 4,
        "n_angles": 36,
        "n_iterations": 5,
        "ridge": 1e-3,
        "robustness": 8.0,
    },
)

#: Pixels that are worked on at once: more of them leave the processor's cache.
PIXELS = 131_072
#: The same for products of matrices, which come back to what they have read.
CACHED = 32_768
#: Radius of the core in pixels; pixels on each side of one that are its neighbors.
CORE, NEIGHBORS = 4, 2
#: Averaged maps that are turned at once, and fewest that a thread works on.
ROWS = 32
FEWEST_ROWS = 64
#: Windows around what was measured have sides of multiples of this.
WINDOW_STEP = 8


@dataclass
class PreparedMaps:
    """What the network takes, and what leads back to the sky.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, channels, ny, nx), float32.
    scalars : `torch.Tensor`
        Shape (n, scalars), float32.
    angle : `torch.Tensor`
        Shape (n,), degrees: how far the maps were turned; the classical position
        angle, counter-clockwise from +y.
    systemic, scale : `torch.Tensor`
        Shape (n,), km/s.
    center, radius : `torch.Tensor`
        Shapes (n, 2) and (n,): what the image covers, in pixels.
    n_pixels, n_outliers : `torch.Tensor`
        Shape (n,): pixels used, and pixels put aside as absurd.
    at_edge : `torch.Tensor`
        Shape (n,): share of the border of the array where something was measured.
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
    at_edge: torch.Tensor

    @property
    def inputs(self):
        """What the network takes."""
        return {"image": self.image, "scalars": self.scalars}


def prepare(parts, spec=INPUT):
    """Prepare maps of one shape.

    Parameters
    ----------
    parts : sequence of `~galml.gas_kinematics.velocities.VelocityMaps`
        The maps; they are not changed.
    spec : `~galml.core.model.InputSpec`
        What the network is shown.

    Returns
    -------
    `PreparedMaps`
        Rows in order. A map with fewer than three usable pixels gives finite nonsense
        and a small ``n_pixels``: the caller decides.
    """
    with shared_threads(None) as threads:
        return _prepare(VelocityMaps.joined(parts), spec, threads)


def _prepare(maps, spec, threads):
    """Prepare maps in several threads."""
    n, has_dispersion = len(maps), maps.dispersion is not None
    windows = list(_windows(maps.values))
    planes = 5 if has_dispersion else 4
    # Taking large arrays anew costs more than the work on them.
    sums = torch.empty(n, spec.grid[0], planes, spec.grid[1], dtype=torch.float64)

    def average(window):
        numbers = _average(maps, window, spec)
        sums[window.rows] = numbers.pop("sums")
        return numbers

    found = in_threads(average, windows, threads)
    order = torch.tensor([row for w in windows for row in w.rows]).argsort()
    joined = {key: torch.cat([f[key] for f in found])[order] for key in found[0]}
    joined["sums"] = sums
    share = max(FEWEST_ROWS, -(-n // threads))
    pieces = [
        {key: value[start : start + share] for key, value in joined.items()}
        for start in range(0, n, share)
    ]
    prepared = in_threads(
        lambda piece: _fit_and_turn(piece, spec, has_dispersion), pieces, threads
    )
    if len(prepared) == 1:
        return prepared[0]
    columns = [vars(piece) for piece in prepared]
    return PreparedMaps(**{k: torch.cat([c[k] for c in columns]) for k in columns[0]})


@dataclass
class _Window:
    """Where to look at maps: a part of each, of one size, that holds all that is known.

    Attributes
    ----------
    rows : list of int
        The maps.
    low : `torch.Tensor`
        Shape (n, 2): pixel (x, y) of the maps where their windows begin.
    shape : tuple of int
        Shape of a window.
    at_edge : `torch.Tensor`
        Shape (n,): share of the border of the map where something was measured.
    """

    rows: list
    low: torch.Tensor
    shape: tuple
    at_edge: torch.Tensor

    def of(self, images):
        """Cut images (n, ny, nx) out, in double precision."""
        result = torch.empty(len(self.rows), *self.shape, dtype=torch.float64)
        ny, nx = self.shape
        array = result.numpy()
        for place, (row, (x, y)) in enumerate(
            zip(self.rows, self.low.tolist(), strict=True)
        ):
            array[place] = images[row, y : y + ny, x : x + nx]
        return result


def _windows(values):
    """Sort maps by the size of the window that they need.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, ny, nx).

    Yields
    ------
    `_Window`
        What to look at, of a few of the maps.
    """
    measured = np.isfinite(values)
    at_edge = torch.from_numpy(_at_edge(measured))
    shape = np.array(values.shape[:0:-1])
    low, size = np.empty((2, len(values), 2), dtype=int)
    for axis in (0, 1):
        seen = measured.any(axis=1 + axis)
        low[:, axis] = seen.argmax(1)
        size[:, axis] = seen.shape[1] - seen[:, ::-1].argmax(1) - low[:, axis]
    # Few sizes, so that many maps share one.
    size = -(-size.max(1) // WINDOW_STEP) * WINDOW_STEP
    low = np.minimum(low, np.maximum(shape - size[:, None], 0))
    order = np.argsort(size, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(size[order])) + 1):
        nx, ny = np.minimum(shape, size[group[0]]).tolist()
        step = max(1, PIXELS // (ny * nx))
        for start in range(0, len(group), step):
            rows = group[start : start + step]
            corner = torch.from_numpy(low[rows])
            yield _Window(rows.tolist(), corner, (ny, nx), at_edge[rows])


def _at_edge(measured):
    """Share of the border where something was measured."""
    sides = [measured[:, 0], measured[:, -1], measured[:, 1:-1, 0]]
    return np.concatenate([*sides, measured[:, 1:-1, -1]], axis=1).mean(axis=1)


def _average(maps, window, spec):
    """Average maps onto the grid, and measure them on their own pixels.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``sums`` (n, cells, planes, cells) over the area of the grid's cells: of the
        weight, the velocity, its square, the edges and perhaps the dispersion, each
        times the weight; and numbers of shape (n,).
    """
    p, rows = spec.parameters, window.rows
    velocity = window.of(maps.values)
    measured = torch.isfinite(velocity)
    velocity, kept, median, speed = _reject_outliers(velocity, measured, p)
    center = _center(kept, torch.from_numpy(maps.center[rows]) - window.low)
    if "core_limit" in p:
        # A model that was trained without rejects nothing there.
        _reject_core(velocity, kept, center, speed, p)
    n_pixels = kept.sum((1, 2))
    radius = native = _radius(kept, center, n_pixels, p)
    extras = []
    for values in (maps.dispersion, maps.std):
        if values is None:
            extras.append((None, None))
            continue
        values = window.of(values)
        known = kept & torch.isfinite(values) & (values >= 0)
        extras.append((known, torch.where(known, values, 0.0)))
    (known, dispersion), (has_noise, noise) = extras
    result = {
        "median": median,
        "n_pixels": n_pixels,
        "n_outliers": measured.sum((1, 2)) - n_pixels,
        "at_edge": window.at_edge,
        "center": center + window.low,
        "radius": native,
        "beam": torch.from_numpy(maps.beam[rows]),
        "is_stars": torch.from_numpy(maps.stars[rows]).double(),
    }
    if max(maps.values.shape[1:]) > p["largest_grid"]:
        planes = [kept.double(), velocity, velocity.square()]
        planes += [x.double() for pair in extras for x in pair if x is not None]
        planes, center, radius = _shrink(planes, center, radius, int(p["largest_grid"]))
        weight, velocity, square, *planes = planes
        kept = weight > p["pixel_coverage"]
        pixel_velocity = velocity / weight.clamp_min(1e-9)
        speed = masked_median(pixel_velocity.abs(), kept).nan_to_num_(0.0)
        if dispersion is not None:
            share, total, *planes = planes
            dispersion = total / share.clamp_min(1e-9) * weight
        if noise is not None:
            share, total = planes
            has_noise, noise = share > 0.1, total / share.clamp_min(1e-9)
    else:
        weight, pixel_velocity, square = kept.double(), velocity, velocity.square()
    neighbors = _neighbors(pixel_velocity, kept, p["edge_tolerance"] * speed)
    edges = _edges(kept, neighbors)
    independent = edges.square().mul_(kept).sum((1, 2))
    unknown = torch.full((len(edges),), torch.nan, dtype=torch.float64)
    result |= {
        "log_pixels": kept.sum((1, 2)).clamp_min(1).log10().double(),
        "log_independent": independent.clamp_min(1).log10(),
        "noise": unknown if noise is None else masked_median(noise, has_noise),
        "difference": _median_difference(neighbors),
    }
    planes = [weight, velocity, square, edges.mul_(weight)]
    if dispersion is not None:
        planes.append(dispersion)
    result["reach"] = spec.half_width * radius
    result["sums"] = _regrid(planes, center, result["reach"], spec.grid[0])
    return result


def _reject_outliers(velocity, measured, p):
    """Subtract the median, and put absurd velocities aside.

    Returns
    -------
    velocity, kept : `torch.Tensor`
        Velocities, zero where none is kept, and where one is.
    median, speed : `torch.Tensor`
        Shape (n,): median velocity, and median distance from it of what is kept.
    """
    # Single precision tells the median well enough: it is only subtracted.
    single = velocity.float()
    median = masked_median(single, measured).nan_to_num_(0.0).double()
    offset = velocity - median[:, None, None]
    size = torch.abs(offset).float()
    spread = masked_median(size, measured).nan_to_num_(0.0).double()
    limit = p["outlier_limit"] * 1.4826 * spread
    limit = torch.where(limit > 0, limit, torch.inf)
    kept = (size <= limit[:, None, None]) & measured
    speed = spread
    changed = (kept != measured).flatten(1).any(1)
    if changed.any():
        speed = spread.clone()
        again = masked_median(size[changed], kept[changed])
        speed[changed] = again.nan_to_num_(0.0).double()
    return offset.masked_fill_(~kept, 0.0), kept, median, speed


def _reject_core(velocity, kept, center, speed, p):
    """Put pixels of the core aside, in place, that their neighbors know nothing of.

    Broken spaxels of a bright nucleus may be fast, but not absurd: in rings that few
    pixels fill, they weigh much. Medians follow the steepest rise of a rotation curve.
    """
    ny, nx = kept.shape[1:]
    reach = CORE + NEIGHBORS
    steps = torch.arange(-reach, reach + 2)
    x, y = (center.floor().long()[:, :, None] + steps).unbind(1)
    x, y = x[:, None, :], y[:, :, None]
    distance = torch.hypot(x - center[:, :1, None], y - center[:, 1:, None])
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    rows = torch.arange(len(kept))[:, None, None]
    x, y = x.clamp(0, nx - 1), y.clamp(0, ny - 1)
    known = kept[rows, y, x] & inside
    part = torch.where(known, velocity[rows, y, x].float(), torch.nan)
    width = 2 * NEIGHBORS + 1
    around = part.unfold(1, width, 1).unfold(2, width, 1).flatten(3)
    core = slice(NEIGHBORS, -NEIGHBORS)
    offset = (part[:, core, core] - around.nanmedian(3).values).abs()
    offset[distance[:, core, core] > CORE] = torch.nan
    scatter = 1.4826 * offset.flatten(1).nanmedian(1).values
    scatter = scatter.maximum(p["core_scatter"] * speed.float())
    broken = offset > p["core_limit"] * scatter[:, None, None]
    row, j, i = broken.nonzero(as_tuple=True)
    place = row, y[row, j + NEIGHBORS, 0], x[row, 0, i + NEIGHBORS]
    kept[place] = False
    velocity[place] = 0.0


def _center(kept, center):
    """Center given, or the centroid of the mask."""
    ny, nx = kept.shape[1:]
    columns, rows = kept.sum(1), kept.sum(2)
    total = rows.sum(1).clamp_min(1).double()
    x = (columns * torch.arange(nx)).sum(1) / total
    y = (rows * torch.arange(ny)).sum(1) / total
    return torch.where(torch.isfinite(center), center, torch.stack([x, y], 1))


def _radius(kept, center, count, p):
    """Distance from the center that only a small share of the pixels exceeds."""
    ny, nx = kept.shape[1:]
    y = torch.arange(ny) - center[:, 1:]
    x = torch.arange(nx) - center[:, :1]
    square = (y * y)[:, :, None] + (x * x)[:, None, :]
    beyond = (p["radius_share"] * count).long()
    square = torch.where(kept, square, -1.0).flatten(1)
    farthest = square.topk(int(beyond.max()) + 1).values
    square = farthest.gather(1, beyond[:, None])[:, 0]
    return (
        square.clamp_min(0).sqrt().clamp_min(p["smallest_radius"]) + p["radius_margin"]
    )


def _regrid(planes, center, radius, cells):
    """Sum planes over the area of square cells around the center.

    Parameters
    ----------
    planes : sequence of `torch.Tensor`
        Shape (n, ny, nx) each.
    center, radius : `torch.Tensor`
        Shapes (n, 2) and (n,), in pixels.
    cells : int
        Cells along a side.

    Returns
    -------
    `torch.Tensor`
        Shape (n, cells, planes, cells).
    """
    n, ny, nx = planes[0].shape
    step = 2 * radius / cells
    rows = overlap(ny, center[:, 1] - radius, step, cells)
    columns = overlap(nx, center[:, 0] - radius, step, cells)
    columns = columns.transpose(1, 2).contiguous().numpy()
    sums = np.empty((n, cells * len(planes), cells))
    # Few wide products of matrices are faster than many small ones, as long as they
    # stay in the processor's cache; NumPy's are faster than torch's.
    step = max(1, CACHED // (ny * nx))
    for part in (slice(start, start + step) for start in range(0, n, step)):
        stack = torch.stack([plane[part] for plane in planes], 2).flatten(2)
        half = np.matmul(rows[part].numpy(), stack.numpy())
        np.matmul(half.reshape(len(half), -1, nx), columns[part], out=sums[part])
    return torch.from_numpy(sums).view(n, cells, len(planes), cells)


def _shrink(planes, center, radius, size):
    """Average large maps onto the largest grid that the network was trained with."""
    cell = (2 * radius / size).clamp_min(1.0)
    sums = _regrid(planes, center, cell * size / 2, size)
    planes = (sums / (cell**2)[:, None, None, None]).unbind(2)
    return list(planes), torch.full_like(center, (size - 1) / 2), radius / cell


def _neighbors(velocity, kept, tolerance):
    """Compare neighbors along both axes.

    Returns
    -------
    list of tuple
        For each axis: where the first and the second neighbors are, whether both are
        known, whether they differ by more than what makes them one measurement (a bin
        or a plateau), and by how much.
    """
    tolerance = tolerance[:, None, None]
    found = []
    for axis in (1, 2):
        before = (slice(None),) * axis
        first, second = before + (slice(0, -1),), before + (slice(1, None),)
        both = kept[first] & kept[second]
        difference = (velocity[second] - velocity[first]).abs_()
        differ = (difference > tolerance) & both
        found.append((first, second, both, differ, difference))
    return found


def _edges(kept, neighbors):
    """Share of a pixel's neighbors that differ from it: 1 where none were binned."""
    known = torch.zeros(kept.shape, dtype=torch.uint8)
    differ = torch.zeros_like(known)
    for first, second, both, step, _ in neighbors:
        for end in (first, second):
            known[end] += both
            differ[end] += step
    # Without neighbors nothing was binned, either.
    differ += known == 0
    return differ.double().div_(known.clamp_min_(1))


def _median_difference(neighbors):
    """Median difference of neighbors that differ."""
    differences = torch.cat([part[4].flatten(1).float() for part in neighbors], 1)
    differ = torch.cat([part[3].flatten(1) for part in neighbors], 1)
    return masked_median(differences, differ).double()


def _fit_and_turn(joined, spec, has_dispersion):
    """Fit rings to averaged maps, turn them, and collect the numbers about them."""
    p, cells = spec.parameters, spec.grid[0]
    weight, *sums = joined["sums"].unbind(2)
    cell = (2 * joined["reach"] / cells) ** 2
    coverage = (weight / cell[:, None, None]).clamp(0, 1)
    coverage = torch.where(coverage > p["cell_coverage"], coverage, 0.0)
    inverse = torch.where(coverage > 0, 1 / weight.clamp_min(1e-9), 0.0)
    velocity = sums[0] * inverse
    names = ("n_rings", "n_angles", "n_iterations", "ridge", "robustness")
    fit = fit_harmonics(velocity, coverage, RingModel(**{k: p[k] for k in names}))
    numbers = _mask_numbers(fit, coverage) | _ring_numbers(fit, coverage, p)
    dispersion = sums[3] * inverse if has_dispersion else None
    numbers |= _dispersion_numbers(dispersion, coverage, p)
    numbers |= {k: joined[k] for k in ("log_pixels", "log_independent", "is_stars")}
    across = (2 * joined["radius"] / joined["beam"]).clamp(1, p["most_beams"])
    numbers["has_beam"] = torch.isfinite(across).double()
    numbers["log_beams_across"] = across.log10().nan_to_num(0.0)
    numbers["has_uncertainty"] = torch.isfinite(joined["noise"]).double()
    velocities = {key: joined[key] for key in ("noise", "difference")}
    velocities["dispersion"] = numbers.pop("dispersion")
    for name, value in velocities.items():
        ratio = value.clamp_min(p["least_velocity"]).log10() - fit.scale.log10()
        ratio = ratio.clamp(p["lowest_log_ratio"], p["highest_log_ratio"])
        numbers[f"log_{name}"] = ratio.nan_to_num(0.0)
    # What the network sees is averaged once more, so that what is covered weighs more.
    parts = coverage, inverse.mul_(coverage), joined["sums"][:, :, 1:]
    parts += fit.angle, fit.systemic, fit.scale
    pieces = zip(*(part.split(ROWS) for part in parts), strict=True)
    images = [_turned(*piece, spec) for piece in pieces]
    return PreparedMaps(
        image=torch.cat(images),
        scalars=torch.stack([numbers[name] for name in spec.scalars], 1).float(),
        angle=torch.rad2deg(fit.angle),
        systemic=fit.systemic + joined["median"],
        scale=fit.scale,
        center=joined["center"],
        radius=joined["radius"],
        n_pixels=joined["n_pixels"],
        n_outliers=joined["n_outliers"],
        at_edge=joined["at_edge"],
    )


def _mask_numbers(fit, coverage):
    """Axis ratio of the mask, and how far its long axis lies along the fitted one."""
    x, y = unit_grid(coverage.shape[-1])
    total = coverage.sum((1, 2)).clamp_min(1e-9)
    terms = torch.stack([x, y, x * x, y * y, x * y]).flatten(1)
    x0, y0, xx, yy, xy = (coverage.flatten(1) @ terms.T / total[:, None]).unbind(1)
    xx, yy, xy = xx - x0**2, yy - y0**2, xy - x0 * y0
    major = (xx + yy) / 2 + torch.hypot((xx - yy) / 2, xy)
    minor = ((xx + yy) / 2 - torch.hypot((xx - yy) / 2, xy)).clamp_min(0)
    long_axis = 0.5 * torch.atan2(-2 * xy, yy - xx)
    return {
        "axis_ratio": (minor / major.clamp_min(1e-9)).sqrt(),
        "axis_alignment": torch.cos(2 * (long_axis - fit.angle))
        * (major - minor)
        / (major + minor).clamp_min(1e-9),
    }


def _ring_numbers(fit, coverage, p):
    """Numbers about the ring fit."""
    kept = fit.weight.sum(1) / coverage.sum((1, 2)).clamp_min(1e-9)
    sharpness = fit.sharpness.clamp(p["least_sharpness"], p["most_sharpness"])
    numbers = {
        "log_scale": fit.scale.clamp_min(p["least_scale"]).log10(),
        "log_unexplained": fit.unexplained.log10(),
        "log_unexplained_free": fit.unexplained_free.log10(),
        "log_sharpness": sharpness.log10(),
        "downweighted": (1 - kept).clamp(0, 1),
    }
    *rings, third = fit.rings.clamp(-p["ring_limit"], p["ring_limit"]).unbind(1)
    numbers |= {f"ring_{i}": ring for i, ring in enumerate(rings, start=1)}
    return numbers | {"third_harmonic": third}


def _dispersion_numbers(dispersion, coverage, p):
    """Numbers about the dispersion map; ``dispersion`` is its median, in km/s."""
    n = len(coverage)
    if dispersion is None:
        median = gradient = torch.full((n,), torch.nan, dtype=torch.float64)
    else:
        known = (dispersion > 0) & (coverage > 0)
        x, y = unit_grid(coverage.shape[-1])
        core = known & (torch.hypot(x, y) < p["core_radius"])
        median = masked_median(dispersion, known)
        gradient = masked_median(dispersion, core) / median
    limit = p["gradient_limit"]
    return {
        "has_dispersion": torch.isfinite(median).double(),
        "dispersion": median,
        "dispersion_gradient": gradient.clamp(1 / limit, limit).log10().nan_to_num(0.0),
    }


def _turned(coverage, factor, sums, angle, systemic, scale, spec):
    """Turn averaged maps so that the receding side of the fit points up.

    The factor makes averages times the coverage of the sums (n, cells, planes, cells).
    """
    limits, p = spec.stretch, spec.parameters
    x, y = unit_grid(spec.grid[0])
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    places = torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
    planes = torch.cat([coverage[:, :, None], sums * factor[:, :, None]], 2)
    planes = torch.nn.functional.grid_sample(
        planes.transpose(1, 2).contiguous(),
        places,
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    coverage = planes[:, 0]
    shown = coverage > p["cell_coverage"]
    inverse = torch.where(shown, 1 / coverage.clamp_min(1e-9), 0.0)
    velocity, square, edges, *rest = (planes[:, 1:] * inverse[:, None]).unbind(1)
    shift, scale = systemic[:, None, None], scale[:, None, None]
    scatter = (square - velocity.square()).clamp_min(0).sqrt() / scale
    limit = limits["velocity_limit"]
    velocity = ((velocity - shift) / scale).clamp(-limit, limit)
    shown_planes = {
        "velocity": torch.where(shown, velocity, 0.0),
        "coverage": coverage,
        "scatter": scatter.clamp(0, limits["scatter_limit"]),
        "edges": edges,
        "dispersion": torch.zeros_like(coverage),
    }
    if rest:
        dispersion = (rest[0] / scale).clamp(0, limits["dispersion_limit"])
        shown_planes["dispersion"] = dispersion / limits["dispersion_unit"]
    image = torch.stack([shown_planes[name] for name in spec.channels], 1)
    # Rounded as training sets are stored: a map's bytes do not hang on its batch.
    return image.half().float()
