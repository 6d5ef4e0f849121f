# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deep learning on galaxies: Astropy objects in, tables with units and errors out.

The operations are imported on first use, so that ``import galml`` alone costs next
to nothing.
"""

from importlib import import_module

_FUNCTIONS = {
    "circularity": "galml.gas_kinematics.operation",
    "extract_cutouts": "galml.cutouts.extract",
    "import_weights": "galml.core.weights",
    "lambda_r": "galml.stellar_spin.measured",
    "list_models": "galml.core.weights",
    "load_model": "galml.core.weights",
    "sample_stars": "galml.stars.operation",
    "spin": "galml.stellar_spin.operation",
    "star_log_prob": "galml.stars.operation",
}
_SUBPACKAGES = {"core", "cutouts", "gas_kinematics", "mocks", "stars", "stellar_spin"}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name):
    if name in _FUNCTIONS:
        value = getattr(import_module(_FUNCTIONS[name]), name)
    elif name in _SUBPACKAGES:
        value = import_module(f"galml.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'galml' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_FUNCTIONS, *_SUBPACKAGES, "__version__"})


def _version():
    from importlib import metadata

    try:
        return metadata.version("galml")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
