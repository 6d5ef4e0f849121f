# Licensed under a 3-clause BSD style license - see LICENSE.rst
import importlib
import inspect
import subprocess
import sys
from importlib import metadata

import pytest

import galml
from galml.core.domain import find_object, operations

PACKAGES = [
    "core",
    "cutouts",
    "gas_kinematics",
    "imaging",
    "mergers",
    "mocks",
    "physics",
    "stars",
    "stellar_kinematics",
    "stellar_spin",
]
HEAVY = ["torch", "specutils", "photutils", "reproject", "matplotlib", "scipy", "zuko"]

IMPORT = """
import logging, socket, sys

def refuse(*args, **kwargs):
    raise RuntimeError("the network was used")

socket.socket = refuse
handlers = list(logging.getLogger().handlers)
{statement}
assert logging.getLogger().handlers == handlers
assert not logging.getLogger("galml").handlers
print(*sys.modules)
"""


def imported_modules(statement):
    code = IMPORT.format(statement=statement)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return set(result.stdout.split())


def test_import_is_light():
    modules = imported_modules("import galml")
    assert modules.isdisjoint([*HEAVY, "numpy", "astropy"])


@pytest.mark.parametrize("module", ["galml.core", "galml.cli"])
def test_import_of_package_is_light(module):
    assert imported_modules(f"import {module}").isdisjoint(HEAVY)


@pytest.mark.parametrize("name", galml.__all__)
def test_public_functions(name):
    function = getattr(galml, name)
    assert callable(function)
    assert function.__doc__
    assert name in dir(galml)


@pytest.mark.parametrize("name", PACKAGES)
def test_subpackages(name):
    assert getattr(galml, name) is sys.modules[f"galml.{name}"]
    assert name in dir(galml)


@pytest.mark.parametrize(
    "package",
    ["gas_kinematics", "mergers", "stars", "stellar_kinematics", "stellar_spin"],
)
def test_rooms_of_domains_need_no_import(package):
    code = f"import galml; print(galml.{package}.plots.__name__)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == f"galml.{package}.plots"


@pytest.mark.parametrize("name", ["galml", *(f"galml.{n}" for n in PACKAGES)])
def test_only_public_names_are_shown(name):
    module = importlib.import_module(name)
    assert not [entry for entry in dir(module) if entry.startswith("_")]
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("operation", operations().values(), ids=lambda row: row.name)
def test_signatures_say_everything(operation):
    function = find_object(operation.function)
    parameters = inspect.signature(function).parameters.values()
    assert not [p for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert ">>>" in function.__doc__


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="nothing"):
        galml.nothing  # noqa: B018


def test_version(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delitem(vars(galml), "__version__", raising=False)
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 1.2.3")
    assert galml.__version__ == "galml 1.2.3"
    monkeypatch.delitem(vars(galml), "__version__")
    monkeypatch.setattr(metadata, "version", not_installed)
    assert galml.__version__ == "0+unknown"
    monkeypatch.delitem(vars(galml), "__version__")
