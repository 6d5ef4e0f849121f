# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mock galaxies in color images, as a server of such images hands them out.

The images of the SDSS SkyServer are made from frames in i, r and g that do not quite
lie on top of each other, less a level above the sky, so that the sky is black; they
are stretched as in Lupton et al. (2004, PASP 116, 133), compressed as JPEG, enlarged
to the scale that was asked for, and compressed again. Those of the Galaxy Zoo have
pixels of 0.024 Petrosian radii (Lintott et al. 2008, MNRAS 389, 1179).
"""

import io

import astropy.units as u
import numpy as np
import torch

from galml.cutouts.colors import SDSS_NONLINEARITY, SDSS_PIXEL, SDSS_SCALES
from galml.imaging.rgb import NANOMAGGY, linear_images
from galml.imaging.stamps import measure_size

__all__ = ["SIDE", "as_color_images", "color_pictures", "petrosian_radius"]

#: Pixels along a side of the images, and Petrosian radii in a pixel, with scatter of
#: their logarithm.
SIDE, PIXEL, PIXEL_SCATTER = 192, 0.024, 0.02
#: Pixels of SDSS by which images end early, at least, in x and y; up to one more.
CUT = 0.15
#: Share of images that are compressed.
COMPRESSED = 0.95
#: Standard deviations of the sky by which the level above it is subtracted.
PEDESTAL = (0.3, 0.7)
#: Scatter of the places of red, green and blue, in pixels.
SHIFT = (0.1, 0.0, 0.1)
#: Logarithm of the brightness that is shown, of all and of each color, and its scatter;
#: scatter of the strength of the stretch.
GAIN, GAIN_SCATTER = -0.45, 0.1
TINT, TINT_SCATTER = (0.07, 0.0, 0.05), (0.01, 0.0, 0.025)
STRENGTH, STRETCH = 0.85, 0.03
#: Qualities of the compression before and after an image is enlarged.
QUALITY = ((35, 80), (70, 93))
#: Share of images whose radius is measured instead of known.
MEASURED = 0.75


def as_color_images(data, noise, pixel_scale, r_eff, center, generator):
    """Find fluxes and sizes that can be had of color images.

    Parameters
    ----------
    data, noise, pixel_scale
        As for `color_pictures`.
    r_eff, center : `torch.Tensor`
        Shape (n,) and (n, 2): what is known of radius and center, in pixels.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    data : `torch.Tensor`
        Shape (n, 3, 192, 192): what `~galml.imaging.rgb.linear_images` gives.
    r_eff, center : `torch.Tensor`
        In the new pixels: as they were known, or as they are measured.
    zoom : `torch.Tensor`
        Shape (n,): by which the images are enlarged.
    """
    images, zoom, corner = color_pictures(data, noise, pixel_scale, center, generator)
    light = linear_images(np.moveaxis(images, 3, 1) / 255.0)
    # Places count from the middle of the first pixel.
    r_eff, center = r_eff * zoom, (center + 0.5 - corner) * zoom[:, None] - 0.5
    measured = torch.rand(len(data), generator=generator) < MEASURED
    for row in measured.nonzero()[:, 0].tolist():
        radius, place = measure_size(light[row, 1], np.nan)
        if np.isfinite(radius):
            r_eff[row], center[row] = radius, torch.from_numpy(place)
    return torch.from_numpy(light).to(data.dtype), r_eff, center, zoom


def color_pictures(data, noise, pixel_scale, center, generator):
    """Make color images as a server hands them out.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, 3, ny, nx): flux per pixel in nJy, in the bands that are red, green
        and blue.
    noise : `torch.Tensor`
        Shape (n, 3): error of a pixel.
    pixel_scale : `torch.Tensor`
        Shape (n,), in arcsec.
    center : `torch.Tensor`
        Shape (n, 2): x and y of the galaxies, in pixels.
    generator : `torch.Generator`
        Source of all randomness.

    Returns
    -------
    pictures : `~numpy.ndarray`
        Bytes, shape (n, 192, 192, 3), with the galaxy in the middle.
    zoom : `torch.Tensor`
        Shape (n,): pixels of the pictures along one of the data.
    corner : `torch.Tensor`
        Shape (n, 2): x and y of the pictures' corner in the data, from its corner.
    """
    n, _, ny, nx = data.shape
    colors = _stretched(data.double(), noise.double(), pixel_scale.double(), generator)
    scatter = PIXEL_SCATTER * torch.randn(n, generator=generator)
    # What else lies in the field is not on the other side as well.
    mirrored = data[:, 1].flip(1, 2) + noise[:, 1, None, None]
    alone = data[:, 1].minimum(mirrored)
    zoom = scatter.exp() / (PIXEL * petrosian_radius(alone, center))
    zoom = zoom.clamp_min(SIDE / min(ny, nx))
    # Servers find the galaxy in their catalog, and cut at whole pixels.
    half = SIDE / 2 / zoom[:, None]
    offset = torch.rand(n, 2, generator=generator) + CUT
    corner = (center + 0.5 - half - offset).clamp_min(0)
    corner = corner.minimum(torch.tensor([nx, ny]) - 2 * half).double()
    quality = torch.stack(
        [torch.randint(*each, (n,), generator=generator) for each in QUALITY], 1
    )
    quality[torch.rand(n, generator=generator) > COMPRESSED] = 0
    bytes_ = np.round(255 * colors.numpy()).astype(np.uint8)
    rows = zip(
        np.moveaxis(bytes_, 1, 3),
        corner.tolist(),
        (2 * half)[:, 0].tolist(),
        quality.tolist(),
        strict=True,
    )
    return np.stack([_served(*row) for row in rows]), zoom.double(), corner


def petrosian_radius(images, center):
    """Measure Petrosian radii: where a ring has a fifth of the mean brightness inside.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (n, ny, nx), sky subtracted.
    center : `torch.Tensor`
        Shape (n, 2): x and y in pixels.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), in pixels; at most half of the image (Blanton et al. 2001, AJ 121,
        2358).
    """
    n, ny, nx = images.shape
    x = torch.arange(nx) - center[:, :1]
    y = torch.arange(ny) - center[:, 1:]
    radius = torch.hypot(x[:, None, :], y[:, :, None]).flatten(1)
    ring = radius.long().clamp(max=min(ny, nx) // 2)
    zero = torch.zeros(n, min(ny, nx) // 2 + 1)
    area = zero.scatter_add(1, ring, torch.ones_like(radius, dtype=zero.dtype))
    flux = zero.scatter_add(1, ring, images.flatten(1).to(zero.dtype))
    # The outermost ring holds the corners of the image as well.
    area, flux = area[:, :-1].cumsum(1), flux[:, :-1].cumsum(1)
    edge = torch.arange(1, area.shape[1] + 1)

    def enclosed(table, factor):
        index = (factor * edge - 1).clamp(0, len(edge) - 1)
        low = index.long().clamp(max=len(edge) - 2)
        return torch.lerp(table[:, low], table[:, low + 1], index - low)

    light, pixels = (enclosed(t, 1.25) - enclosed(t, 0.8) for t in (flux, area))
    ratio = light / pixels.clamp_min(1) / (flux / area).clamp_min(1e-30)
    faint = (ratio < 0.2) & (edge > 2)
    # Between the first ring that is faint and the one before.
    last = torch.where(faint.any(1), faint.int().argmax(1), len(edge) - 1)[:, None]
    before, after = ratio.gather(1, last - 1), ratio.gather(1, last)
    part = ((before - 0.2) / (before - after).clamp_min(1e-6)).clamp(0, 1)
    return (last + part)[:, 0]


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
    strength = STRENGTH * SDSS_NONLINEARITY * torch.exp(STRETCH * scatter(1, 1, 1))
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


def _served(image, corner, width, quality):
    """Compress, cut out, enlarge and compress an image of bytes; 0 leaves it."""
    from PIL import Image

    def compressed(one, quality):
        if not quality:
            return one
        file = io.BytesIO()
        one.save(file, "JPEG", quality=quality)
        return Image.open(file)

    x, y = corner
    one = compressed(Image.fromarray(image), quality[0])
    box = (x, y, x + width, y + width)
    one = one.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(compressed(one, quality[1]))
