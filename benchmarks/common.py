# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the benchmarks share: where the real data are, where the numbers go."""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


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
