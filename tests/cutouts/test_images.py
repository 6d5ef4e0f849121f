# Licensed under a 3-clause BSD style license - see LICENSE.rst
import bz2

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from galml.core import InputError, InputTypeError, InputUnitError
from galml.cutouts.images import OpenFiles, is_per_pixel, open_images


@pytest.fixture
def wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [20.0, 15.0]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    return wcs


@pytest.fixture
def ccd(wcs):
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, (30, 40)).astype(">f4")
    mask = rng.random((30, 40)) < 0.05
    std = StdDevUncertainty(rng.uniform(1, 2, (30, 40)))
    return CCDData(values, unit="nJy", wcs=wcs, mask=mask, uncertainty=std)


def read(images, x=-3, y=25, shape=(10, 12), uncertainty=True, **options):
    with OpenFiles() as files:
        image = open_images(images, files, **options)[-1].tiles[-1]
        values, good = np.zeros(shape), np.zeros(shape, bool)
        variance = np.zeros(shape) if uncertainty else None
        nonfinite, peak = image.read(x, y, values, variance, good)
    return values, variance, good, nonfinite, peak


def test_windows_reach_beyond_the_image(ccd):
    values, variance, good, nonfinite, peak = read(ccd)
    inside = np.zeros((10, 12), bool)
    inside[:5, 3:] = ~ccd.mask[25:30, :9]
    np.testing.assert_array_equal(good, inside)
    np.testing.assert_array_equal(
        values[:5, 3:], np.where(ccd.mask, 0, ccd.data)[25:, :9]
    )
    std = ccd.uncertainty.array[25:, :9]
    np.testing.assert_allclose(variance[good], std[inside[:5, 3:]] ** 2, rtol=1e-12)
    assert not nonfinite
    assert peak == values[good].max()


@pytest.mark.parametrize("x", [-100, 100])
def test_windows_outside_are_empty(ccd, x):
    values, _, good, *_ = read(ccd, x=x)
    assert not values.any()
    assert not good.any()


@pytest.mark.parametrize(
    "kind", ["path", "str", "hdulist", "hdu", "compressed", "scaled"]
)
def test_files_are_as_memory(ccd, tmp_path, kind):
    path = tmp_path / "image.fits"
    ccd.data = np.round(ccd.data * 100).astype("i2" if kind != "path" else "f4")
    hdus = ccd.to_hdu()
    if kind == "compressed":
        image = fits.CompImageHDU(hdus[0].data, hdus[0].header, name="SCI")
        image.header.update(ERRDATA="UNCERT", QUALDATA="MASK")
        hdus = fits.HDUList([fits.PrimaryHDU(), image, *hdus[1:]])
    if kind == "scaled":
        hdus[0].data = ccd.data.astype("u2")
    hdus.writeto(path)
    source = {"path": path, "hdulist": hdus, "hdu": hdus[0]}.get(kind, str(path))
    uncertainty = kind != "hdu"
    if kind == "hdu":
        ccd.mask = None
    expected = read(ccd, uncertainty=uncertainty)
    for found, wanted in zip(
        read(source, uncertainty=uncertainty), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_window_is_one_read(ccd, tmp_path, monkeypatch):
    fits.writeto(tmp_path / "image.fits", ccd.data, ccd.wcs.to_header())
    reads, plain = [], fits.Section.__getitem__
    monkeypatch.setattr(
        fits.Section, "__getitem__", lambda *args: reads.append(1) or plain(*args)
    )
    values, *_ = read(
        tmp_path / "image.fits", 5, 5, (20, 10), uncertainty=False, unit="nJy"
    )
    np.testing.assert_array_equal(values, ccd.data[5:25, 5:15])
    assert len(reads) == 1


def test_what_is_compressed_as_a_whole_is_unpacked_once(ccd, tmp_path, monkeypatch):
    """Frames of SDSS: to go back in a stream is to begin it again."""
    path, rewinds, seek = tmp_path / "image.fits.bz2", [], bz2.BZ2File.seek
    hdus = ccd.to_hdu()
    hdus.writeto(path)

    def watched(file, offset, whence=0):
        rewinds.append(offset < file.tell())
        return seek(file, offset, whence)

    with OpenFiles() as files:
        image = open_images(path, files)[0].tiles[0]
        monkeypatch.setattr(bz2.BZ2File, "seek", watched)
        for y in (25, 3, 10):
            values, variance = np.zeros((2, 4, 12))
            image.read(3, y, values, variance, np.zeros((4, 12), bool))
            good = ~ccd.mask[y : y + 4, 3:15]
            np.testing.assert_array_equal(
                values, np.where(good, ccd.data[y : y + 4, 3:15], 0)
            )
    # Once for each of data, uncertainty and mask.
    assert sum(rewinds) <= 3


def test_errors_of_space_telescopes(ccd, tmp_path):
    """ERR beside SCI, also where no generalized WCS stands beside them."""
    path = tmp_path / "jw_i2d.fits"
    header = ccd.wcs.to_header()
    header["BUNIT"] = "MJy/sr"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(ccd.data, header, "SCI")]
    hdus.append(fits.ImageHDU(np.full(ccd.shape, 2.0), name="ERR"))
    fits.HDUList(hdus).writeto(path)
    _, variance, good, _, _ = read(path)
    np.testing.assert_array_equal(variance[good], 4.0)


def test_uncertainties_of_all_kinds_are_one(ccd):
    expected = read(ccd)[1]
    for kind in (VarianceUncertainty, InverseVariance):
        ccd.uncertainty = ccd.uncertainty.represent_as(kind)
        np.testing.assert_allclose(read(ccd)[1], expected, rtol=1e-12)


def test_pixels_without_inverse_variance_are_masked(ccd):
    weight = np.ones(ccd.shape)
    weight[27, 2] = 0.0
    ccd.mask, ccd.uncertainty = None, InverseVariance(weight)
    good = read(ccd)[2]
    assert not good[2, 5]
    assert good[:5, 3:].sum() == 5 * 9 - 1


def test_bands_are_brought_to_one_unit(ccd):
    other = ccd.multiply(1.0 * u.one)
    other.wcs, other.unit = ccd.wcs, u.uJy
    values, variance, *_ = read({"g": ccd, "r": other})
    alone, alone_var, *_ = read(other)
    np.testing.assert_allclose(values, 1000 * alone)
    np.testing.assert_allclose(variance, 1e6 * alone_var)


def test_nonfinite_pixels_are_told_unless_masked(ccd):
    ccd.data[27, 2], ccd.mask[27, 2] = np.nan, False
    assert read(ccd)[3]
    ccd.mask[27, 2] = True
    assert not read(ccd)[3]


def test_degenerate_axes_are_dropped(ccd):
    hdu = fits.PrimaryHDU(np.asarray(ccd.data)[None, None], ccd.wcs.to_header())
    hdu.header.update(BUNIT="nJy", CTYPE3="FREQ", CTYPE4="STOKES", CRVAL4=1.0)
    ccd.mask = None
    np.testing.assert_array_equal(
        read(hdu, uncertainty=False)[0], read(ccd, uncertainty=False)[0]
    )


def test_images_name_their_bands(ccd):
    ccd.meta["FILTER"] = "r "
    with OpenFiles() as files:
        names = [band.name for band in open_images([ccd], files)]
    assert names == ["r"]


def test_arrays_with_their_wcs_or_header(ccd):
    ccd.mask = ccd.uncertainty = None
    expected = read(ccd, uncertainty=False)[0]
    header = ccd.wcs.to_header()
    header["BUNIT"] = "nJy"
    values = np.array(ccd.data)
    for pair in ((values, header), (values * u.nJy, ccd.wcs), (values[None], header)):
        np.testing.assert_array_equal(read(pair, uncertainty=False)[0], expected)
        found = read({"g": pair, "r": [pair, pair]}, uncertainty=False)[0]
        np.testing.assert_array_equal(found, expected)
    found = read((values, ccd.wcs), uncertainty=False, unit="uJy")[0]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputUnitError, match="without a unit"):
        read((values, ccd.wcs))


def test_a_few_files_are_open(ccd, tmp_path):
    paths = [str(tmp_path / f"{k}.fits") for k in range(4)]
    for path in paths:
        ccd.write(path)
    with OpenFiles(limit=2) as files:
        first = files.open(paths[0])
        assert files.open(paths[0]) is first
        for path in paths[1:3]:
            files.open(path)
        assert list(files._open) == paths[1:3]
        files.open(paths[1])
        files.open(paths[3])
        assert list(files._open) == [paths[1], paths[3]]
    assert not files._open


def test_psf_of_the_data_unless_given(ccd):
    data = NDData(ccd.data, unit="nJy", wcs=ccd.wcs, psf=np.ones((3, 3)))
    images = {"g": data, "r": data}
    with OpenFiles() as files:
        g, r = open_images(images, files, psf={"r": 1 * u.arcsec})
    assert g.tiles[0].psf.shape == (3, 3)
    assert r.tiles[0].psf == 1 * u.arcsec


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("nJy", True),
        ("adu", True),
        ("electron/s", True),
        ("ct", True),
        ("Jy/pix", True),
        ("erg/(s cm2 Angstrom)", True),
        (u.mgy, True),
        ("MJy/sr", False),
        ("nJy/arcsec2", False),
        ("Jy/beam", False),
        ("K", False),
        ("km/s", False),
        ("", None),
        ("kg", None),
    ],
)
def test_units_tell_flux_from_surface_brightness(unit, expected):
    assert is_per_pixel(u.Unit(unit)) is expected


def changed(ccd, **changes):
    parts = {"unit": ccd.unit, "wcs": ccd.wcs} | changes
    return NDData(parts.pop("data", ccd.data), **parts)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"wcs": None}, InputError, "celestial WCS"),
        ({"unit": None}, InputUnitError, "without a unit"),
        ({"data": np.ones((2, 30, 40))}, InputError, "2-D"),
        ({"data": np.ones((0, 40))}, InputError, "2-D"),
        ({"data": np.ones((30, 40), complex)}, InputTypeError, "complex"),
        ({"mask": np.ones((3, 3), bool)}, InputError, "a mask of shape"),
        (
            {"uncertainty": UnknownUncertainty(np.ones((30, 40)))},
            InputTypeError,
            "UnknownUncertainty",
        ),
    ],
)
def test_bad_images(ccd, change, error, message):
    with pytest.raises(error, match=message):
        read({"g": changed(ccd, **change)})


def test_bad_bands(ccd, wcs):
    with pytest.raises(InputError, match="the band 'g' twice"):
        read({"g": ccd, "g ": ccd})
    for nothing in ({}, [], {"g": []}):
        with pytest.raises(InputError, match="no image"):
            read(nothing)
    with pytest.raises(InputUnitError, match="band 'r'"):
        read({"g": ccd, "r": changed(ccd, unit="adu")})
    with pytest.raises(InputError, match="psf: got bands"):
        read({"g": ccd}, psf={"r": 1 * u.arcsec})
    with pytest.raises(InputTypeError, match="images: got"):
        read({"g": 3})
    with pytest.raises(FileNotFoundError):
        read("not there.fits")


def test_damaged_files(tmp_path):
    path = tmp_path / "bad.fits"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read(path)
