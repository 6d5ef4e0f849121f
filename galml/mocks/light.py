# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Starlight by age and metallicity, and the dust before it.

The table holds absolute AB magnitudes per solar mass formed, of simple stellar
populations of Bruzual & Charlot (2003), MNRAS 344, 1000, in their 2016 version with
the MILES library and a Kroupa (2001) initial mass function, integrated over the
filters of SDSS (ugriz) and of ACS (F606W and F814W). Stars alone shine in it: neither
gas nor dust.

Interpolation in the logarithms of age and metallicity stays within 0.03 mag (rms) of
the models along the age axis, and within 0.1 mag (rms, old and metal-poor stars are
worst) along the metallicity axis. Models of different authors differ by more: about
0.05 mag in g - r and 0.2 mag in the mass-to-light ratio of old stars, twice that
between 10 Myr and 1 Gyr (Conroy 2013, ARA&A 51, 393).
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
from astropy.table import Table

from galml.core.exceptions import InputError
from galml.physics.bands import PIVOT_WAVELENGTHS, SOLAR_MAGNITUDES

__all__ = ["BANDS", "SURVIVING", "dust_depth", "luminosity", "starlight"]

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


def luminosity(age, metallicity, bands=BANDS):
    """Interpolate the light of stars per unit of mass that they formed with.

    Parameters
    ----------
    age : `torch.Tensor`
        In Gyr; outside of 0.001 to 13.7 Gyr the nearest age in the table counts.
    metallicity : `torch.Tensor`
        Mass fraction of metals, of a shape that broadcasts with age; outside of
        0.0004 to 0.05 the nearest metallicity in the table counts.
    bands : sequence of str
        Bands out of `BANDS`.

    Returns
    -------
    `torch.Tensor`
        Shape (..., bands): luminosity per solar mass formed, in units of the Sun's in
        the same band.

    Raises
    ------
    galml.core.InputError
        If a band is unknown.

    Notes
    -----
    Bilinear in the logarithms of luminosity, age and metallicity.
    """
    unknown = set(bands) - set(BANDS)
    if unknown:
        raise InputError("bands", sorted(unknown), f"bands out of {', '.join(BANDS)}")
    ages, metallicities, table = _table()
    table = table[..., [BANDS.index(band) for band in bands]].to(age.dtype)
    age, metallicity = torch.broadcast_tensors(age, metallicity)
    old, older = _bracket(age, ages)
    rich, richer = _bracket(metallicity, metallicities)
    rows = table.flatten(0, 1)
    first = rich * len(ages) + old
    poor = torch.lerp(rows[first], rows[first + 1], older[..., None])
    first = first + len(ages)
    wealthy = torch.lerp(rows[first], rows[first + 1], older[..., None])
    return torch.lerp(poor, wealthy, richer[..., None]).exp_()


def _bracket(value, grid):
    """Find the index of the node below each value, and how far it is to the next."""
    logarithm = value.clamp(grid[0].exp().item(), grid[-1].exp().item()).log()
    grid = grid.to(logarithm.dtype)
    index = torch.bucketize(logarithm, grid[1:-1])
    low = grid[index]
    return index, (logarithm - low) / (grid[index + 1] - low)


def starlight(galaxy, bands):
    """Find the light of the stars that arrives through the galaxy's dust.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    bands : sequence of str
        Bands out of `BANDS`.

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
    for start in range(0, len(stars), CHUNK):
        few = stars[start : start + CHUNK]
        depth = CLOUD_DEPTH * (few.age < CLOUD_AGE)
        for disk in few.dust:
            depth = depth + dust_depth(few.position, disk)
        formed = few.mass / SURVIVING
        light = luminosity(few.age, few.metallicity, bands) * formed[..., None]
        for i, band in enumerate(bands):
            ratio = (PIVOT_WAVELENGTHS[band] / 0.55) ** SLOPE
            light[..., i] *= torch.exp(-ratio * depth)
        parts.append(light)
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
    """Read logarithms of ages, of metallicities and of luminosities (Z, age, band)."""
    path = resources.files("galml") / "data" / "stellar_light.ecsv"
    table = Table.read(path.read_text(encoding="utf-8"), format="ascii.ecsv")
    ages, metallicities = np.unique(table["age"]), np.unique(table["metallicity"])
    solar = np.array([SOLAR_MAGNITUDES[band] for band in BANDS])
    magnitudes = np.stack([table[band] for band in BANDS], -1)
    light = 0.4 * np.log(10) * (solar - magnitudes)
    light = light.reshape(len(metallicities), len(ages), len(BANDS))
    nodes = np.log(ages), np.log(metallicities), light
    return tuple(torch.from_numpy(np.asarray(node)) for node in nodes)
