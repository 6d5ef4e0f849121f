# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.core.distributions import LEVELS
from galml.gas_kinematics.posterior import (
    angle_components,
    angle_log_density,
    angle_quantile,
    arcsine_scale,
    kappa_quantile,
    widen_histogram,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def angle_outputs(n=12):
    draw = torch.randn(n, 6, generator=generator(1)) * 1.5
    odd = torch.randn(n, 1, generator=generator(2)) * 2
    return {"angle_even": draw, "angle_odd": odd}


def test_angle_density_integrates_to_one():
    outputs = angle_outputs()
    angles = (torch.arange(4000) + 0.5) / 4000 * 2 * math.pi - math.pi
    density = torch.stack([angle_log_density(outputs, a) for a in angles], 1).exp()
    total = density.sum(1) * 2 * math.pi / 4000
    torch.testing.assert_close(total, torch.ones(12), rtol=0, atol=1e-3)


def test_angle_density_has_its_period_and_peaks_at_the_mean():
    outputs = angle_outputs()
    mean, concentration, log_weight = angle_components(outputs)
    peak = angle_log_density(outputs, mean)
    turned = angle_log_density(outputs, mean + 2 * math.pi)
    torch.testing.assert_close(turned, peak, rtol=0, atol=2e-3)
    for offset in (0.05, -0.05, 1.0, -1.0, math.pi):
        assert (angle_log_density(outputs, mean + offset) < peak).all()
    torch.testing.assert_close(log_weight.exp().sum(1), torch.ones(12))
    assert (concentration[:, 0] > concentration[:, 1]).all()
    assert (concentration[:, 2] == 0).all()


def test_mirrored_maps_reverse_the_angle():
    outputs = angle_outputs()
    mirrored = outputs | {"angle_odd": -outputs["angle_odd"]}
    mean, *_ = angle_components(outputs)
    torch.testing.assert_close(angle_components(mirrored)[0], -mean)
    angle = torch.linspace(-3, 3, 12)
    torch.testing.assert_close(
        angle_log_density(mirrored, -angle), angle_log_density(outputs, angle)
    )


def test_extreme_outputs_stay_finite():
    outputs = {
        "angle_even": torch.tensor([[1e4] * 6, [-1e4] * 6, [0, 50.0, 50, 80, -80, 0]]),
        "angle_odd": torch.tensor([[1e4], [-1e4], [0.0]]),
    }
    for angle in (0.0, 3.0):
        density = angle_log_density(outputs, torch.full((3,), angle))
        assert torch.isfinite(density).all()


def test_half_widths_hold_their_share():
    outputs = angle_outputs()
    _, concentration, log_weight = angle_components(outputs)
    levels = torch.tensor([0.2, 0.68, 0.95]).expand(12, -1)
    width = angle_quantile(concentration, log_weight, levels)
    assert (width.diff(dim=1) > 0).all()
    assert (width <= math.pi).all()
    angles = ((torch.arange(40_000) + 0.5) / 40_000 * math.pi).double()
    parts = torch.exp((angles.cos() - 1) * concentration.double()[..., None])
    parts = parts / torch.special.i0e(concentration.double())[..., None]
    density = (parts * log_weight.double().exp()[..., None]).sum(1) / 40_000
    for column, level in enumerate((0.2, 0.68, 0.95)):
        held = (density * (angles <= width[:, column : column + 1])).sum(1)
        torch.testing.assert_close(
            held, torch.full_like(held, level), rtol=0, atol=5e-3
        )


def test_half_widths_of_the_uniform_and_the_narrow_distribution():
    concentration = torch.tensor([[0.0, 0, 0], [1e4, 1e4, 0]])
    log_weight = torch.tensor([[0.0, -50, -50], [0.0, -50, -50]])
    levels = torch.tensor([[0.5], [0.6827]])
    width = angle_quantile(concentration, log_weight, levels)
    assert width[0].item() == pytest.approx(math.pi / 2, rel=1e-3)
    # One standard deviation of the normal distribution that it tends to.
    assert width[1].item() == pytest.approx(0.01, rel=0.01)


def normal_histogram(mean, width, bins=200):
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.double)
    score = (edges - mean[:, None]) / width[:, None]
    return torch.special.ndtr(score).diff(dim=1).float()


def test_circularities_come_back_from_their_scale():
    kappa = torch.linspace(0, 1, 41)
    place = arcsine_scale(kappa)
    assert (place.diff() > 0).all() and place[20] == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(torch.sin(math.pi / 2 * place) ** 2, kappa)
    # Cold disks: what is missing to 1 goes with the dispersion, not with its square.
    ratio = torch.tensor([0.05, 0.1])
    cold = (1 + ratio**2) / (1 + 3 * ratio**2)
    missing = 1 - arcsine_scale(cold)
    assert missing[1] / missing[0] == pytest.approx(2, rel=0.02)


def test_quantiles_are_circularities():
    probability = torch.zeros(2, 48)
    probability[0, 47] = probability[1, :24] = 1.0
    probability /= probability.sum(1, keepdim=True)
    found = kappa_quantile(probability, torch.tensor([0.01, 0.5, 1.0]))
    assert found[0, 0] > 0.998 and found[0, 2] == 1
    assert found[1, 2] == pytest.approx(0.5, abs=1e-6)
    assert (found.diff(dim=1) > 0).all()


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_normal_distributions_are_widened_by_the_factor(factor):
    mean, width = torch.tensor([0.4, 0.6]), torch.tensor([0.02, 0.04])
    widened = widen_histogram(normal_histogram(mean, width), torch.full((2,), factor))
    torch.testing.assert_close(widened.sum(1), torch.ones(2))
    wanted = normal_histogram(mean, width * factor)
    assert (widened.cumsum(1) - wanted.cumsum(1)).abs().max() < 0.01


def test_what_lies_at_an_end_stays_within_reach():
    # Nine tenths of all within the highest bins: half way on, the interval ends there.
    probability = torch.zeros(1, 48)
    probability[0, 44:], probability[0, :44] = 0.9 / 4, 0.1 / 44
    top = [
        kappa_quantile(
            widen_histogram(probability, torch.tensor([f])), torch.tensor(LEVELS[2:])
        )
        for f in (1.0, 2.0)
    ]
    assert top[1] > top[0] > 0.99


def test_widened_distributions_stay_distributions():
    logits = torch.randn(50, 48, generator=generator(3)) * 30
    for factor in (0.5, 2.0):
        found = widen_histogram(torch.softmax(logits, 1), torch.full((50,), factor))
        assert torch.isfinite(found).all() and (found >= 0).all()
        torch.testing.assert_close(found.sum(1), torch.ones(50))
