# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies as an encoder sees them."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from galml.core.exceptions import GalmlError
from galml.core.inference import infer
from galml.core.running import in_groups
from galml.stars.columns import as_table
from galml.stellar_spin.bands import WAVELENGTHS
from galml.stellar_spin.images import problem_of, read_images
from galml.stellar_spin.light import stack
from galml.stellar_spin.preparation import middle, regrid

__all__ = ["BANDS", "HALF", "encode_images", "prepare_images"]

#: Bands of the planes; of an image with others the nearest ones are taken.
BANDS = ("g", "r", "i")
#: Half of the side of the field, in effective radii.
HALF = 4.0
#: Surface brightness, in means inside the effective radius, from which the scale is
#: logarithmic, and at which it reaches 1.
SOFT, BRIGHTEST = 0.05, 20.0


def prepare_images(images, pixels=64):
    """Bring images of galaxies to one field, scale and size.

    Parameters
    ----------
    images : `~astropy.table.QTable`, sequence or `~galml.cutouts.CutoutStack`
        One image for each galaxy, as `galml.spin` takes them, or a table with a column
        ``image``. They should be without sky. Effective radius and bands are those of
        the metadata; three planes of a plain array are g, r and i. None is a galaxy
        without image.
    pixels : int, optional
        Pixels a side.

    Returns
    -------
    prepared : `torch.Tensor`
        Shape (n, 3, pixels, pixels), float32, from 0 to 1: g, r and i, averaged over
        area, eight effective radii wide, on an arcsinh scale in units of the r band
        inside the effective radius. NaN where there is no image.
    errors : dict of int to Exception
        Why images could not be used.
    """
    if hasattr(images, "colnames"):
        images = as_table(images, "images")["image"]
    prepared = torch.full((len(images), 3, pixels, pixels), torch.nan)
    rows, good, errors = [], [], {}
    for row in range(len(images)):
        if images[row] is None or images[row] is np.ma.masked:
            continue
        try:
            # One by one: images of a column may be of any kind.
            member = next(_read(images[row]))
            error = problem_of(member)
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as problem:
            error = problem
        if error is None:
            rows.append(row)
            good.append(member)
        else:
            errors[row] = error
    if good:
        stamps = in_groups(
            good,
            lambda one: (one.values.shape, one.wavelength, one.calibrated),
            lambda group: _Planes(_planes(stack(group), pixels)),
        )
        prepared[rows] = stamps.planes
    return prepared, errors


def _read(image):
    """Read one image."""
    plain = isinstance(image, np.ndarray) and image.shape[:1] == (len(BANDS),)
    return read_images(image, bands=BANDS if plain else None)[2]


@dataclass
class _Planes:
    """Planes of images, as `in_groups` puts them together."""

    planes: torch.Tensor


def _planes(stamps, pixels):
    """Average over area, and scale: shape (n, 3, pixels, pixels)."""
    wanted = [WAVELENGTHS[band] for band in BANDS]
    places = [
        min(
            range(len(stamps.wavelength)),
            key=lambda i: abs(math.log(stamps.wavelength[i] / goal)),
        )
        for goal in wanted
    ]
    data = stamps.data[:, places]
    half = HALF * stamps.r_eff
    mean, _, _ = regrid(data, middle(data, stamps.center), half, pixels)
    step = (torch.arange(pixels) + 0.5) * (2 * HALF / pixels) - HALF
    inside = torch.hypot(step[:, None], step) < 1
    unit = mean[:, 1, inside].mean(1).clamp_min(1e-30)[:, None, None, None]
    top = math.asinh(BRIGHTEST / SOFT)
    return (torch.asinh(mean / unit / SOFT) / top).clamp(0, 1)


def encode_images(images, encoder, *, device="cpu"):
    """Give the latents of images.

    Parameters
    ----------
    images : sequence
        As for `prepare_images`.
    encoder : `torch.nn.Module`
        One of `~galml.stars.encoder.ENCODERS`.
    device : str or `torch.device`, optional
        Where it runs.

    Returns
    -------
    latent : `~numpy.ndarray`
        Shape (n, encoder.n_latent); NaN where there is no image.
    errors : dict of int to Exception
        Why images could not be used.
    """
    prepared, errors = prepare_images(images, encoder.pixels)
    known = ~prepared.isnan().flatten(1).any(1)
    latent = np.full((len(prepared), encoder.n_latent), np.nan)
    if known.any():
        (output,) = infer(encoder, [{"image": prepared[known]}], device=device)
        latent[known.numpy()] = output["latent"].numpy()
    return latent, errors
