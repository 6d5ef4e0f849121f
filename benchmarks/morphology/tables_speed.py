# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of `galml.latents`, and time and memory of what is done with tables of latents.

    python benchmarks/morphology/tables_speed.py [--galaxies 512] [--repeats 7]

(1) End to end, from a `galml.cutouts.CutoutStack` in three bands to the table, against
the bare forward pass of the network on tensors that are ready. Both take turns; ratios
are those of each turn, in time and in time of the processor, and their medians count.
(2) Tables of Gaussian latents, each operation in a process of its own, whose memory is
that of the process at its peak, without what it had before. A search is exact.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable

import galml
from galml.core.weights import load_model
from galml.morphology.preparation import AROUND

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import write_figures
from spin_speed import cutouts, seconds

BATCH, SEED = 64, 1
#: Latents of the tables, and queries of the search in a large one.
LATENTS, QUERIES = 40, 1000
GIGABYTE = 1e9


def bare(network, inputs):
    """Run a network on tensors that are ready."""
    count = len(inputs["image"])
    with torch.no_grad():
        for start in range(0, count, BATCH):
            network({k: v[start : start + BATCH] for k, v in inputs.items()})


def speed(galaxies, repeats):
    """Compare `galml.latents` with the bare forward pass."""
    stack, model = cutouts(galaxies), load_model("default", "latents")
    spec = model.input_spec
    inputs = {
        "image": torch.rand(len(stack), len(spec.channels), *spec.grid),
        "scalars": torch.rand(len(stack), len(spec.scalars)),
        "surroundings": torch.rand(len(stack), len(AROUND), *spec.grid),
    }
    runs = {
        "end to end": lambda: galml.latents(stack),
        "bare forward pass": lambda: bare(model.network, inputs),
    }
    times = {key: [] for key in runs}
    for _ in range(repeats + 1):
        for key, run in runs.items():
            times[key].append(seconds(run))
    # The first turn warms up.
    times = {key: np.array(values[1:]) for key, values in times.items()}
    rows = {}
    for key, values in times.items():
        ratio, processor = np.median(times["end to end"] / values, axis=0)
        rate = len(stack) / np.median(values[:, 0])
        rows[key] = {"rate": rate, "ratio": ratio, "processor_ratio": processor}
    return rows


def table_of(count):
    """Latents of galaxies that there are not."""
    generator = np.random.default_rng(SEED)
    return QTable(
        {
            "latent": generator.normal(size=(count, LATENTS)),
            "reconstruction_error": generator.lognormal(size=count),
        }
    )


def search(table):
    """Search for some galaxies in a large table."""
    galml.similar(table, np.arange(QUERIES).tolist(), 10, approximate=False)


def search_all(table):
    """Search for all galaxies of a table."""
    galml.similar(table, table, 10, approximate=False, progress=True)


def score(table):
    """Score all galaxies of a table."""
    galml.outliers(table, progress=True)


def project(method):
    """Give a function that projects a table."""
    return lambda table: galml.project(table, method=method, progress=True)


#: Operations by name, each with the number of galaxies.
OPERATIONS = {
    "similar, all": (search_all, 100_000),
    "outliers": (score, 100_000),
    "project, pca": (project("pca"), 100_000),
    "project, tsne": (project("tsne"), 100_000),
    "project, umap": (project("umap"), 100_000),
    f"similar, {QUERIES}": (search, 1_000_000),
}


def peak():
    """Memory of this process at its peak, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE


def measure(name):
    """Time and memory of one operation, in this process."""
    run, count = OPERATIONS[name]
    # What is imported and compiled does not count.
    run(table_of(1000 + QUERIES))
    before, table = peak(), table_of(count)
    start, busy = time.perf_counter(), time.process_time()
    run(table)
    return {
        "galaxies": count,
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - busy,
        "gigabytes": peak() - before,
        "gigabytes_with_libraries": peak(),
    }


def apart(name):
    """Measure one operation in a process of its own."""
    command = [sys.executable, __file__, "--operation", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-latents", action="store_true")
    parser.add_argument("--operation", choices=OPERATIONS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.operation:
        print(json.dumps(measure(args.operation)))
        return
    figures = {"threads": args.threads, "tables": {}}
    if not args.skip_latents:
        figures["latents"] = speed(args.galaxies, args.repeats)
        figures["galaxies"] = args.galaxies
        for key, row in figures["latents"].items():
            print(f"{key}: {row}", flush=True)
    for name in OPERATIONS:
        figures["tables"][name] = apart(name)
        print(f"{name}: {figures['tables'][name]}", flush=True)
    if not args.skip_latents:
        write_figures("morphology/tables_speed", figures)


if __name__ == "__main__":
    main()
