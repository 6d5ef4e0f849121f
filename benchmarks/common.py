# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the benchmarks share: data, recipes of weights, where these and numbers go."""

import argparse
import ast
import hashlib
import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
from astropy.table import QTable
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT / "galml" / "data"
#: Parts of a named set: choices are made on the first one.
HALVES = ("development", "reporting")


def shared_data(name):
    """Folder ``name`` of the real data: under GALML_SHARED, or beside the checkout."""
    folder = (
        Path(os.environ.get("GALML_SHARED", ROOT.parent / "shared")) / "data" / name
    )
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: set GALML_SHARED to the folder of shared data")
    return folder


def half_of(name):
    """Tell the half, development or reporting, that a name belongs to."""
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]


def galaxy_zoo(wanted):
    """Pictures of the Galaxy Zoo 1 whose class is among those wanted.

    Parameters
    ----------
    wanted : collection of int
        Classes: 0 elliptical, 1 clockwise and 2 anticlockwise spiral, 3 edge-on,
        4 unknown, 5 merger.

    Returns
    -------
    names, classes : `~numpy.ndarray`
        Shape (n,).
    pictures : `~numpy.ndarray`
        Bytes, shape (n, 192, 192, 3).
    """
    folder = shared_data("gz1_sdss")
    table = QTable.read(folder / "labels.csv", format="ascii.csv")
    kinds = {f"{row['objid']}": int(row["class"]) for row in table}
    names, classes, pictures = [], [], []
    with tarfile.open(folder / "images.tar") as archive:
        for member in archive:
            name = Path(member.name).stem
            if kinds.get(name) in wanted:
                pictures.append(opened(archive.extractfile(member)))
                names.append(name)
                classes.append(kinds[name])
    return np.array(names), np.array(classes), np.stack(pictures)


def opened(file):
    """Bytes of a picture, shape (ny, nx, 3)."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def write_figures(name, figures):
    """Keep measured numbers as ``benchmarks/results/NAME.json``."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    print(f"written: {path.relative_to(ROOT)}")


def in_bins(judge, values, edges, *, fewest=1):
    """Judge the rows in bins of a property.

    Parameters
    ----------
    judge : callable
        Takes a mask of rows and gives figures.
    values : `~numpy.ndarray`
        The property of each row.
    edges : sequence of float
        Ends of the bins.
    fewest : int, optional
        Rows that a bin needs.

    Returns
    -------
    dict
        Figures by the edges of a bin, as text.
    """
    bins = zip(edges[:-1], edges[1:], strict=True)
    rows = {f"{a:g} - {b:g}": (values >= a) & (values < b) for a, b in bins}
    return {key: judge(row) for key, row in rows.items() if row.sum() >= fewest}


def show(title, rows):
    """Print figures, dicts with the same keys, as a table; ``title`` is of the rows."""
    table = QTable(rows=[{title: name} | row for name, row in rows.items()])
    for name in table.colnames[1:]:
        table[name].info.format = "d" if table[name].dtype.kind == "i" else ".3f"
    print()
    table.pprint(max_lines=-1, max_width=-1)


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


def cached(folder, name, make):
    """Take prepared tensors from a folder, or make them and keep them there.

    Parameters
    ----------
    folder : `~pathlib.Path` or None
        Where they are; None keeps nothing.
    name : str
        Name of the file, without its suffix.
    make : callable
        Gives the tensors, as a dict.

    Returns
    -------
    dict of str to `torch.Tensor`
        The tensors.
    """
    import torch

    path = folder and folder / f"{name}.pt"
    if path and path.exists():
        return torch.load(path)
    data = make()
    if path:
        torch.save(data, path)
    return data


def train_or_check(description, train, cards, domains):
    """Train models and put them in place, or tell whether those in place are such.

    The first model is the default one.

    Parameters
    ----------
    description : str
        What the script does, for its help.
    train : callable
        Takes the cards, and the folder of the cache or None; yields name and model.
    cards : dict of str to dict
        Card of each model by its name, with its recipe; see `describe`.
    domains : dict of str to str
        What each model is for.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        raise SystemExit(not all([check(name, card) for name, card in cards.items()]))
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    for name, model in train(cards, args.cache):
        ship(model, name, domain=domains[name], default=name == next(iter(cards)))


def _flat(recipe):
    """Give the code of a recipe file by file, beside its settings."""
    return {key: value for key, value in recipe.items() if key != "code"} | recipe.get(
        "code", {}
    )


def ship(model, name, *, domain, default=True):
    """Put a model into the package and its list, in place of its last version.

    Names end in the number of the version: kinematic-gas-2 replaces kinematic-gas-1.
    The history of its training goes to the results.
    """
    from galml.core.model import GalaxyModel

    path = DATA / f"{name}.safetensors"
    model.name = name
    model.save(path, dtype="float16", overwrite=True)
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
    model.history.write(RESULTS / f"{family}_history.ecsv", overwrite=True)
    others = []
    for one in json.loads(listing.read_text()):
        if one["name"].rpartition("-")[0] != family:
            others.append(one)
        elif one["name"] != name:
            (DATA / one["file"]).unlink(missing_ok=True)
    entries = sorted([*others, entry], key=lambda e: (e["operation"], e["name"]))
    listing.write_text(json.dumps(entries, indent=2) + "\n")
    print(f"{path}: {entry['size'] / 1e6:.2f} MB, figures {model.card['figures']}")
