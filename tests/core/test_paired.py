# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trainings on two data sets at once."""

import pytest
import torch

from galml.core.exceptions import InputError
from galml.core.training import Paired, train


def numbers(first, count, seed=0):
    """Rows that can be told apart by their number."""
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return {"x": x, "row": torch.arange(first, first + count)}


def seen_batches(data, **options):
    """Batches of the training data, epoch by epoch."""
    batches, epochs = [], options.pop("epochs", 1)
    network = torch.nn.Linear(3, 1)

    def loss(network, batch):
        if network.training:
            batches.append({key: value.clone() for key, value in batch.items()})
        means = [network(batch[key]).mean() for key in ("source_x", "target_x")]
        return {"loss": (means[0] - means[1]) ** 2}

    train(network, loss, data, data, epochs=epochs, device="cpu", **options)
    return batches


def rows(batches, key):
    return [batch[key].tolist() for batch in batches]


def test_matched_rows_stay_together():
    data = Paired(numbers(0, 50), numbers(1000, 50), matched=True)
    batches = seen_batches(data, batch_size=16)
    for batch in batches:
        assert torch.equal(batch["source_row"] + 1000, batch["target_row"])
    assert sorted(sum(rows(batches, "source_row"), [])) == list(range(50))


def test_unmatched_rows_are_shuffled_each_by_itself():
    data = Paired(numbers(0, 64), numbers(1000, 64))
    batches = seen_batches(data, batch_size=16)
    source, target = (sum(rows(batches, f"{k}_row"), []) for k in ("source", "target"))
    assert sorted(source) == list(range(64))
    assert sorted(target) == list(range(1000, 1064))
    assert source != [row - 1000 for row in target]


def test_shorter_set_begins_again():
    data = Paired(numbers(0, 96), numbers(1000, 32))
    batches = seen_batches(data, batch_size=16)
    assert len(batches) == 6
    source, target = (sum(rows(batches, f"{k}_row"), []) for k in ("source", "target"))
    assert sorted(source) == list(range(96))
    assert sorted(target) == sorted(list(range(1000, 1032)) * 3)
    assert target[:32] != target[32:64]


def test_streams_are_paired():
    def stream(first, count):
        def batches(epoch):
            for index in range(count):
                yield numbers(first + 100 * index + 10_000 * epoch, 8, seed=index)

        return batches

    data = Paired(stream(0, 3), stream(1000, 2))
    batches = seen_batches(data, epochs=2)
    first = [batch["source_row"][0].item() for batch in batches]
    assert first == [0, 100, 200, 10_000, 10_100, 10_200]
    first = [batch["target_row"][0].item() for batch in batches]
    assert first == [1000, 1100, 1000, 11_000, 11_100, 11_000]


def test_seed_decides():
    data = Paired(numbers(0, 64), numbers(1000, 40))
    first, second, other = (
        rows(seen_batches(data, batch_size=16, seed=seed), "target_row")
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_sets_that_cannot_be_matched():
    with pytest.raises(InputError, match="data"):
        seen_batches(Paired(numbers(0, 50), numbers(0, 49), matched=True))
    with pytest.raises(InputError, match="matched streams"):
        seen_batches(Paired(lambda epoch: [], numbers(0, 49), matched=True))
    with pytest.raises(InputError, match="target"):
        seen_batches(Paired(numbers(0, 50), {"x": torch.ones(0, 3)}))
