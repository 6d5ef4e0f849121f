# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train, fine-tune and calibrate models on one's own maps."""

from functools import partial

import astropy.units as u
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

from galml.core import fitting
from galml.core.distributions import (
    histogram_log_density,
    ranked_score,
    widening,
)
from galml.core.geometry import pixel_angle
from galml.core.networks import standardize
from galml.core.weights import load_model
from galml.gas_kinematics import preparation, published
from galml.gas_kinematics.kinematic import VIEWS
from galml.gas_kinematics.mock_data import augment, wrap_radians
from galml.gas_kinematics.posterior import (
    angle_log_density,
    arcsine_scale,
    kappa_quantile,
    posterior,
    quality_predictors,
)

__all__ = [
    "KinematicRecipe",
    "MerlinRecipe",
    "calibrate",
    "evaluate",
    "fit",
]

#: Columns of a truth: unit and largest value.
TRUTH = {
    "circularity": (None, 1.0),
    "position_angle": (u.deg, None),
    "inclination": (u.deg, 90.0),
}
#: A calibration that changes nothing.
NEUTRAL = {"kappa": [], "angle": [], "quality": [0.0] * 6}
#: What the quality is the probability of: these errors at most (degrees, kappa).
QUALITY_ANGLE = 10.0
QUALITY_KAPPA = 0.15
#: Standard deviation by which true circularities are blurred, on their scale.
BLUR = 0.012
#: Groups of low to high circularity that intervals may not miss much more often.
GROUPS = 6
#: Smallest radius in pixels that counts as the domain of the training.
SMALLEST_RADIUS = 4.0


def fit(
    data,
    truth=None,
    *,
    dispersion=None,
    center=None,
    redshift=None,
    beam=None,
    tracer="gas",
    line=None,
    width=None,
    continuum=None,
    rest_value=None,
    convention=None,
    unit=None,
    hdu=None,
    dispersion_hdu=None,
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
    """Train a model for `galml.circularity` on your own velocity maps.

    Parameters
    ----------
    data : object
        Velocity maps, as `galml.circularity` takes them; at least 20.
    truth : `~astropy.table.QTable` or mapping, optional
        One row per map: ``circularity`` (0 to 1), and if known ``position_angle``
        (an angle, to the receding side, in the convention of the results) and
        ``inclination`` (an angle, 0 to 90 degrees). NaN is unknown. The published
        autoencoder learns without.
    dispersion, center, redshift, beam, tracer, line, width, continuum, rest_value, \
convention, unit, hdu, dispersion_hdu
        As in `galml.circularity`.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Start from the weights of this model instead of new ones. It is not changed.
    network : {"kinematic", "merlin"}, optional
        Architecture: by default that of ``model``, and of a new one "kinematic"; or the
        published autoencoder of Dawson et al. (2020), MNRAS 491, 2506.
    validation, calibration : float
        Shares of the maps that choose the best epoch, and that make the errors
        right; training sees neither. The autoencoder needs no calibration.
    name : str, optional
        Name of the model.
    seed : int or None
        Seed of the split, the initial weights and the training; None draws a fresh
        one. It stands in the card.
    epochs, batch_size, learning_rate, patience, dtype, checkpoint, log_dir
        As in `galml.core.training.train`; None is 20 epochs, 300 for the autoencoder,
        and else its defaults.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~galml.core.model.GalaxyModel`
        Its ``card`` tells the training and the figures measured on the calibration
        maps; ``history``, an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If there are too few usable maps, or truths that do not fit them.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from galml.gas_kinematics import fit
    >>> y, x = np.indices((16, 16)) - 7.5
    >>> random = np.random.default_rng(0)
    >>> share = random.uniform(size=24)
    >>> ordered = share[:, None, None] * np.tanh(y / 3)
    >>> noise = random.normal(0, 1, (24, 16, 16)) * (1 - share[:, None, None])
    >>> maps = 100 * (ordered + noise) * u.km / u.s
    >>> model = fit(maps, {"circularity": share}, epochs=1, name="mine")
    >>> model.card["training_maps"]
    16
    """
    start = None if model is None else load_model(model, "circularity")
    recipe = fitting.recipe_of(RECIPES, network, start)()
    if start is not None:
        recipe.input_spec = start.input_spec
    options = {
        "dispersion": dispersion,
        "center": center,
        "redshift": redshift,
        "beam": beam,
        "tracer": tracer,
        "line": line,
        "width": width,
        "continuum": continuum,
        "rest_value": rest_value,
        "convention": convention,
        "unit": unit,
        "hdu": hdu,
        "dispersion_hdu": dispersion_hdu,
    }
    return fitting.fit(
        recipe,
        data,
        truth,
        options,
        model=start,
        settings=recipe.settings,
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


class KinematicRecipe:
    """How the default network is trained: see `~galml.core.fitting.Recipe`.

    Parameters
    ----------
    input_spec : `~galml.core.model.InputSpec`, optional
        What the network is shown; that of new networks by default.
    """

    operation = "circularity"
    architecture = "kinematic"
    kind = "maps"
    truth = TRUTH
    needs_truth = needs_calibration = True

    def __init__(self, input_spec=None):
        self.input_spec = preparation.INPUT if input_spec is None else input_spec

    @property
    def settings(self):
        """Arguments of a new network."""
        return {"scalars": len(self.input_spec.scalars)}

    @property
    def training(self):
        """Keywords of the training."""
        change = partial(augment, spec=self.input_spec)
        return {"epochs": 20, "weight_decay": 1e-2, "augment": change}

    def start(self, network, data):
        """Standardize the scalars by those of the data."""
        standardize(network, data["scalars"].float())

    def targets(self, truth, prepared, members):
        """Give circularity, residual angle (radians) and inclination (degrees)."""
        centers = [tuple(center) for center in prepared.center.tolist()]
        angle = _image_angles(truth["position_angle"], members, centers)
        residual = torch.from_numpy(np.radians(angle)) - torch.deg2rad(prepared.angle)
        return {
            "kappa": torch.from_numpy(truth["circularity"]).float(),
            "residual_angle": wrap_radians(residual).float(),
            "inclination": torch.from_numpy(truth["inclination"]).float(),
        }

    def columns(self, data):
        """Choose what the training takes."""
        keys = ("image", "scalars", "kappa", "residual_angle", "inclination")
        return {key: data[key] for key in keys}

    def loss(self, network, batch):
        """Negative log-likelihood of circularity, angle and inclination.

        Truths that are NaN do not count.
        """
        outputs = network(batch)
        names = ("kappa", "residual_angle", "inclination")
        known = {key: torch.isfinite(batch[key]) for key in names}
        truth = {key: batch[key].nan_to_num(0.0) for key in known}
        place = arcsine_scale(truth["kappa"])
        kappa = histogram_log_density(outputs["kappa"], place, 1.0, BLUR)
        ranked = ranked_score(outputs["kappa"], place)
        tilt = histogram_log_density(
            outputs["inclination"], truth["inclination"], 90.0, 3.0
        )
        angle = angle_log_density(outputs, truth["residual_angle"])
        with torch.no_grad():
            probability = torch.softmax(outputs["kappa"], 1)
            half = torch.tensor([0.5], device=probability.device)
            error = kappa_quantile(probability, half)[:, 0] - truth["kappa"]
        terms = {
            "kappa": -_mean(kappa, known["kappa"]),
            "sharpness": _mean(ranked, known["kappa"]),
            "angle": -_mean(angle, known["residual_angle"]),
            "inclination": -_mean(tilt, known["inclination"]),
        }
        weights = {"sharpness": 20.0, "angle": 0.7, "inclination": 0.3}
        loss = sum(weights.get(key, 1.0) * term for key, term in terms.items())
        error = _mean(error.abs(), known["kappa"])
        return {"loss": loss, **terms, "kappa_error": error}

    def calibrate(self, model, data, calibration, *, device="auto"):
        """Give the configuration of a model, and its figures on the calibration set."""
        outputs = evaluate(model.network, calibration, device=device)
        factors = calibrate(outputs, calibration, model.input_spec)
        domain = fitting.valid_range(data["scalars"]) | {"radius": SMALLEST_RADIUS}
        result = posterior(outputs, factors, model.input_spec)
        error = (result["kappa_quantiles"][:, 1] - calibration["kappa"]).abs()
        turn = torch.rad2deg(calibration["residual_angle"]) - result["turn"]
        figures = {
            "circularity_68": _quantile(error),
            "position_angle_68_deg": _quantile(torch.from_numpy(_wrap(turn)).abs()),
        }
        return {"calibration": factors, "domain": domain}, figures


class MerlinRecipe:
    """How the published autoencoder is trained: see `~galml.core.fitting.Recipe`.

    It learns to reconstruct the maps. Where truths come along, they set the boundary
    between its classes and the direction where its latent angle is zero.

    Parameters
    ----------
    input_spec : `~galml.core.model.InputSpec`, optional
        What the network is shown; that of new networks by default.
    """

    operation = "circularity"
    architecture = "merlin"
    kind = "maps"
    truth = TRUTH
    needs_truth = needs_calibration = False
    settings = None
    training = {"epochs": 300}

    def __init__(self, input_spec=None):
        self.input_spec = published.INPUT if input_spec is None else input_spec

    def start(self, network, data):
        """Set nothing: the network knows nothing of the data before the training."""

    def targets(self, truth, prepared, members):
        """Give circularity and angle (degrees, counter-clockwise from +y)."""
        centers = [
            published.image_center(image) for maps in members for image in maps.values
        ]
        angle = _image_angles(truth["position_angle"], members, centers)
        return {
            "kappa": torch.from_numpy(truth["circularity"]),
            "angle": torch.from_numpy(angle),
        }

    def columns(self, data):
        """Choose what the training takes."""
        return {"image": data["image"]}

    def loss(self, network, batch):
        """Mean squared error of the reconstruction."""
        outputs = network(batch, reconstruct=True)
        error = torch.nn.functional.mse_loss(outputs["reconstruction"], batch["image"])
        return {"loss": error}

    def calibrate(self, model, data, calibration, *, device="auto"):
        """Give the latent plane of the training set; without truths no classes."""
        with torch.no_grad():
            parts = data["image"].float().split(1024)
            latents = torch.cat([model.network.encode(part) for part in parts])
        known = {key: data[key] for key in ("kappa", "angle") if key in data}
        return published.latent_plane(latents.double().numpy(), **known), {}


RECIPES = {"kinematic": KinematicRecipe, "merlin": MerlinRecipe}


def _image_angles(position_angle, members, centers):
    """Position angles as image angles in degrees, at the centers (x, y) of maps."""
    all_wcs = [maps.wcs_of(row) for maps in members for row in range(len(maps))]
    angles = [
        pixel_angle(angle, wcs, center).to_value(u.deg)
        for angle, wcs, center in zip(position_angle, all_wcs, centers, strict=True)
    ]
    return np.array(angles, dtype=float)


def _mean(values, known):
    """Mean over the objects whose truth is known, zero where there is none."""
    return (values * known).sum() / known.sum().clamp_min(1)


def _quantile(error):
    """Error that 68 % do not exceed; NaN without any."""
    error = error[torch.isfinite(error)].numpy()
    return float(np.quantile(error, 0.68)) if error.size else np.nan


def evaluate(network, data, *, device="auto", progress=False, views=VIEWS):
    """Run the default network over a data set as the operation does.

    Parameters
    ----------
    network : `~galml.gas_kinematics.network.KinematicNet`
        The network.
    data : dict of str to `torch.Tensor`
        ``image`` and ``scalars``; the rest is not looked at.
    device, progress, views
        As in `~galml.core.inference.infer`.

    Returns
    -------
    dict of str to `torch.Tensor`
        The outputs, and the ``scalars``.
    """
    outputs = fitting.evaluate(network, data, views, device=device, progress=progress)
    return outputs | {"scalars": data["scalars"].float()}


def calibrate(outputs, data, spec=None):
    """Fit the calibration of a network.

    Widths are scaled so that 68.3 % intervals hold as many of the truths, in bins of
    the predicted width, of the predicted inclination and of the variance that rotation
    explains. The quality is a logistic regression on five numbers only: a
    network's opinion of itself does not carry over to maps unlike the mocks.

    Parameters
    ----------
    outputs : dict of str to `torch.Tensor`
        What the network gave, see `evaluate`.
    data : dict of str to `torch.Tensor`
        Truth: ``kappa`` and ``residual_angle`` (radians), shape (n,); NaN is unknown.
    spec : `~galml.core.model.InputSpec`, optional
        What the network was shown.

    Returns
    -------
    dict
        As `~galml.gas_kinematics.posterior.posterior` takes it.
    """
    spec = preparation.INPUT if spec is None else spec
    kappa = data["kappa"].numpy()
    residual = torch.rad2deg(data["residual_angle"]).numpy()
    result = dict(NEUTRAL)
    known = np.isfinite(kappa)
    if known.any():
        result["kappa"] = _kappa_factors(_rows(outputs, known), kappa[known], spec)
    known = np.isfinite(residual)
    if known.any():
        result["angle"] = _angle_factors(_rows(outputs, known), residual[known], spec)
    known &= np.isfinite(kappa)
    if known.any():
        outputs, kappa, residual = _rows(outputs, known), kappa[known], residual[known]
        final = posterior(outputs, result, spec)
        median = final["kappa_quantiles"][:, 1]
        near = np.abs(median.numpy() - kappa) < QUALITY_KAPPA
        error = np.abs(_wrap(residual - final["turn"].numpy()))
        predictors = quality_predictors(median, outputs["scalars"], spec).numpy()
        result["quality"] = _logistic(predictors, near & (error < QUALITY_ANGLE))
    return result


def _rows(outputs, rows):
    """Choose the outputs of some objects by a boolean array."""
    return {key: value[torch.from_numpy(rows)] for key, value in outputs.items()}


def _kappa_factors(outputs, kappa, spec):
    """Widening of the distributions of kappa."""

    def covers(factor):
        widen = {"kappa": torch.from_numpy(factor).float()}
        found = posterior(outputs, NEUTRAL, spec, widen)
        low, _, high = found["kappa_quantiles"].numpy().T
        return (kappa >= low) & (kappa <= high)

    predictors = posterior(outputs, NEUTRAL, spec)["kappa_predictors"]
    edges = np.quantile(kappa, np.linspace(0, 1, GROUPS + 1)[1:-1])
    return widening(predictors.numpy(), covers, np.searchsorted(edges, kappa))


def _angle_factors(outputs, residual, spec):
    """Widening of the distributions of the angle."""
    found = posterior(outputs, NEUTRAL, spec)
    error = np.abs(_wrap(residual - found["turn"].numpy()))

    def covers(factor):
        widen = {"angle": torch.from_numpy(factor).float()}
        return error <= posterior(outputs, NEUTRAL, spec, widen)["turn_error"].numpy()

    return widening(found["angle_predictors"].numpy(), covers)


def _wrap(degrees):
    """Bring degrees to -180 to 180."""
    return (np.asarray(degrees) + 180) % 360 - 180


def _logistic(numbers, outcome):
    """Offset and slopes of a logistic regression on numbers (n, k).

    A normal prior of width 10 around zero counts where there are few objects.
    """
    design = np.column_stack([np.ones(len(numbers)), numbers])

    def loss(slopes):
        probability = expit(design @ slopes).clip(1e-7, 1 - 1e-7)
        likelihood = np.where(outcome, probability, 1 - probability)
        return (np.sum(slopes**2) / 200 - np.log(likelihood).sum()) / len(design)

    return minimize(loss, np.zeros(design.shape[1])).x.tolist()
