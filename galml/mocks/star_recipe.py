# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The population of galaxies made of stars, named and versioned."""

import math

import torch

from galml.mocks.star_profiles import half_mass_radius

__all__ = ["STAR_POPULATION", "TYPES", "draw_stars"]

#: Name and version of the recipe that `draw_stars` follows.
STAR_POPULATION = "stars-1"

#: Kinds of galaxies, as ``type`` counts them.
TYPES = (
    "slow elliptical",
    "fast elliptical",
    "lenticular",
    "early spiral",
    "late spiral",
    "dwarf",
)
SHARES = (0.07, 0.14, 0.23, 0.27, 0.24, 0.05)

MAX_CLUMPS = 48


def draw_stars(n, generator, types=None):
    """Draw the parameters of galaxies from the population.

    Parameters
    ----------
    n : int
        Number of galaxies.
    generator : `torch.Generator`
        Source of all randomness.
    types : `torch.Tensor`, optional
        Shape (n,), integer: the kinds of the galaxies, indices into ``TYPES``. Drawn
        by default.

    Returns
    -------
    dict of str to `torch.Tensor`
        Each of shape (n,):

        - ``type``: index into ``TYPES``;
        - ``stellar_mass``: in solar masses; ``dark_fraction``: of the halo in the
          mass inside ``size``;
        - ``size``: radius of half the stellar mass face-on, in kpc, along the major
          axis; ``spheroid_radius`` (effective radius) and ``disk_length`` (scale
          length), in kpc, follow from it;
        - ``bulge_fraction``: of the spheroid in the stellar mass; ``sersic_index``,
          ``flattening`` (z over x), ``elongation`` (y over x) of the spheroid;
          ``anisotropy`` (1 - sigma_z^2 / sigma_R^2) and ``rotation`` (1 for an
          isotropic rotator where anisotropy is 0) of its motions;
        - ``disk_height``: scale height z0 of sech^2(z / z0) of the thin disk over
          its length; ``thick_fraction``: of the thick disk in thin and thick disks,
          ``thick_height``: its height over that of the thin disk;
          ``dispersion_ratio``: sigma_z over sigma_R of disks;
        - ``young_fraction``: of stars younger than 0.5 Gyr in the disks;
        - ``bar_fraction``: in the disks, ``bar_length``: semi-major axis in scale
          lengths, ``bar_ratio``: axis ratio;
        - ``counter_fraction``: of a counter-rotating disk in the stellar mass,
          ``counter_length``: its scale length in kpc;
        - ``arm_strength`` (contrast, 0 to 1), ``arm_number``, ``arm_winding``
          (cotangent of the pitch angle), ``arm_phase`` (radians);
        - ``clump_fraction``: of the young stars, ``clump_number``, ``clump_size``:
          in scale lengths;
        - ``lopsidedness``: shift of the outer parts, in scale lengths,
          ``lopsided_angle`` (radians);
        - ``spheroid_age``, ``disk_age`` (Gyr), ``age_gradient``: change of log age
          per dex in radius; ``metallicity``: mass fraction at ``size``,
          ``metallicity_gradient``: change of its logarithm per dex;
        - ``dust_depth``: central V optical depth face-on, ``dust_length``,
          ``dust_height``: kpc.
    """

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    def normal(center, spread):
        return center + spread * torch.randn(n, generator=generator)

    if types is None:
        weights = torch.tensor(SHARES)
        types = torch.multinomial(weights, n, replacement=True, generator=generator)

    def by(*values):
        return torch.tensor(values, dtype=torch.float32)[types]

    def sometimes(probability, values):
        chosen = torch.rand(n, generator=generator) < probability
        return torch.where(chosen, values, torch.zeros(n))

    mass = normal(
        by(11.2, 10.65, 10.55, 10.5, 10.0, 9.0), by(0.3, 0.4, 0.4, 0.4, 0.4, 0.3)
    )
    mass = mass.clamp(8.3, 11.9)
    p = {"type": types, "stellar_mass": 10**mass}
    p["size"] = _size(mass, types, generator)
    p["dark_fraction"] = uniform(
        by(0.05, 0.05, 0.1, 0.15, 0.15, 0.3), by(0.35, 0.3, 0.4, 0.55, 0.55, 0.7)
    )
    p["bulge_fraction"] = uniform(
        by(1, 0.6, 0.1, 0.15, 0.06, 0.2), by(1, 1, 0.75, 0.6, 0.33, 0.7)
    )
    p["sersic_index"] = normal(
        by(4.5, 3.5, 2.3, 2.0, 1.3, 1.0), by(1, 1, 0.9, 0.8, 0.4, 0.3)
    ).clamp(0.6, 6)
    p["flattening"] = normal(
        by(0.78, 0.7, 0.5, 0.6, 0.6, 0.5), by(0.12, 0.15, 0.15, 0.15, 0.15, 0.15)
    ).clamp(by(0.5, 0.4, 0.25, 0.25, 0.25, 0.25), torch.ones(n))
    p["elongation"] = uniform(
        by(0.85, 0.97, 0.95, 0.9, 0.9, 0.7), by(1.0, 1, 1, 1, 1, 1)
    )
    p["anisotropy"] = (1 - p["flattening"]) * uniform(0.2, 0.8)
    p["rotation"] = normal(
        by(0, 0.7, 0.85, 0.8, 0.8, 0.4), by(0.25, 0.3, 0.3, 0.3, 0.3, 0.3)
    ).clamp(-0.5, 1.2)
    p["disk_height"] = torch.exp(
        uniform(
            by(-1.4, -1.8, -2.1, -2.2, -1.9, -1.2),
            by(-0.7, -0.8, -0.75, -0.4, -0.1, -0.2),
        )
    )
    p["thick_fraction"] = uniform(
        by(0.2, 0.1, 0.05, 0.0, 0.1, 0.3), by(0.6, 0.6, 0.8, 0.6, 0.7, 0.8)
    )
    p["thick_height"] = uniform(1.7, 3)
    p["dispersion_ratio"] = uniform(0.55, by(0.85, 0.85, 0.8, 0.9, 0.9, 0.9))
    young = torch.exp(normal(0, 0.6)) * by(0, 0, 0.001, 0.02, 0.05, 0.06)
    p["young_fraction"] = young.clamp(max=0.2)
    p["bar_fraction"] = sometimes(by(0, 0, 0.3, 0.4, 0.35, 0.2), uniform(0.05, 0.25))
    p["bar_length"] = uniform(0.7, 1.6)
    p["bar_ratio"] = uniform(0.25, 0.6)
    p.update(_substructure(by, uniform, sometimes))

    # Sizes of the parts in proportion, then all scaled to the size of the whole.
    ratio = torch.exp(normal(by(0.0, 0.0, -1.2, -2.0, -2.1, -0.2), 0.35)).clamp(0.06, 2)
    length = half_mass_radius(
        p["bulge_fraction"], 1.678 * ratio, p["sersic_index"], torch.ones(n)
    )
    p["disk_length"] = p["size"] / length
    p["spheroid_radius"] = 1.678 * ratio * p["disk_length"]
    core = types <= 1
    p["counter_length"] = torch.where(
        core, uniform(0.05, 0.25) * p["size"], uniform(0.4, 1.1) * p["disk_length"]
    )
    p.update(_ages(mass, by, uniform, normal))
    p["dust_depth"] = torch.exp(normal(0, 0.5)) * by(0.03, 0.08, 0.2, 0.5, 0.5, 0.2)
    p["dust_length"] = p["disk_length"] * uniform(0.9, 1.5)
    p["dust_height"] = 0.25 * p["disk_height"] * p["disk_length"]
    return p


def _size(mass, types, generator):
    """Half-light radii by mass, in kpc (Shen et al. 2003, MNRAS 343, 978)."""
    stars = 10**mass
    early = 2.88e-6 * stars**0.56
    late = 0.1 * stars**0.14 * (1 + stars / 3.98e10) ** 0.25
    spread = 0.34 + 0.13 / (1 + (stars / 3.98e10) ** 2)
    # Relations of circularised radii; early ones hold above 10^10 solar masses.
    size = torch.where(types <= 2, early.maximum(0.6 * late), late)
    scatter = 0.8 * spread * torch.randn(len(mass), generator=generator)
    return 1.15 * size * torch.exp(scatter)


def _substructure(by, uniform, sometimes):
    """Arms, clumps, counter-rotating and lopsided parts."""
    arms = uniform(0.35, 1.0)
    counter = sometimes(
        by(0.25, 0.06, 0.1, 0.02, 0.0, 0.0),
        uniform(by(0.03, 0.03, 0.1, 0.1, 0, 0), by(0.2, 0.2, 0.5, 0.4, 0, 0)),
    )
    return {
        "arm_strength": sometimes(by(0, 0, 0.05, 0.85, 0.9, 0.2), arms),
        "arm_number": torch.floor(uniform(1.7, 4.3)).clamp(max=4),
        "arm_winding": uniform(by(3, 3, 3, 3, 2, 1.5), by(6, 6, 6, 6, 5, 4)),
        "arm_phase": uniform(0, 2 * math.pi),
        "counter_fraction": counter,
        "clump_fraction": uniform(
            by(0, 0, 0, 0.04, 0.08, 0.15), by(0, 0, 0.1, 0.25, 0.35, 0.5)
        ),
        "clump_number": uniform(10, MAX_CLUMPS),
        "clump_size": uniform(0.02, 0.06),
        "lopsidedness": sometimes(by(0.05, 0.05, 0.1, 0.25, 0.4, 0.5), uniform(0, 0.5)),
        "lopsided_angle": uniform(0, 2 * math.pi),
    }


def _ages(mass, by, uniform, normal):
    """Ages, and metallicities by mass (Gallazzi et al. 2005, MNRAS 362, 41)."""
    solar = -0.62 + 0.76 * torch.sigmoid((mass - 10.08) / 0.25)
    old = torch.exp(normal(0, 0.2)) * by(10.5, 9.5, 8.5, 8, 7, 4)
    disk = torch.exp(normal(0, 0.25)) * by(9, 8, 7, 5, 4, 2.5)
    return {
        "spheroid_age": old.clamp(1.5, 13),
        "disk_age": disk.clamp(0.8, 12),
        "age_gradient": normal(by(0, 0, -0.05, -0.2, -0.2, 0), 0.08),
        "metallicity": 0.0142 * 10 ** normal(solar, 0.12),
        "metallicity_gradient": normal(by(-0.2, -0.25, -0.2, -0.2, -0.15, -0.05), 0.1),
    }
