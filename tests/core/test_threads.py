# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from galml.core import threads as shares


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


def test_warnings_are_ignored_until_the_last_one_ends():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with shares.ignoring(UserWarning):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with shares.ignoring(UserWarning):
        thread.start()
        inside.wait()
        # What others add meanwhile stays.
        warnings.simplefilter("ignore", BytesWarning)
        added = warnings.filters[0]
        with shares.changing_filters:
            warnings.warn("nobody sees it", stacklevel=1)
    warnings.warn("nor this", stacklevel=1)
    leave.set()
    thread.join()
    with pytest.raises(UserWarning):
        warnings.warn("seen, as warnings are errors here", stacklevel=1)
    assert added in warnings.filters
    warnings.filters.remove(added)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work(threads):
    barrier = threading.Barrier(min(threads, 4), timeout=10)

    def work(item):
        if item < barrier.parties:
            barrier.wait()
        assert torch.get_num_threads() == 1
        return 2 * item

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(max(threads, 1))
        with shares.shared_threads(None) as found:
            assert found == threads
            result = shares.in_threads(work, list(range(4)), found)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert result == [0, 2, 4, 6]


def test_errors_of_threads_are_raised():
    def work(item):
        if item == 3:
            raise KeyError("three")
        return item

    for threads in (1, 3):
        with pytest.raises(KeyError, match="three"):
            shares.in_threads(work, list(range(8)), threads)
    with pytest.raises(ZeroDivisionError), shares.shared_threads(None):
        raise ZeroDivisionError
    assert shares.in_threads(work, [], 2) == []


@pytest.mark.parametrize(
    ("free", "count", "share"), [(4, 1, 4), (9, 1, 4), (2, 1, 2), (1, 1, 1), (4, 2, 2)]
)
def test_no_more_threads_than_processors_free(
    monkeypatch, four_threads, free, count, share
):
    monkeypatch.setattr(shares, "free_processors", lambda: free)
    with shares.shared_threads(count) as outside:
        assert (outside, torch.get_num_threads()) == (4, share)


def test_threads_of_others_stay(monkeypatch, four_threads):
    """What other threads have, and what the next ones get, is what the user set."""
    monkeypatch.setattr(shares, "free_processors", lambda: 1)
    barrier, seen = threading.Barrier(2, timeout=10), []

    def other():
        torch.ones(3).sum()
        seen.append(torch.get_num_threads())
        barrier.wait()
        barrier.wait()
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    barrier.wait()
    with shares.shared_threads(1):
        assert torch.get_num_threads() == 1
        barrier.wait()
        thread.join()
    assert seen == [4, 4]


def test_one_thread_is_left_alone(monkeypatch):
    def fail():
        raise AssertionError("there was nothing to find out")

    monkeypatch.setattr(shares, "free_processors", fail)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with shares.shared_threads(1) as outside:
            assert outside == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="the system has none")
def test_busy_processes_are_seen():
    """A process that never rests for each processor leaves none, but one."""
    loops = [
        subprocess.Popen(
            [sys.executable, "-c", "print(flush=True)\nwhile True: pass"],
            stdout=subprocess.PIPE,
        )
        for _ in range(os.cpu_count())
    ]
    try:
        for loop in loops:
            loop.stdout.read(1)
        time.sleep(0.1)
        assert [shares.free_processors() for _ in range(5)] == [1] * 5
    finally:
        for loop in loops:
            loop.kill()
            loop.communicate()


def test_own_threads_do_not_count(monkeypatch):
    monkeypatch.setattr(shares, "_own_at_work", lambda: 10**6)
    assert shares._others_at_work() == 0


@pytest.mark.parametrize(
    ("own", "others", "free"), [(8, 0, 8), (8, 120, 8), (8, 125, 3), (128, 3.4, 125)]
)
def test_jobs_that_have_some_of_the_processors(monkeypatch, own, others, free):
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(own), raising=False)
    monkeypatch.setattr(shares, "_others_at_work", lambda: others)
    assert shares.free_processors() == free


def test_systems_without_proc(monkeypatch):
    def fail(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.4, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert shares.free_processors() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert shares.free_processors() == 1
