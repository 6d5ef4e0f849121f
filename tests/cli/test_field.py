# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import shutil
import types

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from matplotlib.figure import Figure

import galml
from galml import cli
from galml.cli import field
from galml.core import InputSpec

SCALE = 0.4
PLACES = ((60.0, 70.0), (150.0, 120.0), (90.0, 160.0))
NAMES = ("first", "second", "third")


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def wcs():
    result = WCS(naxis=2)
    result.wcs.ctype = "RA---TAN", "DEC--TAN"
    result.wcs.cdelt = -SCALE / 3600, SCALE / 3600
    result.wcs.crpix = 100, 100
    result.wcs.crval = 150, 2
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory, wcs):
    """Three round galaxies in g, r and i."""
    folder = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(0)
    y, x = np.indices((200, 200))
    paths = []
    for band, factor in zip("gri", (0.5, 1.0, 1.4), strict=True):
        image = rng.normal(0, 0.5, (200, 200))
        for x0, y0 in PLACES:
            image += 100 * factor * np.exp(-np.hypot(x - x0, y - y0) / 4)
        header = wcs.to_header()
        header["BUNIT"] = "nJy"
        paths.append(str(folder / f"field_{band}.fits"))
        fits.writeto(paths[-1], image.astype(np.float32), header)
    return paths


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, wcs):
    sky = wcs.pixel_to_world(*np.transpose(PLACES))
    table = QTable({"name": NAMES, "ra": sky.ra, "dec": sky.dec})
    table["r_eff"] = 6.7 * SCALE * u.arcsec
    path = tmp_path_factory.mktemp("catalog") / "cat.ecsv"
    table.write(path)
    return path


@pytest.fixture
def spin(monkeypatch):
    """The operation, replaced by one that notes what it is given."""
    calls = []

    def fake(stack, **keywords):
        calls.append((stack, keywords))
        bright = np.nanmax(stack.data[:, 1].value, axis=(1, 2))
        table = QTable({"spin": bright, "flags": np.zeros(len(stack), int)})
        if any(stack.names):
            table.add_column(np.array(stack.names), name="name", index=0)
        return table

    spec = InputSpec(
        grid=(48, 48),
        half_width=2 * np.sqrt(2),
        width_unit="r_eff",
        parameters={"wide_cells": 72},
    )
    model = types.SimpleNamespace(name="m", sha256="s", input_spec=spec)
    monkeypatch.setitem(vars(galml), "spin", fake)
    monkeypatch.setitem(vars(galml), "load_model", lambda *args, **options: model)
    return calls


def test_galaxies_of_a_catalog(spin, files, catalog, tmp_path):
    output = tmp_path / "spins.ecsv"
    options = ["--catalog", catalog, "-o", output, "--chunk", 2, "--quiet"]
    assert (
        run(
            "spin",
            *files,
            *options,
            "--seed",
            3,
            "--psf-fwhm",
            "1.3arcsec,1.2arcsec,1.1arcsec",
        )
        == 0
    )
    assert [len(stack) for stack, _ in spin] == [2, 1]
    stack, keywords = spin[0]
    assert stack.bands == ("g", "r", "i") and stack.data.unit == u.nJy
    assert stack.data.shape[-1] * stack.pixel_scale[0].value == pytest.approx(
        6 * np.sqrt(2) * 6.7 * SCALE
    )
    widths = stack.psf_fwhm[0].to_value(u.arcsec)
    np.testing.assert_allclose(widths, [1.3, 1.2, 1.1], rtol=0.02)
    assert keywords["seed"] == 3 and keywords["model"].name == "m"
    table = QTable.read(output)
    assert table["name"].tolist() == list(NAMES)
    assert table["row"].tolist() == [1, 2, 3]
    sky = QTable.read(catalog)
    middle = (stack.data.shape[-1] - 1) / 2
    found = [w.pixel_to_world(middle, middle) for part, _ in spin for w in part.wcs]
    for one, ra, dec in zip(found, sky["ra"], sky["dec"], strict=True):
        assert one.separation(SkyCoord(ra, dec)) < 0.01 * u.arcsec
    assert list(tmp_path.iterdir()) == [output]


def test_galaxies_are_detected(spin, files, tmp_path):
    output = tmp_path / "spins.ecsv"
    assert run("spin", *files, "-o", output, "--quiet") == 0
    table = QTable.read(output)
    assert len(table) == 3
    assert table["name"].tolist() == ["1", "2", "3"]


def test_interrupted_run_goes_on(spin, files, catalog, tmp_path, monkeypatch):
    output = tmp_path / "spins.ecsv"
    options = ["--catalog", catalog, "-o", output, "--chunk", 1, "--quiet"]
    working, done = galml.spin, []

    def breaking(stack, **keywords):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(stack))
        return working(stack, **keywords)

    monkeypatch.setitem(vars(galml), "spin", breaking)
    assert run("spin", *files, *options) == 130
    monkeypatch.setitem(vars(galml), "spin", working)
    spin.clear()
    assert run("spin", *files, *options) == 0
    assert [stack.names for stack, _ in spin] == [["third"]]
    assert QTable.read(output)["name"].tolist() == list(NAMES)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--bands", "g,r"], "--bands: got 2 for 3 files"),
        (["--bands", "g,r,r"], "a band is there twice"),
        (["--psf-fwhm", "1.2arcsec"], "--psf-fwhm: got 1 for 3 files"),
        (["--catalog", "missing.ecsv"], "missing.ecsv"),
    ],
)
def test_bad_commands(spin, files, tmp_path, capsys, options, message):
    assert run("spin", *files, "-o", tmp_path / "a.ecsv", "--quiet", *options) == 2
    assert message in capsys.readouterr().err


def test_widths_have_units(spin, files, capsys):
    """As where they are passed from Python: nobody knows pixels from arcsec."""
    with pytest.raises(SystemExit) as error:
        run("spin", *files, "--psf-fwhm", "1.3arcsec,1.2,3pix")
    assert error.value.code == 2
    assert "got '1.2', expected a width with its unit" in capsys.readouterr().err


def test_figures(spin, files, catalog, tmp_path, monkeypatch):
    drawn = []

    def plot_galaxy(image, row):
        drawn.append(image.meta["OBJECT"])
        return Figure()

    def plot_table(table):
        drawn.append(len(table))
        return Figure()

    fake = types.SimpleNamespace(plot_galaxy=plot_galaxy, plot_table=plot_table)
    monkeypatch.setattr(field, "plots_of", lambda args: fake)
    folder = tmp_path / "figures"
    options = ["--catalog", catalog, "--figures", folder, "--quiet"]
    assert run("spin", *files, "-o", tmp_path / "a.ecsv", *options) == 0
    assert drawn == [*NAMES, 3]
    names = {f"{name}.png" for name in NAMES} | {"spin.png"}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("change", ["order", "values", "image"])
def test_rows_of_other_galaxies_are_never_taken_up(
    spin, files, catalog, tmp_path, monkeypatch, capsys, change
):
    """The journal knows the catalog by its content, and images by what they are."""
    output, own = tmp_path / "spins.ecsv", tmp_path / "catalog.ecsv"
    own.write_bytes(catalog.read_bytes())
    copies = [shutil.copy(file, tmp_path) for file in files]
    options = ["--catalog", own, "-o", output, "--chunk", 1, "--quiet"]
    working = galml.spin

    def breaking(stack, **keywords):
        if spin:
            raise KeyboardInterrupt
        return working(stack, **keywords)

    monkeypatch.setitem(vars(galml), "spin", breaking)
    assert run("spin", *copies, *options) == 130
    monkeypatch.setitem(vars(galml), "spin", working)
    stamp = own.stat()
    table = QTable.read(own)
    if change == "image":
        os.utime(copies[0], (1, 1))
    elif change == "order":
        table[::-1].write(own, overwrite=True)
    else:
        table["r_eff"] *= 1.1
        table.write(own, overwrite=True)
    os.utime(own, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert run("spin", *copies, *options) == 2
    assert "interrupted run with other options" in capsys.readouterr().err
    assert run("spin", *copies, *options, "--overwrite") == 0
    names = list(NAMES)[::-1] if change == "order" else list(NAMES)
    assert QTable.read(output)["name"].tolist() == names


def test_pictures_are_one_galaxy_each(tmp_path):
    image = pytest.importorskip("PIL.Image")
    y, x = np.indices((96, 96)) - 47.5
    light = 200 * np.exp(-np.hypot(x, y / 0.6) / 8)
    colors = np.stack([light, 0.8 * light, 0.6 * light], axis=-1).astype(np.uint8)
    pictures = [tmp_path / "a.jpg", tmp_path / "b.png"]
    for picture in pictures:
        image.fromarray(colors).save(picture)
    output = tmp_path / "spins.ecsv"
    known = ["--pixel-scale", "0.396arcsec", "--r-eff", "5arcsec,13pix"]
    known += ["--psf-fwhm", "1.3arcsec"]
    assert run("spin", *pictures, *known, "-o", output, "--quiet") == 0
    table = QTable.read(output)
    expected = galml.spin(
        [str(picture) for picture in pictures],
        pixel_scale=0.396 * u.arcsec,
        r_eff=[5 * u.arcsec, 13 * u.pix],
        psf_fwhm=1.3 * u.arcsec,
    )
    assert table["name"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["spin"], expected["spin"], rtol=1e-5)


@pytest.fixture
def cube(tmp_path):
    """One galaxy in three bands, which the header does not name."""
    y, x = np.indices((96, 96)) - 47.5
    light = np.exp(-np.hypot(x, y / 0.6) / 8)
    path = tmp_path / "cube.fits"
    header = fits.Header({"BUNIT": "nJy", "PIXSCALE": 0.3})
    fits.writeto(path, np.stack([0.6 * light, 0.8 * light, light]), header)
    return path


@pytest.mark.parametrize(
    ("command", "column"),
    [
        ("spin", "spin"),
        ("merger", "merger_probability"),
        ("contamination", "contamination"),
        ("latents", "latent"),
    ],
)
def test_bands_of_cubes(cube, tmp_path, command, column):
    output = tmp_path / "found.ecsv"
    assert run(command, cube, "--bands", "g,r,i", "-o", output, "--quiet") == 0
    found = QTable.read(output)
    function = getattr(galml, command)
    seed = {} if command == "latents" else {"seed": 0}
    expected = function(str(cube), bands=("g", "r", "i"), **seed)
    np.testing.assert_allclose(found[column], expected[column], rtol=1e-5)


def test_cubes_are_one_galaxy_each(cube, tmp_path, capsys):
    assert run("spin", cube, "--quiet") == 2
    told = capsys.readouterr().err
    assert "no names of 3 bands" in told and "hint: --bands" in told
    flat = tmp_path / "flat.fits"
    fits.writeto(flat, np.ones((1, 8, 8)))
    assert run("spin", cube, flat, "--bands", "g,r,i", "--quiet") == 2
    assert "cubes have no place in a field" in capsys.readouterr().err
    assert run("spin", cube, "--catalog", "c.ecsv", "--quiet") == 2
    assert "--catalog is for images of a field" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jpg", "g.fits"], "pictures have no place in a field"),
        (["a.jpg", "--catalog", "c.ecsv"], "--catalog is for images of a field"),
        (["a.jpg", "--bands", "g"], "--bands is for images of a field"),
        (["g.fits", "--r-eff", "3"], "--r-eff is for pictures and cubes"),
    ],
)
def test_pictures_and_fields_are_not_mixed(capsys, arguments, message):
    assert run("spin", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["Once upon a time\n", "", b"\x00\xff" * 50, None])
def test_catalog_that_is_none(spin, files, tmp_path, capsys, content):
    path = tmp_path / "catalog.ecsv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("spin", *files, "--catalog", path, "--quiet") == 2
    error = capsys.readouterr().err
    assert error.startswith("galml: error: --catalog") and "catalog.ecsv" in error


def test_folders_and_missing_files_are_told_alike(tmp_path, capsys):
    for path, told in ((tmp_path, "Is a directory"), (tmp_path / "none.fits", "there")):
        output = tmp_path / "spins.ecsv"
        assert cli.main(["spin", str(path), "-o", str(output)]) == 2
        assert f"FILE: got {path}" in (error := capsys.readouterr().err)
        assert told in error and "Errno" not in error
