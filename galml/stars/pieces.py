# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars, or the noise that becomes stars, on their way through a flow.

They go piece by piece. Noise is drawn in blocks of one size, each from a generator of
its own, so that a star depends on its galaxy and its number there alone. A piece of a
galaxy goes through the flow with the galaxy's conditions computed once; small pieces go
together.
"""

from collections import deque

import numpy as np
import torch

from galml.core.inference import infer, resolve_device
from galml.physics import generator_for

__all__ = [
    "BLOCK",
    "evaluate",
    "galaxy_keys",
    "noise_pieces",
    "rounded",
    "star_pieces",
]

#: Stars whose noise is drawn at once.
BLOCK = 16384
#: Stars that a thread of the CPU sends through a flow at once.
THREAD_STARS = 4096
#: Pieces with fewer stars go through the network together.
SMALL = 1024
#: Conditions closer than this are the same galaxy to the generators of noise.
RESOLUTION = 1e-6


def galaxy_keys(values, realization=None):
    """Make the key of the noise of each galaxy.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Conditions, shape (n, c).
    realization : `~numpy.ndarray` of int, optional
        Shape (n,): which of the galaxies with equal conditions each one is. By default
        how many of them come before it.

    Returns
    -------
    list of `torch.Tensor`
        What is the same wherever the galaxy stands: its rounded conditions, and its
        realization.
    """
    seen, keys = {}, []
    for place, row in enumerate(rounded(values)):
        number = seen[row.tobytes()] = seen.get(row.tobytes(), -1) + 1
        if realization is not None:
            number = realization[place]
        keys.append(torch.from_numpy(np.append(row, number)))
    return keys


def rounded(values):
    """Round conditions, so that galaxies that are hardly apart are the same.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, c); NaN is 0.

    Returns
    -------
    `~numpy.ndarray` of int
        Shape (n, c).
    """
    return np.nan_to_num(np.round(values / RESOLUTION)).astype(np.int64)


def noise_pieces(keys, counts, *, seed, features, size):
    """Draw the noise of galaxies, as pieces for `evaluate`.

    Parameters
    ----------
    keys : list of `torch.Tensor`
        Of `galaxy_keys`.
    counts : sequence of int
        Stars of each galaxy.
    seed : int
        Seed of all.
    features : int
        Axes of a star.
    size : int
        Largest number of stars of a piece.

    Yields
    ------
    galaxy : int
        Row of the galaxy.
    noise : `torch.Tensor`
        Standard normal, shape (m, features).
    """
    for galaxy, (key, count) in enumerate(zip(keys, counts, strict=True)):
        for start in range(0, int(count), BLOCK):
            generator = generator_for(seed, key, torch.tensor(start))
            block = torch.randn(BLOCK, features, generator=generator)
            for piece in block[: int(count) - start].split(size):
                yield galaxy, piece


def star_pieces(values, galaxy, *, size):
    """Sort stars by galaxy, as pieces for `evaluate`.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Shape (n, features).
    galaxy : `~numpy.ndarray`
        Shape (n,): row of each star's galaxy, ascending.
    size : int
        Largest number of stars of a piece.

    Yields
    ------
    galaxy : int
        Row of the galaxy.
    stars : `torch.Tensor`
        Shape (m, features).
    """
    borders = np.flatnonzero(np.diff(galaxy)) + 1
    for start, stop in zip([0, *borders], [*borders, len(galaxy)], strict=True):
        for piece in torch.from_numpy(values[start:stop]).split(size):
            if len(piece):
                yield int(galaxy[start]), piece


def evaluate(network, pieces, key, context, *, device, size, update):
    """Send pieces through a flow, in bounded memory.

    Parameters
    ----------
    network : `~galml.stars.network.Flow`
        The flow.
    pieces : iterable of tuple
        Row of a galaxy and a tensor of shape (m, features).
    key : {"noise", "stars"}
        What the pieces are.
    context : `~numpy.ndarray` or None
        Conditions of the galaxies, shape (galaxies, c).
    device : str or `torch.device`
        As in `~galml.core.inference.infer`.
    size : int
        Stars that the network sees at once.
    update : callable
        Called with the number of stars that are done.

    Yields
    ------
    galaxy : `~numpy.ndarray`
        Shape (m,): row of the galaxy of each star.
    result : `~numpy.ndarray`
        float32, stars of shape (m, features) or logarithms of densities, shape (m,).
        In the order of the pieces.
    """
    context = None if context is None else torch.from_numpy(context)
    device = resolve_device(device)
    length = min(size, THREAD_STARS) if device.type == "cpu" else size
    rows = deque()

    def batches():
        for galaxy, stars in _grouped(pieces, size):
            for part in _equal_blocks(len(stars), length):
                rows.append(galaxy[part])
                yield _batch(key, stars[part], galaxy[part], context, length)

    # Each block of stars is an object of the network.
    for output in infer(network, batches(), device=device, batch_size=1):
        (result,) = output.values()
        galaxy = rows.popleft()
        update(len(galaxy))
        yield galaxy, result.flatten(0, 1).numpy()


def _grouped(pieces, size):
    """Yield the galaxy of each star, and stars: small pieces together, others alone."""
    waiting = []

    def joined():
        galaxy = np.repeat([g for g, _ in waiting], [len(p) for _, p in waiting])
        return galaxy, torch.cat([piece for _, piece in waiting])

    for galaxy, piece in pieces:
        small = len(piece) < SMALL
        if waiting and not (small and sum(len(p) for _, p in waiting) < size):
            yield joined()
            waiting.clear()
        if small:
            waiting.append((galaxy, piece))
        else:
            yield np.full(len(piece), galaxy), piece
    if waiting:
        yield joined()


def _equal_blocks(number, length):
    """Yield the part of stars that fills blocks of a length, and the rest."""
    whole = number - number % length
    if whole:
        yield slice(0, whole)
    if number > whole:
        yield slice(whole, number)


def _batch(key, stars, galaxy, context, length):
    """Make the inputs of the network, blocks of stars of one galaxy or of several."""
    blocks = (-1, min(length, len(stars)))
    batch = {key: stars.unflatten(0, blocks)}
    if context is None:
        return batch
    galaxy = torch.from_numpy(galaxy).unflatten(0, blocks)
    if (galaxy == galaxy[0, 0]).all():
        galaxy = galaxy[:, 0]
    return batch | {"context": context[galaxy]}
