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
    scalars=(
        "log_snr",
        "log_pixels",
        "has_psf",
        "log_psf",
        "wavelength",
        "calibrated",
        "has_blue",
        "blue_wavelength",
        "blue_log_snr",
        "blue_color",
        "blue_gradient",
        "has_red",
        "red_wavelength",
        "red_log_snr",
        "red_color",
        "red_gradient",
        "concentration",
        "growth",
        "axis_ratio_inner",
        "axis_ratio",
        "twist",
        "asymmetry",
        "coverage",
    ),
    stretch={
        # Brightness in units of that inside the effective radius, and in errors.
        "shape_softening": 0.05,
        "shape_scale": 3.0,
        "significance_softening": 2.0,
        "significance_scale": 3.0,
        # Contrast to the mean of a neighborhood.
        "contrast_cells": 9,
        "contrast_noise": 2.0,
        "contrast_light": 0.2,
        "contrast_floor": 0.02,
        "contrast_scale": 2.0,
        # Colors in magnitudes, that are linear where there is no signal.
        "color_cells": 3,
        "color_softening": 2.0,
        "color_snr": 3.0,
        "color_largest": 1.5,
        "largest": 6.0,
        "smallest_error": 1e-3,
    },
    parameters={
        # Cells of the grid before it is turned: it holds the image at any angle.
        "wide_cells": 72,
        # Share of a cell that must be known, before and after the image is turned.
        "least_known": 0.1,
        "least_shown": 0.1,
        # In micron; and how near, in relative wavelength, bands show no color.
        "reference_wavelength": 0.617,
        "blue_wavelength": 0.470,
        "red_wavelength": 0.770,
        "nearest_band": 0.07,
        "sky_radius": 3.3,
        "sky_share": 0.85,
        "noise_lag": 6,
        "noise_clip": 2.5,
        "noise_rounds": 6,
        "noise_clipped_variance": 0.9113,
        "unit_noise": 0.3,
        "light_inner": 0.4,
        "light_middle": 1.0,
        "light_outer": 2.0,
        "shape_inner": 0.5,
        "shape_outer": 1.5,
        "flattest_shape": 0.98,
        "roundest_shape": 1e-5,
        "lowest_snr": 0.1,
        "highest_snr": 1e4,
        "ratio_light": 0.1,
        "ratio_noise": 1e-3,
        "lowest_concentration": -1.0,
        "highest_concentration": 2.0,
        "largest_growth": 1.0,
        "largest_color": 4.0,
        "gradient_light": 0.05,
        "largest_gradient": 1.0,
        "narrowest_psf": 0.01,
        "widest_psf": 10.0,
        "smallest_radius": 0.1,
        "asymmetry_radius": 1.5,
        "asymmetry_bias": 1.13,
        "lowest_asymmetry": -0.5,
        "highest_asymmetry": 2.0,
    },
)


def bands_shown(wavelengths, spec=INPUT):
    """Find the bands that are seen, see `~galml.imaging.aligned.bands_shown`."""
    return aligned.bands_shown(wavelengths, spec)


def prepare(images, spec=INPUT):
    """Prepare images of one shape, see `~galml.imaging.aligned.prepare`."""
    return aligned.prepare(images, spec)
