# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Stars of left-out mock galaxies: ours and the published flows on the same data.

    python benchmarks/stars_mocks.py [--train] [--folder models] [--galaxies 40]
        [--flows coupling galacticflow nsf maf nice sospf]

``--train`` gives every flow the same budget: the same stars of the same galaxies, the
same number of epochs, batches and schedule; models and checkpoints go into the folder,
and a training that was stopped goes on. Without it, flows that are in the folder are
judged, and the default model. For each: held-out log-likelihood, classifier two-sample
test at 20 000 stars of a galaxy on all ten axes (mean and worst), discrepancies, speed
of sampling; for models that take images also without, and with.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable, vstack
from common import ROOT, write_figures
from mock_galaxies import LEFT_OUT, galaxy_image

import galml
from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.mocks import star_galaxies, star_images
from galml.stars import fit
from galml.stars.metrics import c2st, mmd, sliced_wasserstein
from galml.stars.plots import plot_galaxy, plot_quantiles

FLOWS = ("coupling", "galacticflow", "nsf", "maf", "nice", "sospf")
STARS = 20_000
#: How each flow is trained, and the learning rates of those that 3e-3 throws off.
BUDGET = {
    "epochs": 1,
    "batch_size": 2048,
    "weight_decay": 0.01,
    "validation": 0.05,
}
RATES = {"galacticflow": 1e-3, "sospf": 1e-3}
#: Galaxies that are sampled of flows that take minutes for one.
SAMPLED = {"sospf": 1}
#: Seconds for which sampling is timed.
PATIENCE = 3.0
IMAGES = ROOT / "docs" / "images"


def galaxies(numbers):
    """Stars and conditions of galaxies."""
    pairs = star_galaxies(len(numbers), STARS, first=numbers.start)
    stars, conditions = zip(*pairs, strict=True)
    return list(stars), QTable(vstack(list(conditions), metadata_conflicts="silent"))


def with_images(conditions, numbers):
    """Conditions with an image of each galaxy."""
    conditions = conditions.copy()
    conditions["image"] = np.empty(len(conditions), dtype=object)
    images = star_images(len(numbers), STARS, first=numbers.start)
    for row, image in enumerate(images):
        conditions["image"][row] = galaxy_image(*image)
    return conditions


def trained(name, folder, data):
    """Train a flow, or go on with it."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        begun = time.perf_counter()
        model = fit(
            *data,
            network=name,
            checkpoint=folder / f"{name}.checkpoint",
            progress=True,
            name=name,
            **BUDGET | {"learning_rate": RATES.get(name, 3e-3)},
        )
        model.card["seconds"] = time.perf_counter() - begun
        model.save(path)
    return GalaxyModel.load(path, operation="stars")


def rate(model, condition):
    """Stars that are drawn in a second, of one galaxy."""
    for size in (1000, 20_000):
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < PATIENCE:
            galml.sample_stars(condition, size, model=model)
            count += size
        if count == size:  # too slow for more
            break
    return count / (time.perf_counter() - begun)


def judge(model, stars, conditions, sampled, seed=0):
    """Measures of each left-out galaxy; those of samples for the first ones."""
    found = {key: [] for key in ("log_prob", "c2st", "mmd", "mmd_gaussian", "sliced")}
    for index, truth in enumerate(stars):
        row = conditions[index : index + 1]
        log_prob = galml.star_log_prob(truth, row, model=model)["log_prob"]
        found["log_prob"].append(float(np.mean(log_prob)))
        if index >= sampled:
            continue
        sample = galml.sample_stars(row, len(truth), model=model, seed=seed)
        found["c2st"].append(c2st(sample, truth))
        found["mmd"].append(mmd(sample, truth))
        few = slice(0, 5000)
        found["mmd_gaussian"].append(mmd(sample[few], truth[few], kernel="gaussian"))
        found["sliced"].append(sliced_wasserstein(sample, truth))
    return found


def summary(found):
    """Means over the galaxies, and the worst classifier's accuracy."""
    row = {key: float(np.mean(values)) for key, values in found.items()}
    return row | {"c2st_worst": float(max(found["c2st"]))}


def draw(model, stars, conditions):
    """Figures of the heaviest left-out galaxy."""
    index = int(np.argmax(conditions["stellar_mass"]))
    row = conditions[index : index + 1]
    sample = galml.sample_stars(row, STARS, model=model, seed=0)
    for name, plot in (("galaxy", plot_galaxy), ("quantiles", plot_quantiles)):
        path = IMAGES / f"stars_{name}.jpg"
        plot(sample, stars[index]).savefig(path, dpi=80)
        print(f"written: {path.relative_to(ROOT)}")


def main():
    """Train, judge, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("models"))
    parser.add_argument("--galaxies", type=int, default=len(LEFT_OUT))
    parser.add_argument("--flows", nargs="+", default=list(FLOWS))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = {}
    if args.train:
        args.folder.mkdir(parents=True, exist_ok=True)
        data = galaxies(range(LEFT_OUT.start))
        for name in args.flows:
            models[name] = trained(name, args.folder, data)
        del data
    for name in args.flows:
        path = args.folder / f"{name}.safetensors"
        if path.exists():
            models[name] = GalaxyModel.load(path, operation="stars")
    default = load_model("default", "stars")
    numbers = LEFT_OUT[: args.galaxies]
    stars, conditions = galaxies(numbers)
    cases = {name: (model, conditions) for name, model in models.items()}
    cases["default"] = default, conditions
    if default.network.latent:
        cases["default, with image"] = default, with_images(conditions, numbers)
    rows, figures = [], {"galaxies": len(numbers), "stars": STARS, "flows": {}}
    for name, (model, given) in cases.items():
        found = judge(model, stars, given, SAMPLED.get(name, len(stars)))
        row = summary(found) | {"stars_per_second": rate(model, conditions[:1])}
        rows.append({"flow": name} | row)
        about = {"sha256": model.sha256, "seconds": model.card.get("seconds")}
        figures["flows"][name] = row | about | {"each": found}
        print(f"{name}: {row}", flush=True)
    table = QTable(rows=rows)
    for key in table.colnames[1:]:
        table[key].info.format = ".0f" if key == "stars_per_second" else ".4f"
    table.pprint(max_lines=-1, max_width=-1)
    draw(default, stars, conditions)
    write_figures("stars_mocks", figures)


if __name__ == "__main__":
    main()
