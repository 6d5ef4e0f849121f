# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all operations share: inputs, results, models, inference and training."""

from galml.core.exceptions import (
    GalmlError,
    GalmlWarning,
    InputError,
    InputTypeError,
    InputUnitError,
    ModelError,
    WeightsError,
)
from galml.core.flags import DESCRIPTIONS, Flag, decode_flags

__all__ = [
    "DESCRIPTIONS",
    "Flag",
    "GalmlError",
    "GalmlWarning",
    "InputError",
    "InputTypeError",
    "InputUnitError",
    "ModelError",
    "WeightsError",
    "decode_flags",
]
