# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The example data of the package: mock velocity maps, and a table of mock galaxies.

Run ``python benchmarks/make_examples.py [--overwrite]``. Files that exist stay, unless
they are to be overwritten: recorded answers belong to those that ship. No training has
seen the stars of these galaxies. The maps have noise; their files are as
`astropy.nddata.CCDData` writes them, and their headers hold the truth: KAPPA, PA (east
of north, to the receding side) and INCL.
"""

import argparse

import numpy as np
import torch
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import vstack
from astropy.wcs import WCS
from common import ROOT

from galml.mocks import (
    build_gas,
    draw_gas,
    observe_gas,
    rotation_matrix,
    star_galaxies,
)
from galml.mocks.surveys import GAS_SURVEYS

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
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crpix = (maps.center[0] + 1).tolist()
    wcs.wcs.crval = [150 + 15 * number, 2 - 4 * number]
    wcs.wcs.cdelt = [-scale, scale]
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


def main():
    """Write the files and print what they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overwrite", action="store_true")
    overwrite = parser.parse_args().overwrite
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, (name, *recipe) in enumerate(EXAMPLES, start=1):
        path = FOLDER / f"mock-{number:02d}.fits"
        if path.exists() and not overwrite:
            continue
        ccd = as_ccd(number, name, observe(*recipe))
        ccd.write(path, overwrite=True)
        truth = {key: ccd.meta[key] for key in ("KAPPA", "PA", "INCL")}
        print(path.relative_to(ROOT), path.stat().st_size, name, truth)
    path = FOLDER / "galaxies.ecsv"
    if overwrite or not path.exists():
        galaxies().write(path, overwrite=True)
        print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    main()
