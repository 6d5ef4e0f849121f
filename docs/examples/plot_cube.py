# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From a cube to a position angle
===============================

A cube with one emission line is reduced to its moments first: the mean velocity and the
dispersion of the gas in each pixel.
"""

import astropy.units as u
import numpy as np
from specutils import Spectrum

import galml
from galml.gas_kinematics import moments
from galml.gas_kinematics.plots import plot_galaxy

# %%
# A disk at an inclination of 55 degrees, whose receding side lies 40 degrees
# counter-clockwise from +y, in 60 channels of 10 km/s, with noise.

y, x = np.indices((48, 48)) - 23.5
angle, tilt = np.radians([40, 55])
along = y * np.cos(angle) - x * np.sin(angle)
across = (x * np.cos(angle) + y * np.sin(angle)) / np.cos(tilt)
radius = np.hypot(along, across)
speed = 180 * np.tanh(radius / 4) * np.sin(tilt) * along / radius
light = np.exp(-radius / 7)
channels = np.arange(-300, 300, 10) * u.km / u.s
line = np.exp(-0.5 * ((channels.value - speed[..., None]) / 15) ** 2)
random = np.random.default_rng(1)
values = light[..., None] * line + random.normal(0, 0.01, line.shape)
cube = Spectrum(
    flux=values * u.Jy,
    spectral_axis=channels,
    spectral_axis_index=2,
    velocity_convention="radio",
)

# %%
# Cubes go into the operation as they are.

table = galml.circularity(cube)
table["circularity", "circularity_err", "position_angle", "position_angle_err"]

# %%
# What the operation has seen, from the moments of the cube:

maps = moments(cube)
figure = plot_galaxy(maps.velocity, table[0], dispersion=maps.dispersion)
