# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of `galml.spin` as ratios.

    python benchmarks/spin_speed.py [--galaxies 512] [--repeats 3] [--threads 2]

End to end, from a `galml.cutouts.CutoutStack` in three bands to the table, against the
bare forward pass of the published network and of ours (its views included) on tensors
that are ready. All take turns; medians count.
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
from galml.mocks import galaxy_images
from galml.stellar_spin.light import VIEWS
from galml.stellar_spin.network import Duckworth2020
from galml.stellar_spin.preparation import CHANNELS, SCALARS

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
    """Time one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main():
    """Take turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stack = cutouts(args.galaxies)
    count = len(stack)
    own = {
        "image": torch.rand(count, len(CHANNELS), 48, 48),
        "scalars": torch.rand(count, len(SCALARS)),
    }
    pictures = {"image": torch.rand(count, 3, 80, 80)}
    network, published = load_model("default", "spin").network, Duckworth2020().eval()
    runs = {
        "end to end": lambda: galml.spin(stack),
        "bare forward pass": lambda: bare(network, own, VIEWS),
        "published, bare forward pass": lambda: bare(published, pictures, (None,)),
    }
    times = {key: [] for key in runs}
    for _ in range(args.repeats + 1):
        for key, run in runs.items():
            times[key].append(seconds(run))
    # The first turn warms up.
    medians = {key: float(np.median(values[1:])) for key, values in times.items()}
    total = medians["end to end"]
    rows = {
        key: {"rate": count / value, "ratio": total / value}
        for key, value in medians.items()
    }
    for key, row in rows.items():
        print(f"{key}: {row['rate']:.0f} galaxies/s, galml over it {row['ratio']:.2f}")
    write_figures("spin_speed", {"rows": rows, "galaxies": count, "pixels": PIXELS})


if __name__ == "__main__":
    main()
