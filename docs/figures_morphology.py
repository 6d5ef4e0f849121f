# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The pictures of the guide to morphology; see ``make_figures.py``."""

import astropy.units as u
import numpy as np
from matplotlib.figure import Figure

import galml
from galml.mocks import galaxy_images
from galml.morphology.plots import plot_latents, plot_reconstructions, plot_similar

SEED, BATCHES, PIXELS = 31, 8, 64
#: FWHM of a star, in arcsec.
SEEING = 1.3
#: Galaxies that are drawn again, and those whose neighbors are shown.
DRAWN, QUERIES, NEIGHBORS = 6, 4, 4


def draw_sample():
    """Draw mocks as SDSS sees them.

    Returns
    -------
    images : `~astropy.units.Quantity`
        Shape (n, bands, y, x).
    known : dict
        What is known of them, as the operations take it.
    """
    parts = [
        mocks
        for _, mocks in galaxy_images(
            BATCHES, seed=SEED, survey="SDSS", n_pixels=PIXELS, faintest=17.8
        )
    ]
    images = np.concatenate([part.data.numpy() for part in parts]) * u.nJy
    return images, {
        "bands": parts[0].bands,
        "pixel_scale": parts[0].pixel_scale[0].item() * u.arcsec,
        "psf_fwhm": SEEING * u.arcsec,
    }


def draw_plane():
    """Draw the plane of latents with the galaxies that lie there."""
    images, known = draw_sample()
    plane = galml.project(galml.latents(images, **known))
    return plot_latents(plane, images, bands=known["bands"], figure=Figure((9, 9)))


def draw_again():
    """Draw mocks beside what their latents draw."""
    images, known = draw_sample()
    drawn = galml.reconstruct(images[:DRAWN], **known)
    return plot_reconstructions(images[:DRAWN], drawn, n=DRAWN, bands=known["bands"])


def draw_similar():
    """Draw mocks and their nearest neighbors."""
    images, known = draw_sample()
    table = galml.latents(images, **known)
    found = galml.similar(table, list(range(QUERIES)), NEIGHBORS)
    return plot_similar(found, images, n=QUERIES, bands=known["bands"])
