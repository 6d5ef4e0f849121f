# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Imports point one way, and every requirement is used."""

import ast
import configparser
import functools
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import galml

PACKAGE = Path(galml.__file__).parent
SETUP = Path(__file__).parents[1] / "setup.cfg"

#: The packages of each layer, which may import those of the layers above it here.
LAYERS = (
    {"physics"},
    {"core"},
    {"mocks", "cutouts"},
    {"imaging"},
    {
        "gas_kinematics",
        "mergers",
        "morphology",
        "stellar_spin",
        "stellar_kinematics",
        "stars",
    },
    {"registry"},
    {"catalogs"},
    {"cli"},
)
#: Packages of one layer do not import each other; nor may these do what a layer allows.
NEVER = {("imaging", "mocks"), ("registry", "cutouts")}

#: Modules of distributions that have another name.
MODULES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "lazy-loader": "lazy_loader",
    "opentsne": "openTSNE",
    "umap-learn": "umap",
    "astropy-healpix": "astropy_healpix",
}

#: Requirements that another one imports without asking for them.
BEHIND = {"scikit-image": "photutils"}


def imports(path):
    """Modules that a file imports, wherever it does so, and the places of the table."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module in ("galml", "galml.core"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module):
    """Package inside galml; None for what galml itself has, such as its version."""
    parts = module.split(".")
    if parts[0] != "galml" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in PACKAGES else None


def layer_of(package):
    return next(i for i, layer in enumerate(LAYERS) if package in layer)


PACKAGES = sorted(set().union(*LAYERS))
EDGES = sorted(
    {
        (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), package_of(module))
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE or path.stem == "registry"
        for module in imports(path)
    }
    - {(package, package) for package in PACKAGES}
    - {(package, None) for package in PACKAGES},
    key=str,
)


def test_every_package_has_a_layer():
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert found - {"data"} == set(PACKAGES) - {"registry"}


def test_physics_imports_nothing_of_galml():
    assert not [edge for edge in EDGES if edge[0] == "physics"]


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
def test_imports_point_one_way(edge):
    importer, imported = edge
    assert layer_of(importer) > layer_of(imported) and edge not in NEVER


def test_packages_form_no_circle():
    imported = {package: {b for a, b in EDGES if a == package} for package in PACKAGES}
    left = set(PACKAGES)
    while left:
        leaves = {package for package in left if not imported[package] & left}
        assert leaves, f"a circle among {sorted(left)}"
        left -= leaves


def test_modules_form_no_circle_when_imported():
    """Every module can be the first one that is imported."""
    modules = sorted(
        ".".join(["galml", *path.relative_to(PACKAGE).with_suffix("").parts])
        for path in PACKAGE.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    )
    code = (
        "import importlib, os, sys\n"
        "import numpy, torch, zuko, scipy.optimize, scipy.spatial\n"
        "import astropy.cosmology, astropy.nddata, astropy.visualization\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(f'{name}: {error!r}', flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout == ""


def requirements():
    """Distributions that setup.cfg asks for, by the extra that asks for them."""
    config = configparser.ConfigParser()
    config.read(SETUP)
    sections = {"": config["options"]["install_requires"]}
    sections |= dict(config["options.extras_require"])
    return {
        extra: {
            re.split(r"[\[<>=!~ ]", line)[0]
            for line in text.split("\n")
            if line.strip()
        }
        for extra, text in sections.items()
    }


@functools.cache
def third_party():
    """Modules from elsewhere that the package imports."""
    found = {
        module.split(".")[0]
        for path in PACKAGE.rglob("*.py")
        for module in imports(path)
    }
    return found - set(sys.stdlib_module_names) - {"galml"}


needs_source = pytest.mark.skipif(
    not SETUP.is_file(), reason="setup.cfg is in the source tree alone"
)


@needs_source
def test_every_requirement_is_imported():
    needed = requirements()[""]
    used = third_party()
    unused = {name for name in needed if MODULES.get(name, name) not in used}
    assert unused == {name for name in BEHIND if BEHIND[name] in used}


@needs_source
def test_every_import_is_required():
    known = requirements()
    extras = ("", "all", "distributed", "jwst", "morphology")
    asked = set().union(*(known[extra] for extra in extras)) - {"galml"}
    modules = {MODULES.get(name, name) for name in asked}
    assert third_party() - modules == {"tensorboard"} & third_party()


@needs_source
def test_requirements_that_are_installed_have_their_modules():
    for name in requirements()[""]:
        assert metadata.version(name)
