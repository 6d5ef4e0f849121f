# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from astropy.table import QTable

import galml
from galml.core.exceptions import WeightsError
from galml.core.model import GalaxyModel
from galml.physics import CONDITIONS
from galml.stars.published import MAF

#: Architecture, log-density at zero for zero conditions, mean of its own samples.
PUBLISHED = {"maf": (-8.639, -13.4), "nice": (-8.080, -12.5)}


@pytest.fixture(params=PUBLISHED)
def name(request):
    return request.param


@pytest.fixture
def model(shared, name):
    path = shared / "galacticforge" / f"{name}_checkpoint.pth"
    return galml.import_weights(path, f"galacticforge-{name}")


def test_description(model, name):
    assert (model.operation, model.architecture) == ("stars", name)
    assert model.name == f"galacticforge-{name}"
    assert model.config["standardized"] is True
    assert "standardized" in model.card["limits"]
    assert model.card["figures"]["epochs"] == 30


@torch.no_grad()
def test_densities(model, name):
    at_zero, of_samples = PUBLISHED[name]
    zero = torch.zeros(1, 20)
    found = model.network.log_prob(torch.zeros(1, 10), zero)
    assert found.item() == pytest.approx(at_zero, abs=1e-3)
    noise = torch.randn(4000, 10, generator=torch.manual_seed(0))
    stars = model.network.sample(noise, zero)
    found = model.network.log_prob(stars, zero).mean()
    assert found.item() == pytest.approx(of_samples, abs=0.1)


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "a.safetensors")
    loaded = GalaxyModel.load(tmp_path / "a.safetensors")
    assert loaded.sha256 == model.sha256


def test_stars_are_in_standardized_units(model, shared):
    latent = np.load(shared / "galacticforge" / "latents.npz")["latent"][:2]
    conditions = QTable({name: [0.1, -0.2] for name in CONDITIONS})
    conditions["latent"] = latent.astype(float)
    stars = galml.sample_stars(conditions, 100, model=model, seed=0)
    assert len(stars) == 200
    assert stars["x"].unit is None
    assert np.isfinite(stars["age"]).all() and (stars["age"] < 0).any()
    log_prob = galml.star_log_prob(stars, conditions, model=model)
    assert np.isfinite(log_prob["log_prob"]).all()


def test_wrong_system(shared):
    path = shared / "galacticforge" / "maf_checkpoint.pth"
    with pytest.raises(WeightsError, match="not the published nice flow"):
        galml.import_weights(path, "galacticforge-nice")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x02c"])
def test_damaged(content, tmp_path):
    path = tmp_path / "maf.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="maf.pth: not the published maf"):
        galml.import_weights(path, "galacticforge-maf")


def test_other_objects_are_refused(tmp_path):
    path = tmp_path / "maf.pth"
    torch.save({"model_state_dict": MAF(2, 0)}, path)
    with pytest.raises(WeightsError, match="not the published maf"):
        galml.import_weights(path, "galacticforge-maf")


def test_weights_that_are_not_finite(tmp_path):
    network = MAF(latent=16, flag=False)
    state = network.flow.state_dict()
    names = {"base.loc": "base._0", "base.scale": "base._1"}
    state = {names.get(key, key): tensor for key, tensor in state.items()}
    checkpoint = {"model_state_dict": state, "epoch": 0, "train_loss": 1.0}
    torch.save(checkpoint, tmp_path / "good.pth")
    galml.import_weights(tmp_path / "good.pth", "galacticforge-maf")
    state["transform.transforms.0.hyper.0.bias"][0] = np.nan
    torch.save(checkpoint, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="not finite"):
        galml.import_weights(tmp_path / "bad.pth", "galacticforge-maf")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        galml.import_weights(tmp_path / "none.pth", "galacticforge-maf")
