# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the default model of `galml.sample_stars` on the mocks and put it in place.

    python benchmarks/train_stars.py [--checkpoint FILE]

The mocks are a recipe: of the 200 galaxies of population chemo-1 the last 40 are left
out, for ``stars_mocks.py``. Each of the others is seen from several directions, with
other stars beside each image.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack
from common import ship
from mock_galaxies import LEFT_OUT, galaxy_image

from galml.mocks import STAR_TABLE_POPULATION, star_galaxies, star_images
from galml.stars import fit

NAME = "stars-chemo-1"
VIEWS, STARS = 4, 20_000
CARD = {
    "title": "Stars of a galaxy from its mass, ages, metals and image",
    "training": f"mocks of population {STAR_TABLE_POPULATION}, galaxies 0 to 159",
    "population": STAR_TABLE_POPULATION,
    "limits": (
        "smooth axisymmetric galaxies with disks, bulge and halo, 7.5 to 11.2 in "
        "log10 of the stellar mass, without bars, arms, satellites or gas; at given "
        "conditions they differ less than real galaxies do"
    ),
    "license": "BSD-3-Clause",
}


def training_galaxies():
    """Stars and conditions with an image, a row for each view of each galaxy."""
    stars, conditions = [], []
    for view in range(VIEWS):
        images = star_images(LEFT_OUT.start, STARS, view=view)
        galaxies = star_galaxies(LEFT_OUT.start, STARS)
        for (table, row), image in zip(galaxies, images, strict=True):
            stars.append(table[view::VIEWS])
            row["image"] = np.empty(1, dtype=object)
            row["image"][0] = galaxy_image(*image)
            conditions.append(row)
    return stars, vstack(conditions, metadata_conflicts="silent")


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    stars, conditions = training_galaxies()
    model = fit(
        stars,
        QTable(conditions),
        encoder="small",
        validation=0.05,
        epochs=6,
        batch_size=2048,
        learning_rate=3e-3,
        weight_decay=0.01,
        checkpoint=args.checkpoint,
        progress=True,
        card=CARD,
    )
    folder = Path(__file__).parent / "results"
    model.history.write(folder / "stars_history.ecsv", overwrite=True)
    ship(model, NAME, domain="galaxies of 7.5 to 11.2 in log10 of the stellar mass")


if __name__ == "__main__":
    main()
