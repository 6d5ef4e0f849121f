# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from galml.stellar_spin.preparation import (
    CHANNELS,
    HALF,
    SCALARS,
    SIZE,
    Stamps,
    choose_bands,
    prepare,
    regrid,
)

MIRRORS = ((), (-1,), (-2,), (-1, -2))


def scalar(prepared, name):
    return prepared.scalars[:, SCALARS.index(name)]


def distance(first, second):
    """Largest difference of images, up to mirrors that keep the major axis."""
    views = [second.flip(axes) if axes else second for axes in MIRRORS]
    return torch.stack([(first - v).abs().amax((1, 2, 3)) for v in views]).amin(0).max()


@pytest.mark.parametrize(
    "wavelength, expected",
    [
        ((0.357, 0.475, 0.62, 0.752, 0.905), (2, 1, 3)),
        ((0.905, 0.475, 0.62), (2, 1, 0)),
        ((0.592, 0.805), (0, None, 1)),
        ((0.805,), (0, None, None)),
        ((0.62, 0.64), (0, None, None)),
    ],
)
def test_choose_bands(wavelength, expected):
    assert choose_bands(wavelength) == expected


def test_shapes(galaxies):
    prepared = prepare(galaxies.stamps)
    assert prepared.image.shape == (24, len(CHANNELS), SIZE, SIZE)
    assert prepared.scalars.shape == (24, len(SCALARS))
    assert prepared.image.dtype == prepared.scalars.dtype == torch.float32
    assert (
        torch.isfinite(prepared.image).all() and torch.isfinite(prepared.scalars).all()
    )


@pytest.mark.parametrize("turn", ["x", "y", "quarter", "diagonal"])
def test_flips_and_turns_change_nothing_but_a_mirror(galaxies, turn):
    stamps = galaxies.stamps
    moved = {
        "x": lambda d: d.flip(-1),
        "y": lambda d: d.flip(-2),
        "quarter": lambda d: torch.rot90(d, 1, (-1, -2)),
        "diagonal": lambda d: d.transpose(-1, -2),
    }[turn](stamps.data)
    first, second = prepare(stamps), prepare(replace(stamps, data=moved))
    assert distance(first.image, second.image) < 1e-4
    torch.testing.assert_close(first.scalars, second.scalars, atol=1e-5, rtol=0)


def test_major_axis_lies_along_x(make):
    galaxies = make(16, noise=0.0, seed=2)
    flat = galaxies.axis_ratio < 0.7
    image = prepare(galaxies.stamps).image[:, 0]
    light = torch.sinh(3 * image)
    step = ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1) * HALF
    along = (light * step**2).sum((1, 2))
    across = (light * step[:, None] ** 2).sum((1, 2))
    assert flat.sum() > 4 and (along > across)[flat].all()


def test_round_galaxies_turn_along():
    y, x = np.indices((41, 41)) - 20.0
    data = 10 * np.exp(-np.hypot(x, y) / 5)[None, None]
    stamps = Stamps(torch.from_numpy(data), (0.62,), torch.tensor([8.0]))
    turned = replace(stamps, data=stamps.data.rot90(1, (-1, -2)))
    assert distance(prepare(stamps).image, prepare(turned).image) < 1e-5


def test_unit_and_sky_do_not_matter(galaxies):
    stamps = galaxies.stamps
    other = prepare(replace(stamps, data=stamps.data * 1e-6 + 2e-4))
    first = prepare(stamps)
    torch.testing.assert_close(first.image, other.image, atol=2e-3, rtol=0)
    torch.testing.assert_close(first.scalars, other.scalars, atol=2e-3, rtol=0)


def test_rows_do_not_depend_on_their_batch(galaxies):
    together, stamps = prepare(galaxies.stamps), galaxies.stamps
    for row in (0, 7):
        alone = prepare(
            Stamps(stamps.data[[row]], stamps.wavelength, stamps.r_eff[[row]])
        )
        torch.testing.assert_close(
            alone.image[0], together.image[row], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            alone.scalars[0], together.scalars[row], atol=1e-5, rtol=0
        )


def test_masked_pixels_are_not_seen(galaxies):
    stamps = galaxies.stamps
    damaged = stamps.data.clone()
    damaged[:, :, 10:13, 20:25] = torch.nan
    prepared = prepare(replace(stamps, data=damaged))
    assert torch.isfinite(prepared.image).all()
    whole = prepare(stamps)
    assert (scalar(prepared, "coverage") < scalar(whole, "coverage")).all()
    color = scalar(prepared, "blue_color") - scalar(whole, "blue_color")
    assert 0 < color.abs().max() < 0.2


def test_regrid_conserves_light():
    generator = torch.Generator().manual_seed(1)
    data = torch.rand(2, 1, 30, 40, generator=generator)
    center = torch.tensor([[19.5, 14.5], [19.5, 14.5]])
    mean, share, _ = regrid(data, center, torch.tensor([30.0, 40.0]), 24)
    area = (torch.tensor([60.0, 80.0]) / 24) ** 2
    total = (mean * share).sum((1, 2, 3)) * area
    torch.testing.assert_close(total, data.sum((1, 2, 3)), rtol=1e-5, atol=0)


def test_regrid_to_the_same_pixels():
    data = torch.arange(64.0).reshape(1, 1, 8, 8)
    mean, share, _ = regrid(data, torch.tensor([[3.5, 3.5]]), torch.tensor([4.0]), 8)
    torch.testing.assert_close(mean, data)
    assert (share == 1).all()


@pytest.mark.parametrize("half", [10.0, 23.0, 40.0])
def test_regrid_tells_the_error_of_cells(half):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 1, 90, 90, generator=generator)
    center = torch.full((200, 2), 44.3)
    mean, share, reduction = regrid(noise, center, torch.full((200,), half), 30)
    assert (share > 0).all()
    assert mean.std().item() == pytest.approx(reduction[0].item(), rel=0.02)


def test_colors_are_magnitudes(make):
    galaxies = make(8, noise=0.0, seed=3)
    data = galaxies.data[:, [1, 1, 1]] * 1.0
    sky = data.min((-1, -2), keepdims=True)
    data = (data - sky) * np.array([0.4, 1.0, 1.6])[:, None, None]
    stamps = replace(galaxies.stamps, data=torch.from_numpy(data))
    prepared = prepare(stamps)
    expected = -2.5 * math.log10(0.4), -2.5 * math.log10(1.6)
    for name, value in zip(("blue", "red"), expected, strict=True):
        color = scalar(prepared, f"{name}_color")
        torch.testing.assert_close(color, torch.full((8,), value), atol=1e-3, rtol=0)
        assert scalar(prepared, f"{name}_gradient").abs().max() < 1e-3
        assert prepared.image[:, CHANNELS.index(name)].abs().max() < 0.02
    assert (scalar(prepare(replace(stamps, calibrated=False)), "blue_color") == 0).all()


def test_one_band_has_no_colors(galaxies):
    stamps = galaxies.stamps
    one = prepare(replace(stamps, data=stamps.data[:, 1:2], wavelength=(0.62,)))
    three = prepare(stamps)
    for name in ("blue", "red"):
        assert (one.image[:, CHANNELS.index(name)] == 0).all()
        assert (scalar(one, f"has_{name}") == 0).all()
        assert (scalar(three, f"has_{name}") == 1).all()
    torch.testing.assert_close(one.image[:, :3], three.image[:, :3])


def test_noise_is_measured(make):
    galaxies = make(16, shape=(64, 64), noise=0.3, seed=5)
    stamps = galaxies.stamps
    given = replace(stamps, noise=torch.full((16, 3), 0.3, dtype=torch.float64))
    measured, known = (scalar(prepare(s), "log_snr") for s in (stamps, given))
    torch.testing.assert_close(measured, known, atol=0.08, rtol=0)
    half = given.noise.clone()
    half[::2] = torch.nan
    mixed = scalar(prepare(replace(stamps, noise=half)), "log_snr")
    torch.testing.assert_close(mixed[1::2], known[1::2])
    torch.testing.assert_close(mixed[::2], measured[::2])


def test_psf(galaxies):
    stamps = galaxies.stamps
    assert (scalar(prepare(stamps), "has_psf") == 0).all()
    width = torch.full((24, 3), 3.0, dtype=torch.float64)
    width[0] = torch.nan
    prepared = prepare(replace(stamps, psf_fwhm=width))
    assert scalar(prepared, "has_psf").tolist() == [0] + [1] * 23
    expected = torch.log10(3.0 / stamps.r_eff[1:]).float()
    torch.testing.assert_close(scalar(prepared, "log_psf")[1:], expected)


def test_images_without_light_are_finite():
    for data in (torch.zeros(2, 1, 20, 20), torch.full((2, 1, 20, 20), torch.nan)):
        prepared = prepare(Stamps(data, (0.62,), torch.tensor([3.0, 5.0])))
        assert torch.isfinite(prepared.image).all()
        assert torch.isfinite(prepared.scalars).all()
