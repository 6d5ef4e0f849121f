# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import signal
import subprocess
import sys
import time

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

from galml import catalogs, cli
from galml.cli import survey

STARS = ("--set", "n=50", "--seed", 1, "--quiet", "--scheduler", "none")


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def galaxies(tmp_path):
    """Eight galaxies, and the file that they are in."""
    table = QTable(
        {
            "stellar_mass": np.linspace(1e10, 3e10, 8) * u.Msun,
            "median_age": np.linspace(5, 6, 8) * u.Gyr,
            "age_percentile_10": np.linspace(1, 2, 8) * u.Gyr,
            "metallicity": np.linspace(0.01, 0.02, 8),
        }
    )
    path = tmp_path / "galaxies.ecsv"
    table.write(path)
    return path


@pytest.fixture
def tiles(tmp_path):
    """Two tiles beside each other, with two galaxies on each, and their catalog."""
    rng = np.random.default_rng(0)
    y, x = np.indices((160, 160))
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in (0, 1):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
        wcs.wcs.crpix = 160.5 - 160 * number, 80
        wcs.wcs.crval = 150, 2
        light = rng.normal(0, 0.5, (160, 160))
        for x0, y0 in ((50, 60), (110, 100)):
            light += 200 * np.exp(-np.hypot(x - x0, (y - y0) / 0.7) / 3)
        header = wcs.to_header()
        header["BUNIT"], header["BAND"] = "nJy", "r"
        fits.writeto(folder / f"{number}.fits", light.astype("f4"), header)
    sky = wcs.pixel_to_world([50 - 160, 110 - 160, 50, 110], [60, 100, 60, 100])
    catalog = QTable({"id": [11, 12, 13, 14], "ra": sky.ra, "dec": sky.dec})
    catalog["r_eff"] = 1.8 * u.arcsec
    path = tmp_path / "catalog.ecsv"
    catalog.write(path)
    return path, sorted(folder.glob("*.fits"))


@pytest.fixture
def calls(monkeypatch):
    """Calls of `galml.catalogs.run`, which do nothing."""
    found = []

    def fake(operation, catalog, **keywords):
        found.append((operation, catalog, keywords))
        return {"rows": 3, "partitions": 1, "computed": 1, "failed": 0}

    monkeypatch.setitem(vars(catalogs), "run", fake)
    return found


def test_catalog_and_tiles(tiles, tmp_path, capsys):
    """The shell has expanded the pattern of the tiles."""
    catalog, files = tiles
    output = tmp_path / "spins"
    assert run("run", "spin", catalog, "--images", *files, "-o", output) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("galml: 4 rows in 1 partition, 0 failed, ")
    table = catalogs.read(output)
    assert table["name"].tolist() == ["11", "12", "13", "14"]
    assert np.isfinite(table["spin"]).all() and table.meta["SEED"] == 0
    again = tmp_path / "again"
    pattern = f"{files[0].parent}/*.fits"
    arguments = ["run", "-o", again, "spin", "--images", pattern, "--quiet", catalog]
    assert run(*arguments) == 0
    assert catalogs.read(again)["spin"].tolist() == table["spin"].tolist()
    assert run(*arguments) == 0
    assert capsys.readouterr().err == ""


def test_tiles_that_tell_no_unit(tiles, tmp_path, capsys):
    catalog, files = tiles
    for file in files:
        with fits.open(file, mode="update") as hdus:
            del hdus[0].header["BUNIT"]
            hdus.append(fits.ImageHDU(hdus[0].data, hdus[0].header, name="SCI"))
    some = ["run", "spin", catalog, "--images", *files, "--quiet", "-o"]
    assert run(*some, tmp_path / "out") == 2
    assert "expected a unit, or unit=" in capsys.readouterr().err
    assert run(*some, tmp_path / "out", "--unit", "nJy", "--hdu", "SCI") == 0
    assert np.isfinite(catalogs.read(tmp_path / "out")["spin"]).all()


def test_tiles_by_band_and_from_an_index(tiles, tmp_path, calls):
    catalog, files = tiles
    some = ["run", "spin", catalog, "-o", tmp_path / "out", "--quiet", "--images"]
    assert run(*some, f"g={files[0]}", f"r={files[0].parent}/*.fits") == 0
    own, both = str(files[0]), [str(file) for file in files]
    assert calls[-1][2]["images"] == {"g": [own], "r": both}
    catalogs.index(both).write(tmp_path / "tiles.ecsv")
    assert run(*some, tmp_path / "tiles.ecsv") == 0
    assert calls[-1][2]["images"]["path"].tolist() == both
    (tmp_path / "list.txt").write_text("\n".join(both))
    assert run(*some, f"@{tmp_path / 'list.txt'}") == 0
    assert calls[-1][2]["images"] == both


def test_catalogs_stand_around_the_options(tmp_path, calls):
    output = tmp_path / "out"
    arguments = ["stars-of-none", "a.parquet", "-o", output, "b.parquet", "--quiet"]
    assert run("run", *arguments, "c.parquet") == 0
    operation, catalog, keywords = calls[0]
    assert operation == "stars_of_none"
    assert catalog == ["a.parquet", "b.parquet", "c.parquet"]
    assert keywords == {"images": None, "output": output, "progress": False}


def test_keywords_of_operations(tmp_path, calls):
    given = ["n=1000", "mass=1e5solMass", "components=x,y", "strict=true", "r-eff=none"]
    settings = [word for one in given for word in ("--set", one)]
    options = ["--model", "m", "--size", "30arcsec", "--n-pixels", "48"]
    options += ["--units", "ra=deg", "--units", "r_eff=arcsec"]
    options += ["--scheduler", "tcp://a:1", "--partition-size", "1e3", "--seed", "4"]
    options += ["--hdu", "SCI:2", "--unit", "nJy"]
    assert (
        run("run", "spin", "a.parquet", "-o", tmp_path / "o", *settings, *options) == 0
    )
    keywords = calls[0][2]
    assert keywords.pop("output") == tmp_path / "o" and keywords.pop("progress")
    assert keywords == {
        "images": None,
        "units": {"ra": "deg", "r_eff": "arcsec"},
        "n": 1000,
        "mass": 1e5 * u.solMass,
        "components": ["x", "y"],
        "strict": True,
        "r_eff": None,
        "model": "m",
        "hdu": ("SCI", 2),
        "unit": "nJy",
        "size": 30 * u.arcsec,
        "n_pixels": 48,
        "scheduler": "tcp://a:1",
        "partition_size": 1000,
        "seed": 4,
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["spin", "--images", "a.fits", "b.parquet", "-o", "o"], "CATALOG"),
        (["spin", "a.parquet"], "-o/--output"),
        (["spin", "a.parquet", "-o", "o", "--set", "n"], "expected NAME=..."),
        (["spin", "a.parquet", "-o", "o", "--sizes", "3"], "unrecognized arguments"),
    ],
)
def test_bad_usage(calls, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        run("run", *arguments)
    assert exit_.value.code == 2 and not calls
    error = capsys.readouterr().err
    assert message in error and error.startswith("usage: galml run OPERATION CATALOG")


@pytest.mark.parametrize(
    "images, message",
    [
        (["a.fits", "b.parquet"], "b.parquet is no image: catalogs stand before"),
        (["g=a.fits", "b.fits"], "bands are said of all files, or of none"),
        (["tiles.ecsv"], "--images: got"),
    ],
)
def test_bad_images(calls, tmp_path, capsys, images, message):
    arguments = ["spin", "a.parquet", "-o", tmp_path / "o", "--images", *images]
    assert run("run", *arguments) == 2 and not calls
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["weigh"], "operation: got 'weigh'"),
        (["sample_stars", "--set", "radius=3"], "unknown to sample_stars"),
        (["sample_stars", "--model", "missing"], "missing"),
    ],
)
def test_bad_runs(galaxies, tmp_path, capsys, arguments, message):
    operation, *options = arguments
    output = tmp_path / "out"
    assert run("run", operation, galaxies, "-o", output, "--quiet", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("galml: error: ") and message in error


def test_foreign_folders_and_other_runs_are_refused(galaxies, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("mine")
    arguments = ["run", "sample_stars", galaxies, "-o", output, *STARS]
    assert run(*arguments) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]
    (output / "thesis.tex").unlink()
    assert run(*arguments) == 0
    assert run(*arguments, "--set", "n=51") == 2
    assert "other options" in capsys.readouterr().err
    assert len(catalogs.read(output)) == 8 * 50


def test_failures_are_told(tiles, tmp_path, capsys, monkeypatch):
    catalog, files = tiles
    table = QTable.read(catalog)
    table["ra"][[0, 3]] = [np.nan, 40] * u.deg
    table.write(catalog, overwrite=True)
    monkeypatch.setattr(survey, "TOLD", 1)
    output = tmp_path / "out"
    arguments = ["run", "spin", catalog, "-o", output, "--images", *files]
    for _ in range(2):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        told = error.splitlines()[-4:]
        assert told[0].startswith("galml: 2 of 4 rows have no result: ")
        assert told[1].startswith("  row 0: ") and told[2] == "  and 1 more"
    before = "1 of the partitions from before"
    assert told[3].startswith(f"galml: 4 rows in 1 partition, {before}, 2 failed")
    assert np.isfinite(catalogs.read(output)["spin"][1:3]).all()


def test_without_dask(galaxies, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    arguments = ["run", "sample_stars", galaxies, "-o", tmp_path / "out"]
    assert run(*arguments, "--scheduler", "local", "--quiet") == 2
    assert "pip install 'galml[distributed]'" in capsys.readouterr().err


def test_interrupted_run_goes_on(galaxies, tmp_path, interruptible):
    output = tmp_path / "out"
    arguments = ["run", "sample_stars", galaxies, "-o", output, "--partition-size", 1]
    arguments += ["--set", "n=50000", "--set", "components=x", "--scheduler", "none"]
    command = [sys.executable, "-m", "galml", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 300
    while not list(output.glob("part-*")) and time.monotonic() < limit:
        assert process.poll() is None, "ended before it was interrupted"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130 and error.endswith("galml: interrupted\n")
    done = len(list(output.glob("part-*")))
    assert 1 <= done < 8
    assert run(*arguments, "--quiet") == 0
    assert len(catalogs.read(output)) == 8 * 50_000
