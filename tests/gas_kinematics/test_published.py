# Licensed under a 3-clause BSD style license - see LICENSE.rst

import os
import pickle
import sys
import types
import warnings
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import Table

import galml
from galml.core import WeightsError
from galml.core.domain import find_domain
from galml.core.exceptions import InputError, ModelError
from galml.core.inputs import read
from galml.core.model import GalaxyModel, InputSpec
from galml.core.weights import import_weights
from galml.gas_kinematics import published
from galml.gas_kinematics.published import MerlinAutoencoder
from galml.gas_kinematics.velocities import VelocityMaps

# What the published file says about its class; the layers stand for themselves.
SOURCE = """
from torch import nn

class Autoencoder(nn.Module):
    pass
"""


@pytest.fixture
def networks(monkeypatch, tmp_path):
    """A module ``Networks`` with a class ``Autoencoder`` that has source text."""
    path = tmp_path / "Networks.py"
    path.write_text(SOURCE)
    module = types.ModuleType("Networks")
    module.__file__ = str(path)
    exec(compile(SOURCE, path, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "Networks", module)
    return module


@pytest.fixture
def checkpoint(networks, tmp_path):
    """Legacy file of a pickled module with source text inside, and its network."""
    torch.manual_seed(1)
    network = MerlinAutoencoder()
    module = networks.Autoencoder()
    for name, layer in network.named_children():
        module.add_module(name, layer)
    path = tmp_path / "published.pt"
    torch.save(module, path, _use_new_zipfile_serialization=False)
    return path, network


def merlin(config, input_spec=published.INPUT):
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(2)
        network = MerlinAutoencoder()
    return GalaxyModel(
        network,
        operation="circularity",
        architecture="merlin",
        options={},
        config=config,
        card={},
        input_spec=input_spec,
    )


def disk(angle, inclination=60.0, pixels=64):
    """Mean velocity of a thin disk; receding side at ``angle`` ccw from +y."""
    y, x = np.mgrid[:pixels, :pixels] - (pixels - 1) / 2
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    major = -sin * x + cos * y
    minor = (cos * x + sin * y) / np.cos(np.radians(inclination))
    radius = np.hypot(major, minor)
    velocity = 200 * np.tanh(radius / 5) * major / radius
    return np.where(radius < pixels / 2, velocity, np.nan)


def test_shapes():
    network = MerlinAutoencoder().eval()
    maps = torch.rand(5, 1, 64, 64)
    outputs = network({"image": maps})
    assert set(outputs) == {"latent"}
    assert outputs["latent"].shape == (5, 3)
    torch.testing.assert_close(network.encode(maps), outputs["latent"])
    decoded = network({"image": maps}, reconstruct=True)["reconstruction"]
    assert decoded.shape == maps.shape
    network.train()
    assert "reconstruction" in network({"image": maps})


def test_trains():
    torch.manual_seed(0)
    network = MerlinAutoencoder()
    maps = published.prepare(disk(a) for a in range(0, 360, 30)).inputs
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (network(maps)["reconstruction"] - maps["image"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in network.parameters())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("shape", [(64, 64), (31, 50), (200, 130), (1, 1), (64, 3)])
def test_prepare_matches_definition(shape):
    rng = np.random.default_rng(2)
    values = rng.normal(100, 50, shape)
    if values.size > 1:
        values[rng.random(shape) < 0.3] = np.nan
    got = published.prepare([values]).image
    rows = [int(np.floor(i * shape[0] / 64)) for i in range(64)]
    columns = [int(np.floor(i * shape[1] / 64)) for i in range(64)]
    expected = values[np.ix_(rows, columns)]
    with np.errstate(invalid="ignore"):
        expected = expected - np.nanpercentile(expected, 2)
        expected = expected / np.nanpercentile(expected, 98) * 2 - 1
    expected[~(np.abs(expected) <= 1)] = 0
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got[0, 0].numpy(), expected.astype(np.float32))


def test_prepare_empty_and_constant():
    maps = [np.full((20, 20), np.nan), np.full((20, 20), 7.0)]
    image = published.prepare(maps).image
    assert image.shape == (2, 1, 64, 64)
    assert not image.any()


def test_prepare_ignores_unit_and_offset():
    values = disk(40)
    one = published.prepare([values]).image
    other = published.prepare([1000 + values]).image
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_latent_plane():
    center = np.array(published.PCA_MEAN)
    axes = np.array(published.PCA_COMPONENTS)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-7)
    latents = center + [[0, 0, 5], [3, 0, 0], [0, -2.9, 0]] @ axes
    np.testing.assert_allclose(published.rho(latents), [0, 3, 2.9], atol=1e-6)
    np.testing.assert_array_equal(published.classify(latents), [0, 1, 0])
    np.testing.assert_array_equal(published.classify(latents, boundary=2.5), [0, 1, 1])
    angles = published.latent_angle(latents[1:], offset=10.0)
    np.testing.assert_allclose(angles, [10, 100], atol=1e-5)


def fake_training(n=4000, seed=3, turn=40.0, handed=1):
    """Latents on a turned plane: radius grows with kappa, angle with the direction."""
    rng = np.random.default_rng(seed)
    kappa = rng.random(n)
    angle = rng.random(n) * 360
    radius = 6 * kappa + rng.normal(size=n) * 0.1
    phase = np.radians(handed * (turn - angle))
    plane = np.stack(
        [1.05 * radius * np.cos(phase), radius * np.sin(phase), rng.normal(size=n)], 1
    )
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return plane @ axes + [1.0, -5.0, 3.0], kappa, angle


@pytest.mark.parametrize("handed", [1, -1])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_latent_plane_of_a_training(handed, seed):
    latents, kappa, angle = fake_training(handed=handed, seed=seed)
    angle[::5] = np.nan
    kappa[1::5] = np.nan
    plane = published.latent_plane(latents, kappa, angle)
    axes = np.array(plane["pca_components"])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(plane["pca_mean"], latents.mean(axis=0))
    pca = {"mean": plane["pca_mean"], "components": axes}
    assert plane["boundary"] == pytest.approx(3, abs=0.25)
    rotating = published.classify(latents, plane["boundary"], **pca)
    known = np.isfinite(kappa)
    assert ((kappa > 0.5) == rotating)[known].mean() > 0.95
    found = published.latent_angle(latents, offset=plane["angle_offset"], **pca)
    error = np.abs((found - angle + 180) % 360 - 180)[kappa > 0.7]
    assert np.nanquantile(error, 0.95) < 5
    assert 0 <= plane["angle_offset"] < 360


def test_latent_plane_without_truths():
    latents, kappa, angle = fake_training(200)
    plane = published.latent_plane(latents)
    assert plane["boundary"] is None and plane["angle_offset"] is None
    axes = np.array(plane["pca_components"])
    # The sign of an axis does not depend on how it was found.
    again = np.array(published.latent_plane(latents[::-1])["pca_components"])
    np.testing.assert_allclose(again, axes, atol=1e-9)
    variance = published.rotate_latents(latents, plane["pca_mean"], axes).var(axis=0)
    assert np.all(np.diff(variance) < 0)
    nothing = np.full(200, np.nan)
    assert published.latent_plane(latents, nothing, nothing) == plane
    one_class = published.latent_plane(latents, np.full(200, 0.4), angle)
    assert one_class["boundary"] is None and one_class["angle_offset"] is None
    alone = published.latent_plane(latents, angle=angle)
    assert alone["boundary"] is None and alone["angle_offset"] is not None


def test_columns_without_truths():
    plane = published.latent_plane(np.random.default_rng(0).normal(size=(20, 3)))
    domain = find_domain(merlin(plane))
    maps = [VelocityMaps(np.stack([disk(a) for a in (0, 90)]))]
    prepared = domain.prepare(maps)
    outputs = {"latent": torch.ones(2, 3)}
    assert set(domain.answer(outputs, prepared, maps)) == {"latent"}
    assert domain.flags(outputs, prepared, maps).tolist() == [0, 0]


def test_no_samples():
    with pytest.raises(InputError, match="n_samples"):
        find_domain(merlin({})).columns(3)


def test_a_model_must_say_what_it_is_shown():
    model = merlin({}, InputSpec())
    with pytest.raises(ModelError, match="does not say"):
        find_domain(model)


def test_what_is_shown_stands_in_the_model(monkeypatch):
    """Other numbers in the code change nothing of a trained model."""
    plane = published.latent_plane(np.random.default_rng(0).normal(size=(20, 3)))
    model = merlin(plane)
    values = disk(40) * u.km / u.s
    before = galml.circularity(values, model=model)["latent"]
    other = replace(published.INPUT, stretch=published.INPUT.stretch | {"limit": 0.5})
    monkeypatch.setattr(published, "INPUT", other)
    np.testing.assert_array_equal(
        galml.circularity(values, model=model)["latent"], before
    )
    changed = galml.circularity(values, model=merlin(plane, other))["latent"]
    assert np.abs(changed - before).max() > 1e-3


def test_published_latents(shared):
    folder = shared / "merlin_alma"
    reference = Table.read(folder / "latents.csv")
    expected = np.stack([reference[name] for name in ("L1", "L2", "L3")], axis=1)
    model = import_weights(folder / "CAE_Epoch_300.pt", "merlin")
    maps = [
        read(folder / f"{n}.fits.gz", unit="km/s", hdu=1) for n in reference["name"]
    ]
    inputs = published.prepare(one.values for one in maps).inputs
    with torch.inference_mode():
        latents = model.network(inputs)["latent"].numpy()
    np.testing.assert_allclose(latents, expected, rtol=0, atol=2e-5)
    classes = published.classify(latents)
    np.testing.assert_array_equal(classes, published.classify(expected))
    assert classes[list(reference["name"]).index("NGC0404")] == 0


def test_published_reconstruction_and_angle(shared):
    path = shared / "merlin_alma" / "CAE_Epoch_300.pt"
    network = published.import_weights(path).network
    angles = np.arange(0, 360, 15.0)
    inputs = published.prepare(disk(angle) for angle in angles).inputs
    with torch.inference_mode():
        outputs = network(inputs, reconstruct=True)
    residual = outputs["reconstruction"] - inputs["image"]
    assert residual.std() < 0.4 * inputs["image"].std()
    latents = outputs["latent"].numpy()
    assert published.classify(latents).all()
    difference = (published.latent_angle(latents) - angles + 180) % 360 - 180
    assert np.abs(difference).max() < 4


def test_import_of_file_with_source(checkpoint, monkeypatch):
    path, network = checkpoint
    assert b"pass" in path.read_bytes()
    monkeypatch.delitem(sys.modules, "Networks")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = published.import_weights(str(path))
    assert isinstance(model, GalaxyModel)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(
            model.network.state_dict()[name], tensor, rtol=0, atol=0
        )
    assert "Networks" not in sys.modules
    state = torch.random.get_rng_state()
    again = published.import_weights(path)
    assert again.sha256 == model.sha256
    torch.testing.assert_close(torch.random.get_rng_state(), state)
    assert not model.network.training


def test_imported_model_saves(checkpoint, tmp_path):
    model = published.import_weights(checkpoint[0])
    model.save(tmp_path / "merlin.safetensors")
    again = GalaxyModel.load(tmp_path / "merlin.safetensors", operation="circularity")
    image = {"image": torch.rand(2, 1, 64, 64)}
    torch.testing.assert_close(
        again.network.eval()(image)["latent"], model.network(image)["latent"]
    )
    assert again.config["boundary"] == published.BOUNDARY
    np.testing.assert_array_equal(again.config["pca_mean"], published.PCA_MEAN)


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval])
def test_malicious_file_is_refused(tmp_path, zipped, function):
    trace = tmp_path / "trace"
    argument = {
        os.system: f"touch {trace}",
        os.mkdir: str(trace),
        eval: f"open({str(trace)!r}, 'w').close()",
    }[function]
    path = tmp_path / "bad.pt"
    torch.save(
        Malicious(function, argument), path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(WeightsError, match="bad.pt"):
        published.import_weights(path)
    assert not trace.exists()


def test_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "bad.pt"
    path.write_bytes(pickle.dumps(Malicious(os.mkdir, str(tmp_path / "trace"))))
    with pytest.raises(WeightsError, match="mkdir"):
        published.import_weights(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated_file_is_refused(checkpoint, part):
    path, _ = checkpoint
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match="published.pt"):
        published.import_weights(path)


def test_other_networks_are_refused(networks, tmp_path):
    path = tmp_path / "other.pt"
    module = networks.Autoencoder()
    module.conv1 = torch.nn.Conv2d(1, 4, 3)
    torch.save(module, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="other.pt"):
        published.import_weights(path)
    torch.save({"weight": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="other.pt"):
        published.import_weights(path)
    path.write_text("no checkpoint")
    with pytest.raises(WeightsError, match="other.pt"):
        published.import_weights(path)


def test_weights_that_are_not_finite_are_refused(networks, tmp_path):
    module = networks.Autoencoder()
    for name, layer in MerlinAutoencoder().named_children():
        module.add_module(name, layer)
    torch.nn.init.constant_(module.lc1.bias, np.nan)
    torch.save(module, tmp_path / "nan.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="finite"):
        published.import_weights(tmp_path / "nan.pt")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        published.import_weights(tmp_path / "none.pt")


def test_file_cannot_alter_torch(tmp_path):
    """A pickle that sets attributes of what it names reaches nothing of torch."""
    # Written by hand: push the function, then BUILD with a slot state.
    body = b"\x80\x02ctorch._utils\n_rebuild_parameter\nN}X\x03\x00\x00\x00badNs\x86b."
    path = tmp_path / "poison.pt"
    path.write_bytes(body)
    with pytest.raises(WeightsError):
        published.import_weights(path)
    assert not hasattr(torch._utils._rebuild_parameter, "bad")
    pickle.loads(body)
    assert hasattr(torch._utils._rebuild_parameter, "bad")
    del torch._utils._rebuild_parameter.bad
