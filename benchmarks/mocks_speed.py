# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Mock velocity maps per second, in batches and one at a time.

Run ``python benchmarks/mocks_speed.py [BATCHES]``. Fails below 300 maps a second on
two threads.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from common import write_figures

from galml.mocks import gas_maps

BAR = 300
BATCH = 128
ALONE = 256


def stream(n_batches, batch_size, first=0):
    """Count the maps of a stream."""
    batches = gas_maps(n_batches, batch_size=batch_size, first=first)
    return sum(len(maps) for _, maps in batches)


def rate(n_batches, batch_size):
    """Count maps per second: two threads, each with its half of the stream."""
    half = n_batches // 2
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(stream, (half, half), (batch_size, batch_size), (0, half))
    return sum(made) / (time.perf_counter() - start)


def main():
    """Print the rates and return the exit status."""
    n_batches = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    torch.set_num_threads(1)
    rate(2, 8)
    batched, alone = rate(n_batches, BATCH), rate(ALONE, 1)
    print(f"{batched:.0f} maps/s in batches of {BATCH}, {alone:.0f} one at a time")
    write_figures(
        "mocks_speed",
        {
            "maps_per_second": round(batched),
            "maps_per_second_one_at_a_time": round(alone),
            "ratio": round(batched / alone, 2),
            "maps": n_batches * BATCH,
            "threads": 2,
        },
    )
    return 0 if batched >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
