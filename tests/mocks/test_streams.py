# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core import InputError
from galml.mocks import (
    IMAGING_SURVEYS,
    chemo_recipe,
    galaxy_images,
    gas_maps,
    star_images,
    star_tensors,
    streams,
)
from galml.physics import seeds

SMALL = {"batch_size": 8, "n_particles": 2000}


@pytest.fixture(scope="module")
def population():
    """About 1500 galaxies: their views are dropped, what is known of them stays."""
    batches = [
        (parameters, maps) for parameters, maps in gas_maps(24, batch_size=64, seed=11)
    ]
    truth = {
        key: torch.cat([getattr(maps.truth, key) for _, maps in batches])
        for key in ("kappa", "kappa_co", "position_angle", "inclination")
    }
    others = {
        key: torch.cat([getattr(maps, key) for _, maps in batches])
        for key in ("snr", "beam", "beams_across", "survey")
    }
    others["pixels"] = torch.cat(
        [torch.isfinite(maps.velocity).sum((1, 2)) for _, maps in batches]
    )
    sides = {maps.velocity.shape[-1] for _, maps in batches}
    lengths = [(len(parameters["speed"]), len(maps)) for parameters, maps in batches]
    return truth, others, sides, lengths


def same(first, second):
    """Whether two batches are equal to the last bit."""
    for key in first[0]:
        torch.testing.assert_close(first[0][key], second[0][key], rtol=0, atol=0)
    for key in ("velocity", "dispersion", "uncertainty", "snr"):
        torch.testing.assert_close(
            getattr(first[1], key),
            getattr(second[1], key),
            rtol=0,
            atol=0,
            equal_nan=True,
        )
    torch.testing.assert_close(
        first[1].truth.kappa, second[1].truth.kappa, rtol=0, atol=0
    )


def test_batches_depend_on_seed_and_index_alone():
    whole = list(gas_maps(4, batch_size=6, seed=3))
    short = list(gas_maps(2, batch_size=6, seed=3))
    later = list(gas_maps(2, batch_size=6, seed=3, first=2))
    torch.manual_seed(99)
    again = list(gas_maps(1, batch_size=6, seed=3, first=3))
    for index in range(2):
        same(whole[index], short[index])
        same(whole[index + 2], later[index])
    same(whole[3], again[0])
    other = next(gas_maps(1, batch_size=6, seed=4))
    assert not torch.equal(whole[0][0]["speed"], other[0]["speed"])


def test_seeds_of_neighboring_streams_do_not_meet():
    first = torch.cat([p["speed"] for p, _ in gas_maps(5, batch_size=4, seed=0)])
    second = torch.cat([p["speed"] for p, _ in gas_maps(5, batch_size=4, seed=1)])
    assert not torch.isin(first, second).any()


def test_noise_can_be_forced():
    for noisy in (True, False):
        for _, maps in gas_maps(3, batch_size=4, seed=5, noisy=noisy):
            assert (torch.isfinite(maps.snr) == noisy).all()


def test_batches_of_one_are_possible():
    batches = list(gas_maps(30, batch_size=1, seed=6, noisy=True))
    assert all(len(maps) == len(p["speed"]) <= 1 for p, maps in batches)
    assert any(len(maps) for _, maps in batches)


def test_stars_are_hotter_than_gas():
    found = {}
    for tracer in ("gas", "stars"):
        batches = [m for _, m in gas_maps(4, batch_size=16, seed=7, tracer=tracer)]
        assert all((maps.stars == (tracer == "stars")).all() for maps in batches)
        ratio = torch.cat([maps.truth.sigma_over_v for maps in batches])
        found[tracer] = ratio.median()
    assert found["stars"] > 1.5 * found["gas"]


def test_stars_and_gas_are_mixed():
    seen = {}
    for parameters, maps in gas_maps(20, batch_size=2, seed=8, tracer=None):
        kind = "stellar_mass" in parameters, bool(maps.stars.any())
        seen[kind] = seen.get(kind, 0) + 1
    assert set(seen) == {(False, False), (False, True), (True, True)}
    assert seen[False, False] > 8


def test_tracers_have_names():
    with pytest.raises(InputError, match="tracer"):
        next(gas_maps(1, batch_size=2, tracer="dust"))


@pytest.mark.parametrize("argument", ["n_batches", "batch_size"])
def test_numbers_must_be_positive(argument):
    numbers = {"n_batches": 1, "batch_size": 1} | {argument: 0}
    with pytest.raises(InputError, match=argument):
        next(gas_maps(numbers["n_batches"], batch_size=numbers["batch_size"]))


def test_population_fills_the_range(population):
    kappa = population[0]["kappa"]
    assert ((kappa > 0.35) & (kappa < 0.65)).float().mean() >= 0.3
    assert (kappa < 0.15).sum() >= 5
    assert (kappa > 0.95).sum() >= 30
    counts = torch.histc(kappa, bins=10, min=0, max=1)
    assert counts.sum() == len(kappa)
    assert (counts >= 4).all()


def test_truth_is_known_and_bounded(population):
    truth = population[0]
    assert all(torch.isfinite(value).all() for value in truth.values())
    assert (truth["kappa"] > 0).all()
    assert (truth["kappa"] < 1).all()
    assert (truth["kappa_co"] <= truth["kappa"] + 1e-5).all()
    assert (truth["kappa_co"] > 0).all()
    assert ((truth["inclination"] >= 0) & (truth["inclination"] <= 90)).all()
    assert ((truth["position_angle"] >= 0) & (truth["position_angle"] < 360)).all()


def test_views_are_isotropic(population):
    cosine = torch.cos(torch.deg2rad(population[0]["inclination"])).sort().values
    even = torch.linspace(0, 1, len(cosine))
    assert (cosine - even).abs().max() < 0.05
    angle = (population[0]["position_angle"] / 360).sort().values
    assert (angle - even).abs().max() < 0.05


def test_instruments_and_noise_are_mixed(population):
    _, others, sides, lengths = population
    assert len(sides) >= 4
    assert all(parameters == maps for parameters, maps in lengths)
    assert set(others["survey"].tolist()) == {0, 1, 2}
    assert (others["pixels"] >= 12).all()
    clean = torch.isinf(others["snr"]).float().mean()
    assert 0.05 < clean < 0.5
    noisy = others["snr"][torch.isfinite(others["snr"])]
    assert (noisy < 0.5).any()
    assert (noisy > 100).any()
    assert others["beams_across"].min() < 5
    assert others["beams_across"].max() > 45
    assert (others["beams_across"] >= 3).all()
    assert (others["beams_across"] <= 60).all()
    assert (others["beam"] > 0.9).all()


@pytest.fixture(scope="module")
def batches():
    return list(galaxy_images(4, seed=1, **SMALL))


def test_images_are_what_they_say(batches):
    for p, images in batches:
        n, n_bands, height, width = images.data.shape
        assert (n, n_bands, images.bands) == (8, 3, ("g", "r", "i"))
        assert height == width
        assert all(len(value) == 8 for value in p.values())
        for name, value in (vars(images) | vars(images.truth)).items():
            if isinstance(value, torch.Tensor) and name != "survey":
                assert value.dtype == torch.float32, name
                assert torch.isfinite(value).all(), name
        survey = IMAGING_SURVEYS[images.survey[0]]
        assert {"g", "r", "i"} <= set(survey.bands)
        assert (images.noise > 0).all()
        truth = images.truth
        assert ((truth.spin >= 0) & (truth.spin <= 1)).all()
        assert (truth.spin_beam < truth.spin + 0.05).all()
        assert ((truth.inclination >= 0) & (truth.inclination <= 90)).all()


def test_size_of_images(batches):
    for _, images in batches:
        radii = images.data.shape[-1] / images.truth.r_eff_pixels
        assert ((radii > 8.47) & (radii < 1.26 * 8.48)).all()
        arcsec = images.truth.r_eff_pixels * images.pixel_scale
        torch.testing.assert_close(arcsec, images.truth.r_eff)


def test_light_is_in_the_middle():
    _, images = next(galaxy_images(1, n_pixels=64, noisy=False, **SMALL))
    x = torch.arange(64.0)
    light = images.data.sum(1)
    total = light.sum((1, 2))
    centroid = torch.stack(
        [(light.sum(1) * x).sum(1) / total, (light.sum(2) * x).sum(1) / total], 1
    )
    assert (centroid - images.center).abs().median() < 1
    y, x = torch.meshgrid(x, x, indexing="ij")
    radius = torch.hypot(
        x - images.center[:, 0, None, None], y - images.center[:, 1, None, None]
    )
    inside = radius < images.truth.r_eff_pixels[:, None, None]
    # A circle around the half-light ellipse holds somewhat more than half.
    share = (light * inside).sum((1, 2)) / total
    assert ((share > 0.4) & (share < 0.9)).all()
    assert (images.noise == 0).all()


def test_image_batches_depend_on_seed_and_index_alone(batches):
    again = list(galaxy_images(1, seed=1, first=2, **SMALL))[0]
    torch.testing.assert_close(again[1].data, batches[2][1].data, rtol=0, atol=0)
    torch.testing.assert_close(again[1].truth.spin, batches[2][1].truth.spin)
    other = next(galaxy_images(1, seed=2, n_pixels=32, survey="SDSS", **SMALL))
    one = next(galaxy_images(1, seed=1, n_pixels=32, survey="SDSS", **SMALL))
    assert not torch.equal(one[1].data, other[1].data)


def test_views_show_the_same_galaxy():
    p, images = next(galaxy_images(1, views=4, **SMALL))
    assert torch.equal(p["stellar_mass"][:4], p["stellar_mass"][:1].expand(4))
    assert (p["stellar_mass"][4] / p["stellar_mass"][0]).log().abs() > 0.01
    assert len(images.truth.inclination.unique()) == 8


@pytest.mark.parametrize(
    ("survey", "bands"),
    [("ACS", ("F606W", "F814W")), ("Euclid VIS", ("i",)), ("BASS/MzLS", ("g", "z"))],
)
def test_surveys_that_can_be_asked_for(survey, bands):
    _, images = next(galaxy_images(1, survey=survey, bands=bands, **SMALL))
    assert images.data.shape[1] == len(bands)
    assert IMAGING_SURVEYS[images.survey[0]].name == survey
    assert torch.isfinite(images.data).all()
    picked = images[images.truth.spin >= 0]
    torch.testing.assert_close(picked.truth.spin, images.truth.spin)


def test_binned_pixels_are_larger():
    _, images = next(
        galaxy_images(1, survey="SDSS", n_pixels=32, binning=4, noisy=False, **SMALL)
    )
    assert images.pixel_scale[0] == pytest.approx(4 * 0.396)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"n_batches": 0}, "n_batches"),
        ({"batch_size": 0}, "batch_size"),
        ({"views": 3}, "views"),
        ({"survey": "2MASS"}, "survey"),
        ({"bands": ("g", "F814W")}, "bands"),
        ({"survey": "ACS"}, "bands"),
    ],
)
def test_bad_requests_for_images(options, name):
    with pytest.raises(InputError, match=name):
        next(galaxy_images(**({"n_batches": 1} | SMALL | options)))


def test_faintest_galaxies():
    options = {"survey": "SDSS", "n_pixels": 48, "noisy": False, "bands": ("r",)}

    def magnitudes(**more):
        _, images = next(galaxy_images(1, seed=2, **SMALL, **options, **more))
        return 31.4 - 2.5 * images.data.sum((1, 2, 3)).log10()

    bright, every = magnitudes(faintest=15.5), magnitudes()
    # Some light is beyond the edge of the image.
    assert bright.max() < 15.7
    assert len(bright) < len(every)
    assert bright.median() < every.median() - 1


def test_images_of_star_galaxies_show_the_same_galaxies():
    options = {"seed": 5, "noisy": False, "n_pixels": 64}
    images = list(star_images(2, 2000, first=4, **options))
    for image, truth in images:
        assert image.data.shape == (1, 3, 64, 64)
        assert image.bands == ("g", "r", "i")
        assert torch.isfinite(image.data).all()
        # Images are eight half-light radii wide.
        assert truth["r_eff_pixels"] == pytest.approx(8, rel=1e-3)
        scale = float(image.pixel_scale)
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


def test_no_two_purposes_start_alike(monkeypatch):
    """What is drawn for one purpose tells nothing of what is drawn for another."""
    used = []

    def remember(*parts):
        source = seeds.generator_for(*parts)
        used.append((parts, source.initial_seed()))
        return source

    for module in (streams, chemo_recipe):
        monkeypatch.setattr(module, "generator_for", remember)
    next(gas_maps(1, batch_size=2))
    next(galaxy_images(1, batch_size=2, n_particles=200, n_pixels=32))
    next(star_images(1, 200, n_pixels=32))
    star_tensors(2, 200)
    by_purpose = dict(used)
    assert {parts[1] for parts in by_purpose} == {
        "gas maps",
        "galaxy images",
        "masses of star galaxies",
        "parameters of a star galaxy",
        "stars of a star galaxy",
        "view of a star galaxy",
    }
    assert len(set(by_purpose.values())) == len(by_purpose)
    # Nor do neighboring seeds and numbers meet.
    first = [
        seeds.stable_seed(0, purpose, 1) for purpose in ("gas maps", "galaxy images")
    ]
    second = [
        seeds.stable_seed(1, purpose, 0) for purpose in ("gas maps", "galaxy images")
    ]
    assert len({*first, *second}) == 4


def test_the_package_is_light_until_it_is_used():
    import subprocess
    import sys

    code = "import sys, galml.mocks as m; print('torch' in sys.modules, len(m.__all__))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded, names = found.stdout.split()
    assert loaded == "False"
    assert int(names) > 30
