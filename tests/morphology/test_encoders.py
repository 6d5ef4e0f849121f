# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from torch import nn

import galml
from galml.core import Flag
from galml.core.domain import find_domain
from galml.core.exceptions import (
    GalmlWarning,
    InputError,
    InputTypeError,
    ModelError,
    WeightsError,
)
from galml.core.model import GalaxyModel, InputSpec
from galml.core.weights import load_model
from galml.morphology import from_encoder
from galml.morphology.encoders import prepare

SPEC = InputSpec(
    grid=(32, 32), bands=("g", "r", "i"), half_width=3.0, width_unit="r_eff"
)
PICTURES = InputSpec(grid=(16, 16), channels=("red", "green", "blue"))


class Plain(nn.Module):
    """Convolutions, whose last ones are not pooled unless wanted."""

    def __init__(self, channels=3, pooled=True, width=8):
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 5, stride=2),
                nn.BatchNorm2d(width),
                nn.GELU(),
                nn.Conv2d(width, 2 * width, 3),
            )
        self.pooled = pooled

    def forward(self, image):
        found = self.layers(image)
        return found.mean((2, 3)) if self.pooled else found


class Constant(nn.Module):
    """Give what was asked, whatever is seen."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def forward(self, image):
        return self.found


class Seen(nn.Module):
    """Give the image itself."""

    def forward(self, image):
        return image.flatten(1)


def latents(cutouts, model, **options):
    return galml.latents(cutouts, model=model, **options)


def galaxies(count=5, side=40):
    """Disks of different bulges in three bands, in nJy, not symmetric."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    values = []
    for part in np.linspace(0, 1, count):
        disk = np.exp(-np.hypot(x, y / 0.6) / 4) * (1 + 0.3 * np.tanh(x + 0.5 * y))
        core = part * np.exp(-np.hypot(x, y) / 1.5)
        values.append([a * disk + b * core for a, b in ((0.7, 0.3), (1, 1), (1.2, 2))])
    return 100 * np.array(values)


KNOWN = {"bands": ("g", "r", "i"), "r_eff": 6 * u.pix, "unit": "nJy"}


@pytest.fixture
def model():
    return from_encoder(Plain(), SPEC, name="mine")


def test_latents_of_a_plain_module(model):
    assert (model.name, model.config["latents"]) == ("mine", 16)
    table = latents(galaxies(), model, **KNOWN)
    assert table.colnames == ["latent", "flags"]
    assert table["latent"].shape == (5, 16) and np.isfinite(table["latent"]).all()
    assert np.ptp(table["latent"], axis=0).max() > 0.001
    assert table.meta["MODEL"] == "mine"


def test_latents_are_those_of_the_module():
    module = Plain().eval()
    model = from_encoder(module, SPEC, invariant=False)
    (images,) = find_domain(model).read(galaxies(), **KNOWN).members
    with torch.no_grad():
        wanted = module(prepare(images, SPEC).image)
    found = latents(galaxies(), model, **KNOWN)["latent"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("invariant", [True, False])
def test_rotations_and_mirrors(invariant):
    model, images = from_encoder(Plain(), SPEC, invariant=invariant), galaxies()
    first = latents(images, model, **KNOWN)["latent"]
    for other in (np.rot90(images, axes=(2, 3)), images[..., ::-1]):
        second = latents(np.ascontiguousarray(other), model, **KNOWN)["latent"]
        assert np.allclose(first, second, atol=1e-5) == invariant


def test_batches_change_nothing_nor_is_anything_changed(model):
    images = galaxies()
    before, weights = images.copy(), model.sha256
    whole = latents(images, model, **KNOWN)["latent"]
    options = {key: value for key, value in KNOWN.items() if key != "unit"}
    single = [
        latents(CCDData(one, unit="nJy"), model, **options)["latent"][0]
        for one in images
    ]
    np.testing.assert_allclose(whole, single, atol=1e-5)
    np.testing.assert_array_equal(images, before)
    assert GalaxyModel.sha256.func(model) == weights


def test_the_module_is_copied():
    module = Plain().train()
    model = from_encoder(module, SPEC)
    assert module.training and not model.network.training
    with torch.no_grad():
        module.layers[0].weight.zero_()
    assert model.network.module.layers[0].weight.abs().sum() > 0


def test_places_and_tokens_are_pooled():
    pooled = from_encoder(Plain(), SPEC)
    places = from_encoder(Plain(pooled=False), SPEC)
    images = galaxies()
    first, second = (latents(images, m, **KNOWN)["latent"] for m in (pooled, places))
    np.testing.assert_allclose(first, second, atol=1e-5)
    tokens = from_encoder(Constant(torch.arange(24.0).reshape(2, 3, 4)), SPEC)
    assert tokens.config["latents"] == 4
    found = tokens.network({"image": torch.zeros(2, 3, 32, 32)})["latent"]
    assert found[0].tolist() == [4.0, 5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    "found, message",
    [
        (torch.zeros(2), r"module: got a module that gives shape \(2,\)"),
        (torch.zeros(3, 5), r"shape \(3, 5\), expected \(2, k\)"),
        (torch.zeros(2, 0), r"shape \(2, 0\)"),
        (torch.zeros(2, 1, 1, 1, 1), "module: got"),
        ({"latent": torch.zeros(2, 5)}, "gives a dict"),
        ([torch.zeros(2, 5)], "gives a list"),
    ],
)
def test_modules_that_give_something_else(found, message):
    with pytest.raises(InputError, match=message):
        from_encoder(Constant(found), SPEC)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"grid": (32, 16)}, r"grid of \(32, 16\)"),
        ({"grid": ()}, "a square"),
        ({"bands": ()}, "no bands"),
        ({"bands": ("g", "r", "blue")}, "'blue'"),
        ({"bands": ("g", "r")}, "2, 32, 32.*what the module takes"),
        ({"channels": ("r", "g", "i")}, "channels"),
        ({"stretch": {"sofening": 1.0}}, "sofening"),
        ({"stretch": {"mean_z": 1.0}}, "mean_z"),
        ({"stretch": {"softening": 0.0}}, "softening=0.0"),
        ({"parameters": {"sky": 1.0}}, "sky_radius"),
        ({"width_unit": "kpc"}, "3.0 'kpc'"),
        ({"width_unit": ""}, "half width"),
        ({"half_width": -1.0}, "-1.0"),
        ({"grid": (4, 4)}, "what the module takes"),
    ],
)
def test_input_that_cannot_be_used(changes, message):
    with pytest.raises(InputError, match=f"input_spec: got.*{message}|{message}"):
        from_encoder(Plain(), replace(SPEC, **changes))


def test_what_is_no_module_nor_description():
    with pytest.raises(InputTypeError, match="module: got function"):
        from_encoder(lambda image: image, SPEC)
    with pytest.raises(InputTypeError, match="input_spec: got NoneType"):
        from_encoder(Plain())


def test_saved_and_loaded_with_the_module(model, tmp_path):
    path = tmp_path / "mine.safetensors"
    model.save(path)
    other = Plain()
    with torch.no_grad():
        other.layers[0].weight.zero_()
    again = from_encoder(other, weights=path)
    assert again.sha256 == model.sha256 and again.input_spec == SPEC
    first, second = (
        latents(galaxies(), one, **KNOWN)["latent"] for one in (model, again)
    )
    np.testing.assert_array_equal(first, second)


def test_files_alone_say_what_they_lack(model, tmp_path):
    path = tmp_path / "mine.safetensors"
    model.save(path)
    for load in (GalaxyModel.load, load_model):
        with pytest.raises(ModelError, match="Plain, which galml cannot make.*weights"):
            load(path)


def test_weights_of_another_module(model, tmp_path):
    path = tmp_path / "mine.safetensors"
    model.save(path)
    with pytest.raises(ModelError, match="size mismatch"):
        from_encoder(Plain(width=4), weights=path)
    with pytest.raises(InputError, match="input_spec: got one beside weights"):
        from_encoder(Plain(), SPEC, weights=path)
    with pytest.raises(WeightsError):
        (tmp_path / "no.safetensors").write_bytes(b"nothing")
        from_encoder(Plain(), weights=tmp_path / "no.safetensors")


def test_bands_are_taken_in_order(model):
    images = galaxies()
    first = latents(images, model, **KNOWN)
    other = images[:, [2, 0, 1]]
    second = latents(other, model, **KNOWN | {"bands": ("i", "g", "r")})
    np.testing.assert_allclose(first["latent"], second["latent"], atol=1e-6)
    with pytest.raises(InputError, match="bands: got images in .*'z'"):
        one = CCDData(images[0], unit="nJy")
        latents(one, model, bands=("g", "r", "z"), r_eff=6 * u.pix)


def seen(images, spec, **options):
    """What the module is shown, shape (n, channels, y, x)."""
    model = from_encoder(Seen(), spec, invariant=False)
    values = latents(images, model, **options)["latent"]
    return values.reshape(len(values), -1, *spec.grid)


def test_own_pixels_and_fluxes():
    spec = InputSpec(
        grid=(16, 16),
        bands=("g", "r", "i"),
        half_width=8.0,
        width_unit="pix",
        stretch={"flux": 3631.0},
    )
    found = seen(galaxies(), spec, bands=("g", "r", "i"), unit="nJy")
    np.testing.assert_allclose(found, galaxies()[:, :, 12:28, 12:28] / 3631, rtol=1e-5)
    halved = replace(spec, grid=(8, 8))
    found = seen(galaxies(), halved, bands=("g", "r", "i"), unit="nJy")
    summed = galaxies()[:, :, 12:28, 12:28].reshape(5, 3, 8, 2, 8, 2).sum((3, 5))
    np.testing.assert_allclose(found, summed / 3631, rtol=1e-5)


def test_brightness_is_relative_without_a_flux():
    options = {"bands": ("g", "r", "i"), "r_eff": 6 * u.pix}
    first = seen(galaxies(), SPEC, **options)
    np.testing.assert_allclose(first, seen(7 * galaxies(), SPEC, **options), rtol=1e-5)
    for one in first:
        assert np.percentile(one, 99.5) == pytest.approx(1, rel=1e-5)


def test_sky_and_stretch():
    options = {"bands": ("g", "r", "i"), "r_eff": 6 * u.pix}
    plain = replace(SPEC, parameters={"sky_radius": 0.9})
    first = seen(galaxies(), plain, **options)
    np.testing.assert_allclose(
        first, seen(galaxies() + 55, plain, **options), atol=1e-4
    )
    stretch = {"softening": 0.1, "low": 0.0, "high": 1.0, "mean": 0.5, "std_r": 2.0}
    found = seen(galaxies(), replace(plain, stretch=stretch), **options)
    wanted = np.clip(np.arcsinh(first / 0.1) / np.arcsinh(10), 0, 1) - 0.5
    wanted[:, 1] /= 2
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_pictures():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    spec = replace(PICTURES, stretch={"mean_red": 0.5, "std": 0.25})
    found = seen(pictures, spec)
    wanted = np.moveaxis(pictures / 255, 3, 1).reshape(3, 3, 16, 2, 16, 2).mean((3, 5))
    wanted[:, 0] -= 0.5
    np.testing.assert_allclose(found, wanted / 0.25, atol=1e-5)


def test_pictures_of_fluxes():
    from galml.cutouts import sdss_rgb

    options = {"bands": ("g", "r", "i"), "unit": "nJy"}
    spec, scale = replace(PICTURES, grid=(40, 40)), 0.5 * u.arcsec / u.pix
    found = seen(galaxies(), spec, pixel_scale=scale, **options)
    wanted = sdss_rgb(
        galaxies()[:, [2, 1, 0]] * u.nJy, bands=(0, 1, 2), pixel_scale=0.5 * u.arcsec
    )
    np.testing.assert_allclose(found, np.moveaxis(wanted, 3, 1), atol=1e-5)
    model, one = from_encoder(Seen(), spec), galaxies()[0]
    with pytest.raises(InputError, match="pixel_scale: got none"):
        latents(CCDData(one, unit="nJy"), model, bands=("g", "r", "i"))
    with pytest.raises(InputError, match="unit: got no fluxes"):
        bare = CCDData(one, unit="")
        latents(bare, model, bands=("g", "r", "i"), pixel_scale=scale)


def test_angles_need_a_pixel_scale():
    spec = replace(SPEC, half_width=6.0, width_unit="arcsec")
    model, options = from_encoder(Plain(), spec), {"bands": ("g", "r", "i")}
    scales = [0.5, np.nan] * u.arcsec / u.pix
    with pytest.warns(GalmlWarning, match="1 of 2 rows.*pixel_scale: got none"):
        table = latents(galaxies(2), model, pixel_scale=scales, **options)
    assert np.isfinite(table["latent"][0]).all() and np.isnan(table["latent"][1]).all()
    assert table["flags"][1] & Flag.FAILED and not table["flags"][0] & Flag.FAILED
    # Twelve pixels to either side.
    wanted = latents(
        galaxies(1), from_encoder(Plain(), SPEC), **options | {"r_eff": 4 * u.pix}
    )
    np.testing.assert_allclose(table["latent"][0], wanted["latent"][0], atol=1e-5)


def test_images_that_end_early_are_flagged(model):
    whole = latents(galaxies(), model, **KNOWN)
    assert not (whole["flags"] & Flag.TRUNCATED).any()
    early = latents(galaxies(), model, **KNOWN | {"r_eff": 8 * u.pix})
    assert (early["flags"] & Flag.TRUNCATED).all()


def test_unknown_pixels_have_no_light():
    options = {"bands": ("g", "r", "i"), "r_eff": 6 * u.pix}
    images = galaxies()
    images[:, :, :10] = np.nan
    found = seen(images, replace(SPEC, stretch={"softening": 0.1}), **options)
    assert np.isfinite(found).all() and (found[:, :, :4] == 0).all()


@pytest.fixture(scope="module")
def timm():
    try:
        return pytest.importorskip("timm")
    except RuntimeError as error:
        # As torchvision from PyPI, which timm imports, does beside torch for the CPU.
        pytest.skip(f"torchvision is made for another torch: {error}")


def test_networks_of_timm(timm, tmp_path):
    spec = replace(
        SPEC,
        grid=(64, 64),
        stretch={"softening": 0.1, "mean": 0.4, "std": 0.2},
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = timm.create_model("resnet18", pretrained=False, num_classes=0)
        vision = timm.create_model(
            "vit_tiny_patch16_224",
            pretrained=False,
            num_classes=0,
            global_pool="",
            img_size=64,
        )
    model = from_encoder(network, spec)
    table = latents(galaxies(2), model, **KNOWN)
    assert table["latent"].shape == (2, 512) and np.isfinite(table["latent"]).all()
    path = tmp_path / "resnet.safetensors"
    model.save(path)
    fresh = timm.create_model("resnet18", pretrained=False, num_classes=0)
    assert from_encoder(fresh, weights=path).sha256 == model.sha256
    tokens = from_encoder(vision, spec, invariant=False)
    assert latents(galaxies(2), tokens, **KNOWN)["latent"].shape == (2, 192)
