# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How well fractions of mergers are recovered from the answers of a classifier.

    python benchmarks/mergers/recovery.py [--draws 3000]

draws samples with true fractions of 1, 5 and 20 % of mergers, classified by calibrated
classifiers of different accuracies: two normal distributions of a score. Told are the
share of the draws whose 68 % interval holds the true fraction, and mean and scatter of
the fractions found; the same where the classifier sees mergers too often or too rarely
in a whole draw, with and without passes that tell so; and by how much fractions are
wrong, in samples of any size, where the probabilities are not calibrated.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy.table import QTable
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from galml.mergers.fractions import fraction

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import show, write_figures

FRACTIONS, ACCURACIES, COUNTS = (0.01, 0.05, 0.2), (0.8, 0.85, 0.9), (300, 1000, 3000)
#: Draws in memory at one time.
BLOCK = 100
#: Passes, and scatter of the logarithm of the odds, of a network that is not sure.
PASSES, SHIFT = 20, 0.2


def log_ratios(rng, shape, true, accuracy):
    """Draw logarithms of ratios of likelihoods of galaxies."""
    distance = 2 * norm.ppf(accuracy)
    score = rng.normal(size=shape) + distance * (rng.uniform(size=shape) < true)
    return distance * score - distance**2 / 2


def measure(ratios, passes=None):
    """Measure the fraction of each draw, one in a row."""
    draws, count = ratios.shape
    table = QTable({"draw": np.repeat(np.arange(draws), count)})
    table["merger_probability"] = expit(ratios.ravel())
    if passes is not None:
        table["merger_probability_samples"] = expit(passes.reshape(draws * count, -1))
    table.meta["PREVALEN"] = 0.5
    return fraction(table, by="draw")


def judge(results, true):
    """Compare fractions that were found with the true one."""
    found, error, low, high = (
        np.concatenate([result[f"fraction{end}"] for result in results])
        for end in ("", "_err", "_lo", "_hi")
    )
    return {
        "coverage": ((low <= true) & (true <= high)).mean(),
        "mean": found.mean(),
        "scatter": found.std(),
        "mean_error": error.mean(),
    }


def recovered(rng, draws, accuracy, count, true):
    """Figures of a calibrated classifier."""
    blocks = range(draws // BLOCK)
    ratios = (log_ratios(rng, (BLOCK, count), true, accuracy) for _ in blocks)
    return judge([measure(one) for one in ratios], true)


def shifted(rng, draws, true, accuracy=0.85, count=1000):
    """Figures of a classifier that is wrong in all galaxies, and may know it."""
    told, silent = [], []
    for _ in range(draws // BLOCK):
        ratios = log_ratios(rng, (BLOCK, count), true, accuracy)
        ratios += SHIFT * rng.normal(size=(BLOCK, 1))
        common = SHIFT * rng.normal(size=(BLOCK, 1, PASSES))
        told.append(measure(ratios, ratios[..., None] + common))
        silent.append(measure(ratios))
    return {"with_passes": judge(told, true), "without": judge(silent, true)}


def limit(true, accuracy, shift=0.0, temperature=1.0, alike=0.0):
    """Fraction that is found in a large sample, and the error of the calibration.

    The logarithm of the odds is divided by a temperature and shifted; a share of the
    non-mergers looks as mergers do.
    """
    distance = 2 * norm.ppf(accuracy)
    score = np.linspace(-9, 9 + distance, 20_001)
    step = score[1] - score[0]
    merger = norm.pdf(score - distance)
    other = norm.pdf(score)
    odds = (distance * score - distance**2 / 2) / temperature + shift
    seen = (1 - alike) * other + alike * merger
    sky = true * merger + (1 - true) * seen

    def slope(share):
        gain = np.expm1(odds)
        return (sky * gain / (share * gain + 1)).sum()

    found = brentq(slope, 0, 1 - 1e-9) if slope(0) > 0 else 0.0
    wrong = np.abs(expit(odds) - merger / (merger + seen)) * (merger + seen) / 2
    return {"fraction": found, "calibration_error": wrong.sum() * step}


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=3000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    figures = {"draws": args.draws, "shift": SHIFT}
    rows = [(a, n, f) for a in ACCURACIES for n in COUNTS for f in FRACTIONS]
    figures["recovered"] = {
        f"{a:.0%} accuracy, {n} galaxies, {f:.0%} mergers": recovered(
            rng, args.draws, a, n, f
        )
        for a, n, f in rows
    }
    show("recovered", figures["recovered"])
    few = max(args.draws // 5, BLOCK)
    shifts = {f"{f:.0%} mergers": shifted(rng, few, f) for f in FRACTIONS}
    figures["shifted"] = shifts
    for key in ("with_passes", "without"):
        show(f"shifted, {key}", {name: row[key] for name, row in shifts.items()})
    cases = {
        "shift of 0.1": {"shift": 0.1},
        "shift of -0.1": {"shift": -0.1},
        "temperature of 0.93": {"temperature": 0.93},
        "temperature of 1.07": {"temperature": 1.07},
        "1 % of non-mergers look like mergers": {"alike": 0.01},
    }
    figures["not_calibrated"] = {
        f"{name}, {f:.0%} mergers": limit(f, 0.85, **case)
        for name, case in cases.items()
        for f in FRACTIONS
    }
    show("not calibrated", figures["not_calibrated"])
    write_figures("merger_fractions", figures)


if __name__ == "__main__":
    main()
