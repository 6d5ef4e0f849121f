# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies beside others, with the light of these others known apart."""

from dataclasses import dataclass

import torch

from galml.mocks.images import (
    DEPTH_SCATTER,
    LightImages,
    _add_noise,
    _transfer,
    draw_field,
    field_spectrum,
    observe_light,
    sky_noise,
)
from galml.physics.bands import AB_ZERO

__all__ = ["CrowdedImages", "observe_crowded"]


@dataclass
class CrowdedImages(LightImages):
    """Mock images of n galaxies, and what in them is not light of the galaxies.

    Attributes
    ----------
    galaxy, others : `torch.Tensor`
        Shape (n, band, ny, nx): flux per pixel, in nJy and without noise, of the galaxy
        and of all other sources. Further attributes are those of `LightImages`.
    """

    galaxy: torch.Tensor = None
    others: torch.Tensor = None

    def contamination(self, center, radius):
        """Measure the share of the light in circles that is not the galaxies'.

        Parameters
        ----------
        center : `torch.Tensor`
            Shape (n, 2): x and y in pixels.
        radius : `torch.Tensor`
            Shape (n,), in pixels.

        Returns
        -------
        `torch.Tensor`
            Shape (n, band), from 0 to 1; without the noise.
        """
        ny, nx = self.data.shape[-2:]
        x = torch.arange(nx) - center[:, :1]
        y = torch.arange(ny) - center[:, 1:]
        inside = torch.hypot(x[:, None, :], y[:, :, None]) <= radius[:, None, None]
        own, other = (
            (image * inside[:, None]).sum((2, 3)).clamp_min(0)
            for image in (self.galaxy, self.others)
        )
        return other / (own + other).clamp_min(1e-30)


def observe_crowded(
    galaxy,
    light,
    survey,
    redshift,
    n_pixels,
    generator,
    *,
    bands,
    foreign=None,
):
    """Take images of galaxies and of what lies beside them.

    Parameters
    ----------
    galaxy, light, survey, redshift, n_pixels, generator, bands
        As for `observe_light`.
    foreign : `torch.Tensor`, optional
        Boolean, shape (n, s): particles of stars that are not the galaxy's.

    Returns
    -------
    `CrowdedImages`
        The images, with noise.

    Examples
    --------
    >>> import torch
    >>> from galml.mocks import IMAGING_SURVEYS, build_stars, draw_stars
    >>> from galml.mocks import observe_crowded, starlight
    >>> generator = torch.Generator().manual_seed(1)
    >>> galaxy = build_stars(draw_stars(2, generator), 4000, generator)
    >>> redshift = torch.tensor([0.03, 0.03])
    >>> light = starlight(galaxy, ("r",), redshift)
    >>> images = observe_crowded(
    ...     galaxy, light, IMAGING_SURVEYS[0], redshift, 64, generator, bands=("r",)
    ... )
    >>> share = images.contamination(images.center, torch.tensor([20.0, 20.0]))
    >>> bool(((0 <= share) & (share < 1)).all())
    True
    """
    options = {"bands": bands, "noisy": False}
    again = torch.Generator().set_state(generator.get_state())
    own = light if foreign is None else light * ~foreign[..., None]
    images = observe_light(
        galaxy, own, survey, redshift, n_pixels, generator, **options
    )
    others = torch.zeros_like(images.data)
    if foreign is not None:
        # From the same state, seeing and places are the same.
        beside = light * foreign[..., None]
        others = observe_light(
            galaxy, beside, survey, redshift, n_pixels, again, **options
        ).data
    chosen = [survey.bands.index(band) for band in bands]
    seeing, depth, sky = (
        torch.tensor(getattr(survey, key))[chosen] for key in ("seeing", "depth", "sky")
    )
    scale = images.pixel_scale
    field = draw_field(len(scale), n_pixels * scale, bands, depth, generator)
    size = n_pixels + n_pixels // 4
    edge = (size - n_pixels) // 2
    inner = slice(edge, edge + n_pixels)
    spectrum = field_spectrum(field, scale, size)
    spectrum *= _transfer(images.psf_fwhm, survey.moffat, size)
    others = others + torch.fft.irfft2(spectrum, s=(size, size))[..., inner, inner]
    depth = depth + DEPTH_SCATTER * torch.randn(
        len(scale), len(bands), generator=generator
    )
    noise = scale[:, None] * sky_noise(seeing, depth, survey.moffat)
    level = AB_ZERO * 10 ** (-0.4 * sky) * scale[:, None] ** 2
    data = _add_noise(images.data + others, noise, level, generator)
    known = vars(images) | {"data": data, "noise": noise}
    return CrowdedImages(**known, others=others, galaxy=images.data)
