# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.stellar_spin import color_images
from galml.stellar_spin.color_images import as_color_images

PERFECT = {
    "SIDE": 48,
    "COMPRESSED": 0.0,
    "PEDESTAL": (0.0, 0.0),
    "SHIFT": (0.0, 0.0, 0.0),
    "GAIN": 0.0,
    "GAIN_SCATTER": 0.0,
    "TINT": (0.0, 0.0, 0.0),
    "TINT_SCATTER": (0.0, 0.0, 0.0),
    "STRETCH": 0.0,
    "MEASURED": 0.0,
}
RADIUS, CENTER = 4.0, (24.0, 22.0)


@pytest.fixture
def perfect(monkeypatch):
    for name, value in PERFECT.items():
        monkeypatch.setattr(color_images, name, value)
    return monkeypatch


def run(seed=0, n=3):
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    radius = torch.hypot(x - CENTER[0], y - CENTER[1])
    disk = 3000 * torch.exp(-1.678 * radius / RADIUS)
    data = disk * torch.tensor([1.4, 1.0, 0.5])[:, None, None]
    data = data.expand(n, 3, 48, 48)
    size = torch.full((n,), RADIUS).double()
    center = torch.tensor(CENTER).double().expand(n, 2)
    noise, scale = torch.full((n, 3), 20.0), torch.full((n,), 0.396)
    generator = torch.Generator().manual_seed(seed)
    found = as_color_images(data, noise, scale, size, center.clone(), generator)
    return data, *found


def test_a_perfect_color_image_is_the_image(perfect):
    data, found, size, center, factor = run()
    assert factor == 1 and found.shape == data.shape and found.dtype == data.dtype
    # A step of a byte is three per cent where the stretch is steepest.
    bright = data > 300
    assert (found / data - 1).abs()[bright].max() < 0.04
    assert (found - data).abs()[~bright].max() < 12
    torch.testing.assert_close(size, torch.full((3,), RADIUS).double())


def test_the_same_seed_gives_the_same_images():
    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first[1], again[1])
    changed = [
        (a - b).abs().max() > 0.1 for a, b in zip(first[1], other[1], strict=False)
    ]
    assert first[1].shape != other[1].shape or any(changed)


def test_enlarged_images_have_their_center_where_they_say(perfect):
    perfect.setattr(color_images, "SIDE", 144)
    for seed in range(8):
        _, found, size, center, factor = run(seed)
        assert found.shape[-1] == 48 * factor
        weight = found[:, 1] ** 2
        axis = torch.arange(48.0 * factor)
        x = (weight.sum(1) * axis).sum(1) / weight.sum((1, 2))
        assert (x - center[:, 0]).abs().max() < 0.1
        assert size[0] == RADIUS * factor
    assert factor <= 3


def test_radii_and_centers_are_measured(perfect):
    perfect.setattr(color_images, "MEASURED", 1.0)
    _, _, size, center, _ = run()
    error = (size / RADIUS - 1).abs()
    assert error.min() > 1e-6 and error.max() < 0.1
    assert (center - torch.tensor(CENTER).double()).abs().max() < 0.2


def test_the_sky_gets_black(perfect):
    perfect.setattr(color_images, "PEDESTAL", (2.0, 2.0))
    data, found, *_ = run()
    assert (found[data < 30] == 0).all()
    assert (found[data > 100] < data[data > 100]).all()


def test_colors_are_displaced_and_tinted(perfect):
    data, before, *_ = run()
    perfect.setattr(color_images, "SHIFT", (1.0, 0.0, 1.0))
    _, shifted, *_ = run()
    assert torch.equal(shifted[:, 1], before[:, 1]) or (
        (shifted[:, 1] - before[:, 1]).abs().max() < 0.05 * before[:, 1].max()
    )
    assert (shifted[:, 0] - before[:, 0]).abs().amax((1, 2)).min() > 100
    perfect.setattr(color_images, "SHIFT", (0.0, 0.0, 0.0))
    perfect.setattr(color_images, "TINT", (0.3, 0.0, 0.0))
    _, tinted, *_ = run()
    bright = data[:, 0] > 300
    ratio = (tinted[:, 0] / before[:, 0])[bright]
    assert ratio.median().item() == pytest.approx(1.35, abs=0.03)


def test_compression_loses_detail(perfect):
    perfect.setattr(color_images, "COMPRESSED", 1.0)
    data, found, *_ = run()
    bright = data > 300
    error = (found / data - 1).abs()[bright]
    assert 0.02 < error.median() < 0.3
