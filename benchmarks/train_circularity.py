# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.circularity` on the mocks and put it in place.

    python benchmarks/train_circularity.py [--epochs 18] [--checkpoint FILE]

The mocks are a recipe: 1800 batches of population gas-1 train the network, others
choose the best epoch, and others again make the errors honest.
"""

import argparse
import json
from pathlib import Path

import torch

from galml.core.model import GalaxyModel
from galml.gas_kinematics.fitting import fit_kinematic
from galml.gas_kinematics.training import augment, mock_data_set
from galml.mocks import POPULATION

DATA = Path(__file__).parents[1] / "galml" / "data"
NAME = "kinematic-gas-1"
TRAINING = ((900, 21), (900, 22))
VALIDATION = (50, 23)
CALIBRATION = (200, 24)
CARD = {
    "title": "Circularity and position angle from velocity maps",
    "training": f"mocks of population {POPULATION}, {len(TRAINING)} streams",
    "population": POPULATION,
    "licence": "BSD-3-Clause",
}


def merged(parts):
    """Concatenate data sets."""
    parts = list(parts)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def as_used(data, seed):
    """Forget what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    data = {key: value.float() for key, value in data.items()}
    return augment(data, generator)


def ship(model):
    """Write the model into the package and enter it in the list of models."""
    path = DATA / f"{NAME}.safetensors"
    model.name = NAME
    model.save(path, dtype="float16")
    entry = {
        "operation": "circularity",
        "name": NAME,
        "default": True,
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": GalaxyModel.load(path).sha256,
        "licence": CARD["licence"],
        "domain": "gas velocity maps, 3 to 60 beams across",
    }
    listing = DATA / "models.json"
    others = [e for e in json.loads(listing.read_text()) if e["name"] != NAME]
    listing.write_text(json.dumps([*others, entry], indent=2) + "\n")
    print(f"{path}: {entry['size'] / 1e6:.2f} MB, figures {model.card['figures']}")


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    data = merged(mock_data_set(n, seed=seed) for n, seed in TRAINING)
    keys = ("image", "scalars", "kappa", "left", "inclination")
    model = fit_kinematic(
        {key: data[key] for key in keys},
        as_used(mock_data_set(VALIDATION[0], seed=VALIDATION[1]), 0),
        as_used(mock_data_set(CALIBRATION[0], seed=CALIBRATION[1]), 1),
        epochs=args.epochs,
        batch_size=128,
        learning_rate=2e-3,
        dtype="bfloat16",
        seed=1,
        checkpoint=args.checkpoint,
        progress=True,
        card=CARD,
    )
    model.history.write(
        Path(__file__).parent / "results" / "circularity_history.ecsv", overwrite=True
    )
    ship(model)


if __name__ == "__main__":
    main()
