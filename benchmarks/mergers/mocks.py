# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good `galml.merger` and `galml.contamination` are on mocks of other encounters.

    python benchmarks/mergers/mocks.py [--cache FOLDER] [--model FILE] [--classical]

Encounters and galaxies are those of other seeds than the training's: no system that is
judged here has been seen by it, from any side or at any moment. Accuracy, calibration
and the rest are for as many post-mergers as non-mergers, after 50 passes. Fractions are
measured by `galml.mergers.fraction` in samples drawn from these mocks, with
replacement. With ``--classical`` a cut on the asymmetry and random forests on classical
measures of shape are judged on a part of the same images, by cross-validation between
systems, which takes some minutes; the network on the very same images stands
beside them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable

from galml.core.fitting import evaluate
from galml.core.metrics import area_under_curve, coverage, scatter68
from galml.core.weights import load_model
from galml.imaging import DIHEDRAL
from galml.mergers.fitting import PASSES, equal_numbers
from galml.mergers.fractions import fraction
from galml.mergers.metrics import (
    confusion_matrix,
    expected_calibration_error,
    recall_at,
    upsilon,
)
from galml.mergers.mock_data import KINDS, mock_data_set
from galml.mergers.operation import MergerDomain
from galml.mergers.posterior import (
    NON_MERGER,
    POST_MERGER,
    PREVALENCE,
    STAGES,
    histogram_quantiles,
    merger_samples,
    stage_probability,
)
from galml.mergers.preparation import FILTERS
from galml.mocks import DEEP_FIELDS

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import cached, in_bins, show, write_figures

#: Batches, the first seed, batches at a time, and how many of these have cutouts that
#: classical measures are made on.
BATCHES, SEED, CHUNK = {"deep": 120, "near": 60}, 4001, 10
CLASSICAL = {"deep": 10, "near": 0}
#: Of the fractions that are recovered: the truth, galaxies of a sample, and samples.
FRACTIONS, COUNT, DRAWS = (0.01, 0.05, 0.2), 2000, 300
BINS = {
    "magnitude": (13.5, 16, 17, 17.8, 20.5, 22, 23, 24, 25.5),
    "mass_ratio": (0.25, 0.4, 0.6, 1.001),
    "time": (0.0, 0.1, 0.2, 0.3, 0.4, 0.501),
    "inclination": (0, 30, 45, 60, 75, 90.1),
}


def test_set(where, cache):
    """Prepare the mocks of one place, or take them from the cache."""
    parts = []
    for first in range(0, BATCHES[where], CHUNK):
        options = {"seed": SEED, "where": where, "first": first}
        options["cutouts"] = first < CLASSICAL[where]

        def make(options=options):
            return mock_data_set(CHUNK, **options)

        parts.append(cached(cache, f"test-{where}-{SEED}-{first}", make))
    keys = parts[-1].keys() & parts[0].keys()
    data = {key: torch.cat([part[key] for part in parts]) for key in keys}
    shown = [part for part in parts if "cutout" in part]
    cutouts = {
        key: torch.cat([part[key] for part in shown])
        for key in ("cutout", "cutout_psf")
        if shown
    }
    return data, cutouts


def answers(model, data):
    """Give calibrated answers for prepared mocks."""
    outputs = evaluate(model.network, data, DIHEDRAL, n_samples=PASSES)
    group = 10 * data["filter"] + data["field"] + 1
    tables = model.config["temperature"]
    rows = [MergerDomain._nearest(tables, int(one)) for one in group]
    numbers = {
        key: torch.tensor([row[key] for row in rows])
        for key in ("stage", "merger", "offset")
    }
    samples = merger_samples(outputs["stage"], numbers["merger"], numbers["offset"])
    stages = stage_probability(outputs["stage"], numbers["stage"]).mean(1)
    result = {"samples": samples.numpy(), "stages": stages.numpy()}
    for name in ("time", "contamination"):
        ends = histogram_quantiles(name, outputs[name], model.config[name])
        result[f"{name}_lo"], result[name], result[f"{name}_hi"] = ends.numpy().T
    return result


def judge(chance, positive, negative):
    """Judge probabilities for as many of both classes."""
    rows = equal_numbers(positive, negative)
    truth, some = positive[rows], chance[rows]
    return {
        "count": len(rows),
        "accuracy": float(((some > 0.5) == truth).mean()),
        "upsilon": upsilon(truth, some > 0.5),
        "auc": area_under_curve(some, truth),
        "recall at 5 %": recall_at(some, truth),
        "calibration error": expected_calibration_error(some, truth),
    }


def in_properties(chance, data, positive, negative):
    """Judge recall and accuracy in bins of what is known."""
    known = {key: data[key].float().numpy() for key in BINS}
    result = {}
    for name, edges in BINS.items():

        def of(rows):
            found = {"post-mergers": int((rows & positive).sum())}
            found["recall"] = float((chance[rows & positive] > 0.5).mean())
            others = rows & negative
            if others.sum() > 50:
                found["specificity"] = float((chance[others] <= 0.5).mean())
            return found

        rows = positive | negative
        values = np.where(rows, known[name], np.nan)
        result[name] = in_bins(of, values, edges, fewest=50)
    kinds = data["kind"].numpy()
    result["kind"] = {
        kind: float((chance[negative & (kinds == number)] <= 0.5).mean())
        for number, kind in enumerate(KINDS)
        if number
    }
    return result


def of_contamination(found, data, rows):
    """Judge contaminations."""
    truth, kind, stage = (
        data[key].numpy()[rows] for key in ("contamination", "kind", "stage")
    )
    middle, low, high = (
        found[f"contamination{end}"][rows] for end in ("", "_lo", "_hi")
    )
    error = middle - truth
    in_front = kind == KINDS.index("projection")
    pairs = (stage > NON_MERGER) & (stage < POST_MERGER)
    return {
        "error": scatter68(error),
        "coverage": coverage(truth, low, high),
        "error below 0.2": scatter68(error[truth < 0.2]),
        "of one galaxy": scatter68(error[~in_front & ~pairs]),
        "of two that merge": scatter68(error[pairs]),
        "of two by chance": scatter68(error[in_front]),
        "of one value for all": scatter68(np.median(truth) - truth),
    }


def recovered(chance, samples, positive, negative, common):
    """Measure fractions in samples of which they are known."""
    rng = np.random.default_rng(SEED)
    places = np.flatnonzero(negative), np.flatnonzero(positive)
    result = {}
    for true in FRACTIONS:
        inside, means = [], []
        for _ in range(DRAWS):
            merged = rng.binomial(COUNT, true)
            rows = np.concatenate(
                [rng.choice(places[0], COUNT - merged), rng.choice(places[1], merged)]
            )
            table = QTable({"merger_probability": chance[rows]})
            table["merger_probability_samples"] = samples[rows]
            table.meta |= {"PREVALEN": PREVALENCE, "COMMON": common}
            row = fraction(table)[0]
            inside.append(row["fraction_lo"] <= true <= row["fraction_hi"])
            means.append(row["fraction"])
        result[f"{true:g}"] = {
            "inside": float(np.mean(inside)),
            "mean": float(np.mean(means)),
            "scatter": float(np.std(means)),
        }
    return result


def classical(cutouts, data, chance, positive, negative, cache):
    """Judge classical measures in F814W, and the network on the same images."""
    from classical import judge as judge_classical

    number = len(cutouts["cutout"])
    rows = np.flatnonzero((positive | negative) & (data["filter"].numpy() == 0))
    rows = rows[rows < number]
    images = {
        "data": cutouts["cutout"][rows, 0].float(),
        "noise": torch.ones(len(rows)),
        "psf_fwhm": cutouts["cutout_psf"][rows],
        "magnitude": data["magnitude"][rows],
        "label": torch.from_numpy(positive[rows]).long(),
        "group": data["system"][rows],
    }
    result = cached(cache, "classical", lambda: judge_classical(images))
    result["network"] = judge(chance[rows], positive[rows], negative[rows])
    return result


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--classical", action="store_true")
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    model = load_model(args.model, "merger")
    figures = {"model": model.name, "sha256": model.sha256, "filters": {}}
    figures |= {"contamination": {}, "fields": {}, "properties": {}, "fractions": {}}
    figures |= {"classical": {}, "stages": {}, "drawn from": {}}
    for where in BATCHES:
        data, cutouts = test_set(where, args.cache)
        found = answers(model, data)
        chance, stage = found["samples"].mean(1), data["stage"].numpy()
        positive, negative = stage == 3, stage == 0
        index = data["filter"].numpy()
        for number, name in enumerate(FILTERS):
            rows = index == number
            if not rows.any():
                continue
            figures["filters"][name] = judge(chance, positive & rows, negative & rows)
            figures["contamination"][name] = of_contamination(found, data, rows)
            figures["fractions"][name] = recovered(
                chance,
                found["samples"],
                positive & rows,
                negative & rows,
                model.config["common"].get(f"filter {number}", 1.0),
            )
            systems = data["system"].numpy()[positive & rows]
            figures["drawn from"][name] = [len(systems), len(np.unique(systems))]
            matrix = confusion_matrix(stage[rows], found["stages"][rows].argmax(1), 5)
            figures["stages"][name] = (matrix / matrix.sum(1)[:, None]).tolist()
        if where == "near":
            for colored, name in ((0, "r, fluxes"), (1, "r, color images")):
                rows = data["colored"].numpy() == colored
                one = judge(chance, positive & rows, negative & rows)
                figures["filters"][name] = one
        for number, field in enumerate(DEEP_FIELDS):
            rows = (data["field"].numpy() == number) & (index == 0)
            if rows.any():
                one = judge(chance, positive & rows, negative & rows)
                figures["fields"][f"F814W, {field}"] = one
        all_of = judge(chance, positive, negative)
        figures["filters"][f"all {where}"] = all_of
        if where == "deep":
            rows = np.ones(len(stage), dtype=bool)
            figures["contamination"]["all deep"] = of_contamination(found, data, rows)
        figures["properties"][where] = in_properties(chance, data, positive, negative)
        figures.setdefault("time", {})[where] = {
            "scatter": scatter68(found["time"] - data["time"].numpy()),
            "of the median": scatter68(
                data["time"].numpy() - np.nanmedian(data["time"].numpy())
            ),
            "coverage": coverage(
                data["time"].numpy(), found["time_lo"], found["time_hi"]
            ),
        }
        if args.classical and where == "deep":
            figures["classical"] = classical(
                cutouts, data, chance, positive, negative, args.cache
            )
    figures["stage names"] = list(STAGES)
    show("filter", figures["filters"])
    show("field", figures["fields"])
    show("filter", figures["contamination"])
    for name, rows in figures["fractions"].items():
        show(f"fraction {name}", rows)
    if figures["classical"]:
        show("classifier", figures["classical"]["scores"])
    write_figures("mergers_mocks", figures)


if __name__ == "__main__":
    main()
