# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from galml.core.fitting import untrained_model
from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.mergers.fitting import FerreiraRecipe
from galml.mergers.posterior import calibrate


def make_scenes(count=6, size=128, seed=0, noise=0.02):
    """Disks in one band, every other one with a tail and a second nucleus."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - (size - 1) / 2
    scenes = []
    for index in range(count):
        q, scale = rng.uniform(0.4, 1.0), rng.uniform(4, 8)
        light = np.exp(-np.hypot(x, y / q) / scale)
        if index % 2:
            tail = np.exp(-0.5 * ((y - 0.02 * x**2) / 3) ** 2) * (x > 0) * (x < 45)
            light += 0.15 * tail + np.exp(-np.hypot(x - 8, y - 6) / 3)
        scenes.append(light + noise * rng.normal(size=light.shape))
    return np.stack(scenes)


@pytest.fixture(scope="session")
def make():
    return make_scenes


@pytest.fixture(scope="session")
def scenes():
    return make_scenes()


@pytest.fixture(scope="session")
def model():
    """The default model, as it is shipped."""
    return load_model("default", "merger")


@pytest.fixture(scope="session")
def published_model():
    """Published network before any training: its weights are not at hand."""
    import torch

    bare = untrained_model(FerreiraRecipe(), seed=4)
    stage = torch.tensor([0.0, 3.0]).repeat(10)
    outputs = {"stage": torch.zeros(20, 1, 2)}
    return GalaxyModel(
        bare.network,
        operation="merger",
        architecture="ferreira2022",
        options={},
        config=calibrate(outputs, {"stage": stage, "group": torch.zeros(20)}),
        card={},
        input_spec=bare.input_spec,
        name="published",
    )
