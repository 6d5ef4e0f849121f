# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Recipe of galaxies that meet and merge."""

import math
from dataclasses import dataclass, replace

import torch

from galml.core.exceptions import InputError
from galml.mocks import dynamics
from galml.mocks.galaxy import (
    COMPONENTS,
    GAS,
    SPHEROID,
    YOUNG,
    Batch,
    DustDisk,
    Galaxy,
    random_orientation,
    rotation_matrix,
)
from galml.mocks.lookalikes import LENGTHS, draw_clumpy
from galml.mocks.merger_dynamics import (
    KPC_PER_GYR,
    STEP,
    Gravity,
    Orbit,
    approach,
    follow,
    grid,
    grid_place,
    move_particles,
)
from galml.mocks.star_recipe import build_stars, draw_stars

__all__ = [
    "MERGER_POPULATION",
    "STAGES",
    "MergerTruth",
    "build_mergers",
    "draw_mergers",
]

#: Name and version of the recipe that `draw_mergers` follows.
MERGER_POPULATION = "mergers-1"

#: Stages of a merger, as ``stage`` counts them, and how many snapshots are of each.
STAGES = ("first passage", "between", "coalescence", "post-merger")
STAGE_SHARES = (0.2, 0.2, 0.15, 0.45)
#: The first lasts so long after the galaxies were nearest, coalescence so long before
#: and after it, and they are looked at until so long after it; in Gyr.
PASSAGE, COALESCENCE, LATEST = 0.2, 0.1, 1.5
#: Shares of the types of galaxies that meet.
TYPE_SHARES = (0.03, 0.07, 0.15, 0.35, 0.38, 0.02)
#: Galaxies are one when they stay closer than this times the primary's half-mass
#: radius.
REACH = 0.4
#: Encounters that last longer, from start to coalescence, are left out; in Gyr.
LONGEST = 3.5
#: Halos end at this times the half-mass radius of the stars.
HALO_EDGE = 30.0
#: How lengths and gas of a galaxy grow with the mass of its stars.
SIZE_SLOPE, GAS_SLOPE = 0.3, 0.54
#: What galaxies that meet have not, as it would wind up or is for tides to make.
ABSENT = (
    "bar_fraction",
    "ring_fraction",
    "shell_fraction",
    "lopsidedness",
    "arm_strength",
    "counter_fraction",
)
#: Share of the particles that each of two or three galaxies gets.
PARTICLES = {2: (0.6, 0.4), 3: (0.45, 0.3, 0.25)}
#: Gas that flows in loses its motion at this rate, in 1/Gyr, around coalescence and
#: less so after the first passage, for about so long, in Gyr.
SINK_RATE, SINK_TIME = 14.0, 0.1
FIRST_SINK = 0.25
#: Stars go along with their center where frequency times `STEP` is larger: no tide acts
#: as fast, and steps would not resolve their motion.
FAST = 0.35
#: The dust of a remnant is higher than that of its galaxies by this times its height.
STIRRED = 4.0
#: Clumps of young stars become fewer after coalescence, over so many Gyr.
CLUMP_LIFE = 0.3
#: Share of the stars of the burst that form after the first passage.
EARLY_BURST = 0.2


def draw_mergers(n, generator, *, n_galaxies=2, snapshots=1, clumpy=0.0):
    """Draw encounters of galaxies that end in a merger.

    Parameters
    ----------
    n : int
        Number of encounters.
    generator : `torch.Generator`
        Source of all randomness.
    n_galaxies : int
        Galaxies in an encounter, 2 or 3.
    snapshots : int
        Moments k at which each encounter is looked at.
    clumpy : float
        Share of the encounters whose galaxies are those of `draw_clumpy`.

    Returns
    -------
    dict of str to `torch.Tensor`
        The galaxies' own parameters, of shape (n, n_galaxies), see
        `~galml.mocks.draw_stars`; the first has the largest mass. Beside them:

        - ``mass_ratio``, shape (n, n_galaxies): stellar mass over that of the first, 1
          to 0.1, even in the logarithm;
        - ``pericenter``, ``eccentricity``, shape (n, n_galaxies - 1): of the orbits of
          the others about the first, as they start, see
          `~galml.mocks.merger_dynamics.approach`; in kpc, and 0.85 to 1;
        - ``distance``, shape (n, n_galaxies - 1): at the start, in kpc;
        - ``inclination``, ``node``, shape (n, n_galaxies): of the disks, in degrees.
          The angle between the spins of disk and orbit, above 90 for retrograde ones,
          and that from the pericenter to the line of nodes;
        - ``orbit_frame``, shape (n, 3, 3): turns the orbit of a third galaxy;
        - ``inflow``, shape (n,): share of the gas that flows in, ``burst``: of this
          gas that becomes stars, ``burst_time`` (Gyr): scatter of when it does;
          ``quench``: how far star formation ends with the merger, 0 to 1;
        - ``first_passage``, ``coalescence``, shape (n,): Gyr after the start;
        - ``time``, shape (n, k): of the snapshots, Gyr after the start, rising.

    Raises
    ------
    galml.core.InputError
        If a number is not as it must be.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import draw_mergers
    >>> p = draw_mergers(2, torch.Generator().manual_seed(1), snapshots=3)
    >>> p["stellar_mass"].shape, p["time"].shape
    (torch.Size([2, 2]), torch.Size([2, 3]))
    """
    if n_galaxies not in PARTICLES:
        raise InputError("n_galaxies", n_galaxies, "2 or 3")
    if n < 1 or snapshots < 1:
        name, value = ("n", n) if n < 1 else ("snapshots", snapshots)
        raise InputError(name, value, "a positive number")
    kept, missing = [], n
    while missing:
        p = _draw_encounters(missing + missing // 2 + 2, generator, n_galaxies, clumpy)
        gravity = _gravity(p)
        orbit = follow(gravity, *_start(p, gravity), round(LONGEST / STEP))
        end = orbit.coalescence(REACH * p["size"][:, 0].double())
        p["first_passage"] = STEP * orbit.first_passage().float()
        p["coalescence"] = STEP * end.float()
        merged = (end < len(orbit.position) - 1) & (end > orbit.first_passage())
        kept.append({key: value[merged][:missing] for key, value in p.items()})
        missing -= len(kept[-1]["coalescence"])
    p = {key: torch.cat([part[key] for part in kept]) for key in kept[0]}
    p["time"] = _draw_times(p["first_passage"], p["coalescence"], snapshots, generator)
    return p


def _draw_encounters(n, generator, n_galaxies, clumpy):
    """Draw galaxies, orbits and angles, whether or not they will merge."""

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    g, others = n_galaxies, n_galaxies - 1
    weights = torch.tensor(TYPE_SHARES)
    types = torch.multinomial(weights, n * g, replacement=True, generator=generator)
    p = draw_stars(n * g, generator, types)
    clumped = draw_clumpy(n * g, generator)
    chosen = (uniform(0, 1) < clumpy).repeat_interleave(g)
    p = {key: torch.where(chosen, clumped[key], value) for key, value in p.items()}
    p = {key: value.reshape(n, g) for key, value in p.items()}
    ratio = torch.exp(math.log(0.1) * uniform(0, 1, g))
    ratio[:, 0] = 1.0
    p = _resized(p, ratio * p["stellar_mass"][:, :1])
    p["dark_fraction"] = p["dark_fraction"][:, :1].expand(n, g)
    p |= {name: torch.zeros(n, g) for name in ABSENT}
    p["elongation"] = torch.ones(n, g)
    both = p["size"][:, :1] + p["size"][:, 1:]
    p["mass_ratio"] = ratio
    p["pericenter"] = both * uniform(0.15, 1.8, others)
    p["eccentricity"] = 1 - 0.15 * uniform(0, 1, others) ** 2
    # A third galaxy comes later, from any side.
    late = torch.ones(n, others)
    late[:, 1:] = uniform(1.2, 2.5, others - 1)
    p["distance"] = late * (6 * both).maximum(2.5 * p["pericenter"])
    p["inclination"] = torch.rad2deg(torch.arccos(uniform(-1, 1, g)))
    p["node"] = uniform(0, 360, g)
    p["orbit_frame"] = random_orientation(n, generator)
    strength = 0.3 + 0.7 * ratio[:, 1].sqrt()
    p["inflow"] = strength * uniform(0.25, 0.75)
    p["burst"] = strength * uniform(0.3, 0.9)
    p["burst_time"] = uniform(0.03, 0.1)
    p["quench"] = uniform(0, 1)
    return p


def _resized(p, mass):
    """Give galaxies another stellar mass, with sizes and gas in keeping."""
    factor = mass / p["stellar_mass"]
    p = dict(p)
    for name in LENGTHS:
        p[name] = p[name] * factor**SIZE_SLOPE
    p["gas_mass"] = p["gas_mass"] * factor**GAS_SLOPE
    p["stellar_mass"] = mass
    return p


def _draw_times(first, last, snapshots, generator):
    """Draw moments of the stages, in Gyr after the start, shape (n, snapshots)."""
    shape = len(first), snapshots
    shares = torch.tensor(STAGE_SHARES)
    stage = torch.multinomial(
        shares, shape[0] * snapshots, replacement=True, generator=generator
    ).reshape(shape)
    edges = torch.stack(
        [
            first,
            torch.minimum(first + PASSAGE, last - COALESCENCE),
            last - COALESCENCE,
            last + COALESCENCE,
            last + LATEST,
        ],
        1,
    ).clamp_min(STEP)
    low, high = edges.gather(1, stage), edges.gather(1, stage + 1)
    time = low + (high - low) * torch.rand(shape, generator=generator)
    return time.sort(1)[0]


def _gravity(p):
    """Find the spherical gravity of the galaxies, as they rotate in their planes."""
    n, g = p["size"].shape
    flat = {name: p[name].flatten() for name in _OF_GALAXY}
    own = p["bulge_fraction"].flatten(), p["stellar_mass"].flatten()
    spheroid = own[0] * own[1]
    disk = own[1] - spheroid
    mass = torch.stack([spheroid, disk, torch.zeros_like(disk)], 1)
    table = dynamics.circular_speed2(flat, mass)[0].double()
    # To the edge of the halo; beyond it there is no more mass.
    radius = grid()[None] * torch.ones(n * g, 1, dtype=torch.float64)
    inner = radius.clamp(max=HALO_EDGE)
    place = dynamics.grid_place(inner, torch.ones(())).clamp(0, dynamics.N_GRID - 1.001)
    low = place.long()
    logarithm = table.log()
    found = torch.lerp(
        logarithm.gather(1, low), logarithm.gather(1, low + 1), place - low
    )
    # Below the first node spheres have a constant density at most.
    inside = (inner / dynamics.GRID[0]).clamp(max=1).square()
    speed2 = found.exp() * inside * inner / radius
    return Gravity(p["size"], speed2.reshape(n, g, -1))


#: Parameters of a galaxy that its gravity depends on.
_OF_GALAXY = (
    "size",
    "spheroid_radius",
    "sersic_index",
    "disk_length",
    "counter_length",
    "dark_fraction",
)


def _start(p, gravity):
    """Place the galaxies at the start, the second on the side of +x from the first."""
    position, velocity = approach(
        _members(gravity, [0, 1]),
        p["pericenter"][:, 0],
        p["eccentricity"][:, 0],
        p["distance"][:, 0],
    )
    if p["size"].shape[1] == 3:
        outer = _members(gravity, [0, 2])
        place, motion = approach(
            outer, p["pericenter"][:, 1], p["eccentricity"][:, 1], p["distance"][:, 1]
        )
        frame = p["orbit_frame"].double()
        place, motion = (
            (frame @ (value[:, 1] - value[:, 0])[..., None])[..., 0]
            for value in (place, motion)
        )
        position = torch.cat([position, (position[:, 0] + place)[:, None]], 1)
        velocity = torch.cat([velocity, (velocity[:, 0] + motion)[:, None]], 1)
    return position, velocity


def _from_pericenter(orbit):
    """Turn orbits so that the second galaxy is on the side of +x when it is nearest."""
    nearest = orbit.first_passage()
    rows = torch.arange(len(nearest))
    apart = orbit.position[nearest, rows, 1] - orbit.position[nearest, rows, 0]
    axis = torch.tensor([0, 0, 1.0], dtype=apart.dtype).expand_as(apart)
    matrix = rotation_matrix(axis, torch.atan2(apart[:, 1], apart[:, 0]))
    return Orbit(
        orbit.position @ matrix, orbit.velocity @ matrix, orbit.friction @ matrix
    )


def _members(gravity, which):
    """Choose some of the galaxies of each encounter."""
    return Gravity(gravity.scale[:, which], gravity.speed2[:, which])


@dataclass
class MergerTruth(Batch):
    """What is known of n galaxies that meet; every tensor has shape (n,).

    Attributes
    ----------
    stage : `torch.Tensor`
        Index into `STAGES`.
    time_since_coalescence, time_since_passage : `torch.Tensor`
        In Gyr; negative before. The galaxies were nearest for the first time at the
        passage, and stay one after coalescence.
    mass_ratio : `torch.Tensor`
        Stellar mass of the second galaxy over that of the first, 0.1 to 1.
    pericenter, eccentricity : `torch.Tensor`
        Of the orbit as it started, in kpc.
    separation : `torch.Tensor`
        Distance of the two centers, in kpc.
    inclination, inclination_second : `torch.Tensor`
        Of the two disks to the orbit, in degrees; above 90 they turn against it.
    node, node_second : `torch.Tensor`
        From the pericenter to the lines of nodes, in degrees.
    burst_fraction : `torch.Tensor`
        Of the stars that the inflow of gas has formed by then, in all stars, by mass.
    n_galaxies : `torch.Tensor`
        How many met.
    """

    stage: torch.Tensor
    time_since_coalescence: torch.Tensor
    time_since_passage: torch.Tensor
    mass_ratio: torch.Tensor
    pericenter: torch.Tensor
    eccentricity: torch.Tensor
    separation: torch.Tensor
    inclination: torch.Tensor
    inclination_second: torch.Tensor
    node: torch.Tensor
    node_second: torch.Tensor
    burst_fraction: torch.Tensor
    n_galaxies: torch.Tensor


def build_mergers(p, n_particles, generator):
    """Turn encounters into particles of stars and gas, and into what is known.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n encounters with k snapshots, as `draw_mergers` returns them.
    n_particles : int
        Number of particles of stars of all galaxies of an encounter together, without
        those of the burst; there are a quarter as many of gas.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    galaxy : `~galml.mocks.Galaxy`
        n * k galaxies, the snapshots of an encounter in consecutive rows. The first
        galaxy is in the middle and at rest, the orbit in z = 0 with its pericenter on
        the side of +x; ``frame`` is that of the first disk.
    truth : `MergerTruth`
        What is known of each.

    Notes
    -----
    Each galaxy is one of `~galml.mocks.build_stars` in its own spherical gravity;
    vertical motions are those that keep its disks as thick as they are in it. Its
    particles move through the gravity of all galaxies, which keep their masses and
    shapes, and stars that circle a center within 40 Myr stay with it. What galaxies
    lose, and how the remnant forgets the planes of its disks by its own changing
    gravity, are left out.

    Gas that flows in loses its motion around coalescence, and the stars that it forms
    have the ages that follow from when they do. Without collisions, the other gas moves
    as cold stars do.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_mergers, draw_mergers
    >>> generator = torch.Generator().manual_seed(2)
    >>> p = draw_mergers(1, generator, snapshots=2)
    >>> galaxy, truth = build_mergers(p, 1600, generator)
    >>> len(galaxy), bool((truth.mass_ratio <= 1).all())
    (2, True)
    """
    n, g = p["stellar_mass"].shape
    gravity = _gravity(p)
    steps = (p["time"] / STEP).round().long()
    orbit = _from_pericenter(follow(gravity, *_start(p, gravity), int(steps.max())))
    frames = _disk_frames(p)
    share = PARTICLES[g]
    parts = [
        _build_one(
            {name: p[name][:, i] for name in _own(p)} | {"inflow": p["inflow"]},
            gravity,
            i,
            round(n_particles * share[i]),
            frames[:, i],
            generator,
        )
        for i in range(g)
    ]
    counts = [part["position"].shape[1] for part in parts]
    edges = torch.tensor([0, *counts]).cumsum(0).tolist()
    blocks = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    position, velocity = (
        torch.cat(
            [
                part[name] + getattr(orbit, name)[0, :, i, None].float()
                for i, part in enumerate(parts)
            ],
            1,
        )
        for name in ("position", "velocity")
    )
    falls = torch.cat([part["falls"] for part in parts], 1)
    position, velocity = move_particles(
        gravity,
        orbit,
        blocks,
        position,
        velocity,
        steps,
        sink=(falls, _sink_rate(p, len(orbit.position))),
    )
    rows = torch.arange(n).repeat_interleave(steps.shape[1])
    center, drift = (
        value[steps.flatten(), rows].float()
        for value in (orbit.position, orbit.velocity)
    )
    position, velocity = (
        [
            _with_centers(
                moved[:, :, block],
                part[name],
                part["kept"],
                middle[:, i].unflatten(0, steps.shape),
            )
            for i, (part, block) in enumerate(zip(parts, blocks, strict=True))
        ]
        for name, moved, middle in (
            ("position", position, center),
            ("velocity", velocity, drift),
        )
    )
    p = {key: value[rows] for key, value in p.items()}
    p["time"] = STEP * steps.flatten().float()
    galaxy, formed = _assemble(
        p,
        [{key: value[rows] for key, value in part.items()} for part in parts],
        [one.flatten(0, 1) - center[:, :1] for one in position],
        [one.flatten(0, 1) - drift[:, :1] for one in velocity],
        generator,
    )
    galaxy = replace(galaxy, frame=frames[rows, 0], dust=_dust(p, center, frames[rows]))
    return galaxy, _truth(p, center, formed / galaxy.stellar_mass)


def _own(p):
    """Name the parameters that each galaxy of an encounter has of its own."""
    shared = {"pericenter", "eccentricity", "distance", "time", "orbit_frame"}
    return [key for key, value in p.items() if value.dim() == 2 and key not in shared]


def _disk_frames(p):
    """Find the rotations from the disks' own axes to those of the orbit, (n, g, 3, 3).

    Seen from either of the first two galaxies, the other is at an angle of 0 when they
    are nearest.
    """
    node = torch.deg2rad(p["node"]).clone()
    node[:, 0] += math.pi
    axes = torch.eye(3).expand(*node.shape, 3, 3)
    tilt = rotation_matrix(axes[..., 0], torch.deg2rad(p["inclination"]))
    return rotation_matrix(axes[..., 2], node) @ tilt


def _build_one(q, gravity, i, count, frame, generator):
    """Build the particles of one galaxy of each encounter, about its own center.

    They are its stars, those that the burst will form, and its gas.
    """
    galaxy = build_stars(q, count, generator)
    n, is_flat = len(galaxy), galaxy.component != SPHEROID
    distance = torch.linalg.vector_norm(galaxy.position, dim=-1)
    low, _ = grid_place(distance / gravity.scale[:, i, None].float())
    speed2 = gravity.speed2[:, i].float().gather(1, low)
    frequency = speed2.sqrt() / distance.clamp_min(1e-3)
    # Particles of a component are in order of radius: a height of one nearby is what
    # a particle has a quarter of an oscillation later.
    near = torch.arange(distance.shape[1])
    near = near + torch.randint(1, 40, distance.shape, generator=generator)
    height = galaxy.position[..., 2].gather(1, near.clamp(max=distance.shape[1] - 1))
    sign = 1 - 2 * torch.randint(0, 2, distance.shape, generator=generator)
    velocity, dispersion = galaxy.velocity.clone(), galaxy.dispersion.clone()
    velocity[..., 2] += torch.where(is_flat, sign * frequency * height, 0.0)
    dispersion[..., 2] *= ~is_flat
    dispersion[:, count:] = 0
    # The virial theorem holds for each component of stars in the round gravity, too.
    kind, kinetic = galaxy.component.long(), (velocity**2 + dispersion**2).sum(-1)
    none = torch.zeros(n, len(COMPONENTS))
    pulled, moving = (
        none.scatter_add(1, kind, galaxy.mass * value) for value in (speed2, kinetic)
    )
    slower = (pulled / moving.clamp_min(1e-9)).sqrt()
    slower[:, GAS] = 1
    slower = slower.gather(1, kind)[..., None]
    velocity, dispersion = slower * velocity, slower * dispersion
    galaxy = replace(galaxy, velocity=velocity, dispersion=dispersion)
    galaxy = galaxy.sampled(generator)

    n_burst, n_gas = max(count // 16, 1), galaxy.mass.shape[1] - count
    flowing = (torch.arange(n_gas) + 0.5) / n_gas < q["inflow"][:, None]
    chosen = torch.rand(n, n_burst, generator=generator) * flowing.sum(1, keepdim=True)
    chosen = count + chosen.long()
    place, motion = (
        value.gather(1, chosen[..., None].expand(-1, -1, 3))
        for value in (galaxy.position, galaxy.velocity)
    )
    nudge = 1 + 0.05 * torch.randn(n, n_burst, 1, generator=generator)
    turn = frame.transpose(-1, -2)
    none = torch.zeros(n, count, dtype=torch.bool)
    gas_dispersion = q["gas_dispersion"][:, None].expand(n, n_gas)
    return {
        "position": _inserted(galaxy.position, place * nudge, count) @ turn,
        "velocity": _inserted(galaxy.velocity, motion, count) @ turn,
        "falls": torch.cat([none, torch.ones_like(chosen).bool(), flowing], 1),
        "mass": galaxy.mass,
        "kept": (frequency * STEP * KPC_PER_GYR > FAST)[:, :count],
        "component": galaxy.component,
        "age": galaxy.age,
        "metallicity": galaxy.metallicity,
        "gas_dispersion": gas_dispersion,
        "early": torch.rand(n, n_burst, generator=generator) < EARLY_BURST,
        "delay": torch.randn(n, n_burst, generator=generator),
    }


def _with_centers(moved, start, kept, center):
    """Leave stars that circle a center too fast for tides to matter as they were.

    The particles of one galaxy are at k times, (n, k, p, 3), as its center is,
    (n, k, 3); their start, (n, p, 3), is about the center.
    """
    carried = start[:, None, : kept.shape[1]] + center[:, :, None]
    stars = torch.where(kept[:, None, :, None], carried, moved[:, :, : kept.shape[1]])
    return torch.cat([stars, moved[:, :, kept.shape[1] :]], 2)


def _inserted(value, new, place):
    """Insert particles in front of those from a place on."""
    return torch.cat([value[:, :place], new, value[:, place:]], 1)


def _sink_rate(p, n_times):
    """Find the rate at which gas that flows in loses its motion, shape (t, n)."""
    time = STEP * torch.arange(n_times)[:, None]
    last = (time - p["coalescence"] + 0.3 * SINK_TIME) / SINK_TIME
    first = (time - p["first_passage"] - SINK_TIME) / SINK_TIME
    rate = torch.exp(-(last**2) / 2) + FIRST_SINK * torch.exp(-(first**2) / 2)
    return SINK_RATE * torch.where(rate > 0.01, rate, 0.0)


def _assemble(p, parts, positions, velocities, generator):
    """Put the galaxies of each snapshot together, at the ages that they have then.

    Gives them, and the mass of the stars of the burst.
    """
    merged = (p["time"] - p["coalescence"]).clamp_min(0)[:, None]
    kept = {
        name: [[], [], []] for name in ("position", "velocity", "mass", "component")
    }
    ages, metals, spread, total = [[], []], [[], []], [], 0
    for i, (part, x, v) in enumerate(zip(parts, positions, velocities, strict=True)):
        count, n_burst = part["age"].shape[1], part["delay"].shape[1]
        young = part["component"][:, :count] == YOUNG
        age = part["age"] + young * p["quench"][:, None] * merged
        clumped = p["clump_fraction"][:, i, None] * torch.exp(-merged / CLUMP_LIFE)
        x, age = _clumped(
            p, i, clumped, part["component"][:, :count], x, age, generator
        )
        birth = torch.where(part["early"], p["first_passage"][:, None] + 0.05, 0)
        birth = torch.where(part["early"], birth, p["coalescence"][:, None])
        birth = birth + p["burst_time"][:, None] * part["delay"]
        since = p["time"][:, None] - birth
        formed = since > 0
        flowing = part["falls"][:, count + n_burst :]
        gas = part["mass"][:, count:]
        share = p["burst"][:, None] * formed.float().mean(1, keepdim=True)
        each = (gas * flowing).sum(1, keepdim=True) * p["burst"][:, None] / n_burst
        burst = each * formed
        total = total + burst.sum(1)
        masses = part["mass"][:, :count], burst, gas * (1 - share * flowing)
        pieces = (
            slice(count),
            slice(count, count + n_burst),
            slice(count + n_burst, None),
        )
        component = part["component"]
        kinds = (
            component[:, :count],
            torch.full_like(formed, YOUNG, dtype=torch.int8),
            component[:, count:],
        )
        for j, piece in enumerate(pieces):
            kept["position"][j].append(x[:, piece])
            kept["velocity"][j].append(v[:, piece])
            kept["mass"][j].append(masses[j])
            kept["component"][j].append(kinds[j])
        rich = p["metallicity"][:, i, None].expand(-1, n_burst).clamp(1e-4, 0.04)
        for j, (old, metal) in enumerate(
            ((age, part["metallicity"]), (since.clamp_min(0.003), rich))
        ):
            ages[j].append(old)
            metals[j].append(metal)
        spread.append(part["gas_dispersion"])
    values = {
        name: torch.cat([one for piece in pieces for one in piece], 1)
        for name, pieces in kept.items()
    }
    age, metallicity = (torch.cat([*a, *b], 1) for a, b in (ages, metals))
    dispersion = torch.cat([torch.zeros_like(age), *spread], 1)
    galaxy = Galaxy(**values, dispersion=dispersion, age=age, metallicity=metallicity)
    return galaxy, total


def _clumped(p, i, fraction, component, position, age, generator):
    """Gather a part of the young stars around others of them, as stars form."""
    young = component == YOUNG
    n, count = component.shape
    member = young & (torch.rand(n, count, generator=generator) < fraction)
    number = p["clump_number"][:, i, None]
    which = (torch.rand(n, count, generator=generator) * number).long()
    first = (component < YOUNG).sum(1, keepdim=True)
    size = young.sum(1, keepdim=True)
    spots = torch.rand(n, int(number.max()) + 1, generator=generator)
    center = first + (0.9 * spots.gather(1, which) * size).long()
    center = center.clamp(max=count - 1)[..., None].expand(-1, -1, 3)
    width = (p["clump_size"] * p["disk_length"])[:, i, None, None]
    offset = width * torch.randn(n, count, 3, generator=generator)
    gathered = position[:, :count].gather(1, center) + offset
    position = position.clone()
    position[:, :count] = torch.where(member[..., None], gathered, position[:, :count])
    return position, torch.where(member, 0.3 * age, age)


def _dust(p, center, frames):
    """Place the dust of each galaxy; where gas flows in, it follows, and is stirred."""
    since = p["time"] - p["coalescence"]
    settled = torch.sigmoid(since / (COALESCENCE / 2))
    shrunk = 1 - 0.6 * settled * p["inflow"]
    left = 1 + settled * ((1 + p["burst"]) * torch.exp(-since.clamp_min(0) / 0.7) - 1)
    return tuple(
        DustDisk(
            p["dust_depth"][:, i] * left,
            p["dust_length"][:, i] * shrunk,
            p["dust_height"][:, i] * (1 + STIRRED * settled),
            center[:, i] - center[:, 0],
            frames[:, i],
        )
        for i in range(center.shape[1])
    )


def _truth(p, center, burst_fraction):
    """List what is known of each snapshot."""
    since = p["time"] - p["coalescence"]
    passed = p["time"] - p["first_passage"]
    stage = torch.where(passed < PASSAGE, 0, 1)
    stage = torch.where(since.abs() <= COALESCENCE, 2, stage)
    stage = torch.where(since > COALESCENCE, 3, stage)
    return MergerTruth(
        stage=stage,
        time_since_coalescence=since,
        time_since_passage=passed,
        mass_ratio=p["mass_ratio"][:, 1],
        pericenter=p["pericenter"][:, 0],
        eccentricity=p["eccentricity"][:, 0],
        separation=torch.linalg.vector_norm(center[:, 1] - center[:, 0], dim=-1),
        inclination=p["inclination"][:, 0],
        inclination_second=p["inclination"][:, 1],
        node=p["node"][:, 0],
        node_second=p["node"][:, 1],
        burst_fraction=burst_fraction,
        n_galaxies=torch.full_like(stage, center.shape[1]),
    )
