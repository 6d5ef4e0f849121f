# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest

from galml.core import GalmlWarning, InputError, decode_flags
from galml.core.metrics import area_under_curve
from galml.morphology import outlier_scores as module
from galml.morphology.outlier_scores import outliers


def two_groups(count=400, strange=5, seed=0):
    """Galaxies of two kinds, and some of none, between them."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(count + strange, 2))
    latent[:count, 0] += np.where(np.arange(count) % 2, 8, -8)
    return QTable({"latent": latent}), np.arange(count + strange) >= count


def test_galaxies_far_from_all_others_are_found():
    latent = np.random.default_rng(0).normal(size=(500, 8))
    latent[:5] += 4
    table = outliers({"latent": latent})
    assert set(np.argsort(table["rank"])[:5]) == set(range(5))
    assert_allclose(np.median(table["outlier_score"]), 1)
    assert (table["false_alarm_rate"][:5] <= 5 / 500).all()
    assert set(table["rank"]) == set(range(1, 501))
    assert table.meta["OPERATN"] == "outliers" and "SEED" not in table.meta


def test_what_lies_between_two_groups_is_found():
    """Where the center of all is empty."""
    table, strange = two_groups()
    assert area_under_curve(outliers(table)["outlier_score"], strange) > 0.95


def test_false_alarm_rates_are_those_of_ordinary_galaxies():
    """Uniform for galaxies like the others, beside them or among them."""
    rng = np.random.default_rng(1)
    ordinary, new = rng.standard_t(5, size=(2, 1500, 6))
    inside = outliers({"latent": new})["false_alarm_rate"]
    assert_allclose(np.sort(inside), np.arange(1, 1501) / 1500)
    beside = outliers({"latent": new}, reference={"latent": ordinary})
    assert kstest(beside["false_alarm_rate"], "uniform").pvalue > 0.01
    for share in (0.01, 0.05, 0.2):
        found = (beside["false_alarm_rate"] <= share).mean()
        assert abs(found - share) < 4 * np.sqrt(share / 1500)
    strange = outliers({"latent": new + 6}, reference={"latent": ordinary})
    assert (strange["false_alarm_rate"] < 0.01).mean() > 0.9


def test_one_galaxy_is_compared_with_a_reference():
    reference = {"latent": np.random.default_rng(0).normal(size=(100, 4))}
    (row,) = outliers({"latent": np.full((1, 4), 9.0)}, reference=reference)
    assert row["false_alarm_rate"] == 1 / 101 and row["outlier_score"] > 5


def test_galaxies_that_latents_cannot_describe_are_found():
    rng = np.random.default_rng(0)
    table = QTable({"latent": rng.normal(size=(300, 6))})
    table["reconstruction_error"] = np.exp(rng.normal(-3, 0.2, 300))
    table["ssim"] = 1 - np.exp(rng.normal(-3, 0.2, 300))
    table["reconstruction_error"][7] *= 20
    table["ssim"][8] = 0.2
    assert {*np.argsort(outliers(table)["rank"])[:2]} == {7, 8}
    unknown = table.copy()
    unknown["ssim"] = np.nan
    unknown["reconstruction_error"][[3, 4]] = [0.0, np.nan]
    found = outliers(unknown)
    assert np.argsort(found["rank"])[0] == 7 and found["rank"][8] > 2
    assert np.isfinite(found["outlier_score"]).all()
    # A reference that has no errors leaves latents.
    reference = {"latent": table["latent"][::2]}
    plain = outliers({"latent": table["latent"]}, reference=reference)
    assert_array_equal(
        outliers(table, reference=reference)["outlier_score"], plain["outlier_score"]
    )


def test_classes_are_judged_as_published():
    """Distance from the mean over the median distance, without those beyond 8 sigma."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(400, 5)) * np.repeat([1, 3], 200)[:, None]
    latent[0] = 100.0
    labels = np.repeat(["round", "spiral"], 200)
    table = QTable({"latent": latent, "kind": labels})
    found = outliers(table, by="kind")
    kept = latent[1:200]
    distance = np.linalg.norm(latent[:200] - kept.mean(axis=0), axis=1)
    assert_allclose(found["outlier_score"][:200], distance / np.median(distance[1:]))
    assert_allclose(np.median(found["outlier_score"][200:]), 1)
    assert found["rank"][0] == 1 and found["false_alarm_rate"][0] == 1 / 200
    assert_array_equal(outliers(table, by=labels)["rank"], found["rank"])


def test_galaxies_without_class_have_no_score():
    latent = np.random.default_rng(0).normal(size=(40, 3))
    labels = ["a"] * 30 + [""] * 5 + ["b"] * 2 + ["c"] * 3
    with pytest.warns(GalmlWarning, match="7 of 40"):
        found = outliers({"latent": latent}, by=labels)
    lost = np.isnan(found["outlier_score"])
    assert_array_equal(np.flatnonzero(lost), np.arange(30, 37))
    assert set(decode_flags(found["flags"][lost])) == {("failed",)}


def test_rows_without_latents_are_nan():
    table, _ = two_groups()
    table["name"] = [f"g{i}" for i in range(len(table))]
    before = table["latent"].copy()
    table["latent"][[3, 9], 1] = np.nan, np.inf
    ratings = np.full(len(table), np.nan)
    ratings[[0, 3, 5]] = 1, 1, 0
    with pytest.warns(GalmlWarning, match="2 of 405"):
        found = outliers(table, ratings=ratings)
    for key in ("outlier_score", "false_alarm_rate", "interest"):
        assert_array_equal(np.flatnonzero(np.isnan(found[key])), [3, 9])
    assert found["rank"][3] == 404 and found["rank"][9] == 405
    assert decode_flags(found["flags"][[0, 3]]) == [(), ("failed", "nonfinite")]
    assert_array_equal(found["name"], table["name"])
    rest = np.delete(np.arange(405), [3, 9])
    assert_array_equal(table["latent"][rest], before[rest])


def test_a_few_ratings_help():
    """Two kinds of strange galaxies, of which only one is of interest."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(2000, 8))
    wanted, boring = np.arange(40), np.arange(40, 160)
    latent[wanted, 0] += 5
    latent[boring, 1] += 6
    table = QTable({"latent": latent})
    truth = np.isin(np.arange(2000), wanted)
    found, ratings = outliers(table), np.full(2000, np.nan)
    before = truth[np.argsort(found["rank"])[:40]].mean()
    for _ in range(3):
        order = np.argsort(found["rank"])
        ask = order[np.isnan(ratings[order])][:10]
        ratings[ask] = truth[ask]
        found = outliers(table, ratings=ratings)
    unrated = np.isnan(ratings)
    after = truth[np.argsort(found["rank"])[:40]].mean()
    assert before < 0.5 and after > 0.7
    assert area_under_curve(found["interest"][unrated], truth[unrated]) > 0.95
    # The score is the same with ratings as without.
    assert_array_equal(found["outlier_score"], outliers(table)["outlier_score"])


def test_far_from_all_ratings_the_score_counts():
    latent = np.random.default_rng(0).normal(size=(300, 8))
    latent[0] += 20
    ratings = np.full(300, np.nan)
    ratings[100:105] = 0
    assert outliers({"latent": latent}, ratings=ratings)["rank"][0] <= 5


def test_ratings_by_name_and_to_five():
    table, _ = two_groups()
    table["name"] = [f"g{i}" for i in range(405)]
    ratings = np.ma.masked_all(405)
    ratings[[4, 400, 401]] = 0, 1, 0.4
    expected = outliers(table, ratings=ratings)
    named = outliers(table, ratings={"g4": 0, "g400": 5, "g401": 2})
    assert_allclose(named["interest"], expected["interest"])


def test_classes_and_ratings_of_pandas():
    pandas = pytest.importorskip("pandas")
    table, _ = two_groups()
    ratings = pandas.Series(np.linspace(0, 1, 405), dtype="Float64")
    ratings[5:] = pandas.NA
    expected = outliers(table, ratings=np.where(np.arange(405) < 5, ratings, np.nan))
    for form in (ratings, ratings.tolist(), ratings.astype(object)):
        assert_allclose(outliers(table, ratings=form)["interest"], expected["interest"])
    classes = pandas.Series(["a", "b", "a"] * 135, dtype="string")
    expected = outliers(table, by=classes.tolist())
    found = outliers(table, by=classes)
    assert_allclose(found["outlier_score"], expected["outlier_score"])


def test_many_galaxies_are_compared_with_some(monkeypatch):
    latent = np.random.default_rng(0).normal(size=(600, 4))
    latent[5] += 9
    table = {"latent": latent}
    full = outliers(table)
    monkeypatch.setattr(module, "LARGEST", 200)
    found = outliers(table, seed=3)
    assert found.meta["SEED"] == 3 and found["rank"][5] == 1
    assert_array_equal(found["outlier_score"], outliers(table, seed=3)["outlier_score"])
    assert (found["outlier_score"] != outliers(table, seed=4)["outlier_score"]).any()
    drawn = outliers(table).meta["SEED"]
    assert outliers(table, seed=drawn).meta["SEED"] == drawn
    ranks = np.corrcoef(found["rank"], full["rank"])[0, 1]
    assert ranks > 0.9
    new = {"latent": np.random.default_rng(1).normal(size=(500, 4))}
    rates = outliers(new, reference=table, seed=0)["false_alarm_rate"]
    assert kstest(rates, "uniform").pvalue > 0.01


def test_galaxies_that_are_all_the_same():
    found = outliers({"latent": np.ones((30, 3))})
    assert_array_equal(found["outlier_score"], 0)
    assert_array_equal(found["false_alarm_rate"], 1)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"table": {"latent": np.zeros((10, 2))}}, "table"),
        ({"reference": {"latent": np.zeros((10, 4))}}, "reference"),
        ({"reference": {"latent": np.zeros((50, 5))}}, "reference"),
        ({"reference": [1]}, "reference"),
        ({"by": "kind"}, "by"),
        ({"by": [1, 2]}, "by"),
        ({"by": ["a"] * 50, "reference": {"latent": np.zeros((50, 4))}}, "reference"),
        ({"ratings": np.full(50, np.nan)}, "ratings"),
        ({"ratings": np.full(50, 6.0)}, "ratings"),
        ({"ratings": np.full(50, -1.0)}, "ratings"),
        ({"ratings": [1.0]}, "ratings"),
        ({"ratings": ["good"] * 50}, "ratings"),
        ({"ratings": {"g1": 1}}, "ratings"),
        ({"table": {"latent": [[0.0]] * 50, "name": ["g"] * 50}}, "ratings"),
        ({"seed": "a"}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_bad_input_is_named(arguments, argument):
    table = {"latent": np.random.default_rng(0).normal(size=(50, 4))}
    if argument == "ratings":
        arguments = {"ratings": {"g": "good"}} | arguments
    with pytest.raises(InputError) as caught:
        outliers(**{"table": table} | arguments)
    assert caught.value.argument == argument


def test_progress_bars_have_names(capsys):
    latent = np.random.default_rng(0).normal(size=(50, 4))
    outliers(QTable({"latent": latent}, meta={"NAROUND": 2}), progress=True)
    told = capsys.readouterr().err
    assert "outliers: galaxies: 100%" in told
    assert "outliers: surroundings: 100%" in told


def test_surroundings_have_a_score_of_their_own():
    """One of many latents that is strange is drowned, unless it counts by itself."""
    rng = np.random.default_rng(8)
    latent = rng.normal(size=(800, 30))
    latent[5, 29] = 3.6
    table = QTable({"latent": latent})
    together = outliers(table)["rank"][5]
    table.meta["NAROUND"] = 1
    apart = outliers(table)
    assert apart["rank"][5] == 1 < together
    assert np.median(apart["outlier_score"]) == pytest.approx(1)
    for nonsense in (0, 30, "many"):
        table.meta["NAROUND"] = nonsense
        assert outliers(table)["rank"][5] == together
