# Licensed under a 3-clause BSD style license - see LICENSE.rst
import os
import subprocess
import sys
import threading

import astropy.units as u
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from galml.core import running
from galml.core.domain import find_domain
from galml.core.exceptions import GalmlWarning, InputError, ModelError
from galml.core.flags import Flag, decode_flags
from galml.core.model import GalaxyModel, InputSpec
from galml.core.running import run

SPEC = InputSpec(parameters={"unit": 2.0})


@pytest.fixture
def domain(weigh):
    from weigh_domain import Scale

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Scale()
    model = GalaxyModel(
        network,
        operation="weigh",
        architecture="scale",
        options={},
        config={},
        card={},
        input_spec=SPEC,
        name="kitchen",
    )
    return find_domain(model)


def weigh_all(*arguments, **options):
    """Stand for an operation, whose caller warnings point at."""
    return run(*arguments, **options)


@pytest.fixture
def data():
    return np.random.default_rng(0).uniform(0, 3, (10, 4))


def test_rows_in_order(domain, data):
    table = run(domain, data, {"block": 4})
    assert table["name"].tolist() == [f"row {i}" for i in range(10)]
    assert table.colnames == ["name", "weight", "weight_err", "flags"]
    assert (table["flags"] == 64).all()
    assert table.meta["OPERATN"] == "weigh" and table.meta["MODEL"] == "kitchen"
    assert table.meta["ARG_1"] == "block=4"
    asked = run(domain, data, {"block": 4}, asked={"prior": 0.5, "other": None})
    assert asked.meta["ARG_2"] == "prior=0.5" and "ARG_3" not in asked.meta
    network = domain.model.network
    with torch.no_grad():
        numbers = torch.from_numpy(data).float() / 2
        logits = [network.layers(x) for x in (numbers, numbers.flip(1))]
    probability = torch.softmax(sum(logits) / 2, 1)
    below = probability.cumsum(1)
    place = (table["weight"] * 20).astype(int)
    assert (below.numpy()[range(10), place] >= 0.5 - 1e-6).all()


@pytest.mark.parametrize("block", [1, 3, 10])
@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_blocks_and_chunks_change_nothing(domain, data, monkeypatch, block, chunk):
    expected = run(domain, data, {}, n_samples=3, seed=1)
    monkeypatch.setattr(running, "CHUNK", chunk)
    table = run(domain, data, {"block": block}, n_samples=3, seed=1, batch_size=2)
    for key in ("weight", "weight_err", "weight_samples"):
        assert_allclose(table[key], expected[key], atol=1e-6)


def test_few_pixels_are_held(domain, data, monkeypatch):
    expected = run(domain, data, {})
    monkeypatch.setattr(running, "CHUNK_PIXELS", 5)
    table = run(domain, data, {"block": 2})
    assert_allclose(table["weight"], expected["weight"], atol=1e-6)


def test_bad_rows_and_members_are_rows_of_nan(domain, data):
    expected = run(domain, data, {"block": 3})
    data[4] = -1
    with pytest.warns(GalmlWarning, match="2 of 8 rows have no result") as caught:
        table = weigh_all(domain, data, {"block": 3, "fails": (6,)})
    assert len(caught) == 1 and caught[0].filename == __file__
    assert table["name"].tolist()[5:] == ["row 5", "torn 6", "row 9"]
    assert np.flatnonzero(np.isnan(table["weight"])).tolist() == [4, 6]
    assert decode_flags(table["flags"])[4] == ("failed",)
    assert decode_flags(table["flags"])[6] == ("failed", "unreadable")
    assert_allclose(table["weight"][:4], expected["weight"][:4], atol=1e-6)
    assert_allclose(table["weight"][7], expected["weight"][9], atol=1e-6)


def test_bad_rows_keep_the_flags_of_reading(domain, data, monkeypatch):
    bit = int(Flag.NO_SOURCE_AT_CENTER)
    data[[1, 4]] = -1
    kind = type(next(iter(domain.read(data).members)))
    flags = property(lambda rows: np.full(len(rows), bit))
    monkeypatch.setattr(kind, "flags", flags, raising=False)
    with pytest.warns(GalmlWarning, match="2 of"):
        table = run(domain, data, {})
    failed = np.isin(np.arange(len(data)), [1, 4])
    assert (table["flags"] == np.where(failed, bit | int(Flag.FAILED), 64)).all()


def test_all_rows_are_bad(domain, data):
    with pytest.warns(GalmlWarning, match="10 of 10 rows"):
        table = run(domain, -data, {})
    assert np.isnan(table["weight"]).all() and len(table) == 10


def test_error_of_the_only_object_is_raised(domain, data):
    with pytest.raises(InputError, match="data: got less"):
        run(domain, -data[:1], {})
    assert len(run(domain, data[:1], {})) == 1


def test_numbers_of_samples_without_a_truth(domain, data):
    with pytest.raises(InputError, match="^n_samples: got"):
        run(domain, data, {}, n_samples=3 * u.pix)


def test_fresh_seeds_are_recorded(domain, data):
    first, second = (run(domain, data, {}, n_samples=2) for _ in range(2))
    assert first.meta["SEED"] != second.meta["SEED"]
    difference = np.abs(first["weight_samples"] - second["weight_samples"])
    assert difference.max() > 1e-3
    again = run(domain, data, {}, n_samples=2, seed=first.meta["SEED"])
    assert_array_equal(again["weight_samples"], first["weight_samples"])
    assert "SEED" not in run(domain, data, {}).meta
    assert run(domain, data, {}, seed=7).meta["SEED"] == 7


def test_progress_is_reported(domain, data):
    calls = []
    run(domain, data, {}, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (10, 10)


def test_operation_without_network(domain, data):
    class Scales(type(domain)):
        def prepare(self, members):
            from weigh_domain import WeighDomain

            return WeighDomain.prepare(WeighDomain(domain.model), members)

        def answer(self, outputs, prepared, members):
            assert outputs == {}
            return {"weight": prepared.numbers.sum(1), "weight_err": 0.5}

    table = run(Scales(None), data, {"block": 4})
    assert_allclose(table["weight"], data.sum(1) / 2, rtol=1e-6)
    assert table.meta["DEVICE"] == "cpu" and "MODEL" not in table.meta


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr("galml.core.threads.free_processors", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_chunks_at_the_same_time(domain, data, monkeypatch, three_threads, count):
    monkeypatch.setattr(running, "CHUNK", 2)
    data = data[:count]
    expected = run(domain, data, {"block": 1})
    threads, prepare = set(), domain.prepare

    def note(members):
        threads.add((threading.get_ident(), torch.get_num_threads()))
        return prepare(members)

    seen = []
    monkeypatch.setattr(domain, "prepare", note)
    domain.concurrent = True
    options = {"progress": lambda *numbers: seen.append(numbers)}
    table = run(domain, data, {"block": 1}, **options)
    for name in expected.colnames:
        assert_array_equal(table[name], expected[name])
    assert [done for done, _ in seen][-1] == count
    main = threading.get_ident()
    if count == 2:
        assert threads == {(main, 3)}
    else:
        assert main not in {thread for thread, _ in threads}
        assert {number for _, number in threads} == {1}


def test_errors_of_chunks_at_the_same_time(domain, data, monkeypatch, three_threads):
    monkeypatch.setattr(running, "CHUNK", 2)
    domain.concurrent = True
    with pytest.raises(InputError, match="dtype"):
        run(domain, data, {"block": 1}, dtype="float16")

    def fail(members):
        raise ModelError("prepared")

    monkeypatch.setattr(domain, "prepare", fail)
    with pytest.raises(ModelError, match="prepared"):
        run(domain, data, {"block": 1})


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("where", ["problem", "prepare", "answer", "flags"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken")])
def test_one_bad_member_ends_no_batch(
    domain, data, monkeypatch, three_threads, concurrent, where, error
):
    """Whatever goes wrong with it, and wherever."""
    monkeypatch.setattr(running, "CHUNK", 4)
    expected = run(domain, data, {"block": 2})["weight"]
    method = getattr(domain, where)

    def fail(*arguments):
        members = arguments[-1] if where != "problem" else [arguments[-1]]
        if any((data[5] == row).all() for member in members for row in member.values):
            raise error
        return method(*arguments)

    monkeypatch.setattr(domain, where, fail)
    domain.concurrent = concurrent
    seen = []
    options = {"progress": lambda *numbers: seen.append(numbers)}
    with pytest.warns(GalmlWarning, match="rows have no result") as caught:
        table = run(domain, data, {"block": 2}, **options)
    assert caught[0].message.reasons[5] in ("MemoryError", "broken")
    bad = [4, 5] if where == "problem" else [5]
    assert np.flatnonzero(np.isnan(table["weight"])).tolist() == bad
    assert {decode_flags(int(table["flags"][row])) for row in bad} == {
        ("failed", "unreadable")
    }
    assert_allclose(np.delete(table["weight"], bad), np.delete(expected, bad), 1e-5)
    assert seen[-1] == (10 - len(bad), 10)
    with pytest.raises(type(error)):
        run(domain, data[5:6], {})


def test_no_number_has_failed(domain, data):
    data[3] = 1e300
    with pytest.warns(GalmlWarning, match="1 of 10 rows .* no finite result"):
        table = run(domain, data, {})
    assert decode_flags(int(table["flags"][3])) == ("failed", "few_pixels")
    with pytest.raises(InputError, match="no finite result"):
        run(domain, data[3:4], {})


def test_double_precision_of_torch_is_refused(domain, data):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match="torch.set_default_dtype: got torch.flo"):
            run(domain, data, {})
    finally:
        torch.set_default_dtype(torch.float32)


FORKED = """
import os, signal, torch
from galml.core.inference import infer
from galml.core.running import shared_threads

def compute():
    images = torch.ones(64, 3, 64, 64)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Flatten())
    network.eval()
    step = lambda x: {"y": network(x["x"])}
    step.parameters, step.buffers = network.parameters, network.buffers
    step.modules = network.modules
    list(infer(step, [{"x": images}]))
    images.repeat(8, 1, 1, 1).exp().sum()
    torch.randn(900, 900) @ torch.randn(900, 900)

torch.set_num_threads(4)
compute()
child = os.fork()
if not child:
    signal.alarm(60)
    compute()
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_forked_processes_compute():
    """Threads of torch do not follow; without them, it would wait for ever."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", FORKED]
    assert subprocess.run(command, env=environment, timeout=300).returncode == 0


def test_threads_of_torch_are_restored_whoever_ends_last():
    before = torch.get_num_threads()
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        with running.shared_threads(2):
            first_is_in.set()
            second_is_in.wait(20)
        first_is_out.set()

    def second():
        first_is_in.wait(20)
        with running.shared_threads(None):
            second_is_in.set()
            first_is_out.wait(20)

    torch.set_num_threads(8)
    try:
        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = []
        fresh = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        fresh.start()
        fresh.join()
        assert found == [8]
    finally:
        torch.set_num_threads(before)
