# Licensed under a 3-clause BSD style license - see LICENSE.rst
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest
from astropy.nddata import CCDData

from galml import catalogs
from galml.catalogs import clusters, running
from galml.catalogs.clusters import workers
from galml.core import InputError, RunError

distributed = pytest.importorskip("distributed")


@pytest.fixture
def client():
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def test_many_rows_go_to_a_cluster_that_closes_itself(galaxies, tmp_path, monkeypatch):
    options = {"n": 50, "seed": 1, "partition_size": 2}
    catalogs.run("sample_stars", galaxies, output=tmp_path / "one", **options)
    monkeypatch.setattr(running, "SMALL", 5)
    started, real = [], distributed.LocalCluster
    monkeypatch.setattr(
        distributed, "LocalCluster", lambda **keys: started.append(keys) or real(**keys)
    )
    summary = catalogs.run("sample_stars", galaxies, output=tmp_path / "two", **options)
    assert summary["computed"] == 6
    ((keys),) = started
    from dask.system import CPU_COUNT

    assert keys["n_workers"] * keys["threads_per_worker"] == CPU_COUNT
    children = psutil.Process().children(recursive=True)
    assert not [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    # Bytes are the same, wherever they were computed.
    for path in (tmp_path / "one").glob("part-*"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
    # Where nothing is left to be done, nothing is started.
    catalogs.run("sample_stars", galaxies, output=tmp_path / "two", **options)
    assert len(started) == 1


def test_workers_of_this_machine(monkeypatch):
    """They keep memory, without which networks take twice the time; but no profile."""
    monkeypatch.setattr("dask.system.CPU_COUNT", 1)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with clusters._local_cluster() as cluster, distributed.Client(cluster) as one:
        found = one.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_")
        kept = one.run(lambda dask_worker: len(dask_worker.profile_recent["children"]))
    assert list(found.values()) == [None]
    assert list(kept.values()) == [0]


def test_workers_that_have_a_gpu_are_asked(client):
    with workers(client, gc.collect) as carry_out:
        (own,) = carry_out([(os.getpid,)])
    address = client.scheduler.address
    command = [sys.executable, "-m", "dask", "worker", address, "--no-nanny"]
    options = ["--resources", "GPU=1", "--nthreads", "1", "--dashboard-address"]
    worker = subprocess.Popen([*command, *options, "127.0.0.1:0"])
    try:
        client.wait_for_workers(2, timeout=120)
        with workers(client, gc.collect) as carry_out:
            asked = set(carry_out([(os.getpid,)] * 20))
    finally:
        worker.terminate()
        worker.wait()
    assert asked == {worker.pid} and own != worker.pid


def test_a_task_that_kills_workers_is_no_end_for_others(client):
    client.run_on_scheduler(_give_up_at_once)
    given = []
    with (
        workers(client, gc.collect) as carry_out,
        pytest.raises(RunError, match="killed"),
    ):
        # Those that wait on the same worker may be suspected, too.
        for result in carry_out([(os._exit, 1), *[(divmod, n, 2) for n in range(9)]]):
            given.append(result)
    assert len(given) >= 7
    # The client is that of the user.
    assert client.submit(divmod, 5, 2).result() == (2, 1)


def _give_up_at_once(dask_scheduler):
    dask_scheduler.allowed_failures = 0


def test_tiles_in_memory_reach_the_workers(survey, client, tmp_path):
    folder, catalog = survey
    images = [CCDData.read(path) for path in sorted(folder.glob("*.fits"))]
    options = {"images": images, "seed": 1, "partition_size": 5}
    for name, scheduler in {"one": "none", "two": client}.items():
        output = tmp_path / name
        summary = catalogs.run(
            "spin", catalog, output=output, scheduler=scheduler, **options
        )
        assert summary["computed"] == 5 and summary["failed"] == 0
    for path in (tmp_path / "one").glob("part-*"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_tasks_are_taken_no_faster_than_they_are_done(client):
    taken = []

    def tasks():
        for number in range(60):
            taken.append(number)
            yield abs, -number

    with workers(client, gc.collect) as carry_out:
        given, ahead = [], []
        for result in carry_out(tasks()):
            given.append(result)
            ahead.append(len(taken) - len(given))
    assert sorted(given) == list(range(60)) and max(ahead) < 15


def test_interrupts_meet_no_question_of_dask(client, monkeypatch):
    """One that came before its answer has begun would leave a traceback of dask's."""
    asked, sync = [], client.sync

    def recorded(*arguments, **keywords):
        asked.append(threading.current_thread())
        return sync(*arguments, **keywords)

    monkeypatch.setattr(client, "sync", recorded)
    with workers(client, gc.collect) as carry_out:
        results = carry_out((abs, -number) for number in range(20))
        assert sorted(next(results) for _ in range(20)) == list(range(20))
    assert len(asked) > 20 and threading.main_thread() not in asked


def test_an_error_ends_the_run(client):
    with workers(client, gc.collect) as carry_out, pytest.raises(ZeroDivisionError):
        list(carry_out([(divmod, 1, 0)]))


@pytest.mark.parametrize("scheduler", ["nowhere", "tcp://127.0.0.1:1", 5])
def test_an_address_without_a_scheduler(scheduler):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with (
            pytest.raises(InputError, match="scheduler"),
            workers(scheduler, gc.collect),
        ):
            pass
    # Dask goes on without it.
    assert dask.config.get("scheduler", None) is None


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from galml.catalogs.clusters import workers\n"
        "with workers('local', print) as carry_out:\n"
        "    print(list(carry_out([(divmod, 7, 2)])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode and "RunError: workers cannot be started" in done.stderr
    assert "if __name__ == '__main__'" in done.stderr


def test_several_threads_of_a_worker(galaxies, tmp_path):
    """What is told of rows is told of their own partition."""
    galaxies["median_age"][::3] = np.nan
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=4,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )
    with cluster, distributed.Client(cluster) as client:
        with pytest.warns(match="4 of 12 rows") as caught:
            catalogs.run(
                "sample_stars",
                galaxies,
                output=tmp_path / "out",
                scheduler=client,
                n=500,
                partition_size=1,
            )
    assert len([one for one in caught if "rows" in str(one.message)]) == 1
    assert catalogs.failures(tmp_path / "out")["row"].tolist() == [0, 3, 6, 9]
