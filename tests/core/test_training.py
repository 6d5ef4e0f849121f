# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable

from galml.core.exceptions import InputError, ModelError, WeightsError
from galml.core.training import train


class Killed(Exception):
    pass


def make_network(dropout=0.2):
    generator = torch.Generator().manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.Tanh(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(16, 1),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


def loss(network, batch):
    error = network(batch["x"])[:, 0] - batch["y"]
    return {"loss": error.square().mean(), "bias": error.mean()}


def make_data(n=97, seed=0):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return {"x": x, "y": x[:, 0] - 0.5 * x[:, 1]}


def jitter(batch, generator):
    noise = torch.randn(batch["x"].shape, generator=generator)
    return batch | {"x": batch["x"] + 0.05 * noise}


def run(network=None, data=None, validation=None, **options):
    options = {"epochs": 4, "batch_size": 32, "device": "cpu"} | options
    return train(
        network or make_network(),
        options.pop("loss", loss),
        data or make_data(),
        validation or make_data(41, seed=9),
        **options,
    )


def assert_same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def without_seconds(result):
    return [list(row) for row in result.history[result.history.colnames[:-1]]]


def test_learns_and_reports():
    network = make_network(dropout=0.0)
    result = run(network, epochs=30, learning_rate=0.03)
    history = result.history
    assert isinstance(history, QTable)
    assert history.colnames == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_bias",
        "validation_loss",
        "validation_bias",
        "seconds",
    ]
    assert history["seconds"].unit == u.s
    np.testing.assert_array_equal(history["epoch"], np.arange(30))
    assert history["validation_loss"].min() < 0.05 * history["validation_loss"][0]
    assert result.network is network
    assert result.stopped == "epochs"
    assert network.training


def test_weights_of_best_epoch_are_returned():
    validation = make_data(41, seed=9)
    validation["y"] = -validation["y"]  # learning makes this one worse
    network = make_network(dropout=0.0)
    result = run(network, validation=validation, epochs=6, learning_rate=0.02)
    assert result.best_epoch == np.argmin(result.history["validation_loss"]) < 5
    network.eval()
    best = result.history["validation_loss"][result.best_epoch]
    assert loss(network, validation)["loss"].item() == pytest.approx(best, rel=1e-5)


def test_patience():
    validation = make_data(41, seed=9)
    validation["y"] = -validation["y"]
    result = run(validation=validation, epochs=40, patience=3, learning_rate=0.02)
    assert result.stopped == "patience"
    assert len(result.history) == result.best_epoch + 4 < 40


def test_schedule_rises_then_falls_to_zero():
    rates = run(epochs=20, warmup=0.25, learning_rate=0.01).history["learning_rate"]
    peak = np.argmax(rates)
    assert peak in (4, 5)
    assert np.all(np.diff(rates[:5]) > 0) and np.all(np.diff(rates[5:]) < 0)
    assert rates.max() == pytest.approx(0.01, rel=0.01)
    assert rates[-1] < 1e-5


def test_plateaus_lower_the_rate():
    validation = make_data(41, seed=9)
    validation["y"] = -validation["y"]  # learning makes this one worse
    options = {"schedule": "plateau", "validation": validation, "learning_rate": 0.02}
    result = run(epochs=14, **options)
    best = result.best_epoch
    expected = [0.02 * 0.2 ** max(0, (epoch - best - 1) // 5) for epoch in range(14)]
    np.testing.assert_allclose(result.history["learning_rate"], expected, rtol=1e-6)


def test_same_seed_same_weights_and_global_state_is_kept():
    network = make_network()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = run(network, augment=jitter, seed=3)
    assert torch.equal(torch.rand(3), expected)
    second = run(augment=jitter, seed=3)
    other = run(augment=jitter, seed=4)
    assert_same_weights(first.network, second.network)
    assert not torch.equal(first.network[0].weight, other.network[0].weight)


@pytest.mark.parametrize("kill_at", [1, 5, 9])
def test_kill_and_resume_is_bitwise_the_same(tmp_path, kill_at):
    options = {"augment": jitter, "epochs": 5, "weight_decay": 0.01, "patience": 4}
    options["seed"] = np.int64(3)
    unbroken = run(**options)
    steps = 0

    def dying_augment(batch, generator):
        nonlocal steps
        steps += 1
        if steps > kill_at:
            raise Killed
        return jitter(batch, generator)

    checkpoint = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        run(**options | {"augment": dying_augment}, checkpoint=checkpoint)
    assert checkpoint.exists() == (kill_at >= 4)  # four batches an epoch
    torch.manual_seed(99)
    network = make_network()
    with torch.no_grad():
        network[0].weight.mul_(1 if kill_at < 4 else 7)  # replaced on resuming
    resumed = run(network, **options, checkpoint=checkpoint)
    assert_same_weights(unbroken.network, resumed.network)
    assert without_seconds(unbroken) == without_seconds(resumed)
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.name]


def test_best_epoch_before_the_kill(tmp_path):
    validation = make_data(41, seed=9)
    validation["y"] = -validation["y"]  # learning makes this one worse
    options = {"validation": validation, "epochs": 6, "learning_rate": 0.02}
    unbroken = run(**options)
    steps = 0

    def die(batch, generator):
        nonlocal steps
        steps += 1
        if steps > 4 * 5:
            raise Killed
        return batch

    checkpoint = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        run(**options, augment=die, checkpoint=checkpoint)
    resumed = run(**options, augment=lambda b, g: b, checkpoint=checkpoint)
    assert resumed.best_epoch == unbroken.best_epoch < 5
    assert_same_weights(unbroken.network, resumed.network)


def test_kill_and_resume_of_convolutions(tmp_path):
    def make():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(2, 8, 3),
            torch.nn.Conv2d(8, 5, 3),
            torch.nn.Flatten(),
            torch.nn.Linear(5 * 25, 1),
        )

    def data(n):
        x = torch.randn(n, 2, 9, 9, generator=torch.Generator().manual_seed(n))
        return {"x": x, "y": x.mean((1, 2, 3))}

    def die(network, batch):
        if checkpoint.exists():
            raise Killed
        return loss(network, batch)

    options = {"data": data(40), "validation": data(20), "epochs": 3}
    checkpoint = tmp_path / "training.safetensors"
    with torch.random.fork_rng():
        unbroken = run(make(), **options)
        with pytest.raises(Killed):
            run(make(), loss=die, checkpoint=checkpoint, **options)
        resumed = run(make(), checkpoint=checkpoint, **options)
    assert_same_weights(unbroken.network, resumed.network)


def test_finished_checkpoint_is_returned_at_once(tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    first = run(checkpoint=checkpoint)

    def never(network, batch):
        raise AssertionError

    second = run(checkpoint=checkpoint, loss=never)
    assert_same_weights(first.network, second.network)
    assert without_seconds(first) == without_seconds(second)
    assert (first.best_epoch, first.stopped) == (second.best_epoch, second.stopped)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 9}, {"seed": 1}, {"learning_rate": 0.5}, {"data": make_data(96)}],
)
def test_checkpoint_of_another_training(tmp_path, change):
    checkpoint = tmp_path / "training.safetensors"
    run(checkpoint=checkpoint)
    with pytest.raises(ModelError, match=f"training.safetensors.*{next(iter(change))}"):
        run(checkpoint=checkpoint, **change)


def test_damaged_checkpoint(tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    run(checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="training.safetensors"):
        run(checkpoint=checkpoint)


@pytest.mark.parametrize("sized", [True, False])
def test_streams(sized):
    epochs = []

    def stream(epoch):
        epochs.append(epoch)
        batches = [make_data(20, seed=10 * epoch + i) for i in range(3)]
        return batches if sized else iter(batches)

    called = []

    def validation(epoch):
        called.append(epoch)
        yield make_data(30, seed=77)

    result = run(data=stream, validation=validation, epochs=3)
    assert epochs == [0, 1, 2]
    assert called == [0, 0, 0]
    last = (2 + (5 / 6 if sized else 0.5)) / 3
    cosine = 0.5 + 0.5 * np.cos(np.pi * (last - 0.05) / 0.95)
    assert result.history["learning_rate"][-1] == pytest.approx(1e-3 * cosine)


def test_empty_stream():
    with pytest.raises(ModelError, match="no batch of training data in epoch 0"):
        run(data=lambda epoch: [])


def test_half_precision_data_reaches_the_loss_as_float32():
    data = {k: v.half() for k, v in make_data().items()} | {"i": torch.arange(97)}
    seen = set()

    def check(network, batch):
        if network.training:
            seen.add((batch["x"].dtype, batch["i"].dtype))
        return loss(network, batch)

    run(data=data, loss=check)
    assert seen == {(torch.float32, torch.int64)}


def test_every_object_once_an_epoch_in_balanced_batches():
    data = make_data(65) | {"i": torch.arange(65)}
    seen = []

    def note(network, batch):
        if network.training:
            seen.append(batch["i"].tolist())
        return loss(network, batch)

    run(data=data, loss=note, epochs=2, batch_size=32)
    assert [len(s) for s in seen] == [22, 22, 21] * 2
    first, second = sum(seen[:3], []), sum(seen[3:], [])
    assert sorted(first) == sorted(second) == list(range(65))
    assert first != second


def test_frozen_parameters_stay():
    network = make_network()
    network[0].weight.requires_grad_(False)
    before = network[0].weight.clone()
    run(network)
    assert torch.equal(network[0].weight, before)


def test_gradients_are_clipped():
    # With a huge loss and Adam's first steps the update is bounded anyway: look at
    # the gradients that the optimizer saw.
    network = make_network(dropout=0.0)
    run(network, epochs=1, loss=lambda n, b: {"loss": 1e6 * loss(n, b)["loss"]})
    norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
    assert norm.item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("in_training", [True, False])
def test_non_finite_loss(in_training):
    def broken(network, batch):
        metrics = loss(network, batch)
        if network.training == in_training:
            metrics["loss"] = metrics["loss"] * torch.nan
        return metrics

    name = "training" if in_training else "validation"
    with pytest.raises(ModelError, match=f"nan for {name} data in epoch 0, step 0"):
        run(loss=broken)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("batch_size", 32.0),
        ("epochs", None),
        ("learning_rate", 0.0),
        ("learning_rate", np.nan),
        ("weight_decay", -1.0),
        ("warmup", 1.0),
        ("patience", 0),
        ("schedule", "slope"),
        ("device", "abacus"),
        ("data", {"x": torch.zeros(3, 3), "y": torch.zeros(4)}),
        ("validation", {"x": torch.zeros(0, 3), "y": torch.zeros(0)}),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(InputError, match=f"^{argument}: got"):
        run(**{argument: value})


def test_progress_goes_to_stderr(capsys):
    run(progress=True, epochs=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 2" in captured.err and "loss=" in captured.err
    assert "8/8" in captured.err
    run(progress=False)
    assert capsys.readouterr().err == ""


def test_tensorboard_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="log_dir needs the package 'tensorboard'"):
        run(log_dir=tmp_path)


def test_tensorboard(monkeypatch, tmp_path):
    rows = []

    class SummaryWriter:
        def __init__(self, log_dir, purge_step):
            assert log_dir == str(tmp_path)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            rows.append("closed")

        def add_scalar(self, key, value, step):
            rows.append((key, step))

    fake = type(sys)("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    run(log_dir=tmp_path, epochs=2)
    assert rows.count("closed") == 1 and rows[-1] == "closed"
    assert ("validation_loss", 0) in rows and ("validation_loss", 1) in rows
