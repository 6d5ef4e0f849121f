# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.core import InputError
from galml.mocks import galaxy_images
from galml.mocks.surveys import IMAGING_SURVEYS

SMALL = {"batch_size": 8, "n_particles": 2000}


@pytest.fixture(scope="module")
def batches():
    return list(galaxy_images(4, seed=1, **SMALL))


def test_what_comes(batches):
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
    middle = torch.stack(
        [(light.sum(1) * x).sum(1) / total, (light.sum(2) * x).sum(1) / total], 1
    )
    assert (middle - images.center).abs().median() < 1
    y, x = torch.meshgrid(x, x, indexing="ij")
    radius = torch.hypot(
        x - images.center[:, 0, None, None], y - images.center[:, 1, None, None]
    )
    inside = radius < images.truth.r_eff_pixels[:, None, None]
    # A circle around the half-light ellipse holds somewhat more than half.
    share = (light * inside).sum((1, 2)) / total
    assert ((share > 0.4) & (share < 0.85)).all()
    assert (images.noise == 0).all()


def test_seeds(batches):
    again = list(galaxy_images(1, seed=1, first=2, **SMALL))[0]
    torch.testing.assert_close(again[1].data, batches[2][1].data, rtol=0, atol=0)
    torch.testing.assert_close(again[1].truth.spin, batches[2][1].truth.spin)
    other = next(galaxy_images(1, seed=2, n_pixels=32, survey="SDSS", **SMALL))
    one = next(galaxy_images(1, seed=1, n_pixels=32, survey="SDSS", **SMALL))
    assert not torch.equal(one[1].data, other[1].data)


def test_views():
    p, images = next(galaxy_images(1, views=4, **SMALL))
    assert torch.equal(p["stellar_mass"][:4], p["stellar_mass"][:1].expand(4))
    assert p["stellar_mass"][0] != p["stellar_mass"][4]
    assert len(images.truth.inclination.unique()) == 8


@pytest.mark.parametrize(
    ("survey", "bands"),
    [("ACS", ("F606W", "F814W")), ("Euclid VIS", ("i",)), ("BASS/MzLS", ("g", "z"))],
)
def test_surveys(survey, bands):
    _, images = next(galaxy_images(1, survey=survey, bands=bands, **SMALL))
    assert images.data.shape[1] == len(bands)
    assert IMAGING_SURVEYS[images.survey[0]].name == survey
    assert torch.isfinite(images.data).all()
    picked = images[images.truth.spin >= 0]
    torch.testing.assert_close(picked.truth.spin, images.truth.spin)


def test_binning():
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
def test_bad_requests(options, name):
    with pytest.raises(InputError, match=name):
        next(galaxy_images(**({"n_batches": 1} | SMALL | options)))


def test_faintest_galaxies():
    options = {"survey": "SDSS", "n_pixels": 48, "noisy": False, "bands": ("r",)}

    def magnitudes(**more):
        _, images = next(galaxy_images(1, seed=2, **SMALL, **options, **more))
        return 31.4 - 2.5 * images.data.sum((1, 2, 3)).log10()

    # Dust, and disks wider in light than in mass, make some fainter than the limit.
    bright, every = magnitudes(faintest=15.5), magnitudes()
    assert bright.median() < 16.2
    assert bright.median() < every.median() - 1
