# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.circularity` on the mocks and put it in place.

    python benchmarks/train_circularity.py

The mocks are a recipe: each stage of the training adds batches of population gas-1,
others choose the best epoch, and others again make the errors honest.
"""

from pathlib import Path

import torch
from common import ship

from galml.core.fitting import fit_prepared
from galml.gas_kinematics.fitting import KinematicRecipe
from galml.gas_kinematics.mock_data import augment, mock_data_set
from galml.mocks import POPULATION

NAME = "kinematic-gas-1"
#: Streams of mocks that each stage adds, its epochs, learning rate and seed.
STAGES = (
    (((900, 21), (900, 22)), 18, 2e-3, 1),
    (((600, 31), (600, 32)), 5, 7e-4, 1),
    (((1200, 41), (1200, 42)), 5, 1e-3, 2),
)
VALIDATION = (50, 23)
CALIBRATION = (200, 24)
CARD = {
    "title": "Circularity and position angle from velocity maps",
    "training": f"mocks of population {POPULATION}, in three stages",
    "population": POPULATION,
    "license": "BSD-3-Clause",
}


def mocks(streams):
    """Prepare streams of mocks, each a number of batches and a seed."""
    parts = [mock_data_set(count, seed=seed) for count, seed in streams]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def as_used(data, seed):
    """Withhold what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    data = {key: value.float() for key, value in data.items()}
    return augment(data, generator)


def main():
    """Run it."""
    keys = ("image", "scalars", "kappa", "residual_angle", "inclination")
    common = {
        "validation": as_used(mocks([VALIDATION]), 0),
        "calibration": as_used(mocks([CALIBRATION]), 1),
        "batch_size": 128,
        "dtype": "bfloat16",
        "progress": True,
        "card": CARD,
    }
    data, model = {}, None
    for streams, epochs, rate, seed in STAGES:
        more = mocks(streams)
        data = {k: torch.cat([data.pop(k, more[k][:0]), more.pop(k)]) for k in keys}
        model = fit_prepared(
            KinematicRecipe(),
            data,
            model=model,
            epochs=epochs,
            learning_rate=rate,
            seed=seed,
            **common,
        )
    model.history.write(
        Path(__file__).parent / "results" / "circularity_history.ecsv", overwrite=True
    )
    ship(model, NAME, domain="gas velocity maps, 3 to 60 beams across")


if __name__ == "__main__":
    main()
