# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux, velocity and dispersion maps of one line of a cube."""

import copy
import re
from dataclasses import dataclass
from typing import NamedTuple

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.special import erf

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.core.geometry import beam_of, celestial, pixel_scale
from galml.core.inputs import read
from galml.gas_kinematics.harmonic import masked_median

__all__ = [
    "Moments",
    "SpectralLine",
    "doppler",
    "fit_continuum",
    "measure",
    "moments",
    "read_redshift",
    "without_line",
]

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
#: Channels that count lie within so many dispersions of a line.
_REACH = 2.5
#: Least dispersion of a line for that, in channels.
_NARROWEST = 0.7
#: Negative channels from which a pixel has a noise of its own.
_MIN_NEGATIVE = 3
#: Full widths around a line: of what is taken for the line, and of the window whose
#: other channels tell the continuum.
_WIDTH = 1000 * u.km / u.s
_CONTINUUM = 3000 * u.km / u.s
#: Fewest channels that tell a continuum; rounds of leaving out other lines; residuals
#: that are left out, in standard deviations, and how many channels beside them.
_MIN_CONTINUUM = 4
_ROUNDS = 5
_CLIP = 3.0
_GROW = 2
#: Voxels of the continuum that are fitted at once.
_VOXELS = 4_000_000


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


def without_line(**options):
    """Raise where options are given that need a line.

    Parameters
    ----------
    **options : object
        By name; None is not given.

    Raises
    ------
    galml.core.InputError
        For the first one that is given.
    """
    for name, value in options.items():
        if value is not None:
            raise InputError(name, repr(value), "None without line=")


def read_redshift(redshift):
    """Read a redshift.

    Parameters
    ----------
    redshift : float, dimensionless `~astropy.units.Quantity` or None
        None is 0.

    Returns
    -------
    float
        Above -1.

    Raises
    ------
    galml.core.InputError
        If it is no number, or out of range.
    """
    if redshift is None:
        return 0.0
    try:
        value = float(u.Quantity(redshift).to_value(u.dimensionless_unscaled))
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise InputTypeError("redshift", repr(redshift), "a number") from error
    if not -1 < value < 100:
        raise InputError("redshift", value, "a number above -1")
    return value


@dataclass(frozen=True)
class SpectralLine:
    """A line of a galaxy, and the channels around it.

    Parameters
    ----------
    line, redshift, width, continuum, rest_value
        As in `moments`.

    Raises
    ------
    galml.core.InputError
        If one is of the wrong kind or out of range.
    """

    line: u.Quantity
    redshift: float | None = None
    width: u.Quantity | None = None
    continuum: u.Quantity | None = None
    rest_value: u.Quantity | None = None

    def __post_init__(self):
        rest = _check_rest(self.line, "line")
        observed = rest.to(u.Hz, u.spectral()) / (1 + read_redshift(self.redshift))
        width = _speed(self.width, "width", _WIDTH)
        window = _speed(self.continuum, "continuum", _CONTINUUM)
        if width == 0:
            raise InputError("width", self.width, "a width above zero")
        if 0 < window <= width:
            expected = f"more than the width, {width:g} km / s, or 0 km / s for none"
            raise InputError("continuum", f"{window:g} km / s", expected)
        if self.rest_value is not None:
            _check_rest(self.rest_value, "rest_value")
        object.__setattr__(self, "observed", observed)
        object.__setattr__(self, "limits", (width / 2, max(window, width) / 2))

    def velocities(self, axis, convention=None):
        """Give velocities relative to the redshifted line.

        Parameters
        ----------
        axis : `~astropy.coordinates.SpectralQuantity` or None
            Spectral axis of the cube.
        convention : str, optional
            As in `moments`.

        Returns
        -------
        `~numpy.ndarray`
            Shape (channels,), km/s.
        """
        axis = _checked_axis(axis)
        if axis.unit.is_equivalent(u.km / u.s):
            axis = self._frequencies(axis)
        elif self.rest_value is not None:
            expected = "None: line= is the rest value of this axis"
            raise InputError("rest_value", self.rest_value, expected)
        return _from_spectral(u.Quantity(axis), self.observed, convention)

    def _frequencies(self, axis):
        """Frequencies of a velocity axis, by its own convention and rest value."""
        own = getattr(axis, "doppler_convention", None)
        rest = getattr(axis, "doppler_rest", None)
        rest = rest if self.rest_value is None else self.rest_value
        if own is None:
            expected = "None: the velocity axis does not tell its convention"
            raise InputError("line", self.line, expected)
        if rest is None:
            raise InputUnitError(
                "rest_value",
                "None, and a velocity axis that does not tell its own",
                "rest_value= in frequency, wavelength or energy",
            )
        return u.Quantity(axis).to(u.Hz, doppler(rest, own))

    def channels(self, axis):
        """Give the slice of channels that hold line and continuum.

        Parameters
        ----------
        axis : `~astropy.coordinates.SpectralQuantity` or None
            Spectral axis of the cube.

        Returns
        -------
        slice
            Of channels that follow each other.

        Raises
        ------
        galml.core.InputError
            If the cube does not hold the line.
        """
        velocity = self.velocities(axis)
        inside = _slab(velocity, self.limits[0])
        if len(inside) < 2:
            low, high = u.Quantity([axis.min(), axis.max()])
            expected = f"a line that the cube from {low:.6g} to {high:.6g} holds"
            got = f"{self.line} at redshift {read_redshift(self.redshift):g}"
            raise InputError("line", got, expected)
        window = _slab(velocity, self.limits[1])
        return slice(int(window.min()), int(window.max()) + 1)

    def split(self, velocity):
        """Tell which channels may hold the line, and which tell the continuum.

        Parameters
        ----------
        velocity : `~numpy.ndarray`
            Shape (channels,), km/s.

        Returns
        -------
        inside, beside : `~numpy.ndarray`
            Channel numbers; ``beside`` is empty where nothing is to be subtracted.
        """
        inside, window = (np.sort(_slab(velocity, limit)) for limit in self.limits)
        beside = np.setdiff1d(window, inside)
        if self.limits[1] > self.limits[0] and len(beside) < _MIN_CONTINUUM:
            raise InputError(
                "continuum",
                f"{len(beside)} channels beside the line",
                f"a window with {_MIN_CONTINUUM} or more, or 0 km / s for a cube free "
                "of continuum",
            )
        return inside, beside


def _speed(value, argument, default):
    """Read a full width in km/s."""
    try:
        speed = u.Quantity(default if value is None else value).to_value(u.km / u.s)
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise InputUnitError(argument, repr(value), "a velocity") from error
    if np.ndim(speed) or not 0 <= speed < np.inf:
        raise InputError(argument, repr(value), "one velocity, not negative")
    return float(speed)


def _slab(velocity, limit):
    """Numbers of the channels whose velocity is at most a limit, of either sign."""
    from specutils import Spectrum
    from specutils.manipulation import spectral_slab

    order = np.argsort(velocity)
    numbers = Spectrum(
        flux=order * u.dimensionless_unscaled,
        spectral_axis=velocity[order] * u.km / u.s,
    )
    bounds = limit * u.km / u.s
    return spectral_slab(numbers, -bounds, bounds).flux.value.astype(int)


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
        velocity = _velocities(observation, rest_value, convention)
    else:
        velocity = _monotonic(line.velocities(observation.spectral_axis, convention))
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


@dataclass
class Continuum:
    """Straight lines fitted to the spectra of a cube.

    Attributes
    ----------
    center, scale : float
        Velocity ``v`` is ``x = (v - center) / scale`` in the fit.
    coefficients : `~numpy.ndarray`
        Shape (2, ny, nx): value at x = 0, and slope.
    covariance : `~numpy.ndarray`
        Shape (2, 2, ny, nx).
    noise : `~numpy.ndarray`
        Shape (ny, nx): standard deviation of the residuals.
    """

    center: float
    scale: float
    coefficients: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray

    def terms(self, velocity):
        """Give the terms of the fit, shape (2, channels)."""
        return np.stack([np.ones_like(velocity), (velocity - self.center) / self.scale])

    def at(self, velocity):
        """Give the continuum at velocities (channels,), shape (channels, ny, nx)."""
        offset, slope = self.coefficients
        return offset + slope * self.terms(velocity)[1][:, np.newaxis, np.newaxis]


def fit_continuum(velocity, values, std=None):
    """Fit straight lines to spectra, and leave out what lies far off.

    Weighted linear least squares, as `specutils.fitting.fit_continuum` with a
    polynomial of degree 1 has it for one spectrum, for all spectra at once. Other lines
    and bad channels are found by residuals of more than 3 robust standard deviations,
    in five rounds, and left out with two channels on both sides.

    Parameters
    ----------
    velocity : `~numpy.ndarray`
        Shape (channels,).
    values : `~numpy.ndarray`
        Shape (channels, ny, nx); NaN does not count.
    std : `~numpy.ndarray`, optional
        Of the same shape: standard deviations; weights are their inverse squares.

    Returns
    -------
    `Continuum`
        NaN where fewer than four channels are known.
    """
    center = (velocity.max() + velocity.min()) / 2
    scale = max(np.ptp(velocity) / 2, 1e-9)
    shape = values.shape[1:]
    fit = Continuum(
        center, scale, np.empty((2, *shape)), np.empty((2, 2, *shape)), np.empty(shape)
    )
    x = fit.terms(velocity)[1]
    rows = max(1, _VOXELS // (len(velocity) * shape[1]))
    for start in range(0, shape[0], rows):
        part = slice(start, start + rows)
        errors = None if std is None else _spectra(std[:, part])
        found = _fit_lines(x, _spectra(values[:, part]), errors)
        for whole, piece in zip(
            (fit.coefficients, fit.covariance, fit.noise), found, strict=True
        ):
            whole[..., part, :] = piece.reshape(*piece.shape[:-1], -1, shape[1])
    return fit


def _spectra(cube):
    """Give spectra (n, channels) of a cube (channels, ny, nx)."""
    return np.ascontiguousarray(cube.reshape(len(cube), -1).T, dtype=float)


def _fit_lines(x, y, std):
    """Fit spectra (n, channels).

    Returns
    -------
    list of `~numpy.ndarray`
        Coefficients (2, n), their covariance (2, 2, n) and the noise (n,).
    """
    weight = np.ones_like(y)
    if std is not None:
        # A channel without error would outweigh all others.
        tiny = 1e-6 * np.nanmax(std, axis=1, keepdims=True, initial=0)
        weight = np.divide(1, np.maximum(std, tiny) ** 2, where=std >= 0, out=0 * y)
    known = np.isfinite(y) & np.isfinite(weight) & (weight > 0)
    y = np.where(known, y, 0.0)
    powers = np.stack([np.ones_like(x), x, x * x], axis=1)
    # The first judgement is that of the median, which other lines hardly move.
    median = masked_median(torch.from_numpy(y), torch.from_numpy(known)).numpy()
    size = np.abs(y - median[:, None])
    kept = _without(known, size > _CLIP * _robust_spread(size, known)[:, None])
    for _ in range(_ROUNDS):
        used = np.where(kept, weight, 0.0)
        s0, s1, s2 = (used @ powers).T
        t0, t1 = ((used * y) @ powers[:, :2]).T
        determinant = s0 * s2 - s1 * s1
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = (s2 * t0 - s1 * t1) / determinant
            slope = (s0 * t1 - s1 * t0) / determinant
            residual = np.abs(y - offset[:, None] - slope[:, None] * x)
        size = residual if std is None else residual * np.sqrt(weight)
        spread = _robust_spread(size, kept)
        # Rounding is no residual.
        limit = np.maximum(_CLIP * spread, 1e-9 * np.abs(y).max(axis=1, initial=0))
        again = _without(known, size > limit[:, None])
        if (again == kept).all():
            break
        kept = again
    enough = kept.sum(axis=1) >= _MIN_CONTINUUM
    freedom = np.maximum(kept.sum(axis=1) - 2, 1)
    noise = np.sqrt(np.where(kept, residual**2, 0.0).sum(axis=1) / freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = np.stack([s2, -s1, -s1, s0]) / determinant
    if std is None:
        covariance = covariance * noise**2
    found = np.stack([offset, slope]), covariance.reshape(2, 2, -1), noise
    return [np.where(enough, values, np.nan) for values in found]


def _without(known, outside):
    """Leave out what lies far off and, if enough is left, the wings beside it."""
    outside = outside & known
    grown = outside.copy()
    for shift in range(1, _GROW + 1):
        grown[:, shift:] |= outside[:, :-shift]
        grown[:, :-shift] |= outside[:, shift:]
    kept = known & ~grown
    few = kept.sum(axis=1) < np.maximum(2 * _MIN_CONTINUUM, known.sum(axis=1) // 4)
    return np.where(few[:, None], known & ~outside, kept)


def _robust_spread(size, mask):
    """Estimate the standard deviation of each row by the median of residuals."""
    median = masked_median(torch.from_numpy(size), torch.from_numpy(mask))
    return _MEDIAN_TO_SIGMA * median.numpy()


def _checked_axis(axis):
    """Raise where there is no spectral axis, or one of another unit."""
    if axis is None:
        raise InputError("cube", "no spectral axis", "a cube with a spectral axis")
    if not any(axis.unit.is_equivalent(unit) for unit in (u.km / u.s, u.Hz, u.m, u.J)):
        raise InputUnitError(
            "cube",
            f"a spectral axis in {axis.unit.to_string() or 'no unit'}",
            "an axis in velocity, frequency, wavelength or energy",
        )
    return axis


def _from_spectral(axis, rest, convention):
    """Velocities in km/s of frequencies, wavelengths or energies."""
    is_frequency = axis.unit.is_equivalent(u.Hz)
    convention = convention or ("radio" if is_frequency else "optical")
    return axis.to_value(u.km / u.s, doppler(rest, convention))


def doppler(rest, convention):
    """Give the equivalencies of spectral values and velocities.

    Parameters
    ----------
    rest : `~astropy.units.Quantity`
        Rest frequency, wavelength or energy.
    convention : str
        "radio", "optical" or "relativistic".

    Returns
    -------
    list
        For `astropy.units`.

    Raises
    ------
    galml.core.InputError
        If the convention is unknown, or the rest value none.
    """
    _check_convention(convention)
    return _EQUIVALENCIES[convention](_check_rest(rest, "rest_value"))


def _check_convention(convention):
    if convention not in (None, *_EQUIVALENCIES):
        raise InputError("convention", repr(convention), " or ".join(_EQUIVALENCIES))


def _velocities(observation, rest_value, convention):
    """Velocity of each channel in km/s, strictly monotonic."""
    axis = _checked_axis(observation.spectral_axis)
    _check_convention(convention)
    own = getattr(axis, "doppler_convention", None)
    axis = u.Quantity(axis)
    if axis.unit.is_equivalent(u.km / u.s):
        return _monotonic(_converted(axis, own, convention))
    rest = _rest(rest_value, observation)
    return _monotonic(_from_spectral(axis, rest, convention))


def _monotonic(velocity):
    """Raise where velocities are not in strict order, or too few."""
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
    return _check_rest(rest_value, "rest_value")


def _check_rest(rest, argument):
    """Raise where a rest value is none."""
    unit = getattr(rest, "unit", None)
    if unit is None or not unit.is_equivalent(u.Hz, u.spectral()):
        expected = "a Quantity in frequency, wavelength or energy"
        raise InputUnitError(argument, repr(rest), expected)
    if np.ndim(rest) or not 0 < rest.value < np.inf:
        raise InputError(argument, repr(rest), "one value above zero")
    return rest


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
    own = np.where(count >= _MIN_NEGATIVE, median * _MEDIAN_TO_SIGMA, np.nan)
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
