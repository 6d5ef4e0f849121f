# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images and a catalog made into a stack of aligned cutouts."""

from collections.abc import Mapping
from numbers import Real

import astropy.units as u
import numpy as np
from astropy.table import vstack
from tqdm import tqdm

from galml.core.exceptions import (
    InputError,
    InputTypeError,
    InputUnitError,
    check_whole,
)
from galml.core.files import check_size
from galml.core.flags import Flag
from galml.core.results import warn_batch
from galml.cutouts import targets
from galml.cutouts.assembly import Chunk, Job
from galml.cutouts.images import OpenFiles, is_per_pixel, open_images
from galml.cutouts.matching import plan_psfs
from galml.cutouts.stack import CutoutStack

__all__ = ["extract_cutouts", "flag_neighbors", "iter_cutouts"]


def extract_cutouts(
    images,
    catalog=None,
    *,
    size,
    n_pixels=None,
    pixel_scale=None,
    psf=None,
    target_psf=None,
    orientation="north",
    resampling="auto",
    coadd="seams",
    match_background=False,
    per_pixel=None,
    saturation=None,
    unit=None,
    hdu=None,
    chunk=256,
    dtype="float32",
    progress=False,
):
    """Cut galaxies out of images, aligned in all bands.

    Every cutout is resampled once, from the original pixels, onto its own tangent
    plane with the galaxy in the center. Surface brightness is averaged, flux per pixel
    is summed, after the unit of the images or ``per_pixel``. The variance is
    propagated with the weights squared; the correlation of neighboring pixels, which
    resampling brings, is not in it. Masked and non-finite pixels are left out, and an
    output pixel of which less than half is left is masked. With ``target_psf``, images
    are convolved before they are resampled, on the pixels that sample the PSF best.

    Parameters
    ----------
    images : object, dict of str to object, or list of objects
        One image, one for each band, or a list of images: those of a dict's entry are
        tiles or exposures of that band, those of a plain list belong to the bands that
        their ``BAND`` or ``FILTER`` name (all to one where none has either). Each has
        its own celestial WCS with any projection, distortion, rotation and parity,
        unit, mask, uncertainty and PSF. Of files, no more is read than the galaxies
        need. An image is one of:

        - `~astropy.nddata.CCDData` or other `~astropy.nddata.NDData`; the WCS may be
          any of the astropy interface (APE 14), such as a gwcs;
        - ``(array, WCS)`` or ``(array, header)``;
        - image HDU, `~astropy.io.fits.HDUList`, or path to a FITS file;
        - HEALPix map: ``(array, frame, nested)``, ``(array, HEALPix)`` with
          `astropy_healpix.HEALPix`, or a FITS table with ``ORDERING`` and ``COORDSYS``;
        - path to the folder of a HiPS with FITS tiles.
    catalog : `~astropy.table.Table` or `~astropy.coordinates.SkyCoord`, optional
        With a SkyCoord column, ``ra`` and ``dec``, or pixels ``x`` and ``y`` of the
        first image, and optionally ``r_eff`` (an angle, or pixels of the first
        image). By default, the galaxies are detected on the images of the first band
        with `galml.cutouts.detect`.
    size : int or `~astropy.units.Quantity`
        Side of the cutouts: pixels, as a number without a unit is for
        `~astropy.nddata.Cutout2D`, too, an angle, or multiples of the effective radius
        such as ``8.48 * galml.cutouts.R_EFF``.
    n_pixels : int, optional
        Pixels on a side, instead of a pixel scale.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel: an angle or a fraction of ``R_EFF``. By default that of the
        first image in its center.
    psf : object or dict of str to object, optional
        PSF of the images, or of each band, as `galml.cutouts.psf.to_psf_image` takes
        it: array on the pixels of the image, FWHM, photutils model, or function of
        position; a list has one for each image of a band. By default the ``psf`` of
        each NDData, if it has one.
    target_psf : `~astropy.units.Quantity` or tuple, optional
        PSF to which all bands are brought: FWHM of a Gaussian as an angle, or
        ``(array, pixel scale)``. By default, nothing is convolved.
    orientation : {"north", "image"}, optional
        North up and east left, or along the pixels of the first image.
    resampling : {"auto", "exact", "interp", "adaptive"}, optional
        "exact" takes from each pixel of the image the area that it shares with the
        output pixel (as `reproject.reproject_exact` does, conserving flux), "interp"
        interpolates linearly (`reproject.reproject_interp`), "adaptive" is the
        smoothing `reproject.reproject_adaptive`. "auto" interpolates where output
        pixels are smaller than those of the image, and is exact elsewhere.
    coadd : {"seams", "all"}, optional
        Which galaxies are made of several images of a band: those that no single image
        holds entirely (or only with more than 1 % of blank pixels), as for the tiles
        of a survey; or all, as for exposures that are independent of each other. The
        mean is weighted with the inverse variance, where all images have an
        uncertainty.
    match_background : bool, optional
        Whether the backgrounds of images that are coadded are made equal, by constants
        whose mean is zero.
    per_pixel : bool, optional
        Whether values are flux in a pixel (to be summed) or surface brightness (to be
        averaged). By default after the unit: counts, electrons, maggies and flux
        densities are flux in a pixel; per solid angle or per beam, surface brightness.
    saturation : float, `~astropy.units.Quantity` or dict, optional
        Level from which on pixels are saturated, of all images or of each band; by
        default ``SATURATE`` of the headers.
    unit : `~astropy.units.UnitBase` or str, optional
        Unit of images that have none.
    hdu : int, str or tuple, optional
        Extension of FITS files; ``(extension, column)`` of HEALPix maps.
    chunk : int, optional
        Galaxies worked on at once.
    dtype : {"float32", "float64"}, optional
        Precision of the cutouts.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    `galml.cutouts.CutoutStack`
        One entry for each row of the catalog, in the same order, in the unit of the
        first image. The catalog gets a column ``masked_fraction``. Flags: ``FAILED``
        (no usable pixel in any band, no position or no size, a part that cannot be
        read, or a PSF that cannot be matched), ``TRUNCATED`` (a part lies on no image),
        ``MASKED`` (more than 1 % of the pixels), ``NONFINITE``, ``NEIGHBORS`` (another
        entry of the catalog within half a side), ``SATURATED``, ``NO_UNCERTAINTY`` (of
        any image), ``UNREADABLE``, ``SIZE_MEASURED``, and ``POINT_SOURCE`` where
        `galml.cutouts.detect` has made the catalog and set it.

    Raises
    ------
    galml.core.InputError
        For images without WCS, a PSF broader than the target, catalogs without
        positions, and sizes that are zero or contradictory.
    galml.core.InputTypeError
        For objects of a kind that is not understood.
    galml.core.InputUnitError
        For units that are missing or cannot be converted.

    Warns
    -----
    galml.core.GalmlWarning
        Once, when galaxies have no usable pixels.

    Examples
    --------
    A galaxy in an image of which north is not up:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from astropy.coordinates import SkyCoord
    >>> from astropy.modeling.models import Gaussian2D
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from galml.cutouts import extract_cutouts
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.crval, wcs.wcs.crpix = (150, 2), (100.5, 100.5)
    >>> wcs.wcs.cd = [[-0.8e-4, 0.6e-4], [0.6e-4, 0.8e-4]]
    >>> y, x = np.mgrid[:200, :200]
    >>> galaxy = Gaussian2D(100, 120, 90, x_stddev=6, y_stddev=4)
    >>> image = CCDData(galaxy(x, y), unit="nJy", wcs=wcs)
    >>> stack = extract_cutouts(
    ...     {"r": image}, wcs.pixel_to_world([120], [90]), size=24 * u.arcsec
    ... )
    >>> stack
    <CutoutStack: 1 x (r) x 67 x 67, nJy, 0.36 arcsec>
    >>> stack.data.sum().round()
    <Quantity 15080. nJy>
    >>> round(float(image.data.sum()))
    15080
    """
    stacks = iter_cutouts(
        images,
        catalog,
        size=size,
        n_pixels=n_pixels,
        pixel_scale=pixel_scale,
        psf=psf,
        target_psf=target_psf,
        orientation=orientation,
        resampling=resampling,
        coadd=coadd,
        match_background=match_background,
        per_pixel=per_pixel,
        saturation=saturation,
        unit=unit,
        hdu=hdu,
        chunk=chunk,
        dtype=dtype,
        progress=progress,
    )
    return CutoutStack.concatenate(stacks)


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
    resampling="auto",
    coadd="seams",
    match_background=False,
    per_pixel=None,
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
    size, n_pixels, pixel_scale, psf, target_psf, orientation, resampling, coadd
        As for `extract_cutouts`.
    match_background, per_pixel, saturation, unit, hdu, dtype, progress
        As for `extract_cutouts`.
    chunk : int, optional
        Galaxies in a stack.

    Yields
    ------
    `galml.cutouts.CutoutStack`
        Of consecutive rows of the catalog; a single empty one where it has none.
    """
    _check_choice("orientation", orientation, ("north", "image"))
    _check_choice("resampling", resampling, ("auto", "exact", "interp", "adaptive"))
    _check_choice("coadd", coadd, ("seams", "all"))
    _check_choice("dtype", dtype, ("float32", "float64"))
    check_whole("chunk", chunk)
    _check_bool("match_background", match_background)
    if per_pixel is not None:
        _check_bool("per_pixel", per_pixel)
    with OpenFiles() as files:
        bands = open_images(images, files, psf=psf, unit=unit, hdu=hdu)
        first = bands[0].tiles[0]
        if per_pixel is None:
            per_pixel = is_per_pixel(first.unit)
        if per_pixel is None:
            raise InputError(
                "per_pixel", f"None with the unit {first.unit}", "True or False"
            )
        _check_maps(bands, orientation, resampling)
        flags = 0
        if catalog is None:
            catalog = _detect(bands[0], unit, hdu)
            flags = np.asarray(catalog["flags"]) | int(Flag.SIZE_MEASURED)
        elif getattr(catalog, "meta", {}).get("OPERATN") == "detect":
            flags = np.asarray(catalog["flags"]) & int(Flag.POINT_SOURCE)
        if not all(band.has_uncertainty for band in bands):
            flags = flags | int(Flag.NO_UNCERTAINTY)
        catalog, sky, r_eff = targets.read_catalog(catalog, first)
        n_pixels, scales = targets.plan_sizes(
            size, n_pixels, pixel_scale, targets.native_scale(first), r_eff, len(sky)
        )
        check_size((n_pixels, n_pixels), "size")
        job = Job(
            bands=bands,
            psfs=plan_psfs(bands, target_psf, scales),
            levels=_levels(saturation, bands),
            n_pixels=n_pixels,
            orientation=orientation,
            resampling=resampling,
            coadd=coadd,
            match_background=bool(match_background),
            per_pixel=bool(per_pixel),
            dtype=np.dtype(dtype),
        )
        flags = flags | flag_neighbors(sky, scales * n_pixels / 2.0)
        all_flags, errors = [], []
        starts = range(0, max(len(sky), 1), int(chunk))
        for start in tqdm(starts, unit="chunk", disable=not progress):
            rows = slice(start, start + int(chunk))
            part = Chunk(job, sky[rows], scales[rows], flags[rows])
            stack = part.stack(catalog[rows])
            all_flags.extend(stack.flags)
            failed = np.flatnonzero(stack.flags & int(Flag.FAILED))
            if len(failed) and not errors:
                errors.append(part.explain(failed[0], start + failed[0]))
            yield stack
        warn_batch(all_flags, errors, stacklevel=3)


def _check_bool(argument, value):
    """Raise where something is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(argument, repr(value), "True or False")


def _check_choice(argument, value, known):
    """Check a keyword that has a few values."""
    if value not in known:
        expected = " or ".join(repr(name) for name in known)
        raise InputError(argument, repr(value), expected)


def _check_maps(bands, orientation, resampling):
    """Check what cannot be asked of HEALPix maps."""
    for band in bands:
        if band.is_healpix and resampling in ("exact", "adaptive"):
            raise InputError(
                "resampling",
                f"{resampling!r} with the HEALPix map {band.name!r}",
                "'auto' or 'interp'",
            )
    if bands[0].is_healpix and orientation == "image":
        raise InputError(
            "orientation", "'image' with a HEALPix map as first image", "'north'"
        )


def _detect(band, unit, hdu):
    """Detect galaxies on all images of a band; those on several count once."""
    from galml.cutouts.detection import detect

    if band.is_healpix or "hips_order" in band.tiles[0].meta:
        raise InputError("catalog", "None with a map of the sphere", "positions")
    tables = []
    for tile in band.tiles:
        table = detect(tile.source, unit=unit, hdu=hdu)
        if len(band.tiles) > 1:
            # Pixels of one image mean nothing on the others.
            table.remove_columns(["id", "x", "y"])
        least = 2.0 * targets.native_scale(tile)
        for other in tables:
            if len(table) and len(other):
                _, distance, _ = table["sky"].match_to_catalog_sky(other["sky"])
                table = table[distance > least]
        tables.append(table)
    return vstack(tables, metadata_conflicts="silent")


def _levels(saturation, bands):
    """Look up the level of saturation of each image in its own unit."""
    if isinstance(saturation, Mapping):
        names = [band.name for band in bands]
        if unknown := [name for name in saturation if str(name).strip() not in names]:
            raise InputError("saturation", f"bands {unknown}", f"bands out of {names}")
        saturation = {str(name).strip(): level for name, level in saturation.items()}
    return [[_level(saturation, tile) for tile in band.tiles] for band in bands]


def _level(saturation, tile):
    """Look up the level of saturation of one image."""
    level = saturation
    if isinstance(saturation, Mapping):
        level = saturation.get(tile.band)
    if level is None:
        level = tile.meta.get("SATURATE", np.inf)
    if isinstance(level, u.Quantity):
        if not level.unit.is_equivalent(tile.unit):
            raise InputUnitError("saturation", f"{level.unit}", f"{tile.unit}")
        level = level.to_value(tile.unit)
    if not isinstance(level, Real):
        raise InputError("saturation", repr(level), "one number")
    return float(level)


def flag_neighbors(sky, reach):
    """Flag positions that have another one within reach.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        Shape (n,): ICRS positions; NaN where there is none.
    reach : `~numpy.ndarray`
        Shape (n,), in arcsec; NaN is nothing.

    Returns
    -------
    `~numpy.ndarray` of int
        Shape (n,): the bit ``NEIGHBORS`` of `galml.core.Flag`, or none.
    """
    flags = np.zeros(len(sky), np.int32)
    known = np.flatnonzero(np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg))
    if len(known) > 1:
        near = sky[known].match_to_catalog_sky(sky[known], nthneighbor=2)[1]
        with np.errstate(invalid="ignore"):
            crowded = near.to_value(u.arcsec) < reach[known]
        flags[known[crowded]] = int(Flag.NEIGHBORS)
    return flags
