# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One line of a cube: its velocities, its channels, and the continuum below it."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import torch

from galml.core.exceptions import InputError, InputTypeError, InputUnitError
from galml.gas_kinematics.harmonic import masked_median

__all__ = [
    "Continuum",
    "MEDIAN_TO_SIGMA",
    "SpectralLine",
    "channel_velocities",
    "doppler",
    "fit_continuum",
    "monotonic",
    "read_redshift",
    "without_line",
]

#: No galaxy comes nearer at this velocity, in km/s.
APPROACHING = -3000.0
_EQUIVALENCIES = {
    "radio": u.doppler_radio,
    "optical": u.doppler_optical,
    "relativistic": u.doppler_relativistic,
}
_REST_CARDS = {"RESTFRQ": u.Hz, "RESTFREQ": u.Hz, "RESTWAV": u.m}
#: Standard deviation of a normal law over the median of its absolute value.
MEDIAN_TO_SIGMA = 1.482602218505602
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
        value = u.Quantity(redshift).to_value(u.dimensionless_unscaled)
        if np.iscomplexobj(value) or np.ma.is_masked(redshift):
            raise TypeError("a redshift is a real number")
        value = float(value)
    except (TypeError, ValueError, OverflowError, u.UnitConversionError) as error:
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
        As in `~galml.gas_kinematics.moments`.

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
            As in `~galml.gas_kinematics.moments`.

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
    return MEDIAN_TO_SIGMA * median.numpy()


def channel_velocities(observation, rest_value, convention):
    """Give the velocity of each channel of a cube of one line.

    Parameters
    ----------
    observation : `~galml.core.inputs.Observation`
        Cube with its spectral axis.
    rest_value, convention
        As in `~galml.gas_kinematics.moments`.

    Returns
    -------
    `~numpy.ndarray`
        Shape (channels,), km/s, strictly monotonic.

    Raises
    ------
    galml.core.InputError
        If the axis has another unit, is not monotonic, or a rest value is missing or
        of another line: such that no galaxy comes nearer so fast.
    """
    axis = _checked_axis(observation.spectral_axis)
    _check_convention(convention)
    own = getattr(axis, "doppler_convention", None)
    axis = u.Quantity(axis)
    if axis.unit.is_equivalent(u.km / u.s):
        return monotonic(_converted(axis, own, convention))
    rest = _rest(rest_value, observation)
    velocity = monotonic(_from_spectral(axis, rest, convention))
    if velocity.max() < APPROACHING:
        got = (
            f"{rest:g}, by which all comes nearer at {-velocity.max():.3g} km/s or more"
        )
        raise InputError("rest_value", got, "that of the line in the cube")
    return velocity


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


def monotonic(velocity):
    """Give velocities back; raise where they are not in strict order, or too few.

    Parameters
    ----------
    velocity : `~numpy.ndarray`
        Shape (channels,).

    Returns
    -------
    `~numpy.ndarray`
        The same.

    Raises
    ------
    galml.core.InputError
        If they are neither ascending nor descending, or fewer than two.
    """
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
    if np.ndim(rest) or np.iscomplexobj(rest) or not 0 < rest.value < np.inf:
        raise InputError(argument, repr(rest), "one value above zero")
    return rest
