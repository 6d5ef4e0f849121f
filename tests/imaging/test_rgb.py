# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest

from galml.cutouts import sdss_rgb
from galml.imaging.rgb import is_color_file, is_rgb, linear_images, read_color_file


@pytest.mark.parametrize("kind, rtol", [(np.float64, 1e-5), (np.float32, 1e-4)])
def test_undoes_the_colors_of_sdss(kind, rtol):
    rng = np.random.default_rng(0)
    light = rng.uniform(20, 120, (2, 3, 8, 8))
    colors = sdss_rgb(light * u.nJy, bands=(0, 1, 2), pixel_scale=0.396 * u.arcsec)
    assert 0 < colors.min() and colors.max() < 1
    found = linear_images(np.moveaxis(colors, -1, 1).astype(kind))
    assert found.dtype == kind
    np.testing.assert_allclose(found, light, rtol=rtol)


def test_black_is_nothing():
    assert (linear_images(np.zeros((3, 2, 2))) == 0).all()


def test_is_rgb():
    image = np.zeros((5, 6, 3), np.uint8)
    assert is_rgb(image) and is_rgb(image[None], 4)
    assert not is_rgb(image.astype(float)) and not is_rgb(image[..., 0])
    assert not is_rgb(image[None]) and not is_rgb("a.png")


def test_is_color_file():
    assert is_color_file("a/b.JPG") and is_color_file("b.png")
    assert not is_color_file("a.fits") and not is_color_file("jpg")


def test_files_have_y_upward(tmp_path):
    image = pytest.importorskip("PIL.Image")
    data = np.zeros((4, 6, 3), np.uint8)
    data[0] = 200
    image.fromarray(data).save(tmp_path / "a.png")
    read = read_color_file(tmp_path / "a.png")
    assert (read[-1] == 200).all() and (read[:-1] == 0).all()
