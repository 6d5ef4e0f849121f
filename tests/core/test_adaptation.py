# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
import sys
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from galml.core import domain as domain_module
from galml.core.adaptation import adapt, mmd
from galml.core.domain import Architecture, Operation, find_domain
from galml.core.exceptions import GalmlWarning, InputError, ModelError
from galml.core.inference import BATCH_SIZES
from galml.core.inputs import Source
from galml.core.model import GalaxyModel, InputSpec
from galml.core.networks import (
    MonteCarloDropout,
    RandomNetwork,
    View,
    dihedral_views,
)
from galml.core.running import run


class Scale(nn.Module):
    """Features of an image, its weight, and how far it is from the training."""

    n_noise = 1

    def __init__(self, name="features"):
        super().__init__()
        self.name = name
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Flatten(),
                nn.Linear(16, 32),
                nn.BatchNorm1d(32),
                nn.ReLU(),
                nn.Linear(32, 6),
            )
            self.weight = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 1))
        self.register_buffer("center", torch.zeros(6))

    def forward(self, inputs):
        features = self.layers(inputs["image"])
        distance = torch.linalg.vector_norm(features - self.center, dim=1)
        return {
            self.name: features,
            "weight": self.weight(features)[:, 0],
            "distance": distance,
        }

    def learn_distance(self, features):
        self.center.copy_(features.mean(0))


class Forgetful(RandomNetwork):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
            self.weight = nn.Linear(6, 1)
        self.dropouts = nn.ModuleList([MonteCarloDropout(6, 0.5)])

    def features(self, inputs):
        return self.layers(inputs["image"])

    def probabilities(self, features, noise=None):
        if noise is not None:
            features = features[:, None]
        units = self.dropouts[0](features, *self.split_noise(noise))
        return {"weight": self.weight(units)[..., 0]}


class Drawing(nn.Module):
    """An autoencoder."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.encode = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
            self.draw = nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)))

    def forward(self, inputs):
        latent = self.encode(inputs["image"])
        return {"latent": latent, "planes": self.draw(latent)}


class Mute(Scale):
    def forward(self, inputs):
        return {"weight": super().forward(inputs)["weight"]}


@dataclass
class Images:
    values: np.ndarray
    names: list

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        return Images(self.values[rows], [self.names[row] for row in rows])


@dataclass
class Prepared:
    image: torch.Tensor
    scalars: torch.Tensor

    @property
    def inputs(self):
        return vars(self)


class WeighDomain:
    """Images of 4 by 4 pixels; negative ones cannot be used."""

    operation, views = "weigh", dihedral_views(images=("image",))

    def __init__(self, model):
        self.model = model

    def read(self, data, unit=1.0):
        values = np.asarray(data, dtype=float) * unit
        members = iter([Images(values, [None] * len(values))])
        return Source(len(values) == 1, len(values), members)

    def problem(self, member):
        error = InputError("data", "less", "more")
        return [error if image.min() < 0 else None for image in member.values]

    def prepare(self, members):
        values = np.concatenate([member.values for member in members])
        image = torch.from_numpy(values).float()[:, None]
        return Prepared(image, image.mean((1, 2, 3))[:, None])

    def columns(self, n_samples):
        return {"weight": ((), None)}

    def answer(self, outputs, prepared, members):
        return {"weight": outputs["weight"].numpy()}

    def flags(self, answer, prepared, members):
        return np.zeros(len(prepared.image), dtype=int)


class WeighRecipe:
    operation, architecture, kind = "weigh", "scale", "images"
    truth, needs_truth = {"weight": (None, 1.0)}, True
    training = {"epochs": 3}

    def __init__(self, input_spec=None):
        self.input_spec = input_spec

    def targets(self, truth, prepared, members):
        return {"weight": torch.from_numpy(truth["weight"]).float()}

    def columns(self, data):
        rows = torch.isfinite(data["weight"])
        return {key: value[rows] for key, value in data.items()}

    def loss(self, network, batch):
        error = network(batch)["weight"] - batch["weight"]
        return {"loss": error.square().mean()}

    def calibrate(self, model, data, calibration, *, device):
        assert "weight" in calibration and model.input_spec == self.input_spec
        domain = {"low": [0.4], "high": [0.5], "distance": 0.0}
        return {"calibrated": len(data["image"]), "domain": domain}, {"error": 0.5}


class DrawingRecipe(WeighRecipe):
    architecture, truth, needs_truth = "drawing", {}, False

    def columns(self, data):
        return {"image": data["image"]}

    def loss(self, network, batch):
        # More of the network than its outputs, as some recipes need.
        drawn = network.draw(network.encode(batch["image"]))
        return {"loss": (drawn - batch["image"]).square().mean()}


ARCHITECTURES = {"scale": Scale, "random": Forgetful, "drawing": Drawing, "mute": Mute}
RECIPES = {"scale": "WeighRecipe", "drawing": "DrawingRecipe"}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    module = ModuleType("weigh_images")
    vars(module).update({kind.__name__: kind for kind in ARCHITECTURES.values()})
    module.WeighDomain, module.WeighRecipe = WeighDomain, WeighRecipe
    module.DrawingRecipe = DrawingRecipe
    monkeypatch.setitem(sys.modules, "weigh_images", module)
    rows = {
        name: Architecture(
            f"weigh_images:{kind.__name__}",
            "weigh_images:WeighDomain",
            RECIPES.get(name) and f"weigh_images:{RECIPES[name]}",
        )
        for name, kind in ARCHITECTURES.items()
    }
    row = Operation("weigh", "nowhere:weigh", architectures=rows)
    monkeypatch.setattr(domain_module, "_operations", {"weigh": row})


def make(architecture="scale", **options):
    distance = {"distance": 0.1} if architecture == "scale" else {}
    return GalaxyModel(
        ARCHITECTURES[architecture](**options),
        operation="weigh",
        architecture=architecture,
        options=options,
        config={"scale": 3.0, "domain": {"low": [0.4], "high": [0.5]} | distance},
        card={"license": "CC0-1.0", "title": "weights", "figures": {"old": 1.0}},
        input_spec=InputSpec(grid=(4, 4)),
        name="scales",
    )


def surveys(count=160, seed=0):
    """Images, the same ones brighter and with another contrast, and their weights."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 0.9, count)
    source = weight[:, None, None] + rng.uniform(-0.1, 0.1, (count, 4, 4))
    return source, 1.3 * np.sqrt(source) + 0.2, weight


def shuffled(values, seed=1):
    return np.random.default_rng(seed).permutation(values)


FAST = {"epochs": 25, "learning_rate": 3e-3, "batch_size": 64, "seed": 2}
FASTER = FAST | {"epochs": 40, "learning_rate": 0.02}


def weighed(model, images):
    return np.asarray(run(find_domain(model), images, {})["weight"])


def features(model, images):
    with torch.no_grad():
        image = torch.from_numpy(images)[:, None].float()
        return model.network({"image": image})["features"]


def test_samples_alike_have_no_discrepancy():
    generator = torch.Generator().manual_seed(0)
    found = [
        float(mmd(*torch.randn(2, 100, 5, generator=generator))) for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 200**0.5)
    assert min(found) < 0 < max(found)


def test_discrepancy_of_normal_distributions():
    first, second = torch.randn(2, 3000, 3, generator=torch.Generator().manual_seed(1))
    shift = torch.tensor([1.0, -0.5, 0.0])
    second = second + shift
    square = float(shift.square().sum())
    # Mean squared distance: of 2 d within a sample, and more across.
    width, wanted = 6 + square / 2, 0.0
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        one = factor * width
        within = (1 + 4 / one) ** -1.5
        wanted += 2 * within * (1 - math.exp(-square / (one + 4)))
    assert float(mmd(first, second)) == pytest.approx(wanted, rel=0.05)


def test_discrepancy_is_that_of_the_pairs():
    first, second = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(2))
    second = second[:5] + 0.3
    both = torch.cat([first, second]).double()
    square = ((both[:, None] - both) ** 2).sum(2)
    width = square.sum() / (12 * 11)
    kernel = sum(torch.exp(-square / (f * width)) for f in (0.25, 0.5, 1, 2, 4))
    wanted = (kernel[:7, :7].sum() - 35) / 42 + (kernel[7:, 7:].sum() - 25) / 20
    wanted = wanted - 2 * kernel[:7, 7:].mean()
    assert float(mmd(first, second)) == pytest.approx(float(wanted), rel=1e-5)
    moved = mmd(100 * first + 5000, 100 * second + 5000)
    assert float(moved) == pytest.approx(float(wanted), rel=1e-3)


def test_discrepancy_draws_samples_together():
    first, second = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(3))
    shift = torch.full((2,), 2.0, requires_grad=True)
    mmd(first, second + shift).backward()
    assert (shift.grad > 0).all()
    same = torch.ones(5, 2, requires_grad=True)
    mmd(same, torch.ones(4, 2)).backward()
    assert torch.isfinite(same.grad).all()
    with pytest.raises(InputError, match="1 of one in a batch"):
        mmd(first[:1], second)


@pytest.mark.parametrize("pairs", [False, True])
def test_the_target_is_told_as_the_source_was(pairs):
    source, target, _ = surveys()
    model = make()
    before = model.sha256
    other = target if pairs else shuffled(target)
    adapted = adapt(model, source, other, pairs=pairs, name="new", **FAST)
    figures = adapted.card["figures"]
    assert figures["mmd"] < 0.2 * figures["mmd_before"]
    wanted = features(model, source).mean(0)
    after, old = (features(m, target).mean(0) for m in (adapted, model))
    assert (after - wanted).norm() < 0.3 * (old - wanted).norm()
    if pairs:
        assert figures["distillation_error"] < figures["distillation_error_before"]
        assert figures["pair_distance"] < 0.5 * figures["pair_distance_before"]
    assert adapted.name == "new" and adapted.architecture == "scale"
    assert adapted.input_spec == model.input_spec
    assert len(adapted.history) == 25
    assert GalaxyModel.sha256.func(model) == before != adapted.sha256


def test_card_and_configuration():
    source, target, _ = surveys()
    model = make()
    adapted = adapt(model, source, target, epochs=1, seed=2)
    card = adapted.card
    assert card["adapted_from"] == {"name": "scales", "sha256": model.sha256}
    assert card["source_objects"] == card["target_objects"] == 112
    assert (card["license"], card["title"]) == ("CC0-1.0", "weights")
    assert card["pairs"] is False and card["seed"] == 2
    assert "old" not in card["figures"]
    assert adapted.config["scale"] == 3.0
    again = adapt(adapted, source, target, epochs=1, seed=2).card["adapted_from"]
    assert again == {"name": None, "sha256": adapted.sha256} | {
        "adapted_from": card["adapted_from"]
    }
    # What both surveys hold lies in the domain.
    low, high = (adapted.config["domain"][end][0] for end in ("low", "high"))
    assert low < np.quantile(source.mean((1, 2)), 0.03)
    assert high > np.quantile(target.mean((1, 2)), 0.97)
    outputs = adapted.network({"image": torch.from_numpy(target)[:, None].float()})
    far = outputs["distance"] > 1.05 * adapted.config["domain"]["distance"]
    assert far.float().mean() < 0.05
    assert model.config["domain"] == {"low": [0.4], "high": [0.5], "distance": 0.1}
    assert not model.network.center.any()


def test_what_is_known_of_the_source_stays():
    source, target, _ = surveys()
    model, wanted = make(), weighed(make(), source)
    errors = []
    for weight in (0.0, 100.0):
        adapted = adapt(model, source, shuffled(target), distillation=weight, **FAST)
        errors.append(np.std(weighed(adapted, source) - wanted))
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.2 * np.std(wanted)
    # Nothing to learn: the copy is the network as it was.
    adapted = adapt(model, source, target, alignment=0.0, **FAST)
    np.testing.assert_allclose(weighed(adapted, source), wanted, atol=1e-6)


@pytest.mark.parametrize("pairs", [False, True])
def test_truths_are_learned(pairs):
    source, target, truth = surveys()
    adapted = adapt(
        make(), source, target, pairs=pairs, truth={"weight": truth}, **FASTER
    )
    learned = target if pairs else source
    assert np.corrcoef(weighed(adapted, learned), truth)[0, 1] > 0.8
    bias, old = (np.mean(weighed(m, learned) - truth) for m in (adapted, make()))
    assert abs(bias) < 0.5 * abs(old)
    assert adapted.config["calibrated"] == (112 if pairs else 224)
    assert adapted.config["scale"] == 3.0
    assert adapted.card["figures"]["error"] == 0.5
    assert adapted.card["distillation"] == 0.0
    assert adapted.config["domain"]["high"][0] > 1
    assert "train_task_loss" in adapted.history.colnames


def test_unknown_truths_of_pairs():
    source, target, truth = surveys()
    truth[:5] = np.nan
    adapt(make(), source, target, truth={"weight": truth}, epochs=1)
    with pytest.raises(InputError, match="truth: got . that the network has no use"):
        adapt(make(), source, target, truth={"weight": truth}, pairs=True, epochs=1)


def test_random_networks():
    source, target, _ = surveys()
    model = make("random")
    adapted = adapt(model, source, shuffled(target), **FAST)
    figures = adapted.card["figures"]
    assert figures["mmd"] < 0.2 * figures["mmd_before"]
    # What the copy learns from is not random.
    adapted = adapt(model, source, target, alignment=0.0, **FAST)
    np.testing.assert_allclose(
        weighed(adapted, source), weighed(model, source), atol=1e-6
    )
    with pytest.raises(ModelError, match="no recipe"):
        adapt(model, source, target, truth={"weight": np.zeros(len(source))})


def test_autoencoders_go_on_learning():
    source, target, _ = surveys()
    model = make("drawing")
    adapted = adapt(model, source, target, pairs=True, **FASTER)
    image = torch.from_numpy(target)[:, None].float()
    with torch.no_grad():
        before, after = (
            (m.network({"image": image})["planes"] - image).square().mean()
            for m in (model, adapted)
        )
    assert after < 0.5 * before
    figures = adapted.card["figures"]
    assert figures["pair_distance"] < 0.5 * figures["pair_distance_before"]
    with pytest.raises(InputError, match="truth: got dict.*learns without"):
        adapt(model, source, target, truth={"weight": np.zeros(len(source))})


def test_latents_come_first():
    source, target, _ = surveys()
    adapted = adapt(make(name="latent"), source, target, pairs=True, **FAST)
    figures = adapted.card["figures"]
    assert figures["mmd"] < 0.2 * figures["mmd_before"]
    with pytest.raises(ModelError, match="Mute gives neither latents nor features"):
        adapt(make("mute"), source, target)


def test_batch_normalization_stays():
    source, target, _ = surveys()
    model = make()
    adapted = adapt(model, source, target, epochs=2)
    for key in ("running_mean", "running_var"):
        first, second = (getattr(m.network.layers[2], key) for m in (model, adapted))
        assert torch.equal(first, second)
    assert not any(module.training for module in adapted.network.modules())


def test_seeds_reproduce_and_checkpoints_resume(tmp_path):
    source, target, _ = surveys(60)
    options = {"epochs": 4, "learning_rate": 1e-3}
    first, second, third = (
        adapt(make(), source, target, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first.sha256 == second.sha256 != third.sha256
    path = tmp_path / "part"
    whole = adapt(make(), source, target, seed=1, checkpoint=path, **options)
    assert whole.sha256 == first.sha256
    again = adapt(make(), source, target, seed=1, checkpoint=path, **options)
    assert again.sha256 == first.sha256


def test_sets_of_other_lengths_and_low_precision():
    source, target, _ = surveys()
    for options in ({}, {"dtype": "bfloat16"}):
        adapted = adapt(make(), source, target[:40], epochs=2, **options)
        assert adapted.card["target_objects"] == 28
        assert np.isfinite(adapted.card["figures"]["mmd"])


def test_bad_objects_are_left_out_with_their_pairs():
    source, target, truth = surveys()
    source[:10], target[5:20] = -1, -1
    # The truth tells which target belongs to which source.
    with pytest.warns(GalmlWarning) as caught:
        adapted = adapt(
            make(), source, target, pairs=True, truth={"weight": truth}, **FAST
        )
    assert [str(w.message)[:20] for w in caught] == [
        "10 of 160 images are",
        "15 of 160 images are",
    ]
    assert all(w.filename == __file__ for w in caught)
    assert adapted.card["target_objects"] == 140 - 2 * 21
    assert np.corrcoef(weighed(adapted, target[20:]), truth[20:])[0, 1] > 0.8


def test_options_of_each_survey():
    source, target, _ = surveys()
    halved = adapt(make(), 2 * source, target, source_options={"unit": 0.5}, epochs=1)
    plain = adapt(make(), source, target, epochs=1)
    assert halved.sha256 == plain.sha256
    with pytest.raises(InputError, match=r"target_options: got \['scale'\].*'weigh'"):
        adapt(make(), source, target, target_options={"scale": 2})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alignment": -1.0}, "alignment: got -1.0"),
        ({"distillation": np.nan}, "distillation: got nan"),
        ({"distillation": "much"}, "distillation: got 'much'"),
        ({"validation": 0.7}, "validation: got 0.7"),
        ({"batch_size": 1}, "a larger batch_size"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"truth": {"wait": [0.0]}}, "no wait|no weight"),
    ],
)
def test_bad_arguments(options, message):
    source, target, _ = surveys(40)
    with pytest.raises(InputError, match=message):
        adapt(make(), source, target, **options)


def test_too_few_objects_or_other_numbers():
    source, target, _ = surveys(40)
    with pytest.raises(InputError, match="source: got 19 usable images"):
        adapt(make(), source[:19], target)
    with pytest.raises(InputError, match="target: got 1 usable images"):
        adapt(make(), source, target[:1])
    with pytest.raises(InputError, match="target: got 30 objects, expected 40"):
        adapt(make(), source, target[:30], pairs=True)
    source[:12], target[-12:] = -1, -1
    with (
        pytest.warns(GalmlWarning),
        pytest.raises(InputError, match="target: got 16 usable pairs"),
    ):
        adapt(make(), source, target, pairs=True)


def test_frozen_weights_stay():
    source, target, _ = surveys()
    model = make()
    model.network.layers[1].requires_grad_(False)
    adapted = adapt(model, source, target, **FAST)
    first, second = (m.network.layers[1].weight for m in (model, adapted))
    assert torch.equal(first, second)
    model.network.requires_grad_(False)
    with pytest.raises(ModelError, match="scales: none of its weights may change"):
        adapt(model, source, target)


def test_pairs_are_altered_alike(monkeypatch):
    monkeypatch.setattr(WeighDomain, "views", (View(), *WeighDomain.views[1:3]))
    images, forward = [], Scale.forward
    source, _, _ = surveys(60)

    def noted(self, inputs):
        images.append(inputs["image"].clone())
        return forward(self, inputs)

    monkeypatch.setattr(Scale, "forward", noted)
    monkeypatch.setitem(BATCH_SIZES, "cpu", 64)
    adapt(make(), source, source, pairs=True, epochs=3, batch_size=64)
    # After the scale of the outputs is measured, frozen network and copy in turns.
    assert len(images) >= 10
    for frozen, copied in zip(images[1:9:2], images[2:10:2], strict=True):
        assert torch.equal(frozen, copied)


def test_models_of_files(tmp_path):
    source, target, _ = surveys(40)
    path = tmp_path / "scales.safetensors"
    make().save(path)
    adapted = adapt(path, source, target, epochs=1)
    adapted.save(tmp_path / "adapted.safetensors")
    again = GalaxyModel.load(tmp_path / "adapted.safetensors")
    assert again.sha256 == adapted.sha256
    with pytest.raises(ModelError, match="'none'"):
        adapt("none", source, target)
    assert replace(again.input_spec) == adapted.input_spec
