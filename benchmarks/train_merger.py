# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the model of `galml.merger` and `galml.contamination` on the mocks.

    python benchmarks/train_merger.py [--cache FOLDER] [--check]

The mocks are a recipe: encounters at several moments and from several sides, and
galaxies that do not merge, in the deep fields and as SDSS sees them. One network learns
from deep images, and another one from nearby ones.
No encounter is in two of the sets that train, choose the best epoch, and make the
probabilities right. The cache keeps what is prepared, so that a training that was
stopped goes on; ``--check`` tells whether the weights in the package have this recipe.
"""

import torch
from astropy.table import QTable, vstack
from common import cached, describe, train_or_check

from galml.core.fitting import fit_prepared, new_network
from galml.core.model import GalaxyModel
from galml.mergers.fitting import MergerRecipe
from galml.mergers.mock_data import mock_data_set
from galml.mergers.network import WIDTHS, MergerNet
from galml.mocks import MERGER_POPULATION

#: Batches that are made at a time.
CHUNK = 10
#: For each set and place the number of batches; and the seeds of the sets.
STREAMS = {
    "training": {"deep": 232, "near": 60},
    "more": {"deep": 32, "near": 0},
    "fresh": {"deep": 232, "near": 0},
    "validation": {"deep": 10, "near": 10},
    "calibration": {"deep": 40, "near": 20},
}
SEEDS = {
    "training": 3001,
    "more": 3004,
    "fresh": 3005,
    "validation": 3002,
    "calibration": 3003,
}
OPTIONS = {"n_particles": 8000}
BATCH, TRAINING = {"deep": 256, "near": 128}, {"dtype": "bfloat16"}
#: Sets that a round learns from.
FIRST, MORE, FRESH = ("training",), ("training", "more"), ("fresh",)
#: Epochs, highest learning rate, seed and sets of each round of the networks for deep
#: and nearby images. The latter are few: the longer it learns from mocks, the less it
#: knows observed galaxies, as the development half of those of the Galaxy Zoo says.
EPOCHS = {
    "deep": (
        (5, 2e-3, 1, FIRST),
        (14, 1e-3, 2, FIRST),
        (8, 7e-4, 3, FIRST),
        (7, 7e-4, 4, FIRST),
        (12, 7e-4, 5, FIRST),
        (12, 7e-4, 6, FIRST),
        (14, 1e-3, 7, MORE),
        (30, 7e-4, 8, MORE),
        (12, 7e-4, 9, FRESH),
    ),
    "near": ((4, 2e-3, 2, FIRST),),
}
KEYS = ("image", "scalars", "stage", "time", "contamination", "group", "system")
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
NAME = "merger-2"
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
            training=TRAINING | {"batch_size": BATCH},
        ),
    }


def chunk(name, where, first, cache):
    """Prepare some batches of a set, or take them from the cache."""
    count, seed = STREAMS[name][where], SEEDS[name]

    def make():
        options = {"seed": seed, "where": where, "first": first, **OPTIONS}
        data = mock_data_set(min(CHUNK, count - first), **options)
        data["group"] = 10 * data["filter"] + data["field"] + 1
        # Images stay in half precision.
        return {key: data[key] if key == "image" else data[key].float() for key in KEYS}

    return cached(cache, f"{name}-{where}-{seed}-{first}", make)


def mocks(names, places, cache=None):
    """Prepare sets of mocks of some places, as one."""
    parts = [
        chunk(name, where, first, cache)
        for name in names
        for where in places
        for first in range(0, STREAMS[name][where], CHUNK)
    ]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def fitted(where, widths, cache):
    """Train the network for mocks of one place, round by round."""
    model = None
    others = [mocks((name,), (where,), cache) for name in ("validation", "calibration")]
    for number, (epochs, rate, seed, names) in enumerate(EPOCHS[where]):
        model = fit_prepared(
            MergerRecipe(),
            mocks(names, (where,), cache),
            *others,
            model=model,
            settings={"widths": [widths]},
            epochs=epochs,
            learning_rate=rate,
            seed=seed,
            checkpoint=cache and cache / f"{where}-{number}.checkpoint",
            progress=True,
            batch_size=BATCH[where],
            **TRAINING,
        )
    return model


def train(cards, cache=None):
    """Train networks for deep and for nearby images, and make one model of them."""
    places = zip(EPOCHS, WIDTHS, strict=True)
    parts = [fitted(where, widths, cache) for where, widths in places]
    yield NAME, joined(parts, cards[NAME], cache)


def joined(parts, card, cache):
    """Make one model of two networks."""
    recipe, network = MergerRecipe(), new_network(MergerNet)
    for branch, part in zip(network.branches, parts, strict=True):
        branch.load_state_dict(part.network.branches[0].state_dict())
    described = {
        "operation": recipe.operation,
        "architecture": recipe.architecture,
        "options": {},
        "input_spec": recipe.input_spec,
    }
    data, calibration = (
        mocks(names, ("deep", "near"), cache)
        for names in (MORE + FRESH, ("calibration",))
    )
    bare = GalaxyModel(network, config={}, card={}, **described)
    config, figures = recipe.calibrate(bare, data, calibration, device="cpu")
    card = {"training_images": len(data["stage"]), "figures": figures} | card
    model = GalaxyModel(network, config=config, card=card, **described)
    tables = [QTable(part.history) for part in parts]
    for table, where in zip(tables, ("deep", "near"), strict=True):
        table["network"] = where
    model.history = vstack(tables)
    return model


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
