# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Thin, smooth disks of isotropic dispersion, which no training has seen.

What rotates is exponential; a row has ``speed``, ``dispersion`` (km/s), ``turnover``
and ``length`` (pixels).
"""

import numpy as np

from galml.gas_kinematics.metrics import coverage, scatter68

#: Ranges in km/s.
SPEEDS, DISPERSIONS = (50, 300), (5, 120)


def rotation(radius, disk):
    """Rotation in km/s."""
    return disk["speed"] * 2 / np.pi * np.arctan(radius / disk["turnover"])


def circularity(disk, shown):
    """Circularity of what a map shows, and its dispersion over its rotation.

    Parameters
    ----------
    disk : row
        Of a table.
    shown : `~numpy.ndarray`
        bool, shape (n, n): the pixels of the map, with the disk in its middle. What
        lies inside the radius to which it is seen along the major axis counts.
    """
    y, x = np.indices(shown.shape) - (len(shown) - 1) / 2
    radius = np.linspace(0, len(shown), 400)
    radius = radius[radius <= np.quantile(np.hypot(x, y)[shown], 0.98) + 0.5]
    weight = radius * np.exp(-radius / disk["length"])
    ordered = (weight * rotation(radius, disk) ** 2).sum()
    random = (weight * disk["dispersion"] ** 2).sum()
    return (ordered + random) / (ordered + 3 * random), np.sqrt(random / ordered)


def judge(result, kappa):
    """Figures of circularities, against those of what the maps show."""
    error = result["circularity"] - kappa
    return {
        "count": len(error),
        "circularity_bias": float(np.median(error)),
        "circularity_scatter": scatter68(error),
        "circularity_err": float(np.median(result["circularity_err"])),
        "circularity_coverage": coverage(
            kappa, result["circularity_lo"], result["circularity_hi"]
        ),
    }
