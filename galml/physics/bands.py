# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Photometric bands: what they are called, and where they lie in the spectrum."""

import math
import re

__all__ = [
    "AB_ZERO",
    "PIVOT_WAVELENGTHS",
    "SOLAR_MAGNITUDES",
    "nearest_band",
    "pivot_wavelengths",
]

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
#: Pivot wavelengths in micron.
PIVOT_WAVELENGTHS = {
    "u": 0.356,
    "g": 0.470,
    "r": 0.617,
    "i": 0.749,
    "z": 0.895,
    "y": 0.971,
    "B": 0.437,
    "V": 0.550,
    "R": 0.650,
    "I": 0.802,
    "VIS": 0.715,
    "F435W": 0.433,
    "F475W": 0.475,
    "F555W": 0.536,
    "F606W": 0.592,
    "F625W": 0.631,
    "F775W": 0.769,
    "F814W": 0.804,
    "F850LP": 0.904,
    "F125W": 1.249,
    "F160W": 1.537,
    "F200W": 1.990,
}


def pivot_wavelengths(bands):
    """Find the pivot wavelengths of bands by their names.

    Parameters
    ----------
    bands : sequence of str
        Such as ``("g", "r", "i")``, ``"SDSS_r"``, ``"ACS.F814W"``: the last word
        counts, where capitals matter for single letters only.

    Returns
    -------
    tuple of float
        In micron.

    Raises
    ------
    ValueError
        If a band is unknown, or given twice.

    Examples
    --------
    >>> from galml.physics import pivot_wavelengths
    >>> pivot_wavelengths(["g", "ACS.F814W"])
    (0.47, 0.804)
    """
    if len(set(bands)) != len(bands):
        raise ValueError(f"a band twice in {list(bands)}")
    return tuple(_wavelength(band) for band in bands)


def _wavelength(band):
    words = re.findall(r"[A-Za-z0-9]+", str(band)) or [""]
    word = words[-1]
    word = word if len(word) == 1 else word.upper()
    if word not in PIVOT_WAVELENGTHS:
        known = ", ".join(PIVOT_WAVELENGTHS)
        raise ValueError(f"the unknown band {str(band)!r}; known are {known}")
    return PIVOT_WAVELENGTHS[word]


def nearest_band(wavelengths, goal):
    """Find the band whose wavelength has the smallest ratio to the one wanted.

    Parameters
    ----------
    wavelengths : sequence of float
        Of each band, in micron.
    goal : float
        The wavelength that is wanted, in micron.

    Returns
    -------
    int
        Index into the wavelengths.
    """
    ratios = [abs(math.log(wavelength / goal)) for wavelength in wavelengths]
    return ratios.index(min(ratios))
