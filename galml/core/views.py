# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Symmetry views: what a network may be shown instead, and how to undo it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

__all__ = ["View", "dihedral_views"]


def _unchanged(tensors):
    return tensors


@dataclass(frozen=True)
class View:
    """
    A transformation of the inputs of a network, and its inverse on the outputs.

    Parameters
    ----------
    apply : callable, optional
        Takes the inputs, a dict of tensors, and returns the transformed ones. It must
        not change what it is given.
    restore : callable, optional
        Takes the outputs for transformed inputs, a dict of tensors, and returns those
        for the inputs as they were.
    """

    apply: Callable = _unchanged
    restore: Callable = _unchanged


def dihedral_views(*, images=(), vectors=(), odd=()):
    """
    Make the eight views of a square: quarter turns, and their mirror images.

    Parameters
    ----------
    images : sequence of str
        Inputs to transform, of shape (..., y, x), with y upward along axis -2 and x
        to the right along axis -1. Other inputs are passed on.
    vectors : sequence of str
        Outputs of shape (..., 2): cosine and sine, or any multiple of them, of an
        angle that counts counter-clockwise from +y and turns with the image.
    odd : sequence of str
        Outputs that change sign in a mirror, such as a sense of rotation. Other
        outputs are the same in all views.

    Returns
    -------
    tuple of View
        The first one is the identity.
    """
    options = [(turns, mirror) for mirror in (False, True) for turns in range(4)]
    return tuple(
        View(
            partial(_transform, images=tuple(images), turns=turns, mirror=mirror),
            partial(
                _restore,
                vectors=tuple(vectors),
                odd=tuple(odd),
                turns=turns,
                mirror=mirror,
            ),
        )
        for turns, mirror in options
    )


def _transform(inputs, *, images, turns, mirror):
    """Turn counter-clockwise by quarters, then swap left and right."""
    inputs = dict(inputs)
    for key in images:
        # From x to y is counter-clockwise, because y points upward.
        image = torch.rot90(inputs[key], turns, (-1, -2))
        inputs[key] = image.flip(-1) if mirror else image
    return inputs


def _restore(outputs, *, vectors, odd, turns, mirror):
    """Mirror angles back, then turn them clockwise by quarters."""
    outputs = dict(outputs)
    for key in vectors:
        cosine, sine = outputs[key].unbind(-1)
        sine = -sine if mirror else sine
        for _ in range(turns):
            cosine, sine = sine, -cosine
        outputs[key] = torch.stack([cosine, sine], dim=-1)
    if mirror:
        for key in odd:
            outputs[key] = -outputs[key]
    return outputs
