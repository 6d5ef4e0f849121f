# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which mock galaxies are left out, and their images as an astronomer has them."""

import astropy.units as u
from astropy.nddata import CCDData

__all__ = ["LEFT_OUT", "galaxy_image"]

#: Numbers of the galaxies that no model of stars is trained on.
LEFT_OUT = range(160, 200)


def galaxy_image(images, truth):
    """Put what `galml.mocks.star_images` yields into an image."""
    meta = {
        "BANDS": ",".join(images.bands),
        "PIXSCALE": float(images.pixel_scale),
        "R_EFF": truth["r_eff"],
    }
    return CCDData(images.data[0].numpy(), unit=u.nJy, meta=meta)
