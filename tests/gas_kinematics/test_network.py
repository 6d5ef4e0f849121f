# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core.inference import infer
from galml.gas_kinematics.kinematic import VIEWS
from galml.gas_kinematics.network import KinematicNet
from galml.gas_kinematics.preparation import INPUT


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return KinematicNet().eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(6, len(INPUT.channels), 32, 32, generator=generator),
        "scalars": torch.randn(6, len(INPUT.scalars), generator=generator),
    }


def test_shapes(network, inputs):
    outputs = network(inputs)
    assert outputs["latent"].shape == (6, 16)
    assert outputs["kappa"].shape == (6, 48)
    assert outputs["inclination"].shape == (6, 18)
    assert outputs["angle_even"].shape == (6, 6)
    assert outputs["angle_odd"].shape == (6, 1)
    assert all(torch.isfinite(value).all() for value in outputs.values())


def test_options(inputs):
    network = KinematicNet(
        widths=(4, 6, 8, 10), latent=5, kappa_bins=7, inclination_bins=3
    ).eval()
    outputs = network(inputs)
    assert [outputs[k].shape[1] for k in ("latent", "kappa", "inclination")] == [
        5,
        7,
        3,
    ]


def test_it_is_small(network):
    assert 400_000 < sum(p.numel() for p in network.parameters()) < 600_000


def test_mirrored_maps_have_mirrored_answers(network, inputs):
    mirrored = inputs | {"image": inputs["image"].flip(-1)}
    (plain,) = infer(network, [inputs], views=VIEWS, device="cpu")
    (other,) = infer(network, [mirrored], views=VIEWS, device="cpu")
    for key, value in plain.items():
        sign = -1 if key == "angle_odd" else 1
        torch.testing.assert_close(other[key], sign * value, rtol=1e-6, atol=1e-6)
    (alone,) = infer(network, [inputs], device="cpu")
    assert (alone["angle_odd"] - plain["angle_odd"]).abs().max() > 1e-4


def test_numbers_are_standardized(inputs):
    network = KinematicNet().eval()
    before = network(inputs)["latent"]
    network.mean.fill_(3.0)
    network.spread.fill_(2.0)
    changed = inputs | {"scalars": inputs["scalars"] * 2 + 3}
    torch.testing.assert_close(network(changed)["latent"], before, rtol=0, atol=1e-5)


def test_samples_are_the_noise(network):
    noise = torch.rand(2, 4, network.n_noise)
    assert network.sample({}, noise) == {"noise": noise}
