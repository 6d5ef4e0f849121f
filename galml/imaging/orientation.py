# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images as seen from one of their sides, whichever way they came.

Single precision rounds in another way what is turned or mirrored, and what follows,
such as the direction of the major axis of a round galaxy, may magnify that. An image
that is brought to one orientation first is prepared alike to the last bit.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

__all__ = ["prepare_from_one_side"]


def prepare_from_one_side(images, prepare):
    """Prepare images in one of their eight orientations, and turn the results back.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        Images of one shape; they are not changed.
    prepare : callable
        Takes such images, and gives a `~galml.imaging.aligned.Prepared`.

    Returns
    -------
    `~galml.imaging.aligned.Prepared`
        As ``prepare(images)`` but for rounding.
    """
    moves = _moves(images.values)
    prepared = prepare(_moved(images, moves))
    frame, upside, around = _frame_back(prepared.frame, images.values.shape, moves)
    tensors = {
        key: _mirrored(tensor, upside, around) if tensor.ndim == 4 else tensor
        for key, tensor in vars(prepared).items()
    }
    return type(prepared)(**tensors | {"frame": frame})


@dataclass
class _Moves:
    """How images are brought to one orientation: mirrored, then transposed.

    Attributes
    ----------
    right, top : `~numpy.ndarray`
        Shape (n,): 1, or -1 for those that are mirrored left to right, top to bottom.
    across : `~numpy.ndarray`
        Shape (n,): whether columns become rows.
    """

    right: np.ndarray
    top: np.ndarray
    across: np.ndarray


def _moves(values):
    """Find the moves by which more light is right than left, and top than bottom.

    Of both differences the one along x is then the larger; images that are not square
    lie.
    """
    light = np.nan_to_num(values, nan=0.0).sum(1, dtype=float)
    ny, nx = light.shape[1:]
    columns, rows = light.sum(1), light.sum(2)
    right = columns[:, (nx + 1) // 2 :].sum(1) - columns[:, : nx // 2].sum(1)
    top = rows[:, (ny + 1) // 2 :].sum(1) - rows[:, : ny // 2].sum(1)
    across = np.abs(top) > np.abs(right) if ny == nx else np.full(len(light), ny > nx)
    return _Moves(np.where(right < 0, -1, 1), np.where(top < 0, -1, 1), across)


def _moved(images, moves):
    """Mirror and transpose images, and their centers with them."""
    ny, nx = images.values.shape[-2:]
    x, y = images.center.T
    x = np.where(moves.right < 0, nx - 1 - x, x)
    y = np.where(moves.top < 0, ny - 1 - y, y)
    center = np.where(moves.across[:, None], np.stack([y, x], 1), np.stack([x, y], 1))
    parts = {"values": images.values, "colors": images.colors}
    parts = {
        key: None if planes is None else _planes(planes, moves)
        for key, planes in parts.items()
    }
    return replace(images, **parts, center=center)


def _planes(planes, moves):
    """Mirror and transpose planes, shape (n, k, ny, nx)."""
    moved, columns = [], (moves.right, moves.top, moves.across)
    for one, right, top, across in zip(planes, *columns, strict=True):
        one = one[:, ::top, ::right]
        moved.append(np.swapaxes(one, 1, 2) if across else one)
    return np.stack(moved)


def _frame_back(frame, shape, moves):
    """Tell where squares lie in the images as they came.

    Gives frames, and whether aligned images are to be turned upside down and by half a
    turn: directions of the major axis are between -90 and 90 degrees.
    """
    ny, nx = shape[-2:]
    right, top = torch.from_numpy(moves.right), torch.from_numpy(moves.top)
    across = torch.from_numpy(moves.across)
    frame = frame.clone()
    x, y = frame[:, 0], frame[:, 1]
    x, y = torch.where(across, y, x), torch.where(across, x, y)
    frame[:, 0] = torch.where(right < 0, nx - 1 - x, x)
    frame[:, 1] = torch.where(top < 0, ny - 1 - y, y)
    cosine, sine = frame[:, 3].cos(), frame[:, 3].sin()
    cosine, sine = (
        torch.where(across, sine, cosine) * right,
        torch.where(across, cosine, sine) * top,
    )
    around = (cosine < 0) | ((cosine == 0) & (sine < 0))
    sign = torch.where(around, -1.0, 1.0)
    frame[:, 3] = torch.atan2(sign * sine, sign * cosine)
    upside = (right * top < 0) != across
    return frame, upside, around


def _mirrored(image, upside, around):
    """Turn aligned images upside down, and by half a turn."""
    image = image.clone()
    image[upside] = image[upside].flip(-2)
    image[around] = image[around].flip((-2, -1))
    return image
