# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.circularity` on the mocks and put it in place.

    python benchmarks/train_circularity.py [--cache FOLDER] [--check]

The mocks are a recipe: batches of the population of gas maps train the network, others
choose the best epoch, and others again make the errors honest. The cache keeps what is
prepared and the last epoch, so that a training that was stopped goes on; ``--check``
tells whether the weights in the package have this recipe.
"""

import argparse
from pathlib import Path

import torch
from common import RESULTS, check, describe, ship

from galml.core.fitting import fit_prepared
from galml.gas_kinematics.fitting import KinematicRecipe
from galml.gas_kinematics.mock_data import augment, mock_data_set
from galml.mocks import POPULATION

NAME = "kinematic-gas-2"
DOMAIN = "velocity maps of gas or stars, 3 to 60 beams across"
KEYS = ("image", "scalars", "kappa", "residual_angle", "inclination")
#: Number of batches and seed of the mocks that train, that choose the epoch, and that
#: make the errors right.
STREAMS = {"training": (800, 51), "validation": (30, 53), "calibration": (110, 54)}
#: Batches that are made at a time.
CHUNK = 10
#: Seeds of what is withheld from the mocks that do not train.
WITHHELD = {"validation": 0, "calibration": 1}
TRAINING = {
    "epochs": 12,
    "learning_rate": 3e-3,
    "batch_size": 256,
    "dtype": "bfloat16",
    "seed": 1,
}
#: What the mocks depend on.
CODE = (
    "mocks/streams.py",
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
        **describe(CODE, population=POPULATION, streams=STREAMS, training=TRAINING),
    }


def chunk(name, first, cache):
    """Prepare some batches of a stream, or take them from the cache."""
    count, seed = STREAMS[name]
    path = cache and cache / f"{name}-{seed}-{first}.pt"
    if path and path.exists():
        return torch.load(path)
    data = mock_data_set(min(CHUNK, count - first), seed=seed, first=first)
    if path:
        torch.save(data, path)
    return data


def mocks(name, cache):
    """Prepare a stream."""
    parts = [chunk(name, i, cache) for i in range(0, STREAMS[name][0], CHUNK)]
    data = {key: torch.cat([part[key] for part in parts]) for key in KEYS}
    return as_used(data, WITHHELD[name]) if name in WITHHELD else data


def as_used(data, seed):
    """Withhold what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    data = {key: value.float() for key, value in data.items()}
    return augment(data, generator)


def train(cache=None):
    """Train it, from the beginning or from where the cache says it was stopped."""
    about = card()
    recipe = KinematicRecipe()
    return fit_prepared(
        recipe,
        *(mocks(name, cache) for name in STREAMS),
        settings=recipe.settings,
        checkpoint=cache and cache / "checkpoint.pt",
        progress=True,
        card=about,
        **TRAINING,
    )


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        raise SystemExit(not check(NAME, card()))
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    model = train(args.cache)
    model.history.write(RESULTS / "circularity_history.ecsv", overwrite=True)
    ship(model, NAME, domain=DOMAIN)


if __name__ == "__main__":
    main()
