# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Errors of spins against the distance of images from those of the training.

    python benchmarks/spin_domain.py [--batches 40]

Beside mocks as those of the training stand mocks unlike them: with the faults of images
made three times as large, of galaxies that the population does not have, with both, and
observed images of SDSS. The distance is the column ``novelty``.
"""

import argparse
from functools import partial

import numpy as np
from common import ROOT, write_figures
from matplotlib.figure import Figure
from spin_mocks import answer
from spin_sdss import load
from train_spin import POWERS, STRESS, unlike

import galml
from galml.core.metrics import coverage, scatter68
from galml.core.weights import load_model
from galml.stellar_spin.mock_data import mock_data_set

SEED = 1050
OTHER = partial(unlike, power=POWERS["stressed"])
SETS = {
    "mocks": {},
    "larger faults": {"disturbance": STRESS},
    "other galaxies": {"alter": OTHER},
    "other galaxies, larger faults": {"alter": OTHER, "disturbance": STRESS},
}
EDGES = (0.0, 0.5, 0.65, 0.8, 1.0, 1.3, np.inf)
TICKS = (0.3, 0.5, 0.7, 1, 2, 4)
FEWEST = 50
COLUMNS = ("spin", "spin_lo", "spin_hi")
IMAGE = ROOT / "docs" / "images" / "spin_domain.png"


def judge(table, truth, rows):
    """Figures of some rows; without a truth, those that need none."""
    spin, low, high = (np.asarray(table[key])[rows] for key in COLUMNS)
    figures = {
        "count": int(rows.sum()),
        "share": float(rows.mean()),
        "error": float(np.median((high - low) / 2)),
    }
    if truth is not None:
        difference = spin - truth[rows]
        figures["scatter"] = scatter68(difference)
        figures["bias"] = float(np.mean(difference))
        figures["coverage"] = coverage(truth[rows], low, high)
    return figures


def in_bins(table, truth):
    """Figures of all, and in bins of the distance."""
    novelty = np.asarray(table["novelty"])
    known = np.isfinite(novelty)
    figures = {"all": judge(table, truth, known)}
    figures["all"]["flagged"] = float(np.mean(novelty[known] > 1))
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        rows = (novelty >= low) & (novelty < high)
        if rows.sum() >= FEWEST:
            figures[f"{low:g} - {high:g}"] = judge(table, truth, rows)
    return figures


def plot(tables, truths):
    """Draw the distances of all sets, and errors and scatter against them."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.geomspace(0.25, 4, 40)
    for number, (name, table) in enumerate(tables.items()):
        color, novelty = f"C{number}", np.asarray(table["novelty"])
        left.hist(novelty, bins, density=True, histtype="step", color=color, label=name)
        figures = in_bins(table, truths.get(name))
        rows = [key for key in figures if key != "all"]
        places = [
            np.median(novelty[(novelty >= low) & (novelty < high)])
            for low, high in (map(float, key.split(" - ")) for key in rows)
        ]
        right.plot(places, [figures[k]["error"] for k in rows], color=color)
        if name in truths:
            scatter = [figures[key]["scatter"] for key in rows]
            right.plot(places, scatter, "o", color=color)
    left.axvline(1, color="0.6", lw=0.8)
    left.set(xscale="log", xlabel="novelty", ylabel="density")
    left.minorticks_off()
    left.set_xticks(TICKS, map(str, TICKS))
    left.legend(fontsize=8)
    right.set(xlabel="novelty", ylabel="error of the spin (dots: scatter, 68 %)")
    figure.savefig(IMAGE, dpi=100)
    print(f"written: {IMAGE.relative_to(ROOT)}")


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    model = load_model(args.model, "spin")
    tables, truths = {}, {}
    for number, (name, options) in enumerate(SETS.items()):
        data = mock_data_set(
            args.batches, seed=SEED + number, views=2, n_particles=10_000, **options
        )
        tables[name], truths[name] = answer(model, data), data["spin"].numpy()
    images, _, _ = load("reporting")
    tables["SDSS"] = galml.spin(images, model=model)
    figures = {name: in_bins(table, truths.get(name)) for name, table in tables.items()}
    for name, rows in figures.items():
        print(name)
        for key, row in rows.items():
            print(" ", key, {k: round(v, 3) for k, v in row.items()})
    plot(tables, truths)
    write_figures("spin_domain", {"sets": figures, "model": model.sha256})


if __name__ == "__main__":
    main()
