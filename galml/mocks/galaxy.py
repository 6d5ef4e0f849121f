# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated galaxies made of particles, and what is exactly known of them."""

import math
from dataclasses import dataclass, fields, replace

import torch

from galml.core.exceptions import InputError

__all__ = [
    "COMPONENTS",
    "Batch",
    "DustDisk",
    "Galaxy",
    "Kinematics",
    "kinematics",
    "random_orientation",
    "rotation_matrix",
]

#: Parts of a galaxy, as ``Galaxy.component`` counts them.
COMPONENTS = (
    "thin disk",
    "thick disk",
    "spheroid",
    "halo",
    "young disk",
    "bar",
    "counter",
    "gas",
)
THIN, THICK, SPHEROID, HALO, YOUNG, BAR, COUNTER, GAS = range(len(COMPONENTS))


class Batch:
    """Base of dataclasses whose tensors have one row for each galaxy."""

    def __len__(self):
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, rows):
        """Select galaxies by a slice, an index tensor or a boolean tensor."""
        chosen = {f.name: _select(getattr(self, f.name), rows) for f in fields(self)}
        return type(self)(**chosen)


def _select(value, rows):
    """Select rows of tensors and batches, alone or in a tuple; keep the rest."""
    if isinstance(value, torch.Tensor | Batch):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(_select(one, rows) for one in value)
    return value


@dataclass
class DustDisk(Batch):
    """Dust that is exponential in radius and height, in n galaxies.

    Parameters
    ----------
    depth : `torch.Tensor`
        Shape (n,): optical depth in V through the center, face-on.
    length, height : `torch.Tensor`
        Shape (n,): scale length and scale height, in kpc.
    center : `torch.Tensor`, optional
        Shape (n, 3), in kpc. That of the galaxy by default.
    frame : `torch.Tensor`, optional
        Shape (n, 3, 3): the rotation from the disk's own axes, in which it lies in
        z = 0, to those of the galaxy's particles. None by default.
    """

    depth: torch.Tensor
    length: torch.Tensor
    height: torch.Tensor
    center: torch.Tensor = None
    frame: torch.Tensor = None

    def __post_init__(self):
        n = len(self.depth)
        if self.center is None:
            self.center = self.depth.new_zeros(n, 3)
        if self.frame is None:
            self.frame = torch.eye(3, dtype=self.depth.dtype).expand(n, 3, 3)

    def rotated(self, matrix):
        """Turn every disk by its own rotation matrix, of shape (n, 3, 3)."""
        center = (matrix @ self.center[..., None])[..., 0]
        return replace(self, center=center, frame=matrix @ self.frame)

    def moved(self, step):
        """Move every disk by a step in kpc, of shape (n, 3) or (3,)."""
        return replace(self, center=self.center + step)


@dataclass
class Galaxy(Batch):
    """A batch of n galaxies, each made of p particles: s of stars, the rest of gas.

    A particle stands for many stars, or for a cloud of gas, at one place. It has their
    mean velocity and the dispersions about it, so that few particles give smooth maps.
    Particles of stars come first; without ages, all is gas. The frame of a galaxy that
    is looked at has x to the right of the sky, y up, and z along the line of sight,
    away from the observer.

    Every recipe gives such galaxies (`~galml.mocks.build_gas`,
    `~galml.mocks.build_stars`, `~galml.mocks.build_star_galaxies`), and everything that
    looks at galaxies takes them: `~galml.mocks.project_gas` and
    `~galml.mocks.observe_gas` map their gas, `~galml.mocks.observe_light` takes images,
    `~galml.mocks.observe_ifu` maps the motions of their stars, and
    `~galml.mocks.observe_stars` draws single stars.

    Parameters
    ----------
    position : `torch.Tensor`
        Shape (n, p, 3), in kpc from the center.
    velocity : `torch.Tensor`
        Shape (n, p, 3), in km/s.
    mass : `torch.Tensor`
        Shape (n, p), in solar masses; of stars, what has not died since they formed.
        Where it is only gas that is looked at, in any unit: its light is in proportion.
    dispersion : `torch.Tensor`
        Of the velocities inside a particle, in km/s: shape (n, p, 3) along R, phi and z
        of the galaxy's own axes, or (n, p) where it is the same in every direction.
        Its kinetic energy belongs to the galaxy.
    age : `torch.Tensor`, optional
        Shape (n, s), in Gyr.
    metallicity : `torch.Tensor`, optional
        Shape (n, s): mass fraction of metals. Needed where there are ages.
    fe_h, o_fe : `torch.Tensor`, optional
        Shape (n, s): [Fe/H] and [O/Fe] in dex, of recipes that know them.
    spacing : `torch.Tensor`, optional
        Shape (n, p), in kpc: mean distance between particles by the density there.
        Without it, images measure it on the particles.
    component : `torch.Tensor`, optional
        Shape (n, p), integer: index into `COMPONENTS`.
    frame : `torch.Tensor`, optional
        Shape (n, 3, 3): the rotation from the galaxy's own axes, in which its disk lies
        in z = 0 and spins about +z, to the present ones. None by default.
    dust : tuple of `DustDisk`, optional
        The dust that stands before the stars.

    Raises
    ------
    galml.core.InputError
        If the shapes do not belong together.
    """

    position: torch.Tensor
    velocity: torch.Tensor
    mass: torch.Tensor
    dispersion: torch.Tensor
    age: torch.Tensor = None
    metallicity: torch.Tensor = None
    fe_h: torch.Tensor = None
    o_fe: torch.Tensor = None
    spacing: torch.Tensor = None
    component: torch.Tensor = None
    frame: torch.Tensor = None
    dust: tuple = ()

    def __post_init__(self):
        mass = tuple(self.mass.shape)
        if len(mass) != 2:
            raise InputError("mass", f"an array of shape {mass}", "shape (n, p)")
        vector, stars = (*mass, 3), (mass[0], self.n_stars)
        for name, *shapes in (
            ("position", vector),
            ("velocity", vector),
            ("dispersion", mass, vector),
            ("metallicity", stars),
            ("fe_h", stars),
            ("o_fe", stars),
            ("spacing", mass),
            ("component", mass),
            ("frame", (mass[0], 3, 3)),
        ):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) not in shapes:
                got = f"an array of shape {tuple(value.shape)}"
                raise InputError(name, got, " or ".join(map(str, shapes)))
        if self.age is not None and self.metallicity is None:
            raise InputError("metallicity", None, "one wherever there are ages")
        if self.frame is None:
            identity = torch.eye(3, dtype=self.position.dtype)
            self.frame = identity.expand(mass[0], 3, 3)

    @property
    def n_stars(self):
        """Number of particles of stars in each galaxy; the others are gas."""
        return 0 if self.age is None else self.age.shape[1]

    @property
    def stars(self):
        """The galaxies without their gas; shares its tensors."""
        return self._part(slice(self.n_stars)) if self.n_stars else self._none("stars")

    @property
    def gas(self):
        """The galaxies without their stars; shares its tensors."""
        if self.n_stars == self.mass.shape[1]:
            return self._none("gas")
        return self._part(slice(self.n_stars, None))

    def _part(self, particles):
        """Keep some particles, of stars or of gas alone."""
        stellar = particles.start is None
        kept = {}
        for name in ("position", "velocity", "mass", "dispersion", "spacing"):
            value = getattr(self, name)
            kept[name] = None if value is None else value[:, particles]
        if self.component is not None:
            kept["component"] = self.component[:, particles]
        if not stellar:
            kept |= dict.fromkeys(("age", "metallicity", "fe_h", "o_fe"))
        return replace(self, **kept)

    def _none(self, what):
        raise InputError("galaxy", f"no particles of {what}", f"a galaxy with {what}")

    @property
    def stellar_mass(self):
        """Mass of the stars in solar masses, shape (n,)."""
        return self.mass[:, : self.n_stars].sum(1)

    @property
    def gas_mass(self):
        """Mass of the gas in the unit of ``mass``, shape (n,)."""
        return self.mass[:, self.n_stars :].sum(1)

    @property
    def inclination(self):
        """Angle between the galaxy's own z and the line of sight, 0 to 90 degrees."""
        return torch.rad2deg(self.frame[:, 2, 2].abs().clamp(max=1).acos())

    def rotated(self, matrix):
        """Turn every galaxy by its own rotation matrix, of shape (n, 3, 3)."""
        turn = matrix.transpose(-1, -2)
        return replace(
            self,
            position=self.position @ turn,
            velocity=self.velocity @ turn,
            frame=matrix @ self.frame,
            dust=tuple(disk.rotated(matrix) for disk in self.dust),
        )

    def moved(self, step, velocity):
        """Move galaxies and set them in motion.

        Parameters
        ----------
        step : `torch.Tensor`
            Shape (n, 3), in kpc.
        velocity : `torch.Tensor`
            Shape (n, 3), in km/s.

        Returns
        -------
        `Galaxy`
            Isotropic motions inside the particles are as they were; others would no
            longer know the galaxy's axis.

        Raises
        ------
        galml.core.InputError
            If dispersions differ by direction.
        """
        self._check_isotropic()
        return replace(
            self,
            position=self.position + step[:, None],
            velocity=self.velocity + velocity[:, None],
            dust=tuple(disk.moved(step) for disk in self.dust),
        )

    def _check_isotropic(self):
        """Raise where the dispersions are along the galaxy's own axes."""
        if self.dispersion.dim() == 3:
            raise InputError(
                "dispersion", "one that differs by direction", "galaxies.sampled()"
            )

    def joined(self, other):
        """Put the particles of two batches together, galaxy by galaxy.

        Parameters
        ----------
        other : `Galaxy`
            As many galaxies, in the same coordinates, with the same optional
            quantities. Motions inside the particles have to be the same in every
            direction (see `sampled`), for the two have not one axis.

        Returns
        -------
        `Galaxy`
            The frame is that of the first; each keeps its dust.

        Raises
        ------
        galml.core.InputError
            If dispersions differ by direction, or one of the two lacks a quantity.
        """
        self._check_isotropic()
        other._check_isotropic()
        together = {}
        for field in fields(self):
            first, second = (getattr(one, field.name) for one in (self, other))
            if (first is None) != (second is None):
                raise InputError(field.name, "one of two galaxies", "both or neither")
            if field.name == "dust":
                together["dust"] = first + second
            elif first is not None and field.name != "frame":
                # Stars of both, then gas of both; stellar quantities have no gas.
                stars = self.n_stars, other.n_stars
                parts = [first[:, : stars[0]], second[:, : stars[1]]]
                parts += [first[:, stars[0] :], second[:, stars[1] :]]
                together[field.name] = torch.cat(parts, 1)
        return replace(self, **together)

    def sampled(self, generator=None):
        """Draw the motions inside the particles, as particles without dispersion."""
        noise = torch.randn(
            self.velocity.shape, generator=generator, dtype=self.velocity.dtype
        )
        if self.dispersion.dim() == 2:
            motion = noise * self.dispersion[..., None]
        else:
            x, y = self._azimuth()
            along_r, along_phi, along_z = (noise * self.dispersion).unbind(-1)
            own = [x * along_r - y * along_phi, y * along_r + x * along_phi, along_z]
            motion = torch.stack(own, -1) @ self.frame.transpose(-1, -2)
        return replace(
            self,
            velocity=self.velocity + motion,
            dispersion=torch.zeros_like(self.mass),
        )

    def dispersion_along(self, direction):
        """Find the dispersion inside the particles along some directions.

        Parameters
        ----------
        direction : `torch.Tensor`
            Unit vectors of shape (n, 3), or (n, p, 3).

        Returns
        -------
        `torch.Tensor`
            Shape (n, p), in km/s.
        """
        if self.dispersion.dim() == 2:
            return self.dispersion
        if direction.dim() == 2:
            direction = direction[:, None]
        sight = direction @ self.frame
        x, y = self._azimuth()
        along_r = x * sight[..., 0] + y * sight[..., 1]
        along_phi = x * sight[..., 1] - y * sight[..., 0]
        square = (self.dispersion[..., 0] * along_r) ** 2
        square = square + (self.dispersion[..., 1] * along_phi) ** 2
        return (square + (self.dispersion[..., 2] * sight[..., 2]) ** 2).sqrt()

    def line_of_sight_dispersion(self):
        """Find the dispersion of each particle along z, in km/s, shape (n, p)."""
        sight = torch.tensor([0, 0, 1.0], dtype=self.position.dtype)
        return self.dispersion_along(sight.expand(len(self), 3))

    def _azimuth(self):
        """Cosine and sine of the azimuth of each particle about the galaxy's axis."""
        own = self.position @ self.frame[..., :2]
        own = own / torch.linalg.vector_norm(own, dim=-1, keepdim=True).clamp_min(1e-9)
        return own.unbind(-1)


@dataclass
class Kinematics(Batch):
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
    sigma_over_v : `torch.Tensor`
        Dispersion inside the particles, in one dimension, over the rotation of the
        particles about the spin axis; both are root mean squares.
    """

    kappa: torch.Tensor
    kappa_co: torch.Tensor
    position_angle: torch.Tensor
    inclination: torch.Tensor
    sigma_over_v: torch.Tensor


def kinematics(galaxy, inside=None, axis=None):
    r"""Measure the rotational support of galaxies from their particles.

    .. math:: \kappa = \frac{\sum \frac12 m (j_z / R)^2}{\sum \frac12 m v^2}

    Velocities are relative to the mass-weighted mean, z is along the total angular
    momentum, and both sums run over the same particles. The dispersion inside a
    particle adds its own energy to both: one of its three directions is the azimuthal
    one.

    Parameters
    ----------
    galaxy : `Galaxy`
        The galaxies; ``galaxy.gas`` or ``galaxy.stars`` where one of them counts.
    inside : `torch.Tensor`, optional
        Boolean, shape (n, p): the particles that count. All by default.
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

    Examples
    --------
    A ring in circular rotation:

    >>> import torch
    >>> from galml.mocks import Galaxy, kinematics
    >>> angle = torch.linspace(0, 6.2832, 1001)[:1000]
    >>> zero = torch.zeros(1000)
    >>> position = torch.stack([angle.cos(), angle.sin(), zero], -1)[None]
    >>> velocity = 200 * torch.stack([-angle.sin(), angle.cos(), zero], -1)[None]
    >>> ring = Galaxy(position, velocity, torch.ones(1, 1000), torch.zeros(1, 1000))
    >>> round(float(kinematics(ring).kappa), 3)
    1.0
    """
    mass = galaxy.mass if inside is None else galaxy.mass * inside
    total = mass.sum(-1, keepdim=True)
    velocity = galaxy.velocity - torch.einsum(
        "nk,nkc->nc", mass / total, galaxy.velocity
    ).unsqueeze(1)
    spin = torch.linalg.cross(galaxy.position, velocity)
    momentum = torch.einsum("nk,nkc->nc", mass, spin)
    if axis is None:
        axis = momentum
    axis = axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True)

    along = torch.einsum("nkc,nc->nk", galaxy.position, axis)
    radius2 = (galaxy.position**2).sum(-1) - along**2
    azimuthal = (
        torch.einsum("nkc,nc->nk", spin, axis) * radius2.clamp_min(1e-12).rsqrt()
    )
    if galaxy.dispersion.dim() == 2:
        sigma, pressure = galaxy.dispersion, 3 * galaxy.dispersion**2
    else:
        around = torch.linalg.cross(axis[:, None].expand_as(velocity), galaxy.position)
        around = around * radius2.clamp_min(1e-12).rsqrt()[..., None]
        sigma = galaxy.dispersion_along(around)
        pressure = (galaxy.dispersion**2).sum(-1)
    square, sigma2 = azimuthal**2, sigma**2
    energy = (mass * ((velocity**2).sum(-1) + pressure)).sum(-1)
    ratio = azimuthal / sigma.clamp_min(1e-6)
    forward = torch.special.ndtr(ratio)
    density = torch.exp(-0.5 * ratio**2) / (2 * torch.pi) ** 0.5
    corotating = (square + sigma2) * forward + azimuthal * sigma * density
    cosine = axis[:, 2].abs().clamp(max=1)
    rotation2 = (mass * square).sum(-1)
    inner = (mass * pressure).sum(-1) / 3
    return Kinematics(
        kappa=(mass * (square + sigma2)).sum(-1) / energy,
        kappa_co=(mass * corotating).sum(-1) / energy,
        position_angle=torch.rad2deg(torch.atan2(axis[:, 1], axis[:, 0])) % 360,
        inclination=torch.rad2deg(torch.arccos(cosine)),
        sigma_over_v=(inner / rotation2).sqrt(),
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


def random_orientation(n, generator):
    """Draw isotropic directions of view.

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    `torch.Tensor`
        Rotation matrices, shape (n, 3, 3).
    """
    inclination = torch.arccos(torch.rand(n, generator=generator))
    turn = 2 * math.pi * torch.rand(n, 2, generator=generator)
    x = torch.tensor([1.0, 0, 0]).expand(n, 3)
    z = torch.tensor([0, 0, 1.0]).expand(n, 3)
    return (
        rotation_matrix(z, turn[:, 0])
        @ rotation_matrix(x, inclination)
        @ rotation_matrix(z, turn[:, 1])
    )
