# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies that meet: their gravity, their orbits, and particles that follow them."""

import math
from dataclasses import dataclass

import torch

from galml.core.exceptions import InputError
from galml.mocks.galaxy import Batch

__all__ = [
    "KPC_PER_GYR",
    "STEP",
    "Gravity",
    "Orbit",
    "approach",
    "blurred",
    "follow",
    "move_particles",
    "spherical_gravity",
]

#: What a km/s moves in a Gyr, in kpc.
KPC_PER_GYR = 1.0227122
#: Time between two places of a particle, in Gyr; orbits take `SUBSTEPS` steps in it.
STEP = 0.002
SUBSTEPS = 2
#: Radii of the tables of gravity, in scale radii.
GRID = (3e-3, 1e3)
N_GRID = 1024
#: Largest product of frequency and step: nearer to a center gravity grows no more.
LIMIT = 1.2
#: What belongs to a galaxy feels its friction inside so many scale radii, or less where
#: another one is near.
BOUND = 4.0


@dataclass
class Gravity(Batch):
    """Spherical gravity of g galaxies in each of n encounters.

    Parameters
    ----------
    scale : `torch.Tensor`
        Shape (n, g): scale radii, in kpc.
    speed2 : `torch.Tensor`
        Shape (n, g, m): squared circular speeds in (km/s)^2, on m radii that are even
        in the logarithm from 0.003 to 1000 scale radii; see `spherical_gravity`.
    """

    scale: torch.Tensor
    speed2: torch.Tensor

    def __post_init__(self):
        shape = (*self.scale.shape, N_GRID)
        if tuple(self.speed2.shape) != shape:
            got = f"an array of shape {tuple(self.speed2.shape)}"
            raise InputError("speed2", got, f"shape {shape}")
        self.speed2 = self.speed2.double()
        self.scale = self.scale.double()

    @property
    def radius(self):
        """Radii of the table in kpc, shape (n, g, m)."""
        return grid(dtype=self.scale.dtype) * self.scale[..., None]

    @property
    def weight(self):
        """Mass times the constant of gravity, in kpc (km/s)^2, shape (n, g)."""
        return self.speed2[..., -1] * self.radius[..., -1]

    def tabulate(self):
        """List what orbits need at the radii: pull over distance, potential, slope.

        Returns
        -------
        `torch.Tensor`
            Shape (4, n, g, m): squared speed over squared radius in (km/s/kpc)^2, up
            to what a step resolves; squared speed and potential, zero at infinity, in
            (km/s)^2; logarithmic slope of the mass inside.
        """
        radius, step = self.radius, math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
        pull = (self.speed2 / radius**2).clamp(max=limit())
        speed2 = pull * radius**2
        layer = (speed2[..., 1:] + speed2[..., :-1]) / 2 * step
        # Beyond the table, all the mass is inside.
        above = layer.flip(-1).cumsum(-1).flip(-1)
        above = torch.nn.functional.pad(above, (0, 1)) + speed2[..., -1:]
        slope = 1 + torch.gradient(speed2.log(), spacing=step, dim=-1)[0]
        return torch.stack([pull, speed2, -above, slope.clamp(0, 3)])

    def at(self, table, distance):
        """Interpolate a table at distances.

        Parameters
        ----------
        table : `torch.Tensor`
            Shape (..., n, g, m), see `tabulate`.
        distance : `torch.Tensor`
            Shape (n, g), in kpc.

        Returns
        -------
        `torch.Tensor`
            Shape (..., n, g).
        """
        low, part = grid_place(distance / self.scale)
        low = low.expand(table.shape[:-1])[..., None]
        near, far = table.gather(-1, low), table.gather(-1, low + 1)
        return torch.lerp(near, far, part[..., None].expand_as(near))[..., 0]


def grid(dtype=torch.float64):
    """Lay out the radii of the tables, in scale radii."""
    return torch.logspace(*map(math.log10, GRID), N_GRID, dtype=dtype)


def limit():
    """Give the largest squared frequency that a step resolves, in (km/s/kpc)^2."""
    return (LIMIT / (STEP * KPC_PER_GYR)) ** 2


def grid_place(radius):
    """Find the node below radii, in scale radii, and how far it is to the next."""
    low = math.log(GRID[0])
    step = (math.log(GRID[1]) - low) / (N_GRID - 1)
    place = ((radius.clamp_min(1e-9).log() - low) / step).clamp(0, N_GRID - 1.001)
    return place.long(), place.frac()


def spherical_gravity(scale, speed2):
    """Take gravity from a rotation curve.

    Parameters
    ----------
    scale : `torch.Tensor`
        Shape (n, g): scale radii, in kpc.
    speed2 : callable
        Gives squared circular speeds in (km/s)^2 at radii in kpc, of shape (n, g, m).

    Returns
    -------
    `Gravity`
        The galaxies.

    Examples
    --------
    A point mass of 10^11 solar masses, softened by 1 kpc:

    >>> import torch
    >>> from galml.mocks.merger_dynamics import spherical_gravity
    >>> gravity = spherical_gravity(
    ...     torch.ones(1, 1), lambda r: 4.30091e5 * r**2 / (r**2 + 1) ** 1.5
    ... )
    >>> round(float(gravity.weight / 4.30091e-6 / 1e11), 3)
    1.0
    """
    scale = scale.double()
    return Gravity(scale, speed2(grid() * scale[..., None]))


def approach(gravity, pericenter, eccentricity, distance):
    """Set two galaxies on their way to each other.

    Parameters
    ----------
    gravity : `Gravity`
        Of two galaxies each.
    pericenter : `torch.Tensor`
        Shape (n,): smallest distance that they would have without friction, in kpc.
    eccentricity : `torch.Tensor`
        Shape (n,): (Q - q) / (Q + q) for the pericenter q and the largest distance Q,
        from 0 to 1; 1 is a parabola, without energy.
    distance : `torch.Tensor`
        Shape (n,): at which they start, in kpc; where it is larger than Q, at Q.

    Returns
    -------
    position, velocity : `torch.Tensor`
        Shape (n, 2, 3), in kpc and km/s, about the center of mass. The orbit lies in
        z = 0 and turns about +z; the second galaxy starts on the side of +x.
    """
    table = gravity.tabulate()[2]

    def energy(radius):
        return gravity.at(table, blurred(gravity.scale.flip(1), radius[:, None])).sum(1)

    near = pericenter.double()
    ratio = eccentricity.double().clamp(max=1 - 1e-9)
    far = near * (1 + ratio) / (1 - ratio)
    far_energy = torch.where(eccentricity < 1, energy(far), 0.0)
    momentum2 = 2 * (far_energy - energy(near)) / (near**-2 - far**-2)
    total = energy(near) + momentum2 / near**2 / 2
    start = distance.double().minimum(far)
    around = momentum2.sqrt() / start
    inwards = (2 * (total - energy(start)) - around**2).clamp_min(0).sqrt()
    zero = torch.zeros_like(start)
    place = torch.stack([start, zero, zero], -1)
    motion = torch.stack([-inwards, around, zero], -1)
    share = gravity.weight / gravity.weight.sum(1, keepdim=True)
    share = torch.stack([-share[:, 1], share[:, 0]], 1)[..., None]
    return share * place[:, None], share * motion[:, None]


def blurred(scale, distance):
    """Find the distance at which a galaxy feels another, as it has an extent itself.

    Parameters
    ----------
    scale, distance : `torch.Tensor`
        Scale radius of the galaxy and its distance from the other, in kpc.

    Returns
    -------
    `torch.Tensor`
        Larger than the distance; what is a function of it is conservative.
    """
    return torch.hypot(distance, scale)


@dataclass
class Orbit:
    """Places of g galaxies in n encounters, a `STEP` after each other.

    Attributes
    ----------
    position, velocity : `torch.Tensor`
        Shape (t, n, g, 3), in kpc and km/s.
    friction : `torch.Tensor`
        Shape (t, n, g, 3): what dynamical friction changes the velocities by, in
        (km/s)^2 / kpc.
    """

    position: torch.Tensor
    velocity: torch.Tensor
    friction: torch.Tensor

    @property
    def separation(self):
        """Distance of the first two galaxies in kpc, shape (t, n)."""
        apart = self.position[:, :, 1] - self.position[:, :, 0]
        return torch.linalg.vector_norm(apart, dim=-1)

    def first_passage(self):
        """Find the step at which the first two are nearest for the first time, (n,)."""
        distance = self.separation
        turned = distance.diff(dim=0) > 0
        # An orbit that starts at its largest distance has not turned yet.
        return turned.int().argmax(0)

    def coalescence(self, reach):
        """Find the step after which the first two stay closer than ``reach``, (n,).

        That of the end where they do not.
        """
        apart = self.separation > reach
        last = len(apart) - 1 - apart.flip(0).int().argmax(0)
        return torch.where(apart.any(0), last + 1, 0).clamp(max=len(apart) - 1)


def follow(gravity, position, velocity, n_steps, *, friction=True):
    r"""Follow galaxies that fall towards each other.

    Parameters
    ----------
    gravity : `Gravity`
        Of g galaxies each.
    position, velocity : `torch.Tensor`
        Shape (n, g, 3), in kpc and km/s.
    n_steps : int
        Number of times `STEP`.
    friction : bool
        Whether halos slow each other down.

    Returns
    -------
    `Orbit`
        At n_steps + 1 times.

    Notes
    -----
    A galaxy is drawn by the mass of the others inside its distance from them, softened
    by its own scale radius, as what is near its center does not follow alone. Friction
    is that of Chandrasekhar (1943), ApJ 97, 255, as in Binney & Tremaine (2008),
    equation 8.7, for a halo with the dispersion
    :math:`v_\mathrm{c} / \sqrt 2`, with what of the galaxy is inside its distance from
    the halo, and :math:`\ln \Lambda = \ln(1 + M_\mathrm{halo} / M)` as in
    Boylan-Kolchin, Ma & Quataert (2008), MNRAS 383, 93. Each of two galaxies slows the
    other down, and they share the loss by their masses. The relative energy and the
    angular momentum of two galaxies without friction do not change.
    """
    n, g = gravity.scale.shape
    # Of each galaxy, the others, all at once.
    one = torch.arange(g).repeat_interleave(g - 1)
    other = [j for i in range(g) for j in range(g) if i != j]
    other = torch.tensor(other, dtype=torch.long)
    turned = (other * (g - 1) + one - (one > other).long()).tolist()
    pull_, speed2_, _, slope_ = gravity.tabulate()
    halos = torch.stack([table[:, other] for table in (pull_, speed2_, slope_)])
    own = Gravity(gravity.scale[:, one], speed2_[:, one])
    halo = Gravity(gravity.scale[:, other], speed2_[:, other])
    logarithm = torch.log1p(halo.weight / own.weight.clamp_min(1e-9))
    share = halo.weight / (halo.weight + own.weight)
    half = STEP / SUBSTEPS / 2 * KPC_PER_GYR
    x, v = position.double().clone(), velocity.double().clone()

    def accelerate():
        apart, motion = x[:, other] - x[:, one], v[:, one] - v[:, other]
        distance = torch.linalg.vector_norm(apart, dim=-1)
        distance = blurred(own.scale, distance)
        strength, speed2, slope = halo.at(halos, distance).unbind(0)
        pull = strength[..., None] * apart
        if friction:
            inside2 = own.at(own.speed2, distance)
            fast = torch.linalg.vector_norm(motion, dim=-1).clamp_min(1e-3)
            ratio = fast / speed2.clamp_min(1e-9).sqrt()
            slower = torch.erf(ratio)
            slower -= 2 / math.sqrt(math.pi) * ratio * torch.exp(-(ratio**2))
            density = speed2 * slope / distance
            lost = logarithm * slower * density * inside2 / fast**3
            # No step turns a motion around.
            # That of both, by turns: what one loses is given to the other.
            lost = share * (lost + lost[:, turned]).clamp(max=0.1 / half)
            drag = -lost[..., None] * motion
        else:
            drag = torch.zeros_like(pull)
        return (value.unflatten(1, (g, g - 1)).sum(2) for value in (pull, drag))

    places, motions, drags = [x.clone()], [v.clone()], []
    pull, drag = accelerate()
    for _ in range(n_steps):
        drags.append(drag.clone())
        for _ in range(SUBSTEPS):
            v += half * (pull + drag)
            x += 2 * half * v
            pull, drag = accelerate()
            v += half * (pull + drag)
        places.append(x.clone())
        motions.append(v.clone())
    drags.append(drag)
    return Orbit(*map(torch.stack, (places, motions, drags)))


def move_particles(gravity, orbit, blocks, position, velocity, stops, sink=None):
    """Move particles through the gravity of galaxies on their orbits.

    Parameters
    ----------
    gravity : `Gravity`
        Of g galaxies each.
    orbit : `Orbit`
        Their places; the particles start with the first.
    blocks : sequence of slice
        The particles of each galaxy, which its friction acts on, too.
    position, velocity : `torch.Tensor`
        Shape (n, p, 3), in kpc and km/s.
    stops : `torch.Tensor`
        Shape (n, k), integer, rising: the steps of the orbit to stop at.
    sink : tuple, optional
        Of gas that falls to the centers: a boolean tensor of shape (n, p), and the rate
        at which it loses its motion relative to its galaxy at each step, in 1/Gyr, of
        shape (t, n).

    Returns
    -------
    position, velocity : `torch.Tensor`
        Shape (n, k, p, 3).

    Notes
    -----
    Leapfrog with a fixed step. Particles have no weight.
    """
    order = stops[:, -1].argsort(descending=True)
    gravity, stops, last = gravity[order], stops[order], int(stops.max())
    table = gravity.tabulate()[0].float()
    table = torch.stack([table[..., :-1], table.diff(dim=-1)], -1)
    n, p = position.shape[:2]
    # Coordinates are rows: sums over them are then fast.
    x = position[order].float().transpose(1, 2).contiguous()
    v = velocity[order].float().transpose(1, 2).contiguous()
    falling = [False] * (last + 2)
    if sink is not None:
        falls, falling = sink[0][order].float()[:, None], sink[1].any(1).tolist()
    found = torch.zeros(2, n, stops.shape[1], 3, p)
    half = STEP / 2 * KPC_PER_GYR
    places, motions, drags = (
        value[:, order].float()
        for value in (orbit.position, orbit.velocity, orbit.friction)
    )
    scale = gravity.scale.float()
    reach = _bound_radius(places, scale)

    def accelerate(step, rows):
        total = torch.zeros_like(x[:rows])
        for i, block in enumerate(blocks):
            apart = x[:rows] - places[step, :rows, i, :, None]
            distance2 = apart.square().sum(1)
            total -= _pull(table[:rows, i], distance2, scale[:rows, i])[:, None] * apart
            near = torch.exp(-distance2[:, block] / reach[step, :rows, i, None] ** 2)
            total[..., block] += drags[step, :rows, i, :, None] * near[:, None]
            if falling[step]:
                rate = sink[1][step, order[:rows]] / KPC_PER_GYR
                rate = rate[:, None, None] * falls[:rows, :, block]
                slip = v[:rows, :, block] - motions[step, :rows, i, :, None]
                total[..., block] -= rate * slip
        return total

    pull = accelerate(0, n)
    for step in range(last + 1):
        rows, which = (stops == step).nonzero().unbind(1)
        found[0, rows, which], found[1, rows, which] = x[rows], v[rows]
        rows = int((stops[:, -1] > step).sum())
        if rows == 0:
            break
        v[:rows] += half * pull[:rows]
        x[:rows] += 2 * half * v[:rows]
        pull = accelerate(step + 1, rows)
        v[:rows] += half * pull
    back = order.argsort()
    return tuple(found[:, back].transpose(-1, -2))


def _bound_radius(places, scale):
    """Find how far galaxies hold what belongs to them, in kpc, shape (t, n, g)."""
    own = BOUND * scale
    if scale.shape[1] == 1:
        return own.expand(places.shape[:-1])
    apart = torch.cdist(places, places)
    apart = apart + torch.diag(torch.full((scale.shape[1],), math.inf))
    return 1 / (1 / own + 1 / apart.amin(-1).clamp_min(1e-3))


def _pull(table, distance2, scale):
    """Interpolate the pull over distance, (n, p), of one galaxy each."""
    low, step = math.log(GRID[0]), math.log(GRID[1] / GRID[0]) / (N_GRID - 1)
    start = (low + scale.log())[:, None] / step
    place = distance2.clamp_min(1e-12).log_().mul_(0.5 / step).sub_(start)
    place = place.clamp_(0, N_GRID - 1.001)
    index = place.to(torch.int32)
    part = place.sub_(index)
    index = index.long()
    value = table[..., 0].gather(1, index)
    return value.addcmul_(table[..., 1].gather(1, index), part)
