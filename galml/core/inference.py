# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one inference engine."""

import contextlib
import copy
import functools
import inspect
import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import torch
from tqdm import tqdm

from galml.core.exceptions import InputError, InputTypeError, check_whole
from galml.core.networks import RandomNetwork, View
from galml.core.threads import in_threads, shared_threads
from galml.physics import stable_seed

__all__ = [
    "check_samples",
    "check_seed",
    "infer",
    "keyed_generator",
    "progress_updates",
    "resolve_device",
    "single_precision",
    "survive_forks",
    "to_device",
]


#: Most random passes.
MOST_SAMPLES = 100_000
#: Objects that a network sees at once, by the type of the device. A thread of the CPU
#: is busy with few of them, and then several threads can share a batch.
BATCH_SIZES = {"cpu": 16}
BATCH_SIZE = 64

#: For every evaluation at work on CUDA: whether convolutions could round to TF32 before
#: the first one.
_allowed = []
_changing_precision = threading.Lock()


@functools.cache
def survive_forks():
    """
    Let processes that are forked later compute, with one thread of torch each.

    The threads that torch has started are not there in a forked process, which would
    wait for them without end.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def resolve_device(device="auto"):
    """
    Turn the name of a device into a `torch.device` that is there.

    Parameters
    ----------
    device : str or `torch.device`, optional
        "auto" takes CUDA where there is one, then Apple's MPS, then the CPU.

    Returns
    -------
    `torch.device`

    Raises
    ------
    galml.core.exceptions.InputError
        If the device is unknown, or not available on this machine.
    """
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    here = [name for name, count in counts.items() if count]
    try:
        resolved = torch.device(here[0] if device == "auto" else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError("device", repr(device), f"'auto' or one of {here}") from error
    if (resolved.index or 0) >= counts.get(resolved.type, 0):
        raise InputError("device", repr(device), f"'auto' or one of {here}")
    if resolved.type != "cpu" and resolved.index is None:
        # As tensors report it, so that the two can be compared.
        index = torch.cuda.current_device() if resolved.type == "cuda" else 0
        resolved = torch.device(resolved.type, index)
    return resolved


def keyed_generator(seed, *tensors):
    """
    Make a random generator that depends on a seed and on an object's tensors.

    The numbers drawn for an object then do not depend on its place in a batch.

    Parameters
    ----------
    seed : int or None
        `None` is the same as 0.
    *tensors : `torch.Tensor`
        The prepared tensors of one object.

    Returns
    -------
    `torch.Generator`
        On the CPU.
    """
    return torch.Generator().manual_seed(stable_seed(seed or 0, *tensors))


def to_device(batch, device):
    """
    Move a batch to a device.

    Parameters
    ----------
    batch : dict of `torch.Tensor`
        The tensors.
    device : `torch.device`
        Where to. Pinned memory is copied while other work goes on.

    Returns
    -------
    dict of `torch.Tensor`
        Real numbers are float32.
    """
    return {
        key: t.to(
            device,
            torch.float32 if t.is_floating_point() else t.dtype,
            non_blocking=True,
        )
        for key, t in batch.items()
    }


def infer(
    network,
    batches,
    *,
    views=(),
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=0,
    seed=None,
    progress=False,
    total=None,
):
    """
    Run a network over a stream of prepared objects, with bounded memory.

    One incoming batch is drawn at a time, and its outputs are given back before the
    next one is drawn. The results for an object do not depend on the batches but for
    the rounding of single precision, nor on the order of the objects. They do not
    depend at all on the number of threads: on the CPU each computes for its objects
    alone. The network is never changed: one that is in training mode or on another
    device is copied once, so that threads can share a network.

    Parameters
    ----------
    network : `torch.nn.Module`
        ``network(inputs)`` takes and returns a dict of tensors, whose first axes are
        the objects. With ``n_samples`` it is a
        `~galml.core.networks.RandomNetwork`, or has the attribute ``n_noise`` and the
        method ``sample(outputs, noise)``, which returns a dict of tensors.
    batches : iterable of dict of `torch.Tensor`
        Prepared objects; the tensors of a batch have equal first axes. Real numbers
        become float32.
    views : sequence of galml.core.networks.View, optional
        The outputs are the mean over these views, each output restored first.
    device : str or `torch.device`, optional
        See `resolve_device`.
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network's layers. With "float32" convolutions on CUDA do not
        round their inputs to TF32, as torch lets them by default; what you set by
        torch's ``fp32_precision`` stands. "bfloat16" uses
        `torch.autocast`: matrix products and convolutions only; inputs, averages and
        outputs stay float32.
    batch_size : int or None, optional
        The largest number of objects that the network sees at once; by default 16 for
        each thread of the CPU, and 64 elsewhere.
    n_samples : int, optional
        Number of random passes. Of a random network only the layers behind
        ``network.features`` run in each of them, and the probabilities of a pass are
        averaged over the views; of others only ``network.sample`` does. The noise, of
        shape (objects, ``n_samples``, ``n_noise``), is uniform between 0 and 1. That of
        random networks depends on ``seed`` and the pass alone: each pass is one
        network, the same for all objects. That of others depends on ``seed`` and the
        object's tensors alone.
    seed : int or None, optional
        `None` is the same as 0.
    progress : bool or callable, optional
        `True` shows a progress bar on standard error; a callable is called as
        ``progress(done, total)`` after each incoming batch.
    total : int or None, optional
        Number of objects, where it is known, for the progress.

    Returns
    -------
    iterator of dict of `torch.Tensor`
        float32 outputs on the CPU, one dict for each incoming batch, rows in order.

    Raises
    ------
    galml.core.exceptions.InputError
        If an option is out of its range, the tensors of a batch differ in length, or
        torch's default is not single precision.
    """
    survive_forks()
    if torch.get_default_dtype() != torch.float32:
        got, expected = torch.get_default_dtype(), torch.float32
        raise InputError("torch.set_default_dtype", str(got), str(expected))
    device = resolve_device(device)
    if batch_size is None:
        batch_size = BATCH_SIZES.get(device.type, BATCH_SIZE)
    check_whole("batch_size", batch_size, 1)
    check_samples(network, n_samples)
    if dtype not in ("float32", "bfloat16"):
        raise InputError("dtype", repr(dtype), "'float32' or 'bfloat16'")

    def evaluate(inputs):
        return _evaluate(
            network,
            inputs,
            views=views or (View(),),
            device=device,
            low_precision=dtype == "bfloat16",
            n_samples=n_samples,
            seed=seed,
        )

    network = _ready(network, device)
    if device.type != "cpu":
        batches = ahead(batches, pinned=device.type == "cuda")
    return _stream(batches, evaluate, batch_size, device, progress, total)


def check_seed(seed):
    """
    Raise where a seed is none.

    Parameters
    ----------
    seed : int or None
        The seed.

    Raises
    ------
    galml.core.exceptions.InputError
        If it is no whole number.
    """
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral)):
        raise InputError("seed", repr(seed), "a whole number, or None")


def check_samples(network, n_samples):
    """
    Raise where random passes are asked for that a network does not have.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    n_samples : int
        Number of random passes.

    Raises
    ------
    galml.core.exceptions.InputError
        If it is no whole number, too large for memory, or the network has no
        distributions.
    """
    check_whole("n_samples", n_samples, 0, MOST_SAMPLES)
    if n_samples and not hasattr(network, "n_noise"):
        expected = "0: this model has no distributions"
        raise InputError("n_samples", n_samples, expected)


def ahead(batches, *, pinned=False):
    """
    Draw the next batch in a thread while the present one is used.

    Parameters
    ----------
    batches : iterable of dict of `torch.Tensor`
        What to draw from.
    pinned : bool, optional
        Put the tensors into memory from which an accelerator can copy on its own.

    Yields
    ------
    dict of `torch.Tensor`
        The batches in order. An error of the iterable is raised in its turn.
    """
    source = iter(batches)

    def draw():
        batch = next(source, None)
        if batch is not None and pinned:
            batch = {key: tensor.pin_memory() for key, tensor in batch.items()}
        return batch

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw)
        while (batch := coming.result()) is not None:
            coming = pool.submit(draw)
            yield batch


def _ready(network, device):
    """Return the network in evaluation mode on the device: itself, or a copy."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    if all(t.device == device for t in tensors) and not any(
        module.training for module in network.modules()
    ):
        return network
    network = copy.deepcopy(network).eval()
    return network.to(device, memory_format=torch.channels_last)


def _stream(batches, evaluate, batch_size, device, progress, total):
    """Evaluate batch after batch in pieces of at most ``batch_size`` objects."""
    with progress_updates(progress, total) as update:
        for batch in batches:
            lengths = {key: len(tensor) for key, tensor in batch.items()}
            number = max(lengths.values(), default=0)
            if number == 0 or set(lengths.values()) != {number}:
                expected = "tensors of equal length, at least 1"
                raise InputError("batches", f"lengths {lengths}", expected)
            pieces = [
                {
                    key: tensor[start : start + batch_size]
                    for key, tensor in batch.items()
                }
                for start in range(0, number, batch_size)
            ]
            outputs = _share(evaluate, pieces, device)
            update(number)
            yield {key: torch.cat([one[key] for one in outputs]) for key in outputs[0]}


def _share(evaluate, pieces, device):
    """Evaluate pieces; on the CPU several at once, but each with one thread.

    The last bits of products of matrices depend on how many threads share them, and
    how many do on what else the machine does.
    """
    if device.type != "cpu":
        return [evaluate(piece) for piece in pieces]
    with shared_threads(None) as threads:
        return in_threads(evaluate, pieces, threads)


def _evaluate(network, inputs, *, views, device, low_precision, n_samples, seed):
    """Run the network once per view, average, and draw the random passes."""
    is_random = isinstance(network, RandomNetwork)
    noise = None
    # No context may be open across a yield: it would leak to the consumer.
    with torch.no_grad(), single_precision(device):
        moved = to_device(inputs, device)
        if n_samples:
            draw = _pass_noise if is_random else _noise
            noise = draw(inputs, n_samples, network.n_noise, seed).to(device)
        results = []
        for view in views:
            with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
                seen = view.apply(moved)
                if is_random:
                    outputs = network.probabilities(network.features(seen), noise)
                else:
                    outputs = network(seen)
            results.append(view.restore({k: v.float() for k, v in outputs.items()}))
        outputs = {
            key: torch.stack([result[key] for result in results]).mean(dim=0)
            for key in results[0]
        }
        if n_samples and not is_random:
            outputs |= network.sample(outputs, noise)
        return {key: tensor.float().cpu() for key, tensor in outputs.items()}


@contextlib.contextmanager
def single_precision(device):
    """
    Let convolutions on CUDA be as precise as float32 is.

    By default they round what they multiply to 10 bits, and answers differ from those
    of the CPU by some 1e-4. The setting belongs to the process: of threads that
    overlap, the last one puts back what the first one found.

    Parameters
    ----------
    device : `torch.device`
        Where the convolutions are; on others than CUDA nothing is done.
    """
    if device.type != "cuda" or not _chosen_by_torch():
        yield
        return
    flags = torch.backends.cudnn
    with _changing_precision:
        _allowed.append(_allowed[0] if _allowed else flags.allow_tf32)
        flags.allow_tf32 = False
    try:
        yield
    finally:
        with _changing_precision:
            before = _allowed.pop()
            if not _allowed:
                flags.allow_tf32 = before


def _chosen_by_torch():
    """Whether nobody has set precisions of operations one by one."""
    try:
        return isinstance(torch.backends.cudnn.allow_tf32, bool)
    except RuntimeError:
        return False


def _pass_noise(inputs, n_samples, n_noise, seed):
    """Draw uniform noise for each pass, the same for all objects."""
    noise = torch.rand(n_samples, n_noise, generator=keyed_generator(seed, "passes"))
    return noise.expand(len(next(iter(inputs.values()))), -1, -1)


def _noise(inputs, n_samples, n_noise, seed):
    """Draw uniform noise for each object, from its own generator."""
    keys = _keys({name: inputs[name].cpu() for name in sorted(inputs)})
    noise = torch.stack(
        [
            torch.rand(n_samples, n_noise, generator=keyed_generator(seed, *parts))
            for parts in zip(*keys, strict=True)
        ]
    )
    return noise.clamp_(min=2**-25)  # quantile functions diverge at 0


def _keys(inputs):
    """Reduce prepared objects to what tells them apart.

    The last bits of prepared numbers may depend on the batch and on the processor,
    keys must not. So images count by the means of their channels, which are also the
    same for all views, and numbers beside images coarsely.
    """
    pictured = any(tensor.ndim > 3 for tensor in inputs.values())
    keys = []
    for tensor in inputs.values():
        if tensor.ndim > 3:
            tensor = tensor.float().abs().mean((-1, -2)) * 16384
        elif tensor.is_floating_point():
            tensor = tensor.float() * (16 if pictured else 1024)
        else:
            keys.append(tensor)
            continue
        keys.append(tensor.round() + 0.0)  # no negative zeros
    return keys


@contextlib.contextmanager
def progress_updates(progress, total, unit="object", name=None):
    """Show a progress bar, or report to a function.

    Parameters
    ----------
    progress : bool or callable
        Whether to show the bar; or what to call as ``progress(done, total)``.
    total : int or None
        Number of objects, where it is known.
    unit : str, optional
        What is counted.
    name : str, optional
        What is done.

    Yields
    ------
    callable
        To be called with the number of objects just done.

    Raises
    ------
    galml.core.InputTypeError
        For a function that cannot be called so.
    """
    if callable(progress):
        _check_reporter(progress)
        done = 0

        def update(number):
            nonlocal done
            done += number
            progress(done, total)

        yield update
    else:
        style = {"disable": not progress, "file": sys.stderr, "unit": unit}
        with tqdm(desc=name, total=total, **style) as bar:
            yield bar.update


def _check_reporter(progress):
    """Raise for what cannot be called with two numbers."""
    try:
        signature = inspect.signature(progress)
    except ValueError:
        # Those written in C do not all tell.
        return
    try:
        signature.bind(0, 0)
    except TypeError as error:
        got = f"a function of {signature}"
        raise InputTypeError("progress", got, "one of (done, total)") from error
