# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose
from scipy.special import expit

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.metrics import area_under_curve
from galml.mergers import metrics


@pytest.fixture(scope="module")
def scored():
    """Rounded scores, so that many are equal, and what is true."""
    rng = np.random.default_rng(0)
    outcome = rng.uniform(size=3000) < 0.3
    return expit(2 * (outcome - 0.5) + rng.normal(size=3000)).round(2), outcome


def test_confusion_matrix_is_that_of_sklearn():
    expected = pytest.importorskip("sklearn.metrics").confusion_matrix
    truth, predicted = np.random.default_rng(1).integers(0, 5, (2, 400))
    counts = metrics.confusion_matrix(truth, predicted, 5)
    assert counts.dtype.kind == "i"
    np.testing.assert_array_equal(counts, expected(truth, predicted))


def test_confusion_matrix_keeps_empty_classes():
    counts = metrics.confusion_matrix([0, 0, np.nan, 2], [0, 2, 1, np.nan], 3)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert not metrics.confusion_matrix([], [], 2).any()


@pytest.mark.parametrize(
    ("truth", "predicted", "argument"),
    [([0, 3], [0, 0], "truth"), ([0, 0], [-1, 0], "predicted"), ([0.5], [0], "truth")],
)
def test_confusion_matrix_of_no_classes(truth, predicted, argument):
    with pytest.raises(InputError, match=f"{argument}: .* from 0 to 2"):
        metrics.confusion_matrix(truth, predicted, 3)


@pytest.mark.parametrize(
    "judge",
    [
        lambda first, second: metrics.confusion_matrix(first, second, 2),
        metrics.upsilon,
        metrics.roc_curve,
        metrics.purity_completeness,
        metrics.recall_at,
        metrics.expected_calibration_error,
    ],
)
def test_arrays_that_cannot_be_judged(judge):
    for first, second in (
        ([0, 1], [0, 1, 1]),
        ([[0], [1]], [0, 1]),
        (0, 1),
    ):
        with pytest.raises(InputError, match="got"):
            judge(first, second)
    for second in (["a", "b"], [None, {}], [0, [1, 2]]):
        with pytest.raises(InputTypeError, match="expected numbers"):
            judge([0, 1], second)


def test_numbers_of_classes():
    with pytest.raises(InputError, match="n_classes: got 'a'"):
        metrics.confusion_matrix([0], [0], "a")


def test_what_is_masked_is_unknown():
    masked = np.ma.array([0, 1, 1], mask=[False, False, True])
    assert metrics.upsilon([0, 1, 0], masked) == 1


@pytest.mark.parametrize("bins", [0, -1, 2.5, "ten"])
def test_numbers_of_bins(bins):
    with pytest.raises(InputError, match="bins: got"):
        metrics.expected_calibration_error([0.1], [1], bins)


def test_temperatures_are_those_of_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    outcome = (chance.cumsum(1) < rng.uniform(size=(4000, 1))).sum(1)
    for shape in ((4000, 3), (4000, 1, 3)):
        found = metrics.fit_temperature(2.5 * logits.reshape(shape), outcome)
        assert found == pytest.approx(2.5, rel=0.1)
    for wrong in (outcome[1:], outcome + 1, outcome - 0.5):
        with pytest.raises(InputError, match="outcome: got"):
            metrics.fit_temperature(logits, wrong)


def test_upsilon_is_of_the_worse_class():
    truth = [0] * 10 + [1] * 4
    predicted = [0] * 9 + [1] + [1, 1, 1, 0]
    assert metrics.upsilon(truth, predicted) == 0.75
    assert metrics.upsilon(truth, truth) == 1
    # Of a class that nothing belongs to, nothing is missed.
    assert metrics.upsilon([0, 0, 2], [0, 1, 2]) == 0.5
    assert np.isnan(metrics.upsilon([np.nan], [1]))


def test_curve_is_that_of_sklearn(scored):
    expected = pytest.importorskip("sklearn.metrics").roc_curve
    curve = metrics.roc_curve(*scored)
    false, true, threshold = expected(scored[1], scored[0], drop_intermediate=False)
    assert_allclose(curve["false_positive_rate"], false, atol=1e-12)
    assert_allclose(curve["recall"], true, atol=1e-12)
    assert_allclose(curve["threshold"], threshold)


def test_curve_encloses_the_area(scored):
    curve = metrics.roc_curve(*scored)
    area = np.trapezoid(curve["recall"], curve["false_positive_rate"])
    assert_allclose(area, area_under_curve(*scored), atol=1e-12)


def test_curve_without_true_objects():
    curve = metrics.roc_curve([0.1, np.nan, 0.9], [0, 1, 0])
    assert np.isnan(curve["recall"]).all()
    assert curve["false_positive_rate"].tolist() == [0, 0.5, 1]
    assert len(metrics.roc_curve([], [])) == 1


def test_purity_is_that_of_sklearn(scored):
    expected = pytest.importorskip("sklearn.metrics").precision_recall_curve
    curve = metrics.purity_completeness(*scored)
    purity, completeness, threshold = expected(scored[1], scored[0])
    assert_allclose(curve["purity"][::-1], purity[:-1], atol=1e-12)
    assert_allclose(curve["completeness"][::-1], completeness[:-1], atol=1e-12)
    assert_allclose(curve["threshold"][::-1], threshold)


def test_purity_where_mergers_are_rare(scored):
    """A rare class has the purity of a set with the others in great number."""
    score, outcome = scored
    score = np.append(score[outcome], np.tile(score[~outcome], 9))
    rare = np.arange(score.size) < outcome.sum()
    curve = metrics.purity_completeness(*scored, prevalence=rare.mean())
    expected = metrics.purity_completeness(score, rare)
    for key in expected.colnames:
        assert_allclose(curve[key], expected[key], atol=1e-12)
    assert curve["purity"][-1] == pytest.approx(rare.mean())


@pytest.mark.parametrize("prevalence", [-0.1, 1.5, np.nan, "few"])
def test_prevalence_is_a_share(scored, prevalence):
    with pytest.raises(InputError, match="prevalence: got"):
        metrics.purity_completeness(*scored, prevalence)


def test_recall_of_normal_scores():
    """Against the recall of two normal distributions that are 2 sigma apart."""
    from scipy.stats import norm

    rng = np.random.default_rng(3)
    outcome = np.arange(200_000) % 2 == 0
    score = rng.normal(size=outcome.size) + 2 * outcome
    for rate in (0.01, 0.05, 0.2):
        expected = norm.sf(norm.isf(rate) - 2)
        assert metrics.recall_at(score, outcome, rate) == pytest.approx(
            expected, abs=0.01
        )
    assert metrics.recall_at(score, outcome, 1.0) == 1


def test_recall_needs_both_kinds():
    assert np.isnan(metrics.recall_at([1, 2], [True, True]))
    assert np.isnan(metrics.recall_at([1, 2], [False, False]))
    # The best of the false ones ties with a true one, which counts for neither.
    assert metrics.recall_at([2, 1, 1, 0], [1, 1, 0, 0], 0.1) == 0.5


def test_calibration_error():
    rng = np.random.default_rng(4)
    probability = rng.uniform(0, 1, 100_000)
    outcome = rng.uniform(size=probability.size) < probability
    assert metrics.expected_calibration_error(probability, outcome) < 0.01
    assert metrics.expected_calibration_error([0.8] * 4, [1, 1, 0, 0]) == pytest.approx(
        0.3
    )
    # Two bins, of three objects and of one.
    error = metrics.expected_calibration_error(
        [0.2, 0.2, 0.2, 0.9, np.nan, 0.5], [0, 0, 0, 1, 1, np.nan], bins=2
    )
    assert error == pytest.approx((3 * 0.2 + 0.1) / 4)
    assert np.isnan(metrics.expected_calibration_error([], []))


@pytest.fixture
def table():
    """Four post-mergers, four non-mergers, a remnant, and one without a result."""
    probability = np.array([0.9, 0.8, 0.7, 0.4, 0.1, 0.2, 0.3, 0.6, 0.9, np.nan])
    stage = np.full((10, 5), 0.1)
    stage[np.arange(10), [3, 3, 3, 0, 0, 0, 0, 3, 4, 0]] = 0.6
    stage[-1] = np.nan
    return QTable(
        {
            "merger_probability": probability,
            "merger_class": np.where(probability > 0.5, "post-merger", "non-merger"),
            "stage_probability": stage,
            "time_since_merger": ([0.1, 0.2, 0.3, 0.4] + 6 * [np.nan]) * u.Gyr,
            "time_since_merger_err": [0.1] * 10 * u.Gyr,
        }
    )


def test_summary(table):
    truth = {
        "merger": [1, 1, 1, 1, 0, 0, 0, 0, np.nan, 1],
        "stage": [3, 3, 3, 3, 0, 0, 0, 0, 4, 3],
        "time_since_merger": ([150, 250, 350, 600] + 6 * [np.nan]) * u.Myr,
    }
    result = metrics.summarize(table, truth)
    assert result["count"] == 8
    assert result["accuracy"] == result["upsilon"] == 0.75
    assert result["area"] == 15 / 16
    assert result["recall"] == 0.75
    assert result["stage_accuracy"] == pytest.approx(7 / 9)
    assert result["stage_upsilon"] == 0.75
    assert result["time_coverage"] == 0.75
    assert 0.05 <= result["time_scatter"] <= 0.2
    assert 0 < result["calibration_error"] < 0.5


def test_tables_that_cannot_be_judged(table):
    for wrong, truth, match in (
        (table, {}, "truth: got no column merger"),
        (table, {"merger": [1, 0]}, r"truth\['merger'\]: got 2 numbers"),
        (table, {"merger": ["yes"] * 10}, r"truth\['merger'\]: got"),
        (table, {"merger": [1] * 10, "stage": ["a"] * 10}, r"truth\['stage'\]: got"),
        (table["merger_class",], {"merger": [1] * 10}, "table: got no column merger_p"),
    ):
        with pytest.raises(InputError, match=match):
            metrics.summarize(wrong, truth)
    for wrong, truth in ((3, {"merger": [1] * 10}), (table, [1] * 10)):
        with pytest.raises(InputTypeError, match="got"):
            metrics.summarize(wrong, truth)
    age = {"merger": [1] * 10, "time_since_merger": [1] * 10 * u.kpc}
    with pytest.raises(InputUnitError, match="time_since_merger"):
        metrics.summarize(table, age)


def test_summary_of_what_is_not_known(table):
    result = metrics.summarize(table, QTable({"merger": [1.0] * 10}))
    assert result["count"] == 9
    for key in ("area", "recall", "stage_accuracy", "stage_upsilon", "time_scatter"):
        assert np.isnan(result[key])


def test_summary_of_two_classes_alone(table):
    """The published network knows no other stages and no times."""
    table.remove_columns(["stage_probability", "time_since_merger"])
    table.remove_column("time_since_merger_err")
    truth = {"merger": [1, 1, 1, 1, 0, 0, 0, 0, np.nan, 1], "stage": [0] * 10}
    result = metrics.summarize(table, truth)
    assert result["upsilon"] == 0.75
    assert np.isnan(result["stage_accuracy"]) and np.isnan(result["time_coverage"])
