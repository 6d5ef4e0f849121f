# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train or fine-tune a flow on one's own stars, and combine several into one."""

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from galml.core.domain import find_architecture
from galml.core.exceptions import GalmlWarning, InputError, ModelError
from galml.core.fitting import (
    check_shares,
    fit_prepared,
    new_network,
    select,
    split_rows,
    valid_range,
)
from galml.core.inference import infer
from galml.core.model import GalaxyModel, InputSpec
from galml.core.training import train
from galml.core.weights import load_model
from galml.physics import (
    AGE_OF_UNIVERSE,
    CONDITIONS,
    STAR_AXES,
    fresh_seed,
    stable_seed,
)
from galml.stars.encoder import ENCODERS, reconstruction_loss
from galml.stars.images import INPUT, encode_images, prepare_images
from galml.stars.network import CONTEXT_LIMIT, Ensemble, context_moments
from galml.stars.population import (
    SMALLEST_POPULATION,
    find_domain,
    find_limits,
    find_sizes,
)
from galml.stars.preparation import ALL_CONDITIONS
from galml.stars.scaling import StarScaling
from galml.stars.training_set import (
    FEWEST_GALAXIES,
    choose_stars,
    read_training_set,
    split_stars,
)

__all__ = [
    "Augmentation",
    "StarRecipe",
    "combine",
    "fit",
    "fit_flow",
    "train_encoder",
]

#: Architectures that see stars whitened, and the plane in radius and azimuth.
OURS = ("coupling", "mixture")
#: Kinds of axes that have bounds.
BOUNDED = {
    "metal_mass_fraction": ["interval", 0.0, 1.0],
    "age": ["interval", 0.0, AGE_OF_UNIVERSE],
}
#: Axes with far outliers.
OUTLYING = ("x", "y", "z", "v_x", "v_y", "v_z")
PLACES, SPEEDS = ("x", "y", "z"), ("v_x", "v_y", "v_z")
PLANE = ("x", "y", "v_x", "v_y")
NORMAL_TO_PLANE = ("z", "v_z")

#: Share of the stars that are shown without their galaxy's latents.
HIDDEN_LATENTS = 0.5
#: Epochs of the flow where nothing else is said.
EPOCHS = 20
#: Epochs of the encoder for each one of the flow, which sees far more objects, and
#: images in a batch.
ENCODER_EPOCHS, ENCODER_BATCH = 20, 16
#: Stars of a batch where the likelihood is measured.
BLOCK = 16384


def fit(
    stars,
    conditions=None,
    *,
    axes=None,
    network=None,
    model=None,
    options=None,
    encoder=None,
    axisymmetric=None,
    limited=None,
    smoothing=0.05,
    stars_per_galaxy=None,
    validation=0.1,
    name=None,
    seed=0,
    card=None,
    epochs=None,
    batch_size=None,
    learning_rate=None,
    weight_decay=None,
    patience=None,
    device="auto",
    dtype="float32",
    checkpoint=None,
    progress=False,
    log_dir=None,
):
    """Train a model for `galml.sample_stars` and `galml.star_log_prob`.

    Parameters
    ----------
    stars : `~astropy.table.QTable` or sequence of them
        One row for each star, with the columns of ``axes`` and, for several galaxies,
        ``galaxy_id``; or one table for each galaxy. Stars of which something is
        unknown, or which are out of bounds, are left out.
    conditions : `~astropy.table.QTable`, optional
        One row for each galaxy, see `galml.sample_stars`, and ``galaxy_id`` where the
        stars are in one table. Sizes, ``r_eff``, are those of all galaxies or of none;
        the model then also learns how they scatter. None for a model without
        conditions.
    axes : sequence of str, optional
        Columns to model; by default the ten of `galml.physics.STAR_AXES`. Any other
        column of numbers may be among them.
    network : str, optional
        Architecture of a new model: "coupling", the default; "mixture", the same from
        a mixture of Gaussians, for few stars, which needs scikit-learn; or a published
        one, "galacticflow", "maf", "nice", "nsf" or "sospf". Or that of ``model``.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights, axes and scales of this model instead. It is not
        changed.
    options : dict, optional
        Arguments of the new network, see its class in `galml.stars.network`,
        `galml.stars.mixture` or `galml.stars.published`.
    encoder : {"small", "galacticforge"}, optional
        Train an autoencoder on the column ``image`` of ``conditions`` first. Its
        latents become conditions that galaxies may lack; so does a column ``latent``,
        without an encoder.
    axisymmetric : bool, optional
        Whether galaxies look the same from all directions of the plane, and from above
        and below. Our networks then have no preferred direction, published ones see
        the stars turned by random angles. By default so for ours, where there are
        conditions.
    limited : bool, optional
        Whether no star may be farther from the center, or faster, than stars of such
        galaxies are in training. ``conditions`` may tell where galaxies end, ``r_max``
        (a length), and ``stars`` the ``escape_speed`` where each one is; by default the
        farthest and the fastest stars do. By default so for our networks, of 20
        galaxies or more whose stars have all places and velocities.
    smoothing : float, optional
        Spread of the noise that is added to the conditions in training, in units of
        theirs. It lets few galaxies speak for those between them.
    stars_per_galaxy : int, optional
        Train on no more than this number of stars of each galaxy, taken at random.
    validation : float, optional
        Share of the galaxies that choose the best epoch, without being trained on;
        share of the stars where there are fewer than 5 galaxies.
    name : str, optional
        Name of the model.
    seed : int or None, optional
        Seed of the split, of the initial weights and of the training; None draws a
        fresh one. It stands in the card.
    card : dict, optional
        More to say about the model.
    epochs : int, optional
        Number of epochs; 20 by default.
    batch_size : int, optional
        Stars of a step; 1024 by default.
    learning_rate, weight_decay, patience, device, dtype, checkpoint, progress, log_dir
        As in `~galml.core.training.train`; the training of the encoder has its own
        checkpoint beside the other, with the suffix ".encoder".

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the mean log-likelihood of a validation star; ``history``,
        an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If columns are missing or cannot be used, stars and conditions do not belong
        together, there are too few stars, or ``model`` has another network.
    galml.core.ModelError
        If the network is unknown or its options are.
    ImportError
        If the network needs scikit-learn, and it is not installed.

    Examples
    --------
    A flow of young stars, from two numbers of each:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> import galml
    >>> rng = np.random.default_rng(1)
    >>> stars = QTable({
    ...     "z": rng.laplace(0, 0.3, 500) * u.kpc, "age": rng.uniform(0, 1, 500) * u.Gyr
    ... })
    >>> model = galml.stars.fit(stars, axes=["z", "age"], epochs=2, seed=1)
    >>> galml.sample_stars(n=3, model=model, seed=1).colnames
    ['galaxy_id', 'z', 'age', 'flags']
    """
    check_shares(validation=validation)
    if not smoothing >= 0:
        raise InputError("smoothing", repr(smoothing), "a number of at least 0")
    if stars_per_galaxy is not None and not stars_per_galaxy >= 1:
        raise InputError("stars_per_galaxy", repr(stars_per_galaxy), "at least 1")
    start = None if model is None else load_model(model, "stars")
    if start is not None:
        own, axes = start.architecture, [a["name"] for a in start.config["axes"]]
        if network not in (None, own):
            raise InputError("network", repr(network), f"{own!r}, as the model has it")
        network = own
        if start.config.get("standardized"):
            raise ModelError(f"{start.name}: in standardized units, cannot be trained")
    elif network == "ensemble":
        raise ModelError("network='ensemble': fit its members, then combine them")
    network = "coupling" if network is None else network
    find_architecture("stars", network)
    if encoder not in (None, *ENCODERS):
        raise InputError("encoder", repr(encoder), f"None or one of {[*ENCODERS]}")
    axes = tuple(STAR_AXES) if axes is None else axes
    return fit_flow(
        read_training_set(stars, conditions, axes, start),
        model=start,
        network=network,
        options=options,
        encoder=encoder,
        axisymmetric=axisymmetric,
        limited=limited,
        smoothing=smoothing,
        stars_per_galaxy=stars_per_galaxy,
        validation=validation,
        name=name,
        seed=fresh_seed() if seed is None else seed,
        card=card,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
        device=device,
        dtype=dtype,
        checkpoint=checkpoint,
        progress=progress,
        log_dir=log_dir,
    )


def combine(models, *, name=None, card=None):
    """Make one model of several: the mean of their densities.

    Parameters
    ----------
    models : sequence of `~galml.core.model.GalaxyModel`
        Of `fit` with the same axes and conditions, and different seeds.
    name : str, optional
        Name of the model.
    card : dict, optional
        More to say about the model.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Of the architecture "ensemble".

    Raises
    ------
    galml.core.InputError
        Without models.
    galml.core.ModelError
        If the models differ in axes or conditions, or encode images, each in its own
        way.
    """
    models = list(models)
    if not models:
        raise InputError("models", "none", "at least one")
    first = models[0]
    for model in models:
        if model.config["axes"] != first.config["axes"] or _names_of_conditions(
            model
        ) != _names_of_conditions(first):
            raise ModelError(
                f"{model.name}: other axes or conditions than {first.name}"
            )
        if model.options.get("encoder") is not None:
            raise ModelError(f"{model.name}: has latents of an encoder of its own")
    common = ("features", "context", "kinds", "latent")
    options = {key: first.options[key] for key in common}
    options["members"] = [
        {"architecture": m.architecture, "options": m.options} for m in models
    ]
    network = Ensemble(**options)
    for member, model in zip(network.members, models, strict=True):
        member.load_state_dict(model.network.state_dict())
    return GalaxyModel(
        network,
        operation="stars",
        architecture="ensemble",
        options=options,
        config=first.config,
        card={**first.card, "members": len(models), **(card or {})},
        name=name,
    )


def _names_of_conditions(model):
    """Name the conditions of a model, and count its latents."""
    names = [c["name"] for c in model.config["conditions"]]
    return names, model.options.get("latent", 0)


@dataclass
class StarRecipe:
    """How flows are trained: a recipe for `~galml.core.fitting.fit_prepared`.

    Data are dicts of ``stars``, shape (n, d), and the row ``galaxy`` of each.

    Attributes
    ----------
    architecture : str
        Name of the flow.
    input_spec : `~galml.core.model.InputSpec`
        What a new flow is shown.
    contexts : `torch.Tensor` or None
        Conditions and latents of each galaxy, shape (galaxies, c); None without
        conditions.
    config : dict
        Configuration of the model.
    augment : callable or None
        What training changes at random about the stars.
    encoder : `torch.nn.Module` or None
        Whose weights a new flow takes.
    """

    architecture: str
    input_spec: InputSpec
    contexts: torch.Tensor | None
    config: dict
    augment: object = None
    encoder: torch.nn.Module | None = None

    operation = "stars"
    kind = "stars"

    @property
    def training(self):
        """Keywords of the training."""
        return {"epochs": EPOCHS, "batch_size": 1024, "augment": self.augment}

    def start(self, network, data):
        """Set scales of stars and conditions, and the encoder, of a new flow."""
        if self.encoder is not None:
            network.encoder.load_state_dict(self.encoder.state_dict())
        network.fit_scaling(data["stars"], self.contexts, data["galaxy"])

    def columns(self, data):
        """Pass on all of a data set."""
        return data

    def loss(self, network, batch):
        """Compute the mean negative log-likelihood of stars, in physical units."""
        inputs = self._inputs(batch["stars"], batch["galaxy"])
        if "jitter" not in batch:
            return {"loss": -network(inputs)["log_prob"].mean()}
        inputs["context"] = inputs["context"] + batch["jitter"]
        log_prob = network(inputs)["log_prob"]
        # Stars may be beyond the limits of other conditions than their own.
        return {"loss": -log_prob[~log_prob.isneginf()].mean()}

    def calibrate(self, model, data, calibration, *, device):
        """Measure the mean log-likelihood of stars that were not trained on."""
        parts = zip(
            calibration["stars"].split(BLOCK),
            calibration["galaxy"].split(BLOCK),
            strict=True,
        )
        outputs = infer(
            model.network,
            (self._inputs(stars, galaxy) for stars, galaxy in parts),
            device=device,
            batch_size=BLOCK,
        )
        log_prob = torch.cat([output["log_prob"] for output in outputs])
        return self.config, {"log_prob": float(log_prob.double().mean())}

    def _inputs(self, stars, galaxy):
        """Put stars and conditions together as a flow takes them."""
        if self.contexts is None:
            return {"stars": stars}
        contexts = self.contexts.to(stars.dtype).to(stars.device)
        return {"stars": stars, "context": contexts[galaxy]}


class Augmentation:
    """What may be changed at random about the stars that are shown.

    Parameters
    ----------
    turned : sequence of int, optional
        Places of x, y, v_x and v_y: turned about the axis by any angle.
    mirrored : sequence of int, optional
        Places of axes whose signs change together: z and v_z.
    jitter : `torch.Tensor`, optional
        Shape (c,): spread of the noise added to each condition, latents included.
    latent : int, optional
        Number of latents, the last conditions, which half of the stars go without.
    """

    def __init__(self, turned=(), mirrored=(), jitter=None, latent=0):
        self.turned, self.mirrored = list(turned), list(mirrored)
        self.jitter, self.latent = jitter, latent

    def __bool__(self):
        return bool(self.turned or self.mirrored or self.jitter is not None)

    def __call__(self, batch, generator):
        """Make a new batch, from a generator on its device."""
        stars = batch["stars"].clone()
        count, device = len(stars), stars.device

        def draw(*shape):
            return torch.rand(*shape, generator=generator, device=device)

        if self.turned:
            angle = 2 * math.pi * draw(count)
            cos, sin = angle.cos(), angle.sin()
            for first, second in (self.turned[:2], self.turned[2:]):
                a, b = batch["stars"][:, first], batch["stars"][:, second]
                stars[:, first], stars[:, second] = a * cos - b * sin, a * sin + b * cos
        if self.mirrored:
            sign = torch.where(draw(count) < 0.5, -1.0, 1.0)
            stars[:, self.mirrored] *= sign[:, None]
        batch = batch | {"stars": stars}
        if self.jitter is not None:
            batch["jitter"] = self._noise(count, generator, draw)
        return batch

    def _noise(self, count, generator, draw):
        """Draw the noise of conditions; NaN hides latents."""
        spread = self.jitter.to(generator.device)
        noise = spread * torch.randn(
            count, len(spread), generator=generator, device=generator.device
        )
        if self.latent:
            noise[draw(count) < HIDDEN_LATENTS, -self.latent :] = math.nan
        return noise


def fit_flow(
    data,
    *,
    model=None,
    network="coupling",
    options=None,
    encoder=None,
    axisymmetric=None,
    limited=None,
    smoothing=0.05,
    stars_per_galaxy=None,
    validation=0.1,
    name=None,
    seed=0,
    card=None,
    **training,
):
    """Train a flow on stars that are read already.

    Parameters
    ----------
    data : `~galml.stars.training_set.TrainingSet`
        Stars, galaxies and conditions.
    model : `~galml.core.model.GalaxyModel`, optional
        Start from its weights and scales.
    network, options, axisymmetric, limited, smoothing, stars_per_galaxy, validation
        See `fit`.
    name, seed
        See `fit`.
    encoder : str, optional
        See `fit`; the data set has images then.
    card : dict, optional
        More to say about the model.
    **training
        Keywords of `~galml.core.training.train`; those that are None have the defaults
        of `fit`.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        With its ``history``.
    """
    network = network if model is None else model.architecture
    if axisymmetric is None:
        axisymmetric = network in OURS and data.contexts is not None
    by_galaxy, *split = split_stars(data, validation, seed)
    if model is None:
        recipe, data = _new_recipe(
            data, network, encoder, validation=validation, seed=seed, **training
        )
        settings = _settings(data, network, axisymmetric, encoder)
        limits = _limits(data, network, limited)
        settings |= ({} if limits is None else {"limits": limits}) | (options or {})
        recipe.config = _config(data, settings["kinds"])
    else:
        config = model.config | _known_galaxies(data, model.config)
        recipe = StarRecipe(network, model.input_spec, data.contexts, config)
        settings = model.options
    inside, scale = _find_inside(data, settings, model)
    if not inside.all():
        message = f"{(~inside).sum()} of {len(inside)} stars are out of bounds"
        warnings.warn(f"{message}; they are left out", GalmlWarning, stacklevel=4)
    recipe.augment = _augmentation(data, settings, axisymmetric, smoothing, scale)
    stars = {"stars": data.stars, "galaxy": data.galaxy}
    train_stars, validation_stars = (
        choose_stars(select(stars, rows[inside[rows]]), stars_per_galaxy, seed)
        for rows in split
    )
    about = {
        "training_galaxies": len(train_stars["galaxy"].unique()),
        "validation": "galaxies" if by_galaxy else "stars",
    }
    return fit_prepared(
        recipe,
        train_stars,
        validation_stars,
        validation_stars,
        model=model,
        settings=settings,
        name=name,
        seed=seed,
        card=about | (card or {}),
        **training,
    )


def train_encoder(
    data,
    encoder,
    validation,
    *,
    input_spec,
    seed=0,
    epochs=None,
    device="auto",
    checkpoint=None,
    progress=False,
):
    """Train an autoencoder on the images of galaxies.

    Parameters
    ----------
    data : `~galml.stars.training_set.TrainingSet`
        With images.
    encoder : str
        One of `~galml.stars.encoder.ENCODERS`.
    validation : float
        Share of the images that choose the best epoch.
    input_spec : `~galml.core.model.InputSpec`
        What the encoder is shown.
    seed : int, optional
        Seed of weights and training.
    epochs : int, optional
        Epochs of the flow; the encoder's are 20 times as many, of fewer objects.
    device, progress
        As in `~galml.core.training.train`.
    checkpoint : str or path-like, optional
        Checkpoint of the flow; that of the encoder has the suffix ".encoder".

    Returns
    -------
    `torch.nn.Module`
        The autoencoder.

    Raises
    ------
    galml.core.InputError
        If there are fewer than 5 images.
    """
    if data.images is None:
        raise InputError("conditions", "no column 'image'", "images for the encoder")
    if data.latent:
        raise InputError("conditions", "images and latents", "one of them")
    # Not the numbers that the flow starts from.
    seed = stable_seed(seed, "encoder")
    network = new_network(ENCODERS[encoder], {}, seed)
    images, errors = prepare_images(data.images, input_spec=input_spec)
    images = images[~images.isnan().flatten(1).any(1)]
    if len(images) < FEWEST_GALAXIES:
        got = f"{len(images)} usable images {[*errors.values()][:1]}"
        raise InputError("conditions['image']", got, f"at least {FEWEST_GALAXIES}")
    parts = (
        select({"image": images}, rows)
        for rows in split_rows(len(images), seed, validation)
    )
    if checkpoint is not None:
        checkpoint = f"{os.fspath(checkpoint)}.encoder"
    train(
        network,
        reconstruction_loss,
        *parts,
        epochs=ENCODER_EPOCHS * (EPOCHS if epochs is None else epochs),
        batch_size=ENCODER_BATCH,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
    )
    return network.eval()


def _new_recipe(data, network, encoder, *, validation, seed, **training):
    """Make the recipe of a new flow, and give the data set its latents."""
    spec, trained = InputSpec(scalars=ALL_CONDITIONS[: data.n_conditions]), None
    if encoder is not None:
        side = ENCODERS[encoder].n_pixels
        spec = dataclasses.replace(INPUT, grid=(side, side), scalars=spec.scalars)
        names = ("epochs", "device", "checkpoint", "progress")
        trained = train_encoder(
            data,
            encoder,
            validation,
            input_spec=spec,
            seed=seed,
            **{key: value for key, value in training.items() if key in names},
        )
        latent, errors = encode_images(
            data.images,
            trained,
            device=training.get("device", "auto"),
            input_spec=spec,
        )
        if errors:
            first = errors[min(errors)]
            message = f"{len(errors)} of {len(latent)} images cannot be used"
            warnings.warn(f"{message} (first: {first})", GalmlWarning, stacklevel=4)
        contexts = torch.cat((data.contexts, torch.from_numpy(latent)), 1)
        data = dataclasses.replace(data, contexts=contexts, latent=latent.shape[1])
    return StarRecipe(network, spec, data.contexts, {}, encoder=trained), data


def _settings(data, network, axisymmetric, encoder):
    """Choose the arguments of a new flow."""
    ours, names = network in OURS, list(data.axes)
    outlying = OUTLYING if ours else ()
    settings = {
        "features": len(names),
        "context": data.n_conditions,
        "kinds": [
            BOUNDED.get(n, "asinh" if n in outlying else "linear") for n in names
        ],
        "latent": data.latent,
        "encoder": encoder,
        "whiten": ours,
    }
    if ours and axisymmetric and set(PLANE) <= set(names):
        settings["cylinder"] = [names.index(n) for n in PLANE]
    return settings


def _limits(data, network, limited):
    """Find the limits of place and speed, where there are to be any."""
    places = [list(data.axes).index(n) for n in (*PLACES, *SPEEDS) if n in data.axes]
    possible = data.n_conditions and len(places) == 6
    if limited is None:
        several = len(data.galaxy.unique()) >= SMALLEST_POPULATION
        limited = possible and several and network in OURS
    if not limited:
        return None
    if not possible:
        expected = f"stars with {[*PLACES, *SPEEDS]}, and conditions"
        raise InputError("limited", "True", expected)
    standard = _standard(data, *context_moments(data.contexts))
    return find_limits(
        data.stars,
        data.galaxy,
        standard,
        (places[:3], places[3:]),
        extent=data.extent,
        escape=data.escape,
    )


def _standard(data, mean, scale):
    """Standardize the conditions of galaxies, without latents."""
    return ((data.contexts - mean) / scale)[:, : data.n_conditions]


def _find_inside(data, settings, model):
    """Find the stars within the bounds, and the scale of the conditions."""
    if model is None:
        keys = {"kinds": settings["kinds"], "limits": settings.get("limits")}
        scaling = StarScaling(**keys)
    else:
        scaling = model.network.scaling
    if data.contexts is None:
        return scaling.inside(data.stars), None
    if model is None:
        mean, scale = context_moments(data.contexts)
    else:
        mean, scale = model.network.context_mean, model.network.context_scale
    standard = _standard(data, mean, scale).clamp(-CONTEXT_LIMIT, CONTEXT_LIMIT)
    inside = torch.cat(
        [
            scaling.inside(stars, standard[galaxy])
            for stars, galaxy in zip(
                data.stars.split(BLOCK), data.galaxy.split(BLOCK), strict=True
            )
        ]
    )
    return inside, scale.float().clone()


def _config(data, kinds):
    """Note axes and conditions of the galaxies, for the configuration of a model."""
    axes = [
        {"name": name, "unit": unit.to_string(), "kind": kind}
        for (name, unit), kind in zip(data.axes.items(), kinds, strict=True)
    ]
    return {"axes": axes} | _known_galaxies(data)


def _known_galaxies(data, config=None):
    """Note where the conditions lie, of galaxies that a model knows already, too."""
    number = data.n_conditions
    if not number:
        return {"conditions": []}
    contexts = data.contexts[:, :number]
    ends = valid_range(contexts)
    low, high = ends["low"], ends["high"]
    galaxies = contexts.numpy()
    if config is not None:
        old = config["conditions"]
        low = [min(a, one["lo"]) for a, one in zip(low, old, strict=True)]
        high = [max(a, one["hi"]) for a, one in zip(high, old, strict=True)]
        if config.get("domain") is None:
            galaxies = galaxies[:0]
        else:
            galaxies = np.concatenate((config["domain"]["galaxies"], galaxies))
    names = ALL_CONDITIONS[:number]
    found = {
        "conditions": [
            {"name": name, "lo": a, "hi": b}
            for name, a, b in zip(names, low, high, strict=True)
        ],
        "domain": find_domain(galaxies),
    }
    if config is None and number > len(CONDITIONS):
        found["sizes"] = find_sizes(galaxies[:, :-1], galaxies[:, -1])
    return found


def _augmentation(data, settings, axisymmetric, smoothing, scale):
    """Choose what training changes at random about the stars, if anything."""
    names, turned, mirrored, jitter = list(data.axes), (), (), None
    if axisymmetric and set(PLANE) <= set(names) and not settings.get("cylinder"):
        turned = [names.index(n) for n in PLANE]
    if axisymmetric and set(NORMAL_TO_PLANE) <= set(names):
        mirrored = [names.index(n) for n in NORMAL_TO_PLANE]
    if scale is not None and (smoothing or data.latent):
        jitter = smoothing * scale
    return Augmentation(turned, mirrored, jitter, data.latent) or None
