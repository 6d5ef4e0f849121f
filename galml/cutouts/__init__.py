# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies, cut out, matched and put on one grid."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["matching", "plots", "psf"],
    submod_attrs={
        "colors": ["lupton_rgb", "sdss_rgb"],
        "detection": ["detect", "measure"],
        "extract": ["extract_cutouts", "iter_cutouts"],
        "scaling": [
            "asinh_magnitudes",
            "asinh_stretch",
            "linear_stretch",
            "to_flux",
        ],
        "stack": ["CutoutStack"],
        "targets": ["R_EFF"],
    },
)
