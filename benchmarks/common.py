# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the benchmarks share: where the real data are, where the numbers go."""

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


def ship(model, name, *, domain, default=True):
    """Write a model into the package and enter it in the list of models."""
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
    others = [e for e in json.loads(listing.read_text()) if e["name"] != name]
    entries = sorted([*others, entry], key=lambda e: (e["operation"], e["name"]))
    listing.write_text(json.dumps(entries, indent=2) + "\n")
    print(f"{path}: {entry['size'] / 1e6:.2f} MB, figures {model.card['figures']}")
