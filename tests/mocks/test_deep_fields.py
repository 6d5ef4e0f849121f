# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch
from astropy.cosmology import Planck18

from galml.core import InputError
from galml.mocks import deep_fields
from galml.mocks.deep_fields import (
    COUNTED_TO,
    DEEP_DEPTHS,
    DEEP_FIELDS,
    GALAXIES,
    STARS,
    deep_noise,
    draw_deep_field,
    observe_deep,
)
from galml.mocks.galaxy import Galaxy
from galml.mocks.images import SKY_ERROR
from galml.mocks.space_psf import DEEP_FILTERS
from galml.physics import AB_ZERO


def make_stars(position, spacing=0.01):
    n, count = position.shape[:2]
    flat = torch.ones(n, count)
    return Galaxy(
        position=position,
        velocity=torch.zeros_like(position),
        mass=1e6 * flat,
        dispersion=torch.zeros_like(position),
        age=flat,
        metallicity=0.02 * flat,
        spacing=spacing * flat,
    )


def take(position, light, *, field="EGS", bands=("F160W",), seed=1, **options):
    n = len(position)
    options = {"redshift": 1.5, "n_pixels": 64, "noisy": False} | options
    z = torch.full((n,), options.pop("redshift"))
    generator = torch.Generator().manual_seed(seed)
    return observe_deep(
        make_stars(position),
        light,
        field,
        z,
        options.pop("n_pixels"),
        generator,
        bands=bands,
        **options,
    )


@pytest.mark.parametrize("band", sorted(DEEP_FILTERS))
def test_flux(band):
    images = take(torch.zeros(2, 9, 3), torch.ones(2, 9, 1), bands=(band,))
    expected = 9 * 10 ** (-0.4 * Planck18.distmod(1.5).value)
    # What is missing is in the wings.
    assert (images.data.sum((2, 3)) / expected).mean() == pytest.approx(0.97, abs=0.02)
    assert images.pixel_scale.tolist() == pytest.approx(
        [DEEP_FILTERS[band].pixel_scale] * 2
    )
    assert images.survey.tolist() == [DEEP_FIELDS.index("EGS")] * 2
    assert (images.noise == 0).all()


def test_surface_brightness_fades():
    """As (1 + z)^-4, the light in the band being the same, and sizes follow."""
    count = 40_000
    steps = torch.linspace(0, 1, count + 2)[1:-1].sqrt() * 6
    angle = torch.arange(count) * 2.399963
    disk = torch.stack([steps * angle.cos(), steps * angle.sin(), 0 * steps], -1)[None]
    light = torch.full((1, count, 1), 1e9)
    near, far = (
        take(disk, light, redshift=z, bands=("F814W",), n_pixels=96) for z in (1.0, 2.5)
    )
    level = [one.data[0, 0, 40:56, 40:56].mean().item() for one in (near, far)]
    assert level[1] / level[0] == pytest.approx((2 / 3.5) ** 4, rel=0.01)


@pytest.mark.parametrize("band", sorted(DEEP_FILTERS))
def test_noise_reaches_the_depth(band, monkeypatch):
    """Large areas scatter as the depth says, pixels less, as drizzle makes them."""
    monkeypatch.setattr(deep_fields, "GALAXIES", 1e-9)
    one = DEEP_FILTERS[band]
    dark = torch.zeros(24, 1, 3), torch.zeros(24, 1, 1)
    images = take(*dark, bands=(band,), n_pixels=96, noisy=True)
    data = images.data[:, 0]
    pixel = (data - data.mean((1, 2), keepdim=True)).std()
    assert pixel == pytest.approx(images.noise.mean().item(), rel=0.02)
    r = one.pixfrac * one.native / one.pixel_scale
    correlated = r / (1 - 1 / (3 * r))
    white = deep_noise(one, torch.tensor(DEEP_DEPTHS["EGS"][band])) * one.pixel_scale
    assert white / images.noise.mean() == pytest.approx(correlated, rel=0.03)
    blocks = data.unfold(1, 12, 12).unfold(2, 12, 12).sum((-1, -2))
    scatter = (blocks - blocks.mean((1, 2), keepdim=True)).std()
    # Edges of the blocks hide a little of the noise.
    assert 0.85 * 12 * white < scatter < 1.02 * 12 * white
    level = data.mean((1, 2)).std()
    assert level == pytest.approx(SKY_ERROR * white.item(), rel=0.4)


def test_neighbors():
    generator = torch.Generator().manual_seed(3)
    bands = ("F125W", "F160W")
    depth = torch.tensor([26.0, COUNTED_TO])
    field = draw_deep_field(3000, 12.0, bands, depth, generator)
    number = (field["flux"][..., 1] > 0).sum(1).float().mean()
    assert number == pytest.approx(0.04 * GALAXIES * (1 + STARS), rel=0.05)
    seen = field["flux"][..., 1] > 0
    magnitude = -2.5 * torch.log10(field["flux"][..., 1][seen] / AB_ZERO)
    assert magnitude.max() <= COUNTED_TO + 1e-3
    assert ((magnitude < 24).float().mean() / 10 ** (-0.31 * 2.8)) == pytest.approx(
        1, rel=0.1
    )
    assert (field["x"].abs() <= 6).all()
    radius = field["r_eff"][seen]
    assert (radius == 0).float().mean() == pytest.approx(0.038, abs=0.01)
    assert 0.1 < radius[radius > 0].median() < 0.3


def test_bands_and_fields():
    position, light = torch.zeros(1, 1, 3), torch.ones(1, 1, 1)
    with pytest.raises(InputError, match="field"):
        take(position, light, field="XDF")
    with pytest.raises(InputError, match="UDS"):
        take(position, light, field="UDS", bands=("F200W",))
    with pytest.raises(InputError, match="pixel scale"):
        take(position, light.expand(1, 1, 2), bands=("F814W", "F160W"))
    both = take(position, light.expand(1, 1, 2), bands=("F125W", "F160W"))
    assert both.data.shape == (1, 2, 64, 64)
    assert both.psf_fwhm[0, 0] < both.psf_fwhm[0, 1]


def test_galaxies_do_not_touch():
    generator = torch.Generator().manual_seed(4)
    position = torch.randn(11, 50, 3, generator=generator)
    light = torch.ones(11, 50, 1)
    whole = take(position, light, noisy=True)
    light = torch.cat([light[:10], 1e3 * light[10:]])
    other = take(position, light, noisy=True)
    torch.testing.assert_close(whole.data[:10], other.data[:10])


def sersic_disk(n, r_eff, count):
    """Particles that follow a Sersic profile in steps of equal light."""
    from scipy.special import gammaincinv

    steps = (np.arange(count) + 0.5) / count
    b = gammaincinv(2 * n, 0.5)
    radius = r_eff * (gammaincinv(2 * n, steps) / b) ** n
    angle = np.arange(count) * 2.399963
    place = [radius * np.cos(angle), 0.6 * radius * np.sin(angle), 0 * radius]
    return torch.from_numpy(np.stack(place, -1)).float()[None]


@pytest.mark.parametrize(("n", "r_eff"), [(1.0, 0.3), (2.5, 0.3)])
@pytest.mark.parametrize("band", ["F814W", "F160W", "F200W"])
def test_sersic_galaxy_as_in_galsim(band, n, r_eff, monkeypatch):
    """Flux, size and peak of a Sersic galaxy agree with GalSim's to one per cent."""
    galsim = pytest.importorskip("galsim")
    from galml.mocks import space_psf

    one = DEEP_FILTERS[band]
    flat = space_psf.optical_transfer(one, torch.zeros(1, 6))
    monkeypatch.setattr(space_psf, "WAVEFRONTS", 1)
    monkeypatch.setattr(space_psf, "_bank", lambda name: flat)
    kpc = Planck18.kpc_proper_per_arcmin(1.5).value / 60
    position = sersic_disk(n, r_eff * kpc, 400_000)
    light = torch.full((1, 400_000, 1), 1e14)
    pixels = 128
    images = take(position, light, bands=(band,), n_pixels=pixels)
    data = images.data[0, 0].double().numpy()

    shape = galsim.Sersic(n, half_light_radius=r_eff, flux=400_000 * 1e14)
    shape = shape.transform(1, 0, 0, 0.6) * 10 ** (-0.4 * Planck18.distmod(1.5).value)
    seen = galsim.Convolve(shape / 0.6, telescope_in_galsim(galsim, one))
    offset = (images.center[0] - (pixels - 1) / 2).tolist()
    expected = seen.drawImage(
        nx=pixels, ny=pixels, scale=one.pixel_scale, offset=offset, method="no_pixel"
    ).array
    y, x = np.mgrid[:pixels, :pixels]
    radius = np.hypot(x - images.center[0, 0].item(), y - images.center[0, 1].item())
    for reach in (r_eff, 2 * r_eff, 4 * r_eff):
        inside = radius * one.pixel_scale < reach
        assert data[inside].sum() == pytest.approx(expected[inside].sum(), rel=0.01)
    assert data.max() == pytest.approx(expected.max(), rel=0.02)
    sizes = [half_light(image, radius) for image in (data, expected)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def half_light(image, radius):
    """Radius of half of the light inside of 80 pixels."""
    order = radius.ravel().argsort()
    order = order[radius.ravel()[order] < 80]
    growth = image.ravel()[order].cumsum()
    return np.interp(growth[-1] / 2, growth, radius.ravel()[order])


def telescope_in_galsim(galsim, one):
    """The same telescope by GalSim: its own diffraction, of the same pupil for Webb."""
    from galml.mocks.space_psf import SAMPLES, TELESCOPES, WAVELENGTHS, pupil

    diameter = TELESCOPES[one.telescope][0]
    optics = []
    for wavelength in np.linspace(*one.edges, WAVELENGTHS):
        wave = {"lam": 1e3 * wavelength, "diam": diameter}
        if one.telescope == "HST":
            shape = {"obscuration": 0.33, "nstruts": 4, "strut_thick": 0.011}
            shape["strut_angle"] = 45 * galsim.degrees
        else:
            step = diameter / SAMPLES
            mirror = np.pad(pupil(one.telescope).numpy(), SAMPLES // 2)
            image = galsim.Image(mirror > 0.5, dtype=np.int32, scale=step)
            shape = {"pupil_plane_im": image, "pupil_plane_scale": step}
        optics.append(galsim.OpticalPSF(**wave, **shape, flux=1 / WAVELENGTHS))
    return galsim.Convolve(
        galsim.Sum(optics),
        galsim.Gaussian(sigma=one.blur),
        galsim.Pixel(one.native),
        galsim.Pixel(one.pixfrac * one.native),
        galsim.Pixel(one.pixel_scale),
    )


def test_point_source_as_in_galsim():
    """Light in apertures, for Hubble's pupil as GalSim draws it."""
    galsim = pytest.importorskip("galsim")
    from galml.mocks.space_psf import optical_transfer, profile_fwhm, space_transfer

    for band in ("F814W", "F160W"):
        one = DEEP_FILTERS[band]
        transfer = space_transfer(
            one, 256, torch.zeros(1), optical_transfer(one, torch.zeros(1, 6))
        )
        data = torch.fft.fftshift(torch.fft.irfft2(transfer, s=(256, 256))[0]).numpy()
        expected = telescope_in_galsim(galsim, one).drawImage(
            nx=257, ny=257, scale=one.pixel_scale, method="no_pixel"
        )
        expected = expected.array[:256, :256]
        y, x = np.mgrid[-128:128, -128:128]
        for reach in (2.5, 5, 10, 30):
            inside = np.hypot(x, y) < reach
            assert data[inside].sum() == pytest.approx(expected[inside].sum(), rel=0.01)
        width = profile_fwhm(transfer).item()
        assert width * one.pixel_scale == pytest.approx(
            2
            * math.sqrt((fine(transfer) > fine(transfer).max() / 2).sum() / math.pi)
            * one.pixel_scale
            / 8,
            rel=0.02,
        )


def fine(transfer):
    """A point source on pixels eight times as fine."""
    size = transfer.shape[-2]
    half = size // 2
    large = torch.zeros(8 * size, 4 * size + 1, dtype=transfer.dtype)
    large[:half, :half] = transfer[0, :half, :half]
    large[-half + 1 :, :half] = transfer[0, -half + 1 :, :half]
    return torch.fft.irfft2(large, s=(8 * size, 8 * size)).numpy()
