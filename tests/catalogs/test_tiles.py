# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS

from galml import catalogs
from galml.catalogs import index
from galml.catalogs.tiles import Survey
from galml.core import GalmlWarning, InputError, InputTypeError


@pytest.fixture
def parts(survey):
    """Pixels and header of each tile."""
    folder, _ = survey
    paths = sorted(folder.glob("*.fits"))
    return [fits.getdata(path, header=True) for path in paths]


def write_chips(path, parts):
    """Write images as HST has them, with errors that are 1, 2, ..."""
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header({"FILTER": "r"}))])
    for ver, (pixels, header) in enumerate(parts, 1):
        errors = np.full(pixels.shape, ver, "f4")
        quality = np.zeros(pixels.shape, "i2")
        for name, one in {"SCI": pixels, "ERR": errors, "DQ": quality}.items():
            hdus.append(fits.ImageHDU(one, header, name=name, ver=ver))
    hdus.append(fits.ImageHDU(np.zeros((32, 64), "f4"), name="D2IMARR"))
    hdus.writeto(path)


def test_galaxies_on_seams_have_both_tiles(survey):
    folder, catalog = survey
    table = index(str(folder / "*.fits"))
    assert table["band"].tolist() == ["r"] * 4
    np.testing.assert_allclose(table["pixel_scale"].value, 0.4, rtol=1e-6)
    points = SkyCoord(catalog["ra"], catalog["dec"]).cartesian.xyz.value.T
    rows, tiles = Survey(table).find(points, np.zeros(24))
    assert tiles[rows == 0].tolist() == [0, 1]
    assert set(rows.tolist()) == set(range(24))
    rows, tiles = Survey(table).find(-points, np.zeros(24))
    assert len(rows) == 0


def test_files_that_are_no_images_are_left_out(survey):
    folder, _ = survey
    (folder / "a.fits").write_bytes(b"no image")
    with pytest.warns(GalmlWarning, match="1 of 4 images"):
        assert len(index(str(folder / "*.fits"))) == 3
    with pytest.raises(InputError, match="no file matches"):
        index(str(folder / "*.jpg"))


def test_bands_by_name_are_all_needed(survey):
    folder, _ = survey
    whole, broken = (str(folder / f"{name}.fits") for name in "ab")
    (folder / "b.fits").write_bytes(b"no image")
    with pytest.raises(InputError, match="no image in i that can be read .*b.fits"):
        index({"r": whole, "i": broken})


def test_each_chip_of_a_file_is_a_tile(survey, parts, tmp_path):
    folder, catalog = survey
    write_chips(tmp_path / "chips.fits", parts)
    table = index(tmp_path / "chips.fits")
    assert table["hdu"].tolist() == ["1", "4", "7", "10"]
    plain = index(str(folder / "*.fits"))
    np.testing.assert_array_equal(table["footprint"], plain["footprint"])
    options = {"size": 8 * u.arcsec, "n_pixels": 20, "coadd": "all"}
    for name, images in {"chips": table, "plain": plain}.items():
        output = tmp_path / name
        catalogs.run(
            "extract_cutouts", catalog, images=images, output=output, **options
        )
    chips, tiles = (catalogs.read(tmp_path / name) for name in ("chips", "plain"))
    # Where no seam is near, weights have no part in it.
    _, on = np.unique(Survey(plain).find(vectors(catalog), np.full(24, 5e-5))[0], True)
    alone = np.setdiff1d(np.arange(24), np.flatnonzero(np.diff(on) > 1))
    assert len(alone) > 4
    np.testing.assert_allclose(chips["r"][alone], tiles["r"][alone], rtol=1e-4)
    # Errors are those of the own chip.
    rows, chip = Survey(plain).find(vectors(catalog), np.zeros(24))
    errors = np.nanmedian(chips["r_err"].value, axis=(1, 2))
    single = [np.median(errors[rows[chip == one]]) for one in range(4)]
    np.testing.assert_allclose(np.array(single) / single[0], [1, 2, 3, 4], rtol=0.3)


def vectors(catalog):
    return SkyCoord(catalog["ra"], catalog["dec"]).cartesian.xyz.value.T


def test_extensions_that_are_no_images_of_the_sky(parts, tmp_path):
    """One image with its weights is one tile; chips of a mosaic are several."""
    write_chips(tmp_path / "one.fits", parts[:1])
    assert index(tmp_path / "one.fits")["hdu"].tolist() == [""]
    names = ["S29", "N4", "", "CCD7"]
    hdus = [fits.PrimaryHDU(header=fits.Header({"FILTER": "r"}))]
    for name, (pixels, header) in zip(names, parts, strict=True):
        hdus.append(fits.CompImageHDU(pixels, header, name=name))
        hdus.append(fits.ImageHDU(pixels, header, name=f"{name}_model"))
    hdus.append(fits.ImageHDU(np.zeros((8, 8)), name="PREVIEW"))
    binned = parts[0][1].copy()
    binned["CRPIX1"] += 3
    hdus.append(fits.ImageHDU(parts[0][0], binned, name="WEIGHT"))
    hdus.append(fits.BinTableHDU(Table({"x": [1]})))
    fits.HDUList(hdus).writeto(tmp_path / "mosaic.fits")
    assert index(tmp_path / "mosaic.fits")["hdu"].tolist() == ["1", "3", "5", "7"]
    pixels, header = parts[0]
    std = StdDevUncertainty(np.ones_like(pixels))
    ccd = CCDData(pixels, unit="nJy", mask=pixels > 9, uncertainty=std, meta=header)
    ccd.wcs = WCS(header)
    ccd.write(tmp_path / "ccd.fits")
    assert index(tmp_path / "ccd.fits")["hdu"].tolist() == [""]


def test_no_pixels_are_read_for_an_index(parts, tmp_path, monkeypatch):
    write_chips(tmp_path / "chips.fits", parts)

    def no_pixels(*arguments):
        raise AssertionError("pixels are read")

    monkeypatch.setattr(fits.Section, "__getitem__", no_pixels)
    monkeypatch.setattr(fits.ImageHDU, "_get_raw_data", no_pixels)
    assert len(index(tmp_path / "chips.fits")) == 4


def test_a_chip_that_cannot_be_used_is_told(parts, tmp_path):
    parts[2][1]["BUNIT"] = "nonsense"
    write_chips(tmp_path / "chips.fits", parts)
    with pytest.warns(GalmlWarning, match="1 of 4 images .*nonsense"):
        assert index(tmp_path / "chips.fits")["hdu"].tolist() == ["1", "4", "10"]


def test_extension_and_unit_of_tiles_are_given(survey, parts, tmp_path):
    folder, catalog = survey
    for _, header in parts:
        del header["BUNIT"]
    write_chips(tmp_path / "chips.fits", parts)
    images, output = str(tmp_path / "chips.fits"), tmp_path / "out"
    for hdu, number in {("SCI", 2): "4", "SCI": "1", 4: "4", -2: "12"}.items():
        assert index(images, hdu=hdu, unit="nJy")["hdu"].tolist() == [number]
    with pytest.raises(InputError, match="images: got .*expected a unit, or unit="):
        catalogs.run("spin", catalog, images=images, output=output)
    options = {"images": images, "unit": "nJy", "seed": 1}
    summary = catalogs.run("spin", catalog, output=output, **options)
    assert summary["failed"] == 0
    with pytest.warns(GalmlWarning, match="rows have no result"):
        other = tmp_path / "other"
        catalogs.run("spin", catalog, output=other, hdu=("SCI", 2), **options)
    kept = set(range(24)) - set(catalogs.failures(other)["row"].tolist())
    rows, chip = Survey(index(images, unit="nJy")).find(vectors(catalog), np.zeros(24))
    assert kept and kept <= set(rows[chip == 1].tolist())
    with pytest.raises(InputError, match="another|other options"):
        catalogs.run("spin", catalog, output=output, **options | {"unit": "uJy"})
    with pytest.raises(InputError, match="hdu: got 1 with a table of tiles"):
        table = index(images, unit="nJy")
        catalogs.run("spin", catalog, images=table, hdu=1, output=output)


@pytest.mark.parametrize("files", [5, None, [5], b"tile", {"r": None}, {"r": [3.0]}])
def test_what_is_no_file(files):
    with pytest.raises(InputTypeError, match="files: got an object of type"):
        index(files)


@pytest.mark.parametrize("files", [[], {}, {"r": []}])
def test_no_file_at_all(files):
    with pytest.raises(InputError, match="files: got no file"):
        index(files)


def test_tables_that_are_no_index(survey, tmp_path):
    folder, catalog = survey
    tiles = index(str(folder / "*.fits"))
    without = tiles.copy()
    without.meta.clear()
    for lacking, table in {"rows": tiles[:0], "CELLLEVL": without}.items():
        with pytest.raises(InputError, match=f"images: got a table without {lacking}"):
            catalogs.run("spin", catalog, images=table, output=tmp_path / "out")
    # As tables without units of their own, and with extensions by name.
    tiles = Table(tiles)
    tiles["hdu"] = ["PRIMARY", "0", "", "PRIMARY"]
    output = tmp_path / "out"
    assert catalogs.run("spin", catalog, images=tiles, output=output)["failed"] == 0
