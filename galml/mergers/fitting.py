# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a model on one's own images of mergers and other galaxies."""

import astropy.units as u
import numpy as np
import torch
from torch.nn import functional as F

from galml.core import fitting as shared
from galml.core.distributions import (
    bin_centers,
    histogram_log_density,
    ranked_score,
)
from galml.core.exceptions import InputError
from galml.core.fitting import valid_range
from galml.core.metrics import area_under_curve, coverage
from galml.core.networks import standardize
from galml.core.weights import load_model
from galml.imaging import DIHEDRAL
from galml.mergers import preparation, published
from galml.mergers.fractions import common_share
from galml.mergers.metrics import expected_calibration_error, upsilon
from galml.mergers.operation import group_of
from galml.mergers.posterior import (
    NON_MERGER,
    POST_MERGER,
    POWER,
    PREVALENCE,
    STAGES,
    UPPER,
    calibrate,
    histogram_quantiles,
    merger_samples,
    temperatures,
)

__all__ = [
    "RECIPES",
    "FerreiraRecipe",
    "MergerRecipe",
    "augment",
    "common_shares",
    "equal_numbers",
    "fit",
    "judge",
    "merger_loss",
]

#: Columns of a truth, and what may stand for its stage: unit and largest value.
TRUTH = {
    "stage": (None, float(len(STAGES) - 1)),
    "time": (u.Gyr, None),
    "contamination": (None, 1.0),
}
MERGER = {"merger": (None, 1.0)}
#: Random passes from which calibrations are made.
PASSES = 50
#: Shares of images that training shows without PSF and without scale.
NO_PSF, NO_SCALE = 0.3, 0.1
#: Fewest mergers, and fewest others, on which intervals of fractions are judged.
FEWEST_JUDGED = 200
#: Area under the curve of a filter, below which classes are hardly told apart; and the
#: temperature and offset that leave logits as they are.
TOLD, PLAIN = 0.7, (torch.ones(1), torch.zeros(1))
#: Widths over which truths are blurred, in Gyr and as a share, and weights of the terms
#: of the loss.
BLUR = {"time": 0.05, "contamination": 0.02}
WEIGHTS = {"stage": 1.0, "time": 0.2, "contamination": 0.6, "sharpness": 8.0}


def fit(
    cutouts,
    truth,
    *,
    field=None,
    filter=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    model=None,
    network=None,
    validation=0.15,
    calibration=0.15,
    name=None,
    seed=0,
    epochs=None,
    batch_size=None,
    learning_rate=None,
    patience=None,
    device="auto",
    dtype="float32",
    checkpoint=None,
    progress=False,
    log_dir=None,
):
    """Train a model for `galml.merger` and `galml.contamination` on your own images.

    Parameters
    ----------
    cutouts : object
        Images, as `galml.merger` takes them; at least 20 galaxies.
    truth : `~astropy.table.QTable` or mapping
        One row per galaxy: ``stage``, an index into `galml.mergers.STAGES`; or
        ``merger``, 1 for what has merged and 0 for what has not; and, if known,
        ``time`` since coalescence (Gyr, or with a unit) and ``contamination`` (0 to
        1). NaN is unknown; of what is unknown everywhere the model tells nothing, even
        where ``model`` did.
    field, filter, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.merger`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"merger", "ferreira2022"}, optional
        Architecture: by default that of ``model``, and of a new one "merger"; or the
        published one of Ferreira et al. (2022), which tells the two classes alone.
    validation, calibration : float
        Shares of the galaxies that choose the best epoch, and that make the
        probabilities right; training sees neither.
    name : str, optional
        Name of the model.
    seed : int or None, optional
        Seed of the split, the initial weights and the training; None draws a fresh
        one. It stands in the card.
    epochs, batch_size, learning_rate, patience, device, dtype, checkpoint, \
progress, log_dir
        As in `galml.core.training.train`; by default those of the network's recipe.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the training and the figures measured on the calibration
        galaxies; ``history``, an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If there are too few usable galaxies, truths that do not fit them or are of one
        class alone, or a network that is not that of the model.

    Examples
    --------
    Thirty galaxies of noise, of which no model can learn anything:

    >>> import numpy as np
    >>> from galml.mergers import fit
    >>> images = np.random.default_rng(1).normal(size=(30, 1, 32, 32))
    >>> model = fit(
    ...     images, {"merger": np.arange(30) % 2}, filter="F814W", epochs=1, seed=1
    ... )
    >>> model.card["training_images"]
    22
    """
    start = None if model is None else load_model(model, "merger")
    recipe = shared.recipe_of(RECIPES, network, start)(
        None if start is None else start.input_spec, field=field, filter=filter
    )
    recipe.truth = _columns_of(truth, recipe)
    options = {
        "bands": bands,
        "pixel_scale": pixel_scale,
        "psf_fwhm": psf_fwhm,
        "unit": unit,
        "hdu": hdu,
    }
    return shared.fit(
        recipe,
        cutouts,
        truth,
        options,
        model=start,
        validation=validation,
        calibration=calibration,
        name=name,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        device=device,
        dtype=dtype,
        checkpoint=checkpoint,
        progress=progress,
        log_dir=log_dir,
    )


def _columns_of(truth, recipe):
    """Give the columns of a truth, once the classes are such that can be learned."""
    names = shared.truth_names(truth)
    column = next((key for key in ("stage", "merger") if key in names), None)
    if column is None:
        raise InputError("truth", f"columns {names}", "a column 'stage' or 'merger'")
    columns = TRUTH if column == "stage" else MERGER | {k: TRUTH[k] for k in UPPER}
    values = shared.read_truth(truth, {column: columns[column]})[column]
    known, argument = values[np.isfinite(values)], f"truth[{column!r}]"
    if (known % 1).any():
        got, upper = f"{known[known % 1 != 0][0]:g}", columns[column][1]
        raise InputError(argument, got, f"whole numbers from 0 to {upper:g}, or NaN")
    classes = set((known if column == "stage" else POST_MERGER * known).tolist())
    if known.size and len(classes & recipe.classes) < 2:
        raise InputError(argument, "one class alone", "at least two that can be told")
    return columns


class MergerRecipe:
    """How the default network is trained.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    field, filter : str, optional
        As in `galml.merger`.
    """

    operation, architecture, kind = "merger", "merger", "images"
    truth, needs_truth, needs_calibration = TRUTH, True, True
    classes = set(range(len(STAGES)))

    def __init__(self, input_spec=None, *, field=None, filter=None):
        self.input_spec = preparation.INPUT if input_spec is None else input_spec
        self.asked = {"field": field, "filter": filter}

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {"epochs": 20, "weight_decay": 1e-2, "augment": self._augment}

    def start(self, network, data):
        """Set the mean and spread of the numbers that the network will see."""
        for branch in network.branches:
            standardize(branch, data["scalars"].float())

    def targets(self, truth, prepared, members):
        """Give the truths as tensors, and of which filter and field each row is."""
        result = {key: torch.from_numpy(value).float() for key, value in truth.items()}
        if "merger" in result:
            result["stage"] = POST_MERGER * result.pop("merger")
        groups = [group_of(one, **self.asked) for one in members]
        return result | {"group": torch.from_numpy(np.concatenate(groups)).float()}

    def columns(self, data):
        """Reduce a data set to what the training takes."""
        keys = ("image", "scalars", *TRUTH)
        return {key: data[key] for key in keys if key in data}

    def loss(self, network, batch):
        """Give the loss of a batch, see `merger_loss`."""
        return merger_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Make the probabilities right, and measure how good they are."""
        outputs = shared.evaluate(
            model.network, calibration, DIHEDRAL, device=device, n_samples=PASSES
        )
        # None is what training was not told: the network knows it not, or no longer.
        told = [key for key in UPPER if key in data and data[key].isfinite().any()]
        known = {key: outputs[key] for key in ("stage", *told)}
        config = dict.fromkeys(UPPER) | calibrate(known, calibration)
        config["domain"] = valid_range(data["scalars"].float())
        config["common"] = common_shares(outputs, calibration)
        return config, judge(outputs, config, calibration)

    def _augment(self, batch, generator):
        return augment(batch, generator, self.input_spec)


class FerreiraRecipe:
    """How the published network is trained.

    Images are turned at random by up to a tenth of a turn; the loss is the binary
    cross-entropy of both classes and the squares of the weights of the convolutions.
    Other stages do not count.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    field, filter : str, optional
        As in `galml.merger`.
    """

    operation, architecture, kind = "merger", "ferreira2022", "images"
    truth, needs_truth, needs_calibration = TRUTH, True, True
    classes = {NON_MERGER, POST_MERGER}

    def __init__(self, input_spec=None, *, field=None, filter=None):
        self.input_spec = published.INPUT if input_spec is None else input_spec
        self.asked = {"field": field, "filter": filter}

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {
            "epochs": 35,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "augment": published.augment_published,
        }

    def start(self, network, data):
        """Leave the network as it is: it needs to know nothing of the data."""

    targets = MergerRecipe.targets

    def columns(self, data):
        """Reduce a data set to images of the two classes."""
        stage = data["stage"]
        rows = (stage == NON_MERGER) | (stage == POST_MERGER)
        return {
            "image": data["image"][rows],
            "merger": (stage[rows] == POST_MERGER).float(),
        }

    def loss(self, network, batch):
        """Give the loss of a batch."""
        return published.published_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Make the probabilities right, and measure how good they are."""
        outputs = shared.evaluate(
            model.network, calibration, device=device, n_samples=PASSES
        )
        outputs = {"stage": outputs["logits"]}
        config = calibrate(outputs, calibration)
        return config, judge(outputs, config, calibration)


def common_shares(outputs, data):
    """Find for each filter how much of what passes have in common counts.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave: ``stage`` (n, passes, stages).
    data : dict of str to `torch.Tensor`
        ``stage`` and ``group``, as for `~galml.mergers.posterior.calibrate`; and
        ``system``, if it is known which images show the same.

    Returns
    -------
    dict of str to float
        Share by "filter 0"..., see `~galml.mergers.fractions.common_share`; 1 where
        mergers are hardly told from others, so that fractions hang on the calibration
        alone. Filters with too few of either have none.
    """
    stage = data["stage"]
    two = (stage == POST_MERGER) | (stage == NON_MERGER)
    filters = torch.where(two, data["group"] // 10, -1)
    shares = {}
    for number in filters[two].unique().int().tolist():
        rows = (filters == number).nonzero()[:, 0]
        merged = stage[rows] == POST_MERGER
        if min(int(merged.sum()), int((~merged).sum())) >= FEWEST_JUDGED:
            system = data["system"][rows] if "system" in data else rows
            logits = outputs["stage"][rows]
            told = area_under_curve(merger_samples(logits, *PLAIN).mean(1), merged)
            share = _share(logits, stage[rows], system) if told > TOLD else 1.0
            shares[f"filter {number}"] = share
    return shares


def _share(logits, stage, system):
    """Find the share for one filter, of calibrations on systems that are drawn anew."""
    _, system, sizes = system.unique(return_inverse=True, return_counts=True)
    members = system.argsort().split(sizes.tolist())
    constant = torch.ones(len(stage))

    def calibrated(rng):
        drawn = rng.integers(len(members), size=len(members))
        some = torch.cat([members[number] for number in drawn])
        numbers = temperatures(logits[some], stage[some])
        scale, shift = (numbers[key] * constant for key in ("merger", "offset"))
        return merger_samples(logits, scale, shift).numpy()

    return common_share(calibrated, (stage == POST_MERGER).numpy(), PREVALENCE)


#: Recipes by the name of the network.
RECIPES = {"merger": MergerRecipe, "ferreira2022": FerreiraRecipe}


def judge(outputs, config, data):
    """Measure how good calibrated predictions are.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave.
    config : dict
        What `~galml.mergers.posterior.calibrate` gave.
    data : dict of str to `torch.Tensor`
        Truth.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``upsilon`` and ``calibration_error`` of the two classes, for as
        many of both; ``contamination_error`` (68 %) and the share of contaminations
        inside their 68.3 % intervals, ``contamination_coverage``.
    """
    stage, numbers = data["stage"], config["temperature"]["all"]
    constant = torch.ones(len(stage))
    chance = merger_samples(
        outputs["stage"], numbers["merger"] * constant, numbers["offset"] * constant
    ).mean(1)
    truth = (stage == POST_MERGER).numpy()
    rows = equal_numbers(truth, (stage == NON_MERGER).numpy())
    figures = {}
    if len(rows):
        truth, chance = truth[rows], chance.numpy()[rows]
        figures = {
            "accuracy": float(((chance > 0.5) == truth).mean()),
            "upsilon": upsilon(truth, chance > 0.5),
            "calibration_error": expected_calibration_error(chance, truth),
        }
    if config.get("contamination") is not None:
        low, found, high = (
            histogram_quantiles(
                "contamination", outputs["contamination"], config["contamination"]
            )
            .numpy()
            .T
        )
        known = data["contamination"].numpy()
        error = np.abs(found - known)
        if np.isfinite(error).any():
            figures["contamination_error"] = float(np.nanquantile(error, 0.683))
            figures["contamination_coverage"] = coverage(known, low, high)
    return figures


def equal_numbers(first, second, seed=0):
    """Choose as many objects of one class as of another.

    Parameters
    ----------
    first, second : `~numpy.ndarray` of bool
        Shape (n,): what is of each class.
    seed : int
        Seed of the choice.

    Returns
    -------
    `~numpy.ndarray`
        Indices: all of the smaller class, and some of the other.
    """
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(one) for one in (first, second)]
    number = min(map(len, parts))
    return np.concatenate([rng.permutation(part)[:number] for part in parts])


def augment(batch, generator, spec=preparation.INPUT):
    """Mirror and turn images, and forget what a user may not know.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image`` and ``scalars``; the rest stays as it is.
    generator : `torch.Generator`
        On the device of the batch.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch: each of half of the images is mirrored left to right, top to
        bottom and at the diagonal; some lose the PSF or the scale.
    """
    image, scalars = batch["image"].clone(), batch["scalars"].clone()
    device = image.device

    def chance(share):
        draw = torch.rand(len(image), generator=generator, device=device)
        return draw < share

    for axis in (-1, -2):
        mirrored = chance(0.5)
        image[mirrored] = image[mirrored].flip(axis)
    mirrored = chance(0.5)
    image[mirrored] = image[mirrored].transpose(-1, -2)
    for share, names in (
        (NO_PSF, ("has_psf", "log_psf")),
        (NO_SCALE, ("has_scale", "log_cell")),
    ):
        rows = chance(share)
        for name in names:
            scalars[rows, spec.scalars.index(name)] = 0
    return batch | {"image": image, "scalars": scalars}


def merger_loss(network, batch):
    """Give the negative log-likelihood of stage, time and contamination.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    batch : dict of str to `torch.Tensor`
        What it takes, and ``stage``, ``time`` and ``contamination``; what is NaN or
        missing does not count.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss`` and its terms.
    """
    outputs = {key: value.float() for key, value in network(batch).items()}
    stage = batch["stage"]
    known = torch.isfinite(stage)
    each = F.cross_entropy(
        outputs["stage"], stage.nan_to_num(0.0).long(), reduction="none"
    )
    terms = {"stage": _mean(each, known)}
    for name, upper in UPPER.items():
        truth = batch.get(name, torch.full_like(stage, torch.nan))
        known = torch.isfinite(truth) & (truth <= upper)
        truth = truth.nan_to_num(0.0) ** (1 / POWER[name])
        likely = histogram_log_density(outputs[name], truth, upper, BLUR[name])
        terms[name] = -_mean(likely, known)
        if name == "contamination":
            terms["sharpness"] = _mean(ranked_score(outputs[name], truth), known)
    loss = sum(WEIGHTS[key] * term for key, term in terms.items())
    with torch.no_grad():
        if "contamination" in batch:
            centers = bin_centers(outputs["contamination"], 1.0)
            centers = centers ** POWER["contamination"]
            mean = torch.softmax(outputs["contamination"], 1) @ centers
            error = (mean - batch["contamination"].nan_to_num(0.0)).abs()
            terms["contamination_error"] = _mean(error, known)
    return {"loss": loss, **terms}


def _mean(values, known):
    """Mean over objects whose truth is known; zero where there is none."""
    return (values * known).sum() / known.sum().clamp_min(1)
