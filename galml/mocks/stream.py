# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Streams of mock observations: a training set is a recipe, not a file."""

import math

import torch

from galml.core.exceptions import InputError
from galml.mocks.gas import build_gas, draw_gas, random_orientation
from galml.mocks.observe import observe_gas

__all__ = ["gas_maps"]

# Share of batches, pixels a side, particles, and range of beams across the gas.
GRIDS = (
    (0.08, 20, 1536, 3, 5),
    (0.32, 32, 2048, 3, 9),
    (0.23, 48, 3072, 9, 16),
    (0.14, 64, 4096, 16, 28),
    (0.23, 96, 8192, 28, 60),
)
MIN_PIXELS = 12


def gas_maps(n_batches, *, batch_size=128, seed=0, noisy=None, first=0):
    """Stream mock velocity maps of the gas population.

    Parameters
    ----------
    n_batches : int
        Number of batches.
    batch_size : int
        Galaxies in a batch, before the few that show fewer than 12 pixels are
        dropped. All maps of a batch have the same number of pixels.
    seed : int
        Batch ``i`` depends on ``seed`` and ``i`` alone.
    noisy : bool, optional
        Add noise and damage to every map or to none. By default three batches of
        four have them.
    first : int
        Index of the first batch, to go on where another stream ended.

    Yields
    ------
    parameters : dict of str to `torch.Tensor`
        What the galaxies were made from, see `~galml.mocks.draw_gas`.
    maps : `~galml.mocks.GasMaps`
        Their observations and the truth.

    Raises
    ------
    galml.core.InputError
        If a number is not positive.
    """
    for name, value in (("n_batches", n_batches), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(name, value, "a positive integer")
    shares = torch.tensor([grid[0] for grid in GRIDS])
    for index in range(first, first + n_batches):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        choice = int(torch.multinomial(shares, 1, generator=generator))
        _, n_pixels, n_particles, low, high = GRIDS[choice]
        clean = torch.rand(1, generator=generator).item() < 0.25
        parameters = draw_gas(batch_size, generator)
        particles = build_gas(parameters, n_particles, generator)
        particles = particles.rotated(random_orientation(batch_size, generator))
        draw = torch.rand(batch_size, generator=generator)
        across = low * torch.exp(draw * math.log(high / low))
        maps = observe_gas(
            particles,
            parameters["radius"],
            across,
            n_pixels,
            generator,
            noisy=not clean if noisy is None else noisy,
        )
        seen = torch.isfinite(maps.velocity).sum((1, 2)) >= MIN_PIXELS
        seen &= torch.isfinite(maps.truth.kappa)
        yield {key: value[seen] for key, value in parameters.items()}, maps[seen]
