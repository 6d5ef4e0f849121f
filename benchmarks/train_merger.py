# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the model of `galml.merger` and `galml.contamination` on the mocks.

    python benchmarks/train_merger.py [--cache FOLDER] [--check]

The mocks are a recipe: encounters at several moments and from several sides, and
galaxies that do not merge, in the deep fields and as SDSS sees them. No encounter is in
two of the sets that train the network, choose the best epoch, and make the
probabilities right. The cache keeps what is prepared, so that a training that was
stopped goes on; ``--check`` tells whether the weights in the package have this recipe.
"""

import torch
from common import cached, describe, train_or_check

from galml.core.fitting import fit_prepared
from galml.mergers.fitting import MergerRecipe
from galml.mergers.mock_data import mock_data_set
from galml.mocks import MERGER_POPULATION

#: Batches that are made at a time.
CHUNK = 10
#: For each set and place the number of batches; and the seeds of the sets.
STREAMS = {
    "training": {"deep": 150, "near": 60},
    "validation": {"deep": 10, "near": 10},
    "calibration": {"deep": 30, "near": 20},
}
SEEDS = {"training": 3001, "validation": 3002, "calibration": 3003}
OPTIONS = {"n_particles": 8000}
TRAINING = {"batch_size": 128, "dtype": "bfloat16", "seed": 1}
EPOCHS, RATE = 12, 2e-3
KEYS = ("image", "scalars", "stage", "time", "contamination", "group")
#: What the mocks and the training depend on.
CODE = (
    "mocks/crowded.py",
    "mocks/deep_fields.py",
    "mocks/deep_light.py",
    "mocks/dynamics.py",
    "mocks/galaxy.py",
    "mocks/images.py",
    "mocks/light.py",
    "mocks/lookalikes.py",
    "mocks/merger_dynamics.py",
    "mocks/merger_recipe.py",
    "mocks/profiles.py",
    "mocks/space_psf.py",
    "mocks/star_recipe.py",
    "mocks/surveys.py",
    "data/deep_light.ecsv",
    "data/stellar_light.ecsv",
    "imaging/color_pictures.py",
    "mergers/fitting.py",
    "mergers/mock_data.py",
    "mergers/network.py",
    "mergers/posterior.py",
    "mergers/preparation.py",
)
NAME = "merger-1"
DOMAIN = "galaxies in F814W, F125W, F160W, F200W and, as SDSS sees them, in r"


def card():
    """Describe the model before it is trained."""
    return {
        "title": "Stages of mergers and contamination from images of one band",
        "training": f"mocks of population {MERGER_POPULATION}",
        "population": MERGER_POPULATION,
        "license": "BSD-3-Clause",
        **describe(
            CODE,
            population=MERGER_POPULATION,
            streams=STREAMS,
            seeds=SEEDS,
            mocks=OPTIONS,
            epochs=EPOCHS,
            learning_rate=RATE,
            training=TRAINING,
        ),
    }


def chunk(name, where, first, cache):
    """Prepare some batches of a set, or take them from the cache."""
    count, seed = STREAMS[name][where], SEEDS[name]

    def make():
        options = {"seed": seed, "where": where, "first": first, **OPTIONS}
        data = mock_data_set(min(CHUNK, count - first), **options)
        data["group"] = 10 * data["filter"] + data["field"] + 1
        return {
            key: data[key].float() if key in KEYS[2:] else data[key] for key in KEYS
        }

    return cached(cache, f"{name}-{where}-{seed}-{first}", make)


def mocks(name, cache=None):
    """Prepare a set of mocks."""
    parts = [
        chunk(name, where, first, cache)
        for where, count in STREAMS[name].items()
        for first in range(0, count, CHUNK)
    ]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def train(cards, cache=None):
    """Train the model."""
    calibration = mocks("calibration", cache)
    validation = mocks("validation", cache)
    model = fit_prepared(
        MergerRecipe(),
        mocks("training", cache),
        validation,
        calibration,
        card=cards[NAME],
        epochs=EPOCHS,
        learning_rate=RATE,
        checkpoint=cache and cache / "merger.checkpoint",
        progress=True,
        **TRAINING,
    )
    yield NAME, model


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
