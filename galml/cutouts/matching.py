# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Match images to one PSF: kernels, and their convolution with stacks of images."""

import math
from dataclasses import dataclass
from functools import lru_cache

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError
from galml.cutouts.psf import fwhm_of, to_psf_image
from galml.cutouts.resampling import resample, weights_exact
from galml.cutouts.targets import native_scale

__all__ = ["margin", "match", "matching_kernel", "matching_kernels"]

#: A PSF may be broader than the target by this fraction: FWHM are not known better.
TOLERANCE = 0.01
#: Strength of the Laplacian penalty (Boucaud+ 2016). Chosen on ACS PSFs matched to
#: the broadest of them: a stronger one leaves the FWHM wrong by more than 1 %, a
#: weaker one rings.
REGULARIZATION = 1e-6
#: Share of the kernel's absolute sum that its cropped border may hold.
BORDER = 1e-4
#: Least share of the kernel's weight on measured pixels that makes a usable pixel.
COVERED = 0.5
# Largest side of the PSF images of a stack.
_LARGEST = 65


def matching_kernel(source, target, *, window=None, regularization=REGULARIZATION):
    """Make the kernel that turns one PSF into a broader one.

    It is the Wiener kernel with a Laplacian penalty of Boucaud et al. (2016, A&A 596,
    A63), made by `photutils.psf_matching.make_wiener_kernel` and cropped to the
    pixels that matter.

    Parameters
    ----------
    source, target : array_like
        PSF images on the same grid, as `galml.cutouts.psf.to_psf_image` gives them;
        their odd sides may differ.
    window : callable, optional
        One of the windows of `photutils.psf_matching`, against noise in ``source``.
    regularization : float, optional
        Above zero; larger values damp the noise more and match less exactly.

    Returns
    -------
    `~numpy.ndarray`
        Shape (k, k) with odd k and sum 1; one pixel where the PSFs are the same.

    Raises
    ------
    galml.core.InputError
        When ``source`` is broader than ``target``, or one of them is no PSF image.
    """
    from photutils.psf_matching import make_wiener_kernel

    source, target = _same_size(source, target)
    if np.abs(source - target).max() <= 1e-6 * target.max():
        return np.ones((1, 1))
    widths = fwhm_of(source), fwhm_of(target)
    if widths[0] > widths[1] * (1.0 + TOLERANCE):
        raise InputError(
            "psf",
            f"a FWHM of {widths[0]:.2f} pixels",
            f"at most the target's {widths[1]:.2f} pixels",
        )
    kernel = make_wiener_kernel(
        source,
        target,
        window=window,
        penalty="laplacian",
        regularization=regularization,
    )
    return _crop(kernel)


def matching_kernels(sources, targets, *, window=None, regularization=REGULARIZATION):
    """Make the kernels of many images and bands.

    Parameters
    ----------
    sources : array_like
        PSF images, shape (..., k, k), for example (n, band, k, k). Equal images
        share the work.
    targets : array_like
        PSF images whose leading axes broadcast with those of ``sources``.
    window : callable, optional
        As for `matching_kernel`.
    regularization : float, optional
        As for `matching_kernel`.

    Returns
    -------
    kernels : `~numpy.ndarray`
        Shape (..., m, m), padded with zeros to the largest; a single pixel, which
        changes nothing, where no kernel exists.
    matched : `~numpy.ndarray` of bool
        Shape (...): False where the PSF is broader than its target or is not usable.
    """
    sources, targets = np.asarray(sources, float), np.asarray(targets, float)
    shape = np.broadcast_shapes(sources.shape[:-2], targets.shape[:-2])
    sources = np.broadcast_to(sources, shape + sources.shape[-2:])
    targets = np.broadcast_to(targets, shape + targets.shape[-2:])
    known, kernels = {}, np.empty(shape, dtype=object)
    matched = np.zeros(shape, dtype=bool)
    for index in np.ndindex(shape):
        key = sources[index].tobytes(), targets[index].tobytes()
        if key not in known:
            try:
                known[key] = matching_kernel(
                    sources[index],
                    targets[index],
                    window=window,
                    regularization=regularization,
                )
            except InputError:
                known[key] = None
        matched[index] = known[key] is not None
        kernels[index] = known[key] if matched[index] else np.ones((1, 1))
    side = max((kernel.shape[0] for kernel in kernels.flat), default=1)
    padded = [np.pad(kernel, (side - kernel.shape[0]) // 2) for kernel in kernels.flat]
    return np.reshape(padded, (*shape, side, side)), matched


def margin(kernels):
    """Compute how many pixels an image needs around the part that is wanted.

    Parameters
    ----------
    kernels : `~numpy.ndarray`
        Shape (..., k, k).

    Returns
    -------
    int
        (k − 1) / 2.
    """
    return kernels.shape[-1] // 2


def match(values, kernels, *, variance=None, mask=None):
    """Convolve a stack of images, each with its kernel.

    Pixels that are masked or not finite are left out, and each sum is divided by the
    kernel's weight on the pixels that are left: an estimate from the neighbors, as
    `astropy.convolution.convolve_fft` makes it. The variance is carried along with
    the square of these weights; that neighboring pixels are correlated afterwards is
    not in it.

    Parameters
    ----------
    values : array_like
        Shape (n, band, ny, nx), in floats, including `margin` pixels on each side
        beyond the part that is wanted; mask what lies outside the image.
    kernels : array_like
        Shape (n, band, k, k) or one that broadcasts to it, with odd k.
    variance : array_like, optional
        Shape of ``values``.
    mask : array_like of bool, optional
        Shape of ``values``; True where there is no usable value.

    Returns
    -------
    values, variance, mask : `~numpy.ndarray`
        Shape (n, band, ny − k + 1, nx − k + 1). NaN and masked where less than half
        of the kernel's weight lies on usable pixels. ``variance`` is None where none
        was given.

    Raises
    ------
    galml.core.InputError
        When the images are smaller than the kernels, or the kernels' side is even.
    """
    values = _native(values)
    kernels = _native(kernels).astype(values.dtype, copy=False)
    _check(values, kernels)
    kernels = kernels[(None,) * (4 - kernels.ndim)]
    unusable = _unusable(values, variance, mask)
    if variance is not None:
        variance = _native(variance).astype(values.dtype, copy=False)
        variance = _convolve(_filled(variance, unusable), kernels**2)
        # Rounding of the transform can leave a trace below zero.
        np.maximum(variance, 0.0, out=variance)
    values = _convolve(_filled(values, unusable), kernels)
    gaps = np.zeros(values.shape, bool)
    if unusable is None:
        return values, variance, gaps
    rows = unusable.any(axis=(1, 2, 3))
    own = kernels if len(kernels) == 1 else kernels[rows]
    weight = _convolve((~unusable[rows]).astype(values.dtype), own)
    gaps[rows] = weight < COVERED
    weight[gaps[rows]] = np.nan
    values[rows] /= weight
    if variance is not None:
        variance[rows] /= weight**2
    return values, variance, gaps


@dataclass
class LocalPSF:
    """PSFs at the places of some cutouts, and the kernels that match them.

    Attributes
    ----------
    kernels : `~numpy.ndarray` or None
        Shape (n or 1, k, k); None where nothing is to be convolved.
    matched : `~numpy.ndarray` of bool
        Shape (n,): False where there is no kernel.
    images : `~numpy.ndarray`
        Shape (n, side, side): what the PSF becomes, on the pixels of the cutouts.
    fwhm : `~numpy.ndarray`
        Shape (n,): its full width at half maximum in arcsec.
    """

    kernels: np.ndarray | None
    matched: np.ndarray
    images: np.ndarray
    fwhm: np.ndarray

    def __getitem__(self, part):
        kernels = self.kernels
        if kernels is not None and len(kernels) > 1:
            kernels = kernels[part]
        others = self.matched[part], self.images[part], self.fwhm[part]
        return LocalPSF(kernels, *others)


@dataclass
class PSFPlan:
    """What is known about the PSF of one image.

    Attributes
    ----------
    psf : object
        As given; None where it is unknown.
    scale : `~astropy.units.Quantity`
        Pixel scale of the image.
    varies : bool
        Whether it depends on position.
    image : `~numpy.ndarray` or None
        PSF on the pixels of the image, in its center.
    target : `~numpy.ndarray` or None
        PSF wanted, on the same pixels.
    kernel : `~numpy.ndarray` or None
        From the one to the other where the PSF does not vary.
    fwhm : float
        Of what comes out where the PSF does not vary, in arcsec; else NaN.
    side : int
        Of the PSF images of the stack; 0 for none.
    """

    psf: object
    scale: u.Quantity
    varies: bool = False
    image: np.ndarray | None = None
    target: np.ndarray | None = None
    kernel: np.ndarray | None = None
    fwhm: float = math.nan
    side: int = 0

    def at(self, sky, center, jacobian):
        """Work out the PSFs and kernels of some cutouts.

        Parameters
        ----------
        sky : `~astropy.coordinates.SkyCoord`
            Shape (n,): where they are.
        center : `~numpy.ndarray`
            Shape (n, 2): the same in pixels (x, y).
        jacobian : `~numpy.ndarray`
            Shape (n, 2, 2): how a step of one output pixel goes on the image.

        Returns
        -------
        LocalPSF
        """
        count = len(center)
        matched, fwhm = np.ones(count, bool), np.full(count, np.nan)
        images = np.full((count, self.side, self.side), np.nan)
        if self.image is None or not count:
            return LocalPSF(None, matched, images, fwhm)
        kernels = None if self.kernel is None else self.kernel[None]
        local = self.image[None] if self.target is None else self.target[None]
        fwhm[:] = self.fwhm
        if self.varies:
            sources = np.stack(
                [self._sample(*place) for place in zip(center, sky, strict=True)]
            )
            if self.target is None:
                local = sources
                fwhm = np.array([fwhm_of(s) for s in sources]) * self.scale.value
            else:
                kernels, matched = matching_kernels(sources, self.target)
        images[:] = _resample_psfs(local, jacobian, self.side)
        images[~matched], fwhm[~matched] = np.nan, np.nan
        if kernels is not None and kernels.shape[-1] == 1:
            kernels = None
        return LocalPSF(kernels, matched, images, fwhm)

    def _sample(self, center, sky):
        """Sample the PSF at one place."""
        place = tuple(float(v) for v in center)
        return to_psf_image(self.psf, self.scale, place, len(self.image), sky=sky)


def plan_psfs(bands, target_psf, scales):
    """Prepare the PSFs of all images.

    Parameters
    ----------
    bands : list of `~galml.cutouts.images.Band`
        The images.
    target_psf : `~astropy.units.Quantity`, tuple or None
        FWHM as an angle, or ``(array, pixel scale)``.
    scales : `~numpy.ndarray`
        Pixel scales of the cutouts in arcsec.

    Returns
    -------
    list of list of PSFPlan
        For each image of each band.

    Raises
    ------
    galml.core.InputError
        For an image without PSF where there is a target, for a PSF broader than it,
        and for a HEALPix map, which cannot be convolved.
    galml.core.InputTypeError
        For another kind of target.
    """
    if target_psf is not None and not isinstance(target_psf, u.Quantity | tuple):
        raise InputTypeError(
            "target_psf",
            f"an object of type {type(target_psf).__name__}",
            "a FWHM as an angle, or (array, pixel scale)",
        )
    known = {}
    plans = [
        [_plan(tile, band.is_healpix, target_psf, known) for tile in band.tiles]
        for band in bands
    ]
    flat = [plan for one in plans for plan in one if plan.image is not None]
    reach = [
        len(plan.image if plan.target is None else plan.target) * plan.scale.value
        for plan in flat
    ]
    sizes = scales[np.isfinite(scales)]
    if reach and len(sizes):
        half = math.ceil(max(reach) / np.median(sizes) / 2.0)
        for one in plans:
            for plan in one:
                plan.side = min(2 * half + 1, _LARGEST)
    return plans


def _plan(tile, healpix, target_psf, known):
    """Prepare the PSF of one image, once for all that are alike."""
    plan = PSFPlan(tile.psf, native_scale(tile))
    if tile.psf is None:
        if target_psf is not None:
            raise InputError("psf", f"none of band {tile.band!r}", "one to be matched")
        return plan
    if healpix and target_psf is not None:
        raise InputError(
            "target_psf", f"one, with the HEALPix map {tile.band!r}", "None"
        )
    model = hasattr(tile.psf, "param_names")
    plan.varies = hasattr(tile.psf, "grid_xypos") if model else callable(tile.psf)
    if healpix and plan.varies:
        raise InputError("psf", f"one that varies, of {tile.band!r}", "a fixed one")
    # Equal to a millionth is equal: tiles of a survey differ by their distortion.
    key = id(tile.psf), f"{plan.scale.value:.6g}"
    if not plan.varies and key in known:
        return known[key]
    center = sky = None
    if plan.varies:
        ny, nx = tile.shape
        center = (nx - 1) / 2.0, (ny - 1) / 2.0
        sky = tile.wcs.pixel_to_world(*center)
    plan.image = to_psf_image(tile.psf, plan.scale, center, sky=sky)
    result = plan.image
    if target_psf is not None:
        result = plan.target = to_psf_image(target_psf, plan.scale)
        if not plan.varies:
            plan.kernel = matching_kernel(plan.image, plan.target)
    if not plan.varies or target_psf is not None:
        plan.fwhm = fwhm_of(result) * plan.scale.value
    return known.setdefault(key, plan)


def _resample_psfs(images, jacobian, side):
    """Resample PSF images onto the pixels of cutouts, averaging over these."""
    # The same to a thousandth of a pixel per pixel is the same.
    jacobian = np.round(jacobian, 3)
    which = np.arange(len(jacobian))
    if len(images) == 1:
        jacobian, which = np.unique(jacobian, axis=0, return_inverse=True)
    edges = np.arange(side + 1) - side / 2.0
    steps = np.stack(np.meshgrid(edges, edges))
    corners = np.einsum("nij,jyx->niyx", jacobian, steps)
    size = images.shape[-1]
    half = max(math.ceil(np.abs(corners).max()) + 2, size // 2)
    padded = np.pad(images, ((0, 0),) + ((half - size // 2,) * 2,) * 2)
    x, y = np.moveaxis(corners + half, 1, 0)
    window = np.arange(len(corners)) % len(images)
    weights = weights_exact(x, y, padded.shape[-1], window=window)
    stack = padded, None, None
    (made,) = resample([stack], weights, len(x) * side**2)
    made = made.values.reshape(-1, side, side)
    return (made / made.sum(axis=(1, 2), keepdims=True))[which]


def _unusable(values, variance, mask):
    """Find the pixels that must not count; None where all may."""
    unusable = None if mask is None else np.asarray(mask, bool)
    for array in (values, variance):
        # A sum is the fastest way to see that all are finite.
        if array is not None and not np.isfinite(np.sum(array)):
            bad = ~np.isfinite(array)
            unusable = bad if unusable is None else unusable | bad
    return unusable if unusable is not None and unusable.any() else None


def _filled(values, unusable):
    """Replace pixels that must not count by zeros."""
    return values if unusable is None else np.where(unusable, 0.0, values)


def _native(array):
    """Take an array in native byte order."""
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check(values, kernels):
    """Check what no message of torch would explain."""
    if values.dtype.kind != "f" or values.ndim != 4:
        raise InputError(
            "values",
            f"shape {tuple(values.shape)} of {values.dtype}",
            "floats of shape (n, band, ny, nx)",
        )
    side = kernels.shape[-1]
    if not 2 <= kernels.ndim <= 4 or kernels.shape[-2] != side or side % 2 == 0:
        raise InputError("kernels", f"shape {tuple(kernels.shape)}", "odd squares")
    if side > min(values.shape[-2:]):
        raise InputError(
            "values",
            f"images of {tuple(values.shape[-2:])} pixels",
            f"at least the {side} pixels of the kernels",
        )


def _convolve(values, kernels):
    """Convolve where the kernel lies inside the image."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    side = kernels.shape[-1]
    shape = tuple(next_fast_len(n, real=True) for n in values.shape[-2:])
    transform = rfft2(values, s=shape)
    if kernels.size == side**2:
        transform *= _transform(kernels.tobytes(), kernels.dtype, side, shape)
    else:
        transform *= rfft2(kernels, s=shape)
    result = irfft2(transform, s=shape, overwrite_x=True)
    # What wraps around falls on the pixels that are cut off.
    ny, nx = values.shape[-2:]
    return result[..., side - 1 : ny, side - 1 : nx]


@lru_cache(8)
def _transform(kernel, dtype, side, shape):
    """Transform one kernel, which many stacks share, given by its bytes."""
    from scipy.fft import rfft2

    return rfft2(np.frombuffer(kernel, dtype).reshape(side, side), s=shape)


def _same_size(source, target):
    """Pad both PSF images, of sum 1, to the larger of their sides."""
    images = [np.asarray(image, dtype=float) for image in (source, target)]
    for argument, image in zip(("psf", "target_psf"), images, strict=True):
        if (
            image.ndim != 2
            or image.shape[0] != image.shape[1]
            or image.shape[0] % 2 == 0
        ):
            raise InputError(argument, f"shape {image.shape}", "an odd square")
        if not (np.isfinite(image).all() and image.sum() > 0):
            raise InputError(argument, "values without sum", "finite light above zero")
    side = max(image.shape[0] for image in images)
    return [
        np.pad(image / image.sum(), (side - image.shape[0]) // 2) for image in images
    ]


def _crop(kernel):
    """Cut off the border that holds next to nothing."""
    center = kernel.shape[0] // 2
    offset = np.abs(np.arange(kernel.shape[0]) - center)
    ring = np.maximum(offset[:, None], offset)
    share = np.bincount(ring.ravel(), np.abs(kernel).ravel())
    outside = share[::-1].cumsum()[::-1] / share.sum()
    half = max(int((outside > BORDER).sum()) - 1, 0)
    part = slice(center - half, center + half + 1)
    kernel = kernel[part, part]
    return kernel / kernel.sum()
