# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.gas_kinematics.autoencoder import MerlinAutoencoder
from galml.gas_kinematics.network import KinematicNet
from galml.gas_kinematics.preparation import CHANNELS, SCALARS
from galml.gas_kinematics.training import (
    augment,
    autoencoder_loss,
    kinematic_loss,
    mock_data_set,
    standardize,
)

COUNT = 40
SPREAD_PLANES = [i for i, name in enumerate(CHANNELS) if name != "dispersion"]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    return {
        "image": torch.randn(COUNT, len(CHANNELS), 32, 32, generator=generator),
        "scalars": torch.rand(COUNT, len(SCALARS), generator=generator) + 0.5,
        "left": torch.rand(COUNT, generator=generator) * 2 - 1,
        "kappa": torch.rand(COUNT, generator=generator),
        "inclination": torch.rand(COUNT, generator=generator) * 90,
    }


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return KinematicNet(widths=(4, 6, 8, 10)).eval()


def augmented(batch, seed=0):
    return augment(batch, torch.Generator().manual_seed(seed))


def test_augmentation_twice_is_none_at_all(batch):
    once = augmented(batch)
    twice = augmented(once)
    for key in ("left", "kappa", "inclination"):
        torch.testing.assert_close(twice[key], batch[key], rtol=0, atol=0)
    torch.testing.assert_close(
        twice["image"][:, SPREAD_PLANES], batch["image"][:, SPREAD_PLANES]
    )
    torch.testing.assert_close(twice["scalars"], once["scalars"])
    assert (once["left"] == -batch["left"]).float().mean() == pytest.approx(
        0.5, abs=0.3
    )


def test_augmentation_mirrors_and_looks_from_behind(batch):
    before = {key: value.clone() for key, value in batch.items()}
    once = augmented(batch)
    for key, value in batch.items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    seen = set()
    for row in range(COUNT):
        image = batch["image"][row][SPREAD_PLANES]
        behind = image.flip(-2).clone()
        behind[0] = -behind[0]
        variants = {
            (1, "as it is"): image,
            (-1, "mirrored"): image.flip(-1),
            (-1, "behind"): behind,
            (1, "both"): behind.flip(-1),
        }
        found = [
            key
            for key, variant in variants.items()
            if torch.equal(variant, once["image"][row][SPREAD_PLANES])
        ]
        assert len(found) == 1
        assert once["left"][row] == found[0][0] * batch["left"][row]
        seen.add(found[0][1])
    assert len(seen) == 4


def test_augmentation_forgets_together(batch):
    once = augmented(batch)
    groups = (
        ("has_dispersion", "log_dispersion", "dispersion_gradient"),
        ("has_beam", "log_beams_across"),
        ("has_uncertainty", "log_noise"),
    )
    places = [[SCALARS.index(name) for name in group] for group in groups]
    gone = once["scalars"] == 0
    for group in places:
        assert (gone[:, group].all(1) == gone[:, group].any(1)).all()
        assert 0 < gone[:, group[0]].sum() < COUNT
    dark = (once["image"][:, CHANNELS.index("dispersion")] == 0).flatten(1).all(1)
    torch.testing.assert_close(dark, gone[:, places[0][0]])
    others = [i for i in range(len(SCALARS)) if i not in sum(places, [])]
    torch.testing.assert_close(once["scalars"][:, others], batch["scalars"][:, others])


def test_loss_leaves_out_unknown_truths(network, batch):
    keys = ("kappa", "left", "inclination")
    reference = kinematic_loss(network, {k: v[:30] for k, v in batch.items()})
    for key in keys:
        batch[key][30:] = math.nan
    metrics = kinematic_loss(network, batch)
    assert set(metrics) == set(reference)
    for key, value in metrics.items():
        torch.testing.assert_close(value, reference[key])


@pytest.mark.parametrize(
    "unknown",
    [("kappa",), ("left",), ("inclination",), ("kappa", "left", "inclination")],
)
def test_gradients_are_finite(network, batch, unknown):
    for key in unknown:
        batch[key][:] = math.nan
    loss = kinematic_loss(network, batch)["loss"]
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
            logits = -(((centers - inputs["guess"][:, None]) / 0.05) ** 2)
            even = torch.zeros(COUNT, 6)
            return {
                "kappa": logits,
                "inclination": -(((tilts - inputs["tilt"][:, None]) / 5) ** 2),
                "angle_even": even,
                "angle_odd": 3 * torch.tan(inputs["turn"])[:, None],
            }

    right = {"guess": "kappa", "tilt": "inclination", "turn": "left"}
    good = batch | {name: batch[key] for name, key in right.items()}
    best = kinematic_loss(Fixed(), good)
    for name, key in right.items():
        worse = kinematic_loss(Fixed(), good | {name: batch[key].flip(0)})
        assert worse["loss"] > best["loss"] + 0.05
    assert best["kappa_error"] < 0.02


def test_standardize(network, batch):
    scalars = batch["scalars"]
    scalars[:, 3] = 7.0
    standardize(network, scalars)
    torch.testing.assert_close(network.mean, scalars.mean(0))
    assert network.spread[3] == pytest.approx(0.05)
    torch.testing.assert_close(network.spread[0], scalars[:, 0].std())


def test_autoencoder_loss():
    network = MerlinAutoencoder()
    image = torch.rand(3, 1, 64, 64)
    loss = autoencoder_loss(network.eval(), {"image": image})["loss"]
    output = network({"image": image}, reconstruct=True)["reconstruction"]
    torch.testing.assert_close(loss, ((output - image) ** 2).mean())


@pytest.mark.slow
def test_mock_data_set_is_a_recipe():
    data = mock_data_set(2, seed=1)
    assert len({len(value) for value in data.values()}) == 1
    count = len(data["kappa"])
    assert data["image"].shape == (count, len(CHANNELS), 32, 32)
    assert data["image"].dtype == torch.float16
    assert data["left"].abs().max() <= math.pi
    assert (data["left"].abs() < math.radians(30))[
        data["kappa"] > 0.9
    ].float().mean() > 0.8
    second = mock_data_set(1, seed=1, first=1)
    for key, value in second.items():
        torch.testing.assert_close(data[key][-len(value) :], value, rtol=0, atol=0)
