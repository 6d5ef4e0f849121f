# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The cutouts of one chunk of galaxies, from windows of all images."""

from dataclasses import dataclass, field

import astropy.units as u
import numpy as np
import torch

import galml
from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.cutouts import targets
from galml.cutouts.matching import match
from galml.cutouts.psf_plan import join_psfs
from galml.cutouts.resampling import (
    NODES,
    correlation,
    grid_positions,
    resample,
    weights_bilinear,
    weights_exact,
)
from galml.cutouts.stack import CutoutStack

__all__ = ["Chunk", "Job"]

# Output pixels smaller than this part of the input's are interpolated.
_FINER = 0.95

# Part of the pixels from which on a cutout counts as masked.
_MASKED = 0.01

# Side of the patch of pixels in which the correlation of the noise is worked out.
_PATCH = 8

# Pixels of windows that are held at once.
_WORKING_SET = 2**18


@dataclass
class Job:
    """What is the same for all chunks."""

    bands: list
    psfs: list
    levels: list
    n_pixels: int
    orientation: str
    method: str
    per_pixel: bool
    dtype: np.dtype


@dataclass
class _Geometry:
    """How cutouts lie on the pixels of one image, or of several that are alike.

    ``nodes`` (n, 2, k, k) are pixel positions (x, y) of the nodes, ``first`` and
    ``width`` tell the windows, ``ratio`` is the side of the output pixels, ``center``
    and ``jacobian`` are where the cutouts' centers lie and how a step of one output
    pixel goes, all in input pixels; ``rows`` are the galaxies that touch the image.
    """

    shape: tuple
    nodes: np.ndarray
    first: np.ndarray
    width: np.ndarray
    ratio: np.ndarray
    center: np.ndarray
    jacobian: np.ndarray
    rows: np.ndarray
    members: list = field(default_factory=list)


class Chunk:
    """The cutouts of some galaxies, as they are being made."""

    def __init__(self, job, sky, scales, flags):
        self.job, self.sky, self.scales = job, sky, scales
        self.flags = np.array(flags, dtype=np.int32)
        n, side = len(sky), job.n_pixels
        shape = (n, len(job.bands), side, side)
        self.values = np.full(shape, np.nan, job.dtype)
        self.std = None
        if any(band.uncertainty is not None for band in job.bands):
            self.std = np.full(shape, np.nan, job.dtype)
        usable = np.isfinite(sky.ra.deg) & np.isfinite(scales)
        self.known = np.flatnonzero(usable)
        self.axes = np.zeros((n, 2, 2))
        self.psfs = [plan.empty(n) for plan in job.psfs]
        if len(self.known):
            self._fill()

    def _fill(self):
        job, known = self.job, self.known
        sky, scales = self.sky[known], self.scales[known]
        axes = targets.axes_on_sky(sky, job.bands[0].wcs, job.orientation)
        self.axes[known] = axes
        grid = targets.pixel_grids(sky, axes, scales, job.n_pixels)
        geometries = []
        for index, band in enumerate(job.bands):
            nodes = np.stack(targets.to_pixels(band.wcs, grid), axis=1)
            for geometry in geometries:
                if geometry.shape == band.shape and np.array_equal(
                    geometry.nodes, nodes, equal_nan=True
                ):
                    break
            else:
                geometry, truncated = _lay_out(nodes, job.n_pixels, band.shape)
                geometries.append(geometry)
                self.flags[known[truncated]] |= int(Flag.TRUNCATED)
            geometry.members.append(index)
        for geometry in geometries:
            kernels = [self._kernels(geometry, index) for index in geometry.members]
            for group in self._groups(geometry):
                self._resample(geometry, group, kernels)

    def _groups(self, geometry):
        """Split galaxies by method and size, so that little is read in vain."""
        side, rows = self.job.n_pixels, geometry.rows
        finer = geometry.ratio[rows] < _FINER
        if self.job.method != "auto":
            finer[:] = self.job.method == "bilinear"
        for bilinear in (True, False):
            left = rows[finer == bilinear]
            left = left[np.argsort(-geometry.width[left], kind="stable")]
            while len(left):
                largest = max(geometry.width[left[0]], 2 * side)
                count = max(int(_WORKING_SET // largest**2), 1)
                yield bilinear, left[:count]
                left = left[count:]

    def _resample(self, geometry, group, all_kernels):
        """Resample one group of galaxies in all bands of the same geometry."""
        bilinear, rows = group
        side, width = self.job.n_pixels, int(geometry.width[rows].max())
        first = geometry.first[rows]
        local = geometry.nodes[rows] - first[..., None, None]
        points = grid_positions(local, side, corners=True)
        weigh, areas = weights_exact, None
        if bilinear:
            areas = torch.as_tensor(_areas(points).ravel())
            points, weigh = grid_positions(local, side, corners=False), weights_bilinear
        dtype = torch.from_numpy(self.values[:0]).dtype
        weights = list(weigh(points[:, 0], points[:, 1], width, dtype=dtype))
        places = np.searchsorted(geometry.rows, rows)
        for index, (kernels, matched) in zip(
            geometry.members, all_kernels, strict=True
        ):
            matched = matched[places]
            if kernels is not None and len(kernels) > 1:
                kernels = kernels[places]
            windows = self._read(index, rows, first, width, kernels)
            values, variance = resample(
                *windows, weights, per_pixel=self.job.per_pixel, areas=areas
            )
            shape = (len(rows), side, side)
            keep = self.known[rows][matched]
            self.values[keep, index] = values.reshape(shape)[matched]
            if variance is not None:
                std = variance.sqrt().reshape(shape)
                if kernels is not None:
                    # A patch in the middle stands for all that pixels meet.
                    some = points[..., side // 2 :, side // 2 :][..., :_PATCH, :_PATCH]
                    some = list(weigh(some[:, 0], some[:, 1], width))
                    factor = correlation(some, kernels, len(rows))
                    std *= factor.sqrt()[:, None, None]
                self.std[keep, index] = std[matched]

    def _kernels(self, geometry, index):
        """Give the kernels of one band, and whether there is one for each galaxy."""
        known = self.known[geometry.rows]
        kernels, matched = self.job.psfs[index].kernels(
            self.psfs[index],
            known,
            self.sky[known],
            geometry.center[geometry.rows],
            geometry.jacobian[geometry.rows],
        )
        self.flags[known[~matched]] |= int(Flag.FAILED)
        return kernels, matched

    def _read(self, index, rows, first, width, kernels):
        """Read the windows of one band and convolve them."""
        band, level = self.job.bands[index], self.job.levels[index]
        edge = 0 if kernels is None else kernels.shape[-1] // 2
        shape = (len(rows), width + 2 * edge, width + 2 * edge)
        values, good = np.zeros(shape, self.job.dtype), np.zeros(shape, bool)
        variance = None
        if band.uncertainty is not None:
            variance = np.zeros(shape, self.job.dtype)
        for k, row in enumerate(self.known[rows]):
            x, y = first[k] - edge
            var = None if variance is None else variance[k]
            nonfinite, peak = band.read(int(x), int(y), values[k], var, good[k])
            self.flags[row] |= int(Flag.NONFINITE) * nonfinite
            self.flags[row] |= int(Flag.SATURATED) * bool(peak >= level)
        bad = None if good.all() else torch.from_numpy(~good)
        values = torch.from_numpy(values)
        variance = None if variance is None else torch.from_numpy(variance)
        if kernels is not None:
            values, variance, gaps = match(
                values[:, None],
                kernels[:, None],
                variance=None if variance is None else variance[:, None],
                mask=None if bad is None else bad[:, None],
            )
            if bad is None:
                return values, variance, None
            bad = gaps
            values.nan_to_num_(0.0)
            if variance is not None:
                variance.nan_to_num_(0.0)
        if bad is None:
            return values, variance, None
        return values, variance, (~bad).to(values.dtype)

    def stack(self, catalog):
        """Put everything together."""
        job = self.job
        mask = np.isnan(self.values)
        counts = np.count_nonzero(mask, axis=(1, 2, 3))
        fraction = counts / np.prod(mask.shape[1:])
        self.flags[fraction > _MASKED] |= int(Flag.MASKED)
        self.flags[fraction == 1.0] |= int(Flag.FAILED)
        catalog["masked_fraction"] = fraction
        psf, fwhm = join_psfs(self.psfs)
        return CutoutStack(
            u.Quantity(self.values, job.bands[0].unit, copy=False),
            bands=[band.band for band in job.bands],
            wcs=targets.cutout_wcs(self.sky, self.axes, self.scales, job.n_pixels),
            pixel_scale=self.scales * u.arcsec,
            uncertainty=self.std,
            mask=mask,
            psf=psf,
            psf_fwhm=fwhm,
            catalog=catalog,
            flags=self.flags,
            meta={
                "GALMLVER": galml.__version__,
                "OPERATN": "extract_cutouts",
                "PERPIXEL": job.per_pixel,
                "ORIENT": job.orientation,
            },
        )

    def reason(self, row, number):
        """Say why a galaxy has no cutout."""
        if row not in self.known:
            return InputError(
                f"catalog row {number}", "no position or size", "finite numbers"
            )
        if not self.flags[row] & int(Flag.TRUNCATED):
            return InputError(
                f"catalog row {number}",
                "no usable pixel, or a PSF broader than target_psf",
                "a galaxy that can be seen",
            )
        return InputError(
            f"catalog row {number}", "a position outside the images", "one inside"
        )


def _lay_out(nodes, side, shape):
    """Find the windows that cutouts need, and which reach beyond the image."""
    outline = grid_positions(nodes, 8, corners=True).reshape(len(nodes), 2, -1)
    low, high = outline.min(axis=2), outline.max(axis=2)
    limit = np.array(shape[::-1]) - 0.5
    with np.errstate(invalid="ignore"):
        inside = ((low >= -0.5) & (high <= limit)).all(axis=1)
        touching = ((low < limit) & (high > -0.5)).all(axis=1)
    rows = np.flatnonzero(touching)
    # The outline is known at some points only: one more pixel on either side.
    first = np.floor(np.where(touching[:, None], low, 0.0)).astype(int) - 1
    last = np.ceil(np.where(touching[:, None], high, 0.0)).astype(int) + 2
    middle = NODES // 2
    steps = grid_positions(nodes, side, corners=True)[..., side // 2 :, side // 2 :]
    jacobian = np.stack(
        [steps[..., 0, 1] - steps[..., 0, 0], steps[..., 1, 0] - steps[..., 0, 0]],
        axis=-1,
    )
    with np.errstate(invalid="ignore"):
        ratio = np.sqrt(np.abs(np.linalg.det(jacobian)))
    geometry = _Geometry(
        shape=shape,
        nodes=nodes,
        first=first,
        width=(last - first).max(axis=1) + 1,
        ratio=ratio,
        center=nodes[..., middle, middle],
        jacobian=jacobian,
        rows=rows,
    )
    return geometry, ~inside


def _areas(corners):
    """Give the areas of the pixels between these corners."""
    x, y = corners[:, 0], corners[:, 1]
    across = x[:, 1:, 1:] - x[:, :-1, :-1], y[:, 1:, 1:] - y[:, :-1, :-1]
    other = x[:, 1:, :-1] - x[:, :-1, 1:], y[:, 1:, :-1] - y[:, :-1, 1:]
    return np.abs(across[0] * other[1] - across[1] * other[0]) / 2.0
