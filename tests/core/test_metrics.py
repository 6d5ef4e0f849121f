# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from scipy import stats

from galml.core import metrics
from galml.core.exceptions import InputError


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


@pytest.fixture
def samples():
    return np.random.default_rng(3).normal(size=(2, 1000, 4))


@pytest.mark.parametrize("classifier", ["boosting", "neural"])
def test_classifiers_tell_samples_apart_where_they_differ(samples, classifier):
    pytest.importorskip("sklearn")
    first, second = samples
    equal = metrics.c2st(first, second, classifier=classifier)
    assert equal == pytest.approx(0.5, abs=0.05)
    assert metrics.c2st(first, second + 5, classifier=classifier) > 0.98


def test_classifiers_reach_what_the_best_one_does(samples):
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression()
    first, second = samples
    shift = np.array([1.0, 0.5, 0.0, -0.5])
    found = metrics.c2st(first + shift, second, classifier=linear)
    best = stats.norm.cdf(np.linalg.norm(shift) / 2)
    assert found == pytest.approx(best, abs=0.025)
    assert metrics.c2st(first + shift, second, classifier=linear) == found


def test_unknown_rows_tell_no_samples_apart(samples):
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression()
    first, second = samples[:, :50]
    gone = np.full((50, 4), np.nan)
    found = metrics.c2st(np.concatenate([first, gone]), second, classifier=linear)
    assert found == metrics.c2st(first, second, classifier=linear)


@pytest.mark.parametrize(
    "first, second, options, message",
    [
        (np.zeros(9), np.zeros((9, 1)), {}, "first: got shape"),
        (np.zeros((9, 2)), np.zeros((9, 3)), {}, "second: got shape"),
        (np.zeros((4, 2)), np.zeros((9, 2)), {}, "4 rows of one"),
        (np.zeros((9, 2)), np.zeros((9, 2)), {"classifier": "best"}, "classifier"),
    ],
)
def test_samples_that_no_classifier_takes(first, second, options, message):
    pytest.importorskip("sklearn")
    with pytest.raises(InputError, match=message):
        metrics.c2st(first, second, **options)


def test_conformal_quantiles_hold_for_new_values():
    values = np.random.default_rng(0).exponential(size=22_000)
    limit = metrics.conformal_quantile(values[:2000], 0.01)
    assert np.mean(values[2000:] > limit) == pytest.approx(0.01, abs=0.006)
    assert metrics.conformal_quantile(values[:20], 0.01) == values[:20].max()
    assert metrics.conformal_quantile([3.0, np.nan, 1.0], 0.5) == 3.0
    assert np.isnan(metrics.conformal_quantile([], 0.5))
