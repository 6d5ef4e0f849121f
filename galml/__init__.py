# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deep learning on galaxies: Astropy objects in, tables with units and errors out.

The operations are imported on first use, so that ``import galml`` alone costs next
to nothing.
"""

import lazy_loader as lazy

from galml.registry import MODELS, OPERATIONS

_functions = {}
for _place in [row.function for row in OPERATIONS if row.public] + list(MODELS):
    _module, _, _name = _place.removeprefix("galml.").partition(":")
    _functions.setdefault(_module, []).append(_name)

_attach, __dir__, _ = lazy.attach(
    __name__,
    submodules=[
        "catalogs",
        "core",
        "cutouts",
        "gas_kinematics",
        "imaging",
        "mergers",
        "mocks",
        "morphology",
        "physics",
        "stars",
        "stellar_kinematics",
        "stellar_spin",
    ],
    submod_attrs=_functions,
)
__all__ = sorted(name for names in _functions.values() for name in names)


def __getattr__(name):
    if name == "__version__":
        globals()[name] = value = _version()
        return value
    if name in ("__citation__", "__bibtex__"):
        return _attach("citation")()
    return _attach(name)


def _version():
    from importlib import metadata

    try:
        return metadata.version("galml")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
