# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From a stream of objects to a table: what every operation does alike."""

from collections import deque

import numpy as np
import torch

from galml.core.inference import infer, resolve_device
from galml.core.results import build_table, failure_flags, warn_batch

__all__ = ["answer", "in_groups"]

# Objects, and pixels of all objects, that are prepared at once.
CHUNK = 256
CHUNK_PIXELS = 4_000_000


def answer(
    members,
    model,
    system,
    *,
    problem,
    prepare,
    is_single,
    length,
    device,
    dtype,
    batch_size,
    n_samples,
    seed,
    progress,
    call,
):
    """Prepare objects chunk by chunk, ask the network, and fill a table.

    Parameters
    ----------
    members : iterator
        Objects with ``name`` and ``values`` (an array), or
        `~galml.core.inputs.Failure`.
    model : `~galml.core.model.GalaxyModel`
        Whose network answers.
    system : module or object
        ``VIEWS``, and the functions ``inputs(prepared)``, which gives what the network
        takes, ``layout(model, n_samples)``, which gives trailing shape and unit of
        each column, and ``columns(outputs, prepared, members, config)``, which gives
        columns and flags.
    problem : callable
        ``problem(member)`` is the error of a member that cannot be used, or None.
    prepare : callable
        ``prepare(members)`` prepares a chunk.
    is_single : bool
        Whether there is one object, whose error is raised.
    length : int or None
        Number of objects, where known.
    device, dtype, batch_size, n_samples, seed, progress
        As in `~galml.core.inference.infer`.
    call : dict
        Arguments of the operation; those that are None are not noted.

    Returns
    -------
    `~astropy.table.QTable`
        One row per object. What could not be used is NaN with flags, and one
        `~galml.core.GalmlWarning` sums up.
    """
    layout = system.layout(model, n_samples)
    rows, waiting, answers = [], deque(), []
    outputs = infer(
        model.network,
        _chunks(members, system, problem, prepare, rows, waiting, is_single),
        views=system.VIEWS,
        device=device,
        dtype=dtype,
        batch_size=64 if batch_size is None else batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
        total=length,
    )
    for output in outputs:
        places, good, prepared = waiting.popleft()
        answers.append((places, system.columns(output, prepared, good, model.config)))
    columns, flags = _merge(rows, answers, layout)
    table = build_table(
        columns,
        operation=model.operation,
        model=model,
        names=[name for name, _ in rows],
        flags=flags,
        device=str(resolve_device(device)),
        dtype=dtype,
        seed=seed,
        call={key: value for key, value in call.items() if value is not None},
    )
    if not is_single:
        errors = [error for _, error in rows if error is not None]
        warn_batch(flags, errors, stacklevel=4)
    return table


def in_groups(members, kind, prepare):
    """Prepare objects of one kind together.

    Parameters
    ----------
    members : sequence
        The objects.
    kind : callable
        ``kind(member)`` is hashable and the same for what can be stacked.
    prepare : callable
        Takes a list of members of one kind; gives a dataclass of tensors with as many
        rows.

    Returns
    -------
    object
        Such a dataclass, with rows in the order of ``members``.
    """
    groups = {}
    for index, member in enumerate(members):
        groups.setdefault(kind(member), []).append(index)
    parts = [prepare([members[i] for i in rows]) for rows in groups.values()]
    order = torch.tensor([i for rows in groups.values() for i in rows]).argsort()
    columns = {
        key: torch.cat([getattr(part, key) for part in parts])[order]
        for key in vars(parts[0])
    }
    return type(parts[0])(**columns)


def _chunks(members, system, problem, prepare, rows, waiting, is_single):
    """Prepare objects chunk by chunk.

    Name and error of every member are noted in ``rows``; ``waiting`` holds the places
    of a chunk's members there, the members, and what was prepared of them.
    """

    def prepared():
        chunk = prepare(good)
        waiting.append((places, good, chunk))
        return system.inputs(chunk)

    places, good = [], []
    for index, member in enumerate(members):
        error = problem(member)
        if is_single and error is not None:
            raise error
        rows.append((member.name, error))
        if error is not None:
            continue
        places.append(index)
        good.append(member)
        if len(good) == CHUNK or sum(m.values.size for m in good) > CHUNK_PIXELS:
            yield prepared()
            places, good = [], []
    if good:
        yield prepared()


def _merge(rows, answers, layout):
    """Put the answers into columns, with NaN where there is none."""
    columns = {
        name: np.full((len(rows), *shape), np.nan) * (1 if unit is None else unit)
        for name, (shape, unit) in layout.items()
    }
    flags = np.array([failure_flags(error) for _, error in rows], dtype=int)
    for places, (values, bits) in answers:
        for name, column in values.items():
            columns[name][places] = column
        flags[places] = bits
    return columns, flags
