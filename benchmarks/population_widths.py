# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How wide the circularities and spins of the mock galaxies are spread.

    python benchmarks/population_widths.py

An answer whose 68 % interval is about as wide as that of the whole population tells of
the population, not of the galaxy: the flag ``prior_dominated``.
"""

import numpy as np
import torch
from common import write_figures

from galml.mocks import galaxy_images, gas_maps

SEED = 40_001
MAPS, IMAGES = (2, 128), (4, 32)


def spread(values):
    """Half the width of the interval that holds 68 per cent, and of how many."""
    values = torch.cat(values).numpy()
    low, high = np.quantile(values, [0.16, 0.84])
    return {"number": len(values), "half_width": float((high - low) / 2)}


def main():
    """Draw the populations and write what is measured."""
    maps = gas_maps(MAPS[0], batch_size=MAPS[1], seed=SEED)
    images = galaxy_images(IMAGES[0], batch_size=IMAGES[1], seed=SEED)
    results = {
        "circularity": spread([seen.truth.kappa for _, seen in maps]),
        "spin": spread([seen.truth.spin for _, seen in images]),
    }
    write_figures("population_widths", results)


if __name__ == "__main__":
    main()
