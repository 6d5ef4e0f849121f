# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.mocks import (
    IMAGING_SURVEYS,
    build_stars,
    deep_starlight,
    draw_stars,
    observe_crowded,
    observe_deep,
    starlight,
)
from galml.physics import generator_for

SDSS = IMAGING_SURVEYS[0]
N_PIXELS = 64


def make(where, foreign=None, seed=1, bands=("r",)):
    generator = generator_for(seed, "test of crowded images", 0)
    galaxy = build_stars(draw_stars(4, generator), 2000, generator, n_gas=0)
    if foreign is not None:
        foreign = (torch.arange(galaxy.n_stars) < foreign).expand(4, -1)
    if where == "near":
        redshift = torch.full((4,), 0.05)
        light = starlight(galaxy, bands, redshift)
        return observe_crowded(
            galaxy,
            light,
            SDSS,
            redshift,
            N_PIXELS,
            generator,
            bands=bands,
            foreign=foreign,
        )
    redshift = torch.full((4,), 1.0)
    light = deep_starlight(galaxy, ("F814W",), redshift)
    return observe_deep(
        galaxy,
        light,
        "EGS",
        redshift,
        N_PIXELS,
        generator,
        bands=("F814W",),
        foreign=foreign,
    )


def far(images):
    """Contamination of a circle that holds the image."""
    return images.contamination(images.center, torch.full((4,), 2.0 * N_PIXELS))


@pytest.mark.parametrize("where", ["near", "deep"])
def test_images_are_galaxy_and_others_and_noise(where):
    images = make(where)
    rest = images.data - images.galaxy - images.others
    error = rest.flatten(2).median(-1)[0].abs()
    assert (error < images.noise).all()
    spread = rest.flatten(2).std(-1) / images.noise
    assert ((spread > 0.6) & (spread < 6)).all()
    # The small field of the deep image is empty.
    assert (images.others.amax((2, 3)) > 0).any() == (where == "near")


@pytest.mark.parametrize("where", ["near", "deep"])
def test_foreign_particles_count_as_others(where):
    alone, apart, gone = (make(where, foreign=count) for count in (None, 1000, 2000))
    total = alone.galaxy + alone.others
    for images in (apart, gone):
        torch.testing.assert_close(
            images.galaxy + images.others, total, rtol=1e-4, atol=1e-3 * total.max()
        )
    assert (far(alone) < far(apart)).all() and (far(apart) < far(gone)).all()
    torch.testing.assert_close(far(gone), torch.ones_like(far(gone)))


def test_contamination_is_the_share_of_the_light():
    images = make("near")
    images.galaxy = torch.ones_like(images.galaxy)
    images.others = torch.full_like(images.others, 3.0)
    images.others[..., : N_PIXELS // 2] = 1.0
    center = torch.full((4, 2), (N_PIXELS - 1) / 2)
    share = images.contamination(center, torch.full((4,), 20.0))
    torch.testing.assert_close(share, torch.full_like(share, 4 / 6), atol=0.01, rtol=0)


def test_bands_have_their_own_contamination():
    share = far(make("near", foreign=1000, bands=("g", "i")))
    assert share.shape == (4, 2) and (share[:, 0] != share[:, 1]).all()
