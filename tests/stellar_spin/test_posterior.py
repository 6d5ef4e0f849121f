# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.core.exceptions import InputError, InputTypeError
from galml.stellar_spin.posterior import (
    UNCALIBRATED,
    calibrate,
    density,
    fast_rotators,
    interval,
    posterior,
    type_weights,
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
    return {
        "spin": logits[:, None, None],
        "ellipticity": torch.stack(raw, 1)[:, None],
        "distance": torch.rand(COUNT, generator=torch.Generator().manual_seed(0)),
    }


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


def test_disagreement_widens():
    """Members that differ by four of their widths make an error of two."""
    first, second = (outputs(spin, 0.03, 0.3, 0.05) for spin in (0.44, 0.56))
    both = {
        key: torch.cat([first[key], second[key]], 1) for key in ("spin", "ellipticity")
    }
    result = posterior(both | {"distance": first["distance"]}, UNCALIBRATED)
    alone = posterior(first, UNCALIBRATED)
    assert result["spin_mean"][0] == pytest.approx(0.5, abs=1e-3)
    assert alone["spin_error"][0] == pytest.approx(0.03, abs=2e-3)
    assert 0.06 < result["spin_error"][0] < 0.09


def test_errors_grow_with_distance():
    rng = np.random.default_rng(2)
    distance = rng.uniform(0, 2, COUNT)
    width = 0.04 * (1 + 0.5 * (distance > 1))
    spin = 0.5 + width * rng.normal(size=COUNT)
    found = outputs(0.5, 0.04, 0.5, 0.04)
    found["distance"] = torch.from_numpy(distance).float()
    truth = {"spin": torch.from_numpy(spin), "ellipticity": torch.full((COUNT,), 0.5)}
    error = posterior(found, calibrate(found, truth))["spin_error"].numpy()
    assert error[distance < 0.8].mean() == pytest.approx(0.04, abs=0.004)
    assert error[distance > 1.2].mean() == pytest.approx(0.06, abs=0.005)


def test_prior_reweights_types():
    """Two types with normal distributions: Bayes' rule by hand."""
    types = {"early": 0.25, "late spiral": 0.75}
    centers = (torch.arange(40) + 0.5) / 40
    normal = [torch.exp(-0.5 * ((centers - c) / 0.08) ** 2) for c in (0.3, 0.6)]
    likelihood = (0.5, 0.2)
    parts = [
        share * one / one.sum() * like
        for share, one, like in zip(types.values(), normal, likelihood, strict=True)
    ]
    found = outputs(0.5, 0.05, 0.5, 0.05)
    found["spin"] = torch.stack(parts).log().expand(COUNT, 1, 2, 40)
    weights = type_weights({"early": 0.8, "spiral": 0.2}, types)
    expected = 0.8 * 0.5 * normal[0] / normal[0].sum()
    expected = expected + 0.2 * 0.2 * normal[1] / normal[1].sum()
    expected = expected / expected.sum()
    torch.testing.assert_close(
        density(found, weights)[0], expected, atol=1e-5, rtol=1e-3
    )
    result = posterior(found, UNCALIBRATED, weights=weights)
    assert result["spin_mean"][0] == pytest.approx(
        (expected @ centers).item(), abs=1e-3
    )
    same = type_weights(types, types)
    torch.testing.assert_close(density(found, same), density(found))


def test_words_stand_for_types():
    types = {"slow elliptical": 0.1, "fast elliptical": 0.2, "late spiral": 0.7}
    weights = type_weights({"elliptical": 60, "spiral": 40}, types)
    assert weights[0] == weights[1]
    assert weights[0] / weights[2] == pytest.approx(60 / 0.3 / (40 / 0.7))


@pytest.mark.parametrize(
    "prior, message",
    [
        ({"ring": 1.0}, "'ring'"),
        ({"elliptical": 1.0}, "no share of"),
        ({"elliptical": -1.0, "spiral": 1.0}, "-1.0"),
        ({"elliptical": 0.0, "spiral": 0.0}, "shares of 0"),
        ({"elliptical": 1, "spiral": 1, "late spiral": 1}, "two shares"),
    ],
)
def test_bad_prior(prior, message):
    types = {"slow elliptical": 0.1, "late spiral": 0.9}
    with pytest.raises(InputError, match=message):
        type_weights(prior, types)


@pytest.mark.parametrize(
    "prior",
    [
        "volume",
        ["elliptical", "spiral"],
        0.3,
        {"elliptical": "many", "spiral": 1.0},
        {"elliptical": None, "spiral": 1.0},
    ],
)
def test_a_prior_that_is_none(prior):
    types = {"slow elliptical": 0.1, "late spiral": 0.9}
    with pytest.raises(InputTypeError, match="prior"):
        type_weights(prior, types)
