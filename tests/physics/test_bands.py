# Licensed under a 3-clause BSD style license - see LICENSE.rst
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
        ("CLEAR2L", None),
        ("H alpha", None),
        ("H-alpha 6563", None),
        ("F164N", None),
        ("E", None),
    ],
)
def test_names_in_headers(text, name):
    assert band_name(text) == name


def test_filters_of_space_telescopes_lie_where_their_names_say():
    for name, wavelength in PIVOT_WAVELENGTHS.items():
        if name[0] != "F" or name == "F850LP":
            continue
        number = int(name[1:4]) / 1000
        # Names count nanometers, in the infrared tens of them.
        scale = 1 if number > 0.213 and wavelength < 1 else 10
        assert wavelength / number / scale == pytest.approx(1, abs=0.16), name


@pytest.mark.parametrize("bands", [["q"], [""], [5], ["g", "g"]])
def test_bands_that_are_none(bands):
    with pytest.raises(ValueError, match="band"):
        pivot_wavelengths(bands)


def test_nearest_band():
    assert nearest_band((0.47, 0.62, 0.75), 0.6) == 1
    # In ratios: 0.5 is as far from 0.25 as from 1.
    assert nearest_band((0.25, 1.0001), 0.5) == 0
