# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.stellar_spin.posterior import (
    UNCALIBRATED,
    calibrate,
    fast_rotators,
    interval,
    posterior,
)

COUNT = 3000


def outputs(spin, width, ellipticity, error):
    """Outputs of a network that means normal distributions."""
    centers = (torch.arange(40) + 0.5) / 40
    spin, width, ellipticity, error = (
        torch.as_tensor(np.broadcast_to(value, COUNT).copy(), dtype=torch.float32)
        for value in (spin, width, ellipticity, error)
    )
    logits = -0.5 * ((centers - spin[:, None]) / width[:, None]) ** 2
    raw = [torch.logit(ellipticity), torch.logit((error - 0.005) / 0.3)]
    return {"spin": logits, "ellipticity": torch.stack(raw, 1)}


def test_moments():
    result = posterior(outputs(0.4, 0.08, 0.3, 0.05), UNCALIBRATED)
    assert result["spin_mean"][0] == pytest.approx(0.4, abs=1e-3)
    assert result["spin_error"][0] == pytest.approx(0.08, abs=2e-3)
    assert result["ellipticity"][0] == pytest.approx(0.3, abs=1e-5)
    assert result["ellipticity_error"][0] == pytest.approx(0.05, abs=1e-5)


def test_fast_rotators():
    rng = np.random.default_rng(1)
    spin, shape = 0.17, 0.3
    result = posterior(outputs(spin, 0.05, shape, 0.1), UNCALIBRATED)
    drawn = rng.normal(spin, 0.05, 200_000).clip(0, 1)
    limit = 0.31 * np.sqrt(rng.normal(shape, 0.1, 200_000).clip(0, 1))
    assert fast_rotators(result)[0] == pytest.approx((drawn > limit).mean(), abs=0.01)
    sure = posterior(outputs(0.8, 0.03, 0.5, 0.02), UNCALIBRATED)
    assert fast_rotators(sure)[0] == pytest.approx(1.0, abs=1e-5)


def test_calibration_restores_coverage():
    rng = np.random.default_rng(0)
    spin, shape = rng.uniform(0.3, 0.7, COUNT), rng.uniform(0.3, 0.7, COUNT)
    width = rng.choice([0.04, 0.07], COUNT)
    found = outputs(spin, width, shape, 0.04)
    truth = {
        "spin": torch.from_numpy(spin + 1.5 * width * rng.normal(size=COUNT)),
        "ellipticity": torch.from_numpy(shape + 0.7 * 0.04 * rng.normal(size=COUNT)),
    }
    factors = calibrate(found, truth)
    assert np.allclose(factors["spin"][0]["factor"], 1.5, atol=0.12)
    assert np.allclose(factors["ellipticity"][0]["factor"], 0.7, atol=0.06)
    for name in ("spin", "ellipticity"):
        low, high = interval(name, posterior(found, factors))
        value = truth[name].numpy()
        share = np.mean((value >= low) & (value <= high))
        assert share == pytest.approx(0.683, abs=0.02)


def test_unknown_truths_do_not_count():
    found = outputs(0.5, 0.05, 0.5, 0.05)
    unknown = torch.full((COUNT,), torch.nan)
    truth = {"spin": unknown, "ellipticity": unknown}
    assert calibrate(found, truth) == UNCALIBRATED
