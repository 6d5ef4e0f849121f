# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The scale of brightness on which networks see images."""

import torch

__all__ = ["asinh_stretch", "box_mean"]


def asinh_stretch(values, softening=1.0):
    r"""Map brightness to a scale that is linear if faint and logarithmic if bright.

    .. math:: \operatorname{asinh}(x) = \pm \ln(|x| + \sqrt{1 + x^2})

    Parameters
    ----------
    values : `torch.Tensor`
        Brightness.
    softening : float or `torch.Tensor`
        Brightness, above 0, at which linear turns into logarithmic.

    Returns
    -------
    `torch.Tensor`
        asinh(values / softening), to the absolute precision of a float (Lupton, Gunn &
        Szalay 1999, AJ 118, 1406).
    """
    x = values / softening
    # Unlike `torch.asinh`, these run on all lanes of a processor.
    size = x.abs()
    return size.square().add_(1.0).sqrt_().add_(size).log_().copysign_(x)


def box_mean(images, width):
    """Average images over squares, or what is inside the image of these.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (..., y, x), square.
    width : int
        Side of the squares in cells; odd.

    Returns
    -------
    `torch.Tensor`
        The same shape.
    """
    place = torch.arange(images.shape[-1], device=images.device)
    near = ((place[:, None] - place).abs() <= width // 2).to(images.dtype)
    mean = near / near.sum(1, keepdim=True)
    return mean @ images @ mean.T
