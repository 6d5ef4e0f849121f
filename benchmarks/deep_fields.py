# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deep fields of the mocks beside observed ones: sharpness, noise, and neighbors.

    python benchmarks/deep_fields.py

Point spread functions of ACS F814W in COSMOS (Leauthaud et al. 2007, ApJS 172, 219, as
distributed with GalSim), stamps of AEGIS (F814W) and of CEERS (F200W, cut around disk
galaxies). Each set is split by the SHA-256 of names. The first half was looked at: the
wavefronts, the blur and the drops of ACS were fitted to it, and the slope of the number
of faint galaxies was chosen. All else is from the literature.
"""

import hashlib

import numpy as np
import torch
from astropy.io import fits
from common import ROOT, shared_data, show, write_figures
from photutils.segmentation import detect_sources
from scipy.ndimage import binary_dilation, gaussian_filter

from galml.mocks import build_stars, deep_starlight, draw_stars, observe_deep
from galml.mocks.deep_fields import DEEP_FIELDS
from galml.mocks.galaxy import Galaxy, random_orientation
from galml.mocks.space_psf import DEEP_FILTERS, draw_transfer

#: Radii in pixels of 0.03 arcsec, and the largest.
RADII, LARGEST = (1.5, 2.5, 4, 7, 10), 15
#: Steps between pixels (y, x).
STEPS = {"1": (0, 1), "2": (0, 2), "3": (0, 3), "diagonal": (1, 1)}
#: nJy in a pixel of CEERS, in MJy / sr, and of AEGIS, in electrons / s.
CEERS_UNIT = 1e15 * (0.03 * np.pi / 180 / 3600) ** 2
AEGIS_UNIT = 3631e9 * 10 ** (-0.4 * 25.94)


def first_half(name):
    """Whether a name belongs to the half that models were fitted to."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def describe_psf(image):
    """Ellipticity and size by moments under a Gaussian, and light inside of radii."""
    y, x = np.indices(image.shape)
    cy, cx = np.unravel_index(image.argmax(), image.shape)
    for _ in range(20):
        weight = image * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
        step = [(weight * axis).sum() / weight.sum() for axis in (y, x)]
        cy, cx = cy + 2 * (step[0] - cy), cx + 2 * (step[1] - cx)
    weight /= weight.sum()
    xx, yy, xy = (
        (weight * part).sum()
        for part in ((x - cx) ** 2, (y - cy) ** 2, (x - cx) * (y - cy))
    )
    figures = {"ellipticity": np.hypot(xx - yy, 2 * xy) / (xx + yy)}
    figures["size"] = np.sqrt((xx + yy) / 2)
    parts = (np.arange(10) - 4.5) / 10
    fine = [np.hypot(y + a - cy, x + b - cx) for a in parts for b in parts]
    light = [
        (image * np.mean([r < reach for r in fine], 0)).sum()
        for reach in (*RADII, LARGEST)
    ]
    for reach, inside in zip(RADII, light, strict=False):
        figures[f"light inside {reach}"] = inside / light[-1]
    return figures


def psf_figures():
    """Describe observed point spread functions, and those of the mocks."""
    name = "COSMOS_F814W_real_galaxy_PSF_images.fits.gz"
    sets = {"observed, fitted to": [], "observed, others": []}
    with fits.open(shared_data("hst_psf") / name) as hdus:
        for i, hdu in enumerate(hdus):
            half = list(sets)[not first_half(f"{name}:{i}")]
            sets[half].append(describe_psf(hdu.data.astype(float)))
    generator = torch.Generator().manual_seed(1)
    band, size = DEEP_FILTERS["F814W"], 128
    transfer = draw_transfer([band], size, torch.zeros(64), generator)[:, 0]
    shift = torch.rand(64, 2, generator=generator) - 0.5
    ky, kx = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    phase = ky * shift[:, :1, None] + kx * shift[:, 1:, None]
    images = torch.fft.irfft2(transfer * torch.exp(-2j * torch.pi * phase))
    images = torch.fft.fftshift(images, dim=(1, 2)).double().numpy()
    middle = slice(size // 2 - 20, size // 2 + 21)
    sets["mocks"] = [describe_psf(image[middle, middle]) for image in images]
    figures = {}
    for key, rows in sets.items():
        figures[key] = {"number": len(rows)}
        for quantity in rows[0]:
            values = [row[quantity] for row in rows]
            figures[key][quantity] = float(np.mean(values))
            figures[key][f"{quantity}, scatter"] = float(np.std(values))
    return figures


def sky_figures(image):
    """Noise, its correlation, and the sources that are not in the middle."""
    image = np.where(image == 0, np.nan, image.astype(float))
    level = np.nanmedian(image)
    smooth = gaussian_filter(np.nan_to_num(image - level), 2)
    spread = 1.4826 * np.median(abs(smooth - np.median(smooth)))
    hidden = binary_dilation(smooth > 2.5 * spread, iterations=6) | np.isnan(image)
    sky = np.where(hidden, np.nan, image)
    # Wings of galaxies and the sky's own waves are not noise of pixels.
    weight = gaussian_filter((~hidden).astype(float), 4).clip(1e-3)
    sky -= gaussian_filter(np.nan_to_num(np.where(hidden, 0, image)), 4) / weight
    noise = np.sqrt(np.nanmean(sky**2))
    figures = {"noise": float(noise)}
    for name, (dy, dx) in STEPS.items():
        pairs = [
            one[dy:, dx:] * one[: one.shape[0] - dy, : one.shape[1] - dx]
            for one in (sky, sky.T)
        ]
        figures[f"correlation {name}"] = float(
            np.mean([np.nanmean(p) for p in pairs]) / noise**2
        )
    found = detect_sources(
        gaussian_filter(np.nan_to_num(image - level), 1), spread * 4, 9
    )
    middle = np.array(image.shape) / 2
    count = 0
    for part in found.segments if found else ():
        rows, columns = part.slices
        place = [(s.start + s.stop) / 2 for s in (rows, columns)]
        count += np.hypot(*(place - middle)) > 20
    figures["other sources per square arcmin"] = count / image.size / 0.03**2 * 3600
    return figures


def observed_skies():
    """Stamps of AEGIS and CEERS in nJy, by half and name."""
    for path in sorted(shared_data("jwst_ceers").glob("*_f200w.fits.fz")):
        image = fits.getdata(path, 1) * CEERS_UNIT
        yield "CEERS F200W", first_half(path.name.split("_")[0]), image
    for path in sorted(shared_data("hst_psf").glob("AEGIS_F814w_images_*.fits.gz")):
        with fits.open(path) as hdus:
            for i, hdu in enumerate(hdus):
                half = first_half(f"{path.name}:{i}")
                yield "AEGIS F814W", half, hdu.data * AEGIS_UNIT


def mock_skies(band, number=24):
    """Stamps of mocks around galaxies like those of CEERS."""
    generator = torch.Generator().manual_seed(2)
    redshift = 1 + torch.rand(number, generator=generator)
    galaxy = young_disks(number, generator)
    light = deep_starlight(galaxy, (band,), redshift)
    images = observe_deep(galaxy, light, "EGS", redshift, 100, generator, bands=(band,))
    return images.data[:, 0].numpy()


def young_disks(number, generator):
    """Spirals of the population of stars at a third of their age, half as large."""
    types = torch.full((number,), 4)
    galaxy = build_stars(draw_stars(number, generator, types=types), 20_000, generator)
    galaxy = galaxy.rotated(random_orientation(number, generator))
    return Galaxy(
        position=0.5 * galaxy.position,
        velocity=galaxy.velocity,
        mass=galaxy.mass,
        dispersion=galaxy.dispersion,
        age=galaxy.age / 3,
        metallicity=galaxy.metallicity,
        spacing=0.5 * galaxy.spacing,
        frame=galaxy.frame,
    )


def picture(path):
    """Draw three galaxies by band and redshift."""
    import matplotlib.pyplot as plt

    views = (("F814W", 0.6), ("F814W", 1.2), ("F125W", 1.6), ("F160W", 2.5))
    views += (("F200W", 1.5), ("F200W", 2.5))
    generator = torch.Generator().manual_seed(5)
    galaxy = young_disks(3, generator)
    figure, axes = plt.subplots(3, len(views), figsize=(10, 5.2))
    for column, (band, z) in zip(axes.T, views, strict=True):
        redshift = torch.full((3,), z)
        light = deep_starlight(galaxy, (band,), redshift)
        pixels = 128 if DEEP_FILTERS[band].pixel_scale < 0.05 else 64
        images = observe_deep(
            galaxy, light, "EGS", redshift, pixels, generator, bands=(band,)
        )
        for ax, image, noise in zip(column, images.data, images.noise, strict=True):
            ax.imshow(
                np.arcsinh((image[0] / noise[0] / 3).numpy()),
                origin="lower",
                cmap="gray_r",
                vmin=-0.7,
                vmax=3.2,
            )
            ax.set_xticks([])
            ax.set_yticks([])
        column[0].set_title(f"{band}, z = {z}", fontsize=9)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.94, 0.03, 0.03)
    figure.savefig(path, dpi=100)


def main():
    """Measure, draw, and keep the figures."""
    figures = {"psf": psf_figures(), "fields": list(DEEP_FIELDS)}
    rows = {}
    for name, half, image in observed_skies():
        key = f"{name}, {'looked at' if half else 'others'}"
        rows.setdefault(key, []).append(sky_figures(image))
    for band in ("F200W", "F814W"):
        rows[f"mocks {band}"] = [sky_figures(image) for image in mock_skies(band)]
    figures["sky"] = {
        key: {"number": len(few)}
        | {
            name: float(
                (np.mean if "sources" in name else np.median)([f[name] for f in few])
            )
            for name in few[0]
        }
        for key, few in rows.items()
    }
    show("PSF", figures["psf"])
    show("sky", figures["sky"])
    picture(ROOT / "docs" / "images" / "deep_fields.png")
    write_figures("deep_fields", figures)


if __name__ == "__main__":
    main()
