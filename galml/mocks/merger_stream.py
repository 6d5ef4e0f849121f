# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stream of galaxies that meet and merge, seen from many sides."""

import torch

from galml.core.exceptions import InputError
from galml.mocks.galaxy import random_orientation
from galml.mocks.merger_recipe import build_mergers, draw_mergers
from galml.physics.seeds import generator_for

__all__ = ["merger_galaxies"]


def merger_galaxies(
    n_batches,
    *,
    batch_size=32,
    seed=0,
    snapshots=4,
    views=2,
    n_particles=12_000,
    clumpy=0.0,
    triples=0.1,
    first=0,
):
    """Stream galaxies of the population of mergers.

    Parameters
    ----------
    n_batches : int
        Number of batches.
    batch_size : int
        Galaxies in a batch: encounters times snapshots times views.
    seed : int
        Batch ``i`` depends on ``seed`` and ``i`` alone.
    snapshots : int
        Moments at which each encounter is looked at, in consecutive rows.
    views : int
        Directions from which each snapshot is looked at, in consecutive rows.
    n_particles : int
        Particles of stars of an encounter.
    clumpy : float
        Share of encounters of clumpy disks, see `~galml.mocks.draw_clumpy`.
    triples : float
        Share of batches in which three galaxies meet.
    first : int
        Index of the first batch, to go on where another stream ended.

    Yields
    ------
    galaxy : `~galml.mocks.Galaxy`
        Turned as they are seen.
    truth : `~galml.mocks.MergerTruth`
        What is known of each.
    encounter : `torch.Tensor`
        Shape (batch_size,): the encounter that a row is of; no two of a stream have the
        same.

    Raises
    ------
    galml.core.InputError
        If a number is not positive, or snapshots and views do not divide the batch.

    Examples
    --------
    >>> from galml.mocks import merger_galaxies
    >>> galaxy, truth, encounter = next(
    ...     merger_galaxies(1, batch_size=2, snapshots=1, n_particles=800, triples=0)
    ... )
    >>> len(galaxy), len(truth), encounter.tolist()
    (2, 2, [0, 0])
    """
    for name, value in (("n_batches", n_batches), ("snapshots", snapshots)):
        if value < 1:
            raise InputError(name, value, "a positive number")
    if views < 1 or batch_size < 1 or batch_size % (snapshots * views):
        expected = f"a multiple of snapshots * views = {snapshots * views}"
        raise InputError("batch_size", batch_size, expected)
    n = batch_size // (snapshots * views)
    for index in range(first, first + n_batches):
        generator = generator_for(seed, "mergers", index)
        met = 3 if float(torch.rand((), generator=generator)) < triples else 2
        p = draw_mergers(
            n, generator, n_galaxies=met, snapshots=snapshots, clumpy=clumpy
        )
        galaxy, truth = build_mergers(p, n_particles, generator)
        rows = torch.arange(batch_size) // views
        turn = random_orientation(batch_size, generator)
        yield galaxy[rows].rotated(turn), truth[rows], index * n + rows // snapshots
