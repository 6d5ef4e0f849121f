# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.testing import assert_allclose

import galml
from galml.core import Flag, GalmlWarning
from galml.core.exceptions import InputError
from galml.core.weights import load_model
from galml.stars import images as stars_images
from galml.stars.encoder import ENCODERS
from galml.stars.images import INPUT, encode_images, prepare_images

COLORS = np.array([0.5, 1.0, 1.4])[:, None, None]


def image(pixels=96, r_eff=9.0, colors=COLORS, brightness=1.0, bands="g,r,i"):
    """An exponential galaxy in nJy."""
    y, x = np.mgrid[:pixels, :pixels] - (pixels - 1) / 2
    light = np.exp(-1.678 * np.hypot(x, y * 1.5) / r_eff)
    return CCDData(
        brightness * light * colors,
        unit=u.nJy,
        meta={"BANDS": bands, "R_EFF": r_eff * 0.3, "PIXSCALE": 0.3},
    )


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return ENCODERS["small"]().eval()


def test_shape_and_range():
    prepared, errors = prepare_images([image(), image(64)])
    assert prepared.shape == (2, 3, 64, 64)
    assert prepared.dtype == torch.float32
    assert not errors
    assert 0 <= prepared.min() and prepared.max() <= 1
    assert prepared[0, 1].max() > 0.5
    # Redder bands are brighter here.
    assert (prepared[0, 2] > prepared[0, 0]).float().mean() > 0.9


def test_pixels_and_brightness_do_not_matter():
    coarse, fine = image(96, 9.0), image(192, 18.0, brightness=1e-3)
    prepared, _ = prepare_images([coarse, fine])
    assert_allclose(prepared[0], prepared[1], atol=0.02)
    for brightness in (1e-6, 1e-200, 1e200):
        other, _ = prepare_images([image(brightness=brightness)])
        assert_allclose(other[0], prepared[0], atol=1e-5)


def test_field_follows_the_size():
    small, large = prepare_images([image(192, 9.0), image(192, 18.0)])[0]
    assert_allclose(small, large, atol=0.02)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_latents_know_no_direction(encoder, turns, mirror):
    lopsided = image()
    lopsided.data *= (
        1 + np.linspace(-0.8, 0.8, 96) * np.linspace(-0.2, 0.9, 96)[:, None]
    )
    turned = lopsided.copy()
    turned.data = np.rot90(lopsided.data, turns, (1, 2))
    if mirror:
        turned.data = turned.data[:, :, ::-1]
    (first, second), _ = encode_images([lopsided, turned], encoder)
    assert_allclose(second, first, rtol=1e-5, atol=1e-6)
    # The encoder by itself does know.
    shown = prepare_images([lopsided, turned])[0]
    with torch.no_grad():
        alone = encoder.encode(shown)
    changed = turns or mirror
    assert ((alone[1] - alone[0]).abs().max() > 1e-5) == bool(changed)


def test_order_of_bands():
    swapped = image(colors=COLORS[::-1], bands="i,r,g")
    prepared, _ = prepare_images([image(), swapped])
    assert_allclose(prepared[0], prepared[1], atol=1e-6)


def test_nearest_bands():
    single = image(colors=np.ones((1, 1, 1)), bands="F814W")
    prepared, _ = prepare_images([single])
    assert_allclose(prepared[0, 0], prepared[0, 2])


def test_missing_and_bad_images():
    prepared, errors = prepare_images([image(), None, "nothing.fits", image()])
    known = ~prepared.isnan().flatten(1).any(1)
    assert known.tolist() == [True, False, False, True]
    assert list(errors) == [2]
    assert torch.equal(prepared[0], prepared[3])


def test_table_and_stack():
    data = np.stack([image().data] * 2)
    stack = galml.cutouts.CutoutStack(
        data * u.nJy,
        bands=("g", "r", "i"),
        pixel_scale=[0.3, 0.3] * u.arcsec,
        catalog=QTable({"r_eff": [2.7, 2.7] * u.arcsec}),
    )
    expected, _ = prepare_images([image()])
    prepared, errors = prepare_images(stack)
    assert not errors
    assert_allclose(prepared[1], expected[0], atol=1e-6)
    column = np.empty(2, dtype=object)
    column[:] = [image(), image()]
    prepared, _ = prepare_images(QTable({"image": column}))
    assert_allclose(prepared[1], expected[0], atol=1e-6)


def test_plain_arrays():
    expected, _ = prepare_images([image()])
    for table in (
        QTable({"image": np.stack([image().data] * 2)}),
        QTable({"image": np.stack([image().data] * 2) * u.nJy}),
    ):
        prepared, errors = prepare_images(table)
        assert not errors
        # The size is measured.
        assert_allclose(prepared[1], expected[0], atol=0.1)


def test_alike_arrays_are_read_as_one():
    rng = np.random.default_rng(0)
    data = [image(brightness=b).data + rng.normal(0, 1e-3, (3, 96, 96)) for b in (1, 5)]
    together, _ = prepare_images([one * u.nJy for one in data])
    alone = [prepare_images([one * u.nJy])[0][0] for one in data]
    assert_allclose(together, torch.stack(alone), atol=1e-6)
    mixed, errors = prepare_images([data[0] * u.nJy, np.zeros((3, 96, 96)), None])
    assert_allclose(mixed[0], alone[0], atol=1e-6)
    assert list(errors) == [1] and mixed[1:].isnan().all()


def test_what_an_encoder_is_shown_is_in_its_model(monkeypatch):
    spec = load_model("default", "stars").input_spec
    assert replace(spec, scalars=()) == INPUT
    before, _ = prepare_images([image()], input_spec=spec)
    stretch = {"softening": 1.0, "brightest": 2.0}
    monkeypatch.setattr(stars_images, "INPUT", replace(INPUT, stretch=stretch))
    after, _ = prepare_images([image()], input_spec=spec)
    assert torch.equal(before, after)
    other, _ = prepare_images([image()], input_spec=stars_images.INPUT)
    assert (other - before).abs().max() > 0.1
    wide, _ = prepare_images([image()], input_spec=replace(INPUT, grid=(32, 32)))
    assert wide.shape == (1, 3, 32, 32)


def test_encoder(encoder):
    latent, errors = encode_images([image(), None, image(192, 18.0)], encoder)
    assert latent.shape == (3, 16)
    assert np.isnan(latent[1]).all()
    assert not errors
    assert_allclose(latent[0], latent[2], atol=0.05)
    assert np.isnan(encode_images([None], encoder)[0]).all()


def test_stars_of_an_image(galaxies, make_model):
    model = make_model(latent=16, encoder="small")
    galaxies["image"] = np.array([image(), None, "nothing.fits"], dtype=object)
    with pytest.warns(GalmlWarning, match="1 of 3"):
        stars = galml.sample_stars(galaxies, 3, model=model, seed=1, device="cpu")
    assert stars["flags"].tolist() == [0] * 6 + [int(Flag.FAILED)]
    latent, _ = encode_images([image()], model.network.encoder)
    galaxies["latent"] = np.full((3, 16), np.nan)
    galaxies["latent"][0] = latent[0]
    del galaxies["image"]
    same = galml.sample_stars(galaxies, 3, model=model, seed=1, device="cpu")
    assert_allclose(stars["x"][:6].value, same["x"][:6].value, atol=1e-4)
    galaxies["latent"][0] = np.nan
    other = galml.sample_stars(galaxies, 3, model=model, seed=1, device="cpu")
    change = stars["x"][:3].value - other["x"][:3].value
    assert np.abs(change).max() > 1e-3 * np.abs(stars["x"][:3].value).max()
    assert_allclose(stars["x"][3:6].value, other["x"][3:6].value, atol=1e-4)


def test_only_galaxy_with_a_bad_image(galaxies, make_model):
    model = make_model(latent=16, encoder="small")
    galaxies = galaxies[:1]
    galaxies["image"] = np.array([np.zeros((3, 64, 64))])
    with pytest.raises(InputError):
        galml.sample_stars(galaxies, 3, model=model, seed=1, device="cpu")


def test_models_without_images_do_not_look(galaxies, model):
    galaxies["image"] = ["nothing.fits"] * 3
    assert len(galml.sample_stars(galaxies, 3, model=model)) == 9
