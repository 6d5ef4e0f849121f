# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.stellar_spin.mock_data import mock_data_set
from galml.stellar_spin.preparation import INPUT


def scalar(data, name):
    return data["scalars"][:, INPUT.scalars.index(name)]


@pytest.fixture(scope="module")
def mocks():
    options = {"batch_size": 12, "n_particles": 500, "n_pixels": 32}
    return mock_data_set(
        2, seed=5, published_images=True, bands=("g", "r", "i"), **options
    )


def test_mock_data_set(mocks):
    assert mocks["image"].shape == (24, len(INPUT.channels), 48, 48)
    assert mocks["image"].dtype == mocks["colors"].dtype == torch.float16
    assert mocks["scalars"].shape == (24, len(INPUT.scalars))
    assert mocks["colors"].shape == (24, 3, 80, 80)
    assert 0 <= mocks["colors"].min() and mocks["colors"].max() <= 1
    for key in ("spin", "ellipticity"):
        assert 0 <= mocks[key].min() < mocks[key].max() <= 1
    for key, value in mocks.items():
        assert len(value) == 24 and torch.isfinite(value).all(), key
    size = scalar(mocks, "log_pixels") - mocks["r_eff_pixels"].log10()
    assert 0.02 < size.std() < 0.08


def test_mock_batches_depend_on_their_index_alone(mocks):
    options = {"batch_size": 12, "n_particles": 500, "n_pixels": 32}
    later = mock_data_set(1, seed=5, first=1, bands=("g", "r", "i"), **options)
    for key, value in later.items():
        torch.testing.assert_close(value, mocks[key][12:], atol=1e-3, rtol=1e-3)


def test_mocks_in_one_band():
    options = {"batch_size": 4, "n_particles": 300, "n_pixels": 24}
    data = mock_data_set(2, seed=1, bands=(("r",), ("i",)), **options)
    assert (scalar(data, "has_blue") == 0).all()
    assert (scalar(data, "has_red") == 0).all()


def test_mocks_in_color_images():
    options = {"batch_size": 24, "n_particles": 500, "n_pixels": 48}
    data = mock_data_set(2, seed=3, color_images=1.0, **options)
    assert (data["survey"] == 0).all()
    # Some are too faint for people to look at.
    number = len(data["spin"])
    assert 16 < number < 48
    for key, value in data.items():
        assert len(value) == number and torch.isfinite(value).all(), key
    scalars = dict(zip(INPUT.scalars, data["scalars"].T, strict=True))
    assert (scalars["has_blue"] * scalars["has_red"] == 1).all()
    assert 0 < scalars["has_psf"].mean() < 0.5
    enlarged = 10 ** scalars["log_pixels"] / data["r_eff_pixels"]
    assert enlarged.max() > 2
    # Radii that are measured on a black sky are further off than known ones.
    assert enlarged[:24].log().std() > 0.1
