# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal

from galml.core import GalmlWarning, InputError, InputUnitError, decode_flags
from galml.morphology import surveys
from galml.morphology.surveys import match_surveys, pair_distances


@pytest.fixture
def field():
    """The same 80 galaxies in two surveys, the second in another order."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(80, 6))
    ra, dec = rng.uniform(10, 11, 80), rng.uniform(-40, -39, 80)
    order = rng.permutation(80)
    noise = 0.02 * np.arange(80)[:, None] * rng.choice([-1, 1], (80, 6))
    a = QTable({"latent": latent, "ra": ra, "dec": dec})
    b = QTable({"latent": latent + noise, "ra": ra * u.deg, "dec": dec * u.deg})[order]
    b["ra"] += 0.2 * u.arcsec / np.cos(b["dec"])
    return a, b, order


def test_the_same_galaxies_are_matched_and_ranked(field):
    a, b, order = field
    pairs = match_surveys(a, b, 1 * u.arcsec)
    assert len(pairs) == 80 and pairs["separation"].unit == u.arcsec
    assert_array_equal(order[pairs["index_b"]], pairs["index_a"])
    assert_allclose(pairs["separation"].value, 0.2, rtol=1e-4)
    assert (np.diff(pairs["distance"]) >= 0).all()
    # The noise of a galaxy is as large as its number.
    assert_array_equal(pairs["index_a"], np.arange(80))
    assert pairs["partner_rank"][0] == 1 and pairs["partner_rank"].max() > 1
    assert len(match_surveys(a, b, 0.1 * u.arcsec)) == 0


def test_positions_may_be_coordinates(field):
    a, b, _ = field
    expected = match_surveys(a, b, 1 * u.arcsec)
    sky = SkyCoord(a["ra"], a["dec"], unit="deg").galactic
    found = match_surveys({"latent": a["latent"], "sky": sky}, b, 1 * u.arcsec)
    assert_array_equal(found["index_b"], expected["index_b"])


def test_only_mutual_neighbors_are_pairs(field):
    a, b, _ = field
    close = a[:1].copy()
    close["ra"] -= 0.5 / 3600
    both = QTable({key: np.concatenate([a[key], close[key]]) for key in a.colnames})
    pairs = match_surveys(both, b, 1 * u.arcsec)
    assert len(pairs) == 80 and 80 not in pairs["index_a"]


def test_positions_that_are_unknown_have_no_pair(field):
    a, b, _ = field
    a["ra"][5] = np.nan
    pairs = match_surveys(a, b, 1 * u.arcsec)
    assert len(pairs) == 79 and 5 not in pairs["index_a"]
    a["ra"] = np.nan
    assert len(match_surveys(a, b, 1 * u.arcsec)) == 0


@pytest.mark.parametrize("block", [(512, 16_384), (7, 9)])
def test_rank_of_the_partner_is_that_of_all_distances(monkeypatch, block):
    monkeypatch.setattr(surveys, "BLOCK", block)
    rng = np.random.default_rng(1)
    a = rng.normal(size=(60, 3))
    b = a + 0.5 * rng.normal(size=(60, 3))
    both = np.concatenate([a, b])
    scale = 1.4826 * np.median(np.abs(both - np.median(both, axis=0)), axis=0)
    distance = np.linalg.norm((a[:, None] - b) / scale, axis=2)
    own = np.diag(distance)
    calls = []
    pairs = pair_distances(
        {"latent": a}, {"latent": b}, progress=lambda *counts: calls.append(counts)
    )
    rows = np.asarray(pairs["index_a"])
    assert_array_equal(rows, pairs["index_b"])
    assert_allclose(pairs["distance"], own[rows], rtol=1e-5)
    assert_array_equal(
        pairs["partner_rank"], 1 + (distance < own[:, None]).sum(axis=1)[rows]
    )
    assert calls[-1] == (60, 60)


def test_the_same_latents_have_the_first_rank():
    latent = np.random.default_rng(2).normal(size=(100, 40)) * 100 + 1000
    pairs = pair_distances({"latent": latent}, {"latent": latent})
    assert_array_equal(pairs["distance"], 0)
    assert_array_equal(pairs["partner_rank"], 1)


def test_names_make_pairs():
    rng = np.random.default_rng(0)
    a = QTable({"latent": rng.normal(size=(4, 2)), "name": ["p", "q", "r", ""]})
    b = QTable({"latent": rng.normal(size=(3, 2)), "name": ["r", "", "p"]})
    pairs = pair_distances(a, b)
    assert_array_equal(np.sort(pairs["name_a"]), ["p", "r"])
    assert_array_equal(pairs["name_a"], pairs["name_b"])
    with pytest.raises(InputError, match="unique"):
        pair_distances(a, b[[0, 1, 2, 0]])


def test_pairs_without_latents_come_last():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 3))
    a[3, 0], b[8, 2] = np.nan, np.inf
    with pytest.warns(GalmlWarning, match="2 of 20"):
        pairs = pair_distances({"latent": a}, {"latent": b})
    assert set(pairs["index_a"][-2:]) == {3, 8}
    assert np.isnan(pairs["distance"][-2:]).all()
    assert np.isfinite(pairs["distance"][:-2]).all()
    assert decode_flags(pairs["flags"][-1:])[0] == ("failed", "nonfinite")
    assert_array_equal(pairs["partner_rank"][-2:], 0)


def test_bad_input_is_named(field):
    a, b, _ = field
    for limit in (1, 1 * u.pix, -1 * u.deg, [1, 2] * u.deg):
        with pytest.raises(InputError, match="max_separation"):
            match_surveys(a, b, limit)
    with pytest.raises(InputUnitError):
        match_surveys(a, b, 1 * u.pix)
    with pytest.raises(InputError, match="^b: .*SkyCoord"):
        match_surveys(a, {"latent": np.zeros((3, 6))}, 1 * u.deg)
    with pytest.raises(InputError, match="^b: got 5 latents"):
        pair_distances(a, {"latent": np.zeros((80, 5))})
    with pytest.raises(InputError, match="^b: got 3 rows"):
        pair_distances(a, {"latent": np.zeros((3, 6))})
