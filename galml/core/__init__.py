# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all operations share: inputs, results, models, inference and training."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["metrics"],
    submod_attrs={
        "exceptions": [
            "FileError",
            "GalmlError",
            "GalmlWarning",
            "InputError",
            "InputTypeError",
            "InputUnitError",
            "MissingFileError",
            "ModelError",
            "RunError",
            "WeightsError",
        ],
        "flags": ["DESCRIPTIONS", "Flag", "decode_flags"],
        "model": ["GalaxyModel", "InputSpec"],
        "results": ["to_votable"],
    },
)
