# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from galml.physics import fresh_seed, generator_for, stable_seed


def test_seeds_are_the_same_everywhere():
    assert stable_seed(0, "dropout", 3) == 8707544368804043201
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert stable_seed(1, tensor) == stable_seed(1, tensor.t().contiguous().t())


def test_every_part_counts():
    parts = [(0,), (1,), (0, 0), (0, "a"), (0, "b"), ("0",)]
    parts += [(0, torch.zeros(2)), (0, torch.zeros(2).double()), (0, torch.zeros(1, 2))]
    assert len({stable_seed(*each) for each in parts}) == len(parts)


def test_purposes_have_generators_of_their_own():
    draws = [
        torch.rand(3, generator=generator_for(0, purpose, index))
        for purpose in ("galaxies", "noise")
        for index in range(2)
    ]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert (first - second).abs().max() > 1e-3


def test_what_is_no_part():
    with pytest.raises(TypeError):
        stable_seed(0.5)


def test_fresh_seeds_differ():
    seeds = {fresh_seed() for _ in range(20)}
    assert len(seeds) == 20 and all(0 <= seed < 2**31 for seed in seeds)
