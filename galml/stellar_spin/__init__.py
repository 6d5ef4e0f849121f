# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stellar spin, predicted from images."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["metrics", "mock_data", "plots", "published"],
    submod_attrs={"fitting": ["fit"], "operation": ["spin"]},
)
