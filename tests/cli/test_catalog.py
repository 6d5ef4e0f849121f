# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

import galml
from galml import cli


@pytest.fixture
def conditions(tmp_path):
    table = QTable(
        {
            "galaxy_id": ["dwarf", "spiral"],
            "stellar_mass": [1e9, 5e10] * u.Msun,
            "median_age": [4.0, 6.0] * u.Gyr,
            "age_percentile_10": [1.0, 2.0] * u.Gyr,
            "metallicity": [-1.0, -0.1] * u.dex,
            "wanted": [3, 4],
        }
    )
    path = tmp_path / "galaxies.ecsv"
    table.write(path)
    return path


@pytest.fixture
def weights(tmp_path):
    """A flow that nobody trained."""
    from galml.core.model import GalaxyModel
    from galml.physics import CONDITIONS, STAR_AXES
    from galml.stars.network import StarFlow

    options = {"layers": 1, "width": 8, "embedding": 4}
    model = GalaxyModel(
        StarFlow(**options),
        operation="stars",
        architecture="coupling",
        options=options,
        config={
            "axes": [
                {"name": name, "unit": unit.to_string()}
                for name, unit in STAR_AXES.items()
            ],
            "conditions": [{"name": n, "lo": -99, "hi": 99} for n in CONDITIONS],
        },
        card={},
    )
    path = tmp_path / "flow.safetensors"
    model.save(path)
    return path


def run(*arguments):
    return cli.main(["stars", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv"])
def test_formats(conditions, weights, tmp_path, suffix, capsys):
    output = tmp_path / f"stars{suffix}"
    options = ["-n", "1e2", "-o", output, "--model", weights, "--seed", 4]
    assert run(conditions, *options, "--chunk", 64) == 0
    captured = capsys.readouterr()
    assert "200/200" in captured.err
    assert captured.out == ""
    stars = QTable.read(output)
    expected = galml.sample_stars(
        QTable.read(conditions), 100, seed=4, model=weights, device="cpu"
    )
    assert stars.colnames == expected.colnames
    assert (stars["x"] == expected["x"]).all()
    assert stars["v_x"].unit == u.km / u.s
    assert stars.meta["SEED"] == 4


@pytest.mark.parametrize(
    ("n", "expected"), [("wanted", 7), ("1e10 solMass", 6), ("5", 10)]
)
def test_numbers_of_stars(conditions, weights, tmp_path, n, expected):
    output = tmp_path / "stars.ecsv"
    options = ["-n", n, "-o", output, "--model", weights, "--quiet"]
    assert run(conditions, *options, "--components", "age,x") == 0
    stars = QTable.read(output)
    assert len(stars) == expected
    assert stars.colnames == ["galaxy_id", "age", "x", "mass", "flags"]


def test_standard_output(conditions, weights, capsys, monkeypatch):
    options = ["-n", "2", "--model", weights, "--quiet"]
    assert run(conditions, *options) == 0
    captured = capsys.readouterr()
    assert len(QTable.read(captured.out, format="ascii.ecsv")) == 4
    assert captured.err == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(conditions, *options) == 0
    assert "spiral" in capsys.readouterr().out


def test_failed_galaxy(conditions, weights, tmp_path, capsys):
    table = QTable.read(conditions)
    table["stellar_mass"][0] = np.nan
    table.write(conditions, overwrite=True)
    output = tmp_path / "stars.ecsv"
    options = ["-n", "2", "-o", output, "--model", weights, "--quiet"]
    assert run(conditions, *options) == 1
    error = capsys.readouterr().err
    assert "galml: 1 of 2 failed:\n  dwarf: conditions" in error
    assert QTable.read(output)["galaxy_id"].tolist() == ["dwarf", "spiral", "spiral"]


def test_existing_output(conditions, weights, tmp_path, capsys):
    output = tmp_path / "stars.ecsv"
    output.write_text("precious")
    options = ["-n", "2", "-o", output, "--model", weights, "--quiet"]
    assert run(conditions, *options) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert run(conditions, *options, "--overwrite") == 0
    assert len(QTable.read(output)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "stars.txt"], "the suffix is none of"),
        (["-o", "stars.vot"], "the suffix is none of .ecsv .fits .parquet"),
        (["--format", "fits"], "needs a file"),
        (["-n", "nothing"], "the name of a column"),
        (["-n", "2.5"], "whole numbers"),
        (["--components", "w"], "components"),
        (["--model", "unknown"], "no file"),
    ],
)
def test_errors(conditions, weights, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert run(conditions, "--model", weights, "--quiet", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "stars.txt").exists()


def test_bad_tables(conditions, weights, tmp_path, capsys):
    for name, content in (("a.ecsv", "nothing"), ("b.what", "x"), ("c.csv", "a\n1\n")):
        (tmp_path / name).write_text(content)
        assert run(tmp_path / name, "--model", weights) == 2
        assert "galml: error:" in capsys.readouterr().err
    assert run(tmp_path / "missing.ecsv", "--model", weights) == 2
    assert "missing.ecsv" in capsys.readouterr().err
