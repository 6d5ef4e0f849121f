# Licensed under a 3-clause BSD style license - see LICENSE.rst
import re

import astropy.units as u
import pytest

from galml.physics import (
    AB_ZERO,
    PIVOT_WAVELENGTHS,
    SOLAR_MAGNITUDES,
    band_name,
    nearest_band,
    pivot_wavelengths,
)


def test_zero_point():
    assert (AB_ZERO * u.nJy).to_value(u.ABmag) == pytest.approx(0, abs=1e-3)


def test_wavelengths_by_name():
    bands = ("g", "SDSS_r", "hst.ACS.f814w", "decam i")
    assert pivot_wavelengths(bands) == (0.470, 0.617, 0.804, 0.749)
    assert pivot_wavelengths(["R", "r"]) == (0.650, 0.617)
    assert set(SOLAR_MAGNITUDES) <= set(PIVOT_WAVELENGTHS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("  f814w ", "F814W"),
        ("SDSS r", "r"),
        ("i.MP9701", "i"),
        ("r DECam SDSS c0002 6415.0 1480.0", "r"),
        ("F606W;CLEAR2L", "F606W"),
        ("CLEAR1L;F814W", "F814W"),
        ("F200W/CLEAR", "F200W"),
        ("2MASS_Ks", "Ks"),
        ("J", "J"),
        ("Y_E", "Y_E"),
        ("NISP_Y_E", "Y_E"),
        ("NIR_J", "J_E"),
        ("NISP-H", "H_E"),
        ("Euclid VIS", "VIS"),
        ("WFC3/IR.F140W", "F140W"),
        ("Roman F129", "F129"),
        ("gp", "g"),
        ("zs", "z"),
        ("IRAC1", "IRAC1"),
        ("B_BESSEL", "B"),
        ("w.00000", "w"),
        ("Gaia RP", None),
        ("bp_rp", None),
        ("R_JOHNSON", None),
        ("CLEAR2L", None),
        ("H alpha", None),
        ("H-alpha 6563", None),
        ("F164N", "F164N"),
        ("NIRCam F164N", "F164N"),
        ("WFC3/IR f164n", "HST_F164N"),
        ("NICMOS F187N", "HST_F187N"),
        ("FQ889N", "FQ889N"),
        ("F2550WR", "F2550W"),
        ("WFC3/UVIS.F410M", "UVIS_F410M"),
        ("WFPC2 f410m", "UVIS_F410M"),
        ("NIRCam F410M", "F410M"),
        ("HSC-R2", "r"),
        ("HSC-Y", "y"),
        ("SDSS_I", "i"),
        ("g'", "g"),
        ("Y DECam c0005 10095.0 1130.0", "Y"),
        ("VR DECam c0007 6300.0 2600.0", "VR"),
        ("N964 DECam c0008 9645.0 94.0", "N964"),
        ("NB0816", "NB0816"),
        ("NB387", "NB0387"),
        ("HSC-NB816", "NB0816"),
        ("nb921", "NB0921"),
        ("NB1010", "NB1010"),
        ("IB945", "IB0945"),
        ("NB2071", None),
        ("F300W", "F300W"),
        ("F336W", "F336W"),
        ("F606W,F450W", "F450W"),
        ("LRF", None),
        ("FR680N18", "FR680N"),
        ("FR914M", "FR914M"),
        ("FUV-MAMA F25QTZ", "FUV_F25QTZ"),
        ("NUV-MAMA F25QTZ", "F25QTZ"),
        ("STIS FUV-MAMA 25mama", "FUV_25MAMA"),
        ("F25ND3", None),
        ("F160BW", "F160BW"),
        ("STIS F28X50LP", "F28X50LP"),
        ("50ccd", "50CCD"),
        ("MIRVIS Clear", None),
        ("H\N{GREEK SMALL LETTER ALPHA}", None),
        ("H\N{GREEK SMALL LETTER BETA} 4861", None),
        ("Halpha", None),
        ("H_alpha", None),
        ("Ha", None),
        ("B_J", None),
        ("b_j", None),
        ("V_J", None),
        ("Bj", None),
        ("2MASS_J", "J"),
        ("k", "Ks"),
        ("K_s", "Ks"),
        ("Euclid_H", "H_E"),
        ("I_E", "VIS"),
        ("H158", "F158"),
        ("F158M", "F158M"),
        ("F990X", None),
        ("E", None),
    ],
)
def test_names_in_headers(text, name):
    assert band_name(text) == name


def test_names_stand_for_themselves():
    assert {band_name(name): name for name in PIVOT_WAVELENGTHS} == {
        name: name for name in PIVOT_WAVELENGTHS
    }


def test_narrow_filters_lie_where_their_names_say():
    judged = 0
    for name, wavelength in PIVOT_WAVELENGTHS.items():
        number = re.fullmatch(r"(?:UVIS_)?(F|FQ|NB|IB|M|N)(\d{3,4})[A-Z0-9]*", name)
        # Long-pass filters are called by their edges, as is F150W2; NB, IB, M and N
        # are of the ground, in nanometers.
        if number is None or name.endswith(("LP", "W2")):
            continue
        number = float(number[2]) / 1000
        # Names count nanometers, in the infrared tens of them.
        ratio = min(wavelength / number, wavelength / number / 10, key=nearness)
        narrow = not name.endswith(("W", "X"))
        assert ratio == pytest.approx(1, abs=0.045 if narrow else 0.1), name
        judged += 1
    assert judged > 50


def nearness(ratio):
    return abs(ratio - 1)


@pytest.mark.parametrize(
    ("band", "wavelength"),
    [
        # Pivot wavelengths of PHOTPLAM in headers of WFPC2 and ACS, of the handbook of
        # WFC3, and of the calibration of NIRCam.
        ("F450W", 0.45573),
        ("F702W", 0.69171),
        ("F814W", 0.8045),
        ("F845M", 0.8439),
        ("UVIS_F410M", 0.4109),
        ("F200W", 1.9886),
        ("F410M", 4.083),
        ("J", 1.235),
        ("K", 2.16),
        # Bands of one letter are those of SDSS for all surveys.
        ("DECam r", 0.6420),
        ("HSC-Z", 0.8903),
    ],
)
def test_wavelengths(band, wavelength):
    tolerance = 0.05 if len(band_name(band)) == 1 else 0.002
    assert pivot_wavelengths([band])[0] == pytest.approx(wavelength, rel=tolerance)


@pytest.mark.parametrize("bands", [["q"], [""], [5], ["g", "g"]])
def test_bands_that_are_none(bands):
    with pytest.raises(ValueError, match="band"):
        pivot_wavelengths(bands)


def test_nearest_band():
    assert nearest_band((0.47, 0.62, 0.75), 0.6) == 1
    # In ratios: 0.5 is as far from 0.25 as from 1.
    assert nearest_band((0.25, 1.0001), 0.5) == 0
