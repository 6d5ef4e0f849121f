# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from astropy.wcs import WCS

from galml.gas_kinematics import preparation
from galml.gas_kinematics.preparation import INPUT
from galml.gas_kinematics.velocities import VelocityMaps

CHANNELS, SCALARS = INPUT.channels, INPUT.scalars
# The image is rounded to half precision.
ROUNDING = 3e-3


@dataclass
class Maps:
    """Maps of one shape as tensors."""

    velocity: torch.Tensor
    dispersion: torch.Tensor = None
    uncertainty: torch.Tensor = None
    center: torch.Tensor = None
    beam: torch.Tensor = None


def batch(maps):
    """Maps as the preparation takes them."""

    def array(values, **options):
        return None if values is None else values.clone().to(**options).numpy()

    return VelocityMaps(
        array(maps.velocity),
        dispersion=array(maps.dispersion),
        std=array(maps.uncertainty),
        center=array(maps.center, dtype=torch.float64),
        beam=array(maps.beam, dtype=torch.float64),
    )


def prepare(*maps, spec=INPUT):
    return preparation.prepare([batch(one) for one in maps], spec)


def regrid(image, center, radius, cells):
    """One plane in, (cells, cells) out."""
    return preparation._regrid([image], center, radius, cells)[0, :, 0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(shape=(48, 48), n=6, noise=8.0, seed=0, extras=True, size=0.45):
    """Inclined disks behind noise, in maps of any shape."""
    ny, nx = shape
    draw = torch.rand(4, n, 1, 1, generator=generator(seed))
    y = (torch.arange(ny) - (ny - 1) / 2)[:, None] - 0.02 * ny * draw[2]
    x = (torch.arange(nx) - (nx - 1) / 2)[None, :] + 0.02 * nx * draw[2]
    turn, tilt = 2 * math.pi * draw[0], 0.3 + 0.8 * draw[1]
    along = -turn.sin() * x + turn.cos() * y
    across = (turn.cos() * x + turn.sin() * y) / tilt.cos()
    radius = torch.hypot(along, across)
    reach = size * max(shape)
    scaled = radius / reach
    velocity = 220 * tilt.sin() * torch.tanh(4 * scaled) * along / (radius + 1e-3)
    velocity += noise * torch.randn(n, ny, nx, generator=generator(seed + 1))
    velocity += 40 * draw[3]
    blank = torch.where(scaled < 1, 0.0, torch.nan)
    maps = Maps(velocity + blank)
    if extras:
        maps.dispersion = 15 + 40 * torch.exp(-3 * scaled) + blank
        maps.uncertainty = noise * (1 + scaled) + blank
        maps.beam = torch.linspace(2, 6, n)
        maps.center = torch.tensor([(nx - 1) / 2 + 1, (ny - 1) / 2 - 0.5]).repeat(n, 1)
    return maps


def scalar(prepared, name):
    return prepared.scalars[:, SCALARS.index(name)]


def plane(prepared, name):
    return prepared.image[:, CHANNELS.index(name)]


def turned(maps, flip, turns):
    """Mirror maps in x, then turn them counter-clockwise on the sky."""

    def image(value):
        value = value.flip(-1) if flip else value
        return torch.rot90(value, -turns, (-2, -1))

    ny, nx = maps.velocity.shape[1:]
    center = maps.center
    if center is not None:
        x, y = center.unbind(1)
        x = nx - 1 - x if flip else x
        for _ in range(turns):
            x, y, (ny, nx) = ny - 1 - y, x, (nx, ny)
        center = torch.stack([x, y], 1)
    optional = {
        key: None if getattr(maps, key) is None else image(getattr(maps, key))
        for key in ("dispersion", "uncertainty")
    }
    return Maps(image(maps.velocity), center=center, beam=maps.beam, **optional)


def finite(prepared):
    return all(torch.isfinite(value).all() for value in vars(prepared).values())


def degrees(first, second):
    """Difference of two angles, -180 to 180."""
    return (first - second + 180) % 360 - 180


def assert_same_input(prepared, expected, scalars=1e-5, image=ROUNDING):
    torch.testing.assert_close(prepared.scalars, expected.scalars, rtol=0, atol=scalars)
    torch.testing.assert_close(prepared.image, expected.image, rtol=0, atol=image)


@pytest.mark.parametrize("shape", [(48, 48), (40, 61), (33, 24), (150, 110)])
@pytest.mark.parametrize("extras", [True, False], ids=["extras", "velocity"])
def test_flips_and_quarter_turns_change_the_angle_alone(shape, extras):
    maps = make(shape, extras=extras)
    expected = prepare(maps)
    for flip in (False, True):
        for turns in range(4):
            seen = prepare(turned(maps, flip, turns))
            angle = (-expected.angle if flip else expected.angle) + 90 * turns
            assert degrees(seen.angle, angle).abs().max() < 1e-6
            image = expected.image.flip(-1) if flip else expected.image
            torch.testing.assert_close(
                seen.scalars, expected.scalars, rtol=0, atol=1e-5
            )
            torch.testing.assert_close(seen.image, image, rtol=0, atol=ROUNDING)
            torch.testing.assert_close(seen.systemic, expected.systemic)


def test_the_receding_side_points_up():
    prepared = prepare(make())
    velocity = plane(prepared, "velocity")
    assert (velocity[:, 22:].mean((1, 2)) > 0.3).all()
    assert (velocity[:, :10].mean((1, 2)) < -0.3).all()
    across = velocity[..., 22:].mean((1, 2)) - velocity[..., :10].mean((1, 2))
    assert across.abs().max() < 0.2


def test_systemic_velocity_does_not_matter():
    maps = make()
    maps.velocity = maps.velocity.double()
    near = prepare(maps)
    far = prepare(replace(maps, velocity=maps.velocity + 5000))
    assert_same_input(far, near)
    torch.testing.assert_close(far.systemic, near.systemic + 5000)
    assert degrees(far.angle, near.angle).abs().max() < 1e-6


def test_reversed_motion_turns_the_angle_around():
    maps = make(noise=3.0)
    seen = prepare(maps)
    reverse = prepare(replace(maps, velocity=-maps.velocity))
    # The median of an even number of pixels is one of the middle two.
    assert degrees(reverse.angle, seen.angle + 180).abs().max() < 0.01
    torch.testing.assert_close(reverse.systemic, -seen.systemic, rtol=0, atol=0.1)
    torch.testing.assert_close(reverse.scalars, seen.scalars, rtol=0, atol=0.01)
    torch.testing.assert_close(
        plane(reverse, "velocity"),
        -plane(seen, "velocity").flip(1, 2),
        rtol=0,
        atol=0.02,
    )


@pytest.mark.parametrize("factor", [0.1, 4.0])
def test_the_scale_of_velocities_is_one_number(factor):
    maps = make()
    scaled = replace(
        maps,
        velocity=maps.velocity * factor,
        dispersion=maps.dispersion * factor,
        uncertainty=maps.uncertainty * factor,
    )
    one, other = prepare(maps), prepare(scaled)
    change = other.scalars - one.scalars
    index = SCALARS.index("log_scale")
    torch.testing.assert_close(
        change[:, index], torch.full((6,), math.log10(factor)), rtol=0, atol=1e-5
    )
    change[:, index] = 0
    assert change.abs().max() < 1e-4
    torch.testing.assert_close(other.image, one.image, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(other.scale, one.scale * factor)


@pytest.mark.parametrize(
    "shape", [(8, 8), (9, 13), (31, 32), (97, 96), (40, 700), (2000, 2000)]
)
def test_every_size_gives_finite_tensors(shape):
    maps = make(shape, n=1, extras=max(shape) < 1000)
    prepared = prepare(maps)
    assert finite(prepared)
    assert prepared.image.shape == (1, len(CHANNELS), 32, 32)
    assert prepared.scalars.shape == (1, len(SCALARS))
    assert prepared.image.dtype == prepared.scalars.dtype == torch.float32
    if min(shape) > 8:
        assert prepared.n_pixels.item() == torch.isfinite(maps.velocity).sum().item()


@pytest.mark.parametrize("shape", [(8, 8), (24, 24), (48, 48), (96, 96), (400, 400)])
def test_the_angle_is_found_at_every_size(shape):
    maps = make(shape, n=12, noise=1e-3, extras=False)
    angle = 360 * torch.rand(4, 12, 1, 1, generator=generator())[0, :, 0, 0]
    error = degrees(prepare(maps).angle, angle).abs()
    assert error.median() < (12 if shape[0] == 8 else 3)


def test_a_large_map_equals_its_block_average():
    maps = make((256, 256), n=8, noise=1.0, extras=False)
    blocks = maps.velocity.unflatten(2, (64, 4)).unflatten(1, (64, 4))
    small = prepare(Maps(blocks.nanmean((2, 4))))
    large = prepare(maps)
    assert degrees(large.angle, small.angle).abs().max() < 0.5
    torch.testing.assert_close(large.scale, small.scale, rtol=0.02, atol=0)
    torch.testing.assert_close(large.radius / 4, small.radius, rtol=0.05, atol=0)
    torch.testing.assert_close((large.center - 1.5) / 4, small.center, rtol=0, atol=0.2)
    shown = (plane(large, "coverage") > 0.9) & (plane(small, "coverage") > 0.9)
    difference = (plane(large, "velocity") - plane(small, "velocity"))[shown]
    assert difference.abs().median() < 0.03


def test_unmeasured_pixels_never_leak():
    maps = make((40, 40), n=5)
    hidden = torch.rand(maps.velocity.shape, generator=generator(4)) < 0.3
    for value in (torch.nan, torch.inf, -torch.inf):
        holes = replace(maps, velocity=maps.velocity.masked_fill(hidden, value))
        assert finite(prepare(holes))
        for name in ("dispersion", "uncertainty"):
            other = getattr(maps, name).masked_fill(hidden, value)
            assert finite(prepare(replace(maps, **{name: other})))


def test_values_behind_the_mask_do_not_matter():
    maps = make((40, 40), n=5)
    expected = prepare(maps)
    unknown = ~torch.isfinite(maps.velocity)
    for name in ("dispersion", "uncertainty"):
        filled = getattr(maps, name).masked_fill(unknown, 1e6)
        seen = prepare(replace(maps, **{name: filled}))
        assert torch.equal(seen.image, expected.image)
        assert torch.equal(seen.scalars, expected.scalars)


@pytest.mark.parametrize("shown", [0, 1, 2, 3, 5])
def test_nearly_empty_maps_are_finite(shown):
    velocity = torch.full((2, 20, 20), torch.nan)
    velocity[:, 9, 7 : 7 + shown] = 100 * torch.randn(shown, generator=generator())
    dispersion = torch.full_like(velocity, torch.nan)
    prepared = prepare(Maps(velocity, dispersion))
    assert finite(prepared)
    assert (prepared.n_pixels + prepared.n_outliers == shown).all()


@pytest.mark.parametrize("level", [0.0, -300.0])
def test_constant_maps_are_finite(level):
    prepared = prepare(Maps(torch.full((2, 20, 20), level)))
    assert finite(prepared)
    torch.testing.assert_close(prepared.systemic, torch.full((2,), level).double())


def test_maps_are_not_changed():
    maps = make()
    before = {f.name: getattr(maps, f.name).clone() for f in fields(maps)}
    prepare(maps)
    for name, value in before.items():
        torch.testing.assert_close(
            getattr(maps, name), value, rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("absurd", [50_000.0, -50_000.0])
def test_absurd_outliers_are_put_aside(absurd):
    maps = make(n=10)
    seen = torch.isfinite(maps.velocity)
    hit = (torch.rand(seen.shape, generator=generator(3)) < 0.01) & seen
    struck = replace(maps, velocity=maps.velocity.masked_fill(hit, absurd))
    clean, dirty = prepare(maps), prepare(struck)
    assert (clean.n_outliers == 0).all()
    assert torch.equal(dirty.n_outliers, hit.sum((1, 2)))
    assert degrees(dirty.angle, clean.angle).abs().max() < 1
    torch.testing.assert_close(dirty.scale, clean.scale, rtol=0.02, atol=0)
    torch.testing.assert_close(dirty.systemic, clean.systemic, rtol=0, atol=2)
    # Not at all different from maps in which these pixels were never measured.
    blank = prepare(replace(maps, velocity=maps.velocity.masked_fill(hit, torch.nan)))
    torch.testing.assert_close(dirty.scalars, blank.scalars, rtol=0, atol=0.02)
    # Edges are all or nothing: one neighbor may fall on the other side.
    for name in CHANNELS:
        difference = (plane(dirty, name) - plane(blank, name)).abs()
        assert difference.max() < (0.5 if name == "edges" else 0.02)
        assert difference.mean() < 1e-3


def test_a_map_does_not_depend_on_its_batch():
    maps = make(n=7)
    whole = prepare(maps)
    for index in range(7):
        row = slice(index, index + 1)
        one = Maps(*(getattr(maps, f.name)[row] for f in fields(maps)))
        alone = prepare(one)
        torch.testing.assert_close(alone.image, whole.image[row], rtol=0, atol=1e-3)
        torch.testing.assert_close(alone.scalars, whole.scalars[row], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone.angle, whole.angle[row])


def test_threads_change_nothing():
    maps = make(n=150)
    expected = prepare(maps)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = prepare(maps)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for key, value in vars(expected).items():
        torch.testing.assert_close(getattr(shared, key), value, rtol=1e-6, atol=1e-6)


def test_batches_of_one_shape_are_joined():
    maps = make(n=4)
    bare = make(n=3, seed=9, extras=False)
    joined = prepare(maps, bare)
    for part, rows in ((maps, slice(0, 4)), (bare, slice(4, 7))):
        own = prepare(part)
        torch.testing.assert_close(joined.image[rows], own.image, rtol=0, atol=1e-3)
        torch.testing.assert_close(joined.scalars[rows], own.scalars)


def test_windows_leave_nothing_out():
    """Maps that fill a corner of a large array are those of a small one."""
    maps = make((40, 40), n=5)
    wide = {}
    for field in fields(maps):
        value = getattr(maps, field.name)
        if field.name in ("velocity", "dispersion", "uncertainty"):
            padded = torch.full((5, 90, 84), torch.nan)
            padded[:, 44:84, 3:43] = value
            value = padded
        wide[field.name] = value
    wide["center"] = maps.center + torch.tensor([3.0, 44.0])
    one, other = prepare(maps), prepare(Maps(**wide))
    torch.testing.assert_close(other.image, one.image, rtol=0, atol=1e-3)
    torch.testing.assert_close(other.scalars, one.scalars)
    shift = torch.tensor([3.0, 44.0], dtype=torch.float64)
    torch.testing.assert_close(other.center - shift, one.center)
    assert (other.at_edge <= one.at_edge).all()


@pytest.mark.parametrize("name", ["dispersion", "uncertainty", "center", "beam"])
def test_unknown_is_the_same_as_nan(name):
    maps = make()
    none = prepare(replace(maps, **{name: None}))
    nan = prepare(replace(maps, **{name: getattr(maps, name) * torch.nan}))
    assert torch.equal(none.image, nan.image)
    assert torch.equal(none.scalars, nan.scalars)
    known = prepare(maps)
    assert not torch.equal(none.scalars, known.scalars)


def test_scalars_tell_what_is_known():
    full, bare = prepare(make()), prepare(make(extras=False))
    for name in ("has_beam", "has_uncertainty", "has_dispersion"):
        assert (scalar(full, name) == 1).all()
        assert (scalar(bare, name) == 0).all()
    assert (plane(bare, "dispersion") == 0).all()
    across = 2 * full.radius / make().beam
    torch.testing.assert_close(scalar(full, "log_beams_across"), across.log10().float())
    torch.testing.assert_close(
        scalar(full, "log_pixels"), full.n_pixels.double().log10().float()
    )
    noise = 10 ** scalar(full, "log_noise") * full.scale
    assert ((noise > 8) & (noise < 16)).all()
    # Its median difference between neighbors shows the noise without being told.
    assert (
        scalar(prepare(make(noise=30.0)), "log_difference")
        > scalar(full, "log_difference")
    ).all()


def test_bins_count_as_one_measurement():
    maps = make((48, 48), extras=False)
    blocks = maps.velocity[:, 1::4, 1::4]
    binned = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    single, grouped = prepare(maps), prepare(Maps(binned))
    fewer = scalar(single, "log_independent") - scalar(grouped, "log_independent")
    assert ((fewer > 0.5) & (fewer < 1.6)).all()
    shown = plane(grouped, "coverage") > 0.9
    assert plane(grouped, "edges")[shown].mean() < 0.6
    assert plane(single, "edges")[plane(single, "coverage") > 0.9].mean() > 0.8


@pytest.mark.parametrize("cells", [10, 32])
@pytest.mark.parametrize("radius", [4.3, 11.7])
def test_regridding_is_exact_in_area(cells, radius):
    from reproject import reproject_exact

    ny, nx = 27, 31
    center = torch.tensor([[14.3, 12.1]], dtype=torch.float64)
    image = torch.randn(1, ny, nx, generator=generator()).double()
    grid = regrid(image, center, torch.tensor([radius], dtype=torch.float64), cells)
    step = 2 * radius / cells

    def wcs(pixel, x, y):
        result = WCS(naxis=2)
        result.wcs.ctype = "RA---TAN", "DEC--TAN"
        result.wcs.cdelt = -1e-3 * pixel, 1e-3 * pixel
        result.wcs.crpix = x + 1, y + 1
        return result

    expected, _ = reproject_exact(
        (image[0].numpy(), wcs(1.0, 14.3, 12.1)),
        wcs(step, (cells - 1) / 2, (cells - 1) / 2),
        shape_out=(cells, cells),
    )
    # Cells that the image does not cover are their own affair.
    inside = np.abs(np.arange(cells) - (cells - 1) / 2) * step + step / 2 < 12
    chosen = np.ix_(inside, inside)
    np.testing.assert_allclose(
        (grid / step**2).numpy()[chosen], expected[chosen], rtol=0, atol=1e-6
    )


def test_regridding_keeps_constants_and_sums():
    center = torch.tensor([[10.2, 9.7]], dtype=torch.float64)
    radius = torch.tensor([6.3], dtype=torch.float64)
    constant = torch.full((1, 21, 20), 3.5, dtype=torch.float64)
    grid = regrid(constant, center, radius, 16)
    torch.testing.assert_close(
        grid, torch.full_like(grid, 3.5 * (2 * 6.3 / 16) ** 2), rtol=1e-12, atol=0
    )
    # A grid larger than the image holds all of it.
    ramp = torch.arange(420, dtype=torch.float64).reshape(1, 21, 20)
    whole = regrid(ramp, center, torch.tensor([30.0]).double(), 16)
    torch.testing.assert_close(whole.sum(), ramp.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", [0.5, 8.0])
def test_broken_spaxels_of_the_core_are_put_aside(noise):
    maps = make(noise=noise, extras=False)
    maps.center = torch.tensor([[23.5, 23.5]]).repeat(len(maps.velocity), 1)
    whole = prepare(maps)
    assert (whole.n_outliers == 0).all()
    broken = Maps(maps.velocity.clone(), center=maps.center)
    places = [(22, 23), (24, 25), (23, 21), (25, 22)]
    for y, x in places:
        broken.velocity[:, y, x] += 350
    found = prepare(broken)
    assert (found.n_outliers == len(places)).all()
    turn = torch.remainder(found.angle - whole.angle + 180, 360) - 180
    assert turn.abs().max() < 0.5
    kept = replace(
        INPUT,
        parameters={k: v for k, v in INPUT.parameters.items() if k != "core_limit"},
    )
    assert (prepare(broken, spec=kept).n_outliers == 0).all()


def test_steep_rotation_is_not_broken():
    """Velocities that jump from one side of the center to the other."""
    y, x = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    radius = torch.hypot(x - 20, y - 20)
    velocity = torch.where(radius > 0, 200 * (y - 20) / radius.clamp_min(0.1), 0.0)
    fast = velocity * torch.where(radius < 4, 2.0, 1.0)
    maps = Maps(torch.where(radius < 18, torch.stack([velocity, fast]), torch.nan))
    assert (prepare(maps).n_outliers == 0).all()
