# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies cut out of a field
===========================

The galaxies of a field are found on its first image, and cut out of all bands: aligned,
with the same PSF, and scaled with their size.
"""

from importlib import resources

from matplotlib.figure import Figure

import galml

examples = resources.files("galml") / "data" / "examples"
images = {band: examples / f"field-{band}.fits" for band in "gri"}
stack = galml.extract_cutouts(images, size=8 * galml.cutouts.R_EFF, n_pixels=64)
print(stack)

# %%
# Each galaxy fills its image in the same way, whatever its size on the sky. Colors are
# those of SDSS.

colors = galml.cutouts.sdss_rgb(stack)
columns = 6
figure = Figure(figsize=(9, 1.6 * -(-len(stack) // columns)), layout="constrained")
panels = figure.subplots(-(-len(stack) // columns), columns, squeeze=False).ravel()
for panel in panels:
    panel.axis("off")
for panel, color, scale in zip(panels, colors, stack.pixel_scale, strict=False):
    panel.imshow(color, origin="lower")
    panel.set_title(f"{64 * scale.value:.0f} arcsec wide", fontsize=8)
