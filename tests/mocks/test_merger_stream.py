# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stream of mergers."""

import pytest
import torch

from galml.core import InputError
from galml.mocks import merger_galaxies


def test_a_batch_depends_on_seed_and_index_alone():
    options = {"batch_size": 4, "snapshots": 2, "views": 2, "n_particles": 600}
    stream = list(merger_galaxies(2, triples=0, seed=3, **options))
    (again,) = merger_galaxies(1, triples=0, seed=3, first=1, **options)
    for name in ("position", "velocity", "mass"):
        assert torch.equal(getattr(stream[1][0], name), getattr(again[0], name))
    galaxy, truth, encounter = stream[1]
    assert len(galaxy) == len(truth) == 4
    assert encounter.tolist() == [1, 1, 1, 1]
    assert stream[0][2].tolist() == [0, 0, 0, 0]
    # Two views of one moment, then two of the next.
    time = truth.time_since_coalescence
    assert time[0] == time[1] and time[2] == time[3] and time[0] <= time[2]
    distance = galaxy.position.norm(dim=-1)
    torch.testing.assert_close(distance[0], distance[1], rtol=1e-3, atol=1e-2)
    assert not torch.allclose(galaxy.position[0], galaxy.position[1])


def test_bad_numbers_are_refused():
    with pytest.raises(InputError, match="batch_size"):
        next(merger_galaxies(1, batch_size=5, snapshots=2, views=2))
    with pytest.raises(InputError, match="n_batches"):
        next(merger_galaxies(0))
