# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Starlight behind dust."""

import numpy as np
import torch

from galml.mocks.light import WAVELENGTHS, luminosity

__all__ = ["dust_depth", "starlight"]

#: Attenuation falls with this power of wavelength, and stars younger than 10 Myr are
#: behind clouds of this V depth on top (Charlot & Fall 2000, ApJ 539, 718).
SLOPE, CLOUD_DEPTH, CLOUD_AGE = -0.7, 1.0, 0.01
#: Nodes of the integral along the line of sight.
N_NODES = 8
#: Galaxies that go through the memory of a processor at a time.
CHUNK = 8


def starlight(stars, p, bands):
    """Give the light of particles that arrives through the galaxy's dust.

    Parameters
    ----------
    stars : `~galml.mocks.Stars`
        n galaxies, turned as they are seen.
    p : dict of str to `torch.Tensor`
        ``dust_depth``, ``dust_length`` and ``dust_height`` of shape (n,), as
        `~galml.mocks.draw_stars` returns them.
    bands : sequence of str
        Bands out of `~galml.mocks.light.BANDS`.

    Returns
    -------
    `torch.Tensor`
        Shape (n, p, bands), in solar luminosities of each band.

    Raises
    ------
    galml.core.InputError
        If a band is unknown.

    Notes
    -----
    Dust only absorbs: light that it scatters into the line of sight is left out.
    """
    parts = []
    for start in range(0, len(stars), CHUNK):
        rows = slice(start, start + CHUNK)
        few = stars[rows]
        depth = dust_depth(few, {key: value[rows] for key, value in p.items()})
        depth += CLOUD_DEPTH * (few.age < CLOUD_AGE)
        light = luminosity(few.age, few.metallicity, bands) * few.mass[..., None]
        for i, band in enumerate(bands):
            ratio = (WAVELENGTHS[band] / 0.55) ** SLOPE
            light[..., i] *= torch.exp(-ratio * depth)
        parts.append(light)
    return torch.cat(parts)


def dust_depth(stars, p):
    r"""Integrate the V optical depth of dust in front of each particle.

    Dust is exponential in radius and height,
    :math:`\rho = \tau_0 / (2 h) \exp(-R / l - |z| / h)`, with :math:`\tau_0` the depth
    through the center, face-on.

    Parameters
    ----------
    stars : `~galml.mocks.Stars`
        n galaxies, turned as they are seen.
    p : dict of str to `torch.Tensor`
        See `starlight`.

    Returns
    -------
    `torch.Tensor`
        Shape (n, p).

    Notes
    -----
    The integral over the height z is exact, by its own distribution function v; what
    is left is the mean of :math:`\exp(-R / l)` over v, by Gauss-Legendre quadrature.
    So that this mean stays smooth, a disk is seen no closer to edge-on than where its
    height spans three of its lengths.
    """
    depth, length, height = (
        p[key][:, None] for key in ("dust_depth", "dust_length", "dust_height")
    )
    x, y, z = (stars.position @ stars.frame).unbind(-1)
    # Towards the observer, in the galaxy's own axes.
    dx, dy, dz = (-stars.frame[:, 2]).unbind(-1)
    away = torch.where(dz < 0, -1.0, 1.0)[:, None]
    slope = dz.abs()[:, None].maximum(height / (3 * length))
    # Heights count from the plane to the observer's side.
    z = z * away
    tail = 0.5 * torch.exp(-z.abs() / height)
    front = torch.where(z > 0, tail, 1 - tail)
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    mean = torch.zeros_like(z)
    for node, weight in zip(nodes, weights, strict=True):
        # Share of the column's dust that lies still further to the front.
        rest = front * (0.5 + 0.5 * node)
        level = torch.minimum(rest, 1 - rest).clamp_min(1e-7).mul(2).log() * height
        path = (torch.where(rest < 0.5, -level, level) - z) / slope
        radius = torch.hypot(x + path * dx[:, None], y + path * dy[:, None])
        mean += 0.5 * weight * torch.exp(-radius / length)
    return depth * front * mean / slope
