# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulated galaxies, with the truth
==================================

All models are trained on simulated galaxies, and so can be yours. They come in batches,
as many as are wanted, each with its truth.
"""

import numpy as np
from matplotlib.figure import Figure

from galml.gas_kinematics.plots import VELOCITY_COLORS
from galml.mocks import gas_maps

_, maps = next(gas_maps(1, batch_size=12, seed=4, noisy=True))
velocity, kappa = maps.velocity.numpy(), maps.truth.kappa.numpy()
print(velocity.shape)

# %%
# Velocities, and the circularity of each galaxy:

figure = Figure(figsize=(9, 3.6), layout="constrained")
panels = figure.subplots(2, 6).flat
for panel, image, truth in zip(panels, velocity, kappa, strict=True):
    limit = np.nanpercentile(np.abs(image - np.nanmedian(image)), 97)
    panel.imshow(
        image - np.nanmedian(image),
        origin="lower",
        cmap=VELOCITY_COLORS,
        vmin=-limit,
        vmax=limit,
    )
    panel.set(xticks=[], yticks=[])
    panel.set_title(f"κ = {truth:.2f}", fontsize=9)
