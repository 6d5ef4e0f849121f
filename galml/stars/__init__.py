# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars of galaxies, drawn from conditional flows."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["metrics", "plots"],
    submod_attrs={
        "files": ["write_stars"],
        "fitting": ["combine", "fit"],
        "operation": ["iter_stars", "sample_stars", "star_log_prob"],
        "particles": ["prepare"],
        "sky": ["to_galactocentric", "to_skycoord"],
    },
)
