# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.core.distributions import LEVELS, ONE_SIGMA, interpolate, widening


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


def test_interpolate():
    tables = [
        {"place": [1.0, 2.0], "factor": [1.0, 3.0]},
        {"place": [0.0], "factor": [2.0]},
    ]
    predictors = torch.tensor([[0.0, 1.0], [1.5, 1.0], [9.0, 1.0]])
    found = interpolate(tables, predictors)
    assert found.dtype == torch.float32 and found.tolist() == [2.0, 4.0, 6.0]
    assert interpolate([], predictors).tolist() == [1.0, 1.0, 1.0]
