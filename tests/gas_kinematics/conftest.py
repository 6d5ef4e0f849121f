# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.core.model import GalaxyModel
from galml.gas_kinematics.autoencoder import MerlinAutoencoder
from galml.gas_kinematics.published import latent_plane
from galml.mocks import gas_maps


@pytest.fixture(scope="session")
def mocks():
    """About 48 mock observations, 20 pixels a side."""
    ((_, maps),) = gas_maps(1, batch_size=48, seed=3)
    return maps


@pytest.fixture(scope="session")
def tiny_merlin():
    """Published autoencoder before any training, with a latent plane."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(4)
        network = MerlinAutoencoder()
    rng = np.random.default_rng(5)
    latents = rng.normal(size=(50, 3))
    plane = latent_plane(latents, kappa=rng.random(50), angle=rng.random(50) * 360)
    return GalaxyModel(
        network,
        operation="circularity",
        architecture="merlin",
        options={},
        config={"preparation": "merlin", **plane},
        card={},
        name="tiny",
    )
