# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The cutouts of one chunk of galaxies, from windows of all images."""

from dataclasses import dataclass, field

import astropy.units as u
import numpy as np

import galml
from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.core.results import reason_of
from galml.cutouts import targets
from galml.cutouts.layout import (
    Layout,
    Placement,
    choose_images,
    find_parts,
    is_too_large,
    lay_out,
    lies_on_image,
    quadrilaterals,
    split_halves,
)
from galml.cutouts.matching import match
from galml.cutouts.reprojection import (
    Piece,
    adaptive_weights,
    coadd,
    resample_adaptive,
)
from galml.cutouts.resampling import (
    Resampled,
    correlation,
    grid_positions,
    nodes,
    resample,
)
from galml.cutouts.stack import CutoutStack

__all__ = ["Chunk", "Job"]

# Output pixels smaller than this part of the input's are interpolated.
_FINER = 0.95

# Part of the pixels from which on a cutout counts as masked.
_MASKED = 0.01

# Pixels of windows kept in memory at once, and read and convolved at once: small
# arrays stay in the cache and are allocated without page faults.
_WORKING_SET, _CONVOLVED = 2**20, 2**17

# Usable part of an output pixel from which on it has a value, alone and in a coadd.
_LEAST_COVERAGE, _LEAST_IN_COADD = 0.5, 1e-6


@dataclass
class Job:
    """What is the same for all chunks.

    Attributes
    ----------
    bands : list of `~galml.cutouts.images.Band`
        The images.
    psfs : list of list of `~galml.cutouts.matching.PSFPlan`
        For each image of each band.
    levels : list of list of float
        Level of saturation of each image.
    n_pixels : int
        Side of the cutouts.
    orientation, resampling, coadd : str
        As for `galml.cutouts.extract_cutouts`.
    match_background, per_pixel : bool
        As for `galml.cutouts.extract_cutouts`.
    dtype : `~numpy.dtype`
        Precision of the cutouts.
    """

    bands: list
    psfs: list
    levels: list
    n_pixels: int
    orientation: str
    resampling: str
    coadd: str
    match_background: bool
    per_pixel: bool
    dtype: np.dtype


@dataclass
class _Task:
    """Cutouts ``take`` of a layout, and the images (band, tile) to take them from."""

    layout: Layout
    take: np.ndarray
    is_piece: bool
    members: list = field(default_factory=list)


class Chunk:
    """The cutouts of some galaxies, as they are being made.

    Parameters
    ----------
    job : Job
        What is the same for all chunks.
    sky : `~astropy.coordinates.SkyCoord`
        Shape (n,): ICRS positions; NaN where there is none.
    scales : `~numpy.ndarray`
        Shape (n,): pixel scales in arcsec; NaN where there is none.
    flags : `~numpy.ndarray` of int
        Shape (n,): bits that are known already.
    """

    def __init__(self, job, sky, scales, flags):
        self.job, self.sky, self.scales = job, sky, scales
        self.flags = np.array(flags, dtype=np.int32)
        n, n_bands = len(sky), len(job.bands)
        shape = (n, n_bands, job.n_pixels, job.n_pixels)
        try:
            self.values = np.full(shape, np.nan, job.dtype)
        except MemoryError as error:
            got = f"{n} x {n_bands} x {job.n_pixels} x {job.n_pixels} pixels"
            expected = "what memory holds: a smaller chunk, or fewer pixels"
            raise InputError("size", got, expected) from error
        self.std = None
        tiles = [tile for band in job.bands for tile in band.tiles]
        if any(tile.uncertainty is not None for tile in tiles):
            self.std = np.full(shape, np.nan, job.dtype)
        side = job.psfs[0][0].side
        self.psf = np.full((n, n_bands, side, side), np.nan)
        self.fwhm = np.full((n, n_bands), np.nan)
        usable = np.isfinite(sky.ra.deg) & np.isfinite(scales)
        self.known = np.flatnonzero(usable)
        self.axes = np.zeros((n, 2, 2))
        if len(self.known):
            self.axes[self.known] = targets.axes_on_sky(
                sky[self.known],
                getattr(job.bands[0].tiles[0], "wcs", None),
                job.orientation,
            )
        self.wcs = targets.cutout_wcs(sky, self.axes, scales, job.n_pixels)
        # Of each galaxy and band on a seam: what the images contribute, and which
        # corners of the pixels lie on one of them.
        self._pieces, self._covered = {}, {}
        self._unmatched, self._unreadable = set(), set()
        # Variances are kept in a unit of each band in which they are about 1.
        self._variance_unit = [None] * n_bands
        if len(self.known):
            self._fill()

    def _fill(self):
        """Take all cutouts from the images."""
        layouts, count = self._lay_out(), len(self.known)
        choices = [choose_images(some, count, self.job.coadd) for some in layouts]
        for index, (band, choice) in enumerate(
            zip(self.job.bands, choices, strict=True)
        ):
            if band.is_healpix:
                self._take_from_healpix(index)
            else:
                outside = self.known[~choice.whole & ~choice.on_seam]
                self.flags[outside] |= int(Flag.TRUNCATED)
        self._take_all(layouts, choices)
        # An image may be blank where its frame covers a galaxy.
        for index, choice in enumerate(choices):
            blank = np.isnan(self.values[self.known, index]).mean(axis=(1, 2)) > _MASKED
            choice.single = np.full(count, -1)
            choice.on_seam = blank & (choice.touched > 1) & ~choice.on_seam
        if any(choice.on_seam.any() for choice in choices):
            self._take_all(layouts, choices)

    def _points(self, rows, at):
        """Compute sky positions, counted in half sides from the center, of cutouts."""
        return targets.pixel_grids(
            self.sky[rows], self.axes[rows], self.scales[rows], self.job.n_pixels, at
        )

    def _lay_out(self):
        """Find how the cutouts lie on all images that they may touch."""
        known = self.known
        grid = self._points(known, nodes())
        vectors = self.sky[known].cartesian.xyz.value.T
        reach = np.radians(self.scales[known] / 3600.0) * self.job.n_pixels
        shared, found = [], []
        for band in self.job.bands:
            found.append([])
            for number, tile in enumerate([] if band.is_healpix else band.tiles):
                rows = np.arange(len(known))
                if len(band.tiles) > 1:
                    rows = tile.near(vectors, reach)
                if not len(rows):
                    continue
                some = grid if len(rows) == len(known) else grid[rows]
                at = np.stack(targets.to_pixels(tile.wcs, some), axis=1)
                for layout in shared:
                    if (
                        layout.shape == tile.shape
                        and np.array_equal(layout.rows, rows)
                        and np.array_equal(layout.nodes, at, equal_nan=True)
                    ):
                        break
                else:
                    layout = lay_out(at, rows, self.job.n_pixels, tile.shape)
                    shared.append(layout)
                found[-1].append((number, layout))
        return found

    def _take_all(self, layouts, choices):
        """Take cutouts from the images that were chosen for them."""
        tasks = {}
        for index, (some, choice) in enumerate(zip(layouts, choices, strict=True)):
            for number, layout in some:
                alone = choice.single[layout.rows] == number
                piece = choice.on_seam[layout.rows] & layout.touching
                for place in np.flatnonzero((alone | piece) & layout.uneven):
                    self._take_uneven(index, number, layout.rows[place])
                for is_piece, these in ((False, alone), (True, piece)):
                    take = np.flatnonzero(these & ~layout.uneven)
                    if len(take):
                        key = id(layout), is_piece, take.tobytes()
                        task = tasks.setdefault(key, _Task(layout, take, is_piece))
                        task.members.append((index, number))
        for task in tasks.values():
            psfs = []
            for index, number in task.members:
                rows = self.known[task.layout.rows[task.take]]
                center, jacobian = task.layout.center, task.layout.jacobian
                psf = self.job.psfs[index][number].at(
                    self.sky[rows], center[task.take], jacobian[task.take]
                )
                psfs.append(psf)
            for method, part in self._groups(task):
                self._take(task, method, part, psfs)
        self._join()

    def _groups(self, task):
        """Split cutouts by method and size, so that little is read in vain."""
        layout, side = task.layout, self.job.n_pixels
        methods = np.full(len(task.take), self.job.resampling, dtype="U8")
        if self.job.resampling == "auto":
            finer = layout.ratio[task.take] < _FINER
            methods = np.where(finer, "interp", "exact")
        widths = layout.width[task.take]
        for method in ("interp", "exact", "adaptive"):
            rest = np.flatnonzero(methods == method)
            rest = rest[np.argsort(-widths[rest], kind="stable")]
            while len(rest):
                largest = max(widths[rest[0]], 2 * side)
                count = max(int(_WORKING_SET // largest**2), 1)
                yield method, rest[:count]
                rest = rest[count:]

    def _take(self, task, method, part, psfs):
        """Take one group of cutouts from all images of the same layout."""
        layout, side, take = task.layout, self.job.n_pixels, task.take[part]
        first, width = layout.first[take], int(layout.width[take].max())
        local = layout.nodes[take] - first[..., None, None]
        centers = None
        if method == "interp":
            centers = grid_positions(local, side, corners=False)
        corners = grid_positions(local, side, corners=True)
        place = Placement(corners, centers, first, width)
        rows = self.known[layout.rows[take]]
        psfs = [psf[part] for psf in psfs]
        shape = (len(take), side, side)
        results = self._resample(
            task.members,
            rows,
            method,
            place,
            layout.jacobian[take],
            psfs,
            task.is_piece,
        )
        on_image = None
        if task.is_piece:
            on_image = lies_on_image(corners + first[..., None, None], layout.shape)
        for (index, _), psf, result in zip(task.members, psfs, results, strict=True):
            arrays = [None if v is None else v.reshape(shape) for v in result]
            if task.is_piece:
                self._note(index, rows, on_image)
                self._collect(index, rows, psf, arrays)
            else:
                self._store(index, rows, psf, arrays)

    def _take_uneven(self, index, number, row):
        """Take a cutout, pixel by pixel, from an image to which it maps unevenly."""
        tile, side = self.job.bands[index].tiles[number], self.job.n_pixels
        row, limit = self.known[[row]], np.array(tile.shape[::-1]) - 0.5
        edges = np.linspace(-1.0, 1.0, side + 1)
        corners, centers = (
            np.concatenate(targets.to_pixels(tile.wcs, self._points(row, at)))
            for at in (edges, (edges[1:] + edges[:-1]) / 2.0)
        )
        on_image = lies_on_image(corners[None], tile.shape)
        self._note(index, row, on_image)
        parts = find_parts(corners)
        while parts:
            own = parts.pop()
            # Each pixel with its four corners stands by itself.
            quads = quadrilaterals(corners, own)
            low, high = quads.min(axis=(0, 2, 3)), quads.max(axis=(0, 2, 3))
            if (high < -0.5).any() or (low > limit).any():
                continue
            first = np.floor(low).astype(int)[None] - 1
            width = int((np.ceil(high) + 2 - first).max()) + 1
            if is_too_large(width):
                parts += split_halves(own)
                continue
            jacobian = np.median(quads[:, :, [0, 1], [1, 0]] - quads[:, :, :1, 0], 0)
            method = self.job.resampling
            if method in ("auto", "adaptive"):
                ratio = np.sqrt(np.abs(np.linalg.det(jacobian)))
                method = "interp" if ratio < _FINER else "exact"
            start, points = first[0][:, None, None], None
            if method == "interp":
                points = centers[:, own].T[..., None, None] - start
            window = np.zeros(len(quads), int)
            place = Placement(quads - start, points, first, width, window)
            psf = self.job.psfs[index][number].at(
                self.sky[row], quads.mean(axis=(0, 2, 3))[None], jacobian[None]
            )
            ((result),) = self._resample(
                [(index, number)], row, method, place, jacobian[None], [psf], True
            )
            arrays = [None if v is None else _scatter(v, own) for v in result]
            arrays[2] = np.nan_to_num(arrays[2])
            self._collect(index, row, psf, arrays)

    def _resample(self, members, rows, method, place, jacobian, psfs, is_piece):
        """Resample windows of several images that lie alike.

        Gives, for each image, values, variances, coverage and inverse variances of the
        output pixels, flattened; the last two for pieces only.
        """
        per_pixel, count = self.job.per_pixel, place.corners[:, 0, 1:, 1:].size
        least = _LEAST_COVERAGE
        if is_piece and method != "interp":
            least = _LEAST_IN_COADD
        weights = areas = None
        if method != "adaptive":
            weights = place.weights(self.job.dtype)
            weights = list(weights) if is_piece else weights
        if per_pixel and (is_piece or method != "exact"):
            areas = place.areas

        def run(members, stacks, per_pixel):
            options = {"per_pixel": per_pixel, "areas": areas, "least": least}
            if method != "adaptive":
                return resample(stacks, weights, count, **options)
            return [
                self._adapt(member, rows, place, jacobian, stack, **options)
                for member, stack in zip(members, stacks, strict=True)
            ]

        stacks = [
            self._read(member, rows, place, psf.kernels)
            for member, psf in zip(members, psfs, strict=True)
        ]
        found = []
        for k, result in enumerate(run(members, stacks, per_pixel)):
            weight, coverage = None, result.coverage
            if is_piece and coverage is None:
                coverage = np.ones(count)
            elif is_piece and method == "interp":
                # What is interpolated is there or not: its weights are no areas.
                coverage = (coverage >= least).astype(float)
            if is_piece and stacks[k][1] is not None:
                (weight,) = run([members[k]], [_inverse(*stacks[k])], False)
                weight = weight.values / areas**2 if per_pixel else weight.values
            if result.variances is not None and psfs[k].kernels is not None:
                self._correlate(result, method, place, jacobian, psfs[k].kernels)
            found.append([result.values, result.variances, coverage, weight])
        return found

    def _adapt(self, member, rows, place, jacobian, stack, per_pixel, areas, least):
        """Resample windows of one image with reproject, one by one."""
        index, number = member
        tile = self.job.bands[index].tiles[number]
        made = [
            resample_adaptive(
                [None if v is None else v[k] for v in stack],
                place.first[k],
                tile,
                self.wcs[row],
                jacobian[k],
                areas=areas.reshape(len(rows), -1)[k] if per_pixel else None,
                least=least,
            )
            for k, row in enumerate(rows)
        ]
        parts = zip(*((r.values, r.variances, r.coverage) for r in made), strict=True)
        return Resampled(*(None if p[0] is None else np.concatenate(p) for p in parts))

    def _correlate(self, result, method, place, jacobian, kernels):
        """Enlarge variances by what a convolution before has correlated."""
        count = len(jacobian)
        if method == "adaptive":
            some = [adaptive_weights(jacobian)]
        else:
            some = list(place.patch().weights(np.float64))
        factor = correlation(some, kernels, count)
        result.variances *= np.repeat(factor, len(result.variances) // count)

    def _read(self, member, rows, place, kernels):
        """Read the windows of one image and convolve them.

        Gives values, variances (or None) and 1 for usable pixels (or None for all).
        """
        index, number = member
        shape = (len(rows), place.width, place.width)
        values, good = (np.empty(shape, self.job.dtype) for _ in range(2))
        variance = None
        if self.job.bands[index].tiles[number].uncertainty is not None:
            variance = np.empty(shape, self.job.dtype)
        size = max(_CONVOLVED // place.width**2, 1)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            some = kernels
            if kernels is not None and len(kernels) > 1:
                some = kernels[part]
            made = self._read_some(
                member, rows[part], place.first[part], shape[1], some
            )
            for whole, one in zip((values, variance, good), made, strict=True):
                if whole is not None:
                    whole[part] = one
        return values, variance, None if good.all() else good

    def _read_some(self, member, rows, first, width, kernels):
        """Read a few windows of one image and convolve them."""
        index, number = member
        tile, level = (
            self.job.bands[index].tiles[number],
            self.job.levels[index][number],
        )
        edge = 0 if kernels is None else kernels.shape[-1] // 2
        shape = (len(rows), width + 2 * edge, width + 2 * edge)
        values, good = np.zeros(shape, self.job.dtype), np.zeros(shape, bool)
        variance = scratch = None
        if tile.uncertainty is None:
            self.flags[rows] |= int(Flag.NO_UNCERTAINTY)
        else:
            variance, scratch = np.zeros(shape, self.job.dtype), np.zeros(shape[1:])
        for k, row in enumerate(rows):
            x, y = first[k] - edge
            if scratch is not None:
                scratch[:] = 0.0
            try:
                nonfinite, peak = tile.read(int(x), int(y), values[k], scratch, good[k])
            except (InputError, OSError) as error:
                tile.problems.add(reason_of(error))
                self._unreadable.add(row)
                continue
            if scratch is not None:
                variance[k] = scratch / self._unit_of(index, scratch)
            self.flags[row] |= int(Flag.NONFINITE) * nonfinite
            self.flags[row] |= int(Flag.SATURATED) * bool(peak >= level)
        if kernels is None:
            return values, variance, good
        values, variance, gaps = match(
            values[:, None],
            kernels[:, None],
            variance=None if variance is None else variance[:, None],
            mask=None if good.all() else ~good[:, None],
        )
        for array in (values, variance):
            if array is not None:
                array[gaps] = 0.0
        variance = None if variance is None else variance[:, 0]
        return values[:, 0], variance, ~gaps[:, 0]

    def _unit_of(self, index, variance):
        """Choose the unit of the variances of a band, a power of two."""
        if self._variance_unit[index] is None:
            positive = variance[variance > 0]
            if not len(positive):
                return 1.0
            power = np.round(np.log2(np.median(positive)))
            self._variance_unit[index] = 2.0**power
        return self._variance_unit[index]

    def _store(self, index, rows, psf, arrays):
        """Keep cutouts that come from one image."""
        values, variances = arrays[:2]
        keep = psf.matched
        self._unmatched.update((int(row), index) for row in rows[~keep])
        self.values[rows[keep], index] = values[keep]
        self.psf[rows, index], self.fwhm[rows, index] = psf.images, psf.fwhm
        if variances is not None:
            self._store_std(index, rows[keep], variances[keep])

    def _store_std(self, index, rows, variances):
        """Keep standard deviations in the unit of the values."""
        unit = self._variance_unit[index] or 1.0
        self.std[rows, index] = np.sqrt(variances) * np.sqrt(unit)

    def _note(self, index, rows, on_image):
        """Keep which corners of pixels lie on one of the images."""
        for row, corners in zip(rows, on_image, strict=True):
            key = int(row), index
            self._pieces.setdefault(key, [])
            self._covered[key] = self._covered.get(key, False) | corners

    def _collect(self, index, rows, psf, arrays):
        """Keep what one image contributes to cutouts on seams."""
        for k, row in enumerate(rows):
            key = int(row), index
            if psf.matched[k]:
                parts = [None if v is None else v[k] for v in arrays]
                self._pieces[key].append(Piece(*parts, psf.images[k], psf.fwhm[k]))
            else:
                self._unmatched.add(key)

    def _join(self):
        """Coadd what was collected."""
        for key, pieces in self._pieces.items():
            row, index = key
            if not self._covered[key].all():
                self.flags[row] |= int(Flag.TRUNCATED)
            if not pieces:
                continue
            self._unmatched.discard(key)
            made = coadd(
                pieces, self.wcs[row], match_background=self.job.match_background
            )
            self.values[row, index] = made.values
            self.psf[row, index], self.fwhm[row, index] = made.psf, made.fwhm
            if self.std is not None:
                self.std[row, index] = np.nan
                if made.variances is not None:
                    self._store_std(index, row, made.variances)
        self._pieces, self._covered = {}, {}

    def _take_from_healpix(self, index):
        """Take all cutouts from a HEALPix map."""
        tile, side = self.job.bands[index].tiles[0], self.job.n_pixels
        ratio = self.scales[self.known] / tile.pixel_scale.to_value(u.arcsec)
        jacobian = ratio[:, None, None] * np.eye(2)
        psf = self.job.psfs[index][0].at(None, np.zeros((len(ratio), 2)), jacobian)
        self.psf[self.known, index] = psf.images
        self.fwhm[self.known, index] = psf.fwhm
        for row, size in zip(self.known, ratio, strict=True):
            values, coverage = tile.resample(
                self.wcs[row], side, interpolate=self.job.resampling == "interp"
            )
            values[coverage < _LEAST_COVERAGE] = np.nan
            if self.job.per_pixel:
                # Squares on the tangent plane are smaller on the sphere.
                at = np.arange(side) - (side - 1) / 2
                at = np.radians(at * self.scales[row] / 3600.0)
                values *= size**2 * (1.0 + at[:, None] ** 2 + at**2) ** -1.5
            self.values[row, index] = values

    def stack(self, catalog):
        """Make a stack of the finished cutouts.

        Parameters
        ----------
        catalog : `~astropy.table.QTable`
            The rows of these galaxies, which get a column ``masked_fraction``.

        Returns
        -------
        `~galml.cutouts.CutoutStack`
        """
        job = self.job
        for row in self._unreadable:
            # Without a band, or a part of the galaxy, others would mislead.
            blank = np.isnan(self.values[row]).mean(axis=(1, 2))
            if (blank > _MASKED).any():
                self.values[row] = np.nan
                if self.std is not None:
                    self.std[row] = np.nan
        # What overflows in this precision is lost.
        mask = ~np.isfinite(self.values)
        self.values[mask] = np.nan
        counts = np.count_nonzero(mask, axis=(1, 2, 3))
        fraction = counts / np.prod(mask.shape[1:])
        self.flags[fraction > _MASKED] |= int(Flag.MASKED)
        self.flags[fraction == 1.0] |= int(Flag.FAILED)
        for row, _ in self._unmatched:
            self.flags[row] |= int(Flag.FAILED)
        for row in self._unreadable:
            if self.flags[row] & int(Flag.FAILED):
                self.flags[row] |= int(Flag.UNREADABLE)
        catalog["masked_fraction"] = fraction
        has_psf = self.psf.shape[-1] > 0
        return CutoutStack(
            u.Quantity(self.values, job.bands[0].tiles[0].unit, copy=False),
            bands=[band.name for band in job.bands],
            wcs=self.wcs,
            pixel_scale=self.scales * u.arcsec,
            uncertainty=self.std,
            mask=mask,
            psf=self.psf.astype(np.float32) if has_psf else None,
            psf_fwhm=self.fwhm * u.arcsec if has_psf else None,
            catalog=catalog,
            flags=self.flags,
            meta={
                "GALMLVER": galml.__version__,
                "OPERATN": "extract_cutouts",
                "PERPIXEL": job.per_pixel,
                "ORIENT": job.orientation,
                "RESAMPLE": job.resampling,
            },
        )

    def explain(self, row, number):
        """Explain why a galaxy has no cutout.

        Parameters
        ----------
        row, number : int
            Row of the chunk, and of the catalog.

        Returns
        -------
        `~galml.core.InputError`
        """
        argument = f"catalog row {number}"
        if row not in self.known:
            return InputError(argument, "no position or size", "finite numbers")
        if row in self._unreadable:
            return InputError(argument, "an image that cannot be read", "FITS images")
        if not self.flags[row] & int(Flag.TRUNCATED):
            return InputError(
                argument,
                f"no pixel usable in {self.job.dtype}, "
                "or a PSF broader than target_psf",
                "a galaxy that can be seen",
            )
        return InputError(argument, "a position outside the images", "one inside")


def _scatter(flat, own):
    """Put the values of some pixels into a cutout of NaN."""
    full = np.full((1, *own.shape), np.nan)
    full[0, own] = flat
    return full


def _inverse(values, variance, good):
    """Make a stack of inverse variances, in place of the values."""
    positive = variance[variance > 0]
    # Pixels without noise count as the best of the others do.
    least = positive.min() if len(positive) else 1.0
    inverse = 1.0 / np.maximum(variance, least)
    return (inverse if good is None else inverse * good), None, good
