# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""State of a training between two epochs, in memory and in a file."""

import json
import os
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from galml.core.exceptions import ModelError, WeightsError

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
    part = f"{os.fspath(path)}.part"
    save_file(copy_tensors(tensors), part, metadata={METADATA_KEY: text})
    os.replace(part, path)


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
