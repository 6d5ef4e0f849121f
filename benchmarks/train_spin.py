# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the models of `galml.spin` on the mocks and put them in place.

    python benchmarks/train_spin.py [--single-band]

The mocks are a recipe: batches of population stars-1, seen in many surveys, train the
network, others choose the best epoch, and others again make the errors honest.
"""

import argparse
from pathlib import Path

import torch
from common import ship

from galml.mocks.stars import STAR_POPULATION
from galml.stellar_spin.fitting import fit_spin
from galml.stellar_spin.training import augment, mock_data_set

TRAINING = ((600, 41), (600, 42))
VALIDATION = (40, 43)
CALIBRATION = (160, 44)
KEYS = ("image", "scalars", "spin", "ellipticity")
#: Name, sets of bands (those of many surveys where there are none), and domain.
MODELS = {
    False: ("stellar-spin-1", None, "galaxy images in optical bands"),
    True: (
        "stellar-spin-single-band-1",
        (("g",), ("r",), ("i",), ("F814W",)),
        "galaxy images in one optical band",
    ),
}


def mocks(streams, bands):
    """Prepare streams of mocks, each a number of batches and a seed."""
    parts = [mock_data_set(count, seed=seed, bands=bands) for count, seed in streams]
    return {key: torch.cat([part[key] for part in parts]) for key in KEYS}


def as_used(data, seed):
    """Forget what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    return augment({key: value.float() for key, value in data.items()}, generator)


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--single-band", action="store_true")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    name, bands, domain = MODELS[args.single_band]
    model = fit_spin(
        mocks(TRAINING, bands),
        as_used(mocks([VALIDATION], bands), 0),
        as_used(mocks([CALIBRATION], bands), 1),
        epochs=args.epochs,
        learning_rate=2e-3,
        batch_size=128,
        dtype="bfloat16",
        seed=1,
        progress=True,
        checkpoint=args.checkpoint,
        card={
            "title": "Stellar spin and ellipticity from images",
            "training": f"mocks of population {STAR_POPULATION}",
            "population": STAR_POPULATION,
            "licence": "BSD-3-Clause",
        },
    )
    results = Path(__file__).parent / "results"
    model.history.write(results / f"{name}_history.ecsv", overwrite=True)
    ship(model, name, default=not args.single_band, domain=domain)


if __name__ == "__main__":
    main()
