# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.inputs import read
from galml.cutouts import CutoutStack

BANDS = ("g", "r", "i")


INDEX = st.one_of(
    st.slices(5),
    st.lists(st.integers(-5, 4), max_size=7),
    st.lists(st.booleans(), min_size=5, max_size=5).map(np.array),
    st.lists(st.integers(-5, 4), max_size=7).map(lambda i: np.array(i, dtype=np.int16)),
)


@settings(max_examples=60, deadline=None)
@given(INDEX)
def test_slices_are_those_of_arrays(make_stack, item):
    stack = make_stack(5)
    plain = item
    if isinstance(item, list) and not item:
        plain = np.array([], dtype=int)
    part = stack[item]
    for key in (
        "data",
        "uncertainty",
        "mask",
        "psf",
        "psf_fwhm",
        "pixel_scale",
        "flags",
    ):
        np.testing.assert_array_equal(getattr(part, key), getattr(stack, key)[plain])
    places = np.arange(5)[plain]
    assert part.names == [stack.names[i] for i in places]
    assert [id(w) for w in part.wcs] == [id(stack.wcs[i]) for i in places]
    assert part.bands == stack.bands and part.meta == stack.meta


def test_slices_share_memory(make_stack):
    stack = make_stack()
    stack[1:3].data[...] = 7 * u.nJy
    assert (stack.data[1:3].value == 7).all() and (stack.data[3].value != 7).any()


def test_one_galaxy(make_stack):
    stack = make_stack()
    ccd = stack[-3]
    assert isinstance(ccd, CCDData)
    assert ccd.unit == u.nJy
    np.testing.assert_array_equal(ccd.data, stack.data[1].value)
    np.testing.assert_array_equal(ccd.mask, stack.mask[1])
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(ccd.uncertainty.array, stack.uncertainty[1])
    meta = ccd.meta
    assert meta["OBJECT"] == "galaxy 1"
    assert meta["BANDS"] == "g,r,i"
    assert meta["PIXSCALE"] == stack.pixel_scale[1].value
    assert meta["R_EFF"] == pytest.approx(stack.catalog["r_eff"][1].to_value(u.arcsec))
    assert meta["ELLIP"] == stack.catalog["ellipticity"][1]
    assert meta["PA"] == pytest.approx(np.degrees(2 / 3))
    assert [float(w) for w in meta["PSFFWHM"].split(",")] == list(
        stack.psf_fwhm[1].value
    )
    assert meta["FLAGS"] == 1
    assert meta["SURVEY"] == "SDSS"
    assert all(isinstance(value, str | int | float) for value in meta.values())


def test_one_galaxy_with_little_known(make_stack):
    ccd = make_stack(full=False)[np.int64(2)]
    assert set(ccd.meta) == {"BANDS", "PIXSCALE", "FLAGS"}
    assert ccd.wcs is None and ccd.uncertainty is None and ccd.mask is None


def test_wcs_of_one_galaxy_follows_its_slices(make_stack):
    stack = make_stack()
    ccd = stack[1]
    assert ccd.wcs.array_shape == ccd.shape
    sky = stack.wcs[1].pixel_to_world_values(4, 3)
    np.testing.assert_array_equal(ccd.wcs.celestial.pixel_to_world_values(4, 3), sky)
    part = ccd[1:, 2:, 1:]
    ra, dec, band = part.wcs.pixel_to_world_values(3, 1, 0)
    np.testing.assert_allclose([ra, dec, band], [*sky, 2], rtol=1e-12)


def test_distorted_wcs_of_one_galaxy_still_works(make_wcs):
    data = np.zeros((1, 2, 4, 4)) * u.nJy
    wcs = make_wcs(0, distorted=True)
    scale = 1 * u.arcsec
    stack = CutoutStack(data, bands=["g", "r"], wcs=[wcs], pixel_scale=scale)
    assert (
        stack[0].wcs.pixel_to_world(1, 2).separation(wcs.pixel_to_world(1, 2))
        == 0 * u.arcsec
    )


def test_one_galaxy_is_read_by_operations(make_stack):
    observation = read(make_stack()[1], ndim=(3,))
    assert observation.values.shape == (3, 6, 7)
    assert observation.name == "galaxy 1"
    assert observation.std is not None and observation.flags == 0


def test_unknown_pixel_scale(tmp_path, make_stack, assert_same):
    stack = make_stack()
    stack.pixel_scale[:2] = np.nan
    assert "PIXSCALE" not in stack[0].meta and "PIXSCALE" in stack[2].meta
    assert "nan" not in repr(stack)
    assert ", ? arcsec>" in repr(stack[:2])
    stack.write(tmp_path / "stack.fits")
    assert_same(CutoutStack.read(tmp_path / "stack.fits"), stack)


def test_iteration(make_stack):
    stack = make_stack()
    assert [ccd.meta["OBJECT"] for ccd in stack] == stack.names
    assert len(stack) == len(list(stack)) == 4
    with pytest.raises(IndexError):
        stack[4]
    with pytest.raises(IndexError):
        stack[-5]


def test_bands(make_stack, assert_same):
    stack = make_stack()
    some = stack.band("i", "g")
    assert some.bands == ("i", "g")
    for key in ("data", "uncertainty", "mask", "psf", "psf_fwhm"):
        expected = getattr(stack, key)[:, [2, 0]]
        np.testing.assert_array_equal(getattr(some, key), expected)
    assert_same(stack.band(*BANDS), stack)
    with pytest.raises(InputError, match=r"bands: got \['z'\], expected .* g, r, i"):
        stack.band("z")
    with pytest.raises(InputError, match="names that differ"):
        stack.band("g", "g")
    with pytest.raises(InputError, match="got none"):
        stack.band()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=3))
def test_concatenate_undoes_slices(make_stack, assert_same, cuts):
    stack = make_stack(5)
    edges = [0, *sorted(cuts), 5]
    pairs = zip(edges[:-1], edges[1:], strict=True)
    assert_same(CutoutStack.concatenate(stack[a:b] for a, b in pairs), stack)


def test_concatenate_converts_units(make_stack):
    first, second = make_stack(seed=1), make_stack(seed=2)
    second = CutoutStack(
        second.data.to(u.Jy),
        bands=BANDS,
        pixel_scale=second.pixel_scale,
        uncertainty=second.uncertainty * u.nJy,
        psf=second.psf,
        psf_fwhm=second.psf_fwhm,
        catalog=second.catalog,
    )
    both = CutoutStack.concatenate([first, second])
    assert both.unit == u.nJy
    expected = make_stack(seed=2)
    np.testing.assert_allclose(both.data[4:], expected.data, rtol=1e-6)
    np.testing.assert_allclose(both.uncertainty[4:], expected.uncertainty, rtol=1e-6)
    assert not both.mask[4:].any()
    np.testing.assert_array_equal(both.mask[:4], first.mask)


def test_concatenate_refuses_what_does_not_fit(make_stack):
    stack = make_stack()
    joined = CutoutStack.concatenate
    with pytest.raises(InputTypeError, match="one CutoutStack or more"):
        joined([])
    with pytest.raises(InputError, match="bands"):
        joined([stack, stack.band("g")])
    with pytest.raises(InputError, match="pixels"):
        joined([stack, make_stack(shape=(5, 5))])
    with pytest.raises(InputError, match="in all or in none"):
        joined([stack, make_stack(full=False)])
    count = CutoutStack(stack.data.value * u.adu, bands=BANDS, pixel_scale=1 * u.arcsec)
    with pytest.raises(InputUnitError, match="adu"):
        joined([stack, count])
    other = make_stack()
    del other.catalog["flux"]
    with pytest.raises(InputError, match="same columns"):
        joined([stack, other])
    other = make_stack()
    other.psf = other.psf[..., :3, :3]
    with pytest.raises(InputError, match="psf of several sizes"):
        joined([stack, other])


def test_what_is_converted():
    data = np.arange(48, dtype=">i2").reshape(1, 3, 4, 4) * u.adu
    ivar = InverseVariance(np.full(data.shape, 4.0), unit=u.adu**-2)
    stack = CutoutStack(
        data, bands=BANDS, pixel_scale=0.01 * u.arcmin, uncertainty=ivar
    )
    assert stack.data.dtype == np.float64 and stack.data.dtype.isnative
    np.testing.assert_array_equal(stack.data.value, data.value)
    np.testing.assert_allclose(stack.uncertainty, 0.5, rtol=1e-12)
    np.testing.assert_allclose(stack.pixel_scale.value, [0.6], rtol=1e-12)
    assert stack.pixel_scale.unit == u.arcsec
    std = CutoutStack(
        data, bands=BANDS, pixel_scale=1 * u.arcsec, uncertainty=np.ones(data.shape)
    )
    assert (std.uncertainty == 1).all()


DATA = np.zeros((2, 3, 4, 5)) * u.nJy


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": DATA.value}, InputTypeError, "data: got an object of type ndarray"),
        ({"data": DATA[0]}, InputError, r"data: got an array of shape \(3, 4, 5\)"),
        ({"data": DATA[..., :0]}, InputError, "data"),
        ({"data": DATA.astype(complex)}, InputTypeError, "complex"),
        ({"bands": "gri"}, InputTypeError, "bands"),
        ({"bands": ("g", 1, "i")}, InputTypeError, "bands"),
        ({"bands": ("g", "r")}, InputError, "2 names, expected 3"),
        ({"bands": ("g", "r", "r")}, InputError, "names that differ"),
        ({"bands": ("g", "r", "a,b")}, InputError, "without commas"),
        ({"pixel_scale": 0.4}, InputUnitError, "pixel_scale"),
        ({"pixel_scale": None}, InputUnitError, "pixel_scale"),
        ({"pixel_scale": 0.4 * u.nJy}, InputUnitError, "pixel_scale"),
        ({"pixel_scale": 0 * u.arcsec}, InputError, "above zero"),
        ({"pixel_scale": [1, 2, 3] * u.arcsec}, InputError, r"expected \(2,\)"),
        ({"psf_fwhm": np.ones((3, 2)) * u.arcsec}, InputError, "psf_fwhm"),
        ({"wcs": [None]}, InputError, "1 of them, expected 2"),
        ({"wcs": [None, "TAN"]}, InputTypeError, "a str"),
        ({"wcs": [None, WCS(naxis=2)]}, InputError, "two on the sky"),
        ({"uncertainty": np.ones((2, 3, 4))}, InputError, "uncertainty"),
        ({"uncertainty": DATA.value * u.s}, InputUnitError, "uncertainty: got s"),
        ({"mask": np.zeros((3, 4, 5), bool)}, InputError, "mask"),
        ({"mask": np.zeros(DATA.shape)}, InputTypeError, "mask"),
        ({"psf": np.zeros((2, 5, 5))}, InputError, "psf"),
        ({"catalog": QTable({"a": [1]})}, InputError, "1 rows, expected 2"),
        ({"catalog": {"a": [1, 2]}}, InputTypeError, "catalog: got .* dict"),
        ({"flags": [1, 2, 3]}, InputError, "flags"),
        ({"flags": [1.0, 2.0]}, InputTypeError, "flags"),
    ],
)
def test_what_does_not_fit(change, error, message):
    given = {"data": DATA, "bands": BANDS, "pixel_scale": 1 * u.arcsec} | change
    with pytest.raises(error, match=message):
        CutoutStack(given.pop("data"), **given)


@pytest.mark.parametrize("item", [1.5, "g", [0.5], [[0]], (0, 1, "a")])
def test_bad_index(make_stack, item):
    with pytest.raises(InputTypeError, match="index"):
        make_stack()[item]


def test_bad_boolean_index(make_stack):
    with pytest.raises(InputError, match="3 booleans, expected 4"):
        make_stack()[[True, False, True]]


def test_repr(make_stack):
    text = repr(make_stack(full=False)[:1])
    assert text.startswith("<CutoutStack: 1 x (g, r, i) x 6 x 7, nJy, 0.")
    assert " to " in repr(make_stack())
    assert "?" in repr(make_stack()[[]])
    data = np.ones((1, 1, 2, 2)) * u.one
    stack = CutoutStack(data, bands=["r"], pixel_scale=1 * u.arcsec)
    assert repr(stack) == "<CutoutStack: 1 x (r) x 2 x 2, dimensionless, 1 arcsec>"
