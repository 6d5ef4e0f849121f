# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Catalogs larger than memory, or than one machine."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "dataset": ["failures", "read"],
        "running": ["run"],
        "tiles": ["index"],
    },
)
