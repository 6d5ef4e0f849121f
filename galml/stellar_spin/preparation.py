# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What networks for the spin are shown of images of any size and any bands."""

import math

from galml.core.model import InputSpec
from galml.imaging import aligned

__all__ = ["INPUT", "bands_shown", "prepare"]

#: What a new network is shown. Radii and widths are in effective radii.
INPUT = InputSpec(
    grid=(48, 48),
    channels=("shape", "significance", "contrast", "blue", "red", "coverage"),
    half_width=2 * math.sqrt(2),
    width_unit="r_eff",
    scalars=aligned.SCALARS,
    stretch=aligned.STRETCH,
    parameters=aligned.PARAMETERS,
)


def bands_shown(wavelengths, spec=INPUT):
    """Find the bands that are seen, see `~galml.imaging.aligned.bands_shown`."""
    return aligned.bands_shown(wavelengths, spec)


def prepare(images, spec=INPUT):
    """Prepare images of one shape, see `~galml.imaging.aligned.prepare`."""
    return aligned.prepare(images, spec)
