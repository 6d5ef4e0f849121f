# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import torch
from numpy.testing import assert_allclose

from galml.core.model import InputSpec
from galml.stars.fitting import Augmentation, StarRecipe
from galml.stars.network import StarFlow

PLANE, UP = (0, 1, 3, 4), (2, 5)


def batch(count=2000):
    stars = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return {"stars": stars + 2, "galaxy": torch.arange(count) % 3}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spin(stars):
    return stars[:, 0] * stars[:, 4] - stars[:, 1] * stars[:, 3]


def test_turned():
    before = batch()
    after = Augmentation(turned=PLANE)(before, generator())["stars"]
    stars = before["stars"]
    assert_allclose(after[:, :2].norm(dim=1), stars[:, :2].norm(dim=1), rtol=1e-5)
    assert_allclose(spin(after), spin(stars), atol=1e-4)
    radial = [(s[:, :2] * s[:, 3:5]).sum(1) for s in (after, stars)]
    assert_allclose(*radial, atol=1e-4)
    assert torch.equal(after[:, [2, 5]], stars[:, [2, 5]])
    angle = torch.atan2(after[:, 1], after[:, 0])
    assert abs(angle.cos().mean()) < 0.05 and abs(angle.sin().mean()) < 0.05


def test_mirrored():
    before = batch()
    after = Augmentation(mirrored=UP)(before, generator())["stars"]
    ratio = after / before["stars"]
    assert torch.equal(ratio[:, 2], ratio[:, 5])
    assert abs(ratio[:, 2].mean()) < 0.1
    assert (ratio[:, [0, 1, 3, 4]] == 1).all()


def test_jitter_and_hidden_latents():
    jitter = torch.tensor([0.1, 0.0, 0.2, 0.3])
    augment = Augmentation(jitter=jitter, latent=2)
    noise = augment(batch(), generator())["jitter"]
    hidden = noise[:, 2:].isnan()
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert 0.4 < hidden[:, 0].float().mean() < 0.6
    assert_allclose(noise[~hidden[:, 0]].std(0), jitter, rtol=0.1)
    assert noise[:, :2].isfinite().all()


def test_repeatable_and_without_side_effects():
    augment = Augmentation(PLANE, UP, torch.ones(4), 2)
    before = batch()
    copy = before["stars"].clone()
    first, second = (augment(before, generator()) for _ in range(2))
    assert torch.equal(first["stars"], second["stars"])
    assert torch.equal(first["jitter"].nan_to_num(), second["jitter"].nan_to_num())
    other = augment(before, generator(1))
    apart = (first["stars"] - other["stars"])[:, :2].norm(dim=1)
    # Points of two random directions are 4/pi radii apart, in the mean.
    radius = before["stars"][:, :2].norm(dim=1)
    assert_allclose((apart / radius).mean(), 4 / math.pi, atol=0.05)
    assert torch.equal(before["stars"], copy) and "jitter" not in before
    assert bool(augment) and not Augmentation()


def recipe(contexts):
    return StarRecipe("coupling", InputSpec(), contexts, {"axes": []})


def test_loss():
    torch.manual_seed(0)
    flow = StarFlow(6, 2, layers=2, width=8, embedding=4)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    contexts = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    data = batch(30)
    loss = recipe(contexts.double()).loss
    expected = -flow.log_prob(data["stars"], contexts[data["galaxy"]]).mean()
    assert torch.equal(loss(flow, data)["loss"], expected)
    jitter = torch.full((30, 2), 0.5)
    shifted = -flow.log_prob(data["stars"], contexts[data["galaxy"]] + 0.5).mean()
    assert torch.equal(loss(flow, data | {"jitter": jitter})["loss"], shifted)


def test_loss_without_conditions():
    flow, data = StarFlow(6, 0, layers=1), batch(30)
    # It begins as a rotation of a unit normal.
    expected = 0.5 * (data["stars"] ** 2).sum(1).mean() + 3 * math.log(2 * math.pi)
    assert_allclose(recipe(None).loss(flow, data)["loss"].item(), expected, rtol=1e-5)
