# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How much seeing lowers λ_R, and how to undo it."""

import math

import astropy.units as u
import numpy as np

from galml.core.exceptions import InputError, InputTypeError, InputUnitError

__all__ = ["correct_seeing"]

_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
#: Where the formula was calibrated.
SERSIC_RANGE = (0.5, 6.5)
LARGEST_RATIO = 1.0


def correct_seeing(lambda_r, *, psf_fwhm, r_eff, sersic_index):
    r"""Correct λ_R of regular rotators for seeing.

    .. math::

        \lambda_R = \lambda_R^\mathrm{obs}
        \left[1 + \left(\frac{x}{0.47}\right)^{1.76}\right]^{0.84}
        \left[1 + 0.26 \, (n - 2) \, x\right], \qquad
        x = \frac{\sigma_\mathrm{PSF}}{R_e}

    Parameters
    ----------
    lambda_r : float or array_like
        λ_R within one effective radius, as observed.
    psf_fwhm : float, array_like or `~astropy.units.Quantity`
        Full width at half maximum of the PSF, taken as Gaussian.
    r_eff : float, array_like or `~astropy.units.Quantity`
        Semi-major axis of the half-light ellipse, in the unit of ``psf_fwhm``.
    sersic_index : float or array_like
        Index n of the galaxy's Sérsic profile.

    Returns
    -------
    corrected, lower, upper : float or `~numpy.ndarray`
        λ_R without seeing and the errors of the correction downwards and upwards,
        both positive: :math:`0.08 \, n x`, but not below what was observed, and
        :math:`0.03 \, x`. NaN where the correction does not hold: :math:`x > 1`,
        n outside 0.5 to 6.5, or λ_R would exceed 1.

    Raises
    ------
    galml.core.InputUnitError
        When ``psf_fwhm`` and ``r_eff`` have different kinds of unit.
    galml.core.InputError
        When something is not a number, or shapes do not broadcast.

    Notes
    -----
    Equation 5 and figure C4 of Graham et al. 2018, MNRAS 477, 4711, found with models
    of regular rotators and R the circular distance from the center. Galaxies that do
    not rotate regularly are not to be corrected.

    Examples
    --------
    >>> from galml.stellar_kinematics import correct_seeing
    >>> corrected, lower, upper = correct_seeing(
    ...     0.5, psf_fwhm=2.5, r_eff=10.0, sersic_index=2.0
    ... )
    >>> round(float(corrected), 4)
    0.5305
    """
    ratio = _ratio(psf_fwhm, r_eff)
    observed = _numbers(lambda_r, "lambda_r")
    index = _numbers(sersic_index, "sersic_index")
    try:
        observed, index, ratio = np.broadcast_arrays(observed, index, ratio)
    except ValueError as error:
        raise InputError(
            "lambda_r",
            f"shapes {observed.shape}, {index.shape} and {ratio.shape}",
            "values that go together",
        ) from error
    with np.errstate(invalid="ignore"):
        corrected = (
            observed
            * (1 + (ratio / 0.47) ** 1.76) ** 0.84
            * (1 + 0.26 * (index - 2) * ratio)
        )
        lower = np.minimum(0.08 * index * ratio, np.maximum(corrected - observed, 0))
        holds = (ratio >= 0) & (ratio <= LARGEST_RATIO) & (corrected <= 1)
        holds &= (index >= SERSIC_RANGE[0]) & (index <= SERSIC_RANGE[1])
    return tuple(
        np.where(holds, values, np.nan)[()]
        for values in (corrected, lower, 0.03 * ratio)
    )


def _numbers(values, argument):
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputTypeError(argument, repr(values), "numbers") from error


def _ratio(psf_fwhm, r_eff):
    """Give the dispersion of the PSF in effective radii."""
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = u.Quantity(psf_fwhm) / u.Quantity(r_eff) / _FWHM
        return np.asarray(ratio.to_value(u.dimensionless_unscaled))
    except u.UnitConversionError as error:
        raise InputUnitError(
            "psf_fwhm", f"{psf_fwhm} with r_eff {r_eff}", "widths in the same unit"
        ) from error
    except (TypeError, ValueError) as error:
        raise InputTypeError("psf_fwhm", repr(psf_fwhm), "a width") from error
