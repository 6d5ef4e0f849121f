# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Many velocity maps, and the truth
=================================

A list of files is a batch: one row for each, in order. Here are eight simulated
galaxies, from a settled disk to a map that is mostly noise.
"""

from importlib import resources

import astropy.units as u
from astropy.io import fits

import galml
from galml.gas_kinematics.plots import plot_table

examples = resources.files("galml") / "data" / "examples"
files = sorted(examples.glob("mock-*.fits"))
table = galml.circularity(files)
headers = [fits.getheader(file) for file in files]
table["true_circularity"] = [header["KAPPA"] for header in headers]
table["name", "circularity", "circularity_err", "true_circularity", "map_quality"]

# %%
# Select by what the columns say, as in any table.

table[table["position_angle_err"] < 8 * u.deg]["name", "position_angle"]

# %%
# Against the truth:

truth = {
    "circularity": table["true_circularity"],
    "position_angle": [header["PA"] for header in headers] * u.deg,
}
figure = plot_table(table, truth)
