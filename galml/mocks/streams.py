# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Streams of mock observations: a training set is a recipe, not a file."""

import math
from dataclasses import dataclass

import astropy.units as u
import torch
from astropy.table import QTable

from galml.core.exceptions import InputError
from galml.mocks.chemo_recipe import build_star_galaxies, draw_star_galaxies
from galml.mocks.galaxy import Batch, Galaxy, random_orientation, rotation_matrix
from galml.mocks.gas_map import observe_gas
from galml.mocks.gas_recipe import PLAIN_SHARE, build_gas, draw_gas
from galml.mocks.ifu import half_light_ellipse, manga_beam, spin_truth
from galml.mocks.images import distance, observe_light, redshift_of
from galml.mocks.light import (
    SURVIVING,
    depth_before_stars,
    luminosity,
    starlight,
)
from galml.mocks.profiles import half_mass_radius
from galml.mocks.star_recipe import build_stars, draw_stars
from galml.mocks.star_table import StarTables, measure_conditions, observe_stars
from galml.mocks.surveys import IMAGING_SURVEYS
from galml.physics.bands import SOLAR_MAGNITUDES
from galml.physics.seeds import generator_for

__all__ = [
    "ImageTruth",
    "galaxy_images",
    "gas_maps",
    "matching_surveys",
    "star_galaxies",
    "star_images",
    "star_tensors",
]

#: Of gas maps: share of batches, pixels a side, particles, and range of beams across
#: the gas.
GAS_GRIDS = (
    (0.08, 20, 1536, 3, 5),
    (0.32, 32, 2048, 3, 9),
    (0.23, 48, 3072, 9, 16),
    (0.14, 64, 4096, 16, 28),
    (0.23, 96, 8192, 28, 60),
)
#: Share of batches of gas maps that show stars.
STAR_SHARE = 0.3
#: Gas maps show at least so many pixels.
MIN_PIXELS = 12
#: Of images: share of batches, pixels a side, and pixels of the survey along a pixel of
#: the image.
IMAGE_GRIDS = (
    (0.20, 32, 1),
    (0.25, 48, 1),
    (0.25, 64, 1),
    (0.14, 96, 1),
    (0.06, 128, 1),
    (0.06, 96, 2),
    (0.04, 96, 4),
)
#: Images are 1 to this times wider than asked for: radii are never known well.
SLACK = 1.25
#: At its largest redshift, a survey should show half-light radii of so many kpc.
TYPICAL_SIZE = 4.0
NEAREST = 0.003
#: Half-light radii over those without gradients of age and without dust.
WIDER = 1.1
#: Age (Gyr) that has the mean light of stars of all ages up to 0.5 Gyr.
YOUNG_AGE = 0.1
#: Stars that go through the memory of a processor at a time.
CHUNK = 400_000


def gas_maps(
    n_batches,
    *,
    batch_size=128,
    seed=0,
    noisy=None,
    tracer="gas",
    plain=PLAIN_SHARE,
    first=0,
):
    """Stream mock velocity maps of the gas population.

    Parameters
    ----------
    n_batches : int
        Number of batches.
    batch_size : int
        Galaxies in a batch, before the few that show fewer than 12 pixels are
        dropped. All maps of a batch have the same number of pixels.
    seed : int
        Batch ``i`` depends on ``seed`` and ``i`` alone.
    noisy : bool, optional
        Add noise and damage to every map or to none. By default three batches of
        four have them.
    tracer : {"gas", "stars", None}
        What moves. Maps of stars show disks as hot as stars are, with all the disorder
        that gas has, in one half of the batches, and in the other galaxies of stars
        that their gravity holds together. With None three batches of ten show stars.
    plain : float
        Share of disks of gas that do nothing but rotate, see `~galml.mocks.draw_gas`.
    first : int
        Index of the first batch, to go on where another stream ended.

    Yields
    ------
    parameters : dict of str to `torch.Tensor`
        What the galaxies were made from, see `~galml.mocks.draw_gas` and
        `~galml.mocks.draw_stars`.
    maps : `~galml.mocks.GasMaps`
        Their observations and the truth.

    Raises
    ------
    galml.core.InputError
        If a number is not positive, or there is no such tracer.

    Examples
    --------
    >>> from galml.mocks import gas_maps
    >>> parameters, maps = next(gas_maps(1, batch_size=16, seed=1))
    >>> maps.velocity.shape == maps.uncertainty.shape
    True
    >>> bool(((0 < maps.truth.kappa) & (maps.truth.kappa < 1)).all())
    True
    """
    _check_positive(n_batches=n_batches, batch_size=batch_size)
    if tracer not in (None, "gas", "stars"):
        raise InputError("tracer", repr(tracer), "'gas', 'stars' or None")
    shares = torch.tensor([grid[0] for grid in GAS_GRIDS])
    for index in range(first, first + n_batches):
        generator = generator_for(seed, "gas maps", index)
        choice = int(torch.multinomial(shares, 1, generator=generator))
        _, n_pixels, n_particles, low, high = GAS_GRIDS[choice]
        clean, other, held = torch.rand(3, generator=generator).tolist()
        stars = other < STAR_SHARE if tracer is None else tracer == "stars"
        if stars and held < 0.5:
            parameters = draw_stars(batch_size, generator)
            galaxy = _stars_alone(
                build_stars(parameters, n_particles, generator, n_gas=0)
            )
            reach = 10 ** (0.6 * torch.rand(batch_size, generator=generator) - 0.1)
            radius = reach * parameters["size"]
        else:
            share = 0.0 if stars else plain
            parameters = draw_gas(batch_size, generator, hot=stars, plain=share)
            galaxy = build_gas(parameters, n_particles, generator)
            radius = parameters["radius"]
        galaxy = galaxy.rotated(random_orientation(batch_size, generator))
        draw = torch.rand(batch_size, generator=generator)
        across = low * torch.exp(draw * math.log(high / low))
        maps = observe_gas(
            galaxy,
            radius,
            across,
            n_pixels,
            generator,
            noisy=clean >= 0.25 if noisy is None else noisy,
        )
        maps.stars = torch.full((batch_size,), stars)
        seen = torch.isfinite(maps.velocity).sum((1, 2)) >= MIN_PIXELS
        seen &= torch.isfinite(maps.truth.kappa)
        yield {key: value[seen] for key, value in parameters.items()}, maps[seen]


def _stars_alone(galaxy):
    """Give galaxies without gas whose stars are looked at as if they were gas."""
    stars = galaxy.stars
    return Galaxy(
        stars.position, stars.velocity, stars.mass, stars.dispersion, frame=stars.frame
    )


@dataclass
class ImageTruth(Batch):
    """What is known of n galaxies in images; every tensor has shape (n,).

    Attributes
    ----------
    spin, spin_beam : `torch.Tensor`
        lambda_R inside the half-light ellipse of the r band, as seen without a beam
        and with MaNGA's, see `~galml.mocks.SpinTruth`.
    ellipticity, position_angle : `torch.Tensor`
        Of the half-light ellipse; the angle in degrees, counter-clockwise from +y.
    r_eff, r_eff_pixels, r_eff_kpc : `torch.Tensor`
        Semi-major axis of the ellipse, in arcsec, pixels of the image, and kpc.
    inclination : `torch.Tensor`
        Of the disk, 0 to 90 degrees.
    bulge_fraction, sersic_index : `torch.Tensor`
        Of the spheroid, by mass.
    """

    spin: torch.Tensor
    spin_beam: torch.Tensor
    ellipticity: torch.Tensor
    position_angle: torch.Tensor
    r_eff: torch.Tensor
    r_eff_pixels: torch.Tensor
    r_eff_kpc: torch.Tensor
    inclination: torch.Tensor
    bulge_fraction: torch.Tensor
    sersic_index: torch.Tensor


def galaxy_images(
    n_batches,
    *,
    batch_size=64,
    seed=0,
    survey=None,
    bands=("g", "r", "i"),
    size=8.48,
    n_pixels=None,
    binning=None,
    n_particles=20_000,
    views=1,
    noisy=True,
    faintest=None,
    alter=None,
    first=0,
):
    """Stream mock images of the population of stars.

    Parameters
    ----------
    n_batches : int
        Number of batches.
    batch_size : int
        Images in a batch, before those that are too faint are dropped. All of a batch
        are of one survey and one number of pixels.
    seed : int
        Batch ``i`` depends on ``seed`` and ``i`` alone.
    survey : str, optional
        Name of one of `~galml.mocks.surveys.IMAGING_SURVEYS`; by default every batch
        is of one of those that have the bands.
    bands : sequence of str
        Bands, out of those of the survey.
    size : float
        Images are at least this many half-light radii a side, and up to a quarter
        more. The few galaxies that are too wide for it at any distance are put at
        redshift 1.5.
    n_pixels, binning : int, optional
        Pixels a side, and pixels of the survey along a pixel of the image. Drawn by
        default, so that half-light radii are between 3 and 60 pixels of the survey.
    n_particles : int
        Particles of a galaxy.
    views : int
        Directions from which each galaxy is looked at, in consecutive rows; a divisor
        of the batch size.
    noisy : bool
        Whether images have noise, other galaxies and stars.
    faintest : float, optional
        Magnitude in r of the faintest galaxies. They then have the magnitudes of a
        sample that is limited in flux; the few that turn out to be fainter, as dust
        dims them, are dropped.
    alter : callable, optional
        ``alter(parameters, generator)`` gives the parameters that galaxies are made
        from instead of those that were drawn, for galaxies unlike the population.
    first : int
        Index of the first batch, to go on where another stream ended.

    Yields
    ------
    parameters : dict of str to `torch.Tensor`
        What the galaxies were made from, see `~galml.mocks.draw_stars`.
    images : `~galml.mocks.LightImages`
        The images, with the `ImageTruth` as ``truth``.

    Raises
    ------
    galml.core.InputError
        If a number is not positive, no survey has such a name or all the bands, or
        the views do not divide the batch.

    Examples
    --------
    >>> from galml.mocks import galaxy_images
    >>> parameters, images = next(
    ...     galaxy_images(1, batch_size=4, survey="SDSS", n_pixels=32, seed=1)
    ... )
    >>> images.data.shape, images.bands
    (torch.Size([4, 3, 32, 32]), ('g', 'r', 'i'))
    >>> bool(((0 < images.truth.spin) & (images.truth.spin < 1)).all())
    True
    """
    _check_positive(n_batches=n_batches, batch_size=batch_size)
    if views < 1 or batch_size % views:
        raise InputError("views", views, f"a divisor of batch_size={batch_size}")
    surveys = matching_surveys(survey, bands)
    for index in range(first, first + n_batches):
        generator = generator_for(seed, "galaxy images", index)
        choice = torch.randint(len(surveys), (), generator=generator)
        chosen = surveys[int(choice)]
        pixels, bins = _draw_grid(chosen, size, n_pixels, binning, generator)
        # Angular half-light radius that fits the image.
        slack = 1 + (SLACK - 1) * torch.rand(batch_size, generator=generator)
        r_pixels = pixels / size / slack
        angle = r_pixels * chosen.pixel_scale * bins
        p = _draw_visible(
            batch_size // views, chosen, angle[::views], generator, faintest
        )
        p = p if alter is None else alter(p, generator)
        galaxy = build_stars(p, n_particles, generator, n_gas=0)
        rows = torch.arange(batch_size) // views
        p = {key: value[rows] for key, value in p.items()}
        galaxy = galaxy[rows].rotated(random_orientation(batch_size, generator))
        beam = manga_beam(batch_size, generator)
        depth = depth_before_stars(galaxy)
        light = starlight(galaxy, ("r",), depth=depth)[..., 0]
        truth = spin_truth(galaxy, light, beam)
        redshift = redshift_of(truth.r_eff / angle)
        images = observe_light(
            galaxy,
            starlight(galaxy, bands, redshift, depth),
            chosen,
            redshift,
            pixels,
            generator,
            bands=bands,
            binning=bins,
            noisy=noisy,
        )
        modulus, kpc = distance(redshift)
        r_eff = truth.r_eff / kpc
        images.truth = ImageTruth(
            spin=truth.spin,
            spin_beam=truth.spin_beam,
            ellipticity=truth.ellipticity,
            position_angle=truth.position_angle,
            r_eff=r_eff,
            r_eff_pixels=r_eff / images.pixel_scale,
            r_eff_kpc=truth.r_eff,
            inclination=galaxy.inclination,
            bulge_fraction=p["bulge_fraction"],
            sersic_index=p["sersic_index"],
        )
        if faintest is not None:
            light = starlight(galaxy, ("r",), redshift, depth)[..., 0].sum(1)
            magnitude = SOLAR_MAGNITUDES["r"] + modulus - 2.5 * light.log10()
            seen = magnitude < faintest
            p, images = {key: value[seen] for key, value in p.items()}, images[seen]
        yield p, images


def matching_surveys(name, bands):
    """Choose the surveys of a name, or all of them, that have the bands.

    Parameters
    ----------
    name : str or None
        Name of one of `~galml.mocks.surveys.IMAGING_SURVEYS`.
    bands : sequence of str
        Bands that the surveys must have.

    Returns
    -------
    list of `~galml.mocks.surveys.ImagingSurvey`
        At least one.

    Raises
    ------
    galml.core.InputError
        If no survey has such a name, or all the bands.
    """
    if name is not None and name not in [s.name for s in IMAGING_SURVEYS]:
        names = ", ".join(s.name for s in IMAGING_SURVEYS)
        raise InputError("survey", name, f"one of {names}")
    surveys = [
        s
        for s in IMAGING_SURVEYS
        if set(bands) <= set(s.bands) and name in (None, s.name)
    ]
    if not surveys or not bands:
        raise InputError("bands", tuple(bands), "bands that a survey has")
    return surveys


def _draw_grid(survey, size, n_pixels, binning, generator):
    """Draw a number of pixels on which the survey shows galaxies of common size."""
    largest = distance(torch.tensor(survey.redshift))[1].item()
    reach = survey.pixel_scale * largest / (size * SLACK**0.5)
    shares = torch.tensor(
        [g[0] * (g[1] * g[2] * reach > TYPICAL_SIZE) for g in IMAGE_GRIDS]
    )
    choice = int(torch.multinomial(shares, 1, generator=generator))
    _, pixels, bins = IMAGE_GRIDS[choice]
    return n_pixels or pixels, binning or (bins if n_pixels is None else 1)


def _draw_visible(n, survey, angle, generator, faintest=None):
    """Draw galaxies that have about these angular radii inside the survey's volume."""
    near, far = distance(torch.tensor([NEAREST, survey.redshift]))[1].tolist()
    parts, missing = [], n
    while missing:
        p = draw_stars(4 * n, generator)
        light = _light_of_parts(p)
        size = WIDER * half_mass_radius(
            light[0] / light.sum(0),
            p["spheroid_radius"],
            p["sersic_index"],
            p["disk_length"],
            p["disk_edge"],
            p["disk_steepness"],
        )
        kpc = (size.reshape(4, n) / angle).flatten()
        seen = (kpc > near) & (kpc < far)
        if faintest is not None:
            # Numbers grow with the volume, as the power 0.6 of magnitude.
            modulus = distance(redshift_of(kpc))[0]
            magnitude = SOLAR_MAGNITUDES["r"] + modulus - 2.5 * light.sum(0).log10()
            excess = magnitude - faintest
            share = 10 ** (0.6 * excess) * (excess < 0)
            seen &= torch.rand(4 * n, generator=generator) < share
        rows = seen.nonzero()[:missing, 0]
        parts.append({key: value[rows] for key, value in p.items()})
        missing -= len(rows)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _light_of_parts(p):
    """Estimate the light in r of spheroid, old and young disk, by their mean ages."""
    disk = 1 - p["bulge_fraction"]
    young = disk * p["young_fraction"]
    parts = (
        (p["bulge_fraction"], p["spheroid_age"]),
        (disk - young, p["disk_age"]),
        (young, torch.full_like(young, YOUNG_AGE)),
    )
    light = torch.stack(
        [
            share * luminosity(age, p["metallicity"], ("r",))[..., 0]
            for share, age in parts
        ]
    )
    return light * p["stellar_mass"] / SURVIVING


def star_tensors(n_galaxies=200, n_stars=20_000, *, seed=0, first=0):
    """Draw galaxies with their stars as tensors, for training.

    Parameters
    ----------
    n_galaxies : int
        Number of galaxies.
    n_stars : int
        Stars of each galaxy, all of one mass.
    seed : int
        Galaxy ``i`` depends on ``seed``, ``i`` and ``n_stars`` alone.
    first : int
        Number of the first galaxy.

    Returns
    -------
    dict
        - ``stars``: float32 `torch.Tensor` of shape (galaxies, stars, 10), in the
          order and the units of `~galml.physics.STAR_AXES`, in random order;
        - ``component``: int8, shape (galaxies, stars), index into
          ``galml.mocks.COMPONENTS``;
        - ``conditions``: float64, shape (galaxies, 5), in the order of
          `~galml.physics.CONDITIONS` and `~galml.physics.OPTIONAL_CONDITIONS`,
          measured on these stars;
        - ``truth``: what they were made from, see
          `~galml.mocks.draw_star_galaxies`.

    Raises
    ------
    galml.core.InputError
        If a number is not positive.

    Examples
    --------
    >>> from galml.mocks import star_tensors
    >>> made = star_tensors(3, 500, seed=1)
    >>> made["stars"].shape, made["conditions"].shape
    (torch.Size([3, 500, 10]), torch.Size([3, 5]))
    """
    _check_positive(n_galaxies=n_galaxies, n_stars=n_stars)
    p = draw_star_galaxies(first, n_galaxies, seed)
    step = max(1, CHUNK // n_stars)
    parts = []
    for start in range(0, n_galaxies, step):
        few = {key: value[start : start + step] for key, value in p.items()}
        options = {"seed": seed, "first": first + start, "n_gas": 0}
        parts.append(observe_stars(build_star_galaxies(few, n_stars, **options)))
    tables = StarTables(
        *(torch.cat([getattr(part, key) for part in parts]) for key in vars(parts[0]))
    )
    return {
        "stars": tables.stars,
        "component": tables.component,
        "conditions": measure_conditions(tables),
        "truth": p,
    }


def star_galaxies(n_galaxies=200, n_stars=20_000, *, seed=0, first=0):
    """Stream galaxies with their stars as tables.

    Parameters
    ----------
    n_galaxies, n_stars, seed, first : int
        See `star_tensors`.

    Yields
    ------
    stars : `~astropy.table.QTable`
        One row for each star, as `galml.stars.prepare` leaves them: x, y, z (kpc), v_x,
        v_y, v_z (km/s), metal_mass_fraction, fe_h, o_fe (dex), age (Gyr), mass, and
        component, index into ``galml.mocks.COMPONENTS``. The spin is along +z.
    conditions : `~astropy.table.QTable`
        One row: ``galaxy_id``, stellar_mass, median_age, age_percentile_10,
        metallicity, r_eff (half-mass radius seen along the spin, in kpc), and what the
        galaxy was made from.

    Raises
    ------
    galml.core.InputError
        If a number is not positive.

    Examples
    --------
    >>> from galml.mocks import star_galaxies
    >>> stars, conditions = next(star_galaxies(1, n_stars=500, seed=1))
    >>> stars.colnames[:6], len(stars)
    (['x', 'y', 'z', 'v_x', 'v_y', 'v_z'], 500)
    >>> bool(7.5 < conditions["log_mass"][0] < 11.2)
    True
    """
    _check_positive(n_galaxies=n_galaxies, n_stars=n_stars)
    for index in range(first, first + n_galaxies):
        made = star_tensors(1, n_stars, seed=seed, first=index)
        mass, median, young, metals, size = made["conditions"][0].tolist()
        tables = StarTables(
            made["stars"], made["component"], torch.tensor([10**mass / n_stars])
        )
        conditions = QTable({"galaxy_id": [index]})
        conditions["stellar_mass"] = [10**mass] * u.Msun
        conditions["median_age"] = [median] * u.Gyr
        conditions["age_percentile_10"] = [young] * u.Gyr
        conditions["metallicity"] = [metals] * u.dex
        conditions["r_eff"] = [10**size] * u.kpc
        for name, value in made["truth"].items():
            conditions[name] = value.numpy().astype(float)
        yield tables.table(0), conditions


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
        Side of the images in half-light radii: galaxies are put where they fit, or at
        redshift 1.5 where they are too wide for it at any distance.
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
        If a number is not positive, the inclination is not between 0 and 90 degrees,
        or no survey has such a name and all the bands.

    Examples
    --------
    >>> from galml.mocks import star_images
    >>> image, truth = next(
    ...     star_images(1, n_stars=1000, seed=1, inclination=60, n_pixels=64)
    ... )
    >>> image.data.shape, round(truth["inclination"])
    (torch.Size([1, 3, 64, 64]), 60)
    """
    _check_positive(n_galaxies=n_galaxies, n_stars=n_stars)
    if inclination is not None and not 0 <= inclination <= 90:
        raise InputError("inclination", inclination, "0 to 90 degrees")
    chosen = matching_surveys(survey, bands)[0]
    angle = torch.tensor([n_pixels * binning / size * chosen.pixel_scale])
    for index in range(first, first + n_galaxies):
        generator = generator_for(seed, "view of a star galaxy", index, view)
        p = draw_star_galaxies(index, 1, seed)
        galaxy = build_star_galaxies(p, n_stars, seed=seed, first=index, n_gas=0)
        turn = random_orientation(1, generator)
        if inclination is not None:
            tilt = torch.tensor([math.radians(inclination)])
            turn = rotation_matrix(torch.tensor([[1.0, 0, 0]]), tilt)
        galaxy = galaxy.rotated(turn)
        shape = half_light_ellipse(galaxy, starlight(galaxy, ("r",))[..., 0])
        redshift = redshift_of(shape.r_eff / angle)
        images = observe_light(
            galaxy,
            starlight(galaxy, bands, redshift),
            chosen,
            redshift,
            n_pixels,
            generator,
            bands=bands,
            binning=binning,
            noisy=noisy,
        )
        r_eff = shape.r_eff / distance(images.redshift)[1]
        truth = {
            "inclination": galaxy.inclination,
            "r_eff_kpc": shape.r_eff,
            "r_eff": r_eff,
            "r_eff_pixels": r_eff / images.pixel_scale,
            "ellipticity": shape.ellipticity,
            "position_angle": shape.position_angle,
        }
        yield images, {key: float(value) for key, value in truth.items()}


def _check_positive(**numbers):
    """Raise unless all numbers are positive."""
    for name, value in numbers.items():
        if value < 1:
            raise InputError(name, value, "a positive integer")
