# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch

from galml.core.distributions import interpolate
from galml.gas_kinematics.fitting import NEUTRAL, calibrate, evaluate
from galml.gas_kinematics.network import KinematicNet
from galml.gas_kinematics.posterior import posterior
from galml.gas_kinematics.preparation import INPUT

CHANNELS, SCALARS = INPUT.channels, INPUT.scalars
COUNT = 4000
#: How much too narrow the distributions are.
KAPPA, ANGLE = 1.6, 1.4


def overconfident(count=COUNT, seed=0):
    """Outputs of a network that is too sure of itself, and the truth."""
    rng = np.random.default_rng(seed)
    guess = rng.uniform(0.3, 0.7, count)
    width = rng.choice([0.04, 0.06], count)
    centers = np.sin(np.pi / 2 * (np.arange(48) + 0.5) / 48) ** 2
    even = np.zeros((count, 6))
    sigma = rng.choice([0.13, 0.25], count)
    even[:, 1] = np.log(sigma**-2.0) - 1.5
    even[:, 3:6] = [-20, 20, -20]
    scalars = np.zeros((count, len(SCALARS)))
    scalars[:, SCALARS.index("log_unexplained")] = -0.3 / sigma
    scalars[:, SCALARS.index("log_independent")] = rng.uniform(1, 4, count)
    outputs = {
        "kappa": -0.5 * ((centers - guess[:, None]) / width[:, None]) ** 2,
        "inclination": rng.normal(size=(count, 18)),
        "angle_even": even,
        "angle_odd": np.zeros((count, 1)),
        "scalars": scalars,
    }
    truth = {
        "kappa": guess + KAPPA * width * rng.normal(size=count),
        "residual_angle": ANGLE * sigma * rng.normal(size=count),
        "inclination": np.full(count, np.nan),
    }
    return tuple(
        {key: torch.tensor(value, dtype=torch.float32) for key, value in part.items()}
        for part in (outputs, truth)
    )


def coverage(result, truth):
    low, _, high = result["kappa_quantiles"].T
    kappa = ((truth["kappa"] >= low) & (truth["kappa"] <= high)).float()
    error = (torch.rad2deg(truth["residual_angle"]) - result["turn"]).abs()
    return kappa.mean(), (error <= result["turn_error"]).float().mean()


@pytest.fixture(scope="module")
def calibration():
    return calibrate(*overconfident())


def test_coverage_is_restored(calibration):
    outputs, truth = overconfident()
    before = coverage(posterior(outputs, NEUTRAL, INPUT), truth)
    assert before[0] < 0.55 and before[1] < 0.6
    for name, factor in (("kappa", KAPPA), ("angle", ANGLE)):
        predictors = posterior(outputs, NEUTRAL, INPUT)[f"{name}_predictors"]
        found = interpolate(calibration[name], predictors)
        assert found.mean() == pytest.approx(factor, rel=0.08)
        assert found.std() < 0.15 * factor
    unseen, other = overconfident(seed=1)
    result = posterior(unseen, calibration, INPUT)
    for share in coverage(result, other):
        assert share == pytest.approx(0.69, abs=0.025)
    sure = unseen["angle_even"][:, 1] > unseen["angle_even"][:, 1].mean()
    error = (torch.rad2deg(other["residual_angle"]) - result["turn"]).abs()
    for half in (sure, ~sure):
        inside = (error <= result["turn_error"])[half].float().mean()
        assert inside == pytest.approx(0.683, abs=0.03)


def test_quality_is_a_probability(calibration):
    unseen, other = overconfident(seed=1)
    result = posterior(unseen, calibration, INPUT)
    near = (result["kappa_quantiles"][:, 1] - other["kappa"]).abs() < 0.15
    error = (torch.rad2deg(other["residual_angle"]) - result["turn"]).abs()
    right = (near & (error < 10)).float()
    quality = result["quality"]
    assert ((quality >= 0) & (quality <= 1)).all()
    assert quality.std() > 0.05
    for part in torch.argsort(quality).chunk(3):
        assert quality[part].mean() == pytest.approx(right[part].mean(), abs=0.05)


def test_unknown_truths_leave_that_part_alone():
    outputs, truth = overconfident(600)
    everything = calibrate(outputs, truth)
    unknown = torch.full_like(truth["kappa"], math.nan)
    calibration = calibrate(outputs, truth | {"residual_angle": unknown})
    assert calibration == {**NEUTRAL, "kappa": everything["kappa"]}
    calibration = calibrate(outputs, truth | {"kappa": unknown})
    assert calibration == {**NEUTRAL, "angle": everything["angle"]}
    assert calibrate(outputs, {k: unknown for k in truth}) == NEUTRAL


@pytest.mark.parametrize("count", [1, 3, 12])
def test_few_maps(count):
    outputs, truth = overconfident(count)
    calibration = calibrate(outputs, truth)
    result = posterior(outputs, calibration, INPUT)
    assert all(torch.isfinite(value).all() for value in result.values())
    assert np.all(np.abs(calibration["quality"]) < 100)


def test_evaluate_is_what_the_operation_does():
    generator = torch.Generator().manual_seed(1)
    data = {
        "image": torch.randn(7, len(CHANNELS), 32, 32, generator=generator).half(),
        "scalars": torch.randn(7, len(SCALARS), generator=generator),
        "kappa": torch.rand(7),
    }
    network = KinematicNet(widths=(4, 6, 8, 10)).eval()
    outputs = evaluate(network, data)
    image = data["image"].float()
    behind = image.flip(-2)
    behind[:, 0] *= -1
    with torch.no_grad():
        views = [
            network({"image": i, "scalars": data["scalars"]})
            for i in (image, image.flip(-1), behind, behind.flip(-1))
        ]
    for key, signs in (
        ("kappa", (1, 1, 1, 1)),
        ("angle_odd", (1, -1, -1, 1)),
        ("latent", (1, 1, 1, 1)),
    ):
        expected = sum(s * v[key] for s, v in zip(signs, views, strict=True)) / 4
        torch.testing.assert_close(outputs[key], expected, rtol=1e-5, atol=1e-5)
