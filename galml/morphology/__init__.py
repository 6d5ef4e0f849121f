# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What galaxies look like: latents, and what follows from them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["explorer", "metrics", "plots", "preparation", "published"],
    submod_attrs={
        "classification": ["classify", "votes_to_classes"],
        "encoders": ["from_encoder"],
        "explorer": ["explore"],
        "fitting": ["fit"],
        "operation": ["latents", "reconstruct"],
        "outlier_scores": ["outliers"],
        "projection": ["project"],
        "similarity": ["similar"],
        "surveys": ["match_surveys", "pair_distances"],
    },
)
