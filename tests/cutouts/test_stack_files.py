# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from galml.core.exceptions import FileError, InputError, MissingFileError
from galml.cutouts import CutoutStack


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("full", [True, False])
def test_round_trip(tmp_path, dtype, full, make_stack, assert_same):
    stack = make_stack(dtype=dtype, full=full)
    stack.write(tmp_path / "stack.fits")
    assert_same(CutoutStack.read(tmp_path / "stack.fits"), stack)


def test_round_trip_of_nothing(tmp_path, make_stack, assert_same):
    stack = make_stack()[[]]
    stack.write(tmp_path / "stack.fits")
    assert_same(CutoutStack.read(tmp_path / "stack.fits"), stack)


def test_round_trip_of_nan_and_distortion(tmp_path, make_wcs):
    data = np.full((2, 1, 4, 4), np.nan) * u.Unit("mJy / arcsec2")
    wcs = [make_wcs(1, distorted=True), make_wcs(2, distorted=True)]
    width = [[1.0], [np.nan]] * u.arcsec
    stack = CutoutStack(
        data, bands=["F814W"], wcs=wcs, pixel_scale=0.1 * u.arcsec, psf_fwhm=width
    )
    stack.write(tmp_path / "stack.fits")
    back = CutoutStack.read(tmp_path / "stack.fits")
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_array_equal(back.psf_fwhm, width)
    for one, other in zip(stack.wcs, back.wcs, strict=True):
        sky = [w.pixel_to_world_values([0, 3.3], [1, 2.2]) for w in (one, other)]
        np.testing.assert_allclose(*sky, rtol=1e-12)
        assert other.sip is not None


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=12),
        st.one_of(
            st.text(),
            st.text("'\"&/\\ a", min_size=50),
            st.integers(),
            st.floats(allow_nan=False),
            st.booleans(),
            st.none(),
        ),
        max_size=4,
    )
)
def test_round_trip_of_any_metadata(tmp_path_factory, make_stack, meta):
    path = tmp_path_factory.mktemp("meta") / "stack.fits"
    stack = make_stack(1, full=False)
    stack.meta = meta
    stack.write(path)
    assert CutoutStack.read(path).meta == meta


def test_written_file_is_readable_by_others(tmp_path, make_stack):
    stack = make_stack()
    stack.write(tmp_path / "stack.fits")
    with fits.open(tmp_path / "stack.fits") as hdus:
        assert hdus["DATA"].header["BUNIT"] == "nJy"
        assert hdus["DATA"].data.shape == stack.data.shape
        assert hdus["CATALOG"].data["name"][2] == "galaxy 2"
    with pytest.raises(OSError, match="overwrite"):
        stack.write(tmp_path / "stack.fits")
    stack[:1].write(tmp_path / "stack.fits", overwrite=True)
    assert len(CutoutStack.read(tmp_path / "stack.fits")) == 1


def test_files_that_cannot_be_read_or_written(tmp_path, make_stack):
    path, stack = tmp_path / "stack.fits", make_stack()
    with pytest.raises(MissingFileError, match="path: got .*stack.fits"):
        CutoutStack.read(path)
    with pytest.raises(FileError, match="Is a directory"):
        CutoutStack.read(tmp_path)
    stack.write(path)
    content = path.read_bytes()
    path.write_bytes(b"hello")
    with pytest.raises(FileError, match="cannot be read"):
        CutoutStack.read(path)
    path.write_bytes(content.replace(b"TFIELDS ", b"TFIELDS?"))
    with pytest.raises(InputError, match="cannot be read"):
        CutoutStack.read(path)
    for place in (tmp_path / "nowhere" / "stack.fits", tmp_path):
        with pytest.raises(FileError, match="path: got .* cannot be written"):
            stack.write(place, overwrite=True)
    with open(path, "wb") as file:
        stack.write(file)
    with open(path, "rb") as file:
        assert len(CutoutStack.read(file)) == len(stack)


def test_read_refuses_other_files(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="path: got another kind"):
        CutoutStack.read(tmp_path / "image.fits")
    with pytest.raises(FileNotFoundError):
        CutoutStack.read(tmp_path / "nothing.fits")


def test_write_refuses_what_it_cannot_keep(tmp_path, make_stack):
    stack = make_stack(1, full=False)
    stack.meta["KEY"] = object()
    with pytest.raises(InputError, match="meta"):
        stack.write(tmp_path / "stack.fits")
