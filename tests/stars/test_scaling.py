# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from galml.core.exceptions import InputError
from galml.stars.scaling import StarScaling

AGE = 13.787
KINDS = ["asinh"] * 6 + ["positive", "linear", "linear", ["interval", 0.0, AGE]]
CYLINDER = (0, 1, 3, 4)
VARIANTS = [
    {},
    {"whiten": True},
    {"context": 2},
    {"context": 2, "cylinder": CYLINDER, "whiten": True},
]


def stars(count=4000, seed=0, size=5.0):
    """A disk in rotation, with heavy tails."""
    rng = np.random.default_rng(seed)
    phi, radius = rng.uniform(-np.pi, np.pi, count), rng.gamma(2, size, count)
    noise = 30 * rng.standard_t(4, (3, count))
    age = AGE * rng.beta(2, 1, count)
    columns = [
        radius * np.cos(phi),
        radius * np.sin(phi),
        rng.laplace(0, 0.1 * size, count),
        noise[0] - 200 * np.sin(phi),
        noise[1] + 200 * np.cos(phi),
        noise[2],
        10 ** rng.normal(-2, 0.3, count),
        rng.normal(-0.5, 0.3, count),
        rng.normal(0.1, 0.1, count),
        age,
    ]
    return torch.from_numpy(np.array(columns).T)


def fitted(double=True, **options):
    """A scaling that follows two galaxies of different size."""
    values = torch.cat((stars(size=1.0), stars(seed=1, size=9.0)))
    context = torch.tensor([[-1.0, 0.3]] * 4000 + [[1.0, -0.3]] * 4000)
    scaling = StarScaling(KINDS, **options)
    scaling = scaling.double() if double else scaling
    return scaling.fit(values, context), values, context


@pytest.mark.parametrize("options", VARIANTS)
def test_round_trip(options):
    scaling, values, context = fitted(**options)
    standard, _ = scaling(values, context)
    assert_allclose(scaling.inverse(standard, context), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", VARIANTS)
def test_round_trip_in_single_precision(options):
    scaling, values, context = fitted(double=False, **options)
    values = values.float()
    standard, _ = scaling(values, context)
    assert standard.dtype == torch.float32
    again = scaling.inverse(standard, context)
    assert_allclose(again / values.std(0), values / values.std(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_standardized(options):
    scaling, values, context = fitted(**options)
    standard, _ = scaling(values, context)
    assert_allclose(standard.mean(0), 0, atol=0.1)
    assert_allclose(standard.std(0), 1, atol=0.2)


def test_whitened():
    scaling, values, context = fitted(whiten=True)
    rows = torch.cat((values, values @ torch.eye(10, dtype=torch.float64)))
    rows[:, 8] = rows[:, 7] + 0.1 * rows[:, 8]
    scaling.fit(rows)
    standard, _ = scaling(rows)
    correlation = np.corrcoef(standard.numpy().T)
    assert abs(correlation[7, 8]) < 0.05


@pytest.mark.parametrize("options", VARIANTS)
def test_log_det_is_that_of_autograd(options):
    scaling, values, context = fitted(**options)
    rows, given = values[::2000], context[::2000]
    log_det = scaling(rows, given)[1].broadcast_to(len(rows))
    for row, one, found in zip(rows, given, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, one=one: scaling(x[None], one[None])[0][0], row
        )
        assert_allclose(found, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9)


def test_follows_context():
    scaling, values, context = fitted(context=2)
    one, two = (
        scaling.inverse(torch.ones(1, 10), c[None])[0] for c in context[[0, -1]]
    )
    # Sizes differ by 9, ages do not.
    assert 7 < two[0] / one[0] < 11
    assert_allclose(two[9], one[9], rtol=0.05)


def test_conditions_that_are_alike():
    scaling, values, context = fitted(context=2)
    context[:, 1] = context[:, 0] * (1 + 1e-7)
    scaling.fit(values, context)
    assert scaling.center[:, 1:].abs().max() < values.abs().max()
    assert_allclose(scaling.log_scale[0, 1:].sum(), math.log(3), rtol=0.1)


def test_cylinder():
    scaling, values, context = fitted(context=2, cylinder=CYLINDER)
    standard, log_det = scaling(values, context)
    angle = torch.tensor(1.0, dtype=torch.float64)
    cos, sin = angle.cos(), angle.sin()
    turned = values.clone()
    for a, b in ((0, 1), (3, 4)):
        turned[:, a] = cos * values[:, a] - sin * values[:, b]
        turned[:, b] = sin * values[:, a] + cos * values[:, b]
    found, log_det_turned = scaling(turned, context)
    others = [i for i in range(10) if i != 1]
    assert_allclose(found[:, others], standard[:, others], rtol=1e-7, atol=1e-7)
    assert (found[:, 1] - standard[:, 1]).abs().min() > 0.01
    # The azimuth is uniform, its coordinate normal; so the density turns along.
    normal = 0.5 * (found[:, 1] ** 2 - standard[:, 1] ** 2)
    assert_allclose(log_det_turned - normal, log_det, rtol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 8.0, 100.0, 1e6])
@pytest.mark.parametrize("options", VARIANTS)
def test_always_physical(options, size, dtype):
    scaling, _, context = fitted(**options)
    scaling = scaling.to(dtype)
    noise = size * torch.randn(1000, 10, generator=torch.manual_seed(0), dtype=dtype)
    values = scaling.inverse(noise, context[:1].to(dtype))
    assert values.dtype == dtype
    assert values.isfinite().all()
    assert scaling.inside(values).all()
    assert (values[:, 6] > 0).all() and (values[:, 9] > 0).all()
    assert (values[:, 9].double() < AGE).all()
    assert scaling(values, context[:1].to(dtype))[1].isfinite().all()


def test_inside():
    scaling = StarScaling(["linear", "positive", ["interval", -1.0, 2.0]])
    rows = [[5, 1, 0], [5, 0, 0], [5, 1, -1], [5, 1, 2], [5, -1, 0], [5, 1, 1.99]]
    rows.append([math.nan, 1, 0])
    found = scaling.inside(torch.tensor(rows))
    assert found.tolist() == [True, False, False, False, False, True, True]


def test_constant_axis():
    scaling = StarScaling(["linear", "asinh"], whiten=True)
    values = torch.tensor([[1.0, 2.0]] * 30).double()
    standard, log_det = scaling.fit(values)(values)
    assert standard.isfinite().all() and log_det.isfinite().all()
    assert_allclose(scaling.inverse(standard), values, rtol=1e-5)


@pytest.mark.parametrize("kind", ["log", ["interval", 1.0, 1.0], ["interval", 0.0], []])
def test_unknown_kind(kind):
    with pytest.raises(InputError, match="kinds"):
        StarScaling(["linear", kind])
