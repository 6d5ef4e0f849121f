# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies: from objects and stacks of cutouts to what networks see."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        "aligned",
        "color_pictures",
        "domain",
        "features",
        "orientation",
        "plots",
        "reading",
        "rgb",
        "stamps",
        "stretch",
    ],
    submod_attrs={
        "reading": ["GalaxyImages", "find_problems", "read_images"],
        "stamps": ["DIHEDRAL", "MIRRORS", "Grid", "Stamps", "regrid"],
    },
)
