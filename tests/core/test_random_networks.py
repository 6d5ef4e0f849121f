# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from galml.core.exceptions import InputError
from galml.core.inference import ahead, infer
from galml.core.networks import (
    MonteCarloDropout,
    RandomNetwork,
    dihedral_views,
)

VIEWS = dihedral_views(images=("image",))


class Classifier(RandomNetwork):
    """Convolutions, and two layers that forget."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16)
        )
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 3)
        self.dropouts = nn.ModuleList(
            [MonteCarloDropout(16, 0.2), MonteCarloDropout(32, 0.5)]
        )

    def features(self, inputs):
        self.calls += 1
        return self.trunk(inputs["image"])

    def probabilities(self, features, noise=None):
        one, two = self.split_noise(noise)
        if noise is not None:
            features = features[:, None].expand(-1, noise.shape[1], -1)
        units = self.dropouts[0](features, one)
        units = self.dropouts[1](torch.relu(self.first(units)), two)
        return {"class": torch.softmax(self.second(units), -1)}


@pytest.fixture
def network():
    torch.manual_seed(1)
    return Classifier().eval()


@pytest.fixture
def images():
    return torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def passes(network, images, **options):
    options = {"views": VIEWS, "device": "cpu", "n_samples": 30, "seed": 3} | options
    (output,) = infer(network, [{"image": images}], **options)
    return output["class"]


def test_passes_are_distributions_that_scatter(network, images):
    result = passes(network, images)
    assert result.shape == (20, 30, 3)
    assert_allclose(result.sum(-1), 1, atol=1e-6)
    assert (result.std(1) > 0.01).all()
    assert (passes(network, images, seed=4) - result).abs().max() > 0.05


def test_passes_do_not_depend_on_batch_or_order(network, images):
    result = passes(network, images)
    assert_allclose(passes(network, images, batch_size=3), result, atol=1e-6)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert_allclose(passes(network, images[order]), result[order], atol=1e-6)
    assert_allclose(passes(network, images[:1]), result[:1], atol=1e-6)


def test_each_pass_is_one_network_for_all_objects(network, images):
    result = passes(network, images)
    near = passes(network, images + 1e-4)
    # What is as good as the same is seen by the same networks.
    assert (near - result).abs().max() < 1e-3
    both = passes(network, torch.cat([images[:1], images[:1] + 1e-4]))
    assert_allclose(both[0], both[1], atol=1e-3)


def test_passes_are_the_same_for_all_views(network, images):
    result = passes(network, images)
    for view in VIEWS[1:]:
        seen = view.apply({"image": images})["image"]
        assert_allclose(passes(network, seen), result, atol=1e-5)


def test_probabilities_are_averaged_over_views(network, images):
    (alone,) = infer(network, [{"image": images}], views=VIEWS, device="cpu")
    with torch.no_grad():
        each = [network(view.apply({"image": images}))["class"] for view in VIEWS]
    assert_allclose(alone["class"], torch.stack(each).mean(0), atol=1e-6)


def test_only_random_layers_run_again(network, images):
    passes(network, images, n_samples=50, batch_size=len(images))
    assert network.calls == len(VIEWS)


def test_dropout_keeps_the_mean():
    layer = MonteCarloDropout(4000, 0.3).eval()
    noise = torch.rand(1, 50, 4000, generator=torch.Generator().manual_seed(0))
    units = layer(torch.ones(1, 1, 4000), noise)
    assert_allclose(units.unique(), [0, 1 / 0.7], rtol=1e-6)
    assert_allclose(units.mean(), 1, atol=0.01)
    assert (layer(torch.ones(3, 4000)) == 1).all()


def test_networks_without_distributions_have_no_passes(images):
    class Plain(nn.Module):
        def forward(self, inputs):
            return {"mean": inputs["image"].mean((1, 2, 3))}

    with pytest.raises(InputError, match="no distributions"):
        infer(Plain(), [{"image": images}], device="cpu", n_samples=2)


def test_batches_are_drawn_ahead_in_order():
    drawn = []

    def batches():
        for number in range(5):
            drawn.append(number)
            yield {"x": torch.tensor([number])}

    seen = []
    for batch in ahead(batches()):
        seen.append(int(batch["x"]))
    assert seen == drawn == list(range(5))


def test_errors_of_batches_that_are_drawn_ahead_are_raised():
    def batches():
        yield {"x": torch.tensor([0])}
        raise InputError("data", "nothing", "something")

    stream = ahead(batches())
    assert int(next(stream)["x"]) == 0
    with pytest.raises(InputError, match="nothing"):
        next(stream)
