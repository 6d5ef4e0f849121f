# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How well galaxies are drawn again from more or fewer latents.

    python benchmarks/morphology/latent_size.py [--cache DIR] [--epochs 8]

Networks that differ in the number of latents of the morphology alone are trained on a
part of what has trained the model of the package, and judged on pictures of the Galaxy
Zoo in the reporting half, whose pixels no training has seen. Each has eight numbers of
the pose beside.
"""

import argparse
import sys
from pathlib import Path

import torch

from galml.core.fitting import evaluate, fit_prepared
from galml.imaging import read_images
from galml.morphology.fitting import MorphologyRecipe
from galml.morphology.metrics import root_mean_square, structural_similarity
from galml.morphology.preparation import INPUT, drawn, known_cells, prepare

sys.path.append(str(Path(__file__).resolve().parents[1]))
import train_morphology
from common import HALVES, cached, galaxy_zoo, half_of, show, write_figures

SIZES = (4, 8, 16, 32, 64)
#: Batches of mock galaxies, beside all pictures of the development half.
STREAMS = {"training": {"stars": 40}, "validation": {"stars": 5}}
RATE, SEED, BLOCK = 2e-3, 1, 256


def training_set(name, cache):
    """Prepare a part of the galaxies of the training."""
    size = train_morphology.CHUNK
    parts = [
        train_morphology.chunk(name, "stars", first, size, cache)
        for first in range(0, STREAMS[name]["stars"], size)
    ]
    if name == "training":
        parts.append(train_morphology.chunk(name, "pictures", 0, 0, cache))
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def pictures():
    """Prepare the pictures of the reporting half."""
    names, _, images = galaxy_zoo(range(6))
    images = images[[half_of(name) == HALVES[1] for name in names]]
    parts = [
        prepare(member, INPUT).inputs
        for start in range(0, len(images), BLOCK)
        for member in read_images(images[start : start + BLOCK]).members
    ]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def main():
    """Train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    sets = [training_set(name, args.cache) for name in STREAMS]
    train_morphology.standardize(sets)
    data = cached(args.cache, "reporting pictures", pictures)
    wanted, known = drawn(data["image"]), known_cells(data["image"], data["scalars"])
    rows = {}
    for size in SIZES:
        settings = {"properties": train_morphology.WIDTH, "latents": size}
        model = fit_prepared(
            MorphologyRecipe(),
            *sets,
            sets[1],
            settings=settings,
            epochs=args.epochs,
            learning_rate=RATE,
            seed=SEED,
            checkpoint=args.cache and args.cache / f"latent size {size}.safetensors",
            **train_morphology.TRAINING,
        )
        planes = evaluate(model.network, data)["planes"]
        values = structural_similarity(planes, wanted, known)
        rows[str(size)] = {
            "ssim": float(values.mean()),
            "ssim_error": float(values.std() / len(values) ** 0.5),
            "error": float(root_mean_square(planes, wanted, known).mean()),
        }
        print(size, rows[str(size)], flush=True)
    show("latents", rows)
    figures = {"sizes": rows, "epochs": args.epochs, "galaxies": len(data["image"])}
    figures["training"] = len(sets[0]["image"])
    write_figures("morphology/latent_size", figures)


if __name__ == "__main__":
    main()
