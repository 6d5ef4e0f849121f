# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Starlight by age and metallicity.

The table holds absolute AB magnitudes per solar mass formed, of simple stellar
populations of Bruzual & Charlot (2003), MNRAS 344, 1000, in their 2016 version with
the MILES library and a Kroupa (2001) initial mass function, integrated over the
filters of SDSS (ugriz) and of ACS (F606W and F814W). Stars alone shine in it: neither
gas nor dust.

Interpolation in the logarithms of age and metallicity stays within 0.03 mag (rms) of
the models along the age axis, and within 0.1 mag (rms, old and metal-poor stars are
worst) along the metallicity axis. Models of different authors differ by more: about
0.05 mag in g - r and 0.2 mag in the mass-to-light ratio of old stars, twice that
between 10 Myr and 1 Gyr (Conroy 2013, ARA&A 51, 393).
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
from astropy.table import Table

from galml.core.exceptions import InputError

__all__ = ["AB_ZERO", "BANDS", "SOLAR_MAGNITUDES", "WAVELENGTHS", "luminosity"]

BANDS = ("u", "g", "r", "i", "z", "F606W", "F814W")
#: Flux density of AB magnitude 0 in nJy (Oke & Gunn 1983, ApJ 266, 713).
AB_ZERO = 3631e9
#: Absolute AB magnitudes of the Sun (Willmer 2018, ApJS 236, 47).
SOLAR_MAGNITUDES = {
    "u": 6.39,
    "g": 5.11,
    "r": 4.65,
    "i": 4.53,
    "z": 4.50,
    "F606W": 4.72,
    "F814W": 4.52,
}
#: Pivot wavelengths of the bands, in micrometers.
WAVELENGTHS = {
    "u": 0.356,
    "g": 0.470,
    "r": 0.617,
    "i": 0.749,
    "z": 0.895,
    "F606W": 0.592,
    "F814W": 0.804,
}


def luminosity(age, metallicity, bands=BANDS):
    """Give the light of stars per unit of mass that they formed with.

    Parameters
    ----------
    age : `torch.Tensor`
        In Gyr; outside of 0.001 to 13.7 Gyr the nearest age in the table counts.
    metallicity : `torch.Tensor`
        Mass fraction of metals, of a shape that broadcasts with age; outside of
        0.0004 to 0.05 the nearest metallicity in the table counts.
    bands : sequence of str
        Bands out of `BANDS`.

    Returns
    -------
    `torch.Tensor`
        Shape (..., bands): luminosity per solar mass formed, in units of the Sun's in
        the same band.

    Raises
    ------
    galml.core.InputError
        If a band is unknown.

    Notes
    -----
    Bilinear in the logarithms of luminosity, age and metallicity.
    """
    unknown = set(bands) - set(BANDS)
    if unknown:
        raise InputError("bands", sorted(unknown), f"bands out of {', '.join(BANDS)}")
    ages, metallicities, table = _table()
    table = table[..., [BANDS.index(band) for band in bands]].to(age.dtype)
    age, metallicity = torch.broadcast_tensors(age, metallicity)
    old, older = _bracket(age, ages)
    rich, richer = _bracket(metallicity, metallicities)
    rows = table.flatten(0, 1)
    first = rich * len(ages) + old
    poor = torch.lerp(rows[first], rows[first + 1], older[..., None])
    first = first + len(ages)
    wealthy = torch.lerp(rows[first], rows[first + 1], older[..., None])
    return torch.lerp(poor, wealthy, richer[..., None]).exp_()


def _bracket(value, grid):
    """Index of the node below each value, and how far it is to the next."""
    logarithm = value.clamp(grid[0].exp().item(), grid[-1].exp().item()).log()
    grid = grid.to(logarithm.dtype)
    index = torch.bucketize(logarithm, grid[1:-1])
    low = grid[index]
    return index, (logarithm - low) / (grid[index + 1] - low)


@cache
def _table():
    """Logarithms of ages, of metallicities and of luminosities (Z, age, band)."""
    path = resources.files("galml") / "data" / "stellar_light.ecsv"
    table = Table.read(path.read_text(encoding="utf-8"), format="ascii.ecsv")
    ages, metallicities = np.unique(table["age"]), np.unique(table["metallicity"])
    solar = np.array(list(SOLAR_MAGNITUDES.values()))
    magnitudes = np.stack([table[band] for band in BANDS], -1)
    light = 0.4 * np.log(10) * (solar - magnitudes)
    light = light.reshape(len(metallicities), len(ages), len(BANDS))
    nodes = np.log(ages), np.log(metallicities), light
    return tuple(torch.from_numpy(np.asarray(node)) for node in nodes)
