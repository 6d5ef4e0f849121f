# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Center, size and shape of the galaxy in the center of an image."""

import math
from numbers import Real

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.cutouts.psf import SIGMA, in_pixels

__all__ = ["measure", "psf_fwhm_in_pixels"]

#: Surface brightness over its mean inside, which defines the Petrosian radius, and
#: the Petrosian radii of the aperture that counts as the whole (Petrosian flux of
#: SDSS).
ETA, APERTURE = 0.2, 2.0
#: Steps of the profile and of the pixels near the center, in pixels.
STEP, FINE, NEAR = 0.5, 5, 7
#: Signal over noise inside the half-light ellipse below which nothing is measured.
MIN_SNR = 5.0
MIN_PIXELS = 25
ITERATIONS = 20
#: Sérsic indices, and r90 / r50 inside two Petrosian radii that they have. Higher
#: ones are more often noise than galaxies.
SERSIC_INDEX = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
CONCENTRATION = (1.823, 2.292, 2.905, 3.230, 3.425, 3.556)
#: Typical concentration, and the S/N below which it is a better guess than r90 / r50.
TYPICAL, CONCENTRATION_SNR = 2.8, 30.0
#: Models drawn to correct for the PSF, and its least sigma: that of a square pixel.
CORRECTIONS = 3
MIN_SIGMA = 0.3
#: Least share of the aperture that has to be on the image.
MIN_COVERED = 0.8
#: Half-light radius in FWHM of the PSF below which a source is not resolved: that of
#: a Gaussian is 0.5, that of a Moffat profile with the wings of the air 0.63.
POINT = 0.66
#: FWHM in pixels that no PSF has.
WIDEST = 10_000
#: Least axis ratio that can be measured on pixels.
MIN_RATIO = 0.05


def measure(values, *, std=None, mask=None, pixel_scale=None, psf_fwhm=None):
    """Measure the galaxy at the center of a sky-subtracted image.

    The curve of growth of concentric ellipses gives the Petrosian radius (η = 0.2,
    annuli from 0.9 to 1.1 radii) and the radii with 50 and 90 per cent of the light
    in two Petrosian radii; the light farther out is added from their ratio (Graham et
    al. 2005, AJ 130, 1535). The ellipse is that of the second moments under an
    elliptical Gaussian weight of its own shape, about as large as half of the light.
    Masked pixels, and neighbors, found as light without a counterpart on the other
    side of the center, take the mean of their ellipse.

    Where the PSF is known, radius and ellipticity are those of the Sérsic profile
    that, seen through it on the same pixels, gives the same measurements. Where it is
    not, they are those of the image as it is. Below a signal to noise of some hundred
    the light that is missed is a guess: a de Vaucouleurs profile has 15 per cent
    scatter in radius at 100 and is found too small by a quarter at 30.

    Parameters
    ----------
    values : array_like
        Shape (ny, nx), sky-subtracted. Non-finite pixels are masked.
    std : array_like, optional
        Standard deviation, shape of ``values``; measured on the image by default.
    mask : array_like of bool, optional
        Shape of ``values``; True where there is no usable value.
    pixel_scale : `~astropy.units.Quantity`, optional
        Angle per pixel; needed when ``psf_fwhm`` is an angle.
    psf_fwhm : float or `~astropy.units.Quantity`, optional
        FWHM of the PSF, in pixels when it has no unit.

    Returns
    -------
    dict
        ``x``, ``y`` (center in pixels, counted from 0), ``flux``, ``flux_err`` (in two
        Petrosian radii, unit of ``values``), ``r_eff``, ``r_petro`` (semi-major
        half-light and Petrosian radius, pixels), ``ellipticity`` (1 − b/a),
        ``position_angle`` (degrees counter-clockwise from +y, in [0, 180)), ``snr``
        (inside the half-light ellipse), all float and NaN where there is nothing to
        measure; ``flags`` (int, bits of `galml.core.Flag`: ``LOW_SNR``, ``FEW_PIXELS``,
        ``TRUNCATED``, ``PA_UNDETERMINED``, ``POINT_SOURCE`` where the PSF is known,
        ``FAILED``).

    Raises
    ------
    galml.core.InputError
        When a shape or the FWHM is wrong; never for what the pixels say.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise InputError("values", f"shape {values.shape}", "a 2-D image")
    usable = np.isfinite(values)
    for argument, array in (("mask", mask), ("std", std)):
        if array is not None and np.shape(array) != values.shape:
            raise InputError(argument, f"shape {np.shape(array)}", f"{values.shape}")
    if mask is not None:
        usable &= ~np.asarray(mask, dtype=bool)
    width = psf_fwhm_in_pixels(psf_fwhm, pixel_scale)
    exponent = exponent_of(values)
    values = np.ldexp(values, -exponent)
    std = None if std is None else np.ldexp(np.asarray(std, float), -exponent)
    if usable.sum() < MIN_PIXELS:
        return _no_result(Flag.FEW_PIXELS | Flag.FAILED)
    with np.errstate(all="ignore"):
        noise = _noise(values, usable) if std is None else _typical(std, usable)
        center = _peak(values, usable)
        known = usable.copy()
        usable &= ~_neighbors(values, usable, center, noise)
        if usable.sum() < MIN_PIXELS:
            return _no_result(Flag.FEW_PIXELS | Flag.FAILED)
        galaxy = _Galaxy(values, usable, center)
        if not galaxy.converge():
            return _no_result(Flag.LOW_SNR | Flag.FAILED)
        return scaled(galaxy.result(noise, width, known), exponent)


def exponent_of(values):
    """Give the exponent of two above all values, to be taken off before they are added.

    Without it, sums of huge or tiny values overflow; results are the same, bit by bit.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Any numbers.

    Returns
    -------
    int
        0 where none is finite.
    """
    largest = np.abs(values).max(initial=0.0, where=np.isfinite(values))
    return int(np.frexp(largest)[1])


def scaled(result, exponent):
    """Multiply the fluxes of a result by a power of two.

    Parameters
    ----------
    result : dict
        As `measure` gives it.
    exponent : int
        The power.

    Returns
    -------
    dict
        A copy.
    """
    names = ("flux", "flux_err")
    with np.errstate(over="ignore"):
        fluxes = {name: float(np.ldexp(result[name], exponent)) for name in names}
    return result | fluxes


class _Galaxy:
    """Ellipses around the center of one image, improved step by step."""

    def __init__(self, values, usable, center):
        self.values, self.usable, self.center = values, usable, center
        self.ratio, self.angle = 1.0, 0.0
        self.y, self.x = np.indices(values.shape, dtype=float)
        self.sample_light()

    def sample_light(self):
        """List the usable light: pixels near the center in parts, the others whole."""
        near = np.hypot(self.y - self.center[0], self.x - self.center[1]) < NEAR
        near, far = near & self.usable, ~near & self.usable
        part = (np.arange(FINE) + 0.5) / FINE - 0.5
        parts = [offset.ravel() for offset in np.meshgrid(part, part)]
        self.places = [
            np.concatenate([np.add.outer(axis[near], offset).ravel(), axis[far]])
            for axis, offset in zip((self.y, self.x), parts, strict=True)
        ]
        repeats = np.repeat([FINE**2, 1], [near.sum(), far.sum()])
        self.area = 1.0 / repeats.repeat(repeats)
        light = np.concatenate([self.values[near], self.values[far]])
        self.light = self.area * light.repeat(repeats)

    def converge(self):
        """Iterate center and shape to convergence; False where there is no light."""
        for _ in range(ITERATIONS):
            self.measure_profile()
            if not self.r50 > 0:
                return False
            before = np.array([*self.center, *self.shape_vector()])
            self.update_ellipse()
            after = np.array([*self.center, *self.shape_vector()])
            if not np.isfinite(after).all():
                return False
            if abs(after - before).max() < 2e-4:
                break
        return True

    def shape_vector(self):
        """Compute the shape as two numbers in which the angle does not jump."""
        size = (1.0 - self.ratio) / (1.0 + self.ratio)
        return size * math.cos(2 * self.angle), size * math.sin(2 * self.angle)

    def radius(self, y, x):
        """Compute semi-major elliptical radii; the angle counts from +x to +y."""
        dy, dx = y - self.center[0], x - self.center[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.hypot(dx * cos + dy * sin, (dy * cos - dx * sin) / self.ratio)

    def measure_profile(self):
        """Measure the profile and the radii that enclose parts of the light."""
        ring = (self.radius(*self.places) / STEP).astype(int)
        area = np.bincount(ring, self.area)
        light = np.bincount(ring, self.light)
        edge = np.arange(len(area) + 1) * STEP
        radius = (edge[1:] + edge[:-1]) / 2
        filled = area > 0
        self.profile = np.interp(radius, radius[filled], (light / area)[filled])
        self.profile_radius = radius
        full = np.pi * self.ratio * edge**2
        growth = np.concatenate([[0.0], np.cumsum(self.profile * np.diff(full))])
        # Beyond this radius less than a third of the ellipse is on the image.
        seen = area > np.diff(full) / 3
        self.reach = edge[1:][seen].max() if seen.any() else edge[1]
        r = edge[(edge >= 1.0) & (edge <= self.reach)]
        inner, outer = (np.interp(f * r, edge, growth) for f in (0.9, 1.1))
        brightness = (outer - inner) / (np.pi * self.ratio * r**2 * (1.1**2 - 0.9**2))
        mean = np.interp(r, edge, growth) / (np.pi * self.ratio * r**2)
        drop = brightness / mean - ETA
        below = np.flatnonzero(~(drop > 0))
        self.truncated = len(below) == 0
        if self.truncated:
            self.r_petro = self.reach
        else:
            i = below[0]
            share = drop[i - 1] / (drop[i - 1] - drop[i]) if i else 0.0
            self.r_petro = r[i - 1] + share * STEP if i else r[0]
        limit = APERTURE * self.r_petro
        self.truncated = self.truncated or limit > self.reach
        self.limit = limit = min(limit, self.reach)
        self.flux = np.interp(limit, edge, growth)
        part = ~(edge > limit)
        rising = np.maximum.accumulate(growth[part]) / self.flux
        self.r50, self.r90 = np.interp([0.5, 0.9], rising, edge[part])
        if not self.flux > 0:
            self.r50 = math.nan

    def update_ellipse(self):
        """Take center and ellipse from the moments under the present ellipse."""
        radius = self.radius(self.y, self.x)
        model = np.interp(radius, self.profile_radius, self.profile)
        light = np.where(self.usable, self.values, model)
        size = max(self.r50, 1.5)
        light = light * np.exp(-0.5 * (radius / size) ** 2)
        total = light.sum()
        dy, dx = self.y - self.center[0], self.x - self.center[1]
        my, mx = (light * dy).sum() / total, (light * dx).sum() / total
        yy, xx, xy = (
            (light * a).sum() / total - b
            for a, b in ((dy**2, my**2), (dx**2, mx**2), (dx * dy, mx * my))
        )
        # Of two Gaussians the inverse covariances add up: take off the weight's.
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        weight = turn @ np.diag([1.0, self.ratio**-2]) @ turn.T / size**2
        moments = np.array([[xx, xy], [xy, yy]])
        if not (total > 0 and np.isfinite(moments).all()):
            self.ratio = math.nan
            return
        inverse = np.linalg.pinv(moments)
        own, axes = np.linalg.eigh(inverse - weight)
        shift = np.array([mx, my])
        if own[0] > 0:
            # The light is farther off than it seems, as the weight holds it back.
            shift = np.linalg.pinv(inverse - weight) @ inverse @ shift
        shift *= min(1.0, 0.5 * size / max(np.hypot(*shift), 1e-12))
        self.center = self.center[0] + shift[1], self.center[1] + shift[0]
        ratio = math.sqrt(own[0] / own[1]) if own[0] > 0 else 0.5 * self.ratio
        self.ratio = min(max(ratio, MIN_RATIO), 1.0)
        self.angle = math.atan2(axes[1, 0], axes[0, 0])

    def without_psf(self, sigma, concentration):
        """Find the Sérsic galaxy that looks like this one behind the PSF.

        It is drawn with the same pixels, measured in the same way, and changed until
        both semi-axes and the concentration agree. Gives its semi-major half-light
        radius and its axis ratio.
        """
        seen = np.array([self.r50, self.r50 * self.ratio])
        sigma = max(sigma, MIN_SIGMA)
        square = np.maximum(seen**2 - 1.39 * sigma**2, 0.1 * seen**2)
        seen_concentration = concentration
        for _ in range(CORRECTIONS):
            index = np.interp(concentration, CONCENTRATION, SERSIC_INDEX)
            drawn = _sersic(
                self.values.shape,
                self.center,
                self.angle,
                np.sqrt(square),
                index,
                sigma,
            )
            model = _Galaxy(drawn, self.usable, self.center)
            model.ratio, model.angle = self.ratio, self.angle
            if not model.converge():
                break
            found = np.array([model.r50, model.r50 * model.ratio])
            scale = square[0] / found[0] ** 2
            square = square + scale * (seen**2 - found**2)
            square = np.maximum(square, [0.1 * seen[0] ** 2, 0.0])
            square[1] = np.clip(square[1], MIN_RATIO**2 * square[0], square[0])
            concentration += seen_concentration - model.r90 / model.r50
            concentration = min(concentration, CONCENTRATION[-1])
        return math.sqrt(square[0]), math.sqrt(square[1] / square[0])

    def result(self, noise, psf_fwhm, known):
        """Make the result, corrected for PSF and missed light."""
        snr = 0.5 * self.flux / (noise * self.r50 * math.sqrt(math.pi * self.ratio))
        inside = all(
            0 <= c < n for c, n in zip(self.center, self.values.shape, strict=True)
        )
        if not (snr >= MIN_SNR and inside):
            return _no_result(Flag.LOW_SNR | Flag.FAILED)
        whole = APERTURE * self.r_petro
        covered = (known & (self.radius(self.y, self.x) < whole)).sum()
        full = math.pi * self.ratio * whole**2
        truncated = self.truncated or covered < MIN_COVERED * full
        flags = Flag.TRUNCATED if truncated else Flag(0)
        trust = 1.0 / (1.0 + (CONCENTRATION_SNR / snr) ** 2)
        concentration = TYPICAL + trust * (self.r90 / self.r50 - TYPICAL)
        if psf_fwhm > 0:
            r_eff, ratio = self.without_psf(SIGMA * psf_fwhm, concentration)
        else:
            concentration = min(concentration, CONCENTRATION[-1])
            r_eff = self.r50 / (1.0 - 8e-6 * concentration**8.47)
            ratio = self.ratio
        if 1.0 - ratio < 0.02:
            flags |= Flag.PA_UNDETERMINED
        if self.r50 * math.sqrt(self.ratio) < POINT * psf_fwhm:
            flags |= Flag.POINT_SOURCE
        return {
            "x": float(self.center[1]),
            "y": float(self.center[0]),
            "flux": float(self.flux),
            "flux_err": float(noise * self.limit * math.sqrt(math.pi * self.ratio)),
            "r_eff": float(r_eff),
            "r_petro": float(self.r_petro),
            "ellipticity": float(1.0 - ratio),
            "position_angle": (math.degrees(self.angle) - 90.0) % 180.0,
            "snr": float(snr),
            "flags": int(flags),
        }


def _sersic(shape, center, angle, axes, index, sigma):
    """Draw a Sérsic profile behind a Gaussian PSF, as a sum of Gaussians.

    ``axes`` are half-light semi-axes, ``sigma`` is the PSF's, all in pixels.
    """
    from scipy.special import gammaincinv

    radius = np.geomspace(0.003, 12.0, 80)
    widths = np.geomspace(0.005, 8.0, 14)
    slope = gammaincinv(2.0 * index, 0.5)
    profile = np.exp(-slope * (radius ** (1.0 / index) - 1.0))
    basis = np.exp(-0.5 * (radius[:, None] / widths) ** 2)
    # The light of an annulus counts, neither the center nor the wings alone.
    amplitudes = np.linalg.lstsq(basis * radius[:, None], profile * radius)[0]
    y, x = (np.arange(n) - c for n, c in zip(shape, center, strict=True))
    along = np.add.outer(y * math.sin(angle), x * math.cos(angle)) ** 2
    across = np.add.outer(y * math.cos(angle), -x * math.sin(angle)) ** 2
    image = np.zeros(shape)
    for amplitude, width in zip(amplitudes, widths, strict=True):
        before = np.square(axes) * width**2
        after = before + sigma**2
        light = amplitude * np.sqrt(np.prod(before) / np.prod(after))
        image += light * np.exp(-0.5 * (along / after[0] + across / after[1]))
    return image


def _peak(values, usable):
    """Climb from the center of the image to the nearest peak of the light."""
    from scipy.ndimage import gaussian_filter

    sigma = max(1.5, 0.03 * min(values.shape))
    smooth = gaussian_filter(np.where(usable, values, 0.0), sigma)
    y, x = (n // 2 for n in values.shape)
    while True:
        low = max(y - 2, 0), max(x - 2, 0)
        part = smooth[low[0] : y + 3, low[1] : x + 3]
        dy, dx = np.unravel_index(np.argmax(part), part.shape)
        # Sums of huge values may be no numbers, which are not above any other.
        if not smooth[low[0] + dy, low[1] + dx] > smooth[y, x]:
            return float(y), float(x)
        y, x = int(low[0] + dy), int(low[1] + dx)


def _neighbors(values, usable, center, noise):
    """Find light that has no counterpart on the other side of the center."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    filled = np.where(usable, values, 0.0)
    y, x = (
        np.round(2 * c).astype(int) - np.arange(n)
        for c, n in zip(center, values.shape, strict=True)
    )
    inside = np.logical_and.outer((y >= 0) & (y < len(y)), (x >= 0) & (x < len(x)))
    smooth = gaussian_filter(filled, 1.5)
    opposite = smooth[np.clip(y, 0, len(y) - 1)][:, np.clip(x, 0, len(x) - 1)]
    opposite = np.where(inside, opposite, 0.0)
    # A Gaussian of 1.5 pixels leaves a fifth of white noise.
    found = smooth > 1.5 * np.maximum(opposite, 0.0) + 5.0 * 0.2 * noise
    return binary_dilation(found, iterations=2)


def _noise(values, usable):
    """Measure the noise on differences of neighbors, that know little of galaxies."""
    values = np.where(usable, values, np.nan)
    steps = np.concatenate([np.diff(values, axis=axis).ravel() for axis in (0, 1)])
    steps = np.abs(steps[np.isfinite(steps)])
    return 1.4826 * np.median(steps) / math.sqrt(2.0) if steps.size else np.nan


def _typical(std, usable):
    """Compute the median standard deviation of the usable pixels."""
    std = np.asarray(std, dtype=float)[usable]
    std = std[np.isfinite(std) & (std > 0)]
    return np.median(std) if std.size else 0.0


def _no_result(flags):
    """Make the result of an image without a galaxy."""
    names = (
        "x",
        "y",
        "flux",
        "flux_err",
        "r_eff",
        "r_petro",
        "ellipticity",
        "position_angle",
    )
    return dict.fromkeys((*names, "snr"), math.nan) | {"flags": int(flags)}


def psf_fwhm_in_pixels(psf_fwhm, pixel_scale):
    """Convert the FWHM of the PSF to pixels; 0 when it is not known."""
    if psf_fwhm is None:
        return 0.0
    if isinstance(psf_fwhm, Real):
        psf_fwhm = psf_fwhm * u.pix
    return in_pixels(psf_fwhm, pixel_scale, "psf_fwhm", WIDEST)
