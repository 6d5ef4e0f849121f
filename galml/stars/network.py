# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The flows by name."""

from galml.stars.coupling import StarFlow
from galml.stars.flow import Flow
from galml.stars.published import MAF, NICE, NSF, SOSPF, GalacticFlow

__all__ = ["ARCHITECTURES", "Flow", "StarFlow"]

#: Every architecture of the operation ``stars``: subclasses of `Flow`.
ARCHITECTURES = {
    "coupling": StarFlow,
    "galacticflow": GalacticFlow,
    "maf": MAF,
    "nice": NICE,
    "nsf": NSF,
    "sospf": SOSPF,
}
