# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux, velocity and dispersion maps of one line of a cube."""

import copy
import re
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.special import erf

from galml.core.exceptions import InputError
from galml.core.geometry import beam_of, celestial, pixel_scale
from galml.core.inputs import read
from galml.gas_kinematics.lines import (
    MEDIAN_TO_SIGMA,
    SpectralLine,
    channel_velocities,
    fit_continuum,
    monotonic,
    without_line,
)

__all__ = ["Moments", "measure", "moments"]

#: Cards that describe the cube but not its moments.
_CUBE_CARDS = re.compile(
    r"(NAXIS|CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME|CRDER|CSYER)[3-9]"
    r"|(PC|CD|PV)\d+_\d+|(PC|CD|PV)\d{6}|NAXIS|WCSAXES|BUNIT|DATAM(IN|AX)|header"
)
#: Smoothing before the threshold, as standard deviations.
_SMOOTH_CHANNELS = 1.5
_SMOOTH_PIXELS = 1.5
#: Channels that count lie within so many dispersions of a line.
_REACH = 2.5
#: Least dispersion of a line for that, in channels.
_NARROWEST = 0.7
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
    line=None,
    redshift=None,
    width=None,
    continuum=None,
    rest_value=None,
    convention=None,
    n_sigma=3.0,
    smooth=None,
    unit=None,
    hdu=None,
):
    r"""
    Measure flux, velocity and dispersion maps of an emission line.

    A cube of many lines needs ``line``: only channels around it are read, and their
    continuum, a straight line through the channels beside, is subtracted. Without
    ``line`` the cube must be free of continuum and hold one line. Absorption is taken
    for noise.

    A line is where the cube, smoothed along all axes, exceeds ``n_sigma``
    times the noise of the smoothed cube; islands smaller than half the smoothing
    kernel are dropped, the others grow by one voxel. With ``line``, only the brightest
    line of each pixel is kept, down to the valleys on both sides, as rotation may bring
    another line into its slab. In a noisy cube, all channels within 2.5 widths of the
    line then count, whether they exceed the threshold or not: what exceeds it has lost
    its wings, and gained noise. With the flux :math:`F_k` of the kept channels at
    velocities :math:`v_k`, of widths :math:`\Delta_k`,

    .. math::

        M_0 = \sum F_k \Delta_k, \quad
        V = \sum F_k v_k \Delta_k / M_0, \quad
        \sigma^2 = \sum F_k (v_k - V)^2 \Delta_k / M_0 .

    In noisy cubes, :math:`M_0` and :math:`\sigma` are those of normal laws of which
    these channels show the middle. The instrumental width, that of the channels
    included, is not removed from :math:`\sigma`. Uncertainties are
    propagated to first order from the noise :math:`s_k`, taken as independent from
    channel to channel, and from the errors of the continuum, which are not; the choice
    of voxels adds none:

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
        that of the channels beside the line, or else 1.48 times the median absolute
        value of its negative channels, averaged with its neighbors.
    line : `~astropy.units.Quantity`, optional
        Rest wavelength (in vacuum), frequency or energy of the line. Axes that are in
        air by their header are brought to vacuum; where the header does not tell,
        ``line`` is in the medium of the axis.
    redshift : float, optional
        Of the galaxy, 0 by default. Velocities are in the galaxy's frame, relative to
        the redshifted line. Only with ``line``.
    width : `~astropy.units.Quantity`, optional
        Full width of the channels around the redshifted line that may hold it, in
        velocity; 1000 km/s by default. Only with ``line``.
    continuum : `~astropy.units.Quantity`, optional
        Full width of the window whose channels outside ``width`` tell the continuum, in
        velocity; 3000 km/s by default. Other lines in it are recognized by their
        residuals and left out. 0 km/s subtracts nothing. Only with ``line``.
    rest_value : `~astropy.units.Quantity`, optional
        Without ``line``: rest frequency, wavelength or energy of the one line of the
        cube, by default the cards RESTFRQ, RESTFREQ or RESTWAV; not used where the
        spectral axis is a velocity. With ``line``: what the velocities of such an axis
        refer to.
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
        When the spectral axis is not strictly monotonic or has one channel only, when
        the cube does not hold the line, or when an option is out of range.

    Examples
    --------
    Two lines on a continuum, of which the brighter one is measured:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from specutils import Spectrum
    >>> from galml.gas_kinematics import moments
    >>> wavelength = np.arange(6600, 6800, 1.25)
    >>> y, x = np.indices((24, 24)) - 11.5
    >>> shift = 1.02 * (1 + 1.2e-4 * x) * (np.hypot(x, y) < 9)
    >>> flux = 3 + 0.002 * (wavelength - 6600)[:, None, None] * np.ones(x.shape)
    >>> for rest, peak in ((6564.6, 10), (6585.3, 4)):
    ...     offset = wavelength[:, None, None] - rest * shift
    ...     flux += peak * np.exp(-0.5 * (offset / 1.8) ** 2)
    >>> flux += np.random.default_rng(0).normal(0, 0.1, flux.shape)
    >>> cube = Spectrum(
    ...     flux=flux * u.Unit("1e-20 erg / (s cm2 Angstrom)"),
    ...     spectral_axis=wavelength * u.AA,
    ...     spectral_axis_index=0,
    ... )
    >>> maps = moments(cube, line=6564.6 * u.AA, redshift=0.02)
    >>> maps.velocity.data[12, 4:20:5].round(-1)
    array([-270.,  -90.,   90.,  270.])
    """
    chosen = None
    if line is None:
        without_line(redshift=redshift, width=width, continuum=continuum)
    else:
        chosen = SpectralLine(line, redshift, width, continuum, rest_value)
    observation = read(
        cube,
        argument="cube",
        unit=unit,
        hdu=hdu,
        ndim=(3,),
        channels=None if chosen is None else chosen.channels,
    )
    return measure(
        observation,
        line=chosen,
        rest_value=rest_value,
        convention=convention,
        n_sigma=n_sigma,
        smooth=smooth,
    )


def measure(
    observation,
    *,
    line=None,
    rest_value=None,
    convention=None,
    n_sigma=3.0,
    smooth=None,
):
    """
    Measure moment maps of a cube that has been read already.

    Parameters
    ----------
    observation : galml.core.inputs.Observation
        Cube with its spectral axis.
    line : SpectralLine, optional
        The line of a cube of many.
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
    values, noise = observation.values, observation.std
    fit = None
    if line is None:
        velocity = channel_velocities(observation, rest_value, convention)
    else:
        velocity = monotonic(line.velocities(observation.spectral_axis, convention))
        inside, beside = line.split(velocity)
        if len(beside):
            errors = None if noise is None else noise[beside]
            fit = fit_continuum(velocity[beside], values[beside], errors)
        values, velocity = values[inside], velocity[inside]
        noise = None if noise is None else noise[inside]
        if fit is not None:
            values = values - fit.at(velocity).astype(values.dtype)
            if noise is None:
                # Few channels tell the noise of one pixel alone.
                noise = _smoothed(fit.noise[np.newaxis], (0, *2 * (_SMOOTH_PIXELS,)))
    if noise is None:
        noise = _noise(values, _SMOOTH_PIXELS)
    wcs = celestial(observation.wcs)
    kernel = _kernel(smooth, observation, wcs)
    smoothed, level = _smoothed_cube(values, noise, kernel)
    bright = _line(smoothed, n_sigma * level, kernel) & np.isfinite(values)
    kept = bright
    if line is not None:
        kept = _main_line(smoothed, bright, n_sigma * level)
    # Without noise all that shines is above the threshold.
    noisy = level > 0
    other = (bright & ~kept) | ~np.isfinite(values)
    around = _around(smoothed, kept, velocity, kernel[0]) & ~other
    kept = np.where(noisy, around, kept)
    maps = _integrate(values, noise, kept, velocity, fit)
    maps = [
        [np.where(noisy[0], one, other) for one, other in zip(*pairs, strict=True)]
        for pairs in zip(_completed(maps, kept, velocity), maps, strict=True)
    ]
    flux, flux_err = maps[0]
    faint = ~(flux > 0) | (flux < n_sigma * flux_err)
    units = (observation.unit * u.km / u.s, u.km / u.s, u.km / u.s)
    return Moments(
        *(
            _map(values, error, map_unit, faint, wcs, observation.meta)
            for (values, error), map_unit in zip(maps, units, strict=True)
        )
    )


def _widths(velocity):
    """Width of each channel: its edges lie midway between the centers."""
    edges = (velocity[1:] + velocity[:-1]) / 2
    first, last = 2 * velocity[0] - edges[0], 2 * velocity[-1] - edges[-1]
    return np.abs(np.diff(np.concatenate([[first], edges, [last]])))


def _kernel(smooth, observation, wcs):
    """Widths of the smoothing kernel as (channels, pixels, pixels)."""
    if smooth is not None:
        if np.shape(smooth) != (2,) or not np.all(np.asarray(smooth) >= 0):
            raise InputError("smooth", repr(smooth), "two widths, none negative")
        channels, pixels = smooth
        return channels, pixels, pixels
    channels, pixels = _SMOOTH_CHANNELS, _SMOOTH_PIXELS
    beam = None if wcs is None else beam_of(observation)
    if beam is not None:
        ny, nx = observation.values.shape[1:]
        scale = pixel_scale(wcs, ((nx - 1) / 2, (ny - 1) / 2))
        fwhm = (np.sqrt(beam[0] * beam[1]) / scale).to_value(u.pix)
        # A beam in a wrong unit makes no kernel that is larger than the map.
        pixels = min(gaussian_fwhm_to_sigma * fwhm, max(ny, nx) / 4)
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
    ranks = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(sizes) - 1)
    median = sum(np.take_along_axis(sizes, rank, axis=0) for rank in ranks) / 2
    own = np.where(count >= _MIN_NEGATIVE, median * MEDIAN_TO_SIGMA, np.nan)
    return _smoothed(own, (0, pixels, pixels))


def _smoothed_cube(values, noise, widths):
    """Smooth a cube in units of its noise; give it and the noise that is left."""
    scale = np.where(noise > 0, noise, 1)
    smoothed = _smoothed(values / scale, widths)
    return smoothed, np.nan_to_num(_noise(smoothed, widths[1]))


def _line(smoothed, threshold, widths):
    """Voxels that hold line emission, boolean."""
    from scipy.ndimage import binary_dilation, label

    line = np.nan_to_num(smoothed) > threshold
    labels, _ = label(line)
    sizes = np.bincount(labels.ravel())
    fwhm = np.maximum(np.asarray(widths) / gaussian_fwhm_to_sigma, 1)
    kept = sizes >= np.pi / 12 * np.prod(fwhm)
    kept[0] = False
    return binary_dilation(kept[labels])


def _main_line(smoothed, line, rise):
    """Keep in each pixel the brightest line, down to the valleys on both sides.

    Parameters
    ----------
    smoothed : `~numpy.ndarray`
        Shape (channels, y, x).
    line : `~numpy.ndarray`
        Of the same shape, boolean: voxels that hold emission.
    rise : `~numpy.ndarray`
        Shape (1, y, x): behind a valley the cube rises by this, or it is none.

    Returns
    -------
    `~numpy.ndarray`
        Boolean: of the voxels with emission those in a row with the brightest one that
        lie between its valleys. What rotation brings into the slab of another line is
        so left out.
    """
    values = np.where(line, np.nan_to_num(smoothed), -np.inf)
    count = len(values)
    step = np.arange(count)[:, np.newaxis, np.newaxis]
    peak = values.argmax(axis=0)[np.newaxis]
    kept = np.zeros_like(line)
    for sign in (1, -1):
        # Outward from the peak; beyond the ends there is no emission.
        place = peak + sign * step
        outside = (place < 0) | (place >= count)
        place = np.clip(place, 0, count - 1)
        profile = np.take_along_axis(values, place, axis=0)
        profile[outside] = -np.inf
        lowest = np.minimum.accumulate(profile, axis=0)
        ends = np.isneginf(profile)
        stops = ends | (profile > lowest + rise)
        stop = np.where(stops.any(axis=0), stops.argmax(axis=0), count)
        valley = np.where(step < stop, profile, np.inf).argmin(axis=0)
        at_stop = np.minimum(stop, count - 1)[np.newaxis]
        ended = np.take_along_axis(ends, at_stop, axis=0)[0] | (stop == count)
        last = np.where(ended, stop - 1, valley)
        offset = sign * (step - peak)
        kept |= line & (offset >= 0) & (offset <= last)
    return kept


def _around(smoothed, line, velocity, smooth):
    """Voxels of each pixel within a few widths of its line.

    Noise hides the wings of a line from a threshold, and looks like wings where it is
    high: both bias the moments of what lies above. The width of the smoothed line, less
    that of the smoothing, tells where wings end.
    """
    found = _integrate(np.nan_to_num(smoothed), np.zeros(()), line, velocity)
    _, (mean, _), (width, _) = _completed(found, line, velocity)
    channel = _widths(velocity).mean()
    own = np.nan_to_num(width) ** 2 - (smooth * channel) ** 2
    reach = _REACH * np.sqrt(np.maximum(own, (_NARROWEST * channel) ** 2))
    return np.abs(velocity[:, np.newaxis, np.newaxis] - mean) <= reach


def _completed(found, line, velocity):
    """Flux and width of normal laws, of which voxels show the part in a window."""
    (flux, flux_error), middle, (width, error) = found
    window = (line * _widths(velocity)[:, np.newaxis, np.newaxis]).sum(axis=0) / 2
    # Half-windows in widths, and widths of what is inside.
    reach = np.linspace(1, 12, 500)[::-1]
    density = np.exp(-(reach**2) / 2) / np.sqrt(2 * np.pi)
    seen = np.sqrt(1 - 2 * reach * density / erf(reach / np.sqrt(2))) / reach
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = width / window
        whole = window * np.interp(ratio, seen, 1 / reach)
        error = error * np.interp(ratio, seen, np.gradient(1 / reach, seen))
        inside = np.nan_to_num(erf(window / whole / np.sqrt(2)), nan=1.0)
        return [(flux / inside, flux_error / inside), middle, (whole, error)]


def _integrate(values, noise, line, velocity, continuum=None):
    """Flux, mean velocity and dispersion, each with its error, shape (y, x)."""
    widths = _widths(velocity)[:, np.newaxis, np.newaxis]
    terms = None if continuum is None else continuum.terms(velocity)
    velocity = velocity[:, np.newaxis, np.newaxis]
    flux = np.where(line, values, 0) * widths
    error = np.where(line, noise, 0) * widths
    with np.errstate(divide="ignore", invalid="ignore"):
        total = flux.sum(axis=0)
        mean = (flux * velocity).sum(axis=0) / total
        offset = velocity - mean
        variance = (flux * offset**2).sum(axis=0) / total
        dispersion = np.sqrt(variance)
        slopes = (
            np.ones_like(offset),
            offset / total,
            (offset**2 - variance) / (2 * dispersion * total),
        )
        found = []
        for result, slope in zip((total, mean, dispersion), slopes, strict=True):
            square = ((error * slope) ** 2).sum(axis=0)
            if continuum is not None:
                # The continuum errs alike in all channels.
                change = np.where(line, slope * widths, 0)
                change = np.tensordot(terms, change, axes=(1, 0))
                square += np.einsum(
                    "iyx,ijyx,jyx->yx", change, continuum.covariance, change
                )
            found.append((result, np.sqrt(square)))
    return found


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
