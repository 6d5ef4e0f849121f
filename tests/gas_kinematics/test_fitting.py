# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from astropy.wcs import WCS

import galml
from galml.core import GalmlWarning
from galml.core.exceptions import InputError, InputUnitError, ModelError
from galml.core.fitting import fit_prepared
from galml.core.model import GalaxyModel
from galml.gas_kinematics import fit
from galml.gas_kinematics.fitting import KinematicRecipe, MerlinRecipe, evaluate
from galml.gas_kinematics.mock_data import mock_data_set
from galml.gas_kinematics.network import KinematicNet
from galml.gas_kinematics.posterior import arcsine_scale, posterior
from galml.gas_kinematics.preparation import INPUT
from galml.gas_kinematics.published import MerlinAutoencoder

KMS = u.km / u.s
COUNT = 40
QUICK = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def maps(mocks):
    return mocks.velocity[:COUNT].double().numpy() * KMS


@pytest.fixture(scope="module")
def truth(mocks):
    return QTable(
        {
            "circularity": mocks.truth.kappa[:COUNT].numpy(),
            "position_angle": mocks.truth.position_angle[:COUNT].numpy() * u.deg,
            "inclination": mocks.truth.inclination[:COUNT].numpy() * u.deg,
        }
    )


@pytest.fixture(scope="module")
def model(maps, truth):
    return fit(maps, truth, name="mine", epochs=2, batch_size=16)


def state(model):
    return {key: value.clone() for key, value in model.network.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_fit(model, maps):
    assert isinstance(model, GalaxyModel)
    assert (model.operation, model.architecture) == ("circularity", "kinematic")
    assert model.card["training_maps"] == COUNT - 12
    assert model.card["best_epoch"] in (0, 1)
    assert set(model.card["figures"]) == {"circularity_68", "position_angle_68_deg"}
    assert list(model.history["epoch"]) == [0, 1]
    table = galml.circularity(maps, model=model, n_samples=3)
    assert table.meta["MODEL"] == "mine"
    assert np.isfinite(table["circularity"]).all()
    assert np.isfinite(table["circularity_samples"]).all()


def test_fit_is_seeded(model, maps, truth):
    again = fit(maps, truth, epochs=2, batch_size=16)
    assert same(state(again), state(model))
    assert again.config == model.config
    other = fit(maps, truth, seed=1, **QUICK)
    assert not same(state(other), state(model))


def test_save_and_load(model, maps, tmp_path):
    path = tmp_path / "mine.safetensors"
    model.save(path)
    table = galml.circularity(maps[:5], model=path)
    reference = galml.circularity(maps[:5], model=model)
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], reference[name])
    assert GalaxyModel.load(path).sha256 == model.sha256


def test_fine_tuning_leaves_the_model_alone(model, maps, truth):
    before, config = state(model), str(model.config)
    tuned = fit(maps, truth, model=model, learning_rate=1e-4, **QUICK)
    assert same(state(model), before) and str(model.config) == config
    assert not model.network.training
    after = state(tuned)
    assert not same(after, before)
    assert torch.equal(after["mean"], before["mean"])
    moved = (after["latent.weight"] - before["latent.weight"]).abs().max()
    assert moved < 0.01


def test_only_circularities(maps, truth):
    found = fit(maps, {"circularity": list(truth["circularity"])}, **QUICK)
    assert set(found.card["figures"]) == {"circularity_68"}
    assert np.isfinite(galml.circularity(maps, model=found)["position_angle_err"]).all()


def test_position_angles_are_those_of_the_sky(maps, truth):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = [1 / 3600, 1 / 3600]
    data = [CCDData(m, wcs=wcs) for m in maps]
    mirrored = truth.copy()
    mirrored["position_angle"] = (-truth["position_angle"]) % (360 * u.deg)
    found = fit(data, mirrored, **QUICK)
    plain = fit(maps, truth, **QUICK)
    for key, value in state(found).items():
        torch.testing.assert_close(value, state(plain)[key], rtol=1e-3, atol=1e-4)


def test_unknown_and_masked_truths(maps, truth):
    kappa = MaskedColumn(truth["circularity"], mask=np.arange(COUNT) % 4 == 0)
    nan = np.where(np.arange(COUNT) % 4 == 0, np.nan, truth["circularity"])
    angle = truth["position_angle"].to(u.rad)
    angle[3] = np.nan
    found = fit(maps, {"circularity": kappa, "position_angle": angle}, **QUICK)
    other = fit(maps, {"circularity": nan, "position_angle": angle}, **QUICK)
    assert same(state(found), state(other))
    assert np.isfinite(found.history["train_loss"]).all()


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("circularity", np.full(COUNT, 1.2), InputError),
        ("circularity", np.full(COUNT, -0.1), InputError),
        ("circularity", np.full(COUNT, np.nan), InputError),
        ("circularity", np.full(COUNT - 1, 0.5), InputError),
        ("circularity", ["much"] * COUNT, InputError),
        ("circularity", None, InputError),
        ("position_angle", np.full(COUNT, 1.0) * u.km, InputUnitError),
        ("position_angle", np.full((COUNT, 2), 1.0) * u.deg, InputError),
        ("inclination", np.full(COUNT, 91.0) * u.deg, InputError),
        ("inclination", np.full(COUNT, -1.0) * u.deg, InputError),
    ],
)
def test_bad_truths(maps, truth, column, value, error):
    bad = {name: truth[name] for name in truth.colnames} | {column: value}
    if value is None:
        del bad[column]
    for network in ("kinematic", "merlin"):
        with pytest.raises(error, match="truth"):
            fit(maps, bad, network=network, **QUICK)


def test_bad_arguments(maps, truth):
    with pytest.raises(InputError, match="truth"):
        fit(maps, **QUICK)
    with pytest.raises(InputError, match="network"):
        fit(maps, truth, network="tea", **QUICK)
    for key in ("validation", "calibration"):
        with pytest.raises(InputError, match=key):
            fit(maps, truth, **{key: 0.6}, **QUICK)
    with pytest.raises(InputError, match="19 usable"):
        fit(maps[:19], truth[:19], **QUICK)
    with pytest.raises(InputError, match="data"):
        fit(maps[0], truth[:1], **QUICK)
    with pytest.raises(ModelError, match="nonesuch"):
        fit(maps, truth, model="nonesuch", **QUICK)


def test_maps_that_cannot_be_used_are_left_out(maps, truth):
    data = [*maps[:30], np.full((20, 20), 5.0) * KMS, maps[31] * u.Jy, *maps[32:]]
    with pytest.warns(GalmlWarning, match="2 of 40 maps are left out"):
        found = fit(data, truth, **QUICK)
    rows = [i for i in range(COUNT) if i not in (30, 31)]
    clean = fit(maps[rows], truth[rows], **QUICK)
    assert same(state(found), state(clean))


def test_checkpoint(maps, truth, tmp_path):
    path = tmp_path / "checkpoint"
    options = {"epochs": 1, "batch_size": 16, "checkpoint": path}
    first = fit(maps, truth, **options)
    written = path.read_bytes()
    again = fit(maps, truth, **options)
    assert path.read_bytes() == written
    assert same(state(first), state(again))
    with pytest.raises(ModelError):
        fit(maps, truth, **options | {"batch_size": 8})


def test_autoencoder(maps, truth, tmp_path):
    found = fit(maps, truth, network="merlin", name="ours", **QUICK)
    assert found.architecture == "merlin"
    assert found.card["training_maps"] == COUNT - 6
    table = galml.circularity(maps, model=found)
    assert set(np.unique(table["rotating"])) == {0, 1}
    assert np.isfinite(table["position_angle"]).all()
    assert np.isnan(table["position_angle_err"]).all()
    found.save(tmp_path / "ours.safetensors")
    again = galml.circularity(maps, model=tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(again["latent"], table["latent"])
    before = state(found)
    tuned = fit(maps, truth, model=found, **QUICK)
    assert tuned.architecture == "merlin" and same(state(found), before)
    assert not same(state(tuned), before)


def test_autoencoder_without_truths(maps):
    found = fit(maps, network="merlin", **QUICK)
    assert found.config["boundary"] is None and found.config["angle_offset"] is None
    table = galml.circularity(maps[:3], model=found)
    assert np.isfinite(table["latent"]).all()
    for name in ("rotating", "position_angle", "circularity"):
        assert np.isnan(table[name]).all()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    shape = len(INPUT.channels), *INPUT.grid
    return {
        "image": torch.randn(COUNT, *shape, generator=generator),
        "scalars": torch.rand(COUNT, len(INPUT.scalars), generator=generator) + 0.5,
        "residual_angle": torch.rand(COUNT, generator=generator) * 2 - 1,
        "kappa": torch.rand(COUNT, generator=generator),
        "inclination": torch.rand(COUNT, generator=generator) * 90,
    }


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return KinematicNet(widths=(4, 6, 8, 10)).eval()


def test_loss_leaves_out_unknown_truths(network, batch):
    keys = ("kappa", "residual_angle", "inclination")
    reference = KinematicRecipe().loss(network, {k: v[:30] for k, v in batch.items()})
    for key in keys:
        batch[key][30:] = math.nan
    metrics = KinematicRecipe().loss(network, batch)
    assert set(metrics) == set(reference)
    for key, value in metrics.items():
        torch.testing.assert_close(value, reference[key])


@pytest.mark.parametrize(
    "unknown",
    [
        ("kappa",),
        ("residual_angle",),
        ("inclination",),
        ("kappa", "residual_angle", "inclination"),
    ],
)
def test_gradients_are_finite(network, batch, unknown):
    for key in unknown:
        batch[key][:] = math.nan
    loss = KinematicRecipe().loss(network, batch)["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    moved = any(g.abs().max() > 0 for g in gradients)
    assert moved == (len(unknown) < 3)


def test_loss_prefers_the_truth(network, batch):
    class Fixed(torch.nn.Module):
        def forward(self, inputs):
            centers = (torch.arange(32) + 0.5) / 32
            tilts = (torch.arange(18) + 0.5) * 5
            guess = arcsine_scale(inputs["guess"])[:, None]
            logits = -(((centers - guess) / 0.05) ** 2)
            even = torch.zeros(len(inputs["guess"]), 6)
            return {
                "kappa": logits,
                "inclination": -(((tilts - inputs["tilt"][:, None]) / 5) ** 2),
                "angle_even": even,
                "angle_odd": 3 * torch.tan(inputs["turn"])[:, None],
            }

    right = {"guess": "kappa", "tilt": "inclination", "turn": "residual_angle"}
    good = batch | {name: batch[key] for name, key in right.items()}
    best = KinematicRecipe().loss(Fixed(), good)
    for name, key in right.items():
        worse = KinematicRecipe().loss(Fixed(), good | {name: batch[key].flip(0)})
        assert worse["loss"] > best["loss"] + 0.05
    assert best["kappa_error"] < 0.02


def test_scalars_are_standardized(network, batch):
    scalars = batch["scalars"]
    scalars[:, 3] = 7.0
    KinematicRecipe().start(network, batch)
    torch.testing.assert_close(network.mean, scalars.mean(0))
    assert network.spread[3] == pytest.approx(0.05)
    torch.testing.assert_close(network.spread[0], scalars[:, 0].std())


def test_autoencoder_loss():
    network = MerlinAutoencoder()
    image = torch.rand(3, 1, 64, 64)
    loss = MerlinRecipe().loss(network.eval(), {"image": image})["loss"]
    output = network({"image": image}, reconstruct=True)["reconstruction"]
    torch.testing.assert_close(loss, ((output - image) ** 2).mean())


@pytest.mark.slow
def test_training_beats_a_constant():
    data = mock_data_set(40, seed=5)
    order = torch.randperm(len(data["kappa"]), generator=torch.Generator())
    test, validation, calibration = order[:300], order[300:500], order[500:700]
    parts = [{k: v[rows] for k, v in data.items()} for rows in (
        order[700:], validation, calibration)]  # fmt: skip
    found = fit_prepared(KinematicRecipe(), *parts, epochs=8)
    unseen = {k: v[test] for k, v in data.items()}
    constant = (unseen["kappa"] - data["kappa"].median()).abs().quantile(0.68)
    outputs = evaluate(found.network, unseen)
    result = posterior(outputs, found.config["calibration"], INPUT)
    error = (result["kappa_quantiles"][:, 1] - unseen["kappa"]).abs().quantile(0.68)
    assert error < 0.8 * constant
