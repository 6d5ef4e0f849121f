# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDData

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.cutouts.psf import fwhm_of, to_psf_image

SCALE = 0.2 * u.arcsec / u.pix


def gaussian(size, fwhm, center, axis_ratio=1.0):
    y, x = np.mgrid[:size, :size]
    sigma = fwhm / np.sqrt(8 * np.log(2))
    square = (x - center[0]) ** 2 + ((y - center[1]) / axis_ratio) ** 2
    return np.exp(-0.5 * square / sigma**2)


def centroid(image):
    y, x = np.indices(image.shape) - np.reshape(image.shape, (2, 1, 1)) // 2
    return (image * x).sum() / image.sum(), (image * y).sum() / image.sum()


def check(image):
    assert image.shape[0] == image.shape[1] and image.shape[0] % 2 == 1
    assert image.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(centroid(image), 0, atol=2e-3)


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 5.5])
@pytest.mark.parametrize("unit", ["pixels", "angle"])
def test_fwhm(fwhm, unit):
    width = fwhm * u.pix if unit == "pixels" else fwhm * 0.2 * u.arcsec
    image = to_psf_image(width, SCALE)
    check(image)
    assert fwhm_of(image) == pytest.approx(fwhm, rel=2e-3)
    np.testing.assert_array_equal(image, to_psf_image(width, 0.2 * u.arcsec))


def test_size():
    image = to_psf_image(3 * u.pix, size=31)
    small = to_psf_image(image, size=11)
    large = to_psf_image(image, size=41)
    assert (image.shape, small.shape, large.shape) == ((31, 31), (11, 11), (41, 41))
    np.testing.assert_allclose(large[5:-5, 5:-5], image, atol=1e-15)
    np.testing.assert_allclose(
        small * image[10:-10, 10:-10].sum(), image[10:-10, 10:-10]
    )


@pytest.mark.parametrize("shape", [24, 25])
def test_arrays_off_center(shape):
    image = to_psf_image(7.0 * gaussian(shape, 3.5, (11.7, 12.2)))
    check(image)
    expected = gaussian(image.shape[0], 3.5, 2 * [image.shape[0] // 2])
    np.testing.assert_allclose(image / image.max(), expected, atol=2e-3)


def test_array_that_is_centerd_is_unchanged():
    image = gaussian(21, 3.0, (10, 10), 0.7)
    np.testing.assert_allclose(to_psf_image(image), image / image.sum(), rtol=1e-12)


def test_array_with_its_own_scale():
    # A star of 1 arcsec drawn with pixels of 0.05 arcsec; the wider pixels add the
    # difference of the variances of both squares, w²/12 each.
    fine = gaussian(101, 20.0, (50.3, 49.8))
    image = to_psf_image((fine, 0.05 * u.arcsec), SCALE)
    check(image)
    factor = 8 * np.log(2) / 12
    expected = np.sqrt(1 + factor * (0.2**2 - 0.05**2)) / 0.2
    assert fwhm_of(image) == pytest.approx(expected, rel=3e-3)
    same = to_psf_image((image, 0.2 * u.arcsec), SCALE)
    np.testing.assert_allclose(same, image, atol=1e-12)
    finer = to_psf_image((image, 0.2 * u.arcsec), 0.1 * u.arcsec)
    assert fwhm_of(finer) == pytest.approx(2 * expected, rel=3e-3)


def test_photutils_models():
    from photutils.psf import CircularGaussianPRF, GaussianPSF, ImagePSF, MoffatPSF

    model = GaussianPSF(x_fwhm=3, y_fwhm=4, flux=5, x_0=3.2, y_0=40)
    for position in (None, (10.0, 20.0), (10.3, 20.6)):
        image = to_psf_image(model, position=position)
        check(image)
        assert fwhm_of(image) == pytest.approx(np.sqrt(12), rel=2e-3)
    assert (model.x_0, model.flux) == (3.2, 5)
    moffat = to_psf_image(MoffatPSF(alpha=3, beta=3), size=61)
    check(moffat)
    expected = 2 * 3 * np.sqrt(2 ** (1 / 3) - 1)
    assert fwhm_of(moffat) == pytest.approx(expected, rel=2e-3)
    check(to_psf_image(CircularGaussianPRF(fwhm=2.5)))
    effective = ImagePSF(gaussian(101, 12.0, (50, 50)), oversampling=4)
    image = to_psf_image(effective, position=(5, 5))
    check(image)
    assert fwhm_of(image) == pytest.approx(3.0, rel=2e-3)


def test_psf_that_varies():
    from photutils.psf import GriddedPSFModel

    widths = [3.0, 5.0, 3.0, 5.0]
    corners = [(0, 0), (100, 0), (0, 100), (100, 100)]
    data = np.array([gaussian(31, f, (15, 15)) for f in widths])
    model = GriddedPSFModel(
        NDData(data, meta={"grid_xypos": corners, "oversampling": 1})
    )
    for function in (model, lambda x, y: (3 + 2 * x / 100) * u.pix):
        assert fwhm_of(to_psf_image(function, position=(0, 30))) == pytest.approx(
            3.0, rel=5e-3
        )
        middle = to_psf_image(function, position=(50, 30))
        check(middle)
        assert 3.5 < fwhm_of(middle) < 4.1
        with pytest.raises(InputError, match="position: got None"):
            to_psf_image(function)


def test_function_of_the_sky():
    place = SkyCoord(10 * u.deg, 20 * u.deg)
    image = to_psf_image(lambda sky: sky.dec / 10 / u.deg * u.arcsec, SCALE, sky=place)
    assert fwhm_of(image) == pytest.approx(10, rel=1e-3)
    with pytest.raises(InputError, match="sky: got None"):
        to_psf_image(lambda sky: sky.dec, SCALE, position=(1, 1))


@pytest.mark.parametrize(
    ("psf", "error", "match"),
    [
        ("gaussian", InputTypeError, "type str"),
        (3.0, InputTypeError, "type float"),
        ([[1.0]], InputTypeError, "type list"),
        ((np.ones((3, 3)), 0.1), InputUnitError, "without unit"),
        (3 * u.km, InputUnitError, "3.0 km"),
        (-3 * u.pix, InputError, "above zero"),
        (np.nan * u.pix, InputError, "above zero"),
        (np.zeros((5, 5)), InputError, "finite"),
        (np.full((5, 5), np.nan), InputError, "finite"),
        (lambda x, y: lambda z: z, InputTypeError, "returns a function"),
    ],
)
def test_bad_psf(psf, error, match):
    with pytest.raises(error, match=match):
        to_psf_image(psf, SCALE, position=(1, 1))


def test_bad_arguments():
    with pytest.raises(InputUnitError, match="pixel_scale"):
        to_psf_image(1 * u.arcsec)
    with pytest.raises(InputUnitError, match="pixel_scale"):
        to_psf_image(1 * u.arcsec, 0.2)
    for size in (0, 4, 2.5):
        with pytest.raises(InputError, match="size"):
            to_psf_image(1 * u.pix, size=size)


def test_fwhm_of_an_elliptical_noisy_star():
    star = gaussian(41, 6.0, (20.3, 19.6), 0.5)
    assert fwhm_of(star) == pytest.approx(np.sqrt(18), rel=3e-3)
    noise = np.random.default_rng(1).normal(0, 0.01, star.shape)
    assert fwhm_of(star + noise) == pytest.approx(np.sqrt(18), rel=0.03)


@pytest.mark.parametrize(
    "image", [np.ones(5), np.full((9, 9), np.nan), -np.ones((9, 9))]
)
def test_fwhm_of_what_is_no_star(image):
    with pytest.raises(InputError, match="image"):
        fwhm_of(image)


def test_observed_psf(shared):
    name = shared / "hst_psf" / "COSMOS_F814W_real_galaxy_PSF_images.fits.gz"
    if not name.is_file():
        pytest.skip(f"observed PSFs not found: {name}")
    with fits.open(name) as hdus:
        stars = [hdu.data for hdu in hdus]
    widths = []
    for star in stars:
        image = to_psf_image(star)
        check_center = np.abs(np.subtract(image.shape, star.shape)).max() <= 2
        assert check_center and image.argmax() == image.size // 2
        widths.append(0.03 * fwhm_of(image))
    # ACS in F814W: diffraction of a 2.4 m mirror, charge diffusion and pixels.
    assert 0.09 < min(widths) and max(widths) < 0.13
