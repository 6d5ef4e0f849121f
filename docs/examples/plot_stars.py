# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stars of a galaxy
=====================

From mass, ages, metallicity and size of a galaxy: places, velocities, abundances and
ages of its stars.
"""

from importlib import resources

from astropy.table import QTable

import galml
from galml.stars.plots import plot_galaxy

examples = resources.files("galml") / "data" / "examples"
galaxies = QTable.read(examples / "galaxies.ecsv")
galaxies[:]

# %%
stars = galml.sample_stars(galaxies[:1], 20_000, seed=1)
stars[:5]

# %%
# What an astronomer would look at first:

figure = plot_galaxy(stars)
