# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What photometric bands are called, and where they lie in the spectrum."""

import re

from galml.core.exceptions import InputError
from galml.physics import PIVOT_WAVELENGTHS as MOCK_WAVELENGTHS

__all__ = ["WAVELENGTHS", "wavelengths"]

#: Pivot wavelengths in micron.
WAVELENGTHS = MOCK_WAVELENGTHS | {
    "y": 0.971,
    "B": 0.437,
    "V": 0.550,
    "R": 0.650,
    "I": 0.802,
    "VIS": 0.715,
    "F435W": 0.433,
    "F475W": 0.475,
    "F555W": 0.536,
    "F625W": 0.631,
    "F775W": 0.769,
    "F850LP": 0.904,
}


def wavelengths(bands):
    """Pivot wavelengths of bands by their names.

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
    galml.core.InputError
        If a band is unknown, or given twice.
    """
    if len(set(bands)) != len(bands):
        raise InputError("bands", list(bands), "each band once")
    return tuple(_wavelength(band) for band in bands)


def _wavelength(band):
    words = re.findall(r"[A-Za-z0-9]+", str(band)) or [""]
    word = words[-1]
    word = word if len(word) == 1 else word.upper()
    if word not in WAVELENGTHS:
        raise InputError("bands", repr(band), f"one of {sorted(WAVELENGTHS)}")
    return WAVELENGTHS[word]
