# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Answers of the shipped models on inputs that never change, on the CPU and beyond it.

    python tests/test_answers.py [NAMES]

records them anew, all or some, after weights have been retrained.
"""

import sys
from importlib import resources
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.constants import c
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS

import galml
from galml.core.geometry import angle_difference
from galml.cutouts import R_EFF

ANSWERS = Path(__file__).parent / "answers"
EXAMPLES = Path(str(resources.files("galml"))) / "data" / "examples"
SEED = 5


def celestial_wcs(shape, scale=0.4, angle=30.0):
    wcs = WCS(naxis=2)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 20.0]
    wcs.wcs.crpix = [shape[1] / 2, shape[0] / 2]
    wcs.wcs.pc = [[-cosine, sine], [sine, cosine]]
    wcs.wcs.cdelt = [scale / 3600, scale / 3600]
    return wcs


def velocity_maps():
    """Rotating discs of several shapes, some with noise, errors and dispersion."""
    random = np.random.default_rng(1)
    maps, sigmas = [], []
    for number in range(12):
        ny, nx = [(24, 24), (40, 48), (130, 120)][number % 3]
        y, x = np.indices((ny, nx)) - np.array([ny, nx]).reshape(2, 1, 1) / 2
        turn, ratio = np.radians(30 * number), 0.3 + 0.05 * number
        along = -x * np.sin(turn) + y * np.cos(turn)
        across = (x * np.cos(turn) + y * np.sin(turn)) / ratio
        radius = np.hypot(along, across) / (0.4 * min(ny, nx))
        speed = 150 * np.tanh(4 * radius) * along / np.maximum(radius, 1e-3)
        velocity = 1000 + speed / (0.4 * min(ny, nx)) * np.sqrt(1 - ratio**2)
        velocity += random.normal(0, 4 * (number % 4), (ny, nx))
        velocity[radius > 1] = np.nan
        error = None
        if number % 2:
            error = StdDevUncertainty(np.full((ny, nx), 4.0 + number))
        wcs = celestial_wcs((ny, nx)) if number % 3 == 1 else None
        maps.append(CCDData(velocity, unit="km/s", uncertainty=error, wcs=wcs, meta={}))
        sigmas.append(random.uniform(5, 60) * np.exp(-radius) * u.km / u.s)
    return maps, sigmas


def galaxies(count, shape=(64, 64)):
    """Exponential discs with bulges in three bands (nJy), and their radii (pixels)."""
    random = np.random.default_rng(2)
    y, x = np.indices(shape) - np.array(shape).reshape(2, 1, 1) / 2
    images, radii = [], []
    for _ in range(count):
        turn, ratio = random.uniform(0, np.pi), random.uniform(0.25, 1)
        size = random.uniform(4, 8)
        along = x * np.cos(turn) + y * np.sin(turn)
        radius = np.hypot(along, (y * np.cos(turn) - x * np.sin(turn)) / ratio)
        disc = np.exp(-1.68 * radius / size)
        bulge = 3 * random.uniform() * np.exp(-3 * np.hypot(x, y) / size)
        parts = [0.4 * disc + 0.2 * bulge, disc + bulge, 1.2 * disc + 1.5 * bulge]
        noise = random.normal(0, 0.02, (3, *shape))
        images.append(3000 * (np.array(parts) + noise))
        radii.append(size)
    return np.array(images), np.array(radii)


def circularity_of_examples(**where):
    files = sorted(str(path) for path in EXAMPLES.glob("mock-*.fits"))
    return galml.circularity(files, n_samples=4, seed=SEED, **where)


def circularity_of_maps(**where):
    maps, _ = velocity_maps()
    return galml.circularity(maps, n_samples=4, seed=SEED, **where)


def circularity_with_everything(**where):
    maps, sigmas = velocity_maps()
    centers = [(m.shape[1] / 2, m.shape[0] / 2) for m in maps]
    return galml.circularity(
        maps,
        dispersion=sigmas,
        center=centers,
        beam=3 * u.pix,
        redshift=0.02,
        **where,
    )


def circularity_of_a_cube(**where):
    channels = np.arange(-300, 301, 20.0)
    y, x = np.indices((32, 32)) - 15.5
    velocity = 120 * np.tanh(x / 4)[None]
    line = np.exp(-0.5 * ((channels[:, None, None] - velocity) / 25) ** 2)
    noise = np.random.default_rng(3).normal(0, 0.02, line.shape)
    cube = line * np.exp(-np.hypot(x, y) / 8) + noise
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", "VELO"]
    wcs.wcs.cunit = ["deg", "deg", "km/s"]
    wcs.wcs.crval = [150, 20, -300]
    wcs.wcs.crpix = [16, 16, 1]
    wcs.wcs.cdelt = [-1 / 3600, 1 / 3600, 20]
    return galml.circularity(CCDData(cube, unit="Jy", wcs=wcs), **where)


def spin_of_examples(**where):
    images = {band: str(EXAMPLES / f"field-{band}.fits") for band in "gri"}
    stack = galml.extract_cutouts(images, size=8.48 * R_EFF, n_pixels=72)
    return galml.spin(stack, n_samples=4, seed=SEED, **where)


def spin_of_images(**where):
    """Images of many units and bands, given and measured radii."""
    images, radii = galaxies(12)
    wide = galaxies(2, (80, 72))[0]
    erg = u.erg / u.s / u.cm**2 / u.AA
    wavelength = np.array([0.470, 0.617, 0.749]).reshape(3, 1, 1) * u.micron
    per_wavelength = images[3] * u.nJy * c / wavelength**2
    meta = {"BANDS": "g,r,i", "PIXSCALE": 0.4}
    known = meta | {"R_EFF": 0.4 * radii[0], "PSFFWHM": "1.3,1.2,1.1"}
    band = {"BAND": "F814W", "PIXSCALE": 0.4}
    error = StdDevUncertainty(np.full(images[0].shape, 60.0))
    masked = np.zeros(images[0].shape, bool)
    masked[:, :10] = True
    members = [
        CCDData(images[0], unit="nJy", meta=known),
        CCDData(images[1], unit="nJy", meta=meta, uncertainty=error),
        CCDData(images[2] / 3631, unit="nmgy", meta=meta, mask=masked),
        CCDData(per_wavelength.to_value(erg), unit=erg, meta=meta),
        CCDData(images[4] / 0.16, unit="nJy / arcsec2", meta=meta),
        CCDData(images[5], unit="adu", meta=meta),
        CCDData(images[6, 1] + 500, unit="nJy", meta=band),
        CCDData(images[7, :2], unit="nJy", meta=meta | {"BANDS": "r,z"}),
        NDData(images[8], unit="nJy", meta=known, wcs=None),
        CCDData(wide[0], unit="nJy", meta=meta),
        CCDData(wide[1], unit="nJy", meta=known),
    ]
    return galml.spin(members, n_samples=4, seed=SEED, **where)


def spin_of_pictures(**where):
    images, radii = galaxies(4)
    colors = galml.cutouts.sdss_rgb(images * u.nJy, pixel_scale=0.396 * u.arcsec)
    bytes_ = np.round(255 * colors).astype(np.uint8)
    return galml.spin(list(bytes_), r_eff=radii * u.pix, **where)


def spin_in_one_band(**where):
    images, radii = galaxies(4)
    return galml.spin(
        images[:, 1:2] * u.nJy,
        bands=("r",),
        r_eff=radii * u.pix,
        model="stellar-spin-single-band-3",
        **where,
    )


def merger_of_images(**where):
    images, _ = galaxies(4)
    return galml.merger(
        images[:, 1:2] * u.nJy,
        filter="F160W",
        pixel_scale=0.08 * u.arcsec,
        n_samples=0,
        **where,
    )


def merger_of_pictures(**where):
    images, _ = galaxies(4)
    colors = galml.cutouts.sdss_rgb(images * u.nJy, pixel_scale=0.396 * u.arcsec)
    bytes_ = np.round(255 * colors).astype(np.uint8)
    return galml.merger(list(bytes_), n_samples=0, **where)


def contamination_of_images(**where):
    images, _ = galaxies(4)
    return galml.contamination(
        images[:, 1:2] * u.nJy,
        filter="F814W",
        pixel_scale=0.05 * u.arcsec,
        n_samples=0,
        **where,
    )


def latents_of_images(**where):
    images, radii = galaxies(4)
    known = {"bands": ("g", "r", "i"), "r_eff": radii * u.pix}
    return galml.latents(images * u.nJy, **known, **where)


def lambda_r_of_maps():
    y, x = np.indices((41, 41)) - 20.0
    flux = np.exp(-np.hypot(x, y / 0.6) / 6)
    random = np.random.default_rng(4)
    velocity = 150 * np.tanh(x / 5) + random.normal(0, 5, x.shape)
    error = StdDevUncertainty(np.full(x.shape, 5.0))
    maps = [
        CCDData(values, unit="km/s", uncertainty=error)
        for values in (velocity, np.full(x.shape, 80.0) + 0 * x)
    ]
    return galml.lambda_r(
        flux,
        *maps,
        r_eff=10 * u.pix,
        ellipticity=None,
        seed=SEED,
        psf_fwhm=3 * u.pix,
        sersic_index=2,
    )


def stars_of_examples(**where):
    conditions = QTable.read(EXAMPLES / "galaxies.ecsv")
    return galml.sample_stars(conditions, 50, seed=SEED, **where)


def stars_of_images(**where):
    images, _ = galaxies(2)
    conditions = QTable.read(EXAMPLES / "galaxies.ecsv")[:2]
    conditions["image"] = list(images)
    return galml.sample_stars(conditions, 50, seed=SEED, **where)


def log_prob_of_stars(**where):
    conditions = QTable.read(EXAMPLES / "galaxies.ecsv")
    stars = QTable.read(ANSWERS / "stars_of_examples.ecsv")
    return galml.star_log_prob(stars, conditions, **where)


CASES = {
    case.__name__: case
    for case in (
        circularity_of_examples,
        circularity_of_maps,
        circularity_with_everything,
        circularity_of_a_cube,
        spin_of_examples,
        spin_of_images,
        spin_of_pictures,
        spin_in_one_band,
        merger_of_images,
        merger_of_pictures,
        contamination_of_images,
        latents_of_images,
        lambda_r_of_maps,
        stars_of_examples,
        stars_of_images,
        log_prob_of_stars,
    )
}


def check(table, expected, tolerance):
    """Compare all columns, relative to what they can be."""
    places = [name for name in ("ra", "dec") if name not in expected.colnames]
    assert [n for n in table.colnames if n not in places] == expected.colnames
    for key in expected.colnames:
        found, wanted = table[key], expected[key]
        if wanted.dtype.kind in "biuUS":
            # A file holds no empty text: it is masked when it is read.
            empty = "" if wanted.dtype.kind in "US" else None
            assert np.array_equal(found, np.ma.filled(wanted, empty)), key
            continue
        unit = getattr(wanted, "unit", None)
        assert getattr(found, "unit", None) == unit
        if key.endswith("_samples"):
            # The last bit of a prepared pixel decides about the draws, not about
            # what they are drawn from.
            quantity = key.removesuffix("_samples")
            offset = found - np.asarray(table[quantity])[:, None] * (unit or 1)
            if unit == u.deg:
                offset = angle_difference(offset, 0)
            error = np.asarray(table[f"{quantity}_err"])[:, None] * (unit or 1)
            assert (np.abs(offset) < 6 * error).mean() > 0.9, key
            continue
        found, wanted = np.asarray(found), np.asarray(wanted)
        # 1, half a turn, or how the values spread.
        known = wanted[np.isfinite(wanted)]
        scale = 180.0 if unit == u.deg else max(1.0, known.std() if known.size else 0)
        np.testing.assert_allclose(
            found / scale, wanted / scale, rtol=tolerance, atol=tolerance, err_msg=key
        )


@pytest.mark.parametrize("name", CASES)
def test_answers_stay(name):
    check(CASES[name](), QTable.read(ANSWERS / f"{name}.ecsv"), 1e-5)


needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine"
)
ON_DEVICE = sorted(set(CASES) - {"lambda_r_of_maps"})


@needs_cuda
@pytest.mark.parametrize("name", ON_DEVICE)
def test_answers_of_an_accelerator(name):
    expected = QTable.read(ANSWERS / f"{name}.ecsv")
    check(CASES[name](device="cuda"), expected, 1e-4)


@needs_cuda
@pytest.mark.parametrize("name", [n for n in ON_DEVICE if "star" not in n])
def test_half_precision_of_an_accelerator(name):
    table = CASES[name](device="cuda", dtype="bfloat16")
    expected = QTable.read(ANSWERS / f"{name}.ecsv")
    key = name.partition("_")[0]
    key = {"merger": "merger_probability", "latents": "latent"}.get(key, key)
    error = np.abs(np.asarray(table[key]) - np.asarray(expected[key]))
    assert np.nanmax(error) < 0.05


if __name__ == "__main__":
    wanted = sys.argv[1:] or CASES
    # In this order: stars are those that were drawn before.
    for name in (name for name in CASES if name in wanted):
        table = CASES[name]()
        table.meta = {}
        table.write(ANSWERS / f"{name}.ecsv", overwrite=True)
