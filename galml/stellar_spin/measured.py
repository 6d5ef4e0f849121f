# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `lambda_r`: spin measured on maps of stellar kinematics."""

import hashlib
from dataclasses import replace
from numbers import Integral

import astropy.units as u
import numpy as np

from galml.core.exceptions import GalmlError, InputError, InputTypeError
from galml.core.flags import Flag
from galml.core.inputs import Failure, RowOptions
from galml.core.results import build_table, failure_flags, warn_batch
from galml.physics.kinematics import lambda_sums
from galml.stellar_spin.aperture import (
    centroid,
    coherence,
    ellipse,
    semi_major_axis,
    systemic_weights,
    within,
)
from galml.stellar_spin.seeing import correct_seeing
from galml.stellar_spin.spaxels import KMS, read_spaxels

__all__ = ["lambda_r"]

RADII = ("circular", "elliptical")
#: Fewer spaxels are not measured, or flagged.
MIN_SPAXELS, FEW_SPAXELS = 10, 30
#: Less of the aperture covered by spaxels is flagged (Graham et al. 2018).
MIN_COVERAGE = 0.85
#: Velocities that follow one sense of rotation less than that are not regular.
MIN_COHERENCE = 0.9


def lambda_r(
    flux,
    velocity=None,
    dispersion=None,
    *,
    r_eff=None,
    center=None,
    ellipticity=0.0,
    position_angle=None,
    radius="circular",
    systemic=None,
    psf_fwhm=None,
    sersic_index=None,
    unit=None,
    hdu=None,
    n_samples=100,
    seed=None,
):
    r"""Measure the spin parameter λ_R and V/σ of stars within an ellipse.

    .. math::

        \lambda_R = \frac{\sum F_i R_i |V_i|}
                         {\sum F_i R_i \sqrt{V_i^2 + \sigma_i^2}}, \qquad
        \frac{V}{\sigma} = \sqrt{\frac{\sum F_i V_i^2}{\sum F_i \sigma_i^2}}

    over the spaxels whose centers lie inside the ellipse [1]_ [2]_.

    Parameters
    ----------
    flux : object
        Map of the light, shape (ny, nx): a `~astropy.nddata.CCDData`,
        `~astropy.nddata.NDData`, `~astropy.units.Quantity`, array, image HDU or FITS
        path; or a sequence of these. Or a table with a row per spaxel, and columns
        ``x`` and ``y`` (to the right and up, in pixels or angles), ``flux``,
        ``velocity``, ``dispersion`` and their errors ``flux_err`` and so on, where
        known; or a sequence of such tables.
    velocity, dispersion : object
        Maps of the mean velocity and of the velocity dispersion of the stars,
        corrected for the instrument's; as many as of ``flux``.
    r_eff : float or `~astropy.units.Quantity`, optional
        Semi-major axis of the ellipse, above zero, in pixels or as an angle (for a
        table: in the unit of ``x``). By default the aperture is the whole map, and
        ``truncated`` is flagged.
    center : pair of float, `~astropy.coordinates.SkyCoord`, optional
        Pixel (x, y) counted from 0, or sky position. By default the centroid of the
        light in a circle of ``r_eff``.
    ellipticity : float, optional
        1 - b/a of the ellipse, at least 0 and below 1. None measures it, from the
        second moments of the light inside the ellipse.
    position_angle : float or `~astropy.units.Quantity`, optional
        Of the ellipse's major axis, in degrees, east of north where there is a
        celestial WCS, otherwise counter-clockwise from +y. Measured by default.
    radius : {"circular", "elliptical"}, optional
        What R is: the distance from the center, as for SAURON, ATLAS3D and MaNGA
        [1]_ [3]_ [4]_, or the semi-major axis of the ellipse through the spaxel, as
        for SAMI [5]_.
    systemic : `~astropy.units.Quantity` or float, optional
        Velocity of the whole, in km/s unless it has a unit. By default it is fitted:
        the constant in a flux-weighted least-squares fit to the velocities inside the
        ellipse, beside a solid-body and a flat rotation of any axis; velocities 5
        times the scatter off are left out of the fit.
    psf_fwhm : float or `~astropy.units.Quantity`, optional
        Full width at half maximum of the PSF, in pixels or as an angle. With
        ``sersic_index`` it asks for λ_R corrected for seeing.
    sersic_index : float, optional
        Index of the galaxy's Sérsic profile.
    unit : `~astropy.units.Unit` or str, optional
        Unit of velocities and dispersions that have none.
    hdu : int, str, tuple or dict, optional
        FITS extension, or one for each of "flux", "velocity" and "dispersion".
    n_samples : int, optional
        Number of Monte Carlo draws for the errors; 0 for none.
    seed : int, optional
        Seed of the draws, which depend on it and on the galaxy alone.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``lambda_r`` and ``v_over_sigma`` with their 1
        sigma errors (``_err``); with ``psf_fwhm`` and ``sersic_index`` also
        ``lambda_r_corrected``, see `correct_seeing`; ``ellipticity`` of the ellipse;
        ``systemic_velocity``; ``coverage``, the part of the ellipse that spaxels
        cover; and ``flags``, see `~galml.core.decode_flags`. Errors are NaN where the
        maps of velocity or dispersion have none.

    Raises
    ------
    galml.core.InputError
        When the one galaxy cannot be measured. One of a batch that cannot be is a row
        of NaN with flags, and one `~galml.core.GalmlWarning` sums up.

    Notes
    -----
    Spaxels that are masked or not finite in any map, or without light, are left out;
    ``masked`` is flagged where less than 85 % of the ellipse is covered, and
    ``few_pixels`` below 30 spaxels. 10 are the least.

    The correction for seeing holds for regular rotators only: where less than 90 % of
    :math:`\sum F |V \cos\psi|` has the sign of one rotation about the axis that fits
    best (ψ is the angle from it), or where `correct_seeing` does not hold,
    ``lambda_r_corrected`` is NaN and ``out_of_domain`` is flagged. Its error contains
    that of the correction.

    Noise raises \|V\|, and so λ_R of galaxies that hardly rotate.

    References
    ----------
    .. [1] Emsellem et al. (2007), MNRAS 379, 401.
    .. [2] Cappellari et al. (2007), MNRAS 379, 418; Binney (2005), MNRAS 363, 937.
    .. [3] Emsellem et al. (2011), MNRAS 414, 888.
    .. [4] Graham et al. (2018), MNRAS 477, 4711.
    .. [5] van de Sande et al. (2017), ApJ 835, 104.

    Examples
    --------
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((41, 41)) - 20.0
    >>> flux = np.exp(-np.hypot(x, y) / 6)
    >>> velocity = 150 * np.tanh(x / 5)
    >>> dispersion = np.full(flux.shape, 80.0)
    >>> table = galml.lambda_r(flux, velocity, dispersion, unit="km/s", r_eff=10)
    >>> round(float(table["lambda_r"][0]), 3)
    0.731
    """
    if radius not in RADII:
        raise InputError("radius", repr(radius), f"one of {RADII}")
    if (psf_fwhm is None) != (sersic_index is None):
        missing = "psf_fwhm" if psf_fwhm is None else "sersic_index"
        raise InputError(missing, "None", "a number, to correct for seeing")
    if not isinstance(n_samples, Integral) or n_samples < 0 or n_samples == 1:
        raise InputError("n_samples", repr(n_samples), "0, or an integer above 1")
    if seed is not None and (not isinstance(seed, Integral) or seed < 0):
        raise InputError("seed", repr(seed), "None, or an integer not below 0")
    is_single, length, galaxies = read_spaxels(
        flux, velocity, dispersion, unit=unit, hdu=hdu
    )
    options = {
        "r_eff": r_eff,
        "center": center,
        "ellipticity": ellipticity,
        "position_angle": position_angle,
        "systemic": systemic,
        "psf_fwhm": psf_fwhm,
        "sersic_index": sersic_index,
    }
    rows = RowOptions(options, is_single=is_single, length=length)
    names, answers, flags, errors = [], [], [], []
    for index, spaxels in enumerate(galaxies):
        names.append(spaxels.name)
        try:
            if isinstance(spaxels, Failure):
                raise spaxels.error
            answer, bits = _measure(spaxels, radius, n_samples, seed, **rows.row(index))
        except (GalmlError, OSError, ValueError, TypeError, KeyError) as error:
            if is_single:
                raise
            errors.append(error)
            answer, bits = {}, failure_flags(error)
        answers.append(answer)
        flags.append(int(bits))
    table = build_table(
        _columns(answers, corrected=psf_fwhm is not None),
        operation="lambda_r",
        names=names,
        flags=flags,
        device="cpu",
        dtype="float64",
        seed=seed,
        call={"radius": radius, "unit": unit, "hdu": hdu, "n_samples": n_samples}
        | {name: value for name, value in options.items() if value is not None},
    )
    if not is_single:
        warn_batch(flags, errors)
    return table


def _columns(answers, corrected):
    """Put the answers into columns, with NaN where there is none."""
    names = ["lambda_r", "lambda_r_err", "v_over_sigma", "v_over_sigma_err"]
    if corrected:
        names += ["lambda_r_corrected", "lambda_r_corrected_err"]
    names += ["ellipticity", "systemic_velocity", "coverage"]
    columns = {
        name: np.array([answer.get(name, np.nan) for answer in answers], dtype=float)
        for name in names
    }
    columns["systemic_velocity"] *= KMS
    return columns


def _measure(
    spaxels,
    radius,
    n_samples,
    seed,
    *,
    r_eff,
    center,
    ellipticity,
    position_angle,
    systemic,
    psf_fwhm,
    sersic_index,
):
    """Measure one galaxy: values of the columns, and flags."""
    size = np.inf if r_eff is None else spaxels.length(r_eff, "r_eff")
    if not size > 0:
        raise InputError("r_eff", str(r_eff), "a length above zero")
    inner, semi_major, ratio = _aperture(
        spaxels, size, center, ellipticity, position_angle
    )
    distance = np.hypot(inner.x, inner.y) if radius == "circular" else semi_major
    coverage = inner.area * len(distance) / (np.pi * ratio * size**2)
    flags = Flag(spaxels.flags)
    flags |= Flag.CENTER_ASSUMED if center is None else 0
    flags |= Flag.TRUNCATED if size == np.inf else 0
    flags |= Flag.MASKED if coverage < MIN_COVERAGE and size < np.inf else 0
    flags |= Flag.FEW_PIXELS if len(distance) < FEW_SPAXELS else 0

    zero_point = _zero_point(inner, systemic)
    velocity = inner.velocity - zero_point(inner.velocity)
    spin, ordered = lambda_sums(
        inner.flux, velocity, inner.dispersion, distance, inner.flux > 0, -1
    )
    spin_err, ordered_err = _errors(inner, zero_point, distance, n_samples, seed)
    answer = {
        "lambda_r": spin,
        "lambda_r_err": spin_err,
        "v_over_sigma": ordered,
        "v_over_sigma_err": ordered_err,
        "ellipticity": 1 - ratio,
        "systemic_velocity": zero_point(inner.velocity),
        "coverage": min(1.0, coverage) if size < np.inf else np.nan,
    }
    if psf_fwhm is not None:
        fwhm = spaxels.length(psf_fwhm, "psf_fwhm")
        regular = coherence(inner.x, inner.y, inner.flux, velocity) >= MIN_COHERENCE
        corrected, error = _corrected(spin, spin_err, size, fwhm, sersic_index)
        if not (regular and np.isfinite(corrected)):
            flags |= Flag.OUT_OF_DOMAIN
            corrected, error = np.nan, np.nan
        answer |= {"lambda_r_corrected": corrected, "lambda_r_corrected_err": error}
    return answer, flags


def _aperture(spaxels, size, center, ellipticity, position_angle):
    """Give the spaxels inside the ellipse, centerd, and the ellipse through each."""
    _check_count(spaxels, "in the map")
    if center is None:
        center = centroid(spaxels.x, spaxels.y, spaxels.flux, size)
    else:
        center = spaxels.position(center)
    if position_angle is not None:
        position_angle = spaxels.image_angle(position_angle, center)
    x, y = spaxels.x - center[0], spaxels.y - center[1]
    ratio = _axis_ratio(ellipticity)
    ratio, angle = ellipse(x, y, spaxels.flux, size, ratio, position_angle)
    semi_major = semi_major_axis(x, y, ratio, angle)
    inside = within(semi_major, size)
    inner = replace(spaxels, x=x, y=y).select(inside)
    _check_count(inner, "in the aperture")
    return inner, semi_major[inside], ratio


def _zero_point(inner, systemic):
    """Give the function that finds the systemic velocity of a velocity field."""
    if systemic is not None:
        value = _kms(systemic)
        return lambda velocity: value
    weights = systemic_weights(inner.x, inner.y, inner.flux, inner.velocity)
    return lambda velocity: weights @ velocity


def _check_count(spaxels, where):
    count = len(spaxels.flux)
    if count < MIN_SPAXELS:
        raise InputError(
            "flux", f"{count} usable spaxels {where}", f"at least {MIN_SPAXELS}"
        )


def _axis_ratio(ellipticity):
    """Give b/a, or None where it is to be measured."""
    if ellipticity is None:
        return None
    try:
        ellipticity = float(ellipticity)
    except (TypeError, ValueError) as error:
        raise InputTypeError("ellipticity", repr(ellipticity), "a number") from error
    if not 0 <= ellipticity < 1:
        raise InputError("ellipticity", str(ellipticity), "from 0 to below 1")
    return 1 - ellipticity


def _kms(systemic):
    """Give the systemic velocity as a number."""
    try:
        if not isinstance(systemic, u.Quantity):
            systemic = float(systemic) * KMS
        value = float(systemic.to_value(KMS))
    except (TypeError, ValueError) as error:
        raise InputTypeError("systemic", repr(systemic), "a velocity") from error
    if not np.isfinite(value):
        raise InputError("systemic", str(systemic), "a finite velocity")
    return value


def _errors(inner, zero_point, distance, n_samples, seed):
    """Scatter of λ_R and V/σ when the maps scatter by their errors."""
    if n_samples == 0 or inner.velocity_std is None or inner.dispersion_std is None:
        return np.nan, np.nan
    values = [inner.flux, inner.velocity, inner.dispersion]
    errors = [inner.flux_std, inner.velocity_std, inner.dispersion_std]
    if errors[0] is None:
        errors[0] = np.zeros_like(distance)
    digest = hashlib.blake2b(np.stack([*values, *errors]).tobytes(), digest_size=8)
    random = np.random.default_rng([seed or 0, *digest.digest()])
    draws = np.empty((n_samples, 2))
    for draw in draws:
        flux, velocity, dispersion = map(random.normal, values, errors)
        velocity -= zero_point(velocity)
        draw[:] = lambda_sums(flux, velocity, dispersion, distance, flux > 0, -1)
    with np.errstate(invalid="ignore"):
        return draws.std(axis=0, ddof=1)


def _corrected(spin, spin_err, size, fwhm, sersic_index):
    """Correct λ_R for seeing; the error contains that of the correction."""
    if size == np.inf:
        raise InputError("r_eff", "None", "an effective radius, to correct for seeing")
    corrected, lower, upper = correct_seeing(
        spin, psf_fwhm=fwhm, r_eff=size, sersic_index=sersic_index
    )
    scaled = spin_err * corrected / spin if spin > 0 else spin_err
    return corrected, np.hypot(scaled, (lower + upper) / 2)
