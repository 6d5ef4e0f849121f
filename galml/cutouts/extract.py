# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images and a catalog made into a stack of aligned cutouts."""

from collections.abc import Mapping
from contextlib import ExitStack

import astropy.units as u
import numpy as np
from astropy.io import fits
from tqdm import tqdm

from galml.core.exceptions import InputError, InputUnitError
from galml.core.flags import Flag
from galml.core.results import warn_batch
from galml.cutouts import targets
from galml.cutouts.assembly import Chunk, Job
from galml.cutouts.images import is_per_pixel, open_images
from galml.cutouts.psf_plan import plan_psfs
from galml.cutouts.stack import CutoutStack

__all__ = ["extract_cutouts", "iter_cutouts"]


def extract_cutouts(images, catalog=None, **options):
    """Cut galaxies out of images, aligned in all bands.

    Every cutout is resampled once, from the original pixels, onto its own tangent
    plane with the galaxy in the center. Where output pixels are as large as those of
    the image or larger, the exact overlap of both is used, which conserves flux;
    where they are smaller, bilinear interpolation. Surface brightness is averaged,
    flux per pixel is summed, after the unit of the images or ``per_pixel``. The
    variance is propagated with the weights squared; the correlation of neighboring
    pixels, which resampling brings, is not in it. Masked and non-finite pixels are left
    out, and an output pixel of which less than half is left is masked. With
    ``target_psf``, images are convolved before they are resampled, on the pixels
    that sample the PSF best.

    Parameters
    ----------
    images : object, dict of str to object, or list of objects
        `~astropy.nddata.CCDData` or other `~astropy.nddata.NDData`, image HDU,
        `~astropy.io.fits.HDUList` or path to a FITS file: one, one per band, or a
        list named by their ``BAND`` or ``FILTER``. Each has its own celestial WCS
        with any projection, distortion, rotation and parity, unit, mask, uncertainty
        and PSF. Of files, no more is read than the galaxies need.
    catalog : `~astropy.table.Table` or `~astropy.coordinates.SkyCoord`, optional
        With a SkyCoord column, ``ra`` and ``dec``, or pixels ``x`` and ``y`` of the
        first image, and optionally ``r_eff`` (an angle, or pixels of the first
        image). By default, the galaxies are detected on the first image, tile by
        tile, with `galml.cutouts.detect`.
    size : int or `~astropy.units.Quantity`
        Side of the cutouts: pixels, an angle, or multiples of the effective radius
        such as ``8.48 * galml.cutouts.R_EFF``.
    n_pixels : int, optional
        Pixels on a side, instead of a pixel scale.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel: an angle or a fraction of ``R_EFF``. By default that of the
        first image in its center.
    psf : object or dict of str to object, optional
        PSF of the images, or of each band, as `galml.cutouts.psf.to_psf_image` takes
        it: array on the pixels of the image, FWHM, photutils model, or function of
        position. By default the ``psf`` of each NDData, if it has one.
    target_psf : `~astropy.units.Quantity` or tuple, optional
        PSF to which all bands are brought: FWHM of a Gaussian as an angle, or
        ``(array, pixel scale)``. By default, nothing is convolved.
    orientation : {"north", "image"}, optional
        North up and east left, or along the pixels of the first image.
    per_pixel : bool, optional
        Whether values are flux in a pixel (to be summed) or surface brightness (to be
        averaged). By default after the unit: counts, electrons, maggies and flux
        densities are flux in a pixel; per solid angle or per beam, surface brightness.
    method : {"auto", "bilinear", "exact"}, optional
        Resampling, instead of the choice by pixel scale.
    saturation : float, `~astropy.units.Quantity` or dict, optional
        Level from which on pixels are saturated, of all images or of each band; by
        default ``SATURATE`` of the headers.
    unit : `~astropy.units.UnitBase` or str, optional
        Unit of images that have none.
    hdu : int or str, optional
        Extension of FITS files.
    chunk : int, optional
        Galaxies worked on at once.
    dtype : {"float32", "float64"}, optional
        Precision of the cutouts.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    `galml.cutouts.CutoutStack`
        One entry for each row of the catalog, in the same order, in the unit of
        the first image. The catalog gets a column ``masked_fraction``. Flags:
        ``FAILED`` (no usable pixel in any band, no position or no size, or a PSF
        that cannot be matched), ``TRUNCATED``, ``MASKED`` (more than 1 % of the
        pixels), ``NONFINITE``, ``NEIGHBORS`` (another entry of the catalog within
        half a side), ``SATURATED``, ``NO_UNCERTAINTY`` (of any band) and
        ``SIZE_MEASURED``.

    Raises
    ------
    galml.core.InputError
        For images without WCS, equal names of bands, a PSF broader than the target,
        catalogs without positions, and sizes that are zero or contradictory.
    galml.core.InputTypeError
        For objects of a kind that is not understood.
    galml.core.InputUnitError
        For units that are missing or cannot be converted.

    Warns
    -----
    galml.core.GalmlWarning
        Once, when galaxies have no usable pixels.
    """
    return CutoutStack.concatenate(iter_cutouts(images, catalog, **options))


def iter_cutouts(
    images,
    catalog=None,
    *,
    size,
    n_pixels=None,
    pixel_scale=None,
    psf=None,
    target_psf=None,
    orientation="north",
    per_pixel=None,
    method="auto",
    saturation=None,
    unit=None,
    hdu=None,
    chunk=256,
    dtype="float32",
    progress=False,
):
    """Cut galaxies out of images, chunk by chunk.

    Parameters
    ----------
    images, catalog
        As for `extract_cutouts`, as all others.
    size, n_pixels, pixel_scale, psf, target_psf, orientation, per_pixel, method
        As for `extract_cutouts`.
    saturation, unit, hdu, dtype, progress
        As for `extract_cutouts`.
    chunk : int, optional
        Galaxies in a stack.

    Yields
    ------
    `galml.cutouts.CutoutStack`
        Of consecutive rows of the catalog; a single empty one where it has none.
    """
    _choice("orientation", orientation, ("north", "image"))
    _choice("method", method, ("auto", "bilinear", "exact"))
    _choice("dtype", dtype, ("float32", "float64"))
    if not isinstance(chunk, int | np.integer) or chunk < 1:
        raise InputError("chunk", repr(chunk), "a whole number above zero")
    with ExitStack() as files:
        bands = open_images(images, files, psf=psf, unit=unit, hdu=hdu)
        if per_pixel is None:
            per_pixel = is_per_pixel(bands[0].unit)
        if per_pixel is None:
            raise InputError(
                "per_pixel", f"None with the unit {bands[0].unit}", "True or False"
            )
        flags = 0
        if catalog is None:
            catalog = _detect(images, unit, hdu)
            flags = np.asarray(catalog["flags"]) | int(Flag.SIZE_MEASURED)
        if any(band.uncertainty is None for band in bands):
            flags = flags | int(Flag.NO_UNCERTAINTY)
        catalog, sky, r_eff = targets.read_catalog(catalog, bands[0])
        n_pixels, scales = targets.plan_sizes(
            size,
            n_pixels,
            pixel_scale,
            targets.native_scale(bands[0]),
            r_eff,
            len(sky),
        )
        job = Job(
            bands=bands,
            psfs=plan_psfs(bands, target_psf, scales),
            levels=_levels(saturation, bands),
            n_pixels=n_pixels,
            orientation=orientation,
            method=method,
            per_pixel=bool(per_pixel),
            dtype=np.dtype(dtype),
        )
        flags = flags | _neighbors(sky, scales * n_pixels / 2.0)
        all_flags, errors = [], []
        starts = range(0, max(len(sky), 1), int(chunk))
        for start in tqdm(starts, unit="chunk", disable=not progress):
            rows = slice(start, start + int(chunk))
            part = Chunk(job, sky[rows], scales[rows], flags[rows])
            stack = part.stack(catalog[rows])
            all_flags.extend(stack.flags)
            failed = np.flatnonzero(stack.flags & int(Flag.FAILED))
            if len(failed) and not errors:
                errors.append(part.reason(failed[0], start + failed[0]))
            yield stack
        warn_batch(all_flags, errors, stacklevel=3)


def _choice(argument, value, known):
    """Check a keyword that has a few values."""
    if value not in known:
        expected = " or ".join(repr(name) for name in known)
        raise InputError(argument, repr(value), expected)


def _detect(images, unit, hdu):
    """Detect galaxies on the first image."""
    from galml.cutouts.detection import detect

    if isinstance(images, Mapping):
        images = next(iter(images.values()))
    elif isinstance(images, list | tuple) and not isinstance(images, fits.HDUList):
        images = images[0]
    return detect(images, unit=unit, hdu=hdu)


def _levels(saturation, bands):
    """Give the level of saturation of each band in its own unit."""
    levels = []
    for band in bands:
        level = saturation
        if isinstance(saturation, Mapping):
            level = saturation.get(band.band)
        if level is None:
            level = band.meta.get("SATURATE", np.inf)
        if isinstance(level, u.Quantity):
            if not level.unit.is_equivalent(band.unit):
                raise InputUnitError("saturation", f"{level.unit}", f"{band.unit}")
            level = level.to_value(band.unit)
        if isinstance(level, str) or np.ndim(level):
            raise InputError("saturation", repr(level), "one number")
        levels.append(float(level))
    return levels


def _neighbors(sky, reach):
    """Flag positions that have another one within reach (arcsec)."""
    flags = np.zeros(len(sky), np.int32)
    known = np.flatnonzero(np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg))
    if len(known) > 1:
        near = sky[known].match_to_catalog_sky(sky[known], nthneighbor=2)[1]
        with np.errstate(invalid="ignore"):
            crowded = near.to_value(u.arcsec) < reach[known]
        flags[known[crowded]] = int(Flag.NEIGHBORS)
    return flags
