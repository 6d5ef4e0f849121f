# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where partitions are computed: here, or by workers of dask."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice

from astropy.utils.exceptions import AstropyUserWarning

from galml.core.exceptions import InputError, RunError
from galml.core.threads import ignoring

__all__ = ["workers"]

#: Partitions that wait, for each thread of the workers, and at least.
WAITING, LEAST = 2, 8
#: A terminal interrupts all processes: workers leave it to this one to end them.
UNINTERRUPTED = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
#: Settings of dask for workers of this machine. They would give memory back at once, so
#: that large arrays cost twice the time; and they would sample and keep what they are
#: doing, which takes more memory the longer they run.
SETTINGS = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
}


@contextmanager
def workers(scheduler, tidy):
    """Have tasks carried out.

    Parameters
    ----------
    scheduler : str or `distributed.Client`
        "none" is this process, "local" all of its processors; an address or a client
        is used as it is.
    tidy : callable
        Called by every process when all tasks are done; not after an error, when some
        may still be at work.

    Yields
    ------
    callable
        Takes an iterable of tasks (function and arguments), and yields what each gives
        as it is ready; tasks are taken no faster than they are carried out.

    Raises
    ------
    ImportError
        Where there is to be more than this process, and no dask.
    galml.core.RunError
        When workers cannot be started, or are lost.
    """
    if isinstance(scheduler, str) and scheduler == "none":
        try:
            yield _here
        finally:
            tidy()
        return
    try:
        from distributed import Client
    except ImportError as error:
        message = "several workers need dask: pip install 'galml[distributed]'"
        raise ImportError(message) from error
    with ExitStack() as opened:
        # Interrupts find the thread that waits for this one: amid a question of
        # dask they would leave a traceback.
        ask = partial(_elsewhere, opened.enter_context(ThreadPoolExecutor(1)))
        local = isinstance(scheduler, str) and scheduler == "local"
        if isinstance(scheduler, Client):
            client = scheduler
        else:
            if local:
                scheduler = opened.enter_context(_local_cluster())
            client = opened.enter_context(_connected(scheduler))
        try:
            yield partial(_on_client, client, ask)
        except KeyboardInterrupt:
            if local:
                # They would complain of being ended in the middle of their work.
                ask(client.run, logging.disable, on_error="ignore")
            raise
        ask(client.run, tidy)


def _elsewhere(thread, function, *arguments, **keywords):
    """Wait for what a function gives in another thread."""
    return thread.submit(function, *arguments, **keywords).result()


def _here(tasks):
    """Carry out tasks in this process, one after the other."""
    for function, *arguments in tasks:
        # What is wrong with images and galaxies is told row by row.
        with ignoring(AstropyUserWarning):
            result = function(*arguments)
        yield result


def _local_cluster():
    """Start a worker of one thread for each processor of this machine."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    options = {
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "preload": UNINTERRUPTED,
    }
    try:
        with dask.config.set(SETTINGS):
            return LocalCluster(n_workers=CPU_COUNT, **options)
    except RuntimeError as error:
        raise RunError(
            "workers cannot be started; a script has to call this below "
            "if __name__ == '__main__', or with scheduler='none'"
        ) from error


def _connected(scheduler):
    """Connect to a scheduler."""
    from distributed import Client

    try:
        # Dask would look for it ever after, had the scheduler been lost.
        return Client(scheduler, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        expected = "'none', 'local', a Client or the address of a scheduler"
        raise InputError("scheduler", f"{scheduler!r} ({error})", expected) from error


def _on_client(client, ask, tasks):
    """Carry out tasks on the workers of a scheduler."""
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    tasks, waiting, killed = iter(tasks), as_completed(loop=client.loop), []

    def submit():
        threads, on_gpus = ask(client.run_on_scheduler, _capacity)
        resources = {"GPU": 1} if on_gpus else None
        room = max(LEAST, WAITING * threads) - waiting.count()
        for function, *arguments in islice(tasks, max(room, 0)):
            waiting.add(
                client.submit(function, *arguments, pure=False, resources=resources)
            )

    try:
        submit()
        for future in waiting:
            try:
                yield ask(future.result)
            except KilledWorker as error:
                # Others are none the worse for it.
                killed.append(error)
            future.release()
            submit()
    except (Exception, CancelledError) as error:
        lost = isinstance(error, CancelledError | CommClosedError)
        if not lost and client.status == "running":
            raise
        raise RunError(
            f"the scheduler is lost ({error}); the same call goes on with the run"
        ) from error
    finally:
        if client.status == "running":
            client.cancel(list(waiting.futures))
    if killed:
        raise RunError(
            f"{len(killed)} partitions killed their workers ({killed[0]}); others are "
            "done, and the same call tries these again"
        ) from killed[0]


def _capacity(dask_scheduler):
    """Count the threads of all workers, and tell whether any is for a GPU."""
    found = dask_scheduler.workers.values()
    threads = sum(worker.nthreads for worker in found)
    return threads, any("GPU" in worker.resources for worker in found)
