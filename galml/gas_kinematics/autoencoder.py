# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published autoencoder of velocity maps."""

from torch import nn

__all__ = ["MerlinAutoencoder"]


class MerlinAutoencoder(nn.Module):
    """
    Convolutional autoencoder of scaled velocity maps (MERLIN).

    The encoder has four 3x3 convolutions, a max-pooling after every second one,
    and a linear layer to three latents. The decoder mirrors it, and unpools with
    the positions of the maxima that the encoder found. Members have the names of
    the published checkpoint.

    References
    ----------
    Dawson et al. 2020, MNRAS 491, 2506.
    """

    #: Pixels on a side of the maps that the network takes.
    pixels = 64
    #: Size of the latent space.
    n_latent = 3

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 16, 3, padding=1)
        self.lc1 = nn.Linear(16 * 16 * 16, self.n_latent)
        self.lc2 = nn.Linear(self.n_latent, 16 * 16 * 16)
        self.trans1 = nn.ConvTranspose2d(16, 16, 3, padding=1)
        self.trans2 = nn.ConvTranspose2d(16, 8, 3, padding=1)
        self.trans3 = nn.ConvTranspose2d(8, 8, 3, padding=1)
        self.trans4 = nn.ConvTranspose2d(8, 1, 3, padding=1)
        self.mp = nn.MaxPool2d(2, return_indices=True)
        self.up = nn.MaxUnpool2d(2)
        self.relu = nn.ReLU()

    def encode(self, maps):
        """
        Latents of maps.

        Parameters
        ----------
        maps : torch.Tensor
            Scaled maps, shape (n, 1, 64, 64), values from -1 to 1.

        Returns
        -------
        torch.Tensor
            Latents, shape (n, 3).
        """
        return self._encode(maps)[0]

    def forward(self, inputs, *, reconstruct=None):
        """
        Encode the maps and, where asked, decode them again.

        Parameters
        ----------
        inputs : dict of torch.Tensor
            ``image``: scaled maps, shape (n, 1, 64, 64).
        reconstruct : bool, optional
            Whether to run the decoder. By default only while training.

        Returns
        -------
        dict of torch.Tensor
            ``latent``, shape (n, 3), and when decoded ``reconstruction``, shape
            (n, 1, 64, 64).
        """
        latent, inner, outer = self._encode(inputs["image"])
        outputs = {"latent": latent}
        if self.training if reconstruct is None else reconstruct:
            outputs["reconstruction"] = self._decode(latent, inner, outer)
        return outputs

    def _encode(self, maps):
        x = self.relu(self.conv2(self.relu(self.conv1(maps))))
        x, outer = self.mp(x)
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        x, inner = self.mp(x)
        return self.lc1(x.flatten(1)), inner, outer

    def _decode(self, latent, inner, outer):
        x = self.lc2(latent).unflatten(1, (16, 16, 16))
        x = self.relu(self.up(x, inner))
        x = self.trans2(self.relu(self.trans1(x)))
        x = self.relu(self.up(x, outer))
        return self.trans4(self.relu(self.trans3(x)))
