# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.visualization import make_lupton_rgb
from hypothesis import given, settings
from hypothesis import strategies as st

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.cutouts import (
    CutoutStack,
    asinh_magnitudes,
    asinh_stretch,
    linear_stretch,
    lupton_rgb,
    sdss_rgb,
    to_flux,
)

SCALE = 0.396 * u.arcsec


def make_stack(n=3, *, unit=u.nJy, mask=None, scale=SCALE, bands=("g", "r", "i")):
    """Exponential disks, red in the middle, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices((24, 20)) - np.array([11.5, 9.5])[:, None, None]
    light = np.exp(-np.hypot(x, y) / 1.5)
    colors = np.linspace(1, 2, len(bands))[:, None, None]
    data = (
        3000 * light ** (1 / colors) * colors * np.arange(1, n + 1)[:, None, None, None]
    )
    data = data + rng.normal(0, 40, data.shape)
    return CutoutStack(data * unit, bands=bands, pixel_scale=scale, mask=mask)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        (u.nJy, 1.0),
        (u.Jy, 1e9),
        (u.erg / u.s / u.cm**2 / u.Hz, 1e32),
        (u.nmgy, 10 ** (0.4 * (31.4 - 22.5))),
    ],
)
def test_flux_of_calibrated_images(unit, factor):
    flux = to_flux(np.ones((1, 2, 2)) * unit)
    assert flux.unit == u.nJy
    np.testing.assert_allclose(flux.value, factor, rtol=1e-12)


def test_flux_of_surface_brightness():
    flux = to_flux(np.ones((1, 2, 2)) * u.MJy / u.sr)
    assert flux.unit == u.nJy / u.arcsec**2
    side = np.radians(1 / 3600)
    np.testing.assert_allclose(flux.value, 1e15 * side**2, rtol=1e-12)


def test_zero_points():
    stack = make_stack(unit=u.adu)
    # A source of one count has the magnitude of the zero point.
    one = to_flux(np.ones((1, 1, 1)) * u.adu, zero_point=25.0)
    np.testing.assert_allclose(one.to_value(u.ABmag), 25.0, rtol=1e-12)
    flux = to_flux(stack, zero_point={"i": 26.0, "g": 25.0, "r": 31.4, "z": 1.0})
    ratio = flux.value / stack.data.value
    expected = 10 ** (0.4 * (31.4 - np.array([25.0, 31.4, 26.0])))
    np.testing.assert_allclose(
        ratio, np.broadcast_to(expected[:, None, None], ratio.shape), rtol=1e-12
    )
    same = to_flux(stack.data, zero_point=[25.0, 31.4, 26.0])
    np.testing.assert_array_equal(same, flux)
    np.testing.assert_array_equal(
        to_flux(stack.data.value, zero_point=25.0)[:, 0], flux[:, 0]
    )


def test_flux_errors():
    stack = make_stack(unit=u.adu)
    with pytest.raises(InputUnitError, match="data: got adu, expected .* zero_point="):
        to_flux(stack)
    with pytest.raises(InputUnitError, match="data without unit"):
        to_flux(stack.data.value)
    with pytest.raises(InputUnitError, match="zero_point: got one for nJy"):
        to_flux(make_stack(), zero_point=25.0)
    with pytest.raises(InputError, match="none for i"):
        to_flux(stack, zero_point={"g": 25.0, "r": 25.0})
    with pytest.raises(InputError, match="zero_point"):
        to_flux(stack.data, zero_point={"g": 25.0, "r": 25.0, "i": 25.0})
    for bad in ([25.0, 25.0], np.nan):
        with pytest.raises(InputError, match="one finite number, or 3"):
            to_flux(stack, zero_point=bad)
    with pytest.raises(InputTypeError, match="data: got an object of type list"):
        to_flux([[1.0]])
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        to_flux(np.ones((4, 4)) * u.nJy)
    with pytest.raises(InputError, match="complex"):
        to_flux(np.ones((1, 4, 4), complex) * u.nJy)


def test_masked_pixels_are_unknown():
    mask = np.zeros((3, 3, 24, 20), bool)
    mask[1, 2, 5, 6] = True
    stack = make_stack(mask=mask)
    images = {
        "stack": stack,
        "array": np.ma.array(stack.data.value, mask=mask),
    }
    options = {"array": {"zero_point": 31.4}}
    for name, image in images.items():
        flux = to_flux(image, **options.get(name, {}))
        np.testing.assert_array_equal(np.isnan(flux), mask)
    flux = to_flux(stack[1])
    np.testing.assert_array_equal(np.isnan(flux), mask[1])
    assert not np.isnan(stack.data).any()
    colors = lupton_rgb(stack, fill=0.25)
    assert (colors[1, 5, 6] == 0.25).all()
    assert np.isfinite(colors).all()
    known = lupton_rgb(make_stack(), stretch=100.0)
    expected = np.where(mask.any(axis=1)[..., None], np.float32(0), known)
    np.testing.assert_array_equal(lupton_rgb(stack, stretch=100.0), expected)


def test_linear_stretch():
    flux = np.array([-1.0, 0.0, 25.0, 100.0, 1e9, np.nan]).reshape(1, 2, 3) * u.nJy
    values = linear_stretch(flux, maximum=0.1 * u.uJy)
    np.testing.assert_allclose(values.ravel(), [0, 0, 0.25, 1, 1, np.nan], rtol=1e-12)
    values = linear_stretch(flux, minimum=-25, maximum=75)
    np.testing.assert_allclose(
        values.ravel(), [0.24, 0.25, 0.5, 1, 1, np.nan], rtol=1e-12
    )


def test_asinh_stretch():
    flux = np.array([0.0, 1e-3, 5.0, 50.0, 100.0, 1e5]).reshape(1, 2, 3) * u.nJy
    values = asinh_stretch(flux, softening=5, maximum=100).ravel()
    full = np.arcsinh(20.0)
    expected = np.array([0, 1e-3 / 5, np.arcsinh(1), np.arcsinh(10), full, full]) / full
    np.testing.assert_allclose(values, expected, rtol=1e-7)


def test_stretches_do_not_depend_on_the_unit_of_calibrated_images():
    stack = make_stack()
    other = CutoutStack(stack.data.to(u.Jy), bands=stack.bands, pixel_scale=SCALE)
    count = CutoutStack(stack.data.value * u.adu, bands=stack.bands, pixel_scale=SCALE)
    options = {"softening": 40, "minimum": -100, "maximum": 5e3}
    values = asinh_stretch(stack, **options)
    assert values.shape == stack.data.shape
    np.testing.assert_allclose(asinh_stretch(other, **options), values, atol=1e-12)
    calibrated = asinh_stretch(count, zero_point=31.4, **options)
    np.testing.assert_allclose(calibrated, values, atol=1e-12)
    for i in range(3):
        np.testing.assert_array_equal(asinh_stretch(stack[i], **options), values[i])


def test_stretch_errors():
    stack = make_stack()
    with pytest.raises(InputError, match="maximum: got 0, expected more than 1"):
        linear_stretch(stack, minimum=1, maximum=0)
    with pytest.raises(InputError, match="maximum"):
        linear_stretch(stack, maximum=np.nan)
    with pytest.raises(InputUnitError, match="maximum: got s, expected nJy"):
        linear_stretch(stack, maximum=1 * u.s)
    for stretch in (asinh_magnitudes, asinh_stretch):
        more = {"maximum": 1.0} if stretch is asinh_stretch else {}
        with pytest.raises(InputError, match="softening: got 0"):
            stretch(stack, softening=0, **more)


def test_asinh_magnitudes():
    flux = np.array([1e4, 1e6, 0.0, -3.0]).reshape(1, 2, 2) * u.nJy
    bright, brighter, zero, negative = asinh_magnitudes(flux, softening=1).ravel()
    assert bright.unit == u.mag
    np.testing.assert_allclose(bright.value, 31.4 - 10, atol=1e-7)
    np.testing.assert_allclose((bright - brighter).value, 5, atol=1e-7)
    # The definition of b: flux 0 has the magnitude of a source of flux b.
    np.testing.assert_allclose(zero.value, 31.4, atol=1e-12)
    assert negative > zero


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e4, 1e5), st.floats(0.1, 100))
def test_asinh_magnitudes_can_be_undone(flux, softening):
    image = np.full((1, 1, 1), flux) * u.nJy
    magnitude = asinh_magnitudes(image, softening=softening)[0, 0, 0].value
    term = -magnitude * np.log(10) / 2.5 - np.log(softening / u.AB.to(u.nJy))
    back = 2 * softening * np.sinh(term)
    np.testing.assert_allclose(back, flux, rtol=1e-10, atol=1e-10 * softening)


def test_lupton_is_that_of_astropy():
    stack = make_stack()
    colors = lupton_rgb(stack, stretch=150.0, Q=6, minimum=20, scales=(0.5, 0.7, 1))
    assert colors.dtype == np.float32 and colors.shape == (3, 24, 20, 3)
    for image, color in zip(stack.data.value, colors, strict=True):
        planes = [
            (image[2] - 20) * 0.5,
            (image[1] - 20) * 0.7,
            image[0] - 20,
        ]
        expected = make_lupton_rgb(*planes, stretch=150.0, Q=6, output_dtype=float)
        np.testing.assert_allclose(color, expected, atol=1e-6)


def test_lupton_keeps_colors():
    flux = (
        np.geomspace(1, 1e6, 30).reshape(1, 5, 6) * np.array([1, 2, 4])[:, None, None]
    )
    colors = lupton_rgb(flux, stretch=100)
    np.testing.assert_allclose(colors[..., 0], 4 * colors[..., 2], rtol=1e-5)
    np.testing.assert_allclose(colors[..., 1], 2 * colors[..., 2], rtol=1e-5)
    assert colors.max() == 1 and (np.diff(colors[..., 0].ravel()) >= 0).all()


@pytest.mark.parametrize("function", [lupton_rgb, sdss_rgb])
def test_each_image_has_colors_of_its_own(function):
    stack = make_stack()
    colors = function(stack)
    for i, ccd in enumerate(stack):
        np.testing.assert_allclose(function(ccd), colors[i], atol=1e-6)
    np.testing.assert_allclose(function(stack[::-1]), colors[::-1], atol=1e-6)
    turned = CutoutStack(
        np.rot90(stack.data, axes=(2, 3)), bands=stack.bands, pixel_scale=SCALE
    )
    np.testing.assert_allclose(
        function(turned), np.rot90(colors, axes=(1, 2)), atol=1e-6
    )


def test_default_stretch_follows_the_image():
    stack = make_stack()
    colors = lupton_rgb(stack)
    np.testing.assert_allclose(lupton_rgb(stack.data * 1e-6), colors, atol=1e-5)
    # The middle is bright, and the noise dark.
    assert colors[:, 11:13, 9:11].max() > 0.9
    assert np.median(colors[:, :2, :2]) < 0.3
    noise = np.random.default_rng(1).normal(size=(1, 3, 32, 32))
    assert lupton_rgb(noise).mean() < 0.1
    assert (lupton_rgb(np.zeros((1, 3, 4, 4))) == 0).all()
    assert (lupton_rgb(np.full((1, 3, 4, 4), np.nan), fill=1) == 1).all()


def test_bands_of_colors():
    stack = make_stack(bands=("u", "g", "r", "i", "z"))
    options = {"stretch": 100.0}
    expected = lupton_rgb(stack, bands=("z", "r", "u"), **options)
    np.testing.assert_array_equal(lupton_rgb(stack, **options), expected)
    np.testing.assert_array_equal(
        lupton_rgb(stack, bands=(4, 2, 0), **options), expected
    )
    some = lupton_rgb(stack, bands=("i", "r", "g"), **options)
    np.testing.assert_array_equal(
        some, lupton_rgb(stack.band("g", "r", "i"), **options)
    )
    gray = lupton_rgb(stack.band("r"), **options)
    assert (gray == gray[..., :1]).all()
    np.testing.assert_array_equal(gray, lupton_rgb(stack, bands=["r"], **options))
    two = lupton_rgb(stack.band("g", "i"), **options)
    clear = (two.min(axis=-1) > 0) & (two.max(axis=-1) < 1)
    assert clear.sum() > 100
    mean = two[..., [0, 2]].mean(axis=-1)
    np.testing.assert_allclose(two[clear, 1], mean[clear], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bands": ("g", "r", "y")}, InputError, "bands"),
        ({"bands": ("g", "r")}, InputError, "bands: got .* expected 1 or 3"),
        ({"bands": (0, 1, 3)}, InputError, "bands"),
        ({"scales": (1, 2)}, InputError, "three finite numbers"),
        ({"Q": 0}, InputError, "Q: got 0"),
        ({"stretch": 0}, InputError, "stretch"),
        ({"stretch": [1.0, 2.0]}, InputError, r"stretch: .* shape \(3,\)"),
        ({"stretch": 1 * u.s}, InputUnitError, "stretch"),
        ({"minimum": 1 * u.s}, InputUnitError, "minimum"),
    ],
)
def test_lupton_errors(options, error, message):
    with pytest.raises(error, match=message):
        lupton_rgb(make_stack(), **options)


def test_stretch_of_each_image():
    stack = make_stack()
    levels = [50.0, 100.0, 400.0] * u.nJy
    colors = lupton_rgb(stack, stretch=levels)
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(colors[i], lupton_rgb(stack[i], stretch=level))


@pytest.mark.parametrize("b", [3.0, 0.5])
def test_sdss_recipe(b):
    stack = make_stack()
    stack = CutoutStack(stack.data * 20, bands=stack.bands, pixel_scale=SCALE)
    nanomaggies = to_flux(stack).value / 10 ** (0.4 * (31.4 - 22.5))
    red, green, blue = (
        nanomaggies[:, band] * scale for band, scale in ((2, 4.9), (1, 5.7), (0, 7.8))
    )
    total = red + green + blue
    factor = np.where(total > 0, np.arcsinh(b * total) / b / total, 0)
    expected = np.stack([red, green, blue], axis=-1) * factor[..., None]
    expected = np.clip(expected, 0, None)
    expected /= np.maximum(expected.max(axis=-1, keepdims=True), 1)
    assert expected.max() == 1
    np.testing.assert_allclose(sdss_rgb(stack, nonlinearity=b), expected, atol=1e-6)
    if b == 3:
        np.testing.assert_allclose(sdss_rgb(stack), expected, atol=1e-6)


def test_sdss_sees_surface_brightness():
    stack = make_stack()
    colors = sdss_rgb(stack)
    # The same brightness in pixels half as large has a quarter of the flux.
    half = CutoutStack(stack.data / 4, bands=stack.bands, pixel_scale=SCALE / 2)
    np.testing.assert_allclose(sdss_rgb(half), colors, atol=1e-6)
    np.testing.assert_allclose(
        sdss_rgb(half.data, pixel_scale=SCALE / 2), colors, atol=1e-6
    )
    np.testing.assert_allclose(sdss_rgb(stack.data / SCALE**2), colors, atol=1e-6)
    many = [0.396, 0.198, 0.396] * u.arcsec
    mixed = CutoutStack(stack.data, bands=stack.bands, pixel_scale=many)
    np.testing.assert_allclose(sdss_rgb(mixed)[[0, 2]], colors[[0, 2]], atol=1e-6)
    bright = CutoutStack(4 * stack.data, bands=stack.bands, pixel_scale=SCALE)
    np.testing.assert_allclose(sdss_rgb(mixed)[1], sdss_rgb(bright)[1], atol=1e-6)


def test_sdss_finds_the_pixel_scale():
    stack = make_stack()
    colors = sdss_rgb(stack[0])
    bare = CCDData(
        stack[0].data, unit=u.nJy, uncertainty=StdDevUncertainty(stack[0].data)
    )
    with pytest.raises(InputError, match="pixel_scale: got none"):
        sdss_rgb(bare)
    np.testing.assert_array_equal(sdss_rgb(bare, pixel_scale=SCALE), colors)
    with pytest.raises(InputUnitError, match="pixel_scale"):
        sdss_rgb(bare, pixel_scale=0.396)
    with pytest.raises(InputError, match="pixel_scale: got shape"):
        sdss_rgb(stack.data, pixel_scale=[1, 2] * u.arcsec)
    with pytest.raises(InputError, match="nonlinearity: got 0"):
        sdss_rgb(stack, nonlinearity=0)


def test_colors_are_ordered_by_wavelength():
    """Blue is what is blue, in whatever order the bands come."""
    light = np.random.default_rng(2).random((2, 3, 12, 13))
    own = {"pixel_scale": 0.4 * u.arcsec}
    stack = CutoutStack(light * u.nJy, bands=("g", "r", "i"), **own)
    for bands in ("irg", "rig", "gir"):
        places = ["gri".index(band) for band in bands]
        other = CutoutStack(light[:, places] * u.nJy, bands=tuple(bands), **own)
        for make in (lupton_rgb, sdss_rgb):
            np.testing.assert_array_equal(make(other), make(stack))
    two = CutoutStack(light[:, :2] * u.nJy, bands=("F606W", "F444W"), **own)
    swapped = CutoutStack(light[:, 1::-1] * u.nJy, bands=("F444W", "F606W"), **own)
    np.testing.assert_array_equal(lupton_rgb(swapped), lupton_rgb(two))
    # Bands of other names are as they come.
    unknown = CutoutStack(light * u.nJy, bands=("c", "b", "a"), **own)
    np.testing.assert_array_equal(lupton_rgb(unknown), lupton_rgb(light))
