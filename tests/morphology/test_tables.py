# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

import galml
from galml.core import InputError
from galml.mergers import fraction
from galml.morphology import match_surveys, pair_distances, votes_to_classes
from galml.morphology.classification import MERGING, NOT_MERGING, QUESTIONS

#: Metadata of tables of a model, of one adapted from it, and of one adapted from that.
OWN, ADAPTED, AGAIN = (
    {"MODELSHA": "a" * 64, "MODEL": "own"},
    {"MODELSHA": "b" * 64, "ADAPTSHA": "a" * 64},
    {"MODELSHA": "c" * 64, "ADAPTSHA": "a" * 64},
)
#: Votes for all questions of the Galaxy Zoo.
ANSWERS = {
    key for one in QUESTIONS.values() for needed in one.values() for key in needed
}
VOTES = {f"{key}_fraction": [0.5] for key in (*ANSWERS, *MERGING, *NOT_MERGING)}
RESULTS = {
    "outliers": lambda t: galml.outliers(t, ratings=np.linspace(0, 1, 30)),
    "similar": lambda t: galml.similar(t, 0, 1),
    "classify": lambda t: galml.classify(t, ["a", "b"] * 15),
    "project": galml.project,
    "pair_distances": lambda t: pair_distances(t, t),
    "match_surveys": lambda t: match_surveys(t, t, 1 * u.arcsec),
    "votes_to_classes": lambda t: votes_to_classes(VOTES),
    "fraction": lambda t: fraction(
        QTable({"merger_probability": np.linspace(0, 1, 30)}, meta={"PREVALEN": 0.5}),
        timescale=0.5 * u.Gyr,
    ),
}
COMPARISONS = {
    "query": lambda a, b: galml.similar(a, b, 1),
    "reference": lambda a, b: galml.outliers(a, reference=b),
    "b": pair_distances,
    "b, on the sky": lambda a, b: match_surveys(a, b, 1 * u.arcsec),
}


def table_of(meta):
    latent = np.random.default_rng(0).normal(size=(30, 4))
    place = np.arange(30.0) * u.deg
    return QTable({"latent": latent, "ra": place, "dec": place}, meta=meta)


@pytest.mark.parametrize("argument", COMPARISONS)
def test_latents_of_different_models_are_not_compared(argument):
    compare = COMPARISONS[argument]
    for meta in (OWN, ADAPTED, AGAIN, {}):
        assert len(compare(table_of(OWN), table_of(meta)))
    assert len(compare(table_of(ADAPTED), table_of(AGAIN)))
    own = table_of(OWN)
    for meta in ({"MODELSHA": "b" * 64}, {"MODELSHA": "b" * 64, "ADAPTSHA": "d" * 64}):
        with pytest.raises(InputError, match=r"\(bbbbbbbbbbbb\).*own") as raised:
            compare(own, table_of(meta))
        assert raised.value.argument == argument.split(",")[0]


@pytest.mark.parametrize("operation", RESULTS)
def test_all_columns_of_results_are_described(operation):
    if operation == "classify":
        pytest.importorskip("sklearn")
    table = table_of(OWN)
    table["name"] = [f"g{number}" for number in range(30)]
    found = RESULTS[operation](table)
    assert found.meta["OPERATN"] == operation
    for name in found.colnames:
        assert found[name].info.description, name
