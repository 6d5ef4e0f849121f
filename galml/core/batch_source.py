# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where a training gets its batches."""

import math

import torch

from galml.core.exceptions import InputError

__all__ = ["BatchSource"]


class BatchSource:
    """Batches from tensors in memory or from a stream, seen as the same thing."""

    def __init__(self, source, argument, batch_size):
        self.source = source
        self.description, self.steps = "stream", None
        if callable(source):
            return
        sizes = {k: t.shape[0] if t.ndim else 0 for k, t in source.items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            expected = "tensors with the same number of objects, at least 1"
            raise InputError(argument, f"first axes {sizes}", expected)
        self.size = next(iter(sizes.values()))
        # Batches of nearly equal size: a last batch of one breaks batch norms.
        self.steps = math.ceil(self.size / batch_size)
        self.description = {
            k: [str(t.dtype), *t.shape] for k, t in sorted(source.items())
        }

    def batches(self, epoch, generator=None):
        """Return the number of batches, where known, and an iterator over them."""
        if self.steps is None:
            stream = self.source(epoch)
            return (len(stream) if hasattr(stream, "__len__") else None), iter(stream)
        order = torch.arange(self.size)
        if generator is not None:
            order = torch.randperm(self.size, generator=generator)
        parts = order.tensor_split(self.steps)
        batches = ({k: t[part] for k, t in self.source.items()} for part in parts)
        return self.steps, batches
