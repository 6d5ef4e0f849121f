# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS

from galml.core import Flag, GalmlWarning, InputError
from galml.cutouts import extract_cutouts, images, iter_cutouts

SIDE = 200
PEAK, SIGMA = 100.0, 6.0
SIZE = {"size": 24 * u.arcsec, "pixel_scale": 0.6 * u.arcsec}


def make_wcs(angle=0.3, scale=0.4, center=(150.0, 2.0), shape=(SIDE, SIDE)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), center
    wcs.wcs.crpix = [(n + 1) / 2 for n in shape[::-1]]
    c, s = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
    return wcs


def make_image(wcs, shape=(SIDE, SIDE), noise=0.0, std=1.0, seed=0, unit="MJy / sr"):
    """A Gaussian galaxy in the middle of the field, and noise."""
    x, y = np.meshgrid(*(np.arange(n) for n in shape[::-1]))
    distance = wcs.pixel_to_world(x, y).separation(SkyCoord(150, 2, unit="deg"))
    values = PEAK * np.exp(-((distance.arcsec / SIGMA / 0.4) ** 2) / 2)
    values += np.random.default_rng(seed).normal(0, noise, shape) if noise else 0.0
    std = StdDevUncertainty(np.broadcast_to(std, shape).astype(float))
    return CCDData(values, unit=unit, wcs=wcs, uncertainty=std)


@pytest.fixture(scope="module")
def whole():
    return make_image(make_wcs())


@pytest.fixture
def center(whole):
    return SkyCoord([150], [2], unit="deg")


def split(image, *parts):
    return [image[:, slice(*part)] for part in parts]


@pytest.mark.parametrize("resampling", ["exact", "interp", "adaptive"])
def test_galaxy_on_a_seam_is_that_of_one_image(whole, center, resampling):
    options = SIZE | {"resampling": resampling}
    expected = extract_cutouts(whole, center, **options)
    tiles = split(whole, (0, 120), (80, SIDE))
    found = extract_cutouts({"r": tiles}, center, **options)
    difference = np.abs(found.data - expected.data).value[0, 0] / PEAK
    # Output pixels that an edge cuts are made of parts of their light.
    assert difference.max() < 0.015
    assert np.median(difference) < 1e-6
    if resampling != "adaptive":
        assert (difference > 1e-5).mean() < 0.08
    assert found.flags[0] == expected.flags[0] == 0


@pytest.mark.parametrize("unit", ["MJy / sr", "nJy"])
def test_tiles_side_by_side_are_the_whole(center, unit):
    image = make_image(make_wcs(), noise=1.0, unit=unit)
    expected = extract_cutouts(image, center, **SIZE)
    tiles = split(image, (0, 100), (100, SIDE))
    found = extract_cutouts(tiles, center, **SIZE)
    peak = expected.data.value.max()
    np.testing.assert_allclose(found.data.value, expected.data.value, atol=1e-5 * peak)
    np.testing.assert_allclose(found.uncertainty, expected.uncertainty, rtol=1e-4)
    assert found.flags[0] == 0 and not found.mask.any()


@pytest.mark.parametrize("resampling", ["exact", "interp"])
def test_coadds_are_those_of_reproject(center, resampling):
    import reproject
    from reproject.mosaicking import reproject_and_coadd

    std = np.random.default_rng(5).uniform(0.5, 2.0, (3, SIDE, SIDE))
    centers = (150.008, 2.0), (149.992, 2.004), (150.0, 1.992)
    tiles = [
        make_image(make_wcs(0.4 * k, 0.4 - 0.03 * k, at), noise=1.0, std=std[k], seed=k)
        for k, at in enumerate(centers)
    ]
    scale = {"exact": 0.6, "interp": 0.3}[resampling]
    found = extract_cutouts(
        tiles,
        center,
        size=30 * u.arcsec,
        pixel_scale=scale * u.arcsec,
        resampling=resampling,
        coadd="all",
    )
    expected, _ = reproject_and_coadd(
        [(tile.data, tile.wcs) for tile in tiles],
        found.wcs[0],
        found.data.shape[2:],
        input_weights=[tile.uncertainty.array**-2 for tile in tiles],
        reproject_function=getattr(reproject, f"reproject_{resampling}"),
    )
    np.testing.assert_allclose(
        found.data.value[0, 0], expected, atol=1e-5 * PEAK, rtol=0
    )


def test_exposures_with_less_noise_count_more(center):
    levels, std = np.array([10.0, 20.0]), np.array([1.0, 3.0])
    tiles = [
        CCDData(
            np.full((SIDE, SIDE), level),
            unit="nJy / arcsec2",
            wcs=make_wcs(0.5 * k),
            uncertainty=StdDevUncertainty(np.full((SIDE, SIDE), s)),
        )
        for k, (level, s) in enumerate(zip(levels, std, strict=True))
    ]
    stack = extract_cutouts(tiles, center, coadd="all", **SIZE)
    weight = std**-2
    expected = (weight * levels).sum() / weight.sum()
    np.testing.assert_allclose(stack.data.value, expected, rtol=1e-6)
    alone = [extract_cutouts(tile, center, **SIZE).uncertainty for tile in tiles]
    variance = sum(w**2 * a**2 for w, a in zip(weight, alone, strict=True))
    np.testing.assert_allclose(
        stack.uncertainty, np.sqrt(variance) / weight.sum(), rtol=1e-5
    )
    # By default, an image that holds the galaxy is enough.
    one = extract_cutouts(tiles, center, **SIZE)
    np.testing.assert_allclose(one.data.value, 10.0, rtol=1e-6)
    for tile in tiles:
        tile.uncertainty = None
    stack = extract_cutouts(tiles, center, coadd="all", **SIZE)
    np.testing.assert_allclose(stack.data.value, 15.0, rtol=1e-5)
    assert stack.flags[0] == Flag.NO_UNCERTAINTY and stack.uncertainty is None


@pytest.mark.parametrize("scale", [0.3, 0.6])
def test_uncertainty_of_coadds_is_that_of_the_noise(center, scale):
    rng = np.random.default_rng(4)
    tiles = []
    for k in range(3):
        tile = make_image(make_wcs(0.7 * k), std=1.0 + k)
        tile.data = rng.normal(0, 1.0 + k, tile.data.shape)
        tiles.append(tile)
    stack = extract_cutouts(
        tiles,
        center,
        coadd="all",
        size=50 * u.arcsec,
        pixel_scale=scale * u.arcsec,
        psf=1.0 * u.arcsec,
        target_psf=1.4 * u.arcsec,
    )
    pulls = stack.data.value / stack.uncertainty
    assert pulls.std() == pytest.approx(1.0, abs=0.06)


def test_tiny_units_do_not_underflow(center):
    unit = u.Unit("1e-3 erg / (s cm2 Hz)")
    tiles = split(make_image(make_wcs(), noise=1.0), (0, 120), (80, SIDE))
    small = []
    for tile in tiles:
        std = StdDevUncertainty(tile.uncertainty.array * 1e-30)
        small.append(CCDData(tile.data * 1e-30, unit=unit, wcs=tile.wcs))
        small[-1].uncertainty = std
    first = extract_cutouts(tiles, center, per_pixel=True, **SIZE)
    second = extract_cutouts(small, center, **SIZE)
    np.testing.assert_allclose(
        second.uncertainty * np.float32(1e30), first.uncertainty, rtol=1e-5
    )


@pytest.mark.parametrize("seam", [False, True])
def test_matched_backgrounds(center, seam):
    smooth = make_image(make_wcs())
    tiles = split(smooth, (0, 120), (80, SIDE))
    tiles[1].data = tiles[1].data + 7.0
    expected = extract_cutouts(smooth, center, **SIZE).data.value
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    options = SIZE | {"coadd": "seams" if seam else "all"}
    found = extract_cutouts(tiles, center, match_background=True, **options)
    # The corrections have zero mean: half of the difference is left everywhere.
    np.testing.assert_allclose(
        found.data.value - expected, 3.5, atol=0.015 * PEAK, rtol=0
    )
    assert np.median(found.data.value - expected) == pytest.approx(3.5, abs=1e-4)
    plain = extract_cutouts(tiles, center, **options).data.value - expected
    assert plain.min() == pytest.approx(0.0, abs=1e-4)
    assert plain.max() == pytest.approx(7.0, abs=1e-4)
    after = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(after, before)


def test_backgrounds_without_overlap_stay(center):
    tiles = split(make_image(make_wcs()), (0, 95), (105, SIDE))
    plain = extract_cutouts(tiles, center, **SIZE)
    found = extract_cutouts(tiles, center, match_background=True, **SIZE)
    np.testing.assert_array_equal(found.data, plain.data)
    assert found.flags[0] == Flag.TRUNCATED | Flag.MASKED


def test_flags_tell_what_no_tile_covers(whole):
    x = np.array([100, 100, 10, 160])
    y = np.array([100, 190, 100, 60])
    tiles = split(whole, (0, 120), (80, SIDE))
    stack = extract_cutouts(tiles, whole.wcs.pixel_to_world(x, y), **SIZE)
    expected = extract_cutouts(whole, whole.wcs.pixel_to_world(x, y), **SIZE)
    np.testing.assert_array_equal(stack.flags, expected.flags)
    truncated = (stack.flags & Flag.TRUNCATED) > 0
    assert truncated.tolist() == [False, True, True, False]
    # Rows and columns of the mask that an edge leaves half empty may differ.
    assert (stack.mask != expected.mask).mean() < 0.01


def test_masked_pixels_are_taken_from_the_other_tile(whole, center):
    holes = [tile.copy() for tile in (whole, whole)]
    for tile, part in zip(holes, (np.s_[:, :100], np.s_[90:95, 100:]), strict=True):
        tile.mask = np.zeros(tile.shape, bool)
        tile.mask[part] = True
    expected = extract_cutouts(whole, center, **SIZE)
    # The frame of the first holds the galaxy, but half of it is blank.
    stack = extract_cutouts(holes, center, **SIZE)
    assert not stack.mask.any() and stack.flags[0] == 0
    difference = np.abs(stack.data - expected.data).value / PEAK
    assert difference.max() < 0.02 and np.median(difference) < 1e-6
    alone = extract_cutouts(holes[0], center, **SIZE)
    assert 0.4 < alone.mask.mean() < 0.6


def test_chunks_change_nothing(whole):
    x, y = np.random.default_rng(3).uniform(40, 160, (2, 12))
    sky = whole.wcs.pixel_to_world(x, y)
    tiles = [*split(whole, (0, 120), (80, SIDE)), whole[50:150]]
    stack = extract_cutouts(tiles, sky, **SIZE)
    parts = extract_cutouts(tiles, sky, chunk=1, **SIZE)
    np.testing.assert_allclose(
        parts.data.value, stack.data.value, atol=1e-5 * PEAK, equal_nan=True
    )
    np.testing.assert_allclose(parts.uncertainty, stack.uncertainty, rtol=1e-5)
    np.testing.assert_array_equal(parts.flags, stack.flags)


def test_bands_with_tiles_of_their_own(whole, center):
    g = split(whole, (0, 120), (80, SIDE))
    r = [whole[:90], whole[70:130], whole[120:]]
    other = make_image(make_wcs(1.0, 0.5))
    stack = extract_cutouts({"g": g, "r": r, "i": other}, center, **SIZE)
    for band, tiles in (("g", g), ("r", r), ("i", [other])):
        alone = extract_cutouts({band: tiles}, center, **SIZE)
        np.testing.assert_allclose(
            stack.band(band).data.value, alone.data.value, atol=1e-5 * PEAK
        )
        np.testing.assert_allclose(
            stack.band(band).uncertainty, alone.uncertainty, rtol=1e-5
        )


@pytest.fixture
def survey(tmp_path):
    """Fifty files beside each other, each with one galaxy in the middle."""
    paths, places = [], []
    for k in range(50):
        row, column = divmod(k, 10)
        at = 150 + 0.006 * column, 2 + 0.006 * row
        wcs = make_wcs(0.0, center=at, shape=(70, 70))
        tile = CCDData(np.full((70, 70), float(k)), unit="MJy / sr", wcs=wcs)
        tile.uncertainty = StdDevUncertainty(np.ones((70, 70)))
        paths.append(tmp_path / f"tile{k}.fits")
        tile.write(paths[-1])
        places.append(at)
    return paths, SkyCoord(places, unit="deg")


@pytest.fixture
def reads(monkeypatch):
    """Names of the files of which pixels are read."""
    names, read = [], images._FilePixels.__getitem__

    def noted(self, key):
        names.append(self._path.rpartition("tile")[2])
        return read(self, key)

    monkeypatch.setattr(images._FilePixels, "__getitem__", noted)
    return names


def test_of_many_files_only_those_are_read_that_galaxies_touch(survey, reads):
    paths, places = survey
    options = {"size": 8 * u.arcsec, "pixel_scale": 0.4 * u.arcsec}
    stack = extract_cutouts({"r": paths}, places[[3, 27]], **options)
    assert set(reads) == {"3.fits", "27.fits"}
    np.testing.assert_allclose(stack.data.value[:, 0, 10, 10], [3, 27], rtol=1e-6)
    reads.clear()
    between = SkyCoord(150.003, 2.0, unit="deg")
    stack = extract_cutouts({"r": paths}, between, **options)
    assert set(reads) == {"0.fits", "1.fits"}
    assert stack.flags[0] == 0 and not stack.mask.any()


def test_few_files_are_open_at_once(survey, monkeypatch):
    paths, places = survey
    most, files = [], []

    class Counted(images.OpenFiles):
        def open(self, path):
            hdus = super().open(path)
            most.append(len(self._open))
            files.append(self)
            return hdus

    monkeypatch.setattr("galml.cutouts.extract.OpenFiles", Counted)
    stack = extract_cutouts({"r": paths}, places, size=8 * u.arcsec)
    assert max(most) == 16 and not files[0]._open
    np.testing.assert_allclose(
        stack.data.value.mean(axis=(1, 2, 3)), np.arange(50), rtol=1e-6
    )


def test_files_that_fail_cost_only_their_galaxies(survey, monkeypatch):
    paths, places = survey
    read = images._FilePixels.__getitem__

    def broken(self, key):
        if self._path.endswith("tile3.fits"):
            raise OSError("a broken disk")
        return read(self, key)

    monkeypatch.setattr(images._FilePixels, "__getitem__", broken)
    with pytest.warns(GalmlWarning, match="unreadable 1"):
        stack = extract_cutouts({"r": paths}, places[2:5], size=8 * u.arcsec)
    assert np.isnan(stack.data.value[1]).all()
    failed = Flag.FAILED | Flag.UNREADABLE
    assert [bool(f & failed) for f in stack.flags] == [False, True, False]


def test_lists_belong_to_the_bands_that_they_name(whole, center):
    left, right = split(whole, (0, 120), (80, SIDE))
    stack = extract_cutouts([left, right], center, **SIZE)
    assert stack.bands == ("image",)
    named = [left.copy(), whole.copy(), right.copy()]
    for image, band in zip(named, "gig", strict=True):
        image.meta["FILTER"] = band
    stack = extract_cutouts(named, center, **SIZE)
    assert stack.bands == ("g", "i")
    alone = extract_cutouts({"g": [left, right]}, center, **SIZE)
    np.testing.assert_allclose(
        stack.data.value[:, 0], alone.data.value[:, 0], atol=1e-5 * PEAK
    )
    with pytest.raises(InputError, match="images: got 1 of 4 without BAND or FILTER"):
        extract_cutouts([*named, whole], center, **SIZE)


def test_each_tile_has_its_psf(center):
    grid = np.mgrid[:SIDE, :SIDE] - 99.5
    tiles = []
    for k, fwhm in enumerate((1.2, 1.6)):
        wcs = make_wcs(0.5 * k)
        sigma = fwhm / 0.4 / np.sqrt(8 * np.log(2))
        star = np.exp(-(grid**2).sum(axis=0) / 2 / sigma**2)
        tiles.append(CCDData(1e3 * star / star.sum(), unit="nJy", wcs=wcs))
    options = {"size": 41, "coadd": "all", "target_psf": 2.0 * u.arcsec}
    psf = [1.2 * u.arcsec, 1.6 * u.arcsec]
    stack = extract_cutouts({"r": tiles}, center, psf={"r": psf}, **options)
    image = stack.data.value[0, 0]
    x = np.arange(41) - 20
    width = np.sqrt((image * x**2).sum() / image.sum() * 8 * np.log(2)) * 0.4
    # Overlaps of turned pixels add the variance of both squares.
    expected = np.hypot(2.0, 0.4 * np.sqrt(2 * 8 * np.log(2) / 12))
    assert width == pytest.approx(expected, rel=0.01)
    assert stack.psf_fwhm[0, 0].value == pytest.approx(2.0, rel=0.01)
    with pytest.raises(InputError, match="psf: got 1 for 2 images of 'r'"):
        extract_cutouts({"r": tiles}, center, psf={"r": psf[:1]}, **options)
    # A PSF that is too broad somewhere leaves the other images.
    psf = [1.2 * u.arcsec, lambda x, y: (1.6 if x == y else 3.0) * u.arcsec]
    some = center.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    stack = extract_cutouts({"r": tiles}, some, psf={"r": psf}, **options)
    alone = extract_cutouts(tiles[0], some, psf=psf[0], **options)
    np.testing.assert_allclose(
        stack.data.value, alone.data.value, atol=1e-5 * image.max()
    )
    assert not stack.flags[0] & Flag.FAILED
    options["coadd"] = "seams"
    stack = extract_cutouts({"r": tiles[::-1]}, some, psf={"r": psf[::-1]}, **options)
    np.testing.assert_allclose(
        stack.data.value, alone.data.value, atol=1e-5 * image.max()
    )
    assert not stack.flags[0] & Flag.FAILED


def test_galaxies_of_overlaps_are_detected_once():
    wcs = make_wcs()
    rng = np.random.default_rng(1)
    image = make_image(wcs, std=0.5)
    image.data = image.data + rng.normal(0, 0.5, image.shape)
    y, x = np.mgrid[:SIDE, :SIDE]
    for at in ((30, 40), (160, 150)):
        image.data += 80 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / 4**2)
    tiles = split(image, (0, 130), (70, SIDE))
    stack = extract_cutouts(tiles, size=10 * u.arcsec)
    assert len(stack) == 3 and (stack.flags & Flag.SIZE_MEASURED).all()
    found = np.sort(np.stack(wcs.world_to_pixel(stack.catalog["sky"])))
    np.testing.assert_allclose(found[0], [30, 99.5, 160], atol=0.3)
    assert "x" not in stack.catalog.colnames


def test_tiles_stream(whole):
    x, y = np.full((2, 5), 100.0)
    tiles = split(whole, (0, 120), (80, SIDE))
    table = QTable({"sky": whole.wcs.pixel_to_world(x, y)})
    sizes = [len(part) for part in iter_cutouts(tiles, table, chunk=2, **SIZE)]
    assert sizes == [2, 2, 1]
