# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Densities of real stars of the Milky Way: held-out log-likelihood.

    python benchmarks/stars_milky_way.py [--members 24] [--surveys kepler corot harps]

Five-fold cross-validated mean of the natural log-likelihood of a star, all axes in
standard deviations of the whole sample, as common baselines have it: a Gaussian, the
best of Gaussian mixtures (number of components and regularization that do best on the
held-out stars), a kernel density estimate. Ours never sees the held-out stars: its one
free choice, the number of Gaussians that its flows start from, is made inside each
training fold, and its other settings are the same for all surveys. Nor does its fair
opponent, a bag of as many Gaussian mixtures, each fitted to another part of the
training stars, with the number of components that does best on the rest of these.
"""

import argparse
import time
import warnings

import numpy as np
from astropy.table import QTable, Table
from common import shared_data, write_figures
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity

import galml
from galml.stars import combine

#: File and columns of each survey; where a column is a pair, their difference.
SURVEYS = {
    "kepler": (
        "kepler_apogee_miglio2021.fit.gz",
        ["GalR", "Galphi", "GalZ", "vR", "vT", "vZ", "__Fe_H_", "__alpha_M_", "Age"],
    ),
    "corot": (
        "corot_apogee_anders2017.fit.gz",
        ["Xg", "Yg", "Zg", "vXg", "vYg", "vZg", "__M_H_", "__Fe_H_"]
        + [("__O_H_", "__Fe_H_"), "AgeM"],
    ),
    "harps": (
        "HARPS_DelgadoMena2017_with_ages_kinematics.fits.gz",
        ["Xg", "Yg", "Zg", "vXg", "vYg", "vZg", "zh", "feh"]
        + [("[O/H]_6158_BdL15", "feh"), "meanage"],
    ),
}
COMPONENTS = (1, 2, 3, 5, 8, 10, 12, 15)
REGULARIZATION = (1e-6, 1e-4, 1e-3, 1e-2)
#: Numbers of Gaussians that flows may start from, and that a bag has; regularization
#: of whitened stars.
STARTS = (2, 3, 5, 8, 12)
WHITE_REGULARIZATION = 1e-3
BANDWIDTHS = (0.4, 0.5, 0.6)
OPTIONS = {"whiten": True, "layers": 3, "width": 32}
TRAINING = {
    "epochs": 40,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "patience": 8,
    "validation": 0.15,
    "weight_decay": 1e-3,
}


def load(survey):
    """Complete stars, standardized, shape (n, axes)."""
    file, columns = SURVEYS[survey]
    with warnings.catch_warnings():
        # Units of these files are not all of the standard.
        warnings.simplefilter("ignore")
        table = Table.read(shared_data("stars") / file)

    def read(name):
        return np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)

    values = [
        read(c) if isinstance(c, str) else read(c[0]) - read(c[1]) for c in columns
    ]
    values = np.stack(values, 1)
    values = values[np.isfinite(values).all(1)]
    return (values - values.mean(0)) / values.std(0)


def mixture(train, components, regularization=1e-6, seed=0):
    """Fit one Gaussian mixture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(
            components, reg_covar=regularization, random_state=seed
        ).fit(train)


def baselines(values, folds):
    """Mean held-out log-likelihood of each baseline, and of each fold."""
    found = {}
    for reg in REGULARIZATION:
        for number in COMPONENTS:
            found[f"mixture of {number}, {reg:g}"] = [
                mixture(values[a], number, reg).score(values[b]) for a, b in folds
            ]
    best = max((k for k in found), key=lambda k: np.mean(found[k]))
    rows = {"Gaussian": found["mixture of 1, 1e-06"], f"best {best}": found[best]}
    plain = max(
        (k for k in found if k.endswith("1e-06")), key=lambda k: np.mean(found[k])
    )
    rows[f"best default {plain}"] = found[plain]
    for width in BANDWIDTHS:
        rows[f"kernels of {width}"] = [
            KernelDensity(bandwidth=width).fit(values[a]).score(values[b]) / len(b)
            for a, b in folds
        ]
    return rows


def whiten(train):
    """Give the function that takes linear correlations out, as the flows do."""
    factor = np.linalg.inv(np.linalg.cholesky(np.cov(train.T)))
    return lambda values: (values - train.mean(0)) @ factor.T


def choose_start(train, members=12):
    """Find the number of Gaussians that does best for ensembles on inner splits."""
    scores = dict.fromkeys(STARTS, 0.0)
    for inner, outer in KFold(5, shuffle=True, random_state=1).split(train):
        turn = whiten(train[inner])
        fitted, new = turn(train[inner]), turn(train[outer])
        for number in STARTS:
            each = []
            for seed in range(members):
                own = np.random.default_rng(seed).permutation(len(fitted))
                part = fitted[own[: int(0.85 * len(fitted))]]
                one = mixture(part, number, WHITE_REGULARIZATION, seed)
                each.append(one.score_samples(new))
            scores[number] += logsumexp(each, axis=0).sum()
    return max(scores, key=scores.get)


def bag(train, test, members):
    """Held-out log-likelihood of the mean density of mixtures, each of its own part."""
    turn = whiten(train)
    fitted, new = turn(train), turn(test)
    stretch = -np.linalg.slogdet(np.linalg.cholesky(np.cov(train.T)))[1]
    split = int((1 - TRAINING["validation"]) * len(fitted))
    each = []
    for seed in range(members):
        own = np.random.default_rng(seed).permutation(fitted)
        candidates = [
            mixture(own[:split], number, WHITE_REGULARIZATION, seed)
            for number in STARTS
        ]
        best = max(candidates, key=lambda one: one.score(own[split:]))
        each.append(best.score_samples(new))
    total = logsumexp(each, axis=0) - np.log(members)
    return float(np.mean(total) + stretch)


def table_of(values):
    """Plain columns: the axes are standardized already."""
    return QTable({f"axis_{i}": column for i, column in enumerate(values.T)})


def flows(train, test, members):
    """Held-out log-likelihood of an ensemble and of its members, and its start."""
    start = choose_start(train)
    stars, axes = table_of(train), [f"axis_{i}" for i in range(train.shape[1])]
    models = [
        galml.stars.fit(
            stars,
            axes=axes,
            network="mixture",
            options={"components": start, **OPTIONS},
            seed=seed,
            **TRAINING,
        )
        for seed in range(members)
    ]
    new_stars = table_of(test)

    def score(model):
        return float(np.mean(galml.star_log_prob(new_stars, model=model)["log_prob"]))

    return score(combine(models)), float(np.mean([score(m) for m in models])), start


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=24)
    parser.add_argument("--surveys", nargs="+", default=list(SURVEYS))
    args = parser.parse_args()
    figures = {}
    for survey in args.surveys:
        values = load(survey)
        folds = list(KFold(5, shuffle=True, random_state=0).split(values))
        rows = baselines(values, folds)
        rows[f"bag of {args.members} mixtures"] = [
            bag(values[a], values[b], args.members) for a, b in folds
        ]
        begun = time.perf_counter()
        ours = [flows(values[a], values[b], args.members) for a, b in folds]
        rows["one flow"] = [single for _, single, _ in ours]
        rows[f"galml, {args.members} flows"] = [total for total, *_ in ours]
        seconds = time.perf_counter() - begun
        print(f"{survey}: {values.shape[0]} stars, {values.shape[1]} axes")
        table = QTable(
            rows=[(name, np.mean(r), *r) for name, r in rows.items()],
            names=("density", "log-likelihood", *(f"fold {i}" for i in range(5))),
        )
        for name in table.colnames[1:]:
            table[name].info.format = ".3f"
        table.pprint(max_lines=-1, max_width=-1)
        mean = np.mean([total for total, *_ in ours])
        gain = mean - max(
            np.mean(r) for name, r in rows.items() if "mixture of" in name
        )
        over_bag = mean - np.mean(rows[f"bag of {args.members} mixtures"])
        print(f"better than the best mixture by {gain:.3f} nats; {seconds:.0f} s")
        print(f"better than the bag of mixtures by {over_bag:.3f} nats")
        figures[survey] = {
            "stars": len(values),
            "axes": values.shape[1],
            "log_likelihood": {k: float(np.mean(v)) for k, v in rows.items()},
            "folds": {k: [float(x) for x in v] for k, v in rows.items()},
            "gain": float(gain),
            "gain_over_bag": float(over_bag),
            "starts": [start for *_, start in ours],
        }
    write_figures("stars_milky_way", figures)


if __name__ == "__main__":
    main()
