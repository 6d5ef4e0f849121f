# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find the galaxies and stars of an image, and measure them."""

import itertools
import math
import os
import sys
from numbers import Real

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

from galml.core.exceptions import InputError
from galml.core.files import parse_unit
from galml.core.flags import Flag
from galml.core.geometry import arrange, celestial, pixel_scale, sky_angle
from galml.core.inputs import read
from galml.core.results import build_table
from galml.core.threads import changing_filters
from galml.cutouts.allsky import is_hips
from galml.cutouts.images import OpenFiles, check_sky, open_image
from galml.cutouts.psf import SIGMA, in_pixels
from galml.cutouts.shapes import APERTURE, WIDEST, exponent_of, measure, scaled

__all__ = ["detect", "measure"]

#: Side of the boxes in which the sky is measured, in pixels.
BOX = 64
#: FWHM in pixels of the filter when the PSF is not known.
FILTER = 3.0
#: Least size of a source, in areas of the PSF or of the filter: four FWHM across, as
#: galaxies are whose shape can be seen, and stars only where they are bright. See
#: benchmarks/detection_fields.py.
AREAS = 17.0
#: Largest share of masked pixels, in per cent, in a box whose sky counts.
COVERED = 90.0
#: Half the side of the image around a source in half sides of its segment, and pixels
#: more than that.
REACH, BORDER = 2.0, 12
#: Least side of the tiles in which large images are worked on, and of what is added
#: around them, in pixels; both become multiples of the boxes of the sky.
TILE, OVERLAP = 1024, 256
LENGTHS = ("r_eff", "r_petro")
NUMBERS = ("flux", "flux_err", *LENGTHS, "ellipticity", "position_angle", "snr")


def detect(
    image,
    *,
    threshold=1.5,
    min_pixels=None,
    contrast=0.01,
    box_size=BOX,
    psf_fwhm=None,
    unit=None,
    hdu=None,
):
    """Detect the sources of an image and measure their sizes and shapes.

    The sky of `~photutils.background.Background2D` is subtracted, measured again
    without the sources of a first detection. Segments of the smoothed image are
    deblended with `photutils.segmentation`; each source is then measured with
    `measure` on an image in which the other segments are masked.

    Images of more than some thousand pixels on a side are worked on in tiles that
    overlap, and files are read tile by tile. A source belongs to the tile that holds
    its brightest pixel, and is the same as without tiles when it is smaller than the
    overlap of 256 pixels (or two boxes of the sky, if that is more); only the sky,
    interpolated over several boxes, is not quite the same, by which sizes and fluxes
    of bright sources change by less than 1e-3.

    Parameters
    ----------
    image : object
        One 2-D image: `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`,
        `~astropy.units.Quantity`, array, HDU or path to a FITS file. Mask and
        uncertainty (of any kind) are used.
    threshold : float, optional
        Least brightness of the smoothed image, in standard deviations of a pixel
        before smoothing.
    min_pixels : int, optional
        Least number of connected pixels of a source. By default that of galaxies whose
        shape can be seen, in place of all sources: 17 times the area of the PSF, which
        is that of a circle of its FWHM across, and at least 120.
    contrast : float, optional
        Share of the light of a source that a part needs to count as its own; 1 does
        not deblend.
    box_size : int, optional
        Side in pixels of the boxes in which the sky is measured; larger than the
        galaxies.
    psf_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the PSF, in pixels or as an angle: it is the filter, and sizes and
        shapes are corrected for it.
    unit : `~astropy.units.Unit`, optional
        Unit of an image that has none.
    hdu : int or str, optional
        Extension of a FITS file.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, the brightest first: ``id``; ``x``, ``y`` (center in
        pixels, counted from 0) and ``sky`` (SkyCoord, when there is a celestial WCS);
        ``flux``, ``flux_err`` (in two Petrosian radii, unit of the image);
        ``r_eff``, ``r_petro`` (semi-major half-light and Petrosian radius, in arcsec
        with a WCS and pixels without); ``ellipticity`` (1 − b/a);
        ``position_angle`` (degrees in [0°, 180°), east of north with a WCS and
        counter-clockwise from +y without); ``snr``; ``flags``. What cannot be
        measured is NaN.

    Raises
    ------
    galml.core.InputError
        When the image has no usable pixel or an argument is out of range.
    galml.core.InputTypeError
        When ``image`` is not understood.

    Examples
    --------
    Two galaxies in the noise of an image:

    >>> import numpy as np
    >>> from astropy.modeling.models import Sersic2D
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from galml.cutouts import detect
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.crval, wcs.wcs.crpix = (150, 2), (100.5, 100.5)
    >>> wcs.wcs.cdelt = -1e-4, 1e-4
    >>> y, x = np.mgrid[:200, :200]
    >>> values = np.random.default_rng(0).normal(10, 1, x.shape)
    >>> values += Sersic2D(80, r_eff=8, n=1, x_0=60, y_0=70, ellip=0.5)(x, y)
    >>> values += Sersic2D(50, r_eff=6, n=1, x_0=140, y_0=130)(x, y)
    >>> table = detect(CCDData(values, unit="nJy", wcs=wcs))
    >>> table["x"].round(), table["r_eff"].round(1)
    (<Quantity [ 60., 140.] pix>, <Quantity [2.9, 2.2] arcsec>)
    >>> table["ellipticity"].round(1)
    array([0.5, 0. ])
    """
    for argument, value in (("threshold", threshold), ("contrast", contrast)):
        most = 1 if argument == "contrast" else sys.float_info.max
        if not (isinstance(value, Real) and 0 < value <= most):
            raise InputError(argument, f"{value}", "a number above zero")
    least = 1 if min_pixels is None else min_pixels
    for argument, value in (("min_pixels", least), ("box_size", box_size)):
        whole = isinstance(value, Real) and float(value).is_integer()
        if not (whole and value >= 1):
            raise InputError(argument, f"{value}", "a whole number above zero")
    unit = None if unit is None else parse_unit(unit, "unit")
    rows, usable = [], False
    if isinstance(image, str | os.PathLike) and is_hips(image):
        raise InputError("image", "a HiPS", "one image")
    with OpenFiles() as files:
        data = open_image(image, files, unit=unit, hdu=hdu, argument="image")
        shape = tuple(data.data.shape)
        axes, wcs = arrange(data.wcs, shape, 2, "image")
        wcs = celestial(wcs) if len(axes) == 2 else None
        if wcs is not None:
            check_sky(wcs, shape, "image")
        width = None
        if psf_fwhm is not None:
            center = [(shape[axis] - 1) / 2 for axis in axes[::-1]]
            scale = pixel_scale(wcs, center)
            width = in_pixels(psf_fwhm, scale, "psf_fwhm", WIDEST)
        smoothing = SIGMA * (width or FILTER)
        if min_pixels is None:
            min_pixels = round(AREAS * math.pi / 4 * max(width or 0, FILTER) ** 2)
        for own, around in _tiles(shape, axes, int(box_size)):
            found = read(
                _window(data, shape, axes, around), argument="image", unit=unit
            )
            if found.mask.all():
                continue
            usable = True
            exponent = exponent_of(found.values)
            scaled_down = np.ldexp(found.values, -exponent)
            segments = None
            for depth in (1.0, contrast):
                sky, noise = _background(scaled_down, found.mask, segments, box_size)
                values = scaled_down - sky
                if found.std is not None:
                    noise = np.ldexp(found.std, -exponent)
                segments = _segments(
                    values, found.mask, threshold * noise, smoothing, min_pixels, depth
                )
            if segments is not None:
                found_here = _measure_all(values, noise, segments, width, own, around)
                rows += (scaled(row, exponent) for row in found_here)
    if not usable:
        raise InputError(
            "image", "no usable pixel", "finite values that are not masked"
        )
    flags = found.flags & int(Flag.NO_UNCERTAINTY)
    flags |= int(Flag.NO_WCS) if wcs is None else 0
    call = {"threshold": threshold, "min_pixels": min_pixels, "contrast": contrast}
    return _table(rows, found.unit, flags, wcs, call)


def _tiles(shape, axes, box_size):
    """Split an image into tiles; yield their slices, without and with a margin."""
    sides = []
    for axis in axes:
        n = shape[axis]
        tile = math.ceil(TILE / box_size) * box_size
        overlap = max(math.ceil(OVERLAP / box_size), 2) * box_size
        # A last piece that is smaller than what is around it is no tile of its own.
        edges = [*range(0, max(n - overlap, 1), tile), n]
        own = [slice(*pair) for pair in itertools.pairwise(edges)]
        around = [
            slice(max(s.start - overlap, 0), min(s.stop + overlap, n)) for s in own
        ]
        sides.append(zip(own, around, strict=True))
    for pairs in itertools.product(*sides):
        yield tuple(zip(*pairs, strict=True))


def _window(data, shape, axes, part):
    """Read a part of an image, along these axes, with mask and uncertainty."""
    index = [slice(None)] * len(shape)
    for axis, along in zip(axes, part, strict=True):
        index[axis] = along

    def cut(array):
        array = array if hasattr(array, "shape") else np.asarray(array)
        return np.asarray(array[tuple(index)] if array.shape == shape else array)

    uncertainty = data.uncertainty
    if uncertainty is not None:
        uncertainty = type(uncertainty)(cut(uncertainty.array), unit=uncertainty.unit)
    mask = None if data.mask is None else cut(data.mask)
    if getattr(data, "mask_bits", None) is not None:
        mask = mask & mask.dtype.type(data.mask_bits)
    return NDData(cut(data.data), unit=data.unit, mask=mask, uncertainty=uncertainty)


def _background(values, mask, segments, box_size):
    """Measure the sky and its noise, with the sources masked when they are known."""
    from photutils.background import Background2D

    sources = mask
    if segments is not None:
        sources = mask | segments.make_source_mask(size=BORDER + 1)
        # A galaxy that fills the image leaves no sky: the first guess has to do.
        if sources.mean() > COVERED / 100:
            sources = mask
    box = [min(int(box_size), n) for n in values.shape]
    boxes = [math.ceil(n / b) for n, b in zip(values.shape, box, strict=True)]
    percentile = COVERED if sources is not mask else 100.0
    with changing_filters:
        sky = Background2D(
            np.where(mask, 0.0, values),
            box,
            mask=sources,
            exclude_percentile=percentile,
            filter_size=[min(3, n - (n + 1) % 2) for n in boxes],
        )
        return sky.background, sky.background_rms


def _segments(values, mask, level, smoothing, min_pixels, contrast):
    """Find the pixels that belong to each source; None where there is none."""
    from photutils.segmentation import deblend_sources, detect_sources
    from scipy.ndimage import gaussian_filter, label

    smooth = gaussian_filter(np.where(mask, 0.0, values), smoothing)
    level = np.broadcast_to(np.nan_to_num(level, nan=np.inf), values.shape)
    # photutils would warn where it finds none.
    parts, _ = label((smooth > level) & ~mask, np.ones((3, 3)))
    if not (np.bincount(parts.ravel())[1:] >= min_pixels).any():
        return None
    with changing_filters:
        segments = detect_sources(smooth, level, min_pixels, mask=mask)
        if contrast == 1:
            return segments
        return deblend_sources(
            smooth, segments, min_pixels, contrast=contrast, progress_bar=False
        )


def _measure_all(values, noise, segments, width, own, around):
    """Measure each segment of a tile on an image of its surroundings."""
    from photutils.segmentation import SourceCatalog

    with changing_filters:
        catalog = SourceCatalog(values, segments)
        places = catalog.bbox, catalog.x_centroid, catalog.y_centroid
        peaks = np.atleast_2d(catalog.max_value_index)
    labels = segments.data
    noise = np.broadcast_to(noise, values.shape)
    start = [part.start for part in around]
    peaks = peaks + start
    for label, peak, box, x, y in zip(catalog.labels, peaks, *places, strict=True):
        if not all(p.start <= at < p.stop for at, p in zip(peak, own, strict=True)):
            continue
        if not (np.isfinite(x) and np.isfinite(y)):
            x, y = (box.ixmin + box.ixmax - 1) / 2, (box.iymin + box.iymax - 1) / 2
        half = int(REACH * max(box.shape) / 2) + BORDER
        corner = round(float(y)) - half, round(float(x)) - half
        part = [
            slice(max(c, 0), min(c + 2 * half + 1, n))
            for c, n in zip(corner, values.shape, strict=True)
        ]
        pad = [
            (p.start - c, c + 2 * half + 1 - p.stop)
            for c, p in zip(corner, part, strict=True)
        ]
        part = tuple(part)
        others = (labels[part] != 0) & (labels[part] != label)
        row = measure(
            np.pad(np.where(others, np.nan, values[part]), pad, constant_values=np.nan),
            std=np.pad(noise[part], pad, constant_values=np.nan),
            psf_fwhm=width,
        )
        y_others, x_others = np.nonzero(np.pad(others, pad))
        distance = np.hypot(y_others - row["y"], x_others - row["x"])
        if (distance < APERTURE * row["r_petro"]).any():
            row["flags"] |= int(Flag.NEIGHBORS)
        # The centroid of the segment is there where nothing else is.
        for key, axis, known in (("x", 1, x), ("y", 0, y)):
            place = row[key] + corner[axis] if np.isfinite(row[key]) else float(known)
            row[key] = place + start[axis]
        yield row


def _table(rows, unit, flags, wcs, call):
    """Make the table, with units and sky coordinates."""
    rows = sorted(rows, key=lambda row: -np.nan_to_num(row["flux"], nan=-np.inf))
    column = {
        key: np.array([row[key] for row in rows], dtype=float)
        for key in ("x", "y", *NUMBERS)
    }
    columns = {"id": np.arange(1, len(rows) + 1)}
    columns["x"], columns["y"] = column["x"] * u.pix, column["y"] * u.pix
    scale = 1.0 * u.pix
    if wcs is not None:
        columns["sky"] = wcs.pixel_to_world(column["x"], column["y"])
        places = list(zip(column["x"], column["y"], strict=True))
        scales = [pixel_scale(wcs, place).value for place in places]
        scale = np.array(scales, dtype=float) * u.arcsec
        angles = [
            sky_angle(angle, wcs, place).value
            for angle, place in zip(column["position_angle"], places, strict=True)
        ]
        column["position_angle"] = np.array(angles, dtype=float) % 180.0
    for key in NUMBERS:
        columns[key] = column[key]
    for key in ("flux", "flux_err"):
        columns[key] = u.Quantity(column[key], unit)
    for key in LENGTHS:
        columns[key] = column[key] * scale
    columns["position_angle"] = column["position_angle"] * u.deg
    return build_table(
        columns,
        operation="detect",
        flags=[row["flags"] | flags for row in rows],
        device="cpu",
        dtype="float64",
        seed=None,
        call=call,
    )
