# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from galml.core.inference import infer
from galml.imaging import MIRRORS
from galml.stellar_spin.network import SpinNet
from galml.stellar_spin.preparation import INPUT
from galml.stellar_spin.published import Duckworth2020


def inputs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(
            count, len(INPUT.channels), *INPUT.grid, generator=generator
        ),
        "scalars": torch.randn(count, len(INPUT.scalars), generator=generator),
    }


def flops(network, batch):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(batch)
    return counter.get_total_flops()


def test_published_network_has_its_size():
    network = Duckworth2020()
    assert sum(p.numel() for p in network.parameters()) == 5_994_145
    assert network({"image": torch.rand(2, 3, 80, 80)})["spin"].shape == (2,)


def test_default_network_costs_a_tenth_of_the_published_one():
    published = flops(Duckworth2020(), {"image": torch.rand(1, 3, 80, 80)})
    assert len(MIRRORS) * flops(SpinNet(), inputs(1)) <= published / 10


def test_outputs():
    network = SpinNet(bins=32, types=5, members=2).eval()
    outputs = network(inputs(3))
    assert outputs["spin"].shape == (3, 2, 5, 32)
    assert outputs["ellipticity"].shape == (3, 2, 2)
    assert len(outputs["features"]) == 3
    assert (outputs["distance"] == 0).all()


def test_members_differ():
    spin = SpinNet(members=3).eval()(inputs(2))["spin"]
    assert (spin[:, 0] - spin[:, 1]).abs().max() > 1e-3


def test_distance_is_that_of_mahalanobis():
    network = SpinNet(widths=(4, 4, 4, 4), members=1).eval()
    generator = torch.Generator().manual_seed(0)
    count = len(network.center)
    scale = torch.zeros(count)
    scale[:3] = torch.tensor([4.0, 2.0, 1.0])
    features = 5 + scale * torch.randn(20_000, count, generator=generator)
    network.learn_distance(features)
    place = (features[:8] - network.center) @ network.axes
    expected = ((features[:8] - 5) / scale.clamp_min(1e-9))[:, :3].norm(dim=1)
    torch.testing.assert_close(place.norm(dim=1), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
def test_views_make_it_invariant(axes):
    network, batch = SpinNet().eval(), inputs(4)
    mirrored = batch | {"image": batch["image"].flip(axes)}
    first, second = (
        next(infer(network, [b], views=MIRRORS)) for b in (batch, mirrored)
    )
    bare = network(mirrored)["spin"] - network(batch)["spin"]
    assert bare.abs().max() > 1e-4
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=1e-6, rtol=0)
