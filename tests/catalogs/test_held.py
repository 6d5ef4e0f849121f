# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tiles that are in memory."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS

import galml
from galml import catalogs
from galml.core import FileError, InputError, InputTypeError

UNCERTAINTIES = {
    "std": StdDevUncertainty(np.full((160, 160), 2e-3), unit="uJy"),
    "variance": VarianceUncertainty(np.full((160, 160), 4e-6), unit="uJy2"),
    "inverse": InverseVariance(np.full((160, 160), 0.25)),
}


@pytest.fixture
def ccds(survey):
    """The tiles, in memory."""
    folder, _ = survey
    return [CCDData.read(path) for path in sorted(folder.glob("*.fits"))]


def test_tiles_in_memory_are_as_good_as_files(survey, ccds, tmp_path):
    folder, catalog = survey
    plain = tmp_path / "plain"
    files = str(folder / "*.fits")
    catalogs.run("spin", catalog, images=files, output=plain, seed=1, partition_size=9)
    expected = catalogs.read(plain)["spin"].tolist()
    others = [NDData(one.data, wcs=one.wcs, unit=one.unit) for one in ccds]
    mixed = [ccds[0], *sorted(folder.glob("*.fits"))[1:]]
    for number, images in enumerate((ccds, {"r": ccds}, {"r": others}, mixed)):
        options = {"images": images, "output": tmp_path / str(number), "seed": 1}
        options |= {"partition_size": 9}
        assert catalogs.run("spin", catalog, **options)["computed"] == 3
        assert catalogs.read(options["output"])["spin"].tolist() == expected
        assert not (options["output"] / "_images").exists()
        assert catalogs.run("spin", catalog, **options)["computed"] == 0
    single = tmp_path / "single"
    with pytest.warns(match="rows have no result"):
        catalogs.run("spin", catalog, images=ccds[0], output=single, seed=1)
    assert 0 < np.isfinite(catalogs.read(single)["spin"]).sum() < 24


def test_what_is_in_them_tells_one_run_from_another(survey, ccds, tmp_path):
    _, catalog = survey
    options = {"images": ccds, "output": tmp_path / "out", "seed": 1}
    catalogs.run("spin", catalog, **options)
    same = [one.copy() for one in ccds]
    assert catalogs.run("spin", catalog, **options | {"images": same})["computed"] == 0
    pixel, place, unit, errors = ([one.copy() for one in ccds] for _ in range(4))
    pixel[2].data[3, 3] += 1
    place[0].wcs.wcs.crval += 1e-5
    unit[1] = CCDData(unit[1].data, unit="uJy", wcs=unit[1].wcs, meta=unit[1].meta)
    errors[3].uncertainty = UNCERTAINTIES["std"]
    for other in (pixel, place, unit, errors):
        with pytest.raises(FileError, match="other options or inputs"):
            catalogs.run("spin", catalog, **options | {"images": other})


@pytest.mark.parametrize("kind", UNCERTAINTIES)
@pytest.mark.parametrize("dtype", ["f8", "f2", "i2", "u2", ">f4"])
def test_all_that_they_hold_counts(survey, ccds, tmp_path, kind, dtype):
    _, catalog = survey
    rng, side = np.random.default_rng(0), np.exp(-(np.arange(-4, 5) ** 2) / 4)
    images = [
        CCDData(
            np.maximum(one.data, 0).astype(dtype),
            unit="nJy",
            wcs=one.wcs,
            mask=rng.random(one.shape) < 0.01,
            uncertainty=UNCERTAINTIES[kind],
            psf=np.outer(side, side),
            meta={"BAND": "r", "SATURATE": 150.0, "a key no FITS file has": {}},
        )
        for one in ccds
    ]
    options = {"size": 16 * u.arcsec, "n_pixels": 40, "target_psf": 2 * u.arcsec}
    stack = galml.extract_cutouts(images, catalog, **options)
    output = tmp_path / "out"
    catalogs.run("extract_cutouts", catalog, images=images, output=output, **options)
    table = catalogs.read(output)
    assert table["flags"].tolist() == stack.flags.tolist()
    values = np.where(stack.mask, np.nan, stack.data.value)[:, 0]
    np.testing.assert_allclose(table["r"].value, values, rtol=1e-5, atol=1e-5)
    errors = np.where(stack.mask, np.nan, stack.uncertainty)[:, 0]
    np.testing.assert_allclose(table["r_err"].value, errors, rtol=1e-5)


def test_distortions_are_kept(survey, ccds, tmp_path):
    _, catalog = survey
    header = ccds[0].wcs.to_header()
    header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-4, "B_0_2": -1e-4})
    image = CCDData(ccds[0].data, unit="nJy", wcs=WCS(header))
    options = {"size": 16 * u.arcsec, "n_pixels": 40}
    with pytest.warns(match="rows have no result"):
        stack = galml.extract_cutouts({"r": image}, catalog, **options)
        options |= {"images": {"r": image}, "output": tmp_path / "out"}
        catalogs.run("extract_cutouts", catalog, **options)
    values = np.where(stack.mask, np.nan, stack.data.value)[:, 0]
    found = catalogs.read(tmp_path / "out")["r"].value
    np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-4)


def test_images_that_cannot_be_used(survey, ccds, tmp_path):
    _, catalog = survey
    pixels, wcs = ccds[0].data, ccds[0].wcs
    options = {"output": tmp_path / "out"}
    no_header = SlicedLowLevelWCS(wcs, np.s_[:150, :])
    for image, told in (
        (CCDData(pixels, unit="nJy"), "without celestial WCS"),
        (NDData(pixels, wcs=wcs), "expected a unit, or unit="),
        (NDData(pixels[:150], wcs=no_header, unit="nJy"), "a WCS that a FITS header"),
        (NDData(pixels, wcs=wcs, unit="nJy", psf=2 * u.arcsec), "got a psf of type"),
    ):
        with pytest.raises(InputError, match=rf"images: got images\[0\]: .*{told}"):
            catalogs.run("spin", catalog, images=image, **options)
    assert not options["output"].exists()
    without = NDData(pixels, wcs=wcs)
    with pytest.warns(match="rows have no result"):
        catalogs.run("spin", catalog, images={"r": without}, unit="nJy", **options)
    for other in (fits.PrimaryHDU(pixels), (pixels, wcs), [pixels]):
        with pytest.raises(InputTypeError, match="images: got an object of type"):
            catalogs.run("spin", catalog, images=other, **options)
    with pytest.raises(InputTypeError, match="files: got an object of type CCDData"):
        catalogs.index(ccds)
