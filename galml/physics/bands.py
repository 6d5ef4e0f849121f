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
#: Pivot wavelengths of bands on the ground, of GALEX, WISE and Spitzer.
LETTERS = {
    "u": 0.356,
    "g": 0.470,
    "r": 0.617,
    "i": 0.749,
    "z": 0.895,
    "y": 0.971,
    "w": 0.608,
    "U": 0.360,
    "B": 0.437,
    "V": 0.550,
    "R": 0.650,
    "I": 0.802,
    "VR": 0.630,
    "Y": 0.990,
    "J": 1.236,
    "H": 1.646,
    "Ks": 2.160,
    "FUV": 0.154,
    "NUV": 0.230,
    "W1": 3.368,
    "W2": 4.618,
    "W3": 12.073,
    "W4": 22.194,
    "IRAC1": 3.550,
    "IRAC2": 4.493,
    "IRAC3": 5.731,
    "IRAC4": 7.872,
}
#: Of bands of space telescopes.
EUCLID = {
    "VIS": 0.715,
    "Y_E": 1.081,
    "J_E": 1.367,
    "H_E": 1.771,
}
ROMAN = {
    "F062": 0.628,
    "F087": 0.872,
    "F106": 1.062,
    "F129": 1.284,
    "F146": 1.434,
    "F158": 1.580,
    "F184": 1.838,
    "F213": 2.131,
}
HUBBLE = {
    # ACS.
    "F115LP": 0.141,
    "F122M": 0.127,
    "F125LP": 0.144,
    "F140LP": 0.153,
    "F150LP": 0.161,
    "F165LP": 0.176,
    "F220W": 0.226,
    "F250W": 0.272,
    "F330W": 0.336,
    "F344N": 0.343,
    "F435W": 0.433,
    "F475W": 0.475,
    "F502N": 0.502,
    "F550M": 0.558,
    "F555W": 0.536,
    "F606W": 0.592,
    "F625W": 0.631,
    "F658N": 0.658,
    "F660N": 0.660,
    "F775W": 0.769,
    "F814W": 0.804,
    "F850LP": 0.904,
    "F892N": 0.891,
    # WFC3.
    "F200LP": 0.497,
    "F218W": 0.223,
    "F225W": 0.237,
    "FQ232N": 0.233,
    "FQ243N": 0.242,
    "F275W": 0.271,
    "F280N": 0.280,
    "F300X": 0.282,
    "F336W": 0.335,
    "F343N": 0.344,
    "F350LP": 0.587,
    "F373N": 0.373,
    "FQ378N": 0.379,
    "FQ387N": 0.387,
    "F390M": 0.390,
    "F390W": 0.392,
    "F395N": 0.395,
    "UVIS_F410M": 0.411,
    "FQ422M": 0.422,
    "FQ436N": 0.437,
    "FQ437N": 0.437,
    "F438W": 0.433,
    "F467M": 0.468,
    "F469N": 0.469,
    "F475X": 0.494,
    "F487N": 0.487,
    "FQ492N": 0.493,
    "FQ508N": 0.509,
    "F547M": 0.545,
    "FQ575N": 0.576,
    "F600LP": 0.747,
    "FQ619N": 0.620,
    "F621M": 0.622,
    "F631N": 0.630,
    "FQ634N": 0.635,
    "F645N": 0.645,
    "F656N": 0.656,
    "F657N": 0.657,
    "F665N": 0.665,
    "FQ672N": 0.672,
    "F673N": 0.676,
    "FQ674N": 0.673,
    "F680N": 0.688,
    "F689M": 0.688,
    "FQ727N": 0.727,
    "FQ750N": 0.750,
    "F763M": 0.761,
    "F845M": 0.844,
    "FQ889N": 0.889,
    "FQ906N": 0.906,
    "FQ924N": 0.925,
    "FQ937N": 0.937,
    "F953N": 0.953,
    "F098M": 0.986,
    "F105W": 1.055,
    "F110W": 1.153,
    "F125W": 1.249,
    "F126N": 1.258,
    "F127M": 1.274,
    "F128N": 1.283,
    "F130N": 1.301,
    "F132N": 1.319,
    "F139M": 1.384,
    "F140W": 1.392,
    "F153M": 1.532,
    "F160W": 1.537,
    "HST_F164N": 1.645,
    "F167N": 1.667,
    # WFPC2.
    "F130LP": 0.268,
    "F160BW": 0.149,
    "F170W": 0.172,
    "F185W": 0.195,
    "F255W": 0.260,
    "F300W": 0.299,
    "F375N": 0.374,
    "F380W": 0.398,
    "F390N": 0.389,
    "F437N": 0.437,
    "F439W": 0.431,
    "F450W": 0.456,
    "F569W": 0.564,
    "F588N": 0.589,
    "F622W": 0.619,
    "F675W": 0.672,
    "F702W": 0.692,
    "F785LP": 0.871,
    "F791W": 0.788,
    "F1042M": 1.019,
    # NICMOS.
    "F090M": 0.904,
    "F095N": 0.954,
    "F097N": 0.972,
    "F108N": 1.082,
    "F110M": 1.103,
    "F113N": 1.130,
    "F145M": 1.455,
    "F165M": 1.648,
    "F166N": 1.661,
    "F170M": 1.706,
    "F171M": 1.721,
    "F180M": 1.797,
    "HST_F187N": 1.875,
    "F187W": 1.871,
    "F190N": 1.899,
    "F196N": 1.964,
    "F200N": 1.998,
    "F204M": 2.035,
    "F205W": 2.065,
    "F207M": 2.083,
    "HST_F212N": 2.121,
    "F215N": 2.149,
    "F216N": 2.164,
    "F222M": 2.218,
    "F237M": 2.369,
    "F240M": 2.396,
    # STIS with its CCD.
    "50CCD": 0.585,
    "F28X50LP": 0.723,
    "F28X50OII": 0.374,
    "F28X50OIII": 0.501,
    # STIS with its MAMAs, the near ultraviolet first.
    "25MAMA": 0.226,
    "F25CIII": 0.201,
    "F25CN182": 0.200,
    "F25CN270": 0.271,
    "F25MGII": 0.280,
    "F25QTZ": 0.236,
    "F25SRF2": 0.230,
    "F25LYA": 0.124,
    "FUV_25MAMA": 0.137,
    "FUV_F25QTZ": 0.160,
    "FUV_F25SRF2": 0.145,
    # Ramps, of ACS and then of WFPC2.
    "FR388N": 0.388,
    "FR423N": 0.423,
    "FR459M": 0.459,
    "FR462N": 0.462,
    "FR505N": 0.505,
    "FR551N": 0.551,
    "FR601N": 0.601,
    "FR647M": 0.647,
    "FR656N": 0.656,
    "FR716N": 0.716,
    "FR782N": 0.782,
    "FR853N": 0.853,
    "FR914M": 0.914,
    "FR931N": 0.931,
    "FR1016N": 1.016,
    "FR418N": 0.418,
    "FR533N": 0.533,
    "FR680N": 0.680,
    "FR868N": 0.868,
}
WEBB = {
    # NIRCam and NIRISS.
    "F070W": 0.705,
    "F090W": 0.902,
    "F115W": 1.154,
    "F140M": 1.405,
    "F150W": 1.501,
    "F150W2": 1.672,
    "F158M": 1.585,
    "F162M": 1.627,
    "F164N": 1.645,
    "F182M": 1.845,
    "F187N": 1.875,
    "F200W": 1.990,
    "F210M": 2.096,
    "F212N": 2.121,
    "F250M": 2.503,
    "F277W": 2.776,
    "F300M": 2.996,
    "F322W2": 3.247,
    "F323N": 3.237,
    "F335M": 3.362,
    "F356W": 3.565,
    "F360M": 3.623,
    "F380M": 3.828,
    "F405N": 4.055,
    "F410M": 4.083,
    "F430M": 4.281,
    "F444W": 4.402,
    "F460M": 4.630,
    "F466N": 4.654,
    "F470N": 4.707,
    "F480M": 4.817,
    # MIRI.
    "F560W": 5.635,
    "F770W": 7.639,
    "F1000W": 9.953,
    "F1065C": 10.563,
    "F1130W": 11.309,
    "F1140C": 11.310,
    "F1280W": 12.810,
    "F1500W": 15.064,
    "F1550C": 15.516,
    "F1800W": 17.984,
    "F2100W": 20.795,
    "F2300C": 22.640,
    "F2550W": 25.364,
}
#: Narrow and medium bands of DECam and HSC.
NARROW = {
    "M411": 0.414,
    "M438": 0.440,
    "M464": 0.465,
    "M490": 0.491,
    "M517": 0.517,
    "N419": 0.419,
    "N501": 0.501,
    "N540": 0.540,
    "N662": 0.662,
    "N673": 0.675,
    "N708": 0.708,
    "N964": 0.964,
    "NB0387": 0.387,
    "NB0400": 0.400,
    "NB0468": 0.468,
    "NB0515": 0.515,
    "NB0527": 0.527,
    "NB0656": 0.657,
    "NB0718": 0.717,
    "NB0816": 0.818,
    "NB0921": 0.921,
    "NB0926": 0.926,
    "NB0973": 0.971,
    "NB1010": 1.010,
    "IB0945": 0.945,
}
#: Pivot wavelengths in micron, by the filter's name.
#:
#: Letters: SDSS and LSST (u to y; those of other surveys lie within 5 % of them, and
#: within 8 % in u), Bessell (U to I), DECam (Y, VR), 2MASS (J, H, Ks; Cohen et al.
#: 2003, AJ 126, 1090), Pan-STARRS (w; Tonry et al. 2012, ApJ 750, 99), Euclid
#: (Schirmer et al. 2022, A&A 662, A92), GALEX (FUV, NUV), WISE (W1 to W4) and Spitzer
#: (its IRAC handbook). Hubble: the instrument handbooks of ACS, WFC3, WFPC2, NICMOS and
#: STIS, the first of them that has the filter; the others lie within 5 % of it, but for
#: the F410M of Hubble, which is another filter than that of Webb, and the F165LP of
#: WFPC2; ramps, which can be set to anything within 10 or 20 % of their middles, by
#: these. Webb: the transmissions of NIRCam, NIRISS and MIRI. Roman: the effective areas
#: of the WFI. Narrow bands of HSC and DECam: the wavelengths in their names, or
#: transmissions.
#:
#: Compared with pivots of the transmissions in pyphot 2.1.1 and sedpy 0.4.1, all that
#: these have are within 0.5 %, but for F218W (2 %) and F205W (1.6 %); those of WFC3
#: that pyphot has without the detector, within their band. Not compared with another
#: source: VR; w; IRAC; Euclid and Roman; ACS/SBC (F115LP to F165LP); F200LP, F350LP and
#: F600LP, which end with the detector; of WFPC2 F130LP, F160BW, F185W, F375N, F380W,
#: F390N, F437N, F569W, F588N, F702W, F785LP and F1042M; of NICMOS F090M, F095N, F097N,
#: F110M, F145M, F165M, F170M, F171M, F180M, F187W, F204M, F207M, F216N and F237M; STIS;
#: the coronagraphs of MIRI; and the narrow and medium bands of DECam and HSC.
PIVOT_WAVELENGTHS = LETTERS | EUCLID | ROMAN | HUBBLE | WEBB | NARROW
#: Other names, such as the small letters of 2MASS and Roman's letters with a number.
ALIASES = {
    "G": "g",
    "Z": "z",
    "j": "J",
    "h": "H",
    "k": "Ks",
    "K": "Ks",
    "I_E": "VIS",
    "R062": "F062",
    "Z087": "F087",
    "Y106": "F106",
    "J129": "F129",
    "W146": "F146",
    "H158": "F158",
    "K213": "F213",
    "F2550WR": "F2550W",
    # The primes of SDSS and Sloan-like filters, as files name them.
    **{f"{letter}P".upper(): letter for letter in "ugri"},
    "ZP": "z",
    "ZS": "z",
    # Narrow bands of HSC, as papers write them.
    **{
        name.replace("B0", "B"): name
        for name in PIVOT_WAVELENGTHS
        if name.startswith(("NB0", "IB0"))
    },
}
#: Bands by their names as they are looked up: capitals matter for single letters only.
NAMES = {n if len(n) == 1 else n.upper(): n for n in PIVOT_WAVELENGTHS} | ALIASES
#: Words that stand behind a band and are none; those with digits are part numbers.
BESIDE = {
    *("BAND", "CLEAR", "DECAM", "FILTER", "SDSS"),
    *("BESSEL", "BESSELL", "COUSINS"),
}
#: Bands of an instrument that another has by the same name: how they are written
#: together, and what is then meant. Hubble and Webb have narrow bands in common. Y, J
#: and H of Euclid are not those on the ground, and surveys in u to y write them with
#: capitals, which are others' bands.
OF_INSTRUMENTS = (
    (r"\b(?:NIR|NISP|EUCLID)[ _-]*([YJH])\b", lambda found: f"{found[1]}_E"),
    (r"(?:WFC3|UVIS|WFPC2).*F410M\b", lambda found: "UVIS_F410M"),
    (
        r"(?:HST|WFC3|NICMOS).*(F164N|F187N|F212N)\b",
        lambda found: f"HST_{found[1].upper()}",
    ),
    (
        r"\bFUV.*\b(25MAMA|F25QTZ|F25SRF2)\b",
        lambda found: f"FUV_{found[1].upper()}",
    ),
    (r"\bFR(\d{3,4})([MN])(?:33|18|P15)?\b", lambda found: f"FR{found[1]}{found[2]}"),
    (r"\bK_s\b", lambda found: "Ks"),
    # Gaia's red photometer, which is wider than any other band.
    (r"(?:GAIA.*|\bG_|\bBP[ _-]*)RP\b", lambda found: ""),
    # Photographic plates and Johnson's system, not the band J.
    (r"\b[UBVRI]_J\b", lambda found: ""),
    (r"\b(?:HSC|LSST|SDSS)[ _-]*([UGRIZY])2?\b", lambda found: found[1].lower()),
)


def band_name(band):
    """Find the band that a header or a user means.

    Parameters
    ----------
    band : str
        Such as ``"SDSS_r"``, ``"ACS.F814W"``, ``"f200w"``, ``"i.MP9701"``, ``"NIR_Y"``,
        ``"HSC-R2"``: the last word counts that may be a band, where capitals matter for
        single letters only.

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
    text = str(band)
    for written, meant in OF_INSTRUMENTS:
        text = re.sub(written, meant, text, flags=re.I)
    # Greek letters, too, are part of a word: Hα is not H.
    words = re.findall(
        r"[IYJH]_E\b|UVIS_F410M|HST_F\d+N|FUV_F?25[A-Z]+2?|[^\W_]+", text, flags=re.I
    )
    for word in reversed(words):
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
        raise ValueError(f"the unknown band {str(bands[names.index(None)])!r}")
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
