# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from scipy import stats

from galml.core import metrics


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, 500)
    return (truth + rng.normal(0, 0.2, 500)).round(2), truth > 0.6


def test_area_is_that_of_the_rank_test(scored):
    score, outcome = scored
    result = stats.mannwhitneyu(score[outcome], score[~outcome])
    expected = result.statistic / (outcome.sum() * (~outcome).sum())
    assert metrics.area_under_curve(*scored) == pytest.approx(expected, abs=1e-12)


def test_unknown_scores_have_no_area(scored):
    score, outcome = scored
    longer = np.append(score, [np.nan, 0.3]), np.append(outcome, [1, np.nan])
    assert metrics.area_under_curve(*longer) == metrics.area_under_curve(*scored)
    assert np.isnan(metrics.area_under_curve([], []))


def test_one_sided_sets_have_no_area():
    assert np.isnan(metrics.area_under_curve([1, 2], [True, True]))
