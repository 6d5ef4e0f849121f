# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Recipe of galaxies of stars: a population with name and version, its particles."""

import math

import torch

from galml.mocks import dynamics
from galml.mocks.galaxy import (
    BAR,
    COUNTER,
    GAS,
    SPHEROID,
    THICK,
    THIN,
    YOUNG,
    DustDisk,
    Galaxy,
)
from galml.mocks.gas_disk import build_gas_disk, gas_parameters
from galml.mocks.profiles import (
    disk_surface,
    half_mass_radius,
    interpolate,
    radius_table,
    spheroid_density,
    table_place,
)
from galml.mocks.scaling_relations import gas_mass
from galml.physics.stars import SOLAR_METALLICITY

__all__ = ["SHARES", "STAR_POPULATION", "TYPES", "build_stars", "draw_stars"]

#: Name and version of the recipe that `draw_stars` follows.
STAR_POPULATION = "stars-3"

#: Kinds of galaxies, as ``type`` counts them.
TYPES = (
    "slow elliptical",
    "fast elliptical",
    "lenticular",
    "early spiral",
    "late spiral",
    "dwarf",
)
#: Shares of the types in the population.
SHARES = (0.07, 0.14, 0.23, 0.27, 0.24, 0.05)

#: Half-mass radius along the major axis over the circularized half-light radius of
#: galaxies of that mass, by type, as the images of SDSS ask for.
SIZE_RATIO = (1.05, 1.05, 1.1, 1.3, 1.8, 1.8)
MAX_CLUMPS = 48
#: Mean ratio of the gas to that of galaxies of their mass that form stars, by type, in
#: dex: what the cold gas of early types is, and its scatter, is our choice.
GAS_DEFICIT = (-2.5, -2.0, -1.2, -0.2, 0.0, 0.1)
GAS_SCATTER = 0.3
#: Number of the parts that have stars: all but the gas.
N_PARTS = GAS
#: By part: contrast of the spiral arms, scatter of the natural logarithm of age, and
#: offset of the logarithm of metallicity.
ARM_CONTRAST = (0.9, 0.3, 0.0, 0.0, 1.2, 0.0, 0.0)
AGE_SCATTER = (0.7, 0.15, 0.5, 0.15, 0.0, 0.3, 0.2)
METAL_OFFSET = (0.0, -0.2, 0.0, 0.0, 0.1, 0.0, -0.1)
#: Parts that share one disk: its scale length, and its direction of rotation.
DISK = [THIN, THICK, YOUNG, BAR]
# Increments of the three-dimensional sequence of lowest discrepancy.
GOLDEN = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)
OLDEST = 13.5
#: Oldest of the young stars and of those in clumps, in Gyr.
YOUNG_AGE, CLUMP_AGE = 0.5, 0.15
#: Width of rings (standard deviation over radius); number of shells, and how much more
#: densely particles lie in them.
RING_WIDTH, N_SHELLS, SHELL_DENSITY = 0.1, 3, 30.0


def draw_stars(n, generator, types=None):
    """Draw the parameters of galaxies from the population.

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.
    types : `torch.Tensor`, optional
        Shape (n,), integer: the kinds of the galaxies, indices into ``TYPES``. Drawn
        by default.

    Returns
    -------
    dict of str to `torch.Tensor`
        Each of shape (n,):

        - ``type``: index into ``TYPES``;
        - ``stellar_mass``: in solar masses; ``dark_fraction``: of the halo in the
          mass inside ``size``;
        - ``size``: radius of half the stellar mass face-on, in kpc, along the major
          axis; ``spheroid_radius`` (effective radius) and ``disk_length`` (scale
          length), in kpc, follow from it;
        - ``bulge_fraction``: of the spheroid in the stellar mass; ``sersic_index``,
          ``flattening`` (z over x), ``elongation`` (y over x) of the spheroid;
          ``anisotropy`` (1 - sigma_z^2 / sigma_R^2) and ``rotation`` (1 for an
          isotropic rotator where anisotropy is 0) of its motions;
        - ``disk_height``: scale height z0 of sech^2(z / z0) of the thin disk over
          its length; ``thick_fraction``: of the thick disk in thin and thick disks,
          ``thick_height``: its height over that of the thin disk; ``disk_edge``,
          ``disk_steepness``: break of the disks in scale lengths, and how much
          steeper they fall beyond it;
          ``dispersion_ratio``: sigma_z over sigma_R of disks;
        - ``young_fraction``: of stars younger than 0.5 Gyr in the disks;
        - ``bar_fraction``: in the disks, ``bar_length``: semi-major axis in scale
          lengths, ``bar_ratio``: axis ratio; ``ring_fraction``: of a ring in the
          thin disk and its young stars, ``ring_radius``: in scale lengths;
        - ``counter_fraction``: of a counter-rotating disk in the stellar mass,
          ``counter_length``: its scale length in kpc;
        - ``arm_strength`` (contrast, 0 to 1), ``arm_number``, ``arm_winding``
          (cotangent of the pitch angle), ``arm_phase`` (radians);
        - ``clump_fraction``: of the young stars, ``clump_number``, ``clump_size``:
          in scale lengths;
        - ``lopsidedness``: shift of the outer parts, in scale lengths,
          ``lopsided_angle`` (radians); ``shell_fraction``: of shells in the
          spheroid, ``shell_radius``: of the outermost, in its effective radii;
        - ``spheroid_age``, ``disk_age`` (Gyr), ``age_gradient``: change of log age
          per dex in radius; ``metallicity``: mass fraction at ``size``,
          ``metallicity_gradient``: change of its logarithm per dex;
        - ``dust_depth``: central V optical depth face-on, ``dust_length``,
          ``dust_height``: kpc;
        - ``gas_mass``: solar masses, ``gas_length``: scale length in kpc,
          ``gas_dispersion``: km/s, of the cold gas.
    """

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    def normal(center, spread):
        return center + spread * torch.randn(n, generator=generator)

    if types is None:
        weights = torch.tensor(SHARES)
        types = torch.multinomial(weights, n, replacement=True, generator=generator)

    def by(*values):
        return torch.tensor(values, dtype=torch.float32)[types]

    def sometimes(probability, values):
        chosen = torch.rand(n, generator=generator) < probability
        return torch.where(chosen, values, torch.zeros(n))

    mass = normal(
        by(11.2, 10.8, 10.65, 10.5, 9.9, 9.2), by(0.3, 0.4, 0.4, 0.4, 0.4, 0.3)
    )
    mass = mass.clamp(8.3, 11.9)
    p = {"type": types, "stellar_mass": 10**mass}
    p["size"] = _size(mass, types, generator)
    p["dark_fraction"] = uniform(
        by(0.05, 0.05, 0.1, 0.15, 0.15, 0.3), by(0.35, 0.3, 0.4, 0.55, 0.55, 0.7)
    )
    p["bulge_fraction"] = uniform(
        by(1, 0.7, 0.3, 0.1, 0.03, 0.2), by(1, 1, 0.9, 0.5, 0.2, 0.6)
    )
    p["sersic_index"] = normal(
        by(5.6, 5.2, 4.5, 3.5, 2.2, 1.2), by(0.8, 0.9, 0.9, 0.9, 0.7, 0.3)
    ).clamp(0.6, 6)
    p["flattening"] = normal(
        by(0.78, 0.7, 0.5, 0.5, 0.5, 0.5), by(0.12, 0.15, 0.15, 0.15, 0.15, 0.15)
    ).clamp(by(0.5, 0.4, 0.25, 0.25, 0.25, 0.25), torch.ones(n))
    p["elongation"] = uniform(
        by(0.85, 0.97, 0.95, 0.9, 0.9, 0.7), by(1.0, 1, 1, 1, 1, 1)
    )
    p["anisotropy"] = (1 - p["flattening"]) * uniform(0.2, 0.8)
    p["rotation"] = normal(
        by(0, 0.8, 1.05, 0.95, 0.95, 0.4), by(0.25, 0.3, 0.3, 0.3, 0.3, 0.3)
    ).clamp(-0.5, 1.2)
    p["disk_height"] = torch.exp(
        uniform(
            by(-1.4, -1.8, -2.2, -2.5, -2.6, -1.6),
            by(-0.7, -0.8, -0.9, -1.0, -1.2, -0.5),
        )
    )
    p["thick_fraction"] = uniform(
        by(0.2, 0.1, 0.05, 0.0, 0.0, 0.3), by(0.6, 0.6, 0.7, 0.55, 0.5, 0.8)
    )
    p["thick_height"] = uniform(1.7, 3)
    p["disk_edge"] = uniform(2, 5)
    p["disk_steepness"] = uniform(1, by(1, 1, 1.2, 2, 3.5, 2.5))
    p["dispersion_ratio"] = uniform(0.55, by(0.85, 0.85, 0.8, 0.9, 0.9, 0.9))
    young = torch.exp(normal(0, 0.8)) * by(1e-4, 5e-4, 0.004, 0.02, 0.055, 0.06)
    p["young_fraction"] = young.clamp(max=0.2)
    p["bar_fraction"] = sometimes(by(0, 0, 0.3, 0.4, 0.35, 0.2), uniform(0.05, 0.25))
    p["bar_length"] = uniform(0.7, 1.6)
    p["bar_ratio"] = uniform(0.25, 0.6)
    p.update(_substructure(by, uniform, sometimes))

    # Sizes of the parts in proportion, then all scaled to the size of the whole.
    ratio = torch.exp(normal(by(0.0, 0.0, -1.4, -2.0, -1.8, -0.2), 0.45)).clamp(0.06, 2)
    length = half_mass_radius(
        p["bulge_fraction"],
        1.678 * ratio,
        p["sersic_index"],
        torch.ones(n),
        p["disk_edge"],
        p["disk_steepness"],
    )
    p["disk_length"] = p["size"] / length
    p["spheroid_radius"] = 1.678 * ratio * p["disk_length"]
    core = types <= 1
    p["counter_length"] = torch.where(
        core, uniform(0.05, 0.25) * p["size"], uniform(0.4, 1.1) * p["disk_length"]
    )
    p.update(_ages(mass, by, uniform, normal))
    # Some early types have dust in their middle alone.
    lane = sometimes(by(0.1, 0.1, 0.15, 0, 0, 0), uniform(0.5, 2))
    depth = torch.exp(normal(0, 0.5)) * by(0.03, 0.08, 0.3, 1.2, 1.2, 0.4)
    p["dust_depth"] = depth.maximum(lane)
    p["dust_length"] = p["disk_length"] * torch.where(
        lane > 0, uniform(0.15, 0.5), uniform(1.1, 1.8)
    )
    p["dust_height"] = 0.4 * p["disk_height"] * p["disk_length"]
    noise = torch.randn(3, n, generator=generator).clamp(-2.5, 2.5)
    gas = gas_mass(mass) + by(*GAS_DEFICIT) + GAS_SCATTER * noise[2]
    return p | gas_parameters(gas, p["disk_length"], noise[:2])


def _size(mass, types, generator):
    """Draw half-light radii by mass, in kpc (Shen et al. 2003, MNRAS 343, 978)."""
    stars = 10**mass
    early = 2.88e-6 * stars**0.56
    late = 0.1 * stars**0.14 * (1 + stars / 3.98e10) ** 0.25
    spread = 0.34 + 0.13 / (1 + (stars / 3.98e10) ** 2)
    # Relations of circularized radii; early ones hold above 10^10 solar masses.
    size = torch.where(types <= 2, early.maximum(0.6 * late), late)
    scatter = spread * torch.randn(len(mass), generator=generator)
    return torch.tensor(SIZE_RATIO)[types] * size * torch.exp(scatter)


def _substructure(by, uniform, sometimes):
    """Draw arms, rings, clumps, shells, counter-rotating and lopsided parts."""
    arms = uniform(0.5, 1.0)
    counter = sometimes(
        by(0.25, 0.06, 0.1, 0.02, 0.0, 0.0),
        uniform(by(0.03, 0.03, 0.1, 0.1, 0, 0), by(0.2, 0.2, 0.5, 0.4, 0, 0)),
    )
    return {
        "arm_strength": sometimes(by(0, 0, 0.05, 0.85, 0.9, 0.2), arms),
        # Half of them with two arms.
        "arm_number": torch.floor(uniform(1, 5)).clamp(2, 4),
        # Pitch angles of 12 to 35 degrees (Savchenko & Reshetnikov 2013).
        "arm_winding": uniform(by(2, 2, 2, 2, 1.4, 1), by(5, 5, 5, 4.7, 4, 3)),
        "arm_phase": uniform(0, 2 * math.pi),
        "ring_fraction": sometimes(by(0, 0, 0.15, 0.25, 0.15, 0), uniform(0.05, 0.35)),
        "ring_radius": uniform(0.8, 2.5),
        "shell_fraction": sometimes(by(0.15, 0.1, 0.03, 0, 0, 0), uniform(0.02, 0.1)),
        "shell_radius": uniform(1.5, 4),
        "counter_fraction": counter,
        "clump_fraction": uniform(
            by(0, 0, 0, 0.05, 0.1, 0.15), by(0, 0, 0.1, 0.25, 0.4, 0.5)
        ),
        "clump_number": uniform(8, MAX_CLUMPS),
        "clump_size": uniform(0.03, 0.1),
        "lopsidedness": sometimes(by(0.1, 0.1, 0.15, 0.3, 0.4, 0.5), uniform(0, 0.5)),
        "lopsided_angle": uniform(0, 2 * math.pi),
    }


def _ages(mass, by, uniform, normal):
    """Draw ages, and metallicities by mass (Gallazzi et al. 2005, MNRAS 362, 41)."""
    solar = -0.62 + 0.76 * torch.sigmoid((mass - 10.08) / 0.25)
    old = torch.exp(normal(0, 0.3)) * by(10.5, 9.5, 7.5, 3, 1.2, 1.5)
    disk = torch.exp(normal(0, 0.35)) * by(9, 8, 6, 5, 4, 2.5)
    return {
        "spheroid_age": old.clamp(0.7, 13),
        "disk_age": disk.clamp(0.8, 12),
        "age_gradient": normal(0, 0.08),
        "metallicity": SOLAR_METALLICITY * 10 ** normal(solar, 0.12),
        "metallicity_gradient": normal(by(-0.2, -0.2, -0.15, -0.1, -0.1, -0.05), 0.1),
    }


def build_stars(p, n_particles, generator, *, n_gas=None):
    """Turn parameters into particles, face-on: the disk lies in z = 0, spin along +z.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, as `draw_stars` returns them.
    n_particles : int
        Number of particles of stars in each galaxy.
    generator : `torch.Generator`
        Source of all randomness.
    n_gas : int, optional
        Number of particles of gas; 0 for none. By default a quarter of those of stars.
        The stars are the same whatever it is.

    Returns
    -------
    `~galml.mocks.Galaxy`
        Particles of one component of one galaxy have equal mass. The gas is a disk as
        cold as ``gas_dispersion`` says, on the spiral arms, in the same gravity.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, draw_stars
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> galaxy.stars.position.shape, galaxy.gas.position.shape
    (torch.Size([2, 4000, 3]), torch.Size([2, 1000, 3]))
    """
    n = len(p["size"])
    fraction = _fractions(p)
    component, inside, count = _membership(fraction, n_particles)
    own = fraction * p["stellar_mass"][:, None]
    shift = torch.rand(3, n, 1, generator=generator)
    spots = torch.rand(n, MAX_CLUMPS, generator=generator)
    steps = torch.arange(n_particles).double() * torch.tensor(GOLDEN).double()[:, None]
    u = ((steps % 1).float()[:, None] + shift) % 1

    parts = torch.empty(n, n_particles, 10)
    row = torch.arange(n)[:, None].expand(n, n_particles)
    gravity = dynamics.circular_speed2(
        p, torch.stack([own[:, SPHEROID], own[:, DISK].sum(1), own[:, COUNTER]], 1)
    )
    surface = _surface(p, own)
    is_round = component == SPHEROID
    parts[is_round] = _spheroid(
        p,
        row[is_round],
        inside[is_round],
        u[:, is_round],
        gravity[0],
        count[:, SPHEROID],
    )
    flat = ~is_round
    parts[flat] = _disk(
        p,
        row[flat],
        component[flat],
        inside[flat],
        u[:, flat],
        (*gravity, surface),
        count,
    )
    parts = _clump(p, component, parts, u[0], spots, generator)
    position, velocity, dispersion, spacing = parts.split((3, 3, 3, 1), -1)
    position = _shift_outskirts(p, position)
    age, metallicity = _populations(p, component, position, u[0], generator)
    mass = (own / count.clamp_min(1e-9)).gather(1, component)
    particles = {
        "position": position,
        "velocity": velocity,
        "mass": mass,
        "dispersion": dispersion,
        "spacing": spacing[..., 0],
        "component": component.to(torch.int8),
    }
    n_gas = n_particles // 4 if n_gas is None else n_gas
    if n_gas:
        gas = _gas(p, gravity, surface, n_gas, generator)
        particles = {
            key: torch.cat([value, gas[key]], 1) for key, value in particles.items()
        }
    dust = DustDisk(p["dust_depth"], p["dust_length"], p["dust_height"])
    return Galaxy(**particles, age=age, metallicity=metallicity, dust=(dust,))


def _fractions(p):
    """Find the shares of the components in the stellar mass, shape (n, 7)."""
    counter = p["counter_fraction"]
    spheroid = p["bulge_fraction"] * (1 - counter)
    disk = (1 - spheroid - counter).clamp_min(0)
    rest = 1 - p["young_fraction"] - p["bar_fraction"]
    thick = rest * p["thick_fraction"]
    shares = torch.zeros(len(disk), N_PARTS)
    shares[:, SPHEROID], shares[:, COUNTER] = spheroid, counter
    shares[:, THIN], shares[:, THICK] = disk * (rest - thick), disk * thick
    shares[:, YOUNG] = disk * p["young_fraction"]
    shares[:, BAR] = disk * p["bar_fraction"]
    return shares


def _surface(p, own):
    """Sum the surface densities of the disks on the grid of radii, shape (n, m)."""
    radius = dynamics.radius_grid(p["size"])
    length, other = p["disk_length"][:, None], p["counter_length"][:, None]
    main = own[:, DISK].sum(1, keepdim=True) * torch.exp(-radius / length) / length**2
    counter = own[:, COUNTER, None] * torch.exp(-radius / other) / other**2
    return (main + counter) / (2 * math.pi)


def _gas(p, gravity, surface, n_gas, generator):
    """Build the particles of gas, on the spiral arms and shifted as the stars."""
    shift = torch.rand(len(surface), 2, generator=generator)
    contrast = torch.tensor(ARM_CONTRAST[YOUNG])

    def wind(radius, turn):
        row = torch.arange(len(radius))[:, None]
        return _wind(p, row, contrast, radius / p["disk_length"][:, None], turn)

    position, velocity, mass, dispersion, spacing = build_gas_disk(
        p, gravity, surface, n_gas, shift, wind
    )
    return {
        "position": _shift_outskirts(p, position),
        "velocity": velocity,
        "mass": mass,
        "dispersion": dispersion[..., None].expand(-1, -1, 3),
        "spacing": spacing,
        "component": torch.full_like(mass, GAS, dtype=torch.int8),
    }


def _membership(fraction, n_particles):
    """Find each particle's component and rank in it, and particles per component.

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
    """Build positions, motions and spacing of the spheroid, shape (N, 10)."""
    index, flattening = p["sersic_index"][row], p["flattening"][row]
    radius = interpolate(radius_table(p["sersic_index"]), row, table_place(inside))
    radius = radius[:, 0].exp()
    cosine, azimuth = 1 - 2 * u[1], 2 * math.pi * u[2]
    plane, height = radius * (1 - cosine**2).sqrt(), radius * cosine * flattening
    density = count[row] * spheroid_density(radius, index) / flattening
    x, y = plane * azimuth.cos(), plane * azimuth.sin()
    shell = u[0] > 1 - p["shell_fraction"][row]
    x[shell], y[shell], height[shell] = _shells(
        p, row[shell], inside[shell], u[1:, shell]
    )
    density[shell] *= SHELL_DENSITY
    plane = torch.hypot(x, y)
    motions = dynamics.spheroid_motions(p, total)
    motions = dynamics.plane_values(motions, row, plane, height)
    scale = p["spheroid_radius"][row, None]
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


def _shells(p, row, inside, u):
    """Place particles in shells: caps on alternate sides, each nearer than the last."""
    number = torch.floor(N_SHELLS * ((7 * inside) % 1))
    cosine = 1 - 0.25 * u[0]
    # Sharp on the outside.
    radius = (
        p["shell_radius"][row] * 0.75**number * (1 - 0.15 * ((31 * inside) % 1) ** 2)
    )
    side = 1 - 2 * (number % 2)
    across = radius * (1 - cosine**2).sqrt()
    angle = 2 * math.pi * u[1]
    return side * radius * cosine, across * angle.cos(), across * angle.sin()


def _around(x, y, speed):
    """Find the velocity of rotation about the z axis."""
    rate = speed / torch.hypot(x, y).clamp_min(1e-9)
    return torch.stack([-y * rate, x * rate, torch.zeros_like(x)], -1)


def _disk(p, row, component, inside, u, gravity, count):
    """Build positions, motions and spacing of the disks, shape (N, 10)."""
    length = p["disk_length"][:, None].repeat(1, N_PARTS)
    length[:, COUNTER] = p["counter_length"]
    height = p["disk_height"][:, None] * length
    height[:, THICK] *= p["thick_height"]
    height[:, YOUNG] *= 0.5
    scale, thickness = length[row, component], height[row, component]
    table = radius_table(edge=p["disk_edge"], steepness=p["disk_steepness"])
    radius = interpolate(table, row, table_place(inside))[:, 0].exp() * scale
    ring = (component == THIN) | (component == YOUNG)
    ring &= u[0] > 1 - p["ring_fraction"][row]
    wide = 1 + RING_WIDTH * torch.special.ndtri((7 * inside) % 1).clamp(-3, 3)
    radius = torch.where(ring, p["ring_radius"][row] * wide * scale, radius)
    turn = 2 * math.pi * u[1]
    bar = component == BAR
    # A Ferrers bar of index 1 in projection; disks have spiral arms.
    reach = (1 - (1 - inside) ** 0.4).sqrt() * (p["bar_length"][row] * scale)
    contrast = torch.tensor(ARM_CONTRAST)[component]
    azimuth = _wind(p, row, contrast, radius / scale, turn)
    x = torch.where(bar, reach * turn.cos(), radius * azimuth.cos())
    y = torch.where(
        bar, reach * turn.sin() * p["bar_ratio"][row], radius * azimuth.sin()
    )
    radius = torch.hypot(x, y)
    level = u[2].clamp(1e-6, 1 - 1e-6)
    z = 0.5 * thickness * (level.log() - (-level).log1p())

    tables = _disk_tables(p, gravity, length, height)
    place = dynamics.grid_place(radius.clamp_min(1e-9), p["size"][row])
    motions = interpolate(tables, row * N_PARTS + component, place)
    # Mean surface density, as if without arms, over the height of sech^2.
    edge, steepness = p["disk_edge"][row], p["disk_steepness"][row]
    surface = disk_surface(radius / scale, edge, steepness) / scale**2
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
    """Find the motions of flat components on the grid of radii, (N_PARTS n, m, 4)."""
    total, smooth, surface = gravity
    radius = dynamics.radius_grid(p["size"])
    ratio = p["dispersion_ratio"][:, None]
    tables = torch.zeros(len(radius), N_PARTS, radius.shape[1], 4)
    for part in (THIN, THICK, YOUNG, COUNTER):
        own = length[:, part, None], height[:, part, None]
        tables[:, part] = dynamics.disk_motions(
            radius, total, smooth, surface, *own, ratio
        )
    tables[:, COUNTER, :, 0] *= -1
    bar = p["bar_length"] * p["disk_length"]
    tables[:, BAR] = dynamics.bar_motions(radius, total, bar[:, None])
    return tables.flatten(0, 1)


def _wind(p, row, contrast, radius, turn):
    """Shift azimuths towards logarithmic spiral arms; radii are in scale lengths."""
    number = p["arm_number"][row]
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


def _populations(p, component, position, u, generator):
    """Draw ages and metallicities by component, with gradients and scatter."""
    radius = torch.linalg.vector_norm(position, dim=-1) / p["size"][:, None]
    dex = radius.clamp(0.05, 5).log10()
    noise = torch.randn(component.shape, generator=generator)
    old, disk = p["spheroid_age"], p["disk_age"]
    typical = torch.stack([disk, 1.4 * disk, old, old, disk, disk, disk], 1)
    scatter = torch.tensor(AGE_SCATTER)[component]
    age = typical.gather(1, component) * torch.exp(scatter * noise)
    age = age * 10 ** (p["age_gradient"][:, None] * dex)
    # Stars form at a constant rate until now; the youngest are 3 Myr old, and clumps
    # do not last.
    span = torch.where(u < p["clump_fraction"][:, None], CLUMP_AGE, YOUNG_AGE)
    fresh = 0.003 + span * torch.special.ndtr(noise)
    age = torch.where(component == YOUNG, fresh, age.clamp(0.5, OLDEST))
    offset = torch.tensor(METAL_OFFSET)[component]
    logarithm = offset + p["metallicity_gradient"][:, None] * dex
    metallicity = p["metallicity"][:, None] * 10 ** (logarithm + 0.1 * noise)
    return age, metallicity.clamp(1e-4, 0.04)
