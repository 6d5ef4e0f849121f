# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The flows of stars: what all have in common, the default one, and ensembles."""

import math

import torch
from torch import nn
from torch.nn.functional import pad

from galml.core.domain import find_architecture, find_object
from galml.core.exceptions import InputError, ModelError
from galml.stars.encoder import ENCODERS
from galml.stars.scaling import StarScaling

__all__ = [
    "Ensemble",
    "Flow",
    "Spline",
    "StarFlow",
    "context_moments",
    "divide",
    "n_parameters",
]

#: Standardized conditions farther out than this count as this far: the flow then
#: answers for the nearest galaxies that it may know.
CONTEXT_LIMIT = 4.0
#: Splines act within this distance from zero.
BOUND = 5.0
#: Smallest slope at a knot; bins are no narrower than its square root allows.
SMALLEST_SLOPE = 1e-3
#: Farthest normal number that comes out of a division of others.
NORMAL_LIMIT = 8.0


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
        latents of its image: NaN where they are missing.
    encoder : str, optional
        One of `~galml.stars.encoder.ENCODERS`, which gives these latents.
    cylinder : sequence of int, optional
        Places of x, y, v_x and v_y, of stars whose density is the same in all
        directions of the plane: see `~galml.stars.scaling.StarScaling`. By default the
        axes are taken as they are.
    whiten : bool, optional
        Whether center and scale of the stars follow the conditions before the flow
        itself does, and linear correlations are taken out.
    limits : dict, optional
        How far from the center and how fast stars are at most, by the conditions; see
        `~galml.stars.scaling.StarScaling`. By default there are no such limits.
    flag : bool, optional
        Whether the layers also see a number that is 1 where the latents are known and
        0 where they are missing, and zero in their place.
    **architecture
        Arguments of ``build``, which each architecture spells out.

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
        limits=None,
        flag=True,
        **architecture,
    ):
        super().__init__()
        kinds = ["linear"] * features if kinds is None else kinds
        if len(kinds) != features:
            raise InputError("kinds", f"{len(kinds)} kinds", f"{features}")
        if encoder not in (None, *ENCODERS):
            raise InputError("encoder", repr(encoder), f"None or one of {[*ENCODERS]}")
        self.features, self.context, self.latent = features, context, latent
        followed = context if whiten else 0
        self.scaling = StarScaling(kinds, followed, cylinder, whiten, limits)
        self.register_buffer("context_mean", torch.zeros(context + latent))
        self.register_buffer("context_scale", torch.ones(context + latent))
        # Where all directions are alike, the layers do not see the azimuth.
        aside = () if cylinder is None else (cylinder[1],)
        self.active = [i for i in range(features) if i not in aside]
        self.aside = list(aside)
        self.flag = flag and latent > 0
        given = context + latent + self.flag
        self.build(len(self.active), given, **architecture)
        if encoder is not None:
            self.encoder = ENCODERS[encoder]()
            self.encoder.requires_grad_(False)

    def build(self, features, context, **architecture):
        """Make the layers for so many standardized axes and conditions."""
        raise NotImplementedError

    def condition(self, context):
        """Compute what depends on the galaxy alone, once for all of its stars."""
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
        mean, scale = context_moments(contexts)
        self.context_mean.copy_(mean)
        self.context_scale.copy_(scale)
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
        followed = self._scaling_context(context)
        inside = self.scaling.inside(values, followed)
        within = values
        if not inside.all():
            within = torch.where(inside[:, None], values, self._possible(followed))
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
        return self.scaling.inverse(standard, self._scaling_context(context))

    def forward(self, inputs):
        """
        Sample or evaluate, for `galml.core.inference.infer`.

        Parameters
        ----------
        inputs : dict of `torch.Tensor`
            ``noise`` or ``stars``, shape (n, d), and ``context``, shape (n, c), where
            the model has conditions. With ``noise`` or ``stars`` of shape (b, m, d),
            ``context`` is that of each block of m stars, shape (b, c), or of each of
            their stars, shape (b, m, c).

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
        context = context if context.ndim == 3 else context[:, None]
        blocks = zip(rows, context, strict=True)
        return {result: torch.stack([function(*block) for block in blocks])}

    def _standard_context(self, context):
        """Standardize conditions; far ones are pulled in."""
        number = self.context + self.latent
        if context is None or context.shape[-1] != number:
            got = "none" if context is None else f"{context.shape[-1]}"
            raise ModelError(f"{got} conditions, but the model has {number}")
        standard = (context - self.context_mean) / self.context_scale
        return standard.to(self.context_mean.dtype).clamp(-CONTEXT_LIMIT, CONTEXT_LIMIT)

    def _scaling_context(self, context):
        """Select the conditions that center and scale follow."""
        if not self.context + self.latent:
            return None
        return self._standard_context(context)[:, : self.context]

    def _flow_context(self, context):
        """Assemble the conditions for the layers, with zeros for missing latents."""
        if not self.context + self.latent:
            return None
        standard = self._standard_context(context)
        given, latent = standard.split((self.context, self.latent), -1)
        known = ~latent.isnan().any(-1, keepdim=True)
        parts = [given, torch.where(known, latent, 0.0)]
        return torch.cat([*parts, known.to(given.dtype)] if self.flag else parts, -1)

    def _possible(self, context):
        """Make stars within the bounds, to compute with in place of others."""
        center = self.context_mean.new_zeros(1, self.features)
        return self.scaling.inverse(center, context)


def context_moments(contexts):
    """
    Measure mean and spread of conditions.

    Parameters
    ----------
    contexts : `torch.Tensor`
        Physical conditions of each galaxy, shape (galaxies, c); NaN where latents are
        not known.

    Returns
    -------
    mean, scale : `torch.Tensor`
        float64, shape (c,), of what is known: 0 and 1 where nothing is, and a scale of
        1 where all galaxies are the same.
    """
    mean = torch.zeros(contexts.shape[1], dtype=torch.float64)
    scale = torch.ones_like(mean)
    for place, column in enumerate(contexts.double().unbind(-1)):
        column = column[column.isfinite()]
        if len(column):
            mean[place] = column.mean()
            spread = column.std(correction=0)
            scale[place] = spread if spread > 1e-6 else 1.0
    return mean, scale


class StarFlow(Flow):
    """
    Coupling flow whose dependence on the galaxy is computed once per galaxy.

    A small network turns the conditions into an embedding. It shifts and stretches
    the standardized stars, and enters each coupling as a bias. Each of the couplings
    mixes the axes by a learned matrix, and then bends half of them by splines that
    depend on the other half.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten, limits
        See `Flow`.
    layers : int, optional
        Number of couplings.
    width : int, optional
        Width of the two hidden layers of each.
    bins : int, optional
        Number of bins of the splines.
    embedding : int, optional
        Size of the embedding of a galaxy.
    """

    def build(self, features, context, layers=5, width=64, bins=6, embedding=32):
        """Make embedding and couplings."""
        self.embed = nn.Sequential(
            # Without conditions there is a constant one.
            nn.Linear(max(context, 1), embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
            nn.SiLU(),
        )
        self.affine = _zeros(nn.Linear(embedding, 2 * features))
        self.couplings = nn.ModuleList(
            _Coupling(features, width, bins, embedding) for _ in range(layers)
        )

    def condition(self, context):
        """Compute shift and stretch of the galaxy, and its bias in each coupling."""
        if context is None:
            context = torch.ones_like(self.affine.bias[:1])[None]
        embedded = self.embed(context)
        shift, log_stretch = self.affine(embedded).T.chunk(2)
        biases = [layer.bias(embedded).T for layer in self.couplings]
        return shift, 3 * torch.tanh(log_stretch / 3), biases

    def transform(self, standard, condition):
        """Map standardized stars (n, d) to normal numbers and log|det J|, (n,)."""
        shift, log_stretch, biases = condition
        x = (standard.T - shift) * torch.exp(-log_stretch)
        log_det = -log_stretch.sum(0)
        for layer, bias in zip(self.couplings, biases, strict=True):
            x, part = layer(x, bias)
            log_det = log_det + part
        return x.T, log_det

    def invert(self, normal, condition):
        """Undo `transform`."""
        shift, log_stretch, biases = condition
        x = normal.T
        for layer, bias in zip(self.couplings[::-1], biases[::-1], strict=True):
            x = layer.inverse(x, bias)
        return (x * torch.exp(log_stretch) + shift).T


class _Coupling(nn.Module):
    """Mix the axes, then bend half of them depending on the others."""

    def __init__(self, features, width, bins, embedding):
        super().__init__()
        self.fixed, self.curved = features // 2, features - features // 2
        self.mixing = nn.Parameter(nn.init.orthogonal_(torch.empty(features, features)))
        # The galaxy's part of the first layer, biases included.
        self.bias = nn.Linear(embedding, width)
        bound = max(self.fixed, 1) ** -0.5
        first = torch.empty(width, self.fixed).uniform_(-bound, bound)
        self.first = nn.Parameter(first)
        self.second = nn.Linear(width, width)
        self.last = _zeros(nn.Linear(width, self.curved * n_parameters(bins)))

    def forward(self, x, bias):
        """Map x, shape (features, n), and give log|det J|, (n,)."""
        fixed, curved = (self.mixing @ x).split((self.fixed, self.curved))
        curved, log_slope = self._spline(fixed, bias).forward(curved)
        log_det = log_slope.sum(0) + torch.linalg.slogdet(self.mixing).logabsdet
        return torch.cat((fixed, curved)), log_det

    def inverse(self, x, bias):
        """Undo `forward`, without the determinant."""
        fixed, curved = x.split((self.fixed, self.curved))
        curved = self._spline(fixed, bias).inverse(curved)
        return torch.linalg.inv(self.mixing) @ torch.cat((fixed, curved))

    def _spline(self, fixed, bias):
        """Make the splines of the curved axes; stars are along the last axis."""
        hidden = torch.addmm(bias, self.first, fixed).relu()
        for layer in (self.second, self.last):
            last = layer is self.last
            hidden = torch.addmm(layer.bias[:, None], layer.weight, hidden)
            hidden = hidden if last else hidden.relu()
        return Spline(hidden.unflatten(0, (-1, self.curved)), BOUND)


def _zeros(layer):
    """Let a layer begin with zeros, so that the flow begins as a rotation."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def n_parameters(bins):
    """Count the numbers that describe one spline with so many bins."""
    return 3 * bins - 1


class Spline:
    """
    Monotonic rational-quadratic splines (Durkan et al. 2019, arXiv:1906.04032).

    The same functions as ``zuko.transforms.MonotonicRQSTransform``, but with stars
    along the last axis: softmax and sums then run over the first one, which processors
    do for many stars at once.

    Parameters
    ----------
    parameters : `torch.Tensor`
        Shape (3 * bins - 1, features, n): unconstrained widths, heights and slopes.
    bound : float
        The spline is the identity beyond this distance from zero.
    """

    def __init__(self, parameters, bound):
        bins = (len(parameters) + 1) // 3
        widths, heights, slopes = parameters.split((bins, bins, bins - 1))
        self.bound = bound
        self.widths = _shares(widths) * (2 * bound)
        self.heights = _shares(heights) * (2 * bound)
        limited = slopes / (1 + (slopes / math.log(SMALLEST_SLOPE)).abs())
        # The slope is one at both ends.
        self.log_slopes = pad(limited, (0, 0, 0, 0, 1, 1))

    def forward(self, x):
        """Map x, shape (features, n), and give the logarithm of the slope there."""
        x0, y0, width, height, d0, d1 = self._bin(x, self.widths)
        slope = height / width
        bend = d0 + d1 - 2 * slope
        z = (x + self.bound - x0) / width
        rest = z * (1 - z)
        below = slope + bend * rest
        y = y0 - self.bound + height * (slope * z.square() + d0 * rest) / below
        above = 2 * slope * rest + d0 * (1 - z).square() + d1 * z.square()
        log_slope = (above * (slope / below).square()).log()
        within = x.abs() < self.bound
        return torch.where(within, y, x), torch.where(within, log_slope, 0.0)

    def inverse(self, y):
        """Undo `forward`, for y of shape (features, n)."""
        x0, y0, width, height, d0, d1 = self._bin(y, self.heights)
        slope = height / width
        step = y + self.bound - y0
        bend = step * (d0 + d1 - 2 * slope)
        a = height * (slope - d0) + bend
        b = height * d0 - bend
        c = -slope * step
        root = (b.square() - 4 * a * c).clamp_min(0.0).sqrt()
        x = x0 - self.bound + width * (2 * c / (-b - root))
        return torch.where(y.abs() < self.bound, x, y)

    def _bin(self, values, sizes):
        """Corner, size, and slopes at the ends of the bin that each value is in."""
        left, low = (_starts(t) for t in (self.widths, self.heights))
        knots = left if sizes is self.widths else low
        inside = values.clamp(-self.bound, self.bound) + self.bound
        number = (knots[1:] <= inside).sum(0, keepdim=True)
        x0, y0, width, height, d0 = (
            t.gather(0, number)[0]
            for t in (left, low, self.widths, self.heights, self.log_slopes)
        )
        d1 = self.log_slopes.gather(0, number + 1)[0]
        return x0, y0, width, height, d0.exp(), d1.exp()


def _shares(free):
    """Positive shares that sum to one, none of them tiny."""
    return torch.softmax(free / (1 + (2 * free / math.log(SMALLEST_SLOPE)).abs()), 0)


def _starts(sizes):
    """Where each bin starts."""
    return pad(sizes.cumsum(0)[:-1], (0, 0, 0, 0, 1, 0))


class Ensemble(Flow):
    """
    Mean of the densities of several flows; each star comes from one of them.

    What few stars leave open differs from flow to flow, and is averaged out.

    Parameters
    ----------
    features, context, kinds, latent
        See `Flow`.
    members : sequence of dict
        ``architecture`` and ``options`` of each.
    """

    def build(self, features, context, members=()):
        """Make the members."""
        self.members = nn.ModuleList(
            _network_class(m["architecture"])(**m["options"]) for m in members
        )

    def log_prob(self, values, context=None):
        """Natural logarithm of the density of stars; see the base class."""
        each = torch.stack([m.log_prob(values, context) for m in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def sample(self, noise, context=None):
        """Turn noise into stars, each by one member; see the base class."""
        weights = noise.new_ones(len(self.members))
        place, noise = divide(noise, weights / len(weights))
        stars = torch.empty_like(noise)
        for index, member in enumerate(self.members):
            rows = place == index
            is_common = context is None or len(context) == 1
            own = context if is_common else context[rows]
            stars[rows] = member.sample(noise[rows], own)
        return stars


def _network_class(architecture):
    """Find the class of a flow by its name."""
    return find_object(find_architecture("stars", architecture).network)


def divide(noise, weights):
    """
    Choose a component with the first number of each row.

    Parameters
    ----------
    noise : `torch.Tensor`
        Standard normal numbers, shape (n, d).
    weights : `torch.Tensor`
        Probability of each component, shape (k,).

    Returns
    -------
    place : `torch.Tensor`
        Component of each row, shape (n,).
    noise : `torch.Tensor`
        Standard normal numbers that know nothing of it, shape (n, d): where the first
        number lay inside the share of its component.
    """
    wide = torch.float32 if noise.device.type == "mps" else torch.float64
    share = torch.special.ndtr(noise[:, 0].to(wide))
    ends = weights.to(wide).cumsum(0)
    place = torch.searchsorted(ends / ends[-1], share).clamp(max=len(ends) - 1)
    start = torch.cat((torch.zeros_like(ends[:1]), ends))[place] / ends[-1]
    rest = (share - start) * ends[-1] / weights.to(wide)[place]
    first = torch.special.ndtri(rest.clamp(0, 1)).clamp(-NORMAL_LIMIT, NORMAL_LIMIT)
    return place, torch.cat((first[:, None].to(noise.dtype), noise[:, 1:]), 1)
