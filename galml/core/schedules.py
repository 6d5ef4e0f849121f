# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How the learning rate changes in the course of a training."""

import math

__all__ = ["cycle", "plateau"]

PLATEAU_STEP = 1e-4
PLATEAU_EPOCHS = 5
LOWEST_RATE = 1e-5


def cycle(fraction, warmup):
    """Learning rate in units of its peak, at a fraction of the training."""
    if fraction < warmup:
        return fraction / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (fraction - warmup) / (1 - warmup))


def plateau(learning_rate, losses):
    """Learning rate after epochs with these validation losses."""
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - PLATEAU_STEP:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == PLATEAU_EPOCHS:
            learning_rate, waited = max(0.2 * learning_rate, LOWEST_RATE), 0
    return learning_rate
