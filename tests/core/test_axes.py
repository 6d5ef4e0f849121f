# Licensed under a 3-clause BSD style license - see LICENSE.rst
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import (
    CCDData,
    NDData,
    NDDataRef,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from galml.core import Flag, InputError
from galml.core.geometry import arrange, celestial, roles, spectral_axis
from galml.core.inputs import read

KMS = u.km / u.s
SHAPE = (4, 6)
IMAGE = np.arange(24.0).reshape(SHAPE) - 7.5
MASK = IMAGE > 10


def cube_wcs(order=("RA---TAN", "DEC--TAN", "FREQ")):
    value = {"RA---TAN": 10.0, "DEC--TAN": 20.0, "FREQ": 1.4e9, "VRAD": 1e5}
    step = {"RA---TAN": -1e-4, "DEC--TAN": 1e-4, "FREQ": 1e6, "VRAD": 5e3}
    wcs = WCS(naxis=len(order))
    wcs.wcs.ctype = list(order)
    wcs.wcs.crval = [value.get(name, 1.0) for name in order]
    wcs.wcs.cdelt = [step.get(name, 1.0) for name in order]
    wcs.wcs.crpix = [1.0] * len(order)
    wcs.wcs.restfrq = 1.42e9
    wcs.wcs.set()
    return wcs


def test_roles():
    assert roles(cube_wcs()) == ["spectral", "sky", "sky"]
    assert roles(cube_wcs(("RA---TAN", "DEC--TAN", "STOKES"))) == ["", "sky", "sky"]
    assert roles(None) == []


def test_image_with_degenerate_axes():
    wcs = cube_wcs(("RA---TAN", "DEC--TAN", "FREQ", "STOKES"))
    got = read(CCDData(IMAGE[None, None], unit=KMS, wcs=wcs))
    np.testing.assert_array_equal(got.values, IMAGE)
    assert got.wcs.naxis == 2
    expected = wcs.celestial.pixel_to_world_values(2.0, 3.0)
    np.testing.assert_allclose(got.wcs.pixel_to_world_values(2.0, 3.0), expected)


def test_degenerate_axes_without_wcs():
    np.testing.assert_array_equal(read(IMAGE[None, None] * KMS).values, IMAGE)
    assert read(IMAGE[:1] * KMS).values.shape == (1, 6)
    assert read(IMAGE[:, None, :1] * KMS, ndim=(3,)).values.shape == (4, 1, 1)
    with pytest.raises(InputError):
        read(IMAGE[:, None] * KMS)


def test_degenerate_axes_of_mask_and_uncertainty():
    data = NDData(
        IMAGE[None],
        unit=KMS,
        mask=MASK[None],
        uncertainty=StdDevUncertainty(IMAGE[None] + 20.0),
    )
    got = read(data)
    np.testing.assert_array_equal(got.mask, MASK)
    np.testing.assert_array_equal(got.std, np.where(MASK, np.nan, IMAGE + 20.0))


def test_wcs_with_more_axes_than_the_image():
    wcs = cube_wcs(("RA---TAN", "DEC--TAN", "FREQ", "STOKES"))
    got = read(NDData(IMAGE, unit=KMS, wcs=wcs))
    assert got.wcs.naxis == 2
    assert got.wcs.has_celestial


def test_wcs_that_is_not_celestial():
    wcs = WCS(naxis=2)
    got = read(NDData(IMAGE, unit=KMS, wcs=wcs))
    assert got.wcs is None
    assert got.flags & Flag.NO_WCS


@pytest.mark.parametrize("spectral", [0, 1, 2])
def test_spectral_axis_comes_first(spectral):
    order = ["DEC--TAN", "RA---TAN"]
    order.insert(spectral, "FREQ")
    cube = np.random.default_rng(1).normal(size=(5, 4, 6))
    data = CCDData(
        np.moveaxis(cube, 0, spectral),
        unit=u.Jy,
        wcs=cube_wcs(order[::-1]),
        uncertainty=StdDevUncertainty(np.moveaxis(cube**2, 0, spectral)),
    )
    got = read(data, ndim=(2, 3))
    np.testing.assert_array_equal(got.values, cube)
    np.testing.assert_array_equal(got.std, cube**2)
    np.testing.assert_allclose(
        got.spectral_axis.to_value(u.GHz), 1.4 + 1e-3 * np.arange(5)
    )
    assert got.spectral_axis.doppler_rest == 1.42 * u.GHz
    assert not got.flags & Flag.NO_WCS
    np.testing.assert_allclose(
        celestial(got.wcs).pixel_to_world_values(3.0, 1.0),
        data.wcs.celestial.pixel_to_world_values(3.0, 1.0),
    )


def test_velocity_axis_has_its_convention():
    wcs = cube_wcs(("RA---TAN", "DEC--TAN", "VRAD"))
    got = read(CCDData(np.ones((5, 4, 6)), unit=u.K, wcs=wcs), ndim=(3,))
    assert got.spectral_axis.doppler_convention == "radio"
    np.testing.assert_allclose(got.spectral_axis.to_value(KMS), 100 + 5 * np.arange(5))


def test_redshift_axis_is_an_optical_velocity():
    wcs = cube_wcs(("RA---TAN", "DEC--TAN", "ZOPT"))
    wcs.wcs.crval = 10.0, 20.0, 0.01
    wcs.wcs.cdelt = -1e-4, 1e-4, 1e-3
    got = read(CCDData(np.ones((2, 4, 6)), unit=u.K, wcs=wcs), ndim=(3,))
    assert got.spectral_axis.doppler_convention == "optical"
    np.testing.assert_allclose(
        got.spectral_axis.to_value(KMS), [2997.92458, 3297.717038]
    )


def test_cube_with_the_wcs_of_an_image():
    got = read(
        NDData(np.ones((5, 4, 6)), unit=u.K, wcs=cube_wcs().celestial), ndim=(3,)
    )
    assert got.spectral_axis is None
    assert celestial(got.wcs) is not None


def test_mixed_axes_cannot_be_separated():
    wcs = cube_wcs()
    wcs.wcs.pc = [[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]
    with pytest.raises(InputError, match="axes are mixed"):
        read(CCDData(np.ones((1, 4, 6)), unit=KMS, wcs=wcs))


@pytest.mark.parametrize("spectral", [0, 2])
@pytest.mark.parametrize("with_wcs", [False, True])
def test_spectrum_cube(spectral, with_wcs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        specutils = pytest.importorskip("specutils")
    cube = np.random.default_rng(1).normal(size=(5, 4, 6)) * u.Jy
    flux = cube if spectral == 0 else cube.T
    options = {
        "uncertainty": VarianceUncertainty(flux.value**2),
        "mask": flux.value > 1,
        "meta": {"header": {"OBJECT": "NGC 5", "BMAJ": 0.1}},
        "spectral_axis_index": spectral,
    }
    if with_wcs:
        options["wcs"] = cube_wcs() if spectral == 0 else cube_wcs().swapaxes(0, 2)
    else:
        options["spectral_axis"] = (1.4 + 1e-3 * np.arange(5)) * u.GHz
        options["rest_value"] = 1.42 * u.GHz
    spectrum = specutils.Spectrum(flux, **options)
    before = spectrum.flux.value.tobytes(), spectrum.mask.tobytes()
    got = read(spectrum, ndim=(2, 3))
    assert spectrum.spectral_axis_index == spectral
    expected = np.moveaxis(flux.value, spectral, 0)
    masked = expected > 1
    np.testing.assert_array_equal(got.values, np.where(masked, np.nan, expected))
    np.testing.assert_allclose(got.std, np.where(masked, np.nan, abs(expected)))
    np.testing.assert_allclose(
        got.spectral_axis.to_value(u.GHz), 1.4 + 1e-3 * np.arange(5)
    )
    assert got.spectral_axis.doppler_rest == 1.42 * u.GHz
    assert (got.name, got.meta["BMAJ"]) == ("NGC 5", 0.1)
    assert (celestial(got.wcs) is not None) == with_wcs
    assert (spectrum.flux.value.tobytes(), spectrum.mask.tobytes()) == before


def test_any_shared_wcs():
    cube = NDDataRef(np.ones((5, 6, 8)), unit=KMS, wcs=cube_wcs())
    plane = cube[2:3, 1:5, 2:8]
    assert not isinstance(plane.wcs, WCS)
    got = read(plane)
    assert got.values.shape == SHAPE
    expected = cube.wcs.celestial.pixel_to_world_values(5.0, 3.0)
    found = got.wcs.low_level_wcs.pixel_to_world_values(3.0, 2.0)
    np.testing.assert_allclose(found, expected)


def test_shared_wcs_that_would_have_to_be_reordered_is_left_out():
    wcs = cube_wcs(("FREQ", "RA---TAN", "DEC--TAN"))
    cut = NDDataRef(np.ones((6, 8, 5)), unit=KMS, wcs=wcs)[1:, 2:]
    axes, kept = arrange(cut.wcs, cut.data.shape, 2, "data")
    assert axes == (2, 0, 1)
    assert kept is None


def test_rest_wavelength():
    wcs = cube_wcs(("RA---TAN", "DEC--TAN", "WAVE"))
    wcs.wcs.restfrq, wcs.wcs.restwav = 0.0, 6.564e-7
    assert spectral_axis(wcs, 3).doppler_rest == 6.564e-7 * u.m
