# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The published weights on the observed ALMA maps, against the published latents.

Run ``python benchmarks/circularity_parity.py``. Fails when a latent is off by more
than 1e-4, or when a galaxy changes class.
"""

import sys

import numpy as np
import torch
from astropy.table import Table
from common import shared_data, write_figures

import galml
from galml.core.inputs import read
from galml.gas_kinematics import published

TOLERANCE = 1e-4


def main():
    """Print the table and return the exit status."""
    folder = shared_data("merlin_alma")
    reference = Table.read(folder / "latents.csv")
    expected = np.stack([reference[name] for name in ("L1", "L2", "L3")], axis=1)
    maps = [
        read(folder / f"{name}.fits.gz", unit="km/s", hdu=1)
        for name in reference["name"]
    ]
    network = galml.import_weights(folder / "CAE_Epoch_300.pt", "merlin").network
    with torch.inference_mode():
        inputs = published.prepare(one.values for one in maps).inputs
        latents = network(inputs)["latent"].numpy()

    table = Table({"name": reference["name"]})
    table["difference"] = np.abs(latents - expected).max(axis=1)
    table["rho"] = published.rho(latents)
    table["rho_published"] = published.rho(expected)
    table["class"] = published.classify(latents)
    table["class_published"] = published.classify(expected)
    table["difference"].info.format = ".1e"
    for name in ("rho", "rho_published"):
        table[name].info.format = ".5f"
    table.pprint(max_lines=-1, max_width=-1)

    same = int((table["class"] == table["class_published"]).sum())
    worst = float(table["difference"].max())
    print(f"largest difference {worst:.1e}; same class {same} of {len(table)}")
    write_figures(
        "circularity_parity",
        {
            "maps": len(table),
            "largest_difference": float(f"{worst:.1e}"),
            "same_class": same,
        },
    )
    return 0 if worst <= TOLERANCE and same == len(table) else 1


if __name__ == "__main__":
    sys.exit(main())
