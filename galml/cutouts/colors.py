# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Color images of three bands, for many galaxies at once."""

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

from galml.core.exceptions import InputError, InputUnitError
from galml.core.geometry import pixel_scale as scale_of
from galml.cutouts.scaling import level_in, read_images, to_flux
from galml.cutouts.stack import CutoutStack
from galml.physics import PIVOT_WAVELENGTHS, band_name

__all__ = ["lupton_rgb", "sdss_rgb"]

#: Factors for i, r and g in nanomaggies per SDSS pixel, the strength of the asinh, and
#: the pixel: defaults of ``nw_scale_rgb`` and ``nw_arcsinh`` of the SDSS software
#: idlutils, by Wherry, Blanton & Hogg after Lupton et al. (2004).
SDSS_SCALES = (4.9, 5.7, 7.8)
SDSS_NONLINEARITY = 3.0
SDSS_PIXEL = 0.396 * u.arcsec

# Without a given stretch, this percentile of an image is as bright as can be, unless
# the noise would be brighter than it is at a stretch of so many sigma.
_BRIGHT = 99.7
_NOISE = 10.0
# Value of the asinh stretch at a tenth of its argument, see LuptonAsinhStretch.
_FRACTION = 0.1


def lupton_rgb(
    data, *, bands=None, scales=(1, 1, 1), minimum=0.0, stretch=None, Q=8, fill=0.0
):
    """Make color images in which color does not depend on brightness.

    After Lupton et al. (2004, PASP 116, 133), through
    `astropy.visualization.make_lupton_rgb`.

    Parameters
    ----------
    data : object
        A `~galml.cutouts.CutoutStack`, a `~astropy.nddata.CCDData` as a stack gives
        it, or an array or Quantity of shape (..., bands, ny, nx).
    bands : sequence of str or int, optional
        Three bands for red, green and blue, or one for gray; by default the reddest,
        the middle and the bluest one, by the wavelengths of their names, or in order
        where these are not known. Of two bands, green is the mean.
    scales : sequence of float
        Factors for red, green and blue.
    minimum : float or `~astropy.units.Quantity`
        Value that is black, as the sky; in the unit of the data unless it has one.
    stretch : float, array_like or `~astropy.units.Quantity`, optional
        Brightness up to which the image is about linear: one for all images, or one
        for each, after scaling; in the unit of the data unless it has one. By default
        each image gets one of its own after its bright pixels and its noise.
    Q : float
        Softening: the larger it is, the closer are bright and faint; above 0.
    fill : float
        Value of pixels that are unknown in any of the bands.

    Returns
    -------
    `~numpy.ndarray`
        Shape (..., ny, nx, 3), float32 from 0 to 1.

    Raises
    ------
    galml.core.InputError
        For bands that are not there, and values out of range.
    galml.core.InputTypeError
        For objects of a kind that is not understood.
    galml.core.InputUnitError
        For units that do not fit to the image.

    Examples
    --------
    >>> import numpy as np
    >>> from galml.cutouts import lupton_rgb
    >>> images = np.random.default_rng(0).normal(1, 0.1, (10, 3, 32, 32))
    >>> lupton_rgb(images, stretch=0.1).shape
    (10, 32, 32, 3)
    """
    values, unit, names = read_images(data)
    if not (np.isfinite(Q) and Q > 0):
        raise InputError("Q", f"{Q}", "a number above 0")
    planes = _planes(values - level_in("minimum", minimum, unit), bands, names)
    planes = planes * _three("scales", scales)[:, None, None]
    if stretch is None:
        level = _automatic(planes.mean(axis=-3), Q)
    else:
        level = level_in("stretch", stretch, unit)
        if np.shape(level) not in ((), planes.shape[:-3]) or not np.all(level > 0):
            expected = f"values above 0, one or of shape {planes.shape[:-3]}"
            raise InputError("stretch", f"{stretch}", expected)
    planes = planes / np.asarray(level)[..., None, None, None]
    return _colors(planes, 1.0, Q, fill)


def sdss_rgb(
    data,
    *,
    bands=None,
    pixel_scale=None,
    zero_point=None,
    scales=SDSS_SCALES,
    nonlinearity=SDSS_NONLINEARITY,
    fill=0.0,
):
    """Make color images as those of SDSS.

    The recipe of the SDSS software idlutils: red, green and blue are i, r and g in
    nanomaggies per SDSS pixel of 0.396 arcsec, times 4.9, 5.7 and 7.8; the sum s of
    the three becomes asinh(3 s) / 3; and where a color exceeds 1, all three are
    divided by it. The SkyServer's converter is another variation of Lupton et al.
    (2004), so that its JPEG images look alike, but are not equal.

    Parameters
    ----------
    data : object
        As for `lupton_rgb`; surface brightness, or flux per pixel.
    bands : sequence of str or int, optional
        As for `lupton_rgb`.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel, one for all or one for each image: for flux per pixel in
        arrays. A stack, and an image out of it, know theirs.
    zero_point : float, sequence or mapping, optional
        As for `to_flux`.
    scales : sequence of float
        Factors for red, green and blue: the smaller, the darker the image.
    nonlinearity : float
        The 3 of the recipe, above 0: the smaller, the more linear.
    fill : float
        As for `lupton_rgb`.

    Returns
    -------
    `~numpy.ndarray`
        Shape (..., ny, nx, 3), float32 from 0 to 1.

    Raises
    ------
    galml.core.InputError
        When the pixel scale is missing; else as `lupton_rgb` and `to_flux` do.
    """
    fluxes = to_flux(data, zero_point=zero_point)
    nanomaggie = (22.5 * u.ABmag).to_value(u.nJy)
    if fluxes.unit == u.nJy:
        side = _side(data, pixel_scale).to_value(SDSS_PIXEL.unit)
        if np.shape(side) not in ((), fluxes.shape[:-3]):
            expected = f"one or of shape {fluxes.shape[:-3]}"
            raise InputError("pixel_scale", f"shape {np.shape(side)}", expected)
        area = (SDSS_PIXEL.value / np.asarray(side)) ** 2
    else:
        area = np.asarray(SDSS_PIXEL.value**2)
    planes = _planes(fluxes.value, bands, read_images(data)[2])
    if not (np.isfinite(nonlinearity) and nonlinearity > 0):
        raise InputError("nonlinearity", f"{nonlinearity}", "a number above 0")
    factors = _three("scales", scales) / nanomaggie
    planes = planes * (area[..., None] * factors)[..., None, None]
    # In terms of the mean m of the three: asinh(3 b m) / (3 b).
    slope = 3 * nonlinearity
    Q = np.sinh(_FRACTION * slope) / _FRACTION
    return _colors(planes, Q / slope, Q, fill)


def _colors(planes, stretch, Q, fill):
    """Map planes (..., 3, ny, nx) to colors (..., ny, nx, 3)."""
    # It imports matplotlib where there is one.
    from astropy.visualization import LuptonAsinhStretch, make_lupton_rgb

    known = np.isfinite(planes).all(axis=-3)
    shape = known.shape
    # Colors are made pixel by pixel: many images are one tall image.
    tall = np.moveaxis(np.where(known[..., None, :, :], planes, 0.0), -3, 0)
    tall = tall.reshape(3, -1, shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        asinh = LuptonAsinhStretch(stretch=stretch, Q=Q)
        colors = make_lupton_rgb(*tall, stretch_object=asinh, output_dtype=float)
    colors = colors.reshape(*shape, 3).astype(np.float32)
    return np.where(known[..., None], colors, np.float32(fill))


def _automatic(brightness, Q):
    """Find a stretch for each image that shows its bright pixels, but no noise."""
    white = np.sinh(np.arcsinh(_FRACTION * Q) / _FRACTION) / Q
    known = np.isfinite(brightness)
    safe = np.where(known, brightness, 0.0)
    bright = np.percentile(safe, _BRIGHT, axis=(-2, -1))
    # Light of galaxies is positive: what is negative is noise alone.
    below = np.minimum(safe, 0.0)
    count = np.maximum((below < 0).sum(axis=(-2, -1)), 1)
    noise = np.sqrt((below**2).sum(axis=(-2, -1)) / count)
    level = np.maximum(bright / white, _NOISE * noise)
    return np.where(level > 0, level, 1.0)


def _planes(values, bands, names):
    """Select red, green and blue."""
    n = values.shape[-3]
    order = _blue_to_red(names, n)
    if bands is None and n == 2:
        blue, red = (values[..., place, :, :] for place in order)
        return np.stack([red, (blue + red) / 2, blue], axis=-3)
    if bands is None:
        bands = order[-1], order[n // 2], order[0]
    places = [names.index(b) if names and b in names else b for b in bands]
    known = all(isinstance(i, int | np.integer) and 0 <= i < n for i in places)
    if len(places) not in (1, 3) or not known:
        expected = f"1 or 3 out of {names or f'0 to {n - 1}'}"
        raise InputError("bands", f"{tuple(bands)}", expected)
    return np.take(values, places * (3 // len(places)), axis=-3)


def _blue_to_red(names, n):
    """Give the places of n bands in order of wavelength, where all are known."""
    known = [band_name(name) for name in names or ()]
    if len(known) != n or None in known:
        return list(range(n))
    return sorted(range(n), key=lambda place: PIVOT_WAVELENGTHS[known[place]])


def _three(argument, values):
    """Check three finite factors."""
    values = np.asarray(values, dtype=float)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise InputError(argument, f"{values}", "three finite numbers")
    return values


def _side(data, pixel_scale):
    """Find the side of the pixels."""
    if pixel_scale is not None:
        if not u.Quantity(pixel_scale).unit.is_equivalent(u.arcsec):
            raise InputUnitError("pixel_scale", f"{pixel_scale!r}", "an angle")
        return u.Quantity(pixel_scale)
    if isinstance(data, CutoutStack):
        return data.pixel_scale
    if isinstance(data, NDData):
        if "PIXSCALE" in data.meta:
            return data.meta["PIXSCALE"] * u.arcsec
        if data.wcs is not None:
            return scale_of(data.wcs) * u.pix
    raise InputError("pixel_scale", "none", "an angle, as the image knows none")
