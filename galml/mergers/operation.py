# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operations `merger` and `contamination`."""

from dataclasses import replace
from itertools import pairwise
from numbers import Real

import astropy.units as u
import numpy as np
import torch

from galml.core.domain import find_domain
from galml.core.exceptions import InputError, InputTypeError, ModelError
from galml.core.flags import Flag
from galml.core.inputs import Failure
from galml.core.running import run
from galml.core.weights import load_model
from galml.imaging import DIHEDRAL, find_problems
from galml.imaging.domain import ImageDomain
from galml.mergers import published
from galml.mergers.posterior import (
    POST_MERGER,
    PREVALENCE,
    REMNANT,
    STAGES,
    entropies,
    histogram_quantiles,
    merger_samples,
    stage_probability,
)
from galml.mergers.preparation import (
    FILTERS,
    choose_band,
    field_half_widths,
    half_width,
    prepare,
)
from galml.physics import band_name, field_name, pivot_wavelengths
from galml.physics.fields import FIELDS

__all__ = [
    "ContaminationDomain",
    "MergerDomain",
    "contamination",
    "filter_wavelength",
    "group_of",
    "merger",
]

#: Signal to noise of a cell of the brightest part below which little can be told, and
#: the part of the field that must be known.
LEAST = {
    Flag.LOW_SNR: ("log_snr", np.log10(3.0)),
    Flag.TRUNCATED: ("coverage", 0.7),
}
#: The probability of having merged from which a time since then is told.
MERGED = 0.5
#: Side of a pixel in arcsec below which an image of which nobody tells the filter is
#: taken for one of a telescope in space, and its filter then.
FINE, FINE_FILTER = 0.1, "F814W"
#: Bands of the training, and the factor by which pixels may be larger or smaller; and
#: that from which they do not fit to a filter that was assumed.
TRAINED = (*FILTERS, "F125W")
LARGER, MISFIT = 2.0, 3.0


def merger(
    cutouts,
    *,
    field=None,
    filter=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=50,
    seed=None,
    hdu=None,
    progress=False,
):
    """Tell whether galaxies have merged, from images of one band.

    A post-merger has coalesced at most 0.5 Gyr ago, from galaxies of a mass ratio of at
    least 1:4. It is told apart from galaxies that form stars in clumps, and look as
    disturbed [1]_. What is before coalescence, or long after it, is told apart as well.

    Parameters
    ----------
    cutouts : object
        One galaxy in one band, shape (ny, nx), or in several, shape (bands, ny, nx),
        in the middle of the image: a `~astropy.nddata.CCDData`,
        `~astropy.nddata.NDData`, `~astropy.units.Quantity`, array or FITS path; a
        color image as SDSS makes them, bytes of shape (ny, nx, 3) or a JPEG or PNG
        path; or a `~galml.cutouts.CutoutStack`, or a sequence, iterator, table column
        or array of shape (n, bands, ny, nx) of these. NaN and masked pixels are
        unknown. The sky need not be subtracted, and fluxes may have any unit or none.
        One band is seen, in a field of 3.84 arcsec for F814W and filters of NIRCam,
        5.76 arcsec for WFC3 in the infrared, and 50.7 arcsec for bands of telescopes
        on the ground; of images without a pixel scale, all.
    field : str, optional
        Deep field that all images are of: "COSMOS", "EGS", "GOODS-N", "GOODS-S" or
        "UDS", whose own calibration is used where there is one. By default ``FIELD``
        or ``TARGNAME`` of the metadata.
    filter : str, optional
        Filter of the images, or of several bands the one to be seen. By default
        ``BANDS``, ``BAND`` or ``FILTER`` of the metadata. Where nothing is known it is
        r, or F814W of pixels below 0.1 arcsec, and ``flags`` tell ``band_assumed``.
    bands : sequence of str, optional
        Names of the bands, where there are several and the metadata do not know them.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel; or one for each galaxy. By default ``PIXSCALE`` (arcsec) of
        the metadata, else that of the WCS.
    psf_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the PSF, in an angle or in pixels; or one for each band; or of shape
        (n, bands). By default ``PSFFWHM`` (arcsec) of the metadata.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Images that the network sees at once; by default 16 for each thread of the CPU,
        and 64 elsewhere. It changes no result.
    n_samples : int, optional
        Random passes of the network, whose last layers forget other units each time;
        0 for one pass that forgets nothing.
    seed : int, optional
        Seed of these passes, of which each is one network, the same for all images.
        By default a fresh one is drawn; the table's metadata tell it as ``SEED``.
    hdu : int or str, optional
        FITS extension; its partners with errors and masks are found by its header.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``filter``, the one of the training that stands
        for the band, and ``field``; ``merger_probability``, that of a post-merger if
        it is either one or does not merge, calibrated for as many of both (see
        `galml.mergers.fraction` for other samples), and its scatter over two passes or
        more, ``merger_probability_err``, and ``merger_probability_samples``, shape
        (n, n_samples); ``merger_class``, "post-merger" or "non-merger";
        ``stage_probability``, shape (n, 5), in the order of `galml.mergers.STAGES`;
        ``entropy_data`` and ``entropy_model``, in bits: what images like this leave
        open, and what the model does not know; ``time_since_merger`` (Gyr, the median
        of its distribution) with its error where a galaxy has more likely merged than
        not, else NaN; and ``flags``, see `~galml.core.decode_flags`. The published
        model tells the two classes alone, and one that was taught no times none.

    Raises
    ------
    galml.core.InputError
        When the one image cannot be used, or an argument for none. An image of a batch
        that cannot be used is a row of NaN with flags, and one
        `~galml.core.GalmlWarning` sums up.
    galml.core.ModelError
        When there is no such model.

    Notes
    -----
    The default model tells post-mergers from galaxies that do not merge in deep fields,
    at redshifts of 0.5 to 3. Of nearby galaxies, as SDSS sees them in r, it tells those
    that interact, by one minus the first of the ``stage_probability``; its
    ``merger_probability`` is little better than a guess there.

    References
    ----------
    .. [1] Ferreira et al. (2022), ApJ 931, 34.

    Examples
    --------
    A smooth galaxy, and one with a tail, in F160W:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((96, 96)) - 47.5
    >>> disk = np.exp(-np.hypot(x, y) / 5)
    >>> tail = 0.1 * np.exp(-0.5 * ((y - 0.02 * x**2) / 3) ** 2) * (x > 0) * (x < 35)
    >>> noise = 0.01 * np.random.default_rng(1).normal(size=(2, 1, 96, 96))
    >>> table = galml.merger(
    ...     np.stack([disk, disk + tail])[:, None] + noise,
    ...     filter="F160W",
    ...     pixel_scale=0.06 * u.arcsec,
    ...     seed=1,
    ... )
    >>> table["stage_probability"].shape, table["merger_probability_samples"].shape
    ((2, 5), (2, 50))
    """
    model = load_model(model, "merger")
    options = {
        "bands": bands,
        "pixel_scale": pixel_scale,
        "psf_fwhm": psf_fwhm,
        "unit": unit,
        "hdu": hdu,
    }
    asked = {"field": field, "filter": filter}
    table = run(
        find_domain(model, **asked),
        cutouts,
        options,
        asked=asked,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
    )
    table.meta["PREVALEN"] = PREVALENCE
    shares = model.config.get("common", {})
    # Of all filters, so that it also holds for parts of the table, and with others.
    table.meta["COMMON"] = ", ".join(
        f"{name} {shares.get(f'filter {number}', 1.0):.3g}"
        for number, name in enumerate(FILTERS)
    )
    return table


def contamination(
    cutouts,
    *,
    filter=None,
    limit=0.1,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=50,
    seed=None,
    hdu=None,
    progress=False,
):
    """Tell how much of the light in images is not that of the galaxy.

    It is that of other sources inside of the largest circle in the field that
    `galml.merger` sees. A companion with which the galaxy merges is part of it; a
    galaxy that only lies before or behind it is not.

    Parameters
    ----------
    cutouts, filter, bands, pixel_scale, psf_fwhm, unit, model, device, dtype, \
batch_size, n_samples, seed, hdu, progress
        As in `galml.merger`.
    limit : float, optional
        Largest contamination of images of good quality, 0 to 1.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``filter``; ``contamination``, the share of the
        light (the median of its distribution), with ``contamination_err`` (1 sigma),
        ``contamination_lo`` and ``contamination_hi`` (68 %); ``aperture``, the radius
        of the circle in arcsec, NaN where the side of a pixel is not known;
        ``quality``, whether the contamination is more likely below the limit than
        above it; and ``flags``, see `~galml.core.decode_flags`.

    Raises
    ------
    galml.core.InputError
        As `galml.merger`; or if the limit is not between 0 and 1.
    galml.core.ModelError
        When there is no such model, or it does not know contaminations.

    Notes
    -----
    Ferreira et al. (2022, ApJ 931, 34) announced such a cut on quality for crowded
    fields.

    Examples
    --------
    A galaxy alone, and one beside a star:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((128, 128)) - 63.5
    >>> disk = np.exp(-np.hypot(x, y) / 6)
    >>> star = 5 * np.exp(-0.5 * np.hypot(x - 35, y + 20) ** 2 / 2**2)
    >>> noise = 0.01 * np.random.default_rng(1).normal(size=(2, 1, 128, 128))
    >>> table = galml.contamination(
    ...     np.stack([disk, disk + star])[:, None] + noise,
    ...     filter="F814W",
    ...     pixel_scale=0.03 * u.arcsec,
    ...     seed=1,
    ... )
    >>> bool(table["contamination"][0] < table["contamination"][1])
    True
    """
    if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 <= limit <= 1:
        raise InputError("limit", repr(limit), "a share between 0 and 1")
    options = {
        "bands": bands,
        "pixel_scale": pixel_scale,
        "psf_fwhm": psf_fwhm,
        "unit": unit,
        "hdu": hdu,
    }
    asked = {"filter": filter, "limit": limit}
    return run(
        ContaminationDomain(load_model(model, "merger"), **asked),
        cutouts,
        options,
        asked=asked,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
    )


def group_of(images, field=None, filter=None):
    """Give the number of filter and field by which calibrations go.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        n images of one shape and in the same bands.
    field, filter : str, optional
        As in `merger`.

    Returns
    -------
    `~numpy.ndarray`
        Integers of shape (n,): ten times the index into
        `~galml.mergers.preparation.FILTERS`, plus that into the deep fields and one;
        plus zero for other fields.
    """
    name = _seen(images, filter)[2]
    fields = _fields(images, field)
    places = [1 + list(FIELDS).index(one) if one else 0 for one in fields]
    return 10 * list(FILTERS).index(name) + np.array(places, dtype=int)


def _fields(images, field):
    """Give the deep field of each image, or None."""
    if field is not None:
        return [field_name(field)] * len(images)
    return images.fields


def _seen(images, filter):
    """Give images, the place of the band that is seen, and its filter of training."""
    if filter is not None and len(images.bands) == 1:
        images = _renamed(images, filter)
    wanted = filter_wavelength(filter)
    return images, *choose_band(images.bands, images.wavelengths, wanted)


def filter_wavelength(filter):
    """Give the wavelength (micron) of the filter that a user asks for, if any.

    Parameters
    ----------
    filter : str or None
        As in `merger`.

    Returns
    -------
    float or None

    Raises
    ------
    galml.core.InputError
        If it is no known band.
    """
    if filter is None:
        return None
    if not isinstance(filter, str):
        raise InputTypeError("filter", type(filter).__name__, "one name for all")
    try:
        return pivot_wavelengths((filter,))[0]
    except ValueError as error:
        raise InputError("filter", repr(filter), "a known band") from error


def _with_filters(members):
    """Pass members on, with filters that fit their pixels where nobody tells any."""
    for member in members:
        if isinstance(member, Failure) or not (member.flags & Flag.BAND_ASSUMED).any():
            yield member
            continue
        fine = member.pixel_scale < FINE
        ends = [*(np.flatnonzero(np.diff(fine)) + 1), len(member)]
        for start, end in pairwise([0, *ends]):
            part = member[start:end]
            yield _renamed(part, FINE_FILTER) if fine[start] else part


def _renamed(images, band):
    """Give images of one band another name of it."""
    return replace(images, bands=(band,), wavelengths=pivot_wavelengths((band,)))


class MergerDomain(ImageDomain):
    """Images of galaxies in a fixed field, for networks that tell stages.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    field, filter : str, optional
        As in `merger`.

    Raises
    ------
    galml.core.InputError
        If the field or the filter is unknown.
    """

    operation, views, least = "merger", DIHEDRAL, LEAST
    sizes, flag_units = False, True
    optional = ("time_since_merger",)

    def __init__(self, model, *, field=None, filter=None):
        super().__init__(model)
        filter_wavelength(filter)
        self.filter, self.flag_bands = filter, filter is None
        if not isinstance(field, str | None):
            raise InputTypeError("field", type(field).__name__, "one name for all")
        self.field = None if field is None else field_name(field)
        if field is not None and self.field is None:
            raise InputError("field", repr(field), f"one of {', '.join(FIELDS)}")

    def fixed_width(self, bands):
        """Give the side of the square that is seen of images in some bands."""
        wanted = filter_wavelength(self.filter)
        _, name = choose_band(bands, pivot_wavelengths(bands), wanted)
        return 2 * FILTERS[name][0] * u.arcsec

    def read(self, data, **options):
        """Read images of galaxies, and assume filters of which nobody tells."""
        source = super().read(data, **options)
        return source._replace(members=_with_filters(source.members))

    def problem(self, member):
        """Give for each galaxy the error why it cannot be used, or None."""
        images, band, _ = _seen(member, self.filter)
        return find_problems(images, images.wavelengths[band], sizes=self.sizes)

    def kind(self, member):
        """Give what images have in common that are prepared together."""
        return member.kind, member.bands

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        return prepare(*_seen(images, self.filter), self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit, or type, of each column."""
        columns = {
            "filter": ((), str),
            "field": ((), str),
            "merger_probability": ((), None),
            "merger_probability_err": ((), None),
        }
        if n_samples:
            columns["merger_probability_samples"] = ((n_samples,), None)
        return columns | {
            "merger_class": ((), str),
            "stage_probability": ((len(STAGES),), None),
            "entropy_data": ((), None),
            "entropy_model": ((), None),
            "time_since_merger": ((), u.Gyr),
            "time_since_merger_err": ((), u.Gyr),
        }

    def answer(self, outputs, prepared, members):
        """Give the columns, from calibrated distributions."""
        logits, config = outputs["stage"], self.model.config
        values = self._where(members) | self._merger(logits, members)
        numbers = self._calibration(members)
        stages = stage_probability(logits, numbers["stage"])
        each = stages if stages.dim() == 3 else stages[:, None]
        mean = each.mean(1)
        data, model = entropies(each)
        told = mean[:, [POST_MERGER, REMNANT]].sum(1) > MERGED
        # Models that were taught no times tell none.
        low, time, high = torch.full((3, len(mean)), torch.nan)
        if config.get("time") is not None:
            quantiles = histogram_quantiles("time", outputs["time"], config["time"])
            low, time, high = quantiles.unbind(1)
        numbers = {
            "stage_probability": mean,
            "entropy_data": data,
            "entropy_model": model,
        }
        values |= {key: value.numpy().astype(float) for key, value in numbers.items()}
        for key, value in (("", time), ("_err", (high - low) / 2)):
            told_only = torch.where(told, value, torch.nan).numpy().astype(float)
            values[f"time_since_merger{key}"] = told_only * u.Gyr
        return values

    def _where(self, members):
        """Give filter and field of each row."""
        names = [[_seen(m, self.filter)[2]] * len(m) for m in members]
        fields = [_fields(m, self.field) for m in members]
        return {
            "filter": np.array(sum(names, []), dtype=str),
            "field": np.array([f or "" for f in sum(fields, [])], dtype=str),
        }

    def _merger(self, logits, members):
        """Give the probability of a post-merger, and what follows from it."""
        numbers = self._calibration(members)
        chance = merger_samples(logits, numbers["merger"], numbers["offset"]).double()
        mean = chance if chance.dim() == 1 else chance.mean(1)
        values = {
            "merger_probability": mean.numpy(),
            "merger_probability_err": np.full(len(mean), np.nan),
            "merger_class": np.where(mean.numpy() > 0.5, "post-merger", "non-merger"),
        }
        if chance.dim() == 2:
            values["merger_probability_samples"] = chance.numpy()
        if chance.dim() == 2 and chance.shape[1] > 1:
            values["merger_probability_err"] = chance.std(1, correction=0).numpy()
        return values

    def _calibration(self, members):
        """Give temperatures and offset of each row."""
        tables = self.model.config["temperature"]
        groups = [group_of(m, self.field, self.filter) for m in members]
        rows = [self._nearest(tables, g) for g in np.concatenate(groups).tolist()]
        return {
            key: torch.tensor([row[key] for row in rows])
            for key in ("stage", "merger", "offset")
        }

    @staticmethod
    def _nearest(tables, group):
        """Find the calibration of filter and field, of the filter, or of all."""
        keys = (str(group), f"filter {group // 10}", "all")
        return next(tables[key] for key in keys if key in tables)

    def read_flags(self, members):
        """Give what reading found, and what is resampled from other images."""
        parts = []
        for member in members:
            images, band, name = _seen(member, self.filter)
            ratio = images.pixel_scale / FILTERS[name][1]
            fits = (ratio > 1 / LARGER) & (ratio < LARGER)
            fits &= band_name(images.bands[band]) in TRAINED
            # Color images are shown as a whole, as in the training.
            if images.colors is not None:
                fits |= np.isnan(ratio)
            resampled = np.where(fits, 0, int(Flag.RESAMPLED))
            assumed = images.flags & int(Flag.BAND_ASSUMED) != 0
            misfit = assumed & ((ratio <= 1 / MISFIT) | (ratio >= MISFIT))
            outside = np.where(misfit, int(Flag.OUT_OF_DOMAIN), 0)
            parts.append(images.flags | resampled | outside)
        return np.concatenate(parts)


class FerreiraDomain(MergerDomain):
    """Images of galaxies, as the published network sees them.

    It averages over no symmetries, and tells the two classes alone.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    field, filter : str, optional
        As in `merger`.
    """

    views = ()

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        images, band, name = _seen(images, self.filter)
        half = field_half_widths(images, name)
        return published.prepare(images, band, half, self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit, or type, of each column."""
        columns = super().columns(n_samples)
        names = ("filter", "field", "merger_class")
        told = [key for key in columns if key in names or "probability" in key]
        return {key: columns[key] for key in told if key != "stage_probability"}

    def answer(self, outputs, prepared, members):
        """Give the columns, from calibrated distributions."""
        return self._where(members) | self._merger(outputs["logits"], members)

    def states(self, answer, prepared):
        """Tell nothing beside what reading found."""
        return {}


class ContaminationDomain(MergerDomain):
    """Images of galaxies in a fixed field, whose contamination is told.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    filter : str, optional
        As in `merger`.
    limit : float
        As in `contamination`.

    Raises
    ------
    galml.core.ModelError
        If the model does not know contaminations.
    """

    operation = "contamination"
    optional = ("aperture",)

    def __init__(self, model, *, filter=None, limit):
        super().__init__(model, filter=filter)
        self.limit = limit
        if model.config.get("contamination") is None:
            raise ModelError(f"{model.name or 'the model'}: knows no contaminations")

    def columns(self, n_samples):
        """Give trailing shape and unit, or type, of each column."""
        names = ("contamination", *(f"contamination_{e}" for e in ("err", "lo", "hi")))
        return {
            "filter": ((), str),
            **dict.fromkeys(names, ((), None)),
            "aperture": ((), u.arcsec),
            "quality": ((), bool),
        }

    def answer(self, outputs, prepared, members):
        """Give the columns, from calibrated distributions."""
        quantiles = histogram_quantiles(
            "contamination",
            outputs["contamination"],
            self.model.config["contamination"],
        )
        low, middle, high = quantiles.double().unbind(1)
        return {
            "filter": self._where(members)["filter"],
            "contamination": middle.numpy(),
            "contamination_err": ((high - low) / 2).numpy(),
            "contamination_lo": low.numpy(),
            "contamination_hi": high.numpy(),
            "aperture": np.concatenate([self._radius(m) for m in members]) * u.arcsec,
            "quality": (middle <= self.limit).numpy(),
        }

    def _radius(self, images):
        """Radius of the circle in the field, in arcsec."""
        images, _, name = _seen(images, self.filter)
        known = np.isfinite(images.pixel_scale)
        return np.where(known, half_width(name, self.spec), np.nan)
