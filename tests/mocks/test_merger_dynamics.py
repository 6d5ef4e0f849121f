# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Orbits of galaxies that meet, and particles that follow them."""

import math

import pytest
import torch

from galml.core import InputError
from galml.mocks.dynamics import GRAVITY
from galml.mocks.merger_dynamics import (
    STEP,
    Gravity,
    Orbit,
    approach,
    blurred,
    follow,
    move_particles,
    spherical_gravity,
)

MASS = 1e11


def halos(n, g=2, mass=MASS, core=2.0, light=1.0):
    """Softened points, the last of which has ``light`` times the mass of the others."""
    weight = torch.full((n, g, 1), GRAVITY * mass, dtype=torch.float64)
    weight[:, -1] *= light
    return spherical_gravity(
        torch.full((n, g), 5.0), lambda r: weight * r**2 / (r**2 + core**2) ** 1.5
    )


def alone(n_times, n=1):
    """The orbit of galaxies that stay where they are."""
    rest = torch.zeros(n_times, n, 1, 3, dtype=torch.float64)
    return Orbit(rest, rest, rest)


def relative(orbit):
    return (
        value[:, :, 1] - value[:, :, 0] for value in (orbit.position, orbit.velocity)
    )


def test_table_is_that_of_a_softened_point():
    gravity = halos(1, 1)
    torch.testing.assert_close(
        gravity.weight, torch.full((1, 1), GRAVITY * MASS).double(), rtol=1e-6, atol=0
    )
    _, _, potential, slope = gravity.tabulate()
    radius = gravity.radius
    expected = -GRAVITY * MASS / (radius**2 + 4).sqrt()
    torch.testing.assert_close(potential, expected, rtol=2e-4, atol=0)
    inner = slice(100, 900)
    expected = 3 * 4 / (4 + radius**2)
    torch.testing.assert_close(
        slope[..., inner], expected[..., inner], rtol=1e-2, atol=1e-3
    )
    with pytest.raises(InputError, match="speed2"):
        Gravity(torch.ones(1, 1), torch.ones(1, 1, 7))


def test_two_galaxies_keep_energy_and_angular_momentum():
    """To 0.2 % of the depth at the pericenter, and to rounding."""
    pericenter = torch.tensor([4.0, 8, 15, 25])
    eccentricity = torch.tensor([1.0, 0.95, 0.9, 0.7])
    gravity = halos(4, core=3.0, light=0.3)
    start = approach(gravity, pericenter, eccentricity, torch.full((4,), 80.0))
    orbit = follow(gravity, *start, 500, friction=False)
    apart, motion = relative(orbit)
    table = gravity.tabulate()[2]
    depth = torch.stack(
        [
            gravity.at(table, blurred(gravity.scale, distance[:, None])).sum(1)
            for distance in orbit.separation
        ]
    )
    energy = (motion**2).sum(-1) / 2 + depth
    assert ((energy - energy[0]).abs() < 2e-3 * depth.abs().amax(0)).all()
    momentum = torch.linalg.cross(apart, motion)
    torch.testing.assert_close(
        momentum, momentum[:1].expand_as(momentum), rtol=1e-9, atol=1e-6
    )
    # They pass as near as they were to, about +z, and the parabola has no energy.
    torch.testing.assert_close(
        orbit.separation.amin(0), pericenter.double(), rtol=0.02, atol=0
    )
    assert (momentum[0, :, 2] > 0).all()
    assert abs(energy[0, 0]) < 1e-3 * depth[:, 0].abs().max()
    passage = orbit.first_passage()
    torch.testing.assert_close(passage, orbit.separation.argmin(0), rtol=0, atol=1)


def test_a_bound_orbit_starts_at_its_largest_distance():
    gravity = halos(1)
    position, velocity = approach(
        gravity, torch.tensor([10.0]), torch.tensor([0.5]), torch.tensor([500.0])
    )
    apart = (position[:, 1] - position[:, 0])[0]
    torch.testing.assert_close(
        apart, torch.tensor([30.0, 0, 0], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    assert velocity[0, 1, 0].abs() < 1e-3 * velocity[0, 1, 1]
    assert (position.sum(1)).abs().max() < 1e-9


def test_friction_merges_what_would_not_and_keeps_the_sum_of_momenta():
    gravity = spherical_gravity(
        torch.full((2, 2), 5.0), lambda r: 200.0**2 * (r / (r + 1)) / (1 + r / 200) ** 2
    )
    start = approach(
        gravity, torch.tensor([8.0, 8]), torch.tensor([0.95, 1]), torch.full((2,), 60.0)
    )
    free = follow(gravity, *start, 1500, friction=False)
    slowed = follow(gravity, *start, 1500)
    end = slowed.coalescence(2.0)
    assert (free.coalescence(2.0) == 1500).all()
    assert ((end > slowed.first_passage() + 100) & (end < 1500)).all()
    assert (slowed.separation[int(end[0]) :, 0] <= 2).all()
    momentum = slowed.velocity.sum(2)
    assert momentum.abs().max() < 1e-6


def test_light_galaxies_merge_later():
    times = []
    for light in (1.0, 0.3):
        gravity = spherical_gravity(
            torch.full((1, 2), 5.0),
            lambda r, light=light: (
                torch.tensor([1.0, light]).double()[:, None]
                * 200.0**2
                * (r / (r + 1))
                / (1 + r / 200) ** 2
            ),
        )
        start = approach(
            gravity, torch.tensor([10.0]), torch.tensor([0.9]), torch.tensor([60.0])
        )
        times.append(int(follow(gravity, *start, 2500).coalescence(2.0)))
    assert times[0] < times[1] < 2500


def rings(gravity, orbit, radius, turn, n=300):
    """Rings about the first galaxy in z = 0 that turn about +z or -z."""
    angle = 2 * math.pi * torch.arange(n) / n
    speed2 = gravity.at(gravity.speed2, torch.full_like(gravity.scale, radius))
    speed = turn * float(speed2[0, 0].sqrt())
    zero = torch.zeros(n)
    place = radius * torch.stack([angle.cos(), angle.sin(), zero], -1)
    motion = speed * torch.stack([-angle.sin(), angle.cos(), zero], -1)
    return (
        place[None] + orbit.position[0, :, 0, None].float(),
        motion[None] + orbit.velocity[0, :, 0, None].float(),
    )


def test_rings_stay_circles():
    """Radius and speed to 1 % over a Gyr."""
    gravity = halos(1, 1)
    orbit = alone(501)
    for radius in (4.0, 8.0, 20.0):
        place, motion = rings(gravity, orbit, radius, 1)
        x, v = move_particles(
            gravity, orbit, [slice(None)], place, motion, torch.tensor([[500]])
        )
        found = torch.linalg.vector_norm(x, dim=-1)
        torch.testing.assert_close(
            found, torch.full_like(found, radius), rtol=0.01, atol=0
        )
        speed = torch.linalg.vector_norm(motion, dim=-1).mean()
        found = torch.linalg.vector_norm(v, dim=-1)
        torch.testing.assert_close(found, speed.expand_as(found), rtol=0.01, atol=0)


def encounter(light, eccentricity, turn, tilt=0.0, radius=None, later=0.25):
    """Places of rings and of the companion from their galaxy, in pericenters of 25 kpc.

    Toomre & Toomre (1972), ApJ 178, 623: points on a parabola or an ellipse, and rings
    of 0.2 to 0.6 of the pericenter; ``later`` is Gyr after the passage.
    """
    pericenter = 25.0
    gravity = halos(1, core=0.5, light=light)
    start = approach(
        gravity,
        torch.tensor([pericenter]),
        torch.tensor([eccentricity]),
        torch.tensor([120.0]),
    )
    orbit = follow(gravity, *start, 1000, friction=False)
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    matrix = torch.tensor([[1.0, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    steps = orbit.first_passage() + round(later / STEP)
    places = []
    for ring in (0.2, 0.3, 0.4, 0.5, 0.6) if radius is None else (radius,):
        place, motion = rings(gravity, orbit, ring * pericenter, turn)
        center, drift = (
            value[0, :, :1].float() for value in (orbit.position, orbit.velocity)
        )
        place = center + (place - center) @ matrix.T
        motion = drift + (motion - drift) @ matrix.T
        x, _ = move_particles(
            gravity, orbit, [slice(None), slice(0)], place, motion, steps[:, None]
        )
        now = orbit.position[steps[0], 0].float()
        places.append(x[0, 0] - now[0])
    return torch.cat(places) / pericenter, (now[1] - now[0]) / pericenter


def lengths(*arguments, **options):
    return encounter(*arguments, **options)[0].norm(dim=-1)


def in_between(light, turn):
    """Share of the particles in the middle of the way to the companion."""
    place, companion = encounter(light, 1.0, turn)
    distance = companion.norm()
    along = place @ companion / distance
    across = (place - along[:, None] * companion / distance).norm(dim=-1)
    inside = (along > 0.4 * distance) & (along < 0.7 * distance)
    return (inside & (across < 0.3 * distance)).float().mean()


def test_direct_passages_draw_tails_and_retrograde_ones_hardly_any():
    """Toomre & Toomre's figures 1 to 4: an equal companion on a parabola."""
    direct, retrograde = (lengths(1.0, 1.0, turn) for turn in (1, -1))
    assert direct.quantile(0.95) > 2.5
    assert (direct > 1).float().mean() > 0.2
    assert retrograde.max() < 1.2
    # The innermost ring is still a ring.
    inner = lengths(1.0, 1.0, 1, radius=0.2)
    assert inner.max() < 0.35


def test_light_companions_draw_a_bridge_and_a_shorter_tail():
    """Their figure for M 51 and others: a quarter of the mass."""
    heavy, light = (lengths(mass, 1.0, 1) for mass in (1.0, 0.25))
    assert (light > 1).float().mean() < (heavy > 1).float().mean()
    assert light.quantile(0.95) < heavy.quantile(0.95)
    assert light.max() > 1.2
    # Particles on the way to the companion, of which retrograde disks have none.
    assert in_between(0.25, 1) > 0.01
    assert in_between(0.25, -1) == 0


def test_antennae_have_long_tails():
    """Their figure 23: equal galaxies, both tilted by 60 degrees, e = 0.5."""
    tilted = lengths(1.0, 0.5, 1, tilt=60.0, later=0.45)
    assert tilted.max() > 2.5


def test_what_falls_in_ends_in_the_middle():
    gravity = spherical_gravity(
        torch.full((1, 1), 5.0), lambda r: 200.0**2 * r / (r + 1)
    )
    orbit = alone(201)
    place, motion = rings(gravity, orbit, 3.0, 1)
    falls = torch.arange(300)[None] % 2 == 0
    rate = torch.full((201, 1), 15.0)
    x, _ = move_particles(
        gravity,
        orbit,
        [slice(None)],
        place,
        motion,
        torch.tensor([[200]]),
        sink=(falls, rate),
    )
    radius = torch.linalg.vector_norm(x[0, 0], dim=-1)
    assert radius[falls[0]].max() < 0.3
    torch.testing.assert_close(
        radius[~falls[0]], torch.full((150,), 3.0), rtol=0.01, atol=0
    )


def test_snapshots_are_the_same_however_many_are_taken():
    gravity = halos(3)
    start = approach(
        gravity,
        torch.tensor([5.0, 10, 20]),
        torch.tensor([1.0, 0.9, 0.95]),
        torch.full((3,), 60.0),
    )
    orbit = follow(gravity, *start, 120)
    place = 5 * torch.randn(3, 50, 3, generator=torch.Generator().manual_seed(1))
    place = place + orbit.position[0, :, 0, None].float()
    motion = orbit.velocity[0, :, 0, None].float().expand_as(place)
    blocks = [slice(None), slice(0)]
    stops = torch.tensor([[10, 120], [40, 60], [0, 90]])
    x, v = move_particles(gravity, orbit, blocks, place, motion, stops)
    for i in range(3):
        for j in range(2):
            one = move_particles(
                gravity[i : i + 1],
                Orbit(*(getattr(orbit, k)[:, i : i + 1] for k in vars(orbit))),
                blocks,
                place[i : i + 1],
                motion[i : i + 1],
                stops[i : i + 1, j : j + 1],
            )
            torch.testing.assert_close(one[0][0, 0], x[i, j])
            torch.testing.assert_close(one[1][0, 0], v[i, j])
