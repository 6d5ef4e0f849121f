# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy
import json
import re
import sys
from threading import Thread
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import galml
from galml.core import domain
from galml.core.domain import Architecture, Operation, find_architecture, find_object
from galml.core.exceptions import FileError, InputError, ModelError, WeightsError
from galml.core.model import DESCRIPTION, GalaxyModel, InputSpec, _sha256


class Tiny(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(2, width, 3), torch.nn.BatchNorm2d(width)
        )

    def forward(self, inputs):
        return {"value": self.layers(inputs["image"]).mean((1, 2, 3))}


def rows(*names, **architectures):
    architectures = architectures or {"tiny": Architecture("tiny_network:Tiny")}
    return {
        name: Operation(name, f"nowhere:{name}", architectures=architectures)
        for name in names
    }


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    network = ModuleType("tiny_network")
    network.Tiny = Tiny
    monkeypatch.setitem(sys.modules, "tiny_network", network)
    monkeypatch.setattr(domain, "_operations", rows("weigh", "measure"))


def make_model(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Tiny(width=5)
    arguments = {
        "operation": "weigh",
        "architecture": "tiny",
        "options": {"width": 5},
        "config": {"pixels": 32, "units": ["km / s", None], "scale": 0.1},
        "card": {"license": "CC0-1.0", "figures": {"error": 0.25}},
        "name": "feather",
    }
    return GalaxyModel(network, **arguments | changes)


def rewrite(path, tensors=None, **changes):
    """Change a file behind its own back."""
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["galml"]) | changes
        old = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(old | (tensors or {}), path, metadata={"galml": json.dumps(content)})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.safetensors"
    make_model().save(path)
    return path


def test_round_trip(path):
    model, loaded = make_model(), GalaxyModel.load(path, operation="weigh")
    for key in ("operation", "architecture", "options", "config", "card", "name"):
        assert getattr(loaded, key) == getattr(model, key)
    assert loaded.sha256 == model.sha256
    state = loaded.network.state_dict()
    for key, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, state[key])
    image = {"image": torch.ones(2, 2, 6, 6)}
    assert torch.equal(model.network(image)["value"], loaded.network(image)["value"])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_model_is_ready_for_inference(path):
    for model in (make_model(), GalaxyModel.load(path)):
        assert not any(m.training for m in model.network.modules())
        assert model.card["galml"] == galml.__version__
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", model.card["date"])


def test_card_keeps_its_date():
    assert make_model(card={"date": "2020-02-02"}).card["date"] == "2020-02-02"


def test_half_precision_on_disk(tmp_path, path):
    model, half = make_model(), tmp_path / "half.safetensors"
    model.save(half, dtype="float16")
    loaded = GalaxyModel.load(half)
    state = loaded.network.state_dict()
    for key, tensor in model.network.state_dict().items():
        assert state[key].dtype == tensor.dtype
        torch.testing.assert_close(state[key], tensor, rtol=1e-3, atol=1e-7)
    assert not torch.equal(
        state["layers.0.weight"], model.network.layers[0].weight.detach()
    )
    assert loaded.sha256 != model.sha256
    # Whatever the type on disk, the same weights have the same hash.
    with pytest.raises(FileError, match="overwrite"):
        loaded.save(path)
    assert GalaxyModel.load(path).sha256 == model.sha256
    loaded.save(path, overwrite=True)
    assert GalaxyModel.load(path).sha256 == loaded.sha256
    assert path.stat().st_size > half.stat().st_size


def test_files_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "nowhere" / "model", tmp_path):
        with pytest.raises(FileError, match="path: got .* cannot be written"):
            make_model().save(path, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_sha256_covers_everything():
    model = make_model()
    assert re.fullmatch("[0-9a-f]{64}", model.sha256)
    assert make_model().sha256 == model.sha256
    assert make_model(name="other").sha256 != model.sha256
    assert make_model(config={}).sha256 != model.sha256
    assert make_model(card={"license": "MIT"}).sha256 != model.sha256
    changed = copy.deepcopy(model.network)
    changed.layers[1].running_var[0] *= 1.001
    arguments = {"options": {"width": 5}, "config": model.config, "card": model.card}
    changed = GalaxyModel(changed, operation="weigh", architecture="tiny", **arguments)
    assert changed.sha256 != model.sha256


def test_save_hashes_what_it_saves(path):
    """Even where the network was changed after the hash was asked for."""
    model = make_model()
    before = model.sha256
    with torch.no_grad():
        model.network.layers[0].weight.add_(1)
    model.save(path, overwrite=True)
    assert GalaxyModel.load(path).sha256 != before


def test_name_from_file(tmp_path):
    model = make_model(name=None)
    model.save(tmp_path / "stone.safetensors")
    loaded = GalaxyModel.load(tmp_path / "stone.safetensors")
    assert loaded.name == "stone"
    assert loaded.sha256 == model.sha256


def test_loading_leaves_the_random_state(path):
    """Even while other threads draw, whose numbers must not come twice."""
    torch.manual_seed(0)
    expected = torch.stack([torch.rand(()) for _ in range(4000)])
    torch.manual_seed(0)
    loading = Thread(target=lambda: [GalaxyModel.load(path) for _ in range(100)])
    loading.start()
    drawn = torch.stack([torch.rand(()) for _ in range(4000)])
    loading.join()
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0)


def test_loading_is_in_single_precision(path):
    torch.set_default_dtype(torch.float64)
    try:
        loaded = GalaxyModel.load(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}


def test_files_with_weights_that_are_not_finite(path):
    broken = {"layers.0.bias": torch.full((5,), torch.nan)}
    rewrite(path, tensors=broken)
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["galml"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    hashed = {key: content[key] for key in ("name", *DESCRIPTION)}
    rewrite(path, sha256=_sha256(hashed, tensors))
    with pytest.raises(WeightsError, match=f"{path}: holds weights that are not fin"):
        GalaxyModel.load(path)


def test_first_format_without_the_name(path):
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["galml"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    former = _sha256({key: content[key] for key in DESCRIPTION}, tensors)
    rewrite(path, format=1, sha256=former)
    assert GalaxyModel.load(path).sha256 == former


def test_repr():
    model = make_model()
    expected = "<GalaxyModel 'feather': weigh by tiny, 105 parameters, sha256 {}>"
    assert repr(model) == expected.format(model.sha256[:12])


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=f"{path}: truncated"):
        GalaxyModel.load(path)


def test_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{path}: damaged, or changed"):
        GalaxyModel.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": {"layers.0.bias": torch.zeros(5)}},
        {"tensors": {"extra": torch.zeros(5)}},
        {"operation": "measure"},
        {"config": {"scale": 0.2}},
        {"card": {"license": "mine"}},
        {"options": {"width": 6}},
        {"name": "stone"},
        {"format": 1},
        {"sha256": "0" * 64},
    ],
)
def test_tampered_file(path, change):
    rewrite(path, **change)
    with pytest.raises(WeightsError, match=f"{path}: damaged, or changed"):
        GalaxyModel.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_file_of_something_else(path, metadata):
    save_file({"x": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(WeightsError, match=f"{path}: .* not a model of galml"):
        GalaxyModel.load(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "x", "name": "y"}'])
def test_damaged_description(path, text):
    save_file({"x": torch.zeros(1)}, path, metadata={"galml": text})
    with pytest.raises(WeightsError, match=f"{path}: the description is damaged"):
        GalaxyModel.load(path)


def test_newer_format(path):
    rewrite(path, format=3)
    with pytest.raises(ModelError, match=f"{path}: has format 3.*up to 2") as info:
        GalaxyModel.load(path)
    assert not isinstance(info.value, WeightsError)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        GalaxyModel.load(tmp_path / "none.safetensors")


def test_other_operation(path):
    with pytest.raises(ModelError, match=f"{path}: .*'weigh', not for 'measure'"):
        GalaxyModel.load(path, operation="measure")


def test_unknown_operation_of_a_file(path, monkeypatch):
    monkeypatch.setattr(domain, "_operations", rows("measure"))
    with pytest.raises(ModelError, match=rf"{path}: .*'weigh'.*\['measure'\]"):
        GalaxyModel.load(path)


def test_unknown_architecture_of_a_file(path, monkeypatch):
    large = Architecture("tiny_network:Tiny")
    monkeypatch.setattr(domain, "_operations", rows("weigh", large=large))
    with pytest.raises(ModelError, match=rf"{path}: .*'tiny'.*\['large'\]"):
        GalaxyModel.load(path)


@pytest.mark.parametrize("options", [{"depth": 3}, {"width": 6}])
def test_options_that_do_not_fit(path, options):
    make_model(options=options).save(path, overwrite=True)
    with pytest.raises(ModelError, match=f"{path}: ") as info:
        GalaxyModel.load(path)
    assert len(str(info.value)) <= len(f"{path}: ") + 300


def test_find_architecture():
    assert find_object(find_architecture("weigh", "tiny").network) is Tiny
    with pytest.raises(ModelError, match="unknown operation 'sing'"):
        find_architecture("sing", "tiny")
    with pytest.raises(ModelError, match="unknown architecture 'huge' for 'weigh'"):
        find_architecture("weigh", "huge")


def test_operations_share_models(monkeypatch):
    shared = Operation("guess", "nowhere:guess", models="weigh")
    monkeypatch.setattr(domain, "_operations", rows("weigh") | {"guess": shared})
    assert domain.find_operation("guess") == domain.find_operation("weigh") == "weigh"
    assert find_architecture("guess", "tiny") == find_architecture("weigh", "tiny")


SPEC = InputSpec(
    grid=(48, 48),
    channels=("shape", "contrast"),
    half_width=2.5,
    width_unit="r_eff",
    scalars=("log_snr",),
    stretch={"softening": 0.05},
    parameters={"clip": 2.5},
)


def test_model_carries_its_input(tmp_path):
    model = make_model(input_spec=SPEC)
    assert model.input_spec == SPEC
    model.save(tmp_path / "file")
    loaded = GalaxyModel.load(tmp_path / "file")
    assert loaded.input_spec == SPEC
    assert loaded.sha256 == model.sha256 != make_model().sha256
    assert make_model().input_spec == InputSpec()


def test_damaged_input_spec():
    model = make_model(card={"input": {"cells": 48}})
    with pytest.raises(ModelError, match="'input'.*cells"):
        model.input_spec  # noqa: B018


def test_network_of_another_class():
    arguments = {"operation": "weigh", "architecture": "tiny", "options": {}}
    with pytest.raises(ModelError, match="'tiny' is a Tiny, but the network is a Lin"):
        GalaxyModel(torch.nn.Linear(1, 1), config={}, card={}, **arguments)


@pytest.mark.parametrize("argument", ["options", "config", "card"])
@pytest.mark.parametrize("value", [{"x": object()}, {"x": float("nan")}])
def test_what_cannot_be_written(argument, value):
    with pytest.raises(ModelError, match=f"^{argument}: cannot be written as JSON"):
        make_model(**{argument: value})


@pytest.mark.parametrize("dtype, value", [(None, torch.nan), ("float16", 1e6)])
def test_weights_that_are_not_finite(tmp_path, dtype, value):
    model = make_model()
    model.network.layers[1].running_mean[2] = value
    with pytest.raises(ModelError, match="layers.1.running_mean: not finite"):
        model.save(tmp_path / "x.safetensors", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_unknown_dtype(tmp_path):
    with pytest.raises(InputError, match="^dtype: got 'int4'"):
        make_model().save(tmp_path / "x.safetensors", dtype="int4")


def test_weights_for_a_network_that_is_at_hand(path):
    network = Tiny(width=5)
    loaded = GalaxyModel.load(path, network=network)
    assert loaded.network is network and loaded.sha256 == make_model().sha256
    with pytest.raises(ModelError, match="size mismatch"):
        GalaxyModel.load(path, network=Tiny(width=6))
