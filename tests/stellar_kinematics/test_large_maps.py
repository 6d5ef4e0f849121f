# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty

from galml.stellar_kinematics import lambda_r, spaxels

KMS = u.km / u.s


@pytest.mark.parametrize("strip", [1000, 10**6])
def test_pixels_of_large_maps_are_put_together(monkeypatch, strip):
    y, x = np.indices((150, 170)) - 74.5
    radius = np.hypot(x, y)
    values = 120 * np.tanh(radius / 20) * y / np.maximum(radius, 1)
    values[radius > 70] = np.nan
    error = StdDevUncertainty(np.full(x.shape, 5.0))
    maps = {
        "velocity": CCDData(values, unit=KMS, uncertainty=error),
        "dispersion": CCDData(np.full(x.shape, 40.0), unit=KMS, uncertainty=error),
    }
    light = np.exp(-radius / 25)
    options = {"r_eff": 40 * u.pix, "n_samples": 200, "seed": 1}
    one = lambda_r(light, **maps, **options)
    monkeypatch.setattr(spaxels, "MOST_SPAXELS", 3000)
    monkeypatch.setattr(spaxels, "STRIP", strip)
    other = lambda_r(light, **maps, **options)
    for name in ("lambda_r", "v_over_sigma", "ellipticity"):
        assert other[name][0] == pytest.approx(one[name][0], rel=1e-2)
    assert other["coverage"][0] == pytest.approx(one["coverage"][0], abs=0.05)
    assert other["lambda_r_err"][0] == pytest.approx(one["lambda_r_err"][0], rel=0.5)
    assert other["flags"][0] == one["flags"][0]
