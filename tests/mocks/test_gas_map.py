# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from galml.mocks import (
    Galaxy,
    build_gas,
    draw_gas,
    kinematics,
    observe_gas,
    project_gas,
    random_orientation,
)

N_PIXELS = 40


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(position, velocity=0.0, dispersion=0.0):
    """Galaxies of a few equal particles: ``position`` has shape (n, N, 2)."""
    position = torch.tensor(position, dtype=torch.float32)
    n, count = position.shape[:2]
    depth = torch.zeros(n, count, 1)
    speed = torch.zeros(n, count, 3)
    speed[..., 2] = torch.as_tensor(velocity)
    return Galaxy(
        torch.cat([position, depth], -1),
        speed,
        torch.full((n, count), 1 / count),
        torch.full((n, count), dispersion),
    )


def galaxies(n=24, seed=1, n_particles=2048):
    p = draw_gas(n, generator(seed))
    particles = build_gas(p, n_particles, generator(seed))
    particles = particles.rotated(random_orientation(n, generator(seed)))
    return particles, p["radius"]


def still(n, n_particles=4096):
    """Round galaxies of 10 kpc in which nothing moves but noise."""
    u = torch.rand(2, n, n_particles, generator=generator(5))
    radius, azimuth = 10 * u[0], 2 * math.pi * u[1]
    zero = torch.zeros_like(radius)
    position = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), zero], -1)
    mass = torch.full_like(radius, 1 / n_particles)
    return Galaxy(position, torch.zeros_like(position), mass, zero), zero[:, 0] + 10


@pytest.fixture(scope="module")
def still_maps():
    particles, radius = still(240)
    across = torch.full_like(radius, 20.0)
    return observe_gas(particles, radius, across, N_PIXELS, generator(6))


@pytest.fixture(scope="module", params=[True, False], ids=["noisy", "clean"])
def maps(request):
    particles, radius = galaxies()
    across = torch.linspace(4, 15, len(radius))
    return observe_gas(
        particles, radius, across, N_PIXELS, generator(2), noisy=request.param
    )


@pytest.mark.parametrize("beam", [3.0, 6.0])
@pytest.mark.parametrize("ratio", [0.6, 1.0])
def test_convolution_conserves_light_away_from_the_edges(beam, ratio):
    particles = points([[[0.5, -1.3], [2.1, 0.4], [-1.7, -0.2]]])
    flux, _, _ = project_gas(
        particles,
        64,
        torch.tensor([8.0]),
        torch.tensor([beam]),
        torch.tensor([ratio]),
        torch.tensor([0.7]),
    )
    assert flux.sum().item() == pytest.approx(1, abs=1e-3)


def test_light_outside_the_image_does_not_come_in():
    particles = points([[[8.5, 0.0], [-9.0, 3.0], [0.0, 20.0]]])
    flux, velocity, dispersion = project_gas(
        particles, 32, torch.tensor([8.0]), torch.tensor([3.0])
    )
    assert flux.abs().max() == 0
    assert torch.isnan(velocity).all()
    assert torch.isnan(dispersion).all()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0])
def test_a_point_source_shows_the_beam(ratio, angle):
    # At the center of pixel (x=36, y=28) of 64.
    particles = points([[[4.5 / 4, -3.5 / 4]]])
    fwhm = 6.0
    flux, _, _ = project_gas(
        particles,
        64,
        torch.tensor([8.0]),
        torch.tensor([fwhm]),
        torch.tensor([ratio]),
        torch.tensor([math.radians(angle)]),
    )
    axis = torch.arange(64, dtype=torch.float64)
    y, x = torch.meshgrid(axis - 28, axis - 36, indexing="ij")
    turn = math.radians(angle)
    # Counter-clockwise from +y.
    along = -math.sin(turn) * x + math.cos(turn) * y
    across = math.cos(turn) * x + math.sin(turn) * y
    major, minor = fwhm / math.sqrt(ratio), fwhm * math.sqrt(ratio)
    exponent = (along / major) ** 2 + (across / minor) ** 2
    expected = 4 * math.log(2) / (math.pi * fwhm**2) * torch.exp2(-4 * exponent)
    peak = expected.max()
    torch.testing.assert_close(
        flux[0].double() / peak, expected / peak, rtol=0, atol=2e-4
    )


def test_velocity_and_dispersion_are_moments_of_the_light():
    # Two clouds in one pixel, of 1/2 of the light each.
    particles = points([[[0.1, 0.1], [0.12, 0.1]]], [[100.0, -20.0]], dispersion=30.0)
    flux, velocity, dispersion = project_gas(
        particles, 32, torch.tensor([8.0]), torch.tensor([4.0])
    )
    bright = flux > 1e-3 * flux.max()
    torch.testing.assert_close(
        velocity[bright], torch.full_like(velocity[bright], 40), rtol=0, atol=0.02
    )
    torch.testing.assert_close(
        dispersion[bright],
        torch.full_like(velocity[bright], math.hypot(60, 30)),
        rtol=0,
        atol=0.02,
    )


def test_beam_smearing_turns_rotation_into_dispersion():
    particles = points([[[0.0, 1.0], [0.0, -1.0]]], [[100.0, -100.0]])
    size = 33, torch.tensor([8.0])
    _, sharp, narrow = project_gas(particles, *size, torch.tensor([1.6]))
    _, smeared, broad = project_gas(particles, *size, torch.tensor([6.0]))
    assert sharp[0, 18, 16].item() == pytest.approx(100, abs=2)
    assert abs(smeared[0, 18, 16].item()) < 80
    assert broad[0, 16, 16].item() == pytest.approx(100, abs=1)
    assert narrow[0, 18, 16] < broad[0, 18, 16] - 20


def test_same_pixels_are_known_in_every_map(maps):
    seen = torch.isfinite(maps.velocity)
    assert seen.any((1, 2)).all()
    assert not seen.all()
    assert (torch.isfinite(maps.dispersion) == seen).all()
    assert (torch.isfinite(maps.uncertainty) == seen).all()
    for image in (maps.velocity, maps.dispersion, maps.uncertainty):
        assert torch.isnan(image[~seen]).all()
    assert (maps.dispersion[seen] >= 0).all()
    assert (maps.uncertainty[seen] >= 0).all()


def test_observations_describe_themselves(maps):
    n = len(maps)
    assert maps.velocity.shape == (n, N_PIXELS, N_PIXELS)
    assert (maps.center == (N_PIXELS - 1) / 2).all()
    torch.testing.assert_close(maps.beams_across, torch.linspace(4, 15, n))
    chosen = maps[torch.arange(n) % 2 == 0]
    assert len(chosen) == (n + 1) // 2
    assert len(chosen.truth.kappa) == len(chosen)
    torch.testing.assert_close(chosen.snr, maps.snr[::2])


def test_clean_maps_have_no_noise():
    particles, radius = galaxies()
    across = torch.full_like(radius, 10.0)
    maps = observe_gas(particles, radius, across, N_PIXELS, generator(3), noisy=False)
    assert torch.isinf(maps.snr).all()
    assert (maps.uncertainty.nan_to_num(0.0) == 0).all()
    spread = maps.velocity.flatten(1).nan_to_num(0.0).abs().amax(1)
    assert (spread < 3000).all()


def test_the_same_generator_gives_the_same_maps():
    particles, radius = galaxies(4)
    across = torch.full_like(radius, 10.0)
    first, again, other = (
        observe_gas(particles, radius, across, N_PIXELS, generator(seed))
        for seed in (3, 3, 4)
    )
    torch.testing.assert_close(
        first.velocity, again.velocity, rtol=0, atol=0, equal_nan=True
    )
    assert not torch.equal(first.snr, other.snr)


def test_particles_are_not_changed():
    particles, radius = galaxies(4)
    tensors = {k: v for k, v in vars(particles).items() if torch.is_tensor(v)}
    before = [value.clone() for value in tensors.values()]
    observe_gas(particles, radius, radius * 0 + 9, N_PIXELS, generator(3))
    assert len(before) > 3
    for old, new in zip(before, tensors.values(), strict=True):
        assert torch.equal(old, new)


def test_noise_is_as_large_as_the_uncertainty_says(still_maps):
    v, sigma = still_maps.velocity, still_maps.uncertainty
    middle = v.flatten(1).nanmedian(1).values[:, None, None]
    ratio = ((v - middle).abs() / sigma).flatten(1).nanmedian(1).values * 1.4826
    for survey in range(3):
        rows = still_maps.survey == survey
        # Few independent beams or bins: one map scatters, and its median is fitted.
        assert ratio[rows].median().item() == pytest.approx(1, abs=0.15)


def test_signal_to_noise_means_scatter_over_noise(still_maps):
    # Where nothing moves, the scatter has its floor of 3 km/s. Binned maps average
    # the noise in each bin, which shifts the median.
    rows = still_maps.survey < 2
    typical = still_maps.uncertainty[rows].flatten(1).nanmedian(1).values
    torch.testing.assert_close(
        typical * still_maps.snr[rows], torch.full_like(typical, 3.0)
    )
    assert still_maps.snr.min() < 1
    assert still_maps.snr.max() > 50


def test_noise_grows_towards_the_faint_edge(still_maps):
    sigma = still_maps.uncertainty.flatten(1)
    quantiles = torch.nanquantile(sigma, torch.tensor([0.02, 0.98]), dim=1)
    growth = quantiles[1] / quantiles[0]
    assert (growth >= 1).all()
    assert growth.median() > 1.3


def test_systemic_velocities_scatter(still_maps):
    middle = still_maps.velocity.flatten(1).nanmedian(1).values
    assert middle.abs().median().item() == pytest.approx(0.6745 * 60, rel=0.2)


def test_some_maps_hold_absurd_outliers(still_maps):
    v = still_maps.velocity
    middle = v.flatten(1).nanmedian(1).values[:, None, None]
    absurd = (v - middle).abs() > 250
    struck = absurd.any(2).any(1)
    assert 0.08 < struck.float().mean() < 0.25
    seen = torch.isfinite(v[struck]).sum()
    assert (absurd.sum() / seen).item() == pytest.approx(0.01, abs=0.004)


def test_some_maps_saturate(still_maps):
    v = still_maps.velocity[still_maps.survey < 2].flatten(1)
    low = v.nan_to_num(torch.inf).amin(1, keepdim=True)
    high = v.nan_to_num(-torch.inf).amax(1, keepdim=True)
    seen = torch.isfinite(v).sum(1)
    floor = (v == low).sum(1) / seen > 0.04
    ceiling = (v == high).sum(1) / seen > 0.04
    assert 0.02 < (floor | ceiling).float().mean() < 0.25
    assert (floor & ~ceiling).any()
    assert (ceiling & ~floor).any()
    assert (floor & ceiling).any()


def test_voronoi_bins_share_one_value(still_maps):
    for row in torch.nonzero(still_maps.survey == 2)[:, 0]:
        v = still_maps.velocity[row]
        v = v[torch.isfinite(v)]
        if len(v.unique()) < 0.6 * len(v):
            break
    else:
        pytest.fail("no map is binned")
    single = torch.nonzero(still_maps.survey == 0)[:20, 0]
    assert len(single) > 5
    for row in single:
        sigma = still_maps.uncertainty[row]
        sigma = sigma[torch.isfinite(sigma)]
        assert len(sigma.unique()) > 0.6 * len(sigma) or sigma.std() < 1e-3


def test_masks_are_irregular_only_with_noise():
    particles, radius = still(60)
    across = torch.full_like(radius, 12.0)

    def lopsided(noisy):
        maps = observe_gas(
            particles, radius, across, N_PIXELS, generator(8), noisy=noisy
        )
        seen = torch.isfinite(maps.velocity).float()
        turned = seen.flip(1, 2)
        return (seen - turned).abs().sum((1, 2)) / seen.sum((1, 2))

    assert lopsided(False).median() < 0.1
    assert (lopsided(True) > 0.3).float().mean() > 0.1


def test_truth_counts_only_what_the_mask_covers(maps):
    particles, _ = galaxies()
    reference, radius = galaxies()
    # The beam's size in kpc and in pixels gives the scale of the image.
    scale = 2 * radius / maps.beams_across / maps.beam
    grid = torch.arange(N_PIXELS) - (N_PIXELS - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    seen = torch.isfinite(maps.velocity)
    distance = torch.where(seen, torch.hypot(x, y), torch.nan).flatten(1)
    reach = (torch.nanquantile(distance, 0.98, dim=1) + 0.5) * scale
    inside = torch.linalg.vector_norm(particles.position, dim=-1) <= reach[:, None]
    assert not inside.all()
    expected = kinematics(reference, inside)
    torch.testing.assert_close(maps.truth.kappa, expected.kappa, rtol=0, atol=2e-3)
    torch.testing.assert_close(
        maps.truth.inclination, expected.inclination, rtol=0, atol=0.5
    )


def test_gas_far_above_the_plane_does_not_count_in_the_truth():
    particles, radius = still(6)
    x, y, _ = particles.position.unbind(-1)
    away = torch.hypot(x, y).clamp_min(1e-3)
    velocity = 200 * torch.stack([-y / away, x / away, torch.zeros_like(x)], -1)
    position = particles.position.clone()
    # One particle in four is far away along the line of sight, and falls.
    position[:, ::4, 2] = 50.0
    velocity[:, ::4] = torch.tensor([150.0, 0, -300.0])
    mixed = Galaxy(position, velocity, particles.mass, particles.dispersion)
    maps = observe_gas(
        mixed, radius, radius * 0 + 10, N_PIXELS, generator(9), noisy=False
    )
    assert (maps.truth.kappa > 0.98).all()
    assert (kinematics(mixed).kappa < 0.9).all()


def test_ideal_maps_have_no_noise_beam_or_gaps():
    p = draw_gas(12, generator(4))
    for name in ("turbulence", "clumps", "warp", "bar", "radial_flow"):
        p[name] = torch.zeros(12)
    for name in ("second_fraction", "satellite_fraction", "hole", "ring"):
        p[name] = torch.zeros(12)
    galaxy = build_gas(p, 4096, generator(5)).rotated(
        random_orientation(12, generator(6))
    )
    across = torch.full((12,), 20.0)
    noisy, clean = (
        observe_gas(galaxy, p["radius"], across, 48, generator(7), noisy=noisy)
        for noisy in (True, False)
    )
    for maps in (noisy, clean):
        assert maps.ideal.shape == (12, 32, 32)
        # Projection only slows rotation down.
        size = maps.ideal.abs().flatten(1).nanquantile(0.98, dim=1)
        assert (size <= p["speed"]).all()
        assert torch.isnan(maps.ideal[:, 0, 0]).all()
        assert torch.isfinite(maps.ideal[:, 13:19, 13:19]).float().mean() > 0.8
