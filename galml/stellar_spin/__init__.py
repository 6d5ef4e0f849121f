# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stellar spin, predicted from images."""

import importlib

__all__ = ["fit", "spin"]

_HOMES = {
    "fit": "fitting",
    "spin": "operation",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
