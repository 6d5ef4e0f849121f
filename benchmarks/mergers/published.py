# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published network of Ferreira et al. (2022) and the default one on the same mocks.

    python benchmarks/mergers/published.py train FILE [--cache FOLDER] [--epochs 35]
    python benchmarks/mergers/published.py judge FILE [--cache FOLDER] [--beside FILE]

It learns from images in F814W of encounters and galaxies that the default network
learns from, too, in 128 pixels a side, for as many epochs as published, in batches of
more images: the rate of learning rises to a peak and falls as a cosine. Both are judged
after as many passes on images of encounters that neither has seen; beside them another
model, such as the default one before it learned from more mocks than these.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from mocks import CHUNK, SEED, answers, judge

from galml.core.fitting import evaluate, fit_prepared
from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.imaging import GalaxyImages
from galml.mergers.fitting import PASSES, FerreiraRecipe
from galml.mergers.mock_data import mock_data_set
from galml.mergers.posterior import merger_samples
from galml.mergers.preparation import FILTERS
from galml.mergers.published import INPUT, prepare
from galml.physics import pivot_wavelengths

sys.path.append(str(Path(__file__).resolve().parents[1]))
import train_merger
from common import cached, write_figures

FILTER = "F814W"
TRAINING = {"batch_size": 128, "learning_rate": 1e-3, "schedule": "cycle"}


def published_images(data):
    """Prepare mocks in one filter as the published network sees them.

    Parameters
    ----------
    data : dict of str to `torch.Tensor`
        What `~galml.mergers.mock_data.mock_data_set` gave, with cutouts.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, 1, 128, 128) in float16, ``stage`` and ``group``, shape (n,).
    """
    rows = (data["filter"] == list(FILTERS).index(FILTER)).nonzero()[:, 0]
    values = data["cutout"][rows].float()
    n, side = len(rows), values.shape[-1]
    unknown = np.full((n, 1), np.nan)
    images = GalaxyImages(
        values=values.numpy(),
        bands=(FILTER,),
        wavelengths=pivot_wavelengths((FILTER,)),
        calibrated=True,
        r_eff=unknown[:, 0],
        noise=unknown,
        psf_fwhm=unknown,
        center=np.full((n, 2), (side - 1) / 2),
        pixel_scale=unknown[:, 0],
        flags=np.zeros(n, dtype=int),
        names=[None] * n,
    )
    half = torch.full((n,), side / 2, dtype=torch.float64)
    group = 10 * data["filter"][rows] + data["field"][rows] + 1
    return {
        "image": prepare(images, 0, half, INPUT).image.half(),
        "stage": data["stage"][rows].float(),
        "group": group.float(),
    }


def chunk(name, first, cache):
    """Prepare some batches of a set of the training, or take them from the cache."""
    seed = train_merger.SEEDS[name]

    def make():
        options = {"seed": seed, "where": "deep", "first": first, "cutouts": True}
        data = mock_data_set(CHUNK, **options, **train_merger.OPTIONS)
        return published_images(data)

    return cached(cache, f"published-{name}-{seed}-{first}", make)


def mocks(name, cache):
    """Prepare a set of the training."""
    count = train_merger.STREAMS[name]["deep"]
    parts = [chunk(name, first, cache) for first in range(0, count, CHUNK)]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def train(args):
    """Train the published network and save it."""
    sets = [mocks(name, args.cache) for name in ("training", "validation")]
    sets.append(mocks("calibration", args.cache))
    model = fit_prepared(
        FerreiraRecipe(),
        *sets,
        name="ferreira2022-mocks",
        seed=1,
        card=TRAINING | {"epochs": args.epochs},
        epochs=args.epochs,
        dtype="bfloat16",
        checkpoint=args.cache and args.cache / "published.checkpoint",
        progress=True,
        **TRAINING,
    )
    model.save(args.file, overwrite=True)
    print(model.card)


def judge_both(args):
    """Judge both networks on the same images."""

    def make():
        options = {"seed": SEED, "where": "deep", "first": 0, "cutouts": True}
        return mock_data_set(CHUNK, **options)

    data = cached(args.cache, f"test-deep-{SEED}-0", make)
    seen = published_images(data)
    rows = data["filter"] == list(FILTERS).index(FILTER)
    data = {key: value[rows] for key, value in data.items() if len(value) == len(rows)}
    stage = data["stage"].numpy()
    published, own = GalaxyModel.load(args.file), load_model("default", "merger")
    logits = evaluate(published.network, {"image": seen["image"]}, n_samples=PASSES)
    numbers = published.config["temperature"]["all"]
    constant = torch.ones(len(stage))
    chances = {
        "ferreira2022": merger_samples(
            logits["logits"], numbers["merger"] * constant, numbers["offset"] * constant
        ).numpy(),
        own.name: answers(own, data)["samples"],
    }
    if args.beside:
        other = GalaxyModel.load(args.beside)
        chances[f"{own.name}, from these mocks alone"] = answers(other, data)["samples"]
    figures = {
        name: judge(chance.mean(1), stage == 3, stage == 0)
        for name, chance in chances.items()
    }
    for name, row in figures.items():
        print(name, {key: round(value, 3) for key, value in row.items()})
    card = {"card": published.card, "epochs": published.card["best_epoch"] + 1}
    write_figures("mergers/published", {"figures": figures, "published": card})


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    commands = parser.add_subparsers(required=True)
    for name, work in (("train", train), ("judge", judge_both)):
        one = commands.add_parser(name)
        one.set_defaults(work=work)
        one.add_argument("file", type=Path)
        one.add_argument("--cache", type=Path)
        one.add_argument("--epochs", type=int, default=35)
        one.add_argument("--beside", type=Path)
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    args.work(args)


if __name__ == "__main__":
    main()
