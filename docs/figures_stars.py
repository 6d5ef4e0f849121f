# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The picture of the guide to stars of galaxies."""

from astropy.table import QTable

import galml
from galml.mocks import star_galaxies
from galml.stars.plots import plot_galaxy

#: A mock galaxy that no training has seen, about as massive as the Milky Way.
GALAXY, N_STARS = 182, 50_000


def draw_stars():
    """Sampled beside true stars of a mock galaxy."""
    ((truth, conditions),) = star_galaxies(1, N_STARS, first=GALAXY)
    table = QTable(conditions)
    table["galaxy_id"] = [f"mock galaxy {GALAXY}"]
    sample = galml.sample_stars(table, N_STARS, seed=1)
    return plot_galaxy(sample, truth)
