# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import pytest
import torch

from galml.core.model import GalaxyModel
from galml.core.weights import load_model
from galml.imaging import read_images
from galml.stellar_spin.published import INPUT, Duckworth2020


@dataclass
class Galaxies:
    """Disks with arms and bulges in g, r and i, in nJy, on top of a sky of 3 nJy."""

    data: np.ndarray
    r_eff: np.ndarray
    axis_ratio: np.ndarray
    angle: np.ndarray
    bulge: np.ndarray

    @property
    def images(self):
        """As they are prepared."""
        known = {"bands": ("g", "r", "i"), "r_eff": self.r_eff * u.pix}
        (images,) = read_images(self.data * u.nJy, **known).members
        return images


def make_galaxies(
    count=24, shape=(48, 48), seed=0, noise=0.3, r_eff=None, round_=False
):
    rng = np.random.default_rng(seed)
    size = rng.uniform(4, 7, count) if r_eff is None else np.full(count, float(r_eff))
    q = np.ones(count) if round_ else rng.uniform(0.25, 0.95, count)
    angle, bulge = rng.uniform(0, math.pi, count), rng.uniform(0, 1, count)
    y, x = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    cosine, sine, squash, scale, part = (
        value[:, None, None] for value in (np.cos(angle), np.sin(angle), q, size, bulge)
    )
    u, v = x * cosine + y * sine, (-x * sine + y * cosine) / squash
    radius = np.hypot(u, v) / scale
    arms = (
        0.0 if round_ else 0.5 * np.cos(2 * np.arctan2(v, u) - 6 * np.log(radius + 0.3))
    )
    disk = (1 - part) * np.exp(-1.678 * radius) * (1 + arms * (1 - part))
    core = 0.3 * part * np.exp(-7.67 * (((radius / 0.4) ** 2 + 0.02) ** 0.125 - 1))
    bands = [a * disk + b * core for a, b in ((0.8, 0.4), (1.0, 1.0), (1.1, 1.5))]
    data = 10 * np.stack(bands, 1) + 3
    data += noise * rng.normal(size=data.shape)
    return Galaxies(data, size, q, angle, bulge)


@pytest.fixture(scope="session")
def make():
    return make_galaxies


@pytest.fixture(scope="session")
def galaxies():
    return make_galaxies()


@pytest.fixture(scope="session")
def model():
    """The default model, as it is shipped."""
    return load_model("default", "spin")


@pytest.fixture(scope="session")
def published_model():
    """Published network before any training: its weights were never published."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(4)
        network = Duckworth2020()
    return GalaxyModel(
        network,
        operation="spin",
        architecture="duckworth2020",
        options={},
        config={"error": 0.1},
        card={},
        input_spec=INPUT,
        name="published",
    )
