# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch

import galml
from galml.cutouts import sdss_rgb
from galml.imaging import read_images
from galml.stellar_spin import published
from galml.stellar_spin.published import INPUT, color_images, prepare

GRI = ("g", "r", "i")
SCALE = 0.396 * u.arcsec


def images(values, bands=GRI, unit=u.nJy, pixel_scale=SCALE):
    known = {"bands": bands, "r_eff": 10 * u.pix, "pixel_scale": pixel_scale}
    (read,) = read_images(values[None] * unit, **known).members
    return read


@pytest.fixture
def light():
    y, x = np.indices((90, 90)) - 44.5
    disk = np.exp(-np.hypot(x, y) / 8)
    return 100 * disk * np.array([0.5, 1.0, 1.3])[:, None, None]


def test_field_of_view(light):
    seen = images(light)
    colors = np.zeros((1, 3, 90, 90), np.float32)
    # 8.48 effective radii are 84.8 pixels: 42.4 on each side of the center at 44.5.
    colors[..., 3:87] = 1
    cut = prepare(replace(seen, colors=colors)).image
    assert cut.shape == (1, 3, 80, 80)
    assert (cut[..., 1:79] - 1).abs().max() < 1e-6
    assert 0.3 < cut[0, 0, 40, 0] < 0.8
    center = np.array([[50.0, 44.5]])
    moved = prepare(replace(seen, colors=colors, center=center)).image
    assert (moved[..., -5:] == 0).all()


def test_colors_of_bands(light):
    found = prepare(images(light)).image[0].numpy()
    expected = sdss_rgb(light * u.nJy, pixel_scale=SCALE)
    expected = expected[41:49, 41:49].mean((0, 1))
    np.testing.assert_allclose(found[:, 36:44, 36:44].mean((1, 2)), expected, rtol=0.1)
    shuffled = prepare(images(light[[2, 0, 1]], ("i", "g", "r"))).image[0].numpy()
    np.testing.assert_allclose(shuffled, found, atol=1e-6)


def test_one_band_has_one_color(light):
    found = prepare(images(light[1:2], ("r",))).image[0].numpy()
    scales = np.array([4.9, 5.7, 7.8]) / 4.9
    np.testing.assert_allclose(found, found[:1] * scales[:, None, None], rtol=1e-4)
    assert found.max() > 0.1


@pytest.mark.parametrize("known", [{"unit": u.adu}, {"pixel_scale": None}])
def test_brightness_that_is_not_known_is_typical(light, known):
    first, second = (prepare(images(f * light, **known)).image for f in (1e-3, 1e3))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    assert 0.2 < first.max() <= 1
    half = light.copy()
    half[1, :, 50:] = np.nan
    third = prepare(images(half, **known)).image
    assert torch.isfinite(third).all()


def test_own_colors_are_kept():
    colors = np.random.default_rng(0).integers(0, 255, (1, 90, 90, 3)).astype(np.uint8)
    (own,) = read_images(colors, r_eff=10 * u.pix).members
    np.testing.assert_allclose(
        np.moveaxis(color_images(own), 1, 3), colors / 255, atol=1e-6
    )


def test_many_images_are_prepared_as_each_is(light):
    values = light * np.linspace(0.5, 2, 70)[:, None, None, None]
    known = {"bands": GRI, "pixel_scale": SCALE}
    radii = np.linspace(8, 11, 70) * u.pix
    (many,) = read_images(values * u.nJy, r_eff=radii, **known).members
    together = prepare(many).image
    for row in (0, 40, 69):
        torch.testing.assert_close(prepare(many[[row]]).image[0], together[row])


def test_models_carry_what_they_are_shown(light, published_model, monkeypatch):
    options = {"bands": GRI, "r_eff": 10 * u.pix, "pixel_scale": SCALE}
    options["model"] = published_model
    before = galml.spin(light * u.nJy, **options)
    other = replace(INPUT, half_width=2.0, stretch=INPUT.stretch | {"typical": 1.0})
    monkeypatch.setattr(published, "INPUT", other)
    after = galml.spin(light * u.nJy, **options)
    assert before["spin"] == after["spin"]
    wide, narrow = (prepare(images(light), spec).image for spec in (INPUT, other))
    assert (wide - narrow).abs().max() > 0.03
