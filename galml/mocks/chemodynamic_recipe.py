# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How galaxies with chemo-dynamical stars are drawn: mass, history, and what follows.

What follows from the mass has the published scatter. Most of it follows in turn from
three properties of a galaxy that its stars show: how old it is for its mass, how slowly
its star formation faded, and how rich in metals it is. Older galaxies have larger
bulges and thick disks and are smaller (Shen et al. 2003; van der Wel et al. 2014, ApJ
788, 28), their halos are more concentrated (Wechsler et al. 2002, ApJ 568, 52); the
smaller are richer in metals (Barone et al. 2018, ApJ 856, 64). That these trends are
as tight as here is our choice: the scatter that no property of the stars at large
tells is `HIDDEN`, and real galaxies have more of it.
"""

import torch

from galml.mocks import scaling_relations as relations
from galml.mocks.chemistry import OLDEST, gradient, mean_offset
from galml.mocks.star_profiles import disk_mass, sersic_projected_mass

__all__ = ["HIDDEN", "STAR_TABLE_POPULATION", "draw_star_galaxies"]

#: Name of the population, part of the identity of what is trained on it.
STAR_TABLE_POPULATION = "chemo-1"
#: Range of log10 of the stellar mass.
MASSES = (7.5, 11.2)
#: Hidden scatter (standard deviation): log10 of size, log odds of the bulge, log10 of
#: thick over thin disk, of the thickness, of the halo's mass, and of the mass of the
#: stellar halo.
HIDDEN = {
    "size": 0.04,
    "bulge": 0.15,
    "thick": 0.05,
    "height": 0.03,
    "dark": 0.05,
    "halo": 0.10,
}
#: Golden ratio: steps of masses that fill their range evenly.
GOLDEN = 0.6180339887498949
#: Scale length of the thick disk in those of the thin (Bovy et al. 2012, ApJ 753, 148).
THICK_LENGTH = 0.75


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
        - ``oldness``, ``fading``, ``richness``: standard normal numbers, the residuals
          that stars show;
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
        - ``dust_depth``, ``dust_length``, ``dust_height``: see
          `~galml.mocks.draw_stars`.
    """
    index = torch.arange(first, first + n).double()
    start = torch.rand(1, generator=torch.Generator().manual_seed(seed)).double()
    mass = MASSES[0] + (MASSES[1] - MASSES[0]) * ((start + GOLDEN * index) % 1).float()
    draws = torch.stack(
        [
            torch.randn(16, generator=galaxy_generator(i, seed, use=0))
            for i in range(first, first + n)
        ]
    ).clamp(-2.5, 2.5)
    old, fading, rich = draws[:, :3].unbind(1)
    hidden = {
        key: width * draws[:, 3 + i] for i, (key, width) in enumerate(HIDDEN.items())
    }
    evolved = torch.sigmoid((mass - 9.5) / 0.4)
    p = {"log_mass": mass, "evolved": evolved}
    p |= {"oldness": old, "fading": fading, "richness": rich}
    p["fraction"] = _fractions(mass, old, hidden)
    p |= _history(mass, old, fading)
    p |= _structure(p, hidden)
    p |= _dark_halo(mass, old, hidden)
    p["iron_gradient"] = gradient(evolved)
    # Giants are measured by all metals, dwarfs by iron.
    target = relations.mass_metallicity(mass) + 0.11 * rich + 0.03 * old
    alpha = 0.02 + 0.11 * torch.sigmoid((mass - 9.1) / 0.2)
    p["iron"] = target - alpha - mean_offset(p, p["fraction"])
    # Dust goes with metals and recent star formation.
    p["dust_depth"] = 1.2 * evolved * torch.exp(-0.4 * old)
    p["dust_length"] = 1.2 * p["disk_length"]
    p["dust_height"] = 0.15 * p["disk_height"] * p["disk_length"]
    return p


def galaxy_generator(index, seed, use):
    """Give the source of randomness of one galaxy for one use."""
    return torch.Generator().manual_seed((seed * 1_000_003 + index) * 4 + use)


def _fractions(mass, old, hidden):
    """Shares of thin disk, thick disk, bulge and halo in the mass."""
    bulge = torch.sigmoid(-1.3 + 1.7 * (mass - 10.7) + 0.5 * old + hidden["bulge"])
    # Mergers build halos: one or two hundredths, more in giants.
    halo = 0.012 * 10 ** (0.2 * (mass - 9.5) + 0.05 * old + hidden["halo"])
    ratio = relations.thick_to_thin(mass) * 10 ** (0.12 * old + hidden["thick"])
    disk = 1 - bulge - halo
    thick = disk * ratio / (1 + ratio)
    return torch.stack([disk - thick, thick, bulge, halo], 1)


def _history(mass, old, fading):
    """Distributions of age of the components."""
    one = torch.ones_like(old)
    # Downsizing, where Gallazzi et al. (2005) see it.
    early = torch.sigmoid((mass - 10.2) / 0.35)
    share = torch.stack(
        [0.23 + 0.27 * early, 0.52 + 0.23 * early, 0.75 * one, 0.82 * one], 1
    )
    pull = old[:, None] * torch.tensor([0.42, 0.25, 0.25, 0.1])
    shape = torch.stack([1.6 * torch.exp(0.3 * fading), 3 * one, 2.5 * one, 3 * one], 1)
    age = OLDEST * torch.sigmoid(torch.logit(share) + pull)
    return {"component_age": age, "age_shape": shape}


def _structure(p, hidden):
    """Lengths and shapes of the components."""
    mass, old, evolved = p["log_mass"], p["oldness"], p["evolved"]
    size = relations.half_light_radius(mass) + 0.02 * p["fading"] + hidden["size"]
    # The older, the closer to early types.
    size = size - (0.10 + 0.03 * evolved) * old
    size = size - (0.13 - 0.03 * evolved) * p["richness"]
    size = 10**size
    index = 2 + 0.5 * old
    bulge = 0.26 * torch.exp(0.25 * old)
    length = size / _half_mass(p["fraction"], bulge, index)
    flattening = torch.full_like(mass, 0.65)
    # Dwarfs are puffy.
    height = 0.24 + 0.8 * (1 - evolved)
    return {
        "size": size,
        "disk_length": length,
        "disk_height": height * torch.exp(0.12 * old) * 10 ** hidden["height"],
        "thick_height": 1.3 + 0.9 * evolved,
        "inside_out": 0.3 * evolved,
        "spheroid_radius": bulge * size,
        "sersic_index": index.clamp(0.8, 3.5),
        "flattening": flattening,
        "anisotropy": 0.4 * (1 - flattening),
        "rotation": torch.full_like(mass, 0.75),
        "halo_scale": size,
        "dispersion_ratio": 0.55 + 0.1 * (1 - evolved),
    }


def _half_mass(fraction, bulge, index):
    """Half-mass radius in scale lengths of the thin disk."""
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


def _dark_halo(mass, old, hidden):
    """Halos of Navarro, Frenk & White (1997)."""
    dark = relations.halo_mass(mass) + hidden["dark"]
    concentration = 10 ** (relations.concentration(dark) + 0.05 * old)
    return {
        "dark_mass": dark,
        "concentration": concentration,
        "dark_radius": relations.virial_radius(dark) / concentration,
    }
