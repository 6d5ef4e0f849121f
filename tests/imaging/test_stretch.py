# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.imaging.stretch import asinh_stretch, box_mean


def test_asinh():
    values = torch.cat([-torch.logspace(-8, 8, 400), torch.zeros(1)])
    values = torch.cat([values, -values])
    expected = np.arcsinh(values.double().numpy() / 0.3)
    np.testing.assert_allclose(
        asinh_stretch(values, 0.3), expected, atol=2e-7, rtol=1e-6
    )
    torch.testing.assert_close(
        asinh_stretch(values, 0.3), -asinh_stretch(-values, 0.3), atol=0, rtol=0
    )
    softening = torch.full_like(values, 0.3)
    torch.testing.assert_close(
        asinh_stretch(values, softening), asinh_stretch(values, 0.3)
    )


def test_asinh_changes_nothing_it_is_given():
    values = torch.linspace(-1, 1, 5)
    before = values.clone()
    asinh_stretch(values)
    assert torch.equal(values, before)


@pytest.mark.parametrize("width", [1, 3, 9])
def test_box_mean_is_that_of_pooling(width):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, 21, 21, generator=generator)
    expected = torch.nn.functional.avg_pool2d(
        images, width, 1, width // 2, count_include_pad=False
    )
    torch.testing.assert_close(box_mean(images, width), expected, atol=1e-6, rtol=0)
