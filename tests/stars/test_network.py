# Licensed under a 3-clause BSD style license - see LICENSE.rst
import copy
import math

import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load, save
from zuko.transforms import MonotonicRQSTransform

from galml.core.domain import find_architecture, find_object
from galml.core.exceptions import InputError, ModelError
from galml.core.inference import infer
from galml.core.model import GalaxyModel
from galml.stars.network import Spline, n_parameters

AGE = 13.787
KINDS = ["asinh"] * 6 + ["positive", "linear", "linear", ["interval", 0.0, AGE]]
CYLINDER = [0, 1, 3, 4]
#: Small, so that they are fast.
SMALL = {
    "coupling": {"layers": 3, "width": 16, "embedding": 8, "whiten": True},
    "galacticflow": {"layers": 2, "hidden": (16, 16)},
    "maf": {"transforms": 2, "hidden": (16,)},
    "nice": {"transforms": 3, "hidden": (16,)},
    "nsf": {"transforms": 2, "hidden": (16,)},
    "sospf": {"transforms": 2, "hidden": (16,)},
}
ARCHITECTURES = {
    name: find_object(find_architecture("stars", name).network) for name in SMALL
}
CASES = [(name, {}) for name in SMALL] + [
    ("coupling", {"cylinder": CYLINDER}),
    ("coupling", {"latent": 3}),
    ("maf", {"cylinder": CYLINDER, "whiten": True}),
    ("nice", {"latent": 3, "flag": False}),
]
CONTEXT = torch.tensor([[10.0, 5.0, 1.0, -0.3], [9.0, 4.0, 1.5, -0.6]])
each_case = pytest.mark.parametrize("name, options", CASES)
each_architecture = pytest.mark.parametrize("name", SMALL)


def values(count=400, features=10):
    """Stars of a kind, in physical units."""
    noise = torch.randn(count, 10, generator=torch.manual_seed(1), dtype=torch.float64)
    noise[:, 6] = torch.exp(0.5 * noise[:, 6] - 4)
    noise[:, 9] = AGE * torch.sigmoid(noise[:, 9])
    scale = [5.0, 5.0, 0.5, 100.0, 100.0, 30.0, 1.0, 0.4, 0.1, 1.0]
    return (noise * torch.tensor(scale))[:, :features]


def make(name, double=False, spread=0.2, **options):
    """A flow with weights that are not those of the start."""
    options = {"kinds": KINDS, **SMALL[name], **options}
    torch.manual_seed(0)
    flow = ARCHITECTURES[name](**options)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    stars = values()[:, : flow.features]
    contexts = context_of(flow, 2)
    galaxy = torch.arange(len(stars)) % 2
    flow.fit_scaling(stars, contexts, None if contexts is None else galaxy)
    return flow.double().eval() if double else flow.eval()


def context_of(flow, rows=1):
    """Conditions, with latents where there are."""
    if not flow.context + flow.latent:
        return None
    latent = torch.linspace(-1, 1, 2 * flow.latent).reshape(2, flow.latent)
    return torch.cat((CONTEXT[:, : flow.context], latent), 1)[:rows]


def noise(count, features=10, seed=3, dtype=torch.float32):
    """Normal noise, no star of which is far out."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator, dtype=dtype)


@each_case
@torch.no_grad()
def test_sample(name, options):
    flow = make(name, **options)
    context = context_of(flow)
    stars = flow.sample(noise(100), context)
    assert stars.shape == (100, 10) and stars.dtype == torch.float32
    assert stars.isfinite().all()
    assert ((stars[:, 6] > 0) & (stars[:, 9] > 0) & (stars[:, 9] < AGE)).all()
    log_prob = flow.log_prob(stars, context)
    assert log_prob.shape == (100,) and log_prob.isfinite().all()


@each_case
@torch.no_grad()
def test_sampling_inverts_density(name, options):
    flow = make(name, double=True, spread=0.02 if name == "sospf" else 0.2, **options)
    condition = flow.condition(flow._flow_context(context_of(flow).double()))
    given = noise(50, len(flow.active), dtype=torch.float64)
    found, _ = flow.transform(flow.invert(given, condition), condition)
    assert_allclose(found, given, atol=1e-3 if name == "sospf" else 1e-7)


@each_case
def test_log_prob_is_that_of_the_jacobian(name, options):
    flow = make(name, double=True, **options)
    context = context_of(flow).double()
    rows = values()[:3]

    def normal(row):
        standard, _ = flow.scaling(row[None], flow._scaling_context(context))
        condition = flow.condition(flow._flow_context(context))
        z, _ = flow.transform(standard[:, flow.active], condition)
        return torch.cat((z, standard[:, flow.aside]), -1)[0]

    for row in rows:
        jacobian = torch.autograd.functional.jacobian(normal, row)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        expected = expected - 0.5 * normal(row).square().sum()
        expected = expected - 5 * math.log(2 * math.pi)
        assert_allclose(
            flow.log_prob(row[None], context)[0].detach(), expected.detach()
        )


def spread_out(low, high, count, reach=20.0):
    """Numbers within an interval, dense towards its ends, and their weights."""
    t = torch.linspace(-reach, reach, count, dtype=torch.float64)
    share = torch.sigmoid(t)
    step = 2 * reach / (count - 1)
    return low + (high - low) * share, (high - low) * share * torch.sigmoid(-t) * step


@each_architecture
@torch.no_grad()
def test_density_of_one_axis_integrates_to_one(name):
    torch.manual_seed(0)
    flow = ARCHITECTURES[name](1, 0, kinds=[["interval", 0.0, AGE]], **SMALL[name])
    if name in ("maf", "nice"):
        # Shift and scale of one axis are random, and may lead far out.
        for parameter in flow.parameters():
            parameter.mul_(0.3)
    flow.double().fit_scaling(AGE * torch.rand(500, 1, dtype=torch.float64) ** 2)
    grid, weights = spread_out(0.0, AGE, 2000)
    total = (flow.log_prob(grid[:, None]).exp() * weights).sum()
    assert_allclose(total, 1, atol=1e-3)


@each_architecture
@torch.no_grad()
def test_density_of_two_axes_integrates_to_one(name):
    kinds = [["interval", 0.0, 1.0], ["interval", -2.0, 3.0]]
    torch.manual_seed(0)
    flow = ARCHITECTURES[name](2, 4, kinds=kinds, **SMALL[name]).double()
    rows = torch.rand(500, 2, dtype=torch.float64) * torch.tensor([1.0, 5.0])
    rows[:, 1] -= 2.0
    flow.fit_scaling(rows, CONTEXT, torch.arange(500) % 2)
    (x, dx), (y, dy) = spread_out(0.0, 1.0, 200), spread_out(-2.0, 3.0, 200)
    log_prob = flow.log_prob(torch.cartesian_prod(x, y), CONTEXT[:1])
    total = (log_prob.exp().reshape(200, 200) * dx[:, None] * dy).sum()
    assert_allclose(total, 1, atol=3e-3)


@torch.no_grad()
def test_density_in_the_plane_integrates_to_one():
    kinds = ["asinh"] * 4
    torch.manual_seed(0)
    flow = ARCHITECTURES["coupling"](
        4, 0, kinds=kinds, cylinder=[0, 1, 2, 3], **SMALL["coupling"]
    ).double()
    flow.fit_scaling(torch.randn(2000, 4, dtype=torch.float64))
    # Importance sampling, from a wider normal.
    rows = 1.5 * noise(50_000, 4, dtype=torch.float64)
    base = torch.distributions.Normal(0.0, 1.5).log_prob(rows).sum(-1)
    weights = torch.exp(flow.log_prob(rows) - base)
    assert_allclose(weights.mean(), 1, atol=0.04)


@each_case
@torch.no_grad()
def test_context_of_one_galaxy_is_that_of_each_star(name, options):
    flow = make(name, **options)
    context = context_of(flow)
    given = noise(40)
    one, each = flow.sample(given, context), flow.sample(given, context.expand(40, -1))
    assert_allclose(one / values().std(0), each / values().std(0), rtol=1e-4, atol=1e-4)
    stars = values(40).float()
    one = flow.log_prob(stars, context)
    assert_allclose(one, flow.log_prob(stars, context.expand(40, -1)), rtol=1e-5)


@each_architecture
@torch.no_grad()
def test_context_matters(name):
    flow = make(name)
    stars = values(40).float()
    first, second = (flow.log_prob(stars, CONTEXT[[i]]) for i in (0, 1))
    assert (first - second).abs().max() > 1e-3


@each_case
@torch.no_grad()
def test_forward(name, options):
    flow = make(name, **options)
    context = context_of(flow, 2)
    given = noise(60).unflatten(0, (2, 30))
    stars = flow({"noise": given, "context": context})["stars"]
    log_prob = flow({"stars": stars, "context": context})["log_prob"]
    assert stars.shape == (2, 30, 10) and log_prob.shape == (2, 30)
    flat = {
        "noise": given.flatten(0, 1),
        "context": context.repeat_interleave(30, dim=0),
    }
    assert_allclose(
        flow(flat)["stars"] / values().std(0),
        stars.flatten(0, 1) / values().std(0),
        rtol=1e-4,
        atol=1e-4,
    )


@each_architecture
@torch.no_grad()
def test_without_context(name):
    flow = make(name, context=0)
    given = noise(60).unflatten(0, (2, 30))
    blocks = flow({"noise": given})["stars"]
    stars = flow({"noise": given.flatten(0, 1)})["stars"]
    assert_allclose(blocks.flatten(0, 1), stars, rtol=1e-4, atol=1e-4)
    assert flow.log_prob(stars).isfinite().all()


@each_architecture
def test_batch_size_does_not_matter(name):
    # Weights of ordinary size: farther out a position is an exponential of what the
    # network gives, and shows the rounding of single precision.
    flow = make(name, spread=0.05)
    batch = {"noise": noise(50), "context": CONTEXT[:1].expand(50, -1)}
    results = [
        next(infer(flow, [batch], device="cpu", batch_size=size))["stars"]
        for size in (50, 7)
    ]
    scale = values().std(0)
    tolerance = 1e-3 if name == "sospf" else 1e-5
    assert_allclose(results[0] / scale, results[1] / scale, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("name", ["coupling", "nice"])
@torch.no_grad()
def test_unknown_latents(name):
    flow = make(name, latent=3, flag=name == "coupling")
    stars = values(30).float()
    known = context_of(flow).expand(30, -1).clone()
    unknown = known.clone()
    unknown[10:, 5] = math.nan
    log_prob = flow.log_prob(stars, unknown)
    assert log_prob.isfinite().all()
    assert_allclose(log_prob[:10], flow.log_prob(stars, known)[:10], rtol=1e-5)
    # What the others say does not matter where one is not known.
    unknown[10:, 4:] = math.nan
    assert_allclose(flow.log_prob(stars, unknown), log_prob, rtol=1e-5)
    zeros = known.clone()
    zeros[:, 4:] = flow.context_mean[4:]
    same = torch.allclose(flow.log_prob(stars, zeros)[10:], log_prob[10:])
    assert same is (name == "nice")


@torch.no_grad()
def test_stars_out_of_bounds_are_impossible():
    flow = make("coupling")
    stars = values(5).float()
    stars[0, 9], stars[1, 9], stars[2, 6] = 14.0, 0.0, -0.01
    log_prob = flow.log_prob(stars, CONTEXT[:1])
    assert (log_prob[:3] == -math.inf).all()
    assert log_prob[3:].isfinite().all()


@torch.no_grad()
def test_far_conditions_are_pulled_in():
    flow = make("coupling")
    far, farther = (CONTEXT[:1] + shift for shift in (1e3, 1e5))
    assert torch.equal(flow.sample(noise(5), far), flow.sample(noise(5), farther))


@each_case
@pytest.mark.parametrize("dtype", [None, "float16"])
@torch.no_grad()
def test_save_and_load(name, options, dtype, tmp_path):
    flow = make(name, **options)
    options = {"kinds": KINDS, **SMALL[name], **options}
    model = GalaxyModel(
        flow,
        operation="stars",
        architecture=name,
        options=options,
        config={},
        card={},
    )
    model.save(tmp_path / "a.safetensors", dtype=dtype)
    loaded = GalaxyModel.load(tmp_path / "a.safetensors", operation="stars").network
    context = context_of(flow)
    stars = loaded.sample(noise(100), context)
    assert stars.isfinite().all()
    assert ((stars[:, 6] > 0) & (stars[:, 9] > 0) & (stars[:, 9] < AGE)).all()
    if dtype is None:
        assert torch.equal(stars, flow.sample(noise(100), context))
        stars = values(20).float()
        expected = flow.log_prob(stars, context)
        assert torch.equal(loaded.log_prob(stars, context), expected)


@each_architecture
def test_state_dict_through_safetensors(name):
    flow = make(name)
    state = {key: tensor.contiguous() for key, tensor in flow.state_dict().items()}
    again = load(save(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


@each_architecture
def test_description_draws_no_random_numbers(name):
    flow = make(name)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert type(flow).__name__ in repr(flow)
    assert torch.equal(torch.random.get_rng_state(), before)


@each_architecture
def test_trains(name):
    flow = make(name, spread=0.0)
    stars, context = values(200).float(), CONTEXT.repeat(100, 1)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = -flow.log_prob(stars, context).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    # Inference must leave it trainable.
    next(infer(flow, [{"noise": noise(4), "context": CONTEXT[:1].expand(4, -1)}]))
    (-flow.log_prob(stars, context).mean()).backward()


def test_copies_are_independent():
    flow = make("coupling")
    other = copy.deepcopy(flow)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert not torch.equal(next(flow.parameters()), next(other.parameters()))


def test_wrong_arguments():
    with pytest.raises(InputError, match="kinds: got 2 kinds, expected 3"):
        ARCHITECTURES["coupling"](3, kinds=["linear"] * 2)
    with pytest.raises(InputError, match="encoder: got 'large'"):
        ARCHITECTURES["coupling"](encoder="large")
    flow = make("coupling")
    with pytest.raises(ModelError, match="3 conditions, but the model has 4"):
        flow.log_prob(values(5), CONTEXT[:, :3])
    with pytest.raises(ModelError, match="none conditions"):
        flow.sample(noise(5))


@pytest.mark.parametrize("bins", [2, 8])
def test_splines_are_those_of_zuko(bins):
    free = 2 * noise(200, 3 * n_parameters(bins), dtype=torch.float64)
    free = free.reshape(200, 3, -1).requires_grad_()
    x = 3 * noise(200, 3, seed=4, dtype=torch.float64)
    theirs = MonotonicRQSTransform(*free.split((bins, bins, bins - 1), -1), bound=5.0)
    ours = Spline(free.permute(2, 1, 0), 5.0)
    y, log_slope = theirs.call_and_ladj(x)
    found, found_slope = ours.forward(x.T)
    assert_allclose(found.T.detach(), y.detach(), atol=1e-12)
    assert_allclose(found_slope.T.detach(), log_slope.detach(), atol=1e-10)
    assert_allclose(ours.inverse(y.T).T.detach(), x, atol=1e-9)
    assert (x.abs() > 5).any()
    gradients = [
        torch.autograd.grad((a.sin() + b).sum(), free)[0]
        for a, b in ((y, log_slope), (found, found_slope))
    ]
    assert_allclose(gradients[0], gradients[1], atol=1e-9)
