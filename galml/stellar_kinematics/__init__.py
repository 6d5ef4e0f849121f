# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stellar spin, measured on maps of the stars' motions."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={"operation": ["lambda_r"], "seeing": ["correct_seeing"]},
)
