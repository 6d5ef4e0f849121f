# Licensed under a 3-clause BSD style license - see LICENSE.rst
import dataclasses

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable

import galml
from galml.core import GalmlWarning
from galml.core.exceptions import InputError, ModelError
from galml.core.fitting import fit_prepared
from galml.core.model import GalaxyModel
from galml.mocks import TYPES
from galml.stellar_spin import fit
from galml.stellar_spin.fitting import (
    SpinRecipe,
    augment,
    augment_published,
    farthest,
    published_loss,
    spin_loss,
)
from galml.stellar_spin.metrics import pearson
from galml.stellar_spin.network import SpinNet
from galml.stellar_spin.preparation import INPUT, prepare

OPTIONS = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "seed": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def training(make):
    galaxies = make(120, shape=(40, 40), seed=9, r_eff=5)
    data = [
        CCDData(d, unit=u.nJy, meta={"R_EFF": 2.0, "PIXSCALE": 0.4, "BANDS": "g,r,i"})
        for d in galaxies.data
    ]
    truth = QTable(
        {"spin": 0.9 - 0.8 * galaxies.bulge, "ellipticity": 1 - galaxies.axis_ratio}
    )
    return data, truth


@pytest.fixture(scope="module")
def fitted(training):
    return fit(*training, **OPTIONS, name="mine")


def test_fit(training, fitted):
    data, truth = training
    assert isinstance(fitted, GalaxyModel) and fitted.name == "mine"
    assert len(fitted.history) == 3
    assert fitted.card["training_images"] == 84
    assert set(fitted.card["figures"]) >= {"pearson", "spearman", "mean_square"}
    table = galml.spin(data, model=fitted)
    assert pearson(table["spin"], truth["spin"]) > 0.6


def test_saved_model_gives_the_same(training, fitted, tmp_path):
    fitted.save(tmp_path / "mine.safetensors")
    first = galml.spin(training[0][:8], model=fitted)
    second = galml.spin(training[0][:8], model=tmp_path / "mine.safetensors")
    np.testing.assert_allclose(first["spin"], second["spin"], atol=1e-6)


def test_fine_tuning_starts_from_the_model(training, fitted):
    before = {k: v.clone() for k, v in fitted.network.state_dict().items()}
    options = OPTIONS | {"epochs": 1, "learning_rate": 1e-9}
    tuned = fit(*training, model=fitted, **options)
    for key, value in fitted.network.state_dict().items():
        assert torch.equal(value, before[key])
    first = galml.spin(training[0][:4], model=fitted)["spin"]
    second = galml.spin(training[0][:4], model=tuned)["spin"]
    np.testing.assert_allclose(first, second, atol=0.1)
    assert tuned.options == fitted.options
    assert tuned.input_spec == fitted.input_spec == INPUT


def test_fit_is_reproducible(training):
    data, truth = training[0][:30], training[1][:30]
    options = OPTIONS | {"epochs": 1}
    first, second, third = (
        fit(data, truth, **options | {"seed": s}) for s in (1, 1, 2)
    )
    assert first.sha256 == second.sha256 != third.sha256
    fresh = fit(data, truth, **options | {"seed": None})
    assert fresh.card["seed"] not in (0, 1, 2)
    again = fit(data, truth, **options | {"seed": fresh.card["seed"]})
    assert again.sha256 == fresh.sha256


def test_published_network(training):
    data, truth = training[0][:24], {"spin": training[1]["spin"][:24]}
    options = {"epochs": 1, "batch_size": 8, "seed": 1, "device": "cpu"}
    found = fit(data, truth, network="duckworth2020", **options)
    assert found.architecture == "duckworth2020"
    assert found.config["error"] > 0
    assert np.isfinite(galml.spin(data[:2], model=found)["spin"]).all()


def test_bad_members_are_left_out(training):
    data = [
        *training[0][:29],
        CCDData(np.zeros((3, 40, 40)), unit=u.nJy, meta=training[0][0].meta),
    ]
    truth = {"spin": np.ma.masked_array(training[1]["spin"][:30], mask=[1] + [0] * 29)}
    with pytest.warns(GalmlWarning, match="1 of 30 images are left out"):
        found = fit(data, truth, **OPTIONS | {"epochs": 1})
    assert found.card["training_images"] == 21


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"network": "cnn"}, InputError, "network: got 'cnn'"),
        ({"validation": 0.9}, InputError, "validation: got 0.9"),
        ({"truth": {}}, InputError, "truth: got no spin"),
        (
            {"truth": {"spin": np.full(120, 2.0)}},
            InputError,
            "got a value beyond 0 to 1",
        ),
        ({"truth": {"spin": np.full(120, np.nan)}}, InputError, "got no number"),
        ({"truth": {"spin": np.zeros(3)}}, InputError, r"got shape \(3,\)"),
        ({"cutouts": slice(5)}, InputError, "data: got 5 usable images"),
        ({"model": "nothing"}, ModelError, "nothing"),
    ],
)
def test_bad_arguments(training, change, error, message):
    data, truth = training
    options = {"cutouts": slice(None), "truth": truth} | change
    data = data[options.pop("cutouts")]
    with pytest.raises(error, match=message):
        fit(data, options.pop("truth"), **options)


def test_settings_and_shown_input():
    """A network of another size, shown another field, keeps both in its model."""
    generator = torch.Generator().manual_seed(0)
    data = {
        "image": torch.randn(24, 6, 48, 48, generator=generator),
        "scalars": torch.randn(24, 23, generator=generator),
        "spin": torch.rand(24, generator=generator),
        "ellipticity": torch.full((24,), torch.nan),
    }
    recipe = SpinRecipe(dataclasses.replace(INPUT, half_width=3.0))
    found = fit_prepared(
        recipe,
        data,
        data,
        data,
        settings={"widths": [4, 4, 4, 4]},
        epochs=1,
        device="cpu",
    )
    assert found.input_spec.half_width == 3.0
    assert found.options == {"widths": [4, 4, 4, 4]}
    mean = data["scalars"].mean(0)
    torch.testing.assert_close(found.network.mean, mean)
    # One table for the width, one for the distance.
    assert len(found.config["calibration"]["spin"]) == 2
    assert found.config["calibration"]["ellipticity"] == []


@pytest.fixture(scope="module")
def batch(galaxies):
    prepared = prepare(galaxies.images)
    return {
        "image": prepared.image.repeat(40, 1, 1, 1),
        "scalars": prepared.scalars.repeat(40, 1) + 0.125,
        "spin": torch.rand(960),
    }


def test_augment_forgets_and_mirrors(batch):
    before = {key: value.clone() for key, value in batch.items()}
    result = augment(batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert result["spin"] is batch["spin"]
    scalars = dict(zip(INPUT.scalars, result["scalars"].T, strict=True))
    for name, share in (("blue", 0.21), ("red", 0.21), ("psf", 0.3)):
        keys = [key for key in scalars if name in key]
        gone = torch.stack([scalars[key] == 0 for key in keys]).all(0)
        assert gone.float().mean() == pytest.approx(share, abs=0.05)
        if name in INPUT.channels:
            image = result["image"][:, INPUT.channels.index(name)]
            assert (image[gone] == 0).all() and (image[~gone] != 0).any()
    shape, old = result["image"][:, 0], batch["image"][:, 0]
    for axes in ((), (-1,), (-2,), (-1, -2)):
        same = (shape == (old.flip(axes) if axes else old)).flatten(1).all(1)
        assert same.float().mean() == pytest.approx(0.25, abs=0.05)


def test_augment_is_seeded(batch):
    first, second, third = (
        augment(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], third["image"])


def test_published_augmentation():
    y, x = (torch.arange(80) - 39.5).abs()[:, None], (torch.arange(80) - 39.5).abs()
    spot = torch.exp(-((x / 12) ** 2) - (y / 4) ** 2).expand(200, 3, 80, 80)
    moved = augment_published({"image": spot}, torch.Generator().manual_seed(0))[
        "image"
    ]
    light = moved[:, 0]
    total = light.sum((1, 2))
    step = torch.arange(80) - 39.5
    middle = [(light * axis).sum((1, 2)) / total for axis in (step, step[:, None])]
    for offset in middle:
        assert offset.abs().max() < 8 and offset.std() > 1
    area = total / spot[0, 0].sum()
    assert 0.5 < area.min() < 0.75 and 1.3 < area.max() < 1.9


def test_losses_ignore_unknown_truths(batch):
    network = SpinNet(widths=(4, 4, 4, 4)).eval()
    few = {key: value[:8] for key, value in batch.items()}
    few["ellipticity"] = torch.full((8,), torch.nan)
    full = spin_loss(network, few)
    assert all(torch.isfinite(value) for value in full.values())
    assert full["ellipticity"] == 0
    few["spin"] = few["spin"].clone()
    few["spin"][4:] = torch.nan
    half = spin_loss(network, few)
    expected = spin_loss(network, {key: value[:4] for key, value in few.items()})
    assert half["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)


def test_spin_loss_is_least_for_the_truth():
    centers = (np.arange(40) + 0.5) / 40

    def loss(spin, width):
        logits = torch.tensor(-0.5 * ((centers - spin) / width) ** 2).float()
        outputs = {
            "spin": logits.expand(1, 2, 1, 40),
            "ellipticity": torch.zeros(1, 2, 2),
        }
        truth = {"spin": torch.tensor([0.4]), "ellipticity": torch.tensor([0.5])}
        return spin_loss(lambda batch: outputs, truth)["loss"]

    assert loss(0.4, 0.03) < loss(0.4, 0.1) < loss(0.6, 0.1) < loss(0.6, 0.03)


def test_spin_loss_knows_types():
    logits = torch.full((1, 1, 2, 40), -30.0)
    logits[0, 0, 1] = 0.0
    outputs = {"spin": logits, "ellipticity": torch.zeros(1, 1, 2)}
    truth = {"spin": torch.tensor([0.4125]), "ellipticity": torch.tensor([0.5])}
    right, wrong, unknown = (
        spin_loss(lambda batch: outputs, truth | kind)["spin"]
        for kind in ({"type": torch.tensor([1.0])}, {"type": torch.tensor([0.0])}, {})
    )
    assert right == pytest.approx(np.log(40), rel=1e-4)
    assert wrong == pytest.approx(np.log(40) + 30, rel=1e-4)
    assert unknown == pytest.approx(np.log(40), rel=1e-4)


def test_types_and_stressed_galaxies():
    """Shares of types are kept; stressed galaxies do not count in the figures."""
    generator = torch.Generator().manual_seed(0)
    data = {
        "image": torch.randn(48, 6, 48, 48, generator=generator),
        "scalars": torch.randn(48, 23, generator=generator),
        "spin": torch.rand(48, generator=generator),
        "ellipticity": torch.rand(48, generator=generator),
        "type": torch.tensor([0.0, 2.0, 3.0, 3.0]).repeat(12),
    }
    stressed = torch.zeros(48)
    stressed[24:] = 1
    held_out = data | {"stressed": stressed, "spin": data["spin"].clone()}
    settings = {"widths": [4, 4, 4, 4], "types": len(TYPES)}
    options = {"settings": settings, "epochs": 1, "device": "cpu"}
    found = fit_prepared(SpinRecipe(), data, data, held_out, **options)
    assert found.config["types"] == dict(
        zip(TYPES, (0.25, 0.0, 0.25, 0.5, 0.0, 0.0), strict=True)
    )
    assert found.config["domain"]["distance"] > 0
    held_out["spin"][24:] = 0.5
    again = fit_prepared(SpinRecipe(), data, data, held_out, **options)
    assert again.card["figures"]["pearson"] == pytest.approx(
        found.card["figures"]["pearson"], abs=0.05
    )
    held_out["spin"][:24] = 0.5
    constant = fit_prepared(SpinRecipe(), data, data, held_out, **options)
    assert "pearson" not in constant.card["figures"]


def test_farthest_holds_for_new_objects():
    distance = np.random.default_rng(0).exponential(size=4000)
    threshold = farthest(distance[:2000])
    assert np.mean(distance[2000:] > threshold) < 0.02
    assert np.mean(distance[:2000] > threshold) < 0.01
    assert farthest(distance[:20]) == distance[:20].max()


def test_published_loss():
    truth = {"spin": torch.tensor([0.2, 0.6])}
    guess = {"spin": torch.tensor([0.3, 0.3])}
    value = published_loss(lambda batch: guess, truth)["loss"]
    assert value.item() == pytest.approx(0.05)
