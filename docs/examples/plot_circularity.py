# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Is this gas in ordered rotation?
================================

One velocity map: how much of the motion is ordered rotation, and in which direction is
the receding side?
"""

from importlib import resources

from astropy.nddata import CCDData

import galml
from galml.gas_kinematics.plots import plot_galaxy

examples = resources.files("galml") / "data" / "examples"
velocity = CCDData.read(examples / "mock-03.fits")
table = galml.circularity(velocity)
table["name", "circularity", "circularity_err", "position_angle", "flags"]

# %%
# The galaxy is simulated, so that its header tells the truth.

print(f"true circularity: {velocity.header['KAPPA']}")
print(f"true position angle: {velocity.header['PA']} deg")
print(f"flags: {galml.core.decode_flags(table['flags'][0], separator=', ')}")

# %%
# On the left the map, with the receding side and its error; in the middle the map as
# the network sees it; on the right the circularity with its 68 % interval.

figure = plot_galaxy(velocity, table[0])
