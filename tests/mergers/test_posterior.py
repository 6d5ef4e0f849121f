# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch

from galml.core.metrics import coverage
from galml.mergers.posterior import (
    LATEST,
    STAGES,
    calibrate,
    entropies,
    fit_temperature,
    histogram_quantiles,
    merger_samples,
    stage_probability,
)

ONE = torch.ones(1)


def test_the_probability_is_of_two_classes():
    """Other stages do not count in it."""
    logits = torch.tensor([[1.0, 9.0, -3.0, 3.0, 2.0]])
    found = merger_samples(logits, ONE, 0 * ONE)
    assert found.item() == pytest.approx(1 / (1 + math.exp(-2)))
    warm = merger_samples(logits, 2 * ONE, ONE)
    assert warm.item() == pytest.approx(1 / (1 + math.exp(-2)))
    two = merger_samples(torch.tensor([[1.0, 3.0]]), ONE, 0 * ONE)
    torch.testing.assert_close(two, found)
    passes = merger_samples(logits[:, None].expand(1, 4, 5), ONE, 0 * ONE)
    assert passes.shape == (1, 4)


def test_stages_sum_up_to_one():
    logits = torch.randn(3, 4, len(STAGES))
    found = stage_probability(logits, torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 4))
    torch.testing.assert_close(found[1], torch.softmax(logits[1], -1))


def test_entropies_of_what_is_known():
    even = torch.full((1, 8, 2), 0.5)
    data, model = entropies(even)
    assert data.item() == pytest.approx(1) and model.item() == pytest.approx(0)
    # Passes that are sure, and of different opinions.
    split = torch.eye(2)[torch.arange(8) % 2][None]
    data, model = entropies(split)
    assert data.item() == pytest.approx(0) and model.item() == pytest.approx(1)


def test_median_and_ends_of_a_histogram():
    logits = torch.full((2, 15), -20.0)
    logits[0, 4] = logits[1, 9] = 0
    quantiles = histogram_quantiles("time", logits, [])
    low, middle, high = quantiles.unbind(1)
    expected = torch.tensor([4.5, 9.5]) * LATEST / 15
    torch.testing.assert_close(middle, expected, rtol=0, atol=1e-4)
    assert (low < middle).all() and (middle < high).all()
    wide = histogram_quantiles("time", logits, [], torch.full((2,), 3.0))
    assert (wide[:, 2] - wide[:, 0] > high - low).all()


def classes(count, temperature, seed=0, shift=0.0):
    """Logits that are too sure by a factor, and classes drawn from the right ones."""
    generator = torch.Generator().manual_seed(seed)
    right = 1.5 * torch.randn(count, len(STAGES), generator=generator)
    right[:, 3] += shift
    stage = torch.multinomial(torch.softmax(right, 1), 1, generator=generator)[:, 0]
    return temperature * right[:, None], stage.float()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_temperatures_are_found(temperature):
    logits, stage = classes(6000, temperature)
    assert fit_temperature(logits, stage) == pytest.approx(temperature, rel=0.08)


def test_calibration_is_right_for_equal_numbers():
    """Whatever the odds of the classes are in the data set."""
    logits, stage = classes(30_000, 2.0, shift=-1.5)
    data = {"stage": stage, "group": torch.zeros(len(stage))}
    numbers = calibrate({"stage": logits}, data)["temperature"]["all"]
    assert numbers["merger"] == pytest.approx(2.0, rel=0.1)
    chance = merger_samples(
        logits,
        torch.full((len(stage),), numbers["merger"]),
        torch.full((len(stage),), numbers["offset"]),
    ).mean(1)
    fresh = (stage == 0) | (stage == 3)
    positive, chance = (stage == 3)[fresh].numpy(), chance[fresh].numpy()
    weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (chance >= low) & (chance < low + 0.2)
        share = (weight * positive)[inside].sum() / weight[inside].sum()
        mean = (weight * chance)[inside].sum() / weight[inside].sum()
        assert share == pytest.approx(mean, abs=0.05)


def test_groups_have_their_own_temperatures():
    parts = [
        classes(2500, temperature, seed) for seed, temperature in ((1, 0.8), (2, 3))
    ]
    logits, stage = (torch.cat(column) for column in zip(*parts, strict=True))
    group = torch.arange(5000) // 2500 * 10 + 2
    group[:50] = 5  # too few
    found = calibrate({"stage": logits}, {"stage": stage, "group": group.float()})
    tables = found["temperature"]
    assert set(tables) == {"all", "filter 0", "filter 1", "2", "12"}
    assert tables["2"]["stage"] == pytest.approx(0.8, rel=0.1)
    assert tables["12"]["stage"] == pytest.approx(3, rel=0.1)


def test_contaminations_are_covered():
    """Widths that are too small by half are made right."""
    generator = torch.Generator().manual_seed(4)
    center = 0.2 + 0.6 * torch.rand(4000, generator=generator)
    truth = center + 0.1 * torch.randn(4000, generator=generator)
    # Bins are even in the root.
    bins = ((torch.arange(40) + 0.5) / 40) ** 2
    logits = -0.5 * ((bins - center[:, None]) / 0.05) ** 2
    data = {
        "stage": torch.zeros(4000),
        "group": torch.zeros(4000),
        "contamination": truth,
    }
    outputs = {"stage": torch.zeros(4000, 1, 5), "contamination": logits[:, None]}
    tables = calibrate(outputs, data)["contamination"]
    for factors, expected in ((tables, 0.683), ([], 0.38)):
        low, _, high = histogram_quantiles("contamination", logits, factors).T
        found = coverage(truth, low.numpy(), high.numpy())
        assert found == pytest.approx(expected, abs=0.03)
