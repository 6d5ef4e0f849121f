# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How cutouts lie on the pixels of images, and which images make each of them."""

from dataclasses import dataclass

import numpy as np

from galml.cutouts.resampling import (
    NODES,
    grid_positions,
    nodes,
    pixel_areas,
    weights_exact,
    weights_interp,
)

__all__ = [
    "Choice",
    "Layout",
    "Placement",
    "choose_images",
    "find_parts",
    "is_too_large",
    "lay_out",
    "lies_on_image",
    "quadrilaterals",
    "split_halves",
]

#: Side of the patch of pixels in which the correlation of the noise is worked out.
_PATCH = 8
#: Corners of pixels less than this beyond the edge of an image (in pixels) are on it.
_EDGE = 0.01
#: Side of the largest window that is read at once.
LARGEST_WINDOW = 8192
#: Largest term of fourth degree (in pixels) of a mapping that is known well enough from
#: its nodes, and how much farther than beside it one step has to go to be a gap.
_SMOOTH, _GAP = 0.02, 1.5


@dataclass
class Layout:
    """How n cutouts lie on the pixels of an image, or of several that are alike.

    Positions are in pixels of the image.

    Attributes
    ----------
    shape : tuple of int
        Of the image.
    rows : `~numpy.ndarray` of int
        Which cutouts these are; all other arrays are theirs.
    nodes : `~numpy.ndarray`
        Shape (n, 2, k, k): positions (x, y) of the nodes.
    first, width : `~numpy.ndarray` of int
        First pixels, shape (n, 2), and sides of the windows that they need.
    ratio : `~numpy.ndarray`
        Side of the output pixels.
    center, jacobian : `~numpy.ndarray`
        Where the centers lie, shape (n, 2), and how a step of one output pixel goes,
        shape (n, 2, 2).
    touching, whole : `~numpy.ndarray` of bool
        Which have a part on the image, and which lie on it entirely.
    depth : `~numpy.ndarray`
        How far the center is from the edge of the image.
    uneven : `~numpy.ndarray` of bool
        Where the mapping is not smooth, as on the edges and gaps of projections of
        the sphere, or the window too large: each pixel has to be mapped by itself.
    """

    shape: tuple
    rows: np.ndarray
    nodes: np.ndarray
    first: np.ndarray
    width: np.ndarray
    ratio: np.ndarray
    center: np.ndarray
    jacobian: np.ndarray
    touching: np.ndarray
    whole: np.ndarray
    depth: np.ndarray
    uneven: np.ndarray


@dataclass
class Placement:
    """Where output pixels lie in windows, of which ``first`` are the first pixels.

    ``corners`` has shape (n, 2, ny + 1, nx + 1); ``centers``, (n, 2, ny, nx), is there
    for interpolation. ``window`` names the window of each of the n, where not each has
    its own.
    """

    corners: np.ndarray
    centers: np.ndarray | None
    first: np.ndarray
    width: int
    window: np.ndarray | None = None

    @property
    def areas(self):
        """Areas of the output pixels, flattened, in pixels of the image."""
        return pixel_areas(self.corners).ravel()

    def weights(self, dtype):
        """Compute the weights of all pixels."""
        options = {"window": self.window, "dtype": dtype}
        if self.centers is not None:
            x, y = self.centers[:, 0], self.centers[:, 1]
            return weights_interp(x, y, self.width, **options)
        x, y = self.corners[:, 0], self.corners[:, 1]
        return weights_exact(x, y, self.width, **options)

    def patch(self):
        """Take some pixels: from the center of each image, or out of all."""
        corners, centers = self.corners, self.centers
        if self.window is not None:
            step = max(len(corners) // _PATCH**2, 1)
            corners = corners[::step]
            centers = None if centers is None else centers[::step]
        else:
            y, x = (size // 2 for size in corners.shape[2:])
            corners = corners[..., y : y + _PATCH + 1, x : x + _PATCH + 1]
            if centers is not None:
                y, x = (size // 2 for size in centers.shape[2:])
                centers = centers[..., y : y + _PATCH, x : x + _PATCH]
        return Placement(corners, centers, self.first, self.width)


@dataclass
class Choice:
    """Which images of one band make each of n cutouts.

    ``single`` is the number of the one image, -1 for none; ``on_seam`` is where all
    images that it touches are coadded, ``touched`` how many there are, and ``whole``
    where one of them covers all of it.
    """

    single: np.ndarray
    on_seam: np.ndarray
    touched: np.ndarray
    whole: np.ndarray


def is_too_large(width):
    """Tell whether windows of these sides, in pixels, are too large for one read."""
    return width > LARGEST_WINDOW


def lay_out(at, rows, side, shape):
    """Find how cutouts lie on an image.

    Parameters
    ----------
    at : `~numpy.ndarray`
        Shape (n, 2, k, k): positions of their nodes.
    rows : `~numpy.ndarray` of int
        Which cutouts these are.
    side : int
        Pixels on a side of a cutout.
    shape : tuple of int
        Of the image.

    Returns
    -------
    `Layout`
    """
    outline = grid_positions(at, 8, corners=True).reshape(len(at), 2, -1)
    low, high = outline.min(axis=2), outline.max(axis=2)
    limit = np.array(shape[::-1]) - 0.5
    center = at[..., NODES // 2, NODES // 2]
    uneven = _are_uneven(at)
    with np.errstate(invalid="ignore"):
        whole = ((low >= -0.5) & (high <= limit)).all(axis=1) & ~uneven
        touching = ((low < limit) & (high > -0.5)).all(axis=1) | uneven
        depth = np.minimum(center + 0.5, limit - center).min(axis=1)
    # The outline is known at some points only: one more pixel on either side.
    plain = (touching & ~uneven)[:, None]
    first = np.floor(np.where(plain, low, 0.0)).astype(int) - 1
    last = np.ceil(np.where(plain, high, 0.0)).astype(int) + 2
    steps = grid_positions(at, side, corners=True)[..., side // 2 :, side // 2 :]
    jacobian = np.stack(
        [steps[..., 0, 1] - steps[..., 0, 0], steps[..., 1, 0] - steps[..., 0, 0]],
        axis=-1,
    )
    with np.errstate(invalid="ignore"):
        ratio = np.sqrt(np.abs(np.linalg.det(jacobian)))
    width = (last - first).max(axis=1) + 1
    return Layout(
        shape=shape,
        rows=rows,
        nodes=at,
        first=first,
        width=width,
        ratio=ratio,
        center=center,
        jacobian=jacobian,
        touching=touching,
        whole=whole,
        depth=depth,
        # Those in windows too large for the memory are mapped in parts too.
        uneven=uneven | is_too_large(width),
    )


def _are_uneven(at):
    """Find mappings, given at the nodes, that a polynomial does not follow."""
    angle = np.arccos(np.clip(nodes(), -1.0, 1.0))
    last = np.cos((NODES - 1) * angle) * 2.0 / NODES
    known = np.isfinite(at).all(axis=1)
    some = known.any(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        terms = np.abs(np.concatenate([at @ last, last @ at], axis=1))
        uneven = (terms > _SMOOTH).any(axis=(1, 2))
    # Where only some of the nodes have a place, the others lie in a gap.
    return uneven | (some & ~known.all(axis=(1, 2)))


def find_parts(corners):
    """Find the parts, masks of pixels, in which corners (2, m, m) hang together."""
    from scipy.ndimage import label

    whole = np.isfinite(corners).all(axis=0)
    whole = whole[1:, 1:] & whole[1:, :-1] & whole[:-1, 1:] & whole[:-1, :-1]
    for along in (0, 1):
        steps = np.hypot(*np.diff(np.moveaxis(corners, along + 1, 1), axis=1))
        beside = np.pad(steps, ((1, 1), (0, 0)), constant_values=np.inf)
        with np.errstate(invalid="ignore"):
            near = steps < _GAP * np.fmin(beside[2:], beside[:-2])
        near = near[:, 1:] & near[:, :-1]
        whole &= near if along == 0 else near.T
    labels, count = label(whole)
    return [labels == k for k in range(1, count + 1)]


def quadrilaterals(corners, own):
    """Select the corners, shape (p, 2, 2, 2), of some pixels out of (2, m, m)."""
    sides = slice(-1), slice(1, None)
    quads = [[corners[:, y, x][:, own] for x in sides] for y in sides]
    return np.moveaxis(np.array(quads), (0, 1, 2, 3), (2, 3, 1, 0))


def split_halves(own):
    """Split a mask of pixels into halves; there are none of a single pixel."""
    places = np.argwhere(own)
    if len(places) < 2:
        return []
    axis = np.ptp(places, axis=0).argmax()
    edge = int(np.median(places[:, axis]))
    edge += edge == places[:, axis].min()
    low = own & (np.indices(own.shape)[axis] < edge)
    return [low, own & ~low]


def choose_images(layouts, count, coadd):
    """Choose the images of each cutout: one that covers it, or all that touch it.

    Parameters
    ----------
    layouts : iterable of (int, `Layout`)
        Numbers of images, and how cutouts lie on them.
    count : int
        Number of cutouts.
    coadd : {"seams", "all"}
        As for `galml.cutouts.extract_cutouts`.

    Returns
    -------
    `Choice`
    """
    single, depth = np.full(count, -1), np.full(count, -np.inf)
    touched, uneven = np.zeros(count, int), np.zeros(count, bool)
    last = single.copy()
    for number, layout in layouts:
        rows = layout.rows
        # Of images that cover it equally well, the first.
        deeper = layout.whole & (layout.depth > depth[rows] + 0.5)
        single[rows[deeper]] = number
        depth[rows[deeper]] = layout.depth[deeper]
        last[rows[layout.touching]] = number
        touched[rows] += layout.touching
        uneven[rows] |= layout.uneven
    whole = single >= 0
    on_seam = (touched > 1) & (~whole | (coadd == "all")) | (uneven & ~whole)
    single = np.where(whole, single, last)
    return Choice(np.where(on_seam, -1, single), on_seam, touched, whole)


def lies_on_image(corners, shape):
    """Find corners (n, 2, ny, nx) that lie on an image."""
    limit = np.array(shape[::-1])[:, None, None] - 0.5 + _EDGE
    with np.errstate(invalid="ignore"):
        return ((corners >= -0.5 - _EDGE) & (corners <= limit)).all(axis=1)
