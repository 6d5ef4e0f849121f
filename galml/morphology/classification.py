# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `classify`, and classes out of the votes of Galaxy Zoo."""

from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from astropy.table import MaskedColumn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from galml.core.exceptions import InputError, InputTypeError
from galml.core.inference import progress_updates
from galml.core.inputs import as_table
from galml.core.results import build_table, warn_batch
from galml.morphology.tables import (
    Metric,
    is_nothing,
    of_pandas,
    read_latents,
    result_table,
)

__all__ = ["classify", "read_labels", "votes_to_classes"]

CLASSIFIERS = ("linear", "forest", "self-training")
PRIORS = ("equal", "labels")
#: Parts of the labeled galaxies, of which each is judged by what the others taught.
FOLDS = 5
#: Inverse strengths of the penalty on weights of a linear classifier, of which the one
#: that foresees the held-out labels best is taken.
PENALTIES = (0.003, 0.03, 0.3, 3.0, 30.0)
#: Of a classifier that also learns from galaxies without labels: its penalty, the
#: probability from which it takes a class for a label, and the most of these galaxies.
SELF_PENALTY, SURE, MOST_UNLABELED = 0.1, 0.6, 20_000
#: Trees of a forest, and galaxies of the smallest leaf.
TREES, LEAF = 300, 3
#: Logarithm of the smallest and the largest factor on logits, and the smallest
#: probability that a classifier may give.
SHARPNESS, SMALLEST = (-4.0, 3.0), 1e-6

_SMOOTH = "smooth-or-featured_smooth"
_FACE_ON = ("smooth-or-featured_featured-or-disk", "disk-edge-on_no")
_ARMED = (*_FACE_ON, "has-spiral-arms_yes")
#: Classes by question: answers of Galaxy Zoo DECaLS that all have to have the votes.
QUESTIONS = {
    "shape": {
        "round": (_SMOOTH, "how-rounded_round"),
        "in-between": (_SMOOTH, "how-rounded_in-between"),
        "cigar-shaped": (_SMOOTH, "how-rounded_cigar-shaped"),
    },
    "edge_on": {
        "yes": ("smooth-or-featured_featured-or-disk", "disk-edge-on_yes"),
        "no": _FACE_ON,
    },
    "bar": {"none": (*_FACE_ON, "bar_no"), "strong": (*_FACE_ON, "bar_strong")},
    "spiral_arms": {"yes": _ARMED, "no": (*_FACE_ON, "has-spiral-arms_no")},
    "winding": {
        "tight": (*_ARMED, "spiral-winding_tight"),
        "medium": (*_ARMED, "spiral-winding_medium"),
        "loose": (*_ARMED, "spiral-winding_loose"),
    },
}
#: Answers of which any makes a merger; and the votes that make none of these, of an
#: answer of its own.
MERGING = ("merging_minor-disturbance", "merging_major-disturbance", "merging_merger")
NOT_MERGING = {"disk-edge-on_no": 0.6, "merging_none": 0.8}


def classify(
    table, labels, *, classifier="linear", prior="equal", seed=0, progress=False
):
    r"""Classify galaxies after the example of some with labels.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.latents` gave, or any table with a column ``latent`` of shape
        (n, k).
    labels : str, array or mapping
        Class of each galaxy, or the column that has it, or a mapping from ``name``:
        text, integers or booleans. Masked, None, NaN, NA of pandas and ``""`` are
        galaxies without.
        Each of at least two classes needs two labels.
    classifier : {"linear", "forest", "self-training"}, optional
        Logistic regression, with the penalty on its weights that serves best; a random
        forest, as published [1]_; or, for a few dozen labels, logistic regression that
        takes classes it is sure of for labels, and learns again [2]_.
    prior : {"equal", "labels"}, optional
        Whether probabilities are those for a sample with as many galaxies of each
        class, or with the shares of the labels.
    seed : int, optional
        Seed of the folds and of the forest.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``name`` (if there); ``label``, yours where there
        is one, else the most probable; ``labeled``, whether it is yours;
        ``probability`` (n, c) of each class; ``entropy`` of these, from 0 (certain) to
        1 (a guess); and ``flags``. Probabilities of labeled galaxies come from
        classifiers that have not seen their labels: where they disagree, the label may
        be wrong. The metadata have the classes in order as ``CLASS_1``...; ``BALACC``,
        the mean share of each class that is recognized, cross-validated, and its error
        ``BALACCER``; ``NLABELS`` and ``NFOLDS``. Galaxies without latents are NaN with
        the flags ``failed`` and ``nonfinite``, their label masked unless it is yours,
        and one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        When the table has no latents, there are too few labels, or an argument cannot
        be used.
    ImportError
        Without scikit-learn.

    Notes
    -----
    Classes count equally in learning, however many labels they have. Differences of
    latents count as they are, in units of one scatter of all. Five folds hold
    equal shares of each class as far as possible; a class with fewer than five labels
    is missing from some. The factor on the logits (temperature) that calibrates the
    probabilities is found on held-out galaxies.

    References
    ----------
    .. [1] Xu et al. (2023), MNRAS 526, 6391.
    .. [2] Yarowsky (1995), ACL 33, 189.

    Examples
    --------
    Two kinds of galaxies, a few of which have labels:

    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> import galml
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.choice(["elliptical", "spiral"], 600)
    >>> latent = rng.normal(size=(600, 8))
    >>> latent[:, 0] += 4.0 * (truth == "spiral")
    >>> labels = np.where(np.arange(600) < 40, truth, "")
    >>> found = galml.classify(QTable({"latent": latent}), labels)
    >>> bool((found["label"] == truth).mean() > 0.9)
    True
    >>> found.meta["CLASS_2"], found.meta["NLABELS"]
    ('spiral', 40)
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        message = "classify needs scikit-learn: pip install 'galml[all]'"
        raise ImportError(message) from error

    known = read_latents(table, "table")
    values, labeled = read_labels(labels, known, "labels")
    if classifier not in CLASSIFIERS:
        raise InputError("classifier", repr(classifier), f"one of {CLASSIFIERS}")
    if prior not in PRIORS:
        raise InputError("prior", repr(prior), f"one of {PRIORS}")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise InputError("seed", repr(seed), "an integer not below 0")
    taught = labeled & known.usable
    classes, truth, counts = np.unique(
        values[taught], return_inverse=True, return_counts=True
    )
    if len(classes) < 2:
        expected = "at least two, of galaxies with latents"
        raise InputError("labels", f"{len(classes)} classes", expected)
    if counts.min() < 2:
        rare = classes[counts.argmin()].item()
        got = f"one galaxy with the label {rare!r}"
        raise InputError("labels", got, "two or more of each class, or none")

    points = Metric.whole(known)(known.values[known.usable]).astype(float)
    examples = points[taught[known.usable]]
    if classifier == "linear":
        choices = [_linear(penalty) for penalty in PENALTIES]
    elif classifier == "self-training":
        others = points[~taught[known.usable]]
        some = np.random.default_rng(seed).permutation(len(others))[:MOST_UNLABELED]
        choices = [_SelfTraining(others[some])]
    else:
        choices = [_forest(seed)]
    folds = _folds(truth, seed)
    total = len(choices) * (folds.max() + 1)
    with progress_updates(progress, total, "fit", "classify") as update:
        held_out = [_held_out(one, examples, truth, folds, update) for one in choices]
    # Each class counts as much as any other.
    weight = 1 / counts[truth] / len(classes)
    calibrated = [_calibrate(logits, truth, weight) for logits in held_out]
    best = int(np.argmin([loss for _, loss in calibrated]))
    factor, machine = calibrated[best][0], choices[best]
    machine.fit(examples, truth)
    shift = np.log(counts / counts.sum()) if prior == "labels" else 0.0

    probability = np.full((len(values), len(classes)), np.nan)
    probability[known.usable] = softmax(factor * _logits(machine, points) + shift, 1)
    probability[taught] = softmax(factor * held_out[best] + shift, 1)
    label = values.copy()
    guessed = known.usable & ~labeled
    label[guessed] = classes[np.argmax(probability[guessed], axis=1)]
    missing = ~(known.usable | labeled)
    recognized = np.argmax(held_out[best], axis=1) == truth
    shares = np.bincount(truth, recognized) / counts
    columns = {
        "label": MaskedColumn(label, mask=missing) if missing.any() else label,
        "labeled": labeled,
        "probability": probability,
        "entropy": _entropy(probability),
    }
    call = {"classifier": classifier, "prior": prior}
    result = result_table(
        known, "classify", columns, known.flags, call=call, names=known.names, seed=seed
    )
    result.meta |= {f"CLASS_{i}": str(one) for i, one in enumerate(classes, start=1)}
    # Of a share of n trials, with one success and one failure more.
    smooth = (shares * counts + 1) / (counts + 2)
    error = np.sqrt((smooth * (1 - smooth) / counts).sum()) / len(classes)
    result.meta |= {"BALACC": float(shares.mean()), "BALACCER": float(error)}
    result.meta |= {"NLABELS": int(counts.sum()), "NFOLDS": int(folds.max() + 1)}
    warn_batch(known.flags, InputError("table", "no latents", "finite numbers"))
    return result


def votes_to_classes(table, *, threshold=0.6):
    """Make classes out of the votes of Galaxy Zoo DECaLS.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Fractions of votes from 0 to 1, in columns named as in the catalogs of Galaxy
        Zoo DECaLS [1]_, such as ``smooth-or-featured_smooth_fraction``.
    threshold : float, optional
        What each fraction on the way to an answer has to exceed.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order, with a column of classes for each question of
        which all columns are there: ``shape`` of smooth galaxies (round, in-between,
        cigar-shaped), ``edge_on`` of featured ones (yes, no); of those that are not
        edge-on ``bar`` (none, strong) and ``spiral_arms`` (yes, no), of these
        ``winding`` (tight, medium, loose); and ``merger`` (yes where a minor or major
        disturbance or a merger, no where 0.8 of the votes are for none of them, and 0.6
        against an edge-on disk). Elsewhere they are ``""``, which `galml.classify`
        takes as no label. ``flags`` have ``failed`` where there are no votes at all.

    Raises
    ------
    galml.core.InputError
        When no question has all of its columns, or votes are beyond 0 to 1.

    Notes
    -----
    Thresholds and answers are those of [2]_; fractions of the campaigns 1 and 2, which
    asked differently for mergers and bars, serve for the other questions.

    References
    ----------
    .. [1] Walmsley et al. (2022), MNRAS 509, 3966.
    .. [2] Xu et al. (2023), MNRAS 526, 6391.

    Examples
    --------
    >>> from galml.morphology import votes_to_classes
    >>> votes = {
    ...     "smooth-or-featured_featured-or-disk_fraction": [0.9, 0.1],
    ...     "disk-edge-on_yes_fraction": [0.8, 0.7],
    ...     "disk-edge-on_no_fraction": [0.2, 0.3],
    ... }
    >>> print(*votes_to_classes(votes)["edge_on"].tolist(), sep=", ")
    yes,
    """
    table = as_table(table, "table")
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold < 1:
        raise InputError("threshold", repr(threshold), "a number from 0 to below 1")
    questions = {
        name: [
            (answer, dict.fromkeys(needed, threshold))
            for answer, needed in answers.items()
        ]
        for name, answers in QUESTIONS.items()
    }
    questions["merger"] = [("no", NOT_MERGING)]
    questions["merger"] += [("yes", {answer: threshold}) for answer in MERGING]
    columns, seen = {}, np.zeros(len(table), dtype=bool)
    for name, answers in questions.items():
        needed = {key for _, limits in answers for key in limits}
        if not {f"{key}_fraction" for key in needed} <= set(table.colnames):
            continue
        votes = {key: _fractions(table, f"{key}_fraction") for key in needed}
        seen |= np.any([np.isfinite(one) for one in votes.values()], axis=0)
        column = np.zeros(len(table), dtype="U12")
        for answer, limits in answers:
            chosen = [votes[key] > limit for key, limit in limits.items()]
            column[np.all(chosen, axis=0)] = answer
        columns[name] = column
    if not columns:
        got = f"the columns {', '.join(table.colnames)}"
        expected = "fractions of votes, such as smooth-or-featured_smooth_fraction"
        raise InputError("table", got, expected)
    names = np.asarray(table["name"]).astype(str) if "name" in table.colnames else None
    flags = np.where(seen, 0, 1)
    result = build_table(
        columns,
        operation="votes_to_classes",
        names=names,
        flags=flags,
        device="cpu",
        dtype="float64",
        seed=None,
        call={"threshold": threshold},
    )
    warn_batch(flags, InputError("table", "no votes", "fractions of votes"))
    return result


def read_labels(labels, known, argument):
    """Read labels, shape (n,) of one type, and where there are any.

    Parameters
    ----------
    labels : str, array or mapping
        A column of the table, one label for each row, or labels by name.
    known : `~galml.morphology.tables.Latents`
        The galaxies.
    argument : str
        Name used in errors.

    Returns
    -------
    values, labeled : `~numpy.ndarray`
        Shape (n,): text, integers or booleans; and whether a row has a label.
    """
    count = len(known.values)
    if isinstance(labels, str):
        if labels not in known.table.colnames:
            raise InputError(argument, repr(labels), "a column of the table, or labels")
        labels = known.table[labels]
    if isinstance(labels, Mapping):
        if known.names is None or not set(labels) <= set(known.names.tolist()):
            raise InputError(argument, "names that are not there", "names of the table")
        labels = [labels.get(name) for name in known.names.tolist()]
    labels = of_pandas(labels)
    mask = np.asarray(getattr(labels, "mask", False))
    plain = getattr(labels, "unmasked", getattr(labels, "data", labels))
    plain = np.ma.getdata(plain) if isinstance(plain, np.ma.MaskedArray) else plain
    values = np.asarray(plain, dtype=None if hasattr(plain, "dtype") else object)
    if values.shape != (count,):
        raise InputError(argument, f"shape {values.shape}", f"({count},)")
    if values.dtype.kind == "S":
        values = np.char.decode(values)
    given = [not (is_nothing(one) or one in ("", b"")) for one in values.tolist()]
    given = np.array(given, dtype=bool)
    labeled = given & ~mask
    found = [_plain(one) for one in values[labeled].tolist()]
    kinds = {type(one) for one in found}
    if len(kinds) > 1 or not kinds <= {str, int, bool}:
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputTypeError(argument, got, "text, integers or booleans, of one type")
    kind = kinds.pop() if kinds else str
    found = np.array(found, dtype=kind)
    result = np.zeros(count, dtype=found.dtype)
    result[labeled] = found
    return result, labeled


def _plain(one):
    """Turn bytes into text, and whole numbers (floats, beside NaN) into integers."""
    if isinstance(one, bytes):
        return one.decode()
    if isinstance(one, np.generic):
        one = one.item()
    return int(one) if isinstance(one, float) and one.is_integer() else one


def _fractions(table, key):
    """Read fractions of votes, NaN where there are none."""
    try:
        values = np.ma.filled(np.ma.asarray(table[key], dtype=float), np.nan)
    except (TypeError, ValueError) as error:
        got = f"values of type {table[key].dtype}"
        raise InputTypeError(f"table[{key!r}]", got, "fractions from 0 to 1") from error
    if values.ndim != 1:
        got = f"shape {values.shape}"
        raise InputError(f"table[{key!r}]", got, "one fraction for each galaxy")
    known = values[~np.isnan(values)]
    if known.size and not (known.min() >= 0 and known.max() <= 1):
        got = f"{known.min():g} to {known.max():g}"
        raise InputError(f"table[{key!r}]", got, "fractions from 0 to 1")
    return values


def _linear(penalty):
    """Make a logistic regression in which all classes count equally."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)


def _forest(seed):
    """Make a random forest in which all classes count equally."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=int(seed)
    )


class _SelfTraining:
    """A linear classifier that also learns from points without labels."""

    def __init__(self, points):
        self.points, self.machine = points, None

    def fit(self, examples, truth):
        """Learn from labeled points, and from those among the others that are sure."""
        from sklearn.semi_supervised import SelfTrainingClassifier

        everything = np.concatenate([examples, self.points])
        labels = np.concatenate([truth, np.full(len(self.points), -1)])
        self.machine = SelfTrainingClassifier(_linear(SELF_PENALTY), threshold=SURE)
        self.machine.fit(everything, labels)

    def predict_proba(self, points):
        """Give the probability of each class, shape (n, c)."""
        return self.machine.predict_proba(points)


def _folds(truth, seed):
    """Divide galaxies into folds, shape (n,), with equal shares of each class."""
    order = np.random.default_rng(seed).permutation(len(truth))
    order = order[np.argsort(truth[order], kind="stable")]
    folds = np.empty(len(truth), dtype=int)
    # Members of a class are in folds of different numbers: none has all of a class.
    folds[order] = np.arange(len(truth)) % min(FOLDS, len(truth))
    return folds


def _held_out(machine, points, truth, folds, update):
    """Logits of all galaxies, shape (n, c), each by what the other folds taught."""
    logits = np.empty((len(truth), truth.max() + 1))
    for fold in range(folds.max() + 1):
        part = folds == fold
        machine.fit(points[~part], truth[~part])
        logits[part] = _logits(machine, points[part])
        update(1)
    return logits


def _logits(machine, points):
    """Logarithms of probabilities, none of which is zero."""
    return np.log(np.clip(machine.predict_proba(points), SMALLEST, 1))


def _calibrate(logits, truth, weight):
    """Find the factor on logits that foresees the truth best, and its loss."""

    def loss(log_factor):
        found = log_softmax(np.exp(log_factor) * logits, axis=1)
        return -(weight * found[np.arange(len(truth)), truth]).sum()

    best = minimize_scalar(loss, bounds=SHARPNESS, method="bounded")
    return float(np.exp(best.x)), float(best.fun)


def _entropy(probability):
    """Entropy of each row over that of a guess."""
    terms = probability * np.log(np.clip(probability, np.finfo(float).tiny, None))
    return np.clip(-terms.sum(axis=1) / np.log(probability.shape[1]), 0, 1)
