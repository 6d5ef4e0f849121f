# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Point-spread functions of any description, as images on a grid of pixels."""

import inspect
import math
from numbers import Real

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = ["fwhm_of", "in_pixels", "to_psf_image"]

SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
EXPECTED = (
    "an array, (array, pixel scale), FWHM Quantity, photutils PSF model, or function "
    "of (x, y) or of a SkyCoord"
)
#: Widest FWHM of a Gaussian, in pixels, that is drawn.
WIDEST = 256
#: Half the side of a Gaussian's image, in FWHM: 1e-8 of the light is left out.
REACH = 2.5
#: Shifts smaller than this, in pixels, are not worth an interpolation.
CENTERD = 1e-3
N_ANGLES = 64


def to_psf_image(psf, pixel_scale=None, position=None, size=None, *, sky=None):
    """Sample a PSF on the pixels of an image.

    The image says how a point source looks there, its pixels included: profiles and
    models are sampled at the centers of the pixels.

    Parameters
    ----------
    psf : object
        - array of shape (ny, nx): already on the pixels of the image;
        - tuple ``(array, scale)``: an image of a star with its own pixel scale. Where
          its pixels are the finer ones, it is averaged over the difference between
          the two squares, so that it keeps its light and gets the width of the
          coarser pixels;
        - scalar `~astropy.units.Quantity`: FWHM of a Gaussian, an angle or pixels;
        - photutils PSF model, such as `~photutils.psf.ImagePSF`,
          `~photutils.psf.GriddedPSFModel` or `~photutils.psf.MoffatPSF`, in the
          pixels of the image;
        - function of the pixel coordinates ``(x, y)``, or of one SkyCoord, that
          returns any of these.
    pixel_scale : `~astropy.units.Quantity`, optional
        Of the image, in angle (per pixel). Needed where ``psf`` holds an angle.
    position : tuple of float, optional
        Pixel ``(x, y)``, counted from 0; needed by `~photutils.psf.GriddedPSFModel`
        and functions of two arguments.
    size : int, optional
        Odd side of the image in pixels; by default as much as ``psf`` has.
    sky : `~astropy.coordinates.SkyCoord`, optional
        Needed by functions of one argument.

    Returns
    -------
    `~numpy.ndarray`
        Shape (size, size) in float64; sum 1 and centroid on the central pixel.

    Raises
    ------
    galml.core.InputTypeError
        When ``psf`` is none of these.
    galml.core.InputUnitError
        When a unit is neither an angle nor pixels, or the pixel scale is missing.
    galml.core.InputError
        When the PSF has no finite positive light, the position that it needs is
        missing, or ``size`` is not odd.
    """
    if size is not None and (size != int(size) or size < 1 or size % 2 == 0):
        raise InputError("size", f"{size}", "an odd number of pixels")
    if callable(psf) and not hasattr(psf, "param_names"):
        psf = _call(psf, position, sky)
    if isinstance(psf, u.Quantity) and psf.isscalar:
        image = _gaussian(in_pixels(psf, pixel_scale, "psf"), size)
    elif hasattr(psf, "param_names"):
        image = _sample_model(psf, position, size)
    elif isinstance(psf, tuple) and len(psf) == 2 and np.ndim(psf[0]) == 2:
        image = _sample_array(psf[0], in_pixels(psf[1], pixel_scale, "psf"), size)
    elif np.ndim(psf) == 2 and not isinstance(psf, tuple | list):
        image = _sample_array(psf, 1.0, size)
    else:
        raise InputTypeError("psf", f"an object of type {type(psf).__name__}", EXPECTED)
    total = image.sum()
    if not (np.isfinite(total) and total > 0):
        raise InputError(
            "psf", f"an image of sum {total:.3g}", "finite values with a positive sum"
        )
    return image / total


def fwhm_of(image):
    """Measure the full width at half maximum of a PSF image.

    It is the diameter of the circle that has the area inside the contour at half of
    the interpolated peak: for an elliptical PSF the geometric mean of both axes. No
    profile is assumed; what happens outside the contour does not matter.

    Parameters
    ----------
    image : array_like
        Shape (ny, nx), with the peak inside.

    Returns
    -------
    float
        In pixels.

    Raises
    ------
    galml.core.InputError
        When the image is not finite, or is not below half of its peak all around.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    image = np.asarray(image, dtype=float)
    if image.ndim != 2 or not np.isfinite(image).all():
        raise InputError("image", f"shape {image.shape}", "a finite 2-D image")
    # A border of zeros lets the contour close where the image is one pixel wide.
    coefficients = spline_filter(np.pad(image, 6), order=5)

    def value(y, x):
        return map_coordinates(coefficients, [y, x], order=5, prefilter=False)

    y, x = (float(i) for i in np.unravel_index(np.argmax(image), image.shape))
    y, x = y + 6.0, x + 6.0
    for step in (0.25, 0.05, 0.01):
        dy, dx = np.mgrid[-3:4, -3:4] * step
        best = np.argmax(value(y + dy, x + dx))
        y, x = y + dy.flat[best], x + dx.flat[best]
    half = value([y], [x])[0] / 2.0
    if not half > 0:
        raise InputError("image", "no positive peak", "the image of a PSF")
    reach = 3.0 * math.sqrt((image > half).sum() / math.pi) + 2.0
    radius = np.linspace(0.0, reach, 128)[:, None]
    angle = np.arange(N_ANGLES) * (2.0 * np.pi / N_ANGLES)
    profile = value(y + radius * np.sin(angle), x + radius * np.cos(angle)) - half
    below = np.argmax(profile < 0.0, axis=0)
    if (below == 0).any():
        raise InputError("image", "no half-maximum contour", "the image of a PSF")
    columns = np.arange(N_ANGLES)
    inner, outer = profile[below - 1, columns], profile[below, columns]
    crossing = radius[1, 0] * (below - 1 + inner / (inner - outer))
    return 2.0 * math.sqrt((crossing**2).mean())


def _call(function, position, sky):
    """Call a function for the PSF at one place."""
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind <= 1]
    if len(needed) == 1:
        place, argument, expected = (sky,), "sky", "the SkyCoord where it is wanted"
    else:
        place, argument = position or (None,), "position"
        expected = "the pixel (x, y) where it is wanted"
    if place[0] is None:
        raise InputError(argument, "None with a PSF that varies", expected)
    result = function(*place)
    if callable(result) and not hasattr(result, "param_names"):
        raise InputTypeError("psf", "a function that returns a function", EXPECTED)
    return result


def in_pixels(width, pixel_scale, argument, most=math.inf):
    """Convert a width to pixels of the image, of which it has less than ``most``."""
    if isinstance(width, Real) or not hasattr(width, "unit"):
        raise InputUnitError(argument, "a width without unit", "an angle or pixels")
    if width.unit.is_equivalent(u.pix):
        value = width.to_value(u.pix)
    else:
        width = _angle(width, argument)
        if pixel_scale is None:
            raise InputUnitError(
                argument, "an angle without pixel scale", "pixel_scale or pixels"
            )
        value = (width / _angle(pixel_scale, "pixel_scale")).to_value("")
    if not (np.ndim(value) == 0 and 0 < value < most):
        expected = f"one width above zero and below {most} pixels"
        raise InputError(argument, f"a width of {width}", expected)
    return float(value)


def _angle(width, argument):
    """Accept an angle and an angle per pixel."""
    if isinstance(width, u.Quantity):
        for unit in (u.arcsec, u.arcsec / u.pix):
            if width.unit.is_equivalent(unit):
                return width.to_value(unit) * u.arcsec
    raise InputUnitError(argument, f"{width}", "an angle, or an angle per pixel")


def _offsets(size):
    """Compute offsets from the central pixel: y as a column, x as a row."""
    offset = np.arange(size) - size // 2.0
    return offset[:, None], offset[None, :]


def _odd(width):
    """Compute the largest odd side that fits into a width."""
    return max(2 * math.floor((width - 1) / 2 + 1e-9) + 1, 1)


def _gaussian(fwhm, size):
    if fwhm > WIDEST:
        got = f"a FWHM of {fwhm:.4g} pixels"
        raise InputError("psf", got, f"at most {WIDEST}: is its unit right?")
    size = size or 2 * math.ceil(REACH * fwhm) + 1
    y, x = _offsets(size)
    return np.exp(-0.5 * (x**2 + y**2) / (SIGMA * fwhm) ** 2)


def _sample_model(model, position, size):
    """Sample a photutils model around its own center."""
    parameters = dict(zip(model.param_names, model.parameters, strict=True))
    if not {"x_0", "y_0"} <= set(parameters):
        raise InputTypeError(
            "psf",
            f"a model {type(model).__name__} without x_0 and y_0",
            "a photutils PSF model",
        )
    if hasattr(model, "grid_xypos") and position is None:
        raise InputError("position", "None with a PSF that varies", "the pixel (x, y)")
    x_0, y_0 = position or (parameters["x_0"], parameters["y_0"])
    if size is None:
        box = model.bounding_box
        size = _odd(min(float(i.upper - i.lower) for i in box.intervals.values()))
    y, x = np.broadcast_arrays(*_offsets(size))
    image = model.evaluate(x + x_0, y + y_0, **parameters | {"x_0": x_0, "y_0": y_0})
    return _sample_array(image, 1.0, size)


def _sample_array(image, scale, size):
    """Resample the image of a star, pixels ``scale`` wide, onto pixels of width 1."""
    from scipy.ndimage import map_coordinates, spline_filter

    image = np.asarray(image, dtype=float)
    if not (np.isfinite(image).all() and image.sum() > 0):
        raise InputError(
            "psf", "an image without finite light", "finite values, positive sum"
        )
    center = _centroid(image)
    own = _odd(min(image.shape) * scale)
    size = size or own
    shift = np.abs(np.subtract(center, (np.array(image.shape) - 1) / 2.0)).max()
    if scale == 1.0 and shift < CENTERD and image.shape[0] % 2 and image.shape[1] % 2:
        return _fit_to(image, size)
    # Squares of both widths differ by a square with the difference of the variances.
    square = math.sqrt(max(1.0 - scale**2, 0.0))
    n = math.ceil(2.0 * square / scale) or 1
    inside = ((np.arange(n) + 0.5) / n - 0.5) * square
    y, x = (np.add.outer(axis.ravel(), inside).ravel() for axis in _offsets(size))
    points = np.meshgrid(y / scale + center[0], x / scale + center[1], indexing="ij")
    coefficients = spline_filter(np.pad(image, 6), order=5)
    fine = map_coordinates(coefficients, np.add(points, 6.0), order=5, prefilter=False)
    return fine.reshape(size, n, size, n).mean(axis=(1, 3))


def _fit_to(image, size):
    """Cut or pad an image with odd sides around its central pixel."""
    half = size // 2
    padded = np.pad(image, half)
    y, x = (side // 2 + half for side in image.shape)
    return padded[y - half : y + half + 1, x - half : x + half + 1]


def _centroid(image):
    """Find the center (y, x) under a Gaussian weight that follows it.

    The weight keeps noise and neighbors in the wings from pulling the center.
    """
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    center = [float(i) for i in np.unravel_index(np.argmax(image), image.shape)]
    sigma = max(2.0 * SIGMA * math.sqrt((image > image.max() / 2).sum()), 1.0)
    for _ in range(100):
        square = (y - center[0]) ** 2 + (x - center[1]) ** 2
        weighted = image * np.exp(-0.5 * square / sigma**2)
        total = weighted.sum()
        # Under a weight as wide as the star, the mean moves half of the way.
        step = [
            2.0 * (weighted * (a - c)).sum() / total
            for a, c in zip((y, x), center, strict=True)
        ]
        center = [c + s for c, s in zip(center, step, strict=True)]
        if max(abs(s) for s in step) < 1e-6:
            break
    return center
