# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Models for latents out of any encoder of images."""

import copy
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch
from torch import nn

from galml.core.exceptions import InputError, InputTypeError, ModelError
from galml.core.flags import Flag
from galml.core.model import GalaxyModel, InputSpec
from galml.cutouts import sdss_rgb
from galml.imaging import DIHEDRAL, find_problems
from galml.imaging.domain import ImageDomain
from galml.imaging.rgb import RGB_BANDS
from galml.imaging.stamps import (
    Grid,
    as_tensor,
    galaxy_centers,
    half_widths,
    regrid,
    sky_level,
)
from galml.imaging.stretch import asinh_stretch
from galml.physics import nearest_band, pivot_wavelengths

__all__ = ["Encoder", "EncoderDomain", "Prepared", "from_encoder", "prepare"]

#: Channels of color pictures.
PICTURE = ("red", "green", "blue")
#: Numbers of the stretch; those of the last two may be given for each channel.
STRETCH = ("flux", "percentile", "softening", "low", "high", "mean", "std")
#: Percentile of the cells that is 1 where no flux is given.
BRIGHT = 99.5
#: How far, in relative wavelength, a band may be from the one that is asked for.
NEAR = 0.1
#: Part of the square that must be known, and part of a cell.
TRUNCATED, LEAST_KNOWN = 0.9, 0.1
#: Images that go through the memory of a processor at a time.
CHUNK = 64


def from_encoder(module, input_spec=None, *, weights=None, invariant=True, name=None):
    """Make a model for `galml.latents` of any encoder of images.

    That may be a network of timm, or the backbone of a foundation model (Zoobot:
    Walmsley et al. 2023, JOSS 8, 5312; AION: Parker et al. 2025, arXiv:2510.17960),
    with the weights that it has. All that works on latents works with it.

    Parameters
    ----------
    module : `torch.nn.Module`
        Takes images of shape (n, channels, ny, nx), float32, and gives a tensor of
        shape (n, k), or (n, k, y, x) or (n, tokens, k), of which means are taken over
        places or tokens. It is copied.
    input_spec : `~galml.core.InputSpec`, optional
        What the module is shown; only to be left out with ``weights``. Of it count

        ``grid``
            Cells (ny, nx) of the image: a square.
        ``bands``
            Names of the bands, in order of the channels, such as ``("g", "r", "z")``.
        ``channels``
            ``("red", "green", "blue")`` for color pictures between 0 and 1; of images
            in bands, such as ``galml.cutouts.sdss_rgb`` makes of ``bands``, by default
            i, r and g. Otherwise the names of the bands.
        ``half_width`` and ``width_unit``
            Half of the side of the square around the galaxy that is averaged over area
            onto the grid, in "r_eff" (effective radii), "pix" (pixels of the images) or
            an angle such as "arcsec"; by default the whole of the images.
        ``stretch``
            Numbers, each of which may be missing: ``flux``, in nJy per cell, is what
            becomes 1; without it the ``percentile`` (99.5) of the cells in all bands
            does. ``softening``, in these units, makes brightness asinh(x / softening)
            / asinh(1 / softening). Values are cut to ``low`` and ``high``. Last,
            ``mean`` is subtracted, and ``std`` divides; ``mean_g`` and ``std_g`` are
            those of the channel g. Of these, pictures take the last four.
        ``parameters``
            ``sky_radius``: beyond this radius, in halves of the side, the median is the
            sky, which is subtracted from images in bands. Without it none is.
    weights : str or path-like, optional
        File of a model of such a module, see `~galml.core.GalaxyModel.save`, which
        holds its weights and its ``input_spec``. A file cannot make the module itself.
    invariant : bool, optional
        Whether latents are the mean over the eight rotations and mirror images of a
        square, so that these do not change them; takes eight times as long.
    name : str, optional
        Name of the model.

    Returns
    -------
    `~galml.core.GalaxyModel`
        Its latents have no errors.

    Raises
    ------
    galml.core.InputTypeError
        If ``module`` or ``input_spec`` is none.
    galml.core.InputError
        If the module does not take what ``input_spec`` describes, or gives something
        else; or if ``input_spec`` cannot be used.
    galml.core.ModelError
        If the file has weights of another module.

    Examples
    --------
    Two convolutions, whose latents mean nothing:

    >>> import numpy as np
    >>> import torch
    >>> from galml.core import InputSpec
    >>> from galml.morphology import from_encoder
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 5)
    ... )
    >>> spec = InputSpec(
    ...     grid=(32, 32), bands=("g", "r", "i"), half_width=4.0, width_unit="r_eff",
    ...     stretch={"softening": 0.1},
    ... )
    >>> model = from_encoder(module, spec, name="mine")
    >>> model.config["latents"]
    16

    It is saved as any model, and comes back to the module:

    >>> import tempfile
    >>> path = tempfile.gettempdir() + "/mine.safetensors"
    >>> model.save(path, overwrite=True)
    >>> from_encoder(module, weights=path).sha256 == model.sha256
    True
    """
    if not isinstance(module, nn.Module):
        raise InputTypeError("module", type(module).__name__, "a torch.nn.Module")
    network = Encoder(copy.deepcopy(module))
    if weights is not None:
        if input_spec is not None:
            raise InputError("input_spec", "one beside weights", "that of the file")
        model = GalaxyModel.load(weights, operation="latents", network=network)
        if model.architecture != "encoder":
            raise ModelError(f"{weights}: no model of from_encoder")
        return model
    spec = _checked(input_spec)
    kind = type(module)
    return GalaxyModel(
        network,
        operation="latents",
        architecture="encoder",
        options={"module": f"{kind.__module__}.{kind.__qualname__}"},
        config={"latents": _count(network, spec), "invariant": bool(invariant)},
        card={"title": f"Latents of {kind.__name__}"},
        input_spec=spec,
        name=name,
    )


def _channels(spec):
    """Give the names of the channels, and whether they are those of pictures."""
    channels = spec.channels or spec.bands
    return channels, channels == PICTURE


def _checked(spec):
    """Raise where a description of the input cannot be used, and fill in channels."""
    if not isinstance(spec, InputSpec):
        got = type(spec).__name__
        raise InputTypeError("input_spec", got, "a galml.core.InputSpec")

    def refuse(got, expected):
        raise InputError("input_spec", got, expected)

    if len(spec.grid) != 2 or spec.grid[0] != spec.grid[1] or spec.grid[0] < 1:
        refuse(f"a grid of {spec.grid}", "a square, such as (64, 64)")
    channels, pictures = _channels(spec)
    bands = spec.bands or (RGB_BANDS if pictures else ())
    if not pictures and channels != spec.bands or pictures and len(bands) != 3:
        refuse(f"channels {channels} of {bands}", f"names of bands, or {PICTURE}")
    if not bands:
        refuse("no bands", "their names")
    try:
        pivot_wavelengths(bands)
    except ValueError as error:
        raise InputError("input_spec", str(error), "names of known bands") from error
    known = {f"{key}_{name}" for key in STRETCH[-2:] for name in channels}
    unknown = sorted(set(spec.stretch) - known.union(STRETCH))
    if unknown:
        refuse(f"a stretch with {unknown}", f"some of {STRETCH}")
    if unknown := sorted(set(spec.parameters) - {"sky_radius"}):
        refuse(f"parameters {unknown}", "sky_radius at most")
    for key in ("flux", "softening", "std"):
        if not spec.stretch.get(key, 1.0) > 0:
            refuse(f"{key}={spec.stretch[key]}", "a number above 0")
    if spec.half_width is not None:
        unit = spec.width_unit
        is_angle = unit and unit != "r_eff" and u.Unit(unit).is_equivalent(u.arcsec)
        if not (spec.half_width > 0 and (unit in ("r_eff", "pix") or is_angle)):
            got = f"a half width of {spec.half_width} {unit!r}"
            refuse(got, "a number above 0 in 'r_eff', 'pix' or an angle")
    return spec


def _count(network, spec):
    """Give the number of latents, from what the module makes of black images."""
    shape = (2, len(_channels(spec)[0]), *spec.grid)
    try:
        with torch.no_grad():
            latent = network.eval()({"image": torch.zeros(shape)})["latent"]
    except InputError:
        raise
    except Exception as error:
        got = f"images of shape {shape}"
        expected = f"what the module takes ({error})"
        raise InputError("input_spec", got, expected) from error
    return latent.shape[1]


class Encoder(nn.Module):
    """An encoder of images: see `from_encoder`.

    Parameters
    ----------
    module : `torch.nn.Module`
        The encoder.

    Raises
    ------
    galml.core.ModelError
        If it is the name of a class instead, which is all that a file knows.
    """

    def __init__(self, module):
        super().__init__()
        if isinstance(module, str):
            raise ModelError(
                f"has weights of a {module}, which galml cannot make: make it, and "
                "give it to galml.morphology.from_encoder(module, weights=...)"
            )
        self.module = module

    def forward(self, inputs):
        """Map ``image``, (n, channels, y, x), to ``latent``, (n, k)."""
        image = inputs["image"]
        found = self.module(image)
        shape = tuple(getattr(found, "shape", ()))
        if len(shape) not in (2, 3, 4) or shape[0] != len(image) or 0 in shape:
            got = f"a module that gives shape {shape}"
            if not isinstance(found, torch.Tensor):
                got = f"a module that gives a {type(found).__name__}"
            expected = f"({len(image)}, k), or with places or tokens"
            raise InputError("module", got, expected)
        if len(shape) > 2:
            found = found.mean((2, 3) if len(shape) == 4 else 1)
        return {"latent": found}


@dataclass
class Prepared:
    """What an encoder takes.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, channels, y, x), float32.
    coverage : `torch.Tensor`
        Shape (n,): which part of the square is known.
    """

    image: torch.Tensor
    coverage: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return {"image": self.image}


def prepare(images, spec):
    """Bring images of one shape onto the grid and the scale of an encoder.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images; they are not changed.
    spec : `~galml.core.InputSpec`
        What the encoder is shown, see `from_encoder`.

    Returns
    -------
    `Prepared`
        What is not known has no light.
    """
    parts = [
        _prepare(images[start : start + CHUNK], spec)
        for start in range(0, len(images), CHUNK)
    ]
    return Prepared(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _prepare(images, spec):
    """Give planes and coverage of some images."""
    channels, pictures = _channels(spec)
    size, stretch = spec.grid[0], spec.stretch
    planes = _pictures(images, spec) if pictures else _in_bands(images, spec)
    half = _half_widths(images, spec)
    stamps = regrid(planes, galaxy_centers(images), half, size, least_known=LEAST_KNOWN)
    cover = stamps.cover.expand_as(stamps.mean)
    values = stamps.mean
    if not pictures:
        if "sky_radius" in spec.parameters:
            far = {"far": spec.parameters["sky_radius"], "share": TRUNCATED}
            sky = sky_level(stamps, Grid(size, 1.0), **far)[..., None, None]
            values = torch.where(cover > 0, values - sky, 0.0)
        values = _scaled(values, cover, 2 * half / size, stretch)
    low, high = stretch.get("low"), stretch.get("high")
    if low is not None or high is not None:
        values = values.clamp(low, high)
    mean, std = (
        torch.tensor(
            [stretch.get(f"{key}_{c}", stretch.get(key, default)) for c in channels]
        )
        for key, default in (("mean", 0.0), ("std", 1.0))
    )
    values = (values - mean[:, None, None]) / std[:, None, None]
    return values.float(), cover.mean((1, 2, 3))


def _half_widths(images, spec):
    """Give half of the side of the square in pixels; that of the image by default."""
    if spec.half_width is None:
        side = min(images.values.shape[-2:])
        return torch.full((len(images),), side / 2, dtype=torch.float64)
    return half_widths(images, spec)


def _places(images, bands):
    """Find the place of each band in the images; None where there is none like it."""
    places = []
    for wanted in pivot_wavelengths(bands):
        place = nearest_band(images.wavelengths, wanted)
        near = abs(images.wavelengths[place] / wanted - 1) <= NEAR
        places.append(place if near else None)
    return places


def _in_bands(images, spec):
    """Give the images in the bands that are asked for, (n, channels, ny, nx)."""
    return as_tensor(images.values[:, _places(images, spec.bands)])


def _pictures(images, spec):
    """Give color pictures: those that the images are, or such as SDSS makes."""
    if images.colors is not None:
        return as_tensor(images.colors)
    values = images.values[:, _places(images, spec.bands or RGB_BANDS)]
    colors = sdss_rgb(
        values * u.nJy,
        bands=(0, 1, 2),
        pixel_scale=images.pixel_scale * u.arcsec,
        fill=np.nan,
    )
    return as_tensor(np.moveaxis(colors, -1, -3))


def _scaled(values, cover, step, stretch):
    """Bring mean fluxes of pixels, ``step`` (n,) of which make a cell, to a scale."""
    if "flux" in stretch:
        values = values * (step.float() ** 2 / stretch["flux"])[:, None, None, None]
    else:
        known = torch.where(cover > 0, values, torch.nan).flatten(1)
        level = stretch.get("percentile", BRIGHT) / 100
        bright = known.nanquantile(level, 1).nan_to_num(0.0)
        # What has no light at all stays black.
        bright = torch.where(bright > 0, bright, torch.inf)
        values = values / bright[:, None, None, None]
    if "softening" in stretch:
        softening = stretch["softening"]
        values = asinh_stretch(values, softening) / np.arcsinh(1 / softening)
    return values


class EncoderDomain(ImageDomain):
    """Images of galaxies, for encoders of a user's own.

    Parameters
    ----------
    model : `~galml.core.GalaxyModel`
        What `from_encoder` made.
    """

    operation = "latents"

    def __init__(self, model):
        super().__init__(model)
        self.views = DIHEDRAL if model.config["invariant"] else ()
        self.pictures = _channels(self.spec)[1]
        self.bands = self.spec.bands or RGB_BANDS
        unit = self.spec.width_unit if self.spec.half_width is not None else ""
        self.sizes = unit == "r_eff"
        self.needs_scale = unit not in ("", "r_eff", "pix")

    def problem(self, member):
        """Give for each galaxy the error why it cannot be used, or None."""
        seen = member.colors is not None and self.pictures
        places = _places(member, self.bands)
        if None in places and not seen:
            expected = f"bands like {', '.join(self.bands)}"
            return [InputError("bands", f"images in {member.bands}", expected)] * len(
                member
            )
        reference = member.wavelengths[1 if seen else places[0]]
        errors = find_problems(member, reference, sizes=self.sizes)
        makes_picture = self.pictures and not seen
        unit = makes_picture or "flux" in self.spec.stretch and not self.pictures
        if unit and not member.calibrated:
            error = InputError("unit", "no fluxes", "those that the encoder knows")
            return [error if one is None else one for one in errors]
        if makes_picture or self.needs_scale:
            for row in np.flatnonzero(~(member.pixel_scale > 0)):
                if errors[row] is None:
                    got, expected = "none", "the side of a pixel"
                    errors[row] = InputError("pixel_scale", got, expected)
        return errors

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        return prepare(images, self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit of each column."""
        return {"latent": ((self.model.config["latents"],), None)}

    def answer(self, outputs, prepared, members):
        """Give the latents."""
        return {"latent": outputs["latent"].numpy().astype(float)}

    def states(self, answer, prepared):
        """Tell for each bit to which images it belongs."""
        return {Flag.TRUNCATED: prepared.coverage.numpy() < TRUNCATED}
