# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The published checkpoints of GalacticForge."""

import io
import os

import torch

from galml.core.exceptions import WeightsError
from galml.core.model import GalaxyModel
from galml.stars.columns import AXES
from galml.stars.conditions import CONDITIONS
from galml.stars.network import ARCHITECTURES

__all__ = ["import_maf", "import_nice"]

#: Latents of the image of a galaxy that the published flows take.
LATENTS = 16
#: Where zuko keeps mean and spread of the normal numbers: then, and now.
RENAMED = {"base._0": "base.loc", "base._1": "base.scale"}


def import_maf(path):
    """
    Read the published masked autoregressive flow.

    The scaling of its stars and conditions was never published: stars and densities
    are in standardized units.

    Parameters
    ----------
    path : str or path-like
        The published file ``maf_checkpoint.pth``.

    Returns
    -------
    galml.core.model.GalaxyModel
        Model of the operation ``stars``, architecture ``maf``.

    Raises
    ------
    galml.core.WeightsError
        If the file cannot be read as tensors alone, or holds another network.
    OSError
        If there is no file to open.
    """
    return _import(path, "maf")


def import_nice(path):
    """
    Read the published affine coupling flow (NICE).

    Parameters
    ----------
    path : str or path-like
        The published file ``nice_checkpoint.pth``.

    Returns
    -------
    galml.core.model.GalaxyModel
        Model of the operation ``stars``, architecture ``nice``; see `import_maf`.

    Raises
    ------
    galml.core.WeightsError, OSError
        As in `import_maf`.
    """
    return _import(path, "nice")


def _import(path, architecture):
    """Read a checkpoint into a flow of this architecture."""
    path = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read()
    options = {
        "features": len(AXES),
        "context": len(CONDITIONS),
        "latent": LATENTS,
        "flag": False,
    }
    with torch.random.fork_rng(devices=()):  # initial weights are random
        network = ARCHITECTURES[architecture](**options)
    try:
        checkpoint = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        tensors = checkpoint["model_state_dict"]
        network.flow.load_state_dict({RENAMED.get(k, k): v for k, v in tensors.items()})
        trained = {
            "epochs": checkpoint["epoch"] + 1,
            "training_loss": checkpoint["train_loss"],
        }
    # Damaged bytes can raise anything inside the unpickler.
    except Exception as error:
        raise WeightsError(
            f"{path}: not the published {architecture} flow, or damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise WeightsError(f"{path}: holds weights that are not finite")
    return GalaxyModel(
        network,
        operation="stars",
        architecture=architecture,
        options=options,
        config={
            "standardized": True,
            "axes": [{"name": n, "unit": "", "kind": "linear"} for n in AXES],
            # Standardized conditions beyond this are beyond any of 80 galaxies.
            "conditions": [{"name": n, "lo": -3.0, "hi": 3.0} for n in CONDITIONS],
        },
        card={
            "title": f"GalacticForge, the published {architecture.upper()} flow",
            "paper": "GalacticForge (2024), after Wolf & Buck 2023, arXiv:2312.05960",
            "date": "2024",
            "training": "stars of about 80 NIHAO zoom simulations",
            "figures": trained,
            "limits": (
                "the scaling was never published: stars, conditions and densities are "
                "in standardized units"
            ),
        },
        name=f"galacticforge-{architecture}",
    )
