# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

SIDE, SCALE = 160, 0.4
#: Where four cells of the sphere meet, at each level.
CENTER = 45, 0


def _make_survey(tmp_path):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(25, 2 * SIDE - 25, (2, 24))
    x[0], y[0] = SIDE - 0.5, 60.0
    r_eff = rng.uniform(1.2, 2.0, 24)
    yy, xx = np.indices((2 * SIDE, 2 * SIDE))
    light = rng.normal(0, 0.5, xx.shape)
    for x0, y0, r in zip(x, y, r_eff / SCALE, strict=True):
        light += 200 * np.exp(-1.678 * np.hypot(xx - x0, (yy - y0) / 0.7) / r)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, (j, i) in {"a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 1)}.items():
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.cdelt = CENTER, [-SCALE / 3600, SCALE / 3600]
        wcs.wcs.crpix = [SIDE + 0.5 - i * SIDE, SIDE + 0.5 - j * SIDE]
        header = wcs.to_header()
        header["BUNIT"], header["BAND"] = "nJy", "r"
        part = light[j * SIDE : (j + 1) * SIDE, i * SIDE : (i + 1) * SIDE]
        fits.writeto(folder / f"{name}.fits", part.astype("f4"), header)
        if name == "a":
            sky = wcs.pixel_to_world(x, y)
    catalog = QTable({"id": np.arange(24) + 100, "ra": sky.ra, "dec": sky.dec})
    catalog["r_eff"] = r_eff * u.arcsec
    return folder, catalog


@pytest.fixture(scope="session")
def make_survey():
    """Four tiles that meet at a corner, and galaxies on them and on their seams."""
    return _make_survey


@pytest.fixture
def survey(tmp_path):
    return _make_survey(tmp_path)


@pytest.fixture
def galaxies():
    n = 12
    return QTable(
        {
            "stellar_mass": np.linspace(1e10, 3e10, n) * u.Msun,
            "median_age": np.linspace(5, 6, n) * u.Gyr,
            "age_percentile_10": np.linspace(1, 2, n) * u.Gyr,
            "metallicity": np.linspace(0.01, 0.02, n),
        }
    )
