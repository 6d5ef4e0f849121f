# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS, Sip

from galml.cutouts import CutoutStack

BANDS = ("g", "r", "i")


@pytest.fixture(scope="session")
def make_stack():
    """Make a stack of noise, with all or little of what can be known."""
    return _make_stack


@pytest.fixture(scope="session")
def make_wcs():
    """Make a WCS of random position and rotation."""
    return _make_wcs


@pytest.fixture(scope="session")
def assert_same():
    """Compare all parts of two stacks bit by bit."""
    return _assert_same


def _make_wcs(seed, *, distorted=False):
    rng = np.random.default_rng(seed)
    wcs = WCS(naxis=2)
    kind = "-SIP" if distorted else ""
    wcs.wcs.ctype = f"RA---TAN{kind}", f"DEC--TAN{kind}"
    wcs.wcs.crval = rng.uniform(0, 80, 2)
    wcs.wcs.crpix = rng.uniform(0, 30, 2)
    angle = rng.uniform(0, 6)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    wcs.wcs.cd = 1e-4 / 3 * np.array(turn)
    if distorted:
        terms = np.zeros((3, 3))
        terms[2, 0], terms[1, 1] = 1e-4 / 3, 1e-5 / 7
        wcs.sip = Sip(terms, -terms, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def _make_catalog(n):
    table = QTable()
    table["name"] = [f"galaxy {i}" for i in range(n)]
    table["coord"] = SkyCoord(np.arange(n) / 3, np.arange(n) / 7, unit="deg")
    table["r_eff"] = np.linspace(1, 2, n) / 60 * u.arcmin
    table["ellipticity"] = np.linspace(0.1, 0.7, n)
    table["position_angle"] = np.linspace(0, 2, n) * u.rad
    table["redshift"] = MaskedColumn(np.full(n, np.nan), mask=np.arange(n) % 2 == 0)
    table["flux"] = Masked(np.arange(1.0, n + 1) * u.Jy, mask=np.arange(n) % 3 == 1)
    table.meta["SURVEY"] = "mocks"
    return table


def _make_stack(n=4, *, dtype=np.float32, shape=(6, 7), full=True, seed=0):
    rng = np.random.default_rng(seed)
    size = (n, len(BANDS), *shape)
    data = rng.normal(size=size).astype(dtype) * u.nJy
    scale = rng.uniform(0.2, 0.4, n) * u.arcsec
    if not full:
        return CutoutStack(data, bands=BANDS, pixel_scale=scale)
    return CutoutStack(
        data,
        bands=BANDS,
        wcs=[_make_wcs(i) if i % 3 else None for i in range(n)],
        pixel_scale=scale,
        uncertainty=rng.uniform(0.1, 1, size).astype(dtype),
        mask=rng.random(size) < 0.2,
        psf=rng.random((n, len(BANDS), 5, 5)),
        psf_fwhm=rng.uniform(0.8, 1.5, (n, len(BANDS))) * u.arcsec,
        catalog=_make_catalog(n),
        flags=np.arange(n),
        meta={"SURVEY": "SDSS", "DEPTH": 1 / 3, "note": "a'b & c\n" * 40, "none": None},
    )


def _assert_same(first, second):
    for key in ("data", "uncertainty", "mask", "psf", "psf_fwhm", "pixel_scale"):
        one, other = getattr(first, key), getattr(second, key)
        assert (one is None) == (other is None), key
        if one is not None:
            assert one.dtype == other.dtype, key
            assert getattr(one, "unit", None) == getattr(other, "unit", None), key
            np.testing.assert_array_equal(one, other)
    assert first.bands == second.bands
    assert first.meta == second.meta
    assert first.flags.dtype == second.flags.dtype
    np.testing.assert_array_equal(first.flags, second.flags)
    for one, other in zip(first.wcs, second.wcs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            sky = [
                wcs.pixel_to_world_values([0, 3.3], [1, 8.8]) for wcs in (one, other)
            ]
            np.testing.assert_array_equal(*sky)
    assert (first.catalog is None) == (second.catalog is None)
    if first.catalog is not None:
        _assert_same_table(first.catalog, second.catalog)


def _assert_same_table(first, second):
    assert first.colnames == second.colnames
    assert first.meta == second.meta
    for key in first.colnames:
        one, other = first[key], second[key]
        if isinstance(one, SkyCoord):
            assert one.is_equivalent_frame(other)
            assert (one.ra == other.ra).all() and (one.dec == other.dec).all()
            continue
        assert getattr(one, "unit", None) == getattr(other, "unit", None)
        hidden = [
            np.broadcast_to(getattr(c, "mask", False), len(c)) for c in (one, other)
        ]
        np.testing.assert_array_equal(*hidden)
        plain = [getattr(c, "unmasked", getattr(c, "data", c)) for c in (one, other)]
        np.testing.assert_array_equal(
            *(np.asarray(getattr(c, "value", c))[~hidden[0]] for c in plain)
        )
