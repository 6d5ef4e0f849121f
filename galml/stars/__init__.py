# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stars of galaxies, drawn from conditional flows."""

import importlib

__all__ = [
    "fit",
    "iter_stars",
    "prepare",
    "sample_stars",
    "star_log_prob",
    "to_galactocentric",
    "to_skycoord",
    "write_stars",
]

_HOMES = {
    "fit": "fitting",
    "iter_stars": "operation",
    "prepare": "preparation",
    "sample_stars": "operation",
    "star_log_prob": "operation",
    "to_galactocentric": "sky",
    "to_skycoord": "sky",
    "write_stars": "files",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
