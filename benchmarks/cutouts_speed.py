# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Time and memory of `galml.extract_cutouts` against the usual loop over galaxies.

The loop takes, for each galaxy and band, Cutout2D, `scipy.signal.fftconvolve` with the
same PSF-matching kernel, and `reproject_adaptive` onto the same WCS with conserved
flux. Both are measured in turns, several times; the ratio is the median of the turns.
With uncertainties, galml propagates them too, and the loop does not. Memory is the peak
of a process of its own that cuts galaxies out of a FITS file of 20 000 x 20 000 pixels.

    python benchmarks/cutouts_speed.py
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS
from common import write_figures

SCALE = 0.396
ANGLES = {
    "one_grid": {"g": 0.50, "r": 0.50, "i": 0.50},
    "three_grids": {"g": 0.50, "r": 0.51, "i": 0.49},
}
SIDE, OUTPUT_SCALE = 80, 0.6 * u.arcsec
FWHM = {"g": 1.4 * u.arcsec, "r": 1.3 * u.arcsec, "i": 1.2 * u.arcsec}
TARGET = 1.8 * u.arcsec
MARGIN = 12


def make_wcs(scale, angle, size):
    """Make the WCS of an image that is turned and small enough for one tangent."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 30.0]
    wcs.wcs.crpix = [size / 2, size / 2]
    c, s = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
    return wcs


def make_images(n, rng, angles, size=4000):
    """Make three bands with Gaussian galaxies on a jittered grid, and the catalog."""
    side = int(np.ceil(np.sqrt(n)))
    pitch = (size - 300) / side
    cells = np.stack(np.divmod(np.arange(n), side), axis=1)
    x, y = (150 + (cells + rng.uniform(0.3, 0.7, cells.shape)) * pitch).T
    first = make_wcs(SCALE, angles["g"], size)
    sky = first.pixel_to_world(x, y)
    sigma, q = rng.uniform(3, 6, n), rng.uniform(0.4, 1, n)
    images = {}
    for band, angle in angles.items():
        wcs = make_wcs(SCALE, angle, size)
        values = np.zeros((size, size), "f4")
        for xc, yc, s, ratio in zip(*wcs.world_to_pixel(sky), sigma, q, strict=True):
            x0, y0 = int(xc) - 40, int(yc) - 40
            yy, xx = np.mgrid[y0 : y0 + 81, x0 : x0 + 81]
            r2 = (xx - xc) ** 2 + ((yy - yc) / ratio) ** 2
            values[y0 : y0 + 81, x0 : x0 + 81] += 100 * np.exp(-r2 / 2 / s**2)
        images[band] = CCDData(values, unit="nJy", wcs=wcs)
    return images, QTable({"sky": sky})


def loop(images, sky, wcs, kernels, *, exact=False):
    """Make the same cutouts one by one."""
    from reproject import reproject_adaptive, reproject_exact
    from scipy.signal import fftconvolve

    reach = int(SIDE * OUTPUT_SCALE.value / SCALE * 1.5) + 2 * MARGIN
    made = []
    for position, target in zip(sky, wcs, strict=True):
        for band, image in images.items():
            cutout = Cutout2D(image.data, position, reach, wcs=image.wcs)
            matched = fftconvolve(cutout.data, kernels[band], mode="same")
            source = (matched, cutout.wcs), target, (SIDE, SIDE)
            if exact:
                result = reproject_exact(*source, return_footprint=False)
            else:
                result = reproject_adaptive(
                    *source, conserve_flux=True, return_footprint=False
                )
            made.append(result)
    return np.reshape(made, (len(wcs), len(images), SIDE, SIDE))


def compare(n, n_loop, angles, *, repeat, uncertainty=False):
    """Time both ways in turns, and compare their results."""
    from galml.cutouts import extract_cutouts
    from galml.cutouts.matching import matching_kernel
    from galml.cutouts.psf import to_psf_image

    rng = np.random.default_rng(0)
    images, catalog = make_images(n, rng, angles)
    if uncertainty:
        for image in images.values():
            image.uncertainty = StdDevUncertainty(np.ones(image.shape, "f4"))
    options = {"size": SIDE, "pixel_scale": OUTPUT_SCALE}
    options |= {"psf": FWHM, "target_psf": TARGET}
    kernels = {
        band: matching_kernel(
            to_psf_image(FWHM[band], SCALE * u.arcsec),
            to_psf_image(TARGET, SCALE * u.arcsec),
        )
        for band in angles
    }
    few = extract_cutouts(images, catalog[:n_loop], **options)
    sky, target = catalog["sky"][:n_loop], few.wcs
    loop(images, sky[:2], target[:2], kernels)
    ours, usual = [], []
    for _ in range(repeat):
        start = time.perf_counter()
        stack = extract_cutouts(images, catalog, **options)
        ours.append((time.perf_counter() - start) / n)
        start = time.perf_counter()
        expected = loop(images, sky, target, kernels)
        usual.append((time.perf_counter() - start) / n_loop)
    exact = loop(images, sky[:4], target[:4], kernels, exact=True)
    averaged = extract_cutouts(images, catalog[:4], per_pixel=False, **options)
    found = stack.data.value[:n_loop]
    flux, wanted = found.sum((2, 3)), expected.sum((2, 3))
    return {
        "galaxies": n,
        "galaxies_loop": n_loop,
        "bands": len(images),
        "pixels": SIDE,
        "turns": repeat,
        "ms_per_galaxy": round(1e3 * float(np.median(ours)), 3),
        "ms_per_galaxy_loop": round(1e3 * float(np.median(usual)), 3),
        "faster": round(float(np.median(np.divide(usual, ours))), 1),
        "flux_difference": float(f"{np.abs(flux / wanted - 1).max():.2g}"),
        "peak_difference": _largest(found, expected),
        "peak_difference_exact": _largest(averaged.data.value, exact),
    }


def _largest(found, expected):
    """Give the largest difference of all images in units of their peaks."""
    difference = np.abs(found - expected).max((2, 3)) / expected.max((2, 3))
    return float(f"{difference.max():.2g}")


def cut_from_file(path, n):
    """Cut galaxies out of a large file, and report time and the peak of memory."""
    from galml.cutouts import iter_cutouts

    rng = np.random.default_rng(1)
    wcs = WCS(fits.getheader(path))
    sky = wcs.pixel_to_world(*rng.uniform(200, 19800, (2, n)))
    start = time.perf_counter()
    count = sum(
        len(stack)
        for stack in iter_cutouts(path, SkyCoord(sky), size=SIDE, psf=FWHM["g"])
    )
    print(
        json.dumps(
            {
                "ms_per_galaxy": round(1e3 * (time.perf_counter() - start) / count, 3),
                "peak_mb": round(peak_memory() / 1024, 1),
            }
        )
    )


def peak_memory():
    """Peak of the memory of this process, in KB.

    What `resource` says includes the process that has started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1])


def write_large(path, size=20000):
    """Write noise as a large FITS file without holding it."""
    header = make_wcs(SCALE, 0.5, size).to_header()
    header = fits.Header(
        [("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", size)]
        + [("NAXIS2", size), ("BUNIT", "nJy"), *header.items()]
    )
    rng = np.random.default_rng(2)
    stream = fits.StreamingHDU(path, header)
    for _ in range(20):
        stream.write(rng.normal(size=(size // 20, size)).astype(">f4"))
    stream.close()


def main():
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--galaxies", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=20, help="galaxies of the loop")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        cut_from_file(options.file, options.galaxies)
        return
    figures = {
        name: compare(options.galaxies, options.loop, angles, repeat=options.turns)
        for name, angles in ANGLES.items()
    }
    figures["three_grids_uncertainty"] = compare(
        options.galaxies,
        options.loop,
        ANGLES["three_grids"],
        repeat=options.turns,
        uncertainty=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.fits"
        write_large(path)
        command = [sys.executable, __file__, "--file", str(path)]
        command += ["--galaxies", str(options.galaxies)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures["large_file"] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(figures, indent=2))
    write_figures("cutouts_speed", figures)


if __name__ == "__main__":
    main()
