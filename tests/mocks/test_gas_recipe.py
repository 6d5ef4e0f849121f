# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks import (
    Galaxy,
    build_gas,
    draw_gas,
    kinematics,
    project_gas,
    random_orientation,
)

OFF = (
    "hole",
    "ring",
    "arms",
    "bar",
    "radial_flow",
    "warp",
    "turbulence",
    "clumps",
    "clump_motion",
    "second",
    "second_fraction",
    "second_flow",
    "second_tilt",
    "satellite_fraction",
)
PLAIN = {
    "radius": 10.0,
    "curve": 2,
    "speed": 200.0,
    "turnover": 0.05,
    "scale_length": 0.5,
    "thickness": 0.01,
    "dispersion": 5.0,
    "dispersion_fall": 0.0,
    "drift": 1.0,
    "second_arc": 1.0,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(n=8, **changes):
    """Parameters of cold, smooth, thin disks, but for the changes."""
    p = draw_gas(n, generator(7))
    for name, value in (dict.fromkeys(OFF, 0) | PLAIN | changes).items():
        p[name] = torch.full_like(p[name], value)
    return p


def build(n=8, n_particles=2048, seed=1, **changes):
    return build_gas(plain(n, **changes), n_particles, generator(seed))


def rows(particles, members):
    """Some of the particles, chosen by index."""
    names = ("position", "velocity", "mass", "dispersion")
    return Galaxy(*(getattr(particles, name)[:, members] for name in names))


def momentum_axis(particles):
    spin = torch.linalg.cross(particles.position, particles.velocity).mean(1)
    return torch.nn.functional.normalize(spin, dim=-1)


def speeds(particles):
    """Radial and azimuthal speed in the plane z = 0, and the radius."""
    x, y, _ = particles.position.unbind(-1)
    vx, vy, _ = particles.velocity.unbind(-1)
    radius = torch.hypot(x, y).clamp_min(1e-6)
    return (x * vx + y * vy) / radius, (x * vy - y * vx) / radius, radius


def test_parameters_and_particles_are_reproducible_and_vary():
    first, again = draw_gas(16, generator(3)), draw_gas(16, generator(3))
    other = draw_gas(16, generator(4))
    assert first.keys() == again.keys()
    for name in first:
        assert len(first[name]) == 16
        torch.testing.assert_close(first[name], again[name], rtol=0, atol=0)
    assert not torch.equal(first["speed"], other["speed"])
    built = build_gas(first, 500, generator(5))
    rebuilt = build_gas(first, 500, generator(5))
    torch.testing.assert_close(built.velocity, rebuilt.velocity, rtol=0, atol=0)


def test_every_ingredient_is_drawn_with_and_without():
    p = draw_gas(800, generator(1))
    for name in ("hole", "ring", "arms", "bar", "warp", "clumps", "satellite_fraction"):
        share = (p[name] > 0).float().mean()
        assert 0.05 < share < 0.6, name
    assert set(p["second"].tolist()) == {0, 1, 2, 3}
    assert set(p["curve"].tolist()) == {0, 1, 2}
    assert 1.99 < p["dispersion"].min() < 3
    assert 150 < p["dispersion"].max() < 200
    assert 0.4 < (p["dispersion"] <= 30).float().mean() < 0.6
    # Cold and hot gas alike rotates slowly and fast.
    ratio = p["dispersion"] / p["speed"]
    assert (ratio < 0.05).float().mean() > 0.05
    assert (ratio > 0.5).float().mean() > 0.15
    assert ((p["second_fraction"] > 0) == (p["second"] > 0)).all()


def test_stars_are_as_hot_as_gravity_lets_them_be():
    p = draw_gas(800, generator(1), hot=True, plain=0.0)
    ratio = p["dispersion"] / p["speed"]
    assert 0.09 < ratio.min() < 0.12
    assert 2 < ratio.max() < 2.6
    assert 0.4 < ratio.median() < 0.6


def test_plain_disks_do_nothing_but_rotate():
    p = draw_gas(400, generator(1), plain=1.0)
    assert not any(p[name].any() for name in OFF)
    assert (p["dispersion"] > 60).float().mean() > 0.4
    assert (p["dispersion"] < 10).float().mean() > 0.15
    none = draw_gas(400, generator(1), plain=0.0)
    some = draw_gas(400, generator(1))
    same = torch.isclose(some["turbulence"], none["turbulence"])
    assert 0.6 < same.float().mean() < 0.9
    assert (some["turbulence"][~same] == 0).all()


def test_particles_are_finite_and_of_mass_one():
    particles = build_gas(draw_gas(64, generator(2)), 1000, generator(2))
    for name in ("position", "velocity", "mass", "dispersion"):
        assert torch.isfinite(getattr(particles, name)).all(), name
    torch.testing.assert_close(particles.mass.sum(1), torch.ones(64))


def test_cold_smooth_disks_rotate():
    disk = build()
    truth = kinematics(disk)
    assert (truth.kappa > 0.97).all()
    assert (truth.kappa_co > 0.97).all()
    assert (momentum_axis(disk)[:, 2] > 0.9999).all()
    _, around, radius = speeds(disk)
    outer = radius > 4
    assert ((around[outer] - 200).abs() < 8).all()


def test_pressure_slows_disks_or_gravity_makes_up_for_it():
    for drift, outer_speed in ((0.0, 200.0), (1.0, 147.0)):
        disk = build(dispersion=100.0, drift=drift, flattening=0.0)
        _, around, radius = speeds(disk)
        near = (radius > 8) & (radius < 9)
        assert abs(around[near].mean() - outer_speed) < 8


def test_dispersions_of_stars_differ_by_direction():
    p = draw_gas(16, generator(3), hot=True)
    galaxy = build_gas(p, 512, generator(3))
    assert galaxy.dispersion.shape == (16, 512, 3)
    own = galaxy.dispersion.square().mean(-1).sqrt()
    highest = p["dispersion"] * (1 + 1e-5)
    assert (own <= highest[:, None]).all()
    steady = p["dispersion_fall"] == 0
    torch.testing.assert_close(own[steady].amax(1), p["dispersion"][steady])


@pytest.mark.parametrize("flow", [-1.5, -0.5, 0.3, 1.0, 2.0])
def test_radial_flow_takes_its_share_of_the_energy(flow):
    truth = kinematics(build(radial_flow=flow))
    torch.testing.assert_close(
        truth.kappa, torch.full((8,), 1 / (1 + flow**2)), rtol=0, atol=0.01
    )


def test_dispersion_supported_disks_are_near_one_third():
    # Without any streaming there would be no axis.
    hot = build(dispersion=150.0, speed=60.0, turbulence=0.05)
    kappa = kinematics(hot).kappa
    assert (kappa < 0.37).all()
    assert (kappa > 0.32).all()
    # They are thick too.
    assert hot.position[..., 2].std() > 10 * build().position[..., 2].std()


@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_turbulence_is_isotropic_and_takes_its_share_of_the_energy(strength):
    n = 60
    on = build(n, turbulence=strength, wave_length=0.2)
    off = build(n)
    motion = on.velocity - off.velocity
    # Fourteen plane waves: one galaxy scatters, the mean does not.
    amplitude = (motion**2).mean((0, 1)).sqrt() / 200
    torch.testing.assert_close(amplitude, torch.full((3,), strength), rtol=0.12, atol=0)
    ordered = (off.velocity**2).sum(-1).mean() / 200**2
    expected = (ordered + strength**2) / (ordered + 3 * strength**2)
    mean = kinematics(on).kappa.mean()
    assert mean.item() == pytest.approx(expected.item(), abs=0.03)


def test_counter_rotation_rotates_but_does_not_co_rotate():
    truth = kinematics(
        build(second=1, second_fraction=0.3, second_tilt=math.pi, second_width=0.1)
    )
    assert (truth.kappa > 0.97).all()
    torch.testing.assert_close(truth.kappa_co, torch.full((8,), 0.7), rtol=0, atol=0.05)


def test_misaligned_component_leaves_the_plane():
    disk = build(second=2, second_fraction=0.4, second_tilt=math.pi / 2)
    count = disk.mass.shape[1]
    main = rows(disk, slice(0, int(0.6 * count)))
    second = rows(disk, slice(int(0.6 * count) + 1, count))
    across = (momentum_axis(main) * momentum_axis(second)).sum(-1)
    assert across.abs().max() < 0.02
    assert (kinematics(main).kappa > 0.97).all()
    assert (kinematics(second).kappa > 0.97).all()
    assert (kinematics(disk).kappa < 0.9).all()


def test_stream_covers_an_arc_and_falls_in():
    disk = build(
        second=3,
        second_fraction=0.5,
        second_arc=0.25,
        second_flow=-0.8,
        second_radius=0.6,
        second_width=0.05,
    )
    stream = rows(disk, slice(1030, None))
    radial, around, radius = speeds(stream)
    torch.testing.assert_close(radial / around, torch.full_like(radial, -0.8))
    assert radius.mean().item() == pytest.approx(6, rel=0.02)
    x, y, _ = stream.position.unbind(-1)
    middle = torch.atan2(y.mean(1), x.mean(1))[:, None]
    away = torch.remainder(torch.atan2(y, x) - middle + math.pi, 2 * math.pi) - math.pi
    assert away.abs().max() < math.pi / 4 * 1.1
    assert (kinematics(disk).kappa < kinematics(build()).kappa - 0.1).all()


def test_warp_tilts_only_the_outskirts():
    disk = build(warp=0.5, warp_start=0.4, warp_twist=0.0)
    flat = build()
    radius = torch.linalg.vector_norm(flat.position, dim=-1)
    x, y, z = torch.linalg.cross(disk.position, disk.velocity).unbind(-1)
    tilt = torch.atan2(torch.hypot(x, y), z)
    outer = ((radius / 10 - 0.4) / 0.6).clamp(0, 1)
    # The height of the particles scatters the tilt a little near the center.
    far = radius > 2
    assert (tilt - 0.5 * outer).abs()[far].max() < 0.25
    assert (tilt - 0.5 * outer).abs()[far].mean() < 0.02
    assert (kinematics(disk).kappa < kinematics(flat).kappa - 0.003).all()


def test_bar_drives_streaming_inside_itself_alone():
    bar, none = build(bar=0.4, bar_radius=0.4), build()
    difference = torch.linalg.vector_norm(bar.velocity - none.velocity, dim=-1)
    _, _, radius = speeds(none)
    assert difference[radius < 3].mean() > 20
    assert difference[radius > 7].max() < 1
    # Twice the azimuth: the same on opposite sides, so no net radial motion.
    radial, _, _ = speeds(bar)
    assert radial.mean(1).abs().max() < 2
    assert (kinematics(bar).kappa < kinematics(none).kappa - 0.005).all()


def test_clumps_gather_gas_that_moves_together():
    size = {"n_pixels": 40, "extent": torch.full((8,), 11.0), "beam": torch.ones(8)}
    smooth, _, _ = project_gas(build(), **size)
    clumpy, _, _ = project_gas(
        build(clumps=0.8, clump_number=12.0, clump_size=0.03), **size
    )
    contrast = clumpy.amax((1, 2)) / smooth.amax((1, 2))
    assert contrast.median() > 2
    calm = kinematics(build(clumps=0.8, clump_number=40.0)).kappa
    stirred = kinematics(build(clumps=0.8, clump_number=40.0, clump_motion=1.0)).kappa
    assert (stirred < calm - 0.1).all()
    # Disorder puffs the disk up.
    assert build(clump_motion=1.0).position[..., 2].std() > 1


def test_satellite_sits_at_its_place_and_falls_in():
    p = plain(
        satellite_fraction=0.25,
        satellite_size=0.05,
        satellite_flow=1.5,
        satellite_orbit=0.0,
        satellite_spin=0.0,
    )
    galaxy = build_gas(p, 2000, generator())
    satellite = rows(galaxy, slice(1500, None))
    place = p["satellite_place"] * 10
    torch.testing.assert_close(satellite.position.mean(1), place, rtol=0, atol=0.1)
    assert satellite.position.std(1).max() < 0.6
    inward = -torch.nn.functional.normalize(place, dim=-1)
    torch.testing.assert_close(satellite.velocity.mean(1), 300 * inward)
    assert (kinematics(galaxy).kappa < 0.8).all()


@pytest.mark.parametrize("hole", [0.2, 0.5])
def test_holes_are_empty(hole):
    _, _, radius = speeds(build(hole=hole))
    inner = radius < 10 * (hole - 1 / 64)
    assert not inner.any()


def test_rings_and_scale_lengths_shape_the_profile():
    _, _, radius = speeds(build(ring=0.7))
    assert ((radius - 7).abs() < 2).float().mean() > 0.75
    _, _, small = speeds(build(scale_length=0.2))
    _, _, large = speeds(build(scale_length=0.8))
    assert small.median() < 0.7 * large.median()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_spiral_arms_have_their_number(number):
    disk = build(n_particles=8192, arms=0.8, arm_number=float(number), arm_pitch=0.0)
    x, y, _ = disk.position.unbind(-1)
    azimuth = torch.atan2(y, x)
    power = [
        torch.hypot((m * azimuth).cos().mean(1), (m * azimuth).sin().mean(1)).mean()
        for m in (1, 2, 3)
    ]
    assert max(range(3), key=power.__getitem__) + 1 == number
    assert power[number - 1] > 0.2


def test_views_are_isotropic():
    turn = random_orientation(4000, generator())
    identity = torch.eye(3).expand(4000, 3, 3)
    torch.testing.assert_close(turn @ turn.mT, identity, atol=5e-5, rtol=0)
    assert (torch.linalg.det(turn) > 0).all()
    # Every image of the spin axis in the half towards the observer is as likely.
    x, y, z = turn[:, :, 2].unbind(-1)
    ordered = z.sort().values
    distance = (ordered - torch.linspace(0, 1, 4000)).abs().max()
    assert distance < 1.63 / math.sqrt(4000)
    azimuth = (torch.atan2(y, x) / (2 * math.pi) % 1).sort().values
    assert (azimuth - torch.linspace(0, 1, 4000)).abs().max() < 1.63 / math.sqrt(4000)
