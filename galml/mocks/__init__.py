# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated galaxies made of particles, and how instruments see them."""

from galml.mocks.gas import POPULATION, build_gas, draw_gas, random_orientation
from galml.mocks.observe import GasMaps, observe_gas, project_gas
from galml.mocks.particles import Kinematics, Particles, kinematics, rotation_matrix
from galml.mocks.stream import gas_maps

__all__ = [
    "POPULATION",
    "GasMaps",
    "Kinematics",
    "Particles",
    "build_gas",
    "draw_gas",
    "gas_maps",
    "kinematics",
    "observe_gas",
    "project_gas",
    "random_orientation",
    "rotation_matrix",
]
