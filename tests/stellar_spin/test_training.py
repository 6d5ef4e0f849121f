# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.stellar_spin.network import SpinNet
from galml.stellar_spin.preparation import CHANNELS, SCALARS, prepare
from galml.stellar_spin.training import (
    BLUE,
    PSF,
    RED,
    augment,
    augment_published,
    mock_data_set,
    published_loss,
    spin_loss,
)


@pytest.fixture(scope="module")
def batch(galaxies):
    prepared = prepare(galaxies.stamps)
    return {
        "image": prepared.image.repeat(40, 1, 1, 1),
        "scalars": prepared.scalars.repeat(40, 1) + 0.125,
        "spin": torch.rand(960),
    }


def test_augment_forgets_and_mirrors(batch):
    before = {key: value.clone() for key, value in batch.items()}
    result = augment(batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert result["spin"] is batch["spin"]
    for names, channel, share in (
        (BLUE, "blue", 0.21),
        (RED, "red", 0.21),
        (PSF, None, 0.3),
    ):
        gone = (result["scalars"][:, [SCALARS.index(n) for n in names]] == 0).all(1)
        assert gone.float().mean() == pytest.approx(share, abs=0.05)
        if channel:
            image = result["image"][:, CHANNELS.index(channel)]
            assert (image[gone] == 0).all() and (image[~gone] != 0).any()
    shape, old = result["image"][:, 0], batch["image"][:, 0]
    for axes in ((), (-1,), (-2,), (-1, -2)):
        same = (shape == (old.flip(axes) if axes else old)).flatten(1).all(1)
        assert same.float().mean() == pytest.approx(0.25, abs=0.05)


def test_augment_is_seeded(batch):
    first, second, third = (
        augment(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], third["image"])


def test_published_augmentation():
    y, x = (torch.arange(80) - 39.5).abs()[:, None], (torch.arange(80) - 39.5).abs()
    spot = torch.exp(-((x / 12) ** 2) - (y / 4) ** 2).expand(200, 3, 80, 80)
    moved = augment_published({"image": spot}, torch.Generator().manual_seed(0))[
        "image"
    ]
    light = moved[:, 0]
    total = light.sum((1, 2))
    step = torch.arange(80) - 39.5
    middle = [(light * axis).sum((1, 2)) / total for axis in (step, step[:, None])]
    for offset in middle:
        assert offset.abs().max() < 8 and offset.std() > 1
    area = total / spot[0, 0].sum()
    assert 0.5 < area.min() < 0.75 and 1.3 < area.max() < 1.9


def test_losses_ignore_unknown_truths(batch):
    network = SpinNet(widths=(4, 4, 4, 4)).eval()
    few = {key: value[:8] for key, value in batch.items()}
    few["ellipticity"] = torch.full((8,), torch.nan)
    full = spin_loss(network, few)
    assert all(torch.isfinite(value) for value in full.values())
    assert full["ellipticity"] == 0
    few["spin"] = few["spin"].clone()
    few["spin"][4:] = torch.nan
    half = spin_loss(network, few)
    expected = spin_loss(network, {key: value[:4] for key, value in few.items()})
    assert half["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)


def test_spin_loss_is_least_for_the_truth():
    centers = (np.arange(40) + 0.5) / 40

    def loss(spin, width):
        logits = torch.tensor(-0.5 * ((centers - spin) / width) ** 2)[None].float()
        outputs = {"spin": logits, "ellipticity": torch.zeros(1, 2)}
        truth = {"spin": torch.tensor([0.4]), "ellipticity": torch.tensor([0.5])}
        return spin_loss(lambda batch: outputs, truth)["loss"]

    assert loss(0.4, 0.03) < loss(0.4, 0.1) < loss(0.6, 0.1) < loss(0.6, 0.03)


def test_published_loss():
    truth = {"spin": torch.tensor([0.2, 0.6])}
    guess = {"spin": torch.tensor([0.3, 0.3])}
    value = published_loss(lambda batch: guess, truth)["loss"]
    assert value.item() == pytest.approx(0.05)


@pytest.fixture(scope="module")
def mocks():
    options = {"batch_size": 12, "n_particles": 500, "n_pixels": 32}
    return mock_data_set(2, seed=5, colors=True, bands=("g", "r", "i"), **options)


def test_mock_data_set(mocks):
    assert mocks["image"].shape == (24, len(CHANNELS), 48, 48)
    assert mocks["image"].dtype == mocks["colors"].dtype == torch.float16
    assert mocks["scalars"].shape == (24, len(SCALARS))
    assert mocks["colors"].shape == (24, 3, 80, 80)
    assert 0 <= mocks["colors"].min() and mocks["colors"].max() <= 1
    for key in ("spin", "ellipticity"):
        assert 0 <= mocks[key].min() < mocks[key].max() <= 1
    for key, value in mocks.items():
        assert len(value) == 24 and torch.isfinite(value).all(), key
    size = (
        mocks["scalars"][:, SCALARS.index("log_pixels")] - mocks["r_eff_pixels"].log10()
    )
    assert 0.02 < size.std() < 0.08


def test_mock_batches_depend_on_their_index_alone(mocks):
    options = {"batch_size": 12, "n_particles": 500, "n_pixels": 32}
    later = mock_data_set(1, seed=5, first=1, bands=("g", "r", "i"), **options)
    for key, value in later.items():
        torch.testing.assert_close(value, mocks[key][12:], atol=1e-3, rtol=1e-3)


def test_mocks_in_one_band():
    options = {"batch_size": 4, "n_particles": 300, "n_pixels": 24}
    data = mock_data_set(2, seed=1, bands=(("r",), ("i",)), **options)
    assert (data["scalars"][:, SCALARS.index("has_blue")] == 0).all()
    assert (data["scalars"][:, SCALARS.index("has_red")] == 0).all()


def test_mocks_in_color_images():
    options = {"batch_size": 24, "n_particles": 500, "n_pixels": 48}
    data = mock_data_set(2, seed=3, pictures=1.0, **options)
    assert (data["survey"] == 0).all()
    for key, value in data.items():
        assert len(value) == 48 and torch.isfinite(value).all(), key
    scalars = dict(zip(SCALARS, data["scalars"].T, strict=True))
    assert (scalars["has_blue"] * scalars["has_red"] == 1).all()
    assert 0 < scalars["has_psf"].mean() < 0.5
    enlarged = 10 ** scalars["log_pixels"] / data["r_eff_pixels"]
    assert enlarged.max() > 2
    # Radii that are measured on a black sky are further off than known ones.
    assert enlarged[:24].log().std() > 0.1
