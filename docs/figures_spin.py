# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The pictures of the guide to stellar spin; see ``make_figures.py``."""

from importlib import resources

import astropy.units as u
import numpy as np

import galml
from galml.cutouts import R_EFF, detect
from galml.mocks import galaxy_images
from galml.stellar_spin.plots import plot_galaxy, plot_gallery, plot_saliency

EXAMPLES = resources.files("galml") / "data" / "examples"
SEED = 22
SHOWN, DRAWN = 18, 36


def cut_field():
    """Cut the example field."""
    images = {band: EXAMPLES / f"field-{band}.fits" for band in "gri"}
    catalog = detect(images["r"])
    return galml.extract_cutouts(images, catalog, size=8.48 * R_EFF, n_pixels=72)


def draw_gallery():
    """Draw mocks from slow to fast, with predicted and true spins."""
    _, mocks = next(
        galaxy_images(1, batch_size=DRAWN, seed=SEED, survey="SDSS", n_pixels=64)
    )
    chosen = mocks[mocks.truth.spin.argsort()[:: DRAWN // SHOWN]]
    data = chosen.data.numpy() * u.nJy
    known = {
        "bands": chosen.bands,
        "pixel_scale": chosen.pixel_scale.numpy() * u.arcsec,
        "psf_fwhm": chosen.psf_fwhm.numpy() * u.pix,
        "r_eff": chosen.truth.r_eff.numpy() * u.arcsec,
    }
    table = galml.spin(data, **known)
    return plot_gallery(data, table, chosen.truth.spin.numpy(), **known)


def draw_galaxy():
    """Draw the fastest galaxy of the example field, and what was found."""
    stack = cut_field()
    table = galml.spin(stack)
    place = int(np.argmax(table["spin"]))
    return plot_galaxy(stack[place], table[place])


def draw_saliency():
    """Draw where the spin of that galaxy comes from."""
    stack = cut_field()
    place = int(np.argmax(galml.spin(stack)["spin"]))
    return plot_saliency(stack[place])
