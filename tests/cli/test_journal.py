# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Runs that are killed, raced, or resumed after something has changed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from astropy.table import QTable

from galml.cli import output as outputs
from galml.cli.demo import EXAMPLES
from galml.cli.journal import STAMP, Journal
from galml.core.exceptions import FileError
from galml.core.runs import identity, locked

#: The command line with an operation whose value of a galaxy is the first byte of its
#: file; the code of a test comes before the last line.
COMMAND = """
import os, pathlib, signal, sys, time
sys.stderr = open(ERRORS, "w", buffering=1)
import numpy as np
from astropy.table import QTable
import galml
from galml import cli
from galml.cli import journal

def die():
    os.kill(os.getpid(), signal.SIGKILL)

calls = []

def circularity(files, **keywords):
    calls.append(files)
    with open("log.txt", "a") as log:
        print(*map(os.path.basename, files), file=log)
    values = [float(open(file, "rb").read(1)[0]) for file in files]
    return QTable({"circularity": values, "flags": np.zeros(len(files), int)})

class Model:
    sha256 = ""

vars(galml)["circularity"] = circularity
vars(galml)["load_model"] = lambda *args, **keywords: Model
%s
sys.exit(cli.main(["circularity", "--quiet", "--chunk", "1", *ARGUMENTS]))
"""
#: Processes come out of one that has imported what they need, and has no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["galml.cli.objects", "galml.core.files", "astropy.io.misc.yaml", "tqdm"]
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    for number in range(4):
        (path / f"{number}.fits").write_bytes(bytes([number]))
    return path


FILES = [f"{number}.fits" for number in range(4)]
OUTPUT = ["-o", "out.ecsv"]


class Run:
    """A command line in a process of its own."""

    def __init__(self, *arguments, code="", folder=None):
        folder = Path(folder or os.getcwd()).parent
        self.errors = folder / f"errors-{len(list(folder.glob('errors-*')))}"
        self.errors.touch()
        known = {"ARGUMENTS": arguments, "ERRORS": str(self.errors)}
        args = (COMMAND % code, known)
        self.process = PROCESSES.Process(target=exec, args=args)
        self.process.start()

    def wait(self):
        """Give the exit code and what was said."""
        self.process.join()
        return self.process.exitcode, self.errors.read_text()


def run(*arguments, **keywords):
    return Run(*arguments, **keywords).wait()


def measured():
    """Names of the files that were measured since the last time."""
    log = Path("log.txt")
    names = log.read_text().split()
    log.unlink()
    return names


def result():
    return QTable.read("out.ecsv")["circularity"].tolist()


KILLS = {
    "before the stamp": "pathlib.Path.write_text = lambda *args: die()",
    "within the stamp": """
def write(path, text):
    with open(path, "w") as file:
        file.write(text[:20])
        file.flush()
        die()
pathlib.Path.write_text = write
""",
    "after the stamp": "journal.Journal.load = lambda *args: die()",
    "within a row": """
measure = circularity
vars(galml)["circularity"] = (
    lambda *args, **keywords: die() if len(calls) == 2 else measure(*args, **keywords)
)
""",
    "within a chunk": """
replace = pathlib.Path.replace
def killed(path, target):
    if path.name == "000002.tmp":
        die()
    return replace(path, target)
pathlib.Path.replace = killed
""",
    "before the table": """
from galml.cli import output
output.replace_output = lambda *args: die()
""",
    "while cleaning": """
from galml.cli import output
remove = journal.Journal.remove
os.unlink = lambda *args, **keywords: die()
pathlib.Path.unlink = lambda *args, **keywords: die()
""",
}


@pytest.mark.parametrize("when", KILLS)
def test_killed_run_is_resumed(folder, when):
    code, _ = run(*FILES, *OUTPUT, code=KILLS[when])
    assert code == -signal.SIGKILL
    before = measured() if Path("log.txt").exists() else []
    done = Path("out.ecsv").exists()
    again = ["--overwrite"] if done else []
    code, error = run(*FILES, *OUTPUT, *again)
    assert (code, error) == (0, "")
    assert result() == [0, 1, 2, 3]
    saved = {"within a row": 2, "within a chunk": 2, "before the table": 4}
    skipped = {"while cleaning": 4}.get(when, saved.get(when, 0))
    after = measured() if Path("log.txt").exists() else []
    assert after == FILES[skipped:]
    assert len(before) >= skipped
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "out.ecsv"]


def interrupt(*arguments):
    """Kill a run after two of four rows, however they are ordered."""
    code, _ = run(*arguments, *OUTPUT, code=KILLS["within a row"])
    assert code == -signal.SIGKILL
    return measured()


@pytest.mark.parametrize("shift", [-100, 100])
def test_changed_file_is_measured_again(folder, shift):
    """Newer or older, as a copy of the original may be."""
    interrupt(*FILES)
    status = os.stat("0.fits")
    Path("0.fits").write_bytes(bytes([9]))
    os.utime("0.fits", (status.st_atime + shift, status.st_mtime + shift))
    assert run(*FILES, *OUTPUT)[0] == 0
    assert measured() == ["0.fits", "2.fits", "3.fits"]
    assert result() == [9, 1, 2, 3]


def test_files_that_changed_places_are_measured_again(folder):
    """Even with equal sizes and times, as of files out of one archive."""
    for file in FILES:
        os.utime(file, (1e9, 1e9))
    interrupt(*FILES)
    os.rename("0.fits", "x")
    os.rename("1.fits", "0.fits")
    os.rename("x", "1.fits")
    assert run(*FILES, *OUTPUT)[0] == 0
    assert result() == [1, 0, 2, 3]


def test_order_and_number_of_files_may_change(folder):
    interrupt(*FILES[:3])
    assert run(*FILES[::-1], *OUTPUT)[0] == 0
    assert measured() == ["3.fits", "2.fits"]
    assert result() == [3, 2, 1, 0]


def test_names_may_be_of_other_files_elsewhere(folder):
    """Paths are kept as absolute ones; what was typed is in the table."""
    interrupt(*FILES)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for number, file in enumerate(FILES):
        (elsewhere / file).write_bytes(bytes([number + 4]))
    os.chdir(elsewhere)
    assert run(*FILES, "-o", "../out.ecsv", folder=folder)[0] == 0
    table = QTable.read("../out.ecsv")
    assert table["circularity"].tolist() == [4, 5, 6, 7]
    assert table["file"].tolist() == FILES
    assert measured() == FILES


def test_damaged_chunk_is_computed_again(folder):
    interrupt(*FILES)
    chunk = folder / "out.ecsv.part" / "000001.ecsv"
    chunk.write_bytes(chunk.read_bytes()[:100])
    assert run(*FILES, *OUTPUT)[0] == 0
    assert measured() == FILES[1:]
    assert result() == [0, 1, 2, 3]


def test_folder_of_a_user_is_never_removed(folder):
    precious = folder / "out.ecsv.part" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("precious")
    for options in ([], ["--overwrite"]):
        code, error = run(*FILES, *OUTPUT, *options)
        assert code == 2 and "holds what is not of a run: move it away" in error
        assert precious.read_text() == "precious"
    assert not Path("out.ecsv").exists()


def test_file_of_a_user_beside_the_chunks_stays(folder):
    interrupt(*FILES)
    precious = folder / "out.ecsv.part" / "thesis.txt"
    precious.write_text("precious")
    assert run(*FILES, *OUTPUT)[0] == 0
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]


def test_table_that_appears_meanwhile_is_not_replaced(folder):
    code = """
load = journal.Journal.load
def appear(*args):
    pathlib.Path("out.ecsv").write_text("precious")
    load(*args)
journal.Journal.load = appear
"""
    assert run(*FILES, *OUTPUT, code=code)[0] == 2
    assert Path("out.ecsv").read_text() == "precious"
    assert measured() == FILES
    # Nothing is lost.
    assert run(*FILES, *OUTPUT, "--overwrite")[0] == 0
    assert not Path("log.txt").exists()
    assert result() == [0, 1, 2, 3]


def wait_for(path):
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(path)


def test_second_run_at_one_output_is_refused(folder):
    code = """
measure = circularity
def wait(*args, **keywords):
    pathlib.Path("running").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return measure(*args, **keywords)
vars(galml)["circularity"] = wait
"""
    first = Run(*FILES, *OUTPUT, code=code)
    wait_for(folder / "running")
    os.symlink("out.ecsv", "link.ecsv")
    for output in (OUTPUT, ["-o", "./out.ecsv"], ["-o", str(folder / "link.ecsv")]):
        code, error = run(*FILES, *output, "--overwrite")
        assert code == 2 and "another run is writing" in error
    Path("go").touch()
    assert first.wait() == (0, "")
    assert measured() == FILES
    assert result() == [0, 1, 2, 3]


def test_runs_that_race_leave_one_whole_table(folder):
    runs = [Run(*FILES, *OUTPUT) for _ in range(4)]
    codes = []
    for one in runs:
        code, error = one.wait()
        codes.append(code)
        assert error == "" or "another run" in error or "exists" in error
    assert sorted(codes) == [0, 2, 2, 2]
    assert measured() == FILES
    assert result() == [0, 1, 2, 3]
    names = {path.name for path in folder.iterdir()}
    assert names == {*FILES, "out.ecsv"}


STARS = """
import sys
import galml
from galml import cli

sys.exit(cli.main(["stars", "--quiet", *sys.argv[1:]]))
"""


def test_stars_that_race_leave_one_whole_table(tmp_path):
    table = QTable.read(EXAMPLES / "galaxies.ecsv")[:1]
    table.write(tmp_path / "galaxies.ecsv")
    output = tmp_path / "stars.parquet"
    arguments = [
        tmp_path / "galaxies.ecsv",
        "-n",
        "5e4",
        "-o",
        output,
        "--chunk",
        "1e4",
    ]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", STARS, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in runs]
    assert sorted(process.returncode for process in runs) == [0, 2], errors
    assert len(QTable.read(output)) == 50_000
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"galaxies.ecsv", "stars.parquet"}


def test_writers_without_a_lock_do_not_mix(tmp_path, monkeypatch):
    """Two calls in Python that write one file: the last to end wins."""
    from galml.stars import files

    parts = []

    def write(path, tables):
        parts.append(path)
        if len(parts) == 1:
            files.write_stars(tmp_path / "stars.parquet")
        path.write_text(f"whole {parts.index(path)}")
        return 1

    monkeypatch.setattr(files, "write_parquet", write)
    monkeypatch.setattr(files, "iter_stars", lambda *args, **keywords: ())
    files.write_stars(tmp_path / "stars.parquet", overwrite=True)
    assert len(set(parts)) == 2
    assert (tmp_path / "stars.parquet").read_text() == "whole 0"
    assert list(tmp_path.iterdir()) == [tmp_path / "stars.parquet"]


def test_lock_is_dropped_by_the_system(tmp_path):
    """The file of a killed run is there, but locks nothing."""
    output = tmp_path / "out.ecsv"
    (tmp_path / ".out.ecsv.lock").touch()
    with locked(output):
        with pytest.raises(FileError, match="another run"), locked(output):
            pass
    with locked(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_configuration_needs_overwrite(tmp_path):
    output = tmp_path / "out.ecsv"
    Journal(output, [0]).open()
    # Nothing was finished: there is nothing to lose.
    Journal(output, [1]).open()
    folder = tmp_path / "out.ecsv.part"
    (folder / "000000.ecsv").write_text("a chunk")
    Journal(output, [1]).open()
    with pytest.raises(outputs.UsageError, match="with other options"):
        Journal(output, [2]).open()
    Journal(output, [2]).open(overwrite=True)
    assert [path.name for path in folder.iterdir()] == [STAMP]


def test_identity(tmp_path):
    file = tmp_path / "a.fits"
    assert identity(file) == [str(file), None]
    file.write_bytes(b"1")
    first = identity(file)
    assert identity(os.path.relpath(file)) == first
    os.utime(file, (1, 1))
    assert identity(file) != first
