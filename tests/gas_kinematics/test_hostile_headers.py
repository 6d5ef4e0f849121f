# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Observed cubes and images whose headers are hard to read."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

import galml
from galml.core import InputError, InputUnitError
from galml.core.flags import Flag
from galml.gas_kinematics import moments

KMS = u.km / u.s


@pytest.fixture
def folder(shared):
    return shared / "hostile_headers"


@pytest.fixture
def hi_cube(folder):
    return folder / "hi_cube_ncp_velo_hel.fits.gz"


@pytest.fixture
def muse_cube(folder):
    return folder / "muse_minicube_variance.fits.gz"


def test_hi_cube(hi_cube):
    """NGC 2903: systemic velocity 556 km/s, position angle 204 degrees."""
    maps = moments(hi_cube)
    velocity = maps.velocity.data[~maps.velocity.mask]
    assert len(velocity) > 1500
    assert np.median(velocity) == pytest.approx(556, abs=10)
    # It rotates at about 200 km/s, seen at 65 degrees.
    low, high = np.quantile(velocity, [0.05, 0.95])
    assert 280 < high - low < 400
    table = galml.circularity(hi_cube)
    assert table["name"][0] == "UGC5079"
    assert table["position_angle"][0].value == pytest.approx(204, abs=8)
    assert table["circularity"][0] > 0.55
    assert not table["flags"][0] & (Flag.NO_WCS | Flag.FAILED)


def test_nobody_tells_the_convention_of_the_hi_cube(hi_cube):
    """What astropy takes for optical velocities are not converted as such."""
    for convention in ("radio", "optical", "relativistic"):
        with pytest.raises(InputError, match="convention"):
            moments(hi_cube, convention=convention)
    for options in ({}, {"rest_value": 1420.405751 * u.MHz}):
        with pytest.raises(InputError, match="line.*does not tell its convention"):
            moments(hi_cube, line=1420.405751 * u.MHz, **options)
    # With a redshift its velocities are taken as they are.
    one = galml.circularity(hi_cube, redshift=0.0)
    other = galml.circularity(hi_cube)
    assert one["circularity"][0] == other["circularity"][0]


def test_the_beam_of_the_hi_cube_in_arcsec(hi_cube, tmp_path):
    """Degrees, arcsec where FITS wants degrees, and the cards of GIPSY."""
    expected = galml.circularity(hi_cube)
    path = tmp_path / "cube.fits"
    for change in ({"BMAJ": 57.416, "BMIN": 48.315}, {"BMAJ": None, "BMIN": None}):
        with fits.open(hi_cube) as hdus:
            header = hdus[0].header
            for card, value in change.items():
                if value is None:
                    del header[card]
                else:
                    header[card] = value
            fits.PrimaryHDU(hdus[0].data, header).writeto(path, overwrite=True)
        table = galml.circularity(path)
        for name in ("circularity", "circularity_err", "map_quality"):
            assert table[name][0] == pytest.approx(expected[name][0], abs=1e-3)


def test_muse_cube(muse_cube):
    with pytest.raises(InputUnitError, match="rest_value"):
        moments(muse_cube)
    with pytest.raises(InputError, match="line: got 6564.6 .*6050 .*6061.25"):
        moments(muse_cube, line=6564.6 * u.AA)
    with pytest.raises(InputError, match="continuum"):
        moments(muse_cube, line=6055 * u.AA)
    maps = moments(muse_cube, line=6055.6 * u.AA, width=260 * KMS, continuum=600 * KMS)
    assert maps.moment0.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)") * KMS
    assert maps.velocity.shape == (101, 101)
    # Its variance is used: a faint field has no line.
    assert maps.velocity.mask.mean() > 0.9
    everything = moments(muse_cube, rest_value=6055.6 * u.AA)
    known = ~everything.velocity.mask
    assert known.sum() > 1000 and np.abs(everything.velocity.data[known]).max() < 300


@pytest.mark.parametrize("name", ["decam_tpv_g", "decam_tpv_r", "hst_f814w"])
def test_images_that_are_no_velocities(folder, name):
    path = folder / f"{name}.fits.gz"
    with pytest.raises(InputUnitError, match="data without a unit"):
        galml.circularity(path)
    # Whoever calls them velocities gets an angle on the sky all the same.
    table = galml.circularity(path, unit="km/s")
    assert not table["flags"][0] & Flag.NO_WCS
    assert np.isfinite(table["position_angle"][0])


def test_bands_are_no_spectral_axis(folder):
    with pytest.raises(InputError, match="spectral axis"):
        galml.circularity(folder / "hsc_grizy.fits.gz", unit="km/s")


def test_a_batch_of_them_ends_with_rows(folder):
    files = sorted(folder.glob("*.fits.gz"))
    with pytest.warns(galml.core.GalmlWarning, match="rows have no result"):
        table = galml.circularity(files)
    assert len(table) == len(files)
    good = np.isfinite(table["circularity"])
    assert list(table["name"][good]) == ["UGC5079"]
