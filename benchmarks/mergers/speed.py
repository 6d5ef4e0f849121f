# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Speed of `galml.merger` as ratios.

    python benchmarks/mergers/speed.py [--galaxies 256] [--repeats 5] [--threads 2]

End to end, from images of 128 x 128 pixels to the table, with 50 random passes, against
the same with one pass, against the bare forward pass of the network in its eight views,
and against one bare forward pass of the published network. All take turns; ratios are
those of each turn, in time and in time of the processor, and their medians count.
"""

import argparse
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import torch

import galml
from galml.core.weights import load_model
from galml.imaging import DIHEDRAL
from galml.mergers.preparation import INPUT
from galml.mergers.published import Ferreira2022

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import write_figures
from spin_speed import bare, seconds

#: Galaxies that the published network is timed on: it is slow.
FEW = 16


def main():
    """Take turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count, rng = args.galaxies, np.random.default_rng(1)
    radius = np.hypot(*(np.indices((128, 128)) - 63.5))
    light = np.exp(-radius / rng.uniform(4, 9, (count, 1, 1, 1)))
    images = (light + 0.02 * rng.normal(size=light.shape)).astype(np.float32) * u.nJy
    known = {"filter": "F814W", "pixel_scale": 0.03 * u.arcsec, "seed": 1}
    own = {
        "image": torch.rand(count, len(INPUT.channels), *INPUT.grid),
        "scalars": torch.rand(count, len(INPUT.scalars)),
    }
    field = {"image": torch.rand(FEW, 1, 128, 128)}
    network, published = load_model("default", "merger").network, Ferreira2022().eval()
    runs = {
        "50 passes": (lambda: galml.merger(images, n_samples=50, **known), count),
        "one pass": (lambda: galml.merger(images, n_samples=1, **known), count),
        "bare forward pass": (lambda: bare(network, own, DIHEDRAL), count),
        "published, bare forward pass": (lambda: bare(published, field, (None,)), FEW),
    }
    times = {key: [] for key in runs}
    for _ in range(args.repeats + 1):
        for key, (run, number) in runs.items():
            times[key].append(np.array(seconds(run)) / number)
    # The first turn warms up.
    times = {key: np.array(values[1:]) for key, values in times.items()}
    rows = {}
    for key, values in times.items():
        ratio, processor = np.median(times["50 passes"] / values, axis=0)
        rate = 1 / np.median(values[:, 0])
        rows[key] = {"rate": rate, "ratio": ratio, "processor_ratio": processor}
        print(
            f"{key}: {rate:.0f} galaxies/s, 50 passes over it {ratio:.3f} in time, "
            f"{processor:.3f} in time of the processor"
        )
    write_figures("mergers_speed", {"rows": rows, "galaxies": count})


if __name__ == "__main__":
    main()
