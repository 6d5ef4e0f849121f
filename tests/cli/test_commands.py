# Licensed under a 3-clause BSD style license - see LICENSE.rst
import argparse
import inspect
import subprocess
import sys
from importlib import import_module

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import galml
from galml import cli
from galml.core.domain import Command, Operation, find_object
from galml.registry import OPERATIONS


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command", [row.command for row in OPERATIONS if row.command], ids=lambda c: c.name
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(command.name, "--help")
    assert exit_.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    output = "PAGE" if command.kind == "page" else "TABLE"
    expected = [command.summary, command.files, f"--output {output}"]
    expected += [] if "seed" in command.lacks else ["--seed SEED"]
    for text in expected:
        assert text in words
    for name in (*command.options, *command.paired):
        assert f"-{name.replace('_', '-')} " in words


#: What no operation knows of.
OF_COMMANDS = {"help", "files", "catalog", "output", "format", "overwrite"}
OF_COMMANDS |= {"figures", "chunk", "quiet"}


@pytest.mark.parametrize(
    "row", [row for row in OPERATIONS if row.command], ids=lambda row: row.name
)
def test_every_option_is_one_of_the_operation(row):
    parser = argparse.ArgumentParser()
    import_module(f"galml.cli.{row.command.kind}").add_arguments(parser, row)
    options = {action.dest for action in parser._actions} - OF_COMMANDS
    assert options <= set(inspect.signature(find_object(row.function)).parameters)


@pytest.mark.parametrize("command", ["run", "demo", "models"])
def test_other_commands_have_help(command, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    text = capsys.readouterr().out
    assert f"Example: galml {command}" in " ".join(text.split())
    assert "\n\n" in text.partition("usage:")[2].partition("options:")[0]


def test_values_below_zero(maps, tmp_path):
    """They are no options, with or without a sign of equality."""
    found = []
    for center in (["--center", "-5,3"], ["--center=-5,3"], ["--center", "-.5,3"]):
        output = tmp_path / f"{len(found)}.ecsv"
        file = maps["table"][0]
        assert run("lambda-r", file, *center, "-o", output, "--quiet") == 0
        found.append(QTable.read(output)["lambda_r"][0])
    assert found[0] == found[1] != found[2]


def test_maps_of_one_file_without_their_names(tmp_path, capsys):
    path = tmp_path / "maps.fits"
    images = [fits.ImageHDU(np.ones((4, 4)), name=name) for name in ("FLUX", "VEL")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    assert run("lambda-r", path, "--quiet") == 1
    told = capsys.readouterr().err
    assert "hdu: got None" in told and "out of: 1 FLUX, 2 VEL" in told
    assert "flux=A,velocity=B,dispersion=C" in told


def test_help_is_light():
    code = """
import sys
from galml.cli import main
try:
    main(["lambda-r", "--help"])
finally:
    sys.stdout.flush()
    print("numpy" in sys.modules, "astropy" in sys.modules, file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.stderr == "False False\n"


def test_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "galml", "--version"], capture_output=True, text=True
    )
    assert result.stdout == f"galml {galml.__version__}\n"


def test_an_operation_needs_no_more_than_its_row(tmp_path, monkeypatch, capsys):
    def weigh(files, *, hdu=None, scale=1.0, **others):
        assert others == {"n_samples": 0, "seed": 0}
        weights = [fits.getdata(file, hdu or 0).sum() for file in files]
        scales = np.broadcast_to(scale, len(files))
        return QTable({"weight": weights * scales, "flags": np.zeros(len(files), int)})

    command = Command(
        name="weigh-it",
        summary="the weight of galaxies",
        kind="objects",
        files="FITS images",
        options={"scale": {"type": float, "nargs": "+", "help": "of the balance"}},
    )
    row = Operation(name="weigh", function="nowhere:weigh", command=command)
    monkeypatch.setattr(cli, "OPERATIONS", (*OPERATIONS, row))
    monkeypatch.setitem(vars(galml), "weigh", weigh)
    files = [tmp_path / f"{number}.fits" for number in (1, 2)]
    for number, file in enumerate(files, start=1):
        fits.writeto(file, np.full((2, 2), float(number)))
    output = tmp_path / "weights.ecsv"
    assert run("weigh-it", *files, "-o", output, "--scale", "2,3", "--quiet") == 0
    table = QTable.read(output)
    assert table["weight"].tolist() == [8, 24] and table["name"].tolist() == ["1", "2"]
    for option in ("--model", "--device", "--figures"):
        with pytest.raises(SystemExit):
            run("weigh-it", *files, option, "x")


@pytest.fixture
def maps(tmp_path):
    """Two galaxies: files of single maps, files with all maps, tables of spaxels."""
    y, x = np.indices((41, 41)) - 20.0
    flux = np.exp(-np.hypot(x, y / 0.6) / 6)
    folders = {"flux": [], "velocity": [], "dispersion": [], "all": [], "table": []}
    for number, speed in enumerate((60, 150), start=1):
        values = {
            "flux": flux,
            "velocity": speed * np.tanh(x / 5),
            "dispersion": np.full(x.shape, 80.0),
        }
        hdus = [fits.ImageHDU(image, name=name) for name, image in values.items()]
        for hdu in hdus:
            if hdu.name != "FLUX":
                hdu.header["BUNIT"] = "km/s"
            path = tmp_path / f"{hdu.name.lower()}-{number}.fits"
            fits.writeto(path, hdu.data, hdu.header)
            folders[hdu.name.lower()].append(path)
        folders["all"].append(tmp_path / f"all-{number}.fits")
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folders["all"][-1])
        folders["table"].append(tmp_path / f"table-{number}.ecsv")
        columns = {"x": x, "y": y} | values
        table = QTable({name: image.ravel() for name, image in columns.items()})
        table["velocity"] *= u.km / u.s
        table["dispersion"] *= u.km / u.s
        table.write(folders["table"][-1])
    return folders


ELLIPSE = (
    *("--r-eff", "10pix,8pix"),
    *("--ellipticity", 0.4),
    *("--position-angle", "90deg"),
)


@pytest.mark.parametrize("kind", ["flux", "all", "table"])
@pytest.mark.parametrize("centered", [False, True])
def test_measured_spin(maps, tmp_path, kind, centered):
    options = {
        "flux": [
            *("--velocity", tmp_path / "velocity-*.fits"),
            *("--dispersion", tmp_path / "dispersion-*.fits"),
        ],
        "all": ["--hdu", "flux=FLUX,velocity=VELOCITY,dispersion=DISPERSION"],
        "table": [],
    }[kind]
    output = tmp_path / "spins.ecsv"
    if centered:
        # Of a table in its own coordinates.
        options += ["--center", "0,0" if kind == "table" else "20,20"]
    options += ["-o", output, "--chunk", 1, "--quiet"]
    assert run("lambda-r", *options, *ELLIPSE, *maps[kind]) == 0
    table = QTable.read(output)
    expected = galml.lambda_r(
        *(maps[name] for name in ("flux", "velocity", "dispersion")),
        r_eff=[10, 8] * u.pix,
        ellipticity=0.4,
        position_angle=90 * u.deg,
        center=(20, 20) if centered else None,
    )
    np.testing.assert_allclose(table["lambda_r"], expected["lambda_r"], rtol=1e-9)
    assert table["file"].tolist() == [str(path) for path in maps[kind]]
    assert table.meta["OPERATN"] == "lambda_r" and table.meta["SEED"] == 0


def test_shape_that_is_measured(maps, tmp_path):
    output = tmp_path / "spins.ecsv"
    arguments = [*maps["table"], "--r-eff", "10pix", "--ellipticity", "none", "--quiet"]
    assert run("lambda-r", *arguments, "-o", output) == 0
    np.testing.assert_allclose(QTable.read(output)["ellipticity"], 0.4, atol=0.05)


def test_bad_values_are_told(maps, capsys):
    assert run("lambda-r", maps["table"][0], "--r-eff", "big", "--quiet") == 1
    assert "r_eff: got 'big', expected a number or Quantity" in capsys.readouterr().err
