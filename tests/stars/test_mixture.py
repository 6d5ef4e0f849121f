# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import numpy as np
import pytest
import torch
from astropy.table import QTable
from scipy.stats import multivariate_normal

import galml
from galml.stars.mixture import GaussianMixture, MixtureFlow


def stars(count=400, seed=0):
    """Stars of two kinds."""
    random = np.random.default_rng(seed)
    kind = random.random(count) < 0.3
    a = np.where(kind, -4, 2) + random.normal(0, 0.5, count)
    return QTable({"a": a, "b": 0.5 * a + random.normal(0, 1, count)})


def test_mixture_has_the_density_of_its_gaussians():
    values = torch.tensor(np.stack(list(stars(2000).itercols()), 1)).float()
    base = GaussianMixture(2, 2)
    base.fit(values)
    factors = base.factors().detach().double().numpy()
    weights = base.logit.softmax(0).detach().double().numpy()
    assert sorted(weights) == pytest.approx([0.3, 0.7], abs=0.03)
    wanted = sum(
        w * multivariate_normal(m, np.linalg.inv(f @ f.T)).pdf(values)
        for w, m, f in zip(weights, base.mean.detach().numpy(), factors, strict=True)
    )
    found = base.log_prob(values).exp().detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_mixture_draws_what_it_was_fitted_to():
    values = torch.tensor(np.stack(list(stars(4000).itercols()), 1)).float()
    base = GaussianMixture(2, 2)
    base.fit(values)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    drawn = base.draw(noise).detach()
    torch.testing.assert_close(drawn.mean(0), values.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), values.T.cov(), atol=0.25, rtol=0.02)
    assert ((drawn[:, 0] < -1).float().mean() - 0.3).abs() < 0.02


def test_few_points_fill_few_components():
    base = GaussianMixture(2, 8)
    base.fit(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)))
    assert base.logit.softmax(0)[3:].max() < 1e-9


def test_flow_starts_from_the_mixture():
    network = MixtureFlow(2, 0, components=2, layers=2, width=8, whiten=True)
    values = torch.tensor(np.stack(list(stars().itercols()), 1)).float()
    network.fit_scaling(values)
    start = network.log_prob(values).mean().item()
    single = multivariate_normal(values.mean(0), values.T.cov()).logpdf(values).mean()
    assert start > single + 0.3


def test_flow_with_conditions_takes_each_galaxy():
    network = MixtureFlow(3, 2, components=2, layers=1, width=8, whiten=True)
    generator = torch.Generator().manual_seed(0)
    galaxy = torch.arange(400) % 4
    contexts = torch.randn(4, 2, generator=generator)
    values = torch.randn(400, 3, generator=generator) + contexts[galaxy][:, :1]
    network.fit_scaling(values, contexts, galaxy)
    assert network.log_prob(values, contexts[galaxy]).isfinite().all()
    noise = torch.randn(50, 3, generator=generator)
    one = network.sample(noise, contexts[:1])
    each = network.sample(noise, contexts[:1].expand(50, -1))
    torch.testing.assert_close(one, each, rtol=1e-5, atol=1e-5)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn.*galml\[all\]"):
        galml.stars.fit(stars(), axes=("a", "b"), network="mixture", epochs=1)
