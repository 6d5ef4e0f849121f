# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Recipe of galaxies of single stars that know their metals: population and stars.

What follows from the mass has the published scatter. A part of it follows in turn from
three properties of a galaxy that its stars show: how old it is for its mass, how slowly
its star formation faded, and how rich in metals it is. Older galaxies have larger
bulges and thick disks and are smaller (Shen et al. 2003; van der Wel et al. 2014, ApJ
788, 28), their halos are more concentrated (Wechsler et al. 2002, ApJ 568, 52); the
smaller are richer in metals (Barone et al. 2018, ApJ 856, 64). Most of the scatter of
sizes is not told by any of these (`SIZE_TRENDS`). The rest of the structure has little
scatter of its own (`UNEXPLAINED_SCATTER`), which is our choice: real galaxies have
more.

Gravity is that of the stars as they lie and of the dark halo, so that small galaxies of
a mass are faster. Disks are as hot as their height demands (isothermal sheets in the
field of bulge and halo), rotate slower than the circular speed by asymmetric drift, and
warm up with age. The bulge obeys the axisymmetric Jeans equations, the halo those of a
sphere. All stars are slower than the escape speed where they are.
"""

import math

import torch

from galml.mocks import dynamics
from galml.mocks import scaling_relations as relations
from galml.mocks.chemistry import (
    OLDEST,
    abundances,
    iron_gradient,
    mean_offset,
    stellar_age,
)
from galml.mocks.galaxy import GAS, HALO, SPHEROID, THICK, THIN, DustDisk, Galaxy
from galml.mocks.gas_disk import build_gas_disk, gas_parameters
from galml.mocks.profiles import (
    SPHEROID_EDGE,
    disk_mass,
    interpolate,
    radius_table,
    sersic_projected_mass,
    spheroid_mass,
    table_place,
)
from galml.physics.seeds import generator_for

__all__ = [
    "SIZE_TRENDS",
    "STAR_TABLE_POPULATION",
    "UNEXPLAINED_SCATTER",
    "build_star_galaxies",
    "disk_stars",
    "draw_star_galaxies",
    "escape_speed",
    "gravity",
    "halo_stars",
    "heating",
    "motion_tables",
    "spheroid_stars",
]

#: Name of the population, part of the identity of what is trained on it.
STAR_TABLE_POPULATION = "chemo-2"
#: Range of log10 of the stellar mass.
MASSES = (7.5, 11.2)
#: Correlation of the size at a given mass and share of the bulge with how old galaxies
#: are for their mass (of disks alone), and how rich in metals.
SIZE_TRENDS = (-0.3, -0.3)
#: Scatter (standard deviation) of the rest that no property of the stars at large
#: tells: log odds of the bulge, log10 of thick over thin disk, of the thickness, of the
#: halo's mass, and of the mass of the stellar halo.
UNEXPLAINED_SCATTER = {
    "bulge": 0.15,
    "thick": 0.05,
    "height": 0.03,
    "dark": 0.05,
    "halo": 0.10,
}
#: Golden ratio: steps of masses that fill their range evenly.
GOLDEN = 0.6180339887498949
#: Scale length of the thick disk in those of the thin (Bland-Hawthorn & Gerhard 2016,
#: ARA&A 54, 529).
THICK_LENGTH = 0.75
#: Dispersions grow as a power of age + 0.1 Gyr, radial and vertical ones, and are given
#: at 10 Gyr (Sharma et al. 2021, MNRAS 506, 1761).
RADIAL_POWER, VERTICAL_POWER = 0.251, 0.441
#: 1 - (tangential over radial dispersion)^2 of the stellar halo, and how far it
#: reaches in its scale radii.
HALO_ANISOTROPY, HALO_EDGE = 0.4, 20.0


def draw_star_galaxies(first, n, seed):
    """Draw the parameters of galaxies.

    Parameters
    ----------
    first : int
        Number of the first galaxy; each depends on its number and the seed alone.
    n : int
        How many.
    seed : int
        Seed of the population.

    Returns
    -------
    dict of str to `torch.Tensor`
        Of shape (n,) unless stated, lengths in kpc:

        - ``log_mass``: log10 of the stellar mass, even from 7.5 to 11.2;
          ``evolved``: 0 in dwarfs to 1 in giants;
        - ``age_residual``, ``timescale_residual``, ``metallicity_residual``: standard
          normal numbers, how old a galaxy is for its mass, how slowly its star
          formation faded, and how rich in metals it is;
        - ``fraction``, ``component_age``, ``age_shape`` (n, 4): by component, share
          of the mass, median age (Gyr), and shape of
          `~galml.mocks.chemistry.stellar_age`;
        - ``iron``: [Fe/H] that the galaxy now forms, ``iron_gradient``: dex per
          scale length;
        - ``size``: half-mass radius face-on, ``disk_length``, ``disk_height`` (over
          the length, of sech^2 and stars of 10 Gyr), ``thick_height``: height of the
          thick disk over that, ``inside_out``: share of the length that stars lose in
          8 Gyr of age;
        - ``spheroid_radius``, ``sersic_index``, ``flattening``, ``anisotropy``,
          ``rotation``: of the bulge, see `~galml.mocks.draw_stars`; ``halo_scale``: of
          the stellar halo;
        - ``dispersion_ratio``: vertical over radial, of disks of 10 Gyr;
        - ``dark_mass``: log10 of the halo's mass, ``dark_radius``: its scale radius,
          ``concentration``;
        - ``escape_speed``: from the center, in km/s; ``extent``: stars are nearer to
          the center than this;
        - ``dust_depth``, ``dust_length``, ``dust_height``: see
          `~galml.mocks.draw_stars`;
        - ``gas_mass`` (solar masses), ``gas_length``, ``gas_dispersion`` (km/s): of
          the cold gas.
    """
    index = torch.arange(first, first + n).double()
    generator = generator_for(seed, "masses of star galaxies")
    start = torch.rand(1, generator=generator).double()
    mass = MASSES[0] + (MASSES[1] - MASSES[0]) * ((start + GOLDEN * index) % 1).float()
    sources = [
        generator_for(seed, "parameters of a star galaxy", i)
        for i in range(first, first + n)
    ]
    draws = torch.stack([torch.randn(16, generator=g) for g in sources])
    draws = draws.clamp(-2.5, 2.5)
    old, slow, rich = draws[:, :3].unbind(1)
    own = zip(UNEXPLAINED_SCATTER.items(), draws[:, 4:9].T, strict=True)
    scatter = {key: width * draw for (key, width), draw in own}
    evolved = torch.sigmoid((mass - 9.5) / 0.4)
    p = {"log_mass": mass, "evolved": evolved}
    p["age_residual"], p["timescale_residual"] = old, slow
    p["metallicity_residual"] = rich
    p["fraction"] = _fractions(mass, old, scatter)
    p |= _history(mass, old, slow)
    p |= _structure(p, draws[:, 3], scatter)
    p |= _dark_halo(mass, old, scatter)
    p["escape_speed"] = dynamics.escape_speed2(gravity(p)[1])[:, 0].sqrt()
    p["extent"] = torch.maximum(
        HALO_EDGE * p["halo_scale"], SPHEROID_EDGE * p["spheroid_radius"]
    )
    p["iron_gradient"] = iron_gradient(evolved)
    # Giants are measured by all metals, dwarfs by iron.
    target = relations.mass_metallicity(mass) + 0.11 * rich + 0.03 * old
    alpha = 0.02 + 0.11 * torch.sigmoid((mass - 9.1) / 0.2)
    p["iron"] = target - alpha - mean_offset(p, p["fraction"])
    # Dust goes with metals and recent star formation.
    p["dust_depth"] = 1.2 * evolved * torch.exp(-0.4 * old)
    p["dust_length"] = 1.2 * p["disk_length"]
    p["dust_height"] = 0.15 * p["disk_height"] * p["disk_length"]
    # Galaxies that are old for their mass have used up their gas.
    gas = relations.gas_mass(mass) - 0.5 * old + 0.25 * draws[:, 9]
    return p | gas_parameters(gas, p["disk_length"], draws[:, 10:12].T)


def _fractions(mass, old, scatter):
    """Find the shares of thin disk, thick disk, spheroid and halo in the mass."""
    # Spheroids have half of the mass at 1e11 solar masses (Moffett et al. 2016, MNRAS
    # 462, 4336).
    bulge = torch.sigmoid(1.8 * (mass - 11) + 0.8 * old + scatter["bulge"])
    # Mergers build halos: one or two hundredths, more in giants.
    halo = 0.012 * 10 ** (0.2 * (mass - 9.5) + 0.05 * old + scatter["halo"])
    ratio = relations.thick_to_thin(mass) * 10 ** (0.12 * old + scatter["thick"])
    disk = 1 - bulge - halo
    thick = disk * ratio / (1 + ratio)
    return torch.stack([disk - thick, thick, bulge, halo], 1)


def _history(mass, old, slow):
    """Find the distributions of age of the components."""
    one = torch.ones_like(old)
    # Downsizing, where Gallazzi et al. (2005) see it.
    early = torch.sigmoid((mass - 10.2) / 0.35)
    share = torch.stack(
        [0.23 + 0.27 * early, 0.52 + 0.23 * early, 0.75 * one, 0.82 * one], 1
    )
    pull = old[:, None] * torch.tensor([0.42, 0.25, 0.25, 0.1])
    shape = torch.stack([1.6 * torch.exp(0.3 * slow), 3 * one, 2.5 * one, 3 * one], 1)
    age = OLDEST * torch.sigmoid(torch.logit(share) + pull)
    return {"component_age": age, "age_shape": shape}


def _structure(p, own, scatter):
    """Find lengths and shapes of the components; ``own`` is the size's own scatter."""
    mass, old, evolved = p["log_mass"], p["age_residual"], p["evolved"]
    share = p["fraction"][:, 2]
    # Galaxies of mostly bulge have the sizes of early types.
    early = torch.sigmoid((share - 0.5) / 0.06)
    late, round_ = (
        relations.half_light_radius(mass, early=which) for which in (False, True)
    )
    mean = torch.lerp(late, round_, early)
    by_age, by_metals = SIZE_TRENDS[0] * (1 - early), SIZE_TRENDS[1]
    rest = (1 - by_age**2 - by_metals**2).sqrt() * own
    rest = rest + by_age * old + by_metals * p["metallicity_residual"]
    size = 10 ** (mean + relations.size_scatter(mass) * rest)
    # Bulges are as large for their mass as early types, and a fifth of the disk at
    # least (MacArthur, Courteau & Holtzman 2003, ApJ 582, 689).
    bulge = relations.half_light_radius(mass + share.log10(), early=True) - mean
    bulge = (10**bulge).clamp(0.15, 1)
    giant = torch.sigmoid((mass - 10.6) / 0.25)
    index = ((1.3 + 2.2 * giant) * torch.exp(0.15 * old)).clamp(0.8, 4.5)
    length = size / _half_mass(p["fraction"], bulge, index)
    flattening = torch.full_like(mass, 0.65)
    # Dwarfs are puffy.
    height = 0.24 + 0.8 * (1 - evolved)
    return {
        "size": size,
        "disk_length": length,
        "disk_height": height * torch.exp(0.12 * old) * 10 ** scatter["height"],
        "thick_height": 1.3 + 0.9 * evolved,
        "inside_out": 0.3 * evolved,
        "spheroid_radius": bulge * size,
        "sersic_index": index,
        "flattening": flattening,
        "anisotropy": 0.4 * (1 - flattening),
        # Giants rotate slowly (Cappellari 2016, ARA&A 54, 597).
        "rotation": 0.8 - 0.5 * torch.sigmoid((mass - 10.8) / 0.15),
        "halo_scale": size,
        "dispersion_ratio": 0.52 + 0.1 * (1 - evolved),
    }


def _half_mass(fraction, bulge, index):
    """Find the half-mass radius in scale lengths of the thin disk."""
    radius = torch.logspace(-1, 1, 256)[None]
    size = 1.6 * torch.ones(len(fraction), 1)
    for _ in range(4):
        spheroid = sersic_projected_mass(
            radius / (bulge[:, None] * size), index[:, None]
        )
        # A Hernquist halo has half of its mass inside 1.8 of its scales, projected.
        halo = radius**2 / (radius**2 + (1.8 * size) ** 2)
        disks = [disk_mass(radius), disk_mass(radius / THICK_LENGTH)]
        parts = torch.broadcast_tensors(*disks, spheroid, halo)
        inside = (torch.stack(parts, -1) * fraction[:, None]).sum(-1)
        place = (inside < 0.5).sum(1, keepdim=True)
        size = radius.expand_as(inside).gather(1, place)
    return size[:, 0]


def _dark_halo(mass, old, scatter):
    """Find the dark halos of Navarro, Frenk & White (1997)."""
    dark = relations.halo_mass(mass) + scatter["dark"]
    concentration = 10 ** (relations.concentration(dark) + 0.05 * old)
    return {
        "dark_mass": dark,
        "concentration": concentration,
        "dark_radius": relations.virial_radius(dark) / concentration,
    }


def build_star_galaxies(p, n_stars, *, seed, first=0, n_gas=None):
    """Turn parameters into single stars, face-on: the spin is along +z.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, as `draw_star_galaxies` returns them.
    n_stars : int
        Stars of each galaxy, all of one mass, in random order.
    seed : int
        Seed of the population.
    first : int
        Number of the first galaxy; the stars of each depend on its number, the seed
        and their number alone.
    n_gas : int, optional
        Number of particles of gas; 0 for none. By default a quarter of the stars.

    Returns
    -------
    `~galml.mocks.Galaxy`
        Particles that are single stars, without dispersion, which know [Fe/H] and
        [O/Fe]; and a disk of gas.

    Examples
    --------
    >>> from galml.mocks import build_star_galaxies, draw_star_galaxies
    >>> p = draw_star_galaxies(0, 2, seed=1)
    >>> galaxy = build_star_galaxies(p, 1000, seed=1)
    >>> galaxy.stars.fe_h.shape, galaxy.gas.mass.shape
    (torch.Size([2, 1000]), torch.Size([2, 250]))
    """
    numbers = range(first, first + len(p["log_mass"]))
    sources = [generator_for(seed, "stars of a star galaxy", i) for i in numbers]
    even = torch.stack([torch.rand(5, n_stars, generator=g) for g in sources], 1)
    noise = torch.stack([torch.randn(6, n_stars, generator=g) for g in sources], 1)
    even = even.clamp(1e-6, 1 - 1e-6)
    edges = p["fraction"].cumsum(1)[:, None, :3]
    component = (even[0, ..., None] > edges).sum(-1)
    age = stellar_age(
        even[1],
        p["component_age"].gather(1, component),
        p["age_shape"].gather(1, component),
    )
    field = gravity(p)
    parts = _bound_stars(p, field, component, age, even[2:], noise[:3], sources)
    own = {
        key: p[key][:, None] for key in ("log_mass", "evolved", "iron", "iron_gradient")
    }
    radius = parts[0] / p["disk_length"][:, None]
    metals, fe_h, o_fe = abundances(own, component, age, radius, noise[3:])
    radius, azimuth, z, v_r, v_phi, v_z = parts
    cosine, sine = azimuth.cos(), azimuth.sin()
    mass = 10 ** p["log_mass"] / n_stars
    particles = {
        "position": torch.stack([radius * cosine, radius * sine, z], -1),
        "velocity": torch.stack(
            [v_r * cosine - v_phi * sine, v_r * sine + v_phi * cosine, v_z], -1
        ),
        "mass": mass[:, None].expand_as(radius),
        "dispersion": torch.zeros(()).expand_as(radius),
        "component": component.to(torch.int8),
    }
    n_gas = n_stars // 4 if n_gas is None else n_gas
    if n_gas:
        shift = torch.stack([torch.rand(2, generator=g) for g in sources])
        gas = build_gas_disk(p, field[1:], _surface(p, field[0]), n_gas, shift)
        gas = dict(
            zip(("position", "velocity", "mass", "dispersion"), gas[:4], strict=True)
        )
        gas["component"] = torch.full_like(gas["mass"], GAS, dtype=torch.int8)
        particles = {
            key: torch.cat([value, gas[key]], 1) for key, value in particles.items()
        }
    dust = DustDisk(p["dust_depth"], p["dust_length"], p["dust_height"])
    return Galaxy(
        **particles, age=age, metallicity=metals, fe_h=fe_h, o_fe=o_fe, dust=(dust,)
    )


def _bound_stars(p, field, component, age, even, noise, sources):
    """Place stars, and draw motions anew until all are bound; shape (6, n, stars)."""
    n, n_stars = component.shape
    tables = motion_tables(p, field)
    limit = dynamics.escape_speed2(field[1])[..., None]
    row = torch.arange(n).repeat_interleave(n_stars)
    component, age = component.flatten(), age.flatten()
    even, noise = even.flatten(1), noise.flatten(1)
    parts = _stars(p, row, component, age, even, noise, tables)
    free = _unbound(p, row, parts, limit)
    while len(free):
        counts = torch.bincount(row[free], minlength=n).tolist()
        noise = [
            torch.randn(3, count, generator=g)
            for count, g in zip(counts, sources, strict=True)
        ]
        few = _stars(
            p,
            row[free],
            component[free],
            age[free],
            even[:, free],
            torch.cat(noise, 1),
            tables,
        )
        parts[:, free] = few
        free = free[_unbound(p, row[free], few, limit)]
    return parts.reshape(6, n, n_stars)


def _unbound(p, row, parts, limit):
    """Find the stars that are faster than the escape speed, as their numbers."""
    speed2 = (parts[3:] ** 2).sum(0)
    # Those slower than what it takes from the edge need no second look.
    fast = (speed2 >= limit[:, -1, 0][row]).nonzero()[:, 0]
    few = row[fast]
    far = torch.hypot(parts[0, fast], parts[2, fast])
    place = dynamics.grid_place(far, p["size"][few])
    return fast[speed2[fast] >= interpolate(limit, few, place)[:, 0]]


def _stars(p, row, component, age, u, noise, tables):
    """Draw stars of all components; see `disk_stars`."""
    parts = torch.empty(6, len(row))
    flat = (component == THIN) | (component == THICK)
    parts[:, flat] = disk_stars(
        p, row[flat], component[flat], age[flat], u[:, flat], noise[:, flat], tables
    )
    for part, stars in ((SPHEROID, spheroid_stars), (HALO, halo_stars)):
        own = component == part
        parts[:, own] = stars(p, row[own], u[:, own], noise[:, own], tables)
    return parts


def gravity(p):
    """Find the squared circular speed in the plane, of stars and dark halo.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, see `~galml.mocks.draw_star_galaxies`.

    Returns
    -------
    radius, total, smooth : `torch.Tensor`
        Shape (n, m): radii in kpc; squared speeds in (km/s)^2 of everything, and of
        all but the disks.
    """
    radius = dynamics.radius_grid(p["size"])
    thin, thick, spheroid, halo = (10 ** p["log_mass"] * p["fraction"].T)[..., None]
    length, scale = p["disk_length"][:, None], p["halo_scale"][:, None]
    disk = dynamics.disk_speed2(radius, thin, length)
    disk = disk + dynamics.disk_speed2(radius, thick, THICK_LENGTH * length)
    mass = spheroid * spheroid_mass(
        radius / p["spheroid_radius"][:, None], p["sersic_index"][:, None]
    )
    mass = mass + halo * (radius / (radius + scale)) ** 2
    share = dynamics.nfw_mass(radius / p["dark_radius"][:, None])
    whole = dynamics.nfw_mass(p["concentration"])[:, None]
    mass = mass + 10 ** p["dark_mass"][:, None] * share / whole
    smooth = dynamics.GRAVITY * mass / radius
    return radius, smooth + disk, smooth


def escape_speed(p, radius):
    """Find the speed that stars of galaxies must not reach.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies, see `~galml.mocks.draw_star_galaxies`.
    radius : `torch.Tensor`
        Shape (n, stars): distance from the center in kpc.

    Returns
    -------
    `torch.Tensor`
        Shape (n, stars), in km/s.
    """
    limit = dynamics.escape_speed2(gravity(p)[1])[..., None]
    row = torch.arange(len(radius))[:, None].expand_as(radius).flatten()
    place = dynamics.grid_place(radius.flatten(), p["size"][row])
    return interpolate(limit, row, place)[:, 0].sqrt().reshape(radius.shape)


def motion_tables(p, field):
    """Tabulate the motions in each component.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies.
    field : tuple of `torch.Tensor`
        What `gravity` gives.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``disk``: rotation, dispersions at 10 Gyr and squared circular speed, (2 n, m,
        5); ``spheroid``: see ``galml.mocks.dynamics.spheroid_motions``; ``halo``:
        radial dispersion, (n, m, 1).
    """
    grid, total, _ = field
    scale = p["halo_scale"][:, None]
    density = 1 / (grid * (grid + scale) ** 3)
    halo = dynamics.radial_dispersion2(total, density, grid, HALO_ANISOTROPY)
    return {
        "disk": _disk_table(p, field),
        "spheroid": dynamics.spheroid_motions(p, total),
        "halo": halo.sqrt()[..., None],
    }


def heating(age, power):
    """Find the dispersion of thin disk stars of an age over that at 10 Gyr."""
    return ((age + 0.1) / 10.1) ** power


def disk_stars(p, row, component, age, u, noise, tables):
    """Draw stars of thin and thick disks.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        Parameters of n galaxies.
    row, component : `torch.Tensor`
        Shape (N,), integer: galaxy and component of each star.
    age : `torch.Tensor`
        Shape (N,), in Gyr.
    u, noise : `torch.Tensor`
        Shape (3, N): even numbers between 0 and 1, and standard normal ones.
    tables : dict of str to `torch.Tensor`
        What `motion_tables` gives.

    Returns
    -------
    `torch.Tensor`
        Shape (6, N): R, azimuth and z, and the velocities along them.
    """
    thick = (component == THICK).long()
    # Young stars reach further (Frankel et al. 2019, ApJ 884, 99).
    late = (p["component_age"][row, 0] - age) / 8
    stretch = (1 + p["inside_out"][row] * late).clamp_min(0.4)
    length = p["disk_length"][row]
    length = length * torch.where(thick > 0, THICK_LENGTH, stretch)
    radius = interpolate(radius_table(), torch.zeros_like(row), table_place(u[0]))
    radius = radius[:, 0].exp() * length

    place = dynamics.grid_place(radius, p["size"][row])
    motions = interpolate(tables["disk"], 2 * row + thick, place)
    rotation, spread, total = motions[:, 0], motions[:, 1:4], motions[:, 4]
    thin = thick == 0
    radial = torch.where(thin, heating(age, RADIAL_POWER), 1)
    vertical = torch.where(thin, heating(age, VERTICAL_POWER), 1)
    # Asymmetric drift goes with the square of the dispersion.
    drift = total * (total / rotation**2 - 1) * radial**2
    rotation = total * (total + drift).rsqrt()
    height = p["disk_height"][row] * p["disk_length"][row]
    height = height * torch.where(thin, vertical**2, p["thick_height"][row])
    z = 0.5 * height * torch.logit(u[2])
    return torch.stack(
        [
            radius,
            2 * math.pi * u[1],
            z,
            radial * spread[:, 0] * noise[0],
            rotation + radial * spread[:, 1] * noise[1],
            vertical * spread[:, 2] * noise[2],
        ]
    )


def _disk_table(p, field):
    """Find rotation, dispersions at 10 Gyr, and squared circular speed, (2 n, m, 5)."""
    radius, total, smooth = field
    length = p["disk_length"][:, None]
    lengths = length, THICK_LENGTH * length
    surface = _surface(p, radius)
    height = p["disk_height"][:, None] * length
    heights = height, p["thick_height"][:, None] * height
    parts = [
        dynamics.disk_motions(
            radius, total, smooth, surface, own, high, p["dispersion_ratio"][:, None]
        )
        for own, high in zip(lengths, heights, strict=True)
    ]
    parts = [torch.cat([part, total[..., None]], -1) for part in parts]
    return torch.stack(parts, 1).flatten(0, 1)


def _surface(p, radius):
    """Sum the surface densities of the disks on the grid of radii, shape (n, m)."""
    mass = 10 ** p["log_mass"][:, None] * p["fraction"]
    length = p["disk_length"][:, None]
    return sum(
        mass[:, i : i + 1] * torch.exp(-radius / own) / (2 * math.pi * own**2)
        for i, own in enumerate((length, THICK_LENGTH * length))
    )


def spheroid_stars(p, row, u, noise, tables):
    """Draw stars of spheroids; see `disk_stars`."""
    index = p["sersic_index"]
    radius = interpolate(radius_table(index), row, table_place(u[0]))[:, 0].exp()
    cosine = 1 - 2 * u[2]
    plane = radius * (1 - cosine**2).sqrt()
    height = radius * cosine * p["flattening"][row]
    motions = dynamics.plane_values(tables["spheroid"], row, plane, height)
    rotation, spread = motions[:, 0], motions[:, 1:] * noise.T
    scale = p["spheroid_radius"][row]
    return torch.stack(
        [
            plane * scale,
            2 * math.pi * u[1],
            height * scale,
            spread[:, 0],
            rotation + spread[:, 1],
            spread[:, 2],
        ]
    )


def halo_stars(p, row, u, noise, tables):
    """Draw stars of halos of Hernquist (1990, ApJ 356, 359); see `disk_stars`."""
    scale = p["halo_scale"]
    reach = (u[0] * (HALO_EDGE / (1 + HALO_EDGE)) ** 2).sqrt()
    radius = reach / (1 - reach) * scale[row]
    place = dynamics.grid_place(radius, p["size"][row])
    sigma = interpolate(tables["halo"], row, place)[:, 0]
    across = math.sqrt(1 - HALO_ANISOTROPY) * sigma
    cosine = 1 - 2 * u[2]
    sine = (1 - cosine**2).sqrt()
    outward, polar = sigma * noise[0], across * noise[2]
    return torch.stack(
        [
            radius * sine,
            2 * math.pi * u[1],
            radius * cosine,
            outward * sine + polar * cosine,
            across * noise[1],
            outward * cosine - polar * sine,
        ]
    )
