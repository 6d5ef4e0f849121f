# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of `galml.spin` as ratios.

    python benchmarks/spin_speed.py [--galaxies 512] [--repeats 7] [--threads 2]

End to end, from a `galml.cutouts.CutoutStack` in three bands to the table, against the
bare forward pass of the published network and of ours (its views included) on tensors
that are ready. All take turns; ratios are those of each turn, in time and in time of
the processor, which other programs disturb less, and their medians count.
"""

import argparse
import time

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from common import write_figures

import galml
from galml.core.weights import load_model
from galml.cutouts import CutoutStack
from galml.imaging import MIRRORS
from galml.mocks import galaxy_images
from galml.stellar_spin.preparation import INPUT
from galml.stellar_spin.published import Duckworth2020

SEED, BANDS, PIXELS, BATCH = 1110, ("g", "r", "i"), 64, 64


def cutouts(count):
    """Make a stack of mocks whose effective radii are known."""
    data, radii = [], []
    for _, images in galaxy_images(
        -(-count // BATCH), seed=SEED, survey="SDSS", bands=BANDS, n_pixels=PIXELS
    ):
        data.append(images.data.numpy())
        radii.append(images.truth.r_eff.numpy())
        scale = images.pixel_scale[0].item()
    catalog = QTable({"r_eff": np.concatenate(radii) * u.arcsec})
    return CutoutStack(
        np.concatenate(data) * u.nJy,
        bands=BANDS,
        pixel_scale=scale * u.arcsec,
        psf_fwhm=1.3 * np.ones((len(catalog), len(BANDS))) * u.arcsec,
        catalog=catalog,
    )


def bare(network, inputs, views):
    """Run a network in all its views on tensors that are ready."""
    count = len(next(iter(inputs.values())))
    with torch.no_grad():
        for start in range(0, count, BATCH):
            batch = {k: v[start : start + BATCH] for k, v in inputs.items()}
            for view in views:
                network(view.apply(batch) if view else batch)


def seconds(function, *arguments):
    """Time one call: by the clock, and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - start, time.process_time() - busy


def main():
    """Take turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stack = cutouts(args.galaxies)
    count = len(stack)
    own = {
        "image": torch.rand(count, len(INPUT.channels), *INPUT.grid),
        "scalars": torch.rand(count, len(INPUT.scalars)),
    }
    colors = {"image": torch.rand(count, 3, 80, 80)}
    network, published = load_model("default", "spin").network, Duckworth2020().eval()
    runs = {
        "end to end": lambda: galml.spin(stack),
        "bare forward pass": lambda: bare(network, own, MIRRORS),
        "published, bare forward pass": lambda: bare(published, colors, (None,)),
    }
    times = {key: [] for key in runs}
    for _ in range(args.repeats + 1):
        for key, run in runs.items():
            times[key].append(seconds(run))
    # The first turn warms up.
    times = {key: np.array(values[1:]) for key, values in times.items()}
    rows = {}
    for key, values in times.items():
        ratio, processor = np.median(times["end to end"] / values, axis=0)
        rate = count / np.median(values[:, 0])
        rows[key] = {"rate": rate, "ratio": ratio, "processor_ratio": processor}
        print(
            f"{key}: {rate:.0f} galaxies/s, galml over it {ratio:.2f} in time, "
            f"{processor:.2f} in time of the processor"
        )
    write_figures("spin_speed", {"rows": rows, "galaxies": count, "pixels": PIXELS})


if __name__ == "__main__":
    main()
