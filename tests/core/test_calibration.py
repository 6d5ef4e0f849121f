# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.core.calibration import LEVELS, ONE_SIGMA, domain, interpolate, widening


def test_levels():
    assert LEVELS[2] - LEVELS[0] == pytest.approx(ONE_SIGMA, abs=1e-12)
    assert LEVELS[1] == 0.5


def test_widening_finds_what_is_missing():
    rng = np.random.default_rng(0)
    width = rng.uniform(0.1, 1.0, 8000)
    # The wider an interval claims to be, the more it underestimates.
    error = np.abs(rng.normal(size=8000)) * width * (0.8 + 0.5 * width)
    factors = widening(width, lambda rows, f: np.mean(error[rows] <= f * width[rows]))
    assert np.all(np.diff(factors["width"]) > 0)
    expected = 0.8 + 0.5 * np.array(factors["width"])
    np.testing.assert_allclose(factors["factor"], expected, rtol=0.12)
    found = interpolate(factors, width).numpy() * width
    assert np.mean(error <= found) == pytest.approx(ONE_SIGMA, abs=0.01)


def test_interpolate():
    factors = {"width": [1.0, 2.0], "factor": [1.0, 3.0]}
    found = interpolate(factors, np.array([0.0, 1.5, 9.0]))
    assert found.dtype == torch.float32 and found.tolist() == [1.0, 2.0, 3.0]


def test_domain_holds_what_it_was_made_from():
    scalars = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    low, high = (np.array(domain(scalars)[key]) for key in ("low", "high"))
    inside = (scalars.numpy() >= low) & (scalars.numpy() <= high)
    assert inside.mean() > 0.999 and (high < 10).all()
