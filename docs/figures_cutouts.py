# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures of the guide to cutouts; see ``make_figures.py``."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from matplotlib.figure import Figure

from galml.core.plots import draw_scale
from galml.cutouts import R_EFF, extract_cutouts, lupton_rgb
from galml.mocks import galaxy_images

SEED = 21
SIDE = 4
STAMP = 96
COLORS = (0.63, 0.73, 1.0)


def make_field():
    """Make galaxies side by side in a turned camera, and their catalog."""
    _, images = next(
        galaxy_images(
            1, batch_size=SIDE**2, seed=SEED, survey="SDSS", n_pixels=STAMP, binning=1
        )
    )
    grid = images.data.reshape(SIDE, SIDE, 3, STAMP, STAMP)
    field = grid.permute(2, 0, 3, 1, 4).reshape(3, SIDE * STAMP, SIDE * STAMP)
    scale, turn = float(images.pixel_scale[0]) * u.arcsec, np.radians(30)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = (150, 2), [(SIDE * STAMP + 1) / 2] * 2
    wcs.wcs.cd = scale.to_value(u.deg) * np.array(
        [[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    rows, columns = np.divmod(np.arange(SIDE**2), SIDE)
    x, y = images.center.numpy().T + STAMP * np.array([columns, rows])
    catalog = QTable({"x": x * u.pix, "y": y * u.pix})
    catalog["r_eff"] = images.truth.r_eff.numpy() * u.arcsec
    bands = {
        band: CCDData(plane.numpy(), unit="nJy", wcs=wcs)
        for band, plane in zip(images.bands, field, strict=True)
    }
    return bands, catalog


def draw_cutouts():
    """Draw a field of galaxies, and what is cut out of it."""
    bands, catalog = make_field()
    stack = extract_cutouts(bands, catalog, size=8.48 * R_EFF, n_pixels=STAMP)
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    whole, single = figure.subfigures(1, 2)
    panel = whole.subplots()
    field = np.stack([image.data for image in bands.values()])
    # Black is as far above the level of the sky as its faint pixels are below.
    options = {"scales": COLORS, "minimum": -float(np.percentile(field, 10))}
    panel.imshow(lupton_rgb(field, **options), origin="lower")
    wcs = bands["r"].wcs
    edge = np.array([[0, STAMP, STAMP, 0, 0], [0, 0, STAMP, STAMP, 0]]) - 0.5
    for outline in stack.wcs:
        panel.plot(*wcs.world_to_pixel(outline.pixel_to_world(*edge)), "w", lw=0.5)
    panel.set(xticks=[], yticks=[], xlim=(0, field.shape[2]), ylim=(0, field.shape[1]))
    scale = u.Quantity(wcs.proj_plane_pixel_scales()[0], u.deg).to_value(u.arcsec)
    draw_scale(panel, scale)
    for panel, image in zip(
        single.subplots(SIDE, SIDE)[::-1].flat,
        lupton_rgb(stack, **options),
        strict=True,
    ):
        panel.imshow(image, origin="lower")
        panel.set(xticks=[], yticks=[])
    return figure
