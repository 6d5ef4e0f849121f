# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How many threads compute, beside others that are at work on the same machine."""

import os
import re
import warnings
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread

import torch

__all__ = [
    "changing_filters",
    "free_processors",
    "ignoring",
    "in_threads",
    "shared_threads",
]

#: Held where a library changes the filters of warnings and puts them back: they belong
#: to the process, and of threads that overlap, the last would put back changed ones.
changing_filters = Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=changing_filters.acquire,
        after_in_parent=changing_filters.release,
        after_in_child=changing_filters.release,
    )

#: How many threads ignore warnings of a category, and what their filter matches, which
#: that of a user would not have written so.
_ignored = Counter()
ANY_MESSAGE = re.compile("(?s:)", re.I)
if hasattr(os, "register_at_fork"):
    # These threads are not there in a forked process.
    os.register_at_fork(after_in_child=_ignored.clear)

#: For every share of threads that is at work: torch's number before the first one.
_outside = []
_sharing = Lock()


@contextmanager
def ignoring(category):
    """
    Ignore warnings of a category while any thread asks for it.

    Unlike `warnings.catch_warnings` it puts nothing back but its own filter, so that
    threads may overlap, and hold `changing_filters` inside.

    Parameters
    ----------
    category : type
        Class of the warnings.
    """
    with changing_filters:
        _ignored[category] += 1
        if _ignored[category] == 1:
            warnings.filterwarnings("ignore", ANY_MESSAGE.pattern, category)
    try:
        yield
    finally:
        with changing_filters:
            _ignored[category] -= 1
            own = "ignore", ANY_MESSAGE, category, None, 0
            if not _ignored[category] and own in warnings.filters:
                warnings.filters.remove(own)


def free_processors():
    """
    Count the processors that no other process has work for, right now.

    Threads of torch wait for each other after each operation, and in loops that compute
    nothing. Where one of them has no processor, all wait for it, many times longer than
    the operation takes.

    Returns
    -------
    int
        At least 1. On systems without ``/proc``, the load of the last minute counts.

    Examples
    --------
    >>> from galml.core.threads import free_processors
    >>> free_processors() >= 1
    True
    """
    processors = own = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        # Jobs of a cluster have some processors of a machine; others are at work
        # on the rest of them first.
        own = len(os.sched_getaffinity(0))
    return max(1, min(own, processors - round(_others_at_work())))


def _others_at_work():
    """Count the threads of other processes that run or could."""
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
        return max(0, running - _own_at_work())
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0


def _own_at_work():
    """Count the threads of this process that run or could, this one among them."""
    number = 0
    for thread in Path("/proc/self/task").iterdir():
        try:
            # The state follows the name, which may hold anything but stands in ().
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # it has ended
            continue
        number += state == "R"
    return number


@contextmanager
def shared_threads(count):
    """
    Share the threads of torch out to some threads that are at work.

    A context manager, or a decorator of functions.

    Many small operations gain nothing from being shared out one by one: threads would
    wait for each other, and for processors that others use.

    Parameters
    ----------
    count : int or None
        Threads at work, which share out no more than there are processors free; None
        lets each of them compute with one thread of torch.

    Yields
    ------
    int
        Number of threads that torch may use outside.
    """
    threads = torch.get_num_threads()
    share = 1
    if count is not None and threads > count:
        share = max(1, min(threads, free_processors()) // count)
    if share == threads:
        yield threads
        return
    with _sharing:
        outside = _outside[0] if _outside else threads
        _outside.append(outside)
        torch.set_num_threads(share)
    try:
        yield threads
    finally:
        with _sharing:
            _outside.pop()
            # Threads that start take the number that was set last: the last one out
            # leaves what the first one found.
            torch.set_num_threads(threads if _outside else outside)


def in_threads(function, items, threads):
    """
    Apply a function to items in several threads.

    Parameters
    ----------
    function : callable
        Takes an item; it may be called from any thread.
    items : sequence
        What to work on.
    threads : int
        Most threads at work, the calling one among them; see `shared_threads`.

    Returns
    -------
    list
        What the function gave, in order.
    """
    threads = min(threads, len(items))
    if threads < 2:
        return [function(item) for item in items]
    results, waiting, errors = [None] * len(items), deque(range(len(items))), []

    def work():
        while waiting and not errors:
            try:
                index = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                results[index] = function(items[index])
            except Exception as error:
                errors.append(error)

    helpers = [Thread(target=work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
    return results
