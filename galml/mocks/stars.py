# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies made of stars, as particles that carry their motions, ages and metals."""

import math
from dataclasses import dataclass, fields, replace

import torch

from galml.mocks import star_dynamics as dynamics
from galml.mocks.star_profiles import (
    interpolate,
    radius_table,
    spheroid_density,
    table_place,
)
from galml.mocks.star_recipe import MAX_CLUMPS, STAR_POPULATION, TYPES, draw_stars

__all__ = [
    "COMPONENTS",
    "STAR_POPULATION",
    "TYPES",
    "Stars",
    "build_stars",
    "draw_stars",
]

#: Parts of a galaxy, as ``Stars.component`` counts them.
COMPONENTS = ("spheroid", "thick disk", "thin disk", "young disk", "bar", "counter")
SPHEROID, THICK, THIN, YOUNG, BAR, COUNTER = range(6)

#: Share of the mass formed that is still in stars and remnants (Chabrier 2003).
SURVIVING = 0.6
# Increments of the three-dimensional sequence of lowest discrepancy.
GOLDEN = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)
OLDEST = 13.5


@dataclass
class Stars:
    """A batch of galaxies made of stars.

    A particle stands for many stars at one place. It has their mean velocity and the
    dispersions about it, so that few particles give smooth maps. The frame of a
    galaxy that is looked at has x to the right of the sky, y up, and z along the line
    of sight, away from the observer.

    Parameters
    ----------
    position : `torch.Tensor`
        Shape (n, p, 3), in kpc from the center.
    velocity : `torch.Tensor`
        Shape (n, p, 3), in km/s: the mean of the stars of a particle.
    mass : `torch.Tensor`
        Shape (n, p), in solar masses formed.
    age : `torch.Tensor`
        Shape (n, p), in Gyr.
    metallicity : `torch.Tensor`
        Shape (n, p), mass fraction.
    spacing : `torch.Tensor`
        Shape (n, p), in kpc: mean distance between particles by the density there.
    component : `torch.Tensor`
        Shape (n, p), integer: index into ``COMPONENTS``.
    dispersion : `torch.Tensor`
        Shape (n, p, 3), in km/s: along R, phi and z of the galaxy's own axes.
    frame : `torch.Tensor`
        Shape (n, 3, 3): the rotation from the galaxy's own axes to the present ones.
    """

    position: torch.Tensor
    velocity: torch.Tensor
    mass: torch.Tensor
    age: torch.Tensor
    metallicity: torch.Tensor
    spacing: torch.Tensor
    component: torch.Tensor
    dispersion: torch.Tensor
    frame: torch.Tensor

    def __len__(self):
        return len(self.position)

    def __getitem__(self, rows):
        """Select galaxies by a slice, an index tensor or a boolean tensor."""
        return Stars(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def rotated(self, matrix):
        """Turn every galaxy by its own rotation matrix, of shape (n, 3, 3)."""
        turn = matrix.transpose(-1, -2)
        return replace(
            self,
            position=self.position @ turn,
            velocity=self.velocity @ turn,
            frame=matrix @ self.frame,
        )

    def line_of_sight_dispersion(self):
        """Dispersion of each particle along z, in km/s, shape (n, p)."""
        own = self.position @ self.frame[..., :2]
        own = own / torch.linalg.vector_norm(own, dim=-1, keepdim=True).clamp_min(1e-9)
        sight = self.frame[:, None, 2]
        along_r = own[..., 0] * sight[..., 0] + own[..., 1] * sight[..., 1]
        along_phi = own[..., 0] * sight[..., 1] - own[..., 1] * sight[..., 0]
        square = (self.dispersion[..., 0] * along_r) ** 2
        square = square + (self.dispersion[..., 1] * along_phi) ** 2
        return (square + (self.dispersion[..., 2] * sight[..., 2]) ** 2).sqrt()


def build_stars(p, n_particles, generator):
    """Turn parameters into particles, face-on: the disk lies in z = 0, spin along +z.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, as `draw_stars` returns them.
    n_particles : int
        Number of particles of each galaxy.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `Stars`
        Particles of one component of one galaxy have equal mass.
    """
    n = len(p["size"])
    fraction = _fractions(p)
    component, inside, count = _membership(fraction, n_particles)
    mass = (p["stellar_mass"] / SURVIVING)[:, None] * fraction / count.clamp_min(1e-9)
    shift = torch.rand(3, n, 1, generator=generator)
    spots = torch.rand(n, MAX_CLUMPS, generator=generator)
    steps = torch.arange(n_particles).double() * torch.tensor(GOLDEN).double()[:, None]
    u = ((steps % 1).float()[:, None] + shift) % 1

    parts = torch.empty(n, n_particles, 10)
    row = torch.arange(n)[:, None].expand(n, n_particles)
    own = fraction * p["stellar_mass"][:, None]
    total, smooth = dynamics.circular_speed2(
        p, torch.stack([own[:, 0], own[:, 1:5].sum(1), own[:, 5]], 1)
    )
    round_ = component == SPHEROID
    parts[round_] = _spheroid(
        p, row[round_], inside[round_], u[1:, round_], total, count[:, SPHEROID]
    )
    flat = ~round_
    parts[flat] = _disk(
        p,
        row[flat],
        component[flat],
        inside[flat],
        u[1:, flat],
        (total, smooth, own),
        count,
    )
    parts = _clump(p, component, parts, u[0], spots, generator)
    position, velocity, dispersion, spacing = parts.split((3, 3, 3, 1), -1)
    position = _shift_outskirts(p, position)
    age, metallicity = _populations(p, component, position, generator)
    return Stars(
        position=position,
        velocity=velocity,
        mass=mass.gather(1, component),
        age=age,
        metallicity=metallicity,
        spacing=spacing[..., 0],
        component=component.to(torch.int8),
        dispersion=dispersion,
        frame=torch.eye(3).expand(n, 3, 3),
    )


def _fractions(p):
    """Shares of the components in the stellar mass, shape (n, 6)."""
    counter = p["counter_fraction"]
    bulge = p["bulge_fraction"] * (1 - counter)
    disk = (1 - bulge - counter).clamp_min(0)
    rest = 1 - p["young_fraction"] - p["bar_fraction"]
    thick = rest * p["thick_fraction"]
    shares = torch.stack(
        [thick, rest - thick, p["young_fraction"], p["bar_fraction"]], 1
    )
    return torch.cat([bulge[:, None], disk[:, None] * shares, counter[:, None]], 1)


def _membership(fraction, n_particles):
    """Component of each particle, its rank inside it, and particles per component.

    Components get particles by the root of their mass, for the light ones are bright.
    """
    count = fraction.sqrt()
    edge = torch.cumsum(count / count.sum(1, keepdim=True), 1) * n_particles
    edge = torch.cat([torch.zeros(len(edge), 1), edge.round()], 1)
    rank = torch.arange(n_particles) + 0.5
    component = (rank[:, None] > edge[:, None, 1:-1]).sum(-1)
    count = edge.diff(dim=1)
    inside = (rank - edge.gather(1, component)) / count.gather(1, component)
    return component, inside, count


def _spheroid(p, row, inside, u, total, count):
    """Positions, motions and spacing of the spheroid's particles, shape (N, 10)."""
    index, flattening = p["sersic_index"][row], p["flattening"][row]
    radius = interpolate(radius_table(p["sersic_index"]), row, table_place(inside))
    radius = radius[:, 0].exp()
    cosine, azimuth = 1 - 2 * u[0], 2 * math.pi * u[1]
    plane, height = radius * (1 - cosine**2).sqrt(), radius * cosine * flattening
    motions = dynamics.spheroid_motions(p, total)
    motions = dynamics.plane_values(motions, row, plane, height)
    density = count[row] * spheroid_density(radius, index) / flattening
    scale = p["spheroid_radius"][row, None]
    x, y = plane * azimuth.cos(), plane * azimuth.sin()
    place = torch.stack([x, y * p["elongation"][row], height], -1) * scale
    return torch.cat(
        [
            place,
            _around(x, y, motions[:, 0]),
            motions[:, 1:],
            density.clamp_min(1e-9).pow(-1 / 3)[:, None] * scale,
        ],
        -1,
    )


def _around(x, y, speed):
    """Velocity of rotation about the z axis."""
    rate = speed / torch.hypot(x, y).clamp_min(1e-9)
    return torch.stack([-y * rate, x * rate, torch.zeros_like(x)], -1)


def _disk(p, row, component, inside, u, gravity, count):
    """Positions, motions and spacing of the disks' particles, shape (N, 10)."""
    length = p["disk_length"][:, None].repeat(1, 6)
    length[:, COUNTER] = p["counter_length"]
    height = p["disk_height"][:, None] * length
    height[:, THICK] *= p["thick_height"]
    height[:, YOUNG] *= 0.5
    scale, thickness = length[row, component], height[row, component]
    radius = interpolate(radius_table(), torch.zeros_like(row), table_place(inside))
    radius = radius[:, 0].exp() * scale
    turn = 2 * math.pi * u[0]
    bar = component == BAR
    # A Ferrers bar of index 1 in projection; disks have spiral arms.
    reach = (1 - (1 - inside) ** 0.4).sqrt() * (p["bar_length"][row] * scale)
    azimuth = _wind(p, row, component, radius / scale, turn)
    x = torch.where(bar, reach * turn.cos(), radius * azimuth.cos())
    y = torch.where(
        bar, reach * turn.sin() * p["bar_ratio"][row], radius * azimuth.sin()
    )
    radius = torch.hypot(x, y)
    level = u[1].clamp(1e-6, 1 - 1e-6)
    z = 0.5 * thickness * (level.log() - (-level).log1p())

    tables = _disk_tables(p, gravity, length, height)
    place = dynamics.grid_place(radius.clamp_min(1e-9), p["size"][row])
    motions = interpolate(tables, row * 5 + component - 1, place)
    # Mean surface density, as if without arms, over the height of sech^2.
    surface = torch.exp(-radius / scale) / (2 * math.pi * scale**2)
    density = count[row, component] * surface / torch.cosh(z / thickness) ** 2
    spacing = (density / (2 * thickness)).clamp_min(1e-9).pow(-1 / 3)
    return torch.cat(
        [
            torch.stack([x, y, z], -1),
            _around(x, y, motions[:, 0]),
            motions[:, 1:],
            spacing[:, None],
        ],
        -1,
    )


def _disk_tables(p, gravity, length, height):
    """Motions of the five flat components on the grid of radii, (5 n, m, 4)."""
    total, smooth, mass = gravity
    radius = dynamics.radius_grid(p["size"])
    main = mass[:, 1:5].sum(1, keepdim=True) * torch.exp(-radius / length[:, :1])
    other = mass[:, 5:] * torch.exp(-radius / length[:, COUNTER:])
    surface = main / length[:, :1] ** 2 + other / length[:, COUNTER:] ** 2
    surface = surface / (2 * math.pi)
    ratio = p["dispersion_ratio"][:, None]
    parts = [
        dynamics.disk_motions(
            radius,
            total,
            smooth,
            surface,
            length[:, i, None],
            height[:, i, None],
            ratio,
        )
        for i in (THICK, THIN, YOUNG, COUNTER)
    ]
    parts[-1][..., 0] *= -1
    bar = p["bar_length"] * p["disk_length"]
    parts.insert(BAR - 1, dynamics.bar_motions(radius, total, bar[:, None]))
    return torch.stack(parts, 1).flatten(0, 1)


def _wind(p, row, component, radius, turn):
    """Shift azimuths towards logarithmic spiral arms, sharper in young stars."""
    number = p["arm_number"][row]
    contrast = torch.tensor([0.0, 0.3, 0.9, 1.2, 0.0, 0.0])[component]
    fade = (radius / 0.7).clamp(0, 1) ** 2
    strength = (contrast * p["arm_strength"][row] * fade).clamp(0, 0.95)
    winding = p["arm_winding"][row] * radius.clamp_min(1e-3).log()
    phase = number * turn - winding + p["arm_phase"][row]
    return turn + strength / number * torch.sin(phase)


def _clump(p, component, parts, u, spots, generator):
    """Gather a part of the young stars in clumps that each move with one of them."""
    n, n_particles = component.shape
    young = component == YOUNG
    member = young & (u < p["clump_fraction"][:, None])
    which = torch.rand(n, n_particles, generator=generator) * p["clump_number"][:, None]
    first = (component < YOUNG).sum(1, keepdim=True)
    size = young.sum(1, keepdim=True)
    # Young stars are in order of radius: clumps spread over the inner nine tenths.
    spot = (first + (0.9 * spots * size).long()).clamp(max=n_particles - 1)
    center = parts.gather(1, spot[..., None].expand(-1, -1, parts.shape[-1]))
    rows = member.nonzero()[:, 0]
    gathered = center[rows, which[member].long()]
    width = (p["clump_size"] * p["disk_length"])[rows, None]
    offset = torch.randn(len(rows), 3, generator=generator) * width
    offset[:, 2] *= 0.5
    gathered[:, :3] += offset
    gathered[:, -1:] = 0.5 * width
    parts[member] = gathered
    return parts


def _shift_outskirts(p, position):
    """Move the outer parts to one side, as tides do."""
    position = position.clone()
    length = p["disk_length"][:, None]
    radius = torch.linalg.vector_norm(position[..., :2], dim=-1)
    far = 1 - torch.exp(-((radius / (3 * length)) ** 2))
    step = far * p["lopsidedness"][:, None] * length
    angle = p["lopsided_angle"][:, None]
    position[..., 0] += step * angle.cos()
    position[..., 1] += step * angle.sin()
    return position


def _populations(p, component, position, generator):
    """Ages and metallicities: by component, with gradients and scatter."""
    radius = torch.linalg.vector_norm(position, dim=-1) / p["size"][:, None]
    dex = radius.clamp(0.05, 5).log10()
    noise = torch.randn(component.shape, generator=generator)
    old, disk = p["spheroid_age"], p["disk_age"]
    middle = torch.stack([old, 1.4 * disk, disk, disk, disk, disk], 1)
    scatter = torch.tensor([0.15, 0.15, 0.35, 0.0, 0.3, 0.2])[component]
    age = middle.gather(1, component) * torch.exp(scatter * noise)
    age = age * 10 ** (p["age_gradient"][:, None] * dex)
    # Stars form at a constant rate until now; the youngest are 3 Myr old.
    fresh = 0.003 + 0.497 * torch.special.ndtr(noise)
    age = torch.where(component == YOUNG, fresh, age.clamp(0.5, OLDEST))
    offset = torch.tensor([0.05, -0.25, 0.0, 0.1, 0.0, -0.1])[component]
    logarithm = offset + p["metallicity_gradient"][:, None] * dex
    metallicity = p["metallicity"][:, None] * 10 ** (logarithm + 0.1 * noise)
    return age, metallicity.clamp(1e-4, 0.04)
