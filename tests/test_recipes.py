# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The recipes of the guide, on files with the headers of such files."""

import ast
import bz2
import re
from importlib import resources
from pathlib import Path
from textwrap import dedent

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

import galml
from galml.core import Flag, decode_flags
from galml.mocks import galaxy_images, gas_maps

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "recipes.rst"
EXAMPLES = resources.files("galml") / "data" / "examples"
#: Speed of the galaxies of cubes (km/s), and the true angle of the mock map.
SYSTEMIC, C = 650.0, 299792.458


def recipes(title):
    """Give the examples of a section of the page."""
    sections = re.split(r"\n(?=[^\n]+\n-{4,}\n)", PAGE.read_text())
    (section,) = [one for one in sections if one.startswith(title)]
    blocks = re.findall(r"\.\. code-block:: python\n((?:\n|    .*\n)+)", section)
    return [re.sub("^    ", "", block, flags=re.M) for block in blocks]


def cook(title, number=0):
    """Run an example, and give what it has made."""
    found = {}
    exec(recipes(title)[number], found)
    return found


def sky_header(scale, shape, center=(150.1, 2.2), **cards):
    """Cards of a WCS with north up, of pixels in arcsec."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = center
    header["CRPIX1"], header["CRPIX2"] = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    header["CD1_1"], header["CD2_2"] = -scale / 3600, scale / 3600
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header.update(cards)
    return header


def field(band):
    """Pixels of the field of the package."""
    return fits.getdata(EXAMPLES / f"field-{band}.fits").astype("float32")


def test_examples_can_be_parsed():
    pages = [*PAGE.parents[1].rglob("*.rst"), PAGE.parents[2] / "README.rst"]
    pattern = r"^( *)\.\. code-block:: python\n((?:\n|\1 +.*\n)+)"
    blocks = [
        (page, block)
        for page in pages
        for _, block in re.findall(pattern, page.read_text(), flags=re.M)
    ]
    assert len(blocks) > 20
    for page, block in blocks:
        ast.parse(dedent(block), str(page))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def disk():
    """One galaxy in gas without noise: intensity, velocity and dispersion."""
    _, maps = next(gas_maps(1, batch_size=32, seed=4, noisy=False, plain=1.0))
    best = int((maps.truth.kappa - (maps.truth.inclination - 50).abs() / 90).argmax())
    velocity, dispersion = (
        np.asarray(values[best], float) for values in (maps.velocity, maps.dispersion)
    )
    angle = float(maps.truth.position_angle[best])
    # Receding sides count from north, which is up, to east, which is left.
    return velocity, np.nan_to_num(dispersion, nan=10.0).clip(5), angle % 360


def spectra(disk, channels):
    """Lines in channels of velocities in km/s, with a little noise."""
    velocity, dispersion, _ = disk
    shift = (channels[:, None, None] - SYSTEMIC - velocity) / dispersion
    cube = np.nan_to_num(np.exp(-0.5 * shift**2))
    return cube + np.random.default_rng(1).normal(0, 0.01, cube.shape)


def check_disk(table, disk, limit=10.0):
    """The disk is found, and the way it turns."""
    (row,) = table
    assert not row["flags"] & (Flag.FAILED | Flag.NO_WCS)
    turn = (row["position_angle"].to_value("deg") - disk[2] + 180) % 360 - 180
    assert abs(turn) < limit
    assert row["circularity"] > 0.6


# Images


def frame(band, origin=(0, 0)):
    """A frame of SDSS, whose first extension holds the sky level."""
    data = field(band)[origin[0] :, origin[1] :]
    header = sky_header(0.396, data.shape, BUNIT="nanomaggy", FILTER=band)
    header["CRPIX1"] -= origin[1] / 2
    header["CRPIX2"] -= origin[0] / 2
    header.update({"TELESCOP": "2.5m", "NMGY": 0.005, "RUN": 4207, "CAMCOL": 3})
    header["FLAVOR"], header["SYS_SCN"] = "science ", "mean    "
    # Of the field in nJy; a nanomaggy is 3631 nJy.
    image = fits.PrimaryHDU(data / 3631, header)
    image.header["NMGYIVAR"] = 1.0
    return fits.HDUList([image, fits.ImageHDU(np.ones(data.shape[1], "float32"))])


def test_sdss_frames(here):
    for band, origin in (("g", (0, 0)), ("r", (3, 6)), ("i", (5, 0))):
        frame(band, origin).writeto(here / "one.fits", overwrite=True)
        name = f"frame-{band}-004207-3-0168.fits.bz2"
        (here / name).write_bytes(bz2.compress((here / "one.fits").read_bytes()))
    found = cook("SDSS frames")
    table = found["table"]
    assert len(table) == 9 and found["stack"].bands == ("g", "r", "i")
    assert not (table["flags"] & Flag.FAILED).any()
    # What the package's own files of the same field give.
    images = {band: EXAMPLES / f"field-{band}.fits" for band in "gri"}
    same = galml.spin(
        galml.extract_cutouts(
            images,
            galml.cutouts.detect(images["r"], psf_fwhm=1.3 * u.arcsec),
            size=8.48 * galml.cutouts.R_EFF,
            n_pixels=72,
            psf=1.3 * u.arcsec,
        )
    )
    for one in (table, same):
        one.sort("dec")
    np.testing.assert_allclose(table["spin"], same["spin"], atol=0.05)


def test_sdss_frames_as_observed(here, shared):
    for band in "gri":
        source = shared / "sdss_field" / f"ngc6976_group_{band}.fits.bz2"
        (here / f"frame-{band}-004207-3-0168.fits.bz2").symlink_to(source)
    table = cook("SDSS frames")["table"]
    assert len(table) > 20 and (table["flags"] & Flag.FAILED == 0).all()
    assert np.isfinite(table["spin"]).all()


@pytest.fixture(scope="module")
def legacy():
    """A galaxy as the Legacy Surveys' cutout service gives it."""
    _, mocks = next(
        galaxy_images(1, batch_size=4, survey="DECaLS", n_pixels=128, seed=3)
    )
    header = sky_header(float(mocks.pixel_scale[0]), (128, 128))
    header.update({"SURVEY": "LegacySurvey", "VERSION": "DR10", "IMAGETYP": "IMAGE"})
    header["BANDS"] = "".join(mocks.bands)
    for number, band in enumerate(mocks.bands):
        header[f"BAND{number}"] = band
    return fits.PrimaryHDU(mocks.data[0].numpy() / 3631, header), mocks


def test_legacy_surveys_cutouts(here, legacy):
    image, mocks = legacy
    image.writeto(here / "cutout.fits")
    found = cook("Legacy Surveys cutouts")
    for table in (found["table"], found["latents"]):
        assert len(table) == 1 and not table["flags"][0] & Flag.FAILED
    # As from the numbers, whose bands and unit are said.
    scale = float(mocks.pixel_scale[0]) * u.arcsec
    flux = mocks.data[0].numpy() * u.nJy
    (same,) = galml.spin(flux, bands=mocks.bands, pixel_scale=scale)
    assert found["table"]["spin"][0] == pytest.approx(same["spin"], abs=0.01)


def drizzled(scale, error=None, **cards):
    """The field of the package in the sharper pixels of a space telescope."""
    data = field("r")
    header = sky_header(scale, data.shape, **cards)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(data, header, "SCI")]
    if error is not None:
        hdus.append(fits.ImageHDU(np.full_like(data, error), name="ERR"))
    hdus.append(fits.ImageHDU(np.ones_like(data), name="WHT"))
    return fits.HDUList(hdus)


def test_hst_drizzled_images(here):
    hdus = drizzled(0.03, BUNIT="ELECTRONS/S", PHOTFLAM=7.03e-20, PHOTPLAM=8045.5)
    hdus[0].header.update(
        {"TELESCOP": "HST", "INSTRUME": "ACS", "FILTER1": "CLEAR1L"},
        FILTER2="F814W",
        TARGNAME="COSMOS",
    )
    hdus.writeto(here / "hst_acs_f814w_drz.fits")
    found = cook("HST: drizzled images")
    table = found["table"]
    assert found["stack"].unit == u.electron / u.s and len(table) == 9
    assert set(table["filter"]) == {"F814W"}
    assert np.isfinite(table["merger_probability"]).all()
    assert not (table["flags"] & (Flag.RESAMPLED | Flag.NO_WCS)).any()


def test_jwst_images(here):
    hdus = drizzled(0.03, error=105.0, BUNIT="MJy/sr", PIXAR_SR=2.1e-14)
    hdus[0].header.update(
        {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "FILTER": "F200W", "PUPIL": "CLEAR"}
    )
    hdus.writeto(here / "jw_nircam_f200w_i2d.fits")
    found = cook("JWST: i2d images")
    mergers, contaminations = found["mergers"], found["contaminations"]
    assert len(mergers) == len(contaminations) == 9
    assert set(mergers["filter"]) == {"F200W"}
    assert found["stack"].uncertainty is not None
    assert np.isfinite(contaminations["contamination"]).all()
    assert not (mergers["flags"] & (Flag.NO_UNCERTAINTY | Flag.FAILED)).any()


def test_jwst_galaxies_as_observed(shared):
    """Stamps of CEERS, which have lost their units."""
    files = sorted((shared / "jwst_ceers").glob("*_f200w.fits.fz"))
    table = galml.contamination(files, filter="F200W", unit="MJy/sr")
    assert len(table) == 24 and np.isfinite(table["contamination"]).all()


# Cubes and maps


def radio_header(shape, kind="VRAD", step=10e3, **cards):
    """Cards of a cube of an interferometer."""
    header = sky_header(1.0, shape, BMAJ=3 / 3600, BMIN=3 / 3600, BPA=20.0)
    header.update({"CTYPE3": kind, "CUNIT3": "m/s", "CRPIX3": 1.0, "CDELT3": step})
    header.update({"CRVAL3": 1e3 * SYSTEMIC - 400e3, "SPECSYS": "LSRK"})
    header.update(cards)
    return header


def test_phangs(here, disk):
    shape = disk[0].shape
    channels = SYSTEMIC + np.arange(-400, 401, 10.0)
    header = radio_header(shape, BUNIT="K", RESTFRQ=230.538e9, OBJECT="ngc0628")
    cube = fits.PrimaryHDU(spectra(disk, channels).astype("float32"), header)
    cube.writeto(here / "ngc0628_12m+7m+tp_co21.fits")
    check_disk(cook("ALMA: PHANGS cubes and maps")["table"], disk)
    header = sky_header(1.0, shape, BUNIT="km/s", BMAJ=3 / 3600, BMIN=3 / 3600)
    velocity, dispersion, _ = disk
    maps = {"mom1": velocity + SYSTEMIC, "emom1": np.full(shape, 3.0)}
    maps["mom2"] = dispersion
    for name, values in maps.items():
        path = here / f"ngc0628_12m+7m+tp_co21_strict_{name}.fits"
        fits.PrimaryHDU(values.astype("float32"), header).writeto(path)
    table = cook("ALMA: PHANGS cubes and maps", 1)["table"]
    check_disk(table, disk)
    assert not table["flags"][0] & Flag.NO_UNCERTAINTY


@pytest.mark.parametrize("kind", ["VELO-HEL", "FELO-HEL"])
def test_hi_cubes(here, disk, kind):
    channels = SYSTEMIC + np.arange(-400, 401, 10.0)
    header = radio_header(disk[0].shape, kind, BUNIT="JY/BEAM", EPOCH=1950.0)
    header["RESTFREQ"] = 1.420405751786e9
    del header["BMAJ"], header["BMIN"], header["SPECSYS"]
    cube = fits.PrimaryHDU(spectra(disk, channels).astype("float32"), header)
    cube.writeto(here / "ngc2903.fits")
    recipe = recipes("H I cubes")[0]
    # Its beam is that of the galaxy after which the file is called.
    found = {}
    exec(recipe.replace("57 *", "3 *"), found)
    check_disk(found["table"], disk)


def test_hi_cube_as_observed(here, shared):
    source = shared / "hostile_headers" / "hi_cube_ncp_velo_hel.fits.gz"
    (here / "ngc2903.fits").symlink_to(source)
    (row,) = cook("H I cubes")["table"]
    assert row["position_angle"].to_value("deg") == pytest.approx(204, abs=8)


def manga_maps(disk):
    """A MAPS file with what the recipes read, planes named by cards."""
    velocity, dispersion, angle = disk
    y, x = (
        np.indices(velocity.shape) - (np.array(velocity.shape) - 1)[:, None, None] / 2
    )
    bad = ~np.isfinite(velocity)
    planes = {
        "SPX_MFLUX": (np.exp(-np.hypot(x, y) / 12), "1E-17 erg/s/cm^2/ang/spaxel"),
        "STELLAR_VEL": (np.where(bad, 0, velocity), "km/s"),
        "STELLAR_SIGMA": (np.hypot(dispersion, 60), "km/s"),
        "EMLINE_GVEL": (np.where(bad, 0, velocity), "km/s"),
        "EMLINE_GSIGMA": (np.hypot(dispersion, 60), "km/s"),
    }
    primary = fits.PrimaryHDU()
    primary.header.update({"PLATEIFU": "7443-12703", "OBJECT": "1-12703"})
    primary.header.update({"REFF": 8.0, "ECOOELL": 0.3, "ECOOPA": angle % 180})
    hdus = fits.HDUList([primary])
    for name, (values, unit) in planes.items():
        header = sky_header(0.5, velocity.shape, BUNIT=unit)
        header.update({"ERRDATA": f"{name}_IVAR", "HDUCLASS": "SDSS"})
        parts = {name: values, f"{name}_IVAR": np.where(bad, 0, 1 / 25.0)}
        if name != "SPX_MFLUX":
            header["QUALDATA"] = f"{name}_MASK"
            parts[f"{name}_MASK"] = bad.astype("int32")
        for part, numbers in parts.items():
            if name.startswith("EMLINE"):
                numbers = np.stack([np.zeros_like(numbers), numbers])
                header.update({"C01": "OII-3727", "C02": "Ha-6564"})
            hdu = fits.ImageHDU(numbers, header, part)
            if part.endswith("_IVAR"):
                hdu.header["HDUCLAS3"] = "INVMSE"
                hdu.header["BUNIT"] = f"({unit})^{{-2}}"
            hdus.append(hdu)
    width = np.full((2, *velocity.shape), 60.0)
    hdus.append(fits.ImageHDU(width, name="STELLAR_SIGMACORR"))
    return hdus


def test_manga_maps(here, disk):
    name = "manga-7443-12703-MAPS-HYB10-MILESHC-MASTARSSP.fits"
    manga_maps(disk).writeto(here / name)
    table = cook("MaNGA: MAPS")["table"]
    check_disk(table, disk)
    assert not table["flags"][0] & Flag.NO_UNCERTAINTY
    (row,) = cook("MaNGA: MAPS", 1)["table"]
    assert 0.3 < row["lambda_r"] < 1 and row["lambda_r_err"] < 0.1
    assert "failed" not in decode_flags(row["flags"])


def test_muse_cubes(here, disk):
    shape, line = disk[0].shape, 6564.6
    redshift = (1 + 0.01) * (1 + SYSTEMIC / C) - 1
    header = sky_header(0.2, shape, BUNIT="10**(-20)*erg/s/cm**2/Angstrom")
    header.update({"CTYPE3": "WAVE", "CUNIT3": "Angstrom", "CRPIX3": 1.0})
    header.update({"CRVAL3": line * (1 + redshift) - 60, "CD3_3": 1.25})
    wavelength = header["CRVAL3"] + 1.25 * np.arange(97)
    channels = C * (wavelength / (line * 1.01) - 1)
    cube = spectra(disk, channels) + 0.5
    variance = np.full(cube.shape, 1e-4)
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(cube.astype("float32"), header, "DATA"),
            fits.ImageHDU(variance.astype("float32"), header, "STAT"),
        ]
    ).writeto(here / "DATACUBE.fits")
    (row,) = table = cook("MUSE cubes")["table"]
    check_disk(table, disk)
    assert not row["flags"] & Flag.NO_UNCERTAINTY


def test_all_recipes_are_run():
    titles = re.findall(r"\n([^\n]+)\n-{4,}\n", PAGE.read_text())
    blocks = sum(len(recipes(title)) for title in titles if recipes(title))
    assert blocks == 10
