# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies averaged over area onto a grid, without sky, and aligned."""

import functools
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError
from galml.core.networks import dihedral_views

__all__ = [
    "DIHEDRAL",
    "MIRRORS",
    "Grid",
    "Stamps",
    "align",
    "as_tensor",
    "flux_scale",
    "galaxy_centers",
    "half_widths",
    "lies_inside",
    "measure_noise",
    "measure_size",
    "regrid",
    "sky_level",
]

#: Fluxes between these, or zero, are held by single precision as they are.
FAINTEST, BRIGHTEST = 1e-12, 1e12
#: Views of networks that see galaxies as they lie on the sky: all symmetries of a
#: square.
DIHEDRAL = dihedral_views(images=("image",))
#: Views of networks that see galaxies aligned: what leaves the major axis along x.
MIRRORS = DIHEDRAL[::2]


@dataclass(frozen=True)
class Grid:
    """A square of cells around the center of a galaxy.

    Parameters
    ----------
    size : int
        Cells a side.
    half : float
        Half of the side of the square, in any unit.
    """

    size: int
    half: float

    @functools.cached_property
    def step(self):
        """Coordinate of the cells along an axis, shape (size,)."""
        return ((torch.arange(self.size) + 0.5) / self.size * 2 - 1) * self.half

    @property
    def x(self):
        """Coordinate of the cells along x, shape (1, size)."""
        return self.step[None, :]

    @property
    def y(self):
        """Coordinate of the cells along y, shape (size, 1)."""
        return self.step[:, None]

    @functools.cached_property
    def radius(self):
        """Distance of the cells from the center, shape (size, size)."""
        return torch.hypot(self.x, self.y)


@dataclass
class Stamps:
    """Images of n galaxies on a grid.

    Attributes
    ----------
    mean : `torch.Tensor`
        Shape (n, bands, y, x): flux per pixel, averaged over each cell; 0 where too
        little of a cell is known.
    cover : `torch.Tensor`
        Shape (n, bands, y, x), or (n, 1, y, x) for all bands: how much of each cell is
        known.
    reduction : `torch.Tensor`
        Shape (n,): error of a cell over that of a pixel, if those are independent.
    whole : bool
        Whether something is known of each cell, of all galaxies and in all bands.
    """

    mean: torch.Tensor
    cover: torch.Tensor
    reduction: torch.Tensor
    whole: bool


def as_tensor(array):
    """Give a tensor with the values of an array, sharing memory where it can.

    Parameters
    ----------
    array : `~numpy.ndarray`
        Any numbers.

    Returns
    -------
    `torch.Tensor`
        Not to be changed.
    """
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def flux_scale(planes, level):
    """Find factors for galaxies whose fluxes single precision does not hold.

    Parameters
    ----------
    planes : sequence of `torch.Tensor`
        One for each band, shape (n, ny, nx); NaN where unknown.
    level : `torch.Tensor`
        Shape (n, bands): what is subtracted before.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), float64: 1 where fluxes are neither very small nor very large. Other
        factors are powers of two, so that no digit changes.
    """
    tops = []
    for plane, sky in zip(planes, level.double().unbind(1), strict=True):
        low, high = plane.amin((1, 2)), plane.amax((1, 2))
        top = torch.maximum(high.double() - sky, sky - low.double())
        unknown = torch.isnan(top)
        if unknown.any():
            part = plane[unknown].double() - sky[unknown, None, None]
            top[unknown] = part.abs().nan_to_num(0.0).amax((1, 2))
        tops.append(top)
    top = torch.stack(tops, 1).amax(1)
    fits = (top == 0) | ((top > FAINTEST) & (top < BRIGHTEST))
    return torch.where(fits, 1.0, 2.0 ** -top.log2().round())


def galaxy_centers(images):
    """Give the centers of galaxies: those that are known, or those of the images.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images.

    Returns
    -------
    `torch.Tensor`
        Shape (n, 2): x and y in pixels, float64.
    """
    ny, nx = images.values.shape[-2:]
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    return torch.from_numpy(np.where(np.isfinite(images.center), images.center, middle))


def half_widths(images, spec, redshift=None):
    """Find how far the square that a network sees reaches, in pixels of the images.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images.
    spec : `~galml.core.InputSpec`
        ``half_width`` and ``width_unit`` say how far the square reaches.
    redshift : float or `~numpy.ndarray`, optional
        Of each galaxy, where that is a length; its distance is that of Planck 2018.

    Returns
    -------
    `torch.Tensor`
        Shape (n,), float64; NaN where radius or pixel scale are not known.

    Raises
    ------
    galml.core.InputError
        If the redshift is missing, or the unit is none of these.
    """
    half, unit = spec.half_width, spec.width_unit
    if unit == "r_eff":
        return torch.from_numpy(half * images.r_eff)
    if unit == "pix":
        return torch.full((len(images),), half, dtype=torch.float64)
    width = _arcsec(half * u.Unit(unit), redshift) / images.pixel_scale
    return torch.from_numpy(width)


def _arcsec(width, redshift):
    """Give an angle, or a length at a redshift, in arcsec."""
    if width.unit.is_equivalent(u.arcsec):
        return width.to_value(u.arcsec)
    if not width.unit.is_equivalent(u.kpc):
        expected = "'r_eff', 'pix', an angle or a length"
        raise InputError("width_unit", repr(str(width.unit)), expected)
    if redshift is None:
        raise InputError("redshift", "None", "one for each galaxy")
    from astropy.cosmology import Planck18

    return (width / Planck18.kpc_proper_per_arcmin(redshift)).to_value(u.arcsec)


def lies_inside(images, half):
    """Tell which squares around galaxies lie inside the images.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images.
    half : `torch.Tensor`
        Shape (n,): half of the side of the square, in pixels.

    Returns
    -------
    `torch.Tensor` of bool
        Shape (n,).
    """
    ny, nx = images.values.shape[-2:]
    center = galaxy_centers(images)
    size = torch.tensor([nx, ny], dtype=torch.float64)
    room = torch.minimum(center + 0.5, size - 0.5 - center).amin(1)
    return half <= room


def regrid(data, center, half, size, *, whole=False, least_known=0.1):
    """Average the known pixels in each cell of a square around each galaxy.

    Parameters
    ----------
    data : `torch.Tensor`
        Shape (n, bands, ny, nx); NaN where it is unknown.
    center : `torch.Tensor`
        Shape (n, 2), x and y in pixels.
    half : `torch.Tensor`
        Shape (n,): half of the side of the square, in pixels.
    size : int
        Cells a side.
    whole : bool
        Whether all pixels are known, and enough of every cell.
    least_known : float
        Share of a cell that must be known, so that the cell is.

    Returns
    -------
    `Stamps`
        In single precision.
    """
    ny, nx = data.shape[-2:]
    # Edges of cells need more digits than brightness.
    center, half = center.double(), half.double()
    step = 2 * half / size
    rows = _overlap(ny, center[:, 1] - half, step, size)
    columns = _overlap(nx, center[:, 0] - half, step, size)
    reduction = (_shrinkage(rows) * _shrinkage(columns)).sqrt()
    known = None if whole else torch.isfinite(data)
    if whole or known.all():
        area = rows.sum(2)[:, None, :, None] * columns.sum(2)[:, None, None, :]
    else:
        area = _summed(known.float(), rows, columns)
        data = torch.where(known, data, 0.0)
    cover = (area / (step**2)[:, None, None, None].float()).clamp_(0, 1)
    mean = _summed(data.float(), rows, columns).div_(area.clamp_min(1e-12))
    if not whole:
        cover = torch.where(cover > least_known, cover, 0.0)
        mean = torch.where(cover > 0, mean, 0.0)
    return Stamps(mean, cover, reduction, whole)


def _overlap(size, start, step, cells):
    """Length of each pixel inside each cell along an axis, shape (n, cells, size).

    As `galml.core.networks.overlap`, for adjacent cells: from where each pixel is cut
    by the edges of the cells.
    """
    edge = start[:, None] + step[:, None] * torch.arange(cells + 1)
    # Relative to its pixel, an edge keeps all its digits in single precision.
    pixel = (edge + 0.5).floor().clamp(-1, size)
    rest = (edge + 0.5 - pixel).float()
    before = pixel.float()[..., None] - torch.arange(size, dtype=torch.float32)
    before = before.add_(rest[..., None]).clamp_(0, 1)
    return before[:, 1:] - before[:, :-1]


def _summed(data, rows, columns):
    """Sum pixels over cells, shape (n, bands, cells, cells)."""
    n, n_bands, ny, nx = data.shape
    along = data.reshape(n, n_bands * ny, nx) @ columns.transpose(1, 2)
    return rows[:, None] @ along.reshape(n, n_bands, ny, -1)


def _shrinkage(weights):
    """Variance of weighted means over that of the values, shape (n,)."""
    total = weights.sum(2)
    inside = total > 0
    ratio = torch.linalg.vector_norm(weights, dim=2) ** 2
    ratio = ratio / total.clamp_min(1e-12) ** 2
    return (ratio * inside).sum(1) / inside.sum(1).clamp_min(1)


def align(planes, angle, grid, target):
    """Turn planes so that the major axis lies along x, and keep the inner part.

    Parameters
    ----------
    planes : `torch.Tensor`
        Shape (n, k, y, x), on the cells of ``grid``; beyond them are zeros.
    angle : `torch.Tensor`
        Shape (n,): of the major axis, in radians from x to y.
    grid, target : `Grid`
        Cells of the planes, and of the result.

    Returns
    -------
    `torch.Tensor`
        Shape (n, k, target.size, target.size), interpolated linearly.
    """
    x, y = target.x / grid.half, target.y / grid.half
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    places = torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
    return torch.nn.functional.grid_sample(
        planes, places, mode="bilinear", padding_mode="zeros", align_corners=False
    )


@functools.lru_cache(maxsize=16)
def _outer_cells(grid, far, share):
    """Cells far from the galaxy in whole images, as indices of flattened cells."""
    return _beyond(grid, far, share).flatten().nonzero()[:, 0]


def _beyond(grid, far, share):
    """Cells far from the galaxy in whole images."""
    return grid.radius > min(far, share * float(grid.radius.max()))


@functools.lru_cache(maxsize=16)
def _outer_pairs(grid, far, share, lag):
    """Such cells that are some cells before another one, along y and along x.

    They are indices of the flattened cells that have one so far away.
    """
    outer = _beyond(grid, far, share)
    return [_both(outer, axis, lag).flatten().nonzero()[:, 0] for axis in (0, 1)]


def _both(outer, axis, lag):
    """Whether cells, and those some cells further along an axis, are outer ones."""
    size = outer.shape[axis] - lag
    return outer.narrow(axis, 0, size) & outer.narrow(axis, lag, size)


def _is_outer(stamps, grid, far, share):
    """Cells far from the galaxy, or as far as there are any: boolean, as cover."""
    known = stamps.cover > 0
    reach = torch.where(known, grid.radius, 0.0).amax((-2, -1), keepdim=True)
    return known & (grid.radius > (share * reach).clamp(max=far))


def sky_level(stamps, grid, *, far, share):
    """Measure what is left of the sky: the median far from the galaxy.

    Parameters
    ----------
    stamps : `Stamps`
        The images.
    grid : `Grid`
        Their cells.
    far : float
        Radius, in the unit of the grid, beyond which there is sky.
    share : float
        Where an image does not reach so far, what is beyond this share of its reach
        counts as sky.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bands); 0 where nothing is known.
    """
    mean = stamps.mean.flatten(2)
    if stamps.whole:
        outer = mean.index_select(2, _outer_cells(grid, far, share)).numpy()
        half = (outer.shape[2] - 1) // 2
        return torch.from_numpy(np.partition(outer, half, axis=2)[:, :, half].copy())
    outer = _is_outer(stamps, grid, far, share).flatten(2)
    return torch.where(outer, mean, torch.nan).nanmedian(2).values.nan_to_num(0.0)


def measure_noise(stamps, grid, *, far, share, lag, clip, rounds, clipped_variance):
    """Measure the error of a pixel from the scatter far from the galaxy.

    The scatter is that of the differences between cells at some distance. Where the
    errors of neighboring pixels are not independent, the result is that of pixels
    which would make cells as noisy.

    Parameters
    ----------
    stamps, grid, far, share
        As for `sky_level`.
    lag : int
        Cells between those that are compared.
    clip : float
        Differences beyond so many standard deviations do not count.
    rounds : int
        How often that is repeated.
    clipped_variance : float
        Variance of normal numbers of variance 1 after clipping.

    Returns
    -------
    `torch.Tensor`
        Shape (n, bands); 0 where nothing is known.
    """
    size = grid.size - lag
    steps = [
        stamps.mean.narrow(axis, lag, size) - stamps.mean.narrow(axis, 0, size)
        for axis in (2, 3)
    ]
    if stamps.whole:
        pairs = _outer_pairs(grid, far, share, lag)
        parts = [
            step.flatten(2).index_select(2, places)
            for step, places in zip(steps, pairs, strict=True)
        ]
        square = torch.cat(parts, 2).square_()
        count = torch.tensor(float(square.shape[2]))
    else:
        outer = _is_outer(stamps, grid, far, share)
        both = [
            _both(outer, axis, lag).expand(steps[0].shape[:2] + (-1, -1))
            for axis in (2, 3)
        ]
        kept = torch.cat([part.flatten(2) for part in both], 2)
        square = torch.cat([step.flatten(2) for step in steps], 2)
        square = torch.where(kept, square, 0.0).square_()
        count = kept.sum(2).float()
    # Pairs that do not count are zero, and stay below any limit.
    unused = square.shape[2] - count
    variance = square.sum(2) / count
    low, kept = torch.empty_like(square), torch.empty_like(square)
    for _ in range(rounds):
        torch.le(square, (clip**2 * variance)[..., None], out=low)
        torch.mul(square, low, out=kept)
        new = kept.sum(2) / (low.sum(2) - unused) / clipped_variance
        if torch.equal(new, variance):
            break
        variance = new
    error = (variance / 2).sqrt().nan_to_num(0.0)
    return error / stamps.reduction[:, None]


def measure_size(values, psf_fwhm):
    """Measure effective radius and center of the galaxy in the middle of an image.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (ny, nx); NaN where it is unknown. The sky is measured along the border.
    psf_fwhm : float
        FWHM of the PSF in pixels; NaN where it is unknown.

    Returns
    -------
    r_eff : float
        Along the major axis, in pixels; NaN where there is nothing to measure.
    center : `~numpy.ndarray`
        Shape (2,): x and y in pixels.
    """
    from galml.cutouts import measure

    border = np.ones(values.shape, dtype=bool)
    inner = tuple(slice(n // 10 + 1, n - n // 10 - 1) for n in values.shape)
    border[inner] = False
    border &= np.isfinite(values)
    sky = np.median(values[border]) if border.any() else 0.0
    known = psf_fwhm if np.isfinite(psf_fwhm) else None
    found = measure(values - sky, psf_fwhm=known)
    return float(found["r_eff"]), np.array([found["x"], found["y"]], dtype=float)
