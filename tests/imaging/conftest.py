# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest

from galml.imaging import GalaxyImages
from galml.physics import pivot_wavelengths


def disks(count=6, shape=(48, 52), seed=0, noise=0.0, bands=3):
    """Exponential disks of several sizes, shapes and directions, and their radii."""
    random = np.random.default_rng(seed)
    size = random.uniform(4, 6, count)
    ratio = random.uniform(0.3, 0.9, count)
    angle = random.uniform(0, math.pi, count)
    y, x = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    cosine, sine, scale, flat = (
        one[:, None, None] for one in (np.cos(angle), np.sin(angle), size, ratio)
    )
    along, across = x * cosine + y * sine, (y * cosine - x * sine) / flat
    light = np.exp(-1.678 * np.hypot(along, across) / scale)
    data = 100 * light[:, None] * np.array([0.5, 1.0, 1.4])[:bands, None, None]
    return data + noise * random.normal(size=data.shape), size, ratio, angle


def as_images(data, r_eff, bands=("g", "r", "i"), **known):
    """The form in which images are prepared."""
    n, count = data.shape[:2]
    known = {
        "noise": np.full((n, count), np.nan),
        "psf_fwhm": np.full((n, count), np.nan),
        "center": np.full((n, 2), np.nan),
        "pixel_scale": np.full(n, 0.4),
        "flags": np.zeros(n, dtype=int),
        "names": [None] * n,
        "calibrated": True,
    } | known
    bands = bands[:count]
    return GalaxyImages(
        values=data,
        bands=bands,
        wavelengths=pivot_wavelengths(bands),
        r_eff=np.asarray(r_eff, dtype=float),
        **known,
    )


@pytest.fixture(scope="session")
def make_disks():
    return disks


@pytest.fixture(scope="session")
def make_images():
    return as_images
