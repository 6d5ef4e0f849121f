# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Has this galaxy merged?
=======================

The probability of a merger, from images as Hubble takes them. Their headers tell the
filter, the deep field and the scale.
"""

from importlib import resources

import galml
from galml.mergers.plots import plot_galaxy

examples = resources.files("galml") / "data" / "examples"
files = sorted(examples.glob("merger-*.fits"))
table = galml.merger(files, seed=1)
table["name", "filter", "merger_probability", "merger_probability_err", "merger_class"]

# %%
# The same images tell how much of the light belongs to other galaxies.

light = galml.contamination(files, seed=1)
light["name", "contamination", "contamination_err", "aperture", "quality"]

# %%
# One of them, with the probability of each stage:

figure = plot_galaxy(files[0], table[0])
