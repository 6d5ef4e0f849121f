# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Starlight of distant galaxies in the bands of Hubble and Webb.

The table holds absolute AB magnitudes of the same stellar populations as
`galml.mocks.light`, at redshifts of 0.5 to 3: with the gas that young stars ionize, and
without what hydrogen between the galaxies takes (Madau 1995, ApJ 441, 18), which
matters in F606W beyond redshift 2.8 alone. ``benchmarks/make_stellar_light.py --deep``
makes it. Interpolation between redshifts stays within 0.05 mag (rms) of the models.
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from astropy.cosmology import Planck18
from astropy.table import Table

from galml.core.exceptions import InputError
from galml.mocks.light import SLOPE, SURVIVING, _between, depth_before_stars
from galml.physics.bands import AB_ZERO, PIVOT_WAVELENGTHS

__all__ = ["DEEP_BANDS", "deep_starlight"]

#: Bands of the table.
DEEP_BANDS = ("F606W", "F814W", "F125W", "F160W", "F200W")


def deep_starlight(galaxy, bands, redshift, depth=None):
    """Find the light of distant stars that arrives through the galaxy's dust.

    Parameters
    ----------
    galaxy : `~galml.mocks.Galaxy`
        n galaxies, turned as they are seen.
    bands : sequence of str
        Bands out of `DEEP_BANDS`, as they are observed.
    redshift : `torch.Tensor`
        Shape (n,): at which the galaxies are seen, from 0.5 to 3.
    depth : `torch.Tensor`, optional
        Shape (n, s): that of `~galml.mocks.light.depth_before_stars`, where it is
        already known.

    Returns
    -------
    `torch.Tensor`
        Shape (n, s, bands) for s particles of stars: flux density in nJy over the
        square of the luminosity distance in units of 10 pc, that is the flux of an
        absolute magnitude.

    Raises
    ------
    galml.core.InputError
        If a band is unknown, a redshift is outside of 0.5 to 3, or there are no stars.

    Notes
    -----
    Stars that are older than the universe was at the redshift (Planck 2018 cosmology)
    have its age. Linear in the logarithms of luminosity, age and metallicity, and in
    redshift.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import build_stars, deep_starlight, draw_stars
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> deep_starlight(galaxy, ("F160W",), torch.tensor([1.5, 2.0])).shape
    torch.Size([2, 4000, 1])
    """
    unknown = set(bands) - set(DEEP_BANDS)
    if unknown:
        expected = f"bands out of {', '.join(DEEP_BANDS)}"
        raise InputError("bands", sorted(unknown), expected)
    redshifts, ages, metallicities, table = _table()
    ends = redshifts[0].item(), redshifts[-1].item()
    if not ((redshift >= ends[0]) & (redshift <= ends[1])).all():
        raise InputError("redshift", redshift.tolist(), f"{ends[0]:g} to {ends[1]:g}")
    stars = galaxy.stars
    depth = depth_before_stars(galaxy) if depth is None else depth
    table = table[:, [DEEP_BANDS.index(band) for band in bands]].to(stars.age.dtype)
    low, part = _between(redshift.to(table.dtype), redshifts)
    table = torch.lerp(table[low], table[low + 1], part[:, None, None, None])
    oldest = torch.from_numpy(Planck18.age(redshift.double().numpy()).value)
    age = stars.age.minimum(oldest.to(stars.age.dtype)[:, None])
    # Places in the table, from -1 at its first node to 1 at its last.
    place = [
        2 * torch.stack(_between(value.log(), grid)).sum(0) / (len(grid) - 1) - 1
        for value, grid in ((age, ages), (stars.metallicity, metallicities))
    ]
    place = torch.stack(place, -1)[:, None]
    light = F.grid_sample(table, place, align_corners=True)[:, :, 0].mT.exp()
    light *= (stars.mass / SURVIVING)[..., None]
    rest = [PIVOT_WAVELENGTHS[band] / 0.55 for band in bands]
    ratio = (torch.tensor(rest) / (1 + redshift)[:, None]) ** SLOPE
    return light * torch.exp(-ratio[:, None] * depth[..., None])


@cache
def _table():
    """Read redshifts, logarithms of ages and metallicities, and of light in nJy."""
    path = resources.files("galml") / "data" / "deep_light.ecsv"
    table = Table.read(path.read_text(encoding="utf-8"), format="ascii.ecsv")
    nodes = [np.unique(table[name]) for name in ("redshift", "metallicity", "age")]
    magnitudes = np.stack([table[band] for band in DEEP_BANDS], -1)
    light = np.log(AB_ZERO) - 0.4 * np.log(10) * magnitudes
    light = light.reshape(*map(len, nodes), len(DEEP_BANDS)).transpose(0, 3, 1, 2)
    redshifts, metallicities, ages = nodes
    nodes = redshifts, np.log(ages), np.log(metallicities), light
    return tuple(torch.from_numpy(np.ascontiguousarray(node)) for node in nodes)
