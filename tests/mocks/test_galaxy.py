# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.core import InputError
from galml.mocks import Galaxy, kinematics, project_gas, rotation_matrix
from galml.mocks.gas_recipe import CURVES, circular_speed


def ring_disk(n_particles=4000, dispersion=0.0, sign=1.0, speed=200.0):
    """Disk in the plane z = 0, on circular orbits about +z."""
    index = torch.arange(n_particles, dtype=torch.float64)
    radius = 10 * torch.sqrt((index + 0.5) / n_particles)
    azimuth = index * math.pi * (3 - math.sqrt(5))
    zero = torch.zeros_like(radius)
    position = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), zero], -1)
    around = torch.stack([-azimuth.sin(), azimuth.cos(), zero], -1)
    velocity = speed * sign * around
    return Galaxy(
        position[None],
        velocity[None],
        torch.ones(1, n_particles, dtype=torch.float64),
        torch.full((1, n_particles), dispersion, dtype=torch.float64),
    )


def incline(particles, inclination, angle):
    """Turn a face-on disk: inclination about x, then ``angle`` on the sky."""
    axis_x = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    axis_z = torch.tensor([0, 0, 1.0], dtype=torch.float64)
    matrix = rotation_matrix(axis_z, torch.tensor(math.radians(angle)).double())
    matrix = matrix @ rotation_matrix(
        axis_x, torch.tensor(math.radians(inclination)).double()
    )
    return particles.rotated(matrix[None])


def test_circular_rotation_has_kappa_one():
    truth = kinematics(incline(ring_disk(), 50, 20))
    assert truth.kappa.item() == pytest.approx(1, abs=1e-6)
    assert truth.kappa_co.item() == pytest.approx(1, abs=1e-6)
    assert truth.inclination.item() == pytest.approx(50, abs=1e-3)


def test_isotropic_dispersion_has_kappa_one_third():
    disk = ring_disk(speed=0.0, dispersion=80.0)
    axis = torch.tensor([[0, 0, 1.0]], dtype=torch.float64)
    assert kinematics(disk, axis=axis).kappa.item() == pytest.approx(1 / 3, abs=1e-12)
    drawn = disk.sampled(torch.Generator().manual_seed(1))
    assert (drawn.dispersion == 0).all()
    assert kinematics(drawn, axis=axis).kappa.item() == pytest.approx(1 / 3, abs=0.01)
    # An isotropic system is as likely to co-rotate as not.
    assert kinematics(drawn, axis=axis).kappa_co.item() == pytest.approx(
        kinematics(disk, axis=axis).kappa_co.item(), abs=0.01
    )


@pytest.mark.parametrize("dispersion", [20.0, 100.0, 200.0])
def test_dispersion_inside_clouds_counts_like_sampled_motions(dispersion):
    disk = ring_disk(n_particles=60_000, dispersion=dispersion)
    expected = (200**2 + dispersion**2) / (200**2 + 3 * dispersion**2)
    truth = kinematics(disk)
    drawn = kinematics(disk.sampled(torch.Generator().manual_seed(2)))
    assert truth.kappa.item() == pytest.approx(expected, abs=1e-4)
    assert drawn.kappa.item() == pytest.approx(expected, abs=5e-3)
    assert drawn.kappa_co.item() == pytest.approx(truth.kappa_co.item(), abs=5e-3)


def test_counter_rotating_halves_rotate_but_only_one_co_rotates():
    one, other = ring_disk(), ring_disk(sign=-1.0)
    both = one.joined(other)
    axis = torch.tensor([[0, 0, 1.0]], dtype=torch.float64)
    truth = kinematics(both, axis=axis)
    assert truth.kappa.item() == pytest.approx(1, abs=1e-6)
    assert truth.kappa_co.item() == pytest.approx(0.5, abs=1e-6)
    # Its map cannot tell: the two halves cancel wherever they overlap.
    seen = incline(both, 60, 0)
    _, velocity, dispersion = project_gas(
        seen, 40, torch.tensor([11.0]), torch.tensor([6.0])
    )
    inner = (slice(None), slice(14, 26), slice(14, 26))
    assert velocity[inner].abs().max() < 25
    assert dispersion[inner].max() > 100


@pytest.mark.parametrize("angle", [0, 37, 120, 200, 311])
def test_position_angle_points_to_the_receding_side(angle):
    disk = incline(ring_disk(), 40, angle)
    truth = kinematics(disk)
    pa = math.radians(truth.position_angle.item())
    x, y = disk.position[0, :, 0], disk.position[0, :, 1]
    along = -math.sin(pa) * x + math.cos(pa) * y
    across = math.cos(pa) * x + math.sin(pa) * y
    receding = disk.velocity[0, :, 2]
    assert (along * receding).sum() > 0
    assert (across * receding).sum().abs() < 1e-3 * (along * receding).sum()


def test_radial_infall_has_kappa_zero():
    disk = ring_disk()
    fall = Galaxy(disk.position, -20 * disk.position, disk.mass, disk.dispersion)
    axis = torch.tensor([[0, 0, 1.0]], dtype=torch.float64)
    assert kinematics(fall, axis=axis).kappa.item() == pytest.approx(0, abs=1e-5)


def test_bulk_motion_does_not_count_and_aperture_does():
    disk = ring_disk(dispersion=30.0)
    moved = Galaxy(disk.position, disk.velocity + 500.0, disk.mass, disk.dispersion)
    assert kinematics(moved).kappa.item() == pytest.approx(
        kinematics(disk).kappa.item(), abs=1e-6
    )
    hot = disk.velocity.clone()
    outer = (disk.position**2).sum(-1) > 25
    hot[outer] = 0
    mixed = Galaxy(disk.position, hot, disk.mass, disk.dispersion)
    inner = kinematics(mixed, inside=~outer)
    assert inner.kappa.item() == pytest.approx(kinematics(disk).kappa.item(), abs=1e-3)
    assert kinematics(mixed).kappa < inner.kappa - 0.005


def test_thin_disk_velocity_field_follows_its_formula():
    inclination, angle, speed = 55.0, 25.0, 150.0
    disk = incline(ring_disk(n_particles=400_000, speed=speed), inclination, angle)
    size, extent = 100, 12.0
    _, velocity, _ = project_gas(
        disk, size, torch.tensor([extent]), torch.tensor([0.9])
    )
    pixel = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 * extent / size - extent
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    pa = math.radians(kinematics(disk).position_angle.item())
    major = -math.sin(pa) * x + math.cos(pa) * y
    minor = (math.cos(pa) * x + math.sin(pa) * y) / math.cos(math.radians(inclination))
    radius = torch.hypot(major, minor)
    formula = speed * math.sin(math.radians(inclination)) * major / radius
    ring = (radius > 5) & (radius < 9)
    assert (velocity[0] - formula)[ring].abs().max() < 0.04 * speed


@pytest.mark.parametrize("kind", range(len(CURVES)))
def test_rotation_curves_rise_to_their_speed(kind):
    radius = torch.linspace(0, 100, 200)[None]
    curve = circular_speed(
        radius,
        torch.tensor([kind]),
        torch.tensor([220.0]),
        torch.tensor([0.5]),
        torch.tensor([2.0]),
    )[0]
    assert curve[0].abs() < 1e-3
    assert (curve.diff() >= -1e-4).all()
    assert curve[-1].item() == pytest.approx(220, rel=0.01)


def test_dispersions_by_direction_count_like_sampled_motions():
    """An ellipsoid of velocities, turned with the galaxy."""
    disk = ring_disk(n_particles=60_000, speed=150.0)
    spread = torch.tensor([90.0, 60, 30], dtype=torch.float64)
    disk = Galaxy(
        disk.position, disk.velocity, disk.mass, spread.expand_as(disk.position)
    )
    seen = incline(disk, 65, 40)
    truth = kinematics(seen)
    expected = (150**2 + 60**2) / (150**2 + 90**2 + 60**2 + 30**2)
    assert truth.kappa.item() == pytest.approx(expected, abs=1e-4)
    drawn = seen.sampled(torch.Generator().manual_seed(3))
    counted = kinematics(drawn)
    assert counted.kappa.item() == pytest.approx(expected, abs=5e-3)
    assert counted.kappa_co.item() == pytest.approx(truth.kappa_co.item(), abs=5e-3)
    motion = drawn.velocity - seen.velocity
    expected = seen.line_of_sight_dispersion().square().mean().sqrt()
    assert motion[..., 2].std().item() == pytest.approx(expected.item(), rel=0.02)
    # Along its own axis, a galaxy has what stars have up and down.
    own = seen.dispersion_along(seen.frame[..., 2])
    torch.testing.assert_close(own, torch.full_like(own, 30))


def test_parts_share_memory_and_keep_the_frame():
    n, p = 2, 5
    flat = torch.rand(n, p)
    galaxy = Galaxy(
        torch.rand(n, p, 3),
        torch.rand(n, p, 3),
        flat,
        torch.zeros(n, p),
        age=torch.ones(n, 3),
        metallicity=torch.full((n, 3), 0.02),
        component=torch.arange(p).expand(n, p),
    )
    assert galaxy.n_stars == 3
    stars, gas = galaxy.stars, galaxy.gas
    assert stars.mass.data_ptr() == galaxy.mass.data_ptr()
    assert stars.component.tolist() == [[0, 1, 2]] * 2
    assert gas.component.tolist() == [[3, 4]] * 2
    assert gas.age is None
    assert gas.n_stars == 0
    torch.testing.assert_close(galaxy.stellar_mass, flat[:, :3].sum(1))
    torch.testing.assert_close(galaxy.gas_mass, flat[:, 3:].sum(1))
    turn = rotation_matrix(torch.tensor([[1.0, 0, 0]]), torch.tensor([0.5]))
    turned = galaxy.rotated(turn.expand(2, 3, 3))
    torch.testing.assert_close(turned.gas.frame, turn.expand(2, 3, 3))
    expected = torch.full((2,), math.degrees(0.5))
    torch.testing.assert_close(turned.inclination, expected, rtol=0, atol=0.01)
    assert len(turned[:1]) == 1
    assert turned[:1].frame.shape == (1, 3, 3)


@pytest.mark.parametrize(
    "name",
    ["position", "velocity", "mass", "dispersion", "metallicity", "spacing", "frame"],
)
def test_shapes_must_belong_together(name):
    parts = {
        "position": torch.zeros(2, 5, 3),
        "velocity": torch.zeros(2, 5, 3),
        "mass": torch.ones(2, 5),
        "dispersion": torch.zeros(2, 5),
        "age": torch.ones(2, 3),
        "metallicity": torch.ones(2, 3),
    }
    assert len(Galaxy(**parts)) == 2
    parts[name] = torch.zeros(4)
    with pytest.raises(InputError, match=name):
        Galaxy(**parts)


def test_ages_need_metals():
    flat = torch.ones(2, 5)
    vector = torch.zeros(2, 5, 3)
    with pytest.raises(InputError, match="metallicity"):
        Galaxy(vector, vector, flat, flat, age=flat)


def test_joined_galaxies_need_the_same_quantities():
    one = ring_disk(100)
    other = Galaxy(
        one.position,
        one.velocity,
        one.mass,
        one.dispersion,
        age=torch.ones(1, 100),
        metallicity=torch.full((1, 100), 0.02),
    )
    with pytest.raises(InputError, match="age"):
        one.joined(other)
