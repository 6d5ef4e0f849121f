# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The recipe of mergers: what is drawn, what is built, and how it is seen."""

import pytest
import torch

from galml.core import InputError
from galml.mocks import (
    IMAGING_SURVEYS,
    STAGES,
    build_mergers,
    draw_mergers,
    kinematics,
    manga_beam,
    observe_light,
    observe_stars,
    project_gas,
    random_orientation,
    spin_truth,
    starlight,
)
from galml.mocks.merger_dynamics import STEP, Gravity, Orbit, follow, move_particles
from galml.mocks.merger_recipe import (
    ABSENT,
    _build_one,
    _draw_encounters,
    _from_pericenter,
    _gravity,
    _own,
    _start,
    _with_centers,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def drawn():
    return draw_mergers(12, generator(1), snapshots=3)


@pytest.fixture(scope="module")
def built():
    """Two encounters before, at, and after coalescence."""
    p = draw_mergers(2, generator(2))
    last = p["coalescence"]
    first = p["first_passage"]
    p["time"] = torch.stack([first + 0.1, last, last + 0.3, last + 1.0], 1)
    return p, *build_mergers(p, 4000, generator(3))


def test_encounters_are_drawn_as_documented(drawn):
    ratio = drawn["mass_ratio"]
    assert (ratio[:, 0] == 1).all()
    assert ((ratio >= 0.1) & (ratio <= 1)).all()
    mass = drawn["stellar_mass"]
    torch.testing.assert_close(mass, ratio * mass[:, :1])
    assert ((drawn["eccentricity"] >= 0.85) & (drawn["eccentricity"] <= 1)).all()
    inclination = drawn["inclination"]
    assert ((inclination >= 0) & (inclination <= 180)).all()
    assert (inclination < 90).any() and (inclination > 90).any()
    assert (drawn["first_passage"] < drawn["coalescence"]).all()
    time = drawn["time"]
    assert time.shape == (12, 3)
    assert (time.diff(dim=1) >= 0).all()
    assert (
        time >= drawn["first_passage"][:, None].minimum(time.new_tensor(0.05))
    ).all()
    assert (time <= drawn["coalescence"][:, None] + 1.5).all()
    assert all((drawn[name] == 0).all() for name in ABSENT)
    again = draw_mergers(12, generator(1), snapshots=3)
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)


def test_encounters_of_clumpy_disks():
    p = draw_mergers(2, generator(20), clumpy=1.0)
    assert (p["gas_dispersion"] >= 25).all() and (p["type"] == 4).all()


def test_bad_numbers_are_refused():
    with pytest.raises(InputError, match="n_galaxies"):
        draw_mergers(1, generator(), n_galaxies=4)
    with pytest.raises(InputError, match="snapshots"):
        draw_mergers(1, generator(), snapshots=0)


def test_a_galaxy_alone_stays_as_it_is():
    """Half-mass radii to 10 %; radii and rotation of the gas to 6 %; over 0.5 Gyr."""
    n, count = 4, 4000
    p = _draw_encounters(n, generator(4), 2, 0.0)
    gravity = _gravity(p)
    q = {name: p[name][:, 0] for name in _own(p)} | {"inflow": p["inflow"]}
    frame = torch.eye(3).expand(n, 3, 3)
    part = _build_one(q, gravity, 0, count, frame, generator(5))
    single = Gravity(gravity.scale[:, :1], gravity.speed2[:, :1])
    rest = torch.zeros(251, n, 1, 3, dtype=torch.float64)
    stops = torch.tensor([[0, 250]]).expand(n, 2)
    moved = move_particles(
        single,
        Orbit(rest, rest, rest),
        [slice(None)],
        part["position"],
        part["velocity"],
        stops,
    )
    x, v = (
        _with_centers(value, part[name], part["kept"], torch.zeros(n, 2, 3))
        for value, name in zip(moved, ("position", "velocity"), strict=True)
    )
    mass = part["mass"][:, None, :count]
    radius, order = x[:, :, :count].norm(dim=-1).sort()
    share = mass.expand_as(radius).gather(2, order).cumsum(2) / mass.sum(
        2, keepdim=True
    )
    half = torch.where(share < 0.5, radius, 0).amax(2)
    torch.testing.assert_close(half[:, 1], half[:, 0], rtol=0.1, atol=0)
    gas = slice(count + count // 16, None)
    radius = torch.hypot(x[:, :, gas, 0], x[:, :, gas, 1])
    around = torch.linalg.cross(x[:, :, gas], v[:, :, gas])[..., 2] / radius
    radius, around = radius.median(2)[0], around.mean(2)
    torch.testing.assert_close(radius[:, 1], radius[:, 0], rtol=0.06, atol=0)
    torch.testing.assert_close(around[:, 1], around[:, 0], rtol=0.06, atol=0)


def test_equal_galaxies_can_be_exchanged():
    """Each of two equal galaxies sees the other do what it does itself."""
    p = draw_mergers(1, generator(6))
    for name in _own(p):
        p[name] = p[name][:, :1].expand(1, 2).clone()
    gravity = _gravity(p)
    assert torch.equal(gravity.speed2[:, 0], gravity.speed2[:, 1])
    p["time"] = p["first_passage"][:, None] + 0.2
    galaxy, truth = build_mergers(p, 10_000, generator(7))
    assert float(truth.mass_ratio) == 1
    # About the middle between them, half a turn about the orbit's axis exchanges them.
    stars = galaxy.stars
    thick = int(0.6 * 10_000)
    groups = stars.position[0, :thick], stars.position[0, thick:10_000]
    away = groups[1].median(0)[0]
    first = groups[0]
    second = (away - groups[1]) * torch.tensor([1.0, 1, -1])
    for part in (0.25, 0.5, 0.75):
        size = 1 + groups[0].norm(dim=-1).quantile(part)
        change = first.abs().quantile(part, dim=0) - second.abs().quantile(part, dim=0)
        assert (change.abs() < 0.25 * size).all()


def test_the_second_galaxy_passes_on_the_side_of_x():
    p = draw_mergers(3, generator(19))
    n_steps = round(float(p["first_passage"].max()) / STEP) + 20
    gravity = _gravity(p)
    orbit = _from_pericenter(follow(gravity, *_start(p, gravity), n_steps))
    nearest = orbit.first_passage()
    apart = (orbit.position[:, :, 1] - orbit.position[:, :, 0])[nearest, range(3)]
    torch.testing.assert_close(apart[:, 0], apart.norm(dim=-1))
    turn = torch.linalg.cross(orbit.position[:, :, 1], orbit.velocity[:, :, 1])
    assert (turn[nearest, range(3), 2] > 0).all()


def test_masses_are_kept_and_gas_becomes_stars(built):
    p, galaxy, truth = built
    assert len(galaxy) == len(truth) == 8
    total = (galaxy.stellar_mass + galaxy.gas_mass).reshape(2, 4)
    expected = (p["stellar_mass"] + p["gas_mass"]).sum(1, keepdim=True)
    torch.testing.assert_close(total, expected.expand(2, 4), rtol=1e-4, atol=0)
    burst = truth.burst_fraction.reshape(2, 4)
    assert (burst.diff(dim=1) >= 0).all()
    assert (burst[:, -1] > burst[:, 0]).all()
    assert (galaxy.age > 0).all() and torch.isfinite(galaxy.position).all()
    assert (galaxy.dispersion[:, : galaxy.n_stars] == 0).all()
    assert (galaxy.gas.dispersion > 1).all()


def test_the_burst_is_young_and_in_the_middle(built):
    p, galaxy, truth = built
    after = truth.time_since_coalescence > 0.2
    few = galaxy[after]
    since = truth.time_since_coalescence[after]
    burst = slice(4000, galaxy.n_stars)
    born = few.mass[:, burst] > 0
    assert (born.float().mean(1) > 0.9).all()
    age = torch.where(born, few.age[:, burst], torch.nan).nanmedian(1)[0]
    torch.testing.assert_close(age, since, rtol=0, atol=0.25)
    inner = few.position[:, burst].norm(dim=-1).median(1)[0]
    stars = few.position[:, :4000].norm(dim=-1).median(1)[0]
    assert (inner < 0.5 * stars).all()


def test_truth_says_what_the_snapshots_are(built):
    p, galaxy, truth = built
    assert [STAGES[i] for i in truth.stage[:4]] == [
        "first passage",
        "coalescence",
        "post-merger",
        "post-merger",
    ]
    torch.testing.assert_close(
        truth.time_since_coalescence.reshape(2, 4),
        p["time"] - p["coalescence"][:, None],
        rtol=0,
        atol=2e-3,
    )
    assert (truth.separation.reshape(2, 4)[:, 2:] < 0.4 * p["size"][:, :1]).all()
    torch.testing.assert_close(
        galaxy.inclination,
        90 - (truth.inclination - 90).abs(),
        rtol=0,
        atol=0.1,
    )


def test_a_merger_is_seen_in_every_way(built):
    _, galaxy, _ = built
    seen = galaxy.rotated(random_orientation(len(galaxy), generator(8)))
    light = starlight(seen, ("r",))
    images = observe_light(
        seen,
        light,
        IMAGING_SURVEYS[0],
        torch.full((8,), 0.05),
        64,
        generator(9),
        bands=("r",),
    )
    assert torch.isfinite(images.data).all()
    flux, velocity, _ = project_gas(
        seen, 48, torch.full((8,), 30.0), torch.full((8,), 3.0)
    )
    assert (flux.sum((1, 2)) > 0).all()
    assert (torch.isfinite(velocity).sum((1, 2)) > 20).all()
    assert torch.isfinite(kinematics(seen.gas).kappa).all()
    truth = spin_truth(seen, light[..., 0], manga_beam(8, generator(10)))
    assert torch.isfinite(truth.spin).all()
    tables = observe_stars(seen, 500, generator(11))
    assert torch.isfinite(tables.stars).all()


def test_three_galaxies_meet():
    p = draw_mergers(1, generator(12), n_galaxies=3)
    galaxy, truth = build_mergers(p, 2000, generator(13))
    assert p["stellar_mass"].shape == (1, 3)
    assert len(galaxy.dust) == 3
    assert int(truth.n_galaxies) == 3
    assert torch.isfinite(galaxy.position).all()
