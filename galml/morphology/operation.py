# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations `latents` and `reconstruct`."""

from functools import partial

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData
from astropy.table import Row

from galml.core.domain import find_domain
from galml.core.exceptions import InputError, ModelError
from galml.core.flags import Flag
from galml.core.inference import infer, progress_updates
from galml.core.inputs import is_table
from galml.core.plots import has_column
from galml.core.results import failure_flags, warn_batch
from galml.core.running import chunks, run
from galml.core.weights import load_model
from galml.imaging import aligned
from galml.imaging.domain import ImageDomain
from galml.imaging.orientation import prepare_from_one_side
from galml.morphology.metrics import root_mean_square, structural_similarity
from galml.morphology.preparation import drawn, known_cells, prepare, prepare_pairs
from galml.morphology.tables import (
    check_models,
    model_meta,
    read_latents,
    read_matrix,
    source_of,
)
from galml.physics import generator_for

__all__ = ["MorphologyDomain", "latents", "reconstruct"]

#: Signal to noise inside the effective radius, and pixels in it, below which little
#: can be told; and the part of the image that must be known.
TRUNCATED = 0.6
LEAST = {
    Flag.LOW_SNR: ("log_snr", np.log10(5.0)),
    Flag.FEW_PIXELS: ("log_pixels", np.log10(3.0)),
    Flag.TRUNCATED: ("coverage", TRUNCATED),
}
#: Share of the images of a training that counts as all of them.
ALL = 0.99


def latents(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    hdu=None,
    progress=False,
):
    """Describe what galaxies look like by a few numbers, the latents.

    Galaxies with similar latents look alike. Those of the morphology are the same for
    an image that is turned or mirrored, and nearly so for one with other noise, PSF,
    pixels or brightness; from them and from the pose, which is what changes its sign in
    mirrors, the image can be drawn again [1]_.

    Parameters
    ----------
    cutouts : object
        One galaxy in one band, shape (ny, nx), or in several, shape (bands, ny, nx): a
        `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`,
        `~astropy.units.Quantity`, array or FITS path; a color image as SDSS makes
        them, bytes of shape (ny, nx, 3) or a JPEG or PNG path; or a
        `~galml.cutouts.CutoutStack`, or a sequence, iterator, table column or array of
        shape (n, bands, ny, nx) of these. NaN and masked pixels are unknown. The sky
        need not be subtracted. Colors count where the unit is a spectral flux density
        or maggies; in others, the usual colors are supposed. The best image reaches to
        5.7 effective radii.
    r_eff : `~astropy.units.Quantity`, optional
        Effective radius along the major axis, in an angle or in pixels; or one for
        each galaxy. By default, and where it is masked or None, ``R_EFF`` (arcsec) of
        the metadata, or the column ``r_eff`` of a table; else it is measured on the
        image.
    bands : sequence of str, optional
        Names of the bands, such as ``("g", "r", "z")``, by default ``BANDS``, ``BAND``
        or ``FILTER`` of the metadata; a single band is else r, as ``flags`` tell.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel; or one for each galaxy. By default ``PIXSCALE`` (arcsec) of
        the metadata, else that of the WCS.
    psf_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the PSF, in an angle or in pixels; or one for each band; or of shape
        (n, bands). By default ``PSFFWHM`` (arcsec) of the metadata.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none; dimensionless by default.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model, such as
        `galml.morphology.from_encoder` makes of any network.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Images that the network sees at once; by default 16 for each thread of the CPU,
        and 64 elsewhere. It changes no result.
    hdu : int or str, optional
        FITS extension; its partners with errors and masks are found by its header.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``latent``, shape (n, k), with ``latent_err``
        (1 sigma): how much noise and PSF change them; ``pose``, shape (n, m);
        ``reconstruction_error``, root of the mean square between the image and what
        the latents draw, on its stretched scale, and ``ssim``, their structural
        similarity (1 if equal); and ``flags``, see `~galml.core.decode_flags`. The last
        ``NAROUND`` latents, a number of the metadata, are those of the surroundings;
        ``ADAPTSHA`` is the hash of the model from which an adapted one comes.

    Raises
    ------
    galml.core.InputError
        When the one image cannot be used, or an argument for none. An image of a batch
        that cannot be used is a row of NaN with flags, and one
        `~galml.core.GalmlWarning` sums up.
    galml.core.ModelError
        When there is no such model.

    References
    ----------
    .. [1] Xu et al. (2023), MNRAS 526, 6391.

    Examples
    --------
    An image, and the same turned by a quarter, have the same latents:

    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> disk = np.exp(-np.hypot(x, y / 0.6) / 4) + 0.1 * np.exp(-np.hypot(x - 5, y))
    >>> table = galml.latents(np.stack([disk, np.rot90(disk)])[:, None])
    >>> table["latent"].shape
    (2, 64)
    >>> bool(np.allclose(table["latent"][0], table["latent"][1], atol=1e-5))
    True
    """
    options = _reading(r_eff, bands, pixel_scale, psf_fwhm, unit, hdu)
    model = load_model(model, "latents")
    table = run(
        find_domain(model),
        cutouts,
        options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        progress=progress,
    )
    notes = {
        "NAROUND": model.options.get("surroundings", 0),
        "ADAPTSHA": source_of(model),
    }
    table.meta |= {key: value for key, value in notes.items() if value}
    return table


def reconstruct(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    hdu=None,
    progress=False,
):
    """Draw galaxies from their latents, without noise and without other sources.

    Parameters
    ----------
    cutouts : object
        Images, as `latents` takes them; or a table, or a row of one, with the latents
        themselves, ``latent``, and ``pose``, if any.
    r_eff, bands, pixel_scale, psf_fwhm, unit, model, device, dtype, batch_size, hdu, \
progress
        As in `latents`.

    Returns
    -------
    `~astropy.nddata.CCDData` or list of them
        Of images, what their latents draw, in the shape, unit and WCS of each, its sky
        included; a list unless there is one image. The network draws a square of four
        effective radii to each side, at whose border a larger galaxy is cut off; beyond
        is the sky, the median of the image there. Bands that it does not see have the
        shape of the nearest one that it sees. Color images are given as fluxes in nJy.
        Of latents, images of shape (3, 64, 64), in the reference, the blue and the red
        band, aligned with the major axis, in units of the mean brightness in the
        effective radius. None stands in the list for what cannot be used, and one
        `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        As `latents`; or if latents are not those of the model, or of one that was
        adapted.
    galml.core.ModelError
        When there is no such model, or it draws no images.

    Examples
    --------
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> disk = np.exp(-np.hypot(x, y / 0.6) / 4)
    >>> again = galml.reconstruct(disk)
    >>> again.shape
    (64, 64)
    >>> bool(abs(again.data.sum() / disk.sum() - 1) < 0.2)
    True
    """
    model = load_model(model, "latents")
    domain = find_domain(model)
    if not hasattr(domain, "draw"):
        raise ModelError(f"{model.name or 'the model'}: draws no images")
    keywords = {"device": device, "dtype": dtype, "batch_size": batch_size}
    if is_table(cutouts) and has_column(cutouts, "latent"):
        images = _drawn_latents(cutouts, domain, keywords)
        return images[0] if isinstance(cutouts, Row) else images
    if isinstance(cutouts, Row):
        cutouts = cutouts.table[cutouts.index : cutouts.index + 1]
    options = _reading(r_eff, bands, pixel_scale, psf_fwhm, unit, hdu)
    source = domain.read(cutouts, **options)
    rows, images = [], {}
    with progress_updates(progress, source.length, name="reconstruct") as update:
        for places, members, prepared in chunks(domain, source, rows):
            (outputs,) = infer(model.network, [prepared.inputs], **keywords)
            seen = domain.draw(outputs["planes"], prepared, members)
            images |= dict(zip(places, seen, strict=True))
            update(len(places))
    if source.is_single:
        return images[0]
    errors = [row.error for row in rows]
    flags = np.array([0 if e is None else failure_flags(e) for e in errors], dtype=int)
    warn_batch(flags, [error for error in errors if error is not None], stacklevel=3)
    return [images.get(place) for place in range(len(rows))]


def _reading(r_eff, bands, pixel_scale, psf_fwhm, unit, hdu):
    """Give the options with which images are read."""
    return {
        "r_eff": r_eff,
        "bands": bands,
        "pixel_scale": pixel_scale,
        "psf_fwhm": psf_fwhm,
        "unit": unit,
        "hdu": hdu,
    }


def _drawn_latents(table, domain, keywords):
    """Draw images from a table of latents."""
    model = domain.model
    known = read_latents(table, "cutouts", least=int(isinstance(table, Row)))
    check_models(model_meta(model), known.table.meta, "cutouts")
    count = len(known.values)
    if not count:
        return []
    inputs = {}
    for name, width in zip(("latent", "pose"), domain.widths, strict=True):
        values = np.zeros((count, width))
        if name in known.table.colnames:
            values = read_matrix(known.table[name], f"cutouts[{name!r}]")
        if values.shape != (count, width):
            got = f"shape {values.shape}"
            raise InputError(f"cutouts[{name!r}]", got, f"({count}, {width})")
        inputs[name] = torch.from_numpy(np.array(values)).float()
    good = torch.stack([one.isfinite().all(1) for one in inputs.values()]).all(0)
    drawing = _Drawing(model.network)
    some = {key: one.nan_to_num(0.0) for key, one in inputs.items()}
    (outputs,) = infer(drawing, [some], **keywords)
    values = domain.brightness(outputs["planes"]).numpy()
    return [
        CCDData(one, unit=u.dimensionless_unscaled) if usable else None
        for one, usable in zip(values, good.tolist(), strict=True)
    ]


class _Drawing(torch.nn.Module):
    """The part of a network that draws."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        """Map ``latent`` and ``pose`` to ``planes``."""
        return {"planes": self.network.decode(inputs["latent"], inputs["pose"])}


class MorphologyDomain(ImageDomain):
    """Images of galaxies, aligned and in units of their size, for latents.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    poorer : int, optional
        Seed of images as poorer surveys have them, which a training takes beside the
        others.
    """

    operation, least, flag_units = "latents", LEAST, True

    def __init__(self, model, *, poorer=None):
        super().__init__(model)
        self.generator = None
        if poorer is not None:
            self.generator = generator_for(poorer, "poorer images", 0)

    @property
    def widths(self):
        """Number of latents of the morphology, and of the pose."""
        return self.model.network.widths

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        if self.generator is not None:
            prepared = prepare_pairs(images, self.spec, self.generator)
        else:
            prepared = prepare_from_one_side(images, partial(prepare, spec=self.spec))
        if not images.calibrated:
            for name, numbers in prepared.inputs.items():
                if name.endswith("scalars"):
                    self._suppose_colors(numbers)
        return prepared

    def _suppose_colors(self, scalars):
        """Give images in unknown units the usual colors, in place.

        A network that has learned from images with colors alone cannot know what to
        make of others.
        """
        names = self.spec.scalars
        mean = dict(zip(names, self.model.network.mean.tolist(), strict=True))
        if mean["calibrated"] < ALL:
            return
        scalars[:, names.index("calibrated")] = 1
        for name in ("blue", "red"):
            shown = scalars[:, names.index(f"has_{name}")]
            usual = mean[f"{name}_color"] / max(mean[f"has_{name}"], 1 - ALL)
            scalars[:, names.index(f"{name}_color")] = usual * shown

    def columns(self, n_samples):
        """Give trailing shape and unit of each column."""
        latents, poses = self.widths
        return {
            "latent": ((latents,), None),
            "latent_err": ((latents,), None),
            "pose": ((poses,), None),
            "reconstruction_error": ((), None),
            "ssim": ((), None),
        }

    def answer(self, outputs, prepared, members):
        """Give the columns, with errors that are calibrated."""
        planes, wanted = outputs["planes"], drawn(prepared.image, self.spec)
        known = known_cells(prepared.image, prepared.scalars, self.spec)
        factor = torch.tensor(self.model.config["scatter"])
        values = {
            "latent": outputs["latent"],
            "latent_err": outputs["latent_scatter"] * factor,
            "pose": outputs["pose"],
            "reconstruction_error": root_mean_square(planes, wanted, known),
            "ssim": structural_similarity(planes, wanted, known),
        }
        return {key: value.numpy().astype(float) for key, value in values.items()}

    def brightness(self, planes, prepared=None):
        """Undo the stretch of planes, shape (n, 3, y, x)."""
        stretch = self.spec.stretch
        return torch.sinh(planes * stretch["shape_scale"]) * stretch["shape_softening"]

    def draw(self, planes, prepared, members):
        """Draw what a network gave onto the pixels of the images.

        Parameters
        ----------
        planes : `torch.Tensor`
            Shape (n, 3, y, x).
        prepared : `~galml.imaging.aligned.Prepared`
            Of the same galaxies.
        members : list of `~galml.imaging.GalaxyImages`
            These.

        Returns
        -------
        list of `~astropy.nddata.CCDData`
            One for each galaxy.
        """
        light, result, start = self.brightness(planes, prepared), [], 0
        for member in members:
            rows = slice(start, start + len(member))
            start = rows.stop
            frame = prepared.frame[rows]
            shape = member.values.shape[-2:]
            spread, seen = _onto_pixels(light[rows], frame, shape)
            unit, level = frame[:, 4:].unflatten(1, (2, 3)).unbind(1)
            drawn = spread * unit[..., None, None] + level[..., None, None]
            result += [
                self._image(member[i : i + 1], one.numpy(), inside.numpy())
                for i, (one, inside) in enumerate(zip(drawn, seen, strict=True))
            ]
        return result

    def _image(self, images, drawn, seen):
        """Make an image in the unit of the original of three drawn bands."""
        shown = aligned.bands_shown(images.wavelengths, self.spec)
        values, original = np.empty_like(images.values[0]), images.originals[0]
        for band, wavelength in enumerate(images.wavelengths):
            if band in shown:
                values[band] = drawn[shown.index(band)]
                continue
            usable = [k for k, place in enumerate(shown) if place is not None]
            far = [
                abs(np.log(images.wavelengths[shown[k]] / wavelength)) for k in usable
            ]
            values[band] = _fitted(
                drawn[usable[np.argmin(far)]], images.values[0, band], seen
            )
        for plane, own in zip(values, images.values[0], strict=True):
            beyond = own[~seen & np.isfinite(own)]
            if len(beyond):
                # What the network takes for sky holds the light of larger galaxies.
                plane[~seen] = np.median(beyond)
        values = values / original.factors[:, None, None]
        meta = {"MODEL": self.model.name, "MODELSHA": self.model.sha256}
        if images.names[0] is not None:
            meta["OBJECT"] = images.names[0]
        meta["BANDS"] = ",".join(images.bands)
        values = values[0] if len(values) == 1 else values
        return CCDData(values, unit=original.unit, wcs=original.wcs, meta=meta)


def _onto_pixels(light, frame, shape):
    """Turn aligned squares back onto the pixels of images.

    Gives brightness, shape (n, 3, ny, nx), and whether pixels are in the square,
    (n, ny, nx).
    """
    ny, nx = shape
    x = torch.arange(nx, dtype=torch.float64) - frame[:, :1]
    y = torch.arange(ny, dtype=torch.float64) - frame[:, 1:2]
    cosine, sine = (f(frame[:, 3])[:, None, None] for f in (torch.cos, torch.sin))
    x, y = x[:, None, :], y[:, :, None]
    places = torch.stack([x * cosine + y * sine, y * cosine - x * sine], -1)
    places = places / frame[:, 2, None, None, None]
    drawn = torch.nn.functional.grid_sample(
        light.double(), places, padding_mode="zeros", align_corners=False
    )
    return drawn, (places.abs() <= 1).all(-1)


def _fitted(drawn, values, seen):
    """Scale a drawn band, and add a level, so that it fits another one best."""
    known = np.isfinite(values) & seen
    if not known.any() or np.ptp(drawn[known]) == 0:
        return np.full_like(values, np.nan)
    slope, level = np.polyfit(drawn[known], values[known], 1)
    return slope * drawn + level
