# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Ages and abundances of stars, by component, age and place.

Iron follows the time at which a star formed and the radius where it is: young stars
are richer, inner ones too (-0.06 dex/kpc for the scale length of the Milky Way,
Anders et al. 2017, A&A 600, A70, shallower in old stars and dwarfs). Oxygen over iron
lies on two sequences (Bensby, Feltzing & Oey 2014, A&A 562, A71): thick disk,
spheroid and halo on a plateau of 0.56 dex that falls beyond a knee, the thin disk
lower. The knee is at lower [Fe/H] in galaxies of lower mass (Tolstoy, Hill & Tosi 2009,
ARA&A 47, 371). Around all of these there is scatter, so that no axis follows from
others.
"""

import torch
from torch.nn.functional import softplus

from galml.mocks.galaxy import THIN
from galml.physics.stars import SOLAR_METALLICITY

__all__ = [
    "OLDEST",
    "abundances",
    "abundances_by_age",
    "iron_offset",
    "metal_mass_fraction",
    "stellar_age",
]

#: Number of the parts of ``galml.mocks.COMPONENTS`` that are told apart here:
#: thin disk, thick disk, spheroid and halo.
N_COMPONENTS = 4
#: Ages lie between these, in Gyr.
YOUNGEST, OLDEST = 0.003, 13.5
#: Mass fraction of helium in the Sun (Asplund et al. 2009, ARA&A 47, 481).
HELIUM = 0.2485
#: Hydrogen without metals, and metals over hydrogen in the Sun, by mass.
HYDROGEN = 1 - HELIUM + 2.5 * SOLAR_METALLICITY - SOLAR_METALLICITY
SOLAR_RATIO = SOLAR_METALLICITY / (1 - HELIUM - SOLAR_METALLICITY)
#: Scale length of the Milky Way's disk in kpc (Bland-Hawthorn & Gerhard 2016, ARA&A
#: 54, 529), and the gradient of newborn stars at two of them in dex/kpc: a little
#: steeper than that of young stars over the whole disk.
LENGTH, GRADIENT = 2.6, -0.068
PLATEAU, DECLINE, KNEE_WIDTH = 0.56, 0.68, 0.12
#: Share of the metals' mass that goes with the alpha elements (Salaris, Chieffi &
#: Straniero 1993, ApJ 414, 580).
ALPHA_SHARE = 0.638
#: Scatter in dex of [Fe/H] by component (that of the thin disk grows with age), of
#: [O/Fe], and of the metal mass fraction at given [Fe/H] and [O/Fe].
IRON_SCATTER = (0.10, 0.16, 0.26, 0.35)
OXYGEN_SCATTER, METAL_SCATTER = 0.045, 0.03
#: [O/Fe] by age where no more is known: that of young and of old stars, the age between
#: the two in Gyr, and how wide the change is (Bensby et al. 2014).
YOUNG_OXYGEN, OLD_OXYGEN, OXYGEN_AGE, OXYGEN_WIDTH = -0.04, 0.40, 9.5, 1.0


def stellar_age(u, median, shape):
    """Draw ages from the distribution of Kumaraswamy (1980).

    Parameters
    ----------
    u : `torch.Tensor`
        Between 0 and 1: the share of the stars that are younger.
    median : `torch.Tensor`
        Median age in Gyr.
    shape : `torch.Tensor`
        Above 1: how smoothly star formation set in; at a given median, the larger,
        the broader towards young stars.

    Returns
    -------
    `torch.Tensor`
        Ages in Gyr, between 0.003 and 13.5.
    """
    power = torch.log1p(-(0.5 ** (1 / shape))) / torch.log(median / OLDEST)
    share = -torch.expm1(torch.log1p(-u) / shape)
    return YOUNGEST + (OLDEST - YOUNGEST) * share ** (1 / power)


def iron_offset(component, age, evolved):
    """Find [Fe/H] of stars of an age relative to what the galaxy now forms.

    Parameters
    ----------
    component : `torch.Tensor`
        Integer, index into the first four of ``galml.mocks.COMPONENTS``.
    age : `torch.Tensor`
        In Gyr.
    evolved : `torch.Tensor`
        0 for dwarfs, which enrich slowly, to 1 for giants.

    Returns
    -------
    `torch.Tensor`
        In dex.
    """
    thin = -(0.75 - 0.35 * evolved) * (age / OLDEST) ** 1.3
    thick = -0.3 - 0.11 * (age - 8)
    bulge = 0.05 - 0.05 * (age - 9)
    halo = -0.55 - 0.55 * evolved - 0.05 * (age - 11)
    return torch.stack([thin, thick, bulge, halo]).gather(0, component[None])[0]


def abundances(p, component, age, radius, noise):
    """Draw the metals of stars.

    Parameters
    ----------
    p : dict of str to `torch.Tensor`
        ``log_mass``, ``evolved``, ``iron`` ([Fe/H] that the galaxy now forms) and
        ``iron_gradient`` (dex per scale length) for each star.
    component : `torch.Tensor`
        Integer, index into the first four of ``galml.mocks.COMPONENTS``.
    age : `torch.Tensor`
        In Gyr.
    radius : `torch.Tensor`
        In scale lengths of the thin disk, in the plane.
    noise : `torch.Tensor`
        Shape (3, ...): standard normal numbers.

    Returns
    -------
    metals, fe_h, o_fe : `torch.Tensor`
        Mass fraction of metals, [Fe/H] and [O/Fe] in dex.
    """
    thin = component == THIN
    fe_h = p["iron"] + iron_offset(component, age, p["evolved"])
    slope = p["iron_gradient"] * (1 - 0.5 * age / OLDEST)
    # Far out, gradients flatten.
    reach = 2 + 3 * torch.tanh((radius - 2) / 3)
    fe_h = fe_h + torch.where(thin, slope * (reach - 2), 0)
    scatter = torch.tensor(IRON_SCATTER)[component] + 0.1 * thin * age / OLDEST
    fe_h = fe_h + scatter * noise[0]

    knee = torch.tensor([0.0, 0.0, 0.35, -0.4])[component]
    knee = knee - 0.7 + 0.31 * (p["log_mass"] - 10.7)
    high = PLATEAU - DECLINE * KNEE_WIDTH * softplus((fe_h - knee) / KNEE_WIDTH)
    low = -0.07 - 0.47 * (fe_h - p["iron"]) + 0.008 * (age - 5)
    o_fe = torch.where(thin, low, high) + OXYGEN_SCATTER * noise[1]
    return metal_mass_fraction(fe_h, o_fe, METAL_SCATTER * noise[2]), fe_h, o_fe


def metal_mass_fraction(fe_h, o_fe, offset=0.0):
    """Find the mass fraction of metals by [Fe/H] and [O/Fe] (Salaris et al. 1993).

    Parameters
    ----------
    fe_h, o_fe : `torch.Tensor`
        In dex; oxygen stands for the alpha elements.
    offset : `torch.Tensor` or float
        Other metals, in dex.

    Returns
    -------
    `torch.Tensor`
        Between 0 and 0.31.

    Notes
    -----
    [Fe/H] counts by hydrogen, of which there is less where there are more metals: with
    the helium that comes with them (1.5 times their mass), X = 0.772 - 2.5 Z.
    """
    ratio = SOLAR_RATIO * 10 ** (fe_h + offset) * _alpha(o_fe)
    return HYDROGEN * ratio / (1 + 2.5 * ratio)


def _alpha(o_fe):
    """Find the metals of a mixture over those of the Sun's at the same iron."""
    return ALPHA_SHARE * 10**o_fe + 1 - ALPHA_SHARE


def abundances_by_age(metals, age, noise):
    """Draw [Fe/H] and [O/Fe] of stars of which age and metals are known alone.

    Old stars have much oxygen, young ones as much as the Sun; iron is what is left of
    the metals: the inverse of `metal_mass_fraction`.

    Parameters
    ----------
    metals : `torch.Tensor`
        Mass fraction of metals, below 0.3.
    age : `torch.Tensor`
        In Gyr.
    noise : `torch.Tensor`
        Standard normal numbers.

    Returns
    -------
    fe_h, o_fe : `torch.Tensor`
        In dex.
    """
    share = torch.sigmoid((age - OXYGEN_AGE) / OXYGEN_WIDTH)
    o_fe = YOUNG_OXYGEN + (OLD_OXYGEN - YOUNG_OXYGEN) * share + OXYGEN_SCATTER * noise
    ratio = metals / (HYDROGEN - 2.5 * metals)
    return (ratio / SOLAR_RATIO / _alpha(o_fe)).log10(), o_fe


def iron_gradient(evolved):
    """Find the gradient of [Fe/H] of young stars in dex per scale length."""
    return GRADIENT * LENGTH * (0.3 + 0.7 * evolved)


def mean_offset(p, fraction, n_nodes=64):
    """Find the mean [Fe/H] of stars relative to what galaxies now form, shape (n,)."""
    u = ((torch.arange(n_nodes) + 0.5) / n_nodes)[:, None, None]
    age = stellar_age(u, p["component_age"], p["age_shape"])
    component = torch.arange(N_COMPONENTS).expand(age.shape)
    offset = iron_offset(component, age, p["evolved"][:, None])
    return (fraction * offset.mean(0)).sum(1)
