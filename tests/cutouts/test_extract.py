# Licensed under a 3-clause BSD style license - see LICENSE.rst
import threading
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS

from galml.core import Flag, InputError
from galml.core.geometry import angle_difference, sky_angle
from galml.cutouts import R_EFF, assembly, extract_cutouts, layout
from galml.cutouts.resampling import pixel_areas

CENTER = SkyCoord(150.0, 60.0, unit="deg")
SHAPE = (160, 170)
# Half-axes (arcsec) and position angle (deg) of the Gaussian source, its flux (nJy).
MAJOR, MINOR, PA, FLUX = 3.0, 1.5, 35.0, 1000.0


def make_wcs(scale=0.4, angle=0.0, parity=-1, sip=False, frame="icrs"):
    wcs = WCS(naxis=2)
    at = CENTER.transform_to(frame).spherical
    names = {"icrs": ("RA---TAN", "DEC--TAN")}.get(frame, ("GLON-TAN", "GLAT-TAN"))
    wcs.wcs.ctype, wcs.wcs.crval = names, [at.lon.deg, at.lat.deg]
    wcs.wcs.crpix = [SHAPE[1] / 2 + 8.3, SHAPE[0] / 2 - 4.4]
    c, s = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[parity * c, s], [-parity * s, c]])
    if not sip:
        return wcs
    header = wcs.to_header(relax=True)
    header.update(CTYPE1=names[0] + "-SIP", CTYPE2=names[1] + "-SIP")
    terms = {"A_2_0": 2e-5, "A_1_1": -1e-5, "B_0_2": -3e-5, "B_2_1": 2e-8}
    header.update(A_ORDER=3, B_ORDER=3, **terms)
    return WCS(header)


def source(wcs, sky, per_pixel=True, shape=SHAPE):
    """Draw an elliptical Gaussian on the sky, integrated over the pixels."""
    steps = (np.arange(5) - 2) / 5
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = np.zeros(shape)
    for dx in steps:
        for dy in steps:
            east, north = offsets(wcs.pixel_to_world(x + dx, y + dy), sky)
            t = np.radians(PA)
            along = east * np.sin(t) + north * np.cos(t)
            across = east * np.cos(t) - north * np.sin(t)
            values += np.exp(-((along / MAJOR) ** 2 + (across / MINOR) ** 2) / 2) / 25
    values *= FLUX / (2 * np.pi * MAJOR * MINOR)
    if not per_pixel:
        return CCDData(values, unit="nJy / arcsec2", wcs=wcs)
    edges = wcs.pixel_to_world(
        *np.meshgrid(*(np.arange(n + 1) - 0.5 for n in shape[::-1]))
    )
    east, north = offsets(edges, sky)
    p = east[1:, 1:] - east[:-1, :-1], north[1:, 1:] - north[:-1, :-1]
    q = east[1:, :-1] - east[:-1, 1:], north[1:, :-1] - north[:-1, 1:]
    values *= np.abs(p[0] * q[1] - p[1] * q[0]) / 2
    return CCDData(values, unit="nJy", wcs=wcs)


def offsets(points, sky):
    """Give offsets (east, north) on the tangent plane in arcsec."""
    points = points.icrs
    lon, lat, lat0 = points.ra.rad - sky.ra.rad, points.dec.rad, sky.dec.rad
    depth = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(lon)
    east = np.cos(lat) * np.sin(lon) / depth
    north = np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(lon)
    return np.degrees(east) * 3600, np.degrees(north / depth) * 3600


def moments(image):
    """Give flux, centroid (x, y) and image angle of the major axis."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    flux = image.sum()
    mx, my = (image * x).sum() / flux, (image * y).sum() / flux
    xx, yy = (image * (x - mx) ** 2).sum(), (image * (y - my) ** 2).sum()
    xy = (image * (x - mx) * (y - my)).sum()
    return flux, (mx, my), np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)) - 90.0


GRIDS = {
    "plain": {},
    "rotated": {"angle": 0.6},
    "flipped": {"angle": 2.0, "parity": 1},
    "distorted": {"angle": 1.0, "sip": True},
    "distorted and flipped": {"angle": -2.5, "parity": 1, "sip": True},
    "fine": {"scale": 0.25, "angle": 0.3, "sip": True},
    "coarse": {"scale": 0.9, "angle": 0.3, "sip": True},
    "galactic": {"frame": "galactic"},
}


@pytest.mark.parametrize("per_pixel", [True, False])
@pytest.mark.parametrize("orientation", ["north", "image"])
@pytest.mark.parametrize("name", GRIDS)
def test_sources_keep_flux_centroid_and_angle(name, orientation, per_pixel):
    wcs = make_wcs(**GRIDS[name])
    sky = wcs.pixel_to_world(80.2, 77.9).icrs
    stack = extract_cutouts(
        source(wcs, sky, per_pixel),
        QTable({"sky": sky[None]}),
        size=52,
        pixel_scale=0.5 * u.arcsec,
        orientation=orientation,
    )
    image = stack.data[0, 0]
    flux, center, angle = moments(image.value)
    factor = 1.0 if per_pixel else stack.pixel_scale[0].value ** 2
    assert flux * factor == pytest.approx(FLUX, rel=1e-3)
    np.testing.assert_allclose(center, 25.5, atol=0.02)
    found = sky_angle(angle, stack.wcs[0], center).to_value(u.deg)
    assert (found - PA + 90) % 180 - 90 == pytest.approx(0, abs=0.1)
    world = stack.wcs[0].pixel_to_world(25.5, 25.5)
    assert world.separation(sky) < 1e-4 * u.arcsec
    if orientation == "north":
        assert (
            abs(angle_difference(sky_angle(0.0, stack.wcs[0], center), 0.0))
            < 1e-6 * u.deg
        )
    assert stack.flags[0] == Flag.NO_UNCERTAINTY


def test_image_orientation_is_that_of_the_image():
    wcs = make_wcs(angle=0.7, parity=1)
    image = CCDData(np.random.default_rng(0).normal(size=SHAPE), unit="nJy", wcs=wcs)
    stack = extract_cutouts(
        image, QTable({"x": [80], "y": [70]}), size=21, orientation="image"
    )
    np.testing.assert_allclose(
        stack.data.value[0, 0], image.data[60:81, 70:91], atol=2e-3
    )


def star(wcs, fwhm, x=80, y=80):
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sigma = fwhm / 0.4 / np.sqrt(8 * np.log(2))
    values = np.exp(-((grid[1] - x) ** 2 + (grid[0] - y) ** 2) / 2 / sigma**2)
    return CCDData(1e3 * values / values.sum(), unit="nJy", wcs=wcs)


@pytest.mark.parametrize("form", ["width", "array", "function"])
def test_stars_get_the_target_psf(form):
    wcs = make_wcs(angle=0.5)
    grid = np.mgrid[-12:13, -12:13]
    array = np.exp(-(grid**2).sum(0) / 2 / (1.2 / 0.4) ** 2 * 8 * np.log(2))
    psf = {
        "width": 1.2 * u.arcsec,
        "array": array,
        "function": lambda x, y: (1.2 + (x - 80) / 1000) * u.arcsec,
    }[form]
    stack = extract_cutouts(
        star(wcs, 1.2),
        QTable({"x": [80], "y": [80]}),
        size=41,
        psf=psf,
        target_psf=2.0 * u.arcsec,
        orientation="image",
    )
    image = stack.data[0, 0].value
    assert image.sum() == pytest.approx(1e3, rel=1e-3)
    y, x = np.mgrid[-20:21, -20:21]
    sigma = np.sqrt((image * x**2).sum() / image.sum())
    assert sigma * np.sqrt(8 * np.log(2)) * 0.4 == pytest.approx(2.0, rel=0.01)
    assert stack.psf_fwhm[0, 0].value == pytest.approx(2.0, rel=0.01)
    half = stack.psf.shape[-1] // 2
    part = image[20 - half : 21 + half, 20 - half : 21 + half]
    np.testing.assert_allclose(
        stack.psf[0, 0], part / 1e3, atol=2e-3 * part.max() / 1e3
    )


def test_psf_turns_with_the_image():
    wcs = make_wcs(angle=0.8, parity=1)
    y, x = np.mgrid[-15:16, -15:16]
    psf = np.exp(-(x**2) / 2 / 9 - y**2 / 2 / 2.25)
    stack = extract_cutouts(
        star(wcs, 1.2), QTable({"x": [80], "y": [80]}), size=21, psf=psf
    )
    found = moments(stack.psf[0, 0])[2] % 180
    expected = sky_angle(90.0, wcs, (80, 80)).to_value(u.deg) % 180
    assert found == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("resampling", ["auto", "adaptive"])
@pytest.mark.parametrize("scale", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("matched", [True, False])
def test_variance_is_that_of_the_noise(scale, matched, resampling):
    wcs = make_wcs(angle=0.3)
    rng = np.random.default_rng(5)
    image = CCDData(
        rng.normal(0, 2, SHAPE),
        unit="nJy",
        wcs=wcs,
        uncertainty=StdDevUncertainty(np.full(SHAPE, 2.0)),
    )
    psf = {"psf": 1.0 * u.arcsec, "target_psf": 1.5 * u.arcsec} if matched else {}
    stack = extract_cutouts(
        image,
        QTable({"x": [80, 60], "y": [80, 85]}),
        size=32 * u.arcsec,
        pixel_scale=scale * u.arcsec,
        resampling=resampling,
        **psf,
    )
    pulls = stack.data.value / stack.uncertainty
    assert pulls.std() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("unit", ["nJy", "nJy / arcsec2"])
@pytest.mark.parametrize("name", ["rotated", "distorted", "galactic"])
@pytest.mark.parametrize("resampling", ["exact", "interp", "adaptive"])
def test_resampling_is_that_of_reproject(resampling, name, unit):
    import reproject

    wcs = make_wcs(**GRIDS[name])
    values = np.random.default_rng(2).normal(5, 1, SHAPE)
    image = CCDData(values, unit=unit, wcs=wcs)
    per_pixel = unit == "nJy"
    scale = 0.3 if resampling == "interp" else 0.6
    stack = extract_cutouts(
        image,
        QTable({"x": [80, 90], "y": [80, 70]}),
        size=32,
        pixel_scale=scale * u.arcsec,
        resampling=resampling,
    )
    options = {"conserve_flux": per_pixel} if resampling == "adaptive" else {}
    for found, target in zip(stack.data.value[:, 0], stack.wcs, strict=True):
        expected = getattr(reproject, f"reproject_{resampling}")(
            (values, wcs), target, found.shape, return_footprint=False, **options
        )
        if per_pixel and resampling != "adaptive":
            x, y = np.meshgrid(*[np.arange(33) - 0.5] * 2)
            corners = np.stack(wcs.world_to_pixel(target.pixel_to_world(x, y)))
            expected = expected * pixel_areas(corners[None])[0]
        tolerance = {"atol": 1e-5 * np.abs(expected).max(), "rtol": 0}
        np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.parametrize("resampling", ["exact", "interp", "adaptive"])
def test_masked_pixels_are_left_out(resampling):
    wcs = make_wcs(angle=0.4)
    image = CCDData(np.full(SHAPE, 3.0), unit="nJy / arcsec2", wcs=wcs)
    image.mask = np.random.default_rng(1).random(SHAPE) < 0.1
    image.mask[75:85, 70:80] = True
    image.data[image.mask] = 1e6
    options = {"size": 40, "pixel_scale": 0.5 * u.arcsec, "resampling": resampling}
    table = QTable({"x": [80], "y": [80]})
    stack = extract_cutouts(image, table, **options)
    np.testing.assert_allclose(stack.data.value[~stack.mask], 3.0, rtol=1e-5)
    usable = CCDData((~image.mask).astype(float), unit=image.unit, wcs=wcs)
    coverage = extract_cutouts(usable, table, **options).data.value
    np.testing.assert_array_equal(stack.mask, coverage < 0.5)
    assert 0.02 < stack.mask.mean() < 0.2


@pytest.mark.parametrize("scale", [0.3, 0.8])
def test_windows_that_are_too_large_are_read_in_parts(monkeypatch, scale):
    wcs = make_wcs(angle=0.4, sip=True)
    rng = np.random.default_rng(3)
    std = StdDevUncertainty(rng.uniform(1, 2, SHAPE))
    image = CCDData(rng.normal(5, 1, SHAPE), unit="nJy", wcs=wcs, uncertainty=std)
    table = QTable({"x": [80, 5], "y": [75, 60]})
    options = {"size": 40, "pixel_scale": scale * u.arcsec}
    options |= {"psf": 1.0 * u.arcsec, "target_psf": 1.4 * u.arcsec}
    expected = extract_cutouts(image, table, **options)
    shapes, read = [], assembly.Chunk._read_some

    def noted(self, member, rows, first, width, kernels):
        shapes.append(width)
        return read(self, member, rows, first, width, kernels)

    monkeypatch.setattr(layout, "LARGEST_WINDOW", 25)
    monkeypatch.setattr(assembly.Chunk, "_read_some", noted)
    stack = extract_cutouts(image, table, **options)
    assert max(shapes) <= 25
    np.testing.assert_array_equal(stack.flags, expected.flags)
    peak = np.nanmax(np.abs(expected.data.value))
    np.testing.assert_allclose(
        stack.data.value, expected.data.value, atol=1e-5 * peak, equal_nan=True
    )
    # The correlation of the noise is worked out at other pixels.
    np.testing.assert_allclose(stack.uncertainty, expected.uncertainty, rtol=0.1)
    np.testing.assert_allclose(stack.psf, expected.psf, atol=0.01 * stack.psf.max())


def test_galaxies_are_detected():
    wcs = make_wcs(angle=0.3)
    places = [(40.3, 50.2), (120.7, 110.1)]
    image = source(wcs, wcs.pixel_to_world(*places[0]).icrs)
    image.data += 0.5 * source(wcs, wcs.pixel_to_world(*places[1]).icrs).data
    image.data += np.random.default_rng(3).normal(0, 0.02, SHAPE)
    image.uncertainty = StdDevUncertainty(np.full(SHAPE, 0.02))
    stack = extract_cutouts({"g": image}, size=6 * R_EFF, n_pixels=40)
    assert len(stack) == 2
    assert (stack.flags & Flag.SIZE_MEASURED).all()
    found = np.stack(wcs.world_to_pixel(stack.catalog["sky"]), axis=-1)
    np.testing.assert_allclose(found, places, atol=0.1)
    # Half of the light of a Gaussian is within 1.1774 standard deviations.
    np.testing.assert_allclose(
        stack.catalog["r_eff"].to_value(u.arcsec), 1.1774 * MAJOR, rtol=0.05
    )
    for ccd, flux in zip(stack, (FLUX, FLUX / 2), strict=True):
        assert ccd.data.sum() == pytest.approx(flux, rel=0.02)


def test_threads_leave_the_filters_of_warnings(tmp_path):
    """Filters belong to the process: threads that change them leave them changed."""
    header = make_wcs(sip=True).to_header(relax=True)
    header["RADECSYS"], header["BUNIT"] = "FK5", "erg/s/cm2/Angstrom"
    header["DATE-OBS"] = 1994.884
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.ones(SHAPE), header).writeto(path)
    catalog = SkyCoord([150.0, 150.001], [60.0, 60.001], unit="deg")

    def work():
        for _ in range(10):
            extract_cutouts({"r": path}, catalog, size=8 * u.arcsec)

    work()
    changed, change = [], warnings.simplefilter
    before = list(warnings.filters)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            warnings,
            "simplefilter",
            lambda *a, **k: changed.append(a) or change(*a, **k),
        )
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(warnings.filters) == before
    # astropy reads units behind a lock of its own, and changes no filter but that.
    assert {arguments[1].__name__ for arguments in changed} <= {"UnitParserWarning"}


def test_psf_in_a_wrong_unit_is_refused():
    wcs = make_wcs()
    image = CCDData(np.ones(SHAPE), unit="nJy", wcs=wcs)
    options = {"size": 20, "psf": 2 * u.arcsec, "target_psf": 3 * u.deg}
    with pytest.raises(InputError, match="got a FWHM of 2.7e.04 pixels"):
        extract_cutouts({"r": image}, CENTER.reshape(1), **options)
