# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch

from galml.imaging import aligned, read_images
from galml.morphology.preparation import (
    INPUT,
    blurred,
    degrade,
    drawn,
    known_cells,
    pixel_noise,
    prepare_pairs,
)
from galml.physics import generator_for


@pytest.fixture
def images(disk):
    rng = np.random.default_rng(0)
    data = np.stack([[disk(q), 2 * disk(q), 3 * disk(q)] for q in (0.4, 0.7, 0.9)])
    data = 1e3 * data + rng.normal(size=data.shape)
    known = {"bands": ("g", "r", "i"), "r_eff": 10 * u.pix}
    (images,) = read_images(data * u.nJy, **known).members
    return images


def test_drawn_planes_are_bands_in_units_of_their_own_light(images):
    prepared = aligned.prepare(images, INPUT)
    planes = drawn(prepared.image)
    # The three bands have the same shape here.
    for other in (planes[:, 1], planes[:, 2]):
        difference = (planes[:, 0] - other).abs()
        assert difference.mean() < 0.01 and difference.amax() < 0.15
    assert planes[:, 0].amax() > 0.9


def test_what_is_known(images):
    prepared = aligned.prepare(images, INPUT)
    known = known_cells(prepared.image, prepared.scalars)
    assert known.shape == (3, 3, 64, 64) and known[:, :, 32, 32].min() == 1
    one = images[:1]
    alone = read_images(one.values[:, 1] * u.nJy, r_eff=10 * u.pix)
    (alone,) = alone.members
    prepared = aligned.prepare(alone, INPUT)
    known = known_cells(prepared.image, prepared.scalars)
    assert known[:, 0].max() == 1 and known[:, 1:].max() == 0


def test_frame_tells_where_the_square_lies(images, disk):
    frame = aligned.prepare(images, INPUT).frame.numpy()
    np.testing.assert_allclose(frame[:, :2], 47.5)
    np.testing.assert_allclose(frame[:, 2], INPUT.half_width * 10)
    np.testing.assert_allclose(np.rad2deg(frame[:2, 3]) % 180, 30, atol=3)
    unit = frame[:, 4:7] / frame[:, 4:5]
    # Reference, blue, red.
    np.testing.assert_allclose(unit, [[1, 0.5, 1.5]] * 3, rtol=0.01)
    np.testing.assert_allclose(frame[:, 7:], 0, atol=5)


def test_poorer_images_are_blurred_and_noisy(images):
    before = images.values.copy()
    poorer = [degrade(images, generator_for(1, "test", i)) for i in range(30)]
    np.testing.assert_array_equal(images.values, before)
    noise = np.array(
        [pixel_noise(torch.from_numpy(p.values)).numpy()[:, 0] for p in poorer]
    )
    peak = np.array([p.values[:, -1].max((1, 2)) for p in poorer if len(p.bands) == 3])
    assert noise.min() < 1.5 and noise.max() > 4
    assert (
        peak.min() < 0.6 * before[:, 2].max() and peak.max() < 1.2 * before[:, 2].max()
    )
    bands = {p.bands for p in poorer}
    assert bands == {("g", "r", "i"), ("r",)}
    assert all(np.isnan(p.noise).all() and np.isnan(p.psf_fwhm).all() for p in poorer)


def test_noise_of_pixels():
    generator = torch.Generator().manual_seed(0)
    data = 3 * torch.randn(2, 2, 64, 64, generator=generator)
    data[0, 0, :20] = torch.nan
    torch.testing.assert_close(
        pixel_noise(data), torch.full((2, 2), 3.0), rtol=0.06, atol=0
    )


def test_blur_is_that_of_scipy():
    from scipy.ndimage import gaussian_filter

    data = torch.zeros(2, 1, 41, 41)
    data[:, :, 20, 18] = 1
    result = blurred(data, torch.tensor([2.0, 0.0]))
    expected = gaussian_filter(data[0, 0].numpy(), 2.0, truncate=8)
    np.testing.assert_allclose(result[0, 0], expected, atol=1e-4)
    assert torch.equal(result[1], data[1])
    data[0, 0, 0, 0] = torch.nan
    result = blurred(data, torch.tensor([2.0, 0.0]))
    assert result[0, 0].isnan().sum() == 1
    flat = blurred(torch.ones(1, 1, 20, 20), torch.tensor([3.0]))
    torch.testing.assert_close(flat, torch.ones(1, 1, 20, 20))


def test_pairs(images):
    pairs = prepare_pairs(images, INPUT, generator_for(1, "test", 0))
    alone = aligned.prepare(images, INPUT)
    assert torch.equal(pairs.image, alone.image)
    assert pairs.other_image.shape == pairs.image.shape
    assert not torch.allclose(pairs.other_image, pairs.image, atol=0.05)
    again = prepare_pairs(images, INPUT, generator_for(1, "test", 0))
    assert torch.equal(pairs.other_image, again.other_image)
