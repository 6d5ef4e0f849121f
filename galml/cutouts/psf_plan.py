# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The PSF of each cutout, and the kernel that brings it to the target."""

import math
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError, InputTypeError
from galml.cutouts.matching import matching_kernel, matching_kernels
from galml.cutouts.psf import fwhm_of, to_psf_image
from galml.cutouts.resampling import resample, weights_exact
from galml.cutouts.targets import native_scale

__all__ = ["PSFPlan", "join_psfs", "plan_psfs"]

# Largest side of the PSF images of a stack.
_LARGEST = 65


@dataclass
class PSFPlan:
    """What is known about the PSF of one band.

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

    def empty(self, count):
        """Make room for the PSF images and widths of so many cutouts."""
        return np.full((count, self.side, self.side), np.nan), np.full(count, np.nan)

    def kernels(self, store, rows, sky, center, jacobian):
        """Give the kernels of some cutouts, and keep what their PSF becomes.

        Parameters
        ----------
        store : tuple of `~numpy.ndarray`
            From `empty`.
        rows : `~numpy.ndarray` of int
            Which of them.
        sky : `~astropy.coordinates.SkyCoord`
            Where they are.
        center : `~numpy.ndarray`
            Shape (n, 2): the same in pixels (x, y).
        jacobian : `~numpy.ndarray`
            Shape (n, 2, 2): how a step of one output pixel goes on the image.

        Returns
        -------
        kernels : `~numpy.ndarray` or None
            Shape (n or 1, k, k); None where nothing is to be convolved.
        matched : `~numpy.ndarray` of bool
            Shape (n,): False where there is no kernel.
        """
        images, widths = store
        matched = np.ones(len(rows), bool)
        if self.image is None or not len(rows):
            return None, matched
        kernels = None if self.kernel is None else self.kernel[None]
        local = self.image[None] if self.target is None else self.target[None]
        widths[rows] = self.fwhm
        if self.varies:
            sources = np.stack(
                [
                    self._at(position, at)
                    for position, at in zip(center, sky, strict=True)
                ]
            )
            if self.target is None:
                local = sources
                widths[rows] = [fwhm_of(s) * self.scale.value for s in sources]
            else:
                kernels, matched = matching_kernels(sources, self.target)
        images[rows] = _turned(local, jacobian, self.side)
        images[rows[~matched]] = np.nan
        widths[rows[~matched]] = np.nan
        if kernels is not None and kernels.shape[-1] == 1:
            kernels = None
        return kernels, matched

    def _at(self, position, sky):
        """Sample the PSF at one place."""
        place = tuple(float(v) for v in position)
        return to_psf_image(self.psf, self.scale, place, len(self.image), sky=sky)


def plan_psfs(bands, target_psf, scales):
    """Prepare the PSF of all bands.

    Parameters
    ----------
    bands : list of `~galml.cutouts.images.BandImage`
        The images.
    target_psf : `~astropy.units.Quantity`, tuple or None
        FWHM as an angle, or ``(array, pixel scale)``.
    scales : `~numpy.ndarray`
        Pixel scales of the cutouts in arcsec.

    Returns
    -------
    list of PSFPlan

    Raises
    ------
    galml.core.InputError
        For a band without PSF where there is a target, and for a PSF broader than it.
    galml.core.InputTypeError
        For another kind of target.
    """
    if target_psf is not None and not isinstance(target_psf, u.Quantity | tuple):
        raise InputTypeError(
            "target_psf",
            f"an object of type {type(target_psf).__name__}",
            "a FWHM as an angle, or (array, pixel scale)",
        )
    plans = [_plan(band, target_psf) for band in bands]
    known = scales[np.isfinite(scales)]
    results = [p.image if p.target is None else p.target for p in plans]
    reach = [
        len(result) * plan.scale.value
        for plan, result in zip(plans, results, strict=True)
        if result is not None
    ]
    if reach and len(known):
        half = math.ceil(max(reach) / np.median(known) / 2.0)
        for plan in plans:
            plan.side = min(2 * half + 1, _LARGEST)
    return plans


def join_psfs(stores):
    """Put the PSFs of all bands together, as `CutoutStack` takes them."""
    images = np.stack([store[0] for store in stores], axis=1)
    widths = np.stack([store[1] for store in stores], axis=1)
    if images.shape[-1] == 0:
        return None, None
    return images.astype(np.float32), widths * u.arcsec


def _plan(band, target_psf):
    """Prepare the PSF of one band."""
    plan = PSFPlan(band.psf, native_scale(band))
    if band.psf is None:
        if target_psf is not None:
            raise InputError("psf", f"none of band {band.band!r}", "one to be matched")
        return plan
    model = hasattr(band.psf, "param_names")
    plan.varies = hasattr(band.psf, "grid_xypos") if model else callable(band.psf)
    ny, nx = band.shape
    center = (nx - 1) / 2.0, (ny - 1) / 2.0
    sky = band.wcs.pixel_to_world(*center) if plan.varies else None
    plan.image = to_psf_image(band.psf, plan.scale, center, sky=sky)
    result = plan.image
    if target_psf is not None:
        result = plan.target = to_psf_image(target_psf, plan.scale)
        if not plan.varies:
            plan.kernel = matching_kernel(plan.image, plan.target)
    if not plan.varies or target_psf is not None:
        plan.fwhm = fwhm_of(result) * plan.scale.value
    return plan


def _turned(images, jacobian, side):
    """Give PSF images on the pixels of cutouts, averaged over these."""
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
    made = []
    for k, corner in enumerate(corners + half):
        weights = list(weights_exact(*corner[:, None], padded.shape[-1]))
        image = torch.from_numpy(padded[k % len(padded)])[None]
        made.append(resample(image, None, None, weights, per_pixel=False)[0])
    made = torch.stack(made).reshape(-1, side, side).numpy()
    return (made / made.sum(axis=(1, 2), keepdims=True))[which]
