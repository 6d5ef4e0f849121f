# Licensed under a 3-clause BSD style license - see LICENSE.rst

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose

from galml.gas_kinematics import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def sample(rng):
    """Results whose errors are what they say, and the truth."""
    n = 20_000
    truth = {
        "circularity": rng.uniform(0, 1, n),
        "position_angle": rng.uniform(0, 360, n) * u.deg,
        "inclination": rng.uniform(0, 90, n) * u.deg,
    }
    below, above = rng.uniform(0.02, 0.1, (2, n))
    z = rng.normal(size=n)
    turn, tilt = rng.uniform(1, 30, n) * u.deg, np.full(n, 5.0) * u.deg
    kappa = truth["circularity"] - np.where(z < 0, below, above) * z
    angle = truth["position_angle"] + turn * rng.normal(size=n)
    table = QTable(
        {
            "circularity": kappa,
            "circularity_lo": kappa - below,
            "circularity_hi": kappa + above,
            "position_angle": angle % (360 * u.deg),
            "position_angle_err": turn,
            "inclination": truth["inclination"] + tilt * rng.normal(size=n),
            "inclination_err": tilt,
        }
    )
    return table, truth


def test_scatter68(rng):
    assert_allclose(metrics.scatter68(rng.normal(0, 3, 200_000)), 2.983, rtol=0.01)
    assert_allclose(metrics.scatter68([np.nan, -2.0, 2.0]), 2.0)
    assert np.isnan(metrics.scatter68([np.nan]))


def test_angle_error():
    error = metrics.angle_error([350, 10] * u.deg, [10, 350])
    assert_allclose(error, [-20, 20], atol=1e-12)
    assert not isinstance(error, u.Quantity)


def test_balanced_accuracy_weighs_classes_equally():
    truth = [0.1, 0.9, 0.9, 0.9, 0.9]
    assert_allclose(metrics.balanced_accuracy([0.9] * 5, truth), 0.5)
    assert_allclose(metrics.balanced_accuracy([0.1, 0.9, 0.9, 0.9, 0.2], truth), 0.875)
    assert_allclose(metrics.balanced_accuracy([0.1, 0.3, 1, np.nan, 1], truth), 5 / 6)
    assert_allclose(metrics.balanced_accuracy([0.3, 0.3], [0.1, 0.3], 0.2), 0.5)
    assert np.isnan(metrics.balanced_accuracy([0.3, 0.8], [0.8, 0.9]))


def test_balanced_accuracy_is_that_of_sklearn(rng):
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, predicted = rng.uniform(0, 1, (2, 500)) ** [[1], [2]]
    expected = sklearn.balanced_accuracy_score(truth < 0.5, predicted < 0.5)
    assert_allclose(metrics.balanced_accuracy(predicted, truth), expected, rtol=1e-12)


def test_coverage():
    assert_allclose(metrics.coverage([0, 1, 2, 3], [0, 0, 0, 0], [1, 1, 1, 3]), 0.75)
    assert_allclose(metrics.coverage([0, 5], [0, np.nan], [1, 9]), 1.0)


def test_pit_goes_through_the_quantiles():
    truth = np.array([0.2, 0.5, 0.9])
    assert_allclose(
        metrics.pit(truth, [0.2] * 3, [0.5] * 3, [0.9] * 3),
        [0.15865525, 0.5, 0.84134475],
        rtol=1e-6,
    )


def test_pit_without_width():
    same = np.full(3, 0.5)
    assert_allclose(metrics.pit([0.4, 0.5, 0.6], same, same, same), [0, 0.5, 1])


def test_calibration_curve(rng):
    levels = np.array([0.1, 0.5, 0.68, 0.95])
    uniform = rng.uniform(0, 1, 100_000)
    assert_allclose(metrics.calibration_curve(uniform, levels), levels, atol=0.01)
    narrow = metrics.calibration_curve([0.0, 1.0, np.nan], levels)
    assert_allclose(narrow, 0)


def test_reliability(rng):
    probability = rng.uniform(0, 1, 100_000)
    table = metrics.reliability(probability, rng.uniform(0, 1, 100_000) < probability)
    assert len(table) == 10 and table["count"].sum() == 100_000
    assert_allclose(table["probability"], np.arange(0.05, 1, 0.1), atol=0.01)
    assert_allclose(table["outcome"], table["probability"], atol=0.02)
    halves = metrics.reliability([0.1, 0.2, 1.0], [False, True, True], [0, 0.5, 1])
    assert_allclose(halves["outcome"], [0.5, 1.0])


def test_binned():
    table = metrics.binned(
        metrics.coverage,
        [1, 2, 2, np.inf, np.nan],
        [0, 2, 5, 10, np.inf],
        [0.0, 1.0, 3.0, 9.0, 0.0],
        np.zeros(5),
        np.full(5, 2.0),
    )
    assert table.colnames == ["low", "high", "count", "value"]
    assert table["count"].tolist() == [1, 2, 0, 1]
    assert_allclose(table["value"], [1.0, 0.5, np.nan, 0.0])


def test_summarize(sample):
    summary = metrics.summarize(*sample)
    assert all(isinstance(value, float) for value in summary.values())
    assert summary["count"] == 20_000
    for name in ("circularity", "position_angle", "inclination"):
        assert_allclose(summary[f"{name}_coverage"], 0.683, atol=0.015)
    assert_allclose(summary["inclination_scatter"], 5.0, rtol=0.03)
    assert_allclose(summary["circularity_bias"], 0.0, atol=0.002)
    assert summary["circularity_pit_distance"] < 0.015
    assert summary["balanced_accuracy_clear"] > summary["balanced_accuracy"] > 0.9


def test_summarize_sees_wrong_errors(sample):
    table, truth = sample
    table["circularity_lo"] += (table["circularity"] - table["circularity_lo"]) / 2
    table["position_angle_err"] *= 0.5
    table["position_angle"] += np.where(truth["circularity"] > 0.7, 0, 50) * u.deg
    summary = metrics.summarize(table, truth)
    assert summary["circularity_coverage"] < 0.6
    assert summary["circularity_pit_distance"] > 0.05
    assert summary["position_angle_coverage"] < 0.4
    assert summary["position_angle_scatter"] < 20


def test_summarize_without_angles_and_results(sample):
    table, truth = sample
    summary = metrics.summarize(table, QTable({"circularity": truth["circularity"]}))
    assert np.isnan(summary["position_angle_scatter"])
    assert np.isnan(summary["inclination_coverage"])
    assert summary["circularity_scatter"] > 0
    for name in ("circularity", "circularity_lo", "circularity_hi"):
        table[name] = np.nan
    summary = metrics.summarize(table, truth)
    assert summary["count"] == 0
    assert np.isnan(summary["balanced_accuracy"])
    assert np.isnan(summary["circularity_pit_distance"])
