# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From particles to a fitted flow and back to stars."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, vstack
from numpy.testing import assert_allclose

import galml
from galml.core import Flag
from galml.physics import AGE_OF_UNIVERSE, STAR_AXES
from galml.stars import fit, prepare


def particles(mass, seed, n=900):
    """A disk whose size, speed and metals grow with its mass."""
    rng = np.random.default_rng(seed)
    size, speed = 3 * (mass / 1e10) ** 0.3, 150 * (mass / 1e10) ** 0.25
    phi, radius = rng.uniform(0, 2 * np.pi, n), rng.gamma(2, size, n)
    noise = rng.normal(0, 0.1 * speed, (3, n))
    age = rng.uniform(0.5, 12, n)
    iron = 0.3 * np.log10(mass / 1e10) - 0.03 * age + rng.normal(0, 0.1, n)
    return QTable(
        {
            "x": radius * np.cos(phi) * u.kpc,
            "y": radius * np.sin(phi) * u.kpc,
            "z": rng.normal(0, 0.1 * size, n) * u.kpc,
            "v_x": (noise[0] - speed * np.sin(phi)) * u.km / u.s,
            "v_y": (noise[1] + speed * np.cos(phi)) * u.km / u.s,
            "v_z": noise[2] * u.km / u.s,
            "metal_mass_fraction": 0.0134 * 10 ** (iron + rng.normal(0, 0.02, n)),
            "fe_h": iron * u.dex,
            "o_fe": (0.02 * age + rng.normal(0, 0.03, n)) * u.dex,
            "age": age * u.Gyr,
            "mass": np.full(n, mass / n) * u.Msun,
        }
    )


@pytest.fixture(scope="module")
def data():
    made = [
        prepare(particles(10**mass, seed), galaxy_id=f"G{seed}")
        for seed, mass in enumerate(np.linspace(9, 11, 12))
    ]
    stars, conditions = (vstack(tables) for tables in zip(*made, strict=True))
    return stars, conditions


@pytest.fixture(scope="module")
def fitted(data):
    options = {"layers": 2, "width": 16, "embedding": 8}
    return fit(*data, options=options, epochs=3, batch_size=512, device="cpu")


def test_sampled_stars_are_like_the_particles(data, fitted):
    stars, conditions = data
    drawn = galml.sample_stars(conditions, 1000, model=fitted, seed=1, device="cpu")
    values = np.array([np.asarray(drawn[name]) for name in STAR_AXES])
    assert np.isfinite(values).all()
    assert ((drawn["age"].value > 0) & (drawn["age"].value < AGE_OF_UNIVERSE)).all()
    assert (drawn["metal_mass_fraction"] > 0).all()
    assert not drawn["flags"].any()
    for name in ("G1", "G10"):
        own, true = (t[t["galaxy_id"] == name] for t in (drawn, stars))
        for size in (lambda t: np.hypot(t["x"], t["y"]), lambda t: abs(t["v_x"])):
            assert_allclose(np.median(size(own)) / np.median(size(true)), 1, atol=0.25)
        spin = own["x"] * own["v_y"] - own["y"] * own["v_x"]
        assert np.mean(spin > 0) > 0.8


def test_likelihood_knows_the_galaxy(data, fitted):
    stars, conditions = data
    own = galml.star_log_prob(stars, conditions, model=fitted, device="cpu")
    assert np.isfinite(own["log_prob"]).all()
    assert not (own["flags"] & int(Flag.FAILED)).any()
    other = conditions.copy()
    other["galaxy_id"] = conditions["galaxy_id"][::-1]
    wrong = galml.star_log_prob(stars, other, model=fitted, device="cpu")
    assert own["log_prob"].mean() > wrong["log_prob"].mean() + 1


def test_domain_is_that_of_the_training(data, fitted):
    far = data[1][:2].copy()
    far["stellar_mass"][1] = 1e13 * u.Msun
    flags = galml.sample_stars(far, 2, model=fitted, device="cpu")["flags"]
    assert flags.tolist() == [0, 0] + [int(Flag.OUT_OF_DOMAIN)] * 2
