# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The flows by name."""

from galml.stars.coupling import StarFlow
from galml.stars.ensemble import Ensemble
from galml.stars.flow import Flow
from galml.stars.mixture import MixtureFlow
from galml.stars.published import MAF, NICE, NSF, SOSPF, GalacticFlow

__all__ = ["ARCHITECTURES", "Ensemble", "Flow", "MixtureFlow", "StarFlow"]

#: Every architecture of the operation ``stars``: subclasses of `Flow`.
ARCHITECTURES = {
    "coupling": StarFlow,
    "ensemble": Ensemble,
    "galacticflow": GalacticFlow,
    "maf": MAF,
    "mixture": MixtureFlow,
    "nice": NICE,
    "nsf": NSF,
    "sospf": SOSPF,
}
