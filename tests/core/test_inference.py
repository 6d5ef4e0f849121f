# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy
import threading
import time

import numpy as np
import pytest
import torch

from galml.core.exceptions import InputError, InputTypeError
from galml.core.inference import (
    infer,
    keyed_generator,
    resolve_device,
    single_precision,
    stable_seed,
)
from galml.core.networks import View, dihedral_views


class Network(torch.nn.Module):
    n_noise = 3

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3, padding=1),
            torch.nn.BatchNorm2d(6),
            torch.nn.GELU(),
            torch.nn.Conv2d(6, 4, 3, stride=2),
            torch.nn.Dropout(0.5),
            torch.nn.Flatten(),
            torch.nn.Linear(4 * 16, 3),
        )
        self.sizes = []

    def forward(self, inputs):
        self.sizes.append(len(inputs["image"]))
        out = self.trunk(inputs["image"] + inputs["scale"][:, None, None, None])
        return {"direction": out[:, :2], "value": out[:, 2]}

    def sample(self, outputs, noise):
        return {"samples": outputs["value"][:, None] + noise.sum(-1)}


VIEWS = dihedral_views(images=("image",), vectors=("direction",))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().eval()


def make_objects(n=11):
    generator = torch.Generator().manual_seed(2)
    return {
        "image": torch.randn(n, 1, 9, 9, generator=generator),
        "scale": torch.randn(n, generator=generator),
    }


def take(objects, index):
    return {key: tensor[index] for key, tensor in objects.items()}


def run(network, batches, **options):
    options = {"device": "cpu", "views": VIEWS, "n_samples": 5, "seed": 3} | options
    results = list(infer(network, batches, **options))
    return {key: torch.cat([r[key] for r in results]) for key in results[0]}


def assert_close(first, second):
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-5, atol=1e-5)


def test_results_are_float32_rows_in_order(network):
    objects = make_objects()
    results = list(infer(network, [objects, take(objects, slice(4))], device="cpu"))
    assert [len(r["value"]) for r in results] == [11, 4]
    with torch.no_grad():
        expected = network(objects)
    assert_close(results[0], expected)
    assert_close(results[1], take(expected, slice(4)))
    for tensor in results[0].values():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("split", [1, 4, 11])
def test_batches_do_not_matter(network, batch_size, split):
    objects = make_objects()
    expected = run(network, [objects])
    batches = [take(objects, slice(i, i + split)) for i in range(0, 11, split)]
    assert_close(run(network, batches, batch_size=batch_size), expected)


def test_order_does_not_matter(network):
    objects = make_objects()
    order = torch.tensor([5, 2, 10, 0, 1, 9, 8, 7, 3, 4, 6])
    expected = take(run(network, [objects]), order)
    assert_close(run(network, [take(objects, order)], batch_size=4), expected)


def test_at_most_batch_size_objects_at_once(network):
    run(network, [make_objects()], batch_size=4, views=())
    assert sorted(network.sizes) == [3, 4, 4]


def test_views_are_averaged(network):
    objects = make_objects()
    with torch.no_grad():
        outputs = [v.restore(network(v.apply(objects))) for v in VIEWS]
    expected = {k: sum(o[k] for o in outputs) / 8 for k in outputs[0]}
    assert_close(run(network, [objects], n_samples=0), expected)


@pytest.mark.parametrize("view", VIEWS)
def test_views_make_results_invariant(network, view):
    objects = make_objects()
    expected = run(network, [objects], n_samples=0)
    turned = run(network, [view.apply(objects)], n_samples=0)
    assert_close(view.restore(turned), expected)


def test_general_view(network):
    mirror = View(
        lambda inputs: inputs | {"scale": -inputs["scale"]},
        lambda outputs: outputs | {"value": -outputs["value"]},
    )
    objects = make_objects()
    with torch.no_grad():
        expected = -network(mirror.apply(objects))["value"]
    found = run(network, [objects], views=[mirror], n_samples=0)["value"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_random_passes(network):
    objects = make_objects()
    outputs = run(network, [objects], n_samples=2000, views=(), batch_size=11)
    assert len(network.sizes) == 1  # the trunk runs once
    noise = outputs["samples"] - outputs["value"][:, None]
    assert noise.shape == (11, 2000)
    # The sum of three uniform numbers: mean 3/2, variance 1/4.
    torch.testing.assert_close(noise.mean(1), torch.full((11,), 1.5), rtol=0, atol=0.06)
    torch.testing.assert_close(noise.std(1), torch.full((11,), 0.5), rtol=0, atol=0.04)
    assert not torch.allclose(noise[0], noise[1])


def test_seed_of_random_passes(network):
    objects = make_objects()
    first, second = (run(network, [objects], seed=s)["samples"] for s in (1, 2))
    assert not torch.allclose(first, second)
    zero, none = (run(network, [objects], seed=s)["samples"] for s in (0, None))
    assert torch.equal(zero, none)


def test_noise_is_never_zero(network, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.zeros(shape))
    network.sample = lambda outputs, noise: {"noise": noise.clone()}
    assert run(network, [make_objects()])["noise"].min() > 0


def test_no_more_than_one_batch_is_drawn(network):
    drawn = 0

    def batches():
        nonlocal drawn
        for _ in range(5):
            drawn += 1
            yield make_objects(2)

    results = infer(network, batches(), device="cpu")
    assert drawn == 0
    for expected in range(1, 6):
        next(results)
        assert drawn == expected


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(network, training):
    network.train(training)
    network.trunk[4].train(not training)  # a mixture
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    with torch.enable_grad():
        for _ in infer(network, [make_objects(), make_objects()], n_samples=2):
            assert torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training == training and network.trunk[4].training != training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(t.grad is None for t in network.parameters())


def test_network_in_training_mode_is_evaluated(network):
    expected = run(network, [make_objects()])
    assert_close(run(network.train(), [make_objects()]), expected)
    assert network.training


def test_network_can_be_trained_afterwards(network):
    run(network, [make_objects()])
    network.train()(make_objects())["value"].sum().backward()
    assert network.trunk[0].weight.grad.abs().sum() > 0


def test_bfloat16(network):
    objects = make_objects()
    expected = run(network, [objects], n_samples=0)
    kinds = set()

    def note(outputs):
        kinds.update(tensor.dtype for tensor in outputs.values())
        return outputs

    views = [View(view.apply, lambda o, v=view: v.restore(note(o))) for view in VIEWS]
    found = run(network, [objects], n_samples=0, dtype="bfloat16", views=views)
    assert kinds == {torch.float32}
    for key in expected:
        assert found[key].dtype == torch.float32
        assert not torch.equal(found[key], expected[key])
        torch.testing.assert_close(found[key], expected[key], rtol=0.03, atol=0.03)


@pytest.mark.parametrize("training", [True, False])
def test_threads_share_a_network(network, training):
    expected = run(network, [make_objects()])
    network.train(training)
    barrier = threading.Barrier(2, timeout=20)

    def batches():
        for i in range(11):
            barrier.wait()
            yield take(make_objects(), slice(i, i + 1))

    results = [None, None]

    def work(i):
        results[i] = run(network, batches())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert_close(result, expected)
    assert network.training == training


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_number_of_threads_does_not_matter(network, threads):
    """Not for the last bit."""
    seen, forward = set(), network.forward

    def note(inputs):
        seen.add(threading.get_ident())
        time.sleep(0.01)
        assert torch.get_num_threads() == 1
        return forward(inputs)

    objects, before = make_objects(40), torch.get_num_threads()
    expected = run(network, [objects], batch_size=10)
    network.forward = note
    try:
        torch.set_num_threads(threads)
        found = run(network, [objects], batch_size=10)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(seen) == threads
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_progress_bar_goes_to_stderr(network, capsys):
    run(network, [make_objects(), make_objects()], progress=True, total=22)
    captured = capsys.readouterr()
    assert captured.out == "" and "22/22" in captured.err
    run(network, [make_objects()])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("report", [lambda: None, lambda a, b, c: None, len])
def test_progress_callables_of_other_arguments(network, report):
    with pytest.raises(InputTypeError, match=r"progress: got a function of"):
        run(network, [make_objects()], progress=report, total=14)


def test_progress_callable(network):
    calls = []
    batches = [make_objects(), make_objects(3)]
    run(network, batches, progress=lambda *args: calls.append(args), total=14)
    assert calls == [(11, 14), (14, 14)]


@pytest.mark.parametrize(
    "argument, value",
    [
        ("batch_size", 0),
        ("batch_size", 64.0),
        ("n_samples", -1),
        ("dtype", "float8"),
        ("device", "abacus"),
        ("device", "cuda:99"),
        ("device", None),
        ("device", 10**30),
    ],
)
def test_bad_options_raise_before_anything_is_drawn(network, argument, value):
    with pytest.raises(InputError, match=f"^{argument}: got"):
        infer(network, [make_objects()], **{argument: value})


@pytest.mark.parametrize(
    "batch", [{}, make_objects(0), make_objects(3) | {"scale": torch.zeros(2)}]
)
def test_bad_batches(network, batch):
    with pytest.raises(InputError, match="^batches: got lengths"):
        run(network, [batch])


def test_resolve_device(monkeypatch):
    assert resolve_device("cpu") == resolve_device(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")
    with pytest.raises(InputError, match=r"got 'cuda', expected .*\['cpu'\]"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device() == torch.device("mps", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device() == resolve_device("cuda") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(InputError, match="^device: got 'cuda:2'"):
        resolve_device("cuda:2")


def test_convolutions_on_cuda_do_not_round(monkeypatch):
    flags, cuda = torch.backends.cudnn, torch.device("cuda")
    for before in (True, False):
        monkeypatch.setattr(flags, "allow_tf32", before)
        with single_precision(torch.device("cpu")):
            assert flags.allow_tf32 == before
        with pytest.raises(KeyError), single_precision(cuda):
            raise KeyError
        inside, leave = threading.Event(), threading.Event()

        def other(inside=inside, leave=leave):
            with single_precision(cuda):
                inside.set()
                leave.wait()

        with single_precision(cuda):
            thread = threading.Thread(target=other)
            thread.start()
            inside.wait()
            assert not flags.allow_tf32
        # The one that came first has left, the other one is still at work.
        assert not flags.allow_tf32
        leave.set()
        thread.join()
        assert flags.allow_tf32 == before


def test_precisions_that_were_chosen_stay(monkeypatch):
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("this version of torch knows one precision of cuDNN alone")
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        with single_precision(torch.device("cuda")):
            assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before
    assert torch.backends.cudnn.allow_tf32


def test_stable_seed():
    a, b = torch.arange(6.0).reshape(2, 3), torch.zeros(2)
    seeds = [
        stable_seed(1, a, b),
        stable_seed(2, a, b),
        stable_seed(1, b, a),
        stable_seed(1, a.T.contiguous(), b),
        stable_seed(1, a.double(), b),
        stable_seed(1, a + 1e-6, b),
        stable_seed(1, "a", 2),
        stable_seed(1, "a2"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stable_seed(1, "noise") == 7331383247025587393  # the same everywhere
    assert stable_seed(np.int64(1), "noise") == stable_seed(1, "noise")
    assert stable_seed(a.T) == stable_seed(a.T.contiguous())
    assert stable_seed(torch.tensor(1.0)) != stable_seed(torch.tensor(2.0))


def test_keyed_generator():
    a = torch.arange(3.0)
    draws = [torch.rand(4, generator=keyed_generator(s, a)) for s in (None, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
