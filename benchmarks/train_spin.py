# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the models of `galml.spin` on the mocks and put them in place.

    python benchmarks/train_spin.py

The mocks are a recipe: batches of population stars-1, seen in many surveys, train the
network in stages, others choose the best epoch, and others again make the errors
right. The model for one band goes on from there, without colors. The first stages of
the weights in the package had mocks of earlier versions of the population, in which
spirals had wider bulges and deeper dust, and simpler color images.
"""

from pathlib import Path

import torch
from common import ship

from galml.core.fitting import fit_prepared
from galml.mocks import STAR_POPULATION
from galml.stellar_spin.fitting import SpinRecipe, augment, forget
from galml.stellar_spin.mock_data import mock_data_set

KEYS = ("image", "scalars", "spin", "ellipticity")
#: Streams of mocks that each stage adds, its epochs, learning rate and seed.
STAGES = (
    (((500, 41), (450, 42)), 14, 2e-3, 1),
    (((600, 45),), 6, 1.2e-3, 2),
    (((240, 61), (300, 62), (240, 67)), 9, 1.2e-3, 5),
)
VALIDATION = (30, 63)
CALIBRATION = (60, 64)
#: The same of the model for one band, and what each batch of it is seen in.
SINGLE = (((200, 51),), 4, 1e-3, 1)
SINGLE_VALIDATION = (30, 53)
SINGLE_CALIBRATION = (100, 54)
BANDS = (("g",), ("r",), ("i",), ("F814W",))
OPTIONS = {"n_particles": 12_000, "views": 2}
TRAINING = {"batch_size": 128, "dtype": "bfloat16", "progress": True}
CARD = {
    "title": "Stellar spin and ellipticity from images",
    "training": f"mocks of population {STAR_POPULATION}, in stages",
    "population": STAR_POPULATION,
    "license": "BSD-3-Clause",
}
#: Name and domain of the models, by whether they are for one band.
MODELS = {
    False: ("stellar-spin-1", "galaxy images in optical bands"),
    True: ("stellar-spin-single-band-1", "galaxy images in one optical band"),
}


def mocks(streams, bands=None):
    """Prepare streams of mocks, each a number of batches and a seed."""
    parts = [
        mock_data_set(count, seed=seed, bands=bands, **OPTIONS)
        for count, seed in streams
    ]
    return {key: torch.cat([part[key] for part in parts]) for key in KEYS}


def as_used(data, seed):
    """Forget what users may not know, as the training does."""
    generator = torch.Generator().manual_seed(seed)
    return augment({key: value.float() for key, value in data.items()}, generator)


def without_colors(data):
    """Leave the one band that shows the shape."""
    image, scalars = data["image"].clone(), data["scalars"].clone()
    for group in ("blue", "red"):
        forget(image, scalars, slice(None), group)
    return data | {"image": image, "scalars": scalars}


def joined(first, second):
    """Put two data sets into one."""
    return {key: torch.cat([first.pop(key), second.pop(key)]) for key in KEYS}


def place(model, single_band):
    """Put a model into the package, and its history beside the figures."""
    name, domain = MODELS[single_band]
    results = Path(__file__).parent / "results"
    model.history.write(results / f"{name}_history.ecsv", overwrite=True)
    ship(model, name, default=not single_band, domain=domain)


def main():
    """Run it."""
    sets = as_used(mocks([VALIDATION]), 0), as_used(mocks([CALIBRATION]), 1)
    data = model = None
    for streams, epochs, rate, seed in STAGES:
        more = mocks(streams)
        data = more if data is None else joined(data, more)
        options = {"epochs": epochs, "learning_rate": rate, "seed": seed, "card": CARD}
        model = fit_prepared(
            SpinRecipe(), data, *sets, model=model, **options, **TRAINING
        )
    place(model, single_band=False)
    streams, epochs, rate, seed = SINGLE
    data = joined(without_colors(data), mocks(streams, BANDS))
    sets = (
        as_used(mocks([SINGLE_VALIDATION], BANDS), 0),
        as_used(mocks([SINGLE_CALIBRATION], BANDS), 1),
    )
    options = {"epochs": epochs, "learning_rate": rate, "seed": seed, "card": CARD}
    model = fit_prepared(SpinRecipe(), data, *sets, model=model, **options, **TRAINING)
    place(model, single_band=True)


if __name__ == "__main__":
    main()
