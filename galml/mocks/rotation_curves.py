# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Circular speed against radius."""

import torch

__all__ = ["CURVES", "arctan", "circular_speed", "cored", "courteau"]


def arctan(radius, speed, turnover, sharpness):
    """Arctangent rise to ``speed`` (Courteau 1997, AJ 114, 2402)."""
    return speed * (2 / torch.pi) * torch.arctan(radius / turnover)


def courteau(radius, speed, turnover, sharpness):
    """Multi-parameter function of Courteau (1997), AJ 114, 2402, without decline."""
    ratio = turnover / radius.clamp_min(1e-9)
    return speed / (1 + ratio**sharpness) ** (1 / sharpness)


def cored(radius, speed, turnover, sharpness):
    """Flat curve with a core: that of a pseudo-isothermal potential."""
    return speed * radius / torch.sqrt(radius**2 + turnover**2)


CURVES = (arctan, courteau, cored)


def circular_speed(radius, kind, speed, turnover, sharpness):
    """Evaluate for each galaxy the curve that it has.

    Parameters
    ----------
    radius : `torch.Tensor`
        Shape (n, N).
    kind : `torch.Tensor`
        Shape (n,), index into ``CURVES``.
    speed, turnover, sharpness : `torch.Tensor`
        Shape (n,): asymptotic speed, turnover radius in the unit of ``radius``, and
        the sharpness of the turnover (Courteau's curve only).

    Returns
    -------
    `torch.Tensor`
        Shape (n, N), in the unit of ``speed``.
    """
    result = torch.empty_like(radius)
    for index, curve in enumerate(CURVES):
        rows = kind == index
        result[rows] = curve(
            radius[rows],
            speed[rows, None],
            turnover[rows, None],
            sharpness[rows, None],
        )
    return result
