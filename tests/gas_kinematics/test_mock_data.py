# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.gas_kinematics.mock_data import (
    BEAM_SCALARS,
    DISPERSION_SCALARS,
    UNCERTAINTY_SCALARS,
    augment,
    kinematic_angle,
    mock_data_set,
    withhold,
)
from galml.gas_kinematics.preparation import INPUT

CHANNELS, SCALARS = INPUT.channels, INPUT.scalars
COUNT = 40
SPREAD_PLANES = [i for i, name in enumerate(CHANNELS) if name != "dispersion"]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    return {
        "image": torch.randn(COUNT, len(CHANNELS), 32, 32, generator=generator),
        "scalars": torch.rand(COUNT, len(SCALARS), generator=generator) + 0.5,
        "residual_angle": torch.rand(COUNT, generator=generator) * 2 - 1,
        "kappa": torch.rand(COUNT, generator=generator),
        "inclination": torch.rand(COUNT, generator=generator) * 90,
    }


def augmented(batch, seed=0):
    return augment(batch, torch.Generator().manual_seed(seed))


def test_augmentation_twice_is_none_at_all(batch):
    once = augmented(batch)
    twice = augmented(once)
    for key in ("residual_angle", "kappa", "inclination"):
        torch.testing.assert_close(twice[key], batch[key], rtol=0, atol=0)
    torch.testing.assert_close(
        twice["image"][:, SPREAD_PLANES], batch["image"][:, SPREAD_PLANES]
    )
    torch.testing.assert_close(twice["scalars"], once["scalars"])
    assert (
        once["residual_angle"] == -batch["residual_angle"]
    ).float().mean() == pytest.approx(0.5, abs=0.3)


def test_augmentation_mirrors_and_looks_from_behind(batch):
    before = {key: value.clone() for key, value in batch.items()}
    once = augmented(batch)
    for key, value in batch.items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    seen = set()
    for row in range(COUNT):
        image = batch["image"][row][SPREAD_PLANES]
        behind = image.flip(-2).clone()
        behind[0] = -behind[0]
        variants = {
            (1, "as it is"): image,
            (-1, "mirrored"): image.flip(-1),
            (-1, "behind"): behind,
            (1, "both"): behind.flip(-1),
        }
        found = [
            key
            for key, variant in variants.items()
            if torch.equal(variant, once["image"][row][SPREAD_PLANES])
        ]
        assert len(found) == 1
        assert once["residual_angle"][row] == found[0][0] * batch["residual_angle"][row]
        seen.add(found[0][1])
    assert len(seen) == 4


def test_augmentation_withholds_together(batch):
    once = augmented(batch)
    groups = DISPERSION_SCALARS, BEAM_SCALARS, UNCERTAINTY_SCALARS
    places = [[SCALARS.index(name) for name in group] for group in groups]
    gone = once["scalars"] == 0
    for group in places:
        assert (gone[:, group].all(1) == gone[:, group].any(1)).all()
        assert 0 < gone[:, group[0]].sum() < COUNT
    dark = (once["image"][:, CHANNELS.index("dispersion")] == 0).flatten(1).all(1)
    torch.testing.assert_close(dark, gone[:, places[0][0]])
    others = [i for i in range(len(SCALARS)) if i not in sum(places, [])]
    torch.testing.assert_close(once["scalars"][:, others], batch["scalars"][:, others])


def test_withhold(batch):
    data = withhold(batch, BEAM_SCALARS)
    assert data["image"] is batch["image"]
    gone = [SCALARS.index(name) for name in BEAM_SCALARS]
    assert (data["scalars"][:, gone] == 0).all()
    others = [i for i in range(len(SCALARS)) if i not in gone]
    assert torch.equal(data["scalars"][:, others], batch["scalars"][:, others])
    rows = torch.arange(COUNT) < 5
    data = withhold(batch, DISPERSION_SCALARS, rows=rows)
    plane = CHANNELS.index("dispersion")
    assert (data["image"][:5, plane] == 0).all()
    assert torch.equal(data["image"][5:], batch["image"][5:])
    assert torch.equal(data["scalars"][5:], batch["scalars"][5:])


def test_mock_data_set_is_a_recipe():
    data = mock_data_set(2, seed=1)
    assert len({len(value) for value in data.values()}) == 1
    count = len(data["kappa"])
    assert data["image"].shape == (count, len(CHANNELS), 32, 32)
    assert data["image"].dtype == torch.float16
    assert data["residual_angle"].abs().max() <= math.pi
    # Without noise little is left to turn, other than in gaps and by the beam.
    clear = (data["snr"] > 50) & (data["kappa"] > 0.7) & (data["inclination"] > 30)
    turn = data["residual_kinematic"][clear].abs()
    assert len(turn) > 10
    assert turn.quantile(0.68) < math.radians(3)
    assert (data["residual_angle"].abs() < math.radians(30))[
        data["kappa"] > 0.9
    ].float().mean() > 0.8
    assert torch.equal(data["scalars"][:, SCALARS.index("is_stars")], data["stars"] * 1)
    second = mock_data_set(1, seed=1, first=1)
    for key, value in second.items():
        torch.testing.assert_close(data[key][-len(value) :], value, rtol=0, atol=0)


def test_kinematic_angle():
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij")
    angle = torch.tensor([10.0, 130.0, 300.0])
    turn = torch.deg2rad(angle)[:, None, None]
    velocity = 30 + 100 * (turn.cos() * y - turn.sin() * x)
    velocity[:, torch.hypot(x, y) > 0.8] = torch.nan
    found = kinematic_angle(velocity)
    torch.testing.assert_close(found.float(), angle, rtol=0, atol=0.05)
