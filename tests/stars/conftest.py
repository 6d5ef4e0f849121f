# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable

from galml.core.model import GalaxyModel
from galml.physics import AGE_OF_UNIVERSE, CONDITIONS, STAR_AXES
from galml.stars.network import StarFlow

KINDS = ["asinh"] * 6 + [
    "positive",
    "linear",
    "linear",
    ["interval", 0.0, AGE_OF_UNIVERSE],
]
#: Ranges of the conditions that the stand-in was trained on, as if.
RANGES = {
    "log_stellar_mass": (8.0, 11.5),
    "median_age": (1.0, 12.0),
    "age_percentile_10": (0.01, 8.0),
    "metallicity": (-2.0, 0.5),
}


def _make_model(seed=0, name="stand-in", **options):
    """Make an untrained flow on the scales of a galaxy."""
    options = {"layers": 2, "width": 16, "embedding": 8, "kinds": KINDS} | options
    rng = np.random.default_rng(seed)
    stars = np.hstack(
        [
            rng.normal(0, [5, 5, 0.5], (2000, 3)),
            rng.normal(0, [100, 100, 30], (2000, 3)),
            10 ** rng.normal(-2, 0.3, (2000, 1)),
            rng.normal([-0.2, 0.1], [0.3, 0.1], (2000, 2)),
            rng.uniform(0.5, 13, (2000, 1)),
        ]
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = StarFlow(**options)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    spec = None
    if "encoder" in options:
        from galml.stars.images import INPUT as spec

    ranges = list(RANGES.values())[: options.get("context", 4)]
    low, high = np.array(ranges).reshape(-1, 2).T
    network.scaling.fit(torch.from_numpy(stars[:, -network.features :]))
    network.context_mean[: network.context] = torch.from_numpy((low + high) / 2)
    network.context_scale[: network.context] = torch.from_numpy((high - low) / 2)
    return GalaxyModel(
        network,
        operation="stars",
        architecture="coupling",
        options=options,
        config={
            "axes": [
                {"name": axis, "unit": unit.to_string()}
                for axis, unit in STAR_AXES.items()
            ],
            "conditions": [
                {"name": key, "lo": RANGES[key][0], "hi": RANGES[key][1]}
                for key in CONDITIONS
            ],
        },
        card={},
        input_spec=spec,
        name=name,
    )


@pytest.fixture(scope="session")
def make_model():
    return _make_model


@pytest.fixture(scope="session")
def model(make_model):
    return make_model()


@pytest.fixture
def galaxies():
    return QTable(
        {
            "galaxy_id": ["dwarf", "spiral", "giant"],
            "stellar_mass": [1e9, 5e10, 2e11] * u.Msun,
            "median_age": [4.0, 6.0, 9.0] * u.Gyr,
            "age_percentile_10": [1.0, 2.0, 6.0] * u.Gyr,
            "metallicity": [-1.0, -0.1, 0.1] * u.dex,
        }
    )
