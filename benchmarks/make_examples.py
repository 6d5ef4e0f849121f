# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The example data of the package: mock velocity maps, images and a table of galaxies.

Run ``python benchmarks/make_examples.py [--overwrite]``. Files that exist stay, unless
they are to be overwritten: recorded answers belong to those that ship. No training has
seen these galaxies. Maps and images have noise; their files are as
`astropy.nddata.CCDData` writes them, and their headers hold the truth. Of maps it is
KAPPA, PA (east of north, to the receding side) and INCL; of images, whose headers are
those of Hubble's cameras, STAGE (see `galml.mergers.STAGES`), TSINCE, the time since
coalescence in Gyr, MRATIO, the mass ratio, CONTAM, the contamination of the circle that
`galml.contamination` tells, and REDSHIFT.
"""

import argparse

import numpy as np
import torch
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import vstack
from astropy.wcs import WCS
from common import ROOT

from galml.mergers import STAGES
from galml.mergers.mock_data import stage_of
from galml.mergers.preparation import FILTERS
from galml.mocks import (
    build_gas,
    build_mergers,
    build_projections,
    build_stars,
    deep_starlight,
    draw_clumpy,
    draw_gas,
    draw_mergers,
    observe_deep,
    observe_gas,
    random_orientation,
    rotation_matrix,
    star_galaxies,
)
from galml.mocks.surveys import GAS_SURVEYS
from galml.physics import generator_for

N_PARTICLES = 8192
FOLDER = ROOT / "galml" / "data" / "examples"
#: FWHM of the beam of each survey, in arcsec.
BEAMS = {"ALMA": 0.8, "SKA precursor": 12.0, "MaNGA": 2.5}
#: Of a settled disk: what the population draws at random is switched off.
SETTLED = {
    "hole": 0.0, "ring": 0.0, "radial_flow": 0.0, "warp": 0.0, "turbulence": 0.05,
    "clumps": 0.0, "second": 0, "second_fraction": 0.0, "satellite_fraction": 0.0,
    "bar": 0.0, "dispersion": 12.0, "speed": 180.0, "thickness": 0.03,
}  # fmt: skip
#: Name, seed, pixels a side, beams across, inclination, and what differs from SETTLED.
EXAMPLES = (
    ("settled disk", 30, 64, 22.0, 55.0, {}),
    ("few beams", 22, 32, 5.0, 55.0, {}),
    ("warped disk", 27, 48, 14.0, 50.0, {"warp": 0.6, "warp_start": 0.3}),
    ("turbulent disk", 8, 48, 14.0, 60.0, {"turbulence": 0.85}),
    ("disordered gas", 33, 48, 14.0, 50.0, {"turbulence": 1.26, "speed": 90.0}),
    ("merger", 27, 64, 22.0, 60.0, {"satellite_fraction": 0.35, "turbulence": 0.2}),
    ("face-on disk", 30, 48, 14.0, 5.0, {}),
    ("mostly noise", 15, 48, 14.0, 45.0, {}),
)
#: Particles of stars of a system, and pixels of an image.
N_STARS, N_PIXELS = 16_000, 128
#: Name, seed, filter, deep field and redshift of an image.
MERGERS = (
    ("post-merger", 1, "F814W", "GOODS-S", 0.7),
    ("clumpy disk", 11, "F814W", "GOODS-S", 0.9),
    ("between passages", 8, "F160W", "UDS", 1.7),
    ("projection", 2, "F160W", "COSMOS", 1.7),
)
#: Time since coalescence of the post-merger, in Gyr; and when galaxies are seen between
#: passages, as a share of the time from the first one to coalescence.
AFTER, BETWEEN = 0.15, 0.6
#: How headers tell instrument and filter, and where the fields are, in degrees.
CAMERAS = {
    "F814W": {"INSTRUME": "ACS", "FILTER1": "CLEAR1L", "FILTER2": "F814W"},
    "F160W": {"INSTRUME": "WFC3", "FILTER": "F160W"},
}
PLACES = {"GOODS-S": (53.12, -27.81), "UDS": (34.41, -5.2), "COSMOS": (150.12, 2.3)}
#: Numbers of the mock galaxies of the table, by what they are.
GALAXIES = {"dwarf": 186, "spiral": 177, "giant": 174}
CONDITIONS = (
    "stellar_mass",
    "median_age",
    "age_percentile_10",
    "metallicity",
    "r_eff",
)


def galaxies():
    """Conditions of a few galaxies of different mass."""
    rows = []
    for name, number in GALAXIES.items():
        ((_, row),) = star_galaxies(1, first=number)
        row = row[["galaxy_id", *CONDITIONS]]
        row["galaxy_id"] = [name]
        for key in CONDITIONS:
            value = float(f"{row[key].value[0]:.3g}")
            row[key] = [value] * row[key].unit
        rows.append(row)
    return vstack(rows)


def observe(seed, n_pixels, beams_across, inclination, changes):
    """One galaxy of the population with some of its parameters set."""
    generator = torch.Generator().manual_seed(seed)
    parameters = draw_gas(1, generator)
    for key, value in (SETTLED | changes).items():
        parameters[key] = torch.full_like(parameters[key], value)
    galaxy = build_gas(parameters, N_PARTICLES, generator)
    turn = 2 * torch.pi * torch.rand(1, generator=generator)
    tilt = torch.deg2rad(torch.tensor([inclination]))
    x, z = torch.eye(3)[None, 0], torch.eye(3)[None, 2]
    galaxy = galaxy.rotated(rotation_matrix(z, turn) @ rotation_matrix(x, tilt))
    across = torch.tensor([beams_across])
    return observe_gas(galaxy, parameters["radius"], across, n_pixels, generator)


def as_ccd(number, name, maps):
    """Dress one mock as an observed map."""
    velocity, std = (
        image[0].numpy().astype(np.float32)
        for image in (maps.velocity, maps.uncertainty)
    )
    survey = GAS_SURVEYS[int(maps.survey[0])].name
    scale = BEAMS[survey] / 3600 / float(maps.beam[0])
    place = 150 + 15 * number, 2 - 4 * number
    wcs = tangent_plane(maps.center[0], place, scale)
    header = fits.Header()
    header["OBJECT"] = f"mock-{number:02d} {name}"
    header["TELESCOP"] = (survey, "simulated")
    header["BMAJ"] = (BEAMS[survey] / 3600, "FWHM of the beam (deg)")
    header["BMIN"] = (BEAMS[survey] / 3600, "FWHM of the beam (deg)")
    header["BPA"] = 0.0
    for keyword, value, comment in (
        ("KAPPA", maps.truth.kappa, "true circularity"),
        ("PA", maps.truth.position_angle, "true position angle (deg)"),
        ("INCL", maps.truth.inclination, "true inclination (deg)"),
    ):
        header[keyword] = (round(float(value[0]), 3), comment)
    return CCDData(
        velocity,
        unit="km/s",
        uncertainty=StdDevUncertainty(std),
        mask=~np.isfinite(velocity),
        wcs=wcs,
        meta=header,
    )


def tangent_plane(center, place, scale):
    """Coordinates with north up: of a place, and the side of a pixel, in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crpix = (center + 1).tolist()
    wcs.wcs.crval = list(place)
    wcs.wcs.cdelt = [-scale, scale]
    return wcs


def draw_system(name, generator):
    """One system of the mergers' population, turned as it is seen.

    Returns
    -------
    galaxy : `~galml.mocks.Galaxy`
        Its stars.
    foreign : `torch.Tensor` or None
        Which of them are not the galaxy's, shape (1, s).
    known : `~galml.mocks.MergerTruth` or None
        Of an encounter.
    """
    foreign = known = None
    if name == "projection":
        galaxy = build_projections(draw_clumpy(2, generator), N_STARS, generator)
        foreign = torch.arange(galaxy.n_stars)[None] >= galaxy.n_stars // 2
        return galaxy, foreign, known
    if name == "clumpy disk":
        galaxy = build_stars(draw_clumpy(1, generator), N_STARS, generator, n_gas=0)
    else:
        encounter = draw_mergers(1, generator, clumpy=0.5)
        first, last = encounter["first_passage"], encounter["coalescence"]
        after = name == "post-merger"
        time = last + AFTER if after else torch.lerp(first, last, BETWEEN)
        encounter["time"] = time[:, None]
        galaxy, known = build_mergers(encounter, N_STARS, generator)
    return galaxy.rotated(random_orientation(1, generator)), foreign, known


def deep_image(number, name, seed, band, field, redshift):
    """Dress one mock as an image of Hubble."""
    generator = generator_for(seed, "merger example", 0)
    galaxy, foreign, known = draw_system(name, generator)
    z = torch.tensor([redshift])
    light = deep_starlight(galaxy, (band,), z)
    images = observe_deep(
        galaxy, light, field, z, N_PIXELS, generator, bands=(band,), foreign=foreign
    )
    scale = float(images.pixel_scale)
    middle = torch.full((1, 2), (N_PIXELS - 1) / 2)
    share = images.contamination(middle, torch.tensor([FILTERS[band][0] / scale]))
    header = fits.Header()
    header["OBJECT"] = f"merger-{number:02d} {name}"
    header["TELESCOP"] = ("HST", "simulated")
    header["TARGNAME"] = field
    header.update(CAMERAS[band])
    header["PSFFWHM"] = (round(float(images.psf_fwhm) * scale, 4), "FWHM (arcsec)")
    header["STAGE"] = (STAGES[0 if known is None else int(stage_of(known))], "true")
    if known is not None:
        since, ratio = (
            round(float(value), 3)
            for value in (known.time_since_coalescence, known.mass_ratio)
        )
        header["TSINCE"] = (since, "true time since coalescence (Gyr)")
        header["MRATIO"] = (ratio, "true mass ratio")
    header["CONTAM"] = (round(float(share), 3), "true contamination")
    header["REDSHIFT"] = redshift
    return CCDData(
        images.data[0, 0].numpy(),
        unit="nJy",
        wcs=tangent_plane(middle[0], PLACES[field], scale / 3600),
        meta=header,
    )


def write(path, ccd, *truth):
    """Write a file, and print what it holds."""
    ccd.write(path, overwrite=True)
    known = {key: ccd.meta[key] for key in truth if key in ccd.meta}
    print(path.relative_to(ROOT), path.stat().st_size, ccd.meta["OBJECT"], known)


def main():
    """Write the files and print what they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overwrite", action="store_true")
    overwrite = parser.parse_args().overwrite
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, (name, *recipe) in enumerate(EXAMPLES, start=1):
        path = FOLDER / f"mock-{number:02d}.fits"
        if overwrite or not path.exists():
            write(path, as_ccd(number, name, observe(*recipe)), "KAPPA", "PA", "INCL")
    for number, recipe in enumerate(MERGERS, start=1):
        path = FOLDER / f"merger-{number:02d}.fits"
        if overwrite or not path.exists():
            write(path, deep_image(number, *recipe), "STAGE", "TSINCE", "CONTAM")
    path = FOLDER / "galaxies.ecsv"
    if overwrite or not path.exists():
        galaxies().write(path, overwrite=True)
        print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    main()
