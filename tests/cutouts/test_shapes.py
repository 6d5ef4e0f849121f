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
