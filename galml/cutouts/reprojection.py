# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What `reproject` does for single cutouts: adaptive resampling, and coadding."""

import math
from dataclasses import dataclass

import numpy as np
from astropy.utils.misc import NumpyRNGContext
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS

from galml.cutouts.resampling import Resampled, Weights

__all__ = ["Piece", "adaptive_weights", "coadd", "resample_adaptive"]

# Gaussian of `reproject.reproject_adaptive`: standard deviation in pixels, half of its
# default kernel_width, and how far it reaches.
_SIGMA, _REACH = 0.65, 4.0
# Usable part of an output pixel, on all images together, below which it is masked.
_LEAST_COVERAGE = 0.5


@dataclass
class Piece:
    """What one image contributes to one cutout.

    Attributes
    ----------
    values : `~numpy.ndarray`
        Shape ``(ny, nx)``: mean over the usable part of each pixel, or flux in it.
    variances : `~numpy.ndarray` or None
        Of the values.
    coverage : `~numpy.ndarray`
        Usable part of each pixel, from 0 to 1.
    weight : `~numpy.ndarray` or None
        Inverse variance of the pixels of the image; None for equal weights.
    psf : `~numpy.ndarray`
        Image of the PSF.
    fwhm : float
        Its full width at half maximum in arcsec.
    """

    values: np.ndarray
    variances: np.ndarray | None
    coverage: np.ndarray
    weight: np.ndarray | None
    psf: np.ndarray
    fwhm: float


def resample_adaptive(
    planes, window, tile, wcs, jacobian, *, areas=None, least=_LEAST_COVERAGE
):
    """Resample the window of one image with `reproject.reproject_adaptive`.

    Parameters
    ----------
    planes : tuple of `~numpy.ndarray` or None
        Values, variances and usable pixels as for `galml.cutouts.resampling.resample`,
        shape ``(height, width)`` each.
    window : tuple of int
        First pixel (x, y) of the window, which may reach beyond the image.
    tile : `~galml.cutouts.images.Tile`
        The image.
    wcs : `~astropy.wcs.WCS`
        Of the cutout, with its shape.
    jacobian : `~numpy.ndarray`
        Shape (2, 2): how a step of one output pixel goes on the image.
    areas : `~numpy.ndarray`, optional
        Shape ``(p,)``: area of each output pixel in input pixels, to conserve flux; by
        default values are averaged.
    least : float, optional
        Usable part of an output pixel below which it is NaN.

    Returns
    -------
    `~galml.cutouts.resampling.Resampled`
        Flattened; the coverage is always there. The variance is that of the mean
        variance under the Gaussian, for as many independent pixels as it holds.
    """
    from reproject import reproject_adaptive

    first = np.maximum(window, 0)
    end = np.minimum(np.add(window, planes[0].shape[::-1]), tile.shape[::-1])
    count = math.prod(wcs.array_shape)
    if (end - first < 2).any():
        empty = np.full((2, count), np.nan)
        none = None if planes[1] is None else empty[1]
        return Resampled(empty[0], none, np.zeros(count))
    (x0, y0), (x1, y1) = first - window, end - window
    values, variances, good = (
        None if plane is None else plane[y0:y1, x0:x1].astype(float) for plane in planes
    )
    good = np.ones_like(values) if good is None else good
    stack = [values, good] if variances is None else [values, good, variances]
    part = tuple(slice(*pair) for pair in zip(first[::-1], end[::-1], strict=True))
    low = getattr(tile.wcs, "low_level_wcs", tile.wcs)
    made = reproject_adaptive(
        (np.stack(stack), HighLevelWCSWrapper(SlicedLowLevelWCS(low, part))),
        wcs,
        shape_out=(len(stack), *wcs.array_shape),
        return_footprint=False,
        boundary_mode="constant",
        boundary_fill_value=0.0,
    ).reshape(len(stack), -1)
    made = np.nan_to_num(made)
    coverage = made[1]
    usable = np.where(coverage >= max(least, 1e-6), coverage, np.nan)
    factor = 1.0 if areas is None else areas
    result = Resampled(made[0] / usable * factor, None, coverage)
    if variances is not None:
        widths = np.maximum(np.linalg.svd(jacobian, compute_uv=False), 1.0) * _SIGMA
        independent = 4.0 * math.pi * widths.prod()
        result.variances = made[2] / usable**2 / independent * factor**2
    return result


def adaptive_weights(jacobian):
    """Compute the weights of adaptive resampling for a pixel in the center.

    Parameters
    ----------
    jacobian : `~numpy.ndarray`
        Shape (n, 2, 2): how a step of one output pixel goes on the image.

    Returns
    -------
    `~galml.cutouts.resampling.Weights`
        Of one output pixel for each, for `galml.cutouts.resampling.correlation`.
    """
    axes, widths, _ = np.linalg.svd(jacobian)
    widths = np.maximum(widths, 1.0) * _SIGMA
    half = math.ceil(widths.max() * _REACH)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along = np.einsum("nji,jyx->niyx", axes, np.stack([x, y]))
    values = np.exp(-0.5 * ((along / widths[..., None, None]) ** 2).sum(axis=1))
    values /= values.sum(axis=(1, 2), keepdims=True)
    count = np.arange(len(values))
    return Weights(count, count, values.transpose(1, 2, 0), np.ones(len(values)), 0)


def coadd(pieces, wcs, *, match_background):
    """Coadd what several images contribute to one cutout.

    `reproject.mosaicking.reproject_and_coadd` makes the mean, weighted with coverage
    and inverse variance, and matches the backgrounds.

    Parameters
    ----------
    pieces : list of Piece
        All on the pixels of the cutout.
    wcs : `~astropy.wcs.WCS`
        Of the cutout.
    match_background : bool
        Whether to add a constant to each piece, with zero mean, so that they agree
        where they overlap.

    Returns
    -------
    Piece
        The cutout. NaN where less than half of a pixel is covered by all pieces
        together. Without weights where a piece has none; without variances likewise.
    """
    from reproject.mosaicking import reproject_and_coadd

    coverage = np.stack([piece.coverage for piece in pieces])
    shares = coverage
    if all(piece.weight is not None for piece in pieces):
        shares = coverage * np.stack([np.nan_to_num(p.weight) for p in pieces])
    values = np.stack([piece.values for piece in pieces]).astype(float)
    shares = np.where(np.isfinite(values), shares, 0.0)
    # Inverse variances can be of any size; the mean does not depend on it.
    shares /= max(shares.max(), np.finfo(float).tiny)
    options = {"output_projection": wcs, "shape_out": wcs.array_shape}
    options |= {"reproject_function": _aligned, "blank_pixel_value": np.nan}
    groups = [range(len(pieces))]
    if match_background:
        groups = _overlapping(shares > 0)
    total, weight = np.zeros((2, *wcs.array_shape))
    for group in groups:
        # Its solver shuffles with the global random numbers.
        with NumpyRNGContext(0):
            mean, share = reproject_and_coadd(
                [(values[k], wcs) for k in group],
                input_weights=[shares[k] for k in group],
                match_background=match_background and len(group) > 1,
                **options,
            )
        total += np.where(share > 0, mean * share, 0.0)
        weight += share
    usable = (weight > 0) & (coverage.sum(axis=0) >= _LEAST_COVERAGE)
    weight = np.where(usable, weight, np.nan)
    variances = None
    if all(piece.variances is not None for piece in pieces):
        squares = np.stack([np.nan_to_num(piece.variances) for piece in pieces])
        variances = (shares**2 * squares).sum(axis=0) / weight**2
    part = shares.sum(axis=(1, 2))
    part /= max(part.sum(), np.finfo(float).tiny)
    # Where nothing counts, the PSF of the first is as good as any.
    counting = [k for k in range(len(pieces)) if part[k] > 0] or [0]
    return Piece(
        values=total / weight,
        variances=variances,
        coverage=np.minimum(coverage.sum(axis=0), 1.0),
        weight=None,
        psf=sum(part[k] * pieces[k].psf for k in counting),
        fwhm=float(sum(part[k] * pieces[k].fwhm for k in counting)),
    )


def _aligned(source, output_projection, shape_out, return_footprint=True, **options):
    """Pass an image on that is on the pixels wanted already."""
    array = np.array(source[0])
    return (array, np.isfinite(array).astype(float)) if return_footprint else array


def _overlapping(covered):
    """Group images, shape (n, ny, nx), that overlap directly or through others."""
    from scipy.sparse.csgraph import connected_components

    flat = covered.reshape(len(covered), -1).astype(float)
    count, labels = connected_components(flat @ flat.T > 0, directed=False)
    return [np.flatnonzero(labels == k) for k in range(count)]
