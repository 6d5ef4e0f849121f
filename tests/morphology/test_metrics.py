# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.morphology.metrics import root_mean_square, structural_similarity


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 2, 48, 48, generator=generator).double()
    return first, first + 0.2 * torch.randn(first.shape, generator=generator)


def test_similarity_is_that_of_scikit_image(images):
    from skimage.metrics import structural_similarity as reference

    first, second = images
    # Edges, where windows differ, do not count.
    known = torch.zeros(48, 48)
    known[6:-6, 6:-6] = 1
    found = structural_similarity(first, second, torch.ones(48, 48), 2.0)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options |= {"data_range": 2.0, "full": True}
    for row in range(3):
        maps = [
            reference(a.numpy(), b.numpy(), **options)[1]
            for a, b in zip(first[row], second[row], strict=True)
        ]
        np.testing.assert_allclose(found[row], np.mean(maps), atol=0.01)


def test_equal_images_are_equal(images):
    first, second = images
    ones = torch.ones(1)
    torch.testing.assert_close(
        structural_similarity(first, first, ones), torch.ones(3).double()
    )
    assert (structural_similarity(first, second, ones) < 0.99).all()
    assert (root_mean_square(first, first, ones) == 0).all()


def test_unknown_cells_do_not_count(images):
    first, second = images
    known = torch.zeros(48, 48)
    known[:24] = 1
    other = first.clone()
    other[:, :, 24:] = 100
    assert (root_mean_square(first, other, known) == 0).all()
    torch.testing.assert_close(
        structural_similarity(first, other, known), torch.ones(3).double()
    )
    expected = (first - second)[:, :, :24].square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(root_mean_square(first, second, known), expected)
