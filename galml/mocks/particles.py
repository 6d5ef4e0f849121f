# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies made of particles, and what is exactly known of them."""

from dataclasses import dataclass, replace

import torch

__all__ = ["Kinematics", "Particles", "kinematics", "rotation_matrix"]


@dataclass
class Particles:
    """A batch of galaxies made of gas clouds.

    The frame of a galaxy that is looked at has x to the right of the sky, y up,
    and z along the line of sight, away from the observer.

    Parameters
    ----------
    position : `torch.Tensor`
        Shape (n, N, 3), in kpc from the center.
    velocity : `torch.Tensor`
        Shape (n, N, 3), in km/s.
    mass : `torch.Tensor`
        Shape (n, N), in any unit; a cloud's light is proportional to its mass.
    dispersion : `torch.Tensor`
        Shape (n, N): the isotropic one-dimensional velocity dispersion inside each
        cloud, in km/s. Its kinetic energy belongs to the galaxy.
    """

    position: torch.Tensor
    velocity: torch.Tensor
    mass: torch.Tensor
    dispersion: torch.Tensor

    def rotated(self, matrix):
        """Turn every galaxy by its own rotation matrix, of shape (n, 3, 3)."""
        turn = matrix.transpose(-1, -2)
        return replace(
            self, position=self.position @ turn, velocity=self.velocity @ turn
        )

    def sampled(self, generator=None):
        """Draw the motions inside the clouds, as particles without dispersion."""
        noise = torch.randn(
            self.velocity.shape, generator=generator, dtype=self.velocity.dtype
        )
        return replace(
            self,
            velocity=self.velocity + noise * self.dispersion[..., None],
            dispersion=torch.zeros_like(self.dispersion),
        )


@dataclass
class Kinematics:
    """Truth about each galaxy of a batch; every tensor has shape (n,).

    Attributes
    ----------
    kappa : `torch.Tensor`
        Fraction of kinetic energy in ordered rotation.
    kappa_co : `torch.Tensor`
        The same, with only the co-rotating motions in the numerator.
    position_angle : `torch.Tensor`
        Angle of the receding side in degrees, counter-clockwise from +y.
    inclination : `torch.Tensor`
        Angle between the spin axis and the line of sight, in degrees, 0 to 90.
    """

    kappa: torch.Tensor
    kappa_co: torch.Tensor
    position_angle: torch.Tensor
    inclination: torch.Tensor


def kinematics(particles, inside=None, axis=None):
    r"""Measure the rotational support of galaxies from their particles.

    .. math:: \kappa = \frac{\sum \frac12 m (j_z / R)^2}{\sum \frac12 m v^2}

    Velocities are relative to the mass-weighted mean, z is along the total angular
    momentum, and both sums run over the same particles. The dispersion inside a cloud
    adds its own energy to both: one of its three directions is the azimuthal one.

    Parameters
    ----------
    particles : `Particles`
        The galaxies.
    inside : `torch.Tensor`, optional
        Boolean, shape (n, N): the particles that count. All by default.
    axis : `torch.Tensor`, optional
        Shape (n, 3): the rotation axis, in place of the total angular momentum.

    Returns
    -------
    `Kinematics`
        NaN where a galaxy has no mass inside or no motion.

    Notes
    -----
    :math:`\kappa` is defined in Sales et al. (2012), MNRAS 423, 1544, and
    :math:`\kappa_\mathrm{co}` in Correa et al. (2017), MNRAS 472, L45.
    """
    mass = particles.mass if inside is None else particles.mass * inside
    total = mass.sum(-1, keepdim=True)
    velocity = particles.velocity - torch.einsum(
        "nk,nkc->nc", mass / total, particles.velocity
    ).unsqueeze(1)
    spin = torch.linalg.cross(particles.position, velocity)
    momentum = torch.einsum("nk,nkc->nc", mass, spin)
    if axis is None:
        axis = momentum
    axis = axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True)

    along = torch.einsum("nkc,nc->nk", particles.position, axis)
    radius2 = (particles.position**2).sum(-1) - along**2
    azimuthal = (
        torch.einsum("nkc,nc->nk", spin, axis) * radius2.clamp_min(1e-12).rsqrt()
    )
    sigma = particles.dispersion
    square, sigma2 = azimuthal**2, sigma**2
    energy = (mass * ((velocity**2).sum(-1) + 3 * sigma2)).sum(-1)
    ratio = azimuthal / sigma.clamp_min(1e-6)
    forward = torch.special.ndtr(ratio)
    density = torch.exp(-0.5 * ratio**2) / (2 * torch.pi) ** 0.5
    corotating = (square + sigma2) * forward + azimuthal * sigma * density
    cosine = axis[:, 2].abs().clamp(max=1)
    return Kinematics(
        kappa=(mass * (square + sigma2)).sum(-1) / energy,
        kappa_co=(mass * corotating).sum(-1) / energy,
        position_angle=torch.rad2deg(torch.atan2(axis[:, 1], axis[:, 0])) % 360,
        inclination=torch.rad2deg(torch.arccos(cosine)),
    )


def rotation_matrix(axis, angle):
    """Rotate about an axis by an angle.

    Parameters
    ----------
    axis : `torch.Tensor`
        Unit vectors, shape (..., 3).
    angle : `torch.Tensor`
        Angles in radians, shape (...).

    Returns
    -------
    `torch.Tensor`
        Shape (..., 3, 3).
    """
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return torch.linalg.matrix_exp(cross.unflatten(-1, (3, 3)) * angle[..., None, None])
