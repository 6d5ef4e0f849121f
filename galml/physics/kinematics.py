# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The spin parameter λ_R and V/σ, as sums over an aperture."""

__all__ = ["FAST_ROTATOR", "lambda_sums"]

#: Fast rotators have a spin above this, times the root of their ellipticity
#: (Emsellem et al. 2011, MNRAS 414, 888).
FAST_ROTATOR = 0.31


def lambda_sums(flux, velocity, dispersion, radius, inside, axes=(-2, -1)):
    r"""Sum maps to the spin parameter λ_R and to V/σ.

    .. math::

        \lambda_R = \frac{\sum F_i R_i |V_i|}
                         {\sum F_i R_i \sqrt{V_i^2 + \sigma_i^2}}, \qquad
        \frac{V}{\sigma} = \sqrt{\frac{\sum F_i V_i^2}{\sum F_i \sigma_i^2}}

    Parameters
    ----------
    flux, velocity, dispersion : `~numpy.ndarray` or `~torch.Tensor`
        Flux F, velocity V from the systemic one, and dispersion σ of each spaxel;
        all of one kind, with shapes that broadcast together. Values outside the
        aperture do not count, whatever they are, NaN included.
    radius : `~numpy.ndarray` or `~torch.Tensor`
        Distance R from the center, in any unit; circular or elliptical.
    inside : `~numpy.ndarray` or `~torch.Tensor`
        True in the aperture.
    axes : int or tuple of int
        Axes that are summed.

    Returns
    -------
    lambda_r, v_over_sigma : `~numpy.ndarray` or `~torch.Tensor`
        NaN where nothing is inside or nothing moves; V/σ is infinite where all
        dispersions are zero.

    Notes
    -----
    λ_R is from Emsellem et al. 2007, MNRAS 379, 401 (eqs. 5 and 6); V/σ from Binney
    2005, MNRAS 363, 937, as Cappellari et al. 2007, MNRAS 379, 418 (eq. 10) sum it.
    """
    flux, velocity, dispersion, radius = (
        _keep(values, inside) for values in (flux, velocity, dispersion, radius)
    )
    weight = flux * radius
    ordered = (weight * abs(velocity)).sum(axes)
    total = (weight * (velocity**2 + dispersion**2) ** 0.5).sum(axes)
    rotation = (flux * velocity**2).sum(axes)
    pressure = (flux * dispersion**2).sum(axes)
    return _divide(ordered, total), _divide(rotation, pressure) ** 0.5


def _keep(values, inside):
    """Set values outside the aperture to zero, so that NaN there does no harm."""
    if hasattr(values, "masked_fill"):
        return values.masked_fill(~inside, 0.0)
    import numpy as np

    return np.where(inside, values, 0.0)


def _divide(above, below):
    """Divide as floating point does, without warnings about 0 / 0."""
    if hasattr(above, "masked_fill"):
        return above / below
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return above / below
