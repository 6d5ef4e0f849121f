# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.sample_stars` on the mocks and put it in place.

    python benchmarks/train_stars.py [--cache FOLDER] [--check]

The mocks are a recipe: of population chemo-2 the galaxies that ``stars_mocks.py``
judges by are left out, and the others each have their conditions, their size, and the
escape speed where each star is; the first ones have an image. A training that was
stopped goes on from the checkpoint in the cache; ``--check`` tells whether the weights
in the package have this recipe.
"""

import astropy.units as u
import numpy as np
import torch
from astropy.table import vstack
from common import describe, train_or_check
from mock_galaxies import LEFT_OUT, galaxy_image

from galml.mocks import STAR_TABLE_POPULATION, star_galaxies, star_images
from galml.mocks.chemo_recipe import draw_star_galaxies, escape_speed
from galml.stars import fit

NAME = "stars-chemo-2"
DOMAIN = "galaxies of 7.5 to 11.2 in log10 of the stellar mass"
#: What is told of each galaxy.
COLUMNS = [
    "galaxy_id",
    "stellar_mass",
    "median_age",
    "age_percentile_10",
    "metallicity",
    "r_eff",
]
#: Numbers of the galaxies, and how many of the first have an image.
GALAXIES = (range(LEFT_OUT.start), range(LEFT_OUT.stop, 1540))
WITH_IMAGE = 500
#: Stars of a galaxy, those in its image, and seed of the population.
STARS, IMAGE_STARS, POPULATION_SEED = 4000, 20_000, 0
TRAINING = {
    "encoder": "small",
    "smoothing": 0.02,
    "validation": 0.05,
    "epochs": 2,
    "batch_size": 2048,
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "seed": 0,
}
#: What stars and images depend on, and the training.
CODE = (
    "data/stellar_light.ecsv",
    "imaging/stamps.py",
    "imaging/stretch.py",
    "mocks/chemistry.py",
    "mocks/chemo_recipe.py",
    "mocks/dynamics.py",
    "mocks/galaxy.py",
    "mocks/images.py",
    "mocks/light.py",
    "mocks/profiles.py",
    "mocks/scaling_relations.py",
    "mocks/star_table.py",
    "mocks/streams.py:star_tensors",
    "mocks/streams.py:star_galaxies",
    "mocks/streams.py:star_images",
    "mocks/surveys.py",
    "stars/encoder.py",
    "stars/fitting.py",
    "stars/images.py",
    "stars/network.py",
    "stars/population.py",
    "stars/scaling.py",
    "stars/training_set.py",
)


def card():
    """Describe the model before it is trained."""
    recipe = describe(
        CODE,
        population=STAR_TABLE_POPULATION,
        galaxies=[[part.start, part.stop] for part in GALAXIES],
        with_image=WITH_IMAGE,
        stars=STARS,
        image_stars=IMAGE_STARS,
        population_seed=POPULATION_SEED,
        training=TRAINING,
    )
    return {
        "title": "Stars of a galaxy from its mass, ages, metals, size and image",
        "training": (
            f"mocks of population {STAR_TABLE_POPULATION}, "
            f"{sum(map(len, GALAXIES))} galaxies, {WITH_IMAGE} of them with images"
        ),
        "population": STAR_TABLE_POPULATION,
        "limits": (
            "smooth axisymmetric galaxies with disks, bulge and halo, 7.5 to 11.2 in "
            "log10 of the stellar mass, without bars, arms, satellites or gas; at "
            "given conditions they differ less than real galaxies do"
        ),
        "license": "BSD-3-Clause",
        **recipe,
    }


def training_galaxies():
    """Give the stars of each galaxy with their escape speeds, and a row for each."""
    stars, conditions = [], []
    for numbers in GALAXIES:
        made = star_galaxies(
            len(numbers), STARS, seed=POPULATION_SEED, first=numbers.start
        )
        for number, (table, row) in zip(numbers, made, strict=True):
            p = draw_star_galaxies(number, 1, POPULATION_SEED)
            place = np.stack([table[name].to_value(u.kpc) for name in "xyz"])
            radius = torch.from_numpy(np.linalg.norm(place, axis=0)).float()
            escape = escape_speed(p, radius[None])[0].double().numpy()
            table["escape_speed"] = escape * u.km / u.s
            row = row[COLUMNS]
            row["r_max"] = p["extent"].double().numpy() * u.kpc
            row["image"] = np.empty(1, dtype=object)
            if len(stars) < WITH_IMAGE:
                row["image"][0] = image(number)
            stars.append(table)
            conditions.append(row)
    return stars, vstack(conditions, metadata_conflicts="silent")


def image(number):
    """Take the image of a galaxy."""
    images = star_images(1, IMAGE_STARS, seed=POPULATION_SEED, first=number)
    return galaxy_image(*next(images))


def train(cards, cache=None):
    """Train it."""
    yield (
        NAME,
        fit(
            *training_galaxies(),
            checkpoint=cache and cache / "checkpoint",
            progress=True,
            card=cards[NAME],
            **TRAINING,
        ),
    )


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
