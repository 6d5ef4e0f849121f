# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

from galml.core.exceptions import InputError
from galml.physics import SOLAR_METALLICITY
from galml.stars import metrics

KMS = u.km / u.s


def disk(count=4000, seed=0):
    """A rotating disk that turns from x to y at 200 km/s x R / (R + 2 kpc)."""
    random = np.random.default_rng(seed)
    radius, angle = random.uniform(0, 10, count), random.uniform(0, 2 * np.pi, count)
    speed = 200 * radius / (radius + 2)
    return QTable(
        {
            "x": radius * np.cos(angle) * u.kpc,
            "y": radius * np.sin(angle) * u.kpc,
            "z": np.zeros(count) * u.kpc,
            "v_x": -speed * np.sin(angle) * KMS,
            "v_y": speed * np.cos(angle) * KMS,
            "v_z": np.zeros(count) * KMS,
        }
    )


def test_cylindrical_of_a_rotating_disk():
    found = metrics.cylindrical(disk())
    wanted = 200 * found["radius"] / (found["radius"] + 2)
    np.testing.assert_allclose(found["phi"], wanted, rtol=1e-12)
    np.testing.assert_allclose(found["r"], 0, atol=1e-11)


def test_rotation_curve_of_a_rotating_disk():
    stars = disk()
    radius = np.hypot(stars["x"], stars["y"])
    edges = [0, 2, 5, 9, 20] * u.kpc
    curve = metrics.rotation_curve(stars, edges.to(u.pc))
    for row in curve:
        inside = (radius >= row["low"]) & (radius < row["high"])
        speed = (200 * radius[inside] / (radius[inside] + 2 * u.kpc)).value
        assert row["count"] == inside.sum()
        assert row["value"].to_value(KMS) == pytest.approx(speed.mean(), rel=1e-12)
    np.testing.assert_allclose(curve["low"].to_value(u.kpc), [0, 2, 5, 9])


def test_default_radii_hold_the_stars():
    curve = metrics.rotation_curve(disk())
    assert len(curve) == 12 and curve["count"].sum() == 3800
    assert np.isfinite(curve["value"]).all()


def test_empty_bins_are_unknown():
    curve = metrics.rotation_curve(disk(), [0, 10, 20] * u.kpc)
    assert np.isnan(curve["value"][1]) and curve["count"][1] == 0


def test_dispersion_curves():
    stars, random = disk(20_000), np.random.default_rng(1)
    found = metrics.cylindrical(stars)
    cos, sin = stars["x"].value / found["radius"], stars["y"].value / found["radius"]
    along = {"r": 40, "phi": 25, "z": 10}
    r, phi, z = (random.normal(0, s, len(stars)) * KMS for s in along.values())
    stars["v_x"] = r * cos - phi * sin
    stars["v_y"] = r * sin + phi * cos
    stars["v_z"] = z
    edges = [2, 6, 10] * u.kpc
    for key, sigma in along.items():
        curve = metrics.dispersion_curve(stars, edges, along=key)
        np.testing.assert_allclose(curve["value"].to_value(KMS), sigma, rtol=0.03)
    with pytest.raises(InputError, match="along: got 'x'"):
        metrics.dispersion_curve(stars, along="x")


def test_center_is_no_trouble():
    stars = disk(10)
    stars["x"][0] = stars["y"][0] = 0 * u.kpc
    assert all(np.isfinite(v).all() for v in metrics.cylindrical(stars).values())


def test_age_metallicity():
    age = np.repeat(np.arange(14) + 0.5, 101)
    spread = np.tile(np.linspace(-1, 1, 101), 14)
    iron = 0.3 - 0.05 * age + 0.2 * spread
    stars = QTable({"age": (age * u.Gyr).to(u.Myr), "fe_h": iron * u.dex})
    found = metrics.age_metallicity(stars)
    center = (found["low"] + found["high"]).to_value(u.Gyr) / 2
    wanted = 0.3 - 0.05 * center
    np.testing.assert_allclose(found["value"].value, wanted, atol=1e-12)
    np.testing.assert_allclose(found["value_lo"].value, wanted - 0.136, atol=1e-12)
    np.testing.assert_allclose(found["value_hi"].value, wanted + 0.136, atol=1e-12)
    stars["metal_mass_fraction"] = SOLAR_METALLICITY * 10 ** stars["fe_h"].value
    del stars["fe_h"]
    again = metrics.age_metallicity(stars)
    np.testing.assert_allclose(again["value"].value, wanted, atol=1e-12)


def test_quantiles():
    stars = disk(5)
    stars["age"] = [1, 2, 3, 4, np.nan] * u.Gyr
    found = metrics.quantiles(stars[["age"]], (0, 0.5, 1))
    assert found.colnames == ["level", "age"]
    assert found["age"].to_value(u.Gyr).tolist() == [1, 2.5, 4]
    with pytest.raises(InputError, match="no column 'fe_h'"):
        metrics.quantiles(stars, axes=["fe_h"])
