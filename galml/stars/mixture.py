# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A coupling flow that starts from a mixture of Gaussians, for few stars."""

import math

import torch
from torch import nn

from galml.stars.network import StarFlow, divide

__all__ = ["GaussianMixture", "MixtureFlow"]

#: Stars that the mixture is fitted to.
FIT_STARS = 20_000
#: Added to the variances of the mixture's components.
SMALLEST_VARIANCE = 1e-3


class GaussianMixture(nn.Module):
    """
    Mixture of Gaussians with any covariances.

    Parameters
    ----------
    features : int
        Number of axes.
    components : int
        Number of Gaussians; all are standard normal ones at first.
    """

    def __init__(self, features, components):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.zeros(components, features))
        # Cholesky factors of the inverse covariances: lower parts, log of diagonals.
        self.lower = nn.Parameter(torch.zeros(components, features, features))
        self.log_diagonal = nn.Parameter(torch.zeros(components, features))

    def factors(self):
        """Assemble the Cholesky factors of the inverse covariances."""
        return self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    @torch.no_grad()
    def fit(self, values):
        """
        Learn from points, shape (n, d), by expectation maximization.

        Raises
        ------
        ImportError
            Without scikit-learn.
        """
        try:
            from sklearn.mixture import GaussianMixture as Fit
        except ImportError as error:
            raise ImportError(
                "network='mixture' needs scikit-learn to start from a mixture of "
                "Gaussians: pip install 'galml[all]'"
            ) from error
        number = max(1, min(len(self.logit), len(values) // (values.shape[1] + 1)))
        fit = Fit(number, reg_covar=SMALLEST_VARIANCE, random_state=0)
        fit.fit(values.double().numpy())
        # Components that few points cannot fill are left without weight.
        self.logit.fill_(-30.0)
        self.logit[:number] = torch.from_numpy(fit.weights_).log()
        self.mean[:number] = torch.from_numpy(fit.means_)
        inverse = torch.from_numpy(fit.precisions_)
        factor = torch.linalg.cholesky(inverse)
        self.lower[:number] = factor.tril(-1).float()
        self.log_diagonal[:number] = factor.diagonal(dim1=1, dim2=2).log().float()

    def log_prob(self, values):
        """Compute the logarithm of the density of points (n, d)."""
        apart = values[:, None] - self.mean
        normal = torch.einsum("nkd,kde->nke", apart, self.factors())
        constant = 0.5 * values.shape[1] * math.log(2 * math.pi)
        each = self.log_diagonal.sum(1) - 0.5 * normal.square().sum(2) - constant
        return (self.logit.log_softmax(0) + each).logsumexp(1)

    def draw(self, noise):
        """Turn standard normal noise (n, d) into points."""
        place, noise = divide(noise, self.logit.softmax(0))
        # Of the transposed factor, as the covariance is the inverse.
        factors = self.factors().mT
        points = torch.empty_like(noise)
        for index, factor in enumerate(factors):
            rows = place == index
            solved = torch.linalg.solve_triangular(factor, noise[rows].T, upper=True).T
            points[rows] = solved + self.mean[index]
        return points


class MixtureFlow(StarFlow):
    """
    The default flow from a mixture of Gaussians instead of one.

    The mixture is fitted to the stars before training, and trained with the rest: few
    stars, of several kinds, need little more than it.

    Parameters
    ----------
    features, context, kinds, latent, encoder, cylinder, whiten, limits
        See `~galml.stars.network.Flow`.
    components : int, optional
        Number of Gaussians.
    layers, width, bins, embedding : int, optional
        See `~galml.stars.network.StarFlow`.
    """

    def build(
        self,
        features,
        context,
        components=5,
        layers=3,
        width=32,
        bins=6,
        embedding=32,
    ):
        """Make mixture and couplings."""
        super().build(features, context, layers, width, bins, embedding)
        self.base = GaussianMixture(features, components)

    @torch.no_grad()
    def fit_scaling(self, values, contexts=None, galaxy=None):
        """Learn center, scale and the mixture from stars; see the base class."""
        super().fit_scaling(values, contexts, galaxy)
        step = max(1, len(values) // FIT_STARS)
        values, context = values[::step], None
        if contexts is not None:
            context = contexts[galaxy[::step]].float()
        standard, _ = self.scaling(values, self._scaling_context(context))
        condition = self.condition(self._flow_context(context))
        points, _ = self.transform(standard[:, self.active], condition)
        self.base.fit(points)

    def standard_log_prob(self, standard, context=None):
        """Natural logarithm of the density of standardized stars; see the base."""
        condition = self.condition(self._flow_context(context))
        points, log_det = self.transform(standard[:, self.active], condition)
        aside = standard[:, self.aside]
        constant = 0.5 * len(self.aside) * math.log(2 * math.pi)
        outer = -0.5 * aside.square().sum(-1) - constant
        return self.base.log_prob(points) + log_det + outer

    def invert(self, normal, condition):
        """Turn normal numbers into standardized stars."""
        return super().invert(self.base.draw(normal), condition)
