# Licensed under a 3-clause BSD style license - see LICENSE.rst
import bz2
import gzip
import lzma
import os
import tracemalloc
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS

import galml
from galml.core import (
    FileError,
    Flag,
    GalmlWarning,
    InputError,
    InputTypeError,
    InputUnitError,
    files,
)
from galml.core.files import check_size, file_stem, parse_unit, read_fits
from galml.core.inputs import read
from galml.core.table_files import read_table

KMS = u.km / u.s
PACKERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
IMAGE = np.arange(24.0, dtype="f4").reshape(4, 6)


def manga():
    """Write what a MaNGA MAPS file looks like."""
    gas = np.stack([IMAGE, IMAGE + 100, IMAGE + 200])
    mask = np.zeros((4, 6), "i4")
    mask[0, 0] = 1 << 30
    ivar = np.full((4, 6), 0.25, "f4")
    ivar[1, 1] = 0
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header["OBJECT"] = "8485-1901"
    hdus[0].header["EBVGAL"] = 0.02
    for name, data in (("STELLAR_VEL", IMAGE), ("EMLINE_GVEL", gas)):
        planes = (3, 1, 1) if data.ndim == 3 else (1, 1)
        image = fits.ImageHDU(data, name=name)
        image.header["BUNIT"] = "km/s"
        image.header["ERRDATA"] = f"{name}_IVAR"
        image.header["QUALDATA"] = f"{name}_MASK"
        image.header["CTYPE1"], image.header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        image.header["CDELT1"], image.header["CDELT2"] = -1e-4, 1e-4
        if data.ndim == 3:
            image.header.update(
                {"C01": "OII-3727", "C02": "Ha-6564", "C03": "SII-6732"}
            )
        errors = fits.ImageHDU(np.tile(ivar, planes), name=f"{name}_IVAR")
        errors.header["HDUCLAS3"] = "INVMSE"
        errors.header["BUNIT"] = "(km/s)^{-2}"
        hdus += [
            image,
            errors,
            fits.ImageHDU(np.tile(mask, planes), name=f"{name}_MASK"),
        ]
    return hdus


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    ("hdu", "offset"),
    [
        ("STELLAR_VEL", 0),
        (1, 0),
        (None, 0),
        (("EMLINE_GVEL", 1), 100),
        (("EMLINE_GVEL", "Ha-6564"), 100),
        ((4, 2), 200),
    ],
)
def test_partners_of_an_extension(tmp_path, hdu, offset, as_file):
    source = manga()
    if as_file:
        source.writeto(tmp_path / "maps.fits.gz")
        source = tmp_path / "maps.fits.gz"
    got = read(source, hdu=hdu)
    mask = np.zeros((4, 6), bool)
    mask[0, 0] = mask[1, 1] = True
    np.testing.assert_array_equal(got.mask, mask)
    np.testing.assert_array_equal(got.values, np.where(mask, np.nan, IMAGE + offset))
    np.testing.assert_array_equal(got.std, np.where(mask, np.nan, 2.0))
    assert got.unit == KMS
    assert got.name == "8485-1901"
    assert got.meta["EBVGAL"] == 0.02
    assert got.meta["ERRDATA"].endswith("_IVAR")
    assert got.wcs.naxis == 2
    assert got.flags == 0


@pytest.mark.parametrize(
    ("kind", "value"), [("RMSE", 2000.0), ("MSE", 4e6), ("INVMSE", 2.5e-7)]
)
def test_partner_with_a_unit_of_its_own(kind, value):
    hdus = manga()
    errors = hdus["STELLAR_VEL_IVAR"]
    errors.data[:] = value
    errors.header["HDUCLAS3"] = kind
    errors.header["BUNIT"] = {"RMSE": "m/s", "MSE": "m2/s2", "INVMSE": "s2/m2"}[kind]
    std = read(hdus).std
    np.testing.assert_allclose(std[np.isfinite(std)], 2.0, rtol=1e-6)


def test_partner_that_inherited_the_unit_of_its_image():
    hdus = manga()
    hdus["STELLAR_VEL_IVAR"].header["BUNIT"] = "km/s"
    assert np.nanmax(read(hdus).std) == 2.0


def test_partner_of_unknown_kind():
    hdus = manga()
    hdus["STELLAR_VEL_IVAR"].header["HDUCLAS3"] = "INVRMSE"
    with pytest.raises(InputTypeError, match="'STELLAR_VEL_IVAR' of kind 'INVRMSE'"):
        read(hdus)


def test_partner_that_is_not_there():
    hdus = manga()
    alone = fits.HDUList([fits.PrimaryHDU(), hdus["STELLAR_VEL"]])
    assert read(alone).flags & Flag.NO_UNCERTAINTY


@pytest.mark.parametrize(
    ("hdu", "message"),
    [
        ("NOTHING", "hdu: got 'NOTHING', expected one of: 0 PRIMARY, 1 STELLAR_VEL"),
        (99, "hdu: got 99"),
        (
            ("EMLINE_GVEL", 3),
            "channel 3, expected a channel below 3 or one of OII-3727",
        ),
        (("EMLINE_GVEL", "Hb-4862"), "channel 'Hb-4862'"),
        (("STELLAR_VEL", 0), "channel 0"),
        ("EMLINE_GVEL", r"shape \(3, 4, 6\), expected 2-D"),
        (0, "an HDU without data"),
    ],
)
def test_extensions_that_do_not_fit(hdu, message):
    with pytest.raises(InputError, match=message):
        read(manga(), hdu=hdu)


def test_table_extension():
    table = fits.BinTableHDU.from_columns(
        [fits.Column("a", "E", array=[1.0])], name="T"
    )
    hdus = fits.HDUList([fits.PrimaryHDU(), table])
    with pytest.raises(InputError, match="'T', a table"):
        read(hdus, hdu="T")
    with pytest.raises(InputError, match="without such an image"):
        read(hdus)


def test_first_image_that_fits():
    cube = fits.ImageHDU(np.ones((3, 4, 6)), name="CUBE")
    image = fits.ImageHDU(IMAGE[None], name="MAP")
    hdus = fits.HDUList([fits.PrimaryHDU(), cube, image])
    np.testing.assert_array_equal(read(hdus, unit=KMS).values, IMAGE)
    assert read(hdus, unit=KMS, ndim=(2, 3)).values.shape == (3, 4, 6)


@pytest.mark.parametrize(
    "kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance]
)
def test_files_written_by_ccddata(tmp_path, kind):
    mask = IMAGE > 20
    data = CCDData(IMAGE, unit=KMS, mask=mask, uncertainty=kind(IMAGE + 1.0))
    data.write(tmp_path / "galaxy.fits")
    once, again = read(data), read(tmp_path / "galaxy.fits")
    np.testing.assert_array_equal(again.values, once.values)
    np.testing.assert_allclose(again.std, once.std, rtol=1e-6)
    np.testing.assert_array_equal(again.mask, mask)
    assert again.name == "galaxy"


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_paths(tmp_path, suffix, kind):
    path = tmp_path / f"NGC 1.b{suffix}"
    fits.PrimaryHDU(IMAGE).writeto(path)
    before = path.read_bytes()
    got = read(kind(path), unit=KMS)
    np.testing.assert_array_equal(got.values, IMAGE)
    assert got.name == "NGC 1.b"
    # Nothing holds on to the file, and nothing was written.
    got.values[:] = 0
    assert path.read_bytes() == before
    os.remove(path)


@pytest.mark.parametrize("loaded", [False, True])
def test_scaled_integers_of_an_open_file(tmp_path, loaded):
    path = tmp_path / "map.fits"
    hdu = fits.ImageHDU(np.arange(24, dtype="i2").reshape(4, 6))
    hdu.header.update({"BSCALE": 0.5, "BZERO": 10.0, "BLANK": 7})
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    with fits.open(path) as hdus:
        if loaded:
            assert hdus[1].data.shape == (4, 6)
        header = hdus[1].header.tostring()
        got = read(hdus[1], unit=KMS)
        assert hdus[1].header.tostring() == header
    expected = 10 + 0.5 * np.arange(24).reshape(4, 6)
    expected[1, 1] = np.nan
    np.testing.assert_array_equal(got.values, expected)
    assert got.mask.sum() == 1


def test_changes_in_memory_count(tmp_path):
    path = tmp_path / "map.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    with fits.open(path) as hdus:
        hdus[0].data[0, 0] = 99.0
        assert read(hdus, unit=KMS).values[0, 0] == 99.0
        assert read(hdus, unit=KMS).name == "map"


def test_compressed_extension(tmp_path):
    path = tmp_path / "map.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE)]).writeto(path)
    np.testing.assert_allclose(read(path, unit=KMS).values, IMAGE, atol=0.1)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.fits")
    with pytest.raises(FileError, match=r"data: got .* \(Is a directory\)"):
        read(tmp_path)
    with pytest.warns(GalmlWarning, match="unreadable 1"):
        rows = galml.circularity([tmp_path])
    assert rows["flags"] == int(Flag.UNREADABLE | Flag.FAILED)


@pytest.mark.parametrize(
    "name", ["circularity", "lambda_r", "spin", "merger", "contamination", "latents"]
)
def test_folders_are_not_read(tmp_path, name):
    with pytest.raises(FileError, match="Is a directory"):
        getattr(galml, name)(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello", b"SIMPLE  = "])
def test_files_that_are_not_fits(tmp_path, content):
    path = tmp_path / "map.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match="map.fits, which cannot be read"):
        read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_files(tmp_path, packed):
    noise = np.random.default_rng(1).normal(size=(100, 100))
    path = tmp_path / "map.fits"
    fits.PrimaryHDU(noise).writeto(path)
    content = path.read_bytes()
    if packed:
        path = tmp_path / "map.fits.gz"
        content = gzip.compress(content)
    path.write_bytes(content[: len(content) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)
        with pytest.raises(InputError, match="cannot be read"):
            read(path, unit=KMS)


def test_closed_file(tmp_path):
    path = tmp_path / "map.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    with fits.open(path) as hdus:
        hdu = hdus[0]
    with pytest.raises(InputError, match="cannot be read"):
        read(hdu, unit=KMS)


def test_broken_wcs():
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--SIN"})
    with pytest.raises(InputError, match="cannot be read"):
        read(hdu, unit=KMS)


def test_radio_image(tmp_path):
    wcs = WCS(naxis=4)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN", "FREQ", "STOKES"
    wcs.wcs.cdelt = -1e-4, 1e-4, 1e6, 1
    hdu = fits.PrimaryHDU(IMAGE[None, None], wcs.to_header())
    hdu.header["BMAJ"] = 3e-4
    hdu.header["BUNIT"] = "KM/S"
    got = read(hdu)
    np.testing.assert_array_equal(got.values, IMAGE)
    assert (got.unit, got.wcs.naxis, got.meta["BMAJ"]) == (KMS, 2, 3e-4)


# Units


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("km/s", KMS),
        ("km s-1", KMS),
        ("km s**-1", KMS),
        ("KM/S", KMS),
        ("Km/s", KMS),
        ("km/sec", KMS),
        ("kms-1", KMS),
        ("M/S", u.m / u.s),
        ("m/s", u.m / u.s),
        ("Hz", u.Hz),
        ("HZ", u.Hz),
        ("JY/BEAM", u.Jy / u.beam),
        ("DN", u.DN),
        ("ADU", u.adu),
        ("ELECTRONS/S", u.electron / u.s),
        ("counts", u.ct),
        ("CPS", u.ct / u.s),
        (
            "1E-17 erg/s/cm^2/ang/spaxel",
            1e-17 * u.erg / u.s / u.cm**2 / u.AA / u.pix,
        ),
    ],
)
def test_units_of_headers(text, unit):
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BUNIT"] = text
    got = read(hdu).unit
    assert got.is_equivalent(unit)
    assert got.to(unit) == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_bunit_is_no_unit(text):
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BUNIT"] = text
    with pytest.raises(InputUnitError, match="unit="):
        read(hdu)
    assert read(hdu, unit=KMS).unit == KMS


def test_bunit_that_cannot_be_understood():
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BUNIT"] = "parsnips"
    with pytest.raises(InputUnitError, match="'parsnips'.*unit="):
        read(hdu)
    assert read(hdu, unit="km/s").unit == KMS


def test_ambiguous_spellings_are_not_guessed():
    with pytest.raises(InputUnitError, match="MJY"):
        parse_unit("MJY/BEAM", "unit")


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/a/NGC1.fits", "NGC1"),
        ("NGC1.fits.gz", "NGC1"),
        ("NGC1.FIT", "NGC1"),
        ("NGC1.v2.fits.fz", "NGC1.v2"),
        ("a/NGC1.v2.ecsv", "NGC1.v2"),
        ("NGC1", "NGC1"),
        ("NGC1.5", "NGC1.5"),
    ],
)
def test_file_stem(path, stem):
    assert file_stem(path) == stem


def test_observed_alma_maps(shared):
    paths = sorted((shared / "merlin_alma").glob("*.fits.gz"))
    assert len(paths) == 22
    for path in paths:
        got = read(path, unit="km/s")
        with fits.open(path) as hdus:
            np.testing.assert_array_equal(got.values, hdus[1].data)
        assert got.name == path.name.removesuffix(".fits.gz")
        assert got.flags & Flag.NO_WCS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("name", ["map.fits", "table.ecsv", "/dev/zero"])
def test_pipes_and_devices_are_refused(tmp_path, name):
    path = tmp_path / name
    if not path.exists():
        os.mkfifo(path)
    for reads in (read, lambda p: read_table(p, argument="data")):
        with pytest.raises(InputError, match="data: got .*, a pipe or device"):
            reads(path)


@pytest.mark.parametrize("reads", [read, lambda p: read_table(p, argument="data")])
def test_addresses_are_not_asked_for(monkeypatch, reads):
    def fail(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    for address in ("http://example.org/a.fits", "ftp://example.org/a.fits", "s3://a"):
        with pytest.raises(InputError, match="got the address .*conf.remote_files"):
            reads(address)


def test_addresses_are_read_where_that_is_configured(tmp_path, monkeypatch):
    asked = []
    path = tmp_path / "download"
    fits.PrimaryHDU(np.ones((4, 5)), fits.Header({"BUNIT": "km/s"})).writeto(path)

    def download(address, **options):
        asked.append(address)
        return str(path)

    monkeypatch.setattr(files, "download_file", download)
    address = "https://example.org/map.fits"
    with files.conf.set_temp("remote_files", True):
        assert read(address).values.shape == (4, 5)
        assert read(address).name == "map"
        with pytest.raises(InputError, match="the address s3://a"):
            read("s3://a")
    assert asked == [address] * 2
    with pytest.raises(InputError, match="the address"):
        read(address)


def test_size_is_judged_by_the_header(tmp_path):
    """122 bytes that stand for 1e10 pixels."""
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "BUNIT": "km/s"})
    header.insert("NAXIS", ("NAXIS2", 100_000), after=True)
    header.insert("NAXIS", ("NAXIS1", 100_000), after=True)
    path = tmp_path / "bomb.fits.gz"
    with gzip.open(path, "wb") as file:
        file.write(header.tostring().encode())
    assert path.stat().st_size < 200
    with pytest.raises(InputError, match=r"got 40000000\d{3} bytes .* at most"):
        read(path)


def test_no_more_than_the_header_is_unpacked(tmp_path, monkeypatch):
    """36 kB that stand for 4e10 bytes, all of which are there."""
    reached = []

    class Watched(bz2.BZ2File):
        def seek(self, *where):
            reached.append(super().seek(*where))
            return reached[-1]

    monkeypatch.setitem(files.PACKED, b"BZh", Watched)
    path = tmp_path / "bomb.fits.bz2"
    header = promising(None, -32, 100_000, 100_000, BUNIT="km/s")
    zeros = bz2.compress(bytes(90_000_000))
    path.write_bytes(bz2.compress(header.tostring().encode()) + 445 * zeros)
    assert path.stat().st_size < 40_000
    tracemalloc.start()
    with pytest.raises(InputError, match=r"data: got 40000000\d{3} bytes"):
        read(path)
    assert max(reached, default=0) < 10_000
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_extensions_of_packed_files(tmp_path, suffix):
    """Each may be as large as what is unpacked, in whatever order they are read."""
    path = tmp_path / f"map.fits{suffix}"
    images = [fits.ImageHDU(np.full((50, 50), float(i))) for i in range(3)]
    images[2].header["ERRDATA"], images[2].header["EXTNAME"] = "ERROR", "DATA"
    images[1].header["EXTNAME"] = "ERROR"
    images[1].header["HDUCLAS3"] = "RMSE"
    with PACKERS[suffix](path, "wb") as file:
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(file)
    got = read(path, hdu="DATA", unit=KMS)
    assert (got.values == 2).all() and (got.std == 1).all() and got.name == "map"


def packed(path, *headers):
    """Write headers of FITS files, without data, into a compressed file."""
    with gzip.open(path, "wb") as file:
        for header in headers:
            file.write(header.tostring().encode())
    return path


def promising(kind, bitpix, *sides, **cards):
    """Cards of an HDU of a size that is not there."""
    first = ("SIMPLE", True) if kind is None else ("XTENSION", kind)
    header = fits.Header([first, ("BITPIX", bitpix), ("NAXIS", len(sides))])
    for number, side in enumerate(sides, start=1):
        header[f"NAXIS{number}"] = side
    header.update({"PCOUNT": 0, "GCOUNT": 1})
    header.update(cards)
    return header


def test_size_of_what_stands_before_an_image(tmp_path):
    """What is skipped has to be unpacked, too."""
    header = promising(None, -32, 1_000_000_000, EXTEND=True)
    path = packed(tmp_path / "bomb.fits.gz", header)
    with pytest.raises(InputError, match=r"4000000\d{3} bytes in an HDU of the comp"):
        read(path, hdu=1)
    with pytest.raises(InputError, match=r"images: got 4000000\d{3} bytes"):
        galml.extract_cutouts(path, size=4, unit="nJy", hdu=1)


def test_size_of_tables_is_judged_by_the_header(tmp_path):
    cards = {"TFIELDS": 1, "TTYPE1": "x", "TFORM1": "E"}
    table = promising("BINTABLE", 8, 4, 1_000_000_000, **cards)
    path = packed(tmp_path / "bomb.fits.gz", promising(None, 8, EXTEND=True), table)
    with pytest.raises(InputError, match=r"data: got 4000000\d{3} bytes"):
        read_table(path, argument="data")


def test_size_of_compressed_tiles(tmp_path):
    path = tmp_path / "map.fits.fz"
    image = fits.CompImageHDU(np.ones((40, 50), "int16"), compression_type="GZIP_1")
    image.writeto(path)
    assert read(path, unit="km/s").values.shape == (40, 50)
    with fits.open(path, disable_image_compression=True, mode="update") as hdus:
        hdus[1].header["ZTILE1"] = hdus[1].header["ZTILE2"] = 100_000
    for reads in (
        lambda: read(path, unit="km/s"),
        lambda: galml.cutouts.detect(path, unit="nJy"),
    ):
        with pytest.raises(InputError, match="got 100000 x 100000 pixels"):
            reads()


def test_largest_images():
    check_size((20_000, 20_000), "data")
    with pytest.raises(InputError, match="at most 400000000"):
        check_size((30_000, 30_000), "data")


@pytest.mark.parametrize("error", [RuntimeError("torn"), SyntaxError("broken")])
def test_any_error_of_a_reader_names_the_argument(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    path = tmp_path / "a.fits"
    path.touch()
    monkeypatch.setattr(fits, "open", fail)
    with pytest.raises(InputError, match="maps: got .*cannot be read"):
        read_fits(path, argument="maps", unit=None, hdu=None, ndim=(2,))


@pytest.mark.parametrize("text", ["K (Tmb)", "K (Ta*)", "K(TMB)", "mK (Tr*)", "K"])
def test_temperatures_of_radio_telescopes(text):
    assert parse_unit(text, "unit") == (u.mK if text[0] == "m" else u.K)
