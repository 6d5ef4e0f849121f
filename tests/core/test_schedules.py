# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest

from galml.core.training import plateau


def test_plateau_has_a_floor():
    losses = [1.0, 0.5, *[0.49995] * 40]
    assert plateau(1e-3, losses[:6]) == 1e-3
    assert plateau(1e-3, losses[:7]) == pytest.approx(2e-4)
    assert plateau(1e-3, losses) == 1e-5
