# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

import galml
from galml.core import (
    Flag,
    GalmlWarning,
    InputError,
    InputSpec,
    ModelError,
    decode_flags,
)
from galml.cutouts import CutoutStack
from galml.morphology import from_encoder

KNOWN = {"r_eff": 10 * u.pix}


@pytest.fixture
def noisy(disk):
    noise = np.random.default_rng(1).normal(size=(96, 96))
    return 1e3 * disk(0.6) + noise


def test_columns(noisy, untrained):
    table = galml.latents(noisy, model=untrained, **KNOWN)
    assert isinstance(table, QTable) and len(table) == 1
    assert table.colnames == [
        "latent",
        "latent_err",
        "pose",
        "reconstruction_error",
        "ssim",
        "flags",
    ]
    assert table["latent"].shape == (1, 32) and table["pose"].shape == (1, 8)
    assert all(np.isfinite(table[name]).all() for name in table.colnames)


def test_surroundings(noisy, surrounded, disk):
    table = galml.latents(noisy, model=surrounded, **KNOWN)
    assert table["latent"].shape == (1, 48) and table.meta["NAROUND"] == 16
    other = galml.latents(np.rot90(noisy)[:, ::-1], model=surrounded, **KNOWN)
    np.testing.assert_allclose(other["latent"], table["latent"], atol=1e-5)
    # What lies six effective radii away changes the last latents alone.
    y, x = np.indices(noisy.shape)
    far = np.hypot(y - 47.5, x - 47.5 - 18) < 3
    near = galml.latents(
        noisy + 10 * noisy.max() * far, model=surrounded, r_eff=3 * u.pix
    )
    alone = galml.latents(noisy, model=surrounded, r_eff=3 * u.pix)
    change = np.abs(near["latent"] - alone["latent"])[0]
    assert change[:32].max() < 0.3 * change[32:].max()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_and_mirrored_images_have_the_same_latents(
    noisy, untrained, turns, mirror
):
    other = np.rot90(noisy, turns)
    other = other[:, ::-1] if mirror else other
    tables = [galml.latents(one, model=untrained, **KNOWN) for one in (noisy, other)]
    first, second = (table["latent"] for table in tables)
    np.testing.assert_allclose(first, second, atol=1e-5)
    first, second = (np.abs(table["pose"]) for table in tables)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_flux_scale_and_sky_do_not_count(noisy, untrained):
    first = galml.latents(noisy, model=untrained, **KNOWN)["latent"]
    for other in (noisy + 1e4, 1e-20 * noisy, 1e20 * noisy - 1e21):
        second = galml.latents(other, model=untrained, **KNOWN)["latent"]
        np.testing.assert_allclose(first, second, atol=2e-3)


def test_units_do_not_count_in_one_band(noisy):
    """The training has seen none that are unknown."""
    tables = [galml.latents(noisy, unit=unit, **KNOWN) for unit in ("nJy", "adu", None)]
    for table in tables[1:]:
        np.testing.assert_allclose(table["latent"], tables[0]["latent"], atol=1e-5)
    assert ["no_unit" in decode_flags(table["flags"][0]) for table in tables] == [
        False,
        False,
        True,
    ]


def test_a_band_that_nobody_tells_is_assumed(noisy):
    tables = [galml.latents(noisy, bands=bands, **KNOWN) for bands in (None, ["r"])]
    np.testing.assert_array_equal(tables[0]["latent"], tables[1]["latent"])
    assert tables[0]["flags"][0] - tables[1]["flags"][0] == Flag.BAND_ASSUMED


def test_usual_colors_in_unknown_units(noisy, disk):
    """Of a galaxy with such colors, the unit changes little; of others, no more."""
    images = np.stack([0.6 * noisy, noisy, 1.3 * noisy])
    other = np.stack([0.2 * noisy, noisy, 3 * noisy])
    kinds = [
        galml.latents(one, bands=("g", "r", "i"), unit=unit, **KNOWN)
        for one, unit in ((images, "nJy"), (images, "adu"), (other, "adu"))
    ]
    usual, unknown, red = (table["latent"] for table in kinds)
    np.testing.assert_allclose(unknown, red, atol=0.05)
    round_disk = galml.latents(1e3 * disk(1.0), unit="nJy", **KNOWN)["latent"]
    change = np.linalg.norm(unknown - usual)
    assert change < 0.3 * np.linalg.norm(round_disk - usual)


def test_bad_rows_are_flagged(noisy, untrained):
    images = np.stack([noisy, np.full_like(noisy, np.nan), noisy])[:, None]
    with pytest.warns(GalmlWarning, match="1 of 3"):
        table = galml.latents(images, model=untrained, **KNOWN)
    assert np.isnan(table["latent"][1]).all()
    assert "failed" in decode_flags(table["flags"])[1]
    np.testing.assert_allclose(table["latent"][0], table["latent"][2], atol=1e-5)
    with pytest.raises(InputError, match="cutouts"):
        galml.latents(images[1, 0], model=untrained, **KNOWN)


def test_reconstructions_are_on_the_pixels_of_the_images(noisy, untrained):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = -1e-4, 1e-4
    image = CCDData(noisy[:90], unit="mJy", wcs=wcs, meta={"BAND": "r", "OBJECT": "A"})
    again = galml.reconstruct(image, model=untrained, **KNOWN)
    assert again.shape == (90, 96) and again.unit == u.mJy
    assert again.wcs.wcs.compare(wcs.wcs)
    assert again.meta["OBJECT"] == "A" and again.meta["MODEL"] == "untrained"
    assert again.meta["MODELSHA"] == untrained.sha256
    assert np.isfinite(again.data).all()


def test_beyond_what_is_drawn_is_the_sky_of_the_image(noisy, untrained):
    """A halo beyond the square counts as sky of the network, and of nothing else."""
    y, x = np.indices((200, 200)) - 99.5
    image = np.pad(noisy, 52) + 30 / (1 + np.hypot(x, y) / 20) ** 3
    again = galml.reconstruct(image, model=untrained, r_eff=6 * u.pix)
    far = np.hypot(x, y) > 40
    assert (again.data[far] == again.data[0, 0]).all()
    assert again.data[0, 0] == pytest.approx(np.median(image[far]), rel=0.1)


def test_what_is_drawn_is_turned_back(untrained, monkeypatch, disk):
    """Where the network draws what it is shown, the image comes back."""
    from galml.morphology.preparation import drawn

    def identity(inputs):
        return outputs(inputs) | {"planes": drawn(inputs["image"])}

    outputs = untrained.network.forward
    monkeypatch.setattr(untrained.network, "forward", identity)
    for angle in (0, 30, 140):
        bands = np.stack([f * disk(0.5, angle, center=(3, -2)) for f in (1, 2, 4, 0.5)])
        image = CCDData(1e3 * bands + 7, unit="nJy", meta={"BANDS": "g,r,i,u"})
        again = galml.reconstruct(image, model=untrained, **KNOWN)
        assert again.shape == (4, 96, 96)
        # Within the square that is seen, away from its corners.
        y, x = np.indices((96, 96)) - 47.5
        inside = np.hypot(x, y) < 30
        error = np.abs(again.data - image.data)[:, inside]
        peak = image.data.max((1, 2))[:, None]
        assert (error / peak).max() < 0.2 and np.median(error / peak) < 0.005


def test_latents_are_drawn(noisy, untrained):
    table = galml.latents(np.stack([noisy, noisy])[:, None], model=untrained, **KNOWN)
    table["latent"][1] = np.nan
    images = galml.reconstruct(table, model=untrained)
    assert images[0].shape == (3, 64, 64) and images[1] is None
    alone = galml.reconstruct(QTable({"latent": table["latent"]}), model=untrained)
    assert not np.allclose(alone[0].data, images[0].data)
    for wrong in (np.zeros((2, 5)), [["a", "b"]], table["latent"][0]):
        with pytest.raises(InputError, match="latent"):
            galml.reconstruct({"latent": wrong}, model=untrained)
    row = galml.reconstruct(table[0], model=untrained)
    np.testing.assert_allclose(row.data, images[0].data, atol=1e-6)
    both = {"latent": table["latent"], "pose": table["pose"]}
    assert galml.reconstruct(both, model=untrained)[1] is None
    with pytest.raises(InputError, match="cutouts: got 0 rows with latents"):
        galml.reconstruct(table[1], model=untrained)
    assert galml.reconstruct(table[:0], model=untrained) == []
    table.meta["MODELSHA"] = "0" * 64
    with pytest.raises(InputError, match="adapted"):
        galml.reconstruct(table, model=untrained)


def test_models_that_draw_nothing(noisy):
    spec = InputSpec(grid=(8, 8), bands=("r",))
    model = from_encoder(torch.nn.Flatten(), spec)
    with pytest.raises(ModelError, match="^the model: draws no images"):
        galml.reconstruct(noisy, model=model)


def test_lost_images_are_none(noisy, untrained):
    images = np.stack([noisy, np.zeros_like(noisy)])[:, None]
    with pytest.warns(GalmlWarning, match="1 of 2"):
        result = galml.reconstruct(images, model=untrained, **KNOWN)
    assert result[0].shape == (96, 96) and result[1] is None


def test_stacks_and_lists_are_the_same(noisy, untrained):
    stack = CutoutStack(
        np.stack([[noisy, 2 * noisy]] * 2) * u.nJy,
        bands=("g", "r"),
        pixel_scale=0.4 * u.arcsec,
    )
    first = galml.latents(stack, model=untrained, r_eff=4 * u.arcsec)
    second = galml.latents(list(stack), model=untrained, r_eff=4 * u.arcsec)
    np.testing.assert_allclose(first["latent"], second["latent"], atol=1e-5)
    images = galml.reconstruct(stack, model=untrained, r_eff=4 * u.arcsec)
    assert [one.shape for one in images] == [(2, 96, 96)] * 2
    assert images[0].unit == u.nJy


def test_color_pictures(noisy, untrained):
    picture = np.clip(noisy[..., None] / 4 * [1.0, 0.8, 0.5], 0, 255).astype(np.uint8)
    table = galml.latents(picture, model=untrained)
    assert np.isfinite(table["latent"]).all()
    again = galml.reconstruct(picture, model=untrained)
    assert again.shape == (3, 96, 96) and again.unit == u.nJy
