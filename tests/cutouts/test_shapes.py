# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest

from galml.core import Flag
from galml.cutouts.shapes import measure


@pytest.mark.parametrize("size", [1e306, 1e308, 1.7e308])
def test_huge_values_end(size):
    """Sums that overflow are no numbers, and no climb among them has an end."""
    values = np.random.default_rng(1).choice([-size, size], (40, 40))
    found = measure(values)
    assert found["flags"] & Flag.FAILED
    assert math.isnan(found["flux"])


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e100])
def test_scale_does_not_matter(size):
    y, x = np.indices((40, 40)) - 19.5
    values = np.exp(-np.hypot(x, y) / 4)
    values += np.random.default_rng(0).normal(0, 0.005, x.shape)
    one, other = measure(values), measure(values * size)
    assert other["r_eff"] == pytest.approx(one["r_eff"], rel=1e-6)
    assert other["flux"] == pytest.approx(one["flux"] * size, rel=1e-6)


def test_huge_and_tiny_numbers():
    """Sums of them would be no numbers, or none but zero."""
    y, x = np.indices((60, 60)) - 29.5
    noise = np.random.default_rng(0).normal(size=x.shape)
    image = np.ldexp(100 * np.exp(-np.hypot(x, y) / 4) + noise, -7)
    expected = measure(image)
    for exponent in (1010, 500, -500, -1000):
        row = measure(np.ldexp(image, exponent))
        flux, flux_err = (row.pop(name) for name in ("flux", "flux_err"))
        assert flux == np.ldexp(expected["flux"], exponent)
        assert flux_err == np.ldexp(expected["flux_err"], exponent)
        assert row.items() <= expected.items()
    for values in ([1e308, -1e308], [1e308, 1e-308], [1.7e308, 1.7e308]):
        row = measure(np.resize(values, x.shape).T)
        assert row["flags"] & Flag.FAILED or np.isfinite(row["r_eff"])
