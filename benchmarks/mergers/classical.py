# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Mergers by classical measures of shape, which tell how hard a set of images is.

    python benchmarks/mergers/classical.py FILE [--output results.json]

measures concentration C, asymmetry A (Conselice 2003, ApJS 147, 1), Gini and M20 (Lotz
et al. 2004, AJ 128, 163) with statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140)
on images that are saved as a dict of tensors: ``data`` (n, ny, nx), sky subtracted;
``noise`` (n,), error of a pixel; ``psf_fwhm`` (n,) in pixels; ``magnitude`` (n,);
``label`` (n,), 1 for what counts as merger; ``group`` (n,), numbers of the simulations,
which are not divided between training and test. Judged are the best cut on A, and
random forests, both for equal numbers of mergers and others.
"""

import argparse
import json
import multiprocessing
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from astropy.convolution import Gaussian2DKernel, convolve_fft
from astropy.stats import gaussian_fwhm_to_sigma
from photutils.segmentation import detect_sources
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from statmorph import SourceMorphology

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import show

#: What is measured, by the names of statmorph; half-light radius in pixels. The last
#: is 0 for a good measurement, 1 for a doubtful one and 2 or more where it failed.
MEASURES = (
    "concentration",
    "asymmetry",
    "gini",
    "m20",
    "smoothness",
    "intensity",
    "deviation",
    "rhalf_ellip",
    "flag",
)
PUBLISHED = ("concentration", "asymmetry", "gini", "m20", "rhalf_ellip", "magnitude")
#: Errors of a pixel above which the smoothed image belongs to a source, and its least
#: number of pixels.
THRESHOLD, FEWEST = 1.5, 10
FAILED = 4
PROCESSES, FOLDS, TREES, SEED = 2, 5, 500, 1


def measure(data, noise, psf_fwhm):
    """Measure the source nearest to the middle of an image.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Shape (ny, nx), sky subtracted.
    noise, psf_fwhm : float
        Error of a pixel, and FWHM of the point spread function in pixels.

    Returns
    -------
    dict of str to float
        The `MEASURES`; NaN where they failed.
    """
    nothing = dict.fromkeys(MEASURES, np.nan) | {"flag": float(FAILED)}
    kernel = Gaussian2DKernel(psf_fwhm * gaussian_fwhm_to_sigma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smooth = convolve_fft(data, kernel, boundary="wrap")
        # Parts of one galaxy stay together: nothing is deblended.
        segments = detect_sources(smooth, THRESHOLD * noise, FEWEST)
        if segments is None:
            return nothing
        y, x = np.nonzero(segments.data)
        middle = (np.array(data.shape) - 1) / 2
        nearest = np.argmin(np.hypot(y - middle[0], x - middle[1]))
        label = segments.data[y[nearest], x[nearest]]
        try:
            found = SourceMorphology(
                data,
                segments,
                label,
                weightmap=np.full(data.shape, noise),
                sersic_maxiter=1,
            )
        except Exception:  # Of many kinds, from deep inside: one image less.
            return nothing
    return {
        # It marks what it could not measure by -99.
        key: value if np.isfinite(value) and value > -90 else np.nan
        for key, value in ((key, float(getattr(found, key))) for key in MEASURES)
    }


def measure_all(data, noise, psf_fwhm):
    """Measure images, shape (n, ny, nx), as `measure` does, in some processes.

    Returns
    -------
    dict of str to `~numpy.ndarray`
        The `MEASURES`, each of shape (n,).
    """
    rows = zip(
        data.astype(float), noise.astype(float), psf_fwhm.astype(float), strict=True
    )
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        found = pool.starmap(measure, rows, chunksize=8)
    return {key: np.array([row[key] for row in found]) for key in MEASURES}


def folds(label, group):
    """Divide images into training and test, `FOLDS` times; groups stay together."""
    folder = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    return folder.split(label, label, group)


def best_cut(values, label, group):
    """Judge the best cut on one measure, which others than those judged have chosen.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n,): larger for mergers or for others, as the training says.
    label, group : `~numpy.ndarray`
        Shape (n,): truth, 0 or 1; and the simulation.

    Returns
    -------
    dict
        What `judged` gives; without the folds, area under the ROC curve.
    """
    values = filled(values[:, None])[:, 0]
    answer = np.zeros(len(values))
    for train, test in folds(label, group):
        false, true, cuts = roc_curve(label[train], values[train])
        best = np.argmax(np.abs(true - false))
        answer[test] = (values[test] >= cuts[best]) == (true[best] > false[best])
    return judged(answer, label) | {"auc": float(roc_auc_score(label, values))}


def random_forest(features, label, group):
    """Judge random forests, each by what it was not trained on.

    Parameters
    ----------
    features : `~numpy.ndarray`
        Shape (n, f); NaN counts as the median.
    label, group : `~numpy.ndarray`
        Shape (n,): truth, 0 or 1; and the simulation.

    Returns
    -------
    dict
        What `judged` gives, and area under the ROC curve.
    """
    features = filled(features)
    score = np.zeros(len(label))
    for train, test in folds(label, group):
        forest = RandomForestClassifier(
            TREES, min_samples_leaf=5, class_weight="balanced", random_state=SEED
        )
        forest.fit(features[train], label[train])
        score[test] = forest.predict_proba(features[test])[:, 1]
    return judged(score >= 0.5, label) | {"auc": float(roc_auc_score(label, score))}


def filled(features):
    """Put the median of each column where there is no value."""
    return np.where(np.isnan(features), np.nanmedian(features, axis=0), features)


def judged(answer, label):
    """Accuracy for equal numbers of both classes, and that of the worse class."""
    right = [float((answer[label == kind] == kind).mean()) for kind in (0, 1)]
    return {"accuracy": float(np.mean(right)), "upsilon": min(right)}


def spread(values):
    """Give quantiles at 16, 50 and 84 %, and the share that is missing."""
    levels = [round(float(q), 3) for q in np.nanquantile(values, (0.16, 0.5, 0.84))]
    return {"quantiles": levels, "missing": float(np.isnan(values).mean())}


def judge(images):
    """Measure images, given as a dict of tensors, and judge what the measures tell."""
    images = {key: value.numpy() for key, value in images.items()}
    label, group = images["label"].astype(int), images["group"]
    start = time.perf_counter()
    found = measure_all(images["data"], images["noise"], images["psf_fwhm"])
    seconds = time.perf_counter() - start
    table = found | {"magnitude": images["magnitude"].astype(float)}

    def columns(names):
        return np.stack([table[name] for name in names], 1)

    scores = {
        "best cut on A": best_cut(found["asymmetry"], label, group),
        "random forest, C, A, Gini, M20, magnitude, size": random_forest(
            columns(PUBLISHED), label, group
        ),
        "random forest, with S, M, I, D": random_forest(
            columns((*PUBLISHED, "smoothness", "intensity", "deviation")), label, group
        ),
        "random forest, magnitude and size": random_forest(
            columns(("rhalf_ellip", "magnitude")), label, group
        ),
    }
    flags, counts = np.unique(found["flag"], return_counts=True)
    return {
        "images": [int((label == kind).sum()) for kind in (0, 1)],
        "scores": scores,
        "measures": {
            name: {
                kind: spread(values[label == number])
                for number, kind in enumerate(("others", "mergers"))
            }
            for name, values in table.items()
            if name != "flag"
        },
        "flags": {f"{f:.0f}": int(n) for f, n in zip(flags, counts, strict=True)},
        "seconds_per_image": seconds / len(label),
    }


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    figures = judge(torch.load(args.file))
    show("classifier", figures["scores"])
    print(figures["flags"])
    if args.output:
        args.output.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
