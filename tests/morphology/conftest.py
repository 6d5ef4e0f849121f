# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from galml.core.fitting import new_network
from galml.core.model import GalaxyModel
from galml.morphology.network import MorphologyNet
from galml.morphology.preparation import INPUT

SIZE = 96


def draw(axis_ratio=0.6, angle=30.0, radius=6.0, spot=0.1, size=SIZE, center=(0, 0)):
    """A disk with a spot beside it, angle in degrees from x, without noise."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    x, y = x - center[0], y - center[1]
    turn = np.deg2rad(angle)
    along, across = (
        x * np.cos(turn) + y * np.sin(turn),
        y * np.cos(turn) - x * np.sin(turn),
    )
    disk = np.exp(-np.hypot(along, across / axis_ratio) / radius)
    place = np.hypot(along - 1.5 * radius, across - 0.5 * radius)
    return disk + spot * np.exp(-0.5 * (place / 2) ** 2)


@pytest.fixture(scope="session")
def disk():
    return draw


@pytest.fixture(scope="session")
def untrained():
    """A model of random weights: what must hold for all holds for it."""
    network = new_network(MorphologyNet, {"properties": 2}, seed=3)
    scalars = len(INPUT.scalars)
    config = {
        "scatter": [2.0] * 32,
        "domain": {"low": [-9.0] * scalars, "high": [9.0] * scalars},
    }
    return GalaxyModel(
        network,
        operation="latents",
        architecture="morphology",
        options={"properties": 2},
        config=config,
        card={},
        input_spec=INPUT,
        name="untrained",
    )
