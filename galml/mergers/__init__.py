# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies that have merged, from images of one band."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["metrics", "mock_data", "plots", "published"],
    submod_attrs={
        "fitting": ["fit"],
        "fractions": ["fraction"],
        "operation": ["contamination", "merger"],
        "posterior": ["STAGES"],
    },
)
