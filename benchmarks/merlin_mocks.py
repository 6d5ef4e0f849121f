# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published autoencoder beside the default network, both trained on the same mocks.

    python benchmarks/merlin_mocks.py [--batches 100] [--cache FOLDER]

Each is trained on as many maps of gas until it stops improving: until so many epochs in
a row, the PATIENCE, have not lowered its loss on maps that do not train it. Both learn
less from them than the shipped weights have learned from more.
"""

import argparse
from pathlib import Path

import torch
from common import write_figures
from mock_answers import INPUTS, answer

from galml.core.fitting import fit_prepared
from galml.gas_kinematics import metrics, published
from galml.gas_kinematics.fitting import KinematicRecipe, MerlinRecipe
from galml.gas_kinematics.mock_data import augment, mock_data_set, withhold
from galml.mocks import gas_maps

SEEDS = {"training": 61, "validation": 63, "calibration": 64, "test": 65}
COUNTS = {"validation": 15, "calibration": 30, "test": 40}
EPOCHS, PATIENCE = 300, 6
LOWEST_INCLINATION = 30.0
KEYS = ("image", "scalars", "kappa", "residual_angle", "inclination")


def images(name, count):
    """Give maps as the published preparation makes them, with their truth."""
    parts = []
    noisy = False if name == "test" else None
    for _, maps in gas_maps(count, seed=SEEDS[name], noisy=noisy):
        image = published.prepare(maps.velocity.numpy()).image.half()
        truth = maps.truth
        parts.append((image, truth.kappa, truth.position_angle, truth.inclination))
    columns = map(torch.cat, zip(*parts, strict=True))
    keys = ("image", "kappa", "angle", "inclination")
    return dict(zip(keys, columns, strict=True))


def own(name, count):
    """Give the same maps as the default network takes them."""
    noisy = False if name == "test" else None
    data = mock_data_set(count, seed=SEEDS[name], noisy=noisy, tracer="gas")
    if name in ("validation", "calibration"):
        data = augment(
            {key: data[key].float() for key in KEYS},
            torch.Generator().manual_seed(SEEDS[name]),
        )
    return data


def until_it_stops(recipe, data, cache, **options):
    """Train a network until its loss stops improving."""
    return fit_prepared(
        recipe,
        data["training"],
        data["validation"],
        data.get("calibration"),
        epochs=EPOCHS,
        patience=PATIENCE,
        schedule="plateau",
        dtype="bfloat16",
        checkpoint=cache and cache / f"{recipe.architecture}.pt",
        progress=True,
        **options,
    )


def judge_published(model, data):
    """Figures of the published system: its own boundary, its latent angle."""
    parts = data["image"].split(1024)
    with torch.inference_mode():
        parts = [model.network.encode(part.float()) for part in parts]
    latents, config = torch.cat(parts).numpy(), model.config
    pca = {"mean": config["pca_mean"], "components": config["pca_components"]}
    rotating = published.classify(latents, config["boundary"], **pca)
    angle = published.latent_angle(latents, config["angle_offset"], **pca)
    turn = metrics.angle_error(angle, data["angle"].numpy())
    return figures(rotating, turn, data)


def judge_own(model, data):
    """Figures of the default network, which is shown the velocity map alone."""
    known = data | {"image": data["image"].float()}
    table = answer(model, withhold(known, INPUTS["velocity"]))
    turn = table["position_angle"].value - torch.rad2deg(data["residual_angle"]).numpy()
    share = float((data["kappa"] < metrics.BOUNDARY).float().mean())
    return figures(table["disturbed_probability"] <= share, turn, data)


def figures(rotating, turn, data):
    """Accuracy of both classes, and error of the angle of what rotates."""
    kappa = data["kappa"].numpy()
    seen = data["inclination"].numpy() >= LOWEST_INCLINATION
    clear = seen & (abs(kappa - metrics.BOUNDARY) >= metrics.MARGIN)
    return {
        "count": int(seen.sum()),
        "balanced_accuracy": metrics.balanced_accuracy(rotating[seen], kappa[seen]),
        "balanced_accuracy_clear": metrics.balanced_accuracy(
            rotating[clear], kappa[clear]
        ),
        "position_angle_scatter": metrics.scatter68(
            turn[seen & (kappa > metrics.ROTATING)]
        ),
    }


def main():
    """Train both, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    counts = COUNTS | {"training": args.batches}
    default = KinematicRecipe()
    options = {"settings": default.settings, "batch_size": 128}
    systems = {
        "default": (default, own, judge_own, options),
        "published": (MerlinRecipe(), images, judge_published, {}),
    }
    results = {}
    for key, (recipe, draw, judge, options) in systems.items():
        data = {name: draw(name, count) for name, count in counts.items()}
        model = until_it_stops(recipe, data, args.cache, **options)
        results[key] = judge(model, data["test"]) | {
            "maps": len(data["training"]["kappa"]),
            "epochs": len(model.history),
            "best_epoch": model.card["best_epoch"],
        }
        print(key, results[key])
    write_figures("circularity_published", results)


if __name__ == "__main__":
    main()
