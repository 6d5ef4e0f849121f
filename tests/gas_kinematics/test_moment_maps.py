# Licensed under a 3-clause BSD style license - see LICENSE.rst

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty
from astropy.wcs import WCS

from galml.core import InputError, InputUnitError
from galml.gas_kinematics.moment_maps import Moments, moments

REST = 115.271 * u.GHz
SHAPE = 24, 26
CHANNELS = np.linspace(-300, 300, 61)


def cube_wcs(ctype="VRAD", cunit="km/s", start=-300.0, step=10.0, rest=None):
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN", ctype
    wcs.wcs.cunit = "deg", "deg", cunit
    wcs.wcs.crval = 150.0, 2.0, start
    wcs.wcs.cdelt = -0.5 / 3600, 0.5 / 3600, step
    wcs.wcs.crpix = 13.5, 12.5, 1.0
    if rest is not None:
        wcs.wcs.restfrq = rest.to_value(u.Hz)
    wcs.wcs.set()
    return wcs


def truth():
    """Flux, velocity, dispersion of a rotating patch; flux NaN outside."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    x, y = x - 12.5, y - 11.5
    radius = np.hypot(x, y)
    flux = np.where(radius < 8, 100 * np.exp(-radius / 8), np.nan)
    return flux, 12 * x + 3 * y, 22 + 0.5 * y


def line_cube(velocity=CHANNELS, noise=0.0, seed=0):
    """Gaussian lines; with noise, peaks stand at about 20 times it."""
    flux, mean, sigma = truth()
    offset = (velocity[:, None, None] - mean) / sigma
    lines = (
        np.nan_to_num(flux) / (np.sqrt(2 * np.pi) * sigma) * np.exp(-(offset**2) / 2)
    )
    noises = np.random.default_rng(seed).normal(0, noise, lines.shape)
    return lines + noises


def ccd(values, wcs=None, **kwargs):
    kwargs.setdefault("unit", "Jy/beam")
    return CCDData(values, wcs=wcs or cube_wcs(), **kwargs)


def inside(maps):
    return np.isfinite(truth()[0]) & ~maps.velocity.mask


def test_result():
    maps = moments(ccd(line_cube(noise=0.05), meta={"OBJECT": "NGC 1"}))
    assert isinstance(maps, Moments)
    assert maps.moment0.unit == u.Jy / u.beam * u.km / u.s
    assert maps.velocity.unit == maps.dispersion.unit == u.km / u.s
    for image in maps:
        assert image.shape == SHAPE
        assert isinstance(image.uncertainty, StdDevUncertainty)
        assert image.uncertainty.unit == image.unit
        assert image.meta["OBJECT"] == "NGC 1"
        assert image.wcs.naxis == 2
        np.testing.assert_array_equal(np.isnan(image.data), image.mask)
        here = image.wcs.pixel_to_world(3, 4)
        there = cube_wcs().celestial.pixel_to_world(3, 4)
        assert here.separation(there).arcsec < 1e-6
    maps.velocity.meta["OBJECT"] = "other"
    assert maps.dispersion.meta["OBJECT"] == "NGC 1"


@pytest.mark.parametrize("noise", [0.05, 0.01])
def test_noisy_lines(noise):
    maps = moments(ccd(line_cube(noise=noise)))
    use = inside(maps)
    assert use.sum() > 0.95 * np.isfinite(truth()[0]).sum()
    # Nothing but a rim is found where there is nothing.
    assert (~maps.velocity.mask & np.isnan(truth()[0])).sum() < 0.25 * use.sum()
    for image, expected in zip(maps, truth(), strict=True):
        good = use & ~image.mask
        assert good.sum() > 0.98 * use.sum()
        pull = ((image.data - expected) / image.uncertainty.array)[good]
        assert abs(np.median(pull)) < 0.35
        assert 0.75 < np.mean(pull**2) < 1.3


@pytest.mark.parametrize("sigma", [15.0, 40.0, 70.0])
def test_wings_that_noise_hides(sigma):
    """Dispersions of faint lines are not those of what stands above the noise."""
    velocity, peak = np.linspace(-500, 500, 101), 6.0
    line = peak * np.exp(-0.5 * ((velocity - 20) / sigma) ** 2)
    inside = np.hypot(*np.indices((40, 40)) - 19.5) < 16
    values = line[:, None, None] * inside
    values = values + np.random.default_rng(0).normal(size=values.shape)
    wcs = cube_wcs(start=-500.0)
    maps = moments(ccd(values, wcs))
    good = inside & ~maps.dispersion.mask
    assert good.sum() > 0.9 * inside.sum()
    ratio = maps.dispersion.data[good] / sigma
    assert abs(np.median(ratio) - 1) < 0.06
    pull = (maps.dispersion.data - sigma) / maps.dispersion.uncertainty.array
    assert 0.6 < np.mean(np.abs(pull[good]) < 1) < 0.76
    flux = maps.moment0.data[good] / (peak * sigma * np.sqrt(2 * np.pi))
    assert abs(np.median(flux) - 1) < 0.05


def test_noise_of_its_own():
    """Errors follow the true noise, with and without an uncertainty."""
    noise = 0.05
    values = line_cube(noise=noise)
    own = moments(ccd(values)).moment0
    given = ccd(values, uncertainty=StdDevUncertainty(np.full(values.shape, noise)))
    given = moments(given).moment0
    both = ~own.mask & ~given.mask
    ratio = own.uncertainty.array[both] / given.uncertainty.array[both]
    assert abs(np.median(ratio) - 1) < 0.1


def test_uncertainty_is_the_noise():
    values = line_cube(noise=0.03)
    ivar = InverseVariance(np.full(values.shape, 0.03**-2))
    std = StdDevUncertainty(np.full(values.shape, 0.03))
    one, other = (moments(ccd(values, uncertainty=e)) for e in (ivar, std))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.uncertainty.array, b.uncertainty.array, rtol=1e-5)
    doubled = StdDevUncertainty(np.full(values.shape, 0.06))
    double = moments(ccd(values, uncertainty=doubled))
    both = ~double.velocity.mask & ~one.velocity.mask
    np.testing.assert_allclose(
        double.velocity.uncertainty.array[both],
        2 * one.velocity.uncertainty.array[both],
        rtol=1e-5,
    )


def test_pure_noise_has_no_line():
    noise = np.random.default_rng(3).normal(size=(61, *SHAPE))
    maps = moments(ccd(noise))
    assert maps.velocity.mask.mean() > 0.97


def test_matches_specutils():
    specutils = pytest.importorskip("specutils")
    from specutils.analysis import moment

    cube = specutils.Spectrum(
        flux=np.maximum(line_cube(), 1e-12) * u.Jy, wcs=cube_wcs(), meta={}
    )
    maps = moments(cube)
    assert not maps.velocity.mask.any()
    axis = cube.spectral_axis_index
    expected = [moment(cube, order=order, axis=axis) for order in (0, 1, 2)]
    np.testing.assert_allclose(
        maps.moment0.data, expected[0].to_value("Jy km/s"), rtol=1e-9
    )
    np.testing.assert_allclose(
        maps.velocity.data, expected[1].to_value("km/s"), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(
        maps.dispersion.data**2, expected[2].to_value("km2/s2"), rtol=1e-9
    )


@pytest.mark.parametrize(
    "convention, default, equivalency",
    [
        ("radio", "frequency", u.doppler_radio),
        ("optical", "wavelength", u.doppler_optical),
        ("relativistic", None, u.doppler_relativistic),
    ],
)
@pytest.mark.parametrize("kind", ["frequency", "wavelength"])
def test_conventions(kind, convention, default, equivalency):
    """One bright channel of known velocity on each axis."""
    if kind == "frequency":
        wcs = cube_wcs("FREQ", "Hz", 115.0e9, 1e7, rest=REST)
        axis = (115.0e9 + 1e7 * np.arange(11)) * u.Hz
    else:
        wcs = cube_wcs("WAVE", "m", 2.598e-3, 1e-6, rest=REST)
        axis = (2.598e-3 + 1e-6 * np.arange(11)) * u.m
    values = np.zeros((11, *SHAPE))
    values[6, 5:15, 5:15] = 1
    cube = ccd(values, wcs)
    maps = moments(cube, convention=convention, smooth=(0, 0))
    expected = axis[6].to_value(u.km / u.s, equivalency(REST))
    np.testing.assert_allclose(maps.velocity.data[5:15, 5:15], expected, rtol=1e-9)
    np.testing.assert_allclose(maps.dispersion.data[5:15, 5:15], 0, atol=1e-6)
    velocity = axis.to_value(u.km / u.s, equivalency(REST))
    width = abs(velocity[7] - velocity[5]) / 2
    np.testing.assert_allclose(maps.moment0.data[5:15, 5:15], width, rtol=1e-9)
    if default == kind:
        again = moments(cube, smooth=(0, 0))
        np.testing.assert_array_equal(again.velocity.data, maps.velocity.data)


def test_rest_value():
    wcs = cube_wcs("FREQ", "Hz", 115.0e9, 1e7)
    cube = ccd(line_cube()[:30], wcs)
    with pytest.raises(InputUnitError, match="rest_value="):
        moments(cube)
    for bad in (115.271, 3 * u.kg):
        with pytest.raises(InputUnitError, match="rest_value"):
            moments(cube, rest_value=bad)
    one = moments(cube, rest_value=REST)
    other = moments(cube, rest_value=REST.to(u.mm, u.spectral()))
    np.testing.assert_allclose(one.velocity.data, other.velocity.data, rtol=1e-9)
    card = ccd(line_cube()[:30], wcs, meta={"RESTFREQ": REST.to_value(u.Hz)})
    np.testing.assert_allclose(moments(card).velocity.data, one.velocity.data)


def test_velocity_axis_of_another_convention():
    values = np.zeros((61, *SHAPE))
    values[40, 5:15, 5:15] = 1
    cube = ccd(values, cube_wcs(start=5000.0))
    radio = (5000.0 + 400) * u.km / u.s
    frequency = radio.to(u.GHz, u.doppler_radio(REST))
    optical = frequency.to_value(u.km / u.s, u.doppler_optical(REST))
    for convention, expected in [(None, 5400), ("radio", 5400), ("optical", optical)]:
        maps = moments(cube, convention=convention, smooth=(0, 0))
        np.testing.assert_allclose(maps.velocity.data[7, 7], expected, rtol=1e-9)


def test_velocity_axis_of_unknown_convention():
    specutils = pytest.importorskip("specutils")
    cube = specutils.Spectrum(
        flux=np.moveaxis(line_cube(), 0, -1) * u.Jy,
        spectral_axis=CHANNELS * u.km / u.s,
        spectral_axis_index=2,
    )
    with pytest.raises(InputError, match="convention"):
        moments(cube, convention="radio")


def test_descending_axis():
    values = line_cube(noise=0.03)
    one = moments(ccd(values))
    other = moments(ccd(values[::-1], cube_wcs(start=300.0, step=-10.0)))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-6, atol=1e-9)


def test_unequal_channels():
    """Sampling a line unevenly does not change its moments."""
    specutils = pytest.importorskip("specutils")
    step = np.where(np.arange(90) < 45, 5.0, 8.0)
    velocity = np.cumsum(step) - 290
    cube = specutils.Spectrum(
        flux=np.moveaxis(line_cube(velocity), 0, -1) * u.Jy,
        spectral_axis=velocity * u.km / u.s,
        spectral_axis_index=2,
    )
    maps = moments(cube)
    use = inside(maps)
    for image, expected in zip(maps, truth(), strict=True):
        np.testing.assert_allclose(image.data[use], expected[use], rtol=2e-3, atol=0.05)


def test_bad_voxels_are_left_out():
    values = line_cube(noise=0.02)
    clean = moments(ccd(values))
    mask = np.zeros(values.shape, bool)
    mask[5, 3:8, 3:8] = True
    bad = values.copy()
    bad[mask] = 1e6
    nan = values.copy()
    nan[mask] = np.nan
    nan[:, 0, 0] = np.inf
    masked = moments(ccd(bad, mask=mask))
    holes = moments(ccd(nan))
    assert holes.velocity.mask[0, 0]
    for image, other, reference in zip(masked, holes, clean, strict=True):
        use = inside(clean)
        use[:3] = False
        np.testing.assert_allclose(image.data[use], reference.data[use], rtol=0.1)
        np.testing.assert_allclose(other.data[use], reference.data[use], rtol=0.1)


def test_input_is_not_changed():
    values = line_cube(noise=0.02)
    values[3, 4, 5] = np.nan
    error = np.full(values.shape, 0.02)
    cube = ccd(
        values.copy(),
        uncertainty=StdDevUncertainty(error.copy()),
        mask=np.isnan(values),
        meta={"OBJECT": "x", "BMAJ": 2 / 3600},
    )
    moments(cube)
    np.testing.assert_array_equal(cube.data, values)
    np.testing.assert_array_equal(cube.uncertainty.array, error)
    np.testing.assert_array_equal(cube.mask, np.isnan(values))
    assert dict(cube.meta) == {"OBJECT": "x", "BMAJ": 2 / 3600}


def test_beam_sets_the_smoothing():
    values = line_cube(noise=0.4)
    beam = moments(ccd(values, meta={"BMAJ": 2.0 / 3600, "BMIN": 1.5 / 3600}))
    fwhm = np.sqrt(2.0 * 1.5) / 0.5
    given = moments(ccd(values), smooth=(1.5, fwhm / np.sqrt(8 * np.log(2))))
    for a, b in zip(beam, given, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_allclose(a.data, b.data)
    other = moments(ccd(values))
    same = np.isclose(other.velocity.data, beam.velocity.data, equal_nan=True)
    assert 1 <= (~same).sum() <= 0.8 * same.size


@pytest.mark.parametrize(
    "values, wcs, options, match",
    [
        (line_cube()[:1], cube_wcs(), {}, "1 channel"),
        (line_cube(), None, {"convention": "other"}, "convention"),
        (line_cube(), None, {"n_sigma": 0}, "n_sigma"),
        (line_cube(), None, {"n_sigma": np.nan}, "n_sigma"),
        (line_cube(), None, {"smooth": (1, -1)}, "smooth"),
        (line_cube(), None, {"smooth": 2}, "smooth"),
    ],
)
def test_bad_arguments(values, wcs, options, match):
    with pytest.raises(InputError, match=match):
        moments(ccd(values, wcs), **options)


def test_written_and_read_again(tmp_path):
    header = cube_wcs().to_header()
    header["BUNIT"] = "Jy/beam"
    path = tmp_path / "cube.fits"
    fits.writeto(path, line_cube(noise=0.03).astype(">f4"), header)
    maps = moments(path)
    maps.velocity.write(tmp_path / "velocity.fits")
    again = CCDData.read(tmp_path / "velocity.fits")
    assert again.unit == u.km / u.s
    assert again.wcs.naxis == 2
    np.testing.assert_allclose(again.data, maps.velocity.data)
    assert "CTYPE3" not in fits.getheader(tmp_path / "velocity.fits")
