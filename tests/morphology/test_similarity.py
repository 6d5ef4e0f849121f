# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from numpy.testing import assert_allclose, assert_array_equal

from galml.core import GalmlWarning, InputError, InputTypeError, decode_flags
from galml.morphology import similarity
from galml.morphology.similarity import nearest, similar
from galml.morphology.tables import Metric, read_latents


def cloud(count=200, size=6, seed=0, **columns):
    rng = np.random.default_rng(seed)
    return QTable({"latent": rng.normal(size=(count, size)), **columns})


def brute(table, rows, k):
    """Neighbors by all distances, in double precision."""
    values = table["latent"]
    center = np.median(values, axis=0)
    values = values / (1.4826 * np.median(np.abs(values - center), axis=0))
    distance = np.linalg.norm(values[rows][:, None] - values, axis=2)
    distance[np.arange(len(rows)), rows] = np.inf
    order = np.argsort(distance, axis=1)[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.mark.parametrize("block", [(512, 32_768), (7, 31)])
def test_neighbors_are_those_of_all_distances(monkeypatch, block):
    monkeypatch.setattr(similarity, "QUERIES", block[0])
    monkeypatch.setattr(similarity, "ROWS", block[1])
    table, rows = cloud(), np.array([3, 199, 0, 31, 30, 64, 5, 77, 120])
    expected, distance = brute(table, rows, 5)
    found = similar(table, rows, 5)
    assert_array_equal(found["query"], np.repeat(rows, 5))
    assert_array_equal(found["neighbor"], expected.ravel())
    assert_allclose(found["distance"], distance.ravel(), rtol=1e-5)
    assert found.meta["OPERATN"] == "similar" and not found["flags"].any()


def test_rows_close_together_far_from_the_center_keep_their_order():
    """Where squares of single precision are all the same."""
    table = cloud(300)
    line = 1000 + np.arange(8.0)[:, None] ** 2 * np.full(6, 1e-3)
    table["latent"][:8] = line
    found = similar(table, 0, 7)
    assert_array_equal(found["neighbor"], np.arange(1, 8))


def test_a_query_may_be_a_row_a_name_latents_or_a_table():
    table = cloud(50, name=[f"g{i}" for i in range(50)])
    table.meta["MODEL"] = "morphology-1"
    before = table.copy()
    expected = similar(table, 7, 4)
    assert expected.meta["MODEL"] == "morphology-1"
    assert expected["query_name"][0] == "g7"
    names = [f"g{i}" for i in expected["neighbor"]]
    assert expected["neighbor_name"].tolist() == names
    for query in ("g7", [7], ["g7"], table[7], -43, np.int64(7), np.array(["g7"])):
        found = similar(table, query, 4)
        assert_array_equal(found["neighbor"], expected["neighbor"])
        assert_array_equal(found["query"], 7)
    everything = similar(table, table, 4)
    assert_array_equal(everything["query"], np.repeat(np.arange(50), 4))
    assert_array_equal(everything["neighbor"][28:32], expected["neighbor"])
    # Latents from elsewhere may be those of a row.
    for query in (table["latent"][7], table["latent"][[7]], table[7:8]):
        found = similar(table, query, 5)
        assert_array_equal(found["neighbor"], [7, *expected["neighbor"]])
        assert_array_equal(found["query"], 0)
    assert table.colnames == before.colnames
    assert_array_equal(table["latent"], before["latent"])


def test_rows_without_latents_are_neither_neighbors_nor_lost():
    table = cloud(30, name=[f"g{i}" for i in range(30)])
    table["latent"][4, 2] = np.nan
    with pytest.warns(GalmlWarning, match="1 of 30 rows"):
        found = similar(table, table, 3)
    assert len(found) == 90 and 4 not in found["neighbor"].compressed()
    lost = np.asarray(found["query"]) == 4
    assert (
        found["neighbor"].mask[lost].all() and not found["neighbor"].mask[~lost].any()
    )
    assert np.isnan(found["distance"][lost]).all()
    assert decode_flags(found["flags"][lost])[0] == ("failed", "nonfinite")
    with pytest.raises(InputError, match="query"):
        similar(table, 4)
    masked = cloud(30)
    mask = np.broadcast_to(np.arange(30)[:, None] == 4, (30, 6))
    masked["latent"] = MaskedColumn(masked["latent"], mask=mask)
    assert 4 not in similar(masked, 3, 20)["neighbor"]


def test_latents_that_are_mostly_noise_count_little():
    rng = np.random.default_rng(1)
    table = QTable({"latent": np.c_[rng.normal(size=200), rng.normal(size=200) / 50]})
    alone = Metric.of(read_latents(table, "table"))
    table["latent_err"] = np.broadcast_to([0.01, 1.0], (200, 2))
    weighted = Metric.of(read_latents(table, "table"))
    assert_allclose(weighted.scale[0], alone.scale[0], rtol=1e-3)
    assert_allclose(weighted.scale[1], 1.0, rtol=1e-2)
    table["latent_err"] = np.full((200, 2), np.nan)
    assert_array_equal(Metric.of(read_latents(table, "table")).scale, alone.scale)


def test_surroundings_count_as_a_few_latents_do():
    table = cloud(size=32)
    alike = similar(table, 0, 5)
    table.meta["NAROUND"] = 24
    found = similar(table, 0, 5)
    assert not np.array_equal(found["neighbor"], alike["neighbor"])
    # Half the weight of each of 24 in a sum of squares is a quarter.
    table["latent"][:, 8:] /= 2
    values = (table["latent"] - np.median(table["latent"], 0)) / Metric.of(
        read_latents(cloud(size=32), "table")
    ).scale
    distance = np.linalg.norm(values - values[0], axis=1)
    expected = np.sort(distance)[1:6]
    assert_allclose(found["distance"], expected, rtol=1e-5)


def test_units_and_order_do_not_matter():
    table = cloud(100)
    expected = similar(table, 5, 6)
    scaled = QTable({"latent": table["latent"] * [1, 10, 100, 1, 2, 3] + 7})
    found = similar(scaled, 5, 6)
    assert_array_equal(found["neighbor"], expected["neighbor"])
    assert_allclose(found["distance"], expected["distance"], rtol=1e-4)
    found = similar(table[::-1], 94, 6)
    assert_array_equal(99 - found["neighbor"], expected["neighbor"])


def test_constant_latents_and_equal_galaxies():
    table = QTable({"latent": np.ones((20, 3))})
    found = similar(table, 2, 4)
    assert_array_equal(found["distance"], 0)
    assert 2 not in found["neighbor"]


def test_approximate_search_finds_nearly_all():
    pytest.importorskip("usearch")
    table, rows = cloud(3000, 16), np.arange(0, 3000, 20)
    exact = similar(table, rows, 10, approximate=False)
    found = similar(table, rows, 10, approximate=True)
    both = [np.reshape(one["neighbor"], (-1, 10)) for one in (exact, found)]
    shared = (both[0][:, :, None] == both[1][:, None]).any(axis=2)
    assert shared.mean() > 0.98
    assert not (both[1] == rows[:, None]).any()
    assert len(similar(table, 5, 1, approximate=True)) == 1


def test_approximate_search_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(ImportError, match=r"galml\[all\].*approximate=False"):
        similar(cloud(), 3, approximate=True)
    monkeypatch.setattr(similarity, "LARGEST_EXACT", 100)
    with pytest.raises(ImportError, match="usearch"):
        similar(cloud(), 3)


def test_progress_counts_queries():
    calls = []
    table = cloud(1200)
    similar(table, table, 2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(512, 1200), (1024, 1200), (1200, 1200)]


def test_nearest_has_none_where_all_are_skipped():
    points = np.zeros((2, 3), np.float32)
    number, distance = nearest(points, points, 1, skip=np.array([0, 1]))
    assert_array_equal(number, [[1], [0]])
    assert_array_equal(distance, 0)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"query": 50}, "query"),
        ({"query": True}, "query"),
        ({"query": None}, "query"),
        ({"query": "g99"}, "query"),
        ({"query": np.zeros(3)}, "query"),
        ({"query": np.full(6, np.nan)}, "query"),
        ({"query": []}, "query"),
        ({"query": np.zeros((1, 2, 6))}, "query"),
        ({"query": {"z": [1]}}, "query"),
        ({"k": 0}, "k"),
        ({"k": 50}, "k"),
        ({"k": 2.0}, "k"),
        ({"table": [1, 2]}, "table"),
        ({"table": {"z": [1]}}, "table"),
        ({"table": {"latent": np.zeros(5)}}, "table['latent']"),
        ({"table": {"latent": np.full((5, 2), "a")}}, "table['latent']"),
        ({"table": {"latent": np.full((5, 2), np.nan)}}, "table"),
    ],
)
def test_bad_input_is_named(change, argument):
    arguments = {"table": cloud(50), "query": 3, "k": 5} | change
    with pytest.raises(InputError) as caught:
        similar(**arguments)
    assert caught.value.argument == argument


def test_types_are_told():
    with pytest.raises(InputTypeError, match="numbers or names"):
        similar(cloud(), None)
