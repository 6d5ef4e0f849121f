# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Streams of mock images of galaxies whose spin is known."""

from dataclasses import dataclass, fields

import torch

from galml.core.exceptions import InputError
from galml.mocks.dust import starlight
from galml.mocks.gas import random_orientation
from galml.mocks.ifu import manga_beam, spin_truth
from galml.mocks.images import distance, observe_light, redshift_of
from galml.mocks.light import SOLAR_MAGNITUDES, luminosity
from galml.mocks.stars import SURVIVING, build_stars, draw_stars
from galml.mocks.surveys import IMAGING_SURVEYS

__all__ = ["ImageTruth", "galaxy_images", "matching_surveys"]

#: Share of batches, pixels a side, and pixels of the survey along that of the image.
GRIDS = (
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
#: Age (Gyr) that has the mean light of stars of all ages up to 0.5 Gyr.
YOUNG_AGE = 0.1


@dataclass
class ImageTruth:
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

    def __len__(self):
        return len(self.spin)

    def __getitem__(self, rows):
        """Select galaxies by a slice, an index tensor or a boolean tensor."""
        return ImageTruth(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


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
    first=0,
):
    """Stream mock images of the population of stars.

    Parameters
    ----------
    n_batches : int
        Number of batches.
    batch_size : int
        Images in a batch. All of a batch are of one survey and one number of pixels.
    seed : int
        Batch ``i`` depends on ``seed`` and ``i`` alone.
    survey : str, optional
        Name of one of `~galml.mocks.surveys.IMAGING_SURVEYS`; by default every batch
        is of one of those that have the bands.
    bands : sequence of str
        Bands, out of those of the survey.
    size : float
        Images are at least this many half-light radii a side, and up to a quarter
        more.
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
        Magnitude in r of the faintest galaxies, about: dust is left aside, and sizes
        are those of the mass. Galaxies then have the magnitudes of a sample that is
        limited in flux.
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
    """
    for name, value in (("n_batches", n_batches), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(name, value, "a positive integer")
    if views < 1 or batch_size % views:
        raise InputError("views", views, f"a divisor of batch_size={batch_size}")
    surveys = matching_surveys(survey, bands)
    every = tuple(dict.fromkeys((*bands, "r")))
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
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
        stars = build_stars(p, n_particles, generator)
        rows = torch.arange(batch_size) // views
        p = {key: value[rows] for key, value in p.items()}
        stars = stars[rows].rotated(random_orientation(batch_size, generator))
        light = starlight(stars, p, every)
        beam = manga_beam(batch_size, generator)
        truth = spin_truth(stars, light[..., every.index("r")], beam)
        images = observe_light(
            stars,
            light[..., : len(bands)],
            chosen,
            redshift_of(truth.r_eff / angle),
            pixels,
            generator,
            bands=bands,
            binning=bins,
            noisy=noisy,
        )
        r_eff = truth.r_eff / distance(images.redshift)[1]
        images.truth = ImageTruth(
            spin=truth.spin,
            spin_beam=truth.spin_beam,
            ellipticity=truth.ellipticity,
            position_angle=truth.position_angle,
            r_eff=r_eff,
            r_eff_pixels=r_eff / images.pixel_scale,
            r_eff_kpc=truth.r_eff,
            inclination=torch.rad2deg(stars.frame[:, 2, 2].abs().clamp(max=1).acos()),
            bulge_fraction=p["bulge_fraction"],
            sersic_index=p["sersic_index"],
        )
        yield p, images


def matching_surveys(name, bands):
    """Surveys of that name, or all of them, that have the bands."""
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
    shares = torch.tensor([g[0] * (g[1] * g[2] * reach > TYPICAL_SIZE) for g in GRIDS])
    choice = int(torch.multinomial(shares, 1, generator=generator))
    _, pixels, bins = GRIDS[choice]
    return n_pixels or pixels, binning or (bins if n_pixels is None else 1)


def _draw_visible(n, survey, angle, generator, faintest=None):
    """Draw galaxies that have about these angular radii inside the survey's volume."""
    near, far = distance(torch.tensor([NEAREST, survey.redshift]))[1].tolist()
    parts, left = [], n
    while left:
        p = draw_stars(4 * n, generator)
        kpc = (p["size"].reshape(4, n) / angle).flatten()
        seen = (kpc > near) & (kpc < far)
        if faintest is not None:
            # Numbers grow with the volume, as the power 0.6 of magnitude.
            excess = _magnitude(p, redshift_of(kpc)) - faintest
            share = 10 ** (0.6 * excess) * (excess < 0)
            seen &= torch.rand(4 * n, generator=generator) < share
        rows = seen.nonzero()[:left, 0]
        parts.append({key: value[rows] for key, value in p.items()})
        left -= len(rows)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _magnitude(p, redshift):
    """Apparent magnitude in r, from the mean ages of the parts, without dust."""
    disk = 1 - p["bulge_fraction"]
    young = disk * p["young_fraction"]
    parts = (
        (p["bulge_fraction"], p["spheroid_age"]),
        (disk - young, p["disk_age"]),
        (young, torch.full_like(young, YOUNG_AGE)),
    )
    light = sum(
        share * luminosity(age, p["metallicity"], ("r",))[..., 0]
        for share, age in parts
    )
    light = light * p["stellar_mass"] / SURVIVING
    return SOLAR_MAGNITUDES["r"] + distance(redshift)[0] - 2.5 * light.log10()
