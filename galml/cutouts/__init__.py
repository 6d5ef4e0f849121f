# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of galaxies, cut out, matched and put on one grid."""

import importlib

_HOMES = {
    "CutoutStack": "stack",
    "R_EFF": "targets",
    "asinh_magnitudes": "scaling",
    "asinh_stretch": "scaling",
    "detect": "detection",
    "extract_cutouts": "extract",
    "iter_cutouts": "extract",
    "linear_stretch": "scaling",
    "lupton_rgb": "colors",
    "measure": "detection",
    "sdss_rgb": "colors",
    "to_flux": "scaling",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
