# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux, velocity and dispersion maps from cubes of line emission."""

import copy
import re
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from galml.core.exceptions import InputError, InputUnitError
from galml.core.geometry import celestial
from galml.core.inputs import read

__all__ = ["Moments", "measure", "moments"]

_EQUIVALENCIES = {
    "radio": u.doppler_radio,
    "optical": u.doppler_optical,
    "relativistic": u.doppler_relativistic,
}
_REST_CARDS = {"RESTFRQ": u.Hz, "RESTFREQ": u.Hz, "RESTWAV": u.m}
#: Cards that describe the cube but not its moments.
_CUBE_CARDS = re.compile(
    r"(NAXIS|CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME|CRDER|CSYER)[3-9]"
    r"|(PC|CD|PV)\d+_\d+|(PC|CD|PV)\d{6}|NAXIS|WCSAXES|BUNIT|DATAM(IN|AX)|header"
)
#: Standard deviation of a normal law over the median of its absolute value.
_MEDIAN_TO_SIGMA = 1.482602218505602
#: Smoothing before the threshold, as standard deviations.
_SMOOTH_CHANNELS = 1.5
_SMOOTH_PIXELS = 1.5
#: Negative channels from which a pixel has a noise of its own.
_MIN_NEGATIVE = 3


class Moments(NamedTuple):
    """
    Maps of one cube, NaN and masked where there is too little signal.

    Attributes
    ----------
    moment0 : `~astropy.nddata.CCDData`
        Flux integrated over velocity; unit of the cube times km / s.
    velocity : `~astropy.nddata.CCDData`
        Flux-weighted mean velocity in km / s.
    dispersion : `~astropy.nddata.CCDData`
        Flux-weighted standard deviation of the velocity in km / s.
    """

    moment0: CCDData
    velocity: CCDData
    dispersion: CCDData


def moments(
    cube,
    *,
    rest_value=None,
    convention=None,
    n_sigma=3.0,
    smooth=None,
    unit=None,
    hdu=None,
):
    r"""
    Moment maps of a cube of one emission line.

    The cube must be free of continuum and hold one line, in emission: absorption
    is taken for noise. Voxels count as line where the cube, smoothed along all
    axes, exceeds ``n_sigma`` times the noise of the smoothed cube; islands smaller
    than half the smoothing kernel are dropped, the others grow by one voxel. With
    the flux :math:`F_k` of the kept channels at velocities :math:`v_k`, of widths
    :math:`\Delta_k`,

    .. math::

        M_0 = \sum F_k \Delta_k, \quad
        V = \sum F_k v_k \Delta_k / M_0, \quad
        \sigma^2 = \sum F_k (v_k - V)^2 \Delta_k / M_0 .

    The instrumental width is not removed from :math:`\sigma`. Uncertainties are
    propagated to first order from the noise :math:`s_k`, taken as independent from
    channel to channel; the choice of voxels adds none:

    .. math::

        \delta M_0^2 = \sum (s_k \Delta_k)^2, \quad
        \delta V^2 = \sum \left(\frac{v_k - V}{M_0} s_k \Delta_k\right)^2, \quad
        \delta\sigma^2 = \sum
        \left(\frac{(v_k - V)^2 - \sigma^2}{2 \sigma M_0} s_k \Delta_k\right)^2 .

    Parameters
    ----------
    cube : `~specutils.Spectrum`, `~astropy.nddata.CCDData`, HDU or path
        Cube with two celestial axes and one spectral axis. Its mask is respected
        and its uncertainty is the noise; without one, the noise of each pixel is
        1.48 times the median absolute value of its negative channels, averaged
        with its neighbors.
    rest_value : `~astropy.units.Quantity`, optional
        Rest frequency, wavelength or energy of the line. By default the cards
        RESTFRQ, RESTFREQ or RESTWAV of the cube. Not used where the spectral axis
        is a velocity.
    convention : {'radio', 'optical', 'relativistic'}, optional
        How frequencies or wavelengths become velocities: by default radio for
        frequencies and optical for wavelengths and energies. A velocity axis is
        taken as it is by default, and converted where its own convention is known.
    n_sigma : float, optional
        Threshold of the smoothed cube, and signal to noise of ``moment0`` below
        which a pixel is masked.
    smooth : tuple of float, optional
        Standard deviations (channels, pixels) of the Gaussian for the threshold.
        By default 1.5 channels, and the beam where the cube names one (BMAJ and
        BMIN), else 1.5 pixels. The maps themselves are not smoothed.
    unit : `~astropy.units.Unit`, optional
        Unit of the cube where it has none.
    hdu : int or str, optional
        Extension of a FITS file.

    Returns
    -------
    Moments
        ``moment0``, ``velocity`` and ``dispersion``, each with its uncertainty
        (NaN where the cube shows no noise), mask, celestial WCS and meta.

    Raises
    ------
    galml.core.InputUnitError
        When the spectral axis has no spectral unit, or a rest value is missing.
    galml.core.InputError
        When the spectral axis is not strictly monotonic or has one channel only,
        or when an option is out of range.
    """
    observation = read(cube, argument="cube", unit=unit, hdu=hdu, ndim=(3,))
    return measure(
        observation,
        rest_value=rest_value,
        convention=convention,
        n_sigma=n_sigma,
        smooth=smooth,
    )


def measure(observation, *, rest_value=None, convention=None, n_sigma=3.0, smooth=None):
    """
    Moment maps of a cube that has been read already.

    Parameters
    ----------
    observation : galml.core.inputs.Observation
        Cube with its spectral axis.
    rest_value, convention, n_sigma, smooth
        As for `moments`.

    Returns
    -------
    Moments
        As `moments` returns them.

    Raises
    ------
    galml.core.InputError
        As `moments` does.
    """
    if not n_sigma > 0:
        raise InputError("n_sigma", n_sigma, "a positive number")
    velocity = _velocities(observation, rest_value, convention)
    noise = observation.std
    if noise is None:
        noise = _noise(observation.values, _SMOOTH_PIXELS)
    wcs = celestial(observation.wcs)
    kernel = _kernel(smooth, observation.meta, wcs)
    line = _line(observation.values, noise, n_sigma, kernel)
    maps = _integrate(observation.values, noise, line, velocity)
    flux, flux_err = maps[0]
    faint = ~(flux > 0) | (flux < n_sigma * flux_err)
    units = (observation.unit * u.km / u.s, u.km / u.s, u.km / u.s)
    return Moments(
        *(
            _map(values, error, map_unit, faint, wcs, observation.meta)
            for (values, error), map_unit in zip(maps, units, strict=True)
        )
    )


def _velocities(observation, rest_value, convention):
    """Velocity of each channel in km/s, strictly monotonic."""
    axis = observation.spectral_axis
    if axis is None:
        raise InputError("cube", "no spectral axis", "a cube with a spectral axis")
    if convention not in (None, *_EQUIVALENCIES):
        raise InputError("convention", repr(convention), " or ".join(_EQUIVALENCIES))
    own = getattr(axis, "doppler_convention", None)
    axis = u.Quantity(axis)
    if axis.unit.is_equivalent(u.km / u.s):
        velocity = _converted(axis, own, convention)
    elif axis.unit.is_equivalent(u.Hz, u.spectral()):
        is_frequency = axis.unit.is_equivalent(u.Hz)
        convention = convention or ("radio" if is_frequency else "optical")
        rest = _rest(rest_value, observation)
        velocity = axis.to_value(u.km / u.s, _EQUIVALENCIES[convention](rest))
    else:
        raise InputUnitError(
            "cube",
            f"a spectral axis in {axis.unit.to_string() or 'no unit'}",
            "an axis in velocity, frequency, wavelength or energy",
        )
    steps = np.diff(velocity)
    if not (steps.size and (np.all(steps > 0) or np.all(steps < 0))):
        raise InputError(
            "cube",
            f"a spectral axis of {velocity.size} channels that is not monotonic"
            if steps.size
            else f"a spectral axis of {velocity.size} channel",
            "two or more channels in ascending or descending order",
        )
    return velocity


def _converted(axis, own, convention):
    """Turn velocities of one convention into another, which takes no rest value."""
    if convention in (None, own):
        return axis.to_value(u.km / u.s)
    if own is None:
        raise InputError(
            "convention",
            f"{convention!r} for a velocity axis that does not tell its own",
            "None",
        )
    any_rest = 1 * u.Hz
    frequency = axis.to(u.Hz, _EQUIVALENCIES[own](any_rest))
    return frequency.to_value(u.km / u.s, _EQUIVALENCIES[convention](any_rest))


def _rest(rest_value, observation):
    """Rest value of the line, from the argument, the axis or the header."""
    if rest_value is None:
        rest_value = getattr(observation.spectral_axis, "doppler_rest", None)
    if rest_value is None:
        for card, unit in _REST_CARDS.items():
            if observation.meta.get(card):
                return float(observation.meta[card]) * unit
        raise InputUnitError(
            "rest_value",
            "None, and a cube without RESTFRQ or RESTWAV",
            "rest_value= in frequency, wavelength or energy",
        )
    unit = getattr(rest_value, "unit", None)
    if unit is None or not unit.is_equivalent(u.Hz, u.spectral()):
        raise InputUnitError(
            "rest_value",
            repr(rest_value),
            "a Quantity in frequency, wavelength or energy",
        )
    return rest_value


def _widths(velocity):
    """Width of each channel: its edges lie midway between the centers."""
    middle = (velocity[1:] + velocity[:-1]) / 2
    first, last = 2 * velocity[0] - middle[0], 2 * velocity[-1] - middle[-1]
    return np.abs(np.diff(np.concatenate([[first], middle, [last]])))


def _kernel(smooth, meta, wcs):
    """Widths of the smoothing kernel as (channels, pixels, pixels)."""
    if smooth is not None:
        if np.shape(smooth) != (2,) or not np.all(np.asarray(smooth) >= 0):
            raise InputError("smooth", repr(smooth), "two widths, none negative")
        channels, pixels = smooth
    else:
        channels, pixels = _SMOOTH_CHANNELS, _SMOOTH_PIXELS
        major = meta.get("BMAJ")
        if major and isinstance(wcs, WCS):
            beam = np.sqrt(major * (meta.get("BMIN") or major))
            pixels = (
                gaussian_fwhm_to_sigma * beam / np.mean(proj_plane_pixel_scales(wcs))
            )
    return channels, pixels, pixels


def _smoothed(values, widths):
    """Gaussian average that leaves out NaN; NaN where there is nothing near."""
    from scipy.ndimage import gaussian_filter

    valid = np.isfinite(values)
    total = gaussian_filter(np.where(valid, values, 0), widths, mode="constant")
    weight = gaussian_filter(valid.astype(values.dtype), widths, mode="constant")
    return np.divide(
        total, weight, out=np.full_like(total, np.nan), where=weight > 1e-3
    )


def _noise(values, pixels):
    """
    Noise of each pixel, shape (1, y, x), from its negative channels.

    Emission has no part in them. Averaging over neighbors steadies it where there
    are few channels. NaN where nothing is negative, as in cubes without noise.
    """
    sizes = np.sort(np.where(values < 0, -values, np.inf), axis=0)
    count = np.isfinite(sizes).sum(axis=0, keepdims=True)
    middle = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(sizes) - 1)
    median = sum(np.take_along_axis(sizes, index, axis=0) for index in middle) / 2
    own = np.where(count >= _MIN_NEGATIVE, median * _MEDIAN_TO_SIGMA, np.nan)
    return _smoothed(own, (0, pixels, pixels))


def _line(values, noise, n_sigma, widths):
    """Voxels that hold line emission, boolean."""
    from scipy.ndimage import binary_dilation, label

    scale = np.where(noise > 0, noise, 1)
    smoothed = _smoothed(values / scale, widths)
    level = np.nan_to_num(_noise(smoothed, widths[1]))
    line = np.nan_to_num(smoothed) > n_sigma * level
    labels, _ = label(line)
    sizes = np.bincount(labels.ravel())
    fwhm = np.maximum(np.asarray(widths) / gaussian_fwhm_to_sigma, 1)
    kept = sizes >= np.pi / 12 * np.prod(fwhm)
    kept[0] = False
    return binary_dilation(kept[labels]) & np.isfinite(values)


def _integrate(values, noise, line, velocity):
    """Flux, mean velocity and dispersion, each with its error, shape (y, x)."""
    widths = _widths(velocity)[:, np.newaxis, np.newaxis]
    velocity = velocity[:, np.newaxis, np.newaxis]
    flux = np.where(line, values, 0) * widths
    error = np.where(line, noise, 0) * widths
    with np.errstate(divide="ignore", invalid="ignore"):
        total = flux.sum(axis=0)
        mean = (flux * velocity).sum(axis=0) / total
        offset = velocity - mean
        variance = (flux * offset**2).sum(axis=0) / total
        dispersion = np.sqrt(variance)
        slope = (offset**2 - variance) / (2 * dispersion * total)
        return [
            (total, _quadrature(error)),
            (mean, _quadrature(error * offset / total)),
            (dispersion, _quadrature(error * slope)),
        ]


def _quadrature(terms):
    return np.sqrt((terms**2).sum(axis=0))


def _map(values, error, unit, faint, wcs, meta):
    mask = faint | ~np.isfinite(values)
    return CCDData(
        np.where(mask, np.nan, values),
        unit=unit,
        uncertainty=StdDevUncertainty(np.where(mask, np.nan, error)),
        mask=mask,
        wcs=copy.deepcopy(wcs),
        meta={
            key: copy.deepcopy(value)
            for key, value in meta.items()
            if not _CUBE_CARDS.fullmatch(str(key))
        },
    )
