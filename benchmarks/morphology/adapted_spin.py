# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spins by a network that is adapted from mocks to observed SDSS pixels without labels.

    python benchmarks/morphology/adapted_spin.py [--report] [--cache DIR]
        [--alignment 10] [--distillation 1] [--truth] [--save FILE]

The spin model of the package is adapted from mocks that are seen as color images of
SDSS to pictures of the development half of the Galaxy Zoo, whose classes are not used.
Beside it stands what latents tell, of a network that was trained on observed pixels: a
gradient-boosted regressor on latents of the same mocks. All are judged by error and
coverage on mocks that no training has seen, as color images and in the bands of many
surveys; by how well a classifier tells features of mocks and observed galaxies apart;
and by the distributions of spins by class, beside those of SAMI, on the development
half, and with ``--report`` on the other one, which is then written.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from galml.core.adaptation import adapt_prepared, find_recipe
from galml.core.domain import find_domain
from galml.core.fitting import data_set, evaluate, select, split_rows
from galml.core.metrics import c2st, coverage
from galml.core.weights import load_model
from galml.stellar_spin import metrics
from galml.stellar_spin.mock_data import mock_data_set, mock_images

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import cached, write_figures
from spin_mocks import answer, judge
from spin_sdss import areas, distributions, load, measured, predicted, summary

#: Seeds of the mocks that are adapted from, of those that judge, and of the split.
SOURCE, TEST, SURVEYS, SEED = 2091, 2092, 2093, 1
OPTIONS = {"n_particles": 10_000}
#: Shares that choose the epoch, and on which figures of the adaptation are measured.
SHARES = (0.15, 0.15)
#: Quantiles that the regressor on latents tells.
LEVELS = (0.16, 0.5, 0.84)
TRUTH = ("spin", "ellipticity")


def color_mocks(count, seed, domains):
    """Prepare mocks as color images of SDSS for several domains, beside their truth.

    Returns
    -------
    list of dict of str to `torch.Tensor`
        One for each domain, beside ``spin``, ``ellipticity`` and ``type``.
    """
    parts = [[] for _ in domains]
    stream = mock_images(count, seed=seed, color_images=1.0, **OPTIONS)
    for parameters, mocks, _, seen in stream:
        truth = {key: getattr(mocks.truth, key).float() for key in TRUTH}
        truth["type"] = parameters["type"].float()
        for part, domain in zip(parts, domains, strict=True):
            part.append(domain.prepare([seen]).inputs | truth)
    return [{key: torch.cat([o[key] for o in p]) for key in p[0]} for p in parts]


def pictures(half, count):
    """Read some observed pictures of a half, their classes and names."""
    return [column[:count] for column in load(half)]


def observed(images, domain):
    """Prepare observed pictures, and tell which can be used."""
    return data_set(domain, domain.read(images), kind="galaxies")


def parts_of(data):
    """Divide a data set for training, choice of the epoch, and figures."""
    rows = split_rows(len(data["image"]), SEED, *SHARES)
    return [select(data, part) for part in rows]


def features(model, data, key="features"):
    """Give what a classifier is shown of each galaxy."""
    return evaluate(model.network, data, find_domain(model).views)[key].numpy()


def on_mocks(model, data):
    """Errors and coverage on mocks."""
    return {
        key: float(value) for key, value in judge(answer(model, data), data).items()
    }


def judge_model(model, mocks, surveys, halves, count):
    """Figures of a spin model."""
    domain = find_domain(model)
    figures = {
        "color_mocks": on_mocks(model, mocks),
        "mocks_of_surveys": on_mocks(model, surveys),
        "sha256": model.sha256,
    }
    own = features(model, mocks)
    for half in halves:
        images, kinds, names = pictures(half, count)
        table, sample = predicted(images, kinds, names, model=model)
        novelty = np.asarray(table["novelty"])
        figures[half] = {
            **summary(sample),
            "c2st": c2st(own, features(model, observed(images, domain)[0])),
            "unlike": float(np.mean(novelty[np.isfinite(novelty)] > 1)),
        }
    return figures


def judge_latents(encoder, train, mocks, halves, count):
    """Figures of regressors on latents of a network that knows observed pixels."""
    first, second = (features(encoder, data, "latent") for data in (train, mocks))

    def told(values, level):
        regressor = HistGradientBoostingRegressor(
            loss="quantile", quantile=level, random_state=SEED
        )
        return regressor.fit(first, train["spin"].numpy()).predict(values)

    low, middle, high = (told(second, level) for level in LEVELS)
    truth = mocks["spin"].numpy()
    figures = {
        "color_mocks": {
            **{k: float(v) for k, v in metrics.agreement(middle, truth).items()},
            "coverage": coverage(truth, low, high),
        },
        "sha256": encoder.sha256,
    }
    domain = find_domain(encoder)
    for half in halves:
        images, kinds, _ = pictures(half, count)
        data, usable = observed(images, domain)
        latents = features(encoder, data, "latent")
        spins = load_model("default", "spin")
        table, _ = predicted(images, kinds, kinds, model=spins)
        # Ellipticities are those of the model of the package.
        sample = {"kind": kinds, "ellipticity": np.asarray(table["ellipticity"])}
        sample = {key: value[usable] for key, value in sample.items()}
        sample |= {"spin": told(latents, 0.5), "name": sample["kind"]}
        known = np.isfinite(sample["ellipticity"])
        sample = {key: value[known] for key, value in sample.items()}
        figures[half] = {
            **areas(sample),
            "distributions": distributions(sample),
            "c2st": c2st(second, latents),
        }
    return figures


def main():
    """Adapt, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--tests", type=int, default=60)
    parser.add_argument("--galaxies", type=int)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--alignment", type=float, default=10.0)
    parser.add_argument("--distillation", type=float)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--encoder", help="model for latents; none by default")
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    model = load_model("default", "spin")
    encoder = args.encoder and load_model(args.encoder, "latents")
    domains = [find_domain(one) for one in (model, encoder) if one]

    def mocks(count, seed):
        names = ["spin", *([encoder.sha256[:8]] if encoder else [])]
        made = []

        def make(place):
            if not made:
                made.extend(color_mocks(count, seed, domains))
            return made[place]

        return [
            cached(args.cache, f"color-{seed}-{count}-{name}", lambda i=i: make(i))
            for i, name in enumerate(names)
        ]

    source, *train = mocks(args.batches, SOURCE)
    test, *others = mocks(args.tests, TEST)
    surveys = cached(
        args.cache,
        f"surveys-{SURVEYS}-{args.tests}",
        lambda: mock_data_set(args.tests, seed=SURVEYS, **OPTIONS),
    )
    shown = pictures("development", args.galaxies)[0]
    target = cached(
        args.cache,
        f"observed-{len(shown)}-spin",
        lambda: observed(shown, domains[0])[0],
    )
    adapted = adapt_prepared(
        model,
        parts_of(source),
        parts_of(target),
        recipe=find_recipe(model),
        has_truth=args.truth,
        alignment=args.alignment,
        distillation=args.distillation,
        epochs=args.epochs,
        learning_rate=args.rate,
        batch_size=128,
        seed=SEED,
        name="adapted spin",
        progress=True,
    )
    if args.save:
        adapted.save(args.save, overwrite=True)
    halves = ["development"] + ["reporting"] * args.report
    first, second = measured()
    figures = {
        "before": judge_model(model, test, surveys, halves, args.galaxies),
        "after": judge_model(adapted, test, surveys, halves, args.galaxies),
        "adaptation": adapted.card,
        "sami": {**areas(first), "distributions": distributions(first)},
        "atlas3d": distributions(second),
    }
    if encoder:
        figures["latents"] = judge_latents(
            encoder, train[0], others[0], halves, args.galaxies
        )
    for key, value in figures.items():
        print(f"{key}: {value}")
    if args.report:
        write_figures("morphology/adapted_spin", figures)


if __name__ == "__main__":
    main()
