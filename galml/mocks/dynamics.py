# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Motions of stars and gas from the gravity of stars and halo: equations on grids."""

import math

import torch

from galml.mocks.profiles import spheroid_density, spheroid_mass, spheroid_slope

__all__ = [
    "GRAVITY",
    "bar_motions",
    "circular_speed2",
    "disk_motions",
    "disk_speed2",
    "escape_speed2",
    "gas_motions",
    "grid_place",
    "nfw_mass",
    "plane_values",
    "radial_dispersion2",
    "radius_grid",
    "spheroid_motions",
    "with_drift",
]

#: Constant of gravity, in kpc (km/s)^2 per solar mass.
GRAVITY = 4.30091e-6
#: Scale radius of the halo, in half-mass radii of the stars: that of a halo that the
#: stars have drawn inwards.
HALO_SCALE = 3.0
#: Oblateness of the potential in units of that of the density: the value for which an
#: isotropic spheroid has the kinetic energies of a self-gravitating one.
POTENTIAL_OBLATENESS = 0.35
N_GRID = 96
GRID = (1e-3, 1e2)
N_PLANE = 40
PLANE = (2e-3, 60.0)


def radius_grid(size):
    """Lay out radii, even in the logarithm, shape (n, m), for sizes of shape (n,)."""
    return torch.logspace(*map(math.log10, GRID), N_GRID) * size[:, None]


def grid_place(radius, size, grid=GRID, count=N_GRID):
    """Find the index, whole or between two, of radii in the grid of a size."""
    low, high = map(math.log, grid)
    return ((radius / size).log() - low) / (high - low) * (count - 1)


def disk_speed2(radius, mass, length):
    """Find the squared circular speed of an exponential disk.

    Freeman (1970), ApJ 160, 811.
    """
    y = (radius / (2 * length)).clamp(1e-4, 40)
    bessel = torch.special
    product = bessel.modified_bessel_i0(y) * bessel.modified_bessel_k0(y)
    product = product - bessel.modified_bessel_i1(y) * bessel.modified_bessel_k1(y)
    return 2 * GRAVITY * mass / length * y**2 * product


def nfw_mass(radius):
    """Find the mass of a halo of Navarro, Frenk & White (1997) inside scale radii."""
    return torch.log1p(radius) - radius / (1 + radius)


def circular_speed2(p, mass):
    """Find the squared circular speed in the plane of the disk.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, see `~galml.mocks.draw_stars`.
    mass : `torch.Tensor`
        Shape (n, 3): solar masses of spheroid, disk and counter-rotating disk.

    Returns
    -------
    total, smooth : `torch.Tensor`
        Shape (n, m), in (km/s)^2 on `radius_grid`: of everything, and of spheroid
        and halo alone.
    """
    radius = radius_grid(p["size"])
    ratio, index = radius / p["spheroid_radius"][:, None], p["sersic_index"][:, None]
    smooth = GRAVITY * mass[:, :1] * spheroid_mass(ratio, index) / radius
    disk = disk_speed2(radius, mass[:, 1:2], p["disk_length"][:, None])
    disk = disk + disk_speed2(radius, mass[:, 2:], p["counter_length"][:, None])
    dark = p["dark_fraction"] / (1 - p["dark_fraction"]) * mass.sum(1) / 2
    halo = nfw_mass(radius / (HALO_SCALE * p["size"][:, None])) / nfw_mass(
        torch.tensor(1 / HALO_SCALE)
    )
    smooth = smooth + GRAVITY * dark[:, None] * halo / radius
    return smooth + disk, smooth


def escape_speed2(total):
    """Find the squared escape speed by the squared circular speed.

    The potential in the plane, taken as constant on spheres; what lies beyond the
    grid is left aside, so that stars that are bound by this are bound.

    Parameters
    ----------
    total : `torch.Tensor`
        Shape (n, m): squared circular speed on `radius_grid`.

    Returns
    -------
    `torch.Tensor`
        Shape (n, m), in the unit of ``total``.
    """
    step = math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
    # A point mass at the end of the grid.
    return 2 * (_above(total, step) + total[:, -1:])


def disk_motions(radius, total, smooth, surface, length, height, ratio):
    """Find rotation and dispersions of an exponential disk.

    The vertical dispersion holds the height up against the disk (isothermal sheet)
    and the rest. The radial one is in proportion, the azimuthal one follows from
    epicycles, and the rotation from the asymmetric drift. Where pressure outweighs
    the circular speed, rotation fades.

    Parameters
    ----------
    radius, total, smooth : `torch.Tensor`
        Shape (n, m): radii and what `circular_speed2` gives there.
    surface : `torch.Tensor`
        Shape (n, m): surface density of all disks, in solar masses per kpc^2.
    length, height : `torch.Tensor`
        Shape (n, 1): scale length, and scale height z0 of sech^2(z / z0), in kpc.
    ratio : `torch.Tensor`
        Shape (n, 1): vertical over radial dispersion.

    Returns
    -------
    `torch.Tensor`
        Shape (n, m, 4): rotation, and dispersions along R, phi, z, in km/s.
    """
    restoring = smooth / (radius**2 + height**2)
    vertical2 = math.pi * GRAVITY * surface * height
    vertical2 = vertical2 + math.pi**2 / 12 * restoring * height**2
    radial2 = vertical2 / ratio**2
    # Stars are bound: random motions stay below what the potential can hold.
    radial2 = radial2 * total / (radial2 + total)
    step = math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
    slope = torch.gradient(total.log(), spacing=step, dim=1)[0]
    epicycle = (0.5 * (1 + 0.5 * slope)).clamp(0.25, 1)
    decline = torch.gradient(radial2.log(), spacing=step, dim=1)[0] - radius / length
    drift = -radial2 * (1 - epicycle + decline)
    rotation = with_drift(total, drift)
    spread = torch.stack([radial2, epicycle * radial2, ratio**2 * radial2], -1)
    return torch.cat([rotation[..., None], spread.sqrt()], -1)


def gas_motions(radius, total, smooth, surface, length, dispersion):
    """Find rotation and height of gas that is as warm everywhere.

    The pressure of its dispersion holds the gas up against the disks (isothermal
    sheet) and the rest, and carries a part of the radial pull, so that it rotates
    slower than the circular speed. Gas has no weight itself.

    Parameters
    ----------
    radius, total, smooth : `torch.Tensor`
        Shape (n, m): radii and what `circular_speed2` gives there.
    surface : `torch.Tensor`
        Shape (n, m): surface density of all disks, in solar masses per kpc^2.
    length : `torch.Tensor`
        Shape (n, 1): scale length of the gas, in kpc.
    dispersion : `torch.Tensor`
        Shape (n, 1): in one dimension, in km/s.

    Returns
    -------
    `torch.Tensor`
        Shape (n, m, 2): rotation in km/s, and scale height z0 of sech^2(z / z0) in
        kpc.
    """
    sigma2 = dispersion**2
    sheet = math.pi * GRAVITY * surface
    height = torch.zeros_like(radius)
    for _ in range(3):
        # What `disk_motions` says of the vertical dispersion, solved for the height.
        rest = math.pi**2 / 12 * smooth / (radius**2 + height**2)
        height = 2 * sigma2 / (sheet + (sheet**2 + 4 * rest * sigma2).sqrt())
        height = torch.minimum(height, radius + length)
    step = math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
    flare = torch.gradient(height.log(), spacing=step, dim=1)[0]
    # The slope of the density in the plane, times what holds it up.
    drift = sigma2 * (radius / length + flare)
    return torch.stack([with_drift(total, drift), height], -1)


def with_drift(speed2, drift):
    """Find the rotation that is left where pressure carries a part of the weight.

    Where it outweighs the gravity, rotation fades instead of ending.

    Parameters
    ----------
    speed2, drift : `torch.Tensor`
        Squared circular speed, and by how much pressure lowers it (asymmetric drift),
        of one shape, in (km/s)^2.

    Returns
    -------
    `torch.Tensor`
        In km/s.
    """
    return speed2 * (speed2 + drift.clamp_min(0)).clamp_min(1e-6).rsqrt()


def bar_motions(radius, total, length):
    """Find rotation and dispersions in a bar that turns as a solid.

    The bar ends at 1 / 1.2 of corotation; random motions make up for what its
    rotation lacks in support.

    Parameters
    ----------
    radius, total : `torch.Tensor`
        Shape (n, m): radii and squared circular speed.
    length : `torch.Tensor`
        Shape (n, 1): semi-major axis of the bar, in kpc.

    Returns
    -------
    `torch.Tensor`
        Shape (n, m, 4): rotation, and dispersions along R, phi, z, in km/s.
    """
    corotation = 1.2 * length
    at = (radius < corotation).sum(1, keepdim=True).clamp(max=N_GRID - 1)
    pattern = total.gather(1, at).sqrt() / corotation
    rotation = torch.minimum(pattern * radius, total.sqrt())
    spread = ((total - rotation**2) / 2).clamp_min(0).sqrt()
    return torch.stack([rotation, spread, spread, 0.6 * spread], -1)


def spheroid_motions(p, total):
    """Find rotation and dispersions of an oblate spheroid by the Jeans equations.

    The velocity ellipsoid is aligned with R, phi, z, and the vertical dispersion is
    flattened by ``anisotropy`` (Cappellari 2008, MNRAS 390, 71). Of the azimuthal
    motions beyond the radial dispersion the share ``rotation`` (of the velocity) is
    ordered. The potential is constant on spheroids.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, see `~galml.mocks.draw_stars`.
    total : `torch.Tensor`
        Shape (n, m): squared circular speed on `radius_grid`.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k, k, 4) on the grid of `plane_values` in R and z: rotation, and
        dispersions along R, phi, z, in km/s.
    """

    def column(name):
        return p[name].double()[:, None, None]

    axis = torch.logspace(*map(math.log10, PLANE), N_PLANE, dtype=torch.float64)
    step = math.log(PLANE[1] / PLANE[0]) / (N_PLANE - 1)
    radius, height = axis[:, None], axis[None, :]
    flattening = column("flattening")
    roundness = 1 - POTENTIAL_OBLATENESS * (1 - flattening)
    own = torch.sqrt(radius**2 + (height / flattening) ** 2)
    density = spheroid_density(own, column("sersic_index"))
    slope = spheroid_slope(own, column("sersic_index"))
    shell = torch.sqrt(radius**2 + (height / roundness) ** 2)
    size = (p["size"] / p["spheroid_radius"]).double()[:, None, None]
    place = grid_place(shell, size)
    low = place.clamp(0, N_GRID - 1).long().clamp(max=N_GRID - 2)
    table, flat = total.double(), low.flatten(1)
    speed2 = torch.lerp(
        table.gather(1, flat), table.gather(1, flat + 1), (place - low).flatten(1)
    ).reshape(shell.shape)
    # Of the force, -pull * R and -pull * z / roundness^2; integrals are in ln z.
    pull = speed2 / shell**2
    vertical2 = _above(density * pull * (height / roundness) ** 2, step) / density
    # The difference of v_phi^2 and sigma^2 of isotropic spheroids, as an integral in
    # which nothing cancels: a sphere gets exactly 0.
    tilt = (1 / flattening**2 - 1 / roundness**2) * (radius * height / own) ** 2
    excess = _above(-density * slope * pull * tilt, step) / density
    boost = 1 / (1 - column("anisotropy"))
    radial2 = boost * vertical2
    excess = boost * excess - (boost - 1) * pull * radius**2
    azimuthal2 = (radial2 + excess).clamp_min(0)
    ordered = column("rotation") * excess.clamp_min(0).sqrt()
    spread = torch.stack(
        [radial2, (azimuthal2 - ordered**2).clamp_min(0), vertical2], -1
    ).sqrt()
    return torch.cat([ordered[..., None], spread], -1).float()


def radial_dispersion2(total, density, radius, anisotropy):
    """Find the squared radial dispersion of a sphere by the Jeans equation.

    It does not rotate.

    Parameters
    ----------
    total : `torch.Tensor`
        Shape (n, m): squared circular speed on `radius_grid`.
    density : `torch.Tensor`
        Shape (n, m): of the sphere, in any unit.
    radius : `torch.Tensor`
        Shape (n, m): `radius_grid`.
    anisotropy : float
        1 - (tangential over radial dispersion)^2.

    Returns
    -------
    `torch.Tensor`
        Shape (n, m), in the unit of ``total``.
    """
    step = math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
    weight = density.double() * radius.double() ** (2 * anisotropy)
    return (_above(weight * total, step) / weight).float()


def _above(integrand, step):
    """Integrate from each node of the last axis to the end."""
    layer = (integrand[..., 1:] + integrand[..., :-1]) / 2 * step
    total = layer.flip(-1).cumsum(-1).flip(-1)
    return torch.cat([total, 1e-3 * total[..., -1:]], -1)


def plane_values(table, row, radius, height):
    """Interpolate what `spheroid_motions` gives.

    Parameters
    ----------
    table : `torch.Tensor`
        Shape (n, k, k, 4).
    row : `torch.Tensor`
        Shape (N,): the galaxies.
    radius, height : `torch.Tensor`
        Shape (N,): R and z in effective radii of the spheroid.

    Returns
    -------
    `torch.Tensor`
        Shape (N, 4).
    """
    one = torch.ones(())
    places = [
        grid_place(value, one, PLANE, N_PLANE).clamp(0, N_PLANE - 1.001)
        for value in (radius, height.abs())
    ]
    (low_r, low_z), (part_r, part_z) = (
        [place.long() for place in places],
        [place.frac()[:, None] for place in places],
    )
    flat = table.flatten(0, 2)
    at = (row * N_PLANE + low_r) * N_PLANE + low_z
    inner = torch.lerp(flat[at], flat[at + 1], part_z)
    at = at + N_PLANE
    return torch.lerp(inner, torch.lerp(flat[at], flat[at + 1], part_z), part_r)
