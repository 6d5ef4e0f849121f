# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Cubes with continuum and many lines."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.fitting import LinearLSQFitter
from astropy.modeling.models import Polynomial1D
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from specutils import SpectralRegion, Spectrum, fitting
from specutils.manipulation import spectral_slab
from specutils.utils.wcs_utils import vac_to_air

import galml
from galml.core import GalmlWarning, InputError, InputTypeError, InputUnitError
from galml.core.flags import Flag
from galml.gas_kinematics import moments
from galml.gas_kinematics.lines import SpectralLine, fit_continuum

KMS = u.km / u.s
C = 299792.458
LINE, OTHER = 6564.6, 6585.3
REDSHIFT = 0.02
SHAPE = 26, 24
UNIT = u.Unit("1e-20 erg / (s cm2 Angstrom)")
WAVELENGTH = 6600 + 1.25 * np.arange(170)
NOISE = 0.1
#: Peak of the line, and width in Angstrom.
SIGMA = 1.8
CENTER = (11.5, 12.5)
Y, X = np.indices(SHAPE) - np.array([12.5, 11.5]).reshape(2, 1, 1)
RADIUS = np.hypot(X, Y)
PEAK = np.where(RADIUS < 10, 12 * np.exp(-RADIUS / 12), 0)
VELOCITY = 150 * np.tanh(RADIUS / 4) * Y / np.maximum(RADIUS, 0.1)
INSIDE = RADIUS < 8


def spectra(wavelength=WAVELENGTH, noise=NOISE, seed=0):
    """Two lines on a sloped continuum; wavelengths in vacuum."""
    wave = np.asarray(wavelength)[:, None, None]
    flux = 3 * np.exp(-RADIUS / 10) * (1 + 1e-3 * (wave - 6700))
    for rest, ratio in ((LINE, 1.0), (OTHER, 0.4)):
        mean = rest * (1 + REDSHIFT) * (1 + VELOCITY / C)
        flux = flux + ratio * PEAK * np.exp(-0.5 * ((wave - mean) / SIGMA) ** 2)
    return flux + np.random.default_rng(seed).normal(0, noise, flux.shape)


def header(ctype="WAVE", cunit="Angstrom", start=6600.0, step=1.25, rest=None):
    cards = fits.Header()
    axes = (
        ("RA---TAN", "deg", 150.0, -0.2 / 3600, 12.5),
        ("DEC--TAN", "deg", 2.0, 0.2 / 3600, 13.5),
        (ctype, cunit, start, step, 1.0),
    )
    for number, axis in enumerate(axes, start=1):
        for card, value in zip(
            ("CTYPE", "CUNIT", "CRVAL", "CDELT", "CRPIX"), axis, strict=True
        ):
            cards[f"{card}{number}"] = value
    if rest is not None:
        cards["RESTFRQ"] = rest
    return cards


def cube(values=None, cards=None, **options):
    values = spectra() if values is None else values
    wcs = WCS(header() if cards is None else cards)
    return CCDData(values, unit=UNIT, wcs=wcs, meta={}, **options)


def measure(data, **options):
    options = {"line": LINE * u.AA, "redshift": REDSHIFT} | options
    return moments(data, **options)


def assert_right(maps, limit=0.3):
    """Maps agree with the truth inside of their errors."""
    good = INSIDE & ~maps.velocity.mask
    assert good.sum() > 0.97 * INSIDE.sum()
    width = SIGMA / LINE / (1 + REDSHIFT) * C
    truth = {
        "velocity": VELOCITY,
        "dispersion": np.full(SHAPE, width),
        "moment0": PEAK * width * np.sqrt(2 * np.pi),
    }
    for name, expected in truth.items():
        image = getattr(maps, name)
        pull = ((image.data - expected) / image.uncertainty.array)[good]
        pull = pull[np.isfinite(pull)]
        assert abs(np.median(pull)) < limit, name
        assert 0.7 < np.sqrt(np.mean(pull**2)) < 1.3, name


def test_one_of_two_lines_on_a_continuum():
    maps = measure(cube())
    assert_right(maps)
    assert maps.moment0.unit == UNIT * KMS
    assert maps.velocity.wcs.naxis == 2


def test_the_other_line():
    maps = measure(cube(), line=OTHER * u.AA, width=700 * KMS)
    good = INSIDE & ~maps.velocity.mask
    assert good.sum() > 0.95 * INSIDE.sum()
    error = (maps.velocity.data - VELOCITY)[good]
    assert abs(np.median(error)) < 1 and np.quantile(abs(error), 0.68) < 8


@pytest.mark.parametrize(
    "kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance]
)
def test_uncertainties(kind):
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    values = spectra()
    known = kind(np.full(values.shape, NOISE**power))
    maps = measure(cube(values, uncertainty=known))
    assert_right(maps)
    std = StdDevUncertainty(np.full(values.shape, NOISE))
    reference = measure(cube(values, uncertainty=std))
    for one, other in zip(maps, reference, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            one.uncertainty.array, other.uncertainty.array, rtol=1e-4
        )


def test_the_continuum_adds_to_the_errors():
    """Its error is the same in all channels, and counts with their number."""
    values = spectra()
    std = StdDevUncertainty(np.full(values.shape, NOISE))
    data = cube(values, uncertainty=std)
    free = cube(values - spectra(noise=0) + lines_alone(), uncertainty=std)
    narrow, wide, none = (
        measure(one, continuum=window * KMS).moment0
        for one, window in ((data, 1800), (data, 3500), (free, 0))
    )
    good = INSIDE & ~(narrow.mask | wide.mask | none.mask)
    errors = [np.median(one.uncertainty.array[good]) for one in (narrow, wide, none)]
    assert errors[0] > 1.1 * errors[1] > 1.1 * errors[2]


def lines_alone():
    wave = WAVELENGTH[:, None, None]
    return spectra(noise=0) - 3 * np.exp(-RADIUS / 10) * (1 + 1e-3 * (wave - 6700))


def kinds():
    """The same cube with spectral axes of other kinds."""
    wave = WAVELENGTH * u.AA
    step = np.diff(WAVELENGTH)[0]
    yield "descending", cube(spectra()[::-1], header(start=WAVELENGTH[-1], step=-step))
    # What an instrument in air calls 6600 Angstrom is longer in vacuum.
    air = vac_to_air(wave, method="Morton2000").value
    even = np.linspace(air[0], air[-1], len(air))
    index = 1 + (np.interp(even, air, WAVELENGTH) / WAVELENGTH - 1)
    vacuum = WAVELENGTH * index
    step = even[1] - even[0]
    yield "air", cube(spectra(vacuum), header("AWAV", start=even[0], step=step))
    frequency = wave.to_value(u.Hz, u.spectral())
    even = np.linspace(frequency[0], frequency[-1], len(frequency))
    values = spectra((even * u.Hz).to_value(u.AA, u.spectral()))
    step = even[1] - even[0]
    yield "frequency", cube(values, header("FREQ", "Hz", even[0], step))
    rest = (6500 * u.AA).to_value(u.Hz, u.spectral())
    for ctype, equivalency in (("VRAD", u.doppler_radio), ("VOPT", u.doppler_optical)):
        speed = wave.to_value(u.m / u.s, equivalency(rest * u.Hz))
        even = np.linspace(speed[0], speed[-1], len(speed))
        values = spectra((even * u.m / u.s).to_value(u.AA, equivalency(rest * u.Hz)))
        step = even[1] - even[0]
        cards = header(ctype, "m/s", even[0], step, rest=rest)
        yield ctype, cube(values, cards)
    yield "linear", cube(cards=header("LINEAR"))
    energy = cards = header("ENER", "J")
    even = np.linspace(*wave[[0, -1]].to_value(u.J, u.spectral()), len(wave))
    cards = header("ENER", "J", even[0], even[1] - even[0])
    energy = cube(spectra((even * u.J).to_value(u.AA, u.spectral())), cards)
    yield "energy", energy
    yield (
        "Spectrum",
        Spectrum(flux=spectra() * UNIT, spectral_axis=wave, spectral_axis_index=0),
    )
    last = np.moveaxis(spectra(), 0, -1)
    yield (
        "last axis",
        Spectrum(flux=last * UNIT, spectral_axis=wave.to(u.nm), spectral_axis_index=2),
    )


@pytest.mark.parametrize("kind", [name for name, _ in kinds()])
def test_spectral_axes(kind):
    assert_right(measure(dict(kinds())[kind]))


@pytest.mark.parametrize("unit", [u.nm, u.GHz, u.eV])
def test_units_of_the_line(unit):
    line = (LINE * u.AA).to(unit, u.spectral())
    one, other = measure(cube()), measure(cube(), line=line)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-6, atol=1e-6)


def test_radio_and_optical_velocities():
    """About a redshifted line they differ to second order only."""
    optical = measure(cube()).velocity
    radio = measure(cube(), convention="radio").velocity
    good = INSIDE & ~(optical.mask | radio.mask)
    speed = optical.data[good]
    difference = radio.data[good] - speed / (1 + speed / C)
    # Their slabs differ by a channel here and there.
    assert abs(np.median(difference)) < 0.3
    assert np.quantile(abs(difference), 0.9) < 3


def test_bad_channels():
    values = spectra()
    bad = np.zeros(values.shape, bool)
    bad[10:14] = bad[100:102, 10:14, 10:14] = True
    broken = np.where(bad, 1e4, values)
    reference = measure(cube(values))
    masked = measure(cube(broken, mask=bad))
    unknown = measure(cube(np.where(bad, np.nan, values)))
    for one, other in zip(masked, unknown, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    good = INSIDE & ~reference.velocity.mask
    good[10:14, 10:14] = False
    np.testing.assert_allclose(
        masked.velocity.data[good], reference.velocity.data[good], atol=15
    )
    # Without a mask a hot channel beside the line is recognized as such.
    hot = values.copy()
    hot[12] += 50
    assert_right(measure(cube(hot)))


def test_the_slab_is_that_of_specutils():
    axis = Spectrum(
        flux=np.arange(len(WAVELENGTH)) * u.one, spectral_axis=WAVELENGTH * u.AA
    )
    line = SpectralLine(LINE * u.AA, REDSHIFT, 800 * KMS, 2400 * KMS)
    velocity = line.velocities(axis.spectral_axis)
    inside, beside = line.split(velocity)
    center = LINE * (1 + REDSHIFT)
    edges = [center * (1 + v / C) * u.AA for v in (-400, 400, -1200, 1200)]
    expected = spectral_slab(axis, *edges[:2]).flux.value
    window = spectral_slab(axis, *edges[2:]).flux.value
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(np.union1d(inside, beside), window)
    chosen = line.channels(axis.spectral_axis)
    assert (chosen.start, chosen.stop) == (window.min(), window.max() + 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_continuum_is_that_of_specutils(weighted):
    random = np.random.default_rng(2)
    velocity = np.arange(-1500, 1501, 60.0)
    beside = abs(velocity) > 500
    # Noise without outliers, so that nothing is left out.
    std = random.uniform(0.8, 1.2, (len(velocity), 3, 4))
    noise = std * random.uniform(-1, 1, std.shape)
    values = 20 + 0.004 * velocity[:, None, None] + noise
    values[~beside] += 30
    values[3, 0, 0] = np.nan
    errors = std[beside] if weighted else None
    found = fit_continuum(velocity[beside], values[beside], errors)
    line = found.at(velocity)
    for y, x in np.ndindex(3, 4):
        known = np.isfinite(values[:, y, x])
        # Weights are not yet there beside excluded regions.
        known &= beside | ~np.bool_(weighted)
        spectrum = Spectrum(
            flux=values[known, y, x] * u.Jy,
            spectral_axis=velocity[known] * KMS,
            uncertainty=StdDevUncertainty(std[known, y, x]),
        )
        model, fitter = Polynomial1D(1), LinearLSQFitter()
        if weighted:
            model = fitting.fit_lines(spectrum, model, fitter=fitter, weights="unc")
        else:
            region = SpectralRegion(-500 * KMS, 500 * KMS)
            model = fitting.fit_continuum(
                spectrum, model=model, fitter=fitter, exclude_regions=[region]
            )
        expected = model(velocity * KMS).to_value(u.Jy)
        np.testing.assert_allclose(line[:, y, x], expected, rtol=1e-6)


def test_the_covariance_of_the_continuum():
    velocity = np.r_[-1500:-480:60, 500:1501:60].astype(float)
    std = np.linspace(0.5, 1.5, len(velocity))[:, None, None] * np.ones((1, 60, 60))
    noise = std * np.random.default_rng(3).normal(size=std.shape)
    fit = fit_continuum(velocity, 5 + noise, std)
    scatter = np.cov(fit.coefficients.reshape(2, -1))
    expected = fit.covariance.mean(axis=(2, 3))
    np.testing.assert_allclose(scatter, expected, rtol=0.12, atol=2e-4)


def test_lines_in_the_window_of_the_continuum_are_left_out():
    velocity = np.arange(-1500, 1501, 50.0)
    velocity = velocity[abs(velocity) > 500]
    values = (2 + 1e-3 * velocity)[:, None, None] * np.ones((1, 5, 5))
    values = values + np.random.default_rng(4).normal(0, 0.05, values.shape)
    clean = fit_continuum(velocity, values).at(velocity)
    for place, peak in ((-800, 10), (950, 3)):
        line = peak * np.exp(-0.5 * ((velocity - place) / 80) ** 2)
        values = values + line[:, None, None]
    found = fit_continuum(velocity, values)
    assert np.abs(found.at(velocity) - clean).max() < 0.1
    np.testing.assert_allclose(found.noise, 0.05, rtol=0.7)


def test_a_spectrum_without_noise_keeps_its_continuum():
    velocity = np.r_[-1000:-400:50, 450:1001:50].astype(float)
    values = (2 + 1e-3 * velocity)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(fit_continuum(velocity, values).at(velocity), values)
    values[:, 0, 0] = np.nan
    values[3:, 0, 1] = np.nan
    found = fit_continuum(velocity, values).at(velocity)
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()


def test_circularity_of_a_line():
    data = cube()
    table = galml.circularity(data, line=LINE * u.AA, redshift=REDSHIFT)
    maps = measure(data)
    expected = galml.circularity(maps.velocity, dispersion=maps.dispersion)
    for name in ("circularity", "position_angle", "map_quality"):
        np.testing.assert_allclose(
            u.Quantity(table[name]).value, u.Quantity(expected[name]).value, atol=1e-4
        )
    # North is up, and the receding side is there.
    assert abs((table["position_angle"][0].value + 180) % 360 - 180) < 3
    assert not table["flags"][0] & Flag.NO_UNCERTAINTY
    several = galml.circularity(
        [data, data, data],
        line=[LINE, OTHER, LINE] * u.AA,
        redshift=[REDSHIFT, REDSHIFT, REDSHIFT + 0.0005],
        width=700 * KMS,
    )
    kappa = several["circularity"]
    assert kappa[0] == pytest.approx(kappa[1], abs=0.1)
    assert kappa[0] == pytest.approx(kappa[2], abs=0.1)


def test_a_line_outside_of_a_cube_fails_that_row():
    data = cube()
    with pytest.warns(GalmlWarning, match="1 of 2 .*line: got .*redshift 0.5"):
        table = galml.circularity(
            [data, data], line=LINE * u.AA, redshift=[0.5, REDSHIFT]
        )
    assert np.isnan(table["circularity"][0]) and np.isfinite(table["circularity"][1])
    with pytest.raises(InputError, match="line: got 6564.6 Angstrom at redshift 0.5"):
        galml.circularity(data, line=LINE * u.AA, redshift=0.5)


def test_only_the_channels_around_the_line_are_read(tmp_path):
    from galml.core.inputs import read

    path = tmp_path / "cube.fits"
    cards = header()
    cards["BUNIT"] = "10**(-20)*erg/s/cm**2/Angstrom"
    values = spectra().astype(">f4")
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(values, cards, name="DATA"),
            fits.ImageHDU(np.full_like(values, NOISE**2), cards, name="STAT"),
        ]
    ).writeto(path)
    line = SpectralLine(LINE * u.AA, REDSHIFT)
    observation = read(path, ndim=(3,), channels=line.channels)
    assert len(observation.values) < 70
    assert observation.std.shape == observation.values.shape
    assert len(observation.spectral_axis) == len(observation.values)
    maps = measure(path)
    assert_right(maps)
    std = StdDevUncertainty(np.full(values.shape, NOISE))
    reference = measure(cube(values.astype(float), uncertainty=std))
    for one, other in zip(maps, reference, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-3)
    with fits.open(path) as hdus:
        assert_right(measure(hdus))


def test_inputs_are_not_changed():
    values = spectra()
    data = cube(
        values.copy(), uncertainty=VarianceUncertainty(np.full_like(values, 0.01))
    )
    text = data.wcs.to_header_string()
    galml.circularity(data, line=LINE * u.AA, redshift=REDSHIFT)
    np.testing.assert_array_equal(data.data, values)
    assert (data.uncertainty.array == 0.01).all()
    assert data.wcs.to_header_string() == text and data.meta == {}


def test_rest_values_go_through_circularity():
    values = spectra() - 3 * np.exp(-RADIUS / 10)
    values = values[85:110]
    data = cube(values, header(start=WAVELENGTH[85]))
    with pytest.raises(InputUnitError, match="rest_value"):
        galml.circularity(data)
    rest = LINE * (1 + REDSHIFT) * u.AA
    table = galml.circularity(data, rest_value=rest, convention="optical")
    maps = moments(data, rest_value=rest, convention="optical")
    expected = galml.circularity(maps.velocity, dispersion=maps.dispersion)
    assert table["circularity"][0] == pytest.approx(
        expected["circularity"][0], abs=1e-5
    )
    # A map of wavelengths, whose header does not tell its line.
    image = (VELOCITY * KMS).to(u.AA, u.doppler_optical(rest))
    table = galml.circularity(image, rest_value=rest)
    expected = galml.circularity(VELOCITY * KMS)
    assert table["circularity"][0] == pytest.approx(
        expected["circularity"][0], abs=1e-4
    )


def test_rest_values_of_other_lines():
    data = cube(spectra()[85:110], header(start=WAVELENGTH[85]))
    with pytest.raises(InputError, match="rest_value: got 18751 Angstrom, by which"):
        moments(data, rest_value=18751 * u.AA)
    # A galaxy may be that far away.
    assert moments(data, rest_value=1216 * u.AA).velocity.data[12, 11] > 1e6


def test_redshifted_radio_cubes():
    """Radio velocities of a distant galaxy are brought to optical ones first."""
    redshift, rest = 0.5, 230.538e9
    speeds = np.arange(-500, 501, 20.0)
    observed = rest / (1 + redshift)
    frequency = observed * (1 - speeds / C)
    step = frequency[1] - frequency[0]
    line = np.exp(-0.5 * ((speeds[:, None, None] - VELOCITY) / 30) ** 2) * PEAK
    line = line + np.random.default_rng(1).normal(0, NOISE, line.shape)
    data = cube(line, header("FREQ", "Hz", frequency[0], step, rest=rest))
    direct = galml.circularity(data, redshift=redshift)
    about = galml.circularity(
        data, line=rest * u.Hz, redshift=redshift, continuum=0 * KMS
    )
    for name in ("circularity", "circularity_err"):
        assert direct[name][0] == pytest.approx(about[name][0], abs=0.02)
    near = moments(data, line=rest * u.Hz, redshift=redshift, continuum=0 * KMS)
    good = INSIDE & ~near.velocity.mask
    assert abs(np.median((near.velocity.data - VELOCITY)[good])) < 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"line": None, "width": 500 * KMS}, InputError, "width.*without line="),
        (
            {"line": None, "continuum": 500 * KMS},
            InputError,
            "continuum.*without line=",
        ),
        ({"line": 6564.6}, InputUnitError, "line"),
        ({"line": 3 * KMS}, InputUnitError, "line"),
        ({"line": -3 * u.AA}, InputError, "line.*above zero"),
        ({"width": 10 * u.AA}, InputUnitError, "width.*a velocity"),
        ({"width": 0 * KMS}, InputError, "width"),
        ({"width": -5 * KMS}, InputError, "width"),
        ({"width": 1 * KMS}, InputError, "line"),
        ({"continuum": 900 * KMS}, InputError, "continuum.*more than the width"),
        ({"continuum": 1050 * KMS}, InputError, "continuum: got . channels beside"),
        ({"rest_value": 6564 * u.AA}, InputError, "rest_value"),
        ({"convention": "other"}, InputError, "convention"),
        ({"redshift": "far"}, InputTypeError, "redshift"),
        ({"redshift": 0.02 + 0j}, InputTypeError, "redshift"),
        ({"redshift": np.ma.masked}, InputTypeError, "redshift"),
        ({"redshift": 10**400}, InputTypeError, "redshift"),
        ({"redshift": -2}, InputError, "redshift"),
    ],
)
def test_bad_options(options, error, match):
    for function in (moments, galml.circularity):
        with pytest.raises(error, match=match):
            function(
                cube(cards=header(start=WAVELENGTH[0] / (1 + REDSHIFT))),
                **({"line": LINE * u.AA} | options),
            )


def test_redshift_of_moments_needs_a_line():
    with pytest.raises(InputError, match="redshift.*without line="):
        moments(cube(), redshift=0.1)


def test_velocity_maps_have_no_lines():
    with pytest.raises(InputError, match="line.*velocity map"):
        galml.circularity(VELOCITY * KMS, line=LINE * u.AA)
    batches = np.stack([VELOCITY] * 2) * KMS, [CCDData(VELOCITY, unit=KMS)] * 2
    for data in batches:
        with pytest.warns(GalmlWarning, match="2 of 2 .*line.*velocity map"):
            table = galml.circularity(data, line=LINE * u.AA)
        assert np.isnan(table["circularity"]).all()


def test_a_velocity_axis_needs_a_rest_value_and_a_convention():
    data = cube(cards=header("VRAD", "m/s", -8e5, 1e4))
    with pytest.raises(InputUnitError, match="rest_value"):
        measure(data)
    data = cube(cards=header("VELOCITY", "m/s", -8e5, 1e4))
    with pytest.raises(InputError, match="line.*does not tell its convention"):
        measure(data)


def test_dispersions_share_the_extension(tmp_path):
    """One file with both maps, and files with one map each."""
    dispersion = np.full(SHAPE, 20.0) + RADIUS
    both, first, second = (tmp_path / f"{name}.fits" for name in "abc")
    card = fits.Header({"BUNIT": "km/s"})
    image, width = (
        fits.ImageHDU(values, card, name=name)
        for values, name in ((VELOCITY, "VEL"), (dispersion, "SIGMA"))
    )
    nothing = fits.ImageHDU(np.zeros(SHAPE), card, name="ZERO")
    fits.HDUList([fits.PrimaryHDU(), nothing, image, width]).writeto(both)
    fits.HDUList([fits.PrimaryHDU(), nothing, image]).writeto(first)
    width.name = "VEL"
    fits.HDUList([fits.PrimaryHDU(), nothing, width]).writeto(second)
    expected = galml.circularity(VELOCITY * KMS, dispersion=dispersion * KMS)
    for data, options in (
        (first, {"dispersion": second, "hdu": "VEL"}),
        (first, {"dispersion": second, "hdu": 2}),
        (both, {"dispersion": both, "hdu": 2, "dispersion_hdu": "SIGMA"}),
        (first, {"dispersion": dispersion * KMS, "hdu": "VEL"}),
    ):
        table = galml.circularity(data, **options)
        difference = table["circularity"][0] - expected["circularity"][0]
        assert abs(difference) < 1e-5
    alone = galml.circularity(first, hdu="VEL")
    assert abs(alone["circularity"][0] - expected["circularity"][0]) > 1e-3


def test_moments_are_one_galaxy():
    """Velocity and dispersion of one galaxy, not three maps."""
    maps = moments(cube(), line=LINE * u.AA, redshift=REDSHIFT)
    maps.velocity.meta["OBJECT"] = "N1"
    before = maps.velocity.data.copy(), dict(maps.velocity.meta)
    expected = galml.circularity(maps.velocity, dispersion=maps.dispersion)
    one, two = galml.circularity(maps), galml.circularity(iter([maps, maps]))
    assert (len(one), len(two)) == (1, 2)
    assert one["name"][0] == "N1"
    for name in ("circularity", "circularity_err", "position_angle", "flags"):
        assert one[name][0] == expected[name][0], name
        assert u.isclose(two[name][1], expected[name][0], rtol=1e-5), name
    np.testing.assert_array_equal(maps.velocity.data, before[0])
    assert maps.velocity.meta == before[1]
    # Dispersions that are given count more.
    hot = maps.dispersion.multiply(3)
    given = galml.circularity(maps, dispersion=hot)
    expected = galml.circularity(maps.velocity, dispersion=hot)
    assert given["circularity"][0] == expected["circularity"][0]
    broken = maps._replace(dispersion=maps.dispersion[:-1])
    with pytest.raises(InputError, match="dispersion: got shape"):
        galml.circularity(broken)


def test_rest_values_of_spectra():
    rest = 1420.405752 * u.MHz
    speeds = np.arange(-250, 251, 10.0)
    flux = PEAK * np.exp(-0.5 * ((speeds[:, None, None] - VELOCITY) / 15) ** 2)
    flux += np.random.default_rng(0).normal(0, NOISE, flux.shape)
    data = Spectrum(
        flux=flux * u.Jy,
        spectral_axis=(speeds * KMS).to(u.Hz, u.doppler_radio(rest)),
        spectral_axis_index=0,
    )
    with pytest.raises(InputUnitError, match="rest_value"):
        galml.circularity(data)
    table = galml.circularity(data, rest_value=rest)
    expected = galml.circularity(moments(data, rest_value=rest))
    assert table["circularity"][0] == pytest.approx(expected["circularity"][0], 1e-4)
    # What is wrong with all cubes is no row of NaN.
    for options in ({"rest_value": [1, 2] * rest}, {"convention": "fast"}):
        with pytest.raises(InputError, match=next(iter(options))):
            galml.circularity([data, data], **options)


def test_a_cube_is_called_data():
    no_axis = CCDData(np.ones((5, 9, 9)), unit=UNIT)
    for options in ({}, {"line": LINE * u.AA}):
        with pytest.raises(InputError, match="^data: got no spectral axis"):
            galml.circularity(no_axis, **options)
        with pytest.raises(InputError, match="^cube: got no spectral axis"):
            moments(no_axis, **options)
