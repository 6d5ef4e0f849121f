# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks import random_orientation, rotation_matrix
from galml.mocks.ifu import (
    half_light_ellipse,
    manga_beam,
    measure_spin,
    observe_ifu,
    spin_truth,
)
from galml.mocks.star_recipe import build_stars, draw_stars

OFF = (
    "arm_strength",
    "clump_fraction",
    "lopsidedness",
    "bar_fraction",
    "counter_fraction",
    "young_fraction",
    "thick_fraction",
    "ring_fraction",
    "shell_fraction",
)
SHAPE = {
    "disk_steepness": 1.0,
    "bulge_fraction": 0.0,
    "size": 3.356,
    "disk_length": 2.0,
    "disk_height": 0.005,
    "spheroid_radius": 4.0,
    "sersic_index": 3.0,
    "elongation": 1.0,
    "anisotropy": 0.0,
    "rotation": 0.0,
    "flattening": 1.0,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(inclination, n_particles=8192, **changes):
    """Galaxies without substructure, a thin disk by default, at inclinations (deg)."""
    n = len(inclination)
    p = draw_stars(n, generator(7))
    for name, value in (dict.fromkeys(OFF, 0.0) | SHAPE | changes).items():
        p[name] = torch.full((n,), float(value))
    stars = build_stars(p, n_particles, generator(1), n_gas=0)
    axis = torch.tensor([1.0, 0, 0]).expand(n, 3)
    return stars.rotated(rotation_matrix(axis, torch.deg2rad(inclination)))


def test_cold_disks_have_a_spin_of_one_from_any_side_but_the_pole():
    stars = build(torch.tensor([40.0, 60, 75]))
    truth = spin_truth(stars, stars.mass, torch.full((3,), 0.3))
    assert (truth.spin > 0.96).all()
    assert (truth.spin <= 1).all()
    assert (truth.spin_beam < truth.spin - 0.03).all()
    assert (truth.spin_beam > 0.7).all()


def test_spheres_without_rotation_have_none():
    stars = build(torch.tensor([0.0, 50, 90]), bulge_fraction=1.0)
    truth = spin_truth(stars, stars.mass, torch.full((3,), 0.5))
    assert (truth.spin < 1e-3).all()
    assert (truth.ellipticity < 0.03).all()
    # The half-light radius of the Sérsic profile, but for what is beyond 30 radii.
    torch.testing.assert_close(truth.r_eff, torch.full((3,), 4.0), rtol=0.02, atol=0)


def test_counter_rotation_turns_spin_into_dispersion():
    changes = {"counter_fraction": 0.5, "counter_length": 2.0}
    stars = build(torch.tensor([60.0]), **changes)
    shape = half_light_ellipse(stars, stars.mass)
    assert measure_spin(stars, stars.mass, shape) < 0.2


def test_ellipse_of_an_inclined_disk():
    inclination = torch.tensor([0.0, 30, 45, 60, 75])
    stars = build(inclination)
    turn = torch.deg2rad(torch.tensor([0.0, 20, 100, 130, 170]))
    axis = torch.tensor([0, 0, 1.0]).expand(5, 3)
    stars = stars.rotated(rotation_matrix(axis, turn))
    shape = half_light_ellipse(stars, stars.mass)
    expected = 1 - torch.deg2rad(inclination).cos()
    torch.testing.assert_close(shape.ellipticity, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(
        shape.r_eff, torch.full((5,), 1.678 * 2.0), rtol=0.02, atol=0
    )
    # The line of nodes was along x, at 90 degrees from +y.
    error = (shape.position_angle - 90 - torch.rad2deg(turn) + 90) % 180 - 90
    assert error[1:].abs().max() < 2
    assert ((shape.position_angle >= 0) & (shape.position_angle < 180)).all()


def test_more_iterations_do_not_change_the_ellipse():
    p = draw_stars(60, generator(12))
    galaxy = build_stars(p, 8192, generator(13), n_gas=0)
    galaxy = galaxy.rotated(random_orientation(60, generator(14)))
    found, final = (half_light_ellipse(galaxy, galaxy.mass, n) for n in (8, 80))
    error = (found.ellipticity - final.ellipticity).abs()
    assert error.median() < 1e-3
    assert error.quantile(0.9) < 5e-3
    assert ((found.r_eff / final.r_eff - 1).abs()).quantile(0.9) < 5e-3


def test_light_not_mass_sets_the_ellipse():
    stars = build(torch.tensor([30.0]))
    radius = torch.linalg.vector_norm(stars.position, dim=-1)
    bright = half_light_ellipse(stars, stars.mass * torch.exp(-radius))
    assert bright.r_eff < 0.7 * half_light_ellipse(stars, stars.mass).r_eff


def test_maps_show_the_line_of_sight():
    stars = build(torch.tensor([45.0]))
    flux, velocity, dispersion = observe_ifu(stars, stars.mass, torch.tensor([8.0]), 24)
    assert flux.shape == velocity.shape == dispersion.shape == (1, 24, 24)
    seen = (stars.position[..., :2].abs() < 8).all(-1)
    torch.testing.assert_close(flux.sum(), stars.mass[seen].sum(), rtol=1e-3, atol=0)
    # Rotation about an axis tilted towards +y: the two sides in x differ in sign.
    sides = velocity[0, 12, 16:20].mean(), velocity[0, 12, 4:8].mean()
    assert sides[0] * sides[1] < 0
    assert float(sides[0]) == pytest.approx(-float(sides[1]), rel=0.1)
    _, smooth, mixed = observe_ifu(
        stars, stars.mass, torch.tensor([8.0]), 24, beam=torch.tensor([4.0])
    )
    assert smooth.nan_to_num().abs().max() < velocity.nan_to_num().abs().max()
    assert mixed[0, 12, 12] > 20


def test_few_particles_do_not_bias_the_spin():
    p = draw_stars(24, generator(3))
    p["clump_fraction"] = torch.zeros(24)
    turn = random_orientation(24, generator(4))
    beam = manga_beam(24, generator(5))
    few, many = (
        spin_truth(stars, stars.mass, beam)
        for stars in (
            build_stars(p, count, generator(6), n_gas=0).rotated(turn)
            for count in (8192, 81920)
        )
    )
    for name in ("spin", "spin_beam"):
        error = getattr(few, name) - getattr(many, name)
        assert error.mean().abs() < 0.01
        assert error.std() < 0.02
    assert (few.ellipticity - many.ellipticity).abs().mean() < 0.02


def test_types_spin_as_their_names_say():
    types = torch.tensor([0] * 16 + [4] * 16)
    p = draw_stars(32, generator(8), types)
    stars = build_stars(p, 8192, generator(9), n_gas=0)
    stars = stars.rotated(random_orientation(32, generator(10)))
    truth = spin_truth(stars, stars.mass, manga_beam(32, generator(11)))
    assert len(truth[:16]) == 16
    assert truth[:16].spin.median() < 0.1
    assert truth[16:].spin.median() > 0.45
    assert torch.isfinite(truth.spin_beam).all()


def test_beam_of_manga_is_below_a_half_light_radius():
    beam = manga_beam(1000, generator())
    assert 0.2 <= beam.min() < beam.max() <= 1.25
    assert math.isclose(float(beam.median()), 0.5, rel_tol=0.1)
