# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.convolution import convolve_fft
from astropy.io import fits
from scipy.signal import fftconvolve

from galml.core.exceptions import InputError
from galml.cutouts.matching import margin, match, matching_kernel, matching_kernels
from galml.cutouts.psf import fwhm_of, to_psf_image


@pytest.fixture
def kernels():
    # The matching kernel of close PSFs has negative lobes.
    sharp = matching_kernel(to_psf_image(3 * u.pix), to_psf_image(3.6 * u.pix))
    broad = matching_kernel(to_psf_image(2.5 * u.pix), to_psf_image(5 * u.pix))
    side = (sharp.shape[0] - broad.shape[0]) // 2
    return np.stack([np.pad(sharp, max(-side, 0)), np.pad(broad, max(side, 0))])


@pytest.fixture
def images():
    generator = np.random.default_rng(3)
    values = generator.normal(0, 1, (3, 2, 50, 57))
    values[:, :, 25, 28] += 300
    return values


def test_kernel_of_gaussians():
    source, target = to_psf_image(3 * u.pix), to_psf_image(5 * u.pix)
    kernel = matching_kernel(source, target)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    # Gaussians: the variances subtract.
    assert fwhm_of(kernel) == pytest.approx(4.0, rel=5e-3)
    matched = fftconvolve(np.pad(source, 20), kernel, mode="same")
    assert fwhm_of(matched) == pytest.approx(5.0, rel=2e-3)
    assert margin(kernel) == kernel.shape[0] // 2


def test_same_psf_changes_nothing():
    psf = to_psf_image(3 * u.pix)
    kernel = matching_kernel(psf, np.pad(2 * psf, 3))
    assert kernel.shape == (1, 1) and kernel == 1 and margin(kernel) == 0


def test_broader_than_the_target():
    with pytest.raises(InputError, match="at most the target's 3.00 pixels"):
        matching_kernel(to_psf_image(4 * u.pix), to_psf_image(3 * u.pix))


@pytest.mark.parametrize("bad", [np.ones((4, 4)), np.ones((3, 5)), np.zeros((5, 5))])
def test_bad_psf(bad):
    with pytest.raises(InputError, match="psf: got"):
        matching_kernel(bad, to_psf_image(3 * u.pix))
    with pytest.raises(InputError, match="target_psf: got"):
        matching_kernel(to_psf_image(3 * u.pix), bad)


def test_kernels_of_a_batch():
    sources = [to_psf_image(w * u.pix, size=31) for w in (2.5, 3, 6)]
    sources = np.stack([sources, sources[::-1]])
    sources[1, 2] = np.nan
    targets = to_psf_image(5 * u.pix)
    kernels, matched = matching_kernels(sources, targets)
    assert matched.tolist() == [[True, True, False], [False, True, False]]
    np.testing.assert_array_equal(kernels[0, 1], kernels[1, 1])
    np.testing.assert_allclose(kernels.sum(axis=(-2, -1)), 1)
    assert kernels[0, 2, margin(kernels), margin(kernels)] == 1
    own = matching_kernel(sources[0, 0], targets)
    pad = margin(kernels) - margin(own)
    np.testing.assert_array_equal(kernels[0, 0], np.pad(own, pad))


def test_observed_psfs_to_a_common_one(shared):
    name = shared / "hst_psf" / "COSMOS_F814W_real_galaxy_PSF_images.fits.gz"
    if not name.is_file():
        pytest.skip(f"observed PSFs not found: {name}")
    with fits.open(name) as hdus:
        stars = np.stack([to_psf_image(hdu.data, size=39) for hdu in hdus])
    assert len(stars) == 100
    widths = np.array([fwhm_of(star) for star in stars])
    target = stars[widths.argmax()]
    kernels, matched = matching_kernels(stars, target)
    assert matched.all()
    images = np.pad(stars, ((0, 0), (25, 25), (25, 25)))
    result, _, _ = match(images[:, None], kernels[:, None])
    after = np.array([fwhm_of(image[0]) for image in result])
    assert np.ptp(widths) / widths.max() > 0.08
    np.testing.assert_allclose(after, widths.max(), rtol=0.01)
    np.testing.assert_allclose(result.sum(axis=(1, 2, 3)), 1, atol=2e-3)


def test_equals_scipy(images, kernels):
    m = margin(kernels)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        result, variance, mask = match(images.astype(dtype), kernels)
        assert result.dtype == dtype and variance is None and not mask.any()
        for i, b in np.ndindex(3, 2):
            expected = fftconvolve(images[i, b], kernels[b], mode="valid")
            assert expected.shape == (50 - 2 * m, 57 - 2 * m)
            np.testing.assert_allclose(
                result[i, b], expected, atol=tolerance * np.abs(expected).max()
            )


@pytest.mark.parametrize("gaps", ["mask", "nan"])
def test_gaps_equal_astropy(images, kernels, gaps):
    m = margin(kernels)
    holes = np.random.default_rng(0).random(images.shape) < 0.03
    holes[1] = False
    holed = np.where(holes, np.nan, images)
    if gaps == "nan":
        result, _, mask = match(holed, kernels)
    else:
        result, _, mask = match(np.where(holes, 1e8, images), kernels, mask=holes)
    good = ~mask
    assert good.mean() > 0.99
    for i, b in np.ndindex(3, 2):
        expected = convolve_fft(
            holed[i, b], kernels[b], normalize_kernel=False, nan_treatment="interpolate"
        )
        np.testing.assert_allclose(
            np.where(good, result, 0)[i, b],
            np.where(good[i, b], expected[m:-m, m:-m], 0),
            atol=1e-5 * np.abs(expected).max(),
        )


def test_per_galaxy_kernels(images, kernels):
    own = np.stack([kernels, kernels[::-1], kernels])
    images[2, 0, 20:24, 20:24] = np.nan
    result, _, mask = match(images, own)
    for i in range(3):
        alone, _, alone_mask = match(images[i : i + 1], own[i])
        np.testing.assert_allclose(result[i], alone[0], rtol=1e-12)
        assert (mask[i] == alone_mask[0]).all()


def test_large_gap_stays_a_gap(images, kernels):
    m = margin(kernels)
    mask = np.zeros(images.shape, bool)
    mask[0, :, 10:28, 10:28] = True
    result, _, gaps = match(images, kernels, mask=mask)
    assert gaps[0, :, 19 - m, 19 - m].all() and not gaps[1:].any()
    np.testing.assert_array_equal(np.isnan(result), gaps)
    # Far away nothing is known of the gap.
    whole, _, _ = match(images, kernels)
    np.testing.assert_allclose(
        result[0, :, :, -1], whole[0, :, :, -1], atol=1e-9 * images.max()
    )


def test_variance(images, kernels):
    variance = np.random.default_rng(1).uniform(0.5, 2, images.shape)
    mask = np.zeros(images.shape, bool)
    mask[1, :, 20, 20] = True
    _, result, _ = match(images, kernels, variance=variance, mask=mask)
    expected = fftconvolve(variance[0, 1], kernels[1] ** 2, mode="valid")
    np.testing.assert_allclose(result[0, 1], expected, rtol=1e-10)
    noise = np.random.default_rng(2).normal(size=(4000, 1, *images.shape[2:]))
    noise = noise[..., 5:40, 5:40]
    noise *= np.sqrt(variance[1, 1, 5:40, 5:40])
    own = kernels[1]
    drawn, propagated, _ = match(
        noise.astype(np.float32),
        own,
        variance=np.broadcast_to(variance[1, 1, 5:40, 5:40], noise.shape),
        mask=np.broadcast_to(mask[1, 1, 5:40, 5:40], noise.shape),
    )
    np.testing.assert_allclose((drawn.var(axis=0) / propagated[0]).mean(), 1, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0) / propagated[0], 1, atol=0.12)


def test_uniform_image_stays_uniform(kernels):
    ones = np.ones((1, 2, 60, 60), np.float32)
    ones[0, 0, 30, 30] = np.nan
    result, _, mask = match(ones, kernels)
    np.testing.assert_allclose(result[~mask], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "kernels", "message"),
    [
        (np.ones((2, 3, 20)), np.ones((3, 3)), "floats of shape"),
        (np.ones((1, 1, 20, 20), int), np.ones((3, 3)), "floats of shape"),
        (np.ones((1, 1, 20, 20)), np.ones((4, 4)), "odd squares"),
        (np.ones((1, 1, 20, 20)), np.ones((3, 5)), "odd squares"),
        (np.ones((1, 1, 20, 20)), np.ones((21, 21)), "at least the 21 pixels"),
    ],
)
def test_bad_stacks(values, kernels, message):
    with pytest.raises(InputError, match=message):
        match(values, kernels)
