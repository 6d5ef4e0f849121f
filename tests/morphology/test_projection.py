# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from galml.core import GalmlWarning, InputError, decode_flags
from galml.morphology.projection import project


def groups(count=120):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(count, 6))
    latent[::2] += 6
    return {"latent": latent}


def test_principal_components_hold_the_variance():
    table = groups()
    table["latent"] = np.linalg.qr(table["latent"])[0] @ np.diag([9, 5, 1, 1, 1, 1.0])
    found = project(table, n_components=6)
    spread = found["projection"].var(axis=0)
    assert (np.diff(spread) <= 0).all()
    shares = [found.meta[f"VARIANC{i}"] for i in range(1, 7)]
    assert_allclose(shares, spread / spread.sum(), rtol=1e-6)
    assert_allclose(np.corrcoef(found["projection"].T), np.eye(6), atol=1e-6)
    assert_array_equal(project(table)["projection"], found["projection"][:, :2])


@pytest.mark.filterwarnings("ignore:n_jobs value", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("method", "module"), [("pca", "numpy"), ("tsne", "openTSNE"), ("umap", "umap")]
)
def test_groups_stay_apart(method, module):
    pytest.importorskip(module)
    calls, table = [], groups()
    found = project(table, method, progress=lambda *counts: calls.append(counts))
    plane = found["projection"]
    assert plane.shape == (120, 2)
    first, second = plane[::2], plane[1::2]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > 3 * max(first.std(axis=0).max(), second.std(axis=0).max())
    if method != "pca":
        assert calls[-1][0] == calls[-1][1]
    assert_array_equal(project(table, method)["projection"], plane)


@pytest.mark.parametrize(("method", "module"), [("tsne", "openTSNE"), ("umap", "umap")])
def test_says_what_it_needs(monkeypatch, method, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"galml\[all\]"):
        project(groups(), method)


def test_rows_without_latents_are_nan():
    table = groups()
    table["latent"][7, 2] = np.nan
    with pytest.warns(GalmlWarning, match="1 of 120"):
        found = project(table)
    assert_array_equal(np.isnan(found["projection"]).all(axis=1).nonzero()[0], [7])
    assert decode_flags(found["flags"][[7]]) == [("failed", "nonfinite")]


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"method": "som"}, "method"),
        ({"n_components": 0}, "n_components"),
        ({"n_components": 7}, "n_components"),
        ({"method": "tsne", "n_components": 3}, "n_components"),
        ({"n_neighbors": 5}, "n_neighbors"),
        ({"method": "umap", "n_neighbors": 1}, "n_neighbors"),
        ({"seed": None}, "seed"),
        ({"table": {"latent": np.zeros((4, 2))}}, "table"),
    ],
)
def test_bad_input_is_named(arguments, argument):
    with pytest.raises(InputError) as caught:
        project(**{"table": groups()} | arguments)
    assert caught.value.argument == argument
