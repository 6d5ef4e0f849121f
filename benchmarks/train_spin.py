# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the models of `galml.spin` on the mocks and put them in place.

    python benchmarks/train_spin.py [--cache FOLDER] [--check]

The mocks are a recipe: batches of the population of stars, seen in many surveys, and of
galaxies somewhat unlike it train the network, others choose the best epoch, and others
again, together with galaxies quite unlike the population, make the errors right. The
model for one band goes on from there,
without colors. The cache keeps what is prepared, so that a training that was stopped
goes on; ``--check`` tells whether the weights in the package have this recipe.
"""

from functools import partial

import torch
from common import cached, describe, train_or_check

from galml.core.fitting import fit_prepared
from galml.mocks import STAR_POPULATION, TYPES
from galml.physics import generator_for
from galml.stellar_spin.fitting import SpinRecipe, augment, forget
from galml.stellar_spin.mock_data import mock_data_set

KEYS = ("image", "scalars", "spin", "ellipticity", "type")
#: Batches that are made at a time.
CHUNK = 15
#: Number of batches and seed of the mocks that train, and of galaxies of which some are
#: unlike the population; of mocks that choose the epoch, that make the errors right,
#: and of those beside them that are still more unlike.
STREAMS = {
    "training": (1080, 2041),
    "varied": (210, 2042),
    "validation": (12, 2063),
    "calibration": (45, 2064),
    "stressed": (15, 2065),
}
#: The same of the model for one band, beside the training of the other without colors.
SINGLE_STREAMS = {
    "training": (30, 2051),
    "varied": (5, 2052),
    "validation": (8, 2053),
    "calibration": (30, 2054),
    "stressed": (10, 2055),
}
BANDS = (("g",), ("r",), ("i",), ("F814W",))
OPTIONS = {"n_particles": 10_000, "views": 2}
TRAINING = {"batch_size": 128, "dtype": "bfloat16", "seed": 1}
#: Epochs and highest learning rate of the two models.
EPOCHS, RATE = 6, 2e-3
SINGLE_EPOCHS, SINGLE_RATE = 1, 5e-4
#: Galaxies unlike the population: chance of each change, by which factors, and the
#: power of these factors in varied and in stressed mocks; and the largest share of
#: young stars.
CHANGE = 0.3
CHANGES = {
    "disk_height": (1.5, 3.0),
    "spheroid_radius": (1.5, 3.0),
    "bulge_fraction": (0.3, 0.7),
    "dust_depth": (3.0, 10.0),
    "disk_age": (0.25, 0.6),
    "spheroid_age": (0.25, 0.6),
    "metallicity": (0.2, 0.5),
    "young_fraction": (2.0, 4.0),
    "clump_size": (1.5, 3.0),
    "dispersion_ratio": (0.7, 1.2),
}
YOUNGEST = 0.5
POWERS = {"varied": 0.5, "stressed": 1.5}
#: Strength of the faults of images of stressed mocks.
STRESS = 3.0
#: What the mocks depend on.
CODE = (
    "mocks/star_recipe.py",
    "mocks/scaling_relations.py",
    "mocks/profiles.py",
    "mocks/dynamics.py",
    "mocks/galaxy.py",
    "mocks/gas_disk.py",
    "mocks/images.py",
    "mocks/light.py",
    "mocks/ifu.py",
    "mocks/surveys.py",
    "mocks/streams.py:galaxy_images",
    "mocks/streams.py:_draw_visible",
    "data/stellar_light.ecsv",
    "stellar_spin/mock_data.py",
    "imaging/aligned.py",
    "imaging/color_pictures.py",
    "stellar_spin/disturbance.py",
    "stellar_spin/preparation.py",
    "stellar_spin/network.py",
)
#: Models for several bands and for one, and what they are for.
NAMES = "stellar-spin-3", "stellar-spin-single-band-3"
DOMAINS = "galaxy images in optical bands", "galaxy images in one optical band"


def card(name):
    """Describe a model before it is trained."""
    recipe = {
        "population": STAR_POPULATION,
        "streams": STREAMS,
        "mocks": OPTIONS,
        "epochs": EPOCHS,
        "learning_rate": RATE,
        "training": TRAINING,
        "changes": CHANGES,
        "change": CHANGE,
        "powers": POWERS,
        "youngest": YOUNGEST,
        "stress": STRESS,
    }
    if name == NAMES[1]:
        recipe |= {
            "single_band_streams": SINGLE_STREAMS,
            "single_band_epochs": SINGLE_EPOCHS,
            "single_band_learning_rate": SINGLE_RATE,
            "bands": BANDS,
        }
    return {
        "title": "Stellar spin and ellipticity from images",
        "training": f"mocks of population {STAR_POPULATION}",
        "population": STAR_POPULATION,
        "license": "BSD-3-Clause",
        **describe(CODE, **recipe),
    }


def unlike(p, generator, power=1.0):
    """Change galaxies to what the population does not have."""
    p, n = dict(p), len(p["size"])
    for name, (low, high) in CHANGES.items():
        changed = torch.rand(n, generator=generator) < CHANGE
        place = torch.rand(n, generator=generator)
        factor = low * (high / low) ** place
        p[name] = torch.where(changed, p[name] * factor**power, p[name])
    p["young_fraction"] = p["young_fraction"].clamp(max=YOUNGEST)
    return p


def chunk(name, stream, first, bands, cache):
    """Prepare some batches of a stream, or take them from the cache."""
    count, seed = stream
    options = dict(OPTIONS)
    if name in POWERS:
        options["alter"] = partial(unlike, power=POWERS[name])
    if name == "stressed":
        options["disturbance"] = STRESS
    options |= {"seed": seed, "first": first, "bands": bands}

    def make():
        data = mock_data_set(min(CHUNK, count - first), **options)
        data["type"] = data["galaxy_type"]
        return {key: data[key] for key in KEYS}

    return cached(cache, f"{name}-{seed}-{first}", make)


def mocks(streams, *names, bands=None, cache=None):
    """Prepare streams of mocks as one data set."""
    parts = [
        chunk(name, streams[name], first, bands, cache)
        for name in names
        for first in range(0, streams[name][0], CHUNK)
    ]
    return joined(*parts)


def joined(*parts):
    """Put data sets into one."""
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def as_used(data, seed):
    """Forget what users may not know, as the training does."""
    generator = generator_for(seed, "knowledge of held-out mocks", 0)
    return augment({key: value.float() for key, value in data.items()}, generator)


def without_colors(data):
    """Leave the one band that shows the shape."""
    image, scalars = data["image"].clone(), data["scalars"].clone()
    for group in ("blue", "red"):
        forget(image, scalars, slice(None), group)
    return data | {"image": image, "scalars": scalars}


def held_out(streams, bands=None, cache=None):
    """Prepare mocks that choose the epoch, and those that make the errors right."""
    parts = {}
    for name in ("validation", "calibration", "stressed"):
        data = mocks(streams, name, bands=bands, cache=cache)
        parts[name] = as_used(data, streams[name][1])
    for name in ("calibration", "stressed"):
        state = torch.full_like(parts[name]["spin"], float(name == "stressed"))
        parts[name]["stressed"] = state
    return parts["validation"], joined(parts["calibration"], parts["stressed"])


def train(cards, cache=None):
    """Train both models."""
    several, one = NAMES
    common = TRAINING | {"settings": {"types": len(TYPES)}, "progress": True}
    sets = held_out(STREAMS, cache=cache)
    data = mocks(STREAMS, "training", "varied", cache=cache)
    model = fit_prepared(
        SpinRecipe(),
        data,
        *sets,
        card=cards[several],
        epochs=EPOCHS,
        learning_rate=RATE,
        checkpoint=cache and cache / "default.checkpoint",
        **common,
    )
    yield several, model
    more = mocks(SINGLE_STREAMS, "training", "varied", bands=BANDS, cache=cache)
    yield (
        one,
        fit_prepared(
            SpinRecipe(),
            joined(without_colors(data), more),
            *held_out(SINGLE_STREAMS, BANDS, cache),
            model=model,
            card=cards[one],
            epochs=SINGLE_EPOCHS,
            learning_rate=SINGLE_RATE,
            checkpoint=cache and cache / "single.checkpoint",
            **common,
        ),
    )


if __name__ == "__main__":
    train_or_check(
        __doc__,
        train,
        {name: card(name) for name in NAMES},
        dict(zip(NAMES, DOMAINS, strict=True)),
    )
