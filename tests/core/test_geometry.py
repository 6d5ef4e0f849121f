# Licensed under a 3-clause BSD style license - see LICENSE.rst
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import NDDataRef
from astropy.wcs import WCS, Sip

from galml.core import InputTypeError, InputUnitError
from galml.core.geometry import (
    angle_difference,
    beam_of,
    celestial,
    pixel_angle,
    pixel_scale,
    sky_angle,
    sky_positions,
    wrap_angle,
)

HERE = (30.0, 40.0)
SCALE = 0.5 / 3600


def make(rotation=0.0, parity=-1, dec=20.0, ctype=("RA---TAN", "DEC--TAN"), sip=False):
    """North up (east left) turned counter-clockwise by ``rotation`` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [name + "-SIP" for name in ctype] if sip else list(ctype)
    wcs.wcs.crval = 10.0, dec
    wcs.wcs.crpix = HERE[0] + 1, HERE[1] + 1
    turn = np.radians(rotation)
    turned = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    wcs.wcs.cd = SCALE * np.diag([parity, 1.0]) @ turned
    if sip:
        matrix = np.zeros((3, 3))
        matrix[2, 0], matrix[1, 1], matrix[0, 2] = 2e-3, 1e-3, -3e-3
        wcs.sip = Sip(matrix, -matrix, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def close(first, second, tolerance):
    difference = abs(angle_difference(first, second))
    assert np.max(difference.to_value(u.deg)) < tolerance


def through_astropy(theta, wcs, position, step=0.05):
    """Position angle from one small step along theta."""
    x, y = position
    angle = np.radians(theta)
    start = wcs.pixel_to_world(x, y)
    end = wcs.pixel_to_world(x - step * np.sin(angle), y + step * np.cos(angle))
    return start.position_angle(end)


@pytest.mark.parametrize("theta", [0.0, 90.0, 180.0, 270.0, 33.0])
def test_north_up_east_left_is_the_identity(theta):
    close(sky_angle(theta, make(), HERE), theta, 1e-6)


@pytest.mark.parametrize("theta", [0.0, 90.0, 33.0])
def test_flipped_parity_turns_the_other_way(theta):
    close(sky_angle(theta, make(parity=1), HERE), -theta, 1e-6)


@pytest.mark.parametrize("rotation", [30.0, -100.0])
def test_rotation(rotation):
    wcs = make(rotation=rotation)
    # North itself lies at image angle ``rotation``.
    close(sky_angle(rotation, wcs, HERE), 0.0, 1e-6)
    close(sky_angle(rotation + 50.0, wcs, HERE), 50.0, 1e-6)
    close(pixel_angle(0.0, wcs, HERE), rotation, 1e-6)


@pytest.mark.parametrize("dec", [-89.9, 0.0, 60.0, 89.999])
@pytest.mark.parametrize("position", [HERE, (3.0, 55.5)])
@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("parity", [-1, 1])
def test_against_skycoord(dec, position, sip, parity):
    wcs = make(rotation=40.0, dec=dec, sip=sip, parity=parity)
    theta = np.arange(0.0, 360.0, 45.0)
    # The finite step of the comparison bends by up to 1e-2 degrees where SIP does.
    tolerance = 2e-2 if sip else 2e-4
    close(
        sky_angle(theta, wcs, position),
        through_astropy(theta, wcs, position),
        tolerance,
    )


def test_distortion_matters():
    far = (0.0, 0.0)
    plain, bent = (sky_angle(10.0, make(sip=sip), far) for sip in (False, True))
    assert abs(angle_difference(plain, bent)) > 1 * u.deg


@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("dec", [-30.0, 89.999])
@pytest.mark.parametrize("parity", [-1, 1])
def test_there_and_back(sip, dec, parity):
    wcs = make(rotation=77.0, parity=parity, dec=dec, sip=sip)
    theta = np.linspace(0, 359, 24).reshape(4, 6)
    back = pixel_angle(sky_angle(theta, wcs, (5.0, 9.0)), wcs, (5.0, 9.0))
    assert back.shape == theta.shape
    close(back, theta, 1e-10)


def test_longitude_wrap():
    wcs = make()
    wcs.wcs.crval = 0.0, 20.0
    close(sky_angle([0.0, 90.0], wcs, HERE), [0.0, 90.0], 1e-6)


def test_galactic_frame_counts_from_galactic_north():
    wcs = make(ctype=("GLON-TAN", "GLAT-TAN"))
    close(sky_angle(25.0, wcs, HERE), 25.0, 1e-6)


def test_latitude_first():
    wcs = make().sub([2, 1])
    assert wcs.wcs.ctype[0] == "DEC--TAN"
    # x is now what y was: +y points west, +x north.
    close(sky_angle([0.0, -90.0], wcs, HERE[::-1]), [270.0, 0.0], 1e-6)


def test_cube_and_sliced_wcs():
    cube = WCS(naxis=3)
    cube.wcs.ctype = "RA---TAN", "DEC--TAN", "FREQ"
    cube.wcs.crval = 10.0, 20.0, 1.4e9
    cube.wcs.cdelt = SCALE, SCALE, 1e6
    close(sky_angle(30.0, cube, HERE), -30.0, 1e-2)
    sliced = NDDataRef(np.zeros((60, 60)), wcs=make(rotation=20.0))[5:, 7:].wcs
    assert not isinstance(sliced, WCS)
    close(sky_angle(30.0, sliced, (HERE[0] - 7, HERE[1] - 5)), 10.0, 1e-6)


def test_no_celestial_wcs():
    linear = WCS(naxis=2)
    for wcs in (None, linear):
        assert sky_angle(-30.0, wcs, HERE) == 330.0 * u.deg
        assert pixel_angle(-30.0, wcs, HERE) == 330.0 * u.deg
        assert pixel_scale(wcs) is None
        assert celestial(wcs) is None


def test_angles_with_units():
    assert sky_angle(np.pi / 2 * u.rad, None, HERE).to_value(u.deg) == pytest.approx(90)
    with pytest.raises(u.UnitConversionError):
        sky_angle(1 * u.km, None, HERE)


@pytest.mark.parametrize("angle", [-1e-20, 0.0, 360.0, 720.0, -360.0, 359.999999])
def test_wrap_angle_range(angle):
    wrapped = wrap_angle(angle)
    assert 0 <= wrapped.value < 360
    close(wrapped, angle, 1e-12)


def test_angle_difference():
    np.testing.assert_allclose(
        angle_difference([350, 10, 180, 5], [10, 350, 0, 5] * u.deg).to_value(u.deg),
        [-20, 20, -180, 0],
        atol=1e-12,
    )


def test_pixel_scale():
    scale = pixel_scale(make(rotation=12.0), HERE)
    assert scale.unit == u.arcsec / u.pix
    assert scale.value == pytest.approx(0.5, rel=1e-6)
    oblong = make()
    oblong.wcs.cd = np.diag([-4 * SCALE, SCALE])
    assert pixel_scale(oblong, HERE).value == pytest.approx(1.0, rel=1e-6)


def test_pixel_scale_against_separations():
    wcs = make(dec=85.0)
    corner, right = wcs.pixel_to_world([0, 1], [0, 0])
    assert isinstance(corner, SkyCoord)
    expected = corner.separation(right).arcsec
    assert pixel_scale(wcs).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, None),
        (2 * u.arcsec, (2, 2, 0)),
        (0.1 * u.arcmin, (6, 6, 0)),
        (
            SimpleNamespace(major=3 * u.arcsec, minor=2 * u.arcsec, pa=40 * u.deg),
            (3, 2, 40),
        ),
        (SimpleNamespace(meta={}), None),
        (SimpleNamespace(meta={"BMAJ": 0.0}), None),
        (SimpleNamespace(meta={"BMAJ": 1 / 3600}), (1, 1, 0)),
        (
            SimpleNamespace(meta={"BMAJ": 1 / 1800, "BMIN": 1 / 3600, "BPA": -30.0}),
            (2, 1, -30),
        ),
    ],
)
def test_beam(source, expected):
    beam = beam_of(source)
    if expected is None:
        assert beam is None
    else:
        assert [axis.unit for axis in beam] == [u.arcsec, u.arcsec, u.deg]
        np.testing.assert_allclose([axis.value for axis in beam], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "source", [3 * u.km, -1 * u.arcsec, np.nan * u.arcsec, [1, 2] * u.arcsec]
)
def test_beam_must_be_an_angle(source):
    with pytest.raises(InputUnitError, match="psf: got"):
        beam_of(source, argument="psf")


def test_beam_of_something_else():
    with pytest.raises(InputTypeError, match="beam: got an object of type str"):
        beam_of("2 arcsec")


def test_places_on_the_sky():
    """Of any frame, projection, order of axes; NaN where nobody knows."""
    galactic = make(ctype=("GLON-TAN", "GLAT-TAN"))
    swapped = make(30.0).swapaxes(0, 1)
    planet = make(ctype=("JULN-TAN", "JULT-TAN"))
    all_wcs = [make(), None, galactic, make(30.0, sip=True), swapped, planet]
    pixels = [HERE, HERE, (1.0, 2.0), (50.0, 3.0), (7.0, 8.0), HERE]
    found = sky_positions(all_wcs, pixels)
    for row in (0, 2, 3, 4):
        expected = all_wcs[row].pixel_to_world(*pixels[row]).icrs
        np.testing.assert_allclose(found[row], [expected.ra.deg, expected.dec.deg])
    assert np.isnan(found[[1, 5]]).all()
