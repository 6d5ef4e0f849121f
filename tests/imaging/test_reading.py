# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.constants import c
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from PIL import Image
from scipy.ndimage import gaussian_filter

import galml
from galml.core import Flag, GalmlWarning, decode_flags
from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.inputs import Failure
from galml.cutouts import CutoutStack, sdss_rgb
from galml.imaging import GalaxyImages, find_problems, read_images
from galml.imaging.headers import unit_of
from galml.physics import pivot_wavelengths

BANDS = ("g", "r", "i")
ARRAYS = ("values", "r_eff", "noise", "psf_fwhm", "center", "pixel_scale", "flags")


@pytest.fixture
def data(make_disks):
    return make_disks(noise=0.5)[0]


@pytest.fixture
def stack(data):
    """A stack in which not all is known of all galaxies."""
    count = len(data)
    r_eff = np.linspace(1.6, 2.6, count)
    r_eff[1] = np.nan
    width = np.full((count, 3), 1.2)
    width[2, 1] = np.nan
    mask = np.zeros(data.shape, bool)
    mask[3, :, :4] = True
    std = np.full(data.shape, 0.5)
    std[4, 0, 5] = -1
    values = data.copy()
    values[5, 1, 3, 3] = np.inf
    wcs = [None] * count
    wcs[2] = WCS(naxis=2)
    wcs[2].wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs[2].wcs.cdelt = -0.3 / 3600, 0.3 / 3600
    scale = np.full(count, 0.4)
    scale[2] = np.nan
    return CutoutStack(
        values * u.uJy,
        bands=BANDS,
        wcs=wcs,
        pixel_scale=scale * u.arcsec,
        uncertainty=std,
        mask=mask,
        psf_fwhm=width * u.arcsec,
        catalog=QTable({"name": list("abcdef"), "r_eff": r_eff * u.arcsec}),
        flags=np.arange(count) * int(Flag.NEIGHBORS),
    )


def members(cutouts, **options):
    return list(read_images(cutouts, **options).members)


def joined(parts):
    return GalaxyImages.concatenate(parts)


def assert_same(first, second, rtol=1e-6):
    assert first.bands == second.bands and first.calibrated == second.calibrated
    for key in ARRAYS:
        np.testing.assert_allclose(
            getattr(first, key), getattr(second, key), rtol=rtol, err_msg=key
        )


def test_stack_is_what_its_images_are(stack):
    (together,) = members(stack)
    one_by_one = members(list(stack))
    assert len(one_by_one) == 6 and len(together) == 6
    assert_same(together, joined(one_by_one))
    assert together.names == joined(one_by_one).names == list("abcdef")
    measured = (together.flags & int(Flag.SIZE_MEASURED)) > 0
    assert measured.tolist() == [False, True, False, False, False, False]
    assert np.isfinite(together.center[1]).all() and 3 < together.r_eff[1] < 7
    assert together.pixel_scale[2] == pytest.approx(0.3)
    nonfinite = (together.flags & int(Flag.NONFINITE)) > 0
    assert nonfinite.tolist() == [False] * 5 + [True]
    assert np.isnan(together.values[3, :, :4]).all()
    assert np.isnan(together.values[4, 0, 5]).all()
    np.testing.assert_allclose(together.noise, 500)


def test_stack_and_array_are_not_copied(data):
    for kind in (np.float32, np.float64):
        values = data.astype(kind)
        stack = CutoutStack(values * u.nJy, bands=BANDS, pixel_scale=1 * u.arcsec)
        for cutouts in (stack, stack.data):
            (images,) = members(cutouts, bands=BANDS, r_eff=4 * u.pix)
            assert np.shares_memory(images.values, stack.data)
            assert images.values.dtype == kind


def test_blocks_are_bounded():
    count = 600
    data = np.ones((count, 1, 8, 8)) * u.nJy
    r_eff = np.arange(count) * u.pix
    blocks = members(data, r_eff=r_eff, bands="r")
    assert [len(block) for block in blocks] == [256, 256, 88]
    np.testing.assert_array_equal(joined(blocks).r_eff, np.arange(count))
    wide = np.ones((3, 1, 1500, 1500), np.float32)
    assert [len(b) for b in members(wide, r_eff=4 * u.pix)] == [1, 1, 1]
    assert members(data[:0], r_eff=4 * u.pix) == []


def test_rows(stack):
    (images,) = members(stack)
    for rows in ([4, 2], slice(1, 3), np.array([True, False] * 3)):
        chosen = images[rows]
        assert chosen.names == np.array(images.names)[rows].tolist()
        for key in ARRAYS:
            expected = getattr(images, key)[rows]
            np.testing.assert_array_equal(getattr(chosen, key), expected)


def test_arrays_are_read_as_their_images_are(data):
    known = {"bands": BANDS, "r_eff": 4 * u.pix, "pixel_scale": 0.4 * u.arcsec}
    (expected,) = members(data * u.nJy, **known)
    masked = np.ma.masked_array(data, mask=np.zeros(data.shape, bool))
    masked[2, :, :3] = np.ma.masked
    for same in (
        data,
        data.astype(">f8"),
        (data * 8).astype(np.int32) / 8,
        Column(data, unit="nJy"),
        QTable({"image": data * u.nJy, "name": list("abcdef")}),
        Table({"id": np.arange(6), "image": data, "magnitude": np.ones(6)}),
    ):
        own = known | ({} if hasattr(same, "unit") else {"unit": "nJy"})
        (images,) = members(same, **own)
        np.testing.assert_allclose(images.values, expected.values, atol=0.13)
        assert images.calibrated and images.values.dtype.isnative
    assert images.names == ["0", "1", "2", "3", "4", "5"]
    for gone in (masked, Masked(data * u.nJy, mask=masked.mask)):
        (images,) = members(gone, **known | {"unit": "nJy"})
        assert np.isnan(images.values[2, :, :3]).all()
        assert np.isfinite(images.values[:2]).all()
    one_by_one = joined(members(list(data * u.nJy), **known))
    assert_same(one_by_one, expected)


def test_columns_of_one_band(data):
    column = Column(data[:, 1], name="image", unit="nJy")
    for cutouts in (column, QTable([column]), Table([column])):
        (images,) = members(cutouts, r_eff=4 * u.pix)
        assert images.values.shape == (6, 1, 48, 52) and images.bands == ("r",)


def test_single_images(data):
    for one, shape in ((data[0], (1, 3, 48, 52)), (data[0, 1], (1, 1, 48, 52))):
        source = read_images(one * u.nJy, bands=BANDS[: shape[1]], r_eff=3 * u.pix)
        (images,) = source.members
        assert source.is_single and images.values.shape == shape


def test_units(data):
    wavelength = np.array([0.470, 0.617, 0.749]).reshape(3, 1, 1) * u.micron
    flux = data * u.nJy
    per_wavelength = (flux * c / wavelength**2).to(u.erg / u.s / u.cm**2 / u.AA)
    known = {"bands": BANDS, "r_eff": 4 * u.pix, "pixel_scale": 0.5 * u.arcsec}
    for same in (
        flux.to(u.Jy),
        per_wavelength,
        flux.to(u.nmgy, u.zero_point_flux(1 * u.AB)),
        flux / (0.5 * u.arcsec) ** 2,
        flux / u.pix,
    ):
        for cutouts in (same, list(same)):
            images = joined(members(cutouts, **known))
            assert images.calibrated
            np.testing.assert_allclose(images.values, data, rtol=1e-5)


def test_surface_brightness_in_pixels_of_several_sizes(data):
    scale = np.linspace(0.2, 1.2, 6) * u.arcsec
    (images,) = members(
        data * u.nJy / u.arcsec**2, bands=BANDS, r_eff=4 * u.pix, pixel_scale=scale
    )
    expected = data * scale.value[:, None, None, None] ** 2
    np.testing.assert_allclose(images.values, expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-33, 1.0, 1e30])
def test_counts_of_any_size_are_held(data, factor):
    (images,) = members(data * factor * u.electron / u.s, bands=BANDS, r_eff=4 * u.pix)
    assert not images.calibrated
    top = np.abs(images.values).max((1, 2, 3))
    assert ((top > 0.7) & (top < 1.5)).all()
    ratio = images.values / data
    np.testing.assert_allclose(ratio, ratio[:, :1, :1, :1] * np.ones(data.shape))


def test_color_images(data):
    colors = sdss_rgb(data * u.nJy, pixel_scale=0.396 * u.arcsec)
    colors = np.round(255 * colors).astype(np.uint8)
    (images,) = members(colors, r_eff=4 * u.pix)
    assert images.bands == ("i", "r", "g") and images.calibrated
    assert images.colors.shape == (6, 3, 48, 52)
    np.testing.assert_allclose(
        np.moveaxis(images.colors, 1, 3), colors / 255, atol=1e-6
    )
    one_by_one = joined(members(list(colors), r_eff=4 * u.pix))
    assert_same(images, one_by_one)
    np.testing.assert_array_equal(images.colors, one_by_one.colors)


def test_color_files(data, tmp_path):
    image = pytest.importorskip("PIL.Image")
    colors = np.zeros((40, 40, 3), np.uint8)
    colors[10:30, 10:30] = 99
    image.fromarray(colors).save(tmp_path / "first.png")
    (tmp_path / "second.jpg").write_bytes(b"no image")
    paths = [str(tmp_path / name) for name in ("first.png", "second.jpg", "third.png")]
    table = Table({"file": paths})
    for cutouts in (paths, iter(paths), table):
        first, second, third = members(cutouts, r_eff=4 * u.pix)
        assert first.names == ["first"] and first.colors.shape == (1, 3, 40, 40)
        assert isinstance(second, Failure) and second.name == "second"
        assert isinstance(third.error, OSError) and third.name == "third"
    with pytest.raises(InputError, match="cutouts: got .*second.jpg, which cannot be"):
        read_images(paths[1])


@pytest.mark.parametrize(
    "meta",
    [
        {"BANDS": "g r i"},
        {"BANDS": "g;r; i"},
        {"BANDS": "gri"},
        {"BAND0": "g", "BAND1": "r", "BAND2": "i"},
    ],
)
def test_names_of_bands_as_surveys_write_them(meta):
    cutout = CCDData(np.ones((3, 32, 32)), unit="nJy", meta=meta)
    (images,) = members(cutout, pixel_scale=0.4 * u.arcsec)
    assert images.bands == ("g", "r", "i")


@pytest.mark.parametrize(
    ("meta", "band"),
    [
        ({"FILTER": "CLEAR1L;F814W"}, "CLEAR1L;F814W"),
        ({"FILTER": "V R"}, "V R"),
        ({"FILTER": "F814W", "BAND1": "Y"}, "F814W"),
        ({"BAND": "r", "BAND0": "g"}, "r"),
        ({"FILTER": "r", "BAND0": "g", "BAND1": "r", "BAND2": "z"}, "r"),
        ({"FILTER": "r", "BAND1": ""}, "r"),
        ({"FILTER": "r", "BAND1": 1.4}, "r"),
        ({"BANDS": "", "BAND0": "r"}, "r"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W", "BAND0": "Y"}, "F814W"),
    ],
)
def test_one_image_has_one_band(meta, band):
    cutout = CCDData(np.ones((32, 32)), unit="nJy", meta=meta)
    (images,) = members(cutout, pixel_scale=0.05 * u.arcsec)
    assert images.bands == (band,)


def test_metadata(data):
    meta = {"OBJECT": "x", "BANDS": "g,r,i", "PIXSCALE": 0.5, "R_EFF": 2.0}
    image = CCDData(data[0], unit="nJy", meta=meta | {"PSFFWHM": "1.0,1.5,2.0"})
    image.uncertainty = StdDevUncertainty(np.full(image.shape, 0.5))
    (images,) = members(image)
    assert images.r_eff == 4 and images.pixel_scale == 0.5 and images.names == ["x"]
    np.testing.assert_allclose(images.psf_fwhm, [[2, 3, 4]])
    np.testing.assert_allclose(images.noise, 0.5)
    assert images.flags.tolist() == [0]
    (images,) = members(image, r_eff=5 * u.pix, psf_fwhm=1 * u.arcsec)
    assert images.r_eff == 5 and (images.psf_fwhm == 2).all()


def test_options_row_by_row(data):
    radii = [3 * u.pix, 2 * u.arcsec, None, np.nan * u.pix, 5 * u.pix, 1 * u.arcmin]
    known = {"bands": BANDS, "pixel_scale": 0.5 * u.arcsec, "r_eff": radii}
    width = np.arange(1, 19).reshape(6, 3) * u.pix
    cubes = data * u.nJy
    for cutouts in (cubes, list(cubes), iter(cubes)):
        images = joined(members(cutouts, psf_fwhm=width, **known))
        np.testing.assert_allclose(images.r_eff[[0, 1, 4, 5]], [3, 4, 5, 120])
        assert np.isnan(images.r_eff[3]) and images.r_eff[2] > 1
        measured = images.flags & int(Flag.SIZE_MEASURED) > 0
        assert measured.tolist() == [False, False, True, False, False, False]
        np.testing.assert_allclose(images.psf_fwhm, width.value)
    masked = Masked([3, 4, 5, 6, 7, 8] * u.pix, mask=[0, 0, 1, 0, 0, 0])
    (images,) = members(cubes, **known | {"r_eff": masked})
    assert images.flags[2] & int(Flag.SIZE_MEASURED) and images.r_eff[3] == 6


def test_radii_of_a_table(data):
    table = QTable({"image": data * u.nJy, "r_eff": np.arange(1, 7) * u.pix})
    (images,) = members(table, bands=BANDS)
    np.testing.assert_allclose(images.r_eff, np.arange(1, 7))
    table["r_eff"] = np.arange(1, 7)
    with pytest.raises(InputUnitError, match="^r_eff: got a value in no unit"):
        read_images(table, bands=BANDS)


def test_sizes_are_measured_where_they_are_wanted(make_disks):
    data, radii, ratio, _ = make_disks(shape=(80, 80), noise=0.02)
    (images,) = members(data * u.nJy, bands=BANDS)
    assert (np.abs(images.r_eff / radii - 1) < 0.25).all()
    assert (np.abs(images.center - 39.5) < 0.7).all()
    (images,) = members(data * u.nJy, bands=BANDS, sizes=False)
    assert np.isnan(images.r_eff).all() and not images.flags.any() & 65536
    assert find_problems(images, sizes=False) == [None] * 6


def test_nothing_is_changed(stack):
    before = stack.data.copy(), stack.uncertainty.copy(), stack.mask.copy()
    members(stack)
    for old, new in zip(
        before, (stack.data, stack.uncertainty, stack.mask), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_problems(data):
    values = data.copy()
    values[0] = np.nan
    values[1] = 7
    values[2, 1] = np.where(np.arange(52) < 50, np.nan, values[2, 1])
    values[3, 0] = np.nan
    r_eff = np.array([4, 4, 4, 4, 0.1, np.nan]) * u.pix
    (images,) = members(values * u.nJy, bands=BANDS, r_eff=r_eff)
    errors = find_problems(images)
    assert [error and str(error) for error in errors] == [
        "cutouts: got an image with 0 known pixels, expected at least 64",
        "cutouts: got the same value everywhere, expected an image of a galaxy",
        None,
        None,
        "r_eff: got 0.1 pixels, expected at least 0.7 pixels",
        "r_eff: got no size that can be measured, expected at least 0.7 pixels",
    ]
    assert [e is None for e in find_problems(images, 0.47)][:4] == [
        False,
        False,
        True,
        False,
    ]


def test_angles_without_a_scale(data):
    scale = np.array([0.4, np.nan] * 3)
    stack = CutoutStack(
        data * u.nJy,
        bands=BANDS,
        pixel_scale=scale * u.arcsec,
        psf_fwhm=1.2 * np.ones((6, 3)) * u.arcsec,
        catalog=QTable({"r_eff": np.full(6, 2.0) * u.arcsec}),
    )
    (images,) = members(stack)
    errors = find_problems(images)
    assert [error is None for error in errors] == [True, False] * 3
    assert str(errors[1]).startswith("r_eff: got an angle, expected pixel_scale=")
    assert np.isnan(images.psf_fwhm[1::2]).all()
    one_by_one = joined(members(list(stack)))
    assert list(map(str, find_problems(one_by_one))) == list(map(str, errors))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"r_eff": 3.0}, InputUnitError, "r_eff: got a value in no unit"),
        ({"r_eff": "large"}, InputTypeError, "r_eff: got an object of type str"),
        ({"r_eff": "3 pix"}, InputTypeError, "r_eff: got an object of type str"),
        ({"r_eff": [3, 4] * u.pix}, InputError, "r_eff: got 2 values"),
        ({"r_eff": np.ones((6, 2)) * u.pix}, InputError, "r_eff: got shape"),
        ({"bands": ("g", "r", "q")}, InputError, "bands: got the unknown band 'q'"),
        ({"bands": ("g", "r", "r")}, InputError, "bands: got a band twice"),
        ({"pixel_scale": 3 * u.pix}, InputUnitError, "pixel_scale: got"),
        ({"psf_fwhm": 3 * u.km}, InputUnitError, "psf_fwhm: got a value in km"),
        ({"unit": "nonsense"}, InputUnitError, "unit: got"),
    ],
)
def test_bad_options(data, options, error, message):
    options = {"bands": BANDS, "r_eff": 4 * u.pix} | options
    for cutouts in (data * u.nJy, list(data * u.nJy)):
        with pytest.raises(error, match=f"^{message}"):
            read_images(cutouts, **options)


@pytest.mark.parametrize(
    "options, unit, message",
    [
        ({"psf_fwhm": [1, 2] * u.pix}, u.nJy, "psf_fwhm: got 2 values"),
        ({}, u.km, "cutouts: got values in km"),
        ({}, u.mag, "cutouts: got values in mag"),
        ({}, u.ABmag, "cutouts: got values in mag"),
    ],
)
def test_what_does_not_fit_the_images_fails_row_by_row(data, options, unit, message):
    options = {"bands": BANDS, "r_eff": 4 * u.pix} | options
    if unit != u.ABmag:
        for cutouts in (data * unit, list(data * unit)):
            found = members(cutouts, **options)
            assert len(found) == 6 and all(isinstance(one, Failure) for one in found)
            assert str(found[0].error).startswith(message)
    with pytest.raises(InputError, match=f"^{message}"):
        read_images(NDData(data[0], unit=unit), **options)


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4, 5, 6)), {"a": 1}, 3])
def test_bad_objects(bad):
    with pytest.raises(InputError, match="^cutouts: got"):
        read_images(bad)
    with pytest.raises(InputTypeError, match="^cutouts: got values of type complex"):
        read_images(np.zeros((2, 3, 8, 8), complex))


def with_header(values, cards, unit=None):
    """What is read of an image of a FITS file with these cards."""
    hdu = fits.ImageHDU(values, name="SCI")
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    if unit is not None:
        hdu.header["BUNIT"] = unit
    known = {"r_eff": 4 * u.pix, "flag_units": True}
    (images,) = members(fits.HDUList([primary, hdu]), **known)
    return images


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"FILTER1": "F606W", "FILTER2": "CLEAR2L"}, "F606W"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W   "}, "F814W"),
        ({"FILTER1": "F775W", "FILTER2": "POL0V"}, "F775W"),
        ({"FILTNAM1": "F702W", "FILTNAM2": " "}, "F702W"),
        ({"FILTER": "f160w"}, "f160w"),
        ({"FILTER": "F200W", "PUPIL": "CLEAR"}, "F200W"),
        ({"FILTER": "CLEAR", "PUPIL": "F150W"}, "F150W"),
        ({"FILTER": "F444W", "PUPIL": "F410M"}, "F410M"),
        ({"FILTER": "SDSS r", "FILTER1": "g"}, "SDSS r"),
        ({"FILTER": "i.MP9701"}, "i.MP9701"),
        ({"INSTRUME": "WFPC2", "FILTNAM1": "F450W"}, "F450W"),
        ({"INSTRUME": "WFC3", "FILTER": "F410M"}, "WFC3 F410M"),
        ({"INSTRUME": "NIRCAM", "FILTER": "F410M"}, "F410M"),
        ({"INSTRUME": "NISP", "FILTER": "Y"}, "NISP Y"),
        ({"INSTRUME": "NIRCAM", "FILTER": "F150W2", "PUPIL": "F164N"}, "F164N"),
        ({"INSTRUME": "HSC", "FILTER": "HSC-R2"}, "HSC-R2"),
        (
            {
                "INSTRUME": "STIS",
                "DETECTOR": "FUV-MAMA",
                "FILTER": "Clear",
                "APERTURE": "F25QTZ",
            },
            "STIS FUV-MAMA F25QTZ",
        ),
        ({"INSTRUME": "ACS", "APERTURE": "WFC1", "FILTER1": "FR388N"}, "FR388N"),
        ({"ORIGIN": "2MASS", "FILTER": "k"}, "k"),
        ({}, "r"),
    ],
)
def test_bands_in_headers(data, cards, band):
    images = with_header(data[0, 1], cards)
    assert images.bands == (band,)
    assert images.wavelengths == pivot_wavelengths([band])


def test_bands_in_headers_that_are_unknown(data):
    for cards in ({"FILTER1": "CLEAR1L", "FILTER2": "PR200L"}, {"FILTER": "F990N"}):
        with pytest.raises(InputError, match="^bands: got the unknown band"):
            with_header(data[0, 1], cards)


def test_bands_of_the_legacy_surveys(data):
    images = with_header(data[0], {"BANDS": "grz"}, "nanomaggy")
    assert images.bands == ("g", "r", "z")
    (images,) = members(data * u.nJy, bands="grz", r_eff=4 * u.pix)
    assert images.bands == ("g", "r", "z")


@pytest.mark.parametrize("options", [{"bands": ("g", "r")}, {"bands": None}])
def test_bands_that_no_image_has_raise(data, options):
    """A wrong call is no table of NaN."""
    stack = CutoutStack(data * u.nJy, bands=("g", "x", "i"), pixel_scale=1 * u.arcsec)
    headers = [NDData(one, unit="nJy", meta={"BANDS": "g,r,x"}) for one in data]
    own = {"bands": None} if options["bands"] is None else options
    for cutouts in (data * u.nJy, list(data * u.nJy), stack, headers):
        with pytest.raises(InputError, match="^bands: got"):
            members(cutouts, **own, r_eff=4 * u.pix)
    # One bad image ends no batch.
    headers[3] = NDData(data[3], unit="nJy", meta={"BANDS": "gri"})
    found = members(headers, r_eff=4 * u.pix)
    assert [isinstance(one, Failure) for one in found] == [n != 3 for n in range(6)]


# ACS F814W of CANDELS, whose AB zero point is 25.94.
ACS = {"FILTER1": "CLEAR1L", "FILTER2": "F814W"}
ACS |= {"PHOTFLAM": 7.0332e-20, "PHOTPLAM": 8045.0}


@pytest.mark.parametrize("unit", [None, "ELECTRONS/S", "electron / s", "COUNTS/S"])
def test_sensitivities_in_headers(data, unit):
    images = with_header(data[0, 1], ACS, unit)
    one_count = (25.94 * u.ABmag).to_value(u.nJy)
    assert images.calibrated and not images.flags & int(Flag.NO_UNIT)
    np.testing.assert_allclose(images.values[0, 0], data[0, 1] * one_count, rtol=0.01)
    cards = {"FILTER": "F160W", "PHOTFNU": 1.5187e-7} | {"PHOTFLAM": 1.0}
    images = with_header(data[0, 1], cards, unit)
    np.testing.assert_allclose(images.values[0, 0], data[0, 1] * 151.87, rtol=1e-5)


@pytest.mark.parametrize("key", ["ABMAGZP", "MAGZERO", "ZEROPOINT", "PHOTZP"])
def test_zero_points(data, key):
    for unit in (u.adu, u.electron / u.s, u.one):
        image = NDData(data[0], unit=unit, meta={key: 22.5, "BANDS": "g,r,i"})
        image.uncertainty = StdDevUncertainty(np.full(image.data.shape, 0.5))
        (images,) = members(image, r_eff=4 * u.pix)
        np.testing.assert_allclose(images.values[0], data[0] * 3631, rtol=1e-4)
        np.testing.assert_allclose(images.noise, 0.5 * 3631, rtol=1e-4)
    stack = CutoutStack(
        data * u.adu, bands=BANDS, pixel_scale=1 * u.arcsec, meta={key: 22.5}
    )
    (together,) = members(stack, r_eff=4 * u.pix)
    assert together.calibrated
    assert_same(together, joined(members(list(stack), r_eff=4 * u.pix)))


@pytest.mark.parametrize(
    ("cards", "unit"),
    [
        (ACS, "ELECTRONS"),
        ({"PHOTFLAM": 7e-20}, "ELECTRONS/S"),
        ({"PHOTFLAM": 0.0, "PHOTPLAM": 8045.0}, "ELECTRONS/S"),
        ({"MAGZERO": "unknown"}, "ADU"),
    ],
)
def test_what_headers_do_not_calibrate(data, cards, unit):
    images = with_header(data[0, 1], cards, unit)
    assert not images.calibrated and not images.flags & int(Flag.NO_UNIT)


def test_headers_do_not_overrule_units(data):
    images = with_header(data[0, 1], ACS, "nJy")
    np.testing.assert_allclose(images.values[0, 0], data[0, 1], rtol=1e-6)


def test_surface_brightness_of_webb(data):
    cards = {"FILTER": "F200W", "PUPIL": "CLEAR", "PIXAR_A2": 0.0009}
    images = with_header(data[0, 1], cards, "MJy/sr")
    expected = (data[0, 1] * u.MJy / u.sr * (0.03 * u.arcsec) ** 2).to_value(u.nJy)
    assert images.calibrated and images.pixel_scale == pytest.approx(0.03)
    np.testing.assert_allclose(images.values[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("unit", "factor", "flagged"),
    [("erg / (s cm2 Angstrom)", 1e-17, False), ("erg / (s cm2 Angstrom)", 1, True),
     ("nJy", 1e20, True), ("nJy", 1e9, False), ("adu", 1e20, False)],
)  # fmt: skip
def test_fluxes_that_no_galaxy_has(data, unit, factor, flagged):
    """A forgotten 1e-17; only the one image that has it, whatever is not known."""
    bright = data[:2].copy()
    bright[0] *= factor / bright[0].max()
    bright[1] /= bright[1].max() * (1e17 if "erg" in unit else 1)
    bright[0, 1, 3, 4] = np.nan
    images = joined(members(list(bright), unit=unit, bands=BANDS, r_eff=4 * u.pix))
    found = (images.flags & int(Flag.OUT_OF_DOMAIN)) != 0
    assert found.tolist() == [flagged, False]


def test_data_without_a_unit(data):
    bit, known = int(Flag.NO_UNIT), {"bands": BANDS, "r_eff": 4 * u.pix}
    stack = CutoutStack(data * u.one, bands=BANDS, pixel_scale=1 * u.arcsec)
    for cutouts in (data, list(data), stack, [NDData(one) for one in data]):
        images = joined(members(cutouts, flag_units=True, **known))
        assert not images.calibrated and (images.flags & bit).all()
        assert not (joined(members(cutouts, **known)).flags & bit).any()
    for unit in ("nJy", "adu", ""):
        images = joined(members(list(data), flag_units=True, unit=unit, **known))
        assert not (images.flags & bit).any()
    colors = np.full((2, 40, 40, 3), 9, np.uint8)
    (images,) = members(colors, r_eff=4 * u.pix, flag_units=True)
    assert not (images.flags & bit).any()


def test_data_without_a_band(data):
    bit, known = int(Flag.BAND_ASSUMED), {"r_eff": 4 * u.pix}
    for cutouts in (data[:, :1], list(data[:, 0]), [NDData(one) for one in data[:, 0]]):
        images = joined(members(cutouts, flag_bands=True, **known))
        assert images.bands == ("r",) and (images.flags & bit).all()
        assert not (joined(members(cutouts, **known)).flags & bit).any()
        images = joined(members(cutouts, flag_bands=True, bands=("g",), **known))
        assert not (images.flags & bit).any()
    named = [NDData(one, meta={"FILTER": "i"}) for one in data[:, 0]]
    assert not (joined(members(named, flag_bands=True, **known)).flags & bit).any()
    stack = CutoutStack(data * u.nJy, bands=BANDS, pixel_scale=1 * u.arcsec)
    assert not (joined(members(stack, flag_bands=True, **known)).flags & bit).any()


def test_fields(data):
    cards = [{"FIELD": "GOODS-S"}, {"TARGNAME": "EGS-V23"}, {"FIELD": 7}, {}]
    cards += [{"FIELD": "", "TARGNAME": "cosmos"}, {"TARGNAME": "ANY"}]
    expected = ["GOODS-S", "EGS", None, None, "COSMOS", None]
    images = joined(
        [with_header(*pair) for pair in zip(data[:, 1], cards, strict=True)]
    )
    assert images.fields == expected
    assert images[[4, 0]].fields == ["COSMOS", "GOODS-S"]
    assert images[1:3].fields == ["EGS", None]
    (images,) = members(data, bands=BANDS, r_eff=4 * u.pix)
    assert images.fields == [None] * 6
    stack = CutoutStack(
        data * u.nJy,
        bands=BANDS,
        pixel_scale=1 * u.arcsec,
        meta={"FIELD": "XMM-UDS"},
    )
    for cutouts in (stack, list(stack)):
        images = joined(members(cutouts, r_eff=4 * u.pix))
        assert images.fields == ["UDS"] * 6


def test_fields_of_blocks(make_images, data):
    images = make_images(data, np.full(6, 4.0))
    assert images.fields == [None] * 6 and images[:2].fields == [None] * 2


def test_images_without_a_source_are_flagged():
    noise = np.random.default_rng(6).normal(10, 1, (40, 3, 48, 52))
    y, x = np.indices((48, 52)) - np.array([23.5, 25.5])[:, None, None]
    light = 3 * np.exp(-np.hypot(x, y) / 4)
    aside = np.roll(light, 15, axis=1)
    bit = int(Flag.NO_SOURCE_AT_CENTER)
    for image, empty in ((0 * light, True), (light, False), (aside, True)):
        (images,) = members((noise + image) * u.nJy, bands=BANDS, r_eff=4 * u.pix)
        flagged = images.flags & bit != 0
        assert (flagged == empty).mean() > 0.9
    # What is not known is not judged.
    noise[0, :, 20:28, 20:32] = np.nan
    (images,) = members(noise[:1] * u.nJy, bands=BANDS, r_eff=4 * u.pix)
    assert not images.flags[0] & bit


@pytest.mark.parametrize("name", ["spin", "latents", "merger", "contamination"])
def test_stars_are_point_sources(name):
    """A star with spikes, and a galaxy behind the same PSF, measured or given."""
    y, x = np.indices((65, 65)) - 32.0
    spikes = np.exp(-np.abs(x) / 8 - y**2) + np.exp(-np.abs(y) / 8 - x**2)
    star = np.exp(-4 * np.log(2) * (x**2 + y**2) / 6.0**2) + 0.02 * spikes
    galaxy = gaussian_filter(np.exp(-1.678 * np.hypot(x, y / 0.6) / 6), 6 / 2.355)
    noise = np.random.default_rng(0).normal(size=(2, 65, 65))
    images = [1000 * one / one.max() for one in (star, galaxy)] + noise
    options = {"bands": ["r"], "psf_fwhm": 6 * u.pix}
    bit = int(Flag.POINT_SOURCE)
    operation = getattr(galml, name)
    sizes = [{}, {"r_eff": [2, 6] * u.pix}] if name in ("spin", "latents") else [{}]
    for size in sizes:
        table = operation(list(images * u.nJy), **size, **options)
        assert (table["flags"] & bit).tolist() == [bit, 0]
    del options["psf_fwhm"]
    assert not (operation(list(images * u.nJy), **options)["flags"] & bit).any()


@pytest.mark.parametrize("flags", ["", "abc", 1e300, 2**40, -1, True, None])
def test_flags_of_others_are_not_ours(flags):
    y, x = np.indices((48, 48)) - 24.0
    values = 100 * np.exp(-np.hypot(x, y) / 4)
    meta = {"FLAGS": flags}
    (image,) = members([CCDData(values, unit="nJy", meta=meta)], r_eff=4 * u.pix)
    assert image.flags[0] == int(Flag.NO_UNCERTAINTY)
    meta["FLAGS"] = int(Flag.MASKED)
    (image,) = members([CCDData(values, unit="nJy", meta=meta)], r_eff=4 * u.pix)
    assert image.flags[0] & Flag.MASKED


@pytest.mark.parametrize("cards", [{"ABMAGZP": 1e20}, {"ABMAGZP": -1e20}])
def test_zero_points_out_of_range_are_none(cards):
    unit = unit_of(cards, u.adu, 1)
    assert unit == u.adu and unit_of({"ABMAGZP": 25.0}, u.adu, 1) != u.adu


@pytest.mark.parametrize("name", ["merger", "contamination", "latents", "spin"])
@pytest.mark.parametrize("width", [0, -5])
def test_widths_that_are_none(data, name, width):
    operation = getattr(galml, name)
    images = [one * u.nJy for one in data[:2, :1]]
    options = {"bands": ["r"], "psf_fwhm": [3, width] * u.pix}
    with pytest.raises(InputError, match="psf_fwhm: got .*, expected .* above zero"):
        operation(images[0], **options | {"psf_fwhm": width * u.pix})
    with pytest.warns(GalmlWarning, match=f"psf_fwhm: got {width} pix, expected"):
        table = operation(images, **options | {"psf_fwhm": [[3], [width]] * u.pix})
    assert [decode_flags(row)[0] == "failed" for row in table["flags"]][1]


def test_pictures_of_16_bits(tmp_path):
    pixels = np.full((20, 20), 4000, np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="with I;16 pixels, expected a picture of 8"):
        galml.merger(tmp_path / "deep.png")


def test_files_of_a_table_that_are_masked(data, tmp_path):
    path = tmp_path / "one.fits"
    CCDData(data[0, 1], unit="nJy").write(path)
    files = MaskedColumn([str(path), "x"], mask=[False, True])
    with pytest.warns(GalmlWarning, match="1 of 2 rows"):
        table = galml.merger(Table({"file": files}), seed=1)
    assert len(table) == 2


@pytest.mark.parametrize("value", ["150.1", "abc"])
def test_numbers_of_the_wcs_in_quotes(data, tmp_path, value):
    header = fits.Header({"BUNIT": "nJy", "BAND": "r", "CRVAL1": value, "CRVAL2": 2.0})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 26.5})
    header.update({"CRPIX2": 24.5, "CDELT1": -1e-4, "CDELT2": 1e-4})
    fits.writeto(tmp_path / "one.fits", data[0, 1], header)
    if value == "abc":
        with pytest.raises(InputError, match="CRVAL1 = 'abc' is no number"):
            galml.merger(tmp_path / "one.fits")
    else:
        assert abs(galml.merger(tmp_path / "one.fits")["ra"][0].value - 150.1) < 1e-6


def test_sizes_of_large_images():
    y, x = np.indices((2300, 2200)) - np.array([1150.0, 1090.0])[:, None, None]
    light = 100 * np.exp(-1.678 * np.hypot(x, y / 0.6) / 150)
    light += np.random.default_rng(0).normal(size=light.shape)
    (images,) = members(light[None, None] * u.nJy, bands=["r"])
    assert images.r_eff[0] == pytest.approx(150, rel=0.02)
    np.testing.assert_allclose(images.center[0], [1090, 1150], atol=1)
