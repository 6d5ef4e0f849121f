# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A domain as small as can be: it weighs rows of four numbers."""

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from galml.core import domain as domain_module
from galml.core.distributions import LEVELS, histogram_quantile
from galml.core.domain import Architecture, Operation
from galml.core.exceptions import InputError
from galml.core.inputs import Failure, Source
from galml.core.model import InputSpec
from galml.core.networks import View
from galml.core.running import grouped

SPEC = InputSpec(scalars=("a", "b", "c", "d"), parameters={"unit": 2.0})


class Scale(nn.Module):
    """A histogram of the weight, from the numbers."""

    n_noise = 1

    def __init__(self, bins=20):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, bins))

    def forward(self, inputs):
        return {"weight": self.layers(inputs["numbers"])}

    def sample(self, outputs, noise):
        return {"noise": noise[..., 0]}


@dataclass
class Rows:
    values: np.ndarray
    names: list

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        return Rows(self.values[rows], [self.names[row] for row in rows])


@dataclass
class Prepared:
    numbers: torch.Tensor

    @property
    def inputs(self):
        return {"numbers": self.numbers}


class WeighDomain:
    """Rows of four numbers; negative ones cannot be used."""

    operation = "weigh"
    views = (View(), View(lambda x: {"numbers": x["numbers"].flip(1)}))

    def __init__(self, model):
        self.model = model

    def read(self, data, block=3, fails=()):
        def members():
            for start in range(0, len(data), block):
                if start in fails:
                    yield Failure(OSError("torn"), f"torn {start}")
                else:
                    part = np.asarray(data[start : start + block], dtype=float)
                    names = [f"row {start + i}" for i in range(len(part))]
                    yield Rows(part, names)

        return Source(len(data) == 1, len(data), members())

    def problem(self, member):
        return [
            InputError("data", "less", "more") if (row < 0).any() else None
            for row in member.values
        ]

    def prepare(self, members):
        unit = self.model.input_spec.parameters["unit"]

        def stack(group):
            values = np.concatenate([member.values for member in group]) / unit
            return Prepared(torch.from_numpy(values).float())

        return grouped(members, lambda member: len(member), stack)

    def columns(self, n_samples):
        samples = {"weight_samples": ((n_samples,), None)} if n_samples else {}
        return {"weight": ((), None), "weight_err": ((), None)} | samples

    def answer(self, outputs, prepared, members):
        probability = torch.softmax(outputs["weight"], 1)
        quantiles = histogram_quantile(probability, torch.tensor(LEVELS), 1.0)
        low, median, high = quantiles.numpy().T
        values = {"weight": median, "weight_err": (high - low) / 2}
        if "noise" in outputs:
            noise = outputs["noise"].contiguous()
            values["weight_samples"] = histogram_quantile(probability, noise, 1.0)
        return values

    def flags(self, answer, prepared, members):
        return np.full(len(prepared.numbers), 64)


@pytest.fixture
def weigh(monkeypatch):
    """The row of the operation "weigh"; its network and domain can be found."""
    module = ModuleType("weigh_domain")
    module.Scale, module.WeighDomain = Scale, WeighDomain
    monkeypatch.setitem(sys.modules, "weigh_domain", module)
    scale = Architecture("weigh_domain:Scale", "weigh_domain:WeighDomain")
    row = Operation("weigh", "nowhere:weigh", architectures={"scale": scale})
    monkeypatch.setattr(domain_module, "_operations", {"weigh": row})
    return row
