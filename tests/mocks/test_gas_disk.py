# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks import build_stars, draw_stars, dynamics, kinematics
from galml.mocks import scaling_relations as relations
from galml.mocks.dynamics import GRAVITY, disk_motions, gas_motions, radius_grid
from galml.mocks.galaxy import COMPONENTS
from galml.mocks.gas_disk import GAS_DISPERSION, GAS_EDGE, GAS_LENGTH
from galml.mocks.profiles import disk_mass

SIZE, LENGTH, MASS = 5.0, 3.0, 4e10


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def field():
    """Radii, circular speeds and surface density of a disk in a flat rotation curve."""
    radius = radius_grid(torch.tensor([SIZE]))
    smooth = torch.full_like(radius, 180.0**2)
    total = smooth + dynamics.disk_speed2(radius, MASS, LENGTH)
    surface = MASS * torch.exp(-radius / LENGTH) / (2 * math.pi * LENGTH**2)
    return radius, total, smooth, surface


def one(value):
    return torch.full((1, 1), value)


def test_height_holds_up_what_stars_of_that_height_need(field):
    """The equation of disks of stars, solved for the height."""
    radius, total, smooth, surface = field
    _, height = gas_motions(*field, one(5.0), one(9.0)).unbind(-1)
    inner = (radius[0] > 0.3) & (radius[0] < 20)
    assert inner.sum() > 12
    for at in inner.nonzero()[::6, 0].tolist():
        own = height[:, at, None]
        motions = disk_motions(
            radius, total, smooth, surface, one(LENGTH), own, one(1.0)
        )
        assert motions[0, at, 3].item() == pytest.approx(9.0, rel=0.02)


def test_height_in_the_limits_of_sheet_and_halo(field):
    radius, total, smooth, surface = field
    still = torch.zeros_like(total)
    alone = gas_motions(radius, total, still, surface, one(5.0), one(9.0))[0, :, 1]
    at = int((radius[0] < 4).sum())
    sheet = 81 / (math.pi * GRAVITY * surface[0, at])
    assert alone[at].item() == pytest.approx(sheet.item(), rel=1e-3)
    empty = torch.zeros_like(surface)
    halo = gas_motions(radius, total, smooth, empty, one(5.0), one(9.0))[0, :, 1]
    expected = math.sqrt(12) / math.pi * 9 / 180 * radius[0, at].item()
    assert halo[at].item() == pytest.approx(expected, rel=0.01)


def test_rotation_lags_by_pressure(field):
    radius, total, smooth, surface = field
    inner = (radius > 1) & (radius < 15)
    rotation, height = gas_motions(*field, one(5.0), one(10.0)).unbind(-1)
    density = surface[0] * 0 + (-radius[0] / 5.0) - height[0].log()
    slope = torch.gradient(density, spacing=(radius[0].log(),))[0]
    expected = (total[0] + 100 * slope).sqrt()
    torch.testing.assert_close(rotation[inner], expected[inner[0]], rtol=2e-3, atol=0)
    cold = gas_motions(*field, one(5.0), one(0.1))[..., 0]
    torch.testing.assert_close(cold, total.sqrt(), rtol=1e-3, atol=0)


def test_gas_of_a_population_of_stars():
    types = torch.arange(600) % 6
    p = draw_stars(600, generator(1), types)
    ratio = (p["gas_mass"] / p["stellar_mass"]).log10()
    # From hardly any in slow ellipticals to as much gas as stars in dwarfs.
    medians = [ratio[types == kind].median().item() for kind in range(6)]
    assert medians == sorted(medians)
    assert medians[0] < -3
    assert -0.5 < medians[5] < 0.6
    spirals = types == 4
    rest = p["gas_mass"].log10() - relations.gas_mass(p["stellar_mass"].log10())
    assert rest[spirals].mean().item() == pytest.approx(0, abs=0.1)
    assert rest[spirals].std().item() == pytest.approx(0.3, abs=0.07)
    length = (p["gas_length"] / p["disk_length"]).log().mean().exp()
    assert length.item() == pytest.approx(GAS_LENGTH, rel=0.03)
    typical = p["gas_dispersion"].log().mean().exp()
    assert typical.item() == pytest.approx(GAS_DISPERSION, rel=0.03)


def test_gas_is_a_cold_disk_of_its_mass_and_length():
    p = draw_stars(40, generator(2))
    p["lopsidedness"] = torch.zeros(40)
    galaxy = build_stars(p, 1000, generator(3), n_gas=4000)
    gas = galaxy.gas
    assert (gas.component == COMPONENTS.index("gas")).all()
    torch.testing.assert_close(galaxy.gas_mass, p["gas_mass"], rtol=1e-4, atol=0)
    radius = torch.hypot(gas.position[..., 0], gas.position[..., 1])
    lengths = radius / p["gas_length"][:, None]
    assert lengths.max().item() == pytest.approx(GAS_EDGE, rel=0.01)
    for edge in (0.7, 1.5, 3.0):
        share = (lengths < edge).float().mean(1)
        expected = disk_mass(torch.tensor(edge)) / disk_mass(torch.tensor(GAS_EDGE))
        torch.testing.assert_close(share, expected.expand(40), rtol=0, atol=0.005)
    sigma = p["gas_dispersion"][:, None, None].expand_as(gas.dispersion)
    torch.testing.assert_close(gas.dispersion, sigma)
    giants = p["stellar_mass"] > 10**9.5
    assert (kinematics(gas).kappa[giants] > 0.93).all()
    axis = torch.linalg.cross(gas.position, gas.velocity).sum(1)
    axis = axis / torch.linalg.vector_norm(axis, dim=1, keepdim=True)
    assert (axis[:, 2] > 0.9999).all()


def test_stars_are_the_same_with_and_without_gas():
    p = draw_stars(3, generator(4))
    whole = build_stars(p, 800, generator(5))
    bare = build_stars(p, 800, generator(5), n_gas=0)
    assert whole.gas.mass.shape == (3, 200)
    torch.testing.assert_close(whole.stars.position, bare.position, rtol=0, atol=0)
    torch.testing.assert_close(whole.age, bare.age, rtol=0, atol=0)
