# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published system (MERLIN): preparation, latent plane, columns."""

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.geometry import sky_angle
from galml.gas_kinematics.autoencoder import MerlinAutoencoder

__all__ = [
    "BOUNDARY",
    "PCA_COMPONENTS",
    "PCA_MEAN",
    "classify",
    "columns",
    "inputs",
    "latent_angle",
    "latent_plane",
    "layout",
    "middle",
    "prepare",
    "prepare_maps",
    "rho",
    "rotate_latents",
]

#: Mean of the latents of the published training set.
PCA_MEAN = (7.8016948, -7.79687586, 8.7583487)
#: Principal axes of those latents, one in each row.
PCA_COMPONENTS = (
    (-0.56319363, 0.29105396, 0.77336959),
    (0.63042612, 0.75639723, 0.17443091),
    (0.53420581, -0.58579077, 0.60948612),
)
#: Latent radius from which a galaxy counts as rotating.
BOUNDARY = 2.960960960960961
#: Angle (degrees) of the receding side, counter-clockwise from +y, where the
#: latent angle is zero; measured on model disks. The latent angle runs clockwise.
ANGLE_OFFSET = 126.0

_PIXELS = MerlinAutoencoder.pixels
_LATENTS = MerlinAutoencoder.n_latent


def prepare(observations):
    """
    Scale velocity maps as the published system does.

    Nearest-neighbor resize to 64x64 pixels, subtract the 2nd percentile, divide
    by the 98th percentile of the result, times two, minus one; then pixels
    without a value, and those outside [-1, 1], become 0.

    Parameters
    ----------
    observations : sequence of Observation
        Velocity maps, shape (y, x) each, any unit, NaN where there is no value.

    Returns
    -------
    dict of torch.Tensor
        ``image``, shape (n, 1, 64, 64), float32. A map without a value or
        without any spread is zero everywhere.
    """
    maps = np.zeros((len(observations), 1, _PIXELS, _PIXELS), np.float32)
    for image, observation in zip(maps, observations, strict=True):
        image[0] = _scale(_resize(observation.values))
    return {"image": torch.from_numpy(maps)}


def _resize(values):
    rows, columns = (np.arange(_PIXELS) * n // _PIXELS for n in values.shape)
    return values[rows[:, np.newaxis], columns]


def _scale(values):
    """Scale one map; clipping is sharp, so the order of operations matters."""
    scaled = np.zeros_like(values)
    inside = ~np.isnan(values)
    pixels = values[inside]
    if pixels.size:
        pixels = pixels - np.percentile(pixels, 2)
        top = np.percentile(pixels, 98)
        if top > 0:
            pixels = pixels / top * 2 - 1
            pixels[np.abs(pixels) > 1] = 0
            scaled[inside] = pixels
    return scaled


def rotate_latents(latents, mean=PCA_MEAN, components=PCA_COMPONENTS):
    """
    Latents along the principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    mean, components : array_like, optional
        Center, shape (3,), and axes in rows, shape (3, 3). The published ones by
        default; another training of the network has others.

    Returns
    -------
    numpy.ndarray
        Rotated latents z, shape (n, 3), float64.
    """
    centerd = np.asarray(latents, dtype=float) - np.asarray(mean)
    return centerd @ np.asarray(components).T


def rho(latents, **pca):
    """
    Radius in the plane of the first two principal axes.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Radius, shape (n,); the larger, the more ordered the rotation.
    """
    rotated = rotate_latents(latents, **pca)
    return np.hypot(rotated[..., 0], rotated[..., 1])


def classify(latents, boundary=BOUNDARY, **pca):
    """
    Class of each galaxy: 1 rotating, 0 disturbed.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    boundary : float, optional
        Latent radius from which a galaxy counts as rotating.
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Classes, shape (n,), integer.
    """
    return (rho(latents, **pca) >= boundary).astype(int)


def latent_angle(latents, offset=ANGLE_OFFSET, **pca):
    """
    Direction of the receding side from the angle in the latent plane.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    offset : float, optional
        Direction, in degrees, where the latent angle is zero.
    **pca
        ``mean`` and ``components`` as in `rotate_latents`.

    Returns
    -------
    numpy.ndarray
        Angle in degrees, counter-clockwise from +y, 0 <= angle < 360, shape (n,).
        It has a meaning for rotating galaxies only.
    """
    rotated = rotate_latents(latents, **pca)
    angle = np.degrees(np.arctan2(rotated[..., 1], rotated[..., 0]))
    return np.mod(offset - angle, 360.0)


def latent_plane(latents, kappa=None, angle=None):
    """
    Principal plane of the latents of a training, oriented like the published one.

    Parameters
    ----------
    latents : array_like
        Latents of the network, shape (n, 3).
    kappa : array_like, optional
        True circularities, shape (n,), NaN where unknown. They set the boundary with
        the best balanced accuracy for a circularity above 0.5.
    angle : array_like, optional
        True directions of the receding side in degrees counter-clockwise from +y,
        shape (n,), NaN where unknown. Where ``kappa`` is known too, only galaxies
        above 0.7 count. They set handedness and zero of the latent angle.

    Returns
    -------
    dict
        Lists and numbers ``pca_mean``, ``pca_components``, ``boundary`` and
        ``angle_offset``; the last two are None where the truths do not tell.
    """
    latents = np.asarray(latents, dtype=float)
    mean = latents.mean(axis=0)
    axes = np.linalg.svd(np.cov(latents, rowvar=False))[2]
    # The sign of a principal axis is arbitrary: the largest loading is positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1))
    boundary = offset = None
    if angle is not None:
        axes, offset = _orient(latents, mean, axes, kappa, np.asarray(angle, float))
    if kappa is not None:
        radius = rho(latents, mean=mean, components=axes)
        boundary = _best_boundary(radius, np.asarray(kappa, float))
    return {
        "pca_mean": mean.tolist(),
        "pca_components": axes.tolist(),
        "boundary": boundary,
        "angle_offset": offset,
    }


def _orient(latents, mean, axes, kappa, angle):
    """Choose the axes whose latent angle runs clockwise, and its zero in degrees."""
    known = np.isfinite(angle)
    if kappa is not None:
        known &= np.asarray(kappa, float) > 0.7
    if not known.any():
        return axes, None
    turned = np.diag([1.0, -1.0, 1.0]) @ axes
    found = []
    for choice in (axes, turned):
        z = rotate_latents(latents[known], mean, choice)
        sums = np.radians(angle[known]) + np.arctan2(z[:, 1], z[:, 0])
        found.append(np.exp(1j * sums).mean())
    best = int(abs(found[1]) > abs(found[0]))
    offset = np.degrees(np.angle(found[best])) % 360
    return (axes, turned)[best], float(offset)


def _best_boundary(radius, kappa):
    """Latent radius that best separates circularities above and below one half."""
    known = np.isfinite(kappa)
    order = np.argsort(radius[known])
    radius, ordered = radius[known][order], kappa[known][order] > 0.5
    n_above, n_below = ordered.sum(), (~ordered).sum()
    if not (n_above and n_below):
        return None
    below = np.cumsum(~ordered)[:-1] / n_below
    above = 1 - np.cumsum(ordered)[:-1] / n_above
    index = int(np.argmax(below + above))
    return float((radius[index] + radius[index + 1]) / 2)


#: The published system averages over no symmetries.
VIEWS = ()
MIN_PIXELS = 1


def prepare_maps(maps):
    """Prepare maps as `prepare` does; see there."""
    return prepare(maps)


def inputs(prepared):
    """Give what the network takes of prepared maps."""
    return prepared


def layout(model, n_samples):
    """Trailing shape and unit of each column of the operation's result."""
    if n_samples:
        raise InputError("n_samples", n_samples, "0: this model has no distributions")
    angle = ((), u.deg)
    return {
        "circularity": ((), None),
        "circularity_err": ((), None),
        "position_angle": angle,
        "position_angle_err": angle,
        "latent": ((_LATENTS,), None),
        "rotating": ((), None),
    }


def columns(outputs, prepared, maps, config):
    """
    Answer for each map.

    Parameters
    ----------
    outputs : dict of torch.Tensor
        What the network gave.
    prepared : dict of torch.Tensor
        What it was given.
    maps : sequence of galml.gas_kinematics.velocities.VelocityMap
        Where that came from.
    config : dict
        The configuration of the model.

    Returns
    -------
    columns : dict of numpy.ndarray or astropy.units.Quantity
        Latents, class and position angle, as far as the model knows them; the system
        gives no circularity.
    flags : numpy.ndarray
        Bits of `galml.core.Flag`.
    """
    latents = outputs["latent"].numpy().astype(float)
    pca = {"mean": config["pca_mean"], "components": config["pca_components"]}
    values = {"latent": latents}
    if config["boundary"] is not None:
        values["rotating"] = classify(latents, config["boundary"], **pca).astype(float)
    if config["angle_offset"] is not None:
        angle = latent_angle(latents, offset=config["angle_offset"], **pca)
        values["position_angle"] = u.Quantity(
            [
                sky_angle(turn, item.wcs, middle(item.values.shape))
                for turn, item in zip(angle, maps, strict=True)
            ]
        )
    return values, np.array([item.flags for item in maps], dtype=int)


def middle(shape):
    """Pixel (x, y) in the middle of an image, where angles are told."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2
