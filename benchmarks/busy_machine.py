# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Seconds that operations take alone, and beside two processes that never rest.

    python benchmarks/busy_machine.py

With all threads of torch, and with as many as there are processors free: medians of
some calls, and the fastest one for a calm machine. What else runs must have less
priority (``nice -n -10``), or be none.
"""

import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import astropy.units as u
import numpy as np
import torch
from common import show, write_figures

import galml
from galml.core import threads
from galml.mocks import galaxy_images, gas_maps

SEED, CALLS, LOOPS = 60_001, 25, 2
MAPS, IMAGES = (300, 100), 64


def cases():
    """Give names and calls."""
    _, maps = next(gas_maps(1, batch_size=max(MAPS), seed=SEED))
    velocity = maps.velocity.numpy() * u.km / u.s
    for number in MAPS:
        call = partial(galml.circularity, velocity[:number])
        yield f"circularity, {number} maps", call
    _, mocks = next(galaxy_images(1, batch_size=IMAGES, survey="SDSS", seed=SEED))
    spin = partial(
        galml.spin,
        mocks.data.numpy() * u.nJy,
        bands=mocks.bands,
        r_eff=mocks.truth.r_eff_pixels.numpy() * u.pix,
        psf_fwhm=mocks.psf_fwhm.numpy() * u.pix,
    )
    yield f"spin, {IMAGES} images", spin


@contextmanager
def loops():
    """Keep some processors busy."""
    beside = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(LOOPS)
    ]
    time.sleep(1)
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def seconds(call, middle=np.median):
    """Time some calls."""
    found = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return float(middle(found))


def main():
    """Time, compare, print."""
    rows = {}
    for name, call in cases():
        call()
        row = rows[name] = {}
        with patch.object(threads, "free_processors", torch.get_num_threads):
            row["calm"] = seconds(call, min)
            with loops():
                row["all_threads"] = seconds(call)
        with loops():
            row["free"] = seconds(call)
        row["ratio"] = row["free"] / row["calm"]
    show("seconds", rows)
    write_figures("busy_machine", {"rows": rows, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
