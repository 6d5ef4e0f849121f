# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.gas_kinematics.harmonic import fit_harmonics, unit_grid

SIZE = 32
X, Y = unit_grid(SIZE)
CIRCLE = (torch.hypot(X, Y) <= 1).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def disks(angle, inclination, turnover=0.2, speed=200.0):
    """Velocity and mask of thin disks; angles in degrees, shape (n,)."""
    turn = torch.deg2rad(angle)[:, None, None]
    tilt = torch.deg2rad(inclination)[:, None, None]
    along = -turn.sin() * X + turn.cos() * Y
    across = (turn.cos() * X + turn.sin() * Y) / tilt.cos()
    radius = torch.hypot(along, across)
    curve = speed * (2 / math.pi) * torch.atan(radius / turnover)
    return tilt.sin() * curve * along / radius, (radius <= 1).double()


def sample(n, lowest=20.0, highest=80.0):
    """Draw position angles and inclinations."""
    draw = torch.rand(2, n, generator=generator(1), dtype=torch.float64)
    return 360 * draw[0], lowest + (highest - lowest) * draw[1]


def error(fit, angle):
    """Degrees between the fit and the truth, -180 to 180."""
    return (torch.rad2deg(fit.angle) - angle + 180) % 360 - 180


def dihedral(image, flip, turns):
    """Image (y, x) mirrored in x, then turned counter-clockwise on the sky."""
    image = image.flip(-1) if flip else image
    return torch.rot90(image, -turns, (-2, -1))


def test_rings_of_the_model_are_recovered():
    angle, _ = sample(30)
    turn = torch.deg2rad(angle)[:, None, None]
    cosine = (-turn.sin() * X + turn.cos() * Y) / torch.hypot(X, Y)
    curve = torch.hypot(X, Y) * 100
    fit = fit_harmonics(curve * cosine + 37, CIRCLE.expand(30, -1, -1))
    assert error(fit, angle).abs().max() < 1e-3
    torch.testing.assert_close(
        fit.systemic, torch.full_like(angle, 37.0), rtol=0, atol=0.1
    )
    # Amplitudes rise in proportion to the radius, without a third harmonic.
    rings = fit.rings * fit.scale[:, None]
    expected = torch.tensor([25.0, 50, 75, 100, 0]).double().expand(30, -1)
    torch.testing.assert_close(rings, expected, rtol=0, atol=1.5)
    # What is left is the weak pull of the amplitudes towards zero.
    assert fit.unexplained.max() < 0.01


@pytest.mark.parametrize("turnover", [0.05, 0.2, 0.5])
def test_angle_of_thin_disks(turnover):
    angle, inclination = sample(150)
    velocity, inside = disks(angle, inclination, turnover)
    # What the grid itself costs.
    fit = fit_harmonics(velocity, CIRCLE.expand_as(velocity))
    assert error(fit, angle).abs().max() < 0.03
    fit = fit_harmonics(velocity, inside)
    assert error(fit, angle).abs().max() < 0.25
    assert error(fit, angle).abs().median() < 0.02
    # A square field weighs the diagonals of a strongly inclined disk more.
    fit = fit_harmonics(velocity, torch.ones_like(velocity))
    assert error(fit, angle).abs().max() < 2


@pytest.mark.parametrize("noise", [5.0, 20.0, 60.0])
def test_scatter_is_what_the_sharpness_says(noise):
    n = 300
    angle, inclination = sample(n, 35, 65)
    velocity, _ = disks(angle, inclination)
    velocity += noise * torch.randn(velocity.shape, generator=generator(2)).double()
    fit = fit_harmonics(velocity, CIRCLE.expand_as(velocity))
    # The log-likelihood of N pixels falls by N sharpness angle^2 / 4.
    sigma = torch.rad2deg((fit.sharpness * CIRCLE.sum() / 2).rsqrt())
    pull = error(fit, angle) / sigma
    assert 0.5 < pull.abs().sort().values[int(0.68 * n)] < 2.0
    assert error(fit, angle).abs().median() < 0.1 * noise


def test_sharpness_falls_with_noise():
    velocity, _ = disks(*sample(20, 40, 60))
    weight = CIRCLE.expand_as(velocity)
    noise = torch.randn(velocity.shape, generator=generator(2)).double()
    sharp = [
        fit_harmonics(velocity + s * noise, weight).sharpness for s in (3, 30, 300)
    ]
    assert (sharp[0] > 3 * sharp[1]).all()
    assert (sharp[1] > 3 * sharp[2]).all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_flips_and_quarter_turns_turn_the_angle_along(flip, turns):
    velocity, mask = disks(*sample(12))
    velocity += 25 * torch.randn(velocity.shape, generator=generator(3)).double()
    mask = mask * (torch.rand(mask.shape, generator=generator(4)) > 0.2)
    fit = fit_harmonics(velocity, mask)
    seen = fit_harmonics(
        dihedral(velocity, flip, turns), dihedral(mask, flip, turns).contiguous()
    )
    expected = (-fit.angle if flip else fit.angle) + turns * math.pi / 2
    away = (seen.angle - expected + math.pi) % (2 * math.pi) - math.pi
    assert away.abs().max() < 1e-9
    for name in ("systemic", "scale", "unexplained", "unexplained_free", "rings"):
        torch.testing.assert_close(
            getattr(seen, name), getattr(fit, name), rtol=1e-9, atol=1e-9
        )


def test_absurd_outliers_have_little_weight():
    n = 60
    angle, inclination = sample(n, 30, 70)
    velocity, _ = disks(angle, inclination)
    velocity += 10 * torch.randn(velocity.shape, generator=generator(5)).double()
    weight = CIRCLE.expand_as(velocity)
    clean = fit_harmonics(velocity, weight)
    hit = torch.rand(velocity.shape, generator=generator(6)) < 0.02
    # Survivors of the cut at eight times the typical velocity.
    sign = torch.rand(velocity.shape, generator=generator(7)).sub(0.5).sign().double()
    struck = fit_harmonics(torch.where(hit, 900 * sign, velocity), weight)
    assert error(struck, angle).abs().median() < 1.5
    assert error(struck, angle).abs().max() < 4 * error(clean, angle).abs().max() + 1
    hit = hit & (weight > 0)
    assert struck.weight[hit.flatten(1)].max() < 0.2
    assert struck.weight[((weight > 0) & ~hit).flatten(1)].median() > 0.9


@pytest.mark.parametrize("side", [0.0, 50.0, 90.0, 200.0])
def test_one_sided_maps_keep_their_angle(side):
    angle, inclination = sample(40, 35, 65)
    velocity, mask = disks(angle, inclination)
    turn = math.radians(side)
    shown = (X * math.cos(turn) + Y * math.sin(turn) > -0.2).double()
    fit = fit_harmonics(velocity, mask * shown)
    assert error(fit, angle).abs().max() < 15
    assert error(fit, angle).abs().median() < 3


def test_a_map_does_not_depend_on_its_batch():
    velocity, mask = disks(*sample(9))
    velocity += 30 * torch.randn(velocity.shape, generator=generator(8)).double()
    whole = fit_harmonics(velocity, mask)
    order = torch.randperm(9, generator=generator(9))
    shuffled = fit_harmonics(velocity[order], mask[order])
    alone = [fit_harmonics(velocity[i : i + 1], mask[i : i + 1]) for i in range(9)]
    for name, value in vars(whole).items():
        torch.testing.assert_close(
            torch.cat([getattr(fit, name) for fit in alone]),
            value,
            rtol=1e-9,
            atol=1e-9,
        )
        torch.testing.assert_close(
            getattr(shuffled, name), value[order], rtol=1e-9, atol=1e-9
        )


def test_units_and_offsets_come_out_again():
    angle, inclination = sample(20, 30, 70)
    velocity, mask = disks(angle, inclination)
    fit = fit_harmonics(velocity, mask)
    scaled = fit_harmonics(velocity * 1000, mask)
    torch.testing.assert_close(scaled.angle, fit.angle, rtol=0, atol=1e-9)
    torch.testing.assert_close(scaled.scale, fit.scale * 1000)
    torch.testing.assert_close(scaled.rings, fit.rings)
    reversed_ = fit_harmonics(-velocity, mask)
    assert error(reversed_, angle + 180).abs().max() < 0.25


@pytest.mark.parametrize("level", [0.0, 250.0])
def test_maps_without_structure_give_finite_results(level):
    velocity = torch.full((2, SIZE, SIZE), level, dtype=torch.float64)
    fit = fit_harmonics(velocity, CIRCLE.expand_as(velocity))
    assert all(torch.isfinite(value).all() for value in vars(fit).values())
    assert (fit.systemic - level).abs().max() <= 2e-3 * level


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_nearly_empty_maps_give_finite_results(shown):
    weight = torch.zeros(1, SIZE, SIZE, dtype=torch.float64)
    weight[0, 5, 5 : 5 + shown] = 1
    velocity = 100 * torch.randn(1, SIZE, SIZE, generator=generator()).double()
    fit = fit_harmonics(velocity, weight)
    assert all(torch.isfinite(value).all() for value in vars(fit).values())


def test_rings_with_angles_of_their_own_explain_a_warp():
    angle = torch.tensor([30.0], dtype=torch.float64)
    velocity, _ = disks(angle, torch.tensor([50.0], dtype=torch.float64))
    turn = torch.deg2rad(30 + 120 * torch.hypot(X, Y))
    twisted = 150 * (-turn.sin() * X + turn.cos() * Y)
    fit = fit_harmonics(torch.cat([velocity, twisted[None]]), CIRCLE.expand(2, -1, -1))
    assert fit.unexplained[0] < 0.05
    assert fit.unexplained[1] > 5 * fit.unexplained_free[1]
    assert (fit.unexplained_free <= fit.unexplained + 1e-9).all()
