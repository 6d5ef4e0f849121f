# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies found in mock fields, against the least size of a source.

    python benchmarks/detection_fields.py

Fields are made as the example field of the package is (``make_field.py``), of other
galaxies and in three surveys. Sizes are in areas of the PSF, that of a circle of its
FWHM across, which is known or taken to be 3 pixels.
"""

import math

import astropy.units as u
import numpy as np
from common import show, write_figures
from make_field import PIXELS, SIDE, as_mosaic, draw_field

from galml.cutouts import detect
from galml.cutouts.detection import FILTER

#: Fields of each survey, and the seed of the first one.
FIELDS, FIRST = {"SDSS": 4, "DECaLS": 3, "LSST": 2}, 100
AREAS = (6, 10, 14, 17, 20, 25)


def places(images):
    """Tell where the galaxies of a mosaic are, shape (galaxies, 2)."""
    cell = np.arange(SIDE**2)
    corners = PIXELS * np.stack([cell % SIDE, cell // SIDE], 1)
    return corners + images.center.numpy()


def count(table, true, radius):
    """Count the galaxies found, and other sources."""
    found = np.stack([table["x"].value, table["y"].value], 1)
    distance = np.hypot(*np.moveaxis(true[:, None] - found, 2, 0))
    near = distance.min(1) < np.maximum(3, radius / 2)
    return near.sum(), len(found) - len(set(distance.argmin(1)[near]))


def main():
    """Draw the fields, detect, count."""
    rows = {}
    for survey, number in FIELDS.items():
        for seed in range(FIRST, FIRST + number):
            images, data = draw_field(seed, survey, ("r",))
            image = as_mosaic(data[:, 0]) * u.nJy
            fwhm = float(images.psf_fwhm.mean())
            true, radius = places(images), images.truth.r_eff_pixels.numpy()
            for label, width in (("known", fwhm), ("not known", None)):
                area = math.pi / 4 * (width or FILTER) ** 2
                for areas in AREAS:
                    table = detect(
                        image,
                        psf_fwhm=width and width * u.pix,
                        min_pixels=round(areas * area),
                    )
                    key = f"{survey}, PSF {label}, {areas} areas"
                    rows.setdefault(key, []).append(count(table, true, radius))
    figures = {}
    for key, counts in rows.items():
        found, others = np.mean(counts, 0)
        figures[key] = {"found": found / SIDE**2, "others": others}
    show("fields of nine", figures)
    write_figures("detection_fields", {"rows": figures, "fields": FIELDS})


if __name__ == "__main__":
    main()
