# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Seeds that depend on what they are for."""

import hashlib
import operator
import secrets

__all__ = ["fresh_seed", "generator_for", "stable_seed"]


def fresh_seed():
    """Draw a seed from the operating system's source of randomness.

    Returns
    -------
    int
        Between 0 and 2**31 - 1, so that every table format can hold it.
    """
    return secrets.randbits(31)


def stable_seed(*parts):
    """Hash integers, strings and tensors to one seed, the same everywhere.

    Parameters
    ----------
    *parts : int, str or `torch.Tensor`
        What the seed depends on, in order: a number of the user's, what it is for,
        and the object.

    Returns
    -------
    int
        Between 0 and 2**63 - 1.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if hasattr(part, "detach"):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            values = part.detach().cpu().contiguous().numpy()
            digest.update(values.reshape(-1).view("uint8"))
        else:
            part = part if isinstance(part, str) else operator.index(part)
            digest.update(f"{part!r};".encode())
    return int.from_bytes(digest.digest(), "little") >> 1


def generator_for(*parts):
    """Make a random generator for one purpose.

    Parameters
    ----------
    *parts : int, str or `torch.Tensor`
        As for `stable_seed`.

    Returns
    -------
    `torch.Generator`
        On the CPU.
    """
    import torch

    return torch.Generator().manual_seed(stable_seed(*parts))
