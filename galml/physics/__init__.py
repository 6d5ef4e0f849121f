# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Physical facts and small computations that several parts of galml share.

This package imports nothing of galml.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "bands": [
            "AB_ZERO",
            "PIVOT_WAVELENGTHS",
            "SOLAR_MAGNITUDES",
            "band_name",
            "nearest_band",
            "pivot_wavelengths",
        ],
        "fields": ["field_name"],
        "kinematics": ["FAST_ROTATOR", "lambda_sums"],
        "seeds": ["fresh_seed", "generator_for", "stable_seed"],
        "stars": [
            "AGE_OF_UNIVERSE",
            "CONDITIONS",
            "OPTIONAL_CONDITIONS",
            "SOLAR_METALLICITY",
            "STAR_AXES",
            "star_table",
            "weighted_percentile",
        ],
    },
)
