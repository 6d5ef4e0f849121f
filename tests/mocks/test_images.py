# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch
from astropy.cosmology import Planck18
from astropy.modeling.fitting import TRFLSQFitter
from astropy.modeling.models import Moffat2D

from galml.core import InputError
from galml.mocks.galaxy import DustDisk, Galaxy, rotation_matrix
from galml.mocks.images import (
    MOST,
    distance,
    draw_field,
    field_spectrum,
    observe_light,
    redshift_of,
    sky_noise,
)
from galml.mocks.light import dust_depth, starlight
from galml.mocks.surveys import IMAGING_SURVEYS
from galml.physics import AB_ZERO, SOLAR_MAGNITUDES

SDSS = IMAGING_SURVEYS[0]
BANDS = ("g", "r", "i")
DUST = {"depth": 1.5, "length": 4.0, "height": 0.2}


def dust_disk(n=1, **changes):
    values = (DUST | changes).values()
    return DustDisk(*(torch.full((n,), value) for value in values))


def make_stars(position, age=5.0, spacing=0.01, **dust):
    n, count = position.shape[:2]
    flat = torch.ones(n, count)
    return Galaxy(
        position=position,
        velocity=torch.zeros_like(position),
        mass=1e6 * flat,
        age=age * flat,
        metallicity=0.02 * flat,
        spacing=spacing * flat,
        component=torch.zeros(n, count, dtype=torch.int8),
        dispersion=torch.zeros_like(position),
        dust=(dust_disk(n, **dust),),
    )


def exponential_disk(n=1, count=20_000, length=3.0, height=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    steps = (torch.arange(count) + 0.5) / count
    radius = torch.linspace(0, 12, 4000)
    content = 1 - (1 + radius) * torch.exp(-radius)
    radius = torch.from_numpy(np.interp(steps, content, radius)).float() * length
    angle = 2 * math.pi * torch.rand(n, count, generator=generator)
    level = torch.rand(n, count, generator=generator).clamp(1e-5, 1 - 1e-5)
    height = 0.5 * height * (level / (1 - level)).log()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)


def tilted(stars, degrees):
    axis = torch.tensor([[1.0, 0, 0]]).expand(len(stars), 3)
    return stars.rotated(
        rotation_matrix(axis, torch.full((len(stars),), math.radians(degrees)))
    )


def picture(stars, light, *, redshift=0.05, n_pixels=128, seed=1, **options):
    generator = torch.Generator().manual_seed(seed)
    z = torch.full((len(stars),), redshift)
    options = {"bands": BANDS, "noisy": False} | options
    return observe_light(stars, light, SDSS, z, n_pixels, generator, **options)


@pytest.mark.parametrize("spacing", [0.01, 3.0])
def test_flux_is_conserved(spacing):
    stars = make_stars(exponential_disk(length=1.0), spacing=spacing)
    light = torch.rand(1, 20_000, 3) * 1e6
    images = picture(stars, light)
    magnitude = [
        SOLAR_MAGNITUDES[band] - 2.5 * math.log10(light[0, :, i].double().sum())
        for i, band in enumerate(BANDS)
    ]
    magnitude = np.array(magnitude) + Planck18.distmod(0.05).value
    expected = 3631e9 * 10 ** (-0.4 * magnitude)
    assert images.data[0].sum((1, 2)).tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["SDSS", "LSST", "ACS"])
def test_point_spread_function(name):
    survey = next(s for s in IMAGING_SURVEYS if s.name == name)
    images = observe_light(
        make_stars(torch.zeros(25, 10, 3)),
        torch.ones(25, 10, 1),
        survey,
        torch.full((25,), 0.1),
        32,
        torch.Generator().manual_seed(2),
        bands=survey.bands[-1:],
        noisy=False,
    )
    y, x = np.mgrid[:32, :32]
    ratio = []
    for data, center, fwhm in zip(
        images.data[:, 0].double().numpy(),
        images.center.tolist(),
        images.psf_fwhm[:, 0].tolist(),
        strict=True,
    ):
        start = Moffat2D(data.max(), *center, 2.0, survey.moffat)
        start.alpha.fixed = True
        fit = TRFLSQFitter()(start, x, y, data)
        assert (fit.x_0.value, fit.y_0.value) == pytest.approx(center, abs=0.05)
        ratio.append(fit.fwhm / fwhm)
    # A lone particle is wider between pixels than on one, by a few per cent.
    assert np.mean(ratio) == pytest.approx(1, abs=0.007)
    assert np.ptp(ratio) < 0.15


def test_half_light_radius():
    """Of an exponential disk: 1.678 scale lengths."""
    stars = make_stars(exponential_disk(length=3.0), spacing=0.1)
    images = picture(stars, torch.ones(1, 20_000, 3), redshift=0.03, n_pixels=192)
    y, x = torch.meshgrid(*2 * [torch.arange(192.0)], indexing="ij")
    radius = torch.hypot(x - images.center[0, 0], y - images.center[0, 1]).flatten()
    order = radius.argsort()
    growth = images.data[0, 1].flatten()[order].cumsum(0)
    half = radius[order][(growth < 0.5 * growth[-1]).sum()]
    kpc = images.pixel_scale * distance(images.redshift)[1]
    # The point spread function adds one per cent.
    assert half * kpc.item() == pytest.approx(1.678 * 3.0, rel=0.02)


def test_noise_reaches_the_depth():
    """The best weights detect a source of the limiting magnitude at 5 sigma."""
    for survey in IMAGING_SURVEYS:
        fwhm, depth = torch.tensor(survey.seeing), torch.tensor(survey.depth)
        noise = sky_noise(fwhm, depth, survey.moffat)
        y, x = np.mgrid[-300:301, -300:301] * fwhm[0].item() / 20
        core = fwhm[0].item() / 2 / math.sqrt(2 ** (1 / survey.moffat) - 1)
        shape = (1 + (x**2 + y**2) / core**2) ** -survey.moffat
        pixel = fwhm[0].item() / 20
        shape /= shape.sum()
        flux = AB_ZERO * 10 ** (-0.4 * survey.depth[0])
        snr = flux * math.sqrt((shape**2).sum()) / (noise[0].item() * pixel)
        assert snr == pytest.approx(5, rel=0.01)


def test_noise_of_images():
    stars = make_stars(torch.zeros(32, 1, 3))
    images = picture(stars, torch.zeros(32, 1, 3), n_pixels=64, noisy=True)
    median = images.data.flatten(2).median(2).values
    away = (images.data - median[..., None, None]).abs().flatten(2)
    ratio = 1.4826 * away.median(2).values / images.noise
    assert ratio.median() == pytest.approx(1.0, abs=0.03)
    assert (images.noise > 0).all()
    bright = picture(stars, torch.full((32, 1, 3), 1e12), noisy=True, n_pixels=64)
    clean = picture(stars, torch.full((32, 1, 3), 1e12), n_pixels=64)
    level = AB_ZERO * 10 ** (-0.4 * 20.9) * 0.396**2
    peak = clean.data[:, 1].amax((1, 2))
    expected = bright.noise[:, 1] * (1 + peak / level).sqrt()
    at = clean.data[:, 1].flatten(1).argmax(1, keepdim=True)
    off = (bright.data - clean.data)[:, 1].flatten(1).gather(1, at)[:, 0]
    assert 0.6 < (off / expected).std() < 1.5


def test_optical_depth():
    """Against a direct sum along the line of sight."""
    generator = torch.Generator().manual_seed(3)
    position = torch.randn(1, 40, 3, generator=generator) * torch.tensor([4, 4, 0.3])
    for degrees, tolerance in ((0, 1e-4), (60, 0.01), (80, 0.08)):
        stars = tilted(make_stars(position), degrees)
        step = torch.linspace(0, 60, 60_001)[:, None, None]
        towards = -stars.frame[0, 2]
        x, y, z = (position + step * towards).double().unbind(-1)
        dust = torch.exp(-torch.hypot(x, y) / 4 - z.abs() / 0.2)
        expected = 1.5 / 0.4 * torch.trapezoid(dust, dx=0.001, dim=0).float()
        depth = dust_depth(stars.position, stars.dust[0])[0]
        error = (depth - expected).abs()
        assert (error < tolerance * (expected + 0.05)).all()


def test_edge_on_is_red():
    stars = make_stars(exponential_disk(length=4.0, height=0.8), age=3.0)
    colors, brightness = [], []
    for degrees in (0, 50, 85):
        light = starlight(tilted(stars, degrees), BANDS).sum(1)[0]
        colors.append(-2.5 * torch.log10(light[0] / light[1]).item())
        brightness.append(light[1].item())
    assert colors[0] < colors[1] < colors[2]
    assert colors[2] > colors[0] + 0.02
    assert brightness[0] > brightness[1] > brightness[2]
    # The lane: the middle plane is redder than the light above it.
    edge = tilted(stars, 88)
    light = starlight(edge, BANDS)[0]
    plane = edge.position[0, :, 1].abs() < 0.1
    above = edge.position[0, :, 1].abs() > 0.4
    lane, rest = (light[rows].sum(0) for rows in (plane, above))
    assert (lane[0] / lane[2]) < 0.93 * (rest[0] / rest[2])


def test_young_stars_are_in_clouds():
    light = [
        starlight(make_stars(torch.zeros(1, 1, 3), age=age, depth=0.0), BANDS)
        for age in (0.0099, 0.0101)
    ]
    assert light[0][0, 0, 1] == pytest.approx(
        light[1][0, 0, 1] * math.exp(-((0.617 / 0.55) ** -0.7)), rel=0.05
    )


def test_galaxies_do_not_touch():
    """Light and pictures of a galaxy are the same whatever comes with it."""
    position = exponential_disk(11, 500, seed=4)
    stars = tilted(make_stars(position), 40)
    light = starlight(stars, BANDS)
    torch.testing.assert_close(starlight(stars[9:], BANDS), light[9:])
    whole = picture(stars, light, n_pixels=32)
    light = torch.cat([light[:10], 1e3 * light[10:]])
    other = picture(stars, light, n_pixels=32)
    torch.testing.assert_close(whole.data[:10], other.data[:10])
    assert len(whole[3:5]) == 2
    assert whole[3:5].bands == BANDS


def test_field():
    generator = torch.Generator().manual_seed(5)
    depth = torch.tensor([23.0, 22.7, 22.0])
    field = draw_field(4000, torch.full((4000,), 25.0), BANDS, depth, generator)
    number = (field["flux"][..., 1] > 0).sum(1).float().mean().item()
    area = (25 / 3600) ** 2
    expected = area * (3500 * 10 ** (0.45 * 3) + 2500 * 10 ** (0.15 * 3))
    assert number == pytest.approx(expected, rel=0.05)
    huge = draw_field(50, torch.full((50,), 400.0), BANDS, depth, generator)
    assert huge["flux"].shape == (50, MOST, 3)
    assert (huge["x"].abs() <= 200).all()
    color = -2.5 * torch.log10(field["flux"][..., 0] / field["flux"][..., 1])
    assert 0.4 < color.nanmean() < 0.8


def test_field_galaxy_has_its_radius_and_flux():
    one = torch.ones(1, 1)
    field = {
        "flux": 7 * one[..., None],
        "x": 3 * one,
        "y": -2 * one,
        "r_eff": 4 * one,
        "axis_ratio": 0.5 * one,
        "angle": 0.3 * one,
    }
    spectrum = field_spectrum(field, torch.tensor([0.5]), 160)
    image = torch.fft.irfft2(spectrum, s=(160, 160))[0, 0]
    assert image.sum() == pytest.approx(7, rel=1e-4)
    y, x = torch.meshgrid(*2 * [(torch.arange(160.0) - 79.5) * 0.5], indexing="ij")
    x, y = x - 3, y + 2
    major = x * math.cos(0.3) + y * math.sin(0.3)
    minor = y * math.cos(0.3) - x * math.sin(0.3)
    inside = torch.hypot(major, minor / 0.5) < 4
    assert image[inside].sum() == pytest.approx(3.5, rel=0.02)


def test_distance():
    z = torch.tensor([0.003, 0.02, 0.1, 0.7])
    modulus, kpc = distance(z)
    assert modulus.tolist() == pytest.approx(Planck18.distmod(z).value, abs=1e-3)
    expected = Planck18.kpc_proper_per_arcmin(z).value / 60
    assert kpc.tolist() == pytest.approx(expected, rel=1e-3)
    assert redshift_of(kpc).tolist() == pytest.approx(z.tolist(), rel=1e-3)


def test_bands_must_exist():
    stars = make_stars(torch.zeros(1, 1, 3))
    with pytest.raises(InputError, match="SDSS"):
        picture(stars, torch.ones(1, 1, 1), bands=("F814W",))


def test_binned_pixels_hold_the_sum():
    stars = make_stars(exponential_disk(length=4.0), spacing=0.2)
    light = torch.ones(1, 20_000, 3)
    fine = picture(stars, light, redshift=0.02, n_pixels=256)
    coarse = picture(stars, light, redshift=0.02, n_pixels=64, binning=4)
    # The same galaxy lies elsewhere on the pixels: compare radial growth.
    growth = []
    for images in (fine, coarse):
        n = images.data.shape[-1]
        y, x = torch.meshgrid(*2 * [torch.arange(n * 1.0)], indexing="ij")
        x, y = x - images.center[0, 0], y - images.center[0, 1]
        radius = torch.hypot(x, y) * images.pixel_scale
        growth.append(images.data[0, 1][radius < 10].sum().item())
    assert growth[0] == pytest.approx(growth[1], rel=0.03)
    assert coarse.data.min() > -1e-3 * coarse.data.max()
