# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What latents of observed SDSS galaxies tell about their classes in the Galaxy Zoo.

    python benchmarks/morphology/gz1.py [--report] [--cache DIR] [--page FILE]

The classes (Lintott et al. 2011, MNRAS 410, 166) have trained no latents. Linear
classifiers on them are trained and judged in five folds; beside these stand principal
components of the pixels, and a convolutional network that is trained on the classes
themselves, in the same folds. The pictures are divided by a hash of their names:
choices are made on the development half, which is what is printed; ``--report`` gives
both halves, and classifiers that learn from both, and writes the figures. A page shows
the pictures on whose class latents and labels disagree most; ``disagreements.csv`` has
what a look at them told.
"""

import argparse
import copy
import sys
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from matplotlib.figure import Figure
from probing import (
    FOLDS,
    SEED,
    area,
    balanced,
    components,
    crossed,
    encode,
    folds,
    forest,
    linear,
    usable,
)
from sklearn.model_selection import StratifiedShuffleSplit
from torch import nn

import galml
from galml.core.weights import load_model
from galml.physics.seeds import generator_for

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import HALVES, cached, galaxy_zoo, half_of, write_figures

#: Classes as they are told apart, and those of which there is a question of their own.
KINDS = ("elliptical", "spiral", "edge-on")
KIND = np.array([0, 1, 1, 2])
CLOCKWISE, ANTICLOCKWISE, UNKNOWN, MERGER = 1, 2, 4, 5
#: Part of the labels that few are, and draws of them.
FEW, DRAWS = 0.01, 50
#: Galaxies that are rated, and those at the top that are then looked at.
RATED, TOP = 20, 50
#: The quick network: pixels a side, channels, epochs without progress, most epochs,
#: galaxies in a batch, rate of learning, share kept for choosing the epoch.
SIDE, WIDTHS, PATIENCE, EPOCHS = 64, (24, 48, 96, 128), 6, 16
BATCH, RATE, KEPT = 32, 2e-3, 0.15
#: Pictures that are mirrored and turned; disagreements on the page.
TURNED, SHOWN = 64, 60
JUDGED = Path(__file__).with_name("disagreements.csv")
#: Few of the galaxies merge.
LINEAR = partial(linear, cautious=True)


def classify(values, classes, make):
    """Figures of a classifier on all pictures of a half.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, k).
    classes : `~numpy.ndarray`
        Shape (n,): as the Galaxy Zoo counts them.
    make : callable
        Gives a classifier.

    Returns
    -------
    figures : dict
        By question.
    probability : `~numpy.ndarray`
        Shape (m, 3), of the kinds of galaxies that are of one.
    """
    one = classes < UNKNOWN
    kinds = KIND[classes[one]]
    found = crossed(make, values[one], kinds)
    early = crossed(make, values[one], kinds == 0)[:, 1]
    known = classes != UNKNOWN
    merger = classes[known] == MERGER
    merging = crossed(make, values[known], merger)[:, 1]
    return {
        "three classes": balanced(kinds, found),
        "elliptical": area(early, kinds == 0),
        "merger": area(merging, merger),
    }, found


def few_labels(table, classes):
    """Balanced accuracy where few labels are known, over draws of them."""
    one = classes < UNKNOWN
    table, kinds = table[one], KIND[classes[one]]
    values = np.asarray(table["latent"])
    draws = StratifiedShuffleSplit(DRAWS, train_size=FEW, random_state=SEED)
    ways = ("linear", "self-training")
    found = {"linear classifier": []} | {f"galml.classify, {way}": [] for way in ways}
    for train, test in draws.split(values, kinds):
        learned = linear(few=True).fit(values[train], kinds[train])
        told = {"linear classifier": learned.predict_proba(values[test])}
        labels = np.full(len(kinds), "", dtype=object)
        # Classes are told in the order of their names.
        labels[train] = [str(kind) for kind in kinds[train]]
        for way in ways:
            result = galml.classify(table, labels, classifier=way)
            told[f"galml.classify, {way}"] = result["probability"][test]
        for key, probability in told.items():
            found[key].append(balanced(kinds[test], probability))
    return {
        key: {
            "value": float(np.mean(values)),
            "scatter": float(np.std(values)),
            "labels": len(train),
        }
        for key, values in found.items()
    }


def classified(table, classes):
    """Balanced accuracy of `galml.classify`, by its own cross-validation."""
    one = classes < UNKNOWN
    return float(galml.classify(table[one], KIND[classes[one]]).meta["BALACC"])


def oddities(table, classes):
    """Find what is no ordinary galaxy, without labels and with a few ratings."""
    odd = classes >= UNKNOWN
    score = np.asarray(galml.outliers(table, seed=SEED)["outlier_score"])
    figures = {
        "without ratings": area(score, odd),
        "unknown alone": area(score[classes != MERGER], odd[classes != MERGER]),
        "merger alone": area(score[classes != UNKNOWN], odd[classes != UNKNOWN]),
    }
    order = np.argsort(-score)
    ratings = np.full(len(odd), np.nan)
    ratings[order[:RATED]] = odd[order[:RATED]]
    again = galml.outliers(table, ratings=ratings, seed=SEED)["rank"]
    left = np.isnan(ratings)
    figures["top"] = {
        "rated": RATED,
        "seen": TOP,
        "without ratings": int(odd[order[RATED : RATED + TOP]].sum()),
        "with ratings": int(odd[left][np.argsort(again[left])[:TOP]].sum()),
        "by chance": float(TOP * odd[left].mean()),
    }
    return figures


def mirrored(table, classes):
    """Tell clockwise from anticlockwise spirals by what should know, and should not."""
    spiral = (classes == CLOCKWISE) | (classes == ANTICLOCKWISE)
    turn = classes[spiral] == CLOCKWISE
    figures = {}
    for name in ("latent", "pose"):
        if name not in table.colnames:
            continue
        found = crossed(LINEAR, np.asarray(table[name])[spiral], turn)
        figures[name] = area(found[:, 1], turn) | {"accuracy": balanced(turn, found)}
    return figures


def turned(pictures, model):
    """Change of latents in mirrored and turned pictures, over their scatter.

    Returns
    -------
    dict
        By view: largest change where the effective radius is known, and share of
        pictures that change by more than 1e-5 where it is measured.
    """
    pictures = pictures[:TURNED]
    known = {"r_eff": pictures.shape[1] / 6 * u.pix}
    first, given = encode(pictures, model), encode(pictures, model, **known)
    good = usable(first)
    scatter = np.std(first["latent"][good], axis=0)
    changes = {}
    for name, view in {
        "mirrored": pictures[:, :, ::-1],
        "upside down": pictures[:, ::-1],
        "quarter turn": np.rot90(pictures, axes=(1, 2)),
        "half turn": np.rot90(pictures, 2, axes=(1, 2)),
    }.items():
        view = np.ascontiguousarray(view)
        largest = np.abs(encode(view, model, **known)["latent"] - given["latent"])
        change = np.abs(encode(view, model)["latent"] - first["latent"]).max(1)
        changes[name] = {
            "largest": float(np.nanmax(largest / scatter)),
            "changed": float(np.mean(change[good] > 1e-5)),
        }
    return changes


class Quick(nn.Module):
    """A small convolutional network: three kinds, and merger, as four numbers."""

    def __init__(self):
        super().__init__()
        layers, last = [], 3
        for width in WIDTHS:
            first = not layers
            layers += [
                nn.Conv2d(last, width, 5 if first else 3, 1 + first, 1 + first),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Identity() if first else nn.MaxPool2d(2),
            ]
            last = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(last, 4))

    def forward(self, images):
        """Give scores of shape (n, 4)."""
        return self.head(self.layers(images).mean((2, 3)))


def views(images):
    """All eight mirror images and quarter turns, the first axis being the views."""
    turns = [torch.rot90(images, k, (2, 3)) for k in range(4)]
    return torch.stack(turns + [one.flip(3) for one in turns])


def altered(images, generator):
    """Turn images by any angle, mirror, shift, zoom and dim them."""
    n = len(images)

    def draw(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, zoom = draw(0, 2 * np.pi), draw(0.9, 1.15)
    side = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    first = torch.stack([side * angle.cos(), -angle.sin(), draw(-0.08, 0.08)], 1)
    second = torch.stack([side * angle.sin(), angle.cos(), draw(-0.08, 0.08)], 1)
    matrix = torch.stack([first, second], 1)
    matrix[:, :, :2] *= zoom[:, None, None]
    grid = nn.functional.affine_grid(matrix, images.shape, align_corners=False)
    images = nn.functional.grid_sample(images, grid, align_corners=False)
    return images * draw(0.8, 1.25)[:, None, None, None]


def loss_of(score, classes, weights):
    """Cross entropy of the kinds and of mergers, where they are known."""
    one = classes < UNKNOWN
    kinds = torch.from_numpy(KIND)[classes[one]]
    loss = nn.functional.cross_entropy(score[one, :3], kinds, weights)
    merger = (classes == MERGER).float()
    heavy = torch.tensor(5.0)
    return loss + nn.functional.binary_cross_entropy_with_logits(
        score[:, 3], merger, pos_weight=heavy
    )


def quick_network(images, classes, train, test, index):
    """Train the quick network on some pictures, and score others.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (n, 3, y, x).
    classes : `torch.Tensor`
        Shape (n,).
    train, test : `~numpy.ndarray`
        Rows.
    index : int
        Number of the fold, for its random numbers.

    Returns
    -------
    `torch.Tensor`
        Shape (test, 4).
    """
    generator = generator_for(SEED, "quick network", index)
    torch.manual_seed(SEED + index)
    train = train[torch.randperm(len(train), generator=generator).numpy()]
    kept, train = np.split(train, [int(KEPT * len(train))])
    network = Quick().to(memory_format=torch.channels_last)
    steps = EPOCHS * -(-len(train) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    counts = np.bincount(KIND[classes[train].numpy()[classes[train] < UNKNOWN]])
    weights = torch.tensor(counts.sum() / counts / 3, dtype=torch.float32)

    def score(images):
        network.eval()
        with torch.no_grad():
            return network(images.contiguous(memory_format=torch.channels_last))

    best, since, state = np.inf, 0, None
    for _ in range(EPOCHS):
        network.train()
        order = torch.randperm(len(train), generator=generator).numpy()
        for start in range(0, len(train), BATCH):
            rows = train[order[start : start + BATCH]]
            batch = altered(images[rows], generator)
            loss = loss_of(network(batch), classes[rows], weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        value = loss_of(score(images[kept]), classes[kept], weights).item()
        since = 0 if value < best else since + 1
        if value < best:
            best, state = value, copy.deepcopy(network.state_dict())
        if since == PATIENCE:
            break
    network.load_state_dict(state)
    return torch.stack([score(view) for view in views(images[test])]).mean(0)


def trained_on_labels(pictures, classes, half, cache):
    """Figures of the quick network in the same folds as the others."""
    known = classes != UNKNOWN
    pictures, classes = pictures[known], classes[known]
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    images = nn.functional.interpolate(images, (SIDE, SIDE), mode="area") - 0.1
    labels = torch.from_numpy(classes)

    score = torch.zeros(len(labels), 4)
    for index, (train, test) in enumerate(folds(classes)):

        def learn(train=train, test=test, index=index):
            return {"score": quick_network(images, labels, train, test, index)}

        name = f"quick_network_{half}_{index}"
        score[test] = cached(cache, name, learn)["score"]
        print(f"network, fold {index + 1} of {FOLDS}", flush=True)
    one, merger = classes < UNKNOWN, classes == MERGER
    found = score[one, :3].softmax(1).numpy()
    kinds = KIND[classes[one]]
    return {
        "three classes": balanced(kinds, found),
        "elliptical": area(found[:, 0], kinds == 0),
        "merger": area(score[:, 3].numpy(), merger),
    }


def disagreements(names, classes, probability):
    """Rows of the half, the largest disagreement with the label first."""
    one = np.flatnonzero(classes < UNKNOWN)
    kinds = KIND[classes[one]]
    excess = probability.max(1) - probability[np.arange(len(kinds)), kinds]
    order = np.argsort(-excess)
    order = order[excess[order] > 0]
    told = probability[order].argmax(1)
    return QTable(
        {
            "name": names[one[order]],
            "row": one[order],
            "label": np.array(KINDS)[kinds[order]],
            "told": np.array(KINDS)[told],
            "probability": probability[order].max(1),
        }
    )


def judged(table):
    """Count whose fault the disagreements are that have been looked at."""
    if not JUDGED.exists():
        return {}
    looked = QTable.read(JUDGED, format="ascii.csv", converters={"name": str})
    verdicts = dict(zip(looked["name"], looked["fault"], strict=True))
    found = [verdicts[name] for name in table["name"][:SHOWN] if name in verdicts]
    return {"disagreements": len(table), "looked at": len(found)} | {
        fault: found.count(fault) for fault in ("label", "latents", "neither")
    }


def draw_page(path, pictures, table):
    """Show the largest disagreements, with label and what is told."""
    table = table[:SHOWN]
    figure = Figure(figsize=(20, 13.5), layout="constrained")
    axes = figure.subplots(6, 10).ravel()
    for number, (axis, row) in enumerate(zip(axes, table, strict=False), 1):
        axis.imshow(pictures[row["row"]])
        title = f"{number}: {row['label']} > {row['told']} {row['probability']:.2f}"
        axis.set_title(title, size=8)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=80)


def summary(table, classes):
    """Figures of latents, and the probabilities of the three kinds."""
    latent = np.asarray(table["latent"])
    told, probability = classify(latent, classes, LINEAR)
    trees, _ = classify(latent, classes, forest)
    return {
        "linear": told,
        "forest": trees,
        "galml.classify": classified(table, classes),
        "few labels": few_labels(table, classes),
        "outliers": oddities(table, classes),
        "mirror": mirrored(table, classes),
    }, probability


def latents_of(pictures, model, half, cache):
    """Latents of a half, kept in the cache."""

    def make():
        table = encode(pictures, model)
        return {key: torch.from_numpy(np.asarray(table[key])) for key in table.colnames}

    data = cached(cache, f"latents_{model.sha256[:12]}_{half}", make)
    table = QTable({key: values.numpy() for key, values in data.items()})
    table.meta["NAROUND"] = model.options.get("surroundings", 0)
    return table


def measure(half, zoo, model, args):
    """All figures of a half."""
    rows = np.array([half_of(name) == half for name in zoo[0]])
    names, classes, pictures = (each[rows] for each in zoo)
    table, lost = None, 0
    if model is not None:
        table = latents_of(pictures, model, half, args.cache)
        good = usable(table)
        table, lost = table[good], int((~good).sum())
        names, classes, pictures = names[good], classes[good], pictures[good]
    figures = {"galaxies": len(names), "lost": lost}
    pixels = components(pictures)
    figures["components"], probability = summary(pixels, classes)
    if not args.skip_network:
        figures["network"] = trained_on_labels(pictures, classes, half, args.cache)
    if table is not None:
        figures["latents"], probability = summary(table, classes)
        figures["turned"] = turned(pictures, model)
        for key in ("ssim", "reconstruction_error"):
            if key in table.colnames:
                figures[key] = float(np.median(table[key]))
    odd = disagreements(names, classes, probability)
    figures["judged"] = judged(odd)
    if args.page and half == HALVES[0]:
        draw_page(args.page, pictures, odd)
        odd[:SHOWN].pprint(max_lines=-1)
    show(half, figures)
    return figures


def together(zoo, model, cache):
    """Figures of classifiers on both halves at once, which have twice the labels."""
    names, classes, pictures = zoo
    rows = [np.array([half_of(name) == half for name in names]) for half in HALVES]
    halves = zip(rows, HALVES, strict=True)
    latents = [latents_of(pictures[row], model, half, cache) for row, half in halves]
    values = np.concatenate([np.asarray(table["latent"]) for table in latents])
    order = np.concatenate([np.flatnonzero(row) for row in rows])
    good = np.isfinite(values).all(1)
    pixels = np.asarray(components(pictures[order[good]])["latent"])
    figures = {"galaxies": int(good.sum())}
    for part, described in (("components", pixels), ("latents", values[good])):
        figures[part] = {
            kind: classify(described, classes[order[good]], make)[0]
            for kind, make in (("linear", LINEAR), ("forest", forest))
        }
    show("both", figures)
    return figures


def show(name, figures, depth=0):
    """Print figures inside of figures."""
    if isinstance(figures, dict) and any(isinstance(v, dict) for v in figures.values()):
        print(f"{'    ' * depth}{name}:")
        for key, value in figures.items():
            show(key, value, depth + 1)
    else:
        print(f"{'    ' * depth}{name}: {figures}", flush=True)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="'none': pixels alone")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--skip-network", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    model = None if args.model == "none" else load_model(args.model, "latents")
    zoo = galaxy_zoo(range(MERGER + 1))
    halves = HALVES if args.report else HALVES[:1]
    figures = {half: measure(half, zoo, model, args) for half in halves}
    if args.report and args.model == "default" and not args.skip_network:
        figures["both"] = together(zoo, model, args.cache)
        write_figures("morphology/gz1", figures | {"model": model.sha256})


if __name__ == "__main__":
    main()
