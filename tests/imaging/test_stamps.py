# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.cosmology import Planck18

from galml.core import InputSpec
from galml.core.exceptions import InputError
from galml.core.networks import overlap
from galml.imaging import DIHEDRAL, MIRRORS, Grid, Stamps, regrid
from galml.imaging.stamps import (
    align,
    as_tensor,
    flux_scale,
    galaxy_centers,
    half_widths,
    lies_inside,
    measure_noise,
    measure_size,
    sky_level,
)

SKY = {"far": 3.3, "share": 0.85}
NOISE = SKY | {"lag": 6, "clip": 2.5, "rounds": 6, "clipped_variance": 0.9113}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_regrid_conserves_light():
    data = random(2, 1, 30, 40).abs()
    center = torch.tensor([[19.5, 14.5], [19.5, 14.5]])
    stamps = regrid(data, center, torch.tensor([30.0, 40.0]), 24)
    area = (torch.tensor([60.0, 80.0]) / 24) ** 2
    total = (stamps.mean * stamps.cover).sum((1, 2, 3)) * area
    torch.testing.assert_close(total, data.sum((1, 2, 3)), rtol=1e-5, atol=0)


def test_regrid_to_the_same_pixels():
    data = torch.arange(64.0).reshape(1, 1, 8, 8)
    stamps = regrid(data, torch.tensor([[3.5, 3.5]]), torch.tensor([4.0]), 8)
    torch.testing.assert_close(stamps.mean, data)
    assert (stamps.cover == 1).all()


@pytest.mark.parametrize("size", [30, 3000])
def test_regrid_is_the_mean_over_area(size):
    """Against weights in double precision, far from the corner of the image, too."""
    half = torch.tensor([7.7, 9.1], dtype=torch.float64)
    center = torch.tensor([[size - 15.3, 14.1], [size - 14.2, 17.8]]).double()
    data = random(2, 2, 30, size)
    stamps = regrid(data, center, half, 9)
    step = 2 * half / 9
    rows = overlap(30, center[:, 1] - half, step, 9)[:, None]
    columns = overlap(size, center[:, 0] - half, step, 9)[:, None].transpose(2, 3)
    expected = rows @ data.double() @ columns / (step**2)[:, None, None, None]
    torch.testing.assert_close(stamps.mean.double(), expected, atol=2e-6, rtol=0)


def test_regrid_is_that_of_reproject():
    reproject = pytest.importorskip("reproject")
    from astropy.wcs import WCS

    def grid(center, scale):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crpix = np.array(center) + 1
        wcs.wcs.cdelt = -scale / 3.6e5, scale / 3.6e5
        return wcs

    data = random(1, 1, 40, 40).numpy()
    target = grid((11.5, 11.5), 1.3), (24, 24)
    expected, _ = reproject.reproject_exact(
        (data[0, 0], grid((19.2, 20.1), 1)), target[0], shape_out=target[1]
    )
    center, half = torch.tensor([[19.2, 20.1]]), torch.tensor([12 * 1.3])
    stamps = regrid(torch.from_numpy(data), center, half, 24)
    np.testing.assert_allclose(stamps.mean[0, 0], expected, atol=1e-5)


def test_whole_images_are_prepared_as_others_are():
    data = random(3, 2, 64, 60)
    center, half = torch.tensor([[29.3, 31.0]] * 3), torch.tensor([20.0, 25.0, 27.0])
    grid = Grid(36, 4.2)
    first = regrid(data, center, half, 36, whole=True)
    second = regrid(data, center, half, 36)
    assert first.whole and not second.whole
    for key in ("mean", "cover", "reduction"):
        torch.testing.assert_close(getattr(first, key), getattr(second, key))
    torch.testing.assert_close(
        sky_level(first, grid, **SKY), sky_level(second, grid, **SKY)
    )
    torch.testing.assert_close(
        measure_noise(first, grid, **NOISE), measure_noise(second, grid, **NOISE)
    )


def test_unknown_pixels_do_not_count():
    data = torch.ones(1, 2, 24, 24)
    data[0, 1, :, :7] = torch.nan
    data[0, 1, :, 7] = 5.0
    stamps = regrid(data, torch.tensor([[11.5, 11.5]]), torch.tensor([12.0]), 8)
    assert (stamps.mean[0, 0] == 1).all() and (stamps.cover[0, 0] == 1).all()
    assert (stamps.mean[0, 1, :, :2] == 0).all() and (
        stamps.cover[0, 1, :, :2] == 0
    ).all()
    torch.testing.assert_close(stamps.cover[0, 1, :, 2], torch.full((8,), 2 / 3))
    torch.testing.assert_close(stamps.mean[0, 1, :, 2], torch.full((8,), 3.0))


@pytest.mark.parametrize("half", [10.0, 23.0, 40.0])
def test_error_of_cells(half):
    noise = random(200, 1, 90, 90)
    center = torch.full((200, 2), 44.3)
    stamps = regrid(noise, center, torch.full((200,), half), 30)
    assert (stamps.cover > 0).all()
    error = stamps.reduction[0].item()
    assert stamps.mean.std().item() == pytest.approx(error, rel=0.02)


def test_sky_and_noise():
    grid = Grid(72, 4.2426)
    data = 0.3 * random(40, 2, 100, 100) + torch.tensor([3.0, -1.0])[:, None, None]
    center, half = torch.full((40, 2), 49.5), torch.full((40,), 45.0)
    # A galaxy in the middle does no harm, nor do stars.
    data[:, :, 40:60, 40:60] += 50
    data[:, :, 2:5, 7:10] += 100
    stamps = regrid(data, center, half, 72)
    sky = sky_level(stamps, grid, **SKY)
    torch.testing.assert_close(
        sky, torch.tensor([3.0, -1.0]).expand(40, 2), atol=0.02, rtol=0
    )
    noise = measure_noise(stamps, grid, **NOISE)
    assert noise.mean().item() == pytest.approx(0.3, rel=0.03)
    assert noise.std().item() < 0.03


def test_images_that_end_early_have_sky_where_they_end():
    grid = Grid(24, 4.0)
    data = torch.ones(1, 1, 20, 20)
    data[..., 4:16, 4:16] = 9
    stamps = regrid(data, torch.tensor([[9.5, 9.5]]), torch.tensor([20.0]), 24)
    assert sky_level(stamps, grid, **SKY).item() == 1
    empty = Stamps(
        torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 24, 24), torch.ones(1), False
    )
    assert sky_level(empty, grid, **SKY).item() == 0
    assert measure_noise(empty, grid, **NOISE).item() == 0


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 145.0])
def test_alignment(degrees):
    grid, target = Grid(72, 6.0), Grid(48, 4.0)
    angle = math.radians(degrees)
    x, y = grid.x, grid.y
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    planes = torch.exp(-0.5 * (along**2 + (across / 0.4) ** 2))[None, None]
    found = align(planes, torch.tensor([angle]), grid, target)[0, 0]
    expected = torch.exp(-0.5 * (target.x**2 + (target.y / 0.4) ** 2))
    # Linear interpolation is wrong by an eighth of curvature times squared step.
    assert (found - expected).abs().max() < 0.022


def test_flux_scale():
    data = torch.ones(6, 4, 5, dtype=torch.float64)
    data *= torch.tensor([1, 1e-9, 1e-30, -1e20, 0, 1e300])[:, None, None]
    data[2, 0, 0] = torch.nan
    data[5, :2] = torch.nan
    zero = torch.zeros(6, 2)
    scale = flux_scale([data, data.flip(1)], zero)
    assert scale[[0, 1, 4]].tolist() == [1, 1, 1]
    top = data.abs().nan_to_num(0).amax((1, 2)) * scale
    assert ((top[[2, 3, 5]] > 0.7) & (top[[2, 3, 5]] < 1.5)).all()
    assert (scale.log2() == scale.log2().round()).all()
    # What is subtracted does not count.
    assert (flux_scale([data[:1] + 1e13], torch.full((1, 1), 1e13)) == 1).all()


def test_grid():
    grid = Grid(4, 2.0)
    assert grid.x.tolist() == [[-1.5, -0.5, 0.5, 1.5]]
    assert grid.y.flatten().tolist() == grid.step.tolist()
    assert grid.radius[0, 0].item() == pytest.approx(1.5 * math.sqrt(2))
    assert hash(grid) == hash(Grid(4, 2.0))


def test_centers(make_disks, make_images):
    data, radii, *_ = make_disks()
    images = make_images(data, radii)
    images.center[2] = 20, 30
    found = galaxy_centers(images)
    assert found[0].tolist() == [25.5, 23.5] and found[2].tolist() == [20, 30]
    inside = lies_inside(images, torch.tensor([24.0, 24.1, 17.6, 17.5, 1.0, 99.0]))
    assert inside.tolist() == [True, False, False, True, True, False]
    assert lies_inside(images, torch.full((6,), 17.5))[2]


def test_half_widths(make_disks, make_images):
    data, radii, *_ = make_disks()
    scale = np.array([0.1, 0.2, 0.4, np.nan, 1.0, 1.0])
    images = make_images(data, radii, pixel_scale=scale)

    def width(unit, **options):
        spec = InputSpec(half_width=3.0, width_unit=unit)
        return half_widths(images, spec, **options).numpy()

    np.testing.assert_allclose(width("r_eff"), 3 * radii)
    np.testing.assert_allclose(width("pix"), 3)
    np.testing.assert_allclose(width("arcsec"), 3 / scale)
    np.testing.assert_allclose(width("arcmin"), 180 / scale)
    redshift = np.linspace(0.1, 0.6, 6)
    kpc = Planck18.kpc_proper_per_arcmin(redshift).to_value(u.kpc / u.arcsec)
    np.testing.assert_allclose(width("kpc", redshift=redshift), 3 / kpc / scale)
    with pytest.raises(InputError, match="^redshift: got None"):
        width("kpc")
    with pytest.raises(InputError, match="^width_unit: got 'km / s'"):
        width("km / s")


def test_size(make_disks):
    data, radii, *_ = make_disks(shape=(80, 80), noise=0.02)
    sky = 40.0
    for image, radius in zip(data[:, 1] + sky, radii, strict=True):
        found, center = measure_size(image, np.nan)
        assert found == pytest.approx(radius, rel=0.2)
        assert np.abs(center - 39.5).max() < 0.7
    assert np.isnan(measure_size(np.full((30, 30), np.nan), np.nan)[0])


def test_tensors_of_any_array():
    array = np.arange(24.0).reshape(2, 3, 4)
    assert np.shares_memory(as_tensor(array).numpy(), array)
    frozen = array.copy()
    frozen.flags.writeable = False
    for other in (array[..., ::-1], frozen, np.broadcast_to(array, (2, 2, 3, 4))):
        np.testing.assert_array_equal(as_tensor(other), other)


def test_views():
    image = random(1, 1, 8, 8)
    seen = [view.apply({"image": image})["image"] for view in DIHEDRAL]
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8
    mirrors = [view.apply({"image": image})["image"] for view in MIRRORS]
    flips = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    for flip in flips:
        assert sum(torch.equal(flip, one) for one in mirrors) == 1
