# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How ordered a gas velocity field is, and its kinematic position angle."""

import importlib

__all__ = ["Moments", "circularity", "fit", "moments"]

_HOMES = {
    "Moments": "moment_maps",
    "circularity": "operation",
    "fit": "fitting",
    "moments": "moment_maps",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
