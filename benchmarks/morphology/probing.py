# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What latents tell: classifiers on them, and principal components to compare with."""

import numpy as np
from astropy.table import QTable
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler

import galml
from galml.core.metrics import area_under_curve
from galml.morphology.surveys import pair_distances

__all__ = [
    "COMPONENTS",
    "FOLDS",
    "SEED",
    "area",
    "balanced",
    "components",
    "crossed",
    "encode",
    "forest",
    "linear",
    "partners",
    "usable",
]

COMPONENTS, BINNING, TREES = 40, 3, 500
FOLDS, SEED = 5, 1
#: Values beyond so many scatters count as so far away; inverse strengths of the penalty
#: on weights, among which a cross-validation of what it learns from chooses.
FAR, PENALTIES = 5.0, np.logspace(-4, 1, 6)


def linear(few=False, cautious=False):
    """Make a linear classifier in which classes weigh the same, and no value too much.

    Values are standardized by their median and quartiles, and cut where they are far
    away: of a few galaxies in a thousand they would otherwise set the scale.

    Parameters
    ----------
    few : bool
        Whether there are too few labels for choosing the penalty.
    cautious : bool
        Whether the strongest penalty is chosen that is worse than the best one by no
        more than that one's standard error, as where a class is rare.
    """
    options = {"class_weight": "balanced", "max_iter": 5000}
    machine = GridSearchCV(
        LogisticRegression(**options),
        {"C": PENALTIES},
        cv=FOLDS,
        scoring="roc_auc_ovr",
        refit=_strongest if cautious else True,
    )
    return make_pipeline(
        RobustScaler(unit_variance=True),
        FunctionTransformer(np.clip, kw_args={"a_min": -FAR, "a_max": FAR}),
        LogisticRegression(**options) if few else machine,
    )


def _strongest(results):
    """Find the strongest penalty that is hardly worse than the best one."""
    score, best = results["mean_test_score"], np.argmax(results["mean_test_score"])
    worst = score[best] - results["std_test_score"][best] / np.sqrt(FOLDS)
    # The penalties are sorted, the strongest first.
    return int(np.flatnonzero(score >= worst)[0])


def forest():
    """Make a random forest in which classes weigh the same."""
    return RandomForestClassifier(TREES, class_weight="balanced", random_state=SEED)


def folds(classes):
    """Divide rows into training and test, each class in equal parts."""
    folder = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    return folder.split(np.zeros(len(classes)), classes)


def crossed(make, values, classes):
    """Probability of each class, by what was learned from other rows.

    Parameters
    ----------
    make : callable
        Gives a classifier.
    values : `~numpy.ndarray`
        Shape (n, k).
    classes : `~numpy.ndarray`
        Shape (n,).

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, classes), in order of the classes.
    """
    found = np.zeros((len(classes), len(np.unique(classes))))
    for train, test in folds(classes):
        learned = make().fit(values[train], classes[train])
        found[test] = learned.predict_proba(values[test])
    return found


def balanced(classes, probability):
    """Mean over the classes of the share that is recognized."""
    told = np.unique(classes)[probability.argmax(1)]
    return float(balanced_accuracy_score(classes, told))


def area(score, outcome):
    """Area under the curve, with the standard error of Hanley & McNeil (1982)."""
    value = area_under_curve(score, outcome)
    first, second = np.sum(outcome), np.sum(~outcome)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (first - 1) * (q1 - value**2)
    variance = (variance + (second - 1) * (q2 - value**2)) / (first * second)
    return {
        "value": float(value),
        "error": float(np.sqrt(variance)),
        "galaxies": [int(first), int(second)],
    }


def components(pictures):
    """Principal components of coarse pixels, in the place of latents.

    Parameters
    ----------
    pictures : `~numpy.ndarray`
        Bytes, shape (n, ny, nx, 3); sides are multiples of ``BINNING``.

    Returns
    -------
    `~astropy.table.QTable`
        ``latent``, and ``reconstruction_error``, the mean square of what is left.
    """
    n, ny, nx, bands = pictures.shape
    cells = pictures.reshape(n, ny // BINNING, BINNING, nx // BINNING, BINNING, bands)
    pixels = cells.mean((2, 4), dtype=np.float32).reshape(n, -1) / 255
    found = PCA(COMPONENTS, svd_solver="randomized", random_state=SEED)
    latent = found.fit_transform(pixels)
    left = pixels - found.inverse_transform(latent)
    return QTable({"latent": latent, "reconstruction_error": np.mean(left**2, axis=1)})


def encode(cutouts, model, **options):
    """Latents of a model, with a progress bar."""
    return galml.latents(cutouts, model=model, progress=True, **options)


def usable(table):
    """Tell which galaxies have latents."""
    return np.isfinite(np.asarray(table["latent"])).all(1)


def partners(first, second):
    """Tell whether the same galaxies, seen twice, are found by their latents.

    Parameters
    ----------
    first, second : `~astropy.table.QTable`
        Latents of the same galaxies, in the same rows.

    Returns
    -------
    dict
        Median ``distance`` of pairs over that of two different galaxies; ``rank`` of
        the partner among all of ``second`` (median, 1 is the nearest), and share of
        partners that come ``first``.
    """
    pairs = pair_distances(first, second)
    other = pair_distances(first, second[np.roll(np.arange(len(second)), 1)])
    return {
        "distance": float(np.median(pairs["distance"]) / np.median(other["distance"])),
        "rank": float(np.median(pairs["partner_rank"])),
        "first": float(np.mean(pairs["partner_rank"] == 1)),
        "galaxies": len(pairs),
    }
