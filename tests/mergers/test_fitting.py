# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable

import galml
from galml.core.exceptions import InputError, InputTypeError, ModelError
from galml.core.fitting import untrained_model
from galml.mergers import fit
from galml.mergers.fitting import (
    MergerRecipe,
    augment,
    common_shares,
    equal_numbers,
    judge,
    merger_loss,
)
from galml.mergers.posterior import calibrate
from galml.mergers.preparation import INPUT

ACS = {"filter": "F814W", "pixel_scale": 0.03 * u.arcsec, "unit": u.nJy}


@pytest.fixture(scope="module")
def few(make):
    return make(40, size=64, noise=0.01)[:, None]


@pytest.fixture(scope="module")
def truth():
    return {"merger": np.arange(40) % 2}


@pytest.mark.slow
def test_a_new_network_learns(make, few, truth):
    scenes = make(240, size=64, seed=2)[:, None]
    merged = {"merger": np.arange(240) % 2}
    model = fit(scenes, merged, epochs=12, seed=1, learning_rate=3e-3, **ACS)
    table = galml.merger(few, model=model, seed=1, **ACS)
    right = (table["merger_probability"] > 0.5) == truth["merger"].astype(bool)
    assert right.mean() > 0.8
    assert model.card["figures"]["accuracy"] > 0.7


def test_fine_tuning_starts_from_a_model(few, truth, model):
    options = {"epochs": 1, "seed": 1, "learning_rate": 1e-5, **ACS}
    found = fit(few, truth, model=model, name="mine", **options)
    assert found.name == "mine" or found.name is None
    assert found.input_spec == model.input_spec and found is not model
    first, second = (m.network.state_dict() for m in (model, found))
    for key in ("branches.0.trunk.0.weight", "branches.0.stage.weight"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=1e-3)
        assert not torch.equal(first[key], second[key])
    again = fit(few, truth, model=model, **options)
    for key, value in again.network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[key], value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_published_network_can_be_trained(few, truth, dtype):
    options = {"epochs": 1, "batch_size": 8, "dtype": dtype, **ACS}
    model = fit(few, truth, network="ferreira2022", **options)
    assert model.architecture == "ferreira2022"
    table = galml.merger(few[:2], model=model, seed=1, n_samples=3, **ACS)
    assert np.isfinite(table["merger_probability"]).all()


def test_truths(few, truth):
    stage = QTable({"stage": truth["merger"] * 3.0, "time": [0.2] * 40 * u.Gyr})
    options = {"epochs": 1, "seed": 1, **ACS}
    first, second = (fit(few, one, **options) for one in (truth, stage))
    assert first.card["training_images"] == second.card["training_images"]
    with pytest.raises(InputError, match="stage"):
        fit(few, {"redshift": truth["merger"]}, **options)
    with pytest.raises(InputError, match="stage"):
        fit(few, {"stage": np.full(40, 7)}, **options)
    with pytest.raises(InputError, match="network"):
        fit(few, truth, network="resnet", **options)
    with pytest.raises(InputError, match="at least 20"):
        fit(few[:5], {"merger": truth["merger"][:5]}, **options)


@pytest.mark.parametrize("start", [None, "default"])
def test_what_was_not_taught_is_not_known(few, truth, start):
    """Also where it was known before: weights that all heads share have changed."""
    options = {"model": start, "epochs": 1, "seed": 1, **ACS}
    known = {"contamination": np.linspace(0, 0.5, 40), "time": np.full(40, 0.2)}
    untaught = fit(few, truth, **options)
    taught = fit(few, truth | known, **options)
    with pytest.raises(ModelError, match="the model: knows no contaminations"):
        galml.contamination(few, model=untaught, **ACS)
    found = galml.contamination(few, model=taught, **ACS)["contamination"]
    assert np.isfinite(found).all()
    first, second = (galml.merger(few, model=m, **ACS) for m in (untaught, taught))
    for key in ("time_since_merger", "time_since_merger_err"):
        assert np.isnan(first[key]).all()
        merged = second["stage_probability"][:, 3:].sum(1) > 0.5
        np.testing.assert_array_equal(np.isfinite(second[key]), merged)
    assert np.isfinite(first["merger_probability"]).all()
    assert "contamination_error" not in untaught.card["figures"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"merger": np.full(40, 0.5)}, r"truth\['merger'\]: got 0.5"),
        ({"merger": np.full(40, 2)}, r"truth\['merger'\]: got a value beyond 0 to 1"),
        ({"merger": np.arange(39) % 2}, r"truth\['merger'\]: got shape \(39,\)"),
        ({"merger": np.zeros(40)}, r"truth\['merger'\]: got one class"),
        ({"merger": np.full(40, np.nan)}, r"truth\['merger'\]: got no number"),
        ({"stage": np.arange(40) % 5 / 3}, r"truth\['stage'\]: got 0.3"),
        ({"stage": np.full(40, 3)}, r"truth\['stage'\]: got one class"),
        ({}, "truth: got columns .* expected a column 'stage' or 'merger'"),
        ({"time": np.zeros(40)}, "expected a column 'stage' or 'merger'"),
    ],
)
def test_truths_that_are_none(few, given, match):
    with pytest.raises(InputError, match=match):
        fit(few, given, epochs=1, **ACS)


@pytest.mark.parametrize("given", [None, np.arange(40) % 2, "merger"])
def test_truths_have_columns(few, given):
    with pytest.raises(InputTypeError, match="truth: got"):
        fit(few, given, epochs=1, **ACS)


def test_published_network_needs_its_two_classes(few):
    stages = {"stage": np.arange(40) % 2 * 4}
    with pytest.raises(InputError, match=r"truth\['stage'\]: got one class"):
        fit(few, stages, network="ferreira2022", epochs=1, **ACS)


def test_networks_are_those_of_models(few, truth, model, published_model):
    for start, network in ((model, "ferreira2022"), (published_model, "merger")):
        with pytest.raises(InputError, match=f"network: got '{network}'"):
            fit(few, truth, model=start, network=network, epochs=1, **ACS)
    options = {"model": model, "network": "merger", "epochs": 1, **ACS}
    assert fit(few, truth, **options).architecture == "merger"


def test_fields_are_spelled_as_in_the_operation(few, truth):
    model = fit(few, truth, field="goods-south", epochs=1, **ACS)
    assert set(model.config["temperature"]) == {"all"}


def batch(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(count, 5, 64, 64, generator=generator),
        "scalars": torch.randn(count, len(INPUT.scalars), generator=generator),
        "stage": torch.arange(count).float() % 5,
        "time": torch.linspace(0.1, 1.4, count),
        "contamination": torch.linspace(0, 1, count),
    }


def test_unknown_truths_do_not_count():
    network = untrained_model(MergerRecipe(), seed=1).network.eval()
    one = batch()
    known = merger_loss(network, one)
    for key in ("stage", "time", "contamination"):
        spoiled = one | {key: one[key].clone()}
        spoiled[key][4:] = torch.nan
        found = merger_loss(network, spoiled)
        half = merger_loss(network, {k: v[:4] for k, v in one.items()})
        assert torch.isfinite(found["loss"])
        torch.testing.assert_close(found[key], half[key])
        assert not torch.isclose(found[key], known[key])
    bare = {key: one[key] for key in ("image", "scalars", "stage")}
    assert torch.isfinite(merger_loss(network, bare)["loss"])


def test_augmentation_keeps_what_counts():
    one = batch(400)
    names = ("has_psf", "has_scale")
    for name in names:
        one["scalars"][:, INPUT.scalars.index(name)] = 1
    before = one["image"].clone()
    found = augment(one, torch.Generator().manual_seed(3))
    torch.testing.assert_close(one["image"], before, rtol=0, atol=0)
    torch.testing.assert_close(
        found["image"].flatten(2).sort(2)[0], before.flatten(2).sort(2)[0]
    )
    same = (found["image"] == before).flatten(1).all(1).float().mean()
    assert 0.05 < same < 0.22  # one of eight views
    for name, share in zip(names, (0.3, 0.1), strict=True):
        lost = (found["scalars"][:, INPUT.scalars.index(name)] == 0).float().mean()
        assert lost == pytest.approx(share, abs=0.08)


def test_classes_count_equally():
    first = np.arange(100) < 30
    rows = equal_numbers(first, ~first)
    assert len(rows) == 60 == len(set(rows.tolist())) and first[rows].sum() == 30
    assert len(equal_numbers(first, np.zeros(100, bool))) == 0


def test_judging_a_network_that_knows_all():
    stage = (torch.arange(600) % 2 * 3).float()
    logits = torch.zeros(600, 4, 5)
    logits[..., 3] = (2 * (stage > 0).float() - 1)[:, None] * 8
    data = {"stage": stage, "group": torch.zeros(600)}
    figures = judge({"stage": logits}, calibrate({"stage": logits}, data), data)
    assert figures["accuracy"] == 1 and figures["upsilon"] == 1
    assert figures["calibration_error"] < 0.01


def test_shares_are_those_of_filters():
    """The passes of one filter are wrong by nothing, those of the other by much."""
    rng = np.random.default_rng(7)
    merged = np.arange(1300) % 2
    ratio = 2 * (rng.normal(size=1300) + 2 * merged) - 2
    passes = np.where(np.arange(1300)[:, None] < 600, 0.5, 0.0) * rng.normal(size=8)
    logits = torch.zeros(1300, 8, 5)
    logits[..., 3] = torch.from_numpy(ratio[:, None] + passes).float()
    numbers = torch.arange(1300)
    group = torch.where(numbers < 600, 2, torch.where(numbers < 1200, 13, 30))
    data = {"stage": torch.from_numpy(3.0 * merged), "group": group.float()}
    shares = common_shares({"stage": logits}, data)
    assert shares.keys() == {"filter 0", "filter 1"}
    few = common_shares({"stage": logits}, data | {"system": numbers // 60})
    assert few["filter 0"] > shares["filter 0"]
    guessed = common_shares({"stage": logits[rng.permutation(1300)]}, data)
    assert set(guessed.values()) == {1.0}
