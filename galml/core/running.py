# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From objects to a table: what every operation on objects does alike."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch

from galml.core.exceptions import InputError, ModelError, check_whole
from galml.core.flags import Flag
from galml.core.geometry import sky_positions
from galml.core.inference import (
    check_samples,
    check_seed,
    infer,
    progress_updates,
    resolve_device,
)
from galml.core.inputs import BLOCK, BLOCK_PIXELS, Failure
from galml.core.results import build_table, failure_flags, warn_batch
from galml.core.threads import in_threads, shared_threads
from galml.physics import fresh_seed

__all__ = ["Row", "chunks", "grouped", "in_threads", "run", "shared_threads"]

#: Rows, and pixels of all rows, that are prepared at once.
CHUNK = BLOCK
CHUNK_PIXELS = BLOCK_PIXELS
#: Most chunks that are prepared at the same time, where a domain allows it.
WORKERS = 4
#: Why a row has no result whose numbers came out of the network as none.
NO_NUMBER = InputError(
    "data",
    "an object of which no finite result can be made",
    "values in the right unit, weights that are finite, a WCS that covers the object",
)


class Row(NamedTuple):
    """What is known of an object that was read.

    Attributes
    ----------
    name : str or None
        Its name.
    error : Exception or None
        Why it cannot be used.
    flags : int
        Bits of `galml.core.Flag` that reading has set, where the domain tells.
    """

    name: str | None
    error: Exception | None
    flags: int = 0


def run(
    domain,
    data,
    options,
    *,
    asked=None,
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
    asked : dict, optional
        What the domain was made for beside the model, to be noted as well.
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
    check_seed(seed)
    check_whole("n_samples", n_samples, 0)
    if n_samples and seed is None:
        seed = fresh_seed()
    layout = domain.columns(n_samples)
    rows, answers = [], []
    pieces = _read_chunks(domain, source, rows)
    # Members that are to be tried one by one; the error of a single one is raised.
    broken = None if source.is_single else []
    keywords = {}
    if domain.model is None:
        device, found = "cpu", _without_network(domain, pieces, broken)
    else:
        check_samples(domain.model.network, n_samples)
        device = resolve_device(device)
        keywords = {
            "views": domain.views,
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "n_samples": n_samples,
            "seed": seed,
        }
        concurrent = device.type == "cpu" and getattr(domain, "concurrent", False)
        ask = _ask_together if concurrent else _ask_in_turn
        found = ask(domain, pieces, keywords, broken)
    with progress_updates(progress, source.length, name=domain.operation) as update:
        for places, members, prepared, output in found:
            number = len(answers)
            with _noting(broken, places, members):
                answers.append((places, *_answer(domain, output, prepared, members)))
            if len(answers) > number:
                update(len(places))
        for answer in _one_by_one(domain, broken or (), keywords, rows):
            answers.append(answer)
            update(1)
    columns, flags, sky = _merge(rows, answers, layout)
    call = options | (asked or {}) | {"n_samples": n_samples or None}
    table = build_table(
        columns,
        operation=domain.operation,
        model=domain.model,
        names=[row.name for row in rows],
        flags=flags,
        places=sky,
        device=str(device),
        dtype=dtype,
        seed=seed,
        call={key: value for key, value in call.items() if value is not None},
        optional=getattr(domain, "optional", ()),
    )
    failed = np.flatnonzero(np.asarray(table["flags"]) & int(Flag.FAILED))
    errors = [rows[row].error or NO_NUMBER for row in failed]
    if not source.is_single:
        warn_batch(table["flags"], errors, stacklevel=4)
    elif errors:
        raise errors[0]
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


def chunks(domain, source, rows):
    """Prepare objects chunk by chunk.

    Parameters
    ----------
    domain : `~galml.core.domain.Domain`
        What is known of objects of this kind.
    source : `~galml.core.inputs.Source`
        What the domain read.
    rows : list of `Row`
        Those of the members are added to it, as they are read.

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
    for places, members in _read_chunks(domain, source, rows):
        yield places, members, _prepare(domain, members)


def _prepare(domain, members):
    """Prepare members, by as many threads as there are processors free."""
    with shared_threads(1):
        return domain.prepare(members)


def _read_chunks(domain, source, rows):
    """Read members, and sort out what cannot be used."""
    places, usable, size = [], [], 0
    for member in source.members:
        failed = isinstance(member, Failure)
        errors = [member.error] if failed else _problems(domain, member)
        if source.is_single and errors[0] is not None:
            raise errors[0]
        good = [row for row, error in enumerate(errors) if error is None]
        places += [len(rows) + row for row in good]
        names = [member.name] if failed else member.names
        bits = [member.flags] if failed else getattr(member, "flags", [0] * len(names))
        rows += map(Row, names, errors, bits)
        if not good:
            continue
        usable.append(member if len(good) == len(errors) else member[good])
        size += usable[-1].values.size
        if len(places) >= CHUNK or size > CHUNK_PIXELS:
            yield places, usable
            places, usable, size = [], [], 0
    if usable:
        yield places, usable


def _problems(domain, member):
    """Tell what is wrong with the rows of a member, whatever that raises."""
    try:
        return domain.problem(member)
    except Exception as error:
        return [error] * len(member)


@contextmanager
def _noting(broken, places, members):
    """Note members with which something went wrong, or raise it where broken is None.

    Whatever it was, it must not end the others, if it is not the model's fault.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception:
        if broken is None:
            raise
        broken.append((places, members))


def _answer(domain, output, prepared, members):
    """Give columns, flags and places on the sky, in one thread: it is soon done."""
    with shared_threads(None):
        columns = domain.answer(output, prepared, members)
        bits = domain.flags(columns, prepared, members)
        return columns, bits, _on_the_sky(domain, prepared, members)


def _one_by_one(domain, broken, keywords, rows):
    """Answer for each row alone, or note its error."""
    for places, members in broken:
        alone = (member[[row]] for member in members for row in range(len(member)))
        for place, member in zip(places, alone, strict=True):
            try:
                prepared, output = _prepare(domain, [member]), {}
                if domain.model is not None:
                    network = domain.model.network
                    (output,) = infer(network, [prepared.inputs], **keywords)
                yield [place], *_answer(domain, output, prepared, [member])
            except Exception as error:
                rows[place] = rows[place]._replace(error=error)


def _without_network(domain, pieces, broken):
    """Give no output for each chunk."""
    for places, members in pieces:
        with _noting(broken, places, members):
            prepared = _prepare(domain, members)
            yield places, members, prepared, {}


def _ask_in_turn(domain, pieces, keywords, broken):
    """Prepare chunk by chunk, and ask the network, with many threads of torch."""
    waiting = deque()

    def batches():
        for places, members in pieces:
            with _noting(broken, places, members):
                prepared = _prepare(domain, members)
                waiting.append((places, members, prepared))
                yield prepared.inputs

    for output in infer(domain.model.network, batches(), **keywords):
        yield *waiting.popleft(), output


def _ask_together(domain, pieces, keywords, broken):
    """Prepare several chunks and ask the network at the same time, in threads."""
    workers = min(torch.get_num_threads(), WORKERS)
    first = list(islice(pieces, 2)) if workers > 1 else []
    pieces = chain(first, pieces)
    if len(first) < 2:
        yield from _ask_in_turn(domain, pieces, keywords, broken)
        return

    def work(members):
        prepared = domain.prepare(members)
        (output,) = infer(domain.model.network, [prepared.inputs], **keywords)
        return prepared, output

    # Bad keywords are found before there are threads.
    infer(domain.model.network, (), **keywords)
    waiting = deque()

    def oldest():
        places, members, answer = waiting.popleft()
        with _noting(broken, places, members):
            yield places, members, *answer.result()

    with shared_threads(workers), ThreadPoolExecutor(workers) as pool:
        for places, members in pieces:
            waiting.append((places, members, pool.submit(work, members)))
            if len(waiting) > workers:
                yield from oldest()
        while waiting:
            yield from oldest()


def _merge(rows, answers, layout):
    """Put the answers into columns, with NaN where there is none."""
    columns = {
        name: _unknown((len(rows), *shape), unit)
        for name, (shape, unit) in layout.items()
    }
    flags = [row.flags | failure_flags(row.error) for row in rows]
    flags = np.array(flags, dtype=int)
    sky = np.full((len(rows), 2), np.nan)
    for places, values, bits, position in answers:
        sky[places] = position
        for name, column in values.items():
            columns[name][places] = column
        flags[places] = bits
    for name, (_, unit) in layout.items():
        if unit is str:
            columns[name] = columns[name].astype(str)
    return columns, flags, sky


def _on_the_sky(domain, prepared, members):
    """Give right ascension and declination of each row, NaN where nobody knows."""
    all_wcs = [
        member.wcs_of(row) if hasattr(member, "wcs_of") else None
        for member in members
        for row in range(len(member))
    ]
    if all(wcs is None for wcs in all_wcs):
        return np.nan
    if hasattr(domain, "centers"):
        return sky_positions(all_wcs, domain.centers(prepared, members))
    centers = np.concatenate([member.center for member in members])
    middle = np.concatenate(
        [
            np.tile((np.array(m.values.shape[:-3:-1]) - 1) / 2, (len(m), 1))
            for m in members
        ]
    )
    return sky_positions(all_wcs, np.where(np.isnan(centers), middle, centers))


def _unknown(shape, unit):
    """Make a column without results: NaN, or what a type stands for without one."""
    if unit is str:
        return np.full(shape, "", dtype=object)
    if unit is bool:
        return np.zeros(shape, dtype=bool)
    return np.full(shape, np.nan) * (1 if unit is None else unit)
