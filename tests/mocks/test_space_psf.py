# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks.space_psf import (
    DEEP_FILTERS,
    TELESCOPES,
    draw_transfer,
    noise_response,
    optical_transfer,
    profile_fwhm,
    pupil,
    space_transfer,
    wavefront_modes,
)

ACS = DEEP_FILTERS["F814W"]


def point_source(transfer):
    size = transfer.shape[-2]
    return torch.fft.fftshift(torch.fft.irfft2(transfer, s=(size, size)), dim=(-2, -1))


def test_pupils():
    """Open areas: 4.5 m2 of Hubble's 4.52, vanes aside; 25.4 m2 of Webb."""
    hubble = pupil("HST").mean().item() * 2.4**2
    assert 0.94 < hubble / (math.pi * 1.2**2 * (1 - 0.33**2)) < 1
    webb = pupil("JWST").mean().item() * 6.5**2
    assert webb == pytest.approx(25.4, rel=0.05)
    for telescope in TELESCOPES:
        torch.testing.assert_close(
            pupil(telescope), pupil(telescope).flip(1), atol=0.35, rtol=0
        )


def test_modes_are_independent():
    modes = wavefront_modes()
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, modes.shape[-1])], indexing="ij")
    inside = modes[:, torch.hypot(x, y) < 1].double()
    products = inside @ inside.mT / inside.shape[1]
    torch.testing.assert_close(products, torch.eye(6).double(), atol=0.08, rtol=0)


@pytest.mark.parametrize(
    ("band", "low", "high"),
    [
        # Guo et al. (2013), Table 1; for NIRCam from its own to drizzled pixels.
        ("F814W", 0.09, 0.12),
        ("F125W", 0.15, 0.18),
        ("F160W", 0.16, 0.19),
        ("F200W", 0.066, 0.08),
    ],
)
def test_width(band, low, high):
    one = DEEP_FILTERS[band]
    generator = torch.Generator().manual_seed(1)
    transfer = draw_transfer([one], 96, torch.zeros(20), generator)[:, 0]
    width = profile_fwhm(transfer) * one.pixel_scale
    assert low < width.mean() < high
    image = point_source(transfer)
    assert (image.amin((1, 2)) > -0.003 * image.amax((1, 2))).all()
    assert ((image.sum((1, 2)) > 0.97) & (image.sum((1, 2)) < 1)).all()


def test_turning_the_telescope_turns_the_image():
    coma = optical_transfer(ACS, torch.tensor([[0.0, 0, 0, 0, 60, 0]]))
    first, turned = (
        point_source(space_transfer(ACS, 65, torch.tensor([angle]), coma))[0]
        for angle in (0.0, math.pi / 2)
    )
    # Rows go up: counter-clockwise is from x to y.
    torch.testing.assert_close(
        turned, torch.rot90(first, -1), atol=2e-3 * first.max().item(), rtol=0
    )
    assert (first - torch.rot90(first, 2)).abs().max() > 0.02 * first.max()


def test_a_worse_wavefront_is_less_sharp():
    nm = torch.tensor([[0.0] * 6, [40.0, 0, 0, 0, 0, 0], [80.0, 0, 0, 0, 0, 0]])
    peaks = point_source(
        space_transfer(ACS, 64, torch.zeros(3), optical_transfer(ACS, nm))
    )
    peaks = peaks.amax((1, 2))
    # The loss of the peak goes with the square of the wavefront (Marechal).
    assert peaks[2] < peaks[1] < peaks[0]
    loss = 1 - peaks / peaks[0]
    assert 2.5 < (loss[2] / loss[1]).item() < 4.5


def test_noise_of_a_pixel():
    """The factor of Casertano et al. (2000)."""
    for one in DEEP_FILTERS.values():
        response = noise_response(one, 128)
        assert response[0, 0] == pytest.approx(1, abs=1e-5)
        pixel = torch.fft.irfft2(response**2, s=(128, 128))[0, 0].sqrt().item()
        r = one.pixfrac * one.native / one.pixel_scale
        assert 1 / pixel == pytest.approx(r / (1 - 1 / (3 * r)), rel=0.01)
