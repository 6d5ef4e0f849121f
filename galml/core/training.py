# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one training loop: its batches, its schedules and its checkpoints."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import astropy.units as u
import torch
from astropy.table import QTable
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from galml.core.exceptions import InputError, ModelError, WeightsError, check_whole
from galml.core.files import write_at_once
from galml.core.inference import resolve_device, to_device
from galml.physics import stable_seed

__all__ = [
    "BatchSource",
    "Paired",
    "Training",
    "batch_source",
    "cycle",
    "plateau",
    "train",
]


class BatchSource:
    """Batches from tensors in memory or from a stream, seen as the same thing."""

    def __init__(self, source, argument, batch_size):
        self.source = source
        self.description, self.steps = "stream", None
        if callable(source):
            return
        sizes = {k: t.shape[0] if t.ndim else 0 for k, t in source.items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            expected = "tensors with the same number of objects, at least 1"
            raise InputError(argument, f"first axes {sizes}", expected)
        self.size = next(iter(sizes.values()))
        # Batches of nearly equal size: a last batch of one breaks batch norms.
        self.steps = math.ceil(self.size / batch_size)
        self.description = {
            k: [str(t.dtype), *t.shape] for k, t in sorted(source.items())
        }

    def batches(self, epoch, generator=None):
        """Return the number of batches, where known, and an iterator over them."""
        if self.steps is None:
            stream = self.source(epoch)
            return (len(stream) if hasattr(stream, "__len__") else None), iter(stream)
        order = torch.arange(self.size)
        if generator is not None:
            order = torch.randperm(self.size, generator=generator)
        parts = order.tensor_split(self.steps)
        batches = ({k: t[part] for k, t in self.source.items()} for part in parts)
        return self.steps, batches


@dataclass(frozen=True)
class Paired:
    """Two data sets that a network is trained on together.

    Batches hold the tensors of both, under names that begin with ``source_`` and
    ``target_``.

    Parameters
    ----------
    source, target : dict of `torch.Tensor`, or callable
        As ``data`` of `train`.
    matched : bool, optional
        Whether row i of one belongs to row i of the other, such as one galaxy in two
        surveys: then they stay together. Otherwise each is shuffled by itself, and the
        shorter one begins again when it ends.
    """

    source: object
    target: object
    matched: bool = False


class _PairedBatches:
    """Batches of two sources that do not belong together row by row."""

    def __init__(self, source, target):
        self.parts = {"source_": source, "target_": target}
        steps = [part.steps for part in self.parts.values()]
        self.steps = None if None in steps else max(steps)
        self.description = {
            prefix: part.description for prefix, part in self.parts.items()
        }

    def batches(self, epoch, generator=None):
        """Return the number of batches, where known, and an iterator over them."""
        return self.steps, self._joined(epoch, generator)

    def _joined(self, epoch, generator):
        """Go through both until the longer one has ended."""
        ended = dict.fromkeys(self.parts, False)
        streams = {
            prefix: part.batches(epoch, generator)[1]
            for prefix, part in self.parts.items()
        }
        while True:
            joined = {}
            for prefix, part in self.parts.items():
                batch = next(streams[prefix], None)
                if batch is None:
                    ended[prefix] = True
                    if all(ended.values()):
                        return
                    streams[prefix] = part.batches(epoch, generator)[1]
                    batch = next(streams[prefix], None)
                    if batch is None:
                        return
                joined |= _prefixed(prefix, batch)
            yield joined


def _prefixed(prefix, batch):
    return {prefix + key: tensor for key, tensor in batch.items()}


def batch_source(data, argument, batch_size):
    """Make the batches of what the user gave.

    Parameters
    ----------
    data : dict of `torch.Tensor`, callable or `Paired`
        As for `train`.
    argument : str
        Name used in errors.
    batch_size : int
        The largest number of objects in a batch.

    Returns
    -------
    object
        With the method ``batches``, the number of ``steps``, None where it is unknown,
        and a ``description``.
    """
    if not isinstance(data, Paired):
        return BatchSource(data, argument, batch_size)
    if not data.matched:
        return _PairedBatches(
            BatchSource(data.source, f"{argument}.source", batch_size),
            BatchSource(data.target, f"{argument}.target", batch_size),
        )
    if callable(data.source) or callable(data.target):
        raise InputError(argument, "matched streams", "tensors, or matched=False")
    joined = _prefixed("source_", data.source) | _prefixed("target_", data.target)
    return BatchSource(joined, argument, batch_size)


PLATEAU_STEP = 1e-4
PLATEAU_EPOCHS = 5
LOWEST_RATE = 1e-5


def cycle(fraction, warmup):
    """Learning rate in units of its peak, at a fraction of the training."""
    if fraction < warmup:
        return fraction / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (fraction - warmup) / (1 - warmup))


def plateau(learning_rate, losses):
    """Learning rate after epochs with these validation losses."""
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - PLATEAU_STEP:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == PLATEAU_EPOCHS:
            learning_rate, waited = max(0.2 * learning_rate, LOWEST_RATE), 0
    return learning_rate


METADATA_KEY = "galml_training"


@dataclass
class State:
    """What changes from epoch to epoch, besides network and optimizer."""

    epoch: int = 0
    history: list = field(default_factory=list)
    best_epoch: int = -1
    best: dict = field(default_factory=dict)
    stopped: str | None = None

    def update(self, row, network, epochs, patience):
        """Take up the row of an epoch."""
        self.history.append(row)
        losses = [r["validation_loss"] for r in self.history]
        if self.best_epoch < 0 or losses[-1] < losses[self.best_epoch]:
            self.best_epoch = self.epoch
            self.best = copy_tensors(network.state_dict())
        self.epoch += 1
        if self.epoch == epochs:
            self.stopped = "epochs"
        elif patience is not None and self.epoch - 1 - self.best_epoch >= patience:
            self.stopped = "patience"


def copy_tensors(state):
    """Copy tensors to the CPU, sharing no memory."""
    return {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}


def save_checkpoint(path, config, network, optimizer, state):
    """Replace the checkpoint in one step, so that a kill leaves the last one."""
    slots = optimizer.state_dict()["state"]
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for slot, values in slots.items():
        tensors |= {f"optimizer.{slot}.{k}": v for k, v in values.items()}
    metadata = {
        "config": config,
        "epoch": state.epoch,
        "history": state.history,
        "best_epoch": state.best_epoch,
        "stopped": state.stopped,
    }
    text = json.dumps(metadata, default=float)
    write_at_once(path, save(copy_tensors(tensors), {METADATA_KEY: text}))


def load_checkpoint(path, config, network, optimizer):
    """Load network and optimizer from a checkpoint and return its state."""
    tensors = {"network": {}, "best": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            for key in file.keys():  # noqa: SIM118 (not a dict)
                group, name = key.split(".", 1)
                tensors[group][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise WeightsError(f"{path}: not a checkpoint of a training") from error
    # Through JSON, as the configuration of the checkpoint went.
    now, then = json.loads(json.dumps(config, default=float)), metadata["config"]
    different = sorted(k for k in now | then if now.get(k) != then.get(k))
    if different:
        raise ModelError(f"{path}: checkpoint of a training with other {different}")
    network.load_state_dict(tensors["network"])
    slots = {}
    for key, value in tensors["optimizer"].items():
        slot, name = key.split(".", 1)
        if value.ndim == 4:
            # Laid out as the weights are, so that the same kernels run as before.
            value = value.contiguous(memory_format=torch.channels_last)
        slots.setdefault(int(slot), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return State(
        epoch=metadata["epoch"],
        history=metadata["history"],
        best_epoch=metadata["best_epoch"],
        best=tensors["best"],
        stopped=metadata["stopped"],
    )


@dataclass
class Training:
    """
    The result of a training.

    Attributes
    ----------
    network : `torch.nn.Module`
        The network that was passed in, with the weights of the best epoch.
    history : `~astropy.table.QTable`
        One row per epoch: ``epoch``, ``learning_rate`` (at its last step),
        ``train_loss``, ``validation_loss``, every other metric of the loss function
        with the same two prefixes, and ``seconds``.
    best_epoch : int
        The epoch with the lowest validation loss, counted from 0.
    stopped : str
        Why the training ended: "epochs" or "patience".
    """

    network: torch.nn.Module
    history: QTable
    best_epoch: int
    stopped: str


def train(
    network,
    loss,
    data,
    validation,
    *,
    epochs,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.0,
    warmup=0.05,
    schedule="cycle",
    patience=None,
    seed=0,
    device="auto",
    dtype="float32",
    augment=None,
    checkpoint=None,
    progress=False,
    log_dir=None,
):
    """
    Train a network in place and leave it with the weights of its best epoch.

    AdamW (Loshchilov & Hutter 2019, ICLR), by default with one cycle of the learning
    rate (linear warm-up, then a cosine to zero), and gradients clipped to a norm of 1.
    Shuffling, augmentation and dropout draw from generators that depend on ``seed`` and
    the epoch alone: a training killed and resumed ends with the weights of an unbroken
    one. The global random state is left as it was.

    Parameters
    ----------
    network : `torch.nn.Module`
        Trained from the weights that it has. Parameters that require no gradient
        stay as they are.
    loss : callable
        ``loss(network, batch)`` returns a dict of scalar tensors: "loss", a mean over
        the objects of the batch, and any other metrics.
    data, validation : dict of `torch.Tensor`, callable, or `Paired`
        Tensors with objects along their first axis, or a stream, or two of these:
        ``data(epoch)`` returns an iterable of batches (dicts of tensors). A
        validation stream is always called with 0, so that all epochs are judged
        alike. Tensors may have any real type; batches become float32.
    epochs : int
        Number of epochs, at least 1.
    batch_size : int, optional
        The largest number of objects in a batch; streams have their own.
    learning_rate : float, optional
        The peak of the cycle, or where the plateaus begin; positive.
    weight_decay : float, optional
        Of AdamW, not negative.
    warmup : float, optional
        Fraction of the training in which the cycle rises, 0 <= warmup < 1.
    schedule : {"cycle", "plateau"}, optional
        "plateau" keeps the learning rate, and multiplies it by 0.2 whenever 5 epochs
        in a row have not lowered the validation loss by 1e-4; 1e-5 is the lowest.
    patience : int, optional
        Stop after this many epochs in a row without a new best validation loss.
    seed : int, optional
        Seed of all randomness.
    device : str or `torch.device`, optional
        Where to train; the network is moved back at the end.
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network's layers, as in `~galml.core.inference.infer`; the
        weights and the loss stay float32.
    augment : callable, optional
        ``augment(batch, generator)`` returns a new batch. Batch and generator are on
        the training device.
    checkpoint : str or path-like, optional
        A file that is replaced after every epoch, and resumed from where it exists.
        A finished training is returned at once.
    progress : bool, optional
        Show a progress bar on standard error.
    log_dir : str or path-like, optional
        Write the history for TensorBoard into this folder.

    Returns
    -------
    Training
        Network, history, best epoch, and why the training stopped.

    Raises
    ------
    galml.core.exceptions.InputError
        If an argument is out of its range or the tensors differ in length.
    galml.core.exceptions.ModelError
        If the loss is not finite, or the checkpoint is of another training.
    galml.core.exceptions.WeightsError
        If the checkpoint cannot be read.
    ImportError
        If ``log_dir`` is given and TensorBoard is not installed.
    """
    _check(epochs, batch_size, learning_rate, weight_decay, warmup, patience, dtype)
    if schedule not in ("cycle", "plateau"):
        raise InputError("schedule", repr(schedule), "'cycle' or 'plateau'")
    train_data = batch_source(data, "data", batch_size)
    validation_data = batch_source(validation, "validation", batch_size)
    device = resolve_device(device)
    config = {
        "network": repr(network),
        "weights": {k: list(v.shape) for k, v in network.state_dict().items()},
        "data": train_data.description,
        "validation": validation_data.description,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "schedule": schedule,
        "patience": patience,
        "seed": seed,
        "dtype": dtype,
        "augment": augment is not None,
    }
    home = next((p.device for p in network.parameters()), torch.device("cpu"))
    mode = network.training
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad],
        lr=learning_rate,
        weight_decay=weight_decay,
    )
    state = State()

    def rate(epoch):
        if schedule == "cycle":
            return learning_rate * cycle(epoch / epochs, warmup)
        return plateau(learning_rate, [r["validation_loss"] for r in state.history])

    try:
        if checkpoint is not None and os.path.exists(checkpoint):
            state = load_checkpoint(checkpoint, config, network, optimizer)
        with (
            _writer(log_dir, state.epoch) as log,
            _bar(progress, state.epoch, epochs, train_data.steps) as bar,
        ):
            loop = _Loop(
                network,
                partial(
                    loss,
                    _Autocast(network, device) if dtype == "bfloat16" else network,
                ),
                optimizer,
                rate=rate,
                augment=augment,
                seed=seed,
                device=device,
                bar=bar,
            )
            while state.stopped is None:
                row = loop.run(train_data, validation_data, state.epoch)
                state.update(row, network, epochs, patience)
                log(row)
                if checkpoint is not None:
                    save_checkpoint(checkpoint, config, network, optimizer, state)
        network.load_state_dict(state.best)
    finally:
        network.to(home)
        network.train(mode)
    history = QTable(rows=state.history)
    history["seconds"].unit = u.s
    return Training(network, history, state.best_epoch, state.stopped)


def _check(epochs, batch_size, learning_rate, weight_decay, warmup, patience, dtype):
    """Raise where an option is out of its range."""
    for name, value in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("patience", 1 if patience is None else patience),
    ):
        check_whole(name, value)
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise InputError("learning_rate", repr(learning_rate), "a positive number")
    if not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise InputError("weight_decay", repr(weight_decay), "a number of at least 0")
    if dtype not in ("float32", "bfloat16"):
        raise InputError("dtype", repr(dtype), "'float32' or 'bfloat16'")
    if not 0 <= warmup < 1:
        raise InputError("warmup", repr(warmup), "a number in 0 <= warmup < 1")


@dataclass
class _Loop:
    """What one epoch does."""

    network: torch.nn.Module
    loss: Callable
    optimizer: torch.optim.Optimizer
    rate: Callable
    augment: Callable | None
    seed: int
    device: torch.device
    bar: tqdm

    def run(self, data, validation, epoch):
        """Train and validate for one epoch; return its row of the history."""
        start = time.perf_counter()
        self.bar.set_description(f"epoch {epoch + 1}")
        with _forked_rng(self.device, stable_seed(self.seed, "dropout", epoch)):
            train_means = self.train(data, epoch)
            validation_means = self.validate(validation, epoch)
        row = {"epoch": epoch, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{k}": v for k, v in train_means.items()}
        row |= {f"validation_{k}": v for k, v in validation_means.items()}
        return row | {"seconds": time.perf_counter() - start}

    def train(self, data, epoch):
        """Take one step for each batch and return the means of the metrics."""
        noise = self.generator("augment", epoch, self.device)
        steps, batches = data.batches(epoch, self.generator("shuffle", epoch))
        self.network.train()
        means = _Means(f"training data in epoch {epoch}")
        for step, batch in enumerate(batches):
            # A stream of unknown length keeps its learning rate within an epoch.
            fraction = 0.5 if steps is None else min((step + 0.5) / steps, 1)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(epoch + fraction)
            batch = to_device(batch, self.device)
            if self.augment is not None:
                batch = self.augment(batch, noise)
            metrics = self.loss(batch)
            value = means.add(metrics, batch)
            self.optimizer.zero_grad(set_to_none=True)
            metrics["loss"].backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.bar.set_postfix(loss=f"{value:.4g}", refresh=False)
            self.bar.update()
        return means.result()

    @torch.no_grad()
    def validate(self, data, epoch):
        """Return the means of the metrics, in evaluation mode."""
        self.network.eval()
        means = _Means(f"validation data in epoch {epoch}")
        for batch in data.batches(0)[1]:
            batch = to_device(batch, self.device)
            means.add(self.loss(batch), batch)
        return means.result()

    def generator(self, purpose, epoch, device="cpu"):
        """Make the random generator for one purpose in one epoch."""
        key = stable_seed(self.seed, purpose, epoch)
        return torch.Generator(device).manual_seed(key)


class _Autocast:
    """A network whose layers run in bfloat16."""

    def __init__(self, network, device):
        self.network, self.device = network, device

    def __call__(self, *args, **kwargs):
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.network(*args, **kwargs)
        return {key: tensor.float() for key, tensor in outputs.items()}

    def __getattr__(self, name):
        """Let losses reach the layers."""
        return getattr(self.network, name)


class _Means:
    """Means of the metrics over all objects of an epoch."""

    def __init__(self, where):
        self.where, self.sums, self.count, self.steps = where, {}, 0, 0

    def add(self, metrics, batch):
        """Add the metrics of a batch and return its loss, which must be finite."""
        # One transfer for all the numbers: each would wait for the device.
        values = torch.stack([v.detach().float() for v in metrics.values()]).tolist()
        metrics = dict(zip(metrics, values, strict=True))
        if not math.isfinite(metrics["loss"]):
            where = f"{self.where}, step {self.steps}"
            raise ModelError(f"the loss is {metrics['loss']} for {where}")
        number = len(next(iter(batch.values())))
        for key, value in metrics.items():
            self.sums[key] = self.sums.get(key, 0.0) + value * number
        self.count += number
        self.steps += 1
        return metrics["loss"]

    def result(self):
        """Return the means as a dict."""
        if self.count == 0:
            raise ModelError(f"there is no batch of {self.where}")
        return {k: v / self.count for k, v in self.sums.items()}


@contextlib.contextmanager
def _forked_rng(device, key):
    """Seed the global generators of the devices used; restore them afterwards."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else ()):
        # torch.manual_seed would also seed devices that are not used here.
        torch.default_generator.manual_seed(key)
        if device.type != "cpu":
            getattr(torch, device.type).manual_seed(key)
        yield


def _bar(progress, epoch, epochs, steps):
    """Make the progress bar over the batches of the whole training."""
    return tqdm(
        total=steps and steps * epochs,
        initial=(steps or 0) * epoch,
        disable=not progress,
        file=sys.stderr,
        unit="batch",
    )


@contextlib.contextmanager
def _writer(log_dir, epoch):
    """Give a function that logs a row of the history for TensorBoard."""
    if log_dir is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("log_dir needs the package 'tensorboard'") from error
    with SummaryWriter(str(log_dir), purge_step=epoch) as writer:

        def log(row):
            for key, value in row.items():
                writer.add_scalar(key, value, row["epoch"])

        yield log
