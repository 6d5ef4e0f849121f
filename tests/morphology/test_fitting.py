# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch

import galml
from galml.core import InputError
from galml.core.fitting import fit_prepared, new_network
from galml.morphology import fit
from galml.morphology.fitting import MorphologyRecipe, augment, latent_loss
from galml.morphology.network import MorphologyNet
from galml.morphology.preparation import INPUT, prepare_pairs
from galml.physics import generator_for

KNOWN = {"r_eff": 8 * u.pix}


@pytest.fixture(scope="module")
def images(disk):
    rng = np.random.default_rng(0)
    shapes = rng.uniform((0.3, 0, 0), (1, 180, 0.5), (40, 3))
    data = np.stack([disk(q, a, 5.0, spot, size=48) for q, a, spot in shapes])
    return 200 * data[:, None] + rng.normal(size=(40, 1, 48, 48))


@pytest.fixture(scope="module")
def pairs(images):
    from galml.imaging import read_images

    (read,) = read_images(images, **KNOWN).members
    pairs = prepare_pairs(read, INPUT, generator_for(0, "test"))
    properties = torch.full((40, 2), torch.nan)
    properties[:20] = torch.arange(40).reshape(20, 2) / 40
    winding = torch.cat([torch.linspace(0.5, 1, 20), torch.full((20,), torch.nan)])
    return pairs.inputs | {"properties": properties, "winding": winding}


def test_terms_of_the_loss(pairs):
    network = new_network(MorphologyNet, {"properties": 2}, seed=1)
    terms = latent_loss(network, pairs)
    assert all(torch.isfinite(value) for value in terms.values())
    assert set(terms) == {
        "loss",
        "difference",
        "dissimilarity",
        "change",
        "detail",
        "correlation",
        "properties",
        "winding",
    }
    # What is not known of mocks does not count.
    other = pairs | {"properties": pairs["properties"].clone()}
    other["properties"][:20] += 10
    assert latent_loss(network, other)["properties"] > terms["properties"] + 10
    nothing = pairs | {"properties": torch.full((40, 2), torch.nan)}
    assert latent_loss(network, nothing)["properties"] == 0


def test_mirrored_batches(pairs):
    generator = torch.Generator().manual_seed(0)
    batch = augment(pairs, generator)
    assert batch["mirror"].min() == 1 and batch["mirror"].max() == 3
    assert torch.equal(batch["scalars"], pairs["scalars"])
    total = batch["image"].sum((2, 3))
    torch.testing.assert_close(total, pairs["image"].sum((2, 3)), atol=1e-2, rtol=1e-4)
    same = (batch["image"] == pairs["image"]).flatten(1).all(1)
    assert 1 <= same.sum() < 25
    # A mirror changes the sense in which arms wind; half a turn does not.
    ways = {(): 1, (-1,): -1, (-2,): -1, (-1, -2): 1}
    for row in range(20):
        image = pairs["image"][row]
        signs = {
            sign
            for axes, sign in ways.items()
            if torch.equal(image.flip(axes) if axes else image, batch["image"][row])
        }
        assert signs == {int(batch["winding"][row] / pairs["winding"][row])}
    assert len(set((batch["winding"] / pairs["winding"])[:20].tolist())) == 2


@pytest.mark.slow
def test_latents_learn_to_draw(pairs):
    data = pairs | {"properties": torch.zeros(40, 1)}
    del data["winding"]
    model = fit_prepared(
        MorphologyRecipe(), data, data, data, epochs=40, batch_size=20, seed=1
    )
    assert model.card["figures"]["ssim"] > 0.5
    history = model.history
    assert (
        history["validation_difference"][-1] < 0.5 * history["validation_difference"][0]
    )


def test_fit_and_use(images, tmp_path):
    model = fit(images, **KNOWN, epochs=1, batch_size=16, seed=1, name="mine")
    assert model.operation == "latents" and model.architecture == "morphology"
    assert model.card["training_images"] == 28
    path = tmp_path / "mine.safetensors"
    model.save(path)
    first = galml.latents(images[:3], model=model, **KNOWN)
    second = galml.latents(images[:3], model=str(path), **KNOWN)
    np.testing.assert_array_equal(first["latent"], second["latent"])
    assert (first["latent_err"] > 0).all()
    again = fit(images, **KNOWN, epochs=1, batch_size=16, seed=1)
    np.testing.assert_array_equal(
        first["latent"], galml.latents(images[:3], model=again, **KNOWN)["latent"]
    )
    tuned = fit(images, **KNOWN, model=model, epochs=1, batch_size=16, seed=2)
    assert not np.allclose(
        first["latent"], galml.latents(images[:3], model=tuned, **KNOWN)["latent"]
    )


def test_bad_arguments(images):
    with pytest.raises(InputError, match="network"):
        fit(images, **KNOWN, network="nonsense")
    with pytest.raises(InputError, match="'morphology', as the model has it"):
        fit(images, **KNOWN, network="xu2023", model="default")
    with pytest.raises(InputError, match="at least 20"):
        fit(images[:10], **KNOWN)
    with pytest.raises(InputError, match="validation"):
        fit(images, **KNOWN, validation=0.7)


def test_latents_of_surroundings_are_kept(images, surrounded):
    model = fit(images, model=surrounded, epochs=1, seed=1, **KNOWN)
    first, second = (one.network.surroundings for one in (model, surrounded))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len(model.config["scatter"]) == 48
    table = galml.latents(images[:2], model=model, **KNOWN)
    assert np.isfinite(table["latent_err"]).all()
