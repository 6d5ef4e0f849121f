# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of `galml.sample_stars` as ratios, and its memory.

    python benchmarks/stars_speed.py [--stars 1000000] [--repeats 5] [--threads 2]

A million stars of one galaxy, end to end from the conditions to the table, against the
bare network on noise that is ready, and against sampling from zuko's plain ``NSF`` and
``MAF`` and from the architecture of GalacticFlow, with conditions, in the same batches.
Speed does not depend on the weights: the others have their first ones. All take turns;
medians count. Slow ones draw fewer stars. Memory is the highest of a fresh process that
streams stars, against their number.
"""

import argparse
import resource
import subprocess
import sys
import time

import astropy.units as u
import numpy as np
import torch
import zuko
from astropy.table import QTable
from common import write_figures

import galml
from galml import physics
from galml.core.weights import load_model
from galml.stars.galaxies import read_galaxies
from galml.stars.published import GalacticFlow

AXES, CONTEXT = len(physics.STAR_AXES), len(physics.CONDITIONS)
BATCH = 16_384
#: Shares of the stars that the others draw.
FEWER = {
    "zuko NSF": 0.01,
    "zuko MAF": 0.05,
    "zuko NSF, 2 passes": 0.05,
    "zuko NICE": 0.2,
    "galacticflow": 0.02,
}
MEMORY = (100_000, 1_000_000, 5_000_000)
CONDITIONS = QTable(
    {
        "stellar_mass": [3e10] * u.Msun,
        "median_age": [6.0] * u.Gyr,
        "age_percentile_10": [2.0] * u.Gyr,
        "metallicity": [0.0] * u.dex,
    }
)


def bare(network, context, count):
    """Give the function that turns ready noise into stars, in batches."""
    noise = torch.randn(count, AXES)

    def run():
        with torch.no_grad():
            for part in noise.split(BATCH):
                network.sample(part, context)

    return run


def plain(flow, count):
    """Give the function that draws from a flow of zuko as its users do."""
    context = torch.zeros(CONTEXT)

    def run():
        with torch.no_grad():
            for start in range(0, count, BATCH):
                flow(context).sample((min(BATCH, count - start),))

    return run


def ways(stars):
    """All that is timed, with its number of stars."""
    model = load_model("default", "stars")
    network = model.network.eval()
    context = torch.from_numpy(read_galaxies(CONDITIONS, model).context).float()
    published = {
        "zuko NSF": zuko.flows.NSF(AXES, CONTEXT, transforms=5),
        "zuko NSF, 2 passes": zuko.flows.NSF(AXES, CONTEXT, transforms=5, passes=2),
        "zuko MAF": zuko.flows.MAF(
            AXES, CONTEXT, transforms=10, hidden_features=(128, 128)
        ),
        "zuko NICE": zuko.flows.NICE(
            AXES, CONTEXT, transforms=10, hidden_features=(128, 128)
        ),
    }
    counts = {name: int(share * stars) for name, share in FEWER.items()}
    galactic = GalacticFlow(AXES, CONTEXT).eval()
    runs = {
        "galml, end to end": (
            lambda: galml.sample_stars(CONDITIONS, stars, seed=1, device="cpu"),
            stars,
        ),
        "bare network": (bare(network, context, stars), stars),
        "galacticflow": (
            bare(galactic, torch.zeros(1, CONTEXT), counts["galacticflow"]),
            counts["galacticflow"],
        ),
    }
    for name, flow in published.items():
        runs[name] = plain(flow, counts[name]), counts[name]
    return runs


def measure(stars, repeats):
    """Median seconds for a star of each way."""
    runs = ways(stars)
    seconds = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, (run, count) in runs.items():
            start = time.perf_counter()
            run()
            # The first turn warms up.
            if turn:
                seconds[name].append((time.perf_counter() - start) / count)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def peak(count):
    """Highest memory (MB) of a process that streams so many stars."""
    command = [sys.executable, __file__, "--memory", str(count)]
    found = subprocess.run(command, capture_output=True, check=True, text=True)
    return float(found.stdout)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        for _ in galml.stars.iter_stars(CONDITIONS, args.memory, chunk=100_000):
            pass
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    # First: a process begins with the peak of the one that started it.
    memory = {count: peak(count) for count in MEMORY}
    seconds = measure(args.stars, args.repeats)
    base = seconds["galml, end to end"]
    table = QTable(
        rows=[(name, 1 / each, each / base) for name, each in seconds.items()],
        names=("way", "stars/s", "galml is faster by"),
    )
    table["stars/s"].info.format = ".0f"
    table["galml is faster by"].info.format = ".2f"
    table.pprint(max_lines=-1, max_width=-1)
    for count, size in memory.items():
        print(f"{count} streamed stars: {size:.0f} MB at most")
    figures = {
        "stars": args.stars,
        "threads": args.threads,
        "model": load_model("default", "stars").sha256,
        "stars_per_second": {name: 1 / each for name, each in seconds.items()},
        "galml_is_faster_by": {name: each / base for name, each in seconds.items()},
        "end_to_end_over_bare": base / seconds["bare network"],
        "peak_memory_mb": memory,
    }
    write_figures("stars_speed", figures)


if __name__ == "__main__":
    main()
