# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of the galaxies whose stars are known."""

import math

import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.inference import stable_seed
from galml.mocks.chemodynamics import star_tensors
from galml.mocks.dust import starlight
from galml.mocks.gas import random_orientation
from galml.mocks.ifu import half_light_ellipse
from galml.mocks.image_stream import matching_surveys
from galml.mocks.images import distance, observe_light, redshift_of
from galml.mocks.particles import rotation_matrix
from galml.mocks.stars import SURVIVING, Stars

__all__ = ["star_images", "star_particles"]

#: Neighbors by which the density around a star is measured.
NEIGHBORS = 8


def star_images(
    n_galaxies=200,
    n_stars=20_000,
    *,
    seed=0,
    first=0,
    view=0,
    inclination=None,
    survey="DECaLS",
    bands=("g", "r", "i"),
    n_pixels=192,
    binning=1,
    size=8.0,
    noisy=True,
):
    """Stream images of the galaxies of `~galml.mocks.star_tensors`, one each.

    Parameters
    ----------
    n_galaxies, n_stars, seed, first : int
        See `~galml.mocks.star_tensors`: the images are of these very stars.
    view : int, optional
        Galaxies have one image for each number: another direction and noise.
    inclination : float, optional
        In degrees, 0 is face-on; by default directions of view are isotropic.
    survey : str
        Name of one of `~galml.mocks.surveys.IMAGING_SURVEYS`.
    bands : sequence of str
        Bands, out of those of the survey.
    n_pixels : int
        Pixels a side.
    binning : int
        Pixels of the survey along a side of a pixel of the image: the more, the
        nearer are the galaxies, and the clearer are dwarfs.
    size : float
        Side of the images in half-light radii: galaxies are put where they fit.
    noisy : bool
        Whether images have noise, other galaxies and stars.

    Yields
    ------
    images : `~galml.mocks.LightImages`
        One image: flux in nJy, pixel scale, PSF.
    truth : dict of str to float
        ``inclination`` (degrees); of the half-light ellipse of the r band,
        ``r_eff_kpc``, ``r_eff`` (arcsec), ``r_eff_pixels``, ``ellipticity`` and
        ``position_angle`` (degrees, counter-clockwise from +y).

    Raises
    ------
    galml.core.InputError
        If the inclination is not between 0 and 90 degrees, or no survey has such a
        name and all the bands.
    """
    if inclination is not None and not 0 <= inclination <= 90:
        raise InputError("inclination", inclination, "0 to 90 degrees")
    chosen = matching_surveys(survey, bands)[0]
    every = tuple(dict.fromkeys((*bands, "r")))
    angle = torch.tensor([n_pixels * binning / size * chosen.pixel_scale])
    for index in range(first, first + n_galaxies):
        key = stable_seed(seed, "view", index, view)
        generator = torch.Generator().manual_seed(key)
        made = star_tensors(1, n_stars, seed=seed, first=index)
        turn = random_orientation(1, generator)
        if inclination is not None:
            tilt = torch.tensor([math.radians(inclination)])
            turn = rotation_matrix(torch.tensor([[1.0, 0, 0]]), tilt)
        mass = 10 ** made["truth"]["log_mass"] / n_stars
        stars = star_particles(made["stars"], mass).rotated(turn)
        light = starlight(stars, made["truth"], every)
        shape = half_light_ellipse(stars, light[..., every.index("r")])
        images = observe_light(
            stars,
            light[..., : len(bands)],
            chosen,
            redshift_of(shape.r_eff / angle),
            n_pixels,
            generator,
            bands=bands,
            binning=binning,
            noisy=noisy,
        )
        r_eff = shape.r_eff / distance(images.redshift)[1]
        truth = {
            "inclination": torch.rad2deg(turn[:, 2, 2].abs().clamp(max=1).acos()),
            "r_eff_kpc": shape.r_eff,
            "r_eff": r_eff,
            "r_eff_pixels": r_eff / images.pixel_scale,
            "ellipticity": shape.ellipticity,
            "position_angle": shape.position_angle,
        }
        yield images, {key: float(value) for key, value in truth.items()}


def star_particles(stars, mass):
    """Give stars the form in which the mocks look at particles.

    Parameters
    ----------
    stars : `torch.Tensor`
        Shape (n, stars, 10), see `~galml.mocks.star_tensors`; at least 9 stars.
    mass : `torch.Tensor`
        Shape (n,): of a star now, in solar masses.

    Returns
    -------
    `~galml.mocks.Stars`
        Without dispersion, as each star is one; spread by the density around it.
    """
    from scipy.spatial import cKDTree

    position = stars[..., :3]
    spacing = []
    for place in position.double().numpy():
        reach = cKDTree(place).query(place, k=[NEIGHBORS + 1])[0][:, 0]
        spacing.append(reach * (4 * math.pi / 3 / NEIGHBORS) ** (1 / 3))
    n, count = stars.shape[:2]
    return Stars(
        position=position,
        velocity=stars[..., 3:6],
        mass=(mass / SURVIVING)[:, None].expand(n, count),
        age=stars[..., 9],
        metallicity=stars[..., 6],
        spacing=torch.from_numpy(np.array(spacing)).float(),
        component=torch.zeros(n, count, dtype=torch.int8),
        dispersion=torch.zeros(n, count, 3),
        frame=torch.eye(3).expand(n, 3, 3),
    )
