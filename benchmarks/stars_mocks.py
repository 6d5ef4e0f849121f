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
of sampling; the likelihood is that of stars within the limits of their galaxies, those
beyond are counted; for models that take images also without, and with. All know the
sizes of the galaxies; without them a draw is one galaxy of the population, which is
judged by the ranks of true sizes among drawn ones, and by the mean density.

Of the default model also: sizes and motions of sampled stars over those of true ones,
the fastest and the farthest star, and how many galaxies are outside of the domain, as
they are and with the masses of others.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable, vstack
from common import ROOT, write_figures
from mock_galaxies import LEFT_OUT, galaxy_image
from scipy.stats import kstest

import galml
from galml.core import Flag, GalmlWarning
from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.mocks import star_galaxies, star_images
from galml.mocks.chemo_recipe import draw_star_galaxies, escape_speed
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
#: Galaxies that are sampled, where not all are: those of slow flows, and with images.
SAMPLED = {"sospf": 1, "default, with image": 8}
#: Further galaxies whose sizes are judged, draws of each, and stars of a draw.
SIZED, DRAWS, FEW = range(1540, 1740), 49, 500
#: Stars older than this (Gyr) are the old ones; galaxies of more than this are massive.
OLD, MASSIVE = 8.0, 10.5
#: Seconds for which sampling is timed.
PATIENCE = 3.0
IMAGES = ROOT / "docs" / "images"


def galaxies(numbers, count=STARS):
    """Stars and conditions of galaxies."""
    pairs = star_galaxies(len(numbers), count, first=numbers.start)
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
        model.save(path, overwrite=True)
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
    keys = ("log_prob", "outside", "c2st", "mmd", "mmd_gaussian", "sliced")
    found = {key: [] for key in keys}
    for index, truth in enumerate(stars):
        row = conditions[index : index + 1]
        log_prob = galml.star_log_prob(truth, row, model=model)["log_prob"]
        inside = np.isfinite(log_prob)
        found["log_prob"].append(float(np.mean(log_prob[inside])))
        found["outside"].append(float(np.mean(~inside)))
        if index >= sampled:
            continue
        sample = galml.sample_stars(row, len(truth), model=model, seed=seed)
        found["c2st"].append(c2st(sample, truth))
        found["mmd"].append(mmd(sample, truth))
        few = slice(0, 5000)
        found["mmd_gaussian"].append(mmd(sample[few], truth[few], kernel="gaussian"))
        found["sliced"].append(sliced_wasserstein(sample, truth))
    return found


def vectors(table, names):
    """Take three columns, shape (n, 3)."""
    return np.stack([table[name].value for name in names], 1)


def structure(table):
    """Measure a galaxy: half-mass radius (kpc), rotation, old stars' heat (km/s)."""
    place = vectors(table, ("x", "y", "z"))
    motion = vectors(table, ("v_x", "v_y", "v_z"))
    radius = np.hypot(place[:, 0], place[:, 1])
    turning = (place[:, 0] * motion[:, 1] - place[:, 1] * motion[:, 0]) / radius
    old = table["age"].value > OLD
    return {
        "r_50": np.median(radius),
        "v_phi": np.mean(turning),
        "speed": np.sqrt(np.mean(turning**2)),
        "sigma_z_old": np.std(motion[old, 2]),
    }


def motions(model, stars, conditions, numbers):
    """Compare sampled with true stars by size, motion and limits, galaxy by galaxy."""
    found = {"r_50": [], "v_phi": [], "sigma_z_old": []}
    limits = {"fastest": [], "unbound": [], "farthest": []}
    for index, (number, truth) in enumerate(zip(numbers, stars, strict=True)):
        row = conditions[index : index + 1]
        sample = galml.sample_stars(row, len(truth), model=model, seed=0)
        ours, true = structure(sample), structure(truth)
        for key in ("r_50", "sigma_z_old"):
            found[key].append(ours[key] / true[key] - 1)
        # Giants hardly turn: their rotation counts in units of the speed.
        found["v_phi"].append((ours["v_phi"] - true["v_phi"]) / true["speed"])
        p = draw_star_galaxies(number, 1, 0)
        radius = np.linalg.norm(vectors(sample, ("x", "y", "z")), axis=1)
        speed = np.linalg.norm(vectors(sample, ("v_x", "v_y", "v_z")), axis=1)
        escape = escape_speed(p, torch.from_numpy(radius)[None].float())[0].numpy()
        limits["fastest"].append(np.max(speed / escape))
        limits["unbound"].append(np.mean(speed > escape))
        limits["farthest"].append(np.max(radius) / float(p["extent"]))
    massive = np.log10(conditions["stellar_mass"].value) > MASSIVE
    figures = {"massive_galaxies": int(massive.sum())}
    for key, values in found.items():
        values = np.array(values)
        figures[key] = {
            "median": float(np.median(values)),
            "rms": float(np.sqrt(np.mean(values**2))),
            "massive_median": float(np.median(values[massive])),
            "massive_rms": float(np.sqrt(np.mean(values[massive] ** 2))),
        }
    figures["fastest_over_escape_speed"] = float(max(limits["fastest"]))
    figures["share_of_unbound_stars"] = float(np.mean(limits["unbound"]))
    figures["farthest_over_extent"] = float(max(limits["farthest"]))
    return figures


def without_sizes(conditions):
    """Leave the sizes out."""
    conditions = conditions.copy()
    conditions.remove_column("r_eff")
    return conditions


def size_ranks(model, conditions):
    """Find the share of drawn galaxies that are smaller than each true one."""
    ranks, given = [], without_sizes(conditions)
    for index, size in enumerate(conditions["r_eff"].value):
        rows = vstack([given[index : index + 1]] * DRAWS)
        drawn = galml.sample_stars(rows, FEW, model=model, seed=0)
        radius = np.hypot(drawn["x"].value, drawn["y"].value).reshape(DRAWS, FEW)
        ranks.append((np.median(radius, axis=1) < size).sum())
    # Ranks are whole numbers; the place between them is random.
    return (ranks + np.random.default_rng(0).uniform(size=len(ranks))) / (DRAWS + 1)


def sizes(model):
    """Judge the scatter of drawn sizes."""
    _, conditions = galaxies(SIZED, 2000)
    ranks = size_ranks(model, conditions)
    return {
        "galaxies": len(ranks),
        "draws": DRAWS,
        "p_uniform": float(kstest(ranks, "uniform").pvalue),
        "central_68": float(np.mean(np.abs(ranks - 0.5) < 0.34)),
        "ranks": [float(rank) for rank in ranks],
    }


def domain(model, conditions):
    """Count the galaxies outside of the domain, and those with masses of others."""
    swapped = conditions.copy()
    swapped["stellar_mass"] = np.roll(swapped["stellar_mass"], len(swapped) // 2)
    figures = {}
    for name, rows in (("as_they_are", conditions), ("masses_swapped", swapped)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GalmlWarning)
            flags = galml.sample_stars(rows, 1, model=model, seed=0)["flags"]
        figures[name] = {
            "outside": float(np.mean(flags & int(Flag.OUT_OF_DOMAIN) != 0)),
            "refused": float(np.mean(flags & int(Flag.FAILED) != 0)),
        }
    return figures


def mean_log_prob(model, stars, conditions):
    """Mean log-likelihood of stars of galaxies, of those within the limits."""
    found = np.array(
        [
            galml.star_log_prob(truth, conditions[i : i + 1], model=model)["log_prob"]
            for i, truth in enumerate(stars)
        ]
    )
    return float(np.mean(found[np.isfinite(found)]))


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
    figures["motions"] = motions(default, stars, conditions, numbers)
    figures["sizes"] = sizes(default)
    figures["domain"] = domain(default, conditions)
    figures["log_prob_without_size"] = mean_log_prob(
        default, stars, without_sizes(conditions)
    )
    draw(default, stars, conditions)
    write_figures("stars_mocks", figures)


if __name__ == "__main__":
    main()
