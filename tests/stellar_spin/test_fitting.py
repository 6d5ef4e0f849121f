# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable

import galml
from galml.core import GalmlWarning
from galml.core.exceptions import InputError, ModelError
from galml.core.model import GalaxyModel
from galml.stellar_spin import fit
from galml.stellar_spin.metrics import pearson

OPTIONS = {"epochs": 3, "batch_size": 16, "learning_rate": 3e-3, "device": "cpu"}


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


def test_fit_is_reproducible(training):
    data, truth = training[0][:30], training[1][:30]
    options = OPTIONS | {"epochs": 1}
    first, second, third = (fit(data, truth, seed=s, **options) for s in (1, 1, 2))
    assert first.sha256 == second.sha256 != third.sha256


def test_published_network(training):
    data, truth = training[0][:24], {"spin": training[1]["spin"][:24]}
    options = {"epochs": 1, "batch_size": 8, "device": "cpu"}
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
    with pytest.warns(GalmlWarning, match="1 of 30 galaxies are left out"):
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
        ({"cutouts": slice(5)}, InputError, "data: got 5 usable galaxies"),
        ({"model": "nothing"}, ModelError, "nothing"),
    ],
)
def test_bad_arguments(training, change, error, message):
    data, truth = training
    options = {"cutouts": slice(None), "truth": truth} | change
    data = data[options.pop("cutouts")]
    with pytest.raises(error, match=message):
        fit(data, options.pop("truth"), **options)
