# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from numpy.testing import assert_allclose, assert_array_equal

from galml.core import GalmlWarning, InputError, decode_flags
from galml.morphology.classification import classify, votes_to_classes

pytest.importorskip("sklearn")


def galaxies(count=600, given=150, seed=0):
    """Three kinds of galaxies of unequal number that overlap, some with labels."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    latent = rng.normal(size=(count, 5))
    latent[:, :2] += np.array([[0, 0], [2.5, 0], [0, 2.5]])[kind]
    truth = np.array(["elliptical", "spiral", "merger"])[kind]
    labels = np.where(np.arange(count) < given, truth, "")
    return QTable({"latent": latent}), truth, labels


@pytest.mark.parametrize("classifier", ["linear", "forest", "self-training"])
def test_the_rest_gets_labels(classifier):
    table, truth, labels = galaxies()
    found = classify(table, labels, classifier=classifier)
    classes = [found.meta[f"CLASS_{i}"] for i in (1, 2, 3)]
    assert classes == ["elliptical", "merger", "spiral"]
    rest = labels == ""
    recognized = [
        (found["label"] == truth)[rest & (truth == c)].mean() for c in classes
    ]
    assert np.mean(recognized) > 0.75
    score, error = found.meta["BALACC"], found.meta["BALACCER"]
    assert abs(np.mean(recognized) - score) < 4 * error
    assert found.meta["NLABELS"] == 150 and found.meta["NFOLDS"] == 5
    assert_array_equal(found["labeled"], ~rest)
    assert_array_equal(found["label"][~rest], truth[~rest])
    assert_allclose(found["probability"].sum(axis=1), 1)
    assert ((found["entropy"] >= 0) & (found["entropy"] <= 1)).all()


def test_few_labels_learn_from_the_others():
    """Of many latents one matters, which six labels cannot tell and the rest can."""
    scores = {"linear": [], "self-training": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        late = np.arange(1000) % 2 == 1
        latent = rng.normal(size=(1000, 15))
        latent[:, 0] += np.where(late, 2.0, -2.0)
        labels = np.where(late, "late", "early")
        labels[6:] = ""
        table = QTable({"latent": latent})
        for way, values in scores.items():
            chance = classify(table, labels, classifier=way)["probability"][6:, 1]
            values.append(np.mean((chance > 0.5) == late[6:]))
    means = {way: np.mean(values) for way, values in scores.items()}
    assert means["self-training"] > means["linear"] + 0.02


def test_probabilities_are_calibrated():
    table, truth, labels = galaxies(6000, 600)
    found = classify(table, labels, prior="labels")
    rest, place = labels == "", [found.meta[f"CLASS_{i}"] for i in (1, 2, 3)]
    judged = 0
    for column, one in enumerate(place):
        probability = found["probability"][rest, column]
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            part = (probability >= low) & (probability < low + 0.2)
            if part.sum() > 200:
                share = (truth[rest][part] == one).mean()
                assert abs(share - probability[part].mean()) < 0.1
                judged += 1
    assert judged >= 6


def test_wrong_labels_are_not_believed():
    """Probabilities of labeled galaxies have not seen these labels."""
    table, truth, labels = galaxies()
    table["latent"][0, :2] = [3.5, -1.5]
    labels[0] = "merger"
    found = classify(table, labels)
    assert found["label"][0] == "merger" and found["probability"][0, 1] < 0.1


def test_few_labels_are_enough():
    table, _, _ = galaxies()
    labels = np.ma.masked_all(600, dtype=int)
    labels[[0, 1]], labels[[2, 3]] = 7, 8
    found = classify(table, labels)
    assert found.meta["NFOLDS"] == 4 and set(found["label"]) == {7, 8}
    with pytest.raises(InputError, match="one galaxy with the label 9"):
        labels[4] = 9
        classify(table, labels)


def test_labels_may_have_any_form():
    table, truth, labels = galaxies(200, 100)
    table["name"] = [f"g{i}" for i in range(200)]
    table["kind"] = labels
    expected = classify(table, labels)
    mapping = {f"g{i}": one for i, one in enumerate(labels) if one}
    with_none = [one or None for one in labels.tolist()]
    masked = MaskedColumn(truth, mask=labels == "")
    for form in ("kind", mapping, with_none, masked, np.array(labels, dtype="S")):
        assert_array_equal(classify(table, form)["label"], expected["label"])
    number = np.where(labels == "", np.nan, truth == "spiral")
    assert set(classify(table, number)["label"].tolist()) == {0, 1}
    flags = np.ma.masked_array(truth == "spiral", labels == "")
    assert classify(table, flags)["label"].dtype == bool


@pytest.mark.parametrize("dtype", ["object", "string", "category", "Int64", "boolean"])
def test_labels_of_pandas(dtype):
    pandas = pytest.importorskip("pandas")
    table, truth, labels = galaxies(200, 100)
    table["name"] = [f"g{i}" for i in range(200)]
    kinds = truth == "spiral"
    values = {"Int64": kinds.astype(int), "boolean": kinds}.get(dtype, truth)
    series = pandas.Series(values).astype(dtype)
    series[labels == ""] = pandas.NA
    expected = classify(table, np.ma.masked_array(values, labels == ""))
    forms = [series, series.array, series.tolist()]
    forms.append(dict(zip(table["name"], series, strict=True)))
    for form in forms:
        found = classify(table, form)
        assert found["label"].dtype.kind == expected["label"].dtype.kind
        assert_array_equal(found["label"], expected["label"])
        assert found.meta["NLABELS"] == expected.meta["NLABELS"]


def test_rows_without_latents_are_nan():
    table, truth, labels = galaxies()
    table["latent"][[3, 500]] = np.nan
    with pytest.warns(GalmlWarning, match="2 of 600"):
        found = classify(table, labels)
    assert np.isnan(found["probability"][[3, 500]]).all()
    assert np.isnan(found["entropy"][500])
    assert found["label"][3] == truth[3] and found["label"].mask.nonzero()[0] == [500]
    assert decode_flags(found["flags"][[500]]) == [("failed", "nonfinite")]
    assert found.meta["NLABELS"] == 149


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"labels": "kind"}, "labels"),
        ({"labels": ["a"] * 5}, "labels"),
        ({"labels": ["a"] * 600}, "labels"),
        ({"labels": [1.5] * 600}, "labels"),
        ({"labels": ["a", 1] * 300}, "labels"),
        ({"labels": {"g": 1}}, "labels"),
        ({"classifier": "tree"}, "classifier"),
        ({"prior": "none"}, "prior"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_input_is_named(arguments, argument):
    table, _, labels = galaxies()
    with pytest.raises(InputError) as caught:
        classify(**{"table": table, "labels": labels} | arguments)
    assert caught.value.argument == argument


def test_says_what_it_needs(monkeypatch):
    table, _, labels = galaxies()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"galml\[all\]"):
        classify(table, labels)


def votes(**fractions):
    """Columns as Galaxy Zoo DECaLS names them."""
    names = {
        "smooth": "smooth-or-featured_smooth",
        "featured": "smooth-or-featured_featured-or-disk",
        "edge": "disk-edge-on_yes",
        "face": "disk-edge-on_no",
        "arms": "has-spiral-arms_yes",
        "bare": "has-spiral-arms_no",
        "no_bar": "bar_no",
        "bar": "bar_strong",
        "round": "how-rounded_round",
        "between": "how-rounded_in-between",
        "cigar": "how-rounded_cigar-shaped",
        "tight": "spiral-winding_tight",
        "medium": "spiral-winding_medium",
        "loose": "spiral-winding_loose",
        "minor": "merging_minor-disturbance",
        "major": "merging_major-disturbance",
        "merging": "merging_merger",
        "alone": "merging_none",
    }
    return {f"{names[key]}_fraction": [fractions.get(key, 0.0)] for key in names}


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ({"smooth": 0.7, "between": 0.61}, {"shape": "in-between"}),
        ({"smooth": 0.7, "cigar": 0.9}, {"shape": "cigar-shaped"}),
        ({"smooth": 0.6, "round": 0.9}, {}),
        ({"featured": 0.7, "edge": 0.8, "arms": 1.0, "tight": 1.0}, {"edge_on": "yes"}),
        (
            {"featured": 0.7, "face": 0.8, "arms": 0.9, "loose": 0.7, "bar": 0.7},
            {
                "edge_on": "no",
                "spiral_arms": "yes",
                "winding": "loose",
                "bar": "strong",
            },
        ),
        (
            {"featured": 0.7, "face": 0.8, "bare": 0.9, "loose": 0.7, "no_bar": 0.7},
            {"edge_on": "no", "spiral_arms": "no", "bar": "none"},
        ),
        ({"minor": 0.61}, {"merger": "yes"}),
        ({"major": 0.5, "merging": 0.5}, {}),
        ({"face": 0.61, "alone": 0.81}, {"merger": "no"}),
        ({"face": 0.61, "alone": 0.8}, {}),
    ],
)
def test_votes_become_classes(fractions, expected):
    found = votes_to_classes(votes(**fractions))
    names = {"shape", "edge_on", "bar", "spiral_arms", "winding", "merger"}
    assert names < set(found.colnames)
    assert {key: found[key][0] for key in names if found[key][0]} == expected


def test_votes_that_are_missing():
    table = QTable(votes(smooth=0.9, round=0.9))
    del table["merging_none_fraction"]
    assert "merger" not in votes_to_classes(table).colnames
    assert votes_to_classes(table, threshold=0.9)["shape"][0] == ""
    for key in table.colnames:
        table[key] = np.nan
    with pytest.warns(GalmlWarning, match="1 of 1"):
        found = votes_to_classes(table)
    assert found["shape"][0] == "" and decode_flags(found["flags"][0]) == ("failed",)
    for wrong in ({"z": [1]}, votes(smooth=2.0)):
        with pytest.raises(InputError, match="table"):
            votes_to_classes(wrong)
    for wrong in (["many"], [[0.9, 0.1]]):
        text = votes(smooth=0.9) | {"smooth-or-featured_smooth_fraction": wrong}
        with pytest.raises(InputError, match="smooth-or-featured_smooth"):
            votes_to_classes(text)
    for wrong in (1, "a", None, [0.5]):
        with pytest.raises(InputError, match="threshold"):
            votes_to_classes(table, threshold=wrong)
