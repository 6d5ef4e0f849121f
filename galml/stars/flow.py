# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all flows have in common: conditions, units, densities and samples."""

import math

import torch
from torch import nn

from galml.core.exceptions import InputError, ModelError
from galml.stars.encoder import ENCODERS
from galml.stars.scaling import StarScaling

__all__ = ["Flow"]

#: Standardized conditions farther out than this count as this far: the flow then
#: answers for the nearest galaxies that it may know.
FARTHEST = 4.0


class Flow(nn.Module):
    """
    Density of the stars of a galaxy, given the galaxy's conditions.

    Base of all architectures. A subclass makes its own layers in `build`, and has the
    two directions `transform` and `invert` between standardized stars and normal
    numbers.

    Parameters
    ----------
    features : int, optional
        Number of axes of a star.
    context : int, optional
        Number of conditions of a galaxy; 0 for none.
    kinds : sequence, optional
        Kind of each axis, see `~galml.stars.scaling.StarScaling`; all "linear" by
        default.
    latent : int, optional
        Number of further conditions that a galaxy may have or lack as a whole, such as
        latents of its image: NaN where they lack.
    encoder : str, optional
        One of `~galml.stars.encoder.ENCODERS`, which gives these latents.
    cylinder : sequence of int, optional
        Places of x, y, v_x and v_y, of stars whose density is the same in all
        directions of the plane: see `~galml.stars.scaling.StarScaling`. By default the
        axes are taken as they are.
    whiten : bool, optional
        Whether center and scale of the stars follow the conditions before the flow
        itself does, and linear correlations are taken out.
    flag : bool, optional
        Whether the layers are told if the latents lack, beside getting zeros.
    **options
        Of the architecture, see ``build``.

    Raises
    ------
    galml.core.InputError
        If the number of kinds is not the number of axes.
    """

    def __init__(
        self,
        features=10,
        context=4,
        kinds=None,
        latent=0,
        encoder=None,
        cylinder=None,
        whiten=False,
        flag=True,
        **options,
    ):
        super().__init__()
        kinds = ["linear"] * features if kinds is None else kinds
        if len(kinds) != features:
            raise InputError("kinds", f"{len(kinds)} kinds", f"{features}")
        if encoder not in (None, *ENCODERS):
            raise InputError("encoder", repr(encoder), f"None or one of {[*ENCODERS]}")
        self.features, self.context, self.latent = features, context, latent
        followed = context if whiten else 0
        self.scaling = StarScaling(kinds, followed, cylinder, whiten)
        self.register_buffer("context_mean", torch.zeros(context + latent))
        self.register_buffer("context_scale", torch.ones(context + latent))
        # Where all directions are alike, the azimuth is no business of the layers.
        aside = () if cylinder is None else (cylinder[1],)
        self.active = [i for i in range(features) if i not in aside]
        self.aside = list(aside)
        self.flag = flag and latent > 0
        given = context + latent + self.flag
        self.build(len(self.active), given, **options)
        if encoder is not None:
            self.encoder = ENCODERS[encoder]()
            self.encoder.requires_grad_(False)

    def build(self, features, context, **options):
        """Make the layers for so many standardized axes and conditions."""
        raise NotImplementedError

    def condition(self, context):
        """Compute what depends on the galaxy alone; context may be None."""
        return context

    def transform(self, standard, condition):
        """Map standardized stars (n, d) to normal numbers and log|det J|, (n,)."""
        raise NotImplementedError

    def invert(self, normal, condition):
        """Undo `transform`."""
        raise NotImplementedError

    @torch.no_grad()
    def fit_scaling(self, values, contexts=None, galaxy=None):
        """
        Learn center and scale of stars and conditions.

        Parameters
        ----------
        values : `torch.Tensor`
            Physical stars, shape (n, d), within the bounds.
        contexts : `torch.Tensor`, optional
            Physical conditions of each galaxy, shape (galaxies, c); NaN where latents
            are not known.
        galaxy : `torch.Tensor`, optional
            Row of the galaxy of each star, shape (n,), integer.
        """
        if contexts is None:
            self.scaling.fit(values)
            return
        for place, column in enumerate(contexts.double().unbind(-1)):
            column = column[column.isfinite()]
            if len(column):
                self.context_mean[place] = column.mean()
                spread = column.std(correction=0)
                self.context_scale[place] = spread if spread > 1e-6 else 1.0
        standard = self._standard_context(contexts)[:, : self.context]
        self.scaling.fit(values, standard[galaxy])

    def log_prob(self, values, context=None):
        """
        Natural logarithm of the density of stars, per unit of every axis.

        Parameters
        ----------
        values : `torch.Tensor`
            Physical stars, shape (n, d).
        context : `torch.Tensor`, optional
            Physical conditions, shape (n, c), or (1, c) for stars of one galaxy.

        Returns
        -------
        `torch.Tensor`
            Shape (n,); minus infinity outside the bounds.

        Raises
        ------
        galml.core.ModelError
            If the conditions are not those of the model.
        """
        followed = self._followed(context)
        inside = self.scaling.inside(values)
        within = torch.where(inside[:, None], values, self._possible(values))
        standard, log_det = self.scaling(within, followed)
        log_prob = self.standard_log_prob(standard, context) + log_det
        return torch.where(inside, log_prob, -math.inf)

    def standard_log_prob(self, standard, context=None):
        """
        Natural logarithm of the density of standardized stars.

        Parameters
        ----------
        standard : `torch.Tensor`
            Shape (n, d), as ``scaling`` gives them.
        context : `torch.Tensor`, optional
            Physical conditions, shape (n, c) or (1, c).

        Returns
        -------
        `torch.Tensor`
            Shape (n,).
        """
        condition = self.condition(self._flow_context(context))
        normal, log_det = self.transform(standard[:, self.active], condition)
        normal = torch.cat((normal, standard[:, self.aside]), -1)
        constant = 0.5 * self.features * math.log(2 * math.pi)
        return log_det - 0.5 * normal.square().sum(-1) - constant

    def sample(self, noise, context=None):
        """
        Turn noise into stars.

        Parameters
        ----------
        noise : `torch.Tensor`
            Independent standard normal numbers, shape (n, d).
        context : `torch.Tensor`, optional
            Physical conditions, shape (n, c), or (1, c) for stars of one galaxy, which
            are then computed with once.

        Returns
        -------
        `torch.Tensor`
            Physical stars, shape (n, d), strictly within the bounds.
        """
        condition = self.condition(self._flow_context(context))
        standard = torch.empty_like(noise)
        standard[:, self.active] = self.invert(noise[:, self.active], condition)
        standard[:, self.aside] = noise[:, self.aside]
        return self.scaling.inverse(standard, self._followed(context))

    def forward(self, inputs):
        """
        Sample or evaluate, for `galml.core.inference.infer`.

        Parameters
        ----------
        inputs : dict of `torch.Tensor`
            ``noise`` or ``stars``, shape (n, d), and ``context``, shape (n, c), where
            the model has conditions. With ``noise`` or ``stars`` of shape (b, m, d),
            ``context``, shape (b, c), is that of each block of m stars.

        Returns
        -------
        dict of `torch.Tensor`
            ``stars`` for noise, ``log_prob`` for stars.
        """
        key, result, function = (
            ("noise", "stars", self.sample)
            if "noise" in inputs
            else ("stars", "log_prob", self.log_prob)
        )
        rows, context = inputs[key], inputs.get("context")
        if rows.ndim == 2:
            return {result: function(rows, context)}
        if context is None:
            return {result: function(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])}
        blocks = zip(rows, context.split(1), strict=True)
        return {result: torch.stack([function(*block) for block in blocks])}

    def _standard_context(self, context):
        """Standardize conditions; far ones are pulled in."""
        number = self.context + self.latent
        if context is None or context.shape[-1] != number:
            got = "none" if context is None else f"{context.shape[-1]}"
            raise ModelError(f"{got} conditions, but the model has {number}")
        standard = (context - self.context_mean) / self.context_scale
        return standard.to(self.context_mean.dtype).clamp(-FARTHEST, FARTHEST)

    def _followed(self, context):
        """Conditions that center and scale follow."""
        if not self.context + self.latent:
            return None
        return self._standard_context(context)[:, : self.context]

    def _flow_context(self, context):
        """Conditions for the layers: latents that lack are zero, as a flag tells."""
        if not self.context + self.latent:
            return None
        standard = self._standard_context(context)
        given, latent = standard.split((self.context, self.latent), -1)
        known = ~latent.isnan().any(-1, keepdim=True)
        parts = [given, torch.where(known, latent, 0.0)]
        return torch.cat([*parts, known.to(given.dtype)] if self.flag else parts, -1)

    def _possible(self, values):
        """Give some star within the bounds, to compute with in place of others."""
        center = torch.zeros(1, self.features, dtype=self.context_mean.dtype)
        center = center.to(values.device)
        context = torch.zeros(1, self.context, dtype=center.dtype, device=center.device)
        return self.scaling.inverse(center, context).to(values.dtype)
