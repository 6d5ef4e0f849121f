# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch

from galml.core.distributions import (
    LEVELS,
    ONE_SIGMA,
    bin_centers,
    histogram_log_density,
    histogram_quantile,
    interpolate,
    widening,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_levels():
    assert LEVELS[2] - LEVELS[0] == pytest.approx(ONE_SIGMA, abs=1e-12)
    assert LEVELS[1] == 0.5


def test_widening_finds_what_is_missing():
    rng = np.random.default_rng(0)
    width, tilt = rng.uniform(0.1, 1.0, 8000), rng.uniform(0, 90, 8000)
    # The wider an interval claims to be, and the higher the tilt, the more is missing.
    missing = (0.8 + 0.5 * width) * (1 + 0.005 * tilt)
    error = np.abs(rng.normal(size=8000)) * width * missing
    predictors = np.column_stack([width, tilt])
    tables = widening(predictors, lambda factor: error <= factor * width)
    factor = interpolate(tables, torch.from_numpy(predictors)).numpy()
    np.testing.assert_allclose(factor, missing, rtol=0.2)
    inside = error <= factor * width
    assert np.mean(inside) == pytest.approx(ONE_SIGMA, abs=0.01)
    for number in (width, tilt):
        for rows in np.array_split(np.argsort(number), 4):
            assert np.mean(inside[rows]) == pytest.approx(ONE_SIGMA, abs=0.025)
    assert all(np.all(np.diff(table["place"]) > 0) for table in tables)


def test_no_group_is_missed_much_more_often():
    rng = np.random.default_rng(0)
    predictors = rng.uniform(size=(8000, 1))
    # Nothing tells the truth, of which a share lies far out.
    truth = np.where(rng.random(8000) < 0.2, 3.0, 0.5) * rng.normal(size=8000)
    groups = (np.abs(truth) > 1.5).astype(int)

    def covers(factor):
        return np.abs(truth) <= factor

    def inside(*groups_given):
        tables = widening(predictors, covers, *groups_given)
        return covers(interpolate(tables, torch.from_numpy(predictors)).numpy())

    plain, fair = inside(), inside(groups)
    assert np.mean(plain) == pytest.approx(ONE_SIGMA, abs=0.02)
    assert not plain[groups == 1].any()
    assert np.mean(fair) > np.mean(plain) + 0.1


def test_few_members_are_no_group():
    rng = np.random.default_rng(1)
    predictors, error = rng.uniform(size=(800, 1)), np.abs(rng.normal(size=800))
    groups = np.zeros(800, dtype=int)
    groups[np.argsort(error)[-40:]] = 1

    def tables(*given):
        return widening(predictors, lambda factor: error <= factor, *given)

    assert tables(groups) == tables()


def test_interpolate():
    tables = [
        {"place": [1.0, 2.0], "factor": [1.0, 3.0]},
        {"place": [0.0], "factor": [2.0]},
    ]
    predictors = torch.tensor([[0.0, 1.0], [1.5, 1.0], [9.0, 1.0]])
    found = interpolate(tables, predictors)
    assert found.dtype == torch.float32 and found.tolist() == [2.0, 4.0, 6.0]
    assert interpolate([], predictors).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("upper", [1.0, 90.0])
def test_bin_centers_are_halfway(upper):
    centers = bin_centers(torch.zeros(3, 4), upper)
    expected = torch.tensor([0.125, 0.375, 0.625, 0.875]) * upper
    torch.testing.assert_close(centers, expected)


@pytest.mark.parametrize("upper", [1.0, 90.0])
def test_quantiles_agree_with_numpy_on_draws(upper):
    bins, n_draws = 32, 200_000
    probability = torch.softmax(torch.randn(5, bins, generator=generator()), 1)
    levels = torch.tensor([0.05, 0.16, 0.5, 0.84, 0.95])
    quantiles = histogram_quantile(probability, levels, upper)
    rng = np.random.default_rng(1)
    for row, expected in zip(probability.double().numpy(), quantiles, strict=True):
        place = rng.choice(bins, n_draws, p=row / row.sum()) + rng.random(n_draws)
        drawn = np.quantile(place * upper / bins, levels.numpy())
        np.testing.assert_allclose(expected, drawn, rtol=0, atol=0.008 * upper)


def test_quantiles_agree_with_numpy_on_a_fine_histogram():
    bins = 4000
    centers = (np.arange(bins) + 0.5) / bins
    density = np.exp(-0.5 * ((centers - 0.4) / 0.1) ** 2)
    levels = np.array([0.025, 0.16, 0.5, 0.84, 0.975])
    cumulative = np.cumsum(density) / density.sum()
    expected = np.interp(levels, cumulative, (np.arange(bins) + 1) / bins)
    quantiles = histogram_quantile(
        torch.from_numpy(density / density.sum())[None], torch.from_numpy(levels), 1.0
    )
    np.testing.assert_allclose(quantiles[0], expected, rtol=0, atol=1e-9)


def test_quantiles_of_each_row_and_their_ends():
    probability = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    levels = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.5, 1.0]])
    quantiles = histogram_quantile(probability, levels, 4.0)
    expected = torch.tensor([[0.0, 1.0, 2.0], [3.25, 3.5, 4.0]])
    torch.testing.assert_close(quantiles, expected)


def test_quantiles_rise_with_their_levels():
    probability = torch.softmax(4 * torch.randn(50, 18, generator=generator()), 1)
    levels = torch.linspace(0, 1, 101)
    quantiles = histogram_quantile(probability, levels, 90.0)
    assert (quantiles.diff(dim=1) >= 0).all()
    assert quantiles.min() >= 0
    assert quantiles.max() <= 90


def test_histogram_density_prefers_the_truth():
    truth = torch.tensor([0.1, 0.5, 0.93])
    centers = bin_centers(torch.zeros(1, 32), 1.0)
    right = -0.5 * ((centers - truth[:, None]) / 0.03) ** 2
    wrong = right.roll(8, dims=1)
    score = histogram_log_density(right, truth, 1.0, 0.03)
    flat = histogram_log_density(torch.zeros(3, 32), truth, 1.0, 0.03)
    assert (score > flat).all()
    assert (flat > histogram_log_density(wrong, truth, 1.0, 0.03)).all()
    torch.testing.assert_close(flat, torch.full((3,), -math.log(32)))
    # The cross-entropy is highest for the blurred truth itself.
    closer = histogram_log_density(right * 1.2, truth, 1.0, 0.03)
    wider = histogram_log_density(right * 0.8, truth, 1.0, 0.03)
    assert (score > closer).all()
    assert (score > wider).all()
