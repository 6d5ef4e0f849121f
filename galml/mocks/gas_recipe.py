# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Recipe of gas disks: a population with name and version, and its particles."""

import math

import torch

from galml.mocks.dynamics import with_drift
from galml.mocks.galaxy import Galaxy

__all__ = [
    "CURVES",
    "PLAIN_SHARE",
    "POPULATION",
    "build_gas",
    "circular_speed",
    "draw_gas",
]

#: Name and version of the recipe that `draw_gas` follows.
POPULATION = "gas-3"

#: Share of disks of gas that do nothing but rotate, and what these do not have.
PLAIN_SHARE = 0.25
DISORDER = (
    "hole", "ring", "arms", "bar", "radial_flow", "warp", "turbulence", "clumps",
    "clump_motion", "second", "second_fraction", "second_flow", "second_tilt",
    "satellite_fraction", "drift", "dispersion_fall", "flattening",
)  # fmt: skip
N_MODES = 14
N_PROFILE = 64
# Increments of the two-dimensional sequence of lowest discrepancy: it covers a disk
# with a quarter of the shot noise of random points.
GOLDEN = (0.7548776662466927, 0.5698402909980532)


def arctan(radius, speed, turnover, sharpness):
    """Rise to ``speed`` as an arctangent (Courteau 1997, AJ 114, 2402)."""
    return speed * (2 / torch.pi) * torch.arctan(radius / turnover)


def courteau(radius, speed, turnover, sharpness):
    """Rise to ``speed`` without decline (Courteau 1997, multi-parameter function)."""
    ratio = turnover / radius.clamp_min(1e-9)
    return speed / (1 + ratio**sharpness) ** (1 / sharpness)


def cored(radius, speed, turnover, sharpness):
    """Rise to ``speed`` with a core: in a pseudo-isothermal potential."""
    return speed * radius / torch.sqrt(radius**2 + turnover**2)


#: Rotation curves, as ``curve`` counts them.
CURVES = (arctan, courteau, cored)


def circular_speed(radius, kind, speed, turnover, sharpness):
    """Evaluate for each galaxy the curve that it has.

    Parameters
    ----------
    radius : `torch.Tensor`
        Shape (n, N).
    kind : `torch.Tensor`
        Shape (n,), index into ``CURVES``.
    speed, turnover, sharpness : `torch.Tensor`
        Shape (n,): asymptotic speed, turnover radius in the unit of ``radius``, and
        the sharpness of the turnover (Courteau's curve only).

    Returns
    -------
    `torch.Tensor`
        Shape (n, N), in the unit of ``speed``.
    """
    result = torch.empty_like(radius)
    for index, curve in enumerate(CURVES):
        rows = kind == index
        result[rows] = curve(
            radius[rows],
            speed[rows, None],
            turnover[rows, None],
            sharpness[rows, None],
        )
    return result


def draw_gas(n, generator, *, hot=False, plain=PLAIN_SHARE):
    """Draw the parameters of galaxies from the population.

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.
    hot : bool
        Draw dispersions in units of the speed, as those of stars are. By default they
        are those of gas anywhere, from cold clouds to the hot gas of early types.
    plain : float
        Share of the galaxies that are thin disks in nothing but rotation, of any curve
        and dispersion: what looks most ordered is not always cold.

    Returns
    -------
    dict of str to `torch.Tensor`
        Each of shape (n, ...). Lengths are in units of the gas radius, which is
        ``radius`` kpc; speeds are in km/s, or fractions of ``speed`` where the
        population docs page says so; angles are in radians.
    """

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    def power(low, high, *shape):
        return 10 ** uniform(low, high, *shape)

    def chance(probability):
        return torch.rand(n, generator=generator) < probability

    def sometimes(probability, values):
        return torch.where(chance(probability), values, torch.zeros(n))

    def choose(weights):
        weights = torch.tensor(weights)
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    p = {
        "radius": power(0.5, 1.5),
        "curve": torch.randint(len(CURVES), (n,), generator=generator),
        "speed": power(1.5, 2.6),
        "turnover": power(-1.6, -0.4),
        "sharpness": uniform(1, 4),
        "scale_length": uniform(0.2, 0.8),
        "hole": sometimes(0.2, uniform(0.1, 0.5)),
        "ring": sometimes(0.15, uniform(0.3, 0.9)),
        "thickness": power(-2, -0.7),
        "dispersion_fall": sometimes(0.5, uniform(0, 1.5)),
        "drift": sometimes(0.5, torch.ones(n)),
        "flattening": sometimes(0.6, uniform(0, 0.5)),
        "arms": sometimes(0.4, uniform(0.2, 0.8)),
        "arm_number": choose([1.0, 2.0, 1.0]) + 1.0,
        "arm_pitch": uniform(2, 8),
        "phases": uniform(0, 2 * math.pi, 6),
        "bar": sometimes(0.25, uniform(0.05, 0.4)),
        "bar_radius": uniform(0.15, 0.6),
        "radial_flow": sometimes(0.2, uniform(-0.2, 0.2)),
        "warp": sometimes(0.25, uniform(0.05, 0.6)),
        "warp_start": uniform(0.2, 0.7),
        "warp_twist": uniform(-2, 2),
        "turbulence": power(-1.5, 0.35),
        "clumps": sometimes(0.4, uniform(0.3, 1)),
        "clump_number": uniform(12, 90),
        "clump_size": uniform(0.02, 0.08),
        "clump_motion": sometimes(0.7, uniform(0.1, 1.6)),
        "wave_length": power(-0.95, -0.1, N_MODES),
        "wave_direction": torch.randn(n, 3, N_MODES, generator=generator),
        "wave_amplitude": torch.randn(n, N_MODES, 3, generator=generator),
        "wave_phase": uniform(0, 2 * math.pi, N_MODES),
    }
    # A map of velocities alone does not tell the dispersion of a smooth disk: the prior
    # does, which is therefore flat in the logarithm. Gas has 3 to 200 km/s, from cold
    # clouds (Davis et al. 2017, MNRAS 468, 4675) over H I and CO (Mogotsi et al. 2016,
    # AJ 151, 15) and what stars and shocks heat (Wisnioski et al. 2015, ApJ 799, 209)
    # to early types (Sarzi et al. 2006, MNRAS 366, 1151). Stars are as hot as their
    # gravity lets them be.
    p["dispersion"] = p["speed"] * power(-1.0, 0.4) if hot else power(0.5, 2.3)
    if hot:
        # Stars keep dispersions that differ along R, phi and z; of mean square 1 here.
        radial = torch.ones(n)
        axes = torch.stack([radial, uniform(0.6, 1.1), uniform(0.5, 1.1)], 1)
        p["ellipsoid"] = axes / (axes**2).mean(1, keepdim=True).sqrt()
    # Strong in- and outflows, alone able to bring kappa below one third.
    flow = power(-0.5, 0.8) * torch.where(chance(0.7), -1.0, 1.0)
    p["radial_flow"] = torch.where(chance(0.05), flow, p["radial_flow"])
    # A second component: none, counter-rotating, misaligned disk, stream on infall.
    p["second"] = second = choose([0.76, 0.05, 0.1, 0.09])
    p["second_fraction"] = torch.where(second > 0, uniform(0.1, 0.6), torch.zeros(n))
    p["second_radius"] = uniform(0.2, 0.9)
    p["second_width"] = uniform(0.05, 0.3)
    p["second_arc"] = torch.where(second == 3, uniform(0.2, 1), torch.ones(n))
    p["second_flow"] = torch.where(second == 3, -uniform(0, 1.2), torch.zeros(n))
    p["second_tilt"] = torch.where(
        second == 1, torch.full((n,), math.pi), torch.arccos(uniform(-1, 1))
    ) * (second > 0)
    # A satellite on infall.
    p["satellite_fraction"] = sometimes(0.11, uniform(0.05, 0.4))
    p["satellite_place"] = torch.nn.functional.normalize(
        torch.randn(n, 3, generator=generator), dim=-1
    ) * uniform(0.3, 0.9, 1)
    p["satellite_size"] = uniform(0.04, 0.15)
    p["satellite_flow"] = uniform(0, 1.6)
    p["satellite_orbit"] = torch.randn(n, 3, generator=generator) * 0.4
    p["satellite_spin"] = torch.randn(n, 3, generator=generator) * 0.4
    if plain:
        kept = ~chance(plain)
        p |= {name: p[name] * kept for name in DISORDER}
        # Of these the map tells nothing else: both ends of the prior must lie beyond
        # what is met.
        smooth = torch.where(chance(0.4), uniform(20, 200), power(0.3, 2.3))
        p["dispersion"] = torch.where(kept, p["dispersion"], smooth)
    return p


def build_gas(p, n_particles, generator):
    """Turn parameters into particles, face-on: the disk lies in the plane z = 0.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, as `draw_gas` returns them.
    n_particles : int
        Number of particles of each galaxy.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `~galml.mocks.Galaxy`
        Of gas alone, in particles of equal mass, of total mass 1.
    """
    n = len(p["radius"])
    shape = (n, n_particles)
    second, satellite = _membership(p, n_particles)
    radius, azimuth, arc_azimuth = _disk_positions(p, n_particles, generator)
    second_radius = (
        p["second_radius"][:, None]
        + p["second_width"][:, None] * torch.randn(shape, generator=generator)
    ).clamp(0.01, 1.0)
    radius = torch.where(second, second_radius, radius)
    azimuth = torch.where(second, arc_azimuth, azimuth)
    height = _thickness(p)[:, None] * torch.randn(shape, generator=generator)
    position = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), height], -1)
    dispersion = _dispersion(p, radius)
    velocity = _streaming(p, radius, azimuth, second, dispersion)
    position, velocity = _warp(p, radius, second, position, velocity)
    position, velocity = _tilt_second(p, second, position, velocity)
    position, velocity = _clump(p, satellite, position, velocity, generator)
    position, velocity = _satellite(p, satellite, position, velocity, generator)
    velocity = velocity + _turbulence(p, position)
    if "ellipsoid" in p:
        dispersion = dispersion[..., None] * p["ellipsoid"][:, None]
    return Galaxy(
        position * p["radius"][:, None, None],
        velocity,
        torch.full(shape, 1 / n_particles),
        dispersion,
    )


def _membership(p, n_particles):
    """Tell which particles belong to the second component and to the satellite."""
    rank = (torch.arange(n_particles) + 0.5) / n_particles
    satellite = rank >= 1 - p["satellite_fraction"][:, None]
    main = 1 - p["satellite_fraction"] - p["second_fraction"]
    return (rank >= main[:, None]) & ~satellite, satellite


def _thickness(p):
    """Scale height: disorder puffs a disk up to a spheroid."""
    disorder = torch.maximum(p["turbulence"], p["clump_motion"]).clamp(0, 1)
    hot = p["flattening"] * (p["dispersion"] / p["speed"]).clamp(0, 1)
    return torch.maximum(p["thickness"], torch.maximum(0.4 * disorder, hot))


def _dispersion(p, radius):
    """Dispersion of the disk, which is the same everywhere or falls exponentially."""
    return p["dispersion"][:, None] * torch.exp(-p["dispersion_fall"][:, None] * radius)


def _disk_positions(p, n_particles, generator):
    """Sample radius and azimuth of the disk by its profile and spiral arms."""
    n = len(p["radius"])
    shift = torch.rand(n, 2, 1, generator=generator)
    steps = torch.arange(n_particles) * torch.tensor(GOLDEN)[:, None]
    u = (steps.double() % 1).float() + shift
    u = u % 1
    edges = torch.linspace(0, 1, N_PROFILE + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    density = torch.exp(-middle / p["scale_length"][:, None])
    ring = torch.exp(-0.5 * ((middle - p["ring"][:, None]) / 0.08) ** 2)
    density = torch.where(p["ring"][:, None] > 0, ring + 0.1 * density, density)
    density = density * (middle >= p["hole"][:, None])
    mass = torch.cumsum(density * middle, 1)
    mass = torch.cat([torch.zeros(n, 1), mass / mass[:, -1:]], 1)
    place = torch.searchsorted(mass, u[:, 0].contiguous(), right=True)
    place = place.clamp(1, N_PROFILE)
    low, high = mass.gather(1, place - 1), mass.gather(1, place)
    fraction = ((u[:, 0] - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    radius = (place - 1 + fraction) / N_PROFILE

    turn = 2 * math.pi * u[:, 1]
    number, phases = p["arm_number"][:, None], p["phases"]
    winding = p["arm_pitch"][:, None] * torch.log(radius.clamp_min(1e-3))
    azimuth = turn + p["arms"][:, None] / number * torch.sin(
        number * turn - winding + phases[:, :1]
    )
    return radius, azimuth, turn * p["second_arc"][:, None] + phases[:, 1:2]


def _streaming(p, radius, azimuth, second, dispersion):
    """Ordered motion in the plane: rotation, bar, radial flow."""
    speed = circular_speed(
        radius, p["curve"], p["speed"], p["turnover"], p["sharpness"]
    )
    # Asymmetric drift of an exponential disk of self-gravitating gas (Burkert et al.
    # 2010, ApJ 725, 2324), and of its falling dispersion. Without it, the curve is what
    # is left of a circular speed that rises as the drift does.
    decline = p["drift"] * (1 / p["scale_length"] + p["dispersion_fall"])
    pressure = 2 * decline[:, None] * radius * dispersion**2
    rotation = torch.where(second, speed, with_drift(speed**2, pressure))

    bar = (p["bar"][:, None] * speed) * torch.exp(
        -((radius / p["bar_radius"][:, None]) ** 4)
    )
    angle = 2 * (azimuth - p["phases"][:, 2:3])
    flow = torch.where(second, p["second_flow"][:, None], p["radial_flow"][:, None])
    radial = flow * speed - bar * angle.sin() * ~second
    rotation = rotation - bar * angle.cos() * ~second
    cosine, sine = azimuth.cos(), azimuth.sin()
    return torch.stack(
        [
            radial * cosine - rotation * sine,
            radial * sine + rotation * cosine,
            torch.zeros_like(radial),
        ],
        -1,
    )


def _rotate_about_plane_axis(vectors, node, angle):
    """Rotate vectors about an axis in the plane z = 0 (Rodrigues' formula)."""
    x, y, z = vectors.unbind(-1)
    kx, ky, cosine, sine = node.cos(), node.sin(), angle.cos(), angle.sin()
    along = (kx * x + ky * y) * (1 - cosine)
    return torch.stack(
        [
            x * cosine + ky * z * sine + kx * along,
            y * cosine - kx * z * sine + ky * along,
            z * cosine + (kx * y - ky * x) * sine,
        ],
        -1,
    )


def _warp(p, radius, second, position, velocity):
    """Tilt the rings beyond a radius more and more, with a twisting line of nodes."""
    start = p["warp_start"][:, None]
    outside = ((radius - start) / (1 - start)).clamp(0, 1) * ~second
    angle = p["warp"][:, None] * outside
    node = p["phases"][:, 3:4] + p["warp_twist"][:, None] * outside
    return (
        _rotate_about_plane_axis(position, node, angle),
        _rotate_about_plane_axis(velocity, node, angle),
    )


def _tilt_second(p, second, position, velocity):
    """Give the second component its own plane."""
    angle = p["second_tilt"][:, None] * second
    node = p["phases"][:, 4:5].expand_as(angle)
    return (
        _rotate_about_plane_axis(position, node, angle),
        _rotate_about_plane_axis(velocity, node, angle),
    )


def _clump(p, satellite, position, velocity, generator):
    """Gather a part of the gas into clumps that move together."""
    n, n_particles = satellite.shape
    draw = torch.rand(n, n_particles, generator=generator)
    member = (draw < p["clumps"][:, None]) & ~satellite
    which = torch.rand(n, n_particles, generator=generator) * p["clump_number"][:, None]
    # The particle at the center of a clump is one of the whole disk.
    stride = n_particles // 96
    center = (which.long() * stride).clamp(max=n_particles - 1)
    index = center[..., None].expand(-1, -1, 3)
    motion = torch.randn(n, 96, 3, generator=generator)
    motion = motion.gather(1, which.long().clamp(max=95)[..., None].expand(-1, -1, 3))
    bulk = motion * (p["clump_motion"] * p["speed"] / math.sqrt(2))[:, None, None]
    offset = torch.randn(position.shape, generator=generator)
    offset = offset * p["clump_size"][:, None, None]
    member = member[..., None]
    return (
        torch.where(member, position.gather(1, index) + offset, position),
        torch.where(member, velocity.gather(1, index) + bulk, velocity),
    )


def _satellite(p, satellite, position, velocity, generator):
    """Place a small rotating companion that falls in."""
    offset = torch.randn(position.shape, generator=generator)
    offset = offset * p["satellite_size"][:, None, None]
    spin = torch.linalg.cross(
        p["satellite_spin"][:, None].expand_as(offset),
        offset / p["satellite_size"][:, None, None],
    )
    inward = -torch.nn.functional.normalize(p["satellite_place"], dim=-1)
    bulk = inward * p["satellite_flow"][:, None] + p["satellite_orbit"]
    place = p["satellite_place"][:, None] + offset
    motion = (bulk[:, None] + spin) * p["speed"][:, None, None]
    member = satellite[..., None]
    return torch.where(member, place, position), torch.where(member, motion, velocity)


def _turbulence(p, position):
    """Evaluate a random velocity field made of plane waves at the particles."""
    direction = torch.nn.functional.normalize(p["wave_direction"], dim=1)
    wave = 2 * math.pi * direction / p["wave_length"][:, None]
    phase = position @ wave + p["wave_phase"][:, None]
    strength = p["turbulence"] * p["speed"] * math.sqrt(2 / N_MODES)
    return torch.cos(phase) @ (p["wave_amplitude"] * strength[:, None, None])
