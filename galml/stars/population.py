# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the galaxies that a flow has learned from have in common.

Numbers that follow the conditions of galaxies are surfaces over these, see `surface`.
"""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree

__all__ = [
    "SMALLEST_POPULATION",
    "LIMIT_RADII",
    "distance",
    "find_domain",
    "find_limits",
    "find_sizes",
    "fit_surface",
    "limit_places",
    "sizes",
    "surface",
]

#: Fewer galaxies than this tell nothing of a population.
SMALLEST_POPULATION = 20
#: Galaxies for each number of a surface, at least, and the penalty on its slopes.
GALAXIES_PER_TERM, RIDGE = 4, 1e-3
#: Share of the training galaxies that are as near to another one as galaxies in the
#: domain are; and how many times farther those are that no answer is given for.
NEAR, FAR = 0.999, 1.75
#: Stars may be farther out, and faster, than any seen by this factor.
MARGIN = 1.02
#: Distances from the center at which the limit of the speed is kept, in the extent.
LIMIT_RADII = np.geomspace(3e-3, 1.0, 10)
#: Mean of the logarithm of the square of a normal number.
LOG_SQUARE = -1.2704


def surface(coefficients, standard):
    """Evaluate a surface over the conditions.

    Parameters
    ----------
    coefficients : `torch.Tensor`
        In the last axis one number, a constant; 1 + c, a plane; 3 + c + c (c + 1) / 2,
        with products of two conditions, and the third and fourth power of the first
        one, the mass.
    standard : `torch.Tensor`
        Standardized conditions, shape (n, c).

    Returns
    -------
    `torch.Tensor`
        Shape (..., n).
    """
    terms = _terms(standard.to(coefficients.dtype))
    return coefficients @ terms[:, : coefficients.shape[-1]].T


def fit_surface(standard, values, plane=False):
    """Find the surface of least squares, as bent as the galaxies determine.

    Parameters
    ----------
    standard : `torch.Tensor`
        Standardized conditions, shape (n, c).
    values : `torch.Tensor`
        What is known there, shape (n,).
    plane : bool, optional
        Whether the surface is a plane at most.

    Returns
    -------
    `torch.Tensor`
        Coefficients for `surface`, float64.
    """
    terms, values = _terms(standard.double()), values.double()
    most = max(1, len(values) // GALAXIES_PER_TERM)
    counts = (1, 1 + standard.shape[1], terms.shape[1])[: 3 - plane]
    count = max(k for k in counts if k <= most)
    terms = terms[:, :count]
    moments = terms.T @ terms / len(terms)
    penalty = RIDGE * torch.eye(count, dtype=torch.float64)
    penalty[0, 0] = 0.0
    return torch.linalg.solve(moments + penalty, terms.T @ values / len(terms))


def _terms(standard):
    """Constant, conditions, products of two, and powers of the first."""
    first, second = torch.triu_indices(*2 * [standard.shape[1]])
    products = standard[:, first] * standard[:, second]
    mass = standard[:, :1]
    terms = (torch.ones_like(mass), standard, products, mass**3, mass**4)
    return torch.cat(terms, 1)


def find_limits(stars, galaxy, standard, places, *, extent=None, escape=None):
    """Find how far out and how fast stars are at most, by the conditions.

    Parameters
    ----------
    stars : `torch.Tensor`
        Shape (n, d).
    galaxy : `torch.Tensor`
        Row of the galaxy of each star, shape (n,).
    standard : `torch.Tensor`
        Standardized conditions, shape (galaxies, c).
    places : tuple of list of int
        Places of the three axes of position, and of velocity.
    extent : `torch.Tensor`, optional
        Distance that no star of a galaxy is beyond, shape (galaxies,); by default that
        of its farthest star.
    escape : `torch.Tensor`, optional
        Escape speed where each star is, shape (n,); by default the highest speed of
        stars of its galaxy that are as far out, or farther.

    Returns
    -------
    dict
        For `~galml.stars.scaling.StarScaling`: ``position`` and ``velocity``, the
        places; and coefficients of surfaces: ``log_radius``, shape (terms,), and
        ``log_speed``, shape (radii, terms), at `LIMIT_RADII`. All of the stars are
        inside.
    """
    position, velocity = places
    radius, speed = (
        torch.linalg.vector_norm(stars[:, axes].double(), dim=1) for axes in places
    )
    known, counts = galaxy.unique(return_counts=True)
    own = galaxy.argsort(stable=True).split(counts.tolist())
    if extent is None:
        extent = torch.stack([radius[rows].max() for rows in own])
    else:
        extent = extent[known]
    log_radius = fit_surface(standard[known], extent.double().log())
    share = radius / surface(log_radius, standard).exp()[galaxy]
    log_radius[0] += (MARGIN * share.max()).clamp_min(1).log()
    share = radius / surface(log_radius, standard).exp()[galaxy]
    highest = speed if escape is None else escape.double()
    table = torch.stack(
        [_highest(share[rows], highest[rows], escape is not None) for rows in own]
    )
    log_speed = torch.stack(
        [fit_surface(standard[known], column.log()) for column in table.T]
    )
    # Raised where a star would be outside.
    place, part = limit_places(share)
    limits = surface(log_speed, standard)
    limit = torch.lerp(limits[place, galaxy], limits[place + 1, galaxy], part)
    excess = speed.clamp_min(1e-6).log() - limit + math.log(MARGIN)
    raised = torch.zeros(len(LIMIT_RADII), dtype=torch.float64)
    for ends in (place, place + 1):
        raised.scatter_reduce_(0, ends, excess, "amax")
    log_speed[:, 0] += raised
    return {
        "position": list(position),
        "velocity": list(velocity),
        "log_radius": log_radius.tolist(),
        "log_speed": log_speed.tolist(),
    }


def limit_places(share):
    """Find where shares of the extent are between `LIMIT_RADII`."""
    start, stop = (math.log(LIMIT_RADII[i]) for i in (0, -1))
    last = len(LIMIT_RADII) - 1
    place = ((share.log() - start) / (stop - start) * last).nan_to_num()
    place = place.clamp(0, last)
    low = place.long().clamp(max=last - 1)
    return low, place - low


def _highest(share, speed, is_known):
    """Give the limit of the speed in one galaxy at `LIMIT_RADII`."""
    order = share.argsort()
    share, speed = share[order].numpy(), speed[order]
    if not is_known:
        speed = speed.flip(0).cummax(0).values.flip(0)
    logs = np.log(np.maximum(share, 1e-9)), np.log(np.maximum(speed.numpy(), 1e-6))
    return torch.from_numpy(np.exp(np.interp(np.log(LIMIT_RADII), *logs)))


def find_sizes(conditions, log_size):
    """Find how the sizes of galaxies scatter at given conditions.

    Parameters
    ----------
    conditions : `~numpy.ndarray`
        Shape (n, c), without the size.
    log_size : `~numpy.ndarray`
        log10 of the half-mass radius, shape (n,).

    Returns
    -------
    dict
        For `sizes`.
    """
    conditions, log_size = (
        torch.from_numpy(np.asarray(values, dtype=float))
        for values in (conditions, log_size)
    )
    mean, scale = conditions.mean(0), conditions.std(0, correction=0).clamp_min(1e-6)
    standard = (conditions - mean) / scale
    center = fit_surface(standard, log_size)
    square = (log_size - surface(center, standard)).square().clamp_min(1e-8)
    # What the fit has taken out of the scatter.
    square = square * len(square) / max(len(square) - len(center), 1)
    log_scatter = fit_surface(standard, 0.5 * (square.log() - LOG_SQUARE), True)
    chi = square / (2 * surface(log_scatter, standard)).exp()
    log_scatter[0] += 0.5 * chi.mean().log()
    return {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "center": center.tolist(),
        "log_scatter": log_scatter.tolist(),
    }


def sizes(found, conditions):
    """Give the distribution of the sizes of galaxies, normal in the logarithm.

    Parameters
    ----------
    found : dict
        Of `find_sizes`.
    conditions : `~numpy.ndarray`
        Shape (n, c), without the size.

    Returns
    -------
    center, scatter : `~numpy.ndarray`
        Mean and standard deviation of log10 of the half-mass radius, shape (n,).
    """
    numbers = {key: torch.tensor(row).double() for key, row in found.items()}
    values = torch.from_numpy(np.asarray(conditions, dtype=float))
    standard = ((values - numbers["mean"]) / numbers["scale"]).clamp(-4, 4)
    center = surface(numbers["center"], standard)
    scatter = surface(numbers["log_scatter"], standard).exp()
    return center.numpy(), scatter.numpy()


def find_domain(conditions):
    """Find where the conditions of a population of galaxies lie.

    Parameters
    ----------
    conditions : `~numpy.ndarray`
        Shape (n, c).

    Returns
    -------
    dict or None
        For `distance`; ``near`` and ``far`` are the distances beyond which galaxies are
        outside of the domain, and too far from it. None for few galaxies.
    """
    galaxies = np.unique(np.round(conditions, 4), axis=0)
    if len(galaxies) < SMALLEST_POPULATION:
        return None
    domain = {"galaxies": galaxies.tolist()}
    white = _whiten(galaxies, galaxies)
    near = np.quantile(cKDTree(white).query(white, 2)[0][:, 1], NEAR)
    return domain | {"near": float(near), "far": float(FAR * near)}


def distance(domain, conditions):
    """Measure how far galaxies are from the nearest one of a population.

    Parameters
    ----------
    domain : dict
        Of `find_domain`.
    conditions : `~numpy.ndarray`
        Shape (n, c), finite.

    Returns
    -------
    `~numpy.ndarray`
        Distance of Mahalanobis, by the covariance of the population, shape (n,).
    """
    galaxies = np.array(domain["galaxies"])
    tree = cKDTree(_whiten(galaxies, galaxies))
    return tree.query(_whiten(conditions, galaxies))[0]


def _whiten(conditions, galaxies):
    """Take mean, scale and correlations of galaxies out of conditions."""
    mean, scale = galaxies.mean(0), galaxies.std(0) + 1e-6
    covariance = np.cov(((galaxies - mean) / scale).T).reshape(2 * [len(scale)])
    covariance += 1e-4 * np.eye(len(scale))
    factor = np.linalg.inv(np.linalg.cholesky(covariance))
    return ((conditions - mean) / scale) @ factor.T
