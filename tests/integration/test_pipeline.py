# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

import galml

galpipe = pytest.importorskip("galpipe", reason="run by tox -e integration")

ANGLES = [30, 110, 200, 290]
COLUMNS = ["circularity", "circularity_err", "position_angle", "position_angle_err"]


def disk(angle, shape=(64, 64), center=None, inclination=50, radius=22):
    """Velocities in km/s and intensities of a thin disk.

    The angle runs counter-clockwise from +y to the receding side, in degrees.
    """
    y, x = np.indices(shape, dtype=float)
    x0, y0 = (np.array(shape[::-1]) - 1) / 2 if center is None else center
    angle = np.deg2rad(angle)
    major = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    minor = (y - y0) * np.sin(angle) + (x - x0) * np.cos(angle)
    r = np.hypot(major, minor / np.cos(np.deg2rad(inclination)))
    curve = 200 * np.arctan(r / 3) * 2 / np.pi
    velocity = curve * np.sin(np.deg2rad(inclination)) * major / np.maximum(r, 1e-6)
    intensity = np.where(r < radius, np.exp(-r / 10), 0)
    return np.where(r < radius, velocity, np.nan), intensity


def separation(angles, expected):
    difference = (angles.to_value(u.deg) - np.asarray(expected) + 180) % 360 - 180
    return np.abs(difference)


def check(table, angles):
    assert len(table) == len(angles)
    assert (table["circularity"] > 0.5).all()
    assert (table["circularity"] <= 1).all()
    assert (separation(table["position_angle"], angles) < 10).all()
    assert (table["position_angle_err"] > 0 * u.deg).all()


@pytest.fixture
def celestial():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [32.5, 32.5]
    wcs.wcs.crval = [150, 2]
    wcs.wcs.cdelt = [-0.5 / 3600, 0.5 / 3600]
    wcs.wcs.cunit = ["deg", "deg"]
    return wcs


@pytest.fixture
def folder(tmp_path, celestial):
    for number, angle in enumerate(ANGLES):
        ccd = CCDData(disk(angle)[0], unit="km/s", wcs=celestial)
        ccd.meta["OBJECT"] = f"Disk {angle}"
        ccd.meta["PRODUCT"] = "velocity"
        ccd.write(tmp_path / f"disk_{number}.fits")
    other = CCDData(disk(0)[1], unit="Jy", meta={"PRODUCT": "intensity"})
    other.write(tmp_path / "intensity.fits")
    return tmp_path


@pytest.fixture
def collection(folder):
    from ccdproc import ImageFileCollection

    return ImageFileCollection(folder)


def test_galml_is_the_installed_one():
    assert Path(galml.__file__).is_relative_to(sys.prefix)


def test_image_collection(collection):
    table = galpipe.measure_collection(collection, product="velocity")
    names = [Path(file).name for file in table["file"]]
    assert names == [f"disk_{number}.fits" for number in range(4)]
    assert list(table["name"]) == [f"Disk {angle}" for angle in ANGLES]
    check(table, ANGLES)


def test_cube(celestial):
    from specutils import Spectrum

    velocity, intensity = disk(110)
    channels = np.arange(-300, 301, 10) * u.km / u.s
    offsets = channels.value[:, None, None] - np.nan_to_num(velocity)
    flux = intensity * np.exp(-0.5 * (offsets / 15) ** 2)
    noise = np.random.default_rng(0).normal(scale=0.01, size=flux.shape)
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", "VRAD"]
    wcs.wcs.crpix = [*celestial.wcs.crpix, 1]
    wcs.wcs.crval = [*celestial.wcs.crval, -300e3]
    wcs.wcs.cdelt = [*celestial.wcs.cdelt, 10e3]
    wcs.wcs.cunit = ["deg", "deg", "m/s"]
    wcs.wcs.restfrq = 115.271e9
    cube = Spectrum(flux=(flux + noise) * u.Jy, wcs=wcs)
    check(galpipe.measure_cube(cube), [110])


def test_catalog():
    shape = (160, 160)
    centers = [(40, 40), (120, 40), (40, 120), (120, 120)]
    velocity = np.full(shape, np.nan)
    intensity = np.zeros(shape)
    for center, angle in zip(centers, ANGLES, strict=True):
        one, light = disk(angle, shape, center)
        velocity = np.where(light > 0, one, velocity)
        intensity += light
    table = galpipe.measure_catalog(
        CCDData(intensity, unit="Jy"), CCDData(velocity, unit="km/s"), threshold=0.05
    )
    expected = [
        ANGLES[int(np.argmin([np.hypot(x - xc, y - yc) for xc, yc in centers]))]
        for x, y in table.iterrows("x_centroid", "y_centroid")
    ]
    assert sorted(expected) == ANGLES
    check(table, expected)


READ = """
import sys
from astropy.table import QTable
table = QTable.read(sys.argv[1])
assert "galml" not in sys.modules
assert "torch" not in sys.modules
for name in sys.argv[2:]:
    column = table[name]
    print(name, getattr(column, "unit", None), *map(float, column.value))
print(*sorted(table.meta))
"""


@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_table_is_read_elsewhere(collection, tmp_path, suffix):
    table = galpipe.measure_collection(collection, product="velocity")
    path = tmp_path / f"results.{suffix}"
    table.write(path)
    result = subprocess.run(
        [sys.executable, "-c", READ, path, *COLUMNS],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    *lines, keys = result.stdout.splitlines()
    for name, line in zip(COLUMNS, lines, strict=True):
        read, unit, *values = line.split()
        assert read == name
        assert unit == str(table[name].unit or None)
        np.testing.assert_allclose(
            np.array(values, float), table[name].value, rtol=1e-12
        )
    assert set(map(str.upper, table.meta)) <= set(map(str.upper, keys.split()))


def run(*arguments, **options):
    command = Path(sys.executable).with_name("galml")
    return subprocess.run(
        [command, *map(str, arguments)], capture_output=True, text=True, **options
    )


def test_command(folder, tmp_path):
    output = tmp_path / "results.fits"
    broken = folder / "disk_9.fits"
    broken.write_bytes(b"not a FITS file")
    files = sorted(folder.glob("disk_*.fits"))
    result = run("circularity", *files, "-o", output)
    assert result.returncode == 1, result.stderr
    assert str(broken) in result.stderr
    table = QTable.read(output, mask_invalid=False)
    assert list(table["file"]) == list(map(str, files))
    assert table["name"][4] == "disk_9"
    assert np.isnan(table["circularity"][4])
    check(table[:4], ANGLES)


def test_measured_spin_of_a_table(tmp_path):
    velocity, intensity = disk(70)
    y, x = np.indices(velocity.shape, dtype=float)
    columns = {"x": x, "y": y, "flux": intensity}
    spaxels = QTable({name: values.ravel() for name, values in columns.items()})
    spaxels["velocity"] = velocity.ravel() * u.km / u.s
    spaxels["dispersion"] = 60 * u.km / u.s
    spaxels.write(tmp_path / "spaxels.ecsv")
    module = [sys.executable, "-m", "galml", "lambda-r", "spaxels.ecsv"]
    options = ["--r-eff", "12pix", "--ellipticity", "none", "-o", "spin.fits"]
    result = subprocess.run(
        [*module, *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    row = QTable.read(tmp_path / "spin.fits")[0]
    expected = galml.lambda_r(spaxels, r_eff=12 * u.pix, ellipticity=None)[0]
    assert row["name"] == "spaxels"
    for name in ("lambda_r", "ellipticity"):
        np.testing.assert_allclose(row[name], expected[name], rtol=1e-9)
    np.testing.assert_allclose(row["ellipticity"], 1 - np.cos(np.radians(50)), atol=0.1)


@pytest.fixture
def survey(tmp_path):
    """Two tiles in r that touch, two galaxies on each, and a catalog of them."""
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    y, x = np.indices((160, 160))
    places, sky = [(60, 60), (100, 100)], []
    for number in (0, 1):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [150, 2]
        wcs.wcs.crpix = [160.5 - 160 * number, 80.5]
        wcs.wcs.cdelt = [-0.4 / 3600, 0.4 / 3600]
        light = rng.normal(0, 0.5, x.shape)
        for x0, y0 in places:
            light += 200 * np.exp(-np.hypot(x - x0, (y - y0) / 0.7) / 3)
        ccd = CCDData(light.astype("f4"), unit="nJy", wcs=wcs)
        ccd.write(tmp_path / f"tile-{number}.fits")
        sky += [wcs.pixel_to_world(*place) for place in places]
    catalog = QTable({"id": ["a", "b", "c", "d"]})
    catalog["ra"] = [place.ra.deg for place in sky] * u.deg
    catalog["dec"] = [place.dec.deg for place in sky] * u.deg
    catalog["r_eff"] = 1.8 * u.arcsec
    catalog[::-1].write(tmp_path / "catalog.parquet")
    return tmp_path


def test_survey(survey):
    catalog, images = survey / "catalog.parquet", {"r": str(survey / "tile-*.fits")}
    table, failures = galpipe.measure_survey(catalog, images, survey / "spins")
    assert list(table["name"]) == ["d", "c", "b", "a"] and len(failures) == 0
    assert (table["spin"] > 0).all() and (table["spin_err"] > 0).all()
    assert table.meta["OPERATN"] == "spin" and table["ra"].unit == u.deg
    options = ["--images", f"r={images['r']}", "-o", "shell"]
    result = run("run", "spin", catalog, *options, cwd=survey)
    assert result.returncode == 0, result.stderr
    assert "4 rows" in result.stderr.splitlines()[-1]
    frame = pytest.importorskip("pandas").read_parquet(survey / "shell")
    assert frame["spin"].tolist() == table["spin"].tolist()


def test_survey_with_a_tile_that_cannot_be_read(survey):
    catalog, images = survey / "catalog.parquet", {"r": str(survey / "tile-*.fits")}
    tiles = galml.catalogs.index(images)
    (survey / "tile-1.fits").write_bytes(b"not a FITS file")
    with pytest.warns(galml.core.GalmlWarning, match="2 of 4 rows"):
        galml.catalogs.run("spin", catalog, images=tiles, output=survey / "spins")
    table = galml.catalogs.read(survey / "spins")
    assert np.isnan(table["spin"]).tolist() == [True, True, False, False]
    failures = galml.catalogs.failures(survey / "spins")
    assert list(failures["row"]) == [0, 1]
    assert all("tile-1.fits" in reason for reason in failures["reason"])


def test_demo(tmp_path):
    environment = os.environ | {"MPLBACKEND": "Agg"}
    result = run("demo", cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    table = QTable.read(tmp_path / "galml-demo" / "circularity.ecsv")
    assert len(table) > 0
    figures = list((tmp_path / "galml-demo" / "circularity").glob("*.png"))
    assert len(figures) == len(table) + 1
