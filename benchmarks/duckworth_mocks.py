# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published network for stellar spin, trained on mocks as it was trained.

    python benchmarks/duckworth_mocks.py FILE [--batches 1200] [--epochs 35]

As many galaxies as the default model was trained on, all seen in g, r and i, which
the network was made for. Writes the model to FILE, for ``spin_mocks.py --published
FILE``.
"""

import argparse

import torch

from galml.stellar_spin.fitting import fit_published
from galml.stellar_spin.training import mock_data_set

BANDS = ("g", "r", "i")
SEEDS, VALIDATION, CALIBRATION = (41, 42), (40, 43), (40, 44)


def pictures(batches, seed):
    """Colour images as the published preparation makes them, with their truth."""
    data = mock_data_set(batches, seed=seed, bands=BANDS, colors=True)
    return {"image": data["colors"], "spin": data["spin"]}


def main():
    """Train it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--batches", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    parts = [pictures(args.batches // 2, seed) for seed in SEEDS]
    data = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    model = fit_published(
        data,
        pictures(*VALIDATION),
        pictures(*CALIBRATION),
        epochs=args.epochs,
        dtype="bfloat16",
        name="duckworth2020-mocks",
        checkpoint=args.checkpoint,
        progress=True,
    )
    print(model.card)
    model.save(args.file)


if __name__ == "__main__":
    main()
