# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mock galaxies in color images, as a server of such images hands them out.

The images of the SDSS SkyServer are made from frames in i, r and g that do not quite
lie on top of each other, less a level above the sky, so that the sky is black; they
are stretched as in Lupton et al. (2004, PASP 116, 133), compressed as JPEG, enlarged
to the scale that was asked for, and compressed again.
"""

import io

import astropy.units as u
import numpy as np
import torch

from galml.cutouts.colors import SDSS_NONLINEARITY, SDSS_PIXEL, SDSS_SCALES
from galml.imaging.rgb import NANOMAGGY, linear_images
from galml.imaging.stamps import measure_size

__all__ = ["as_color_images"]

#: Sides of enlarged images, at most, and share of images that are compressed.
SIDE, COMPRESSED = 200, 0.85
#: Standard deviations of the sky by which the level above it is subtracted.
PEDESTAL = (0.0, 1.3)
#: Scatter of the places of red, green and blue, in pixels.
SHIFT = (0.1, 0.0, 0.15)
#: Logarithm of the brightness that is shown, of all and of each color, for redshift
#: makes galaxies redder, and its scatter; scatter of the strength of the stretch.
GAIN, GAIN_SCATTER = -0.7, 0.5
TINT, TINT_SCATTER = (0.05, 0.0, -0.06), (0.05, 0.0, 0.12)
STRETCH = 0.15
#: Qualities of the compression before and after an image is enlarged.
QUALITY = ((35, 80), (70, 93))
#: Share of images whose radius is measured instead of known.
MEASURED = 0.75


def as_color_images(data, noise, pixel_scale, r_eff, center, generator):
    """Find fluxes and sizes that can be had of color images.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, 3, ny, nx): flux per pixel in nJy, in the bands that are red, green
        and blue.
    noise : `torch.Tensor`
        Shape (n, 3): error of a pixel.
    pixel_scale : `torch.Tensor`
        Shape (n,), in arcsec.
    r_eff, center : `torch.Tensor`
        Shape (n,) and (n, 2): what is known of radius and center, in pixels.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    data : `torch.Tensor`
        Shape (n, 3, factor * ny, factor * nx): what
        `~galml.imaging.rgb.linear_images` gives.
    r_eff, center : `torch.Tensor`
        In the new pixels: as they were known, or as they are measured.
    factor : int
        By which the images are enlarged.
    """
    n = len(data)
    colors = _stretched(data.double(), noise.double(), pixel_scale.double(), generator)
    most = max(SIDE // data.shape[-1], 1)
    factor = int(torch.randint(1, most + 1, (), generator=generator))
    quality = torch.stack(
        [torch.randint(*each, (n,), generator=generator) for each in QUALITY], 1
    )
    quality[torch.rand(n, generator=generator) > COMPRESSED] = 0
    bytes_ = np.round(255 * colors.numpy()).astype(np.uint8)
    images = np.stack(
        [
            _served(image, factor, *both.tolist())
            for image, both in zip(np.moveaxis(bytes_, 1, 3), quality, strict=True)
        ]
    )
    light = linear_images(np.moveaxis(images, 3, 1) / 255.0)
    r_eff, center = r_eff * factor, (center + 0.5) * factor - 0.5
    for row in (torch.rand(n, generator=generator) < MEASURED).nonzero()[:, 0].tolist():
        radius, place = measure_size(light[row, 1], np.nan)
        if np.isfinite(radius):
            r_eff[row], center[row] = radius, torch.from_numpy(place)
    return torch.from_numpy(light).to(data.dtype), r_eff, center, factor


def _stretched(data, noise, pixel_scale, generator):
    """Red, green and blue, between 0 and 1."""
    n = len(data)

    def scatter(*shape):
        return torch.randn(n, *shape, generator=generator, dtype=torch.float64)

    area = (SDSS_PIXEL.to_value(u.arcsec) / pixel_scale) ** 2
    tint, tint_scatter, shift, scales = (
        torch.tensor(values).double()
        for values in (TINT, TINT_SCATTER, SHIFT, SDSS_SCALES)
    )
    scale = scales * torch.exp(tint + tint_scatter * scatter(3))
    scale = scale * (area * torch.exp(GAIN + GAIN_SCATTER * scatter()))[:, None]
    scale = scale / NANOMAGGY
    low, high = PEDESTAL
    level = low + (high - low) * torch.rand(n, 1, generator=generator).double()
    light = _displaced(data, shift[:, None] * scatter(3, 2))
    light = light - (level * noise)[..., None, None]
    light = (light * scale[..., None, None]).clamp_min(0)
    total = light.sum(1, keepdim=True).clamp_min(1e-9)
    strength = SDSS_NONLINEARITY * torch.exp(STRETCH * scatter(1, 1, 1))
    colors = light * torch.asinh(strength * total) / (strength * total)
    # Where a color is too bright, the ratio of the three stays.
    return colors / colors.amax(1, keepdim=True).clamp_min(1)


def _displaced(data, shift):
    """Move red and blue by (n, 3, 2) pixels; green stays where it is."""
    n, count, ny, nx = data.shape
    one = torch.zeros(n * count, 2, 3, dtype=data.dtype)
    one[:, 0, 0] = one[:, 1, 1] = 1
    size = torch.tensor([nx, ny], dtype=data.dtype)
    one[:, :, 2] = (2 * shift / size).flatten(0, 1)
    planes = data.reshape(-1, 1, ny, nx)
    places = torch.nn.functional.affine_grid(one, planes.shape, align_corners=False)
    moved = torch.nn.functional.grid_sample(
        planes, places, padding_mode="border", align_corners=False
    )
    return moved.reshape(data.shape)


def _served(image, factor, before, after):
    """Compress, enlarge and compress an image of bytes; quality 0 leaves it."""
    from PIL import Image

    def compressed(one, quality):
        if not quality:
            return one
        file = io.BytesIO()
        one.save(file, "JPEG", quality=quality)
        return Image.open(file)

    one = compressed(Image.fromarray(image), before)
    ny, nx = image.shape[:2]
    one = one.resize((nx * factor, ny * factor), Image.Resampling.BILINEAR)
    return np.asarray(compressed(one, after))
