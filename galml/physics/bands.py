# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Photometric bands: what they are called, and where they lie in the spectrum."""

import math
import re

__all__ = [
    "AB_ZERO",
    "PIVOT_WAVELENGTHS",
    "SOLAR_MAGNITUDES",
    "band_name",
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
#: Pivot wavelengths in micron. Bands of SDSS and LSST; of Bessell; of Hubble (ACS where
#: it has the band, else WFC3, else WFPC2); of Webb (NIRCam); of Euclid (Schirmer et al.
#: 2022, A&A 662, A92); of Roman; of 2MASS (Cohen et al. 2003, AJ 126, 1090).
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
    "F225W": 0.237,
    "F275W": 0.271,
    "F336W": 0.335,
    "F390W": 0.392,
    "F438W": 0.433,
    "F098M": 0.986,
    "F105W": 1.055,
    "F110W": 1.153,
    "F140W": 1.392,
    "F255W": 0.260,
    "F300W": 0.299,
    "F439W": 0.431,
    "F450W": 0.456,
    "F622W": 0.619,
    "F675W": 0.672,
    "F702W": 0.692,
    "F791W": 0.788,
    "F070W": 0.705,
    "F090W": 0.902,
    "F115W": 1.154,
    "F150W": 1.501,
    "F150W2": 1.672,
    "F277W": 2.776,
    "F322W2": 3.247,
    "F356W": 3.565,
    "F410M": 4.083,
    "F444W": 4.402,
    "Y_E": 1.081,
    "J_E": 1.367,
    "H_E": 1.771,
    "F062": 0.628,
    "F087": 0.872,
    "F106": 1.062,
    "F129": 1.284,
    "F146": 1.434,
    "F158": 1.580,
    "F184": 1.838,
    "F213": 2.131,
    "J": 1.236,
    "H": 1.646,
    "Ks": 2.160,
}
#: Bands by their names as they are looked up: capitals matter for single letters only.
NAMES = {n if len(n) == 1 else n.upper(): n for n in PIVOT_WAVELENGTHS}
#: Words that stand behind a band and are none; those with digits are part numbers.
BESIDE = {"BAND", "CLEAR", "DECAM", "FILTER", "SDSS"}


def band_name(band):
    """Find the band that a header or a user means.

    Parameters
    ----------
    band : str
        Such as ``"SDSS_r"``, ``"ACS.F814W"``, ``"f200w"``, ``"i.MP9701"``, ``"NIR_Y"``:
        the last word counts that may be a band, where capitals matter for single
        letters only.

    Returns
    -------
    str or None
        Its name in `PIVOT_WAVELENGTHS`; None where there is none.

    Examples
    --------
    >>> from galml.physics import band_name
    >>> band_name("r DECam SDSS c0002"), band_name("f606w")
    ('r', 'F606W')
    """
    # Y, J and H of Euclid are other bands than those on the ground.
    text = re.sub(r"(NIR|NISP)[ _-]?([YJH])\b", r"\2_E", str(band), flags=re.I)
    for word in reversed(re.findall(r"[YJH]_E\b|[A-Z0-9]+", text, flags=re.I)):
        word = word if len(word) == 1 else word.upper()
        if word in NAMES:
            return NAMES[word]
        if word not in BESIDE and not re.search(r"\d", word):
            break
    return None


def pivot_wavelengths(bands):
    """Find the pivot wavelengths of bands by their names.

    Parameters
    ----------
    bands : sequence of str
        Names that `band_name` understands.

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
    names = [band_name(band) for band in bands]
    if None in names:
        band, known = bands[names.index(None)], ", ".join(PIVOT_WAVELENGTHS)
        raise ValueError(f"the unknown band {str(band)!r}; known are {known}")
    return tuple(PIVOT_WAVELENGTHS[name] for name in names)


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
