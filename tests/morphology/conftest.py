# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.table import QTable

from galml.core.fitting import new_network
from galml.core.model import GalaxyModel
from galml.morphology.network import MorphologyNet
from galml.morphology.preparation import INPUT, SURROUNDED

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


def random_model(spec, options):
    """A model of random weights: what must hold for all holds for it."""
    network = new_network(MorphologyNet, options, seed=3)
    scalars = len(spec.scalars)
    config = {
        "scatter": [2.0] * network.widths[0],
        "domain": {"low": [-9.0] * scalars, "high": [9.0] * scalars},
    }
    return GalaxyModel(
        network,
        operation="latents",
        architecture="morphology",
        options=options,
        config=config,
        card={},
        input_spec=spec,
        name="untrained",
    )


@pytest.fixture(scope="session")
def untrained():
    return random_model(INPUT, {"properties": 2})


@pytest.fixture(scope="session")
def surrounded():
    return random_model(SURROUNDED, {"properties": 2, "surroundings": 16})


def classed_galaxies(count=60, size=40, seed=0, noise=0.004):
    """Ellipticals, spirals and disks seen edge-on in g, r and z, and their latents."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    y, x = np.indices((size, size)) - (size - 1) / 2
    angle, turn = rng.uniform(0, np.pi, (2, count))
    ratio = np.choose(
        kind, [rng.uniform(0.6, 1, count), rng.uniform(0.6, 1, count), 0.2]
    )
    images = np.empty((count, 3, size, size))
    for i in range(count):
        along = x * np.cos(angle[i]) + y * np.sin(angle[i])
        across = (y * np.cos(angle[i]) - x * np.sin(angle[i])) / ratio[i]
        radius, theta = np.hypot(along, across), np.arctan2(across, along)
        bulge = np.exp(-((radius / 2.5) ** (0.5 if kind[i] == 0 else 1)) * 2)
        disk = 0.25 * np.exp(-radius / 5) * (kind[i] > 0)
        arms = 1 + (kind[i] == 1) * 0.9 * np.cos(
            2 * (theta - 2 * np.log1p(radius)) + turn[i]
        )
        colors = [0.35, 0.7, 1.2], [0.7, 0.85, 0.95]
        images[i] = np.multiply.outer(colors[0], bulge)
        images[i] += np.multiply.outer(colors[1], disk * arms)
    images += noise * rng.normal(size=images.shape)
    latent = rng.normal(0, 0.4, (count, 6))
    latent[:, 0] += np.choose(kind, (-1.6, 0.6, 1.2))
    latent[:, 1] += np.choose(kind, (0.2, -1.1, 1.3))
    latent[:, 4:] *= 0.1
    table = QTable({"name": [f"J{1000 + i}" for i in range(count)]})
    table["latent"] = latent
    table["latent_err"] = np.full(latent.shape, 0.2)
    table["pose"] = rng.normal(size=(count, 4))
    table["reconstruction_error"] = rng.gamma(9, 0.1, count)
    table["ssim"] = 1 - rng.beta(2, 30, count)
    table["flags"] = np.zeros(count, dtype=np.int32)
    table["class"] = np.array(("elliptical", "spiral", "edge-on"))[kind]
    return images, table


@pytest.fixture(scope="session")
def make_galaxies():
    return classed_galaxies


@pytest.fixture(scope="session")
def shown_galaxies():
    return classed_galaxies()
