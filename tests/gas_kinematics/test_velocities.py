# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS

import galml
from galml.core import GalmlWarning
from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.gas_kinematics import moments
from galml.gas_kinematics.kinematic import map_problems
from galml.gas_kinematics.velocities import read_maps

KMS = u.km / u.s
NUMBERS = ("circularity", "circularity_err", "position_angle", "map_quality")


def sky(rotation=0.0, parity=-1, scale=0.5, pixels=20):
    """Celestial WCS: rotation in degrees, parity -1 for east to the left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 40.0]
    wcs.wcs.crpix = [pixels / 2, pixels / 2]
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    turn = np.array([[cos, -sin], [sin, cos]])
    wcs.wcs.cd = turn @ np.diag([parity, 1.0]) * scale / 3600
    return wcs


def numbers(table):
    return np.stack([u.Quantity(table[name]).value for name in NUMBERS], axis=1)


def convert(values, **options):
    (maps,) = read_maps(values, **options).members
    return maps


@pytest.fixture(scope="module")
def maps(mocks):
    return mocks.velocity[:4].double().numpy()


@pytest.mark.parametrize("tracer", ["gas", "stars"])
def test_what_was_observed_is_told(maps, tracer):
    many = convert(maps * KMS, tracer=tracer)
    one = convert(maps[0] * KMS, tracer=tracer)
    assert (many.stars == (tracer == "stars")).all()
    assert type(many).joined([many, one]).stars.tolist() == [tracer == "stars"] * 5
    assert many[1:3].stars.shape == (2,)


def test_tracers_have_names(maps):
    with pytest.raises(InputError, match="tracer"):
        galml.circularity(maps * KMS, tracer="dust")


@pytest.mark.parametrize("parity", [-1, 1])
@pytest.mark.parametrize("rotation", [0.0, 33.0, 200.0])
def test_position_angle_on_the_sky(maps, parity, rotation):
    wcs = sky(rotation, parity)
    plain = galml.circularity(maps * KMS)
    table = galml.circularity([CCDData(m, unit=KMS, wcs=wcs) for m in maps])
    np.testing.assert_allclose(table["circularity"], plain["circularity"], atol=1e-6)
    theta = plain["position_angle"].to_value(u.rad)
    for row, angle, values in zip(table, theta, maps, strict=True):
        y, x = (index.mean() for index in np.nonzero(np.isfinite(values)))
        start = wcs.pixel_to_world(x, y)
        end = wcs.pixel_to_world(x - 0.01 * np.sin(angle), y + 0.01 * np.cos(angle))
        turn = row["position_angle"] - start.position_angle(end)
        turn = (turn.to_value(u.deg) + 180) % 360 - 180
        assert abs(turn) < 1e-3
    assert (plain["flags"] & Flag.NO_WCS).all()
    assert not (table["flags"] & Flag.NO_WCS).any()


def test_north_up_east_left_is_the_image_angle(maps):
    plain = galml.circularity(maps[0] * KMS)
    row = galml.circularity(CCDData(maps[0], unit=KMS, wcs=sky()))
    turn = (plain["position_angle"] - row["position_angle"]).to_value(u.deg)
    assert abs(turn[0]) < 0.01


def test_center(maps):
    data = [CCDData(m, unit=KMS, wcs=sky(20)) for m in maps]
    place = sky(20).pixel_to_world(8.25, 10.5)
    assumed = galml.circularity(data)
    assert (assumed["flags"] & Flag.CENTER_ASSUMED).all()
    given = galml.circularity(data, center=(8.25, 10.5))
    assert not (given["flags"] & Flag.CENTER_ASSUMED).any()
    assert np.abs(numbers(given) - numbers(assumed)).max() > 1e-3
    several = SkyCoord([place] * 4)
    for center in (
        place,
        np.array([8.25, 10.5]),
        [8.25, 10.5] * u.pix,
        [(8.25, 10.5)] * 4,
        np.full((4, 2), [8.25, 10.5]),
        several,
        list(several),
    ):
        table = galml.circularity(data, center=center)
        np.testing.assert_allclose(numbers(table), numbers(given), atol=1e-4)
    mixed = galml.circularity(data, center=[(8.25, 10.5), None, place, (8.25, 10.5)])
    np.testing.assert_allclose(numbers(mixed)[1], numbers(assumed)[1], atol=1e-4)
    np.testing.assert_allclose(numbers(mixed)[2], numbers(given)[2], atol=1e-4)
    two = galml.circularity(data[:2], center=[(8.25, 10.5), (9, 9)])
    np.testing.assert_allclose(numbers(two)[0], numbers(given)[0], atol=1e-4)


@pytest.mark.parametrize("center", ["middle", 5, (1, 2, 3), (1 * u.deg, 2 * u.deg)])
def test_center_of_the_wrong_kind(maps, center):
    with pytest.raises(InputTypeError, match="center"):
        galml.circularity(maps[0] * KMS, center=center)


@pytest.mark.parametrize("center", [(-0.6, 3), (3, 19.6), (np.nan, 3), (400, 400)])
def test_center_outside(maps, center):
    with pytest.raises(InputError, match="center"):
        galml.circularity(maps[0] * KMS, center=center)


def test_sky_center_needs_a_wcs(maps):
    with pytest.raises(InputError, match="WCS"):
        galml.circularity(maps[0] * KMS, center=SkyCoord(1, 2, unit="deg"))


def test_redshift(maps):
    z = np.array([0.0, 0.5, 1.0, 3.0])
    plain = numbers(galml.circularity(maps * KMS))
    stretched = maps * (1 + z[:, None, None]) * KMS
    for redshift in (z, list(z), z * u.dimensionless_unscaled):
        table = galml.circularity(stretched, redshift=redshift)
        np.testing.assert_allclose(numbers(table), plain, atol=1e-4)
    one = galml.circularity(stretched[2], redshift=1.0)
    np.testing.assert_allclose(numbers(one)[0], plain[2], atol=1e-4)
    values = convert(CCDData(maps[0], StdDevUncertainty(np.abs(maps[0])), unit=KMS),
                     redshift=1, dispersion=maps[1] ** 2 * KMS)  # fmt: skip
    np.testing.assert_allclose(values.values[0], maps[0] / 2)
    np.testing.assert_allclose(values.std[0], np.abs(maps[0]) / 2)
    np.testing.assert_allclose(values.dispersion[0], maps[1] ** 2 / 2)


@pytest.mark.parametrize("redshift", ["far", 1 * u.km, (1, 2)])
def test_redshift_of_the_wrong_kind(maps, redshift):
    with pytest.raises(InputError, match="redshift"):
        galml.circularity(maps[0] * KMS, redshift=redshift)


@pytest.mark.parametrize("redshift", [-1, -3.0, np.nan, np.inf])
def test_redshift_out_of_range(maps, redshift):
    with pytest.raises(InputError, match="redshift"):
        galml.circularity(maps[0] * KMS, redshift=redshift)


def test_bad_value_for_one_map_fails_that_row(maps):
    with pytest.warns(GalmlWarning, match="2 of 4 .*first: redshift"):
        table = galml.circularity(maps * KMS, redshift=[0, -2, 0, np.nan])
    np.testing.assert_array_equal(np.isnan(table["circularity"]), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("redshift", [0.1, 0.2]),
        ("redshift", np.zeros(5)),
        ("center", [(9, 9)] * 3),
        ("beam", [1, 2, 3] * u.pix),
    ],
)
def test_wrong_number_of_values(maps, option, value):
    count = len(value)
    with pytest.raises(InputError, match=f"{option}: got {count} values.*4"):
        galml.circularity(maps * KMS, **{option: value})
    with pytest.raises(InputError, match=f"{option}: got {count} values.*one value"):
        galml.circularity(maps[0] * KMS, **{option: value})
    if count < 4:
        with pytest.raises(InputError, match=f"{option}: got {count} values"):
            galml.circularity((m * KMS for m in maps), **{option: value})


def test_beam(maps):
    wcs = sky(scale=0.5)
    data = [CCDData(m, unit=KMS, wcs=wcs) for m in maps]
    unknown = numbers(galml.circularity(data))
    pixels = numbers(galml.circularity(data, beam=4 * u.pix))
    assert np.abs(pixels - unknown).max() > 1e-3
    for beam in (2 * u.arcsec, np.full(4, 4.0) * u.pix, [2 * u.arcsec] * 4):
        table = galml.circularity(data, beam=beam)
        np.testing.assert_allclose(numbers(table), pixels, atol=1e-4)
    for item in data:
        item.meta.update({"BMAJ": 4 / 3600, "BMIN": 1 / 3600, "BPA": 10.0})
    np.testing.assert_allclose(numbers(galml.circularity(data)), pixels, atol=1e-4)
    assert convert(data[0]).beam[0] == pytest.approx(4, rel=1e-4)
    assert convert(data[0], beam=7 * u.pix).beam[0] == 7


@pytest.mark.parametrize(
    ("beam", "error"),
    [
        (0 * u.pix, InputError),
        (np.nan * u.pix, InputError),
        (1 * u.arcsec, InputError),
        (1 * u.km, InputUnitError),
        (-1 * u.arcsec, InputUnitError),
        (3.0, InputTypeError),
    ],
)
def test_bad_beam(maps, beam, error):
    with pytest.raises(error, match="beam"):
        galml.circularity(maps[0] * KMS, beam=beam)


def test_errors_are_converted_with_the_values():
    rest = 1.420405751e9
    values = rest * (1 - np.arange(30.0).reshape(5, 6) * 1e-4)
    data = CCDData(values, StdDevUncertainty(np.full((5, 6), 1e4)), unit=u.Hz,
                   meta={"RESTFRQ": rest})  # fmt: skip
    item = convert(data)
    c = 299792.458
    np.testing.assert_allclose(item.values[0], c * np.arange(30).reshape(5, 6) * 1e-4)
    np.testing.assert_allclose(item.std, c * 1e4 / rest, rtol=1e-6)
    row = galml.circularity(data)
    assert not row["flags"][0] & Flag.NO_UNCERTAINTY


def cube(convention="VRAD", seed=1):
    """Noisy cube of a rotating disk with its velocity axis in m/s."""
    y, x = np.mgrid[:24, :24] - 11.5
    velocity = np.arange(-200, 201, 20.0)
    mean = 8.0 * (0.8 * x + 0.6 * y)
    flux = 50 * np.exp(-np.hypot(x, y) / 6)
    line = np.exp(-0.5 * ((velocity[:, None, None] - mean) / 30) ** 2)
    rng = np.random.default_rng(seed)
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", convention]
    wcs.wcs.crval = [150.0, 2.0, -2e5]
    wcs.wcs.crpix = [12, 12, 1]
    wcs.wcs.cdelt = [-1 / 3600, 1 / 3600, 2e4]
    wcs.wcs.cunit = ["deg", "deg", "m/s"]
    return CCDData(
        flux * line + rng.normal(size=line.shape), unit="mJy", wcs=wcs,
        meta={"OBJECT": "disk", "BMAJ": 3 / 3600, "BMIN": 3 / 3600},
    )  # fmt: skip


def test_cube():
    data = cube()
    table = galml.circularity(data)
    maps = moments(data)
    reference = galml.circularity(maps.velocity, dispersion=maps.dispersion)
    assert table.colnames == reference.colnames
    np.testing.assert_allclose(numbers(table), numbers(reference), atol=1e-5)
    assert list(table["flags"]) == list(reference["flags"])
    assert table["name"][0] == "disk"
    # The receding side is at +0.8 x, +0.6 y, and x runs west.
    expected = np.degrees(np.arctan2(-0.8, 0.6)) % 360
    assert table["position_angle"][0].value == pytest.approx(expected, abs=2)
    velocity_only = galml.circularity(maps.velocity)
    assert np.abs(numbers(velocity_only) - numbers(table)).max() > 1e-3
    several = galml.circularity([data, maps.velocity])
    np.testing.assert_allclose(numbers(several)[0], numbers(table)[0], atol=1e-5)
    np.testing.assert_allclose(
        numbers(several)[1], numbers(velocity_only)[0], atol=1e-5
    )


def test_spectrum_cube():
    from specutils import Spectrum

    data = cube()
    axis = np.arange(-200, 201, 20.0) * KMS
    spectrum = Spectrum(
        flux=data.data * u.mJy, spectral_axis=axis, spectral_axis_index=0
    )
    maps = moments(spectrum)
    table = galml.circularity(spectrum)
    reference = galml.circularity(maps.velocity, dispersion=maps.dispersion)
    np.testing.assert_allclose(numbers(table), numbers(reference), atol=1e-5)
    assert table["position_angle"][0].value == pytest.approx(307, abs=2)


def test_cube_without_a_spectral_axis(maps):
    with pytest.raises(InputError, match="spectral axis"):
        galml.circularity(CCDData(maps, unit=KMS))


def test_read_maps_and_problems(maps):
    is_single, length, members = read_maps([maps[0] * KMS, maps[1] * u.Jy])
    assert not is_single and length == 2
    good, bad = members
    assert map_problems(good, 6) == [None]
    assert isinstance(map_problems(bad, 6)[0], InputUnitError)
    assert "at least 401" in str(map_problems(good, 401)[0])
    good.values[:] = 3.0
    assert "3 km / s everywhere" in str(map_problems(good, 6)[0])


def test_maps_without_a_unit_are_redshifts():
    """Not velocities in km/s that a card gives another unit."""
    z = np.full((6, 6), 0.02) + np.linspace(0, 1e-3, 6)
    (found,) = read_maps(CCDData(z, unit=u.dimensionless_unscaled)).members
    expected = u.Quantity(z).to_value(KMS, u.doppler_redshift())
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    for unit, values in (
        (u.percent, z),
        (u.Unit(5), z),
        (u.dimensionless_unscaled, 1e5 * z),
    ):
        with pytest.raises(InputUnitError, match="a velocity, or redshifts"):
            galml.circularity(CCDData(values, unit=unit))


def test_rest_frequencies_that_are_no_numbers():
    data = 1e9 + np.arange(36.0).reshape(6, 6)
    with pytest.raises(
        InputError, match="data: got 'abc', expected a number in RESTFRQ"
    ):
        galml.circularity(CCDData(data, unit=u.Hz, meta={"RESTFRQ": "abc"}))
