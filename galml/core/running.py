# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From objects to a table: what every operation on objects does alike."""

from collections import deque
from contextlib import contextmanager
from threading import Thread

import numpy as np
import torch

from galml.core.inference import check_samples, infer, progress_updates, resolve_device
from galml.core.inputs import BLOCK, BLOCK_PIXELS, Failure
from galml.core.results import build_table, failure_flags, warn_batch
from galml.physics import fresh_seed

__all__ = ["chunks", "grouped", "in_threads", "one_thread_each", "run"]

#: Rows, and pixels of all rows, that are prepared at once.
CHUNK = BLOCK
CHUNK_PIXELS = BLOCK_PIXELS


def run(
    domain,
    data,
    options,
    *,
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=0,
    seed=None,
    progress=False,
):
    """Read objects, prepare them chunk by chunk, ask the network, and fill a table.

    Parameters
    ----------
    domain : `~galml.core.domain.Domain`
        What is known of objects of this kind.
    data : object
        What the user gave.
    options : dict
        Keywords of ``domain.read``; those that are not None are noted in the table.
    device, dtype, batch_size, n_samples, progress
        As in `~galml.core.inference.infer`.
    seed : int or None
        Seed of random numbers; None draws a fresh one where there are any. It is noted
        in the table.

    Returns
    -------
    `~astropy.table.QTable`
        One row per object. What could not be used is NaN with flags, and one
        `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        When the one object cannot be used, or an option is out of its range.
    """
    source = domain.read(data, **options)
    if n_samples and seed is None:
        seed = fresh_seed()
    layout = domain.columns(n_samples)
    rows, waiting, answers = [], deque(), []

    def batches():
        for places, members, prepared in chunks(domain, source, rows):
            waiting.append((places, members, prepared))
            yield prepared.inputs

    if domain.model is None:
        device, outputs = "cpu", _without_network(batches(), progress, source.length)
    else:
        check_samples(domain.model.network, n_samples)
        device = str(resolve_device(device))
        outputs = infer(
            domain.model.network,
            batches(),
            views=domain.views,
            device=device,
            dtype=dtype,
            batch_size=64 if batch_size is None else batch_size,
            n_samples=n_samples,
            seed=seed,
            progress=progress,
            total=source.length,
        )
    for output in outputs:
        places, members, prepared = waiting.popleft()
        columns = domain.answer(output, prepared, members)
        answers.append((places, columns, domain.flags(output, prepared, members)))
    columns, flags = _merge(rows, answers, layout)
    call = options | {"n_samples": n_samples or None}
    table = build_table(
        columns,
        operation=domain.operation,
        model=domain.model,
        names=[name for name, _ in rows],
        flags=flags,
        device=device,
        dtype=dtype,
        seed=seed,
        call={key: value for key, value in call.items() if value is not None},
    )
    if not source.is_single:
        errors = [error for _, error in rows if error is not None]
        warn_batch(flags, errors, stacklevel=4)
    return table


def grouped(members, kind, prepare):
    """Prepare members of one kind together.

    Parameters
    ----------
    members : sequence
        Batches of objects.
    kind : callable
        ``kind(member)`` is hashable and the same for what can be stacked.
    prepare : callable
        Takes a list of members of one kind; gives a dataclass of tensors with as many
        rows as these have together.

    Returns
    -------
    object
        Such a dataclass, with rows in the order of ``members``.
    """
    groups = {}
    for index, member in enumerate(members):
        groups.setdefault(kind(member), []).append(index)
    parts = [prepare([members[i] for i in group]) for group in groups.values()]
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([len(member) for member in members])
    order = np.concatenate(
        [
            np.arange(ends[i] - len(members[i]), ends[i])
            for group in groups.values()
            for i in group
        ]
    )
    place = torch.from_numpy(np.argsort(order, kind="stable"))
    columns = {
        key: torch.cat([getattr(part, key) for part in parts])[place]
        for key in vars(parts[0])
    }
    return type(parts[0])(**columns)


@contextmanager
def one_thread_each():
    """Let torch compute with one thread in each thread that is at work.

    Many small operations gain nothing from being shared out one by one: threads would
    wait for each other, and for processors that others use.

    Yields
    ------
    int
        Number of threads that torch may use, for `in_threads`.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield threads
        return
    # Threads that start from now on take this number, too.
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_threads(function, items, threads):
    """Apply a function to items in several threads.

    Parameters
    ----------
    function : callable
        Takes an item; it may be called from any thread.
    items : sequence
        What to work on.
    threads : int
        Most threads at work, the calling one among them.

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


def chunks(domain, source, rows):
    """Prepare objects chunk by chunk.

    Parameters
    ----------
    domain : `~galml.core.domain.Domain`
        What is known of objects of this kind.
    source : `~galml.core.inputs.Source`
        What the domain read.
    rows : list
        Name and error (or None) of each row are added to it, as members are read.

    Yields
    ------
    places : list of int
        Rows of the chunk.
    members : list
        Its members, without what cannot be used.
    prepared : object
        What was prepared of them.

    Raises
    ------
    Exception
        Why the one object cannot be used.
    """
    places, usable, size = [], [], 0
    for member in source.members:
        failed = isinstance(member, Failure)
        errors = [member.error] if failed else domain.problem(member)
        if source.is_single and errors[0] is not None:
            raise errors[0]
        good = [row for row, error in enumerate(errors) if error is None]
        places += [len(rows) + row for row in good]
        rows += zip([member.name] if failed else member.names, errors, strict=True)
        if not good:
            continue
        usable.append(member if len(good) == len(errors) else member[good])
        size += usable[-1].values.size
        if len(places) >= CHUNK or size > CHUNK_PIXELS:
            yield places, usable, domain.prepare(usable)
            places, usable, size = [], [], 0
    if usable:
        yield places, usable, domain.prepare(usable)


def _without_network(batches, progress, total):
    """Give no outputs for each chunk."""
    with progress_updates(progress, total) as update:
        for inputs in batches:
            update(len(next(iter(inputs.values()))))
            yield {}


def _merge(rows, answers, layout):
    """Put the answers into columns, with NaN where there is none."""
    columns = {
        name: np.full((len(rows), *shape), np.nan) * (1 if unit is None else unit)
        for name, (shape, unit) in layout.items()
    }
    flags = np.array([failure_flags(error) for _, error in rows], dtype=int)
    for places, values, bits in answers:
        for name, column in values.items():
            columns[name][places] = column
        flags[places] = bits
    return columns, flags
