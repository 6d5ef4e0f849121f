# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.signal import fftconvolve

from galml.cutouts.resampling import (
    correlation,
    grid_positions,
    nodes,
    pixel_areas,
    resample,
    weights_exact,
    weights_interp,
)

SIDE, WIDTH = 24, 120


def tan_wcs(scale, angle, size, parity=-1):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [30.0, 20.0]
    wcs.wcs.crpix = [(size + 1) / 2 + 0.3, (size + 1) / 2 - 0.2]
    c, s = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[parity * c, s], [-parity * s, c]])
    return wcs


def sip_wcs(scale, angle, size, parity=-1):
    wcs = tan_wcs(scale, angle, size, parity)
    header = wcs.to_header(relax=True)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    terms = {
        "A_2_0": 8e-6,
        "A_1_1": -5e-6,
        "A_0_3": 1e-9,
        "B_0_2": -7e-6,
        "B_2_1": 2e-9,
    }
    header.update(A_ORDER=3, B_ORDER=3, **terms)
    return WCS(header)


def positions(source, target, corners):
    grid = np.arange(SIDE + 1) - 0.5 if corners else np.arange(SIDE)
    x, y = np.meshgrid(grid, grid)
    return source.world_to_pixel(target.pixel_to_world(x, y))


def resampled(weights, *images, **options):
    stack = [None if image is None else image[None] for image in images]
    (made,) = resample([stack], weights, SIDE**2, **options)
    shape = SIDE, SIDE
    values = made.values.reshape(shape)
    return values, None if made.variances is None else made.variances.reshape(shape)


def sums(weights):
    pixels = np.concatenate([part.pixels for part in weights])
    values = np.concatenate([part.values.sum((0, 1)) for part in weights])
    return values[pixels.argsort()]


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(size=(WIDTH, WIDTH))


@pytest.mark.parametrize("make", [tan_wcs, sip_wcs])
@pytest.mark.parametrize("parity", [-1, 1])
@pytest.mark.parametrize(
    ("ratio", "angle"),
    [(2.5, 0.5), (1.0, 1.2), (1.7, 0.0), (0.6, 3.0), (3.0, np.pi / 2)],
)
def test_exact_is_reproject_exact(image, make, parity, ratio, angle):
    reproject = pytest.importorskip("reproject")
    source, target = make(0.3, angle, WIDTH, parity), tan_wcs(0.3 * ratio, 0.0, SIDE)
    x, y = positions(source, target, corners=True)
    values, _ = resampled(weights_exact(x[None], y[None], WIDTH), image, None, None)
    expected = reproject.reproject_exact(
        (image, source), target, (SIDE, SIDE), return_footprint=False
    )
    np.testing.assert_allclose(values, expected, atol=1e-5 * image.max(), rtol=0)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_bilinear_is_reproject_interp(image, angle):
    reproject = pytest.importorskip("reproject")
    source, target = sip_wcs(0.3, angle, WIDTH), tan_wcs(0.25, 0.0, SIDE)
    x, y = positions(source, target, corners=False)
    values, _ = resampled(weights_interp(x[None], y[None], WIDTH), image, None, None)
    expected = reproject.reproject_interp(
        (image, source), target, (SIDE, SIDE), return_footprint=False
    )
    np.testing.assert_allclose(values, expected, atol=1e-5 * image.max(), rtol=0)


def test_overlaps_add_up_to_the_area_of_any_quadrilateral():
    rng = np.random.default_rng(2)
    grid = np.arange(6) * 1.7 + 5
    x, y = np.meshgrid(grid, grid) + rng.uniform(-0.5, 0.5, (2, 6, 6))
    weights = list(weights_exact(x[None], y[None], 30))
    p = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    q = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    areas = np.abs(p[0] * q[1] - p[1] * q[0]) / 2
    found = sums(weights).reshape(5, 5)
    np.testing.assert_allclose(found, areas, rtol=1e-6)


def test_many_parts_are_one(monkeypatch):
    x, y = positions(tan_wcs(0.3, 0.4, WIDTH), tan_wcs(0.5, 0.0, SIDE), corners=True)
    whole = list(weights_exact(x[None], y[None], WIDTH))
    monkeypatch.setattr("galml.cutouts.resampling._BLOCK", 50)
    parts = list(weights_exact(x[None], y[None], WIDTH))
    assert len(parts) > SIDE**2 / 50 > len(whole)
    for one in (parts, whole):
        for part in one:
            np.testing.assert_allclose(part.total, part.values.sum((0, 1)), atol=1e-12)
    pixels = np.concatenate([part.pixels for part in parts])
    np.testing.assert_array_equal(np.sort(pixels), np.arange(SIDE**2))
    np.testing.assert_allclose(sums(parts), sums(whole), rtol=1e-12)


@pytest.mark.parametrize("make", [tan_wcs, sip_wcs])
def test_mapping_between_nodes(make):
    source, target = make(0.3, 0.4, 2000), tan_wcs(0.9, 0.0, 200)
    at = nodes() * 100 + 99.5
    x, y = np.meshgrid(at, at)
    known = np.stack(source.world_to_pixel(target.pixel_to_world(x, y)))
    grid = np.arange(201) - 0.5
    exact = source.world_to_pixel(target.pixel_to_world(*np.meshgrid(grid, grid)))
    np.testing.assert_allclose(
        grid_positions(known, 200, corners=True), exact, atol=2e-3, rtol=0
    )


def test_variance_has_the_squares_of_the_weights(image):
    x, y = positions(tan_wcs(0.3, 0.4, WIDTH), tan_wcs(0.5, 0.0, SIDE), corners=True)
    variance = np.random.default_rng(3).uniform(1, 2, image.shape)
    weights = list(weights_exact(x[None], y[None], WIDTH))
    _, found = resampled(weights, image, variance, None)
    middle, expected = SIDE * SIDE // 2 + 5, 0.0
    part = next(part for part in weights if middle in part.pixels)
    (place,) = np.flatnonzero(part.pixels == middle)
    base = int(part.base[place])
    taps = part.values[..., place]
    for (row, column), tap in np.ndenumerate(taps):
        index = base + row * WIDTH + column
        expected += (tap / taps.sum()) ** 2 * variance.ravel()[index]
    assert found.ravel()[middle] == pytest.approx(expected, rel=1e-9)


def test_flux_in_a_pixel_is_summed(image):
    x, y = positions(tan_wcs(0.3, 0.4, WIDTH), tan_wcs(0.5, 0.0, SIDE), corners=True)
    weights = list(weights_exact(x[None], y[None], WIDTH))
    area = sums(weights)
    np.testing.assert_allclose(pixel_areas(np.stack([x, y])[None]).ravel(), area)
    one = np.ones_like(image)
    mean, variance = resampled(weights, one, one, None)
    total, total_var = resampled(weights, one, one, None, per_pixel=True)
    ratio = area.reshape(SIDE, SIDE)
    np.testing.assert_allclose(mean, 1.0, rtol=1e-12)
    np.testing.assert_allclose(total, ratio, rtol=1e-12)
    np.testing.assert_allclose(total_var, variance * ratio**2, rtol=1e-12)


def test_masked_pixels_do_not_count(image):
    x, y = positions(tan_wcs(0.3, 0.4, WIDTH), tan_wcs(0.9, 0.0, SIDE), corners=True)
    good = np.ones_like(image)
    good[60, 60] = good[20:30] = 0.0
    values = np.where(good, 7.0, 0.0)
    weights = list(weights_exact(x[None], y[None], WIDTH))
    found, _ = resampled(weights, values, None, good)
    covered, _ = resampled(weights, good, None, None)
    usable = covered >= 0.5
    assert 0 < (~usable).sum() < usable.sum()
    np.testing.assert_array_equal(np.isfinite(found), usable)
    np.testing.assert_allclose(found[usable], 7.0, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_correlation_is_that_of_the_convolved_weights(count):
    rng = np.random.default_rng(4)
    x, y = positions(tan_wcs(0.3, 0.4, WIDTH), tan_wcs(0.5, 0.0, SIDE), corners=True)
    x, y = (np.stack([v[:4, :4] + 0.3 * k for k in range(2)]) for v in (x, y))
    weights = list(weights_exact(x, y, WIDTH))
    kernels = rng.random((count, 7, 7))
    expected = np.empty(18)
    for part in weights:
        for pixel, taps in zip(part.pixels, part.values.T, strict=True):
            kernel = kernels[(pixel // 9) % count]
            both = fftconvolve(taps.T, kernel)
            apart = (taps**2).sum() * (kernel**2).sum()
            expected[pixel] = (both**2).sum() / apart
    found = correlation(weights, kernels, 2)
    np.testing.assert_allclose(found, expected.reshape(2, 9).mean(axis=1), rtol=1e-5)
    one = correlation(weights, np.ones((1, 1, 1)), 2)
    np.testing.assert_allclose(one, 1.0, rtol=1e-5)
