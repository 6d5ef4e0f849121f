# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
import os
import sys
import threading
import time
from types import ModuleType

import astropy.units as u
import pytest
import torch
from astropy.table import QTable

from galml.core import domain, weights
from galml.core.domain import Architecture, Operation
from galml.core.exceptions import InputTypeError, ModelError, WeightsError
from galml.core.model import GalaxyModel
from galml.core.weights import import_weights, list_models, load_model

OPERATIONS = {
    name: Operation(
        name, "nowhere", architectures={"tiny": Architecture("tiny_network:Tiny")}
    )
    for name in ("weigh", "measure")
}


class Tiny(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 1)


def save(path, value, operation="weigh"):
    network = Tiny()
    with torch.no_grad():
        network.bias.fill_(value)
    options = {"options": {}, "config": {}, "card": {}}
    model = GalaxyModel(network, operation=operation, architecture="tiny", **options)
    model.save(path, overwrite=True)
    return GalaxyModel.load(path).sha256


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    """A registry of four models, one of them on the web."""
    network = ModuleType("tiny_network")
    network.Tiny = Tiny
    monkeypatch.setitem(sys.modules, "tiny_network", network)
    monkeypatch.setattr(domain, "_operations", OPERATIONS)
    folder = tmp_path / "data"
    folder.mkdir()
    entries = []
    for operation, name, default in (
        ("weigh", "feather", False),
        ("weigh", "stone", True),
        ("measure", "ruler", True),
        ("weigh", "cloud", False),
    ):
        path = folder / f"{name}-1.safetensors"
        sha256 = save(path, len(entries), operation)
        entry = {"operation": operation, "name": name, "default": default}
        entry |= {"size": path.stat().st_size, "license": "CC0-1.0", "domain": "tests"}
        entries.append(entry | {"sha256": sha256, "file": path.name})
    del entries[-1]["file"]
    entries[-1]["urls"] = ["https://one.example/cloud", "https://two.example/cloud"]
    (folder / "models.json").write_text(json.dumps(entries))
    monkeypatch.setattr(weights, "DATA", folder)
    weights._load_named.cache_clear()
    weights._load_file.cache_clear()
    yield folder
    weights._load_named.cache_clear()


@pytest.fixture
def web(monkeypatch, data):
    """Files at addresses; a list of what was fetched and removed."""
    files, log = {}, []

    def download_file(url, **options):
        assert options["cache"] is True and options["pkgname"] == "galml"
        assert options["show_progress"] is False  # it would go to stdout
        log.append(url)
        if url not in files:
            raise OSError("unreachable")
        return str(files[url])

    monkeypatch.setattr(weights, "download_file", download_file)
    monkeypatch.setattr(
        weights, "clear_download_cache", lambda url, pkgname: log.append(f"-{url}")
    )
    return files, log


def bias(model):
    return model.network.bias.item()


def test_shipped_registry_is_sound(monkeypatch):
    monkeypatch.undo()
    weights._load_named.cache_clear()
    table = list_models()
    for row in table:
        assert domain.find_operation(row["operation"]) == row["operation"]
        if row["shipped"]:
            model = load_model(row["name"])
            assert model.sha256 == row["sha256"]
            assert model.card["license"] == row["license"]
            assert model.input_spec.grid
    defaults = list(table["operation"][table["default"]])
    assert len(set(defaults)) == len(defaults)
    assert len(set(table["name"])) == len(table)


def test_list_models():
    table = list_models()
    assert isinstance(table, QTable)
    assert list(table["name"]) == ["feather", "stone", "ruler", "cloud"]
    assert list(table["default"]) == [False, True, True, False]
    assert list(table["shipped"]) == [True, True, True, False]
    assert table["size"].unit == u.byte and table["size"].min() > 100 * u.byte
    assert list(list_models("measure")["name"]) == ["ruler"]
    with pytest.raises(ModelError, match="unknown operation 'sing'"):
        list_models("sing")


def test_no_models(data):
    (data / "models.json").write_text("[]")
    table = list_models()
    assert len(table) == 0 and "shipped" in table.colnames
    with pytest.raises(ModelError, match="'default'"):
        load_model("default", "weigh")


def test_by_name(data):
    model = load_model("feather")
    assert (model.name, bias(model)) == ("feather", 0)
    assert load_model("feather", "weigh") is model


def test_default():
    assert load_model("default", "weigh").name == "stone"
    assert load_model("default", operation="measure").name == "ruler"
    with pytest.raises(ModelError, match="'default' needs the name of an operation"):
        load_model("default")
    with pytest.raises(TypeError, match="model"):
        load_model()


def test_by_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    save(path, 7)
    model = load_model(path)
    assert (model.name, bias(model)) == ("mine", 7)
    assert load_model(str(path), "weigh") is model


def test_changed_file_is_read_again(tmp_path):
    path = tmp_path / "mine.safetensors"
    save(path, 7)
    load_model(path)
    save(path, 8)
    os.utime(path, (1, 1))
    assert bias(load_model(path)) == 8


def test_model_as_it_is():
    model = load_model("feather")
    assert load_model(model) is load_model(model, "weigh") is model


def test_name_goes_before_file(tmp_path, monkeypatch):
    save(tmp_path / "feather", 7)
    monkeypatch.chdir(tmp_path)
    assert bias(load_model("feather")) == 0
    assert bias(load_model("./feather")) == 7


def test_other_operation(data):
    path = data / "feather-1.safetensors"
    for model in ("feather", path, load_model("feather")):
        with pytest.raises(ModelError, match="feather.*: .*'weigh', not for 'measure'"):
            load_model(model, "measure")
    with pytest.raises(ModelError, match="unknown operation 'sing'"):
        load_model("feather", "sing")


def test_unknown_name():
    with pytest.raises(ModelError, match="'fether'.*'cloud'.*mean 'feather'") as info:
        load_model("fether")
    assert "'ruler'" in str(info.value)
    with pytest.raises(ModelError, match="names for 'measure': .*'ruler'") as info:
        load_model("zzz", "measure")
    assert "mean" not in str(info.value) and "feather" not in str(info.value)


def test_other_type():
    with pytest.raises(InputTypeError, match="^model: got int"):
        load_model(3)


def test_damaged_and_exchanged_files(data):
    (data / "feather-1.safetensors").write_bytes(b"xyz")
    with pytest.raises(WeightsError, match="feather-1.safetensors: truncated"):
        load_model("feather")
    (data / "stone-1.safetensors").replace(data / "feather-1.safetensors")
    with pytest.raises(WeightsError, match="feather-1.*: sha256 is .*expected"):
        load_model("feather")


def test_fetched_once(web, data):
    files, log = web
    files["https://one.example/cloud"] = data / "cloud-1.safetensors"
    model = load_model("cloud")
    assert (model.name, bias(model)) == ("cloud", 3)
    assert load_model("cloud") is model
    assert log == ["https://one.example/cloud"]


@pytest.mark.parametrize("first", ["unreachable", "damaged", "exchanged"])
def test_second_source(web, data, tmp_path, first):
    files, log = web
    one, two = "https://one.example/cloud", "https://two.example/cloud"
    files[two] = data / "cloud-1.safetensors"
    if first == "damaged":
        files[one] = tmp_path / "damaged"
        files[one].write_bytes(b"<html>")
    elif first == "exchanged":
        files[one] = data / "stone-1.safetensors"
    assert bias(load_model("cloud")) == 3
    assert log == ([one, two] if first == "unreachable" else [one, f"-{one}", two])


def test_no_source(web):
    with pytest.raises(WeightsError, match="cloud: no source.*one.*unreach.*two"):
        load_model("cloud")


def test_threads_get_the_same_model(monkeypatch):
    barrier, found = threading.Barrier(4, timeout=20), []
    load = GalaxyModel.load

    def slow_load(path):
        time.sleep(0.05)
        return load(path)

    monkeypatch.setattr(GalaxyModel, "load", slow_load)

    def work():
        barrier.wait()
        found.append(load_model("stone"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len({id(model) for model in found}) == 1


def test_import_weights(monkeypatch):
    module = ModuleType("tiny_published")
    module.import_weights = lambda path: ("model of", path)
    monkeypatch.setitem(sys.modules, "tiny_published", module)
    row = Operation(
        "hum", "nowhere", importers={"tiny": "tiny_published:import_weights"}
    )
    monkeypatch.setattr(domain, "_operations", {"hum": row})
    assert import_weights("x.pt", "tiny") == ("model of", "x.pt")
    with pytest.raises(ModelError, match="unknown system 'huge'.*'tiny'"):
        import_weights("x.pt", "huge")
