# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from galml.physics.kinematics import lambda_sums

FLUX = np.array([3.0, 1.0, 2.0, 5.0])
VELOCITY = np.array([-30.0, 40.0, 0.0, 12.0])
DISPERSION = np.array([40.0, 30.0, 10.0, 5.0])
RADIUS = np.array([1.0, 2.0, 0.5, 3.0])
INSIDE = np.full(4, True)


def sums(*arrays, inside=INSIDE, axes=-1):
    return lambda_sums(*arrays, inside, axes)


def test_sums_by_hand():
    spin, ordered = sums(FLUX, VELOCITY, DISPERSION, RADIUS)
    # Speeds are 50, 50, 10 and 13.
    assert spin == pytest.approx(
        (90 + 80 + 0 + 180) / (150 + 100 + 10 + 195), rel=1e-14
    )
    rotation = 3 * 900 + 1600 + 0 + 5 * 144
    pressure = 3 * 1600 + 900 + 2 * 100 + 5 * 25
    assert ordered == pytest.approx(np.sqrt(rotation / pressure), rel=1e-14)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_nothing_outside_counts(place, kind):
    dirty = [kind(a.copy()) for a in (FLUX, VELOCITY, DISPERSION, RADIUS)]
    dirty[place][3] = np.nan
    clean = [a[:3] for a in (FLUX, VELOCITY, DISPERSION, RADIUS)]
    inside = kind(np.array([True, True, True, False]))
    expected = sums(*clean, inside=INSIDE[:3])
    np.testing.assert_allclose(sums(*dirty, inside=inside), expected, rtol=1e-14)


def test_torch_and_numpy_agree_in_batches():
    random = np.random.default_rng(1)
    shape = (5, 7, 6)
    flux, dispersion = random.uniform(1, 2, (2, *shape))
    velocity = random.normal(0, 1, shape)
    radius = random.uniform(0, 3, shape[1:])
    inside = random.random(shape) < 0.7
    arrays = (flux, velocity, dispersion, radius, inside)
    expected = lambda_sums(*arrays, (-2, -1))
    got = lambda_sums(*map(torch.from_numpy, arrays), (1, 2))
    assert got[0].shape == (5,)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    alone = lambda_sums(
        *(a[3] for a in (flux, velocity, dispersion)), radius, inside[3]
    )
    np.testing.assert_allclose(alone, [values[3] for values in expected], rtol=1e-13)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_limits(kind):
    flux, velocity, dispersion, radius = map(kind, (FLUX, VELOCITY, DISPERSION, RADIUS))
    inside = kind(INSIDE)
    cold = lambda_sums(flux, velocity, 0 * dispersion, radius, inside, -1)
    assert float(cold[0]) == 1 and float(cold[1]) == np.inf
    still = lambda_sums(flux, 0 * velocity, dispersion, radius, inside, -1)
    assert float(still[0]) == 0 and float(still[1]) == 0
    for empty in (
        lambda_sums(flux, velocity, dispersion, radius, ~inside, -1),
        lambda_sums(flux, 0 * velocity, 0 * dispersion, radius, inside, -1),
    ):
        assert np.isnan([float(value) for value in empty]).all()


def test_importing_it_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, galml.physics.kinematics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
