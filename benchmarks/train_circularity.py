# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.circularity` on the mocks and put it in place.

    python benchmarks/train_circularity.py [--cache FOLDER] [--check]

The mocks are a recipe: batches of the population of gas maps train the network, others
choose the best epoch, and others again make the errors honest. The cache keeps what is
prepared and the last epoch, so that a training that was stopped goes on; ``--check``
tells whether the weights in the package have this recipe.
"""

import torch
from common import cached, describe, train_or_check

from galml.core.fitting import fit_prepared
from galml.gas_kinematics.fitting import KinematicRecipe
from galml.gas_kinematics.mock_data import augment, mock_data_set
from galml.mocks import POPULATION
from galml.mocks.gas_recipe import PLAIN_SHARE
from galml.mocks.streams import GAS_GRIDS, STAR_SHARE

NAME = "kinematic-gas-3"
DOMAIN = "velocity maps of gas or stars, 3 to 60 beams across"
KEYS = ("image", "scalars", "kappa", "residual_angle", "inclination")
#: Of each stage, number of batches and seed of the mocks that train and that choose the
#: epoch, and the share of plain disks among them: the first stage learns what is seen
#: of any disorder, the second how often what looks ordered is hot.
STAGES = (
    {"training": (640, 51), "validation": (30, 53), "plain": 0.0},
    {"training": (160, 55), "validation": (20, 56), "plain": PLAIN_SHARE},
)
#: The same of the mocks that make the errors right.
CALIBRATION = {"calibration": (200, 57), "plain": PLAIN_SHARE}
#: Batches that are made at a time.
CHUNK = 10
#: Seeds of what is withheld from the mocks that do not train.
WITHHELD = {"validation": 0, "calibration": 1}
#: Epochs and highest learning rate of each stage.
EPOCHS, RATES = (8, 4), (3e-3, 1e-3)
TRAINING = {"batch_size": 256, "dtype": "bfloat16", "seed": 1}
#: What the mocks and the errors depend on.
CODE = (
    "core/distributions.py",
    "mocks/streams.py:gas_maps",
    "mocks/gas_recipe.py",
    "mocks/gas_map.py",
    "mocks/surveys.py",
    "mocks/star_recipe.py",
    "mocks/scaling_relations.py",
    "mocks/profiles.py",
    "mocks/dynamics.py",
    "mocks/galaxy.py",
    "gas_kinematics/mock_data.py",
    "gas_kinematics/preparation.py",
    "gas_kinematics/harmonic.py",
    "gas_kinematics/network.py",
    "gas_kinematics/posterior.py",
    "gas_kinematics/fitting.py",
)


def card():
    """Describe the model before it is trained."""
    return {
        "title": "Circularity and position angle from velocity maps",
        "training": f"mocks of population {POPULATION}",
        "population": POPULATION,
        "license": "BSD-3-Clause",
        **describe(
            CODE,
            population=POPULATION,
            grids=GAS_GRIDS,
            star_share=STAR_SHARE,
            stages=STAGES,
            calibration=CALIBRATION,
            epochs=EPOCHS,
            learning_rates=RATES,
            training=TRAINING,
        ),
    }


def chunk(name, stage, first, cache):
    """Prepare some batches of a stream, or take them from the cache."""
    count, seed = stage[name]
    options = {"seed": seed, "first": first, "plain": stage["plain"]}
    return cached(
        cache,
        f"{name}-{seed}-{first}",
        lambda: mock_data_set(min(CHUNK, count - first), **options),
    )


def mocks(name, stage, cache):
    """Prepare a stream."""
    parts = [chunk(name, stage, i, cache) for i in range(0, stage[name][0], CHUNK)]
    data = {key: torch.cat([part[key] for part in parts]) for key in KEYS}
    if name == "calibration":
        # The network learns to turn to the axis of the spin. What an error is of can be
        # measured: what would be seen without noise, beam and gaps.
        parts = [part["residual_kinematic"] for part in parts]
        data["residual_angle"] = torch.cat(parts)
    return as_used(data, WITHHELD[name]) if name in WITHHELD else data


def as_used(data, seed):
    """Withhold what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    data = {key: value.float() for key, value in data.items()}
    return augment(data, generator)


def train(cards, cache=None):
    """Train it, from the beginning or from where the cache says it was stopped."""
    recipe, model = KinematicRecipe(), None
    calibration = mocks("calibration", CALIBRATION, cache)
    for place, stage in enumerate(STAGES):
        model = fit_prepared(
            recipe,
            mocks("training", stage, cache),
            mocks("validation", stage, cache),
            calibration,
            model=model,
            settings=recipe.settings,
            epochs=EPOCHS[place],
            learning_rate=RATES[place],
            checkpoint=cache and cache / f"stage-{place}.pt",
            progress=True,
            card=cards[NAME],
            **TRAINING,
        )
    yield NAME, model


if __name__ == "__main__":
    train_or_check(__doc__, train, {NAME: card()}, {NAME: DOMAIN})
