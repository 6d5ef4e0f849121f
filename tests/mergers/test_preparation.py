# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import replace

import numpy as np
import pytest
import torch

from galml.imaging import GalaxyImages
from galml.mergers.preparation import (
    FILTERS,
    INPUT,
    choose_band,
    field_half_widths,
    filter_of,
    prepare,
)
from galml.physics import PIVOT_WAVELENGTHS, pivot_wavelengths


def scene(size=128, seed=0, noise=0.02, tail=True):
    """A galaxy off the middle of an image, with a tail and a neighbor."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    light = np.exp(-np.hypot(x - 3, (y + 2) / 0.7) / 6)
    light += 0.3 * np.exp(-0.5 * (np.hypot(x + 30, y - 25) / 2.5) ** 2)
    if tail:
        light += 0.1 * np.exp(-0.5 * ((y - 0.02 * x**2) / 3) ** 2) * (x > 0) * (x < 40)
    return light + noise * np.random.default_rng(seed).normal(size=light.shape)


def images(data, scale=0.03, band="F814W", **known):
    data = np.asarray(data, dtype=float)
    data = data[None, None] if data.ndim == 2 else data
    n, bands = data.shape[:2]
    values = {
        "r_eff": np.full(n, np.nan),
        "noise": np.full((n, bands), np.nan),
        "psf_fwhm": np.full((n, bands), np.nan),
        "center": np.full((n, 2), np.nan),
        "pixel_scale": np.full(n, scale),
        "flags": np.zeros(n, dtype=int),
        "names": [None] * n,
    } | known
    return GalaxyImages(
        values=data,
        bands=(band,),
        wavelengths=pivot_wavelengths((band,)),
        calibrated=True,
        **values,
    )


def prepared(data, scale=0.03, name="F814W", **known):
    return prepare(images(data, scale, band=name, **known), 0, name)


def number(result, name):
    return result.scalars[:, INPUT.scalars.index(name)]


def plane(result, name):
    return result.image[:, INPUT.channels.index(name)]


@pytest.mark.parametrize(
    "band, name",
    [
        ("F814W", "F814W"),
        ("ACS.F606W", "F814W"),
        ("VIS", "F814W"),
        ("F160W", "F160W"),
        ("WFC3_F125W", "F160W"),
        ("F200W", "F200W"),
        ("F444W", "F200W"),
        ("F606W;CLEAR2L", "F814W"),
        ("H_E", "F160W"),
        ("F129", "F160W"),
        ("J", "r"),
        ("r", "r"),
        ("SDSS_i", "r"),
        ("z", "r"),
        ("F150W2", "F200W"),
        ("F322W2", "F200W"),
        ("F323N", "F200W"),
        ("F405N", "F200W"),
        ("F466N", "F200W"),
        ("F470N", "F200W"),
        ("F164N", "F200W"),
        ("NIRCAM F187N", "F200W"),
        ("F212N", "F200W"),
        ("F1550C", "F200W"),
        ("F090W", "F814W"),
        ("WFC3_F164N", "F160W"),
        ("NICMOS F187N", "F160W"),
        ("HST_F212N", "F160W"),
        ("F098M", "F160W"),
        ("F127M", "F160W"),
        ("F139M", "F160W"),
        ("F153M", "F160W"),
        ("F110M", "F160W"),
        ("F110W", "F160W"),
        ("F240M", "F160W"),
        ("F1042M", "F160W"),
        ("F953N", "F814W"),
        ("F062", "F814W"),
        ("FUV", "r"),
        ("NUV", "r"),
        ("W1", "r"),
        ("NB0816", "r"),
        ("M411", "r"),
    ],
)
def test_bands_stand_for_filters_of_the_training(band, name):
    assert filter_of(band) == name


def test_every_band_stands_for_a_filter():
    assert {filter_of(band) for band in PIVOT_WAVELENGTHS} == set(FILTERS)


@pytest.mark.parametrize(
    "bands, wanted, expected",
    [
        (("g", "r", "i"), None, (1, "r")),
        (("g", "i"), None, (1, "r")),
        (("F606W", "F814W", "F160W"), None, (1, "F814W")),
        (("F606W", "F814W", "F160W"), 1.5, (2, "F160W")),
        (("g", "r", "i"), 0.75, (2, "r")),
    ],
)
def test_one_band_of_several_is_seen(bands, wanted, expected):
    assert choose_band(bands, pivot_wavelengths(bands), wanted) == expected


def test_the_field_is_fixed_on_the_sky():
    for name, (half, pixel, _) in FILTERS.items():
        found = field_half_widths(images(scene(), pixel, name), name)
        np.testing.assert_allclose(found, half / pixel)
    unknown = field_half_widths(images(scene(100), np.nan), "F814W")
    assert unknown.tolist() == [50.0]


def test_shapes_and_no_change_of_the_input():
    data = scene()
    before = data.copy()
    result = prepared(data)
    assert result.image.shape == (1, 5, 64, 64)
    assert result.scalars.shape == (1, len(INPUT.scalars))
    assert torch.isfinite(result.image).all() and torch.isfinite(result.scalars).all()
    np.testing.assert_array_equal(data, before)
    assert number(result, "is_F814W") == 1 and number(result, "is_r") == 0


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_views_are_those_of_the_image(turn):
    first, second = prepared(scene()), prepared(np.rot90(scene(), turn))
    torch.testing.assert_close(
        torch.rot90(first.image, turn, (-2, -1)), second.image, rtol=0, atol=2e-4
    )
    torch.testing.assert_close(first.scalars, second.scalars, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor, sky", [(1e-17, 0.0), (1e12, 0.0), (3.0, 1e4)])
def test_scale_and_sky_do_not_matter(factor, sky):
    first, second = prepared(scene()), prepared(factor * (scene() + sky))
    torch.testing.assert_close(first.image, second.image, rtol=0, atol=5e-3)
    torch.testing.assert_close(first.scalars, second.scalars, rtol=0, atol=1e-3)


def test_other_pixels_show_the_same_field():
    """Pixels are averaged over area: a finer grid gives the same cells."""
    coarse = scene(128)
    fine = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    error = {"noise": np.full((1, 1), 0.02)}
    first = prepared(coarse, 0.03, **error)
    # Pixels of which four make one are as noisy as that one.
    second = prepared(fine, 0.015, noise=np.full((1, 1), 0.04))
    torch.testing.assert_close(first.image, second.image, rtol=0, atol=1e-3)


def test_what_is_unknown_is_not_seen():
    data = scene()
    data[:, 90:] = np.nan
    result = prepared(data)
    cover = plane(result, "coverage")[0]
    assert (cover[:, 46:] == 0).all() and (cover[:, :44] == 1).all()
    for name in ("light", "significance", "residual"):
        assert (plane(result, name)[0][:, 46:] == 0).all()
    assert number(result, "coverage").item() == pytest.approx(90 / 128, abs=0.01)


def test_residual_shows_what_is_not_symmetric():
    """A symmetric galaxy has none; a tail shows up there."""
    symmetric = prepared(scene(tail=False, noise=1e-3))
    tailed = prepared(scene(tail=True, noise=1e-3))
    assert number(tailed, "asymmetry") > number(symmetric, "asymmetry") + 0.05


def test_numbers_tell_what_is_known():
    blind = prepared(scene(), np.nan)
    assert number(blind, "has_scale") == 0 and number(blind, "log_cell") == 0
    assert number(blind, "has_psf") == 0
    known = prepared(scene(), 0.03, psf_fwhm=np.full((1, 1), 4.0))
    assert number(known, "has_scale") == 1 and number(known, "has_psf") == 1
    assert number(known, "log_psf").item() == pytest.approx(np.log10(2), abs=1e-6)
    assert number(known, "log_cell").item() == pytest.approx(0, abs=1e-6)


def test_noise_is_taken_or_measured():
    given = prepared(scene(noise=0.02), noise=np.full((1, 1), 0.02))
    measured = prepared(scene(noise=0.02))
    assert number(given, "log_snr").item() == pytest.approx(
        number(measured, "log_snr").item(), abs=0.08
    )
    worse = prepared(scene(noise=0.02), noise=np.full((1, 1), 0.2))
    assert number(worse, "log_snr") == pytest.approx(
        number(given, "log_snr").item() - 1, abs=1e-5
    )


def test_batches_are_their_members():
    data = np.stack([scene(seed=i) for i in range(70)])[:, None]
    whole = images(data)
    together = prepare(whole, 0, "F814W")
    alone = prepare(whole[66:67], 0, "F814W")
    torch.testing.assert_close(together.image[66:67], alone.image, rtol=0, atol=1e-6)
    assert replace(whole).values is whole.values


def test_no_light_gives_finite_numbers():
    result = prepared(np.zeros((64, 64)))
    assert torch.isfinite(result.image).all() and torch.isfinite(result.scalars).all()
    assert number(result, "log_snr") < 0
