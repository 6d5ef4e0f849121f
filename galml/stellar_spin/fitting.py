# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a model on one's own images and measured spins."""

import math

import numpy as np
import torch

from galml.core import fitting as shared
from galml.core.distributions import bin_centers, ranked_score
from galml.core.fitting import evaluate, valid_range
from galml.core.metrics import coverage
from galml.core.networks import standardize
from galml.core.weights import load_model
from galml.imaging import MIRRORS
from galml.mocks import TYPES
from galml.stellar_spin import preparation, published
from galml.stellar_spin.metrics import agreement
from galml.stellar_spin.posterior import (
    calibrate,
    ellipticity_of,
    interval,
    posterior,
)

__all__ = [
    "RECIPES",
    "DuckworthRecipe",
    "SpinRecipe",
    "augment",
    "augment_published",
    "fit",
    "forget",
    "published_loss",
    "spin_loss",
]

#: Columns of a truth: unit and largest value.
TRUTH = {"spin": (None, 1.0), "ellipticity": (None, 1.0)}
#: Error of photometric zero points, in magnitudes.
ZERO_POINT = 0.02
#: Shares of images that training shows in one band, without a blue or a red band,
#: without PSF, and without calibration.
SINGLE_BAND, NO_BLUE, NO_RED, NO_PSF, NO_CALIBRATION = 0.12, 0.1, 0.1, 0.3, 0.1
#: Training images whose features are remembered, and the share of images like those of
#: the training that are said to be unlike them.
COMPARED, UNLIKE = 4096, 0.01
#: Width over which truths are blurred, and weights of the terms of the loss.
BLUR, SHARPNESS, SHAPE = 0.02, 20.0, 0.2


def fit(
    cutouts,
    truth,
    *,
    r_eff=None,
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
    """Train a model for `galml.spin` on your own images.

    Parameters
    ----------
    cutouts : object
        Images, as `galml.spin` takes them; at least 20 galaxies.
    truth : `~astropy.table.QTable` or mapping
        One row per galaxy: ``spin`` (0 to 1, such as the measured lambda_R) and, if
        known, ``ellipticity`` (0 to 1). NaN is unknown.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.spin`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"spin", "duckworth2020"}, optional
        Architecture: by default that of ``model``, and of a new one "spin"; or the
        published one of Duckworth et al. (2020), with its own training.
    validation, calibration : float
        Shares of the galaxies that choose the best epoch, and that make the errors
        right; training sees neither.
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
        If there are too few usable galaxies, or truths that do not fit them.

    Examples
    --------
    Thirty round galaxies, as far too few as they are:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from galml.stellar_spin import fit
    >>> radius = np.hypot(*(np.indices((32, 32)) - 15.5))
    >>> spin = np.linspace(0.1, 0.8, 30)
    >>> images = [np.exp(-((radius / 4) ** (0.5 + one))) for one in spin]
    >>> model = fit(
    ...     np.array(images)[:, None] * u.nJy, {"spin": spin}, bands=("r",),
    ...     r_eff=4 * u.pix, epochs=1, seed=1,
    ... )
    >>> model.card["training_images"]
    22
    """
    start = None if model is None else load_model(model, "spin")
    recipe = shared.recipe_of(RECIPES, network, start)(
        None if start is None else start.input_spec
    )
    options = {
        "r_eff": r_eff,
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


class SpinRecipe:
    """How the default network is trained.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    """

    operation, architecture, kind = "spin", "spin", "images"
    truth, needs_truth, needs_calibration = TRUTH, True, True

    def __init__(self, input_spec=None):
        self.input_spec = preparation.INPUT if input_spec is None else input_spec

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {"epochs": 20, "weight_decay": 1e-2, "augment": self._augment}

    def start(self, network, data):
        """Set the mean and spread of the numbers that the network will see."""
        standardize(network, data["scalars"].float())

    def targets(self, truth, prepared, members):
        """Give the truths as tensors."""
        return {key: torch.from_numpy(value).float() for key, value in truth.items()}

    def columns(self, data):
        """Reduce a data set to what the training takes."""
        keys = ("image", "scalars", "spin", "ellipticity", "type")
        return {key: data[key] for key in keys if key in data}

    def loss(self, network, batch):
        """Give the loss of a batch, see `spin_loss`."""
        return spin_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Make the errors right, and measure how good the predictions are.

        Where the calibration galaxies have ``stressed``, those that are unlike the
        training tell how errors grow with the distance from it, and do not count in
        the figures.
        """
        network, generator = model.network, torch.Generator().manual_seed(0)
        rows = torch.randperm(len(data["image"]), generator=generator)[:COMPARED]
        shown = {key: data[key][rows].float() for key in ("image", "scalars")}
        seen = evaluate(
            network, self._augment(shown, generator), MIRRORS, device=device
        )
        network.learn_distance(seen["features"])
        outputs = evaluate(network, calibration, MIRRORS, device=device)
        factors = calibrate(outputs, calibration)
        result = posterior(outputs, factors)
        truth = calibration["spin"].numpy()
        alike = np.ones(len(truth), dtype=bool)
        if "stressed" in calibration:
            alike = ~calibration["stressed"].numpy().astype(bool)
        figures = agreement(result["spin_mean"].numpy()[alike], truth[alike])
        low, high = interval("spin", result)
        figures["coverage"] = coverage(truth[alike], low[alike], high[alike])
        domain = valid_range(data["scalars"].float())
        domain["distance"] = farthest(outputs["distance"].numpy()[alike])
        config = {"calibration": factors, "domain": domain}
        if "type" in data:
            count = torch.bincount(data["type"].long(), minlength=len(TYPES))
            shares = (count / count.sum()).tolist()
            config["types"] = dict(zip(TYPES, shares, strict=True))
        return config, figures

    def _augment(self, batch, generator):
        return augment(batch, generator, self.input_spec)


class DuckworthRecipe:
    """How the published network is trained, as it was.

    Adam with learning rate 0.001, lowered on plateaus, in batches of 32 for 35 epochs,
    on images turned, zoomed, mirrored and shifted at random; mean squared error.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    """

    operation, architecture, kind = "spin", "duckworth2020", "images"
    truth, needs_truth, needs_calibration = TRUTH, True, True

    def __init__(self, input_spec=None):
        self.input_spec = published.INPUT if input_spec is None else input_spec

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {
            "epochs": 35,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "schedule": "plateau",
            "augment": augment_published,
        }

    def start(self, network, data):
        """Leave the network as it is: it needs to know nothing of the data."""

    def targets(self, truth, prepared, members):
        """Give the truth as a tensor."""
        return {"spin": torch.from_numpy(truth["spin"]).float()}

    def columns(self, data):
        """Reduce a data set to images with a known spin."""
        rows = torch.isfinite(data["spin"])
        return {key: data[key][rows] for key in ("image", "spin")}

    def loss(self, network, batch):
        """Give the loss of a batch, see `published_loss`."""
        return published_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Measure the one error that all predictions have, and how good they are."""
        known = self.columns(calibration)
        outputs = evaluate(model.network, known, device=device)
        found, truth = outputs["spin"].numpy(), known["spin"].numpy()
        error = float(np.quantile(np.abs(found - truth), 0.683))
        return {"error": error}, agreement(found, truth)


def farthest(distance):
    """Find the distance that a share of new objects like these will exceed.

    Parameters
    ----------
    distance : `~numpy.ndarray`
        Shape (n,): of objects that training has not seen.

    Returns
    -------
    float
        At most ``UNLIKE`` of objects drawn alike are farther away, whatever their
        distribution is (conformal prediction: Vovk et al. 2005); the largest, where
        there are too few for that.
    """
    level = np.ceil((len(distance) + 1) * (1 - UNLIKE)) / len(distance)
    return float(np.quantile(distance, min(level, 1.0), method="higher"))


#: Recipes by the name of the network.
RECIPES = {"spin": SpinRecipe, "duckworth2020": DuckworthRecipe}


def augment(batch, generator, spec=preparation.INPUT):
    """Mirror images, and forget what a user may not know.

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
        A new batch: of half of the images each is mirrored left to right and top to
        bottom; a third lose the PSF, some a color or both or their calibration.
    """
    image, scalars = batch["image"].clone(), batch["scalars"].clone()
    device = image.device

    def chance(share):
        draw = torch.rand(len(image), generator=generator, device=device)
        return draw < share

    for axis in (-1, -2):
        mirrored = chance(0.5)
        image[mirrored] = image[mirrored].flip(axis)
    for name in ("blue_color", "red_color"):
        place = spec.scalars.index(name)
        error = torch.randn(len(image), generator=generator, device=device)
        known = scalars[:, place] != 0
        scalars[:, place] += ZERO_POINT * error * known
    single, no_blue, no_red = chance(SINGLE_BAND), chance(NO_BLUE), chance(NO_RED)
    for rows, group in (
        (chance(NO_PSF), "psf"),
        (chance(NO_CALIBRATION), "calibration"),
        (single | no_blue, "blue"),
        (single | no_red, "red"),
    ):
        forget(image, scalars, rows, group, spec)
    return batch | {"image": image, "scalars": scalars}


def forget(image, scalars, rows, group, spec=preparation.INPUT):
    """Take from prepared images what a user may not know, in place.

    Parameters
    ----------
    image, scalars : `torch.Tensor`
        What the network is shown.
    rows : `torch.Tensor`
        Of which images.
    group : {"psf", "calibration", "blue", "red"}
        What is not known: the PSF, the scale of fluxes, or one of the colors.
    spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    """
    if group in ("blue", "red"):
        names = [name for name in spec.scalars if name.startswith(f"{group}_")]
        names.append(f"has_{group}")
        image[rows, spec.channels.index(group)] = 0
    elif group == "psf":
        names = ("has_psf", "log_psf")
    else:
        names = ("calibrated", "blue_color", "red_color")
    for name in names:
        scalars[rows, spec.scalars.index(name)] = 0


def spin_loss(network, batch):
    """Give the negative log-likelihood of spin and ellipticity.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    batch : dict of str to `torch.Tensor`
        What it takes, ``spin`` and ``ellipticity``; truths that are NaN do not count.
        Where there is a ``type``, the probability is that of type and spin together.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss`` and its terms; ``spin_square`` is the mean squared error of the mean
        of the distribution.
    """
    outputs = network(batch)
    known = {key: torch.isfinite(batch[key]) for key in ("spin", "ellipticity")}
    spin, ellipticity = (batch[key].nan_to_num(0.0)[:, None] for key in known)
    joint = torch.log_softmax(outputs["spin"].float().flatten(2), 2)
    joint = joint.unflatten(2, outputs["spin"].shape[2:])
    logits = joint.logsumexp(2)
    own = logits
    if "type" in batch:
        rows = torch.arange(len(joint), device=joint.device)
        own = joint.transpose(1, 2)[rows, batch["type"].long()]
    mean, width = ellipticity_of(outputs)
    # The joint probability of the type and of the spin, blurred over the bins.
    centers = bin_centers(logits, 1.0)
    blurred = torch.softmax(-0.5 * ((centers - spin[..., None]) / BLUR) ** 2, -1)
    square = ((ellipticity - mean) / width).square()
    terms = {
        "spin": _mean(-(blurred * own).sum(-1), known["spin"]),
        "sharpness": _mean(_ranked(logits, spin), known["spin"]),
        "ellipticity": _mean(width.log() + 0.5 * square, known["ellipticity"]),
    }
    weights = {"sharpness": SHARPNESS, "ellipticity": SHAPE}
    loss = sum(weights.get(key, 1.0) * term for key, term in terms.items())
    with torch.no_grad():
        center = (logits.exp().mean(1) @ centers)[:, None]
        square = _mean((center - spin) ** 2, known["spin"])
    return {"loss": loss, **terms, "spin_square": square}


def _ranked(logits, truth):
    """Give the ranked probability scores of the members, shape (n, members)."""
    count = logits.shape[1]
    scores = ranked_score(logits.flatten(0, 1), truth[:, 0].repeat_interleave(count))
    return scores.unflatten(0, (-1, count))


def _mean(values, known):
    """Mean over members, and objects whose truth is known; zero where there is none."""
    return (values.mean(1) * known).sum() / known.sum().clamp_min(1)


def published_loss(network, batch):
    """Give the mean squared error of the spin, as the published training did.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    batch : dict of str to `torch.Tensor`
        What it takes, and ``spin``.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss``.
    """
    return {"loss": torch.nn.functional.mse_loss(network(batch)["spin"], batch["spin"])}


def augment_published(batch, generator):
    """Turn, zoom, mirror and shift images as the published training did.

    Rotation by up to 45 degrees, zoom by up to 25 %, separately along both axes, mirror
    images, and shifts by up to 5 % of the image; what comes in is its edge.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image``; the rest stays as it is.
    generator : `torch.Generator`
        On the device of the batch.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch.
    """
    image = batch["image"]

    def uniform(low, high):
        draw = torch.rand(len(image), generator=generator, device=image.device)
        return low + (high - low) * draw

    def sign():
        return torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)

    angle = uniform(-math.pi / 4, math.pi / 4)
    across, up = (uniform(0.75, 1.25) * sign() for _ in range(2))
    cosine, sine = angle.cos(), angle.sin()
    # Coordinates run from -1 to 1: a shift by a share of the image is twice that.
    rows = [
        torch.stack([cosine * across, -sine * up, uniform(-0.1, 0.1)], 1),
        torch.stack([sine * across, cosine * up, uniform(-0.1, 0.1)], 1),
    ]
    places = torch.nn.functional.affine_grid(
        torch.stack(rows, 1), image.shape, align_corners=False
    )
    moved = torch.nn.functional.grid_sample(
        image, places, padding_mode="border", align_corners=False
    )
    return batch | {"image": moved}
