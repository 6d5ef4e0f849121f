# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks import COMPONENTS, random_orientation, rotation_matrix
from galml.mocks.dynamics import (
    GRAVITY,
    HALO_SCALE,
    circular_speed2,
    radius_grid,
)
from galml.mocks.profiles import (
    disk_mass,
    disk_surface,
    half_mass_radius,
    interpolate,
    sersic_projected_mass,
    spheroid_density,
    spheroid_mass,
)
from galml.mocks.star_recipe import (
    TYPES,
    build_stars,
    draw_stars,
)

# Without substructure.
OFF = (
    "arm_strength",
    "clump_fraction",
    "lopsidedness",
    "bar_fraction",
    "counter_fraction",
    "young_fraction",
    "thick_fraction",
    "age_gradient",
    "metallicity_gradient",
    "ring_fraction",
    "shell_fraction",
)
PLAIN = {
    "size": 4.0,
    "stellar_mass": 5e10,
    "dark_fraction": 0.2,
    "elongation": 1.0,
    "disk_edge": 3.0,
    "disk_steepness": 1.0,
}
BALL = {
    "bulge_fraction": 1.0,
    "flattening": 1.0,
    "spheroid_radius": 4.0,
    "sersic_index": 4.0,
    "anisotropy": 0.0,
    "rotation": 1.0,
    "disk_length": 2.0,
    "counter_length": 1.0,
}
DISK = BALL | {"bulge_fraction": 0.0, "size": 1.678 * 2.0, "disk_height": 0.1}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters(n=2, **changes):
    p = draw_stars(n, generator(7))
    for name, value in (dict.fromkeys(OFF, 0.0) | PLAIN | changes).items():
        p[name] = torch.full((n,), float(value))
    return p


def build(n=2, n_particles=8192, **changes):
    return build_stars(parameters(n, **changes), n_particles, generator(1), n_gas=0)


def weighted(stars, values):
    """Mean of the particles' values, by mass."""
    return (stars.mass * values).sum(1) / stars.mass.sum(1)


def share_inside(stars, radius):
    """Share of the mass inside a projected radius, face-on."""
    distance = torch.linalg.vector_norm(stars.position[..., :2], dim=-1)
    return weighted(stars, (distance < radius).float())


def test_population_is_reproducible_and_varies():
    first, again = draw_stars(40, generator(3)), draw_stars(40, generator(3))
    assert first.keys() == again.keys()
    for name in first:
        torch.testing.assert_close(first[name], again[name], rtol=0, atol=0)
        assert first[name].shape == (40,)
    assert not torch.equal(first["size"], draw_stars(40, generator(4))["size"])
    built, rebuilt = (build_stars(first, 2000, generator(5)) for _ in range(2))
    for name, value in vars(built).items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, getattr(rebuilt, name), rtol=0, atol=0)


def test_every_type_and_component_is_there_and_finite():
    p = draw_stars(200, generator(1))
    assert set(p["type"].tolist()) == set(range(len(TYPES)))
    stars = build_stars(p, 1000, generator(2))
    for name, value in vars(stars).items():
        assert not torch.is_tensor(value) or torch.isfinite(value).all(), name
    parts = set(range(len(COMPONENTS))) - {COMPONENTS.index("halo")}
    assert set(stars.component.flatten().tolist()) == parts
    assert (stars.spacing > 0).all()
    assert stars.age.min() >= 0.003
    assert stars.age.max() <= 13.5
    torch.testing.assert_close(stars.stellar_mass, p["stellar_mass"], rtol=1e-4, atol=0)
    torch.testing.assert_close(stars.gas_mass, p["gas_mass"], rtol=1e-4, atol=0)


def test_types_can_be_chosen():
    types = torch.tensor([0, 4, 4, 5])
    p = draw_stars(4, generator(), types)
    assert torch.equal(p["type"], types)
    assert p["bulge_fraction"][0] == 1
    assert (p["bulge_fraction"][1:3] <= 0.33).all()


def test_selection_of_galaxies():
    stars = build(n=3, n_particles=500)
    assert len(stars) == 3
    torch.testing.assert_close(stars[1:].velocity, stars.velocity[1:])


@pytest.mark.parametrize("index", [0.6, 1.0, 2.5, 4.0, 6.0])
def test_spheroid_projects_to_the_sersic_profile(index):
    stars = build(**BALL | {"sersic_index": index})
    for radius in (0.3, 1.0, 2.5):
        expected = sersic_projected_mass(torch.tensor(radius), torch.tensor(index))
        found = share_inside(stars, radius * 4.0)
        # Particles end at 30 effective radii.
        assert (found - expected).abs().max() < 0.02


@pytest.mark.parametrize("index", [0.8, 2.0, 5.0])
def test_density_and_mass_of_spheroids_agree(index):
    radius = torch.logspace(-4, 1, 4000, dtype=torch.float64)
    index = torch.tensor(index, dtype=torch.float64)
    shells = 4 * math.pi * radius**3 * spheroid_density(radius, index)
    mass = torch.trapezoid(shells, radius.log())
    expected = spheroid_mass(radius[-1], index) - spheroid_mass(radius[0], index)
    torch.testing.assert_close(mass, expected, rtol=1e-4, atol=0)


def test_half_of_the_mass_is_inside_the_size():
    p = draw_stars(64, generator(3))
    for name in OFF:
        p[name] = torch.zeros(64)
    stars = build_stars(p, 8192, generator(4), n_gas=0)
    share = share_inside(stars, p["size"][:, None])
    torch.testing.assert_close(share, torch.full((64,), 0.5), atol=0.03, rtol=0)
    alone = half_mass_radius(*(torch.tensor([v]) for v in (0.0, 1.0, 1.0, 1.0)))
    torch.testing.assert_close(disk_mass(alone), torch.tensor([0.5]), atol=0.01, rtol=0)


@pytest.mark.parametrize(("edge", "steepness"), [(1.5, 3.0), (4.0, 1.5), (2.0, 1.0)])
def test_disks_break(edge, steepness):
    """Particles lie as `disk_mass` says, whose derivative is `disk_surface`."""
    stars = build(**DISK | {"disk_edge": edge, "disk_steepness": steepness})
    edge, steepness = torch.tensor(edge), torch.tensor(steepness)
    for radius in (0.5, 1.5, 3.0, 5.0):
        expected = disk_mass(torch.tensor(radius), edge, steepness)
        assert (share_inside(stars, 2.0 * radius) - expected).abs().max() < 0.01
    radius = torch.linspace(0, 8, 4001).double()
    surface = disk_surface(radius, edge.double(), steepness.double())
    mass = torch.cumulative_trapezoid(2 * math.pi * radius * surface, radius)
    expected = disk_mass(radius, edge.double(), steepness.double())[1:]
    torch.testing.assert_close(mass, expected, atol=1e-5, rtol=0)


def test_rings_and_shells_lie_where_the_recipe_says():
    ring = build(**DISK | {"ring_fraction": 0.3, "ring_radius": 2.0})
    plain = build(**DISK)
    inside, smooth = (
        share_inside(s, 4.8) - share_inside(s, 3.2) for s in (ring, plain)
    )
    # Most of the 30 % that the ring took from the disk are within two widths.
    assert ((inside - 0.7 * smooth) > 0.27).all()
    shells = {"shell_fraction": 0.2, "shell_radius": 3.0, "bulge_fraction": 1.0}
    cap = build(**BALL | shells).position / 4.0
    whole = build(**BALL | shells | {"shell_fraction": 0.0}).position / 4.0
    # The outermost shell is a cap about +x, three effective radii away.
    for place, share in ((cap, 0.06), (whole, 0.02)):
        radius = torch.linalg.vector_norm(place, dim=-1)
        near = (radius > 2.5) & (radius <= 3.001) & (place[..., 0] > 0.75 * radius)
        found = near.float().mean(1)
        assert ((found > share) if share > 0.05 else (found < share)).all()


def test_circular_speed_of_a_disk_peaks_where_freeman_says():
    p = parameters(1, **DISK | {"dark_fraction": 0.0})
    mass = torch.tensor([[0.0, 5e10, 0.0]])
    total, smooth = circular_speed2(p, mass)
    radius = radius_grid(p["size"])[0]
    assert 2.0 < float(radius[total[0].argmax()]) / 2.0 < 2.4
    peak = math.sqrt(GRAVITY * 5e10 / 2.0) * 0.6219
    assert float(total.max().sqrt()) == pytest.approx(peak, rel=2e-3)
    assert smooth.abs().max() == 0


def test_circular_speed_outside_of_a_sphere_and_of_its_halo():
    p = parameters(1, **BALL)
    mass = torch.tensor([[5e10, 0.0, 0.0]])
    radius = radius_grid(p["size"])[0]
    bare, _ = circular_speed2(p | {"dark_fraction": torch.zeros(1)}, mass)
    far = radius > 200
    kepler = GRAVITY * 5e10 / radius[far]
    torch.testing.assert_close(bare[0, far], kepler, rtol=5e-3, atol=0)
    total, _ = circular_speed2(p, mass)
    at = int((radius < 4.0).sum())
    dark = (total - bare)[0, at] * radius[at] / GRAVITY
    assert float(dark) == pytest.approx(0.2 / 0.8 * 2.5e10, rel=0.15)
    assert HALO_SCALE > 1


def test_cold_disks_rotate_with_the_circular_speed():
    stars = build(**DISK | {"disk_height": 0.005})
    x, y, z = stars.position.unbind(-1)
    radius = torch.hypot(x, y)
    around = (x * stars.velocity[..., 1] - y * stars.velocity[..., 0]) / radius
    p = parameters(**DISK)
    total, _ = circular_speed2(p, torch.tensor([[0.0, 5e10, 0.0]] * 2))
    far = (radius[0] > 2) & (radius[0] < 6)
    place = torch.log(radius[0, far] / 3.356 / 1e-3) / math.log(1e5) * 95
    speed = interpolate(total[:1, :, None], torch.zeros(int(far.sum())).long(), place)
    torch.testing.assert_close(around[0, far], speed[:, 0].sqrt(), rtol=0.01, atol=0)
    assert stars.velocity[..., 2].abs().max() == 0
    assert z.abs().max() < 0.2
    assert stars.dispersion[:, far].max() < 40


def test_counter_rotating_disks_turn_the_other_way():
    stars = build(**DISK | {"counter_fraction": 0.5, "counter_length": 2.0})
    spin = torch.linalg.cross(stars.position, stars.velocity)[..., 2]
    counter = stars.component == COMPONENTS.index("counter")
    assert (spin[counter] < 0).all()
    assert (spin[~counter] > 0).all()
    assert (weighted(stars, spin).abs() < 0.05 * weighted(stars, spin.abs())).all()


def test_clumps_move_with_the_disk():
    still = DISK | {"disk_height": 0.01, "young_fraction": 1.0}
    stars = build(**still | {"clump_fraction": 1.0, "clump_size": 0.01})
    smooth = build(**still)
    assert stars.spacing.median() < smooth.spacing.median()
    x, y, _ = stars.position.unbind(-1)
    around = (x * stars.velocity[..., 1] - y * stars.velocity[..., 0]).div(
        torch.hypot(x, y)
    )
    speed = torch.linalg.vector_norm(stars.velocity, dim=-1)
    assert float((around / speed).mean()) > 0.97


def test_isotropic_sphere_fulfils_the_virial_theorem():
    p = parameters(**BALL)
    stars = build(**BALL)
    total, _ = circular_speed2(p, torch.tensor([[5e10, 0.0, 0.0]] * 2))
    radius = torch.linalg.vector_norm(stars.position, dim=-1)
    place = torch.log(radius / 4.0 / 1e-3) / math.log(1e5) * 95
    rows = torch.arange(2)[:, None].expand_as(place)
    speed2 = interpolate(total[..., None], rows.flatten(), place.flatten())
    gravity = weighted(stars, speed2.reshape(radius.shape))
    motion = weighted(stars, (stars.dispersion**2).sum(-1))
    torch.testing.assert_close(motion, gravity, rtol=0.03, atol=0)
    assert (
        weighted(stars, torch.linalg.vector_norm(stars.velocity, dim=-1)) < 15
    ).all()


@pytest.mark.parametrize("flattening", [0.4, 0.6, 0.8])
def test_oblate_isotropic_rotator_fulfils_the_tensor_virial_theorem(flattening):
    stars = build(
        **BALL | {"flattening": flattening, "sersic_index": 2.0, "dark_fraction": 0.0}
    )
    ordered = weighted(stars, (stars.velocity**2).sum(-1))
    pressure = weighted(stars, stars.dispersion[..., 2] ** 2)
    e = math.sqrt(1 - flattening**2)
    # Potential energy of homeoids by axis (Roberts 1962; Binney & Tremaine 2008).
    a1 = flattening / e**2 * (math.asin(e) / e - flattening)
    a3 = 2 * flattening / e**2 * (1 / flattening - math.asin(e) / e)
    expected = math.sqrt(2 * (a1 / (a3 * flattening**2) - 1))
    found = (ordered / pressure).sqrt()
    torch.testing.assert_close(found, torch.full((2,), expected), rtol=0.1, atol=0)


def test_anisotropy_flattens_the_velocity_ellipsoid():
    stars = build(**BALL | {"flattening": 0.7, "anisotropy": 0.3})
    along_r, _, along_z = (stars.dispersion**2).unbind(-1)
    torch.testing.assert_close(along_z, 0.7 * along_r, rtol=1e-3, atol=1e-3)


def test_dispersion_along_the_line_of_sight():
    ball = build(**BALL)
    turned = ball.rotated(random_orientation(2, generator(3)))
    torch.testing.assert_close(
        turned.line_of_sight_dispersion(), ball.dispersion[..., 2], rtol=0.03, atol=1
    )
    disk = build(**DISK)
    torch.testing.assert_close(
        disk.line_of_sight_dispersion(), disk.dispersion[..., 2], rtol=1e-5, atol=1e-3
    )
    axis, right = torch.tensor([[1.0, 0, 0]] * 2), torch.full((2,), math.pi / 2)
    edge = disk.rotated(rotation_matrix(axis, right))
    # Seen along the plane, stars in front of the center show radial motions.
    front = edge.position[..., 0].abs() < 0.05 * edge.position[..., 2].abs()
    torch.testing.assert_close(
        edge.line_of_sight_dispersion()[front],
        disk.dispersion[..., 0][front],
        rtol=0.01,
        atol=0,
    )


def test_young_stars_are_on_the_arms():
    stars = build(
        **DISK | {"young_fraction": 0.3, "arm_strength": 0.7, "arm_number": 2}
    )
    p = parameters(**DISK | {"arm_number": 2.0})
    x, y, _ = stars.position.unbind(-1)
    radius = torch.hypot(x, y) / 2.0
    phase = 2 * torch.atan2(y, x) - p["arm_winding"][:, None] * radius.log()
    outer = (radius > 1) & (radius < 4)
    young = stars.component == COMPONENTS.index("young disk")

    def contrast(rows):
        return torch.exp(1j * phase[0, rows[0]]).mean().abs()

    assert contrast(outer & young) > 1.2 * contrast(outer & ~young) > 0.1


def test_metals_and_ages_follow_the_parameters():
    gradient = {"metallicity_gradient": -0.3, "metallicity": 0.015}
    stars = build(**BALL | gradient | {"spheroid_age": 9.0})
    radius = torch.linalg.vector_norm(stars.position, dim=-1)
    inner, outer = (radius < 1.0), (radius > 4.0) & (radius < 10)
    metals = stars.metallicity.log10()
    assert metals[inner].mean() > metals[outer].mean() + 0.15
    assert float(stars.age.median()) == pytest.approx(9.0, rel=0.05)
