# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.cosmology.units as cu
import astropy.units as u
import numpy as np
import pytest
from astropy.cosmology import WMAP9, FlatLambdaCDM, Planck18
from astropy.table import MaskedColumn, QTable
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from galml.core.exceptions import InputError, InputUnitError
from galml.physics import AGE_OF_UNIVERSE, SOLAR_METALLICITY
from galml.stars.particles import prepare, shrinking_sphere

SMOOTH = {"position_percentile": None, "metallicity_percentile": None}


def disk(n=2000, seed=1, turn=None, offset=0.0, drift=0.0):
    """A thin disk that turns around +z, then turned and moved."""
    rng = np.random.default_rng(seed)
    phi, radius = rng.uniform(0, 2 * np.pi, n), rng.exponential(3, n)
    height = rng.normal(0, 0.2, n)
    zero = np.zeros(n)
    place = np.stack([radius * np.cos(phi), radius * np.sin(phi), height], 1)
    speed = 200 * np.stack([-np.sin(phi), np.cos(phi), zero], 1)
    # Symmetric, so that center and spin are exact.
    mirror = [1, 1, -1]
    place = np.vstack([place, -place, place * mirror, -place * mirror])
    speed = np.vstack([speed, -speed, speed * mirror, -speed * mirror])
    if turn is not None:
        place, speed = turn.apply(place), turn.apply(speed)
    columns = dict(zip("xyz", (place + offset).T * u.kpc, strict=True))
    names = ("v_x", "v_y", "v_z")
    columns |= dict(zip(names, (speed + drift).T * u.km / u.s, strict=True))
    columns["mass"] = np.full(4 * n, 1e6) * u.Msun
    columns["age"] = np.tile(rng.uniform(1, 12, n), 4) * u.Gyr
    columns["metal_mass_fraction"] = np.tile(10 ** rng.normal(-2, 0.2, n), 4)
    return QTable(columns)


def vectors(stars, names):
    return np.stack([stars[name].value for name in names], 1)


def spin_of(stars):
    place, speed = vectors(stars, "xyz"), vectors(stars, ("v_x", "v_y", "v_z"))
    spin = np.cross(place, speed).sum(axis=0)
    return spin / np.linalg.norm(spin)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("align", ["inner", "young", "all"])
def test_tilted_disk_comes_back(seed, align):
    turn = Rotation.random(rng=seed)
    table = disk(turn=turn, offset=[3, -40, 1000], drift=[100, -20, 3])
    stars, conditions = prepare(table, align=align, **SMOOTH)
    assert np.degrees(np.arccos(spin_of(stars)[2])) < 0.1
    assert abs(np.median(vectors(stars, "xyz"), axis=0)).max() < 0.3
    flat = disk()
    assert_allclose(np.std(stars["z"].value), np.std(flat["z"].value), rtol=0.01)
    assert_allclose(vectors(stars, ("v_x", "v_y", "v_z")).mean(axis=0), 0, atol=3)
    assert len(stars) == conditions["n_stars"][0] == 8000


def test_upside_down_disk():
    stars, _ = prepare(disk(turn=Rotation.from_euler("x", 180, degrees=True)))
    assert_allclose(spin_of(stars), [0, 0, 1], atol=1e-3)


def test_no_turn():
    turn = Rotation.from_euler("x", 90, degrees=True)
    stars, _ = prepare(disk(turn=turn), align=None, **SMOOTH)
    assert_allclose(abs(spin_of(stars)), [0, 1, 0], atol=1e-6)


def test_young_stars_lead():
    """Old stars on a polar orbit do not count for 'young'."""
    young = disk()
    old = disk(turn=Rotation.from_euler("x", 90, degrees=True))
    young["age"], old["age"] = 1 * u.Gyr, 10 * u.Gyr
    old["mass"] = old["mass"] * 0.9
    from astropy.table import vstack

    both = vstack([young, old])
    for align, least in (("young", 0.9999), ("all", 0.5)):
        stars, _ = prepare(both, align=align, **SMOOTH)
        own = spin_of(stars[stars["age"] < 5 * u.Gyr])[2]
        assert own > least
        assert (own > 0.99) == (align == "young")


def test_center_is_the_densest_place():
    rng = np.random.default_rng(2)
    core, halo = rng.normal(5, 0.5, (3000, 3)), rng.normal(-5, 5, (3000, 3))
    place = np.vstack([core, halo])
    assert_allclose(shrinking_sphere(place, np.ones(6000)), 5, atol=0.2)
    few = rng.normal(size=(10, 3))
    assert_allclose(shrinking_sphere(few, np.ones(10)), np.median(few, axis=0))
    assert_allclose(shrinking_sphere(np.ones((500, 3)), np.ones(500)), 1)


def test_conditions():
    table = disk()
    mass = np.random.default_rng(3).uniform(1, 2, len(table)) * 1e6
    table["mass"] = mass * u.Msun
    stars, conditions = prepare(table, galaxy_id="NGC 1")
    assert conditions.colnames == [
        "galaxy_id",
        "stellar_mass",
        "r_eff",
        "median_age",
        "age_percentile_10",
        "metallicity",
        "n_stars",
    ]
    assert_allclose(conditions["stellar_mass"].to_value(u.Msun), mass.sum())
    age = table["age"].value
    order = np.argsort(age)
    share = np.cumsum(mass[order]) / mass.sum()
    for name, part in (("median_age", 0.5), ("age_percentile_10", 0.1)):
        expected = age[order][np.searchsorted(share, part)]
        assert_allclose(conditions[name].to_value(u.Gyr), expected)
    mean = np.average(table["metal_mass_fraction"], weights=mass)
    assert conditions["metallicity"].unit == u.dex
    assert_allclose(conditions["metallicity"].value, np.log10(mean / SOLAR_METALLICITY))
    half = conditions["r_eff"].to_value(u.kpc)
    inside = np.hypot(table["x"].to_value(u.kpc), table["y"].to_value(u.kpc)) < half
    assert_allclose(mass[inside].sum() / mass.sum(), 0.5, atol=0.03)
    assert conditions["galaxy_id"][0] == "NGC 1"
    assert (stars["galaxy_id"] == "NGC 1").all()
    assert conditions["n_stars"][0] == len(stars)


def test_conditions_are_those_of_the_operation(model):
    import galml

    _, conditions = prepare(disk())
    assert len(galml.sample_stars(conditions, model=model)) == conditions["n_stars"][0]


def test_units_of_simulations():
    """Comoving kpc/h, km/s per root of a, 1e10 solar masses/h."""
    expected, truth = prepare(disk(), **SMOOTH)
    a, h = 0.4, 0.7
    table = disk()
    for name in ("x", "y", "z"):
        table[name] = table[name] / a * h
    for name in ("v_x", "v_y", "v_z"):
        table[name] = table[name] / a**0.5
    table["mass"] = (table["mass"] * h).to(1e10 * u.Msun)
    stars, conditions = prepare(table, scale_factor=a, h=h, **SMOOTH)
    for name in expected.colnames[1:]:
        got = getattr(stars[name], "value", stars[name])
        want = getattr(expected[name], "value", expected[name])
        assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert_allclose(conditions["stellar_mass"] / truth["stellar_mass"], 1, rtol=1e-12)


def test_littleh():
    expected, truth = prepare(disk(), **SMOOTH)
    table, h = disk(), WMAP9.h
    for name in ("x", "y", "z"):
        table[name] = table[name].value * h * 1000 * u.pc / cu.littleh
    table["mass"] = table["mass"].value * h * u.Msun / cu.littleh
    stars, conditions = prepare(table, cosmology=WMAP9, **SMOOTH)
    assert_allclose(stars["x"].value, expected["x"].value, rtol=1e-10, atol=1e-12)
    assert_allclose(conditions["stellar_mass"] / truth["stellar_mass"], 1, rtol=1e-12)
    with pytest.raises(InputError, match="h: got"):
        prepare(table, h=0.7)
    table["x"] = table["x"].value * u.s / cu.littleh
    with pytest.raises(InputUnitError, match="'x'"):
        prepare(table)


@pytest.mark.parametrize("cosmology", [Planck18, WMAP9, FlatLambdaCDM(70, 0.3)])
@pytest.mark.parametrize("now", [1.0, 0.5])
def test_ages_from_formation(cosmology, now):
    table = disk(500)
    formed = np.random.default_rng(4).uniform(0.05, now * 0.999, len(table))
    del table["age"]
    table["formation_scale_factor"] = formed
    options = {"cosmology": cosmology, "align": "all"} | SMOOTH
    stars, _ = prepare(table, redshift=1 / now - 1, **options)
    some = slice(None, 50)
    age = cosmology.age(1 / now - 1) - cosmology.age(1 / formed[some] - 1)
    # No star is left out, and the order is that of the particles.
    assert len(stars) == len(table)
    assert_allclose(stars["age"][some] / age, 1, rtol=1e-6)
    for name in ("x", "y", "z"):
        table[name] = table[name] / now
    same, _ = prepare(table, scale_factor=now, **options)
    assert_allclose(same["age"], stars["age"])


def test_wind_and_unknown_particles_are_dropped():
    table = disk()
    n = len(table)
    table["formation_scale_factor"] = np.random.default_rng(4).uniform(0.1, 0.9, n)
    del table["age"]
    _, everything = prepare(table, **SMOOTH)
    table["formation_scale_factor"][:100] = -0.2
    table["formation_scale_factor"][100:110] = 0.0
    table["x"][110:120] = np.nan * u.kpc
    table["mass"][120:125] = 0 * u.Msun
    table["metal_mass_fraction"] = MaskedColumn(
        table["metal_mass_fraction"], mask=np.arange(n) >= n - 7
    )
    stars, conditions = prepare(table, **SMOOTH)
    assert len(stars) == n - 125 - 7
    assert_allclose(conditions["stellar_mass"].to_value(u.Msun), 1e6 * (n - 132))
    assert everything["n_stars"][0] == n


def test_cuts():
    table = disk()
    table["fe_h"] = np.log10(table["metal_mass_fraction"] / 0.0134) * u.dex
    table["o_fe"] = np.full(len(table), 0.2) * u.dex
    table["x"][0] = 1000 * u.kpc
    table["metal_mass_fraction"][1] = 0.9
    table["metal_mass_fraction"][2] = -1e-17
    table["fe_h"][3] = -9 * u.dex
    table["o_fe"][4] = -1.5 * u.dex
    table["age"][5] = 0 * u.Gyr
    table["age"][6] = 20 * u.Gyr
    stars, conditions = prepare(table)
    assert 0.95 * len(table) < len(stars) < 0.965 * len(table)
    assert conditions["stellar_mass"][0].to_value(u.Msun) == 1e6 * len(table)
    assert (stars["metal_mass_fraction"] > 0).all()
    assert stars["metal_mass_fraction"].max() < 0.5
    assert stars["fe_h"].min() > -8 * u.dex
    assert stars["o_fe"].min() > -1 * u.dex
    assert stars["age"].min() > 0 * u.Gyr
    assert stars["age"].max().value < AGE_OF_UNIVERSE
    everything, _ = prepare(table, **SMOOTH)
    assert len(everything) == len(table) - 5
    strict, _ = prepare(table, position_percentile=50, metallicity_percentile=None)
    assert abs(len(strict) - len(table) / 2) < 10
    rich, _ = prepare(table, fe_h_min=0, **SMOOTH)
    assert rich["fe_h"].min() > 0 * u.dex


def test_poorest_stars_without_iron():
    table = disk()
    table["metal_mass_fraction"][0] = 1e-20
    assert len(prepare(table, **SMOOTH)[0]) == len(table) - 1
    assert len(prepare(table, fe_h_min=-30, **SMOOTH)[0]) == len(table)


def test_axes_that_are_not_known_are_left_out():
    table = disk()
    table.remove_columns(["age", "metal_mass_fraction"])
    stars, conditions = prepare(table)
    assert stars.colnames == ["galaxy_id", "x", "y", "z", "v_x", "v_y", "v_z", "mass"]
    assert conditions.colnames == ["galaxy_id", "stellar_mass", "r_eff", "n_stars"]
    with pytest.raises(InputError, match="young"):
        prepare(table, align="young")


def test_input_is_not_changed():
    table = disk()
    before = table.copy()
    prepare(table, scale_factor=0.5, h=0.7)
    assert all((table[name] == before[name]).all() for name in before.colnames)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_factor": 0.5, "redshift": 1}, "redshift"),
        ({"scale_factor": 0}, "scale_factor"),
        ({"redshift": -1}, "redshift"),
        ({"h": np.nan}, "h: got"),
        ({"align": "old"}, "align"),
        ({"position_percentile": 0}, "position_percentile"),
        ({"metallicity_percentile": 101}, "metallicity_percentile"),
        ({"fewest": 10_000}, "10000"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        prepare(disk(150), **{"fewest": 1} | options)


def test_wrong_columns():
    table = disk()
    table["x"] = table["x"].value
    with pytest.raises(InputUnitError, match="'x'"):
        prepare(table)
    del table["x"]
    with pytest.raises(InputError, match="no column 'x'"):
        prepare(table)
    with pytest.raises(InputError, match="no usable star"):
        prepare(disk()[:0])
    table = disk()
    for name in ("v_x", "v_y", "v_z"):
        table[name] = 0 * u.km / u.s
    with pytest.raises(InputError, match="angular momentum"):
        prepare(table)


@pytest.mark.parametrize("number", [417175, 420815, 426280])
def test_illustris(shared, number):
    data = np.load(shared / "stars" / f"illustris1_m31_analog_{number}.npy")
    data = data.astype(float)
    table = QTable(dict(zip("xyz", data.T[:3] * u.kpc, strict=True)))
    for name, column in zip(("v_x", "v_y", "v_z"), data.T[3:6], strict=True):
        table[name] = column * u.km / u.s
    table["mass"] = data[:, 6] * 1e10 * u.Msun
    table["formation_scale_factor"] = data[:, 7]
    table["metal_mass_fraction"] = data[:, 8]
    stars, conditions = prepare(table, h=0.704, cosmology=WMAP9, galaxy_id=number)
    born = data[:, 7] > 0
    total = data[born, 6].sum() * 1e10 / 0.704
    assert_allclose(conditions["stellar_mass"].to_value(u.Msun), total)
    assert 0.9 * born.sum() < len(stars) < born.sum()
    assert 2 * u.Gyr < conditions["median_age"][0] < 10 * u.Gyr
    assert abs(conditions["metallicity"][0]) < 0.5 * u.dex
    radius = np.hypot(stars["x"], stars["y"])
    disk_like = (radius > 5 * u.kpc) & (radius < 15 * u.kpc)
    disk_like &= (abs(stars["z"]) < 2 * u.kpc) & (stars["age"] < 5 * u.Gyr)
    turning = (stars["x"] * stars["v_y"] - stars["y"] * stars["v_x"]) / radius
    assert np.median(turning[disk_like]) > 40 * u.km / u.s


def test_tng(shared):
    data = np.load(shared / "stars" / "tng_394242_stars.npy").astype(float)
    table = QTable(dict(zip("xyz", data.T[1:4] * u.kpc, strict=True)))
    for name, column in zip(("v_x", "v_y", "v_z"), data.T[4:7], strict=True):
        table[name] = column * u.km / u.s
    table["mass"] = data[:, 0] * u.Msun
    stars, conditions = prepare(table)
    assert_allclose(conditions["stellar_mass"].to_value(u.Msun), data[:, 0].sum())
    assert spin_of(stars)[2] > 0.99
    assert len(stars) > 30_000
