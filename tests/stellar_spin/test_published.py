# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch

from galml.cutouts import sdss_rgb
from galml.stellar_spin import published
from galml.stellar_spin.images import GalaxyImage


def image(values, wavelength, **options):
    options = {"calibrated": True, "pixel_scale": 0.396} | options
    count = len(values)
    return GalaxyImage(
        values=values.astype(np.float32),
        wavelength=wavelength,
        r_eff=10.0,
        noise=np.full(count, np.nan),
        psf_fwhm=np.full(count, np.nan),
        center=np.full(2, np.nan),
        **options,
    )


@pytest.fixture
def light():
    y, x = np.indices((90, 90)) - 44.5
    disk = np.exp(-np.hypot(x, y) / 8)
    return 100 * disk * np.array([0.5, 1.0, 1.3])[:, None, None]


def test_field_of_view(light):
    width = torch.zeros(1, 3, 90, 90)
    # 8.48 effective radii are 84.8 pixels: 42.4 on each side of the center at 44.5.
    width[..., 3:87] = 1
    cut = published.prepare(width, torch.tensor([10.0])).image
    assert cut.shape == (1, 3, 80, 80)
    assert (cut[..., 1:79] == 1).all()
    assert 0.3 < cut[0, 0, 40, 0] < 0.8
    moved = published.prepare(width, torch.tensor([10.0]), torch.tensor([[50.0, 44.5]]))
    assert (moved.image[..., -5:] == 0).all()


def test_colors_of_bands(light):
    gri = (0.475, 0.62, 0.752)
    found = published.prepare_images([image(light, gri)]).image[0].numpy()
    expected = sdss_rgb(light * u.nJy, pixel_scale=0.396 * u.arcsec)
    expected = expected[41:49, 41:49].mean((0, 1))
    np.testing.assert_allclose(found[:, 36:44, 36:44].mean((1, 2)), expected, rtol=0.1)
    shuffled = image(light[[2, 0, 1]], (0.752, 0.475, 0.62))
    again = published.prepare_images([shuffled]).image[0].numpy()
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_one_band_has_one_color(light):
    found = published.prepare_images([image(light[1:2], (0.62,))]).image[0].numpy()
    scales = np.array([4.9, 5.7, 7.8]) / 4.9
    np.testing.assert_allclose(found, found[:1] * scales[:, None, None], rtol=1e-4)
    assert found.max() > 0.1


def test_brightness_without_a_unit_is_typical(light):
    gri = (0.475, 0.62, 0.752)
    options = {"calibrated": False, "pixel_scale": np.nan}
    first, second = (
        published.prepare_images([image(factor * light, gri, **options)]).image
        for factor in (1e-3, 1e3)
    )
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    assert 0.2 < first.max() <= 1


def test_own_colors_are_kept(light):
    colors = np.random.default_rng(0).random((3, 90, 90)).astype(np.float32)
    own = image(light, (0.752, 0.62, 0.475), colors=colors)
    found = published.prepare_images([own]).image
    expected = published.prepare(torch.from_numpy(colors)[None], torch.tensor([10.0]))
    torch.testing.assert_close(found, expected.image)
