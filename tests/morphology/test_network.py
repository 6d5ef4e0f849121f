# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core.fitting import new_network
from galml.morphology.network import (
    AROUND,
    MIRRORED,
    MorphologyNet,
    Surroundings,
    mirrored,
    project,
)


@pytest.fixture(scope="module")
def network():
    return new_network(MorphologyNet, {"properties": 3}, seed=1).eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(2)
    # Large values, so that random weights give latents that are not small.
    image = 30 * torch.rand(5, 8, 64, 64, generator=generator)
    return {"image": image, "scalars": torch.randn(5, 23, generator=generator)}


def evaluate(network, inputs):
    with torch.no_grad():
        return network(inputs)


def test_shapes(network, inputs):
    outputs = evaluate(network, inputs)
    shapes = {key: tuple(value.shape) for key, value in outputs.items()}
    assert shapes == {
        "latent": (5, 32),
        "latent_scatter": (5, 32),
        "pose": (5, 8),
        "planes": (5, 3, 64, 64),
    }
    assert (outputs["latent_scatter"] > 0).all()


@pytest.mark.parametrize("view", [1, 2, 3])
def test_mirrors_change_signs_of_the_pose_alone(network, inputs, view):
    outputs = evaluate(network, inputs)
    other = inputs | {"image": inputs["image"].flip(MIRRORED[view])}
    seen = evaluate(network, other)
    for key in ("latent", "latent_scatter"):
        torch.testing.assert_close(seen[key], outputs[key], atol=1e-5, rtol=1e-5)
    # Handedness, left to right, top to bottom.
    signs = {1: (-1, -1, 1), 2: (-1, 1, -1), 3: (1, -1, -1)}[view]
    expected = [
        sign * part
        for sign, part in zip(signs, outputs["pose"].split((4, 2, 2), 1), strict=True)
    ]
    torch.testing.assert_close(
        seen["pose"], torch.cat(expected, 1), atol=1e-5, rtol=1e-5
    )
    assert outputs["pose"].abs().amax() > 1e-3


def test_projections_are_orthogonal():
    """Parts of one kind of sign are found in their own latents alone."""
    sizes = (1, 1, 1, 1)
    for kind in range(4):
        raw = torch.zeros(4, 1, 4)
        raw += torch.tensor(
            [(1, 1, 1, 1), (1, -1, -1, 1), (1, -1, 1, -1), (1, 1, -1, -1)][kind]
        )[:, None, None]
        found = torch.cat(project(raw, sizes, torch.arange(4)[:, None]), 1)
        expected = torch.zeros(1, 4)
        expected[0, kind] = 1
        assert torch.equal(found, expected)


def test_each_image_is_mirrored_its_own_way(inputs):
    image = inputs["image"]
    place = torch.tensor([0, 1, 2, 3, 1])
    result = mirrored(image, place)
    for row, index in enumerate(place.tolist()):
        axes = MIRRORED[index]
        expected = image[row].flip(axes) if axes else image[row]
        assert torch.equal(result[row], expected)


def test_pairs(network, inputs):
    pairs = inputs | {
        "other_image": inputs["image"].flip(0),
        "other_scalars": inputs["scalars"].flip(0),
    }
    outputs = evaluate(network, pairs)
    assert outputs["planes"].shape == (5, 3, 64, 64)
    assert outputs["properties"].shape == (2, 5, 3)
    # Half a turn is one of the mirror images: two views are half of all four.
    raw, _ = (one.detach() for one in network.encode(*inputs.values()))
    turned, _ = network.encode(inputs["image"].flip((-1, -2)), inputs["scalars"])
    expected = (raw + turned.detach())[:, :32] / 2
    torch.testing.assert_close(outputs["latent"], expected, atol=1e-5, rtol=1e-5)


def test_decoding_needs_no_pose(network, inputs):
    latent = evaluate(network, inputs)["latent"]
    with torch.no_grad():
        first = network.decode(latent)
        second = network.decode(latent, torch.zeros(5, 8))
        third = network.decode(latent, torch.ones(5, 8))
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)


def test_latents_are_ordered_by_what_they_tell():
    network = new_network(MorphologyNet, {"properties": 3, "latents": 5}, seed=1).eval()
    weight = torch.tensor([[0, 2.0, 0, 0, 0], [0, 0, 0, 0, 3.0], [1.0, 0, 0, 0, 0]])
    network.properties.weight.data.copy_(weight)
    latent, pose = torch.randn(4, 5), torch.randn(4, 8)
    before = network.decode(latent, pose)
    network.turn(0.1)
    turned = latent @ network.axes.T
    # The largest scatter comes first; two latents tell nothing.
    expected = torch.hypot(torch.tensor([3.0, 2, 1, 0, 0]), torch.tensor(0.1))
    torch.testing.assert_close(
        turned[:, :3].abs(), (latent[:, [4, 1, 0]] * expected[:3]).abs()
    )
    square = latent[:, [2, 3]].square().sum(1) * 0.01
    torch.testing.assert_close(turned[:, 3:].square().sum(1), square)
    torch.testing.assert_close(
        network.decode(turned, pose), before, atol=1e-4, rtol=1e-4
    )


def test_surroundings(inputs):
    options = {"surroundings": 16, "properties": 3}
    network = new_network(MorphologyNet, options, seed=1).eval()
    around = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    outputs = evaluate(network, inputs | {"surroundings": 30 * around})
    assert network.widths == (48, 8)
    assert outputs["latent"].shape == outputs["latent_scatter"].shape == (5, 48)
    views = [(30 * around).flip(axes) for axes in MIRRORED]
    with torch.no_grad():
        groups = network.surroundings.interacting, network.surroundings.pasted
        parts = [
            torch.cat([group(view)["latent"].flatten(1) for group in groups], 1)
            for view in views
        ]
        expected = AROUND * sum(parts) / 4
    torch.testing.assert_close(
        outputs["latent"][:, 32:], expected, atol=1e-5, rtol=1e-5
    )
    # They draw nothing.
    with torch.no_grad():
        drawn = network.decode(outputs["latent"][:, :32], outputs["pose"])
    assert torch.equal(outputs["planes"], drawn)
    assert isinstance(network.surroundings, Surroundings)
