# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    Cutout2D,
    InverseVariance,
    NDData,
    NDDataRef,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galml.core import Flag, InputError, InputTypeError, InputUnitError
from galml.core.inputs import read

KMS = u.km / u.s
SHAPE = (4, 6)
IMAGE = np.arange(24.0).reshape(SHAPE) - 7.5
MASK = IMAGE > 10


def image_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 10.0, 20.0
    wcs.wcs.cdelt = -1e-4, 1e-4
    wcs.wcs.set()
    return wcs


def ccd(**changes):
    options = {
        "unit": KMS,
        "wcs": image_wcs(),
        "mask": MASK,
        "uncertainty": StdDevUncertainty(np.full(SHAPE, 2.0)),
        "meta": {"OBJECT": "NGC 1", "nested": {"a": [1]}},
    }
    return CCDData(IMAGE, **(options | changes))


def header_hdu(kind):
    hdu = kind(IMAGE)
    hdu.header.update(image_wcs().to_header())
    hdu.header["BUNIT"] = "km/s"
    return hdu


INPUTS = {
    "ccddata": ccd,
    "nddata": lambda: NDData(IMAGE, unit=KMS),
    "nddataref": lambda: NDDataRef(IMAGE, unit=KMS, wcs=image_wcs()),
    "sliced nddataref": lambda: NDDataRef(np.pad(IMAGE, 2), unit=KMS, wcs=image_wcs())[
        2:-2, 2:-2
    ],
    "cutout": lambda: Cutout2D(IMAGE * KMS, (2.5, 1.5), SHAPE, wcs=image_wcs()),
    "quantity": lambda: IMAGE * KMS,
    "column": lambda: Column(IMAGE, unit=KMS),
    "masked column": lambda: MaskedColumn(IMAGE, unit=KMS, mask=MASK),
    "masked quantity": lambda: Masked(IMAGE * KMS, mask=MASK),
    "primary hdu": lambda: header_hdu(fits.PrimaryHDU),
    "image hdu": lambda: header_hdu(fits.ImageHDU),
    "compressed hdu": lambda: header_hdu(fits.CompImageHDU),
    "hdu list": lambda: fits.HDUList(
        [fits.PrimaryHDU(), header_hdu(fits.ImageHDU)],
    ),
}
BARE = {
    "array": lambda: IMAGE.copy(),
    "masked array": lambda: np.ma.array(IMAGE, mask=MASK),
    "big-endian": lambda: IMAGE.astype(">f8"),
    "float32": lambda: IMAGE.astype("f4"),
    "float16": lambda: IMAGE.astype("f2"),
    "Fortran order": lambda: np.asfortranarray(IMAGE),
    "strided": lambda: np.repeat(IMAGE, 2, axis=1)[:, ::2],
}


def fingerprint(obj):
    """Everything about an input that reading might change."""
    if isinstance(obj, fits.HDUList):
        return [fingerprint(hdu) for hdu in obj]
    if isinstance(obj, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)):
        return obj.header.tostring(), None if obj.data is None else obj.data.tobytes()
    parts = [type(obj)]
    for name in ("data", "mask", "unmasked"):
        part = getattr(obj, name, None)
        parts.append(None if part is None else np.asarray(part).tobytes())
    if getattr(obj, "uncertainty", None) is not None:
        parts.append((type(obj.uncertainty), obj.uncertainty.array.tobytes()))
    if isinstance(getattr(obj, "wcs", None), WCS):
        parts.append(obj.wcs.to_header_string())
    parts += [copy.deepcopy(getattr(obj, "meta", None)), getattr(obj, "unit", None)]
    return parts


@pytest.mark.parametrize("kind", INPUTS | BARE)
def test_every_kind_of_input(kind):
    make = (INPUTS | BARE)[kind]
    obj = make()
    before = fingerprint(obj)
    got = read(obj, unit="km/s" if kind in BARE else None)
    assert got.unit == KMS
    assert got.values.dtype in (np.float32, np.float64)
    assert got.values.dtype.isnative
    masked = kind in ("ccddata",) or "masked" in kind
    np.testing.assert_array_equal(got.mask, MASK if masked else np.zeros(SHAPE, bool))
    np.testing.assert_array_equal(got.values, np.where(got.mask, np.nan, IMAGE))
    celestial_wcs = kind in ("ccddata", "cutout") or any(
        word in kind for word in ("hdu", "nddataref")
    )
    assert (got.wcs is not None) == celestial_wcs
    assert bool(got.flags & Flag.NO_WCS) != celestial_wcs
    assert bool(got.flags & Flag.NO_UNCERTAINTY) == (kind != "ccddata")
    assert not got.flags & Flag.NONFINITE
    # Whatever is done to the result, the input stays as it was.
    got.values[:] = 0
    got.mask[:] = True
    if got.std is not None:
        got.std[:] = -1
    got.meta["new"] = 1
    assert fingerprint(obj) == before


def test_read_only_and_memory_mapped(tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, IMAGE)
    mapped = np.load(path, mmap_mode="r")
    got = read(mapped, unit=KMS)
    assert not isinstance(got.values, np.memmap)
    assert got.values.flags.writeable
    np.testing.assert_array_equal(got.values, IMAGE)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("u1", "f4"),
        ("i2", "f4"),
        (">i2", "f4"),
        ("i4", "f8"),
        ("i8", "f8"),
        ("f2", "f4"),
        (">f4", "f4"),
        (">f8", "f8"),
        ("g", "f8"),
    ],
)
def test_precision_follows_the_input(dtype, expected):
    got = read(np.arange(6).reshape(2, 3).astype(dtype), unit=KMS)
    assert got.values.dtype == np.dtype(expected)
    np.testing.assert_array_equal(got.values.ravel(), np.arange(6))


def test_torch_tensor():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(IMAGE, requires_grad=True)
    got = read(tensor, unit=KMS)
    np.testing.assert_array_equal(got.values, IMAGE)
    got.values[:] = 0
    assert tensor[0, 0] == IMAGE[0, 0]


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    arrays(bool, (3, 4)),
)
def test_masked_and_nonfinite_pixels_are_nan(values, mask):
    original = values.tobytes(), mask.tobytes()
    got = read(NDData(values, mask=mask, unit=KMS))
    unusable = mask | ~np.isfinite(values)
    np.testing.assert_array_equal(got.mask, unusable)
    np.testing.assert_array_equal(got.values, np.where(unusable, np.nan, values))
    nonfinite = bool((~np.isfinite(values) & ~mask).any())
    assert bool(got.flags & Flag.NONFINITE) == nonfinite
    assert (values.tobytes(), mask.tobytes()) == original


@pytest.mark.parametrize("mask", [True, np.ones(SHAPE, "u1"), np.ones((1, 6), bool)])
def test_all_masked_is_no_error(mask):
    got = read(NDData(IMAGE, unit=KMS, mask=mask))
    assert got.mask.all()
    assert np.isnan(got.values).all()


# Uncertainties


@pytest.mark.parametrize(
    ("kind", "value"),
    [(StdDevUncertainty, 2.0), (VarianceUncertainty, 4.0), (InverseVariance, 0.25)],
)
@pytest.mark.parametrize("unit", [None, u.m / u.s])
def test_uncertainties_become_standard_deviations(kind, value, unit):
    expected = 2.0
    if unit is not None:
        power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}
        unit, expected = unit ** power[kind], 2.0e-3
    uncertainty = kind(np.full(SHAPE, value, dtype=">f4"), unit=unit)
    got = read(ccd(uncertainty=uncertainty))
    np.testing.assert_allclose(got.std, np.where(MASK, np.nan, expected), rtol=1e-6)
    assert got.std.dtype == got.values.dtype
    assert not got.flags & Flag.NO_UNCERTAINTY


def test_unit_of_the_call_also_holds_for_the_uncertainty():
    data = NDData(IMAGE, uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    got = read(data, unit="km/s")
    np.testing.assert_array_equal(got.std, 1.0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (InverseVariance, 0.0),
        (InverseVariance, -1.0),
        (VarianceUncertainty, -1.0),
        (StdDevUncertainty, -1.0),
        (StdDevUncertainty, np.nan),
        (StdDevUncertainty, np.inf),
    ],
)
def test_useless_uncertainties_mask_their_pixels(kind, value):
    array = np.ones(SHAPE)
    array[1, 2] = value
    got = read(ccd(mask=None, uncertainty=kind(array)))
    assert np.argwhere(got.mask).tolist() == [[1, 2]]
    assert np.isnan(got.values[1, 2])
    assert np.isnan(got.std[1, 2])
    assert not got.flags & Flag.NONFINITE


def test_unknown_uncertainty():
    with pytest.raises(InputTypeError, match="UnknownUncertainty"):
        read(ccd(uncertainty=UnknownUncertainty(np.ones(SHAPE))))


def test_uncertainty_of_another_shape():
    data = NDData(IMAGE, unit=KMS, uncertainty=StdDevUncertainty(np.ones(6)))
    with pytest.raises(InputError, match=r"uncertainty of shape \(6,\)"):
        read(data)


# Errors


@pytest.mark.parametrize(
    ("obj", "kind", "message"),
    [
        (IMAGE, InputUnitError, "without a unit, expected a unit, or unit="),
        (np.ones((2, 2), complex) * KMS, InputTypeError, "complex128"),
        (NDData(np.ones((2, 2), bool), unit=KMS), InputTypeError, "bool"),
        (np.ones(5) * KMS, InputError, r"shape \(5,\), expected 2-D"),
        (np.ones((3, 4, 5)) * KMS, InputError, r"shape \(3, 4, 5\), expected 2-D"),
        (np.float64(3) * KMS, InputError, r"shape \(\)"),
        (np.ones((0, 4)) * KMS, InputError, "at least one pixel"),
        (NDData(IMAGE, unit=KMS, mask=np.ones((3, 3))), InputError, "mask of shape"),
        ([[1.0, 2.0]], InputTypeError, "type list, expected CCDData"),
        (None, InputTypeError, "NoneType"),
        (3.0, InputTypeError, "float"),
    ],
)
def test_errors_name_argument_got_and_expected(obj, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read(obj, argument="velocity_map")
    assert caught.value.argument == "velocity_map"


def test_object_array():
    data = np.empty((2, 2), dtype=object)
    with pytest.raises(InputTypeError, match="object"):
        read(data, unit=KMS)


@pytest.mark.parametrize("unit", ["parsnip", {}, []])
def test_bad_unit_argument(unit):
    with pytest.raises(InputUnitError, match="unit: got"):
        read(IMAGE, unit=unit)


def test_the_data_know_their_unit_best():
    assert read(IMAGE * u.m / u.s, unit="km/s").unit == u.m / u.s


# Names


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        ({"OBJECT": "NGC 1", "NAME": "x"}, "NGC 1"),
        ({"OBJECT": " ", "name": "M 31"}, "M 31"),
        ({"NAME": 31}, "31"),
        ({}, None),
    ],
)
def test_names(meta, name):
    assert read(NDData(IMAGE, unit=KMS, meta=meta)).name == name
