# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Starlight by age and metallicity, and the dust before it.

The table holds absolute AB magnitudes per solar mass formed, of simple stellar
populations of Bruzual & Charlot (2003), MNRAS 344, 1000, in their 2016 version with
the MILES library and a Kroupa (2001) initial mass function, through the filters of
SDSS (ugriz) and of ACS (F606W and F814W), at redshifts of 0 to 1. The gas that young
stars ionize shines with them (Byler et al. 2017, ApJ 840, 44), dust does not absorb.
``benchmarks/make_stellar_light.py`` makes it.

Interpolation along the age axis stays within 0.05 mag (rms) of the models. Models of
different authors differ by more: about 0.05 mag in g - r and 0.2 mag in the
mass-to-light ratio of old stars, twice that between 10 Myr and 1 Gyr (Conroy 2013,
ARA&A 51, 393).
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
from astropy.table import Table

from galml.core.exceptions import InputError
from galml.physics.bands import PIVOT_WAVELENGTHS, SOLAR_MAGNITUDES

__all__ = [
    "BANDS",
    "SURVIVING",
    "depth_before_stars",
    "dust_depth",
    "luminosity",
    "starlight",
]

#: Bands of the table.
BANDS = ("u", "g", "r", "i", "z", "F606W", "F814W")
#: Share of the mass formed that is still in stars and remnants (Chabrier 2003).
SURVIVING = 0.6
#: Attenuation falls with this power of wavelength, and stars younger than 10 Myr are
#: behind clouds of this V depth on top (Charlot & Fall 2000, ApJ 539, 718).
SLOPE, CLOUD_DEPTH, CLOUD_AGE = -0.7, 1.0, 0.01
#: Nodes of the integral along the line of sight.
N_NODES = 8
#: Galaxies that go through the memory of a processor at a time.
CHUNK = 8


def luminosity(age, metallicity, bands=BANDS, redshift=None):
    """Interpolate the light of stars per unit of mass that they formed with.

    Parameters
    ----------
    age : `torch.Tensor`
        In Gyr; outside of 0.001 to 13.75 Gyr the nearest age in the table counts.
    metallicity : `torch.Tensor`
        Mass fraction of metals, of a shape that broadcasts with age; outside of
        0.0004 to 0.05 the nearest metallicity in the table counts.
    bands : sequence of str
        Bands out of `BANDS`.
    redshift : `torch.Tensor`, optional
        Shape (n,), for ages of shape (n, ...): the bands are those of an observer who
        sees the stars at this redshift, up to 1. By default at rest.

    Returns
    -------
    `torch.Tensor`
        Shape (..., bands): luminosity per solar mass formed, in units of the Sun's at
        rest in the same band.

    Raises
    ------
    galml.core.InputError
        If a band is unknown.

    Notes
    -----
    Linear in the logarithms of luminosity, age and metallicity, and in redshift: an
    apparent magnitude is the Sun's, the distance modulus, and -2.5 log10 of this.
    """
    unknown = set(bands) - set(BANDS)
    if unknown:
        raise InputError("bands", sorted(unknown), f"bands out of {', '.join(BANDS)}")
    redshifts, ages, metallicities, table = _table()
    table = table[..., [BANDS.index(band) for band in bands]].to(age.dtype)
    age, metallicity = torch.broadcast_tensors(age, metallicity)
    first = 0
    if redshift is None:
        table = table[0]
    else:
        low, part = _between(redshift.to(age.dtype), redshifts)
        part = part[:, None, None, None]
        table = torch.lerp(table[low], table[low + 1], part).flatten(0, 1)
        first = torch.arange(len(redshift)) * (len(metallicities) * len(ages))
        first = first.reshape(-1, *[1] * (age.ndim - 1))
    old, older = _bracket(age, ages)
    rich, richer = _bracket(metallicity, metallicities)
    rows = table.flatten(0, 1)
    first = first + rich * len(ages) + old
    poor = torch.lerp(rows[first], rows[first + 1], older[..., None])
    first = first + len(ages)
    wealthy = torch.lerp(rows[first], rows[first + 1], older[..., None])
    return torch.lerp(poor, wealthy, richer[..., None]).exp_()


def _bracket(value, grid):
    """Find the index of the node below each value, and how far it is to the next."""
    return _between(value.log(), grid)


def _between(value, grid):
    """Find the place of values, limited to those of a grid, between its nodes."""
    grid = grid.to(value.dtype)
    value = value.clamp(grid[0].item(), grid[-1].item())
    index = torch.bucketize(value, grid[1:-1])
    low = grid[index]
    return index, (value - low) / (grid[index + 1] - low)


def starlight(galaxy, bands, redshift=None, depth=None):
    """Find the light of the stars that arrives through the galaxy's dust.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    bands : sequence of str
        Bands out of `BANDS`.
    redshift : `torch.Tensor`, optional
        Shape (n,): at which the galaxies are seen, see `luminosity`.
    depth : `torch.Tensor`, optional
        Shape (n, s): that of `depth_before_stars`, where it is already known.

    Returns
    -------
    `torch.Tensor`
        Shape (n, s, bands) for s particles of stars, in solar luminosities of each
        band.

    Raises
    ------
    galml.core.InputError
        If a band is unknown, or there are no stars.

    Notes
    -----
    Dust only absorbs: light that it scatters into the line of sight is left out.
    """
    stars, parts = galaxy.stars, []
    depth = depth_before_stars(galaxy) if depth is None else depth
    for start in range(0, len(stars), CHUNK):
        few = stars[start : start + CHUNK]
        formed = few.mass / SURVIVING
        seen = None if redshift is None else redshift[start : start + CHUNK]
        light = luminosity(few.age, few.metallicity, bands, seen) * formed[..., None]
        stretch = 1.0 if seen is None else 1 + seen[:, None]
        for i, band in enumerate(bands):
            ratio = (PIVOT_WAVELENGTHS[band] / 0.55 / stretch) ** SLOPE
            light[..., i] *= torch.exp(-ratio * depth[start : start + CHUNK])
        parts.append(light)
    return torch.cat(parts)


def depth_before_stars(galaxy):
    """Find the V optical depth of the dust before stars, of disks and birth clouds.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.

    Returns
    -------
    `torch.Tensor`
        Shape (n, s) for s particles of stars.
    """
    stars, parts = galaxy.stars, []
    for start in range(0, len(stars), CHUNK):
        few = stars[start : start + CHUNK]
        depth = CLOUD_DEPTH * (few.age < CLOUD_AGE)
        for disk in few.dust:
            depth = depth + dust_depth(few.position, disk)
        parts.append(depth)
    return torch.cat(parts)


def dust_depth(position, disk):
    r"""Integrate the V optical depth of dust in front of particles.

    The density is :math:`\rho = \tau_0 / (2 h) \exp(-R / l - |z| / h)`, with
    :math:`\tau_0` the depth through the center, face-on.

    Parameters
    ----------
    position : `torch.Tensor`
        Shape (n, p, 3), in kpc, as they are seen along z.
    disk : `~galml.mocks.DustDisk`
        Of n galaxies, turned as they are seen.

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
        getattr(disk, name)[:, None] for name in ("depth", "length", "height")
    )
    own = (position - disk.center[:, None]) @ disk.frame
    x, y, z = own.unbind(-1)
    # Towards the observer, in the disk's own axes.
    dx, dy, dz = (-disk.frame[:, 2]).unbind(-1)
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


@cache
def _table():
    """Read redshifts, logarithms of ages, metallicities, and light by all of them."""
    path = resources.files("galml") / "data" / "stellar_light.ecsv"
    table = Table.read(path.read_text(encoding="utf-8"), format="ascii.ecsv")
    nodes = [np.unique(table[name]) for name in ("redshift", "metallicity", "age")]
    solar = np.array([SOLAR_MAGNITUDES[band] for band in BANDS])
    magnitudes = np.stack([table[band] for band in BANDS], -1)
    light = 0.4 * np.log(10) * (solar - magnitudes)
    light = light.reshape(*map(len, nodes), len(BANDS))
    redshifts, metallicities, ages = nodes
    nodes = redshifts, np.log(ages), np.log(metallicities), light
    return tuple(torch.from_numpy(np.asarray(node)) for node in nodes)
