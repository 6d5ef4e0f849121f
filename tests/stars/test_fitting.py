# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.table import QTable, vstack
from astropy.utils.masked import Masked

import galml
from galml.core.exceptions import (
    GalmlWarning,
    InputError,
    ModelError,
)
from galml.core.model import GalaxyModel
from galml.physics import CONDITIONS
from galml.stars import fit
from galml.stars.fitting import fit_flow
from galml.stars.training_set import TrainingSet

COUNT, STARS = 12, 60
AXES = ("x", "y", "v_x", "v_y", "age")
QUICK = {
    "epochs": 2,
    "batch_size": 128,
    "device": "cpu",
    "options": {"layers": 2, "width": 16, "embedding": 8},
}


@pytest.fixture(scope="module")
def conditions():
    rng = np.random.default_rng(0)
    age = rng.uniform(3, 9, COUNT)
    return QTable(
        {
            "galaxy_id": [f"g{i}" for i in range(COUNT)],
            "stellar_mass": 10 ** rng.uniform(8, 11, COUNT) * u.Msun,
            "median_age": age * u.Gyr,
            "age_percentile_10": 0.3 * age * u.Gyr,
            "metallicity": rng.uniform(-1, 0, COUNT) * u.dex,
        }
    )


@pytest.fixture(scope="module")
def tables(conditions):
    """Rotating disks that grow with mass, one table for each galaxy."""
    rng = np.random.default_rng(1)
    result = []
    for row in conditions:
        size = (row["stellar_mass"].value / 1e10) ** 0.3
        phi, radius = rng.uniform(0, 2 * np.pi, STARS), rng.gamma(2, size, STARS)
        speed = 150 * size + 20 * rng.normal(size=(2, STARS))
        table = QTable(
            {
                "x": radius * np.cos(phi) * u.kpc,
                "y": radius * np.sin(phi) * u.kpc,
                "v_x": -speed[0] * np.sin(phi) * u.km / u.s,
                "v_y": speed[1] * np.cos(phi) * u.km / u.s,
                "age": rng.uniform(0.1, 13, STARS) * u.Gyr,
            }
        )
        table["galaxy_id"] = row["galaxy_id"]
        result.append(table)
    return result


@pytest.fixture(scope="module")
def stars(tables):
    return vstack(tables)


@pytest.fixture(scope="module")
def model(stars, conditions):
    return fit(stars, conditions, axes=AXES, name="mine", **QUICK)


def state(model):
    return {key: value.clone() for key, value in model.network.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_fit(model, conditions):
    assert isinstance(model, GalaxyModel)
    assert (model.operation, model.architecture) == ("stars", "coupling")
    assert model.options["cylinder"] == [0, 1, 2, 3]
    assert [axis["name"] for axis in model.config["axes"]] == list(AXES)
    assert model.config["axes"][4]["unit"] == "Gyr"
    low, high = (model.config["conditions"][0][key] for key in ("lo", "hi"))
    mass = np.log10(conditions["stellar_mass"].value)
    # A twentieth beyond the galaxies, and a thousandth.
    margin = 0.05 * np.ptp(mass) + 1e-3
    assert low == pytest.approx(mass.min() - margin, abs=2e-3)
    assert high == pytest.approx(mass.max() + margin, abs=2e-3)
    assert model.card["validation"] == "galaxies"
    assert model.card["training_galaxies"] == COUNT - 1
    assert model.card["training_stars"] == (COUNT - 1) * STARS
    losses = model.history["validation_loss"]
    assert model.card["figures"]["log_prob"] == pytest.approx(-min(losses), rel=1e-5)
    assert model.card["seed"] == 0
    assert model.input_spec.scalars == CONDITIONS
    assert model.input_spec.grid == ()
    table = galml.sample_stars(conditions, 10, model=model, seed=0)
    assert len(table) == 10 * COUNT
    assert np.isfinite(table["v_x"]).all()


def test_saved(model, stars, conditions, tmp_path):
    model.save(tmp_path / "mine.safetensors")
    again = galml.load_model(tmp_path / "mine.safetensors")
    found = [
        galml.star_log_prob(stars, conditions, model=m)["log_prob"]
        for m in (model, again)
    ]
    assert np.array_equal(*found)


def test_tables_of_galaxies_are_the_same(model, tables, conditions):
    other = fit(tables, conditions, axes=AXES, **QUICK)
    assert same(state(model), state(other))


def test_seed(model, stars, conditions):
    before = torch.random.get_rng_state()
    other = fit(stars, conditions, axes=AXES, seed=1, **QUICK)
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second = (state(m)["couplings.0.mixing"] for m in (model, other))
    # Two random rotations of five axes are sqrt(10) apart.
    assert 2 < (first - second).norm() < 4.5


def test_fresh_seed(stars, conditions):
    fresh = fit(stars, conditions, axes=AXES, **QUICK | {"epochs": 1, "seed": None})
    seed = fresh.card["seed"]
    again = fit(stars, conditions, axes=AXES, **QUICK | {"epochs": 1, "seed": seed})
    assert same(state(fresh), state(again))


def test_low_precision(model, stars, conditions):
    other = fit(stars, conditions, axes=AXES, dtype="bfloat16", **QUICK)
    found, expected = (m.history["validation_loss"][-1] for m in (other, model))
    assert found == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    "network, options",
    [
        ("maf", {"transforms": 2, "hidden": (16,)}),
        ("galacticflow", {"layers": 1, "hidden": (16,)}),
    ],
)
def test_published(network, options, stars, conditions):
    quick = QUICK | {"options": options}
    model = fit(stars, conditions, axes=AXES, network=network, **quick)
    assert model.architecture == network
    assert model.options["whiten"] is False
    assert model.options["kinds"][0] == "linear"
    assert model.history["train_loss"][-1] < model.history["train_loss"][0]


def test_killed_and_resumed(model, stars, conditions, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    calls = 0

    class Killed(Exception):
        pass

    def dying(old):
        def save(*args):
            nonlocal calls
            old(*args)
            calls += 1
            raise Killed

        return save

    with pytest.MonkeyPatch.context() as patch:
        from galml.core import training

        patch.setattr(training, "save_checkpoint", dying(training.save_checkpoint))
        with pytest.raises(Killed):
            fit(stars, conditions, axes=AXES, checkpoint=path, **QUICK)
    assert calls == 1 and path.exists()
    resumed = fit(stars, conditions, axes=AXES, checkpoint=path, **QUICK)
    assert same(state(model), state(resumed))


def test_fine_tuning(model, stars, conditions):
    before = state(model)
    tuned = fit(stars, conditions, model=model, **(QUICK | {"options": None}))
    assert same(before, state(model))
    assert tuned.config == model.config and tuned.options == model.options
    weights, old = state(tuned), before
    assert torch.equal(weights["scaling.mean"], old["scaling.mean"])
    change = (weights["affine.weight"] - old["affine.weight"]).abs().max()
    # Twelve steps of Adam, of at most the learning rate each.
    assert 1e-4 < change < 12e-3
    assert tuned.input_spec == model.input_spec


def test_learns_a_known_density():
    # A star is normal around a line in the mass; nothing else matters.
    rng = np.random.default_rng(0)
    mass, count = rng.uniform(-1, 1, 40), 250
    context = np.array([mass, *np.zeros((3, 40))]).T
    noise = rng.normal(size=(40, count, 2))
    noise[..., 1] = 0.8 * noise[..., 0] + 0.6 * noise[..., 1]
    values = noise * 0.5 + 3 * mass[:, None, None]
    data = TrainingSet(
        stars=torch.from_numpy(values.reshape(-1, 2)).float(),
        galaxy=torch.arange(40).repeat_interleave(count),
        axes={"a": u.Unit(""), "b": u.Unit("")},
        contexts=torch.from_numpy(context),
    )
    model = fit_flow(
        data,
        epochs=6,
        batch_size=200,
        learning_rate=3e-3,
        smoothing=0.01,
        device="cpu",
        options={"layers": 2, "width": 16, "embedding": 8},
    )
    entropy = 1 + math.log(2 * math.pi) + math.log(0.25 * 0.6)
    # Of galaxies that were not trained on.
    assert -entropy - 0.05 < model.card["figures"]["log_prob"] < -entropy + 0.05
    with torch.no_grad():
        noise = torch.randn(2000, 2, generator=torch.manual_seed(0))
        found = model.network.sample(noise, torch.tensor([[0.7, 0, 0, 0]]))
    assert found.mean(0).numpy() == pytest.approx(2.1, abs=0.1)
    assert np.corrcoef(found.T)[0, 1] == pytest.approx(0.8, abs=0.05)


def test_other_columns_without_conditions():
    rng = np.random.default_rng(0)
    table = QTable(
        {"GalR": rng.normal(8, 1, 200) * u.kpc, "[Fe/H]": rng.normal(size=200)}
    )
    model = fit(table, axes=("GalR", "[Fe/H]"), **QUICK)
    assert model.config["axes"][0] == {"name": "GalR", "unit": "kpc", "kind": "linear"}
    assert model.config["conditions"] == []
    assert model.card["validation"] == "stars"
    assert model.options["context"] == 0
    sample = galml.sample_stars(None, 50, model=model)
    assert sample["GalR"].unit == u.kpc
    assert sample["GalR"].value.mean() == pytest.approx(8, abs=1)


def test_latents_of_some_galaxies(stars, conditions):
    rng = np.random.default_rng(0)
    table = conditions.copy()
    table["latent"] = rng.normal(size=(COUNT, 3))
    table["latent"][::2] = np.nan
    model = fit(stars, table, axes=AXES, **QUICK)
    assert model.options["latent"] == 3
    expected = table["latent"][1::2].mean(0)
    found = model.network.context_mean[4:].numpy()
    assert found == pytest.approx(expected, rel=1e-5)
    sample = galml.sample_stars(table, 5, model=model, seed=0)
    assert np.isfinite(sample["x"]).all()


def test_stars_of_a_galaxy(stars, conditions):
    model = fit(stars, conditions, axes=AXES, stars_per_galaxy=20, **QUICK)
    assert model.card["training_stars"] == (COUNT - 1) * 20


def test_axisymmetric(stars, conditions):
    model = fit(stars, conditions, axes=AXES, axisymmetric=False, **QUICK)
    assert "cylinder" not in model.options


def test_unknown_stars_are_left_out(tables, conditions, model):
    broken = tables[0].copy()
    broken["x"][5] = np.nan * u.kpc
    broken["age"][7] = 20 * u.Gyr
    broken["age"] = Masked(broken["age"], mask=np.arange(STARS) < 3)
    with pytest.warns(GalmlWarning) as caught:
        model = fit([broken, *tables[1:]], conditions, axes=AXES, **QUICK)
    told = " ".join(str(one.message) for one in caught)
    assert "4 of 720 stars are not known in all axes" in told
    assert "stars are out of bounds" in told
    assert model.card["training_stars"] <= (COUNT - 1) * STARS - 5


def test_wrong_input(stars, conditions):
    with pytest.raises(InputError, match="expected at least 20"):
        fit(stars[:10], conditions, axes=AXES, **QUICK)
    with pytest.raises(InputError, match="validation"):
        fit(stars, conditions, axes=AXES, validation=0.9, **QUICK)
    with pytest.raises(InputError, match="smoothing"):
        fit(stars, conditions, axes=AXES, smoothing=-1, **QUICK)


def test_wrong_options(stars, conditions):
    with pytest.raises(ModelError, match="unknown architecture 'glow'"):
        fit(stars, conditions, axes=AXES, network="glow", **QUICK)
    with pytest.raises(ModelError, match="options of the network: .*depth"):
        fit(stars, conditions, axes=AXES, **(QUICK | {"options": {"depth": 3}}))
    with pytest.raises(ModelError, match="combine"):
        fit(stars, conditions, axes=AXES, network="ensemble", **QUICK)
    with pytest.raises(InputError, match="'coupling', as the model has it"):
        fit(stars, conditions, network="maf", model="default", **QUICK)
    with pytest.raises(InputError, match="stars_per_galaxy"):
        fit(stars, conditions, axes=AXES, stars_per_galaxy=0, **QUICK)
    with pytest.raises(InputError, match="encoder"):
        fit(stars, conditions, axes=AXES, encoder="large", **QUICK)
    with pytest.raises(InputError, match="no column 'image'"):
        fit(stars, conditions, axes=AXES, encoder="small", **QUICK)


def test_images(stars, conditions, tmp_path):
    y, x = np.mgrid[:48, :48] - 23.5
    table = conditions.copy()
    table["image"] = np.empty(COUNT, dtype=object)
    for row in range(1, COUNT):
        light = np.exp(-np.hypot(x, y * (1 + 0.1 * row)) / 4)
        table["image"][row] = CCDData(
            light * np.array([0.5, 1.0, 1.2])[:, None, None],
            unit=u.nJy,
            meta={"BANDS": "g,r,i", "R_EFF": 2.0, "PIXSCALE": 0.3},
        )
    path = tmp_path / "checkpoint"
    quick = QUICK | {"epochs": 1, "checkpoint": path}
    model = fit(stars, table, axes=AXES, encoder="small", **quick)
    assert model.options["encoder"] == "small" and model.options["latent"] == 16
    assert model.input_spec.grid == (64, 64)
    assert model.input_spec.scalars == CONDITIONS
    assert (tmp_path / "checkpoint.encoder").exists()
    assert not any(p.requires_grad for p in model.network.encoder.parameters())
    samples = [
        galml.sample_stars(given, 20, model=model, seed=0)["x"].value
        for given in (table, conditions)
    ]
    assert np.isfinite(samples).all()
    # The first galaxy has no image in either table.
    assert np.array_equal(samples[0][:20], samples[1][:20])
    assert not np.allclose(samples[0][20:], samples[1][20:])
    table["latent"] = np.zeros((COUNT, 2))
    with pytest.raises(InputError, match="images and latents"):
        fit(stars, table, axes=AXES, encoder="small", **QUICK | {"epochs": 1})
