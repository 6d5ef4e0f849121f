# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from torch import nn

import galml
from galml.core import Flag, GalmlWarning, InputError
from galml.core.fitting import untrained_model
from galml.core.training import train
from galml.imaging import read_images
from galml.morphology import fit
from galml.morphology.published import (
    INPUT,
    PLACES,
    Xu2023,
    XuDomain,
    XuRecipe,
    channels_shown,
    divergence,
    draw_noise,
    midtone,
    prepare,
    published_loss,
    stretch,
)

BANDS = ("g", "r", "z")
#: Side of the published images, and of their pixels.
SIZE, SCALE = 256, 0.262 * u.arcsec


def make_galaxies(count=1, size=SIZE, seed=0, noise=0.02):
    """Disks in three bands on a sky that is not zero."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - (size - 1) / 2
    images = rng.normal(3.0, noise, (count, 3, size, size))
    for image in images:
        q, scale, angle = rng.uniform(0.4, 1), rng.uniform(4, 9), rng.uniform(0, np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        across = (y * np.cos(angle) - x * np.sin(angle)) / q
        light = np.exp(-np.hypot(along, across) / scale)
        image += np.multiply.outer([1.0, 2.0, 3.0], light)
    return images


def read(values, bands=BANDS, **known):
    (images,) = read_images(
        np.asarray(values) * u.nJy, bands=bands, sizes=False
    ).members
    return replace(images, **known)


def by_the_book(channel):
    """Stretch one channel, step by step as it is described."""
    channel = (channel - channel.min()) / (channel.max() - channel.min())
    counts, edges = np.histogram(channel, bins=65536)
    dark = np.flatnonzero(np.cumsum(counts) > 0.001 * channel.size)[0]
    shadow = edges[dark]
    start = np.median(channel) - shadow
    x = np.maximum(channel, shadow)
    x = (x - x.min()) / (x.max() - x.min())

    def transfer(x, m):
        return (m - 1) * x / ((2 * m - 1) * x - m)

    tone = 8 * start * np.median(transfer(x, start))
    return np.clip(transfer(x, tone), 0, 1), shadow, tone


@pytest.fixture(scope="module")
def network():
    return untrained_model(XuRecipe(), seed=3).network.eval()


@pytest.fixture(scope="module")
def model():
    return untrained_model(XuRecipe(), seed=3)


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies(3)


def test_layers_are_the_published_ones(network):
    image = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    shapes = []
    steps = [*network.encoder, *network.decoder]
    hooks = [
        layer.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
        for layer in steps
        if isinstance(layer, nn.MaxPool2d | nn.Flatten | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        outputs = network({"image": image})
    for hook in hooks:
        hook.remove()
    assert shapes == [
        (2, 32, 64, 64),
        (2, 64, 16, 16),
        (2, 128, 4, 4),
        (2, 2048),
        (2, 64, 16, 16),
        (2, 32, 64, 64),
        (2, 32, 256, 256),
    ]
    assert outputs["planes"].shape == (2, 3, SIZE, SIZE)
    assert outputs["latent"].shape == outputs["latent_scatter"].shape == (2, 40)
    assert (outputs["latent_scatter"] > 0).all() and (outputs["planes"] >= 0).all()
    block = [nn.Conv2d, nn.MaxPool2d, nn.LeakyReLU]
    assert [type(one) for one in network.encoder] == [*3 * block, nn.Flatten]
    block = [nn.Upsample, nn.ConvTranspose2d, nn.LeakyReLU]
    kinds = [nn.Linear, nn.Unflatten, *3 * block, nn.Conv2d]
    assert [type(one) for one in network.decoder] == kinds
    assert sum(one.numel() for one in network.parameters()) == 443_507


def test_evaluation_draws_means(network):
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        first, second = (network({"image": image}) for _ in range(2))
        mean, log_variance = network.encode(image)
        assert torch.equal(first["planes"], second["planes"])
        assert torch.equal(first["latent"], mean)
        torch.testing.assert_close(first["latent_scatter"] ** 2, log_variance.exp())
        torch.testing.assert_close(first["planes"], network.decode(mean))


def test_stretch_by_hand():
    # Of 2000 pixels the two darkest are cut off: the third one lies at 0.1.
    values = np.full(2000, 0.25)
    values[:3] = 0.0, 0.0, 0.1
    values[1500:] = np.linspace(0.3, 1.0, 500)
    plane = torch.from_numpy(values).view(1, 1, 40, 50)
    image, tone = stretch(plane)
    shadow = np.floor(0.1 * 65536) / 65536
    start = 0.25 - shadow
    x = start / (1 - shadow)
    middle = (start - 1) * x / ((2 * start - 1) * x - start)
    final = 8 * start * middle
    np.testing.assert_allclose(tone[0, 0], [shadow, final, 0.25], rtol=1e-12)
    # Up to the width of a bin: 0.15 above black, 1/6 of the range, 17/32 and 51/80.
    assert final == pytest.approx(51 / 80, abs=1e-3)
    image = image.flatten()
    np.testing.assert_allclose(image[:2], 0)
    expected = (final - 1) * x / ((2 * final - 1) * x - final)
    np.testing.assert_allclose(image[3:1500], expected, rtol=1e-6)
    assert image[-1] == 1


@pytest.mark.parametrize("size", [64, 65])
def test_stretch_of_noise_and_light(size):
    rng = np.random.default_rng(4)
    planes = rng.gamma(2.0, 0.01, (2, 3, size, size))
    planes[..., size // 2, size // 2] = [[1.0, 2.0, 0.5]] * 2
    low = planes.min((2, 3), keepdims=True)
    unit = (planes - low) / (planes.max((2, 3), keepdims=True) - low)
    image, tone = stretch(torch.from_numpy(unit))
    for row in range(2):
        for channel in range(3):
            expected, shadow, final = by_the_book(planes[row, channel])
            np.testing.assert_allclose(image[row, channel], expected, atol=1e-6)
            found = tone[row, channel, :2]
            np.testing.assert_allclose(found, [shadow, final], rtol=1e-9)
            # Not 1/8, which the formula is meant for: it gives 1/5 for faint skies.
            assert np.median(expected) == pytest.approx(0.2, abs=0.02)


def test_unknown_pixels_do_not_count_in_the_stretch():
    rng = np.random.default_rng(5)
    plane = rng.gamma(2.0, 0.01, 3600)
    plane = (plane - plane.min()) / (plane.max() - plane.min())
    expected, _, _ = by_the_book(plane)
    wide = torch.full((1, 1, 80, 60), torch.nan, dtype=torch.float64)
    wide[0, 0, 10:70] = torch.from_numpy(plane).view(60, 60)
    image, _ = stretch(wide)
    np.testing.assert_allclose(image[0, 0, 10:70].flatten(), expected, atol=1e-6)
    np.testing.assert_allclose(image[0, 0, :10], np.median(expected), atol=1e-6)


@pytest.mark.parametrize("tone", [0.0, 0.003, 0.3, 0.8, 1.0])
def test_midtone(tone):
    values = torch.linspace(0, 1, 11, dtype=torch.float64)
    tone = torch.tensor(tone, dtype=torch.float64)
    found = midtone(values, tone)
    assert found[0] == 0 and found[-1] == 1 and found.isfinite().all()
    if 0 < tone < 1:
        assert (found.diff() > 0).all()
        assert float(midtone(tone, tone)) == pytest.approx(0.5)
        torch.testing.assert_close(midtone(found, 1 - tone), values)


def test_pixels_of_published_images_stay(galaxies):
    prepared = prepare(read(galaxies, pixel_scale=np.full(3, 0.262)))
    assert prepared.image.shape == (3, 3, SIZE, SIZE) and prepared.known.all()
    for row in range(3):
        for channel in range(3):
            expected, _, _ = by_the_book(galaxies[row, channel])
            found = prepared.image[row, channel]
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("factor, sky", [(1e-25, 0.0), (1e20, 0.0), (1.0, 1e4)])
def test_brightness_and_sky_do_not_matter(galaxies, factor, sky):
    first = prepare(read(galaxies))
    second = prepare(read(factor * (galaxies + sky)))
    torch.testing.assert_close(first.image, second.image, atol=1e-4, rtol=0)


def test_scale_center_and_size(galaxies):
    one = galaxies[:1]
    # Without a scale, all of the image is shown, whatever its size.
    cut = prepare(read(one[..., 64:192, 64:192]))
    assert cut.known.all()
    assert cut.frame[0, :4].tolist() == [63.5, 63.5, 64.0, 0.0]
    # Pixels of half the size fill half of the side.
    small = prepare(read(one, pixel_scale=np.array([0.131])))
    known = small.known[0, 0]
    assert known[64:192, 64:192].all() and known.sum() == 128**2
    np.testing.assert_allclose(small.frame[0, :3], [127.5, 127.5, 256.0])
    median = small.image[0, 0, 64:192, 64:192].median()
    torch.testing.assert_close(small.image[0, 0, 0, 0], median, atol=1e-3, rtol=0)
    # What is known of the center counts.
    aside = prepare(read(one, center=np.array([[100.0, 127.5]])))
    assert not aside.known[..., :20].any() and aside.known[..., 30:].all()
    # A wide image is not squeezed.
    wide = prepare(read(one[..., 64:192, :]))
    assert wide.known[0, 0].any(1).sum() == 128 and wide.frame[0, 2] == 128


def test_bands_of_channels():
    def wavelengths(*bands):
        return read(np.ones((1, len(bands), 9, 9)), bands=bands).wavelengths

    assert channels_shown(wavelengths("g", "r", "z")) == [0, 1, 2]
    assert channels_shown(wavelengths("i", "r", "g")) == [2, 1, 0]
    assert channels_shown(wavelengths("u", "g", "r", "i")) == [1, 2, 3]
    assert channels_shown(wavelengths("r")) == [0, 0, 0]
    assert channels_shown(wavelengths("g", "r")) == [0, 1, 1]
    assert channels_shown(wavelengths("r", "z")) == [0, 0, 1]


def test_constant_channels_are_rejected(model, galaxies):
    cutouts = galaxies.copy()
    cutouts[1, 2] = 7.0
    keywords = {"bands": BANDS, "pixel_scale": SCALE, "model": model}
    with pytest.raises(InputError, match="z that has one value") as caught:
        galml.latents(cutouts[1] * u.nJy, **keywords)
    assert caught.value.argument == "cutouts"
    with pytest.warns(GalmlWarning, match="1 of 3 rows"):
        table = galml.latents(cutouts * u.nJy, **keywords)
    failed = table["flags"] & Flag.FAILED != 0
    assert failed.tolist() == [False, True, False]
    assert np.isnan(table["latent"][1]).all()
    assert np.isfinite(table["latent"][[0, 2]]).all()
    # What is not constant beyond the square does not help; a band that is not shown
    # does not matter.
    edge = galaxies[:1].copy()
    edge[0, 0, 20:236, 20:236] = 1.0
    domain = XuDomain(model)
    wide = {"pixel_scale": np.array([0.5])}
    assert isinstance(domain.problem(read(edge, **wide))[0], InputError)
    assert domain.problem(read(edge)) == [None]
    four = np.concatenate([np.ones((1, 1, SIZE, SIZE)), galaxies[:1]], 1)
    assert domain.problem(read(four, bands=("u", "g", "r", "i"))) == [None]


def test_table(model, galaxies):
    table = galml.latents(galaxies * u.nJy, bands=BANDS, pixel_scale=SCALE, model=model)
    names = ["latent", "latent_err", "reconstruction_error", "ssim", "flags"]
    assert table.colnames == names
    assert table["latent"].shape == table["latent_err"].shape == (3, 40)
    prepared = prepare(read(galaxies, pixel_scale=np.full(3, 0.262)))
    with torch.no_grad():
        outputs = model.network(prepared.inputs)
    np.testing.assert_allclose(table["latent"], outputs["latent"], atol=1e-5)
    np.testing.assert_allclose(
        table["latent_err"], outputs["latent_scatter"], atol=1e-5
    )
    error = (outputs["planes"] - prepared.image).square().mean((1, 2, 3)).sqrt()
    np.testing.assert_allclose(table["reconstruction_error"], error, rtol=1e-4)
    assert not (table["flags"] & (Flag.FAILED | Flag.OUT_OF_DOMAIN)).any()


def test_flags(model, galaxies):
    small = galml.latents(
        galaxies[:, :, 64:192, 64:192] * u.nJy,
        bands=BANDS,
        pixel_scale=SCALE,
        model=model,
    )
    assert (small["flags"] & Flag.TRUNCATED != 0).all()
    # Where half of the pixels are bright, or black, nothing is left of the image.
    odd = np.random.default_rng(6).uniform(size=(2, 1, 64, 64))
    odd[1, :, :, :40] = 0
    table = galml.latents(odd, bands="r", model=model)
    assert (table["flags"] & Flag.OUT_OF_DOMAIN != 0).all()
    assert np.isfinite(table["latent"]).all()


class Copying(nn.Module):
    """Draws its input, as if latents told everything."""

    sizes = (40,)

    def forward(self, inputs):
        zero = torch.zeros(len(inputs["image"]), 40)
        return {"latent": zero, "latent_scatter": zero, "planes": inputs["image"]}


@pytest.mark.parametrize("scale", [0.131, 0.262, 0.396])
def test_images_come_back(scale):
    """Stretch and geometry are undone; beyond the square there is only sky."""
    galaxies = make_galaxies(noise=0.002)
    model = untrained_model(XuRecipe(), seed=3)
    model.network = Copying()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.crpix = 128.5, 128.5
    image = CCDData(
        galaxies[0], unit=u.uJy, wcs=wcs, meta={"BANDS": "g,r,z", "OBJECT": "one"}
    )
    found = galml.reconstruct(image, model=model)
    assert found.unit == u.uJy and found.shape == image.shape
    assert found.meta["OBJECT"] == "one"
    assert found.wcs.wcs.crpix.tolist() == [128.5, 128.5]
    y, x = np.indices(image.shape[-2:]) - 127.5
    light = np.ptp(galaxies[0], axis=(1, 2))[:, None, None]
    change = np.abs(found.data - galaxies[0]) / light
    if scale == 0.262:
        # All but the darkest pixels.
        assert np.quantile(change, 0.99) < 1e-4
    inside = (np.hypot(x, y) > 10) & (np.hypot(x, y) < 80)
    assert change[:, inside].max() < 0.01
    outer = np.maximum(abs(x), abs(y)) > 33.6 / scale
    if outer.any():
        sky = found.data[:, outer]
        np.testing.assert_allclose(sky, 3.0, atol=0.01)
        assert (sky == sky[:, :1]).all()


def test_one_band_comes_back(galaxies):
    model = untrained_model(XuRecipe(), seed=3)
    model.network = Copying()
    found = galml.reconstruct(galaxies[0, 1] * u.nJy, bands="r", model=model)
    assert found.shape == (SIZE, SIZE)
    change = np.abs(found.data - galaxies[0, 1]) / np.ptp(galaxies[0, 1])
    assert np.quantile(change, 0.99) < 1e-4


def test_latents_are_drawn(model, network):
    latent = np.random.default_rng(7).normal(size=(2, 40))
    found = galml.reconstruct(QTable({"latent": latent}), model=model)
    with torch.no_grad():
        planes = network.decode(torch.from_numpy(latent).float())
    assert len(found) == 2
    for one, plane in zip(found, planes, strict=True):
        np.testing.assert_allclose(one.data, plane[PLACES], atol=1e-5)


def test_divergence():
    generator = torch.Generator().manual_seed(8)
    mean, log_variance = torch.randn(2, 5, 40, generator=generator, dtype=torch.float64)
    scatter = (0.5 * log_variance).exp()
    normal = torch.distributions.Normal(mean, scatter)
    unit = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, unit).sum(1)
    torch.testing.assert_close(divergence(mean, scatter), expected)
    # One latent: (mu^2 + sigma^2 - 1 - ln sigma^2) / 2.
    found = divergence(torch.tensor([[3.0]]), torch.tensor([[2.0]]))
    assert float(found) == pytest.approx(0.5 * (9 + 4 - 1 - np.log(4)))


def test_loss(network):
    generator = torch.Generator().manual_seed(9)
    batch = {"image": torch.rand(3, 3, SIZE, SIZE, generator=generator)}
    noisy = draw_noise(batch, generator)
    assert noisy["noise"].shape == (3, 40) and "noise" not in batch
    with torch.no_grad():
        calm, terms = (published_loss(network, one) for one in (batch, noisy))
        mean, log_variance = network.encode(batch["image"])
        latent = mean + (0.5 * log_variance).exp() * noisy["noise"]
        squares = (network.decode(latent) - batch["image"]).square().sum() / 3
        means = (network.decode(mean) - batch["image"]).square().sum() / 3
    torch.testing.assert_close(terms["squares"], squares)
    torch.testing.assert_close(calm["squares"], means)
    expected = divergence(mean, (0.5 * log_variance).exp()).mean()
    torch.testing.assert_close(terms["divergence"], expected)
    torch.testing.assert_close(terms["loss"], squares + expected)
    assert not torch.equal(calm["squares"], terms["squares"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss(network, dtype):
    image = torch.from_numpy(make_galaxies(8, size=32)).float()
    image = torch.nn.functional.interpolate(image / image.max(), (SIZE, SIZE))
    copied = copy.deepcopy(network)
    keywords = {"epochs": 6, "batch_size": 4, "learning_rate": 2e-3, "dtype": dtype}
    keywords["augment"] = draw_noise
    result = train(
        copied, published_loss, {"image": image}, {"image": image}, **keywords
    )
    losses = result.history["validation_loss"]
    assert losses[-1] < 0.9 * losses[0]
    names = {f"train_{key}" for key in ("loss", "squares", "divergence")}
    assert names <= set(result.history.colnames)


def test_published_training():
    recipe = XuRecipe()
    keywords = {"epochs": 50, "batch_size": 512, "learning_rate": 1e-5}
    assert keywords.items() <= recipe.training.items()
    assert recipe.input_spec == INPUT
    assert INPUT.half_width == pytest.approx(128 * SCALE.value)


def test_training_saving_and_loading(tmp_path):
    cutouts = make_galaxies(20, size=64) * u.nJy
    keywords = {"bands": BANDS, "pixel_scale": 4 * SCALE}
    model = fit(
        cutouts,
        network="xu2023",
        epochs=2,
        batch_size=4,
        learning_rate=1e-3,
        seed=1,
        **keywords,
    )
    assert model.architecture == "xu2023" and model.card["training_images"] == 14
    assert set(model.card["figures"]) == {"ssim", "reconstruction_error"}
    assert 0 < model.card["figures"]["reconstruction_error"] < 1
    first, last = model.history["train_loss"][[0, -1]]
    assert last < first
    table = galml.latents(cutouts[:2], model=model, **keywords)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = galml.latents(cutouts[:2], model=path, **keywords)
    np.testing.assert_array_equal(table["latent"], again["latent"])
    drawn = galml.reconstruct(cutouts[:2], model=path, **keywords)
    assert [one.shape for one in drawn] == [(3, 64, 64)] * 2
    assert all(np.isfinite(one.data).all() for one in drawn)
    further = fit(cutouts, model=model, epochs=1, learning_rate=1e-3, **keywords)
    assert further.history["train_loss"][0] < first
    same = fit(
        cutouts,
        network="xu2023",
        epochs=2,
        batch_size=4,
        learning_rate=1e-3,
        seed=1,
        **keywords,
    )
    assert same.sha256 == model.sha256


def test_names_of_networks():
    with pytest.raises(InputError, match="xu2023"):
        fit(make_galaxies(20, size=16), bands=BANDS, network="xu2024", epochs=1)
    assert isinstance(untrained_model(XuRecipe()).network, Xu2023)
