# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How ordered a gas velocity field is, and its kinematic position angle."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["metrics", "plots", "published"],
    submod_attrs={
        "fitting": ["fit"],
        "moment_maps": ["Moments", "moments"],
        "operation": ["circularity"],
    },
)
