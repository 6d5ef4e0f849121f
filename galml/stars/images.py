# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies as an encoder sees them."""

import copy
import math
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import NDData

from galml.core.inference import infer
from galml.core.inputs import Failure, as_table
from galml.core.model import InputSpec
from galml.core.networks import dihedral_views
from galml.core.running import grouped
from galml.cutouts import CutoutStack
from galml.imaging import GalaxyImages, Grid, find_problems, read_images, regrid
from galml.imaging.stamps import (
    as_tensor,
    flux_scale,
    galaxy_centers,
    half_widths,
)
from galml.imaging.stretch import asinh_stretch
from galml.physics import nearest_band, pivot_wavelengths

__all__ = ["INPUT", "encode_images", "prepare_images"]

#: What a new encoder is shown. Surface brightness is counted in its mean inside one
#: effective radius in the reference band: from ``softening`` on the scale is
#: logarithmic, and at ``brightest`` it reaches 1.
INPUT = InputSpec(
    grid=(64, 64),
    channels=("g", "r", "i"),
    bands=("g", "r", "i"),
    half_width=4.0,
    width_unit="r_eff",
    stretch={"softening": 0.05, "brightest": 20.0},
    parameters={"reference_wavelength": 0.617, "unit_radius": 1.0},
)
#: Images that go through the memory of a processor at a time.
CHUNK = 64


def prepare_images(images, *, input_spec=INPUT):
    """Bring images of galaxies to one field, scale and size.

    Parameters
    ----------
    images : `~astropy.table.QTable`, sequence or `~galml.cutouts.CutoutStack`
        One image for each galaxy, as `galml.spin` takes them, or a table with a column
        ``image``. They should be without sky. Effective radius and bands are those of
        the metadata; planes of a plain array, if there are three, are g, r and i. None
        is a galaxy without image.
    input_spec : `~galml.core.InputSpec`, optional
        What the encoder is shown; of an image with other bands the nearest ones are
        taken.

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
    places, read, bands = _readable(images, input_spec.bands)
    shape = (len(images), len(input_spec.bands), *input_spec.grid)
    prepared = torch.full(shape, torch.nan)
    reference = input_spec.parameters["reference_wavelength"]
    rows, good, errors, seen = [], [], {}, 0
    for member in read_images(read, bands=bands, reference=reference).members:
        failed = isinstance(member, Failure)
        found = [member.error] if failed else find_problems(member, reference)
        here = places[seen : seen + len(found)]
        seen += len(found)
        errors |= {r: e for r, e in zip(here, found, strict=True) if e is not None}
        usable = [i for i, error in enumerate(found) if error is None]
        if usable:
            rows += [here[i] for i in usable]
            good.append(member[usable])
    if good:
        prepared[rows] = grouped(
            good,
            lambda member: member.kind,
            lambda group: _Planes(_planes(GalaxyImages.concatenate(group), input_spec)),
        ).planes
    return prepared, errors


def _readable(images, bands):
    """Find the rows that have an image; give these, and the names of their bands.

    Plain arrays that are alike become one array.
    """
    if isinstance(images, CutoutStack):
        return range(len(images)), images, None
    every = [images[row] for row in range(len(images))]
    places = [
        row
        for row, image in enumerate(every)
        if image is not None and image is not np.ma.masked
    ]
    chosen = [every[row] for row in places]
    kinds = {
        (type(one), getattr(one, "shape", ()), getattr(one, "unit", None))
        for one in chosen
    }
    kind, shape, _ = next(iter(kinds)) if len(kinds) == 1 else (None, (), None)
    if kind in (np.ndarray, u.Quantity) and shape[:-2] == (len(bands),):
        return places, np.stack(chosen), bands
    return places, [_named(one, bands) for one in chosen], None


def _named(image, bands):
    """Give planes of a plain array the names that they are expected to have."""
    plain = isinstance(image, np.ndarray) and image.shape[:1] == (len(bands),)
    return NDData(image, meta={"BANDS": ",".join(bands)}) if plain else image


@dataclass
class _Planes:
    """Planes of images, as `grouped` puts them together."""

    planes: torch.Tensor


def _planes(images, spec):
    """Average over area, and scale: shape (n, bands, pixels, pixels)."""
    places = [
        nearest_band(images.wavelengths, goal) for goal in pivot_wavelengths(spec.bands)
    ]
    reference = spec.parameters["reference_wavelength"]
    unit_band = nearest_band(pivot_wavelengths(spec.bands), reference)
    grid = Grid(spec.grid[0], spec.half_width)
    inside = grid.radius < spec.parameters["unit_radius"]
    data, center = as_tensor(images.values), galaxy_centers(images)
    half = half_widths(images, spec)
    softening = spec.stretch["softening"]
    top = math.asinh(spec.stretch["brightest"] / softening)
    parts = []
    for rows in torch.arange(len(images)).split(CHUNK):
        rows = slice(int(rows[0]), int(rows[-1]) + 1)
        chunk = data[rows][:, places]
        level = torch.zeros(chunk.shape[:2], dtype=torch.float64)
        scale = flux_scale(chunk.unbind(1), level)
        if (scale != 1).any():
            chunk = chunk * scale[:, None, None, None]
        mean = regrid(chunk, center[rows], half[rows], grid.size).mean
        unit = mean[:, unit_band, inside].mean(1).clamp_min(1e-30)
        scaled = asinh_stretch(mean / unit[:, None, None, None], softening)
        parts.append((scaled / top).clamp(0, 1))
    return torch.cat(parts)


class _Latents(torch.nn.Module):
    """An encoder without its decoder, in double precision.

    Flows amplify the last bits of latents, in which single precision tells directions
    of an image apart.
    """

    def __init__(self, encoder):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).double()

    def forward(self, inputs):
        """Give the latents of images, the mean over their directions."""
        views = dihedral_views(images=("image",))
        inputs = {"image": inputs["image"].double()}
        latents = [self.encoder.encode(view.apply(inputs)["image"]) for view in views]
        return {"latent": torch.stack(latents).mean(0)}


def encode_images(images, encoder, *, device="cpu", input_spec=INPUT):
    """Give the latents of images, the mean over their quarter turns and mirrors.

    Parameters
    ----------
    images : sequence
        As for `prepare_images`.
    encoder : `torch.nn.Module`
        One of `~galml.stars.encoder.ENCODERS`.
    device : str or `torch.device`, optional
        Where it runs.
    input_spec : `~galml.core.InputSpec`, optional
        What the encoder is shown.

    Returns
    -------
    latent : `~numpy.ndarray`
        Shape (n, encoder.n_latent); NaN where there is no image.
    errors : dict of int to Exception
        Why images could not be used.
    """
    prepared, errors = prepare_images(images, input_spec=input_spec)
    known = ~prepared.isnan().flatten(1).any(1)
    latent = np.full((len(prepared), encoder.n_latent), np.nan)
    if known.any():
        batches = [{"image": prepared[known]}]
        (output,) = infer(_Latents(encoder), batches, device=device)
        latent[known.numpy()] = output["latent"].numpy()
    return latent, errors
