# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of `galml.circularity` as ratios, and its memory.

    python benchmarks/circularity_speed.py [--maps 10000] [--repeats 3] [--threads 2]

End to end, from arrays to the table, against the bare forward passes of the network
(its views included) on tensors that are ready, and against the published pipeline: its
preparation, its network and its class, for one map at a time and in batches. All take
turns; medians of the repeats count, and of the ratios within each. Memory is the
highest of a fresh process that reads maps from an iterator, against their number.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from astropy.table import QTable
from common import write_figures

import galml
from galml.core.domain import find_domain
from galml.core.weights import load_model
from galml.gas_kinematics import published
from galml.mocks import gas_maps

SEED = 1100
PIXELS = (48, 64)
BATCH = 64
DIFFERENT = 2000
MEMORY = (1000, 4000, 16_000)


def mocks(count):
    """Make maps of 48 or 64 pixels a side; after some time they repeat."""
    maps, first = [], 0
    while len(maps) < min(count, DIFFERENT):
        for _, batch in gas_maps(1, seed=SEED, first=first):
            if batch.velocity.shape[-1] in PIXELS:
                maps += list(batch.velocity.numpy())
        first += 1
    return [maps[i % len(maps)] for i in range(count)]


def bare(domain, batches):
    """Run the network in all its views on prepared tensors."""
    with torch.no_grad():
        for batch in batches:
            for view in domain.views:
                view.restore(domain.model.network(view.apply(batch)))


def published_pipeline(network, maps, batch):
    """Run the published preparation, network and class."""
    for start in range(0, len(maps), batch):
        prepared = published.prepare(maps[start : start + batch])
        with torch.no_grad():
            latents = network.encode(prepared.image)
        published.classify(latents.numpy())


def measure(count, repeats):
    """Seconds (repeats, 2), of the clock and of the processor, of each way."""
    maps = mocks(count)
    domain = find_domain(load_model("default", "circularity"))
    autoencoder = published.MerlinAutoencoder().eval()
    batches = []
    for member in domain.read(maps, unit="km/s").members:
        prepared = domain.prepare([member]).inputs
        parts = zip(*(tensor.split(BATCH) for tensor in prepared.values()), strict=True)
        batches += [dict(zip(prepared, part, strict=True)) for part in parts]
    ways = {
        "end to end": lambda: galml.circularity(maps, unit="km/s", batch_size=BATCH),
        "bare network": lambda: bare(domain, batches),
        "published, one at a time": lambda: published_pipeline(autoencoder, maps, 1),
        "published, in batches": lambda: published_pipeline(autoencoder, maps, BATCH),
    }
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter(), time.process_time()
            way()
            now = time.perf_counter(), time.process_time()
            seconds[name].append(np.subtract(now, start))
    return {name: np.array(values) for name, values in seconds.items()}


def disks(count):
    """Make cheap maps one at a time."""
    y, x = np.indices((PIXELS[-1], PIXELS[-1]), dtype=np.float32) - PIXELS[-1] / 2
    random = np.random.default_rng(SEED)
    for _ in range(count):
        turn = random.uniform(0, 2 * np.pi)
        along = x * np.cos(turn) + y * np.sin(turn)
        yield 100 * np.tanh(along / 10) + random.normal(0, 5, x.shape)


def peak(count):
    """Highest memory (MB) of a process that measures so many maps."""
    command = [sys.executable, __file__, "--memory", str(count)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        galml.circularity(disks(args.memory), unit="km/s", device="cpu")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    torch.set_num_threads(args.threads)
    seconds = measure(args.maps, args.repeats)
    rates = {n: args.maps / np.median(s[:, 0]) for n, s in seconds.items()}
    ratios = {n: np.median(seconds["end to end"] / s, 0) for n, s in seconds.items()}
    table = QTable(
        rows=[(name, rate, *ratios[name]) for name, rate in rates.items()],
        names=("way", "maps/s", "end to end / this", "the same, processor"),
    )
    for name in table.colnames[1:]:
        table[name].info.format = ".2f"
    table.pprint(max_lines=-1, max_width=-1)
    memory = {count: peak(count) for count in MEMORY}
    for count, size in memory.items():
        print(f"{count} maps through an iterator: {size:.0f} MB at most")
    figures = {
        "maps": args.maps,
        "threads": args.threads,
        "repeats": args.repeats,
        "maps_per_second": rates,
        "end_to_end_over": {n: r[0] for n, r in ratios.items()},
        "end_to_end_over_processor": {n: r[1] for n, r in ratios.items()},
        "peak_memory_mb": memory,
    }
    write_figures("circularity_speed", figures)


if __name__ == "__main__":
    main()
