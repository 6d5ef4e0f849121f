# Licensed under a 3-clause BSD style license - see LICENSE.rst
import itertools
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from galml.core import Flag
from galml.core.exceptions import InputError, InputUnitError
from galml.core.geometry import angle_difference
from galml.cutouts import extract_cutouts
from galml.cutouts.detection import detect, measure

FWHM = 2.5
PIXEL = 8 * np.log(2) / 12


def sersic(n, r_eff, ellipticity, angle, size, center, psf=FWHM, fine=5):
    """Integrate a Sérsic profile over pixels, behind a Gaussian PSF of full width
    ``psf`` (pixels included); sum 1 out to infinity."""
    offset = (np.arange(size * fine) + 0.5) / fine - 0.5
    x, y = np.meshgrid(offset, offset)
    model = Sersic2D(1, r_eff, n, *center, ellipticity, np.radians(angle + 90))
    image = model(x, y)
    near = np.hypot(x - center[0], y - center[1]) < 2
    part = (np.arange(9) - 4) / 9 / fine
    image[near] = np.mean(
        [model(x[near] + dx, y[near] + dy) for dx in part for dy in part], axis=0
    )
    if psf:
        sigma = np.sqrt((psf**2 - PIXEL) / (8 * np.log(2)))
        image = gaussian_filter(image, sigma * fine, mode="nearest")
    image = image.reshape(size, fine, size, fine).mean(axis=(1, 3))
    from scipy.special import gamma, gammaincinv

    b = gammaincinv(2 * n, 0.5)
    total = 2 * np.pi * n * np.exp(b) * b ** (-2 * n) * gamma(2 * n)
    return image / (total * r_eff**2 * (1 - ellipticity))


def noisy(image, snr, r_eff, ellipticity, seed=0):
    """Add noise that gives ``snr`` inside the half-light ellipse."""
    sigma = 0.5 / (snr * np.sqrt(np.pi * (1 - ellipticity)) * r_eff)
    return image + np.random.default_rng(seed).normal(0, sigma, image.shape)


def shift(angle, expected):
    """Compare angles that are the same after half a turn."""
    return float(angle_difference(2 * angle, 2 * expected).value) / 2


@pytest.mark.parametrize("psf", ["none", "pixels", "angle"])
@pytest.mark.parametrize("ellipticity", [0.2, 0.6])
@pytest.mark.parametrize("index", [1, 4])
def test_sersic(index, ellipticity, psf):
    r_eff = 9.0
    size = int(8.48 * r_eff)
    center = size // 2 + 0.3, size // 2 - 0.2
    image = sersic(index, r_eff, ellipticity, 35, size, center, psf != "none" and FWHM)
    width = {"none": None, "pixels": FWHM, "angle": FWHM * 0.3 * u.arcsec}[psf]
    found = measure(
        noisy(image, 1500, r_eff, ellipticity),
        psf_fwhm=width,
        pixel_scale=0.3 * u.arcsec / u.pix,
    )
    assert found["r_eff"] == pytest.approx(r_eff, rel=0.05)
    assert found["ellipticity"] == pytest.approx(ellipticity, abs=0.02)
    assert abs(shift(found["position_angle"], 35)) < 1.0
    assert (found["x"], found["y"]) == pytest.approx(center, abs=0.03)
    # Petrosian fluxes of Graham et al. (2005): 99 % and 83 % of the light.
    assert found["flux"] == pytest.approx({1: 0.993, 4: 0.83}[index], abs=0.02)
    r_petro = {1: 2.16, 4: 1.82}[index] * r_eff
    assert found["r_petro"] == pytest.approx(r_petro, rel=0.06)
    assert found["snr"] == pytest.approx(1500, rel=0.3)
    assert found["flags"] == 0


def test_noise_is_unbiased():
    image = sersic(1, 8, 0.5, 20, 71, (35, 35))
    found = [measure(noisy(image, 60, 8, 0.5, i), psf_fwhm=FWHM) for i in range(20)]
    for key, truth in (("r_eff", 8), ("ellipticity", 0.5), ("flux", 0.993)):
        values = np.array([one[key] for one in found])
        assert (
            abs(values.mean() - truth) < 4 * values.std() / np.sqrt(20) + 0.01 * truth
        )
    flux = np.array([one["flux"] for one in found])
    assert flux.std() == pytest.approx(found[0]["flux_err"], rel=0.5)


@pytest.mark.parametrize("light", [0.3, 1.0])
@pytest.mark.parametrize("distance", [14, 24])
def test_neighbors(distance, light):
    image = sersic(1, 8, 0.4, 120, 81, (40.2, 39.7))
    other = sersic(1, 3, 0.2, 0, 81, (40 + distance * 0.8, 40 + distance * 0.6))
    found = measure(noisy(image + light * other, 300, 8, 0.4), psf_fwhm=FWHM)
    assert found["r_eff"] == pytest.approx(8, rel=0.08)
    assert found["ellipticity"] == pytest.approx(0.4, abs=0.04)
    assert abs(shift(found["position_angle"], 120)) < 4
    assert (found["x"], found["y"]) == pytest.approx((40.2, 39.7), abs=0.2)


def test_mask_and_truncation():
    image = noisy(sersic(1, 8, 0.4, 120, 81, (40, 40)), 500, 8, 0.4)
    mask = np.zeros(image.shape, bool)
    mask[:, 45:47] = True
    image[30:33, 20:60] = np.nan
    found = measure(np.where(mask, 1e9, image), mask=mask, psf_fwhm=FWHM)
    assert found["r_eff"] == pytest.approx(8, rel=0.05)
    assert found["ellipticity"] == pytest.approx(0.4, abs=0.03)
    assert found["flags"] == 0
    cut = measure(image[:, 20:52], psf_fwhm=FWHM)
    assert cut["flags"] & Flag.TRUNCATED
    assert cut["x"] == pytest.approx(20, abs=0.3)


def test_round_galaxy():
    image = noisy(sersic(1, 8, 0.0, 0, 71, (35, 35)), 2000, 8, 0)
    found = measure(image, psf_fwhm=FWHM)
    assert found["ellipticity"] < 0.02
    assert found["flags"] == Flag.PA_UNDETERMINED


def test_symmetries_and_scale():
    image = noisy(sersic(2, 6, 0.5, 30, 61, (30.4, 29.8)), 2000, 6, 0.5)
    first = measure(image, psf_fwhm=FWHM)
    turned = measure(1e-9 * np.rot90(image), psf_fwhm=FWHM)
    flipped = measure(1e20 * image[:, ::-1].astype(">f8"), psf_fwhm=FWHM)
    for other, angle, scale in (
        (turned, first["position_angle"] - 90, 1e-9),
        (flipped, -first["position_angle"], 1e20),
    ):
        for key in ("r_eff", "ellipticity", "r_petro", "snr"):
            assert other[key] == pytest.approx(first[key], rel=5e-3)
        assert abs(shift(other["position_angle"], angle)) < 0.2
        assert other["flux"] == pytest.approx(scale * first["flux"], rel=5e-3)
    assert flipped["x"] == pytest.approx(60 - first["x"], abs=0.01)


@pytest.mark.parametrize("psf_fwhm", [None, 3.0])
def test_nothing_to_measure(psf_fwhm):
    generator = np.random.default_rng(5)
    for seed in range(40):
        shape = generator.integers(5, 90, 2)
        image = generator.normal(0, 10.0 ** generator.uniform(-30, 30), shape)
        if seed % 2:
            image[generator.random(shape) < generator.random()] = np.nan
        found = measure(image, psf_fwhm=psf_fwhm)
        assert np.isnan(found["r_eff"]) and np.isnan(found["ellipticity"])
        assert found["flags"] & Flag.FAILED
    line = np.zeros((60, 60))
    line[30] = 1
    ramp = np.arange(4000.0).reshape(50, 80)
    for image in (line, ramp, -ramp, np.ones((50, 50)), np.eye(40), np.zeros((50, 50))):
        found = measure(image, psf_fwhm=psf_fwhm)
        assert set(found) == set(measure(np.zeros((0, 3))))
    assert measure(np.ones((2, 2)))["flags"] == Flag.FAILED | Flag.FEW_PIXELS


def test_speed():
    image = noisy(sersic(1, 9, 0.4, 30, 81, (40, 40)), 200, 9, 0.4)
    measure(image)
    times = []
    for _ in range(5):
        start = time.process_time()
        measure(image)
        times.append(time.process_time() - start)
    # A few ms on a free core.
    assert min(times) < 0.05


def test_measure_errors():
    image = np.ones((20, 20))
    with pytest.raises(InputError, match="values: got shape"):
        measure(np.ones(5))
    with pytest.raises(InputError, match="mask: got shape"):
        measure(image, mask=np.ones((3, 3), bool))
    with pytest.raises(InputError, match="std: got shape"):
        measure(image, std=np.ones(3))
    with pytest.raises(InputError, match="psf_fwhm"):
        measure(image, psf_fwhm=-1)
    with pytest.raises(InputUnitError, match="psf_fwhm"):
        measure(image, psf_fwhm=1 * u.arcsec)


GALAXIES = [
    # x, y, n, r_eff, ellipticity, image angle, flux
    (80.2, 79.7, 1, 8.0, 0.5, 30, 1e5),
    (220.0, 90.4, 4, 6.0, 0.3, 100, 1e5),
    (90.3, 190.1, 1, 5.0, 0.2, 160, 3e4),
    (270.5, 199.8, 1, 9.0, 0.7, 60, 2e5),
    (293.0, 220.4, 1, 4.0, 0.3, 10, 4e4),
]


@pytest.fixture(scope="module")
def field():
    image = np.random.default_rng(8).normal(0, 1, (270, 340))
    image += 50 + np.linspace(0, 5, 340)
    for x, y, n, r_eff, ellipticity, angle, flux in GALAXIES:
        low = np.floor([x, y]).astype(int) - 40
        model = sersic(n, r_eff, ellipticity, angle, 81, (x - low[0], y - low[1]))
        image[low[1] : low[1] + 81, low[0] : low[0] + 81] += flux * model
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    # North is 25 degrees off +y, clockwise.
    turn = np.radians(25)
    cos, sin = np.cos(turn), np.sin(turn)
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * 0.2 / 3600
    wcs.wcs.crpix, wcs.wcs.crval = (170, 130), (150, 2)
    image[130, :] = np.nan
    std = StdDevUncertainty(np.ones(image.shape))
    return CCDData(image, unit="nJy", wcs=wcs, uncertainty=std)


def nearest(table, x, y):
    return table[np.argmin(np.hypot(table["x"].value - x, table["y"].value - y))]


def test_detect(field):
    before = field.data.copy()
    table = detect(field, psf_fwhm=FWHM * 0.2 * u.arcsec)
    np.testing.assert_array_equal(field.data, before)
    names = "id x y sky flux flux_err r_eff r_petro ellipticity position_angle snr"
    assert table.colnames == [*names.split(), "flags"]
    assert len(table) == 5 and (np.diff(table["flux"]) < 0).all()
    for x, y, n, r_eff, ellipticity, angle, flux in GALAXIES:
        row = nearest(table, x, y)
        assert (row["x"].value, row["y"].value) == pytest.approx((x, y), abs=0.05)
        assert field.wcs.pixel_to_world(x, y).separation(row["sky"]).arcsec < 0.01
        assert row["r_eff"].to_value(u.arcsec) == pytest.approx(0.2 * r_eff, rel=0.05)
        assert row["ellipticity"] == pytest.approx(ellipticity, abs=0.03)
        assert row["position_angle"].unit == u.deg
        assert abs(shift(row["position_angle"].value, angle + 25)) < 1
        whole = {1: 0.993, 4: 0.83}[n] * flux
        assert row["flux"].to_value(u.nJy) == pytest.approx(whole, rel=0.04)
        assert 10 < row["flux_err"].to_value(u.nJy) < 100
    near = nearest(table, *GALAXIES[3][:2]), nearest(table, *GALAXIES[4][:2])
    assert all(row["flags"] & Flag.NEIGHBORS for row in near)
    assert nearest(table, *GALAXIES[0][:2])["flags"] == 0


@pytest.fixture
def tiles(monkeypatch):
    """Tiles much smaller than the images, of which this lists the parts read."""
    from galml.cutouts import detection

    sizes, read = [], detection.read

    def listed(image, **options):
        sizes.append(image.data.shape)
        return read(image, **options)

    monkeypatch.setattr(detection, "TILE", 128)
    monkeypatch.setattr(detection, "OVERLAP", 96)
    monkeypatch.setattr(detection, "read", listed)
    return sizes


def test_tiles_are_the_whole(monkeypatch, tiles, tmp_path):
    # Centers lie on borders and corners of the tiles, and between them.
    places = [(128.0, 128.0), (256.0, 60.2), (383.5, 255.7), (60.1, 255.5), (190, 190)]
    image = np.random.default_rng(4).normal(20, 1, (360, 500))
    for x, y in places:
        low = np.floor([x, y]).astype(int) - 40
        model = 5e4 * sersic(1, 5.0, 0.4, 30, 81, (x - low[0], y - low[1]))
        image[low[1] : low[1] + 81, low[0] : low[0] + 81] += model
    ccd = CCDData(image, unit="adu", uncertainty=StdDevUncertainty(np.ones((360, 500))))
    ccd.write(tmp_path / "image.fits")
    options = {"box_size": 32, "threshold": 3}
    found = [detect(ccd, **options), detect(str(tmp_path / "image.fits"), **options)]
    assert len(tiles) == 2 * 12 and max(tiles) == (320, 320)
    monkeypatch.setattr("galml.cutouts.detection.TILE", 1024)
    whole = detect(ccd, **options)
    assert tiles[-1] == image.shape and len(whole) == len(places)
    for table in found:
        assert len(table) == len(whole)
        np.testing.assert_array_equal(table["flags"], whole["flags"])
        for key in ("x", "y"):
            np.testing.assert_allclose(table[key], whole[key], atol=0.01 * u.pix)
        for key in ("flux", "r_eff", "ellipticity", "snr"):
            np.testing.assert_allclose(table[key], whole[key], rtol=0.01)


def test_tiles_without_pixels_are_left_out(tiles):
    image = np.random.default_rng(4).normal(0, 1, (360, 500))
    image[:240] = np.nan
    image[250:331, 60:141] += 5e4 * sersic(1, 5.0, 0.4, 30, 81, (40, 40))
    table = detect(image * u.adu, box_size=32)
    assert (table["x"][0].value, table["y"][0].value) == pytest.approx(
        (100, 290), abs=1
    )


def test_detect_without_wcs(field):
    table = detect(field.data * u.adu, psf_fwhm=FWHM * u.pix)
    assert "sky" not in table.colnames and len(table) == 5
    row = nearest(table, *GALAXIES[0][:2])
    assert row["r_eff"].to_value(u.pix) == pytest.approx(8, rel=0.05)
    assert abs(shift(row["position_angle"].value, 30)) < 1
    assert row["flags"] == Flag.NO_WCS | Flag.NO_UNCERTAINTY
    with pytest.raises(InputUnitError, match="psf_fwhm"):
        detect(field.data * u.adu, psf_fwhm=1 * u.arcsec)
    with pytest.raises(InputUnitError, match="psf_fwhm: got a width without unit"):
        detect(field.data * u.adu, psf_fwhm=FWHM)


def test_uncertainties_are_converted(field):
    # The right half is noise that the uncertainty tells of.
    std = np.where(np.arange(340) < 150, 1.0, 1e6) * np.ones((270, 1))
    results = [
        detect(CCDData(field.data, unit="nJy", uncertainty=kind))
        for kind in (
            StdDevUncertainty(std),
            VarianceUncertainty(std**2),
            InverseVariance(std**-2.0),
        )
    ]
    for table in results:
        assert len(table) == 2 and table["x"].value.max() < 150
        np.testing.assert_allclose(table["flux_err"], results[0]["flux_err"])


def test_detect_finds_nothing():
    noise = np.random.default_rng(0).normal(0, 1, (100, 100)) * u.adu
    full = detect(np.zeros((80, 60)) * u.adu)
    for table in (detect(noise), full, detect(np.ones((3, 3)) * u.adu)):
        assert len(table) == 0 and table["r_eff"].unit == u.pix


def test_galaxy_that_fills_the_image():
    image = 1e5 * sersic(1, 12, 0.3, 40, 61, (30, 30)) + 100
    image += np.random.default_rng(0).normal(0, 1, image.shape)
    table = detect(image * u.adu, box_size=64)
    assert table["x"][0].value == pytest.approx(30, abs=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold"),
        ({"contrast": 2}, "contrast"),
        ({"min_pixels": 1.5}, "min_pixels"),
        ({"box_size": 0}, "box_size"),
        ({"psf_fwhm": np.nan}, "psf_fwhm"),
    ],
)
def test_detect_errors(options, message):
    with pytest.raises(InputError, match=message):
        detect(np.ones((50, 50)) * u.adu, **options)
    with pytest.raises(InputError, match="no usable pixel"):
        detect(np.full((50, 50), np.nan) * u.adu)


@pytest.mark.parametrize("seeing", [None, 1.2, 1.35, 1.5])
@pytest.mark.parametrize("band", "gri")
def test_the_example_field_holds_nine_galaxies(band, seeing):
    examples = resources.files("galml") / "data" / "examples"
    width = None if seeing is None else seeing * u.arcsec
    table = detect(str(examples / f"field-{band}.fits"), psf_fwhm=width)
    places = [48, 143.5, 239.5]
    assert len(table) == 9
    for x, y in itertools.product(places, places):
        row = nearest(table, x, y)
        assert np.hypot(row["x"].value - x, row["y"].value - y) < 1.5


def test_the_least_size_of_a_source_goes_with_the_psf(field):
    """As many are found in pixels that are half as large."""
    fine = np.kron(field.data, np.ones((2, 2)))
    coarse = detect(field.data * u.adu, psf_fwhm=FWHM * u.pix)
    table = detect(fine * u.adu, psf_fwhm=2 * FWHM * u.pix, box_size=128)
    assert len(table) == len(coarse) == len(GALAXIES)
    for found, width in ((coarse, FWHM), (table, 2 * FWHM)):
        least = round(17 * np.pi / 4 * max(width, 3.0) ** 2)
        assert f"min_pixels={least}" in found.meta.values()


def test_stars_are_point_sources():
    """Stars behind two kinds of PSF, and galaxies somewhat and much larger than it."""
    y, x = np.indices((81, 81)) - 40.0
    r, fwhm = np.hypot(x, y), 3.3
    gauss = np.exp(-4 * np.log(2) * (r / fwhm) ** 2)
    moffat = (1 + (r * 1.0196 / fwhm) ** 2) ** -3.0
    galaxies = [
        gaussian_filter(np.exp(-1.678 * r / size), fwhm / 2.3548) for size in (2.2, 5)
    ]
    noise = np.random.default_rng(1).normal(0, 1, r.shape)
    for light, star in zip((gauss, moffat, *galaxies), (1, 1, 0, 0), strict=True):
        image = 4000 * light / light.sum() + noise
        flags = measure(image, psf_fwhm=fwhm)["flags"]
        assert bool(flags & Flag.POINT_SOURCE) == bool(star)
        assert not measure(image)["flags"] & Flag.POINT_SOURCE


def test_cutouts_keep_what_detection_tells_of_stars():
    y, x = np.indices((120, 120)) - 40.0
    star = np.exp(-4 * np.log(2) * np.hypot(x, y) ** 2 / 4.0**2)
    galaxy = np.exp(-np.hypot(x - 40, y - 40) / 4)
    noise = np.random.default_rng(0).normal(size=x.shape)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (-1e-4, 1e-4)
    image = CCDData(1000 * star + 300 * galaxy + noise, unit="nJy", wcs=wcs)
    catalog = detect(image, psf_fwhm=4 * u.pix)
    told = catalog["flags"] & int(Flag.POINT_SOURCE)
    assert np.count_nonzero(told) == 1 and len(catalog) == 2
    stack = extract_cutouts(image, catalog, size=30)
    assert (stack.flags & int(Flag.POINT_SOURCE) == told).all()
    catalog.meta["OPERATN"] = "other"
    assert not (extract_cutouts(image, catalog, size=30).flags & told).any()


def test_threads_leave_the_filters_of_warnings(tmp_path):
    """What photutils and astropy change for a while is not left behind by threads."""
    y, x = np.indices((150, 150))
    values = np.random.default_rng(0).normal(size=x.shape)
    for place in ((40, 50), (100, 110)):
        values += 100 * np.exp(-np.hypot(x - place[0], y - place[1]) / 4)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (-1e-4, 1e-4)
    image = CCDData(values, unit="nJy", wcs=wcs)

    def work(number):
        for _ in range(3):
            stack = extract_cutouts(image, size=20)
            assert len(stack) == len(detect(image)) == 2
            stack.write(tmp_path / f"{number}.fits", overwrite=True)

    work(0)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": "high"},
        {"threshold": [1, 2] * u.pix},
        {"contrast": 3 * u.arcsec},
        {"min_pixels": "r"},
        {"min_pixels": np.nan},
        {"box_size": 1j},
        {"box_size": np.ma.masked},
        {"psf_fwhm": 1e300 * u.pix},
        {"psf_fwhm": 1e300 * u.arcsec},
    ],
)
def test_arguments_that_make_no_sense(options):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (-1e-4, 1e-4)
    (argument,) = options
    with pytest.raises(InputError, match=f"^{argument}: got"):
        detect(CCDData(np.ones((40, 40)), unit="nJy", wcs=wcs), **options)


@pytest.mark.parametrize("width", ["r", 1e300, 1e300 * u.pix, np.nan])
def test_widths_that_make_no_sense(width):
    with pytest.raises(InputError, match="^psf_fwhm: got"):
        measure(np.ones((40, 40)), psf_fwhm=width)
