# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest

from galml.core.exceptions import InputError
from galml.cutouts import sdss_rgb
from galml.stellar_spin.bands import wavelengths
from galml.stellar_spin.rgb import is_rgb, linear_images, read_picture


def test_undoes_the_colors_of_sdss():
    rng = np.random.default_rng(0)
    light = rng.uniform(20, 120, (2, 3, 8, 8))
    colors = sdss_rgb(light * u.nJy, bands=(0, 1, 2), pixel_scale=0.396 * u.arcsec)
    assert 0 < colors.min() and colors.max() < 1
    found = linear_images(np.moveaxis(colors, -1, 1))
    np.testing.assert_allclose(found, light, rtol=1e-5)


def test_black_is_nothing():
    assert (linear_images(np.zeros((3, 2, 2))) == 0).all()


def test_is_rgb():
    image = np.zeros((5, 6, 3), np.uint8)
    assert is_rgb(image)
    assert not is_rgb(image.astype(float)) and not is_rgb(image[..., 0])


def test_read_picture_has_y_upwards(tmp_path):
    image = pytest.importorskip("PIL.Image")
    data = np.zeros((4, 6, 3), np.uint8)
    data[0] = 200
    image.fromarray(data).save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert (read[-1] == 200).all() and (read[:-1] == 0).all()


@pytest.mark.parametrize(
    "names, expected",
    [
        (("g", "r", "i"), (0.470, 0.617, 0.749)),
        (("SDSS_r", "acs.f814w"), (0.617, 0.804)),
        (("R", "VIS"), (0.65, 0.715)),
    ],
)
def test_wavelengths(names, expected):
    assert wavelengths(names) == expected


@pytest.mark.parametrize("names", [("x",), ("",), ("g", "g")])
def test_bad_bands(names):
    with pytest.raises(InputError, match="^bands: got"):
        wavelengths(names)
