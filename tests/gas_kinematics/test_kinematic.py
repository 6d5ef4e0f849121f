# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData, StdDevUncertainty

import galml
from galml.core import Flag, decode_flags
from galml.core.domain import find_domain
from galml.core.running import run
from galml.core.weights import load_model
from galml.gas_kinematics import kinematic
from galml.mocks import gas_maps

KMS = u.km / u.s


@pytest.fixture(scope="module")
def disk():
    """Clean disk of 40 pixels, receding side up; blank at the border."""
    y, x = np.mgrid[:40, :40] - 19.5
    radius = np.hypot(x / 0.7, y)
    return np.where(
        radius < 17, 150 * np.tanh(radius / 4) * y / (radius + 1e-9), np.nan
    )


def flags(data, **options):
    options = {"center": (19.5, 19.5), "beam": 3 * u.pix} | options
    return set(decode_flags(int(galml.circularity(data, **options)["flags"][0])))


def with_error(values, error):
    return CCDData(values, StdDevUncertainty(np.full(values.shape, error)), unit=KMS)


def test_clean_disk_has_no_complaints(disk):
    data = with_error(np.nan_to_num(disk), 2.0)
    data.mask = np.isnan(disk)
    assert flags(data) - {"prior_dominated"} == {"no_wcs"}
    calm = np.full(disk.shape, 20.0) * KMS
    assert flags(data, dispersion=calm) == {"no_wcs"}


def test_what_is_not_given_is_noted_but_not_out_of_domain(disk):
    assert flags(disk * KMS, center=None, beam=None) - {"prior_dominated"} == {
        "no_wcs", "nonfinite", "no_uncertainty", "center_assumed"
    }  # fmt: skip


def test_answers_of_the_population_alone_are_flagged(disk):
    """Velocities alone do not tell how hot a disk is; with dispersions they do."""
    calm = galml.circularity(disk * KMS, dispersion=0 * disk * KMS + 15 * KMS)
    maps = gas_maps(1, batch_size=64, seed=5, noisy=True)
    _, mocks = next(maps)
    many = galml.circularity(mocks.velocity.numpy() * KMS)
    for table in (calm, many):
        flagged = (table["flags"] & int(Flag.PRIOR_DOMINATED)) != 0
        wide = table["circularity_err"] > kinematic.PRIOR_WIDTH
        np.testing.assert_array_equal(flagged, wide)
    assert not (calm["flags"] & int(Flag.PRIOR_DOMINATED)).any()
    assert 0 < flagged.sum() < len(many)


def test_outliers(disk):
    disk = disk.copy()
    disk[12, 20] = 5e4
    assert "outliers" in flags(with_error(disk, 2.0))


def test_one_outlier_changes_little(disk):
    plain = galml.circularity(disk * KMS)[0]
    disk = disk.copy()
    disk[12, 20] = 5e4
    row = galml.circularity(disk * KMS)[0]
    assert row["circularity"] == pytest.approx(plain["circularity"], abs=0.05)
    turn = (row["position_angle"] - plain["position_angle"]).to_value(u.deg)
    assert abs((turn + 180) % 360 - 180) < 1


def test_nonfinite(disk):
    data = CCDData(np.nan_to_num(disk, nan=np.inf), unit=KMS)
    assert "nonfinite" in flags(data)
    masked = CCDData(disk, unit=KMS, mask=np.isnan(disk))
    assert "nonfinite" not in flags(masked)


def test_truncated(disk):
    window = disk[10:30, 10:30]
    assert np.isfinite(window).all()
    assert "truncated" in flags(with_error(window, 2.0), center=(9.5, 9.5))


def test_few_pixels_and_resampled(disk):
    small = np.full((12, 12), np.nan)
    small[4:8, 4:8] = disk[16:24:2, 16:24:2]
    found = flags(with_error(small, 2.0), center=(5.5, 5.5))
    assert {"few_pixels", "resampled"} <= found


def test_noise_has_no_position_angle(disk):
    rng = np.random.default_rng(0)
    noise = np.where(np.isfinite(disk), rng.normal(0, 20, disk.shape), np.nan)
    found = flags(with_error(noise, 20.0))
    assert {"pa_undetermined", "low_snr"} <= found
    row = galml.circularity(with_error(noise, 20.0))[0]
    assert row["position_angle_err"] > 45 * u.deg
    assert row["map_quality"] < 0.2


def test_out_of_domain(disk):
    assert "out_of_domain" in flags(with_error(disk * 1e4, 2.0))


def test_an_inclination_that_nobody_can_tell_is_nan(mocks):
    table = galml.circularity(mocks.velocity.double().numpy() * KMS)
    unknown = np.isnan(table["inclination"])
    np.testing.assert_array_equal(unknown, np.isnan(table["inclination_err"]))
    limit = kinematic.INCLINATION_LIMIT * u.deg
    assert (table["inclination_err"][~unknown] <= limit).all()
    assert unknown.any()


def test_maps_of_several_shapes_keep_their_order(mocks):
    planes = mocks.velocity[:6].double().numpy()
    cuts = [planes[i][: 20 - (i % 3)] * KMS for i in range(6)]
    dispersion = mocks.dispersion[:6].double().numpy()
    cuts[1] = CCDData(
        planes[1][:19], StdDevUncertainty(np.full((19, 20), 3.0)), unit=KMS
    )
    domain = find_domain(load_model("default", "circularity"))
    members = list(domain.read(cuts).members)
    members[4].dispersion = dispersion[4:5, :19]
    together = domain.prepare(members)
    for row, member in enumerate(members):
        alone = domain.prepare([member])
        for key, value in vars(alone).items():
            torch.testing.assert_close(
                getattr(together, key)[row], value[0], rtol=1e-5, atol=1e-5
            )


def test_every_column_is_known_beforehand():
    domain = find_domain(load_model("default", "circularity"))
    names = list(domain.columns(0))
    assert names == list(kinematic.COLUMNS)
    assert list(domain.columns(5)) == [
        *names, "circularity_samples", "position_angle_samples"
    ]  # fmt: skip


def test_views_are_inverse():
    image = torch.rand(2, 5, 4, 4)
    outputs = {"angle_odd": torch.rand(2, 1), "kappa": torch.rand(2, 3)}
    assert kinematic.VIEWS[0].apply({"image": image})["image"] is image
    for view, sign in zip(kinematic.VIEWS, (1, -1, -1, 1), strict=True):
        twice = view.apply(view.apply({"image": image}))["image"]
        torch.testing.assert_close(twice, image, rtol=0, atol=0)
        restored = view.restore(outputs)
        torch.testing.assert_close(restored["angle_odd"], sign * outputs["angle_odd"])
        assert restored["kappa"] is outputs["kappa"]
    behind = kinematic.VIEWS[2].apply({"image": image})["image"]
    torch.testing.assert_close(behind[:, 0], -image[:, 0].flip(-2), rtol=0, atol=0)
    torch.testing.assert_close(behind[:, 1:], image[:, 1:].flip(-2), rtol=0, atol=0)


def test_a_domain_keeps_nothing_of_what_it_saw(disk):
    domain = find_domain(load_model("default", "circularity"))
    before = dict(vars(domain))
    assert len(run(domain, disk * KMS, {})) == 1 and vars(domain) == before
