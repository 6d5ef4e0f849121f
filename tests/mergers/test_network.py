# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core.fitting import new_network
from galml.core.inference import infer
from galml.imaging import DIHEDRAL
from galml.mergers.network import MergerNet
from galml.mergers.preparation import INPUT


@pytest.fixture(scope="module")
def network():
    return new_network(MergerNet, seed=3).eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(6, len(INPUT.channels), *INPUT.grid, generator=generator)
    scalars = torch.randn(6, len(INPUT.scalars), generator=generator)
    return {"image": image, "scalars": scalars}


def ask(network, inputs, **options):
    (found,) = infer(network, [inputs], device="cpu", **options)
    return found


def test_shapes(network, inputs):
    found = ask(network, inputs)
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    assert shapes == {"stage": (6, 5), "time": (6, 15), "contamination": (6, 40)}
    found = ask(network, inputs, n_samples=7, seed=1)
    assert found["stage"].shape == (6, 7, 5)
    assert found["contamination"].shape == (6, 7, 40)


def test_passes_differ_and_are_repeated(network, inputs):
    first, again = (ask(network, inputs, n_samples=7, seed=1) for _ in range(2))
    other = ask(network, inputs, n_samples=7, seed=2)
    assert (first["stage"].std(1) > 1e-4).all()
    torch.testing.assert_close(first["stage"], again["stage"], rtol=0, atol=0)
    assert (first["stage"] - other["stage"]).abs().max() > 1e-4


def test_only_the_last_layers_are_random(network, inputs):
    noise = torch.rand(6, 3, network.n_noise)
    features = network.features(inputs)
    assert features.shape[0] == 6 and network.n_noise == 256
    many = network.probabilities(features, noise)["stage"]
    for number in range(3):
        one = network.probabilities(features, noise[:, number : number + 1])["stage"]
        torch.testing.assert_close(many[:, number], one[:, 0])


def test_filters_have_their_own_networks(network, inputs):
    """Telescopes on the ground have another one, whatever else is in the batch."""
    assert INPUT.scalars[-1] == "is_r"
    mixed = inputs | {"scalars": inputs["scalars"].clone()}
    mixed["scalars"][:, -1] = torch.tensor([0.0, 1, 0, 1, 1, 0])
    both = ask(network, mixed, n_samples=3, seed=1)
    for number in range(6):
        alone = {key: value[number : number + 1] for key, value in mixed.items()}
        found = ask(network, alone, n_samples=3, seed=1)
        torch.testing.assert_close(found["stage"][0], both["stage"][number])
        branch = network.branches[int(mixed["scalars"][number, -1])]
        bare = branch.probabilities(branch.features(alone))["stage"]
        whole = network(alone)["stage"]
        torch.testing.assert_close(bare, whole)
    first, second = (b.state_dict()["stage.weight"] for b in network.branches)
    assert not torch.equal(first, second)


def test_turned_images_have_the_same_answers(network, inputs):
    turned = inputs | {"image": torch.rot90(inputs["image"], 1, (-1, -2)).flip(-1)}
    options = {"views": DIHEDRAL, "n_samples": 5, "seed": 1}
    first, second = (ask(network, one, **options) for one in (inputs, turned))
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=0, atol=1e-5)


def test_the_network_is_cheap():
    """All eight views together cost a fifth of one pass of the published network."""
    published = 2.4e9
    operations, handles, network = [], [], MergerNet().eval()

    def count(layer, _, output):
        each = layer.weight[0].numel()
        operations.append(each * output.numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            handles.append(layer.register_forward_hook(count))
    network({"image": torch.zeros(1, 5, 64, 64), "scalars": torch.zeros(1, 12)})
    assert 8 * sum(operations) < published / 5
