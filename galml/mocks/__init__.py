# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated galaxies made of particles, and how instruments see them."""

from galml.mocks.chemodynamic_images import star_images, star_particles
from galml.mocks.chemodynamic_recipe import STAR_TABLE_POPULATION, draw_star_galaxies
from galml.mocks.chemodynamics import star_galaxies, star_tensors
from galml.mocks.dust import starlight
from galml.mocks.gas import POPULATION, build_gas, draw_gas, random_orientation
from galml.mocks.ifu import Shape, SpinTruth, manga_beam, observe_ifu, spin_truth
from galml.mocks.image_stream import ImageTruth, galaxy_images
from galml.mocks.images import LightImages, observe_light
from galml.mocks.observe import GasMaps, observe_gas, project_gas
from galml.mocks.particles import Kinematics, Particles, kinematics, rotation_matrix
from galml.mocks.stars import STAR_POPULATION, Stars, build_stars, draw_stars
from galml.mocks.stream import gas_maps
from galml.mocks.surveys import GAS_SURVEYS, IMAGING_SURVEYS

__all__ = [
    "GAS_SURVEYS",
    "IMAGING_SURVEYS",
    "POPULATION",
    "STAR_POPULATION",
    "STAR_TABLE_POPULATION",
    "GasMaps",
    "ImageTruth",
    "Kinematics",
    "LightImages",
    "Particles",
    "Shape",
    "SpinTruth",
    "Stars",
    "build_gas",
    "build_stars",
    "draw_gas",
    "draw_star_galaxies",
    "draw_stars",
    "galaxy_images",
    "gas_maps",
    "kinematics",
    "manga_beam",
    "observe_gas",
    "observe_ifu",
    "observe_light",
    "project_gas",
    "random_orientation",
    "rotation_matrix",
    "spin_truth",
    "star_galaxies",
    "star_images",
    "star_particles",
    "star_tensors",
    "starlight",
]
