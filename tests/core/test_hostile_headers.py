# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Headers that astropy alone would misread, or not read at all."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

from galml.core import Flag, InputError
from galml.core.files import header_wcs, parse_unit
from galml.core.geometry import beam_of, roles, sky_angle, spectral_axis
from galml.core.inputs import read

SHAPE = 6, 5, 4
VALUES = np.arange(120.0).reshape(SHAPE)


def header(ctype, cunit="", start=1e6, step=1e4, projection="TAN", **cards):
    axes = (
        (f"RA---{projection}", "deg", 150.0, -1e-3),
        (f"DEC--{projection}", "deg", 30.0, 1e-3),
        (ctype, cunit, start, step),
    )
    result = fits.Header({"BUNIT": "Jy/beam"})
    for number, axis in enumerate(axes, start=1):
        result[f"CRPIX{number}"] = 1.0
        for card, value in zip(("CTYPE", "CUNIT", "CRVAL", "CDELT"), axis, strict=True):
            if value != "":
                result[f"{card}{number}"] = value
    result.update({name.replace("C_F", "C-F"): value for name, value in cards.items()})
    return result


def axis_of(*arguments, **cards):
    hdu = fits.PrimaryHDU(VALUES, header(*arguments, **cards))
    return read(hdu, ndim=(3,)).spectral_axis


@pytest.mark.parametrize("frame", ["HEL", "LSR", "OBS"])
def test_aips_velocities_without_velref_tell_no_convention(frame):
    axis = axis_of(f"VELO-{frame}", "m/s")
    np.testing.assert_allclose(axis.to_value(u.km / u.s), 1000 + 10 * np.arange(6))
    assert axis.doppler_convention is None
    # What astropy makes of it.
    with pytest.warns(Warning, match="spcfix"):
        assert WCS(header(f"VELO-{frame}", "m/s")).wcs.ctype[2] == "VOPT"


@pytest.mark.parametrize(
    ("velref", "convention"), [(257, "radio"), (2, "optical"), (0, None)]
)
def test_velref_tells_the_convention(velref, convention):
    axis = axis_of("VELO-HEL", "m/s", VELREF=velref)
    assert axis.doppler_convention == convention
    assert u.Quantity(axis)[1].to_value(u.km / u.s) == pytest.approx(1010)


@pytest.mark.parametrize(
    ("kind", "unit", "start", "expected"),
    [
        ("VELO-HEL", "KM/S", 1e3, 1e3 * u.km / u.s),
        ("VELO-HEL", "", 1e6, 1e3 * u.km / u.s),
        ("VELOCITY", "m/s", 1e6, 1e3 * u.km / u.s),
        ("VELOCITY", "", 1e6, 1e3 * u.km / u.s),
        ("Velocity", "KM/S", 1e3, 1e3 * u.km / u.s),
        ("FELO-HEL", "m/s", 1e6, 1e3 * u.km / u.s),
        ("FELO-LSR", "", 1e6, 1e3 * u.km / u.s),
        ("FREQ", "MHZ", 1400, 1.4 * u.GHz),
        ("WAVELENG", "A", 5000, 5000 * u.AA),
        ("VRAD", "km/sec", 1e3, 1e3 * u.km / u.s),
        ("AWAV", "ANGSTROM", 5000, 5001.394 * u.AA),
        ("WAVE", "Angstroms", 5000, 5000 * u.AA),
        ("WAVELENGTH", "ANGSTROM", 5000, 5000 * u.AA),
        ("LINEAR", "Angstrom", 5000, 5000 * u.AA),
        ("LAMBDA", "um", 2.0, 2 * u.um),
        ("FREQ", "HZ", 1.4e9, 1.4 * u.GHz),
    ],
)
def test_kinds_and_units_of_axes(kind, unit, start, expected):
    axis = axis_of(kind, unit, start, start * 1e-3)
    assert u.isclose(axis[0], expected, rtol=1e-6)
    assert u.isclose(axis[1] / axis[0], 1.001, rtol=1e-5)


def test_velocities_even_in_frequency():
    """Channels of FELO are even in frequency; which line it is does not matter."""
    axis = axis_of("FELO-HEL", "m/s", 1e6, 1e5)
    assert (axis.doppler_convention, axis.doppler_rest) == ("optical", None)
    speeds = u.Quantity(axis)
    frequency = speeds.to_value(u.Hz, u.doppler_optical(1 * u.GHz))
    np.testing.assert_allclose(np.diff(frequency, 2), 0, atol=1e-3)
    assert (speeds[1] - speeds[0]).to_value(u.m / u.s) == pytest.approx(1e5, 1e-2)
    known = axis_of("FELO-HEL", "m/s", 1e6, 1e5, RESTFREQ=1.420405752e9)
    assert u.isclose(known.doppler_rest, 1.420405752 * u.GHz)
    np.testing.assert_allclose(known.value, axis.value, rtol=1e-9)


def test_the_sky_in_degrees_by_name():
    cards = header("VELO-HEL", "m/s")
    cards["CUNIT1"] = cards["CUNIT2"] = "DEGREE"
    got = read(fits.PrimaryHDU(VALUES, cards), ndim=(3,))
    assert not got.flags & Flag.NO_WCS
    assert got.wcs.wcs.cunit[0] == u.deg


def test_logarithmic_wavelengths():
    """IRAF calls the decimal logarithm of a wavelength a linear axis."""
    expected = 10 ** (3.6 + 1e-4 * np.arange(6))
    for cards in ({}, {"CD3_3": 1e-4, "CD1_1": -1e-3, "CD2_2": 1e-3}):
        start = header("LINEAR", "Angstrom", 3.6, 1e-4, DC_FLAG=1, **cards)
        if cards:
            del start["CDELT*"]
        axis = read(fits.PrimaryHDU(VALUES, start), ndim=(3,)).spectral_axis
        np.testing.assert_allclose(axis.to_value(u.AA), expected, rtol=1e-9)
    start = header("", "", 3.6, 1e-4, DC_FLAG=1)
    axis = read(fits.PrimaryHDU(VALUES, start), ndim=(3,)).spectral_axis
    np.testing.assert_allclose(axis.to_value(u.AA), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("FREQ-OHEL", "Hz"), ("AWAV", "furlong"), ("FREQ", "Jy")],
)
def test_axes_that_cannot_be_understood_are_an_error(tmp_path, kind, unit):
    """Rather that than an axis of which nobody knows what it is."""
    path = tmp_path / "cube.fits"
    fits.writeto(path, VALUES, header(kind, unit))
    with pytest.raises(InputError, match="data"):
        read(path, ndim=(3,))


def test_an_axis_without_unit_or_meaning_is_not_spectral():
    assert axis_of("WAVELENGTH") is None
    assert axis_of("STOKES") is None


def test_a_length_is_spectral_beside_the_sky_only():
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "LINEAR", "LINEAR", "LINEAR"
    wcs.wcs.cunit = "mm", "mm", "mm"
    assert roles(wcs) == ["", "", ""]
    assert roles(header_wcs(header("LINEAR", "nm"), None)) == ["spectral", "sky", "sky"]


def test_the_header_is_not_changed():
    cards = header("VELO-HEL", "KM/S")
    before = cards.tostring()
    header_wcs(cards, None)
    assert cards.tostring() == before


def test_north_celestial_pole():
    """NCP is a slant orthographic projection, and no plain one."""
    cards = header("VELO-HEL", "m/s", projection="NCP")
    wcs = header_wcs(cards, None).celestial
    x, y = 60.0, 80.0
    lon, lat = np.radians(wcs.pixel_to_world_values(x, y))
    right, pole = np.radians(150.0), np.radians(30.0)
    # Its definition: Brouw 1971; AIPS memo 27.
    assert np.radians(-1e-3 * x) == pytest.approx(np.cos(lat) * np.sin(lon - right))
    height = (np.cos(pole) - np.cos(lat) * np.cos(lon - right)) / np.sin(pole)
    assert np.radians(1e-3 * y) == pytest.approx(height)
    assert np.cos(sky_angle(0.0, wcs, (x, y))) > 1 - 1e-6


@pytest.mark.parametrize(
    ("cards", "beam"),
    [
        ({"BMAJ": 0.002, "BMIN": 0.001}, (7.2, 3.6)),
        ({"BMAJ": 7.2, "BMIN": 3.6}, (7.2, 3.6)),
        ({"BMAJ": 7.2}, (7.2, 7.2)),
        ({"BMMAJ": 7.2, "BMMIN": 3.6, "BMPA": 10.0}, (7.2, 3.6)),
        ({"BMAJ": 0.002, "BMMAJ": 99.0}, (7.2, 7.2)),
        # Wider than the image in any unit, so it is what FITS says.
        ({"BMAJ": 1000.0}, (3.6e6, 3.6e6)),
        # A single dish sees the whole image at once.
        ({"BMAJ": 0.1}, (360.0, 360.0)),
    ],
)
def test_beams(cards, beam):
    image = read(fits.PrimaryHDU(VALUES, header("VRAD", "m/s", **cards)), ndim=(3,))
    found = beam_of(image)
    np.testing.assert_allclose([w.to_value(u.arcsec) for w in found[:2]], beam)
    assert found[2] == cards.get("BMPA", 0) * u.deg


def test_a_beam_without_wcs_is_in_degrees():
    data = CCDData(VALUES[0], unit="Jy", meta={"BMAJ": 7.2})
    assert beam_of(read(data))[0].to_value(u.deg) == pytest.approx(7.2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10**-20 Angstrom-1 cm-2 erg s-1", "1e-20 erg / (Angstrom cm2 s)"),
        ("10**(-20)*erg/s/cm**2/Angstrom", "1e-20 erg / (Angstrom cm2 s)"),
        ("1E-17 erg/s/cm^2/Ang/spaxel", "1e-17 erg / (Angstrom cm2 s pix)"),
        ("1e-20 erg/s/cm2/A", "1e-20 erg / (Angstrom cm2 s)"),
        ("10-16 erg/s/cm2/A", "1e-16 erg / (Angstrom cm2 s)"),
        ("JY/BEAM", "Jy / beam"),
        ("DN/S", "DN / s"),
        ("count/S", "ct / s"),
        ("COUNTS/S", "ct / s"),
        ("COUNTS S-1", "ct / s"),
        ("ELECTRONS", "electron"),
        ("Electrons/Sec", "electron / s"),
        ("E-/S", "electron / s"),
        ("NMGY", "nmgy"),
        ("Nanomaggies", "nmgy"),
        ("MJY/SR", "MJy / sr"),
        ("Mjy/Sr", "MJy / sr"),
        ("mJy/sr", "mJy / sr"),
        ("NMGY/ARCSEC2", "nmgy / arcsec2"),
        ("A", "A"),
    ],
)
def test_units_of_fluxes(text, expected):
    assert parse_unit(text, "data") == u.Unit(expected)


def siblings(image="DATA", errors="STAT", mask="DQ", shape=SHAPE):
    """An empty primary HDU, and partners of which no header says that they are."""
    cards = header("WAVE", "Angstrom", 5000, 1.0)
    square = cards.copy()
    square["BUNIT"] = "Jy2 beam-2"
    quality = np.zeros(shape, "i4")
    quality[0, 0, 0] = 1
    return fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(VALUES, cards, name=image),
            fits.ImageHDU(np.full(shape, 4.0), square, name=errors),
            fits.ImageHDU(quality, name=mask),
        ]
    )


def test_variance_of_its_own(tmp_path):
    path = tmp_path / "cube.fits"
    siblings().writeto(path)
    for source in (path, siblings()):
        image = read(source, ndim=(3,))
        assert image.std[1, 1, 1] == pytest.approx(2)
        assert image.mask[0, 0, 0] and image.mask.sum() == 1
        assert not image.flags & Flag.NO_UNCERTAINTY
    image = read(siblings(), hdu="STAT", ndim=(3,))
    assert image.std is None and image.unit == u.Jy**2 / u.beam**2


def test_errors_of_space_telescopes():
    hdus = siblings("SCI", "ERR")
    hdus["ERR"].header["BUNIT"] = "Jy/beam"
    image = read(hdus, ndim=(3,))
    # Quality bits there mark what may be used, too.
    assert image.std[1, 1, 1] == pytest.approx(4) and not image.mask.any()


def test_neighbors_of_another_shape_or_name_are_no_partners():
    assert read(siblings(shape=(6, 5, 3)), ndim=(3,)).std is None
    assert read(siblings(errors="OTHER"), ndim=(3,)).std is None
    assert read(siblings(image="OTHER"), ndim=(3,)).std is None


def chosen(axis):
    """Channels 1 to 3, by their wavelength."""
    numbers = np.flatnonzero((axis > 5000.5 * u.AA) & (axis < 5003.5 * u.AA))
    return slice(numbers[0], numbers[-1] + 1)


def test_channels(tmp_path):
    """Only the chosen channels come, whatever holds the cube."""
    from specutils import Spectrum

    path = tmp_path / "cube.fits"
    siblings().writeto(path)
    cards = header("WAVE", "Angstrom", 5000, 1.0)
    mask = np.zeros(SHAPE, bool)
    mask[0, 0, 0] = True
    ccd = CCDData(
        VALUES,
        unit="Jy",
        wcs=WCS(cards),
        mask=mask,
        uncertainty=VarianceUncertainty(np.full(SHAPE, 4.0)),
    )
    spectrum = Spectrum(
        flux=np.moveaxis(VALUES, 0, -1) * u.Jy,
        spectral_axis=(5000 + np.arange(6.0)) * u.AA,
        spectral_axis_index=2,
        uncertainty=StdDevUncertainty(np.full((5, 4, 6), 2.0)),
    )
    for source in (path, siblings(), ccd, spectrum):
        image = read(source, ndim=(2, 3), channels=chosen)
        np.testing.assert_array_equal(image.values, VALUES[1:4])
        np.testing.assert_allclose(image.std, 2)
        wave = image.spectral_axis.to_value(u.AA)
        np.testing.assert_allclose(wave, [5001, 5002, 5003])
    assert read(ccd, ndim=(3,), channels=chosen).wcs.pixel_n_dim == 3
    np.testing.assert_array_equal(ccd.data, VALUES)


def test_channels_of_a_cube_with_four_axes():
    cards = header("WAVE", "Angstrom", 5000, 1.0)
    cards["CTYPE4"], cards["CRVAL4"], cards["CDELT4"] = "STOKES", 1, 1
    image = read(fits.PrimaryHDU(VALUES[None], cards), ndim=(2, 3), channels=chosen)
    np.testing.assert_array_equal(image.values, VALUES[1:4])


def test_channels_of_an_image_are_not_asked_for():
    def fail(axis):
        raise AssertionError

    image = read(CCDData(VALUES[0], unit="Jy"), ndim=(2, 3), channels=fail)
    assert image.values.shape == SHAPE[1:]


def test_air_and_vacuum():
    wcs = header_wcs(header("AWAV", "Angstrom", 6562.8, 1.0), None)
    vacuum = spectral_axis(wcs, 2).to_value(u.AA)
    np.testing.assert_allclose(vacuum, [6564.61, 6565.61], atol=0.01)


def test_hi_cube(shared):
    path = shared / "hostile_headers" / "hi_cube_ncp_velo_hel.fits.gz"
    cube = read(path, ndim=(3,))
    assert cube.name == "UGC5079" and cube.unit == u.Jy / u.beam
    axis = cube.spectral_axis
    assert axis.doppler_convention is None and axis.doppler_rest is None
    step = np.diff(axis.to_value(u.km / u.s))
    np.testing.assert_allclose(step, 12.38968, rtol=1e-5)
    center = cube.wcs.celestial.pixel_to_world(35, 47)
    assert center.name == "fk4"
    # NGC 2903 in ICRS.
    assert center.icrs.ra.deg == pytest.approx(143.042, abs=0.02)
    assert center.icrs.dec.deg == pytest.approx(21.50, abs=0.02)
    major, minor, _ = beam_of(cube)
    assert major.value == pytest.approx(57.4, abs=0.1)
    assert minor.value == pytest.approx(48.3, abs=0.1)


def test_muse_cube(shared):
    path = shared / "hostile_headers" / "muse_minicube_variance.fits.gz"
    cube = read(path, ndim=(3,))
    assert cube.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
    assert cube.values.shape == cube.std.shape == (10, 101, 101)
    with fits.open(path) as hdus:
        known = np.isfinite(cube.std)
        variance = hdus["STAT"].data[known]
    np.testing.assert_allclose(cube.std[known], np.sqrt(variance), rtol=1e-6)
    axis = cube.spectral_axis.to_value(u.AA)
    np.testing.assert_allclose(axis, 6050 + 1.25 * np.arange(10))


def test_distorted_image(shared):
    path = shared / "hostile_headers" / "decam_tpv_g.fits.gz"
    with pytest.raises(InputError, match="unit"):
        read(path)
    image = read(path, unit="adu")
    assert image.flags & Flag.NONFINITE
    corner, middle = (sky_angle(0.0, image.wcs, at) for at in ((0, 0), (127, 127)))
    assert abs((corner - middle).value) < 0.1


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("cards", [{"CUNIT3": 100}, {"CDELT3": 0.0, "CD1_1": True}])
def test_a_distorted_image_with_an_axis_too_many(shared, cards):
    """Its axes cannot be taken apart."""
    path = shared / "hostile_headers" / "decam_tpv_r.fits.gz"
    with fits.open(path) as hdus:
        image = next(hdu for hdu in hdus if len(hdu.shape) == 2)
        image.header.update(cards)
        with pytest.raises(InputError, match="data: got a WCS that cannot be used"):
            read(image, unit="adu")
