# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Autoencoders, which put the image of a galaxy into a few numbers."""

import itertools

import torch
from torch import nn

__all__ = [
    "ENCODERS",
    "GalacticForgeEncoder",
    "SmallEncoder",
    "reconstruction_loss",
]


class _Autoencoder(nn.Module):
    """Strided convolutions to latents, and transposed ones back."""

    #: Latents of an image.
    n_latent = 16
    #: Pixels a side of the images.
    n_pixels = 0

    def __init__(self, channels, final):
        super().__init__()
        n_pixels = self.n_pixels
        steps = list(itertools.pairwise((3, *channels)))
        side = n_pixels // 2 ** len(steps)
        flat = channels[-1] * side**2
        down, up = [], []
        for before, after in steps:
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        for before, after in reversed(steps):
            up += [nn.ReLU(), nn.ConvTranspose2d(after, before, 4, 2, padding=1)]
        self.encoder = nn.Sequential(
            *down, nn.Flatten(), nn.Linear(flat, self.n_latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.n_latent, flat),
            nn.Unflatten(1, (channels[-1], side, side)),
            *up,
            final,
        )

    def encode(self, images):
        """
        Compute the latents of images.

        Parameters
        ----------
        images : `torch.Tensor`
            Shape (n, 3, n_pixels, n_pixels).

        Returns
        -------
        `torch.Tensor`
            Shape (n, 16).
        """
        return self.encoder(images)

    def decode(self, latents):
        """
        Compute the images of latents.

        Parameters
        ----------
        latents : `torch.Tensor`
            Shape (n, 16).

        Returns
        -------
        `torch.Tensor`
            Shape (n, 3, n_pixels, n_pixels).
        """
        return self.decoder(latents)

    def forward(self, inputs):
        """
        Encode images and decode them again.

        Parameters
        ----------
        inputs : dict of `torch.Tensor`
            ``image``, shape (n, 3, n_pixels, n_pixels).

        Returns
        -------
        dict of `torch.Tensor`
            ``latent``, shape (n, 16), and ``reconstruction``, like the image.
        """
        latent = self.encode(inputs["image"])
        return {"latent": latent, "reconstruction": self.decode(latent)}


class SmallEncoder(_Autoencoder):
    """The default: images of 64 by 64 pixels, 0.2 million parameters."""

    n_pixels = 64

    def __init__(self):
        super().__init__((16, 32, 64, 64), nn.Identity())


class GalacticForgeEncoder(_Autoencoder):
    """
    The published autoencoder (GalacticForge): 448 by 448 pixels from 0 to 1.

    Six convolutions to 2048 channels, 93 million parameters.
    """

    n_pixels = 448

    def __init__(self):
        super().__init__((64, 128, 256, 512, 1024, 2048), nn.Sigmoid())


#: The encoders by name.
ENCODERS = {"small": SmallEncoder, "galacticforge": GalacticForgeEncoder}


def reconstruction_loss(network, batch):
    """Compute the mean squared error of the decoded images."""
    outputs = network({"image": batch["image"]})
    return {"loss": torch.mean((outputs["reconstruction"] - batch["image"]) ** 2)}
