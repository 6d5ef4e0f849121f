# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What observed images have and the recipe of mocks has not: small faults of all kinds.

A network that has seen them does not take them for properties of galaxies.
"""

import math

import torch

__all__ = ["disturb"]

#: Chance of each fault in an image.
CHANCE = 0.15
#: Standard deviations of a further blur, in pixels; of an error of the flux of each
#: band, in natural logarithms; of the change of the sky across an image, in errors of
#: a pixel; and of further noise, in the same.
BLUR, GAIN, SLOPE, GRAIN = 0.7, 0.07, 0.6, 0.5
#: Distances of another galaxy of the batch, in effective radii, and of its brightness,
#: in natural logarithms.
DISTANCE, BRIGHTNESS = (2.0, 4.0), (-2.5, 0.0)
#: Number of spots without data, and the largest side of one, in effective radii.
SPOTS, SIDE = 6, 0.5


def disturb(data, noise, r_eff, center, generator, *, strength=1.0, masked=True):
    """Give images faults that the recipe of mocks does not have.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx); it is not changed.
    noise : `torch.Tensor`
        Shape (n, bands): error of a pixel.
    r_eff, center : `torch.Tensor`
        Shape (n,) and (n, 2), in pixels.
    generator : `torch.Generator`
        Source of all randomness.
    strength : float, optional
        By which faults are larger; 0 leaves the images as they are.
    masked : bool, optional
        Whether spots may be without data.

    Returns
    -------
    `torch.Tensor`
        Of the shape of data. Each image has one fault or another with the chance of
        15 %: it is blurred, its bands are brighter or fainter than they should be, its
        sky is tilted, it has more noise, another galaxy of the batch lies beside it,
        or spots are NaN.
    """
    data = data.clone()
    if not strength:
        return data
    n, bands, ny, nx = data.shape
    sigma = noise[..., None, None].to(data.dtype)

    def chosen():
        return (torch.rand(n, generator=generator) < CHANCE).nonzero()[:, 0]

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    # The other galaxy is the next one of the batch, moved.
    turn = uniform(0, 2 * math.pi)
    far = uniform(*DISTANCE) * r_eff.float()
    steps = torch.stack([far * turn.sin(), far * turn.cos()], 1).round().long()
    bright = uniform(*BRIGHTNESS).exp()
    for row in chosen().tolist():
        other = data[row - 1].roll(steps[row].tolist(), (-2, -1))
        data[row] += min(strength * bright[row].item(), 1.0) * other
    rows, width = chosen(), strength * BLUR * normal(n).abs()
    if len(rows):
        data[rows] = _blurred(data[rows], width[rows])
    rows, gain = chosen(), torch.exp(strength * GAIN * normal(n, bands, 1, 1))
    data[rows] *= gain[rows]
    rows, slope = chosen(), strength * SLOPE * normal(2, n, bands, 1, 1)
    y = torch.linspace(-1, 1, ny)[:, None]
    tilt = sigma * (slope[0] * y + slope[1] * torch.linspace(-1, 1, nx))
    data[rows] += tilt[rows]
    rows, level = chosen(), strength * GRAIN * normal(n, 1, 1, 1).abs()
    data[rows] += (level * sigma * normal(*data.shape))[rows]
    rows = chosen()
    if masked:
        _spoil(data, rows, r_eff, center, generator)
    return data


def _blurred(data, width):
    """Convolve images with normal distributions of these widths, in pixels."""
    ny, nx = data.shape[-2:]
    ky, kx = torch.fft.fftfreq(ny)[:, None], torch.fft.rfftfreq(nx)
    square = (math.pi * width[:, None, None]).square() * (ky**2 + kx**2)
    spectrum = torch.fft.rfft2(data) * torch.exp(-2 * square)[:, None]
    return torch.fft.irfft2(spectrum, s=(ny, nx))


def _spoil(data, rows, r_eff, center, generator):
    """Set squares to NaN that lie within two effective radii."""
    ny, nx = data.shape[-2:]
    places = 4 * torch.rand(len(data), SPOTS, 3, generator=generator) - 2
    for row in rows.tolist():
        size = r_eff[row].item()
        for x, y, side in places[row].tolist():
            half = 0.25 * abs(side) * SIDE * size
            x, y = (
                c + size * v for c, v in zip(center[row].tolist(), (x, y), strict=True)
            )
            first = (max(round(y - half), 0), max(round(x - half), 0))
            last = (min(round(y + half), ny), min(round(x + half), nx))
            data[row, :, first[0] : last[0], first[1] : last[1]] = torch.nan
