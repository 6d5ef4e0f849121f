# Licensed under a 3-clause BSD style license - see LICENSE.rst
import warnings
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from astropy.utils.masked import Masked

from galml.core.distributions import histogram_log_density
from galml.core.exceptions import (
    GalmlWarning,
    InputError,
    InputTypeError,
    InputUnitError,
    ModelError,
)
from galml.core.fitting import (
    fit,
    fit_prepared,
    read_truth,
    recipe_of,
    split_rows,
    valid_range,
)
from galml.core.model import GalaxyModel, InputSpec
from galml.core.running import run


class WeighRecipe:
    """Train scales on weighed rows."""

    operation, architecture, kind = "weigh", "scale", "rows"
    input_spec = InputSpec(parameters={"unit": 2.0})
    truth = {"weight": (None, 1.0), "price": (u.m, None)}
    needs_truth = needs_calibration = True
    training = {"epochs": 30, "learning_rate": 0.01, "batch_size": 32}

    def start(self, network, data):
        network.started = len(data["numbers"])

    def targets(self, truth, prepared, members):
        return {key: torch.from_numpy(value).float() for key, value in truth.items()}

    def columns(self, data):
        return {key: data[key] for key in ("numbers", "weight")}

    def loss(self, network, batch):
        logits = network(batch)["weight"]
        likelihood = histogram_log_density(logits, batch["weight"], 1.0, 0.05)
        return {"loss": -likelihood.mean()}

    def calibrate(self, model, data, calibration, *, device):
        assert model.input_spec == self.input_spec
        count = len(calibration["numbers"])
        return {"range": valid_range(data["numbers"])}, {"count": count, "no": np.nan}


@pytest.fixture
def recipe(weigh):
    return WeighRecipe()


@pytest.fixture
def data():
    return np.random.default_rng(0).uniform(0, 2, (300, 4))


def weights(data):
    return data.mean(1) / 2


def test_fit_learns_and_says_how(recipe, data):
    truth = QTable({"weight": weights(data)})
    model = fit(recipe, data, truth, {"block": 7}, name="mine", seed=3)
    assert model.name == "mine"
    assert model.input_spec == recipe.input_spec
    assert model.card["training_rows"] == 210 and model.card["seed"] == 3
    assert model.card["figures"] == {"count": 45}
    assert len(model.config["range"]["low"]) == 4
    assert len(model.history) == 30
    from galml.core.domain import find_domain

    table = run(find_domain(model), data, {})
    assert np.corrcoef(table["weight"], weights(data))[0, 1] > 0.9


def test_seeds_reproduce(recipe, data):
    truth = {"weight": weights(data)}
    first, second, third = (
        fit(recipe, data, truth, {}, seed=seed, epochs=2) for seed in (1, 1, 2)
    )
    assert first.sha256 == second.sha256 != third.sha256
    fresh = fit(recipe, data, truth, {}, seed=None, epochs=2)
    again = fit(recipe, data, truth, {}, seed=fresh.card["seed"], epochs=2)
    assert again.sha256 == fresh.sha256


def test_fine_tuning_starts_from_a_model(recipe, data):
    truth = {"weight": weights(data)}
    start = fit(recipe, data, truth, {}, epochs=20)
    before = start.sha256
    tuned = fit(recipe, data, truth, {}, model=start, epochs=1, learning_rate=1e-6)
    assert GalaxyModel.sha256.func(start) == before
    for key, tensor in start.network.state_dict().items():
        torch.testing.assert_close(
            tuned.network.state_dict()[key], tensor, atol=1e-4, rtol=0
        )


def test_resume(recipe, data, tmp_path):
    truth = {"weight": weights(data)}
    unbroken = fit(recipe, data, truth, {}, epochs=4)
    checkpoint = tmp_path / "part"
    calls = []
    loss = recipe.loss

    def dying(network, batch):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return loss(network, batch)

    recipe.loss = dying
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data, truth, {}, epochs=4, checkpoint=checkpoint)
    recipe.loss = loss
    resumed = fit(recipe, data, truth, {}, epochs=4, checkpoint=checkpoint)
    for key, tensor in unbroken.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], tensor)


def test_bad_rows_are_left_out_with_their_truth(recipe, data):
    bad = data.copy()
    bad[::10] = -1
    values = weights(data)
    values[::10] = 0.999
    with pytest.warns(GalmlWarning, match="30 of 300 rows are left out"):
        model = fit(recipe, bad, {"weight": values}, {}, epochs=1)
    assert model.card["training_rows"] + 2 * 40 == 270


@pytest.mark.parametrize(
    "truth, message",
    [
        (None, "truth: got None.*a column weight"),
        ({"price": [1.0]}, "no weight"),
        ({"weight": np.full(300, np.nan)}, "weight.*no number"),
        ({"weight": np.full(299, 0.5)}, r"weight.*\(299,\).*\(300,\)"),
        ({"weight": np.full(301, 0.5)}, r"weight.*\(301,\).*\(300,\)"),
        ({"weight": np.full(300, 1.5)}, "beyond 0 to 1"),
        ({"weight": np.full(300, 0.5), "price": np.ones(300) * u.s}, "price"),
        ({"weight": np.full((300, 2), 0.5)}, "one number per row"),
        ({"weight": ["heavy"] * 300}, "numbers"),
    ],
)
def test_truths_that_do_not_fit(recipe, data, truth, message):
    with pytest.raises(InputError, match=message):
        fit(recipe, data, truth, {}, epochs=1)


def test_too_few_rows_and_bad_shares(recipe, data):
    truth = {"weight": weights(data)}
    with pytest.raises(InputError, match="19 usable rows.*at least 20"):
        fit(recipe, data[:19], {"weight": truth["weight"][:19]}, {})
    with pytest.raises(InputError, match="1 usable rows"):
        fit(recipe, data[:1], {"weight": truth["weight"][:1]}, {})
    with pytest.raises(InputError, match="validation: got 0.6"):
        fit(recipe, data, truth, {}, validation=0.6)
    with pytest.raises(ModelError, match="'none'"):
        fit(recipe, data, truth, {}, model="none")


def test_units_and_masks_of_truths():
    table = QTable({"weight": [0.1, 0.2]})
    table["price"] = Masked([100.0, 200] * u.cm, mask=[False, True])
    kinds = WeighRecipe.truth
    known = read_truth(table, kinds)
    np.testing.assert_array_equal(known["price"], [1.0, np.nan])
    assert np.isnan(read_truth({"weight": [0.1]}, kinds)["price"]).all()
    with pytest.raises(InputUnitError, match="price"):
        read_truth({"weight": [0.1], "price": [1] * u.s}, kinds)


@pytest.mark.parametrize("truth", [np.zeros(3), [0.1, 0.2], 3])
def test_truths_have_columns(recipe, truth):
    with pytest.raises(InputTypeError, match="truth: got"):
        read_truth(truth, recipe.truth)


def test_networks_are_those_of_models():
    recipes = {"new": int, "old": str}
    model = SimpleNamespace(architecture="old")
    assert recipe_of(recipes, None, None) is int
    assert recipe_of(recipes, "old", None) is str
    assert recipe_of(recipes, None, model) is recipe_of(recipes, "old", model) is str
    for network, start in (("new", model), ("other", None), (["new"], None)):
        with pytest.raises(InputError, match="network: got"):
            recipe_of(recipes, network, start)
    with pytest.raises(InputError, match="network: got 'third'"):
        recipe_of(recipes, None, SimpleNamespace(architecture="third"))


def test_prepared_objects(recipe):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(200, 4, generator=generator)
    data = {"numbers": numbers, "weight": numbers.mean(1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit_prepared(
            recipe,
            data,
            data,
            data,
            epochs=2,
            card={"title": "scales"},
            settings={"bins": 8},
        )
    assert model.options == {"bins": 8} and model.card["title"] == "scales"


def test_split_rows():
    parts = split_rows(100, 1, 0.2, 0.1)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    assert not torch.equal(parts[0], split_rows(100, 2, 0.2, 0.1)[0])
    assert [len(part) for part in split_rows(20, 0, 0.01)] == [19, 1]


def test_valid_range_holds_what_it_was_made_from():
    scalars = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    low, high = (np.array(valid_range(scalars)[key]) for key in ("low", "high"))
    inside = (scalars.numpy() >= low) & (scalars.numpy() <= high)
    assert inside.mean() > 0.999 and (high < 10).all()
