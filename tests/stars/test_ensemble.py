# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy

import numpy as np
import pytest
import torch
from astropy.table import QTable
from scipy.stats import kstest

import galml
from galml.core.exceptions import InputError, ModelError
from galml.core.model import GalaxyModel
from galml.stars import combine
from galml.stars.network import Ensemble, divide

AXES = ("a", "b")


def stars(count=400, seed=0):
    """Stars of two kinds."""
    random = np.random.default_rng(seed)
    kind = random.random(count) < 0.3
    a = np.where(kind, -4, 2) + random.normal(0, 0.5, count)
    return QTable({"a": a, "b": 0.5 * a + random.normal(0, 1, count)})


@pytest.fixture(scope="module")
def models():
    return [
        galml.stars.fit(
            stars(),
            axes=AXES,
            network="mixture",
            options={"components": 2, "layers": 2, "width": 8, "whiten": True},
            seed=seed,
            epochs=1,
            batch_size=128,
        )
        for seed in range(2)
    ]


def integral(model, side=12, number=241):
    """Sum of a density over a grid."""
    x, step = np.linspace(-side, side, number, retstep=True)
    grid = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    table = QTable(dict(zip(AXES, grid.T, strict=True)))
    return np.exp(galml.star_log_prob(table, model=model)["log_prob"]).sum() * step**2


def test_divided_noise_is_normal_and_independent_of_the_component():
    noise = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    place, rest = divide(noise, torch.tensor([0.2, 0.5, 0.3]))
    shares = place.bincount() / len(place)
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.015)
    for index in range(3):
        assert kstest(rest[place == index, 0].numpy(), "norm").pvalue > 0.01
    torch.testing.assert_close(rest[:, 1:], noise[:, 1:], rtol=0, atol=0)


def test_extreme_noise_stays_finite():
    noise = torch.tensor([[-40.0], [40.0], [0.0]])
    place, rest = divide(noise, torch.tensor([0.5, 0.5]))
    assert rest.isfinite().all() and place[0] == 0 and place[1] == 1


def test_ensemble_is_the_mean_density(models):
    model, new_stars = combine(models), stars(50, seed=3)
    each = [np.exp(galml.star_log_prob(new_stars, model=m)["log_prob"]) for m in models]
    found = np.exp(galml.star_log_prob(new_stars, model=model)["log_prob"])
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)
    assert integral(model) == pytest.approx(1, abs=0.01)
    assert model.card["members"] == 2


def test_ensemble_draws_from_its_density(models):
    model = combine(models)
    drawn = galml.sample_stars(None, 20_000, model=model, seed=1)
    x, step = np.linspace(-12, 12, 241, retstep=True)
    grid = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    table = QTable(dict(zip(AXES, grid.T, strict=True)))
    density = np.exp(galml.star_log_prob(table, model=model)["log_prob"]) * step**2
    for place, name in enumerate(AXES):
        mean = (density * grid[:, place]).sum()
        assert np.mean(drawn[name]) == pytest.approx(mean, abs=0.08)
    inside = density[grid[:, 0] < -1].sum()
    assert np.mean(drawn["a"] < -1) == pytest.approx(inside, abs=0.015)


def test_ensemble_survives_a_file(models, tmp_path):
    model, new_stars = combine(models, name="two"), stars(20, seed=4)
    model.save(tmp_path / "two.safetensors")
    again = GalaxyModel.load(tmp_path / "two.safetensors", operation="stars")
    assert isinstance(again.network, Ensemble) and again.sha256 == model.sha256
    found, wanted = (
        galml.star_log_prob(new_stars, model=m)["log_prob"] for m in (again, model)
    )
    np.testing.assert_array_equal(found, wanted)


def test_only_models_alike_are_combined(models):
    other = galml.stars.fit(stars(), axes=("a",), network="nice", epochs=1)
    with pytest.raises(ModelError, match="other axes"):
        combine([models[0], other])
    with_images = copy.copy(models[0])
    with_images.options = models[0].options | {"encoder": "small"}
    with pytest.raises(ModelError, match="an encoder of its own"):
        combine([with_images])
    with pytest.raises(InputError, match="models: got none"):
        combine([])
