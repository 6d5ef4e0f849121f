# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Averages over area, from the pixels of an image to the cells of another grid."""

import torch

__all__ = ["overlap"]


def overlap(size, start, step, cells):
    """Length of each pixel inside each cell, along one axis.

    Parameters
    ----------
    size : int
        Number of pixels; pixel i reaches from i - 0.5 to i + 0.5.
    start, step : `torch.Tensor`
        Shape (n,): where the first cell begins, and how long cells are, in pixels.
    cells : int
        Number of cells.

    Returns
    -------
    `torch.Tensor`
        Shape (n, cells, size).
    """
    low = start[:, None] + step[:, None] * torch.arange(cells)
    pixel = torch.arange(size) - 0.5
    upper = torch.minimum((low + step[:, None])[..., None], pixel + 1)
    return (upper - torch.maximum(low[..., None], pixel)).clamp_min(0)
