# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published network for stellar spin, trained on mocks as it was trained.

    python benchmarks/duckworth_mocks.py FOLDER [--batches 1200] [--epochs 200]

Both networks are trained until they no longer improve; without an accelerator that
takes days.

All galaxies are seen in g, r and i, which the network was made for. Writes both models
to the FOLDER, for ``spin_mocks.py --beside FOLDER``.
"""

import argparse
from pathlib import Path

import torch

from galml.core.fitting import fit_prepared
from galml.stellar_spin.fitting import DuckworthRecipe, SpinRecipe
from galml.stellar_spin.mock_data import mock_data_set

BANDS = ("g", "r", "i")
SEEDS, VALIDATION, CALIBRATION = (41, 42), (10, 43), (20, 44)
#: Epochs without a better one after which a training ends.
PATIENCE = 12


def draw(batches, seed):
    """Galaxies as both networks take them."""
    return mock_data_set(batches, seed=seed, bands=BANDS, published_images=True)


def color_images(data):
    """Color images as the published preparation makes them, with their truth."""
    return {"image": data["colors"], "spin": data["spin"]}


def own(data):
    """Give prepared images as the default network takes them, with their truth."""
    keys = ("image", "scalars", "spin", "ellipticity")
    return {key: data[key].float() for key in keys}


def main():
    """Train it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    parts = [draw(args.batches // 2, seed) for seed in SEEDS]
    data = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    sets = data, draw(*VALIDATION), draw(*CALIBRATION)
    options = {"dtype": "bfloat16", "progress": True}
    training = {"epochs": 24, "learning_rate": 2e-3, "batch_size": 128}
    model = fit_prepared(SpinRecipe(), *map(own, sets), **training, **options)
    print(model.card)
    model.save(args.folder / "default.safetensors", overwrite=True)
    published = map(color_images, sets)
    options |= {"epochs": args.epochs, "patience": PATIENCE}
    model = fit_prepared(DuckworthRecipe(), *published, **options)
    print(model.card)
    model.save(args.folder / "published.safetensors", overwrite=True)


if __name__ == "__main__":
    main()
