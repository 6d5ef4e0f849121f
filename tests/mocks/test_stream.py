# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core.exceptions import InputError
from galml.mocks import gas_maps


@pytest.fixture(scope="module")
def population():
    """About 1500 galaxies: their views are dropped, what is known of them stays."""
    batches = [
        (parameters, maps) for parameters, maps in gas_maps(24, batch_size=64, seed=11)
    ]
    truth = {
        key: torch.cat([getattr(maps.truth, key) for _, maps in batches])
        for key in ("kappa", "kappa_co", "position_angle", "inclination")
    }
    others = {
        key: torch.cat([getattr(maps, key) for _, maps in batches])
        for key in ("snr", "beam", "beams_across", "survey")
    }
    others["pixels"] = torch.cat(
        [torch.isfinite(maps.velocity).sum((1, 2)) for _, maps in batches]
    )
    sides = {maps.velocity.shape[-1] for _, maps in batches}
    lengths = [(len(parameters["speed"]), len(maps)) for parameters, maps in batches]
    return truth, others, sides, lengths


def same(first, second):
    """Whether two batches are equal to the last bit."""
    for key in first[0]:
        torch.testing.assert_close(first[0][key], second[0][key], rtol=0, atol=0)
    for key in ("velocity", "dispersion", "uncertainty", "snr"):
        torch.testing.assert_close(
            getattr(first[1], key),
            getattr(second[1], key),
            rtol=0,
            atol=0,
            equal_nan=True,
        )
    torch.testing.assert_close(
        first[1].truth.kappa, second[1].truth.kappa, rtol=0, atol=0
    )


def test_batches_depend_on_seed_and_index_alone():
    whole = list(gas_maps(4, batch_size=6, seed=3))
    short = list(gas_maps(2, batch_size=6, seed=3))
    later = list(gas_maps(2, batch_size=6, seed=3, first=2))
    torch.manual_seed(99)
    again = list(gas_maps(1, batch_size=6, seed=3, first=3))
    for index in range(2):
        same(whole[index], short[index])
        same(whole[index + 2], later[index])
    same(whole[3], again[0])
    other = next(gas_maps(1, batch_size=6, seed=4))
    assert not torch.equal(whole[0][0]["speed"], other[0]["speed"])


def test_seeds_of_neighboring_streams_do_not_meet():
    first = torch.cat([p["speed"] for p, _ in gas_maps(5, batch_size=4, seed=0)])
    second = torch.cat([p["speed"] for p, _ in gas_maps(5, batch_size=4, seed=1)])
    assert not torch.isin(first, second).any()


def test_noise_can_be_forced():
    for noisy in (True, False):
        for _, maps in gas_maps(3, batch_size=4, seed=5, noisy=noisy):
            assert (torch.isfinite(maps.snr) == noisy).all()


def test_batches_of_one_are_possible():
    for parameters, maps in gas_maps(30, batch_size=1, seed=6, noisy=True):
        assert len(maps) == len(parameters["speed"]) <= 1


@pytest.mark.parametrize("argument", ["n_batches", "batch_size"])
def test_numbers_must_be_positive(argument):
    numbers = {"n_batches": 1, "batch_size": 1} | {argument: 0}
    with pytest.raises(InputError, match=argument):
        next(gas_maps(numbers["n_batches"], batch_size=numbers["batch_size"]))


def test_population_fills_the_range(population):
    kappa = population[0]["kappa"]
    assert ((kappa > 0.35) & (kappa < 0.65)).float().mean() >= 0.3
    assert (kappa < 0.15).sum() >= 5
    assert (kappa > 0.95).sum() >= 30
    counts = torch.histc(kappa, bins=10, min=0, max=1)
    assert counts.sum() == len(kappa)
    assert (counts >= 5).all()


def test_truth_is_known_and_bounded(population):
    truth = population[0]
    assert all(torch.isfinite(value).all() for value in truth.values())
    assert (truth["kappa"] > 0).all()
    assert (truth["kappa"] < 1).all()
    assert (truth["kappa_co"] <= truth["kappa"] + 1e-5).all()
    assert (truth["kappa_co"] > 0).all()
    assert ((truth["inclination"] >= 0) & (truth["inclination"] <= 90)).all()
    assert ((truth["position_angle"] >= 0) & (truth["position_angle"] < 360)).all()


def test_views_are_isotropic(population):
    cosine = torch.cos(torch.deg2rad(population[0]["inclination"])).sort().values
    even = torch.linspace(0, 1, len(cosine))
    assert (cosine - even).abs().max() < 0.05
    angle = (population[0]["position_angle"] / 360).sort().values
    assert (angle - even).abs().max() < 0.05


def test_instruments_and_noise_are_mixed(population):
    _, others, sides, lengths = population
    assert len(sides) >= 4
    assert all(parameters == maps for parameters, maps in lengths)
    assert set(others["survey"].tolist()) == {0, 1, 2}
    assert (others["pixels"] >= 12).all()
    clean = torch.isinf(others["snr"]).float().mean()
    assert 0.05 < clean < 0.5
    noisy = others["snr"][torch.isfinite(others["snr"])]
    assert (noisy < 0.5).any()
    assert (noisy > 100).any()
    assert others["beams_across"].min() < 5
    assert others["beams_across"].max() > 45
    assert (others["beams_across"] >= 3).all()
    assert (others["beams_across"] <= 60).all()
    assert (others["beam"] > 0.9).all()
