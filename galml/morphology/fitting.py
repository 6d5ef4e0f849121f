# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a model for morphology on one's own images, without labels."""

import torch
from torch.nn import functional

from galml.core import fitting as shared
from galml.core.fitting import valid_range
from galml.core.networks import standardize
from galml.core.weights import load_model
from galml.imaging.stretch import box_mean
from galml.morphology.metrics import root_mean_square, structural_similarity
from galml.morphology.network import MIRRORED, SIGNS, mirrored
from galml.morphology.preparation import INPUT, drawn, known_cells
from galml.morphology.published import XuRecipe

__all__ = [
    "MorphologyRecipe",
    "augment",
    "fit",
    "latent_loss",
    "mirror",
    "surroundings_loss",
]

#: Weights of the terms of the loss.
WEIGHTS = {
    "difference": 10.0,
    "dissimilarity": 0.5,
    "detail": 100.0,
    "properties": 6.0,
    "winding": 2.0,
    "change": 0.1,
    "correlation": 0.2,
}
#: Smallest scatter of a latent where parameters of mocks are told.
LEAST_SCATTER = 0.2
#: What latents of the surroundings tell of mocks, and how many kinds of it there are.
AROUND = {"stage": 5, "kind": 4}
#: Cells of the neighborhood to which details are compared, and the significance, as it
#: is stretched, from which they count in full.
NEIGHBORHOOD, SIGNIFICANT = 9, 0.4
#: Quantile of a normal distribution within one standard deviation.
INSIDE = 0.6827


def fit(
    cutouts,
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
    """Train a model for `galml.latents` on your own images, without labels.

    Parameters
    ----------
    cutouts : object
        Images, as `galml.latents` takes them; at least 20 galaxies, and thousands for a
        new model.
    r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.latents`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"morphology", "xu2023"}, optional
        Architecture of a new model: the default one, or the published one of Xu et al.
        (2023). Or that of ``model``.
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
        If there are too few usable galaxies, or ``model`` has another network.

    Examples
    --------
    Thirty galaxies of noise, of which no model can learn anything:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from galml.morphology import fit
    >>> images = np.random.default_rng(1).normal(size=(30, 1, 32, 32))
    >>> model = fit(images, r_eff=4 * u.pix, epochs=1, seed=1)
    >>> model.card["training_images"]
    22
    """
    start = None if model is None else load_model(model, "latents")
    recipes = {"morphology": MorphologyRecipe, "xu2023": XuRecipe}
    recipe = shared.recipe_of(recipes, network, start)(
        None if start is None else start.input_spec, seed=0 if seed is None else seed
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
        None,
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


class MorphologyRecipe:
    """How the default network is trained.

    It sees each galaxy as it is, and as a poorer survey would have it. From the latents
    of one or the other it draws the first; the latents of both are to be the same
    within their errors, and neither constant nor copies of each other (Bardes et al.
    2022, arXiv:2105.04906). Of mocks it must tell the parameters, linearly, by which
    latents are then ordered; and from the pose, which way their arms wind.

    Parameters
    ----------
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    seed : int
        Seed of the poorer images.
    """

    operation, architecture, kind = "latents", "morphology", "images"
    truth, needs_truth, needs_calibration = {}, False, True

    def __init__(self, input_spec=None, *, seed=0):
        self.input_spec = INPUT if input_spec is None else input_spec
        self.asked = {"poorer": seed}

    @property
    def training(self):
        """Keywords of the training, where the user gives none."""
        return {"epochs": 20, "weight_decay": 1e-2, "augment": augment}

    def start(self, network, data):
        """Set the mean and spread of the numbers that the network will see."""
        standardize(network, data["scalars"].float())

    def columns(self, data):
        """Reduce a data set to what the training takes."""
        return data

    def loss(self, network, batch):
        """Give the loss of a batch, see `latent_loss`."""
        return latent_loss(network, batch)

    def calibrate(self, model, data, calibration, *, device):
        """Order the latents, make their errors right, and measure how good they are."""
        if "properties" in data:
            model.network.turn(LEAST_SCATTER)
        first, other = (
            shared.evaluate(
                model.network,
                {
                    key: calibration[f"{prefix}{key}"]
                    for key in shared.answered(calibration)
                },
                device=device,
            )
            for prefix in ("", "other_")
        )
        change = first["latent"] - other["latent"]
        both = first["latent_scatter"].square() + other["latent_scatter"].square()
        factor = torch.quantile(change.abs() / both.sqrt(), INSIDE, dim=0)
        config = {
            "scatter": factor.tolist(),
            "domain": valid_range(data["scalars"].float()),
        }
        image = calibration["image"].float()
        wanted, known = drawn(image), known_cells(image, calibration["scalars"])
        spread = first["latent"].std(0)
        figures = {
            "ssim": structural_similarity(first["planes"], wanted, known).mean(),
            "reconstruction_error": root_mean_square(
                first["planes"], wanted, known
            ).mean(),
            "change": (change / spread).square().mean().sqrt(),
            "recognized": _recognized(
                first["latent"] / spread, other["latent"] / spread
            ),
        }
        return config, {key: float(value) for key, value in figures.items()}


def _recognized(first, other):
    """Share of galaxies whose own poorer image is the nearest of all."""
    nearest = torch.cdist(other, first).argmin(1)
    return (nearest == torch.arange(len(first))).float().mean()


def augment(batch, generator):
    """Mirror images at random, and choose another mirror image of each.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        ``image`` and ``other_image``, shape (n, channels, y, x); the rest stays.
    generator : `torch.Generator`
        On the device of the batch.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch with ``mirror`` (n,), an index into
        `~galml.morphology.network.MIRRORED` above 0. What winds then winds the other
        way.
    """
    result = mirror(mirror(batch, generator, "other_image"), generator)
    device, n = batch["image"].device, len(batch["image"])
    place = torch.randint(1, len(MIRRORED), (n,), generator=generator, device=device)
    return result | {"mirror": place}


def mirror(batch, generator, key="image"):
    """Mirror images at random, each in one of four ways.

    Parameters
    ----------
    batch : dict of str to `torch.Tensor`
        Images of shape (n, channels, y, x) and, of these, ``winding`` (n,), if known.
    generator : `torch.Generator`
        On the device of the batch.
    key : str, optional
        Name of the images.

    Returns
    -------
    dict of str to `torch.Tensor`
        A new batch.
    """
    image = batch[key]
    device = image.device
    place = torch.randint(
        len(MIRRORED), (len(image),), generator=generator, device=device
    )
    result = batch | {key: mirrored(image, place)}
    if key == "image" and "winding" in batch:
        signs = torch.tensor(SIGNS[1], device=device)
        result["winding"] = batch["winding"] * signs[place]
    return result


def latent_loss(network, batch):
    """Give the loss of drawn images, of latents that change, and of properties.

    Parameters
    ----------
    network : `~galml.morphology.network.MorphologyNet`
        The network.
    batch : dict of str to `torch.Tensor`
        ``image``, ``scalars``, ``other_image`` and ``other_scalars``; in the training
        ``mirror``, see `augment`; and, if any, ``properties`` (n, k) and ``winding``
        (n,), of order one, NaN where unknown.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss`` and its terms.
    """
    outputs = {key: value.float() for key, value in network(batch).items()}
    latent, other, planes = (outputs[key] for key in ("latent", "other", "planes"))
    image = batch["image"].float()
    wanted, known = drawn(image), known_cells(image, batch["scalars"])
    both = ("log_scatter", "other_log_scatter")
    variance = sum((2 * outputs[key]).exp() for key in both)
    terms = {
        "difference": root_mean_square(planes, wanted, known).square().mean(),
        "dissimilarity": 1 - structural_similarity(planes, wanted, known).mean(),
        "detail": _details(planes - wanted, image),
        "change": 0.5 * ((latent - other).square() / variance + variance.log()).mean(),
        "correlation": _correlation(latent) + _correlation(other),
    }
    for key in ("properties", "winding"):
        if key in batch:
            terms[key] = _known_error(outputs[key], batch[key].float())
    loss = sum(WEIGHTS[key] * term for key, term in terms.items())
    return {"loss": loss, **terms}


def surroundings_loss(network, batch):
    """Give the loss of what latents of surroundings tell.

    Parameters
    ----------
    network : `~galml.morphology.network.Members`
        The networks.
    batch : dict of str to `torch.Tensor`
        ``image`` (n, 3, 64, 64) and, shape (n,), ``stage`` (5) and ``kind`` (4) of
        mocks, or whether another galaxy was ``pasted`` in contact.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``loss`` and its terms.
    """
    outputs = network(batch["image"])
    members, told = outputs["latent"].unbind(1), outputs["answers"].flatten(0, 1)
    known = {
        key: batch[key].repeat_interleave(len(members))
        for key in (*AROUND, "pasted")
        if key in batch
    }
    if "pasted" in known:
        terms = {
            "pasted": functional.binary_cross_entropy_with_logits(
                told[:, 0], known["pasted"].to(told.dtype)
            )
        }
    else:
        parts = zip(AROUND, told.split([*AROUND.values()], 1), strict=True)
        terms = {
            key: functional.cross_entropy(logits, known[key].long())
            for key, logits in parts
        }
    terms["correlation"] = sum(map(_correlation, members)) / len(members)
    return {"loss": sum(terms.values()), **terms}


def _known_error(told, truth):
    """Give the mean square of errors of what is known."""
    known = torch.isfinite(truth).expand(told.shape)
    return (
        (told - truth.nan_to_num(0.0)).square() * known
    ).sum() / known.sum().clamp_min(1)


def _details(error, image):
    """Give the mean square of what is wrong on small scales where there is signal."""
    significance = image[:, INPUT.channels.index("significance")]
    weight = (significance / SIGNIFICANT).clamp(0, 1).square()
    fine = (error[:, 0] - box_mean(error[:, 0], NEIGHBORHOOD)).square()
    return ((fine * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)).mean()


def _correlation(latent):
    """Give the squares of covariances of different latents, over their number."""
    centered = latent - latent.mean(0)
    covariance = centered.T @ centered / max(len(latent) - 1, 1)
    other = covariance - covariance.diagonal().diag()
    return other.square().sum() / latent.shape[1]
