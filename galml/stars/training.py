# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Loss and augmentation of the flows."""

import math

import torch

__all__ = ["Augmentation", "StarLoss"]

#: Share of the stars that are shown without their galaxy's latents.
WITHOUT = 0.5


class StarLoss:
    """
    Mean negative log-likelihood of stars, in physical units.

    Parameters
    ----------
    contexts : `torch.Tensor` or None
        Conditions and latents of each galaxy, shape (galaxies, c); None without
        conditions.
    """

    def __init__(self, contexts):
        self.contexts = contexts

    def __call__(self, network, batch):
        """Give the loss of a batch: ``stars`` and the row ``galaxy`` of each."""
        context = None
        if self.contexts is not None:
            # Small, and the device is known from the batch alone.
            self.contexts = self.contexts.to(batch["stars"].device)
            context = self.contexts[batch["galaxy"]]
        if "jitter" in batch:
            context = context + batch["jitter"]
        return {"loss": -network.log_prob(batch["stars"], context).mean()}


class Augmentation:
    """
    What may be changed at random about the stars that are shown.

    Parameters
    ----------
    turned : sequence of int, optional
        Places of x, y, v_x and v_y: turned about the axis by any angle.
    mirrored : sequence of int, optional
        Places of axes whose signs change together: z and v_z.
    jitter : `torch.Tensor`, optional
        Shape (c,): spread of the noise added to each condition, latents included.
    latent : int, optional
        Number of latents, the last conditions, which half of the stars go without.
    """

    def __init__(self, turned=(), mirrored=(), jitter=None, latent=0):
        self.turned, self.mirrored = list(turned), list(mirrored)
        self.jitter, self.latent = jitter, latent

    def __bool__(self):
        return bool(self.turned or self.mirrored or self.jitter is not None)

    def __call__(self, batch, generator):
        """Give a new batch, from a generator on its device."""
        stars = batch["stars"].clone()
        count, device = len(stars), stars.device

        def draw(*shape):
            return torch.rand(*shape, generator=generator, device=device)

        if self.turned:
            angle = 2 * math.pi * draw(count)
            cos, sin = angle.cos(), angle.sin()
            for first, second in (self.turned[:2], self.turned[2:]):
                a, b = batch["stars"][:, first], batch["stars"][:, second]
                stars[:, first], stars[:, second] = a * cos - b * sin, a * sin + b * cos
        if self.mirrored:
            sign = torch.where(draw(count) < 0.5, -1.0, 1.0)
            stars[:, self.mirrored] *= sign[:, None]
        batch = batch | {"stars": stars}
        if self.jitter is not None:
            batch["jitter"] = self._noise(count, generator, draw)
        return batch

    def _noise(self, count, generator, draw):
        """Noise of conditions; NaN hides latents."""
        spread = self.jitter.to(generator.device)
        noise = spread * torch.randn(
            count, len(spread), generator=generator, device=generator.device
        )
        if self.latent:
            noise[draw(count) < WITHOUT, -self.latent :] = math.nan
        return noise
