# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from galml.imaging import read_images
from galml.mergers.published import (
    INPUT,
    Ferreira2022,
    augment_published,
    prepare,
    published_loss,
)

SIZE = 96


def images(values, **known):
    (read,) = read_images(values[:, None] * u.nJy, bands="F160W", sizes=False).members
    return replace(read, **known)


def halves(count, half=48.0):
    return torch.full((count,), half, dtype=torch.float64)


@pytest.fixture
def light():
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    noise = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    return 100 * np.exp(-np.hypot(x, y / 0.7) / 6) + 0.2 * noise


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return Ferreira2022().eval()


@pytest.fixture(scope="module")
def seen(network):
    image = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return network.features({"image": image})


def test_layers_are_the_published_ones(network):
    kinds = [type(layer) for layer in network.layers]
    block = 2 * [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert kinds == [*block, nn.MaxPool2d, *block, nn.MaxPool2d, *block]
    convolutions = [one for one in network.layers if isinstance(one, nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [32, 32, 64, 64, 128, 128]
    assert [one.kernel_size[0] for one in convolutions] == [11, 11, 9, 9, 7, 7]
    assert {one.padding for one in convolutions} == {(0, 0)}
    assert [(one.width, one.share) for one in network.dropouts] == [(128, 0.5)] * 2
    assert sum(one.numel() for one in network.parameters()) == 1_864_290


def test_cost_of_a_pass(network):
    side, channels, expected = 128, 1, 2 * 128 * 128 + 128 * 2
    for width, kernel in ((32, 11), (64, 9), (128, 7)):
        for _ in range(2):
            side -= kernel - 1
            expected += side**2 * channels * width * kernel**2
            channels = width
        side //= 2
    assert expected == 2_436_442_496
    inputs = {"image": torch.zeros(1, 1, 128, 128)}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert network(inputs)["logits"].shape == (1, 2)
    # It counts a multiplication and an addition as two.
    assert counter.get_total_flops() == 2 * expected


def test_passes_are_random(network, seen):
    assert seen.shape == (2, 128) and network.n_noise == 256
    noise = torch.rand(2, 7, 256, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        one = network.probabilities(seen)["logits"]
        many = network.probabilities(seen, noise)["logits"]
        assert one.shape == (2, 2) and many.shape == (2, 7, 2)
        assert (many.std(1) > 0).all()
        for place in range(7):
            alone = network.probabilities(seen, noise[:, place : place + 1])["logits"]
            torch.testing.assert_close(alone[:, 0], many[:, place])
        nothing = network.probabilities(seen, torch.zeros(2, 1, 256))["logits"]
        bias = network.last.bias.expand(2, 1, 2)
        torch.testing.assert_close(nothing, bias)


def test_dropout_comes_before_the_activation(network, seen):
    noise = torch.rand(2, 1, 256, generator=torch.Generator().manual_seed(5))
    units = seen
    with torch.no_grad():
        for dense, kept in zip(network.dense, noise[:, 0].split(128, 1), strict=True):
            units = torch.relu(2 * dense(units) * (kept >= 0.5))
        found = network.probabilities(seen, noise)["logits"]
        torch.testing.assert_close(found[:, 0], network.last(units))


def test_field_and_scale(light):
    cut = prepare(images(light[None]), 0, halves(1)).image
    assert cut.shape == (1, 1, 128, 128) and cut.dtype == torch.float32
    assert cut.max() == 1 and cut.argmax() // 128 in (63, 64)
    assert cut[..., :20, :20].mean().abs() < 0.02
    # Twice as wide, the galaxy is half as large and the rest is empty. Wider cells have
    # less noise, and show fainter light.
    wide = prepare(images(light[None]), 0, halves(1, 96.0)).image
    assert (wide[..., :31, :] == 0).all()
    assert (wide > 0.5).sum() == pytest.approx((cut > 0.5).sum() / 4, rel=0.3)
    # The noise is where the scale is linear.
    faint = cut[..., :20, :20].std() / math.asinh(0.5)
    assert faint == pytest.approx(1 / math.asinh(100 / 0.4), rel=0.35)


@pytest.mark.parametrize("factor, sky", [(1e-25, 0.0), (1e20, 0.0), (1.0, 1e5)])
def test_brightness_and_sky_do_not_matter(light, factor, sky):
    first = prepare(images(light[None]), 0, halves(1)).image
    second = prepare(images(factor * (light[None] + sky)), 0, halves(1)).image
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


def test_center_band_and_unknown_pixels(light):
    flat = np.random.default_rng(2).normal(size=light.shape)
    (two,) = read_images(
        np.stack([flat, light])[None] * u.nJy, bands=("F606W", "F160W"), sizes=False
    ).members
    first = prepare(images(light[None]), 0, halves(1)).image
    torch.testing.assert_close(prepare(two, 1, halves(1)).image, first)
    moved = images(light[None], center=np.array([[60.0, 47.5]]))
    places = prepare(moved, 0, halves(1)).image.flatten().argmax()
    assert places % 128 == pytest.approx(63.5 - 12.5 * 128 / 96, abs=1.5)
    gone = light.copy()
    gone[:, :10] = np.nan
    cut = prepare(images(gone[None]), 0, halves(1)).image
    assert torch.isfinite(cut).all() and (cut[..., :13] == 0).all()
    for empty in (np.full((1, SIZE, SIZE), np.nan), np.ones((1, SIZE, SIZE))):
        assert torch.isfinite(prepare(images(empty), 0, halves(1)).image).all()


def test_many_images_are_prepared_as_each_is(light):
    values = light * np.linspace(0.5, 2, 70)[:, None, None]
    half = torch.linspace(30, 50, 70, dtype=torch.float64)
    together = prepare(images(values), 0, half).image
    for row in (0, 40, 69):
        alone = prepare(images(values[[row]]), 0, half[[row]]).image
        torch.testing.assert_close(alone[0], together[row])


def test_models_carry_what_they_are_shown(light):
    other = replace(INPUT, stretch=INPUT.stretch | {"softening": 50.0})
    first, second = (
        prepare(images(light[None]), 0, halves(1), spec).image
        for spec in (INPUT, other)
    )
    assert first.mean() > 1.5 * second.mean()


class Small(nn.Module):
    """A network whose answers are known, with one convolution."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    def forward(self, inputs):
        return {"logits": inputs["image"][:, 0, 0, :2]}


def test_loss():
    network, merger = Small(), torch.tensor([0.0, 1.0, 1.0])
    image = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(6))
    batch = {"image": image, "merger": merger}
    chance = torch.sigmoid(image[:, 0, 0, :2].double())
    truth = torch.stack([1 - merger, merger], 1)
    right = torch.where(truth > 0, chance, 1 - chance)
    entropy = -right.log().mean().item()
    convolution = network.layers[0]
    squares = convolution.weight.square().sum() + convolution.bias.square().sum()
    for penalty in (0.0, 0.1, 2.0):
        with torch.no_grad():
            found = published_loss(network, batch, penalty)
        assert found["cross_entropy"].item() == pytest.approx(entropy, rel=1e-5)
        expected = entropy + penalty * squares.item()
        assert found["loss"].item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        found = published_loss(network, batch)
    assert found["loss"].item() == pytest.approx(entropy + 0.1 * squares.item())


def test_images_are_turned_by_up_to_a_tenth_of_a_turn():
    count, axis = 400, torch.arange(128) - 63.5
    spot = torch.exp(-0.1 * ((axis[None] - 40) ** 2 + axis[:, None] ** 2))
    batch = {
        "image": spot.expand(count, 1, 128, 128),
        "merger": torch.arange(count) % 2,
    }
    first, second, other = (
        augment_published(batch, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], other["image"])
    assert torch.equal(first["merger"], batch["merger"])
    assert torch.equal(batch["image"][0, 0], spot)
    weight = first["image"][:, 0] / first["image"].sum((1, 2, 3))[:, None, None]
    x, y = (weight * axis).sum((1, 2)), (weight * axis[:, None]).sum((1, 2))
    torch.testing.assert_close(
        torch.hypot(x, y), torch.full((count,), 40.0), atol=0.1, rtol=0
    )
    angle = torch.atan2(y, x) / (2 * math.pi)
    assert -0.101 < angle.min() < -0.095 and 0.095 < angle.max() < 0.101
    assert angle.mean().abs() < 0.01
