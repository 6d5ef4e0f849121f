# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published autoencoder, trained on the mocks that the default model was trained on.

    python benchmarks/merlin_mocks.py FILE [--epochs 8]

Writes the model to FILE, for ``circularity_mocks.py --merlin FILE``.
"""

import argparse

import torch

from galml.core.fitting import fit_prepared
from galml.gas_kinematics import metrics, published
from galml.gas_kinematics.fitting import MerlinRecipe
from galml.mocks import gas_maps

BATCHES, SEEDS = 200, (21, 22)
VALIDATION = (20, 23)


def images(batches, seed, noisy=None):
    """Give maps as the published preparation makes them, with their truth."""
    parts = []
    for _, maps in gas_maps(batches, seed=seed, noisy=noisy):
        image = published.prepare(maps.velocity.numpy()).image.half()
        parts.append((image, maps.truth.kappa, maps.truth.position_angle))
    columns = map(torch.cat, zip(*parts, strict=True))
    return dict(zip(("image", "kappa", "angle"), columns, strict=True))


def train_merlin(epochs, batches=BATCHES):
    """Train it; truths set the boundary of its classes and its zero of angles."""
    parts = [images(batches, seed) for seed in SEEDS]
    data = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    validation = {"image": images(*VALIDATION)["image"]}
    return fit_prepared(
        MerlinRecipe(),
        data,
        validation,
        epochs=epochs,
        name="merlin-mocks",
        progress=True,
    )


def judge_merlin(model, data):
    """Figures of the published system: its own boundary, its latent angle.

    ``data`` is what `images` gave.
    """
    parts = data["image"].split(1024)
    with torch.inference_mode():
        parts = [model.network.encode(part.float()) for part in parts]
    latents, config = torch.cat(parts).numpy(), model.config
    pca = {"mean": config["pca_mean"], "components": config["pca_components"]}
    rotating = published.classify(latents, config["boundary"], **pca)
    angle = published.latent_angle(latents, config["angle_offset"], **pca)
    kappa = data["kappa"].numpy()
    clear = abs(kappa - metrics.BOUNDARY) >= metrics.MARGIN
    turn = metrics.angle_error(angle, data["angle"].numpy())
    return {
        "count": len(kappa),
        "balanced_accuracy": metrics.balanced_accuracy(rotating, kappa),
        "balanced_accuracy_clear": metrics.balanced_accuracy(
            rotating[clear], kappa[clear]
        ),
        "position_angle_scatter": metrics.scatter68(turn[kappa > metrics.ROTATING]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    train_merlin(args.epochs).save(args.file)
