# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import QTable
from matplotlib.figure import Figure

import galml
from galml import cli
from galml.cli import demo, objects
from galml.cli import output as outputs
from galml.cli.journal import STAMP
from galml.cli.options import FORMATS
from galml.core.exceptions import GalmlError, GalmlWarning, ModelError
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


@pytest.mark.parametrize("where", ["file", "stdout"])
def test_votables_keep_where_results_come_from(
    operation, files, tmp_path, capsys, where
):
    output = tmp_path / "results.vot"
    options = ["-o", output] if where == "file" else ["--format", "votable"]
    assert run("circularity", *files, *options, "--quiet") == 0
    if where == "stdout":
        output.write_text(capsys.readouterr().out)
    (resource,) = parse(output).resources
    infos = {info.name: info.value for info in resource.infos}
    assert infos["MODEL"] == "default"


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
    partners = [part for file in files[2:] for part in ("--dispersion", file)]
    arguments = [*files[:3], *partners, "-o", output]
    assert run("circularity", *arguments, "--chunk", 2) == 0
    partners = [keywords["dispersion"] for _, keywords in operation.calls]
    assert partners == [files[2:4], files[4:]]
    assert list(QTable.read(output)["dispersion_file"]) == files[2:]


def test_values_for_each_galaxy(operation, files, output, capsys):
    arguments = ["-o", output, "--chunk", 2, "--redshift", "1,2,3,4,5", *files]
    operation.stop_after = 2
    assert run("circularity", *arguments) == 130
    assert [words["redshift"] for _, words in operation.calls] == [[1, 2], [3, 4]]
    operation.stop_after = None
    # Where a value is another one, the galaxy is measured again.
    arguments[5] = "1,2,3,6,5"
    assert run("circularity", *arguments) == 0
    assert operation.calls[-1] == ([files[3], files[4]], operation.calls[-1][1])
    assert operation.calls[-1][1]["redshift"] == [6, 5]
    assert run("circularity", *files, "--redshift", "1,2") == 2
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
    known += ["--psf-fwhm", "3pix,0.18arcsec"]
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
        "psf_fwhm": [[3 * u.pix], [0.18 * u.arcsec]],
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
    assert f"galml: 1 of 5 failed:\n  {files[1]}: no result\n" in error
    assert "\ngalml: 5 rows, 1 failed, " in error
    assert error.endswith(" rows/s\n")


def test_reasons_and_hints_of_failed_rows(tmp_path, capsys):
    """What Python says of each file, and the option that could help."""
    bare, empty = tmp_path / "bare.fits", tmp_path / "empty.fits"
    fits.writeto(bare, np.ones((20, 20)))
    empty.write_bytes(b"")
    missing = tmp_path / "missing.fits"
    assert run("circularity", bare, empty, missing, "--quiet") == 1
    error = capsys.readouterr().err
    assert error.startswith("galml: 3 of 3 failed:\n")
    for file in (bare, empty, missing):
        try:
            galml.circularity(str(file))
        except (GalmlError, OSError) as reason:
            assert f"  {file}: {reason}\n" in error
    assert "galml: hint: --unit UNIT: unit of the values where" in error
    assert error.count("galml: hint") == 1
    assert run("circularity", bare, "--unit", "km/s", "--hdu", 7, "--quiet") == 1
    assert "galml: hint: --hdu HDU: extension to read" in capsys.readouterr().err


def test_reasons_survive_interruption(operation, files, output, capsys):
    Path(files[0]).write_bytes(b"")
    operation.stop_after = 1
    assert run("circularity", *files, "-o", output, "--chunk", 2) == 130
    operation.stop_after = None
    capsys.readouterr()
    assert run("circularity", *files, "-o", output) == 1
    error = capsys.readouterr().err
    assert f"  {files[0]}: no result\n" in error
    assert "galml: 5 rows, 2 of them from before, 1 failed" in error


def test_files_stand_anywhere_among_the_options(operation, files, output, tmp_path):
    """No option takes more than one argument, so none takes files for values."""
    (tmp_path / "list.txt").write_text(f"{files[3]}\n\n{files[4]}\n")
    options = ["--redshift", "0.1", files[0], "--center", "3,4", files[1], "-o", output]
    assert run("circularity", *options, f"@{tmp_path / 'list.txt'}", "--quiet") == 0
    ((names, keywords),) = operation.calls
    assert names == [files[0], files[1], files[3], files[4]]
    assert keywords["redshift"] == 0.1 and keywords["center"] == (3, 4)


def test_lists_of_files_and_values(operation, files, tmp_path):
    values = tmp_path / "values.txt"
    values.write_text("1\n2\n3\n4\n5\n")
    pattern = tmp_path / "map_*.fits"
    options = ["--redshift", f"@{values}", "--dispersion", pattern]
    assert run("circularity", *options, pattern) == 0
    ((names, keywords),) = operation.calls
    assert names == keywords["dispersion"] == files
    assert keywords["redshift"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--redshift", "high"], "invalid float value"),
        (["--redshift", "@nowhere.txt"], "nowhere.txt"),
        (["@nowhere.txt"], "nowhere.txt"),
        (["--quiet", "@nowhere.txt"], "nowhere.txt"),
        (["--center", "1,2,3"], "expected pixels such as 31.5,30"),
        (["--n-samples", "1e12"], "got 1e12, expected a whole number from 0 to"),
        (["--n-samples", "2.5"], "2.5 is no whole number"),
        (["--n-samples", "-1"], "got -1, expected a whole number"),
        (["--seed", "abc"], "invalid whole value: 'abc'"),
        (["--odd"], "unrecognized arguments: --odd"),
    ],
)
def test_what_cannot_be_parsed(operation, files, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        run("circularity", *files, *options)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("usage: galml circularity FILE")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("31.5,30", (31.5, 30)),
        ("150.1deg,2.2deg", SkyCoord(150.1, 2.2, unit="deg")),
        ("10h00m24s +02d12m00s", SkyCoord(150.1, 2.2, unit="deg")),
    ],
)
def test_centers(operation, files, text, expected):
    assert run("circularity", files[0], "--center", text) == 0
    found = operation.calls[0][1]["center"]
    if isinstance(expected, tuple):
        assert found == expected
    else:
        assert found.separation(expected) < 1e-6 * u.arcsec
    assert run("circularity", *files[:2], "--center", f"{text};1,2") == 0
    assert operation.calls[1][1]["center"][1] == (1, 2)


def test_whole_numbers_may_have_exponents(operation, files):
    assert run("circularity", files[0], "--n-samples", "1e3", "--chunk", "1e2") == 0
    assert operation.calls[0][1]["n_samples"] == 1000


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no memory is left")])
def test_lack_of_memory_is_told(files, monkeypatch, capsys, operation, error):
    def fail(files, **keywords):
        raise error

    monkeypatch.setitem(vars(galml), "circularity", fail)
    assert run("circularity", *files, "--quiet") == 2
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_that_are_no_text(operation, tmp_path, suffix):
    names = [b"caf\xc3\xa9.fits", b"caf\xe9.fits", b"two\nlines.fits"]
    files = [os.path.join(tmp_path, os.fsdecode(name)) for name in names]
    try:
        for size, file in enumerate(files, start=2):
            Path(file).write_bytes(b" " * size)
    except OSError:
        pytest.skip("this disk takes no such names")
    output = tmp_path / f"results{suffix}"
    assert run("circularity", *files, "-o", output, "--chunk", 1) == 0
    table = QTable.read(output, format=FORMATS[suffix])
    first = r"caf\xe9" if suffix == ".fits" else "caf\xe9"
    assert list(table["name"]) == [first, r"caf\xe9", r"two\nlines"]
    assert list(table["circularity"]) == [2, 3, 4]


def test_output_that_is_no_table(operation, files, tmp_path, capsys):
    copy = Path(files[0]).read_bytes()
    options = ["--overwrite", "--format", "fits", "-o"]
    assert run("circularity", *files, *options, files[0]) == 2
    assert "is one of the files to read" in capsys.readouterr().err
    assert run("circularity", *files, *options, tmp_path) == 2
    assert run("circularity", *files, *options, os.devnull) == 2
    assert capsys.readouterr().err.count("is not a file") == 2
    assert Path(files[0]).read_bytes() == copy and operation.calls == []


def test_link_stands_for_its_table(operation, files, tmp_path):
    table, link = tmp_path / "table.ecsv", tmp_path / "link.ecsv"
    table.write_text("old")
    link.symlink_to(table)
    assert run("circularity", *files, "-o", link, "--overwrite") == 0
    assert link.is_symlink() and len(QTable.read(table)) == 5


def test_closed_pipe_is_no_error(files, tmp_path):
    code = """
import sys
import numpy as np
import galml
from astropy.table import QTable
from galml import cli

def circularity(files, **keywords):
    zeros = np.zeros(len(files))
    return QTable({"circularity": zeros, "flags": zeros.astype(int)})

class Model:
    sha256 = ""

vars(galml)["circularity"] = circularity
vars(galml)["load_model"] = lambda *args, **keywords: Model
sys.exit(cli.main(["circularity", "--quiet", *sys.argv[1:]]))
"""
    many = [str(tmp_path / f"{number:060d}.fits") for number in range(2000)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *many],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


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


@pytest.mark.parametrize(
    "options", [["--model", "other"], ["--redshift", "0.1"], ["--dispersion"]]
)
def test_other_run_is_not_resumed(operation, files, output, capsys, options):
    if options == ["--dispersion"]:
        options = [*options, Path(files[0]).parent / "map_*.fits"]
    operation.stop_after = 1
    run("circularity", *files, "-o", output, "--chunk", 2)
    operation.stop_after = None
    arguments = [*files, "-o", output, *options]
    assert run("circularity", *arguments) == 2
    assert "interrupted run with other options" in capsys.readouterr().err
    assert run("circularity", *arguments, "--overwrite") == 0
    assert operation.calls[-1][0] == files


def test_run_that_finished_nothing_is_in_no_ones_way(operation, files, output):
    """As when an option was wrong; or when it was killed, which leaves the folder."""
    operation.stop_after = 0
    assert run("circularity", *files, "-o", output, "--chunk", 2) == 130
    folder = output.with_name("results.ecsv.part")
    assert not folder.exists()
    folder.mkdir()
    (folder / STAMP).write_text(64 * "0")
    operation.stop_after = None
    assert run("circularity", *files, "-o", output, "--redshift", "0.1") == 0
    assert not folder.exists()


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
        (["--dispersion", "a.fits"], "got 1 files for 5 galaxies: quote a pattern"),
        (["0.2"], "there is no file 0.2: values of an option are separated"),
        (["2pix"], "there is no file 2pix: values of an option are separated"),
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

    def plot_galaxy(
        velocity_map, row, *, hdu=None, unit=None, redshift=None, dispersion=None
    ):
        given = {"hdu": hdu, "unit": unit, "redshift": redshift}
        given["dispersion"] = dispersion
        options = {name: value for name, value in given.items() if value is not None}
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
    arguments += ["--redshift", "0.1,0.2,0.3", "--tracer", "stars"]
    arguments += [part for file in files[2:] for part in ("--dispersion", file)]
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_lists_are_no_pipes(tmp_path, capsys):
    os.mkfifo(tmp_path / "list")
    with pytest.raises(SystemExit):
        run("circularity", f"@{tmp_path}/list")
    assert "a pipe or device" in capsys.readouterr().err
