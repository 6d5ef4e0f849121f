# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import astropy.units as u
import numpy as np
import pytest
import torch

from galml.core.exceptions import InputError
from galml.mocks import (
    COMPONENTS,
    STAR_TABLE_POPULATION,
    draw_star_galaxies,
    star_galaxies,
    star_particles,
    star_tensors,
)
from galml.mocks import scaling_relations as relations
from galml.mocks.chemistry import (
    OLDEST,
    iron_offset,
    metal_mass_fraction,
    stellar_age,
)
from galml.mocks.chemo_recipe import (
    SIZE_TRENDS,
    disk_stars,
    escape_speed,
    gravity,
    halo_stars,
    heating,
    motion_tables,
)
from galml.mocks.dynamics import (
    GRAVITY,
    escape_speed2,
    grid_place,
    radial_dispersion2,
    radius_grid,
)
from galml.mocks.images import particle_spacing
from galml.mocks.profiles import interpolate
from galml.physics import SOLAR_METALLICITY, STAR_AXES
from galml.stars import prepare
from galml.stars.preparation import read_conditions

THIN, THICK, HALO = (COMPONENTS.index(c) for c in ("thin disk", "thick disk", "halo"))


@pytest.fixture(scope="module")
def made():
    return star_tensors(60, 2000, seed=5)


@pytest.fixture(scope="module")
def giant():
    """One galaxy like the Milky Way in the plane of its parameters."""
    p = draw_star_galaxies(0, 200, 1)
    best = (p["log_mass"] - 10.7).abs() + 0.3 * p["age_residual"].abs()
    return {key: value[best.argmin()][None] for key, value in p.items()}


def cylindrical(stars):
    x, y, _, v_x, v_y, v_z = stars[..., :6].unbind(-1)
    radius = torch.hypot(x, y)
    return radius, (x * v_x + y * v_y) / radius, (x * v_y - y * v_x) / radius, v_z


def disk(p, n, age, component=THIN, seed=0):
    generator = torch.Generator().manual_seed(seed)
    even = torch.rand(3, n, generator=generator).clamp(1e-6, 1 - 1e-6)
    noise = torch.randn(3, n, generator=generator)
    row = torch.zeros(n, dtype=torch.long)
    ages = torch.full((n,), age)
    tables = motion_tables(p, gravity(p))
    return disk_stars(p, row, row + component, ages, even, noise, tables)


def test_shapes_and_bounds(made):
    stars, component = made["stars"], made["component"]
    assert STAR_TABLE_POPULATION == "chemo-2"
    assert stars.shape == (60, 2000, len(STAR_AXES))
    assert stars.dtype == torch.float32
    assert torch.isfinite(stars).all()
    age, metals = stars[..., 9], stars[..., 6]
    assert 0 < age.min() and age.max() <= OLDEST + 1e-5
    assert 0 < metals.min() and metals.max() < 0.2
    assert component.unique().tolist() == [0, 1, 2, 3]


def test_a_galaxy_depends_on_its_number_and_the_seed_alone(made):
    alone = star_tensors(2, 2000, seed=5, first=37)
    torch.testing.assert_close(alone["stars"], made["stars"][37:39], rtol=0, atol=1e-4)
    torch.testing.assert_close(
        alone["conditions"], made["conditions"][37:39], rtol=1e-6, atol=1e-6
    )
    again = star_tensors(2, 2000, seed=5, first=37)
    assert torch.equal(alone["stars"], again["stars"])
    other = star_tensors(2, 2000, seed=6, first=37)
    assert not torch.isclose(alone["stars"], other["stars"]).any(-1).all()


@pytest.mark.parametrize("counts", [(0, 10), (3, 0)])
def test_numbers_must_be_positive(counts):
    with pytest.raises(InputError, match="a positive integer"):
        star_tensors(*counts)


def test_conditions_are_those_of_the_stars(made):
    age, metals = (made["stars"][..., i].double().numpy() for i in (9, 6))
    columns = made["conditions"].numpy().T
    np.testing.assert_allclose(columns[0], made["truth"]["log_mass"].numpy())
    for column, percent in ((columns[1], 50), (columns[2], 10)):
        low, high = np.percentile(age, [percent - 0.1, percent + 0.1], axis=1)
        assert ((low <= column) & (column <= high)).all()
    metals = np.log10(metals.mean(1) / SOLAR_METALLICITY)
    np.testing.assert_allclose(columns[3], metals, atol=1e-12)
    radius = cylindrical(made["stars"])[0].double().numpy()
    inside = (radius <= 10 ** columns[4][:, None] * (1 + 1e-6)).mean(1)
    np.testing.assert_allclose(inside, 0.5, atol=1e-3)


def test_preparation_leaves_the_galaxies_as_they_are():
    stars, conditions = next(iter(star_galaxies(1, 2000, seed=5, first=9)))
    _, row = prepare(stars, position_percentile=None, metallicity_percentile=None)
    for name in ("stellar_mass", "median_age", "age_percentile_10", "metallicity"):
        assert row[name].unit == conditions[name].unit
        np.testing.assert_allclose(row[name].value, conditions[name].value, rtol=2e-3)


def test_tables_hold_the_same(made):
    stars, conditions = next(iter(star_galaxies(1, 2000, seed=5, first=7)))
    assert list(STAR_AXES) == stars.colnames[:10]
    assert all(
        stars[name].unit == STAR_AXES[name] for name in ("x", "v_z", "fe_h", "age")
    )
    np.testing.assert_allclose(stars["age"].value, made["stars"][7, :, 9], atol=1e-5)
    np.testing.assert_allclose(
        stars["mass"].sum().to_value(u.Msun), conditions["stellar_mass"][0].value
    )
    read = read_conditions(conditions)
    assert read.names[0] == 7
    expected = made["conditions"][7]
    np.testing.assert_allclose(read.values[0][:4], expected[:4], atol=1e-6)
    np.testing.assert_allclose(conditions["r_eff"].value, 10 ** expected[4])
    assert conditions["r_eff"].unit == u.kpc
    assert conditions["fraction"].shape == (1, 4)


def test_galaxies_are_centered_and_spin_about_z(made):
    place, velocity = made["stars"][..., :3].double(), made["stars"][..., 3:6].double()
    for value in (place, velocity):
        off = value.mean(1) / (value.std(1) / math.sqrt(2000))
        assert off.abs().max() < 5
    momentum = torch.linalg.cross(place, velocity).mean(1)
    direction = momentum / torch.linalg.vector_norm(momentum, dim=1, keepdim=True)
    assert (direction[:, 2] > 0.98).all()


def test_stars_have_the_age_distribution_asked_for():
    share = torch.tensor([0.1, 0.5, 0.9])
    shape = torch.tensor(1.7)
    age = stellar_age(share, torch.tensor(6.0), shape)
    assert age[1].item() == pytest.approx(6.0, abs=2e-3)
    broad = stellar_age(share, torch.tensor(6.0), 2 * shape)
    assert broad[1].item() == pytest.approx(6.0, abs=2e-3)
    assert (age.diff() > 0).all()
    assert broad[0] > age[0]


def test_rotation_curve_of_known_parts(giant):
    radius, total, smooth = gravity(giant)
    far = (radius[0] / giant["size"] > 10) & (radius[0] / giant["size"] < 40)
    # Far out, stars count as a point, beside the halo of Navarro, Frenk & White.
    ratio = radius[0] / giant["dark_radius"]
    c = giant["concentration"]
    dark = 10 ** giant["dark_mass"] * (torch.log1p(ratio) - ratio / (1 + ratio))
    dark = dark / (torch.log1p(c) - c / (1 + c))
    expected = GRAVITY * (dark + 10 ** giant["log_mass"]) / radius[0]
    torch.testing.assert_close(total[0, far], expected[far], rtol=0.02, atol=0)
    assert (total > smooth).all()
    # The virial radius holds 200 critical densities.
    mass = 10 ** giant["dark_mass"]
    size = relations.virial_radius(giant["dark_mass"])
    density = mass / (4 / 3 * math.pi * size**3)
    critical = 3 * relations.HUBBLE**2 / (8 * math.pi * GRAVITY)
    assert (density / critical).item() == pytest.approx(200, rel=1e-4)


def test_hernquist_halo_obeys_the_virial_theorem(giant):
    n = 50_000
    generator = torch.Generator().manual_seed(3)
    even = torch.rand(3, n, generator=generator).clamp(1e-6, 1 - 1e-6)
    noise = torch.randn(3, n, generator=generator)
    row = torch.zeros(n, dtype=torch.long)
    field = gravity(giant)
    tables = motion_tables(giant, field)
    radius, _, z, *velocity = halo_stars(giant, row, even, noise, tables)
    distance = torch.hypot(radius, z)
    place = grid_place(distance, giant["size"][row])
    pull = interpolate(field[1][..., None], row, place)[:, 0]
    kinetic = sum(one**2 for one in velocity).mean()
    # What lies beyond the edge presses on the rest, hence a little more than 1.
    assert kinetic / pull.mean() == pytest.approx(1.0, abs=0.06)


def test_isothermal_sphere_has_its_dispersion():
    radius = torch.logspace(-3, 2, 96)[None]
    total = torch.full_like(radius, 200.0**2)
    for anisotropy in (0.0, 0.4):
        # Density falls as r^-3, so sigma_r^2 = v_c^2 / (3 - 2 beta).
        sigma2 = radial_dispersion2(total, radius**-3, radius, anisotropy)
        inner = sigma2[0, :60].sqrt()
        expected = 200 / math.sqrt(3 - 2 * anisotropy)
        torch.testing.assert_close(
            inner, torch.full_like(inner, expected), rtol=1e-2, atol=0
        )


def test_escape_speed_of_known_potentials():
    radius = radius_grid(torch.ones(1))
    # A point mass, and a logarithmic potential that ends where the grid does.
    point = GRAVITY * 1e10 / radius
    torch.testing.assert_close(escape_speed2(point), 2 * point, rtol=3e-3, atol=0)
    flat = escape_speed2(torch.full_like(radius, 200.0**2))
    expected = 2 * 200.0**2 * (1 + (radius[:, -1:] / radius).log())
    torch.testing.assert_close(flat, expected, rtol=2e-4, atol=0)


def test_stars_are_bound_and_inside_the_extent(made):
    place, velocity = made["stars"][..., :3], made["stars"][..., 3:6]
    radius, speed = (torch.linalg.vector_norm(one, dim=-1) for one in (place, velocity))
    limit = escape_speed(made["truth"], radius)
    assert (speed < limit * (1 + 1e-5)).all()
    assert (speed > 0.9 * limit).any()
    assert (limit <= made["truth"]["escape_speed"][:, None] * (1 + 1e-5)).all()
    assert (radius <= made["truth"]["extent"][:, None]).all()


def test_rotation_answers_to_size_and_age(giant):
    speeds, drifts = [], []
    for factor in (0.7, 1.0, 1.4):
        p = dict(giant)
        for name in ("size", "disk_length", "spheroid_radius", "halo_scale"):
            p[name] = factor * giant[name]
        radius, _, _, _, young, _ = disk(p, 15_000, 0.5)
        _, _, _, _, old, _ = disk(p, 15_000, 12.0)
        ring = (radius / giant["disk_length"] - 1).abs() < 0.1
        speeds.append(young[ring].mean().item())
        drifts.append((young.median() - old.median()).item())
    # At one radius the smaller are faster, as more of their mass is inside.
    assert speeds[0] > 1.02 * speeds[1] > 1.04 * speeds[2]
    assert min(drifts) > 0


def test_dispersions_grow_with_age_as_asked(giant):
    ages = torch.tensor([0.5, 2.0, 5.0, 12.0])
    spread = []
    for age in ages.tolist():
        radius, _, _, v_r, _, v_z = disk(giant, 15_000, age)
        ring = ((radius / giant["disk_length"]) - 2.0).abs() < 0.3
        spread.append([v_r[ring].std(), v_z[ring].std()])
    spread = np.log(np.array(spread, dtype=float))
    powers = np.polyfit(np.log(ages.numpy() + 0.1), spread, 1)[0]
    np.testing.assert_allclose(powers, [0.251, 0.441], atol=0.03)
    assert heating(torch.tensor(10.0), 0.3).item() == pytest.approx(1.0)


def test_old_stars_and_thick_disks_lag_behind(giant):
    rotation = []
    for age, component in ((0.2, THIN), (5.0, THIN), (12.0, THIN), (11.0, THICK)):
        radius, _, _, _, v_phi, _ = disk(giant, 15_000, age, component)
        ring = ((radius / giant["disk_length"]) - 2.0).abs() < 0.3
        rotation.append(v_phi[ring].mean().item())
    field = gravity(giant)
    place = grid_place(2 * giant["disk_length"], giant["size"])
    row = torch.zeros(1, dtype=torch.long)
    circular = interpolate(field[1].sqrt()[..., None], row, place).item()
    assert circular > rotation[0] > rotation[1] > rotation[2] > rotation[3] > 0
    assert circular - rotation[0] < 0.05 * circular


def test_disks_grow_inside_out_and_thicken(giant):
    young, old, thick = (
        disk(giant, 20_000, age, component)
        for age, component in ((1.0, THIN), (11.0, THIN), (11.0, THICK))
    )
    assert young[0].median() > 1.2 * old[0].median()
    heights = [stars[2].abs().median() for stars in (young, old, thick)]
    assert heights[0] < 0.5 * heights[1] < heights[1] < heights[2]
    # An exponential disk has half of its mass inside 1.678 scale lengths.
    length = 0.75 * giant["disk_length"]
    assert (thick[0].median() / length).item() == pytest.approx(1.678, rel=0.03)


def test_metals_follow_iron_and_oxygen():
    zero = torch.zeros(())
    assert metal_mass_fraction(zero, zero).item() == pytest.approx(SOLAR_METALLICITY)
    # In the limit of few metals: Salaris et al. (1993).
    iron, oxygen = torch.tensor(-2.0), torch.tensor([0.0, 0.4])
    poor = metal_mass_fraction(iron, oxygen)
    expected = 0.638 * 10**0.4 + 0.362
    assert (poor[1] / poor[0]).item() == pytest.approx(expected, rel=0.01)
    assert metal_mass_fraction(torch.tensor(2.0), zero) < 0.31


def test_metals_scatter_so_that_no_axis_follows_from_others(made):
    metals, iron, oxygen = made["stars"][..., 6:9].unbind(-1)
    rest = (metals / metal_mass_fraction(iron, oxygen)).log10()
    assert rest.std().item() == pytest.approx(0.03, abs=0.003)
    assert abs(rest.mean().item()) < 0.002


def test_two_sequences_of_oxygen(made):
    giants = made["truth"]["log_mass"] > 10.2
    component = made["component"][giants]
    iron, oxygen = made["stars"][giants][..., 7:9].unbind(-1)
    poor = (iron + 0.5).abs() < 0.15
    thick = oxygen[poor & (component == THICK)]
    thin = oxygen[poor & (component == THIN)]
    assert 0.3 < thick.median() < 0.55
    assert thick.median() - thin.median() > 0.12
    # Dwarfs have their knee at lower [Fe/H].
    dwarfs = made["truth"]["log_mass"] < 8.5
    iron, oxygen = made["stars"][dwarfs][..., 7:9].unbind(-1)
    own = ((iron + 0.7).abs() < 0.15) & (made["component"][dwarfs] == THICK)
    assert oxygen[own].median() < thick.median() - 0.1


def test_older_stars_are_poorer():
    age = torch.linspace(0.1, 13, 20)
    for component in range(4):
        for evolved in (0.0, 1.0):
            offset = iron_offset(
                torch.full((20,), component), age, torch.full((20,), evolved)
            )
            assert (offset.diff() < 0).all()


def test_gradient_of_young_stars(made):
    p = made["truth"]
    giants = (p["log_mass"] > 10.3) & (p["log_mass"] < 11)
    stars = made["stars"][giants]
    radius = cylindrical(stars)[0] / p["disk_length"][giants, None]
    rest = stars[..., 7] - p["iron"][giants, None]
    rows = (made["component"][giants] == THIN) & (stars[..., 9] < 3) & (radius < 4)
    slope = np.polyfit(radius[rows].numpy(), rest[rows].numpy(), 1)[0]
    assert slope == pytest.approx(-0.058 * 2.6, abs=0.03)


@pytest.mark.parametrize(
    ("relation", "rows", "scatter"),
    [
        ("size", "all", (0.14, 0.24)),
        ("speed", "giant", (0.0, 0.08)),
        ("iron", "dwarf", (0.05, 0.2)),
        ("metals", "giant", (0.05, 0.16)),
    ],
)
def test_published_relations(made, relation, rows, scatter):
    mass = made["truth"]["log_mass"]
    chosen = {"giant": mass > 9, "dwarf": mass < 9}.get(rows, mass > 0)
    stars = made["stars"]
    radius, _, v_phi, _ = cylindrical(stars)
    most = torch.quantile(radius, 0.8, dim=1, keepdim=True)
    ring = (made["component"] == THIN) & (stars[..., 9] < 3)
    ring &= (radius / most).log().abs() < 0.4
    value, expected = {
        "size": (
            radius.median(1).values.log10(),
            relations.half_light_radius(mass),
        ),
        "speed": (
            ((v_phi * ring).sum(1) / ring.sum(1)).log10(),
            relations.tully_fisher(mass),
        ),
        "iron": (stars[..., 7].mean(1), relations.iron_of_dwarfs(mass)),
        "metals": (
            (stars[..., 6] / SOLAR_METALLICITY).log10().mean(1),
            relations.metallicity(mass),
        ),
    }[relation]
    rest = (value - expected)[chosen]
    assert abs(rest.mean()) < 0.06
    assert scatter[0] < rest.std() < scatter[1]


def test_relations_have_their_published_values():
    assert relations.tully_fisher(torch.tensor(10.102)).item() == pytest.approx(2.142)
    # Moster et al. (2013): a halo of 10^11.59 has 0.0351 of its mass in stars.
    mass = torch.tensor(11.59 + math.log10(0.0351))
    assert relations.halo_mass(mass).item() == pytest.approx(11.59, abs=2e-3)
    halo = torch.tensor(12 - math.log10(0.677))
    assert relations.concentration(halo).item() == pytest.approx(0.905)
    assert relations.half_light_radius(torch.tensor(10.6)).item() == pytest.approx(
        math.log10(0.1 * (10**10.6) ** 0.14 * 2**0.25), abs=1e-3
    )


def test_structure_follows_age_at_a_given_mass():
    p = draw_star_galaxies(0, 400, 3)
    bulge = torch.logit(p["fraction"][:, 2]) - 1.8 * p["log_mass"]
    thick = (p["fraction"][:, 1] / p["fraction"][:, 0]).log10()
    thick = thick - relations.thick_to_thin(p["log_mass"]).log10()
    for value, sign in ((bulge, 1), (thick, 1)):
        together = torch.stack([value, p["age_residual"]])
        assert sign * torch.corrcoef(together)[0, 1] > 0.4
    torch.testing.assert_close(p["fraction"].sum(1), torch.ones(400))
    assert (p["fraction"] > 0).all()
    # Masses are even over their range.
    counts = torch.histc(p["log_mass"], 8, 7.5, 11.2)
    assert counts.min() > 45


def test_sizes_scatter_as_those_observed():
    p = draw_star_galaxies(0, 6000, 1)
    mass, share = p["log_mass"], p["fraction"][:, 2]
    for rows, early in ((share < 0.5, False), (share > 0.5, True)):
        rest = p["size"].log10() - relations.half_light_radius(mass, early)
        rest = rest / relations.size_scatter(mass)
        assert rest[rows].std().item() == pytest.approx(1, abs=0.1)
        assert abs(rest[rows].mean()) < 0.1
    disks = share < 0.2
    rest = p["size"].log10() - relations.half_light_radius(mass)
    for name, trend in zip(
        ("age_residual", "metallicity_residual"), SIZE_TRENDS, strict=True
    ):
        found = torch.corrcoef(torch.stack([rest[disks], p[name][disks]]))[0, 1]
        assert found.item() == pytest.approx(trend, abs=0.06)
    dex = relations.size_scatter(torch.tensor([7.5, 11.5]))
    assert dex.tolist() == pytest.approx([0.204, 0.148], abs=1e-3)


def test_spheroids_have_half_of_the_mass_in_giants():
    p = draw_star_galaxies(0, 2000, 3)
    rows = (p["log_mass"] - 11).abs() < 0.1
    assert p["fraction"][rows, 2].mean().item() == pytest.approx(0.5, abs=0.05)
    assert p["fraction"][rows, 2].std() > 0.1
    # Their sizes lie between those of disks and bulges.
    assert (p["spheroid_radius"] <= p["size"]).all()


def test_stellar_halos_are_old_poor_and_hardly_rotate(made):
    halo = made["component"] == HALO
    stars = made["stars"]
    assert stars[halo][:, 9].median() > 10
    giants = made["truth"]["log_mass"] > 10
    mine = halo & giants[:, None]
    others = ~halo & giants[:, None]
    assert stars[mine][:, 7].mean() < stars[others][:, 7].mean() - 0.7
    _, v_r, v_phi, _ = cylindrical(stars)
    assert abs(v_phi[mine].mean()) < 0.15 * v_phi[mine].std()
    assert v_phi[mine].std() < v_r[mine].std()


def test_particles_are_spread_by_the_density_around_them():
    generator = torch.Generator().manual_seed(0)
    stars = torch.zeros(1, 8000, 10)
    stars[..., :3] = torch.rand(1, 8000, 3, generator=generator)
    galaxy = star_particles(stars, torch.tensor([2.0]))
    inner = ((stars[0, :, :3] - 0.5).abs() < 0.3).all(1)
    # A unit cube of 8000: 1 / 20 apart.
    spacing = particle_spacing(galaxy.position)
    assert spacing[0, inner].mean().item() == pytest.approx(0.05, rel=0.1)
    assert galaxy.stellar_mass.item() == 16_000
