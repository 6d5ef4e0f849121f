# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.stellar_spin.disturbance import disturb

N, SIDE = 256, 33


@pytest.fixture
def images():
    """Round galaxies of two bands in the middle of images, and their noise."""
    y, x = torch.meshgrid(*[torch.arange(SIDE) - 16.0] * 2, indexing="ij")
    one = 100 * torch.exp(-torch.hypot(x, y) / 3)
    data = one.expand(N, 2, SIDE, SIDE).clone()
    return {
        "data": data,
        "noise": torch.ones(N, 2),
        "r_eff": torch.full((N,), 5.0),
        "center": torch.full((N, 2), 16.0),
    }


def run(images, seed=0, **options):
    return disturb(**images, generator=torch.Generator().manual_seed(seed), **options)


def test_some_images_have_faults(images):
    before = images["data"].clone()
    found = run(images)
    assert torch.equal(images["data"], before)
    same = (found == before).flatten(1).all(1).double().mean()
    assert same == pytest.approx(0.85**6, abs=0.1)
    spoiled = torch.isnan(found).flatten(1).any(1).double().mean()
    assert spoiled == pytest.approx(0.15, abs=0.07)
    assert torch.isnan(found).double().mean() < 0.02
    assert torch.equal(run(images).isnan(), found.isnan())


def test_faults_grow_with_strength(images):
    before = images["data"]
    changes = [
        (run(images, strength=strength, masked=False) - before).abs().mean()
        for strength in (0.3, 1.0, 3.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert torch.equal(run(images, strength=0.0), before)


def test_masks_are_optional(images):
    assert not torch.isnan(run(images, masked=False)).any()
