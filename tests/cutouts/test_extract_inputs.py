# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS, Sip

from galml.core import Flag, GalmlWarning, InputError, InputTypeError, InputUnitError
from galml.cutouts import R_EFF, detect, extract_cutouts, iter_cutouts

SHAPE = (160, 170)


def make_wcs(scale, angle, sip=False):
    wcs = WCS(naxis=2)
    kind = "-SIP" if sip else ""
    wcs.wcs.ctype, wcs.wcs.crval = (f"RA---TAN{kind}", f"DEC--TAN{kind}"), (150.0, 60.0)
    wcs.wcs.crpix = [SHAPE[1] / 2 + 8.3, SHAPE[0] / 2 - 4.4]
    c, s = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
    if sip:
        terms = np.zeros((3, 3))
        terms[2, 0], terms[1, 1] = 2e-5, -1e-5
        wcs.sip = Sip(terms, -terms, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def noise(wcs, seed=0):
    rng = np.random.default_rng(seed)
    return CCDData(
        rng.normal(10, 1, SHAPE),
        unit="nJy",
        wcs=wcs,
        uncertainty=StdDevUncertainty(rng.uniform(1, 2, SHAPE)),
    )


@pytest.fixture
def images():
    return {
        "g": noise(make_wcs(0.4, 0.4)),
        "r": noise(make_wcs(0.5, 0.2, sip=True), 1),
    }


@pytest.fixture
def catalog(images):
    sky = images["g"].wcs.pixel_to_world([80, 60, 100], [80, 90, 60])
    names = ["a", "b", "c"]
    return QTable({"name": names, "sky": sky, "r_eff": [2.0, 3.0, 2.5] * u.arcsec})


def test_chunks_and_order_change_nothing(images, catalog):
    options = {"size": 6 * R_EFF, "n_pixels": 20, "psf": 1 * u.arcsec}
    options["target_psf"] = 1.5 * u.arcsec
    whole = extract_cutouts(images, catalog, **options)
    parts = list(iter_cutouts(images, catalog, chunk=2, **options))
    assert [len(part) for part in parts] == [2, 1]
    turned = extract_cutouts(images, catalog[::-1], chunk=1, **options)
    assert [ccd.meta["OBJECT"] for ccd in turned] == ["c", "b", "a"]
    for other in (type(whole).concatenate(parts), turned[::-1]):
        np.testing.assert_allclose(other.data.value, whole.data.value, rtol=1e-5)
        np.testing.assert_allclose(other.uncertainty, whole.uncertainty, rtol=1e-5)
        np.testing.assert_allclose(other.psf, whole.psf, rtol=1e-5, atol=1e-9)


def test_inputs_stay_as_they_are(images, catalog):
    images["g"].data[:] = images["g"].data.astype(">f8")
    images["g"].data.flags.writeable = False
    before = {b: image.data.copy() for b, image in images.items()}
    columns = catalog.colnames
    extract_cutouts(images, catalog, size=20, unit="Jy")
    for band, image in images.items():
        np.testing.assert_array_equal(image.data, before[band])
        assert image.unit == u.nJy
    assert catalog.colnames == columns


def test_sizes(images, catalog):
    def make(**options):
        stack = extract_cutouts(images, catalog, **options)
        return stack.data.shape[-1], stack.pixel_scale.to_value(u.arcsec)

    side, scale = make(size=20)
    assert side == 20
    np.testing.assert_allclose(scale, 0.4, rtol=1e-4)
    side, scale = make(size=0.1 * u.arcmin, pixel_scale=0.5 * u.arcsec)
    assert side == 12
    side, scale = make(size=8 * u.arcsec, n_pixels=10)
    assert (side, *scale) == (10, 0.8, 0.8, 0.8)
    for options in ({"n_pixels": 32}, {"pixel_scale": 0.25 * R_EFF}):
        side, scale = make(size=8 * R_EFF, **options)
        assert side == 32
        np.testing.assert_allclose(scale, [0.5, 0.75, 0.625])


def test_effective_radii_reach_other_processes():
    sent = pickle.loads(pickle.dumps(8 * R_EFF))
    assert sent.unit is R_EFF and sent == 8 * R_EFF


@pytest.mark.parametrize(
    ("options", "error", "argument"),
    [
        ({"size": 0}, InputError, "size"),
        ({"size": -3 * u.arcsec}, InputError, "size"),
        ({"size": np.nan * u.arcsec}, InputError, "size"),
        ({"size": 2.5}, InputError, "size"),
        ({"size": "20"}, InputTypeError, "size"),
        ({"size": (20, 20)}, InputTypeError, "size"),
        ({"size": 20 * u.kg}, InputUnitError, "size"),
        ({"size": [20, 20] * u.arcsec}, InputError, "size"),
        ({"size": 8 * R_EFF}, InputError, "pixel_scale"),
        ({"size": 20, "n_pixels": 20}, InputError, "n_pixels"),
        ({"size": 20, "pixel_scale": 0 * u.arcsec}, InputError, "pixel_scale"),
        ({"size": 20, "pixel_scale": 0.4}, InputTypeError, "pixel_scale"),
        ({"size": 20, "orientation": "up"}, InputError, "orientation"),
        ({"size": 20, "resampling": "nearest"}, InputError, "resampling"),
        ({"size": 20, "coadd": "none"}, InputError, "coadd"),
        ({"size": 20, "dtype": "int"}, InputError, "dtype"),
        ({"size": 20, "chunk": 0}, InputError, "chunk"),
        ({"size": 20, "per_pixel": 3 * u.m}, InputTypeError, "per_pixel"),
        ({"size": 20, "match_background": "x"}, InputTypeError, "match_background"),
        ({"size": 20, "target_psf": 2 * u.arcsec}, InputError, "psf"),
        (
            {"size": 20, "psf": 3 * u.arcsec, "target_psf": 2 * u.arcsec},
            InputError,
            "psf",
        ),
        (
            {"size": 20, "psf": 1 * u.arcsec, "target_psf": np.ones((3, 3))},
            InputTypeError,
            "target_psf",
        ),
        ({"size": 20, "saturation": 3 * u.kg}, InputUnitError, "saturation"),
        ({"size": 20, "saturation": {"z": 3.0}}, InputError, "saturation"),
        ({"size": 20, "saturation": "high"}, InputError, "saturation"),
        ({"size": 20, "saturation": b"high"}, InputError, "saturation"),
        ({"size": 20, "saturation": 1j}, InputError, "saturation"),
    ],
)
def test_bad_arguments(images, catalog, options, error, argument):
    with pytest.raises(error, match=rf"^{argument}.*: got"):
        extract_cutouts(images, catalog, **options)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (QTable({"a": [1.0]}), InputError, "the columns a"),
        (QTable({"ra": [1.0] * u.km, "dec": [1.0]}), InputUnitError, "km"),
        (QTable({"ra": ["x"], "dec": ["y"]}), InputTypeError, "ra"),
        (QTable({"x": [1], "y": [1], "r_eff": [1.0]}), InputUnitError, "r_eff"),
        ([1, 2], InputTypeError, "catalog"),
    ],
)
def test_bad_catalogs(images, table, error, message):
    with pytest.raises(error, match=message):
        extract_cutouts(images, table, size=20)


def test_units_that_do_not_say(images, catalog):
    image = CCDData(images["g"].data, unit="", wcs=images["g"].wcs)
    with pytest.raises(InputError, match="per_pixel"):
        extract_cutouts(image, catalog, size=20)
    options = {"size": 20, "pixel_scale": 0.8 * u.arcsec}
    mean, total = (
        extract_cutouts(image, catalog, per_pixel=p, **options) for p in (False, True)
    )
    np.testing.assert_allclose(total.data.value, 4 * mean.data.value, rtol=1e-3)


def test_positions_of_every_kind(images, catalog):
    expected = extract_cutouts(images, catalog, size=20).data.value
    sky = catalog["sky"]
    x, y = images["g"].wcs.world_to_pixel(sky)
    for table in (
        sky,
        QTable({"RA": sky.ra.deg, "Dec": sky.dec.deg}),
        QTable({"ra": sky.ra.to(u.rad), "dec": sky.dec.to(u.arcmin)}),
        QTable({"x": x, "y": y * u.pix}),
        QTable({"where": sky.galactic}),
    ):
        found = extract_cutouts(images, table, size=20)
        np.testing.assert_allclose(found.data.value, expected, rtol=1e-4)


def test_rows_without_pixels_are_flagged(images):
    inside = images["g"].wcs.pixel_to_world(80, 80)
    ra = [inside.ra.deg, 10.0, np.nan, inside.ra.deg + 180, inside.ra.deg]
    dec = [inside.dec.deg, -10.0, 3.0, -inside.dec.deg, 95.0]
    table = QTable({"ra": ra, "dec": dec})
    with pytest.warns(GalmlWarning, match="4 of 5 rows have no result: failed 4"):
        stack = extract_cutouts(images, table, size=20)
    failed = (stack.flags & Flag.FAILED) > 0
    np.testing.assert_array_equal(failed, [False, True, True, True, True])
    assert np.isnan(stack.data.value[1:]).all()
    assert stack.mask[1:].all()
    assert np.isfinite(stack.data.value[0]).all()
    assert stack.catalog["masked_fraction"].tolist() == [0, 1, 1, 1, 1]


def test_sizes_that_are_not_known_are_flagged(images, catalog):
    catalog["r_eff"] = [2.0, np.nan, -1.0] * u.arcsec
    with pytest.warns(GalmlWarning, match="2 of 3 rows"):
        stack = extract_cutouts(images, catalog, size=8 * R_EFF, n_pixels=20)
    assert ((stack.flags & Flag.FAILED) > 0).tolist() == [False, True, True]


def test_images_of_nan_fail(images, catalog):
    images["g"].data[:] = np.nan
    with pytest.warns(GalmlWarning, match="3 of 3 rows"):
        stack = extract_cutouts(images["g"], catalog, size=20)
    assert (stack.flags & Flag.NONFINITE).all()
    stack = extract_cutouts(images, catalog, size=20)
    assert np.isnan(stack.data.value[:, 0]).all()
    assert np.isfinite(stack.data.value[:, 1]).all()
    assert not (stack.flags & Flag.FAILED).any()
    assert (stack.flags & Flag.MASKED).all()


def test_flags_of_edges_masks_levels_and_neighbors(images):
    image = images["g"]
    image.mask = np.zeros(SHAPE, bool)
    image.mask[75:85, 35:45] = True
    image.data[80, 120] = 1e4
    x, y = [2, 40, 120, 80, 83], [80, 80, 80, 120, 120]
    image.meta["SATURATE"] = 5e3
    stack = extract_cutouts(image, QTable({"x": x, "y": y}), size=16)
    bits = [Flag.TRUNCATED, Flag.MASKED, Flag.SATURATED, Flag.NEIGHBORS]
    found = [[bool(flag & bit) for bit in bits] for flag in stack.flags]
    assert found == [
        [True, True, False, False],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
        [False, False, False, True],
    ]
    assert not (stack.flags & Flag.NO_UNCERTAINTY).any()
    # Ten of sixteen pixels on a side.
    fraction = stack.catalog["masked_fraction"][1]
    assert fraction == pytest.approx((10 / 16) ** 2, abs=0.02)
    np.testing.assert_array_equal(np.isnan(stack.data.value), stack.mask)
    np.testing.assert_array_equal(np.isnan(stack.uncertainty), stack.mask)
    high = extract_cutouts(image, QTable({"x": x, "y": y}), size=16, saturation=2e4)
    assert not (high.flags & Flag.SATURATED).any()


def test_empty_catalogs_make_empty_stacks(images):
    table = QTable({"ra": [] * u.deg, "dec": [] * u.deg})
    stack = extract_cutouts(images, table, size=20)
    assert stack.data.shape == (0, 2, 20, 20)


def test_broad_psfs_are_flagged_where_they_vary(images):
    table = QTable({"x": [60, 100], "y": [80, 80]})
    with pytest.warns(GalmlWarning, match="1 of 2 rows"):
        stack = extract_cutouts(
            images["g"],
            table,
            size=16,
            psf=lambda x, y: (1.0 if x < 80.0 or x == 84.5 else 3.0) * u.arcsec,
            target_psf=2 * u.arcsec,
        )
    assert ((stack.flags & Flag.FAILED) > 0).tolist() == [False, True]
    assert np.isnan(stack.psf_fwhm[1, 0])


def test_positions_that_make_no_sense():
    """What is in the header of one image among many is told by its argument."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "BUNIT": "nJy"}
    cards |= {"CRPIX1": 20.0, "CRPIX2": 20.0, "CRVAL1": 150.0, "CRVAL2": 2.0}
    cards |= {"CDELT1": -1e-4, "CDELT2": 1e-4}
    good = fits.PrimaryHDU(np.ones((40, 40)), fits.Header(cards))
    for change in (
        {"CRPIX1": 1e300},
        {"CRVAL1": "abc"},
        {"CRVAL1": 1e300},
        {"CRVAL2": 1e20},
        {"CDELT1": 0.0},
        {"CDELT2": 1e300},
        {"PC1_1": 0.0},
        {"CTYPE1": 1},
        {"CTYPE1": "RA---XXX"},
        {"CUNIT1": "km"},
        {"RADESYS": "XYZ"},
        {"A_ORDER": 2},
        {"WCSAXES": 1000},
    ):
        bad = fits.PrimaryHDU(good.data, fits.Header(cards | change))
        catalog = QTable({"x": [20.0], "y": [20.0]})
        with pytest.raises(InputError, match="images: got"):
            extract_cutouts(bad, catalog, size=8)
        pair = bad.data, bad.header
        with pytest.raises(InputError, match="images: got"):
            extract_cutouts(pair, catalog, size=8)
        try:
            assert len(detect(bad)) == 0
        except InputError as error:
            assert error.argument == "image"


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300, 1e306])
def test_images_of_huge_and_tiny_numbers(scale):
    wcs = make_wcs(0.4, 0.0)
    y, x = np.indices(SHAPE) - 80.0
    image = 100 * np.exp(-np.hypot(x, y) / 4) + noise(wcs).data - 10
    image = CCDData(image * scale, unit="nJy", wcs=wcs)
    assert len(detect(image)) == 1
    with pytest.warns(GalmlWarning, match="no pixel usable in float32"):
        stack = extract_cutouts(image, size=20)
    assert stack.flags[0] & Flag.FAILED and np.isnan(stack.data.value).all()
    if 1e-308 < scale < 1e306:
        stack = extract_cutouts(image, size=20, dtype="float64")
        assert not stack.flags[0] & Flag.FAILED
        assert 50 < stack.data.value.max() / scale < 120
