# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core.exceptions import InputError
from galml.mocks import star_images


def test_images_show_the_same_galaxies():
    options = {"seed": 5, "noisy": False, "n_pixels": 64}
    images = list(star_images(2, 2000, first=4, **options))
    for picture, truth in images:
        assert picture.data.shape == (1, 3, 64, 64)
        assert picture.bands == ("g", "r", "i")
        assert torch.isfinite(picture.data).all()
        # Images are eight half-light radii wide.
        assert truth["r_eff_pixels"] == pytest.approx(8, rel=1e-3)
        scale = float(picture.pixel_scale)
        assert truth["r_eff"] / scale == pytest.approx(truth["r_eff_pixels"])
        assert 0 <= truth["inclination"] <= 90
    alone, truth = next(star_images(1, 2000, first=5, **options))
    torch.testing.assert_close(alone.data, images[1][0].data, rtol=1e-4, atol=1e-2)
    assert truth == pytest.approx(images[1][1], rel=1e-5)
    _, other = next(star_images(1, 2000, first=5, view=1, **options))
    assert other["position_angle"] != pytest.approx(truth["position_angle"], abs=0.1)
    # Few young stars make most of the light: enough of them for a round image.
    flat, face_on = next(star_images(1, 40_000, inclination=0, **options))
    _, edge_on = next(star_images(1, 40_000, inclination=90, **options))
    assert face_on["inclination"] == pytest.approx(0, abs=0.1)
    assert edge_on["inclination"] == pytest.approx(90, abs=0.1)
    assert face_on["ellipticity"] < 0.2 < edge_on["ellipticity"]
    assert flat.data.sum() > 0
    with pytest.raises(InputError, match="inclination"):
        next(star_images(1, inclination=100))
