# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies in one or more bands: read, named and scaled.

A stack of cutouts and an array stay the arrays that they are; other objects are read
one by one, and become batches of one.
"""

import math
import os
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.nddata import NDData, block_reduce
from astropy.table import Column, Table

from galml.core.exceptions import InputError, InputTypeError
from galml.core.files import file_stem, parse_unit
from galml.core.flags import Flag
from galml.core.geometry import pixel_scale as scale_of
from galml.core.inputs import (
    BLOCK,
    BLOCK_PIXELS,
    Failure,
    Source,
    convert_each,
    is_tensor,
    stream,
)
from galml.cutouts.stack import CutoutStack
from galml.imaging.given import Given
from galml.imaging.headers import (
    FLUX,
    angles_of,
    band_names,
    checked_bands,
    field_of,
    flags_of,
    flux_factors,
    number_of,
    unit_of,
    wavelengths_of,
)
from galml.imaging.rgb import (
    RGB_BANDS,
    is_color_file,
    is_rgb,
    linear_images,
    read_color_file,
)
from galml.physics import (
    PIVOT_WAVELENGTHS,
    nearest_band,
)

__all__ = ["GalaxyImages", "find_problems", "holds_images", "read_images"]

#: Fewest known pixels, and smallest effective radius in pixels.
MIN_PIXELS = 64
SMALLEST = 0.7
#: Effective radius in FWHM of the PSF below which a source is not resolved: seen behind
#: a Gaussian, it has the half-light radius `galml.cutouts.shapes.POINT`.
UNRESOLVED = 0.43
#: Pixels on a side up to which sizes are measured as fast as networks look.
LARGEST = 1024
#: Brightest pixel of a Gaussian, times its squared FWHM, over its light; and the share
#: of that below which an image is not that of a star.
PEAK, SHARP = 4 * math.log(2) / math.pi, 0.5
#: Signal to noise below which there is no source at the center; side of the square
#: there, and depth of the border that tells the noise, in pixels.
FAINTEST, MIDDLE, BORDER = 5.0, 5, 2
#: Flux of a pixel in nJy that no source of the sky has, Sirius ten times over: the unit
#: is another one, such as that of spectra without its factor of 1e-17.
BRIGHTEST = 1e14
#: Columns of a table that name its rows, and those that hold names of files.
NAME_COLUMNS, FILE_COLUMNS = ("name", "id"), ("file", "filename", "path")
#: Standard deviation of a Gaussian over the median of its absolute value.
GAUSSIAN = 1.4826
#: Key of the metadata by which a color image is known after it has been read.
COLORS = "RGB_IMAGE"
#: Band of an image of which nobody tells it, and wavelength (micron) of that in which
#: sizes are measured and images judged.
ASSUMED = ("r",)
REFERENCE = PIVOT_WAVELENGTHS["r"]


class Original(NamedTuple):
    """What an image was before it was scaled.

    Attributes
    ----------
    unit : `~astropy.units.UnitBase`
        Unit of its values.
    factors : `~numpy.ndarray`
        Shape (bands,): by which these were multiplied.
    wcs : `~astropy.wcs.WCS` or None
        Its celestial WCS.
    """

    unit: object
    factors: np.ndarray
    wcs: object


@dataclass
class GalaxyImages:
    """Images of n galaxies, of one shape and in the same bands.

    Indexed by a slice or a list of rows, it gives the images of some of the galaxies;
    those of a slice share memory.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape (n, bands, ny, nx), float32 or float64: flux per pixel; NaN where it is
        unknown. May share memory with what the user gave: not to be changed.
    bands : tuple of str
        Names of the bands.
    wavelengths : tuple of float
        Of each band, in micron.
    calibrated : bool
        Whether fluxes are in nJy (up to a factor that all bands share), so that their
        ratios are AB colors.
    r_eff : `~numpy.ndarray`
        Shape (n,): effective radius along the major axis, in pixels; NaN where it is
        unknown.
    noise, psf_fwhm : `~numpy.ndarray`
        Shape (n, bands): error of a pixel, and FWHM of the PSF in pixels; NaN where
        unknown.
    center : `~numpy.ndarray`
        Shape (n, 2): x and y of the galaxy in pixels; NaN for the center of the image.
    pixel_scale : `~numpy.ndarray`
        Shape (n,): side of a pixel in arcsec; NaN where it is unknown.
    flags : `~numpy.ndarray`
        Shape (n,): bits of `galml.core.Flag`.
    names : list of str or None
        Names of the galaxies.
    colors : `~numpy.ndarray` or None
        The color images themselves, shape (n, 3, ny, nx) between 0 and 1, if these
        are such.
    errors : list of Exception or None, optional
        Why a galaxy cannot be used, as far as reading told.
    fields : list of str or None, optional
        Deep fields that they lie in, as `galml.physics.field_name` spells them.
    originals : list of `Original`, optional
        What the images were before they were scaled.
    """

    values: np.ndarray
    bands: tuple
    wavelengths: tuple
    calibrated: bool
    r_eff: np.ndarray
    noise: np.ndarray
    psf_fwhm: np.ndarray
    center: np.ndarray
    pixel_scale: np.ndarray
    flags: np.ndarray
    names: list
    colors: np.ndarray | None = None
    errors: list | None = None
    fields: list | None = None
    originals: list | None = None

    def __post_init__(self):
        if self.fields is None:
            self.fields = [None] * len(self)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        places = np.arange(len(self))[rows]
        chosen = {key: getattr(self, key)[rows] for key in _ARRAYS}
        for key in _LISTS:
            column = getattr(self, key)
            chosen[key] = None if column is None else [column[i] for i in places]
        colors = None if self.colors is None else self.colors[rows]
        return replace(self, **chosen, colors=colors)

    def wcs_of(self, row):
        """Give the celestial WCS of one image, or None."""
        return None if self.originals is None else self.originals[row].wcs

    @property
    def kind(self):
        """What images have in common that can be put together."""
        colored = self.colors is not None
        shape, dtype = self.values.shape[1:], self.values.dtype
        return shape, dtype, self.wavelengths, self.calibrated, colored

    @classmethod
    def concatenate(cls, parts):
        """Put images of one kind together.

        Parameters
        ----------
        parts : sequence of `GalaxyImages`
            At least one.

        Returns
        -------
        `GalaxyImages`
            All rows, in order.
        """
        first = parts[0]
        if len(parts) == 1:
            return first
        keys = _ARRAYS if first.colors is None else (*_ARRAYS, "colors")
        joined = {k: np.concatenate([getattr(p, k) for p in parts]) for k in keys}
        for key in _LISTS:
            columns = [getattr(p, key) or [None] * len(p) for p in parts]
            joined[key] = [one for column in columns for one in column]
        return replace(first, **joined)


_ARRAYS = tuple(f.name for f in fields(GalaxyImages) if f.type is np.ndarray)
_LISTS = ("names", "errors", "fields", "originals")


def read_images(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    hdu=None,
    sizes=True,
    reference=REFERENCE,
    flag_units=False,
    flag_bands=False,
):
    """Read images of galaxies.

    Parameters
    ----------
    cutouts, r_eff, bands, pixel_scale, psf_fwhm, unit, hdu
        As in `galml.spin`.
    sizes : bool
        Whether to measure effective radii that are not known.
    reference : float
        Wavelength (micron) of the band on which they are measured: the nearest one.
    flag_units : bool
        Whether images get the flag ``NO_UNIT`` whose unit nobody tells.
    flag_bands : bool
        Whether images get the flag ``BAND_ASSUMED`` whose band nobody tells.

    Returns
    -------
    `~galml.core.inputs.Source`
        Its members are `GalaxyImages` of up to 256 galaxies, and
        `~galml.core.inputs.Failure` where a member of a batch cannot be used.

    Raises
    ------
    galml.core.InputError
        When an argument cannot be used, or the one image cannot; once all are read,
        when the bands of none of them are known.
    """
    if isinstance(cutouts, Table) and r_eff is None and "r_eff" in cutouts.colnames:
        r_eff = cutouts["r_eff"]
    known = Given(r_eff, bands, pixel_scale, psf_fwhm)
    known.reference = reference if sizes else None
    known.flag_units = flag_units and unit is None
    known.flag_bands = flag_bands
    unit = u.dimensionless_unscaled if unit is None else parse_unit(unit, "unit")
    if is_tensor(cutouts):
        cutouts = cutouts.numpy(force=True)
    if isinstance(cutouts, CutoutStack):
        known.check(False, len(cutouts))
        members = _with_bands(_read_stack(cutouts, known))
        return Source(False, len(cutouts), members)
    images, names = _image_array(cutouts)
    if images is not None:
        known.check(False, len(images))
        members = _with_bands(_read_array(images, names, known, unit))
        return Source(False, len(images), members)
    if isinstance(cutouts, np.ndarray) and cutouts.ndim == 3:
        cutouts = _adapted(cutouts) if cutouts.dtype.kind != "O" else cutouts
    source = stream(
        cutouts, argument="cutouts", unit=unit, hdu=hdu, ndim=(2, 3), adapt=_adapted
    )
    known.check(source.is_single, source.length)
    members = convert_each(
        source.members,
        lambda index, member: _read_one(member, index, known),
        is_single=source.is_single,
    )
    if source.is_single:
        return source._replace(members=iter(list(members)))
    return source._replace(members=_with_bands(_counted(members, known)))


def _counted(members, known):
    """Pass members on; raise where there are values for more galaxies than came."""
    count = 0
    for count, member in enumerate(members, start=1):  # noqa: B007
        yield member
    known.check(False, count)


def find_problems(images, reference=REFERENCE, *, sizes=True):
    """Find out which galaxies cannot be used.

    Parameters
    ----------
    images : `GalaxyImages`
        The images.
    reference : float
        Wavelength (micron) of the band that counts: the nearest one.
    sizes : bool
        Whether the effective radius is needed.

    Returns
    -------
    list of galml.core.InputError or None
        One for each galaxy: too few pixels are known, all have one value, these have no
        size, or the radius is too small; or what went wrong before.
    """
    errors = [None] * len(images) if images.errors is None else list(images.errors)
    band = images.values[:, nearest_band(images.wavelengths, reference)]
    band = band.reshape(len(band), band.shape[1] * band.shape[2])
    count = np.full(len(band), band.shape[1])
    # NaN and infinity stay in a sum.
    with np.errstate(invalid="ignore", over="ignore"):
        partial = ~np.isfinite(band.sum(1, dtype=float))
    low, high = band.min(1), band.max(1)
    if partial.any():
        values = band[partial]
        known = np.isfinite(values)
        count[partial] = known.sum(1)
        low[partial] = np.where(known, values, np.inf).min(1)
        high[partial] = np.where(known, values, -np.inf).max(1)
    small = ~((images.r_eff >= SMALLEST) & (images.r_eff < np.inf)) & sizes
    inverted = images.pixel_scale <= 0
    for row in np.flatnonzero((count < MIN_PIXELS) | (low == high) | small | inverted):
        if errors[row] is not None:
            continue
        if count[row] < MIN_PIXELS:
            got, expected = f"an image with {count[row]} known pixels", MIN_PIXELS
            errors[row] = InputError("cutouts", got, f"at least {expected}")
        elif low[row] == high[row]:
            got = "the same value everywhere"
            errors[row] = InputError("cutouts", got, "an image of a galaxy")
        elif inverted[row]:
            got = f"{images.pixel_scale[row]:g} arcsec"
            errors[row] = InputError("pixel_scale", got, "an angle above zero")
        else:
            size = images.r_eff[row]
            got = (
                "no size that can be measured" if np.isnan(size) else f"{size:g} pixels"
            )
            errors[row] = InputError("r_eff", got, f"at least {SMALLEST} pixels")
    return errors


def _image_array(cutouts):
    """Find an array of images, and the names of its rows; None where there is none."""
    names = None
    if isinstance(cutouts, Table):
        columns = [key for key in cutouts.colnames if holds_images(cutouts, key)]
        if len(columns) != 1 or np.ndim(cutouts[columns[0]]) < 2:
            return None, None
        for key in cutouts.colnames:
            if key.lower() in NAME_COLUMNS:
                column = cutouts[key]
                names = [None if np.ma.is_masked(one) else str(one) for one in column]
        cutouts = Column(cutouts[columns[0]])
    if not isinstance(cutouts, np.ndarray) or cutouts.dtype.kind in "OSU":
        return None, None
    if isinstance(cutouts, Column) and cutouts.ndim == 3:
        cutouts = cutouts[:, None]
    return (cutouts, names) if cutouts.ndim == 4 else (None, None)


def holds_images(table, key):
    """Recognize a column of images, whatever they are, or of their files.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    key : str
        Name of the column.

    Returns
    -------
    bool
    """
    column = table[key]
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    is_file = kind in "SU" and kind and key.lower() in FILE_COLUMNS
    return kind == "O" or is_file or kind in "iuf" and kind and column.ndim > 2


def _adapted(one):
    """Give color images and plain cubes the form in which they are read."""
    meta = {}
    if isinstance(one, str | os.PathLike) and is_color_file(one):
        meta["OBJECT"] = file_stem(one)
        one = read_color_file(one)
    if is_rgb(one):
        return NDData(np.moveaxis(one, 2, 0), meta=meta | {COLORS: True})
    if isinstance(one, np.ndarray) and one.ndim == 3 and one.dtype.kind != "O":
        return NDData(one)
    return one


def _with_bands(members):
    """Pass members on; in the end raise where the bands are wrong and none is usable.

    Rows of nothing would hide that the call itself, or all headers, name no such bands.
    """
    wrong, usable = None, False
    for member in members:
        if not isinstance(member, Failure):
            usable = True
        elif getattr(member.error, "argument", None) == "bands":
            wrong = wrong or member.error
        yield member
    if wrong is not None and not usable:
        raise wrong


def _read_one(member, index, known):
    """Bring one observation into the form that is prepared."""
    meta, rows = member.meta, slice(index, index + 1)
    values = member.values if member.values.ndim == 3 else member.values[None]
    std = None if member.std is None else member.std.reshape(1, *values.shape)
    colored = bool(meta.get(COLORS))
    bands = band_names(meta, known.bands, len(values), colored)
    own = angles_of(meta, "PIXSCALE")
    if own is None and known.scale is None:
        own = [_wcs_scale(member.wcs)]
        if np.isnan(own[0]) and number_of(meta, "PIXAR_A2"):
            own = [math.sqrt(number_of(meta, "PIXAR_A2"))]
    scale = known.scales(rows, np.array([np.nan if own is None else own[0]]))
    own = angles_of(meta, "R_EFF")
    radii = known.radii(rows, np.array([np.nan if own is None else own[0]]), scale)
    own = angles_of(meta, "PSFFWHM") if known.width is None else None
    own = None if own is None else np.array([own])
    return _images(
        values[None],
        std,
        bands,
        unit_of(meta, member.unit, len(values)),
        scale=scale,
        radii=radii,
        psf_fwhm=known.widths(rows, own, scale, len(values)),
        # Nothing here is counted from north.
        flags=[(member.flags | flags_of(meta)) & ~int(Flag.NO_WCS)],
        names=[member.name],
        field=field_of(meta),
        colored=colored,
        wcs=[member.wcs],
        known=known,
    )


def _read_stack(stack, known):
    """Read a stack of cutouts block by block."""
    own_r_eff, names, n_bands = _catalog_radii(stack), stack.names, len(stack.bands)
    bands = stack.bands if known.bands is None else known.bands
    own_width = None if stack.psf_fwhm is None else stack.psf_fwhm.value
    unit, field = unit_of(stack.meta, stack.unit, n_bands), field_of(stack.meta)

    def read(rows):
        std = None if stack.uncertainty is None else stack.uncertainty[rows]
        mask = None if stack.mask is None else stack.mask[rows]
        values, std, flags = _usable(stack.data.value[rows], mask, std)
        scale = stack.pixel_scale.value[rows]
        if known.scale is None and np.isnan(scale).any():
            pairs = zip(scale, stack.wcs[rows], strict=True)
            scale = np.array([_wcs_scale(w) if np.isnan(s) else s for s, w in pairs])
        scale = known.scales(rows, scale)
        width = None if own_width is None else own_width[rows]
        return _images(
            values,
            std,
            checked_bands(bands, n_bands),
            unit,
            scale=scale,
            radii=known.radii(rows, own_r_eff[rows], scale),
            psf_fwhm=known.widths(rows, width, scale, n_bands),
            flags=flags | stack.flags[rows],
            names=names[rows],
            field=field,
            wcs=stack.wcs[rows],
            known=known,
        )

    return _read_blocks(stack.data.shape, names, read)


def _read_array(images, names, known, unit):
    """Read an array of images block by block."""
    unit = unit if getattr(images, "unit", None) is None else images.unit
    mask = getattr(images, "mask", None)
    values = np.asarray(getattr(images, "unmasked", images))
    if values.dtype.kind not in "iuf":
        got = f"values of type {values.dtype}"
        raise InputTypeError("cutouts", got, "integers or floats")
    mask = None if mask is None else np.broadcast_to(mask, values.shape)
    colored = is_rgb(values, 4)
    if colored:
        values = np.moveaxis(values, 3, 1)
        mask = None if mask is None else np.moveaxis(mask, 3, 1)
    bands = RGB_BANDS if known.bands is None and colored else known.bands
    names = [None] * len(values) if names is None else names
    nothing = np.full(len(values), np.nan)

    def read(rows):
        block, _, flags = _usable(values[rows], None if mask is None else mask[rows])
        scale = known.scales(rows, nothing[rows])
        return _images(
            block,
            None,
            checked_bands(bands, values.shape[1]),
            unit,
            scale=scale,
            radii=known.radii(rows, nothing[rows], scale),
            psf_fwhm=known.widths(rows, None, scale, values.shape[1]),
            flags=flags,
            names=names[rows],
            colored=colored,
            known=known,
        )

    return _read_blocks(values.shape, names, read)


def _read_blocks(shape, names, read):
    """Read as many rows at a time as can be held."""
    size = BLOCK_PIXELS // max(math.prod(shape[1:]), 1)
    size = min(max(size, 1), BLOCK)
    for start in range(0, shape[0], size):
        rows = slice(start, min(start + size, shape[0]))
        try:
            yield read(rows)
        except Exception:
            # What is wrong with one image ends no batch.
            for row in range(rows.start, rows.stop):
                try:
                    yield read(slice(row, row + 1))
                except Exception as error:
                    yield Failure(error, names[row])


def _usable(values, mask, std=None):
    """Make NaN what is masked, not finite or has no error, as reading one does.

    Returns the values, native floats, not copied where all are known; the errors; and
    bits of `galml.core.Flag`, shape (n,).
    """
    single = np.result_type(values.dtype, np.float32).itemsize == 4
    values = values.astype(np.float32 if single else np.float64, copy=False)
    flags = np.full(len(values), 0 if std is not None else int(Flag.NO_UNCERTAINTY))
    bad = np.zeros(values.shape, bool) if mask is None else np.array(mask, dtype=bool)
    # NaN and infinity stay in a sum.
    with np.errstate(invalid="ignore", over="ignore"):
        partial = ~np.isfinite(values.sum((1, 2, 3), dtype=float))
    if partial.any():
        nonfinite = ~np.isfinite(values[partial])
        new = (nonfinite & ~bad[partial]).any((1, 2, 3))
        flags[partial] |= np.where(new, int(Flag.NONFINITE), 0)
        bad[partial] |= nonfinite
    if std is not None:
        bad |= ~(np.isfinite(std) & (std >= 0))
    if bad.any():
        values = np.where(bad, values.dtype.type(np.nan), values)
        std = None if std is None else np.where(bad, np.nan, std)
    return values, std, flags


def _images(
    values,
    std,
    bands,
    unit,
    *,
    scale,
    radii,
    psf_fwhm,
    flags,
    names,
    known,
    field=None,
    colored=False,
    wcs=None,
):
    """Scale images of one shape to fluxes, and measure radii that are missing."""
    if bands is None:
        bands = ASSUMED
        flags = np.array(flags) | int(Flag.BAND_ASSUMED if known.flag_bands else 0)
    wavelengths, colors, calibrated = wavelengths_of(bands), None, True
    noise = np.full(values.shape[:2], np.nan)
    if colored:
        colors = np.clip(values.astype(np.float32) / np.float32(255), 0, 1)
        values, unit = linear_images(colors), FLUX
        factors = np.ones(values.shape[:2])
    else:
        factors, power, calibrated = flux_factors(unit, wavelengths)
        # Colors need no pixel scale: without one, the unit is some area.
        area = np.where(np.isnan(scale), 1.0, scale) ** power
        factors = area[:, None] * np.array(factors)
        if not calibrated:
            factors = factors / _magnitude(values)[:, None]
        if (factors != 1).any():
            values = values * factors[..., None, None].astype(values.dtype)
        if std is not None:
            finite = np.isfinite(std)
            total = np.where(finite, std, 0.0).sum((2, 3), dtype=float)
            number = finite.sum((2, 3))
            noise = total / np.maximum(number, 1) * factors
            noise[number == 0] = np.nan
    r_eff, missing, errors = radii
    if known.flag_units and not calibrated and unit == u.dimensionless_unscaled:
        flags = np.array(flags) | int(Flag.NO_UNIT)
    center = np.full((len(values), 2), np.nan)
    flags, r_eff = np.array(flags, dtype=int), np.array(r_eff, dtype=float)
    place = nearest_band(wavelengths, known.reference or REFERENCE)
    flags[_empty(values[:, place])] |= int(Flag.NO_SOURCE_AT_CENTER)
    if calibrated:
        brightest = np.fmax.reduce(values.reshape(len(values), -1), axis=1)
        flags[brightest > BRIGHTEST] |= int(Flag.OUT_OF_DOMAIN)
    if known.reference is not None and missing.any():
        for row in np.flatnonzero(missing):
            r_eff[row], center[row] = _measured(
                values[row, place], psf_fwhm[row, place]
            )
            flags[row] |= int(Flag.SIZE_MEASURED)
    unresolved = r_eff < UNRESOLVED * psf_fwhm[:, place]
    if known.reference is None:
        unresolved |= _unresolved(values[:, place], psf_fwhm[:, place])
    flags[unresolved] |= int(Flag.POINT_SOURCE)
    return GalaxyImages(
        values=values,
        bands=bands,
        wavelengths=wavelengths,
        calibrated=calibrated,
        r_eff=r_eff,
        noise=noise,
        psf_fwhm=psf_fwhm,
        center=center,
        pixel_scale=np.array(scale, dtype=float),
        flags=flags,
        names=list(names),
        colors=colors,
        errors=errors,
        fields=[field] * len(values),
        originals=[
            Original(unit, *row)
            for row in zip(factors, wcs or [None] * len(values), strict=True)
        ],
    )


def _empty(planes):
    """Tell where nothing at the center stands out of the noise of the border.

    Noise of the border that galaxies reach is too high, so that only brightness well
    above it counts; where one of both is not known, nothing is told.
    """
    ny, nx = planes.shape[1:]
    border = np.ones((ny, nx), dtype=bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    y, x = (max((n - MIDDLE) // 2, 0) for n in (ny, nx))
    middle = planes[:, y : y + MIDDLE, x : x + MIDDLE].reshape(len(planes), -1)
    around = planes[:, border]
    sky = np.median(around, axis=1)
    noise = GAUSSIAN * np.median(np.abs(around - sky[:, None]), axis=1)
    signal = (np.median(middle, axis=1) - sky) * math.sqrt(middle.shape[1])
    return signal < FAINTEST * noise


def _measured(plane, psf_fwhm):
    """Measure size and center, of large images on blocks of pixels."""
    from galml.imaging.stamps import measure_size

    side = math.ceil(max(plane.shape) / LARGEST)
    if side > 1:
        plane, psf_fwhm = block_reduce(plane, side, np.mean), psf_fwhm / side
    r_eff, center = measure_size(plane, psf_fwhm)
    return r_eff * side, (center + 0.5) * side - 0.5


def _unresolved(planes, psf_fwhm):
    """Tell which sources are as narrow as the PSF, where sizes are not needed.

    To measure a size takes longer than all else, so that it is done where most of the
    light is as near to the brightest pixel as a Gaussian PSF has it.
    """
    from galml.imaging.stamps import measure_size

    found = np.zeros(len(planes), dtype=bool)
    for row in np.flatnonzero((psf_fwhm > 0) & np.isfinite(psf_fwhm)).tolist():
        plane, width = planes[row].astype(float), psf_fwhm[row]
        reach = math.ceil(min(1.5 * width, max(plane.shape)))
        middle = tuple(
            slice(max(n // 2 - reach, 0), n // 2 + reach + 1) for n in plane.shape
        )
        sky = np.nanmedian(plane) if np.isfinite(plane).any() else np.nan
        light = plane[middle] - sky
        peak = np.fmax.reduce(light, axis=None) * width**2 / PEAK
        if peak > SHARP * np.nansum(light) > 0:
            r_eff, _ = measure_size(plane, width)
            found[row] = r_eff < UNRESOLVED * width
    return found


def _magnitude(values):
    """Give the power of two next to the largest value of each galaxy, shape (n,).

    Divided by it, fluxes of any unit are held in single precision, with all digits.
    """
    size = np.abs(values).max((1, 2, 3), initial=0.0)
    if np.isnan(size).any():
        size = np.abs(np.nan_to_num(values, nan=0.0)).max((1, 2, 3), initial=0.0)
    size = size.astype(float)
    return 2.0 ** np.round(np.log2(np.where(size > 0, size, 1.0)))


def _wcs_scale(wcs):
    """Side of a pixel in arcsec, NaN where there is no WCS."""
    scale = scale_of(wcs)
    return np.nan if scale is None else scale.to_value(u.arcsec / u.pix)


def _catalog_radii(stack):
    """Effective radii (arcsec) that the catalog of a stack knows, NaN otherwise."""
    result = np.full(len(stack), np.nan)
    if stack.catalog is None or "r_eff" not in stack.catalog.colnames:
        return result
    column = stack.catalog["r_eff"]
    values = u.Quantity(getattr(column, "unmasked", column), dtype=float)
    if values.unit.is_equivalent(u.arcsec):
        gone = np.asarray(getattr(column, "mask", False), dtype=bool)
        result = np.where(gone, np.nan, values.to_value(u.arcsec))
    result[~np.isfinite(result)] = np.nan
    return result
