# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable, vstack

from galml.core.exceptions import GalmlWarning, InputError, InputUnitError
from galml.stars.training_set import (
    FEWEST_GALAXIES,
    TrainingSet,
    choose_stars,
    read_training_set,
    split_stars,
)

AXES = ("x", "v_x", "age")
COUNT, STARS = 6, 30


@pytest.fixture
def conditions():
    age = np.linspace(3, 9, COUNT)
    return QTable(
        {
            "galaxy_id": [f"g{i}" for i in range(COUNT)],
            "stellar_mass": 10 ** np.linspace(8, 11, COUNT) * u.Msun,
            "median_age": age * u.Gyr,
            "age_percentile_10": 0.3 * age * u.Gyr,
            "metallicity": np.linspace(-1, 0, COUNT) * u.dex,
        }
    )


@pytest.fixture
def tables(conditions):
    rng = np.random.default_rng(1)
    return [
        QTable(
            {
                "galaxy_id": [name] * STARS,
                "x": rng.normal(size=STARS) * u.kpc,
                "v_x": 100 * rng.normal(size=STARS) * u.km / u.s,
                "age": rng.uniform(0.1, 13, STARS) * u.Gyr,
            }
        )
        for name in conditions["galaxy_id"]
    ]


@pytest.fixture
def stars(tables):
    return vstack(tables)


def without(table, name):
    table = table.copy()
    table.remove_column(name)
    return table


def test_read(stars, conditions):
    data = read_training_set(stars, conditions, AXES)
    assert list(data.axes.items()) == [
        ("x", u.kpc),
        ("v_x", u.km / u.s),
        ("age", u.Gyr),
    ]
    assert data.stars.dtype == torch.float32
    for place, name in enumerate(AXES):
        assert torch.equal(
            data.stars[:, place], torch.from_numpy(stars[name].value).float()
        )
    assert data.galaxy.tolist() == np.repeat(range(COUNT), STARS).tolist()
    assert data.contexts[:, 0].numpy() == pytest.approx(np.linspace(8, 11, COUNT))
    assert (data.n_conditions, data.latent) == (4, 0)
    assert (data.images, data.extent, data.escape) == (None, None, None)


def test_tables_of_galaxies_are_the_same(tables, stars, conditions):
    each, one = (read_training_set(d, conditions, AXES) for d in (tables, stars))
    assert torch.equal(each.stars, one.stars)
    assert torch.equal(each.galaxy, one.galaxy)


def test_order_of_conditions(stars, conditions):
    turned = read_training_set(stars, conditions[::-1], AXES)
    straight = read_training_set(stars, conditions, AXES)
    assert torch.equal(
        turned.contexts[turned.galaxy], straight.contexts[straight.galaxy]
    )


def test_latents_and_images(stars, conditions):
    conditions["latent"] = np.arange(2.0 * COUNT).reshape(COUNT, 2)
    conditions["image"] = [None] * COUNT
    data = read_training_set(stars, conditions, AXES)
    assert (data.n_conditions, data.latent) == (4, 2)
    assert data.contexts[:, 4:].flatten().tolist() == list(range(2 * COUNT))
    assert len(data.images) == COUNT


def test_ends_of_galaxies(stars, conditions):
    conditions["r_max"] = np.arange(1.0, COUNT + 1) * u.Mpc
    stars["escape_speed"] = np.arange(1.0, len(stars) + 1) * u.m / u.s
    stars["x"][4] = np.nan
    with pytest.warns(GalmlWarning, match="1 of 180 stars are not known"):
        data = read_training_set(stars, conditions, AXES)
    assert len(data.stars) == len(data.galaxy) == len(data.escape) == len(stars) - 1
    assert data.extent.tolist() == [1000.0 * (i + 1) for i in range(COUNT)]
    assert data.escape[3:5].numpy() == pytest.approx([4e-3, 6e-3])
    conditions["r_max"][2] = 0 * u.kpc
    with pytest.raises(InputError, match="r_max"):
        read_training_set(stars[:4], conditions, AXES)


def test_sizes_of_all_galaxies_or_of_none(stars, conditions):
    conditions["r_eff"] = np.full(COUNT, 10.0) * u.kpc
    data = read_training_set(stars, conditions, AXES)
    assert data.contexts[:, 4].tolist() == [1.0] * COUNT
    conditions["r_eff"][1] = np.nan
    with pytest.raises(InputError, match="sizes of 5 galaxies"):
        read_training_set(stars, conditions, AXES)


def test_without_conditions(stars):
    data = read_training_set(stars, None, ("x",))
    assert data.contexts is None and data.n_conditions == 0
    assert data.galaxy.max() == COUNT - 1


def test_wrong_input(stars, tables, conditions):
    with pytest.raises(InputError, match="no column 'z'"):
        read_training_set(stars, conditions, ("x", "z"))
    with pytest.raises(InputError, match="no column 'galaxy_id'"):
        read_training_set(without(stars, "galaxy_id"), conditions, AXES)
    with pytest.raises(InputError, match="galaxy_id.*'g5'"):
        read_training_set(stars, conditions[:-1], AXES)
    with pytest.raises(InputError, match="5 tables, expected 6"):
        read_training_set(tables[:-1], conditions, AXES)
    with pytest.raises(InputError, match="stellar_mass"):
        read_training_set(stars, without(conditions, "stellar_mass"), AXES)
    with pytest.raises(InputError, match="axes"):
        read_training_set(stars, conditions, [])
    wrong = stars.copy()
    wrong["x"] = wrong["x"].value * u.s
    with pytest.raises(InputUnitError, match="stars\\['x'\\]"):
        read_training_set(wrong, conditions, AXES)
    conditions["stellar_mass"][3] = -1 * u.Msun
    with pytest.raises(InputError, match="stellar_mass"):
        read_training_set(stars, conditions, AXES)


@pytest.mark.parametrize("count", [FEWEST_GALAXIES - 1, FEWEST_GALAXIES])
def test_split(count):
    galaxy = torch.arange(count).repeat_interleave(STARS)
    data = TrainingSet(torch.rand(len(galaxy), 2), galaxy, {})
    by_galaxy, *parts = split_stars(data, 0.2, 0)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(galaxy)))
    shared = set(galaxy[parts[0]].tolist()) & set(galaxy[parts[1]].tolist())
    assert by_galaxy == (count == FEWEST_GALAXIES) == (not shared)
    assert len(parts[1]) == pytest.approx(0.2 * len(galaxy), abs=1)
    again = split_stars(data, 0.2, 0)
    other = split_stars(data, 0.2, 3)
    assert torch.equal(again[2], parts[1]) and not torch.equal(other[2], parts[1])


def test_too_few_stars():
    data = TrainingSet(torch.rand(19, 2), torch.zeros(19, dtype=torch.int64), {})
    with pytest.raises(InputError, match="19 usable stars"):
        split_stars(data, 0.1, 0)


def test_choose_stars():
    galaxy = torch.tensor([1] * 8 + [0] * 2 + [2] * 5)
    stars = {"stars": torch.arange(15.0)[:, None], "galaxy": galaxy}
    assert choose_stars(stars, None, 0) is stars
    chosen = choose_stars(stars, 3, 0)
    assert torch.bincount(chosen["galaxy"]).tolist() == [2, 3, 3]
    rows = chosen["stars"][:, 0].long()
    assert len(rows.unique()) == 8 and torch.equal(galaxy[rows], chosen["galaxy"])
    other = choose_stars(stars, 3, 1)["stars"][:, 0].long()
    assert sorted(rows.tolist()) != sorted(other.tolist())
