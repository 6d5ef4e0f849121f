# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where a galaxy's light is, and how its velocity field turns, from its spaxels."""

from dataclasses import dataclass

import numpy as np

from galml.core.exceptions import InputError

__all__ = [
    "Ellipse",
    "centroid",
    "coherence",
    "place_ellipse",
    "shape_of_light",
    "systemic_weights",
]

#: Iterations of center and shape of the light.
ITERATIONS = 20
#: Outliers in units of the scatter, and rounds of looking for them.
CLIP, CLIP_ROUNDS = 5.0, 3
#: Terms of the fit to the velocities.
N_TERMS = 5


@dataclass(frozen=True)
class Ellipse:
    """An aperture.

    Parameters
    ----------
    center : tuple of float
        Place (x, y).
    size : float
        Semi-major axis; infinite for everything.
    ratio : float
        Axis ratio b/a.
    angle : float
        Of the major axis, in radians counter-clockwise from +y.
    """

    center: tuple
    size: float
    ratio: float
    angle: float

    @property
    def area(self):
        """Area inside."""
        return np.pi * self.ratio * self.size**2

    def semi_major_axis(self, x, y):
        """Give the semi-major axis of the similar ellipse through each place.

        Parameters
        ----------
        x, y : `~numpy.ndarray`
            Places.

        Returns
        -------
        `~numpy.ndarray`
            In the unit of ``size``.
        """
        return _semi_major_axis(
            x - self.center[0], y - self.center[1], self.ratio, self.angle
        )

    def contains(self, semi_major):
        """Tell which semi-major axes lie inside."""
        return _within(semi_major, self.size)


def place_ellipse(spaxels, *, r_eff, center, ellipticity, position_angle):
    """Place the aperture on a galaxy.

    Parameters
    ----------
    spaxels : `~galml.stellar_kinematics.spaxels.Spaxels`
        All spaxels of the galaxy.
    r_eff, center, ellipticity, position_angle
        As for `~galml.stellar_kinematics.lambda_r`, of one galaxy.

    Returns
    -------
    `Ellipse`
        What is not given is measured on the light.

    Raises
    ------
    galml.core.InputError
        If a value is of the wrong kind or out of its range.
    """
    size = np.inf if r_eff is None else spaxels.length(r_eff, "r_eff")
    if not size > 0:
        raise InputError("r_eff", str(r_eff), "a length above zero")
    if ellipticity is not None:
        ellipticity = spaxels.number(ellipticity, "ellipticity")
        if not 0 <= ellipticity < 1:
            raise InputError("ellipticity", str(ellipticity), "from 0 to below 1")
    if center is None:
        center = centroid(spaxels.x, spaxels.y, spaxels.flux, size)
    else:
        center = spaxels.position(center)
    if position_angle is not None:
        position_angle = spaxels.image_angle(position_angle, center)
    ratio, angle = shape_of_light(
        spaxels.x - center[0],
        spaxels.y - center[1],
        spaxels.flux,
        size,
        None if ellipticity is None else 1 - ellipticity,
        position_angle,
    )
    return Ellipse(center, size, ratio, angle)


def _within(distance, size):
    """Tell what lies inside; rounding must not decide about the edge."""
    return distance <= size * (1 + 1e-9)


def _semi_major_axis(x, y, ratio, angle):
    """Give the semi-major axis of the ellipse through each place from the center."""
    major = y * np.cos(angle) - x * np.sin(angle)
    minor = x * np.cos(angle) + y * np.sin(angle)
    return np.hypot(major, minor / ratio)


def centroid(x, y, flux, size):
    """Find the center of the light in a circle that moves along.

    Parameters
    ----------
    x, y, flux : `~numpy.ndarray`
        Place and light, above zero, of the spaxels.
    size : float
        Radius of the circle; infinite for all the light.

    Returns
    -------
    tuple of float
        Place (x, y).
    """
    places = np.stack([x, y])
    center = places @ flux / flux.sum()
    for _ in range(ITERATIONS if size < np.inf else 0):
        weight = flux * _within(np.hypot(*(places - center[:, None])), size)
        if not weight.any():
            break
        center = places @ weight / weight.sum()
    return tuple(center)


def shape_of_light(x, y, flux, size, ratio=None, angle=None):
    """Find the ellipse that has the shape of the light inside it.

    Parameters
    ----------
    x, y, flux : `~numpy.ndarray`
        Place, from the center, and light of the spaxels.
    size : float
        Semi-major axis; infinite for all the light.
    ratio, angle : float, optional
        Axis ratio and angle as for `Ellipse`, where they are known.

    Returns
    -------
    ratio, angle : float
        Those given; else from the second moments of the light inside the ellipse.
    """
    if ratio == 1 or None not in (ratio, angle):
        return ratio, angle or 0.0
    shape = 1.0, 0.0
    for _ in range(ITERATIONS):
        weight = flux * _within(_semi_major_axis(x, y, *shape), size)
        xx, yy, xy = (weight @ product for product in (x * x, y * y, x * y))
        axis, spread = np.arctan2(-2 * xy, yy - xx) / 2, np.hypot(yy - xx, 2 * xy)
        trace = xx + yy
        measured = np.sqrt((trace - spread) / (trace + spread)) if trace > 0 else 1.0
        if not measured > 0:
            break
        shape = ratio or measured, axis if angle is None else angle
    return shape


def systemic_weights(x, y, flux, velocity):
    """Find the weights whose sum with the velocities is the systemic velocity.

    They give the constant in a least-squares fit weighted with the flux, beside a
    solid-body and a flat rotation of any axis. These are odd about the center, so that
    missing spaxels and lopsided light do not shift the constant. Outliers are left out.

    Parameters
    ----------
    x, y, flux, velocity : `~numpy.ndarray`
        Place, from the center, light and velocity of the spaxels.

    Returns
    -------
    `~numpy.ndarray`
        One weight for each velocity; their sum is 1.
    """
    reach = np.hypot(x, y).max()
    unit = np.maximum(np.hypot(x, y), 1e-3 * reach)
    terms = np.stack([np.ones_like(x), x / reach, y / reach, x / unit, y / unit], 1)
    good = np.full(len(x), True)
    for _ in range(CLIP_ROUNDS):
        root = np.sqrt(flux * good)
        solution = np.linalg.pinv(terms * root[:, None]) * root
        residual = abs(velocity - terms @ (solution @ velocity))
        limit = CLIP * 1.4826 * np.median(residual[good])
        clipped = residual <= max(limit, 1e-9 * abs(velocity).max())
        if clipped.sum() < 2 * N_TERMS or (clipped == good).all():
            break
        good = clipped
    return solution[0]


def coherence(x, y, flux, velocity):
    r"""Measure how much of the velocities has the sign of one rotation.

    Parameters
    ----------
    x, y, flux, velocity : `~numpy.ndarray`
        Place, from the center, light and velocity, from the systemic one.

    Returns
    -------
    float
        The part of the sum of F \|V cos ψ\| where V cos ψ is positive, and ψ the
        angle from the direction of fastest recession: 1 for regular rotation.
    """
    distance = np.hypot(x, y)
    unit = np.stack([x, y]) / np.where(distance > 0, distance, 1)
    dipole = unit @ (flux * velocity)
    signed = (dipole @ unit) * flux * velocity
    total = abs(signed).sum()
    return signed[signed > 0].sum() / total if total > 0 else 0.0
