# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import pytest

from galml.physics import (
    AB_ZERO,
    PIVOT_WAVELENGTHS,
    SOLAR_MAGNITUDES,
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


@pytest.mark.parametrize("bands", [["q"], [""], [5], ["g", "g"]])
def test_bands_that_are_none(bands):
    with pytest.raises(ValueError, match="band"):
        pivot_wavelengths(bands)


def test_nearest_band():
    assert nearest_band((0.47, 0.62, 0.75), 0.6) == 1
    # In ratios: 0.5 is as far from 0.25 as from 1.
    assert nearest_band((0.25, 1.0001), 0.5) == 0
