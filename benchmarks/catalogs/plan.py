# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a thousand million galaxies would take, from what was measured here.

    python benchmarks/catalogs/plan.py

Nothing is measured: the results of ``streaming.py`` and ``bookkeeping.py`` are scaled,
and what cannot be measured here is assumed, and said to be.
"""

import json
from pathlib import Path
from sys import path as search_path

search_path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import RESULTS, write_figures

GALAXIES, CORES = 1_000_000_000, 1000
#: Assumed: rows in a partition, as surveys cut them, and hours between two failures of
#: a worker.
PARTITION, HOURS_BETWEEN_FAILURES = 250_000, 100


def main():
    """Scale, print, keep."""
    streaming, bookkeeping = (
        json.loads((RESULTS / "catalogs" / f"{name}.json").read_text())
        for name in ("streaming", "bookkeeping")
    )
    ms = streaming["turns"]["rows"]["two workers"]["ms_per_galaxy"]
    core_hours = GALAXIES * ms / 3.6e6
    hours = core_hours / CORES
    partition_hours = PARTITION * ms / 3.6e6
    partitions = GALAXIES // PARTITION
    pixels = GALAXIES * streaming["bytes_of_images"] / 1e12
    figures = {
        "galaxies": GALAXIES,
        "cores": CORES,
        "ms_per_galaxy": ms,
        "core_hours": core_hours,
        "hours": hours,
        "partition_rows": PARTITION,
        "partitions": partitions,
        "minutes_per_partition": 60 * partition_hours,
        "bookkeeping_hours": partitions
        * bookkeeping["ms_per_partition"]["two workers"]
        / 3.6e6,
        "measured_partition": streaming["partition"],
        "worker_gb": max(row["worker_mb"] for row in streaming["memory"]) / 1e3,
        "images_tb": pixels,
        "images_gb_per_s": 1e3 * pixels / (3600 * hours),
        "catalog_gb": GALAXIES * streaming["bytes_of_catalog"] / 1e9,
        "results_gb": GALAXIES * streaming["bytes_of_results"] / 1e9,
        "hours_between_failures": HOURS_BETWEEN_FAILURES,
        "failures": core_hours / HOURS_BETWEEN_FAILURES,
        # Half a partition each.
        "lost": partition_hours / 2 / HOURS_BETWEEN_FAILURES,
    }
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    write_figures("catalogs/plan", figures)


if __name__ == "__main__":
    main()
