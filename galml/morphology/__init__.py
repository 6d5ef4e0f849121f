# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What galaxies look like: latents, and what follows from them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["plots", "preparation", "published"],
    submod_attrs={
        "encoders": ["from_encoder"],
        "fitting": ["fit"],
        "operation": ["latents", "reconstruct"],
    },
)
