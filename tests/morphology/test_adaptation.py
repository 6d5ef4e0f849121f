# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every kind of model adapts to another survey."""

import astropy.units as u
import numpy as np
import pytest
from torch import nn

import galml
from galml.core.model import InputSpec
from galml.morphology import from_encoder, pair_distances

COUNT = 24
OPTIONS = {"bands": ("g", "r", "i"), "unit": "nJy"}
SIZED = OPTIONS | {"r_eff": 6 * u.pix}
QUICK = {"epochs": 1, "seed": 1}


@pytest.fixture(scope="module")
def surveys():
    """Disks with noise, sharp and blurred, in three bands, and their roundness."""
    rng = np.random.default_rng(0)
    y, x = np.indices((48, 48)) - 23.5
    ratios = rng.uniform(0.3, 1, COUNT)
    radii = [np.hypot(x, y / one) / 4 for one in ratios]
    source, target = (
        100
        * np.array(
            [[c * np.exp(-np.hypot(r, b)) for c in (0.6, 1, 1.4)] for r in radii]
        )
        + rng.normal(0, 0.5, (COUNT, 3, 48, 48))
        for b in (0.0, 0.8)
    )
    return source, target, ratios


def encoder():
    spec = InputSpec(
        grid=(16, 16), bands=("g", "r", "i"), half_width=20, width_unit="pix"
    )
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    return from_encoder(module, spec)


@pytest.mark.parametrize(
    "kind, pairs, columns",
    [
        ("spin", False, ("spin", "spin_lo", "novelty")),
        ("merger", False, ("merger_probability", "stage_probability")),
        ("encoder", True, ("latent",)),
        ("untrained", True, ("latent", "latent_err", "ssim")),
    ],
)
def test_every_kind(kind, pairs, columns, surveys, untrained):
    source, target, _ = surveys
    options = OPTIONS if kind in ("merger", "encoder") else SIZED
    if kind == "spin":
        model = galml.load_model("default", kind)
    elif kind == "merger":
        truth = {"merger": np.arange(COUNT) % 2}
        model = galml.mergers.fit(source, truth, **options, **QUICK)
    else:
        model = encoder() if kind == "encoder" else untrained
    before = model.sha256
    adapted = galml.adapt(
        model,
        source,
        target,
        pairs=pairs,
        source_options=options,
        target_options=options,
        **QUICK,
    )
    operation = getattr(galml, adapted.operation)
    draws = {"seed": 1} if kind == "merger" else {}
    table = operation(target, model=adapted, **options, **draws)
    for name in columns:
        assert np.isfinite(table[name]).all()
    other = operation(target, model=model, **options, **draws)
    assert not np.allclose(other[columns[0]], table[columns[0]], atol=1e-9)
    assert type(model).sha256.func(model) == before
    if adapted.operation == "latents":
        assert table.meta["ADAPTSHA"] == model.sha256 == other.meta["MODELSHA"]
        assert len(pair_distances(table, other)) == COUNT
    figures = adapted.card["figures"]
    assert ("pair_distance" in figures) == pairs and "mmd_before" in figures
    if kind == "spin":
        assert np.mean(table["novelty"] > 1) < 0.2
        assert adapted.config["calibration"] == model.config["calibration"]


@pytest.mark.slow
def test_spins_learn_truths_on_the_way(surveys):
    source, target, ratios = surveys
    options = {"source_options": SIZED, "target_options": SIZED}
    adapted = galml.adapt(
        galml.load_model("default", "spin"),
        source,
        target,
        truth={"spin": 0.8 * (1 - ratios), "ellipticity": 1 - ratios},
        epochs=10,
        seed=1,
        **options,
    )
    figures = adapted.card["figures"]
    assert figures["mmd"] < figures["mmd_before"] and "coverage" in figures
    table = galml.spin(source, model=adapted, **SIZED)
    assert np.corrcoef(table["ellipticity"], 1 - ratios)[0, 1] > 0.8
