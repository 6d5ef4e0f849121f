# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch

from galml.imaging import Grid, Stamps
from galml.imaging.features import (
    asymmetry,
    choose_bands,
    color,
    concentration,
    light_inside,
    log_psf,
    log_snr,
    shape_moments,
)

GRID = Grid(72, 6.0)
WANTED = {"reference": 0.617, "blue": 0.470, "red": 0.770, "nearest": 0.07}


@pytest.mark.parametrize(
    "wavelengths, expected",
    [
        ((0.357, 0.475, 0.62, 0.752, 0.905), (2, 1, 3)),
        ((0.905, 0.475, 0.62), (2, 1, 0)),
        ((0.592, 0.805), (0, None, 1)),
        ((0.805,), (0, None, None)),
        ((0.62, 0.64), (0, None, None)),
    ],
)
def test_choose_bands(wavelengths, expected):
    assert choose_bands(wavelengths, **WANTED) == expected


def test_light_inside():
    mean = torch.where(GRID.radius < 2, 4.0, 1.0).expand(2, 3, 72, 72)
    cover = torch.ones(2, 1, 72, 72)
    stamps = Stamps(mean, cover, torch.ones(2), True)
    found = light_inside(stamps, GRID, (1.0, 2.0, 4.0))
    expected = torch.tensor([4.0, 4.0, (4 + 3 * 1) / 4]).expand(2, 3, 3)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    # Where half of the galaxy is unknown, the other half counts.
    cover = torch.where(GRID.x < 0, 0.0, 1.0).expand(2, 3, 72, 72)
    half = light_inside(
        Stamps(mean, cover, torch.ones(2), False), GRID, (1.0, 2.0, 4.0)
    )
    torch.testing.assert_close(half, found)
    nothing = Stamps(mean, torch.zeros(2, 3, 72, 72), torch.ones(2), False)
    assert (light_inside(nothing, GRID, (1.0,)) == 0).all()


@pytest.mark.parametrize("degrees", [0.0, 20.0, 90.0, 160.0])
@pytest.mark.parametrize("ratio", [0.4, 0.8])
def test_shape_of_a_gaussian(degrees, ratio):
    angle = math.radians(degrees)
    along = GRID.x * math.cos(angle) + GRID.y * math.sin(angle)
    across = GRID.y * math.cos(angle) - GRID.x * math.sin(angle)
    light = torch.exp(-0.5 * (along**2 + (across / ratio) ** 2))[None]
    found, ratios, twist = shape_moments(light, GRID, (0.5, 1.5))
    offset = (found.item() - angle + math.pi / 2) % math.pi - math.pi / 2
    assert abs(offset) < 1e-3
    # Under a Gaussian weight of width w, variances v become 1 / (1 / v + 1 / w^2).
    for place, width in enumerate((0.5, 1.5)):
        a, b = (1 / (1 / v + 1 / width**2) for v in (1.0, ratio**2))
        length = (a - b) / (a + b)
        expected = math.sqrt((1 - length) / (1 + length))
        assert ratios[0, place].item() == pytest.approx(expected, abs=0.01)
        if place == 0:
            assert twist.item() == pytest.approx(length, abs=0.01)


def test_shape_of_round_and_dark_images():
    light = torch.exp(-0.5 * GRID.radius**2)[None]
    angle, ratios, twist = shape_moments(light, GRID, (0.5, 1.5))
    assert angle.item() == 0 and twist.abs().item() < 1e-5
    torch.testing.assert_close(ratios, torch.ones(1, 2), atol=1e-5, rtol=0)
    for nothing in (torch.zeros(1, 72, 72), -light):
        angle, ratios, twist = shape_moments(nothing, GRID, (0.5, 1.5))
        assert angle.item() == 0 and (ratios == 1).all()


def test_log_snr():
    found = log_snr(
        torch.tensor([10.0, 1e9, -1.0]),
        torch.ones(3),
        torch.tensor([2.0] * 3),
        low=0.1,
        high=1e4,
    )
    expected = [math.log10(20 * math.sqrt(math.pi)), 4.0, -1.0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_colors_are_magnitudes():
    first, second = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([10.0, 1e9, 1.0])
    found = color(first, second, largest=4.0)
    np.testing.assert_allclose(found, [-2.5, -4.0, -4.0])
    floor = torch.full((3,), 0.1)
    found = color(first, second, floor, floor, largest=9.0)
    np.testing.assert_allclose(found, [-2.5, -9.0, -2.5])


def test_concentration():
    floor = torch.tensor([0.5, 0.5])
    found = concentration(torch.tensor([10.0, 0.1]), torch.tensor([1.0, 5.0]), floor)
    np.testing.assert_allclose(found, [1.0, -1.0], rtol=1e-6)


def test_psf():
    width = torch.tensor([4.0, torch.nan, 1e-4])
    known, found = log_psf(width, torch.full((3,), 2.0), low=0.01, high=10.0)
    assert known.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found, [math.log10(2), 0, -2], rtol=1e-6)


def test_asymmetry():
    disk = torch.exp(-GRID.radius)
    lopsided = disk * (1 + 0.5 * torch.sign(GRID.x))
    images = torch.stack([disk, lopsided])
    found = asymmetry(images, torch.zeros(2), GRID, radius=3.0, bias=1.13)
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)
    # Noise of white cells is taken away.
    noise = 0.1 * torch.randn(200, 72, 72, generator=torch.Generator().manual_seed(0))
    error = torch.full((200,), 0.1)
    noisy = asymmetry(disk + noise, error, GRID, radius=1.5, bias=1.13)
    assert abs(noisy.mean().item()) < 0.01
