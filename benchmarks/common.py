# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the benchmarks share: where the real data are, where the numbers go."""

import ast
import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT / "galml" / "data"


def shared_data(name):
    """Folder ``name`` of the real data: under GALML_SHARED, or beside the checkout."""
    folder = (
        Path(os.environ.get("GALML_SHARED", ROOT.parent / "shared")) / "data" / name
    )
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: set GALML_SHARED to the folder of shared data")
    return folder


def write_figures(name, figures):
    """Keep measured numbers as ``benchmarks/results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    print(f"written: {path.relative_to(ROOT)}")


def describe(code, **settings):
    """Say in a card how weights are made: settings, and the code that makes the data.

    It is to be called before the data are made, for files may change meanwhile.

    Parameters
    ----------
    code : sequence of str
        Files that the data depend on, below ``galml``, or what one of them defines, as
        "file.py:name". Comments, docstrings and layout of Python do not count.
    **settings
        All that the script can change: population, streams of mocks, stages, epochs,
        learning rates, seeds, batch size, dtype.

    Returns
    -------
    dict
        ``recipe``, and ``recipe_sha256`` of its canonical JSON, to be joined to the
        card of a model.
    """
    recipe = settings | {"code": {file: fingerprint(file) for file in code}}
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"recipe": json.loads(text), "recipe_sha256": digest}


def fingerprint(place):
    """SHA-256 of a file below ``galml``; of code, that of its syntax tree."""
    file, _, name = place.partition(":")
    content = (ROOT / "galml" / file).read_bytes()
    if file.endswith(".py"):
        tree = ast.parse(content)
        if name:
            tree.body = [n for n in tree.body if getattr(n, "name", None) == name]
        for node in ast.walk(tree):
            # Docstrings, and other strings that stand alone.
            if hasattr(node, "body") and isinstance(node.body, list):
                node.body = [line for line in node.body if not _is_text(line)]
        content = ast.unparse(ast.fix_missing_locations(tree)).encode()
    return hashlib.sha256(content).hexdigest()


def _is_text(node):
    """Whether a statement is nothing but a string."""
    value = getattr(node, "value", None)
    constant = isinstance(node, ast.Expr) and isinstance(value, ast.Constant)
    return constant and isinstance(value.value, str)


def check(name, described):
    """Compare the recipe of weights in the package with that of a script.

    Parameters
    ----------
    name : str
        Name of the model.
    described : dict
        What `describe` gives now.

    Returns
    -------
    bool
        Whether they are the same; what differs is printed.
    """
    from galml.core.model import GalaxyModel

    card = GalaxyModel.load(DATA / f"{name}.safetensors").card
    found, expected = (_flat(one.get("recipe", {})) for one in (card, described))
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            print(f"{name}: {key} was {found.get(key)}, is {expected.get(key)}")
    same = card.get("recipe_sha256") == described["recipe_sha256"]
    print(f"{name}: {'the recipe of this script' if same else 'another recipe'}")
    return same


def _flat(recipe):
    """Give the code of a recipe file by file, beside its settings."""
    return {key: value for key, value in recipe.items() if key != "code"} | recipe.get(
        "code", {}
    )


def ship(model, name, *, domain, default=True):
    """Put a model into the package and its list, in place of its last version.

    Names end in the number of the version: kinematic-gas-2 replaces kinematic-gas-1.
    """
    from galml.core.model import GalaxyModel

    path = DATA / f"{name}.safetensors"
    model.name = name
    model.save(path, dtype="float16")
    entry = {
        "operation": model.operation,
        "name": name,
        "default": default,
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": GalaxyModel.load(path).sha256,
        "license": model.card["license"],
        "domain": domain,
    }
    listing = DATA / "models.json"
    family = name.rpartition("-")[0]
    others = []
    for one in json.loads(listing.read_text()):
        if one["name"].rpartition("-")[0] != family:
            others.append(one)
        elif one["name"] != name:
            (DATA / one["file"]).unlink(missing_ok=True)
    entries = sorted([*others, entry], key=lambda e: (e["operation"], e["name"]))
    listing.write_text(json.dumps(entries, indent=2) + "\n")
    print(f"{path}: {entry['size'] / 1e6:.2f} MB, figures {model.card['figures']}")
