# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch

import galml
from galml.imaging import GalaxyImages, aligned, read_images
from galml.stellar_spin import preparation
from galml.stellar_spin.preparation import INPUT, bands_shown, prepare

SIZE, HALF = INPUT.grid[0], INPUT.half_width
MIRRORS = ((), (-1,), (-2,), (-1, -2))


def scalar(prepared, name):
    return prepared.scalars[:, INPUT.scalars.index(name)]


def channel(prepared, name):
    return prepared.image[:, INPUT.channels.index(name)]


def distance(first, second):
    """Largest difference of images, up to mirrors that keep the major axis."""
    views = [second.flip(axes) if axes else second for axes in MIRRORS]
    return torch.stack([(first - v).abs().amax((1, 2, 3)) for v in views]).amin(0).max()


def single(data, r_eff):
    """Images in one band, as they are prepared."""
    options = {"bands": ("r",), "r_eff": np.array(r_eff) * u.pix}
    (images,) = read_images(np.asarray(data) * u.nJy, **options).members
    return images


def test_shapes(galaxies):
    prepared = prepare(galaxies.images)
    assert prepared.image.shape == (24, len(INPUT.channels), SIZE, SIZE)
    assert prepared.scalars.shape == (24, len(INPUT.scalars))
    for tensor in prepared.inputs.values():
        assert tensor.dtype == torch.float32 and torch.isfinite(tensor).all()


@pytest.mark.parametrize("turn", ["x", "y", "quarter", "diagonal"])
def test_flips_and_turns_change_nothing_but_a_mirror(galaxies, turn):
    images = galaxies.images
    moved = {
        "x": lambda d: d[..., ::-1],
        "y": lambda d: d[..., ::-1, :],
        "quarter": lambda d: np.rot90(d, 1, (-1, -2)),
        "diagonal": lambda d: d.swapaxes(-1, -2),
    }[turn](images.values)
    first, second = prepare(images), prepare(replace(images, values=moved))
    assert distance(first.image, second.image) < 1e-4
    torch.testing.assert_close(first.scalars, second.scalars, atol=1e-5, rtol=0)


def test_major_axis_lies_along_x(make):
    galaxies = make(16, noise=0.0, seed=2)
    flat = galaxies.axis_ratio < 0.7
    light = torch.sinh(3 * channel(prepare(galaxies.images), "shape"))
    step = ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1) * HALF
    along = (light * step**2).sum((1, 2))
    across = (light * step[:, None] ** 2).sum((1, 2))
    assert flat.sum() > 4 and (along > across)[flat].all()


def test_round_galaxies_turn_along():
    y, x = np.indices((41, 41)) - 20.0
    images = single(10 * np.exp(-np.hypot(x, y) / 5)[None, None], [8.0])
    turned = replace(images, values=np.rot90(images.values, 1, (-1, -2)))
    assert distance(prepare(images).image, prepare(turned).image) < 1e-5


def test_unit_and_sky_do_not_matter(galaxies):
    images = galaxies.images
    other = prepare(replace(images, values=images.values * 1e-6 + 2e-4))
    first = prepare(images)
    torch.testing.assert_close(first.image, other.image, atol=2e-3, rtol=0)
    torch.testing.assert_close(first.scalars, other.scalars, atol=2e-3, rtol=0)
    bright = prepare(replace(images, values=images.values + 1e7))
    torch.testing.assert_close(first.image, bright.image, atol=2e-3, rtol=0)


@pytest.mark.parametrize("factor", [1e-300, 1e-40, 1e30, 1e290])
def test_fluxes_of_any_size_are_held(galaxies, factor):
    images = replace(galaxies.images, noise=np.full((24, 3), 0.3))
    images.values[3, :, 5:9] = np.nan
    first = prepare(images)
    many = replace(images, values=images.values * factor, noise=images.noise * factor)
    second = prepare(many)
    torch.testing.assert_close(first.image, second.image, atol=1e-4, rtol=0)
    torch.testing.assert_close(first.scalars, second.scalars, atol=1e-4, rtol=0)


@pytest.mark.parametrize("damage", [False, True])
def test_rows_do_not_depend_on_their_batch(galaxies, damage):
    images = galaxies.images
    if damage:
        values = images.values.copy()
        values[::3, :, 10:13, 20:25] = np.nan
        images = replace(images, values=values, r_eff=images.r_eff * 1.3)
    together = prepare(images)
    for rows in ([0], [7], [22, 3, 9, 0]):
        some = prepare(images[rows])
        torch.testing.assert_close(some.image, together.image[rows], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            some.scalars, together.scalars[rows], atol=1e-5, rtol=0
        )
    many = prepare(GalaxyImages.concatenate([images] * 6))
    torch.testing.assert_close(many.image[120:], together.image, atol=1e-5, rtol=0)


def test_masked_pixels_are_not_seen(galaxies):
    images = galaxies.images
    damaged = images.values.copy()
    damaged[:, :, 10:13, 20:25] = np.nan
    prepared, whole = prepare(replace(images, values=damaged)), prepare(images)
    assert torch.isfinite(prepared.image).all()
    assert (scalar(prepared, "coverage") < scalar(whole, "coverage")).all()
    color = scalar(prepared, "blue_color") - scalar(whole, "blue_color")
    assert 0 < color.abs().max() < 0.2


@pytest.mark.parametrize("cells", [72, 60, 43])
def test_images_that_just_hold_the_grid_are_like_others(galaxies, cells, monkeypatch):
    """Shortcuts for images that are known everywhere change nothing."""
    images, lies_inside = galaxies.images, aligned.lies_inside
    radii = np.linspace(0.9, 1.02, 24) * 24 / 4.2426
    images = replace(images, r_eff=radii)
    spec = replace(INPUT, parameters=INPUT.parameters | {"wide_cells": cells})
    first = prepare(images, spec)
    monkeypatch.setattr(
        aligned, "lies_inside", lambda *args: lies_inside(*args) & False
    )
    second = prepare(images, spec)
    torch.testing.assert_close(first.image, second.image, atol=2e-5, rtol=0)
    torch.testing.assert_close(first.scalars, second.scalars, atol=2e-5, rtol=0)


def test_nothing_is_changed(galaxies):
    images = galaxies.images
    before = images.values.copy()
    prepare(images)
    np.testing.assert_array_equal(images.values, before)


def test_colors_are_magnitudes(make):
    galaxies = make(8, noise=0.0, seed=3)
    data = galaxies.data[:, [1, 1, 1]]
    sky = data.min((-1, -2), keepdims=True)
    data = (data - sky) * np.array([0.4, 1.0, 1.6])[:, None, None]
    images = replace(galaxies.images, values=data)
    prepared = prepare(images)
    expected = -2.5 * math.log10(0.4), -2.5 * math.log10(1.6)
    for name, value in zip(("blue", "red"), expected, strict=True):
        color = scalar(prepared, f"{name}_color")
        torch.testing.assert_close(color, torch.full((8,), value), atol=1e-3, rtol=0)
        assert scalar(prepared, f"{name}_gradient").abs().max() < 1e-3
        assert channel(prepared, name).abs().max() < 0.02
    counts = prepare(replace(images, calibrated=False))
    assert (scalar(counts, "blue_color") == 0).all()


def test_one_band_has_no_colors(galaxies):
    one = prepare(single(galaxies.data[:, 1:2], galaxies.r_eff))
    three = prepare(galaxies.images)
    for name in ("blue", "red"):
        assert (channel(one, name) == 0).all()
        assert (scalar(one, f"has_{name}") == 0).all()
        assert (scalar(three, f"has_{name}") == 1).all()
    torch.testing.assert_close(one.image[:, :3], three.image[:, :3])


def test_noise_is_measured(make):
    galaxies = make(16, shape=(64, 64), noise=0.3, seed=5)
    images = galaxies.images
    given = replace(images, noise=np.full((16, 3), 0.3))
    measured, known = (scalar(prepare(i), "log_snr") for i in (images, given))
    torch.testing.assert_close(measured, known, atol=0.08, rtol=0)
    half = given.noise.copy()
    half[::2] = np.nan
    mixed = scalar(prepare(replace(images, noise=half)), "log_snr")
    torch.testing.assert_close(mixed[1::2], known[1::2])
    torch.testing.assert_close(mixed[::2], measured[::2])


def test_psf(galaxies):
    images = galaxies.images
    assert (scalar(prepare(images), "has_psf") == 0).all()
    width = np.full((24, 3), 3.0)
    width[0] = np.nan
    prepared = prepare(replace(images, psf_fwhm=width))
    assert scalar(prepared, "has_psf").tolist() == [0] + [1] * 23
    expected = torch.from_numpy(np.log10(3.0 / images.r_eff[1:])).float()
    torch.testing.assert_close(scalar(prepared, "log_psf")[1:], expected)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_images_without_light_are_finite(value):
    prepared = prepare(single(np.full((2, 1, 20, 20), value), [3.0, 5.0]))
    assert torch.isfinite(prepared.image).all()
    assert torch.isfinite(prepared.scalars).all()


def test_models_carry_what_they_are_shown(galaxies, model, monkeypatch):
    """A constant that is changed in the code changes no answer of a shipped model."""
    options = {"bands": ("g", "r", "i"), "r_eff": galaxies.r_eff * u.pix}
    before = galml.spin(galaxies.data * u.nJy, **options)
    assert model.input_spec == INPUT
    stretch = INPUT.stretch | {"shape_softening": 0.5, "contrast_cells": 3}
    parameters = INPUT.parameters | {"sky_radius": 2.0, "wide_cells": 90}
    other = replace(INPUT, half_width=2.0, stretch=stretch, parameters=parameters)
    monkeypatch.setattr(preparation, "INPUT", other)
    after = galml.spin(galaxies.data * u.nJy, **options)
    np.testing.assert_array_equal(before["spin"], after["spin"])
    change = prepare(galaxies.images, other).image - prepare(galaxies.images).image
    assert change.abs().mean() > 0.1


def zoo():
    """Galaxies at the ends of what can be measured, in u, g, r, i and z."""
    y, x = np.indices((150, 150)) - 74.5
    radius = np.hypot(x, y) / 16
    disk = np.exp(-1.7 * radius)
    point = 1e4 * (radius < 0.05)
    spot = np.exp(-0.5 * ((x - 12) ** 2 + y**2) / 9)
    ring = 1.0 * ((radius > 0.4) & (radius < 1))
    edge = np.exp(-np.abs(x) / 16 - np.abs(y) / 0.5)
    noise = np.random.default_rng(0).normal(size=(9, 5, 150, 150))
    shapes = [
        disk,
        disk,
        disk + point,
        disk + 5 * (radius < 0.4) - 1.1 * ring,
        spot,
        ring + disk * (radius > 1),
        edge,
        0.01 * disk,
        -disk,
    ]
    colors = np.array([0.1, 0.4, 1, 1.5, 2])[:, None, None]
    data = 100 * np.array(shapes)[:, None] * colors
    data += noise * np.array([1, 1, 1e-5, 1, 1e-2, 1, 1, 9, 1])[:, None, None, None]
    data[1, :, :, 100:] = np.nan
    data[3, 1] += 300 * ((radius > 1) & (radius < 2))
    data[5, 1] *= 1e4
    data[6, 3] *= 1e4
    data[7, :, 60:] += 3
    data[8, :, 10:14, 20:24] += 1e5
    width = np.full((9, 5), 4.0)
    width[1], width[2], width[3] = 1e-3, 1e4, np.nan
    r_eff = np.full(9, 16.0)
    r_eff[7] = 0.04
    options = {"bands": tuple("ugriz"), "r_eff": r_eff * u.pix}
    source = read_images(data * u.nJy, psf_fwhm=width * u.pix, **options)
    (images,) = source.members
    images.noise[0] = 5e4
    return images


def test_every_number_of_the_input_counts():
    """None of those in the description is one that the code does not look at."""
    images = zoo()
    first = prepare(images)
    unseen = []
    for group in ("stretch", "parameters"):
        for name, value in getattr(INPUT, group).items():
            changed = getattr(INPUT, group) | {name: _other(name, value)}
            second = prepare(images, replace(INPUT, **{group: changed}))
            pairs = zip(first.inputs.values(), second.inputs.values(), strict=True)
            if all(torch.equal(a, b) for a, b in pairs):
                unseen.append(name)
    assert unseen == []


def _other(name, value):
    """Another value of a number of the input."""
    if name in ("contrast_cells", "color_cells", "noise_lag"):
        return value + 2
    if name == "noise_rounds":
        return 0
    if name in ("nearest_band", "roundest_shape", "least_known", "least_shown"):
        return 0.5
    if name.endswith("_wavelength"):
        return {"reference": 0.7, "blue": 0.3, "red": 0.95}[name.partition("_")[0]]
    return value * (1.7 if name == "ratio_light" else 0.6)


def test_bands_shown():
    assert bands_shown((0.470, 0.617, 0.749)) == (1, 0, 2)
    assert bands_shown((0.356, 0.470, 0.617, 0.749, 0.895)) == (2, 1, 3)
    assert bands_shown((0.804,)) == (0, None, None)
