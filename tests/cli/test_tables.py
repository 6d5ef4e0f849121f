# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands with one table in and one row for each galaxy out."""

import builtins

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import galml
from galml import cli
from galml.morphology.classification import CLASSIFIERS, PRIORS
from galml.morphology.projection import METHODS


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    latent = random.normal(size=(90, 6))
    kind = np.arange(90) % 2
    latent[:, 0] += 6.0 * kind
    latent[42] += 8.0
    table = QTable({"name": [f"J{1000 + row}" for row in range(90)]})
    table["latent"] = latent
    table["class"] = np.where(np.arange(90) < 60, np.choose(kind, ["E", "S"]), "")
    table["rating"] = np.where(np.arange(90) < 5, 0.2 * np.arange(90), np.nan)
    return table


@pytest.fixture
def latents(table, tmp_path):
    path = tmp_path / "latents.ecsv"
    table.write(path)
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_outliers(latents, table, tmp_path, capsys):
    output = tmp_path / "outliers.ecsv"
    assert run("outliers", latents, "-o", output) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "galml: 90 rows, 0 failed" in captured.err
    found, expected = QTable.read(output), galml.outliers(table)
    assert found.colnames == expected.colnames
    assert_array_equal(found["name"], table["name"])
    assert_allclose(found["outlier_score"], expected["outlier_score"])
    assert found["rank"][42] == 1
    assert not output.with_name("outliers.ecsv.part").exists()
    assert run("outliers", latents, "-o", output) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_outliers_by_class_rating_and_reference(latents, table, tmp_path):
    output = tmp_path / "outliers.fits"
    options = ["-o", output, "--overwrite", "--quiet"]
    assert run("outliers", latents, *options, "--by", "class") == 1
    found = QTable.read(output)
    assert (found["flags"] & 1).sum() == 30
    assert run("outliers", latents, *options, "--ratings", "rating") == 0
    found = QTable.read(output)
    expected = galml.outliers(table, ratings=np.asarray(table["rating"]))
    assert_allclose(found["interest"], expected["interest"])
    ordinary = tmp_path / "ordinary.fits"
    QTable({"latent": table["latent"][:40]}).write(ordinary)
    assert run("outliers", latents, *options, "--reference", ordinary) == 0
    expected = galml.outliers(table, reference=table[:40])
    assert_allclose(QTable.read(output)["outlier_score"], expected["outlier_score"])


def test_project(latents, table, capsys):
    assert run("project", latents, "--quiet") == 0
    found = QTable.read(capsys.readouterr().out, format="ascii.ecsv")
    assert_allclose(found["projection"], galml.project(table)["projection"])


def test_similar(latents, table, tmp_path, capsys):
    output = tmp_path / "similar.ecsv"
    options = ["--query", "J1042,J1003", "-k", 3, "-o", output]
    assert run("similar", latents, *options) == 0
    found = QTable.read(output)
    expected = galml.similar(table, ["J1042", "J1003"], 3)
    assert_array_equal(found["neighbor_name"], expected["neighbor_name"])
    assert_allclose(found["distance"], expected["distance"])
    assert "similar: 100%" in capsys.readouterr().err
    table["latent"][3] = np.nan
    table.write(latents, overwrite=True)
    assert run("similar", latents, *options, "--overwrite", "--quiet") == 1
    assert "1 of 2 failed:\n  J1003: query: got no" in capsys.readouterr().err


def test_merger_fraction(tmp_path, capsys):
    path, output = tmp_path / "mergers.ecsv", tmp_path / "fractions.ecsv"
    table = QTable({"merger_probability": np.linspace(0.1, 0.8, 8)})
    table["filter"] = np.repeat(["F160W", "F814W"], 4)
    table.meta["PREVALEN"] = 0.5
    table.write(path)
    assert run("merger-fraction", path, "--timescale", "0.5Gyr,0.1Gyr") == 0
    captured = capsys.readouterr()
    found = QTable.read(captured.out, format="ascii.ecsv")
    time = [0.5, 0.1] * u.Gyr
    expected = galml.mergers.fraction(table, timescale=time)
    assert_allclose(found["rate"], expected["rate"])
    assert "1 row, 0 failed" in captured.err
    options = ["--by", "filter", "--prior", "1,1", "-o", output]
    assert run("merger-fraction", path, *options) == 0
    expected = galml.mergers.fraction(table, (1, 1), by="filter")
    assert_allclose(QTable.read(output)["fraction"], expected["fraction"])
    table["merger_probability"][4:] = np.nan
    table.write(path, overwrite=True)
    assert run("merger-fraction", path, *options, "--overwrite") == 1
    told = "1 of 2 failed:\n  sample 2: table: got no probability for filter F814W"
    assert told in capsys.readouterr().err


def test_explore(table, tmp_path, capsys):
    pytest.importorskip("bokeh")
    files = [str(tmp_path / f"{row}.png") for row in range(5)]
    for row, file in enumerate(files):
        Image.new("RGB", (24, 24), (40 * row, 20, 60)).save(file)
    table = table[:5]
    table.write(tmp_path / "bare.ecsv")
    table["file"] = files
    table.write(tmp_path / "latents.ecsv")
    page = tmp_path / "page.html"
    command = ["explore", tmp_path / "latents.ecsv", "-o", page]
    assert run(*command, "--columns", "rating,name", "--color", "class") == 0
    assert capsys.readouterr().err.startswith(f"galml: {page}, ")
    told = page.read_text()
    assert "J1003" in told and "data:image/png" in told
    assert run(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    command[1] = tmp_path / "bare.ecsv"
    assert run(*command, "--overwrite") == 2
    assert "--cutouts" in capsys.readouterr().err
    patterns = ["--cutouts", str(tmp_path / "[0-3].png"), "--cutouts", files[4]]
    assert run(*command, "--overwrite", "--quiet", *patterns) == 0
    assert run(*command, "--overwrite", *patterns[:2]) == 2
    assert "cutouts: got 4" in capsys.readouterr().err


def test_classify(latents, table, tmp_path):
    pytest.importorskip("sklearn")
    output = tmp_path / "classes.ecsv"
    assert run("classify", latents, "--labels", "class", "-o", output, "--quiet") == 0
    found = QTable.read(output)
    assert_array_equal(found["label"], galml.classify(table, "class")["label"])
    assert (found["label"][60:] == np.tile(["E", "S"], 15)).mean() > 0.9


def test_galaxies_without_latents_are_named(latents, table, capsys):
    table["latent"][3] = np.nan
    table.write(latents, overwrite=True)
    assert run("project", latents, "--quiet") == 1
    captured = capsys.readouterr()
    assert "galml: 1 of 90 failed:\n  J1003: table: got no latents" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outliers", "--by", "nothing"], "by: got 'nothing'"),
        (["outliers", "--ratings", "nothing"], "ratings: got 'nothing'"),
        (["project", "--n-neighbors", "5"], "n_neighbors: got 5, expected None"),
        (["classify", "--labels", "nothing"], "labels: got 'nothing'"),
        (["similar", "--query", "nothing"], "query: got 0 rows with the name"),
        (["project", "--method", "nothing"], "method: got 'nothing'"),
    ],
)
def test_what_cannot_be_carried_out(latents, arguments, message, capsys):
    command, *options = arguments
    assert run(command, latents, *options, "--quiet") == 2
    assert f"galml: error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--reference", "--chunk", "--model", "--figures"])
def test_options_that_are_not_there(latents, option, capsys):
    with pytest.raises(SystemExit) as exit_:
        run("outliers", latents, option, "nothing.ecsv")
    assert exit_.value.code == 2
    assert "nothing.ecsv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "names"),
    [("classify", CLASSIFIERS), ("classify", PRIORS), ("project", METHODS)],
)
def test_help_names_all_methods(command, names, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    words = capsys.readouterr().out.replace("-\n", "-").split()
    assert set(names) <= {word.strip(",()") for word in words}


def test_what_is_not_installed_is_named(latents, monkeypatch, capsys):
    own = builtins.__import__

    def without(name, *arguments, **options):
        if name.split(".")[0] == "sklearn":
            raise ImportError(name)
        return own(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run("classify", latents, "--labels", "class") == 2
    assert "error: classify needs scikit-learn: pip install" in capsys.readouterr().err
