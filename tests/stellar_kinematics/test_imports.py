# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys

CODE = """
import sys
import numpy as np
import galml
import galml.stellar_kinematics

assert galml.stellar_kinematics.correct_seeing
y, x = np.indices((21, 21)) - 10.0
maps = np.exp(-np.hypot(x, y) / 4), 90 * np.tanh(x), np.full(x.shape, 60.0)
galml.lambda_r(*maps, unit="km/s")
print(*sys.modules)
"""


def test_measuring_loads_no_networks_of_spin_and_no_mocks():
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    packages = ("stellar_spin", "mocks", "gas_kinematics", "stars", "cutouts")
    others = tuple(f"galml.{name}" for name in packages)
    assert not [name for name in result.stdout.split() if name.startswith(others)]
