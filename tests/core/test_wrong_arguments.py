# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whatever a user passes wrong is an error of galml that names it."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.utils.masked import Masked
from astropy.wcs import WCS

import galml
from galml.core import InputError
from galml.core.geometry import beam_of
from galml.core.inputs import RowOptions, read

KMS = u.km / u.s
Y, X = np.indices((24, 24)) - 11.5
VELOCITY = 100 * np.tanh(np.hypot(X, Y) / 4) * Y / np.hypot(X, Y) * KMS
LIGHT, SIGMA = np.ones(X.shape), np.full(X.shape, 50.0) * KMS
GALAXY = {
    "stellar_mass": 5e10 * u.Msun,
    "median_age": 6.5 * u.Gyr,
    "age_percentile_10": 1.4 * u.Gyr,
    "metallicity": 0.0 * u.dex,
}


def image(**cards):
    meta = {"BMAJ": 0.001, "BMIN": 0.001, "BPA": 0.0} | cards
    return CCDData(VELOCITY, meta=meta)


@pytest.mark.parametrize("card", ["BMAJ", "BMIN", "BPA", "BMMAJ"])
def test_cards_of_the_beam(card):
    meta = image(**{card: "abc"})
    if card == "BMMAJ":
        meta.meta.pop("BMAJ")
    with pytest.raises(InputError, match=f"{card}: got 'abc', expected a number"):
        beam_of(meta)
    with pytest.raises(InputError, match=card):
        galml.circularity(meta)


@pytest.mark.parametrize("change", [{"cdelt": (0, 0)}, {"crval": (np.nan, np.nan)}])
def test_broken_wcs(change):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    for name, values in change.items():
        setattr(wcs.wcs, name, values)
    with pytest.raises(InputError, match="map: got a WCS that cannot be used"):
        read(CCDData(VELOCITY, wcs=wcs), argument="map")


@pytest.mark.parametrize("seed", ["abc", 1.5, True])
def test_seeds(seed):
    with pytest.raises(InputError, match="seed: got"):
        galml.circularity(VELOCITY, n_samples=2, seed=seed)
    with pytest.raises(InputError, match="seed: got"):
        galml.sample_stars(GALAXY, 3, seed=seed)


@pytest.mark.parametrize("n", [1e15, 10**12, 1e-12 * u.Msun, 1e-3 * u.Msun])
def test_numbers_of_stars(n):
    with pytest.raises(InputError, match="n: got"):
        galml.sample_stars(GALAXY, n)


def test_numbers_of_samples():
    with pytest.raises(InputError, match="n_samples: got 1000000000000, expected a w"):
        galml.circularity(VELOCITY, n_samples=10**12)


def test_bands():
    with pytest.raises(InputError, match="bands: got 5"):
        galml.spin(LIGHT, bands=5)


def test_what_is_masked_has_not_been_given():
    options = RowOptions(
        {
            "redshift": np.ma.array([0.01, 5.0], mask=[False, True]),
            "beam": Masked([3.0, 9.0] * u.pix, mask=[False, True]),
            "center": np.ma.array([[1, 2], [3, 4]], mask=[[0, 0], [1, 0]]),
        },
        is_single=False,
        length=2,
    )
    assert options.row(0)["redshift"] == 0.01
    assert options.row(0)["beam"] == 3 * u.pix
    assert list(options.row(0)["center"]) == [1, 2]
    assert options.row(1) == {"redshift": None, "beam": None, "center": None}


@pytest.mark.parametrize(
    "options",
    [
        {"center": [(11, 11)] * 3},
        {"redshift": [0.1] * 3},
        {"dispersion": lambda: iter([SIGMA] * 3)},
    ],
)
def test_more_values_than_maps(options):
    """How many maps an iterator has is known at its end."""
    options = {k: v() if callable(v) else v for k, v in options.items()}
    name = next(iter(options))
    with pytest.raises(InputError, match=f"{name}: got"):
        galml.circularity(iter([VELOCITY] * 2), **options)


def test_more_values_than_images():
    images = iter([np.exp(-np.hypot(X, Y) / 4)] * 2)
    with pytest.raises(InputError, match="r_eff: got 3 values, expected one value, or"):
        galml.spin(images, bands="r", r_eff=[5 * u.pix] * 3)


def test_more_values_than_galaxies():
    maps = {"velocity": iter([VELOCITY] * 2), "dispersion": iter([SIGMA] * 2)}
    with pytest.raises(InputError, match="r_eff: got 3 values, expected one value, or"):
        galml.lambda_r(iter([LIGHT] * 2), **maps, r_eff=[5, 5, 5] * u.pix)


def test_maps_without_a_sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix = ("RA---SIN", "DEC--SIN"), (1e5, 1e5)
    wcs.wcs.cdelt = -1e-2, 1e-2
    lost = CCDData(VELOCITY, wcs=wcs)
    with pytest.warns(galml.core.GalmlWarning, match="1 of 2 rows"):
        table = galml.circularity([lost, VELOCITY])
    assert np.isnan(table["position_angle_err"][0]) and table["flags"][0] & 1
    assert np.isfinite(table["circularity"][1])
    with pytest.raises(InputError, match="a WCS that covers"):
        galml.circularity(lost)


@pytest.mark.parametrize("size", [1e156, 1e300])
def test_absurd_speeds(size):
    """What overflows is a failure, and no number stands beside it."""
    light = [LIGHT] * 2
    options = {
        "velocity": [VELOCITY * size, VELOCITY],
        "dispersion": [SIGMA * size, SIGMA],
    }
    with pytest.warns(galml.core.GalmlWarning, match="1 of 2 rows"):
        table = galml.lambda_r(light, **options)
    assert list(table["flags"] & 1) == [1, 0]
    assert np.isnan([table[name][0] for name in ("lambda_r", "v_over_sigma")]).all()


def test_beam_in_a_wrong_unit_is_flagged():
    table = galml.circularity(VELOCITY, beam=4000 * u.pix)
    assert "out_of_domain" in galml.core.decode_flags(int(table["flags"][0]))
