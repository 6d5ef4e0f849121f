# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Layers that networks of several domains are built from."""

import torch
from torch import nn

__all__ = ["Residual", "down", "standardize"]


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x):
        """Map (n, width, y, x) to the same shape."""
        y = torch.relu(self.norm1(self.first(x)))
        return torch.relu(x + self.norm2(self.second(y)))


def down(inputs, outputs):
    """Halve the image and change its number of channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def standardize(network, scalars):
    """Give a network the mean and spread of the numbers that it will see."""
    network.mean.copy_(scalars.mean(0))
    network.spread.copy_(scalars.std(0).clamp_min(0.05))
