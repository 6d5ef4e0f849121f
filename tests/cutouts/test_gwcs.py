# Licensed under a 3-clause BSD style license - see LICENSE.rst
import io
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling import models
from astropy.nddata import NDData, StdDevUncertainty

from galml.core import Flag, InputError
from galml.cutouts import extract_cutouts
from galml.cutouts.detection import detect
from galml.cutouts.images import OpenFiles, open_images
from galml.cutouts.targets import to_pixels

gwcs = pytest.importorskip("gwcs")
asdf = pytest.importorskip("asdf")

SIDE = 160
SIZE = {"size": 20 * u.arcsec, "pixel_scale": 0.6 * u.arcsec}


def make_gwcs(distortion=0.0):
    """A camera of 0.4 arcsec with quadratic distortion and no inverse, or none."""
    from gwcs import coordinate_frames

    transform = models.Shift(-79.5) & models.Shift(-77.5)
    if distortion:
        transform |= models.Mapping((0, 1, 0, 1))
        transform |= models.Polynomial2D(
            2, c1_0=1, c2_0=distortion, c1_1=-distortion
        ) & models.Polynomial2D(2, c0_1=1, c0_2=distortion)
    transform |= models.Rotation2D(20)
    transform |= models.Scale(-0.4 / 3600) & models.Scale(0.4 / 3600)
    transform |= models.Pix2Sky_TAN() | models.RotateNative2Celestial(150, 2, 180)
    detector = coordinate_frames.Frame2D(name="detector", unit=(u.pix, u.pix))
    sky = coordinate_frames.CelestialFrame(
        reference_frame=ICRS(), name="icrs", unit=(u.deg, u.deg)
    )
    wcs = gwcs.WCS([(detector, transform), (sky, None)])
    wcs.bounding_box = ((-0.5, SIDE - 0.5),) * 2
    return wcs


@pytest.fixture
def values():
    y, x = np.mgrid[:SIDE, :SIDE]
    noise = np.random.default_rng(0).normal(0, 1, (SIDE, SIDE))
    return noise + 100 * np.exp(-((x - 80) ** 2 + (y - 70) ** 2) / 2 / 5**2)


@pytest.mark.parametrize("distortion", [0.0, 2e-5])
@pytest.mark.parametrize("form", ["NDData", "tuple"])
def test_generalized_wcs_are_those_of_reproject(values, distortion, form):
    from reproject import reproject_exact

    wcs = make_gwcs(distortion)
    data = {"NDData": NDData(values, unit="MJy / sr", wcs=wcs), "tuple": (values, wcs)}
    stack = extract_cutouts(
        data[form], wcs.pixel_to_world([80], [70]), unit="MJy / sr", **SIZE
    )
    expected = reproject_exact(
        (values, wcs), stack.wcs[0], stack.data.shape[2:], return_footprint=False
    )
    np.testing.assert_allclose(
        stack.data.value[0, 0], expected, atol=1e-5 * 100, rtol=0
    )
    assert stack.flags[0] == Flag.NO_UNCERTAINTY


@pytest.mark.parametrize("distortion", [0.0, 2e-5])
def test_positions_have_exact_pixels(values, distortion):
    wcs = make_gwcs(distortion)
    with OpenFiles() as files:
        data = NDData(values, unit="MJy / sr", wcs=wcs)
        (tile,) = open_images(data, files)[0].tiles
    x, y = np.meshgrid([-5.0, 3, 70, 165], [-4, 80, 163.0])
    wcs.bounding_box = None
    found = to_pixels(tile.wcs, wcs.pixel_to_world(x, y).icrs)
    np.testing.assert_allclose(found, [x, y], atol=1e-6)
    far = wcs.pixel_to_world([80], [70]).directional_offset_by(0 * u.deg, 170 * u.deg)
    assert np.isnan(to_pixels(tile.wcs, far)).all()


@pytest.mark.parametrize("orientation", ["north", "image"])
@pytest.mark.parametrize("resampling", ["exact", "interp", "adaptive"])
def test_cutouts_may_reach_beyond_the_edge(values, orientation, resampling):
    wcs = make_gwcs(2e-5)
    places = wcs.pixel_to_world([80, 155], [70, 60])
    data = NDData(values, unit="MJy / sr", wcs=wcs)
    options = SIZE | {"orientation": orientation, "resampling": resampling}
    stack = extract_cutouts(data, places, **options)
    assert not stack.mask[0].any()
    assert 0.2 < stack.mask[1].mean() < 0.6
    expected = Flag.NO_UNCERTAINTY | Flag.TRUNCATED | Flag.MASKED
    assert stack.flags.tolist() == [Flag.NO_UNCERTAINTY, expected]


@pytest.fixture
def jwst(values, tmp_path):
    """Write a file as JWST's pipeline does."""
    buffer = io.BytesIO()
    asdf.AsdfFile({"meta": {"wcs": make_gwcs(2e-5)}}).write_to(buffer)
    content = np.frombuffer(buffer.getvalue(), np.uint8)[None]
    column = fits.Column(name="ASDF_METADATA", format=f"{content.size}B")
    column.array = content
    science = fits.ImageHDU(values.astype("f4"), name="SCI")
    science.header["BUNIT"] = "MJy/sr"
    quality = np.zeros(values.shape, "u4")
    quality[70, 80], quality[75, 80] = 4, 1 + 4
    hdus = [
        fits.PrimaryHDU(),
        science,
        fits.ImageHDU(np.full(values.shape, 2.0, "f4"), name="ERR"),
        fits.ImageHDU(quality, name="DQ"),
        fits.BinTableHDU.from_columns([column], name="ASDF"),
    ]
    path = tmp_path / "jw.fits"
    fits.HDUList(hdus).writeto(path)
    return path


def test_files_of_jwst(jwst, values):
    wcs = make_gwcs(2e-5)
    mask = np.zeros(values.shape, bool)
    mask[75, 80] = True
    data = NDData(values.astype("f4"), unit="MJy / sr", wcs=wcs, mask=mask)
    data.uncertainty = StdDevUncertainty(np.full(values.shape, 2.0))
    sky = wcs.pixel_to_world([80], [70])
    expected = extract_cutouts(data, sky, size=30, pixel_scale=0.2 * u.arcsec)
    assert 0 < expected.mask.sum() < 10
    for source in (jwst, str(jwst)):
        stack = extract_cutouts(source, sky, size=30, pixel_scale=0.2 * u.arcsec)
        np.testing.assert_array_equal(stack.data, expected.data)
        np.testing.assert_array_equal(stack.uncertainty, expected.uncertainty)
    with fits.open(jwst) as hdus:
        stack = extract_cutouts(hdus, sky, size=30, pixel_scale=0.2 * u.arcsec)
        np.testing.assert_array_equal(stack.data, expected.data)
    table = detect(jwst, threshold=5)
    assert table["sky"][0].separation(sky[0]) < 0.1 * u.arcsec


def test_what_is_not_installed_is_named(jwst, monkeypatch):
    monkeypatch.setitem(sys.modules, "asdf", None)
    with pytest.raises(InputError, match=r"galml\[jwst\] to be installed"):
        extract_cutouts(jwst, make_gwcs().pixel_to_world([80], [70]), size=10)
    # Many products have an approximate WCS in their headers too.
    with fits.open(jwst, mode="update") as hdus:
        hdus["SCI"].header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN")
        hdus["SCI"].header.update(CRVAL1=150.0, CRVAL2=2.0, CRPIX1=80.5, CRPIX2=78.5)
        hdus["SCI"].header.update(CDELT1=-1e-4, CDELT2=1e-4)
    sky = make_gwcs().pixel_to_world([80], [78])
    assert not extract_cutouts(jwst, sky, size=10).mask.any()
