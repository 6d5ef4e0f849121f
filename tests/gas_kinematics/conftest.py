# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch

from galml.core.model import GalaxyModel
from galml.gas_kinematics.published import INPUT, MerlinAutoencoder, latent_plane
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
        config=plane,
        card={},
        input_spec=INPUT,
        name="tiny",
    )


@pytest.fixture(scope="module")
def maps(mocks):
    """Eight velocity maps in float64, km/s."""
    return mocks.velocity[:8].double().numpy()


def _assert_same(first, second, atol=1e-5, skip=()):
    """Compare all columns of numbers; angles may differ by whole turns."""
    assert first.colnames == second.colnames
    for name in first.colnames:
        if name in skip or name == "name":
            continue
        one, two = (
            np.asarray(u.Quantity(t[name]).value, float) for t in (first, second)
        )
        difference = one - two
        if name == "position_angle":
            difference = (difference + 180) % 360 - 180
        scale = 180 / np.pi if first[name].unit == u.deg else 1
        np.testing.assert_array_equal(np.isnan(one), np.isnan(two), err_msg=name)
        worst = np.nanmax(np.abs(difference), initial=0)
        # Nor are angles in the flat tails of their distribution as sure.
        loose = name in ("latent", "position_angle_samples")
        assert worst <= atol * scale * (10 if loose else 1), name


@pytest.fixture(scope="session")
def assert_same():
    """Compare two tables of results."""
    return _assert_same
