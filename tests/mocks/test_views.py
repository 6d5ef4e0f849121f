# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One galaxy seen in four ways: gas map, image, IFU and table of stars."""

import math

import pytest
import torch

from galml.core import InputError
from galml.mocks import (
    GAS_SURVEYS,
    IMAGING_SURVEYS,
    Galaxy,
    build_gas,
    build_star_galaxies,
    build_stars,
    draw_gas,
    draw_star_galaxies,
    draw_stars,
    gas_radius,
    half_light_ellipse,
    kinematics,
    observe_gas,
    observe_light,
    observe_stars,
    project_gas,
    random_orientation,
    rotation_matrix,
    star_particles,
    starlight,
)
from galml.mocks.chemo_recipe import gravity
from galml.mocks.dynamics import grid_place
from galml.mocks.ifu import aperture_maps, measure_spin
from galml.mocks.images import distance, redshift_of
from galml.mocks.light import SURVIVING, luminosity
from galml.mocks.profiles import interpolate
from galml.physics import AB_ZERO, SOLAR_MAGNITUDES

SDSS, VIS = IMAGING_SURVEYS[0], IMAGING_SURVEYS[-1]
N_PIXELS = 256
# Exponential disks with a small bulge, without what breaks their symmetry, hides them,
# or makes few stars outshine the others.
PLAIN = {
    "disk_steepness": 1.0,
    "ring_fraction": 0.0,
    "shell_fraction": 0.0,
    "bulge_fraction": 0.02,
    "disk_height": 0.1,
    "thick_fraction": 0.0,
    "young_fraction": 0.0,
    "age_gradient": 0.0,
    "dust_depth": 0.0,
} | dict.fromkeys(
    ("bar_fraction", "arm_strength", "clump_fraction", "lopsidedness"), 0.0
)
# Half of the mass of an exponential disk that ends at four lengths is inside this.
HALF = 1.536


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inclined(galaxy, inclination):
    """Galaxies as they are seen, with their major axes in several directions."""
    n = len(galaxy)
    x, z = (torch.eye(3)[i].expand(n, 3) for i in (0, 2))
    tilt = rotation_matrix(x, torch.deg2rad(inclination))
    return galaxy.rotated(rotation_matrix(z, torch.linspace(0, 3, n)) @ tilt)


def as_seen(tables, galaxy):
    """Stars of tables as galaxies, turned as the others."""
    return star_particles(tables.stars, tables.mass).rotated(galaxy.frame)


def light_of(galaxy):
    """Light in i without dust."""
    stars = galaxy.stars
    light = luminosity(stars.age, stars.metallicity, ("i",))[..., 0]
    return light * stars.mass / SURVIVING


def pixels_of(flux, scale, center=None):
    """Pixels of images as particles, so that they are measured alike.

    Scale is the side of a pixel, (n,), and center the x and y of the galaxy in pixels.
    """
    n, size = flux.shape[:2]
    grid = torch.arange(float(size))
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    place = torch.stack([x, y, torch.zeros_like(x)], -1).flatten(0, 1)
    if center is None:
        center = torch.full((n, 2), (size - 1) / 2)
    center = torch.cat([center, torch.zeros(n, 1)], 1)
    place = (place - center[:, None]) * scale[:, None, None]
    flux = flux.flatten(1)
    return Galaxy(place, torch.zeros_like(place), flux, torch.zeros_like(flux))


@pytest.fixture(scope="module")
def mixed():
    """Two of each kind of galaxy, and what is measured on their particles."""
    types = torch.arange(12) // 2
    p = draw_stars(12, generator(4), types)
    p["clump_fraction"] = torch.zeros(12)
    galaxy = build_stars(p, 32_000, generator(5), n_gas=8000)
    galaxy = inclined(galaxy, torch.linspace(25, 80, 12))
    shape = half_light_ellipse(galaxy, galaxy.stars.mass)
    return p, galaxy, shape, measure_spin(galaxy, galaxy.stars.mass, shape)


@pytest.fixture(scope="module")
def plain():
    """Spirals that are disks and little else, seen in all four ways."""
    n = 5
    p = draw_stars(n, generator(6), torch.full((n,), 4))
    for name, value in PLAIN.items():
        p[name] = torch.full((n,), value)
    p["thick_height"] = torch.full((n,), 1.0)
    galaxy = build_stars(p, 32_000, generator(7), n_gas=16_000)
    seen = inclined(galaxy, torch.tensor([35.0, 45, 55, 64, 72]))
    tables = observe_stars(seen, 200_000, generator(8))
    light = starlight(seen, ("i",))
    shape = half_light_ellipse(seen, light[..., 0])
    angle = torch.full((n,), N_PIXELS / 14 * VIS.pixel_scale)
    images = observe_light(
        seen,
        light,
        VIS,
        redshift_of(shape.r_eff / angle),
        N_PIXELS,
        generator(9),
        bands=("i",),
        noisy=False,
    )
    extent = 1.3 * gas_radius(seen)
    maps = project_gas(seen, 128, extent, torch.full((n,), 2.0))
    return p, seen, tables, images, (*maps, extent)


def expected_spin(galaxy, shape, n_stars):
    """Spin of the particles' maps, with the scatter of the mean of so many stars."""
    flux, velocity, dispersion, x, y = aperture_maps(galaxy, galaxy.stars.mass, shape)
    radius = shape.radius(x, y)
    inside = (radius <= shape.r_eff[:, None, None]) & torch.isfinite(velocity)
    number = flux * n_stars / galaxy.stellar_mass[:, None, None]
    error = dispersion / number.sqrt()
    # Mean of the absolute value of a normal variable.
    ratio = velocity / error / math.sqrt(2)
    ordered = error * math.sqrt(2 / math.pi) * torch.exp(-(ratio**2))
    ordered = ordered + velocity * torch.erf(ratio)
    total = (velocity**2 + dispersion**2).sqrt()
    weight = flux * radius
    ordered, total = (
        torch.where(inside, weight * value, 0).sum((1, 2)) for value in (ordered, total)
    )
    return ordered / total


@pytest.mark.parametrize("n_stars", [20_000, 200_000])
def test_spin_of_single_stars_is_that_of_the_particles(mixed, n_stars):
    _, galaxy, shape, spin = mixed
    tables = observe_stars(galaxy, n_stars, generator(1))
    stars = as_seen(tables, galaxy)
    found = measure_spin(stars, stars.mass, shape)
    # Slow and fast rotators are among them. Few stars in a pixel scatter about their
    # mean, which looks like rotation where there is none.
    assert spin.min() < 0.02
    assert spin.max() > 0.6
    expected = expected_spin(galaxy, shape, n_stars)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    if n_stars == 200_000:
        torch.testing.assert_close(found[2:], spin[2:], rtol=0, atol=0.015)


def test_table_of_stars_has_the_mass_size_and_shape_of_the_particles(mixed):
    p, galaxy, shape, _ = mixed
    tables = observe_stars(galaxy, 100_000, generator(2))
    stars = as_seen(tables, galaxy)
    torch.testing.assert_close(stars.stellar_mass, p["stellar_mass"], rtol=1e-4, atol=0)
    found = half_light_ellipse(stars, stars.mass)
    torch.testing.assert_close(found.r_eff, shape.r_eff, rtol=0.03, atol=0)
    torch.testing.assert_close(found.ellipticity, shape.ellipticity, rtol=0, atol=0.05)
    # Seen again from the side that the table has: the disk lies in z = 0.
    own = star_particles(tables.stars, tables.mass)
    axis = torch.linalg.cross(own.position, own.velocity).mean(1)
    fast = p["type"] >= 2
    up = axis[fast, 2] / torch.linalg.vector_norm(axis[fast], dim=1)
    assert (up > 0.999).all()


def test_stars_keep_the_motions_of_their_particles(mixed):
    _, galaxy, _, _ = mixed
    tables = observe_stars(galaxy, 200_000, generator(3))
    energy = (tables.stars[..., 3:6] ** 2).sum(-1).mean(1)
    stars = galaxy.stars
    expected = (stars.velocity**2).sum(-1) + (stars.dispersion**2).sum(-1)
    expected = (stars.mass * expected).sum(1) / stars.stellar_mass
    torch.testing.assert_close(energy, expected, rtol=0.02, atol=0)
    rotation = kinematics(star_particles(tables.stars, tables.mass)).kappa
    torch.testing.assert_close(rotation, kinematics(stars).kappa, rtol=0, atol=0.01)


def test_all_views_agree_on_the_mass(plain):
    p, seen, tables, images, (flux, _, _, _) = plain
    torch.testing.assert_close(seen.stellar_mass, p["stellar_mass"], rtol=1e-4, atol=0)
    table = tables.table(0)
    assert table["mass"].sum().value == pytest.approx(
        p["stellar_mass"][0].item(), rel=1e-4
    )
    # The image's light, with the mass-to-light ratio of the stars in the table.
    stars = as_seen(tables, seen)
    ratio = stars.stellar_mass / light_of(stars).sum(1)
    modulus, _ = distance(images.redshift)
    magnitude = -2.5 * (images.data[:, 0].sum((1, 2)) / AB_ZERO).log10() - modulus
    found = 10 ** (-0.4 * (magnitude - SOLAR_MAGNITUDES["i"]))
    torch.testing.assert_close(found * ratio, p["stellar_mass"], rtol=0.005, atol=0)
    torch.testing.assert_close(flux.sum((1, 2)), p["gas_mass"], rtol=0.01, atol=0)


def test_all_views_agree_on_the_size(plain):
    p, seen, tables, images, (flux, _, _, extent) = plain
    particles = half_light_ellipse(seen, light_of(seen)).r_eff
    stars = as_seen(tables, seen)
    single = half_light_ellipse(stars, light_of(stars)).r_eff
    torch.testing.assert_close(single, particles, rtol=0.02, atol=0)
    pixels = pixels_of(images.data[:, 0], images.pixel_scale, images.center)
    image = half_light_ellipse(pixels, pixels.mass).r_eff
    kpc = distance(images.redshift)[1]
    torch.testing.assert_close(image * kpc, particles, rtol=0.02, atol=0)
    # Gas is as much longer than the disk of stars as the recipe says.
    maps = pixels_of(flux, 2 * extent / flux.shape[-1])
    gas = half_light_ellipse(maps, maps.mass).r_eff
    torch.testing.assert_close(gas, HALF * p["gas_length"], rtol=0.06, atol=0)
    ratio = p["gas_length"] / p["disk_length"]
    assert ((ratio > 1.1) & (ratio < 3.2)).all()


def test_all_views_agree_on_the_inclination(plain):
    p, seen, tables, images, (flux, velocity, _, extent) = plain
    truth = seen.inclination

    def tilt(ellipticity, thickness):
        ratio2 = ((1 - ellipticity) ** 2 - thickness**2) / (1 - thickness**2)
        return torch.rad2deg(ratio2.clamp_min(0).sqrt().acos())

    stars = as_seen(tables, seen)
    pixels = pixels_of(images.data[:, 0], images.pixel_scale, images.center)
    maps = pixels_of(flux, 2 * extent / flux.shape[-1])
    for view, light, thickness in (
        (stars, light_of(stars), 0.1),
        (seen, light_of(seen), 0.1),
        (pixels, pixels.mass, 0.1),
        (maps, maps.mass, 0.05),
    ):
        shape = half_light_ellipse(view, light)
        found = tilt(shape.ellipticity, thickness)
        torch.testing.assert_close(found, truth, rtol=0, atol=5.5)
        nodes = torch.rad2deg(torch.linspace(0, 3, 5)) + 90
        off = (shape.position_angle - nodes + 90) % 180 - 90
        assert off.abs().max() < 6
    # From motions: of the particles of gas, and of single stars.
    for part, tolerance in ((seen.gas, 0.2), (stars, 1.0)):
        found = kinematics(part).inclination
        torch.testing.assert_close(found, truth, rtol=0, atol=tolerance)
    # From the map: the fastest gas, on the major axis, shows what is along the line of
    # sight of its rotation, but for what the beam mixes with slower gas.
    speed = seen.gas.velocity.norm(dim=-1).quantile(0.98, dim=1)
    fastest = velocity.flatten(1).abs().nanquantile(0.99, dim=1)
    ratio = fastest / speed / torch.deg2rad(truth).sin()
    assert ((ratio > 0.85) & (ratio < 1.01)).all()


def test_gas_moves_in_the_gravity_of_the_stars():
    p = draw_star_galaxies(0, 6, seed=3)
    galaxy = build_star_galaxies(p, 2000, seed=3, n_gas=6000)
    gas = galaxy.gas
    radius = torch.hypot(gas.position[..., 0], gas.position[..., 1])
    cross = torch.linalg.cross(gas.position, gas.velocity)[..., 2]
    field = gravity(p)
    place = grid_place(radius, p["size"][:, None])
    row = torch.arange(6)[:, None].expand_as(radius)
    circular2 = interpolate(field[1][..., None], row.flatten(), place.flatten())
    circular2 = circular2[:, 0].reshape(radius.shape)
    length = p["gas_length"][:, None]
    drift = p["gas_dispersion"][:, None] ** 2 * radius / length
    inner = (radius > 0.5 * length) & (radius < 2.5 * length)
    ratio = (cross / radius) ** 2 / (circular2 - drift)
    inner &= circular2 > 30 * drift
    # Flares lower the pressure outwards by a little more.
    assert inner.any(1).sum() >= 4
    assert ((ratio[inner] > 0.96) & (ratio[inner] < 1)).all()
    assert (cross > 0).all()
    assert ((cross / radius) ** 2 < circular2).all()
    assert (gas.dispersion == p["gas_dispersion"][:, None]).all()


def test_single_stars_are_their_own_table_from_any_side():
    p = draw_star_galaxies(0, 3, seed=2)
    galaxy = build_star_galaxies(p, 1500, seed=2)
    straight = observe_stars(galaxy)
    turned = observe_stars(galaxy.rotated(random_orientation(3, generator(1))))
    assert straight.stars.shape == (3, 1500, 10)
    torch.testing.assert_close(turned.stars, straight.stars, rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(straight.stars[..., :3], galaxy.stars.position)
    torch.testing.assert_close(straight.stars[..., 7], galaxy.fe_h)
    torch.testing.assert_close(10 ** p["log_mass"] / 1500, straight.mass)


def test_a_recipe_of_single_stars_is_seen_in_every_way():
    p = draw_star_galaxies(4, 2, seed=1)
    galaxy = build_star_galaxies(p, 4000, seed=1, first=4)
    galaxy = inclined(galaxy, torch.tensor([40.0, 70.0]))
    across = torch.tensor([12.0, 12.0])
    maps = observe_gas(galaxy, gas_radius(galaxy), across, 40, generator(2))
    assert (torch.isfinite(maps.velocity).sum((1, 2)) > 24).all()
    assert 0 <= int(maps.survey.min()) <= int(maps.survey.max()) < len(GAS_SURVEYS)
    torch.testing.assert_close(
        maps.truth.inclination, galaxy.inclination, rtol=0, atol=1
    )
    light = starlight(galaxy, ("r",))
    images = observe_light(
        galaxy, light, SDSS, torch.tensor([0.02, 0.02]), 64, generator(3), bands=("r",)
    )
    assert torch.isfinite(images.data).all()
    shape = half_light_ellipse(galaxy, light[..., 0])
    assert (measure_spin(galaxy, light[..., 0], shape) > 0).all()


def test_a_galaxy_of_gas_has_no_stars_to_see():
    galaxy = build_gas(draw_gas(2, generator(1)), 500, generator(2))
    assert galaxy.n_stars == 0
    with pytest.raises(InputError, match="a galaxy with stars"):
        starlight(galaxy, ("r",))
    with pytest.raises(InputError, match="a galaxy with stars"):
        observe_stars(galaxy, 10)
    stars = build_stars(draw_stars(2, generator(1)), 500, generator(2), n_gas=0)
    with pytest.raises(InputError, match="a galaxy with gas"):
        project_gas(stars, 16, torch.ones(2), torch.ones(2))
    with pytest.raises(InputError, match="n_stars"):
        observe_stars(stars, 0)


def test_two_galaxies_that_meet_are_seen_in_every_way():
    """What a recipe of mergers fills: particles of both, and the dust of each."""
    p = draw_stars(2, generator(3), torch.tensor([4, 3]))
    galaxy = build_stars(p, 8000, generator(4)).sampled(generator(5))
    first, second = galaxy[:1], galaxy[1:]
    away, drift = torch.tensor([[60.0, 0, 15]]), torch.tensor([[0.0, 0, 300]])
    moved = second.moved(away, drift)
    pair = first.joined(moved)
    assert pair.n_stars == 16_000
    assert pair.mass.shape == (1, 20_000)
    torch.testing.assert_close(pair.stellar_mass, galaxy.stellar_mass.sum()[None])
    torch.testing.assert_close(pair.gas_mass, galaxy.gas_mass.sum()[None])
    torch.testing.assert_close(pair.gas.position[:, 2000:], moved.gas.position)
    # Far apart, dust of one does not cover the other.
    light = starlight(pair, ("r",)).sum()
    apart = starlight(first, ("r",)).sum() + starlight(moved, ("r",)).sum()
    torch.testing.assert_close(light, apart, rtol=1e-3, atol=0)
    extent = torch.tensor([120.0])
    flux, velocity, _ = project_gas(pair, 120, extent, torch.tensor([3.0]))
    torch.testing.assert_close(flux.sum(), pair.gas_mass[0], rtol=0.01, atol=0)
    right = velocity[0, 40:80, 88:92].nanmean()
    center = velocity[0, 40:80, 58:62].nanmean()
    assert (right - center).item() == pytest.approx(300, abs=40)
    tables = observe_stars(pair, 4000, generator(6))
    assert (tables.stars[0, :, 0] > 30).float().mean().item() == pytest.approx(
        (second.stellar_mass / pair.stellar_mass).item(), abs=0.05
    )
    with pytest.raises(InputError, match="dispersion"):
        galaxy[:1].joined(build_stars(p, 800, generator(4))[1:])
