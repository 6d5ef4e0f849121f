# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.table import QTable
from scipy import stats

from galml.stellar_spin import metrics


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, 500)
    return (truth + rng.normal(0, 0.2, 500)).round(2), truth


def test_matches_scipy(pair):
    assert metrics.pearson(*pair) == pytest.approx(stats.pearsonr(*pair)[0], abs=1e-12)
    assert metrics.spearman(*pair) == pytest.approx(
        stats.spearmanr(*pair)[0], abs=1e-12
    )


def test_mean_square():
    assert metrics.mean_square([0.1, 0.5, np.nan], [0.2, 0.2, 1]) == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["pearson", "spearman", "mean_square"])
def test_unknown_values_do_not_count(pair, name):
    metric = getattr(metrics, name)
    first, second = pair
    longer = np.append(first, [np.nan, 0.3]), np.append(second, [0.3, np.nan])
    assert metric(*longer) == metric(*pair)
    assert np.isnan(metric([], []))


def test_one_sided_sets_have_no_figures():
    assert np.isnan(metrics.pearson([1, 1, 1], [1, 2, 3]))


def test_summary():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.2, 0.8, 4000)
    spin = truth + rng.normal(0, 0.1, 4000)
    table = QTable(
        {
            "spin": spin,
            "spin_lo": spin - 0.1,
            "spin_hi": spin + 0.1,
            "ellipticity": np.full(4000, 0.5),
            "ellipticity_err": np.full(4000, 0.05),
        }
    )
    result = metrics.summarize(table, {"spin": truth})
    assert result["count"] == 4000
    assert result["coverage"] == pytest.approx(0.683, abs=0.02)
    assert result["scatter"] == pytest.approx(0.1, abs=0.005)
    assert result["bias"] == pytest.approx(0, abs=0.01)
    assert result["pit"] == pytest.approx(0.5, abs=0.02)
    assert np.isnan(result["ellipticity_scatter"])
    shape = {"spin": truth, "ellipticity": np.full(4000, 0.52)}
    result = metrics.summarize(table, shape)
    assert result["ellipticity_scatter"] == pytest.approx(0.02)
    assert result["ellipticity_coverage"] == 1
