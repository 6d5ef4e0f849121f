# Licensed under a 3-clause BSD style license - see LICENSE.rst
import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from astropy_healpix import HEALPix

from galml.core import Flag, InputError, InputTypeError, InputUnitError
from galml.cutouts import allsky, extract_cutouts
from galml.cutouts.detection import detect

CENTER = SkyCoord(150.0, 2.0, unit="deg")
NSIDE, SIGMA = 128, 2.0
UNIT = u.MJy / u.sr
OPTIONS = {"size": 32, "pixel_scale": 10 * u.arcmin}


def brightness(sky):
    return 100.0 * np.exp(-((sky.separation(CENTER).deg / SIGMA) ** 2) / 2)


@pytest.fixture(scope="module")
def grid():
    return HEALPix(NSIDE, order="nested", frame="galactic")


@pytest.fixture(scope="module")
def values(grid):
    return brightness(grid.healpix_to_skycoord(np.arange(grid.npix)).icrs)


def table_hdu(values, **cards):
    column = fits.Column(name="I", format="1024E", unit="MJy/sr")
    column.array = values.reshape(-1, 1024)
    hdu = fits.BinTableHDU.from_columns([column])
    hdu.header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", COORDSYS="G", NSIDE=NSIDE)
    hdu.header.update(cards)
    return hdu


def test_healpix_maps_are_interpolated_by_reproject(values):
    from reproject.healpix import reproject_from_healpix

    options = {"unit": UNIT, "resampling": "interp", **OPTIONS}
    stack = extract_cutouts({"m": (values, "galactic", True)}, CENTER, **options)
    expected, _ = reproject_from_healpix(
        (values, "galactic"), stack.wcs[0], shape_out=(32, 32), nested=True
    )
    np.testing.assert_allclose(stack.data.value[0, 0], expected, atol=1e-5 * 100)
    assert stack.flags[0] == Flag.NO_UNCERTAINTY
    assert stack.meta["OPERATN"] == "extract_cutouts"


def test_maps_in_all_forms_are_the_same(values, grid, tmp_path):
    ring = HEALPix(NSIDE, order="ring", frame="galactic")
    in_rings = values[grid.order == "ring" or ring.ring_to_nested(np.arange(ring.npix))]
    path = tmp_path / "map.fits"
    fits.HDUList([fits.PrimaryHDU(), table_hdu(values)]).writeto(path)
    expected = extract_cutouts((values * UNIT, grid), CENTER, **OPTIONS)
    for image in (
        (values, "galactic", True),
        (values, "G", True),
        (in_rings * UNIT, ring),
        (in_rings.astype(">f8"), "galactic", False),
        table_hdu(values),
        table_hdu(values, COORDSYS="GALACTIC"),
        fits.HDUList([fits.PrimaryHDU(), table_hdu(values)]),
        path,
        str(path),
    ):
        stack = extract_cutouts({"m": image}, CENTER, unit=UNIT, **OPTIONS)
        np.testing.assert_allclose(
            stack.data.value, expected.data.value, atol=1e-5 * 100
        )
    stack = extract_cutouts(path, CENTER, hdu=(1, "I"), **OPTIONS)
    np.testing.assert_allclose(stack.data.value, expected.data.value, atol=1e-3)


@pytest.mark.parametrize("scale", [20, 60, 200])
def test_coarse_pixels_are_averaged(values, grid, scale):
    stack = extract_cutouts(
        (values * UNIT, grid), CENTER, size=12, pixel_scale=scale * u.arcmin
    )
    fine = 15
    at = (np.arange(12 * fine) + 0.5) / fine - 0.5
    sky = stack.wcs[0].pixel_to_world(*np.meshgrid(at, at))
    expected = brightness(sky).reshape(12, fine, 12, fine).mean(axis=(1, 3))
    # Interpolation between pixels of 27 arcmin smooths by one per cent.
    np.testing.assert_allclose(stack.data.value[0, 0], expected, atol=0.01 * 100)


def test_counts_are_conserved(values, grid):
    counts = 1e6 * values / values.sum()
    stack = extract_cutouts(
        (counts * u.ct, grid), CENTER, size=60, pixel_scale=20 * u.arcmin
    )
    assert stack.data.value.sum() == pytest.approx(1e6, rel=3e-4)


def test_maps_of_a_part_of_the_sky(values, grid):
    whole = extract_cutouts((values * UNIT, grid), CENTER, **OPTIONS)
    pixels = np.flatnonzero(values > 40)
    columns = [
        fits.Column(name="PIXEL", format="J", array=pixels),
        fits.Column(name="I", format="E", unit="MJy/sr", array=values[pixels]),
    ]
    part = fits.BinTableHDU.from_columns(columns)
    part.header.update(ORDERING="NESTED", COORDSYS="G", NSIDE=NSIDE)
    unseen = np.where(values > 40, values, -1.6375e30) * UNIT
    for image in (part, (unseen, grid)):
        stack = extract_cutouts(image, CENTER, **OPTIONS)
        known = ~stack.mask[0, 0]
        assert 0.3 < known.mean() < 0.7
        np.testing.assert_allclose(
            stack.data.value[0, 0][known], whole.data.value[0, 0][known], rtol=1e-5
        )
        assert stack.flags[0] == Flag.MASKED | Flag.NO_UNCERTAINTY


def test_maps_beside_images(values, grid):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150.0, 2.0)
    wcs.wcs.cdelt, wcs.wcs.crpix = (-0.1, 0.1), (100.5, 100.5)
    sky = wcs.pixel_to_world(*np.meshgrid(np.arange(200), np.arange(200)))
    image = CCDData(brightness(sky), unit="MJy / sr", wcs=wcs)
    bands = {"image": image, "map": (values * 1e6, grid)}
    psf = {"map": 90 * u.arcmin}
    stack = extract_cutouts(bands, CENTER, psf=psf, unit="Jy / sr", **OPTIONS)
    first, second = stack.data.value[0]
    np.testing.assert_allclose(second, first, atol=0.015 * 100)
    assert np.isnan(stack.psf_fwhm[0, 0])
    assert stack.psf_fwhm[0, 1].to_value(u.arcmin) == pytest.approx(90, rel=0.01)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": (np.ones(13), "icrs", True)}, InputError, "13 HEALPix values"),
        ({"image": (np.ones(27), "icrs", True)}, InputError, "12 nside²"),
        ({"image": (np.ones(12), "icrs")}, InputError, "without order"),
        ({"image": (np.ones(12), "nowhere", True)}, InputError, "without frame"),
        ({"image": (np.ones(12), HEALPix(1))}, InputError, "without frame"),
        ({"image": (np.ones(9), HEALPix(1))}, InputError, "got 9 values, expected 12"),
        ({"image": (np.ones(12, complex), "icrs", True)}, InputTypeError, "complex"),
        ({"unit": None}, InputUnitError, "without a unit"),
        ({"resampling": "exact"}, InputError, "resampling: got 'exact' with the"),
        ({"resampling": "adaptive"}, InputError, "resampling"),
        ({"orientation": "image"}, InputError, "orientation"),
        ({"catalog": None}, InputError, "catalog: got None"),
        ({"target_psf": 2 * u.arcsec}, InputError, "psf: got none"),
        (
            {"target_psf": 2 * u.arcsec, "psf": 1 * u.arcsec},
            InputError,
            "target_psf: got one, with the HEALPix map",
        ),
        ({"psf": lambda x, y: 1 * u.arcsec}, InputError, "psf: got one that varies"),
    ],
)
def test_what_maps_cannot_do(change, error, message):
    options = {"image": (np.ones(12), "icrs", True), "unit": UNIT, "catalog": CENTER}
    options = OPTIONS | options | change
    images = {"m": options.pop("image")}
    with pytest.raises(error, match=message):
        extract_cutouts(images, options.pop("catalog"), **options)


@pytest.mark.parametrize(
    ("cards", "error", "message"),
    [
        ({"ORDERING": ""}, InputError, "without order"),
        ({"COORDSYS": "X"}, InputError, "without frame"),
    ],
)
def test_damaged_map_files(values, cards, error, message):
    with pytest.raises(error, match=message):
        extract_cutouts(table_hdu(values, **cards), CENTER, **OPTIONS)


def test_units_that_are_none():
    column = fits.Column(name="I", format="E", unit="nonsense", array=np.ones(12))
    hdu = fits.BinTableHDU.from_columns([column])
    hdu.header.update(ORDERING="RING", COORDSYS="C", NSIDE=1)
    with pytest.raises(InputUnitError, match="nonsense"):
        extract_cutouts(hdu, CENTER, **OPTIONS)


def test_columns_that_are_not_there(values):
    with pytest.raises(InputError, match="hdu: got column 'Q', expected one of I"):
        extract_cutouts(table_hdu(values), CENTER, hdu=(1, "Q"), **OPTIONS)


def test_map_among_tiles(values, grid):
    with pytest.raises(InputError, match="a HEALPix map among images"):
        extract_cutouts({"m": [(values * UNIT, grid)] * 2}, CENTER, **OPTIONS)


# Places where HPX facets meet, or do not.
PLACES = {
    "inside": (150.0, 2.0),
    "torn": (90.0, 60.0),
    "corner": (90.0, 41.8),
    "south": (180.0, -70.0),
}


@pytest.fixture(scope="module", params=PLACES)
def hips(request, tmp_path_factory):
    """Write a HiPS of one image."""
    from reproject import reproject_interp
    from reproject.hips import reproject_to_hips

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), PLACES[request.param]
    wcs.wcs.cdelt, wcs.wcs.crpix = (-2e-3, 2e-3), (100.5, 100.5)
    y, x = np.mgrid[:200, :200]
    values = 100 * np.exp(-((x - 95) ** 2 + (y - 105) ** 2) / 2 / 20**2)
    folder = tmp_path_factory.mktemp("hips") / "survey"
    reproject_to_hips(
        (values, wcs),
        coord_system_out="equatorial",
        reproject_function=reproject_interp,
        output_directory=folder,
        tile_size=128,
    )
    return request.param, folder, CCDData(values, unit=UNIT, wcs=wcs)


@pytest.mark.parametrize("scale", [4, 10, 16])
def test_hips_is_the_image_that_it_was_made_of(hips, scale):
    place, folder, image = hips
    sky = image.wcs.pixel_to_world([95, 80], [105, 90])
    options = {"size": 30, "pixel_scale": scale * u.arcsec, "unit": UNIT}
    stack = extract_cutouts({"h": folder}, sky, **options)
    expected = extract_cutouts({"h": image}, sky, **options)
    difference = (stack.data - expected.data).value
    # It was interpolated once more, and smoothed by a pixel of 6 arcsec.
    assert np.nanmax(np.abs(difference)) < 0.007 * 100
    lost = stack.mask & ~expected.mask
    if place == "inside":
        assert not lost.any()
    # A line of pixels across which the projection is torn.
    assert lost.sum(axis=(2, 3)).max() <= 32
    truncated = (stack.flags & Flag.TRUNCATED) > 0
    if scale < 16:
        assert not truncated.any()


def test_hips_reads_only_tiles_of_windows(hips, monkeypatch):
    _, folder, image = hips
    read, getdata = [], fits.getdata

    def noted(path):
        read.append(path.name)
        return getdata(path)

    monkeypatch.setattr(allsky.fits, "getdata", noted)
    sky = image.wcs.pixel_to_world([95] * 3, [105] * 3)
    extract_cutouts(folder, sky, size=8, unit=UNIT)
    assert 1 <= len(read) <= 4


def test_hips_units_come_from_its_tiles(hips, tmp_path):
    _, folder, image = hips
    sky = image.wcs.pixel_to_world([95], [105])
    with pytest.raises(InputUnitError, match="without a unit"):
        extract_cutouts(folder, sky, size=8)
    shutil.copytree(folder, tmp_path / "copy")
    for tile in (tmp_path / "copy").glob("Norder*/*/*.fits"):
        fits.setval(tile, "BUNIT", value="MJy/sr")
    assert extract_cutouts(tmp_path / "copy", sky, size=8).unit == UNIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("= fits", "= png jpeg"), "hips_tile_format png jpeg, expected fits"),
        (("equatorial", "ecliptic"), "hips_frame ecliptic"),
        (("= image", "= catalog"), "dataproduct_type catalog"),
        (("hips_tile_width", "tile_width"), "cannot be read"),
    ],
)
def test_hips_that_cannot_be_read(hips, tmp_path, change, message):
    _, folder, _ = hips
    properties = (folder / "properties").read_text().replace(*change)
    (tmp_path / "properties").write_text(properties)
    with pytest.raises(InputError, match=message):
        extract_cutouts(tmp_path, CENTER, size=8, unit=UNIT)


def test_nothing_is_detected_on_hips(hips):
    folder = hips[1]
    with pytest.raises(InputError, match="catalog: got None"):
        extract_cutouts(folder, size=8, unit=UNIT)
    with pytest.raises(InputError, match="image: got a HiPS"):
        detect(folder, unit=UNIT)


@pytest.mark.parametrize("scale", [300, 900])
def test_maps_that_wrap_around_the_sky(scale):
    sky = SkyCoord([0.0, 150.0], [10.0, 2.0], unit="deg")
    stacks = []
    for start in (0.0, 180.0):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ("RA---CAR", "DEC--CAR"), (start, 0.0)
        wcs.wcs.cdelt, wcs.wcs.crpix = (-0.25, 0.25), (720.5, 360.5)
        x, y = np.meshgrid(np.arange(1440), np.arange(720))
        with np.errstate(invalid="ignore"):
            at = wcs.pixel_to_world(x, y)
        values = sum(np.exp(-(at.separation(one).deg ** 2) / 2) for one in sky)
        image = CCDData(100 * values, unit=UNIT, wcs=wcs)
        stacks.append(
            extract_cutouts(image, sky, size=32, pixel_scale=scale * u.arcsec)
        )
    smooth, torn = stacks
    assert not smooth.mask.any() and not smooth.flags.any() & Flag.TRUNCATED
    np.testing.assert_allclose(
        torn.data.value[1], smooth.data.value[1], atol=0.02 * 100
    )
    assert torn.mask[0].sum() <= 32 and not torn.mask[1].any()
    difference = np.abs(torn.data - smooth.data).value[0]
    assert np.nanmax(difference) < 0.002 * 100


def test_pole_of_a_map_in_rectangles():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---CAR", "DEC--CAR"), (180.0, 0.0)
    wcs.wcs.cdelt, wcs.wcs.crpix = (-0.5, 0.5), (360.5, 180.5)
    x, y = np.meshgrid(np.arange(720), np.arange(360))
    center = SkyCoord(20.0, 89.5, unit="deg")

    def profile(sky):
        return 100 * np.exp(-((sky.separation(center).deg / 3) ** 2) / 2)

    image = CCDData(profile(wcs.pixel_to_world(x, y)), unit=UNIT, wcs=wcs)
    stack = extract_cutouts(image, center, size=31, pixel_scale=900 * u.arcsec)
    at = np.meshgrid(np.arange(31), np.arange(31))
    expected = profile(stack.wcs[0].pixel_to_world(*at))
    difference = np.abs(stack.data.value[0, 0] - expected)
    assert np.nanmax(difference) < 0.005 * 100
    # Pixels around the pole, and a line to it.
    assert stack.mask.sum() < 100 and not stack.flags[0] & Flag.TRUNCATED
