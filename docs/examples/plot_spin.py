# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Stellar spin from images
========================

How fast the stars of a galaxy rotate shows in its shape, its structure and its color.
"""

from importlib import resources

import galml
from galml.stellar_spin.plots import plot_gallery

examples = resources.files("galml") / "data" / "examples"
images = {band: examples / f"field-{band}.fits" for band in "gri"}
size = 8.48 * galml.cutouts.R_EFF
stack = galml.extract_cutouts(images, size=size, n_pixels=72)
table = galml.spin(stack)
table["ra", "dec", "spin", "spin_err", "fast_rotator_probability", "ellipticity"]

# %%
# Each galaxy with its spin:

figure = plot_gallery(stack, table)
