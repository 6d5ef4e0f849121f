# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Teach a model your own data
===========================

A model of the package can go on learning from a few hundred galaxies whose truth is
known. Here mocks stand for them.
"""

import astropy.units as u
from astropy.table import QTable

import galml
from galml.gas_kinematics import fit
from galml.gas_kinematics.plots import plot_history
from galml.mocks import gas_maps

_, mocks = next(gas_maps(1, batch_size=200, seed=8, noisy=True))
maps = mocks.velocity.numpy() * u.km / u.s
truth = QTable({"circularity": mocks.truth.kappa.numpy()})
model = fit(maps, truth, model="default", name="mine", epochs=4, learning_rate=1e-4)
model.history[:]

# %%
# The new model is used by any operation, and is saved to one file by
# ``model.save("mine.safetensors")``.

table = galml.circularity(maps[:4], model=model)
table["circularity", "circularity_err", "position_angle"]

# %%
figure = plot_history(model.history)
