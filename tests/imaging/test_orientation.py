# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest

import galml
from galml.imaging import read_images
from galml.imaging.orientation import prepare_from_one_side
from galml.morphology.preparation import INPUT, SURROUNDED, prepare

#: All turns and mirror images.
MOVES = {
    f"{turns}{' mirrored' if mirror else ''}": (turns, mirror)
    for turns in range(4)
    for mirror in (False, True)
}


def galaxies(shape=(56, 56)):
    """Galaxies with a companion and noise, the last of which are round."""
    rng = np.random.default_rng(3)
    y, x = np.indices(shape) - (np.reshape(shape, (2, 1, 1)) - 1) / 2
    images = []
    for angle, ratio in ((0.3, 0.4), (1.2, 0.7), (2.5, 0.9), (0, 1), (0, 1)):
        along = x * np.cos(angle) + y * np.sin(angle)
        aside = y * np.cos(angle) - x * np.sin(angle)
        light = 200 * np.exp(-np.hypot(along, aside / ratio) / 4)
        light += 20 * np.exp(-np.hypot(x - 7, y + 4) / 2)
        images.append([0.7 * light, light, 1.2 * light])
    return np.array(images) + rng.normal(size=(len(images), 3, *shape))


def moved(images, turns, mirror):
    images = images[..., ::-1] if mirror else images
    return np.rot90(images, turns, (-2, -1))


OPTIONS = {"bands": ("g", "r", "i"), "r_eff": 5 * u.pix, "pixel_scale": 0.4 * u.arcsec}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("shape", [(56, 56), (57, 57), (48, 61)])
def test_latents_are_the_same_from_all_sides(shape, move):
    images = galaxies(shape)
    first = galml.latents(images * u.nJy, **OPTIONS)
    other = galml.latents(moved(images, *MOVES[move]) * u.nJy, **OPTIONS)
    np.testing.assert_allclose(other["latent"], first["latent"], atol=2e-6)
    np.testing.assert_allclose(other["latent_err"], first["latent_err"], rtol=1e-5)
    np.testing.assert_allclose(np.abs(other["pose"]), np.abs(first["pose"]), atol=2e-6)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("spec", [INPUT, SURROUNDED], ids=["alone", "surrounded"])
def test_preparation_is_that_of_the_image_as_it_came(spec, move):
    values = moved(galaxies((48, 61)), *MOVES[move])[:3]
    (images,) = read_images(values * u.nJy, sizes=True, **OPTIONS).members
    wanted = prepare(images, spec)
    found = prepare_from_one_side(images, lambda one: prepare(one, spec))
    for key, tensor in vars(wanted).items():
        np.testing.assert_allclose(getattr(found, key), tensor, atol=2e-3, err_msg=key)
