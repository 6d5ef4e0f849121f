# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import sys
import types
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from matplotlib.figure import Figure

import galml
from galml import cli
from galml.cli import demo, objects
from galml.cli import output as outputs
from galml.cli.options import FORMATS
from galml.core.exceptions import GalmlWarning, ModelError
from galml.core.flags import Flag


class Fake:
    """Stands in for an operation: the value of a galaxy is the length of its file."""

    def __init__(self):
        self.calls = []
        self.stop_after = None

    def __call__(self, files, **keywords):
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((list(files), keywords))
        sizes = [os.path.getsize(file) for file in files]
        empty = np.array(sizes) == 0
        if empty.any():
            warnings.warn("a batch had failures", GalmlWarning, stacklevel=2)
        return QTable(
            {
                "name": ["NGC 1" if size == 1 else "" for size in sizes],
                "circularity": np.where(empty, np.nan, sizes),
                "position_angle": sizes * u.deg,
                "latent": np.ones((len(files), 3)),
                "flags": np.where(empty, int(Flag.FAILED | Flag.UNREADABLE), 0),
            },
            meta={"MODEL": keywords["model"].name},
        )

    @property
    def files(self):
        return [file for files, _ in self.calls for file in files]


@pytest.fixture
def operation(monkeypatch):
    def load_model(model, operation=None):
        if model == "unknown":
            raise ModelError("no model is called 'unknown'")
        return types.SimpleNamespace(name=model, sha256=f"sha of {model}")

    fake = Fake()
    monkeypatch.setitem(vars(galml), "circularity", fake)
    monkeypatch.setitem(vars(galml), "load_model", load_model)
    return fake


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"map_{size}.fits" for size in range(1, 6)]
    for size, path in enumerate(paths, start=1):
        path.write_bytes(b" " * size)
    return [str(path) for path in paths]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.ecsv"


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".vot", ".xml", ".parquet"])
def test_formats(operation, files, tmp_path, suffix):
    output = tmp_path / f"results{suffix}"
    assert run("circularity", *files, "-o", output, "--chunk", 2) == 0
    table = QTable.read(output, format=FORMATS[suffix])
    assert list(table["file"]) == files
    assert list(table["name"]) == ["NGC 1", "map_2", "map_3", "map_4", "map_5"]
    assert list(table["circularity"]) == [1, 2, 3, 4, 5]
    assert table["position_angle"].unit == u.deg
    assert table["latent"].shape == (5, 3)
    assert [len(chunk) for chunk, _ in operation.calls] == [2, 2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [output.name, *(Path(file).name for file in files)]
    )


def test_format_overrides_suffix(operation, files, output):
    assert run("circularity", *files, "-o", output, "--format", "fits") == 0
    assert len(QTable.read(output, format="fits")) == 5


def test_keywords(operation, files, output):
    options = "--model mine --device cpu --hdu 2 --n-samples 7 --seed 3 --redshift 0.1"
    arguments = [*files[:1], "-o", output, *options.split(), "--unit", "m/s"]
    assert run("circularity", *arguments) == 0
    keywords = operation.calls[0][1]
    assert keywords.pop("model").name == "mine"
    assert keywords == {
        "device": "cpu",
        "hdu": 2,
        "n_samples": 7,
        "seed": 3,
        "unit": "m/s",
        "redshift": 0.1,
    }
    assert run("circularity", files[0], "--hdu", "STELLAR_VEL") == 0
    assert operation.calls[1][1]["hdu"] == "STELLAR_VEL"


def test_dispersion_goes_with_its_map(operation, files, output):
    arguments = [*files[:3], "--dispersion", *files[2:], "-o", output]
    assert run("circularity", *arguments, "--chunk", 2) == 0
    partners = [keywords["dispersion"] for _, keywords in operation.calls]
    assert partners == [files[2:4], files[4:]]
    assert list(QTable.read(output)["dispersion_file"]) == files[2:]


def test_values_for_each_galaxy(operation, files, output, capsys):
    arguments = [*files, "-o", output, "--chunk", 2, "--redshift", 1, 2, 3, 4, 5]
    operation.stop_after = 2
    assert run("circularity", *arguments) == 130
    assert [words["redshift"] for _, words in operation.calls] == [[1, 2], [3, 4]]
    operation.stop_after = None
    assert run("circularity", *arguments[:-1], 6) == 2
    assert run("circularity", *arguments) == 0
    assert operation.calls[-1][1]["redshift"] == [5]
    assert run("circularity", *files, "--redshift", 1, 2) == 2
    assert "--redshift: got 2 values for 5 galaxies" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [("merger", "field", "UDS"), ("contamination", "limit", 0.2)],
)
def test_images_of_one_galaxy_each(
    operation, files, output, monkeypatch, command, option, value
):
    monkeypatch.setitem(vars(galml), command, operation)
    known = ["--filter", "F160W", "--pixel-scale", "0.06arcsec", f"--{option}", value]
    known += ["--psf-fwhm", "3pix", "0.18arcsec"]
    assert run(command, *files[:2], "-o", output, *known) == 0
    ((names, keywords),) = operation.calls
    assert names == files[:2]
    assert keywords.pop("model").name == "default"
    assert keywords == {
        "device": "auto",
        "n_samples": 50,
        "seed": 0,
        "filter": "F160W",
        "pixel_scale": 0.06 * u.arcsec,
        "psf_fwhm": [3 * u.pix, 0.18 * u.arcsec],
        option: value,
    }
    assert list(QTable.read(output)["file"]) == files[:2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 2),
        ("VEL", "VEL"),
        ("EMLINE:23", ("EMLINE", 23)),
        ("1:2", (1, 2)),
        ("velocity=VEL,flux=1", {"velocity": "VEL", "flux": 1}),
    ],
)
def test_extensions(operation, files, text, expected):
    assert run("circularity", files[0], "--hdu", text) == 0
    assert operation.calls[0][1]["hdu"] == expected


def test_standard_output(operation, files, capsys, monkeypatch):
    assert run("circularity", *files) == 0
    captured = capsys.readouterr()
    table = QTable.read(captured.out, format="ascii.ecsv")
    assert list(table["circularity"]) == [1, 2, 3, 4, 5]
    assert "5/5" in captured.err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("circularity", *files, "--quiet") == 0
    captured = capsys.readouterr()
    assert "map_5" in captured.out
    assert "latent" not in captured.out
    assert captured.err == ""


def test_failures_are_rows(operation, files, output, capsys):
    Path(files[1]).write_bytes(b"")
    assert run("circularity", *files, "-o", output) == 1
    table = QTable.read(output)
    assert np.isnan(table["circularity"][1])
    assert table["name"][1] == "map_2"
    error = capsys.readouterr().err
    assert "galml: a batch had failures\n" in error
    assert "1 of 5 failed" in error
    assert files[1] in error


def test_resume(operation, files, output):
    operation.stop_after = 2
    assert run("circularity", *files, "-o", output, "--chunk", 2) == 130
    assert not output.exists()
    operation.stop_after = None
    # The order of the arguments may change, and files may join or leave.
    arguments = [files[4], *files[1:4], "-o", output]
    assert run("circularity", *arguments, "--chunk", 2) == 0
    assert operation.files == files
    table = QTable.read(output)
    assert list(table["circularity"]) == [5, 2, 3, 4]
    assert table.meta["MODEL"] == "default"
    assert not output.with_name("results.ecsv.part").exists()


def test_resume_computes_changed_files_again(operation, files, output):
    operation.stop_after = 1
    run("circularity", *files, "-o", output, "--chunk", 3)
    Path(files[0]).write_bytes(b" " * 10)
    later = os.path.getmtime(files[0]) + 10
    os.utime(files[0], (later, later))
    operation.stop_after = None
    assert run("circularity", *files, "-o", output, "--chunk", 3) == 0
    assert operation.calls[1][0] == [files[0], *files[3:]]
    assert list(QTable.read(output)["circularity"]) == [10, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "options", [["--model", "other"], ["--redshift", "0.1"], ["--dispersion"]]
)
def test_other_run_is_not_resumed(operation, files, output, capsys, options):
    if options == ["--dispersion"]:
        options = [*options, *files]
    operation.stop_after = 1
    run("circularity", *files, "-o", output, "--chunk", 2)
    operation.stop_after = None
    arguments = [*files, "-o", output, *options]
    assert run("circularity", *arguments) == 2
    assert "interrupted run with other options" in capsys.readouterr().err
    assert run("circularity", *arguments, "--overwrite") == 0
    assert operation.calls[-1][0] == files


def test_existing_output(operation, files, output, capsys):
    output.write_text("precious")
    assert run("circularity", *files, "-o", output) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert operation.calls == []
    assert run("circularity", *files, "-o", output, "--overwrite") == 0
    assert len(QTable.read(output)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "results.txt"], "the suffix is none of"),
        (["-o", "nowhere/results.ecsv"], "nowhere is not a folder"),
        (["--format", "fits"], "needs a file"),
        (["--dispersion", "a.fits"], "got 1 files for 5 galaxies"),
        (["--model", "unknown"], "no model is called"),
    ],
)
def test_usage_errors(
    operation, files, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    assert run("circularity", *files, *options) == 2
    assert message in capsys.readouterr().err
    assert operation.calls == []


def test_file_given_twice(operation, files, capsys):
    assert run("circularity", *files, files[0]) == 2
    assert "given twice" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["circularity"], ["nothing"]])
def test_parser_errors(arguments):
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2


def test_chunk_is_positive(files, capsys):
    with pytest.raises(SystemExit):
        run("circularity", *files, "--chunk", 0)
    assert "0 is not positive" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        run("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"galml {galml.__version__}\n"


@pytest.fixture
def plots(monkeypatch):
    drawn = []

    def plot_galaxy(velocity_map, row, **options):
        drawn.append((velocity_map, row["name"], options))
        return Figure()

    def plot_table(table):
        drawn.append(len(table))
        return Figure()

    fake = types.SimpleNamespace(plot_galaxy=plot_galaxy, plot_table=plot_table)
    monkeypatch.setattr(objects, "plots_of", lambda args: fake)
    return drawn


def test_figures(operation, plots, files, tmp_path, capsys):
    Path(files[1]).write_bytes(b"")
    folder = tmp_path / "some" / "figures"
    arguments = [*files[:3], "--figures", folder, "--hdu", 1, "--unit", "m/s"]
    arguments += ["--redshift", 0.1, 0.2, 0.3, "--dispersion", *files[2:]]
    assert run("circularity", *arguments) == 1
    same = {"hdu": 1, "unit": "m/s"}
    assert plots == [
        (files[0], "NGC 1", same | {"redshift": 0.1, "dispersion": files[2]}),
        (files[2], "map_3", same | {"redshift": 0.3, "dispersion": files[4]}),
        3,
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        "circularity.png",
        "map_1.png",
        "map_3.png",
    ]


def test_figures_of_equal_names(operation, plots, files, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "map_1.fits"
    twin.write_bytes(b" ")
    folder = tmp_path / "figures"
    assert run("circularity", files[0], twin, "--figures", folder) == 0
    assert (folder / "000000_map_1.png").exists()
    assert (folder / "000001_map_1.png").exists()


def test_figures_need_matplotlib(operation, files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outputs, "find_spec", lambda name: None)
    assert run("circularity", *files, "--figures", tmp_path) == 2
    assert "galml[all]" in capsys.readouterr().err


def test_demo(operation, plots, files, tmp_path, monkeypatch, capsys):
    examples = tmp_path / "examples"
    examples.mkdir()
    for file in files:
        Path(file).rename(examples / Path(file).name.replace("map_", "mock-"))
    table = QTable.read(demo.EXAMPLES / "galaxies.ecsv")[:2]
    table.write(examples / "galaxies.ecsv")
    monkeypatch.setattr(demo, "EXAMPLES", examples)
    folder = tmp_path / "demo"
    for _ in range(2):
        assert run("demo", "-o", folder) == 0
        printed = capsys.readouterr().out
        assert "mock-5" in printed
        assert str(folder / "circularity.ecsv") in printed
        assert len(QTable.read(folder / "circularity.ecsv")) == 5
        assert len(list((folder / "circularity").glob("*.png"))) == 6
        assert len(QTable.read(folder / "stars.fits")) == 20_000
        assert {f.stem for f in (folder / "stars").iterdir()} == {"dwarf", "spiral"}


def test_models(monkeypatch, capsys):
    table = QTable({"name": ["the model"], "size": [1] * u.kB})
    monkeypatch.setitem(vars(galml), "list_models", lambda: table)
    assert run("models") == 0
    assert "the model" in capsys.readouterr().out
