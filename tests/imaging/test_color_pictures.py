# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.imaging import color_pictures
from galml.imaging.color_pictures import as_color_images, petrosian_radius

#: The Petrosian radius of an exponential disk, in scale lengths.
DISK = 3.6
RADIUS, CENTER = 4.0, (23.7, 23.4)
PERFECT = {
    "SIDE": 40,
    # Pixels stay as large as they are.
    "PIXEL": 1.678 / DISK / RADIUS,
    "PIXEL_SCATTER": 0.0,
    "CUT": 0.0,
    "STRENGTH": 1.0,
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


@pytest.fixture
def perfect(monkeypatch):
    for name, value in PERFECT.items():
        monkeypatch.setattr(color_pictures, name, value)
    return monkeypatch


def run(seed=0, n=3):
    """Data and noise of galaxies, and what color images of them give."""
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


def unmoved(monkeypatch):
    """Let images begin at the corner of a pixel, and pixels stay what they are."""
    monkeypatch.setattr(color_pictures, "SIDE", 48)
    monkeypatch.setattr(color_pictures, "petrosian_radius", lambda images, center: 1.0)
    monkeypatch.setattr(color_pictures, "PIXEL", 1.0)


def test_a_perfect_color_image_is_the_image(perfect):
    unmoved(perfect)
    data, found, size, center, zoom = run()
    assert (zoom == 1).all() and found.shape == data.shape
    assert found.dtype == data.dtype
    # A step of a byte is three per cent where the stretch is steepest.
    bright = data > 300
    assert (found / data - 1).abs()[bright].max() < 0.04
    assert (found - data).abs()[~bright].max() < 12
    torch.testing.assert_close(size, torch.full((3,), RADIUS).double())


def test_the_same_seed_gives_the_same_images():
    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first[1], again[1])
    assert (first[1] - other[1]).abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("side", [40, 96, 144])
def test_enlarged_images_have_their_center_where_they_say(perfect, side):
    perfect.setattr(color_pictures, "SIDE", side)
    perfect.setattr(color_pictures, "PIXEL", 40 / side * PERFECT["PIXEL"])
    _, found, size, center, zoom = run()
    assert found.shape[-2:] == (side, side)
    weight = found[:, 1] ** 2
    for axis, name in ((1, "x"), (2, "y")):
        place = torch.arange(float(side))
        at = (weight.sum(axis) * place).sum(1) / weight.sum((1, 2))
        assert (at - center[:, axis - 1]).abs().max() < 0.1 * side / 40, name
        # Servers cut images up to a pixel of their frames too early.
        off = (center[:, axis - 1] + 0.5 - side / 2) / zoom
        assert 0 <= off.min() and off.max() <= 1 and off.std() > 0.01
    torch.testing.assert_close(size, RADIUS * zoom)
    torch.testing.assert_close(
        zoom, torch.full((3,), side / 40.0).double(), rtol=0.05, atol=0
    )


def test_petrosian_radii():
    """A disk of 3.6 scale lengths, a Gaussian of 2.2 widths, and noise that is none."""
    y, x = torch.meshgrid(torch.arange(121.0), torch.arange(121.0), indexing="ij")
    radius = torch.hypot(x - 60, y - 60)
    images = torch.stack([torch.exp(-radius / 8), torch.exp(-((radius / 12) ** 2) / 2)])
    found = petrosian_radius(images, torch.full((2, 2), 60.0))
    ratio = found / torch.tensor([8.0, 12.0])
    # Rings are from 0.8 to 1.25 radii, as in SDSS.
    assert ratio[0].item() == pytest.approx(DISK, abs=0.1)
    steps = torch.linspace(0.01, 4, 4000).double()
    inside = 1 - torch.exp(-(steps**2) / 2)
    ring = torch.exp(-((0.8 * steps) ** 2) / 2) - torch.exp(-((1.25 * steps) ** 2) / 2)
    local = ring / (1.25**2 - 0.8**2) / inside
    expected = steps[(local < 0.2).int().argmax()]
    assert ratio[1].item() == pytest.approx(expected.item(), abs=0.06)
    # What never falls has the largest radius that can be.
    flat = petrosian_radius(torch.ones(1, 60, 60), torch.full((1, 2), 29.5))
    assert flat.item() == pytest.approx(30, abs=1.5)


def test_radii_and_centers_are_measured(perfect):
    unmoved(perfect)
    perfect.setattr(color_pictures, "MEASURED", 1.0)
    _, _, size, center, _ = run()
    error = (size / RADIUS - 1).abs()
    assert error.min() > 1e-6 and error.max() < 0.1
    assert (center - torch.tensor(CENTER).double()).abs().max() < 0.2


def test_the_sky_gets_black(perfect):
    unmoved(perfect)
    perfect.setattr(color_pictures, "PEDESTAL", (2.0, 2.0))
    data, found, *_ = run()
    assert (found[data < 30] == 0).all()
    assert (found[data > 100] < data[data > 100]).all()


def test_colors_are_displaced_and_tinted(perfect):
    unmoved(perfect)
    data, before, *_ = run()
    perfect.setattr(color_pictures, "SHIFT", (1.0, 0.0, 1.0))
    _, shifted, *_ = run()
    assert torch.equal(shifted[:, 1], before[:, 1]) or (
        (shifted[:, 1] - before[:, 1]).abs().max() < 0.05 * before[:, 1].max()
    )
    assert (shifted[:, 0] - before[:, 0]).abs().amax((1, 2)).min() > 100
    perfect.setattr(color_pictures, "SHIFT", (0.0, 0.0, 0.0))
    perfect.setattr(color_pictures, "TINT", (0.3, 0.0, 0.0))
    _, tinted, *_ = run()
    bright = data[:, 0] > 300
    ratio = (tinted[:, 0] / before[:, 0])[bright]
    assert ratio.median().item() == pytest.approx(1.35, abs=0.03)


def test_compression_loses_detail(perfect):
    unmoved(perfect)
    perfect.setattr(color_pictures, "COMPRESSED", 1.0)
    data, found, *_ = run()
    bright = data > 300
    error = (found / data - 1).abs()[bright]
    assert 0.02 < error.median() < 0.3
