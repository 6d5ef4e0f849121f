# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Moments of noisy cubes of rotating disks, and circularities from them.

Run ``python benchmarks/circularity_cubes.py [--disks 240]``. Disks are thin and smooth,
with isotropic dispersions of 5 to 120 km/s; what a beam makes of their lines is known
in every pixel without noise. The cubes have noise that the beam correlates, as
interferometers give it. ``--development`` draws disks of another seed: choices were
made on those.
"""

import argparse

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable, vstack
from astropy.wcs import WCS
from common import in_bins, show, write_figures
from scipy.ndimage import gaussian_filter
from scipy.special import erf
from thin_disks import DISPERSIONS, SPEEDS, circularity, judge, rotation

import galml
from galml.gas_kinematics import moments
from galml.gas_kinematics.metrics import coverage, scatter68

SIZE, FINE = 40, 3
CHANNEL = 10.0
#: Brightest voxel over the noise.
BRIGHTNESS = (5, 60)
EDGES = {"dispersion": (5, 20, 40, 80, 120), "brightness": (5, 10, 20, 60)}
#: Brightest channel of a pixel over the noise; dispersion of its line in channels.
PIXEL_EDGES = {"signal_to_noise": (0, 5, 10, 20, 60), "channels": (0, 1, 2, 4, 8, 20)}
KMS = u.km / u.s


def draw(count, seed):
    """Parameters of disks; lengths in pixels."""
    random = np.random.default_rng(seed)
    return QTable(
        {
            "speed": random.uniform(*SPEEDS, count),
            "dispersion": np.exp(random.uniform(*np.log(DISPERSIONS), count)),
            "turnover": 10 ** random.uniform(-0.3, 0.7, count),
            "length": random.uniform(4, 8, count),
            "inclination": np.arccos(random.uniform(0.2, 0.85, count)),
            "position_angle": random.uniform(0, 2 * np.pi, count),
            "beam": random.uniform(2.5, 5, count),
            "brightness": np.exp(random.uniform(*np.log(BRIGHTNESS), count)),
        }
    )


def lines(disk):
    """Velocities of channels, the cube without noise, and its flux, mean and spread."""
    step = (np.arange(SIZE * FINE) + 0.5) / FINE - SIZE / 2
    y, x = np.meshgrid(step, step, indexing="ij")
    cosine, sine = np.cos(disk["position_angle"]), np.sin(disk["position_angle"])
    along = y * cosine - x * sine
    across = (x * cosine + y * sine) / np.cos(disk["inclination"])
    radius = np.hypot(along, across)
    flux = np.exp(-radius / disk["length"])
    speed = rotation(radius, disk) * np.sin(disk["inclination"]) * along / radius
    reach = disk["speed"] + 5 * disk["dispersion"] + 10 * CHANNEL
    count = 2 * int(np.ceil(reach / CHANNEL))
    edges = (np.arange(count + 1) - count / 2) * CHANNEL
    width = disk["beam"] * gaussian_fwhm_to_sigma

    def seen(image):
        blocks = image.reshape(*image.shape[:-2], SIZE, FINE, SIZE, FINE)
        blur = (0,) * (image.ndim - 2) + (width, width)
        return gaussian_filter(blocks.mean((-3, -1)), blur, mode="constant")

    cube = np.empty((count, SIZE, SIZE))
    below = np.zeros_like(flux)
    for index in range(count + 1):
        place = (edges[index] - speed) / (np.sqrt(2) * disk["dispersion"])
        share = flux * (1 + erf(place)) / 2
        if index:
            cube[index - 1] = seen(share - below) / CHANNEL
        below = share
    total, first, second = seen(np.stack([flux, flux * speed, flux * speed**2]))
    mean = first / total
    spread = np.sqrt(second / total - mean**2 + disk["dispersion"] ** 2)
    return (edges[1:] + edges[:-1]) / 2, cube, mean, spread


def observe(disk, random):
    """Moments of a noisy cube, the truth in their pixels, and the circularity there."""
    velocity, cube, mean, spread = lines(disk)
    width = disk["beam"] * gaussian_fwhm_to_sigma
    noise = gaussian_filter(random.normal(size=cube.shape), (0, width, width))
    noise *= cube.max() / disk["brightness"] / noise.std()
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN", "VRAD"
    wcs.wcs.cunit = "deg", "deg", "km/s"
    wcs.wcs.cdelt = -1 / 3600, 1 / 3600, CHANNEL
    wcs.wcs.crpix = SIZE / 2 + 0.5, SIZE / 2 + 0.5, 1
    wcs.wcs.crval = 150.0, 2.0, velocity[0]
    beam = {"BMAJ": disk["beam"] / 3600, "BMIN": disk["beam"] / 3600, "BPA": 0.0}
    maps = moments(CCDData(cube + noise, unit="Jy/beam", wcs=wcs, meta=beam))
    found = {
        "velocity": (maps.velocity, mean),
        "dispersion": (maps.dispersion, spread),
    }
    shown = ~maps.velocity.mask
    pixels = {
        "signal_to_noise": (cube.max(0) / noise.std())[shown],
        "channels": spread[shown] / CHANNEL,
    }
    for name, (image, truth) in found.items():
        pixels[f"{name}_error"] = (image.data - truth)[shown]
        pixels[f"{name}_err"] = image.uncertainty.array[shown]
    return maps, QTable(pixels), circularity(disk, shown)[0]


def judge_pixels(pixels):
    """Bias of the moments in pixels, and errors over what they are said to be."""
    figures = {"pixels": len(pixels)}
    for name in ("velocity", "dispersion"):
        error, sigma = pixels[f"{name}_error"], pixels[f"{name}_err"]
        figures |= {
            f"{name}_bias": float(np.median(error)),
            f"{name}_scatter": scatter68(error),
            f"{name}_err": float(np.median(sigma)),
            f"{name}_coverage": coverage(error, -sigma, sigma),
        }
    width = pixels["channels"] * CHANNEL
    figures["dispersion_relative_bias"] = float(
        np.median(pixels["dispersion_error"] / width)
    )
    return figures


def judge_each(table, edges, judged):
    """Figures of all rows, and of those in bins of each property."""
    figures = {"all": judged(slice(None))}
    for name, limits in edges.items():
        found = in_bins(judged, table[name], limits)
        figures |= {f"{name} {key}": row for key, row in found.items()}
    return figures


def main():
    """Make the cubes, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disks", type=int, default=240)
    parser.add_argument("--development", action="store_true")
    args = parser.parse_args()
    seed = 1 if args.development else 2
    disks, random = draw(args.disks, seed), np.random.default_rng(seed)
    maps, tables, kappa = zip(*(observe(d, random) for d in disks), strict=True)
    disks["kappa"] = kappa
    pixels = vstack(tables)
    # Noise makes a few variances negative.
    pixels = pixels[np.isfinite(pixels["dispersion_error"])]
    figures = {
        "pixels": judge_each(pixels, PIXEL_EDGES, lambda r: judge_pixels(pixels[r]))
    }
    show("moments", figures["pixels"])
    velocity, dispersion = [m.velocity for m in maps], [m.dispersion for m in maps]
    result = galml.circularity(velocity, dispersion=dispersion)
    figures["circularity"] = judge_each(
        disks, EDGES, lambda r: judge(result[r], disks["kappa"][r])
    )
    show("circularity", figures["circularity"])
    if not args.development:
        write_figures("circularity_cubes", figures)


if __name__ == "__main__":
    main()
