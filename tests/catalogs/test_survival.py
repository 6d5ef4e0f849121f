# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whatever is killed, the same call gives the files of an unbroken run."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import QTable

from galml import catalogs
from galml.core import FileError, InputError, RunError

CODE = """
import sys
from galml import catalogs
catalogs.run(
    "spin", sys.argv[1], images=sys.argv[2], output=sys.argv[3], partition_size=16
)
"""


def bytes_of(output):
    return {path.name: path.read_bytes() for path in output.glob("part-*")}


def wait_for(output, pattern, count, alive):
    limit = time.monotonic() + 300
    while len(list(output.glob(pattern))) < count:
        assert alive() and time.monotonic() < limit, f"no {count} of {pattern}"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def many(make_survey, tmp_path_factory):
    """A catalog in a file, of enough galaxies for a run to be killed."""
    folder, catalog = make_survey(tmp_path_factory.mktemp("survey"))
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 24, 400)
    catalog = QTable(catalog[rows])
    catalog["id"] = np.arange(400)
    catalog.write(folder / "many.parquet")
    return folder / "many.parquet", str(folder / "*.fits")


@pytest.fixture(scope="module")
def unbroken(many, tmp_path_factory):
    source, images = many
    output = tmp_path_factory.mktemp("unbroken")
    catalogs.run("spin", source, images=images, output=output, partition_size=16)
    assert len(bytes_of(output)) == 25
    return bytes_of(output)


def test_a_killed_run(many, unbroken, tmp_path):
    source, images = many
    output = tmp_path / "out"
    options = {"images": images, "output": output, "partition_size": 16}
    for pattern, count in {"_groups/*": 3, "_done/*": 2}.items():
        arguments = [sys.executable, "-c", CODE, source, images, output]
        process = subprocess.Popen(arguments)
        wait_for(output, pattern, count, lambda: process.poll() is None)  # noqa: B023
        with pytest.raises(FileError, match="another run is writing it"):
            catalogs.run("spin", source, **options)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(InputError, match="no run has come to its end"):
            catalogs.read(output)
    there = len(list(output.glob("_done/*")))
    assert 2 <= there < 25
    for other in (
        {"model": "stellar-spin-single-band-3"},
        {"partition_size": 8},
        {"n_samples": 4},
    ):
        with pytest.raises(FileError, match="other options or inputs"):
            catalogs.run("spin", source, **options | other)
    with pytest.raises(FileError, match="other options or inputs"):
        catalogs.run("spin", QTable.read(source)[:-1], **options)
    summary = catalogs.run("spin", source, **options)
    assert summary["computed"] == 25 - there
    assert bytes_of(output) == unbroken
    assert not list(output.glob("_tmp*")) and not (output / "_groups").exists()
    assert catalogs.run("spin", source, **options)["computed"] == 0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes")
def test_an_interrupt_in_a_terminal(many, unbroken, tmp_path, interruptible):
    """All processes get it: workers must not, and need not, complain."""
    pytest.importorskip("distributed")
    source, images = many
    output = tmp_path / "out"
    command = [sys.executable, "-m", "galml", "run", "spin", source, "-o", output]
    options = ["--images", images, "--partition-size", "16", "--scheduler", "local"]
    process = subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(output, "_groups/*", 3, lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in error and error.endswith("galml: interrupted\n")
    assert list(output.glob("_groups/*"))
    assert subprocess.run([*command, *options, "--quiet"]).returncode == 0
    assert len(bytes_of(output)) == 25


def test_a_full_disk(many, unbroken, tmp_path, monkeypatch):
    source, images = many
    options = {"images": images, "output": tmp_path / "out", "partition_size": 16}
    real, left = pq.ParquetWriter.write_table, [0]

    def write_table(self, *arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    # Among the groups, and among the partitions.
    for left[0] in (17, 45):
        with pytest.raises(OSError, match="No space left"):
            catalogs.run("spin", source, **options)
        assert not list((tmp_path / "out").glob("_tmp*"))
    there = len(list((tmp_path / "out").glob("_done/*")))
    assert 0 < there < 25
    assert catalogs.run("spin", source, **options)["computed"] == 25 - there
    assert bytes_of(tmp_path / "out") == unbroken


def test_a_killed_worker(many, unbroken, tmp_path):
    distributed = pytest.importorskip("distributed")
    source, images = many
    output = tmp_path / "out"
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:

        def kill():
            wait_for(output, "_groups/*", 2, lambda: True)
            (pid,) = client.run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        killed = []
        thread = Thread(target=kill)
        thread.start()
        summary = catalogs.run(
            "spin",
            source,
            images=images,
            output=output,
            partition_size=16,
            scheduler=client,
        )
        thread.join()
        assert killed != list(client.run(os.getpid).values())
    assert killed and summary["computed"] == 25
    assert bytes_of(output) == unbroken


def test_a_killed_scheduler(many, unbroken, tmp_path):
    pytest.importorskip("distributed")
    source, images = many
    output = tmp_path / "out"
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    at = ["--scheduler-file", address, "--dashboard-address", "127.0.0.1:0"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *at]
    )
    worker = subprocess.Popen(
        [*dask, "worker", *at, "--nthreads", "1", "--no-nanny", "--death-timeout", "60"]
    )
    options = {"images": images, "output": output, "partition_size": 16}
    try:
        wait_for(tmp_path, "scheduler.json", 1, lambda: scheduler.poll() is None)
        time.sleep(0.5)
        where = json.loads(address.read_text())["address"]

        def kill():
            try:
                wait_for(output, "_groups/*", 2, lambda: worker.poll() is None)
            finally:
                os.kill(scheduler.pid, signal.SIGKILL)

        thread = Thread(target=kill)
        thread.start()
        with pytest.raises(RunError, match="the scheduler is lost"):
            catalogs.run("spin", source, scheduler=where, **options)
        thread.join()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert 2 <= len(list(output.glob("_groups/*"))) < 25
    assert catalogs.run("spin", source, **options)["computed"] == 25
    assert bytes_of(output) == unbroken
