# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Spin measured on kinematic maps
===============================

Where an integral-field spectrograph has mapped the velocities of the stars, the spin
need not be guessed. It is measured inside an ellipse, with errors from those of the
maps.
"""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

import galml
from galml.stellar_kinematics.plots import plot_galaxy

# %%
# A disk whose axis ratio is 0.5, with errors of 10 km/s.

y, x = np.indices((61, 61)) - 30.0
radius = np.hypot(x, y / 0.5)
random = np.random.default_rng(2)


def observed(values, error=10.0):
    noise = random.normal(0, error, values.shape)
    std = StdDevUncertainty(np.full(values.shape, error))
    return CCDData(values + noise, unit="km/s", uncertainty=std)


flux = np.exp(-radius / 7)
velocity = observed(170 * x / (radius + 3))
dispersion = observed(70 + 40 * np.exp(-radius / 5))

# %%
ellipse = {"r_eff": 12 * u.pix, "ellipticity": 0.5, "position_angle": 90 * u.deg}
table = galml.lambda_r(flux, velocity, dispersion, **ellipse, seed=1)
table["lambda_r", "lambda_r_err", "v_over_sigma", "v_over_sigma_err", "coverage"]

# %%
# The maps with the ellipse:

figure = plot_galaxy(
    flux, table[0], velocity=velocity, dispersion=dispersion, **ellipse
)
